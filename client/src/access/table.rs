//! A table of fixed size that two threads read and write without a lock.
//!
//! ```text
//! key     64 bits   the fingerprint; 0 for an empty place
//! state   64 bits   beginning of the fingerprint 24 | state 8 | second in which it was last seen 32
//! ```
//!
//! Places come in sets of eight (two cache lines), and a fingerprint belongs to one set. **One thread inserts**; both look up, and may
//! change the state of what they found. A change is a compare-and-swap of the whole state word, which fails when the place was given
//! to another flow in between, since the word names its owner; so does a look-up that falls into that moment. Nothing is done then:
//! the packet in hand is judged as if the flow were gone, which it is.
//!
//! # Who gives way
//!
//! Nothing is removed by a timer; what is too old is not found. A new flow takes, of its set, an empty place or one that is too old;
//! else the one that matters least ([`State::rank`]) and among those the one that was seen longest ago, or any of them where that is
//! the same second. So connections that are over give way first, then marks about connections of the peer, then what was not answered,
//! and connections that are open last: they may be silent for long, and only they miss it much.

use super::limits;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

/// Places of a set.
const WAYS: usize = 8;

/// What is known of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// TCP: a SYN went out.
    TcpOpening = 1,
    /// TCP: it was picked up while it was open, and the peer has not spoken since.
    TcpResumed = 2,
    /// TCP: it is open, and was begun from here.
    TcpOpen = 3,
    /// TCP: a side has ended it.
    TcpClosing = 4,
    /// TCP: it was reset.
    TcpClosed = 5,
    /// TCP: the peer began it, so nothing passes for its sake.
    TcpTheirs = 6,
    /// UDP went out.
    UdpAsked = 7,
    /// UDP came back.
    UdpAnswered = 8,
    /// An echo request went out.
    Echo = 9,
    /// Another protocol went out.
    Other = 10,
    /// A first fragment came in and passed.
    Fragment = 11,
}

impl State {
    const ALL: [Self; 11] = [
        Self::TcpOpening,
        Self::TcpResumed,
        Self::TcpOpen,
        Self::TcpClosing,
        Self::TcpClosed,
        Self::TcpTheirs,
        Self::UdpAsked,
        Self::UdpAnswered,
        Self::Echo,
        Self::Other,
        Self::Fragment,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }

    /// How long it is remembered without a packet.
    pub(super) const fn life(self) -> Duration {
        match self {
            Self::TcpOpening => limits::TCP_OPENING,
            Self::TcpResumed => limits::TCP_RESUMED,
            Self::TcpOpen | Self::TcpTheirs => limits::TCP_OPEN,
            Self::TcpClosing => limits::TCP_CLOSING,
            Self::TcpClosed => limits::TCP_CLOSED,
            Self::UdpAsked => limits::UDP_ASKED,
            Self::UdpAnswered => limits::UDP_ANSWERED,
            Self::Echo => limits::ECHO,
            Self::Other => limits::OTHER,
            Self::Fragment => limits::FRAGMENT_LIFE,
        }
    }

    /// How much it matters.
    const fn rank(self) -> u8 {
        match self {
            Self::TcpClosed | Self::TcpClosing => 0,
            Self::TcpTheirs => 1,
            Self::TcpOpening | Self::UdpAsked | Self::Echo | Self::Fragment => 2,
            Self::TcpResumed | Self::UdpAnswered | Self::Other => 3,
            Self::TcpOpen => 4,
        }
    }
}

/// The state word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const OWNER: u64 = 0xffff_ff00_0000_0000;

    const fn new(key: u64, state: State, seen: u32) -> Self {
        Self((key & Self::OWNER) | (state as u64) << 32 | seen as u64)
    }

    const fn is_of(self, key: u64) -> bool {
        self.0 & Self::OWNER == key & Self::OWNER
    }

    fn state(self) -> Option<State> {
        let [_, _, _, byte, ..] = self.0.to_be_bytes();
        State::from_byte(byte)
    }

    const fn seen(self) -> u32 {
        self.0 as u32
    }

    /// What it says at `second`, unless it is too old.
    fn live(self, second: u32) -> Option<State> {
        let state = self.state()?;
        // The threads' clocks are one, but each reads it for itself: what is seen may be a moment ahead.
        let age = second.saturating_sub(self.seen());
        (u64::from(age) <= state.life().as_secs()).then_some(state)
    }
}

#[derive(Debug, Default)]
struct Place {
    key: AtomicU64,
    word: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([Place; WAYS]);

/// See the module page.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Set]>,
}

/// A flow that was found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    place: &'a Place,
    key: u64,
    word: Word,
    pub(super) state: State,
}

impl Found<'_> {
    /// It was seen in this state. Costs nothing when nothing changes, which is so for all packets of a second but the first.
    pub(super) fn see(&self, second: u32, state: State) {
        let word = Word::new(self.key, state, second.max(self.word.seen()));
        if word != self.word {
            // Failing means that the other thread changed it just now: what it says is as new.
            let _ = self.place.word.compare_exchange(self.word.0, word.0, Release, Relaxed);
        }
    }
}

impl Table {
    /// An empty table of at least `places`.
    pub(super) fn new(places: usize) -> Self {
        let sets = places.div_ceil(WAYS).next_power_of_two();
        Self { sets: std::iter::repeat_with(Set::default).take(sets).collect() }
    }

    /// The flow with this fingerprint, unless it is too old.
    pub(super) fn find(&self, fingerprint: u64, second: u32) -> Option<Found<'_>> {
        let key = key(fingerprint);
        let place = self.set(key)?.0.iter().find(|place| place.key.load(Acquire) == key)?;
        let word = Word(place.word.load(Acquire));
        let state = word.live(second).filter(|_| word.is_of(key))?;
        Some(Found { place, key, word, state })
    }

    /// Remembers a flow, in the place that it has already or in that of another. Only one thread calls this. `false` when all that it
    /// could push out matters more than `state` lets it: see [`State::TcpTheirs`].
    pub(super) fn insert(&self, fingerprint: u64, second: u32, state: State) -> bool {
        let key = key(fingerprint);
        let Some(set) = self.set(key) else { return false };
        let word = Word::new(key, state, second).0;
        if let Some(place) = set.0.iter().find(|place| place.key.load(Relaxed) == key) {
            place.word.store(word, Release);
            return true;
        }
        let cost = |place: &&Place| {
            let word = Word(place.word.load(Relaxed));
            let live = word.live(second).filter(|_| place.key.load(Relaxed) != 0);
            live.map(|state| (state.rank(), word.seen()))
        };
        let (behind, ahead) = set.0.split_at(key as usize >> 32 & (WAYS - 1));
        let Some(place) = ahead.iter().chain(behind).min_by_key(cost) else { return false };
        // A mark about the peer's own connection is worth no flow of ours.
        if state == State::TcpTheirs && cost(&place).is_some_and(|(rank, _)| rank > State::TcpTheirs.rank()) {
            return false;
        }
        // Nobody finds the old flow from here on, nor the new one before its state is there.
        place.key.store(0, Release);
        place.word.store(word, Release);
        place.key.store(key, Release);
        true
    }

    fn set(&self, key: u64) -> Option<&Set> {
        // The lowest bits, while the word repeats the highest.
        let mask = self.sets.len().wrapping_sub(1);
        self.sets.get(key as usize & mask)
    }
}

/// A fingerprint that is not taken for an empty place.
const fn key(fingerprint: u64) -> u64 {
    if fingerprint == 0 { 1 } else { fingerprint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_state_is_a_byte() {
        for state in State::ALL {
            assert_eq!(State::from_byte(state as u8), Some(state));
            assert_eq!(Word::new(7, state, 9).state(), Some(state));
        }
        assert_eq!((State::from_byte(0), State::from_byte(12)), (None, None));
    }

    #[test]
    fn a_full_set_gives_up_what_matters_least_and_then_what_is_oldest() {
        use State::{TcpClosing, TcpOpen, TcpTheirs, UdpAnswered, UdpAsked};
        // One set, so that all meet there.
        let table = Table::new(WAYS);
        let is_there = |key: u64| table.find(key << 40, 50).is_some();
        let states = [TcpOpen, TcpClosing, TcpTheirs, UdpAsked, UdpAnswered, TcpOpen, TcpOpen, TcpOpen];
        for (key, state) in (1..).zip(states) {
            assert!(table.insert(key << 40, 20 + u32::try_from(key).unwrap(), state));
        }
        assert!((1..=8).all(is_there));
        for (new, gone) in [(9, 2), (10, 3), (11, 4), (12, 5), (13, 1), (14, 6)] {
            assert!(is_there(gone));
            assert!(table.insert(new << 40, 50, TcpOpen));
            assert!(is_there(new) && !is_there(gone), "{new} for {gone}");
        }
        assert!(!table.insert(15 << 40, 50, TcpTheirs), "no room for a mark");
        assert!(table.insert(16 << 40, 50, UdpAsked) && !is_there(7));
        // What is too old is as good as an empty place, whatever it was.
        let late = 50 + u32::try_from(limits::TCP_OPEN.as_secs()).unwrap() + 1;
        assert!(table.insert(17 << 40, late, TcpTheirs) && table.find(17 << 40, late).is_some());
        assert!(table.find(14 << 40, late).is_none());
    }

    #[test]
    fn any_fingerprint_is_one_of_a_flow() {
        let table = Table::new(WAYS);
        assert!(
            [0, 1, u64::MAX].iter().all(|key| table.find(*key, 1).is_none()),
            "an empty place is nobody's"
        );
        for key in [0, u64::MAX, 2 << 40, 3 << 40, 4 << 40, 5 << 40, 6 << 40, 7 << 40] {
            assert!(table.insert(key, 1, State::Echo) && table.find(key, 1).is_some());
        }
        assert!(table.find(0, 1).is_some(), "its place is not empty");
    }

    #[test]
    fn a_clock_that_is_behind_makes_nothing_older() {
        let table = Table::new(WAYS);
        assert!(table.insert(7, 100, State::UdpAsked));
        table.find(7, 98).unwrap().see(98, State::UdpAnswered);
        let end = 100 + u32::try_from(limits::UDP_ANSWERED.as_secs()).unwrap();
        assert!(table.find(7, end).is_some() && table.find(7, end + 1).is_none());
    }

    #[test]
    fn a_change_fails_once_the_place_is_anothers() {
        let table = Table::new(WAYS);
        assert!(table.insert(1 << 40, 1, State::UdpAsked));
        let found = table.find(1 << 40, 1).unwrap();
        for key in 2..=9 {
            assert!(table.insert(key << 40, 2, State::TcpOpen));
        }
        found.see(9, State::UdpAnswered);
        for key in 2..=9 {
            assert_eq!(table.find(key << 40, 9).map(|found| found.state), Some(State::TcpOpen), "{key}");
        }
    }

    proptest! {
        #[test]
        fn what_was_inserted_last_is_found_and_nothing_that_never_was(keys in prop::collection::vec(any::<u64>(), 1..300), stranger: u64) {
            let table = Table::new(64);
            for key in &keys {
                prop_assert!(table.insert(*key, 5, State::UdpAsked));
                prop_assert_eq!(table.find(*key, 5).map(|found| found.state), Some(State::UdpAsked));
            }
            prop_assume!(!keys.contains(&stranger) && stranger > 1);
            prop_assert!(table.find(stranger, 5).is_none());
            prop_assert!(keys.iter().filter(|key| table.find(**key, 5).is_some()).count() <= 64 + keys.len() / 2);
        }
    }
}
