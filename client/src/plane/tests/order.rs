//! What overtakes on its way to a receiving plane: what it waits for, and for how long. In the test's own time.

use super::*;
use crate::transport::udp::MemorySocket;
use shadowmesh_proto::session::SealHalf;

/// Where the peer's datagrams come from.
const THERE: &str = "192.0.2.1:41641";
/// How far the peer's paths may be apart.
const APART: Duration = Duration::from_millis(100);

/// A receiving plane without threads, node 2, and what its peer, node 1, seals for it.
struct Receiver {
    lockstep: Lockstep,
    wire: MemoryPort,
    socket: Arc<MemorySocket>,
    sealed: SealHalf,
    began: Instant,
    now: Instant,
    _output: PlaneOutput,
}

impl Receiver {
    fn new() -> Self {
        let (wire, device) = pair(&"mem0".parse().unwrap(), 100).unwrap();
        let mut directory = Directory::new(mac(2));
        directory.admit(PEER, Record::new(mac(1))).unwrap();
        let route = PeerRoute { is_expected: true, patience: APART, ..PeerRoute::default() };
        let snapshot = picture(directory, vec![route]);
        let (socket, pool) = (Arc::new(MemorySocket::new(41_641).unwrap()), ChunkPool::new(POOL_BYTES));
        let (lockstep, output) = Lockstep::new(
            device.into_device(),
            DatagramSocket::Memory(Arc::clone(&socket)),
            snapshot,
            Arc::clone(&pool),
            RingLimits::default(),
        )
        .unwrap();
        let (seal, open) = keys(1);
        let association = AssociationId([1; 8]);
        lockstep.plane().inbound(InboundCommand::Open { slot: PEER, association, key: open });
        let began = Instant::now();
        let mut sealed = SealHalf::new(RingLimits::default(), pool, Arc::default());
        sealed.install(began, seal);
        Self { lockstep, wire, socket, sealed, began, now: began, _output: output }
    }

    /// The next packet of the peer, with frame `n`, that goes by `via`.
    fn seal(&mut self, via: Via, n: u32) -> Vec<u8> {
        let sealed = self.sealed.seal(self.now, via.slot(), 0, &frame(1, 2, n, 60)).unwrap();
        sealed.packet.to_vec()
    }

    /// The same with the largest frame.
    fn seal_large(&mut self, via: Via, n: u32) -> Vec<u8> {
        let sealed = self.sealed.seal(self.now, via.slot(), 0, &frame(1, 2, n, 60_000)).unwrap();
        sealed.packet.to_vec()
    }

    /// One more session of the peer.
    fn another_session(&mut self, generation: u8) -> SealHalf {
        let (seal, open) = keys(generation);
        let association = AssociationId([generation; 8]);
        self.lockstep.plane().inbound(InboundCommand::Open { slot: PEER, association, key: open });
        let mut sealed = SealHalf::new(RingLimits::default(), ChunkPool::new(POOL_BYTES), Arc::default());
        sealed.install(self.now, seal);
        sealed
    }

    /// A packet comes by `via`.
    fn receive(&mut self, via: Via, packet: Vec<u8>) {
        match via {
            Via::Udp(from) => self.socket.put(from, packet),
            Via::Channel(_) | Via::Tcp(_) => {
                let mut message = ForwardBuilder::new(CHANNEL.channel, vec![]);
                assert!(message.push(&packet));
                let message = BytesMut::from(&message.finish()[..]);
                let sender = self.lockstep.plane().messages();
                sender.messages.try_send(InboundMessage { via, message }).unwrap();
            }
            Via::RelayUdp(_) => unreachable!("no relay has a binding here"),
        }
        self.lockstep.run(self.now).unwrap();
    }

    /// The numbers of the frames that came out since the last call.
    fn delivered(&self) -> Vec<u32> {
        let frames: Vec<_> = std::iter::from_fn(|| self.wire.receive().unwrap()).collect();
        numbers(&frames)
    }

    /// How long after `since` it gives on what it holds, where nothing else comes: what it is woken for, and nothing but that.
    fn waits(&mut self, since: Instant) -> (Duration, Vec<u32>) {
        for _ in 0..100 {
            self.now = self.lockstep.poll_timeout().expect("what is held is given on").max(self.now);
            self.lockstep.run(self.now).unwrap();
            let delivered = self.delivered();
            if !delivered.is_empty() {
                return (self.now - since, delivered);
            }
        }
        panic!("nothing came of a hundred turns");
    }
}

#[test]
fn what_overtakes_waits_for_a_stream_twice_as_long_as_for_datagrams() {
    let udp = Via::Udp(THERE.parse().unwrap());
    let tcp = Via::Tcp(TcpLink { number: 1, remote: THERE.parse().unwrap() });
    let relayed = Via::from(CHANNEL);
    for (before, then, expected) in
        [(relayed, udp, 2 * APART), (tcp, udp, 2 * APART), (udp, relayed, APART), (udp, tcp, APART)]
    {
        let mut b = Receiver::new();
        let first = b.seal(before, 0);
        b.receive(before, first);
        assert_eq!(b.delivered(), [0]);
        // One goes by the path before and is late.
        let late = b.seal(before, 1);
        let overtaking = b.seal(then, 2);
        b.receive(then, overtaking);
        assert!(b.delivered().is_empty(), "{then:?} after {before:?}");
        let since = b.now;
        assert_eq!(b.waits(since), (expected, vec![2]), "{then:?} after {before:?}");
        b.receive(before, late);
        assert_eq!(b.delivered(), [1], "what is too late comes all the same");
    }
}

#[test]
fn what_overtakes_the_stream_that_a_session_begins_with_waits_until_that_had_its_time() {
    let (relayed, udp) = (Via::from(CHANNEL), Via::Udp(THERE.parse().unwrap()));
    // Nothing has come by it yet, and what was kept for the peer comes by it in time, or too late.
    for (at, expected) in [(2 * APART - Duration::from_millis(1), [0, 1]), (2 * APART, [1, 0])] {
        let mut b = Receiver::new();
        let kept = b.seal(relayed, 0);
        let overtaking = b.seal(udp, 1);
        b.receive(udp, overtaking);
        assert!(b.delivered().is_empty());
        b.now = b.began + at;
        b.lockstep.run(b.now).unwrap();
        b.receive(relayed, kept);
        assert_eq!(b.delivered(), expected, "after {at:?}");
    }
}

#[test]
fn who_holds_most_gives_in_and_not_who_holds_little() {
    const HOARDED: u32 = 1_000;
    let (relayed, udp) = (Via::from(CHANNEL), Via::Udp(THERE.parse().unwrap()));
    let mut b = Receiver::new();
    let first = b.seal(relayed, 0);
    b.receive(relayed, first);
    assert_eq!(b.delivered(), [0]);
    // In each of four sessions nearly as much overtakes as one may hold: all of them hold nearly all that there is room for.
    for session in 2..=5 {
        let hoards = b.another_session(session);
        let before = std::mem::replace(&mut b.sealed, hoards);
        let _lost = b.seal(relayed, HOARDED);
        for _ in 0..139 {
            let overtaking = b.seal_large(udp, HOARDED);
            b.receive(udp, overtaking);
        }
        b.sealed = before;
    }
    assert!(b.delivered().is_empty());
    let late = b.seal(relayed, 1);
    let mut delivered = Vec::new();
    for n in 2..=6 {
        let overtaking = b.seal_large(udp, n);
        b.receive(udp, overtaking);
        delivered.extend(b.delivered());
    }
    assert!(delivered.contains(&HOARDED), "there is no room for all");
    b.receive(relayed, late);
    delivered.extend(b.delivered());
    delivered.retain(|n| *n < HOARDED);
    assert_eq!(delivered, [1, 2, 3, 4, 5, 6]);
}
