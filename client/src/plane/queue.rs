//! The byte queue from the outbound thread to a stream's writer.
//!
//! Bounded by time, softly: a message that was begun is always taken, and the thread gives it no more while
//! [`StreamHandle::has_room`] says no. How many bytes that are is what the writer measures ([`Pace`]). Waking is cheap both ways: tokio's
//! channel wakes a writer that waits and no other, and the writer wakes the thread only when that said it waits for room.
//!
//! The writer takes no message while enough is under way ([`Flight`]): it asks [`StreamQueue::held`] before each one.

use super::wake::Waker;
use bytes::Bytes;
use shadowmesh_proto::queueing::{self, Flight, Pace, TcpInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Bytes that wait for a stream before it is full, as long as nothing is known of how fast it is.
const STREAM_QUEUE_BYTES: usize = queueing::BYTES_FIRST;
/// What a frame may wait for a stream before it is sealed ([`StreamHandle::patience`]): longer than the silence of a connection goes unnoticed
/// (protocol §7.2).
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Shared {
    queued: AtomicUsize,
    /// Bytes with which it is full.
    limit: AtomicUsize,
    /// What the stream takes in [`PATIENCE`], bytes; zero while that is not known.
    patience: AtomicUsize,
    taken: AtomicU64,
    waiting: AtomicBool,
    producer: Waker,
}

/// The producing end; cheap to clone.
#[derive(Debug, Clone)]
pub struct StreamHandle {
    sender: UnboundedSender<Bytes>,
    shared: Arc<Shared>,
}

/// The consuming end, owned by the stream's writer.
#[derive(Debug)]
pub struct StreamQueue {
    receiver: UnboundedReceiver<Bytes>,
    shared: Arc<Shared>,
    pace: Pace,
    flight: Flight,
    /// While enough is under way: when to look again, and since when something waits for that.
    held: Option<(Instant, Option<Instant>)>,
    /// For how long the next messages were held back.
    waited: Duration,
    /// What the socket was last told to hold unsent.
    unsent: usize,
}

/// A queue whose producer is woken through `producer` when there is room again.
pub fn stream_queue(producer: Waker) -> (StreamHandle, StreamQueue) {
    let (sender, receiver) = unbounded_channel();
    let shared = Arc::new(Shared {
        queued: AtomicUsize::new(0),
        limit: AtomicUsize::new(STREAM_QUEUE_BYTES),
        patience: AtomicUsize::new(0),
        taken: AtomicU64::new(0),
        waiting: AtomicBool::new(false),
        producer,
    });
    (
        StreamHandle { sender, shared: Arc::clone(&shared) },
        StreamQueue {
            receiver,
            shared,
            pace: Pace::default(),
            flight: Flight::default(),
            held: None,
            waited: Duration::ZERO,
            unsent: 0,
        },
    )
}

impl StreamHandle {
    /// Whether more may be queued. When not, and the stream lives, the producer will be woken once there is room.
    pub fn has_room(&self) -> bool {
        self.has_room_beside(0)
    }

    /// The same when `bytes` are about to be queued. One that was full is so until half of that is gone: else it would be filled by a frame
    /// whenever a frame left, each in a message of its own.
    pub(super) fn has_room_beside(&self, bytes: usize) -> bool {
        let queued = || self.shared.queued.load(Ordering::SeqCst);
        let limit = self.shared.limit.load(Ordering::Relaxed);
        if self.sender.is_closed() {
            return true;
        }
        if self.shared.waiting.load(Ordering::SeqCst) && queued() >= limit / 2 {
            return false;
        }
        if queued() + bytes < limit {
            return true;
        }
        self.shared.waiting.store(true, Ordering::SeqCst);
        // The writer may have drained it between the look and the store, and seen nobody who waits.
        queued() + bytes < limit || self.sender.is_closed()
    }

    /// Bytes that it takes in half a second; `None` while that is not known.
    pub(super) fn patience(&self) -> Option<usize> {
        Some(self.shared.patience.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Bytes that left it so far.
    pub(crate) fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// Queues one stream message. One for a stream that ended is dropped: its packets stay in their rings.
    pub fn push(&self, message: Vec<u8>) {
        self.shared.queued.fetch_add(message.len(), Ordering::SeqCst);
        let _ = self.sender.send(Bytes::from(message));
    }
}

impl StreamQueue {
    /// Until when no message is to be taken, because enough is under way; then this is asked again. `look` says what the kernel knows of the
    /// connection, and is called where that matters.
    pub fn held(&mut self, now: Instant, look: impl FnOnce() -> Option<TcpInfo>) -> Option<Instant> {
        if let Some((until, _)) = self.held.filter(|(until, _)| now < *until) {
            return Some(until);
        }
        if let Some((_, Some(since))) = self.held.take() {
            self.waited += now.saturating_duration_since(since);
        }
        if self.flight.has_room() {
            return None;
        }
        let until = self.flight.look(now, look(), self.pace.ahead());
        let waits = self.shared.queued.load(Ordering::Relaxed) > 0;
        self.held = until.map(|until| (until, waits.then_some(now)));
        until
    }

    /// The next message. Cancel-safe. `None` when every handle is gone.
    pub async fn next(&mut self) -> Option<Bytes> {
        let message = self.receiver.recv().await?;
        self.flight.on_given(message.len());
        Some(message)
    }

    /// The next message if one is there.
    pub fn try_next(&mut self) -> Option<Bytes> {
        let message = self.receiver.try_recv().ok()?;
        self.flight.on_given(message.len());
        Some(message)
    }

    /// Whether another message may be taken before it is asked again whether they are held back.
    pub const fn may_go_on(&self) -> bool {
        self.flight.has_room()
    }

    /// Says that `bytes` of messages left the queue by `now`, and that their write took this long. How much the socket should hold unsent, when
    /// that is another amount than was said last.
    pub fn on_written(&mut self, now: Instant, bytes: usize, took: Duration) -> Option<usize> {
        // To be held back is to wait for the line.
        let waited = std::mem::take(&mut self.waited);
        self.pace.on_written(now, bytes, took + waited);
        let ahead = self.pace.ahead();
        let worth = self.pace.worth(PATIENCE).unwrap_or_default();
        self.shared.patience.store(worth, Ordering::Relaxed);
        self.shared.limit.store(ahead, Ordering::Relaxed);
        self.on_sent(bytes);
        if ahead.abs_diff(self.unsent) <= self.unsent / 4 {
            return None;
        }
        self.unsent = ahead;
        Some(ahead)
    }

    /// Says that `bytes` of messages left the queue.
    pub fn on_sent(&self, bytes: usize) {
        self.shared.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        let before = self.shared.queued.fetch_sub(bytes, Ordering::SeqCst);
        if before.saturating_sub(bytes) < self.shared.limit.load(Ordering::Relaxed) / 2
            && self.shared.waiting.swap(false, Ordering::SeqCst)
        {
            self.shared.producer.wake();
        }
    }
}

impl Drop for StreamQueue {
    fn drop(&mut self) {
        // A producer that waits for room must not wait for ever: it looks again and finds the queue closed.
        self.receiver.close();
        self.shared.producer.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_says_so_and_wakes_when_half_empty() {
        let waker = Waker::new().unwrap();
        let (handle, mut queue) = stream_queue(waker.clone());
        let mut pushed = 0;
        while handle.has_room() {
            handle.push(vec![0; 10_000]);
            pushed += 1;
        }
        assert_eq!(pushed, STREAM_QUEUE_BYTES.div_ceil(10_000));
        let woken = || rustix::io::read(&waker, &mut [0; 8]).is_ok();
        assert!(!woken());
        let mut taken = 0;
        while !handle.has_room() || !woken() {
            let len = queue.try_next().map_or(0, |message| message.len());
            queue.on_sent(len);
            taken += 1;
            assert!(taken <= pushed, "never woken");
        }
        assert!(taken > pushed / 2 - 2 && taken < pushed, "{taken} of {pushed}");
    }

    #[test]
    fn a_slow_line_has_little_ahead_and_says_so_once() {
        let (handle, mut queue) = stream_queue(Waker::new().unwrap());
        assert_eq!(handle.patience(), None);
        // 40 Mbit/s.
        let (mut told, mut now) = (vec![], Instant::now());
        for _ in 0..100 {
            handle.push(vec![0; 25_000]);
            let len = queue.try_next().map_or(0, |message| message.len());
            now += Duration::from_millis(5);
            told.extend(queue.on_written(now, len, Duration::from_millis(5)));
        }
        assert_eq!(told, [25_000]);
        assert!(
            handle.patience().is_some_and(|bytes| bytes.abs_diff(2_500_000) < 10),
            "{:?}",
            handle.patience()
        );
        assert!(handle.has_room_beside(24_900) && !handle.has_room_beside(25_000));
        handle.push(vec![0; 25_000]);
        assert!(!handle.has_room());
    }

    #[test]
    fn what_is_held_back_has_waited_for_the_line_and_nothing_waits_where_nothing_is() {
        let (handle, mut queue) = stream_queue(Waker::new().unwrap());
        let mut now = Instant::now();
        let under_way = |in_flight, rtt| {
            let (rtt, least) = (Duration::from_millis(rtt), Duration::from_millis(1));
            move || Some(TcpInfo { arrived: 0, in_flight, unsent: 0, rtt, least })
        };
        assert_eq!(queue.held(now, under_way(0, 1)), None);
        for _ in 0..4 {
            handle.push(vec![0; 10_000]);
        }
        let mut taken = 0;
        while queue.may_go_on() {
            taken += queue.try_next().unwrap().len();
        }
        assert_eq!(taken, 40_000, "a look for as much as may be ahead");
        queue.on_written(now, taken, Duration::ZERO);
        // 100 kB, of which a round trip of 40 ms brings half at least: 26 kB are 21 ms of that.
        let until = queue.held(now, under_way(100_000, 40)).unwrap();
        assert!(until > now && until <= now + Duration::from_millis(10));
        let not_asked = || -> Option<TcpInfo> { unreachable!("it is not due") };
        assert_eq!(queue.held(now, not_asked), Some(until));
        for _ in 0..4 {
            now += Duration::from_millis(10);
            assert!(queue.held(now, under_way(100_000, 40)).is_some());
        }
        handle.push(vec![0; 10_000]);
        for _ in 0..6 {
            now += Duration::from_millis(10);
            assert!(queue.held(now, under_way(100_000, 40)).is_some());
        }
        now += Duration::from_millis(10);
        assert_eq!(queue.held(now, under_way(10_000, 30)), None);
        let len = queue.try_next().unwrap().len();
        queue.on_written(now, len, Duration::ZERO);
        let worth = queue.pace.worth(Duration::from_millis(60)).unwrap();
        assert!(worth.abs_diff(10_000) < 2, "{worth} in the 60 ms that it was held back");
    }

    #[test]
    fn a_queue_that_ended_is_never_full() {
        let waker = Waker::new().unwrap();
        let (handle, queue) = stream_queue(waker.clone());
        while handle.has_room() {
            handle.push(vec![0; 60_000]);
        }
        drop(queue);
        assert!(rustix::io::read(&waker, &mut [0; 8]).is_ok(), "woken");
        assert!(handle.has_room());
    }
}
