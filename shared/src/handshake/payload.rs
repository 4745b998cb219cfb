//! What the two sides of a peer handshake tell each other (protocol §4.3).
//!
//! ```text
//!  CBOR array: [0] ciphers u8, [1] TAP MTU u16, [2] node name, [3] association id 8 B, [4] program version,
//!              [5] features u32, left out: 0,
//!              [6] versions that the sender speaks, [oldest u8, newest u8], left out: 1 alone,
//!              [7] in the answer the version chosen u8, 0 for none, left out: 1
//! ```
//!
//! The initiator offers a set of ciphers, the responder answers with exactly one and repeats the association id. Both are
//! sealed inside the transcript; so with versions (protocol §1.7). The sender is authenticated by then but may still be hostile: texts are bounded and hold no
//! control characters, so that they can be shown on a terminal. Fields added by later versions are ignored.

use crate::crypto::aead::CipherSet;
use crate::ids::AssociationId;
use crate::version::{UNSAID, Versions};
use crate::wire::codec;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

/// Longest node name, in bytes of UTF-8: room for a host name label of 63 and one more.
pub const MAX_NAME: usize = 64;
/// Longest program version, in bytes of UTF-8.
pub const MAX_PROGRAM: usize = 32;
/// Longest encoded payload, in bytes. Version 1 needs at most 128; the rest is room for fields of later versions.
pub const MAX_PAYLOAD: usize = 1024;

/// One side's half of the negotiation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Ciphers offered, or the one chosen.
    pub ciphers: CipherSet,
    /// MTU of the sender's TAP device, in bytes.
    pub mtu: u16,
    /// The sender's name for itself.
    pub name: String,
    /// Which association the keys are for.
    pub association: AssociationId,
    /// Version of the sender's program.
    pub program: String,
    /// What the sender can do that older programs cannot: a bit each: [`KNOWS_REST`], [`COMPLETES_CHECKSUMS`].
    pub features: u32,
    /// Versions of the protocol that the sender speaks.
    pub versions: Versions,
    /// In an answer the version chosen, or [`version::NONE`](crate::version::NONE); of no meaning in an offer, and 1 there.
    pub version: u8,
}

/// The sender answers REST (protocol §4.10).
pub const KNOWS_REST: u32 = 1;
/// The sender takes frames whose inner checksum was left out (protocol §5).
pub const COMPLETES_CHECKSUMS: u32 = 2;

/// Why a payload was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Not the CBOR array above, or over [`MAX_PAYLOAD`].
    #[error("the payload does not parse")]
    Body,
    /// A name over [`MAX_NAME`] bytes or with control characters.
    #[error("the node name is too long or has control characters")]
    Name,
    /// A program version over [`MAX_PROGRAM`] bytes or with control characters.
    #[error("the program version is too long or has control characters")]
    Program,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Body<'a> {
    #[n(0)]
    ciphers: u8,
    #[n(1)]
    mtu: u16,
    #[b(2)]
    name: &'a str,
    #[n(3)]
    association: ByteArray<8>,
    #[b(4)]
    program: &'a str,
    #[n(5)]
    features: Option<u32>,
    #[n(6)]
    versions: Option<Versions>,
    #[n(7)]
    version: Option<u8>,
}

impl Payload {
    /// The bytes that go into the handshake message.
    ///
    /// # Errors
    /// `Name` or `Program` when a text breaks its bound.
    pub fn encode(&self) -> Result<Vec<u8>, PayloadError> {
        check(&self.name, &self.program)?;
        Ok(codec::encode(&Body {
            ciphers: self.ciphers.bits(),
            mtu: self.mtu,
            name: &self.name,
            association: self.association.0.into(),
            program: &self.program,
            features: Some(self.features).filter(|features| *features != 0),
            versions: self.versions.said(),
            version: Some(self.version).filter(|version| *version != UNSAID),
        }))
    }

    /// Reads what the other side sent.
    ///
    /// # Errors
    /// [`PayloadError`] by cause.
    pub fn decode(bytes: &[u8]) -> Result<Self, PayloadError> {
        if bytes.len() > MAX_PAYLOAD {
            return Err(PayloadError::Body);
        }
        let body: Body<'_> = codec::decode(bytes).map_err(|_| PayloadError::Body)?;
        check(body.name, body.program)?;
        Ok(Self {
            ciphers: CipherSet::from_bits(body.ciphers),
            mtu: body.mtu,
            name: body.name.to_owned(),
            association: AssociationId(*body.association),
            program: body.program.to_owned(),
            features: body.features.unwrap_or(0),
            versions: body.versions.unwrap_or(Versions::FIRST),
            version: body.version.unwrap_or(UNSAID),
        })
    }
}

fn check(name: &str, program: &str) -> Result<(), PayloadError> {
    let is_fit = |text: &str, longest| text.len() <= longest && !text.chars().any(char::is_control);
    if !is_fit(name, MAX_NAME) {
        return Err(PayloadError::Name);
    }
    if !is_fit(program, MAX_PROGRAM) {
        return Err(PayloadError::Program);
    }
    Ok(())
}
