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
//!   path and is not repaired (random loss on a living path is the business of the protocols inside the tunnel).
//! - A packet *resent* behind newer ones proves nothing by being overtaken, so it stays until a bit or the floor covers it.
//!   For these the receiver lists, after the paths, *late* blocks: the same three fields with a lower `highest`.
//!
//! # Between the threads
//!
//! [`AckMarks`] is a log of the latest acknowledgements in atomics, with one writer and one reader, who never wait for each
//! other. Each slot carries a sequence number that is odd while it is written, so a torn read is noticed and skipped. A
//! reader that fell behind by more than the log loses the oldest: the packets they covered stay in the ring a little
//! longer, until the floor or a later bitmap releases them.

use crate::session::limits::{ACK_BITMAP, ACK_DELAY, ACK_EVERY, DATA_WINDOW, PATH_SLOTS};
use crate::session::replay::ReplayWindow;
use crate::wire::control::{MAX_ACK_PATHS, PathAck};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Instant;

/// A sender's number for one of its paths to a peer, under [`PATH_SLOTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathSlot(u8);

impl PathSlot {
    /// The slot numbered 0.
    pub const FIRST: Self = Self(0);

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

    fn push(&mut self, path: usize, highest: u64, window: &ReplayWindow<DATA_WINDOW>) -> bool {
        let Some(ack) = self.acks.get_mut(self.len) else {
            return false;
        };
        *ack = PathAck { path: path as u8, highest, bitmap: window.bitmap_below(highest) };
        self.len += 1;
        true
    }
}

/// Counters of one path that arrived far below its highest, close enough together for one bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LateBlock {
    path: usize,
    low: u64,
    high: u64,
}

/// Blocks noted between two reports; one more makes a report due at once.
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
}

impl ReceiveMarks {
    /// Notes that `counter` opened at `now`, having come over `path`.
    pub fn on_opened(&mut self, now: Instant, path: PathSlot, counter: u64) {
        let at = path.index();
        self.unreported = self.unreported.saturating_add(1);
        self.since.get_or_insert(now);
        match self.highest[at] {
            Some(highest) if counter <= highest => {
                if highest - counter > ACK_BITMAP {
                    self.note_late(at, counter);
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

    /// Notes that `counter` came again: its acknowledgement may have been lost, so the next report covers it. It makes none
    /// due, since anybody who saw the packet can send it again.
    ///
    /// Nor does it move a path: it counts for one that brought this counter or a higher one already.
    pub fn on_replayed(&mut self, counter: u64) {
        for (at, highest) in self.highest.into_iter().enumerate() {
            match highest {
                Some(highest) if counter <= highest && highest - counter <= ACK_BITMAP => {
                    self.news[at] = true;
                    return;
                }
                Some(_) | None => {}
            }
        }
        if let Some(at) =
            self.highest.iter().position(|highest| highest.is_some_and(|highest| counter <= highest))
        {
            self.note_late(at, counter);
        }
    }

    /// The highest counter opened that came over `path`.
    pub const fn highest(&self, path: PathSlot) -> Option<u64> {
        self.highest[path.index()]
    }

    /// When a report is due; `None` when nothing opened since the last.
    pub fn due_at(&self) -> Option<Instant> {
        let since = self.since?;
        let at_once = self.unreported >= ACK_EVERY || self.urgent;
        Some(if at_once { since } else { since + ACK_DELAY })
    }

    /// What arrived, and forgets that it had to be said.
    pub fn report(&mut self, window: &mut ReplayWindow<DATA_WINDOW>) -> AckReport {
        let floor = window.floor();
        let mut report = AckReport { acks: [AckReport::EMPTY; MAX_ACK_PATHS], len: 0, floor };
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
        // Whatever room is left repeats the other paths, in case what said it before was lost.
        for (path, highest) in self.highest.iter().enumerate() {
            if let (Some(highest), false) = (*highest, self.news[path]) {
                report.push(path, highest, window);
            }
        }
        self.news = [false; PATH_SLOTS];
        self.unreported = 0;
        self.since = None;
        self.urgent = false;
        report
    }

    fn note_late(&mut self, path: usize, counter: u64) {
        for block in self.late.iter_mut().flatten().filter(|block| block.path == path) {
            let (low, high) = (block.low.min(counter), block.high.max(counter));
            if high - low <= ACK_BITMAP {
                (block.low, block.high) = (low, high);
                return;
            }
        }
        if let Some(free) = self.late.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(LateBlock { path, low: counter, high: counter });
        }
        // With no block free the counter goes unmentioned: a report is due at once, and the sender will ask again.
    }
}

/// Acknowledgements in the log. A report has at most 4 and is due at most every 20 ms or 128 packets, so a reader that
/// looks every 16,384 packets misses none.
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
