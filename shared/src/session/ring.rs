//! The memory that data packets are sealed into and sent from (protocol §5.2). Keeping them for a resend costs no copy.
//!
//! # Life of an entry
//!
//! Sealed → *held*, on the path it was sent over → *released* by an acknowledgement, or *overwritten* when the ring is full
//! and it was the oldest. When its path is given up it is sent again on another path, as it is: same bytes, same counter,
//! so the receiver's window makes it exactly once. A released entry is never sent again. An overwritten one is remembered
//! without its bytes until an acknowledgement covers it: only when a resend would have needed it, and the receiver does not say that it
//! has it, it is *lost*. So `lost` is measured, not assumed (a full ring on a healthy path loses nothing).
//!
//! # Layout
//!
//! Packets lie one behind the other in chunks, so that a run of equal ones is one contiguous piece for UDP GSO. A chunk goes
//! back to the pool when nothing in it is held, wherever it lies; the newest starts over when nothing in it is held, which
//! keeps the memory of an acknowledged flow in the processor's cache. Entries are 16 bytes in a queue; their counters are
//! consecutive and not stored.
//!
//! # Invariants
//!
//! `bytes` and `held` count the entries that are neither released nor overwritten, and never exceed the limits; at most
//! `limits.bytes / CHUNK_BYTES + 2` chunks are taken. Entries reach back at most [`DATA_WINDOW`] counters: what is older no
//! receiver accepts.

use crate::session::ack::PathSlot;
use crate::session::limits::{ACK_BITMAP, CHUNK_BYTES, DATA_WINDOW, PATH_SLOTS, RING_BYTES, RING_PACKETS};
use crate::session::pool::ChunkPool;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// How much a ring may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLimits {
    /// Bytes of packets.
    pub bytes: usize,
    /// Packets.
    pub packets: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { bytes: RING_BYTES, packets: RING_PACKETS }
    }
}

impl RingLimits {
    /// A ring so small that it overflows at once: the switch with which tests see what is lost then, and that it is
    /// counted.
    pub const TINY: Self = Self { bytes: 64 << 10, packets: RING_PACKETS };
    /// No ring: a packet is forgotten when the next is sealed, and nothing goes again. What a ring costs is measured against it.
    pub const NOTHING: Self = Self { bytes: 0, packets: 0 };

    /// Whether it is [`Self::NOTHING`].
    pub const fn is_nothing(self) -> bool {
        self.packets == 0
    }
}

/// What a ring holds and what became of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingStats {
    /// Packets held, waiting to be acknowledged.
    pub held: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// Packets overwritten before they were acknowledged, whether that mattered or not.
    pub overwritten: u64,
    /// Packets that a resend would have needed and that were no longer there. Only grows.
    pub lost: u64,
    /// Packets sent again.
    pub resent: u64,
}

/// A sealed packet, in the ring's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// Its counter.
    pub counter: u64,
    /// Its bytes, ready to be sent.
    pub packet: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    chunk: u32,
    offset: u32,
    /// Which packet of its path it was: sent before those with a higher number. Wraps; only differences are used.
    order: u32,
    len: u16,
    path: u8,
    state: State,
}

/// Packets that are held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// How many.
    pub packets: usize,
    /// Bytes of them.
    pub bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Held; newer packets on its path that arrived say something about it.
    InOrder,
    /// Held; was resent behind newer packets, so only its own acknowledgement counts.
    OutOfOrder,
    /// The bytes of one in order are gone, no acknowledgement yet.
    OverwrittenInOrder,
    /// The bytes of one out of order are gone, no acknowledgement yet.
    OverwrittenOutOfOrder,
    /// Needs nothing any more.
    Released,
}

impl State {
    const fn is_held(self) -> bool {
        matches!(self, Self::InOrder | Self::OutOfOrder)
    }

    const fn is_in_order(self) -> bool {
        matches!(self, Self::InOrder | Self::OverwrittenInOrder)
    }

    /// What it is once its bytes are overwritten.
    const fn overwritten(self) -> Self {
        match self {
            Self::InOrder => Self::OverwrittenInOrder,
            Self::OutOfOrder => Self::OverwrittenOutOfOrder,
            Self::OverwrittenInOrder | Self::OverwrittenOutOfOrder | Self::Released => self,
        }
    }
}

#[derive(Debug)]
struct Chunk {
    memory: Box<[u8]>,
    used: usize,
    held: usize,
}

/// The packets of one peer that may have to be sent again. Owned by the outbound thread.
#[derive(Debug)]
pub struct Ring {
    limits: RingLimits,
    pool: Arc<ChunkPool>,
    entries: VecDeque<Entry>,
    /// Counter of the front entry.
    first: u64,
    /// No entry before this counter is held.
    oldest_held: u64,
    /// The newest chunk is the last; those given back leave a gap until they are in front.
    chunks: VecDeque<Option<Chunk>>,
    /// Number of the front chunk. Wraps; only differences are used.
    first_chunk: u32,
    taken: usize,
    /// Whether the pool had no chunk for it, though it may have more.
    is_short: bool,
    stats: RingStats,
    paths: [PathMarks; PATH_SLOTS],
    /// A path that is in doubt: what newer packets overtake there may be missing because it was silent, and is kept.
    doubted: Option<PathSlot>,
}

#[derive(Debug, Clone, Copy, Default)]
struct PathMarks {
    /// One above the highest counter sent since the path was last given up; at least where it began anew, if it had more before.
    sent: u64,
    /// No entry below is in order and held or overwritten.
    settled: u64,
    /// Packets sent, new and again.
    order: u32,
    held: usize,
}

impl PathMarks {
    const fn next_order(&mut self) -> u32 {
        self.order = self.order.wrapping_add(1);
        self.order
    }
}

impl Ring {
    /// An empty ring that takes its memory from `pool`. Holds none until something is sealed.
    pub fn new(limits: RingLimits, pool: Arc<ChunkPool>) -> Self {
        Self {
            limits,
            pool,
            entries: VecDeque::new(),
            first: 0,
            oldest_held: 0,
            chunks: VecDeque::new(),
            first_chunk: 0,
            taken: 0,
            is_short: false,
            stats: RingStats::default(),
            paths: [PathMarks::default(); PATH_SLOTS],
            doubted: None,
        }
    }

    /// Says which path is in doubt. Once it is not, what was overtaken meanwhile counts as a loss of the path again, unless it was
    /// given up before.
    pub const fn set_doubted(&mut self, path: Option<PathSlot>) {
        self.doubted = path;
    }

    /// See [`Self::set_doubted`].
    pub const fn doubted(&self) -> Option<PathSlot> {
        self.doubted
    }

    /// What it holds.
    pub const fn stats(&self) -> RingStats {
        self.stats
    }

    /// Packets sent over `path` and not acknowledged.
    pub const fn outstanding(&self, path: PathSlot) -> usize {
        self.paths[path.index()].held
    }

    /// Bytes of packets it can hold beside what it holds, without overwriting any; 0 when it holds as many packets as it may.
    pub const fn room(&self) -> usize {
        if self.stats.held < self.limits.packets {
            self.limits.bytes.saturating_sub(self.stats.bytes)
        } else {
            0
        }
    }

    /// The counter the next entry gets.
    pub fn next_counter(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Makes sure that `len` bytes lie free behind the newest packet, in a new chunk if they do not fit the newest.
    pub(crate) fn make_contiguous(&mut self, len: usize) {
        if let Some(Some(chunk)) = self.chunks.back_mut() {
            if chunk.held == 0 {
                chunk.used = 0;
            }
            if chunk.memory.len() - chunk.used >= len {
                return;
            }
        }
        let memory = self.another_chunk();
        self.close_newest();
        self.chunks.push_back(Some(Chunk { memory, used: 0, held: 0 }));
        self.taken += 1;
    }

    /// The `len` bytes behind the newest packet; fewer when the newest chunk ends before. Call [`Self::make_room`] first.
    pub(crate) fn space(&mut self, len: usize) -> Option<&mut [u8]> {
        let Some(Some(chunk)) = self.chunks.back_mut() else {
            return None;
        };
        chunk.memory.get_mut(chunk.used..)?.get_mut(..len)
    }

    /// Overwrites the oldest packets until one of `len` bytes may be held beside the others.
    pub(crate) fn make_room(&mut self, len: usize) {
        if self.limits.is_nothing() {
            return self.forget_all();
        }
        while self.stats.held > 0
            && (self.stats.bytes + len > self.limits.bytes || self.stats.held >= self.limits.packets)
        {
            self.overwrite_oldest();
        }
        while self.entries.len() >= DATA_WINDOW {
            self.forget_front();
        }
    }

    /// Holds the first `len` bytes of [`Self::space`] as the packet of the next counter, sent over `path`.
    pub(crate) fn commit(&mut self, len: usize, path: PathSlot) {
        let counter = self.next_counter();
        let chunk_number = self.first_chunk.wrapping_add((self.chunks.len() as u32).wrapping_sub(1));
        let Some(Some(chunk)) = self.chunks.back_mut() else {
            return;
        };
        let entry = Entry {
            chunk: chunk_number,
            offset: chunk.used as u32,
            order: self.paths[path.index()].next_order(),
            len: len as u16,
            path: path.number(),
            state: State::InOrder,
        };
        chunk.used += len;
        chunk.held += 1;
        self.entries.push_back(entry);
        self.stats.held += 1;
        self.stats.bytes += len;
        let marks = &mut self.paths[path.index()];
        marks.sent = counter + 1;
        marks.held += 1;
    }

    /// How many bytes of the newest chunk are used: where the next packet will lie.
    pub(crate) fn position(&self) -> usize {
        match self.chunks.back() {
            Some(Some(chunk)) => chunk.used,
            Some(None) | None => 0,
        }
    }

    /// The bytes of the newest chunk from `start` on that are used.
    pub(crate) fn since(&self, start: usize) -> &[u8] {
        match self.chunks.back() {
            Some(Some(chunk)) => chunk.memory.get(start..chunk.used).unwrap_or_default(),
            Some(None) | None => &[],
        }
    }

    /// Takes in that the receiver opened `highest` over `path`, and the counters below it whose bit is set.
    ///
    /// An acknowledgement of something never sent is ignored: the receiver lies, to nobody's harm but its own.
    pub fn acknowledge(&mut self, path: PathSlot, highest: u64, bitmap: &[u64; 4]) {
        if highest >= self.next_counter() {
            return;
        }
        self.release(highest);
        for (word, base) in bitmap.iter().zip((0..4u64).map(|j| 64 * j)) {
            let mut bits = *word;
            while bits != 0 {
                let below = base + u64::from(bits.trailing_zeros()) + 1;
                bits &= bits - 1;
                if let Some(counter) = highest.checked_sub(below) {
                    self.release(counter);
                }
            }
        }
        if self.doubted != Some(path) {
            self.release_overtaken(path, highest);
        }
        self.drop_released();
    }

    /// Takes in that nothing below `floor` is needed any more.
    pub fn acknowledge_below(&mut self, floor: u64) {
        let end = floor.min(self.next_counter());
        for counter in self.first..end {
            self.release(counter);
        }
        self.drop_released();
    }

    /// Gives up what is not acknowledged below `counter`: no key opens it any more. Counts as lost.
    pub(crate) fn give_up_below(&mut self, counter: u64) {
        let end = counter.min(self.next_counter());
        for counter in self.first..end {
            if self.entry(counter).is_some_and(|entry| entry.state != State::Released) {
                self.stats.lost += 1;
                self.release(counter);
            }
        }
        self.drop_released();
    }

    /// Says that whatever `path` would bring of what was sent before `end` it has brought. What was sent in order and is not acknowledged is a
    /// loss of the path, not repaired, however few packets overtook it.
    pub fn settle(&mut self, path: PathSlot, end: u64) {
        for counter in self.first..end.min(self.next_counter()) {
            let is_missing = |entry: &Entry| entry.path == path.number() && entry.state.is_in_order();
            if self.entry(counter).is_some_and(is_missing) {
                self.release(counter);
            }
        }
        self.drop_released();
    }

    /// Says that `path` is gone with what was under way on it. What is held of it waits to be resent, over whatever path,
    /// and is no longer released by the arrival of newer packets, should the slot be used again.
    pub fn give_up(&mut self, path: PathSlot) {
        for entry in self.entries.iter_mut().filter(|entry| entry.path == path.number()) {
            entry.state = match entry.state {
                State::InOrder => State::OutOfOrder,
                State::OverwrittenInOrder => State::OverwrittenOutOfOrder,
                State::OutOfOrder | State::OverwrittenOutOfOrder | State::Released => entry.state,
            };
        }
        self.paths[path.index()].sent = 0;
    }

    /// The packets sent over `from` and not acknowledged whose counters are in `counters`, oldest first. Each one yielded is
    /// from then on a packet of `to`; those not yielded stay as they are, so a resend can be paced over many calls.
    ///
    /// Where `from` and `to` are the same and `counters` has no end below the next counter, the path begins anew at the
    /// start of `counters`: the caller sends what is yielded, in order, before anything newer.
    pub fn resend(&mut self, from: PathSlot, to: PathSlot, counters: Range<u64>) -> Resend<'_> {
        if from == to && counters.end >= self.next_counter() {
            let marks = &mut self.paths[to.index()];
            marks.sent = marks.sent.min(counters.start);
        }
        self.resend_as(from, to, counters, false)
    }

    /// The packets sent over `path` and not acknowledged whose counters are in `counters`, oldest first, to be sent over it once
    /// more. Nothing but their own acknowledgement releases them then: that newer packets arrive says nothing about them.
    pub fn repeat(&mut self, path: PathSlot, counters: Range<u64>) -> Resend<'_> {
        self.resend_as(path, path, counters, true)
    }

    /// What was sent over `from` and is not acknowledged, among `counters`, is `to`'s to repeat from now on. It is not sent by this,
    /// so that newer packets of `to` arrive says nothing about it. From the first one to behind the last; empty where there are none.
    pub fn move_repeat(&mut self, from: PathSlot, to: PathSlot, counters: Range<u64>) -> Range<u64> {
        let before = self.stats.resent;
        let mut moved = self.resend_as(from, to, counters, true).map(|sealed| sealed.counter);
        let moved = moved.next().map_or(0..0, |first| first..moved.last().unwrap_or(first) + 1);
        self.stats.resent = before;
        moved
    }

    /// What of `counters` is held and not acknowledged.
    pub fn held(&self, counters: Range<u64>) -> Held {
        let start = counters.start.max(self.first);
        let at = usize::try_from(start - self.first).unwrap_or(usize::MAX).min(self.entries.len());
        let count = usize::try_from(counters.end.saturating_sub(start)).unwrap_or(usize::MAX);
        let held = self.entries.range(at..).take(count).filter(|entry| entry.state.is_held());
        held.fold(Held::default(), |held, entry| Held {
            packets: held.packets + 1,
            bytes: held.bytes + usize::from(entry.len),
        })
    }

    /// Counts as lost what of `counters` had to be resent, was overwritten and is not acknowledged. To be called once acknowledgements of what was resent
    /// had time to come.
    pub fn count_missing(&mut self, counters: Range<u64>) {
        for counter in counters.start.max(self.first)..counters.end.min(self.next_counter()) {
            // One in order is under way on a path that works.
            if self.entry(counter).is_some_and(|entry| entry.state == State::OverwrittenOutOfOrder) {
                self.stats.lost += 1;
                self.release(counter);
            }
        }
        self.drop_released();
    }

    fn resend_as(
        &mut self,
        from: PathSlot,
        to: PathSlot,
        counters: Range<u64>,
        is_repeat: bool,
    ) -> Resend<'_> {
        let start = counters.start.max(self.first);
        let next = usize::try_from(start - self.first).unwrap_or(usize::MAX).min(self.entries.len());
        Resend {
            from,
            to,
            is_repeat,
            counter: start,
            end: counters.end,
            entries: self.entries.range_mut(next..),
            chunks: &self.chunks,
            first_chunk: self.first_chunk,
            stats: &mut self.stats,
            paths: &mut self.paths,
        }
    }

    /// Gives back whatever memory holds nothing. For when the peer has gone quiet.
    pub fn shrink(&mut self) {
        self.drop_released();
        if let Some(Some(chunk)) = self.chunks.back()
            && chunk.held == 0
        {
            self.close_newest();
            self.drop_free_chunks();
        }
        if self.entries.capacity() / 4 > self.entries.len() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// Bytes of memory that it has.
    pub const fn memory(&self) -> usize {
        self.taken * CHUNK_BYTES
    }

    /// Whether the pool had no memory for it, though it may have more, since this was last asked.
    pub const fn was_short(&mut self) -> bool {
        std::mem::replace(&mut self.is_short, false)
    }

    /// Gives memory back until it has no more than `bytes`, or one chunk: its oldest packets are overwritten for that.
    pub fn give_memory(&mut self, bytes: usize) {
        while self.taken > (bytes / CHUNK_BYTES).max(1) && self.stats.held > 0 {
            self.overwrite_oldest();
        }
    }

    /// Releases in-order packets of `path` that were sent more than a bitmap before `highest`, which arrived over it: a loss
    /// of the path, not repaired. Counted in packets of that path, for counters may leave gaps of any size between two.
    fn release_overtaken(&mut self, path: PathSlot, highest: u64) {
        let Some(newest) =
            self.entry(highest).filter(|entry| entry.path == path.number()).map(|entry| entry.order)
        else {
            return;
        };
        let mut counter = self.paths[path.index()].settled.max(self.first);
        while counter < highest
            && let Some(entry) = self.entry(counter).copied()
        {
            if entry.path == path.number() && entry.state.is_in_order() {
                // In-order packets of a path have ascending order, so the first that is young enough ends it.
                if newest.wrapping_sub(entry.order).cast_signed() <= ACK_BITMAP as i32 {
                    break;
                }
                self.release(counter);
            }
            counter += 1;
        }
        let settled = &mut self.paths[path.index()].settled;
        *settled = counter.max(*settled);
    }

    fn entry(&self, counter: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(counter.checked_sub(self.first)?).ok()?)
    }

    /// Marks an entry as needing nothing; whatever it was.
    fn release(&mut self, counter: u64) {
        let Some(index) = counter.checked_sub(self.first).and_then(|index| usize::try_from(index).ok())
        else {
            return;
        };
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        let before = std::mem::replace(&mut entry.state, State::Released);
        if before.is_held() {
            let entry = *entry;
            self.free(entry);
        }
    }

    /// Takes a held entry out of the counts and its chunk.
    fn free(&mut self, entry: Entry) {
        self.stats.held -= 1;
        self.stats.bytes -= usize::from(entry.len);
        if let Some(marks) = self.paths.get_mut(usize::from(entry.path)) {
            marks.held -= 1;
        }
        let at = entry.chunk.wrapping_sub(self.first_chunk) as usize;
        let newest = at + 1 == self.chunks.len();
        let Some(slot) = self.chunks.get_mut(at) else {
            return;
        };
        let Some(chunk) = slot.as_mut() else { return };
        chunk.held -= 1;
        if chunk.held == 0 && !newest {
            self.give_back(at);
        }
    }

    fn give_back(&mut self, at: usize) {
        if let Some(chunk) = self.chunks.get_mut(at).and_then(Option::take) {
            self.taken -= 1;
            self.pool.give(chunk.memory);
        }
        self.drop_free_chunks();
    }

    fn drop_free_chunks(&mut self) {
        while let Some(None) = self.chunks.front() {
            self.chunks.pop_front();
            self.first_chunk = self.first_chunk.wrapping_add(1);
        }
    }

    fn drop_released(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.state == State::Released) {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// The newest chunk is about to be no longer the newest: it goes back if nothing in it is held.
    fn close_newest(&mut self) {
        if let Some(Some(chunk)) = self.chunks.back()
            && chunk.held == 0
        {
            self.give_back(self.chunks.len() - 1);
        }
    }

    fn another_chunk(&mut self) -> Box<[u8]> {
        loop {
            if self.taken == 0 {
                return self.pool.take_first();
            }
            if self.taken < self.limits.bytes / CHUNK_BYTES + 2 {
                if let Some(memory) = self.pool.take() {
                    return memory;
                }
                self.is_short = true;
            }
            // The budget is spent: our own oldest packets make room. Each turn frees a packet, in the end a chunk; the
            // newest chunk alone is not given back by itself.
            if self.stats.held == 0 {
                self.close_newest();
            } else {
                self.overwrite_oldest();
                if self.stats.held == 0 {
                    self.close_newest();
                }
            }
        }
    }

    fn overwrite_oldest(&mut self) {
        let mut counter = self.oldest_held.max(self.first);
        while self.entry(counter).is_some_and(|entry| !entry.state.is_held()) {
            counter += 1;
        }
        self.oldest_held = counter;
        let index = (counter - self.first) as usize;
        if let Some(entry) = self.entries.get_mut(index) {
            entry.state = entry.state.overwritten();
            let entry = *entry;
            self.stats.overwritten += 1;
            self.free(entry);
        }
    }

    /// Drops every entry; what they lie in stays as it is until the next run begins.
    fn forget_all(&mut self) {
        while let Some(entry) = self.entries.pop_front() {
            self.first += 1;
            if entry.state.is_held() {
                self.free(entry);
            }
        }
    }

    /// Drops the oldest entry, which is so old that its receiver would refuse it.
    fn forget_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.first += 1;
            if entry.state.is_held() {
                self.stats.overwritten += 1;
                self.free(entry);
            }
            if entry.state != State::Released {
                self.stats.lost += 1;
            }
        }
        self.drop_released();
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for chunk in self.chunks.drain(..).flatten() {
            self.pool.give(chunk.memory);
        }
    }
}

/// Packets to send again; made by [`Ring::resend`].
#[derive(Debug)]
pub struct Resend<'a> {
    from: PathSlot,
    to: PathSlot,
    is_repeat: bool,
    counter: u64,
    end: u64,
    entries: std::collections::vec_deque::IterMut<'a, Entry>,
    chunks: &'a VecDeque<Option<Chunk>>,
    first_chunk: u32,
    stats: &'a mut RingStats,
    paths: &'a mut [PathMarks; PATH_SLOTS],
}

impl<'a> Iterator for Resend<'a> {
    type Item = Sealed<'a>;

    fn next(&mut self) -> Option<Sealed<'a>> {
        while self.counter < self.end {
            let entry = self.entries.next()?;
            let counter = self.counter;
            self.counter += 1;
            if entry.path != self.from.number() {
                continue;
            }
            match entry.state {
                State::Released => {}
                State::OverwrittenInOrder | State::OverwrittenOutOfOrder => {
                    // It may have arrived: whether it is lost is known once the receiver was heard (`count_missing`).
                    entry.state = State::OverwrittenOutOfOrder;
                    entry.path = self.to.number();
                }
                State::InOrder | State::OutOfOrder => {
                    let Some(packet) = bytes_of(entry, self.chunks, self.first_chunk) else {
                        continue;
                    };
                    self.stats.resent += 1;
                    self.paths[self.from.index()].held -= 1;
                    let marks = &mut self.paths[self.to.index()];
                    marks.held += 1;
                    // Behind newer packets on that path, whose arrival then says nothing about this one.
                    let behind = self.is_repeat || marks.sent > counter;
                    if !behind {
                        marks.settled = marks.settled.min(counter);
                    }
                    marks.sent = marks.sent.max(counter + 1);
                    entry.path = self.to.number();
                    entry.order = marks.next_order();
                    entry.state = if behind { State::OutOfOrder } else { State::InOrder };
                    return Some(Sealed { counter, packet });
                }
            }
        }
        None
    }
}

fn bytes_of<'a>(entry: &Entry, chunks: &'a VecDeque<Option<Chunk>>, first_chunk: u32) -> Option<&'a [u8]> {
    let chunk = chunks.get(entry.chunk.wrapping_sub(first_chunk) as usize)?.as_ref()?;
    let start = entry.offset as usize;
    chunk.memory.get(start..start + usize::from(entry.len))
}

#[cfg(test)]
mod tests;
