//! The pauses between tries to reach a relay: by chance, or as an answer of HTTP says.
//!
//! The first try after a loss comes at once, the following after pauses that double from [`FIRST`] to [`LONGEST`], each
//! shortened or lengthened at random by a quarter, so that the clients of a restarted relay do not come in step. The longest
//! pause, a second, leaves another one for the round trips: traffic flows again within two seconds once it can.

use shadowmesh_proto::rng::Rng;
use std::time::Duration;

/// The first pause that is one.
const FIRST: Duration = Duration::from_millis(100);
/// The longest, before chance makes it 1 s at most.
const LONGEST: Duration = Duration::from_millis(800);

/// The most that an answer may tell a client to stay away which comes before anybody proved a key: whoever is on the way can write one, and each costs this much.
pub(super) const UNPROVEN_MAX: Duration = Duration::from_secs(15);

/// How long the value of Retry-After says to stay away, [`UNPROVEN_MAX`] at most. In seconds, as relays have it (protocol §3.10): nothing for a date.
pub(super) fn retry_after(value: &str) -> Option<Duration> {
    let seconds = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(UNPROVEN_MAX))
}

/// How long to wait next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backoff {
    pause: Duration,
}

impl Backoff {
    /// The next pause.
    pub(super) fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).clamp(FIRST, LONGEST);
        let share = f64::from(rng.next_u32()) / f64::from(u32::MAX);
        pause.mul_f64(0.75 + share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shadowmesh_proto::rng::SeededRng;

    #[test]
    fn the_first_comes_at_once_and_none_takes_longer_than_a_second() {
        for seed in 0..200 {
            let (mut backoff, mut rng) = (Backoff::default(), SeededRng::new(seed));
            let pauses: Vec<_> = (0..50).map(|_| backoff.next(&mut rng)).collect();
            assert_eq!(pauses[0], Duration::ZERO);
            for (pause, middle) in pauses[1..].iter().zip([100, 200, 400, 800, 800, 800]) {
                let middle = Duration::from_millis(middle);
                assert!((middle.mul_f64(0.75)..=middle.mul_f64(1.25)).contains(pause), "{pause:?}");
            }
            assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(1)));
        }
    }

    #[test]
    fn who_has_proven_nothing_keeps_nobody_away_for_long() {
        for (value, wait) in [("0", Some(0)), (" 2 ", Some(2)), ("15", Some(15)), ("60", Some(15))] {
            assert_eq!(retry_after(value), wait.map(Duration::from_secs), "{value}");
        }
        assert_eq!(retry_after(&u64::MAX.to_string()), Some(UNPROVEN_MAX));
        for nonsense in ["", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "99999999999999999999999"] {
            assert_eq!(retry_after(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn two_clients_do_not_come_in_step() {
        let of = |seed| {
            let (mut backoff, mut rng) = (Backoff::default(), SeededRng::new(seed));
            (0..8).map(|_| backoff.next(&mut rng)).collect::<Vec<_>>()
        };
        assert_ne!(of(1), of(2));
    }
}
