//! How much a TCP connection is given to carry at a time, so that no more than a few milliseconds of it stand in the buffer of the line.
//!
//! What sends by losses, or begins, fills whatever buffer the line has: twice as much with each round trip until some is lost, and then all
//! that came behind it waits for that. How long the line's queue is can be seen before that: a round trip takes longer than the shortest did.
//! So the socket is looked at each time it was given a little ([`Flight::look`]). As long as round trips are about as short as they were it is
//! given all there is. Where a queue stands ([`STANDS`]) it has, sent or not, what arrives within the shortest round trip and [`QUEUE`], and is
//! given more when some of that has arrived. How fast it arrives is counted: what stands in a queue arrives as fast as the line takes it.
//!
//! # Not for ever
//!
//! The queue may be another's, or the way may have become longer: holding back shortens neither, and gives the line to others. Where round
//! trips have not become shorter for [`TRIED`] the connection is left to its kernel for a while, each time for longer.

use super::TcpInfo;
use super::pace::BYTES_MIN;
use std::time::{Duration, Instant};

/// A queue stands where a round trip takes so much longer than the shortest: more than a machine that is busy adds, on most lines.
const STANDS: Duration = Duration::from_millis(10);
/// What may be under way beyond what the way itself holds, and may wait in the socket.
const QUEUE: Duration = Duration::from_millis(20);
/// It is looked at again when it was given so much, ...
const LOOK: usize = 64 << 10;
/// ... and while it is given nothing, as soon as there should be room, which is no sooner and no later than this: what a timer can tell apart,
/// and half of [`QUEUE`].
const SOON: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(10);
/// Arrivals are counted for so long, or a round trip. Over less, acknowledgements that come together look like a faster line.
const COUNT: Duration = Duration::from_millis(10);
/// What was counted in several times that had pauses in it.
const PAUSES: u32 = 10;
/// Holding back helps where round trips are longer by no more than this: [`QUEUE`] and half as much, for how fast it is may be counted too high.
const HELPS: Duration = Duration::from_millis(30);
/// Held back for so long, round trips ought to be shorter: a dozen of the longer ones.
const TRIED: Duration = Duration::from_secs(1);
/// How long it is left to itself the first time, and at most, when the kernel has forgotten what it took for the shortest round trip
/// (`tcp_min_rtt_wlen`, ip-sysctl: 300 s).
const LEFT: Duration = Duration::from_secs(10);
const LEFT_MAX: Duration = Duration::from_secs(300);

/// See the module page.
#[derive(Debug)]
pub struct Flight {
    /// Bytes that it may be given before it is looked at again.
    budget: usize,
    count: Option<Count>,
    /// Bytes a second.
    rate: f64,
    /// While a queue stands: since when, or since round trips were last seen to be as short as holding back makes them.
    held: Option<Instant>,
    /// It was held back in vain: not again before.
    left_until: Option<Instant>,
    /// For how long next time.
    left: Duration,
}

/// Since when arrivals are counted, and from what.
#[derive(Debug, Clone, Copy)]
struct Count {
    since: Instant,
    arrived: u64,
}

impl Default for Flight {
    fn default() -> Self {
        Self { budget: 0, count: None, rate: 0.0, held: None, left_until: None, left: LEFT }
    }
}

impl Flight {
    /// Whether it may be given more without a look.
    pub const fn has_room(&self) -> bool {
        self.budget > 0
    }

    /// It was given so many bytes.
    pub const fn on_given(&mut self, bytes: usize) {
        self.budget = self.budget.saturating_sub(bytes);
    }

    /// What its kernel says of it now, if that is known. When it has to be looked at again before it is given anything; `None` where it may be
    /// given something. `ahead` bytes are what it takes in a few milliseconds ([`Pace`](super::Pace)).
    pub fn look(&mut self, now: Instant, info: Option<TcpInfo>, ahead: usize) -> Option<Instant> {
        self.budget = ahead.min(LOOK);
        let info = info?;
        self.count(now, &info);
        if !self.is_held(now, &info) {
            return None;
        }
        let most = self.rate * (info.least + QUEUE).as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        let most = (most as usize).max(BYTES_MIN);
        let has = info.in_flight.saturating_add(info.unsent);
        self.budget = most.saturating_sub(has).min(self.budget);
        if self.budget > 0 {
            return None;
        }
        let excess = u32::try_from(has - most).map_or(f64::INFINITY, f64::from) / self.rate;
        Some(now + Duration::try_from_secs_f64(excess).unwrap_or(LATE).clamp(SOON, LATE))
    }

    /// Counts what arrives. More than was thought is true at once: no line brings more than it takes. Less may be for want of something to
    /// send, and is believed little by little.
    fn count(&mut self, now: Instant, info: &TcpInfo) {
        let anew = Count { since: now, arrived: info.arrived };
        let count = *self.count.get_or_insert(anew);
        let (took, whole) = (now.saturating_duration_since(count.since), COUNT.max(info.rtt));
        if took < whole {
            return;
        }
        self.count = Some(anew);
        if took <= PAUSES * whole {
            let bytes = u32::try_from(info.arrived.saturating_sub(count.arrived)).unwrap_or(u32::MAX);
            let seen = f64::from(bytes) / took.as_secs_f64();
            self.rate = if seen > self.rate { seen } else { self.rate + (seen - self.rate) / 4.0 };
        }
    }

    /// Whether it is to be held back.
    fn is_held(&mut self, now: Instant, info: &TcpInfo) -> bool {
        let queue = info.rtt.saturating_sub(info.least);
        let Some(since) = &mut self.held else {
            if queue < STANDS || self.left_until.is_some_and(|until| now < until) {
                return false;
            }
            // Nothing was counted while there was little to send. Of what is under way, one half at least arrives in a round trip: at the
            // beginning each round trip has twice as much as the one before.
            let half = u32::try_from(info.in_flight / 2).map_or(f64::MAX, f64::from);
            self.rate = self.rate.max(half / info.rtt.as_secs_f64());
            self.held = Some(now);
            return true;
        };
        if queue < STANDS / 2 {
            self.held = None;
            return false;
        }
        if queue <= HELPS {
            *since = now;
            // It helps.
            self.left = LEFT;
        } else if now.saturating_duration_since(*since) >= TRIED.max(4 * info.rtt) {
            self.held = None;
            self.left_until = Some(now + self.left);
            self.left = (2 * self.left).min(LEFT_MAX);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests;
