//! Small meters: reports of a peer, bytes to a peer, moves of a station.

use std::time::{Duration, Instant};

/// The span over which moves are counted.
const MOVE_WINDOW: Duration = Duration::from_secs(1);

/// Lets through `burst` at once and `per_second` in the long run (the generic cell rate algorithm, ITU-T
/// I.371: a bucket kept as the one instant at which it will be full again).
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    full_at: Instant,
}

impl Meter {
    pub(super) const fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Whether one more may pass at `now`. A rate or burst of zero lets nothing through.
    pub(super) fn admit(&mut self, now: Instant, per_second: u32, burst: u32) -> bool {
        let Some(interval) = Duration::from_secs(1).checked_div(per_second) else {
            return false;
        };
        self.take(now, interval, interval * burst)
    }

    /// Whether something that takes `cost` of the bucket's time may pass at `now`, where the bucket holds `depth`.
    pub(super) fn take(&mut self, now: Instant, cost: Duration, depth: Duration) -> bool {
        let full_at = self.full_at.max(now) + cost;
        if full_at - now > depth {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

/// Counts the moves of one station within the current second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moves {
    since: Instant,
    count: u32,
}

impl Moves {
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, count: 0 }
    }

    /// Counts one more move; how many it makes within this second.
    pub(super) fn count(&mut self, now: Instant) -> u32 {
        if now.saturating_duration_since(self.since) >= MOVE_WINDOW {
            *self = Self::new(now);
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The promise of a meter: never more than the burst plus the rate times the time that passed.
        #[test]
        fn a_meter_keeps_its_promise(
            per_second in 1u32..200,
            burst in 1u32..50,
            steps in proptest::collection::vec(0u64..100, 1..300),
        ) {
            let begin = Instant::now();
            let (mut meter, mut now, mut passed) = (Meter::new(begin), begin, 0u64);
            for step in steps {
                now += Duration::from_millis(step);
                passed += u64::from(meter.admit(now, per_second, burst));
                let allowed = f64::from(burst) + (now - begin).as_secs_f64() * f64::from(per_second);
                prop_assert!(passed as f64 <= allowed + 1e-3);
            }
        }
    }

    #[test]
    fn a_meter_gives_its_burst_and_then_its_rate() {
        let begin = Instant::now();
        let mut meter = Meter::new(begin);
        let passed = |meter: &mut Meter, now| (0..1000).filter(|_| meter.admit(now, 10, 5)).count();
        assert_eq!(passed(&mut meter, begin), 5);
        assert_eq!(passed(&mut meter, begin + Duration::from_millis(300)), 3);
        assert_eq!(passed(&mut meter, begin + Duration::from_secs(3600)), 5);
        assert!(!Meter::new(begin).admit(begin, 0, 5) && !Meter::new(begin).admit(begin, 5, 0));
    }

    #[test]
    fn moves_are_counted_by_the_second() {
        let begin = Instant::now();
        let mut moves = Moves::new(begin);
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!([0, 10, 999].map(|ms| moves.count(at(ms))), [1, 2, 3]);
        assert_eq!([1000, 1500].map(|ms| moves.count(at(ms))), [1, 2]);
    }
}
