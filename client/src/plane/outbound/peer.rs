//! What the outbound thread keeps of one peer: the sealing half, how far its packets were handed over, and what waits.
//!
//! # Order
//!
//! `cursor` is the one rule: below it everything was handed to the stream in use, above it nothing was. A new packet goes to
//! the stream at once only when it is the one at the cursor; else it waits in the ring until [`Peer::pump`] comes to it.
//! So what is sent again after a path was bound anew is never overtaken by what is new.
//!
//! # Time
//!
//! Without a path, packets are kept in the ring for [`HOLD`] and then given up and counted as lost: longer, and what arrives
//! would be news of the past. The age of a packet is known to [`GRAIN`]: a mark per grain, not a time per packet.

use super::batches::Batches;
use super::{HOLD, PATH};
use crate::plane::snapshot::{PeerCounters, PeerRoute, Snapshot, add};
use shadowmesh_proto::endpoint::event::Contact;
use shadowmesh_proto::session::{SealError, SealHalf, SealKey};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Frames that wait for a peer's first key (protocol §4.7): a burst of ARP and the first segments of a few connections.
pub(super) const WAITING_FRAMES: usize = 64;
/// Bytes that wait for keys, over all peers: a relay that names thousands of peers which never answer must not cost a frame
/// of every broadcast for each of them.
pub(super) const WAITING_BYTES: usize = 4 << 20;
/// How exactly the age of a packet in the ring is known.
const GRAIN: Duration = Duration::from_millis(250);
/// A key that is used up is asked for this often: the rekey that it causes is repeated each second by itself.
const ASK_KEY_EVERY: Duration = Duration::from_secs(1);

/// What a peer needs of the thread while it sends.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) snapshot: &'a Snapshot,
    pub(super) batches: &'a mut Batches,
    /// Bytes that wait for keys, over all peers.
    pub(super) waiting_bytes: &'a mut usize,
}

/// A peer, as the outbound thread sees it.
#[derive(Debug, Default)]
pub(super) struct Peer {
    half: Option<SealHalf>,
    /// Below: handed to the stream in use.
    cursor: u64,
    /// From here on: never handed to any stream.
    fresh: u64,
    waiting: VecDeque<Waiting>,
    ages: Ages,
    /// Where its packets go, while there is a stream.
    contact: Option<Contact>,
    /// Since when they go nowhere; `None` while they go somewhere, and before anything is known.
    pathless: Option<Instant>,
    /// Whether what is behind it was forgotten since.
    is_forgotten: bool,
    /// Whether it is in the thread's list of those with packets under way.
    pub(super) is_active: bool,
    /// When `DataSent` was last told, and whether something was sent since.
    pub(super) told: Option<Instant>,
    pub(super) is_untold: bool,
    asked_for_key: Option<Instant>,
    lost_seen: u64,
}

/// A frame that waits for a key: metadata byte and frame.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    plaintext: Vec<u8>,
}

/// When packets were sealed: a mark is the first counter of a grain.
#[derive(Debug, Default)]
struct Ages {
    marks: VecDeque<(Instant, u64)>,
    /// Every counter below was sealed longer ago than [`HOLD`].
    floor: u64,
}

impl Ages {
    fn on_sealed(&mut self, now: Instant, counter: u64) {
        if self.marks.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= GRAIN) {
            self.marks.push_back((now, counter));
            self.advance(now, counter);
        }
    }

    /// The counter below which everything is too old. `next` is the one to be sealed next.
    fn advance(&mut self, now: Instant, next: u64) -> u64 {
        while let Some((at, _)) = self.marks.front()
            && now.saturating_duration_since(*at) >= HOLD + GRAIN
        {
            self.marks.pop_front();
            self.floor = self.marks.front().map_or(next, |(_, counter)| *counter);
        }
        self.floor
    }

    /// When nothing is young any more.
    fn ends_at(&self) -> Option<Instant> {
        self.marks.back().map(|(at, _)| *at + HOLD + GRAIN)
    }
}

/// What became of a frame for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is in a message for the stream.
    HandedOver,
    /// It is in the ring, or waits for a key.
    Kept,
    /// It was dropped and counted.
    Dropped,
    /// It waits, and a key is to be asked for.
    KeyWanted,
}

/// What came of handing over what waited.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pumped {
    /// Something was handed over.
    pub(super) is_sent: bool,
    /// Something is left, because the stream is full.
    pub(super) is_stopped: bool,
}

impl Peer {
    /// A new association: counters and ring start anew.
    pub(super) fn start(
        &mut self,
        now: Instant,
        mut half: SealHalf,
        key: SealKey,
        counters: Option<&PeerCounters>,
    ) {
        half.install(now, key);
        let old = self.half.replace(half);
        if let (Some(old), Some(counters)) = (old, counters) {
            // Nobody opens what the old association sealed: what the peer has not acknowledged may be missing there.
            let stats = old.stats().ring;
            add(&counters.lost, stats.lost.saturating_sub(self.lost_seen) + stats.held as u64);
        }
        self.lost_seen = 0;
        self.cursor = 0;
        self.fresh = 0;
        self.ages = Ages::default();
        self.asked_for_key = None;
    }

    /// The next key of the association.
    pub(super) fn add_key(&mut self, now: Instant, key: SealKey) {
        if let Some(half) = &mut self.half {
            half.install(now, key);
            self.asked_for_key = None;
        }
    }

    /// The path was bound anew: everything that is not acknowledged goes out once more.
    pub(super) const fn resend(&mut self) {
        self.cursor = 0;
    }

    /// The picture changed.
    pub(super) fn on_route(&mut self, now: Instant, contact: Option<Contact>) {
        self.contact = contact;
        if contact.is_some() {
            self.pathless = None;
            self.is_forgotten = false;
        } else {
            self.pathless.get_or_insert(now);
        }
    }

    /// Seals a frame (metadata byte first) and hands it over, or keeps it.
    pub(super) fn send(&mut self, ctx: &mut Context<'_>, route: &PeerRoute, plaintext: &[u8]) -> Sent {
        let (now, counters) = (ctx.now, &*route.counters);
        // Gone for long, and nobody says that it will be back: nothing is kept for it.
        let is_held = self.pathless.is_none_or(|since| now.saturating_duration_since(since) < HOLD);
        let is_kept = route.is_expected || (is_held && self.half.is_some());
        if self.contact.is_none() && !is_kept {
            add(&counters.tx_dropped, 1);
            return Sent::Dropped;
        }
        let Some(half) = &mut self.half else {
            return self.keep(now, counters, plaintext, ctx.waiting_bytes);
        };
        if !self.waiting.is_empty() {
            // Behind those that could not be sealed either.
            return self.keep_for_key(now, counters, plaintext, ctx.waiting_bytes);
        }
        match half.seal_prefixed(now, PATH, plaintext) {
            Ok(sealed) => {
                counters.count_tx(plaintext.len() - 1);
                self.ages.on_sealed(now, sealed.counter);
                if let Some(contact) = self.contact
                    && self.cursor == sealed.counter
                    && ctx.batches.push(ctx.snapshot, contact, sealed.packet)
                {
                    self.cursor = sealed.counter + 1;
                    self.fresh = self.cursor;
                    Sent::HandedOver
                } else {
                    Sent::Kept
                }
            }
            Err(SealError::NoKey | SealError::Expired | SealError::Exhausted) => {
                self.keep_for_key(now, counters, plaintext, ctx.waiting_bytes)
            }
            Err(error @ (SealError::TooLarge | SealError::NoMetadata)) => {
                add(&counters.tx_dropped, 1);
                tracing::debug!(%error, bytes = plaintext.len(), "a frame was not sealed");
                Sent::Dropped
            }
        }
    }

    /// Keeps a frame until there is a key.
    fn keep(
        &mut self,
        now: Instant,
        counters: &PeerCounters,
        plaintext: &[u8],
        waiting_bytes: &mut usize,
    ) -> Sent {
        while let Some(oldest) = self.waiting.front()
            && (self.waiting.len() >= WAITING_FRAMES || now.saturating_duration_since(oldest.since) >= HOLD)
        {
            self.drop_oldest(counters, waiting_bytes);
        }
        if *waiting_bytes + plaintext.len() > WAITING_BYTES {
            add(&counters.tx_dropped, 1);
            return Sent::Dropped;
        }
        *waiting_bytes += plaintext.len();
        self.waiting.push_back(Waiting { since: now, plaintext: plaintext.to_vec() });
        Sent::Kept
    }

    /// Keeps a frame that the key in place does not seal.
    fn keep_for_key(
        &mut self,
        now: Instant,
        counters: &PeerCounters,
        plaintext: &[u8],
        waiting_bytes: &mut usize,
    ) -> Sent {
        match self.keep(now, counters, plaintext, waiting_bytes) {
            Sent::Dropped => Sent::Dropped,
            Sent::Kept | Sent::HandedOver | Sent::KeyWanted => Sent::KeyWanted,
        }
    }

    fn drop_oldest(&mut self, counters: &PeerCounters, waiting_bytes: &mut usize) {
        if let Some(dropped) = self.waiting.pop_front() {
            *waiting_bytes -= dropped.plaintext.len();
            add(&counters.tx_dropped, 1);
        }
    }

    /// Seals what waited for a key and is not too old; it is handed over by [`Self::pump`].
    fn seal_waiting(&mut self, now: Instant, counters: &PeerCounters, waiting_bytes: &mut usize) {
        let Some(half) = &mut self.half else { return };
        while let Some(first) = self.waiting.front() {
            let len = first.plaintext.len();
            if now.saturating_duration_since(first.since) >= HOLD {
                add(&counters.tx_dropped, 1);
            } else {
                match half.seal_prefixed(now, PATH, &first.plaintext) {
                    Ok(sealed) => {
                        counters.count_tx(len - 1);
                        self.ages.on_sealed(now, sealed.counter);
                    }
                    Err(SealError::NoKey | SealError::Expired | SealError::Exhausted) => return,
                    Err(SealError::TooLarge | SealError::NoMetadata) => add(&counters.tx_dropped, 1),
                }
            }
            *waiting_bytes -= len;
            self.waiting.pop_front();
        }
    }

    /// Seals what waited for a key, and hands over what waits in the ring, as far as the stream has room: what was sent before and has to be again, and
    /// behind it what was sealed since.
    pub(super) fn pump(&mut self, ctx: &mut Context<'_>, route: &PeerRoute) -> Pumped {
        let (now, snapshot, counters) = (ctx.now, ctx.snapshot, &*route.counters);
        self.seal_waiting(now, counters, ctx.waiting_bytes);
        let Some(half) = &mut self.half else { return Pumped::default() };
        let next = half.next_counter();
        if self.cursor >= next {
            return Pumped::default();
        }
        let Some(contact) = self.contact else { return Pumped::default() };
        let Some(stream) = snapshot.stream(contact) else { return Pumped::default() };
        let too_old = self.ages.advance(now, next);
        if self.cursor < too_old {
            half.give_up_below(too_old);
            self.cursor = too_old;
        }
        let (mut stopped, mut is_sent) = (None, false);
        for sealed in half.resend(now, PATH, PATH, self.cursor..next) {
            if !stream.has_room() || !ctx.batches.push(snapshot, contact, sealed.packet) {
                stopped = Some(sealed.counter);
                break;
            }
            is_sent = true;
            if sealed.counter < self.fresh {
                add(&counters.resent, 1);
            }
        }
        self.cursor = stopped.unwrap_or(next);
        self.fresh = self.fresh.max(self.cursor);
        self.count_lost(counters);
        Pumped { is_sent, is_stopped: stopped.is_some() }
    }

    /// When [`Self::hold_over`] has something to do: only while there is no path.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let since = self.pathless?;
        let forget = (!self.is_forgotten && self.half.is_some()).then_some(since + HOLD);
        let waiting = self.waiting.front().map(|oldest| oldest.since + HOLD);
        [forget, waiting, self.ages.ends_at()].into_iter().flatten().min()
    }

    /// Gives up what was kept for too long without a path. `true` when the peer has been away for so long that what is
    /// behind it is to be forgotten: said once per absence.
    pub(super) fn hold_over(
        &mut self,
        now: Instant,
        counters: &PeerCounters,
        waiting_bytes: &mut usize,
    ) -> bool {
        let Some(since) = self.pathless else { return false };
        while let Some(oldest) = self.waiting.front()
            && now.saturating_duration_since(oldest.since) >= HOLD
        {
            self.drop_oldest(counters, waiting_bytes);
        }
        if let Some(half) = &mut self.half {
            let too_old = self.ages.advance(now, half.next_counter());
            half.give_up_below(too_old);
            self.cursor = self.cursor.max(too_old);
            if self.ages.marks.is_empty() {
                half.shrink();
            }
            self.count_lost(counters);
        }
        now.saturating_duration_since(since) >= HOLD && !std::mem::replace(&mut self.is_forgotten, true)
    }

    /// Whether to ask for a key now.
    pub(super) fn may_ask_for_key(&mut self, now: Instant) -> bool {
        let may = self.asked_for_key.is_none_or(|last| now.saturating_duration_since(last) >= ASK_KEY_EVERY);
        if may {
            self.asked_for_key = Some(now);
        }
        may
    }

    /// Whether its key sealed so much that the next is due.
    pub(super) fn wants_rekey(&self) -> bool {
        self.half.as_ref().is_some_and(SealHalf::wants_rekey)
    }

    /// Takes in acknowledgements; whether packets remain without.
    pub(super) fn look_for_acks(&mut self) -> bool {
        self.half.as_mut().is_some_and(|half| {
            half.apply_acks();
            half.outstanding(PATH) > 0
        })
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, waiting_bytes: &mut usize) {
        *waiting_bytes -= self.waiting.iter().map(|waiting| waiting.plaintext.len()).sum::<usize>();
        // It may still be listed as active, which an empty peer soon ends.
        *self = Self { is_active: self.is_active, ..Self::default() };
    }

    /// Gives memory back.
    pub(super) fn shrink(&mut self) {
        if let Some(half) = &mut self.half {
            half.shrink();
        }
        self.waiting.shrink_to_fit();
    }

    fn count_lost(&mut self, counters: &PeerCounters) {
        if let Some(half) = &self.half {
            let lost = half.stats().ring.lost;
            add(&counters.lost, lost.saturating_sub(self.lost_seen));
            self.lost_seen = lost;
        }
    }
}
