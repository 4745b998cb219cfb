//! Every domain separator of the protocol.
//!
//! A key or hash is bound to one purpose by exactly one of these strings. They never change within version 1, and none is a
//! prefix of another inside the same construction: HKDF infos are followed by fields of fixed length, hash labels by a zero
//! byte, signed and hashed strings by fields of fixed length.

/// HKDF salt for what comes out of a network secret (protocol §1.2).
pub const NETWORK_SALT: &[u8] = b"shadowmesh network v1";
/// HKDF info of the pre-shared key of the peer handshake (protocol §1.2).
pub const NETWORK_PSK: &[u8] = b"psk";
/// HKDF info of the key of mac1 (protocol §1.2).
pub const NETWORK_MAC1: &[u8] = b"mac1";
/// HKDF info of the seed of the registration signing key (protocol §1.2).
pub const NETWORK_SIGN: &[u8] = b"sign";
/// Prefix of the hash that makes a network id of the signing public key (protocol §1.2).
pub const NETWORK_ID: &[u8] = b"shadowmesh network id v1";

/// Prefix of the message a registration signs (protocol §3.3).
pub const REGISTER: &[u8] = b"shadowmesh register v1";

/// Noise prologue between client and relay (protocol §3.1).
pub const LINK_PROLOGUE: &[u8] = b"shadowmesh link v1";
/// First part of the Noise prologue between peers (protocol §4).
pub const PEER_PROLOGUE: &[u8] = b"shadowmesh peer v1";

/// HKDF salt for the keys that come out of a finished handshake (protocol §4.6).
pub const SESSION_SALT: &[u8] = b"shadowmesh session v1";
/// HKDF info of a key that seals Ethernet frames (protocol §4.6).
pub const SESSION_DATA: &[u8] = b"data";
/// HKDF info of a key that seals control bodies between peers (protocol §4.6).
pub const SESSION_CONTROL: &[u8] = b"control";
/// HKDF info of a key that seals control bodies between client and relay (protocol §3.2).
pub const SESSION_LINK: &[u8] = b"link";

/// Prefix of every labelled hash that derives an address (protocol §1.5).
pub const ADDRESS_PREFIX: &[u8] = b"shadowmesh ";
/// The device's Ethernet address (protocol §1.5).
pub const ADDRESS_MAC: &[u8] = b"mac";
/// Which 10.x network (protocol §1.5).
pub const ADDRESS_IPV4_NET: &[u8] = b"ipv4 net";
/// Which host in it (protocol §1.5).
pub const ADDRESS_IPV4_HOST: &[u8] = b"ipv4 host";
/// Which host of a block that an invite gives (protocol §8.4).
pub const ADDRESS_IPV4_BLOCK: &[u8] = b"ipv4 block";
/// Which unique local prefix (protocol §1.5).
pub const ADDRESS_IPV6_NET: &[u8] = b"ipv6 net";
/// Which interface identifier in it (protocol §1.5).
pub const ADDRESS_IPV6_HOST: &[u8] = b"ipv6 host";

/// HKDF salt for the two signing keys of an authority (protocol §8.1).
pub const AUTHORITY_SALT: &[u8] = b"shadowmesh authority v1";
/// HKDF info of the seed of its Ed25519 key (protocol §8.1).
pub const AUTHORITY_ED25519: &[u8] = b"ed25519";
/// HKDF info of the seed of its ML-DSA-65 key (protocol §8.1).
pub const AUTHORITY_ML_DSA_65: &[u8] = b"ml-dsa-65";
/// Prefix of the hash that names public keys and statements (protocol §8.1).
pub const BLOB: &[u8] = b"shadowmesh blob v1";
/// Prefix of what an authority signs (protocol §8.2).
pub const STATEMENT: &[u8] = b"shadowmesh statement v1";
/// Prefix of the hash that says with whom across the circle of keys a node keeps a session (protocol §4.10).
pub const ACROSS: &[u8] = b"shadowmesh across v1";
