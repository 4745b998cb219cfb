//! Direct UDP to one peer: candidates said and heard, checks, and the paths that come of them (protocol §7.4, §7.5).
//!
//! # Life
//!
//! Once a session is proven each side says CANDIDATES, repeated until acknowledged. What the peer says goes to the
//! [`Agent`], which names addresses to check; a check is a small PING with the number [`CHECK`], sealed in the session. The
//! first answer from an address makes a [`Path`], which proves itself with PINGs as large as the largest data packet; only then
//! may data take it. A path that dies is dropped, and a round begins.
//!
//! # Invariants
//!
//! - While relays bar it (protocol §7.4) nothing is tried, told or answered where no path is; a path that is there goes on.
//! - Everything here belongs to a session and ends with it.
//! - At most [`MAX_PATHS`] paths; the answer to a check counts only from the address that was asked.
//! - What is heard from an unknown address is answered there, once, and never moves anything by itself.
//! - A check as large as the largest data packet leaves only for where the peer's data came from, on the host of a path that this peer
//!   has: what answers it is a proven path a round trip sooner, and nobody can have strangers sent what is large.
//! - Where the peer's data came from is followed until a path that it has elsewhere answers what was asked since (a copy came from there,
//!   and the peer is where it was), or fails; then not again for [`NOT_FOLLOWED`]: who copies a packet gains one move.
//!   A path at a place from which copies came ends, or whoever copies would keep data that he let pass, until he does not; and of such
//!   places few are followed.
//! - A path that data left because it was in doubt, or slow, has to earn its return ([`super::probation`]).

use super::probation::{Record, Standing};
use super::{Context, Peer};
use crate::bucket::Bucket;
use crate::endpoint::event::{Event, Via};
use crate::membership::Gate;
use crate::path::challenge::Challenges;
use crate::path::liveness::FULL_SIZE;
use crate::path::select::PathKind;
use crate::path::state::Path;
use crate::time::Deadline;
use crate::traverse::agent::Agent;
use crate::traverse::candidate::{Candidate, MAX_CANDIDATES, Overlay, is_allowed};
use crate::wire::control::{CHECK, Control};
use crate::wire::header::{DATA_OVERHEAD, HEADER_LEN, TAG_LEN};
use crate::wire::relayed::RELAYED_HEADER_LEN;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Most direct paths kept: the one in use, and others that answered too.
const MAX_PATHS: usize = 3;
/// An address that was followed in vain is not followed again for so long.
const NOT_FOLLOWED: Duration = Duration::from_secs(60);
/// Places from which copies came, and which were followed: four at once, and then one in this time. Each costs what was under way.
const COPIES: Bucket = Bucket::new(4, Duration::from_secs(15));
/// CANDIDATES is repeated this often until acknowledged.
const REPEAT: Duration = Duration::from_secs(1);
/// That this node is seen elsewhere is found out so soon after or before data leaves a path: STUN is asked at the first doubt, and what is
/// lost is repeated.
const FOUND_OUT_WITHIN: Duration = Duration::from_secs(5);
/// IPv6 and UDP headers around a datagram; with IPv4 it is a few bytes less.
const IP_UDP: usize = 40 + 8;
/// Ethernet header with one VLAN tag, which a TAP's MTU does not count.
const ETHERNET: usize = 14 + 4;

/// What is known of direct ways to a peer.
#[derive(Debug)]
pub(super) struct Direct {
    agent: Agent,
    paths: Vec<DirectPath>,
    /// When CANDIDATES was last said, and which revision, since the session began.
    said: Option<(Instant, u32)>,
    /// It may not have arrived, and there is another way now: to be said once more at once.
    say_again: bool,
    /// Which revision of them the peer has.
    acked: Option<u32>,
    /// The newest revision of the peer's.
    heard: Option<u32>,
    /// Addresses last told with [`Event::Sources`].
    told: Vec<SocketAddr>,
    /// Where the peer's data came from last, if that was none of the paths' addresses then, and since when: its NAT moved, or it did.
    follow: Option<(Instant, SocketAddr)>,
    /// Where it was followed to in vain, until when that is remembered.
    not_followed: Option<(Instant, SocketAddr)>,
    /// Checks of that which were as large as the largest data packet.
    large_checks: Challenges,
    record: Record,
    /// The path that was last recorded there, and when.
    left: Option<(Instant, SocketAddr)>,
    /// When this node's own candidates changed last.
    moved: Option<Instant>,
    /// Data's path by datagram, direct or not, came into doubt: this node's router may have forgotten it, or its socket be seen elsewhere now.
    is_mapping_doubted: bool,
    /// Where the peer says that it may be reached, and where it does not say so any more.
    announced: Vec<SocketAddr>,
    withdrawn: Vec<SocketAddr>,
    /// See [`COPIES`].
    copies: Bucket,
}

impl Default for Direct {
    fn default() -> Self {
        Self {
            agent: Agent::default(),
            paths: Vec::new(),
            said: None,
            say_again: false,
            acked: None,
            heard: None,
            told: Vec::new(),
            follow: None,
            not_followed: None,
            large_checks: Challenges::new(),
            record: Record::default(),
            left: None,
            moved: None,
            is_mapping_doubted: false,
            announced: Vec::new(),
            withdrawn: Vec::new(),
            copies: COPIES,
        }
    }
}

/// A direct path and where it leads.
#[derive(Debug)]
pub(super) struct DirectPath {
    pub(super) remote: SocketAddr,
    pub(super) path: Path,
    standing: Standing,
    /// An address of this node went: whatever was under way then may have been lost, however soon the path answers again.
    is_shaken: bool,
    /// The peer named its address, and names it no more.
    is_withdrawn: bool,
}

impl Direct {
    /// The session ended: nothing of it holds any more.
    pub(super) fn clear(&mut self) {
        self.agent.clear();
        *self = Self {
            agent: std::mem::take(&mut self.agent),
            told: std::mem::take(&mut self.told),
            ..Self::default()
        };
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &DirectPath> {
        self.paths.iter()
    }

    pub(super) fn path(&self, remote: SocketAddr) -> Option<&Path> {
        self.paths.iter().find(|known| known.remote == remote).map(|known| &known.path)
    }

    pub(super) fn path_mut(&mut self, remote: SocketAddr) -> Option<&mut Path> {
        self.paths.iter_mut().find(|known| known.remote == remote).map(|known| &mut known.path)
    }

    /// Whether data may move onto it: proven, and if data left one in doubt before, for long enough.
    pub(super) fn may_take_data(known: &DirectPath) -> bool {
        known.path.is_proven() && known.standing == Standing::Good
    }

    /// Data left the path at `remote` because it was in doubt. That one of the two moved is no fault of the path.
    pub(super) fn on_left_in_doubt(&mut self, now: Instant, remote: SocketAddr) {
        let is_shaken = self.paths.iter().any(|known| known.remote == remote && known.is_shaken);
        // Once for each time that it was withdrawn.
        let withdrawn = self.withdrawn.iter().position(|address| *address == remote);
        if let Some(at) = withdrawn {
            self.withdrawn.remove(at);
        }
        let has_moved = withdrawn.is_some() || self.moved.is_some_and(|at| is_found_out(now, at));
        if is_shaken || (has_moved && self.record.excuse(now)) {
            return;
        }
        if self.follow_to() == Some(remote) {
            self.unfollow(now);
        }
        self.record.on_left_in_doubt(now);
        self.left = Some((now, remote));
    }

    /// The peer may be reached at these addresses, and no longer at others that it named before. If data left one of those in doubt
    /// before this was known, that was no fault of it. What leads where it does not say that it is any more is questioned: it may have
    /// moved.
    fn on_announced(&mut self, now: Instant, addresses: Vec<SocketAddr>) {
        if self.announced.iter().any(|address| !addresses.contains(address)) {
            for known in self.paths.iter_mut().filter(|known| !addresses.contains(&known.remote)) {
                known.path.question(now);
            }
        }
        for known in &mut self.paths {
            let was_named = known.is_withdrawn || self.announced.contains(&known.remote);
            known.is_withdrawn = was_named && !addresses.contains(&known.remote);
        }
        self.withdrawn.append(&mut self.announced);
        self.withdrawn.retain(|address| !addresses.contains(address));
        let surplus = self.withdrawn.len().saturating_sub(MAX_CANDIDATES);
        self.withdrawn.drain(..surplus);
        self.announced = addresses;
        if self.left.take_if(|(_, left)| self.withdrawn.contains(left)).is_some() {
            self.forgive(now);
        }
    }

    /// This node is seen elsewhere than before: what was left in doubt just now was left because of that.
    pub(super) fn on_own_candidates_changed(&mut self, now: Instant) {
        self.moved = Some(now);
        if self.left.take_if(|(at, _)| is_found_out(now, *at)).is_some() {
            self.forgive(now);
        }
    }

    fn forgive(&mut self, now: Instant) {
        if !self.record.forgive(now) {
            return;
        }
        // Who waits is judged anew.
        for known in self.paths.iter_mut().filter(|known| known.standing.due().is_some()) {
            known.standing = Standing::Unproven;
        }
    }

    /// Data left the path at `remote`, which works, for it was slow.
    pub(super) fn on_left_slow(&mut self, now: Instant, remote: SocketAddr) {
        self.record.on_left_in_doubt(now);
        for known in self.paths.iter_mut().filter(|known| known.remote == remote) {
            known.standing.renew(now, &self.record);
        }
    }

    /// The path at the address that the peer's data came from, when it is proven: the others lead to where the peer was.
    pub(super) fn followed(&self) -> Option<SocketAddr> {
        self.follow_to().filter(|follow| self.path(*follow).is_some_and(Path::is_proven))
    }

    fn follow_to(&self) -> Option<SocketAddr> {
        self.follow.map(|(_, from)| from)
    }

    /// The peer is where it was, if a path that leads elsewhere answers what was asked since: then where the copy came from.
    fn judge_follow(&mut self, now: Instant) -> Option<SocketAddr> {
        let (since, from) = self.follow?;
        let is_answer = |known: &DirectPath| known.remote != from && known.path.has_answered_since(since);
        let is_copy = self.paths.iter().any(is_answer);
        if is_copy {
            self.unfollow(now);
            self.copies.take(now);
        }
        is_copy.then_some(from)
    }

    /// It is not where it was followed to: that was a copy, or did not last.
    fn unfollow(&mut self, now: Instant) {
        self.not_followed = self.follow.take().map(|(_, from)| (now + NOT_FOLLOWED, from));
    }

    /// Data left the path at `remote`, silent, for another direct one.
    pub(super) fn on_left_for_another(&mut self, now: Instant, remote: SocketAddr) {
        if self.follow_to() == Some(remote) {
            self.record.on_left_in_doubt(now);
            self.unfollow(now);
        }
    }

    #[cfg(test)]
    pub(super) const fn has_heard(&self) -> bool {
        self.heard.is_some()
    }

    /// Whether addresses are being checked, or about to be, or one that answered is being proven.
    pub(super) fn is_looking(&self, now: Instant) -> bool {
        let is_found = self.paths.iter().any(|known| known.path.is_unproven());
        self.agent.is_checking() || self.agent.is_awaited(now) || is_found
    }

    pub(super) fn is_checking(&self) -> bool {
        self.agent.is_checking()
    }

    /// Rounds begun since the session began.
    pub(super) const fn rounds(&self) -> u64 {
        self.agent.rounds()
    }

    pub(super) fn next_round(&self) -> Option<Instant> {
        self.agent.next_round()
    }

    pub(super) fn begin(&mut self, now: Instant, why: &'static str) {
        self.agent.begin(now, why);
    }

    /// As [`Self::begin`], because of something that the peer can do as often as it likes.
    pub(super) fn begin_provoked(&mut self, now: Instant, why: &'static str) {
        self.agent.begin_provoked(now, why);
    }

    /// See [`Agent::on_rest`].
    pub(super) const fn on_rest(&mut self) {
        self.agent.on_rest();
    }

    pub(super) fn on_traffic(&mut self) {
        self.agent.on_traffic();
    }

    pub(super) fn hint(&mut self, address: SocketAddr) {
        self.agent.hint(address);
    }

    /// Data's path came into doubt.
    pub(super) const fn on_doubt(&mut self) {
        self.is_mapping_doubted = true;
    }

    /// Whether it is to be found out where this node is seen now; once.
    pub(super) fn take_mapping_doubt(&mut self) -> bool {
        std::mem::take(&mut self.is_mapping_doubted)
    }

    pub(super) fn want_pings(&mut self, now: Instant) {
        for known in &mut self.paths {
            known.path.want_ping(now);
        }
    }

    /// Every path is asked now, for it may be gone.
    pub(super) fn question(&mut self, now: Instant) {
        for known in &mut self.paths {
            known.path.question(now);
        }
    }

    /// The peer may be reached another way now: what it has not acknowledged is said at once.
    pub(super) fn say_again(&mut self) {
        self.say_again = self.said.is_some_and(|(_, revision)| self.acked != Some(revision));
    }

    /// An address of this node of the family of `address` is gone: the paths of that family are in doubt.
    pub(super) fn shake(&mut self, now: Instant, address: SocketAddr) {
        for known in self.paths.iter_mut().filter(|known| known.remote.is_ipv4() == address.is_ipv4()) {
            known.path.shake(now);
            known.is_shaken = true;
        }
    }

    pub(super) fn set_heartbeat(&mut self, heartbeat: Duration) {
        for known in &mut self.paths {
            known.path.set_heartbeat(heartbeat);
        }
    }

    /// `is_reached`: whether there is a path to say CANDIDATES on. `is_barred`: whether relays allow no direct link to be tried.
    pub(super) fn poll_timeout(&self, is_reached: bool, is_barred: bool) -> Option<Deadline> {
        let mut next = self.agent.poll_timeout().filter(|_| !is_barred);
        for known in &self.paths {
            next = Deadline::earlier(next, known.path.poll_timeout());
            let behaved = known.standing.due().map(|at| Deadline::new(at, "a direct path has behaved"));
            next = Deadline::earlier(next, behaved);
        }
        if let Some((said, revision)) = self.said
            && is_reached
            && !is_barred
            && self.acked != Some(revision)
        {
            next = Deadline::earlier(next, Some(Deadline::new(said + REPEAT, "repeat CANDIDATES")));
        }
        next
    }
}

impl Peer {
    /// CANDIDATES came.
    pub(super) fn direct_on_candidates(
        &mut self,
        ctx: &mut Context<'_>,
        revision: u32,
        list: Vec<Candidate>,
        tcp: Vec<Candidate>,
    ) {
        // Packets may overtake each other. Revisions wrap.
        let is_older = |known: u32| revision.wrapping_sub(known) > u32::MAX / 2 || revision == known;
        if !ctx.local.has_udp || self.direct.heard.is_some_and(is_older) {
            return;
        }
        self.direct.heard = Some(revision);
        let overlay = self.overlay(ctx);
        let is_allowed = |candidate: &Candidate| is_allowed(candidate.address, &overlay);
        let list: Vec<_> = list.into_iter().filter(is_allowed).collect();
        self.direct.on_announced(ctx.now, list.iter().map(|candidate| candidate.address).collect());
        self.direct.agent.on_announced(ctx.now, list);
        self.direct_tcp.on_announced(tcp.into_iter().filter(is_allowed));
    }

    /// The peer has the candidates of this revision, it says: of what it was never told it can have none.
    pub(super) fn direct_on_candidates_ack(&mut self, revision: u32) {
        if self.direct.said.is_some_and(|(_, said)| said == revision) {
            self.direct.acked = Some(revision);
        }
    }

    /// A relay's hint where the peer's socket is seen.
    pub(super) fn direct_hint(&mut self, ctx: &Context<'_>, address: SocketAddr) {
        if is_allowed(address, &self.overlay(ctx)) {
            self.direct.hint(address);
        }
    }

    /// Data of the peer came from `from`, where none of its paths is. Once a path is proven there, data follows.
    pub(super) fn direct_follow(&mut self, ctx: &mut Context<'_>, from: SocketAddr) {
        if self.is_barred {
            return;
        }
        if self.direct.not_followed.is_some_and(|(until, known)| known == from && ctx.now < until) {
            return;
        }
        self.direct_heard(ctx, from);
        if self.direct.follow_to() != Some(from) && !self.direct.copies.is_empty(ctx.now) {
            self.direct.follow = Some((ctx.now, from));
            // Where the peer was it is still, if it answers there.
            for known in self.direct.paths.iter_mut().filter(|known| known.remote != from) {
                known.path.question(ctx.now);
            }
        }
    }

    /// Something that only the peer could seal came from `from` by datagram.
    pub(crate) fn direct_heard(&mut self, ctx: &mut Context<'_>, from: SocketAddr) {
        let is_of_use = self.session.is_some() && !self.is_barred && self.direct.path(from).is_none();
        if is_of_use && is_allowed(from, &self.overlay(ctx)) {
            self.direct.agent.on_heard(ctx.now, from);
        }
    }

    /// PONG came from `from` by datagram.
    pub(super) fn direct_on_pong(&mut self, ctx: &mut Context<'_>, from: SocketAddr, id: u64, number: u8) {
        if number == CHECK {
            if let Some((kind, rtt)) = self.direct.agent.on_answer(ctx.now, from, id) {
                tracing::debug!(peer = %self.id.short(), %from, kind = kind.as_str(), ?rtt, "a candidate answered");
                ctx.strangers.on_answer(ctx.now, from.ip());
                self.direct_add(ctx, from);
                if self.direct.large_checks.on_answer(ctx.now, id).is_some()
                    && let Some(path) = self.direct.path_mut(from)
                {
                    path.on_checked(ctx.now, rtt, largest_packet(ctx));
                    self.direct_on_answered(from);
                }
            }
            return;
        }
        if number != PathKind::DirectUdp.slot().number() {
            return;
        }
        // The number in it says which PING it answers, wherever it comes from: somebody who copies packets and is faster than the
        // way itself must not be able to make it look silent.
        let answered = self.direct.paths.iter_mut().find_map(|known| {
            let is_answer = known.path.on_pong(ctx.now, id);
            is_answer.then_some(known.remote)
        });
        if let Some(remote) = answered {
            self.direct_on_answered(remote);
            if let Some(copier) = self.direct.judge_follow(ctx.now) {
                self.direct_drop(copier);
            }
            self.on_session_answers(ctx);
        }
    }

    /// The path to `remote` answered: what it swallowed while it was silent, or was too large for it, is not coming, and nothing else took
    /// its place.
    fn direct_on_answered(&mut self, remote: SocketAddr) {
        let Some(known) = self.direct.paths.iter_mut().find(|known| known.remote == remote) else { return };
        let has_swallowed = known.path.take_swallowed();
        let was_shaken = std::mem::take(&mut known.is_shaken);
        if (has_swallowed || was_shaken) && self.routed == Some(Via::Udp(remote)) {
            self.abandon(PathKind::DirectUdp);
        }
    }

    /// Whether what came by `via` may be answered there: an address has to be one that packets may be sent to.
    pub(super) fn may_answer(&self, ctx: &Context<'_>, via: Via) -> bool {
        let Via::Udp(from) = via else { return true };
        self.direct.path(from).is_some() || (!self.is_barred && is_allowed(from, &self.overlay(ctx)))
    }

    /// Where a question that came from `from` is answered as well: the peer sent it along the path in use, if it is a copy.
    pub(super) fn direct_other_way(&self, from: SocketAddr) -> Option<Via> {
        let routed = self.routed.filter(|via| via.kind() == PathKind::DirectUdp)?;
        self.direct.path(from).is_none().then_some(routed)
    }

    /// The path at `remote` ends.
    pub(super) fn direct_drop(&mut self, remote: SocketAddr) {
        self.direct_keep(|known| known.remote != remote);
    }

    /// The other paths end; whether there were any.
    fn direct_keep(&mut self, keep: impl Fn(&DirectPath) -> bool) -> bool {
        let before = self.direct.paths.len();
        self.direct.paths.retain(keep);
        let is_fewer = self.direct.paths.len() < before;
        if is_fewer {
            self.abandon(PathKind::DirectUdp);
        }
        is_fewer
    }

    fn direct_add(&mut self, ctx: &Context<'_>, remote: SocketAddr) {
        if self.direct.path(remote).is_some() || !self.direct_make_room(remote) {
            return;
        }
        let mut path = datagram_path(ctx, PathKind::DirectUdp);
        path.set_heartbeat(self.heartbeat_hint);
        self.direct.paths.push(DirectPath {
            remote,
            path,
            standing: Standing::Unproven,
            is_shaken: false,
            is_withdrawn: false,
        });
    }

    /// Whether there is room for a path to `remote`: one that is not proven makes it, or any but that of data for where the peer went.
    fn direct_make_room(&mut self, remote: SocketAddr) -> bool {
        if self.direct.paths.len() < MAX_PATHS {
            return true;
        }
        let (routed, follow) = (self.routed, self.direct.follow_to());
        let is_of_use =
            |known: &DirectPath| routed == Some(Via::Udp(known.remote)) || follow == Some(known.remote);
        let paths = &mut self.direct.paths;
        let worst = paths.iter().position(|known| !is_of_use(known) && !known.path.is_usable());
        let any = || paths.iter().position(|known| !is_of_use(known)).filter(|_| follow == Some(remote));
        let at = worst.or_else(any);
        at.map(|at| paths.remove(at)).is_some()
    }

    /// Time passed for its paths and rounds.
    pub(super) fn direct_timeout(&mut self, ctx: &mut Context<'_>) {
        for known in &mut self.direct.paths {
            known.path.handle_timeout(ctx.now);
        }
    }

    /// Whatever is due: candidates to say, checks, PINGs; dead paths go.
    pub(super) fn direct_settle(&mut self, ctx: &mut Context<'_>) {
        if self.session.is_none() || !ctx.local.has_udp {
            return;
        }
        if let Some(follow) = self.direct.follow_to()
            && self.direct.path(follow).is_some_and(Path::is_dead)
        {
            self.direct.on_left_for_another(ctx.now, follow);
        }
        // One that never was more than an answer is nothing that this side lost. Nor is there any reason to look for one that leads where
        // the peer says that it is no more: where it is now was looked for when it said so.
        let dead = || self.direct.paths.iter().filter(|known| known.path.is_dead());
        let was_path = dead().any(|known| known.path.rtt().is_some());
        let is_missed = dead().any(|known| !known.is_withdrawn);
        if dead().any(|known| known.path.is_lossy()) {
            // Another that takes its place knows nothing of that.
            self.direct.record.on_left_in_doubt(ctx.now);
        }
        // But where nothing else leads to it: with its relay gone it may only not know any more how it is seen.
        let is_cut_off = !self.is_usable();
        for known in dead().filter(|known| is_cut_off && known.path.rtt().is_some()) {
            self.direct.agent.remember(known.remote);
        }
        if self.direct_keep(|known| !known.path.is_dead()) && (is_missed || is_cut_off) {
            // The peer can do that as often as it likes.
            let why =
                if was_path { "a direct path died" } else { "an address answered, but not in full size" };
            self.direct.begin_provoked(ctx.now, why);
        }
        if self.is_barred {
            self.direct.agent.stop();
        } else {
            self.say_candidates(ctx);
            self.direct_check(ctx);
        }
        for at in 0..self.direct.paths.len() {
            let Some(known) = self.direct.paths.get_mut(at) else { continue };
            known.standing.judge(ctx.now, known.path.is_proven(), &self.direct.record);
            let remote = known.remote;
            for ping in due_pings(&mut known.path, ctx) {
                self.ask(ctx, Via::Udp(remote), &ping);
            }
        }
        self.tell_sources(ctx);
    }

    /// The checks that are due.
    fn direct_check(&mut self, ctx: &mut Context<'_>) {
        if !self.is_usable() {
            // There is nothing by which traffic could show.
            self.direct.on_traffic();
        }
        // One by TCP is no reason to look no further.
        let is_needed = !self.direct.paths.iter().any(|known| known.path.is_usable());
        self.direct.agent.handle_timeout(ctx.now, ctx.rng, is_needed);
        if is_needed {
            self.direct.agent.plan_retry(ctx.now, ctx.rng);
        }
        while let Some(address) = self.direct.agent.poll_check(ctx.now) {
            if self.direct.path(address).is_some_and(Path::is_proven) {
                self.direct.agent.on_known(address);
                continue;
            }
            if !ctx.strangers.may_check(ctx.now, address.ip()) {
                self.direct.agent.on_refused(ctx.now, address);
                continue;
            }
            let id = ctx.rng.next_u64();
            let check = Control::Ping { id, path: CHECK, padding: vec![] };
            self.reply(ctx, Via::Udp(address), &check);
            self.direct.agent.on_check_sent(ctx.now, address, id);
            let is_followed =
                self.direct.follow_to() == Some(address) && self.may_answer(ctx, Via::Udp(address));
            let has_room = self.direct.agent.has_room();
            let is_of_host = |known: &DirectPath| known.remote.ip() == address.ip() && known.path.is_usable();
            if is_followed && has_room && self.direct.paths.iter().any(is_of_host) {
                let id = ctx.rng.next_u64();
                let check = datagram_ping(id, largest_packet(ctx), CHECK);
                self.ask(ctx, Via::Udp(address), &check);
                self.direct.large_checks.on_sent(ctx.now, id);
                self.direct.agent.on_check_sent(ctx.now, address, id);
            }
        }
    }

    /// CANDIDATES, until the peer has the current revision.
    fn say_candidates(&mut self, ctx: &mut Context<'_>) {
        let wanted = ctx.local.revision;
        let is_new = self.direct.said.is_none_or(|(_, revision)| revision != wanted);
        let is_due =
            self.direct.say_again || self.direct.said.is_some_and(|(said, _)| said + REPEAT <= ctx.now);
        if self.direct.acked == Some(wanted) || self.routed.is_none() || !(is_new || is_due) {
            return;
        }
        // Where this node is, members learn first; who is shut out later knows it already.
        if self.direct.said.is_none() && self.gate(ctx) != Gate::Open {
            return;
        }
        if is_new && self.direct.said.is_some() {
            self.direct.begin(ctx.now, "this node's candidates changed");
        }
        (self.direct.said, self.direct.say_again) = (Some((ctx.now, wanted)), false);
        let (list, tcp) = (ctx.local.list.clone(), ctx.local.tcp.clone());
        let body = Control::Candidates { revision: wanted, list, tcp };
        self.send(ctx, &body);
        // Who lost its address has no other way to say where it is: the relay's stream, proven or not.
        let stream = self.contact.map(Via::Channel).filter(|via| self.routed != Some(*via));
        if let Some(via) = stream.filter(|_| !self.is_well_routed()) {
            self.send_by(ctx, via, &body, None);
        }
    }

    pub(super) fn tell_sources(&mut self, ctx: &mut Context<'_>) {
        let addresses: Vec<_> = self.direct.paths.iter().map(|known| known.remote).collect();
        if addresses != self.direct.told {
            self.direct.told.clone_from(&addresses);
            ctx.out.event(Event::Sources { slot: self.slot, addresses });
        }
    }

    /// What is inside the tunnel, as far as this peer is concerned.
    fn overlay(&self, ctx: &Context<'_>) -> Overlay {
        let mut overlay = Overlay::of(ctx.hello);
        let theirs = self.about.as_ref();
        if let Some(theirs) = theirs.and_then(|hello| hello.ipv4) {
            overlay.add(IpAddr::V4(theirs.address()), 32);
        }
        if let Some(theirs) = theirs.and_then(|hello| hello.ipv6) {
            overlay.add(IpAddr::V6(theirs.address()), 128);
        }
        overlay
    }
}

/// Whether a path was left in doubt because of a change of this node's own, when one of them was at `now` and the other `before`.
pub(super) fn is_found_out(now: Instant, before: Instant) -> bool {
    now.saturating_duration_since(before) < FOUND_OUT_WITHIN
}

/// The PINGs that are due on a path by datagram: one that asks whether it is there, and one that asks how much it carries.
pub(super) fn due_pings(path: &mut Path, ctx: &mut Context<'_>) -> impl Iterator<Item = Control> + use<> {
    let kind = path.kind();
    let mut pings = [None, None];
    if path.poll_ping(ctx.now).is_some() {
        let id = ctx.rng.next_u64();
        pings[0] = path.ping_size().map(|size| datagram_ping(id, size, kind.slot().number()));
        path.on_ping_sent(ctx.now, id);
    }
    if let Some(size) = path.poll_probe(ctx.now) {
        let id = ctx.rng.next_u64();
        pings[1] = Some(datagram_ping(id, size, kind.slot().number()));
        path.on_probe_sent(ctx.now, id);
    }
    pings.into_iter().flatten()
}

/// A path by datagram that was just found.
pub(super) fn datagram_path(ctx: &Context<'_>, kind: PathKind) -> Path {
    Path::datagram(ctx.now, kind, base_size(kind), largest_packet(ctx))
}

/// Bytes of the largest packet that data of this node's TAP makes: every path by datagram is to carry it.
fn largest_packet(ctx: &Context<'_>) -> usize {
    usize::from(ctx.hello.mtu) + ETHERNET + DATA_OVERHEAD
}

/// Bytes of a packet that every path of this kind carries: IPv6's minimum MTU less what is around it.
pub(super) const fn base_size(kind: PathKind) -> usize {
    FULL_SIZE - IP_UDP - around(kind)
}

/// Bytes around a packet in its datagram.
const fn around(kind: PathKind) -> usize {
    if matches!(kind, PathKind::RelayUdp) { RELAYED_HEADER_LEN } else { 0 }
}

/// A PING with this number whose packet has `size` bytes.
pub(super) fn datagram_ping(id: u64, size: usize, path: u8) -> Control {
    let body = size - HEADER_LEN - TAG_LEN;
    let ping = |padding| Control::Ping { id, path, padding: vec![0; padding] };
    // CBOR's integers vary in length, so what is around the padding is measured; the padding is long enough both times for its
    // own length to take the same room.
    let around = ping(body / 2).encode().len() - body / 2;
    ping(body - around)
}

/// Bytes of the IP packet to `remote` that carries a packet of `size` bytes.
pub(super) fn ip_packet(remote: SocketAddr, size: usize, kind: PathKind) -> u16 {
    let headers = if remote.is_ipv4() { IP_UDP - 20 } else { IP_UDP };
    u16::try_from(size + headers + around(kind)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_has_the_size_that_it_stands_for() {
        for size in [1224, 1232, 1451, 1551, 9051] {
            for id in [0, 255, 65_536, u64::MAX] {
                for path in [PathKind::RelayUdp.slot().number(), CHECK] {
                    let packet = HEADER_LEN + datagram_ping(id, size, path).encode().len() + TAG_LEN;
                    assert_eq!(packet, size);
                }
            }
        }
        // What a user gets by default fits an ordinary link with IPv6.
        const { assert!(1400 + ETHERNET + DATA_OVERHEAD + IP_UDP <= 1500) };
    }
}
