//! Statements: what authorities say, in a form that can be passed on (protocol §8.2).
//!
//! ```text
//!  statement  CBOR array: [0] body, byte string  [1] issuer's fingerprint 32 B  [2] signature 3373 B over the body
//!  body       CBOR array: [0] kind u8  [1] root's fingerprint 32 B  [2] what it says, an array by kind
//! ```
//!
//! Reading is strict: a body has one form (shortest integers, definite lengths, sets in order, no field left out or added), so two
//! nodes that read the same bytes read the same thing, and what was read can be written again. What a later version has to add, it says
//! in a kind of its own.
//!
//! A statement is read in two steps, since the issuer's public keys may have to be asked for in between: [`Unverified`] may be
//! looked at to find out what is missing, and nothing else; a [`Statement`] is one whose signature was verified, or was made here.

use super::authority::{Authority, AuthorityKey, Half, SIGNATURE_LEN};
use crate::crypto::{kdf, labels};
use crate::ids::{Fingerprint, StatementHash};
use crate::wire::codec;
use minicbor::{Decode, Encode};
use std::fmt;
use std::sync::Arc;

/// Bytes of a statement around its body: three heads, the fingerprint, the signature.
pub(super) const AROUND: usize = 16 + 32 + SIGNATURE_LEN;

/// What a statement says.
pub trait Body: Encode<()> + for<'b> Decode<'b, ()> {
    /// Its number.
    const KIND: u8;
    /// Most bytes of the body.
    const MAX: usize;

    /// Whether it says something that makes sense, beyond what reading it shows.
    fn is_sound(&self) -> bool;
}

/// Why bytes are no statement. The three have different causes: a sender that is broken or of another version, another network's
/// statement, and one that was forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not exactly the layout above.
    #[error("the statement does not parse")]
    Malformed,
    /// It is about another network.
    #[error("the statement is of another network, whose root is {}", .0.short())]
    OtherRoot(Fingerprint),
    /// It is not signed by whom it names.
    #[error("the statement is not signed by its issuer: {0}")]
    Signature(Half),
}

/// Why a statement was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Nobody would read it.
    #[error("the statement would have {0} bytes, which is more than others read")]
    TooLarge(usize),
    /// It makes no sense.
    #[error("the statement says something that makes no sense")]
    Unsound,
}

/// A statement whose signature is its issuer's. Whether the issuer may say such a thing is another question
/// ([`judge`](super::judge())). Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement<T> {
    issuer: Fingerprint,
    hash: StatementHash,
    bytes: Arc<[u8]>,
    body: T,
}

/// A statement whose signature nobody looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified<T>(Statement<T>);

#[derive(Encode, Decode)]
#[cbor(array)]
struct Envelope<'a> {
    #[cbor(b(0), with = "minicbor::bytes")]
    body: &'a [u8],
    #[n(1)]
    issuer: Fingerprint,
    #[cbor(b(2), with = "minicbor::bytes")]
    signature: &'a [u8],
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Framed<T> {
    #[n(0)]
    kind: u8,
    #[n(1)]
    root: Fingerprint,
    #[n(2)]
    says: T,
}

impl<T: Body> Statement<T> {
    /// Says `body` in the network of `root`.
    ///
    /// # Errors
    /// [`SignError`] when others would refuse to read it.
    pub fn sign(by: &Authority, root: Fingerprint, body: T) -> Result<Self, SignError> {
        if !body.is_sound() {
            return Err(SignError::Unsound);
        }
        let framed = Framed { kind: T::KIND, root, says: body };
        let encoded = codec::encode(&framed);
        if encoded.len() > T::MAX {
            return Err(SignError::TooLarge(encoded.len()));
        }
        let issuer = by.fingerprint();
        let signature = by.sign(&encoded);
        let bytes = codec::encode(&Envelope { body: &encoded, issuer, signature: signature.as_slice() });
        Ok(Self { issuer, hash: hash(&bytes), bytes: bytes.into(), body: framed.says })
    }
}

impl<T> Statement<T> {
    /// Who says it.
    pub const fn issuer(&self) -> Fingerprint {
        self.issuer
    }

    /// What it is asked for by.
    pub const fn hash(&self) -> StatementHash {
        self.hash
    }

    /// What travels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    pub const fn body(&self) -> &T {
        &self.body
    }
}

impl<T: fmt::Debug> fmt::Debug for Statement<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("issuer", &self.issuer)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl<T: Body> Unverified<T> {
    /// Reads a statement of the network of `root`.
    ///
    /// # Errors
    /// `Malformed` or `OtherRoot`.
    pub fn decode(root: Fingerprint, bytes: &[u8]) -> Result<Self, StatementError> {
        let malformed = |_| StatementError::Malformed;
        if bytes.len() > T::MAX + AROUND {
            return Err(StatementError::Malformed);
        }
        let envelope: Envelope<'_> = exact(bytes).map_err(malformed)?;
        if envelope.signature.len() != SIGNATURE_LEN {
            return Err(StatementError::Malformed);
        }
        let framed: Framed<T> = exact(envelope.body).map_err(malformed)?;
        if framed.kind != T::KIND || !framed.says.is_sound() {
            return Err(StatementError::Malformed);
        }
        if framed.root != root {
            return Err(StatementError::OtherRoot(framed.root));
        }
        let issuer = envelope.issuer;
        Ok(Self(Statement { issuer, hash: hash(bytes), bytes: bytes.into(), body: framed.says }))
    }

    /// Whose public keys [`Self::verify`] needs.
    pub const fn issuer(&self) -> Fingerprint {
        self.0.issuer
    }

    /// What it is asked for by.
    pub const fn hash(&self) -> StatementHash {
        self.0.hash
    }

    /// What travels.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// What it claims. To be believed of none of it.
    pub const fn claims(&self) -> &T {
        &self.0.body
    }

    /// Takes it for verified, as a forger does.
    #[cfg(test)]
    pub(super) fn trusted_for_test(self) -> Statement<T> {
        self.0
    }

    /// Verifies it with the issuer's `key`.
    ///
    /// # Errors
    /// `Signature`, also where `key` is somebody else's.
    pub fn verify(self, key: &AuthorityKey) -> Result<Statement<T>, StatementError> {
        let envelope: Envelope<'_> = codec::decode(&self.0.bytes).map_err(|_| StatementError::Malformed)?;
        let signature = envelope.signature.try_into().map_err(|_| StatementError::Malformed)?;
        if key.fingerprint() != self.0.issuer {
            return Err(StatementError::Signature(Half::Ed25519));
        }
        key.verify(envelope.body, signature).map_err(StatementError::Signature)?;
        Ok(self.0)
    }
}

fn hash(bytes: &[u8]) -> StatementHash {
    StatementHash(kdf::sha256(&[labels::BLOB, bytes]))
}

/// Reads a value from all of `bytes`, which must be what writing it gives.
fn exact<'b, T: Encode<()> + Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, codec::WireError> {
    let value: T = codec::decode(bytes)?;
    if codec::encode(&value) == bytes { Ok(value) } else { Err(codec::WireError::Body) }
}
