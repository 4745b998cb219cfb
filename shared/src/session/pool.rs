//! Ring memory of the whole process: chunks, one budget, a few kept free.
//!
//! A ring takes a chunk when it needs one and gives it back when everything in it was acknowledged, so an idle peer holds
//! none. Taking and giving happen once per [`CHUNK_BYTES`] of packets, never per packet; that is what the mutex is for. While packets
//! flow, chunks that are free are kept for the next ring that needs one: the system's memory has to be cleared and mapped each time. When they no
//! longer do, whoever sees it says so ([`ChunkPool::trim`]).

use crate::session::limits::{CHUNK_BYTES, POOL_SPARE_CHUNKS};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A shared supply of chunks of [`CHUNK_BYTES`].
#[derive(Debug)]
pub struct ChunkPool {
    budget: usize,
    /// Chunks that exist: in rings and spare.
    existing: AtomicUsize,
    /// Whether one was asked for in vain.
    is_short: AtomicBool,
    spare: Mutex<Vec<Box<[u8]>>>,
}

impl ChunkPool {
    /// A pool that lets `bytes` be in use at once, rounded down to whole chunks.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            budget: bytes / CHUNK_BYTES,
            existing: AtomicUsize::new(0),
            is_short: AtomicBool::new(false),
            spare: Mutex::default(),
        })
    }

    /// Bytes of ring memory that exist, in use or spare.
    pub fn bytes(&self) -> usize {
        self.existing.load(Ordering::Relaxed) * CHUNK_BYTES
    }

    /// Gives what is spare back to the system.
    pub fn trim(&self) {
        let freed = std::mem::take(&mut *self.spare());
        self.existing.fetch_sub(freed.len(), Ordering::Relaxed);
    }

    /// A chunk, or `None` when the budget is spent.
    pub(crate) fn take(&self) -> Option<Box<[u8]>> {
        if let Some(chunk) = self.spare().pop() {
            return Some(chunk);
        }
        let one_more = |held| (held < self.budget).then_some(held + 1);
        if self.existing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            self.is_short.store(true, Ordering::Relaxed);
            return None;
        }
        Some(new_chunk())
    }

    /// Whether a ring wanted another chunk and there was none, since this was last asked: those that have many should give some
    /// ([`Ring::give_memory`](super::ring::Ring::give_memory)).
    pub fn was_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed) && self.is_short.swap(false, Ordering::Relaxed)
    }

    /// A chunk even when the budget is spent: the first one of a ring, without which it could send nothing. So the process
    /// exceeds its budget by one chunk per peer with packets in flight at most.
    pub(crate) fn take_first(&self) -> Box<[u8]> {
        self.take().unwrap_or_else(|| {
            self.existing.fetch_add(1, Ordering::Relaxed);
            new_chunk()
        })
    }

    /// Takes a chunk back.
    pub(crate) fn give(&self, chunk: Box<[u8]>) {
        let mut spare = self.spare();
        if spare.len() < POOL_SPARE_CHUNKS && self.existing.load(Ordering::Relaxed) <= self.budget {
            spare.push(chunk);
        } else {
            self.existing.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        // A list of chunks is whole after any panic elsewhere.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_chunk() -> Box<[u8]> {
    vec![0; CHUNK_BYTES].into_boxed_slice()
}
