//! The outbound thread's half of the switch: what becomes of a frame read from our own device.
//!
//! The order of the questions, first answer wins:
//!
//! 1. Can it be read, and may it have come from here? Sources that are groups, or another member's own
//!    address, are dropped: the second is a loop through a bridge behind our device, or a forgery that every
//!    receiver would drop anyway.
//! 2. Is it a guard's probe, or of the protocols of bridges? It ends here.
//! 3. Is it for a group? A question for an address is answered or passed on ([`Question`]); the rest goes to those
//!    that want it.
//! 4. Does the destination have an owner? To that member; to ourselves never.
//! 5. Where was the destination last heard? There; if that is behind our own device, nowhere.
//! 6. To those that may have it behind them, for a while ([`Unknowns`]).
//!
//! While a loop is contained here, nothing goes to more than one peer but what this node itself says, once: through the other bridge
//! that comes out of our device again, and nothing but its bytes tells it from what is said anew.

use super::answer::{Known, Question};
use super::budget::{Budget, Reach, Side};
use super::directory::{Bridging, Directory, Owner};
use super::discard::OutboundDrop;
use super::filter::link_control;
use super::frame::{EthernetHeader, Station, is_broadcast, is_multicast};
use super::groups::{Group, Groups};
use super::guard::{Guard, LoopState, Message};
use super::limits::Limits;
use super::news::{Learn, LocalNews, News};
use super::packet::ipv4::Ipv4;
use super::packet::ipv6::Ipv6;
use super::packet::membership::Membership;
use super::packet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use super::questions::{Questions, Unknowns};
use super::recent::Recent;
use super::small_frame::SmallFrame;
use super::table::{Learned, Place, Table, TableCounts};
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::time::Deadline;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// While a loop is contained here, what this node says for several is passed on once in this time: less than the second after which kernels
/// repeat a question (RFC 4861 §10, ARP of Linux), and longer than most paths take to bring it round.
const SAID_AGAIN: Duration = Duration::from_millis(900);
/// Frames that are told apart so, twice.
const SAID: usize = 256;

/// Where a frame from our own device goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To this peer.
    Unicast(PeerSlot),
    /// To the peers that [`Forwarder::admit`] lets it go to.
    Flood(Flood),
    /// Nowhere: [`Forwarder::answer`] goes to our own device in its place. A question that is no probe is only answered
    /// while `owner` is there: whoever is away has no neighbours.
    Answer {
        /// Whose address was asked for.
        owner: PeerSlot,
        /// Whether somebody wanted to know if the address is free.
        is_probe: bool,
        /// ARP, or else neighbour discovery.
        is_arp: bool,
    },
    /// Nowhere.
    Drop(OutboundDrop),
}

/// A frame for more than one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood {
    /// Why it is.
    pub reach: Reach,
    pub(super) audience: Audience,
}

/// Who of the peers is to get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    Everyone,
    /// Those behind which strangers may be.
    Bridges,
    /// Those that want this group.
    Listeners(Group),
}

/// Whether one of the peers gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It does.
    Pass,
    /// It is not for this one.
    NotWanted,
    /// It is beyond the budget.
    TooMuch,
}

/// What the switch has to say by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// To the inbound half.
    News(LocalNews),
    /// A frame for our own device.
    Device(SmallFrame),
    /// A frame for a peer.
    Peer(PeerSlot, SmallFrame),
}

/// What is kept, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ForwarderStats {
    /// What happened in the table.
    pub table: TableCounts,
    /// Stations remembered.
    pub stations: usize,
    /// Groups remembered, for all peers.
    pub groups: usize,
    /// Loops found so far.
    pub loops: u64,
    /// What is known of loops now.
    pub loop_state: LoopState,
}

/// The outbound thread's half of the switch. After each call its [outputs](Self::poll_output) are to be taken, and its
/// [timer](Self::poll_timeout) may have changed.
#[derive(Debug)]
pub struct Forwarder {
    table: Table,
    groups: Groups,
    questions: Questions,
    unknowns: Unknowns,
    budget: Budget,
    guard: Guard,
    /// What this node itself said for several lately, while it gives way; with a key of its own, for nobody to make two frames look alike.
    said: Recent<u64, Instant>,
    said_key: RandomState,
    answer: Option<SmallFrame>,
    outputs: VecDeque<Output>,
}

impl Forwarder {
    /// Knows nothing yet. `secret` is drawn at random: nobody else may guess what it makes of it.
    pub fn new(limits: Limits, secret: [u8; 32]) -> Self {
        Self {
            table: Table::new(limits),
            groups: Groups::new(limits),
            questions: Questions::new(limits),
            unknowns: Unknowns::new(limits),
            budget: Budget::new(Side::Sending),
            guard: Guard::new(secret),
            said: Recent::new(SAID_AGAIN, SAID),
            said_key: RandomState::new(),
            answer: None,
            outputs: VecDeque::new(),
        }
    }

    /// Decides about a frame read from our own device, and learns where its sender is.
    pub fn forward(&mut self, directory: &Directory, frame: &[u8], now: Instant) -> Verdict {
        match self.judge(directory, frame, now) {
            Ok(verdict) => verdict,
            Err(cause) => Verdict::Drop(cause),
        }
    }

    fn judge(&mut self, directory: &Directory, frame: &[u8], now: Instant) -> Result<Verdict, OutboundDrop> {
        let header = EthernetHeader::parse(frame).ok_or(OutboundDrop::Truncated)?;
        if is_multicast(header.source) {
            return Err(OutboundDrop::SourceIsGroup);
        }
        match directory.owner(header.source) {
            Some(Owner::Local) => {}
            Some(Owner::Member(_) | Owner::Absent) => {
                self.guard.on_suspicion(header.vlan);
                return Err(OutboundDrop::SourceIsMember);
            }
            None => {
                if let Some(message) = Message::parse(&header, frame) {
                    let echo = self.guard.on_heard(directory, message, now);
                    self.outputs.extend(echo.map(|(slot, echo)| Output::Peer(slot, echo)));
                    return Err(OutboundDrop::Probe);
                }
                self.hear_local(directory, header.sender(), now);
            }
        }
        if link_control(&header).is_some_and(|filter| directory.protection().filters.has(filter))
            && !directory.own_rights().may_speak_to_bridges
        {
            return Err(OutboundDrop::LinkControl);
        }
        let is_our_own = header.source == directory.local();
        if is_multicast(header.destination) {
            return self.group(directory, &header, frame, is_our_own, now);
        }
        match directory.owner(header.destination) {
            Some(Owner::Local) => return Err(OutboundDrop::ToOurselves),
            Some(Owner::Member(slot)) => return Ok(Verdict::Unicast(slot)),
            Some(Owner::Absent) | None => {}
        }
        match self.table.lookup(header.receiver(), now) {
            Some(Place::Peer(slot)) => Ok(Verdict::Unicast(slot)),
            Some(Place::Local) => Err(OutboundDrop::Hairpin),
            None if self.is_kept_back(frame, is_our_own, now) => Err(OutboundDrop::LoopBlocked),
            None if self.unknowns.admit(header.receiver(), now) => {
                Ok(flood(Reach::Unknown, Audience::Bridges))
            }
            None => Err(OutboundDrop::Unheard),
        }
    }

    /// A frame for a group.
    fn group(
        &mut self,
        directory: &Directory,
        header: &EthernetHeader,
        frame: &[u8],
        is_our_own: bool,
        now: Instant,
    ) -> Result<Verdict, OutboundDrop> {
        if let Some(question) = Question::parse(header, frame) {
            return self.question(directory, header, frame, question, is_our_own, now);
        }
        if self.is_kept_back(frame, is_our_own, now) {
            return Err(OutboundDrop::LoopBlocked);
        }
        if is_broadcast(header.destination) || header.ethertype == ETHERTYPE_ARP {
            return Ok(flood(Reach::Broadcast, Audience::Everyone));
        }
        let group = Group { mac: header.destination, vlan: header.vlan };
        // What says who is in which group, every node has to hear: each is a switch.
        if self.membership(header, frame, now) || group.is_of_the_link() {
            return Ok(flood(Reach::LinkLocal, Audience::Everyone));
        }
        let is_selective = self.groups.is_selective(group, now);
        let audience = if is_selective { Audience::Listeners(group) } else { Audience::Everyone };
        Ok(flood(Reach::Multicast, audience))
    }

    /// Whether it says something about groups. That somebody behind our own device asks is noted.
    fn membership(&mut self, header: &EthernetHeader, frame: &[u8], now: Instant) -> bool {
        let payload = frame.get(header.payload..).unwrap_or_default();
        let membership = match header.ethertype {
            ETHERTYPE_IPV4 => Ipv4::parse(payload).and_then(|packet| Membership::in_ipv4(&packet)),
            ETHERTYPE_IPV6 => Ipv6::parse(payload).and_then(|packet| Membership::in_ipv6(&packet)),
            _ => None,
        };
        if let Some(Membership::Query(query)) = membership {
            self.groups.on_query(query, header.vlan, now);
            self.outputs.push_back(Output::News(LocalNews::Asks(now + query.membership)));
        }
        membership.is_some()
    }

    /// A question for an address, to a group.
    fn question(
        &mut self,
        directory: &Directory,
        header: &EthernetHeader,
        frame: &[u8],
        question: Question,
        is_our_own: bool,
        now: Instant,
    ) -> Result<Verdict, OutboundDrop> {
        let address = question.address();
        match question.look_up(directory, header, frame) {
            // Whether it is still free, when this node takes it: everybody may object.
            Known::Ours if is_our_own && question.is_probe() && !self.is_kept_back(frame, true, now) => {
                Ok(flood(question.reach(), Audience::Everyone))
            }
            Known::Ours => Err(OutboundDrop::AsksForUs),
            Known::AskIt(slot) => Ok(Verdict::Unicast(slot)),
            Known::Answered(owner, answer) => {
                self.answer = Some(answer);
                let is_arp = matches!(question, Question::Arp(_));
                Ok(Verdict::Answer { owner, is_probe: question.is_probe(), is_arp })
            }
            Known::Nobody if self.is_kept_back(frame, is_our_own, now) => Err(OutboundDrop::LoopBlocked),
            Known::Nobody if !self.questions.admit(header.sender(), address, now) => {
                Err(OutboundDrop::AskedAgain)
            }
            // Every member has link-local addresses, and no record has them.
            Known::Nobody if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) => {
                Ok(flood(question.reach(), Audience::Everyone))
            }
            Known::Nobody => Ok(flood(question.reach(), Audience::Bridges)),
        }
    }

    /// Whether a frame for several ends here, for there is a loop.
    fn is_kept_back(&mut self, frame: &[u8], is_our_own: bool, now: Instant) -> bool {
        if !self.guard.is_blocked() || !is_our_own {
            return self.guard.is_blocked();
        }
        let said = self.said_key.hash_one(frame);
        let is_again = self.said.get(&said).is_some_and(|at| now.saturating_duration_since(*at) < SAID_AGAIN);
        if !is_again {
            self.said.insert(said, now, now);
        }
        is_again
    }

    /// The frame of [`Verdict::Answer`].
    pub fn answer(&self) -> Option<&SmallFrame> {
        self.answer.as_ref()
    }

    /// Whether one of the peers gets a frame of `len` bytes that is for several.
    pub fn admit(
        &mut self,
        directory: &Directory,
        slot: PeerSlot,
        flood: Flood,
        len: usize,
        now: Instant,
    ) -> Admission {
        let is_wanted = match flood.audience {
            Audience::Everyone => true,
            Audience::Bridges => directory.rights(slot).may_bridge > Bridging::Nothing,
            Audience::Listeners(group) => self.groups.wants(slot, group, now),
        };
        if !is_wanted {
            return Admission::NotWanted;
        }
        if self.budget.admit(directory.protection().flood_budget, slot, flood.reach, len, now) {
            Admission::Pass
        } else {
            Admission::TooMuch
        }
    }

    /// Takes over what the inbound half saw.
    pub fn handle_news(&mut self, directory: &Directory, news: News, now: Instant) {
        match news {
            News::Station(Learn { station, slot, .. }) => {
                self.unknowns.found(station);
                let learned = self.table.learn(directory, station, Place::Peer(slot), now);
                self.on_learned(station, learned);
            }
            News::Listener(news) => {
                let asks_all = directory.rights(news.slot).may_serve_dhcp;
                self.groups.handle(news, asks_all, now);
            }
            News::Guard(news) => {
                let said = self.guard.handle_message(directory, news.slot, news.message, now);
                self.outputs.extend(said.map(|(slot, frame)| Output::Peer(slot, frame)));
            }
        }
    }

    /// Notes a station behind our own device.
    fn hear_local(&mut self, directory: &Directory, station: Station, now: Instant) {
        let Some(learned) = self.table.learn_local(directory, station, now) else { return };
        self.guard.on_local_station(now);
        self.unknowns.found(station);
        self.outputs.push_back(Output::News(LocalNews::Station(station)));
        self.on_learned(station, learned);
    }

    /// What a change of place means for the others.
    fn on_learned(&mut self, station: Station, learned: Learned) {
        match learned {
            // Where it is now, or was, is here: a loop begins like this.
            Learned::Moved { from: Place::Local } | Learned::Held => self.guard.on_suspicion(station.vlan),
            Learned::Flaps { place, until } => {
                tracing::debug!(mac = %station.mac, vlan = station.vlan, ?place, "a station flaps and is held");
                if place == Place::Local {
                    self.outputs.push_back(Output::News(LocalNews::Held(station, until)));
                    self.guard.on_suspicion(station.vlan);
                }
            }
            Learned::New
            | Learned::Refreshed
            | Learned::Moved { from: Place::Peer(_) }
            | Learned::Spoofed(_) => {}
        }
    }

    /// What is to be said, until there is no more.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.guard.poll_timeout()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, directory: &Directory, now: Instant) {
        let probe = self.guard.handle_timeout(directory.local(), now);
        self.outputs.extend(probe.map(Output::Device));
    }

    /// Whether a loop is contained here, so that nothing passes that is for several.
    pub const fn is_blocked(&self) -> bool {
        self.guard.is_blocked()
    }

    /// Forgets everything behind a peer that left.
    pub fn forget(&mut self, slot: PeerSlot, now: Instant) {
        self.table.forget(slot);
        self.groups.forget(slot);
        self.guard.forget(slot, now);
    }

    /// What is kept, for people.
    pub fn stats(&self, now: Instant) -> ForwarderStats {
        ForwarderStats {
            table: self.table.counts(),
            stations: self.table.len(),
            groups: self.groups.len(),
            loops: self.guard.found(),
            loop_state: self.guard.state(now),
        }
    }
}

impl Question {
    const fn reach(&self) -> Reach {
        match self {
            Self::Arp(_) => Reach::Broadcast,
            Self::Neighbour { .. } => Reach::LinkLocal,
        }
    }
}

const fn flood(reach: Reach, audience: Audience) -> Verdict {
    Verdict::Flood(Flood { reach, audience })
}

#[cfg(test)]
mod tests;
