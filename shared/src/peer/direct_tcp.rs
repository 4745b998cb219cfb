//! Direct TCP to one peer, for where UDP does not pass (protocol §7.12).
//!
//! # Life
//!
//! A *try* begins when a round of checks by datagram is over and no direct path came of it, when the peer says that it begins one
//! (TCP_TRY), or when a user asks for it. Both sides then open connections at the same time, from the port on which they listen and
//! on which their relay saw them: SYNs that cross open the NATs between (simultaneous open, RFC 9293 §3.5), and where one side can
//! be reached, a plain connection comes of it. Who begins waits until its word has got there, for a SYN that overtakes it meets no SYN: the
//! other side's listener answers, and a router on that side which still knows of an earlier try in vain takes that answer for none to what
//! it knows of and swallows it, for as long as the try lasts. The owner opens them; what comes to be is a *link*. The side that opened it says a
//! PING there, sealed in the session; with the first packet that opens, the other side knows whose it is. From then on a link is a
//! path like any other: proven by PINGs, doubted, dropped.
//!
//! # Invariants
//!
//! - Links belong to the session and end with it. At most [`MAX_LINKS`], of which the peer was heard on [`MAX_KEPT`]. One more is closed, but
//!   where the peer is heard on it another one goes that carries nothing: who brings about links that lead nowhere does not keep it out.
//! - A link is the peer's that was heard on it first, whomever it was opened for: an address is only what somebody said.
//! - One link carries data. Where both sides opened one, or two addresses led to the peer, the side with the lower key closes the
//!   others, once the peer had time to prove the one that stays: that on which the peer's data comes.
//! - A try names at most [`MAX_TCP_CANDIDATES`] addresses, on no port of a service that everybody knows; tries that the peer causes, by
//!   whatever word, are metered, and what became of a try at an address where nobody was heard is not to be seen: a member must not make
//!   others flood somebody, nor look for it at what listens around them.
//! - Nothing is tried while a direct path is there, unless a user asked for TCP; nor while relays bar it (protocol §7.4), when no
//!   connection is kept that was not.

use super::probation::{Record, Standing};
use super::{Context, Peer, stream_ping};
use crate::bucket::Bucket;
use crate::endpoint::event::{Event, TCP_TRY, Via};
use crate::path::select::{PathKind, Wanted};
use crate::path::state::Path;
use crate::session::rekey::Role;
use crate::time::Deadline;
use crate::transmit::TcpLink;
use crate::traverse::candidate::{Candidate, MAX_TCP_CANDIDATES};
use crate::wire::control::Control;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Most links of one peer: each address of a try may come to be one.
const MAX_LINKS: usize = MAX_TCP_CANDIDATES;
/// Links on which the peer was heard.
const MAX_KEPT: usize = 3;
/// Ports below are those of services (RFC 6335 §6), and none of ours.
const FIRST_PORT: u16 = 1024;
/// For so long after a try in vain none is begun without a reason: Linux's connection tracking forgets a SYN that nobody answered after
/// 120 s, and while a router knows of one, a SYN from the other side that does not cross a new one cuts the two off from each other, until
/// there were none for so long.
const ROUTER_MEMORY: Duration = Duration::from_secs(125);
/// While a user wants TCP, it is tried again after this, give or take a tenth.
const RETRY: Duration = Duration::from_secs(150);
/// Who begins waits for its word to arrive no longer than this.
const MAX_HEAD_START: Duration = Duration::from_secs(1);
/// Links that are not used are closed this long after there was more than one.
const SPARE_FOR: Duration = Duration::from_secs(2);
/// Tries that no user here asked for: four at once, and one more a minute. A peer causes them by its word, by answering nothing, and by
/// answering half.
pub(super) const PROVOKED: Bucket = Bucket::new(4, Duration::from_secs(60));

/// What is known of direct TCP to a peer.
#[derive(Debug, Default)]
pub(super) struct DirectTcp {
    /// Where the peer may be reached.
    remotes: Vec<SocketAddr>,
    links: Vec<Linked>,
    /// The try under way.
    trial: Option<Try>,
    /// The last try was in vain; none is begun before then, unless something changed.
    rests: Option<Instant>,
    /// The round by datagram after which it was last tried, or not needed.
    round: u64,
    /// It was asked for, and not tried since.
    is_hurried: bool,
    /// When it is tried again while a user wants it.
    retry: Option<Instant>,
    /// The link by which the peer's data came last.
    heard_data: Option<TcpLink>,
    record: Record,
    /// Since when more than one link is proven.
    spare_since: Option<Instant>,
}

/// A try.
#[derive(Debug)]
struct Try {
    /// It ends then.
    until: Instant,
    /// What is opened, and when: nothing was until then.
    waits: Option<(Instant, Vec<SocketAddr>)>,
}

/// A connection and how it does.
#[derive(Debug)]
pub(super) struct Linked {
    pub(super) link: TcpLink,
    pub(super) path: Path,
    standing: Standing,
    /// The peer was heard on it.
    is_kept: bool,
    /// Data of this side went there.
    has_carried: bool,
}

impl DirectTcp {
    pub(super) fn links(&self) -> impl Iterator<Item = &Linked> {
        self.links.iter()
    }

    pub(super) fn path(&self, link: TcpLink) -> Option<&Path> {
        self.links.iter().find(|known| known.link == link).map(|known| &known.path)
    }

    pub(super) fn path_mut(&mut self, link: TcpLink) -> Option<&mut Path> {
        self.links.iter_mut().find(|known| known.link == link).map(|known| &mut known.path)
    }

    /// Whether data may move onto it.
    pub(super) fn may_take_data(known: &Linked) -> bool {
        known.path.is_proven() && known.standing == Standing::Good
    }

    /// Data left a link because it was in doubt.
    pub(super) fn on_left_in_doubt(&mut self, now: Instant) {
        self.record.on_left_in_doubt(now);
    }

    /// Data left a link that works, for it was slow.
    pub(super) fn on_left_slow(&mut self, now: Instant, link: TcpLink) {
        self.record.on_left_in_doubt(now);
        for known in self.links.iter_mut().filter(|known| known.link == link) {
            known.standing.renew(now, &self.record);
        }
    }

    /// Where the peer says that it may be reached; what it said before holds no longer.
    pub(super) fn on_announced(&mut self, candidates: impl Iterator<Item = Candidate>) {
        let addresses = candidates.map(|candidate| candidate.address);
        let remotes =
            addresses.filter(|address| address.port() >= FIRST_PORT).take(MAX_TCP_CANDIDATES).collect();
        if std::mem::replace(&mut self.remotes, remotes) != self.remotes {
            self.on_changed();
        }
    }

    /// Something is another than at the last try.
    pub(super) const fn on_changed(&mut self) {
        self.rests = None;
    }

    /// It is wanted now.
    pub(super) const fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// The peer's data came by `link`.
    pub(super) const fn on_data(&mut self, link: TcpLink) {
        self.heard_data = Some(link);
    }

    pub(super) fn set_heartbeat(&mut self, heartbeat: Duration) {
        for known in &mut self.links {
            known.path.set_heartbeat(heartbeat);
        }
    }

    /// Every link is asked now, for the peer may be another by now.
    pub(super) fn question(&mut self, now: Instant) {
        for known in &mut self.links {
            known.path.question(now);
        }
    }

    pub(super) fn want_pings(&mut self, now: Instant) {
        for known in &mut self.links {
            known.path.want_ping(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let mut next = self.retry.map(|at| Deadline::new(at, "try TCP again, as a user wants it"));
        for known in &self.links {
            next = Deadline::earlier(next, known.path.poll_timeout());
            let behaved = known.standing.due().map(|at| Deadline::new(at, "a direct path has behaved"));
            next = Deadline::earlier(next, behaved);
        }
        if let Some(trial) = &self.trial {
            next = Deadline::earlier(next, Some(Deadline::new(trial.until, "a try by TCP is over")));
            let opens =
                trial.waits.as_ref().map(|(at, _)| Deadline::new(*at, "the peer begins a try by TCP, too"));
            next = Deadline::earlier(next, opens);
        }
        let spare = self.spare_since.map(|since| Deadline::new(since + SPARE_FOR, "close spare connections"));
        Deadline::earlier(next, spare)
    }

    /// Whether connections are being tried, or one is being proven.
    pub(super) fn is_looking(&self, now: Instant) -> bool {
        self.is_trying(now) || self.links.iter().any(|known| known.path.is_unproven())
    }

    fn is_trying(&self, now: Instant) -> bool {
        self.trial.as_ref().is_some_and(|trial| now < trial.until)
    }

    /// Whether a try has so much time left that the peer's, which begins now, meets it.
    fn is_fresh(&self, now: Instant) -> bool {
        self.trial.as_ref().is_some_and(|trial| now + TCP_TRY / 2 < trial.until)
    }
}

impl Peer {
    /// The peer begins a try.
    pub(super) fn tcp_on_try(&mut self, ctx: &mut Context<'_>) {
        if let Some((opens, _)) = self.direct_tcp.trial.as_mut().and_then(|trial| trial.waits.as_mut()) {
            *opens = ctx.now;
            self.tcp_open_due(ctx);
        } else if self.tcp_is_of_use() && !self.direct_tcp.is_fresh(ctx.now) && self.tcp_budget.take(ctx.now)
        {
            self.tcp_begin(ctx, "the peer tries", Duration::ZERO);
        }
    }

    /// Says that a try begins, whether or not.
    #[cfg(test)]
    pub(crate) fn say_tcp_try_for_test(&mut self, ctx: &mut Context<'_>) {
        self.send(ctx, &Control::TcpTry);
    }

    /// Begins a try, whatever is there.
    #[cfg(test)]
    pub(crate) fn begin_tcp_for_test(&mut self, ctx: &mut Context<'_>) {
        assert!(self.tcp_begin(ctx, "a test", Duration::ZERO));
    }

    /// Whether it said where it may be reached.
    #[cfg(test)]
    pub(crate) fn knows_candidates_for_test(&self) -> bool {
        self.direct.has_heard()
    }

    /// Has a link, whatever it is of.
    #[cfg(test)]
    pub(crate) fn add_tcp_link_for_test(&mut self, now: Instant, link: TcpLink, is_kept: bool) {
        let (path, standing) = (Path::new(now, PathKind::DirectTcp), Standing::Unproven);
        self.direct_tcp.links.push(Linked { link, path, standing, is_kept, has_carried: false });
    }

    /// The links that are known.
    #[cfg(test)]
    pub(crate) fn tcp_links_for_test(&self) -> Vec<TcpLink> {
        self.direct_tcp.links().map(|known| known.link).collect()
    }

    /// A connection that this node opened for the peer is there.
    pub(crate) fn on_tcp_opened(&mut self, ctx: &mut Context<'_>, link: TcpLink) {
        self.tcp_add(ctx, link);
        self.settle(ctx);
    }

    /// Whether a connection is this peer's, or was opened for it.
    pub(crate) fn has_link(&self, link: TcpLink) -> bool {
        self.direct_tcp.path(link).is_some()
    }

    /// Whether the peer was heard on it.
    pub(crate) fn keeps_link(&self, link: TcpLink) -> bool {
        self.direct_tcp.links().any(|known| known.link == link && known.is_kept)
    }

    /// A connection that was opened for it is another's.
    pub(crate) fn forget_link(&mut self, link: TcpLink) {
        self.direct_tcp.links.retain(|known| known.link != link);
    }

    /// A connection of it is gone.
    pub(crate) fn on_tcp_closed(&mut self, ctx: &mut Context<'_>, link: TcpLink) {
        self.tcp_remove(ctx, |known| known.link == link);
        // Where there is another, nothing was in doubt.
        self.show(ctx);
        self.settle(ctx);
    }

    /// Something that only the peer could seal came by `link`.
    pub(super) fn tcp_on_heard(&mut self, ctx: &mut Context<'_>, link: TcpLink) {
        self.tcp_make_room(ctx, link);
        if !self.tcp_add(ctx, link) {
            return;
        }
        if let Some(known) = self.direct_tcp.links.iter_mut().find(|known| known.link == link)
            && !std::mem::replace(&mut known.is_kept, true)
        {
            self.direct_tcp.trial = None;
            ctx.out.event(Event::TcpKept { slot: self.slot, link });
        }
    }

    /// PONG came by `link`.
    pub(super) fn tcp_on_pong(&mut self, ctx: &mut Context<'_>, link: TcpLink, id: u64, number: u8) {
        if number != PathKind::DirectTcp.slot().number() {
            return;
        }
        if let Some(path) = self.direct_tcp.path_mut(link) {
            // A stream that was silent brings what it swallowed once it speaks again, so nothing is given up.
            if path.on_pong(ctx.now, id) {
                ctx.strangers.on_answer(ctx.now, link.remote.ip());
                self.on_session_answers(ctx);
            }
        }
        self.tcp_drop_dead(ctx);
    }

    /// Time passed for its links.
    pub(super) fn tcp_timeout(&mut self, ctx: &mut Context<'_>) {
        if let Some(over) = self.direct_tcp.trial.take_if(|trial| trial.until <= ctx.now)
            // One that began just when another had opened a connection finds no more than that, and was not in vain.
            && !self.direct_tcp.links.iter().any(|known| known.is_kept)
        {
            self.direct_tcp.rests = Some(over.until + ROUTER_MEMORY);
        }
        self.direct_tcp.rests.take_if(|rests| *rests <= ctx.now);
        self.tcp_open_due(ctx);
        for known in &mut self.direct_tcp.links {
            known.path.handle_timeout(ctx.now);
        }
        self.tcp_drop_dead(ctx);
    }

    /// The session ended, and every link with it. Data that was there goes again in the next one.
    pub(super) fn tcp_clear(&mut self, ctx: &mut Context<'_>) {
        for known in std::mem::take(&mut self.direct_tcp.links) {
            ctx.out.event(Event::TcpClose { link: known.link, at_once: true });
        }
        self.direct_tcp = DirectTcp::default();
    }

    /// Begins a try when one is due; PINGs that are due; links that are not needed go.
    pub(super) fn tcp_settle(&mut self, ctx: &mut Context<'_>) {
        if self.session.is_none() {
            return;
        }
        let rounds = self.direct.rounds();
        let is_trying = self.direct_tcp.is_trying(ctx.now);
        // What answered is on its way to be a path: a round that found something ends when that is known.
        let is_found = self.direct.paths().any(|known| known.path.is_unproven());
        // But not for ever: what answers checks and nothing else begins one round after the other.
        let is_second = rounds > self.direct_tcp.round.saturating_add(1);
        let is_checking = (self.direct.is_checking() || is_found) && !is_second;
        let is_round_over = rounds > self.direct_tcp.round && !is_checking && !is_trying;
        if is_round_over {
            self.direct_tcp.round = rounds;
        }
        let is_asked_for = self.wish.wanted == Wanted::DirectTcp;
        let is_retry = self.direct_tcp.retry.take_if(|at| *at <= ctx.now || !is_asked_for).is_some();
        self.direct_tcp.is_hurried &= is_asked_for;
        let is_hurried = (self.direct_tcp.is_hurried || is_retry) && is_asked_for && !is_trying;
        let is_due = is_round_over && self.direct_tcp.rests.is_none();
        if (is_due || is_hurried) && self.tcp_is_of_use() && (is_hurried || self.tcp_budget.take(ctx.now)) {
            let why = if is_hurried { "it was asked for" } else { "no direct path by datagram was found" };
            let head_start = self
                .way()
                .and_then(|via| self.path_of(via))
                .and_then(Path::rtt)
                .map_or(Duration::ZERO, |rtt| (rtt / 2).min(MAX_HEAD_START));
            if self.tcp_begin(ctx, why, head_start) {
                self.send(ctx, &Control::TcpTry);
            }
        }
        for at in 0..self.direct_tcp.links.len() {
            let Some(known) = self.direct_tcp.links.get_mut(at) else { continue };
            known.has_carried |= self.routed == Some(Via::Tcp(known.link));
            known.standing.judge(ctx.now, known.path.is_proven(), &self.direct_tcp.record);
            if known.path.poll_ping(ctx.now).is_some() {
                let id = ctx.rng.next_u64();
                known.path.on_ping_sent(ctx.now, id);
                let link = known.link;
                self.ask(ctx, Via::Tcp(link), &stream_ping(PathKind::DirectTcp, id));
            }
        }
        self.tcp_close_spare(ctx);
    }

    /// Whether a link would be used, and may come to be.
    fn tcp_is_of_use(&self) -> bool {
        let is_asked_for = self.wish.wanted == Wanted::DirectTcp;
        let is_there =
            |kind: PathKind| self.direct_paths().any(|(via, path)| via.kind() == kind && path.is_usable());
        self.session.is_some()
            && !self.is_barred
            && self.way().is_some()
            && !self.direct_tcp.remotes.is_empty()
            && self.wish.wanted.allows(PathKind::DirectTcp)
            && !is_there(PathKind::DirectTcp)
            && (is_asked_for || !is_there(PathKind::DirectUdp))
    }

    /// Begins a try, and opens connections after `head_start`; whether there is an address to try.
    fn tcp_begin(&mut self, ctx: &mut Context<'_>, why: &'static str, head_start: Duration) -> bool {
        let mut hosts: Vec<_> = self.direct_tcp.remotes.iter().map(SocketAddr::ip).collect();
        hosts.sort();
        hosts.dedup();
        hosts.retain(|host| ctx.strangers.may_try(ctx.now, *host));
        let mut addresses = self.direct_tcp.remotes.clone();
        addresses.retain(|address| hosts.contains(&address.ip()));
        tracing::debug!(peer = %self.id.short(), why, ?addresses, "trying TCP");
        self.direct_tcp.is_hurried = false;
        if self.wish.wanted == Wanted::DirectTcp {
            self.direct_tcp.retry = Some(ctx.now + ctx.rng.about(RETRY));
        }
        if addresses.is_empty() {
            return false;
        }
        let opens = ctx.now + head_start;
        self.direct_tcp.trial = Some(Try { until: opens + TCP_TRY, waits: Some((opens, addresses)) });
        self.tcp_open_due(ctx);
        true
    }

    /// Opens the connections of a try when it is time.
    fn tcp_open_due(&mut self, ctx: &mut Context<'_>) {
        let waits =
            self.direct_tcp.trial.as_mut().and_then(|trial| trial.waits.take_if(|(at, _)| *at <= ctx.now));
        if let Some((_, addresses)) = waits {
            ctx.out.event(Event::TcpTry { slot: self.slot, addresses });
        }
    }

    /// A link on which the peer was heard is worth more than one of which nobody knows where it leads: so what listens at other addresses
    /// that a peer named does not show in whether the peer's own connection is kept.
    fn tcp_make_room(&mut self, ctx: &mut Context<'_>, heard: TcpLink) {
        if self.is_barred || self.direct_tcp.path(heard).is_some() {
            return;
        }
        if self.direct_tcp.links().filter(|known| known.is_kept).count() >= MAX_KEPT {
            let is_idle = |known: &&Linked| {
                let is_used = self.routed == Some(Via::Tcp(known.link));
                known.is_kept && !is_used && self.direct_tcp.heard_data != Some(known.link)
            };
            // Of those that are alike, the oldest.
            let idle = self.direct_tcp.links().filter(is_idle).min_by_key(|known| known.path.is_proven());
            if let Some(link) = idle.map(|known| known.link) {
                self.tcp_remove(ctx, |known| known.link == link);
                ctx.out.event(Event::TcpClose { link, at_once: true });
            }
        }
        if self.direct_tcp.links.len() < MAX_LINKS {
            return;
        }
        if let Some(at) = self.direct_tcp.links.iter().position(|known| !known.is_kept) {
            let unheard = self.direct_tcp.links.remove(at);
            ctx.out.event(Event::TcpClose { link: unheard.link, at_once: true });
        }
    }

    /// Judges `link` from now on; whether it is one of this peer's.
    fn tcp_add(&mut self, ctx: &mut Context<'_>, link: TcpLink) -> bool {
        if self.direct_tcp.path(link).is_some() {
            return true;
        }
        let kept = self.direct_tcp.links().filter(|known| known.is_kept).count();
        let is_full = self.direct_tcp.links.len() >= MAX_LINKS || kept >= MAX_KEPT;
        if self.session.is_none() || self.is_barred || is_full {
            ctx.out.event(Event::TcpClose { link, at_once: true });
            return false;
        }
        let mut path = Path::new(ctx.now, PathKind::DirectTcp);
        path.set_heartbeat(self.heartbeat_hint);
        let standing = Standing::Unproven;
        self.direct_tcp.links.push(Linked { link, path, standing, is_kept: false, has_carried: false });
        true
    }

    fn tcp_drop_dead(&mut self, ctx: &mut Context<'_>) {
        for known in self.tcp_remove(ctx, |known| known.path.is_dead()) {
            ctx.out.event(Event::TcpClose { link: known.link, at_once: true });
        }
    }

    /// Links end: what was there goes again, and another way is looked for.
    fn tcp_remove(&mut self, ctx: &Context<'_>, ends: impl Fn(&Linked) -> bool) -> Vec<Linked> {
        let (gone, left): (Vec<_>, _) =
            std::mem::take(&mut self.direct_tcp.links).into_iter().partition(ends);
        self.direct_tcp.links = left;
        let is_lost = |known: &Linked| known.has_carried || self.routed == Some(Via::Tcp(known.link));
        if gone.iter().any(is_lost) {
            self.abandon(PathKind::DirectTcp);
        }
        let was_kept = gone.iter().any(|known| known.is_kept);
        if was_kept && !self.direct_tcp.links().any(|known| known.is_kept) {
            self.direct_tcp.trial = None;
            // The peer can do that as often as it likes.
            self.direct.begin_provoked(ctx.now, "a direct connection ended");
        }
        gone
    }

    /// Where more than one link is proven, one of the two sides has to say which stays: that by which the peer's data comes. What was
    /// sent on the others still arrives.
    fn tcp_close_spare(&mut self, ctx: &mut Context<'_>) {
        let links = self.direct_tcp.links();
        let proven: Vec<_> = links.filter(|known| known.path.is_proven()).map(|known| known.link).collect();
        if self.role != Role::Lower || proven.len() < 2 {
            self.direct_tcp.spare_since = None;
            return;
        }
        if *self.direct_tcp.spare_since.get_or_insert(ctx.now) + SPARE_FOR > ctx.now {
            return;
        }
        let peers = proven.iter().find(|link| self.direct_tcp.heard_data == Some(**link));
        let used = proven.iter().find(|link| self.routed == Some(Via::Tcp(**link)));
        let keep = peers.or(used).or_else(|| proven.first()).copied();
        for link in proven.into_iter().filter(|link| Some(*link) != keep) {
            self.tcp_remove(ctx, |known| known.link == link);
            ctx.out.event(Event::TcpClose { link, at_once: false });
        }
        self.direct_tcp.spare_since = None;
    }
}
