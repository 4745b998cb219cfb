//! How much of what waited is under way over a relay at a time.
//!
//! A relay holds so much for a client, drops the oldest of it when there is more, and says nothing of that. What waited for it may be
//! megabytes, and the other client read slowly: so only so much is under way as was shown to arrive. Each time that as much was
//! acknowledged the window is twice as large. When nothing more of it is acknowledged though its receiver was heard, some of it was
//! dropped: the window is half as large, and goes on behind it (what is missing goes again in the end). Of a receiver that says nothing the
//! relay has all that it can hold: no more than a packet goes to it, each time after twice as long. What it said may have been lost, all of
//! it, and that makes it say so again.

use std::time::{Duration, Instant};

/// The first one: half of what a relay holds for a client by default, when it begins to let its senders wait.
const BYTES_FIRST: usize = 256 << 10;
/// The smallest.
const BYTES_MIN: usize = 32 << 10;
/// The largest: 130 Mbit/s over a round trip of 250 ms.
const BYTES_MAX: usize = 4 << 20;
/// What is acknowledged, or waits, is looked at this often: it may be thousands of packets.
pub(super) const LOOK: Duration = Duration::from_millis(5);

/// What is under way, and how much may be.
#[derive(Debug)]
pub(super) struct Window {
    bytes: usize,
    flight: Option<Flight>,
}

/// Packets that are under way.
#[derive(Debug)]
struct Flight {
    /// The first of them.
    from: u64,
    /// Bytes of those that were not acknowledged when they were last looked at, and of those that left since.
    missing: usize,
    /// Bytes that were acknowledged since the window grew.
    arrived: usize,
    /// Acknowledgements heard when the first left.
    heard: u64,
    /// When to look next.
    look: Instant,
    /// More is waited for until then: so long after some was acknowledged.
    until: Instant,
    pause: Duration,
}

/// What is known of packets when they are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked {
    /// Bytes of them that are not acknowledged.
    pub(super) missing: usize,
    /// Acknowledgements heard so far.
    pub(super) heard: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { bytes: BYTES_FIRST, flight: None }
    }
}

impl Window {
    /// How large it is.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packets of so many bytes left, the first of them `from`, when so many acknowledgements had been heard; one takes `pause`.
    pub(super) fn on_left(&mut self, now: Instant, from: u64, bytes: usize, heard: u64, pause: Duration) {
        let until = now + pause;
        let new = || Flight { from, missing: 0, arrived: 0, heard, look: now + LOOK, until, pause };
        self.flight.get_or_insert_with(new).missing += bytes;
    }

    /// Some of what left was dropped in the end: what goes again begins with less than the first time.
    pub(super) fn on_dropped(&mut self) {
        (self.bytes, self.flight) = (self.bytes.min(BYTES_FIRST / 2), None);
    }

    /// Nothing is under way any more: the path is another, or what it had goes again.
    pub(super) fn forget(&mut self) {
        self.flight = None;
    }

    /// When [`Self::room`] may say something else.
    pub(super) fn due(&self) -> Option<Instant> {
        self.flight.as_ref().map(|flight| flight.look)
    }

    /// Bytes that may leave now. `look` looks at what is under way, from a counter on.
    pub(super) fn room(&mut self, now: Instant, look: impl FnOnce(u64) -> Looked) -> usize {
        let Some(flight) = &mut self.flight else { return self.bytes };
        if now < flight.look {
            return 0;
        }
        let looked = look(flight.from);
        if looked.missing < flight.missing {
            flight.arrived += flight.missing - looked.missing;
            (flight.missing, flight.until) = (looked.missing, now + flight.pause);
        }
        if flight.arrived >= self.bytes {
            flight.arrived = 0;
            self.bytes = (2 * self.bytes).min(BYTES_MAX);
        }
        flight.look = now + LOOK;
        if looked.missing == 0 {
            self.flight = None;
        } else if now < flight.until {
            return self.bytes.saturating_sub(looked.missing);
        } else if looked.heard > flight.heard {
            self.bytes = (self.bytes / 2).max(BYTES_MIN);
            self.flight = None;
        } else {
            flight.pause *= 2;
            flight.until = now + flight.pause;
            // One packet.
            return 1;
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(100);
    const GONE: Looked = Looked { missing: 0, heard: 1 };
    const SOME_MISSING: Looked = Looked { missing: 5, heard: 1 };

    #[test]
    fn what_arrives_doubles_it_and_what_is_missing_halves_it() {
        let (mut now, mut window) = (Instant::now(), Window::default());
        for doubling in [2, 4, 8, 16, 16] {
            let bytes = window.bytes();
            window.on_left(now, 0, bytes, 0, PAUSE);
            now += LOOK;
            assert_eq!(window.room(now, |_| Looked { missing: bytes, heard: 0 }), 0, "it is full");
            now += LOOK;
            assert_eq!(window.room(now, |_| GONE), doubling * BYTES_FIRST);
        }
        for _ in 0..9 {
            let bytes = window.bytes();
            window.on_left(now, 0, bytes, 0, PAUSE);
            now += PAUSE / 2;
            assert_eq!(window.room(now, |_| SOME_MISSING), window.bytes() - 5, "the rest may be coming");
            now += PAUSE;
            window.room(now, |_| SOME_MISSING);
        }
        assert_eq!(window.bytes(), BYTES_MIN);
    }

    #[test]
    fn as_much_leaves_as_arrives() {
        let (mut now, mut window) = (Instant::now(), Window::default());
        let (mut left, mut arrived) = (0, 0);
        // A tenth of the first window arrives at a time.
        for _ in 0..1_000 {
            now += LOOK;
            let room = window.room(now, |_| Looked { missing: left - arrived, heard: 1 });
            assert!(left + room - arrived <= BYTES_MAX);
            if room > 0 {
                window.on_left(now, 0, room, 0, PAUSE);
            }
            left += room;
            arrived = left.min(arrived + BYTES_FIRST / 10);
        }
        assert!(arrived > 99 * BYTES_FIRST, "{arrived}");
    }

    #[test]
    fn one_that_says_nothing_is_sent_a_packet_now_and_then_and_looked_at_without_haste() {
        let (began, mut window) = (Instant::now(), Window::default());
        window.on_left(began, 0, BYTES_FIRST, 0, PAUSE);
        let (mut now, mut looks, mut more) = (began, 0, 0);
        while now < began + Duration::from_secs(10) {
            let room = window.room(now, |_| Looked { missing: BYTES_FIRST + more, heard: 0 });
            if room > 0 {
                window.on_left(now, 0, room, 0, PAUSE);
            }
            more += room;
            looks += 1;
            now = window.due().unwrap();
        }
        assert!(looks <= 2_100, "{looks}");
        // After 100, 300, 700 … 6,300 ms.
        assert_eq!(more, 6);
        assert!(window.room(now, |_| GONE) > 0);
    }
}
