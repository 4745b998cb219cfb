//! Deadlines that say why.
//!
//! Every timer in this crate is a [`Deadline`]: the instant and the reason. The reason reaches the log when the timer
//! fires, so "why did it wake up?" always has an answer.

use std::time::Instant;

/// When to call again, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// Not before this instant.
    pub at: Instant,
    /// What will be due, in words for a log.
    pub why: &'static str,
}

impl Deadline {
    /// A deadline at `at` because of `why`.
    pub const fn new(at: Instant, why: &'static str) -> Self {
        Self { at, why }
    }

    /// The earlier of two optional deadlines; on a tie the first.
    pub fn earlier(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) if b.at < a.at => Some(b),
            (Some(a), _) => Some(a),
            (None, b) => b,
        }
    }

    /// Whether it is due at `now`.
    pub fn is_due(&self, now: Instant) -> bool {
        self.at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
    fn the_earlier_wins_and_nothing_loses_to_something() {
        let base = Instant::now();
        let soon = Deadline::new(base, "soon");
        let late = Deadline::new(base + Duration::from_secs(1), "late");
        assert_eq!(Deadline::earlier(Some(late), Some(soon)), Some(soon));
        assert_eq!(Deadline::earlier(None, Some(late)), Some(late));
        assert_eq!(Deadline::earlier(None, None), None);
        assert!(soon.is_due(base));
        assert!(!late.is_due(base));
    }
}
