//! What lies in a frame, as far as the switch has to know. Parsing is total: what is cut short or makes no sense is
//! `None`, and whoever asked decides what that means.

pub(super) mod arp;
pub(super) mod ipv4;
pub(super) mod ipv6;
pub(super) mod membership;
pub(super) mod neighbour;

/// EtherTypes (IEEE registration authority).
pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
pub(super) const ETHERTYPE_LLDP: u16 = 0x88cc;

/// IP protocol numbers (IANA).
pub(super) const PROTOCOL_IGMP: u8 = 2;
pub(super) const PROTOCOL_UDP: u8 = 17;
pub(super) const PROTOCOL_ICMPV6: u8 = 58;
pub(super) const PROTOCOL_PIM: u8 = 103;

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|word| u16::from_be_bytes(*word))
}

/// The Internet checksum (RFC 1071) over `parts`, each of which but the last has an even length: zero where the sum is right.
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    use crate::device::checksum::{fold, sum};
    !fold(parts.iter().map(|part| sum(part)).sum())
}
