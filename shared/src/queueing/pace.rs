//! How fast a stream takes bytes, from how long its writes wait; and how much may wait before it, in time.
//!
//! Only writes that had to wait say how fast it is: what a socket takes at once went into its buffer, however slow the line. Their bytes and
//! their time are added up, and what lies [`MEMORY`] of waiting back is forgotten; all of it is when none had to wait for a good while.
//!
//! Before any had to wait, little may be ahead, for the line may be slow and all of that is queue; and twice as much each time that as much and
//! more went within the time that it is meant to last.

use std::time::{Duration, Instant};

/// What may wait in front of a socket, and as much again inside, unsent: with what waits before that it is about 20 ms
/// ([`CoDel`](super::CoDel)), more than a writer that is not scheduled for a moment needs, and little beside the line's own buffer.
const AHEAD: Duration = Duration::from_millis(5);
/// Waiting, not time that passes: a line that is idle does not change its pace by that.
const MEMORY: Duration = Duration::from_millis(100);
/// A write that took no longer than this, and [`COPIED`] for each byte, did not wait: it was copied, and perhaps sent on the spot. Small writes that
/// wait for a slow line take less than large ones that do not.
const CALLED: Duration = Duration::from_micros(100);
/// As fast as 400 Mbit/s; there it is all the same.
const COPIED: Duration = Duration::from_nanos(20);
/// So many times what may be ahead went without a wait: whatever the line was, it is not what anything waits for.
const FREE: usize = 16;
/// Less than a dozen frames, and each of them costs a wake-up.
pub(super) const BYTES_MIN: usize = 16 << 10;
/// What a stream may have ahead when nothing is known of it: 13 ms at 20 Mbit/s, and the largest message, once.
pub const BYTES_FIRST: usize = 32 << 10;
/// And at most: 5 ms at 400 Mbit/s, two dozen full batches of small frames.
pub const BYTES_MAX: usize = 256 << 10;

/// See the module page.
#[derive(Debug)]
pub struct Pace {
    bytes: f64,
    seconds: f64,
    /// Bytes since a write had to wait.
    free: usize,
    /// What may be ahead while nothing is known.
    open: usize,
    /// What went without a wait since then, for [`AHEAD`] at most.
    burst: Option<(Instant, usize)>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { bytes: 0.0, seconds: 0.0, free: 0, open: BYTES_FIRST, burst: None }
    }
}

impl Pace {
    /// So many bytes were written by `now` in this time.
    pub fn on_written(&mut self, now: Instant, bytes: usize, took: Duration) {
        let copied = COPIED.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        if took <= CALLED + copied || bytes == 0 {
            self.on_free(now, bytes);
            return;
        }
        (self.free, self.burst) = (0, None);
        let seconds = took.as_secs_f64();
        let kept = (-seconds / MEMORY.as_secs_f64()).exp();
        self.bytes = self.bytes * kept + u32::try_from(bytes).map_or_else(|_| f64::from(u32::MAX), f64::from);
        self.seconds = self.seconds * kept + seconds;
    }

    /// They did not wait.
    fn on_free(&mut self, now: Instant, bytes: usize) {
        self.free = self.free.saturating_add(bytes);
        let ahead = self.ahead();
        if self.free > FREE * ahead {
            *self = Self { open: ahead.max(BYTES_FIRST), ..Self::default() };
        }
        let is_over = |since: Instant| now.saturating_duration_since(since) > AHEAD;
        let (since, before) = self.burst.filter(|(since, _)| !is_over(*since)).unwrap_or((now, 0));
        let burst = before.saturating_add(bytes);
        // As much was in front of the socket, and as much inside.
        self.burst = (burst <= 2 * self.open).then_some((since, burst));
        if self.burst.is_none() {
            self.open = (2 * self.open).min(BYTES_MAX);
        }
    }

    /// Bytes that it takes in `time`, as far as is known.
    pub fn worth(&self, time: Duration) -> Option<usize> {
        let bytes = (self.seconds > 0.0).then(|| self.bytes / self.seconds * time.as_secs_f64())?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        Some(bytes as usize)
    }

    /// Bytes that may wait in front of the socket, and the same inside.
    pub fn ahead(&self) -> usize {
        self.worth(AHEAD).unwrap_or(self.open).clamp(BYTES_MIN, BYTES_MAX)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
mod tests {
    use super::*;

    const MBIT: usize = 125;
    const AT_ONCE: Duration = Duration::from_micros(30);

    /// Writes of so many bytes each on a line of `rate` bytes a millisecond, for `millis`.
    fn line(pace: &mut Pace, now: &mut Instant, rate: usize, bytes: usize, millis: usize) {
        let took = Duration::from_secs_f64(bytes as f64 / rate as f64 / 1000.0);
        for _ in 0..millis * rate / bytes {
            *now += took;
            pace.on_written(*now, bytes, took);
        }
    }

    #[test]
    fn a_slow_line_has_five_milliseconds_ahead_and_a_fast_one_as_much_as_any() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for (mbit, ahead) in [(40, 25_000), (4, BYTES_MIN), (200, 125_000), (1_000, BYTES_MAX), (40, 25_000)]
        {
            line(&mut pace, &mut now, mbit * MBIT, 64 << 10, 600);
            assert!(pace.ahead().abs_diff(ahead) <= ahead / 10, "{mbit} Mbit/s: {}", pace.ahead());
        }
    }

    #[test]
    fn what_is_not_known_has_little_ahead_until_much_went_at_once() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        // 10 Mbit/s that no line makes wait: it says nothing of how fast that is.
        for _ in 0..2_000 {
            now += Duration::from_millis(1);
            pace.on_written(now, 10 * MBIT, AT_ONCE);
            assert_eq!(pace.ahead(), BYTES_FIRST);
        }
        for ahead in [1, 2, 4, 8, 8].map(|times| times * BYTES_FIRST) {
            now += AHEAD + AT_ONCE;
            (0..2).for_each(|_| pace.on_written(now, ahead, AT_ONCE));
            assert_eq!(pace.ahead(), ahead, "that much may be inside");
            pace.on_written(now, 1, AT_ONCE);
            assert_eq!(pace.ahead(), (2 * ahead).min(BYTES_MAX));
        }
    }

    #[test]
    fn what_a_socket_takes_at_once_says_nothing_until_it_takes_all() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        line(&mut pace, &mut now, 40 * MBIT, 25_000, 500);
        let before = pace.ahead();
        for _ in 0..100 {
            // Its buffer, and the line.
            (0..8).for_each(|_| pace.on_written(now, before, AT_ONCE));
            assert_eq!(pace.ahead(), before);
            line(&mut pace, &mut now, 40 * MBIT, 25_000, 10);
        }
        for _ in 0..FREE + 16 {
            now += 10 * AT_ONCE;
            pace.on_written(now, 2 * before, 10 * AT_ONCE);
        }
        assert_eq!(pace.ahead(), BYTES_MAX, "the line is another");
    }

    #[test]
    fn small_writes_tell_as_much_as_large_ones() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        // A frame at a time, on 40 Mbit/s.
        line(&mut pace, &mut now, 40 * MBIT, 1_000, 500);
        assert!(pace.ahead().abs_diff(25_000) <= 2_500, "{}", pace.ahead());
    }

    #[test]
    fn no_time_and_no_size_is_too_much() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        (0..3).for_each(|_| pace.on_written(now, usize::MAX, Duration::from_millis(1)));
        assert_eq!(pace.ahead(), BYTES_MAX);
        pace.on_written(now, 1, Duration::from_secs(1 << 40));
        assert_eq!(pace.ahead(), BYTES_MIN);
    }
}
