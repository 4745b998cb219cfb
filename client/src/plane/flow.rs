//! Of which flow a frame is.
//!
//! Frames of one flow have one key, so that none of them overtakes another: addresses, protocol and ports of a packet, of a fragment without
//! the ports, for later ones have none (RFC 791 §3.2); and where there is no IP, the sending station and EtherType: nobody knows what such
//! a protocol asks of the order of what it sends to one and to all. The hash is keyed: who
//! chooses what is hashed cannot compute flows that share a queue with another's. So datagrams that a host sends in fragments are another flow than those of the
//! same ports that are whole, and may be overtaken by them where a stream is full, as in any network that queues by flow (RFC 8290).
//!
//! Where both directions are to have one key ([`both_ways`]) it tells apart no more than the kernel does of a frame (`__skb_get_hash_symmetric`): no
//! VLAN, and of what is no IP its EtherType alone.

use crate::switch::EthernetHeader;
use std::hash::{BuildHasher as _, RandomState};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Protocols whose first four bytes are two ports (RFC 9293, 768, 9260).
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// The key of `frame`.
pub(super) fn key(frame: &[u8], hasher: &RandomState) -> u64 {
    let Some(header) = EthernetHeader::parse(frame) else { return 0 };
    match named(&header, frame) {
        Some((addresses, protocol, ports)) => hasher.hash_one((header.vlan, addresses, protocol, ports)),
        None => hasher.hash_one((header.vlan, header.source, header.ethertype)),
    }
}

/// The key of `frame`, which is that of the answers to it as well.
pub(super) fn both_ways(frame: &[u8], hasher: &RandomState) -> u64 {
    let Some(header) = EthernetHeader::parse(frame) else { return 0 };
    match named(&header, frame) {
        Some((addresses, protocol, ports)) => {
            let (from, to) = addresses.split_at(addresses.len() / 2);
            let (sender, receiver) = ports.split_at(ports.len() / 2);
            let ends = [(from, sender), (to, receiver)];
            let ends = if ends.is_sorted() { ends } else { [(to, receiver), (from, sender)] };
            hasher.hash_one((ends, protocol))
        }
        None => hasher.hash_one(header.ethertype),
    }
}

/// Source and destination, protocol, ports.
type Named<'f> = (&'f [u8], u8, &'f [u8]);

fn named<'f>(header: &EthernetHeader, frame: &'f [u8]) -> Option<Named<'f>> {
    let packet = frame.get(header.payload..).unwrap_or_default();
    match header.ethertype {
        IPV4 => of_ipv4(packet),
        IPV6 => of_ipv6(packet),
        _ => None,
    }
}

fn of_ipv4(packet: &[u8]) -> Option<Named<'_>> {
    let addresses = packet.get(12..20)?;
    let protocol = *packet.get(9)?;
    let offset_and_flags = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
    let is_fragment = offset_and_flags & 0x3fff != 0;
    let at = usize::from(packet.first()? & 0x0f) * 4;
    Some((addresses, protocol, ports(packet, at, protocol, is_fragment)))
}

/// Behind extension headers no ports are looked for: the flow label, or the addresses, will do.
fn of_ipv6(packet: &[u8]) -> Option<Named<'_>> {
    let addresses = packet.get(8..40)?;
    let protocol = *packet.get(6)?;
    Some((addresses, protocol, ports(packet, 40, protocol, false)))
}

fn ports(packet: &[u8], at: usize, protocol: u8, is_fragment: bool) -> &[u8] {
    if is_fragment || !WITH_PORTS.contains(&protocol) {
        return &[];
    }
    packet.get(at..at + 4).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(ethertype: u16, packet: &[u8]) -> Vec<u8> {
        [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &ethertype.to_be_bytes(), packet].concat()
    }

    fn ipv4(protocol: u8, more: bool, offset: u8, ports: [u8; 4]) -> Vec<u8> {
        let head = [0x45, 0, 0, 40, 0, 1, u8::from(more) << 5, offset, 64, protocol, 0, 0];
        frame(IPV4, &[&head[..], &[10, 0, 0, 1, 10, 0, 0, 2], &ports, &[0; 20]].concat())
    }

    #[test]
    fn flows_are_told_apart_by_ports_and_fragments_are_not() {
        let hasher = RandomState::new();
        let key = |frame: &[u8]| key(frame, &hasher);
        let [one, other] = [[0, 1, 0, 2], [0, 1, 0, 3]];
        for protocol in WITH_PORTS {
            assert_ne!(key(&ipv4(protocol, false, 0, one)), key(&ipv4(protocol, false, 0, other)));
            assert_eq!(key(&ipv4(protocol, false, 0, one)), key(&ipv4(protocol, false, 0, one)));
            assert_eq!(key(&ipv4(protocol, true, 0, one)), key(&ipv4(protocol, true, 9, other)));
        }
        assert_eq!(key(&ipv4(1, false, 0, one)), key(&ipv4(1, false, 0, other)), "ICMP has no ports");
        assert_ne!(key(&ipv4(1, false, 0, one)), key(&ipv4(6, false, 0, one)));
        let ipv6 = |port: u8| {
            let head = [&[0x60, 0, 0, 0, 0, 20, 6, 64][..], &[1; 32], &[0, 1, 0, port]].concat();
            key(&frame(IPV6, &head))
        };
        assert_ne!(ipv6(1), ipv6(2));
        assert_ne!(key(&frame(0x0806, &[])), key(&frame(0x88b5, &[])));
    }

    /// The same, the other way.
    fn answer(frame: &[u8], packet_at: usize, address: usize) -> Vec<u8> {
        let mut back = frame.to_vec();
        let at = packet_at + if address == 4 { 12 } else { 8 };
        back[..12].rotate_left(6);
        back[at..at + 2 * address].rotate_left(address);
        let ports = at + 2 * address;
        back[ports..ports + 4].rotate_left(2);
        back
    }

    #[test]
    fn an_answer_has_the_key_of_its_question_and_other_flows_have_another() {
        let hasher = RandomState::new();
        let key = |frame: &[u8]| both_ways(frame, &hasher);
        let [one, other] = [[0, 1, 0, 2], [0, 1, 0, 3]];
        for protocol in WITH_PORTS {
            let asked = ipv4(protocol, false, 0, one);
            assert_eq!(key(&asked), key(&answer(&asked, 14, 4)));
            assert_ne!(key(&asked), key(&ipv4(protocol, false, 0, other)));
            // Ports do not change sides by themselves.
            assert_ne!(key(&asked), key(&ipv4(protocol, false, 0, [0, 2, 0, 1])));
            assert_eq!(key(&ipv4(protocol, true, 0, one)), key(&ipv4(protocol, true, 9, other)));
        }
        // With itself, whose ends have one address.
        let mut own = ipv4(6, false, 0, one);
        own[26..34].copy_from_slice(&[10, 7, 0, 1, 10, 7, 0, 1]);
        assert_eq!(key(&own), key(&answer(&own, 14, 4)));
        let addresses = [[1; 16], [2; 16]].concat();
        let asked = frame(IPV6, &[&[0x60, 0, 0, 0, 0, 20, 6, 64][..], &addresses, &one, &[0; 16]].concat());
        assert_eq!(key(&asked), key(&answer(&asked, 14, 16)));
    }

    #[test]
    fn both_ways_no_more_is_told_apart_than_the_kernel_does() {
        let hasher = RandomState::new();
        let key = |frame: &[u8]| both_ways(frame, &hasher);
        let plain = ipv4(6, false, 0, [0, 1, 0, 2]);
        let tagged = [&plain[..12], &[0x81, 0, 0, 5], &plain[12..]].concat();
        assert_eq!(key(&plain), key(&tagged));
        let mut from_another = frame(0x88b5, &[1; 40]);
        from_another[11] = 9;
        assert_eq!(key(&from_another), key(&frame(0x88b5, &[2; 40])));
        assert_ne!(key(&from_another), key(&frame(0x88b6, &[2; 40])));
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_has_one(frame in prop::collection::vec(any::<u8>(), 0..80)) {
            let hasher = RandomState::new();
            prop_assert_eq!(key(&frame, &hasher), key(&frame, &hasher));
            prop_assert_eq!(both_ways(&frame, &hasher), both_ways(&frame, &hasher));
        }
    }
}
