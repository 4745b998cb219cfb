//! What a member that means no good may make a node send, and where to.

use super::direct::{DIRECT, Nat, acknowledge_some, behind, kinds, traffic};
use super::tcp::{Syns, listening, said_by_stream};
use super::*;
use crate::path::select::{PathKind, Wanted};

/// Nothing is ever sent there.
fn refused() -> SocketAddr {
    "169.254.169.254:53".parse().unwrap()
}

#[test]
fn a_peer_that_answers_checks_and_nothing_else_causes_few_rounds_and_tries() {
    let mut world = listening(91, [Nat::PortRestricted; 2], Syns::Dropped);
    // What proves a path never passes.
    world.internet.sides[0].largest = 1_000;
    world.run(Duration::from_secs(3600));
    assert!(kinds(&world).iter().all(|kind| kind.is_some_and(|kind| !kind.is_direct())));
    // A round is a check of each address, and some PINGs where one answered.
    let peer = world.internet.sides[0].inside.ip();
    let to_peer =
        world.internet.sent[1].iter().filter(|(to, _)| to.ip() != relay_address().ip() && to.ip() != peer);
    let rounds = 12 + 3600 / 30 + 3600 / 54;
    assert!(to_peer.clone().count() < rounds * 20, "{}", to_peer.count());
    assert!((8..=4 + 60 + 1).contains(&world.tcp.began[1]), "{:?}", world.tcp.began);
}

#[test]
fn a_host_with_many_addresses_that_never_answers_is_sent_little() {
    let mut world = behind(92, [Nat::PortRestricted; 2]);
    let victim = |n: u16| SocketAddr::new([0x2001, 0xdb8, 0, 1, 0, 0, 0, n].into(), 4000);
    let now = world.now;
    world.nodes[0].endpoint.handle_addresses(now, (0..15).map(victim).collect());
    world.run(Duration::from_secs(10));
    let sent = world.internet.sent[1].iter().filter(|(to, _)| to.is_ipv6()).count();
    assert!((15..=20 + 5).contains(&sent), "{sent}");
    assert_eq!(kinds(&world), DIRECT, "and the peer is found by its other addresses");
}

#[test]
fn a_thousand_wishes_make_a_few_moves_and_the_last_one_counts() {
    let mut world = behind(93, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    let mut taken = 0;
    for n in 0..1_000 {
        let (now, slot) = (world.now, world.status(0).slot);
        let wanted = if n % 2 == 0 { Wanted::Relay } else { Wanted::Auto };
        let before = world.status(1).wanted;
        world.nodes[0].endpoint.want_path(now, slot, wanted);
        world.run(Duration::from_millis(1));
        taken += u32::from(world.status(1).wanted != before);
    }
    assert!((2..=10).contains(&taken), "{taken} wishes were taken in");
    let (now, slot) = (world.now, world.status(0).slot);
    world.nodes[0].endpoint.want_path(now, slot, Wanted::Relay);
    world.run(Duration::from_secs(3));
    assert_eq!(world.status(1).wanted, Wanted::Relay);
}

#[test]
fn nothing_is_answered_at_an_address_that_is_refused() {
    let mut world = behind(94, [Nat::Open; 2]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), DIRECT);
    let mut stolen = 0;
    for turn in 0..3_000 {
        if turn % 100 == 0 {
            let (now, slot) = (world.now, world.status(0).slot);
            let endpoint = &mut world.nodes[0].endpoint;
            endpoint.echo(now, slot, turn);
            endpoint.handle_key_used_up(now, slot);
            endpoint.want_path(now, slot, if turn % 200 == 0 { Wanted::Direct } else { Wanted::Auto });
        }
        world.drain();
        let node = world.internet.sides[1].inside;
        let at = world.internet.under_way.iter().position(|(_, _, to, _)| *to == node);
        if let Some((_, _, _, mut datagram)) = at.and_then(|at| world.internet.under_way.remove(at)) {
            // It never arrives from where it was sent, and is authentic.
            let now = world.now;
            stolen += u32::from(
                world.nodes[1].endpoint.handle_packet(now, Via::Udp(refused()), &mut datagram).is_ok(),
            );
        }
        world.run(Duration::from_millis(10));
    }
    assert!(stolen > 20, "{stolen} opened");
    assert!(world.internet.sent[1].iter().all(|(to, _)| *to != refused()));
}

#[test]
fn a_path_that_swallows_the_messages_of_a_rekey_does_not_end_the_session() {
    let mut world = behind(95, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), DIRECT);
    // Nothing of their size passes, nor in pieces. PINGs are larger, or smaller.
    world.internet.swallows =
        Some(|datagram| (1_290..1_445).contains(&datagram.len()) || datagram.first() == Some(&0xc2));
    traffic(&mut world, Duration::from_secs(250), true);
    for at in 0..2 {
        assert_eq!((world.status(at).session.unwrap().rekeys, world.started(at)), (2, 1), "node {at}");
    }
    assert_eq!(kinds(&world), DIRECT, "for data it is as good as before");
}

#[test]
fn somebody_who_copies_faster_than_the_way_itself_does_not_keep_the_answers_of_a_rekey() {
    let mut world = behind(96, [Nat::Open; 2]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), DIRECT);
    let copier: SocketAddr = "192.0.2.66:6".parse().unwrap();
    let (now, slot) = (world.now, world.status(world.lower()).slot);
    let lower = world.lower();
    world.nodes[lower].endpoint.handle_key_used_up(now, slot);
    // Whoever asks waits for the answer for less than it takes to go by the relay.
    for _ in 0..2_000 {
        world.drain();
        for (_, from, to, mut datagram) in world.internet.under_way.clone() {
            let Some(at) = world.internet.sides.iter().position(|side| side.inside == to) else { continue };
            if from != copier {
                let now = world.now;
                let _ = world.nodes[at].endpoint.handle_packet(now, Via::Udp(copier), &mut datagram);
            }
        }
        world.run(Duration::from_millis(1));
    }
    for at in 0..2 {
        assert_eq!(world.status(at).session.unwrap().rekeys, 1);
    }
}

#[test]
fn questions_from_places_without_a_path_get_few_answers_there() {
    let mut world = behind(97, [Nat::Blocked; 2]);
    world.run(Duration::from_secs(10));
    let stray: SocketAddr = "192.0.2.77:5000".parse().unwrap();
    let answers = |world: &mut World, questions: u64| {
        let mut sent = 0;
        for id in 0..questions {
            let mut packet = said_by_stream(world, |peer, ctx| {
                peer.echo(ctx, id);
            });
            let (now, endpoint) = (world.now, &mut world.nodes[0].endpoint);
            assert!(endpoint.handle_packet(now, Via::Udp(stray), &mut packet).is_ok());
            while let Some(transmit) = endpoint.poll_transmit() {
                sent += u32::from(matches!(transmit, Transmit::Datagram { to, .. } if to == stray));
            }
        }
        sent
    };
    // A few checks go there as well.
    let at_once = answers(&mut world, 200);
    assert!((20..=25).contains(&at_once), "{at_once}");
    world.run(Duration::from_secs(1));
    let later = answers(&mut world, 200);
    assert!((10..=13).contains(&later), "{later}");
}

#[test]
fn a_ping_that_came_another_way_than_it_was_sent_is_not_answered() {
    let mut world = behind(98, [Nat::Blocked; 2]);
    world.run(Duration::from_secs(10));
    for (number, answers) in [(0, 1), (1, 0), (2, 0), (3, 0), (4, 0), (255, 0)] {
        let mut packet = said_by_stream(&mut world, |peer, ctx| peer.say_ping_for_test(ctx, number));
        let (now, endpoint) = (world.now, &mut world.nodes[0].endpoint);
        assert!(endpoint.handle_packet(now, channel(), &mut packet).is_ok());
        let answered = std::iter::from_fn(|| endpoint.poll_transmit()).count();
        assert_eq!(answered, answers, "path {number}");
    }
}

#[test]
fn acknowledgements_of_what_was_never_sealed_confirm_no_path() {
    // Far beyond all that may have been sealed; and just beyond what was, while nothing new is.
    for (ahead, grows) in [(1 << 21, 10), (0, 0)] {
        let mut world = behind(99, [Nat::PortRestricted; 2]);
        world.run(Duration::from_secs(5));
        traffic(&mut world, Duration::from_secs(2), true);
        assert_eq!(kinds(&world), DIRECT);
        let left = |event: &Event| matches!(event, Event::Moved { from: PathKind::DirectUdp, .. });
        assert_eq!(world.count(0, left), 0);
        // Ten each 50 ms, and all acknowledged.
        let mut sealed = 401;
        for n in 0..100 {
            let (now, status) = (world.now, world.status(0));
            sealed += grows;
            if let Some(path) = status.path {
                world.nodes[0].endpoint.handle_data_sent(now, status.slot, path.via, sealed);
            }
            let number = PathKind::DirectUdp.slot().number();
            acknowledge_some(&mut world, 1, number, sealed + ahead + n, [u64::MAX; 4]);
            world.run(Duration::from_millis(50));
        }
        assert!(world.count(0, left) > 0, "nothing arrives there");
    }
}
