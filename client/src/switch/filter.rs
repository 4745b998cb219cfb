//! What is kept out unless it is allowed: the protocols of bridges, DHCP servers, routers.
//!
//! Only answers are looked for: a client's DISCOVER and a host's router solicitation pass. What makes an answer of DHCP is the
//! port that it goes to, for clients take it from whatever port it comes. A packet whose headers go on
//! in another fragment, so that it cannot be told what it is, counts as what it hides (RFC 7113 §3); hosts do not take
//! neighbour discovery in fragments anyway (RFC 6980).

use super::discard::InboundDrop;
use super::frame::EthernetHeader;
use super::packet::ipv4::Ipv4;
use super::packet::ipv6::{Ipv6, Upper};
use super::packet::neighbour::{REDIRECT, ROUTER_ADVERTISEMENT};
use super::packet::{ETHERTYPE_LLDP, PROTOCOL_ICMPV6, PROTOCOL_UDP, word};
use super::protection::{Filter, Filters};

/// DHCP (RFC 2131 §4.1) and DHCPv6 (RFC 8415 §7.2).
const SERVER_4: u16 = 67;
const CLIENT_4: u16 = 68;
const SERVER_6: u16 = 547;
const CLIENT_6: u16 = 546;
/// Where the message begins in UDP.
const UDP_HEADER: usize = 8;
/// The first byte of DHCP: BOOTREQUEST, from a client or a relay.
const REQUEST_4: u8 = 1;
/// The first byte of DHCPv6, of what a server says: ADVERTISE, REPLY, RECONFIGURE, RELAY-REPL (RFC 8415 §7.3).
const ANSWERS_6: [u8; 4] = [2, 7, 10, 13];

/// Whether the frame belongs to bridges, and to which of their protocols.
pub(super) fn link_control(header: &EthernetHeader) -> Option<Filter> {
    match header.destination.0 {
        _ if header.ethertype == ETHERTYPE_LLDP => Some(Filter::Lldp),
        // IEEE 802.1D §7.12.6: these are never forwarded by a bridge.
        [0x01, 0x80, 0xc2, 0, 0, last] if last <= 0x0f => Some(Filter::Bpdu),
        // Spanning tree per VLAN.
        [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd] => Some(Filter::Bpdu),
        [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc] => Some(Filter::Cdp),
        _ => None,
    }
}

/// Why a packet of a member that may serve nobody is not let in, if it is filtered.
pub(super) fn rogue_in_ipv4(filters: Filters, packet: &Ipv4<'_>) -> Option<InboundDrop> {
    if packet.protocol != PROTOCOL_UDP || packet.is_later_fragment || !filters.has(Filter::Dhcp) {
        return None;
    }
    match destination_port(packet.payload) {
        Some(CLIENT_4) => Some(InboundDrop::RogueDhcp),
        Some(SERVER_4) if packet.payload.get(UDP_HEADER) != Some(&REQUEST_4) => Some(InboundDrop::RogueDhcp),
        Some(_) => None,
        None => packet.is_more.then_some(InboundDrop::Obscured),
    }
}

/// The same for IPv6.
pub(super) fn rogue_in_ipv6(filters: Filters, packet: &Ipv6<'_>) -> Option<InboundDrop> {
    let (dhcp, ra) = (filters.has(Filter::Dhcp), filters.has(Filter::Ra));
    match packet.upper {
        Upper::Known { protocol: PROTOCOL_ICMPV6, payload, is_fragment } if ra => match payload.first() {
            Some(&ROUTER_ADVERTISEMENT | &REDIRECT) => Some(InboundDrop::RogueRouter),
            Some(_) => None,
            None => is_fragment.then_some(InboundDrop::Obscured),
        },
        Upper::Known { protocol: PROTOCOL_UDP, payload, is_fragment } if dhcp => {
            match (destination_port(payload), payload.get(UDP_HEADER)) {
                (Some(CLIENT_6), _) => Some(InboundDrop::RogueDhcp),
                (Some(SERVER_6), Some(kind)) => ANSWERS_6.contains(kind).then_some(InboundDrop::RogueDhcp),
                (Some(SERVER_6), None) | (None, _) => is_fragment.then_some(InboundDrop::Obscured),
                (Some(_), _) => None,
            }
        }
        Upper::Known { .. } | Upper::Later => None,
        Upper::Obscured => (dhcp || ra).then_some(InboundDrop::Obscured),
    }
}

fn destination_port(udp: &[u8]) -> Option<u16> {
    word(udp, 2)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::packet::ipv4::tests::packet as ipv4;
    use super::super::packet::ipv6::tests::{icmp, packet as ipv6};
    use super::*;
    use proptest::prelude::*;
    use shadowmesh_proto::ids::MacAddr;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const A: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
    const LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    const ALL: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    /// A UDP datagram that begins with this byte.
    pub(in crate::switch) fn udp(from: u16, to: u16, first: u8) -> Vec<u8> {
        [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0, 12, 0, 0], &[first, 0, 0, 0]].concat()
    }

    fn whole_4(packet: &[u8]) -> Ipv4<'_> {
        Ipv4::parse(packet).unwrap()
    }

    fn whole_6(packet: &[u8]) -> Ipv6<'_> {
        Ipv6::parse(packet).unwrap()
    }

    fn in_4(fragment: u16, payload: &[u8]) -> Option<InboundDrop> {
        let packet = ipv4(A, PROTOCOL_UDP, fragment, payload);
        rogue_in_ipv4(Filters::default(), &whole_4(&packet))
    }

    fn in_6(packet: &[u8]) -> Option<InboundDrop> {
        rogue_in_ipv6(Filters::default(), &whole_6(packet))
    }

    #[test]
    fn bridges_among_themselves() {
        let of = |destination: [u8; 6], ethertype| {
            let (destination, source) = (MacAddr(destination), MacAddr([2; 6]));
            link_control(&EthernetHeader { destination, source, vlan: 0, ethertype, payload: 14 })
        };
        for last in 0..=15 {
            assert_eq!(of([1, 0x80, 0xc2, 0, 0, last], 39), Some(Filter::Bpdu));
        }
        assert_eq!(of([1, 0x80, 0xc2, 0, 0, 0x10], 39), None);
        assert_eq!(of([1, 0, 0x0c, 0xcc, 0xcc, 0xcd], 50), Some(Filter::Bpdu));
        assert_eq!(of([1, 0, 0x0c, 0xcc, 0xcc, 0xcc], 50), Some(Filter::Cdp));
        assert_eq!(of([1, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc), Some(Filter::Lldp));
        assert_eq!(of([2; 6], 0x88cc), Some(Filter::Lldp), "whomever it is for");
        assert_eq!(of([0xff; 6], 0x0806), None);
    }

    #[test]
    fn answers_of_dhcp_servers_are_told_from_questions() {
        let rogue = Some(InboundDrop::RogueDhcp);
        assert_eq!(in_4(0, &udp(67, 68, 2)), rogue);
        assert_eq!(in_4(0, &udp(67, 67, 2)), rogue, "to a relay");
        assert_eq!(in_4(0, &udp(67, 67, 1)), None, "of a relay");
        assert_eq!(in_4(0, &udp(68, 67, 1)), None, "of a client");
        for port in [0, 53, 68, 1067] {
            assert_eq!(in_4(0, &udp(port, 68, 2)), rogue, "clients take it from any port");
            assert_eq!(in_4(0, &udp(port, 67, 2)), rogue, "and so do relays");
        }
        assert_eq!(in_4(0, &udp(67, 53, 2)), None);
        let in_udp_6 = |from, to, first| in_6(&ipv6(LINK, ALL, PROTOCOL_UDP, &udp(from, to, first)));
        assert_eq!(in_udp_6(547, 546, 7), rogue);
        assert_eq!(in_udp_6(547, 547, 13), rogue);
        assert_eq!(in_udp_6(53, 546, 2), rogue);
        assert_eq!(in_udp_6(53, 547, 13), rogue);
        assert_eq!(in_udp_6(547, 547, 12), None);
        assert_eq!(in_udp_6(546, 547, 1), None);
    }

    #[test]
    fn routers_are_told_from_hosts() {
        let rogue = Some(InboundDrop::RogueRouter);
        assert_eq!(in_6(&icmp(LINK, ALL, &[134, 0, 0, 0, 64, 0, 7, 8])), rogue);
        assert_eq!(in_6(&icmp(LINK, ALL, &[137, 0, 0, 0, 0, 0, 0, 0])), rogue);
        for kind in [128, 129, 133, 135, 136, 143] {
            assert_eq!(in_6(&icmp(LINK, ALL, &[kind, 0, 0, 0, 0, 0, 0, 0])), None);
        }
    }

    #[test]
    fn hiding_does_not_help() {
        let ra = [134, 0, 0, 0, 64, 0, 7, 8];
        let behind = |extension: &[u8]| [extension, &ra].concat();
        let hop = [58, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(in_6(&ipv6(LINK, ALL, 0, &behind(&hop))), Some(InboundDrop::RogueRouter));
        let atomic = [58, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(in_6(&ipv6(LINK, ALL, 44, &behind(&atomic))), Some(InboundDrop::RogueRouter));
        // The first of two fragments, with all of its header chain in the second.
        assert_eq!(in_6(&ipv6(LINK, ALL, 44, &[60, 0, 0, 1, 0, 0, 0, 1])), Some(InboundDrop::Obscured));
        assert_eq!(in_6(&ipv6(LINK, ALL, 44, &[58, 0, 0, 1, 0, 0, 0, 1])), Some(InboundDrop::Obscured));
        assert_eq!(
            in_6(&ipv6(LINK, ALL, 44, &[17, 0, 0, 1, 0, 0, 0, 1, 2, 35])),
            Some(InboundDrop::Obscured)
        );
        assert_eq!(
            in_6(&ipv6(LINK, ALL, 44, &[58, 0, 0, 8, 0, 0, 0, 1, 134])),
            None,
            "the first one decides"
        );
        assert_eq!(in_4(0x2000, &udp(67, 68, 2)[..8]), Some(InboundDrop::RogueDhcp), "the ports are enough");
        assert_eq!(in_4(0x2000, &udp(67, 67, 2)[..8]), Some(InboundDrop::RogueDhcp));
        let ports = udp(547, 547, 0)[..8].to_vec();
        let first = [&[17, 0, 0, 1, 0, 0, 0, 1], &ports[..]].concat();
        assert_eq!(
            in_6(&ipv6(LINK, ALL, 44, &first)),
            Some(InboundDrop::Obscured),
            "what it says is in the next"
        );
        assert_eq!(in_4(0x2000, &[0]), Some(InboundDrop::Obscured));
        assert_eq!(in_4(0x0001, &udp(67, 68, 2)), None, "the first one decides");
    }

    #[test]
    fn what_is_switched_off_is_not_looked_for() {
        let ra = icmp(LINK, ALL, &[134, 0, 0, 0, 64, 0, 7, 8]);
        let only = |filter| Filters::NONE.with(filter);
        assert_eq!(rogue_in_ipv6(only(Filter::Dhcp), &Ipv6::parse(&ra).unwrap()), None);
        let dhcp = ipv4(A, PROTOCOL_UDP, 0, &udp(67, 68, 2));
        assert_eq!(rogue_in_ipv4(only(Filter::Ra), &Ipv4::parse(&dhcp).unwrap()), None);
        let obscured = ipv6(LINK, ALL, 0, &[]);
        assert_eq!(rogue_in_ipv6(Filters::NONE, &Ipv6::parse(&obscured).unwrap()), None);
        assert_eq!(
            rogue_in_ipv6(only(Filter::Ra), &Ipv6::parse(&obscured).unwrap()),
            Some(InboundDrop::Obscured)
        );
    }

    proptest! {
        #[test]
        fn other_bytes_are_judged_without_a_panic(
            next: u8, fragment: u16, payload in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = in_6(&ipv6(LINK, ALL, next, &payload));
            let packet = ipv4(A, next, fragment, &payload);
            let _ = rogue_in_ipv4(Filters::default(), &Ipv4::parse(&packet).unwrap());
        }
    }
}
