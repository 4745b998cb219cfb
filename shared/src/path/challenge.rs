//! Outstanding PINGs of one path: bounded, oldest dropped (hardening: CVE-2023-49295, unbounded path validation).

use super::liveness::PROBE_INTERVAL;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most PINGs outstanding on a path (protocol §7; the same bound as for resumes).
pub const MAX_PENDING: usize = 8;

/// PINGs that were sent and not yet answered.
#[derive(Debug, Default)]
pub struct Challenges {
    pending: VecDeque<Pending>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    id: u64,
    sent: Instant,
    /// It was said to be lost.
    is_overdue: bool,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The round trip.
    pub took: Duration,
    /// Whether it was said to be lost before it came.
    pub is_overdue: bool,
    /// PINGs that this one repeats and that were not said to be lost: they are now.
    pub passed: usize,
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
        self.pending.push_back(Pending { id, sent: now, is_overdue: false });
    }

    /// How many became as old as `patience` and are not answered: each is told once.
    pub fn take_overdue(&mut self, now: Instant, patience: Duration) -> usize {
        let old =
            self.pending.iter_mut().filter(|pending| !pending.is_overdue && now >= pending.sent + patience);
        old.map(|pending| pending.is_overdue = true).count()
    }

    /// The PING `id` was answered, when it is outstanding. It counts once; older ones are forgotten with it, and those that left [`PROBE_INTERVAL`]
    /// before it or longer were lost. (Closer ones ask together: one silence swallows them all.)
    pub fn on_answer(&mut self, now: Instant, id: u64) -> Option<Answer> {
        let at = self.pending.iter().position(|pending| pending.id == id)?;
        let Pending { sent, is_overdue, .. } = *self.pending.get(at)?;
        let before = self.pending.drain(..=at);
        let passed =
            before.filter(|before| !before.is_overdue && before.sent + PROBE_INTERVAL <= sent).count();
        Some(Answer { took: now.saturating_duration_since(sent), is_overdue, passed })
    }

    /// The PING that left last.
    #[cfg(test)]
    pub fn newest_for_test(&self) -> u64 {
        self.pending.back().expect("one is outstanding").id
    }

    /// Whether any PING is outstanding.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// PINGs from 0 on that left so far apart, and when the first did.
    #[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
    fn asked(pings: u64, apart: u64) -> (Instant, Challenges) {
        let (t0, mut challenges) = (Instant::now(), Challenges::default());
        for id in 0..pings {
            challenges.on_sent(t0 + ms(apart * id), id);
        }
        (t0, challenges)
    }

    #[test]
    fn an_answer_counts_once_and_only_for_what_was_asked() {
        let (t0, mut challenges) = asked(20, 1);
        let mut took = |id| challenges.on_answer(t0 + ms(100), id).map(|answer| answer.took);
        assert_eq!(took(3), None, "dropped as the oldest");
        assert_eq!(took(15), Some(ms(85)));
        assert_eq!(took(15), None, "counts once");
        assert_eq!(took(14), None, "older than an answered one");
        assert_eq!(took(99), None, "never asked");
        assert_eq!(took(19), Some(ms(81)));
        assert!(challenges.is_empty());
    }

    #[test]
    fn each_that_is_not_answered_in_time_is_told_once() {
        let (t0, mut challenges) = asked(5, 75);
        assert_eq!(challenges.take_overdue(t0 + ms(249), ms(250)), 0);
        assert_eq!(challenges.take_overdue(t0 + ms(325), ms(250)), 2);
        assert_eq!(challenges.take_overdue(t0 + ms(325), ms(250)), 0, "once");
        let answer = challenges.on_answer(t0 + ms(325), 3);
        assert_eq!(answer, Some(Answer { took: ms(100), is_overdue: false, passed: 0 }));
        assert_eq!(challenges.take_overdue(t0 + ms(550), ms(250)), 1, "those before that one are forgotten");
        let late = challenges.on_answer(t0 + ms(900), 4);
        assert_eq!(late, Some(Answer { took: ms(600), is_overdue: true, passed: 0 }));
    }

    #[test]
    fn what_was_repeated_on_a_long_way_is_lost_when_the_repetition_is_answered() {
        let (t0, mut challenges) = asked(8, 125);
        // The first one was told already, those within a quarter of a second ask together.
        assert_eq!(challenges.take_overdue(t0 + ms(600), ms(600)), 1);
        let answer = challenges.on_answer(t0 + ms(1_000), 5);
        assert_eq!(answer, Some(Answer { took: ms(375), is_overdue: false, passed: 3 }));
        let answer = challenges.on_answer(t0 + ms(1_000), 6);
        assert_eq!(answer, Some(Answer { took: ms(250), is_overdue: false, passed: 0 }));
    }
}
