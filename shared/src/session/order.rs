//! Order across a planned move: what overtakes on a faster path waits for what is still under way on the slower one
//! (protocol §7.6).
//!
//! # What it does
//!
//! A path delivers in the order of sending, more or less; two paths beside each other do not. When the sender moves from a slow
//! path to a fast one, the first packets on the fast one arrive while the last ones on the slow one are under way. The sender
//! ends the old path with a marker. Until that comes, what is ahead of a gap on another path than before is held, and given on
//! in the order of its counters.
//!
//! # Life
//!
//! One [`Order`] per association, beside its [`OpenHalf`](crate::session::OpenHalf): every packet that opened is shown to
//! [`Order::on_opened`], which says whether it is to be delivered now. What is to be held is given to [`Order::hold`], and
//! comes back from [`Order::take`].
//!
//! # Invariants
//!
//! - Nothing is held longer than the patience given, and no more than [`HELD_BYTES`]: then it is given on, gap or not.
//! - Nothing is held while one path is used, however lossy it is.
//! - What was held is given on once, in ascending order, and before anything newer.
//! - What closes the gap, by whatever path, is never held.

use crate::session::ack::PathSlot;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Bytes held at most for one association: 100 ms at 640 Mbit/s.
pub const HELD_BYTES: usize = 8 << 20;
/// Packets held at most.
pub const HELD_PACKETS: usize = 16_384;
/// Markers noted while something is held: moves follow each other much slower.
const ENDED: usize = 16;
/// The shortest: on a path of microseconds it is the scheduling of busy machines that takes its time.
pub const PATIENCE_MIN: Duration = Duration::from_millis(50);
/// The longest patience: the slowest path that is worth waiting for.
pub const PATIENCE_MAX: Duration = Duration::from_millis(500);

/// What becomes of a packet that opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// It is to be delivered now, then whatever [`Order::take`] gives.
    Now,
    /// It is to be given to [`Order::hold`].
    Later,
}

/// Packets in [`FLOW_SPAN`], or the one before, of somebody whose silence means something.
const FLOW: u32 = 5;
/// See [`FLOW`].
const FLOW_SPAN: Duration = Duration::from_secs(1);
/// A silence of this length is nothing that a move makes: what is kept for longer is given up (protocol §5.2).
const LONGEST_GAP: Duration = Duration::from_secs(60);

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OrderStats {
    /// How often data began to come by another path.
    pub moves: u64,
    /// Packets delivered after one with a higher counter.
    pub reordered: u64,
    /// Packets that were held.
    pub held: u64,
    /// Holds that ended without the marker, because it did not come in time or too much was held.
    pub impatient: u64,
    /// How long nothing had been delivered when the first packet of the last move was; `None` where the peer had little to say before
    /// that, so that it tells nothing of the move.
    pub gap: Option<Duration>,
}

/// The order of one association.
#[derive(Debug)]
pub struct Order {
    /// Every counter below was delivered, or is late.
    next: u64,
    /// The path that data comes by; `None` when that ended and nothing came since.
    path: Option<PathSlot>,
    waiting: Option<Waiting>,
    /// By counter, which a member may let come in any order; given on once nothing is waited for.
    held: BTreeMap<u64, Held>,
    bytes: usize,
    /// Markers that came meanwhile.
    ended: Vec<(PathSlot, u64)>,
    delivered: Option<Instant>,
    /// What was delivered in the second that began then, and in the one before.
    flow: (Option<Instant>, u32, u32),
    /// The gap of the move under way is not measured yet.
    is_moving: bool,
    stats: OrderStats,
}

/// What a hold waits for.
#[derive(Debug)]
struct Waiting {
    /// The path whose marker ends it, if that is known.
    on: Option<PathSlot>,
    until: Instant,
}

#[derive(Debug)]
struct Held {
    path: PathSlot,
    bytes: Vec<u8>,
}

impl Default for Order {
    /// Nothing has come yet. What comes first is expected by the relay's stream, where every session begins.
    fn default() -> Self {
        Self {
            next: 0,
            path: Some(PathSlot::FIRST),
            waiting: None,
            held: BTreeMap::new(),
            bytes: 0,
            ended: Vec::new(),
            delivered: None,
            flow: (None, 0, 0),
            is_moving: false,
            stats: OrderStats::default(),
        }
    }
}

impl Order {
    /// A packet with `counter` opened that came over `path`; `is_end` when it is the marker that ends the path. `patience` is how
    /// long the path before may be behind the new one: its round trip.
    pub fn on_opened(
        &mut self,
        now: Instant,
        path: PathSlot,
        counter: u64,
        is_end: bool,
        patience: Duration,
    ) -> Turn {
        let Some(waiting) = &self.waiting else {
            if is_end {
                self.on_ended(path, counter);
                return Turn::Now;
            }
            if counter <= self.next || self.path == Some(path) {
                self.on_delivered(now, path, counter);
                return Turn::Now;
            }
            self.waiting =
                Some(Waiting { on: self.path, until: now + patience.clamp(PATIENCE_MIN, PATIENCE_MAX) });
            return Turn::Later;
        };
        if is_end {
            // That of another path is for a later move; both count once what is held was given on.
            if self.ended.len() < ENDED {
                self.ended.push((path, counter));
            }
            if waiting.on.is_none_or(|on| on == path) {
                self.waiting = None;
            }
            return Turn::Now;
        }
        let first = self.held.first_key_value().map_or(u64::MAX, |(counter, _)| *counter);
        if counter < first && (waiting.on.is_none_or(|on| on == path) || counter <= self.next) {
            self.on_delivered(now, path, counter);
            if self.next >= first {
                self.waiting = None;
            }
            return Turn::Now;
        }
        Turn::Later
    }

    /// Keeps the bytes of a packet that was told to wait.
    pub fn hold(&mut self, path: PathSlot, counter: u64, bytes: Vec<u8>) {
        self.stats.held += 1;
        self.bytes += bytes.len();
        // The replay window lets no counter come twice.
        self.held.insert(counter, Held { path, bytes });
        if self.bytes > HELD_BYTES || self.held.len() > HELD_PACKETS {
            self.give_in();
        }
    }

    /// The next packet that need not wait any more. Call until there is none after each packet, and at [`Self::deadline`].
    pub fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.waiting.as_ref().is_some_and(|waiting| waiting.until <= now) {
            self.give_in();
        }
        if self.waiting.is_some() {
            return None;
        }
        let (counter, held) = self.held.pop_first()?;
        self.bytes -= held.bytes.len();
        self.on_delivered(now, held.path, counter);
        if self.held.is_empty() {
            for (path, counter) in std::mem::take(&mut self.ended) {
                self.on_ended(path, counter);
            }
        }
        Some(held.bytes)
    }

    /// When [`Self::take`] has something at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| waiting.until)
    }

    /// The path that data comes by; `None` when that ended and nothing came since.
    pub const fn path(&self) -> Option<PathSlot> {
        self.path
    }

    /// Bytes held.
    pub const fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Stops waiting: whoever holds for many has no room left.
    pub fn give_in(&mut self) {
        if self.waiting.take().is_some() {
            self.stats.impatient += 1;
        }
    }

    /// What was seen.
    pub const fn stats(&self) -> OrderStats {
        self.stats
    }

    fn on_ended(&mut self, path: PathSlot, counter: u64) {
        self.next = self.next.max(counter.saturating_add(1));
        self.path = self.path.filter(|ended| *ended != path);
    }

    fn on_delivered(&mut self, now: Instant, path: PathSlot, counter: u64) {
        if counter >= self.next {
            self.next = counter.saturating_add(1);
            if self.path.replace(path) != Some(path) {
                self.stats.moves += 1;
                self.is_moving = true;
            }
        } else {
            self.stats.reordered += 1;
        }
        let before = self.delivered.replace(now);
        if std::mem::take(&mut self.is_moving) {
            let is_flow = self.flow.1 + self.flow.2 >= FLOW;
            let gap = before.map(|before| now.saturating_duration_since(before));
            self.stats.gap = gap.filter(|gap| is_flow && *gap < LONGEST_GAP);
        }
        self.count(now);
    }

    /// Counts what is delivered by the second.
    fn count(&mut self, now: Instant) {
        let (began, current, _) = &mut self.flow;
        let age = began.map_or(Duration::MAX, |began| now.saturating_duration_since(began));
        if age < FLOW_SPAN {
            *current = current.saturating_add(1);
        } else {
            let before = if age < 2 * FLOW_SPAN { *current } else { 0 };
            self.flow = (Some(now), 1, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SLOW: PathSlot = PathSlot::FIRST;
    const FAST: PathSlot = PathSlot::FOURTH;
    const PATIENCE: Duration = Duration::from_millis(100);

    #[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
    fn epoch() -> Instant {
        Instant::now()
    }

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A receiver that notes what it delivers.
    struct Receiver {
        now: Instant,
        order: Order,
        delivered: Vec<u64>,
    }

    impl Receiver {
        fn new() -> Self {
            Self { now: epoch(), order: Order::default(), delivered: vec![] }
        }

        fn opened(&mut self, path: PathSlot, counter: u64) {
            self.packet(path, counter, false);
        }

        fn packet(&mut self, path: PathSlot, counter: u64, is_end: bool) {
            match self.order.on_opened(self.now, path, counter, is_end, PATIENCE) {
                Turn::Now if is_end => {}
                Turn::Now => self.delivered.push(counter),
                Turn::Later => self.order.hold(path, counter, counter.to_be_bytes().to_vec()),
            }
            self.take();
        }

        fn take(&mut self) {
            while let Some(bytes) = self.order.take(self.now) {
                self.delivered.push(u64::from_be_bytes(bytes.try_into().unwrap()));
            }
        }

        fn pass(&mut self, span: Duration) {
            self.now += span;
            self.take();
        }
    }

    #[test]
    fn what_overtakes_waits_for_the_marker() {
        let mut receiver = Receiver::new();
        (0..5).for_each(|n| receiver.opened(SLOW, n));
        // 5 to 7 and the marker, 8, are under way on the slow path.
        (9..12).for_each(|n| receiver.opened(FAST, n));
        assert_eq!(receiver.delivered, [0, 1, 2, 3, 4]);
        assert_eq!(receiver.order.deadline(), Some(receiver.now + PATIENCE));
        (5..8).for_each(|n| receiver.opened(SLOW, n));
        receiver.packet(SLOW, 8, true);
        assert_eq!(receiver.delivered, (0..8).chain(9..12).collect::<Vec<_>>());
        receiver.opened(FAST, 12);
        assert_eq!(receiver.delivered.last(), Some(&12));
        let stats = receiver.order.stats();
        assert_eq!((stats.moves, stats.reordered, stats.held, stats.impatient), (1, 0, 3, 0));
        assert_eq!((receiver.order.held_bytes(), receiver.order.deadline()), (0, None));
    }

    #[test]
    fn a_loss_on_the_old_path_costs_no_more_than_its_round_trip() {
        let mut receiver = Receiver::new();
        receiver.opened(SLOW, 0);
        // 1 is lost, and so is the marker.
        receiver.opened(FAST, 3);
        receiver.pass(PATIENCE.saturating_sub(millis(1)));
        assert_eq!(receiver.delivered, [0]);
        receiver.pass(millis(1));
        assert_eq!(receiver.delivered, [0, 3]);
        receiver.opened(FAST, 4);
        receiver.opened(FAST, 9);
        assert_eq!(receiver.delivered, [0, 3, 4, 9], "one path and its losses are nobody's business");
        assert_eq!(receiver.order.stats().impatient, 1);
    }

    #[test]
    fn a_loss_before_the_marker_does_not_wait() {
        let mut receiver = Receiver::new();
        receiver.opened(SLOW, 0);
        receiver.opened(FAST, 4);
        receiver.opened(SLOW, 2);
        receiver.packet(SLOW, 3, true);
        assert_eq!(receiver.delivered, [0, 2, 4]);
    }

    #[test]
    fn a_move_to_a_slower_path_holds_nothing() {
        let mut receiver = Receiver::new();
        receiver.opened(SLOW, 0);
        (1..3).for_each(|n| receiver.opened(FAST, n));
        receiver.packet(FAST, 3, true);
        receiver.pass(millis(80));
        (4..6).for_each(|n| receiver.opened(SLOW, n));
        assert_eq!(receiver.delivered, [0, 1, 2, 4, 5]);
    }

    #[test]
    fn the_silence_around_a_move_is_measured_where_there_was_something_to_say() {
        let mut receiver = Receiver::new();
        (0..5).for_each(|n| receiver.opened(SLOW, n));
        receiver.packet(SLOW, 5, true);
        receiver.pass(millis(80));
        receiver.opened(FAST, 6);
        assert_eq!(receiver.order.stats().gap, Some(millis(80)));
        // A packet an hour, and a packet a second: nobody was kept waiting.
        for (pause, n) in [(3_600_000, 7), (1_000, 8), (1_000, 9), (1_000, 10)] {
            receiver.pass(millis(pause));
            let path = if n % 2 == 0 { FAST } else { SLOW };
            receiver.opened(path, n);
            receiver.pass(PATIENCE);
            assert_eq!(receiver.order.stats().gap, None, "after {pause} ms");
        }
        (11..20).for_each(|n| receiver.opened(FAST, n));
        receiver.pass(millis(30));
        receiver.packet(FAST, 20, true);
        receiver.opened(SLOW, 21);
        assert_eq!(receiver.order.stats().gap, Some(millis(30)));
    }

    #[test]
    fn what_is_sent_again_after_a_path_died_is_not_held() {
        let mut receiver = Receiver::new();
        (0..3).for_each(|n| receiver.opened(FAST, n));
        // 3 to 5 were swallowed; all unacknowledged ones come again, the oldest first.
        (3..9).for_each(|n| receiver.opened(SLOW, n));
        assert_eq!(receiver.delivered, (0..9).collect::<Vec<_>>());
        assert_eq!(receiver.order.stats().held, 0);
    }

    #[test]
    fn too_much_is_not_held() {
        let mut receiver = Receiver::new();
        receiver.opened(SLOW, 0);
        let first = 5;
        for n in first..first + HELD_PACKETS as u64 {
            receiver.opened(FAST, n);
        }
        assert_eq!(receiver.delivered, [0]);
        receiver.opened(FAST, first + HELD_PACKETS as u64);
        assert_eq!(receiver.delivered.len(), 2 + HELD_PACKETS);
        let mut order = Order::default();
        assert_eq!(order.on_opened(receiver.now, SLOW, 0, false, PATIENCE), Turn::Now);
        for n in 2..2 + (HELD_BYTES as u64 >> 20) {
            assert_eq!(order.on_opened(receiver.now, FAST, n, false, PATIENCE), Turn::Later);
            order.hold(FAST, n, vec![0; 1 << 20]);
            assert_eq!(order.take(receiver.now), None);
        }
        assert_eq!(order.on_opened(receiver.now, FAST, 90, false, PATIENCE), Turn::Later);
        order.hold(FAST, 90, vec![0; 1]);
        assert!(order.take(receiver.now).is_some());
    }

    #[test]
    fn patience_has_a_bound_whatever_round_trip_is_claimed() {
        let mut order = Order::default();
        let now = epoch();
        let day = Duration::from_secs(86_400);
        assert_eq!(order.on_opened(now, SLOW, 0, false, day), Turn::Now);
        assert_eq!(order.on_opened(now, FAST, 2, false, day), Turn::Later);
        order.hold(FAST, 2, vec![]);
        assert_eq!(order.deadline(), Some(now + PATIENCE_MAX));
    }

    proptest! {
        /// Two ordered paths, moves between them at random, losses, and any interleaving.
        #[test]
        fn everything_comes_out_once_and_in_order(
            turns in prop::collection::vec((0u8..12, any::<bool>(), 0u64..40), 1..400),
            loses in any::<bool>(),
        ) {
            let mut receiver = Receiver::new();
            let mut wires: [std::collections::VecDeque<(u64, bool)>; 2] = Default::default();
            let (mut at, mut counter, mut sent) = (0, 0, vec![]);
            for (what, which, span) in turns {
                match what {
                    // A planned move.
                    0 if wires[1 - at].is_empty() => {
                        wires[at].push_back((counter, true));
                        counter += 1;
                        at = 1 - at;
                    }
                    1..=5 => {
                        if !(loses && what == 1) {
                            wires[at].push_back((counter, false));
                            sent.push(counter);
                        }
                        counter += 1;
                    }
                    _ => {
                        let which = usize::from(which);
                        if let Some((counter, is_end)) = wires[which].pop_front() {
                            receiver.packet([SLOW, FAST][which], counter, is_end);
                        }
                    }
                }
                // Less than the patience in all, so that only markers and gaps end a hold.
                receiver.pass(Duration::from_micros(span));
            }
            for which in [1 - at, at] {
                for (counter, is_end) in std::mem::take(&mut wires[which]) {
                    receiver.packet([SLOW, FAST][which], counter, is_end);
                }
            }
            receiver.pass(PATIENCE_MAX);
            prop_assert_eq!(receiver.delivered, sent);
            prop_assert_eq!(receiver.order.held_bytes(), 0);
        }
    }
}
