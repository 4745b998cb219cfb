//! What one association of a peer has sealed: how far it was handed over, and how old it is.
//!
//! # Order
//!
//! `cursor` is the one rule: below it everything was handed over once, above it nothing was. A new packet is handed over at
//! once only when it is the one at the cursor; else it waits in the ring until [`Association::pump`] comes to it. When a path
//! was given up, what it had of the packets below the cursor goes out again first: so nothing that is sent again is overtaken
//! by what is new.
//!
//! # Repetition
//!
//! A burst of what goes again, or waited for a way, may itself be lost: by datagram, and at a relay, which drops what its other
//! client does not take. By datagram it is paced ([`PACE_BYTES`] each [`PACE`]), over a relay's stream only so much is under way
//! as was shown to arrive ([`Window`]). What is sealed while it goes waits behind it and joins it; what went right behind a burst
//! by datagram, to queues that were full of it, joins it when it goes once more. What of it is not acknowledged after a round trip
//! goes once more, then after two, four … round trips, until it is too old. What had to go again and was no longer there (the ring
//! is bounded) is counted as lost then, but not before the peer was heard, who may have it.
//!
//! # Time
//!
//! Packets that are older than [`KEEP`] when they would have to be sent are given up and counted as lost: they would be news
//! of the past. The age of a packet is known to [`GRAIN`]: a mark per grain, not a time per packet.

use super::batches::Way;
use super::peer::Context;
use super::window::{LOOK, Looked, Window};
use super::{DOUBT_SHARE, KEEP};
use crate::device::offload::Cutting;
use crate::plane::snapshot::{PeerCounters, PeerRoute, add};
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::session::limits::PATH_SLOTS;
use shadowmesh_proto::session::open::{META_MOVED, META_NEEDS_CHECKSUM};
use shadowmesh_proto::session::{Fit, PathSlot, Resend, RingLimits, SealError, SealHalf, SealKey, SealedRun};
use shadowmesh_proto::wire::header::{DATA_OVERHEAD, META_LEN};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

/// What goes again by datagram at a time: less than the smallest usual buffer of a socket, which counts twice a packet's bytes.
const PACE_BYTES: usize = 64 << 10;
/// The pause after that: 260 Mbit/s.
const PACE: Duration = Duration::from_millis(2);
/// What may wait for the window at least, however small that is: for half a second at 16 Mbit/s. What waits shortly after a move is a flow
/// that was held up, and no sign of a slow receiver.
const PILE_MIN: usize = 1 << 20;
/// What an acknowledgement takes beyond the round trip: the wait for more to acknowledge, and a busy machine.
const ACK_TAKES: Duration = Duration::from_millis(40);
/// When whatever was under way on a path that data left has arrived, or does not: twice the patience of who receives it.
const SETTLED: Duration = Duration::from_secs(1);
/// How exactly the age of a packet in the ring is known.
const GRAIN: Duration = Duration::from_millis(250);

/// One association, seen from the side that seals.
#[derive(Debug)]
pub(super) struct Association {
    half: SealHalf,
    /// What is sealed now goes by this path.
    path: PathSlot,
    /// Below: handed over. From here on: never.
    cursor: u64,
    /// Below the cursor: what is of `path` here has to be handed over again.
    again: Range<u64>,
    /// From here on it goes for the first time.
    fresh: u64,
    /// What was sealed before that had no way to go, or a path that was given up.
    piled_from: u64,
    /// Whether too much waits behind it, and until when that is not looked at again.
    piles_up: Option<(Instant, bool)>,
    /// When the next of it may go.
    paced_until: Option<Instant>,
    /// How much of it may be under way over a relay; `None` when nobody acknowledges it any more.
    window: Option<Window>,
    /// Whether some of it went where it may be lost.
    is_again_lossy: bool,
    /// All of it, to be repeated.
    repeat: Option<Repeat>,
    ages: Ages,
    lost_seen: u64,
    /// When data left each path with what was under way there.
    left: [Option<Instant>; PATH_SLOTS],
}

/// What is sent again and may be missing afterwards.
#[derive(Debug)]
struct Repeat {
    counters: Range<u64>,
    /// How long the last pause was; none yet when zero.
    pause: Duration,
    /// When it goes once more, if it has to, and what was no longer there is counted; `None` while it goes.
    at: Option<Instant>,
    /// Whether it went where it may be lost.
    is_lossy: bool,
    /// Acknowledgements heard when it had gone.
    heard: u64,
    /// Packets that were missing when it last had to go once more.
    missing: usize,
    /// Whether there was so much that it was paced: what went right behind it came to queues that were full of it.
    is_burst: bool,
}

impl Repeat {
    /// Of what is about to go.
    const fn new(counters: Range<u64>) -> Self {
        Self {
            counters,
            pause: Duration::ZERO,
            at: None,
            is_lossy: false,
            heard: 0,
            missing: usize::MAX,
            is_burst: false,
        }
    }

    /// It has gone: what of it is still missing after `pause` goes once more, `heard` acknowledgements having come so far.
    fn wait(&mut self, now: Instant, pause: Duration, heard: u64) {
        (self.pause, self.at, self.heard) = (pause, Some(now + pause), heard);
    }
}

/// When packets were sealed: a mark is the first counter of a grain.
#[derive(Debug, Default)]
struct Ages {
    marks: VecDeque<(Instant, u64)>,
    /// Every counter below was sealed longer ago than [`KEEP`].
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
            && now.saturating_duration_since(*at) >= KEEP + GRAIN
        {
            self.marks.pop_front();
            self.floor = self.marks.front().map_or(next, |(_, counter)| *counter);
        }
        self.floor
    }

    /// When nothing is young any more.
    fn ends_at(&self) -> Option<Instant> {
        self.marks.back().map(|(at, _)| *at + KEEP + GRAIN)
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

/// What became of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ran {
    /// Packets that were sealed.
    pub(super) packets: u64,
    /// Bytes of frames in them.
    pub(super) bytes: u64,
    /// The last of them was handed over; all before it were, then.
    pub(super) is_handed_over: bool,
}

impl Association {
    /// Nothing is sealed yet.
    pub(super) fn new(now: Instant, path: PathSlot, mut half: SealHalf, key: SealKey) -> Self {
        half.install(now, key);
        Self {
            half,
            path,
            cursor: 0,
            again: 0..0,
            fresh: u64::MAX,
            piled_from: 0,
            piles_up: None,
            paced_until: None,
            window: Some(Window::default()),
            is_again_lossy: false,
            repeat: None,
            ages: Ages::default(),
            lost_seen: 0,
            left: [None; PATH_SLOTS],
        }
    }

    /// One above the highest counter that was used.
    pub(super) fn sealed(&self) -> u64 {
        self.half.next_counter()
    }

    /// The next key.
    pub(super) fn install(&mut self, now: Instant, key: SealKey) {
        self.half.install(now, key);
    }

    /// Data goes by `path` from now on. What was handed to one of the paths in `given_up` and is not acknowledged has to go out
    /// again; what is under way on the others stays there.
    pub(super) fn reroute(&mut self, now: Instant, path: PathSlot, given_up: impl Fn(PathSlot) -> bool) {
        let before = std::mem::replace(&mut self.path, path);
        for gone in PathSlot::all().filter(|path| given_up(*path)) {
            let left = self.left.get_mut(usize::from(gone.number())).and_then(Option::take);
            if left.is_some_and(|at| now.saturating_duration_since(at) >= SETTLED) {
                // What a lossy path lost at the last is of no use to anybody seconds later, and comes behind what is newer.
                self.half.settle(gone);
            }
            self.half.give_up(gone);
        }
        if let Some(left) = self.left.get_mut(usize::from(before.number())).filter(|_| before != path) {
            *left = Some(now);
        }
        if let Some(left) = self.left.get_mut(usize::from(path.number())) {
            *left = None;
        }
        let meant_before = self.again.clone();
        let mut is_any_given_up = false;
        for gone in PathSlot::all().filter(|path| given_up(*path)) {
            // It waits to go again. What a network that was only held up brings of it meanwhile, by a path that is in use again, overtakes
            // none of the rest.
            let moved =
                if gone == path { 0..self.cursor } else { self.half.move_repeat(gone, path, 0..self.cursor) };
            if gone != path && moved.is_empty() {
                continue;
            }
            self.again = hull(&self.again, &moved);
            is_any_given_up = true;
        }
        if is_any_given_up {
            // However much it is: it was sent no faster than the path before took it.
            self.piled_from = self.half.next_counter();
        }
        if before != path {
            // After what was given up: what was repeated there is a part of that, and goes at once. The rest is not known to have
            // arrived: if it is still missing it is repeated over the new path. What waited to go again was meant for the path
            // before, as was what was not handed over yet, and is none of its packets.
            if let Some(repeat) = &mut self.repeat {
                self.half.move_repeat(before, path, repeat.counters.clone());
                // The path before may yet fail, and nothing there is a packet of it any more: so it is asked for, as if a wire had it.
                repeat.is_lossy = true;
            }
            self.half.move_repeat(before, path, meant_before);
            self.half.resend(now, before, path, self.cursor..u64::MAX).for_each(drop);
        }
        if before != path || !self.again.is_empty() {
            self.window.iter_mut().for_each(Window::forget);
        }
        if !self.again.is_empty() {
            if let Some(repeat) = self.repeat.take() {
                // What may be missing of what went before goes along, or nobody would ask for it any more.
                self.again = hull(&repeat.counters, &self.again);
            }
            self.repeat = Some(Repeat::new(self.again.clone()));
        }
    }

    /// Another takes its place: what it holds goes once more, and nobody acknowledges that.
    pub(super) fn retire(&mut self) {
        self.window = None;
    }

    /// The path in doubt.
    pub(super) const fn set_doubted(&mut self, path: Option<PathSlot>) {
        self.half.set_doubted(path);
    }

    /// The doubt of a relay's stream ended, if there was one, with nothing given up: what its TCP had comes, but not what the relay dropped
    /// meanwhile for want of a reader. What is not acknowledged after a round trip goes once more, by whatever path data takes then.
    pub(super) fn end_doubt(&mut self, now: Instant, path: PathSlot, patience: Duration) {
        if self.half.doubted() != Some(path) {
            return;
        }
        let held = self.half.move_repeat(path, path, 0..self.cursor);
        if held.is_empty() {
            return;
        }
        let repeat = self.repeat.get_or_insert_with(|| Repeat::new(held.clone()));
        repeat.counters = hull(&repeat.counters, &held);
        repeat.is_lossy = true;
        if self.again.is_empty() {
            repeat.wait(now, patience + ACK_TAKES, self.half.acks_heard());
        }
    }

    /// Whether the frames of a turn may be too many for it to hold beside what is not acknowledged.
    pub(super) fn is_nearly_full(&self, limits: RingLimits) -> bool {
        self.half.room() < limits.bytes / DOUBT_SHARE
            || self.half.stats().ring.held + limits.packets / DOUBT_SHARE > limits.packets
    }

    /// Whether its key seals one more packet.
    pub(super) fn seals(&self, now: Instant) -> bool {
        self.half.key().is_some_and(|key| key.seals(now))
    }

    /// Bytes of memory that its packets lie in.
    pub(super) const fn memory(&self) -> usize {
        self.half.memory()
    }

    /// See [`SealHalf::was_short`].
    pub(super) const fn was_short(&mut self) -> bool {
        self.half.was_short()
    }

    /// See [`SealHalf::give_memory`].
    pub(super) fn give_memory(&mut self, bytes: usize) {
        self.half.give_memory(bytes);
    }

    /// Packets that are sealed and not handed over, or have to go again.
    pub(super) fn waiting(&self) -> u64 {
        (self.half.next_counter() - self.cursor) + (self.again.end - self.again.start)
    }

    /// Whether something has to go again, or is to go as that does.
    pub(super) const fn goes_again(&self) -> bool {
        self.again.start < self.again.end
    }

    /// Whether a frame of `len` bytes can be sealed without overwriting what is not acknowledged.
    pub(super) const fn holds_one_more(&self, len: usize) -> bool {
        self.half.room() > DATA_OVERHEAD + len
    }

    /// Says to the receiver that nothing more comes by the path in use: what comes by the next one need not wait for it any
    /// longer than for this (protocol §7.6). Without room it is not said, and the receiver's patience ends by itself. Nor where
    /// something waits that was meant for this path: that goes by the next one now, and comes before what the marker would end.
    pub(super) fn end_path(&mut self, ctx: &mut Context<'_>, way: Way) {
        let is_behind = !self.again.is_empty() || self.cursor < self.half.next_counter();
        if is_behind || self.half.outstanding(self.path) == 0 {
            return;
        }
        let Ok(sealed) = self.half.seal_prefixed(ctx.now, self.path, &[META_MOVED]) else { return };
        self.ages.on_sealed(ctx.now, sealed.counter);
        let _ = ctx.batches.push(ctx.snapshot, way, sealed.packet);
        if self.cursor == sealed.counter {
            self.cursor = sealed.counter + 1;
        }
    }

    /// Whether it holds anything that is not acknowledged.
    pub(super) fn is_holding(&self) -> bool {
        self.half.stats().ring.held > 0
    }

    /// Whether nothing of it waits or goes again, and all is acknowledged, or too old to go again (`is_old`).
    pub(super) fn is_settled(&mut self, is_old: bool) -> bool {
        self.waiting() == 0 && self.repeat.is_none() && (is_old || !self.look_for_acks())
    }

    /// Whether its key sealed so much that the next is due.
    pub(super) fn wants_rekey(&self) -> bool {
        self.half.wants_rekey()
    }

    /// Seals a frame (metadata byte first). With a way to go it is handed over at once if everything before it was; whether
    /// it was.
    ///
    /// # Errors
    /// As [`SealError`]; nothing was sealed then.
    pub(super) fn seal(
        &mut self,
        ctx: &mut Context<'_>,
        way: Option<Way>,
        plaintext: &[u8],
    ) -> Result<bool, SealError> {
        let sealed = self.half.seal_prefixed(ctx.now, self.path, plaintext)?;
        self.ages.on_sealed(ctx.now, sealed.counter);
        let is_handed_over = self.cursor == sealed.counter
            && self.again.is_empty()
            && way.is_some_and(|way| ctx.batches.push(ctx.snapshot, way, sealed.packet));
        if is_handed_over {
            self.cursor = sealed.counter + 1;
        }
        Ok(is_handed_over)
    }

    /// Whether its peer completes checksums that were left out.
    pub(super) fn completes_checksums(&self) -> bool {
        self.half.key().is_some_and(SealKey::completes_checksums)
    }

    /// Seals what is left of a superframe and sends it to `to` from the ring, as many packets with a call as one takes. What has to wait behind
    /// something else waits. What the key does not seal is left.
    pub(super) fn seal_run(
        &mut self,
        ctx: &mut Context<'_>,
        to: SocketAddr,
        cutting: &mut Cutting<'_>,
    ) -> Ran {
        let mut ran = Ran::default();
        // What is acknowledged by now makes room that the processor has at hand.
        self.half.apply_acks();
        while cutting.count() > 0 {
            let expected = cutting.count() * (cutting.longest() + DATA_OVERHEAD);
            let Ok(mut run) = self.half.run(ctx.now, self.path, expected) else { break };
            while let Some(plaintext) = cutting.front() {
                if let Some(meta) = plaintext.first_mut() {
                    *meta = META_NEEDS_CHECKSUM;
                }
                let len = plaintext.len() - META_LEN;
                let Ok(Fit::Taken) = run.push_prefixed(plaintext) else { break };
                ran.bytes += len as u64;
                cutting.advance();
            }
            let SealedRun { first, packets, segment, bytes } = run.finish();
            if packets == 0 {
                break;
            }
            ran.packets += packets as u64;
            self.ages.on_sealed(ctx.now, first);
            ran.is_handed_over = self.cursor == first
                && self.again.is_empty()
                && ctx.batches.datagrams.send_run(to, bytes, segment, packets);
            if ran.is_handed_over {
                self.cursor = first + packets as u64;
            }
        }
        ran
    }

    /// Hands over what waits in the ring, as far as there is room: what has to go again, and behind it what was sealed since. What is no
    /// more than a backlog goes as it would have gone, had there been room for it.
    pub(super) fn pump(
        &mut self,
        ctx: &mut Context<'_>,
        way: Way,
        route: &PeerRoute,
        is_backlog: bool,
    ) -> Pumped {
        let next = self.half.next_counter();
        if let Some(repeat) = &mut self.repeat
            && self.again.is_empty()
            && repeat.at.take_if(|at| *at <= ctx.now).is_some()
        {
            self.half.apply_acks();
            // The peer may still say what it has by a path that leads nowhere. What nobody asks for any more is not waited for.
            let is_heard = self.half.acks_heard() > repeat.heard;
            let is_settled = is_heard || repeat.counters.end <= self.ages.advance(ctx.now, next);
            if is_settled {
                // What was no longer there is older than what was.
                self.half.count_missing(0..repeat.counters.end);
            }
            // A relay that dropped some has a receiver who takes the rest, and says so. Of one who says nothing it has all that it can hold.
            if repeat.is_lossy && (is_settled || !way.via.is_stream()) {
                let missing = self.half.held(repeat.counters.clone()).packets;
                if missing > 0 && (std::mem::take(&mut repeat.is_burst) || way.via.is_stream()) {
                    repeat.counters.end = self.cursor;
                }
                if way.via.is_stream() && missing > 0 {
                    if std::mem::replace(&mut repeat.missing, missing) > missing {
                        // It is of use.
                        repeat.pause = Duration::ZERO;
                    }
                    self.window.iter_mut().for_each(Window::on_dropped);
                }
                self.again = repeat.counters.clone();
            } else if is_settled {
                self.repeat = None;
            } else {
                repeat.pause *= 2;
                repeat.at = Some(ctx.now + repeat.pause);
            }
            self.count_lost(&route.counters);
        }
        if self.again.is_empty() && self.cursor >= next {
            return Pumped::default();
        }
        let too_old = self.ages.advance(ctx.now, next);
        if self.again.clone().chain(self.cursor..next).next().is_some_and(|first| first < too_old) {
            self.half.give_up_below(too_old);
        }
        let is_joining = match way.via {
            Via::Channel(_) => !self.again.is_empty() || !is_backlog,
            Via::Udp(_) | Via::RelayUdp(_) => !self.again.is_empty(),
            Via::Tcp(_) => false,
        };
        if is_joining {
            self.repeat_waiting();
        }
        let mut pumped = Pumped::default();
        if !self.again.is_empty() {
            pumped = self.hand_over_again(ctx, way, route);
        }
        if !pumped.is_stopped {
            let later = self.hand_over_waiting(ctx, way, next);
            pumped = Pumped { is_sent: pumped.is_sent || later.is_sent, ..later };
        }
        self.count_lost(&route.counters);
        pumped
    }

    /// Hands over what was not yet: the socket or the stream had no room for it.
    fn hand_over_waiting(&mut self, ctx: &mut Context<'_>, way: Way, next: u64) -> Pumped {
        let waiting = self.half.resend(ctx.now, self.path, self.path, self.cursor..next);
        let HandedOver { sent, stopped, .. } = hand_over(waiting, ctx, way, usize::MAX, self.cursor);
        let handed_over = self.cursor..stopped.unwrap_or(next);
        self.cursor = handed_over.end;
        // What was overwritten before it was ever handed over has nowhere arrived.
        self.half.count_missing(handed_over);
        Pumped { is_sent: sent > 0, is_stopped: self.cursor < next }
    }

    /// There is a way again: what waited for one goes where it may be lost, all of it at once.
    pub(super) fn on_way_back(&mut self) {
        self.piled_from = self.half.next_counter();
        self.repeat_waiting();
    }

    /// What waited goes as what goes again does: until it is known to have arrived.
    fn repeat_waiting(&mut self) {
        let next = self.half.next_counter();
        if self.cursor >= next {
            return;
        }
        let first = std::mem::replace(&mut self.cursor, next);
        self.fresh = self.fresh.min(first);
        if self.again.is_empty() {
            self.again.start = first;
        }
        self.again.end = next;
        self.repeat.get_or_insert_with(|| Repeat::new(first..next)).counters.end = next;
    }

    /// Hands over what has to go again, as fast as it may, and sees to it that it arrives.
    fn hand_over_again(&mut self, ctx: &mut Context<'_>, way: Way, route: &PeerRoute) -> Pumped {
        if self.paced_until.is_some_and(|until| until > ctx.now) {
            return Pumped { is_sent: false, is_stopped: true };
        }
        let (budget, pace) = match way.via {
            Via::Udp(_) | Via::RelayUdp(_) => (PACE_BYTES, Some(ctx.now + PACE)),
            Via::Channel(_) => (self.window_room(ctx.now), None),
            Via::Tcp(_) => (usize::MAX, None),
        };
        if budget == 0 {
            return Pumped { is_sent: false, is_stopped: true };
        }
        let again = self.half.repeat(ctx.now, self.path, self.again.clone());
        let HandedOver { sent, resent, bytes, stopped } = hand_over(again, ctx, way, budget, self.fresh);
        add(&route.counters.resent, resent);
        self.is_again_lossy |= sent > 0 && !matches!(way.via, Via::Tcp(_));
        let handed_over = self.again.start..stopped.unwrap_or(self.again.end);
        self.again.start = handed_over.end;
        // What was overwritten before it was ever handed over has nowhere arrived.
        self.half.count_missing(handed_over.start.max(self.fresh)..handed_over.end);
        self.fresh = self.fresh.max(handed_over.end);
        let is_stopped = !self.again.is_empty();
        self.paced_until = pace.filter(|_| sent > 0 && is_stopped);
        if let Some(repeat) = &mut self.repeat {
            repeat.is_burst |= self.paced_until.is_some();
        }
        if let Some(window) = self.window.as_mut().filter(|_| sent > 0 && matches!(way.via, Via::Channel(_)))
        {
            let pause = route.patience + ACK_TAKES;
            window.on_left(ctx.now, handed_over.start, bytes, self.half.acks_heard(), pause);
        }
        if !is_stopped {
            self.fresh = u64::MAX;
            let is_lossy = std::mem::take(&mut self.is_again_lossy);
            let is_new = |repeat: &Repeat| repeat.pause.is_zero() && repeat.missing == usize::MAX;
            self.repeat = self.repeat.take().filter(|repeat| is_lossy || is_new(repeat));
            // What joined one that is to go again puts it off no further.
            if let Some(repeat) = self.repeat.as_mut().filter(|repeat| repeat.at.is_none()) {
                repeat.is_lossy = is_lossy;
                let pause = (2 * repeat.pause).max(route.patience + ACK_TAKES);
                repeat.wait(ctx.now, pause, self.half.acks_heard());
            }
        }
        Pumped { is_sent: sent > 0, is_stopped }
    }

    /// Bytes of what goes again that may leave over a relay now.
    fn window_room(&mut self, now: Instant) -> usize {
        let (half, end) = (&mut self.half, self.again.start);
        self.window.as_mut().map_or(usize::MAX, |window| {
            window.room(now, |from| {
                half.apply_acks();
                Looked { missing: half.held(from..end).bytes, heard: half.acks_heard() }
            })
        })
    }

    /// Whether what goes to a relay piles up: more waits for the window than that holds ([`PILE_MIN`] at least), though all that had waited
    /// for a way, or was given up, is gone.
    /// Frames come faster than they arrive, then, and what is sealed has to arrive.
    pub(super) fn is_piling_up(&mut self, now: Instant) -> bool {
        if self.again.is_empty() || self.again.start < self.piled_from {
            return false;
        }
        if self.piles_up.is_none_or(|(until, _)| until <= now) {
            let waits = self.half.held(self.again.start..self.half.next_counter()).bytes;
            let is_too_much = self.window.as_ref().is_some_and(|window| waits > window.bytes().max(PILE_MIN));
            self.piles_up = Some((now + LOOK, is_too_much));
        }
        self.piles_up.is_some_and(|(_, is_too_much)| is_too_much)
    }

    /// When [`Self::pump`] has something to do that it had not before.
    pub(super) fn pump_due(&self) -> Option<Instant> {
        if self.again.is_empty() {
            // What waits for room alone has whoever makes that wake this thread.
            return self.repeat.as_ref()?.at;
        }
        self.paced_until.or_else(|| self.window.as_ref()?.due())
    }

    /// Nothing more is heard of it: what was no longer there when it had to go again is lost.
    pub(super) fn close(mut self, counters: &PeerCounters) {
        self.half.count_missing(0..u64::MAX);
        self.count_lost(counters);
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
        PathSlot::all().any(|path| self.half.outstanding(path) > 0)
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

/// The counters of both and whatever lies between; of one where the other is empty.
fn hull(one: &Range<u64>, other: &Range<u64>) -> Range<u64> {
    match (one.is_empty(), other.is_empty()) {
        (true, _) => other.clone(),
        (false, true) => one.clone(),
        (false, false) => one.start.min(other.start)..one.end.max(other.end),
    }
}

/// What was handed over.
#[derive(Debug, Default)]
struct HandedOver {
    /// Packets.
    sent: u64,
    /// Those of them that had been before.
    resent: u64,
    /// Their bytes.
    bytes: usize,
    /// The counter from which on they were not.
    stopped: Option<u64>,
}

/// Hands over packets, `budget` bytes of them at most. From the counter `fresh` on they go for the first time.
fn hand_over(
    mut packets: Resend<'_>,
    ctx: &mut Context<'_>,
    way: Way,
    mut budget: usize,
    fresh: u64,
) -> HandedOver {
    let mut done = HandedOver::default();
    while budget > 0 {
        let Some(sealed) = packets.next() else { return HandedOver { stopped: None, ..done } };
        let is_taken =
            ctx.batches.has_room(ctx.snapshot, way.via) && ctx.batches.push(ctx.snapshot, way, sealed.packet);
        if !is_taken {
            return HandedOver { stopped: Some(sealed.counter), ..done };
        }
        done.sent += 1;
        done.resent += u64::from(sealed.counter < fresh);
        done.stopped = Some(sealed.counter + 1);
        done.bytes += sealed.packet.len();
        budget = budget.saturating_sub(sealed.packet.len());
    }
    done
}
