//! The path through the relay by datagram (protocol §3.9, §7.10), in virtual time.

use super::direct::{DIRECT, HOP, Nat, RELAYED, behind, kinds, traffic};
use super::*;
use crate::path::select::{PathKind, Wanted};
use crate::session::ReceiveMarks;
use crate::session::replay::ReplayWindow;
use crate::wire::relayed::BindingTag;

pub(super) const BY_DATAGRAM: [Option<PathKind>; 2] = [Some(PathKind::RelayUdp); 2];

/// Two nodes behind these NATs, and a relay that forwards datagrams.
pub(super) fn forwarded(seed: u64, nats: [Nat; 2]) -> World {
    let mut world = behind(seed, nats);
    world.internet.forwards = true;
    world
}

fn want(world: &mut World, at: usize, wanted: Wanted) {
    let (now, slot) = (world.now, world.status(at).slot);
    world.nodes[at].endpoint.want_path(now, slot, wanted);
}

fn moves(world: &World, at: usize) -> Vec<(PathKind, PathKind)> {
    let moved = world.nodes[at].events.iter().filter_map(|event| {
        if let Event::Moved { from, to, .. } = event { Some((*from, *to)) } else { None }
    });
    moved.collect()
}

#[test]
fn a_pair_that_cannot_go_direct_leaves_the_stream_for_datagrams() {
    let mut world = forwarded(51, [Nat::Symmetric; 2]);
    world.run(Duration::from_millis(1500));
    assert_eq!(kinds(&world), RELAYED, "usable at once");
    world.run(Duration::from_secs(2));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
    for at in 0..2 {
        let status = world.status(at);
        let path = status.path.unwrap();
        assert_eq!(path.rtt, Some(4 * HOP));
        assert_eq!(path.why, "no direct path is proven");
        assert_eq!(path.mtu, Some(1400 + 18 + 33 + 28 + 8));
        assert_eq!(status.standby.len(), 1, "the stream is kept proven");
        assert_eq!(moves(&world, at), [(PathKind::RelayWs, PathKind::RelayUdp)]);
        assert_eq!(world.released[at], 0);
    }
}

#[test]
fn a_pair_that_goes_direct_costs_the_relay_no_datagram() {
    let mut world = forwarded(52, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(30));
    traffic(&mut world, Duration::from_secs(30), true);
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!(world.internet.forwarded, 0);
}

#[test]
fn an_address_that_the_relay_binds_while_the_session_begins_is_no_reason_to_hurry() {
    // On lines of all lengths: the binding comes before the session, with it, or after it.
    for slower in 0..40 {
        let mut world = forwarded(62, [Nat::PortRestricted; 2]);
        world.slower = Duration::from_millis(slower);
        world.run(Duration::from_secs(10));
        traffic(&mut world, Duration::from_secs(10), true);
        assert_eq!(kinds(&world), DIRECT, "{slower} ms");
        for at in 0..2 {
            assert_eq!(
                moves(&world, at),
                [(PathKind::RelayWs, PathKind::DirectUdp)],
                "{slower} ms, node {at}"
            );
        }
    }
}

#[test]
fn what_arrived_by_a_path_is_acknowledged_there_wherever_own_data_goes() {
    let mut world = forwarded(61, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), DIRECT);
    let index = world.nodes[0].events.iter().find_map(|event| {
        if let Event::OpenAssociation { key, .. } = event { Some(key.index()) } else { None }
    });
    let (now, slot) = (world.now, world.status(0).slot);
    let direct = world.status(0).path.unwrap().via;
    let contact = Contact { relay: RELAY, channel: CHANNEL };
    let unknown = Via::Udp("192.0.2.99:7".parse().unwrap());
    let endpoint = &mut world.nodes[0].endpoint;
    for (via, kind) in [
        (direct, PathKind::DirectUdp),
        (Via::RelayUdp(contact), PathKind::RelayUdp),
        (Via::Channel(contact), PathKind::RelayWs),
        (unknown, PathKind::DirectUdp),
    ] {
        let (mut marks, mut window) = (ReceiveMarks::default(), ReplayWindow::new());
        marks.on_opened(now, kind.slot(), 7);
        endpoint.handle_ack_report(now, slot, Some(via), &marks.report(&mut window).of_key(index));
        let by = match endpoint.poll_transmit().expect("an acknowledgement") {
            Transmit::Stream { .. } => PathKind::RelayWs,
            Transmit::Tcp { .. } => PathKind::DirectTcp,
            Transmit::Datagram { to, .. } if to == relay_address() => PathKind::RelayUdp,
            Transmit::Datagram { to, .. } => {
                assert_eq!(Via::Udp(to), direct);
                PathKind::DirectUdp
            }
        };
        assert_eq!(by, kind, "whatever is known of that path here");
        assert_eq!(endpoint.poll_transmit(), None);
    }
}

#[test]
fn a_black_hole_is_left_for_datagrams_with_one_move() {
    let mut world = forwarded(53, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    for hole in 1..=2 {
        traffic(&mut world, Duration::from_secs(5), true);
        assert_eq!(kinds(&world), DIRECT, "before hole {hole}");
        world.internet.is_torn = true;
        traffic(&mut world, Duration::from_millis(250), false);
        traffic(&mut world, Duration::from_secs(5), true);
        assert_eq!(kinds(&world), BY_DATAGRAM, "hole {hole}");
        for at in 0..2 {
            assert_eq!(moves(&world, at).last(), Some(&(PathKind::DirectUdp, PathKind::RelayUdp)));
            assert_eq!(moves(&world, at).len(), 2 * hole);
        }
        world.internet.is_torn = false;
        traffic(&mut world, Duration::from_secs(70), true);
    }
}

#[test]
fn datagrams_that_fall_silent_now_and_then_are_not_returned_to_at_once() {
    let mut world = forwarded(66, [Nat::Symmetric; 2]);
    world.run(Duration::from_secs(4));
    traffic(&mut world, Duration::from_secs(2), true);
    for silence in 0..4 {
        assert_eq!(kinds(&world), BY_DATAGRAM, "before silence {silence}");
        world.internet.sides.iter_mut().for_each(|side| side.mute = true);
        traffic(&mut world, Duration::from_millis(600), false);
        assert_eq!(kinds(&world), RELAYED, "in silence {silence}");
        world.internet.sides.iter_mut().for_each(|side| side.mute = false);
        // It answers in a moment, and has to go on doing so.
        traffic(&mut world, Duration::from_millis((2000 << silence) - 200), true);
        assert_eq!(kinds(&world), RELAYED, "after silence {silence}");
        traffic(&mut world, Duration::from_secs(1), true);
    }
    assert_eq!(kinds(&world), BY_DATAGRAM);
}

#[test]
fn a_relay_that_forwards_no_datagrams_costs_a_few_tries_and_no_time() {
    // The peer has UDP blocked: it never binds.
    let mut world = forwarded(54, [Nat::PortRestricted, Nat::Blocked]);
    world.run(Duration::from_secs(600));
    assert_eq!(kinds(&world), RELAYED);
    let asked = world.internet.forwarded + world.internet.undeliverable;
    assert!((6..=100).contains(&asked), "{asked} datagrams in ten minutes");
}

#[test]
fn a_wish_for_datagrams_tries_them_at_once_though_they_failed_a_moment_ago() {
    let mut world = forwarded(60, [Nat::Symmetric, Nat::Symmetric]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), BY_DATAGRAM);
    for side in &mut world.internet.sides {
        side.mute = true;
    }
    world.run(Duration::from_secs(20));
    assert_eq!(kinds(&world), RELAYED);
    for side in &mut world.internet.sides {
        side.mute = false;
    }
    world.run(Duration::from_secs(1));
    assert_eq!(kinds(&world), RELAYED, "not due yet");
    want(&mut world, 0, Wanted::RelayUdp);
    world.run(Duration::from_secs(1));
    assert_eq!(kinds(&world), BY_DATAGRAM);
}

#[test]
fn it_dies_with_the_relay_and_comes_back_with_it() {
    let mut world = forwarded(55, [Nat::Symmetric; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(1), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
    world.lose_relay();
    world.connected = [false; 2];
    world.internet.bound = [None; 2];
    // The stream answers first when it is back.
    world.internet.forwards_slower = Duration::from_millis(6);
    world.run(Duration::from_secs(1));
    assert_eq!(kinds(&world), [None; 2]);
    let now = world.now;
    for at in 0..2 {
        world.nodes[at].endpoint.handle_stream_opened(now, RELAY, relay_address());
    }
    world.run(Duration::from_secs(1));
    traffic(&mut world, Duration::from_secs(1), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
    let unbound = |event: &Event| matches!(event, Event::RelayBound { binding: None, .. });
    assert_eq!(world.count(0, unbound), 1);
    for at in 0..2 {
        // What waited meanwhile is not put on the stream, to be overtaken by datagrams a moment later.
        assert_eq!(moves(&world, at), [(PathKind::RelayWs, PathKind::RelayUdp)], "node {at}");
    }
}

#[test]
fn a_mapping_that_moves_is_bound_anew_and_what_was_under_way_goes_again() {
    let mut world = forwarded(56, [Nat::Symmetric; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(1), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
    let resent =
        |event: &Event| matches!(event, Event::Resend { path, .. } if *path == PathKind::RelayUdp.slot());
    assert_eq!(world.count(0, resent), 0);
    world.internet.sides[0].rebind();
    let now = world.now;
    world.nodes[0].endpoint.handle_network_changed(now);
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
    assert!(world.count(0, resent) >= 1);
}

#[test]
fn a_peer_that_the_relay_bound_elsewhere_gets_again_what_was_under_way_to_where_it_was() {
    let mut world = forwarded(63, [Nat::Symmetric; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(1), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
    let resent = |world: &World| {
        let of_it =
            |event: &Event| matches!(event, Event::Resend { path, .. } if *path == PathKind::RelayUdp.slot());
        world.count(0, of_it)
    };
    let seen_at = |world: &mut World, port: u16| {
        let peer_udp = Some(SocketAddr::from(([198, 51, 100, 99], port)));
        world.say(0, &established(peer_udp, true));
        traffic(world, Duration::from_millis(200), true);
        assert_eq!(kinds(world), BY_DATAGRAM);
        assert_eq!(moves(world, 0), [(PathKind::RelayWs, PathKind::RelayUdp)]);
        resent(world)
    };
    let before = seen_at(&mut world, 1);
    assert_eq!(seen_at(&mut world, 1), before, "no news");
    // Nor is what a relay says over which no data goes.
    let peer = *world.nodes[0].endpoint.peers.keys().next().unwrap();
    let (now, elsewhere) = (world.now, Contact { relay: RelayNo(1), channel: CHANNEL });
    world.nodes[0].endpoint.with_peer(now, peer, |peer, ctx| {
        let udp = Some("198.51.100.99:77".parse().unwrap());
        peer.hint(ctx, elsewhere, Duration::from_secs(120), Duration::from_secs(15), udp);
    });
    assert_eq!(seen_at(&mut world, 2), before + 1);
    // A relay that says so for ever has data sent again as often as it lets a client move.
    let after = (3..103).map(|port| seen_at(&mut world, port)).last().unwrap();
    assert!((6..=8 + 10).contains(&(after - before)), "{} times in 20 s", after - before);
}

#[test]
fn a_mapping_that_a_router_forgot_without_a_word_is_found_out_by_the_doubt() {
    let mut world = forwarded(57, [Nat::Symmetric; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(1), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
    let bound = world.internet.bound[0];
    world.internet.sides[0].rebind();
    traffic(&mut world, Duration::from_secs(2), false);
    assert_ne!(world.internet.bound[0], bound, "the relay knows where it is now");
    traffic(&mut world, Duration::from_secs(5), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
}

#[test]
fn what_the_stream_had_goes_again_with_its_channel_also_where_data_has_left_it() {
    for comes_back in [false, true] {
        let mut world = forwarded(60, [Nat::PortRestricted; 2]);
        world.run(Duration::from_secs(5));
        want(&mut world, 0, Wanted::RelayWs);
        traffic(&mut world, Duration::from_secs(1), true);
        want(&mut world, 0, Wanted::Auto);
        traffic(&mut world, Duration::from_millis(100), false);
        assert_eq!(kinds(&world), DIRECT);
        let resent =
            |event: &Event| matches!(event, Event::Resend { path, .. } if *path == PathKind::RelayWs.slot());
        let before = world.count(0, resent);
        let (peer, instance) = (world.nodes[1].endpoint.id(), world.nodes[1].instance);
        // The peer's connection broke, and was replaced by another before or after the relay noticed.
        let gone = relay::Control::PeerGone { peer, channel: CHANNEL, reason: relay::GoneReason::Lost };
        let again = relay::Control::Peer { peer, channel: ChannelId(CHANNEL.0 + 1), instance };
        world.say(0, if comes_back { &again } else { &gone });
        // What is said of the other channel does not come to this relay any more.
        world.run(LATENCY);
        assert_eq!(kinds(&world)[0], DIRECT[0]);
        assert_eq!(world.count(0, resent), before + 1, "{comes_back}");
    }
}

#[test]
fn a_wish_for_the_stream_or_for_datagrams_is_kept() {
    let mut world = forwarded(57, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(1), true);
    for round in 1..=3 {
        for (wanted, expected) in [
            (Wanted::RelayUdp, BY_DATAGRAM),
            (Wanted::RelayWs, RELAYED),
            (Wanted::Relay, BY_DATAGRAM),
            (Wanted::Auto, DIRECT),
        ] {
            want(&mut world, round % 2, wanted);
            traffic(&mut world, Duration::from_secs(1), true);
            assert_eq!(kinds(&world), expected, "{wanted:?}, round {round}");
        }
    }
    for at in 0..2 {
        assert_eq!(moves(&world, at).len(), 1 + 4 * 3, "one move each");
    }
}

#[test]
fn it_rests_while_both_are_direct() {
    let mut world = forwarded(58, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    want(&mut world, 0, Wanted::RelayUdp);
    traffic(&mut world, Duration::from_secs(1), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
    want(&mut world, 0, Wanted::Auto);
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    let before = world.internet.forwarded;
    traffic(&mut world, Duration::from_secs(600), true);
    assert_eq!(world.internet.forwarded, before);
}

#[test]
fn a_minute_of_proving_the_binding_again_disturbs_nothing() {
    let mut world = forwarded(62, [Nat::Symmetric; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(1), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
    let bound = world.internet.bound;
    let disturbances = |world: &World, at: usize| {
        world.count(at, |event| {
            matches!(
                event,
                Event::RelayBound { .. } | Event::Resend { .. } | Event::Doubt { .. } | Event::Moved { .. }
            )
        })
    };
    let before = [0, 1].map(|at| (world.internet.proven[at], disturbances(&world, at)));
    assert_eq!(before.map(|(proven, _)| proven), [1; 2], "once, as long as the nonce is the same");
    traffic(&mut world, Duration::from_secs(600), true);
    assert_eq!(world.internet.bound, bound, "the same tags");
    assert_eq!(kinds(&world), BY_DATAGRAM);
    for (at, (_, before)) in before.into_iter().enumerate() {
        let proven = world.internet.proven[at];
        assert!((9..=12).contains(&proven), "{proven} times in ten minutes");
        assert_eq!(disturbances(&world, at), before, "node {at}");
    }
}

#[test]
fn what_a_relay_forgot_without_a_word_is_bound_again_within_a_minute() {
    let mut world = forwarded(63, [Nat::Symmetric; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(1), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
    world.internet.bound[0] = None;
    // A nonce lasts a minute, and the next one comes with the next question after that.
    traffic(&mut world, Duration::from_secs(60 + 25), true);
    assert!(world.internet.bound[0].is_some());
    traffic(&mut world, Duration::from_secs(5), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
}

#[test]
fn a_tag_that_nobody_asked_for_binds_nothing_and_a_wrong_one_leaves_the_stream() {
    let mut world = forwarded(59, [Nat::Symmetric; 2]);
    world.run(Duration::from_secs(5));
    let told = |event: &Event| matches!(event, Event::RelayBound { .. });
    let before = world.count(0, told);
    world.say(0, &relay::Control::Bound { tag: 99 });
    world.run(Duration::from_millis(50));
    assert_eq!(world.count(0, told), before);
    assert_eq!(kinds(&world), BY_DATAGRAM);
    // The relay takes another than it said: datagrams are not answered then.
    let (address, _) = world.internet.bound[0].unwrap();
    world.internet.bound[0] = Some((address, BindingTag::new(99)));
    traffic(&mut world, Duration::from_secs(5), true);
    assert_eq!(kinds(&world)[0], Some(PathKind::RelayWs), "and the stream carries on");
    assert_eq!(world.status(0).state, PeerState::Connected);
}
