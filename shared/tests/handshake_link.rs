//! The client–relay handshake: who it lets in, and what damage it refuses.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use proptest::prelude::*;
use shadowmesh_proto::crypto::kem;
use shadowmesh_proto::crypto::keys::{LinkKeys, NetworkSecret, NodeSecret, verify_register};
use shadowmesh_proto::handshake::link::{LinkInitiator, respond};
use shadowmesh_proto::handshake::{HandshakeError, MESSAGE_1_LEN, MESSAGE_2_LEN};
use shadowmesh_proto::ids::{NodeId, RelayId};
use shadowmesh_proto::rng::SeededRng;

const EPHEMERAL_LEN: usize = 32;

struct World {
    rng: SeededRng,
    client: NodeSecret,
    relay: NodeSecret,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SeededRng::new(seed);
        let (client, relay) = (NodeSecret::generate(&mut rng), NodeSecret::generate(&mut rng));
        Self { rng, client, relay }
    }

    fn begin(&mut self) -> (LinkInitiator, Vec<u8>) {
        let relay = RelayId(*self.relay.public().as_bytes());
        LinkInitiator::begin(&self.client, &relay, &mut self.rng).unwrap()
    }

    fn respond(&mut self, message: &[u8]) -> Result<(Vec<u8>, NodeId, LinkKeys), HandshakeError> {
        respond(&self.relay, message, &mut self.rng)
    }

    /// A client that waits, and what it gets: the same handshake cannot be tried twice, so each try has its own.
    fn pair(&mut self) -> (LinkInitiator, Vec<u8>) {
        let (initiator, message) = self.begin();
        let (answer, ..) = self.respond(&message).unwrap();
        (initiator, answer)
    }
}

#[test]
fn both_ends_get_the_same_keys_and_the_relay_learns_the_client() {
    let mut world = World::new(1);
    let (initiator, message) = world.begin();
    let (answer, client, theirs) = world.respond(&message).unwrap();
    let ours = initiator.finish(&answer).unwrap();
    assert_eq!(client, world.client.public());
    assert_eq!((&ours.send, &ours.recv, ours.hash), (&theirs.recv, &theirs.send, theirs.hash));
    assert_ne!(ours.send, ours.recv);
    assert_eq!((message.len(), answer.len()), (1296, 1152));
    assert_eq!((MESSAGE_1_LEN, MESSAGE_2_LEN), (1296, 1152));
}

#[test]
fn a_registration_signed_on_one_link_is_worth_nothing_on_another() {
    let mut world = World::new(2);
    let network = NetworkSecret::generate(&mut world.rng).derive();
    let node = world.client.public();
    let hash = |world: &mut World| {
        let (initiator, answer) = world.pair();
        initiator.finish(&answer).unwrap().hash
    };
    let (first, second) = (hash(&mut world), hash(&mut world));
    let (public, signature) = network.sign_register(&first, &node);
    assert!(verify_register(&network.id(), &public, &signature, &first, &node).is_ok());
    assert!(verify_register(&network.id(), &public, &signature, &second, &node).is_err());
}

#[test]
fn a_relay_with_another_key_than_the_tickets_is_found_out() {
    let mut world = World::new(3);
    let impostor = NodeSecret::generate(&mut world.rng);
    let (_, message) = world.begin();
    let error = respond(&impostor, &message, &mut world.rng).map(drop);
    assert_eq!(error, Err(HandshakeError::Authentication));

    // An impostor that answers a call of its own making instead.
    let (initiator, _) = world.begin();
    let to_impostor = RelayId(*impostor.public().as_bytes());
    let (_, message) = LinkInitiator::begin(&world.client, &to_impostor, &mut world.rng).unwrap();
    let (answer, ..) = respond(&impostor, &message, &mut world.rng).unwrap();
    assert_eq!(initiator.finish(&answer).map(drop), Err(HandshakeError::Authentication));
}

#[test]
fn every_flipped_bit_of_either_message_fails() {
    let mut world = World::new(4);
    let (_, message) = world.begin();
    for bit in 0..message.len() * 8 {
        let mut altered = message.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(world.respond(&altered).map(drop), Err(HandshakeError::Authentication), "bit {bit}");
    }
    for bit in 0..MESSAGE_2_LEN * 8 {
        let (initiator, mut answer) = world.pair();
        answer[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(initiator.finish(&answer).map(drop), Err(HandshakeError::Authentication), "bit {bit}");
    }
}

#[test]
fn a_swapped_or_zeroed_kem_share_fails_in_either_message() {
    let mut world = World::new(5);
    let (_, message) = world.begin();
    let (_, other) = world.begin();
    let share = EPHEMERAL_LEN..EPHEMERAL_LEN + kem::PUBLIC_LEN + 16;
    let zeros = vec![0; message.len()];
    for from in [&other, &zeros] {
        let mut altered = message.clone();
        altered[share.clone()].copy_from_slice(&from[share.clone()]);
        assert_eq!(world.respond(&altered).map(drop), Err(HandshakeError::Authentication));
    }
    let share = EPHEMERAL_LEN..EPHEMERAL_LEN + kem::CIPHERTEXT_LEN + 16;
    let (_, other) = world.pair();
    for from in [other, zeros] {
        let (initiator, mut answer) = world.pair();
        answer[share.clone()].copy_from_slice(&from[share.clone()]);
        assert_eq!(initiator.finish(&answer).map(drop), Err(HandshakeError::Authentication));
    }
}

#[test]
fn no_length_but_the_right_one_is_read() {
    let mut world = World::new(6);
    let (_, message) = world.begin();
    for len in (0..message.len() + 64).filter(|len| *len != message.len()) {
        let mut resized = message.clone();
        resized.resize(len, 0);
        assert_eq!(world.respond(&resized).map(drop), Err(HandshakeError::Length), "{len} bytes");
    }
    for len in [0, 1, MESSAGE_2_LEN - 1, MESSAGE_2_LEN + 1, 70_000] {
        let (initiator, mut answer) = world.pair();
        answer.resize(len, 0);
        assert_eq!(initiator.finish(&answer).map(drop), Err(HandshakeError::Length), "{len} bytes");
    }
}

#[test]
fn a_first_message_replayed_gives_other_keys_each_time() {
    let mut world = World::new(7);
    let (_, message) = world.begin();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        let (_, client, keys) = world.respond(&message).unwrap();
        assert_eq!(client, world.client.public());
        assert!(seen.insert(*keys.send) && seen.insert(*keys.recv) && seen.insert(keys.hash));
    }
}

#[test]
fn a_peer_message_is_no_link_message() {
    use shadowmesh_proto::crypto::aead::CipherSet;
    use shadowmesh_proto::handshake::payload::Payload;
    use shadowmesh_proto::handshake::peer::Initiator;
    use shadowmesh_proto::ids::{AssociationId, ReceiverIndex};
    use shadowmesh_proto::version::{SPOKEN, UNSAID};
    let mut world = World::new(8);
    let network = NetworkSecret::generate(&mut world.rng).derive();
    let (name, program) = (String::new(), String::new());
    let offer = Payload {
        ciphers: CipherSet::ALL,
        mtu: 1400,
        name,
        association: AssociationId([0; 8]),
        program,
        features: 0,
        versions: SPOKEN,
        version: UNSAID,
    };
    let (index, remote) = (ReceiverIndex(1), world.relay.public());
    let (_, init) = Initiator::begin(&world.client, &network, remote, &offer, index, &mut world.rng).unwrap();
    let noise = &init[8..8 + MESSAGE_1_LEN];
    assert_eq!(world.respond(noise).map(drop), Err(HandshakeError::Authentication));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), MESSAGE_1_LEN)) {
        let mut world = World::new(9);
        prop_assert!(world.respond(&bytes).is_err());
        let (initiator, _) = world.begin();
        prop_assert!(initiator.finish(&bytes[..MESSAGE_2_LEN]).is_err());
    }
}
