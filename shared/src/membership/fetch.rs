//! A blob that comes in parts, and one that goes out in parts (protocol §8.4).
//!
//! One window of parts is asked for at a time. When all of it has come the next is asked for at once; what was lost is asked for again
//! by time. So a blob of any size costs a round trip per 32 kB, and the asker decides how fast it comes.

use super::message::{PART_LEN, Part, WINDOW, Want};
use crate::crypto::{kdf, labels};
use crate::ids::BlobHash;
use std::time::{Duration, Instant};

/// What did not come is asked for again after this.
const REPEAT: Duration = Duration::from_secs(1);
/// Times in a row without anything new, after which something else is asked for first.
const TRIES: u32 = 5;

/// A blob on its way here.
#[derive(Debug)]
pub(super) struct Fetch {
    hash: BlobHash,
    /// Most bytes that it may have.
    max: usize,
    /// Known from the first part on: room for the whole, and which parts came.
    arrived: Option<(Vec<u8>, Vec<bool>)>,
    /// The parts that were asked for begin there.
    first: usize,
    repeat: Instant,
    tries: u32,
}

/// What a part brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing to do.
    Waiting,
    /// There is more to ask for.
    Ask(Want),
    /// All of it, and it is what was asked for.
    Done(Vec<u8>),
    /// The other side does not have it, or gave something else.
    Lacking,
    /// The other side does not answer.
    Silent,
}

impl Fetch {
    /// Asks for `hash`, of at most `max` bytes.
    pub(super) fn begin(now: Instant, hash: BlobHash, max: usize) -> (Self, Want) {
        let fetch = Self { hash, max, arrived: None, first: 0, repeat: now + REPEAT, tries: 0 };
        // Of how many parts it is, is not known yet: those beyond the end are not answered.
        let want = Want { hash, first: 0, missing: u32::MAX };
        (fetch, want)
    }

    pub(super) const fn hash(&self) -> BlobHash {
        self.hash
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) const fn repeat_at(&self) -> Instant {
        self.repeat
    }

    /// Time passed: what is missing still is asked for again, up to a point.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Progress {
        if now < self.repeat {
            return Progress::Waiting;
        }
        self.tries += 1;
        if self.tries > TRIES { Progress::Silent } else { Progress::Ask(self.want(now)) }
    }

    /// A part came. Of another blob, or one that does not fit the others, it is ignored.
    pub(super) fn on_part(&mut self, now: Instant, part: &Part) -> Progress {
        if part.hash != self.hash {
            return Progress::Waiting;
        }
        let total = part.total as usize;
        if total == 0 || total > self.max {
            return Progress::Lacking;
        }
        let (bytes, came) =
            self.arrived.get_or_insert_with(|| (vec![0; total], vec![false; total.div_ceil(PART_LEN)]));
        let number = usize::from(part.number);
        let (start, has_total) = (number * PART_LEN, bytes.len() == total);
        let place = bytes.get_mut(start..total.min(start + PART_LEN));
        let (Some(place), Some(flag)) = (place, came.get_mut(number)) else { return Progress::Waiting };
        if !has_total || *flag || place.len() != part.bytes.len() {
            return Progress::Waiting;
        }
        place.copy_from_slice(&part.bytes);
        *flag = true;
        self.tries = 0;
        if came.iter().all(|came| *came) {
            let is_it = kdf::sha256(&[labels::BLOB, bytes]) == self.hash.0;
            return if is_it { Progress::Done(std::mem::take(bytes)) } else { Progress::Lacking };
        }
        let is_window_done = came.iter().skip(self.first).take(WINDOW).all(|came| *came);
        if is_window_done { Progress::Ask(self.want(now)) } else { Progress::Waiting }
    }

    fn want(&mut self, now: Instant) -> Want {
        self.repeat = now + REPEAT;
        let came = self.arrived.as_ref().map_or(&[][..], |(_, came)| came);
        self.first = came.iter().position(|came| !came).unwrap_or(0);
        let missing = (0..WINDOW).filter(|bit| !came.get(self.first + bit).is_some_and(|came| *came));
        let missing = missing.fold(0, |bits, bit| bits | 1 << bit);
        Want { hash: self.hash, first: u16::try_from(self.first).unwrap_or(u16::MAX), missing }
    }
}

/// The parts of `blob` that `want` asks for; one that says so when there is none.
pub(super) fn parts(want: Want, blob: Option<&[u8]>) -> Vec<Part> {
    let hash = want.hash;
    let Some(blob) = blob else { return vec![Part { hash, total: 0, number: 0, bytes: Vec::new() }] };
    let total = u32::try_from(blob.len()).unwrap_or(u32::MAX);
    let chunks = blob.chunks(PART_LEN).enumerate().skip(want.first.into()).take(WINDOW);
    let asked = chunks.filter(|(at, _)| want.missing & 1 << (at - usize::from(want.first)) != 0);
    asked
        .filter_map(|(at, bytes)| {
            Some(Part { hash, total, number: u16::try_from(at).ok()?, bytes: bytes.to_vec() })
        })
        .collect()
}
