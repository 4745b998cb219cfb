//! A relay whose operator allows no direct links (protocol §7.4).

use super::direct::{DIRECT, Nat, RELAYED, give_sockets, kinds, traffic};
use super::tcp::{Syns, listening};
use super::two_relays::two_relays;
use super::*;
use crate::path::select::Wanted;

/// Datagrams that node `at` sent to anybody but the relay.
fn direct_datagrams(world: &World, at: usize) -> usize {
    world.internet.sent[at].iter().filter(|(to, _)| to.ip() != relay_address().ip()).count()
}

fn candidates_said(world: &World) -> usize {
    let peers = world.nodes.iter().flat_map(|node| node.endpoint.peers.values());
    peers.filter(|peer| peer.knows_candidates_for_test()).count()
}

fn say_to_both(world: &mut World, body: &relay::Control) {
    for at in 0..2 {
        world.say(at, body);
    }
}

/// Two nodes that could reach each other by everything, behind a relay that allows nothing.
fn barred(seed: u64) -> World {
    let mut world = listening(seed, [Nat::Open; 2], Syns::FromBoth);
    world.direct = [Some(false); 2];
    world
}

#[test]
fn nothing_direct_is_tried_where_the_relay_allows_none_and_status_says_so() {
    let mut world = barred(500);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(200), true);
    let now = world.now;
    world.nodes.iter_mut().for_each(|node| node.endpoint.handle_network_changed(now));
    world.nodes[0].endpoint.want_path(now, PeerSlot(0), Wanted::Direct);
    world.run(Duration::from_secs(5));
    let asked = world.status(0).path.unwrap().why;
    assert_eq!(asked, "a direct path was asked for, and the relay allows none");
    world.nodes[0].endpoint.want_path(world.now, PeerSlot(0), Wanted::Auto);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!(world.tcp.began, [0, 0]);
    assert_eq!(candidates_said(&world), 0);
    for at in 0..2 {
        assert_eq!(direct_datagrams(&world, at), 0, "node {at}");
        let status = world.status(at);
        assert_eq!(status.path.unwrap().why, "the relay allows no direct path");
        assert_eq!((status.is_direct_barred, status.next_direct_try), (true, None));
    }
    // It thinks better of it.
    say_to_both(&mut world, &established(None, true));
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), DIRECT);
}

#[test]
fn one_end_that_heard_it_neither_answers_nor_keeps_what_the_other_tries() {
    let mut world = listening(501, [Nat::Open; 2], Syns::FromBoth);
    world.direct[1] = Some(false);
    world.run(Duration::from_secs(2));
    let hint = established(Some(world.internet.sides[1].inside), true);
    world.say(0, &hint);
    world.run(Duration::from_secs(1));
    world.nodes[0].endpoint.handle_network_changed(world.now);
    world.run(Duration::from_secs(20));
    assert!(direct_datagrams(&world, 0) > 0, "the other one tries");
    let (now, slot) = (world.now, world.status(1).slot);
    let link = TcpLink { number: 77, remote: "203.0.113.1:40000".parse().unwrap() };
    world.nodes[1].endpoint.handle_tcp_opened(now, slot, link);
    world.run(Duration::from_secs(1));
    let closed = |event: &Event| matches!(event, Event::TcpClose { link: closed, .. } if *closed == link);
    assert_eq!(world.count(1, closed), 1);
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!((direct_datagrams(&world, 1), world.tcp.began[1]), (0, 0));
}

#[test]
fn what_is_there_goes_on_and_is_not_looked_for_again_once_it_is_gone() {
    let mut world = listening(502, [Nat::PortRestricted; 2], Syns::Dropped);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    say_to_both(&mut world, &established(None, false));
    traffic(&mut world, Duration::from_secs(60), true);
    assert_eq!(kinds(&world), DIRECT, "a relay's word ends nothing that works");
    // The relay is away for a moment, and with it whoever introduces the peer: nothing is allowed by that.
    world.internet.is_torn = true;
    traffic(&mut world, Duration::from_secs(10), false);
    assert_eq!(kinds(&world), RELAYED);
    let before = [0, 1].map(|at| direct_datagrams(&world, at));
    world.internet.is_torn = false;
    let gone = relay::GoneReason::Lost;
    for at in 0..2 {
        let peer = world.nodes[1 - at].endpoint.id();
        world.say(at, &relay::Control::PeerGone { peer, channel: CHANNEL, reason: gone });
    }
    world.run(Duration::from_secs(1));
    world.introduce();
    for at in 0..2 {
        world.say(at, &established(None, false));
    }
    traffic(&mut world, Duration::from_secs(200), true);
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!([0, 1].map(|at| direct_datagrams(&world, at)), before);
}

#[test]
fn another_relay_that_introduces_the_pair_and_allows_it_is_enough() {
    let mut world = two_relays(503);
    world.direct = [Some(false); 2];
    give_sockets(&mut world, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!([direct_datagrams(&world, 0), direct_datagrams(&world, 1)], [0, 0]);
    for at in 0..2 {
        // That one said nothing of it when the two registered.
        world.idle_relay_introduces(at, 9);
    }
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), DIRECT);
}
