//! Looks for loops through bridges behind the devices, and contains them.
//!
//! Two nodes whose devices are bridged to one LAN make a loop: what one puts on the LAN the other takes from it and sends
//! back. A broadcast goes round for ever, and each time round to every other peer as well.
//!
//! # How a loop is found
//!
//! ```text
//!   A ── probe(nonce) ──▶ LAN ──▶ B        out of A's device, into B's
//!   A ◀── echo(nonce, am I blocked) ── B   inside their session: B hears what A puts on its LAN
//!   A ── yield(nonce) ──▶ B                inside their session, where B is the one to give way
//! ```
//!
//! A nonce cannot be guessed and is good for [`NONCE_LIFE`], so an echo proves to A that B hears its LAN now; it comes
//! inside the session, so nobody else can have said it. A yield proves nothing but that, and B believes it only for a
//! nonce that it heard itself a moment ago: a member that is not on the LAN can make nobody give way.
//!
//! A probe is sent at once when something looks like a loop (a station is heard behind our own device and behind a peer
//! in turn, or a member's own MAC comes out of our device), [`SOON`] apart at most; when the first station of a LAN is
//! heard; and every [`LOOK_EVERY`] while there are any. A node that bridges nothing sends none. In a loop the first
//! frame that comes round is what looks like one: so it is found within a few round trips.
//!
//! # What is done
//!
//! Of the two, the one with the higher MAC gives way: MACs follow from keys, so both ends see one order. It passes on
//! nothing that is for more than one (but its own frames), from its device to peers or from peers to its device: the
//! LAN still has the other. Frames for known stations pass; they do not multiply. After [`BLOCK`] it asks again, still
//! blocked, and opens when no answer says that the loop is there; else it stays blocked for twice as long as the last
//! time, [`BLOCK_MAX`] at most. A loop that comes back within [`FORGIVEN`] is met with the longer time as well.
//!
//! Where the other should give way, and the echo of a probe that was sent after it must have been told so says that it does
//! not, this node does. Where probes do not pass (a switch between filters them, a VLAN is not ours), the [table](super::Table) notices
//! that stations flap, and holds them on either side.
//!
//! # Invariants
//!
//! - What a peer says makes this node probe at most as often as anything else, and answer [`ECHOES_PER_SECOND`] times.
//! - Memory: [`NONCES`] of its own, [`NONCES`] of others.

mod message;

pub(super) use message::{Kind, Message};

use super::directory::{Directory, Owner};
use super::frame::EthernetHeader;
use super::rate::Meter;
use super::small_frame::SmallFrame;
use aws_lc_rs::hmac;
use shadowmesh_proto::ids::{MacAddr, PeerSlot};
use shadowmesh_proto::time::Deadline;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Whether a frame is what one guard says to another. Of a peer none is ever written to the device: the [gate](super::Gate) takes it.
pub fn is_guard_message(frame: &[u8]) -> bool {
    EthernetHeader::parse(frame).is_some_and(|header| Message::parse(&header, frame).is_some())
}

/// Between two probes, however much looks like a loop.
const SOON: Duration = Duration::from_millis(100);
/// Between two probes of a node that bridges and sees nothing odd: a loop of a LAN on which nobody speaks harms nobody.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Without a station for this long a node bridges no more: as long as a station is remembered.
const BRIDGES_FOR: Duration = super::limits::STATION_AGE;
/// How long an answer to a probe may take: the round trip of the slowest path that is in use, and more.
const NONCE_LIFE: Duration = Duration::from_secs(3);
/// Own probes that are waited for, and others' that were answered.
const NONCES: usize = 32;
/// Probes of others that are answered.
const ECHOES_PER_SECOND: u32 = 20;
/// How long this node gives way at least: long beside the second in which a loop is found, short beside the patience of
/// people who have mended it.
const BLOCK: Duration = Duration::from_secs(10);
/// ... doubled up to this.
const BLOCK_MAX: Duration = Duration::from_secs(160);
/// A loop that comes back within this time is the same one.
const FORGIVEN: Duration = Duration::from_secs(600);
/// How long it is asked whether the loop is over, and how often within that.
const CHECK: Duration = Duration::from_millis(1_500);
const CHECK_EVERY: Duration = Duration::from_millis(300);
/// How much longer than a round trip the other may take to give way.
const YIELD_SLACK: Duration = Duration::from_millis(100);
/// Between two probes for what looks like a loop, while one is known that the other contains: what it still passes on for
/// known stations looks like that for as long as it lasts.
const SELDOM: Duration = Duration::from_secs(1);
/// A loop that the other contains is shown for this long after it was heard of last: three looks.
const SHOWN_FOR: Duration = Duration::from_secs(35);

/// What is known of loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoopState {
    /// There is none.
    #[default]
    None,
    /// This node and that one bridge one LAN, and this one gives way.
    Blocked(PeerSlot),
    /// This node and that one bridge one LAN, and that one gives way.
    Contained(PeerSlot),
}

/// See the module page.
#[derive(Debug)]
pub(super) struct Guard {
    /// Nonces are made of this and a number.
    key: hmac::Key,
    probes: u64,
    sent: VecDeque<Sent>,
    heard: VecDeque<Heard>,
    echoes: Option<Meter>,
    bridges_until: Option<Instant>,
    last_probe: Option<Instant>,
    /// Something looks like a loop, in this VLAN.
    suspicion: Option<u16>,
    state: State,
    /// How often it was blocked in a row.
    times: u32,
    /// When it was last opened.
    opened: Option<Instant>,
    /// Who gives way to this node, or should.
    contained: Option<Contained>,
    found: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Open,
    /// Nothing for more than one passes.
    Blocked {
        with: PeerSlot,
        until: Instant,
    },
    /// Nothing does yet; whether the loop is still there is being asked.
    Checking {
        with: PeerSlot,
        until: Instant,
    },
}

/// An own probe.
#[derive(Debug, Clone, Copy)]
struct Sent {
    nonce: [u8; 16],
    at: Instant,
}

/// A probe of another that was answered.
#[derive(Debug, Clone, Copy)]
struct Heard {
    slot: PeerSlot,
    nonce: [u8; 16],
    at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Contained {
    slot: PeerSlot,
    /// When it must have been told to give way, unless it has since said that it does.
    told_by: Option<Instant>,
    heard: Instant,
}

impl Contained {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < SHOWN_FOR
    }
}

impl Guard {
    /// Knows of nothing. `secret` is drawn at random, for the nonces.
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            probes: 0,
            sent: VecDeque::with_capacity(NONCES),
            heard: VecDeque::with_capacity(NONCES),
            echoes: None,
            bridges_until: None,
            last_probe: None,
            suspicion: None,
            state: State::Open,
            times: 0,
            opened: None,
            contained: None,
            found: 0,
        }
    }

    /// Whether nothing that is for more than one may pass.
    pub(super) const fn is_blocked(&self) -> bool {
        match self.state {
            State::Open => false,
            State::Blocked { .. } | State::Checking { .. } => true,
        }
    }

    /// What is known, for people.
    pub(super) fn state(&self, now: Instant) -> LoopState {
        match self.state {
            State::Blocked { with, .. } | State::Checking { with, .. } => LoopState::Blocked(with),
            State::Open => self
                .contained
                .filter(|contained| contained.is_fresh(now))
                .map_or(LoopState::None, |contained| LoopState::Contained(contained.slot)),
        }
    }

    /// Loops that were found so far, each counted once however long it lasts.
    pub(super) const fn found(&self) -> u64 {
        self.found
    }

    /// A station of a LAN was heard behind our own device.
    pub(super) fn on_local_station(&mut self, now: Instant) {
        self.bridges_until = Some(now + BRIDGES_FOR);
    }

    /// Something looks like a loop. While this node gives way anyway, that is no news.
    pub(super) fn on_suspicion(&mut self, vlan: u16) {
        if !matches!(self.state, State::Blocked { .. }) {
            self.suspicion.get_or_insert(vlan);
        }
    }

    /// How long after the last probe the next may be sent.
    fn pause(&self) -> Duration {
        let is_contained = self.contained.is_some_and(|contained| contained.told_by.is_none());
        match (self.state, self.suspicion) {
            (State::Checking { .. }, _) => CHECK_EVERY,
            (State::Open | State::Blocked { .. }, Some(_)) => {
                if is_contained {
                    SELDOM
                } else {
                    SOON
                }
            }
            (State::Open | State::Blocked { .. }, None) => LOOK_EVERY,
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let state = match self.state {
            State::Open => None,
            State::Blocked { until, .. } => Some(Deadline::new(until, "the loop may be over")),
            State::Checking { until, .. } => Some(Deadline::new(until, "nobody said that the loop is there")),
        };
        let is_checking = matches!(self.state, State::Checking { .. });
        let probe = match self.last_probe {
            Some(last) => Some(last + self.pause()),
            // The first is due at once: when the station was heard that made this node bridge.
            None => self.bridges_until.and_then(|until| until.checked_sub(BRIDGES_FOR)),
        };
        let probe = probe.filter(|at| is_checking || self.bridges_until.is_some_and(|until| *at < until));
        Deadline::earlier(state, probe.map(|at| Deadline::new(at, "a loop is looked for")))
    }

    /// Does what is due: perhaps with a probe for our own device.
    pub(super) fn handle_timeout(&mut self, local: MacAddr, now: Instant) -> Option<SmallFrame> {
        match self.state {
            State::Blocked { with, until } if until <= now => self.move_to_checking(with, now),
            State::Checking { until, .. } if until <= now => self.move_to_open(now),
            State::Open | State::Blocked { .. } | State::Checking { .. } => {}
        }
        self.bridges_until = self.bridges_until.filter(|until| *until > now);
        self.contained = self.contained.filter(|contained| contained.is_fresh(now));
        let is_checking = matches!(self.state, State::Checking { .. });
        if self.bridges_until.is_none() && !is_checking {
            self.suspicion = None;
            return None;
        }
        let is_due = self.last_probe.is_none_or(|last| now.saturating_duration_since(last) >= self.pause());
        is_due.then(|| self.probe(local, now))
    }

    fn probe(&mut self, local: MacAddr, now: Instant) -> SmallFrame {
        self.last_probe = Some(now);
        self.probes += 1;
        let tag = hmac::sign(&self.key, &self.probes.to_be_bytes());
        let nonce = tag.as_ref().first_chunk::<16>().copied().unwrap_or_default();
        push(&mut self.sent, Sent { nonce, at: now });
        let vlan = self.suspicion.take().unwrap_or(0);
        Message { kind: Kind::Probe, is_blocked: self.is_blocked(), origin: local, nonce }.on_lan(vlan)
    }

    /// A message that came out of our own device: the answer to its origin, if that is a member.
    pub(super) fn on_heard(
        &mut self,
        directory: &Directory,
        message: Message,
        now: Instant,
    ) -> Option<(PeerSlot, SmallFrame)> {
        let Some(Owner::Member(slot)) = directory.owner(message.origin) else { return None };
        let meter = self.echoes.get_or_insert_with(|| Meter::new(now));
        if message.kind != Kind::Probe || !meter.admit(now, ECHOES_PER_SECOND, ECHOES_PER_SECOND) {
            return None;
        }
        push(&mut self.heard, Heard { slot, nonce: message.nonce, at: now });
        let echo = Message { kind: Kind::Echo, is_blocked: self.is_blocked(), ..message };
        Some((slot, echo.to_node(message.origin, directory.local())))
    }

    /// A message that a peer sent: perhaps what is to be said to it.
    pub(super) fn handle_message(
        &mut self,
        directory: &Directory,
        slot: PeerSlot,
        message: Message,
        now: Instant,
    ) -> Option<(PeerSlot, SmallFrame)> {
        let record = directory.member(slot)?;
        let gives_way = directory.local() > record.mac;
        let is_young = |at: Instant| now.saturating_duration_since(at) < NONCE_LIFE;
        match message.kind {
            Kind::Probe => None,
            Kind::Echo => {
                let is_own = |sent: &&Sent| sent.nonce == message.nonce && is_young(sent.at);
                let sent = self.sent.iter().find(is_own)?.at;
                if gives_way {
                    self.move_to_blocked(slot, now);
                    return None;
                }
                self.on_contained(slot, sent, message.is_blocked, now);
                let order = Message { kind: Kind::Yield, is_blocked: self.is_blocked(), ..message };
                (!message.is_blocked).then(|| (slot, order.to_node(record.mac, directory.local())))
            }
            Kind::Yield => {
                let was_heard =
                    |heard: &Heard| heard.slot == slot && heard.nonce == message.nonce && is_young(heard.at);
                if gives_way && message.origin == record.mac && self.heard.iter().any(was_heard) {
                    self.move_to_blocked(slot, now);
                }
                None
            }
        }
    }

    /// A peer is gone, and a loop through it with it.
    pub(super) fn forget(&mut self, slot: PeerSlot, now: Instant) {
        self.contained = self.contained.filter(|contained| contained.slot != slot);
        match self.state {
            State::Blocked { with, .. } if with == slot => self.move_to_checking(with, now),
            State::Open | State::Blocked { .. } | State::Checking { .. } => {}
        }
    }

    /// The other one gives way, or should: it says so in the echo of a probe of `sent`.
    fn on_contained(&mut self, slot: PeerSlot, sent: Instant, is_blocked: bool, now: Instant) {
        let known = self.known(slot, now);
        self.found += u64::from(known.is_none());
        let told_by = known.and_then(|known| known.told_by).filter(|_| !is_blocked);
        let round_trip = now.saturating_duration_since(sent);
        let due = told_by.unwrap_or(now + round_trip + YIELD_SLACK);
        self.contained = Some(Contained { slot, told_by: (!is_blocked).then_some(due), heard: now });
        if told_by.is_some_and(|told_by| sent >= told_by) {
            self.move_to_blocked(slot, now);
        } else if !is_blocked {
            // Until it says that it does, it is asked again.
            self.on_suspicion(0);
        }
    }

    /// What is known of a loop with this peer that the peer contains, or should.
    fn known(&self, slot: PeerSlot, now: Instant) -> Option<Contained> {
        self.contained.filter(|known| known.slot == slot && known.is_fresh(now))
    }

    fn move_to_blocked(&mut self, with: PeerSlot, now: Instant) {
        match self.state {
            State::Blocked { .. } => return,
            State::Open => {
                self.found += u64::from(self.known(with, now).is_none());
                if self.opened.is_none_or(|opened| now.saturating_duration_since(opened) >= FORGIVEN) {
                    self.times = 0;
                }
            }
            State::Checking { .. } => {}
        }
        let span = BLOCK.saturating_mul(1 << self.times.min(16)).min(BLOCK_MAX);
        self.times += 1;
        self.suspicion = None;
        self.state = State::Blocked { with, until: now + span };
        tracing::debug!(with = with.0, ?span, "a loop: frames for all are no longer passed on");
    }

    fn move_to_checking(&mut self, with: PeerSlot, now: Instant) {
        self.state = State::Checking { with, until: now + CHECK };
        tracing::debug!(with = with.0, "whether the loop is over is being asked");
    }

    fn move_to_open(&mut self, now: Instant) {
        self.state = State::Open;
        self.opened = Some(now);
        tracing::debug!("the loop is over: frames for all are passed on again");
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() >= NONCES {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests;
