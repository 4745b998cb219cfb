//! The state machine of one path. Sealed: only this file moves a path from state to state.
//!
//! ```text
//!   Unproven --PONG--> Proven --unconfirmed data, or heartbeat unanswered--> Suspect --PONG--> Proven
//!      |                                                                        |
//!      +------------------------- 3 s without PONG ----------------------------+--> Dead
//!
//!   Proven --rest--> Resting --wake--> Unproven
//! ```
//!
//! A path *rests* when a better one carries the data and this one costs somebody something to keep proven (the relay). It asks
//! for nothing and counts for nothing; when it is wanted it has to be proven anew, which takes one round trip.
//!
//! Inputs are facts (`on_…`) and time (`handle_timeout`); the only output is the wish to PING, taken with
//! [`Path::poll_ping`]. Hearing the peer proves one direction only; what moves a path to Proven is always a PONG, because
//! it proves both (Nebula #893: a path that only receives must not carry data).
//!
//! A PONG is not everything either: what lets PINGs through and swallows data (somebody on the way can tell them apart by their
//! first byte) would be proven again and again. So a path whose PINGs are answered and whose data nobody acknowledges for
//! [`UNACKNOWLEDGED_DEAD`] is dead.

use super::challenge::{Challenges, MAX_PENDING};
use super::liveness::{
    BUSY_PING, DEAD_AFTER, HEARTBEAT, HEARTBEAT_MIN, PATH_HEARTBEAT_MAX, PROBE_INTERVAL, TAIL_PINGS,
    TAIL_PINGS_IN_LOSS, UNACKNOWLEDGED_ANSWERED, UNACKNOWLEDGED_DEAD, UNACKNOWLEDGED_REPORTS, dead_after,
    questioned_after, questioned_again, reckoned, repeat_after, repeat_in_loss, suspicion_after,
    unanswered_after,
};
use super::loss::Loss;
use super::mtu::Mtu;
use super::rtt::Rtt;
use super::select::{PathKind, is_much_worse};
use super::trial::Trial;
use crate::time::Deadline;
use std::time::{Duration, Instant};

/// A doubt that the first PING does not end within this, nor within three round trips, was a silence.
const SILENT: Duration = Duration::from_millis(50);

/// One way to a peer.
#[derive(Debug)]
pub struct Path {
    kind: PathKind,
    state: State,
    challenges: Challenges,
    rtt: Option<Rtt>,
    slow_since: Option<Instant>,
    heartbeat: Duration,
    next_ping: Option<Deadline>,
    /// When the last PONG came; before the first, when the path was found.
    answered: Instant,
    /// When the PING left that was answered last.
    asked_of_answer: Option<Instant>,
    /// When the first PING left that has not been answered since.
    asked: Option<Instant>,
    /// When the last PING left.
    pinged: Option<Instant>,
    /// Since when something says that it may be gone, while it has not answered what was asked since.
    questioned: Option<Instant>,
    /// When data last went out over it.
    last_sent: Option<Instant>,
    /// What went out since the last acknowledgement.
    unacknowledged: Option<Unacknowledged>,
    loss: Loss,
    trial: Trial,
    /// How large a packet it carries; `None` where packets are cut by others (streams).
    mtu: Option<Mtu>,
    /// PINGs that left since the last answer, and how large the packets were.
    unanswered: Vec<(u64, usize)>,
    /// See [`Self::take_swallowed`].
    has_swallowed: bool,
}

/// Data that nobody acknowledged.
#[derive(Debug, Clone, Copy)]
struct Unacknowledged {
    since: Instant,
    /// Reports of it.
    reports: u32,
    /// When a PING was first answered since.
    answered: Option<Instant>,
}

impl Unacknowledged {
    /// From when on it is known that data is swallowed while PINGs pass, on a path of this round trip. (A peer that was frozen may answer
    /// before it acknowledges; not for long.)
    fn swallowed_from(&self, round: Duration) -> Option<Instant> {
        let answered = self.answered.filter(|_| self.reports >= UNACKNOWLEDGED_REPORTS)?;
        let unacknowledged = self.since + UNACKNOWLEDGED_DEAD.max(4 * round);
        Some(unacknowledged.max(answered + UNACKNOWLEDGED_ANSWERED))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unproven {
        since: Instant,
    },
    Proven {
        /// When data first went out that nothing has confirmed.
        outstanding: Option<Instant>,
    },
    Suspect {
        since: Instant,
        dies: Instant,
    },
    Resting,
    Dead,
}

impl Path {
    /// A path that was just found; it asks for its first PING at once.
    pub fn new(now: Instant, kind: PathKind) -> Self {
        Self {
            kind,
            state: State::Unproven { since: now },
            challenges: Challenges::new(),
            rtt: None,
            slow_since: None,
            heartbeat: HEARTBEAT,
            next_ping: Some(Deadline::new(now, "prove a new path")),
            answered: now,
            asked_of_answer: None,
            asked: None,
            pinged: None,
            questioned: None,
            last_sent: None,
            unacknowledged: None,
            loss: Loss::default(),
            trial: Trial::default(),
            mtu: None,
            unanswered: Vec::new(),
            has_swallowed: false,
        }
    }

    /// A path by datagram that was just found: every path carries packets of `base` bytes, data needs `wanted`.
    pub fn datagram(now: Instant, kind: PathKind, base: usize, wanted: usize) -> Self {
        Self { mtu: Some(Mtu::new(now, base, wanted)), ..Self::new(now, kind) }
    }

    /// A path that nobody needs yet: it rests until it is wanted.
    pub fn resting(now: Instant, kind: PathKind) -> Self {
        Self { state: State::Resting, next_ping: None, ..Self::new(now, kind) }
    }

    /// What kind it is.
    pub const fn kind(&self) -> PathKind {
        self.kind
    }

    /// The largest packet that it is known to carry, bytes; `None` on a stream.
    pub fn packet_size(&self) -> Option<usize> {
        self.mtu.as_ref().map(Mtu::current)
    }

    /// Bytes that the packet of the next PING is to have; `None` on a stream, where its owner knows. As large as the largest data, so
    /// that it proves what that needs. A path that does not answer is asked in turn for what every path carries: it may be narrow, or
    /// have become so.
    pub fn ping_size(&self) -> Option<usize> {
        let mtu = self.mtu.as_ref()?;
        let is_doubted = !self.is_proven() && self.unanswered.len() % 2 == 1;
        Some(if is_doubted { mtu.base() } else { mtu.hoped() })
    }

    /// The size of packet to probe for now, if one is due: send a PING of that size and report it with [`Self::on_probe_sent`].
    pub fn poll_probe(&mut self, now: Instant) -> Option<usize> {
        self.mtu.as_mut().filter(|_| may_probe(self.state))?.poll_probe(now)
    }

    /// The probe `id` left.
    pub fn on_probe_sent(&mut self, now: Instant, id: u64) {
        let rtt = self.rtt();
        if let Some(mtu) = &mut self.mtu {
            mtu.on_sent(now, id, rtt);
        }
    }

    /// Smoothed round-trip time of its PINGs.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.as_ref().map(Rtt::smoothed)
    }

    /// What each of its latest answers took at least.
    pub fn sustained_rtt(&self) -> Option<Duration> {
        self.rtt.as_ref().map(Rtt::sustained)
    }

    /// Since when it is so much slower than it once was that something faster may be found.
    pub const fn slow_since(&self) -> Option<Instant> {
        self.slow_since
    }

    /// Whether it may carry data: it was proven and is not dead.
    pub const fn is_usable(&self) -> bool {
        matches!(self.state, State::Proven { .. } | State::Suspect { .. })
    }

    /// Whether something that should have been confirmed was not.
    pub const fn is_suspect(&self) -> bool {
        matches!(self.state, State::Suspect { .. })
    }

    /// Since when something that should have been confirmed was not.
    pub const fn suspect_since(&self) -> Option<Instant> {
        match self.state {
            State::Suspect { since, .. } => Some(since),
            State::Unproven { .. } | State::Proven { .. } | State::Resting | State::Dead => None,
        }
    }

    /// Since when nothing is known of it, if it is in doubt: it dies [`DEAD_AFTER`] later.
    pub fn silent_since(&self) -> Option<Instant> {
        match self.state {
            State::Suspect { since, dies } => Some(dies.checked_sub(DEAD_AFTER).unwrap_or(since)),
            State::Unproven { .. } | State::Proven { .. } | State::Resting | State::Dead => None,
        }
    }

    /// When a PING was last answered: then it carried the largest packets both ways.
    pub const fn answered(&self) -> Instant {
        self.answered
    }

    /// When the PING left that was answered last: what is known of the path is as old as that.
    pub const fn known_at(&self) -> Option<Instant> {
        self.asked_of_answer
    }

    /// Whether something was answered that was asked then or later.
    pub fn has_answered_since(&self, then: Instant) -> bool {
        self.asked_of_answer.is_some_and(|asked| asked >= then)
    }

    /// How long it has been suspect.
    fn suspect_for(&self, now: Instant) -> Option<Duration> {
        self.suspect_since().map(|since| now.saturating_duration_since(since))
    }

    /// Whether answers showed, since this was asked last, that it swallowed what is not coming: it was silent, or carries less than before.
    pub const fn take_swallowed(&mut self) -> bool {
        std::mem::replace(&mut self.has_swallowed, false)
    }

    /// Whether it was silent until it answers what was asked then: in doubt for longer than an answer takes, or what was asked before
    /// stays without one. (A lost acknowledgement at the end of a flow makes a doubt that the first PING ends: nothing was swallowed
    /// then.)
    fn was_silent(&self, now: Instant, asked: Option<Instant>) -> bool {
        let answer_takes = self.rtt().map_or(SILENT, |rtt| (3 * rtt).max(SILENT));
        let is_skipped = self.asked.zip(asked).is_some_and(|(first, asked)| first + SILENT <= asked);
        self.suspect_for(now).is_some_and(|span| span >= answer_takes || is_skipped)
    }

    /// Whether it was found and has neither been proven nor given up.
    pub const fn is_unproven(&self) -> bool {
        matches!(self.state, State::Unproven { .. })
    }

    /// Whether it answered nothing for so long that it was given up.
    pub const fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead)
    }

    /// Whether it is left alone until it is wanted.
    pub const fn is_resting(&self) -> bool {
        matches!(self.state, State::Resting)
    }

    /// Whether it was proven and nothing is in doubt.
    pub const fn is_proven(&self) -> bool {
        matches!(self.state, State::Proven { .. })
    }

    /// What it leads over may be gone: it is in doubt until it answers a PING that leaves from now on.
    pub fn shake(&mut self, now: Instant) {
        if self.is_proven() {
            self.challenges = Challenges::new();
            let dies = self.dies(now);
            self.asked = None;
            self.move_to_suspect(now, dies);
        }
    }

    /// Something says that it may be gone (the network is another one, the peer is not where it was): it is asked now, stays what it is
    /// for as long as an answer takes, and is in doubt then. What was asked before and not answered counts on: whoever changes networks while
    /// a path is silent learns of that no later.
    pub fn question(&mut self, now: Instant) {
        if self.is_proven() && self.questioned.is_none() {
            self.challenges = Challenges::new();
            self.questioned = Some(now);
        }
        self.want_ping(now);
    }

    /// Whether it was questioned and has not answered yet.
    pub const fn is_questioned(&self) -> bool {
        self.questioned.is_some()
    }

    /// It is not needed now. One that is being proven, tried out or in doubt is not put to rest, nor one with data that nothing has confirmed, or with a
    /// PING that was not answered (which alone shows that what is large arrived): nobody would notice that it was swallowed.
    pub fn rest(&mut self) {
        let is_idle = matches!(self.state, State::Proven { outstanding: None }) && self.asked.is_none();
        if is_idle && !self.is_on_trial() {
            tracing::debug!(kind = %self.kind, "path rests");
            self.state = State::Resting;
            self.challenges = Challenges::new();
            (self.asked, self.questioned) = (None, None);
            self.next_ping = None;
            (self.last_sent, self.unacknowledged) = (None, None);
        }
    }

    /// It is wanted again: to be proven at once.
    pub fn wake(&mut self, now: Instant) {
        if self.is_resting() {
            tracing::debug!(kind = %self.kind, "path wakes");
            self.state = State::Unproven { since: now };
            self.loss.on_wake(now);
            self.unanswered.clear();
            self.next_ping = Some(Deadline::new(now, "prove a path that rested"));
        }
    }

    /// Follows the relay's hint, within bounds (protocol §3.5).
    pub fn set_heartbeat(&mut self, heartbeat: Duration) {
        self.heartbeat = heartbeat.clamp(HEARTBEAT_MIN, PATH_HEARTBEAT_MAX);
        if self.is_proven() && self.asked.is_none() {
            // What is wanted sooner is not put off.
            self.next_ping = Deadline::earlier(self.next_ping, Some(self.next_heartbeat(self.answered)));
        }
    }

    /// A PING is due and was asked for with the returned reason: send one and report it with [`Self::on_ping_sent`].
    pub fn poll_ping(&mut self, now: Instant) -> Option<&'static str> {
        // Taking the PING takes the deadline that would have brought the doubt: so doubt first, whoever asks.
        self.doubt(now);
        let due =
            Deadline::earlier(self.next_ping, self.tail_ping()).filter(|deadline| deadline.is_due(now))?;
        self.next_ping = None;
        Some(due.why)
    }

    /// A PING is wanted now, whatever was planned; a dead path has no use for one.
    pub fn want_ping(&mut self, now: Instant) {
        if !self.is_dead() && !self.is_resting() {
            let at = self.pinged.map_or(now, |pinged| now.max(pinged + questioned_again(self.rtt())));
            // What is planned and comes sooner is not put off.
            let at = self.next_ping.map_or(at, |next| at.min(next.at.max(now)));
            self.next_ping = Some(Deadline::new(at, "the owner wants to know"));
        }
    }

    /// It is kept from data by its round trip alone: asked again soon, while it is too new for that to be known.
    pub fn ask_whether_slow(&mut self, now: Instant) {
        let pause = self.rtt.as_ref().and_then(Rtt::asked_again);
        if let Some(pause) = pause.filter(|_| self.is_proven() && self.asked.is_none()) {
            let again = Deadline::new((self.answered + pause).max(now), "it may only have seemed slow");
            self.next_ping = Deadline::earlier(self.next_ping, Some(again));
        }
    }

    /// The PING `id` left.
    pub fn on_ping_sent(&mut self, now: Instant, id: u64) {
        let answer_takes = self.rtt().map_or(PROBE_INTERVAL, |rtt| PROBE_INTERVAL.max(2 * rtt));
        let lost = self.challenges.take_overdue(now, answer_takes);
        self.count_lost(now, lost);
        let size = self.ping_size().unwrap_or_default();
        if self.unanswered.len() >= MAX_PENDING {
            // As many as can be answered; two at a time, so that the turn is kept.
            self.unanswered.drain(..2);
        }
        self.unanswered.push((id, size));
        self.challenges.on_sent(now, id);
        self.asked.get_or_insert(now);
        self.pinged = Some(now);
        let pause = if self.is_questioned() {
            questioned_again(self.rtt())
        } else if self.is_proven() && self.loss.is_shown(now) {
            repeat_in_loss(self.rtt())
        } else {
            repeat_after(self.rtt())
        };
        let pause = if matches!(self.state, State::Unproven { .. }) { 2 * pause } else { pause };
        self.next_ping = Some(Deadline::new(now + pause, "repeat a PING"));
    }

    /// The PONG `id` came over this path; whether it answers a PING of ours, which proves the path.
    pub fn on_pong(&mut self, now: Instant, id: u64) -> bool {
        if self.mtu.as_mut().is_some_and(|mtu| mtu.on_answer(now, id)) {
            return false;
        }
        let Some(answer) = self.challenges.on_answer(now, id) else {
            return false;
        };
        self.count_lost(now, answer.passed);
        if !answer.is_overdue {
            self.loss.on_ping(now, true);
            self.trial.on_answer(now, answer.took, self.kind.is_stream());
            if self.is_fit(now) {
                self.loss.on_fit();
            }
        }
        let size = self.unanswered.iter().find(|(asked, _)| *asked == id).map(|(_, size)| *size);
        self.prove(now, answer.took, size);
        true
    }

    /// So many PINGs were not answered, or not in time.
    fn count_lost(&mut self, now: Instant, lost: usize) {
        for _ in 0..lost {
            self.loss.on_ping(now, false);
            self.trial.on_no_answer(now);
        }
    }

    /// A check (protocol §7.5) that left for where this path leads was answered after `sample`. Its packet had `size` bytes, so it showed
    /// what a PING of the path itself does.
    pub fn on_checked(&mut self, now: Instant, sample: Duration, size: usize) {
        if !self.is_dead() && !self.is_resting() {
            self.prove(now, sample, Some(size));
        }
    }

    /// It answered what was asked of it `sample` ago, with a packet of `size` bytes.
    fn prove(&mut self, now: Instant, sample: Duration, size: Option<usize>) {
        let asked = now.checked_sub(sample);
        let size_before = self.packet_size();
        if let (Some(mtu), Some(size)) = (&mut self.mtu, size) {
            mtu.on_passed(now, size);
        }
        self.has_swallowed |= self.was_silent(now, asked) || self.packet_size() < size_before;
        self.unanswered.clear();
        match &mut self.rtt {
            Some(rtt) => rtt.add(sample),
            None => self.rtt = Some(Rtt::new(sample)),
        }
        let is_slow = self.rtt.as_ref().is_some_and(|rtt| is_much_worse(rtt.sustained(), rtt.best()));
        self.slow_since = is_slow.then(|| self.slow_since.unwrap_or(now));
        if !self.is_proven() {
            tracing::debug!(kind = %self.kind, rtt = ?self.rtt(), "path proven");
        }
        self.answered = now;
        self.asked_of_answer = asked;
        (self.asked, self.questioned) = (None, None);
        self.challenges = Challenges::new();
        self.state = State::Proven { outstanding: self.still_outstanding(now, sample) };
        self.next_ping = Some(self.next_heartbeat(now));
        if let Some(data) = &mut self.unacknowledged {
            data.answered.get_or_insert(now);
        }
        self.end_swallowing(now);
    }

    /// An ACK for data that this side sent over this path came. It shows that data arrives, not that the largest does.
    pub fn on_ack(&mut self, now: Instant) {
        self.unacknowledged = None;
        let outstanding = self.still_outstanding(now, self.rtt().unwrap_or_default());
        if let State::Proven { outstanding: before } = &mut self.state {
            *before = outstanding;
        }
    }

    /// What the peer has of the data that goes by this path (see [`Loss::on_acks`]).
    pub fn on_arrivals(&mut self, now: Instant, highest: u64, bitmap: &[u64; 4]) {
        self.loss.on_acks(now, highest, bitmap);
    }

    /// Data begins to take this path, or takes another.
    pub fn on_routed(&mut self) {
        self.unacknowledged = None;
        self.loss.begin();
    }

    /// Whether it loses too much for data that another path can carry.
    pub const fn is_lossy(&self) -> bool {
        self.loss.is_lossy()
    }

    /// Whether it loses too much just now.
    pub const fn is_losing(&self) -> bool {
        self.loss.is_losing()
    }

    /// Data's path loses too much: would this one lose less? It is asked, unless that is known.
    pub fn try_out(&mut self, now: Instant) {
        if !self.is_dead() && !self.is_resting() && self.trial.want(now) {
            self.want_ping(now);
        }
    }

    /// Whether it is being tried.
    pub const fn is_on_trial(&self) -> bool {
        self.trial.is_under_way()
    }

    /// Whether it is known to lose little (see [`super::trial`]).
    pub fn is_fit(&self, now: Instant) -> bool {
        self.trial.is_fit(now)
    }

    /// Whether it was found to lose too much when it was tried out last.
    pub const fn was_unfit(&self) -> bool {
        self.trial.was_unfit()
    }

    /// Whether it is called lossy for no more than that nothing better is known of it.
    pub fn is_only_shunned(&self) -> bool {
        self.loss.is_only_shunned()
    }

    /// Data leaves a path that loses too much. If this one is not known to lose less it is no better for that, though data take it because the
    /// other is in doubt: it has to come back as that one has.
    pub fn shun_unless_fit(&mut self, now: Instant) {
        if !self.trial.is_fit(now) && !self.is_lossy() {
            self.loss.shun(now);
            self.want_ping(now);
        }
    }

    /// Loss of data over the last two seconds, in thousandths, where enough was sent to say.
    pub fn loss_per_mille(&self, now: Instant) -> Option<u64> {
        self.loss.per_mille(now)
    }

    /// Data went out over it since the last report.
    pub fn on_data_sent(&mut self, now: Instant) {
        self.last_sent = Some(now);
        let fresh = Unacknowledged { since: now, reports: 0, answered: None };
        let data = self.unacknowledged.get_or_insert(fresh);
        data.reports = data.reports.saturating_add(1);
        if let State::Proven { outstanding } = &mut self.state {
            outstanding.get_or_insert(now);
            if self.asked.is_none() {
                // While it is busy, what is largest is asked for often: acknowledgements of small packets prove nothing of it.
                let busy = Deadline::new((self.answered + BUSY_PING).max(now), "a busy path");
                self.next_ping = Deadline::earlier(self.next_ping, Some(busy));
            }
        }
    }

    /// Its transport is gone.
    pub fn on_closed(&mut self, why: &'static str) {
        self.move_to_dead(why);
    }

    /// When to call [`Self::handle_timeout`] and then [`Self::poll_ping`].
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let change = match self.state {
            State::Unproven { since } => Some(Deadline::new(since + DEAD_AFTER, "give up a silent path")),
            State::Suspect { dies, .. } => Some(Deadline::new(dies, "give up a silent path")),
            State::Proven { .. } => Deadline::earlier(self.doubt_due(), self.swallowed_due()),
            State::Resting | State::Dead => None,
        };
        let probe = self.mtu.as_ref().filter(|_| may_probe(self.state)).and_then(Mtu::poll_timeout);
        let ping = Deadline::earlier(self.next_ping, self.tail_ping());
        Deadline::earlier(Deadline::earlier(ping, change), probe)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.loss.handle_timeout(now);
        match self.state {
            State::Unproven { since } if now >= since + DEAD_AFTER => self.move_to_dead("no answer"),
            State::Suspect { dies, .. } if now >= dies => self.move_to_dead("no answer"),
            State::Proven { .. } => {
                self.end_swallowing(now);
                self.doubt(now);
            }
            State::Unproven { .. } | State::Suspect { .. } | State::Resting | State::Dead => {}
        }
    }

    /// Unconfirmed data is suspicious, and so are PINGs that nobody answers.
    fn doubt(&mut self, now: Instant) {
        if !self.doubt_due().is_some_and(|due| due.is_due(now)) {
            return;
        }
        self.move_to_suspect(now, self.dies(now));
    }

    /// When it dies, if it is suspect from now on and answers nothing.
    fn dies(&self, now: Instant) -> Instant {
        self.asked.map_or(now + DEAD_AFTER, |asked| {
            let patience = dead_after(self.rtt());
            (asked + patience).max(now + PROBE_INTERVAL).min(now + DEAD_AFTER)
        })
    }

    /// When a proven path becomes suspect unless something comes.
    fn doubt_due(&self) -> Option<Deadline> {
        let State::Proven { outstanding } = self.state else { return None };
        let data =
            outstanding.map(|since| Deadline::new(since + self.suspicion_after(), "data is unconfirmed"));
        let pings = self
            .asked
            .map(|asked| Deadline::new(asked + unanswered_after(self.rtt()), "PINGs are unanswered"));
        let questioned = self
            .questioned
            .map(|since| Deadline::new(since + questioned_after(self.rtt()), "it may be gone and is silent"));
        Deadline::earlier(Deadline::earlier(data, pings), questioned)
    }

    /// When it dies for swallowing data while it carries PINGs, unless some of it is acknowledged before. Where PINGs are not answered
    /// either by then it is silent, which is another matter: the peer may stand still.
    fn swallowed_due(&self) -> Option<Deadline> {
        let data = self.unacknowledged.filter(|_| self.is_proven())?;
        let rtt = reckoned(self.rtt());
        let at = data.swallowed_from(rtt.unwrap_or_default())?;
        let is_answering =
            self.asked.is_none_or(|asked| asked + rtt.unwrap_or_default() + repeat_after(rtt) > at);
        is_answering.then(|| Deadline::new(at, "data is not acknowledged"))
    }

    fn end_swallowing(&mut self, now: Instant) {
        if self.swallowed_due().is_some_and(|due| due.is_due(now)) {
            self.move_to_dead("PINGs are answered, data is not acknowledged");
        }
    }

    /// How long data may be unconfirmed.
    fn suspicion_after(&self) -> Duration {
        let usually = suspicion_after(self.rtt());
        if self.loss.is_bad() { 2 * usually } else { usually }
    }

    /// When to PING because data is unconfirmed, so that one lost packet or acknowledgement at the end of a flow makes no doubt: an
    /// answer says as much.
    fn tail_ping(&self) -> Option<Deadline> {
        let State::Proven { outstanding: Some(since) } = self.state else { return None };
        let pings = if self.loss.is_bad() { TAIL_PINGS_IN_LOSS } else { TAIL_PINGS };
        let part = self.suspicion_after() / (pings + 1);
        (1..=pings)
            .map(|nth| since + part * nth)
            .find(|at| self.pinged.is_none_or(|pinged| pinged < *at))
            .map(|at| Deadline::new(at, "data is unconfirmed"))
    }

    /// What came back confirms what went out `age` ago and before. Data that is younger is still outstanding: were it
    /// forgotten, a path that broke just behind the last answer would look well until the next heartbeat.
    fn still_outstanding(&self, now: Instant, age: Duration) -> Option<Instant> {
        self.last_sent.filter(|sent| *sent + age > now).map(|_| now)
    }

    /// When to PING next, after an answer at `now`.
    fn next_heartbeat(&self, now: Instant) -> Deadline {
        let heartbeat = Deadline::new(now + self.heartbeat, "heartbeat");
        // Each so long after the last one left, however long its answer took.
        let asked = self.pinged.unwrap_or(now);
        let probe =
            self.loss.probe_due(asked).map(|at| Deadline::new(at.max(now), "a lossy path on its way back"));
        let trial = self.trial.probe_due(asked).map(|at| Deadline::new(at.max(now), "would it lose less"));
        Deadline::earlier(Deadline::earlier(probe, trial), Some(heartbeat)).unwrap_or(heartbeat)
    }

    fn move_to_suspect(&mut self, now: Instant, dies: Instant) {
        tracing::debug!(kind = %self.kind, "path suspect");
        self.state = State::Suspect { since: now, dies };
        self.trial.on_doubt(now);
        self.questioned = None;
        self.next_ping = Some(Deadline::new(now, "prove a suspect path"));
    }

    fn move_to_dead(&mut self, why: &'static str) {
        if !self.is_dead() {
            tracing::debug!(kind = %self.kind, why, "path dead");
        }
        self.state = State::Dead;
        self.challenges = Challenges::new();
        (self.asked, self.questioned) = (None, None);
        self.next_ping = None;
    }
}

/// Whether larger packets are tried in this state.
const fn may_probe(state: State) -> bool {
    matches!(state, State::Proven { .. })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
mod tests;
