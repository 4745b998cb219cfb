//! The sealing half of an association, owned by the outbound thread.
//!
//! # Life
//!
//! Made empty when a peer is known; the control task sends a [`SealKey`] over and the thread installs it; frames are sealed
//! into the ring and sent from there; acknowledgements release them; a rekey installs another key, and the counter goes on
//! (protocol §4.8, §5.1). When a path is given up, [`SealHalf::resend`] gives what was sent on it and not acknowledged.
//! A new *association* (after a first handshake) is a new half: only then do counters begin at 0 again, with keys that never
//! sealed anything.
//!
//! # The order of one turn of the loop
//!
//! 1. [`SealHalf::apply_acks`], so that the ring is as empty as it can be;
//! 2. resends that are due, before anything new (protocol §5.2: oldest first, before new data);
//! 3. [`SealHalf::seal`] per frame, or a [`Run`] of frames to be sent with one call;
//! 4. [`SealHalf::shrink`] when the thread goes to sleep for long.
//!
//! Nothing allocates, locks or reads a clock per packet; a chunk of ring memory is fetched once per 256 KiB.
//!
//! # Where the bytes go
//!
//! [`SealHalf::seal_prefixed`] takes metadata and frame as one slice and runs the cipher from there into the ring: the
//! only time the frame is copied. The caller writes the metadata over the byte before the frame (the end of the virtio
//! header in a TAP buffer; in a superframe, the tail of the segment sealed before). [`SealHalf::seal`] takes the frame
//! alone, at the cost of a `memcpy`.

use crate::crypto::aead::{AeadError, AeadKey};
use crate::session::ack::{AckMarks, PathSlot};
use crate::session::key::{SealError, SealKey};
use crate::session::limits::{MAX_FRAME, RECEIVE_KEYS, RETIRED_KEY_LIFE, RUN_BYTES, RUN_SEGMENTS};
use crate::session::pool::ChunkPool;
use crate::session::ring::{Held, Resend, Ring, RingLimits, RingStats, Sealed};
use crate::wire::header::{DATA_OVERHEAD, HEADER_LEN, Header, META_LEN, PacketType, TAG_LEN};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// What a half has sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SealStats {
    /// Packets sealed; also the next counter.
    pub packets: u64,
    /// Bytes of frames in them.
    pub bytes: u64,
    /// What the ring holds, and what it lost.
    pub ring: RingStats,
}

/// A key that is no longer used, whose packets may still wait in the ring.
#[derive(Debug, Clone, Copy)]
struct Replaced {
    /// The first counter sealed under its successor.
    until: u64,
    /// When the receiver no longer opens what it sealed.
    closes_at: Instant,
}

/// Seals data packets of one association.
#[derive(Debug)]
pub struct SealHalf {
    key: Option<SealKey>,
    ring: Ring,
    marks: Arc<AckMarks>,
    read: u64,
    floor: u64,
    bytes: u64,
    replaced: VecDeque<Replaced>,
}

impl SealHalf {
    /// A half without a key. `marks` is where the control task records acknowledgements of this association.
    pub fn new(limits: RingLimits, pool: Arc<ChunkPool>, marks: Arc<AckMarks>) -> Self {
        Self {
            key: None,
            ring: Ring::new(limits, pool),
            marks,
            read: 0,
            floor: 0,
            bytes: 0,
            replaced: VecDeque::new(),
        }
    }

    /// Seals under `key` from now on; the counter goes on. The key before is wiped, what it sealed stays in the ring.
    pub fn install(&mut self, now: Instant, key: SealKey) {
        if self.key.replace(key).is_some() {
            self.replaced
                .push_back(Replaced { until: self.next_counter(), closes_at: now + RETIRED_KEY_LIFE });
        }
        self.give_up_closed(now);
    }

    /// The key in use.
    pub const fn key(&self) -> Option<&SealKey> {
        self.key.as_ref()
    }

    /// The counter of the next packet.
    pub fn next_counter(&self) -> u64 {
        self.ring.next_counter()
    }

    /// Whether the key sealed so many packets that a rekey should begin at once (protocol §4.8).
    pub fn wants_rekey(&self) -> bool {
        self.key.as_ref().is_some_and(SealKey::wants_rekey)
    }

    /// Packets sent over `path` and not acknowledged (protocol §7.2: data outstanding).
    pub const fn outstanding(&self, path: PathSlot) -> usize {
        self.ring.outstanding(path)
    }

    /// Bytes of packets that can be sealed before the oldest not acknowledged are overwritten. While a path is away, a caller
    /// that stops taking frames when this is short loses none.
    pub const fn room(&self) -> usize {
        self.ring.room()
    }

    /// What was sealed and what is held.
    pub fn stats(&self) -> SealStats {
        SealStats { packets: self.next_counter(), bytes: self.bytes, ring: self.ring.stats() }
    }

    /// Seals `frame` with its metadata as the next packet, to be sent over `path`. Copies the frame once more than
    /// [`Self::seal_prefixed`].
    ///
    /// # Errors
    /// As [`SealError`]; nothing was sealed then and no counter used.
    pub fn seal(
        &mut self,
        now: Instant,
        path: PathSlot,
        meta: u8,
        frame: &[u8],
    ) -> Result<Sealed<'_>, SealError> {
        self.seal_with(now, path, META_LEN + frame.len(), seal_copy(meta, frame))
    }

    /// Seals `plaintext`, metadata byte and frame, as the next packet, to be sent over `path`.
    ///
    /// # Errors
    /// As [`SealError`]; nothing was sealed then and no counter used.
    pub fn seal_prefixed(
        &mut self,
        now: Instant,
        path: PathSlot,
        plaintext: &[u8],
    ) -> Result<Sealed<'_>, SealError> {
        if plaintext.is_empty() {
            return Err(SealError::NoMetadata);
        }
        self.seal_with(now, path, plaintext.len(), seal_from(plaintext))
    }

    /// Begins a run of packets that lie one behind the other, to be sent with one call over `path` (UDP GSO, or one write).
    /// `expected` is roughly how many bytes of packets will follow: when the memory at hand ends before, other memory is
    /// taken, so that the run is not cut short.
    ///
    /// # Errors
    /// `NoKey`, `Expired` or `Exhausted`.
    pub fn run(&mut self, now: Instant, path: PathSlot, expected: usize) -> Result<Run<'_>, SealError> {
        self.key.as_ref().ok_or(SealError::NoKey)?.check(now)?;
        self.ring.make_contiguous(expected.clamp(DATA_OVERHEAD, RUN_BYTES));
        let (start, first) = (self.ring.position(), self.next_counter());
        Ok(Run { half: self, now, path, start, first, packets: 0, segment: 0, bytes: 0, closed: false })
    }

    /// Takes in the acknowledgements recorded since the last call; true when there were any.
    pub fn apply_acks(&mut self) -> bool {
        let ring = &mut self.ring;
        let before = (self.read, self.floor);
        self.marks.read(&mut self.read, |path, highest, bitmap| ring.acknowledge(path, highest, bitmap));
        let floor = self.marks.floor();
        if floor > self.floor {
            self.floor = floor;
            ring.acknowledge_below(floor);
        }
        before != (self.read, self.floor)
    }

    /// How many acknowledgements of a path were taken in so far.
    pub const fn acks_heard(&self) -> u64 {
        self.read
    }

    /// Says that data left `path` so long ago that what is not there by now does not come: what was overtaken on it is a loss of the path, as
    /// it would be had data gone on there (protocol §5.2). What nothing overtook may have gone with the path, and is kept.
    pub fn settle(&mut self, path: PathSlot) {
        self.apply_acks();
        if let Some(highest) = self.marks.highest(path) {
            self.ring.settle(path, highest);
        }
    }

    /// Says that `path` is gone with what was under way on it: lost, or bound to another address. What the peer last
    /// acknowledged is taken in first. What is left waits for [`Self::resend`].
    pub fn give_up(&mut self, path: PathSlot) {
        self.apply_acks();
        self.ring.give_up(path);
    }

    /// Says which path is in doubt (see [`Ring::set_doubted`]).
    pub const fn set_doubted(&mut self, path: Option<PathSlot>) {
        self.ring.set_doubted(path);
    }

    /// The path in doubt.
    pub const fn doubted(&self) -> Option<PathSlot> {
        self.ring.doubted()
    }

    /// Gives up what is not acknowledged below `counter`: too old to be of use to anybody. Counts as lost.
    pub fn give_up_below(&mut self, counter: u64) {
        self.apply_acks();
        self.ring.give_up_below(counter);
    }

    /// What was sent over `from` and is not acknowledged, among `counters`, oldest first, to be sent over `to` from now on.
    ///
    /// Take as many as may be sent now and call again for the rest. Whatever the iterator yields counts as sent. What to
    /// pass:
    /// - After [`Self::give_up`] of `from`, another path `to` and all counters.
    /// - For a path that is the only one and begins anew (a stream connected again): the same path twice, and all counters
    ///   from the first not yet sent on it. Nothing newer may be sent before it is through.
    ///
    /// The receiver opens each packet once, however often it comes. Packets whose key it no longer holds are given up and
    /// counted as lost.
    pub fn resend(&mut self, now: Instant, from: PathSlot, to: PathSlot, counters: Range<u64>) -> Resend<'_> {
        self.apply_acks();
        self.give_up_closed(now);
        self.ring.resend(from, to, counters)
    }

    /// What was sent over `path` and is not acknowledged, among `counters`, oldest first, to be sent over it again because it may
    /// be missing. Otherwise as [`Self::resend`], but a packet that was repeated is released by nothing but its own acknowledgement.
    pub fn repeat(&mut self, now: Instant, path: PathSlot, counters: Range<u64>) -> Resend<'_> {
        self.apply_acks();
        self.give_up_closed(now);
        self.ring.repeat(path, counters)
    }

    /// What was sent over `from` and is not acknowledged, among `counters`, is to be repeated over `to` some time: see
    /// [`Self::repeat`]. From the first of it to behind the last; empty where there is none.
    pub fn move_repeat(&mut self, from: PathSlot, to: PathSlot, counters: Range<u64>) -> Range<u64> {
        self.apply_acks();
        self.ring.move_repeat(from, to, counters)
    }

    /// What of `counters` is held and not acknowledged, as far as acknowledgements were taken in.
    pub fn held(&self, counters: Range<u64>) -> Held {
        self.ring.held(counters)
    }

    /// Counts as lost what of `counters` had to be resent, was no longer there, and is not acknowledged.
    pub fn count_missing(&mut self, counters: Range<u64>) {
        self.apply_acks();
        self.ring.count_missing(counters);
    }

    /// Gives back memory that holds nothing.
    pub fn shrink(&mut self) {
        self.ring.shrink();
    }

    /// Bytes of memory that its packets lie in.
    pub const fn memory(&self) -> usize {
        self.ring.memory()
    }

    /// Whether the pool had no memory for it, though it may have more, since this was last asked.
    pub const fn was_short(&mut self) -> bool {
        self.ring.was_short()
    }

    /// Gives memory back until it has no more than `bytes`, or one chunk: its oldest packets are overwritten for that.
    pub fn give_memory(&mut self, bytes: usize) {
        self.ring.give_memory(bytes);
    }

    fn seal_with(
        &mut self,
        now: Instant,
        path: PathSlot,
        text: usize,
        seal: impl FnOnce(Target<'_>) -> Result<(), AeadError>,
    ) -> Result<Sealed<'_>, SealError> {
        self.key.as_ref().ok_or(SealError::NoKey)?.check(now)?;
        if text > META_LEN + MAX_FRAME {
            return Err(SealError::TooLarge);
        }
        self.ring.make_contiguous(HEADER_LEN + text + TAG_LEN);
        let (start, counter) = (self.ring.position(), self.next_counter());
        self.seal_here(now, path, text, seal)?;
        Ok(Sealed { counter, packet: self.ring.since(start) })
    }

    /// Seals behind the newest packet. The caller made sure that `text` is within bounds and there is space.
    fn seal_here(
        &mut self,
        now: Instant,
        path: PathSlot,
        text: usize,
        seal: impl FnOnce(Target<'_>) -> Result<(), AeadError>,
    ) -> Result<(), SealError> {
        let key = self.key.as_mut().ok_or(SealError::NoKey)?;
        key.check(now)?;
        let len = HEADER_LEN + text + TAG_LEN;
        self.ring.make_room(len);
        let counter = self.ring.next_counter();
        let header = Header { kind: PacketType::Data, receiver: key.receiver(), counter }.to_bytes();
        let space = self.ring.space(len).ok_or(SealError::TooLarge)?;
        let (clear, out) = space.split_first_chunk_mut::<HEADER_LEN>().ok_or(SealError::TooLarge)?;
        *clear = header;
        // The only failure left is a length that does not fit, and `out` was measured by `text`.
        seal(Target { key: key.aead(), counter, header: &header, out }).map_err(|_| SealError::TooLarge)?;
        key.count_sealed();
        self.bytes += (text - META_LEN) as u64;
        self.ring.commit(len, path);
        Ok(())
    }

    /// Forgets packets that the receiver has no key for any more: it closed, or so many came after it that the receiver
    /// let it go (at most [`RECEIVE_KEYS`], the one in use among them).
    fn give_up_closed(&mut self, now: Instant) {
        while let Some(oldest) = self.replaced.front()
            && (oldest.closes_at <= now || self.replaced.len() >= RECEIVE_KEYS)
        {
            self.ring.give_up_below(oldest.until);
            self.replaced.pop_front();
        }
    }
}

/// Where the cipher of one packet writes, and with what.
struct Target<'a> {
    key: &'a AeadKey,
    counter: u64,
    header: &'a [u8; HEADER_LEN],
    out: &'a mut [u8],
}

fn seal_copy(meta: u8, frame: &[u8]) -> impl FnOnce(Target<'_>) -> Result<(), AeadError> {
    move |target| {
        let (first, rest) = target.out.split_first_mut().ok_or(AeadError::Length)?;
        *first = meta;
        rest.get_mut(..frame.len()).ok_or(AeadError::Length)?.copy_from_slice(frame);
        target.key.seal_in_place(target.counter, target.header, target.out)
    }
}

fn seal_from(plaintext: &[u8]) -> impl FnOnce(Target<'_>) -> Result<(), AeadError> {
    move |target| target.key.seal_to(target.counter, target.header, plaintext, target.out)
}

/// Whether a packet went into a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fit {
    /// It is in.
    Taken,
    /// It is not, and nothing else will be: finish this run and begin another.
    Full,
}

/// Packets being sealed one behind the other; made by [`SealHalf::run`]. All are as long as the first, but the last may be
/// shorter: what UDP GSO takes.
#[derive(Debug)]
pub struct Run<'a> {
    half: &'a mut SealHalf,
    now: Instant,
    path: PathSlot,
    start: usize,
    first: u64,
    packets: usize,
    segment: usize,
    bytes: usize,
    closed: bool,
}

/// A finished run: at most 64 packets and 65,535 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedRun<'a> {
    /// Counter of the first packet; the others follow without a gap.
    pub first: u64,
    /// How many.
    pub packets: usize,
    /// Bytes of each but perhaps the last.
    pub segment: usize,
    /// All of them, ready to be sent.
    pub bytes: &'a [u8],
}

impl<'a> Run<'a> {
    /// Seals `frame` as [`SealHalf::seal`] does, if it fits the run.
    ///
    /// # Errors
    /// As [`SealError`]; the run is as it was and may be finished.
    pub fn push(&mut self, meta: u8, frame: &[u8]) -> Result<Fit, SealError> {
        self.push_with(META_LEN + frame.len(), seal_copy(meta, frame))
    }

    /// Seals `plaintext` as [`SealHalf::seal_prefixed`] does, if it fits the run.
    ///
    /// # Errors
    /// As [`SealError`]; the run is as it was and may be finished.
    pub fn push_prefixed(&mut self, plaintext: &[u8]) -> Result<Fit, SealError> {
        if plaintext.is_empty() {
            return Err(SealError::NoMetadata);
        }
        self.push_with(plaintext.len(), seal_from(plaintext))
    }

    /// Packets in it so far.
    pub const fn packets(&self) -> usize {
        self.packets
    }

    /// Ends the run and gives its bytes.
    pub fn finish(self) -> SealedRun<'a> {
        let Self { half, start, first, packets, segment, .. } = self;
        SealedRun { first, packets, segment, bytes: half.ring.since(start) }
    }

    fn push_with(
        &mut self,
        text: usize,
        seal: impl FnOnce(Target<'_>) -> Result<(), AeadError>,
    ) -> Result<Fit, SealError> {
        if text > META_LEN + MAX_FRAME {
            return Err(SealError::TooLarge);
        }
        let len = HEADER_LEN + text + TAG_LEN;
        let fits = !self.closed
            && self.packets < RUN_SEGMENTS
            && self.bytes + len <= RUN_BYTES
            && (self.packets == 0 || len <= self.segment)
            && self.half.ring.space(len).is_some();
        if !fits {
            self.closed = true;
            return Ok(Fit::Full);
        }
        self.half.seal_here(self.now, self.path, text, seal)?;
        if self.packets == 0 {
            self.segment = len;
        }
        self.closed = len < self.segment;
        self.packets += 1;
        self.bytes += len;
        Ok(Fit::Taken)
    }
}
