//! Whether a path by datagram, direct or through the relay, or a direct connection may take data, as far as the past is concerned (protocol §7.6).
//!
//! A path that data left because it was in doubt has to stay proven for a while before data returns, longer each time: one that
//! works one way only, or now and then, does not make the session jump (Nebula #893). The record is of the kind of path, not of one
//! address: a path that died and was found anew is no better for it.

use std::time::{Duration, Instant};

/// How long a path has to stay proven after data left one of its kind in doubt; doubled each time, up to [`RETURN_MAX`].
const RETURN_AFTER: Duration = Duration::from_secs(2);
/// See [`RETURN_AFTER`].
const RETURN_MAX: Duration = Duration::from_secs(60);
/// After this time without trouble the doubling begins anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// How often data left paths of one kind in doubt.
#[derive(Debug, Default)]
pub(super) struct Record {
    times: u32,
    last: Option<Instant>,
}

impl Record {
    /// Data left one.
    pub(super) fn on_left_in_doubt(&mut self, now: Instant) {
        let is_old = |at: Instant| now.saturating_duration_since(at) >= FORGIVEN_AFTER;
        if self.last.is_some_and(is_old) {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        self.last = Some(now);
    }

    /// The last time was no fault of the path.
    pub(super) fn forgive(&mut self) {
        self.times = self.times.saturating_sub(1);
    }

    /// Whether a path that is proven now has nothing to show first.
    pub(super) const fn is_clean(&self) -> bool {
        self.times == 0
    }

    /// What a path that was just proven has to show first.
    fn probation(&self, now: Instant) -> Standing {
        let Some(doublings) = self.times.checked_sub(1) else { return Standing::Good };
        Standing::OnProbation(now + RETURN_AFTER.saturating_mul(1 << doublings.min(5)).min(RETURN_MAX))
    }
}

/// How one path stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Standing {
    /// It is not proven, or in doubt.
    #[default]
    Unproven,
    /// It is proven, and has to stay so until then.
    OnProbation(Instant),
    /// It is proven.
    Good,
}

impl Standing {
    /// What it is now.
    pub(super) fn judge(&mut self, now: Instant, is_proven: bool, record: &Record) {
        *self = match *self {
            _ if !is_proven => Self::Unproven,
            Self::Unproven => record.probation(now),
            Self::OnProbation(until) if until <= now => Self::Good,
            standing @ (Self::OnProbation(_) | Self::Good) => standing,
        };
    }

    /// When it may change by time alone.
    pub(super) const fn due(self) -> Option<Instant> {
        if let Self::OnProbation(until) = self { Some(until) } else { None }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
mod tests {
    use super::*;

    #[test]
    fn each_doubt_makes_the_way_back_longer_until_it_is_forgiven() {
        let mut now = Instant::now();
        let mut record = Record::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            let mut standing = Standing::Unproven;
            standing.judge(now, true, &record);
            waits.push(standing.due().map_or(0, |until| (until - now).as_secs()));
            record.on_left_in_doubt(now);
            now += Duration::from_secs(70);
        }
        assert_eq!(waits, [0, 2, 4, 8, 16, 32, 60, 60]);
        now += FORGIVEN_AFTER;
        record.on_left_in_doubt(now);
        let mut standing = Standing::Unproven;
        standing.judge(now, true, &record);
        assert_eq!(standing, Standing::OnProbation(now + RETURN_AFTER));
        standing.judge(now + RETURN_AFTER / 2, false, &record);
        assert_eq!(standing, Standing::Unproven, "a doubt ends the probation");
        standing.judge(now, true, &record);
        standing.judge(now + RETURN_AFTER, true, &record);
        assert_eq!(standing, Standing::Good);
    }
}
