//! A relay that says what is not so, or nothing at all: it hinders, and it moves and ends nothing.

use super::direct::{DIRECT, Nat, behind, kinds, traffic};
use super::relayed::{BY_DATAGRAM, forwarded};
use super::*;
use crate::path::select::PathKind;

fn connected(seed: u64) -> World {
    let mut world = World::new(seed);
    world.run(Duration::from_secs(2));
    assert!(world.is_connected());
    world
}

fn established(heartbeat_ms: u32, rotation_s: u32) -> relay::Control {
    relay::Control::Established {
        channel: CHANNEL,
        session: [0; 16],
        mtu: 0,
        heartbeat_ms,
        rotation_s,
        peer_tcp: None,
        peer_udp: None,
        direct: true,
    }
}

#[test]
fn release_drain_and_error_change_nothing() {
    let mut world = connected(30);
    for at in 0..2 {
        world.say(at, &relay::Control::Release { channel: CHANNEL });
        world.say(at, &relay::Control::Drain { within_ms: 1 });
        world.say(at, &relay::Control::Error { code: 4, sentence: "no".into(), retry_ms: None });
    }
    world.run(Duration::from_secs(5));
    assert!(world.is_connected());
    assert_eq!([world.started(0), world.started(1)], [1, 1]);
}

#[test]
fn a_peer_said_to_be_gone_comes_back_in_its_old_session() {
    let mut world = connected(31);
    for at in 0..2 {
        let peer = world.nodes[1 - at].endpoint.id();
        world.say(at, &relay::Control::PeerGone { peer, channel: CHANNEL, reason: relay::GoneReason::Lost });
    }
    world.run(Duration::from_secs(5));
    assert_eq!(world.status(0).state, PeerState::Offline);
    world.introduce();
    world.run(Duration::from_secs(1));
    assert!(world.is_connected());
    assert_eq!([world.started(0), world.started(1)], [1, 1]);
}

#[test]
fn a_peer_said_to_have_restarted_is_asked_before_it_is_believed() {
    let mut world = connected(32);
    for instance in 1..20 {
        for at in 0..2 {
            let peer = world.nodes[1 - at].endpoint.id();
            world.say(at, &relay::Control::Peer { peer, channel: CHANNEL, instance });
        }
        world.run(Duration::from_millis(300));
    }
    world.run(Duration::from_secs(2));
    assert!(world.is_connected());
    assert_eq!([world.started(0), world.started(1)], [1, 1], "the session answered");
}

#[test]
fn a_relay_that_keeps_what_would_answer_it_ends_no_session_that_lives_directly() {
    let mut world = behind(38, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    // Packets of the session are known by their counters, which begin anew with the next one.
    world.drop = |_, packet| {
        let is_control = PacketKind::of(packet) == Some(PacketKind::Transport(PacketType::Control));
        is_control && Header::parse(packet).unwrap().counter > 5
    };
    for turn in 1..40 {
        for at in 0..2 {
            let other = &world.nodes[1 - at];
            let (peer, instance) = (other.endpoint.id(), if turn < 20 { other.instance } else { turn });
            world.say(at, &relay::Control::Peer { peer, channel: CHANNEL, instance });
        }
        traffic(&mut world, Duration::from_millis(1_300), true);
    }
    assert_eq!([world.started(0), world.started(1)], [1, 1], "the session answered");
    assert_eq!(kinds(&world), DIRECT);
}

#[test]
fn a_relay_that_binds_without_being_asked_to_makes_nothing_go_again() {
    let mut world = forwarded(39, [Nat::Symmetric; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), BY_DATAGRAM);
    world.nodes[0].events.clear();
    let sent = world.internet.sent[0].len();
    for tag in 1..200 {
        world.say(0, &relay::Control::Bound { tag });
        traffic(&mut world, Duration::from_millis(50), true);
    }
    let resent =
        |event: &Event| matches!(event, Event::Resend { path, .. } if *path == PathKind::RelayUdp.slot());
    assert_eq!(world.count(0, resent), 0);
    // PINGs, and PONGs of the same size.
    let large = world.internet.sent[0][sent..].iter().filter(|(_, len)| *len > 1_200).count();
    assert!(large < 80, "{large} in ten seconds");
    assert_eq!(kinds(&world), BY_DATAGRAM);
}

#[test]
fn hints_are_brought_within_bounds() {
    let mut world = connected(33);
    for at in 0..2 {
        world.say(at, &established(0, 0));
    }
    world.run(Duration::from_secs(60));
    let rekeys = world.status(0).session.unwrap().rekeys;
    assert!((25..=30).contains(&rekeys), "every 2 s at most: {rekeys}");
    for at in 0..2 {
        world.say(at, &established(u32::MAX, u32::MAX));
    }
    world.run(Duration::from_secs(60));
    let later = world.status(0).session.unwrap().rekeys;
    assert!(later >= rekeys + 25, "a hint can only shorten: {rekeys}, {later}");
    assert!(world.is_connected());
}

#[test]
fn a_relay_that_falls_silent_is_given_up_three_seconds_after_it_was_asked() {
    let mut world = connected(34);
    let fell_silent = world.now;
    let dead = |world: &World| world.count(0, |event| matches!(event, Event::RelayDead { .. })) > 0;
    while !dead(&world) {
        world.to_relay.clear();
        world.run(Duration::from_millis(10));
        assert!(world.now - fell_silent < Duration::from_secs(30), "never given up");
    }
    let took = world.now - fell_silent;
    assert!(took <= Duration::from_millis(15_000 + 3_100), "{took:?}");
}

/// Its PONG may be the last of a long queue; but one that never comes says that nothing gets there.
#[test]
fn a_relay_that_says_other_things_may_be_late_with_its_answer() {
    let mut world = connected(36);
    world.unanswered = Some(None);
    let began = world.now;
    while world.count(0, |event| matches!(event, Event::RelayDead { .. })) == 0 {
        for at in 0..2 {
            world.say(at, &established(15_000, 120));
        }
        world.run(Duration::from_millis(500));
        assert!(world.now - began < Duration::from_secs(60), "never given up");
    }
    let asked = world.unanswered.flatten().unwrap();
    let took = world.now - asked;
    assert!(took >= Duration::from_millis(14_900) && took <= Duration::from_millis(15_600), "{took:?}");
}

#[test]
fn a_relay_that_falls_silent_while_data_flows_is_given_up_soon() {
    let mut world = connected(35);
    let fell_silent = world.now;
    while world.count(0, |event| matches!(event, Event::RelayDead { .. })) == 0 {
        let (now, slot) = (world.now, world.status(0).slot);
        world.nodes[0].endpoint.handle_data_sent(now, slot, channel(), 1);
        world.drain();
        world.to_relay.clear();
        // Nothing gets there between two turns.
        world.run(LATENCY / 2);
        assert!(world.now - fell_silent < Duration::from_secs(5), "never given up");
    }
}

#[test]
fn an_idle_pair_wakes_for_heartbeats_and_rekeys_only() {
    let mut world = connected(36);
    let mut wakes = 0;
    let end = world.now + Duration::from_secs(3600);
    while let Some(next) = world.nodes[0].endpoint.poll_timeout().filter(|next| next.at < end) {
        let span = next.at.saturating_duration_since(world.now);
        world.run(span + Duration::from_millis(50));
        wakes += 1;
    }
    // 240 heartbeats to the relay and 240 to the peer, 30 rekeys with what follows of each, and some slack.
    assert!((240..700).contains(&wakes), "{wakes} wake-ups in an hour");
}
