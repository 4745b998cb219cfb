//! Recorded handshakes, repeated with their recorded keys. An independent implementation made them
//! (`tests/vectors/generate.py`), so agreement to the byte means that both follow the protocol and not only each other.

use crate::crypto::aead::{Cipher, CipherSet};
use crate::crypto::kem::KeyPair;
use crate::crypto::keys::{LinkKeys, NetworkKeys, NetworkSecret, NodeSecret, SessionKeys};
use crate::crypto::known_answers::{array, bytes, number, read, secret};
use crate::crypto::resolver::KemRole;
use crate::handshake::payload::Payload;
use crate::handshake::peer::{Initiator, Received, Responder};
use crate::handshake::{InitiatorKeys, link};
use crate::ids::{AssociationId, ReceiverIndex, RelayId};
use crate::rng::Rng;
use serde_json::Value;

/// Gives a recorded ephemeral key, once.
struct Recorded(Option<[u8; 32]>);

impl Rng for Recorded {
    fn fill(&mut self, out: &mut [u8]) {
        out.copy_from_slice(&self.0.take().expect("one ephemeral key is drawn"));
    }
}

fn node(case: &Value, side: &str) -> NodeSecret {
    NodeSecret::from_bytes(secret(case, &format!("{side}_secret")))
}

fn initiator_keys(case: &Value) -> InitiatorKeys {
    let kem = KeyPair::from_secret(&bytes(case, "kem_secret")).unwrap();
    InitiatorKeys { exchange: secret(case, "initiator_ephemeral"), kem }
}

fn responder_kem(case: &Value) -> KemRole {
    KemRole::Recorded { ciphertext: bytes(case, "kem_ciphertext"), shared: array(case, "kem_shared") }
}

fn peer_cases() -> Vec<Value> {
    let cases = read(include_str!("../../tests/vectors/peer_handshake.json"));
    let cases = cases.as_array().unwrap().clone();
    assert_eq!(cases.len(), 2, "one for each cipher");
    cases
}

fn network(case: &Value) -> NetworkKeys {
    NetworkSecret::from_bytes(secret(case, "network_secret"), number(case, "generation")).derive()
}

fn payload(case: &Value, field: &str) -> Payload {
    Payload::decode(&bytes(case, field)).unwrap()
}

fn begin(case: &Value) -> (Initiator, Vec<u8>) {
    let (local, remote) = (node(case, "initiator"), node(case, "responder").public());
    let (offer, index) = (payload(case, "offer"), ReceiverIndex(number(case, "initiator_index")));
    Initiator::begin_with(&local, &network(case), remote, &offer, index, initiator_keys(case)).unwrap()
}

fn receive(case: &Value) -> Received {
    let kem = responder_kem(case);
    Responder::read_with(&node(case, "responder"), &network(case), &bytes(case, "init"), kem).unwrap()
}

fn assert_session_keys(keys: &SessionKeys, case: &Value, initiator: bool) {
    let (send, recv) = if initiator { ("k_i", "k_r") } else { ("k_r", "k_i") };
    let cipher = Cipher::from_bit(number(case, "cipher").try_into().unwrap());
    assert_eq!(Some(keys.cipher), cipher);
    assert_eq!(keys.send.data, secret(case, &format!("{send}_data")));
    assert_eq!(keys.send.control, secret(case, &format!("{send}_control")));
    assert_eq!(keys.recv.data, secret(case, &format!("{recv}_data")));
    assert_eq!(keys.recv.control, secret(case, &format!("{recv}_control")));
}

#[test]
fn payloads_are_the_recorded_bytes() {
    for case in peer_cases() {
        for field in ["offer", "answer"] {
            assert_eq!(payload(&case, field).encode().unwrap(), bytes(&case, field));
        }
        let offer = payload(&case, "offer");
        assert_eq!((offer.ciphers, offer.mtu, offer.name.as_str()), (CipherSet::ALL, 1400, "alpha"));
        assert_eq!(
            (offer.association, offer.program.as_str()),
            (AssociationId(array(&case, "association")), "0.1.0")
        );
    }
}

#[test]
fn peer_initiator_writes_and_reads_the_recorded_packets() {
    for case in peer_cases() {
        let (initiator, init) = begin(&case);
        assert_eq!(init, bytes(&case, "init"));
        let completed = initiator.finish(&bytes(&case, "response")).unwrap();
        assert_eq!(completed.remote_index, ReceiverIndex(number(&case, "responder_index")));
        assert_eq!(completed.payload, payload(&case, "answer"));
        assert_session_keys(&completed.keys, &case, true);
    }
}

#[test]
fn peer_responder_reads_and_writes_the_recorded_packets() {
    for case in peer_cases() {
        let received = receive(&case);
        assert_eq!(received.remote(), node(&case, "initiator").public());
        assert_eq!(received.sender_index(), ReceiverIndex(number(&case, "initiator_index")));
        assert_eq!(*received.payload(), payload(&case, "offer"));
        let mut rng = Recorded(Some(array(&case, "responder_ephemeral")));
        let index = ReceiverIndex(number(&case, "responder_index"));
        let (response, completed) = received.respond(&payload(&case, "answer"), index, &mut rng).unwrap();
        assert_eq!(response, bytes(&case, "response"));
        assert_session_keys(&completed.keys, &case, false);
    }
}

fn link_case() -> Value {
    read(include_str!("../../tests/vectors/link_handshake.json"))
}

fn assert_link_keys(keys: &LinkKeys, case: &Value, send: &str, recv: &str) {
    assert_eq!(keys.send, secret(case, send));
    assert_eq!(keys.recv, secret(case, recv));
    assert_eq!(keys.hash, array(case, "hash"));
}

#[test]
fn link_initiator_writes_and_reads_the_recorded_messages() {
    let case = link_case();
    let relay = RelayId(*node(&case, "responder").public().as_bytes());
    let (initiator, message) =
        link::LinkInitiator::begin_with(&node(&case, "initiator"), &relay, initiator_keys(&case)).unwrap();
    assert_eq!(message, bytes(&case, "message_1"));
    let keys = initiator.finish(&bytes(&case, "message_2")).unwrap();
    assert_link_keys(&keys, &case, "k_i", "k_r");
}

#[test]
fn link_responder_reads_and_writes_the_recorded_messages() {
    let case = link_case();
    let mut rng = Recorded(Some(array(&case, "responder_ephemeral")));
    let (relay, message) = (node(&case, "responder"), bytes(&case, "message_1"));
    let (answer, client, keys) =
        link::respond_with(&relay, &message, responder_kem(&case), &mut rng).unwrap();
    assert_eq!(answer, bytes(&case, "message_2"));
    assert_eq!(client, node(&case, "initiator").public());
    assert_link_keys(&keys, &case, "k_r", "k_i");
}
