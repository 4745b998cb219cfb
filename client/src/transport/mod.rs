//! Transports move bytes; they judge nothing. (A *path*, which is judged, is [`shadowmesh_proto::path`].)
//!
//! - [`relay`]: the WebSocket stream to a relay, kept alive.
//! - [`udp`]: the one UDP socket.
//! - [`outside`]: sockets that stay out of the tunnel they carry.

pub mod outside;
pub mod relay;
pub mod tcp;
pub mod udp;
