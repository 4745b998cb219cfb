//! Who can hinder a path now and then does not make data move back and forth as he likes (protocol §7.6).

use super::direct::{DIRECT, Nat, acknowledge_some, behind, kinds, traffic};
use super::relayed::forwarded;
use super::*;
use crate::path::select::PathKind;

fn moves(world: &World, at: usize) -> usize {
    world.count(at, |event| matches!(event, Event::Moved { .. }))
}

/// Datagrams pass again and again, for a moment and not for another. How often node 0's data moved.
fn moved_in_silences(world: &mut World, silences: u32, silence: impl Fn(&mut World, bool)) -> usize {
    let before = moves(world, 0);
    for _ in 0..silences {
        silence(world, true);
        traffic(world, Duration::from_millis(600), false);
        silence(world, false);
        traffic(world, Duration::from_millis(1_900), true);
    }
    moves(world, 0) - before
}

#[test]
fn datagrams_of_a_relay_that_swallow_data_and_nothing_else_carry_it_seldom() {
    let mut world = forwarded(67, [Nat::Symmetric; 2]);
    world.run(Duration::from_secs(4));
    let (mut counter, mut swallowed, steps) = (1_000, 0, 6_000);
    for _ in 0..steps {
        for at in 0..2 {
            let (now, status) = (world.now, world.status(at));
            let Some(path) = status.path else { continue };
            world.nodes[at].endpoint.handle_data_sent(now, status.slot, path.via, counter + 11);
            if path.via.kind() == PathKind::RelayWs {
                acknowledge_some(&mut world, 1 - at, path.via.slot().number(), counter + 10, [u64::MAX; 4]);
            }
        }
        let is_swallowed = kinds(&world)[0] == Some(PathKind::RelayUdp);
        (counter, swallowed) = (counter + 10, swallowed + u32::from(is_swallowed));
        world.run(Duration::from_millis(50));
    }
    assert!(swallowed > 0 && swallowed < steps / 16, "{swallowed} of {steps}");
}

#[test]
fn who_rewrites_what_stun_answers_has_few_silences_excused() {
    let mut world = behind(68, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    world.internet.forged_port = Some(2_000);
    let moved = moved_in_silences(&mut world, 100, |world, is_torn| world.internet.is_torn = is_torn);
    assert!(moved <= 80, "{moved} in four minutes");
    world.internet.forged_port = None;
    traffic(&mut world, Duration::from_secs(70), true);
    assert_eq!(kinds(&world), DIRECT);
}

/// Somebody who copied a data packet of node 0 is faster with it than the network.
fn copy(world: &mut World, copier: SocketAddr) {
    let (now, slot) = (world.now, world.status(1).slot);
    world.internet.copier = Some(copier);
    world.nodes[1].endpoint.handle_heard(now, slot, copier);
}

#[test]
fn who_copies_packets_and_passes_everything_on_has_data_for_a_moment_only() {
    let mut world = behind(71, [Nat::Open; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    copy(&mut world, "203.0.113.77:4000".parse().unwrap());
    traffic(&mut world, Duration::from_secs(1), true);
    for at in 0..2 {
        let real = Via::Udp(world.internet.sides[1 - at].inside);
        assert_eq!(world.status(at).path.unwrap().via, real, "node {at}");
    }
}

#[test]
fn who_copies_packets_from_one_place_after_the_other_gains_few_moves() {
    let mut world = behind(69, [Nat::Open; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    let host = std::net::IpAddr::from([203, 0, 113, 77]);
    world.nodes[1].events.clear();
    for port in 4_000..4_060 {
        copy(&mut world, SocketAddr::new(host, port));
        traffic(&mut world, Duration::from_secs(1), true);
    }
    let gained =
        |event: &Event| matches!(event, Event::Route { via: Some(Via::Udp(to)), .. } if to.ip() == host);
    let gained = world.count(1, gained);
    assert!(gained <= 8, "{gained} in a minute");
    assert_eq!(kinds(&world), DIRECT);
}

#[test]
fn a_direct_path_that_is_slow_now_and_then_is_returned_to_more_and_more_rarely() {
    let mut world = behind(70, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    let slow = |world: &mut World, slower| {
        for side in &mut world.internet.sides {
            side.slower = Duration::from_millis(slower);
        }
    };
    // As soon as data is there, and only then.
    for _ in 0..1_200 {
        let is_direct = kinds(&world) == DIRECT;
        slow(&mut world, if is_direct { 200 } else { 0 });
        traffic(&mut world, Duration::from_secs(1), true);
    }
    let moved = moves(&world, 0);
    assert!(moved <= 60, "{moved} in twenty minutes");
    slow(&mut world, 0);
    traffic(&mut world, Duration::from_secs(120), true);
    assert_eq!(kinds(&world), DIRECT);
}
