//! The two handshakes: between peers ([`peer`], protocol §4) and between a client and its relay ([`link`], protocol §3.1).
//!
//! Both are one message each way, hybrid post-quantum (X25519 and ML-KEM-768), and authenticate both static keys. A state is
//! a type that consumes itself, so what has happened is written in what one holds:
//!
//! ```text
//! Initiator::begin ──INIT──▶ Responder::read ─▶ Received ──respond──▶ Completed (unconfirmed, §4.5)
//! Initiator::finish ◀──────────RESPONSE─────────────────────┘
//!       └─▶ Completed
//! ```
//!
//! Invariants:
//! - Nothing asymmetric is computed for a packet whose mac1 is wrong: a stranger costs one HMAC.
//! - A forged answer does not end a pending handshake: [`peer::Initiator::finish`] gives the state back.
//! - A message can be replayed to a responder without limit and yields a [`peer::Received`] each time; only the real
//!   initiator can finish the session that comes of it. That it replaces nothing until then is the endpoint's duty (§4.5).
//! - Every error says whose fault it is ([`HandshakeError::fault`]), so that counters can be kept by cause.

#[cfg(test)]
mod dishonest;
pub mod link;
mod noise;
pub mod payload;
pub mod peer;
#[cfg(test)]
mod recorded;

pub use noise::{MESSAGE_1_LEN, MESSAGE_2_LEN, PEER_PATTERN};

use crate::crypto::kdf::Secret32;
use crate::crypto::kem::{KemError, KeyPair};
use crate::rng::Rng;
use crate::version::Versions;
use crate::wire::codec::WireError;
use payload::PayloadError;
use zeroize::Zeroizing;

/// Why a handshake message led nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The clear part is not of this protocol or version.
    #[error("the handshake message does not parse: {0}")]
    Layout(#[from] WireError),
    /// Longer or shorter than any handshake message.
    #[error("the handshake message has an impossible length")]
    Length,
    /// mac1 is wrong: the sender does not know the network secret (of this generation), or the packet was damaged.
    #[error("the handshake message is not from a member of this network")]
    Mac,
    /// An answer to another handshake than this one.
    #[error("the handshake answer belongs to another handshake")]
    WrongReceiver,
    /// Noise could not open it: forged, altered, meant for another key, or of another secret or generation.
    #[error("the handshake message is not authentic")]
    Authentication,
    /// The other side's public key has small order.
    #[error("the other side's key is a point of small order")]
    SmallOrder,
    /// The other side's ML-KEM key or ciphertext is invalid.
    #[error("the other side's ML-KEM share is not valid")]
    Kem,
    /// The authenticated other side sent a payload that breaks the rules.
    #[error("the other side's handshake payload is not acceptable: {0}")]
    Payload(PayloadError),
    /// The authenticated other side chose a cipher that was not offered, or not exactly one.
    #[error("the other side chose a cipher that was not offered")]
    CipherChoice,
    /// The authenticated other side answered with another association id.
    #[error("the other side answered for another association")]
    Association,
    /// The authenticated other side offers no cipher that this side is willing to use.
    #[error("the two sides share no cipher; allow one on both")]
    NoCommonCipher,
    /// The authenticated other side speaks no version of the protocol that this side does.
    #[error("the two sides share no version of the protocol: the other speaks {0}")]
    NoCommonVersion(Versions),
    /// The authenticated other side did not choose the highest version that both speak.
    #[error("the other side did not choose the highest version of the protocol that both speak")]
    VersionChoice,
    /// This side's own payload breaks the rules.
    #[error("this side's handshake payload is not acceptable: {0}")]
    OwnPayload(PayloadError),
    /// The handshake already ended, by an answer that was authentic and not acceptable.
    #[error("the handshake is over")]
    Spent,
    /// A library failed in a way that no input explains.
    #[error("the handshake could not be computed: {0}")]
    Internal(&'static str),
}

/// Who is to blame for a [`HandshakeError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Anybody who can send bytes; say nothing, count it.
    Stranger,
    /// The authenticated other side broke the protocol.
    Peer,
    /// Both follow the protocol and cannot agree.
    Incompatible,
    /// This program was misused or its machine failed.
    Local,
}

impl HandshakeError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Layout(_)
            | Self::Length
            | Self::Mac
            | Self::WrongReceiver
            | Self::Authentication
            | Self::SmallOrder
            | Self::Kem => Fault::Stranger,
            Self::Payload(_) | Self::CipherChoice | Self::Association | Self::VersionChoice => Fault::Peer,
            Self::NoCommonCipher | Self::NoCommonVersion(_) => Fault::Incompatible,
            Self::OwnPayload(_) | Self::Spent | Self::Internal(_) => Fault::Local,
        }
    }
}

impl From<KemError> for HandshakeError {
    fn from(error: KemError) -> Self {
        match error {
            KemError::PublicKey | KemError::Ciphertext => Self::Kem,
            KemError::SecretKey | KemError::Generate => Self::Internal("no ML-KEM key pair could be made"),
        }
    }
}

/// What an initiator makes for one handshake and never uses again.
struct InitiatorKeys {
    exchange: Secret32,
    kem: KeyPair,
}

impl InitiatorKeys {
    fn generate(rng: &mut dyn Rng) -> Result<Self, HandshakeError> {
        Ok(Self { exchange: draw(rng), kem: KeyPair::generate()? })
    }
}

/// A fresh X25519 private key for one message.
fn draw(rng: &mut dyn Rng) -> Secret32 {
    let mut key = Zeroizing::new([0; 32]);
    rng.fill(key.as_mut_slice());
    key
}
