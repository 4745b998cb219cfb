//! The primitives that `snow` runs the handshakes on.
//!
//! A [`Resolver`] serves one handshake. X25519, ChaCha20-Poly1305 and ML-KEM-768 are aws-lc's, BLAKE2s is
//! RustCrypto's. Three things differ from a plain set of adapters:
//!
//! - **Randomness.** `snow` may draw exactly one ephemeral key, the 32 bytes that the caller put into the
//!   [`EphemeralSlot`] before it wrote its message. A second draw is an error: no key is ever made of anything else.
//! - **The static key** is recognised (in constant time) and not parsed again, which saves a scalar multiplication.
//! - **The KEM** is known to `snow` as Kyber1024, the only name its parser has; what runs is ML-KEM-768, under the name that
//!   `handshake::noise` gives the pattern. The key pair is made before the handshake starts, because `snow`'s trait has no
//!   way to say that making one failed.
//!
//! `snow` itself keeps the pre-shared key, chaining key and hash in plain memory and does not wipe them; they live as long
//! as one handshake.

use crate::crypto::kdf::Secret32;
use crate::crypto::kem::{self, KeyPair};
use crate::crypto::keys::NodeSecret;
use crate::crypto::x25519::{KEY_LEN, PrivateKey};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use blake2::{Blake2s256, Digest as _};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice, KemChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Kem, Random};
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

const CIPHER_KEY_LEN: usize = 32;
const TAG_LEN: usize = 16;

/// Holds the ephemeral X25519 key between the caller, who draws it, and `snow`, which takes it when it writes its message.
#[derive(Clone, Default)]
pub(crate) struct EphemeralSlot(Arc<Mutex<Option<Secret32>>>);

impl EphemeralSlot {
    /// Puts the key for the message about to be written.
    pub(crate) fn put(&self, key: Secret32) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }
}

impl Random for EphemeralSlot {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        let key = self.0.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(Error::Rng)?;
        let out: &mut [u8; KEY_LEN] = out.try_into().map_err(|_| Error::Rng)?;
        *out = *key;
        Ok(())
    }
}

/// What this side does with ML-KEM.
#[derive(Clone)]
pub(crate) enum KemRole {
    /// The initiator sends the public half of this pair and decapsulates.
    Decapsulate(Arc<KeyPair>),
    /// The responder encapsulates to what it received.
    Encapsulate,
    /// A responder that repeats a recorded transcript.
    #[cfg(test)]
    Recorded {
        /// The ciphertext it sent.
        ciphertext: Vec<u8>,
        /// The secret inside.
        shared: [u8; kem::SHARED_LEN],
    },
}

/// Primitives for one handshake.
pub(crate) struct Resolver {
    /// The static key that the handshake will set.
    pub(crate) local: NodeSecret,
    /// Where the ephemeral key comes from.
    pub(crate) ephemeral: EphemeralSlot,
    /// The KEM's part.
    pub(crate) kem: KemRole,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(self.ephemeral.clone()))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519 { local: self.local.clone(), key: None })),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::Blake2s => Some(Box::new(Blake2s::default())),
            HashChoice::Blake2b | HashChoice::SHA256 | HashChoice::SHA512 => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(ChaChaPoly::default())),
            CipherChoice::AESGCM => None,
        }
    }

    fn resolve_kem(&self, choice: &KemChoice) -> Option<Box<dyn Kem>> {
        match choice {
            KemChoice::Kyber1024 => Some(Box::new(MlKem768(self.kem.clone()))),
        }
    }
}

struct X25519 {
    local: NodeSecret,
    key: Option<Arc<PrivateKey>>,
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, private: &[u8]) {
        let local = self.local.exchange();
        self.key = if bool::from(local.bytes().as_slice().ct_eq(private)) {
            Some(Arc::clone(local))
        } else {
            private.first_chunk().map(|bytes| Arc::new(PrivateKey::new(Zeroizing::new(*bytes))))
        };
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        rng.try_fill_bytes(bytes.as_mut_slice())?;
        self.key = Some(Arc::new(PrivateKey::new(bytes)));
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.key.as_ref().map_or(&[], |key| key.public())
    }

    fn privkey(&self) -> &[u8] {
        self.key.as_ref().map_or(&[], |key| key.bytes().as_slice())
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let key = self.key.as_ref().ok_or(Error::Dh)?;
        // `snow` passes its whole buffer, made for longer curves; the key is in front.
        let public = public.first_chunk().ok_or(Error::Dh)?;
        let out = out.first_chunk_mut::<KEY_LEN>().ok_or(Error::Dh)?;
        *out = *key.agree(public).map_err(|_| Error::Dh)?;
        Ok(())
    }
}

#[derive(Default)]
struct ChaChaPoly(Option<LessSafeKey>);

/// Noise §12.3: 32 zero bits, then the counter in little-endian order.
fn noise_nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    for (to, from) in nonce.iter_mut().skip(4).zip(counter.to_le_bytes()) {
        *to = from;
    }
    Nonce::assume_unique_for_key(nonce)
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; CIPHER_KEY_LEN]) {
        // Any 32 bytes are a key; without one, sealing below stops and opening fails.
        self.0 = UnboundKey::new(&CHACHA20_POLY1305, key).ok().map(LessSafeKey::new);
    }

    fn encrypt(&self, counter: u64, associated: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let sealed_len = plaintext.len() + TAG_LEN;
        let (ciphertext, tag) = out
            .get_mut(..sealed_len)
            .and_then(|sealed| sealed.split_at_mut_checked(plaintext.len()))
            .expect("handshake::noise gives buffers that hold every field of the message and its tags");
        let key = self.0.as_ref().expect("snow sets the key before it seals");
        key.seal_out_of_place_scatter(
            noise_nonce(counter),
            Aad::from(associated),
            plaintext,
            ciphertext,
            &[],
            tag,
        )
        .expect("sealing fails only for wrong lengths, and those are set above");
        sealed_len
    }

    fn decrypt(
        &self,
        counter: u64,
        associated: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let key = self.0.as_ref().ok_or(Error::Decrypt)?;
        let (ciphertext, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or(Error::Decrypt)?;
        let out = out.get_mut(..ciphertext.len()).ok_or(Error::Decrypt)?;
        key.open_separate_gather(noise_nonce(counter), Aad::from(associated), ciphertext, tag, out)
            .map_err(|_| Error::Decrypt)?;
        Ok(ciphertext.len())
    }
}

/// RFC 7693, 32-byte digests and no key; HMAC and HKDF over it are `snow`'s (Noise §4.3).
#[derive(Default)]
struct Blake2s(Blake2s256);

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Blake2s256::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        // `snow` passes buffers made for 64-byte digests; ours goes in front.
        for (to, from) in out.iter_mut().zip(self.0.finalize_reset()) {
            *to = from;
        }
    }
}

struct MlKem768(KemRole);

impl Kem for MlKem768 {
    fn name(&self) -> &'static str {
        "MLKEM768"
    }

    fn pub_len(&self) -> usize {
        kem::PUBLIC_LEN
    }

    fn ciphertext_len(&self) -> usize {
        kem::CIPHERTEXT_LEN
    }

    fn shared_secret_len(&self) -> usize {
        kem::SHARED_LEN
    }

    fn generate(&mut self, _: &mut dyn Random) {
        // Made before the handshake; see the module page.
    }

    fn pubkey(&self) -> &[u8] {
        match &self.0 {
            KemRole::Decapsulate(pair) => pair.public(),
            KemRole::Encapsulate => &[],
            #[cfg(test)]
            KemRole::Recorded { .. } => &[],
        }
    }

    fn encapsulate(
        &self,
        public: &[u8],
        shared: &mut [u8],
        sealed: &mut [u8],
    ) -> Result<(usize, usize), Error> {
        match &self.0 {
            KemRole::Decapsulate(_) => return Err(Error::Kem),
            KemRole::Encapsulate => {
                let (ciphertext, secret) = kem::encapsulate(public).map_err(|_| Error::Kem)?;
                *shared.first_chunk_mut().ok_or(Error::Kem)? = *secret;
                *sealed.first_chunk_mut().ok_or(Error::Kem)? = *ciphertext;
            }
            #[cfg(test)]
            KemRole::Recorded { ciphertext, shared: secret } => {
                shared.copy_from_slice(secret);
                sealed.copy_from_slice(ciphertext);
            }
        }
        Ok((kem::SHARED_LEN, kem::CIPHERTEXT_LEN))
    }

    fn decapsulate(&self, ciphertext: &[u8], shared: &mut [u8]) -> Result<usize, Error> {
        let KemRole::Decapsulate(pair) = &self.0 else {
            return Err(Error::Kem);
        };
        *shared.first_chunk_mut().ok_or(Error::Kem)? =
            *pair.decapsulate(ciphertext).map_err(|_| Error::Kem)?;
        Ok(kem::SHARED_LEN)
    }
}
