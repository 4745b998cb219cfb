//! The ShadowMesh client: the daemon that joins this machine to a network, and the command line in front of it.
//!
//! What is decided lives in [`shadowmesh_proto`]; this crate does it. From the outside in:
//!
//! - [`cli`]: what people type. [`control`]: the Unix socket between a command and the daemon. [`config`]: what `up` remembers.
//! - [`daemon`]: one task that owns the endpoint and turns its events into commands for the rest.
//! - [`doctor`]: what is wrong on this host, and what mends it.
//! - [`service`]: the daemon as a service of systemd, made and taken away.
//! - [`plane`]: two threads that move frames between the device and the relay's stream.
//! - [`device`]: the TAP. [`switch`]: who is behind which peer (pure). [`access`]: what of a peer is let in (pure). [`net`]: the machine's interfaces, addresses and routes.
//! - [`names`]: what members are called by other programs of this machine, where that is asked for.
//! - [`transport`]: streams and sockets towards relays, kept outside the tunnel they carry.
//! - `new_file`: what people are given, whole or not there. [`system_rng`]: the operating system's randomness.

pub mod access;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod device;
pub mod doctor;
pub mod names;
pub mod net;
mod new_file;
pub mod plane;
pub mod service;
pub mod switch;
pub mod system_rng;
pub mod transport;
mod wiped;
