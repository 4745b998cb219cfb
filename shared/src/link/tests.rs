use super::*;
use crate::crypto::keys::{NetworkSecret, NodeSecret};
use crate::ids::{NodeId, RelayId};
use crate::rng::{Rng, SeededRng};
use crate::version::{Mismatch, Versions};
use crate::wire::relay::{Control, ForwardBuilder};

struct Pair {
    rng: SeededRng,
    relay: NodeSecret,
    node: NodeSecret,
    network: crate::crypto::keys::NetworkKeys,
    client: ClientLink,
    server: ServerLink,
    init: Vec<u8>,
    versions: Versions,
}

impl Pair {
    fn new(seed: u64) -> Self {
        Self::speaking(seed, Versions::FIRST, Versions::FIRST)
    }

    /// A client and a relay that speak these.
    fn speaking(seed: u64, versions: Versions, relays: Versions) -> Self {
        let mut rng = SeededRng::new(seed);
        let relay = NodeSecret::generate(&mut rng);
        let node = NodeSecret::generate(&mut rng);
        let network = NetworkSecret::generate(&mut rng).derive();
        let (client, init) = ClientLink::begin(&node, RelayId(relay.public().0), &mut rng).unwrap();
        Self { rng, relay, node, network, client, server: ServerLink::new(relays), init, versions }
    }

    fn tell_server(&mut self, message: &[u8]) -> Result<ServerInput, LinkError> {
        self.server.handle(&self.relay, message, &mut self.rng)
    }

    fn tell_client(&mut self, message: &[u8]) -> Result<ClientInput, LinkError> {
        let registration = Registration {
            node: self.node.public(),
            network: &self.network,
            instance: 42,
            versions: self.versions,
        };
        self.client.handle(registration, message)
    }

    /// Up to the REGISTER message, not yet given to the server.
    fn register_message(&mut self) -> Vec<u8> {
        let init = self.init.clone();
        let ServerInput::Send(response) = self.tell_server(&init).unwrap() else { panic!("no response") };
        let ClientInput::Send(register) = self.tell_client(&response).unwrap() else { panic!("no REGISTER") };
        register
    }

    fn registered(mut self) -> Self {
        let register = self.register_message();
        self.tell_server(&register).unwrap();
        let body = Control::Registered {
            observed_tcp: "192.0.2.1:5".parse().unwrap(),
            stun_token: [1; 16],
            stun_ports: vec![1],
            heartbeat_ms: 15_000,
            instance: 1,
            direct: None,
            versions: None,
            version: None,
        };
        let message = self.server.seal(&body).unwrap();
        assert_eq!(self.tell_client(&message), Ok(ClientInput::Control(body)));
        self
    }
}

#[test]
fn a_registration_carries_the_proven_key_and_network() {
    let mut pair = Pair::new(1);
    let register = pair.register_message();
    let expected = ServerInput::Register {
        node: pair.node.public(),
        network: pair.network.id(),
        instance: 42,
        features: 0,
        version: 1,
    };
    assert_eq!(pair.tell_server(&register), Ok(expected));
    assert!(pair.server.is_registered());
}

fn registered_with(versions: Option<Versions>, version: Option<u8>) -> Control {
    let observed_tcp = "192.0.2.1:5".parse().unwrap();
    let (stun_token, stun_ports) = ([1; 16], vec![1]);
    Control::Registered {
        observed_tcp,
        stun_token,
        stun_ports,
        heartbeat_ms: 15_000,
        instance: 1,
        direct: None,
        versions,
        version,
    }
}

#[test]
fn client_and_relay_take_the_highest_version_that_both_speak() {
    let span = |oldest, newest| Versions::new(oldest, newest).unwrap();
    for (client, relay, expected) in [
        (span(1, 1), span(1, 2), 1),
        (span(1, 2), span(1, 1), 1),
        (span(1, 2), span(1, 2), 2),
        (span(1, 2), span(2, 3), 2),
        (span(2, 3), span(1, 2), 2),
    ] {
        let mut pair = Pair::speaking(20, client, relay);
        let register = pair.register_message();
        let Ok(ServerInput::Register { version, .. }) = pair.tell_server(&register) else {
            panic!("not registered")
        };
        assert_eq!(version, expected, "{client}, {relay}");
        let body = registered_with(relay.said(), Some(version));
        let message = pair.server.seal(&body).unwrap();
        assert_eq!(pair.tell_client(&message), Ok(ClientInput::Control(body)));
        assert_eq!((pair.client.version(), pair.server.is_registered()), (Some(expected), true));
        let ping = pair.client.seal(&Control::Ping { id: 1 }).unwrap();
        assert_eq!(pair.tell_server(&ping), Ok(ServerInput::Control(Control::Ping { id: 1 })));
    }
}

#[test]
fn a_relay_can_say_that_there_is_no_common_version_and_registers_nobody() {
    let (client, relay) = (Versions::FIRST, Versions::only(2).unwrap());
    let mut pair = Pair::speaking(21, client, relay);
    let register = pair.register_message();
    let mismatch = Mismatch { theirs: client, ours: relay };
    assert_eq!(pair.tell_server(&register), Err(LinkError::Version(mismatch)));
    let error = Control::Error { code: 6, sentence: "no".into(), retry_ms: None };
    let message = pair.server.seal(&error).unwrap();
    assert_eq!(pair.tell_client(&message), Ok(ClientInput::Control(error)));
    assert!(!pair.server.is_registered() && !pair.client.is_registered());
    // A stranger to the network is told nothing of versions.
    let mut pair = Pair::speaking(22, client, relay);
    let (network, node) = (pair.network.clone(), pair.node.public());
    let sealed = forged_register(&mut pair, |_| {
        let (network_key, signature) = network.sign_register(&[9; 32], &node);
        let network = network.id();
        Control::Register { network, network_key, signature, instance: 1, features: 0, versions: None }
    });
    assert_eq!(pair.tell_server(&sealed), Err(LinkError::Proof));
}

#[test]
fn a_client_takes_no_version_but_the_highest_common_one() {
    let span = |oldest, newest| Versions::new(oldest, newest).unwrap();
    for (said, chosen, expected) in [
        (Some(span(1, 2)), None, LinkError::VersionChoice),
        (Some(span(1, 2)), Some(1), LinkError::VersionChoice),
        (Some(span(1, 2)), Some(3), LinkError::VersionChoice),
        (None, Some(2), LinkError::VersionChoice),
        (Some(span(3, 4)), Some(3), LinkError::Version(Mismatch { theirs: span(3, 4), ours: span(1, 2) })),
    ] {
        let mut pair = Pair::speaking(23, span(1, 2), span(1, 2));
        let register = pair.register_message();
        pair.tell_server(&register).unwrap();
        let message = pair.server.seal(&registered_with(said, chosen)).unwrap();
        assert_eq!(pair.tell_client(&message), Err(expected), "{said:?}, {chosen:?}");
        assert!(!pair.client.is_registered());
    }
}

#[test]
fn control_passes_both_ways_and_damage_is_final() {
    let mut pair = Pair::new(2).registered();
    for id in 0..100 {
        let ping = pair.client.seal(&Control::Ping { id }).unwrap();
        assert_eq!(pair.tell_server(&ping), Ok(ServerInput::Control(Control::Ping { id })));
        let pong = pair.server.seal(&Control::Pong { id }).unwrap();
        assert_eq!(pair.tell_client(&pong), Ok(ClientInput::Control(Control::Pong { id })));
    }
    let mut damaged = pair.client.seal(&Control::Leave).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(pair.tell_server(&damaged), Err(LinkError::Forged));
    let next = pair.client.seal(&Control::Leave).unwrap();
    assert!(matches!(pair.tell_server(&next), Err(LinkError::OutOfPlace(_))));
}

#[test]
fn a_replayed_or_reordered_control_does_not_open() {
    let mut pair = Pair::new(3).registered();
    let first = pair.client.seal(&Control::Ping { id: 1 }).unwrap();
    assert!(pair.tell_server(&first).is_ok());
    assert_eq!(pair.tell_server(&first), Err(LinkError::Forged));

    let mut pair = Pair::new(3).registered();
    let _skipped = pair.client.seal(&Control::Ping { id: 1 }).unwrap();
    let second = pair.client.seal(&Control::Ping { id: 2 }).unwrap();
    assert_eq!(pair.tell_server(&second), Err(LinkError::Forged));
}

#[test]
fn another_relay_cannot_answer() {
    let mut pair = Pair::new(4);
    pair.relay = NodeSecret::generate(&mut pair.rng);
    let init = pair.init.clone();
    assert!(matches!(pair.tell_server(&init), Err(LinkError::Handshake(_))));
}

/// Finishes the client's handshake but seals the body that `forge` makes of the link's hash instead of an honest REGISTER.
fn forged_register(pair: &mut Pair, forge: impl FnOnce(&[u8; 32]) -> Control) -> Vec<u8> {
    let init = pair.init.clone();
    let ServerInput::Send(response) = pair.tell_server(&init).unwrap() else { panic!("no response") };
    pair.client.register_with(&response, forge)
}

#[test]
fn a_stranger_to_the_network_cannot_register_in_it() {
    let mut pair = Pair::new(5);
    let (victim, node) = (pair.network.id(), pair.node.public());
    let stranger = NetworkSecret::generate(&mut pair.rng).derive();
    let sealed = forged_register(&mut pair, |hash| {
        let (network_key, signature) = stranger.sign_register(hash, &node);
        Control::Register {
            network: victim,
            network_key,
            signature,
            instance: 1,
            features: 0,
            versions: None,
        }
    });
    assert_eq!(pair.tell_server(&sealed), Err(LinkError::Proof));
    assert!(!pair.server.is_registered());
}

#[test]
fn a_registration_of_another_link_is_no_proof_here() {
    let mut pair = Pair::new(6);
    let (network, node) = (pair.network.clone(), pair.node.public());
    let sealed = forged_register(&mut pair, |_| {
        let (network_key, signature) = network.sign_register(&[9; 32], &node);
        Control::Register {
            network: network.id(),
            network_key,
            signature,
            instance: 1,
            features: 0,
            versions: None,
        }
    });
    assert_eq!(pair.tell_server(&sealed), Err(LinkError::Proof));
    // The refusal can still be told, and a second try is no way in.
    assert!(pair.server.seal(&Control::Error { code: 1, sentence: "no".into(), retry_ms: None }).is_ok());
    assert!(!pair.server.is_registered());
}

#[test]
fn another_node_cannot_use_a_registration() {
    let mut pair = Pair::new(10);
    let network = pair.network.clone();
    let sealed = forged_register(&mut pair, |hash| {
        let (network_key, signature) = network.sign_register(hash, &NodeId([1; 32]));
        Control::Register {
            network: network.id(),
            network_key,
            signature,
            instance: 1,
            features: 0,
            versions: None,
        }
    });
    assert_eq!(pair.tell_server(&sealed), Err(LinkError::Proof));
}

#[test]
fn nothing_but_the_expected_message_is_taken() {
    let mut builder = ForwardBuilder::new(crate::ids::ChannelId(1), Vec::new());
    assert!(builder.push(&[1]));
    let forward = builder.finish();
    let mut pair = Pair::new(7);
    assert!(matches!(pair.tell_server(&forward), Err(LinkError::OutOfPlace(_))));
    let mut pair = Pair::new(7);
    assert!(matches!(pair.tell_client(&forward), Err(LinkError::OutOfPlace(_))));
    let mut pair = Pair::new(7);
    pair.register_message();
    assert!(matches!(pair.tell_server(&forward), Err(LinkError::OutOfPlace(_))));
    let mut pair = Pair::new(7).registered();
    assert_eq!(pair.tell_server(&forward), Ok(ServerInput::Forward));
    assert_eq!(pair.tell_client(&forward), Ok(ClientInput::Forward));
    let init = pair.init.clone();
    assert!(matches!(pair.tell_server(&init), Err(LinkError::OutOfPlace(_))));
}

#[test]
fn junk_is_refused_in_every_state() {
    let mut rng = SeededRng::new(8);
    for length in [0usize, 1, 2, 3, 17, 1200, 1296, 1297, 1298, 2000, 65_537] {
        for kind in [0u8, 1, 2, 3, 4, 255] {
            let mut junk = vec![0; length];
            rng.fill(&mut junk);
            if let Some(first) = junk.first_mut() {
                *first = kind;
            }
            assert!(Pair::new(9).tell_server(&junk).is_err());
            assert!(Pair::new(9).tell_client(&junk).is_err());
            let mut open = Pair::new(9).registered();
            if kind != 4 {
                assert!(open.tell_server(&junk).is_err());
            }
        }
    }
}
