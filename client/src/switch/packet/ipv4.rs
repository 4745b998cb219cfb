//! The IPv4 header (RFC 791 §3.1).
//!
//! ```text
//! | version 4 bits = 4, header words 4 bits | TOS 1 | total length 2
//! | identification 2 | flags 3 bits (bit 2: more fragments), offset 13 bits in units of 8
//! | TTL 1 | protocol 1 | checksum 2 | source 4 | destination 4 | options
//! ```

use super::word;
use std::net::Ipv4Addr;

const OFFSET_MASK: u16 = 0x1fff;
const MORE: u16 = 0x2000;

/// What the switch reads of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::switch) struct Ipv4<'a> {
    pub(in crate::switch) source: Ipv4Addr,
    pub(in crate::switch) protocol: u8,
    /// Whether it is a piece of a packet, and not the first: its payload begins somewhere.
    pub(in crate::switch) is_later_fragment: bool,
    /// Whether more pieces follow.
    pub(in crate::switch) is_more: bool,
    /// What follows the options, without padding of the frame.
    pub(in crate::switch) payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// `None` when it is another version, ends inside its header or is longer than the frame.
    pub(in crate::switch) fn parse(packet: &'a [u8]) -> Option<Self> {
        let first = *packet.first()?;
        let header = usize::from(first & 0x0f) * 4;
        let total = usize::from(word(packet, 2)?);
        if first >> 4 != 4 || header < 20 {
            return None;
        }
        let payload = packet.get(..total)?.get(header..)?;
        let fragment = word(packet, 6)?;
        Some(Self {
            source: Ipv4Addr::from(*packet.get(12..)?.first_chunk::<4>()?),
            protocol: *packet.get(9)?,
            is_later_fragment: fragment & OFFSET_MASK != 0,
            is_more: fragment & MORE != 0,
            payload,
        })
    }
}

#[cfg(test)]
pub(in crate::switch) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A packet with this payload. `fragment` is the word of flags and offset.
    pub(in crate::switch) fn packet(
        source: Ipv4Addr,
        protocol: u8,
        fragment: u16,
        payload: &[u8],
    ) -> Vec<u8> {
        let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let [f0, f1] = fragment.to_be_bytes();
        let head = [0x45, 0, total[0], total[1], 0, 1, f0, f1, 1, protocol, 0, 0];
        [&head[..], &source.octets(), &[224, 0, 0, 1], payload].concat()
    }

    const A: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);

    #[test]
    fn padding_options_and_fragments_are_seen() {
        let mut padded = packet(A, 17, 0, b"hello");
        padded.extend([0; 30]);
        let read = Ipv4::parse(&padded).unwrap();
        assert_eq!((read.source, read.protocol, read.payload), (A, 17, &b"hello"[..]));
        assert!(!read.is_later_fragment && !read.is_more);
        let first = packet(A, 17, 0x2000, b"first");
        assert!(Ipv4::parse(&first).is_some_and(|read| read.is_more && !read.is_later_fragment));
        assert!(Ipv4::parse(&packet(A, 17, 0x0001, b"later")).unwrap().is_later_fragment);
        // Router alert, as IGMP has it.
        let mut options = packet(A, 2, 0, &[0x94, 4, 0, 0, 0x16, 0, 0, 0]);
        options[0] = 0x46;
        assert_eq!(Ipv4::parse(&options).unwrap().payload, [0x16, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn other_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60), cut in 0usize..25) {
            if let Some(read) = Ipv4::parse(&bytes) {
                prop_assert!(read.payload.len() + 20 <= bytes.len());
            }
            let whole = packet(A, 17, 0, b"hello");
            prop_assert_eq!(Ipv4::parse(&whole[..cut]), None);
        }
    }
}
