//! How fast a stream takes bytes, from how long its writes wait; and how much may wait before it, in time.
//!
//! Only writes that had to wait say how fast it is: what a socket takes at once went into its buffer, however slow the line. Their bytes and
//! their time are added up, and what lies [`MEMORY`] of waiting back is forgotten; all of it is when none had to wait for a good while.

use std::time::Duration;

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
const BYTES_MIN: usize = 16 << 10;
/// What a stream may have ahead at most, and as long as nothing is known: 5 ms at 400 Mbit/s, two dozen full batches of small frames.
pub const BYTES_MAX: usize = 256 << 10;

/// See the module page.
#[derive(Debug, Default)]
pub struct Pace {
    bytes: f64,
    seconds: f64,
    /// Bytes since a write had to wait.
    free: usize,
}

impl Pace {
    /// So many bytes were written in this time.
    pub fn on_written(&mut self, bytes: usize, took: Duration) {
        let copied = COPIED.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        if took <= CALLED + copied || bytes == 0 {
            self.free = self.free.saturating_add(bytes);
            if self.free > FREE * self.ahead() {
                *self = Self::default();
            }
            return;
        }
        self.free = 0;
        let seconds = took.as_secs_f64();
        let kept = (-seconds / MEMORY.as_secs_f64()).exp();
        self.bytes = self.bytes * kept + u32::try_from(bytes).map_or_else(|_| f64::from(u32::MAX), f64::from);
        self.seconds = self.seconds * kept + seconds;
    }

    /// Bytes that it takes in `time`, as far as is known.
    pub fn worth(&self, time: Duration) -> Option<usize> {
        let bytes = (self.seconds > 0.0).then(|| self.bytes / self.seconds * time.as_secs_f64())?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        Some(bytes as usize)
    }

    /// Bytes that may wait in front of the socket, and the same inside.
    pub fn ahead(&self) -> usize {
        self.worth(AHEAD).unwrap_or(BYTES_MAX).clamp(BYTES_MIN, BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MBIT: usize = 125;

    /// Writes of so many bytes each on a line of `rate` bytes a millisecond, for `millis`.
    fn line(pace: &mut Pace, rate: usize, bytes: usize, millis: usize) {
        let took = Duration::from_secs_f64(bytes as f64 / rate as f64 / 1000.0);
        for _ in 0..millis * rate / bytes {
            pace.on_written(bytes, took);
        }
    }

    #[test]
    fn a_slow_line_has_five_milliseconds_ahead_and_a_fast_one_as_much_as_any() {
        let mut pace = Pace::default();
        assert_eq!(pace.ahead(), BYTES_MAX);
        for (mbit, ahead) in [(40, 25_000), (4, BYTES_MIN), (200, 125_000), (1_000, BYTES_MAX), (40, 25_000)]
        {
            line(&mut pace, mbit * MBIT, 64 << 10, 600);
            assert!(pace.ahead().abs_diff(ahead) <= ahead / 10, "{mbit} Mbit/s: {}", pace.ahead());
        }
    }

    #[test]
    fn what_a_socket_takes_at_once_says_nothing_until_it_takes_all() {
        let mut pace = Pace::default();
        line(&mut pace, 40 * MBIT, 25_000, 500);
        let before = pace.ahead();
        for _ in 0..100 {
            // Its buffer, and the line.
            (0..8).for_each(|_| pace.on_written(before, Duration::from_micros(30)));
            assert_eq!(pace.ahead(), before);
            line(&mut pace, 40 * MBIT, 25_000, 10);
        }
        for _ in 0..FREE + 1 {
            pace.on_written(before, Duration::from_micros(300));
        }
        assert_eq!(pace.ahead(), BYTES_MAX, "the line is another");
    }

    #[test]
    fn small_writes_tell_as_much_as_large_ones() {
        let mut pace = Pace::default();
        // A frame at a time, on 40 Mbit/s.
        line(&mut pace, 40 * MBIT, 1_000, 500);
        assert!(pace.ahead().abs_diff(25_000) <= 2_500, "{}", pace.ahead());
    }

    #[test]
    fn no_time_and_no_size_is_too_much() {
        let mut pace = Pace::default();
        pace.on_written(usize::MAX, Duration::from_millis(1));
        assert_eq!(pace.ahead(), BYTES_MAX);
        pace.on_written(1, Duration::from_secs(1 << 40));
        assert_eq!(pace.ahead(), BYTES_MIN);
    }
}
