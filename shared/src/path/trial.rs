//! Whether a path that carries no data would lose less than the one that does: what loses much is left only for what does not
//! (protocol §7.2).
//!
//! # Life
//!
//! Wanted while data's path loses too much ([`Trial::want`]) → PINGs, asked each [`EVERY`] for [`SPAN`] → a verdict, good for [`LASTS`] → wanted
//! again. What is answered late counts as lost ([`LATE`]): a stream loses nothing, and on a bad line takes its time. A path that falls silent meanwhile
//! is put off for a few seconds, for longer each time ([`AFTER_DOUBT`]): the doubt may be of a moment, and data that went back to what it fled waits
//! for this; but what loses much falls silent often, and must not be asked until it passes by chance.
//!
//! # Invariants
//!
//! - Nothing is known to be fit before it was tried, nor for long after, nor when it fell silent since.
//! - At most one trial in [`LASTS`], but for a few that silence ended: a peer whose data is lost, or who says so, causes no more PINGs than that.

use std::time::{Duration, Instant};

/// PINGs are asked for this often meanwhile.
pub const EVERY: Duration = Duration::from_millis(100);
/// How long it takes at least, ...
pub const SPAN: Duration = Duration::from_secs(3);
/// ... and so many answers, ...
const ENOUGH: u32 = 25;
/// ... but no longer than this, if there are [`LEAST`]: where an answer takes long there are fewer.
const SPAN_MAX: Duration = Duration::from_secs(9);
/// Who has not answered so often by then is not fit: with the slowest round trip that is reckoned with ([`super::liveness`]) it takes sixteen.
const SPAN_LONGEST: Duration = Duration::from_secs(18);
/// How long a verdict holds, and how long the next trial is put off.
pub const LASTS: Duration = Duration::from_secs(30);
/// So many may stay unanswered: with a fifth lost each way that happens to one path in five thousand; with a hundredth more than that to one in ten.
const MOST_LOST: u32 = 1;
/// Fewer answers say nothing.
const LEAST: u32 = 8;
/// A stream's answer is late that takes half as long again as the shortest, and at least this much longer: a segment that was lost is missed
/// a PING and a quarter of a round trip later at the earliest (RACK, RFC 8985 §7.2). What a radio link holds up takes less.
const LATE: Duration = EVERY;
/// So many answers of a stream may be late: with a fifth lost each way, each third is.
const MOST_LATE: u32 = 2;

/// How long a path that fell silent is not tried; doubled each time up to [`LASTS`], until it was fit for as long as that is known.
const AFTER_DOUBT: Duration = Duration::from_secs(3);

/// What is known of one path.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trial {
    known: Known,
    /// How often it fell silent while it was tried or fit.
    doubts: u32,
}

#[derive(Debug, Clone, Copy, Default)]
enum Known {
    #[default]
    Nothing,
    Asking(Asking),
    Over {
        at: Instant,
        is_fit: bool,
    },
    /// It fell silent, and is not tried before.
    Doubted {
        until: Instant,
    },
}

#[derive(Debug, Clone, Copy)]
struct Asking {
    since: Instant,
    asked: u32,
    /// PINGs that were not answered in time.
    lost: u32,
    /// Answers of a stream that were late.
    late: u32,
    /// The shortest that an answer took.
    best: Option<Duration>,
}

impl Trial {
    /// It is to be tried, unless that is known or under way. Whether it begins.
    pub fn want(&mut self, now: Instant) -> bool {
        self.forget_doubts(now);
        let is_known = match self.known {
            Known::Nothing => false,
            Known::Asking(_) => true,
            Known::Over { at, .. } => now.saturating_duration_since(at) < LASTS,
            Known::Doubted { until } => now < until,
        };
        if is_known {
            return false;
        }
        self.known = Known::Asking(Asking { since: now, asked: 0, lost: 0, late: 0, best: None });
        true
    }

    /// A PING was answered after `took`, over a stream or by datagrams.
    pub fn on_answer(&mut self, now: Instant, took: Duration, is_stream: bool) {
        let Known::Asking(asking) = &mut self.known else { return };
        let shortest = asking.best.map_or(took, |best| best.min(took));
        asking.best = Some(shortest);
        asking.late += u32::from(is_stream && took > shortest + LATE.max(shortest / 2));
        self.on_ping(now);
    }

    /// A PING was not answered in time.
    pub fn on_no_answer(&mut self, now: Instant) {
        let Known::Asking(asking) = &mut self.known else { return };
        asking.lost += 1;
        self.on_ping(now);
    }

    fn on_ping(&mut self, now: Instant) {
        let Known::Asking(asking) = &mut self.known else { return };
        asking.asked += 1;
        let Asking { since, asked, lost, late, .. } = *asking;
        let is_unfit = lost > MOST_LOST || lost + late > MOST_LATE;
        let span = now.saturating_duration_since(since);
        let enough = if span >= SPAN_MAX { LEAST } else { ENOUGH };
        let is_over = (span >= SPAN && asked >= enough) || span >= SPAN_LONGEST;
        if is_unfit || is_over {
            self.known = Known::Over { at: now, is_fit: !is_unfit && asked >= LEAST };
        }
    }

    /// The path is in doubt: whatever was found before, it is not known to be fit now.
    pub fn on_doubt(&mut self, now: Instant) {
        self.forget_doubts(now);
        let is_in_favour = matches!(self.known, Known::Asking(_) | Known::Over { is_fit: true, .. });
        if is_in_favour {
            let until = now + AFTER_DOUBT.saturating_mul(1 << self.doubts.min(8)).min(LASTS);
            self.known = Known::Doubted { until };
            self.doubts = self.doubts.saturating_add(1);
        }
    }

    /// What was fit for as long as that is known was not fit by chance.
    fn forget_doubts(&mut self, now: Instant) {
        if matches!(self.known, Known::Over { at, is_fit: true } if now.saturating_duration_since(at) >= LASTS)
        {
            *self = Self::default();
        }
    }

    /// When the next PING is due, `last` having left then.
    pub fn probe_due(&self, last: Instant) -> Option<Instant> {
        self.is_under_way().then(|| last + EVERY)
    }

    /// Whether it is being asked.
    pub const fn is_under_way(&self) -> bool {
        matches!(self.known, Known::Asking(_))
    }

    /// Whether it was found to lose too much when it was tried last, whenever that was.
    pub const fn was_unfit(&self) -> bool {
        matches!(self.known, Known::Over { is_fit: false, .. })
    }

    /// Whether it is known to lose little.
    pub fn is_fit(&self, now: Instant) -> bool {
        matches!(self.known, Known::Over { at, is_fit: true } if now.saturating_duration_since(at) < LASTS)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
mod tests {
    use super::*;
    use crate::rng::{Rng as _, SeededRng};

    const RTT: Duration = Duration::from_millis(60);

    /// Asks until there is a verdict; what is lost, per cent each way, is asked again after a quarter of a second.
    fn tried(rng: &mut SeededRng, loss: u64) -> (bool, Duration) {
        let began = Instant::now();
        let (mut now, mut trial) = (began, Trial::default());
        assert!(trial.want(now));
        while trial.is_under_way() {
            let is_answered = (0..2).all(|_| u64::from(rng.next_u32()) % 100 >= loss);
            now += if is_answered { EVERY } else { Duration::from_millis(250) };
            assert!(!trial.want(now), "it is under way");
            if is_answered {
                trial.on_answer(now, RTT, false);
            } else {
                trial.on_no_answer(now);
            }
        }
        (trial.is_fit(now), now - began)
    }

    /// The same over a stream, where what is lost is repaired when the next segment was missed, and up to `jitter` comes on top.
    fn tried_by_stream(rng: &mut SeededRng, loss: u64, jitter: u64) -> bool {
        let (mut now, mut trial) = (Instant::now(), Trial::default());
        assert!(trial.want(now));
        while trial.is_under_way() {
            let repairs = (0..2).filter(|_| u64::from(rng.next_u32()) % 100 < loss).count() as u32;
            let jitter = Duration::from_millis(u64::from(rng.next_u32()) % (jitter + 1));
            let took = RTT + jitter + repairs * (EVERY + RTT / 4);
            now += took.max(EVERY);
            trial.on_answer(now, took, true);
        }
        trial.is_fit(now)
    }

    #[test]
    fn a_clean_path_is_fit_and_one_that_loses_a_fifth_is_not() {
        let mut rng = SeededRng::new(7);
        for _ in 0..100 {
            let (is_fit, took) = tried(&mut rng, 0);
            assert!(is_fit && took < SPAN + EVERY);
        }
        let fit = |rng: &mut SeededRng, loss| (0..1_000).filter(|_| tried(rng, loss).0).count();
        assert!(fit(&mut rng, 20) < 15);
        assert!(fit(&mut rng, 1) > 850);
    }

    #[test]
    fn a_stream_over_a_line_that_loses_a_fifth_is_not_fit_however_well_it_is_repaired() {
        let mut rng = SeededRng::new(11);
        let fit = |rng: &mut SeededRng, loss, jitter| {
            (0..1_000).filter(|_| tried_by_stream(rng, loss, jitter)).count()
        };
        assert!(fit(&mut rng, 20, 0) < 30);
        assert!(fit(&mut rng, 20, 50) < 30);
        assert_eq!((fit(&mut rng, 0, 0), fit(&mut rng, 0, 100)), (1_000, 1_000), "a radio link");
        assert!(fit(&mut rng, 1, 0) > 950);
    }

    #[test]
    fn what_falls_silent_is_not_known_to_be_fit_and_is_tried_again_soon_at_first() {
        let mut now = Instant::now();
        let mut trial = Trial::default();
        let asked = |trial: &mut Trial, now: &mut Instant, answers| {
            assert!(trial.want(*now));
            for _ in 0..answers {
                trial.on_answer(*now, RTT, true);
                *now += EVERY;
            }
        };
        for (answers, secs) in [(0, 3), (1, 6), (40, 12), (40, 24), (1, 30), (0, 30)] {
            asked(&mut trial, &mut now, answers);
            trial.on_doubt(now);
            // Twice in doubt is once.
            trial.on_doubt(now);
            assert_eq!((trial.is_fit(now), trial.was_unfit()), (false, false));
            let put_off = Duration::from_secs(secs);
            assert!(!trial.want(now + put_off - EVERY));
            now += put_off;
        }
        // It was fit for as long as that is known, whoever asks.
        asked(&mut trial, &mut now, 40);
        now += LASTS;
        trial.on_doubt(now);
        asked(&mut trial, &mut now, 40);
        trial.on_doubt(now);
        assert!(!trial.want(now) && trial.want(now + AFTER_DOUBT));
        // What was found to lose much is not tried sooner for it.
        (0..2).for_each(|_| trial.on_no_answer(now));
        trial.on_doubt(now);
        assert_eq!((trial.was_unfit(), trial.want(now + AFTER_DOUBT)), (true, false));
    }

    #[test]
    fn who_holds_up_answers_holds_up_no_verdict() {
        let (began, mut trial) = (Instant::now(), Trial::default());
        for secs in 0..20 {
            let now = began + Duration::from_secs(3 * secs);
            if secs == 0 {
                trial.want(now);
            }
            trial.on_answer(now, Duration::from_secs(3), false);
            assert!(!trial.is_fit(now));
            assert_eq!(trial.is_under_way(), now < began + SPAN_LONGEST);
        }
    }

    #[test]
    fn a_clean_path_is_fit_however_long_its_answers_take() {
        for rtt in [20, 400, 1_200, 2_000].map(Duration::from_millis) {
            let (mut now, mut trial) = (Instant::now(), Trial::default());
            trial.want(now);
            while trial.is_under_way() {
                now += rtt.max(EVERY);
                trial.on_answer(now, rtt, false);
            }
            assert!(trial.is_fit(now), "{rtt:?}");
        }
    }

    #[test]
    fn a_verdict_holds_for_a_while_and_nothing_is_tried_meanwhile() {
        let mut now = Instant::now();
        for is_fit in [true, false] {
            let mut trial = Trial::default();
            assert!(!trial.is_fit(now) && !trial.was_unfit());
            trial.want(now);
            for _ in 0..40 {
                assert_eq!(trial.probe_due(now).is_some(), trial.is_under_way());
                if is_fit {
                    trial.on_answer(now, RTT, true);
                } else {
                    trial.on_no_answer(now);
                }
                now += EVERY;
            }
            assert_eq!((trial.is_fit(now), trial.was_unfit(), trial.want(now)), (is_fit, !is_fit, false));
            now += LASTS;
            assert!(!trial.is_fit(now) && trial.want(now));
        }
    }
}
