//! What members say to each other about membership, as control bodies of a session (protocol §6, §8.4).
//!
//! ```text
//!  17 MEMBER      revision u32, standing u8, certificate hash or null, offer hash or null, at most 32 [issuer, version u64, hash],
//!                 at most 2 network ids
//!  18 MEMBER_ACK  revision u32
//!  19 WANT        hash, first part u16, bit set u32: which of the 32 parts from there are missing
//!  20 PART        hash, bytes of the whole u32, number of the part u16, at most 1,024 bytes
//!  21 ASK_SECRET  network id
//!  22 SECRET      generation u32, secret 32 bytes
//! ```

use super::document::MAX_ADMINS;
use super::secrets::MAX_SECRETS;
use crate::crypto::kdf::Secret32;
use crate::crypto::keys::NetworkSecret;
use crate::ids::{BlobHash, Fingerprint, NetworkId, StatementHash};
use crate::wire::codec::{self, WireError};
use minicbor::{Decode, Encode};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of a part but the last: with all that is around it, it fits every path in one piece (protocol §7.11).
pub const PART_LEN: usize = 1024;
/// Parts that one WANT asks for at most.
pub const WINDOW: usize = 32;

/// What the sender thinks of the receiver, as [`Member::standing`]: it does not know yet.
pub const PENDING: u8 = 0;
/// It is a member. Anything above is the number of a reason why not.
pub const ADMITTED: u8 = 1;

/// A body about membership.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Message {
    /// What I have to show, and what I think of you.
    #[n(17)]
    Member(#[n(0)] Member),
    /// I have your MEMBER of this revision.
    #[n(18)]
    MemberAck {
        /// From the MEMBER.
        #[n(0)]
        revision: u32,
    },
    /// Give me parts of this.
    #[n(19)]
    Want(#[n(0)] Want),
    /// A part of it.
    #[n(20)]
    Part(#[n(0)] Part),
    /// Give me the network's secret of this name.
    #[n(21)]
    AskSecret {
        /// What it is called at relays.
        #[n(0)]
        network: NetworkId,
    },
    /// Here it is.
    #[n(22)]
    Secret(#[n(0)] Handed),
}

/// What a member shows, and says of the receiver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(array)]
pub struct Member {
    /// Grows with every change.
    #[n(0)]
    pub revision: u32,
    /// [`PENDING`], [`ADMITTED`] or why not.
    #[n(1)]
    pub standing: u8,
    /// The sender's certificate, if it has one already.
    #[n(2)]
    pub certificate: Option<StatementHash>,
    /// A certificate that the sender, an admin, made for the receiver.
    #[n(3)]
    pub offer: Option<StatementHash>,
    /// The documents that the sender has, at most [`MAX_ADMINS`].
    #[n(4)]
    pub documents: Vec<Listed>,
    /// Which secrets of the network the sender holds, at most [`MAX_SECRETS`]; none before it admits the receiver.
    #[n(5)]
    #[cbor(default)]
    pub secrets: Vec<NetworkId>,
}

/// A document that somebody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Listed {
    /// Whose.
    #[n(0)]
    pub issuer: Fingerprint,
    /// Its version.
    #[n(1)]
    pub version: u64,
    /// Its name.
    #[n(2)]
    pub hash: StatementHash,
}

/// A secret of the network, handed on.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Handed {
    /// How often it was rotated.
    #[n(0)]
    generation: u32,
    #[n(1)]
    #[cbor(with = "secret_bytes")]
    bytes: Secret32,
}

impl From<&NetworkSecret> for Handed {
    fn from(secret: &NetworkSecret) -> Self {
        Self { generation: secret.generation(), bytes: secret.to_bytes() }
    }
}

impl From<Handed> for NetworkSecret {
    fn from(handed: Handed) -> Self {
        Self::from_bytes(handed.bytes, handed.generation)
    }
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handed(generation {})", self.generation)
    }
}

mod secret_bytes {
    use super::{Secret32, Zeroizing};
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    pub(super) fn encode<C, W: Write>(
        bytes: &Secret32,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.bytes(bytes.as_slice())?.ok()
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Secret32, DecodeError> {
        let bytes = d.bytes()?.try_into().map_err(|_| DecodeError::message("not 32 bytes"))?;
        Ok(Zeroizing::new(bytes))
    }
}

/// Which parts of a blob are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Want {
    /// Of this.
    #[n(0)]
    pub hash: BlobHash,
    /// Number of the part that bit 0 stands for.
    #[n(1)]
    pub first: u16,
    /// Bit `i`: part `first + i`.
    #[n(2)]
    pub missing: u32,
}

/// A part of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Part {
    /// Of this.
    #[n(0)]
    pub hash: BlobHash,
    /// Bytes of the whole; 0: the sender does not have it.
    #[n(1)]
    pub total: u32,
    /// Which part.
    #[n(2)]
    pub number: u16,
    /// [`PART_LEN`] bytes, fewer in the last.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

impl Message {
    /// CBOR bytes of the body.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a body with one of the tags above.
    ///
    /// # Errors
    /// `Body` or `Trailing` when it does not parse, `Value` when a field is outside its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let message = codec::decode(bytes)?;
        match &message {
            Self::Member(member) if member.documents.len() > MAX_ADMINS => Err(WireError::Value("documents")),
            Self::Member(member) if member.secrets.len() > MAX_SECRETS => Err(WireError::Value("secrets")),
            Self::Part(part) if part.bytes.len() > PART_LEN => Err(WireError::Value("part")),
            Self::Member(_)
            | Self::MemberAck { .. }
            | Self::Want(_)
            | Self::Part(_)
            | Self::AskSecret { .. }
            | Self::Secret(_) => Ok(message),
        }
    }
}
