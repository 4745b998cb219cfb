//! The ring against a model that keeps everything and follows the rules in the plainest way.

use super::*;
use crate::session::limits::POOL_BYTES;
use proptest::prelude::*;

/// What became of a packet, as the rules say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    InOrder,
    OutOfOrder,
    OverwrittenInOrder,
    OverwrittenOutOfOrder,
    Released,
}

#[derive(Debug, Clone)]
struct Packet {
    len: usize,
    path: usize,
    fate: Fate,
    /// Which sending it last was, of all.
    sending: usize,
}

/// Every packet ever pushed, by counter.
#[derive(Debug, Default)]
struct Model {
    packets: Vec<Packet>,
    overwritten: u64,
    lost: u64,
    /// Every (path, counter) that was sent since the path was given up or begun anew, which counts as sent up to where it began.
    history: Vec<(usize, u64)>,
    /// The path of each sending.
    sendings: Vec<usize>,
}

impl Model {
    fn held(&self) -> impl Iterator<Item = (u64, &Packet)> {
        let is_held = |packet: &&Packet| matches!(packet.fate, Fate::InOrder | Fate::OutOfOrder);
        (0..).zip(&self.packets).filter(move |(_, packet)| is_held(packet))
    }

    fn held_bytes(&self) -> usize {
        self.held().map(|(_, packet)| packet.len).sum()
    }

    fn push(&mut self, limits: RingLimits, len: usize, path: usize) {
        while self.held().count() > 0
            && (self.held_bytes() + len > limits.bytes || self.held().count() >= limits.packets)
        {
            let oldest = self.held().next().unwrap().0;
            let fate = &mut self.packets[oldest as usize].fate;
            *fate =
                if *fate == Fate::InOrder { Fate::OverwrittenInOrder } else { Fate::OverwrittenOutOfOrder };
            self.overwritten += 1;
        }
        self.history.push((path, self.packets.len() as u64));
        self.packets.push(Packet { len, path, fate: Fate::InOrder, sending: self.sendings.len() });
        self.sendings.push(path);
    }

    fn acknowledge(&mut self, path: usize, highest: u64, bitmap: &[u64; 4]) {
        if highest >= self.packets.len() as u64 {
            return;
        }
        for (counter, packet) in (0..=highest).zip(&mut self.packets) {
            let below = highest - counter;
            let bit = |below: u64| bitmap[(below / 64) as usize] >> (below % 64) & 1 == 1;
            if below == 0 || (below <= 256 && bit(below - 1)) {
                packet.fate = Fate::Released;
            }
        }
        if self.packets[highest as usize].path != path {
            return;
        }
        let newest = self.packets[highest as usize].sending;
        let mut looked = 0;
        while looked < highest {
            let packet = &mut self.packets[looked as usize];
            if packet.path == path && matches!(packet.fate, Fate::InOrder | Fate::OverwrittenInOrder) {
                let sent_between = self.sendings.get(packet.sending..newest).unwrap_or_default();
                if sent_between.iter().filter(|other| **other == path).count() <= 256 {
                    break;
                }
                packet.fate = Fate::Released;
            }
            looked += 1;
        }
    }

    fn floor(&mut self, floor: u64) {
        for (_, packet) in (0..floor).zip(&mut self.packets) {
            packet.fate = Fate::Released;
        }
    }

    fn settle(&mut self, path: usize, end: u64) {
        for (_, packet) in (0..end).zip(&mut self.packets).filter(|(_, packet)| packet.path == path) {
            if matches!(packet.fate, Fate::InOrder | Fate::OverwrittenInOrder) {
                packet.fate = Fate::Released;
            }
        }
    }

    fn give_up(&mut self, path: usize) {
        for packet in self.packets.iter_mut().filter(|packet| packet.path == path) {
            match packet.fate {
                Fate::InOrder => packet.fate = Fate::OutOfOrder,
                Fate::OverwrittenInOrder => packet.fate = Fate::OverwrittenOutOfOrder,
                Fate::OutOfOrder | Fate::OverwrittenOutOfOrder | Fate::Released => {}
            }
        }
        self.history.retain(|(sent, _)| *sent != path);
    }

    fn resend(&mut self, from: usize, to: usize, counters: Range<u64>, take: usize) -> Vec<u64> {
        let mut sent = Vec::new();
        if from == to && counters.end >= self.packets.len() as u64 {
            let before = self.history.len();
            self.history.retain(|(path, counter)| *path != to || *counter < counters.start);
            // A ring knows a number and no list: one that begins anew counts as sent up to there.
            if self.history.len() < before && counters.start > 0 {
                self.history.push((to, counters.start - 1));
            }
        }
        for counter in counters.start..counters.end.min(self.packets.len() as u64) {
            if sent.len() == take {
                break;
            }
            // Or it went there itself before: then it is not known which of the two would have arrived.
            let behind = self.history.iter().any(|(path, later)| *path == to && *later >= counter);
            let packet = &mut self.packets[counter as usize];
            if packet.path != from {
                continue;
            }
            match packet.fate {
                Fate::Released => {}
                Fate::OverwrittenInOrder | Fate::OverwrittenOutOfOrder => {
                    packet.fate = Fate::OverwrittenOutOfOrder;
                    packet.path = to;
                }
                Fate::InOrder | Fate::OutOfOrder => {
                    packet.path = to;
                    packet.fate = if behind { Fate::OutOfOrder } else { Fate::InOrder };
                    self.history.push((to, counter));
                    packet.sending = self.sendings.len();
                    self.sendings.push(to);
                    sent.push(counter);
                }
            }
        }
        sent
    }

    fn count_missing(&mut self, counters: Range<u64>) {
        let end = counters.end.min(self.packets.len() as u64);
        for packet in &mut self.packets[counters.start.min(end) as usize..end as usize] {
            if packet.fate == Fate::OverwrittenOutOfOrder {
                packet.fate = Fate::Released;
                self.lost += 1;
            }
        }
    }
}

fn slot(path: usize) -> PathSlot {
    PathSlot::new(path as u8).unwrap()
}

/// Bytes by which a packet can be told from any other.
fn content(counter: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (counter.wrapping_mul(0x9e37_79b9) ^ at.wrapping_mul(31)) as u8).collect()
}

fn push(ring: &mut Ring, len: usize, path: usize) {
    let bytes = content(ring.next_counter(), len);
    ring.make_contiguous(len);
    ring.make_room(len);
    ring.space(len).unwrap().copy_from_slice(&bytes);
    ring.commit(len, slot(path));
}

#[derive(Debug, Clone)]
enum Step {
    Push { len: usize, path: usize },
    Acknowledge { path: usize, back: u64, bitmap: [u64; 4] },
    Floor { back: u64 },
    Settle { path: usize, back: u64 },
    GiveUp { path: usize },
    Resend { from: usize, to: usize, start: u64, len: u64, take: usize },
    CountMissing { start: u64, len: u64 },
    Shrink,
}

fn bitmap() -> impl Strategy<Value = [u64; 4]> {
    prop_oneof![Just([u64::MAX; 4]), Just([0; 4]), any::<[u64; 4]>()]
}

fn steps(max_len: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => (33..max_len, 0usize..2).prop_map(|(len, path)| Step::Push { len, path }),
        3 => (0usize..2, 0u64..40, bitmap())
            .prop_map(|(path, back, bitmap)| Step::Acknowledge { path, back, bitmap }),
        1 => (20u64..400).prop_map(|back| Step::Floor { back }),
        1 => (0usize..2, 0u64..100).prop_map(|(path, back)| Step::Settle { path, back }),
        1 => (0usize..2).prop_map(|path| Step::GiveUp { path }),
        2 => (0usize..2, 0usize..2, 0u64..500, 1u64..500, 0usize..200)
            .prop_map(|(from, to, start, len, take)| Step::Resend { from, to, start, len, take }),
        1 => (0u64..500, 1u64..500).prop_map(|(start, len)| Step::CountMissing { start, len }),
        1 => Just(Step::Shrink),
    ];
    prop::collection::vec(step, 1..700)
}

/// Runs `steps` on both and compares all that can be seen from outside.
fn agrees_with_the_model(limits: RingLimits, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let pool = ChunkPool::new(POOL_BYTES);
    let mut ring = Ring::new(limits, pool.clone());
    let mut model = Model::default();
    for step in steps {
        let next = ring.next_counter();
        match step {
            Step::Push { len, path } => {
                let (fits, before) = (ring.room() >= len, ring.stats().overwritten);
                push(&mut ring, len, path);
                model.push(limits, len, path);
                prop_assert_eq!(fits, ring.stats().overwritten == before);
            }
            Step::Acknowledge { path, back, bitmap } => {
                // Acknowledgements of counters never sent on that path happen too, from a peer that lies.
                let highest = next.saturating_sub(back);
                ring.acknowledge(slot(path), highest, &bitmap);
                model.acknowledge(path, highest, &bitmap);
            }
            Step::Floor { back } => {
                let floor = next.saturating_sub(back);
                ring.acknowledge_below(floor);
                model.floor(floor);
            }
            Step::Settle { path, back } => {
                let end = next.saturating_sub(back);
                ring.settle(slot(path), end);
                model.settle(path, end);
            }
            Step::GiveUp { path } => {
                ring.give_up(slot(path));
                model.give_up(path);
            }
            Step::Resend { from, to, start, len, take } => {
                let start = next.saturating_sub(start);
                let expected = model.resend(from, to, start..start + len, take);
                let sent: Vec<(u64, Vec<u8>)> = ring
                    .resend(slot(from), slot(to), start..start + len)
                    .take(take)
                    .map(|sealed| (sealed.counter, sealed.packet.to_vec()))
                    .collect();
                prop_assert_eq!(sent.iter().map(|(counter, _)| *counter).collect::<Vec<_>>(), expected);
                for (counter, bytes) in sent {
                    let len = model.packets[counter as usize].len;
                    prop_assert!(bytes == content(counter, len), "packet {} was overwritten", counter);
                }
            }
            Step::CountMissing { start, len } => {
                let start = next.saturating_sub(start);
                ring.count_missing(start..start + len);
                model.count_missing(start..start + len);
            }
            Step::Shrink => ring.shrink(),
        }
        let stats = ring.stats();
        prop_assert_eq!(stats.held, model.held().count());
        prop_assert_eq!(stats.bytes, model.held_bytes());
        prop_assert_eq!(stats.overwritten, model.overwritten);
        prop_assert_eq!(stats.lost, model.lost);
        prop_assert!(stats.held <= limits.packets);
        let room = limits.bytes - stats.bytes;
        prop_assert_eq!(ring.room(), if stats.held == limits.packets { 0 } else { room });
        for path in 0..2 {
            prop_assert_eq!(
                ring.outstanding(slot(path)),
                model.held().filter(|(_, p)| p.path == path).count()
            );
        }
    }
    // Everything acknowledged: all memory goes back.
    ring.acknowledge_below(ring.next_counter());
    ring.shrink();
    prop_assert_eq!(ring.stats().held, 0);
    prop_assert_eq!(ring.taken, 0);
    drop(ring);
    prop_assert!(pool.bytes() <= crate::session::limits::POOL_SPARE_CHUNKS * CHUNK_BYTES);
    Ok(())
}

#[test]
fn what_comes_to_a_path_from_before_it_began_anew_is_behind_what_it_had() {
    let anew = Step::Resend { from: 0, to: 0, start: 1, len: 1, take: 1 };
    let moved = Step::Resend { from: 1, to: 0, start: 2, len: 1, take: 1 };
    let mut steps: Vec<_> = [1, 0].map(|path| Step::Push { len: 33, path }).into();
    let arrived = Step::Acknowledge { path: 0, back: 1, bitmap: [0; 4] };
    steps.extend([arrived, anew, moved, Step::Settle { path: 0, back: 0 }]);
    agrees_with_the_model(RingLimits { bytes: 5_000, packets: 1 << 15 }, steps).unwrap();
}

proptest! {
    #[test]
    fn few_packets(steps in steps(300)) {
        agrees_with_the_model(RingLimits { bytes: 1 << 20, packets: 50 }, steps)?;
    }

    #[test]
    fn few_bytes(steps in steps(300)) {
        agrees_with_the_model(RingLimits { bytes: 5_000, packets: 1 << 15 }, steps)?;
    }

    #[test]
    fn never_full(steps in steps(300)) {
        agrees_with_the_model(RingLimits::default(), steps)?;
    }

    /// Enough for many chunks, so that they come and go.
    #[test]
    fn big_packets(steps in steps(60_000)) {
        agrees_with_the_model(RingLimits { bytes: 8 << 20, packets: 1 << 15 }, steps)?;
    }
}

#[test]
fn a_full_ring_gives_up_exactly_what_does_not_fit() {
    let mut ring = Ring::new(RingLimits::TINY, ChunkPool::new(POOL_BYTES));
    for _ in 0..1_000 {
        push(&mut ring, 1_000, 0);
    }
    let fit = (64 << 10) / 1_000;
    assert_eq!(ring.stats().held, fit);
    assert_eq!(ring.stats().overwritten, 1_000 - fit as u64);
    assert_eq!(ring.stats().lost, 0, "nobody needed them yet");

    // The path brought the first 400 in order; then it is given up.
    ring.acknowledge(slot(0), 399, &[u64::MAX; 4]);
    ring.give_up(slot(0));
    let resent: Vec<u64> = ring.resend(slot(0), slot(1), 0..u64::MAX).map(|sealed| sealed.counter).collect();
    assert_eq!(resent, (1_000 - fit as u64..1_000).collect::<Vec<_>>());
    assert_eq!((ring.stats().lost, ring.stats().resent), (0, fit as u64), "they may have arrived");
    // A hundred more had, as the receiver says over the new path.
    ring.acknowledge(slot(0), 499, &[u64::MAX; 4]);
    ring.count_missing(0..u64::MAX);
    assert_eq!(ring.stats().lost, 500 - fit as u64);
    ring.count_missing(0..u64::MAX);
    assert_eq!(ring.stats().lost, 500 - fit as u64, "each once");
}

#[test]
fn a_packet_resent_behind_newer_ones_waits_for_its_own_acknowledgement() {
    let mut ring = Ring::new(RingLimits::default(), ChunkPool::new(POOL_BYTES));
    for counter in 0..2_000 {
        push(&mut ring, 100, usize::from(counter >= 1_000));
    }
    // The second path took over while the first had 1,000 packets under way, and carried 1,000 newer ones.
    assert_eq!(ring.resend(slot(0), slot(1), 0..u64::MAX).count(), 1_000);
    ring.acknowledge(slot(1), 1_999, &[u64::MAX; 4]);
    assert_eq!(ring.stats().held, 1_000, "the newer ones arrived, which says nothing about those resent");
    ring.acknowledge(slot(1), 500, &[u64::MAX; 4]);
    assert_eq!(ring.stats().held, 1_000 - 257);
    ring.acknowledge_below(1_000);
    assert_eq!(ring.stats().held, 0);
}

/// A slot used again while packets of its former life wait: newer ones that arrive do not release them.
#[test]
fn a_path_given_up_keeps_what_it_did_not_bring() {
    let mut ring = Ring::new(RingLimits::default(), ChunkPool::new(POOL_BYTES));
    for _ in 0..100 {
        push(&mut ring, 100, 0);
    }
    ring.give_up(slot(0));
    for _ in 0..1_000 {
        push(&mut ring, 100, 0);
    }
    ring.acknowledge(slot(0), 1_099, &[u64::MAX; 4]);
    assert_eq!(ring.stats().held, 100);
    assert_eq!(ring.resend(slot(0), slot(0), 0..100).count(), 100);
}

/// A path that begins anew in order: what it then loses at random is not held for ever.
#[test]
fn a_path_begun_anew_is_a_path_in_order() {
    let mut ring = Ring::new(RingLimits::default(), ChunkPool::new(POOL_BYTES));
    for _ in 0..1_000 {
        push(&mut ring, 100, 0);
    }
    assert_eq!(ring.resend(slot(0), slot(0), 0..u64::MAX).count(), 1_000);
    ring.acknowledge(slot(0), 999, &[u64::MAX - 1; 4]);
    assert_eq!(ring.stats().held, 4, "four missing bits within the bitmap, nothing below it");
}

#[test]
fn a_resend_can_be_paced() {
    let mut ring = Ring::new(RingLimits::default(), ChunkPool::new(POOL_BYTES));
    for _ in 0..100 {
        push(&mut ring, 100, 0);
    }
    let mut sent = Vec::new();
    while ring.outstanding(slot(0)) > 0 {
        let from = sent.last().map_or(0, |last| last + 1);
        sent.extend(ring.resend(slot(0), slot(1), from..u64::MAX).take(7).map(|sealed| sealed.counter));
    }
    assert_eq!(sent, (0..100).collect::<Vec<_>>());
    assert_eq!(ring.outstanding(slot(1)), 100);
}

#[test]
fn packets_older_than_any_window_are_forgotten() {
    let mut ring = Ring::new(RingLimits { bytes: 64 << 20, packets: 1 << 20 }, ChunkPool::new(POOL_BYTES));
    for _ in 0..DATA_WINDOW + 10 {
        push(&mut ring, 40, 0);
    }
    assert_eq!(ring.stats().held, DATA_WINDOW);
    assert_eq!(ring.stats().lost, 10);
    assert_eq!(ring.resend(slot(0), slot(0), 0..u64::MAX).next().map(|sealed| sealed.counter), Some(10));
}

#[test]
fn rings_share_the_budget_and_each_keeps_one_chunk() {
    let pool = ChunkPool::new(4 * CHUNK_BYTES);
    let mut greedy = Ring::new(RingLimits::default(), pool.clone());
    let per_chunk = CHUNK_BYTES / 1_000;
    for _ in 0..20 * per_chunk {
        push(&mut greedy, 1_000, 0);
    }
    assert_eq!(greedy.taken, 4, "the budget");
    assert!(greedy.stats().held > 3 * per_chunk - 1 && greedy.stats().held <= 4 * per_chunk);
    assert_eq!(greedy.stats().held as u64 + greedy.stats().overwritten, 20 * per_chunk as u64);

    let mut late = Ring::new(RingLimits::default(), pool.clone());
    for _ in 0..3 * per_chunk {
        push(&mut late, 1_000, 0);
    }
    assert_eq!(late.taken, 1, "one beyond the budget, so that it can send at all");
    assert!(late.stats().held <= per_chunk && late.stats().held > 0);
    let newest = late.resend(slot(0), slot(1), 0..u64::MAX).last().map(|sealed| sealed.counter);
    assert_eq!(newest, Some(3 * per_chunk as u64 - 1));

    assert!(pool.was_short() && !pool.was_short() && late.was_short() && !late.was_short());
    let next = greedy.next_counter();
    greedy.give_memory(2 * CHUNK_BYTES);
    assert_eq!((greedy.memory(), greedy.stats().lost), (2 * CHUNK_BYTES, 0));
    let newest = next - greedy.stats().held as u64..next;
    let left = greedy.resend(slot(0), slot(1), 0..u64::MAX).map(|sealed| sealed.counter);
    assert!(left.eq(newest), "the oldest went");
    for _ in 0..3 * per_chunk {
        push(&mut late, 1_000, 0);
    }
    assert_eq!(late.taken, 2);
    greedy.give_memory(0);
    assert_eq!(greedy.taken, 1);

    greedy.acknowledge_below(greedy.next_counter());
    greedy.shrink();
    assert_eq!(greedy.taken, 0);
    drop((greedy, late));
    assert!(pool.bytes() <= 4 * CHUNK_BYTES);
}

#[test]
fn without_a_ring_a_run_is_there_until_the_next_and_nothing_goes_again() {
    let pool = ChunkPool::new(POOL_BYTES);
    let mut ring = Ring::new(RingLimits::NOTHING, pool.clone());
    for counter in 0..10_000u64 {
        push(&mut ring, 1_000, 0);
        assert_eq!(ring.since(ring.position() - 1_000), content(counter, 1_000));
        assert!(ring.stats().held <= 1 && ring.entries.len() <= 1);
    }
    ring.acknowledge(slot(0), 9_000, &[u64::MAX; 4]);
    ring.give_up(slot(0));
    assert!(ring.resend(slot(0), slot(1), 0..9_999).next().is_none());
    ring.count_missing(0..u64::MAX);
    assert_eq!((ring.next_counter(), ring.stats().lost), (10_000, 0));
    assert!(pool.bytes() <= 2 * CHUNK_BYTES, "one, and one spare");
}

#[test]
fn an_acknowledged_flow_lives_in_one_chunk() {
    let pool = ChunkPool::new(POOL_BYTES);
    let mut ring = Ring::new(RingLimits::default(), pool.clone());
    for counter in 0..100_000u64 {
        push(&mut ring, 1_400, 0);
        if counter % 50 == 49 {
            ring.acknowledge(slot(0), counter, &[u64::MAX; 4]);
        }
    }
    assert!(pool.bytes() <= CHUNK_BYTES, "{}", pool.bytes());
    assert_eq!(ring.stats().overwritten, 0);
}
