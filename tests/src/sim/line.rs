//! One direction of a stream: in order, reliable, slow.
//!
//! TCP hides loss and reordering behind delay, so that is what a line has: latency, jitter that never reorders, stalls
//! during which nothing arrives, and a rate, if it has one. What is in flight is lost only with the connection. Whoever sends looks
//! at what is in flight, as a socket's buffer would say that it is full.

use super::dice::Dice;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// TCP/IP headers around what a stream carries.
const HEADERS: usize = 52;
/// What is too large is sent again and again, in vain, and all that follows waits for it.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// Messages on their way.
#[derive(Debug)]
pub(super) struct Line<T> {
    latency: Duration,
    jitter: Duration,
    newest: Instant,
    held_until: Instant,
    in_flight: VecDeque<(Instant, usize, T)>,
    bytes: usize,
    /// Bytes a second that it takes; `None` where it takes whatever comes.
    rate: Option<u32>,
    /// When the last byte that was sent has left.
    left: Instant,
    /// The largest packet that passes, bytes with the IP header.
    largest: usize,
}

impl<T> Line<T> {
    pub(super) const fn new(now: Instant, latency: Duration, jitter: Duration) -> Self {
        Self {
            latency,
            jitter,
            newest: now,
            held_until: now,
            in_flight: VecDeque::new(),
            bytes: 0,
            rate: None,
            left: now,
            largest: usize::MAX,
        }
    }

    /// So many bytes a second pass.
    pub(super) const fn with_rate(mut self, rate: Option<u32>) -> Self {
        self.rate = rate;
        self
    }

    /// No packet that is larger passes any more. (A message is taken for a packet here.)
    pub(super) const fn narrow(&mut self, largest: usize) {
        self.largest = largest;
    }

    /// Sends a message of `len` bytes.
    pub(super) fn send(&mut self, now: Instant, dice: &mut Dice, len: usize, message: T) {
        if let Some(rate) = self.rate {
            let takes = len as u64 * 1_000_000_000 / u64::from(rate.max(1));
            self.left = self.left.max(now) + Duration::from_nanos(takes);
        } else {
            self.left = now;
        }
        let arrival = self.left + self.latency + dice.between(Duration::ZERO, self.jitter);
        let arrival = if len.saturating_add(HEADERS) > self.largest { now + NEVER } else { arrival };
        self.newest = self.newest.max(arrival);
        self.bytes += len;
        self.in_flight.push_back((self.newest, len, message));
    }

    /// When what was said last arrives, or did.
    pub(super) fn last_arrival(&self) -> Instant {
        self.newest.max(self.held_until)
    }

    /// Nothing arrives before `until`.
    pub(super) fn stall(&mut self, until: Instant) {
        self.held_until = self.held_until.max(until);
    }

    /// When the next message arrives.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.front().map(|(at, ..)| (*at).max(self.held_until))
    }

    /// A message that has arrived.
    pub(super) fn receive(&mut self, now: Instant) -> Option<T> {
        if self.next_arrival()? > now {
            return None;
        }
        let (_, len, message) = self.in_flight.pop_front()?;
        self.bytes -= len;
        Some(message)
    }

    /// Bytes on their way.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_jitter_and_a_stall_delays_all() {
        let (t0, ms) = (Instant::now(), Duration::from_millis);
        let mut dice = Dice::new(1);
        let mut line = Line::new(t0, ms(10), ms(30));
        for number in 0..50 {
            line.send(t0 + ms(number), &mut dice, 1, number);
        }
        assert_eq!(line.bytes(), 50);
        line.stall(t0 + ms(500));
        assert_eq!(line.receive(t0 + ms(499)), None);
        let got: Vec<_> = std::iter::from_fn(|| line.receive(t0 + ms(500))).collect();
        assert_eq!(got, (0..50).collect::<Vec<_>>());
        assert_eq!(line.bytes(), 0);
        let mut slow = Line::new(t0, ms(10), Duration::ZERO).with_rate(Some(100_000));
        for number in 0..5 {
            slow.send(t0, &mut dice, 1000, number);
        }
        let arrivals = (0..5).map(|_| slow.next_arrival().and_then(|at| slow.receive(at).map(|_| at - t0)));
        assert_eq!(arrivals.collect::<Option<Vec<_>>>(), Some(vec![ms(20), ms(30), ms(40), ms(50), ms(60)]));
        line.narrow(600);
        for (number, len) in [(50, 500), (51, 1300), (52, 500)] {
            line.send(t0 + ms(500), &mut dice, len, number);
        }
        assert_eq!(line.receive(t0 + ms(600)), Some(50));
        assert_eq!(line.receive(t0 + ms(60_000)), None, "what is small waits behind what is large");
    }
}
