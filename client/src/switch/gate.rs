//! The inbound thread's half of the switch: which frames of a peer are let in, and what is worth telling the other half.
//!
//! The order of the questions, first answer wins:
//!
//! 1. Can it be read? May the peer use its source MAC? Another member's and our own it may not, a stranger's only if it may
//!    bridge.
//! 2. Is it one guard's message to another? It goes to ours, never to the device.
//! 3. Is it a protocol of bridges, a DHCP server's answer, a router's advertisement, that the peer has no right to?
//! 4. Does it speak for an address that is not the peer's? (ARP: the sender's address and MAC. IPv4, IPv6: the source.
//!    Neighbour discovery: the target of an advertisement, and the MAC that is named.) Strangers' addresses it may use if it
//!    may bridge; the unspecified address always.
//! 5. Is it for another member? It strayed.
//! 6. Is it for more than us, or for a station that was not heard here? Then it counts against the peer's budget, and does
//!    not pass while a loop is contained here, nor if its source is held to be behind our own device. Is it from one station
//!    that was heard here to another? It went round a loop; should its source have moved, the next one passes.
//! 7. Is it a report that would keep our own hosts from reporting? It was meant for the switch (RFC 4541 §2.1.1), and for
//!    a router behind our device, if somebody asks there.

use super::budget::{Budget, Reach, Side};
use super::directory::Directory;
use super::discard::InboundDrop;
use super::filter::link_control;
use super::frame::{EthernetHeader, Station, is_broadcast, is_multicast};
use super::groups::Group;
use super::guard::{Kind, Message};
use super::learner::Learner;
use super::limits::Limits;
use super::news::{GuardNews, ListenerNews, LocalNews, News, Said};
use super::packet::membership::Membership;
use super::rate::Meter;
use super::recent::Recent;
use super::sender::{Heard, Sender};
use shadowmesh_proto::ids::PeerSlot;
use std::collections::HashMap;
use std::time::Instant;

/// Guards' messages that one peer may have looked at per second: an echo for each probe, and an order.
const GUARD_MESSAGES: u32 = 40;

/// Questions about groups that one peer may put to our hosts, per second in the long run and at once: a querier asks each two
/// minutes, in each of its VLANs, and about each group that somebody left. Each is answered before all, at the price of everybody's
/// budget.
const QUERIES_PER_SECOND: u32 = 5;
/// See [`QUERIES_PER_SECOND`].
const QUERY_BURST: u32 = 64;

/// What becomes of a frame from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// It is written to our own device.
    Deliver,
    /// It was for the switch.
    Consume,
    /// It is not let in.
    Drop(InboundDrop),
    /// It is beyond the peer's budget.
    TooMuch(Reach),
}

/// The inbound thread's half of the switch.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    learner: Learner,
    budget: Budget,
    /// Stations behind our own device, each with the end of its hold.
    local: Recent<Station, Option<Instant>>,
    /// Until when somebody asks for reports behind our own device.
    asks_until: Option<Instant>,
    meters: HashMap<PeerSlot, Meters>,
}

/// What a peer may have said to the other half, beside where stations are.
#[derive(Debug)]
struct Meters {
    listeners: Meter,
    guard: Meter,
    queries: Meter,
}

impl Gate {
    /// Knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            learner: Learner::new(limits),
            budget: Budget::new(Side::Receiving),
            local: Recent::new(limits.station_age, limits.stations_per_peer),
            asks_until: None,
            meters: HashMap::new(),
        }
    }

    /// Decides about a frame that the peer `from` sent. `is_blocked` while a loop is contained here. News for the other
    /// half goes to `tell`, which says whether it takes it: where a station is is said again with its next frame if not.
    pub fn receive(
        &mut self,
        directory: &Directory,
        frame: &[u8],
        from: PeerSlot,
        is_blocked: bool,
        now: Instant,
        tell: impl FnMut(News) -> bool,
    ) -> Inbound {
        match self.judge(directory, frame, from, is_blocked, now, tell) {
            Ok(inbound) => inbound,
            Err(cause) => Inbound::Drop(cause),
        }
    }

    fn judge(
        &mut self,
        directory: &Directory,
        frame: &[u8],
        from: PeerSlot,
        is_blocked: bool,
        now: Instant,
        mut tell: impl FnMut(News) -> bool,
    ) -> Result<Inbound, InboundDrop> {
        let header = EthernetHeader::parse(frame).ok_or(InboundDrop::Truncated)?;
        if is_multicast(header.source) {
            return Err(InboundDrop::SourceIsGroup);
        }
        let sender = Sender::new(directory, from);
        let is_stranger = sender.check_source(header.source)?;
        if let Some(message) = Message::parse(&header, frame) {
            return self.take(sender, &header, message, now, tell);
        }
        if link_control(&header).is_some_and(|filter| directory.protection().filters.has(filter))
            && !directory.rights(from).may_speak_to_bridges
        {
            return Err(InboundDrop::LinkControl);
        }
        let heard = sender.look_inside(&header, frame)?;
        if let Some(reach) = self.reach(directory, &header)? {
            if is_blocked {
                return Err(InboundDrop::LoopBlocked);
            }
            if is_stranger && self.is_held(header.sender(), now) {
                return Err(InboundDrop::Flapping);
            }
            if !self.budget.admit(directory.protection().flood_budget, from, reach, frame.len(), now) {
                return Ok(Inbound::TooMuch(reach));
            }
        }
        let mut went_round = false;
        if is_stranger {
            let is_local = |station: Station| self.local.get(&station).is_some();
            went_round = header.destination != directory.local()
                && is_local(header.sender())
                && is_local(header.receiver());
            if let Some(learn) = self.learner.hear(header.sender(), from, now) {
                if learn.was_local {
                    self.local.remove(&learn.station);
                }
                if !tell(News::Station(learn)) {
                    self.learner.take_back(learn.station);
                }
            }
        }
        if went_round {
            return Err(InboundDrop::Flapping);
        }
        self.hear(heard, from, header.vlan, now, tell)
    }

    /// What our own device sent.
    pub fn handle_local(&mut self, news: LocalNews, now: Instant) {
        match news {
            LocalNews::Station(station) => {
                self.learner.hear_local(station, now);
                let held = self.local.get(&station).copied().flatten();
                self.local.insert(station, held, now);
            }
            LocalNews::Held(station, until) => self.local.insert(station, Some(until), now),
            LocalNews::Asks(until) => self.asks_until = self.asks_until.max(Some(until)),
        }
    }

    /// Forgets where a peer's stations are that left, so that its slot may be used again. What it may flood and say is not more for that.
    pub fn forget(&mut self, slot: PeerSlot) {
        self.learner.forget(slot);
    }

    /// Why the frame goes to more than our own device and the stations that were heard here. `None` when it does not.
    fn reach(&self, directory: &Directory, header: &EthernetHeader) -> Result<Option<Reach>, InboundDrop> {
        let destination = header.destination;
        if destination == directory.local() {
            return Ok(None);
        }
        if is_multicast(destination) {
            let group = Group { mac: destination, vlan: header.vlan };
            return Ok(Some(if is_broadcast(destination) {
                Reach::Broadcast
            } else if group.is_of_the_link() {
                Reach::LinkLocal
            } else {
                Reach::Multicast
            }));
        }
        match directory.owner(destination) {
            Some(_) => Err(InboundDrop::NotForUs),
            None => Ok(self.local.get(&header.receiver()).is_none().then_some(Reach::Unknown)),
        }
    }

    fn is_held(&self, station: Station, now: Instant) -> bool {
        self.local.get(&station).copied().flatten().is_some_and(|until| until > now)
    }

    /// A guard's message.
    fn take(
        &mut self,
        sender: Sender<'_>,
        header: &EthernetHeader,
        message: Message,
        now: Instant,
        mut tell: impl FnMut(News) -> bool,
    ) -> Result<Inbound, InboundDrop> {
        let is_for_us = header.destination == sender.directory.local() && message.kind != Kind::Probe;
        let meters = self.meters.entry(sender.slot).or_insert_with(|| Meters::new(now));
        if !is_for_us || !meters.guard.admit(now, GUARD_MESSAGES, GUARD_MESSAGES) {
            return Err(InboundDrop::Probe);
        }
        tell(News::Guard(GuardNews { slot: sender.slot, message }));
        Ok(Inbound::Consume)
    }

    /// Tells what concerns groups; whether the frame goes on to our own hosts.
    fn hear(
        &mut self,
        heard: Heard<'_>,
        slot: PeerSlot,
        vlan: u16,
        now: Instant,
        mut tell: impl FnMut(News) -> bool,
    ) -> Result<Inbound, InboundDrop> {
        let Limits { reports_per_second, report_burst, .. } = self.limits;
        let mut say = |meters: &mut HashMap<PeerSlot, Meters>, said| {
            let meters = meters.entry(slot).or_insert_with(|| Meters::new(now));
            // One that is left out is said again by the host when it is asked.
            if meters.listeners.admit(now, reports_per_second, report_burst) {
                tell(News::Listener(ListenerNews { slot, vlan, said }));
            }
        };
        match heard {
            Heard::Nothing => {}
            Heard::Router => say(&mut self.meters, Said::Routes),
            Heard::Membership(Membership::Query(query)) => {
                let meters = self.meters.entry(slot).or_insert_with(|| Meters::new(now));
                if !meters.queries.admit(now, QUERIES_PER_SECOND, QUERY_BURST) {
                    return Ok(Inbound::TooMuch(Reach::LinkLocal));
                }
                say(&mut self.meters, Said::Asks(query));
            }
            Heard::Membership(Membership::Report { is_overheard, wishes }) => {
                for wish in wishes.filter(|wish| !(Group { mac: wish.group, vlan }).is_of_the_link()) {
                    let said =
                        if wish.is_wanted { Said::Wants(wish.group) } else { Said::Leaves(wish.group) };
                    say(&mut self.meters, said);
                }
                if is_overheard && self.asks_until.is_none_or(|until| until <= now) {
                    return Err(InboundDrop::ReportKept);
                }
            }
        }
        Ok(Inbound::Deliver)
    }
}

impl Meters {
    const fn new(now: Instant) -> Self {
        Self { listeners: Meter::new(now), guard: Meter::new(now), queries: Meter::new(now) }
    }
}

#[cfg(test)]
mod tests;
