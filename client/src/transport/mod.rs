//! Transports move bytes; they judge nothing. (A *path*, which is judged, is [`shadowmesh_proto::path`].)
//!
//! - [`relay`]: the WebSocket stream to a relay, kept alive.
//! - [`observe`]: asks a relay's STUN where this node's UDP socket appears.
//! - [`outside`]: sockets that stay out of the tunnel they carry.

pub mod observe;
pub mod outside;
pub mod relay;
