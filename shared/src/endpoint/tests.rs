//! Two endpoints and a relay in virtual time, without loss: the straight line, step by step. What a bad network does to
//! it is tried in the simulated internet of the `tests` package.

use super::config::Config;
use super::event::{Contact, Event, PeerState, Via};
use super::*;
use crate::addresses;
use crate::crypto::aead::CipherSet;
use crate::crypto::keys::{NetworkSecret, NodeSecret};
use crate::ids::{ChannelId, RelayId};
use crate::link::{ServerInput, ServerLink};
use crate::path::select::PathKind;
use crate::rng::SeededRng;
use crate::session::fragment::Reassembler;
use crate::version::{SPOKEN, Versions};
use crate::wire::control::Cidr4;
use crate::wire::control::Claim;
use crate::wire::relay::{self, Forward, StreamMessage};
use crate::wire::relayed::{RELAYED_HEADER_LEN, RelayedHeader};
use std::collections::VecDeque;
use std::time::Duration;

mod barred;
mod claims;
mod direct;
mod first;
mod flapping;
mod hostile;
mod lies;
mod mapped_port;
mod meeting;
mod members;
mod mesh;
mod metered;
mod own;
mod quality;
mod rekey;
mod relayed;
mod rest;
mod resume;
mod tcp;
mod two_relays;
mod versions;
mod wishes;

/// What a relay speaks that is of no version's making.
const ALL_VERSIONS: Versions = Versions::new(1, u8::MAX).unwrap();
const CHANNEL: ChannelId = ChannelId(7);
const RELAY: RelayNo = RelayNo(0);
/// Where its stream leads.
/// What a relay says of a pair, with hints that change nothing.
fn established(peer_udp: Option<SocketAddr>, direct: bool) -> relay::Control {
    relay::Control::Established {
        channel: CHANNEL,
        session: [0; 16],
        mtu: 1280,
        heartbeat_ms: 15_000,
        rotation_s: 120,
        peer_tcp: None,
        peer_udp,
        direct,
    }
}

fn relay_address() -> SocketAddr {
    "198.51.100.2:8443".parse().unwrap()
}

/// One way between a client and the relay.
const LATENCY: Duration = Duration::from_millis(5);

struct Node {
    endpoint: Endpoint,
    link: ServerLink,
    events: Vec<Event>,
    confirmed: bool,
    instance: u64,
}

/// The relay is inside: it introduces as soon as both asked, and forwards.
struct World {
    now: Instant,
    relay: NodeSecret,
    network: NetworkSecret,
    rng: SeededRng,
    nodes: [Node; 2],
    /// Arrival, destination node (or the relay, from that node), message.
    to_node: VecDeque<(Instant, usize, Vec<u8>)>,
    to_relay: VecDeque<(Instant, usize, Vec<u8>)>,
    connected: [bool; 2],
    introduced: bool,
    /// What a message takes longer between a client and the relay.
    slower: Duration,
    /// Swallows what this says yes to: (from node, peer packet).
    drop: fn(usize, &[u8]) -> bool,
    /// Whether that holds up all that comes behind it, as a stream does, and whose are held up.
    jammed: Option<[bool; 2]>,
    /// The internet of datagrams; without sockets nobody uses it.
    internet: direct::Internet,
    /// Connections between the two; without ports nobody opens one.
    tcp: tcp::Tcp,
    pieces: [Reassembler; 2],
    released: [usize; 2],
    /// What the relay says to either node of direct links.
    direct: [Option<bool>; 2],
    /// From where the relay sees both streams come.
    observed_tcp: SocketAddr,
    /// What the relay says of versions of the protocol, where that is not that it speaks all.
    relay_says: Option<(Option<Versions>, Option<u8>)>,
    /// Whether either node's data plane has packets that are not acknowledged, and whether neither says what it does.
    outstanding: [bool; 2],
    holds_answers: bool,
    /// When the relay was asked first, where it answers no PING; nothing where it does.
    unanswered: Option<Option<Instant>>,
    /// What a second relay that forwards nothing has of either node's link, if there is one.
    idle_relay: Option<two_relays::IdleRelay>,
}

fn endpoint(
    seed: u64,
    relay: &NodeSecret,
    network: &NetworkSecret,
    node: NodeSecret,
    name: &str,
    adjust: impl FnOnce(&mut Config),
) -> Endpoint {
    let network = network.derive();
    let ipv4 = addresses::ipv4_attempts(network.id().into(), node.public()).next();
    let hello = Hello {
        name: name.into(),
        mac: addresses::mac(&node.public()),
        ipv4: ipv4.and_then(|(_, address)| Cidr4::new(address, 16)),
        ipv6: None,
        claim: Claim::Fresh,
        mtu: 1400,
        revision: 1,
    };
    let mut config = Config {
        relays: vec![RelayId(relay.public().0)],
        node,
        addresses: network.id().into(),
        network,
        ciphers: CipherSet::ALL,
        hello,
        address_attempt: Some(0),
        rekey_interval: Duration::from_secs(120),
        instance: seed,
        program: "test".into(),
        versions: SPOKEN,
    };
    adjust(&mut config);
    Endpoint::new(config, Box::new(SeededRng::new(seed)))
}

/// Where the path over the relay runs.
const fn channel() -> Via {
    Via::Channel(Contact { relay: RELAY, channel: CHANNEL })
}

impl World {
    fn new(seed: u64) -> Self {
        Self::with(seed, |_, _| ())
    }

    /// With what `adjust` makes of each node's configuration.
    #[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
    fn with(seed: u64, adjust: impl Fn(&str, &mut Config)) -> Self {
        let mut rng = SeededRng::new(seed);
        let relay = NodeSecret::generate(&mut rng);
        let network = NetworkSecret::generate(&mut rng);
        let nodes = ["a", "b"].map(|name| {
            let node = NodeSecret::generate(&mut rng);
            let instance = rng.next_u64();
            Node {
                endpoint: endpoint(instance, &relay, &network, node, name, |config| adjust(name, config)),
                link: ServerLink::new(ALL_VERSIONS),
                events: vec![],
                confirmed: false,
                instance,
            }
        });
        let mut world = Self {
            now: Instant::now(),
            relay,
            network,
            rng,
            nodes,
            to_node: VecDeque::new(),
            to_relay: VecDeque::new(),
            connected: [false; 2],
            introduced: false,
            slower: Duration::ZERO,
            drop: |_, _| false,
            jammed: None,
            internet: direct::Internet::default(),
            tcp: tcp::Tcp::default(),
            pieces: Default::default(),
            released: [0; 2],
            direct: [None; 2],
            observed_tcp: SocketAddr::from(([192, 0, 2, 1], 1000)),
            relay_says: None,
            outstanding: [false; 2],
            holds_answers: false,
            unanswered: None,
            idle_relay: None,
        };
        for at in 0..2 {
            world.nodes[at].endpoint.handle_stream_opened(world.now, RELAY, relay_address());
        }
        world
    }

    fn say(&mut self, to: usize, body: &relay::Control) {
        let message = self.nodes[to].link.seal(body).unwrap();
        self.to_node.push_back((self.now + LATENCY + self.slower, to, message));
    }

    fn relay_receives(&mut self, from: usize, message: Vec<u8>) {
        match self.nodes[from].link.handle(&self.relay, &message, &mut self.rng).unwrap() {
            ServerInput::Send(reply) => {
                self.to_node.push_back((self.now + LATENCY + self.slower, from, reply));
            }
            ServerInput::Register { version, .. } => {
                let (versions, version) = self.relay_says.unwrap_or((Some(ALL_VERSIONS), Some(version)));
                self.say(
                    from,
                    &relay::Control::Registered {
                        observed_tcp: self.observed_tcp,
                        stun_token: [0; 16],
                        stun_ports: vec![8443],
                        heartbeat_ms: 15_000,
                        instance: 1,
                        direct: self.direct[from],
                        versions,
                        version,
                    },
                );
            }
            ServerInput::Control(relay::Control::Connect { peer: None }) => {
                self.connected[from] = true;
                if self.connected == [true; 2] {
                    self.introduce();
                }
            }
            ServerInput::Control(relay::Control::Confirmed { channel }) => {
                assert_eq!(channel, CHANNEL);
                self.nodes[from].confirmed = true;
            }
            ServerInput::Control(relay::Control::Release { channel }) => {
                assert_eq!(channel, CHANNEL);
                self.released[from] += 1;
            }
            ServerInput::Control(relay::Control::Bind { nonce, udp }) => {
                if let Some(tag) = self.internet.bind(self.now, from, nonce, udp) {
                    self.say(from, &relay::Control::Bound { tag });
                }
            }
            ServerInput::Control(relay::Control::Ping { .. }) if self.unanswered.is_some() => {
                let now = self.now;
                self.unanswered = self.unanswered.map(|asked| asked.or(Some(now)));
            }
            ServerInput::Control(relay::Control::Ping { id }) => self.say(from, &relay::Control::Pong { id }),
            ServerInput::Forward => {
                let packets: Vec<_> =
                    Forward::parse(&message).unwrap().packets().map(<[u8]>::to_vec).collect();
                let is_dropped = packets.iter().any(|packet| (self.drop)(from, packet));
                let is_held_up = self.jammed.as_mut().is_some_and(|jammed| {
                    jammed[from] |= is_dropped;
                    jammed[from]
                });
                if !is_dropped && !is_held_up {
                    self.to_node.push_back((self.now + LATENCY + self.slower, 1 - from, message));
                }
            }
            other @ (ServerInput::Control(_) | ServerInput::Ignored) => panic!("{other:?}"),
        }
    }

    fn introduce(&mut self) {
        self.introduced = true;
        for at in 0..2 {
            let (peer, instance) = (self.nodes[1 - at].endpoint.id(), self.nodes[1 - at].instance);
            self.say(at, &relay::Control::Peer { peer, channel: CHANNEL, instance });
        }
    }

    fn node_receives(&mut self, at: usize, message: &[u8]) {
        let endpoint = &mut self.nodes[at].endpoint;
        if let Ok(StreamMessage::Forward(forward)) = StreamMessage::parse(message) {
            for packet in forward.packets() {
                let contact = Contact { relay: RELAY, channel: forward.channel };
                let _ = endpoint.handle_packet(self.now, contact, &mut packet.to_vec());
            }
        } else {
            endpoint.handle_stream_message(self.now, RELAY, message).unwrap();
        }
    }

    fn drain(&mut self) {
        // A connection that one node's event brings about is an event of the other.
        for at in [0, 1, 0] {
            while let Some(event) = self.nodes[at].endpoint.poll_event() {
                self.on_tcp_event(at, &event);
                if let Event::StopSealing { slot, number } = event
                    && !self.holds_answers
                {
                    let is_empty = !self.outstanding[at];
                    self.nodes[at].endpoint.handle_sealing_stopped(self.now, slot, number, is_empty);
                }
                self.nodes[at].events.push(event);
            }
            while let Some(transmit) = self.nodes[at].endpoint.poll_transmit() {
                self.transmit(at, transmit);
            }
        }
    }

    fn transmit(&mut self, from: usize, transmit: Transmit) {
        match transmit {
            Transmit::Stream { relay: two_relays::IDLE, message } => self.idle_relay_receives(from, &message),
            Transmit::Stream { message, .. } => {
                self.to_relay.push_back((self.now + LATENCY + self.slower, from, message));
            }
            Transmit::Datagram { to, datagram } => self.internet.send(self.now, from, to, datagram),
            Transmit::Tcp { link, message } => self.tcp.send(self.now, from, link, message),
        }
    }

    /// Runs for `span`, from event to event; the number of times a node had to wake is bounded, so that a deadline that
    /// is never dealt with shows as a failure and not as a hang.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..100_000 {
            self.drain();
            let queues = self.to_node.front().into_iter().chain(self.to_relay.front()).map(|(at, ..)| *at);
            let timers = self.nodes.iter().filter_map(|node| Some(node.endpoint.poll_timeout()?.at));
            let lines = self.internet.next_arrival().into_iter().chain(self.tcp.next_arrival());
            let next = queues.chain(timers).chain(lines).min().unwrap_or(end);
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            while let Some((_, from, message)) = self.to_relay.pop_front_if(|(at, ..)| *at <= self.now) {
                self.relay_receives(from, message);
            }
            while let Some((_, to, message)) = self.to_node.pop_front_if(|(at, ..)| *at <= self.now) {
                self.node_receives(to, &message);
            }
            while let Some((to, link, message)) = self.tcp.receive(self.now) {
                for packet in Forward::parse(&message).unwrap().packets() {
                    let _ =
                        self.nodes[to].endpoint.handle_packet(self.now, Via::Tcp(link), &mut packet.to_vec());
                }
            }
            while let Some((to, from, mut datagram)) = self.internet.receive(self.now) {
                let endpoint = &mut self.nodes[to].endpoint;
                if let Ok(header) = RelayedHeader::parse(&datagram) {
                    // What the data plane checks: it comes from the relay, with this node's tag.
                    if self.internet.is_relayed(to, from, header) {
                        let via = Via::RelayUdp(Contact { relay: RELAY, channel: header.channel });
                        let packet = &mut datagram[RELAYED_HEADER_LEN..];
                        let _ = endpoint.handle_packet(self.now, via, packet);
                    }
                } else if let Ok(whole) = self.pieces[to].take(self.now, 0, &datagram) {
                    // What the data plane does: pieces come further once they are whole.
                    if let Some(mut packet) = whole {
                        let _ = endpoint.handle_packet(self.now, Via::Udp(from), &mut packet);
                    }
                } else if PacketKind::of(&datagram).is_some() {
                    let _ = endpoint.handle_packet(self.now, Via::Udp(from), &mut datagram);
                } else {
                    endpoint.handle_datagram(self.now, from, &datagram);
                }
            }
            for at in 0..2 {
                if self.nodes[at].endpoint.poll_timeout().is_some_and(|deadline| deadline.is_due(self.now)) {
                    self.nodes[at].endpoint.handle_timeout(self.now);
                }
            }
        }
        let timers = [0, 1].map(|at: usize| self.nodes[at].endpoint.poll_timeout());
        panic!("the world does not come to rest: {timers:?}");
    }

    /// The node with the lower key, which begins.
    fn lower(&self) -> usize {
        usize::from(self.nodes[1].endpoint.id() < self.nodes[0].endpoint.id())
    }

    /// No relay is left to go to, and what was under way there is gone.
    fn lose_relay(&mut self) {
        let now = self.now;
        for node in &mut self.nodes {
            node.endpoint.handle_stream_closed(now, RELAY);
            node.link = ServerLink::new(ALL_VERSIONS);
        }
        self.to_node.clear();
        self.to_relay.clear();
    }

    /// Node `at` dies without a word and comes back with the same key; the relay introduces it anew on another channel.
    fn restart(&mut self, at: usize) {
        self.restart_with(at, |_| ());
    }

    /// The same, as what `adjust` makes of its configuration.
    fn restart_with(&mut self, at: usize, adjust: impl FnOnce(&mut Config)) {
        let secret = self.nodes[at].endpoint.config.node.clone();
        let instance = self.rng.next_u64();
        let name = self.nodes[at].endpoint.hello().name.clone();
        let endpoint = endpoint(instance, &self.relay, &self.network, secret, &name, adjust);
        self.nodes[at] = Node {
            endpoint,
            link: ServerLink::new(ALL_VERSIONS),
            events: vec![],
            confirmed: false,
            instance,
        };
        self.to_node.retain(|(_, to, _)| *to != at);
        self.to_relay.retain(|(_, from, _)| *from != at);
        self.connected[at] = false;
        let now = self.now;
        self.nodes[at].endpoint.handle_stream_opened(now, RELAY, relay_address());
    }

    fn is_connected(&self) -> bool {
        (0..2).all(|at| self.status(at).state == PeerState::Connected)
    }

    /// How many associations node `at` began to send in.
    fn started(&self, at: usize) -> usize {
        self.count(at, |event| matches!(event, Event::StartAssociation { .. }))
    }

    fn status(&self, at: usize) -> PeerStatus {
        self.nodes[at].endpoint.peer_status(self.now).pop().unwrap()
    }

    fn count(&self, at: usize, f: impl Fn(&Event) -> bool) -> usize {
        self.nodes[at].events.iter().filter(|event| f(event)).count()
    }
}

#[test]
fn two_nodes_meet_prove_a_path_and_say_hello() {
    let mut world = World::new(1);
    world.run(Duration::from_secs(2));
    for at in 0..2 {
        let status = world.status(at);
        assert_eq!(status.state, PeerState::Connected);
        assert_eq!(status.path.unwrap().rtt, Some(LATENCY * 4));
        assert_eq!(status.path.unwrap().mtu, None, "a stream has no packet size");
        assert_eq!(status.peer_path, Some(PathKind::RelayWs));
        assert_eq!(status.hello.unwrap().name, ["b", "a"][at]);
        assert!(world.nodes[at].confirmed, "the relay was told CONFIRMED");
        assert_eq!(world.count(at, |event| matches!(event, Event::OpenAssociation { .. })), 1);
        assert_eq!(world.count(at, |event| matches!(event, Event::StartAssociation { .. })), 1);
        assert!(world.nodes[at].endpoint.hello().claim == Claim::Settled);
    }
    // Derived from different keys, so the same association and opposite keys on both sides.
    assert_eq!(world.status(0).session.unwrap().cipher, world.status(1).session.unwrap().cipher);
}

#[test]
fn what_the_peer_sends_on_is_not_known_before_it_said_anything() {
    for seed in 11..15 {
        let mut world = World::new(seed);
        let mut was_silent = [false; 2];
        for _ in 0..300 {
            world.run(Duration::from_millis(1));
            for (at, was_silent) in was_silent.iter_mut().enumerate() {
                let Some(status) = world.nodes[at].endpoint.peer_status(world.now).pop() else { continue };
                assert_eq!(status.peer_path.is_some(), status.path.is_some() && status.hello.is_some());
                *was_silent |= status.path.is_some() && status.peer_path.is_none();
            }
        }
        assert!(was_silent.contains(&true), "one has a path before the other said anything");
        world.run(Duration::from_secs(1));
        assert_eq!([0, 1].map(|at| world.status(at).peer_path), [Some(PathKind::RelayWs); 2]);
    }
}

#[test]
fn an_idle_pair_rekeys_for_an_hour_and_wakes_rarely() {
    let mut world = World::new(2);
    world.run(Duration::from_secs(5));
    world.run(Duration::from_secs(3600));
    for at in 0..2 {
        let status = world.status(at);
        assert_eq!(status.state, PeerState::Connected);
        assert_eq!(status.session.unwrap().rekeys, 30, "every 120 s");
        assert_eq!(world.count(at, |event| matches!(event, Event::AddSealKey { .. })), 30);
        assert_eq!(world.count(at, |event| matches!(event, Event::AddOpenKey { .. })), 30);
        assert!(world.nodes[at].endpoint.indices.len() <= 8, "indices of old keys are given back");
    }
}

#[test]
fn a_relay_restart_keeps_the_session() {
    let mut world = World::new(3);
    world.run(Duration::from_secs(2));
    for at in 0..2 {
        let now = world.now;
        world.nodes[at].endpoint.handle_stream_closed(now, RELAY);
        world.nodes[at].link = ServerLink::new(ALL_VERSIONS);
    }
    world.to_node.clear();
    world.to_relay.clear();
    world.run(Duration::from_secs(1));
    assert_eq!(world.status(0).state, PeerState::Offline);
    world.connected = [false; 2];
    for at in 0..2 {
        let now = world.now;
        world.nodes[at].endpoint.handle_stream_opened(now, RELAY, relay_address());
    }
    world.run(Duration::from_secs(2));
    for at in 0..2 {
        assert_eq!(world.status(at).state, PeerState::Connected);
        assert_eq!(
            world.count(at, |event| matches!(event, Event::StartAssociation { .. })),
            1,
            "no new handshake"
        );
        assert_eq!(world.count(at, |event| matches!(event, Event::Resend { .. })), 2);
    }
}

#[test]
fn a_peer_whose_path_is_cut_is_not_called_connected_for_more_than_the_bound() {
    let mut world = World::new(4);
    world.run(Duration::from_secs(2));
    world.drop = |_, _| true;
    for _ in 0..50 {
        for at in 0..2 {
            let (now, slot) = (world.now, world.status(at).slot);
            world.nodes[at].endpoint.handle_data_sent(now, slot, channel(), 1);
        }
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.status(0).state, PeerState::Connecting);
    assert_eq!(world.status(1).state, PeerState::Connecting);
    world.drop = |_, _| false;
    world.run(Duration::from_secs(20));
    assert_eq!(world.status(0).state, PeerState::Connected);
    assert_eq!(world.status(1).state, PeerState::Connected);
}

/// Runs until every INIT has passed; the last one, and to whom.
fn recorded_init(world: &mut World) -> (usize, Vec<u8>) {
    let mut recorded = vec![];
    for _ in 0..200 {
        world.run(Duration::from_millis(5));
        recorded.extend(world.to_node.iter().filter_map(|(_, to, message)| {
            let StreamMessage::Forward(forward) = StreamMessage::parse(message).ok()? else {
                return None;
            };
            let init = forward.packets().find(|packet| PacketKind::of(packet) == Some(PacketKind::Init))?;
            Some((*to, init.to_vec()))
        }));
    }
    recorded.pop().expect("an INIT passed")
}

#[test]
fn a_first_message_replayed_ten_years_later_or_to_a_node_that_restarted_makes_no_session() {
    for is_restarted in [false, true] {
        let mut world = World::new(6);
        let (to, init) = recorded_init(&mut world);
        world.run(Duration::from_secs(2));
        // No packet of the peer's own passes any more; what the relay says does.
        world.drop = |_, _| true;
        if is_restarted {
            world.restart(to);
            world.run(Duration::from_secs(2));
        } else {
            world.now += Duration::from_secs(10 * 365 * 86_400);
            let now = world.now;
            world.nodes[to].endpoint.handle_timeout(now);
        }
        assert!(world.status(to).session.is_none(), "its keys are older than keys may get, or gone");
        world.drain();
        world.nodes[to].events.clear();
        let contact = Contact { relay: RELAY, channel: CHANNEL };
        for _ in 0..1000 {
            let now = world.now;
            let _ = world.nodes[to].endpoint.handle_packet(now, contact, &mut init.clone());
        }
        world.run(Duration::from_secs(30));
        let is_session = |event: &Event| {
            matches!(
                event,
                Event::StartAssociation { .. } | Event::Route { via: Some(_), .. } | Event::PeerHello { .. }
            )
        };
        assert_eq!(world.count(to, is_session), 0, "restarted: {is_restarted}");
        assert!(world.status(to).session.is_none());
        assert!(world.nodes[to].endpoint.indices.len() <= 8, "unconfirmed sessions are bounded");
    }
}

#[test]
fn a_first_message_replayed_a_thousand_times_sends_and_replaces_nothing() {
    let mut world = World::new(5);
    let (to, init) = recorded_init(&mut world);
    world.run(Duration::from_secs(2));
    let contact = Contact { relay: RELAY, channel: CHANNEL };
    let before = world.status(to).session;
    let started = world.count(to, |event| matches!(event, Event::StartAssociation { .. }));
    let years = Duration::from_secs(10 * 365 * 86_400);
    let mut answers = 0;
    // The clock as it is, ten years ahead, and back.
    for jump in [Duration::ZERO, years, Duration::ZERO] {
        for _ in 0..1000 {
            let now = world.now + jump;
            let _ = world.nodes[to].endpoint.handle_packet(now, contact, &mut init.clone());
            while let Some(transmit) = world.nodes[to].endpoint.poll_transmit() {
                let Transmit::Stream { message, .. } = transmit else { panic!("a datagram") };
                let StreamMessage::Forward(forward) = StreamMessage::parse(&message).unwrap() else {
                    panic!("something was said to the relay");
                };
                for packet in forward.packets() {
                    assert_eq!(
                        PacketKind::of(packet),
                        Some(PacketKind::Response),
                        "nothing but the answer leaves"
                    );
                    answers += 1;
                }
            }
            assert!(world.nodes[to].endpoint.poll_event().is_none(), "nothing happens to the session");
        }
        assert!(world.nodes[to].endpoint.indices.len() <= 4 + 4, "unconfirmed sessions are bounded");
    }
    assert!(
        (1..=3000).contains(&answers),
        "it was read and answered, so more than the door was tried: {answers}"
    );
    // The session of before goes on.
    assert_eq!(world.status(to).session.map(|s| s.rekeys), before.map(|s| s.rekeys));
    let (now, slot) = (world.now, world.status(to).slot);
    assert!(world.nodes[to].endpoint.echo(now, slot, 99));
    world.run(Duration::from_secs(1));
    assert_eq!(world.count(to, |event| matches!(event, Event::EchoReply { id: 99, .. })), 1);
    assert_eq!(world.count(to, |event| matches!(event, Event::StartAssociation { .. })), started);
}
