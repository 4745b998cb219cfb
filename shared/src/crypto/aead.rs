//! The two ciphers that seal packets: ChaCha20-Poly1305 (RFC 8439) and AES-256-GCM (NIST SP 800-38D), both from aws-lc.
//!
//! A packet's nonce is 4 zero bytes and its counter, big-endian (protocol §5); its associated data is the 16-byte clear
//! header. A key must never seal two packets with one counter: [`crate::session`] owns the counters and is the only
//! caller that seals transport packets.
//!
//! # Performance
//!
//! Nothing here allocates or locks. [`AeadKey::seal_to`] runs the cipher from the caller's buffer into the packet, which is
//! the one copy a frame needs (a TAP buffer has room before the frame, so metadata and frame are one slice).
//! [`AeadKey::seal_in_place`] is for a caller whose frame lies without such room. [`AeadKey::open_in_place`] passes
//! ciphertext and tag apart, which spares aws-lc's `open_within` a `memmove` of the plaintext onto itself. The key schedule
//! is made once, in [`AeadKey::new`].
//!
//! # Secrets
//!
//! An [`AeadKey`] lives on aws-lc's heap and is overwritten there when dropped: `EVP_AEAD_CTX_free` ends in `OPENSSL_free`,
//! which cleanses what it frees (aws-lc `crypto/mem.c`). No copy of the key stays in Rust memory; the bytes passed to
//! [`AeadKey::new`] belong to the caller. When a packet does not open, aws-lc zeroes the buffer, so unauthenticated
//! plaintext is never seen.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

/// Bytes of a key of either cipher.
pub const KEY_LEN: usize = 32;
/// Bytes of the tag that either cipher appends.
pub const TAG_LEN: usize = 16;
/// Bytes of the clear header that is associated data (protocol §5).
pub const AAD_LEN: usize = 16;

/// A cipher; the number is its bit on the wire and its byte in key derivation (protocol §4.3, §4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cipher {
    /// ChaCha20-Poly1305 (RFC 8439): fast everywhere.
    ChaCha20Poly1305 = 1,
    /// AES-256-GCM: faster where the processor has AES instructions, slow and no option elsewhere.
    Aes256Gcm = 2,
}

impl Cipher {
    /// The cipher that `bit` names alone.
    pub const fn from_bit(bit: u8) -> Option<Self> {
        match bit {
            1 => Some(Self::ChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    /// Its bit on the wire.
    pub const fn bit(self) -> u8 {
        self as u8
    }

    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
            Self::Aes256Gcm => "AES-256-GCM",
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }
}

/// A set of ciphers: what a node offers (protocol §4.3). Bits that a later version may define are kept but never chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CipherSet(u8);

impl CipherSet {
    /// Every cipher of version 1.
    pub const ALL: Self = Self(Cipher::ChaCha20Poly1305 as u8 | Cipher::Aes256Gcm as u8);

    /// Reads the bits of a payload.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits to send.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of `cipher` alone.
    pub const fn only(cipher: Cipher) -> Self {
        Self(cipher.bit())
    }

    /// This set and `cipher`.
    #[must_use]
    pub const fn with(self, cipher: Cipher) -> Self {
        Self(self.0 | cipher.bit())
    }

    /// Whether `cipher` is in it.
    pub const fn contains(self, cipher: Cipher) -> bool {
        self.0 & cipher.bit() != 0
    }

    /// What a node on this processor should offer: ChaCha20-Poly1305, and AES-256-GCM where AES and carry-less
    /// multiplication are instructions (without them aws-lc's AES is several times slower than ChaCha20).
    pub fn for_this_processor() -> Self {
        let base = Self::only(Cipher::ChaCha20Poly1305);
        if has_aes_instructions() {
            base.with(Cipher::Aes256Gcm)
        } else {
            base
        }
    }

    /// The one cipher for two ends that offer `self` and `other`, the same whichever end asks: AES-256-GCM where both
    /// have it, else ChaCha20-Poly1305; `None` when they share neither (protocol §4.3).
    pub const fn choose(self, other: Self) -> Option<Cipher> {
        let both = Self(self.0 & other.0);
        if both.contains(Cipher::Aes256Gcm) {
            Some(Cipher::Aes256Gcm)
        } else if both.contains(Cipher::ChaCha20Poly1305) {
            Some(Cipher::ChaCha20Poly1305)
        } else {
            None
        }
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn has_aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
}

/// Why a packet was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AeadError {
    /// Input and output do not fit each other, or the input is longer than the cipher allows. A caller's mistake.
    #[error("the buffer for a sealed packet has the wrong length")]
    Length,
    /// The tag does not match: wrong key, wrong counter or altered bytes.
    #[error("the packet does not open under this key")]
    Forged,
}

/// A key of one cipher, ready for use in either direction.
pub struct AeadKey {
    key: LessSafeKey,
    cipher: Cipher,
}

impl std::fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AeadKey")
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

impl AeadKey {
    /// Expands `key` for `cipher`.
    pub fn new(cipher: Cipher, key: &[u8; KEY_LEN]) -> Self {
        let unbound = UnboundKey::new(cipher.algorithm(), key)
            // Both algorithms take exactly 32 bytes, which the type of `key` guarantees; what remains is an aws-lc that
            // cannot allocate, where Rust's own allocator would abort as well.
            .expect("both ciphers take a 32-byte key");
        Self {
            key: LessSafeKey::new(unbound),
            cipher,
        }
    }

    /// Its cipher.
    pub const fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// Seals `plaintext` into `out`, which must be [`TAG_LEN`] longer, with `header` as associated data.
    ///
    /// # Errors
    /// `Length` when `out` does not fit `plaintext`.
    pub fn seal_to(
        &self,
        counter: u64,
        header: &[u8; AAD_LEN],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<(), AeadError> {
        let (ciphertext, tag) = out
            .split_at_mut_checked(plaintext.len())
            .ok_or(AeadError::Length)?;
        self.key
            .seal_out_of_place_scatter(nonce(counter), Aad::from(header), plaintext, ciphertext, &[], tag)
            .map_err(|_| AeadError::Length)
    }

    /// Seals what lies in `buffer` before its last [`TAG_LEN`] bytes, where the tag goes.
    ///
    /// # Errors
    /// `Length` when `buffer` is shorter than a tag.
    pub fn seal_in_place(
        &self,
        counter: u64,
        header: &[u8; AAD_LEN],
        buffer: &mut [u8],
    ) -> Result<(), AeadError> {
        let (text, tag) = buffer
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(AeadError::Length)?;
        self.key
            .seal_in_place_scatter(nonce(counter), Aad::from(header), text, &[], tag)
            .map_err(|_| AeadError::Length)
    }

    /// Opens `sealed` (ciphertext and tag) where it lies and gives the plaintext, which starts where `sealed` does.
    ///
    /// # Errors
    /// `Length` when shorter than a tag; `Forged` when it does not open: the ciphertext is then overwritten with zeros.
    pub fn open_in_place<'a>(
        &self,
        counter: u64,
        header: &[u8; AAD_LEN],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], AeadError> {
        let (text, tag) = sealed
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(AeadError::Length)?;
        self.key
            .open_in_place_separate_tag(nonce(counter), Aad::from(header), tag, text)
            .map_err(|_| AeadError::Forged)
    }
}

/// 4 zero bytes, then the counter, big-endian (protocol §5).
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    if let Some(tail) = bytes.last_chunk_mut::<8>() {
        *tail = counter.to_be_bytes();
    }
    Nonce::assume_unique_for_key(bytes)
}
