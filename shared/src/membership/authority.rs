//! Authorities: who may say something about members (protocol §8.1).
//!
//! ```text
//!  seed 32 B ─HKDF─┬─ Ed25519 key    public 32 B    signature   64 B
//!                  └─ ML-DSA-65 key  public 1952 B  signature 3309 B
//! ```
//!
//! A signature is both, over the same bytes, and counts only when both verify: whoever breaks one of the two schemes has won
//! nothing. What is signed names the pair, so that half of a signature cannot be put to use beside another half.

use crate::crypto::kdf::{self, Secret32};
use crate::crypto::labels;
use crate::ids::Fingerprint;
use crate::rng::Rng;
use aws_lc_rs::signature::{
    ED25519, Ed25519KeyPair, KeyPair as _, ML_DSA_65, ML_DSA_65_SIGNING, PqdsaKeyPair, UnparsedPublicKey,
};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

const ED25519_PUBLIC: usize = 32;
const ED25519_SIGNATURE: usize = 64;
const ML_DSA_65_PUBLIC: usize = 1952;
const ML_DSA_65_SIGNATURE: usize = 3309;
/// Bytes of an authority's public keys.
pub const PUBLIC_LEN: usize = ED25519_PUBLIC + ML_DSA_65_PUBLIC;
/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = ED25519_SIGNATURE + ML_DSA_65_SIGNATURE;

/// The secret half: it signs. Cloning shares it.
#[derive(Clone)]
pub struct Authority(Arc<Secret>);

struct Secret {
    seed: Secret32,
    ed25519: Ed25519KeyPair,
    ml_dsa: PqdsaKeyPair,
    public: AuthorityKey,
}

impl Authority {
    /// A new one.
    pub fn generate(rng: &mut dyn Rng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill(seed.as_mut_slice());
        Self::from_seed(seed)
    }

    /// The one that `seed` makes.
    pub fn from_seed(seed: Secret32) -> Self {
        let key = |info| kdf::hkdf(labels::AUTHORITY_SALT, seed.as_slice(), &[info]);
        let ed25519 = Ed25519KeyPair::from_seed_unchecked(key(labels::AUTHORITY_ED25519).as_slice())
            .expect("32 bytes are always an Ed25519 seed (RFC 8032 §5.1.5)");
        let ml_dsa = PqdsaKeyPair::from_seed(&ML_DSA_65_SIGNING, key(labels::AUTHORITY_ML_DSA_65).as_slice())
            .expect("32 bytes are always an ML-DSA seed (FIPS 204 algorithm 1)");
        let public = [ed25519.public_key().as_ref(), ml_dsa.public_key().as_ref()].concat();
        let public = AuthorityKey::from_bytes(&public).expect("both lengths are fixed by the algorithms");
        Self(Arc::new(Secret { seed, ed25519, ml_dsa, public }))
    }

    /// What to store, in a file that only its owner reads.
    pub fn seed(&self) -> Secret32 {
        self.0.seed.clone()
    }

    /// The public half.
    pub fn public(&self) -> &AuthorityKey {
        &self.0.public
    }

    /// Its name.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.public.fingerprint()
    }

    /// Signs `message`, which begins with what it is.
    pub(super) fn sign(&self, message: &[u8]) -> Box<[u8; SIGNATURE_LEN]> {
        let message = signed(self.fingerprint(), message);
        let mut signature = vec![0; SIGNATURE_LEN];
        let (ed25519, ml_dsa) = signature.split_at_mut(ED25519_SIGNATURE);
        ed25519.copy_from_slice(self.0.ed25519.sign(&message).as_ref());
        // Hedged (FIPS 204 §3.4): it fails only where the machine has no randomness, and then there is nothing to go on with.
        self.0.ml_dsa.sign(&message, ml_dsa).expect("an ML-DSA signature of a short message");
        signature.into_boxed_slice().try_into().expect("made with this length")
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.fingerprint().short())
    }
}

/// The public half: it verifies. Cloning shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorityKey {
    bytes: Arc<[u8; PUBLIC_LEN]>,
    fingerprint: Fingerprint,
}

/// Which of the two signatures is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Half {
    /// The Ed25519 signature.
    #[error("its Ed25519 half does not verify")]
    Ed25519,
    /// The ML-DSA-65 signature.
    #[error("its ML-DSA-65 half does not verify")]
    MlDsa65,
}

impl AuthorityKey {
    /// From Ed25519 public key ‖ ML-DSA-65 public key; `None` when it is not [`PUBLIC_LEN`] long.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes = Arc::new(<[u8; PUBLIC_LEN]>::try_from(bytes).ok()?);
        let fingerprint = Fingerprint(kdf::sha256(&[labels::BLOB, bytes.as_slice()]));
        Some(Self { bytes, fingerprint })
    }

    /// What [`Self::from_bytes`] reads.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_LEN] {
        &self.bytes
    }

    /// Its name.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether `signature` is this authority's over `message`.
    ///
    /// # Errors
    /// The half that is not.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> Result<(), Half> {
        let message = signed(self.fingerprint, message);
        let (ed25519, ml_dsa) = self.bytes.split_at(ED25519_PUBLIC);
        let (first, second) = signature.split_at(ED25519_SIGNATURE);
        UnparsedPublicKey::new(&ED25519, ed25519).verify(&message, first).map_err(|_| Half::Ed25519)?;
        UnparsedPublicKey::new(&ML_DSA_65, ml_dsa).verify(&message, second).map_err(|_| Half::MlDsa65)
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityKey({})", self.fingerprint.short())
    }
}

/// What the two keys sign: everything before the message has a fixed length.
fn signed(by: Fingerprint, message: &[u8]) -> Vec<u8> {
    [labels::STATEMENT, by.as_bytes(), message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::known_answers::{array, bytes, read, secret};
    use crate::rng::SeededRng;

    #[test]
    fn a_seed_makes_the_keys_of_an_independent_implementation() {
        let cases = read(include_str!("../../tests/vectors/authority.json"));
        let cases = cases.as_array().unwrap();
        assert_eq!(cases.len(), 2);
        for case in cases {
            let authority = Authority::from_seed(secret(case, "seed"));
            let (ed25519, ml_dsa) = authority.public().as_bytes().split_at(32);
            assert_eq!(ed25519, bytes(case, "ed25519_public"));
            assert_eq!(ml_dsa, bytes(case, "ml_dsa_65_public"));
            assert_eq!(authority.fingerprint(), Fingerprint(array(case, "fingerprint")));
            // Ed25519 is deterministic (RFC 8032 §5.1.6); ML-DSA's signatures are not.
            let signature = authority.sign(b"message");
            assert_eq!(signature[..64], bytes(case, "ed25519_signature_of_message"));
        }
    }

    #[test]
    fn both_halves_must_verify() {
        let authority = Authority::generate(&mut SeededRng::new(1));
        let key = authority.public();
        let signature = authority.sign(b"yes");
        assert_eq!(key.verify(b"yes", &signature), Ok(()));
        assert_eq!(key.verify(b"no", &signature), Err(Half::Ed25519));
        for (at, half) in
            [(0, Half::Ed25519), (63, Half::Ed25519), (64, Half::MlDsa65), (SIGNATURE_LEN - 1, Half::MlDsa65)]
        {
            let mut changed = signature.clone();
            changed[at] ^= 1;
            assert_eq!(key.verify(b"yes", &changed), Err(half), "byte {at}");
        }
    }

    #[test]
    fn half_a_signature_is_of_no_use_beside_another_half() {
        let mut rng = SeededRng::new(2);
        let (honest, other) = (Authority::generate(&mut rng), Authority::generate(&mut rng));
        // A pair of the honest Ed25519 key and an ML-DSA key of the attacker's, over what the honest one did sign.
        let (ed25519, _) = honest.public().as_bytes().split_at(ED25519_PUBLIC);
        let (_, ml_dsa) = other.public().as_bytes().split_at(ED25519_PUBLIC);
        let mixed = AuthorityKey::from_bytes(&[ed25519, ml_dsa].concat()).unwrap();
        let mut signature = other.sign(b"yes");
        signature[..64].copy_from_slice(&honest.sign(b"yes")[..64]);
        assert_eq!(mixed.verify(b"yes", &signature), Err(Half::Ed25519));
    }

    #[test]
    fn the_seed_is_not_printed_and_comes_back() {
        let authority = Authority::generate(&mut SeededRng::new(3));
        let printed = format!("{authority:?} {:?}", authority.public());
        assert!(!printed.contains(&data_encoding::HEXLOWER.encode(&authority.seed()[..4])), "{printed}");
        assert_eq!(Authority::from_seed(authority.seed()).fingerprint(), authority.fingerprint());
        assert_eq!(AuthorityKey::from_bytes(&[0; PUBLIC_LEN - 1]), None);
    }
}
