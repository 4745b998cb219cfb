//! What time it is, on a machine whose clock may not know.
//!
//! Certificates, invites and secrets that were replaced are good for a time. A machine without a battery for its clock (a Raspberry Pi) begins
//! in 1970, or when it was switched off, until somebody sets it; so what has ended would be good again. Therefore the time of day that was seen
//! is kept in the state directory ([`StateDir::save_clock`]), and no time before it is believed: a judgement is made at the later of what the
//! clock says and what was seen plus what has passed since by the monotonic clock ([`Reckoning::now`]).
//!
//! A clock may as well be wrong by years in the other direction, until it is set, and what it said then must not stay with this node for
//! ever. So not everything that a clock says was *seen*:
//!
//! - only what it says after it ran for [`STEADY`] without being set: who sets clocks does so within minutes of there being a network;
//! - nothing later than [`LATEST`]: such times come from clocks that count wrongly, not from programs that are that old;
//! - whether the kernel thinks it synchronised is not asked: services may not ask it (`ProtectClock=` of systemd), and one that was
//!   synchronised with somebody who lies says so as well.
//!
//! Until then what was seen goes on by the monotonic clock alone, which cannot be ahead. Where a wrong time was kept after all, `status` and
//! `doctor` say so, and removing the file takes it back: only a person can know which of the two is right. What others signed is no
//! source: one admin whose clock is ahead would take everybody along. The time of this program ([`EARLIEST`]) is one.
//!
//! Life: [`begin`] with the state directory; [`unix_now`] wherever a time is judged or written; [`look`] now and then, when the clock was set,
//! and at the end. Who never calls [`begin`] has the clock alone.

use super::state_dir::StateDir;
use shadowmesh_proto::calendar::Day;
use shadowmesh_proto::membership::Seconds;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// This program is of later: 2026-01-01.
pub const EARLIEST: Seconds = 1_767_225_600;
/// What is later was not seen by this program: ten years after it.
const LATEST: Seconds = EARLIEST + 10 * 365 * 86_400;
/// A clock that ran for so long without being set may be right. Machines that have no clock get the time within a minute or two of a network.
const STEADY: Duration = Duration::from_secs(600);
/// A clock that is set by less than this was only slewed, or read late.
const SET_BY: Seconds = 2;
/// What was seen is written this often: what a machine that loses power goes back by at most, and writes are few.
const KEEP_EVERY: Duration = Duration::from_secs(3_600);
/// A clock that is behind by less is as good as right: what is judged is good for days.
const SLACK: Seconds = 60;

static KNOWN: Mutex<Option<Reckoning>> = Mutex::new(None);

/// What is known of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reckoning {
    /// A time that has passed, and when that was so.
    seen: (Seconds, Instant),
    /// Since when the clock was not set, and what it said when it was looked at last.
    steady: Option<Steady>,
    /// When what was seen was last kept.
    kept: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steady {
    since: Instant,
    last: (Seconds, Instant),
}

/// A clock that says less than was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// What it says, seconds since 1970.
    pub says: Seconds,
    /// What is believed.
    pub reckoned: Seconds,
}

impl Behind {
    /// A sentence for people.
    pub fn sentence(&self) -> String {
        let (says, reckoned) = (date(self.says), date(self.reckoned));
        format!(
            "the clock of this machine says {says}, earlier than {reckoned}, which was seen: times are reckoned from that"
        )
    }
}

impl Reckoning {
    /// At `now`, where `kept` was seen at some time before.
    pub fn new(now: Instant, kept: Option<Seconds>) -> Self {
        Self { seen: (kept.unwrap_or(EARLIEST).max(EARLIEST), now), steady: None, kept: None }
    }

    /// What has passed for certain.
    fn floor(&self, now: Instant) -> Seconds {
        let (seen, since) = self.seen;
        seen.saturating_add(now.saturating_duration_since(since).as_secs())
    }

    /// The time that counts, where the clock says `says`.
    pub fn now(&self, now: Instant, says: Seconds) -> Seconds {
        says.max(self.floor(now))
    }

    /// Whether the clock says less than was seen.
    pub fn behind(&self, now: Instant, says: Seconds) -> Option<Behind> {
        let reckoned = self.floor(now);
        (says.saturating_add(SLACK) < reckoned).then_some(Behind { says, reckoned })
    }

    /// The clock says `says`: what is to be kept, when that is due.
    pub fn look(&mut self, now: Instant, says: Seconds) -> Option<Seconds> {
        let steady = self.steady.filter(|steady| steady.goes_on(now, says));
        let since = steady.map_or(now, |steady| steady.since);
        self.steady = Some(Steady { since, last: (says, now) });
        let is_steady = now.saturating_duration_since(since) >= STEADY;
        if is_steady && says > self.floor(now) && says <= LATEST {
            self.seen = (says, now);
        }
        let is_due = self.kept.is_none_or(|kept| now.saturating_duration_since(kept) >= KEEP_EVERY);
        (is_steady && is_due).then(|| self.keep(now))
    }

    /// What is to be kept at the end.
    pub fn keep(&mut self, now: Instant) -> Seconds {
        self.kept = Some(now);
        self.floor(now)
    }
}

impl Steady {
    /// Whether the clock went on since as time did.
    fn goes_on(&self, now: Instant, says: Seconds) -> bool {
        let (said, at) = self.last;
        let passed = now.saturating_duration_since(at).as_secs();
        // A quartz is off by a tenth of a thousandth, a slewed clock by half of one.
        says.abs_diff(said.saturating_add(passed)) <= SET_BY + passed / 1_000
    }
}

/// Takes up what was seen before. Where nothing was kept, and the clock was never set, it is when the members were written last: so it was
/// with programs that kept nothing.
pub fn begin(state: Option<&StateDir>) {
    let kept = state.and_then(StateDir::load_clock);
    let written = state.map(StateDir::members_saved_at).filter(|_| system() < EARLIEST);
    let begun = Reckoning::new(Instant::now(), kept.or(written));
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    // A process that works in two directories believes the later.
    if known.is_none_or(|known| known.floor(Instant::now()) < begun.floor(Instant::now())) {
        *known = Some(begun);
    }
}

/// Seconds since 1970, and never less than was seen.
pub fn unix_now() -> Seconds {
    let says = system();
    with_known(|known| known.now(Instant::now(), says)).unwrap_or(says)
}

/// Whether the clock says less than was seen.
pub fn behind() -> Option<Behind> {
    with_known(|known| known.behind(Instant::now(), system())).flatten()
}

/// Looks at the clock; what was seen is kept when that is due.
pub fn look(state: &StateDir) {
    if let Some(seen) = with_known(|known| known.look(Instant::now(), system())).flatten() {
        keep(state, seen);
    }
}

/// Looks at it a last time, and keeps what was seen in any case.
pub fn end(state: &StateDir) {
    look(state);
    if let Some(seen) = with_known(|known| known.keep(Instant::now())) {
        keep(state, seen);
    }
}

fn keep(state: &StateDir, seen: Seconds) {
    if let Err(error) = state.save_clock(seen) {
        tracing::warn!(%error, "the time that was seen could not be kept");
    }
}

/// A time of day for people, to the minute: `2026-11-30 02:58`, by UTC.
pub fn date(seconds: Seconds) -> String {
    format!("{} {:02}:{:02}", Day::at(seconds), seconds % 86_400 / 3_600, seconds % 3_600 / 60)
}

fn with_known<T>(f: impl FnOnce(&mut Reckoning) -> T) -> Option<T> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(f)
}

fn system() -> Seconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Seconds = 86_400;
    const NOW: Seconds = EARLIEST + 300 * DAY;

    /// A machine in virtual time: its clock may be set, and what is kept outlives it.
    struct Machine {
        now: Instant,
        says: Seconds,
        known: Reckoning,
        kept: Option<Seconds>,
        writes: usize,
    }

    impl Machine {
        fn boots(says: Seconds, kept: Option<Seconds>) -> Self {
            let now = Instant::now();
            Self { now, says, known: Reckoning::new(now, kept), kept, writes: 0 }
        }

        fn runs(mut self, span: Duration) -> Self {
            // As often as the daemon looks.
            for _ in 0..span.as_secs() / 60 {
                self.now += Duration::from_secs(60);
                self.says += 60;
                if let Some(seen) = self.known.look(self.now, self.says) {
                    (self.kept, self.writes) = (Some(seen), self.writes + 1);
                }
            }
            self
        }

        fn set_to(mut self, says: Seconds) -> Self {
            self.says = says;
            self
        }

        fn reckons(&self) -> Seconds {
            self.known.now(self.now, self.says)
        }

        fn stops(mut self) -> Option<Seconds> {
            Some(self.known.keep(self.now))
        }

        fn loses_power(self) -> Option<Seconds> {
            self.kept
        }
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn after_a_restart_in_1970_it_goes_on_from_what_was_seen() {
        let kept = Machine::boots(NOW, None).runs(HOUR).stops();
        assert_eq!(kept, Some(NOW + 3_600));
        let machine = Machine::boots(0, kept);
        assert_eq!(machine.reckons(), NOW + 3_600);
        let machine = machine.runs(HOUR);
        assert_eq!(machine.reckons(), NOW + 7_200, "it goes on");
        let behind = machine.known.behind(machine.now, machine.says);
        assert_eq!(behind, Some(Behind { says: 3_600, reckoned: NOW + 7_200 }));
        // And from there after the next one, however often.
        let kept = machine.stops();
        assert_eq!(Machine::boots(0, kept).reckons(), NOW + 7_200);
        // Until somebody sets it.
        let machine = Machine::boots(0, kept).runs(HOUR).set_to(NOW + 3 * DAY);
        assert_eq!(
            (machine.reckons(), machine.known.behind(machine.now, machine.says)),
            (NOW + 3 * DAY, None)
        );
    }

    #[test]
    fn a_clock_that_comes_back_at_its_last_shutdown_is_as_good_as_what_was_kept() {
        let kept = Machine::boots(NOW, None).runs(HOUR).stops();
        let machine = Machine::boots(NOW + 1_800, kept);
        assert_eq!(machine.reckons(), NOW + 3_600);
        assert!(machine.known.behind(machine.now, machine.says).is_some());
        let machine = machine.set_to(NOW + 3_590);
        assert_eq!(machine.known.behind(machine.now, machine.says), None, "ten seconds are no matter");
    }

    #[test]
    fn a_machine_that_loses_power_goes_back_an_hour_at_most_and_writes_once_an_hour() {
        let machine = Machine::boots(NOW, None).runs(Duration::from_secs(10 * 3_600 - 60));
        assert!(machine.writes <= 10, "{}", machine.writes);
        let (reckoned, kept) = (machine.reckons(), machine.loses_power().expect("kept"));
        assert!(reckoned - kept <= 3_600, "{}", reckoned - kept);
    }

    #[test]
    fn a_clock_that_is_ahead_and_then_set_right_leaves_nothing_behind() {
        let known = Some(NOW);
        for ahead in [2 * DAY, 400 * DAY, 80 * 365 * DAY, Seconds::MAX - 2 * NOW] {
            // At boot, and while it runs: stopped before it was set right, or after.
            let machine = Machine::boots(NOW + ahead, known).runs(Duration::from_secs(540));
            assert!(machine.reckons() >= NOW + ahead, "while it says so nobody knows better");
            assert_eq!(machine.stops(), Some(NOW + 540));
            let machine = Machine::boots(NOW, known).runs(HOUR).set_to(NOW + ahead);
            let machine = machine.runs(Duration::from_secs(540)).set_to(NOW + 4_140).runs(HOUR);
            assert_eq!(machine.reckons(), NOW + 7_740, "{ahead}");
            assert_eq!(machine.stops(), Some(NOW + 7_740));
        }
    }

    #[test]
    fn a_clock_that_was_set_again_and_again_is_never_steady() {
        let mut machine = Machine::boots(NOW + 400 * DAY, Some(NOW));
        for round in 0..100 {
            machine = machine.runs(Duration::from_secs(300)).set_to(NOW + (400 + round) * DAY);
        }
        assert_eq!((machine.writes, machine.stops()), (0, Some(NOW + 100 * 300)));
    }

    #[test]
    fn what_no_program_of_this_age_sees_is_never_kept() {
        let machine = Machine::boots(LATEST + DAY, Some(NOW)).runs(10 * HOUR);
        assert_eq!(machine.stops(), Some(NOW + 36_000));
        // A file that somebody wrote, or damage: it is what was seen, until somebody removes it.
        let machine = Machine::boots(NOW, Some(Seconds::MAX));
        assert_eq!(machine.reckons(), Seconds::MAX);
        assert!(machine.known.behind(machine.now, machine.says).is_some(), "and that is said");
    }

    #[test]
    fn after_months_in_a_drawer_the_clock_is_believed() {
        let machine = Machine::boots(NOW + 200 * DAY, Some(NOW)).runs(HOUR);
        assert_eq!(machine.reckons(), NOW + 200 * DAY + 3_600);
        assert_eq!(machine.stops(), Some(NOW + 200 * DAY + 3_600));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_400, "2000-02-29 00:00"),
            (EARLIEST - 1, "2025-12-31 23:59"),
            (EARLIEST, "2026-01-01 00:00"),
            (4_107_542_399, "2100-02-28 23:59"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(date(seconds), text);
        }
        assert!(date(Seconds::MAX).ends_with(" 07:00"), "however late");
    }

    #[test]
    fn nobody_believes_what_was_before_this_program() {
        assert_eq!(Machine::boots(0, None).reckons(), EARLIEST);
        assert_eq!(Machine::boots(0, Some(5)).reckons(), EARLIEST);
    }

    #[test]
    fn what_is_kept_is_read_again_and_damage_keeps_nobody_from_starting() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(home.path().join("state")).expect("opened");
        assert_eq!(dir.load_clock(), None);
        dir.save_clock(NOW).expect("kept");
        assert_eq!(dir.load_clock(), Some(NOW));
        for damage in ["", "seen = -1\n", "seen = \"x\"\n", "\u{0}"] {
            std::fs::write(dir.path().join("clock"), damage).expect("written");
            assert_eq!(dir.load_clock(), None, "{damage:?}");
        }
    }
}
