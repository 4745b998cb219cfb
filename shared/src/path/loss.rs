//! How much of what is sent on a path arrives, and whether that is too little to carry data (protocol §7.2).
//!
//! # Life
//!
//! Fed with what the peer acknowledged of data ([`Loss::on_acks`]), and with PINGs that were answered or not
//! ([`Loss::on_ping`]). A path whose loss was above [`TOO_MUCH`] for [`DEMOTED_AFTER`] is *lossy*; it stays so until PINGs, asked
//! each [`PROBE_EVERY`] for [`CLEAN_FOR`], show less than [`LITTLE`]. A try that fails is followed by a pause, longer each time.
//!
//! # Invariants
//!
//! - A packet is counted once, when an acknowledgement says enough about it: [`REORDER`] later ones came, or one did [`OVERDUE`] ago.
//! - Few packets say nothing: a verdict is about [`LEAST`] at least. Where a second has fewer it is about as long as they take, up to
//!   [`VERDICT_MAX`], and has to last for two such times: slow flows are judged by as many packets as fast ones, and later.
//! - Nothing here kills a path: that is the business of [`super::state`].

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Loss above this, per cent, demotes ...
pub const TOO_MUCH: u64 = 10;
/// ... when it lasts for this long.
pub const DEMOTED_AFTER: Duration = Duration::from_secs(2);
/// Loss below this, per cent, for [`CLEAN_FOR`] ends it.
pub const LITTLE: u64 = 2;
/// See [`LITTLE`].
pub const CLEAN_FOR: Duration = Duration::from_secs(30);
/// While lossy and trying, PINGs are asked for this often: sixty in [`CLEAN_FOR`], of which two may be lost, for each can be either way.
pub const PROBE_EVERY: Duration = Duration::from_millis(500);
/// PINGs of a try; half of them at least, where answers take long.
const CLEAN_PINGS: u64 = (CLEAN_FOR.as_millis() / PROBE_EVERY.as_millis()) as u64;
/// Pause after the first failed try; doubled up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(30);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// A verdict is about this much time, so that a burst is over before it has lasted for [`DEMOTED_AFTER`].
const VERDICT: Duration = Duration::from_secs(1);
/// What a verdict may be about where packets are rare: what was found out about other paths meanwhile holds for twice as long
/// ([`super::trial`]). Fewer than three packets a second are not judged.
const VERDICT_MAX: Duration = Duration::from_secs(15);
/// Packets below which nothing is concluded.
const LEAST: u64 = 40;
/// A packet is lost when this many later ones arrived before it, ...
const REORDER: u64 = 64;
/// ... or one that arrived so long ago: where packets are rare, that many take too long.
const OVERDUE: Duration = Duration::from_secs(1);
/// What is counted together.
const GRAIN: Duration = Duration::from_millis(250);
/// The bitmap of an acknowledgement.
const BITMAP: u64 = 256;

/// What came and what did not, in one grain.
#[derive(Debug, Clone, Copy)]
struct Grain {
    since: Instant,
    came: u64,
    lost: u64,
}

/// What a verdict is about.
#[derive(Debug, Clone, Copy)]
struct Recent {
    came: u64,
    lost: u64,
    span: Duration,
}

/// The loss of one path, as its sender knows it.
#[derive(Debug, Default)]
pub struct Loss {
    /// Every counter below was counted, or is not of this path.
    counted: Option<u64>,
    /// The highest counter acknowledged when that was last noted; and the one noted before, [`OVERDUE`] ago or longer.
    noted: Option<(Instant, u64)>,
    overdue: Option<(Instant, u64)>,
    grains: VecDeque<Grain>,
    /// Since when every verdict was: too much.
    bad_since: Option<Instant>,
    lossy: Option<Lossy>,
    /// Tries that failed since the path last was clean for [`PAUSE_MAX`].
    failed: u32,
    /// When a try last ended well.
    clean_since: Option<Instant>,
}

/// A lossy path on its way back.
#[derive(Debug, Clone, Copy)]
struct Lossy {
    /// When this try began, or begins.
    trying_from: Instant,
    asked: u64,
    lost: u64,
    /// Its own data showed it; else it only was not known to be better than what data left.
    is_shown: bool,
}

impl Lossy {
    /// A try begins then.
    const fn trying_from(self, then: Instant) -> Self {
        Self { trying_from: then, asked: 0, lost: 0, ..self }
    }
}

impl Loss {
    /// The peer has `highest` and, of the 256 counters below it, those whose bit is set; all were sent on this path since
    /// [`Self::begin`].
    pub fn on_acks(&mut self, now: Instant, highest: u64, bitmap: &[u64; 4]) {
        let Some(counted) = self.counted else {
            // Begins here: what was below may have gone another way.
            self.counted = Some(highest.saturating_add(1));
            return;
        };
        self.note(now, highest);
        let passed = highest.saturating_sub(REORDER);
        // What was passed long ago counts as of then: a burst is not spread over the trickle that follows.
        let overdue = self.overdue.filter(|(_, overdue)| (passed + 1..=highest).contains(overdue));
        // What is older than the bitmap is not known.
        let from = counted.max(highest.saturating_sub(BITMAP));
        let spans = [Some((now, from, passed)), overdue.map(|(at, last)| (at, from.max(passed + 1), last))];
        let is_news = |(_, from, last): &(Instant, u64, u64)| from <= last;
        for (at, from, last) in spans.into_iter().flatten().filter(is_news) {
            let (came, lost) = tally(from..=last, highest, bitmap);
            self.counted = Some(last.saturating_add(1));
            self.count(now, at, came, lost);
        }
        if self.counted != Some(counted) {
            self.judge(now);
        }
    }

    /// Data begins to go by this path, or goes by another: counters of it are followed from the next acknowledgement on.
    pub fn begin(&mut self) {
        self.counted = None;
        (self.noted, self.overdue) = (None, None);
        self.grains.clear();
        self.bad_since = None;
    }

    /// A PING was answered, or not in time.
    pub fn on_ping(&mut self, now: Instant, is_answered: bool) {
        let is_shown = self.is_shown(now);
        let Some(lossy) = self.lossy.as_mut().filter(|lossy| lossy.trying_from <= now) else { return };
        if is_shown {
            // Data is on it still, and says more than PINGs do: a try begins when that ends.
            *lossy = lossy.trying_from(now);
            return;
        }
        lossy.asked += 1;
        lossy.lost += u64::from(!is_answered);
        if lossy.lost * 100 >= 2 * LITTLE * CLEAN_PINGS {
            self.failed = self.failed.saturating_add(1);
            let pause = PAUSE.saturating_mul(1 << self.failed.min(5).saturating_sub(1)).min(PAUSE_MAX);
            *lossy = lossy.trying_from(now + pause);
        } else if is_answered
            && now.saturating_duration_since(lossy.trying_from) >= CLEAN_FOR
            && lossy.asked >= CLEAN_PINGS / 2
        {
            tracing::debug!("a path is clean again");
            self.lossy = None;
            self.clean_since = Some(now);
            self.begin();
        }
    }

    /// Something else than its data showed that it loses too much: it is on its way back from now on.
    pub fn shun(&mut self, now: Instant) {
        if self.lossy.is_none() {
            self.begin_lossy(now, false);
        }
    }

    /// It was found to lose little. That ends what its own data did not show.
    pub fn on_fit(&mut self) {
        self.lossy = self.lossy.filter(|lossy| lossy.is_shown);
    }

    fn begin_lossy(&mut self, now: Instant, is_shown: bool) {
        if self.clean_since.is_some_and(|at| now.saturating_duration_since(at) >= PAUSE_MAX) {
            self.failed = 0;
        }
        self.lossy = Some(Lossy { trying_from: now, asked: 0, lost: 0, is_shown });
    }

    /// Whether it is lossy, and not by its own data.
    pub fn is_only_shunned(&self) -> bool {
        self.lossy.is_some_and(|lossy| !lossy.is_shown)
    }

    /// Whether it loses too much to carry data that another path can carry.
    pub const fn is_lossy(&self) -> bool {
        self.lossy.is_some()
    }

    /// Whether it loses too much just now, which may be over before it is called lossy for it.
    pub const fn is_losing(&self) -> bool {
        self.lossy.is_some() || self.is_bad()
    }

    /// Whether its data showed that it loses too much when there was data last, not long ago.
    pub const fn is_bad(&self) -> bool {
        self.bad_since.is_some()
    }

    /// Time passed: a bad moment of long ago, of which no data told more, begins nothing that lasts.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.bad_since = self.bad_since.filter(|_| self.is_shown(now));
    }

    /// Whether its data shows just now that it loses too much; of data that went long ago that is not known.
    pub fn is_shown(&self, now: Instant) -> bool {
        let last = self.grains.back().filter(|_| self.bad_since.is_some());
        last.is_some_and(|grain| now.saturating_duration_since(grain.since) < VERDICT_MAX)
    }

    /// Nothing was asked of it while it rested: a try that was under way begins anew; one of long ago says nothing.
    pub fn on_wake(&mut self, now: Instant) {
        if let Some(lossy) = self.lossy.filter(|lossy| lossy.trying_from <= now) {
            let is_long_ago = now.saturating_duration_since(lossy.trying_from) >= PAUSE_MAX;
            if is_long_ago {
                (self.lossy, self.failed) = (None, 0);
            } else {
                self.lossy = Some(lossy.trying_from(now));
            }
        }
    }

    /// When the next PING is due that a lossy path needs on its way back, `last` having left then.
    pub fn probe_due(&self, last: Instant) -> Option<Instant> {
        self.lossy.map(|lossy| lossy.trying_from.max(last + PROBE_EVERY))
    }

    /// Loss over the last two seconds, or as long as [`LEAST`] packets took, in thousandths; `None` when too little was sent to say.
    pub fn per_mille(&self, now: Instant) -> Option<u64> {
        let recent = self.recent(now, DEMOTED_AFTER)?;
        Some(recent.lost * 1000 / (recent.came + recent.lost))
    }

    fn note(&mut self, now: Instant, highest: u64) {
        let (at, noted) = *self.noted.get_or_insert((now, highest));
        if now.saturating_duration_since(at) >= OVERDUE {
            self.overdue = Some((at, noted));
            self.noted = Some((now, highest));
        }
    }

    /// So much was found out now about what was passed at `at`.
    fn count(&mut self, now: Instant, at: Instant, came: u64, lost: u64) {
        self.handle_timeout(now);
        let place = self.grains.partition_point(|grain| grain.since <= at);
        match place.checked_sub(1).and_then(|place| self.grains.get_mut(place)) {
            Some(grain) if at.saturating_duration_since(grain.since) < GRAIN => {
                grain.came += came;
                grain.lost += lost;
            }
            Some(_) | None => self.grains.insert(place, Grain { since: at, came, lost }),
        }
        while self.grains.front().is_some_and(|g| now.saturating_duration_since(g.since) > VERDICT_MAX) {
            self.grains.pop_front();
        }
    }

    fn judge(&mut self, now: Instant) {
        let recent = self.recent(now, VERDICT);
        let bad = recent.filter(|recent| recent.lost * 100 > TOO_MUCH * (recent.came + recent.lost));
        let Some(Recent { came, lost, span }) = bad else {
            self.bad_since = None;
            return;
        };
        let since = *self.bad_since.get_or_insert(now);
        let lasted = now.saturating_duration_since(since);
        if self.lossy.is_none() && lasted >= DEMOTED_AFTER.max(2 * span) {
            tracing::debug!(came, lost, "a path loses too much");
            self.begin_lossy(now, true);
        }
    }

    /// What was counted over `span`, and before that as far back as [`LEAST`] packets go.
    fn recent(&self, now: Instant, span: Duration) -> Option<Recent> {
        let mut recent = Recent { came: 0, lost: 0, span };
        for grain in self.grains.iter().rev() {
            let age = now.saturating_duration_since(grain.since);
            let is_enough = recent.came + recent.lost >= LEAST;
            if age > VERDICT_MAX || (age > span && is_enough) {
                break;
            }
            recent.came += grain.came;
            recent.lost += grain.lost;
            recent.span = recent.span.max(age);
        }
        (recent.came + recent.lost >= LEAST).then_some(recent)
    }
}

/// How many of these counters came, and how many did not, by an acknowledgement.
fn tally(counters: RangeInclusive<u64>, highest: u64, bitmap: &[u64; 4]) -> (u64, u64) {
    let has_come = |counter: u64| {
        let below = highest - counter;
        let word = || bitmap.get(usize::try_from((below - 1) / 64).unwrap_or(usize::MAX));
        below == 0 || word().is_some_and(|word| (word >> ((below - 1) % 64)) & 1 == 1)
    };
    counters.fold(
        (0, 0),
        |(came, lost), counter| {
            if has_come(counter) { (came + 1, lost) } else { (came, lost + 1) }
        },
    )
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
mod tests {
    use super::*;
    use crate::rng::{Rng as _, SeededRng};

    /// A sender at 1,000 packets a second, whose line loses some; acknowledged each 25 ms.
    struct Line {
        now: Instant,
        loss: Loss,
        rng: SeededRng,
        arrived: Vec<bool>,
        skipped_acks: u32,
    }

    impl Line {
        fn new() -> Self {
            Self {
                now: Instant::now(),
                loss: Loss::default(),
                rng: SeededRng::new(5),
                arrived: vec![],
                skipped_acks: 0,
            }
        }

        /// Packets this far apart, each acknowledged at once.
        fn trickle(&mut self, span: Duration, apart: Duration, per_mille: u64) {
            let end = self.now + span;
            while self.now < end {
                self.now += apart;
                let lost = self.rng.next_u64() % 1000 < per_mille;
                self.arrived.push(!lost);
                self.acknowledge();
            }
        }

        fn acknowledge(&mut self) {
            let Some(highest) = self.arrived.iter().rposition(|arrived| *arrived) else { return };
            let mut bitmap = [0u64; 4];
            for below in 1..=256usize {
                if highest.checked_sub(below).is_some_and(|at| self.arrived[at]) {
                    bitmap[(below - 1) / 64] |= 1 << ((below - 1) % 64);
                }
            }
            self.loss.on_acks(self.now, highest as u64, &bitmap);
        }

        fn run(&mut self, span: Duration, per_mille: u64) {
            for _ in 0..span.as_millis() / 25 {
                for _ in 0..25 {
                    let lost = self.rng.next_u64() % 1000 < per_mille;
                    self.arrived.push(!lost);
                }
                self.now += Duration::from_millis(25);
                if self.rng.next_u64() % 10 < u64::from(self.skipped_acks) {
                    continue;
                }
                self.acknowledge();
            }
        }

        fn ping(&mut self, span: Duration, lost_of_hundred: u64) {
            for _ in 0..span.as_millis() / PROBE_EVERY.as_millis() {
                self.now += PROBE_EVERY;
                let is_answered = self.rng.next_u64() % 100 >= lost_of_hundred;
                self.loss.on_ping(self.now, is_answered);
            }
        }
    }

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn loss_is_measured_to_a_few_per_mille_with_every_second_ack_lost_as_well() {
        for (per_mille, skipped_acks) in [(0, 0), (10, 5), (50, 5), (200, 5)] {
            let mut line = Line::new();
            line.skipped_acks = skipped_acks;
            line.run(secs(10), per_mille);
            let measured = line.loss.per_mille(line.now).unwrap();
            assert!(measured.abs_diff(per_mille) <= 5 + per_mille / 6, "{measured} for {per_mille}");
        }
    }

    #[test]
    fn five_per_cent_is_borne_and_twenty_is_not() {
        let mut line = Line::new();
        line.run(secs(120), 50);
        assert!(!line.loss.is_lossy());
        // Shorter than two seconds is a burst.
        line.run(secs(1), 400);
        line.run(secs(10), 0);
        assert!(!line.loss.is_lossy());
        line.run(secs(5), 200);
        assert!(line.loss.is_lossy());
    }

    #[test]
    fn a_slow_flow_is_judged_by_as_many_packets_as_a_fast_one() {
        for (apart, within) in [(50, 30), (100, 45), (250, 100)] {
            let apart = Duration::from_millis(apart);
            for (seed, loss) in (1..20).map(|seed| (seed, Loss::default())) {
                let mut line = Line { loss, rng: SeededRng::new(seed), ..Line::new() };
                line.trickle(secs(within), apart, 300);
                assert!(line.loss.is_lossy(), "{apart:?}, seed {seed}");
                assert!(line.loss.per_mille(line.now).is_some(), "and it can be said");
            }
        }
        // Not sooner than a verdict that is as sure.
        let mut line = Line::new();
        line.trickle(secs(10), Duration::from_millis(100), 300);
        assert!(!line.loss.is_lossy());
        // Fewer than three a second say nothing.
        let mut line = Line::new();
        line.trickle(secs(600), Duration::from_millis(500), 300);
        assert!(!line.loss.is_lossy() && !line.loss.is_losing());
    }

    #[test]
    fn a_slow_flow_that_loses_little_is_left_where_it_is() {
        for seed in 1..20 {
            let mut line = Line { rng: SeededRng::new(seed), ..Line::new() };
            line.trickle(secs(600), Duration::from_millis(100), 30);
            assert!(!line.loss.is_lossy(), "seed {seed}");
        }
    }

    #[test]
    fn a_burst_is_forgotten_in_a_trickle_that_follows() {
        for apart in [50, 100, 300] {
            let mut line = Line::new();
            line.run(secs(10), 0);
            line.run(Duration::from_millis(500), 400);
            line.trickle(secs(60), Duration::from_millis(apart), 0);
            assert!(!line.loss.is_lossy(), "{apart} ms apart");
        }
    }

    #[test]
    fn it_comes_back_after_thirty_clean_seconds_and_not_before() {
        let mut line = Line::new();
        line.run(secs(5), 200);
        assert!(line.loss.is_lossy());
        // What answers beside data that shows the loss says nothing.
        line.ping(secs(10), 0);
        line.loss.begin();
        line.ping(secs(25), 0);
        assert!(line.loss.is_lossy());
        line.ping(secs(6), 0);
        assert!(!line.loss.is_lossy());
        assert_eq!(line.loss.per_mille(line.now), None, "and what was is forgotten");
    }

    #[test]
    fn while_it_loses_it_stays_away_and_asks_less_and_less() {
        let mut line = Line::new();
        line.run(secs(5), 200);
        line.loss.begin();
        let mut asked = 0;
        let end = line.now + secs(3600);
        let mut last = line.now;
        while line.now < end {
            let due = line.loss.probe_due(last).expect("lossy");
            assert!(due > line.now);
            line.now = due;
            last = due;
            asked += 1;
            let is_answered = line.rng.next_u64() % 100 >= 36;
            line.loss.on_ping(line.now, is_answered);
            assert!(line.loss.is_lossy());
        }
        assert!((15..120).contains(&asked), "{asked} PINGs in an hour");
    }

    #[test]
    fn few_packets_and_other_paths_say_nothing() {
        let mut line = Line::new();
        let now = line.now;
        // Every other counter went another way; after the move only what follows counts.
        line.loss.on_acks(now, 1000, &[0x5555_5555_5555_5555; 4]);
        assert_eq!(line.loss.per_mille(now), None);
        line.loss.on_acks(now, 1100, &[u64::MAX; 4]);
        assert_eq!(line.loss.per_mille(now), None, "36 packets");
        line.loss.on_acks(now, 1200, &[u64::MAX; 4]);
        assert_eq!(line.loss.per_mille(now), Some(0));
        // Lies about what was never sent change nothing that matters.
        line.loss.on_acks(now, u64::MAX - 1, &[0; 4]);
        line.loss.on_acks(now, 0, &[0; 4]);
        line.loss.begin();
        assert_eq!(line.loss.per_mille(now), None);
    }

    #[test]
    fn a_bad_moment_of_long_ago_begins_nothing_that_lasts() {
        let mut line = Line::new();
        line.run(secs(1), 200);
        assert!(line.loss.is_losing() && !line.loss.is_lossy());
        // Nobody has anything to send.
        line.now += VERDICT_MAX + secs(1);
        let idle = line.loss.is_losing();
        line.loss.handle_timeout(line.now);
        assert_eq!((idle, line.loss.is_losing()), (true, false));
        // Nor does the next burst count as if it had lasted since then, whoever looked meanwhile.
        let mut line = Line::new();
        line.run(secs(1), 200);
        line.now += secs(60);
        for _ in 0..200 {
            let lost = line.rng.next_u64() % 1000 < 200;
            line.arrived.push(!lost);
        }
        line.acknowledge();
        assert!(line.loss.is_losing() && !line.loss.is_lossy());
    }

    #[test]
    fn who_was_clean_for_long_pays_for_no_failures_of_before() {
        let mut line = Line::new();
        let pause = |line: &mut Line| {
            line.run(secs(5), 200);
            assert!(line.loss.is_lossy());
            line.loss.begin();
            while line.loss.probe_due(line.now).is_some_and(|due| due <= line.now + PROBE_EVERY) {
                line.now += PROBE_EVERY;
                line.loss.on_ping(line.now, false);
            }
            line.loss.probe_due(line.now).unwrap() - line.now
        };
        let clean = |line: &mut Line, pause: Duration| {
            line.now += pause;
            line.ping(CLEAN_FOR + secs(1), 0);
            assert!(!line.loss.is_lossy());
        };
        assert_eq!(pause(&mut line), PAUSE);
        clean(&mut line, PAUSE);
        assert_eq!(pause(&mut line), 2 * PAUSE, "it was clean for a moment only");
        clean(&mut line, 2 * PAUSE);
        line.now += PAUSE_MAX;
        assert_eq!(pause(&mut line), PAUSE);
    }

    #[test]
    fn who_was_only_shunned_is_lossy_until_it_is_found_fit_and_who_showed_it_is_not() {
        let mut line = Line::new();
        line.loss.shun(line.now);
        assert!(line.loss.is_lossy() && line.loss.is_only_shunned());
        line.loss.on_fit();
        assert!(!line.loss.is_lossy());
        line.run(secs(5), 200);
        line.loss.shun(line.now);
        line.loss.on_fit();
        assert!(line.loss.is_lossy() && !line.loss.is_only_shunned());
    }

    #[test]
    fn what_was_lossy_and_rested_is_tried_anew_and_forgotten_after_long() {
        let mut line = Line::new();
        line.loss.shun(line.now);
        line.now += PAUSE_MAX - secs(1);
        line.loss.on_wake(line.now);
        line.ping(secs(25), 0);
        assert!(line.loss.is_lossy());
        line.now += PAUSE_MAX;
        line.loss.on_wake(line.now);
        assert!(!line.loss.is_lossy());
    }
}
