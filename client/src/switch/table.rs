//! The forwarding table: where each station was last heard.
//!
//! Owned by the outbound thread. An entry is one station at one [`Place`]; the last word wins. Each place
//! keeps its stations in the order they were last reported, so the oldest is found without a search: reports
//! are rare (one per station in 30 s), lookups are per frame and touch only the hash map.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use shadowmesh_proto::ids::PeerSlot;

use super::frame::Station;
use super::limits::Limits;
use super::owners::{Owner, Owners};
use super::rate::Moves;

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
        /// Whether this exceeds [`Limits::moves_per_second`] for the first time within this second: a loop,
        /// or two machines with one address. Said once a second at most, so it may be logged as it comes.
        flapping: bool,
    },
    /// The address is the own one of someone else, and nothing changed.
    Spoofed(Owner),
}

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableCounts {
    /// Changes of place.
    pub moves: u64,
    /// Seconds in which some station flapped.
    pub flaps: u64,
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
    pub fn learn(&mut self, owners: &Owners, station: Station, place: Place, now: Instant) -> Learned {
        match owners.owner(station.mac) {
            Some(owner) if !is_at(owner, place) => {
                self.counts.spoofed += 1;
                return Learned::Spoofed(owner);
            }
            _ => {}
        }
        self.drop_old(place, now);
        let before = self.remove(station).filter(|entry| !self.is_old(entry, now));
        let (learned, moves) = match before {
            None => (Learned::New, Moves::new(now)),
            Some(entry) if entry.place == place => (Learned::Refreshed, entry.moves),
            Some(Entry { place: from, mut moves, .. }) => {
                let flapping = moves.count(now) == self.limits.moves_per_second.saturating_add(1);
                self.counts.moves += 1;
                self.counts.flaps += u64::from(flapping);
                (Learned::Moved { from, flapping }, moves)
            }
        };
        self.make_room(place);
        self.reports += 1;
        self.by_age.entry(place).or_default().insert(self.reports, station);
        self.stations.insert(station, Entry { place, heard: now, report: self.reports, moves });
        learned
    }

    /// Notes a station of the bridged LAN behind our own device, at the price of one lookup while nothing
    /// changes. Called per frame, unlike [`Self::learn`], so it does what [`super::Learner`] does for peers.
    pub fn learn_local(&mut self, owners: &Owners, station: Station, now: Instant) -> Option<Learned> {
        match self.stations.get(&station) {
            Some(entry)
                if entry.place == Place::Local
                    && now.saturating_duration_since(entry.heard) < self.limits.report_after =>
            {
                None
            }
            _ => Some(self.learn(owners, station, Place::Local, now)),
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
    }
}

#[cfg(test)]
mod tests {
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
        Limits { stations_per_peer: 3, stations: 7, ..Limits::default() }
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
            let (limits, owners, mut now) = (small(), Owners::new(LOCAL), Instant::now());
            let mut table = Table::new(limits);
            let mut naive = Naive { limits, entries: Vec::new(), evicted: 0, moves: 0 };
            for step in steps {
                match step {
                    Step::Learn(n, slot) => {
                        table.learn(&owners, station(n), peer(slot), now);
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
        let (owners, now) = (Owners::new(LOCAL), Instant::now());
        let mut table = Table::new(Limits::default());
        let honest: Vec<Station> = (0..50).map(station).collect();
        for station in &honest {
            table.learn(&owners, *station, peer(1), now);
        }
        for n in 0..100_000u32 {
            let [_, a, b, c] = n.to_be_bytes();
            table.learn(&owners, Station { mac: MacAddr([6, 0, 0, a, b, c]), vlan: 0 }, peer(2), now);
        }
        assert!(honest.iter().all(|station| table.lookup(*station, now) == Some(peer(1))));
        assert_eq!(table.len(), 50 + Limits::default().stations_per_peer);
        assert_eq!(table.counts().evicted, 100_000 - Limits::default().stations_per_peer as u64);
    }

    #[test]
    fn flapping_is_said_once_a_second() {
        let (owners, begin) = (Owners::new(LOCAL), Instant::now());
        let mut table = Table::new(Limits::default());
        table.learn(&owners, station(1), peer(0), begin);
        let flaps = |table: &mut Table, from: u32| {
            let moves = (from..from + 20).map(|n| {
                let now = begin + Duration::from_millis(u64::from(n) * 50);
                table.learn(&owners, station(1), peer(1 + n % 2), now)
            });
            moves.filter(|learned| matches!(learned, Learned::Moved { flapping: true, .. })).count()
        };
        assert_eq!(flaps(&mut table, 0), 1);
        assert_eq!(flaps(&mut table, 20), 1);
        assert_eq!((table.counts().moves, table.counts().flaps), (40, 2));
    }

    #[test]
    fn an_owned_address_is_learned_nowhere_else() {
        let now = Instant::now();
        let mut owners = Owners::new(LOCAL);
        owners.assign(station(1).mac, PeerSlot(1)).unwrap();
        let mut table = Table::new(Limits::default());
        let spoofed = Learned::Spoofed(Owner::Member(PeerSlot(1)));
        assert_eq!(table.learn(&owners, station(1), peer(2), now), spoofed);
        assert_eq!(table.learn(&owners, Station { vlan: 7, ..station(1) }, Place::Local, now), spoofed);
        assert_eq!(
            table.learn(&owners, Station { mac: LOCAL, vlan: 0 }, peer(2), now),
            Learned::Spoofed(Owner::Local)
        );
        assert!(table.is_empty());
        assert_eq!(table.counts().spoofed, 3);
        assert_eq!(table.learn(&owners, station(1), peer(1), now), Learned::New);
    }

    #[test]
    fn a_local_station_is_noted_again_only_when_that_is_news() {
        let (owners, begin) = (Owners::new(LOCAL), Instant::now());
        let mut table = Table::new(Limits::default());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(table.learn_local(&owners, station(1), at(0)), Some(Learned::New));
        assert_eq!(table.learn_local(&owners, station(1), at(29)), None);
        assert_eq!(table.learn_local(&owners, station(1), at(30)), Some(Learned::Refreshed));
        table.learn(&owners, station(1), peer(1), at(31));
        let moved = Learned::Moved { from: peer(1), flapping: false };
        assert_eq!(table.learn_local(&owners, station(1), at(32)), Some(moved));
    }
}
