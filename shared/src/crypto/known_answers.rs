//! Key and address derivation against `tests/vectors/derivation.json`, which an independent implementation made
//! (`tests/vectors/generate.py`), and the reading of such files.

use crate::addresses;
use crate::crypto::kdf::Secret32;
use crate::crypto::keys::{NetworkKeys, NetworkSecret, NodeSecret, RegisterError, verify_register};
use crate::ids::{MacAddr, NetworkId, NodeId};
use data_encoding::HEXLOWER;
use serde_json::Value;
use zeroize::Zeroizing;

/// The content of a file of vectors.
pub(crate) fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The bytes of a field in hexadecimal.
pub(crate) fn bytes(case: &Value, field: &str) -> Vec<u8> {
    let text = case[field].as_str().unwrap_or_else(|| panic!("{field} is missing"));
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// The same, of known length.
pub(crate) fn array<const N: usize>(case: &Value, field: &str) -> [u8; N] {
    bytes(case, field).try_into().unwrap_or_else(|_| panic!("{field} is not {N} bytes"))
}

/// A secret.
pub(crate) fn secret(case: &Value, field: &str) -> Secret32 {
    Zeroizing::new(array(case, field))
}

/// A number.
pub(crate) fn number(case: &Value, field: &str) -> u32 {
    case[field]
        .as_u64()
        .and_then(|number| number.try_into().ok())
        .unwrap_or_else(|| panic!("{field} is no u32"))
}

fn cases() -> Vec<Value> {
    let cases = read(include_str!("../../tests/vectors/derivation.json"));
    let cases = cases.as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn network(case: &Value) -> NetworkKeys {
    NetworkSecret::from_bytes(secret(case, "network_secret"), number(case, "generation")).derive()
}

#[test]
fn network_keys() {
    for case in cases() {
        let keys = network(&case);
        assert_eq!(keys.id(), NetworkId(array(&case, "network_id")));
        assert_eq!(keys.generation(), number(&case, "generation"));
        assert_eq!(*keys.psk(), secret(&case, "psk"));
        assert_eq!(keys.mac1(b"abc"), array(&case, "mac1_of_abc"));
    }
}

#[test]
fn registration() {
    for case in cases() {
        let (id, link_hash) = (NetworkId(array(&case, "network_id")), array(&case, "link_hash"));
        let node = NodeId(array(&case, "node"));
        let (public, signature) = network(&case).sign_register(&link_hash, &node);
        assert_eq!(public, array(&case, "sign_public"));
        assert_eq!(signature, array(&case, "register_signature"));
        assert_eq!(verify_register(&id, &public, &signature, &link_hash, &node), Ok(()));
    }
}

#[test]
fn a_registration_is_good_for_one_network_link_and_node_only() {
    let case = &cases()[0];
    let (id, link_hash) = (NetworkId(array(case, "network_id")), array(case, "link_hash"));
    let (node, keys) = (NodeId(array(case, "node")), network(case));
    let (public, signature) = keys.sign_register(&link_hash, &node);
    let other = NetworkSecret::from_bytes(secret(case, "network_secret"), 99).derive();
    let (other_public, other_signature) = other.sign_register(&link_hash, &node);

    let signature_error = Err(RegisterError::Signature);
    assert_eq!(verify_register(&id, &public, &signature, &[0; 32], &node), signature_error);
    assert_eq!(verify_register(&id, &public, &signature, &link_hash, &NodeId([0; 32])), signature_error);
    assert_eq!(verify_register(&id, &public, &other_signature, &link_hash, &node), signature_error);
    let key_error = Err(RegisterError::PublicKey);
    assert_eq!(verify_register(&id, &other_public, &other_signature, &link_hash, &node), key_error);
    assert_eq!(verify_register(&other.id(), &public, &signature, &link_hash, &node), key_error);
    for at in 0..signature.len() * 8 {
        let mut flipped = signature;
        flipped[at / 8] ^= 1 << (at % 8);
        assert_eq!(verify_register(&id, &public, &flipped, &link_hash, &node), signature_error, "bit {at}");
    }
}

#[test]
fn addresses() {
    for case in cases() {
        let (network, node) =
            (network(&case).id().into(), NodeSecret::from_bytes(secret(&case, "node_secret")).public());
        assert_eq!(node, NodeId(array(&case, "node")));
        assert_eq!(addresses::mac(&node), MacAddr(array(&case, "mac")));
        assert_eq!(addresses::ipv6(&network, &node).octets(), array(&case, "ipv6"));
        for (attempt, expected) in case["ipv4"].as_array().unwrap().iter().enumerate() {
            let expected = HEXLOWER.decode(expected.as_str().unwrap().as_bytes()).unwrap();
            let address = addresses::ipv4(&network, &node, attempt.try_into().unwrap()).unwrap();
            assert_eq!(address.octets()[..], expected);
        }
    }
}

#[test]
fn nothing_secret_is_printed() {
    let case = &cases()[0];
    let secret = NetworkSecret::from_bytes(secret(case, "network_secret"), 0);
    let printed = format!("{secret:?} {:?} {:?}", secret.derive(), NodeSecret::from_bytes(secret.to_bytes()));
    for field in ["network_secret", "psk", "mac1_key", "sign_seed"] {
        assert!(!printed.contains(&case[field].as_str().unwrap()[..8]), "{field} in {printed}");
        assert!(!printed.contains(&format!("{:?}", bytes(case, field))[1..16]), "{field} in {printed}");
    }
}
