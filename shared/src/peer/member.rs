//! Whether the peer is a member, and what follows: frames, and the session itself (protocol §8.5).
//!
//! An [`Exchange`] begins with each session, since that proves who the peer is and not that it still is a member. What it decides
//! is acted on before what it says is sent: who hears *admitted* finds this side ready. Without certificates there is none, and
//! every peer is a member.

use super::{Context, Peer};
use crate::endpoint::event::{Event, PeerState};
use crate::endpoint::status::MemberStatus;
use crate::ids::NetworkId;
use crate::membership::{
    self, Admission, Certificate, Clock, Delegation, Exchange, Gate, Message, Statement, Verdict,
};
use crate::time::Deadline;
use crate::wire::control::Control;
use std::time::{Duration, Instant};

/// Who was refused is asked again so late, unless the record changes before.
const SHUNNED_FOR: Duration = Duration::from_secs(60);

/// What is known of the peer as a member.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// In this session.
    exchange: Option<Box<Exchange>>,
    /// What it said of this node.
    standing: u8,
    shunned: Option<Instant>,
    /// Whether it was let in when it was judged last, in this session or before.
    was_admitted: bool,
}

impl Membership {
    /// Whether no session with the peer is wanted now.
    pub(super) fn is_shunned(&self, now: Instant) -> bool {
        self.shunned.is_some_and(|until| until > now)
    }

    pub(super) const fn shunned_until(&self) -> Option<Instant> {
        self.shunned
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        self.exchange.as_ref()?.poll_timeout()
    }

    /// The session is over.
    pub(super) fn end(&mut self) {
        self.exchange = None;
        self.standing = membership::PENDING;
    }

    /// Whether nothing is being asked for or told.
    pub(super) fn is_quiet(&self) -> bool {
        self.exchange.as_ref().is_none_or(|exchange| exchange.is_quiet())
    }

    pub(super) fn status(&self) -> Option<MemberStatus> {
        let exchange = self.exchange.as_ref()?;
        let secrets = exchange.secrets().to_vec();
        Some(MemberStatus { verdict: exchange.verdict().clone(), standing: self.standing, secrets })
    }

    pub(super) fn admission(&self) -> Option<&Admission> {
        match self.exchange.as_ref()?.verdict() {
            Verdict::Admitted(admission) => Some(admission),
            Verdict::Pending | Verdict::Refused(_) => None,
        }
    }

    /// Which of the network's secrets it says that it holds.
    pub(super) fn secrets(&self) -> &[NetworkId] {
        self.exchange.as_ref().map_or(&[], |exchange| exchange.secrets())
    }

    pub(super) fn chain(&self) -> Option<(Statement<Certificate>, Option<Statement<Delegation>>)> {
        self.exchange.as_ref()?.chain().cloned()
    }
}

const fn clock(ctx: &Context<'_>) -> Clock {
    Clock { now: ctx.now, unix: ctx.unix }
}

impl Peer {
    /// What may pass between the two.
    pub(super) fn gate(&self, ctx: &Context<'_>) -> Gate {
        if ctx.trust.is_none() {
            return Gate::Open;
        }
        self.member.exchange.as_ref().map_or(Gate::Shut, |exchange| exchange.gate())
    }

    /// What `status` calls a peer that is reached: it is connected when frames flow.
    pub(super) fn reached(&self, ctx: &Context<'_>) -> PeerState {
        if self.gate(ctx) == Gate::Open { PeerState::Connected } else { PeerState::Connecting }
    }

    /// What is known of it as a member, to be kept while it sleeps: it is judged anew as ever, and asked for nothing.
    pub(super) fn set_member_aside(&mut self, ctx: &mut Context<'_>) -> Membership {
        if let (Some(exchange), Some(trust)) = (&mut self.member.exchange, ctx.trust.as_deref_mut()) {
            exchange.pause(ctx.now, trust);
        }
        let Membership { exchange, shunned, was_admitted, .. } = std::mem::take(&mut self.member);
        self.member = Membership { shunned, ..Membership::default() };
        Membership { exchange, was_admitted, ..Membership::default() }
    }

    /// Whether it was let in when it was judged last.
    pub(crate) const fn was_admitted(&self) -> bool {
        self.member.was_admitted
    }

    fn set_admitted(&mut self, ctx: &mut Context<'_>, is_admitted: bool) {
        if std::mem::replace(&mut self.member.was_admitted, is_admitted) != is_admitted {
            ctx.out.weigh_demand_anew();
        }
    }

    pub(super) fn member_message(&mut self, ctx: &mut Context<'_>, message: Message) {
        self.member_begin(ctx);
        let clock = clock(ctx);
        if let (Some(exchange), Some(trust)) = (&mut self.member.exchange, ctx.trust.as_deref_mut()) {
            exchange.handle_message(clock, trust, message);
        }
    }

    /// The record changed, or what this node shows.
    pub(crate) fn on_trust_changed(&mut self, ctx: &mut Context<'_>) {
        if self.member.shunned.take().is_some() && self.session.is_none() {
            self.revive(ctx, "the record changed");
        }
        self.member_change(ctx);
        if self.admission().is_none() && self.rest.is_asleep() && ctx.trust.is_some() {
            self.end_sleep(ctx, "the record changed", Duration::ZERO);
        }
        // Whatever its session has come to, the associations before that one among it.
        let is_revoked = |trust: &membership::Trust| trust.view().revocation(self.id).is_some();
        if ctx.trust.as_deref().is_some_and(is_revoked) {
            self.set_admitted(ctx, false);
            self.shut(ctx);
        }
        self.settle(ctx);
    }

    /// Another peer is not being asked any more for what this one may have.
    pub(crate) fn on_turn(&mut self, ctx: &mut Context<'_>) {
        self.member_change(ctx);
        self.settle(ctx);
    }

    fn member_change(&mut self, ctx: &mut Context<'_>) {
        let clock = clock(ctx);
        if let (Some(exchange), Some(trust)) = (&mut self.member.exchange, ctx.trust.as_deref_mut()) {
            exchange.handle_change(clock, trust);
        }
    }

    pub(super) fn member_timeout(&mut self, ctx: &mut Context<'_>) {
        let clock = clock(ctx);
        let is_due =
            self.session.is_some() && self.member.poll_timeout().is_some_and(|due| due.is_due(ctx.now));
        if let (Some(exchange), Some(trust), true) =
            (&mut self.member.exchange, ctx.trust.as_deref_mut(), is_due)
        {
            exchange.handle_timeout(clock, trust);
        }
    }

    fn member_begin(&mut self, ctx: &mut Context<'_>) {
        let clock = clock(ctx);
        if let (Some(trust), None, true) =
            (ctx.trust.as_deref_mut(), &self.member.exchange, self.session.is_some())
        {
            self.member.exchange = Some(Box::new(Exchange::begin(clock, trust, self.id)));
        }
    }

    /// Acts on what was decided.
    pub(super) fn member_settle(&mut self, ctx: &mut Context<'_>) {
        if self.way().is_some() {
            self.member_begin(ctx);
        }
        while let Some(event) = self.member.exchange.as_mut().and_then(|exchange| exchange.poll_event()) {
            match &event {
                membership::Event::Gate(gate) => self.pass(ctx, *gate),
                membership::Event::Judged(Verdict::Refused(_)) => {
                    self.set_admitted(ctx, false);
                    self.shut(ctx);
                }
                membership::Event::Judged(Verdict::Admitted(_)) => self.set_admitted(ctx, true),
                membership::Event::Standing(standing) => self.member.standing = *standing,
                membership::Event::Judged(Verdict::Pending)
                | membership::Event::Renewed(_)
                | membership::Event::Joined
                | membership::Event::JoinFailed(_) => {}
            }
            ctx.out.event(Event::Membership { slot: self.slot, event });
        }
        if self.member.exchange.as_ref().is_some_and(|exchange| exchange.is_over()) {
            tracing::debug!(peer = %self.id.short(), "the peer was refused: the session is over");
            self.member.shunned = Some(ctx.now + SHUNNED_FOR);
            self.part(ctx);
        }
    }

    /// Says what is to be said, after the route: it goes by that.
    pub(super) fn member_say(&mut self, ctx: &mut Context<'_>) {
        while let Some(message) = self.member.exchange.as_mut().and_then(|exchange| exchange.poll_message()) {
            // Where there is no way it is lost, like anything: what matters is said again.
            self.send(ctx, &Control::Membership(message));
        }
    }

    fn pass(&mut self, ctx: &mut Context<'_>, gate: Gate) {
        let Some(session) = &mut self.session else { return };
        let is_spent = !session.data.is_kept() && !session.data.is_receiving();
        match gate {
            Gate::Shut => self.shut(ctx),
            // Before the peer hears that it is admitted: in this session it will not be.
            Gate::Receive | Gate::Open if is_spent => self.part(ctx),
            Gate::Receive => session.data.open(self.slot, ctx.out),
            Gate::Open => session.data.start(self.slot, ctx.out),
        }
    }

    /// No frame of the peer is opened any more, in whatever association.
    fn shut(&mut self, ctx: &mut Context<'_>) {
        if let Some(session) = &mut self.session {
            session.data.take_back(ctx.out);
        }
        for (_, association) in self.closing.drain(..) {
            ctx.out.event(Event::CloseAssociation { association });
        }
    }

    /// Ends the session as by BYE; another one begins in its turn.
    fn part(&mut self, ctx: &mut Context<'_>) {
        self.leave(ctx, 0);
        self.end_session(ctx);
        self.shut(ctx);
        self.first.cancel(ctx);
        self.revive(ctx, "another session is needed");
    }
}
