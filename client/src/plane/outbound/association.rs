//! What one association of a peer has sealed: how far it was handed over, and how old it is.
//!
//! # Order
//!
//! `cursor` is the one rule: below it everything was handed to the stream in use, above it nothing was. A new packet goes to
//! the stream at once only when it is the one at the cursor; else it waits in the ring until [`Association::pump`] comes to
//! it. So what is sent again after a path was bound anew is never overtaken by what is new.
//!
//! # Time
//!
//! Packets that are older than [`HOLD`] when they would have to be sent are given up and counted as lost: they would be news
//! of the past. The age of a packet is known to [`GRAIN`]: a mark per grain, not a time per packet.

use super::peer::Context;
use super::{HOLD, PATH};
use crate::plane::snapshot::{PeerCounters, add};
use shadowmesh_proto::endpoint::event::Contact;
use shadowmesh_proto::session::{SealError, SealHalf, SealKey};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How exactly the age of a packet in the ring is known.
const GRAIN: Duration = Duration::from_millis(250);

/// One association, seen from the side that seals.
#[derive(Debug)]
pub(super) struct Association {
    half: SealHalf,
    /// Below: handed to the stream in use.
    cursor: u64,
    /// From here on: never handed to any stream.
    fresh: u64,
    ages: Ages,
    lost_seen: u64,
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

/// What came of handing over what waited.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pumped {
    /// Something was handed over.
    pub(super) is_sent: bool,
    /// Something is left, because the stream is full.
    pub(super) is_stopped: bool,
}

impl Association {
    /// Nothing is sealed yet.
    pub(super) fn new(now: Instant, mut half: SealHalf, key: SealKey) -> Self {
        half.install(now, key);
        Self { half, cursor: 0, fresh: 0, ages: Ages::default(), lost_seen: 0 }
    }

    /// The next key.
    pub(super) fn install(&mut self, now: Instant, key: SealKey) {
        self.half.install(now, key);
    }

    /// Everything that is not acknowledged is to go out once more.
    pub(super) const fn rewind(&mut self) {
        self.cursor = 0;
    }

    /// Whether it holds anything that is not acknowledged.
    pub(super) fn is_holding(&self) -> bool {
        self.half.stats().ring.held > 0
    }

    /// Whether its key sealed so much that the next is due.
    pub(super) fn wants_rekey(&self) -> bool {
        self.half.wants_rekey()
    }

    /// Seals a frame (metadata byte first). With a contact it is handed over at once if everything before it was; whether it
    /// was.
    ///
    /// # Errors
    /// As [`SealError`]; nothing was sealed then.
    pub(super) fn seal(
        &mut self,
        ctx: &mut Context<'_>,
        contact: Option<Contact>,
        plaintext: &[u8],
    ) -> Result<bool, SealError> {
        let sealed = self.half.seal_prefixed(ctx.now, PATH, plaintext)?;
        self.ages.on_sealed(ctx.now, sealed.counter);
        let is_handed_over = self.cursor == sealed.counter
            && contact.is_some_and(|contact| ctx.batches.push(ctx.snapshot, contact, sealed.packet));
        if is_handed_over {
            self.cursor = sealed.counter + 1;
            self.fresh = self.cursor;
        }
        Ok(is_handed_over)
    }

    /// Hands over what waits in the ring, as far as the stream has room: what was sent before and has to be again, and
    /// behind it what was sealed since.
    pub(super) fn pump(
        &mut self,
        ctx: &mut Context<'_>,
        contact: Contact,
        counters: &PeerCounters,
    ) -> Pumped {
        let next = self.half.next_counter();
        if self.cursor >= next {
            return Pumped::default();
        }
        let Some(stream) = ctx.snapshot.stream(contact) else { return Pumped::default() };
        let too_old = self.ages.advance(ctx.now, next);
        if self.cursor < too_old {
            self.half.give_up_below(too_old);
            self.cursor = too_old;
        }
        let (mut stopped, mut is_sent) = (None, false);
        for sealed in self.half.resend(ctx.now, PATH, PATH, self.cursor..next) {
            if !stream.has_room() || !ctx.batches.push(ctx.snapshot, contact, sealed.packet) {
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

    /// When [`Self::give_up_old`] has given up everything.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.ages.ends_at()
    }

    /// Gives up what is too old, for the memory it takes; `true` when nothing is left that is worth keeping.
    pub(super) fn give_up_old(&mut self, now: Instant, counters: &PeerCounters) -> bool {
        let too_old = self.ages.advance(now, self.half.next_counter());
        self.half.give_up_below(too_old);
        self.cursor = self.cursor.max(too_old);
        self.count_lost(counters);
        let is_empty = self.ages.marks.is_empty();
        if is_empty {
            self.half.shrink();
        }
        is_empty
    }

    /// Takes in acknowledgements; whether packets remain without.
    pub(super) fn look_for_acks(&mut self) -> bool {
        self.half.apply_acks();
        self.half.outstanding(PATH) > 0
    }

    /// Gives memory back.
    pub(super) fn shrink(&mut self) {
        self.half.shrink();
    }

    /// Ends it with whatever is not acknowledged.
    pub(super) fn abandon(mut self, counters: &PeerCounters) {
        self.count_lost(counters);
        add(&counters.lost, self.half.stats().ring.held as u64);
    }

    fn count_lost(&mut self, counters: &PeerCounters) {
        let lost = self.half.stats().ring.lost;
        add(&counters.lost, lost.saturating_sub(self.lost_seen));
        self.lost_seen = lost;
    }
}
