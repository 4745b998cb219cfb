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
    for n in 0..2_000 {
        a.wire.send(&frame(1, 2, n, 1000)).unwrap();
    }
    a.wire.send(&frame(1, 3, 0, 1000)).unwrap();
    // No time passes, and nothing is taken out of the stream.
    a.run();
    assert_eq!(a.left(), [0]);
    let (sealed, dropped) = (a.sealed(FAR), a.dropped(FAR));
    assert!(dropped > 0 && (200..400).contains(&sealed), "{sealed} sealed");
    // What is sealed arrives, once and in order: what was dropped never was.
    let taken = relay.take_all(&mut a);
    let sealed = a.sealed(FAR);
    assert_eq!((sealed + a.dropped(FAR), a.dropped(FAR)), (2_000, dropped), "each is counted");
    assert_eq!(taken, (0..sealed).collect::<Vec<_>>());
    assert_eq!((a.lost(FAR), a.dropped(NEAR)), (0, 0));
    a.send(2, 10, 1000);
    assert_eq!(relay.take_all(&mut a), (sealed..sealed + 10).collect::<Vec<_>>(), "there is room again");
}

#[test]
fn what_waits_for_a_stream_waits_for_the_next_key_as_well() {
    let (mut a, mut relay) = behind_a_relay(RingLimits::default());
    let add = |a: &Sender, key| a.lockstep.plane().outbound(OutboundCommand::AddKey { slot: FAR, key });
    // It seals twice as many (protocol §4.8).
    add(&a, keys(5).0.with_limit(150));
    a.send(2, 800, 1000);
    assert!(a.sealed(FAR) < 300);
    let take = |a: &mut Sender, relay: &mut Relay| {
        for _ in 0..50 {
            while relay.take().is_some() {}
            a.run();
        }
    };
    // The stream has room for all of them, and no time passes.
    take(&mut a, &mut relay);
    assert_eq!((a.sealed(FAR), a.dropped(FAR)), (300, 0));
    add(&a, keys(6).0);
    a.run();
    take(&mut a, &mut relay);
    assert_eq!((a.sealed(FAR), a.dropped(FAR)), (800, 0));
    assert_eq!(relay.received, [true; 800]);
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
    taken.extend(relay.take_all(&mut a));
    assert_eq!(a.sealed(FAR) + a.dropped(FAR), 5_000);
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

impl Relay {
    /// For a millisecond of a line that takes `rate` bytes in it; the frames that it got are returned, by their number.
    fn line(&mut self, a: &mut Sender, rate: usize) -> Vec<u64> {
        self.line += rate.cast_signed();
        let mut counters = vec![];
        while self.line > 0
            && let Some(message) = self.stream.try_next()
        {
            self.line -= message.len().cast_signed();
            let took = Duration::from_secs_f64(message.len() as f64 / rate as f64 / 1000.0);
            self.stream.on_written(a.now, message.len(), took);
            let forward = Forward::parse(&message).unwrap();
            counters.extend(forward.packets().map(|packet| Header::parse(packet).unwrap().counter));
            a.run();
        }
        self.line = self.line.min(0);
        a.now += Duration::from_millis(1);
        a.run();
        counters
    }
}

#[test]
fn what_waits_before_a_slow_stream_is_sealed_only_when_there_is_room() {
    let (mut a, mut relay) = behind_a_relay(RingLimits::default());
    a.snapshot.peers[1].via = None;
    a.lockstep.plane().publish(a.snapshot.clone());
    let (mut ahead, mut most) = (0, 0);
    for ms in 0..3_000 {
        // Twice what a line of 20 Mbit/s takes.
        a.send(2, 5, 1000);
        let gone = relay.line(&mut a, 2_500);
        ahead = gone.last().map_or(ahead, |last| a.sealed(FAR) - last);
        most = if ms < 1_000 { 0 } else { most.max(ahead) };
    }
    // 16 KiB are less than 17 frames, and a message as large as that.
    assert!(most <= 34, "{most} frames were sealed and had not left");
    assert!(a.dropped(FAR) > 5_000, "half of them: {}", a.dropped(FAR));
    assert_eq!(a.lost(FAR), 0);
    assert!(a.sealed(FAR) > 6_800, "the line is full: {}", a.sealed(FAR));
}

#[test]
fn peers_behind_one_slow_stream_take_turns_and_who_is_sent_little_waits_little() {
    let (mut a, mut relay) = behind_a_relay(RingLimits::default());
    a.snapshot.peers[1].via = Some(Via::from(OTHER));
    a.lockstep.plane().publish(a.snapshot.clone());
    let mut line = |a: &mut Sender, far: u32, near: u32, millis: u32| {
        let before = [a.sealed(FAR), a.sealed(NEAR)];
        for ms in 0..millis {
            a.send(2, far, 1000);
            if near > 0 && ms % near == 0 {
                a.send(3, 1, 1000);
            }
            relay.line(a, 2_500);
        }
        [a.sealed(FAR) - before[0], a.sealed(NEAR) - before[1]]
    };
    line(&mut a, 8, 0, 1_000);
    // One frame in 10 ms, beside eight a millisecond: none of it is dropped, and it does not wait for what the other has waiting.
    let [_, near] = line(&mut a, 8, 10, 1_000);
    assert_eq!(a.dropped(NEAR), 0);
    assert!(near >= 99, "{near}");
    // Both are sent more than there is.
    let [far, near] = line(&mut a, 8, 1, 1_000);
    let dropped = a.dropped(NEAR);
    assert!(
        near >= 990,
        "it was sent less than half of what there is: {near} beside {far}, {dropped} dropped"
    );
}

#[test]
fn a_message_carries_as_many_frames_as_a_turn_reads_and_a_lone_frame_waits_for_no_other() {
    let (mut a, mut relay) = behind_a_relay(RingLimits::default());
    a.send(2, 640, 100);
    let messages: Vec<_> = std::iter::from_fn(|| relay.take()).map(|counters| counters.len()).collect();
    assert_eq!(messages, [64; 10]);
    a.send(2, 1, 100);
    assert_eq!(relay.take().map(|counters| counters.len()), Some(1));
}
