//! Sessions that nobody uses end by both sides' word, and the first frame begins another (protocol §4.10).

use super::direct::{DIRECT, Nat, behind, kinds, traffic};
use super::*;
use crate::endpoint::demand::{ALL_UP_TO, IDLE_AFTER, IDLE_AFTER_MIN, Keep, Sessions};
use crate::path::select::{PathKind, Wanted};
use crate::wire::control::Control;

pub(super) const IDLE: Duration = Duration::from_secs(10);
/// Long enough for either side to have asked, and for what is remembered of it to be forgotten.
const LONGER: Duration = Duration::from_secs(25);
const PEER: PeerSlot = PeerSlot(0);
/// The way to the other node over the relay.
const WAY: Duration = LATENCY.saturating_mul(2);

fn keep(world: &mut World, at: usize, keep: Keep) {
    let now = world.now;
    world.nodes[at].endpoint.set_sessions(now, Sessions { keep, idle_after: IDLE });
}

/// Two that keep no session for nothing, and have one.
fn pair(mut world: World) -> World {
    (0..2).for_each(|at| keep(&mut world, at, Keep::Few));
    world.run(Duration::from_secs(3));
    assert!(world.is_connected());
    world
}

fn states(world: &World) -> [PeerState; 2] {
    [0, 1].map(|at| world.status(at).state)
}

const ASLEEP: [PeerState; 2] = [PeerState::Idle; 2];

fn asleep(seed: u64) -> World {
    let mut world = pair(World::new(seed));
    world.run(LONGER);
    assert_eq!(states(&world), ASLEEP);
    world
}

fn frame(world: &mut World, at: usize) {
    let now = world.now;
    world.nodes[at].endpoint.handle_wanted(now, PEER);
}

fn ended(world: &World, at: usize) -> usize {
    world.count(at, |event| matches!(event, Event::EndAssociation { .. }))
}

fn stopped(world: &World, at: usize) -> usize {
    world.count(at, |event| matches!(event, Event::StopSealing { .. }))
}

fn resumed(world: &World, at: usize) -> usize {
    world.count(at, |event| matches!(event, Event::ResumeSealing { .. }))
}

#[test]
fn a_session_that_nobody_uses_ends_at_both_sides_and_leaves_what_was_said() {
    let mut world = pair(World::new(901));
    let before = world.status(0).hello.unwrap();
    world.run(IDLE - Duration::from_secs(5));
    assert!(world.is_connected(), "not before its time");
    world.run(LONGER);
    assert_eq!(states(&world), ASLEEP);
    for at in 0..2 {
        let status = world.status(at);
        assert_eq!((ended(&world, at), resumed(&world, at)), (1, 0));
        assert!(status.session.is_none() && status.path.is_none() && status.hello.is_some());
        assert_eq!(status.asleep.unwrap().last_path, PathKind::RelayWs);
        assert_eq!(world.nodes[at].endpoint.indices_in_use(), 0);
    }
    assert_eq!(world.status(0).hello.unwrap(), before);
    // But for the relay nobody has anything to wake for, and the data plane has forgotten its keys and their indices.
    world.run(Duration::from_secs(30));
    for at in 0..2 {
        assert_eq!(world.count(at, |event| matches!(event, Event::OpenAssociation { .. })), 1);
        assert_eq!(world.count(at, |event| matches!(event, Event::CloseAssociation { .. })), 1);
    }
    let deadline = world.nodes[0].endpoint.poll_timeout().unwrap();
    assert!(deadline.why.contains("relay") || deadline.why.contains("STUN"), "{}", deadline.why);
    assert_eq!([world.started(0), world.started(1)], [1, 1]);
}

#[test]
fn the_first_frame_of_either_side_begins_another_within_two_round_trips() {
    for (seed, is_lower) in [(902, true), (903, false)] {
        let mut world = asleep(seed);
        let at = if is_lower { world.lower() } else { 1 - world.lower() };
        frame(&mut world, at);
        let begun = world.now;
        while world.status(at).state != PeerState::Connected {
            world.run(Duration::from_millis(1));
            assert!(world.now - begun <= 4 * WAY, "not within two round trips over the relay");
        }
        // It leaves now: INIT, RESPONSE, PING and PONG were one way each.
        assert_eq!(world.started(at), 2);
        world.run(WAY);
        assert!(world.is_connected());
        assert!((0..2).all(|at| world.status(at).asleep.is_none()));
        world.run(Duration::from_secs(2));
        assert_eq!([world.started(0), world.started(1)], [2, 2], "one handshake is enough");
    }
}

#[test]
fn frames_of_both_sides_at_once_begin_one_session() {
    for seed in 904..908 {
        let mut world = asleep(seed);
        frame(&mut world, 0);
        world.run(Duration::from_millis(seed - 904));
        frame(&mut world, 1);
        world.run(Duration::from_secs(2));
        assert!(world.is_connected());
        assert_eq!([world.started(0), world.started(1)], [2, 2], "{seed}");
    }
}

#[test]
fn use_puts_the_end_off() {
    let mut world = pair(World::new(909));
    for _ in 0..10 {
        world.run(IDLE / 2);
        let now = world.now;
        assert!(world.nodes[0].endpoint.echo(now, PEER, 1));
    }
    assert!(world.is_connected());
    assert_eq!([stopped(&world, 0), stopped(&world, 1)], [0, 0]);
}

#[test]
fn what_is_not_acknowledged_keeps_the_session_at_either_side() {
    for (seed, at) in [(910, 0), (911, 1)] {
        let mut world = pair(World::new(seed));
        world.outstanding[at] = true;
        world.run(LONGER);
        assert!(world.is_connected());
        assert!(stopped(&world, at) > 0);
        for at in 0..2 {
            assert_eq!(resumed(&world, at), stopped(&world, at), "every stop is taken back");
        }
        world.outstanding = [false; 2];
        world.run(LONGER);
        assert_eq!(states(&world), ASLEEP);
        assert_eq!([world.started(0), world.started(1)], [1, 1]);
    }
}

/// Runs until `at` has asked, or agreed to be asked, and gives its data plane a frame then.
fn run_until(world: &mut World, is_so: impl Fn(&World) -> bool) {
    for _ in 0..LONGER.as_millis() {
        if is_so(world) {
            return;
        }
        world.run(Duration::from_millis(1));
    }
    panic!("it does not come to that");
}

#[test]
fn a_frame_while_the_answer_is_awaited_goes_at_once_by_the_next_session() {
    let mut world = pair(World::new(912));
    let at = world.lower();
    run_until(&mut world, |world| stopped(world, at) == 1);
    frame(&mut world, at);
    assert_eq!((ended(&world, at), resumed(&world, at)), (0, 0), "the answer is not known yet");
    // The answer, and the handshake.
    world.run(2 * WAY + 4 * WAY);
    assert_eq!(ended(&world, at), 1);
    assert_eq!(world.status(at).state, PeerState::Connected);
    world.run(Duration::from_secs(3));
    assert_eq!([world.started(0), world.started(1)], [2, 2]);
}

#[test]
fn a_frame_at_the_side_that_agreed_goes_by_the_next_session() {
    let mut world = pair(World::new(913));
    let at = 1 - world.lower();
    run_until(&mut world, |world| ended(world, at) == 1);
    // The one that asked has not heard the answer.
    assert_eq!(ended(&world, 1 - at), 0);
    frame(&mut world, at);
    world.run(5 * WAY);
    assert!(world.is_connected());
    world.run(Duration::from_secs(5));
    assert!(world.is_connected());
    assert_eq!([world.started(0), world.started(1)], [2, 2]);
}

#[test]
fn a_frame_before_the_data_plane_stopped_keeps_the_session() {
    let mut world = pair(World::new(914));
    let at = world.lower();
    world.holds_answers = true;
    run_until(&mut world, |world| stopped(world, at) == 1);
    frame(&mut world, at);
    world.drain();
    assert_eq!((ended(&world, at), resumed(&world, at)), (0, 1));
    world.run(IDLE / 2);
    assert!(world.is_connected());
    // A data plane that never answers costs the question, each time.
    world.run(LONGER);
    assert!(world.is_connected());
    assert_eq!(resumed(&world, at), stopped(&world, at));
    assert!(stopped(&world, at) > 1);
}

/// A control packet of the session: by its first byte.
fn is_control(packet: &[u8]) -> bool {
    packet.first() == Some(&0xc1)
}

#[test]
fn an_answer_that_is_lost_is_given_again() {
    let mut world = pair(World::new(915));
    let agrees = 1 - world.lower();
    run_until(&mut world, |world| ended(world, agrees) == 1);
    // It left a moment ago.
    world.to_relay.clear();
    world.to_node.retain(|(_, to, _)| *to == agrees);
    world.run(Duration::from_millis(250) + 2 * WAY);
    assert_eq!(states(&world), ASLEEP);
    world.run(LONGER);
    assert_eq!(states(&world), ASLEEP);
    assert_eq!([world.started(0), world.started(1)], [1, 1]);
    assert!(world.nodes.iter().all(|node| node.endpoint.indices_in_use() == 0));
}

#[test]
fn where_no_answer_comes_the_one_that_asked_goes_on() {
    let mut world = pair(World::new(916));
    let at = world.lower();
    run_until(&mut world, |world| stopped(world, at) == 1);
    world.drop = |_, packet| is_control(packet);
    world.run(Duration::from_millis(3100));
    assert_eq!((ended(&world, at), resumed(&world, at)), (0, 1), "frames flow again");
    world.drop = |_, _| false;
    world.run(Duration::from_secs(4));
    assert!(world.is_connected());
}

#[test]
fn a_session_that_ended_while_the_answer_was_lost_for_long_is_replaced() {
    let mut world = pair(World::new(917));
    let at = world.lower();
    run_until(&mut world, |world| ended(world, 1 - at) == 1);
    world.to_relay.clear();
    world.to_node.clear();
    world.drop = |_, packet| is_control(packet);
    world.run(Duration::from_millis(3100));
    world.drop = |_, _| false;
    world.run(Duration::from_secs(3));
    assert!(world.is_connected());
    assert_eq!([world.started(0), world.started(1)], [2, 2]);
    assert_eq!(resumed(&world, at), 1);
}

/// Two that send directly and let sessions end, up to where the one that was asked has ended it and its answer is lost.
fn unheard_directly(seed: u64) -> (World, usize) {
    let mut world = behind(seed, [Nat::PortRestricted; 2]);
    (0..2).for_each(|at| keep(&mut world, at, Keep::Few));
    world.run(Duration::from_secs(3));
    traffic(&mut world, Duration::from_secs(3), true);
    assert_eq!(kinds(&world), DIRECT);
    let agrees = 1 - world.lower();
    run_until(&mut world, |world| ended(world, agrees) == 1);
    world.internet.under_way.clear();
    world.internet.sides[agrees].mute = true;
    (world, agrees)
}

#[test]
fn where_the_answer_was_lost_for_long_on_a_direct_path_that_does_not_pass_for_a_session() {
    let (mut world, agrees) = unheard_directly(934);
    world.run(Duration::from_millis(3100));
    world.internet.sides[agrees].mute = false;
    assert_eq!((ended(&world, 1 - agrees), resumed(&world, 1 - agrees)), (0, 1));
    world.run(Duration::from_secs(3));
    assert!(world.is_connected());
    assert_eq!([world.started(0), world.started(1)], [2, 2]);
}

#[test]
fn an_answer_that_comes_when_the_one_that_asked_went_on_ends_the_session() {
    let (mut world, agrees) = unheard_directly(935);
    world.internet.sides[agrees].mute = false;
    world.internet.sides[agrees].slower = Duration::from_millis(2990);
    // The question is repeated; what answers it comes when nobody waits any more, and what is asked by INIT meanwhile takes the relay.
    world.drop = |_, _| true;
    world.run(Duration::from_millis(3300));
    assert_eq!((ended(&world, 1 - agrees), resumed(&world, 1 - agrees)), (0, 1));
    world.drop = |_, _| false;
    world.internet.sides[agrees].slower = Duration::ZERO;
    world.run(Duration::from_secs(3));
    assert!(world.is_connected());
    assert_eq!([world.started(0), world.started(1)], [2, 2]);
}

/// What node 0 began since it was asked to count.
static BEGUN: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

#[test]
fn an_answer_that_nobody_asked_for_costs_no_handshake() {
    let mut world = pair(World::new(936));
    world.drop = |from, packet| {
        let is_init = from == 0 && packet.first() == Some(&0xc8);
        BEGUN.fetch_add(usize::from(is_init), std::sync::atomic::Ordering::Relaxed);
        is_init
    };
    let (now, victim) = (world.now, world.nodes[0].endpoint.id());
    for number in 0..1_000 {
        let now = now + Duration::from_millis(number);
        let answer = Control::RestAnswer { number: number % 7, is_over: true };
        world.nodes[1].endpoint.with_peer(now, victim, |peer, ctx| peer.say_for_test(ctx, &answer));
        world.run(Duration::from_millis(1));
    }
    assert_eq!(BEGUN.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert!(world.is_connected());
}

#[test]
fn who_keeps_its_sessions_is_asked_now_and_then_and_nothing_comes_of_it() {
    let mut world = pair(World::new(918));
    let at = world.lower();
    keep(&mut world, 1 - at, Keep::All);
    world.run(20 * IDLE);
    assert!(world.is_connected());
    assert!((2..=21).contains(&stopped(&world, at)), "{}", stopped(&world, at));
    assert_eq!(resumed(&world, at), stopped(&world, at));
    assert_eq!((stopped(&world, 1 - at), world.started(at)), (0, 1));
}

#[test]
fn who_does_not_know_of_rest_is_not_asked() {
    let mut world = pair(World::new(919));
    let now = world.now;
    for at in 0..2 {
        let peer = world.nodes[1 - at].endpoint.id();
        world.nodes[at].endpoint.with_peer(now, peer, |peer, _| peer.forget_rest_for_test());
    }
    world.run(LONGER);
    assert!(world.is_connected());
    assert_eq!([stopped(&world, 0), stopped(&world, 1)], [0, 0]);
}

#[test]
fn a_small_network_keeps_all_its_sessions_whoever_is_only_named() {
    let mut world = World::new(920);
    world.run(IDLE_AFTER * 3);
    assert!(world.is_connected());
    assert_eq!([stopped(&world, 0), stopped(&world, 1)], [0, 0]);
    // A relay says what it likes; those that say something themselves are in the mesh of a hundred.
    let now = world.now;
    let others = (0..ALL_UP_TO).map(|n| NodeId([u8::try_from(n + 1).unwrap(); 32]));
    let others: Vec<_> = others.collect();
    for at in 0..2 {
        for (n, other) in others.iter().enumerate() {
            let channel = ChannelId(1000 + u32::try_from(n).unwrap());
            world.nodes[at].endpoint.introduced_for_test(now, *other, channel);
        }
    }
    world.drop = |_, packet| packet.first() == Some(&0xc8);
    world.run(IDLE_AFTER + LONGER);
    let state = |world: &World, at: usize| {
        let peer = world.nodes[1 - at].endpoint.id();
        let all = world.nodes[at].endpoint.peer_status(world.now);
        all.into_iter().find(|status| status.id == peer).unwrap().state
    };
    assert_eq!([state(&world, 0), state(&world, 1)], [PeerState::Connected; 2]);
    assert_eq!([stopped(&world, 0), stopped(&world, 1)], [0, 0]);
}

#[test]
fn what_a_user_wants_wakes_and_keeps() {
    let mut world = asleep(921);
    let now = world.now;
    assert!(!world.nodes[0].endpoint.echo(now, PEER, 1), "there is no session to send it in");
    assert!(world.nodes[0].endpoint.wake(now, PEER));
    world.run(5 * WAY);
    assert!(world.is_connected());
    world.run(LONGER);
    assert_eq!(states(&world), ASLEEP);
    let now = world.now;
    world.nodes[0].endpoint.want_path(now, PEER, Wanted::Relay);
    world.run(LONGER);
    assert!(world.is_connected());
    assert_eq!(world.status(1).wanted, Wanted::Relay, "the other side heard of it");
    let now = world.now;
    world.nodes[0].endpoint.want_path(now, PEER, Wanted::Auto);
    world.run(LONGER);
    assert_eq!(states(&world), ASLEEP);
}

#[test]
fn a_relay_that_was_away_wakes_nobody() {
    let mut world = asleep(922);
    world.lose_relay();
    world.drain();
    assert_eq!(states(&world), [PeerState::Offline; 2]);
    frame(&mut world, 0);
    world.run(Duration::from_secs(5));
    let now = world.now;
    for node in &mut world.nodes {
        node.endpoint.handle_stream_opened(now, RELAY, relay_address());
    }
    world.run(LONGER);
    assert_eq!(states(&world), ASLEEP);
    assert_eq!([world.started(0), world.started(1)], [1, 1]);
    frame(&mut world, 1);
    world.run(5 * WAY);
    assert!(world.is_connected());
}

#[test]
fn while_no_relay_is_there_no_session_ends() {
    let mut world = behind(923, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(3));
    traffic(&mut world, Duration::from_secs(3), true);
    assert_eq!(kinds(&world), DIRECT);
    (0..2).for_each(|at| keep(&mut world, at, Keep::Few));
    world.lose_relay();
    world.run(3 * IDLE);
    assert_eq!(kinds(&world), DIRECT);
    assert_eq!([stopped(&world, 0), stopped(&world, 1)], [0, 0]);
}

#[test]
fn what_came_up_while_a_session_ended_without_a_relay_begins_another_when_one_is_there() {
    let mut world = behind(936, [Nat::PortRestricted; 2]);
    (0..2).for_each(|at| keep(&mut world, at, Keep::Few));
    world.run(Duration::from_secs(3));
    traffic(&mut world, Duration::from_secs(3), true);
    assert_eq!(kinds(&world), DIRECT);
    let agrees = 1 - world.lower();
    run_until(&mut world, |world| ended(world, agrees) == 1);
    // The answer comes directly; before it does this one is to keep its sessions.
    world.lose_relay();
    keep(&mut world, 1 - agrees, Keep::All);
    assert_eq!(ended(&world, 1 - agrees), 0);
    world.run(Duration::from_secs(1));
    assert_eq!(ended(&world, 1 - agrees), 1);
    assert_eq!(states(&world), [PeerState::Offline; 2]);
    let now = world.now;
    for node in &mut world.nodes {
        node.endpoint.handle_stream_opened(now, RELAY, relay_address());
    }
    world.run(Duration::from_secs(5));
    assert!(world.is_connected());
}

#[test]
fn who_slept_on_a_direct_path_goes_directly_again_soon() {
    let mut world = behind(924, [Nat::PortRestricted; 2]);
    (0..2).for_each(|at| keep(&mut world, at, Keep::Few));
    world.run(Duration::from_secs(3));
    traffic(&mut world, Duration::from_secs(3), true);
    assert_eq!(kinds(&world), DIRECT);
    world.run(LONGER);
    assert_eq!(states(&world), ASLEEP);
    assert_eq!(world.status(0).asleep.unwrap().last_path, PathKind::DirectUdp);
    for node in &mut world.nodes {
        node.events.clear();
    }
    frame(&mut world, 0);
    world.run(Duration::from_millis(500));
    assert_eq!(kinds(&world), DIRECT);
    let doubts = |event: &Event| matches!(event, Event::Doubt { path: Some(_), .. });
    assert_eq!([world.count(0, doubts), world.count(1, doubts)], [0, 0], "nothing failed");
}

#[test]
fn however_often_a_session_rests_the_next_one_goes_directly() {
    let mut world = behind(937, [Nat::PortRestricted; 2]);
    let now = world.now;
    let sessions = Sessions { keep: Keep::Few, idle_after: IDLE_AFTER_MIN };
    (0..2).for_each(|at| world.nodes[at].endpoint.set_sessions(now, sessions));
    world.run(Duration::from_secs(1));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    for round in 0..40 {
        run_until(&mut world, |world| states(world) == ASLEEP);
        frame(&mut world, round % 2);
        world.run(Duration::from_millis(500));
        assert_eq!(kinds(&world), DIRECT, "{round}");
    }
}

#[test]
fn a_peer_that_restarted_meanwhile_is_greeted_at_once() {
    let mut world = asleep(925);
    world.restart(1);
    keep(&mut world, 1, Keep::Few);
    world.run(Duration::from_secs(3));
    assert!(world.is_connected(), "what it calls itself now is to be known");
    world.run(LONGER);
    assert_eq!(states(&world), ASLEEP);
}

#[test]
fn news_of_this_node_are_told_to_those_that_sleep() {
    let mut world = asleep(926);
    let now = world.now;
    world.nodes[0].endpoint.hello.name = "another".to_owned();
    world.nodes[0].endpoint.announce(now);
    world.run(5 * WAY);
    assert!(world.is_connected());
    world.run(Duration::from_secs(1));
    assert_eq!(world.status(1).hello.unwrap().name, "another");
}

#[test]
fn keys_that_are_replaced_meanwhile_put_the_end_off_by_a_moment() {
    for seed in 927..933 {
        let world = World::with(seed, |_, config| config.rekey_interval = Duration::from_secs(2));
        let mut world = pair(world);
        world.run(LONGER);
        assert_eq!(states(&world), ASLEEP);
        assert!(world.nodes.iter().all(|node| node.endpoint.indices_in_use() == 0));
        frame(&mut world, 1);
        world.run(5 * WAY);
        assert!(world.is_connected());
    }
}
