//! The path through a relay by datagram (protocol §3.9, §7.10): between the relay's stream and a direct path.
//!
//! # Life
//!
//! It is tried when it is of use: while data does not go directly, a moment after a session began or as soon as a direct path is in
//! doubt, and only while the relay has this node's address bound. Like any path it is proven by PINGs as large as the largest data
//! packet, because a datagram that is too large for a link between is lost. One that answers nothing is dropped, and tried again
//! after a while, or when the peer is heard by it. While both sides send directly it rests, like the one over the stream.
//!
//! # Invariants
//!
//! - It belongs to the contact: another contact, another path.
//! - When data left it because it was in doubt it has to earn its return ([`super::probation`]), unless that was because the relay lost
//!   sight of this node, or went away itself.
//! - While it has just been asked and the stream answers first, data waits for it a moment ([`RelayUdp::holds_back`]): one move, not two.

use super::direct::{datagram_path, due_pings, ip_packet, is_found_out};
use super::probation::{Record, Standing};
use super::{Context, Peer};
use crate::bucket::Bucket;
use crate::endpoint::event::{Contact, Via};
use crate::path::select::{PathKind, Wanted};
use crate::path::state::Path;
use crate::time::Deadline;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A session that begins has this long to find a direct path, before the relay is asked for more than its stream.
const DIRECT_FIRST: Duration = Duration::from_secs(2);
/// While addresses are being checked it waits, and looks again after this.
const CHECKS_FIRST: Duration = Duration::from_millis(250);
/// One that did not answer is tried again after this, give or take a tenth.
const RETRY: Duration = Duration::from_secs(60);
/// What data waits for it beyond two round trips of the stream, while it is asked.
const HOLD_BACK: Duration = Duration::from_millis(20);
/// The longest that data waits on a path that works.
const HOLD_BACK_WELL: Duration = Duration::from_millis(600);
/// So often a relay may say that the peer's datagrams go elsewhere now: as often as it lets a client move (protocol §3.9).
pub(super) const PEER_MOVES: Bucket = Bucket::new(8, Duration::from_secs(2));
/// The longest that data waits on one in doubt.
const HOLD_BACK_MAX: Duration = Duration::from_millis(150);

/// What is known of the way through the contact's relay by datagram.
#[derive(Debug, Default)]
pub(super) struct RelayUdp {
    path: Option<Path>,
    /// Where the relay's socket is.
    remote: Option<SocketAddr>,
    /// Not tried before.
    next: Option<Instant>,
    /// Data is not put on the stream before.
    hold_back_until: Option<Instant>,
    /// The relay bound this node, or the peer, anew: what was under way then may be lost, however soon the path answers again.
    is_shaken: bool,
    /// It did not answer when it was tried last: nothing waits for it.
    has_failed: bool,
    record: Record,
    standing: Standing,
    /// When data left it because it was in doubt, until that is found to be no fault of it.
    left: Option<Instant>,
}

impl RelayUdp {
    /// A session begins.
    pub(super) fn begin(now: Instant) -> Self {
        Self { next: Some(now + DIRECT_FIRST), ..Self::default() }
    }

    pub(super) const fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }

    pub(super) const fn path_mut(&mut self) -> Option<&mut Path> {
        self.path.as_mut()
    }

    pub(super) const fn path_slot(&mut self) -> &mut Option<Path> {
        &mut self.path
    }

    /// It is to be tried now, and used, whatever was found before.
    pub(super) fn hurry(&mut self) {
        (self.next, self.has_failed) = (None, false);
        (self.record, self.standing) = (Record::default(), Standing::Unproven);
    }

    /// Bytes of the IP packet that carries one of `size` bytes.
    pub(super) fn ip_packet(&self, size: usize) -> u16 {
        self.remote.map_or(0, |remote| ip_packet(remote, size, PathKind::RelayUdp))
    }

    /// Whether data may move onto it.
    pub(super) fn may_take_data(&self) -> bool {
        self.path.as_ref().is_some_and(Path::is_proven) && self.standing == Standing::Good
    }

    /// Data left it because it was in doubt, though the relay was there.
    pub(super) fn on_left_in_doubt(&mut self, now: Instant) {
        if !self.is_shaken {
            self.record.on_left_in_doubt(now);
            self.left = Some(now);
        }
    }

    /// Whether data is not to be put on the stream yet.
    pub(super) fn holds_back(&self, now: Instant) -> bool {
        self.path.as_ref().is_some_and(|path| !path.is_proven() && !path.is_resting())
            && self.record.is_clean()
            && self.hold_back_until.is_some_and(|until| now < until)
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let path = self.path.as_ref().and_then(Path::poll_timeout);
        let hold = self.hold_back_until.map(|until| Deadline::new(until, "relay-udp did not answer at once"));
        let behaved = self.standing.due().map(|at| Deadline::new(at, "relay-udp has behaved"));
        Deadline::earlier(Deadline::earlier(path, hold), behaved)
    }
}

impl Peer {
    /// When it is to be tried.
    pub(super) fn relay_udp_due(&self, is_well: bool) -> Option<Deadline> {
        let is_idle = self.relay_udp.path.is_none() && !is_well && self.session.is_some();
        let next = self.relay_udp.next.filter(|_| is_idle && self.contact.is_some())?;
        Some(Deadline::new(next, "try relay-udp"))
    }

    /// The relay bound this node's address: whatever was tried before says nothing.
    pub(crate) fn on_relay_udp_bound(&mut self, ctx: &mut Context<'_>) {
        self.relay_udp.has_failed = false;
        if self.relay_udp.left.take_if(|at| is_found_out(ctx.now, *at)).is_some()
            && self.relay_udp.record.forgive(ctx.now)
        {
            // The relay sent elsewhere than where this node was.
            self.relay_udp.standing = Standing::Unproven;
        }
        // What changed may have opened a direct path too, which is tried first where the stream works.
        // Nor is anything wrong before a session has had a path at all: it begins with the stream, which is being proven then.
        let begins = self.relay_udp.next.filter(|_| self.last_kind.is_none());
        self.relay_udp.next = begins.or_else(|| self.is_well_routed().then_some(ctx.now + DIRECT_FIRST));
        self.relay_udp_shake(ctx.now);
        self.settle(ctx);
    }

    /// The relay of `contact` sees the peer's socket at `address`. Where that is another than before it has bound the peer anew just now: until then
    /// it sent what is outstanding to where nobody was, and what follows arrives, so that nobody would be in doubt.
    pub(super) fn on_peer_bound(&mut self, ctx: &mut Context<'_>, contact: Contact, address: SocketAddr) {
        // Another relay's word is about another socket's tag, and must not make what this one said forgotten.
        if self.contact != Some(contact) {
            return;
        }
        let before = self.peer_bound.replace((contact, address));
        let is_moved = before.is_some_and(|(known, at)| known == contact && at != address);
        if is_moved && self.peer_moves.take(ctx.now) {
            self.relay_udp_shake(ctx.now);
        }
    }

    /// What was under way may be lost, at either end.
    fn relay_udp_shake(&mut self, now: Instant) {
        if let Some(path) = self.relay_udp.path.as_mut().filter(|path| path.is_proven()) {
            path.shake(now);
            self.relay_udp.is_shaken = true;
            self.relay_udp_hold_back(now);
        }
    }

    /// The peer was heard by it.
    pub(super) const fn on_relay_udp_heard(&mut self) {
        if self.relay_udp.path.is_none() && self.relay_udp.remote.is_some() {
            self.relay_udp.next = None;
        }
    }

    /// PONG came by it.
    pub(super) fn relay_udp_on_pong(&mut self, ctx: &mut Context<'_>, contact: Contact, id: u64) {
        let is_routed = self.routed == Some(Via::RelayUdp(contact));
        let Some(path) = self.relay_udp.path.as_mut().filter(|_| self.contact == Some(contact)) else {
            return;
        };
        if path.on_pong(ctx.now, id) {
            let has_swallowed = path.take_swallowed();
            self.relay_udp.has_failed = false;
            let was_shaken = std::mem::take(&mut self.relay_udp.is_shaken);
            if (has_swallowed || was_shaken) && is_routed {
                self.abandon(PathKind::RelayUdp);
            }
            self.relay_udp_drop_dead(ctx);
        }
    }

    /// The contact is another, or none.
    pub(super) fn relay_udp_drop(&mut self) {
        if self.relay_udp.path.take().is_some() {
            self.abandon(PathKind::RelayUdp);
        }
        (self.relay_udp.hold_back_until, self.relay_udp.is_shaken) = (None, false);
        self.relay_udp.standing = Standing::Unproven;
    }

    /// Time passed for it.
    pub(super) fn relay_udp_timeout(&mut self, ctx: &mut Context<'_>) {
        self.relay_udp.hold_back_until = self.relay_udp.hold_back_until.filter(|until| ctx.now < *until);
        let Some(path) = &mut self.relay_udp.path else { return };
        path.handle_timeout(ctx.now);
        self.relay_udp_drop_dead(ctx);
    }

    /// The path may have died.
    fn relay_udp_drop_dead(&mut self, ctx: &mut Context<'_>) {
        if let Some(path) = self.relay_udp.path.as_ref().filter(|path| path.is_dead()) {
            if path.is_lossy() {
                // Another that takes its place knows nothing of that.
                self.relay_udp.record.on_left_in_doubt(ctx.now);
            }
            self.relay_udp_drop();
            self.relay_udp.has_failed = true;
            self.relay_udp.next = Some(ctx.now + ctx.rng.about(RETRY));
        }
    }

    /// Begins it when it is due, and sends the PING that is. `is_well`: data goes directly, and well.
    pub(super) fn relay_udp_settle(&mut self, ctx: &mut Context<'_>, is_well: bool) {
        let RelayUdp { path, standing, record, .. } = &mut self.relay_udp;
        standing.judge(ctx.now, path.as_ref().is_some_and(Path::is_proven), record);
        let binding = self.contact.and_then(|contact| Some((contact, ctx.out.binding(contact.relay)?)));
        let (Some((contact, binding)), true) = (binding, self.session.is_some()) else {
            self.relay_udp.next = self.relay_udp.next.filter(|next| *next > ctx.now);
            return self.relay_udp_drop();
        };
        if is_well {
            // A doubt that comes is a reason to try at once; what is not proven by now is not needed.
            self.relay_udp.next = None;
            self.relay_udp.path.take_if(|path| !path.is_usable() && !path.is_resting());
        } else if self.relay_udp.path.is_none() && self.relay_udp.next.is_none_or(|next| next <= ctx.now) {
            if self.is_well_routed() && self.direct.is_checking() && self.wish.wanted == Wanted::Auto {
                // A direct path may come of it in a moment: then one move is enough.
                self.relay_udp.next = Some(ctx.now + CHECKS_FIRST);
                return;
            }
            let mut path = datagram_path(ctx, PathKind::RelayUdp);
            path.set_heartbeat(self.heartbeat_hint);
            self.relay_udp.path = Some(path);
            self.relay_udp.remote = Some(binding.remote);
            self.relay_udp_hold_back(ctx.now);
        }
        self.relay_udp_probe(ctx, contact);
    }

    /// It is asked from now on: if it answers soon, data goes there and not to the stream first.
    pub(super) fn relay_udp_hold_back(&mut self, now: Instant) {
        if self.relay_udp.has_failed {
            return;
        }
        let stream = self.path.as_ref().and_then(Path::rtt).unwrap_or(HOLD_BACK);
        // While data is well where it is, nothing is lost by waiting.
        let most = if self.is_well_routed() { HOLD_BACK_WELL } else { HOLD_BACK_MAX };
        self.relay_udp.hold_back_until = Some(now + (2 * stream + HOLD_BACK).min(most));
    }

    fn relay_udp_probe(&mut self, ctx: &mut Context<'_>, contact: Contact) {
        let Some(path) = &mut self.relay_udp.path else { return };
        for ping in due_pings(path, ctx) {
            self.ask(ctx, Via::RelayUdp(contact), &ping);
        }
    }
}
