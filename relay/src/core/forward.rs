//! What the data path needs: a pair's meter, and the two bounded queues before a client.
//!
//! Control goes first. Control is never dropped; a client that lets it pile up does not read and is closed.
//!
//! # Data
//!
//! What one sender left goes in the order it came. Senders take turns by deficit round robin, [`QUANTUM`] bytes each, and one that left
//! nothing for a while goes before the others once: who sends little waits for nobody who sends much. Where what a sender left stands in
//! the queue, [`CoDel`] says which messages waited too long, and each loses a large packet, or all of them when it is stale: bulk transfers
//! slow down by that, so the queue of a slow line is short, and the small packets among them (a ping, a voice, acknowledgements),
//! which are no reason for the queue, are not what pays for it. When there is too much in all, the *oldest* message of whoever left most goes: what
//! waited longest is what its sender is most likely to have given up on, and a full queue then never delays what is new.
//!
//! One who is new, or was silent ([`SILENT`]), may have much that has to arrive: what it kept while this relay, or its peer, was away (protocol §7.5).
//! Of that nothing is dropped for its age or for the line's sake, for [`GRACE`]: it goes again what is lost, behind what came after it. But most
//! who were silent had nothing to say. A line that stood still brings at once what its sender's kernel had when it stopped; where next to nothing
//! comes at once ([`BURST`], [`STOOD`]) nothing was kept, and a flow that begins then fills no queue for two seconds.

use bytes::Bytes;
use shadowmesh_proto::ids::ChannelId;
use shadowmesh_proto::queueing::{CoDel, STALE};
use shadowmesh_proto::wire::relay::{Control, Forward, ForwardBuilder};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What passed between the two ends of a pair. Shared by the connections that forward and the core that counts.
#[derive(Debug, Default)]
pub struct PairMeter {
    bytes: AtomicU64,
    dormant: AtomicBool,
}

impl PairMeter {
    /// A message of `bytes` passes; it wakes a dormant channel (protocol §3.3, RELEASE).
    pub fn count(&self, bytes: u64) {
        // Relaxed throughout: these are statistics, they order nothing.
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.dormant.load(Ordering::Relaxed) {
            self.dormant.store(false, Ordering::Relaxed);
        }
    }

    /// An end said RELEASE; `false` when no data passed since it was said last.
    pub fn release(&self) -> bool {
        !self.dormant.swap(true, Ordering::Relaxed)
    }

    /// Whether no data passed since an end said RELEASE: the pair has a direct link.
    pub fn is_dormant(&self) -> bool {
        self.dormant.load(Ordering::Relaxed)
    }

    /// Bytes of FORWARD messages so far, both directions.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The next thing to write to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A body, to be sealed by whoever owns the link.
    Control(Control),
    /// A whole FORWARD message, passed on unchanged.
    Data(Bytes),
}

/// The control queue is full: the client does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client does not read its control messages")]
pub struct Stuck;

/// What a push displaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Displaced {
    /// Packets in the messages that were dropped.
    pub packets: u64,
    /// Their bytes, framing included.
    pub bytes: u64,
}

impl Displaced {
    fn add(&mut self, message: &[u8]) {
        self.packets += packets_in(message);
        self.bytes += u64::try_from(message.len()).unwrap_or(u64::MAX);
    }
}

/// Bytes of a sender's turn: a few frames, for a message of the largest size costs its sender eight turns.
const QUANTUM: usize = 8 * 1024;

/// A sender of whom nothing came for so long may have kept what it sends now.
const SILENT: Duration = Duration::from_secs(1);
/// So long after that nothing of it is dropped but where there is too much in all: 25 MB at 100 Mbit/s, which slow lines have less than.
const GRACE: Duration = Duration::from_secs(2);
/// What comes within this of the end of a silence came at once: more than two reads of a connection are apart, and less than a few round trips
/// of most.
const BURST: Duration = Duration::from_millis(10);
/// Less than this is no more than a question: a few packets. A tenth of what a flow of 64 kbit/s sends until its path is in doubt (protocol §7.2).
const STOOD: usize = 4 * 1024;

/// Senders that are remembered though they are silent.
const HEARD: usize = 256;

/// The two queues before one client (protocol §3.6).
#[derive(Debug)]
pub struct Queues {
    control: VecDeque<Control>,
    /// Senders that had left nothing until a moment ago, in their order.
    new: VecDeque<Lane>,
    /// The others of whom something waits, or who have yet to make up for what they sent beyond their turn.
    old: VecDeque<Lane>,
    /// When each sender was last heard, and until when it has grace.
    heard: Vec<Heard>,
    data_bytes: usize,
    max_control: usize,
    max_data_bytes: usize,
}

/// When a sender was heard.
#[derive(Debug, Clone, Copy)]
struct Heard {
    channel: ChannelId,
    last: Instant,
    /// When its silence ended.
    since: Instant,
    /// Bytes that came within [`BURST`] of that; all there are where it was not heard before.
    burst: usize,
    grace: Instant,
}

impl Heard {
    fn first(channel: ChannelId, now: Instant) -> Self {
        Self { channel, last: now, since: now, burst: usize::MAX, grace: now + GRACE }
    }

    /// So many bytes came.
    fn on_heard(&mut self, now: Instant, bytes: usize) {
        if now.saturating_duration_since(self.last) >= SILENT {
            (self.since, self.burst, self.grace) = (now, 0, now + GRACE);
        }
        self.last = now;
        if now.saturating_duration_since(self.since) < BURST {
            self.burst = self.burst.saturating_add(bytes);
        } else if self.burst < STOOD {
            self.grace = now;
        }
    }
}

/// A message that waits.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    has_large: bool,
    message: Bytes,
}

/// What one sender left.
#[derive(Debug)]
struct Lane {
    channel: ChannelId,
    messages: VecDeque<Waiting>,
    /// Those that have something large in them.
    large: usize,
    bytes: usize,
    /// Until when its sender has grace.
    grace: Instant,
    /// Bytes that it may still send in its turn; below zero what it sent beyond.
    deficit: isize,
    codel: CoDel,
}

/// What may wait for a line at least, however slow it is: a message of the largest size.
const BOUND_MIN: usize = 64 * 1024;

/// Packets of this size are of a bulk transfer: twice what most of the others have (RFC 8290 §5.2.3 has as little for a turn).
const LARGE: usize = 512;

/// Counted for each queued message beside its bytes, so that many small ones are bounded too: the queue's slot and what the
/// allocator needs.
const MESSAGE_OVERHEAD: usize = 96;

/// A message below this that has to wait is copied: it may be a slice of a large read buffer that it would keep alive.
const COPY_BELOW: usize = 16 * 1024;
/// One below this is copied even when nothing waits before it: the writer takes many before the socket takes the first.
const COPY_ALWAYS: usize = 2 * 1024;

impl Lane {
    const fn new(channel: ChannelId, grace: Instant) -> Self {
        Self {
            channel,
            messages: VecDeque::new(),
            large: 0,
            bytes: 0,
            grace,
            deficit: QUANTUM.cast_signed(),
            codel: CoDel::new(),
        }
    }

    fn insert(&mut self, at: usize, since: Instant, message: Bytes) {
        let is_large = |forward: Forward<'_>| forward.packets().any(|packet| packet.len() >= LARGE);
        let has_large = message.len() >= LARGE && Forward::parse(&message).is_ok_and(is_large);
        self.bytes += message.len() + MESSAGE_OVERHEAD;
        self.large += usize::from(has_large);
        self.messages.insert(at, Waiting { since, has_large, message });
    }

    fn push(&mut self, since: Instant, message: Bytes) {
        self.insert(self.messages.len(), since, message);
    }

    fn pop(&mut self) -> Option<Waiting> {
        self.remove(0)
    }

    fn remove(&mut self, at: usize) -> Option<Waiting> {
        let waiting = self.messages.remove(at)?;
        self.bytes -= waiting.message.len() + MESSAGE_OVERHEAD;
        self.large -= usize::from(waiting.has_large);
        Some(waiting)
    }
}

impl Queues {
    /// Empty queues with these bounds.
    pub const fn new(max_control: usize, max_data_bytes: usize) -> Self {
        Self {
            control: VecDeque::new(),
            new: VecDeque::new(),
            old: VecDeque::new(),
            heard: Vec::new(),
            data_bytes: 0,
            max_control,
            max_data_bytes,
        }
    }

    /// Queues a body.
    ///
    /// # Errors
    /// [`Stuck`] when the queue is full.
    pub fn push_control(&mut self, body: Control) -> Result<(), Stuck> {
        if self.control.len() >= self.max_control {
            return Err(Stuck);
        }
        self.control.push_back(body);
        Ok(())
    }

    /// Queues a message that came over `channel`, dropping old packets to make room: where the line is known to be slow, `bound` bytes are as
    /// many as may wait for it. A message always fits an empty queue.
    pub fn push_data(
        &mut self,
        now: Instant,
        channel: ChannelId,
        message: Bytes,
        bound: Option<usize>,
    ) -> Displaced {
        let mut displaced = Displaced::default();
        let cost = message.len() + MESSAGE_OVERHEAD;
        let grace = self.hear(now, channel, message.len());
        if let Some(lane) = self.lanes_mut().find(|lane| lane.channel == channel) {
            lane.grace = grace;
        }
        if let Some(bound) = bound.filter(|_| now >= grace) {
            let bound = bound.max(BOUND_MIN);
            loop {
                let waits = self.bytes_without_grace(now);
                // A large message does not cost the small ones before it, but where they alone are too many.
                if waits + cost <= bound || !self.drop_oldest(Some(now), waits > bound, &mut displaced) {
                    break;
                }
            }
        }
        while self.data_bytes + cost > self.max_data_bytes && self.drop_oldest(None, true, &mut displaced) {}
        let waits = self.data_bytes > 0;
        let message = if message.len() < if waits { COPY_BELOW } else { COPY_ALWAYS } {
            Bytes::copy_from_slice(&message)
        } else {
            message
        };
        self.data_bytes += cost;
        if !self.lanes().any(|lane| lane.channel == channel) {
            self.new.push_back(Lane::new(channel, grace));
        }
        if let Some(lane) = self.lanes_mut().find(|lane| lane.channel == channel) {
            lane.push(now, message);
        }
        displaced
    }

    /// The next thing to write, control before data, which `takes_data` may leave where it is; and what waited too long before it, where the
    /// line is known to be slow (`is_slow`): what waited for a client that stood still for a moment is no queue of a line.
    pub fn pop(&mut self, now: Instant, is_slow: bool, takes_data: bool) -> (Option<Item>, Displaced) {
        match self.control.pop_front() {
            Some(body) => (Some(Item::Control(body)), Displaced::default()),
            None if takes_data => self.pop_data(now, is_slow),
            None => (None, Displaced::default()),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && !self.has_data()
    }

    /// Whether data waits.
    pub const fn has_data(&self) -> bool {
        self.data_bytes > 0
    }

    /// Whether so much data waits that the sender behind `channel` should pause: more than half of what fits, and of that its share or
    /// more. The other half takes what is under way.
    pub fn is_crowded_by(&self, channel: ChannelId) -> bool {
        let senders = self.lanes().filter(|lane| lane.bytes > 0).count();
        self.data_bytes > self.max_data_bytes / 2
            && self
                .lanes()
                .any(|lane| lane.channel == channel && lane.bytes.saturating_mul(senders) >= self.data_bytes)
    }

    /// Whether senders that paused may go on: a quarter of what fits is left, so that the line stays busy meanwhile.
    pub const fn has_room(&self) -> bool {
        self.data_bytes <= self.max_data_bytes / 4
    }

    /// Gives memory back once a burst is over: an idle client should cost what an idle client costs.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            let mut heard = std::mem::take(&mut self.heard);
            heard.shrink_to_fit();
            *self = Self { heard, ..Self::new(self.max_control, self.max_data_bytes) };
        }
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.new.iter().chain(&self.old)
    }

    fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.new.iter_mut().chain(&mut self.old)
    }

    /// Bytes of those who have no grace.
    fn bytes_without_grace(&self, now: Instant) -> usize {
        self.lanes().filter(|lane| now >= lane.grace).map(|lane| lane.bytes).sum()
    }

    /// Drops, of whoever left most, what is large in the oldest message that has something large; where there is none and what is small
    /// `goes_too`, the oldest. Whether there was one. With a time, of those alone who have no grace then.
    fn drop_oldest(
        &mut self,
        without_grace: Option<Instant>,
        goes_too: bool,
        displaced: &mut Displaced,
    ) -> bool {
        let may_drop = |lane: &&mut Lane| without_grace.is_none_or(|now| now >= lane.grace);
        let lanes = self.lanes_mut().filter(may_drop);
        let Some(largest) = lanes.max_by_key(|lane| lane.bytes) else { return false };
        let is_any = largest.large == 0;
        if is_any && !goes_too {
            return false;
        }
        let at = largest.messages.iter().position(|waiting| is_any || waiting.has_large);
        let Some((at, oldest)) = at.and_then(|at| Some((at, largest.remove(at)?))) else { return false };
        let len = oldest.message.len();
        let freed = match thinned(oldest.message, true, displaced) {
            // It had nothing large.
            Some(rest) if rest.len() == len => {
                displaced.add(&rest);
                len + MESSAGE_OVERHEAD
            }
            Some(rest) => {
                let freed = len - rest.len();
                largest.insert(at, oldest.since, rest);
                freed
            }
            None => len + MESSAGE_OVERHEAD,
        };
        self.data_bytes -= freed;
        true
    }

    /// Notes that `bytes` came from a sender; until when it has grace.
    fn hear(&mut self, now: Instant, channel: ChannelId, bytes: usize) -> Instant {
        if let Some(heard) = self.heard.iter_mut().find(|heard| heard.channel == channel) {
            heard.on_heard(now, bytes);
            return heard.grace;
        }
        // Channels that ended are forgotten with those that are silent: each will be as a new one.
        if self.heard.len() >= HEARD {
            self.heard.retain(|heard| now.saturating_duration_since(heard.last) < SILENT);
        }
        let first = Heard::first(channel, now);
        let grace = first.grace;
        self.heard.push(first);
        grace
    }

    fn pop_data(&mut self, now: Instant, is_slow: bool) -> (Option<Item>, Displaced) {
        let mut displaced = Displaced::default();
        loop {
            let is_new = !self.new.is_empty();
            let Some(mut lane) = self.new.pop_front().or_else(|| self.old.pop_front()) else {
                return (None, displaced);
            };
            if lane.deficit <= 0 {
                lane.deficit += QUANTUM.cast_signed();
                self.old.push_back(lane);
                continue;
            }
            let may_drop = is_slow && now >= lane.grace;
            while let Some(Waiting { since, message, .. }) = lane.pop() {
                self.data_bytes -= message.len() + MESSAGE_OVERHEAD;
                let waited = now.saturating_duration_since(since);
                let message = if may_drop && lane.codel.drops(now, waited, lane.bytes) {
                    let Some(rest) = thinned(message, waited >= STALE, &mut displaced) else { continue };
                    rest
                } else {
                    message
                };
                lane.deficit -= message.len().cast_signed();
                if is_new {
                    self.new.push_front(lane)
                } else {
                    self.old.push_front(lane)
                }
                return (Some(Item::Data(message)), displaced);
            }
            // One that was new goes through the others once, or it would be new again with its next message and go before them for ever.
            if is_new && !self.old.is_empty() {
                self.old.push_back(lane);
            }
        }
    }
}

/// The message without its first large packet, or without any, if something is left then. What it lost is added to `displaced`.
fn thinned(message: Bytes, loses_all: bool, displaced: &mut Displaced) -> Option<Bytes> {
    let Ok(forward) = Forward::parse(&message) else { return Some(message) };
    let mut rest = ForwardBuilder::new(forward.channel, Vec::with_capacity(message.len()));
    let mut dropped = 0;
    for packet in forward.packets() {
        let goes = packet.len() >= LARGE && (loses_all || dropped == 0);
        // What was in one message fits one.
        if goes || !rest.push(packet) {
            dropped += 1;
        }
    }
    if dropped == 0 {
        return Some(message);
    }
    // No more memory than it is counted with.
    let rest = (!rest.is_empty()).then(|| Bytes::from(rest.finish().into_boxed_slice()));
    displaced.packets += dropped;
    let bytes = message.len() - rest.as_ref().map_or(0, Bytes::len);
    displaced.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    rest
}

/// How many packets a checked FORWARD message carries.
fn packets_in(message: &[u8]) -> u64 {
    Forward::parse(message).map_or(0, |forward| u64::try_from(forward.packets().count()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn message(mark: u8, packets: usize, length: usize) -> Bytes {
        let mut builder = ForwardBuilder::new(ChannelId(1), Vec::new());
        for _ in 0..packets {
            assert!(builder.push(&vec![mark; length]));
        }
        builder.finish().into()
    }

    const CHANNEL: ChannelId = ChannelId(1);

    #[test]
    fn what_is_left_of_a_message_takes_no_more_memory_than_that() {
        let mut builder = ForwardBuilder::new(CHANNEL, Vec::new());
        assert!(builder.push(&[1; 8]));
        (0..60).for_each(|_| assert!(builder.push(&[2; 1_000])));
        let mut displaced = Displaced::default();
        let rest = thinned(builder.finish().into(), true, &mut displaced).unwrap();
        assert_eq!(displaced.packets, 60);
        let (len, rest) = (rest.len(), rest.try_into_mut().unwrap());
        assert_eq!(rest.capacity(), len);
    }

    /// All at one moment.
    fn push(queues: &mut Queues, message: Bytes) -> Displaced {
        queues.push_data(moment(), CHANNEL, message, None)
    }

    fn next(queues: &mut Queues) -> Option<Item> {
        queues.pop(moment(), true, true).0
    }

    fn moment() -> Instant {
        static MOMENT: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        *MOMENT
    }

    /// A receiver of 20 Mbit/s.
    struct Line {
        queues: Queues,
        /// See [`Queues::push_data`].
        bound: Option<usize>,
        is_slow: bool,
        now: Instant,
        credit: isize,
        taken: BTreeMap<u32, usize>,
        longest: BTreeMap<u32, Duration>,
        dropped: u64,
        small: usize,
    }

    impl Line {
        const BYTES_PER_MS: usize = 2_500;

        fn new() -> Self {
            let queues = Queues::new(8, 512 * 1024);
            let (taken, longest) = (BTreeMap::new(), BTreeMap::new());
            Self {
                queues,
                bound: None,
                is_slow: true,
                now: moment(),
                credit: 0,
                taken,
                longest,
                dropped: 0,
                small: 0,
            }
        }

        /// The moment is in the message.
        fn push(&mut self, sender: u32, length: usize) {
            let micros = u64::try_from((self.now - moment()).as_micros()).unwrap();
            let mut packet = vec![0; length];
            packet[..8].copy_from_slice(&micros.to_be_bytes());
            let mut builder = ForwardBuilder::new(ChannelId(sender), Vec::new());
            assert!(builder.push(&packet));
            let channel = ChannelId(sender);
            self.dropped +=
                self.queues.push_data(self.now, channel, builder.finish().into(), self.bound).packets;
        }

        /// One on which `sender` has sent for a while, though never much.
        fn past_grace(sender: u32) -> Self {
            let mut line = Self::new();
            while line.now < moment() + GRACE {
                line.push(sender, 100);
                line.tick();
            }
            (line.small, line.taken, line.longest) = (0, BTreeMap::new(), BTreeMap::new());
            line
        }

        fn tick(&mut self) {
            self.now += Duration::from_millis(1);
            self.credit += Self::BYTES_PER_MS.cast_signed();
            while self.credit > 0 {
                let (item, displaced) = self.queues.pop(self.now, self.is_slow, true);
                self.dropped += displaced.packets;
                let Some(Item::Data(message)) = item else { break };
                self.credit -= message.len().cast_signed();
                let forward = Forward::parse(&message).unwrap();
                let (sender, packet) = (forward.channel.0, forward.packets().next().unwrap());
                self.small += usize::from(packet.len() < LARGE);
                let sent = Duration::from_micros(u64::from_be_bytes(packet[..8].try_into().unwrap()));
                let longest = self.longest.entry(sender).or_default();
                *longest = (*longest).max(self.now - moment() - sent);
                *self.taken.entry(sender).or_default() += message.len();
            }
            if self.queues.is_empty() {
                self.credit = self.credit.min(0);
            }
        }
    }

    #[test]
    fn senders_share_a_receiver_and_who_sends_little_waits_for_nobody() {
        let mut line = Line::new();
        for ms in 0..3_000 {
            // One by large messages, one by small ones, each twice what the line takes; and a third that sends little.
            if ms % 10 == 0 {
                line.push(1, 50_000);
                line.push(9, 100);
            }
            (0..5).for_each(|_| line.push(2, 1_000));
            line.tick();
        }
        // A message that was begun is finished.
        assert!(line.longest[&9] <= Duration::from_millis(21), "{:?}", line.longest);
        let (large, small) = (line.taken[&1], line.taken[&2]);
        assert!(large.abs_diff(small) < small / 20, "{large} and {small}");
    }

    #[test]
    fn a_slow_line_has_a_short_queue_whatever_its_bytes() {
        let mut line = Line::new();
        for ms in 0..5_000 {
            line.push(1, 3_000);
            line.tick();
            assert!(ms < 2_500 || line.queues.data_bytes < 60 * 3_100, "{} at {ms}", line.queues.data_bytes);
        }
        assert!(line.dropped > 300, "a sixth of all: {}", line.dropped);
        assert!(line.taken[&1] > 4_990 * Line::BYTES_PER_MS, "the line is full");
    }

    #[test]
    fn who_stood_still_for_a_moment_loses_nothing() {
        let mut line = Line::new();
        line.is_slow = false;
        for _ in 0..150 {
            line.push(1, 3_000);
            line.now += Duration::from_millis(4);
        }
        while !line.queues.is_empty() {
            line.tick();
        }
        assert_eq!(line.dropped, 0);
        assert!(line.taken[&1] > 450_000 && line.longest[&1] >= Duration::from_millis(600));
    }

    #[test]
    fn what_was_kept_during_a_silence_is_not_dropped_by_a_slow_line_and_what_follows_is() {
        let mut line = Line::past_grace(1);
        line.bound = Some(40 * Line::BYTES_PER_MS);
        line.now += SILENT;
        // Its sender has a quarter of a MiB under way: that takes 100 ms.
        let mut sent = 0;
        for _ in 0..1_900 {
            while line.queues.data_bytes < 256 * 1024 {
                line.push(1, 1_400);
                sent += 1_400;
            }
            line.tick();
        }
        assert_eq!(line.dropped, 0);
        assert!(line.taken[&1] + 256 * 1024 > sent && sent > 1_900 * Line::BYTES_PER_MS);
        for _ in 0..500 {
            (0..3).for_each(|_| line.push(1, 1_400));
            line.tick();
        }
        assert!(line.dropped > 300, "{}", line.dropped);
    }

    #[test]
    fn what_a_sender_kept_is_not_what_anothers_message_costs() {
        let mut line = Line::past_grace(1);
        line.bound = Some(BOUND_MIN);
        // The other one goes on beside it until its own grace is over.
        while line.now < moment() + 2 * GRACE {
            line.push(1, 100);
            line.push(2, 100);
            line.tick();
        }
        line.now += SILENT / 2;
        line.push(2, 100);
        line.now += SILENT / 2;
        (0..180).for_each(|_| line.push(1, 1_400));
        assert!(line.queues.data_bytes > 3 * BOUND_MIN, "or there was nothing to drop");
        (0..200).for_each(|_| line.push(2, 100));
        assert_eq!(line.dropped, 0);
        // What has no grace has its bound all the same, and all have theirs.
        (0..100).for_each(|_| line.push(2, 1_400));
        assert!(line.dropped > 20, "{}", line.dropped);
        let of = |lane: u32| line.queues.lanes().find(|it| it.channel.0 == lane).unwrap().bytes;
        assert!(of(1) > 3 * BOUND_MIN && of(2) <= BOUND_MIN);
    }

    #[test]
    fn a_message_of_the_largest_size_does_not_cost_the_small_ones_before_it() {
        let mut line = Line::past_grace(1);
        line.bound = Some(40 * Line::BYTES_PER_MS);
        (0..5).for_each(|_| line.push(1, 100));
        (0..60).for_each(|_| line.push(1, 1_400));
        let mut builder = ForwardBuilder::new(ChannelId(1), Vec::new());
        while builder.push(&[0; 1_400]) {}
        let message = Bytes::from(builder.finish());
        line.bound = Some(message.len());
        let displaced = line.queues.push_data(line.now, ChannelId(1), message, line.bound);
        assert_eq!(displaced.packets, 60);
        while !line.queues.is_empty() {
            let (item, _) = line.queues.pop(line.now, true, true);
            let Some(Item::Data(message)) = item else { panic!("{item:?}") };
            line.small += usize::from(message.len() < LARGE);
        }
        assert_eq!(line.small, 5);
        // But of small ones alone no more than the bound wait, and the one that came.
        (0..10_000).for_each(|_| line.push(1, 100));
        assert!(line.queues.data_bytes <= BOUND_MIN + 300, "{}", line.queues.data_bytes);
    }

    #[test]
    fn a_flow_that_begins_after_a_silence_is_given_no_more_than_the_bound() {
        let mut line = Line::past_grace(1);
        line.bound = Some(40 * Line::BYTES_PER_MS);
        line.now += SILENT;
        // Its handshake; a few round trips later the first of what it has, and twice as much each time.
        line.push(1, 60);
        for round in 0..8 {
            (0..25).for_each(|_| line.tick());
            (0..10 << round).for_each(|_| line.push(1, 1_400));
            assert!(line.queues.data_bytes <= 40 * Line::BYTES_PER_MS, "in round {round}");
        }
        assert!(line.dropped > 0);
    }

    #[test]
    fn control_goes_while_data_is_held_back() {
        let mut queues = Queues::new(8, 1 << 20);
        push(&mut queues, message(1, 1, 10));
        queues.push_control(Control::Leave).unwrap();
        assert_eq!(queues.pop(moment(), true, false).0, Some(Item::Control(Control::Leave)));
        assert_eq!(queues.pop(moment(), true, false).0, None);
        assert_eq!(queues.pop(moment(), true, true).0, Some(Item::Data(message(1, 1, 10))));
    }

    #[test]
    fn senders_that_ended_are_forgotten() {
        let mut queues = Queues::new(8, 1 << 20);
        for n in 0..10_000 {
            let now = moment() + Duration::from_millis(n);
            let mut builder = ForwardBuilder::new(ChannelId(n as u32), Vec::new());
            assert!(builder.push(&[0; 60]));
            queues.push_data(now, ChannelId(n as u32), builder.finish().into(), None);
            assert!(queues.pop(now, true, true).0.is_some());
            assert!(queues.heard.len() <= 1_001, "{}", queues.heard.len());
        }
        queues.shrink();
        assert!(!queues.heard.is_empty(), "who had nothing to say is no new one");
    }

    #[test]
    fn no_more_than_the_bound_waits_and_small_packets_are_not_what_it_costs() {
        let mut line = Line::past_grace(1);
        line.bound = Some(40 * Line::BYTES_PER_MS);
        for _ in 0..1_000 {
            // A start that is much too fast, and a ping in each millisecond, of the same sender.
            (0..8).for_each(|_| line.push(1, 1_400));
            line.push(1, 100);
            line.tick();
            assert!(line.queues.data_bytes <= 40 * Line::BYTES_PER_MS);
        }
        assert!(line.dropped > 5_000 && line.longest[&1] <= Duration::from_millis(60), "{:?}", line.longest);
        let taken = line.small;
        assert!(taken > 900, "{taken} of a thousand small ones");
    }

    #[test]
    fn a_message_that_waited_too_long_loses_a_large_packet_and_keeps_the_small_ones() {
        let packets: Vec<_> = [100, 1_400, 60, 1_300, 511].map(|length| vec![7; length]).into();
        let mut builder = ForwardBuilder::new(CHANNEL, Vec::new());
        packets.iter().for_each(|packet| assert!(builder.push(packet)));
        let message = Bytes::from(builder.finish());
        for (loses_all, left) in [(false, vec![100, 60, 1_300, 511]), (true, vec![100, 60, 511])] {
            let mut displaced = Displaced::default();
            let rest = thinned(message.clone(), loses_all, &mut displaced).unwrap();
            let forward = Forward::parse(&rest).unwrap();
            assert_eq!(forward.channel, CHANNEL);
            assert_eq!(forward.packets().map(<[u8]>::len).collect::<Vec<_>>(), left);
            assert_eq!(displaced.packets, 5 - left.len() as u64);
            assert_eq!(displaced.bytes, (message.len() - rest.len()) as u64);
        }
        // Of one there is nothing left; another has nothing to lose.
        let of = |length| {
            let mut builder = ForwardBuilder::new(CHANNEL, Vec::new());
            assert!(builder.push(&vec![0; length]));
            Bytes::from(builder.finish())
        };
        assert_eq!(thinned(of(600), false, &mut Displaced::default()), None);
        assert_eq!(thinned(of(60), true, &mut Displaced::default()), Some(of(60)));
    }

    #[test]
    fn whoever_left_most_pauses_and_loses() {
        let now = moment();
        let mut queues = Queues::new(8, 100_000);
        let message = |sender, length| {
            let mut builder = ForwardBuilder::new(ChannelId(sender), Vec::new());
            assert!(builder.push(&vec![0; length]));
            Bytes::from(builder.finish())
        };
        queues.push_data(now, ChannelId(2), message(2, 100), None);
        for _ in 0..6 {
            queues.push_data(now, CHANNEL, message(1, 10_000), None);
        }
        assert!(queues.is_crowded_by(CHANNEL) && !queues.is_crowded_by(ChannelId(2)) && !queues.has_room());
        assert_eq!(queues.push_data(now, ChannelId(2), message(2, 60_000), None).packets, 3);
        let of_two = std::iter::from_fn(|| queues.pop(now, true, true).0).filter(
            |item| matches!(item, Item::Data(message) if Forward::parse(message).unwrap().channel == ChannelId(2)),
        );
        assert_eq!(of_two.count(), 2);
    }

    #[test]
    fn control_overtakes_data_and_keeps_its_order() {
        let mut queues = Queues::new(8, 1 << 20);
        push(&mut queues, message(1, 1, 10));
        queues.push_control(Control::Ping { id: 1 }).unwrap();
        queues.push_control(Control::Ping { id: 2 }).unwrap();
        assert_eq!(next(&mut queues), Some(Item::Control(Control::Ping { id: 1 })));
        assert_eq!(next(&mut queues), Some(Item::Control(Control::Ping { id: 2 })));
        assert_eq!(next(&mut queues), Some(Item::Data(message(1, 1, 10))));
        assert_eq!(next(&mut queues), None);
    }

    #[test]
    fn the_oldest_data_goes_and_is_counted() {
        let mut queues = Queues::new(8, 3 * 1200);
        let mut displaced = Displaced::default();
        for mark in 0..5 {
            let lost = push(&mut queues, message(mark, 2, 500));
            displaced.packets += lost.packets;
            displaced.bytes += lost.bytes;
        }
        assert_eq!(displaced.packets, 4);
        assert_eq!(displaced.bytes, 2 * u64::try_from(message(0, 2, 500).len()).unwrap());
        for mark in 2..5 {
            assert_eq!(next(&mut queues), Some(Item::Data(message(mark, 2, 500))));
        }
        assert!(queues.is_empty());
    }

    #[test]
    fn control_is_never_dropped_but_reported() {
        let mut queues = Queues::new(2, 100);
        queues.push_control(Control::Leave).unwrap();
        queues.push_control(Control::Leave).unwrap();
        assert_eq!(queues.push_control(Control::Leave), Err(Stuck));
    }

    #[test]
    fn one_message_always_fits() {
        let mut queues = Queues::new(2, 100);
        let big = message(1, 1, 60_000);
        assert_eq!(push(&mut queues, big.clone()), Displaced::default());
        assert_eq!(next(&mut queues), Some(Item::Data(big)));
    }

    #[test]
    fn a_release_lasts_until_the_next_message() {
        let meter = PairMeter::default();
        meter.count(10);
        assert!(!meter.is_dormant());
        meter.release();
        assert!(meter.is_dormant());
        meter.count(5);
        assert!(!meter.is_dormant());
        assert_eq!(meter.bytes(), 15);
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_nothing_is_lost_uncounted(
            pushes in prop::collection::vec((1usize..40, 1usize..1_400, any::<bool>()), 1..200)
        ) {
            let bound = 64 * 1024;
            let mut queues = Queues::new(8, bound);
            let (mut pushed, mut popped, mut dropped) = (0u64, 0u64, 0u64);
            for (packets, length, pop) in pushes {
                pushed += u64::try_from(packets).unwrap();
                dropped += push(&mut queues, message(0, packets, length)).packets;
                prop_assert!(queues.data_bytes <= bound);
                if pop && let Some(Item::Data(message)) = next(&mut queues) {
                    popped += packets_in(&message);
                }
            }
            while let Some(Item::Data(message)) = next(&mut queues) {
                popped += packets_in(&message);
            }
            prop_assert_eq!(pushed, popped + dropped);
            prop_assert_eq!(queues.data_bytes, 0);
        }
    }
}
