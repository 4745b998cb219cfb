//! A peer whose path is away or in doubt: what is kept for it, for how long, and what becomes of the TAP meanwhile. In the test's own
//! time.

mod resting;
mod slow;

use super::*;
use crate::transport::udp::MemorySocket;
use shadowmesh_proto::path::select::PathKind;
use shadowmesh_proto::session::PathSlot;
use shadowmesh_proto::wire::control::PathAck;
use shadowmesh_proto::wire::header::Header;
use std::collections::{BTreeSet, VecDeque};

const DIRECT: PathSlot = PathKind::DirectUdp.slot();
/// Where datagrams go.
const THERE: &str = "192.0.2.1:41641";
/// Frames that fit the device's queue.
const DEVICE: usize = 3_000;

/// A sending plane without threads, and its peers 2 and 3, which have keys.
struct Sender {
    lockstep: Lockstep,
    output: PlaneOutput,
    wire: MemoryPort,
    socket: Arc<MemorySocket>,
    snapshot: Snapshot,
    marks: [Arc<AckMarks>; 2],
    began: Instant,
    now: Instant,
    sent: u32,
    left: Vec<u64>,
}

impl Sender {
    fn new(ring: RingLimits) -> Self {
        Self::with_pool(ring, ChunkPool::new(POOL_BYTES))
    }

    fn with_pool(ring: RingLimits, pool: Arc<ChunkPool>) -> Self {
        let (wire, device) = pair(&"mem0".parse().unwrap(), DEVICE).unwrap();
        let mut directory = Directory::new(mac(1));
        for (slot, peer) in [(0, 2), (1, 3)] {
            directory.admit(PeerSlot(slot), Record::new(mac(peer))).unwrap();
        }
        let peers = vec![PeerRoute { is_expected: true, ..PeerRoute::default() }; 2];
        let snapshot = picture(directory, peers);
        let socket = Arc::new(MemorySocket::new(41_641).unwrap());
        let (lockstep, output) = Lockstep::new(
            device.into_device(),
            DatagramSocket::Memory(Arc::clone(&socket)),
            snapshot.clone(),
            pool,
            ring,
        )
        .unwrap();
        let marks: [Arc<AckMarks>; 2] = Default::default();
        for (slot, marks) in (0..).zip(&marks) {
            let (key, _) = keys(u8::try_from(slot).unwrap());
            let marks = Arc::clone(marks);
            lockstep.plane().outbound(OutboundCommand::Start { slot: PeerSlot(slot), key, marks });
        }
        let began = Instant::now();
        Self { lockstep, output, wire, socket, snapshot, marks, began, now: began, sent: 0, left: vec![] }
    }

    /// One whose direct path swallowed so many frames and is given up, and the relay by which its peer's data goes instead.
    fn after_a_hole(frames: u32, patience: Duration) -> (Self, Relay) {
        let mut a = Self::new(RingLimits::default());
        a.snapshot.peers[0].patience = patience;
        a.route(PEER, true, false);
        a.send(2, frames, 1000);
        a.snapshot.peers[0].given_up[usize::from(DIRECT.number())] += 1;
        let relay = a.relay();
        (a, relay)
    }

    /// Where data of the peer goes, and whether that is in doubt.
    fn route(&mut self, slot: PeerSlot, is_there: bool, is_doubted: bool) {
        let route = &mut self.snapshot.peers[slot.0 as usize];
        route.via = is_there.then(|| Via::Udp(THERE.parse().unwrap()));
        route.doubted = is_doubted.then_some(DIRECT);
        self.lockstep.plane().publish(self.snapshot.clone());
        self.run();
    }

    fn run(&mut self) {
        let mut is_done = false;
        while !is_done {
            self.lockstep.run(self.now).unwrap();
            let before = self.left.len();
            while let Some((_, packet)) = self.socket.take() {
                self.left.push(Header::parse(&packet).unwrap().counter);
            }
            is_done = self.left.len() == before;
        }
    }

    /// Lets time pass, up to `secs` after the beginning.
    fn until_secs(&mut self, secs: u64) {
        let end = self.began + Duration::from_secs(secs);
        while let Some(due) = self.lockstep.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now + Duration::from_millis(1));
            self.run();
        }
        self.now = end;
        self.run();
    }

    fn send(&mut self, to: u8, frames: u32, len: usize) {
        for _ in 0..frames {
            self.wire.send(&frame(1, to, self.sent, len)).unwrap();
            self.sent += 1;
        }
        self.run();
    }

    /// The counters of the packets that left since the last call.
    fn left(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.left)
    }

    /// Its peer's data goes over a relay's stream from now on.
    fn relay(&mut self) -> Relay {
        let (handle, stream) = wide_stream_queue(self.lockstep.plane().outbound_waker());
        self.snapshot.streams[0] = Some(handle);
        self.snapshot.peers[0].via = Some(Via::from(CHANNEL));
        self.lockstep.plane().publish(self.snapshot.clone());
        self.run();
        Relay { stream, held: VecDeque::new(), bytes: 0, dropped: 0, credit: 0, line: 0, received: vec![] }
    }

    fn lost(&self, slot: PeerSlot) -> u64 {
        self.snapshot.peers[slot.0 as usize].counters.lost.load(Relaxed)
    }
}

/// A relay whose other client reads slowly, and that client.
struct Relay {
    stream: StreamQueue,
    held: VecDeque<Bytes>,
    bytes: usize,
    dropped: usize,
    /// What the client may have of it now.
    credit: usize,
    /// Bytes that a line may still take of it; below zero while it is busy with what it took.
    line: isize,
    /// Whether a counter came.
    received: Vec<bool>,
}

impl Relay {
    /// What it holds for a client: it drops the oldest.
    const HOLDS: usize = 200_000;

    /// Takes what there is, and lets the client have `bytes` of it.
    fn run(&mut self, a: &mut Sender, bytes: usize) {
        while let Some(message) = self.stream.try_next() {
            self.stream.on_sent(message.len());
            self.bytes += message.len();
            self.held.push_back(message);
            a.run();
        }
        while self.bytes > Self::HOLDS {
            self.bytes -= self.held.pop_front().unwrap().len();
            self.dropped += 1;
        }
        self.credit = if self.held.is_empty() { 0 } else { self.credit + bytes };
        while let Some(message) = self.held.pop_front_if(|message| message.len() <= self.credit) {
            (self.bytes, self.credit) = (self.bytes - message.len(), self.credit - message.len());
            for packet in Forward::parse(&message).unwrap().packets() {
                self.on_received(Header::parse(packet).unwrap().counter);
            }
        }
    }

    /// The client has it, by whatever path.
    fn on_received(&mut self, counter: u64) {
        let at = usize::try_from(counter).unwrap();
        if self.received.len() <= at {
            self.received.resize(at + 1, false);
        }
        self.received[at] = true;
    }

    /// What the client says that it has.
    fn acknowledge(&self, marks: &AckMarks) {
        acknowledge(&self.received, RELAYED, marks);
    }
}

/// Says by `path` which counters were received.
fn acknowledge(received: &[bool], path: PathSlot, marks: &AckMarks) {
    let at = |counter: usize| received.get(counter).is_some_and(|is_there| *is_there);
    let floor = received.iter().take_while(|is_there| **is_there).count();
    let mut acks = vec![];
    for highest in (0..received.len()).rev().filter(|counter| at(*counter)).step_by(200) {
        let mut bitmap = [0; 4];
        for back in (1..=256.min(highest)).filter(|back| at(highest - back)) {
            bitmap[(back - 1) / 64] |= 1 << ((back - 1) % 64);
        }
        acks.push(PathAck { path: path.number(), highest: highest as u64, bitmap });
    }
    marks.record(&acks, floor as u64);
}

#[test]
fn what_is_sent_behind_a_backlog_that_a_relay_cannot_hold_comes_as_well() {
    let mut a = Sender::new(RingLimits::default());
    a.snapshot.peers[0].patience = Duration::from_millis(40);
    a.route(PEER, true, false);
    a.route(PEER, false, false);
    a.send(2, 1_000, 1000);
    let mut relay = a.relay();
    let marks = Arc::clone(&a.marks[0]);
    // Half a megabyte a second is sent, four times as much read; for three seconds, and then until nothing moves.
    for tick in 1..=1_000 {
        a.now = a.began + Duration::from_millis(10 * tick);
        if tick <= 300 {
            a.send(2, 5, 1000);
        }
        a.run();
        relay.run(&mut a, 20_000);
        if tick % 4 == 0 {
            relay.acknowledge(&marks);
        }
    }
    assert!(relay.dropped > 0, "or it had room");
    let missing: Vec<_> =
        (0..2_500).filter(|at| !relay.received.get(*at).copied().unwrap_or_default()).collect();
    assert_eq!((missing, a.lost(PEER)), (vec![], 0));
    // It does not go on for ever.
    let resent = a.snapshot.peers[0].counters.resent.load(Relaxed);
    assert!(resent < 5_000, "{resent}");
    a.until_secs(60);
    assert_eq!(a.snapshot.peers[0].counters.resent.load(Relaxed), resent);
}

#[test]
fn a_flow_that_comes_faster_than_what_is_behind_a_backlog_may_leave_is_dropped_before_it_is_sealed() {
    for (reads, is_slow) in [(200_000, false), (20_000, true)] {
        let mut a = Sender::new(RingLimits::default());
        a.snapshot.peers[0].patience = Duration::from_millis(40);
        a.route(PEER, true, false);
        a.route(PEER, false, false);
        a.send(2, 500, 1000);
        let mut relay = a.relay();
        let marks = Arc::clone(&a.marks[0]);
        // Ten megabytes a second for two seconds.
        for tick in 1..=1_500 {
            a.now = a.began + Duration::from_millis(10 * tick);
            if tick <= 200 {
                a.send(2, 100, 1000);
            }
            a.run();
            relay.run(&mut a, reads);
            if tick % 4 == 0 {
                relay.acknowledge(&marks);
            }
        }
        let counters = &a.snapshot.peers[0].counters;
        let [sealed, dropped] = [&counters.tx_frames, &counters.tx_dropped].map(|count| count.load(Relaxed));
        assert_eq!(sealed + dropped, 20_500);
        assert_eq!(a.lost(PEER), 0);
        assert_eq!(relay.received[..500], [true; 500], "what had waited");
        let received = relay.received.iter().filter(|is_there| **is_there).count();
        if is_slow {
            // What goes at once when nothing waits any more is the relay's to drop.
            assert!(received > 2_500, "it went on all the time: {received}");
        } else {
            assert!(received as u64 == sealed && dropped < 4_000, "until the window was large: {dropped}");
        }
    }
}

#[test]
fn a_peer_that_acknowledges_nothing_leaves_others_memory_for_what_may_have_to_go_again() {
    let mut a = Sender::with_pool(RingLimits::default(), ChunkPool::new(2 << 20));
    a.route(PEER, true, false);
    a.route(PeerSlot(1), true, false);
    // More than there is memory for, of which nothing is acknowledged; then a megabyte for the other peer.
    a.send(2, 2_500, 1000);
    a.send(3, 1_000, 1000);
    assert_eq!(a.left().len(), 3_500);
    a.snapshot.peers[1].given_up[usize::from(DIRECT.number())] += 1;
    a.route(PeerSlot(1), true, false);
    a.until_secs(1);
    let again: BTreeSet<_> = a.left().into_iter().collect();
    assert!(again.len() > 700, "half of the memory is its own: {}", again.len());
}

#[test]
fn what_is_kept_for_a_peer_that_is_away_is_not_taken_for_one_that_acknowledges_nothing() {
    let mut a = Sender::with_pool(RingLimits::default(), ChunkPool::new(2 << 20));
    a.route(PeerSlot(1), true, false);
    a.route(PEER, true, false);
    a.route(PEER, false, false);
    a.send(2, 1_400, 1000);
    assert!(a.left().is_empty());
    a.send(3, 1_500, 1000);
    assert_eq!(a.left().len(), 1_500);
    a.route(PEER, true, false);
    a.until_secs(2);
    assert_eq!(a.left().into_iter().collect::<BTreeSet<_>>(), (0..1_400).collect());
    assert_eq!(a.lost(PEER), 0);
}

#[test]
fn a_flow_goes_on_behind_more_than_a_window_that_a_silent_path_swallowed() {
    let (mut a, mut relay) = Sender::after_a_hole(600, Duration::from_millis(80));
    let marks = Arc::clone(&a.marks[0]);
    for tick in 1..=300 {
        a.now = a.began + Duration::from_millis(10 * tick);
        if tick <= 100 {
            a.send(2, 6, 1000);
        }
        a.run();
        relay.run(&mut a, 100_000);
        if tick % 8 == 0 {
            relay.acknowledge(&marks);
        }
    }
    let counters = &a.snapshot.peers[0].counters;
    assert_eq!((counters.tx_dropped.load(Relaxed), a.lost(PEER)), (0, 0));
    assert_eq!(relay.received, [true; 1_200]);
}

#[test]
fn a_window_of_which_every_acknowledgement_was_lost_does_not_wait_for_ever() {
    let (mut a, mut relay) = Sender::after_a_hole(600, Duration::from_millis(80));
    let marks = Arc::clone(&a.marks[0]);
    for tick in 1..=600 {
        a.now = a.began + Duration::from_millis(10 * tick);
        a.run();
        let before = relay.received.len();
        relay.run(&mut a, 1 << 30);
        // It says so when something comes, and for a second that is lost.
        if tick > 100 && relay.received.len() > before {
            relay.acknowledge(&marks);
        }
        if tick == 100 {
            assert!(relay.received.len() < 300, "it waits for a word: {}", relay.received.len());
        }
    }
    assert_eq!((a.lost(PEER), relay.received), (0, vec![true; 600]));
}

#[test]
fn a_stream_that_is_full_and_in_doubt_is_waited_for_asleep() {
    let (mut a, mut relay) = Sender::after_a_hole(100, Duration::ZERO);
    let marks = Arc::clone(&a.marks[0]);
    for tick in 1..=100 {
        a.now = a.began + Duration::from_millis(10 * tick);
        a.run();
        relay.run(&mut a, 1 << 30);
        relay.acknowledge(&marks);
    }
    assert_eq!(relay.received, [true; 100]);
    a.snapshot.peers[0].doubted = Some(RELAYED);
    a.lockstep.plane().publish(a.snapshot.clone());
    a.send(2, 1_000, 1000);
    let sealed = a.snapshot.peers[0].counters.tx_frames.load(Relaxed);
    assert_eq!(sealed, 1_100, "as much as the ring holds is kept for it");
    assert!(a.lockstep.poll_timeout().is_none_or(|due| due > a.now));
}

#[test]
fn what_a_network_held_up_and_brings_after_all_says_nothing_of_what_waits_to_go_again() {
    // To the relay, which takes a window of it and is silent as well; then back.
    let (mut a, mut relay) = Sender::after_a_hole(600, Duration::from_millis(40));
    relay.run(&mut a, 0);
    a.left();
    a.snapshot.peers[0].given_up[usize::from(RELAYED.number())] += 1;
    a.route(PEER, true, false);
    let first = a.left().len();
    assert!(first < 100, "the rest waits");
    // A queue on the way had kept the last of the first time.
    a.marks[0].record(&[PathAck { path: DIRECT.number(), highest: 599, bitmap: [u64::MAX, 0, 0, 0] }], 0);
    a.until_secs(1);
    let again: BTreeSet<_> = a.left().into_iter().collect();
    let forgotten: Vec<_> = (first as u64..535).filter(|counter| !again.contains(counter)).collect();
    assert_eq!((forgotten, a.lost(PEER)), (vec![], 0));
}

#[test]
fn what_a_relay_dropped_while_its_stream_was_in_doubt_goes_by_the_path_that_data_takes_then() {
    for is_left in [true, false] {
        let mut a = Sender::new(RingLimits::default());
        a.snapshot.peers[0].patience = Duration::from_millis(40);
        let mut relay = a.relay();
        for _ in 0..10 {
            a.now += Duration::from_millis(10);
            a.send(2, 10, 1000);
            relay.run(&mut a, 12_000);
            relay.acknowledge(&a.marks[0]);
        }
        a.snapshot.peers[0].doubted = Some(RELAYED);
        a.lockstep.plane().publish(a.snapshot.clone());
        // Its other client is away for a moment: of a thousand the relay keeps the newest.
        for _ in 0..100 {
            a.now += Duration::from_millis(3);
            a.send(2, 10, 1000);
            relay.run(&mut a, 0);
        }
        assert!(relay.dropped > 50, "messages; or it had room: {}", relay.dropped);
        a.snapshot.peers[0].doubted = None;
        if is_left {
            a.route(PEER, true, false);
        } else {
            a.lockstep.plane().publish(a.snapshot.clone());
        }
        for _ in 0..400 {
            a.now += Duration::from_millis(10);
            a.run();
            relay.run(&mut a, 50_000);
            a.left().into_iter().for_each(|counter| relay.on_received(counter));
            relay.acknowledge(&a.marks[0]);
        }
        let missing: Vec<_> =
            (0..1_100).filter(|at| !relay.received.get(*at).copied().unwrap_or_default()).collect();
        assert_eq!((missing, a.lost(PEER)), (vec![], 0), "left: {is_left}");
        let resent = a.snapshot.peers[0].counters.resent.load(Relaxed);
        assert!(resent < 2_000, "left: {is_left}: {resent}");
    }
}

#[test]
fn what_a_lossy_path_lost_at_the_last_does_not_come_when_that_dies_later() {
    for (secs, comes) in [(4, vec![]), (0, (350..500).filter(|counter| counter % 5 == 0).collect::<Vec<_>>())]
    {
        let mut a = Sender::new(RingLimits::default());
        a.route(PEER, true, false);
        a.send(2, 600, 100);
        a.left();
        // Each fifth is lost, and of the last hundred nobody says anything.
        let there: Vec<bool> = (0..500).map(|counter| counter % 5 != 0).collect();
        acknowledge(&there, DIRECT, &a.marks[0]);
        // It is left by plan, and given up some time later.
        let mut relay = a.relay();
        a.until_secs(secs);
        a.snapshot.peers[0].given_up[usize::from(DIRECT.number())] += 1;
        a.lockstep.plane().publish(a.snapshot.clone());
        a.run();
        relay.run(&mut a, usize::MAX / 2);
        let came: Vec<u64> =
            (0..).zip(&relay.received).filter_map(|(counter, came)| came.then_some(counter)).collect();
        let gaps: Vec<u64> = came.iter().copied().filter(|counter| (350..500).contains(counter)).collect();
        assert_eq!(gaps, comes, "{secs} s later");
        let tail: Vec<u64> = came.into_iter().filter(|counter| *counter >= 500).collect();
        assert!(
            (500..600).all(|counter| tail.contains(&counter)),
            "what may have gone with the path: {tail:?}"
        );
        assert_eq!(a.lost(PEER), 0);
    }
}

#[test]
fn what_comes_behind_a_paced_backlog_is_paced_as_well_and_goes_until_it_is_acknowledged() {
    let mut a = Sender::new(RingLimits::default());
    a.snapshot.peers[0].patience = Duration::from_millis(40);
    a.route(PEER, true, false);
    a.route(PEER, false, false);
    a.send(2, 1_000, 1000);
    a.route(PEER, true, false);
    a.send(2, 1_000, 1000);
    let mut left = a.left();
    for _ in 0..35 {
        a.now += Duration::from_millis(2);
        a.run();
        let now = a.left();
        assert!(now.len() <= 64 << 10 >> 9, "{} at a time", now.len());
        left.extend(now);
    }
    assert_eq!(left, (0..2_000).collect::<Vec<_>>());
    // The burst filled some queue: the last of it was dropped there, and what came right behind it.
    a.send(2, 10, 1000);
    assert_eq!(a.left(), (2_000..2_010).collect::<Vec<_>>());
    let acks = [PathAck { path: DIRECT.number(), highest: 1_799, bitmap: [u64::MAX; 4] }];
    a.marks[0].record(&acks, 1_799);
    a.until_secs(10);
    assert_eq!(a.left().into_iter().collect::<BTreeSet<_>>(), (1_800..2_010).collect());
    // What comes behind the few that are missing in the end is the network's to drop.
    a.marks[0].record(&[PathAck { highest: 1_989, ..acks[0] }], 1_989);
    a.until_secs(25);
    a.send(2, 10, 1000);
    a.left();
    a.until_secs(55);
    assert_eq!(a.left().into_iter().collect::<BTreeSet<_>>(), (1_990..2_010).collect());
}

#[test]
fn what_waited_for_a_way_by_datagram_is_paced_and_goes_until_it_is_acknowledged() {
    let mut a = Sender::new(RingLimits::default());
    a.snapshot.peers[0].patience = Duration::from_millis(40);
    a.route(PEER, true, false);
    a.route(PEER, false, false);
    a.send(2, 1_000, 1000);
    a.route(PEER, true, false);
    assert!(a.left().len() < 100, "not all at once");
    a.until_secs(1);
    // Of those that left last the network lost nothing.
    let acks = [PathAck { path: DIRECT.number(), highest: 999, bitmap: [u64::MAX; 4] }];
    a.marks[0].record(&acks, 0);
    a.left();
    a.until_secs(10);
    let again: BTreeSet<_> = a.left().into_iter().collect();
    assert_eq!(again, (0..743).collect());
    a.marks[0].record(&acks, 1_000);
    a.until_secs(20);
    a.left();
    a.until_secs(60);
    assert_eq!((a.left(), a.lost(PEER)), (vec![], 0));
}

#[test]
fn what_a_full_ring_overwrote_before_it_ever_left_is_counted_as_lost_when_its_turn_comes() {
    let mut a = Sender::new(RingLimits::TINY);
    a.route(PEER, true, false);
    a.route(PEER, false, false);
    a.send(2, 100, 1400);
    a.route(PEER, true, false);
    let left = a.left();
    assert!(left.len() < 50 && left.last() == Some(&99), "{left:?}");
    // Nobody acknowledges anything.
    assert_eq!(a.lost(PEER), 100 - left.len() as u64);
}

#[test]
fn what_is_sealed_for_a_peer_without_a_path_waits_for_a_minute() {
    let mut a = Sender::new(RingLimits::default());
    a.route(PEER, true, false);
    a.route(PEER, false, false);
    a.send(2, 10, 100);
    a.until_secs(59);
    a.route(PEER, true, false);
    assert_eq!((a.left(), a.lost(PEER)), ((0..10).collect(), 0));
}

#[test]
fn what_is_older_is_given_up_and_counted() {
    let mut a = Sender::new(RingLimits::default());
    a.route(PEER, true, false);
    a.route(PEER, false, false);
    a.send(2, 10, 100);
    a.until_secs(62);
    assert_eq!(a.lost(PEER), 10);
    // Whoever was away for so long is not kept anything for that is not expected back.
    let forgotten = std::iter::from_fn(|| a.output.facts.try_recv().ok());
    assert_eq!(forgotten.filter(|fact| matches!(fact, Fact::Forgotten(PEER))).count(), 1);
    a.route(PEER, true, false);
    a.send(2, 1, 100);
    assert_eq!(a.left(), [10], "what was given up does not come");
}

#[test]
fn a_ring_that_fills_in_doubt_leaves_frames_in_the_device_and_counts_what_that_drops() {
    let ring = RingLimits { bytes: 64 << 10, packets: 1_000 };
    let mut a = Sender::new(ring);
    a.route(PEER, true, true);
    let fits = 60;
    a.send(2, 200, 1_000);
    let left = a.left();
    assert!(left.len() >= fits, "{} left", left.len());
    assert!(left.len() < 200, "the rest is in the device");
    // More than the device holds.
    let too_many = 100;
    let room = DEVICE - (200 - left.len());
    a.send(2, u32::try_from(room + too_many).unwrap(), 100);
    assert_eq!(a.left().len(), 0, "nothing is read");
    let overwritten = a.lost(PEER);
    a.route(PEER, true, false);
    assert_eq!(a.lost(PEER) - overwritten, too_many as u64, "what the device dropped is said");
    assert_eq!(a.left().len(), DEVICE);
}

#[test]
fn a_peer_that_plays_dead_holds_up_others_for_half_a_second_in_ten() {
    let ring = RingLimits { bytes: 64 << 10, packets: 1_000 };
    let mut a = Sender::new(ring);
    a.route(PEER, true, true);
    a.route(PeerSlot(1), true, false);
    a.send(2, 100, 1_000);
    a.left();
    // Nobody else is sent to, as far as the thread can see: what is for the other lies in the device.
    a.send(3, 1, 100);
    assert_eq!(a.left().len(), 0);
    a.until_secs(1);
    a.send(2, 200, 1_000);
    a.send(3, 1, 100);
    assert!(a.left().len() > 200, "the device is read, whatever is overwritten");
    a.until_secs(9);
    a.send(2, 200, 1_000);
    a.send(3, 1, 100);
    assert_eq!(a.left().len(), 201);
}

#[test]
fn one_peer_in_doubt_does_not_hold_up_another() {
    let ring = RingLimits { bytes: 64 << 10, packets: 1_000 };
    let mut a = Sender::new(ring);
    a.route(PEER, true, true);
    a.route(PeerSlot(1), true, false);
    a.send(3, 1, 100);
    a.send(2, 200, 1_000);
    a.send(3, 5, 100);
    assert_eq!(a.left().len(), 206, "all were read");
    // Nor one of which everything is acknowledged just now.
    a.marks[1].record(&[PathAck { path: DIRECT.number(), highest: 5, bitmap: [u64::MAX; 4] }], 0);
    a.until_secs(1);
    a.send(2, 200, 1_000);
    a.send(3, 5, 100);
    assert_eq!(a.left().len(), 205);
}

#[test]
fn a_connection_that_falls_silent_loses_nothing_and_what_waited_for_it_goes_by_the_next_path() {
    let mut a = Sender::new(RingLimits::default());
    let (handle, mut taker) = wide_stream_queue(a.lockstep.plane().outbound_waker());
    let link = TcpLink { number: 1, remote: "192.0.2.1:5".parse().unwrap() };
    a.snapshot.links = vec![(link, handle.clone())];
    a.snapshot.peers[0].via = Some(Via::Tcp(link));
    a.lockstep.plane().publish(a.snapshot.clone());
    let taken = |queue: &mut StreamQueue| {
        let bytes = std::iter::from_fn(|| queue.try_next()).map(|message| message.len()).sum();
        queue.on_sent(bytes);
        bytes
    };
    let counted = |a: &Sender| {
        let counters = &a.snapshot.peers[0].counters;
        (counters.tx_frames.load(Relaxed), counters.tx_dropped.load(Relaxed))
    };
    // A megabyte a second.
    for tenth in 0..20 {
        a.now = a.began + Duration::from_millis(100 * tenth);
        a.send(2, 100, 1000);
        assert!(taken(&mut taker) > 100_000);
    }
    assert_eq!(counted(&a), (2_000, 0));
    // It takes nothing more: its queue is full, and the rest waits unsealed.
    a.send(2, 700, 1000);
    assert!(!handle.has_room());
    let (sealed, dropped) = counted(&a);
    let queued = sealed - 2_000;
    assert!(dropped == 0 && queued <= BYTES_MAX as u64 / 1000, "{queued} were sealed");
    // Until there is another path.
    a.now += Duration::from_millis(500);
    a.snapshot.peers[0].given_up[usize::from(PathKind::DirectTcp.slot().number())] += 1;
    a.route(PEER, true, false);
    a.until_secs(4);
    let left: BTreeSet<_> = a.left().into_iter().collect();
    assert!((2_000..2_700).all(|counter| left.contains(&counter)));
    assert_eq!((counted(&a), a.lost(PEER)), ((2_700, 0), 0));
}
