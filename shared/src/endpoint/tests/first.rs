//! First handshakes that collide, are cut short, meet a restarted peer or a session that still lives.

use super::*;
use crate::session::OpenHalf;

fn kind(message: &[u8]) -> Option<PacketKind> {
    let StreamMessage::Forward(forward) = StreamMessage::parse(message).ok()? else { return None };
    PacketKind::of(forward.packets().next()?)
}

#[test]
fn both_begin_and_one_session_comes_of_it() {
    let mut world = World::new(20);
    let lower = world.lower();
    // What the lower key sends is lost until the other has begun as well.
    world.drop = |_, packet| PacketKind::of(packet) == Some(PacketKind::Init);
    world.run(Duration::from_millis(1500));
    assert!(world.nodes.iter().all(|node| node.endpoint.connected() == 0));
    world.drop = |_, _| false;
    world.run(Duration::from_secs(3));
    assert!(world.is_connected());
    assert_eq!([world.started(lower), world.started(1 - lower)], [1, 1]);
}

#[test]
fn a_lost_confirmation_is_repeated_in_the_same_session() {
    let mut world = World::new(21);
    world.drop = |_, packet| PacketKind::of(packet) == Some(PacketKind::Transport(PacketType::Control));
    world.run(Duration::from_millis(1300));
    assert_eq!(world.started(0) + world.started(1), 0, "nothing is confirmed without a control packet");
    world.drop = |_, _| false;
    world.run(Duration::from_secs(3));
    assert!(world.is_connected());
    for at in 0..2 {
        assert_eq!(world.count(at, |event| matches!(event, Event::OpenAssociation { .. })), 1);
    }
}

#[test]
fn a_peer_that_forgot_its_answer_and_begins_itself_is_connected_at_once() {
    let mut world = World::new(27);
    let lower = world.lower();
    let is_response = |message: &[u8]| kind(message) == Some(PacketKind::Response);
    let mut waited = 0;
    let answered = loop {
        let found = world.to_node.iter().position(|(_, to, message)| *to == lower && is_response(message));
        if let Some(at) = found {
            break at;
        }
        world.run(Duration::from_millis(1));
        waited += 1;
        assert!(waited < 1_000, "no answer");
    };
    let (_, _, response) = world.to_node.remove(answered).unwrap();
    world.drop = |_, packet| matches!(PacketKind::of(packet), Some(PacketKind::Init | PacketKind::Response));
    world.run(Duration::from_secs(3));
    // The answer comes after all, and nobody knows it any more.
    world.drop = |_, _| false;
    let (now, id) = (world.now, world.nodes[lower].endpoint.id());
    world.nodes[1 - lower].endpoint.with_peer(now, id, |peer, ctx| peer.forget_unconfirmed_for_test(ctx));
    world.to_node.push_front((now, lower, response));
    world.run(Duration::from_millis(1_500));
    assert_eq!(world.started(0) + world.started(1), 0);
    // Five seconds after the first question the other side begins.
    world.run(Duration::from_secs(1));
    assert!(world.is_connected());
    assert_eq!([world.started(0), world.started(1)], [1, 1]);
}

#[test]
fn a_peer_that_restarts_with_its_key_is_connected_again_in_two_seconds() {
    for (seed, at) in [(22, 0), (23, 1)] {
        let mut world = World::new(seed);
        world.run(Duration::from_secs(5));
        world.restart(at);
        world.run(Duration::from_secs(2));
        assert!(world.is_connected());
        assert_eq!(world.started(1 - at), 2, "its session died with it");
        world.run(Duration::from_secs(31));
        assert_eq!(world.count(1 - at, |event| matches!(event, Event::CloseAssociation { .. })), 1);
    }
}

#[test]
fn a_good_bye_ends_the_session_at_once() {
    let mut world = World::new(24);
    world.run(Duration::from_secs(2));
    let now = world.now;
    world.nodes[0].endpoint.leave(now);
    world.drain();
    // LEAVE and BYE arrive; what the relay makes of LEAVE is not this world's.
    world.to_relay.retain(|(_, _, message)| kind(message).is_some());
    world.run(Duration::from_millis(100));
    assert_eq!(world.status(1).state, PeerState::Offline);
    assert!(world.status(1).session.is_none());
}

#[test]
fn a_good_bye_overtaken_by_the_next_introduction_does_not_hide_the_peer() {
    let mut world = World::new(25);
    world.run(Duration::from_secs(2));
    let now = world.now;
    world.nodes[0].endpoint.leave(now);
    world.drain();
    let bye = world.to_relay.iter().find(|(_, _, message)| kind(message).is_some()).cloned().unwrap();
    world.to_relay.clear();
    let (peer, instance) = (world.nodes[0].endpoint.id(), 77);
    world.say(1, &relay::Control::PeerGone { peer, channel: CHANNEL, reason: relay::GoneReason::Left });
    world.say(1, &relay::Control::Peer { peer, channel: ChannelId(8), instance });
    world.to_node.push_back((world.now + LATENCY, 1, bye.2));
    world.run(Duration::from_millis(500));
    assert!(world.status(1).state != PeerState::Offline);
}

#[test]
fn a_session_that_answers_behind_a_handshake_does_not_tear_the_two_sides_apart() {
    let mut world = World::new(26);
    world.run(Duration::from_secs(2));
    let lower = world.lower();
    // The path dies, and the lower key asks the session and begins a handshake in one breath.
    world.drop = |_, _| true;
    let (now, slot) = (world.now, world.status(lower).slot);
    world.nodes[lower].endpoint.handle_data_sent(now, slot, channel(), 1);
    while world.status(lower).state == PeerState::Connected {
        world.run(Duration::from_millis(1));
    }
    world.drop = |_, _| false;
    // The answers change places on their way back.
    let is_response = |message: &[u8]| kind(message) == Some(PacketKind::Response);
    for _ in 0..8000 {
        world.run(Duration::from_millis(1));
        if let Some(response) =
            world.to_node.iter().position(|(_, to, message)| *to == lower && is_response(message))
        {
            assert!(response > 0, "the session answers first");
            let pong = world.to_node[0].2.clone();
            world.to_node[0].2 = world.to_node[response].2.clone();
            world.to_node[response].2 = pong;
            break;
        }
    }
    world.run(Duration::from_secs(1));
    assert!(world.is_connected());
    let slot = world.status(lower).slot;
    let now = world.now;
    assert!(world.nodes[lower].endpoint.echo(now, slot, 4711));
    world.run(Duration::from_millis(100));
    assert_eq!(world.count(lower, |event| matches!(event, Event::EchoReply { id: 4711, .. })), 1);
}

/// What the inbound thread of node `at` would report of the oldest association that it still has the key of.
fn report_of_the_oldest(world: &mut World, at: usize) -> AckReport {
    let events = &mut world.nodes[at].events;
    let opened = events.iter().position(|event| matches!(event, Event::OpenAssociation { .. })).unwrap();
    let Event::OpenAssociation { key, .. } = events.remove(opened) else { unreachable!() };
    let mut half = OpenHalf::new();
    half.install(key);
    half.report()
}

#[test]
fn what_arrived_in_a_replaced_association_is_not_acknowledged_in_its_successor() {
    let mut world = World::new(28);
    world.run(Duration::from_secs(2));
    world.restart(0);
    world.run(Duration::from_secs(3));
    assert_eq!(world.started(1), 2);
    let (now, slot) = (world.now, world.status(1).slot);
    let stale = report_of_the_oldest(&mut world, 1);
    world.nodes[1].endpoint.handle_ack_report(now, slot, None, &stale);
    assert!(world.nodes[1].endpoint.poll_transmit().is_none());
    let current = report_of_the_oldest(&mut world, 1);
    world.nodes[1].endpoint.handle_ack_report(now, slot, None, &current);
    assert!(world.nodes[1].endpoint.poll_transmit().is_some());
}

#[test]
fn repetitions_of_a_first_message_share_one_answer() {
    let mut world = World::new(27);
    world.run(Duration::from_millis(1));
    let mut init = None;
    for _ in 0..200 {
        world.run(Duration::from_millis(1));
        init = init.or_else(|| {
            let found =
                |(_, _, message): &&(Instant, usize, Vec<u8>)| kind(message) == Some(PacketKind::Init);
            world.to_node.iter().find(found).cloned()
        });
    }
    let (_, to, message) = init.unwrap();
    world.run(Duration::from_secs(2));
    let before = world.nodes[to].endpoint.indices.len();
    for _ in 0..50 {
        world.node_receives(to, &message);
    }
    assert_eq!(world.nodes[to].endpoint.indices.len(), before + 1);
    world.run(Duration::from_secs(11));
    assert_eq!(world.nodes[to].endpoint.indices.len(), before, "what nobody confirms is dropped");
}
