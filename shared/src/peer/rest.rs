//! A session that nobody uses ends, by both sides' word, so that it costs neither of them anything; the first frame begins another
//! (protocol §4.10).
//!
//! ```text
//!            not used for long enough            data plane stopped, nothing outstanding
//!   Awake ---------------------------> Stopping ----------------------------------------> Proposed --REST_ANSWER: over--> asleep
//!     ^                                 |    \                                                |
//!     +--- a frame, or not all is here -+     \--- the peer asked: REST_ANSWER: over --> asleep
//!     +------------------------------ REST_ANSWER: not over; or no answer for 3 s ------------+
//! ```
//!
//! The data plane is another thread, and seals frames meanwhile. So it is asked to stop first: it does if the peer acknowledged
//! everything, and keeps what it reads from then on. Only then REST is said. The peer stops its own likewise before it says that the
//! session is over, and it is over at that moment. So nothing is ever sealed for a session that the other side has given up, but where
//! an answer was lost for seconds, and that is a replaced association like any other (protocol §4.7).
//!
//! # Invariants
//!
//! - Who said REST seals nothing before the answer, or before three seconds of silence. Who answered *over* seals nothing in that session.
//! - What waits at a data plane that stopped goes on: by the next session, or by this one if it stays.
//! - Who answered *over* says so again, for as long as the question may be repeated: the control keys are kept for that.
//! - Nobody sleeps while there is no contact: what wakes is a handshake, and that needs one. Nor while a user here wants a path.
//! - What is known of a peer that sleeps is kept: what it said of itself, as what it was let in, where it was reached.
//!
//! Whose sessions are kept whether they are used or not, the endpoint says (`endpoint::demand`).

use super::session::Session;
use super::{Context, PacketError, Peer};
use crate::endpoint::event::{Event, Via};
use crate::endpoint::status::SleepStatus;
use crate::ids::ReceiverIndex;
use crate::membership::Gate;
use crate::path::select::{PathKind, Wanted};
use crate::session::rekey::Role;
use crate::time::Deadline;
use crate::wire::control::Control;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A data plane that has not said in this time whether it stopped lost the question, or its answer.
const STOP_WITHIN: Duration = Duration::from_secs(1);
/// REST is repeated this often ...
const REPEAT: Duration = Duration::from_millis(250);
/// ... and given up after this: less than the five seconds that frames wait for a key.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Who said that the session is over says so again for this long: longer than that is asked, by a path that takes its time.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Who is woken and is there has a session within this: a handshake that is repeated once or twice.
const WAKES_WITHIN: Duration = Duration::from_secs(5);
/// Where something stands against it, this is looked at again so late.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The higher key leaves the question to the lower one for this long: both have been idle for as long, to a round trip.
const TURN: Duration = Duration::from_secs(1);

/// What the two do towards giving their session up, and what is left of it.
#[derive(Debug, Default)]
pub(super) struct Rest {
    state: State,
    /// After how long without use the session may end; `None`: it is kept.
    idle_after: Option<Duration>,
    /// When something last went either way that somebody wanted.
    used: Option<Instant>,
    not_before: Option<Instant>,
    /// The last number given to a question, to the data plane or to the peer.
    number: u64,
    /// The first of those that the peer was asked in this session.
    asked: Option<u64>,
    asleep: Option<Asleep>,
    /// When it was woken last, until there is a session.
    woken: Option<Instant>,
    rested: Option<Rested>,
    /// Whether the session may be over at the other side.
    doubt: Doubt,
    /// Where data went last by datagram, before the session ended.
    direct: Option<SocketAddr>,
}

/// What is known of a session that this side goes on with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Doubt {
    #[default]
    None,
    /// REST was said then, and not answered: only what answers since then shows that it is not over.
    Unanswered(Instant),
    /// It is over at the other side.
    Over,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Awake,
    /// The data plane was asked to stop; for the peer, if that asked.
    Stopping { number: u64, question: Option<Question>, until: Instant },
    /// It did, and the peer was asked. `is_wanted`: a frame waits for the answer.
    Proposed { number: u64, again: Instant, until: Instant, is_wanted: bool },
}

/// A REST of the peer, and how it came.
#[derive(Debug, Clone, Copy)]
struct Question {
    number: u64,
    via: Via,
}

/// There is no session, for nobody wants one.
#[derive(Debug)]
struct Asleep {
    since: Instant,
    last_path: PathKind,
}

/// A session that this side said is over.
#[derive(Debug)]
struct Rested {
    session: Session,
    via: Via,
    until: Instant,
}

impl Rest {
    /// Whether there is no session because nobody wants one.
    pub(super) const fn is_asleep(&self) -> bool {
        self.asleep.is_some()
    }

    pub(super) fn sleep_status(&self, now: Instant) -> Option<SleepStatus> {
        let Asleep { since, last_path } = self.asleep.as_ref()?;
        Some(SleepStatus { age: now.saturating_duration_since(*since), last_path: *last_path })
    }

    /// Whether there will be a session in a moment, as far as is known.
    pub(super) fn is_waking(&self, now: Instant) -> bool {
        self.woken.is_some_and(|woken| now.saturating_duration_since(woken) < WAKES_WITHIN)
    }

    /// Somebody wanted something of the session.
    pub(super) const fn on_use(&mut self, now: Instant) {
        self.used = Some(now);
    }

    /// There is a session.
    pub(super) fn on_established(&mut self, now: Instant) {
        (self.asleep, self.woken) = (None, None);
        self.state = State::Awake;
        self.not_before = None;
        self.asked = None;
        self.doubt = Doubt::None;
        self.on_use(now);
    }

    /// Whether the session is known to be over at the other side.
    pub(super) fn is_over_there(&self) -> bool {
        self.doubt == Doubt::Over
    }

    /// What was answered before does not show that the session lives.
    pub(super) const fn in_doubt_since(&self) -> Option<Instant> {
        match self.doubt {
            Doubt::Unanswered(since) => Some(since),
            Doubt::None | Doubt::Over => None,
        }
    }

    /// What was known of the peer may be another matter now: a session is to tell.
    pub(super) fn forget_sleep(&mut self) {
        self.asleep = None;
    }

    /// Where data went by datagram in the session before; once.
    pub(super) const fn take_direct(&mut self) -> Option<SocketAddr> {
        self.direct.take()
    }

    const fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Whether the peer may have been asked so in this session.
    fn was_asked(&self, number: u64) -> bool {
        self.asked.is_some_and(|first| (first..=self.number).contains(&number))
    }

    /// Not so soon again.
    fn put_off(&mut self, now: Instant, by: Duration) {
        self.not_before = Some(now + by);
    }
}

impl Peer {
    /// After how long without use its session may end; `None`: it is kept, and made if there is none. A handshake waits for `pause`.
    pub(crate) fn set_idle_after(
        &mut self,
        ctx: &mut Context<'_>,
        idle_after: Option<Duration>,
        pause: Duration,
    ) -> bool {
        if std::mem::replace(&mut self.rest.idle_after, idle_after) == idle_after {
            return false;
        }
        let is_woken = idle_after.is_none() && self.rest.is_asleep();
        if is_woken {
            self.end_sleep(ctx, "its session is to be kept", pause);
        }
        self.settle(ctx);
        is_woken
    }

    /// Somebody here has something for the peer: who is asleep is woken.
    pub(crate) fn on_wanted(&mut self, ctx: &mut Context<'_>, why: &'static str) {
        self.want_session(ctx, why);
        self.first.hurry(ctx.now, self.role, why);
        self.settle(ctx);
    }

    pub(super) fn want_session(&mut self, ctx: &mut Context<'_>, why: &'static str) {
        self.rest.on_use(ctx.now);
        match &mut self.rest.state {
            State::Awake => {}
            State::Stopping { question, .. } => {
                let question = question.take();
                self.resume_sealing(ctx);
                self.refuse_rest(ctx, question);
            }
            // It may be over already at the other side: the answer tells.
            State::Proposed { is_wanted, .. } => *is_wanted = true,
        }
        if self.contact.is_some() {
            self.end_sleep(ctx, why, Duration::ZERO);
        }
    }

    /// Who is asleep is to have a session, `pause` from now.
    pub(super) fn end_sleep(&mut self, ctx: &Context<'_>, why: &'static str, pause: Duration) {
        if self.rest.asleep.take().is_some() && self.contact.is_some() {
            self.rest.woken = Some(ctx.now);
            self.first.schedule(ctx.now + pause, why);
        }
    }

    /// When something of this is due.
    pub(super) fn rest_due(&self) -> Option<Deadline> {
        let Rest { idle_after, used, not_before, .. } = &self.rest;
        let due = match &self.rest.state {
            State::Awake => {
                let knows_rest = self.session.as_ref().is_some_and(|session| session.knows_rest);
                let idle = idle_after.zip(*used).filter(|_| knows_rest && self.contact.is_some());
                idle.map(|(idle_after, used)| {
                    let turn = if self.role == Role::Lower { Duration::ZERO } else { TURN };
                    let at = used + idle_after + turn;
                    Deadline::new(not_before.map_or(at, |other| other.max(at)), "nobody uses a session")
                })
            }
            State::Stopping { until, .. } => {
                Some(Deadline::new(*until, "the data plane did not say whether it stopped"))
            }
            State::Proposed { again, until, .. } => Some(Deadline::new(*again.min(until), "repeat REST")),
        };
        let rested = self.rest.rested.as_ref();
        let rested = rested.map(|rested| Deadline::new(rested.until, "forget a session that is over"));
        Deadline::earlier(due, rested)
    }

    pub(super) fn rest_timeout(&mut self, ctx: &mut Context<'_>) {
        if self.rest.rested.as_ref().is_some_and(|rested| rested.until <= ctx.now) {
            self.drop_rested(ctx);
        }
        if !self.rest_due().is_some_and(|due| due.is_due(ctx.now)) {
            return;
        }
        let is_awake = matches!(self.rest.state, State::Awake);
        match &mut self.rest.state {
            State::Awake => {}
            State::Stopping { question, .. } => {
                let question = question.take();
                self.resume_sealing(ctx);
                self.rest.put_off(ctx.now, LOOK_AGAIN);
                self.refuse_rest(ctx, question);
            }
            State::Proposed { until, .. } if *until <= ctx.now => {
                self.resume_sealing(ctx);
                self.rest.put_off(ctx.now, LOOK_AGAIN);
                // It may have ended at the other side, where the answer was lost. What is sealed meanwhile is resent by the next one.
                self.doubt_session(ctx, Doubt::Unanswered(ctx.now));
            }
            State::Proposed { number, again, .. } => {
                *again = ctx.now + REPEAT;
                let number = *number;
                self.send(ctx, &Control::Rest { number });
            }
        }
        if is_awake && self.may_rest(ctx) {
            // Its last acknowledgement may have been lost, and nothing else asks for that in an idle pair.
            if let Some(via) = self.way() {
                self.repeat_report(ctx, via);
            }
            self.stop_sealing(ctx, None);
        } else if is_awake {
            self.rest.put_off(ctx.now, LOOK_AGAIN);
        }
    }

    /// What stands against giving the session up, as far as is known here: nothing.
    fn may_rest(&self, ctx: &Context<'_>) -> bool {
        let Some(session) = &self.session else { return false };
        let is_at_rest = session.knows_rest && !session.is_rekeying() && self.first.is_idle();
        let is_told = self.about.is_some() && self.hello_acked.is_some() && self.member.is_quiet();
        let is_free = self.rest.idle_after.is_some() && self.wish.wanted == Wanted::Auto;
        let may_wake = self.contact.is_some() && self.unconfirmed.is_empty() && self.rest.rested.is_none();
        let is_well = self.is_well_routed() && self.is_agreed() && self.gate(ctx) == Gate::Open;
        is_at_rest && is_told && is_free && may_wake && is_well
    }

    /// Whether it has not been used for so long that the peer, which has not seen it used for a while, is right. What it knows may be a
    /// little older or younger.
    fn is_idle(&self, now: Instant) -> bool {
        let idle = self.rest.idle_after.zip(self.rest.used);
        idle.is_some_and(|(idle_after, used)| now.saturating_duration_since(used) >= idle_after * 3 / 4)
    }

    fn stop_sealing(&mut self, ctx: &mut Context<'_>, question: Option<Question>) {
        let number = self.rest.next_number();
        self.rest.state = State::Stopping { number, question, until: ctx.now + STOP_WITHIN };
        ctx.out.event(Event::StopSealing { slot: self.slot, number });
    }

    /// The session stays: frames go as before.
    pub(super) fn resume_sealing(&mut self, ctx: &mut Context<'_>) {
        if !matches!(std::mem::take(&mut self.rest.state), State::Awake) {
            ctx.out.event(Event::ResumeSealing { slot: self.slot });
        }
    }

    /// The data plane has stopped, and the peer has everything (`is_empty`), or it goes on.
    pub(crate) fn on_sealing_stopped(&mut self, ctx: &mut Context<'_>, number: u64, is_empty: bool) {
        let question = match &self.rest.state {
            State::Stopping { number: asked, question, .. } if *asked == number => *question,
            // It was told to go on since.
            State::Awake | State::Stopping { .. } | State::Proposed { .. } => return,
        };
        if !is_empty || !self.may_rest(ctx) {
            self.resume_sealing(ctx);
            self.rest.put_off(ctx.now, LOOK_AGAIN);
            self.refuse_rest(ctx, question);
        } else if let Some(question) = question {
            self.agree_to_rest(ctx, question);
        } else {
            let (again, until) = (ctx.now + REPEAT, ctx.now + ANSWER_WITHIN);
            self.rest.asked.get_or_insert(number);
            self.rest.state = State::Proposed { number, again, until, is_wanted: false };
            self.send(ctx, &Control::Rest { number });
        }
        self.settle(ctx);
    }

    /// The peer has stopped and asks this side to.
    pub(super) fn on_rest(&mut self, ctx: &mut Context<'_>, via: Via, number: u64) {
        let asked = Question { number, via };
        let is_willing = self.is_idle(ctx.now) && self.may_rest(ctx);
        match &mut self.rest.state {
            State::Awake if is_willing => self.stop_sealing(ctx, Some(asked)),
            State::Awake => self.refuse_rest(ctx, Some(asked)),
            State::Stopping { question, .. } => *question = Some(asked),
            // Both asked: it is over.
            State::Proposed { .. } => self.agree_to_rest(ctx, asked),
        }
    }

    fn refuse_rest(&mut self, ctx: &mut Context<'_>, question: Option<Question>) {
        if let Some(Question { number, via }) = question {
            self.answer(ctx, via, &Control::RestAnswer { number, is_over: false });
        }
    }

    /// The peer answered.
    pub(super) fn on_rest_answer(&mut self, ctx: &mut Context<'_>, number: u64, is_over: bool) {
        let is_awaited = match &self.rest.state {
            State::Proposed { number: asked, .. } => is_over || *asked == number,
            State::Awake | State::Stopping { .. } => false,
        };
        match (is_awaited, is_over) {
            (true, true) => {
                if let Some(session) = self.fall_asleep(ctx) {
                    session.release(ctx.indices);
                }
            }
            (true, false) => {
                self.resume_sealing(ctx);
                let pause = self.rest.idle_after.unwrap_or(LOOK_AGAIN);
                self.rest.put_off(ctx.now, pause);
            }
            // Late: this side went on, in a session that the other has ended. Once: a handshake is not to be had for a packet.
            (false, true) if self.rest.was_asked(number) && !self.rest.is_over_there() => {
                self.resume_sealing(ctx);
                self.doubt_session(ctx, Doubt::Over);
            }
            (false, _) => {}
        }
    }

    /// A handshake begins beside a session that may be over at the other side. A path that answered before proves nothing now, also a
    /// direct one: it is asked, and nobody calls it good for as long as it was silent.
    fn doubt_session(&mut self, ctx: &mut Context<'_>, doubt: Doubt) {
        self.rest.doubt = doubt;
        self.direct.question(ctx.now);
        self.direct_tcp.question(ctx.now);
        if doubt == Doubt::Over {
            self.first.schedule(ctx.now, "the session is over at the other side");
        } else {
            self.revive(ctx, "a session may be over at the other side");
        }
    }

    /// Ends the session and says so: the other side has stopped, as this one has.
    fn agree_to_rest(&mut self, ctx: &mut Context<'_>, question: Question) {
        let Question { number, via } = question;
        self.answer(ctx, via, &Control::RestAnswer { number, is_over: true });
        let session = self.fall_asleep(ctx);
        let until = ctx.now + REMEMBERED;
        self.rest.rested = session.map(|session| Rested { session, via, until });
    }

    /// Ends the session; gives what is left of it.
    fn fall_asleep(&mut self, ctx: &mut Context<'_>) -> Option<Session> {
        let is_wanted = matches!(self.rest.state, State::Proposed { is_wanted: true, .. });
        let last_path = self.routed.map_or(PathKind::RelayWs, Via::kind);
        self.rest.direct = match self.routed {
            Some(Via::Udp(remote)) => Some(remote),
            Some(Via::Channel(_) | Via::RelayUdp(_) | Via::Tcp(_)) | None => None,
        };
        let member = self.set_member_aside(ctx);
        let session = self.take_session(ctx);
        self.direct.on_rest();
        self.member = member;
        self.rest.state = State::Awake;
        // No path failed: nothing is in doubt, and nothing goes again.
        self.routed = None;
        self.silence = None;
        self.doubted_since = None;
        self.abandoned = Default::default();
        self.first.cancel(ctx);
        ctx.out.event(Event::EndAssociation { slot: self.slot });
        tracing::debug!(peer = %self.id.short(), "the session is over: nobody uses it");
        self.rest.asleep = Some(Asleep { since: ctx.now, last_path });
        // Something came up since this side asked, and there was no way back.
        let is_free = self.rest.idle_after.is_some() && self.wish.wanted == Wanted::Auto;
        if is_wanted || !is_free || self.hello_acked.is_none() {
            self.rest.on_use(ctx.now);
            // Where no relay is there, as soon as one is.
            self.end_sleep(ctx, "something came up while the session ended", Duration::ZERO);
        }
        session
    }

    /// Whether the index belongs to a session that is over here.
    pub(super) fn has_rested(&self, index: ReceiverIndex) -> bool {
        self.rest.rested.as_ref().is_some_and(|rested| rested.session.has_index(index))
    }

    /// A control packet of a session that is over: whoever asks has not heard it.
    pub(super) fn rested_control(
        &mut self,
        ctx: &mut Context<'_>,
        via: Via,
        packet: &mut [u8],
    ) -> Result<(), PacketError> {
        let Some(rested) = &mut self.rest.rested else { return Err(PacketError::UnknownIndex) };
        let body = rested.session.open(ctx.now, packet)?;
        let Some(Control::Rest { number }) = body else { return Ok(()) };
        let answer = Control::RestAnswer { number, is_over: true };
        // Nowhere but where the question came from before, or over the relay: no path is there any more.
        let is_safe = via == rested.via || !matches!(via, Via::Udp(_));
        if let Some(packet) = rested.session.seal(ctx.now, &answer).filter(|_| is_safe) {
            ctx.out.packet(via, &packet, None);
        }
        Ok(())
    }

    /// The peer is of a version that does not know of REST.
    #[cfg(test)]
    pub(crate) fn forget_rest_for_test(&mut self) {
        self.session.iter_mut().for_each(|session| session.knows_rest = false);
    }

    pub(super) fn drop_rested(&mut self, ctx: &mut Context<'_>) {
        if let Some(rested) = self.rest.rested.take() {
            rested.session.release(ctx.indices);
        }
    }
}
