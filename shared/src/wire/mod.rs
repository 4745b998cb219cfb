//! Byte layouts. Each stands where it is parsed; parsing is total: any input gives a value or an error, never a panic.
//!
//! - [`codec`]: a bounded reader and the CBOR helpers the rest is built on.
//! - [`header`]: the 16 bytes in clear of a transport packet (protocol §5).
//! - [`packet`]: what kind of peer packet a byte string is, and the clear part of handshake packets (protocol §4.4).
//! - [`control`]: bodies inside a peer session (protocol §6).
//! - [`relay`]: messages on a relay stream (protocol §3).
//! - [`relayed`]: the header of a peer packet that passes a relay by datagram (protocol §3.9).
//! - [`stun`]: the Binding request and response by which a client learns its public UDP address (protocol §3.8).

pub mod codec;
pub mod control;
pub mod header;
pub mod packet;
pub mod relay;
pub mod relayed;
pub mod stun;
