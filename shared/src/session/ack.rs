//! What the receiver says it has, and how it reaches the ring of the sender (protocol §5.2, §6 ACK).
//!
//! The life of an acknowledgement: the inbound thread notes in [`ReceiveMarks`] what opened on which path, and when one is
//! due makes an [`AckReport`] of it; the control task sends that as an ACK body. At the other end the control task passes
//! the body to [`AckMarks::record`]; the outbound thread takes it from there into its ring, when it next looks.
//!
//! # What a sender may conclude
//!
//! - Counters below the floor need nothing any more: they were opened or can no longer be.
//! - Counters whose bit is set, and the `highest` beside the bitmap, were opened.
//! - A packet *sent on that path in order* and more than 256 below its highest, without a bit ever seen, is a loss of the
//!   path and is not repaired (random loss on a living path is the business of the protocols inside the tunnel). So is one that
//!   any packet overtook, once data has left the path for so long that nothing more comes ([`SealHalf::settle`]).
//! - A packet *resent* behind newer ones proves nothing by being overtaken, so it stays until a bit or the floor covers it.
//!   For these the receiver lists, after the paths, *late* blocks: the same three fields with a lower `highest`.
//!
//! # Between the threads
//!
//! [`AckMarks`] is a log of the latest acknowledgements in atomics, with one writer and one reader, who never wait for each
//! other. Each slot carries a sequence number that is odd while it is written, so a torn read is noticed and skipped. A
//! reader that fell behind by more than the log loses the oldest: the packets they covered stay in the ring a little
//! longer, until the floor or a later bitmap releases them.

#[cfg(doc)]
use super::SealHalf;
use crate::ids::ReceiverIndex;
use crate::session::limits::{
    ACK_BITMAP, ACK_DELAY, ACK_EVERY, ACK_PAUSE, ACK_REPEAT_PAUSE, ACK_REPEATS, DATA_WINDOW, PATH_SLOTS,
};
use crate::session::replay::ReplayWindow;
use crate::wire::control::{MAX_ACK_PATHS, PathAck};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

/// A sender's number for one of its paths to a peer, under [`PATH_SLOTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PathSlot(u8);

impl PathSlot {
    /// The slot numbered 0.
    pub const FIRST: Self = Self(0);
    /// The slot numbered 1.
    pub const SECOND: Self = Self(1);
    /// The slot numbered 2.
    pub const THIRD: Self = Self(2);
    /// The slot numbered 3.
    pub const FOURTH: Self = Self(3);

    /// Every slot, in ascending order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map_while(Self::new)
    }

    /// The slot of that number, if there is one.
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < PATH_SLOTS { Some(Self(number)) } else { None }
    }

    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        self.0
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What data arrived, ready to be sent as an ACK body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckReport {
    acks: [PathAck; MAX_ACK_PATHS],
    len: usize,
    floor: u64,
    index: Option<ReceiverIndex>,
    is_news: bool,
}

impl AckReport {
    const EMPTY: PathAck = PathAck { path: 0, highest: 0, bitmap: [0; 4] };

    /// Paths with what they brought last, then late blocks.
    pub fn paths(&self) -> &[PathAck] {
        &self.acks[..self.len]
    }

    /// Every counter below was opened or has left the window.
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// The newest key of the half that made it: says which association it is about. Counters begin anew with an association,
    /// so the report of a replaced one must not be taken for one of its successor.
    pub const fn index(&self) -> Option<ReceiverIndex> {
        self.index
    }

    /// Whether anything opened since the last report. If not, something came again, and anybody who once saw it may have sent that.
    pub const fn is_news(&self) -> bool {
        self.is_news
    }

    /// Of every packet up to `highest` on one path.
    #[cfg(test)]
    pub(crate) fn for_test(index: Option<ReceiverIndex>, path: u8, highest: u64) -> Self {
        let mut acks = [Self::EMPTY; MAX_ACK_PATHS];
        acks[0] = PathAck { path, highest, bitmap: [u64::MAX; 4] };
        Self { acks, len: 1, floor: highest + 1, index, is_news: true }
    }

    pub(crate) const fn of_key(mut self, index: Option<ReceiverIndex>) -> Self {
        self.index = index;
        self
    }

    fn push(&mut self, path: usize, highest: u64, window: &ReplayWindow<DATA_WINDOW>) -> bool {
        let Some(ack) = self.acks.get_mut(self.len) else {
            return false;
        };
        *ack = PathAck { path: path as u8, highest, bitmap: window.bitmap_below(highest) };
        self.len += 1;
        true
    }

    /// What came before what the bitmap below `highest` covers, as far as there is room. In a burst reports are lost, or cannot be made because
    /// the control task is behind, and then the next bitmap does not reach back to the last one. The sender may have overwritten what was there:
    /// it cannot ask again, and would call lost what has arrived.
    fn push_below(&mut self, path: usize, highest: u64, window: &ReplayWindow<DATA_WINDOW>) {
        let mut told = highest;
        loop {
            let end = told.saturating_sub(ACK_BITMAP);
            let start = end.saturating_sub(ACK_BITMAP).max(self.floor);
            let Some(next) = (start..end).rev().find(|counter| window.contains(*counter)) else { return };
            if !self.push(path, next, window) {
                return;
            }
            told = next;
        }
    }
}

/// Counters of one path that arrived far below its highest, close enough together for one bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LateBlock {
    path: usize,
    low: u64,
    high: u64,
    /// Whether all of them came again: a place for what opened only now.
    is_again: bool,
}

/// Blocks noted between two reports; with the last of them a report is due soon.
const LATE_BLOCKS: usize = 4;

/// What opened on which path since it was last reported. Owned by the inbound thread.
#[derive(Debug, Default)]
pub struct ReceiveMarks {
    highest: [Option<u64>; PATH_SLOTS],
    news: [bool; PATH_SLOTS],
    late: [Option<LateBlock>; LATE_BLOCKS],
    unreported: u32,
    since: Option<Instant>,
    /// Late packets opened and the blocks are full: the next one might go unmentioned.
    urgent: bool,
    /// Whether time alone makes a report due.
    is_seldom: bool,
    /// Reports in a row that told of what came again alone.
    repeats: u32,
}

impl ReceiveMarks {
    /// Marks of which a report is due each [`ACK_DELAY`] at most, however much opens.
    pub fn seldom() -> Self {
        Self { is_seldom: true, ..Self::default() }
    }

    /// Notes that `counter` opened at `now`, having come over `path`.
    pub fn on_opened(&mut self, now: Instant, path: PathSlot, counter: u64) {
        let at = path.index();
        self.unreported = self.unreported.saturating_add(1);
        self.since.get_or_insert(now);
        match self.highest[at] {
            Some(highest) if counter <= highest => {
                if highest - counter > ACK_BITMAP {
                    self.note_late(at, counter, false);
                    self.urgent = self.late.iter().all(Option::is_some);
                } else {
                    self.news[at] = true;
                }
            }
            Some(_) | None => {
                self.highest[at] = Some(counter);
                self.news[at] = true;
            }
        }
    }

    /// Notes that `counter` came again at `now`: its acknowledgement was lost, or none told of it, and its sender may wait for nothing else. So a
    /// report is due, but by time alone, and after [`ACK_REPEATS`] of that kind seldom: anybody who saw the packet can send it again.
    ///
    /// It moves no path: it counts for one that brought this counter or a higher one already.
    pub fn on_replayed(&mut self, now: Instant, counter: u64) {
        // How far below what each path brought.
        let below = self.highest.map(|highest| highest.and_then(|highest| highest.checked_sub(counter)));
        let Some(at) = below.iter().position(Option::is_some) else { return };
        self.since.get_or_insert(now);
        match below.iter().position(|below| below.is_some_and(|below| below <= ACK_BITMAP)) {
            Some(near) => self.news[near] = true,
            None => self.note_late(at, counter, true),
        }
    }

    /// Whether anything opened that was not reported.
    pub const fn has_news(&self) -> bool {
        self.unreported > 0
    }

    /// The highest counter opened that came over `path`.
    pub const fn highest(&self, path: PathSlot) -> Option<u64> {
        self.highest[path.index()]
    }

    /// When a report is due; `None` when nothing opened since the last, nor came again.
    ///
    /// At once only after [`ACK_EVERY`] packets: how many there are of those is bounded by what the sender pays for. Four packets far apart
    /// cost him nothing, so what is urgent waits for [`ACK_PAUSE`] from the first that is not reported, and so at least that from the last
    /// report.
    pub fn due_at(&self) -> Option<Instant> {
        let since = self.since?;
        let pause = if !self.has_news() && self.repeats >= ACK_REPEATS {
            ACK_REPEAT_PAUSE
        } else if self.is_seldom || !self.has_news() {
            ACK_DELAY
        } else if self.unreported >= self.every() {
            Duration::ZERO
        } else if self.urgent {
            ACK_PAUSE
        } else {
            ACK_DELAY
        };
        Some(since + pause)
    }

    /// After how many packets a report is due: as many as it has room to describe, beside those of other paths and those that came late.
    fn every(&self) -> u32 {
        let paths = self.news.iter().filter(|is_there| **is_there).count();
        let late = self.late.iter().flatten().count();
        let others = (paths + late).saturating_sub(1).min(MAX_ACK_PATHS - 1);
        ACK_EVERY - others as u32 * ACK_BITMAP as u32
    }

    /// What arrived, and forgets that it had to be said.
    pub fn report(&mut self, window: &mut ReplayWindow<DATA_WINDOW>) -> AckReport {
        let floor = window.floor();
        let acks = [AckReport::EMPTY; MAX_ACK_PATHS];
        let mut report = AckReport { acks, len: 0, floor, index: None, is_news: self.has_news() };
        for (path, highest) in self.highest.iter().enumerate() {
            if let (Some(highest), true) = (*highest, self.news[path]) {
                report.push(path, highest, window);
            }
        }
        for slot in &mut self.late {
            if let Some(block) = *slot
                && report.push(block.path, block.high, window)
            {
                *slot = None;
            }
        }
        if u64::from(self.unreported) > ACK_BITMAP {
            let newest = self.highest.iter().enumerate().filter(|(path, _)| self.news[*path]);
            if let Some((path, Some(highest))) = newest.max_by_key(|(_, highest)| **highest) {
                report.push_below(path, *highest, window);
            }
        }
        // Whatever room is left repeats the other paths, in case what said it before was lost.
        for (path, highest) in self.highest.iter().enumerate() {
            if let (Some(highest), false) = (*highest, self.news[path]) {
                report.push(path, highest, window);
            }
        }
        self.repeats = if self.has_news() { 0 } else { self.repeats.saturating_add(1) };
        self.news = [false; PATH_SLOTS];
        self.unreported = 0;
        self.since = None;
        self.urgent = false;
        report
    }

    fn note_late(&mut self, path: usize, counter: u64, is_again: bool) {
        for block in self.late.iter_mut().flatten().filter(|block| block.path == path) {
            let (low, high) = (block.low.min(counter), block.high.max(counter));
            if high - low <= ACK_BITMAP {
                (block.low, block.high) = (low, high);
                block.is_again &= is_again;
                return;
            }
        }
        let free = self.late.iter().position(Option::is_none);
        // Nobody can take the places of what opens by sending again what did.
        let or_again = || self.late.iter().position(|slot| slot.is_some_and(|block| block.is_again));
        if let Some(at) = free.or_else(|| or_again().filter(|_| !is_again)) {
            self.late[at] = Some(LateBlock { path, low: counter, high: counter, is_again });
        }
        // With no block free the counter goes unmentioned: a report is due soon, and the sender will ask again.
    }
}

/// Acknowledgements in the log. A report has at most 4 and is due at most every millisecond or 1,024 packets, so a reader that
/// looks every 32 ms misses none.
const LOG: usize = 128;

/// Acknowledgements on their way from the control task to the outbound thread: one writer, one reader. Each association has
/// its own, since counters begin anew.
#[derive(Debug)]
pub struct AckMarks {
    slots: Box<[LogSlot]>,
    written: AtomicU64,
    floor: AtomicU64,
    /// Highest counter acknowledged on each path, plus one; 0 for none.
    highest: [AtomicU64; PATH_SLOTS],
}

#[derive(Debug, Default)]
struct LogSlot {
    /// `2 n + 1` while entry `n` is written, `2 n + 2` when it is there.
    sequence: AtomicU64,
    path: AtomicU64,
    highest: AtomicU64,
    bitmap: [AtomicU64; 4],
}

impl Default for AckMarks {
    fn default() -> Self {
        Self::new()
    }
}

impl AckMarks {
    /// Nothing acknowledged.
    pub fn new() -> Self {
        Self {
            slots: (0..LOG).map(|_| LogSlot::default()).collect(),
            written: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            highest: Default::default(),
        }
    }

    /// Takes in an ACK body. Only the control task calls it. Paths without a slot are ignored.
    pub fn record(&self, acks: &[PathAck], floor: u64) {
        for ack in acks {
            let Some(path) = PathSlot::new(ack.path) else {
                continue;
            };
            self.highest[path.index()].fetch_max(ack.highest.saturating_add(1), Ordering::Relaxed);
            let number = self.written.load(Ordering::Relaxed);
            let slot = &self.slots[(number % LOG as u64) as usize];
            slot.sequence.store(2 * number + 1, Ordering::Relaxed);
            // The odd number is seen before any of what follows.
            fence(Ordering::Release);
            slot.path.store(u64::from(ack.path), Ordering::Relaxed);
            slot.highest.store(ack.highest, Ordering::Relaxed);
            for (to, from) in slot.bitmap.iter().zip(ack.bitmap) {
                to.store(from, Ordering::Relaxed);
            }
            slot.sequence.store(2 * number + 2, Ordering::Release);
            self.written.store(number + 1, Ordering::Release);
        }
        self.floor.fetch_max(floor, Ordering::Release);
    }

    /// The highest counter acknowledged on `path`.
    pub fn highest(&self, path: PathSlot) -> Option<u64> {
        self.highest[path.index()].load(Ordering::Relaxed).checked_sub(1)
    }

    /// Every counter below needs nothing any more.
    pub fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    /// Hands what was recorded since `cursor` to `take`, oldest first.
    pub(crate) fn read(&self, cursor: &mut u64, mut take: impl FnMut(PathSlot, u64, &[u64; 4])) {
        let written = self.written.load(Ordering::Acquire);
        *cursor = (*cursor).max(written.saturating_sub(LOG as u64));
        while *cursor < written {
            let slot = &self.slots[(*cursor % LOG as u64) as usize];
            let complete = 2 * *cursor + 2;
            *cursor += 1;
            if slot.sequence.load(Ordering::Acquire) != complete {
                continue;
            }
            let path = slot.path.load(Ordering::Relaxed);
            let highest = slot.highest.load(Ordering::Relaxed);
            let bitmap = [0, 1, 2, 3].map(|word: usize| slot.bitmap[word].load(Ordering::Relaxed));
            // What was read is whole only if the writer did not come round meanwhile.
            fence(Ordering::Acquire);
            if slot.sequence.load(Ordering::Relaxed) != complete {
                continue;
            }
            if let Some(path) = u8::try_from(path).ok().and_then(PathSlot::new) {
                take(path, highest, &bitmap);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
    fn epoch() -> Instant {
        Instant::now()
    }

    fn slot(number: u8) -> PathSlot {
        PathSlot::new(number).unwrap()
    }

    /// Marks and the window they are reported with.
    struct Receiver {
        now: Instant,
        marks: ReceiveMarks,
        window: ReplayWindow<DATA_WINDOW>,
    }

    impl Receiver {
        fn new() -> Self {
            Self { now: epoch(), marks: ReceiveMarks::default(), window: ReplayWindow::new() }
        }

        fn open(&mut self, path: u8, counters: impl IntoIterator<Item = u64>) {
            for counter in counters {
                self.window.mark(counter);
                self.marks.on_opened(self.now, slot(path), counter);
            }
        }

        fn report(&mut self) -> AckReport {
            self.marks.report(&mut self.window)
        }

        /// Which of `counters` a report says were opened.
        fn told(report: &AckReport, counters: std::ops::Range<u64>) -> Vec<u64> {
            let said = |counter: u64| {
                counter < report.floor()
                    || report.paths().iter().any(|ack| match ack.highest.checked_sub(counter) {
                        Some(0) => true,
                        Some(below @ 1..=256) => {
                            ack.bitmap[((below - 1) / 64) as usize] >> ((below - 1) % 64) & 1 == 1
                        }
                        Some(_) | None => false,
                    })
            };
            counters.filter(|counter| said(*counter)).collect()
        }
    }

    #[test]
    fn nothing_is_due_until_something_opens_and_then_soon() {
        let mut receiver = Receiver::new();
        assert_eq!(receiver.marks.due_at(), None);
        receiver.open(0, [0]);
        let opened = receiver.now;
        receiver.now += Duration::from_millis(5);
        receiver.open(0, [1]);
        assert_eq!(receiver.marks.due_at(), Some(opened + ACK_DELAY), "counted from the first");
        receiver.report();
        assert_eq!(receiver.marks.due_at(), None);
    }

    #[test]
    fn many_packets_make_a_report_due_at_once() {
        let mut receiver = Receiver::new();
        receiver.open(0, 0..u64::from(ACK_EVERY) - 1);
        assert_eq!(receiver.marks.due_at(), Some(receiver.now + ACK_DELAY));
        receiver.open(0, [u64::from(ACK_EVERY) - 1]);
        assert_eq!(receiver.marks.due_at(), Some(receiver.now));
    }

    #[test]
    fn one_that_reports_seldom_does_so_each_twenty_milliseconds_however_much_opens() {
        let mut receiver = Receiver { marks: ReceiveMarks::seldom(), ..Receiver::new() };
        receiver.open(0, (0..10_000).filter(|counter| counter % 300 != 0));
        assert_eq!(receiver.marks.due_at(), Some(receiver.now + ACK_DELAY));
    }

    #[test]
    fn a_report_names_each_path_and_what_is_missing() {
        let mut receiver = Receiver::new();
        let came = |counter: &u64| counter % 7 != 3;
        receiver.open(0, (0..200).filter(came));
        receiver.report();
        receiver.open(0, (200..300).filter(came));
        receiver.open(2, 300..310);
        let report = receiver.report();
        let marks: Vec<(u8, u64)> = report.paths().iter().map(|ack| (ack.path, ack.highest)).collect();
        assert_eq!(marks, [(0, 299), (2, 309)]);
        assert_eq!(report.floor(), 3);
        let expected: Vec<u64> = (43..310).filter(|counter| *counter >= 300 || counter % 7 != 3).collect();
        assert_eq!(Receiver::told(&report, 43..400), expected);
    }

    /// What comes far behind the highest of its path is outside every bitmap of a path, and still told.
    #[test]
    fn late_packets_are_told_in_blocks_of_their_own() {
        let mut receiver = Receiver::new();
        receiver.open(0, 10_000..10_010);
        receiver.report();
        receiver.open(0, 500..900);
        let report = receiver.report();
        assert_eq!(Receiver::told(&report, 0..10_000), (500..900).collect::<Vec<_>>());
        assert_eq!(report.paths().iter().map(|ack| ack.path).max(), Some(0));
    }

    /// The control task was behind: between two reports more came than a bitmap holds. Some is missing below, so the floor tells nothing.
    #[test]
    fn what_came_in_a_burst_is_told_as_far_back_as_there_is_room() {
        let mut receiver = Receiver::new();
        receiver.open(1, 100..200);
        receiver.report();
        let came = |counter: &u64| counter % 300 != 7;
        receiver.open(1, (200..1_000).filter(came));
        receiver.open(3, 1_000..1_010);
        let told = Receiver::told(&receiver.report(), 200..2_000);
        // Four entries: each path, and two blocks below the one that brought the newest.
        assert_eq!(told, (1_010 - 3 * 257..1_010).filter(came).collect::<Vec<_>>());
        // So again, since its bitmap has no room for as many.
        receiver.open(1, (1_010..1_700).filter(came));
        let told = Receiver::told(&receiver.report(), 1_010..2_000);
        assert_eq!(told, (1_010..1_700).filter(came).collect::<Vec<_>>());
        // The next one repeats the other path, and a few are told as ever.
        let paths = |report: AckReport| report.paths().iter().map(|ack| ack.path).collect::<Vec<_>>();
        receiver.open(3, 1_700..1_900);
        assert_eq!(paths(receiver.report()), [3, 1]);
        receiver.open(1, 1_900..1_902);
        assert_eq!(paths(receiver.report()), [1, 3]);
    }

    #[test]
    fn late_packets_in_many_places_are_urgent() {
        let mut receiver = Receiver::new();
        receiver.open(0, [50_000]);
        receiver.report();
        receiver.open(0, [1_000, 2_000, 3_000]);
        assert_eq!(receiver.marks.due_at(), Some(receiver.now + ACK_DELAY));
        receiver.open(0, [4_000]);
        assert_eq!(receiver.marks.due_at(), Some(receiver.now + ACK_PAUSE));
        // Four entries hold three blocks beside the path; the fourth block comes with the next report.
        let told = [receiver.report(), receiver.report()].map(|report| Receiver::told(&report, 0..5_000));
        let mut told = told.concat();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told, [1_000, 2_000, 3_000, 4_000]);
    }

    /// A sender who picks his counters makes nobody report for each few of them.
    #[test]
    fn packets_far_apart_cause_a_thousand_reports_a_second_and_no_more() {
        let mut receiver = Receiver::new();
        let (began, mut high, mut reports) = (receiver.now, 0, 0);
        for n in 0..100_000 {
            receiver.now = began + Duration::from_micros(10) * n;
            // One far ahead, then those before it, each out of the bitmaps of the others.
            let late = u64::from(n % 200);
            high += if late == 0 { 60_000 } else { 0 };
            receiver.open(0, [high - 300 * late]);
            if receiver.marks.due_at().is_some_and(|due| due <= receiver.now) {
                receiver.report();
                reports += 1;
            }
        }
        assert!((500..=1_000).contains(&reports), "{reports} in a second");
    }

    #[test]
    fn a_lost_report_is_made_good_by_the_next() {
        let mut receiver = Receiver::new();
        receiver.open(1, 0..100);
        receiver.report();
        receiver.open(3, 100..101);
        let report = receiver.report();
        assert_eq!(report.floor(), 101);
        assert_eq!(report.paths().len(), 2, "the quiet path is told again");
    }

    #[test]
    fn replays_move_no_path_and_take_room_of_none() {
        let mut receiver = Receiver::new();
        receiver.open(0, [5, 1_000]);
        receiver.report();
        receiver.marks.on_replayed(receiver.now, 2_000); // above everything: cannot have been opened, and is not believed
        assert_eq!(receiver.marks.due_at(), None);
        receiver.marks.on_replayed(receiver.now, 5);
        assert_eq!(receiver.marks.highest(slot(0)), Some(1_000));
        let report = receiver.report();
        assert_eq!(Receiver::told(&report, 1..3_000), [5, 1_000], "its acknowledgement may have been lost");
    }

    #[test]
    fn replays_alone_are_reported_16_times_and_then_once_a_second_and_are_no_news() {
        let mut receiver = Receiver::new();
        receiver.open(0, (0..4_096).step_by(2));
        assert!(receiver.report().is_news());
        assert_eq!(receiver.marks.due_at(), None);
        let (began, mut reports) = (receiver.now, 0);
        for tick in 0..40_000u64 {
            receiver.now = began + Duration::from_micros(100 * tick);
            receiver.marks.on_replayed(receiver.now, 2 * (997 * tick % 2_048));
            if receiver.marks.due_at().is_some_and(|due| due <= receiver.now) {
                assert!(!receiver.report().is_news());
                reports += 1;
            }
        }
        assert_eq!(reports, 16 + 3, "in four seconds");
        receiver.open(0, [5_000]);
        receiver.marks.on_replayed(receiver.now, 2);
        assert!(receiver.report().is_news());
    }

    #[test]
    fn what_opens_late_is_told_of_whatever_comes_again() {
        let mut receiver = Receiver::new();
        // Below 4,000 the floor would tell.
        receiver.open(0, (0..9_000).filter(|counter| ![4_000, 4_100].contains(counter)));
        receiver.report();
        for counter in [100, 1_100, 2_100, 3_100, 5_100] {
            receiver.marks.on_replayed(receiver.now, counter);
        }
        receiver.open(0, [4_100]);
        assert_eq!(Receiver::told(&receiver.report(), 4_099..4_102), [4_099, 4_100]);
    }

    #[test]
    fn a_report_is_due_before_there_is_more_than_it_can_tell_of() {
        let mut receiver = Receiver::new();
        receiver.open(0, 0..10);
        receiver.report();
        // Counter 10 is lost: the floor tells of nothing that comes.
        receiver.open(0, 11..500);
        receiver.open(1, 500..778);
        assert_eq!(receiver.marks.due_at(), Some(receiver.now + ACK_DELAY));
        receiver.open(1, [778]);
        assert_eq!(receiver.marks.due_at(), Some(receiver.now));
        assert_eq!(Receiver::told(&receiver.report(), 11..779), (11..779).collect::<Vec<_>>());
    }

    #[test]
    fn a_reader_that_fell_behind_loses_the_oldest_only() {
        let marks = AckMarks::new();
        let mut cursor = 0;
        let ack = |highest| PathAck { path: 1, highest, bitmap: [highest; 4] };
        for highest in 0..LOG as u64 + 10 {
            marks.record(&[ack(highest)], 0);
        }
        let mut read = Vec::new();
        marks.read(&mut cursor, |path, highest, bitmap| {
            assert_eq!((path, *bitmap), (slot(1), [highest; 4]));
            read.push(highest);
        });
        assert_eq!(read, (10..LOG as u64 + 10).collect::<Vec<_>>());
        marks.read(&mut cursor, |_, _, _| panic!("everything was read"));
    }

    #[test]
    fn slots_are_four() {
        assert_eq!((0..=u8::MAX).filter_map(PathSlot::new).count(), PATH_SLOTS);
        assert!(PathSlot::all().eq((0..=u8::MAX).filter_map(PathSlot::new)));
        assert_eq!(PathSlot::new(3).map(PathSlot::number), Some(3));
    }
}
