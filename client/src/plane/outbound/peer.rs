//! What the outbound thread keeps of one peer: its association, the one before while that still has something to say, the frames that wait
//! for a key, and those that wait for a stream to have room ([`Flows`]).
//!
//! When an association is replaced while packets of it are not acknowledged, the receiver keeps it open for a while: they are
//! sent once more as soon as the new one has a path, before anything of the new one. There are no acknowledgements for them.

use super::association::{Association, Pumped, Ran};
use super::backlog::{Admission, Backlog};
use super::batches::{Batches, Way};
use super::flows::{Flows, Next};
use super::{BATCH, HOLD, KEEP};
use crate::device::offload::{Cutting, complete};
use crate::plane::queue::StreamHandle;
use crate::plane::snapshot::{PeerCounters, PeerRoute, Snapshot, add};
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::session::limits::PATH_SLOTS;
use shadowmesh_proto::session::open::META_NEEDS_CHECKSUM;
use shadowmesh_proto::session::{PathSlot, RingLimits, SealError, SealKey};
use shadowmesh_proto::wire::header::DATA_OVERHEAD;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Frames that wait for a peer's key (protocol §4.7): a burst of ARP and the first segments of a few connections.
pub(super) const WAITING_FRAMES: usize = 64;
/// Those that wait while a session is about to end, or has ended for want of use and another begins (protocol §4.10): two seconds of a
/// thousand a second, for a handshake through a relay that is far away, or one of whose messages is lost. The peer is one that was met.
pub(in crate::plane) const RESTING_FRAMES: usize = 2_048;
/// Bytes that wait for keys, over all peers: a relay that names thousands of peers which never answer must not cost a frame
/// of every broadcast for each of them.
pub(in crate::plane) const WAITING_BYTES: usize = 4 << 20;
/// Of these, those for one peer at most: two that do not answer, and are sent large frames, leave room for others.
const WAITING_BYTES_FOR_ONE: usize = WAITING_BYTES / 4;
/// What waits for a stream may be as much as that takes in half a second, but always this, ...
const QUEUE_BYTES_MIN: usize = 1 << 20;
/// ... and never more than this: half a second at 64 Mbit/s. Faster ones are seldom full for so long.
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// For all peers it is no more than this, of which each that has something waiting has its share ...
const QUEUE_BYTES_ALL: usize = 32 << 20;
/// ... but room for a superframe.
const QUEUE_BYTES_LEAST: usize = 64 << 10;
/// A turn's frames at the usual size, of which the last may stand for as many more: with no more room than this the device may have to wait.
const QUEUE_BYTES_LEFT: usize = 2 * BATCH * 1514;
/// Bytes of a peer's turn where several wait for one stream: two frames, or a light one would wait for much of each heavy one.
const QUANTUM: isize = 2 * 1514;
/// What is admitted before it is known has this much room in the ring.
const LARGEST_USUAL: usize = 9_216;
/// A stream that takes what waits in this part of half a second is not slow.
const SLOW: usize = 10;
/// Whoever was sent something within this is sent more: what goes to it is not to wait for another's doubt.
const SPOKEN_TO: Duration = Duration::from_secs(2);
/// A key that is used up is asked for this often: the rekey that it causes is repeated each second by itself.
const ASK_KEY_EVERY: Duration = Duration::from_secs(1);
/// What could not be told is told again after this.
const TELL_AGAIN: Duration = Duration::from_millis(20);

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
    association: Option<Association>,
    /// The one before, until what it holds was sent once more.
    replaced: Option<Association>,
    /// Whether the new one has a path, so that it may.
    is_replaced_due: bool,
    waiting: VecDeque<Waiting>,
    /// Their bytes.
    waiting_bytes: usize,
    backlog: Backlog,
    /// Frames that wait for the stream to have room.
    flows: Flows,
    /// Bytes that it may still send in its turn, among those that wait for room.
    credit: isize,
    /// Whether it is in the thread's list of those that wait for room.
    pub(super) is_queued: bool,
    /// Where its packets go, while there is a way.
    way: Option<Way>,
    /// The number of that path, or of the last one.
    path: PathSlot,
    /// See [`PeerRoute::given_up`].
    given_up: [u64; PATH_SLOTS],
    /// See [`PeerRoute::doubted`].
    doubted: Option<PathSlot>,
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
    /// Whether nothing is sealed although there is a key: the two are about to give their session up.
    is_stopped: bool,
    /// Whether they have: the stations behind it are remembered however long it says nothing.
    is_asleep: bool,
    /// When it is to be told again that frames wait for a session.
    tell_wanted_at: Option<Instant>,
    /// When something last went to it.
    pub(super) sent: Option<Instant>,
}

/// A frame that waits for a key: metadata byte and frame.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    plaintext: Vec<u8>,
}

/// What became of a peer's turn among those whose frames wait for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// A frame.
    Sent {
        /// What became of that.
        sent: Sent,
        /// Its turn is over.
        is_over: bool,
    },
    /// It has nothing more.
    All,
    /// Its turn is over.
    Turn,
    /// There is no room.
    Blocked,
}

/// What became of a frame for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is in a message for the stream.
    HandedOver,
    /// It is in the ring, or waits for a key.
    Kept,
    /// It waits for the stream to have room.
    Queued,
    /// It was dropped and counted.
    Dropped,
    /// It waits, and a key is to be asked for.
    KeyWanted,
    /// It waits, and a session is to be asked for.
    SessionWanted,
}

impl Peer {
    /// A new association: counters and ring start anew.
    pub(super) fn start(&mut self, new: Association, counters: Option<&PeerCounters>) {
        let before = self.replaced.take();
        self.replaced = self.association.replace(new).filter(Association::is_holding);
        self.replaced.iter_mut().for_each(Association::retire);
        self.is_replaced_due = false;
        self.asked_for_key = None;
        (self.is_stopped, self.is_asleep, self.tell_wanted_at) = (false, false, None);
        if let (Some(before), Some(counters)) = (before, counters) {
            before.abandon(counters);
        }
    }

    /// Seals nothing more, and keeps what is read, until it is to go on or another association begins; whether it does. It does not while
    /// anything waits or goes again, nor while what it sealed is not acknowledged and would go again, should its path fail: what is older than
    /// [`KEEP`] a wire lost, on a path that the control task knows to be beyond doubt.
    pub(super) fn stop_sealing(&mut self, now: Instant) -> bool {
        let is_old = self.sent.is_none_or(|sent| now.saturating_duration_since(sent) >= KEEP);
        let has_all = self.waiting.is_empty() && self.flows.is_empty() && self.replaced.is_none();
        let association = self.association.as_mut().filter(|_| has_all);
        self.is_stopped = association.is_some_and(|association| association.is_settled(is_old));
        self.is_stopped
    }

    /// Seals again, what waits first.
    pub(super) fn resume_sealing(&mut self) {
        (self.is_stopped, self.tell_wanted_at) = (false, None);
    }

    /// The association is over: frames wait for another.
    pub(super) fn end(&mut self, counters: Option<&PeerCounters>) {
        (self.is_stopped, self.is_asleep, self.tell_wanted_at) = (false, true, None);
        let over = self.replaced.take().into_iter().chain(self.association.take());
        if let Some(counters) = counters {
            over.for_each(|association| association.abandon(counters));
        }
        self.backlog = Backlog::default();
    }

    /// Whether frames wait for what only the control task can bring about, and it is to be told.
    pub(super) fn wants_session(&self, now: Instant) -> bool {
        self.waits_for_session() && self.tell_wanted_at.is_none_or(|at| at <= now)
    }

    /// It was told, or could not be.
    pub(super) fn on_wanted_told(&mut self, now: Instant, is_told: bool) {
        self.tell_wanted_at = Some(now + if is_told { ASK_KEY_EVERY } else { TELL_AGAIN });
    }

    fn waits_for_session(&self) -> bool {
        !self.waiting.is_empty() && (self.is_stopped || self.is_asleep)
    }

    /// The next key of the association.
    pub(super) fn add_key(&mut self, now: Instant, key: SealKey) {
        if let Some(association) = &mut self.association {
            association.install(now, key);
            self.asked_for_key = None;
        }
    }

    /// One above the highest counter of its association that was used.
    pub(super) fn sealed(&self) -> u64 {
        self.association.as_ref().map_or(0, Association::sealed)
    }

    /// The path by which its packets go, or went last.
    pub(super) fn path(&self) -> PathSlot {
        self.path
    }

    /// Whether a path of it is in doubt while its packets go somewhere.
    pub(super) const fn is_doubted(&self) -> bool {
        self.doubted.is_some() && self.way.is_some()
    }

    /// Whether somebody here speaks to it.
    pub(super) fn was_sent_to(&self, now: Instant) -> bool {
        self.sent.is_some_and(|sent| now.saturating_duration_since(sent) < SPOKEN_TO)
    }

    /// Whether a turn's frames may be too many for its ring.
    pub(super) fn is_nearly_full(&self, limits: RingLimits) -> bool {
        self.association.as_ref().is_some_and(|association| association.is_nearly_full(limits))
    }

    /// Its associations: the one in use first.
    pub(super) fn associations(&mut self) -> impl Iterator<Item = &mut Association> {
        self.association.iter_mut().chain(&mut self.replaced)
    }

    /// Where its packets go.
    pub(super) fn via(&self) -> Option<Via> {
        self.way.map(|way| way.via)
    }

    /// The picture changed.
    pub(super) fn on_route(&mut self, ctx: &mut Context<'_>, way: Option<Way>, route: &PeerRoute) {
        let (now, given_up) = (ctx.now, route.given_up);
        let before = std::mem::replace(&mut self.given_up, given_up);
        let path = way.map_or(self.path, |way| way.via.slot());
        if let Some(old) = self.way
            && path != self.path
            && before == given_up
            && let Some(association) = &mut self.association
        {
            association.end_path(ctx, old);
        }
        if way.map(|way| way.via) != self.via() {
            // The first packets on a new way are worth telling at once: they are what its liveness is judged by.
            self.told = None;
            self.backlog = Backlog::default();
            self.flows.forget();
        }
        if let (Some(Way { via: old @ Via::Channel(_), .. }), Some(association)) =
            (self.way, &mut self.association)
            && route.doubted != Some(old.slot())
            && before == given_up
        {
            association.end_doubt(now, old.slot(), route.patience);
        }
        let is_back = self.way.is_none() && way.is_some_and(|way| !matches!(way.via, Via::Tcp(_)));
        self.way = way;
        if before != given_up || path != self.path {
            self.path = path;
            let is_given_up = |path: PathSlot| {
                let at = usize::from(path.number());
                before.get(at) != given_up.get(at)
            };
            for association in self.replaced.iter_mut().chain(&mut self.association) {
                association.reroute(now, path, is_given_up);
            }
            self.is_replaced_due |= before != given_up;
        }
        if let Some(association) = self.association.as_mut().filter(|_| is_back) {
            association.on_way_back();
        }
        let before_doubt = std::mem::replace(&mut self.doubted, route.doubted);
        let is_relayed = matches!(self.via(), Some(Via::Channel(_)));
        let is_over = before_doubt.is_some() && route.doubted.is_none();
        let is_over = is_over && is_relayed && self.backlog.has_begun();
        if let Some(association) = self.association.as_mut().filter(|_| is_over) {
            // What a relay did not take meanwhile may be more than it holds for its other client, as what waited while it was away.
            association.on_way_back();
            self.backlog = Backlog::default();
        }
        // After what was given up: a doubt that ends lets go of what was kept for it.
        if let Some(association) = &mut self.association {
            association.set_doubted(route.doubted);
        }
        if way.is_some() {
            self.pathless = None;
            self.is_forgotten = false;
        } else {
            self.pathless.get_or_insert(now);
        }
    }

    /// Seals a frame (metadata byte first) and hands it over, or keeps it.
    pub(super) fn send(&mut self, ctx: &mut Context<'_>, route: &PeerRoute, plaintext: &[u8]) -> Sent {
        let counters = &*route.counters;
        // Gone for long, and nobody says that it will be back: nothing is kept for it.
        let is_held = self.pathless.is_none_or(|since| ctx.now.saturating_duration_since(since) < KEEP);
        let is_kept = route.is_expected || (is_held && self.association.is_some());
        if self.way.is_none() && !is_kept {
            add(&counters.tx_dropped, 1);
            return Sent::Dropped;
        }
        if !self.flows.is_empty() {
            // Behind those that wait, whatever they wait for by now.
            self.queue(ctx, counters, plaintext);
            return Sent::Queued;
        }
        if self.is_stopped || self.is_asleep {
            return self.keep(ctx, counters, plaintext, Sent::SessionWanted);
        }
        let Some(association) = &mut self.association else {
            return self.keep(ctx, counters, plaintext, Sent::Kept);
        };
        if !self.waiting.is_empty() {
            // Behind those that could not be sealed either.
            return self.keep(ctx, counters, plaintext, Sent::KeyWanted);
        }
        let admission = admit(&mut self.backlog, association, ctx, self.way, self.doubted, plaintext.len());
        if admission == Admission::Queue {
            self.queue(ctx, counters, plaintext);
            return Sent::Queued;
        }
        self.seal(ctx, counters, plaintext, admission)
    }

    /// Seals a frame that was admitted so.
    fn seal(
        &mut self,
        ctx: &mut Context<'_>,
        counters: &PeerCounters,
        plaintext: &[u8],
        admission: Admission,
    ) -> Sent {
        let Some(association) = self.association.as_mut().filter(|_| admission != Admission::Drop) else {
            add(&counters.tx_dropped, 1);
            return Sent::Dropped;
        };
        // Behind what is left of the association before.
        let way = self.way.filter(|_| admission == Admission::Go && self.replaced.is_none());
        let completed = completed(plaintext, association.completes_checksums());
        match association.seal(ctx, way, completed.as_deref().unwrap_or(plaintext)) {
            Ok(is_handed_over) => {
                counters.count_tx(plaintext.len() - 1);
                if is_handed_over { Sent::HandedOver } else { Sent::Kept }
            }
            Err(SealError::NoKey | SealError::Expired | SealError::Exhausted) => {
                self.keep(ctx, counters, plaintext, Sent::KeyWanted)
            }
            Err(error @ (SealError::TooLarge | SealError::NoMetadata)) => {
                add(&counters.tx_dropped, 1);
                tracing::debug!(%error, bytes = plaintext.len(), "a frame was not sealed");
                Sent::Dropped
            }
        }
    }

    /// Seals what comes next of a superframe and sends it from the ring, where everything is as it mostly is: by datagram, whole, with
    /// nothing before it that waits. `None` where it is not.
    pub(super) fn send_run(
        &mut self,
        ctx: &mut Context<'_>,
        route: &PeerRoute,
        cutting: &mut Cutting<'_>,
    ) -> Option<Sent> {
        let Some(Way { via: Via::Udp(to), room }) = self.way else { return None };
        let is_whole = room.is_none_or(|room| cutting.longest() + DATA_OVERHEAD <= room);
        if self.is_stopped
            || self.is_asleep
            || !self.waiting.is_empty()
            || !self.flows.is_empty()
            || self.replaced.is_some()
            || !is_whole
        {
            return None;
        }
        let run = self.association.as_mut()?.seal_run(ctx, to, cutting);
        route.counters.count_tx_many(run.packets, run.bytes);
        match run {
            Ran { packets: 0, .. } => None,
            Ran { is_handed_over: true, .. } => Some(Sent::HandedOver),
            Ran { .. } => Some(Sent::Kept),
        }
    }

    /// Whether it completes checksums that were left out.
    pub(super) fn completes_checksums(&self) -> bool {
        self.association.as_ref().is_some_and(Association::completes_checksums)
    }

    /// Lets a frame wait for the stream.
    fn queue(&mut self, ctx: &Context<'_>, counters: &PeerCounters, plaintext: &[u8]) {
        let dropped = self.flows.push(ctx.now, plaintext, self.queue_limit(ctx));
        add(&counters.tx_dropped, dropped);
    }

    /// Bytes of the frames that wait for the stream.
    pub(super) const fn queued_bytes(&self) -> usize {
        self.flows.bytes()
    }

    fn stream<'s>(&self, ctx: &Context<'s>) -> Option<&'s StreamHandle> {
        ctx.snapshot.stream(self.way?.via)
    }

    fn queue_limit(&self, ctx: &Context<'_>) -> usize {
        let worth = self.stream(ctx).and_then(StreamHandle::patience).unwrap_or_default();
        // Those who filled theirs when few waited keep what they have, until they are sent something more.
        let share = if ctx.batches.queued_bytes < QUEUE_BYTES_ALL {
            (QUEUE_BYTES_ALL / ctx.batches.queued.max(1)).max(QUEUE_BYTES_LEAST)
        } else {
            QUEUE_BYTES_LEAST
        };
        worth.clamp(QUEUE_BYTES_MIN, QUEUE_BYTES_MAX).min(share)
    }

    /// Whether frames for it had better wait in the device: nearly as many wait here as may, and as far as is known the stream is not slow,
    /// but only silent for a moment, or busy.
    pub(super) fn is_at_limit(&self, ctx: &Context<'_>) -> bool {
        let worth = self.stream(ctx).and_then(StreamHandle::patience);
        self.flows.bytes() + QUEUE_BYTES_LEFT > self.queue_limit(ctx)
            && worth.is_none_or(|worth| self.flows.bytes() <= worth / SLOW)
    }

    /// Its turn among those whose frames wait for room, one frame of it.
    pub(super) fn serve(&mut self, ctx: &mut Context<'_>, counters: &PeerCounters) -> Served {
        if self.flows.is_empty() {
            self.credit = self.credit.min(0);
            return Served::All;
        }
        // What a full stream left of a turn comes first.
        if self.credit <= 0 {
            self.credit += QUANTUM;
        }
        if self.credit <= 0 {
            return Served::Turn;
        }
        let session = self.association.as_mut().filter(|_| !self.is_stopped && !self.is_asleep);
        let admission = session.map(|association| {
            admit(&mut self.backlog, association, ctx, self.way, self.doubted, LARGEST_USUAL)
        });
        if admission == Some(Admission::Queue) {
            return Served::Blocked;
        }
        // The key is used up, and the frame that found it so waits for the next. More than a few have room here, and not there.
        if admission.is_some()
            && !self.waiting.is_empty()
            && !self.association.as_ref().is_some_and(|association| association.seals(ctx.now))
        {
            return Served::Blocked;
        }
        // What another path takes, or the ring, goes however long it waited: it was no queue that made it wait. Nor may a stream be called
        // slow of which nothing is known.
        let stream = self.stream(ctx).filter(|_| admission == Some(Admission::Go));
        let next = match stream.map(StreamHandle::patience) {
            Some(patience) => self.flows.pop(ctx.now, patience.is_some()),
            None => Next { plaintext: self.flows.take(), dropped: 0 },
        };
        add(&counters.tx_dropped, next.dropped);
        let Some(plaintext) = next.plaintext else { return Served::Turn };
        self.credit -= plaintext.len().cast_signed();
        let sent = match admission {
            // Behind those that found no key.
            Some(_) if !self.waiting.is_empty() => self.keep(ctx, counters, &plaintext, Sent::KeyWanted),
            Some(admission) => self.seal(ctx, counters, &plaintext, admission),
            None if self.association.is_some() || self.is_asleep => {
                self.keep(ctx, counters, &plaintext, Sent::SessionWanted)
            }
            None => self.keep(ctx, counters, &plaintext, Sent::Kept),
        };
        self.flows.recycle(plaintext);
        Served::Sent { sent, is_over: self.credit <= 0 }
    }

    /// Keeps a frame until there is a key; `kept` when it did.
    fn keep(&mut self, ctx: &mut Context<'_>, counters: &PeerCounters, plaintext: &[u8], kept: Sent) -> Sent {
        self.drop_old(ctx.now, counters, ctx.waiting_bytes);
        let most = if self.is_stopped || self.is_asleep { RESTING_FRAMES } else { WAITING_FRAMES };
        // By its own measure the oldest gives way, by that of all the newest: no peer's frames push out another's.
        while self.waiting.len() >= most
            || (self.waiting_bytes + plaintext.len() > WAITING_BYTES_FOR_ONE && !self.waiting.is_empty())
        {
            self.drop_oldest(counters, ctx.waiting_bytes);
        }
        if *ctx.waiting_bytes + plaintext.len() > WAITING_BYTES {
            add(&counters.tx_dropped, 1);
            return Sent::Dropped;
        }
        *ctx.waiting_bytes += plaintext.len();
        self.waiting_bytes += plaintext.len();
        // Who gets it in the end may be another program by then.
        let plaintext = completed(plaintext, false).unwrap_or_else(|| plaintext.to_vec());
        self.waiting.push_back(Waiting { since: ctx.now, plaintext });
        kept
    }

    fn drop_old(&mut self, now: Instant, counters: &PeerCounters, waiting_bytes: &mut usize) {
        while let Some(oldest) = self.waiting.front()
            && now.saturating_duration_since(oldest.since) >= HOLD
        {
            self.drop_oldest(counters, waiting_bytes);
        }
    }

    fn drop_oldest(&mut self, counters: &PeerCounters, waiting_bytes: &mut usize) {
        if let Some(dropped) = self.waiting.pop_front() {
            *waiting_bytes -= dropped.plaintext.len();
            self.waiting_bytes -= dropped.plaintext.len();
            add(&counters.tx_dropped, 1);
        }
    }

    /// Seals what waited for a key, and hands over what waits in the rings, as far as the stream has room.
    pub(super) fn pump(&mut self, ctx: &mut Context<'_>, route: &PeerRoute) -> Pumped {
        self.seal_waiting(ctx, &route.counters);
        let Some(way) = self.way else { return Pumped::default() };
        let mut pumped = Pumped::default();
        if let Some(replaced) = &mut self.replaced {
            if !self.is_replaced_due {
                return pumped;
            }
            pumped = replaced.pump(ctx, way, route, false);
            if pumped.is_stopped {
                return pumped;
            }
            if let Some(done) = self.replaced.take() {
                done.close(&route.counters);
            }
        }
        if let Some(association) = &mut self.association {
            let later = association.pump(ctx, way, route, self.backlog.has_begun());
            pumped = Pumped { is_sent: pumped.is_sent || later.is_sent, ..later };
        }
        pumped
    }

    /// Seals what waited for a key and is not too old; it is handed over from the ring.
    fn seal_waiting(&mut self, ctx: &mut Context<'_>, counters: &PeerCounters) {
        self.drop_old(ctx.now, counters, ctx.waiting_bytes);
        if self.is_stopped {
            return;
        }
        let Some(association) = &mut self.association else { return };
        while let Some(first) = self.waiting.front() {
            let len = first.plaintext.len();
            match association.seal(ctx, None, &first.plaintext) {
                Ok(_) => counters.count_tx(len - 1),
                Err(SealError::NoKey | SealError::Expired | SealError::Exhausted) => return,
                Err(SealError::TooLarge | SealError::NoMetadata) => add(&counters.tx_dropped, 1),
            }
            *ctx.waiting_bytes -= len;
            self.waiting_bytes -= len;
            self.waiting.pop_front();
        }
    }

    /// When [`Self::pump`] has something to do by itself.
    pub(super) fn pump_due(&self) -> Option<Instant> {
        self.way?;
        self.replaced.iter().chain(&self.association).filter_map(Association::pump_due).min()
    }

    /// When [`Self::hold_over`] has something to do: only while there is no path.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let wanted = self.tell_wanted_at.filter(|_| self.waits_for_session());
        let Some(since) = self.pathless else { return wanted };
        let forget = (!self.is_forgotten && self.association.is_some()).then_some(since + HOLD);
        let waiting = self.waiting.front().map(|oldest| oldest.since + HOLD);
        let rings = self.replaced.iter().chain(&self.association).filter_map(Association::ends_at);
        forget.into_iter().chain(waiting).chain(rings).chain(wanted).min()
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
        self.drop_old(now, counters, waiting_bytes);
        if self.replaced.as_mut().is_some_and(|replaced| replaced.give_up_old(now, counters)) {
            self.replaced = None;
        }
        if let Some(association) = &mut self.association {
            association.give_up_old(now, counters);
        }
        !self.is_asleep
            && now.saturating_duration_since(since) >= HOLD
            && !std::mem::replace(&mut self.is_forgotten, true)
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
        self.association.as_ref().is_some_and(Association::wants_rekey)
    }

    /// Takes in acknowledgements; whether packets remain without.
    pub(super) fn look_for_acks(&mut self) -> bool {
        self.association.as_mut().is_some_and(Association::look_for_acks)
    }

    /// Forgets everything; what waited is counted.
    pub(super) fn clear(&mut self, counters: Option<&PeerCounters>, waiting_bytes: &mut usize) {
        *waiting_bytes -= self.waiting_bytes;
        if let Some(counters) = counters {
            add(&counters.tx_dropped, self.waiting.len() as u64 + self.flows.frames());
            for association in self.replaced.take().into_iter().chain(self.association.take()) {
                association.abandon(counters);
            }
        }
        // It may still be listed, as active or as waiting for room, which an empty peer soon ends.
        *self = Self { is_active: self.is_active, is_queued: self.is_queued, ..Self::default() };
    }

    /// Gives memory back.
    pub(super) fn shrink(&mut self) {
        if let Some(association) = &mut self.association {
            association.shrink();
        }
        self.waiting.shrink_to_fit();
        self.flows.shrink();
    }
}

/// A frame (metadata byte first) with its checksum, where that was left out and its receiver does not complete it: while it waited another
/// session may have begun, with another program.
fn completed(plaintext: &[u8], completes_checksums: bool) -> Option<Vec<u8>> {
    let is_partial = plaintext.first().is_some_and(|meta| meta & META_NEEDS_CHECKSUM != 0);
    if !is_partial || completes_checksums {
        return None;
    }
    let mut plaintext = plaintext.to_vec();
    let (meta, frame) = plaintext.split_first_mut()?;
    complete(frame);
    *meta = 0;
    Some(plaintext)
}

/// Whether a frame of so many bytes may go by `way`. A peer that reads slowly holds up nobody but itself. This is asked before it is sealed:
/// what is sealed has to arrive.
fn admit(
    backlog: &mut Backlog,
    association: &mut Association,
    ctx: &Context<'_>,
    way: Option<Way>,
    doubted: Option<PathSlot>,
    len: usize,
) -> Admission {
    match way.map(|way| way.via) {
        Some(via @ Via::Tcp(_)) => backlog.admit(ctx, via, association, len, false),
        Some(Via::Channel(_)) if association.is_piling_up(ctx.now) => Admission::Queue,
        // It waits behind those, by their rule, but never in place of one that is not acknowledged.
        Some(via @ Via::Channel(_)) if association.goes_again() => {
            let goes = association.holds_one_more(len) || ctx.batches.has_room(ctx.snapshot, via);
            if goes { Admission::Go } else { Admission::Queue }
        }
        Some(via @ Via::Channel(_)) => backlog.admit(ctx, via, association, len, doubted == Some(via.slot())),
        Some(Via::Udp(_) | Via::RelayUdp(_)) | None => Admission::Go,
    }
}
