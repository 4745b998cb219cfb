//! Who sent a frame that a peer handed over, and whether it may say what the frame says.
//!
//! A member may use its own MAC and the addresses of its record. What has another owner it may use only if a rule lets it
//! stand between that owner and the rest ([`Bridging::Anybody`]); what nobody owns, unless it may not bridge at all
//! ([`Bridging::Nothing`]). Addresses of records are owned where there is no VLAN, MACs everywhere. This node's own MAC
//! nobody may use, whatever the rules: what this node sent comes back.
//!
//! What cannot be valid to a receiver is not refused for that; what might be is looked at, whether its checksum is right or not.

use super::directory::{Bridging, Directory, Owner, Record, Rights};
use super::discard::InboundDrop;
use super::filter::{rogue_in_ipv4, rogue_in_ipv6};
use super::frame::{EthernetHeader, is_multicast};
use super::packet::arp::Arp;
use super::packet::ipv4::Ipv4;
use super::packet::ipv6::{Ipv6, Upper};
use super::packet::membership::Membership;
use super::packet::neighbour::Neighbour;
use super::packet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_PIM};
use shadowmesh_proto::ids::{MacAddr, PeerSlot};
use std::net::IpAddr;

/// Who sent a frame, and what it may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) slot: PeerSlot,
    record: Option<&'a Record>,
    pub(super) rights: Rights,
    pub(super) directory: &'a Directory,
}

/// What was seen inside a frame that concerns groups.
#[derive(Debug)]
pub(super) enum Heard<'a> {
    Nothing,
    Router,
    Membership(Membership<'a>),
}

impl<'a> Sender<'a> {
    /// The peer in this slot.
    pub(super) fn new(directory: &'a Directory, slot: PeerSlot) -> Self {
        Self { slot, record: directory.member(slot), rights: directory.rights(slot), directory }
    }

    /// Whether the peer may use this source MAC; and if so, whether it is a stranger's.
    pub(super) fn check_source(&self, mac: MacAddr) -> Result<bool, InboundDrop> {
        if self.record.is_some_and(|record| record.mac == mac) {
            return Ok(false);
        }
        match self.directory.owner(mac) {
            // Whatever the rules: what this node sent comes back.
            Some(Owner::Local) => Err(InboundDrop::SourceIsOurs),
            Some(Owner::Member(_) | Owner::Absent) if self.rights.may_bridge < Bridging::Anybody => {
                Err(InboundDrop::Spoofed)
            }
            Some(Owner::Member(_) | Owner::Absent) => Ok(false),
            None if self.rights.may_bridge == Bridging::Nothing => Err(InboundDrop::NotABridge),
            None => Ok(true),
        }
    }

    /// Whether the peer may speak as this address in a VLAN.
    fn check_address(&self, address: IpAddr, vlan: u16, spoofed: InboundDrop) -> Result<(), InboundDrop> {
        if address.is_unspecified() || self.record.is_some_and(|record| record.addresses.contains(&address)) {
            return Ok(());
        }
        let is_of_the_link = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        match self.directory.bearer(address, vlan) {
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
    pub(super) fn look_inside<'f>(
        &self,
        header: &EthernetHeader,
        frame: &'f [u8],
    ) -> Result<Heard<'f>, InboundDrop> {
        let payload = frame.get(header.payload..).unwrap_or_default();
        let filters = self.directory.protection().filters;
        let (is_group, vlan) = (is_multicast(header.destination), header.vlan);
        match header.ethertype {
            ETHERTYPE_ARP => {
                if let Some(arp) = Arp::parse(payload) {
                    self.check_address(arp.sender.into(), vlan, InboundDrop::ArpSpoofed)?;
                    self.check_named(arp.sender_mac, InboundDrop::ArpSpoofed)?;
                }
            }
            ETHERTYPE_IPV4 => {
                // What is no packet to us is none to any kernel.
                let Some(packet) = Ipv4::parse(payload) else { return Ok(Heard::Nothing) };
                self.check_address(packet.source.into(), vlan, InboundDrop::Ipv4Spoofed)?;
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
                self.check_address(packet.source.into(), vlan, InboundDrop::Ipv6Spoofed)?;
                if !self.rights.may_serve_dhcp
                    && let Some(cause) = rogue_in_ipv6(filters, &packet)
                {
                    return Err(cause);
                }
                if packet.is_cut_discovery() {
                    return Err(InboundDrop::Obscured);
                }
                if let Some(neighbour) = Neighbour::parse(&packet) {
                    if !neighbour.is_solicitation {
                        self.check_address(neighbour.target.into(), vlan, InboundDrop::NeighbourSpoofed)?;
                    }
                    for mac in neighbour.macs() {
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
