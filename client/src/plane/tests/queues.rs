//! An outbound half with two queues, whose threads are driven by hand: what one has read, sealed or not yet sent when another thing happens.

mod live;

use super::*;
use crate::plane::outbound::{Queue, Reading};
use crate::transport::udp::MemorySocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shadowmesh_proto::session::open::META_MOVED;
use shadowmesh_proto::session::{OpenError, OpenHalf};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::ControlFlow;

const DIRECT: PathSlot = PathKind::DirectUdp.slot();
/// Where node 2 is.
const THERE: &str = "192.0.2.2:41641";
/// Where node 1 is.
const HERE: &str = "192.0.2.1:41641";

fn there() -> Via {
    Via::Udp(THERE.parse().unwrap())
}

/// What a packet turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Frame(u32),
    /// Nothing more comes by the path.
    Marker,
    /// It had come before.
    Twice,
}

/// Node 1, which sends to node 2.
struct Several {
    plane: Plane,
    output: PlaneOutput,
    queues: Vec<Queue>,
    wires: Vec<MemoryPort>,
    socket: Arc<MemorySocket>,
    stream: StreamQueue,
    snapshot: Snapshot,
    marks: Arc<AckMarks>,
    opener: OpenHalf,
    now: Instant,
}

impl Several {
    fn new() -> Self {
        let (wires, devices): (Vec<_>, Vec<_>) =
            (0..2).map(|_| pair(&"mem0".parse().unwrap(), 1_000).unwrap()).unzip();
        let mut directory = Directory::new(mac(1));
        directory.admit(PEER, Record::new(mac(2))).unwrap();
        let route = PeerRoute { is_expected: true, via: Some(there()), ..PeerRoute::default() };
        let mut snapshot = picture(directory, vec![route]);
        let socket = Arc::new(MemorySocket::new(41_641).unwrap());
        let mut devices = devices.into_iter().map(MemoryPort::into_device);
        let (plane, halves, output) = Plane::assemble(
            Queues::new(devices.next().unwrap(), devices.collect()),
            DatagramSocket::Memory(Arc::clone(&socket)),
            snapshot.clone(),
            ChunkPool::new(POOL_BYTES),
            RingLimits::default(),
        )
        .unwrap();
        let queues = std::iter::once(halves.outbound).chain(halves.others);
        let queues = queues.map(|queue| match queue {
            Reading::Of(queue) => queue,
            Reading::Alone(_) => unreachable!("there are two"),
        });
        let (seal, open) = keys(1);
        let marks = Arc::new(AckMarks::new());
        plane.outbound(OutboundCommand::Start { slot: PEER, key: seal, marks: Arc::clone(&marks) });
        let mut opener = OpenHalf::new();
        assert_eq!(opener.install(open), None);
        let (handle, stream) = wide_stream_queue(plane.outbound_waker());
        snapshot.streams[0] = Some(handle);
        let queues = queues.collect();
        let now = Instant::now();
        let mut made = Self { plane, output, queues, wires, socket, stream, snapshot, marks, opener, now };
        made.publish();
        made
    }

    /// Publishes its picture, and has the first queue's thread take it in.
    fn publish(&mut self) {
        self.plane.publish(self.snapshot.clone());
        self.turn(0);
    }

    /// Data goes by another path from now on, and the one before is given up or not.
    fn route(&mut self, via: Via, gives_up: bool) {
        let route = &mut self.snapshot.peers[0];
        let before = route.via.replace(via).unwrap().slot();
        route.given_up[usize::from(before.number())] += u64::from(gives_up);
        self.publish();
    }

    /// Frames for the queue.
    fn send(&self, queue: usize, numbers: Range<u32>) {
        numbers.for_each(|n| self.wires[queue].send(&frame(1, 2, n, 80)).unwrap());
    }

    fn seal(&mut self, queue: usize) {
        let turn = self.queues[queue].read(self.now).unwrap();
        let stepped = self.queues[queue].seal(self.now, turn).unwrap();
        assert!(stepped.is_continue());
    }

    fn leave(&mut self, queue: usize) {
        self.queues[queue].leave();
    }

    fn turn(&mut self, queue: usize) {
        assert!(self.queues[queue].step(self.now).unwrap().is_continue());
    }

    fn open(&mut self, path: PathSlot, packet: &[u8]) -> Came {
        let mut room = vec![0; OpenHalf::plaintext_len(packet)];
        match self.opener.open(self.now, path, packet, &mut room) {
            Ok(opened) if opened.meta & META_MOVED != 0 => Came::Marker,
            Ok(opened) => Came::Frame(number(opened.frame)),
            Err(OpenError::Replayed) => Came::Twice,
            Err(error) => panic!("{error}"),
        }
    }

    /// What came there by datagram.
    fn direct(&mut self) -> Vec<Came> {
        let socket = Arc::clone(&self.socket);
        let sent = std::iter::from_fn(|| socket.take()).filter(|(to, _)| Via::Udp(*to) == there());
        sent.map(|(_, packet)| self.open(DIRECT, &packet)).collect()
    }

    /// What came there by the relay.
    fn relayed(&mut self) -> Vec<Came> {
        let mut came = Vec::new();
        while let Some(message) = self.stream.try_next() {
            self.stream.on_sent(message.len());
            let message = Forward::parse(&message).unwrap();
            came.extend(message.packets().map(|packet| self.open(RELAYED, packet)));
        }
        came
    }

    /// Sends to nobody until its socket is full.
    fn fill_socket(&self) {
        let socket = DatagramSocket::Memory(Arc::clone(&self.socket));
        let nobody: SocketAddr = "192.0.2.9:9".parse().unwrap();
        for len in [50_000, 1_000, 50, 1] {
            while socket.send(nobody, &vec![0; len], len).is_ok() {}
        }
    }

    fn is_woken(&self, queue: usize) -> bool {
        let waker = self.queues[queue].waker();
        poll(&mut [PollFd::new(waker, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap()
            == 1
    }

    fn sealed(&self) -> u64 {
        self.snapshot.peers[0].counters.tx_frames.load(Relaxed)
    }

    fn facts(&mut self) -> Vec<Fact> {
        std::iter::from_fn(|| self.output.facts.try_recv().ok()).collect()
    }
}

fn frames(numbers: Range<u32>) -> Vec<Came> {
    numbers.map(Came::Frame).collect()
}

#[test]
fn each_queue_sends_what_it_read_in_order() {
    let mut a = Several::new();
    a.send(0, 0..3);
    a.send(1, 100..103);
    a.seal(1);
    a.seal(0);
    assert_eq!(a.direct(), [], "nothing leaves under the lock");
    a.leave(0);
    assert_eq!(a.direct(), frames(0..3), "nobody waits for a thread that sleeps");
    a.leave(1);
    assert_eq!(a.direct(), frames(100..103));
}

#[test]
fn the_marker_that_ends_a_path_comes_behind_what_a_thread_had_not_sent() {
    let mut a = Several::new();
    a.send(1, 0..10);
    a.seal(1);
    a.route(CHANNEL.into(), false);
    assert_eq!(a.direct(), [frames(0..10), vec![Came::Marker]].concat());
    a.leave(1);
    assert_eq!(a.direct(), [], "it went for it");
    a.send(1, 10..13);
    a.turn(1);
    assert_eq!((a.relayed(), a.direct()), (frames(10..13), vec![]));
}

#[test]
fn what_a_thread_had_not_sent_when_its_path_was_given_up_goes_again_before_what_is_newer() {
    let mut a = Several::new();
    a.send(1, 0..10);
    a.seal(1);
    a.route(CHANNEL.into(), true);
    a.send(1, 10..13);
    a.turn(1);
    // Whoever is there got all of it by the path that was given up: the rest is as if it had come late.
    assert_eq!(a.relayed(), frames(0..13));
    a.leave(1);
    assert_eq!(a.direct(), [Came::Twice; 10]);
}

#[test]
fn frames_that_were_read_go_by_the_path_that_is_there_when_they_are_sealed() {
    let mut a = Several::new();
    a.send(1, 0..3);
    let turn = a.queues[1].read(a.now).unwrap();
    a.route(CHANNEL.into(), true);
    assert!(a.queues[1].seal(a.now, turn).unwrap().is_continue());
    a.leave(1);
    assert_eq!((a.relayed(), a.direct()), (frames(0..3), vec![]));
}

#[test]
fn what_the_kernel_has_no_room_for_is_overtaken_by_nobody() {
    let mut a = Several::new();
    a.fill_socket();
    a.send(1, 0..5);
    a.turn(1);
    assert_eq!(a.sealed(), 5);
    // It reads no more. What it holds is handed in, and then nobody does.
    a.send(1, 5..10);
    a.turn(1);
    a.send(0, 100..105);
    a.publish();
    a.turn(1);
    assert_eq!(a.sealed(), 5);
    assert_eq!(a.direct(), []);
    assert!(!a.is_woken(1));
    // There is room: the one who waits for that has all go on.
    a.turn(0);
    assert_eq!(a.direct(), [frames(0..5), frames(100..105)].concat());
    assert!(a.is_woken(1));
    a.turn(1);
    assert_eq!(a.direct(), frames(5..10));
}

#[test]
fn what_has_no_room_in_the_middle_of_a_turn_waits_in_the_ring_in_its_order() {
    let mut a = Several::new();
    a.snapshot.peers[0].via = None;
    a.publish();
    a.send(1, 0..5);
    a.turn(1);
    // A path comes, and the kernel has no room for what waited for one: what was read meanwhile follows that.
    a.fill_socket();
    a.send(1, 5..8);
    let turn = a.queues[1].read(a.now).unwrap();
    a.snapshot.peers[0].via = Some(there());
    a.plane.publish(a.snapshot.clone());
    assert!(a.queues[1].seal(a.now, turn).unwrap().is_continue());
    a.leave(1);
    assert_eq!((a.sealed(), a.direct()), (8, vec![]));
    a.turn(0);
    assert_eq!(a.direct(), frames(0..8));
}

#[test]
fn sealing_stops_for_all_threads_at_once_and_none_of_what_they_read_is_lost() {
    let mut a = Several::new();
    a.send(1, 0..3);
    a.seal(1);
    // What lies in an outbox is not acknowledged.
    a.plane.outbound(OutboundCommand::StopSealing { slot: PEER, number: 1 });
    a.turn(0);
    assert!(a.facts().iter().any(|fact| matches!(fact, Fact::Stopped(PEER, 1, false))));
    a.leave(1);
    assert_eq!(a.direct(), frames(0..3));
    a.marks.record(&[], 3);
    // Read, and not sealed yet.
    a.send(1, 3..6);
    let turn = a.queues[1].read(a.now).unwrap();
    a.plane.outbound(OutboundCommand::StopSealing { slot: PEER, number: 2 });
    a.turn(0);
    assert!(a.facts().iter().any(|fact| matches!(fact, Fact::Stopped(PEER, 2, true))));
    assert!(a.queues[1].seal(a.now, turn).unwrap().is_continue());
    a.leave(1);
    assert_eq!((a.sealed(), a.direct()), (3, vec![]));
    assert!(a.facts().iter().any(|fact| matches!(fact, Fact::Wanted(PEER))));
    a.plane.outbound(OutboundCommand::ResumeSealing(PEER));
    a.send(0, 6..7);
    a.turn(0);
    a.turn(1);
    assert_eq!(a.direct(), frames(3..7));
}

#[test]
fn the_first_queue_keeps_time_for_what_another_sent() {
    let mut a = Several::new();
    a.turn(0);
    let clear = |a: &Several| {
        let mut count = [0; 8];
        let _ = rustix::io::read(a.queues[0].waker(), &mut count);
    };
    clear(&a);
    a.send(1, 0..1);
    a.turn(1);
    assert!(a.is_woken(0), "acknowledgements are to be looked for");
    clear(&a);
    a.turn(0);
    a.send(1, 1..2);
    a.turn(1);
    assert!(!a.is_woken(0), "it wakes by itself");
}

#[test]
fn when_one_ends_all_do() {
    let mut a = Several::new();
    a.plane.outbound(OutboundCommand::Stop);
    assert!(matches!(a.queues[1].step(a.now), Ok(ControlFlow::Break(()))));
    assert!(!a.is_woken(1));
    drop(a.queues.pop());
    assert!(a.is_woken(0));
    assert!(matches!(a.queues[0].step(a.now), Ok(ControlFlow::Break(()))));

    let mut a = Several::new();
    drop(a.wires.pop());
    assert!(matches!(a.queues[1].step(a.now), Err(DeviceFault::Gone)));
    drop(a.queues.pop());
    assert!(matches!(a.queues[0].step(a.now), Ok(ControlFlow::Break(()))));
}

/// What happens at node 1, or between the two.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// So many frames come to a queue.
    Send(usize, u32),
    /// A thread reads, seals, or sends.
    Read(usize),
    Seal(usize),
    Leave(usize),
    /// All of it.
    Turn(usize),
    /// So many packets, or messages, arrive by the datagrams, or the stream.
    Arrive(bool, usize),
    /// Data moves to the other path; what is under way by the one before comes later, or never.
    Move(bool),
    /// What came is acknowledged.
    Acknowledge,
}

fn act() -> impl Strategy<Value = Act> {
    let queue = 0..2_usize;
    prop_oneof![
        4 => (queue.clone(), 1..12_u32).prop_map(|(queue, frames)| Act::Send(queue, frames)),
        2 => queue.clone().prop_map(Act::Read),
        3 => queue.clone().prop_map(Act::Seal),
        3 => queue.clone().prop_map(Act::Leave),
        3 => queue.prop_map(Act::Turn),
        3 => (any::<bool>(), 1..20_usize).prop_map(|(is_direct, most)| Act::Arrive(is_direct, most)),
        1 => any::<bool>().prop_map(Act::Move),
        1 => Just(Act::Acknowledge),
    ]
}

/// Both nodes and what is under way between them.
struct Both {
    a: Several,
    turns: [Option<crate::plane::outbound::Turn>; 2],
    b: Lockstep,
    b_output: PlaneOutput,
    /// What it counts.
    received: Arc<PeerCounters>,
    b_wire: MemoryPort,
    b_socket: Arc<MemorySocket>,
    datagrams: VecDeque<Vec<u8>>,
    messages: VecDeque<Bytes>,
    /// By queue.
    sent: [u32; 2],
}

impl Both {
    fn new() -> Self {
        let a = Several::new();
        let (b_wire, device) = pair(&"mem0".parse().unwrap(), 10_000).unwrap();
        let mut directory = Directory::new(mac(2));
        directory.admit(PEER, Record::new(mac(1))).unwrap();
        let sources = [HERE.parse().unwrap()].into();
        let patience = Duration::from_millis(300);
        let route = PeerRoute { is_expected: true, sources, patience, ..PeerRoute::default() };
        let received = Arc::clone(&route.counters);
        let b_socket = Arc::new(MemorySocket::new(41_641).unwrap());
        let (b, b_output) = Lockstep::new(
            device.into_device(),
            DatagramSocket::Memory(Arc::clone(&b_socket)),
            picture(directory, vec![route]),
            ChunkPool::new(POOL_BYTES),
            RingLimits::default(),
        )
        .unwrap();
        let (_, key) = keys(1);
        b.plane().inbound(InboundCommand::Open { slot: PEER, association: AssociationId([1; 8]), key });
        let (datagrams, messages) = Default::default();
        let turns = [None, None];
        let mut both =
            Self { a, turns, b, b_output, received, b_wire, b_socket, datagrams, messages, sent: [0; 2] };
        // What comes first of a session is expected by the relay; there is one already.
        both.act(Act::Send(0, 1));
        both.act(Act::Turn(0));
        both.arrive(true, 1);
        both
    }

    fn collect(&mut self) {
        let sent = std::iter::from_fn(|| self.a.socket.take());
        self.datagrams.extend(sent.map(|(_, packet)| packet));
        while let Some(message) = self.a.stream.try_next() {
            self.a.stream.on_sent(message.len());
            self.messages.push_back(message);
        }
    }

    fn arrive(&mut self, is_direct: bool, most: usize) {
        self.collect();
        if is_direct {
            for datagram in self.datagrams.drain(..most.min(self.datagrams.len())) {
                self.b_socket.put(HERE.parse().unwrap(), datagram);
            }
            self.b.run(self.a.now).unwrap();
            return;
        }
        for message in self.messages.drain(..most.min(self.messages.len())) {
            let message = InboundMessage { via: CHANNEL.into(), message: BytesMut::from(&message[..]) };
            self.b.plane().messages().try_send(message).unwrap();
            self.b.run(self.a.now).unwrap();
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send(queue, frames) => {
                let from = self.sent[queue];
                self.sent[queue] += frames;
                let first = queue as u32 * 1_000_000;
                self.a.send(queue, first + from..first + from + frames);
            }
            Act::Read(queue) => {
                if self.turns[queue].is_none() {
                    self.turns[queue] = Some(self.a.queues[queue].read(self.a.now).unwrap());
                }
            }
            Act::Seal(queue) => {
                if let Some(turn) = self.turns[queue].take() {
                    assert!(self.a.queues[queue].seal(self.a.now, turn).unwrap().is_continue());
                }
            }
            Act::Leave(queue) => self.a.leave(queue),
            Act::Turn(queue) => {
                self.turns[queue] = None;
                self.a.turn(queue);
            }
            Act::Arrive(is_direct, most) => self.arrive(is_direct, most),
            Act::Move(gives_up) => {
                let is_direct = self.a.snapshot.peers[0].via == Some(there());
                // What is still under way from before the last move comes before the next: they are seconds apart.
                self.arrive(!is_direct, usize::MAX);
                self.a.route(if is_direct { CHANNEL.into() } else { there() }, gives_up);
                self.collect();
                match (gives_up, is_direct) {
                    (true, true) => self.datagrams.clear(),
                    (true, false) => self.messages.clear(),
                    // Whoever receives knows the path that ends, if anything goes by it.
                    (false, _) => {
                        let received = self.received.rx_frames.load(Relaxed);
                        while self.received.rx_frames.load(Relaxed) == received
                            && !(if is_direct { self.datagrams.is_empty() } else { self.messages.is_empty() })
                        {
                            self.arrive(is_direct, 1);
                        }
                    }
                }
            }
            Act::Acknowledge => {
                while let Ok(fact) = self.b_output.facts.try_recv() {
                    if let Fact::AckDue(_, _, report) = fact {
                        self.a.marks.record(report.paths(), report.floor());
                    }
                }
            }
        }
    }

    /// Lets everything come that is to, and gives the frames that did, by the queue of theirs.
    fn settle(mut self) -> HashMap<u32, Vec<u32>> {
        for round in 0..400 {
            (0..2).for_each(|queue| self.act(Act::Turn(queue)));
            self.arrive(true, usize::MAX);
            self.arrive(false, usize::MAX);
            self.act(Act::Acknowledge);
            // What is under way comes before patience ends.
            self.a.now += if round < 4 { Duration::ZERO } else { Duration::from_millis(20) };
            self.b.run(self.a.now).unwrap();
        }
        let mut came: HashMap<u32, Vec<u32>> = HashMap::new();
        while let Some(frame) = self.b_wire.receive().unwrap() {
            let number = number(&frame);
            came.entry(number / 1_000_000).or_default().push(number % 1_000_000);
        }
        came
    }
}

proptest! {
    /// However threads and moves interleave: each frame comes once, and each queue's in their order.
    #[test]
    fn nothing_is_lost_doubled_or_overtaken(acts in prop::collection::vec(act(), 1..80)) {
        let mut both = Both::new();
        for act in acts {
            both.act(act);
        }
        let sent = both.sent;
        let came = both.settle();
        for (queue, sent) in (0..).zip(sent) {
            let expected: Vec<u32> = (0..sent).collect();
            prop_assert_eq!(came.get(&queue).cloned().unwrap_or_default(), expected, "queue {}", queue);
        }
    }
}
