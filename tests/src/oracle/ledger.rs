//! What arrived of one direction, counted. Pure: the time of an arrival is an argument.
//!
//! Words:
//! - **lost**: sent, and no intact copy arrived;
//! - **duplicated**: an intact copy of a frame that had arrived before;
//! - **reordered**: arrived for the first time after a frame with a higher number (RFC 4737, type-P-reordered);
//! - **corrupted**: our ethertype, but not the bytes that were sent. The number inside cannot be trusted, so the frame it
//!   was counts as lost too;
//! - **reflected**: our own direction's frame came back to where it was sent from;
//! - **gap**: silence between two first arrivals, also before the first and after the last.
//!
//! A run may begin before there is anybody to take in its frames. Then what has a number from [`Ledger::finish`]'s `from` on counts as sent, and there is no
//! silence before the first arrival ([`Since::FirstArrival`]).

use std::time::Duration;

use super::frame::{self, Corrupted, Seen};

/// Where silences begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// With the first frame that was sent.
    FirstSent,
    /// With the first one that arrived.
    FirstArrival,
}

/// Counts arrivals of one direction of one run.
#[derive(Debug)]
pub struct Ledger {
    run: u64,
    direction: u8,
    tag: Option<u16>,
    noted_gap: Duration,
    since: Since,
    arrived: Vec<bool>,
    first: Option<Duration>,
    next: u64,
    last: Duration,
    tally: Tally,
    delays: Vec<u64>,
}

/// The counts. Durations run from the start of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames handed to the device, whether it took them or not; those that count.
    pub sent: u64,
    /// Different frames that arrived intact.
    pub received: u64,
    /// See the module page.
    pub lost: u64,
    /// The runs of lost frames, the first [`MOST_RUNS`] of them.
    pub missing: Vec<Run>,
    /// See the module page.
    pub duplicated: u64,
    /// See the module page.
    pub reordered: u64,
    /// See the module page.
    pub corrupted: u64,
    /// See the module page.
    pub reflected: u64,
    /// The longest silence.
    pub longest_gap: Duration,
    /// Silences of at least the length that was asked to be noted.
    pub gaps: Vec<Gap>,
    /// When the first frame arrived.
    pub first: Option<Duration>,
    /// Median, 99th percentile and maximum of the one-way delay; zero when nothing arrived.
    pub delay: [Duration; 3],
}

/// How many runs of lost frames are told one by one.
pub const MOST_RUNS: usize = 50;

/// Lost frames with numbers one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first one's number.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// A silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When it began.
    pub at: Duration,
    /// How long it lasted.
    pub length: Duration,
}

impl Ledger {
    /// A ledger for frames of `run` in `direction` with this tag; silences of `noted_gap` or more are listed.
    #[must_use]
    pub fn new(run: u64, direction: u8, tag: Option<u16>, noted_gap: Duration, since: Since) -> Self {
        Self {
            run,
            direction,
            tag,
            noted_gap,
            since,
            arrived: Vec::new(),
            first: None,
            next: 0,
            last: Duration::ZERO,
            tally: Tally::default(),
            delays: Vec::new(),
        }
    }

    /// Takes in one frame of the oracle's ethertype, read at `now`.
    pub fn on_frame(&mut self, now: Duration, bytes: &[u8]) {
        match frame::read(bytes) {
            Err(Corrupted) => self.tally.corrupted += 1,
            // Another oracle on the same segment.
            Ok(seen) if seen.run != self.run => {}
            Ok(seen) if seen.direction != self.direction => self.tally.reflected += 1,
            // Intact but for the tag, which the checksum alone would not tell from a frame sent so.
            Ok(seen) if seen.tag != self.tag => self.tally.corrupted += 1,
            Ok(seen) => self.on_intact(now, seen),
        }
    }

    /// When the first one arrived.
    #[must_use]
    pub const fn first(&self) -> Option<Duration> {
        self.first
    }

    /// Whether all have arrived of those from `from` on, `sent` having been sent.
    #[must_use]
    pub fn is_complete(&self, from: u64, sent: u64) -> bool {
        (from..sent).all(|at| self.has(at))
    }

    /// Closes the ledger: `sent` frames were sent, the last of them at `end`; those from `from` on count.
    #[must_use]
    pub fn finish(mut self, from: u64, sent: u64, end: Duration) -> Tally {
        self.tally.sent = sent.saturating_sub(from);
        self.tally.lost = (from..sent).filter(|at| !self.has(*at)).count() as u64;
        self.tally.received = self.tally.sent - self.tally.lost;
        self.tally.first = self.first;
        self.tally.missing = self.missing(from, sent);
        self.note_gap(end);
        self.delays.sort_unstable();
        if let Some(longest) = self.delays.last() {
            let at = |part: usize| self.delays.get(self.delays.len() * part / 100).unwrap_or(longest);
            self.tally.delay = [*at(50), *at(99), *longest].map(Duration::from_nanos);
        }
        self.tally
    }

    fn has(&self, sequence: u64) -> bool {
        usize::try_from(sequence).is_ok_and(|at| self.arrived.get(at) == Some(&true))
    }

    fn missing(&self, from: u64, sent: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut at = from;
        while at < sent && runs.len() < MOST_RUNS {
            let end = (at..sent).find(|at| self.has(*at)).unwrap_or(sent);
            if end > at {
                runs.push(Run { first: at, count: end - at });
            }
            at = end + 1;
        }
        runs
    }

    fn on_intact(&mut self, now: Duration, seen: Seen) {
        let Ok(at) = usize::try_from(seen.sequence) else {
            return;
        };
        if at >= self.arrived.len() {
            self.arrived.resize(at + 1, false);
        }
        if std::mem::replace(&mut self.arrived[at], true) {
            self.tally.duplicated += 1;
            return;
        }
        if seen.sequence < self.next {
            self.tally.reordered += 1;
        }
        self.next = self.next.max(seen.sequence + 1);
        if self.first.replace(self.first.unwrap_or(now)).is_some() || self.since == Since::FirstSent {
            self.note_gap(now);
        }
        self.last = now;
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.delays.push(now.saturating_sub(seen.stamp));
    }

    fn note_gap(&mut self, now: Duration) {
        let length = now.saturating_sub(self.last);
        self.tally.longest_gap = self.tally.longest_gap.max(length);
        if length >= self.noted_gap {
            self.tally.gaps.push(Gap { at: self.last, length });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::frame::{ETHERTYPE, Template};

    const SENT: u64 = 1000;
    const TEMPLATE: Template =
        Template { to: [2; 6], from: [4; 6], tag: None, ethertype: ETHERTYPE, run: 7, direction: 0 };

    fn at(sequence: u64) -> Duration {
        Duration::from_millis(sequence)
    }

    fn sent() -> Vec<(Duration, Vec<u8>)> {
        (0..SENT)
            .map(|sequence| {
                let mut frame = Vec::new();
                let stamp = at(sequence).as_nanos() as u64;
                TEMPLATE.write(sequence, stamp, frame::length(7, sequence, 64, 1414), &mut frame);
                (at(sequence) + Duration::from_micros(250), frame)
            })
            .collect()
    }

    fn count(frames: &[(Duration, Vec<u8>)]) -> Tally {
        count_from(0, frames, Since::FirstSent)
    }

    fn count_from(from: u64, frames: &[(Duration, Vec<u8>)], since: Since) -> Tally {
        let mut ledger = Ledger::new(7, 0, None, Duration::from_millis(50), since);
        for (now, frame) in frames {
            ledger.on_frame(*now, frame);
        }
        ledger.finish(from, SENT, at(SENT))
    }

    #[test]
    fn a_perfect_line_is_all_zero() {
        let tally = count(&sent());
        assert_eq!((tally.sent, tally.received), (SENT, SENT));
        assert_eq!(
            (tally.lost, tally.duplicated, tally.reordered, tally.corrupted, tally.reflected),
            (0, 0, 0, 0, 0)
        );
        assert_eq!(tally.longest_gap, Duration::from_millis(1));
        assert_eq!(tally.delay, [Duration::from_micros(250); 3]);
        assert_eq!(tally.gaps, []);
    }

    #[test]
    fn loss_is_counted_wherever_it_is() {
        for (gone, runs) in [
            (vec![0], vec![(0, 1)]),
            (vec![500], vec![(500, 1)]),
            (vec![SENT - 1], vec![(SENT - 1, 1)]),
            (vec![0, 1, 2, 400, 998, 999], vec![(0, 3), (400, 1), (998, 2)]),
            ((0..SENT).collect(), vec![(0, SENT)]),
        ] {
            let mut frames = sent();
            for at in gone.iter().rev() {
                frames.remove(*at as usize);
            }
            let tally = count(&frames);
            assert_eq!(tally.lost, gone.len() as u64, "{gone:?}");
            let told: Vec<_> = tally.missing.iter().map(|run| (run.first, run.count)).collect();
            assert_eq!(told, runs);
            assert_eq!((tally.duplicated, tally.reordered, tally.corrupted), (0, 0, 0));
        }
    }

    #[test]
    fn a_duplicate_is_no_reordering_and_no_arrival() {
        let mut frames = sent();
        let again = frames[10].1.clone();
        frames.insert(11, (at(11), again.clone()));
        frames.insert(700, (at(700), again));
        let tally = count(&frames);
        assert_eq!((tally.duplicated, tally.reordered, tally.lost, tally.received), (2, 0, 0, SENT));
    }

    #[test]
    fn a_duplicate_does_not_hide_a_loss() {
        let mut frames = sent();
        frames[20].1 = frames[19].1.clone();
        let tally = count(&frames);
        assert_eq!((tally.duplicated, tally.lost), (1, 1));
    }

    #[test]
    fn a_swap_is_one_reordered_and_a_late_frame_is_one() {
        let mut frames = sent();
        let swapped = frames[100].1.clone();
        frames[100].1 = std::mem::replace(&mut frames[101].1, swapped);
        assert_eq!(count(&frames).reordered, 1);
        let mut frames = sent();
        let late = frames.remove(200);
        frames.insert(900, (at(901), late.1));
        let tally = count(&frames);
        assert_eq!((tally.reordered, tally.lost), (1, 0));
    }

    #[test]
    fn a_corrupted_frame_is_counted_and_is_lost() {
        let mut frames = sent();
        frames[5].1[40] ^= 4;
        frames[6].1.truncate(70);
        let tally = count(&frames);
        assert_eq!((tally.corrupted, tally.lost), (2, 2));
    }

    #[test]
    fn a_tag_taken_off_is_corruption() {
        let mut ledger = Ledger::new(7, 0, Some(5), Duration::MAX, Since::FirstSent);
        for (now, frame) in &sent()[..1] {
            ledger.on_frame(*now, frame);
        }
        let tally = ledger.finish(0, 1, at(1));
        assert_eq!((tally.corrupted, tally.lost), (1, 1));
    }

    #[test]
    fn our_own_frame_coming_back_is_a_reflection() {
        let mut frame = Vec::new();
        Template { direction: 1, ..TEMPLATE }.write(0, 0, 64, &mut frame);
        let mut frames = sent();
        frames.push((at(SENT), frame));
        let tally = count(&frames);
        assert_eq!((tally.reflected, tally.duplicated, tally.lost), (1, 0, 0));
    }

    #[test]
    fn frames_of_another_run_are_nothing_to_us() {
        let mut frame = Vec::new();
        Template { run: 8, ..TEMPLATE }.write(0, 0, 64, &mut frame);
        let mut frames = sent();
        frames.insert(0, (at(0), frame));
        assert_eq!(count(&frames), count(&sent()));
    }

    #[test]
    fn a_silence_is_measured_in_the_middle_at_the_start_and_at_the_end() {
        let mut frames = sent();
        frames.drain(900..);
        frames.drain(300..500);
        frames.drain(..100);
        let tally = count(&frames);
        let gaps: Vec<_> = tally.gaps.iter().map(|gap| gap.length.as_millis()).collect();
        assert_eq!(gaps, [100, 201, 100]);
        assert_eq!(tally.longest_gap, Duration::from_millis(201));
        assert_eq!(tally.lost, 400);
    }
    #[test]
    fn what_was_sent_before_anybody_was_there_counts_only_when_it_is_to() {
        let mut frames = sent();
        frames.drain(500..510);
        frames.drain(320..330);
        frames.drain(..300);
        let tally = count_from(400, &frames, Since::FirstArrival);
        assert_eq!((tally.sent, tally.received, tally.lost), (600, 590, 10));
        assert_eq!(tally.missing, [Run { first: 500, count: 10 }]);
        assert_eq!(tally.longest_gap, Duration::from_millis(11));
        assert_eq!(tally.first, Some(frames[0].0));
        let whole = count(&frames);
        assert_eq!((whole.sent, whole.lost), (SENT, 320));
        assert_eq!(whole.longest_gap, frames[0].0);
    }

    #[test]
    fn a_line_by_which_nothing_arrives_loses_everything() {
        for since in [Since::FirstSent, Since::FirstArrival] {
            let tally = count_from(0, &[], since);
            assert_eq!((tally.sent, tally.lost, tally.first), (SENT, SENT, None));
        }
    }

    #[test]
    fn all_is_there_when_nothing_is_missing_of_what_counts() {
        let mut frames = sent();
        frames.drain(..300);
        let mut ledger = Ledger::new(7, 0, None, Duration::MAX, Since::FirstArrival);
        frames.iter().for_each(|(now, frame)| ledger.on_frame(*now, frame));
        assert!(ledger.is_complete(300, SENT) && ledger.is_complete(400, SENT));
        assert!(!ledger.is_complete(299, SENT) && !ledger.is_complete(300, SENT + 1));
    }
}
