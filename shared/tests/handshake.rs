//! The peer handshake against strangers, thieves of single pieces, and a network that damages, replays and mixes up.
//!
//! Two kinds of attacker alter packets here. A *stranger* (a relay, a router) cannot compute mac1. A *member* of the network
//! can, so [`World::repair`] puts the right mac1 under whatever it altered and the packet reaches Noise.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use proptest::prelude::*;
use shadowmesh_proto::crypto::aead::{Cipher, CipherSet};
use shadowmesh_proto::crypto::keys::{MAC1_LEN, NetworkKeys, NetworkSecret, NodeSecret};
use shadowmesh_proto::crypto::{kdf, kem, labels};
use shadowmesh_proto::handshake::payload::{KNOWS_REST, MAX_PAYLOAD, Payload};
use shadowmesh_proto::handshake::peer::{Completed, INIT_LEN, Initiator, RESPONSE_LEN, Responder};
use shadowmesh_proto::handshake::{Fault, HandshakeError};
use shadowmesh_proto::ids::{AssociationId, NodeId, ReceiverIndex};
use shadowmesh_proto::rng::SeededRng;
use shadowmesh_proto::version::{UNSAID, Versions};
use shadowmesh_proto::wire::codec::WireError;
use std::collections::HashSet;
use std::ops::Range;

/// Where the fields lie. All but the clear part belong to the Noise message.
const INIT_NOISE: usize = 8;
const RESPONSE_NOISE: usize = 12;
const EPHEMERAL_LEN: usize = 32;
const TAG_LEN: usize = 16;
const INIT_EPHEMERAL: Range<usize> = INIT_NOISE..INIT_NOISE + EPHEMERAL_LEN;
const INIT_SHARE: Range<usize> = INIT_EPHEMERAL.end..INIT_EPHEMERAL.end + kem::PUBLIC_LEN + TAG_LEN;
const RESPONSE_EPHEMERAL: Range<usize> = RESPONSE_NOISE..RESPONSE_NOISE + EPHEMERAL_LEN;
const RESPONSE_SHARE: Range<usize> =
    RESPONSE_EPHEMERAL.end..RESPONSE_EPHEMERAL.end + kem::CIPHERTEXT_LEN + TAG_LEN;

const INITIATOR_INDEX: ReceiverIndex = ReceiverIndex(0x1111_1111);
const RESPONDER_INDEX: ReceiverIndex = ReceiverIndex(0x2222_2222);

struct World {
    rng: SeededRng,
    a: NodeSecret,
    b: NodeSecret,
    secret: NetworkSecret,
    network: NetworkKeys,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SeededRng::new(seed);
        let (a, b) = (NodeSecret::generate(&mut rng), NodeSecret::generate(&mut rng));
        let secret = NetworkSecret::generate(&mut rng);
        let network = secret.derive();
        Self { rng, a, b, secret, network }
    }

    fn begin(&mut self) -> (Initiator, Vec<u8>) {
        self.begin_to(self.b.public()).unwrap()
    }

    fn begin_to(&mut self, remote: NodeId) -> Result<(Initiator, Vec<u8>), HandshakeError> {
        let offer = payload(CipherSet::ALL);
        Initiator::begin(&self.a, &self.network, remote, &offer, INITIATOR_INDEX, &mut self.rng)
    }

    fn read(&self, packet: &[u8]) -> Result<(), HandshakeError> {
        Responder::read(&self.b, &self.network, packet).map(drop)
    }

    fn answer(&mut self, init: &[u8]) -> (Vec<u8>, Completed) {
        let received = Responder::read(&self.b, &self.network, init).unwrap();
        received.respond(&payload(CipherSet::ALL), RESPONDER_INDEX, &mut self.rng).unwrap()
    }

    /// Puts the mac1 that a member can compute under an altered packet.
    fn repair(&self, packet: &mut [u8]) {
        let (covered, mac) = packet.split_at_mut(packet.len() - MAC1_LEN);
        let generation = self.secret.generation().to_be_bytes();
        let secret = self.secret.to_bytes();
        let key = kdf::hkdf(labels::NETWORK_SALT, secret.as_slice(), &[labels::NETWORK_MAC1, &generation]);
        mac.copy_from_slice(&kdf::mac(key.as_slice(), &[covered])[..MAC1_LEN]);
    }
}

fn payload(ciphers: CipherSet) -> Payload {
    let (name, program) = ("alpha".to_owned(), "0.1.0".to_owned());
    let association = AssociationId([7; 8]);
    let (versions, version) = (Versions::FIRST, UNSAID);
    Payload { ciphers, mtu: 1400, name, association, program, features: 0, versions, version }
}

/// Feeds `packet` to `initiator`, which must refuse it and stay pending.
fn refused(initiator: Initiator, packet: &[u8]) -> (Initiator, HandshakeError) {
    let (initiator, error) = initiator.finish(packet).expect_err("the packet is not the answer");
    assert_eq!(error.fault(), Fault::Stranger, "{error}");
    (initiator, error)
}

fn assert_same_session(initiator: &Completed, responder: &Completed) {
    assert_eq!(initiator.keys.cipher, responder.keys.cipher);
    assert_eq!(initiator.keys.send.data, responder.keys.recv.data);
    assert_eq!(initiator.keys.send.control, responder.keys.recv.control);
    assert_eq!(initiator.keys.recv.data, responder.keys.send.data);
    assert_eq!(initiator.keys.recv.control, responder.keys.send.control);
    assert_eq!(initiator.local_index, responder.remote_index);
    assert_eq!(initiator.remote_index, responder.local_index);
    assert_eq!(initiator.association, responder.association);
    assert!(initiator.initiator && !responder.initiator);
}

fn all_keys(completed: &Completed) -> [[u8; 32]; 4] {
    let keys = &completed.keys;
    [*keys.send.data, *keys.send.control, *keys.recv.data, *keys.recv.control]
}

#[test]
fn both_sides_end_with_the_same_session_and_know_each_other() {
    let mut world = World::new(1);
    let (initiator, init) = world.begin();
    let received = Responder::read(&world.b, &world.network, &init).unwrap();
    assert_eq!(received.remote(), world.a.public());
    assert_eq!(received.sender_index(), INITIATOR_INDEX);
    assert_eq!(*received.payload(), payload(CipherSet::ALL));
    let answer =
        Payload { name: "beta".to_owned(), association: AssociationId([0; 8]), ..payload(CipherSet::ALL) };
    let (response, theirs) = received.respond(&answer, RESPONDER_INDEX, &mut world.rng).unwrap();
    let ours = initiator.finish(&response).unwrap();

    assert_same_session(&ours, &theirs);
    assert_eq!((ours.remote, theirs.remote), (world.b.public(), world.a.public()));
    assert_eq!((ours.local_index, theirs.local_index), (INITIATOR_INDEX, RESPONDER_INDEX));
    assert_eq!((ours.payload.name.as_str(), theirs.payload.name.as_str()), ("beta", "alpha"));
    // protocol §4.3: the initiator names the association, whatever the responder had in mind.
    assert_eq!(ours.payload.association, AssociationId([7; 8]));
    assert_eq!(all_keys(&ours).into_iter().collect::<HashSet<_>>().len(), 4, "all four keys differ");
}

#[test]
fn packets_have_the_lengths_of_the_protocol() {
    let mut world = World::new(2);
    let (_, init) = world.begin();
    let (response, _) = world.answer(&init);
    let offer = payload(CipherSet::ALL).encode().unwrap();
    assert_eq!(init.len(), 8 + 1296 + offer.len() + 16);
    assert_eq!(response.len(), 12 + 1152 + offer.len() + 16);
    assert_eq!((INIT_LEN, RESPONSE_LEN), (8 + 1296 + 16, 12 + 1152 + 16));
}

#[test]
fn aes_is_chosen_only_where_both_offer_it() {
    const CHACHA: CipherSet = CipherSet::only(Cipher::ChaCha20Poly1305);
    const AES: CipherSet = CipherSet::only(Cipher::Aes256Gcm);
    let cases = [
        (CipherSet::ALL, CipherSet::ALL, Ok(Cipher::Aes256Gcm)),
        (CipherSet::ALL, CHACHA, Ok(Cipher::ChaCha20Poly1305)),
        (CHACHA, CipherSet::ALL, Ok(Cipher::ChaCha20Poly1305)),
        (AES, CHACHA, Err(HandshakeError::NoCommonCipher)),
        (CipherSet::from_bits(0xfc), CipherSet::ALL, Err(HandshakeError::NoCommonCipher)),
    ];
    for (offered, willing, expected) in cases {
        let World { mut rng, a, b, network, .. } = World::new(3);
        let (initiator, init) =
            Initiator::begin(&a, &network, b.public(), &payload(offered), INITIATOR_INDEX, &mut rng).unwrap();
        let received = Responder::read(&b, &network, &init).unwrap();
        let cipher =
            received.respond(&payload(willing), RESPONDER_INDEX, &mut rng).map(|(response, theirs)| {
                assert_same_session(&initiator.finish(&response).unwrap(), &theirs);
                theirs.keys.cipher
            });
        assert_eq!(cipher, expected);
    }
}

#[test]
fn a_payload_out_of_bounds_is_not_sent() {
    let World { mut rng, a, b, network, .. } = World::new(4);
    for (name, program) in [
        ("n".repeat(65), String::new()),
        ("\u{1b}[2J".to_owned(), String::new()),
        (String::new(), "p".repeat(33)),
    ] {
        let offer = Payload { name, program, ..payload(CipherSet::ALL) };
        let begun = Initiator::begin(&a, &network, b.public(), &offer, INITIATOR_INDEX, &mut rng);
        assert_eq!(begun.map(drop).unwrap_err().fault(), Fault::Local);
    }
}

#[test]
fn every_flipped_bit_of_an_init_fails() {
    let mut world = World::new(5);
    let (_, init) = world.begin();
    for bit in 0..init.len() * 8 {
        let mut altered = init.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        let by_stranger = world.read(&altered).unwrap_err();
        match bit / 8 {
            0 | 1 => assert!(matches!(by_stranger, HandshakeError::Layout(_)), "bit {bit}: {by_stranger}"),
            _ => assert_eq!(by_stranger, HandshakeError::Mac, "bit {bit}"),
        }
        if (INIT_NOISE..init.len() - MAC1_LEN).contains(&(bit / 8)) {
            world.repair(&mut altered);
            assert_eq!(world.read(&altered), Err(HandshakeError::Authentication), "bit {bit}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_response_fails_and_the_handshake_survives_them_all() {
    let mut world = World::new(6);
    let (mut initiator, init) = world.begin();
    let (response, theirs) = world.answer(&init);
    for bit in 0..response.len() * 8 {
        let mut altered = response.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        let error;
        (initiator, error) = refused(initiator, &altered);
        match bit / 8 {
            0 | 1 => assert!(matches!(error, HandshakeError::Layout(_)), "bit {bit}: {error}"),
            _ => assert_eq!(error, HandshakeError::Mac, "bit {bit}"),
        }
        if (RESPONSE_NOISE..response.len() - MAC1_LEN).contains(&(bit / 8)) {
            world.repair(&mut altered);
            let error;
            (initiator, error) = refused(initiator, &altered);
            assert_eq!(error, HandshakeError::Authentication, "bit {bit}");
        }
    }
    assert_same_session(&initiator.finish(&response).unwrap(), &theirs);
}

#[test]
fn no_length_but_the_right_one_is_read() {
    let mut world = World::new(7);
    let (mut initiator, init) = world.begin();
    let (response, theirs) = world.answer(&init);
    let resized = |packet: &[u8], len: usize| {
        let mut resized = packet.to_vec();
        resized.resize(len, 0);
        resized
    };
    for len in (0..init.len() + MAX_PAYLOAD + 64).filter(|len| *len != init.len()) {
        let mut packet = resized(&init, len);
        assert!(world.read(&packet).is_err(), "{len} bytes");
        if len > MAC1_LEN {
            world.repair(&mut packet);
            let error = world.read(&packet).unwrap_err();
            let is_possible = (INIT_LEN..=INIT_LEN + MAX_PAYLOAD).contains(&len);
            let expected = if is_possible { HandshakeError::Authentication } else { HandshakeError::Length };
            assert!(
                error == expected || len < 19 && matches!(error, HandshakeError::Layout(_)),
                "{len}: {error}"
            );
        }
    }
    for len in (0..response.len() + MAX_PAYLOAD + 64).filter(|len| *len != response.len()) {
        let mut packet = resized(&response, len);
        initiator = refused(initiator, &packet).0;
        if len > MAC1_LEN {
            world.repair(&mut packet);
            initiator = refused(initiator, &packet).0;
        }
    }
    assert_same_session(&initiator.finish(&response).unwrap(), &theirs);
}

#[test]
fn a_stripped_or_swapped_kem_share_fails_in_either_message() {
    let mut world = World::new(8);
    let (initiator, init) = world.begin();
    let (other_initiator, other_init) = world.begin();
    let (response, theirs) = world.answer(&init);
    let (other_response, others) = world.answer(&other_init);

    let splice = |packet: &[u8], other: &[u8], field: Range<usize>| {
        let mut spliced = packet.to_vec();
        spliced[field.clone()].copy_from_slice(&other[field]);
        world.repair(&mut spliced);
        spliced
    };
    let strip = |packet: &[u8], field: Range<usize>| {
        let mut stripped = packet.to_vec();
        stripped.drain(field);
        world.repair(&mut stripped);
        stripped
    };

    assert_eq!(world.read(&strip(&init, INIT_SHARE)), Err(HandshakeError::Length));
    assert_eq!(
        world.read(&splice(&init, &vec![0; init.len()], INIT_SHARE)),
        Err(HandshakeError::Authentication)
    );
    assert_eq!(world.read(&splice(&init, &other_init, INIT_SHARE)), Err(HandshakeError::Authentication));

    let (initiator, error) = refused(initiator, &strip(&response, RESPONSE_SHARE));
    assert_eq!(error, HandshakeError::Length);
    let zeroed = splice(&response, &vec![0; response.len()], RESPONSE_SHARE);
    let (initiator, error) = refused(initiator, &zeroed);
    assert_eq!(error, HandshakeError::Authentication);
    let (initiator, error) = refused(initiator, &splice(&response, &other_response, RESPONSE_SHARE));
    assert_eq!(error, HandshakeError::Authentication);
    // The share together with the ephemeral key it was sealed under is no better.
    let both = RESPONSE_EPHEMERAL.start..RESPONSE_SHARE.end;
    let (initiator, error) = refused(initiator, &splice(&response, &other_response, both));
    assert_eq!(error, HandshakeError::Authentication);

    assert_same_session(&initiator.finish(&response).unwrap(), &theirs);
    assert_same_session(&other_initiator.finish(&other_response).unwrap(), &others);
}

/// The seven encodings below 2^255 of points of small order: 0, 1, the two of order 8, and p-1, p, p+1. X25519 ignores the
/// top bit (RFC 7748 §5), so each is also tried with it set.
const SMALL_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

fn small_order_points() -> Vec<[u8; 32]> {
    let mut points = Vec::new();
    for text in SMALL_ORDER {
        let mut point: [u8; 32] =
            data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap();
        points.push(point);
        point[31] |= 0x80;
        points.push(point);
    }
    points
}

#[test]
fn a_small_order_ephemeral_key_is_refused_in_either_message() {
    let mut world = World::new(9);
    let (mut initiator, init) = world.begin();
    let (response, theirs) = world.answer(&init);
    for point in small_order_points() {
        let mut altered = init.clone();
        altered[INIT_EPHEMERAL].copy_from_slice(&point);
        world.repair(&mut altered);
        assert_eq!(world.read(&altered), Err(HandshakeError::SmallOrder));

        let mut altered = response.clone();
        altered[RESPONSE_EPHEMERAL].copy_from_slice(&point);
        world.repair(&mut altered);
        let error;
        (initiator, error) = refused(initiator, &altered);
        assert_eq!(error, HandshakeError::SmallOrder);
    }
    assert_same_session(&initiator.finish(&response).unwrap(), &theirs);
}

#[test]
fn a_node_whose_key_has_small_order_is_not_called() {
    let mut world = World::new(10);
    for point in small_order_points() {
        assert_eq!(world.begin_to(NodeId(point)).map(drop), Err(HandshakeError::SmallOrder));
    }
}

#[test]
fn another_secret_generation_or_network_is_refused_even_with_the_right_mac1() {
    let mut world = World::new(11);
    let (_, init) = world.begin();
    let other_secret = NetworkSecret::generate(&mut world.rng);
    let next_generation = NetworkSecret::from_bytes(world.secret.to_bytes(), world.secret.generation() + 1);
    for secret in [other_secret, next_generation] {
        let network = secret.derive();
        assert_eq!(Responder::read(&world.b, &network, &init).map(drop), Err(HandshakeError::Mac));
        let there = World { rng: SeededRng::new(0), a: world.a.clone(), b: world.b.clone(), secret, network };
        let mut repaired = init.clone();
        there.repair(&mut repaired);
        assert_eq!(there.read(&repaired), Err(HandshakeError::Authentication));
    }
}

#[test]
fn another_version_is_named_as_such() {
    let mut world = World::new(12);
    let (initiator, init) = world.begin();
    let (response, _) = world.answer(&init);
    for version in (0..=u8::MAX).filter(|version| *version != 1) {
        let mut other = init.clone();
        other[1] = version;
        world.repair(&mut other);
        assert_eq!(world.read(&other), Err(HandshakeError::Layout(WireError::Version(version))));
    }
    let mut other = response;
    other[1] = 2;
    world.repair(&mut other);
    let (_, error) = refused(initiator, &other);
    assert_eq!(error, HandshakeError::Layout(WireError::Version(2)));
}

#[test]
fn a_message_for_somebody_else_is_refused() {
    let mut world = World::new(13);
    let stranger = NodeSecret::generate(&mut world.rng);
    let (initiator, init) = world.begin();
    assert_eq!(
        Responder::read(&stranger, &world.network, &init).map(drop),
        Err(HandshakeError::Authentication)
    );
    // Sent back to where it came from it is no better, and no answer either.
    assert_eq!(
        Responder::read(&world.a, &world.network, &init).map(drop),
        Err(HandshakeError::Authentication)
    );
    let (initiator, error) = refused(initiator, &init);
    assert_eq!(error, HandshakeError::Layout(WireError::Kind(0xc8)));
    let (response, _) = world.answer(&init);
    assert_eq!(world.read(&response), Err(HandshakeError::Layout(WireError::Kind(0xc9))));
    drop(initiator);
}

#[test]
fn an_answer_to_another_handshake_is_refused() {
    let mut world = World::new(14);
    let (first, init) = world.begin();
    let offer = payload(CipherSet::ALL);
    let (second, second_init) = Initiator::begin(
        &world.a,
        &world.network,
        world.b.public(),
        &offer,
        ReceiverIndex(9),
        &mut world.rng,
    )
    .unwrap();
    let (response, theirs) = world.answer(&init);
    let (second_response, _) = world.answer(&second_init);
    let (first, error) = refused(first, &second_response);
    assert_eq!(error, HandshakeError::WrongReceiver);
    // With the index corrected by a member, the transcript still differs.
    let mut redirected = second_response;
    redirected[8..12].copy_from_slice(&INITIATOR_INDEX.0.to_be_bytes());
    world.repair(&mut redirected);
    let (first, error) = refused(first, &redirected);
    assert_eq!(error, HandshakeError::Authentication);
    assert_same_session(&first.finish(&response).unwrap(), &theirs);
    drop(second);
}

#[test]
fn an_impostor_with_the_network_secret_cannot_answer_for_somebody_else() {
    let mut world = World::new(15);
    let impostor = NodeSecret::generate(&mut world.rng);
    // The call goes to b; the impostor, a member, gets it and can only make an answer to a call to itself.
    let (initiator, _) = world.begin();
    let (_, to_impostor) = world.begin_to(impostor.public()).unwrap();
    let received = Responder::read(&impostor, &world.network, &to_impostor).unwrap();
    let (response, _) = received.respond(&payload(CipherSet::ALL), RESPONDER_INDEX, &mut world.rng).unwrap();
    let (_, error) = refused(initiator, &response);
    assert_eq!(error, HandshakeError::Authentication);
}

#[test]
fn a_first_message_replayed_a_thousand_times_gives_only_sessions_the_attacker_cannot_use() {
    let mut world = World::new(16);
    let (initiator, init) = world.begin();
    let mut seen = HashSet::new();
    let mut answers = Vec::new();
    for _ in 0..1000 {
        let (response, unconfirmed) = world.answer(&init);
        assert_eq!(unconfirmed.remote, world.a.public());
        for key in all_keys(&unconfirmed) {
            assert!(seen.insert(key), "a replay led to a key that was there before");
        }
        answers.push((response, unconfirmed));
    }
    // Only whoever holds the initiator's ephemeral keys gets a session out of an answer, and only out of one.
    let (response, unconfirmed) = &answers[617];
    assert_same_session(&initiator.finish(response).unwrap(), unconfirmed);
}

#[test]
fn who_says_nothing_of_features_has_none_and_reads_as_before() {
    // An array of five, as in versions that know of none.
    let before = payload(CipherSet::ALL);
    let bytes = before.encode().unwrap();
    assert_eq!(bytes[0], 0x85);
    assert_eq!(Payload::decode(&bytes).unwrap().features, 0);
    let now = Payload { features: KNOWS_REST, ..before };
    let bytes = now.encode().unwrap();
    assert_eq!(bytes[0], 0x86);
    assert_eq!(Payload::decode(&bytes).unwrap(), now);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut world = World::new(17);
        prop_assert!(world.read(&bytes).is_err());
        let (initiator, _) = world.begin();
        prop_assert!(initiator.finish(&bytes).is_err());
    }

    /// Random bytes behind a right clear part, under a right mac1: what a member can send without any other key.
    #[test]
    fn any_bytes_of_a_member_are_refused(noise in prop::collection::vec(any::<u8>(), 0..3000), len in 0..3000usize) {
        let mut world = World::new(18);
        let mut noise = noise;
        noise.resize(len, 0);
        let (initiator, _) = world.begin();
        let mut init = [&[0xc8, 1, 0, 0, 0, 0, 0, 1], &noise[..], &[0; MAC1_LEN]].concat();
        world.repair(&mut init);
        prop_assert!(world.read(&init).is_err());
        let index = INITIATOR_INDEX.0.to_be_bytes();
        let mut response = [&[0xc9, 1, 0, 0, 0, 0, 0, 1], &index[..], &noise[..], &[0; MAC1_LEN]].concat();
        world.repair(&mut response);
        let (_, error) = initiator.finish(&response).unwrap_err();
        prop_assert_eq!(error.fault(), Fault::Stranger);
    }

    #[test]
    fn a_payload_reads_back_as_it_was_written(
        bits: u8, mtu: u16, name in "[^\\p{Cc}]{0,16}", association: [u8; 8], program in "[^\\p{Cc}]{0,8}",
        features: u32, versions: (u8, u8), version: u8,
    ) {
        let association = AssociationId(association);
        let ciphers = CipherSet::from_bits(bits);
        let versions = Versions::new(versions.0, versions.1).unwrap_or(Versions::FIRST);
        let payload = Payload { ciphers, mtu, name, association, program, features, versions, version };
        let bytes = payload.encode().unwrap();
        prop_assert!(bytes.len() <= 120);
        prop_assert_eq!(Payload::decode(&bytes).unwrap(), payload);
        for cut in 0..bytes.len() {
            prop_assert!(Payload::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn any_payload_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, to: u8) {
        if let Ok(read) = Payload::decode(&bytes) {
            prop_assert!(read.encode().is_ok());
        }
        let mut perturbed = payload(CipherSet::ALL).encode().unwrap();
        let at = at.index(perturbed.len());
        perturbed[at] = to;
        if let Ok(read) = Payload::decode(&perturbed) {
            prop_assert!(read.encode().is_ok());
        }
    }
}
