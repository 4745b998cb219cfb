//! Which of the frames that wait too long are dropped: CoDel (RFC 8289), beside a bound in time. What waits at a relay are messages of
//! some packets.
//!
//! A queue that is a burst drains within a round trip; one that stands is nothing but delay. So a frame is dropped when each one for the
//! whole of [`INTERVAL`] had waited for longer than [`TARGET`], then one more after `INTERVAL / √n`, until they wait no longer. Senders that
//! mind losses slow down by that. Of one that does not, whatever waited for [`STALE`] goes as well, for as long as this lasts.

use std::time::{Duration, Instant};

/// How long a frame may wait while its queue stands. The streams behind it take a few frames at a time, and on a slow line seven
/// milliseconds and more pass between two of those: with the 5 ms of RFC 8289, or with 10, flows that were sent less than their share lost some.
const TARGET: Duration = Duration::from_millis(20);
/// A round trip of the longer ones (RFC 8289 §4.2).
const INTERVAL: Duration = Duration::from_millis(100);
/// What waited for this in a queue that stands is not worth sending: with the line's own buffer before it, it would be a tenth of a second.
pub const STALE: Duration = Duration::from_millis(50);
/// With no more than this behind it a frame is not dropped: the line would have nothing to do (RFC 8289 §4.4).
const FRAME: usize = 1514;

/// What is known of one queue.
#[derive(Debug, Default)]
pub struct CoDel {
    /// When it stands, if it goes on like this.
    stands_at: Option<Instant>,
    /// The drops of a queue that stands, and when the next is due.
    dropping: Option<Dropping>,
    /// The last ones, for a queue that stands again soon.
    before: Option<Dropping>,
}

#[derive(Debug, Clone, Copy)]
struct Dropping {
    next: Instant,
    count: u32,
}

impl Dropping {
    fn after(from: Instant, count: u32) -> Self {
        Self { next: from + INTERVAL.div_f64(f64::from(count).sqrt()), count }
    }
}

impl CoDel {
    /// Of a queue in which nothing has waited.
    pub const fn new() -> Self {
        Self { stands_at: None, dropping: None, before: None }
    }

    /// Whether the frame that is next, which waited so long, is dropped instead. Behind it are `left` bytes.
    pub fn drops(&mut self, now: Instant, waited: Duration, left: usize) -> bool {
        let stands = self.stands(now, waited, left);
        match self.dropping {
            Some(dropping) if !stands => {
                (self.before, self.dropping) = (Some(dropping), None);
                false
            }
            Some(dropping) if now >= dropping.next => {
                self.dropping = Some(Dropping::after(dropping.next, dropping.count.saturating_add(1)));
                true
            }
            Some(_) => waited >= STALE,
            None if stands => {
                // It goes on near where it was when this was enough (RFC 8289 §5.4).
                let soon = |before: &Dropping| {
                    before.count > 2 && now.saturating_duration_since(before.next) < 16 * INTERVAL
                };
                let count = self.before.filter(soon).map_or(1, |before| before.count - 2);
                self.dropping = Some(Dropping::after(now, count));
                true
            }
            None => false,
        }
    }

    fn stands(&mut self, now: Instant, waited: Duration, left: usize) -> bool {
        if waited < TARGET || left <= FRAME {
            self.stands_at = None;
            return false;
        }
        now >= *self.stands_at.get_or_insert(now + INTERVAL)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(1);
    const MUCH: usize = 100_000;

    /// Drops among frames that leave one each millisecond, all having waited so long.
    fn drops(codel: &mut CoDel, now: &mut Instant, millis: u32, waited: Duration) -> u32 {
        (0..millis).fold(0, |drops, _| {
            *now += STEP;
            drops + u32::from(codel.drops(*now, waited, MUCH))
        })
    }

    #[test]
    fn a_burst_passes_and_what_stands_is_thinned_out_faster_and_faster() {
        let (mut now, mut codel) = (Instant::now(), CoDel::default());
        assert_eq!(drops(&mut codel, &mut now, 99, 2 * TARGET), 0, "a burst");
        assert_eq!(drops(&mut codel, &mut now, 1_000, TARGET / 2), 0, "that is over");
        assert_eq!(drops(&mut codel, &mut now, 100, 2 * TARGET), 0, "another");
        // 100 ms / √n apart: at 0, 100, 170.7, 228.4, 278.4 …
        assert_eq!(drops(&mut codel, &mut now, 99, 2 * TARGET), 1);
        assert_eq!(drops(&mut codel, &mut now, 190, 2 * TARGET), 4);
        let (first, second) =
            (drops(&mut codel, &mut now, 500, 2 * TARGET), drops(&mut codel, &mut now, 500, 2 * TARGET));
        assert!(second > first, "{first}, {second}");
        assert_eq!(drops(&mut codel, &mut now, 1_000, TARGET / 2), 0, "they wait no longer");
        let again = drops(&mut codel, &mut now, 200, 2 * TARGET);
        assert!(again > 3, "it remembers: {again}");
    }

    #[test]
    fn of_a_sender_that_minds_no_loss_nothing_stale_is_sent() {
        let (mut now, mut codel) = (Instant::now(), CoDel::default());
        assert_eq!(drops(&mut codel, &mut now, 100, STALE), 0, "it may be a stall that is over");
        assert_eq!(drops(&mut codel, &mut now, 100, STALE), 100);
    }

    #[test]
    fn the_last_frame_goes_however_long_it_waited() {
        let (mut now, mut codel) = (Instant::now(), CoDel::default());
        for _ in 0..1_000 {
            now += STEP;
            assert!(!codel.drops(now, 10 * STALE, FRAME));
        }
    }
}
