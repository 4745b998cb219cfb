//! Two planes back to back in memory: what a relay would forward is carried from the stream queue of one into the other.
//!
//! Nothing here sleeps in place of a condition: every wait is for something that must happen, with a bound that only a
//! failure meets.

mod answers;
mod away;
mod connections;
mod datagrams;
mod order;
mod queues;
mod superframes;
mod switch;

use super::*;
use crate::access::{Access, AccessDrop, Filter};
use crate::device::MemoryPort;
use crate::device::memory::pair;
use crate::switch::{Directory, OwnSockets, Record};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use shadowmesh_proto::crypto::aead::Cipher;
use shadowmesh_proto::endpoint::event::Contact;
use shadowmesh_proto::ids::{AssociationId, ChannelId, MacAddr, NodeId, ReceiverIndex};
use shadowmesh_proto::path::select::PathKind;
use shadowmesh_proto::queueing::BYTES_MAX;
use shadowmesh_proto::rng::{Rng as _, SeededRng};
use shadowmesh_proto::rules::{Rules, Subject};
use shadowmesh_proto::session::limits::POOL_BYTES;
use shadowmesh_proto::session::{AckMarks, OpenKey, PathSlot, RingLimits, SealKey};
use shadowmesh_proto::transmit::{RelayNo, TcpLink};
use shadowmesh_proto::wire::control::PathAck;
use shadowmesh_proto::wire::relay::{Forward, ForwardBuilder};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const CHANNEL: Contact = Contact { relay: RelayNo(0), channel: ChannelId(7) };
const OTHER: Contact = Contact { relay: RelayNo(0), channel: ChannelId(8) };
const PEER: PeerSlot = PeerSlot(0);
const RELAYED: PathSlot = PathKind::RelayWs.slot();
/// Long enough for any machine; met by failures only.
const PATIENCE: Duration = Duration::from_secs(20);

const fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// The overlay address of the node with `mac(n)`.
fn address(n: u8) -> IpAddr {
    IpAddr::from([10, 7, 0, n])
}

fn frame(from: u8, to: u8, n: u32, len: usize) -> Vec<u8> {
    let mut frame = [&mac(to).0[..], &mac(from).0, &[0x88, 0xb5], &n.to_be_bytes()].concat();
    let mut rng = SeededRng::new(u64::from(n));
    let mut rest = vec![0; len.saturating_sub(frame.len())];
    rng.fill(&mut rest);
    frame.extend(rest);
    frame
}

/// The number in a frame made by [`frame`].
fn number(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[14..18].try_into().unwrap())
}

/// Waits for `what` to come true.
fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

/// A plane, the far side of its device, and what a control task would hold.
struct Node {
    name: u8,
    plane: Plane,
    output: PlaneOutput,
    wire: MemoryPort,
    socket: DatagramSocket,
    snapshot: Snapshot,
    queue: Option<StreamQueue>,
}

/// What a plane is told at first: one relay, with no stream yet, and nothing asked of anybody.
fn picture(directory: Directory, peers: Vec<PeerRoute>) -> Snapshot {
    Snapshot {
        directory: Arc::new(directory),
        peers,
        streams: vec![None],
        links: vec![],
        bindings: vec![None],
        stun: [].into(),
        access: None,
        own: Arc::default(),
    }
}

/// A queue for a stream that took much without a wait: as much as ever may waits before it.
fn wide_stream_queue(producer: Waker) -> (StreamHandle, StreamQueue) {
    let (handle, mut queue) = stream_queue(producer);
    let now = Instant::now();
    for _ in 0..16 {
        handle.push(vec![0; 60_000]);
        let message = queue.try_next().unwrap();
        queue.on_written(now, message.len(), Duration::ZERO);
    }
    (handle, queue)
}

impl Node {
    /// A node that knows `peers` by their MACs, has a stream, and no route yet.
    fn new(name: u8, peers: &[u8]) -> Self {
        Self::with_ring(name, peers, RingLimits::default())
    }

    fn with_ring(name: u8, peers: &[u8], ring: RingLimits) -> Self {
        let (wire, device) = pair(&"mem0".parse().unwrap(), 100_000).unwrap();
        let mut directory = Directory::new(mac(name)).with_addresses(&[address(name)]);
        for (slot, peer) in (0..).zip(peers) {
            let record = Record::new(mac(*peer)).with_addresses(&[address(*peer)]);
            directory.admit(PeerSlot(slot), record).unwrap();
        }
        let route =
            |_| PeerRoute { is_expected: true, patience: Duration::from_millis(300), ..PeerRoute::default() };
        let snapshot = picture(directory, peers.iter().map(route).collect());
        let (device, socket) = (device.into_device(), DatagramSocket::bind().unwrap());
        let pool = ChunkPool::new(POOL_BYTES);
        let (plane, output) = Plane::start(device, socket.clone(), snapshot.clone(), pool, ring).unwrap();
        let mut node = Self { name, plane, output, wire, socket, snapshot, queue: None };
        until("the first picture to be taken in", || Arc::strong_count(&node.plane.snapshot.load_full()) > 2);
        node.connect();
        node
    }

    /// Publishes its picture, and waits until both threads let go of the one before: a frame that is sent afterwards is not sent by that.
    fn publish(&self) {
        let before = Arc::downgrade(&self.plane.snapshot.load_full());
        self.plane.publish(self.snapshot.clone());
        until("the picture to be taken in", || before.strong_count() == 0);
    }

    /// A new stream in place of the one before.
    fn connect(&mut self) {
        let (handle, queue) = wide_stream_queue(self.plane.outbound_waker());
        self.snapshot.streams[0] = Some(handle);
        self.queue = Some(queue);
        self.publish();
    }

    fn disconnect(&mut self) {
        self.snapshot.streams[0] = None;
        self.queue = None;
        for peer in &mut self.snapshot.peers {
            peer.via = None;
        }
        self.publish();
    }

    fn route(&mut self, slot: PeerSlot, contact: Option<Contact>) {
        let given_up = contact.map(|contact| Via::from(contact).slot());
        self.reroute(slot, contact.map(Via::from), given_up.as_slice());
    }

    /// Another way, with paths that are given up.
    fn reroute(&mut self, slot: PeerSlot, via: Option<Via>, given_up: &[PathSlot]) {
        let route = &mut self.snapshot.peers[slot.0 as usize];
        route.via = via;
        for path in given_up {
            route.given_up[usize::from(path.number())] += 1;
        }
        self.publish();
    }

    fn counters(&self, slot: PeerSlot) -> &PeerCounters {
        &self.snapshot.peers[slot.0 as usize].counters
    }

    /// The next message that it sends.
    fn message(&mut self) -> Bytes {
        let mut message = None;
        until("a message", || {
            let queue = self.queue.as_mut().expect("connected");
            message = queue.try_next();
            if let Some(message) = &message {
                queue.on_sent(message.len());
            }
            message.is_some()
        });
        message.unwrap()
    }

    /// Gives it a message, as a stream would.
    fn deliver(&self, contact: Contact, message: &[u8]) {
        let sender = self.plane.messages();
        let message = InboundMessage { via: Via::Channel(contact), message: BytesMut::from(message) };
        until("room for a message", || sender.messages.capacity() > 0);
        sender.messages.try_send(message).unwrap();
        sender.wake.wake_sleeper();
    }

    fn received(&self) -> Vec<u8> {
        let mut received = None;
        until("a frame", || {
            received = self.wire.receive().unwrap();
            received.is_some()
        });
        received.unwrap()
    }

    fn send(&self, to: u8, n: u32, len: usize) {
        self.wire.send(&frame(self.name, to, n, len)).unwrap();
    }
}

/// Frames with these numbers go where they go; every frame of `a` before was sealed.
fn seal(a: &mut Node, numbers: Range<u32>, len: usize) {
    let all = u64::from(numbers.end);
    numbers.for_each(|n| a.send(2, n, len));
    until("the frames to be sealed", || a.counters(PEER).tx_frames.load(Relaxed) == all);
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn keys(generation: u8) -> (SealKey, OpenKey) {
    let (key, index) = ([generation; 32], ReceiverIndex(1000 + u32::from(generation)));
    (
        SealKey::new(Cipher::ChaCha20Poly1305, &key, index, Instant::now(), far_future()),
        OpenKey::new(Cipher::ChaCha20Poly1305, &key, index),
    )
}

/// Gives `a` what seals to `b`, and `b` what opens it.
fn join(a: &Node, slot_at_a: PeerSlot, b: &Node, slot_at_b: PeerSlot, generation: u8) -> Arc<AckMarks> {
    let (seal, open) = keys(generation);
    let marks = Arc::new(AckMarks::new());
    let association = AssociationId([generation; 8]);
    b.plane.inbound(InboundCommand::Open { slot: slot_at_b, association, key: open });
    a.plane.outbound(OutboundCommand::Start { slot: slot_at_a, key: seal, marks: Arc::clone(&marks) });
    marks
}

/// Two nodes, 1 and 2, with keys and a route from 1 to 2.
fn two() -> (Node, Node, Arc<AckMarks>) {
    two_with_ring(RingLimits::default())
}

fn two_with_ring(ring: RingLimits) -> (Node, Node, Arc<AckMarks>) {
    let (mut a, b) = (Node::with_ring(1, &[2], ring), Node::new(2, &[1]));
    let marks = join(&a, PEER, &b, PEER, 1);
    a.route(PEER, Some(CHANNEL));
    (a, b, marks)
}

/// Gives `b` the messages that `a` has sent so far, as if they came by `contact`.
fn pass_on(a: &mut Node, b: &Node, contact: Contact) {
    let queue = a.queue.as_mut().expect("connected");
    while let Some(message) = queue.try_next() {
        queue.on_sent(message.len());
        b.deliver(contact, &message);
    }
}

/// Carries messages from `a` to `b` until `b` has received `n` frames, which are returned in the order they came.
fn carry(a: &mut Node, b: &Node, n: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    until(&format!("{n} frames"), || {
        pass_on(a, b, CHANNEL);
        while let Some(frame) = b.wire.receive().unwrap() {
            frames.push(frame);
        }
        frames.len() >= n
    });
    frames
}

fn numbers(frames: &[Vec<u8>]) -> Vec<u32> {
    frames.iter().map(|frame| number(frame)).collect()
}

#[test]
fn frames_pass_byte_for_byte_and_in_order() {
    let (mut a, b, _) = two();
    let sent: Vec<_> = (0..3000u32).map(|n| frame(1, 2, n, 60 + (n as usize * 37) % 1400)).collect();
    for frame in &sent {
        a.wire.send(frame).unwrap();
    }
    let received = carry(&mut a, &b, sent.len());
    assert!(received == sent, "what came is what went");
    assert_eq!(a.counters(PEER).tx_frames.load(Relaxed), 3000);
    until("the count", || b.counters(PEER).rx_frames.load(Relaxed) == 3000);
    assert_eq!(a.counters(PEER).resent.load(Relaxed), 0, "what went once was not resent");
}

#[test]
fn what_arrives_is_acknowledged_and_told_as_sent() {
    let (mut a, mut b, _) = two();
    for n in 0..300 {
        a.send(2, n, 100);
    }
    carry(&mut a, &b, 300);
    let mut highest = None;
    until("an acknowledgement of all", || {
        while let Ok(fact) = b.output.facts.try_recv() {
            if let Fact::AckDue(PEER, _, report) = fact {
                highest = report.paths().first().map(|path| path.highest);
            }
        }
        highest == Some(299)
    });
    let mut told = 0;
    while let Ok(fact) = a.output.facts.try_recv() {
        told += u32::from(matches!(fact, Fact::DataSent(PEER, Via::Channel(CHANNEL), 1..=300)));
    }
    assert!((1..20).contains(&told), "at most ten times a second, not {told} times for 300 frames");
}

#[test]
fn a_packet_that_overtakes_its_key_is_opened() {
    // The command is queued before the packet and not waited for, over and over.
    for round in 0..50u8 {
        let (mut a, b) = (Node::new(1, &[2]), Node::new(2, &[1]));
        let (seal, open) = keys(round);
        a.plane.outbound(OutboundCommand::Start { slot: PEER, key: seal, marks: Arc::default() });
        a.route(PEER, Some(CHANNEL));
        a.send(2, 5, 80);
        let message = a.message();
        b.plane.inbound(InboundCommand::Open { slot: PEER, association: AssociationId([1; 8]), key: open });
        b.deliver(CHANNEL, &message);
        assert_eq!(number(&b.received()), 5);
    }
}

#[test]
fn a_rekey_in_the_middle_loses_nothing() {
    let (mut a, b, _) = two();
    let association = AssociationId([1; 8]);
    let mut all = Vec::new();
    for generation in 2..6u8 {
        for n in 0..200 {
            a.send(2, u32::from(generation) * 1000 + n, 200);
        }
        let (seal, open) = keys(generation);
        b.plane.inbound(InboundCommand::AddKey { association, key: open });
        a.plane.outbound(OutboundCommand::AddKey { slot: PEER, key: seal });
        let before = ReceiverIndex(1000 + u32::from(generation) - 1);
        b.plane.inbound(InboundCommand::RetireKey { association, index: before });
        all.extend((0..200).map(|n| u32::from(generation) * 1000 + n));
    }
    assert_eq!(numbers(&carry(&mut a, &b, all.len())), all);
}

#[test]
fn frames_wait_for_the_first_key() {
    let (mut a, b) = (Node::new(1, &[2]), Node::new(2, &[1]));
    for n in 0..100 {
        a.send(2, n, 60);
    }
    until("what does not fit to be dropped", || a.counters(PEER).tx_dropped.load(Relaxed) == 36);
    join(&a, PEER, &b, PEER, 1);
    a.route(PEER, Some(CHANNEL));
    assert_eq!(numbers(&carry(&mut a, &b, 64)), (36..100).collect::<Vec<_>>(), "the newest 64, in order");
}

#[test]
fn a_route_withdrawn_and_given_back_loses_and_doubles_nothing() {
    let (mut a, b, marks) = two();
    for n in 0..100 {
        a.send(2, n, 300);
    }
    let mut received = carry(&mut a, &b, 100);
    // The peer acknowledged these.
    marks.record(&[], 100);
    for n in 100..200 {
        a.send(2, n, 300);
    }
    // Handed to a stream that dies before it sends them.
    until("the frames to be handed over", || a.counters(PEER).tx_frames.load(Relaxed) == 200);
    a.disconnect();
    for n in 200..300 {
        a.send(2, n, 300);
    }
    until("the frames to be sealed", || a.counters(PEER).tx_frames.load(Relaxed) == 300);
    a.connect();
    a.route(PEER, Some(CHANNEL));
    for n in 300..400 {
        a.send(2, n, 300);
    }
    received.extend(carry(&mut a, &b, 300));
    assert_eq!(numbers(&received), (0..400).collect::<Vec<_>>());
    assert_eq!(a.counters(PEER).lost.load(Relaxed), 0);
    let resent = a.counters(PEER).resent.load(Relaxed);
    // Those that had gone to the dead stream, not those that waited for a path. The turn that was under way when the stream
    // went may have handed it one batch more.
    assert!((100..=164).contains(&resent), "{resent}");
    // Again with nothing new: everything that came is known at the receiver, so nothing comes twice.
    a.route(PEER, Some(CHANNEL));
    a.send(2, 400, 300);
    assert_eq!(numbers(&carry(&mut a, &b, 1)), [400]);
}

#[test]
fn what_waited_for_a_relay_and_was_dropped_there_goes_once_more() {
    let (mut a, b, marks) = two();
    a.snapshot.peers[0].patience = Duration::from_millis(20);
    a.disconnect();
    seal(&mut a, 0..200, 1000);
    a.connect();
    a.route(PEER, Some(CHANNEL));
    // The relay has no room for the first message: its other client does not read so fast.
    let dropped = a.message();
    let mut all = numbers(&carry(&mut a, &b, 130));
    until("the rest that was not dropped", || {
        all.extend(numbers(&carry(&mut a, &b, 0)));
        all.last() == Some(&199)
    });
    let first = all[0];
    assert!(first > 50 && usize::try_from(first).unwrap() == 200 - all.len(), "{first} were dropped");
    assert!(dropped.len() > 1000 * usize::try_from(first).unwrap());
    // Of one that says nothing the relay has all that it holds: nothing goes again before the receiver was heard.
    assert_eq!(a.counters(PEER).resent.load(Relaxed), 0);
    let received = 199 - first;
    let word = |at: u32| match received.saturating_sub(64 * at) {
        64.. => u64::MAX,
        bits => (1 << bits) - 1,
    };
    let bitmap = [word(0), word(1), word(2), word(3)];
    marks.record(&[PathAck { path: RELAYED.number(), highest: 199, bitmap }], 0);
    assert_eq!(numbers(&carry(&mut a, &b, first as usize)), (0..first).collect::<Vec<_>>(), "and no other");
}

#[test]
fn what_all_arrived_and_nobody_told_of_does_not_hold_up_what_is_new() {
    let (mut a, mut b, marks) = two();
    a.snapshot.peers[0].patience = Duration::from_millis(20);
    // More than a relay is given at a time.
    let all = 400;
    (0..all).for_each(|n| a.send(2, n, 1000));
    let (mut received, mut told) = (0, 0);
    until("all to arrive, and to be told of in vain", || {
        pass_on(&mut a, &b, OTHER);
        received += std::iter::from_fn(|| b.wire.receive().unwrap()).count();
        while let Ok(fact) = b.output.facts.try_recv() {
            if let Fact::AckDue(_, via, report) = fact {
                assert_eq!((via, report.is_news()), (Some(OTHER.into()), true));
                told = report.floor();
            }
        }
        told == u64::from(all)
    });
    a.route(PEER, Some(CHANNEL));
    a.send(2, all, 1000);
    let mut newest = None;
    until("what is new", || {
        pass_on(&mut a, &b, CHANNEL);
        while let Ok(fact) = b.output.facts.try_recv() {
            if let Fact::AckDue(_, via, report) = fact {
                assert_eq!(via, Some(CHANNEL.into()), "where it comes from");
                marks.record(report.paths(), report.floor());
            }
        }
        newest = b.wire.receive().unwrap().map(|frame| number(&frame));
        newest.is_some()
    });
    assert_eq!((newest, received), (Some(all), all as usize));
    assert_eq!(a.counters(PEER).lost.load(Relaxed), 0);
}

#[test]
fn packets_of_own_sockets_do_not_enter_the_tunnel() {
    let (mut a, b, _) = two();
    // UDP from 192.0.2.7, port 41641, as the bridge that the device is a port of hands it over.
    let mut own = frame(1, 2, 0, 60);
    own[12..34]
        .copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 7, 192, 0, 2, 8]);
    own[34..36].copy_from_slice(&41_641u16.to_be_bytes());
    a.wire.send(&own).unwrap();
    assert_eq!(carry(&mut a, &b, 1), [own.clone()], "without a bridge nobody looks");
    a.snapshot.own = Arc::new(OwnSockets { addresses: vec![[192, 0, 2, 7].into()], ports: vec![41_641] });
    a.plane.publish(a.snapshot.clone());
    a.send(2, 1, 100);
    assert_eq!(numbers(&carry(&mut a, &b, 1)), [1]);
    a.wire.send(&own).unwrap();
    a.send(2, 2, 100);
    assert_eq!(numbers(&carry(&mut a, &b, 1)), [2]);
    assert_eq!(a.plane.counters().own_packets.load(Relaxed), 1);
}

#[test]
fn what_the_association_before_held_goes_first() {
    let (mut a, b, _) = two();
    a.disconnect();
    // Nobody acknowledges them: they go at once, however many.
    seal(&mut a, 0..500, 1000);
    join(&a, PEER, &b, PEER, 2);
    seal(&mut a, 500..550, 100);
    a.connect();
    a.route(PEER, Some(CHANNEL));
    assert_eq!(numbers(&carry(&mut a, &b, 550)), (0..550).collect::<Vec<_>>());
}

#[test]
fn only_the_newest_association_is_acknowledged() {
    let (mut a, mut b, _) = two();
    for n in 0..200 {
        a.send(2, n, 100);
    }
    until("the frames to be sealed", || a.counters(PEER).tx_frames.load(Relaxed) == 200);
    let (_, open) = keys(2);
    b.plane.inbound(InboundCommand::Open { slot: PEER, association: AssociationId([2; 8]), key: open });
    assert_eq!(carry(&mut a, &b, 200).len(), 200);
    // 200 packets opened would be an acknowledgement at once. The next command is taken after it would have been said.
    join(&a, PEER, &b, PEER, 3);
    a.route(PEER, Some(CHANNEL));
    a.send(2, 200, 100);
    carry(&mut a, &b, 1);
    let mut reports = Vec::new();
    until("the acknowledgement of the newest", || {
        while let Ok(fact) = b.output.facts.try_recv() {
            if let Fact::AckDue(_, _, report) = fact {
                reports.push(report.paths().first().map(|path| path.highest));
            }
        }
        !reports.is_empty()
    });
    assert_eq!(reports, [Some(0)]);
}

#[test]
fn a_peer_without_a_path_is_forgotten_as_a_place_by_a_thread_that_has_nothing_else_to_do() {
    let (mut a, b, marks) = two();
    a.send(2, 0, 100);
    carry(&mut a, &b, 1);
    marks.record(&[], 1);
    a.disconnect();
    a.send(2, 1, 100);
    // 5 s later it wakes by itself. What it keeps for the peer it keeps for longer (see `away`).
    let mut forgotten = false;
    until("the peer to be forgotten", || {
        while let Ok(fact) = a.output.facts.try_recv() {
            forgotten |= matches!(fact, Fact::Forgotten(PEER));
        }
        forgotten
    });
    a.connect();
    a.route(PEER, Some(CHANNEL));
    a.send(2, 2, 100);
    assert_eq!(numbers(&carry(&mut a, &b, 2)), [1, 2]);
}

#[test]
fn a_full_stream_stops_the_reading_and_nothing_is_lost() {
    const FRAMES: u32 = 2000;
    let (mut a, b, _) = two();
    for n in 0..FRAMES {
        a.send(2, n, 1400);
    }
    // 2.8 MB do not fit a queue of 256 KiB: the thread stops, with frames left in the device.
    let sent = || a.counters(PEER).tx_frames.load(Relaxed);
    let mut last = (sent(), Instant::now());
    until("the thread to stop reading", || {
        if sent() != last.0 {
            last = (sent(), Instant::now());
        }
        last.0 > 0 && last.1.elapsed() > Duration::from_millis(200)
    });
    let most = BYTES_MAX as u64 / 1400 + 2 * 64;
    assert!(sent() < most, "{} frames were read", sent());
    assert_eq!(numbers(&carry(&mut a, &b, FRAMES as usize)), (0..FRAMES).collect::<Vec<_>>());
}

#[test]
fn a_broadcast_goes_to_every_peer() {
    let (mut a, b, c) = (Node::new(1, &[2, 3]), Node::new(2, &[1]), Node::new(3, &[1]));
    join(&a, PeerSlot(0), &b, PEER, 1);
    join(&a, PeerSlot(1), &c, PEER, 2);
    a.route(PeerSlot(0), Some(CHANNEL));
    a.route(PeerSlot(1), Some(OTHER));
    let mut hello = frame(1, 9, 77, 60);
    hello[..6].fill(0xff);
    a.wire.send(&hello).unwrap();
    for _ in 0..2 {
        let message = a.message();
        let channel = Forward::parse(&message).unwrap().channel;
        let to = if channel == CHANNEL.channel { &b } else { &c };
        to.deliver(CHANNEL, &message);
    }
    assert_eq!(b.received(), hello);
    assert_eq!(c.received(), hello);
}

#[test]
fn a_member_that_speaks_as_another_is_not_let_in() {
    let (mut a, mut b, _) = two();
    // At `b`, the MAC that `a` will use belongs to somebody else.
    Arc::make_mut(&mut b.snapshot.directory).admit(PeerSlot(1), Record::new(mac(5))).unwrap();
    b.publish();
    a.wire.send(&frame(5, 2, 1, 80)).unwrap();
    a.send(2, 2, 80);
    assert_eq!(numbers(&carry(&mut a, &b, 1)), [2]);
    assert_eq!(b.counters(PEER).rx_dropped.load(Relaxed), 1);
}

/// What lets in of peers 0 and 1 what `rules` say and what answers.
fn access(rules: &str) -> Option<Arc<Filter>> {
    let (now, here) = (Instant::now(), Subject::by_id(NodeId([1; 32])));
    let mut access = Access::new(now, here);
    access.set_peer(now, PEER, Subject::by_id(NodeId([2; 32])));
    access.set_peer(now, PeerSlot(1), Subject::by_id(NodeId([3; 32])));
    access.set_rules(now, Rules::parse(rules.as_bytes()).unwrap());
    access.filter()
}

/// UDP between node `from` and node `to`, one port there and one here; the number of it is what `numbers` finds in a frame.
fn udp(from: u8, to: u8, ports: [u16; 2]) -> Vec<u8> {
    let ip = [0x45, 0, 0, 28, 0, 9, 0, 0, 64, 17, 0, 0, 10, 7, 0, from, 10, 7, 0, to];
    let udp = [ports[0].to_be_bytes(), ports[1].to_be_bytes(), [0, 8], [0, 0]].concat();
    [&mac(to).0[..], &mac(from).0, &[8, 0], &ip, &udp].concat()
}

/// Frames that no rule of the node allows.
fn denied(node: &Node) -> u64 {
    node.plane.counters().denied[AccessDrop::NotAllowed as usize].load(Relaxed)
}

#[test]
fn what_the_rules_do_not_let_in_reaches_neither_the_device_nor_the_switch() {
    let (mut a, mut b, c) = (Node::new(1, &[2]), Node::new(2, &[1, 3]), Node::new(3, &[2]));
    join(&a, PEER, &b, PEER, 1);
    join(&b, PEER, &a, PEER, 2);
    join(&b, PeerSlot(1), &c, PEER, 3);
    a.route(PEER, Some(CHANNEL));
    b.route(PEER, Some(CHANNEL));
    b.route(PeerSlot(1), Some(OTHER));
    b.snapshot.access = access("allow any -> any udp 53");
    b.publish();
    // From a station that `b` has not heard of yet.
    let mut answer = udp(1, 2, [123, 40_000]);
    answer[6..12].copy_from_slice(&mac(77).0);
    for frame in [&answer, &udp(1, 2, [40_000, 53]), &answer] {
        a.wire.send(frame).unwrap();
    }
    assert_eq!(carry(&mut a, &b, 1), [udp(1, 2, [40_000, 53])]);
    until("the count", || b.counters(PEER).rx_dropped.load(Relaxed) == 2);
    assert_eq!((denied(&b), b.plane.counters().not_let_in.load(Relaxed)), (2, 0));

    // What `b` asks is answered, whether it knows where the station is or asks everybody, as it does for one that was denied.
    for (to, channels) in [(mac(1), vec![CHANNEL]), (mac(77), vec![CHANNEL, OTHER])] {
        let port = u16::from(to.0[5]);
        let mut question = udp(2, 1, [40_000 + port, 123]);
        question[..6].copy_from_slice(&to.0);
        b.wire.send(&question).unwrap();
        let mut asked: Vec<_> = channels.iter().map(|_| b.message()).collect();
        asked.sort_by_key(|message| Forward::parse(message).unwrap().channel.0);
        for (message, contact) in asked.iter().zip(&channels) {
            assert_eq!(Forward::parse(message).unwrap().channel, contact.channel);
        }
        a.deliver(CHANNEL, &asked[0]);
        // Beside what it puts on its LAN of itself, since somebody else speaks there.
        until("the question", || a.wire.receive().unwrap().is_some_and(|frame| frame == question));
        let answer = udp(1, 2, [123, 40_000 + port]);
        a.wire.send(&answer).unwrap();
        assert_eq!(carry(&mut a, &b, 1), [answer]);
    }
    a.wire.send(&udp(1, 2, [123, 40_002])).unwrap();
    let message = a.message();
    b.deliver(CHANNEL, &message);
    until("the count", || denied(&b) == 3);
}

#[test]
fn a_used_up_key_is_asked_for_once_and_the_frames_wait() {
    let (mut a, b) = (Node::new(1, &[2]), Node::new(2, &[1]));
    let (seal, open) = keys(1);
    let association = AssociationId([1; 8]);
    b.plane.inbound(InboundCommand::Open { slot: PEER, association, key: open });
    let key = seal.with_limit(10);
    a.plane.outbound(OutboundCommand::Start { slot: PEER, key, marks: Arc::default() });
    a.route(PEER, Some(CHANNEL));
    for n in 0..60 {
        a.send(2, n, 60);
    }
    // Twice the limit is the end of the key (protocol §4.8).
    assert_eq!(carry(&mut a, &b, 20).len(), 20);
    let (seal, open) = keys(2);
    b.plane.inbound(InboundCommand::AddKey { association, key: open });
    a.plane.outbound(OutboundCommand::AddKey { slot: PEER, key: seal });
    assert_eq!(numbers(&carry(&mut a, &b, 40)), (20..60).collect::<Vec<_>>());
    let mut asked = 0;
    while let Ok(fact) = a.output.facts.try_recv() {
        asked += u32::from(matches!(fact, Fact::KeyUsedUp(PEER)));
    }
    assert!((1..=3).contains(&asked), "asked {asked} times");
}

#[test]
fn stopping_takes_a_moment_with_every_queue_full() {
    let (a, b, _) = two();
    for n in 0..2000 {
        a.send(2, n, 1400);
    }
    let mut garbage = ForwardBuilder::new(CHANNEL.channel, vec![]);
    while garbage.push(&[0xc1; 100]) {}
    let garbage = garbage.finish();
    for _ in 0..64 {
        b.deliver(CHANNEL, &garbage);
    }
    let began = Instant::now();
    a.plane.stop();
    // A plane that is only dropped ends as well.
    drop(b.plane);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(matches!(b.wire.send(&[0; 60]), Err(DeviceFault::Gone)), "the device went with its threads");
}

#[test]
fn a_device_that_goes_away_is_said_once_by_whoever_sees_it() {
    let (a, _b, _) = two();
    let Node { plane, mut output, wire, .. } = a;
    drop(wire);
    let mut lost = None;
    until("the loss to be told", || {
        lost = output.lost.try_recv().ok();
        lost.is_some()
    });
    assert!(matches!(lost, Some(DeviceFault::Gone)));
    plane.stop();
}

#[test]
fn a_flood_of_control_packets_is_dropped_and_counted_and_data_passes() {
    let (mut a, b, _) = two();
    let mut garbage = ForwardBuilder::new(CHANNEL.channel, vec![]);
    for _ in 0..PACKET_QUEUE / 4 + 100 {
        assert!(garbage.push(&[0xc1; 40]));
    }
    b.deliver(CHANNEL, &garbage.finish());
    a.send(2, 1, 60);
    assert_eq!(numbers(&carry(&mut a, &b, 1)), [1]);
    assert_eq!(b.plane.counters().control_dropped.load(Relaxed), 100);
}

#[test]
fn a_peer_that_floods_with_control_packets_has_its_share_and_others_have_theirs() {
    let (_a, mut b, _) = two();
    let message = |contact: Contact, packets: usize| {
        let mut message = ForwardBuilder::new(contact.channel, vec![]);
        for _ in 0..packets {
            assert!(message.push(&[0xc1; 40]));
        }
        message.finish()
    };
    b.deliver(CHANNEL, &message(CHANNEL, 2 * PACKET_QUEUE));
    b.deliver(OTHER, &message(OTHER, 10));
    // Nothing is taken out before all was looked at: were the queue all his, nothing of the other one would get in.
    let mut last = ForwardBuilder::new(CHANNEL.channel, vec![]);
    assert!(last.push(&[0xff; 40]));
    b.deliver(CHANNEL, &last.finish());
    until("the last of it", || b.plane.counters().unknown_kind.load(Relaxed) == 1);
    let (mut first, mut other) = (0, 0);
    until("what both said", || {
        while let Ok(packet) = b.output.packets.try_recv() {
            first += usize::from(packet.via == CHANNEL.into());
            other += usize::from(packet.via == OTHER.into());
        }
        other == 10
    });
    assert_eq!(first, PACKET_QUEUE / 4);
    // Once it is taken out there is room for more of his.
    b.deliver(CHANNEL, &message(CHANNEL, 10));
    until("what the first one says later", || {
        first += usize::from(b.output.packets.try_recv().is_ok());
        first == PACKET_QUEUE / 4 + 10
    });
}

#[test]
fn a_forgotten_peer_leaves_nothing_to_the_next_in_its_slot_and_what_waited_is_counted() {
    let (mut a, b) = (Node::new(1, &[2]), Node::new(2, &[1]));
    // Kept for whoever is in the slot: the newest 64 of these. That one was dropped says that all were taken.
    for _ in 0..65 {
        a.send(2, 1, 60);
    }
    until("the frames to be taken", || a.counters(PEER).tx_dropped.load(Relaxed) == 1);
    a.plane.outbound(OutboundCommand::Remove(PEER));
    join(&a, PEER, &b, PEER, 1);
    a.route(PEER, Some(CHANNEL));
    a.send(2, 2, 60);
    assert_eq!(numbers(&carry(&mut a, &b, 1)), [2]);
    let dropped = a.counters(PEER).tx_dropped.load(Relaxed);
    assert_eq!(dropped, 65, "what was kept for the one before is counted");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_relay_sends_the_threads_go_on(
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..40),
        packets in proptest::collection::vec((0xbeu8..0xcb, proptest::collection::vec(any::<u8>(), 0..200)), 0..60),
        cuts in proptest::collection::vec((0usize..120, any::<u8>()), 0..20),
    ) {
        let (mut a, b, _) = two();
        a.send(2, 1, 60);
        let good = a.message();
        for message in &messages {
            // Not even the layout was checked.
            b.deliver(CHANNEL, message);
        }
        for (kind, rest) in &packets {
            let mut builder = ForwardBuilder::new(CHANNEL.channel, vec![]);
            prop_assert!(builder.push(&[&[*kind], &rest[..]].concat()));
            b.deliver(CHANNEL, &builder.finish());
        }
        for (at, value) in cuts {
            let mut bent = good.to_vec();
            let at = at % bent.len();
            bent[at] ^= value;
            if value != 0 && at >= 7 {
                b.deliver(CHANNEL, &bent);
            }
        }
        b.deliver(CHANNEL, &good);
        prop_assert_eq!(number(&b.received()), 1);
        prop_assert!(b.wire.receive().unwrap().is_none());
    }
}
