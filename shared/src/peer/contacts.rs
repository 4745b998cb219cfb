//! What relays say of a peer: that it is there and over which channel, that it is gone, whether it may be reached directly.
//!
//! # Life
//!
//! Each relay gives at most one *contact*, a channel to the peer. One of them is in use: over it goes the first handshake, and the path
//! over the relay's stream. Another takes its place when it is lost, when nothing came of it, or when a relay introduces the peer while
//! nothing works.
//!
//! # Invariants
//!
//! - What a relay says ends no session and moves nothing that works.
//! - With several contacts each has its turn: a relay that introduces without end keeps nobody from the others.

use super::{Context, Peer, first};
use crate::endpoint::event::Contact;
use crate::path::state::Path;
use crate::transmit::RelayNo;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

impl Peer {
    /// A relay says that the peer is there (protocol §3.5, §7.3). A first handshake waits `pause` longer than it would.
    ///
    /// What a relay says moves nothing that works: while the path in use is proven, another contact is only kept in mind. So is that of
    /// another relay while the one in use is being asked, or a handshake goes on over it; its turn comes when that was in vain.
    pub(crate) fn introduce(
        &mut self,
        ctx: &mut Context<'_>,
        contact: Contact,
        instance: u64,
        pause: Duration,
    ) {
        let known = self.contacts.contains(&(contact, instance));
        self.contacts.retain(|(other, _)| other.relay != contact.relay);
        self.contacts.push((contact, instance));
        self.judge_bar(ctx.now);
        let works = self.path.as_ref().is_some_and(|path| path.is_usable() && !path.is_suspect());
        let elsewhere = self.contact.is_some_and(|current| current.relay != contact.relay);
        // protocol §8.8: a session begins under the newest secret that both have.
        let (rank, begun) = (ctx.rank(contact), self.contact.map_or(usize::MAX, |current| ctx.rank(current)));
        if self.session.is_none() && begun < rank {
            return;
        }
        let is_better = self.session.is_none() && rank < begun;
        let is_asked =
            self.path.as_ref().is_some_and(Path::is_unproven) || (!self.first.is_idle() && !is_better);
        if (elsewhere && (works || is_asked)) || (works && known && self.contact == Some(contact)) {
            return;
        }
        self.use_contact(ctx, contact, instance, pause);
    }

    /// Whether any relay says that it is there.
    pub(crate) const fn is_introduced(&self) -> bool {
        !self.contacts.is_empty()
    }

    fn use_contact(&mut self, ctx: &mut Context<'_>, contact: Contact, instance: u64, pause: Duration) {
        let restarted = self.instance.is_some_and(|known| known != instance);
        self.instance = Some(instance);
        self.contact = Some(contact);
        self.introduced = Some(ctx.now);
        self.confirmed_contact = false;
        self.resume.is_released = false;
        self.drop_stream();
        // A session is asked over the new channel, whatever the relay says of restarts: its word alone ends nothing.
        self.path = self.session.is_some().then(|| self.new_path(ctx.now));
        self.relay_udp_drop();
        self.direct.say_again();
        // The session may live where no relay is between.
        self.direct.want_pings(ctx.now);
        self.direct_tcp.want_pings(ctx.now);
        if restarted {
            self.end_wish_of_peer();
            self.direct.question(ctx.now);
            self.direct_tcp.question(ctx.now);
            // What was asked or answered before is of no use to a process that knows nothing of it.
            self.first.cancel(ctx);
            // What it is now, and calls itself, is asked once.
            self.rest.forget_sleep();
        }
        if self.rest.is_asleep() {
            // Nobody has anything to say to it.
        } else if self.session.is_some() && !restarted {
            self.first.schedule(ctx.now + first::GRACE, "the session did not answer on its new channel");
        } else {
            let wait = self.turn();
            // However often a relay says that the peer restarted, a handshake is begun once a second at most.
            let earliest = self.begun.map_or(ctx.now, |begun| begun + first::GRACE);
            self.first.schedule((ctx.now + wait + pause).max(earliest), first::INTRODUCED);
        }
        self.settle(ctx);
    }

    /// Nothing came of this contact. That of another relay takes its place, if there is one.
    pub(super) fn turn_to_next_contact(&mut self, ctx: &mut Context<'_>) {
        let Some(current) = self.contact else { return };
        let is_other = |(contact, _): &(Contact, u64)| contact.relay != current.relay;
        if let Some((contact, instance)) = self.contacts.iter().copied().find(is_other) {
            // Each has its turn.
            self.contacts.retain(|(other, _)| *other != contact);
            self.contacts.push((contact, instance));
            self.use_contact(ctx, contact, instance, Duration::ZERO);
        }
    }

    /// Contacts are gone: the peer left a relay, or this node lost one. Another relay's takes its place if there is one.
    pub(crate) fn lose_contacts(
        &mut self,
        ctx: &mut Context<'_>,
        lost: impl Fn(Contact) -> bool,
        why: &'static str,
    ) {
        self.contacts.retain(|(contact, _)| !lost(*contact));
        self.judge_bar(ctx.now);
        if !self.contact.is_some_and(lost) {
            return;
        }
        tracing::debug!(peer = %self.id.short(), why, "contact lost");
        self.contact = None;
        self.drop_stream();
        self.relay_udp_drop();
        self.first.cancel(ctx);
        // The newest of those under the best secret.
        let best = self.contacts.iter().rev().min_by_key(|(contact, _)| ctx.rank(*contact));
        if let Some((contact, instance)) = best.copied() {
            self.use_contact(ctx, contact, instance, Duration::ZERO);
        }
        self.settle(ctx);
    }

    /// A relay says whether a direct link to the peer may be tried.
    pub(crate) fn allow_direct(&mut self, ctx: &mut Context<'_>, relay: RelayNo, is_allowed: bool) {
        self.barred_by.retain(|other| *other != relay);
        if !is_allowed {
            self.barred_by.push(relay);
        }
        self.judge_bar(ctx.now);
    }

    /// What this relay said holds no longer: its number is another's.
    pub(crate) fn forget_relay(&mut self, ctx: &Context<'_>, relay: RelayNo) {
        self.barred_by.retain(|other| *other != relay);
        self.judge_bar(ctx.now);
    }

    /// Whether direct links may be tried may be another matter now (protocol §7.4). What is there goes on: a relay ends nothing that works.
    /// Where no relay introduces the peer any more, what was said last holds.
    fn judge_bar(&mut self, now: Instant) {
        if self.contacts.is_empty() {
            return;
        }
        let was_barred = self.is_barred;
        self.is_barred = self.contacts.iter().all(|(contact, _)| self.barred_by.contains(&contact.relay));
        if was_barred && !self.is_barred && self.session.is_some() {
            // A relay can say so as often as it likes.
            self.direct.begin_provoked(now, "a relay allows direct links");
        }
    }

    /// The relay's hints about this pair, not yet clamped (protocol §3.5), and where it sees the peer's UDP socket.
    pub(crate) fn hint(
        &mut self,
        ctx: &mut Context<'_>,
        contact: Contact,
        rotation: Duration,
        heartbeat: Duration,
        udp: Option<SocketAddr>,
    ) {
        self.rotation_hint = rotation;
        self.heartbeat_hint = heartbeat;
        if let Some(session) = &mut self.session {
            session.shorten_rotation(rotation);
        }
        if let Some(path) = &mut self.path {
            path.set_heartbeat(heartbeat);
        }
        if let Some(path) = self.relay_udp.path_mut() {
            path.set_heartbeat(heartbeat);
        }
        self.direct.set_heartbeat(heartbeat);
        self.direct_tcp.set_heartbeat(heartbeat);
        if let Some(address) = udp {
            self.direct_hint(ctx, address);
            self.on_peer_bound(ctx, contact, address);
        }
        self.settle(ctx);
    }
}
