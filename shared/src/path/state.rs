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
    BUSY_PING, DEAD_AFTER, HEARTBEAT, HEARTBEAT_MAX, HEARTBEAT_MIN, PROBE_INTERVAL, TAIL_PINGS,
    UNACKNOWLEDGED_ANSWERED, UNACKNOWLEDGED_DEAD, UNACKNOWLEDGED_REPORTS, dead_after, questioned_after,
    questioned_again, repeat_after, suspicion_after, unanswered_after,
};
use super::loss::Loss;
use super::mtu::Mtu;
use super::rtt::Rtt;
use super::select::PathKind;
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

    /// It is not needed now. One that is being proven or in doubt is not put to rest, nor one with data that nothing has confirmed, or with a
    /// PING that was not answered (which alone shows that what is large arrived): nobody would notice that it was swallowed.
    pub fn rest(&mut self) {
        if matches!(self.state, State::Proven { outstanding: None }) && self.asked.is_none() {
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
            self.unanswered.clear();
            self.next_ping = Some(Deadline::new(now, "prove a path that rested"));
        }
    }

    /// Follows the relay's hint, within bounds (protocol §3.5).
    pub fn set_heartbeat(&mut self, heartbeat: Duration) {
        self.heartbeat = heartbeat.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
        if self.is_proven() && self.asked.is_none() {
            self.next_ping = Some(self.next_heartbeat(self.answered));
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

    /// The PING `id` left.
    pub fn on_ping_sent(&mut self, now: Instant, id: u64) {
        let answer_takes = self.rtt().map_or(PROBE_INTERVAL, |rtt| PROBE_INTERVAL.max(2 * rtt));
        if self.asked.is_some_and(|asked| now >= asked + answer_takes) {
            self.loss.on_ping(now, false);
            self.trial.on_ping(now, false);
        }
        let size = self.ping_size().unwrap_or_default();
        if self.unanswered.len() >= MAX_PENDING {
            // As many as can be answered; two at a time, so that the turn is kept.
            self.unanswered.drain(..2);
        }
        self.unanswered.push((id, size));
        self.challenges.on_sent(now, id);
        self.asked.get_or_insert(now);
        self.pinged = Some(now);
        let pause =
            if self.is_questioned() { questioned_again(self.rtt()) } else { repeat_after(self.rtt()) };
        let pause = if matches!(self.state, State::Unproven { .. }) { 2 * pause } else { pause };
        self.next_ping = Some(Deadline::new(now + pause, "repeat a PING"));
    }

    /// The PONG `id` came over this path; whether it answers a PING of ours, which proves the path.
    pub fn on_pong(&mut self, now: Instant, id: u64) -> bool {
        if self.mtu.as_mut().is_some_and(|mtu| mtu.on_answer(now, id)) {
            return false;
        }
        let Some(sample) = self.challenges.on_answer(now, id) else {
            return false;
        };
        let size = self.unanswered.iter().find(|(asked, _)| *asked == id).map(|(_, size)| *size);
        self.prove(now, sample, size);
        true
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
        self.loss.on_ping(now, true);
        self.trial.on_ping(now, true);
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
        let data = outstanding
            .map(|since| Deadline::new(since + suspicion_after(self.rtt()), "data is unconfirmed"));
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
        let rtt = self.rtt();
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

    /// When to PING because data is unconfirmed, so that one lost packet or acknowledgement at the end of a flow makes no doubt: an
    /// answer says as much.
    fn tail_ping(&self) -> Option<Deadline> {
        let State::Proven { outstanding: Some(since) } = self.state else { return None };
        let part = suspicion_after(self.rtt()) / (TAIL_PINGS + 1);
        (1..=TAIL_PINGS)
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
        let probe = self.loss.probe_due(now).map(|at| Deadline::new(at, "a lossy path on its way back"));
        let trial = self.trial.probe_due(now).map(|at| Deadline::new(at, "would it lose less"));
        Deadline::earlier(Deadline::earlier(probe, trial), Some(heartbeat)).unwrap_or(heartbeat)
    }

    fn move_to_suspect(&mut self, now: Instant, dies: Instant) {
        tracing::debug!(kind = %self.kind, "path suspect");
        self.state = State::Suspect { since: now, dies };
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
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const RTT: Duration = Duration::from_millis(20);
    const TICK: Duration = Duration::from_millis(10);

    /// Runs a path in virtual time against a peer that answers each PING after `rtt` while `answers` is true.
    struct Run {
        now: Instant,
        start: Instant,
        path: Path,
        next_id: u64,
        rtt: Duration,
        in_flight: VecDeque<(Instant, u64)>,
        answers: bool,
        pings: usize,
    }

    impl Run {
        fn new() -> Self {
            let now = Instant::now();
            let path = Path::new(now, PathKind::RelayWs);
            let in_flight = VecDeque::new();
            Self { now, start: now, path, next_id: 0, rtt: RTT, in_flight, answers: true, pings: 0 }
        }

        fn for_secs(&mut self, secs: u64, each_10ms: impl FnMut(&mut Path, Instant)) {
            self.for_ticks(secs * 100, each_10ms);
        }

        fn for_ticks(&mut self, ticks: u64, mut each_10ms: impl FnMut(&mut Path, Instant)) {
            for _ in 0..ticks {
                self.now += TICK;
                while let Some((_, id)) = self.in_flight.pop_front_if(|(at, _)| *at <= self.now) {
                    self.path.on_pong(self.now, id);
                }
                each_10ms(&mut self.path, self.now);
                self.path.handle_timeout(self.now);
                if self.path.poll_ping(self.now).is_some() {
                    self.pings += 1;
                    self.next_id += 1;
                    self.path.on_ping_sent(self.now, self.next_id);
                    if self.answers {
                        self.in_flight.push_back((self.now + self.rtt, self.next_id));
                    }
                }
            }
        }
    }

    #[test]
    fn a_path_that_answers_is_proven_and_an_idle_one_costs_one_ping_a_heartbeat() {
        let mut run = Run::new();
        assert!(!run.path.is_usable());
        run.for_secs(1, |_, _| ());
        assert!(run.path.is_usable());
        assert_eq!(run.path.rtt(), Some(RTT));
        run.pings = 0;
        run.for_secs(60, |_, _| ());
        assert_eq!(run.pings, 4, "60 s at {HEARTBEAT:?}");
        assert!(run.path.is_usable());
    }

    #[test]
    fn a_path_rests_when_its_data_is_confirmed_and_not_before() {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.path.on_data_sent(run.now);
        run.path.rest();
        assert!(run.path.is_proven());
        run.for_secs(1, |path, _| path.rest());
        assert!(run.path.is_resting(), "a PING has asked");
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.path.on_data_sent(run.now);
        run.answers = false;
        run.for_secs(1, |path, _| path.rest());
        assert!(run.path.is_suspect(), "it swallowed that");
        // What is small is acknowledged, what is large is not answered.
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.answers = false;
        run.for_ticks(10, |path, now| path.on_data_sent(now));
        run.for_ticks(95, |path, now| {
            path.on_ack(now);
            path.rest();
        });
        assert!(run.path.is_suspect(), "it swallowed what is large");
    }

    #[test]
    fn a_doubt_that_the_first_ping_ends_swallowed_nothing_and_one_that_a_later_question_ends_did() {
        for (is_checked, was_lost) in [(false, false), (false, true), (true, true)] {
            let mut run = Run::new();
            run.for_secs(1, |_, _| ());
            run.answers = !was_lost;
            run.path.question(run.now);
            let asked = run.now;
            let mut was_suspect = false;
            for _ in 0..100 {
                run.for_ticks(1, |_, _| ());
                was_suspect |= run.path.is_suspect();
                run.answers |= run.now >= asked + Duration::from_millis(250);
                if is_checked && run.now == asked + Duration::from_millis(260) {
                    run.path.on_checked(run.now, RTT, 1400);
                }
            }
            assert!(run.path.is_proven());
            assert_eq!(was_suspect, was_lost, "checked: {is_checked}");
            assert_eq!(run.path.take_swallowed(), was_lost, "checked: {is_checked}");
            assert!(!run.path.take_swallowed(), "it is said once");
        }
    }

    #[test]
    fn a_path_that_never_answers_dies_in_three_seconds() {
        let mut run = Run::new();
        run.answers = false;
        run.for_secs(2, |_, _| ());
        assert!(!run.path.is_dead());
        run.for_secs(1, |_, _| ());
        assert!(run.path.is_dead());
        assert!(!run.path.is_usable());
        assert!(run.pings >= 4, "several tries: {}", run.pings);
        assert_eq!(run.path.poll_timeout(), None);
    }

    #[test]
    fn unconfirmed_data_kills_a_silent_path_within_the_bound_even_while_it_receives() {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.answers = false;
        let blocked = run.now;
        let mut died = None;
        run.for_secs(5, |path, now| {
            path.on_data_sent(now);
            if path.is_dead() && died.is_none() {
                died = Some(now);
            }
        });
        let took = died.expect("dead") - blocked;
        // Each of the two steps is taken at the next of the run's ticks, and the first data leaves a tick after the block.
        let ticks = Duration::from_millis(30);
        assert!(took <= DEAD_AFTER + suspicion_after(Some(RTT)) + ticks, "{took:?}");
    }

    #[test]
    fn whoever_changes_networks_while_a_path_swallows_what_is_large_learns_of_it_no_later() {
        for (is_shaken, after_ms) in [(false, 200), (false, 400), (false, 900), (true, 600), (true, 900)] {
            let mut run = Run::new();
            let small = |path: &mut Path, now: Instant| {
                path.on_data_sent(now);
                path.on_ack(now);
            };
            run.for_secs(2, small);
            // What is small is acknowledged on, a PING is not.
            run.answers = false;
            run.for_ticks(after_ms / 10, small);
            if is_shaken {
                run.path.shake(run.now)
            } else {
                run.path.question(run.now)
            }
            let known = run.path.known_at().unwrap();
            let mut died = None;
            run.for_secs(4, |path, now| {
                small(path, now);
                if path.is_dead() {
                    died.get_or_insert(now);
                }
            });
            let took = died.expect("dead") - known;
            assert!(took <= DEAD_AFTER + 3 * TICK, "shaken: {is_shaken}, after {after_ms} ms: {took:?}");
        }
    }

    #[test]
    fn a_path_that_carries_pings_and_swallows_data_is_dead_within_the_bound() {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        let began = run.now;
        let mut died = None;
        run.for_secs(5, |path, now| {
            path.on_data_sent(now);
            if path.is_dead() {
                died.get_or_insert(now);
            }
        });
        let after = died.expect("dead") - began;
        assert!(after >= Duration::from_secs(2) && after <= Duration::from_secs(3), "{after:?}");
    }

    #[test]
    fn on_a_path_of_up_to_400_ms_it_is_dead_3_s_after_the_last_data_that_passed() {
        // At whatever moment of the PINGs it begins.
        for (rtt, phase) in (20..=400).step_by(20).flat_map(|rtt| (0..10).map(move |phase| (rtt, phase))) {
            let mut run = Run::new();
            run.rtt = Duration::from_millis(rtt);
            run.for_secs(2, |_, _| ());
            let began = run.now + Duration::from_millis(1000 + 90 * phase);
            let mut died = None;
            let (mut acked, round) = (run.now, run.rtt);
            run.for_secs(6, |path, now| {
                path.on_data_sent(now);
                // Each 20 ms the peer says what it has, for as long as what passed and that take.
                if now - acked >= 2 * TICK && now <= began + round + 2 * TICK {
                    acked = now;
                    path.on_ack(now);
                }
                if path.is_dead() {
                    died.get_or_insert(now);
                }
            });
            let took = died.expect("dead") - began;
            assert!(took <= Duration::from_secs(3), "{took:?} at {rtt} ms, phase {phase}");
            assert!(took >= UNACKNOWLEDGED_DEAD, "{took:?} at {rtt} ms, phase {phase}");
        }
    }

    #[test]
    fn a_peer_that_stands_still_is_silent_and_swallows_nothing() {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.for_secs(1, |path, now| {
            path.on_data_sent(now);
            path.on_ack(now);
        });
        // It answers once and stops: for as long as a path may be silent this one is.
        let mut is_first = true;
        run.path.on_data_sent(run.now);
        run.path.want_ping(run.now);
        run.for_ticks(3, |_, _| ());
        run.answers = false;
        let stopped = run.now;
        run.for_secs(5, |path, now| {
            path.on_data_sent(now);
            if path.is_dead() && std::mem::take(&mut is_first) {
                assert!(now - stopped > Duration::from_millis(2300), "{:?}", now - stopped);
            }
        });
        assert!(!is_first);
    }

    #[test]
    fn acknowledgements_that_are_rare_or_late_are_no_swallowing() {
        // One each second.
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        let mut tick = 0;
        run.for_secs(60, |path, now| {
            tick += 1;
            path.on_data_sent(now);
            if tick % 100 == 0 {
                path.on_ack(now);
            }
        });
        assert!(run.path.is_usable());
        // A few packets, the last acknowledgement of which is lost: not for a moment is there a doubt.
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        (0..5).for_each(|_| run.path.on_data_sent(run.now));
        run.for_secs(60, |path, _| assert!(path.is_proven()));
        // Nor when the first PING that asks about it is lost as well.
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.path.on_data_sent(run.now);
        run.pings = 0;
        run.answers = false;
        while run.pings == 0 {
            run.for_ticks(1, |_, _| ());
        }
        run.answers = true;
        run.for_secs(60, |path, _| assert!(path.is_proven()));
        // A peer that is frozen for a while answers before it acknowledges.
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.answers = false;
        run.for_secs(2, |path, now| path.on_data_sent(now));
        run.answers = true;
        run.for_secs(1, |path, now| path.on_data_sent(now));
        run.path.on_ack(run.now);
        assert!(run.path.is_proven());
    }

    #[test]
    fn a_busy_path_is_asked_for_what_is_largest_however_well_acks_come() {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.pings = 0;
        let busy = |path: &mut Path, now| {
            path.on_data_sent(now);
            path.on_ack(now);
        };
        run.for_secs(60, busy);
        assert!((100..=120).contains(&run.pings), "{} in a minute", run.pings);
        assert!(run.path.is_proven());
        // Small packets pass and are acknowledged; the large ones do not.
        run.answers = false;
        let blocked = run.now;
        let mut left = None;
        run.for_secs(5, |path, now| {
            busy(path, now);
            if !path.is_usable() && left.is_none() {
                left = Some(now);
            }
        });
        let took = left.expect("not called connected any more") - blocked;
        assert!(took <= Duration::from_secs(3) + Duration::from_millis(30), "{took:?}");
    }

    #[test]
    fn a_busy_path_whose_round_trip_grows_to_three_seconds_stays_alive() {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        let busy = |path: &mut Path, now| {
            path.on_data_sent(now);
            path.on_ack(now);
            assert!(path.is_usable(), "rtt {:?}", path.rtt());
        };
        while run.rtt < Duration::from_secs(3) {
            run.rtt += Duration::from_millis(20);
            run.for_secs(10, busy);
        }
        assert!(run.path.rtt() > Some(Duration::from_millis(2800)));
        run.pings = 0;
        run.for_secs(120, |path, now| {
            busy(path, now);
            assert!(path.is_proven());
        });
        assert!((60..=240).contains(&run.pings), "{} in two minutes", run.pings);
        // And is dead when it falls silent.
        run.answers = false;
        run.for_secs(20, |path, now| path.on_data_sent(now));
        assert!(run.path.is_dead());
    }

    #[test]
    fn a_few_lost_pings_are_no_suspicion() {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        for _ in 0..100 {
            // As long as two of three in a row are lost.
            run.answers = false;
            run.for_secs(15, |path, now| {
                assert!(path.is_proven());
                if !path.challenges.is_empty()
                    && path.asked.is_some_and(|asked| now >= asked + PROBE_INTERVAL)
                {
                    let id = path.challenges.newest_for_test();
                    path.on_pong(now, id);
                }
            });
        }
    }

    #[test]
    fn a_path_that_breaks_behind_the_last_answer_is_noticed_without_further_data() {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.answers = false;
        // The acknowledgement of the first frame comes when the second, which is lost, has just left.
        run.path.on_data_sent(run.now);
        run.path.on_data_sent(run.now + RTT);
        run.path.on_ack(run.now + RTT + Duration::from_millis(1));
        run.for_secs(4, |_, _| ());
        assert!(run.path.is_dead());
    }

    #[test]
    fn an_ack_does_not_prove_what_a_pong_has_not() {
        let mut run = Run::new();
        run.path.on_ack(run.now);
        run.path.on_data_sent(run.now);
        assert!(!run.path.is_usable());
        assert!(!run.path.on_pong(run.now, 77), "a PONG nobody asked for");
        assert!(!run.path.is_usable());
        assert!(run.start <= run.now);
    }

    #[test]
    fn one_lost_heartbeat_is_repeated_and_forgiven() {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.answers = false;
        run.for_secs(15, |_, _| ());
        assert!(run.path.is_usable());
        run.answers = true;
        run.for_secs(2, |_, _| ());
        assert!(run.path.is_usable());
        run.for_secs(20, |_, _| ());
        assert!(run.path.is_usable());
    }

    #[test]
    fn a_ping_asked_for_before_the_timer_still_brings_the_doubt() {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.path.on_data_sent(run.now);
        let due = run.now + suspicion_after(run.path.rtt());
        assert!(run.path.poll_ping(due).is_some());
        assert!(run.path.is_suspect());
    }

    #[test]
    fn a_path_at_rest_costs_nothing_and_is_not_believed_until_it_answers() {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.path.rest();
        (run.pings, run.answers) = (0, false);
        run.for_secs(600, |path, now| path.on_data_sent(now));
        assert_eq!((run.pings, run.path.poll_timeout()), (0, None));
        assert!(run.path.is_resting() && !run.path.is_usable() && !run.path.is_dead());
        run.path.want_ping(run.now);
        assert_eq!(run.path.poll_ping(run.now), None, "it rests");
        run.path.wake(run.now);
        run.for_secs(1, |_, _| ());
        assert!(run.pings > 0 && !run.path.is_usable(), "asked, and not answered yet");
        run.answers = true;
        run.for_secs(1, |_, _| ());
        assert!(run.path.is_proven());
    }

    #[test]
    fn a_path_that_wakes_to_silence_dies_like_a_new_one() {
        let mut run = Run::new();
        run.path.rest();
        assert!(!run.path.is_resting(), "what is not proven has to be proven first");
        run.for_secs(1, |_, _| ());
        run.path.rest();
        run.answers = false;
        run.path.wake(run.now);
        run.for_secs(3, |_, _| ());
        assert!(run.path.is_dead());
        run.path.wake(run.now);
        assert!(run.path.is_dead(), "the dead do not wake");
    }

    #[test]
    fn a_shaken_path_is_in_doubt_until_it_answers_what_was_asked_since() {
        let mut run = Run::new();
        run.path.shake(run.now);
        assert!(!run.path.is_suspect(), "nothing was proven");
        run.for_secs(1, |_, _| ());
        run.path.want_ping(run.now);
        assert!(run.path.poll_ping(run.now).is_some());
        run.path.on_ping_sent(run.now, 77);
        run.path.shake(run.now);
        assert!(run.path.is_suspect());
        assert!(!run.path.on_pong(run.now, 77), "asked before");
        run.for_secs(1, |_, _| ());
        assert!(run.path.is_proven());
        run.answers = false;
        run.path.shake(run.now);
        run.for_secs(4, |_, _| ());
        assert!(run.path.is_dead());
    }

    #[test]
    fn a_questioned_path_stays_what_it_is_for_as_long_as_an_answer_takes() {
        let mut run = Run::new();
        run.path.question(run.now);
        assert!(!run.path.is_questioned(), "nothing was proven");
        run.for_secs(1, |_, _| ());
        run.path.question(run.now);
        run.for_secs(1, |path, _| assert!(path.is_proven()));
        assert!(!run.path.is_questioned());
        // What was asked before answers nothing, and to be questioned again and again puts nothing off.
        run.path.want_ping(run.now);
        assert!(run.path.poll_ping(run.now).is_some());
        run.path.on_ping_sent(run.now, 77);
        run.answers = false;
        let since = run.now;
        run.path.question(since);
        assert!(!run.path.on_pong(since, 77));
        let mut doubted = None;
        run.for_secs(1, |path, now| {
            path.question(now);
            path.on_ack(now);
            if path.is_suspect() {
                doubted.get_or_insert(now - since);
            }
        });
        let due = questioned_after(Some(RTT));
        assert!(doubted.is_some_and(|span| span > due && span <= due + 2 * TICK), "{doubted:?}");
        // One at rest is asked nothing, and proven anew when it wakes.
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.path.question(run.now);
        run.path.rest();
        assert!(!run.path.is_questioned());
    }

    #[test]
    fn a_closed_path_stays_dead() {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.path.on_closed("the relay connection is lost");
        assert!(run.path.is_dead());
        run.path.on_data_sent(run.now);
        run.for_secs(5, |_, _| ());
        assert!(run.path.is_dead());
    }
}
