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
//!    not pass while a loop is contained here, nor if its source is held to be behind our own device.
//! 7. Is it a report that would keep our own hosts from reporting? It was meant for the switch (RFC 4541 §2.1.1), and for
//!    a router behind our device, if somebody asks there.

use super::budget::{Budget, Reach, Side};
use super::directory::{Bridging, Directory, Owner, Record, Rights};
use super::discard::InboundDrop;
use super::filter::{link_control, rogue_in_ipv4, rogue_in_ipv6};
use super::frame::{EthernetHeader, Station, is_broadcast, is_multicast};
use super::groups::Group;
use super::guard::{Kind, Message};
use super::learner::Learner;
use super::limits::Limits;
use super::news::{GuardNews, ListenerNews, LocalNews, News, Said};
use super::packet::arp::Arp;
use super::packet::ipv4::Ipv4;
use super::packet::ipv6::{Ipv6, Upper};
use super::packet::membership::Membership;
use super::packet::neighbour::Neighbour;
use super::packet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_PIM};
use super::rate::Meter;
use super::recent::Recent;
use shadowmesh_proto::ids::{MacAddr, PeerSlot};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

/// Guards' messages that one peer may have looked at per second: an echo for each probe, and an order.
const GUARD_MESSAGES: u32 = 40;

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
}

/// Who sent a frame, and what it may do.
#[derive(Debug, Clone, Copy)]
struct Sender<'a> {
    slot: PeerSlot,
    record: Option<&'a Record>,
    rights: Rights,
    directory: &'a Directory,
}

/// What was seen inside a frame that concerns groups.
#[derive(Debug)]
enum Heard<'a> {
    Nothing,
    Router,
    Membership(Membership<'a>),
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
    /// half goes to `tell`.
    pub fn receive(
        &mut self,
        directory: &Directory,
        frame: &[u8],
        from: PeerSlot,
        is_blocked: bool,
        now: Instant,
        tell: impl FnMut(News),
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
        mut tell: impl FnMut(News),
    ) -> Result<Inbound, InboundDrop> {
        let header = EthernetHeader::parse(frame).ok_or(InboundDrop::Truncated)?;
        if is_multicast(header.source) {
            return Err(InboundDrop::SourceIsGroup);
        }
        let record = directory.member(from);
        let rights = directory.rights(from);
        let sender = Sender { slot: from, record, rights, directory };
        let is_stranger = sender.check_source(header.source)?;
        if let Some(message) = Message::parse(&header, frame) {
            return self.take(sender, &header, message, now, tell);
        }
        if link_control(&header)
            .is_some_and(|filter| directory.rules().filters.has(filter) && !rights.may_stp)
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
            if !self.budget.admit(directory.rules().flood_budget, from, reach, frame.len(), now) {
                return Ok(Inbound::TooMuch(reach));
            }
        }
        if is_stranger && let Some(learn) = self.learner.hear(header.sender(), from, now) {
            if learn.was_local {
                self.local.remove(&learn.station);
            }
            tell(News::Station(learn));
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

    /// Forgets a peer that left, so that its slot may be used again.
    pub fn forget(&mut self, slot: PeerSlot) {
        self.learner.forget(slot);
        self.budget.forget(slot);
        self.meters.remove(&slot);
    }

    /// Reports of stations withheld because a station moved too often or a peer had too many.
    pub const fn suppressed(&self) -> u64 {
        self.learner.suppressed()
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
        mut tell: impl FnMut(News),
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
        mut tell: impl FnMut(News),
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
            Heard::Membership(Membership::Query(query)) => say(&mut self.meters, Said::Asks(query)),
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
        Self { listeners: Meter::new(now), guard: Meter::new(now) }
    }
}

impl<'a> Sender<'a> {
    /// Whether the peer may use this source MAC; and if so, whether it is a stranger's.
    fn check_source(&self, mac: MacAddr) -> Result<bool, InboundDrop> {
        if self.record.is_some_and(|record| record.mac == mac) {
            return Ok(false);
        }
        match self.directory.owner(mac) {
            // Whatever the rules: what this node sent comes back.
            Some(Owner::Local) => Err(InboundDrop::SourceIsOurs),
            Some(Owner::Member(_)) if self.rights.may_bridge < Bridging::Anybody => Err(InboundDrop::Spoofed),
            Some(Owner::Member(_)) => Ok(false),
            None if self.rights.may_bridge == Bridging::Nothing => Err(InboundDrop::NotABridge),
            None => Ok(true),
        }
    }

    /// Whether the peer may speak as this address.
    fn check_address(&self, address: IpAddr, spoofed: InboundDrop) -> Result<(), InboundDrop> {
        if address.is_unspecified() || self.record.is_some_and(|record| record.addresses.contains(&address)) {
            return Ok(());
        }
        let is_of_the_link = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        match self.directory.bearer(address) {
            Some(Owner::Member(slot)) if slot == self.slot => Ok(()),
            Some(_) if self.rights.may_bridge < Bridging::Anybody => Err(spoofed),
            // Link-local addresses are in nobody's record; its MAC is its own, which is enough.
            None if self.rights.may_bridge == Bridging::Nothing && !is_of_the_link => {
                Err(InboundDrop::NotABridge)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the peer may say that this MAC has an address.
    fn check_named(&self, mac: MacAddr, spoofed: InboundDrop) -> Result<(), InboundDrop> {
        match self.check_source(mac) {
            Ok(_) => Ok(()),
            Err(InboundDrop::NotABridge) => Err(InboundDrop::NotABridge),
            Err(_) => Err(spoofed),
        }
    }

    /// Looks at what is inside, as far as it may be a lie.
    fn look_inside<'f>(&self, header: &EthernetHeader, frame: &'f [u8]) -> Result<Heard<'f>, InboundDrop> {
        let payload = frame.get(header.payload..).unwrap_or_default();
        let filters = self.directory.rules().filters;
        let is_group = is_multicast(header.destination);
        match header.ethertype {
            ETHERTYPE_ARP => {
                if let Some(arp) = Arp::parse(payload) {
                    self.check_address(arp.sender.into(), InboundDrop::ArpSpoofed)?;
                    self.check_named(arp.sender_mac, InboundDrop::ArpSpoofed)?;
                }
            }
            ETHERTYPE_IPV4 => {
                // What is no packet to us is none to any kernel.
                let Some(packet) = Ipv4::parse(payload) else { return Ok(Heard::Nothing) };
                self.check_address(packet.source.into(), InboundDrop::Ipv4Spoofed)?;
                if !self.rights.may_serve_dhcp
                    && let Some(cause) = rogue_in_ipv4(filters, &packet)
                {
                    return Err(cause);
                }
                if is_group && packet.protocol == PROTOCOL_PIM {
                    return Ok(Heard::Router);
                }
                if is_group && let Some(membership) = Membership::in_ipv4(&packet) {
                    return Ok(Heard::Membership(membership));
                }
            }
            ETHERTYPE_IPV6 => {
                let Some(packet) = Ipv6::parse(payload) else { return Ok(Heard::Nothing) };
                self.check_address(packet.source.into(), InboundDrop::Ipv6Spoofed)?;
                if !self.rights.may_serve_dhcp
                    && let Some(cause) = rogue_in_ipv6(filters, &packet)
                {
                    return Err(cause);
                }
                if let Some(neighbour) = Neighbour::parse(&packet) {
                    if !neighbour.is_solicitation {
                        self.check_address(neighbour.target.into(), InboundDrop::NeighbourSpoofed)?;
                    }
                    if let Some(mac) = neighbour.mac {
                        self.check_named(mac, InboundDrop::NeighbourSpoofed)?;
                    }
                }
                if is_group && matches!(packet.upper, Upper::Known { protocol: PROTOCOL_PIM, .. }) {
                    return Ok(Heard::Router);
                }
                if is_group && let Some(membership) = Membership::in_ipv6(&packet) {
                    return Ok(Heard::Membership(membership));
                }
            }
            _ => {}
        }
        Ok(Heard::Nothing)
    }
}

#[cfg(test)]
mod tests;
