//! Outstanding PINGs of one path: bounded, oldest dropped (hardening: CVE-2023-49295, unbounded path validation).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most PINGs outstanding on a path (protocol §7; the same bound as for resumes).
pub const MAX_PENDING: usize = 8;

/// PINGs that were sent and not yet answered.
#[derive(Debug, Default)]
pub struct Challenges {
    pending: VecDeque<(u64, Instant)>,
}

impl Challenges {
    /// None outstanding.
    pub const fn new() -> Self {
        Self { pending: VecDeque::new() }
    }

    /// Notes that the PING `id` left at `now`; forgets the oldest one when there are too many.
    pub fn on_sent(&mut self, now: Instant, id: u64) {
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back((id, now));
    }

    /// The round trip of the PING `id` when it is outstanding. It counts once; older ones are forgotten with it.
    pub fn on_answer(&mut self, now: Instant, id: u64) -> Option<Duration> {
        let at = self.pending.iter().position(|(pending, _)| *pending == id)?;
        let (_, sent) = self.pending.drain(..=at).next_back()?;
        Some(now.saturating_duration_since(sent))
    }

    /// The PING that left last.
    #[cfg(test)]
    pub fn newest_for_test(&self) -> u64 {
        self.pending.back().expect("one is outstanding").0
    }

    /// Whether any PING is outstanding.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
    fn an_answer_counts_once_and_only_for_what_was_asked() {
        let t0 = Instant::now();
        let ms = Duration::from_millis;
        let mut challenges = Challenges::default();
        for id in 0..20 {
            challenges.on_sent(t0 + ms(id), id);
        }
        assert_eq!(challenges.on_answer(t0 + ms(100), 3), None, "dropped as the oldest");
        assert_eq!(challenges.on_answer(t0 + ms(100), 15), Some(ms(85)));
        assert_eq!(challenges.on_answer(t0 + ms(100), 15), None, "counts once");
        assert_eq!(challenges.on_answer(t0 + ms(100), 14), None, "older than an answered one");
        assert_eq!(challenges.on_answer(t0 + ms(100), 99), None, "never asked");
        assert_eq!(challenges.on_answer(t0 + ms(100), 19), Some(ms(81)));
        assert!(challenges.is_empty());
    }
}
