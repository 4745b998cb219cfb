//! The secrets people own, and the keys that come out of them and of a handshake.
//!
//! - [`NodeSecret`] is a node (or a relay): its X25519 key. It never leaves the machine.
//! - [`NetworkSecret`] is a network: whoever has it is a member. [`NetworkSecret::derive`] gives [`NetworkKeys`], the only
//!   form in which it is used; the relay sees the public signing key and nothing else of it (protocol §1.2).
//! - [`SessionKeys`] are what a finished peer handshake leaves: per direction one key for data and one for control, so that
//!   the two can be owned by different threads (protocol §4.6).
//!
//! All are wiped when dropped and print only what they are.

use crate::crypto::aead::Cipher;
use crate::crypto::kdf::{self, Secret32};
use crate::crypto::{labels, x25519};
use crate::ids::{NetworkId, NodeId};
use crate::rng::Rng;
use crate::version::Versions;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Bytes of mac1 (protocol §4.4).
pub const MAC1_LEN: usize = 16;
/// Bytes of an Ed25519 public key.
pub const SIGN_PUBLIC_LEN: usize = 32;
/// Bytes of an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;

/// A node's or relay's own key (protocol §1.1, §1.3). Cloning shares it.
#[derive(Clone)]
pub struct NodeSecret(Arc<x25519::PrivateKey>);

impl NodeSecret {
    /// A new identity.
    pub fn generate(rng: &mut dyn Rng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill(bytes.as_mut_slice());
        Self::from_bytes(bytes)
    }

    /// The identity that was stored as `bytes`.
    pub fn from_bytes(bytes: Secret32) -> Self {
        Self(Arc::new(x25519::PrivateKey::new(bytes)))
    }

    /// An identity that shows `public` for its key.
    #[cfg(test)]
    pub(crate) fn with_false_public(bytes: Secret32, public: [u8; 32]) -> Self {
        Self(Arc::new(x25519::PrivateKey::with_false_public(bytes, public)))
    }

    /// What to store. Keep it in a file only its owner reads.
    pub fn to_bytes(&self) -> Secret32 {
        self.0.bytes().clone()
    }

    /// The public name of this identity.
    pub fn public(&self) -> NodeId {
        NodeId(*self.0.public())
    }

    /// The key itself, for the handshake.
    pub(crate) const fn exchange(&self) -> &Arc<x25519::PrivateKey> {
        &self.0
    }
}

impl fmt::Debug for NodeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeSecret(of {})", self.public().short())
    }
}

/// A network's secret and how often it was rotated (protocol §1.2).
#[derive(Clone)]
pub struct NetworkSecret {
    bytes: Secret32,
    generation: u32,
}

impl NetworkSecret {
    /// A new network, generation 0.
    pub fn generate(rng: &mut dyn Rng) -> Self {
        Self::draw(0, rng)
    }

    /// A secret that has nothing in common with those of other generations.
    pub fn draw(generation: u32, rng: &mut dyn Rng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill(bytes.as_mut_slice());
        Self { bytes, generation }
    }

    /// The secret that a ticket or a file holds.
    pub const fn from_bytes(bytes: Secret32, generation: u32) -> Self {
        Self { bytes, generation }
    }

    /// What a ticket or a file has to hold, beside [`Self::generation`].
    pub fn to_bytes(&self) -> Secret32 {
        self.bytes.clone()
    }

    /// How often the secret was rotated.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Everything the protocol uses of this secret (protocol §1.2).
    pub fn derive(&self) -> NetworkKeys {
        let generation = self.generation.to_be_bytes();
        let key = |label| kdf::hkdf(labels::NETWORK_SALT, self.bytes.as_slice(), &[label, &generation]);
        let signer = Ed25519KeyPair::from_seed_unchecked(key(labels::NETWORK_SIGN).as_slice())
            .expect("32 bytes are always an Ed25519 seed (RFC 8032 §5.1.5)");
        NetworkKeys {
            id: network_id(signer.public_key().as_ref()),
            generation: self.generation,
            psk: key(labels::NETWORK_PSK),
            mac1: key(labels::NETWORK_MAC1),
            signer: Arc::new(signer),
        }
    }
}

impl fmt::Debug for NetworkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkSecret(generation {})", self.generation)
    }
}

/// What a member uses of the network secret.
#[derive(Clone)]
pub struct NetworkKeys {
    id: NetworkId,
    generation: u32,
    psk: Secret32,
    mac1: Secret32,
    signer: Arc<Ed25519KeyPair>,
}

impl NetworkKeys {
    /// The network's name at a relay.
    pub const fn id(&self) -> NetworkId {
        self.id
    }

    /// Which generation of the secret these came from.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// The pre-shared key of the peer handshake (protocol §4).
    pub(crate) const fn psk(&self) -> &Secret32 {
        &self.psk
    }

    /// mac1 over `covered` (protocol §4.4).
    pub(crate) fn mac1(&self, covered: &[u8]) -> [u8; MAC1_LEN] {
        let full = kdf::mac(self.mac1.as_slice(), &[covered]);
        let mut mac = [0; MAC1_LEN];
        for (to, from) in mac.iter_mut().zip(full.iter()) {
            *to = *from;
        }
        mac
    }

    /// Whether `mac` is mac1 over `covered`, in constant time.
    pub(crate) fn is_mac1(&self, covered: &[u8], mac: &[u8; MAC1_LEN]) -> bool {
        self.mac1(covered).ct_eq(mac).into()
    }

    /// The public key whose hash is the network id, and its signature that binds `node` to the link whose handshake hash is
    /// `link_hash` (protocol §3.3, REGISTER).
    pub fn sign_register(
        &self,
        link_hash: &[u8; 32],
        node: &NodeId,
    ) -> ([u8; SIGN_PUBLIC_LEN], [u8; SIGNATURE_LEN]) {
        let signed = self.signer.sign(&register_message(&self.id, link_hash, node));
        let public = self.signer.public_key().as_ref().first_chunk().copied();
        let signature = signed.as_ref().first_chunk().copied();
        (
            public.expect("an Ed25519 public key is 32 bytes (RFC 8032 §5.1.5)"),
            signature.expect("an Ed25519 signature is 64 bytes (RFC 8032 §5.1.6)"),
        )
    }
}

impl fmt::Debug for NetworkKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkKeys({:?}, generation {})", self.id, self.generation)
    }
}

/// A registration that proves no membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The public key is not the one the network is named after.
    #[error("the network's public key does not belong to its id")]
    PublicKey,
    /// The signature is not by that key, or for another link, network or node.
    #[error("the registration is not signed with the network's key")]
    Signature,
}

/// The relay's check of a REGISTER that arrived from `node` on the link with `link_hash` (protocol §3.4).
///
/// # Errors
/// [`RegisterError`] says which of the two proofs failed.
pub fn verify_register(
    network: &NetworkId,
    public: &[u8; SIGN_PUBLIC_LEN],
    signature: &[u8; SIGNATURE_LEN],
    link_hash: &[u8; 32],
    node: &NodeId,
) -> Result<(), RegisterError> {
    if network_id(public) != *network {
        return Err(RegisterError::PublicKey);
    }
    UnparsedPublicKey::new(&ED25519, public)
        .verify(&register_message(network, link_hash, node), signature)
        .map_err(|_| RegisterError::Signature)
}

fn network_id(public: &[u8]) -> NetworkId {
    NetworkId(kdf::sha256(&[labels::NETWORK_ID, public]))
}

fn register_message(network: &NetworkId, link_hash: &[u8; 32], node: &NodeId) -> Vec<u8> {
    [labels::REGISTER, link_hash, network.as_bytes(), node.as_bytes()].concat()
}

/// The keys of one direction of a session.
#[derive(Clone)]
pub struct DirectionKeys {
    /// Seals Ethernet frames.
    pub data: Secret32,
    /// Seals control bodies.
    pub control: Secret32,
}

impl DirectionKeys {
    /// The two keys of one of Noise's split outputs (protocol §4.6).
    fn derive(split: &Secret32, cipher: Cipher, version: u8) -> Self {
        let key = |label| session_key(split, label, cipher, version);
        Self { data: key(labels::SESSION_DATA), control: key(labels::SESSION_CONTROL) }
    }
}

impl fmt::Debug for DirectionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirectionKeys(..)")
    }
}

/// What a peer handshake leaves to seal and open with.
#[derive(Debug, Clone)]
pub struct SessionKeys {
    /// The cipher all four keys are for.
    pub cipher: Cipher,
    /// What this side seals with.
    pub send: DirectionKeys,
    /// What this side opens with.
    pub recv: DirectionKeys,
}

impl SessionKeys {
    /// From Noise's split outputs: `k_i` from initiator to responder, `k_r` back (protocol §4.6).
    pub(crate) fn from_split(cipher: Cipher, version: u8, split: &Split, initiator: bool) -> Self {
        let k_i = DirectionKeys::derive(&split.k_i, cipher, version);
        let k_r = DirectionKeys::derive(&split.k_r, cipher, version);
        let (send, recv) = if initiator { (k_i, k_r) } else { (k_r, k_i) };
        Self { cipher, send, recv }
    }
}

/// What a client–relay handshake leaves (protocol §3.2). The cipher is always ChaCha20-Poly1305.
#[derive(Clone)]
pub struct LinkKeys {
    /// What this side seals CONTROL with.
    pub send: Secret32,
    /// What this side opens CONTROL with.
    pub recv: Secret32,
    /// The handshake hash: names this link and no other, and is what a registration signs.
    pub hash: [u8; 32],
}

impl LinkKeys {
    /// From Noise's split outputs, as [`SessionKeys::from_split`].
    pub(crate) fn from_split(split: &Split, hash: [u8; 32], initiator: bool) -> Self {
        // The version is agreed on under these keys, by REGISTER and its answer.
        let key = |half| {
            session_key(half, labels::SESSION_LINK, Cipher::ChaCha20Poly1305, Versions::FIRST.newest())
        };
        let (k_i, k_r) = (key(&split.k_i), key(&split.k_r));
        let (send, recv) = if initiator { (k_i, k_r) } else { (k_r, k_i) };
        Self { send, recv, hash }
    }
}

impl fmt::Debug for LinkKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKeys(..)")
    }
}

/// Noise's two outputs.
pub(crate) struct Split {
    /// Initiator to responder.
    pub(crate) k_i: Secret32,
    /// Responder to initiator.
    pub(crate) k_r: Secret32,
}

/// The version is named from the second on: the first knew of no other.
fn session_key(split: &Secret32, label: &[u8], cipher: Cipher, version: u8) -> Secret32 {
    let number = [version];
    let named = if version == Versions::FIRST.newest() { &[][..] } else { &number };
    kdf::hkdf(labels::SESSION_SALT, split.as_slice(), &[label, &[cipher.bit()], named])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sides that think of different versions cannot talk, and the first has the keys that it always had.
    #[test]
    fn each_version_has_keys_of_its_own() {
        let split = Zeroizing::new([7; 32]);
        let cipher = Cipher::Aes256Gcm;
        let key = |version| session_key(&split, labels::SESSION_DATA, cipher, version);
        let unnamed =
            kdf::hkdf(labels::SESSION_SALT, split.as_slice(), &[labels::SESSION_DATA, &[cipher.bit()]]);
        assert_eq!(key(1), unnamed);
        let all: std::collections::HashSet<[u8; 32]> = (1..=u8::MAX).map(|version| *key(version)).collect();
        assert_eq!(all.len(), 255);
    }
}
