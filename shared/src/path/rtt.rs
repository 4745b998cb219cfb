//! The round trip of a path, from the answers of its PINGs.

use std::time::Duration;

/// Answers that have to agree before a path is said to be slow: one may have been held up by a busy machine, or by a TCP that repaired
/// a loss.
const AGREE: usize = 3;
/// A path that seems slow by its first answer is asked again after this ...
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// ... and so often: until it has answered for sixteen seconds, as long as a heartbeat.
const SEEMS_FOR: u32 = 6;
/// Each answer takes this part off what is remembered to have been better.
const FORGOTTEN: u32 = 256;

/// Measured at least once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rtt {
    smoothed: Duration,
    latest: [Duration; AGREE],
    /// How many there were, as far as anybody counts.
    answers: u32,
    /// The shortest, as far as it is remembered.
    best: Duration,
}

impl Rtt {
    pub(super) const fn new(sample: Duration) -> Self {
        Self { smoothed: sample, latest: [sample; AGREE], answers: 1, best: sample }
    }

    /// RFC 6298 §2 with alpha 1/8; but one sample over which a process slept does not make a path slow for minutes: what is less than
    /// half of what was thought is believed at once.
    pub(super) fn add(&mut self, sample: Duration) {
        self.smoothed = if 2 * sample < self.smoothed {
            sample
        } else {
            self.smoothed.mul_f32(0.875) + sample.mul_f32(0.125)
        };
        self.latest.rotate_left(1);
        self.latest[AGREE - 1] = sample;
        self.answers = self.answers.saturating_add(1);
        self.best += self.smoothed.saturating_sub(self.best) / FORGOTTEN;
        self.best = self.best.min(sample);
    }

    /// After which pause it is asked again whether it is as slow as it seems, each time twice as long: the first answers may all be from the
    /// moment in which a machine began with many peers at once. `None` once it had time enough.
    pub(super) fn asked_again(&self) -> Option<Duration> {
        (self.answers <= SEEMS_FOR).then(|| ASK_AGAIN * 2_u32.pow(self.answers - 1))
    }

    /// What is expected of the next answer.
    pub(super) const fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// What each of the latest answers took at least: a path is no better than that.
    pub(super) fn sustained(&self) -> Duration {
        self.latest.into_iter().fold(self.smoothed, Duration::min)
    }

    /// The shortest; what became slower for good counts as usual after some hundred answers.
    pub(super) const fn best(&self) -> Duration {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_round_trip_over_which_somebody_slept_is_forgotten_with_the_next() {
        let mut slept = Rtt::new(ms(20));
        slept.add(ms(9000));
        assert!(slept.smoothed() > ms(1000));
        slept.add(ms(20));
        assert_eq!(slept.smoothed(), ms(20));
        let mut jitter = Rtt::new(ms(40));
        jitter.add(ms(20));
        assert_eq!(jitter.smoothed(), ms(375) / 10, "jitter is smoothed");
    }

    #[test]
    fn one_answer_that_was_held_up_is_no_slow_path_and_three_are() {
        let mut rtt = Rtt::new(ms(40));
        rtt.add(ms(900));
        assert!(rtt.smoothed() > ms(140));
        assert_eq!(rtt.sustained(), ms(40));
        rtt.add(ms(40));
        rtt.add(ms(900));
        assert_eq!(rtt.sustained(), ms(40));
        rtt.add(ms(300));
        rtt.add(ms(300));
        assert!(rtt.sustained() > ms(140));
        rtt.add(ms(40));
        assert_eq!((rtt.smoothed(), rtt.sustained()), (ms(40), ms(40)), "what is better is believed at once");
        assert_eq!(rtt.best(), ms(40));
        for _ in 0..50 {
            rtt.add(ms(300));
        }
        assert!(rtt.best() < ms(100));
        for _ in 0..1_000 {
            rtt.add(ms(300));
        }
        assert!(rtt.best() > ms(280));
    }
}
