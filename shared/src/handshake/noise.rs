//! One Noise handshake of the two patterns the protocol uses, on top of `snow`.
//!
//! ```text
//! IKhfs+psk0   <- s
//!              ...
//!              -> psk, e, es, e1, s, ss      32 + (1184+16) + (32+16) + payload+16 = 1296 + payload
//!              <- e, ee, ekem1, se           32 + (1088+16) + payload+16           = 1152 + payload
//! ```
//!
//! The link handshake is the same without `psk`. The key of `e1` is a fresh ML-KEM-768 key, `ekem1` its ciphertext; `hfs` is
//! the Noise extension for hybrid forward secrecy, whose tokens are sealed under what came before them.
//!
//! `snow` can only parse the KEM name Kyber1024: the pattern is parsed with it and given its true name afterwards, which is
//! what enters the handshake hash.

use crate::crypto::kdf::Secret32;
use crate::crypto::keys::{NodeSecret, Split};
use crate::crypto::resolver::{EphemeralSlot, KemRole, Resolver};
use crate::handshake::HandshakeError;
use snow::params::NoiseParams;
use snow::{Builder, HandshakeState};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of message 1 beside its payload.
pub const MESSAGE_1_LEN: usize = 1296;
/// Bytes of message 2 beside its payload.
pub const MESSAGE_2_LEN: usize = 1152;

/// A pattern: the name that is hashed, and the name `snow` parses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pattern {
    name: &'static str,
    parsed_as: &'static str,
}

/// The name of the handshake between peers (protocol §4), as it is hashed into each: there is no other.
pub const PEER_PATTERN: &str = "Noise_IKhfs+psk0_25519+MLKEM768_ChaChaPoly_BLAKE2s";

/// Between peers (protocol §4).
pub(super) const PEER: Pattern =
    Pattern { name: PEER_PATTERN, parsed_as: "Noise_IKhfs+psk0_25519+Kyber1024_ChaChaPoly_BLAKE2s" };

/// Between client and relay (protocol §3.1).
pub(super) const LINK: Pattern = Pattern {
    name: "Noise_IKhfs_25519+MLKEM768_ChaChaPoly_BLAKE2s",
    parsed_as: "Noise_IKhfs_25519+Kyber1024_ChaChaPoly_BLAKE2s",
};

/// Which side of the handshake, with what only that side knows.
#[derive(Clone, Copy)]
pub(super) enum Role<'a> {
    /// Knows whom it calls.
    Initiator { remote: &'a [u8; 32] },
    /// Learns who calls.
    Responder,
}

/// Everything a handshake starts from.
pub(super) struct Setup<'a> {
    pub(super) pattern: Pattern,
    pub(super) role: Role<'a>,
    pub(super) local: &'a NodeSecret,
    pub(super) psk: Option<&'a Secret32>,
    pub(super) prologue: &'a [u8],
    pub(super) kem: KemRole,
}

/// A handshake under way.
pub(super) struct Noise {
    state: HandshakeState,
    ephemeral: EphemeralSlot,
}

impl Noise {
    /// Starts one.
    pub(super) fn new(setup: Setup<'_>) -> Result<Self, HandshakeError> {
        let mut params: NoiseParams = setup.pattern.parsed_as.parse()?;
        params.name = setup.pattern.name.to_owned();
        let ephemeral = EphemeralSlot::default();
        let resolver = Resolver { local: setup.local.clone(), ephemeral: ephemeral.clone(), kem: setup.kem };
        let private = setup.local.to_bytes();
        let mut builder = Builder::with_resolver(params, Box::new(resolver))
            .local_private_key(private.as_slice())?
            .prologue(setup.prologue)?;
        if let Some(psk) = setup.psk {
            builder = builder.psk(0, psk)?;
        }
        let state = match setup.role {
            Role::Initiator { remote } => builder.remote_public_key(remote)?.build_initiator()?,
            Role::Responder => builder.build_responder()?,
        };
        Ok(Self { state, ephemeral })
    }

    /// Writes this side's one message; `fixed_len` is its length beside the payload.
    pub(super) fn write(
        &mut self,
        ephemeral: Secret32,
        fixed_len: usize,
        payload: &[u8],
    ) -> Result<Vec<u8>, HandshakeError> {
        self.ephemeral.put(ephemeral);
        let mut message = vec![0; fixed_len + payload.len()];
        let written = self.state.write_message(payload, &mut message)?;
        message.truncate(written);
        Ok(message)
    }

    /// Reads the other side's one message and gives its payload. After an error the next message is read as if this one had
    /// not come: `snow` puts the transcript back, and every key in it is derived anew.
    pub(super) fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut payload = vec![0; message.len()];
        let read = self.state.read_message(message, &mut payload)?;
        payload.truncate(read);
        Ok(payload)
    }

    /// The other side's static key, once known.
    pub(super) fn remote(&self) -> Option<[u8; 32]> {
        self.state.get_remote_static()?.first_chunk().copied()
    }

    /// The hash of the whole transcript.
    pub(super) fn hash(&self) -> Result<[u8; 32], HandshakeError> {
        let hash = self.state.get_handshake_hash().first_chunk().copied();
        hash.ok_or(HandshakeError::Internal("the handshake hash is short"))
    }

    /// The two keys at the end, only once both messages have passed.
    pub(super) fn split(&mut self) -> Result<Split, HandshakeError> {
        if !self.state.is_handshake_finished() {
            return Err(HandshakeError::Internal("keys asked of an unfinished handshake"));
        }
        let (k_i, k_r) = self.state.dangerously_get_raw_split();
        Ok(Split { k_i: Zeroizing::new(k_i), k_r: Zeroizing::new(k_r) })
    }
}

impl fmt::Debug for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Noise(..)")
    }
}

impl From<snow::Error> for HandshakeError {
    fn from(error: snow::Error) -> Self {
        match error {
            snow::Error::Decrypt => Self::Authentication,
            snow::Error::Dh => Self::SmallOrder,
            snow::Error::Kem => Self::Kem,
            snow::Error::Input => Self::Length,
            snow::Error::Rng => Self::Internal("no ephemeral key was given"),
            snow::Error::State(_) => Self::Spent,
            snow::Error::Pattern(_) | snow::Error::Init(_) | snow::Error::Prereq(_) | _ => {
                Self::Internal("the Noise library refused its parameters")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_only_in_the_kem_and_both_parse() {
        for pattern in [PEER, LINK] {
            assert_eq!(pattern.parsed_as.replace("Kyber1024", "MLKEM768"), pattern.name);
            assert!(pattern.parsed_as.parse::<NoiseParams>().is_ok());
        }
    }

    #[test]
    fn lengths_are_the_sum_of_the_fields() {
        use crate::crypto::{aead, kem, x25519};
        let sealed = |len: usize| len + aead::TAG_LEN;
        assert_eq!(
            MESSAGE_1_LEN,
            x25519::KEY_LEN + sealed(kem::PUBLIC_LEN) + sealed(x25519::KEY_LEN) + sealed(0)
        );
        assert_eq!(MESSAGE_2_LEN, x25519::KEY_LEN + sealed(kem::CIPHERTEXT_LEN) + sealed(0));
    }
}
