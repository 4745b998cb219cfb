//! The link: the control session between a client and a relay, on one relay stream (protocol §3).
//!
//! Life of a link: the client sends LINK_INIT and the relay answers LINK_RESPONSE (a Noise handshake in which the client
//! pins the relay's key); the client sends REGISTER, whose signature covers the handshake's hash and so cannot be replayed
//! on another link; from then on both sides exchange sealed [`Control`](crate::wire::relay::Control) bodies, and FORWARD messages in clear beside them
//! (what they carry is sealed end to end by the peers).
//!
//! Invariants:
//! - The stream is in order and reliable, so counters are implicit and one message that does not open ends the link.
//! - Nothing but LINK_INIT is accepted first, nothing but REGISTER second. The relay side reports a registration only after
//!   its signature was verified, and never twice.
//! - REGISTER says which versions of the protocol the client speaks, the answer which one counts (protocol §1.7). Both are sealed under keys
//!   that only the pinned relay has, so nobody on the way changes or strips them.
//! - An error is final: the caller closes the connection. There is no way back into a link that failed.

mod client;
mod seal;
mod server;

pub use client::{ClientInput, ClientLink, Registration};
pub use server::{ServerInput, ServerLink};

use crate::handshake::HandshakeError;
use crate::version::Mismatch;
use crate::wire::codec::WireError;

/// Why a link is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The other side sent bytes that make no sense.
    #[error("the other side sent a message that does not parse: {0}")]
    Wire(#[from] WireError),
    /// The handshake failed: for a client most likely another relay answers at this address.
    #[error("the handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
    /// A sealed message does not open.
    #[error("a message of the other side does not open")]
    Forged,
    /// The signature of a registration does not fit its network, its node or this link.
    #[error("the proof of network membership is not valid")]
    Proof,
    /// A message that has no place in this state.
    #[error("a message came that has no place here: {0}")]
    OutOfPlace(&'static str),
    /// Client and relay speak no common version of the protocol.
    #[error("no version of the protocol in common: the other side speaks {}, this one {}", .0.theirs, .0.ours)]
    Version(Mismatch),
    /// The relay did not choose the highest version that both speak.
    #[error("the relay did not choose the highest version of the protocol that both speak")]
    VersionChoice,
    /// 2^32 messages were sent: a fresh link is due (protocol §3.2).
    #[error("the link carried as many messages as its keys allow")]
    Exhausted,
}

#[cfg(test)]
mod tests;
