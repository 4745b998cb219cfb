//! A relay that reads slowly, or not at all: whose business that is.

use super::*;

/// The peer behind the relay, and one that is reached by datagram.
const FAR: PeerSlot = PeerSlot(0);
const NEAR: PeerSlot = PeerSlot(1);

/// A sender with one peer behind a relay's stream that nobody reads yet, and one elsewhere.
fn behind_a_relay(ring: RingLimits) -> (Sender, Relay) {
    let mut a = Sender::new(ring);
    // Each counts for itself.
    a.snapshot.peers[1].counters = Arc::default();
    a.route(NEAR, true, false);
    let relay = a.relay();
    (a, relay)
}

impl Sender {
    fn dropped(&self, slot: PeerSlot) -> u64 {
        self.snapshot.peers[slot.0 as usize].counters.tx_dropped.load(Relaxed)
    }

    fn sealed(&self, slot: PeerSlot) -> u64 {
        self.snapshot.peers[slot.0 as usize].counters.tx_frames.load(Relaxed)
    }

    fn doubt(&mut self, slot: PeerSlot, path: Option<PathSlot>) {
        self.snapshot.peers[slot.0 as usize].doubted = path;
        self.lockstep.plane().publish(self.snapshot.clone());
        self.run();
    }
}

impl Relay {
    /// Takes one message out of the stream; the counters in it.
    fn take(&mut self) -> Option<Vec<u64>> {
        let message = self.stream.try_next()?;
        self.stream.on_sent(message.len());
        let forward = Forward::parse(&message).unwrap();
        let counters: Vec<_> =
            forward.packets().map(|packet| Header::parse(packet).unwrap().counter).collect();
        counters.iter().for_each(|counter| self.on_received(*counter));
        Some(counters)
    }

    /// Takes everything that comes, in as long as that needs.
    fn take_all(&mut self, a: &mut Sender) -> Vec<u64> {
        let mut counters = vec![];
        for _ in 0..1_000 {
            while let Some(taken) = self.take() {
                counters.extend(taken);
            }
            self.acknowledge(&a.marks[0]);
            a.now += Duration::from_millis(10);
            a.run();
        }
        counters
    }
}

#[test]
fn a_relay_that_reads_nothing_holds_up_nobody_who_has_another_way() {
    let (mut a, mut relay) = behind_a_relay(RingLimits::default());
    for n in 0..400 {
        a.wire.send(&frame(1, 2, n, 1000)).unwrap();
    }
    a.wire.send(&frame(1, 3, 0, 1000)).unwrap();
    // No time passes, and nothing is taken out of the stream.
    a.run();
    assert_eq!(a.left(), [0]);
    let (sealed, dropped) = (a.sealed(FAR), a.dropped(FAR));
    assert_eq!(sealed + dropped, 400, "each is counted");
    assert!(dropped > 0 && sealed > 200, "{sealed} sealed");
    // What was sealed arrives, once and in order: what was dropped never was.
    assert_eq!(relay.take_all(&mut a), (0..sealed).collect::<Vec<_>>());
    assert_eq!((a.lost(FAR), a.dropped(NEAR)), (0, 0));
    a.send(2, 10, 1000);
    assert_eq!(relay.take_all(&mut a), (sealed..sealed + 10).collect::<Vec<_>>(), "there is room again");
}

#[test]
fn a_relay_that_drains_a_trickle_sets_the_pace_of_nobody_else() {
    let (mut a, mut relay) = behind_a_relay(RingLimits::default());
    let mut taken = vec![];
    // Eight Mbit/s for the far one, of which the relay takes one message in half a second.
    for step in 0..500 {
        a.now += Duration::from_millis(10);
        a.send(2, 10, 1000);
        a.send(3, 1, 1000);
        assert_eq!(a.left(), [step], "at once");
        if step % 50 == 0 {
            taken.extend(relay.take().unwrap());
            relay.acknowledge(&a.marks[0]);
            a.run();
        }
    }
    assert_eq!(a.sealed(FAR) + a.dropped(FAR), 5_000);
    taken.extend(relay.take_all(&mut a));
    assert_eq!(taken, (0..a.sealed(FAR)).collect::<Vec<_>>());
    assert_eq!((a.lost(FAR), a.dropped(NEAR)), (0, 0));
}

#[test]
fn while_nobody_has_another_way_the_device_waits_and_nothing_is_dropped() {
    let (mut a, mut relay) = behind_a_relay(RingLimits::default());
    a.snapshot.peers[1].via = Some(Via::from(OTHER));
    a.lockstep.plane().publish(a.snapshot.clone());
    a.send(2, 2_000, 1000);
    assert!(a.sealed(FAR) < 400, "{} were read", a.sealed(FAR));
    assert_eq!(relay.take_all(&mut a), (0..2_000).collect::<Vec<_>>());
    assert_eq!((a.dropped(FAR), a.lost(FAR)), (0, 0));
}

#[test]
fn what_a_relay_in_doubt_does_not_take_waits_in_the_ring_for_it_or_for_the_next_path() {
    for is_left in [false, true] {
        let (mut a, mut relay) = behind_a_relay(RingLimits::default());
        a.send(2, 250, 1000);
        a.doubt(FAR, Some(RELAYED));
        // Two seconds' worth of twelve Mbit/s, far more than half a second's.
        for step in 0..200 {
            a.now += Duration::from_millis(10);
            a.send(2, 15, 1000);
            a.send(3, 1, 1000);
            assert_eq!(a.left(), [step]);
        }
        assert_eq!((a.sealed(FAR), a.dropped(FAR)), (3_250, 0));
        if is_left {
            a.snapshot.peers[0].given_up[usize::from(RELAYED.number())] += 1;
            a.route(FAR, true, false);
            a.until_secs(5);
            let left: BTreeSet<_> = a.left().into_iter().collect();
            assert!(left.into_iter().eq(0..3_250), "all of it goes by the next path");
        } else {
            a.doubt(FAR, None);
            let taken: BTreeSet<_> = relay.take_all(&mut a).into_iter().collect();
            assert!(taken.into_iter().eq(0..3_250), "all of it goes by the relay");
            // What is sealed while that goes is not dropped for it.
            assert_eq!(a.dropped(FAR), 0);
        }
        assert_eq!(a.lost(FAR), 0, "left: {is_left}");
    }
}

#[test]
fn a_ring_that_is_full_of_what_a_relay_does_not_take_is_not_overwritten() {
    let ring = RingLimits { bytes: 1 << 20, packets: 32_768 };
    let (mut a, mut relay) = behind_a_relay(ring);
    a.doubt(FAR, Some(RELAYED));
    // Somebody else is spoken to: nobody waits for a doubt.
    a.send(3, 1, 1000);
    a.send(2, 2_500, 1000);
    let sealed = a.sealed(FAR);
    assert_eq!(sealed + a.dropped(FAR), 2_500);
    assert!((900..1_048).contains(&sealed), "{sealed}");
    a.doubt(FAR, None);
    let taken: BTreeSet<_> = relay.take_all(&mut a).into_iter().collect();
    assert!(taken.into_iter().eq(0..sealed));
    assert_eq!(a.lost(FAR), 0);
}
