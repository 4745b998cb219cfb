//! Certificates: who is no member gets no key, no route and no address; who stops being one is cut off.

use super::*;
use crate::endpoint::demand::{Keep, Sessions};
use crate::ids::ReceiverIndex;
use crate::membership::{
    self, Address, Addresses, Authority, Certificate, Document, Gate, Name, Own, REFUSED_FOR, Refusal,
    Seconds, SecretName, Secrets, Statement, Tags, Trust, Verdict, Versioned, Word,
};
use crate::membership::{PENDING, Reason};
use crate::session::limits::RECEIVE_KEYS;

const BEGUN: Seconds = 1_000_000;
const ENDS: Seconds = BEGUN + 86_400;

fn root() -> Authority {
    Authority::generate(&mut SeededRng::new(77))
}

fn certificate(world: &World, at: usize, not_before: Seconds, not_after: Seconds) -> Own {
    let says = Certificate {
        node: world.nodes[at].endpoint.id(),
        name: Name::new(["a", "b"][at]).unwrap(),
        addresses: Addresses::default(),
        tags: Tags::default(),
        not_before,
        not_after,
        delegation: None,
        serial: 1,
    };
    Own { certificate: Statement::sign(&root(), root().fingerprint(), says).unwrap(), chain: None }
}

/// A network with certificates; those `ends` says when have one. The first node has the record.
fn network(mut world: World, ends: [Option<Seconds>; 2]) -> World {
    for (at, ends) in ends.into_iter().enumerate() {
        let mut trust = Trust::new(root().fingerprint(), world.nodes[at].endpoint.id());
        if let Some(ends) = ends {
            trust.show(certificate(&world, at, BEGUN - 10, ends));
        }
        let now = world.now;
        world.nodes[at].endpoint.set_trust(now, BEGUN, trust);
    }
    say(&mut world, |_| ());
    world
}

fn at(world: &mut World, node: usize, change: impl FnOnce(&mut Trust)) {
    let now = world.now;
    world.nodes[node].endpoint.with_trust(now, change).unwrap();
}

/// The root says something, and the first node hears it.
fn say(world: &mut World, change: impl FnOnce(&mut Document)) {
    at(world, 0, |trust| {
        trust.keep_key(root().public().clone());
        let mut document = trust.record().draft(root().fingerprint(), BEGUN);
        change(&mut document);
        assert!(trust.hear(Statement::sign(&root(), root().fingerprint(), document).unwrap()));
    });
}

fn opened(world: &World, at: usize) -> Vec<ReceiverIndex> {
    let index = |event: &Event| {
        let (Event::OpenAssociation { key, .. } | Event::AddOpenKey { key, .. }) = event else { return None };
        Some(key.index())
    };
    world.nodes[at].events.iter().filter_map(index).collect()
}

fn last_route(world: &World, at: usize) -> Option<Via> {
    let mut routes = world.nodes[at].events.iter().rev();
    routes.find_map(|event| if let Event::Route { via, .. } = event { Some(*via) } else { None }).flatten()
}

fn closed(world: &World, at: usize) -> usize {
    world.count(at, |event| matches!(event, Event::CloseAssociation { .. }))
}

fn shut(world: &World, at: usize) -> usize {
    world.count(at, |event| matches!(event, Event::ShutAssociation { .. }))
}

#[test]
fn two_members_admit_each_other_and_frames_flow() {
    let mut world = network(World::new(700), [Some(ENDS); 2]);
    world.run(Duration::from_secs(3));
    assert!(world.is_connected());
    for at in 0..2 {
        let member = world.status(at).member.unwrap();
        let Verdict::Admitted(admission) = member.verdict else { panic!("not admitted") };
        assert_eq!(admission.facts.name.as_str(), ["b", "a"][at]);
        assert_eq!(member.standing, membership::ADMITTED);
        assert_eq!((opened(&world, at).len(), world.started(at)), (1, 1));
        assert!(world.nodes[at].confirmed && last_route(&world, at).is_some());
        let events = &world.nodes[at].events;
        let first = |f: fn(&Event) -> bool| events.iter().position(f).unwrap();
        let opens = first(|event| matches!(event, Event::OpenAssociation { .. }));
        let starts = first(|event| matches!(event, Event::StartAssociation { .. }));
        let goes = first(|event| matches!(event, Event::Route { via: Some(_), .. }));
        assert!(opens < starts && starts < goes, "{opens} {starts} {goes}");
    }
}

#[test]
fn who_has_the_secret_and_no_certificate_gets_no_key_no_route_and_no_address() {
    let mut world = network(World::new(701), [Some(ENDS), None]);
    world.run(Duration::from_secs(30));
    for at in 0..2 {
        assert!(world.status(at).session.is_some(), "the two can talk about it");
        assert_eq!(world.status(at).state, PeerState::Connecting);
        // It may hear the member, which does not speak to it.
        assert_eq!((opened(&world, at).len(), world.started(at)), (at, 0));
        assert_eq!(last_route(&world, at), None);
        assert!(!world.nodes[at].confirmed, "the relay tells no addresses");
    }
    assert_eq!(world.status(0).member.unwrap().verdict, Verdict::Pending);
}

#[test]
fn names_that_a_relay_makes_up_end_no_session() {
    let mut world = network(World::new(712), [Some(ENDS); 2]);
    world.run(Duration::from_secs(3));
    assert!(world.is_connected());
    let now = world.now;
    let others: Vec<_> = (0..100_u8).map(|n| NodeId(crate::crypto::kdf::sha256(&[&[n]]))).collect();
    for at in 0..2 {
        for (channel, other) in (1_000..).map(ChannelId).zip(&others) {
            world.nodes[at].endpoint.introduced_for_test(now, *other, channel);
        }
    }
    world.drop = |_, packet| packet.first() == Some(&0xc8);
    world.run(Duration::from_secs(600));
    for at in 0..2 {
        let peer = world.nodes[1 - at].endpoint.id();
        let all = world.nodes[at].endpoint.peer_status(world.now);
        let status = all.into_iter().find(|status| status.id == peer).unwrap();
        assert_eq!((status.state, world.started(at)), (PeerState::Connected, 1));
    }
}

#[test]
fn rekeys_before_the_gate_opens_replace_what_is_kept() {
    let world = World::with(702, |_, config| config.rekey_interval = Duration::from_secs(2));
    let mut world = network(world, [Some(ENDS), None]);
    world.run(Duration::from_secs(51));
    let rekeys = world.status(0).session.unwrap().rekeys;
    assert!(rekeys > 20, "{rekeys}");
    let own = certificate(&world, 1, BEGUN, ENDS);
    at(&mut world, 1, |trust| trust.show(own));
    world.run(Duration::from_millis(500));
    assert!(world.is_connected());
    for at in 0..2 {
        let receiver = |event: &Event| {
            let Event::StartAssociation { key, .. } = event else { return None };
            Some(key.receiver())
        };
        let key = world.nodes[at].events.iter().find_map(receiver);
        let theirs = opened(&world, 1 - at);
        assert!(theirs.contains(&key.unwrap()), "what one seals with the other opens with");
    }
    assert!(opened(&world, 0).len() <= RECEIVE_KEYS, "the oldest are gone: {}", opened(&world, 0).len());
    world.run(Duration::from_secs(20));
    assert!(world.is_connected());
    assert_eq!([world.started(0), world.started(1)], [1, 1]);
    assert!(world.nodes.iter().all(|node| node.endpoint.indices.len() <= 8));
}

#[test]
fn a_revoked_node_is_cut_off_at_once_and_its_session_ends() {
    let mut world = network(World::new(703), [Some(ENDS); 2]);
    world.run(Duration::from_secs(3));
    let revoked = world.nodes[1].endpoint.id();
    say(&mut world, |document| assert!(document.revoke(revoked, BEGUN)));
    // Without any time passing.
    world.drain();
    // The session goes on, and with it who may be heard of by datagram.
    assert_eq!((shut(&world, 0), closed(&world, 0), last_route(&world, 0)), (1, 0, None));
    let refusal = Refusal::Revoked { by: root().fingerprint(), at: BEGUN };
    let verdict = Verdict::Refused(Reason::Refusal(refusal.clone()));
    assert_eq!(world.status(0).member.unwrap().verdict, verdict);
    world.run(Duration::from_secs(1));
    assert_eq!(world.status(1).member.unwrap().standing, refusal.code(), "it is told why");
    assert_eq!(last_route(&world, 1), None, "it sends nothing any more");
    world.run(REFUSED_FOR);
    for at in 0..2 {
        assert_eq!(world.status(at).session, None);
    }
    assert_eq!(closed(&world, 0), 1);
    // It may ask again after a minute, and is told again, whatever certificate it shows then.
    let other = certificate(&world, 1, BEGUN, ENDS);
    at(&mut world, 1, |trust| trust.show(other));
    let (opened_before, begun) = (opened(&world, 0).len(), world.now);
    world.run(Duration::from_secs(55));
    assert_eq!(world.status(0).session, None);
    world.run(Duration::from_secs(10));
    assert!(world.status(0).session.is_some(), "{:?} later", world.now - begun);
    world.run(Duration::from_secs(20));
    assert_eq!((opened(&world, 0).len(), last_route(&world, 0)), (opened_before, None));
    assert!(world.nodes.iter().all(|node| node.endpoint.indices.len() <= 8));
}

#[test]
fn a_revoked_node_is_cut_off_while_its_next_session_has_shown_nothing() {
    let mut world = network(World::new(709), [Some(ENDS); 2]);
    world.run(Duration::from_secs(3));
    let revoked = world.nodes[1].endpoint.id();
    world.restart(1);
    let (now, trust) = (world.now, Trust::new(root().fingerprint(), revoked));
    world.nodes[1].endpoint.set_trust(now, BEGUN, trust);
    world.run(Duration::from_secs(5));
    assert_eq!(world.status(0).member.unwrap().verdict, Verdict::Pending);
    assert_eq!(closed(&world, 0), 0, "frames under way in the session before are taken still");
    say(&mut world, |document| assert!(document.revoke(revoked, BEGUN)));
    world.drain();
    assert_eq!(closed(&world, 0), 1);
    let refusal = Refusal::Revoked { by: root().fingerprint(), at: BEGUN };
    assert_eq!(world.status(0).member.unwrap().verdict, Verdict::Refused(Reason::Refusal(refusal)));
}

#[test]
fn a_certificate_that_ends_shuts_the_gate_and_another_session_opens_it() {
    let mut world = network(World::new(704), [Some(ENDS), Some(BEGUN + 60)]);
    world.run(Duration::from_secs(50));
    assert!(world.is_connected());
    world.run(Duration::from_secs(13));
    assert_eq!(
        world.status(0).member.unwrap().verdict,
        Verdict::Refused(Refusal::Expired(BEGUN + 60).into())
    );
    assert_eq!((shut(&world, 0), last_route(&world, 0)), (1, None));
    assert!(!world.is_connected());
    let own = certificate(&world, 1, BEGUN + 1, ENDS);
    at(&mut world, 1, |trust| trust.show(own));
    world.run(Duration::from_secs(4));
    assert!(world.is_connected());
    for at in 0..2 {
        assert_eq!(world.started(at), 2, "counters never run twice under one key");
        assert!(last_route(&world, at).is_some());
    }
}

#[test]
fn a_change_of_the_record_ends_the_wait_for_a_peer_that_was_refused() {
    let mut world = network(World::new(705), [Some(ENDS), Some(BEGUN + 60)]);
    world.run(Duration::from_secs(75));
    assert_eq!(world.status(0).session, None);
    let own = certificate(&world, 1, BEGUN + 1, ENDS);
    at(&mut world, 1, |trust| trust.show(own));
    say(&mut world, |document| document.written += 1);
    world.run(Duration::from_secs(5));
    assert!(world.is_connected());
}

#[test]
fn gates_are_told_with_the_other_news_of_membership() {
    let mut world = network(World::new(706), [Some(ENDS); 2]);
    world.run(Duration::from_secs(3));
    let gate = |event: &Event| {
        let Event::Membership { event: membership::Event::Gate(gate), .. } = event else { return None };
        Some(*gate)
    };
    let gates: Vec<Gate> = world.nodes[0].events.iter().filter_map(gate).collect();
    assert_eq!(gates.last(), Some(&Gate::Open), "{gates:?}");
    assert_eq!(world.status(0).member.unwrap().standing, membership::ADMITTED);
    assert_ne!(PENDING, membership::ADMITTED);
    // Without certificates nobody is judged.
    let mut world = World::new(706);
    world.run(Duration::from_secs(3));
    assert_eq!((world.status(0).member, world.is_connected()), (None, true));
}

fn moves(world: &World) -> usize {
    world.count(0, |event| matches!(event, Event::AddressChanged { .. } | Event::AddressConflict { .. }))
}

#[test]
fn no_hand_that_nobody_vouches_for_moves_a_node_from_the_address_of_its_key() {
    for ends in [Some(ENDS), None] {
        let mut world = network(World::new(707), [Some(ENDS), ends]);
        world.run(Duration::from_secs(3));
        let own = world.nodes[0].endpoint.hello.ipv4;
        let other = &mut world.nodes[1].endpoint;
        (other.hello.ipv4, other.hello.claim) = (own, Claim::ByHand);
        other.announce(world.now);
        world.run(Duration::from_secs(20));
        assert_eq!(world.status(0).hello.and_then(|hello| hello.ipv4), own, "it heard that");
        assert_eq!((world.nodes[0].endpoint.hello.ipv4, moves(&world)), (own, 0), "{ends:?}");
    }
}

#[test]
fn an_address_that_the_record_gives_to_another_is_given_up_until_that_one_is_revoked() {
    let mut world = network(World::new(708), [Some(ENDS); 2]);
    world.run(Duration::from_secs(3));
    let own = world.nodes[0].endpoint.hello.ipv4.unwrap().address();
    let other = NodeId([9; 32]);
    let address = Address::new(own.into()).unwrap();
    let word = Word { addresses: Addresses::new([address]), since: BEGUN, version: 1, ..Word::default() };
    say(&mut world, |document| assert!(document.members.insert(other, word)));
    world.run(Duration::from_secs(1));
    let holder = |event: &Event| {
        let Event::AddressChanged { holder, .. } = event else { return None };
        Some(*holder)
    };
    assert_eq!(world.nodes[0].events.iter().filter_map(holder).collect::<Vec<_>>(), [other]);
    let view = |world: &World| world.nodes[1].endpoint.trust().unwrap().view().holder(own.into());
    assert_eq!(view(&world), Some(other), "the peer knows as well");
    say(&mut world, |document| assert!(document.revoke(other, BEGUN)));
    world.run(Duration::from_secs(1));
    assert_eq!(view(&world), None);
}

#[test]
fn an_address_that_the_network_gives_is_said_to_all_and_given_up_for_one_of_the_key() {
    let mut world = network(World::new(709), [Some(ENDS); 2]);
    world.run(Duration::from_secs(3));
    let given = Cidr4::new([10, 7, 3, 4].into(), 24).unwrap();
    let give = |world: &mut World, given| {
        let now = world.now;
        world.nodes[0].endpoint.set_given_ipv4(now, given);
        world.run(Duration::from_secs(2));
        let own = world.nodes[0].endpoint.hello().ipv4;
        assert_eq!(world.status(1).hello.unwrap().ipv4, own, "the peer heard of it");
        own.unwrap()
    };
    let taken = |world: &World| world.count(0, |event| matches!(event, Event::AddressTaken { .. }));
    assert_eq!(give(&mut world, Some((given, Claim::Settled))), given);
    assert_eq!(give(&mut world, Some((given, Claim::Settled))), given);
    assert_eq!(taken(&world), 1, "it is news once");
    let derived = give(&mut world, None);
    let (space, node) = (world.nodes[0].endpoint.config.addresses, world.nodes[0].endpoint.id());
    assert!(crate::addresses::is_derived_ipv4(space, node, derived.address()));
    assert_eq!(derived.prefix(), crate::addresses::IPV4_PREFIX_LEN);
    assert_eq!((give(&mut world, None), taken(&world)), (derived, 2), "it stays");
}

/// Number `generation` of the network's secrets.
fn secret(world: &World, generation: u32) -> NetworkSecret {
    if generation == 0 {
        world.network.clone()
    } else {
        NetworkSecret::draw(generation, &mut SeededRng::new(5))
    }
}

/// Node `node` holds these, and registers under the last.
fn holds(world: &mut World, node: usize, generations: &[u32]) {
    let secrets: Vec<_> = generations.iter().map(|generation| secret(world, *generation)).collect();
    let lane = secrets.last().map(|secret| secret.derive().id());
    at(world, node, |trust| trust.hold(Secrets::new(secrets)));
    world.nodes[node].endpoint.set_lane(RELAY, lane);
}

fn held(world: &World, node: usize) -> Vec<u32> {
    let trust = world.nodes[node].endpoint.trust().unwrap();
    trust.secrets().all().map(NetworkSecret::generation).collect()
}

/// The root says that the second secret counts, and the first `grace` seconds beside it.
fn name_the_second(world: &mut World, grace: Seconds) {
    let network = secret(world, 1).derive().id();
    say(world, |document| {
        let value = SecretName { generation: 1, network, until: BEGUN + grace };
        document.secret = Some(Versioned { version: 1, value });
    });
}

#[test]
fn the_secret_is_replaced_under_a_session_that_goes_on() {
    let world = World::with(720, |_, config| config.rekey_interval = Duration::from_secs(2));
    let mut world = network(world, [Some(ENDS); 2]);
    (0..2).for_each(|node| holds(&mut world, node, &[0]));
    world.run(Duration::from_secs(3));
    assert!(world.is_connected());
    holds(&mut world, 0, &[0, 1]);
    name_the_second(&mut world, 100);
    world.run(Duration::from_secs(2));
    assert_eq!((held(&world, 0), held(&world, 1)), (vec![0, 1], vec![0, 1]));
    world.run(Duration::from_secs(120));
    assert_eq!((held(&world, 0), held(&world, 1)), (vec![1], vec![1]));
    let rekeys = |world: &World| world.status(0).session.unwrap().rekeys;
    let before = rekeys(&world);
    world.run(Duration::from_secs(20));
    assert!(rekeys(&world) >= before + 8, "keys are replaced under the new secret");
    assert!(world.is_connected());
    assert_eq!([world.started(0), world.started(1)], [1, 1], "it is one session all the time");
}

#[test]
fn a_handshake_begins_under_the_secret_of_its_relay_registration_and_either_is_taken() {
    // Who holds both, and what the other holds.
    for (both, other) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        for seed in [721, 722] {
            let mut world = network(World::new(seed), [Some(ENDS); 2]);
            holds(&mut world, both, &[0, 1]);
            holds(&mut world, 1 - both, &[other]);
            let lane = secret(&world, other).derive().id();
            world.nodes[both].endpoint.set_lane(RELAY, Some(lane));
            name_the_second(&mut world, 1_000);
            world.run(Duration::from_secs(5));
            assert!(world.is_connected(), "{both} holds both, the other {other}");
            assert!(held(&world, 1 - both).ends_with(&[1]));
        }
    }
}

#[test]
fn who_only_has_the_secret_before_is_not_answered_after_the_grace() {
    let mut world = network(World::new(723), [Some(ENDS); 2]);
    holds(&mut world, 0, &[1]);
    holds(&mut world, 1, &[0]);
    name_the_second(&mut world, 0);
    world.run(Duration::from_secs(60));
    for node in 0..2 {
        assert!(world.status(node).session.is_none());
        assert!(world.nodes[node].endpoint.drops().handshake > 0, "{node}");
    }
}

#[test]
fn a_registration_under_a_secret_that_was_given_up_is_not_made() {
    let mut world = network(World::new(724), [Some(ENDS); 2]);
    holds(&mut world, 0, &[0]);
    at(&mut world, 0, |trust| trust.hold(Secrets::new([NetworkSecret::draw(1, &mut SeededRng::new(5))])));
    world.run(Duration::from_secs(5));
    assert!(!world.nodes[0].endpoint.is_registered(RELAY));
    assert!(world.count(0, |event| matches!(event, Event::RelayDead { .. })) > 0);
}

/// The sessions of two members may end when nobody uses them, although each is the only one that the other could keep.
fn let_rest(world: &mut World) {
    let now = world.now;
    for node in 0..2 {
        let peer = world.nodes[1 - node].endpoint.id();
        let idle_after = Some(super::rest::IDLE);
        let endpoint = &mut world.nodes[node].endpoint;
        endpoint.with_peer(now, peer, |peer, ctx| peer.set_idle_after(ctx, idle_after, Duration::ZERO));
    }
}

fn two_that_sleep(seed: u64) -> World {
    let mut world = network(World::new(seed), [Some(ENDS); 2]);
    (0..2).for_each(|node| holds(&mut world, node, &[0]));
    world.run(Duration::from_secs(3));
    let_rest(&mut world);
    world.run(super::rest::IDLE * 2);
    assert!((0..2).all(|node| world.status(node).state == PeerState::Idle));
    world
}

#[test]
fn of_a_member_that_sleeps_is_known_what_it_was_let_in_as() {
    let mut world = two_that_sleep(730);
    for node in 0..2 {
        assert!(matches!(world.status(node).member.unwrap().verdict, Verdict::Admitted(_)));
    }
    let now = world.now;
    world.nodes[0].endpoint.handle_wanted(now, PeerSlot(0));
    world.run(Duration::from_secs(2));
    assert!(world.is_connected() && last_route(&world, 0).is_some());
}

#[test]
fn what_the_record_says_anew_of_a_member_that_sleeps_is_told() {
    let mut world = two_that_sleep(731);
    let other = world.nodes[1].endpoint.id();
    world.nodes[0].events.clear();
    say(&mut world, |document| {
        let name = Some(Name::new("another").unwrap());
        let word = Word { delegate: None, name, tags: None, addresses: None, since: BEGUN, version: 9 };
        document.members.insert(other, word);
    });
    world.drain();
    let judged = |event: &Event| {
        matches!(event, Event::Membership { event: membership::Event::Judged(Verdict::Admitted(admission)), .. }
            if admission.facts.name.to_string() == "another")
    };
    assert_eq!(world.count(0, judged), 1);
    assert_eq!(world.status(0).state, PeerState::Idle, "nobody is woken for that");
}

#[test]
fn a_member_that_is_revoked_while_it_sleeps_gets_no_frame() {
    let mut world = two_that_sleep(732);
    let revoked = world.nodes[1].endpoint.id();
    say(&mut world, |document| assert!(document.revoke(revoked, BEGUN)));
    world.drain();
    assert!(matches!(world.status(0).member.unwrap().verdict, Verdict::Refused(_)));
    let (opened_before, started) = (opened(&world, 0).len(), world.started(0));
    world.run(Duration::from_secs(2));
    let refusal = Refusal::Revoked { by: root().fingerprint(), at: BEGUN };
    assert_eq!(world.status(1).member.unwrap().standing, refusal.code(), "it is woken to be told");
    let now = world.now;
    for node in 0..2 {
        world.nodes[node].endpoint.handle_wanted(now, PeerSlot(0));
    }
    world.run(Duration::from_secs(20));
    assert_eq!((opened(&world, 0).len(), world.started(0)), (opened_before, started));
    assert_eq!((last_route(&world, 0), last_route(&world, 1)), (None, None));
}

#[test]
fn a_member_that_is_revoked_just_after_its_session_ended_has_no_key_left() {
    let mut world = two_that_sleep(735);
    let opens = |world: &World| world.count(0, |event| matches!(event, Event::OpenAssociation { .. }));
    let kept = opens(&world) - closed(&world, 0);
    assert_eq!(kept, 1, "what is under way may still come");
    let revoked = world.nodes[1].endpoint.id();
    say(&mut world, |document| assert!(document.revoke(revoked, BEGUN)));
    world.drain();
    assert_eq!(opens(&world) - closed(&world, 0), 0);
}

#[test]
fn the_secret_is_replaced_while_two_sleep_and_the_next_session_begins_under_the_other() {
    let mut world = two_that_sleep(733);
    holds(&mut world, 0, &[0, 1]);
    name_the_second(&mut world, 1_000);
    world.run(Duration::from_secs(1));
    assert_eq!(held(&world, 1), [0], "nobody told it yet");
    let now = world.now;
    world.nodes[1].endpoint.handle_wanted(now, PeerSlot(0));
    world.run(Duration::from_secs(5));
    assert!(world.is_connected());
    assert_eq!(held(&world, 1), [0, 1]);
}

#[test]
fn few_are_kept_in_a_network_with_certificates() {
    let mut world = network(World::new(734), [Some(ENDS); 2]);
    let now = world.now;
    for node in 0..2 {
        let sessions = Sessions { keep: Keep::Few, idle_after: super::rest::IDLE };
        world.nodes[node].endpoint.set_sessions(now, sessions);
    }
    world.run(super::rest::IDLE * 3);
    assert!(world.is_connected(), "the only peer is one of them");
}
