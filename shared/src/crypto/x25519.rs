//! X25519 (RFC 7748) with keys that are parsed once.
//!
//! aws-lc computes the public key whenever a private key is parsed; a handshake touches the static key four times, so
//! [`PrivateKey`] keeps both. An exchange whose result is all zeros is an error (RFC 7748 §6.1): the other side sent one of
//! the points of small order, and the secret would depend on nobody's key.

use crate::crypto::kdf::Secret32;
use aws_lc_rs::agreement;
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of a public or private key and of a shared secret.
pub const KEY_LEN: usize = 32;

/// The other side's public key has small order; nothing secret can come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the public key is a point of small order")]
pub struct SmallOrder;

/// A private key, with what aws-lc made of it and its public key.
pub struct PrivateKey {
    bytes: Secret32,
    parsed: agreement::PrivateKey,
    public: [u8; KEY_LEN],
}

impl PrivateKey {
    /// The key that `bytes` are. Clamping is part of every exchange (RFC 7748 §5), so any 32 bytes are a key.
    pub fn new(bytes: Secret32) -> Self {
        let parsed = agreement::PrivateKey::from_private_key(&agreement::X25519, bytes.as_slice()).expect(
            "32 bytes are always an X25519 key; only allocation can fail, which ends the process anyway",
        );
        let public = parsed.compute_public_key().ok().and_then(|key| key.as_ref().first_chunk().copied());
        let public =
            public.expect("aws-lc keeps the 32-byte public key beside the private key since parsing");
        Self { bytes, parsed, public }
    }

    /// A key that shows `public` for its own: what a dishonest member can do.
    #[cfg(test)]
    pub(crate) fn with_false_public(bytes: Secret32, public: [u8; KEY_LEN]) -> Self {
        Self { public, ..Self::new(bytes) }
    }

    /// The public key.
    pub const fn public(&self) -> &[u8; KEY_LEN] {
        &self.public
    }

    /// The private key, unclamped as it was given.
    pub const fn bytes(&self) -> &Secret32 {
        &self.bytes
    }

    /// The shared secret with the owner of `public`.
    ///
    /// # Errors
    /// [`SmallOrder`] when the secret would be all zeros.
    pub fn agree(&self, public: &[u8; KEY_LEN]) -> Result<Secret32, SmallOrder> {
        let public = agreement::UnparsedPublicKey::new(&agreement::X25519, public);
        agreement::agree(&self.parsed, public, SmallOrder, |shared| {
            let mut secret = Zeroizing::new([0; KEY_LEN]);
            // aws-lc gives exactly 32 bytes for X25519.
            secret.copy_from_slice(shared);
            Ok(secret)
        })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("x25519::PrivateKey(..)")
    }
}
