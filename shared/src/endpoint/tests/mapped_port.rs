//! A port that the router of one side forwards (protocol §7.4): what becomes of it, and of what cannot be one.

use super::direct::{DIRECT, Nat, RELAYED, behind, kinds, traffic};
use super::*;
use crate::traverse::candidate::{Candidate, CandidateKind};

const FORWARDED: u16 = 33_333;

/// Two that cannot reach each other: each uses another port for each destination.
fn strangers(seed: u64) -> World {
    let mut world = behind(seed, [Nat::Symmetric; 2]);
    world.run(Duration::from_secs(5));
    assert_eq!(kinds(&world), RELAYED);
    world
}

fn outside(world: &World, port: u16) -> SocketAddr {
    SocketAddr::new(world.internet.sides[0].public, port)
}

/// The router of node 0 forwards this port from now on, or none, and says so.
fn map(world: &mut World, port: Option<u16>) {
    world.internet.forward_port(0, port);
    let told = port.map(|port| outside(world, port));
    let now = world.now;
    world.nodes[0].endpoint.handle_mapped_port(now, told);
}

fn mapped(world: &World) -> Vec<Candidate> {
    let all = world.nodes[0].endpoint.candidates().iter();
    all.filter(|candidate| candidate.kind == CandidateKind::PortMapped).copied().collect()
}

fn remote(world: &World, at: usize) -> Option<SocketAddr> {
    match world.status(at).path?.via {
        Via::Udp(remote) => Some(remote),
        Via::Channel(_) | Via::RelayUdp(_) | Via::Tcp(_) => None,
    }
}

#[test]
fn a_peer_behind_a_symmetric_nat_comes_in_by_it() {
    let mut world = strangers(600);
    map(&mut world, Some(FORWARDED));
    let address = outside(&world, FORWARDED);
    assert_eq!(mapped(&world), [Candidate::new(CandidateKind::PortMapped, address)]);
    traffic(&mut world, Duration::from_secs(3), true);
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!(remote(&world, 1), Some(address));
    traffic(&mut world, Duration::from_secs(120), true);
    assert_eq!((kinds(&world), remote(&world, 1)), (DIRECT, Some(address)));
}

#[test]
fn one_that_was_there_before_the_peer_is_told_as_soon_as_the_two_meet() {
    let mut world = behind(601, [Nat::Symmetric; 2]);
    map(&mut world, Some(FORWARDED));
    world.run(Duration::from_secs(4));
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!(remote(&world, 1), Some(outside(&world, FORWARDED)));
}

#[test]
fn the_peer_follows_when_it_changes_and_the_relay_carries_when_it_goes() {
    let mut world = strangers(602);
    map(&mut world, Some(FORWARDED));
    traffic(&mut world, Duration::from_secs(3), true);
    assert_eq!(kinds(&world), DIRECT);
    map(&mut world, Some(FORWARDED + 1));
    assert_eq!(mapped(&world), [Candidate::new(CandidateKind::PortMapped, outside(&world, FORWARDED + 1))]);
    // What goes to the old one is lost until that is noticed.
    traffic(&mut world, Duration::from_secs(1), false);
    traffic(&mut world, Duration::from_secs(10), true);
    assert_eq!((kinds(&world), remote(&world, 1)), (DIRECT, Some(outside(&world, FORWARDED + 1))));
    map(&mut world, None);
    assert_eq!(mapped(&world), []);
    traffic(&mut world, Duration::from_secs(1), false);
    traffic(&mut world, Duration::from_secs(10), true);
    assert_eq!(kinds(&world), RELAYED);
    // What is said to be no more is not tried, in any of the rounds that follow.
    let tried = |world: &World| {
        let is_old = |to: &SocketAddr| [FORWARDED, FORWARDED + 1].contains(&to.port());
        world.internet.sent[1].iter().filter(|(to, _)| is_old(to)).count()
    };
    let (before, all) = (tried(&world), world.internet.sent[1].len());
    traffic(&mut world, Duration::from_secs(300), true);
    assert_eq!(tried(&world), before);
    assert!(world.internet.sent[1].len() > all, "others are");
}

#[test]
fn what_cannot_be_one_is_told_to_nobody() {
    let mut world = strangers(603);
    let now = world.now;
    let before = world.nodes[0].endpoint.candidates().to_vec();
    let lies = [
        // No port, which is what a router says that took the mapping away.
        "203.0.113.1:0",
        // Another router is before that one: nobody comes in by what it forwards.
        "192.168.1.1:33333",
        "10.0.0.1:33333",
        "172.16.0.1:33333",
        "100.64.0.1:33333",
        "[fd00::1]:33333",
        "[::ffff:192.168.1.1]:33333",
        // Somewhere else altogether.
        "0.0.0.0:33333",
        "127.0.0.1:33333",
        "169.254.169.254:33333",
        "224.0.0.1:33333",
        "255.255.255.255:33333",
        "[::]:33333",
        "[fe80::1]:33333",
    ];
    for lie in lies {
        world.nodes[0].endpoint.handle_mapped_port(now, Some(lie.parse().unwrap()));
        assert_eq!(world.nodes[0].endpoint.candidates(), before, "{lie}");
    }
    // The overlay's own address would lead into the tunnel.
    let inside = world.nodes[0].endpoint.hello().ipv4.unwrap().address();
    world.nodes[0].endpoint.handle_mapped_port(now, Some(SocketAddr::new(inside.into(), FORWARDED)));
    assert_eq!(mapped(&world), []);
    // A lie in place of the truth takes that away.
    map(&mut world, Some(FORWARDED));
    assert_eq!(mapped(&world).len(), 1);
    world.nodes[0].endpoint.handle_mapped_port(now, Some("192.168.1.1:33333".parse().unwrap()));
    assert_eq!(mapped(&world), []);
}
