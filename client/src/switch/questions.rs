//! What was asked for and not answered: addresses that nobody owns, and stations that nobody has heard of.
//!
//! Both go to the members that may bridge, for only behind them can be what no record knows. A question (ARP, neighbour
//! solicitation) is passed on once in [`limits::QUESTION_EVERY`](super::limits::QUESTION_EVERY) for each asker, VLAN and
//! address. Frames for an unknown station are passed on for [`limits::UNKNOWN_FOR`](super::limits::UNKNOWN_FOR) and then
//! not until it is heard, or until nothing was sent to it for [`limits::UNKNOWN_QUIET`](super::limits::UNKNOWN_QUIET).

use super::frame::Station;
use super::limits::Limits;
use super::recent::Recent;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Questions passed on lately.
#[derive(Debug)]
pub(super) struct Questions {
    every: Duration,
    asked: Recent<(Station, IpAddr), Instant>,
}

impl Questions {
    pub(super) fn new(limits: Limits) -> Self {
        let every = limits.question_every;
        Self { every, asked: Recent::new(every, limits.questions) }
    }

    /// Whether the question of `asker` for `address` is to be passed on.
    pub(super) fn admit(&mut self, asker: Station, address: IpAddr, now: Instant) -> bool {
        let question = (asker, address);
        let asked = self.asked.get(&question);
        if asked.is_some_and(|asked| now.saturating_duration_since(*asked) < self.every) {
            return false;
        }
        self.asked.insert(question, now, now);
        true
    }
}

/// Stations that frames were sent to and that nobody has heard of.
#[derive(Debug)]
pub(super) struct Unknowns {
    flooded_for: Duration,
    quiet: Duration,
    sought: Recent<Station, Sought>,
}

#[derive(Debug, Clone, Copy)]
struct Sought {
    since: Instant,
    last: Instant,
}

impl Unknowns {
    pub(super) fn new(limits: Limits) -> Self {
        let Limits { unknown_for, unknown_quiet, unknown_stations, .. } = limits;
        Self {
            flooded_for: unknown_for,
            quiet: unknown_quiet,
            sought: Recent::new(unknown_quiet, unknown_stations),
        }
    }

    /// Whether a frame for `station` is to be passed on.
    pub(super) fn admit(&mut self, station: Station, now: Instant) -> bool {
        let is_over = |sought: &Sought| now.saturating_duration_since(sought.last) >= self.quiet;
        let known = self.sought.get(&station).filter(|sought| !is_over(sought)).copied();
        let sought = known.unwrap_or(Sought { since: now, last: now });
        // Moved to the younger generation: it is remembered for as long as frames come.
        self.sought.insert(station, Sought { last: now, ..sought }, now);
        now.saturating_duration_since(sought.since) < self.flooded_for
    }

    /// It was heard: should it fall silent again, it is sought anew.
    pub(super) fn found(&mut self, station: Station) {
        self.sought.remove(&station);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shadowmesh_proto::ids::MacAddr;

    const fn station(n: u8) -> Station {
        Station { mac: MacAddr([2, 0, 0, 0, 1, n]), vlan: 0 }
    }

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 7, 0, n])
    }

    #[test]
    fn a_question_is_passed_on_once_in_a_while_for_each_asker() {
        let (mut questions, begin) = (Questions::new(Limits::default()), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        assert!(questions.admit(station(1), ip(9), at(0)));
        assert!(!questions.admit(station(1), ip(9), at(799)));
        assert!(questions.admit(station(1), ip(8), at(1)) && questions.admit(station(2), ip(9), at(1)));
        assert!(questions.admit(Station { vlan: 7, ..station(1) }, ip(9), at(1)));
        assert!(questions.admit(station(1), ip(9), at(800)));
        let asked = (0..8_000).filter(|ms| questions.admit(station(3), ip(9), at(2_000 + ms))).count();
        assert_eq!(asked, 10);
        // A host asks three times, a second apart, and a timer is not exact.
        assert!([10_000, 10_995, 12_001].into_iter().all(|ms| questions.admit(station(4), ip(9), at(ms))));
    }

    #[test]
    fn a_station_that_nobody_hears_of_is_sought_for_three_seconds() {
        let (mut unknowns, begin) = (Unknowns::new(Limits::default()), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        // An hour of one frame each 100 ms.
        let passed = (0..36_000).filter(|n| unknowns.admit(station(1), at(100 * n))).count();
        assert_eq!(passed, 30);
        assert!(unknowns.admit(station(2), at(0)), "each by itself");
        unknowns.found(station(1));
        assert!(unknowns.admit(station(1), at(3_600_000)));
        assert!(!unknowns.admit(station(1), at(3_603_000)));
        assert!(!unknowns.admit(station(1), at(3_662_999)));
        assert!(unknowns.admit(station(1), at(3_722_999)), "a minute later it is another try");
    }

    #[test]
    fn memory_is_bounded_whatever_is_sought() {
        let limits = Limits { unknown_stations: 16, questions: 16, ..Limits::default() };
        let (mut unknowns, mut questions, now) =
            (Unknowns::new(limits), Questions::new(limits), Instant::now());
        for n in 0..100_000u32 {
            let [a, b, c, d] = n.to_be_bytes();
            unknowns.admit(Station { mac: MacAddr([2, 0, a, b, c, d]), vlan: 0 }, now);
            questions.admit(station(1), IpAddr::from([a, b, c, d]), now);
        }
        assert!(unknowns.sought.len() <= 32 && questions.asked.len() <= 32);
    }
}
