//! Sessions between several nodes, in virtual time, over a network that loses and delays. `rotating`: their secret.

mod rotating;

use super::*;
use crate::addresses::{AddressSpace, ipv4_attempts, ipv4_network};
use crate::rng::Rng as _;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const ONE_WAY: Duration = Duration::from_millis(20);

/// Nodes by number, each with a session to some of the others.
struct World {
    nodes: BTreeMap<u8, Node>,
    clock: Clock,
    begun: Instant,
    wire: Vec<(Instant, u8, u8, Vec<u8>)>,
    /// Of 100 packets so many are lost.
    loss: u32,
    /// Is not sent.
    swallow: fn(&Message) -> bool,
    /// MEMBERs that were said.
    said: usize,
    rng: SeededRng,
}

struct Node {
    trust: Trust,
    sessions: BTreeMap<u8, Exchange>,
    events: Vec<(u8, Event)>,
}

fn id(node: u8) -> NodeId {
    NodeId([node; 32])
}

/// The root of all networks here.
fn root() -> Authority {
    authority(1)
}

impl World {
    /// Nodes of the network of [`root`] that know nothing yet.
    #[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
    fn new(nodes: impl IntoIterator<Item = u8>) -> Self {
        let now = Instant::now();
        let node = |number| Node {
            trust: Trust::new(root().fingerprint(), id(number)),
            sessions: BTreeMap::new(),
            events: Vec::new(),
        };
        Self {
            nodes: nodes.into_iter().map(|number| (number, node(number))).collect(),
            clock: Clock { now, unix: 1_500 },
            begun: now,
            wire: Vec::new(),
            loss: 0,
            swallow: |_| false,
            said: 0,
            rng: SeededRng::new(9),
        }
    }

    fn trust(&mut self, node: u8) -> &mut Trust {
        &mut self.nodes.get_mut(&node).unwrap().trust
    }

    /// The root certifies them itself.
    fn certify(&mut self, nodes: &[u8]) {
        for node in nodes {
            let body = Certificate { addresses: Addresses::default(), ..certificate(*node, None) };
            let certificate = Statement::sign(&root(), root().fingerprint(), body).unwrap();
            self.trust(*node).show(Own { certificate, chain: None });
        }
    }

    /// `node` has the root's key; the root says something there.
    fn say(&mut self, node: u8, change: impl FnOnce(&mut Document)) {
        let trust = self.trust(node);
        trust.keep_key(root().public().clone());
        let mut document = trust.record().draft(root().fingerprint(), 1_500);
        change(&mut document);
        assert!(trust.hear(Statement::sign(&root(), root().fingerprint(), document).unwrap()));
        self.changed(node);
    }

    fn connect(&mut self, a: u8, b: u8) {
        let clock = self.clock;
        for (one, other) in [(a, b), (b, a)] {
            let node = self.nodes.get_mut(&one).unwrap();
            let exchange = Exchange::begin(clock, &mut node.trust, id(other));
            node.sessions.insert(other, exchange);
        }
        self.pump();
    }

    fn changed(&mut self, node: u8) {
        let clock = self.clock;
        let node = self.nodes.get_mut(&node).unwrap();
        for exchange in node.sessions.values_mut() {
            exchange.handle_change(clock, &mut node.trust);
        }
        self.pump();
    }

    /// What the nodes have to say goes on the wire.
    fn pump(&mut self) {
        for (from, node) in &mut self.nodes {
            let mut changes = None;
            loop {
                if changes.replace(node.trust.changes()) != Some(node.trust.changes()) {
                    node.sessions
                        .values_mut()
                        .for_each(|exchange| exchange.handle_change(self.clock, &mut node.trust));
                } else if let Some(peer) = node.trust.poll_turn(self.clock.now) {
                    if let Some(exchange) = node.sessions.get_mut(&peer.0[0]) {
                        exchange.handle_change(self.clock, &mut node.trust);
                    }
                } else {
                    break;
                }
            }
            for (to, exchange) in &mut node.sessions {
                while let Some(event) = exchange.poll_event() {
                    node.events.push((*to, event));
                }
                while let Some(message) = exchange.poll_message() {
                    self.said += usize::from(matches!(message, Message::Member(_)));
                    if self.rng.next_u32() % 100 >= self.loss && !(self.swallow)(&message) {
                        let jitter = Duration::from_micros(u64::from(self.rng.next_u32() % 3_000));
                        self.wire.push((self.clock.now + ONE_WAY + jitter, *from, *to, message.encode()));
                    }
                }
            }
        }
    }

    /// Runs until `done`, at most `limit` longer; how long it took.
    fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let begun = self.clock.now;
        loop {
            if done(self) {
                return Some(self.clock.now - begun);
            }
            let timeouts = self.nodes.values().flat_map(|node| node.sessions.values());
            let timeouts = timeouts.filter_map(|exchange| Some(exchange.poll_timeout()?.at));
            let clock = (self.clock.now, self.clock.unix);
            let secrets = self.nodes.values().filter_map(|node| node.trust.secret_retires_at(clock));
            let next = timeouts.chain(secrets).chain(self.wire.iter().map(|(at, ..)| *at)).min()?;
            if next > begun + limit {
                return None;
            }
            self.clock.now = next.max(self.clock.now);
            self.clock.unix = 1_500 + (self.clock.now - self.begun).as_secs();
            self.deliver();
        }
    }

    fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    fn deliver(&mut self) {
        let clock = self.clock;
        let (due, later) = std::mem::take(&mut self.wire).into_iter().partition(|(at, ..)| *at <= clock.now);
        self.wire = later;
        let mut due: Vec<_> = due;
        due.sort_by_key(|(at, ..)| *at);
        for (_, from, to, bytes) in due {
            let node = self.nodes.get_mut(&to).unwrap();
            if let Some(exchange) = node.sessions.get_mut(&from) {
                exchange.handle_message(clock, &mut node.trust, Message::decode(&bytes).unwrap());
            }
        }
        for node in self.nodes.values_mut() {
            node.trust.retire_secret(clock.now, clock.unix);
            for exchange in node.sessions.values_mut() {
                if exchange.poll_timeout().is_some_and(|deadline| deadline.is_due(clock.now)) {
                    exchange.handle_timeout(clock, &mut node.trust);
                }
            }
        }
        self.pump();
    }

    fn session(&self, from: u8, to: u8) -> &Exchange {
        &self.nodes[&from].sessions[&to]
    }

    fn is_open(&self, a: u8, b: u8) -> bool {
        [(a, b), (b, a)].iter().all(|(one, other)| self.session(*one, *other).gate() == Gate::Open)
    }

    fn opens(&mut self, a: u8, b: u8, limit: Duration) -> Option<Duration> {
        self.run_until(limit, |world| {
            for (one, other) in [(a, b), (b, a)] {
                let ready = world.session(other, one).gate() >= Gate::Receive;
                assert!(
                    ready || world.session(one, other).gate() < Gate::Open,
                    "a frame would find nobody ready"
                );
            }
            world.is_open(a, b)
        })
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn two_members_admit_each_other_and_then_frames_flow() {
    let mut world = World::new([1, 2]);
    world.certify(&[1, 2]);
    world.say(1, |_| ());
    world.connect(1, 2);
    assert_eq!(world.session(1, 2).gate(), Gate::Shut);
    let took = world.opens(1, 2, seconds(5)).unwrap();
    // MEMBER, then key, document and certificate for 2, each a round trip; and the word back.
    assert!(took < Duration::from_millis(400), "{took:?}");
    world.run(seconds(1));
    let idle = world.run_until(seconds(600), |world| !world.wire.is_empty());
    assert_eq!(idle, None, "all is said and acknowledged");
}

#[test]
fn losses_are_made_good() {
    for seed in 0..20 {
        let mut world = World::new([1, 2]);
        (world.loss, world.rng) = (30, SeededRng::new(seed));
        world.certify(&[1, 2]);
        let rules = Some(Versioned { version: 1, value: "# nothing\n".repeat(6_000) });
        world.say(1, |document| document.rules = rules);
        world.connect(1, 2);
        let took = world.opens(1, 2, seconds(60));
        assert!(took.is_some(), "seed {seed}");
        world.run(seconds(30));
        assert_eq!(world.trust(2).view().rules().map(str::len), Some(60_000), "seed {seed}");
    }
}

/// Node 1 is a member that has the invite at hand; no admin is near. Node 2 joins.
fn joining(change: impl FnOnce(&mut Delegation)) -> World {
    let mut limits = delegation(Fingerprint([0; 32]));
    change(&mut limits);
    let (ticket, delegation) = invite(&root(), root().fingerprint(), limits, &mut SeededRng::new(3)).unwrap();
    let mut world = World::new([1, 2, 3]);
    world.certify(&[1]);
    let hash = delegation.hash();
    world.say(1, |document| assert!(document.invites.insert(hash)));
    world.trust(1).keep_invite(delegation);
    world.trust(2).join(Joining::new(&ticket, name("laptop"), 5));
    world
}

#[test]
fn who_has_an_invite_joins_where_no_admin_is() {
    let mut world = joining(|_| ());
    world.connect(1, 2);
    assert!(world.opens(1, 2, seconds(5)).is_some());
    assert!(world.nodes[&2].events.contains(&(1, Event::Joined)));
    let Verdict::Admitted(admission) = world.session(1, 2).verdict() else { panic!("not admitted") };
    assert_eq!((admission.facts.name.as_str(), &admission.facts.tags), ("laptop", &tags(&["lab", "server"])));
    assert_eq!((admission.until, admission.joined_by), (9_000, Some(authority(3).fingerprint())));
    // It shows its whole chain to somebody who knows nothing, and hands on what it heard.
    world.certify(&[3]);
    world.connect(2, 3);
    assert!(world.opens(2, 3, seconds(5)).is_some());
    assert!(world.trust(3).record().document(root().fingerprint()).is_some());
    // After the invite has ended: who met it in time knows it still, whoever did not refuses it.
    world.clock.now += seconds(600);
    world.run(seconds(1));
    assert!(world.is_open(1, 2));
    world.nodes.insert(
        4,
        Node { trust: Trust::new(root().fingerprint(), id(4)), sessions: BTreeMap::new(), events: vec![] },
    );
    world.certify(&[4]);
    world.connect(2, 4);
    world.run(seconds(5));
    let late = Verdict::Refused(Refusal::Late(2_000).into());
    assert_eq!((world.session(4, 2).verdict(), world.session(4, 2).gate()), (&late, Gate::Shut));
    world.run(seconds(300));
    assert!(!world.session(4, 2).is_over(), "an admin's word may come");
    world.say(4, |document| {
        document.members.insert(id(2), Word { version: 1, ..Word::default() });
    });
    assert!(world.opens(2, 4, seconds(5)).is_some());
}

/// A dozen come by one invite at once, and show certificates by one delegate to each other: none of them waits for what another
/// session was asked for.
#[test]
fn many_that_join_at_once_do_not_wait_for_each_other() {
    let nodes: Vec<u8> = (1..=12).collect();
    let mut world = World::new(nodes.iter().copied());
    let limits = delegation(Fingerprint([0; 32]));
    let (ticket, delegation) = invite(&root(), root().fingerprint(), limits, &mut SeededRng::new(3)).unwrap();
    world.certify(&[1]);
    let hash = delegation.hash();
    world.say(1, |document| assert!(document.invites.insert(hash)));
    world.trust(1).keep_invite(delegation);
    for node in &nodes[1..] {
        world.trust(*node).join(Joining::new(&ticket, name(&format!("n{node}")), 5));
    }
    let pairs: Vec<(u8, u8)> =
        nodes.iter().flat_map(|a| nodes.iter().filter(move |b| a < *b).map(move |b| (*a, *b))).collect();
    for (a, b) in &pairs {
        world.connect(*a, *b);
    }
    let took = world.run_until(seconds(30), |world| pairs.iter().all(|(a, b)| world.is_open(*a, *b)));
    // Ten round trips, and what is said again once.
    assert!(took.is_some_and(|took| took < Duration::from_millis(1_500)), "{took:?}");
}

/// An admin says much within a second, and each member says to each other that it has it: not each time, and not to who has it.
#[test]
fn documents_that_follow_each_other_fast_are_said_together() {
    let nodes: Vec<u8> = (1..=6).collect();
    let mut world = settled(&nodes);
    for a in &nodes[1..] {
        for b in nodes.iter().filter(|b| a < b) {
            world.connect(*a, *b);
        }
    }
    world.run(seconds(10));
    let before = world.said;
    for number in 100..140 {
        world.say(1, |document| assert!(document.revoke(id(number), 1_505)));
        world.run(Duration::from_millis(25));
    }
    let has_all =
        |world: &World| world.nodes.values().all(|node| node.trust.view().revocation(id(139)).is_some());
    let took = world.run_until(seconds(5), has_all);
    assert!(took.is_some_and(|took| took < Duration::from_millis(800)), "{took:?}");
    let count = world.said - before;
    // Of thirty sessions each twice at once and then once each half second; forty times without that.
    assert!(count <= 30 * 5, "{count} times MEMBER");
    // And a word after a pause is said at once, to whom nobody told it yet.
    world.run(seconds(5));
    world.clock.now += seconds(5);
    let before = world.said;
    world.say(1, |document| assert!(document.revoke(id(140), 1_505)));
    let took = world.run_until(seconds(5), |world| {
        world.nodes.values().all(|node| node.trust.view().revocation(id(140)).is_some())
    });
    assert!(took.is_some_and(|took| took < Duration::from_millis(100)), "{took:?}");
    world.run(seconds(5));
    let count = world.said - before;
    assert!(count <= 5 + 20, "each tells the others, and not the one that it has it from: {count}");
}

#[test]
fn a_name_that_the_invite_does_not_allow_is_made_to_fit() {
    let mut world = joining(|limits| limits.names = Pattern::new("lab-*"));
    world.connect(1, 2);
    assert!(world.opens(1, 2, seconds(5)).is_some());
    let expected = format!("lab-{}", id(2).short());
    let own = world.trust(2).own().unwrap().certificate.body().name.to_string();
    assert_eq!(own, expected);
}

#[test]
fn who_joins_has_an_address_of_the_invite_and_nobody_elses() {
    let address = |text: &str| addresses(&[text]).first().copied();
    // Node 1 shows one and the record gives one to a node that is away.
    let joined = |wished: Option<&str>, shown: &[&str], recorded: &[&str]| {
        let mut world = joining(|_| ());
        world.trust(2).wish_address(wished.and_then(address));
        let body = Certificate { addresses: addresses(shown), ..certificate(1, None) };
        let own = Statement::sign(&root(), root().fingerprint(), body).unwrap();
        world.trust(1).show(Own { certificate: own, chain: None });
        let word = Word { version: 1, addresses: Some(addresses(recorded)), ..Word::default() };
        world.say(1, |document| assert!(document.members.insert(id(9), word)));
        world.connect(1, 2);
        assert!(world.opens(1, 2, seconds(5)).is_some());
        let Verdict::Admitted(admission) = world.session(1, 2).verdict() else { panic!("not admitted") };
        let own = world.nodes[&2].trust.own().unwrap().certificate.body().addresses.clone();
        assert_eq!(admission.facts.addresses, own, "others take it as its own");
        own.first().map(ToString::to_string)
    };
    assert_eq!(joined(Some("10.1.2.44"), &[], &[]).as_deref(), Some("10.1.2.44"));
    assert_eq!(joined(Some("10.1.3.44"), &[], &[]), None, "the invite does not give it");
    let block = Block::new("10.1.2.0".parse().unwrap(), 24).unwrap();
    let tried: Vec<String> = block.ipv4_attempts(id(2)).map(|address| address.to_string()).collect();
    let [first, second, third] = &tried[..3] else { panic!("three attempts") };
    assert_eq!(joined(None, &[], &[]).as_ref(), Some(first));
    assert_eq!(joined(None, &[first], &[]).as_ref(), Some(second));
    assert_eq!(joined(None, &[second], &[first]).as_ref(), Some(third));
    assert_eq!(joined(Some("10.1.2.44"), &["10.1.2.44"], &[]).as_ref(), Some(first));
    assert_eq!(joined(Some("10.1.2.44"), &[], &["10.1.2.44"]).as_ref(), Some(first));
}

#[test]
fn who_joins_keeps_the_address_that_its_key_gives_where_the_invite_has_it() {
    let space = AddressSpace::from(root().fingerprint());
    let derived: Vec<Ipv4Addr> = ipv4_attempts(space, id(2)).map(|(_, address)| address).take(2).collect();
    let joined = |recorded: Option<Ipv4Addr>, wished: Option<Ipv4Addr>| {
        let mut world = joining(|limits| {
            limits.blocks = Set::new(Block::new(ipv4_network(&space).into(), 16)).unwrap();
        });
        let of = |address: Option<Ipv4Addr>| address.and_then(|address| Address::new(address.into()));
        world.trust(2).wish_address(of(wished));
        let word = Word { version: 1, addresses: Addresses::new(of(recorded)), ..Word::default() };
        world.say(1, |document| assert!(document.members.insert(id(9), word)));
        world.connect(1, 2);
        assert!(world.opens(1, 2, seconds(5)).is_some());
        let own = world.nodes[&2].trust.own().unwrap().certificate.body().addresses.clone();
        own.first().map(|address| address.ip())
    };
    assert_eq!(joined(None, None), Some(derived[0].into()));
    assert_eq!(joined(Some(derived[0]), None), Some(derived[1].into()));
    let [a, b, ..] = ipv4_network(&space).octets();
    let chosen = Ipv4Addr::new(a, b, 9, 9);
    assert_eq!(joined(None, Some(chosen)), Some(chosen.into()));
}

#[test]
fn an_invite_that_ended_says_so() {
    let mut world = joining(|limits| limits.joins_until = 1_400);
    world.connect(1, 2);
    world.run(seconds(5));
    assert!(world.nodes[&2].events.contains(&(1, Event::JoinFailed(JoinError::Ended(1_400)))));
    assert!(world.trust(2).sought().is_some(), "its clock may be ahead");
    assert_eq!((world.session(1, 2).verdict(), world.session(1, 2).gate()), (&Verdict::Pending, Gate::Shut));
}

#[test]
fn a_revocation_goes_from_node_to_node_and_cuts_at_once() {
    // 1 and 2 speak, 2 and 3 speak; nobody but 1 hears the root.
    let mut world = World::new([1, 2, 3]);
    world.certify(&[1, 2, 3]);
    world.say(1, |_| ());
    world.connect(1, 2);
    world.connect(2, 3);
    assert!(world.opens(1, 2, seconds(5)).is_some() && world.opens(2, 3, seconds(5)).is_some());
    world.run(seconds(5));

    world.say(1, |document| assert!(document.revoke(id(3), 1_505)));
    let took = world.run_until(seconds(5), |world| world.session(2, 3).gate() == Gate::Shut).unwrap();
    assert!(took < seconds(1), "{took:?}");
    let revoked = Refusal::Revoked { by: root().fingerprint(), at: 1_505 };
    assert_eq!(world.session(2, 3).verdict(), &Verdict::Refused(revoked.clone().into()));
    world.run(seconds(1));
    assert!(world.nodes[&3].events.contains(&(2, Event::Standing(revoked.code()))), "it is told why");
    assert!(!world.session(2, 3).is_over());
    world.run(REFUSED_FOR);
    assert!(world.session(2, 3).is_over());
    assert!(world.is_open(1, 2));
}

#[test]
fn nobody_is_a_member_by_another_ones_certificate_or_none() {
    let mut world = World::new([1, 2, 3]);
    world.certify(&[1, 2]);
    world.say(1, |_| ());
    let stolen = world.trust(2).own().unwrap().clone();
    world.trust(3).show(stolen);
    world.connect(1, 3);
    world.run(seconds(5));
    let refused = Verdict::Refused(Refusal::OtherNode(id(2)).into());
    assert_eq!((world.session(1, 3).verdict(), world.session(1, 3).gate()), (&refused, Gate::Shut));

    let mut world = World::new([1, 2]);
    world.certify(&[1]);
    world.connect(1, 2);
    world.run(seconds(30));
    assert_eq!((world.session(1, 2).verdict(), world.session(1, 2).gate()), (&Verdict::Pending, Gate::Shut));
}

#[test]
fn a_forged_certificate_is_refused_for_what_it_is() {
    let mut world = World::new([1, 2]);
    world.certify(&[1, 2]);
    world.say(1, |_| ());
    // Signed by another, under the root's name.
    let other = authority(66);
    let forged = Statement::sign(&other, root().fingerprint(), certificate(2, None)).unwrap();
    let at = forged.bytes().windows(32).position(|window| window == other.fingerprint().as_bytes()).unwrap();
    let mut bytes = forged.bytes().to_vec();
    bytes[at..at + 32].copy_from_slice(root().fingerprint().as_bytes());
    let forged = Unverified::<Certificate>::decode(root().fingerprint(), &bytes).unwrap();
    world.trust(2).show(Own { certificate: forged.trusted_for_test(), chain: None });
    world.connect(1, 2);
    world.run(seconds(5));
    let refused = Verdict::Refused(StatementError::Signature(Half::Ed25519).into());
    assert_eq!((world.session(1, 2).verdict(), world.session(1, 2).gate()), (&refused, Gate::Shut));
}

#[test]
fn a_certificate_ends_while_the_session_goes_on() {
    let mut world = World::new([1, 2]);
    world.certify(&[1, 2]);
    world.say(1, |_| ());
    world.connect(1, 2);
    assert!(world.opens(1, 2, seconds(5)).is_some());
    let took = world.run_until(seconds(10_000), |world| world.session(1, 2).gate() == Gate::Shut).unwrap();
    assert!((3_400..3_505).contains(&took.as_secs()), "{took:?}");
    assert_eq!(world.session(1, 2).verdict(), &Verdict::Refused(Refusal::Expired(5_000).into()));
}

#[test]
fn an_admin_hands_out_a_newer_certificate_and_frames_flow_on() {
    let mut world = World::new([1, 2]);
    world.certify(&[1, 2]);
    world.say(1, |_| ());
    world.connect(1, 2);
    assert!(world.opens(1, 2, seconds(5)).is_some());
    let body = Certificate { not_after: 90_000, name: name("renamed"), serial: 2, ..certificate(2, None) };
    let newer = Statement::sign(&root(), root().fingerprint(), body).unwrap();
    world.trust(1).offer(newer.clone());
    world.changed(1);
    let renewed = world.run_until(seconds(5), |world| {
        assert!(world.is_open(1, 2), "nothing is interrupted");
        matches!(world.session(1, 2).verdict(), Verdict::Admitted(admission) if admission.until == 90_000)
    });
    assert!(renewed.is_some());
    assert!(world.nodes[&2].events.contains(&(1, Event::Renewed(newer.clone()))));
    assert_eq!(world.trust(1).blob(newer.hash().into()), None, "it is not offered any more");
}

#[test]
fn an_offer_by_who_is_no_admin_is_not_taken() {
    let mut world = World::new([1, 2]);
    world.certify(&[1, 2]);
    world.say(1, |_| ());
    let own = world.trust(2).own().unwrap().certificate.hash();
    let offer = Statement::sign(&authority(66), root().fingerprint(), certificate(2, None)).unwrap();
    world.trust(1).offer(offer);
    world.connect(1, 2);
    world.run(seconds(20));
    assert_eq!(world.trust(2).own().unwrap().certificate.hash(), own);
}

#[test]
fn an_older_certificate_is_not_taken_back() {
    let mut world = World::new([1, 2]);
    world.certify(&[1, 2]);
    world.say(1, |_| ());
    let own = world.trust(2).own().unwrap().certificate.hash();
    let older = Certificate { not_before: 900, serial: 7, ..certificate(2, None) };
    world.trust(1).offer(Statement::sign(&root(), root().fingerprint(), older).unwrap());
    world.connect(1, 2);
    assert!(world.opens(1, 2, seconds(5)).is_some());
    world.run(seconds(20));
    assert_eq!(world.trust(2).own().unwrap().certificate.hash(), own);
}

/// Member 3 names what 2 needs, and gives nothing; over and over.
#[test]
fn a_member_that_offers_and_gives_nothing_keeps_no_news_from_others() {
    let mut world = World::new([1, 2]);
    world.certify(&[1, 2]);
    world.say(1, |_| ());
    world.connect(1, 2);
    assert!(world.opens(1, 2, seconds(5)).is_some());
    world.run(seconds(5));

    let clock = world.clock;
    let node = world.nodes.get_mut(&2).unwrap();
    let mut liar = Exchange::begin(clock, &mut node.trust, id(3));
    let mut source = Record::new(root().fingerprint());
    node.trust.record().documents().for_each(|document| assert!(source.insert(document.clone())));
    let mut draft = source.draft(root().fingerprint(), 1_510);
    draft.revoke(id(9), 1_510);
    let news = Statement::sign(&root(), root().fingerprint(), draft).unwrap();
    let listed = Listed { issuer: news.issuer(), version: news.body().version, hash: news.hash() };
    let (mut revision, mut next) = (0, clock.now);
    let mut lie = |clock: Clock, trust: &mut Trust| {
        if clock.now < next {
            return;
        }
        // As often as its news are taken in. It says that it has nothing, and takes its turn anew in the same moment.
        next = clock.now + Duration::from_millis(600);
        while let Some(message) = liar.poll_message() {
            if let Message::Want(Want { hash, .. }) = message {
                let nothing = Part { hash, total: 0, number: 0, bytes: Vec::new() };
                liar.handle_message(clock, trust, Message::Part(nothing));
            }
        }
        revision += 1;
        let member = Member { revision, documents: vec![listed], ..Member::default() };
        liar.handle_message(clock, trust, Message::Member(member));
    };
    lie(clock, &mut node.trust);
    world.trust(1).hear(news);
    world.changed(1);
    let mut waited = Duration::ZERO;
    while world.trust(2).view().revocation(id(9)).is_none() {
        assert!(waited < seconds(12), "the news does not come through");
        // At each instant the liar is first.
        let clock = world.clock;
        lie(clock, world.trust(2));
        let begun = world.clock.now;
        world.run_until(Duration::from_millis(600), |world| world.clock.now > begun);
        world.clock.now = world.clock.now.max(begun + Duration::from_millis(100));
        waited += world.clock.now - begun;
    }
}

/// Two that give nothing do not pass the turn to each other: whoever waited longest has the next one.
#[test]
fn a_turn_goes_to_who_waited_longest() {
    let mut world = World::new([9]);
    let begun = world.clock.now;
    let trust = world.trust(9);
    let hash = crate::ids::BlobHash([7; 32]);
    let mut asked = |turn: u64| {
        [1, 2, 3].map(|peer| trust.claim(begun + seconds(5 * turn), id(peer), false, hash).is_ok())
    };
    assert_eq!([0, 1, 2].map(&mut asked), [[true, false, false], [false, true, false], [false, false, true]]);
}

/// Strangers that wait do not keep a member waiting, nor members that give nothing a stranger.
#[test]
fn each_second_turn_is_a_members() {
    let mut world = World::new([99]);
    let now = world.clock.now;
    let trust = world.trust(99);
    let hash = crate::ids::BlobHash([7; 32]);
    let ask = |trust: &mut Trust, peer: u8| trust.claim(now, id(peer), peer >= 10, hash).is_ok();
    assert!(ask(trust, 1));
    for waits in [2, 3, 4, 5, 10, 11] {
        assert!(!ask(trust, waits));
    }
    let mut order = Vec::new();
    let mut asked = 1;
    while order.len() < 5 {
        trust.release(now, id(asked), hash, false);
        asked = trust.poll_turn(now).unwrap().0[0];
        // Two are there no more, or do not want it any more.
        while [3, 11].contains(&asked) {
            asked = trust.poll_turn(now).unwrap().0[0];
        }
        assert!(ask(trust, asked));
        assert_eq!(trust.poll_turn(now), None);
        order.push(asked);
        if order.len() == 1 {
            assert!(!ask(trust, 1), "who had its turn is behind all");
        }
    }
    assert_eq!(order, [10, 2, 4, 5, 1]);
    trust.release(now, id(1), hash, false);
    assert_eq!(trust.poll_turn(now), None);
    assert!(ask(trust, 77), "nobody waits");
}

/// Each lists what is not there, says that it does not have it, and lists it anew.
#[test]
fn a_hundred_liars_cost_a_look_at_one_session_each_time() {
    let mut world = World::new([200]);
    world.certify(&[200]);
    world.say(200, |_| ());
    let mut clock = world.clock;
    let trust = world.trust(200);
    let listed = Listed { issuer: root().fingerprint(), version: 99, hash: StatementHash([7; 32]) };
    let mut liars: Vec<_> = (0..100).map(|n| (Exchange::begin(clock, trust, id(n)), 0)).collect();
    let (mut looks, mut answers) = (0, 0);
    for _ in 0..100 {
        let mut is_idle = false;
        while !is_idle {
            is_idle = true;
            for (liar, _) in &mut liars {
                while let Some(message) = liar.poll_message() {
                    if let Message::Want(Want { hash, .. }) = message {
                        (answers, is_idle) = (answers + 1, false);
                        let nothing = Part { hash, total: 0, number: 0, bytes: Vec::new() };
                        liar.handle_message(clock, trust, Message::Part(nothing));
                    }
                }
            }
            while let Some(NodeId([n, ..])) = trust.poll_turn(clock.now) {
                looks += 1;
                liars[usize::from(n)].0.handle_change(clock, trust);
            }
        }
        for (liar, revision) in &mut liars {
            *revision += 1;
            let member = Member { revision: *revision, documents: vec![listed], ..Member::default() };
            liar.handle_message(clock, trust, Message::Member(member));
        }
        clock.now += Duration::from_millis(10);
    }
    // Eight news of each at once, and two a second.
    assert!((800..1_100).contains(&answers), "{answers}");
    assert!(looks <= answers, "{looks} for {answers}");
}

#[test]
fn those_of_one_invite_do_not_take_all_the_room_for_who_was_met() {
    let mut world = World::new([9]);
    let node = |n: u16| NodeId(crate::crypto::kdf::sha256(&[&n.to_be_bytes()]));
    let [leaked, other, third] = [1, 2, 3].map(|n| Fingerprint([n; 32]));
    let trust = world.trust(9);
    (0..1_024).for_each(|n| trust.remember(node(n), Some(leaked)));
    assert_eq!(trust.met().count(), 1_024);
    (1_024..2_048).for_each(|n| trust.remember(node(n), Some(other)));
    assert_eq!((1_024..2_048).filter(|n| trust.has_met(node(*n))).count(), 512);
    trust.remember(node(3_000), Some(third));
    assert!(trust.has_met(node(3_000)));
    assert_eq!(trust.met().count(), 1_024);
    world.say(9, |document| assert!(document.revoke(leaked, 1_500)));
    let trust = world.trust(9);
    assert!(!(0..1_024).any(|n| trust.has_met(node(n))));
    trust.remember(node(3_001), Some(other));
    assert!(trust.has_met(node(3_000)) && trust.has_met(node(3_001)));
}

#[test]
fn offers_to_who_left_are_bounded() {
    let mut world = World::new([9]);
    let trust = world.trust(9);
    let node = |n: u16| NodeId(crate::crypto::kdf::sha256(&[&n.to_be_bytes()]));
    let offer = |n: u16| {
        let not_after = 5_000 + u64::from(n);
        let body = Certificate { node: node(n), not_after, ..certificate(1, None) };
        Statement::sign(&root(), root().fingerprint(), body).unwrap()
    };
    (0..1_100).for_each(|n| trust.offer(offer(n)));
    let left = |trust: &Trust| (0..1_100).filter(|n| trust.offer_for(node(*n)).is_some()).count();
    assert_eq!(left(trust), 1_024);
    assert!(trust.offer_for(node(0)).is_none() && trust.offer_for(node(1_099)).is_some());
    (0..1_000).for_each(|n| trust.part(node(n)));
    assert_eq!(left(trust), 100);
}

/// A peer that sleeps is asked for nothing, and keeps nobody from being asked.
#[test]
fn who_sleeps_is_asked_for_nothing() {
    let mut world = World::new([1, 2, 3]);
    world.certify(&[1, 2, 3]);
    world.say(1, |_| ());
    world.connect(1, 2);
    world.connect(1, 3);
    world.connect(2, 3);
    assert!(world.opens(2, 3, seconds(5)).is_some());
    assert!(world.opens(1, 2, seconds(5)).is_some());
    world.run(seconds(5));
    let now = world.clock.now;
    let node = world.nodes.get_mut(&2).unwrap();
    node.sessions.get_mut(&1).unwrap().pause(now, &mut node.trust);
    // What would be said to it is lost.
    world.nodes.get_mut(&1).unwrap().sessions.remove(&2);
    let limits = delegation(Fingerprint([0; 32]));
    let (_, invited) = invite(&root(), root().fingerprint(), limits, &mut SeededRng::new(3)).unwrap();
    let hash = invited.hash();
    world.say(3, |document| assert!(document.invites.insert(hash)));
    world.trust(3).keep_invite(invited);
    world.changed(3);
    // By whatever way the record came, all sessions are told of it, the lowest key's first.
    let news: Vec<_> = world.nodes[&3].trust.record().documents().cloned().collect();
    let trust = world.trust(2);
    assert!(news.into_iter().any(|document| trust.hear(document)));
    world.changed(2);
    let is_here = |world: &World| world.nodes[&2].trust.invites().count() == 1;
    let took = world.run_until(seconds(10), is_here);
    assert!(took.is_some_and(|took| took < seconds(1)), "{took:?}");
}

#[test]
fn everything_stored_comes_back() {
    let mut world = joining(|_| ());
    let admin = authority(2);
    world.say(1, |document| {
        document.admins.insert(admin.fingerprint(), name("second"));
    });
    let trust = world.trust(1);
    trust.keep_key(admin.public().clone());
    let document = Document { version: 1, ..Document::default() };
    trust.hear(Statement::sign(&admin, root().fingerprint(), document).unwrap());
    let mut again = Trust::new(root().fingerprint(), id(1));
    let blobs = trust.blobs();
    assert_eq!(blobs.len(), 5, "two keys, two documents, an invite");
    blobs.iter().for_each(|blob| assert_eq!(again.restore(blob), Ok(true)));
    assert_eq!((again.record(), again.blobs()), (trust.record(), blobs));
    let stranger = authority(77).public().clone();
    assert_eq!(again.restore(stranger.as_bytes()), Ok(false), "a stranger's keys");
    assert_eq!(again.restore(&[0; 7]), Err(StatementError::Malformed));
}

#[test]
fn what_an_admin_drops_leaves_nothing_that_cannot_be_read_back() {
    let mut world = World::new([1]);
    let (second, delegate) = (authority(2), authority(3));
    world.say(1, |document| assert!(document.admins.insert(second.fingerprint(), name("second"))));
    let trust = world.trust(1);
    trust.keep_key(second.public().clone());
    // The second certified this node, and made an invite that the root names as well.
    let body = Certificate { addresses: Addresses::default(), ..certificate(1, None) };
    let own = Statement::sign(&second, root().fingerprint(), body).unwrap();
    trust.show(Own { certificate: own, chain: None });
    let invite = delegation(delegate.fingerprint());
    let invite = Statement::sign(&second, root().fingerprint(), invite).unwrap();
    let hash = invite.hash();
    world.say(1, |document| assert!(document.invites.insert(hash)));
    world.trust(1).keep_invite(invite);
    assert_eq!(world.trust(1).invites().count(), 1);
    // Then nobody grants anything to the second any more, by a document without a word on it.
    world.say(1, |document| document.admins = Map::default());
    let trust = world.trust(1);
    assert_eq!(trust.invites().count(), 0);
    assert!(trust.key(second.fingerprint()).is_some(), "its own certificate stands on it");
    let mut again = Trust::new(root().fingerprint(), id(1));
    trust.blobs().iter().for_each(|blob| assert_eq!(again.restore(blob), Ok(true)));
}

/// What was said before and does not go into a session's first round trips.
fn settled(nodes: &[u8]) -> World {
    let mut world = World::new(nodes.iter().copied());
    world.certify(nodes);
    world.say(1, |_| ());
    for node in &nodes[1..] {
        world.connect(1, *node);
        assert!(world.opens(1, *node, seconds(5)).is_some());
    }
    world.run(seconds(5));
    world
}

#[test]
fn who_was_revoked_is_refused_before_it_shows_anything() {
    let mut world = settled(&[1, 2]);
    world.say(1, |document| assert!(document.revoke(id(3), 1_505)));
    world.run(seconds(1));
    let clock = world.clock;
    let mut exchange = Exchange::begin(clock, world.trust(2), id(3));
    let revoked = Refusal::Revoked { by: root().fingerprint(), at: 1_505 };
    assert_eq!(exchange.verdict(), &Verdict::Refused(revoked.clone().into()));
    assert_eq!(exchange.poll_event(), Some(Event::Judged(Verdict::Refused(revoked.clone().into()))));
    // And one whose session has not come to anything yet.
    let mut pending = Exchange::begin(clock, world.trust(2), id(4));
    assert_eq!(pending.verdict(), &Verdict::Pending);
    world.say(1, |document| assert!(document.revoke(id(4), 1_505)));
    world.run(seconds(1));
    pending.handle_change(world.clock, world.trust(2));
    assert_eq!(pending.verdict(), &Verdict::Refused(revoked.into()));
}

#[test]
fn who_shows_nothing_is_left_after_a_minute() {
    let mut world = World::new([1, 2]);
    world.certify(&[1]);
    world.say(1, |_| ());
    world.connect(1, 2);
    let took = world.run_until(PENDING_FOR * 2, |world| world.session(1, 2).is_over()).unwrap();
    // From its last news on, which came within the first round trips.
    assert!((PENDING_FOR..PENDING_FOR + seconds(1)).contains(&took), "{took:?}");
    assert_eq!(world.session(1, 2).verdict(), &Verdict::Pending);
}

/// It shows what is no certificate, then nothing, then the same again.
#[test]
fn who_is_refused_and_pending_by_turns_is_left_after_a_minute() {
    let mut world = World::new([1]);
    world.certify(&[1]);
    world.say(1, |_| ());
    let mut clock = world.clock;
    let trust = world.trust(1);
    let mut exchange = Exchange::begin(clock, trust, id(2));
    let garbage = vec![7; 100];
    let hash = StatementHash(crate::crypto::kdf::sha256(&[crate::crypto::labels::BLOB, &garbage]));
    let began = clock.now;
    for turn in 0.. {
        assert!(clock.now - began <= seconds(70), "the session does not end");
        let certificate = (turn % 2 == 0).then_some(hash);
        let said = Member { revision: turn + 1, certificate, ..Member::default() };
        exchange.handle_message(clock, trust, Message::Member(said));
        while let Some(message) = exchange.poll_message() {
            if let Message::Want(Want { hash, .. }) = message {
                let part = Part { hash, total: 100, number: 0, bytes: garbage.clone() };
                exchange.handle_message(clock, trust, Message::Part(part));
            }
        }
        assert_eq!(matches!(exchange.verdict(), Verdict::Refused(_)), certificate.is_some());
        clock.now += seconds(5);
        clock.unix += 5;
        exchange.handle_timeout(clock, trust);
        if exchange.is_over() {
            break;
        }
    }
}

#[test]
fn those_that_are_not_admitted_are_served_little_together() {
    let mut world = settled(&[1, 2]);
    let clock = world.clock;
    let hash = world.trust(1).own().unwrap().certificate.hash();
    let want = || Message::Want(Want { hash: hash.into(), first: 0, missing: u32::MAX });
    let mut parts = 0;
    for stranger in 10..60 {
        let trust = world.trust(1);
        let mut exchange = Exchange::begin(clock, trust, id(stranger));
        for _ in 0..16 {
            exchange.handle_message(clock, trust, want());
        }
        while let Some(message) = exchange.poll_message() {
            parts += usize::from(matches!(message, Message::Part(Part { number: 0, .. })));
        }
    }
    assert_eq!(parts, 256, "of 800");
    // A member is served all the same.
    let node = world.nodes.get_mut(&1).unwrap();
    let exchange = node.sessions.get_mut(&2).unwrap();
    exchange.handle_message(clock, &mut node.trust, want());
    let served =
        std::iter::from_fn(|| exchange.poll_message()).filter(|said| matches!(said, Message::Part(_)));
    assert!(served.count() > 0);
}

#[test]
fn a_removed_admin_is_heard_once_a_minute() {
    let mut world = settled(&[1, 2, 3]);
    let second = authority(2);
    world.say(1, |document| {
        document.admins.insert(second.fingerprint(), name("second"));
    });
    world.trust(2).keep_key(second.public().clone());
    world.run(seconds(2));
    world.say(1, |document| {
        document.removed.insert(second.fingerprint());
    });
    world.run(seconds(2));
    // It says something new at node 2, twice a second.
    let mut heard = 0;
    for version in 1..=60 {
        world.run(Duration::from_millis(500));
        let document = Document { version, ..Document::default() };
        let document = Statement::sign(&second, root().fingerprint(), document).unwrap();
        let trust = world.trust(2);
        trust.keep_key(second.public().clone());
        trust.hear(document);
        world.changed(2);
        world.run(Duration::from_millis(200));
        let known = world.trust(1).record().document(second.fingerprint());
        heard = known.map_or(0, |known| known.body().version).max(heard);
    }
    assert!((1..5).contains(&heard), "node 1 heard version {heard} within 42 s");
    world.run(seconds(60));
    let known = world.trust(1).record().document(second.fingerprint());
    assert_eq!(known.map(|known| known.body().version), Some(60), "it is not shut up");
}

#[test]
fn a_certificate_by_who_is_no_admin_any_more_or_for_less_long_is_not_taken() {
    let mut world = settled(&[1, 2]);
    let second = authority(2);
    world.say(1, |document| {
        document.admins.insert(second.fingerprint(), name("second"));
        document.removed.insert(second.fingerprint());
        document.members.insert(id(2), Word { version: 1, ..Word::default() });
    });
    world.trust(1).keep_key(second.public().clone());
    world.run(seconds(2));
    let own = world.trust(2).own().unwrap().certificate.hash();
    let longer = Certificate { not_after: 90_000, serial: 2, ..certificate(2, None) };
    let shorter = Certificate { not_after: 4_999, serial: 2, ..certificate(2, None) };
    for (by, offer) in [(&second, longer), (&root(), shorter)] {
        let offer = Statement::sign(by, root().fingerprint(), offer).unwrap();
        world.trust(1).offer(offer);
        world.changed(1);
        world.run(seconds(20));
        assert_eq!(world.trust(2).own().unwrap().certificate.hash(), own);
    }
}

#[test]
fn a_certificate_of_a_clock_that_was_ahead_is_replaced_by_any_that_is_good() {
    let mut world = settled(&[1, 2]);
    let ahead = Certificate { not_before: 50_000, not_after: 99_000, serial: 7, ..certificate(2, None) };
    let ahead = Statement::sign(&root(), root().fingerprint(), ahead).unwrap();
    world.trust(2).show(Own { certificate: ahead, chain: None });
    world.changed(2);
    world.run(seconds(1));
    assert_eq!(world.session(1, 2).verdict(), &Verdict::Refused(Refusal::NotYet(50_000).into()));
    let now = Statement::sign(&root(), root().fingerprint(), certificate(2, None)).unwrap();
    world.trust(1).offer(now.clone());
    world.changed(1);
    assert!(world.opens(1, 2, seconds(5)).is_some());
    assert_eq!(world.trust(2).own().unwrap().certificate.hash(), now.hash());
}

fn messages() -> impl Strategy<Value = Message> {
    let hash = || prop_oneof![Just([1; 32]), Just(root().fingerprint().0), any::<[u8; 32]>()];
    let listed = (hash(), any::<u64>(), hash()).prop_map(|(issuer, version, hash)| Listed {
        issuer: Fingerprint(issuer),
        version,
        hash: StatementHash(hash),
    });
    let member = (any::<u32>(), any::<u8>(), hash(), any::<bool>(), prop::collection::vec(listed, 0..4))
        .prop_map(|(revision, standing, hash, has, documents)| {
            let hash = Some(StatementHash(hash)).filter(|_| has);
            Message::Member(Member {
                revision,
                standing,
                certificate: hash,
                offer: hash,
                documents,
                secrets: vec![],
            })
        });
    let want = (hash(), any::<u16>(), any::<u32>()).prop_map(|(hash, first, missing)| {
        Message::Want(Want { hash: crate::ids::BlobHash(hash), first, missing })
    });
    let part = (
        hash(),
        prop_oneof![0..3_000_u32, any::<u32>()],
        0..4_u16,
        prop::collection::vec(any::<u8>(), 0..1025),
    )
        .prop_map(|(hash, total, number, bytes)| {
            Message::Part(Part { hash: crate::ids::BlobHash(hash), total, number, bytes })
        });
    prop_oneof![member, any::<u32>().prop_map(|revision| Message::MemberAck { revision }), want, part]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_come_back(message in messages()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn any_bytes_are_a_message_or_refused(bytes: Vec<u8>) {
        let _ = Message::decode(&bytes);
    }

    /// Whatever a peer says without a certificate, no frame flows, and what it causes is bounded.
    #[test]
    fn a_peer_that_says_anything_gets_nothing(said in prop::collection::vec(messages(), 0..40)) {
        let mut world = World::new([1]);
        world.certify(&[1]);
        world.say(1, |_| ());
        let (clock, trust) = (world.clock, world.trust(1));
        let mut exchange = Exchange::begin(clock, trust, id(2));
        let (mut answers, count) = (0, said.len());
        for message in said {
            exchange.handle_message(clock, trust, message);
            prop_assert_eq!(exchange.gate(), Gate::Shut);
            while exchange.poll_message().is_some() {
                answers += 1;
            }
        }
        prop_assert!(answers <= 1 + 16 * 32 + 3 * count, "{} answers to {}", answers, count);
    }
}
