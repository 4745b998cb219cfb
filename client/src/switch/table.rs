//! The forwarding table: where each station was last heard.
//!
//! Owned by the outbound thread. An entry is one station at one [`Place`]; the last word wins. Each place
//! keeps its stations in the order they were last reported, so the oldest is found without a search: reports
//! are rare (one per station in 30 s), lookups are per frame and touch only the hash map.
//!
//! A station may move as often as [`Limits::moves_per_second`]: that is a roaming host, or the failover of a pair. One
//! that moves more often flaps, which is a loop, or two machines with one address: it is *held*, for [`Limits::hold`]
//! and longer each time. Held means that reports from peers do not move it. Our own device may: what is at hand is
//! believed before what is told, so both sides of a loop hold a station on their own side, and neither is cut off.

use super::directory::{Directory, Owner};
use super::frame::Station;
use super::limits::Limits;
use super::rate::Moves;
use shadowmesh_proto::ids::PeerSlot;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// Where a station is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Behind our own device: a machine of a LAN that is bridged to it.
    Local,
    /// Behind a peer.
    Peer(PeerSlot),
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// Not known before, or not for [`Limits::station_age`].
    New,
    /// Known to be there; its age begins again.
    Refreshed,
    /// Known to be elsewhere until now.
    Moved {
        /// Where it was.
        from: Place,
    },
    /// It moves too often, and is held from now on.
    Flaps {
        /// Here.
        place: Place,
        /// Until then.
        until: Instant,
    },
    /// It is held elsewhere, and nothing changed.
    Held,
    /// The address is the own one of someone else, and nothing changed.
    Spoofed(Owner),
}

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableCounts {
    /// Changes of place.
    pub moves: u64,
    /// Times that some station was found to flap.
    pub flaps: u64,
    /// Moves that a hold refused.
    pub held: u64,
    /// Entries pushed out because their place, or the table, was full.
    pub evicted: u64,
    /// Reports refused because the address has an owner elsewhere.
    pub spoofed: u64,
}

/// See the module page.
#[derive(Debug)]
pub struct Table {
    limits: Limits,
    stations: HashMap<Station, Entry>,
    /// For each place its stations by the number of their last report. No empty maps.
    by_age: HashMap<Place, BTreeMap<u64, Station>>,
    reports: u64,
    counts: TableCounts,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    heard: Instant,
    report: u64,
    moves: Moves,
    hold: Hold,
}

/// Whether a station is held, and how often it was.
#[derive(Debug, Clone, Copy, Default)]
struct Hold {
    until: Option<Instant>,
    times: u32,
}

impl Hold {
    fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// Once more, and for longer unless the last time is long ago.
    fn again(self, limits: Limits, now: Instant) -> Self {
        let is_long_ago = self.until.is_none_or(|until| until + limits.hold_max <= now);
        let times = if is_long_ago { 0 } else { self.times };
        let span = limits.hold.saturating_mul(1 << times.min(16)).min(limits.hold_max.max(limits.hold));
        Self { until: Some(now + span), times: times + 1 }
    }
}

impl Table {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            stations: HashMap::new(),
            by_age: HashMap::new(),
            reports: 0,
            counts: TableCounts::default(),
        }
    }

    /// Where `station` was last heard, if that is not too long ago.
    pub fn lookup(&self, station: Station, now: Instant) -> Option<Place> {
        let entry = self.stations.get(&station)?;
        (!self.is_old(entry, now)).then_some(entry.place)
    }

    /// Notes that `station` was heard at `place`.
    pub fn learn(&mut self, directory: &Directory, station: Station, place: Place, now: Instant) -> Learned {
        match directory.owner(station.mac) {
            Some(owner) if !is_at(owner, place) => {
                self.counts.spoofed += 1;
                return Learned::Spoofed(owner);
            }
            _ => {}
        }
        self.drop_old(place, now);
        let before = self.stations.get(&station).filter(|entry| !self.is_old(entry, now));
        let (learned, at, moves, hold) = match before {
            None => (Learned::New, place, Moves::new(now), Hold::default()),
            Some(entry) if entry.place == place => (Learned::Refreshed, place, entry.moves, entry.hold),
            Some(entry) if place != Place::Local && entry.hold.is_on(now) => {
                self.counts.held += 1;
                return Learned::Held;
            }
            Some(Entry { place: from, moves, hold, .. }) => {
                let (from, mut moves, mut hold) = (*from, *moves, *hold);
                let is_too_often = moves.count(now) > self.limits.moves_per_second;
                self.counts.moves += 1;
                match hold.until {
                    _ if !is_too_often => (Learned::Moved { from }, place, moves, hold),
                    // From a peer to our own device, while it is held to be behind the peer.
                    Some(until) if until > now => (Learned::Moved { from }, place, moves, hold),
                    _ => {
                        hold = hold.again(self.limits, now);
                        self.counts.flaps += 1;
                        let at = if place == Place::Local { place } else { from };
                        let until = hold.until.unwrap_or(now);
                        (Learned::Flaps { place: at, until }, at, moves, hold)
                    }
                }
            }
        };
        self.remove(station);
        self.make_room(at);
        self.reports += 1;
        self.by_age.entry(at).or_default().insert(self.reports, station);
        self.stations.insert(station, Entry { place: at, heard: now, report: self.reports, moves, hold });
        learned
    }

    /// Notes a station of the bridged LAN behind our own device, at the price of one lookup while nothing
    /// changes. Called per frame, unlike [`Self::learn`], so it does what the inbound half does for peers.
    pub fn learn_local(&mut self, directory: &Directory, station: Station, now: Instant) -> Option<Learned> {
        match self.stations.get(&station) {
            Some(entry)
                if entry.place == Place::Local
                    && now.saturating_duration_since(entry.heard) < self.limits.report_after =>
            {
                None
            }
            _ => Some(self.learn(directory, station, Place::Local, now)),
        }
    }

    /// Forgets everything behind a peer that left.
    pub fn forget(&mut self, slot: PeerSlot) {
        for station in self.by_age.remove(&Place::Peer(slot)).unwrap_or_default().into_values() {
            self.stations.remove(&station);
        }
    }

    /// Stations remembered, those too old to be used among them until there is other work at their place.
    pub fn len(&self) -> usize {
        self.stations.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.stations.is_empty()
    }

    /// What happened so far.
    pub const fn counts(&self) -> TableCounts {
        self.counts
    }

    fn is_old(&self, entry: &Entry, now: Instant) -> bool {
        now.saturating_duration_since(entry.heard) >= self.limits.station_age
    }

    fn remove(&mut self, station: Station) -> Option<Entry> {
        let entry = self.stations.remove(&station)?;
        if let Some(ages) = self.by_age.get_mut(&entry.place) {
            ages.remove(&entry.report);
            if ages.is_empty() {
                self.by_age.remove(&entry.place);
            }
        }
        Some(entry)
    }

    /// Removes what is too old at `place`: each entry at most once, so a report costs no more for it in the
    /// long run.
    fn drop_old(&mut self, place: Place, now: Instant) {
        while let Some(oldest) = self.oldest(place) {
            if self.stations.get(&oldest).is_none_or(|entry| !self.is_old(entry, now)) {
                return;
            }
            self.remove(oldest);
        }
    }

    /// Makes room for one more at `place`: out of its own if it has its share, else out of the place that has
    /// most.
    fn make_room(&mut self, place: Place) {
        let victim = if self.count(place) >= self.limits.stations_per_peer.max(1) {
            Some(place)
        } else if self.stations.len() >= self.limits.stations.max(1) {
            // Ties go to the lowest place, so that the outcome does not hang on the hash seed.
            self.by_age
                .iter()
                .max_by_key(|(place, ages)| (ages.len(), std::cmp::Reverse(**place)))
                .map(|(place, _)| *place)
        } else {
            None
        };
        if let Some(oldest) = victim.and_then(|place| self.oldest(place)) {
            self.remove(oldest);
            self.counts.evicted += 1;
        }
    }

    fn count(&self, place: Place) -> usize {
        self.by_age.get(&place).map_or(0, BTreeMap::len)
    }

    fn oldest(&self, place: Place) -> Option<Station> {
        Some(*self.by_age.get(&place)?.first_key_value()?.1)
    }
}

/// Whether the owner of an address is the one behind `place`.
fn is_at(owner: Owner, place: Place) -> bool {
    match owner {
        Owner::Local => place == Place::Local,
        Owner::Member(slot) => place == Place::Peer(slot),
        Owner::Absent => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::Record;
    use super::*;
    use proptest::prelude::*;
    use shadowmesh_proto::ids::MacAddr;
    use std::time::Duration;

    const LOCAL: MacAddr = MacAddr([2, 0, 0, 0, 0, 0]);

    const fn station(n: u8) -> Station {
        Station { mac: MacAddr([2, 0, 0, 0, 1, n]), vlan: 0 }
    }

    const fn peer(n: u32) -> Place {
        Place::Peer(PeerSlot(n))
    }

    fn small() -> Limits {
        // Without holds, which the naive table does not know.
        Limits { stations_per_peer: 3, stations: 7, moves_per_second: u32::MAX, ..Limits::default() }
    }

    /// The same rules, written the slow way: a list, oldest report first.
    struct Naive {
        limits: Limits,
        entries: Vec<(Station, Place, Instant)>,
        evicted: u64,
        moves: u64,
    }

    impl Naive {
        fn lookup(&self, station: Station, now: Instant) -> Option<Place> {
            let (_, place, heard) = self.entries.iter().find(|(known, ..)| *known == station)?;
            (now - *heard < self.limits.station_age).then_some(*place)
        }

        fn learn(&mut self, station: Station, place: Place, now: Instant) {
            let age = self.limits.station_age;
            self.entries.retain(|(_, at, heard)| *at != place || now - *heard < age);
            self.moves += u64::from(self.lookup(station, now).is_some_and(|before| before != place));
            self.entries.retain(|(known, ..)| *known != station);
            let count = |entries: &[(Station, Place, Instant)], place| {
                entries.iter().filter(|(_, at, _)| *at == place).count()
            };
            let victim = if count(&self.entries, place) >= self.limits.stations_per_peer {
                Some(place)
            } else if self.entries.len() >= self.limits.stations {
                let mut places: Vec<Place> = self.entries.iter().map(|(_, at, _)| *at).collect();
                places.sort();
                places.dedup();
                let most = places.iter().map(|at| count(&self.entries, *at)).max().unwrap();
                places.into_iter().find(|at| count(&self.entries, *at) == most)
            } else {
                None
            };
            if let Some(victim) = victim {
                let oldest = self.entries.iter().position(|(_, at, _)| *at == victim).unwrap();
                self.entries.remove(oldest);
                self.evicted += 1;
            }
            self.entries.push((station, place, now));
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Learn(u8, u32),
        Forget(u32),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0u8..12, 0u32..4).prop_map(|(station, slot)| Step::Learn(station, slot)),
            1 => (0u32..4).prop_map(Step::Forget),
            3 => (0u64..200).prop_map(Step::Wait),
        ];
        proptest::collection::vec(step, 0..120)
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_table(steps in steps()) {
            let (limits, directory, mut now) = (small(), Directory::new(LOCAL), Instant::now());
            let mut table = Table::new(limits);
            let mut naive = Naive { limits, entries: Vec::new(), evicted: 0, moves: 0 };
            for step in steps {
                match step {
                    Step::Learn(n, slot) => {
                        table.learn(&directory, station(n), peer(slot), now);
                        naive.learn(station(n), peer(slot), now);
                    }
                    Step::Forget(slot) => {
                        table.forget(PeerSlot(slot));
                        naive.entries.retain(|(_, at, _)| *at != peer(slot));
                    }
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                }
                for n in 0..12 {
                    prop_assert_eq!(table.lookup(station(n), now), naive.lookup(station(n), now));
                }
                prop_assert_eq!(table.len(), naive.entries.len());
                prop_assert_eq!(table.len(), table.by_age.values().map(BTreeMap::len).sum::<usize>());
                let share = 1..=limits.stations_per_peer;
                prop_assert!(table.by_age.values().all(|ages| share.contains(&ages.len())));
                prop_assert_eq!((table.counts().evicted, table.counts().moves), (naive.evicted, naive.moves));
            }
        }
    }

    #[test]
    fn a_flood_of_addresses_costs_only_its_sender() {
        let (directory, now) = (Directory::new(LOCAL), Instant::now());
        let mut table = Table::new(Limits::default());
        let honest: Vec<Station> = (0..50).map(station).collect();
        for station in &honest {
            table.learn(&directory, *station, peer(1), now);
        }
        for n in 0..100_000u32 {
            let [_, a, b, c] = n.to_be_bytes();
            table.learn(&directory, Station { mac: MacAddr([6, 0, 0, a, b, c]), vlan: 0 }, peer(2), now);
        }
        assert!(honest.iter().all(|station| table.lookup(*station, now) == Some(peer(1))));
        assert_eq!(table.len(), 50 + Limits::default().stations_per_peer);
        assert_eq!(table.counts().evicted, 100_000 - Limits::default().stations_per_peer as u64);
    }

    #[test]
    fn a_station_that_flaps_is_held_for_longer_each_time() {
        let (directory, begin) = (Directory::new(LOCAL), Instant::now());
        let limits = Limits::default();
        let mut table = Table::new(limits);
        table.learn(&directory, station(1), peer(0), begin);
        // An hour of twenty reports a second from either side.
        let (mut holds, mut held_at) = (Vec::new(), peer(0));
        for n in 0..72_000u32 {
            let now = begin + Duration::from_millis(u64::from(n) * 50);
            match table.learn(&directory, station(1), peer(1 + n % 2), now) {
                Learned::Flaps { place, until } => {
                    holds.push((until - now).as_secs());
                    held_at = place;
                }
                Learned::Held => assert_eq!(table.lookup(station(1), now), Some(held_at)),
                Learned::Moved { .. } | Learned::Refreshed => {}
                other @ (Learned::New | Learned::Spoofed(_)) => panic!("{other:?}"),
            }
        }
        assert_eq!(holds[..6], [10, 20, 40, 80, 160, 160]);
        let counts = table.counts();
        assert_eq!(counts.flaps as usize, holds.len());
        assert!(counts.moves < 200 && counts.held > 35_000, "{counts:?}");
        // After as long without, the first hold is short again.
        let later = begin + Duration::from_secs(3_600 + 2 * 160);
        table.learn(&directory, station(1), peer(1), later - Duration::from_secs(170));
        let flaps = (0..9u32).filter_map(|n| {
            let learned = table.learn(&directory, station(1), peer(1 + n % 2), later);
            if let Learned::Flaps { until, .. } = learned { Some(until - later) } else { None }
        });
        assert_eq!(flaps.collect::<Vec<_>>(), [limits.hold]);
    }

    #[test]
    fn a_roaming_station_is_followed_at_once() {
        let (directory, begin) = (Directory::new(LOCAL), Instant::now());
        let mut table = Table::new(Limits::default());
        table.learn(&directory, station(1), peer(0), begin);
        // Every 300 ms for a minute: three moves a second are no loop.
        for n in 1..200u32 {
            let now = begin + Duration::from_millis(u64::from(n) * 300);
            let moved = Learned::Moved { from: peer((n + 1) % 2) };
            assert_eq!(table.learn(&directory, station(1), peer(n % 2), now), moved);
            assert_eq!(table.lookup(station(1), now), Some(peer(n % 2)));
        }
        assert_eq!(table.counts().flaps, 0);
    }

    #[test]
    fn a_station_that_flaps_between_here_and_there_is_held_here() {
        let (directory, now) = (Directory::new(LOCAL), Instant::now());
        let mut table = Table::new(Limits::default());
        let mut until = None;
        for n in 0..100 {
            let place = if n % 2 == 0 { Place::Local } else { peer(1) };
            if let Learned::Flaps { place, until: then } = table.learn(&directory, station(1), place, now) {
                assert_eq!((place, until.replace(then)), (Place::Local, None), "once");
            }
        }
        assert_eq!(until, Some(now + Limits::default().hold));
        assert_eq!(table.lookup(station(1), now), Some(Place::Local));
        // Between two peers it is held at one; then it is heard here.
        for n in 0..10 {
            table.learn(&directory, station(2), peer(1 + n % 2), now);
        }
        assert!(matches!(table.learn(&directory, station(2), Place::Local, now), Learned::Moved { .. }));
        assert_eq!(table.learn(&directory, station(2), peer(1), now), Learned::Held);
        assert_eq!(table.lookup(station(2), now), Some(Place::Local));
    }

    #[test]
    fn an_owned_address_is_learned_nowhere_else() {
        let now = Instant::now();
        let mut directory = Directory::new(LOCAL);
        directory.admit(PeerSlot(1), Record::new(station(1).mac)).unwrap();
        let mut table = Table::new(Limits::default());
        let spoofed = Learned::Spoofed(Owner::Member(PeerSlot(1)));
        assert_eq!(table.learn(&directory, station(1), peer(2), now), spoofed);
        assert_eq!(table.learn(&directory, Station { vlan: 7, ..station(1) }, Place::Local, now), spoofed);
        assert_eq!(
            table.learn(&directory, Station { mac: LOCAL, vlan: 0 }, peer(2), now),
            Learned::Spoofed(Owner::Local)
        );
        assert!(table.is_empty());
        assert_eq!(table.counts().spoofed, 3);
        assert_eq!(table.learn(&directory, station(1), peer(1), now), Learned::New);
    }

    #[test]
    fn a_local_station_is_noted_again_only_when_that_is_news() {
        let (directory, begin) = (Directory::new(LOCAL), Instant::now());
        let mut table = Table::new(Limits::default());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(table.learn_local(&directory, station(1), at(0)), Some(Learned::New));
        assert_eq!(table.learn_local(&directory, station(1), at(29)), None);
        assert_eq!(table.learn_local(&directory, station(1), at(30)), Some(Learned::Refreshed));
        table.learn(&directory, station(1), peer(1), at(31));
        let moved = Learned::Moved { from: peer(1) };
        assert_eq!(table.learn_local(&directory, station(1), at(32)), Some(moved));
    }
}
