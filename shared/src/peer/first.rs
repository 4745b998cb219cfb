//! First handshakes: without a session, or beside one that does not answer (protocol §4.1–§4.7).
//!
//! ```text
//!   Idle --schedule--> Scheduled --due--> Asked --RESPONSE--> Confirming --PONG--> (session) Idle
//!                          ^                 |                     |
//!                          +---- backoff ----+------ 5 s over -----+
//! ```
//!
//! The responder's side has no state here: each INIT that is authentic and due makes one unconfirmed session,
//! however often it comes.
//!
//! # Beside a session that may still live
//!
//! A handshake also begins when a session does not answer. The two then race, and the session has to win whenever it can: its
//! ring holds frames that a new one does not have. So the PING that asks the session leaves before INIT, whatever opens under
//! the session ends a handshake that is only [`First::Asked`] (the answer to it is ignored), and from [`First::Confirming`]
//! on, when the other side may have switched already, nothing of the old session stops it any more. Where data goes directly that
//! way is asked as well, and INIT waits until it answered, which ends the matter, or is in doubt: a relay that says that the peer
//! restarted passes on what it likes.
//!
//! When both sides come as far as Confirming, the lower key's session stands, as for a collision of INITs (protocol §4.2).

use super::session::Session;
use super::{Context, PacketError, Peer, full_size_ping};
use crate::endpoint::event::Contact;
use crate::handshake::HandshakeError;
use crate::handshake::peer::Initiator;
use crate::ids::{AssociationId, ReceiverIndex};
use crate::path::state::Path;
use crate::session::rekey::Role;
use crate::time::Deadline;
use crate::version::Mismatch;
use crate::wire::control::Control;
use std::time::{Duration, Instant};

/// How long the node with the higher key leaves the beginning to the other (protocol §4.2), and how long a session may
/// take to answer on a new channel before a handshake begins (protocol §7.3).
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// Most unconfirmed sessions of one peer (protocol §4.5).
pub(super) const MAX_UNCONFIRMED: usize = 4;
/// An unconfirmed session that nobody confirmed in this time is dropped: longer than an honest initiator tries ([`GIVE_UP`])
/// and its PING may be under way, and short, so that a relay cannot keep the PING of a handshake long given up and with it
/// end a session whenever it likes.
pub(super) const UNCONFIRMED_LIFE: Duration = Duration::from_secs(10);
/// An INIT or the confirming PING is repeated this often: a relay may have dropped it from a full queue.
const REPEAT: Duration = Duration::from_secs(1);
/// A handshake that did not end in this time begins anew, with fresh keys.
const GIVE_UP: Duration = Duration::from_secs(5);
/// Pause before attempt n: these seconds, the last one for all further ones. Bounded, so that a peer whose other side comes
/// back is found again soon; growing, so that one that is gone for good costs little.
const BACKOFF: [u64; 5] = [1, 2, 4, 8, 15];

/// While a direct path is asked whether the session lives, that is looked at this often; it answers soon, or is in doubt.
const DIRECT_ASKED: Duration = Duration::from_millis(20);

/// Pause after a handshake that found no version of the protocol that both speak.
const INCOMPATIBLE: Duration = Duration::from_secs(60);

/// Pause after a handshake that could not even begin.
const HOPELESS: Duration = Duration::from_secs(3600);

/// A session of which nobody has shown yet that they can open it (protocol §4.5), and what it came of.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    pub(super) born: Instant,
    init: Vec<u8>,
    response: Vec<u8>,
    pub(super) session: Session,
}

/// What this node does towards a first handshake.
#[derive(Debug)]
pub(super) enum First {
    /// Nothing.
    Idle,
    /// Begins at the deadline.
    Scheduled { begin: Deadline, attempt: usize },
    /// INIT was sent.
    Asked { initiator: Initiator, packet: Vec<u8>, repeat: Instant, until: Instant, attempt: usize },
    /// RESPONSE came; the session waits for PONG.
    Confirming {
        session: Box<Session>,
        ping: u64,
        sent: Instant,
        repeat: Instant,
        until: Instant,
        attempt: usize,
    },
}

impl First {
    /// Begins at `at` unless a handshake is already under way or due earlier.
    pub(super) fn schedule(&mut self, at: Instant, why: &'static str) {
        match self {
            Self::Idle => *self = Self::Scheduled { begin: Deadline::new(at, why), attempt: 0 },
            Self::Scheduled { begin, attempt } => {
                *attempt = 0;
                *begin = Deadline::new(at, why);
            }
            Self::Asked { .. } | Self::Confirming { .. } => {}
        }
    }

    /// Stops; what was handed out is given back.
    pub(super) fn cancel(&mut self, ctx: &mut Context<'_>) {
        match std::mem::replace(self, Self::Idle) {
            Self::Idle | Self::Scheduled { .. } => {}
            Self::Asked { initiator, .. } => ctx.indices.release(initiator.local_index()),
            Self::Confirming { session, .. } => {
                session.data.close(ctx.out);
                session.release(ctx.indices);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        match self {
            Self::Idle => None,
            Self::Scheduled { begin, .. } => Some(*begin),
            Self::Asked { repeat, until, .. } | Self::Confirming { repeat, until, .. } => {
                Some(Deadline::new(*repeat.min(until), "repeat or give up a handshake"))
            }
        }
    }

    /// Whether nothing is under way or planned.
    pub(super) const fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    /// Whether INIT was answered: the other side may have switched to the new session.
    pub(super) const fn is_confirming(&self) -> bool {
        matches!(self, Self::Confirming { .. })
    }

    /// Whether INIT was sent and not answered.
    pub(super) const fn is_asked(&self) -> bool {
        matches!(self, Self::Asked { .. })
    }

    const fn is_under_way(&self) -> bool {
        self.is_asked() || self.is_confirming()
    }

    /// The attempt whose answer came so long ago that the PING behind it was answered or repeated since, if it waits for that still.
    fn unheard_attempt(&self, now: Instant) -> Option<usize> {
        match self {
            Self::Confirming { until, attempt, .. } if *until + REPEAT <= now + GIVE_UP => Some(*attempt),
            Self::Idle | Self::Scheduled { .. } | Self::Asked { .. } | Self::Confirming { .. } => None,
        }
    }
}

impl Peer {
    /// An INIT came.
    pub(super) fn first_init(
        &mut self,
        ctx: &mut Context<'_>,
        contact: Contact,
        packet: &[u8],
    ) -> Result<(), PacketError> {
        // protocol §4.2: while this node's own INIT is under way, only one from a lower key is answered. Checked before any
        // asymmetric work; the channel names the peer, and the handshake proves it below.
        if self.first.is_under_way() && self.role == Role::Lower {
            self.first_begin_anew(ctx, contact);
            return Err(PacketError::OutOfTurn);
        }
        // The same INIT again, because our answer was late or somebody replays it: the same answer, no other session. Were
        // each one a session, the repetitions would push out the very one that the first answer is about.
        if let Some(known) = self.unconfirmed.iter().find(|unconfirmed| unconfirmed.init == packet) {
            ctx.out.forward(contact, &known.response);
            return Ok(());
        }
        if self.member.is_shunned(ctx.now) {
            return Err(PacketError::Refused);
        }
        if !self.first_budget.take(ctx.now) {
            return Err(PacketError::TooMany);
        }
        let received = ctx.read_init(packet)?;
        if received.remote() != self.id {
            return Err(PacketError::WrongPeer);
        }
        let answer = ctx.offer(received.payload().association, ctx.config.versions);
        let mismatch = Mismatch { theirs: received.payload().versions, ours: answer.versions };
        if mismatch.ours.common(mismatch.theirs).is_none() {
            let response = received.decline(&answer, ctx.rng)?;
            ctx.out.forward(contact, &response);
            self.first_is_incompatible(ctx, mismatch);
            return Err(HandshakeError::NoCommonVersion(mismatch.theirs).into());
        }
        let index = ctx.indices.allocate(ctx.rng, self.id);
        let (response, completed) = match received.respond(&answer, index, ctx.rng) {
            Ok(both) => both,
            Err(error) => {
                ctx.indices.release(index);
                return Err(error.into());
            }
        };
        while self.unconfirmed.len() >= MAX_UNCONFIRMED {
            if let Some(oldest) = self.unconfirmed.pop_front() {
                oldest.session.release(ctx.indices);
            }
        }
        let session = Session::new(ctx.now, &completed, ctx.config.rekey_interval, self.role);
        ctx.out.forward(contact, &response);
        self.unconfirmed.push_back(Unconfirmed { born: ctx.now, init: packet.to_vec(), response, session });
        // The other side is at it: no need to begin beside it, unless it never confirms. A handshake of this side that was
        // answered goes on: the other side may have confirmed it before it sent this.
        if self.role == Role::Higher && !self.first.is_confirming() {
            self.first.cancel(ctx);
            if !self.is_usable() && !self.rest.is_asleep() {
                self.first.schedule(ctx.now + GIVE_UP, "the peer's handshake was not confirmed");
            }
        }
        Ok(())
    }

    /// The two have no version in common, and nothing but another program on either side changes that: it is another instance of the peer
    /// then, whose introduction begins at once. Asked again now and then nevertheless, for a relay may not say so.
    fn first_is_incompatible(&mut self, ctx: &mut Context<'_>, mismatch: Mismatch) {
        if self.incompatible.replace(mismatch) != Some(mismatch) {
            let name = self.id.short();
            tracing::warn!(peer = %name, "no session: {}", mismatch.sentence(&name.to_string()));
        }
        self.first.cancel(ctx);
        // A session that lives needs no other.
        if !self.is_usable() && !self.rest.is_asleep() {
            self.first.schedule(
                ctx.now + INCOMPATIBLE,
                "the peer spoke no version of the protocol that this side does",
            );
        }
    }

    /// The peer begins a handshake while this side's, which stands, waits to be confirmed. If it does so for a while the peer has forgotten
    /// its answer (which was late: this machine slept, say): a session of it would have been asked first, which confirms. So this side
    /// begins anew, at once. (protocol §4.2)
    fn first_begin_anew(&mut self, ctx: &mut Context<'_>, contact: Contact) {
        if let Some(attempt) = self.first.unheard_attempt(ctx.now)
            && !self.member.is_shunned(ctx.now)
        {
            tracing::debug!(peer = %self.id.short(), attempt, "beginning a handshake anew: the last is forgotten");
            self.first.cancel(ctx);
            self.first_begin(ctx, contact, attempt);
        }
    }

    /// The answers of this side to handshakes that were not confirmed are forgotten, as if they were too old.
    #[cfg(test)]
    pub(crate) fn forget_unconfirmed_for_test(&mut self, ctx: &mut Context<'_>) {
        for unconfirmed in self.unconfirmed.drain(..) {
            unconfirmed.session.release(ctx.indices);
        }
    }

    /// A RESPONSE came.
    pub(super) fn first_response(
        &mut self,
        ctx: &mut Context<'_>,
        contact: Contact,
        packet: &[u8],
    ) -> Result<(), PacketError> {
        let (initiator, sent, repeat, until, attempt) = match std::mem::replace(&mut self.first, First::Idle)
        {
            First::Asked { initiator, packet, repeat, until, attempt } => {
                (initiator, packet, repeat, until, attempt)
            }
            other @ (First::Idle | First::Scheduled { .. } | First::Confirming { .. }) => {
                self.first = other;
                return Err(PacketError::OutOfTurn);
            }
        };
        let completed = match initiator.finish(packet) {
            Ok(completed) => completed,
            Err((initiator, error @ HandshakeError::NoCommonVersion(theirs))) => {
                ctx.indices.release(initiator.local_index());
                self.first_is_incompatible(ctx, Mismatch { theirs, ours: ctx.config.versions });
                return Err(error.into());
            }
            Err((initiator, error)) => {
                self.first = First::Asked { initiator, packet: sent, repeat, until, attempt };
                if error == HandshakeError::NoCommonCipher {
                    tracing::warn!(peer = %self.id.short(), "the peer shares no cipher with this node");
                }
                return Err(error.into());
            }
        };
        let mut session = Session::new(ctx.now, &completed, ctx.config.rekey_interval, self.role);
        // The responder may send as soon as it is confirmed: its key must be in place before the PING leaves.
        // (With certificates it sends nothing before it heard that this side admits it.)
        if ctx.trust.is_none() {
            session.data.open(self.slot, ctx.out);
        }
        let ping = ctx.rng.next_u64();
        if let Some(packet) = session.seal(ctx.now, &full_size_ping(ping)) {
            ctx.out.forward(contact, &packet);
        }
        let (now, until) = (ctx.now, ctx.now + GIVE_UP);
        let session = Box::new(session);
        self.first = First::Confirming { session, ping, sent: now, repeat: now + REPEAT, until, attempt };
        Ok(())
    }

    /// A control packet for a session that this side is confirming.
    pub(super) fn confirming_control(
        &mut self,
        ctx: &mut Context<'_>,
        contact: Contact,
        index: ReceiverIndex,
        packet: &mut [u8],
    ) -> Result<(), PacketError> {
        let First::Confirming { session, ping, sent, .. } = &mut self.first else {
            return Err(PacketError::UnknownIndex);
        };
        if !session.has_index(index) {
            return Err(PacketError::UnknownIndex);
        }
        let body = session.open(ctx.now, packet)?;
        let (ping, sent) = (*ping, *sent);
        // Whatever opened was sealed by a peer that holds the keys, so it is confirmed there and can be established here.
        if let First::Confirming { session, .. } = std::mem::replace(&mut self.first, First::Idle) {
            self.establish(ctx, *session);
        }
        let mut path: Path = self.new_path(sent);
        if matches!(body, Some(Control::Pong { id, .. }) if id == ping) {
            // The PING that confirmed was of full size: it proves the path as well.
            path.poll_ping(sent);
            path.on_ping_sent(sent, ping);
        }
        self.path = Some(path);
        self.handle_body(ctx, contact.into(), body);
        Ok(())
    }

    /// Begins, repeats or gives up.
    pub(super) fn first_timeout(&mut self, ctx: &mut Context<'_>) {
        let Some(contact) = self.contact else { return };
        let lives = self.lives_directly();
        match &mut self.first {
            First::Scheduled { begin, .. } if begin.is_due(ctx.now) && self.member.is_shunned(ctx.now) => {
                if let Some(until) = self.member.shunned_until() {
                    *begin = Deadline::new(until, "the peer was refused");
                }
            }
            First::Scheduled { begin, .. } if begin.is_due(ctx.now) && lives == Some(false) => {
                *begin = Deadline::new(ctx.now + DIRECT_ASKED, "a direct path is being asked");
            }
            First::Scheduled { begin, .. } if begin.is_due(ctx.now) && lives == Some(true) => {
                self.first.cancel(ctx);
            }
            First::Scheduled { begin, attempt } if begin.is_due(ctx.now) => {
                let (why, attempt) = (begin.why, *attempt);
                tracing::debug!(peer = %self.id.short(), why, attempt, "beginning a handshake");
                self.first_begin(ctx, contact, attempt);
            }
            First::Asked { until, attempt, .. } | First::Confirming { until, attempt, .. }
                if *until <= ctx.now =>
            {
                let attempt = *attempt;
                self.first.cancel(ctx);
                let pause = BACKOFF.get(attempt).or(BACKOFF.last()).copied().unwrap_or(1);
                // Up to a quarter more, so that many peers of one restarted node do not return in step.
                let jitter = u64::from(ctx.rng.next_u32()) % (pause * 250);
                let at = ctx.now + Duration::from_millis(pause * 1000 + jitter);
                self.turn_to_next_contact(ctx);
                self.first = First::Scheduled {
                    begin: Deadline::new(at, "the last handshake failed"),
                    attempt: attempt + 1,
                };
            }
            First::Asked { packet, repeat, .. } if *repeat <= ctx.now => {
                *repeat = ctx.now + REPEAT;
                let packet = packet.clone();
                self.ask_session(ctx);
                ctx.out.forward(contact, &packet);
            }
            First::Confirming { session, ping, sent, repeat, .. } if *repeat <= ctx.now => {
                *repeat = ctx.now + REPEAT;
                *sent = ctx.now;
                *ping = ctx.rng.next_u64();
                if let Some(packet) = session.seal(ctx.now, &full_size_ping(*ping)) {
                    ctx.out.forward(contact, &packet);
                }
            }
            First::Idle | First::Scheduled { .. } | First::Asked { .. } | First::Confirming { .. } => {}
        }
    }

    /// Whether the session was answered on the direct path that data takes since a relay last said that the peer is there, or since the
    /// peer was asked in vain to let it end; `None` where that path is in doubt, or data takes none, or the session is known to be over.
    fn lives_directly(&self) -> Option<bool> {
        let is_there = self.session.is_some() && !self.rest.is_over_there();
        let direct = self.routed.filter(|via| via.kind().is_direct() && is_there)?;
        let path = self.path_of(direct).filter(|path| path.is_proven())?;
        let since = self.introduced.max(self.rest.in_doubt_since());
        Some(since.is_none_or(|since| path.has_answered_since(since)))
    }

    /// A session that may still live is asked along with each INIT, and first: so its answer comes first.
    fn ask_session(&mut self, ctx: &mut Context<'_>) {
        if self.session.is_some() {
            let fresh = self.new_path(ctx.now);
            self.path.get_or_insert(fresh).want_ping(ctx.now);
        }
        self.probe(ctx);
    }

    fn first_begin(&mut self, ctx: &mut Context<'_>, contact: Contact, attempt: usize) {
        self.ask_session(ctx);
        self.begun = Some(ctx.now);
        let mut association = [0; 8];
        ctx.rng.fill(&mut association);
        let offer = ctx.offer(AssociationId(association), ctx.config.versions);
        let index = ctx.indices.allocate(ctx.rng, self.id);
        let network = ctx.network_at(contact);
        match Initiator::begin(&ctx.config.node, &network, self.id, &offer, index, ctx.rng) {
            Ok((initiator, packet)) => {
                ctx.out.forward(contact, &packet);
                let (repeat, until) = (ctx.now + REPEAT, ctx.now + GIVE_UP);
                self.first = First::Asked { initiator, packet, repeat, until, attempt };
            }
            Err(error) => {
                // A key of small order, announced by a relay: nobody honest has it.
                ctx.indices.release(index);
                tracing::debug!(peer = %self.id.short(), %error, "no handshake is possible with this key");
                let begin = Deadline::new(ctx.now + HOPELESS, "no handshake was possible with this key");
                self.first = First::Scheduled { begin, attempt };
            }
        }
    }
}
