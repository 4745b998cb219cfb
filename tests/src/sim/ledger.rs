//! Every frame that was ever offered, and what became of it.
//!
//! A frame names who sent it (one life of one node), for whom (an identity, which survives a restart), and a number; the
//! rest is filler derived from these. So whatever comes out of a tunnel can be judged by itself: at the right place, from
//! the right peer, uncorrupted, for the first time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// One life of a node: a process from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Life(pub(super) u16);

/// A node's key, whatever process holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity(pub(super) u16);

/// The name of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FrameId {
    pub(super) from: Life,
    pub(super) to: Identity,
    pub(super) number: u32,
}

/// Shortest frame, bytes: what its name needs.
pub(super) const SHORTEST: usize = 60;

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// In a queue, in a ring or on its way.
    UnderWay,
    /// Came out where it should.
    Delivered,
    /// Its process was killed.
    Killed,
    /// The process that it was for ended before it came out, or it was said while nobody was there.
    Unheard,
}

/// Frames of one direction of one pair.
#[derive(Debug, Default)]
struct Flow {
    fates: Vec<Fate>,
    delivered: u64,
    newest: Option<u32>,
    reordered: u64,
}

/// The book.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    flows: BTreeMap<(Life, Identity), Flow>,
    owners: BTreeMap<Life, Identity>,
    /// Who sends to whom under a key, by its receiver index.
    keys: BTreeMap<u32, (Life, Identity)>,
    /// Keys that their receivers let go of before they knew that they were in use.
    forsaken: BTreeSet<u32>,
    /// The process that has a key now, and the one that what somebody seals for it is for.
    lives: BTreeMap<Identity, Life>,
    readers: BTreeMap<(Life, Identity), Life>,
}

/// Sums over all flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) offered: u64,
    pub(super) delivered: u64,
    pub(super) killed: u64,
    pub(super) missing: u64,
    /// Delivered after a later one.
    pub(super) reordered: u64,
}

impl Ledger {
    /// A process with the key `identity` starts.
    pub(super) fn begin_life(&mut self, identity: Identity) -> Life {
        let life = Life(u16::try_from(self.owners.len()).unwrap_or(u16::MAX));
        self.owners.insert(life, identity);
        self.lives.insert(identity, life);
        life
    }

    /// A process ends: what it had not delivered it may never deliver.
    pub(super) fn end_life(&mut self, life: Life) {
        for (_, flow) in self.flows.iter_mut().filter(|((from, _), _)| *from == life) {
            for fate in flow.fates.iter_mut().filter(|fate| **fate == Fate::UnderWay) {
                *fate = Fate::Killed;
            }
        }
    }

    /// Frames addressed to a key that is gone for good are nobody's loss.
    pub(super) fn end_identity(&mut self, identity: Identity) {
        for (_, flow) in self.flows.iter_mut().filter(|((_, to), _)| *to == identity) {
            for fate in flow.fates.iter_mut().filter(|fate| **fate == Fate::UnderWay) {
                *fate = Fate::Killed;
            }
        }
    }

    /// What `from` sends to `to` carries this receiver index from now on.
    pub(super) fn name_key(&mut self, index: u32, from: Life, to: Identity) {
        self.keys.insert(index, (from, to));
        let Some(reader) = self.lives.get(&to).copied() else { return };
        if self.readers.insert((from, to), reader).is_some_and(|before| before != reader) {
            // What had not come out went down with the process before, or was said while there was none.
            for fate in self.flows.get_mut(&(from, to)).into_iter().flat_map(|flow| &mut flow.fates) {
                if *fate == Fate::UnderWay {
                    *fate = Fate::Unheard;
                }
            }
        }
    }

    /// Its receiver lets go of a key before anything opened under it: its sender may have been confirmed and not know (protocol §4.7).
    pub(super) fn forsake(&mut self, index: u32) {
        self.forsaken.insert(index);
    }

    /// Whether its receiver let go of a key before anything opened under it.
    pub(super) fn is_forsaken(&self, index: u32) -> bool {
        self.forsaken.contains(&index)
    }

    /// Who sends to whom under this receiver index.
    pub(super) fn direction(&self, index: u32) -> Option<(Life, Identity)> {
        self.keys.get(&index).copied()
    }

    /// Makes a frame of `len` bytes (at least [`SHORTEST`]).
    pub(super) fn offer(&mut self, from: Life, to: Identity, len: usize) -> Vec<u8> {
        let flow = self.flows.entry((from, to)).or_default();
        let number = u32::try_from(flow.fates.len()).unwrap_or(u32::MAX);
        flow.fates.push(Fate::UnderWay);
        bytes_of(FrameId { from, to, number }, len.max(SHORTEST))
    }

    /// A frame came out at a node with the key `at`, from the peer with the key `from`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn deliver(&mut self, at: Identity, from: Identity, bytes: &[u8]) -> Result<FrameId, String> {
        let id = name_in(bytes).ok_or_else(|| format!("a corrupted frame at {at:?} from {from:?}"))?;
        if bytes_of(id, bytes.len()) != bytes {
            return Err(format!("a corrupted frame at {at:?}: {id:?}"));
        }
        if id.to != at {
            return Err(format!("a frame for another node at {at:?}: {id:?}"));
        }
        if self.owners.get(&id.from) != Some(&from) {
            return Err(format!("a frame at {at:?} under the session with {from:?}: {id:?}"));
        }
        let flow = self.flows.get_mut(&(id.from, id.to));
        let fate = flow.and_then(|flow| {
            flow.delivered += 1;
            flow.reordered += u64::from(flow.newest.is_some_and(|newest| newest > id.number));
            flow.newest = flow.newest.max(Some(id.number));
            flow.fates.get_mut(id.number as usize)
        });
        match fate {
            Some(fate @ (Fate::UnderWay | Fate::Killed | Fate::Unheard)) => *fate = Fate::Delivered,
            Some(fate) => return Err(format!("{id:?} came out though {fate:?}")),
            None => return Err(format!("{id:?} was never offered")),
        }
        Ok(id)
    }

    /// Frames of `from` for `to`.
    pub(super) fn offered(&self, from: Life, to: Identity) -> usize {
        self.flows.get(&(from, to)).map_or(0, |flow| flow.fates.len())
    }

    /// The numbers of those that neither came out nor are accounted for.
    pub(super) fn missing_of(&self, from: Life, to: Identity) -> Vec<usize> {
        let fates = self.flows.get(&(from, to)).into_iter().flat_map(|flow| flow.fates.iter().enumerate());
        let is_missing = |fate: Fate| matches!(fate, Fate::UnderWay | Fate::Unheard);
        fates.filter(|(_, fate)| is_missing(**fate)).map(|(number, _)| number).collect()
    }

    /// Frames of `from` for `to` that came out.
    pub(super) fn delivered(&self, from: Life, to: Identity) -> u64 {
        self.flows.get(&(from, to)).map_or(0, |flow| flow.delivered)
    }

    /// Frames of `from` for `to` that came out after later ones.
    pub(super) fn reordered(&self, from: Life, to: Identity) -> u64 {
        self.flows.get(&(from, to)).map_or(0, |flow| flow.reordered)
    }

    /// Frames neither delivered nor accounted for, with the first of each flow.
    pub(super) fn missing(&self) -> Vec<(FrameId, u64)> {
        let mut missing = vec![];
        for ((from, to), flow) in &self.flows {
            let mut numbers =
                flow.fates.iter().enumerate().filter(|(_, fate)| **fate == Fate::UnderWay).map(|(at, _)| at);
            if let Some(first) = numbers.next() {
                let number = u32::try_from(first).unwrap_or(u32::MAX);
                missing.push((FrameId { from: *from, to: *to, number }, 1 + numbers.count() as u64));
            }
        }
        missing
    }

    /// Sums.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for fate in self.flows.values().flat_map(|flow| &flow.fates) {
            totals.offered += 1;
            *match fate {
                Fate::UnderWay => &mut totals.missing,
                Fate::Delivered => &mut totals.delivered,
                Fate::Killed | Fate::Unheard => &mut totals.killed,
            } += 1;
        }
        totals.reordered = self.flows.values().map(|flow| flow.reordered).sum();
        totals
    }
}

/// How long nothing came out, in any of a few directions, while somebody listened.
#[derive(Debug, Default)]
pub(super) struct Silences {
    /// When something came out last, or somebody began to listen.
    last: BTreeMap<(Life, Identity), Instant>,
    heard: BTreeSet<(Life, Identity)>,
    longest: Duration,
    /// When something came out last, whether or not anybody listened.
    before: BTreeMap<(Life, Identity), Instant>,
    /// The longest from one to the next of which the latter came out while somebody listened.
    between: BTreeMap<(Life, Identity), Duration>,
}

impl Silences {
    /// Somebody begins to listen.
    pub(super) fn begin(&mut self, now: Instant, directions: impl Iterator<Item = (Life, Identity)>) {
        *self = Self { before: std::mem::take(&mut self.before), ..Self::default() };
        self.last.extend(directions.map(|direction| (direction, now)));
    }

    /// A frame came out.
    pub(super) fn on_delivered(&mut self, now: Instant, id: FrameId) {
        let direction = (id.from, id.to);
        if let Some(last) = self.last.get_mut(&direction) {
            self.longest = self.longest.max(now.saturating_duration_since(*last));
            *last = now;
            self.heard.insert(direction);
        }
        if let Some(before) = self.before.insert(direction, now) {
            let longest = self.between.entry(direction).or_default();
            *longest = now.saturating_duration_since(before).max(*longest);
        }
    }

    /// The longest of all, up to now.
    pub(super) fn longest(&self, now: Instant) -> Duration {
        let open = self.last.values().map(|last| now.saturating_duration_since(*last));
        open.max().unwrap_or_default().max(self.longest)
    }

    /// The longest of one direction that ended, from when something came out before.
    pub(super) fn longest_of(&self, direction: (Life, Identity)) -> Duration {
        self.between.get(&direction).copied().unwrap_or_default()
    }

    /// Whether something came out in every direction since.
    pub(super) fn all_heard(&self) -> bool {
        self.heard.len() == self.last.len()
    }
}

fn bytes_of(id: FrameId, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&id.from.0.to_be_bytes());
    bytes.extend_from_slice(&id.to.0.to_be_bytes());
    bytes.extend_from_slice(&id.number.to_be_bytes());
    let mut filler = id.number.wrapping_mul(0x9e37_79b9) ^ u32::from(id.from.0) << 16 ^ u32::from(id.to.0);
    while bytes.len() < len {
        filler = filler.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.push((filler >> 24) as u8);
    }
    bytes.truncate(len);
    bytes
}

fn name_in(bytes: &[u8]) -> Option<FrameId> {
    let (name, _) = bytes.split_first_chunk::<8>()?;
    let [a, b, c, d, e, f, g, h] = *name;
    Some(FrameId {
        from: Life(u16::from_be_bytes([a, b])),
        to: Identity(u16::from_be_bytes([c, d])),
        number: u32::from_be_bytes([e, f, g, h]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_notices_a_second_copy_damage_and_a_wrong_place() {
        let mut ledger = Ledger::default();
        let (a, b, c) = (Identity(0), Identity(1), Identity(2));
        let life = ledger.begin_life(a);
        let frame = ledger.offer(life, b, 100);
        assert!(ledger.deliver(c, a, &frame).is_err(), "another node");
        assert!(ledger.deliver(b, c, &frame).is_err(), "another peer's session");
        let mut damaged = frame.clone();
        damaged[99] ^= 1;
        assert!(ledger.deliver(b, a, &damaged).is_err(), "damage");
        assert_eq!((ledger.missing().len(), ledger.missing_of(life, b)), (1, vec![0]));
        ledger.deliver(b, a, &frame).unwrap();
        assert!(ledger.deliver(b, a, &frame).is_err(), "a second copy");
        assert!(ledger.missing().is_empty());
        assert_eq!(ledger.totals().delivered, 1);
    }

    #[test]
    fn what_was_said_before_a_new_process_had_a_key_is_its_own_downtime_and_nothing_after() {
        let mut ledger = Ledger::default();
        let (a, b) = (Identity(0), Identity(1));
        let (life, _) = (ledger.begin_life(a), ledger.begin_life(b));
        ledger.name_key(1, life, b);
        ledger.offer(life, b, 60);
        ledger.name_key(2, life, b);
        assert_eq!(ledger.missing().len(), 1, "another key of the same process excuses nothing");
        ledger.begin_life(b);
        let late = ledger.offer(life, b, 60);
        ledger.name_key(3, life, b);
        assert_eq!((ledger.missing().len(), ledger.missing_of(life, b)), (0, vec![0, 1]));
        ledger.deliver(b, a, &late).unwrap();
        ledger.offer(life, b, 60);
        assert_eq!((ledger.missing().len(), ledger.missing_of(life, b)), (1, vec![0, 2]));
    }

    #[test]
    fn what_went_down_with_its_process_is_accounted_for_and_order_is_watched() {
        let mut ledger = Ledger::default();
        let life = ledger.begin_life(Identity(0));
        let frames: Vec<_> = (0..3).map(|_| ledger.offer(life, Identity(1), 60)).collect();
        ledger.deliver(Identity(1), Identity(0), &frames[1]).unwrap();
        ledger.deliver(Identity(1), Identity(0), &frames[0]).unwrap();
        ledger.end_life(life);
        assert!(ledger.missing().is_empty());
        let totals = ledger.totals();
        assert_eq!((totals.delivered, totals.killed, totals.reordered), (2, 1, 1));
    }
}
