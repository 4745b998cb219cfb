use super::*;
use proptest::prelude::*;
use shadowmesh_proto::ids::NetworkId;
use shadowmesh_proto::rng::SeededRng;
use shadowmesh_proto::version::{UNSAID, Versions};
use shadowmesh_proto::wire::relay::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};

/// A relay in virtual time, and what its clients have seen so far.
struct World {
    relay: Relay,
    now: Instant,
    rng: SeededRng,
    routes: BTreeMap<(ConnId, ChannelId), ConnId>,
    closed: BTreeSet<ConnId>,
    inbox: BTreeMap<ConnId, Vec<Control>>,
    bound: BTreeMap<ConnId, (SocketAddr, BindingTag)>,
}

const NETWORK: NetworkId = NetworkId([1; 32]);

fn node(number: u8) -> NodeId {
    NodeId([number; 32])
}

fn tcp(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 1000))
}

fn udp(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 2000))
}

impl World {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let terms = Terms {
            stun_ports: vec![8443, 8444],
            heartbeat: Duration::from_secs(15),
            rotation: Duration::from_secs(120),
            mtu: 1500,
            direct: true,
            instance: 7,
            versions: Versions::FIRST,
        };
        let (now, mut rng) = (Instant::now(), SeededRng::new(1));
        Self {
            relay: Relay::new(now, limits, terms, &mut rng),
            now,
            rng,
            routes: BTreeMap::new(),
            closed: BTreeSet::new(),
            inbox: BTreeMap::new(),
            bound: BTreeMap::new(),
        }
    }

    fn pump(&mut self) {
        while let Some(output) = self.relay.poll_output() {
            match output {
                Output::Send { to, body } => {
                    assert!(!self.closed.contains(&to), "sent to a closed connection: {body:?}");
                    self.inbox.entry(to).or_default().push(body);
                }
                Output::Route { conn, channel, to, .. } => {
                    assert_eq!(self.routes.insert((conn, channel), to), None, "a route twice");
                }
                Output::Unroute { conn, channel } => {
                    assert!(self.routes.remove(&(conn, channel)).is_some(), "no such route");
                }
                Output::Bind { conn, udp, tag } => {
                    assert!(!self.closed.contains(&conn));
                    self.bound.insert(conn, (udp, tag));
                }
                Output::Close { conn } => assert!(self.closed.insert(conn), "closed twice"),
            }
        }
    }

    fn try_register(&mut self, conn: u64, network: NetworkId, number: u8) -> Result<(), Refusal> {
        let registration = Registration {
            node: node(number),
            network,
            instance: u64::from(number) + 100 * conn,
            observed_tcp: tcp(number),
            version: UNSAID,
        };
        let result = self.relay.handle_register(self.now, ConnId(conn), registration, &mut self.rng);
        self.pump();
        result
    }

    /// Registers node `number` over connection `number` and forgets the REGISTERED.
    fn join(&mut self, number: u8) -> ConnId {
        self.try_register(u64::from(number), NETWORK, number).unwrap();
        let conn = ConnId(u64::from(number));
        self.inbox.entry(conn).or_default().retain(|body| !matches!(body, Control::Registered { .. }));
        conn
    }

    fn tell(&mut self, conn: ConnId, body: Control) -> Result<(), Refusal> {
        let result = self.relay.handle_control(self.now, conn, body, &mut self.rng);
        self.pump();
        result
    }

    fn take(&mut self, conn: ConnId) -> Vec<Control> {
        self.inbox.remove(&conn).unwrap_or_default()
    }

    /// Two clients that have met, and their channel.
    fn pair(&mut self) -> (ConnId, ConnId, ChannelId) {
        let (a, b) = (self.join(1), self.join(2));
        self.tell(a, Control::Connect { peer: None }).unwrap();
        let [Control::Peer { channel, .. }] = self.take(a)[..] else { panic!("not met") };
        self.take(b);
        (a, b, channel)
    }

    /// The same, both confirmed.
    fn established(&mut self) -> (ConnId, ConnId, ChannelId) {
        let (a, b, channel) = self.pair();
        self.tell(a, Control::Confirmed { channel }).unwrap();
        self.tell(b, Control::Confirmed { channel }).unwrap();
        (a, b, channel)
    }

    fn stun(
        &mut self,
        token: &Token,
        from: SocketAddr,
        decides: impl FnOnce(ConnId) -> bool,
    ) -> Option<StunAnswer> {
        let answer = self.relay.handle_stun(self.now, token, from, decides);
        self.pump();
        answer
    }

    /// What is sent to `from`, asked where that decides.
    fn nonce(&mut self, token: &Token, from: SocketAddr) -> Nonce {
        self.stun(token, from, |_| true).and_then(|answer| answer.nonce).expect("it decides")
    }

    /// The client behind `conn` is at `from` and shows it.
    fn settle(&mut self, conn: ConnId, from: SocketAddr) {
        let token = self.token(conn);
        let nonce = self.nonce(&token, from);
        self.tell(conn, Control::Bind { nonce, udp: from }).unwrap();
        self.bound.clear();
        if let Some(inbox) = self.inbox.get_mut(&conn) {
            inbox.retain(|body| !matches!(body, Control::Bound { .. }));
        }
    }

    fn token(&self, conn: ConnId) -> Token {
        self.relay.registry.client(conn).unwrap().token
    }

    fn close(&mut self, conn: ConnId) {
        self.relay.handle_closed(conn);
        self.inbox.remove(&conn);
        self.closed.insert(conn);
        self.pump();
    }
}

#[test]
fn registered_says_everything() {
    let mut world = World::new();
    world.try_register(5, NETWORK, 1).unwrap();
    let [
        Control::Registered {
            observed_tcp,
            stun_token,
            stun_ports,
            heartbeat_ms,
            instance,
            direct,
            versions,
            version,
        },
    ] = &world.take(ConnId(5))[..]
    else {
        panic!("not registered")
    };
    assert_eq!(*observed_tcp, tcp(1));
    assert_eq!(*stun_token, world.token(ConnId(5)));
    assert_eq!((versions, version), (&None, &None), "version 1 alone, as relays that knew of no other");
    assert_eq!(stun_ports, &[8443, 8444]);
    assert_eq!((*heartbeat_ms, *instance, *direct), (15_000, 7, Some(true)));
}

#[test]
fn both_ends_get_one_channel_and_no_address() {
    let mut world = World::new();
    let (a, b) = (world.join(1), world.join(2));
    world.tell(a, Control::Connect { peer: None }).unwrap();
    let peer = |number: u8, conn: ConnId| Control::Peer {
        peer: node(number),
        channel: ChannelId(1),
        instance: u64::from(number) + 100 * conn.0,
    };
    assert_eq!(world.take(a), [peer(2, b)]);
    assert_eq!(world.take(b), [peer(1, a)]);
    assert_eq!(world.routes.get(&(a, ChannelId(1))), Some(&b));
    assert_eq!(world.routes.get(&(b, ChannelId(1))), Some(&a));
}

#[test]
fn everybody_means_later_ones_too_and_nobody_meets_twice() {
    let mut world = World::new();
    let (a, b, _) = world.pair();
    world.tell(b, Control::Connect { peer: None }).unwrap();
    world.tell(a, Control::Connect { peer: Some(node(2)) }).unwrap();
    assert_eq!((world.take(a), world.take(b)), (vec![], vec![]));
    let c = world.join(3);
    assert_eq!(world.take(a).len(), 1);
    assert_eq!(world.take(b).len(), 1);
    assert_eq!(world.take(c).len(), 2);
}

#[test]
fn a_named_peer_is_met_when_it_comes_and_others_are_not() {
    let mut world = World::new();
    let a = world.join(1);
    world.tell(a, Control::Connect { peer: Some(node(3)) }).unwrap();
    let b = world.join(2);
    assert_eq!((world.take(a), world.take(b)), (vec![], vec![]));
    let c = world.join(3);
    assert_eq!((world.take(a).len(), world.take(c).len()), (1, 1));
}

#[test]
fn a_client_does_not_meet_itself() {
    let mut world = World::new();
    let a = world.join(1);
    world.tell(a, Control::Connect { peer: Some(node(1)) }).unwrap();
    world.tell(a, Control::Connect { peer: None }).unwrap();
    assert_eq!(world.take(a), []);
    assert!(world.routes.is_empty());
}

#[test]
fn networks_do_not_see_each_other() {
    let mut world = World::new();
    let a = world.join(1);
    world.tell(a, Control::Connect { peer: None }).unwrap();
    world.tell(a, Control::Connect { peer: Some(node(2)) }).unwrap();
    world.try_register(9, NetworkId([2; 32]), 2).unwrap();
    world.tell(ConnId(9), Control::Connect { peer: Some(node(1)) }).unwrap();
    assert_eq!(world.take(a), []);
    assert!(world.routes.is_empty());
}

#[test]
fn addresses_come_after_both_confirmed_and_with_every_field() {
    let mut world = World::new();
    let (a, b, channel) = world.pair();
    for _ in 0..3 {
        world.tell(a, Control::Confirmed { channel }).unwrap();
    }
    assert_eq!((world.take(a), world.take(b)), (vec![], vec![]), "one end is not enough");
    world.tell(b, Control::Confirmed { channel }).unwrap();
    let (to_a, to_b) = (world.take(a), world.take(b));
    let established = |session, peer| Control::Established {
        channel,
        session,
        mtu: 1500,
        heartbeat_ms: 15_000,
        rotation_s: 120,
        peer_tcp: Some(tcp(peer)),
        peer_udp: None,
        direct: true,
    };
    let [Control::Established { session, .. }] = to_a[..] else { panic!("not established") };
    assert_ne!(session, [0; 16]);
    assert_eq!(to_a, [established(session, 2)]);
    assert_eq!(to_b, [established(session, 1)]);
    // Once is enough.
    world.tell(b, Control::Confirmed { channel }).unwrap();
    assert_eq!((world.take(a), world.take(b)), (vec![], vec![]));
}

#[test]
fn a_udp_address_is_told_to_its_owner_and_to_established_peers_only() {
    let mut world = World::new();
    let (a, b, channel) = world.pair();
    let c = world.join(3);
    world.tell(a, Control::Connect { peer: None }).unwrap();
    let token = world.token(a);
    world.take(c);
    world.take(a);
    assert!(world.stun(&token, udp(1), |_| true).is_some());
    world.pump();
    assert_eq!(world.take(a), [Control::Observed { udp: udp(1) }]);
    assert_eq!((world.take(b), world.take(c)), (vec![], vec![]), "nobody confirmed yet");

    world.tell(a, Control::Confirmed { channel }).unwrap();
    world.tell(b, Control::Confirmed { channel }).unwrap();
    let [Control::Established { peer_udp, session, .. }] = world.take(b)[..] else {
        panic!("not established")
    };
    assert_eq!(peer_udp, Some(udp(1)));
    world.take(a);

    // The same address again: an answer, no news.
    assert!(world.stun(&token, udp(1), |_| true).is_some());
    world.pump();
    assert_eq!((world.take(a), world.take(b)), (vec![], vec![]));

    // Another one, with a token that anybody on the way can read: no news until the client shows that it is there.
    assert!(world.stun(&token, udp(66), |_| true).is_some());
    assert_eq!((world.take(a), world.take(b)), (vec![], vec![]));

    // Then news to b, under the same session id, and not to c.
    world.settle(a, udp(9));
    assert_eq!(world.take(a), [Control::Observed { udp: udp(9) }]);
    let [Control::Established { peer_udp, session: again, .. }] = world.take(b)[..] else {
        panic!("no news")
    };
    assert_eq!((peer_udp, again), (Some(udp(9)), session));
    assert_eq!(world.take(c), []);
}

#[test]
fn the_second_stun_port_answers_but_does_not_make_the_address_flap() {
    let mut world = World::new();
    let a = world.join(1);
    let token = world.token(a);
    assert!(world.stun(&token, udp(8), |_| false).is_some());
    world.pump();
    assert_eq!(world.take(a), [Control::Observed { udp: udp(8) }], "better than nothing");
    for _ in 0..3 {
        world.settle(a, udp(1));
        assert!(world.stun(&token, udp(8), |_| false).is_some());
    }
    assert_eq!(world.take(a), [Control::Observed { udp: udp(1) }]);
}

#[test]
fn what_is_asked_over_the_other_family_is_answered_and_moves_nothing() {
    let mut world = World::new();
    let conn = world.join(1);
    let token = world.token(conn);
    let other: SocketAddr = "[2001:db8::1]:5".parse().unwrap();
    // Neither as the first thing that is heard of the client, nor later.
    for _ in 0..2 {
        let answer = world.stun(&token, other, |_| true).expect("an answer");
        assert_eq!(answer.nonce, None);
        assert_eq!(world.take(conn), []);
        let first = world.stun(&token, udp(1), |_| true).expect("an answer");
        assert!(first.nonce.is_some(), "and this still decides");
        world.take(conn);
    }
    assert_eq!(world.relay.registry.client(conn).unwrap().observed, Some(udp(1)));
}

#[test]
fn datagrams_are_bound_to_the_address_that_received_the_nonce_and_to_no_other() {
    let mut world = World::new();
    let (a, b, _) = world.pair();
    let (token, token_b) = (world.token(a), world.token(b));
    // Nothing was sent to it yet; then from the port that does not decide.
    world.tell(a, Control::Bind { nonce: [0; 8], udp: udp(1) }).unwrap();
    assert_eq!(world.stun(&token, udp(1), |_| false).unwrap().nonce, None);
    let first = world.nonce(&token, udp(1));
    assert_eq!(world.nonce(&token, udp(1)), first, "the same within a minute");
    let of_b = world.nonce(&token_b, udp(1));
    for (nonce, udp) in [(of_b, udp(1)), (first, udp(2)), (first, tcp(1))] {
        world.tell(a, Control::Bind { nonce, udp }).unwrap();
    }
    world.tell(b, Control::Bind { nonce: first, udp: udp(1) }).unwrap();
    assert_eq!((world.bound.len(), world.relay.counters().strays), (0, 5));
    world.take(a);
    world.tell(a, Control::Bind { nonce: first, udp: udp(1) }).unwrap();
    let [Control::Bound { tag }] = world.take(a)[..] else { panic!("not bound") };
    assert_eq!(world.bound.remove(&a), Some((udp(1), BindingTag::new(tag))));
    // It moves: what was received at the old address says nothing of the new one.
    let second = world.nonce(&token, udp(9));
    assert_ne!(first, second);
    world.tell(a, Control::Bind { nonce: first, udp: udp(9) }).unwrap();
    assert_eq!(world.bound.remove(&a), None);
    world.tell(a, Control::Bind { nonce: second, udp: udp(9) }).unwrap();
    assert_eq!(world.bound.get(&a).map(|(udp, _)| *udp), Some(udp(9)));
    assert_eq!(world.relay.counters().bindings, 2);
}

#[test]
fn an_address_that_is_named_as_a_mapped_one_is_the_same() {
    let mut world = World::new();
    let conn = world.join(1);
    let token = world.token(conn);
    let nonce = world.nonce(&token, udp(1));
    let mapped = "[::ffff:192.0.2.1]:2000".parse().unwrap();
    world.tell(conn, Control::Bind { nonce, udp: mapped }).unwrap();
    assert_eq!(world.bound.get(&conn).map(|(udp, _)| *udp), Some(udp(1)));
    assert_eq!(world.relay.registry.client(conn).unwrap().observed, Some(udp(1)));
}

#[test]
fn a_binding_that_is_proven_again_keeps_its_tag_and_is_no_news_to_anybody() {
    let mut world = World::new();
    let (a, b, _) = world.established();
    world.settle(a, udp(1));
    let token = world.token(a);
    let first = world.nonce(&token, udp(1));
    world.tell(a, Control::Bind { nonce: first, udp: udp(1) }).unwrap();
    let (_, tag) = world.bound.remove(&a).unwrap();
    world.take(a);
    world.take(b);
    let mut last = first;
    // Far more often than it could move.
    for _ in 0..500 {
        world.now += crate::core::nonce::SLOT;
        let nonce = world.nonce(&token, udp(1));
        assert_ne!(nonce, last, "another minute, another nonce");
        // The one before is good for this minute.
        for nonce in [last, nonce] {
            world.tell(a, Control::Bind { nonce, udp: udp(1) }).unwrap();
            assert_eq!(world.bound.remove(&a), Some((udp(1), tag)));
            assert_eq!(world.take(a), [Control::Bound { tag: tag.number() }]);
        }
        last = nonce;
    }
    assert_eq!(world.take(b), []);
    assert_eq!(world.relay.counters().bindings, 1);
    world.tell(a, Control::Bind { nonce: first, udp: udp(1) }).unwrap();
    assert_eq!((world.take(a), world.relay.counters().strays), (vec![], 1), "one of yesterday");
}

#[test]
fn whoever_saw_the_token_cannot_keep_the_client_from_moving() {
    let mut world = World::new();
    let (a, b, _) = world.established();
    world.settle(a, udp(1));
    let token = world.token(a);
    world.take(a);
    world.take(b);
    let nonce = world.nonce(&token, udp(9));
    for n in 0..2_000_u16 {
        let _ = world.stun(&token, SocketAddr::from(([198, 51, 100, 66], n)), |_| n % 2 == 0);
    }
    assert_eq!((world.take(a), world.take(b)), (vec![], vec![]), "nothing came of all that");
    world.tell(a, Control::Bind { nonce, udp: udp(9) }).unwrap();
    assert!(
        matches!(world.take(a)[..], [Control::Observed { udp: seen }, Control::Bound { .. }] if seen == udp(9))
    );
    assert!(
        matches!(world.take(b)[..], [Control::Established { peer_udp: Some(seen), .. }] if seen == udp(9))
    );
}

#[test]
fn a_client_that_flips_between_two_ports_is_answered_and_not_told_to_its_peers_each_time() {
    let mut world = World::new();
    let (a, b, channel) = world.pair();
    world.tell(a, Control::Confirmed { channel }).unwrap();
    world.tell(b, Control::Confirmed { channel }).unwrap();
    let token = world.token(a);
    world.take(a);
    world.take(b);
    for n in 0..10_000_u32 {
        let udp = udp(1 + u8::from(n % 2 == 0));
        let nonce = world.nonce(&token, udp);
        if n < 2_000 {
            world.tell(a, Control::Bind { nonce, udp }).unwrap();
        }
    }
    let told =
        |bodies: Vec<Control>| bodies.iter().filter(|body| !matches!(body, Control::Bound { .. })).count();
    let limit = Limits::default().moves_burst + 1.0;
    assert_eq!((told(world.take(a)) as f64, told(world.take(b)) as f64), (limit, limit));
    world.now += Duration::from_secs(10);
    world.settle(a, udp(77));
    assert_eq!(world.take(a), [Control::Observed { udp: udp(77) }], "an honest move afterwards counts");
}

#[test]
fn a_network_whose_members_come_and_go_is_slowed_down_and_no_other_is() {
    let mut world = World::with(Limits {
        introductions_burst: 200.0,
        introductions_per_second: 10.0,
        ..Limits::default()
    });
    for number in 1..=10 {
        world.join(number);
    }
    // Ten introductions each time, for 155 that are left.
    let (mut conn, mut joined) = (1000, 0);
    let refusal = loop {
        world.close(ConnId(conn - 1));
        match world.try_register(conn, NETWORK, 77) {
            Ok(()) => joined += 1,
            Err(refusal) => break refusal,
        }
        conn += 1;
        assert!(joined < 100, "never slowed down");
    };
    assert_eq!(joined, 15);
    assert!(matches!(refusal, Refusal::NetworkBusy(wait) if wait >= Duration::from_secs(1)), "{refusal:?}");
    assert!(world.try_register(5000, NetworkId([9; 32]), 77).is_ok(), "another network");
    world.now += Duration::from_secs(5);
    assert!(world.try_register(6000, NETWORK, 77).is_ok());
}

#[test]
fn what_is_said_again_costs_nobody_anything() {
    let mut world = World::new();
    let (a, b, channel) = world.pair();
    world.tell(a, Control::Release { channel }).unwrap();
    for _ in 0..100 {
        world.tell(a, Control::Connect { peer: None }).unwrap();
        world.tell(a, Control::Release { channel }).unwrap();
    }
    assert_eq!((world.take(a), world.take(b)), (vec![], vec![Control::Release { channel }]));
    // Who comes afterwards is met as ever.
    let c = world.join(3);
    assert_eq!(world.take(c).len(), 1);
}

#[test]
fn strangers_get_no_stun_answer_and_a_token_dies_with_its_registration() {
    let mut world = World::new();
    let a = world.join(1);
    let token = world.token(a);
    assert!(world.stun(&[0; 16], udp(1), |_| true).is_none());
    world.close(a);
    assert!(world.stun(&token, udp(1), |_| true).is_none());
}

#[test]
fn the_newest_registration_wins() {
    let mut world = World::new();
    let (a, b, channel) = world.pair();
    let old_token = world.token(a);
    world.try_register(50, NETWORK, 1).unwrap();
    let to_old = world.take(a);
    assert!(matches!(
        &to_old[..],
        [Control::Error { code, .. }] if *code == ErrorCode::Replaced.to_u16()
    ));
    assert!(world.closed.contains(&a));
    // b is told, and meets the newcomer only when somebody wishes (a's wish left with a).
    assert_eq!(world.take(b), [Control::PeerGone { peer: node(1), channel, reason: GoneReason::Replaced }]);
    assert!(world.routes.is_empty());
    assert!(world.stun(&old_token, udp(1), |_| true).is_none());
    // The late close of the old connection hurts nobody.
    world.relay.handle_closed(a);
    world.pump();
    assert_eq!(world.relay.population(), (2, 1));
    world.tell(b, Control::Connect { peer: None }).unwrap();
    let [Control::Peer { channel: anew, .. }] = world.take(b)[..] else { panic!("not met") };
    assert_ne!(anew, channel);
}

#[test]
fn what_a_replaced_connection_still_says_is_ignored() {
    let mut world = World::new();
    let (a, b, channel) = world.pair();
    world.try_register(50, NETWORK, 1).unwrap();
    world.take(a);
    world.take(b);
    for body in [
        Control::Connect { peer: None },
        Control::Confirmed { channel },
        Control::Release { channel },
        Control::Leave,
        Control::Ping { id: 1 },
    ] {
        world.tell(a, body).unwrap();
    }
    assert_eq!((world.take(a), world.take(b)), (vec![], vec![]));
    assert_eq!(world.relay.population(), (2, 1));
}

#[test]
fn two_machines_with_one_key_are_damped_and_told_when_to_retry() {
    let mut world =
        World::with(Limits { replacements_burst: 3.0, replacements_per_second: 0.5, ..Limits::default() });
    for conn in 1..=4 {
        world.try_register(conn, NETWORK, 1).unwrap();
    }
    assert_eq!(world.try_register(5, NETWORK, 1), Err(Refusal::Contested(Duration::from_secs(2))));
    // The one that is there stays.
    assert!(!world.closed.contains(&ConnId(4)));
    world.now += Duration::from_secs(2);
    world.try_register(6, NETWORK, 1).unwrap();
    assert!(world.closed.contains(&ConnId(4)));
}

#[test]
fn reasons_of_a_departure() {
    for (reason, depart) in [(GoneReason::Lost, None), (GoneReason::Left, Some(Control::Leave))] {
        let mut world = World::new();
        let (a, b, channel) = world.pair();
        match depart {
            Some(body) => {
                world.tell(a, body).unwrap();
                assert!(world.closed.contains(&a));
            }
            None => world.close(a),
        }
        assert_eq!(world.take(b), [Control::PeerGone { peer: node(1), channel, reason }]);
        assert!(world.routes.is_empty());
        assert_eq!(world.relay.pairs(), PairCounts::default());
    }
}

#[test]
fn a_release_makes_the_pair_direct_until_data_flows() {
    let mut world = World::new();
    let (a, b, channel) = world.established();
    world.take(a);
    world.take(b);
    let counts = |world: &World| {
        let PairCounts { relayed, direct, .. } = world.relay.pairs();
        (relayed, direct)
    };
    assert_eq!(counts(&world), (1, 0));
    world.tell(a, Control::Release { channel }).unwrap();
    assert_eq!(world.take(b), [Control::Release { channel }]);
    assert_eq!(counts(&world), (0, 1));
    world.relay.pairs.of(channel, a).unwrap().meter.count(100);
    assert_eq!(counts(&world), (1, 0));
}

#[test]
fn the_channel_of_another_pair_is_out_of_reach() {
    let mut world = World::new();
    let (a, b, channel) = world.pair();
    let stranger = world.join(3);
    for conn in [a, b, stranger] {
        world.take(conn);
    }
    world.tell(stranger, Control::Confirmed { channel }).unwrap();
    world.tell(a, Control::Confirmed { channel }).unwrap();
    world.tell(stranger, Control::Release { channel }).unwrap();
    assert_eq!((world.take(a), world.take(b), world.take(stranger)), (vec![], vec![], vec![]));
    assert_eq!(world.relay.counters().strays, 2);
    assert!(!world.relay.pairs.of(channel, a).unwrap().meter.is_dormant());
    assert!(!world.routes.contains_key(&(stranger, channel)));
}

#[test]
fn what_only_relays_say_ends_the_connection() {
    let mut world = World::new();
    let (a, _, channel) = world.pair();
    let bodies = [
        Control::Peer { peer: node(2), channel, instance: 0 },
        Control::PeerGone { peer: node(2), channel, reason: GoneReason::Left },
        Control::Drain { within_ms: 0 },
        Control::Error { code: 0, sentence: String::new(), retry_ms: None },
        Control::Observed { udp: udp(1) },
    ];
    for body in bodies {
        assert!(matches!(world.tell(a, body), Err(Refusal::OutOfPlace(_))));
    }
}

#[test]
fn a_second_registration_on_one_connection_is_refused() {
    let mut world = World::new();
    let a = world.join(1);
    assert!(matches!(world.try_register(a.0, NetworkId([2; 32]), 2), Err(Refusal::OutOfPlace(_))));
    assert_eq!(world.relay.population(), (1, 1));
}

#[test]
fn limits_are_told() {
    let mut world = World::with(Limits {
        members_per_network: 2,
        wishes_per_client: 2,
        control_burst: 5.0,
        control_per_second: 1.0,
        ..Limits::default()
    });
    let a = world.join(1);
    world.join(2);
    assert_eq!(world.try_register(3, NETWORK, 3), Err(Refusal::NetworkFull));
    // Coming back is not joining.
    world.try_register(4, NETWORK, 2).unwrap();
    for peer in [10, 11, 11] {
        let peer = Some(node(peer));
        world.tell(a, Control::Connect { peer }).unwrap();
    }
    let peer = Some(node(12));
    assert_eq!(world.tell(a, Control::Connect { peer }), Err(Refusal::TooManyWishes));
    world.tell(a, Control::Ping { id: 1 }).unwrap();
    assert_eq!(world.tell(a, Control::Ping { id: 2 }), Err(Refusal::TooChatty));
    world.now += Duration::from_secs(1);
    assert_eq!(world.tell(a, Control::Ping { id: 3 }), Ok(()));
}

#[test]
fn every_refusal_says_what_and_when() {
    let wait = Duration::from_millis(1_500);
    for (refusal, code, retry) in [
        (Refusal::BadRegistration, 1, None),
        (Refusal::Replaced, 2, None),
        (Refusal::Contested(wait), 3, Some(1_500)),
        (Refusal::NetworkFull, 3, Some(60_000)),
        (Refusal::TooChatty, 3, Some(5_000)),
        (Refusal::TooManyWishes, 3, None),
        (Refusal::OutOfPlace("x"), 4, None),
    ] {
        let Control::Error { code: told, sentence, retry_ms } = refusal.to_body() else { panic!("no ERROR") };
        assert_eq!((told, retry_ms), (code, retry));
        assert!(!sentence.is_empty());
    }
}

#[test]
fn a_ping_is_answered_and_a_drain_reaches_all() {
    let mut world = World::new();
    let (a, b) = (world.join(1), world.join(2));
    world.tell(a, Control::Ping { id: 4 }).unwrap();
    assert_eq!(world.take(a), [Control::Pong { id: 4 }]);
    world.relay.handle_drain(Duration::from_secs(2));
    world.pump();
    for conn in [a, b] {
        assert_eq!(world.take(conn), [Control::Drain { within_ms: 2_000 }]);
    }
}

/// One step of a random life.
#[derive(Debug, Clone)]
enum Step {
    Register { conn: u64, network: u8, number: u8 },
    Tell { conn: u64, body: Control },
    Stun { conn: u64, from: u8, decides: bool },
    Close { conn: u64 },
    Wait { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let channel = (0u32..12).prop_map(ChannelId);
    let body = prop_oneof![
        Just(Control::Connect { peer: None }),
        (0u8..5).prop_map(|number| Control::Connect { peer: Some(node(number)) }),
        channel.clone().prop_map(|channel| Control::Confirmed { channel }),
        channel.prop_map(|channel| Control::Release { channel }),
        any::<u64>().prop_map(|id| Control::Ping { id }),
        Just(Control::Leave),
        Just(Control::Drain { within_ms: 1 }),
    ];
    let step = prop_oneof![
        3 => (0u64..10, 0u8..2, 0u8..5).prop_map(|(conn, network, number)| Step::Register { conn, network, number }),
        6 => (0u64..10, body).prop_map(|(conn, body)| Step::Tell { conn, body }),
        1 => (0u64..10, any::<u8>(), any::<bool>()).prop_map(|(conn, from, decides)| Step::Stun { conn, from, decides }),
        1 => (0u64..10).prop_map(|conn| Step::Close { conn }),
        1 => (0u64..5_000).prop_map(|ms| Step::Wait { ms }),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// Whatever clients do: routes come in twos between members of one network, an address is only ever told to somebody
    /// whose pair both ends confirmed, and nothing is left behind when all have gone.
    #[test]
    fn invariants_hold_in_any_life(steps in steps()) {
        let mut world = World::new();
        let mut confirmed: BTreeSet<(ConnId, ChannelId)> = BTreeSet::new();
        // Connections are never reused by the server: after a close the number moves on.
        let mut generation: BTreeMap<u64, u64> = BTreeMap::new();
        for step in steps {
            let current = |generation: &BTreeMap<u64, u64>, conn: u64| conn + 100 * generation.get(&conn).copied().unwrap_or(0);
            match step {
                Step::Register { conn, network, number } => {
                    let conn = current(&generation, conn);
                    if !world.closed.contains(&ConnId(conn)) {
                        let _ = world.try_register(conn, NetworkId([network; 32]), number);
                    }
                }
                Step::Tell { conn, body } => {
                    let id = ConnId(current(&generation, conn));
                    if let Control::Confirmed { channel } = body
                        && world.routes.contains_key(&(id, channel))
                    {
                        confirmed.insert((id, channel));
                    }
                    if world.tell(id, body).is_err() {
                        world.close(id);
                    }
                }
                Step::Stun { conn, from, decides } => {
                    let id = ConnId(current(&generation, conn));
                    if let Some(token) = world.relay.registry.client(id).map(|client| client.token) {
                        prop_assert!(world.stun(&token, udp(from), |_| decides).is_some());
                        world.pump();
                    }
                }
                Step::Close { conn } => {
                    world.close(ConnId(current(&generation, conn)));
                    *generation.entry(conn).or_default() += 1;
                }
                Step::Wait { ms } => world.now += Duration::from_millis(ms),
            }
            for ((conn, channel), to) in &world.routes {
                prop_assert_eq!(world.routes.get(&(*to, *channel)), Some(conn));
                let network = |conn| world.relay.registry.client(conn).map(|client| client.registration.network);
                prop_assert!(network(*conn).is_some());
                prop_assert_eq!(network(*conn), network(*to));
            }
            let inboxes = std::mem::take(&mut world.inbox);
            for (conn, bodies) in inboxes {
                for body in bodies {
                    if let Control::Established { channel, .. } = body {
                        let (_, other) = world
                            .relay
                            .pairs
                            .of(channel, conn)
                            .and_then(|pair| pair.seen_from(conn))
                            .expect("ESTABLISHED on a channel of its own");
                        prop_assert!(confirmed.contains(&(conn, channel)));
                        prop_assert!(confirmed.contains(&(other.conn, channel)));
                    }
                }
            }
        }
        let all: Vec<_> = world.relay.registry.conns().collect();
        for conn in all {
            world.close(conn);
        }
        prop_assert!(world.routes.is_empty());
        prop_assert_eq!(world.relay.population(), (0, 0));
        prop_assert_eq!(world.relay.pairs(), PairCounts::default());
        prop_assert!(world.relay.tokens == Tokens::default());
    }
}
