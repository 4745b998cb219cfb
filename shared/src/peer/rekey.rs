//! Replacing a session's keys without losing a frame (protocol §4.8).
//!
//! ```text
//!   initiator                                   responder
//!   Asked      --REKEY_INIT-->                  receive keys in place, then
//!              <--REKEY_RESPONSE--              Answered (still sends under the old keys)
//!   receive and send keys in place,
//!   Confirming --PING under the new keys-->     switches its send keys; Idle
//!   Idle       <--anything under the new keys--
//! ```
//!
//! Every message is repeated each second until it is answered; a REKEY_INIT that comes again gets the same answer again. A
//! handshake packet inside a session that fails is dropped: the session itself is authentic, so it can only be a bug or a
//! peer of ill will, and neither is worth the session.

use super::session::Session;
use super::{Context, Peer, stream_ping};
use crate::endpoint::event::Via;
use crate::endpoint::outbox::Indices;
use crate::handshake::peer::{Completed, Initiator};
use crate::ids::{PeerSlot, ReceiverIndex};
use crate::session::limits::REKEY_RETRANSMIT;
use crate::session::rekey::{RekeyPolicy, Role};
use crate::time::Deadline;
use crate::version::Versions;
use crate::wire::control::Control;
use std::time::{Duration, Instant};

/// An asked rekey that is not answered in this time begins anew with fresh keys; an answer unused for so long is dropped.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Repeated for so long, its messages go by the relay as well.
const STUCK_AFTER: Duration = Duration::from_secs(3);

/// Where a session is in replacing its keys.
#[derive(Debug)]
pub(super) enum Rekey {
    /// Not at it.
    Idle,
    /// REKEY_INIT was sent.
    Asked { initiator: Initiator, packet: Vec<u8>, sent: Instant, until: Instant },
    /// REKEY_RESPONSE was sent; the new send keys wait for proof that the peer has them.
    /// `until`, no rekey of this side begins beside it; after that one may, when its time has come. The keys stay until then:
    /// the peer may have switched to them, and everything that told so got lost.
    Answered { init: Vec<u8>, response: Vec<u8>, completed: Box<Completed>, until: Option<Instant> },
    /// A rekey failed on this side; the next begins then.
    Paused { until: Instant },
    /// This side sends under the new keys; the peer has not shown that it does.
    Confirming { index: ReceiverIndex, sent: Instant, until: Instant },
}

impl Rekey {
    pub(super) fn deadline(&self) -> Option<Deadline> {
        match self {
            Self::Idle | Self::Answered { until: None, .. } => None,
            Self::Answered { until: Some(until), .. } => {
                Some(Deadline::new(*until, "rekey: the answer was not used"))
            }
            Self::Paused { until } => Some(Deadline::new(*until, "rekey: try again")),
            Self::Asked { sent, .. } | Self::Confirming { sent, .. } => Some(RekeyPolicy::retransmit(*sent)),
        }
    }

    pub(super) fn release(self, indices: &mut Indices) {
        if let Self::Asked { initiator, .. } = self {
            indices.release(initiator.local_index());
        }
    }
}

/// Begins, repeats, gives up.
pub(super) fn handle_timeout(peer: &mut Peer, ctx: &mut Context<'_>) {
    let Some(session) = &mut peer.session else { return };
    for index in session.expire(ctx.now) {
        ctx.indices.release(index);
    }
    match &mut session.rekey {
        Rekey::Answered { until: until @ Some(_), .. } if until.is_some_and(|at| at <= ctx.now) => {
            *until = None
        }
        // A pause that is over; or keys in use that the peer did not show to have: the next rekey shows it.
        Rekey::Paused { until } | Rekey::Confirming { until, .. } if *until <= ctx.now => {
            session.rekey = Rekey::Idle;
        }
        Rekey::Idle
        | Rekey::Asked { .. }
        | Rekey::Answered { .. }
        | Rekey::Paused { .. }
        | Rekey::Confirming { .. } => {}
    }
    let mut ask_again = session.rekey_due(ctx.now);
    let repeat_before = ctx.now.checked_sub(REKEY_RETRANSMIT);
    let (mut asks, mut is_confirming, mut is_stuck) = (None, false, false);
    match &mut session.rekey {
        Rekey::Asked { until, .. } if *until <= ctx.now => ask_again = true,
        Rekey::Asked { packet, sent, until, .. } if repeat_before.is_some_and(|before| *sent <= before) => {
            *sent = ctx.now;
            is_stuck = ctx.now + GIVE_UP >= *until + STUCK_AFTER;
            asks = Some(Control::RekeyInit { packet: packet.clone() });
        }
        Rekey::Confirming { sent, until, .. } if repeat_before.is_some_and(|before| *sent <= before) => {
            *sent = ctx.now;
            is_stuck = ctx.now + GIVE_UP >= *until + STUCK_AFTER;
            is_confirming = true;
        }
        Rekey::Idle
        | Rekey::Asked { .. }
        | Rekey::Answered { .. }
        | Rekey::Paused { .. }
        | Rekey::Confirming { .. } => {}
    }
    if asks.is_some() || is_confirming {
        // Whatever lets everything pass but this: a session that a relay could carry does not end for it.
        let stream = peer.contact.filter(|_| is_stuck).map(Via::Channel);
        for via in peer.way().into_iter().chain(stream) {
            let body = asks.clone().unwrap_or_else(|| confirming_ping(via, ctx));
            peer.reply(ctx, via, &body);
        }
    }
    if ask_again {
        begin(peer, ctx);
    }
}

/// Asks for new keys now, unless that is under way.
pub(super) fn begin(peer: &mut Peer, ctx: &mut Context<'_>) {
    let Some(session) = &mut peer.session else { return };
    match &session.rekey {
        Rekey::Idle | Rekey::Answered { until: None, .. } => {}
        Rekey::Asked { until, .. } if *until <= ctx.now => {}
        Rekey::Asked { .. } | Rekey::Answered { .. } | Rekey::Paused { .. } | Rekey::Confirming { .. } => {
            return;
        }
    }
    abandon(session, ctx);
    let offer = ctx.offer(session.association(), kept_version(session, ctx));
    let index = ctx.indices.allocate(ctx.rng, peer.id);
    let network = ctx.network_that(|id| peer.member.secrets().contains(&id)).clone();
    match Initiator::begin(&ctx.config.node, &network, peer.id, &offer, index, ctx.rng) {
        Ok((initiator, packet)) => {
            let body = Control::RekeyInit { packet: packet.clone() };
            session.rekey = Rekey::Asked { initiator, packet, sent: ctx.now, until: ctx.now + GIVE_UP };
            peer.send(ctx, &body);
        }
        Err(error) => {
            ctx.indices.release(index);
            session.rekey = Rekey::Paused { until: ctx.now + GIVE_UP };
            tracing::debug!(peer = %peer.id.short(), %error, "a rekey could not begin");
        }
    }
}

/// The peer asks for new keys.
pub(super) fn on_init(peer: &mut Peer, ctx: &mut Context<'_>, via: Via, packet: &[u8]) {
    let role = peer.role;
    let Some(session) = &mut peer.session else { return };
    match &session.rekey {
        // The lower key's rekey stands (protocol §4.2).
        Rekey::Asked { .. } if role == Role::Lower => return,
        Rekey::Answered { init, response, .. } if init == packet => {
            let body = Control::RekeyResponse { packet: response.clone() };
            reply_safely(peer, ctx, via, &body);
            return;
        }
        Rekey::Idle
        | Rekey::Asked { .. }
        | Rekey::Answered { .. }
        | Rekey::Paused { .. }
        | Rekey::Confirming { .. } => {}
    }
    if !peer.rekey_budget.take(ctx.now) {
        return tracing::debug!(peer = %peer.id.short(), "too many rekey messages");
    }
    let received = match ctx.read_init(packet) {
        Ok(received) => received,
        Err(error) => return tracing::debug!(peer = %peer.id.short(), %error, "a rekey message is refused"),
    };
    if received.remote() != peer.id || received.payload().association != session.association() {
        return tracing::debug!(peer = %peer.id.short(), "a rekey message for another session is refused");
    }
    let index = ctx.indices.allocate(ctx.rng, peer.id);
    let answer = ctx.offer(session.association(), kept_version(session, ctx));
    match received.respond(&answer, index, ctx.rng) {
        Ok((response, completed)) if completed.keys.cipher == session.cipher() => {
            abandon(session, ctx);
            add_receive_keys(session, ctx, &completed);
            let body = Control::RekeyResponse { packet: response.clone() };
            session.rekey = Rekey::Answered {
                init: packet.to_vec(),
                response,
                completed: Box::new(completed),
                until: Some(ctx.now + GIVE_UP),
            };
            reply_safely(peer, ctx, via, &body);
        }
        Ok(_) => {
            ctx.indices.release(index);
            tracing::debug!(peer = %peer.id.short(), "a rekey would change the cipher and is refused");
        }
        Err(error) => {
            ctx.indices.release(index);
            tracing::debug!(peer = %peer.id.short(), %error, "a rekey message is refused");
        }
    }
}

/// What a rekey may agree on: the version stays what the session began with (protocol §1.7).
fn kept_version(session: &Session, ctx: &Context<'_>) -> Versions {
    Versions::only(session.version()).unwrap_or(ctx.config.versions)
}

/// Answers where the question came from, and by the path in use as well where that is an address without a path: somebody who copies
/// questions, and is faster, must not have the answers to himself.
fn reply_safely(peer: &mut Peer, ctx: &mut Context<'_>, via: Via, body: &Control) {
    peer.reply(ctx, via, body);
    if let Via::Udp(from) = via
        && let Some(other) = peer.direct_other_way(from)
    {
        peer.reply(ctx, other, body);
    }
}

/// The peer answered.
pub(super) fn on_response(peer: &mut Peer, ctx: &mut Context<'_>, packet: &[u8]) {
    let slot = peer.slot;
    let Some(session) = &mut peer.session else { return };
    let (initiator, init, sent, until) = match std::mem::replace(&mut session.rekey, Rekey::Idle) {
        Rekey::Asked { initiator, packet, sent, until } => (initiator, packet, sent, until),
        other @ (Rekey::Idle | Rekey::Answered { .. } | Rekey::Paused { .. } | Rekey::Confirming { .. }) => {
            // An answer that came twice.
            session.rekey = other;
            return;
        }
    };
    let completed = match initiator.finish(packet) {
        Ok(completed) if completed.keys.cipher == session.cipher() => completed,
        Ok(completed) => {
            ctx.indices.release(completed.local_index);
            return tracing::debug!(peer = %peer.id.short(), "a rekey would change the cipher and is refused");
        }
        Err((initiator, error)) => {
            session.rekey = Rekey::Asked { initiator, packet: init, sent, until };
            return tracing::debug!(peer = %peer.id.short(), %error, "a rekey answer is refused");
        }
    };
    add_receive_keys(session, ctx, &completed);
    switch(session, ctx, slot, &completed);
    session.rekey =
        Rekey::Confirming { index: completed.local_index, sent: ctx.now, until: ctx.now + GIVE_UP };
    if let Some(via) = peer.way() {
        let ping = confirming_ping(via, ctx);
        peer.reply(ctx, via, &ping);
    }
}

/// A PING under the new key, for the way that it takes: no other is answered.
fn confirming_ping(via: Via, ctx: &mut Context<'_>) -> Control {
    stream_ping(via.kind(), ctx.rng.next_u64())
}

/// A control packet opened under `index`: what that proves for a rekey under way.
pub(super) fn on_opened(session: &mut Session, ctx: &mut Context<'_>, slot: PeerSlot, index: ReceiverIndex) {
    match std::mem::replace(&mut session.rekey, Rekey::Idle) {
        Rekey::Answered { completed, .. } if completed.local_index == index => {
            switch(session, ctx, slot, &completed)
        }
        Rekey::Confirming { index: waited, .. } if waited == index => {}
        other @ (Rekey::Idle
        | Rekey::Asked { .. }
        | Rekey::Answered { .. }
        | Rekey::Paused { .. }
        | Rekey::Confirming { .. }) => session.rekey = other,
    }
}

/// Back to Idle; what the state held is given back.
fn abandon(session: &mut Session, ctx: &mut Context<'_>) {
    match std::mem::replace(&mut session.rekey, Rekey::Idle) {
        Rekey::Asked { initiator, .. } => ctx.indices.release(initiator.local_index()),
        Rekey::Answered { completed, .. } => {
            session.retire(ctx.now, completed.local_index);
            session.data.retire(ctx.now, completed.local_index, ctx.out);
        }
        Rekey::Idle | Rekey::Paused { .. } | Rekey::Confirming { .. } => {}
    }
}

fn add_receive_keys(session: &mut Session, ctx: &mut Context<'_>, completed: &Completed) {
    let (key, gone) = session.add_receive_keys(completed);
    if let Some(index) = gone {
        ctx.indices.release(index);
    }
    session.data.add_open(key, ctx.out);
}

fn switch(session: &mut Session, ctx: &mut Context<'_>, slot: PeerSlot, completed: &Completed) {
    let (key, index) = session.switch_send_keys(ctx.now, completed);
    session.data.switch(key, slot, ctx.out);
    session.data.retire(ctx.now, index, ctx.out);
}
