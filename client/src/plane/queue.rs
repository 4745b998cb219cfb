//! The byte queue from the outbound thread to a stream's writer.
//!
//! Bounded by bytes, softly: a batch that was begun is always taken, and the thread gives it no more while
//! [`StreamHandle::has_room`] says no. Waking is cheap both ways: tokio's channel wakes a writer that waits and no other, and
//! the writer wakes the thread only when that said it waits for room.

use super::wake::Waker;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Bytes queued for a stream before it is full: 5 ms at 400 Mbit/s, two dozen full batches of small frames.
/// More would only be delay in front of the kernel's own socket buffer.
pub(super) const STREAM_QUEUE_BYTES: usize = 256 * 1024;

#[derive(Debug)]
struct Shared {
    queued: AtomicUsize,
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
}

/// A queue whose producer is woken through `producer` when there is room again.
pub fn stream_queue(producer: Waker) -> (StreamHandle, StreamQueue) {
    let (sender, receiver) = unbounded_channel();
    let shared = Arc::new(Shared {
        queued: AtomicUsize::new(0),
        taken: AtomicU64::new(0),
        waiting: AtomicBool::new(false),
        producer,
    });
    (StreamHandle { sender, shared: Arc::clone(&shared) }, StreamQueue { receiver, shared })
}

impl StreamHandle {
    /// Whether more may be queued. When not, and the stream lives, the producer will be woken once there is room.
    pub fn has_room(&self) -> bool {
        let full =
            || self.shared.queued.load(Ordering::SeqCst) >= STREAM_QUEUE_BYTES && !self.sender.is_closed();
        if !full() {
            return true;
        }
        self.shared.waiting.store(true, Ordering::SeqCst);
        // The writer may have drained it between the look and the store.
        !full()
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
    /// The next message. Cancel-safe. `None` when every handle is gone.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.receiver.recv().await
    }

    /// The next message if one is there.
    pub fn try_next(&mut self) -> Option<Bytes> {
        self.receiver.try_recv().ok()
    }

    /// Says that `bytes` of messages left the queue.
    pub fn on_sent(&self, bytes: usize) {
        self.shared.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        let before = self.shared.queued.fetch_sub(bytes, Ordering::SeqCst);
        if before.saturating_sub(bytes) < STREAM_QUEUE_BYTES / 2
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
