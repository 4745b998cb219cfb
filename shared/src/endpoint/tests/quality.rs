//! Direct paths that work and are bad: slow, or losing much. Data takes the relay until they are good again.

use super::direct::{DIRECT, Nat, RELAYED, acknowledge_some, behind, kinds, traffic};
use super::*;
use crate::path::select::PathKind;
use crate::wire::header::Header;

/// Both send 400 packets a second for a while, of which every `n`-th is lost but on the relay's stream (0: none).
fn lossy_traffic(world: &mut World, highest: &mut u64, span: Duration, n: u32) {
    let end = world.now + span;
    while world.now < end {
        *highest += 20;
        for at in 0..2 {
            let status = world.status(at);
            let Some(path) = status.path else { continue };
            let now = world.now;
            world.nodes[at].endpoint.handle_data_sent(now, status.slot, path.via, *highest + 1);
            let mut bitmap = [u64::MAX; 4];
            if n > 0 && path.via.kind() != PathKind::RelayWs {
                for below in 0..256u64 {
                    if (*highest - below - 1).is_multiple_of(u64::from(n)) {
                        bitmap[usize::try_from(below / 64).unwrap()] &= !(1 << (below % 64));
                    }
                }
            }
            acknowledge_some(world, 1 - at, path.via.slot().number(), *highest, bitmap);
        }
        world.run(Duration::from_millis(50));
    }
}

/// Whether it is one of those control packets of full size of which a third is lost, without any order that paths could fall in step with.
fn is_unlucky(packet: &[u8]) -> bool {
    let is_control = PacketKind::of(packet) == Some(PacketKind::Transport(PacketType::Control));
    let dice = || SeededRng::new(Header::parse(packet).unwrap().counter).next_u64() % 3;
    is_control && packet.len() > 1_200 && dice() == 0
}

#[test]
fn five_per_cent_changes_nothing_and_twenty_moves_to_the_relay_and_back_when_it_is_clean() {
    let mut world = behind(51, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), DIRECT);
    let mut highest = 100_000;
    lossy_traffic(&mut world, &mut highest, Duration::from_secs(60), 20);
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!(world.status(0).path.unwrap().loss, Some(50));
    lossy_traffic(&mut world, &mut highest, Duration::from_secs(5), 5);
    assert_eq!(kinds(&world), RELAYED);
    for at in 0..2 {
        let status = world.status(at);
        assert_eq!((status.switches, status.path.unwrap().why), (2, "the direct path loses too much"));
    }
    // The relay carries it while the direct path shows that it is clean, for half a minute.
    lossy_traffic(&mut world, &mut highest, Duration::from_secs(25), 0);
    assert_eq!(kinds(&world), RELAYED);
    lossy_traffic(&mut world, &mut highest, Duration::from_secs(10), 0);
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!(world.status(0).switches, 3);
}

#[test]
fn a_path_that_loses_much_is_not_left_for_one_that_loses_as_much() {
    let mut world = behind(51, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), DIRECT);
    let mut highest = 100_000;
    // A third of what is asked over the relay goes as well.
    world.drop = |_, packet| is_unlucky(packet);
    lossy_traffic(&mut world, &mut highest, Duration::from_secs(100), 5);
    assert_eq!(kinds(&world), DIRECT);
    for at in 0..2 {
        let status = world.status(at);
        assert_eq!(status.switches, 1);
        assert!(status.path.unwrap().loss.is_some_and(|loss| loss.abs_diff(200) <= 5), "a fifth");
    }
    // The relay becomes clean, which is found out within half a minute.
    world.drop = |_, _| false;
    let mut waited = 0;
    while kinds(&world) != RELAYED && waited < 40 {
        lossy_traffic(&mut world, &mut highest, Duration::from_secs(1), 5);
        waited += 1;
    }
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!([world.status(0).switches, world.status(1).switches], [2, 2]);
}

#[test]
fn a_moment_of_silence_leaves_no_data_on_what_loses_as_much() {
    let mut world = behind(51, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    let mut highest = 100_000;
    world.drop = |_, packet| is_unlucky(packet);
    // What was found out about the relay is about to be as old as it may be.
    lossy_traffic(&mut world, &mut highest, Duration::from_millis(28_500), 5);
    assert_eq!(kinds(&world), DIRECT);
    world.internet.swallows = Some(|_| true);
    traffic(&mut world, Duration::from_millis(500), false);
    assert_eq!(kinds(&world), RELAYED);
    world.internet.swallows = None;
    lossy_traffic(&mut world, &mut highest, Duration::from_secs(10), 5);
    assert_eq!(kinds(&world), DIRECT);
}

#[test]
fn where_datagrams_are_lost_everywhere_data_goes_to_the_stream_with_one_move_and_stays() {
    let mut world = behind(54, [Nat::PortRestricted; 2]);
    world.internet.forwards = true;
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), DIRECT);
    let mut highest = 100_000;
    // A third of what is asked by datagram goes as well.
    world.internet.swallows = Some(is_unlucky);
    world.internet.forwards_swallows = Some(is_unlucky);
    lossy_traffic(&mut world, &mut highest, Duration::from_secs(10), 5);
    assert_eq!(kinds(&world), RELAYED);
    // Longer than what was found then is known.
    lossy_traffic(&mut world, &mut highest, Duration::from_secs(120), 5);
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!([world.status(0).switches, world.status(1).switches], [2, 2]);
    // All come through again, which shows in half a minute, but for the pause before they are asked.
    (world.internet.swallows, world.internet.forwards_swallows) = (None, None);
    lossy_traffic(&mut world, &mut highest, Duration::from_secs(300), 0);
    assert_eq!(kinds(&world), DIRECT);
}

#[test]
fn a_direct_path_that_gets_much_slower_than_the_relay_is_left_once_and_returned_to_once() {
    let mut world = behind(52, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    for side in &mut world.internet.sides {
        side.slower = Duration::from_millis(100);
    }
    traffic(&mut world, Duration::from_secs(20), true);
    assert_eq!(kinds(&world), RELAYED);
    traffic(&mut world, Duration::from_secs(300), true);
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!([world.status(0).switches, world.status(1).switches], [2, 2]);
    for side in &mut world.internet.sides {
        side.slower = Duration::ZERO;
    }
    traffic(&mut world, Duration::from_secs(300), true);
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!([world.status(0).switches, world.status(1).switches], [3, 3]);
}

#[test]
fn what_was_measured_of_the_relay_in_a_busy_moment_keeps_nobody_on_a_path_that_became_slow() {
    let mut world = behind(52, [Nat::PortRestricted; 2]);
    world.slower = Duration::from_millis(60);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    world.slower = Duration::ZERO;
    for side in &mut world.internet.sides {
        side.slower = Duration::from_millis(100);
    }
    traffic(&mut world, Duration::from_secs(20), true);
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!([world.status(0).switches, world.status(1).switches], [2, 2]);
}

#[test]
fn a_direct_path_that_seemed_slow_in_the_moment_it_was_found_is_taken_soon_after() {
    let mut world = behind(58, [Nat::PortRestricted; 2]);
    let slower =
        |world: &mut World, by: Duration| world.internet.sides.iter_mut().for_each(|side| side.slower = by);
    slower(&mut world, Duration::from_millis(100));
    world.run(Duration::from_secs(2));
    assert_eq!(kinds(&world), RELAYED);
    slower(&mut world, Duration::ZERO);
    world.run(Duration::from_secs(3));
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!([world.status(0).switches, world.status(1).switches], [1, 1]);
}

#[test]
fn a_direct_path_that_is_slow_from_the_beginning_is_not_taken_for_a_moment() {
    let mut world = behind(59, [Nat::PortRestricted; 2]);
    for side in &mut world.internet.sides {
        side.slower = Duration::from_millis(100);
    }
    world.run(Duration::from_secs(90));
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!([world.status(0).switches, world.status(1).switches], [0, 0]);
}

#[test]
fn when_the_largest_packets_stop_passing_directly_data_takes_the_relay_and_the_two_stay_connected() {
    let mut world = behind(53, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    for side in &mut world.internet.sides {
        side.largest = 600;
    }
    // Small data goes on, and is acknowledged. The relay still carries what is large, so data moves there.
    traffic(&mut world, Duration::from_secs(3), true);
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!(world.status(0).state, PeerState::Connected);
}

#[test]
fn when_nothing_large_passes_on_any_path_both_leave_connected_within_three_seconds_and_stay_away() {
    const LARGEST: usize = 600;
    for seed in 0..40 {
        // Both ways, or only what node 0 or node 1 sends.
        let dropped: &[usize] = [&[0, 1][..], &[0, 1], &[0], &[1]][seed as usize / 10];
        let mut dice = SeededRng::new(seed);
        let mut up_to = |most: u64| Duration::from_millis(dice.next_u64() % (most + 1));
        let mut world = behind(200 + seed, [Nat::PortRestricted; 2]);
        // Round trips up to 400 ms: directly, by the relay's datagrams, by its stream.
        (world.internet.forwards, world.internet.forwards_slower) = (seed % 3 > 0, up_to(190));
        world.slower = up_to(95);
        for side in &mut world.internet.sides {
            side.slower = up_to(190);
        }
        world.run(Duration::from_secs(10));
        traffic(&mut world, Duration::from_secs(5), true);
        assert!(world.is_connected(), "seed {seed}");
        world.jammed = Some([false; 2]);
        world.drop = match dropped {
            [0] => |from, packet| from == 0 && packet.len() > LARGEST,
            [1] => |from, packet| from == 1 && packet.len() > LARGEST,
            _ => |_, packet| packet.len() > LARGEST,
        };
        for at in dropped {
            world.internet.sides[*at].largest_out = LARGEST;
        }
        let began = world.now;
        let mut left = [None; 2];
        while world.now < began + Duration::from_secs(60) {
            // Small data goes on, and is acknowledged.
            traffic(&mut world, Duration::from_millis(50), true);
            for (at, left) in left.iter_mut().enumerate() {
                let is_connected = world.status(at).state == PeerState::Connected;
                assert!(!is_connected || left.is_none(), "seed {seed}: node {at} came back");
                if !is_connected {
                    left.get_or_insert(world.now - began);
                }
            }
        }
        let within = Duration::from_secs(3);
        assert!(left.iter().all(|left| left.is_some_and(|left| left <= within)), "seed {seed}: {left:?}");
        world.drop = |_, _| false;
        world.jammed = None;
        for side in &mut world.internet.sides {
            side.largest_out = 1500;
        }
        traffic(&mut world, Duration::from_secs(20), true);
        assert!(world.is_connected(), "seed {seed}: when it is over");
    }
}
