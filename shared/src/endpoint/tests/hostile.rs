//! What a member, or a relay with a recording, may try: it costs this node a bounded amount, and what it took is given back.

use super::*;
use crate::wire::control::Control;

impl World {
    /// The relay tells node `at` that the other left.
    fn say_gone(&mut self, at: usize, channel: ChannelId) {
        let peer = self.nodes[1 - at].endpoint.id();
        self.say(at, &relay::Control::PeerGone { peer, channel, reason: relay::GoneReason::Lost });
    }

    /// In the place of node `at` comes one with another key.
    fn replace(&mut self, at: usize) {
        self.nodes[at].endpoint.config.node = NodeSecret::generate(&mut self.rng);
        self.restart(at);
    }
}

#[test]
fn a_recorded_first_message_of_somebody_who_comes_and_goes_costs_a_few_handshakes_and_leaves_nothing() {
    for seed in 0..6 {
        let mut world = World::new(seed);
        let (to, init) = recorded_init(&mut world);
        world.run(Duration::from_secs(2));
        world.drop = |_, _| true;
        world.restart(to);
        world.run(Duration::from_secs(2));
        world.say_gone(to, CHANNEL);
        world.run(Duration::from_millis(20));
        let mut answered = 0;
        for round in 0..200 {
            let channel = ChannelId(1000 + round);
            let peer = world.nodes[1 - to].endpoint.id();
            world.say(to, &relay::Control::Peer { peer, channel, instance: 1 });
            world.run(LATENCY);
            let contact = Contact { relay: RELAY, channel };
            let endpoint = &mut world.nodes[to].endpoint;
            answered += u32::from(endpoint.handle_packet(world.now, contact, &mut init.clone()).is_ok());
            // What was answered once is answered from memory: a copy that differs costs more.
            world.say_gone(to, channel);
            world.run(LATENCY);
        }
        assert!(answered <= 200);
        assert!(
            world.nodes[to].endpoint.indices_in_use() <= 8,
            "{}",
            world.nodes[to].endpoint.indices_in_use()
        );
        world.run(Duration::from_secs(60));
        let endpoint = &world.nodes[to].endpoint;
        assert_eq!((endpoint.indices_in_use(), endpoint.peer_status(world.now).len()), (0, 0), "seed {seed}");
    }
}

#[test]
fn a_peer_that_is_gone_is_offline_for_hours_and_then_forgotten() {
    let mut world = World::new(7);
    world.run(Duration::from_secs(2));
    assert!(world.is_connected());
    world.drop = |_, _| true;
    world.say_gone(0, CHANNEL);
    world.run(Duration::from_secs(5 * 3600));
    assert_eq!(world.status(0).state, PeerState::Offline);
    world.run(Duration::from_secs(2 * 3600));
    let endpoint = &world.nodes[0].endpoint;
    assert_eq!((endpoint.peer_status(world.now).len(), endpoint.indices_in_use()), (0, 0));
    let (opened, closed) = (
        world.count(0, |event| matches!(event, Event::OpenAssociation { .. })),
        world.count(0, |event| matches!(event, Event::CloseAssociation { .. })),
    );
    assert_eq!(opened, closed, "the data plane holds nothing for it");
    assert_eq!(world.count(0, |event| matches!(event, Event::PeerRemoved { .. })), 1);
}

#[test]
fn key_after_key_fills_no_table() {
    let mut world = World::new(8);
    world.run(Duration::from_secs(1));
    for _ in 0..MAX_PEERS_KNOWN + 80 {
        world.say_gone(0, CHANNEL);
        world.run(LATENCY);
        world.replace(1);
        world.run(Duration::from_millis(400));
        assert_eq!(world.nodes[0].endpoint.connected(), 1, "the newcomer is met");
    }
    world.run(Duration::from_secs(300));
    let endpoint = &world.nodes[0].endpoint;
    let known = endpoint.peer_status(world.now).len();
    assert!((MAX_PEERS_KNOWN - 1..=MAX_PEERS_KNOWN).contains(&known), "{known}");
    assert!(endpoint.indices_in_use() <= 8, "{}", endpoint.indices_in_use());
    assert_eq!(world.nodes[0].endpoint.connected(), 1, "and the last of them is still there");
}

#[test]
fn a_member_that_claims_one_address_after_the_other_moves_a_node_three_times_an_hour() {
    let mut world = World::new(9);
    world.run(Duration::from_secs(20));
    for _ in 0..150 {
        let wanted = world.nodes[0].endpoint.hello.ipv4;
        let attacker = &mut world.nodes[1].endpoint;
        attacker.hello.ipv4 = wanted;
        attacker.hello.claim = Claim::ByHand;
        attacker.announce(world.now);
        world.run(Duration::from_secs(20));
    }
    let moves = world.count(0, |event| matches!(event, Event::AddressChanged { .. }));
    assert_eq!(moves, 3);
    assert!(world.count(0, |event| matches!(event, Event::AddressConflict { .. })) > 0, "it is reported");
    assert!(world.is_connected());
}

#[test]
fn the_same_hello_with_another_revision_is_no_news() {
    let mut world = World::new(10);
    world.run(Duration::from_secs(2));
    let before = world.count(0, |event| matches!(event, Event::PeerHello { .. }));
    for _ in 0..100 {
        world.nodes[1].endpoint.announce(world.now);
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.count(0, |event| matches!(event, Event::PeerHello { .. })), before);
}

#[test]
fn a_thousand_hellos_are_few_news_and_the_last_one_counts() {
    let mut world = World::new(11);
    world.run(Duration::from_secs(2));
    let news = |world: &World| world.count(0, |event| matches!(event, Event::PeerHello { .. }));
    let (before, victim) = (news(&world), world.nodes[0].endpoint.id());
    for n in 0..1_000_u32 {
        let endpoint = &mut world.nodes[1].endpoint;
        let hello = Hello { name: format!("b{}", n % 2), revision: 100 + n, ..endpoint.hello().clone() };
        let (now, said) = (world.now, Control::Hello(hello));
        endpoint.with_peer(now, victim, |peer, ctx| peer.say_for_test(ctx, &said));
        world.run(Duration::from_millis(1));
    }
    let told = news(&world) - before;
    assert!((8..=12).contains(&told), "{told} were told");
    let now = world.now;
    let endpoint = &mut world.nodes[1].endpoint;
    (endpoint.hello.name, endpoint.hello.revision) = ("last".into(), 5_000);
    endpoint.announce(now);
    world.run(Duration::from_secs(3));
    assert_eq!(world.status(0).hello.unwrap().name, "last");
}
