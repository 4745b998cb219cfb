//! The inbound thread's half of the switch: which frames of a peer are let in, and what is worth telling the
//! other half.
//!
//! What was already told is kept in two generations. News goes into the younger; when that is full, or a
//! report interval has passed since it was begun, it becomes the older one and the older one is emptied. An
//! entry that is dropped by time would have been due to be told again anyway, so the two maps behave like one
//! that never forgets, in bounded memory and without a sweep.

use std::collections::HashMap;
use std::time::Instant;

use shadowmesh_proto::ids::PeerSlot;

use super::frame::{EthernetHeader, Station, is_multicast};
use super::limits::Limits;
use super::owners::{Owner, Owners};
use super::rate::{Meter, Moves};

/// For the forwarding table: `station` speaks from behind `slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learn {
    /// Who spoke.
    pub station: Station,
    /// From where.
    pub slot: PeerSlot,
}

/// What becomes of a frame from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// It is written to our own device; where there is news, that goes to the forwarding table.
    Deliver(Option<Learn>),
    /// It is not let in.
    Drop(InboundDrop),
}

/// Why a frame of a peer is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InboundDrop {
    /// It ends inside its Ethernet header.
    Truncated,
    /// Its source is a group address.
    SourceIsGroup,
    /// Its source is our own address: a loop through a bridge behind the peer, or a forgery.
    SourceIsOurs,
    /// Its source is the own address of another member.
    Spoofed {
        /// Whose address it is.
        owner: PeerSlot,
    },
}

/// See the module page.
#[derive(Debug)]
pub struct Learner {
    limits: Limits,
    young: HashMap<Station, Told>,
    old: HashMap<Station, Told>,
    begun: Option<Instant>,
    meters: HashMap<PeerSlot, Meter>,
    suppressed: u64,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    slot: PeerSlot,
    at: Instant,
    moves: Moves,
}

impl Learner {
    /// Has told nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            young: HashMap::new(),
            old: HashMap::new(),
            begun: None,
            meters: HashMap::new(),
            suppressed: 0,
        }
    }

    /// Decides about a frame that the peer `from` sent.
    pub fn receive(&mut self, owners: &Owners, frame: &[u8], from: PeerSlot, now: Instant) -> Inbound {
        let Some(header) = EthernetHeader::parse(frame) else {
            return Inbound::Drop(InboundDrop::Truncated);
        };
        if is_multicast(header.source) {
            return Inbound::Drop(InboundDrop::SourceIsGroup);
        }
        match owners.owner(header.source) {
            Some(Owner::Local) => Inbound::Drop(InboundDrop::SourceIsOurs),
            Some(Owner::Member(owner)) if owner != from => Inbound::Drop(InboundDrop::Spoofed { owner }),
            // Its own address is known from its session; there is nothing to learn.
            Some(Owner::Member(_)) => Inbound::Deliver(None),
            None => Inbound::Deliver(self.news(header.sender(), from, now)),
        }
    }

    /// Forgets what was told about a peer that left, so that its slot may be used again.
    pub fn forget(&mut self, slot: PeerSlot) {
        self.young.retain(|_, told| told.slot != slot);
        self.old.retain(|_, told| told.slot != slot);
        self.meters.remove(&slot);
    }

    /// Reports withheld because a station moved too often or a peer had too many.
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// What to tell, if this is news.
    fn news(&mut self, station: Station, slot: PeerSlot, now: Instant) -> Option<Learn> {
        let told = self.young.get(&station).or_else(|| self.old.get(&station)).copied();
        let mut moves = told.map_or_else(|| Moves::new(now), |told| told.moves);
        match told {
            Some(told) if told.slot == slot => {
                if now.saturating_duration_since(told.at) < self.limits.report_after {
                    return None;
                }
            }
            Some(_) if moves.count(now) > self.limits.moves_per_second => {
                // A loop moves a station with every frame: not a message for each. The window runs on, so
                // that the first move after it is told.
                self.suppressed += 1;
                return None;
            }
            Some(_) | None => {}
        }
        let Limits { reports_per_second, report_burst, .. } = self.limits;
        let meter = self.meters.entry(slot).or_insert_with(|| Meter::new(now));
        if !meter.admit(now, reports_per_second, report_burst) {
            self.suppressed += 1;
            return None;
        }
        self.remember(station, Told { slot, at: now, moves }, now);
        Some(Learn { station, slot })
    }

    fn remember(&mut self, station: Station, told: Told, now: Instant) {
        let begun = *self.begun.get_or_insert(now);
        let full = self.young.len() >= self.limits.reported_stations;
        if full || now.saturating_duration_since(begun) >= self.limits.report_after {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.begun = Some(now);
        }
        self.young.insert(station, told);
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
    const LOCAL: MacAddr = MacAddr([2, 0, 0, 0, 0, 0]);

    fn frame(source: MacAddr) -> Vec<u8> {
        [&LOCAL.0[..], &source.0, &[0x08, 0], &[0; 46]].concat()
    }

    fn made_up(n: u32) -> MacAddr {
        let [a, b, c, d] = n.to_be_bytes();
        MacAddr([6, 0, a, b, c, d])
    }

    fn told(mac: MacAddr, slot: PeerSlot) -> Inbound {
        Inbound::Deliver(Some(Learn { station: Station { mac, vlan: 0 }, slot }))
    }

    const SILENT: Inbound = Inbound::Deliver(None);

    #[test]
    fn only_news_is_told() {
        let (owners, begin) = (Owners::new(LOCAL), Instant::now());
        let mut learner = Learner::new(Limits::default());
        let mac = made_up(1);
        let mut at =
            |seconds, slot| learner.receive(&owners, &frame(mac), slot, begin + Duration::from_secs(seconds));
        assert_eq!(at(0, A), told(mac, A));
        assert_eq!(at(1, A), SILENT);
        assert_eq!(at(29, A), SILENT);
        assert_eq!(at(30, A), told(mac, A));
        assert_eq!(at(31, B), told(mac, B));
        assert_eq!(at(32, B), SILENT);
        assert_eq!(at(61, B), told(mac, B));
    }

    #[test]
    fn a_members_own_address_is_its_own() {
        let now = Instant::now();
        let mut owners = Owners::new(LOCAL);
        owners.assign(made_up(1), A).unwrap();
        let mut learner = Learner::new(Limits::default());
        let mut from = |mac, slot| learner.receive(&owners, &frame(mac), slot, now);
        assert_eq!(from(made_up(1), A), SILENT);
        assert_eq!(from(made_up(1), B), Inbound::Drop(InboundDrop::Spoofed { owner: A }));
        assert_eq!(from(LOCAL, A), Inbound::Drop(InboundDrop::SourceIsOurs));
        assert_eq!(from(MacAddr([0xff; 6]), A), Inbound::Drop(InboundDrop::SourceIsGroup));
        assert_eq!(learner.receive(&owners, &[0; 13], A, now), Inbound::Drop(InboundDrop::Truncated));
    }

    #[test]
    fn a_loop_is_not_a_message_per_frame() {
        let (owners, begin) = (Owners::new(LOCAL), Instant::now());
        let mut learner = Learner::new(Limits::default());
        let messages = (0..10_000u32).filter(|n| {
            let now = begin + Duration::from_micros(u64::from(*n) * 1_000);
            learner.receive(&owners, &frame(made_up(1)), if n % 2 == 0 { A } else { B }, now) != SILENT
        });
        // 10 s: the first sight, and at most a handful of moves in each second.
        let count = messages.count();
        assert!((10..=11 * Limits::default().moves_per_second as usize).contains(&count), "{count}");
        // Every other frame speaks from where the station was last told to be.
        assert!(learner.suppressed() > 4_900);
    }

    #[test]
    fn made_up_addresses_are_delivered_and_soon_not_told() {
        let (owners, begin) = (Owners::new(LOCAL), Instant::now());
        let limits = Limits::default();
        let mut learner = Learner::new(limits);
        let mut messages = 0;
        for n in 0..200_000u32 {
            let now = begin + Duration::from_micros(u64::from(n) * 10);
            match learner.receive(&owners, &frame(made_up(n)), A, now) {
                Inbound::Deliver(news) => messages += u32::from(news.is_some()),
                Inbound::Drop(cause) => panic!("{cause:?}"),
            }
        }
        // Two seconds of it.
        assert!(messages <= limits.report_burst + 2 * limits.reports_per_second + 1, "{messages}");
        assert_eq!(learner.suppressed() + u64::from(messages), 200_000);
        assert!(learner.young.len() + learner.old.len() <= 2 * limits.reported_stations);
        // Another peer is heard as before.
        let now = begin + Duration::from_secs(2);
        assert_eq!(learner.receive(&owners, &frame(made_up(1_000_000)), B, now), told(made_up(1_000_000), B));
    }

    #[test]
    fn memory_is_bounded_whatever_the_rate() {
        let (owners, now) = (Owners::new(LOCAL), Instant::now());
        let limits = Limits { reported_stations: 16, report_burst: u32::MAX, ..Limits::default() };
        let mut learner = Learner::new(limits);
        for n in 0..1_000 {
            assert_eq!(learner.receive(&owners, &frame(made_up(n)), A, now), told(made_up(n), A));
            assert!(learner.young.len() <= 16 && learner.old.len() <= 16);
        }
    }

    #[test]
    fn a_slot_used_again_starts_afresh() {
        let (owners, now) = (Owners::new(LOCAL), Instant::now());
        let mut learner = Learner::new(Limits { report_burst: 1, ..Limits::default() });
        assert_eq!(learner.receive(&owners, &frame(made_up(1)), A, now), told(made_up(1), A));
        assert_eq!(learner.receive(&owners, &frame(made_up(2)), A, now), SILENT);
        learner.forget(A);
        assert_eq!(learner.receive(&owners, &frame(made_up(1)), A, now), told(made_up(1), A));
    }

    proptest! {
        /// Against a map that never forgets: generations are not visible from outside.
        #[test]
        fn agrees_with_one_map_that_never_forgets(
            talk in proptest::collection::vec((0u32..20, 1u32..4, 300u64..20_000), 1..300),
        ) {
            let limits = Limits::default();
            let (owners, mut now) = (Owners::new(LOCAL), Instant::now());
            let mut learner = Learner::new(limits);
            let mut naive: HashMap<u32, (u32, Instant)> = HashMap::new();
            for (n, slot, wait) in talk {
                now += Duration::from_millis(wait);
                let news = match naive.get(&n) {
                    Some((known, at)) => *known != slot || now - *at >= limits.report_after,
                    None => true,
                };
                let expected = if news { told(made_up(n), PeerSlot(slot)) } else { SILENT };
                prop_assert_eq!(learner.receive(&owners, &frame(made_up(n)), PeerSlot(slot), now), expected);
                if news {
                    naive.insert(n, (slot, now));
                }
            }
        }
    }
}
