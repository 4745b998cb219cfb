//! A bucket of tokens: what somebody may make this node compute or send.
//!
//! Handshake messages cost a third of a millisecond of asymmetric work each. Members can make them and a relay can replay
//! them, so each peer has a bucket for first handshakes and one for rekeys: far above what an honest peer needs on a bad
//! day, far below what would be noticed. (WireGuard allows 50 a second and peer; here every repetition is answered from
//! memory, so fewer will do.)

use std::time::{Duration, Instant};

/// Tokens of one kind.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Tokens that may be saved up.
    burst: u32,
    /// One token comes back in this time.
    refill: Duration,
    /// Tokens taken and not yet given back, and when that was reckoned.
    taken: u32,
    at: Option<Instant>,
}

impl Bucket {
    pub(crate) const fn new(burst: u32, refill: Duration) -> Self {
        Self { burst, refill, taken: 0, at: None }
    }

    /// For handshakes of one kind.
    pub(crate) const fn of_handshakes() -> Self {
        Self::new(8, Duration::from_millis(500))
    }

    /// Whether every token taken is back by `now`.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| now.saturating_duration_since(at) >= self.refill * self.taken)
    }

    /// Whether there is no token to take.
    pub(crate) fn is_empty(&self, now: Instant) -> bool {
        let span = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        u128::from(self.taken).saturating_sub(span.as_millis() / self.refill.as_millis())
            >= u128::from(self.burst)
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let at = *self.at.get_or_insert(now);
        let refilled = now.saturating_duration_since(at).as_millis() / self.refill.as_millis();
        let refilled = u32::try_from(refilled).unwrap_or(u32::MAX);
        if refilled >= self.taken {
            self.taken = 0;
            self.at = Some(now);
        } else {
            self.taken -= refilled;
            self.at = Some(at + self.refill * refilled);
        }
        if self.taken >= self.burst {
            return false;
        }
        self.taken += 1;
        true
    }

    /// Gives one back: it was paid for otherwise.
    pub(crate) const fn give_back(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_never_more() {
        let t0 = Instant::now();
        let mut bucket = Bucket::of_handshakes();
        let taken = (0..10_000u64).filter(|n| bucket.take(t0 + Duration::from_millis(*n))).count();
        assert_eq!(taken, 8 + 19, "8 at once, then one each 500 ms up to 9.999 s");
        let mut bucket = Bucket::of_handshakes();
        for n in 0..10_000u64 {
            let now = t0 + Duration::from_millis(n);
            assert_ne!(bucket.is_empty(now), bucket.take(now));
        }
        assert!(bucket.take(t0 + Duration::from_secs(10 * 365 * 86_400)), "a long pause is no overflow");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more_than_was_taken() {
        let t0 = Instant::now();
        let mut bucket = Bucket::new(2, Duration::from_secs(1));
        bucket.give_back();
        assert_eq!([bucket.take(t0), bucket.take(t0), bucket.take(t0)], [true, true, false]);
        bucket.give_back();
        assert_eq!([bucket.take(t0), bucket.take(t0)], [true, false]);
    }
}
