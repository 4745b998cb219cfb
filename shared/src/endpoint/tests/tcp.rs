//! Direct TCP between two endpoints (protocol §7.12), in virtual time.

use super::direct::{DIRECT, HOP, Nat, RELAYED, behind, kinds, traffic};
use super::*;
use crate::endpoint::event::TCP_TRY;
use crate::path::select::{PathKind, Wanted};
use crate::traverse::candidate::{Candidate, CandidateKind};

const TCP: [Option<PathKind>; 2] = [Some(PathKind::DirectTcp); 2];

/// What SYNs come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Syns {
    /// Nothing.
    #[default]
    Dropped,
    /// A connection, when each leaves before the other's arrives.
    Cross,
    /// A connection, when that node sends them: the other can be reached.
    From(usize),
    /// A connection for each side that sends them.
    FromBoth,
}

/// TCP between the two nodes.
#[derive(Debug, Default)]
pub(super) struct Tcp {
    pub(super) syns: Syns,
    /// When each node began its last try, and for which peer.
    tries: [Option<(Instant, PeerSlot)>; 2],
    pub(super) began: [usize; 2],
    /// When each began a try.
    all: [Vec<Instant>; 2],
    /// The two ends of each connection that is open.
    links: Vec<[TcpLink; 2]>,
    opened: u64,
    /// Arrival, at which node, on which link.
    under_way: VecDeque<(Instant, usize, TcpLink, Vec<u8>)>,
    /// What is sent stays under way for ever.
    swallows: bool,
}

impl Tcp {
    /// `at` begins a try; the connections that come of it now, each with the nodes that know that they opened it.
    fn on_try(
        &mut self,
        now: Instant,
        at: usize,
        slot: PeerSlot,
    ) -> Vec<([TcpLink; 2], [Option<PeerSlot>; 2])> {
        self.tries[at] = Some((now, slot));
        self.began[at] += 1;
        self.all[at].push(now);
        let both =
            self.tries.map(|tried| tried.filter(|(began, _)| now < *began + TCP_TRY).map(|(_, slot)| slot));
        let mut opened = Vec::new();
        match (self.syns, both) {
            (Syns::Cross, [Some(_), Some(_)]) if self.crosses() => opened.push((self.open(), both)),
            (Syns::From(opener), _) if opener == at => opened.push((self.open(), only(at, slot))),
            (Syns::FromBoth, _) => opened.push((self.open(), only(at, slot))),
            (Syns::Dropped | Syns::Cross | Syns::From(_), _) => {}
        }
        opened
    }

    /// Whether the first SYN of the two sides' tries was still under way when the other left.
    fn crosses(&self) -> bool {
        let [Some((a, _)), Some((b, _))] = self.tries else { return false };
        a.max(b) - a.min(b) < 2 * HOP
    }

    fn open(&mut self) -> [TcpLink; 2] {
        self.opened += 1;
        let ends = [0, 1].map(|at: u64| TcpLink {
            number: 2 * self.opened + at,
            remote: SocketAddr::new([203, 0, 113, 2 - u8::try_from(at).unwrap()].into(), 40_000),
        });
        self.links.push(ends);
        ends
    }

    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.under_way.front().map(|(at, ..)| *at)
    }

    pub(super) fn receive(&mut self, now: Instant) -> Option<(usize, TcpLink, Vec<u8>)> {
        while let Some((_, at, link, message)) = self.under_way.pop_front_if(|(at, ..)| *at <= now) {
            if self.links.iter().any(|ends| ends[at] == link) {
                return Some((at, link, message));
            }
        }
        None
    }

    pub(super) fn send(&mut self, now: Instant, from: usize, link: TcpLink, message: Vec<u8>) {
        let Some(ends) = self.links.iter().find(|ends| ends[from] == link) else { return };
        if !self.swallows {
            self.under_way.push_back((now + 2 * HOP, 1 - from, ends[1 - from], message));
        }
    }
}

fn only(at: usize, slot: PeerSlot) -> [Option<PeerSlot>; 2] {
    [0, 1].map(|side: usize| (side == at).then_some(slot))
}

impl World {
    /// What the owner of node `at` does about connections.
    pub(super) fn on_tcp_event(&mut self, at: usize, event: &Event) {
        let now = self.now;
        if let Event::TcpTry { slot, addresses } = event {
            assert!(!addresses.is_empty());
            for (ends, openers) in self.tcp.on_try(now, at, *slot) {
                for (side, slot) in openers.iter().enumerate() {
                    if let Some(slot) = slot {
                        self.nodes[side].endpoint.handle_tcp_opened(now, *slot, ends[side]);
                    }
                }
            }
        }
        if let Event::TcpClose { link, .. } = event
            && let Some(open) = self.tcp.links.iter().position(|ends| ends[at] == *link)
        {
            let ends = self.tcp.links.remove(open);
            self.nodes[1 - at].endpoint.handle_tcp_closed(now, ends[1 - at]);
        }
    }

    /// Every connection breaks.
    fn break_tcp(&mut self) {
        for ends in std::mem::take(&mut self.tcp.links) {
            for (node, link) in self.nodes.iter_mut().zip(ends) {
                node.endpoint.handle_tcp_closed(self.now, link);
            }
        }
    }

    fn moves(&self, at: usize) -> Vec<(PathKind, PathKind)> {
        let moved = self.nodes[at].events.iter().filter_map(|event| {
            if let Event::Moved { from, to, .. } = event { Some((*from, *to)) } else { None }
        });
        moved.collect()
    }
}

/// Two nodes behind these NATs that listen.
pub(super) fn listening(seed: u64, nats: [Nat; 2], syns: Syns) -> World {
    let mut world = behind(seed, nats);
    world.tcp.syns = syns;
    for at in 0..2 {
        let now = world.now;
        world.nodes[at].endpoint.handle_tcp_port(now, Some((RELAY, 40_000)));
    }
    world
}

#[test]
fn where_udp_is_blocked_a_pair_goes_direct_by_tcp_with_one_move_however_the_connection_came_to_be() {
    for (seed, syns) in [(71, Syns::Cross), (72, Syns::From(0)), (73, Syns::From(1)), (74, Syns::FromBoth)] {
        for nats in
            [[Nat::Blocked; 2], [Nat::Blocked, Nat::PortRestricted], [Nat::PortRestricted, Nat::Blocked]]
        {
            let mut world = listening(seed, nats, syns);
            world.run(Duration::from_millis(500));
            assert_eq!(kinds(&world), RELAYED, "usable at once");
            world.run(Duration::from_secs(3));
            traffic(&mut world, Duration::from_secs(2), true);
            assert_eq!(kinds(&world), TCP, "{syns:?} {nats:?}");
            assert_eq!(world.tcp.links.len(), 1, "{syns:?}: one connection stays");
            assert_eq!(world.released, [1, 1]);
            for at in 0..2 {
                assert_eq!(world.moves(at), [(PathKind::RelayWs, PathKind::DirectTcp)]);
                let kept = |event: &Event| matches!(event, Event::TcpKept { .. });
                assert!(world.count(at, kept) >= 1);
                let peer = world.nodes[at].endpoint.peers.values().next().unwrap();
                assert_eq!(
                    peer.tcp_links_for_test(),
                    [world.tcp.links[0][at]],
                    "{syns:?}: as the owner has it"
                );
                let path = world.status(at).path.unwrap();
                assert_eq!(
                    (path.rtt, path.why),
                    (Some(4 * HOP), "no direct path by datagram is proven"),
                    "{syns:?} {nats:?} {at}"
                );
                assert!(matches!(path.via, Via::Tcp(link) if link == world.tcp.links[0][at]));
            }
            world.drop = |_, _| panic!("something was forwarded");
            traffic(&mut world, Duration::from_secs(300), true);
            assert_eq!(kinds(&world), TCP);
            world.drop = |_, _| false;
        }
    }
}

/// A pair whose data goes by datagram while a connection between them is there as well.
fn both_ways(seed: u64) -> World {
    let mut world = listening(seed, [Nat::PortRestricted; 2], Syns::FromBoth);
    world.internet.sides.iter_mut().for_each(|side| side.mute = true);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), TCP);
    world.internet.sides.iter_mut().for_each(|side| side.mute = false);
    let now = world.now;
    world.nodes.iter_mut().for_each(|node| node.endpoint.handle_network_changed(now));
    traffic(&mut world, Duration::from_secs(30), true);
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!(world.tcp.links.len(), 1);
    world.nodes.iter_mut().for_each(|node| node.events.clear());
    world
}

#[test]
fn where_no_direct_path_answers_any_more_data_goes_to_the_relay_with_one_move() {
    let mut world = both_ways(81);
    world.internet.sides.iter_mut().for_each(|side| side.mute = true);
    world.tcp.swallows = true;
    traffic(&mut world, Duration::from_millis(500), false);
    traffic(&mut world, Duration::from_secs(10), true);
    assert_eq!(kinds(&world), RELAYED);
    for at in 0..2 {
        assert_eq!(world.moves(at), [(PathKind::DirectUdp, PathKind::RelayWs)]);
    }
}

#[test]
fn a_connection_that_answers_takes_over_from_datagrams_that_are_lost() {
    let mut world = both_ways(82);
    world.internet.sides.iter_mut().for_each(|side| side.mute = true);
    traffic(&mut world, Duration::from_millis(500), false);
    assert_eq!(kinds(&world), TCP);
    traffic(&mut world, Duration::from_secs(10), true);
    for at in 0..2 {
        assert_eq!(world.moves(at).last().unwrap().1, PathKind::DirectTcp);
        assert!(world.moves(at).len() <= 2, "{:?}", world.moves(at));
    }
}

#[test]
fn nothing_is_tried_by_tcp_where_datagrams_pass() {
    for nats in [[Nat::PortRestricted; 2], [Nat::Open; 2], [Nat::Open, Nat::FullCone]] {
        let mut world = listening(75, nats, Syns::FromBoth);
        world.run(Duration::from_secs(5));
        traffic(&mut world, Duration::from_secs(300), true);
        assert_eq!(kinds(&world), DIRECT);
        assert_eq!(world.tcp.began, [0, 0], "{nats:?}");
        assert_eq!(world.moves(0), [(PathKind::RelayWs, PathKind::DirectUdp)], "{nats:?}");
    }
}

#[test]
fn what_does_not_open_is_tried_as_often_as_datagrams_are_and_no_more() {
    let mut world = listening(76, [Nat::Blocked; 2], Syns::Dropped);
    world.run(Duration::from_secs(3600));
    assert_eq!(kinds(&world), RELAYED);
    for at in 0..2 {
        // 0, 1, 3, 7, 15, 25, 35, 45, 55 minutes at each side, and each makes the other try as well.
        assert!((8..=24).contains(&world.tcp.began[at]), "{:?}", world.tcp.began);
    }
}

#[test]
fn syns_leave_together_whoever_begins() {
    let mut world = listening(86, [Nat::Blocked; 2], Syns::Dropped);
    world.slower = Duration::from_millis(300);
    world.run(Duration::from_secs(3600));
    let [a, b] = &world.tcp.all;
    for (own, other) in [(a, b), (b, a)] {
        for began in own {
            let is_met = |at: &&Instant| (*at).max(began).duration_since(*(*at).min(began)) < 2 * HOP;
            assert!(other.iter().any(|at| is_met(&at)), "one of {began:?} and none of {other:?}");
        }
    }
    assert!(a.len() >= 8, "{a:?}");
}

#[test]
fn routers_forget_a_try_in_vain_before_the_next_unless_something_changed() {
    let mut world = listening(87, [Nat::Blocked; 2], Syns::Dropped);
    world.run(Duration::from_secs(2));
    traffic(&mut world, Duration::from_secs(1200), true);
    for began in &world.tcp.all {
        assert!((6..=10).contains(&began.len()), "{began:?}");
        assert!(began.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(130)), "{began:?}");
    }
    let (now, before) = (world.now, world.tcp.began);
    world.nodes[0].endpoint.handle_network_changed(now);
    traffic(&mut world, Duration::from_secs(4), true);
    assert_eq!(world.tcp.began, before.map(|began| began + 1), "at once");
}

/// Both begin at once, and the word of the one comes when the other's connection has just opened: another try, which finds nothing more.
#[test]
fn a_try_beside_a_connection_that_opened_was_not_in_vain() {
    let mut world = listening(89, [Nat::Blocked; 2], Syns::Cross);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), TCP);
    let now = world.now;
    for at in 0..2 {
        let peer = *world.nodes[at].endpoint.peers.keys().next().unwrap();
        world.nodes[at].endpoint.with_peer(now, peer, |peer, ctx| peer.begin_tcp_for_test(ctx));
    }
    traffic(&mut world, Duration::from_secs(10), true);
    assert_eq!(kinds(&world), TCP);
    world.tcp.syns = Syns::Dropped;
    let before = world.tcp.began;
    world.break_tcp();
    traffic(&mut world, Duration::from_secs(8), true);
    assert_eq!(kinds(&world), RELAYED);
    assert!(
        world.tcp.began.iter().zip(before).all(|(now, before)| *now > before),
        "nobody looked for another"
    );
}

#[test]
fn a_try_for_which_nothing_was_opened_is_made_good_when_it_may_be() {
    let mut world = listening(88, [Nat::Blocked; 2], Syns::Dropped);
    world.run(Duration::from_secs(2));
    traffic(&mut world, Duration::from_secs(150), true);
    // Others of this node's peers are tried at the same host.
    let deny = |world: &mut World, lasts: u64| {
        for _ in 0..10 * lasts {
            for at in 0..2 {
                let (now, host) = (world.now, world.internet.sides[1 - at].inside.ip());
                while world.nodes[at].endpoint.strangers.may_try(now, host) {}
            }
            traffic(world, Duration::from_millis(100), true);
        }
    };
    let before = world.tcp.began;
    deny(&mut world, 70);
    assert_eq!(world.tcp.began, before, "nothing is left to open");
    traffic(&mut world, Duration::from_secs(70), true);
    assert!(world.tcp.began.iter().zip(before).all(|(now, before)| *now > before), "{before:?}");
}

#[test]
fn a_member_that_says_try_and_try_again_makes_few_tries() {
    let mut world = listening(77, [Nat::Blocked; 2], Syns::Dropped);
    world.run(Duration::from_secs(10));
    let before = world.tcp.began[1];
    for _ in 0..3600 {
        let now = world.now;
        let peer = *world.nodes[0].endpoint.peers.keys().next().unwrap();
        world.nodes[0].endpoint.with_peer(now, peer, |peer, ctx| peer.say_tcp_try_for_test(ctx));
        let slot = world.status(0).slot;
        world.nodes[0].endpoint.want_path(now, slot, Wanted::DirectTcp);
        world.run(Duration::from_secs(1));
    }
    // The budget, one a minute because a user wants it, and those of its own rounds.
    assert!(world.tcp.began[1] - before <= 4 + 60 + 60 + 24, "{}", world.tcp.began[1] - before);
}

#[test]
fn a_link_that_swallows_is_left_in_time_and_what_it_had_goes_again_and_it_has_to_earn_its_return() {
    let mut world = listening(78, [Nat::Blocked; 2], Syns::Cross);
    world.run(Duration::from_secs(4));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), TCP);
    world.nodes.iter_mut().for_each(|node| node.events.clear());
    (world.tcp.swallows, world.tcp.syns) = (true, Syns::Dropped);
    let tried = world.tcp.began;
    traffic(&mut world, Duration::from_millis(500), false);
    assert_eq!(kinds(&world), RELAYED);
    for at in 0..2 {
        let resent = |event: &Event| matches!(event, Event::Resend { path, .. } if *path == PathKind::DirectTcp.slot());
        assert_eq!(world.count(at, resent), 1);
        assert_eq!(world.moves(at), [(PathKind::DirectTcp, PathKind::RelayWs)]);
    }
    // Nothing answers: the link is closed, and nobody has it any more.
    traffic(&mut world, Duration::from_secs(4), true);
    assert_eq!(world.tcp.links.len(), 0);
    traffic(&mut world, Duration::from_secs(3), true);
    assert_ne!(world.tcp.began, tried, "tried again at once");
    (world.tcp.swallows, world.tcp.syns) = (false, Syns::Cross);
    let began = world.now;
    while world.tcp.links.is_empty() {
        traffic(&mut world, Duration::from_millis(100), true);
        assert!(world.now - began < Duration::from_secs(200), "not tried again");
    }
    traffic(&mut world, Duration::from_millis(500), true);
    assert_eq!(kinds(&world), RELAYED, "what comes next is on probation");
    traffic(&mut world, Duration::from_secs(3), true);
    assert_eq!(kinds(&world), TCP);
}

#[test]
fn a_link_that_breaks_is_left_at_once() {
    let mut world = listening(79, [Nat::Blocked; 2], Syns::Cross);
    world.run(Duration::from_secs(4));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), TCP);
    world.tcp.syns = Syns::Dropped;
    world.break_tcp();
    // The relay's path rests: it needs one round trip to be proven.
    traffic(&mut world, Duration::from_millis(100), true);
    assert_eq!(kinds(&world), RELAYED);
}

#[test]
fn data_goes_to_datagrams_as_soon_as_they_pass() {
    let mut world = listening(80, [Nat::Blocked, Nat::PortRestricted], Syns::Cross);
    world.run(Duration::from_secs(4));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), TCP);
    world.internet.allow_udp(0);
    let now = world.now;
    world.nodes[0].endpoint.handle_network_changed(now);
    traffic(&mut world, Duration::from_secs(5), true);
    assert_eq!(kinds(&world), DIRECT);
    for at in 0..2 {
        assert_eq!(world.moves(at).last(), Some(&(PathKind::DirectTcp, PathKind::DirectUdp)));
    }
}

#[test]
fn tcp_is_taken_when_a_user_asks_for_it_and_left_when_nobody_does() {
    let mut world = listening(81, [Nat::PortRestricted; 2], Syns::Cross);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    let want = |world: &mut World, wanted| {
        let (now, slot) = (world.now, world.status(0).slot);
        world.nodes[0].endpoint.want_path(now, slot, wanted);
        traffic(world, Duration::from_secs(1), true);
    };
    want(&mut world, Wanted::DirectTcp);
    assert_eq!(kinds(&world), TCP);
    want(&mut world, Wanted::Auto);
    assert_eq!(kinds(&world), DIRECT);
    for at in 0..2 {
        let resent =
            |event: &Event| matches!(event, Event::Resend { path, .. } if *path != PathKind::RelayWs.slot());
        assert_eq!(world.count(at, resent), 0, "both moves were planned");
    }
}

#[test]
fn a_connection_is_the_peer_s_that_was_heard_on_it_whomever_it_was_opened_for() {
    for is_kept in [false, true] {
        let mut world = listening(85, [Nat::Blocked; 2], Syns::Dropped);
        world.run(Duration::from_secs(10));
        let now = world.now;
        // Somebody else announced the addresses of node 1 as its own, and node 0 opened a connection there.
        let other = NodeId([0; 32]);
        world.nodes[0].endpoint.meet(other);
        let links = world.tcp.open();
        world.nodes[0]
            .endpoint
            .with_peer(now, other, |peer, _| peer.add_tcp_link_for_test(now, links[0], is_kept));
        let slot = world.status(1).slot;
        world.nodes[1].endpoint.handle_tcp_opened(now, slot, links[1]);
        let mut heard = None;
        while let Some(transmit) = world.nodes[1].endpoint.poll_transmit() {
            if let Transmit::Tcp { message, .. } = transmit {
                let forward = Forward::parse(&message).unwrap();
                let mut ping = forward.packets().next().unwrap().to_vec();
                heard = Some(world.nodes[0].endpoint.handle_packet(now, Via::Tcp(links[0]), &mut ping));
            }
        }
        let mine = world.nodes[1].endpoint.id();
        let owner = if is_kept { other } else { mine };
        assert_eq!(heard.unwrap().is_ok(), !is_kept);
        let has = |id: NodeId| world.nodes[0].endpoint.peers[&id].has_link(links[0]);
        assert_eq!((has(mine), has(other)), (owner == mine, owner == other));
        while let Some(event) = world.nodes[0].endpoint.poll_event() {
            assert!(!matches!(event, Event::TcpClose { .. }), "it works");
        }
    }
}

#[test]
fn while_a_user_wants_tcp_it_is_tried_again_and_again_and_ports_of_services_never() {
    let mut world = listening(83, [Nat::PortRestricted; 2], Syns::Dropped);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    let (now, slot) = (world.now, world.status(0).slot);
    world.nodes[0].endpoint.want_path(now, slot, Wanted::DirectTcp);
    traffic(&mut world, Duration::from_secs(510), true);
    assert_eq!(kinds(&world), DIRECT, "what is not there is not waited for");
    assert!((4..=9).contains(&world.tcp.began[0]), "{:?}", world.tcp.began);
    world.tcp.syns = Syns::Cross;
    traffic(&mut world, Duration::from_secs(170), true);
    assert_eq!(kinds(&world), TCP);

    let mut world = listening(84, [Nat::Blocked; 2], Syns::Cross);
    let now = world.now;
    world.nodes[0].endpoint.handle_tcp_port(now, Some((RELAY, 443)));
    world.run(Duration::from_secs(10));
    // The relay of this world sees everybody at port 1000.
    assert_eq!(world.tcp.began[1], 0);
}

#[test]
fn a_relay_that_does_not_know_from_which_port_the_stream_comes_makes_no_candidate() {
    // Behind a reverse proxy that says the address alone (protocol §3.10).
    for (observed, expected) in [("192.0.2.1:1000", &["192.0.2.1:1000"][..]), ("192.0.2.1:0", &[])] {
        let mut world = listening(88, [Nat::Blocked; 2], Syns::Dropped);
        world.observed_tcp = observed.parse().unwrap();
        world.run(Duration::from_secs(5));
        for node in &world.nodes {
            assert!(node.endpoint.is_registered(RELAY));
            let all = node.endpoint.local.tcp.iter();
            let (seen, own): (Vec<&Candidate>, Vec<&Candidate>) =
                all.partition(|candidate| candidate.kind == CandidateKind::ServerReflexive);
            let seen: Vec<String> = seen.iter().map(|candidate| candidate.address.to_string()).collect();
            assert_eq!(seen, expected, "{observed}");
            assert!(!own.is_empty() && own.iter().all(|candidate| candidate.address.port() == 40_000));
        }
    }
}

#[test]
fn what_listens_at_other_addresses_does_not_show_in_whether_the_peer_s_own_connection_is_kept() {
    // Links that this node opened and on which nobody was heard; and links that somebody brought about who copies the peer's packets.
    for is_kept in [false, true] {
        let mut world = listening(85, [Nat::Blocked; 2], Syns::Dropped);
        world.run(Duration::from_secs(10));
        let link = |number| TcpLink { number, remote: "192.0.2.77:5000".parse().unwrap() };
        let (now, slot) = (world.now, world.status(0).slot);
        let mine = world.nodes[1].endpoint.id();
        for number in 0..if is_kept { 3 } else { 6 } {
            let link = link(900 + number);
            if is_kept {
                world.nodes[0]
                    .endpoint
                    .with_peer(now, mine, |peer, _| peer.add_tcp_link_for_test(now, link, true));
            } else {
                world.nodes[0].endpoint.handle_tcp_opened(now, slot, link);
            }
        }
        // The peer says something on a connection that it opened.
        let mut packet = said_by_stream(&mut world, |peer, ctx| {
            peer.echo(ctx, 1);
        });
        assert!(world.nodes[0].endpoint.handle_packet(now, Via::Tcp(link(77)), &mut packet).is_ok());
        world.run(Duration::from_millis(100));
        let kept = |event: &Event| matches!(event, Event::TcpKept { link: kept, .. } if kept.number == 77);
        assert_eq!(world.count(0, kept), 1);
        if is_kept {
            let left = world.nodes[0].endpoint.peers[&mine].tcp_links_for_test();
            assert_eq!(left, [link(901), link(902), link(77)], "the oldest made room");
        }
    }
}

/// The packet that node 1 says by the relay's stream.
pub(super) fn said_by_stream(world: &mut World, say: impl FnOnce(&mut Peer, &mut Context<'_>)) -> Vec<u8> {
    world.drain();
    let (now, peer) = (world.now, world.nodes[0].endpoint.id());
    world.nodes[1].endpoint.with_peer(now, peer, say).unwrap();
    let transmit = world.nodes[1].endpoint.poll_transmit();
    let Some(Transmit::Stream { message, .. }) = transmit else { panic!("{transmit:?}") };
    Forward::parse(&message).unwrap().packets().next().unwrap().to_vec()
}

#[test]
fn a_stranger_s_connection_is_nobody_s() {
    let mut world = listening(82, [Nat::Blocked; 2], Syns::Dropped);
    world.run(Duration::from_secs(10));
    let link = TcpLink { number: 999, remote: "192.0.2.77:5".parse().unwrap() };
    let now = world.now;
    let index = world.nodes[0].endpoint.indices.any_for_test();
    let mut forged =
        Header { kind: PacketType::Control, receiver: index, counter: 1 << 40 }.to_bytes().to_vec();
    forged.extend([7; 40]);
    assert!(world.nodes[0].endpoint.handle_packet(now, Via::Tcp(link), &mut forged).is_err());
    world.run(Duration::from_secs(1));
    let known = |event: &Event| matches!(event, Event::TcpKept { link: kept, .. } if *kept == link);
    assert_eq!(world.count(0, known), 0);
    assert!(world.status(0).standby.is_empty());
}
