//! The network's secret is replaced (protocol §8.8): who gets the new one, who does not, and what is left in the end.

use super::*;
use crate::crypto::keys::NetworkSecret;
use crate::ids::NetworkId;
use crate::membership::secrets::{GRACE, HAND_ON, SecretState, Secrets};
use zeroize::Zeroizing;

/// That everybody begins with.
fn first() -> NetworkSecret {
    secret(0, 0)
}

/// Number `draw` of those that may be drawn for a generation.
fn secret(generation: u32, draw: u8) -> NetworkSecret {
    let mut bytes = [draw; 32];
    bytes[0] = generation as u8;
    NetworkSecret::from_bytes(Zeroizing::new(bytes), generation)
}

fn ids(secrets: &[NetworkSecret]) -> Vec<NetworkId> {
    secrets.iter().map(|secret| secret.derive().id()).collect()
}

impl World {
    /// Members of a network with one secret, of which the first two know a record.
    fn office(nodes: impl IntoIterator<Item = u8> + Clone) -> Self {
        let mut world = Self::new(nodes.clone());
        for node in nodes {
            let body = Certificate {
                addresses: Addresses::default(),
                not_after: 1_500 + 3 * GRACE.as_secs(),
                ..certificate(node, None)
            };
            let certificate = Statement::sign(&root(), root().fingerprint(), body).unwrap();
            world.trust(node).show(Own { certificate, chain: None });
            world.trust(node).hold(Secrets::new([first()]));
        }
        world.say(1, |_| ());
        world
    }

    /// The admin `who` draws `next` on `node`, and says so.
    fn rotate(&mut self, node: u8, who: &Authority, next: &NetworkSecret, grace: Duration) {
        let clock = self.clock;
        let trust = self.trust(node);
        trust.keep_key(who.public().clone());
        trust.hold(trust.secrets().with_next(trust.view().secret(), next.clone(), clock.now));
        let mut document = trust.record().draft(who.fingerprint(), clock.unix);
        let name = SecretName {
            generation: next.generation(),
            network: next.derive().id(),
            until: clock.unix + grace.as_secs(),
        };
        document.secret = Some(Versioned { version: trust.view().next_version(), value: name });
        assert!(trust.hear(Statement::sign(who, root().fingerprint(), document).unwrap()));
        self.changed(node);
    }

    fn held(&self, node: u8) -> Vec<NetworkId> {
        self.nodes[&node].trust.secrets().ids().collect()
    }

    fn in_force(&self, node: u8) -> Option<NetworkId> {
        let trust = &self.nodes[&node].trust;
        Some(trust.secrets().in_force(trust.view().secret())?.derive().id())
    }

    fn state(&self, node: u8) -> SecretState {
        self.nodes[&node].trust.secret_state(self.clock.unix)
    }

    /// What `from` says to `to` besides what it means to.
    fn inject(&mut self, from: u8, to: u8, message: Message) {
        let clock = self.clock;
        let node = self.nodes.get_mut(&to).unwrap();
        node.sessions.get_mut(&from).unwrap().handle_message(clock, &mut node.trust, message);
        self.pump();
    }

    /// How many secrets are on their way to `to`.
    fn secrets_to(&self, to: u8) -> usize {
        let is_secret = |bytes: &[u8]| matches!(Message::decode(bytes), Ok(Message::Secret(_)));
        self.wire.iter().filter(|(_, _, receiver, bytes)| *receiver == to && is_secret(bytes)).count()
    }

    /// Time passes with nobody connected.
    fn pass(&mut self, time: Duration) {
        self.clock.now += time;
        self.clock.unix = 1_500 + (self.clock.now - self.begun).as_secs();
        self.deliver();
    }

    /// Runs for all of this time, whether or not anything is due at its end.
    fn wait(&mut self, time: Duration) {
        let end = self.clock.now + time;
        self.run(time);
        self.pass(end - self.clock.now);
    }

    fn part(&mut self) {
        self.nodes.values_mut().for_each(|node| node.sessions.clear());
        self.wire.clear();
    }
}

#[test]
fn a_rotation_spreads_over_a_chain_and_the_grace_ends_everywhere() {
    for loss in [0, 30] {
        let mut world = World::office([1, 2, 3]);
        world.loss = loss;
        world.connect(1, 2);
        world.connect(2, 3);
        world.wait(seconds(60));
        assert!(world.is_open(1, 2) && world.is_open(2, 3), "loss {loss}");

        let both = ids(&[first(), secret(1, 7)]);
        world.rotate(1, &root(), &secret(1, 7), GRACE);
        let took = world.run_until(seconds(60), |world| world.held(3) == both);
        assert!(took.is_some_and(|took| took < seconds(if loss == 0 { 2 } else { 60 })), "{took:?}");
        for node in 1..=3 {
            assert_eq!((world.held(node), world.in_force(node)), (both.clone(), Some(both[1])));
            assert!(matches!(world.state(node), SecretState::Rotating { .. }));
        }
        world.wait(seconds(10));
        assert!(world.is_open(1, 2) && world.is_open(2, 3), "nothing that runs is disturbed");
        let knows = |world: &World, node: u8, of| world.nodes[&node].trust.has_new_secret(id(of));
        assert_eq!((knows(&world, 1, 2), knows(&world, 2, 3)), (Some(true), Some(true)));
        assert_eq!(knows(&world, 1, 3), None, "1 has not met 3");

        world.wait(GRACE);
        for node in 1..=3 {
            assert_eq!((world.held(node), world.state(node)), (both[1..].to_vec(), SecretState::Settled));
        }
        assert!(world.is_open(1, 2) && world.is_open(2, 3));
    }
}

#[test]
fn who_was_away_gets_it_within_the_grace_and_its_clock_ends_that() {
    let mut world = World::office([1, 2]);
    world.connect(1, 2);
    world.wait(seconds(5));
    world.part();
    world.rotate(1, &root(), &secret(1, 7), GRACE);
    world.pass(GRACE - seconds(3_600));
    assert_eq!(world.held(2), ids(&[first()]));
    world.connect(1, 2);
    world.wait(seconds(5));
    assert_eq!(world.held(2), ids(&[first(), secret(1, 7)]));
    world.wait(seconds(3_600));
    assert_eq!((world.held(1), world.held(2)), (ids(&[secret(1, 7)]), ids(&[secret(1, 7)])));
}

#[test]
fn who_heard_of_it_and_was_not_given_it_says_so_and_keeps_what_it_has() {
    let mut world = World::office([1, 2]);
    world.swallow = |message| matches!(message, Message::Secret(_));
    world.connect(1, 2);
    world.wait(seconds(5));
    let until = world.clock.unix + GRACE.as_secs();
    world.rotate(1, &root(), &secret(1, 7), GRACE);
    world.wait(seconds(600));
    assert_eq!((world.held(2), world.state(2)), (ids(&[first()]), SecretState::Missing { until }));
    assert_eq!(world.nodes[&1].trust.has_new_secret(id(2)), Some(false));
    // Nobody is asked for ever.
    let asked = world.run_until(seconds(3_600), |world| {
        world.wire.iter().any(|(.., bytes)| matches!(Message::decode(bytes), Ok(Message::AskSecret { .. })))
    });
    assert_eq!(asked, None);
    world.part();
    world.pass(GRACE);
    assert_eq!((world.held(2), world.state(2)), (ids(&[first()]), SecretState::Late { since: until }));
    // Another session, and be it by an old key: what it says is news.
    world.swallow = |_| false;
    world.connect(1, 2);
    world.wait(seconds(5));
    assert_eq!(world.in_force(2), Some(ids(&[secret(1, 7)])[0]));
}

#[test]
fn who_is_revoked_or_unknown_gets_nothing_however_it_asks() {
    let mut world = World::office([1, 2, 3, 4]);
    let next = secret(1, 7);
    let network = next.derive().id();
    // 4 has the secret, and no certificate.
    let stranger = Trust::new(root().fingerprint(), id(4));
    *world.trust(4) = stranger;
    for peer in 2..=4 {
        world.connect(1, peer);
    }
    world.wait(seconds(5));
    assert!(world.is_open(1, 3));
    world.say(1, |document| assert!(document.revoke(id(3), 1_505)));
    world.rotate(1, &root(), &next, GRACE);
    for _ in 0..20 {
        world.inject(3, 1, Message::AskSecret { network });
        world.inject(4, 1, Message::AskSecret { network });
        assert_eq!((world.secrets_to(3), world.secrets_to(4)), (0, 0));
        world.wait(seconds(1));
    }
    assert_eq!((world.held(2).len(), world.held(3).len()), (2, 1));
    assert!(world.session(3, 1).secrets().is_empty(), "nor is it told what there is");
}

#[test]
fn who_is_revoked_in_the_same_breath_is_judged_before_it_is_answered() {
    let mut world = World::office([1, 2]);
    world.connect(1, 2);
    world.wait(seconds(5));
    let network = ids(&[first()])[0];
    world.inject(2, 1, Message::AskSecret { network });
    assert_eq!(world.secrets_to(2), 1, "a member is given what it asks for");
    world.wire.clear();
    // The session has not been told of it yet.
    let trust = world.trust(1);
    let mut document = trust.record().draft(root().fingerprint(), 1_505);
    assert!(document.revoke(id(2), 1_505));
    assert!(trust.hear(Statement::sign(&root(), root().fingerprint(), document).unwrap()));
    world.inject(2, 1, Message::AskSecret { network });
    assert_eq!(world.secrets_to(2), 0);
}

#[test]
fn a_forged_secret_and_one_that_was_replaced_are_ignored() {
    let mut world = World::office([1, 2]);
    world.swallow = |message| matches!(message, Message::Secret(_));
    world.connect(1, 2);
    world.wait(seconds(5));
    world.rotate(1, &root(), &secret(1, 7), GRACE);
    world.wait(seconds(5));
    let next = secret(1, 7);
    let other_generation = NetworkSecret::from_bytes(next.to_bytes(), 2);
    for forged in [secret(1, 8), secret(2, 7), other_generation, first()] {
        world.inject(1, 2, Message::Secret((&forged).into()));
        assert_eq!(world.held(2), ids(&[first()]), "{forged:?}");
        world.wait(seconds(2));
    }
    world.inject(1, 2, Message::Secret((&next).into()));
    assert_eq!(world.held(2), ids(&[first(), next.clone()]), "the right one is taken after all that");
    // Once more, after another: what was said once is no use to who recorded it.
    world.wait(seconds(5));
    world.rotate(1, &root(), &secret(2, 9), Duration::ZERO);
    world.wait(seconds(5));
    world.inject(1, 2, Message::Secret((&secret(2, 9)).into()));
    world.wait(HAND_ON + seconds(5));
    assert_eq!(world.held(2), ids(&[secret(2, 9)]));
    for old in [first(), next] {
        world.inject(1, 2, Message::Secret((&old).into()));
        assert_eq!(world.held(2), ids(&[secret(2, 9)]));
    }
}

#[test]
fn what_was_not_asked_for_is_not_looked_at() {
    let mut world = World::office([1, 2]);
    world.connect(1, 2);
    world.wait(seconds(5));
    world.inject(1, 2, Message::Secret((&secret(1, 7)).into()));
    assert_eq!(world.held(2), ids(&[first()]));
}

#[test]
fn a_grace_that_ends_at_once_lasts_until_members_had_time_to_ask() {
    let mut world = World::office([1, 2, 3]);
    world.connect(1, 2);
    world.connect(2, 3);
    world.wait(seconds(5));
    world.rotate(1, &root(), &secret(1, 7), Duration::ZERO);
    world.wait(HAND_ON - seconds(1));
    for node in 1..=3 {
        assert_eq!(world.held(node), ids(&[first(), secret(1, 7)]), "node {node}");
    }
    world.wait(seconds(5));
    for node in 1..=3 {
        assert_eq!(world.held(node), ids(&[secret(1, 7)]), "node {node}");
    }
}

#[test]
fn of_two_admins_that_rotate_at_once_one_wins_everywhere() {
    let second = authority(2);
    for (a, b, graces) in [(7, 8, [GRACE; 2]), (8, 7, [GRACE; 2]), (7, 8, [Duration::ZERO, GRACE])] {
        // 1 and 2 are together, so are 3 and 4.
        let mut world = World::office([1, 2, 3, 4]);
        world.say(1, |document| assert!(document.admins.insert(second.fingerprint(), name("second"))));
        for (one, other) in [(1, 2), (2, 3), (3, 4)] {
            world.connect(one, other);
        }
        world.wait(seconds(10));
        world.part();
        world.connect(1, 2);
        world.connect(3, 4);
        world.rotate(1, &root(), &secret(1, a), graces[0]);
        world.rotate(3, &second, &secret(1, b), graces[1]);
        world.wait(seconds(10));
        let expected = |draw| ids(&[first(), secret(1, draw)]);
        assert_eq!((world.held(2), world.held(4)), (expected(a), expected(b)));
        // Both halves meet by the secret that both have still.
        world.connect(2, 3);
        world.wait(seconds(20));
        // Between equal versions the lower fingerprint's counts.
        let winner = if root().fingerprint() < second.fingerprint() { a } else { b };
        for node in 1..=4 {
            assert_eq!(world.held(node), expected(winner), "node {node}, {a} and {b}");
        }
        world.wait(GRACE);
        for node in 1..=4 {
            assert_eq!(world.held(node), ids(&[secret(1, winner)]), "node {node}");
        }
    }
}

#[test]
fn who_rotated_twice_apart_gives_way_to_a_later_word_of_a_lower_generation() {
    let second = authority(2);
    let mut world = World::office([1, 2]);
    world.say(1, |document| assert!(document.admins.insert(second.fingerprint(), name("second"))));
    world.connect(1, 2);
    world.wait(seconds(10));
    world.part();
    world.rotate(1, &root(), &secret(1, 7), GRACE);
    world.rotate(1, &root(), &secret(2, 7), Duration::ZERO);
    assert_eq!(world.held(1), ids(&[secret(1, 7), secret(2, 7)]));
    // The other has said more meanwhile, so its versions are higher.
    for rules in ["# one\n", "# two\n", "# three\n"] {
        let trust = world.trust(2);
        trust.keep_key(second.public().clone());
        let mut document = trust.record().draft(second.fingerprint(), 1_500);
        document.rules = Some(Versioned { version: trust.view().next_version(), value: rules.to_owned() });
        assert!(trust.hear(Statement::sign(&second, root().fingerprint(), document).unwrap()));
    }
    world.rotate(2, &second, &secret(1, 8), GRACE);
    // A session that was there all the time.
    world.connect(1, 2);
    world.wait(seconds(10));
    assert_eq!((world.in_force(1), world.in_force(2)), (Some(ids(&[secret(1, 8)])[0]), world.in_force(1)));
}

#[test]
fn what_is_in_force_follows_the_record_as_far_as_it_can() {
    let named = |secret: &NetworkSecret| {
        Some(SecretName { generation: secret.generation(), network: secret.derive().id(), until: 0 })
    };
    let in_force = |held: [&NetworkSecret; 2], named| {
        let secrets = Secrets::new(held.map(Clone::clone));
        secrets.in_force(named).unwrap().derive().id()
    };
    let (old, new) = (secret(1, 7), secret(2, 7));
    let id = |secret: &NetworkSecret| secret.derive().id();
    assert_eq!(in_force([&old, &new], None), id(&old), "nobody named the newer");
    assert_eq!(in_force([&old, &new], named(&new)), id(&new));
    assert_eq!(in_force([&old, &new], named(&old)), id(&old));
    assert_eq!(in_force([&old, &new], named(&secret(3, 7))), id(&new), "both are from before");
    assert_eq!(in_force([&old, &new], named(&secret(2, 8))), id(&old), "the newer lost");
    assert_eq!(in_force([&new, &secret(2, 8)], named(&secret(2, 8))), id(&secret(2, 8)));
}

#[test]
fn a_secret_that_nobody_named_stands_in_nobodys_way() {
    // Drawn and stored by an admin's host that lost power before it could say so.
    let mut world = World::office([1, 2]);
    world.trust(1).hold(Secrets::new([first(), secret(1, 6)]));
    world.connect(1, 2);
    world.wait(seconds(10));
    assert_eq!((world.in_force(1), world.state(1)), (Some(ids(&[first()])[0]), SecretState::Settled));
    assert!(world.is_open(1, 2));
    world.rotate(1, &root(), &secret(1, 7), GRACE);
    world.wait(seconds(5));
    assert_eq!((world.held(1), world.held(2)), (ids(&[first(), secret(1, 7)]), world.held(1)));
}
