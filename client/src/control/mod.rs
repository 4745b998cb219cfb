//! The local control surface: how the command line talks to a running daemon.
//!
//! A Unix socket, because a local HTTP port can be reached by any web page that rebinds a DNS name (tailscale TS-2022-005).
//! One connection carries one request and its answer, each a line of JSON ([`framing`]): [`message`] says what can be asked,
//! [`status`] is the document of `shadowmesh status --json`.
//!
//! The daemon's side ([`server`]) owns the file, checks who calls (`SO_PEERCRED`) and hands [`server::Incoming`] requests to
//! the event loop, which answers when it can; nothing a caller does or omits can make the loop wait. The command line's side
//! is [`client`]. Both agree in [`names`] on whom a person means.

pub mod client;
mod framing;
pub mod message;
pub mod names;
pub mod server;
pub mod status;
