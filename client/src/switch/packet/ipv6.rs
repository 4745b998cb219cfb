//! The IPv6 header and its extension headers (RFC 8200 §3, §4), as far as the first one that is no extension.
//!
//! ```text
//! | version 4 bits = 6, class 8 bits, flow 20 bits | payload length 2 | next header 1 | hop limit 1 | source 16 | destination 16
//! extension:  | next header 1 | length 1 (units of 8 bytes beyond the first 8; of AH: of 4 beyond 8) | …
//! fragment:   | next header 1 | 0 | offset 13 bits in units of 8, 2 bits, more 1 bit | identification 4
//! ```
//!
//! A node that looks for router advertisements must not be fooled by extension headers or fragments (RFC 7113 §3): where a
//! chain of headers goes on in another fragment, or is longer than any that is known, the packet is [`Upper::Obscured`].

use super::word;
use std::net::Ipv6Addr;

const HEADER: usize = 40;
/// Extension headers that are walked: RFC 8200 §4.1 names seven with the second set of destination options.
const EXTENSIONS_MAX: usize = 8;

/// ICMPv6: router and neighbour solicitations and advertisements, and redirects (RFC 4861 §4).
const DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// What the switch reads of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::switch) struct Ipv6<'a> {
    pub(in crate::switch) source: Ipv6Addr,
    pub(in crate::switch) destination: Ipv6Addr,
    pub(in crate::switch) hop_limit: u8,
    pub(in crate::switch) upper: Upper<'a>,
}

/// What follows the extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::switch) enum Upper<'a> {
    /// This protocol; `is_fragment` when the rest of it is elsewhere.
    Known { protocol: u8, payload: &'a [u8], is_fragment: bool },
    /// A piece that is not the first: what it is was said there.
    Later,
    /// It cannot be told.
    Obscured,
}

impl<'a> Ipv6<'a> {
    /// `None` when it is another version, ends inside its header or is longer than the frame.
    pub(in crate::switch) fn parse(packet: &'a [u8]) -> Option<Self> {
        if packet.first()? >> 4 != 6 {
            return None;
        }
        let payload = packet.get(HEADER..)?.get(..usize::from(word(packet, 4)?))?;
        Some(Self {
            source: Ipv6Addr::from(*packet.get(8..)?.first_chunk::<16>()?),
            destination: Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?),
            hop_limit: *packet.get(7)?,
            upper: walk(*packet.get(6)?, payload),
        })
    }

    /// What the checksum of an upper layer covers beside itself (RFC 8200 §8.1).
    pub(in crate::switch) fn pseudo_header(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        len: usize,
        protocol: u8,
    ) -> [u8; 40] {
        let mut pseudo = [0; 40];
        let len = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
        let fields: [&[u8]; 4] = [&source.octets(), &destination.octets(), &len, &[0, 0, 0, protocol]];
        pseudo.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        pseudo
    }

    /// What ICMPv6 says, as far as it is here and whether it is valid or not.
    pub(in crate::switch) const fn icmp_unchecked(&self) -> Option<&'a [u8]> {
        match self.upper {
            Upper::Known { protocol: super::PROTOCOL_ICMPV6, payload, .. } => Some(payload),
            Upper::Known { .. } | Upper::Later | Upper::Obscured => None,
        }
    }

    /// What ICMPv6 says, where it is whole and its checksum right: every frame that comes to the switch is complete.
    pub(in crate::switch) fn icmp(&self) -> Option<&'a [u8]> {
        let message = self.icmp_unchecked().filter(|_| !self.is_fragment())?;
        let pseudo =
            Self::pseudo_header(self.source, self.destination, message.len(), super::PROTOCOL_ICMPV6);
        (super::checksum(&[&pseudo, message]) == 0).then_some(message)
    }

    /// Whether it is neighbour discovery of which a part is elsewhere: no node may take that (RFC 6980 §5).
    pub(in crate::switch) fn is_cut_discovery(&self) -> bool {
        let is_discovery = |message: &[u8]| message.first().is_none_or(|kind| DISCOVERY.contains(kind));
        self.is_fragment() && self.icmp_unchecked().is_some_and(is_discovery)
    }

    const fn is_fragment(&self) -> bool {
        matches!(self.upper, Upper::Known { is_fragment: true, .. })
    }
}

fn walk(mut protocol: u8, mut rest: &[u8]) -> Upper<'_> {
    let mut is_fragment = false;
    for _ in 0..EXTENSIONS_MAX {
        let length = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 => {
                rest.get(1).map(|units| 8 + 8 * usize::from(*units))
            }
            AUTHENTICATION => rest.get(1).map(|units| 8 + 4 * usize::from(*units)),
            FRAGMENT => match word(rest, 2) {
                Some(place) if place & 0xfff8 != 0 => return Upper::Later,
                Some(place) => {
                    is_fragment |= place & 1 != 0;
                    Some(8)
                }
                None => None,
            },
            _ => return Upper::Known { protocol, payload: rest, is_fragment },
        };
        let (Some(next), Some(after)) = (rest.first(), length.and_then(|length| rest.get(length..))) else {
            return Upper::Obscured;
        };
        (protocol, rest) = (*next, after);
    }
    Upper::Obscured
}

#[cfg(test)]
pub(in crate::switch) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A packet with this payload behind the first header.
    pub(in crate::switch) fn packet(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        next: u8,
        payload: &[u8],
    ) -> Vec<u8> {
        let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [0x60, 0, 0, 0, len[0], len[1], next, 255];
        [&head[..], &source.octets(), &destination.octets(), payload].concat()
    }

    /// An ICMPv6 packet with a right checksum; `message` has zeros there.
    pub(in crate::switch) fn icmp(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        let pseudo = Ipv6::pseudo_header(source, destination, message.len(), 58);
        let sum = super::super::checksum(&[&pseudo, &message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        packet(source, destination, 58, &message)
    }

    const A: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const ALL: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    fn upper(next: u8, payload: &[u8]) -> Upper<'static> {
        let packet: &'static [u8] = Box::leak(packet(A, ALL, next, payload).into_boxed_slice());
        Ipv6::parse(packet).unwrap().upper
    }

    #[test]
    fn extension_headers_are_walked() {
        let known = |payload, is_fragment| Upper::Known { protocol: 58, payload, is_fragment };
        assert_eq!(upper(58, b"icmp"), known(b"icmp", false));
        let hop = [58, 0, 5, 2, 0, 0, 1, 0];
        assert_eq!(upper(0, &[&hop[..], b"icmp"].concat()), known(b"icmp", false));
        let long = [&[58u8, 1][..], &[0; 14], b"icmp"].concat();
        assert_eq!(upper(60, &long), known(b"icmp", false));
        let authentication = [&[58u8, 4][..], &[0; 22], b"icmp"].concat();
        assert_eq!(upper(51, &authentication), known(b"icmp", false));
        let whole = [&[58u8, 0, 0, 0, 0, 0, 0, 9][..], b"icmp"].concat();
        assert_eq!(upper(44, &whole), known(b"icmp", false), "an atomic fragment is whole");
        let first = [&[58u8, 0, 0, 1, 0, 0, 0, 9][..], b"icmp"].concat();
        assert_eq!(upper(44, &first), known(b"icmp", true));
    }

    #[test]
    fn what_hides_is_obscured() {
        // The chain goes on in the next fragment.
        let first = [60u8, 0, 0, 1, 0, 0, 0, 9];
        assert_eq!(upper(44, &first), Upper::Obscured);
        let cut = [&first[..], &[58, 9, 0, 0]].concat();
        assert_eq!(upper(44, &cut), Upper::Obscured);
        // Longer than any chain.
        let mut chain: Vec<u8> = (0..8).flat_map(|_| [60, 0, 0, 0, 0, 0, 0, 0]).collect();
        chain.extend(b"icmp");
        assert_eq!(upper(60, &chain), Upper::Obscured);
        assert_eq!(upper(44, &[58, 0, 0, 8, 0, 0, 0, 9]), Upper::Later);
    }

    #[test]
    fn only_what_has_a_right_checksum_is_icmp() {
        let mut good = icmp(A, ALL, &[135, 0, 0, 0, 1, 2, 3]);
        assert_eq!(Ipv6::parse(&good).unwrap().icmp().map(|message| message[0]), Some(135));
        good[40] = 136;
        assert_eq!(Ipv6::parse(&good).unwrap().icmp(), None);
    }

    proptest! {
        #[test]
        fn other_bytes_are_read_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            next: u8,
            payload in proptest::collection::vec(any::<u8>(), 0..120),
            cut in 0usize..43,
        ) {
            let _ = Ipv6::parse(&bytes).map(|read| read.icmp().is_some());
            let _ = Ipv6::parse(&packet(A, ALL, next, &payload)).map(|read| read.icmp().is_some());
            let whole = packet(A, ALL, 58, b"abc");
            prop_assert_eq!(Ipv6::parse(&whole[..cut]), None);
        }
    }
}
