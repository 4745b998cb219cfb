//! Two relays, of which one says that it knows the peer and forwards nothing: it keeps nobody from the other.

use super::direct::RELAYED;
use super::*;
use crate::path::select::PathKind;

/// The one that forwards nothing.
pub(super) const IDLE: RelayNo = RelayNo(1);

/// The links of both nodes to it.
pub(super) struct IdleRelay {
    secret: NodeSecret,
    links: [ServerLink; 2],
}

impl World {
    /// It answers at once: nothing here depends on how far it is.
    pub(super) fn idle_relay_receives(&mut self, from: usize, message: &[u8]) {
        let now = self.now;
        let Some(IdleRelay { secret, links }) = &mut self.idle_relay else { return };
        let reply = match links[from].handle(secret, message, &mut self.rng).unwrap() {
            ServerInput::Send(reply) => reply,
            ServerInput::Register { .. } => links[from]
                .seal(&relay::Control::Registered {
                    observed_tcp: "192.0.2.1:1000".parse().unwrap(),
                    stun_token: [0; 16],
                    stun_ports: vec![],
                    heartbeat_ms: 15_000,
                    instance: 2,
                    direct: None,
                    versions: None,
                    version: None,
                })
                .unwrap(),
            ServerInput::Control(relay::Control::Ping { id }) => {
                links[from].seal(&relay::Control::Pong { id }).unwrap()
            }
            ServerInput::Control(_) | ServerInput::Forward | ServerInput::Ignored => return,
        };
        self.nodes[from].endpoint.handle_stream_message(now, IDLE, &reply).unwrap();
    }

    /// It says to node `at` that the peer is there.
    pub(super) fn idle_relay_introduces(&mut self, at: usize, channel: u32) {
        let (peer, instance) = (self.nodes[1 - at].endpoint.id(), self.nodes[1 - at].instance);
        let (now, channel) = (self.now, ChannelId(channel));
        let links = &mut self.idle_relay.as_mut().unwrap().links;
        let message = links[at].seal(&relay::Control::Peer { peer, channel, instance }).unwrap();
        self.nodes[at].endpoint.handle_stream_message(now, IDLE, &message).unwrap();
    }
}

/// A world with both.
pub(super) fn two_relays(seed: u64) -> World {
    let secret = || NodeSecret::generate(&mut SeededRng::new(seed + 1_000));
    let mut world = World::with(seed, |_, config| config.relays.push(RelayId(secret().public().0)));
    world.idle_relay =
        Some(IdleRelay { secret: secret(), links: [ServerLink::new(SPOKEN), ServerLink::new(SPOKEN)] });
    for at in 0..2 {
        let (now, address) = (world.now, "198.51.100.3:8443".parse().unwrap());
        world.nodes[at].endpoint.handle_stream_opened(now, IDLE, address);
    }
    world.drain();
    world
}

fn kinds(world: &World) -> [Option<PathKind>; 2] {
    [0, 1].map(|at| world.status(at).path.map(|path| path.via.kind()))
}

#[test]
fn a_contact_over_which_nothing_passes_is_given_up_for_another() {
    let mut world = two_relays(81);
    world.run(Duration::from_secs(2));
    assert_eq!(kinds(&world), RELAYED);
    // While the relay that works takes a moment the other one offers itself.
    world.slower = Duration::from_millis(600);
    for _ in 0..8 {
        let (now, status) = (world.now, world.status(0));
        world.nodes[0].endpoint.handle_data_sent(now, status.slot, channel(), 1);
        world.run(Duration::from_millis(50));
    }
    assert!(world.nodes[0].endpoint.peers.values().all(Peer::is_suspect));
    world.idle_relay_introduces(0, 1);
    world.slower = Duration::ZERO;
    world.run(Duration::from_secs(5));
    assert!(world.is_connected());
    assert_eq!(world.started(0), 1, "in the same session");
}

#[test]
fn a_relay_that_introduces_without_end_keeps_nobody_from_the_other() {
    let mut world = two_relays(82);
    for channel in 0..1_000 {
        for at in 0..2 {
            world.idle_relay_introduces(at, channel);
        }
        world.run(Duration::from_millis(20));
    }
    assert!(world.is_connected());
    assert_eq!([world.started(0), world.started(1)], [1, 1]);
}
