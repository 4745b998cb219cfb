//! Members that hold every key and break the rules: messages that no honest side of this program would write, made with its
//! inner parts.

use crate::crypto::aead::{Cipher, CipherSet};
use crate::crypto::kem::KeyPair;
use crate::crypto::keys::{NetworkKeys, NetworkSecret, NodeSecret};
use crate::crypto::labels;
use crate::crypto::resolver::KemRole;
use crate::handshake::noise::{LINK, MESSAGE_1_LEN, MESSAGE_2_LEN, Noise, PEER, Role, Setup};
use crate::handshake::payload::{KNOWS_REST, MAX_PAYLOAD, Payload, PayloadError};
use crate::handshake::peer::{Initiator, Responder};
use crate::handshake::{Fault, HandshakeError, draw, link};
use crate::ids::{AssociationId, ReceiverIndex, RelayId};
use crate::rng::{Rng, SeededRng};
use crate::version::{self, UNSAID, Versions};
use crate::wire::packet::{Init, Response};
use std::sync::Arc;

struct World {
    rng: SeededRng,
    a: NodeSecret,
    b: NodeSecret,
    network: NetworkKeys,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SeededRng::new(seed);
        let (a, b) = (NodeSecret::generate(&mut rng), NodeSecret::generate(&mut rng));
        let network = NetworkSecret::generate(&mut rng).derive();
        Self { rng, a, b, network }
    }

    fn noise(&self, local: &NodeSecret, role: Role<'_>, kem: KemRole) -> Noise {
        let generation = self.network.generation().to_be_bytes();
        let id = self.network.id();
        let prologue = [labels::PEER_PROLOGUE, &[1], id.as_bytes(), &generation].concat();
        let psk = Some(self.network.psk());
        Noise::new(Setup { pattern: PEER, role, local, psk, prologue: &prologue, kem }).unwrap()
    }

    fn seal(&self, mut packet: Vec<u8>) -> Vec<u8> {
        let mac = self.network.mac1(&packet);
        packet.extend_from_slice(&mac);
        packet
    }

    /// An INIT from `a` to `b` with these bytes for a payload.
    fn init(&mut self, payload: &[u8]) -> Vec<u8> {
        let remote = *self.b.public().as_bytes();
        let kem = KemRole::Decapsulate(Arc::new(KeyPair::generate().unwrap()));
        let mut noise = self.noise(&self.a, Role::Initiator { remote: &remote }, kem);
        let message = noise.write(draw(&mut self.rng), MESSAGE_1_LEN, payload).unwrap();
        self.seal(Init::write_without_mac(ReceiverIndex(1), &message))
    }

    /// What `a`, offering only ChaCha20-Poly1305, says to an answer from `b` with these bytes for a payload.
    fn answered_with(&mut self, payload: &[u8]) -> (Initiator, HandshakeError) {
        self.answered(&honest(CipherSet::only(Cipher::ChaCha20Poly1305)), payload)
    }

    /// What `a` says to an answer from `b` with these bytes for a payload.
    fn answered(&mut self, offer: &Payload, payload: &[u8]) -> (Initiator, HandshakeError) {
        let (local, remote, index) = (self.a.clone(), self.b.public(), ReceiverIndex(1));
        let (initiator, init) =
            Initiator::begin(&local, &self.network, remote, offer, index, &mut self.rng).unwrap();
        let mut noise = self.noise(&self.b, Role::Responder, KemRole::Encapsulate);
        noise.read(Init::parse(&init).unwrap().noise).unwrap();
        let message = noise.write(draw(&mut self.rng), MESSAGE_2_LEN, payload).unwrap();
        let response = self.seal(Response::write(ReceiverIndex(2), index, &message));
        initiator.finish(&response).expect_err("a dishonest answer is refused")
    }
}

fn honest(ciphers: CipherSet) -> Payload {
    let (name, program) = ("alpha".to_owned(), "0.1.0".to_owned());
    let association = AssociationId([7; 8]);
    let (versions, version) = (Versions::FIRST, UNSAID);
    Payload { ciphers, mtu: 1400, name, association, program, features: 0, versions, version }
}

#[test]
fn a_cipher_that_was_not_offered_is_refused_and_the_handshake_is_over() {
    for bits in [0, 2, 3, 4, 0x81] {
        let mut world = World::new(1);
        let answer = honest(CipherSet::from_bits(bits)).encode().unwrap();
        let (initiator, error) = world.answered_with(&answer);
        assert_eq!((error, error.fault()), (HandshakeError::CipherChoice, Fault::Peer), "{bits:#x}");
        let (_, error) = initiator
            .finish(&world.seal(Response::write(ReceiverIndex(2), ReceiverIndex(1), &[0; MESSAGE_2_LEN])))
            .unwrap_err();
        assert_eq!(error, HandshakeError::Spent);
    }
}

/// Whoever answers can talk the other down by no lie: neither about what it chose nor by leaving out what it was told.
#[test]
fn a_version_that_is_not_the_highest_common_one_is_refused_and_the_handshake_is_over() {
    let span = |oldest, newest| Versions::new(oldest, newest).unwrap();
    let lies = [
        // It speaks 2, and chose 1, or none.
        (span(1, 2), span(1, 2), 1, HandshakeError::VersionChoice),
        (span(1, 2), span(1, 2), version::NONE, HandshakeError::VersionChoice),
        // It chose what it does not speak.
        (span(1, 2), span(1, 1), 2, HandshakeError::VersionChoice),
        (span(1, 1), span(1, 2), 2, HandshakeError::VersionChoice),
        (span(1, 2), span(1, 3), 3, HandshakeError::VersionChoice),
        // They have none in common; the second knows of no versions and answers as ever.
        (span(1, 2), span(3, 4), version::NONE, HandshakeError::NoCommonVersion(span(3, 4))),
        (span(2, 2), span(1, 1), 1, HandshakeError::NoCommonVersion(span(1, 1))),
        (span(2, 2), span(1, 1), 2, HandshakeError::NoCommonVersion(span(1, 1))),
    ];
    for (ours, theirs, version, expected) in lies {
        let cipher = CipherSet::only(Cipher::ChaCha20Poly1305);
        let offer = Payload { versions: ours, ..honest(cipher) };
        let answer = Payload { versions: theirs, version, ..honest(cipher) };
        let mut world = World::new(10);
        let (initiator, error) = world.answered(&offer, &answer.encode().unwrap());
        assert_eq!(error, expected, "{ours}, {theirs}, {version}");
        let again = world.seal(Response::write(ReceiverIndex(2), ReceiverIndex(1), &[0; MESSAGE_2_LEN]));
        assert_eq!(initiator.finish(&again).unwrap_err().1, HandshakeError::Spent);
    }
}

#[test]
fn what_is_no_span_of_versions_is_no_payload() {
    for span in [&[0x82, 0, 1][..], &[0x82, 2, 1], &[0x80], &[0x01]] {
        // Six fields, the last of them versions: features is null.
        let mut payload = honest(CipherSet::ALL).encode().unwrap();
        payload[0] = 0x87;
        payload.push(0xf6);
        payload.extend_from_slice(span);
        let mut world = World::new(11);
        let init = world.init(&payload);
        let read = Responder::read(&world.b, &world.network, &init).map(drop);
        assert_eq!(read, Err(HandshakeError::Payload(PayloadError::Body)), "{span:x?}");
    }
}

#[test]
fn another_association_is_refused() {
    let answer =
        Payload { association: AssociationId([8; 8]), ..honest(CipherSet::only(Cipher::ChaCha20Poly1305)) };
    let (_, error) = World::new(2).answered_with(&answer.encode().unwrap());
    assert_eq!(error, HandshakeError::Association);
}

#[test]
fn payloads_that_break_the_rules_are_the_peers_fault_in_either_message() {
    let mut long_name = honest(CipherSet::ALL).encode().unwrap();
    // array(5), ciphers, mtu (3 bytes), then the name: a text of 5 bytes becomes one of 65.
    long_name.splice(5..11, [0x78, 65].into_iter().chain([b'n'; 65]));
    let mut escape_in_name = honest(CipherSet::ALL).encode().unwrap();
    escape_in_name[6] = 0x1b;
    let trailing = [honest(CipherSet::ALL).encode().unwrap(), vec![0]].concat();
    let cases = [
        (long_name, PayloadError::Name),
        (escape_in_name, PayloadError::Name),
        (trailing, PayloadError::Body),
        (Vec::new(), PayloadError::Body),
        (vec![0xff; 40], PayloadError::Body),
        (vec![0; MAX_PAYLOAD], PayloadError::Body),
    ];
    for (payload, cause) in cases {
        let mut world = World::new(3);
        let expected = HandshakeError::Payload(cause);
        let init = world.init(&payload);
        assert_eq!(Responder::read(&world.b, &world.network, &init).map(drop), Err(expected));
        assert_eq!(world.answered_with(&payload).1, expected);
    }
}

#[test]
fn a_payload_over_the_bound_is_refused_before_anything_is_computed() {
    let mut world = World::new(4);
    let init = world.init(&vec![0; MAX_PAYLOAD + 1]);
    assert_eq!(Responder::read(&world.b, &world.network, &init).map(drop), Err(HandshakeError::Length));
    assert_eq!(world.answered_with(&vec![0; MAX_PAYLOAD + 1]).1, HandshakeError::Length);
}

#[test]
fn fields_of_a_later_version_are_ignored() {
    let mut world = World::new(5);
    let known = Payload { features: KNOWS_REST, ..honest(CipherSet::ALL) };
    let mut payload = known.encode().unwrap();
    payload[0] += 3;
    // Versions and the one chosen left out, as null, and then something new.
    payload.extend_from_slice(&[0xf6, 0xf6, 0x63, b'n', b'e', b'w']);
    let init = world.init(&payload);
    let received = Responder::read(&world.b, &world.network, &init).unwrap();
    assert_eq!(*received.payload(), known);
}

/// The points of the integration test, as static keys: the sender shows one for its own.
#[test]
fn a_small_order_static_key_is_refused() {
    let mut world = World::new(6);
    let mut points = vec![[0; 32]; 7];
    points[1][0] = 1;
    let two = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ];
    for (point, text) in points[2..].iter_mut().zip(two) {
        point.copy_from_slice(&data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap());
    }
    for (point, low) in points[4..].iter_mut().zip([0xec, 0xed, 0xee]) {
        *point = [0xff; 32];
        (point[0], point[31]) = (low, 0x7f);
    }
    for point in points {
        let secret = draw(&mut world.rng);
        world.a = NodeSecret::with_false_public(secret, point);
        let init = world.init(&honest(CipherSet::ALL).encode().unwrap());
        assert_eq!(
            Responder::read(&world.b, &world.network, &init).map(drop),
            Err(HandshakeError::SmallOrder)
        );

        let relay = RelayId(*world.b.public().as_bytes());
        let (_, message) = link::LinkInitiator::begin(&world.a, &relay, &mut world.rng).unwrap();
        assert_eq!(
            link::respond(&world.b, &message, &mut world.rng).map(drop),
            Err(HandshakeError::SmallOrder)
        );
    }
}

#[test]
fn somebody_elses_static_key_cannot_be_shown() {
    let mut world = World::new(7);
    let victim = NodeSecret::generate(&mut world.rng).public();
    let secret = draw(&mut world.rng);
    world.a = NodeSecret::with_false_public(secret, *victim.as_bytes());
    let init = world.init(&honest(CipherSet::ALL).encode().unwrap());
    assert_eq!(
        Responder::read(&world.b, &world.network, &init).map(drop),
        Err(HandshakeError::Authentication)
    );
}

/// A member that puts an ML-KEM key with coefficients outside the field into its INIT (FIPS 203 §7.2).
#[test]
fn an_invalid_kem_key_is_refused_when_it_is_answered() {
    let mut world = World::new(8);
    let mut secret = vec![0; crate::crypto::kem::SECRET_LEN];
    world.rng.fill(&mut secret);
    secret[1152..1152 + 1152].fill(0xff);
    let kem = KemRole::Decapsulate(Arc::new(KeyPair::from_secret(&secret).unwrap()));
    let remote = *world.b.public().as_bytes();
    let mut noise = world.noise(&world.a, Role::Initiator { remote: &remote }, kem);
    let payload = honest(CipherSet::ALL);
    let message = noise.write(draw(&mut world.rng), MESSAGE_1_LEN, &payload.encode().unwrap()).unwrap();
    let init = world.seal(Init::write_without_mac(ReceiverIndex(1), &message));
    let received = Responder::read(&world.b, &world.network, &init).unwrap();
    let answered = received.respond(&payload, ReceiverIndex(2), &mut world.rng);
    assert_eq!(answered.map(drop), Err(HandshakeError::Kem));
}

#[test]
fn a_link_message_with_a_payload_is_refused() {
    let mut world = World::new(9);
    let remote = *world.b.public().as_bytes();
    let kem = KemRole::Decapsulate(Arc::new(KeyPair::generate().unwrap()));
    let (role, prologue) = (Role::Initiator { remote: &remote }, labels::LINK_PROLOGUE);
    let setup = Setup { pattern: LINK, role, local: &world.a, psk: None, prologue, kem };
    let message = Noise::new(setup).unwrap().write(draw(&mut world.rng), MESSAGE_1_LEN, b"x").unwrap();
    assert_eq!(link::respond(&world.b, &message, &mut world.rng).map(drop), Err(HandshakeError::Length));
}
