//! How much of what waited is under way over a relay at a time.
//!
//! A relay holds so much for a client, drops the oldest of it when there is more, and says nothing of that. What waited for it may be
//! megabytes, and the other client read slowly: so it goes in chunks, and the next one leaves when all of the one before is acknowledged,
//! and is twice as large. When some of a chunk is missing though its receiver was heard, the next is half as large (what is missing goes
//! again in the end). Of a receiver that says nothing the relay has all that it can hold: nothing more goes to it.

use std::ops::Range;
use std::time::{Duration, Instant};

/// The first chunk: half of what a relay holds for a client by default, when it begins to let its senders wait.
const BYTES_FIRST: usize = 256 << 10;
/// The smallest.
const BYTES_MIN: usize = 32 << 10;
/// The largest: 45 Mbit/s over a round trip of 90 ms, at twice what a relay holds by default, which lets nobody send who is faster than
/// its other client.
const BYTES_MAX: usize = 1 << 20;
/// Whether a chunk is acknowledged is looked at this often.
const LOOK: Duration = Duration::from_millis(5);

/// What was handed over last, and how much may be next.
#[derive(Debug)]
pub(super) struct Window {
    bytes: usize,
    chunk: Option<Chunk>,
}

/// Packets that are under way.
#[derive(Debug)]
struct Chunk {
    counters: Range<u64>,
    /// Those that were not acknowledged when it was last looked at.
    missing: usize,
    /// Acknowledgements heard when it left.
    heard: u64,
    /// When to look at it next.
    look: Instant,
    /// More of it is waited for until then: so long after some of it was acknowledged.
    until: Instant,
    pause: Duration,
}

/// What is known of a chunk when it is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked {
    /// Packets of it that are not acknowledged.
    pub(super) missing: usize,
    /// Acknowledgements heard so far.
    pub(super) heard: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { bytes: BYTES_FIRST, chunk: None }
    }
}

impl Window {
    /// Bytes that the next chunk may have.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// A chunk left, when so many acknowledgements had been heard; one takes `pause`.
    pub(super) fn on_left(&mut self, now: Instant, counters: Range<u64>, heard: u64, pause: Duration) {
        let until = now + pause;
        self.chunk = Some(Chunk { counters, missing: usize::MAX, heard, look: now, until, pause });
    }

    /// Nothing is under way any more: the path is another, or what it had goes again.
    pub(super) fn forget(&mut self) {
        self.chunk = None;
    }

    /// When [`Self::is_open`] may say something else.
    pub(super) fn due(&self) -> Option<Instant> {
        self.chunk.as_ref().map(|chunk| chunk.look)
    }

    /// Whether the next chunk may leave. `look` looks at the packets of the last one.
    pub(super) fn is_open(&mut self, now: Instant, look: impl FnOnce(Range<u64>) -> Looked) -> bool {
        let Some(chunk) = &mut self.chunk else { return true };
        if now < chunk.look {
            return false;
        }
        let looked = look(chunk.counters.clone());
        if looked.missing < chunk.missing {
            (chunk.missing, chunk.until) = (looked.missing, now + chunk.pause);
        }
        if looked.missing == 0 {
            self.bytes = (2 * self.bytes).min(BYTES_MAX);
        } else if now < chunk.until {
            chunk.look = chunk.until.min(now + LOOK);
            return false;
        } else if looked.heard > chunk.heard {
            self.bytes = (self.bytes / 2).max(BYTES_MIN);
        } else {
            chunk.pause *= 2;
            chunk.until = now + chunk.pause;
            chunk.look = now + LOOK;
            return false;
        }
        self.chunk = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(100);
    const GONE: Looked = Looked { missing: 0, heard: 1 };
    const SOME_MISSING: Looked = Looked { missing: 5, heard: 1 };
    const SILENCE: Looked = Looked { missing: 9, heard: 0 };

    #[test]
    fn what_arrives_doubles_it_and_what_is_missing_halves_it() {
        let (mut now, mut window) = (Instant::now(), Window::default());
        for doubling in [2, 4, 4] {
            window.on_left(now, 0..9, 0, PAUSE);
            assert!(!window.is_open(now, |_| SILENCE));
            now += LOOK;
            assert!(window.is_open(now, |_| GONE));
            assert_eq!(window.bytes(), doubling * BYTES_FIRST);
        }
        for _ in 0..9 {
            window.on_left(now, 0..9, 0, PAUSE);
            now += PAUSE / 2;
            assert!(!window.is_open(now, |_| SOME_MISSING), "the rest may be coming");
            now += PAUSE;
            assert!(window.is_open(now, |_| SOME_MISSING));
        }
        assert_eq!(window.bytes(), BYTES_MIN);
    }

    #[test]
    fn one_that_says_nothing_is_sent_nothing_more_and_looked_at_without_haste() {
        let (began, mut window) = (Instant::now(), Window::default());
        window.on_left(began, 0..9, 0, PAUSE);
        let (mut now, mut looks) = (began, 0);
        while now < began + Duration::from_secs(10) {
            assert!(!window.is_open(now, |_| SILENCE));
            looks += 1;
            now = window.due().unwrap();
        }
        assert!(looks <= 2_100, "{looks}");
        assert!(window.is_open(now, |_| GONE));
    }
}
