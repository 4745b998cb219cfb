//! Which path data takes, and what the peer is told of it (protocol §7.6, §7.8).
//!
//! [`Peer::show`] is called after every change: it chooses among the paths that are proven, and when the choice is another one
//! it tells the data plane (`Route`, `Resend`), counts the move, and says RESUME to the peer until that acknowledged it.
//!
//! # Invariants
//!
//! - A move between two proven paths gives nothing up. One from a path in doubt gives up what is under way there.
//! - From a direct path in doubt data moves to no other that has said nothing since the doubt began: it may lead into the same hole. It is
//!   asked, and has as long to answer as any that may be gone; what is over the relay is asked at the same time.
//! - A move away from silence proves nothing of where it leads: that path is asked at once, and where none of those that data takes
//!   answers for [`DEAD_AFTER`] the peer is not shown as connected, however often data moved meanwhile.
//! - Of the peer's RESUMEs the highest number counts. It informs; it never moves this side's data.
//! - The relay's path rests only while this side's direct path is beyond doubt and the peer said that it is direct too.

use super::direct::{Direct, base_size};
use super::direct_tcp::DirectTcp;
use super::{Context, Peer};
use crate::bucket::Bucket;
use crate::endpoint::event::{Contact, Event, PeerState, Via};
use crate::membership::Gate;
use crate::path::liveness::DEAD_AFTER;
use crate::path::select::{Choice, Losing, PathKind, Wanted, choose, is_much_worse, seems_slow};
use crate::path::state::Path;
use crate::session::PathSlot;
use crate::session::rekey::Role;
use crate::time::Deadline;
use crate::wire::control::{Control, PathAck};
use std::time::{Duration, Instant};

/// Wishes that a peer's users may have: eight at once, and one more a second. Each may be a move.
pub(super) const WISHES: Bucket = Bucket::new(8, Duration::from_secs(1));
/// A wish's number is at most so much above the one before: else a peer could say the last that there is.
const WISH_STEP: u64 = 1 << 32;
/// How far the data plane may be ahead of what it said that it sealed, packets: that is a tenth of a second old, and what it says waits
/// its turn. Ten million a second are more than a machine seals.
const SEALED_SINCE: u64 = 1 << 20;
/// RESUME and USE are repeated this often until acknowledged.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// What the two said to each other about the paths they send on (protocol §7.6).
#[derive(Debug, Default)]
pub(super) struct Resume {
    /// The number of this side's last.
    pub(super) number: u64,
    /// When it was last said, while the peer has not acknowledged it.
    pub(super) said: Option<Instant>,
    /// Whether the move it tells of left silence.
    left_silence: bool,
    /// The highest number heard.
    pub(super) heard: u64,
    /// What it said. One that has a path and says nothing sends by the relay's stream, where every session begins.
    pub(super) peer_kind: Option<PathKind>,
    /// Whether the relay was told RELEASE since the channel was last used.
    pub(super) is_released: bool,
}

/// Nothing was proven of wherever data went, over however many moves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silence {
    /// Since when.
    since: Instant,
    /// When data last left a path because of it, or was found to have left one that is silent: what is answered from then on ends it.
    noticed: Instant,
}

/// What users of either side want (protocol §7.9).
#[derive(Debug, Default)]
pub(super) struct Wish {
    pub(super) wanted: Wanted,
    /// The number of the USE it is from.
    number: u64,
    /// A user of this side wants it.
    is_own: bool,
    /// When this side last said it, while the peer has not acknowledged it.
    said: Option<Instant>,
}

impl Peer {
    /// A user here wants this. It lasts until another wish, of either side, or until this process ends.
    pub(super) fn wish(&mut self, ctx: &mut Context<'_>, wanted: Wanted) {
        self.wish = Wish { wanted, number: self.wish.number.saturating_add(1), is_own: true, said: None };
        self.say_wish(ctx);
        if wanted.allows(PathKind::DirectUdp)
            && self.session.is_some()
            && ctx.local.has_udp
            && !self.is_barred
        {
            self.direct.begin(ctx.now, "a direct path was asked for");
        }
        self.hurry_wanted();
    }

    /// What is wanted is tried at once, whatever was found before.
    fn hurry_wanted(&mut self) {
        match self.wish.wanted {
            Wanted::RelayUdp | Wanted::Relay => self.relay_udp.hurry(),
            Wanted::DirectTcp => self.direct_tcp.hurry(),
            Wanted::Auto | Wanted::Direct | Wanted::RelayWs => {}
        }
    }

    /// The peer's user wants something; whether that is taken in, now or before. What is not is said again by the peer.
    pub(super) fn on_use(&mut self, now: Instant, number: u64, wanted: Wanted) -> bool {
        let is_tie_lost = number == self.wish.number && self.role == Role::Higher;
        if number < self.wish.number || (number == self.wish.number && !is_tie_lost) {
            return true;
        }
        if number.saturating_sub(self.wish.number) > WISH_STEP {
            return false;
        }
        if is_tie_lost && self.wish.wanted == wanted && self.wish.said.is_none() {
            return true;
        }
        if !self.wish_budget.take(now) {
            return false;
        }
        self.wish = Wish { wanted, number, is_own: false, said: None };
        // A try that the peer causes is metered, however it causes it.
        if wanted != Wanted::DirectTcp || self.tcp_budget.take(now) {
            self.hurry_wanted();
        }
        true
    }

    pub(super) fn on_use_ack(&mut self, number: u64) {
        if number == self.wish.number {
            self.wish.said = None;
        }
    }

    /// In a new session the peer may have forgotten what was wanted, and counts anew: where it did not know the number, what its user wants
    /// next would be older than what is known here.
    pub(super) fn renew_wish(&mut self, now: Instant) {
        self.wish.said = (self.wish.number > 0).then_some(now);
    }

    /// The peer restarted: what its user wanted is over.
    pub(super) const fn end_wish_of_peer(&mut self) {
        if !self.wish.is_own {
            self.wish.wanted = Wanted::Auto;
        }
    }

    pub(super) fn say_wish(&mut self, ctx: &mut Context<'_>) {
        let Wish { wanted, number, .. } = self.wish;
        self.wish.said = Some(ctx.now);
        self.send(ctx, &Control::Use { number, wanted });
    }

    /// When USE is to be said again.
    pub(super) fn wish_due(&self) -> Option<Deadline> {
        self.repeat_due(self.wish.said, "repeat USE")
    }

    /// Whether the peer acknowledged what this side wants and where it sends.
    pub(super) const fn is_agreed(&self) -> bool {
        self.wish.said.is_none() && self.resume.said.is_none()
    }

    /// Tells how far its paths may be apart, when that changed by a quarter.
    pub(super) fn tell_patience(&mut self, ctx: &mut Context<'_>) {
        // A stream loses nothing, its TCP only takes its time: to repair a loss, or to get up to speed again after a rest.
        let takes = |via: Via, rtt: Duration| if via.is_stream() { 2 * rtt } else { rtt };
        let direct = self.direct_paths().filter_map(|(via, path)| Some(takes(via, path.rtt()?)));
        let relayed = self.path.as_ref().and_then(Path::rtt).map(|rtt| 2 * rtt);
        let by_datagram = self.relay_udp.path().and_then(Path::rtt);
        let slowest = direct.chain(relayed).chain(by_datagram).max().unwrap_or_default();
        if slowest.abs_diff(self.patience) > self.patience / 4 {
            self.patience = slowest;
            ctx.out.event(Event::Patience { slot: self.slot, patience: slowest });
        }
    }

    /// Whether the path that data takes is beyond doubt, whichever it is.
    pub(super) fn is_well_routed(&self) -> bool {
        let path = self.routed_path();
        path.is_some_and(|path| path.is_proven() && !path.is_questioned())
    }

    /// Whether data goes directly, as it should, and nothing is wrong with that.
    pub(super) fn is_well_direct(&self) -> bool {
        let direct = self.routed.filter(|via| via.kind().is_direct());
        direct
            .filter(|via| self.wish.wanted.allows(via.kind()))
            .and_then(|via| self.path_of(via))
            .is_some_and(|path| {
                let rtts = path.sustained_rtt().zip(self.relayed_rtt());
                // What is known of the relay may be as old as the session, from a busy moment.
                let is_slow = rtts.is_some_and(|(rtt, relayed)| is_much_worse(rtt, relayed))
                    || path.slow_since().is_some_and(|since| !self.relay_answered_since(since));
                path.is_proven() && !path.is_questioned() && !path.is_losing() && !is_slow
            })
    }

    /// What leads over the relay, its stream and by datagram; also while these rest.
    fn relayed(&self) -> impl Iterator<Item = &Path> {
        let relayed = [self.path.as_ref(), self.relay_udp.path()].into_iter().flatten();
        relayed.filter(|path| !path.is_dead())
    }

    /// What an answer over the relay takes.
    fn relayed_rtt(&self) -> Option<Duration> {
        self.relayed().filter_map(Path::sustained_rtt).min()
    }

    /// Whether all that there is over the relay answered something that it was asked since then.
    fn relay_answered_since(&self, then: Instant) -> bool {
        self.relayed().all(|path| path.has_answered_since(then))
    }

    /// What leads over the relay rests while both sides send directly, and wakes as soon as this side's direct path is in doubt.
    pub(super) fn rest_or_wake(&mut self, ctx: &mut Context<'_>) {
        let is_well = self.is_well_direct();
        let peer_is_direct = self.resume.peer_kind.is_some_and(PathKind::is_direct);
        if is_well && self.contact.is_some() && self.path.is_none() {
            // Lost or never found while the direct one works: nothing to prove before it is wanted.
            self.path = Some(Path::resting(ctx.now, PathKind::RelayWs));
        }
        if !is_well {
            if self.relay_udp.path().is_some_and(Path::is_resting) {
                self.relay_udp_hold_back(ctx.now);
            }
            self.resume.is_released = false;
        }
        let may_rest = peer_is_direct && self.resume.said.is_none();
        for path in [&mut self.path, self.relay_udp.path_slot()] {
            let Some(path) = path else { continue };
            if !is_well {
                path.wake(ctx.now);
            } else if may_rest {
                path.rest();
            }
        }
    }

    /// Where control goes: where data goes, or else to the contact.
    pub(super) fn way(&self) -> Option<Via> {
        self.routed.or_else(|| self.contact.map(Via::Channel))
    }

    /// Whether what arrived by `via` may be acknowledged there: the peer proved that it leads both ways, while where this side's data goes
    /// may have fallen silent without this side knowing it yet.
    pub(super) fn way_back(&self, via: Via) -> Option<Via> {
        let is_there = match via {
            // Through the relay it need not have been proven by this side, nor be known to it as a path.
            Via::Channel(contact) | Via::RelayUdp(contact) => {
                self.contact == Some(contact) && !self.path_of(via).is_some_and(Path::is_dead)
            }
            // An address is not answered for having been seen.
            Via::Udp(_) | Via::Tcp(_) => self.path_of(via).is_some_and(|path| !path.is_dead()),
        };
        is_there.then_some(via)
    }

    /// Every path between the two alone.
    pub(super) fn direct_paths(&self) -> impl Iterator<Item = (Via, &Path)> {
        let by_datagram = self.direct.paths().map(|known| (Via::Udp(known.remote), &known.path));
        by_datagram.chain(self.direct_tcp.links().map(|known| (Via::Tcp(known.link), &known.path)))
    }

    /// Every way through the relay, whether or not a path is there.
    pub(super) fn relayed_ways(&self) -> impl Iterator<Item = Via> + use<> {
        self.contact.into_iter().flat_map(|contact| [Via::RelayUdp(contact), Via::Channel(contact)])
    }

    /// Every way to the peer, whether or not a path is there.
    fn ways(&self) -> impl Iterator<Item = Via> {
        self.direct_paths().map(|(via, _)| via).chain(self.relayed_ways())
    }

    /// The path that data takes.
    fn routed_path(&self) -> Option<&Path> {
        self.path_of(self.routed?)
    }

    pub(super) fn path_of(&self, via: Via) -> Option<&Path> {
        match via {
            Via::Channel(contact) => self.path.as_ref().filter(|_| self.contact == Some(contact)),
            Via::Udp(remote) => self.direct.path(remote),
            Via::Tcp(link) => self.direct_tcp.path(link),
            Via::RelayUdp(contact) => self.relay_udp.path().filter(|_| self.contact == Some(contact)),
        }
    }

    pub(super) fn path_at(&mut self, via: Via) -> Option<&mut Path> {
        match via {
            Via::Channel(contact) => self.path.as_mut().filter(|_| self.contact == Some(contact)),
            Via::Udp(remote) => self.direct.path_mut(remote),
            Via::Tcp(link) => self.direct_tcp.path_mut(link),
            Via::RelayUdp(contact) => {
                let is_current = self.contact == Some(contact);
                self.relay_udp.path_mut().filter(|_| is_current)
            }
        }
    }

    /// What was sent on the path of this kind and is not acknowledged goes out again with the next route.
    pub(super) const fn abandon(&mut self, kind: PathKind) {
        self.abandoned[kind.slot().index()] = true;
    }

    /// Whether what goes again since the path before was silent may not have come yet: until then it is not overtaken by data on a path
    /// of which the receiver does not know that it was left.
    fn is_leaving_silence(&self) -> bool {
        self.resume.left_silence
            && self.resume.said.is_some()
            && self.routed_path().is_some_and(Path::is_proven)
    }

    /// Where data is to go now (protocol §7.6).
    pub(super) fn choose(&self, now: Instant) -> Option<Via> {
        self.session.as_ref()?;
        if self.is_leaving_silence() {
            return self.routed;
        }
        let is_held_back = self.relay_udp.holds_back(now);
        // Data that waits for any way at all waits for that a moment as well: what goes by the stream first and by datagrams a moment
        // later is overtaken, and the receiver, who knows the datagrams' path from before, sees no move to wait for.
        let waits = is_held_back && self.routed.is_none() && self.last_kind.is_some();
        let stream = self.contact.map(Via::Channel).zip(self.path.as_ref()).filter(|_| !waits);
        let by_datagram = self.contact.map(Via::RelayUdp).zip(self.relay_udp.path());
        let relayed = by_datagram.into_iter().chain(stream).map(|(via, path)| {
            let is_early =
                is_held_back && via.kind() == PathKind::RelayWs && self.routed.is_some_and(|now| now != via);
            // One by datagram that data left in doubt has to have behaved since.
            let is_current = self.routed == Some(via);
            let is_good = via.kind() == PathKind::RelayWs || is_current || self.relay_udp.may_take_data();
            (via, path, path.is_proven() && !is_early && is_good)
        });
        let followed = self.direct.followed();
        // What may be gone is not moved to before it answered.
        let may_be_there = |via: Via, path: &Path| self.routed == Some(via) || !path.is_questioned();
        let all = self.direct.paths().map(|known| {
            // The one in use stays as long as it is proven; another has to have behaved, unless it is where the peer went.
            let via = Via::Udp(known.remote);
            let is_where_it_is = followed.is_none_or(|followed| followed == known.remote);
            let is_direct = self.routed.is_some_and(|via| via.kind().is_direct());
            let is_current = self.routed == Some(via) || (followed.is_some() && is_direct);
            let may =
                is_where_it_is && known.path.is_proven() && (is_current || Direct::may_take_data(known));
            (via, &known.path, may && may_be_there(via, &known.path))
        });
        let by_tcp = self.direct_tcp.links().map(|known| {
            let via = Via::Tcp(known.link);
            let is_current = self.routed == Some(via) && known.path.is_proven();
            let may = is_current || DirectTcp::may_take_data(known);
            (via, &known.path, may && may_be_there(via, &known.path))
        });
        let all: Vec<_> = all.chain(by_tcp).chain(relayed).collect();
        let able: Vec<_> = all.iter().filter(|(_, _, may)| *may).collect();
        let wanted: Vec<_> =
            able.iter().copied().filter(|(via, _, _)| self.wish.wanted.allows(via.kind())).collect();
        // A path that is wanted and dead carries nothing: then the others do.
        let able = if wanted.is_empty() { able } else { wanted };
        let loses = self.routed_path().is_some_and(Path::is_lossy);
        // A better one that is being tried is waited for: one move, not two.
        let tried = able
            .iter()
            .filter(|(via, path, _)| self.routed != Some(*via) && path.is_on_trial() && !path.is_lossy());
        let tried = tried.map(|(via, _, _)| via.kind()).min();
        let choices: Vec<_> = able
            .iter()
            .map(|(via, path, _)| {
                let is_current = self.routed == Some(*via);
                let would_lose_less = path.is_fit(now) && tried.is_none_or(|tried| tried >= via.kind());
                // What loses much is not left for what may lose as much.
                let losing = match (path.is_lossy(), is_current) {
                    (true, true) if !path.was_unfit() => Losing::MuchWhereDataIs,
                    (true, _) => Losing::Much,
                    (false, false) if loses && !would_lose_less => Losing::Much,
                    (false, _) => Losing::Little,
                };
                Choice {
                    kind: via.kind(),
                    rtt: path.rtt(),
                    sustained: path.sustained_rtt(),
                    is_current,
                    losing,
                }
            })
            .collect();
        if let Some(at) = choose(&choices, self.relayed_rtt()) {
            return able.get(at).map(|(via, _, _)| *via);
        }
        // Nothing that is beyond doubt: what data takes now, or whatever may still work.
        let usable = |via: &Via| all.iter().any(|(other, path, _)| other == via && path.is_usable());
        let any = all.iter().find(|(_, path, _)| path.is_usable()).map(|(via, _, _)| *via);
        self.routed.filter(usable).or(any)
    }

    /// Since when nothing is known of data's path. What is dead, gone, or asked anew after that was in doubt before.
    fn look_for_doubt(&mut self) {
        let Some(path) = self.routed_path() else { return };
        if path.is_suspect() || path.is_proven() {
            self.doubted_since = path.silent_since();
        }
    }

    /// While data's direct path is in doubt the others are asked whether they share its fate: none takes data before it answered.
    fn question_beside(&mut self, now: Instant) {
        let direct = self.routed.filter(|via| via.kind().is_direct()).and_then(|via| self.path_of(via));
        let Some(since) = direct.and_then(Path::suspect_since) else { return };
        let is_silent = |path: &Path| path.is_proven() && !path.is_questioned() && path.answered() < since;
        let beside = self.direct_paths().filter(|(_, path)| is_silent(path));
        let silent: Vec<_> = beside.map(|(via, _)| via).collect();
        for via in silent {
            if let Some(path) = self.path_at(via) {
                path.question(now);
            }
        }
    }

    /// A direct path that seems too slow beside the relay is asked again soon, while it is new: what it took may be from a busy moment.
    fn ask_the_slow_again(&mut self, now: Instant) {
        let Some(relayed) = self.relayed_rtt() else { return };
        let is_slow = |path: &Path| path.sustained_rtt().is_some_and(|direct| seems_slow(direct, relayed));
        let slow = self.direct_paths().filter(|(via, path)| self.routed != Some(*via) && is_slow(path));
        let slow: Vec<_> = slow.map(|(via, _)| via).collect();
        for via in slow {
            if let Some(path) = self.path_at(via) {
                path.ask_whether_slow(now);
            }
        }
    }

    /// While data's path loses too much the others are asked whether they would lose less.
    fn try_out_beside(&mut self, now: Instant) {
        if !self.routed_path().is_some_and(Path::is_losing) {
            return;
        }
        let is_worth_it =
            |via: &Via| self.routed != Some(*via) || self.path_of(*via).is_some_and(Path::is_only_shunned);
        let tried: Vec<_> = self.ways().filter(is_worth_it).collect();
        for via in tried {
            if let Some(path) = self.path_at(via) {
                path.try_out(now);
            }
        }
    }

    pub(super) fn show(&mut self, ctx: &mut Context<'_>) {
        self.look_for_doubt();
        self.question_beside(ctx.now);
        self.try_out_beside(ctx.now);
        self.ask_the_slow_again(ctx.now);
        let via = self.choose(ctx.now);
        if self.routed != via {
            self.move_to(ctx, via);
        }
        self.look_for_doubt_behind(ctx);
        // After the move's own events, and whenever the path is found to carry more or less.
        self.tell_route(ctx);
        if self.route_told.is_some() {
            for path in PathSlot::all() {
                if std::mem::take(&mut self.abandoned[path.index()]) {
                    ctx.out.event(Event::Resend { slot: self.slot, path });
                }
            }
        }
        let doubted = match self.routed {
            Some(via) => {
                Some(via).filter(|via| self.path_of(*via).is_some_and(Path::is_suspect)).map(Via::kind)
            }
            // It died in doubt: what is kept for that is given up with the next route, and must be there then.
            None => self.doubted.filter(|_| self.session.is_some()),
        };
        if self.doubted != doubted {
            self.doubted = doubted;
            if doubted.is_some_and(|kind| !kind.is_stream()) {
                self.direct.on_doubt();
            }
            ctx.out.event(Event::Doubt { slot: self.slot, path: doubted.map(PathKind::slot) });
        }
        let answered = self.routed_path().map(Path::answered);
        self.silence = self.silence.filter(|silence| answered.is_none_or(|at| at < silence.noticed));
        let is_silent = self.silence_ends().is_some_and(|at| at <= ctx.now);
        let is_sought =
            self.contact.is_some() || (self.session.is_some() && self.direct_paths().next().is_some());
        let state = match via {
            Some(_) if !is_silent => self.reached(ctx),
            Some(_) => PeerState::Connecting,
            None if self.rest.is_asleep() && self.contact.is_some() => PeerState::Idle,
            None if is_sought => PeerState::Connecting,
            None => PeerState::Offline,
        };
        if self.shown != state {
            self.shown = state;
            ctx.out.event(Event::PeerState { slot: self.slot, state });
        }
    }

    /// A path of this kind, which data does not take any more, has been silent since then: what it had of it may have been swallowed.
    fn leave_in_doubt(&mut self, now: Instant, kind: PathKind, since: Instant) {
        self.abandon(kind);
        let since = self.silence.map_or(since, |silence| silence.since);
        self.silence = Some(Silence { since, noticed: now });
    }

    /// Data left a path that works. Where that was because another is much faster, a direct one has to earn its return: who makes it slow
    /// now and then does not make data move as often.
    fn leave_slow(&mut self, now: Instant, old: Via) {
        let is_slow = self.routed.is_some_and(|new| new.kind() > old.kind())
            && self.wish.wanted.allows(old.kind())
            && !self.path_of(old).is_some_and(Path::is_lossy);
        match old {
            Via::Udp(remote) if is_slow => self.direct.on_left_slow(now, remote),
            Via::Tcp(link) if is_slow => self.direct_tcp.on_left_slow(now, link),
            Via::Udp(_) | Via::Tcp(_) | Via::Channel(_) | Via::RelayUdp(_) => {}
        }
    }

    /// Where data goes now is asked whether it is any better than what was silent.
    fn ask_in_silence(&mut self, now: Instant) {
        let Some(via) = self.routed.filter(|_| self.silence.is_some()) else { return };
        if let Some(path) = self.path_at(via) {
            match via {
                // Another address of a peer that is silent at one is likely to share its fate: nothing is left to that one, and the
                // relay's path does not rest, before it answered.
                Via::Udp(_) => path.question(now),
                // What comes before the PING in a stream, or at the relay, may take its time: it was all sent at once.
                Via::Tcp(_) | Via::Channel(_) | Via::RelayUdp(_) => path.want_ping(now),
            }
        }
    }

    /// Paths that fell into doubt after data had left them for better ones: no move tells of those.
    fn look_for_doubt_behind(&mut self, ctx: &Context<'_>) {
        for kind in PathKind::ALL {
            let is_left = self.routed.is_some_and(|via| via.kind() != kind);
            let suspects = self.ways().filter(|via| is_left && via.kind() == kind);
            let since = suspects.filter_map(|via| self.path_of(via)?.silent_since()).min();
            let at = kind.slot().index();
            let was_in_doubt = std::mem::replace(&mut self.left_in_doubt[at], since.is_some());
            if let Some(since) = since.filter(|_| !was_in_doubt) {
                self.leave_in_doubt(ctx.now, kind, since);
                self.ask_in_silence(ctx.now);
            }
        }
    }

    /// When this side has to stop saying that it is connected, unless something is proven before.
    fn silence_ends(&self) -> Option<Instant> {
        let silence = self.silence?;
        // What answered before the silence was noticed shows that all passed when that was asked, and no more.
        let known = self.routed_path().and_then(Path::known_at);
        Some(known.map_or(silence.since, |at| at.max(silence.since)) + DEAD_AFTER)
    }

    /// When that has to be looked at.
    pub(super) fn silence_due(&self) -> Option<Deadline> {
        let ends = self.silence_ends().filter(|_| self.shown == PeerState::Connected)?;
        Some(Deadline::new(ends, "nothing was proven of any path"))
    }

    /// Data goes by `via` from now on.
    pub(super) fn move_to(&mut self, ctx: &mut Context<'_>, via: Option<Via>) {
        let before = std::mem::replace(&mut self.routed, via);
        let is_planned = |old: Via| {
            via.is_some_and(|new| new.kind() != old.kind()) && self.path_of(old).is_some_and(Path::is_proven)
        };
        let left_silence = before.is_some_and(|old| !is_planned(old));
        if before.is_some_and(|old| self.path_of(old).is_some_and(Path::is_lossy)) {
            let others: Vec<_> = self.ways().filter(|way| Some(*way) != before).collect();
            for way in others {
                if let Some(path) = self.path_at(way) {
                    path.shun_unless_fit(ctx.now);
                }
            }
        }
        match before {
            Some(old) if !left_silence => self.leave_slow(ctx.now, old),
            Some(old) => {
                let since = self.doubted_since.take();
                self.leave_in_doubt(ctx.now, old.kind(), since.unwrap_or(ctx.now));
                if !old.is_stream() {
                    self.direct.on_doubt();
                }
                if via.is_none_or(|new| new.kind() != old.kind()) {
                    match old {
                        Via::Udp(remote) => self.direct.on_left_in_doubt(ctx.now, remote),
                        Via::Tcp(_) => self.direct_tcp.on_left_in_doubt(ctx.now),
                        Via::RelayUdp(contact) if self.contact == Some(contact) => {
                            self.relay_udp.on_left_in_doubt(ctx.now);
                        }
                        Via::Channel(_) | Via::RelayUdp(_) => {}
                    }
                } else if let Via::Udp(remote) = old {
                    self.direct.on_left_for_another(ctx.now, remote);
                }
            }
            None => {}
        }
        // Also where the move is planned: the answer that may be under way will be another path's.
        self.ask_in_silence(ctx.now);
        if let (None, Some(new)) = (before, via) {
            self.abandon(new.kind());
        }
        for way in [before, via].into_iter().flatten() {
            if let Some(path) = self.path_at(way) {
                path.on_routed();
            }
        }
        self.tell_route(ctx);
        let Some(to) = via.map(Via::kind) else { return };
        let why = match before {
            Some(old) if self.wish.wanted.allows(to) && !self.wish.wanted.allows(old.kind()) => {
                "it was asked for"
            }
            Some(old) if to < old.kind() => "a better path was proven",
            Some(old) if self.path_of(old).is_some_and(Path::is_proven) => "the other path is much better",
            Some(_) => "the path before was silent",
            None => "the first path that was proven",
        };
        let last = self.last_kind.replace(to);
        if let Some(from) = last.filter(|from| *from != to) {
            self.switches += 1;
            self.last_switch = Some((ctx.now, from, to, why));
            tracing::debug!(peer = %self.id.short(), %from, %to, why, "data moves");
            ctx.out.event(Event::Moved { slot: self.slot, from, to, why });
        }
        // To the peer a session begins with the relay's stream, which need not be proven first.
        if last.unwrap_or(PathKind::RelayWs) != to {
            self.resume.number += 1;
            self.resume.left_silence = left_silence;
            self.say_resume(ctx);
            self.direct.say_again();
        }
    }

    /// Where data goes, and how large packets may be there; said when either changed.
    fn tell_route(&mut self, ctx: &mut Context<'_>) {
        let routed = self.routed.filter(|_| self.gate(ctx) == Gate::Open);
        let route = routed.map(|via| (via, self.room(via)));
        if self.route_told != route {
            self.route_told = route;
            let room = route.and_then(|(_, room)| room);
            ctx.out.event(Event::Route { slot: self.slot, via: routed, room });
        }
    }

    /// The largest packet that `via` carries whole, bytes; `None` where all are.
    pub(super) fn room(&self, via: Via) -> Option<usize> {
        match via {
            Via::Channel(_) | Via::Tcp(_) => None,
            Via::Udp(_) | Via::RelayUdp(_) => {
                let known = self.path_of(via).and_then(Path::packet_size);
                Some(known.unwrap_or_else(|| base_size(via.kind())))
            }
        }
    }

    pub(super) fn say_resume(&mut self, ctx: &mut Context<'_>) {
        let Some(body) = self.resume_body() else { return };
        self.resume.said = Some(ctx.now);
        self.send(ctx, &body);
    }

    /// Says RESUME once more, by every path that is proven: whatever lets pass all but what acknowledges it would keep data where it is.
    pub(super) fn repeat_resume(&mut self, ctx: &mut Context<'_>) {
        self.say_resume(ctx);
        let is_beside =
            |via: &Via| self.routed != Some(*via) && self.path_of(*via).is_some_and(Path::is_proven);
        let beside: Vec<_> = self.ways().filter(is_beside).collect();
        let Some(body) = self.resume_body() else { return };
        for via in beside {
            self.reply(ctx, via, &body);
        }
    }

    fn resume_body(&self) -> Option<Control> {
        let kind = self.routed.map(Via::kind)?;
        let (paths, floor) = self.last_report.clone();
        Some(Control::Resume { number: self.resume.number, kind, paths, floor })
    }

    /// When RESUME is to be said again.
    pub(super) fn resume_due(&self) -> Option<Deadline> {
        self.repeat_due(self.resume.said, "repeat RESUME")
    }

    /// When what was `said` and not acknowledged is to be said again: while there is a path to say it on.
    fn repeat_due(&self, said: Option<Instant>, why: &'static str) -> Option<Deadline> {
        let said = said.filter(|_| self.session.is_some() && self.routed.is_some())?;
        Some(Deadline::new(said + SAY_AGAIN, why))
    }

    /// Acknowledgements of what cannot have been sealed yet say nothing.
    pub(super) fn drop_lies(&self, paths: &mut Vec<PathAck>) {
        let most = self.sealed.saturating_add(SEALED_SINCE);
        paths.retain(|ack| ack.highest < most);
    }

    /// Acknowledgements confirm the path that they are about, and no other; and only what is new does (Nebula #1748), of what is known to
    /// have been sealed: else a peer could confirm for ever a path on which nothing arrives.
    pub(super) fn on_acks(&mut self, now: Instant, paths: &[PathAck]) {
        for ack in paths {
            let at = usize::from(ack.path);
            let (Some(known), Some(confirmed)) = (self.acked.get_mut(at), self.confirmed.get_mut(at)) else {
                continue;
            };
            let next = ack.highest.saturating_add(1);
            let (is_news, confirms) = (next > *known, next.min(self.sealed) > *confirmed);
            *known = next.max(*known);
            *confirmed = next.min(self.sealed).max(*confirmed);
            let on = |via: &Via| via.slot().number() == ack.path;
            let via = self.routed.into_iter().chain(self.relayed_ways()).find(on);
            let is_routed = via == self.routed;
            if let Some(path) = via.and_then(|via| self.path_at(via)) {
                if confirms {
                    path.on_ack(now);
                }
                if is_news && is_routed {
                    path.on_arrivals(now, ack.highest, &ack.bitmap);
                }
            }
        }
    }

    /// Says once more what this node has of the peer's data.
    pub(super) fn repeat_report(&mut self, ctx: &mut Context<'_>, via: Via) {
        let (paths, floor) = self.last_report.clone();
        if !paths.is_empty() {
            self.reply(ctx, via, &Control::Ack { paths, floor });
        }
    }

    /// The channel to RELEASE at the relay: both sides send directly and nothing is left to say over it.
    pub(crate) fn take_release(&mut self) -> Option<Contact> {
        let is_udp_used = self.relay_udp.path().is_some_and(|path| !path.is_resting());
        let is_due =
            self.path.as_ref().is_some_and(Path::is_resting) && !is_udp_used && !self.resume.is_released;
        if !is_due {
            return None;
        }
        self.resume.is_released = true;
        self.contact
    }
}
