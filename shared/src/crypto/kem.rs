//! ML-KEM-768 (FIPS 203) from aws-lc.
//!
//! The initiator of a handshake makes a fresh [`KeyPair`] and sends its public half; the responder [`encapsulate`]s to it;
//! the initiator decapsulates. Each key pair serves one handshake and is wiped with it.
//!
//! aws-lc draws the randomness of key generation and encapsulation itself and takes none from outside, so these bytes are
//! the one thing in the protocol that a seed does not repeat. A ciphertext that was altered decapsulates to an unrelated
//! secret, not to an error (FIPS 203 §6.3): what follows in the transcript then fails to open.

use crate::crypto::kdf::Secret32;
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of an encapsulation (public) key.
pub const PUBLIC_LEN: usize = 1184;
/// Bytes of a decapsulation (secret) key in the expanded form of FIPS 203 §7.1.
pub const SECRET_LEN: usize = 2400;
/// Bytes of a ciphertext.
pub const CIPHERTEXT_LEN: usize = 1088;
/// Bytes of the shared secret.
pub const SHARED_LEN: usize = 32;

/// Where the public key lies inside an expanded secret key: dk_PKE (1152 B) ‖ ek (1184 B) ‖ H(ek) ‖ z.
const PUBLIC_IN_SECRET: std::ops::Range<usize> = 1152..1152 + PUBLIC_LEN;

/// A key or ciphertext that ML-KEM refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KemError {
    /// Wrong length, or coefficients outside the field (the modulus check of FIPS 203 §7.2).
    #[error("the ML-KEM public key is not valid")]
    PublicKey,
    /// Wrong length, or the stored hash of the public key does not match (FIPS 203 §7.3).
    #[error("the ML-KEM secret key is not valid")]
    SecretKey,
    /// Wrong length.
    #[error("the ML-KEM ciphertext is not valid")]
    Ciphertext,
    /// The library could not make a key pair.
    #[error("no ML-KEM key pair could be made")]
    Generate,
}

/// A key pair for one handshake.
pub struct KeyPair {
    secret: DecapsulationKey,
    public: Box<[u8; PUBLIC_LEN]>,
}

impl KeyPair {
    /// A fresh key pair.
    ///
    /// # Errors
    /// [`KemError::Generate`] when the library fails, which it does only without memory or randomness.
    pub fn generate() -> Result<Self, KemError> {
        let secret = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| KemError::Generate)?;
        let public =
            secret.encapsulation_key().and_then(|key| key.key_bytes()).map_err(|_| KemError::Generate)?;
        let public = Box::<[u8]>::from(public.as_ref()).try_into().map_err(|_| KemError::Generate)?;
        Ok(Self { secret, public })
    }

    /// The key pair whose expanded secret key (FIPS 203 §7.1) is `bytes`. For recorded keys; the content is checked when it
    /// is used.
    ///
    /// # Errors
    /// [`KemError::SecretKey`] when `bytes` are not [`SECRET_LEN`] long.
    pub fn from_secret(bytes: &[u8]) -> Result<Self, KemError> {
        let public = bytes.get(PUBLIC_IN_SECRET).ok_or(KemError::SecretKey)?;
        let public = Box::<[u8]>::from(public).try_into().map_err(|_| KemError::SecretKey)?;
        let secret = DecapsulationKey::new(&ML_KEM_768, bytes).map_err(|_| KemError::SecretKey)?;
        Ok(Self { secret, public })
    }

    /// The public half.
    pub const fn public(&self) -> &[u8; PUBLIC_LEN] {
        &self.public
    }

    /// The secret inside `ciphertext`, or an unrelated one when it was altered.
    ///
    /// # Errors
    /// [`KemError::Ciphertext`] for a wrong length; [`KemError::SecretKey`] when this key was restored from bytes that are
    /// no key.
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret32, KemError> {
        if ciphertext.len() != CIPHERTEXT_LEN {
            return Err(KemError::Ciphertext);
        }
        let shared =
            self.secret.decapsulate(Ciphertext::from(ciphertext)).map_err(|_| KemError::SecretKey)?;
        shared.as_ref().try_into().map(Zeroizing::new).map_err(|_| KemError::Ciphertext)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kem::KeyPair(..)")
    }
}

/// A fresh secret for the owner of `public`, and the ciphertext that carries it.
///
/// # Errors
/// [`KemError::PublicKey`] when `public` is not a valid key.
pub fn encapsulate(public: &[u8]) -> Result<(Box<[u8; CIPHERTEXT_LEN]>, Secret32), KemError> {
    let key = EncapsulationKey::new(&ML_KEM_768, public).map_err(|_| KemError::PublicKey)?;
    let (ciphertext, shared) = key.encapsulate().map_err(|_| KemError::PublicKey)?;
    let ciphertext = Box::<[u8]>::from(ciphertext.as_ref()).try_into().map_err(|_| KemError::PublicKey)?;
    let shared = shared.as_ref().try_into().map(Zeroizing::new).map_err(|_| KemError::PublicKey)?;
    Ok((ciphertext, shared))
}
