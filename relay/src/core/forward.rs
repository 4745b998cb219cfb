//! What the data path needs: a pair's meter, and the two bounded queues before a client.
//!
//! Control goes first, then data in the order it came. When the data queue is full the *oldest* message goes: what waited
//! longest is what its sender is most likely to have given up on, and a full queue then never delays what is new. Control
//! is never dropped; a client that lets it pile up does not read and is closed.

use bytes::Bytes;
use shadowmesh_proto::wire::relay::{Control, Forward};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// The two queues before one client (protocol §3.6).
#[derive(Debug)]
pub struct Queues {
    control: VecDeque<Control>,
    data: VecDeque<Bytes>,
    data_bytes: usize,
    max_control: usize,
    max_data_bytes: usize,
}

/// Counted for each queued message beside its bytes, so that many small ones are bounded too: the queue's slot and what the
/// allocator needs.
const MESSAGE_OVERHEAD: usize = 96;

/// A message below this that has to wait is copied: it may be a slice of a large read buffer that it would keep alive.
const COPY_BELOW: usize = 4 * 1024;

impl Queues {
    /// Empty queues with these bounds.
    pub const fn new(max_control: usize, max_data_bytes: usize) -> Self {
        Self { control: VecDeque::new(), data: VecDeque::new(), data_bytes: 0, max_control, max_data_bytes }
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

    /// Queues a message, dropping the oldest ones to make room. A message always fits an empty queue.
    pub fn push_data(&mut self, message: Bytes) -> Displaced {
        let mut displaced = Displaced::default();
        let cost = message.len() + MESSAGE_OVERHEAD;
        while self.data_bytes + cost > self.max_data_bytes
            && let Some(oldest) = self.pop_data()
        {
            displaced.packets += packets_in(&oldest);
            displaced.bytes += u64::try_from(oldest.len()).unwrap_or(u64::MAX);
        }
        let message = if self.data.is_empty() || message.len() >= COPY_BELOW {
            message
        } else {
            Bytes::copy_from_slice(&message)
        };
        self.data_bytes += cost;
        self.data.push_back(message);
        displaced
    }

    /// The next thing to write: control before data.
    pub fn pop(&mut self) -> Option<Item> {
        match self.control.pop_front() {
            Some(body) => Some(Item::Control(body)),
            None => self.pop_data().map(Item::Data),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.data.is_empty()
    }

    /// Whether so much data waits that its senders should pause: half of what fits. The other half takes what is under way.
    pub const fn is_crowded(&self) -> bool {
        self.data_bytes > self.max_data_bytes / 2
    }

    /// Whether senders that paused may go on: a quarter of what fits is left, so that the line stays busy meanwhile.
    pub const fn has_room(&self) -> bool {
        self.data_bytes <= self.max_data_bytes / 4
    }

    /// Gives memory back once a burst is over: an idle client should cost what an idle client costs.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.control = VecDeque::new();
            self.data = VecDeque::new();
        }
    }

    fn pop_data(&mut self) -> Option<Bytes> {
        let message = self.data.pop_front()?;
        self.data_bytes -= message.len() + MESSAGE_OVERHEAD;
        Some(message)
    }
}

/// How many packets a checked FORWARD message carries.
fn packets_in(message: &[u8]) -> u64 {
    Forward::parse(message).map_or(0, |forward| u64::try_from(forward.packets().count()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shadowmesh_proto::ids::ChannelId;
    use shadowmesh_proto::wire::relay::ForwardBuilder;

    fn message(mark: u8, packets: usize, length: usize) -> Bytes {
        let mut builder = ForwardBuilder::new(ChannelId(1), Vec::new());
        for _ in 0..packets {
            assert!(builder.push(&vec![mark; length]));
        }
        builder.finish().into()
    }

    #[test]
    fn control_overtakes_data_and_keeps_its_order() {
        let mut queues = Queues::new(8, 1 << 20);
        queues.push_data(message(1, 1, 10));
        queues.push_control(Control::Ping { id: 1 }).unwrap();
        queues.push_control(Control::Ping { id: 2 }).unwrap();
        assert_eq!(queues.pop(), Some(Item::Control(Control::Ping { id: 1 })));
        assert_eq!(queues.pop(), Some(Item::Control(Control::Ping { id: 2 })));
        assert_eq!(queues.pop(), Some(Item::Data(message(1, 1, 10))));
        assert_eq!(queues.pop(), None);
    }

    #[test]
    fn the_oldest_data_goes_and_is_counted() {
        let mut queues = Queues::new(8, 3 * 1200);
        let mut displaced = Displaced::default();
        for mark in 0..5 {
            let lost = queues.push_data(message(mark, 2, 500));
            displaced.packets += lost.packets;
            displaced.bytes += lost.bytes;
        }
        assert_eq!(displaced.packets, 4);
        assert_eq!(displaced.bytes, 2 * u64::try_from(message(0, 2, 500).len()).unwrap());
        for mark in 2..5 {
            assert_eq!(queues.pop(), Some(Item::Data(message(mark, 2, 500))));
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
        assert_eq!(queues.push_data(big.clone()), Displaced::default());
        assert_eq!(queues.pop(), Some(Item::Data(big)));
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
                dropped += queues.push_data(message(0, packets, length)).packets;
                prop_assert!(queues.data_bytes <= bound);
                if pop && let Some(Item::Data(message)) = queues.pop() {
                    popped += packets_in(&message);
                }
            }
            while let Some(Item::Data(message)) = queues.pop() {
                popped += packets_in(&message);
            }
            prop_assert_eq!(pushed, popped + dropped);
            prop_assert_eq!(queues.data_bytes, 0);
        }
    }
}
