//! `shadowmesh path`: both sides send where a user of either wants them to, as long as that works.

use super::direct::{DIRECT, HOP, Nat, RELAYED, behind, kinds, traffic};
use super::*;
use crate::path::select::{PathKind, Wanted};

fn want(world: &mut World, at: usize, wanted: Wanted) {
    let (now, slot) = (world.now, world.status(at).slot);
    world.nodes[at].endpoint.want_path(now, slot, wanted);
}

fn direct_pair(seed: u64) -> World {
    let mut world = behind(seed, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    world
}

#[test]
fn both_move_to_the_relay_and_back_when_one_is_asked_and_nothing_is_sent_twice() {
    let mut world = direct_pair(31);
    for round in 1..=5 {
        want(&mut world, round % 2, Wanted::Relay);
        traffic(&mut world, Duration::from_secs(1), true);
        assert_eq!(kinds(&world), RELAYED, "round {round}");
        for at in 0..2 {
            let status = world.status(at);
            assert_eq!((status.wanted, status.peer_path), (Wanted::Relay, Some(PathKind::RelayWs)));
            assert_eq!(status.path.unwrap().why, "it was asked for");
        }
        // For as long as it is wanted, however good the direct path is.
        traffic(&mut world, Duration::from_secs(100), true);
        assert_eq!(kinds(&world), RELAYED);
        want(&mut world, 0, Wanted::Auto);
        traffic(&mut world, Duration::from_secs(1), true);
        assert_eq!(kinds(&world), DIRECT, "round {round}: the direct path was kept proven");
    }
    for at in 0..2 {
        assert_eq!(world.status(at).switches, 11);
        let resent = |event: &Event| matches!(event, Event::Resend { path, .. } if *path == PathKind::DirectUdp.slot());
        assert_eq!(world.count(at, resent), 0, "every move was planned");
    }
}

#[test]
fn a_path_that_is_wanted_and_dies_is_left_and_said_to_be_missing() {
    let mut world = direct_pair(32);
    want(&mut world, 0, Wanted::Direct);
    traffic(&mut world, Duration::from_secs(1), true);
    for side in &mut world.internet.sides {
        side.mute = true;
    }
    traffic(&mut world, Duration::from_millis(600), false);
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!(world.status(0).path.unwrap().why, "the path that was asked for is not proven");
    assert_eq!(world.status(0).state, PeerState::Connected);
}

#[test]
fn what_is_wanted_and_never_there_changes_nothing() {
    let mut world = behind(33, [Nat::Blocked, Nat::Open]);
    world.run(Duration::from_secs(5));
    want(&mut world, 1, Wanted::Direct);
    world.run(Duration::from_secs(20));
    assert_eq!(kinds(&world), RELAYED);
    assert_eq!((world.status(0).switches, world.status(0).wanted), (0, Wanted::Direct));
}

#[test]
fn of_two_wishes_at_once_both_sides_follow_the_same() {
    for seed in 34..40 {
        let mut world = direct_pair(seed);
        want(&mut world, 0, Wanted::Relay);
        want(&mut world, 1, Wanted::Direct);
        traffic(&mut world, Duration::from_secs(3), true);
        assert_eq!(world.status(0).wanted, world.status(1).wanted);
        assert_eq!(kinds(&world), if world.status(0).wanted == Wanted::Relay { RELAYED } else { DIRECT });
    }
}

#[test]
fn a_wish_is_said_again_to_a_peer_that_restarted() {
    let mut world = direct_pair(41);
    want(&mut world, 0, Wanted::Relay);
    traffic(&mut world, Duration::from_secs(1), true);
    restart(&mut world, 1);
    assert_eq!(world.status(1).wanted, Wanted::Relay);
    assert_eq!(kinds(&world), RELAYED);
}

fn restart(world: &mut World, at: usize) {
    world.restart(at);
    let (now, inside) = (world.now, world.internet.sides[at].inside);
    world.nodes[at].endpoint.handle_addresses(now, vec![inside]);
    world.run(Duration::from_secs(20));
    assert_eq!([0, 1].map(|at| world.status(at).state), [PeerState::Connected; 2]);
}

#[test]
fn a_wish_ends_with_the_process_whose_user_had_it() {
    for at in 0..2 {
        let mut world = direct_pair(45);
        want(&mut world, at, Wanted::Relay);
        traffic(&mut world, Duration::from_secs(1), true);
        assert_eq!(kinds(&world), RELAYED);
        restart(&mut world, at);
        assert_eq!([0, 1].map(|at| world.status(at).wanted), [Wanted::Auto; 2], "{at}");
        assert_eq!(kinds(&world), DIRECT, "{at}");
    }
}

#[test]
fn who_restarted_is_followed_however_much_was_wanted_before() {
    for (asked, restarted) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut world = direct_pair(46);
        for wanted in [Wanted::Relay, Wanted::Auto, Wanted::Relay, Wanted::Auto] {
            want(&mut world, asked, wanted);
            traffic(&mut world, Duration::from_secs(1), true);
        }
        restart(&mut world, restarted);
        want(&mut world, restarted, Wanted::Relay);
        traffic(&mut world, Duration::from_secs(1), true);
        assert_eq!(kinds(&world), RELAYED, "{asked} had wished, {restarted} restarted");
    }
}

/// Runs until node `at` has nothing under way that may change where data goes; how long that took.
fn settle(world: &mut World, at: usize) -> Duration {
    let began = world.now;
    while !world.status(at).is_settled {
        assert!(world.now - began < Duration::from_secs(10), "it does not settle");
        world.run(Duration::from_millis(5));
    }
    world.now - began
}

#[test]
fn whichever_is_best_is_settled_when_both_have_moved() {
    let mut world = direct_pair(42);
    want(&mut world, 0, Wanted::Relay);
    traffic(&mut world, Duration::from_secs(1), true);
    assert!(world.status(0).is_settled);
    want(&mut world, 0, Wanted::Auto);
    assert!(!world.status(0).is_settled, "the peer does not know of it yet");
    let took = settle(&mut world, 0);
    assert!(took >= 2 * HOP, "{took:?}");
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!([0, 1].map(|at| world.status(at).peer_path), DIRECT);
}

#[test]
fn whichever_is_best_is_not_settled_while_a_better_path_is_looked_for() {
    let mut world = behind(43, [Nat::Blocked, Nat::Open]);
    world.run(Duration::from_secs(30));
    assert!(world.status(0).is_settled);
    want(&mut world, 0, Wanted::Auto);
    world.run(Duration::from_millis(1_000));
    assert!(!world.status(0).is_settled, "addresses are being checked");
    settle(&mut world, 0);
    assert_eq!(kinds(&world), RELAYED);
    // A node that knows nobody has nothing to wait for.
    let now = world.now;
    world.nodes[0].endpoint.handle_stream_closed(now, RELAY);
    world.run(Duration::from_secs(600));
    assert!(world.status(0).is_settled, "without a session nothing is under way");
}
