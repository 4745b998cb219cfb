//! Direct UDP between two endpoints behind NATs (RFC 4787 words), in virtual time.

use super::*;
use crate::path::liveness::{DEAD_AFTER, FULL_SIZE};
use crate::path::select::{PathKind, Wanted};
use crate::traverse::candidate::CandidateKind;
use crate::traverse::mapping::REFRESH;
use crate::wire::control::Control;
use crate::wire::header::{HEADER_LEN, Header, TAG_LEN};
use crate::wire::relayed::{BindingTag, Nonce, RelayedHeader, retag};
use crate::wire::stun::{BindingRequest, BindingResponse};
use std::net::IpAddr;

/// One way between two NATs, or a NAT and the relay.
pub(super) const HOP: Duration = Duration::from_millis(3);
const PORT: u16 = 41_641;

/// Mapping and filtering of a NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nat {
    /// No translation, no filter.
    Open,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    AddressRestricted,
    /// Endpoint-independent mapping, address- and port-dependent filtering.
    PortRestricted,
    /// Address- and port-dependent mapping and filtering.
    Symmetric,
    /// No UDP at all.
    Blocked,
}

#[derive(Debug)]
pub(super) struct Side {
    nat: Nat,
    pub(super) inside: SocketAddr,
    pub(super) public: IpAddr,
    /// Outside port, and for a symmetric NAT towards whom.
    mappings: Vec<(u16, Option<SocketAddr>)>,
    contacted: Vec<SocketAddr>,
    next_port: u16,
    /// A port that it was asked to forward to the node, and who came in by it.
    pub(super) forwarded: Option<u16>,
    guests: Vec<SocketAddr>,
    /// Swallows what the node sends, and what is for it.
    pub(super) mute: bool,
    deaf: bool,
    /// Swallows larger datagrams, both ways.
    pub(super) largest: usize,
    /// The same of what it sends only.
    pub(super) largest_out: usize,
    /// What a datagram from it takes longer.
    pub(super) slower: Duration,
}

impl Side {
    fn new(at: usize, nat: Nat) -> Self {
        let n = u8::try_from(at + 1).unwrap();
        let public = IpAddr::from([203, 0, 113, n]);
        let inside = if nat == Nat::Open { public } else { [192, 168, n, 2].into() };
        Self {
            nat,
            inside: SocketAddr::new(inside, PORT),
            public,
            mappings: vec![],
            contacted: vec![],
            next_port: 50_000,
            forwarded: None,
            guests: vec![],
            mute: false,
            deaf: false,
            largest: 1500 - 28,
            largest_out: 1500 - 28,
            slower: Duration::ZERO,
        }
    }

    /// Where the world sees a datagram to `to` come from.
    fn outward(&mut self, to: SocketAddr) -> SocketAddr {
        if self.nat == Nat::Open {
            return self.inside;
        }
        if let Some(port) = self.forwarded.filter(|_| self.guests.contains(&to)) {
            // What answers a guest goes out as it came in.
            return SocketAddr::new(self.public, port);
        }
        if !self.contacted.contains(&to) {
            self.contacted.push(to);
        }
        let towards = (self.nat == Nat::Symmetric).then_some(to);
        let known = self.mappings.iter().find(|(_, other)| *other == towards).map(|(port, _)| *port);
        let port = known.unwrap_or_else(|| {
            self.next_port += 1;
            self.mappings.push((self.next_port, towards));
            self.next_port
        });
        SocketAddr::new(self.public, port)
    }

    /// Forgets its mappings: the next datagram takes another port.
    pub(super) fn rebind(&mut self) {
        self.mappings.clear();
        self.contacted.clear();
    }

    /// Whether a datagram from `from` to `to` gets in.
    fn lets_in(&mut self, from: SocketAddr, to: SocketAddr) -> bool {
        if self.nat == Nat::Open {
            return to == self.inside;
        }
        if self.forwarded.is_some_and(|port| SocketAddr::new(self.public, port) == to) {
            if !self.guests.contains(&from) {
                self.guests.push(from);
            }
            return true;
        }
        let mapped = self.mappings.iter().find(|(port, _)| SocketAddr::new(self.public, *port) == to);
        let Some((_, towards)) = mapped else { return false };
        match self.nat {
            Nat::Open | Nat::FullCone => true,
            Nat::AddressRestricted => self.contacted.iter().any(|known| known.ip() == from.ip()),
            Nat::PortRestricted => self.contacted.contains(&from),
            Nat::Symmetric => *towards == Some(from),
            Nat::Blocked => false,
        }
    }
}

/// Carries datagrams between the two nodes and the relay's STUN.
#[derive(Debug, Default)]
pub(super) struct Internet {
    pub(super) sides: Vec<Side>,
    pub(super) under_way: VecDeque<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
    /// The data counters of both nodes.
    counters: [u64; 2],
    /// Datagrams that node 0 and 1 sent, of any kind.
    pub(super) sent: [Vec<(SocketAddr, usize)>; 2],
    /// Whether the relay forwards datagrams.
    pub(super) forwards: bool,
    /// What they take beyond two hops.
    pub(super) forwards_slower: Duration,
    /// Swallows datagrams that it would forward and that this says yes to.
    pub(super) forwards_swallows: Option<fn(&[u8]) -> bool>,
    /// Where it forwards those of either node, and under which tag.
    pub(super) bound: [Option<(SocketAddr, BindingTag)>; 2],
    /// How often either node showed that it receives there.
    pub(super) proven: [usize; 2],
    /// What the next tag is made of.
    tags: u32,
    /// What it counts its minutes from.
    began: Option<Instant>,
    /// Datagrams it forwarded, and those it could not.
    pub(super) forwarded: usize,
    pub(super) undeliverable: usize,
    /// Whether datagrams between the nodes are swallowed. Those of the relay are not.
    pub(super) is_torn: bool,
    /// Whether the relay's STUN says nothing.
    stun_is_silent: bool,
    /// Swallows datagrams between the nodes that this says yes to.
    pub(super) swallows: Option<fn(&[u8]) -> bool>,
    /// Somebody on the way passes on from here what comes here, either way.
    pub(super) copier: Option<SocketAddr>,
    /// Somebody on the way writes this port, and then the next, into what STUN answers.
    pub(super) forged_port: Option<u16>,
}

/// What the relay's STUN sends to an address in one of its minutes.
fn nonce(address: SocketAddr, minute: u64) -> Nonce {
    let [a, b] = address.port().to_be_bytes();
    let [.., c, d, e, f] = minute.to_be_bytes();
    [1, 2, a, b, c, d, e, f]
}

impl Internet {
    fn minute(&mut self, now: Instant) -> u64 {
        (now - *self.began.get_or_insert(now)).as_secs() / 60
    }

    pub(super) fn send(&mut self, now: Instant, from: usize, to: SocketAddr, datagram: Vec<u8>) {
        self.sent[from].push((to, datagram.len()));
        let side = &mut self.sides[from];
        if side.nat == Nat::Blocked || side.mute || datagram.len() > side.largest.min(side.largest_out) {
            return;
        }
        let (source, slower) = (side.outward(to), side.slower);
        if let Ok(header) = RelayedHeader::parse(&datagram) {
            assert_eq!(to, relay_address());
            let is_bound = self.bound[from] == Some((source, header.tag));
            let Some((receiver, tag)) = self.bound[1 - from].filter(|_| is_bound) else {
                self.undeliverable += 1;
                return;
            };
            let mut datagram = datagram;
            if self.forwards_swallows.is_some_and(|swallows| swallows(&datagram[RELAYED_HEADER_LEN..])) {
                return;
            }
            let len = datagram.len();
            retag(&mut datagram, len, tag);
            self.forwarded += 1;
            self.under_way.push_back((now + 2 * HOP + self.forwards_slower, to, receiver, datagram));
            self.under_way.make_contiguous().sort_by_key(|(at, ..)| *at);
        } else if to.ip() == relay_address().ip() {
            if self.stun_is_silent {
                return;
            }
            let request = BindingRequest::parse(&datagram).expect("only STUN goes to the relay");
            let minute = self.minute(now);
            let nonce = (self.forwards && to == relay_address()).then(|| nonce(source, minute));
            let mapped = match &mut self.forged_port {
                Some(port) => {
                    *port += 1;
                    SocketAddr::new(source.ip(), *port)
                }
                None => source,
            };
            let response = BindingResponse { transaction: request.transaction, mapped, nonce };
            self.under_way.push_back((now + 2 * HOP, to, source, response.encode()));
            self.under_way.make_contiguous().sort_by_key(|(at, ..)| *at);
        } else {
            let is_copied = self.copier == Some(to);
            let (source, to) = if is_copied { (to, self.sides[1 - from].inside) } else { (source, to) };
            self.under_way.push_back((now + 2 * HOP + slower, source, to, datagram));
            self.under_way.make_contiguous().sort_by_key(|(at, ..)| *at);
        }
    }

    /// Node `at` says that it received `nonce` at `udp`; its tag.
    pub(super) fn bind(&mut self, now: Instant, at: usize, said: Nonce, udp: SocketAddr) -> Option<u32> {
        let minute = self.minute(now);
        if ![minute, minute.saturating_sub(1)].iter().any(|minute| nonce(udp, *minute) == said) {
            return None;
        }
        self.proven[at] += 1;
        let still = self.bound[at].filter(|(known, _)| *known == udp);
        let (_, tag) = *self.bound[at].insert(still.unwrap_or_else(|| {
            self.tags += 1;
            (udp, BindingTag::new(0x00ab_cd00 + self.tags))
        }));
        Some(tag.number())
    }

    /// Whether a datagram from `from` is one that the relay forwarded to node `to`.
    pub(super) fn is_relayed(&self, to: usize, from: SocketAddr, header: RelayedHeader) -> bool {
        from == relay_address() && self.bound[to].is_some_and(|(_, tag)| tag == header.tag)
    }

    /// The router of this side forwards this port now, or none; who came in by another is strange to it again.
    pub(super) fn forward_port(&mut self, at: usize, port: Option<u16>) {
        let side = &mut self.sides[at];
        (side.forwarded, side.guests) = (port, vec![]);
    }

    /// The NAT of this side lets UDP through from now on, like a port-restricted one.
    pub(super) fn allow_udp(&mut self, at: usize) {
        self.sides[at].nat = Nat::PortRestricted;
    }

    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.under_way.front().map(|(at, ..)| *at)
    }

    /// The next datagram that arrives: for which node, from where, and its bytes.
    pub(super) fn receive(&mut self, now: Instant) -> Option<(usize, SocketAddr, Vec<u8>)> {
        while let Some((_, from, to, datagram)) = self.under_way.pop_front_if(|(at, ..)| *at <= now) {
            let is_swallowed = self.is_torn || self.swallows.is_some_and(|swallows| swallows(&datagram));
            if is_swallowed && from.ip() != relay_address().ip() {
                continue;
            }
            let side = self.sides.iter().position(|side| side.public == to.ip());
            if let Some(at) = side
                && self.sides[at].lets_in(from, to)
                && !self.sides[at].deaf
                && datagram.len() <= self.sides[at].largest
            {
                return Some((at, from, datagram));
            }
        }
        None
    }
}

/// Two nodes behind these NATs, with sockets.
pub(super) fn behind(seed: u64, nats: [Nat; 2]) -> World {
    let mut world = World::new(seed);
    give_sockets(&mut world, nats);
    world
}

/// The two nodes have sockets from now on, behind these NATs.
pub(super) fn give_sockets(world: &mut World, nats: [Nat; 2]) {
    world.internet.sides = nats.iter().enumerate().map(|(at, nat)| Side::new(at, *nat)).collect();
    for at in 0..2 {
        let (now, inside) = (world.now, world.internet.sides[at].inside);
        world.nodes[at].endpoint.handle_addresses(now, vec![inside]);
    }
}

fn kind(world: &World, at: usize) -> Option<PathKind> {
    world.status(at).path.map(|path| path.via.kind())
}

pub(super) fn kinds(world: &World) -> [Option<PathKind>; 2] {
    [kind(world, 0), kind(world, 1)]
}

/// A data packet of node 0 opens at node 1, which is told where it came from: through whatever mapping there is now.
fn hear_node_0(world: &mut World) -> SocketAddr {
    let to = world.internet.sides[1].inside;
    let from = world.internet.sides[0].outward(to);
    let (now, slot) = (world.now, world.status(1).slot);
    world.nodes[1].endpoint.handle_heard(now, slot, from);
    from
}

pub(super) const DIRECT: [Option<PathKind>; 2] = [Some(PathKind::DirectUdp); 2];
pub(super) const RELAYED: [Option<PathKind>; 2] = [Some(PathKind::RelayWs); 2];

/// Frames go out at both nodes and arrive while `works`: what the data planes would tell.
pub(super) fn traffic(world: &mut World, span: Duration, arrives: bool) {
    traffic_each(world, span, Duration::from_millis(50), arrives);
}

/// The same, told as often as this.
fn traffic_each(world: &mut World, span: Duration, step: Duration, arrives: bool) {
    let end = world.now + span;
    // It goes on where the last traffic ended.
    let mut counter = world.internet.counters;
    while world.now < end {
        for (at, counter) in counter.iter_mut().enumerate() {
            let status = world.status(at);
            let (now, slot) = (world.now, status.slot);
            let Some(path) = status.path else { continue };
            world.nodes[at].endpoint.handle_data_sent(now, slot, path.via, *counter + 11);
            if arrives {
                *counter += 10;
                acknowledge(world, 1 - at, path.via.slot().number(), *counter);
            }
        }
        world.run(step);
    }
    world.internet.counters = counter;
}

/// Node `at` says that data up to `highest` came over `path`, as its data plane would.
fn acknowledge(world: &mut World, at: usize, path: u8, highest: u64) {
    acknowledge_some(world, at, path, highest, [u64::MAX; 4]);
}

/// The same, but not all of it came.
pub(super) fn acknowledge_some(world: &mut World, at: usize, path: u8, highest: u64, bitmap: [u64; 4]) {
    let now = world.now;
    let peer = *world.nodes[at].endpoint.peers.keys().next().unwrap();
    world.nodes[at]
        .endpoint
        .with_peer(now, peer, |peer, ctx| peer.say_ack_for_test(ctx, path, highest, bitmap));
}

#[test]
fn every_pair_of_nats_ends_where_rfc_4787_says_it_must() {
    use Nat::{AddressRestricted, Blocked, FullCone, Open, PortRestricted, Symmetric};
    let all = [Open, FullCone, AddressRestricted, PortRestricted, Symmetric, Blocked];
    for (i, a) in all.into_iter().enumerate() {
        for (j, b) in all.into_iter().enumerate() {
            let mut world = behind(100 + 10 * i as u64 + j as u64, [a, b]);
            world.run(Duration::from_secs(5));
            let pair = [a, b];
            // A new port for each destination cannot be guessed by one that looks at ports, nor by its like.
            let symmetric = pair.contains(&Symmetric);
            let by_port = pair.iter().filter(|nat| matches!(nat, PortRestricted | Symmetric)).count();
            let is_hopeless = symmetric && by_port == 2;
            let feasible = !(pair.contains(&Blocked) || is_hopeless);
            let expected = if feasible { DIRECT } else { RELAYED };
            assert_eq!(kinds(&world), expected, "{a:?} and {b:?}");
            for at in 0..2 {
                let status = world.status(at);
                assert_eq!(status.state, PeerState::Connected, "{a:?} and {b:?}");
                assert_eq!(status.peer_path, expected[1 - at], "{a:?} and {b:?}");
                assert_eq!(status.switches, u64::from(feasible));
                assert_eq!(status.next_direct_try.is_some(), !feasible);
                let direct = |to: &SocketAddr| to.ip() != relay_address().ip();
                let round = world.internet.sent[at].iter().filter(|(to, _)| direct(to)).count();
                assert!(round <= 60, "{round} packets");
            }
        }
    }
}

#[test]
fn a_pair_that_is_direct_releases_the_relay_and_says_nothing_over_it_any_more() {
    let mut world = behind(1, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!(world.released, [1, 1]);
    world.drop = |_, _| panic!("something was forwarded");
    world.run(Duration::from_secs(60));
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!(world.released, [1, 1], "once");
}

#[test]
fn the_move_to_a_direct_path_resends_nothing_and_says_what_it_was() {
    let mut world = behind(2, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    for at in 0..2 {
        let resends: Vec<_> =
            world.nodes[at].events.iter().filter(|e| matches!(e, Event::Resend { .. })).collect();
        assert_eq!(resends.len(), 1, "only when the session began: {resends:?}");
        let last = world.status(at).last_switch.unwrap();
        assert_eq!((last.from, last.to), (PathKind::RelayWs, PathKind::DirectUdp));
        assert_eq!(last.why, "a better path was proven");
    }
}

/// Whether it is as large as a PONG, or as one of full size from a node that asked before: what it is only its receiver can tell.
fn may_be_pong(packet: &[u8]) -> bool {
    let pong = Control::Pong { id: u64::MAX, path: PathKind::RelayWs.slot().number(), padding: vec![] };
    let is_small = packet.len() == HEADER_LEN + pong.encode().len() + TAG_LEN;
    let is_later = Header::parse(packet).is_ok_and(|header| header.counter > 0);
    is_small || (is_later && packet.len() > FULL_SIZE - 64)
}

#[test]
fn a_session_in_which_a_direct_path_is_proven_before_the_relays_stream_says_so() {
    for seed in 60..64 {
        let mut world = behind(seed, [Nat::Open; 2]);
        // The relay drops what answers one of the two, who answers the handshake; nothing else of what that is told.
        let (began, answered) = (world.lower(), 1 - world.lower());
        world.drop = match began {
            0 => |from, packet| from == 0 && may_be_pong(packet),
            _ => |from, packet| from == 1 && may_be_pong(packet),
        };
        let patience = world.now + Duration::from_secs(5);
        while world.started(answered) == 0 || kind(&world, answered).is_none() {
            assert!(world.now < patience, "no path was proven");
            world.run(Duration::from_millis(1));
        }
        world.drop = |_, _| false;
        world.run(Duration::from_secs(5));
        assert_eq!(kinds(&world), DIRECT);
        let moved = |event: &Event| matches!(event, Event::Moved { .. });
        assert_eq!(world.count(answered, moved), 0, "its data took no path before that one");
        assert_eq!(world.count(began, moved), 1, "that of the other went over the relay");
        assert_eq!([0, 1].map(|at| world.status(at).peer_path), DIRECT);
        assert_eq!(world.released, [1, 1], "the path over the relay rests");
        world.drop = |_, _| panic!("something was forwarded");
        world.run(Duration::from_secs(60));
        assert_eq!(kinds(&world), DIRECT);
    }
}

#[test]
fn a_pair_in_which_one_side_sends_looks_for_a_path_as_often_on_both() {
    let mut world = behind(11, [Nat::Symmetric; 2]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), RELAYED);
    let rounds = |world: &World| {
        [0, 1].map(|at: usize| world.nodes[at].endpoint.peers.values().next().unwrap().rounds_for_test())
    };
    let before = rounds(&world);
    for second in 0..3_600 {
        let (now, slots) = (world.now, [0, 1].map(|at| world.status(at).slot));
        let sealed = second + 1;
        world.nodes[0].endpoint.handle_data_sent(now, slots[0], channel(), sealed);
        world.run(Duration::from_millis(100));
        let peer = *world.nodes[1].endpoint.peers.keys().next().unwrap();
        let now = world.now;
        world.nodes[1].endpoint.with_peer(now, peer, |peer, ctx| {
            let report = peer.report_for_test(channel().slot(), second);
            peer.acknowledge(ctx, Some(channel()), &report);
        });
        world.run(Duration::from_millis(900));
    }
    for (after, before) in rounds(&world).into_iter().zip(before) {
        // One each 60 s, a tenth either way.
        assert!((54..=67).contains(&(after - before)), "{} in an hour", after - before);
    }
}

#[test]
fn a_black_hole_is_left_within_half_a_second_and_what_it_swallowed_is_sent_again() {
    let mut world = behind(3, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    for node in &mut world.nodes {
        node.events.clear();
    }
    for side in &mut world.internet.sides {
        side.mute = true;
    }
    traffic(&mut world, Duration::from_millis(500), false);
    assert_eq!(kinds(&world), RELAYED);
    for at in 0..2 {
        let resent = |event: &Event| matches!(event, Event::Resend { path, .. } if *path == PathKind::DirectUdp.slot());
        assert_eq!(world.count(at, resent), 1);
        let route = world.nodes[at].events.iter().position(|event| matches!(event, Event::Route { .. }));
        let resend = world.nodes[at].events.iter().position(resent);
        assert!(route < resend, "the route comes first");
        assert_eq!(world.status(at).state, PeerState::Connected);
        assert_eq!(world.status(at).last_switch.unwrap().why, "the path before was silent");
    }
    // For minutes on end: the relay carries, and nothing flaps.
    traffic(&mut world, Duration::from_secs(300), true);
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!(world.status(0).switches, 2);
    for side in &mut world.internet.sides {
        side.mute = false;
    }
    traffic(&mut world, Duration::from_secs(70), true);
    assert_eq!(kinds(&world), DIRECT, "found again at the next retry");
}

#[test]
fn a_path_that_falls_silent_after_data_left_it_for_a_better_one_is_given_up_as_well() {
    let mut world = behind(9, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    for side in &mut world.internet.sides {
        side.mute = true;
    }
    // Nothing is in doubt yet when users ask for the relay.
    traffic(&mut world, Duration::from_millis(50), false);
    for node in &mut world.nodes {
        node.events.clear();
        node.endpoint.want_path(world.now, PeerSlot(0), Wanted::Relay);
    }
    world.run(Duration::from_millis(50));
    assert_eq!(kinds(&world), RELAYED);
    let resent =
        |event: &Event| matches!(event, Event::Resend { path, .. } if *path == PathKind::DirectUdp.slot());
    assert_eq!([world.count(0, resent), world.count(1, resent)], [0, 0], "a planned move gives nothing up");
    traffic(&mut world, Duration::from_secs(1), true);
    assert_eq!([world.count(0, resent), world.count(1, resent)], [1, 1], "what it swallowed goes again");
}

#[test]
fn however_often_data_moves_nobody_says_connected_for_longer_than_one_silent_path_allows() {
    let mut world = behind(10, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    // Whatever is said is lost from now on, by datagram and over the relay; the stream stays.
    for side in &mut world.internet.sides {
        side.mute = true;
    }
    world.drop = |_, _| true;
    // Nothing is left to be said after the last move: that it leads anywhere has to be asked for.
    traffic(&mut world, Duration::from_millis(50), false);
    world.run(DEAD_AFTER + Duration::from_millis(400));
    for at in 0..2 {
        assert_ne!(world.status(at).state, PeerState::Connected, "node {at}");
    }
    for side in &mut world.internet.sides {
        side.mute = false;
    }
    world.drop = |_, _| false;
    world.run(Duration::from_secs(20));
    for at in 0..2 {
        assert_eq!(world.status(at).state, PeerState::Connected, "node {at}");
    }
}

#[test]
fn a_path_that_works_one_way_only_carries_nothing_either_way() {
    let mut world = behind(4, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    world.internet.sides[0].deaf = true;
    traffic(&mut world, Duration::from_secs(1), false);
    traffic(&mut world, Duration::from_secs(300), true);
    assert_eq!(kinds(&world), RELAYED);
    for at in 0..2 {
        assert_eq!(world.status(at).switches, 2, "node {at}");
    }
}

#[test]
fn a_path_that_swallows_what_every_path_carries_never_carries_data() {
    let mut world = behind(5, [Nat::PortRestricted; 2]);
    world.internet.sides[0].largest = 1200;
    world.run(Duration::from_secs(20));
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!(world.status(0).switches, 0);
}

/// The largest packet that node `at` sends whole, as its data plane was told last.
fn room(world: &World, at: usize) -> Option<usize> {
    world.nodes[at].events.iter().rev().find_map(|event| {
        let Event::Route { room, .. } = event else { return None };
        Some(*room)
    })?
}

#[test]
fn a_narrow_path_carries_data_in_pieces_each_way_as_it_is() {
    let mut world = behind(50, [Nat::PortRestricted; 2]);
    world.internet.sides[0].largest_out = 1252;
    world.run(Duration::from_secs(20));
    assert_eq!(kinds(&world), DIRECT);
    let rooms = [0, 1].map(|at| room(&world, at).unwrap());
    assert!((1252 - 16..=1252).contains(&rooms[0]), "{rooms:?}");
    assert_eq!(rooms[1], 1400 + 18 + 33, "the other way is wider");
    assert_eq!(world.status(0).path.unwrap().mtu.map_or(0, usize::from), rooms[0] + 28);
    // Rekeys are larger than that, and pass.
    world.run(Duration::from_secs(600));
    assert!(world.status(0).session.unwrap().rekeys >= 4);
    assert_eq!((kinds(&world), world.status(0).switches), (DIRECT, 1));
}

#[test]
fn a_path_that_becomes_narrow_goes_on_in_pieces_and_what_it_swallowed_goes_again() {
    let mut world = behind(51, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(room(&world, 0), Some(1451));
    let (narrowed, before) = (world.now, world.nodes[0].events.len());
    world.internet.sides[0].largest_out = 1280;
    // Small packets are acknowledged all the time.
    while room(&world, 0) == Some(1451) {
        traffic(&mut world, Duration::from_millis(100), true);
        assert!(world.now - narrowed < Duration::from_secs(3), "noticed in time");
    }
    let events = &world.nodes[0].events[before..];
    assert!(events.iter().any(|event| matches!(event, Event::Resend { .. })), "what was large goes again");
    traffic(&mut world, Duration::from_secs(20), true);
    assert!((1280 - 16..=1280).contains(&room(&world, 0).unwrap()));
    assert_eq!((kinds(&world), room(&world, 1)), (DIRECT, Some(1451)));
    // It becomes wide again.
    world.internet.sides[0].largest_out = 1500;
    traffic(&mut world, Duration::from_secs(700), true);
    assert_eq!(room(&world, 0), Some(1451));
}

#[test]
fn one_frame_that_a_narrow_path_swallowed_goes_again_though_the_path_answers_the_next_ping() {
    let mut world = behind(57, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(10));
    let resent =
        |event: &Event| matches!(event, Event::Resend { path, .. } if *path == PathKind::DirectUdp.slot());
    assert_eq!((kinds(&world), world.count(0, resent)), (DIRECT, 0));
    world.internet.sides[0].largest_out = 1280;
    // It is in doubt for no longer than the PING of the size that passes takes.
    let (now, status) = (world.now, world.status(0));
    world.nodes[0].endpoint.handle_data_sent(now, status.slot, status.path.unwrap().via, 1);
    world.run(Duration::from_secs(1));
    assert_eq!((kinds(&world), room(&world, 0)), (DIRECT, Some(1232)));
    assert_eq!(world.count(0, resent), 1);
    let at = |wanted: fn(&Event) -> bool| world.nodes[0].events.iter().rposition(wanted);
    let narrowed = at(|event| matches!(event, Event::Route { room: Some(1232), .. }));
    assert!(narrowed < at(|event| matches!(event, Event::Resend { .. })), "in pieces");
}

#[test]
fn a_mapping_that_changes_is_followed_without_the_relay() {
    let mut world = behind(6, [Nat::PortRestricted, Nat::Open]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    // The router forgets everything; the next packet from inside makes a new mapping.
    let before = world.status(1).path.unwrap().via;
    world.internet.sides[0].mappings.clear();
    world.run(Duration::from_secs(16));
    let after = world.status(1).path.unwrap().via;
    assert_ne!(before, after, "the heartbeat from inside showed the new address");
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!(world.status(0).switches, 1);
    // Whose heartbeat came first decides whether the other had doubts meanwhile.
    assert!(world.status(1).switches <= 3);
}

#[test]
fn data_from_a_new_address_is_followed_in_one_round_trip_and_without_a_switch() {
    let mut world = behind(16, [Nat::PortRestricted, Nat::Open]);
    world.run(Duration::from_secs(5));
    for rebind in 0..12 {
        traffic(&mut world, Duration::from_secs(5), true);
        world.internet.sides[0].mappings.clear();
        for node in &mut world.nodes {
            node.events.clear();
        }
        // A data packet of node 0 opens at node 1, which knows nothing of where it came from.
        let from = hear_node_0(&mut world);
        // There and back, and what lies between two steps or before it in a round.
        world.run(HOP * 7);
        assert_eq!(world.status(1).path.unwrap().via, Via::Udp(from), "rebind {rebind}");
        assert_eq!(
            world.count(1, |event| matches!(event, Event::Resend { .. })),
            1,
            "what went to the old address"
        );
        assert_eq!(world.count(1, |event| matches!(event, Event::PeerState { .. })), 0);
    }
    for at in 0..2 {
        assert_eq!(world.status(at).switches, 1);
        assert_eq!(world.count(at, |event| matches!(event, Event::StartAssociation { .. })), 0);
    }
}

#[test]
fn nobody_is_sent_a_large_check_where_no_check_was_answered() {
    let mut world = behind(17, [Nat::Open; 2]);
    world.run(Duration::from_secs(5));
    let (now, slot) = (world.now, world.status(1).slot);
    let victim: SocketAddr = "192.0.2.200:53".parse().unwrap();
    world.internet.sent[1].clear();
    // A member writes any address on its packets.
    world.nodes[1].endpoint.handle_heard(now, slot, victim);
    world.run(Duration::from_secs(1));
    let sent: Vec<_> = world.internet.sent[1].iter().filter(|(to, _)| *to == victim).collect();
    assert!(sent.len() == 1 && sent[0].1 < 100, "{sent:?}");
}

#[test]
fn who_copies_packets_gains_one_move_and_no_more() {
    let mut world = behind(19, [Nat::Open; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    let copier: SocketAddr = "203.0.113.77:4000".parse().unwrap();
    world.internet.copier = Some(copier);
    let slot = world.status(1).slot;
    let (mut counter, mut swallowed, steps) = (1_000, 0, 1_200);
    for step in 0..steps {
        let now = world.now;
        if step % 20 == 0 {
            // It passed on a data packet from its own address, faster than the network.
            world.nodes[1].endpoint.handle_heard(now, slot, copier);
        }
        // It passes on what is asked and answered, and swallows data.
        let via = world.status(1).path.unwrap().via;
        world.nodes[1].endpoint.handle_data_sent(now, slot, via, counter + 11);
        if via == Via::Udp(copier) {
            swallowed += 1;
        } else {
            counter += 10;
            acknowledge(&mut world, 0, via.slot().number(), counter);
        }
        world.run(Duration::from_millis(50));
    }
    assert!(swallowed <= steps / 20, "{swallowed} of {steps}");
    assert_eq!(kinds(&world), DIRECT);
}

#[test]
fn where_the_peer_went_there_is_room_for_a_path() {
    let mut world = behind(20, [Nat::PortRestricted, Nat::Open]);
    world.run(Duration::from_secs(5));
    // As many as are checked at once.
    for rebind in 0..5 {
        traffic(&mut world, Duration::from_millis(200), true);
        world.internet.sides[0].mappings.clear();
        let from = hear_node_0(&mut world);
        world.run(HOP * 8);
        assert_eq!(world.status(1).path.unwrap().via, Via::Udp(from), "rebind {rebind}");
    }
    assert_eq!(kinds(&world), DIRECT);
}

#[test]
fn a_path_that_died_in_doubt_is_given_up_before_the_doubt_ends() {
    let mut world = behind(21, [Nat::Open; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    world.nodes.iter_mut().for_each(|node| node.events.clear());
    world.lose_relay();
    world.internet.is_torn = true;
    traffic(&mut world, Duration::from_secs(4), false);
    world.internet.is_torn = false;
    world.run(Duration::from_secs(90));
    let at = |wanted: fn(&Event) -> bool| world.nodes[0].events.iter().position(wanted).unwrap();
    let begins = at(|event| matches!(event, Event::Doubt { path: Some(_), .. }));
    let died = at(|event| matches!(event, Event::Route { via: None, .. }));
    let mut events = world.nodes[0].events.iter().skip(died);
    let given_up = died + events.position(|event| matches!(event, Event::Resend { .. })).unwrap();
    let ends = at(|event| matches!(event, Event::Doubt { path: None, .. }));
    assert!(begins < died && given_up < ends, "{begins} {died} {given_up} {ends}");
}

#[test]
fn what_a_path_swallowed_goes_again_also_where_a_check_is_what_it_answers_first() {
    let mut world = behind(22, [Nat::PortRestricted, Nat::Open]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    // Node 1's data follows to another port of node 0's router. From then on that address is checked in full size.
    world.internet.sides[0].mappings.clear();
    let from = hear_node_0(&mut world);
    world.run(HOP * 8);
    assert_eq!(world.status(1).path.unwrap().via, Via::Udp(from));
    world.lose_relay();
    traffic(&mut world, Duration::from_secs(2), true);
    for node in &mut world.nodes {
        node.events.clear();
    }
    world.internet.is_torn = true;
    traffic(&mut world, Duration::from_millis(600), false);
    assert_eq!(world.count(1, |event| matches!(event, Event::Doubt { path: Some(_), .. })), 1);
    // A round begins. It is mended when a check of full size is all that is under way there.
    let now = world.now;
    world.nodes[1].endpoint.handle_network_changed(now);
    let to_it = |world: &World| world.internet.sent[1].iter().filter(|(to, _)| *to == from).count();
    let mut quiet = 0;
    let size = loop {
        let before = to_it(&world);
        world.run(Duration::from_millis(1));
        let sent: Vec<_> = world.internet.sent[1].iter().filter(|(to, _)| *to == from).collect();
        match sent.get(before..).unwrap() {
            [] => quiet += 1,
            [(_, small), (_, large)] if *small < 100 && *large > 1400 && quiet > 15 => break *large,
            _ => quiet = 0,
        }
        assert!(world.now < now + Duration::from_secs(2), "no check of full size left alone");
    };
    world.internet.is_torn = false;
    assert_eq!(world.status(1).path.unwrap().via, Via::Udp(from), "data has nowhere else to go");
    let asked = to_it(&world);
    world.nodes[1].events.clear();
    world.run(5 * HOP);
    assert_eq!(to_it(&world), asked, "nothing else was asked meanwhile");
    assert_eq!(world.count(1, |event| matches!(event, Event::Doubt { path: None, .. })), 1, "{size}");
    let resent =
        |event: &Event| matches!(event, Event::Resend { path, .. } if *path == PathKind::DirectUdp.slot());
    assert_eq!(world.count(1, resent), 1);
}

#[test]
fn a_path_that_answers_anew_waits_until_the_peer_heard_of_the_move_away_from_it() {
    let mut world = behind(18, [Nat::PortRestricted; 2]);
    world.slower = Duration::from_millis(5);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(40), true);
    assert_eq!(kinds(&world), DIRECT);
    // Where the peer finds it through the relay it may be back before what goes again has come.
    world.internet.sides[0].mappings.clear();
    let until = |world: &mut World, is_direct: bool| {
        let began = world.now;
        while (kind(world, 0) == DIRECT[0]) != is_direct {
            assert!(world.now < began + Duration::from_secs(1), "direct: not {is_direct}");
            traffic_each(world, Duration::from_millis(1), Duration::from_millis(1), is_direct);
        }
        world.now - began
    };
    until(&mut world, false);
    let back = until(&mut world, true);
    assert!((4 * (LATENCY + world.slower)..Duration::from_millis(100)).contains(&back), "{back:?}");
}

#[test]
fn a_router_that_forgot_is_found_out_by_the_doubt_and_not_at_the_next_question() {
    let mut world = behind(18, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    for rebind in 0..3 {
        traffic(&mut world, Duration::from_secs(40), true);
        assert_eq!(kinds(&world), DIRECT, "rebind {rebind}");
        let before = world.status(1).path.unwrap().via;
        // The other router lets nothing in from the new address.
        world.internet.sides[0].mappings.clear();
        traffic(&mut world, Duration::from_millis(500), false);
        traffic(&mut world, Duration::from_secs(2), true);
        assert_eq!(kinds(&world), DIRECT, "rebind {rebind}");
        assert_ne!(world.status(1).path.unwrap().via, before);
    }
    // A peer whose path is never out of doubt does not make this node ask without end.
    world.internet.is_torn = true;
    let asked = |world: &World| {
        world.internet.sent[0].iter().filter(|(to, _)| to.ip() == relay_address().ip()).count()
    };
    let before = asked(&world);
    for _ in 0..60 {
        traffic(&mut world, Duration::from_secs(1), false);
    }
    assert!(asked(&world) - before < 200, "{}", asked(&world) - before);
}

#[test]
fn a_router_that_forgets_each_five_seconds_is_found_again_each_time() {
    let mut world = behind(23, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    for rebind in 0..12 {
        traffic(&mut world, Duration::from_millis(2500), true);
        assert_eq!(kinds(&world), DIRECT, "rebind {rebind}");
        world.internet.sides[0].mappings.clear();
        traffic(&mut world, Duration::from_millis(500), false);
        traffic(&mut world, Duration::from_secs(2), true);
        assert_eq!(kinds(&world), DIRECT, "rebind {rebind}");
    }
}

#[test]
fn a_relay_restart_does_not_disturb_a_direct_pair() {
    let mut world = behind(7, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    world.nodes.iter_mut().for_each(|node| node.events.clear());
    world.lose_relay();
    traffic(&mut world, Duration::from_secs(30), true);
    assert_eq!(kinds(&world), DIRECT);
    world.connected = [false; 2];
    world.released = [0; 2];
    let now = world.now;
    for at in 0..2 {
        world.nodes[at].endpoint.handle_stream_opened(now, RELAY, relay_address());
    }
    traffic(&mut world, Duration::from_secs(10), true);
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!(world.released, [1, 1], "the new channel is released too");
    for at in 0..2 {
        assert_eq!(
            world.count(at, |event| matches!(event, Event::Route { .. } | Event::PeerState { .. })),
            0
        );
        assert_eq!(world.count(at, |event| matches!(event, Event::StartAssociation { .. })), 0);
    }
}

#[test]
fn a_relay_behind_a_proxy_whose_address_nobody_here_knows_is_sent_no_datagram() {
    let mut world = behind(9, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(2));
    let asks = |world: &World, at: usize| world.nodes[at].endpoint.stun_servers().next().is_some();
    let is_seen = |world: &World, at: usize| {
        let mut candidates = world.nodes[at].endpoint.candidates().iter();
        candidates.any(|candidate| candidate.kind == CandidateKind::ServerReflexive)
    };
    assert!((0..2).all(|at| asks(&world, at) && is_seen(&world, at)));
    world.lose_relay();
    world.connected = [false; 2];
    let now = world.now;
    for at in 0..2 {
        world.nodes[at].endpoint.handle_tunnelled_stream_opened(now, RELAY);
    }
    world.run(Duration::from_secs(30));
    for at in 0..2 {
        assert!(world.nodes[at].endpoint.is_registered(RELAY));
        // Not at the address of the stream before either: who knows what is there.
        assert!(!asks(&world, at) && !is_seen(&world, at));
    }
    world.lose_relay();
    world.connected = [false; 2];
    let now = world.now;
    for at in 0..2 {
        world.nodes[at].endpoint.handle_stream_opened(now, RELAY, relay_address());
    }
    world.run(Duration::from_secs(2));
    assert!((0..2).all(|at| asks(&world, at) && is_seen(&world, at)));
}

#[test]
fn rekeys_go_on_over_the_direct_path_with_no_relay_at_all() {
    let mut world = behind(8, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    world.lose_relay();
    world.run(Duration::from_secs(600));
    for at in 0..2 {
        let status = world.status(at);
        assert_eq!(status.state, PeerState::Connected);
        assert_eq!(status.session.unwrap().rekeys, 5, "every 120 s");
    }
}

#[test]
fn a_path_that_fails_for_a_while_with_no_relay_at_all_is_found_again() {
    for nats in [[Nat::PortRestricted; 2], [Nat::Open, Nat::PortRestricted], [Nat::Open; 2]] {
        for outage in [4, 10, 40] {
            let mut world = behind(18, nats);
            world.run(Duration::from_secs(5));
            world.lose_relay();
            // How this node is seen nobody tells it any more.
            world.internet.stun_is_silent = true;
            traffic(&mut world, Duration::from_secs(180), true);
            assert_eq!(kinds(&world), DIRECT);
            world.internet.is_torn = true;
            traffic(&mut world, Duration::from_secs(outage), false);
            assert_eq!(kinds(&world), [None; 2], "{nats:?}");
            world.internet.is_torn = false;
            // A round is begun when the path dies, and each 60 s, give or take a tenth.
            world.run(Duration::from_secs(if outage < 10 { 3 } else { 67 }));
            assert_eq!(kinds(&world), DIRECT, "{nats:?} {outage}");
        }
    }
}

#[test]
fn who_says_to_have_candidates_that_it_was_never_told_gets_them_all_the_same() {
    let mut world = behind(19, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    let revision = world.nodes[0].endpoint.local.revision;
    let (now, to) = (world.now, *world.nodes[1].endpoint.peers.keys().next().unwrap());
    world.nodes[1].endpoint.with_peer(now, to, |peer, ctx| {
        peer.say_for_test(ctx, &Control::CandidatesAck { revision: revision.wrapping_add(1) });
    });
    // It says nothing else.
    world.run(3 * HOP);
    world.internet.sides[1].mute = true;
    world.drop = |from, _| from == 1;
    let now = world.now;
    let inside = world.internet.sides[0].inside;
    world.nodes[0].endpoint.handle_addresses(now, vec![inside, "192.168.77.7:41641".parse().unwrap()]);
    assert_eq!(world.nodes[0].endpoint.local.revision, revision.wrapping_add(1));
    // And nobody is awake without end.
    world.run(Duration::from_millis(1_500));
    let tries = |world: &World| {
        world.internet.sent[1].iter().filter(|(to, _)| to.ip().to_string() == "192.168.77.7").count()
    };
    assert!(tries(&world) > 0, "it was told");
}

#[test]
fn peers_are_told_of_new_candidates_now_and_then_and_of_the_last_in_the_end() {
    let mut world = behind(20, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    let before = world.nodes[0].endpoint.local.revision;
    for n in 0..2_000u16 {
        let (now, outside) = (world.now, SocketAddr::from(([203, 0, 113, 77], 1_000 + n)));
        world.nodes[0].endpoint.handle_mapped_port(now, Some(outside));
        world.run(Duration::from_millis(5));
    }
    let told = world.nodes[0].endpoint.local.revision.wrapping_sub(before);
    assert!((10..=10 + 6).contains(&told), "{told} times in 10 s");
    world.run(Duration::from_secs(3));
    let last = "203.0.113.77:2999".parse().unwrap();
    assert!(world.nodes[0].endpoint.candidates().iter().any(|candidate| candidate.address == last));
    assert_eq!(kinds(&world), DIRECT);
}

#[test]
fn a_peer_that_restarts_goes_direct_again() {
    let mut world = behind(9, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    world.restart(0);
    let (now, inside) = (world.now, world.internet.sides[0].inside);
    world.nodes[0].endpoint.handle_addresses(now, vec![inside]);
    world.run(Duration::from_secs(10));
    assert_eq!(kinds(&world), DIRECT);
}

#[test]
fn a_network_change_looks_for_a_path_at_once() {
    let mut world = behind(10, [Nat::PortRestricted, Nat::Blocked]);
    world.run(Duration::from_secs(20));
    assert_eq!(kinds(&world), RELAYED);
    // The second node moves to a network that lets UDP out.
    world.internet.sides[1] = Side::new(1, Nat::FullCone);
    world.internet.sides[1].inside = "192.168.9.2:41641".parse().unwrap();
    let (now, inside) = (world.now, world.internet.sides[1].inside);
    world.nodes[1].endpoint.handle_addresses(now, vec![inside]);
    world.nodes[1].endpoint.handle_network_changed(now);
    world.run(Duration::from_secs(2));
    assert_eq!(kinds(&world), DIRECT);
}

#[test]
fn what_was_under_way_when_an_address_went_is_sent_again_and_a_new_address_alone_costs_nothing() {
    let mut world = behind(10, [Nat::Open; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(1), true);
    assert_eq!(kinds(&world), DIRECT);
    let resent =
        |event: &Event| matches!(event, Event::Resend { path, .. } if *path == PathKind::DirectUdp.slot());
    let (now, inside) = (world.now, world.internet.sides[1].inside);
    let second: SocketAddr = "192.168.9.2:41641".parse().unwrap();
    world.nodes[1].endpoint.handle_addresses(now, vec![inside, second]);
    world.run(Duration::from_millis(100));
    assert_eq!(world.count(1, resent), 0);
    // However soon the path answers again.
    let now = world.now;
    world.nodes[1].endpoint.handle_addresses(now, vec![inside]);
    world.run(Duration::from_millis(100));
    assert_eq!((world.count(1, resent), world.count(0, resent)), (1, 0));
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!(world.status(1).switches, 1, "the relay was not faster");
    let now = world.now;
    world.nodes[1].endpoint.handle_addresses(now, vec![inside, "[2001:db8::2]:41641".parse().unwrap()]);
    world.nodes[1].endpoint.handle_addresses(now, vec![inside]);
    world.run(Duration::from_millis(100));
    assert_eq!(world.count(1, resent), 1, "the path is of the other family");
}

#[test]
fn who_moved_says_so_through_the_relay_and_the_peer_leaves_where_it_was() {
    let mut world = behind(14, [Nat::Open; 2]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), DIRECT);
    // Nothing comes through from where it is now, and nobody sends data whose silence would tell.
    world.internet.is_torn = true;
    let new = SocketAddr::new([203, 0, 113, 100].into(), PORT);
    let side = &mut world.internet.sides[1];
    (side.inside, side.public) = (new, new.ip());
    let now = world.now;
    world.nodes[1].endpoint.handle_addresses(now, vec![new]);
    world.nodes[1].endpoint.handle_network_changed(now);
    world.run(Duration::from_millis(300));
    assert_eq!(kinds(&world), RELAYED);
}

#[test]
fn an_address_that_is_named_no_more_and_still_answers_is_not_left() {
    let mut world = behind(15, [Nat::Open; 2]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), DIRECT);
    let before = world.status(0).switches;
    let new = SocketAddr::new([203, 0, 113, 100].into(), PORT);
    let now = world.now;
    world.nodes[1].endpoint.handle_addresses(now, vec![new]);
    traffic(&mut world, Duration::from_secs(5), true);
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!(world.status(0).switches, before);
}

#[test]
fn a_peer_that_moves_again_and_again_is_no_worse_for_it() {
    let mut world = behind(12, [Nat::Open; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(1), true);
    assert_eq!(kinds(&world), DIRECT);
    for n in 1..=6 {
        let new = SocketAddr::new([203, 0, 113, 100 + n].into(), PORT);
        let side = &mut world.internet.sides[1];
        (side.inside, side.public) = (new, new.ip());
        let now = world.now;
        world.nodes[1].endpoint.handle_addresses(now, vec![new]);
        world.nodes[1].endpoint.handle_network_changed(now);
        // What went to where it was is lost, and its new network takes a while.
        world.internet.sides[1].mute = true;
        traffic(&mut world, Duration::from_millis(500), false);
        assert_eq!(kinds(&world), RELAYED, "move {n}");
        world.internet.sides[1].mute = false;
        traffic(&mut world, Duration::from_millis(1700), true);
        assert_eq!(kinds(&world), DIRECT, "move {n}");
        traffic(&mut world, Duration::from_secs(10), true);
    }
}

#[test]
fn a_handshake_packet_by_datagram_is_not_answered() {
    let mut world = behind(11, [Nat::Open; 2]);
    let stranger: SocketAddr = "192.0.2.66:6".parse().unwrap();
    let mut inits = vec![];
    for _ in 0..200 {
        world.run(Duration::from_millis(5));
        inits.extend(world.to_node.iter().filter_map(|(_, to, message)| {
            let StreamMessage::Forward(forward) = StreamMessage::parse(message).ok()? else { return None };
            let init = forward.packets().find(|packet| PacketKind::of(packet) == Some(PacketKind::Init))?;
            Some((*to, init.to_vec()))
        }));
    }
    let (to, mut init) = inits.pop().expect("an INIT passed");
    world.drain();
    let (now, before) = (world.now, world.internet.sent[to].len());
    let error = world.nodes[to].endpoint.handle_packet(now, Via::Udp(stranger), &mut init);
    assert_eq!(error, Err(PacketError::Kind));
    world.drain();
    assert_eq!(world.internet.sent[to].len(), before);
}

#[test]
fn a_packet_replayed_from_another_address_moves_nothing_and_costs_less_than_itself() {
    let mut world = behind(12, [Nat::Open; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(1), true);
    // Somebody on the way copies every datagram for a minute and sends it again from elsewhere.
    let stranger: SocketAddr = "192.0.2.66:6".parse().unwrap();
    let before = world.status(0).path.unwrap().via;
    let (mut copied, mut bytes) = (0, 0);
    for turn in 0..20_000_u64 {
        if turn % 10 == 0 {
            (0..2).for_each(|at| {
                acknowledge(&mut world, at, PathKind::DirectUdp.slot().number(), 100_000 + turn)
            });
            world.drain();
        }
        let copies: Vec<_> = world.internet.under_way.iter().cloned().collect();
        world.run(Duration::from_millis(3));
        for (_, _, to, mut datagram) in copies {
            let Some(at) = world.internet.sides.iter().position(|side| side.inside == to) else { continue };
            (copied, bytes) = (copied + 1, bytes + datagram.len());
            let now = world.now;
            let _ = world.nodes[at].endpoint.handle_packet(now, Via::Udp(stranger), &mut datagram);
        }
    }
    assert!(copied > 100, "{copied}");
    assert_eq!(world.status(0).path.unwrap().via, before);
    let to_stranger: usize =
        world.internet.sent.iter().flatten().filter(|(to, _)| *to == stranger).map(|(_, len)| *len).sum();
    assert!(to_stranger < bytes, "{to_stranger} of {bytes}");
}

#[test]
fn a_mapping_that_moves_while_nothing_is_said_is_told_to_the_peer() {
    let mut world = behind(13, [Nat::PortRestricted, Nat::Blocked]);
    world.run(Duration::from_secs(5));
    let told = world.nodes[0].endpoint.local.revision;
    world.internet.sides[0].mappings.clear();
    world.run(REFRESH + Duration::from_secs(1));
    assert!(world.nodes[0].endpoint.local.revision > told);
}
