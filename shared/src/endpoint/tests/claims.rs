//! Whose address it is, between two who begin with the same one.

use super::*;
use std::net::Ipv4Addr;

const SAME: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 7);

fn world(seed: u64, claims: [Claim; 2]) -> World {
    let mut world = World::with(seed, |name, config| {
        let claim = if name == "a" { claims[0] } else { claims[1] };
        config.hello.ipv4 = Cidr4::new(SAME, 16);
        config.hello.claim = claim;
        config.address_attempt = (claim != Claim::ByHand).then_some(0);
    });
    world.run(Duration::from_secs(20));
    world
}

fn keeps(world: &World, at: usize) -> bool {
    world.nodes[at].endpoint.hello().ipv4.map(|cidr| cidr.address()) == Some(SAME)
}

fn conflicts(world: &World, at: usize) -> usize {
    world.count(at, |event| matches!(event, Event::AddressConflict { .. }))
}

#[test]
fn of_two_derived_claims_one_moves_and_both_know_the_new_address() {
    for claims in [[Claim::Fresh; 2], [Claim::Settled; 2], [Claim::Fresh, Claim::Settled]] {
        for seed in 0..4 {
            let world = world(seed, claims);
            assert_eq!([0, 1].map(|at| keeps(&world, at)).iter().filter(|keeps| **keeps).count(), 1);
            for at in 0..2 {
                let own = world.nodes[at].endpoint.hello().ipv4;
                assert_eq!(world.status(1 - at).hello.unwrap().ipv4, own, "the other side heard of it");
                assert_eq!(conflicts(&world, at), 0);
            }
        }
    }
}

#[test]
fn an_address_given_by_hand_stays_and_the_other_moves() {
    for seed in 0..4 {
        let world = world(seed, [Claim::ByHand, Claim::Settled]);
        assert!(keeps(&world, 0) && !keeps(&world, 1));
    }
}

#[test]
fn two_addresses_given_by_hand_both_stay_and_both_say_so() {
    let world = world(1, [Claim::ByHand; 2]);
    for at in 0..2 {
        assert!(keeps(&world, at));
        assert!(conflicts(&world, at) >= 1);
    }
    assert!(world.is_connected(), "a conflict costs no connection");
}

#[test]
fn an_older_hello_that_comes_late_takes_nothing_back() {
    let mut world = World::new(50);
    let mut held = None;
    for _ in 0..2000 {
        world.run(Duration::from_millis(1));
        // HELLO is the only control packet of this size: answers are shorter, PINGs of full size.
        let is_hello = |message: &[u8]| {
            matches!(StreamMessage::parse(message), Ok(StreamMessage::Forward(_)))
                && (60..400).contains(&message.len())
        };
        let at = world.to_node.iter().position(|(_, to, message)| *to == 0 && is_hello(message));
        if let (Some(at), None) = (at, &held) {
            held = world.to_node.remove(at);
        }
    }
    let (_, _, message) = held.expect("a HELLO passed");
    let newest = world.status(0).hello.unwrap();
    assert_eq!(newest.revision, 2, "settling is worth another HELLO");
    world.node_receives(0, &message);
    assert_eq!(world.status(0).hello.unwrap(), newest);
}
