//! Whole switches in virtual time: nodes with sessions between all of them, and one LAN that some of them are bridged to.
//!
//! The LAN is a hub: what one port puts on it all others hear a moment later. So everything that a storm needs is here, and
//! nothing that would dampen it.

use super::directory::{Directory, Record};
use super::flood::{Admission, Forwarder, Output, Verdict};
use super::frame::EthernetHeader;
use super::gate::{Gate, Inbound};
use super::guard::{LoopState, Message};
use super::limits::Limits;
use super::protection::{FloodBudget, Protection};
use shadowmesh_proto::ids::{MacAddr, PeerSlot};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// From one port of the LAN to the others.
const LAN_DELAY: Duration = Duration::from_micros(50);
const EVERYONE: MacAddr = MacAddr([0xff; 6]);
/// A host of the LAN.
const HOST: MacAddr = MacAddr([8, 0, 0, 0, 0, 1]);

const fn mac(n: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n as u8])
}

fn slot(n: usize) -> PeerSlot {
    PeerSlot(u32::try_from(n).unwrap())
}

struct Node {
    forwarder: Forwarder,
    gate: Gate,
    directory: Directory,
    is_bridged: bool,
    /// What its own device got.
    received: Vec<Vec<u8>>,
}

enum Event {
    /// Put on the LAN by a node, or by the host.
    Lan {
        from: Option<usize>,
        frame: Vec<u8>,
    },
    Session {
        from: usize,
        to: usize,
        frame: Vec<u8>,
    },
}

struct World {
    now: Instant,
    begin: Instant,
    nodes: Vec<Node>,
    latency: Duration,
    probes_pass: bool,
    events: BTreeMap<(Instant, u64), Event>,
    counter: u64,
    /// When frames that are no probes were put on the LAN.
    on_lan: Vec<Duration>,
}

impl World {
    /// The first `bridged` of `nodes` are bridged to the LAN.
    fn new(nodes: usize, bridged: usize, latency: Duration, limits: Limits, budget: FloodBudget) -> Self {
        let now = Instant::now();
        let protection = Protection { flood_budget: budget, ..Protection::default() };
        let node = |at: usize| {
            let mut directory = Directory::new(mac(at)).with_protection(protection);
            for other in (0..nodes).filter(|other| *other != at) {
                directory.admit(slot(other), Record::new(mac(other))).unwrap();
            }
            let forwarder = Forwarder::new(limits, [at as u8; 32]);
            Node {
                forwarder,
                gate: Gate::new(limits),
                directory,
                is_bridged: at < bridged,
                received: Vec::new(),
            }
        };
        Self {
            now,
            begin: now,
            nodes: (0..nodes).map(node).collect(),
            latency,
            probes_pass: true,
            events: BTreeMap::new(),
            counter: 0,
            on_lan: Vec::new(),
        }
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.counter += 1;
        self.events.insert((self.now + after, self.counter), event);
    }

    fn put_on_lan(&mut self, from: Option<usize>, frame: &[u8]) {
        let is_probe =
            EthernetHeader::parse(frame).and_then(|header| Message::parse(&header, frame)).is_some();
        if !is_probe {
            self.on_lan.push(self.now - self.begin);
        }
        if !is_probe || self.probes_pass {
            self.schedule(LAN_DELAY, Event::Lan { from, frame: frame.to_vec() });
        }
    }

    fn send(&mut self, from: usize, to: usize, frame: &[u8]) {
        self.schedule(self.latency, Event::Session { from, to, frame: frame.to_vec() });
    }

    /// A node's device is written to.
    fn write(&mut self, at: usize, frame: &[u8]) {
        self.nodes[at].received.push(frame.to_vec());
        if self.nodes[at].is_bridged {
            self.put_on_lan(Some(at), frame);
        }
    }

    /// A node reads a frame from its device.
    fn read(&mut self, at: usize, frame: &[u8]) {
        let now = self.now;
        let Node { forwarder, directory, .. } = &mut self.nodes[at];
        let verdict = forwarder.forward(directory, frame, now);
        match verdict {
            Verdict::Unicast(PeerSlot(to)) => self.send(at, to as usize, frame),
            Verdict::Flood(flood) => {
                for to in (0..self.nodes.len()).filter(|to| *to != at) {
                    let Node { forwarder, directory, .. } = &mut self.nodes[at];
                    if forwarder.admit(directory, slot(to), flood, frame.len(), now) == Admission::Pass {
                        self.send(at, to, frame);
                    }
                }
            }
            Verdict::Answer { .. } | Verdict::Drop(_) => {}
        }
        self.say(at);
    }

    /// A node is given a frame of a peer.
    fn receive(&mut self, at: usize, from: usize, frame: &[u8]) {
        let (now, mut told) = (self.now, Vec::new());
        let Node { forwarder, gate, directory, .. } = &mut self.nodes[at];
        let is_blocked = forwarder.is_blocked();
        let inbound = gate.receive(directory, frame, slot(from), is_blocked, now, |news| {
            told.push(news);
            true
        });
        told.into_iter().for_each(|news| forwarder.handle_news(directory, news, now));
        if inbound == Inbound::Deliver {
            self.write(at, frame);
        }
        self.say(at);
    }

    /// Takes what a node has to say by itself.
    fn say(&mut self, at: usize) {
        let now = self.now;
        loop {
            let Node { forwarder, directory, gate, .. } = &mut self.nodes[at];
            if forwarder.poll_timeout().is_some_and(|due| due.is_due(now)) {
                forwarder.handle_timeout(directory, now);
            }
            match forwarder.poll_output() {
                Some(Output::News(news)) => gate.handle_local(news, now),
                Some(Output::Device(frame)) => self.write(at, frame.as_bytes()),
                Some(Output::Peer(PeerSlot(to), frame)) => self.send(at, to as usize, frame.as_bytes()),
                None => return,
            }
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let timers = self.nodes.iter().filter_map(|node| node.forwarder.poll_timeout()).map(|due| due.at);
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = timers.chain(event).min().filter(|next| *next < end) else { break };
            self.now = self.now.max(next);
            (0..self.nodes.len()).for_each(|at| self.say(at));
            let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) else {
                continue;
            };
            match entry.remove() {
                Event::Lan { from, frame } => {
                    let hearers = (0..self.nodes.len()).filter(|at| Some(*at) != from);
                    let bridged: Vec<usize> = hearers.filter(|at| self.nodes[*at].is_bridged).collect();
                    bridged.into_iter().for_each(|at| self.read(at, &frame));
                }
                Event::Session { from, to, frame } => self.receive(to, from, &frame),
            }
        }
        self.now = end;
    }

    /// The host of the LAN sends a broadcast.
    fn broadcast(&mut self, n: u8) {
        let frame = [&EVERYONE.0[..], &HOST.0, &[0x88, 0xb5, n], &[0; 45]].concat();
        self.put_on_lan(None, &frame);
    }

    /// Frames on the LAN between these times after the beginning.
    fn frames(&self, from_ms: u64, to_ms: u64) -> usize {
        let span = Duration::from_millis(from_ms)..Duration::from_millis(to_ms);
        self.on_lan.iter().filter(|at| span.contains(*at)).count()
    }

    /// How often a node got the broadcast of this number.
    fn received(&self, at: usize, n: u8) -> usize {
        self.nodes[at].received.iter().filter(|frame| frame[12..15] == [0x88, 0xb5, n]).count()
    }

    fn blocked(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|at| self.nodes[*at].forwarder.is_blocked()).collect()
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Limits under which no station is ever held.
fn no_holds() -> Limits {
    Limits { moves_per_second: u32::MAX, ..Limits::default() }
}

#[test]
fn without_a_guard_there_is_a_storm() {
    let mut world = World::new(3, 2, ms(5), no_holds(), FloodBudget::Unlimited);
    world.probes_pass = false;
    world.broadcast(1);
    world.run(ms(10_000));
    assert!(world.frames(9_000, 10_000) > 300, "{} frames in the tenth second", world.frames(9_000, 10_000));
    assert!(world.received(2, 1) > 3_000, "of one broadcast");
}

#[test]
fn a_storm_ends_within_a_second_and_the_lan_stays_connected() {
    for latency_us in [200, 5_000, 20_000, 75_000, 150_000] {
        for budget in [FloodBudget::default(), FloodBudget::Unlimited] {
            let latency = Duration::from_micros(latency_us);
            let mut world = World::new(3, 2, latency, no_holds(), budget);
            world.broadcast(1);
            world.run(ms(1_000));
            assert_eq!(world.blocked(), [1], "the higher MAC of the two gives way, {latency:?}");
            world.run(ms(4_000));
            assert_eq!(world.frames(1_000, 5_000), 0, "nothing goes round any more, {latency:?}");
            // What the LAN says now comes out once, and what a member says comes to the LAN once.
            world.broadcast(2);
            world.run(ms(1_000));
            assert_eq!((world.received(2, 2), world.frames(5_000, 6_000)), (1, 1));
            world.read(2, &[&EVERYONE.0[..], &mac(2).0, &[0x88, 0xb5, 3], &[0; 45]].concat());
            world.run(ms(1_000));
            assert_eq!((world.received(0, 3), world.received(1, 3), world.frames(6_000, 7_000)), (1, 0, 1));
            assert_eq!(world.nodes[0].forwarder.stats(world.now).loop_state, LoopState::Contained(slot(1)));
        }
    }
}

#[test]
fn the_loop_is_not_opened_again_while_it_lasts() {
    let mut world = World::new(3, 2, ms(20), no_holds(), FloodBudget::default());
    for second in 0..120u8 {
        world.broadcast(second);
        world.run(ms(1_000));
    }
    assert_eq!(world.blocked(), [1]);
    // One a second, and what the first ones became before the loop was found.
    assert!(world.frames(1_000, 120_000) <= 119, "{}", world.frames(1_000, 120_000));
    assert_eq!(world.nodes[1].forwarder.stats(world.now).loops, 1);
    // It is mended: the second one is unplugged from the LAN. It is heard again, by itself.
    world.nodes[1].is_bridged = false;
    world.run(ms(170_000));
    assert!(world.blocked().is_empty());
}

#[test]
fn three_on_one_lan_leave_one() {
    for latency in [5, 40] {
        let mut world = World::new(4, 3, ms(latency), no_holds(), FloodBudget::default());
        world.broadcast(1);
        world.run(ms(1_000));
        assert_eq!(world.blocked(), [1, 2]);
        world.run(ms(2_000));
        assert_eq!(world.frames(1_000, 3_000), 0);
        world.broadcast(2);
        world.run(ms(1_000));
        assert_eq!((world.received(3, 2), world.frames(3_000, 4_000)), (1, 1));
    }
}

#[test]
fn where_probes_do_not_pass_stations_are_held_and_the_storm_ends_as_well() {
    for latency in [1, 20, 75] {
        let mut world = World::new(3, 2, ms(latency), Limits::default(), FloodBudget::default());
        world.probes_pass = false;
        world.broadcast(1);
        world.run(ms(1_000));
        let began = world.frames(0, 1_000);
        world.run(ms(4_000));
        assert_eq!(world.frames(1_000, 5_000), 0, "after {began} in the first second, {latency} ms");
        assert!(world.blocked().is_empty());
        // Both pass the LAN's broadcasts on, and neither brings them back.
        world.broadcast(2);
        world.run(ms(1_000));
        assert_eq!((world.received(2, 2), world.frames(5_000, 6_000)), (2, 1));
    }
}

#[test]
fn a_host_that_roams_between_two_lans_is_no_loop() {
    // Two nodes, each with a LAN of its own: the host appears behind one and then behind the other.
    let mut world = World::new(3, 0, ms(20), Limits::default(), FloodBudget::default());
    let frame = |n: u8| [&EVERYONE.0[..], &HOST.0, &[0x88, 0xb5, n], &[0; 45]].concat();
    for n in 0..60u8 {
        world.read(usize::from(n % 2), &frame(n));
        world.run(ms(1_000));
        assert_eq!(world.received(2, n), 1);
    }
    assert!(world.blocked().is_empty());
    assert_eq!(world.nodes[2].forwarder.stats(world.now).table.flaps, 0);
    let to_host = [&HOST.0[..], &mac(2).0, &[0x88, 0xb5, 200], &[0; 45]].concat();
    world.read(2, &to_host);
    world.run(ms(100));
    assert_eq!((world.received(0, 200), world.received(1, 200)), (0, 1), "where it was last");
}
