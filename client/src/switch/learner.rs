//! What the inbound thread tells of stations: who speaks from behind which peer, when that is news.
//!
//! What was already told is [remembered](Recent) for a report interval. An entry that is dropped by time would have been
//! due to be told again anyway, so that behaves like a map that never forgets, in bounded memory and without a sweep.

use super::frame::Station;
use super::limits::Limits;
use super::news::Learn;
use super::rate::{Meter, Moves};
use super::recent::Recent;
use super::table::Place;
use shadowmesh_proto::ids::PeerSlot;
use std::collections::HashMap;
use std::time::Instant;

/// See the module page.
#[derive(Debug)]
pub(super) struct Learner {
    limits: Limits,
    told: Recent<Station, Told>,
    meters: HashMap<PeerSlot, Meter>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    place: Place,
    at: Instant,
    moves: Moves,
}

impl Learner {
    /// Has told nothing yet.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            told: Recent::new(limits.report_after, limits.reported_stations),
            meters: HashMap::new(),
        }
    }

    /// What to tell of a station that spoke from behind a peer, if this is news.
    pub(super) fn hear(&mut self, station: Station, slot: PeerSlot, now: Instant) -> Option<Learn> {
        let place = Place::Peer(slot);
        let told = self.told.get(&station).copied();
        let mut moves = told.map_or_else(|| Moves::new(now), |told| told.moves);
        match told {
            Some(told) if told.place == place => {
                if now.saturating_duration_since(told.at) < self.limits.report_after {
                    return None;
                }
            }
            Some(_) if moves.count(now) > self.limits.moves_per_second => {
                // A loop moves a station with every frame: not a message for each. The window runs on, so
                // that the first move after it is told.
                return None;
            }
            Some(_) | None => {}
        }
        let Limits { reports_per_second, report_burst, .. } = self.limits;
        let meter = self.meters.entry(slot).or_insert_with(|| Meter::new(now));
        if !meter.admit(now, reports_per_second, report_burst) {
            return None;
        }
        self.told.insert(station, Told { place, at: now, moves }, now);
        let was_local = told.is_some_and(|told| told.place == Place::Local);
        Some(Learn { station, slot, was_local })
    }

    /// What was told of a station got lost: its next frame is news again.
    pub(super) fn take_back(&mut self, station: Station) {
        self.told.remove(&station);
    }

    /// It spoke from behind our own device: from behind a peer it is news again.
    pub(super) fn hear_local(&mut self, station: Station, now: Instant) {
        // Coming home is not counted: what a peer may say of moves is all its own.
        let moves = self.told.get(&station).map_or_else(|| Moves::new(now), |told| told.moves);
        self.told.insert(station, Told { place: Place::Local, at: now, moves }, now);
    }

    /// Forgets what was told about a peer that left, so that its slot may be used again. What it may tell is not more for that.
    pub(super) fn forget(&mut self, slot: PeerSlot) {
        self.told.retain(|told| told.place != Place::Peer(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shadowmesh_proto::ids::MacAddr;
    use std::time::Duration;

    const A: PeerSlot = PeerSlot(1);
    const B: PeerSlot = PeerSlot(2);

    fn made_up(n: u32) -> Station {
        let [a, b, c, d] = n.to_be_bytes();
        Station { mac: MacAddr([6, 0, a, b, c, d]), vlan: 0 }
    }

    fn told(station: Station, slot: PeerSlot) -> Option<Learn> {
        Some(Learn { station, slot, was_local: false })
    }

    #[test]
    fn only_news_is_told() {
        let begin = Instant::now();
        let mut learner = Learner::new(Limits::default());
        let station = made_up(1);
        let mut at = |seconds, slot| learner.hear(station, slot, begin + Duration::from_secs(seconds));
        assert_eq!(at(0, A), told(station, A));
        assert_eq!(at(1, A), None);
        assert_eq!(at(29, A), None);
        assert_eq!(at(30, A), told(station, A));
        assert_eq!(at(31, B), told(station, B));
        assert_eq!(at(32, B), None);
        assert_eq!(at(61, B), told(station, B));
    }

    #[test]
    fn a_station_that_was_here_is_news_and_said_to_be() {
        let (mut learner, now) = (Learner::new(Limits::default()), Instant::now());
        assert_eq!(learner.hear(made_up(1), A, now), told(made_up(1), A));
        learner.hear_local(made_up(1), now);
        let learn = Learn { station: made_up(1), slot: A, was_local: true };
        assert_eq!(learner.hear(made_up(1), A, now), Some(learn));
        assert_eq!(learner.hear(made_up(1), A, now), None);
    }

    #[test]
    fn a_loop_is_not_a_message_per_frame() {
        let begin = Instant::now();
        let mut learner = Learner::new(Limits::default());
        let messages = (0..10_000u32).filter(|n| {
            let now = begin + Duration::from_micros(u64::from(*n) * 1_000);
            learner.hear(made_up(1), if n % 2 == 0 { A } else { B }, now).is_some()
        });
        // 10 s: the first sight, and at most a handful of moves in each second.
        let count = messages.count();
        assert!((10..=11 * Limits::default().moves_per_second as usize).contains(&count), "{count}");
    }

    #[test]
    fn made_up_addresses_are_soon_not_told() {
        let begin = Instant::now();
        let limits = Limits::default();
        let mut learner = Learner::new(limits);
        let mut messages = 0;
        for n in 0..200_000u32 {
            let now = begin + Duration::from_micros(u64::from(n) * 10);
            messages += u32::from(learner.hear(made_up(n), A, now).is_some());
        }
        // Two seconds of it.
        assert!(messages <= limits.report_burst + 2 * limits.reports_per_second + 1, "{messages}");
        assert!(learner.told.len() <= 2 * limits.reported_stations);
        // Another peer is heard as before.
        let now = begin + Duration::from_secs(2);
        assert_eq!(learner.hear(made_up(1_000_000), B, now), told(made_up(1_000_000), B));
    }

    #[test]
    fn memory_is_bounded_whatever_the_rate() {
        let now = Instant::now();
        let limits = Limits { reported_stations: 16, report_burst: u32::MAX, ..Limits::default() };
        let mut learner = Learner::new(limits);
        for n in 0..1_000 {
            assert_eq!(learner.hear(made_up(n), A, now), told(made_up(n), A));
            learner.hear_local(made_up(n + 1_000_000), now);
            assert!(learner.told.len() <= 32);
        }
    }

    #[test]
    fn a_slot_used_again_is_told_of_afresh() {
        let now = Instant::now();
        let mut learner = Learner::new(Limits { report_burst: 2, ..Limits::default() });
        assert_eq!(learner.hear(made_up(1), A, now), told(made_up(1), A));
        assert_eq!(learner.hear(made_up(1), A, now), None);
        learner.forget(A);
        assert_eq!(learner.hear(made_up(1), A, now), told(made_up(1), A));
        learner.forget(A);
        assert_eq!(learner.hear(made_up(1), A, now), None, "going away gives it no more to say");
    }

    proptest! {
        /// Against a map that never forgets: generations are not visible from outside.
        #[test]
        fn agrees_with_one_map_that_never_forgets(
            talk in proptest::collection::vec((0u32..20, 1u32..4, 300u64..20_000), 1..300),
        ) {
            let limits = Limits::default();
            let mut now = Instant::now();
            let mut learner = Learner::new(limits);
            let mut naive: HashMap<u32, (u32, Instant)> = HashMap::new();
            for (n, slot, wait) in talk {
                now += Duration::from_millis(wait);
                let news = match naive.get(&n) {
                    Some((known, at)) => *known != slot || now - *at >= limits.report_after,
                    None => true,
                };
                let expected = if news { told(made_up(n), PeerSlot(slot)) } else { None };
                prop_assert_eq!(learner.hear(made_up(n), PeerSlot(slot), now), expected);
                if news {
                    naive.insert(n, (slot, now));
                }
            }
        }
    }
}
