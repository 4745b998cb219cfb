//! Keys, what is derived from them, and the primitives the handshake runs on.
//!
//! - [`labels`]: every domain separator of the protocol, in one file, so that two uses can be seen not to collide.
//! - [`kdf`]: HKDF-SHA-256 and the labelled hash, with 32-byte outputs only.
//! - [`keys`]: the secrets people own (node, network) and the keys that come out of them and of a handshake.
//! - [`kem`]: ML-KEM-768 (FIPS 203), key pairs and encapsulation.
//! - [`x25519`]: RFC 7748, with keys parsed once.
//! - `resolver`: gives `snow` X25519, ChaCha20-Poly1305 and ML-KEM-768 from aws-lc, BLAKE2s, and our randomness.
//! - [`aead`]: the ciphers that seal packets.
//!
//! Every primitive but BLAKE2s is aws-lc's. Secrets are zeroized when dropped, compare in constant time where they are
//! compared at all, and cannot be printed: their `Debug` says what they are, never what they hold.

pub mod aead;
pub mod kdf;
pub mod kem;
pub mod keys;
#[cfg(test)]
pub(crate) mod known_answers;
pub mod labels;
pub(crate) mod resolver;
pub mod x25519;
