//! Reading an Ethernet header.
//!
//! ```text
//! | destination 6 | source 6 | [ tag type 2 | tag 2 ]… | ethertype or length 2 | payload
//!                                               tag: priority 3 bits, DEI 1 bit, VLAN id 12 bits
//! ```
//!
//! A tag type is 0x8100 (IEEE 802.1Q, customer) or 0x88a8 (802.1ad, provider). At most two tags are read;
//! what follows a second one is payload to us. Nothing is refused but a frame that ends inside its header.

use shadowmesh_proto::ids::MacAddr;

const TAG_CUSTOMER: u16 = 0x8100;
const TAG_PROVIDER: u16 = 0x88a8;
const MAX_TAGS: usize = 2;

/// What the switch reads of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthernetHeader {
    /// To whom.
    pub destination: MacAddr,
    /// From whom.
    pub source: MacAddr,
    /// VLAN id of the outermost tag; 0 for an untagged frame and for one that carries a priority only.
    pub vlan: u16,
    /// What the payload is (0x0800, 0x86dd …), or its length for an 802.3 frame (up to 1500).
    pub ethertype: u16,
    /// Where the payload begins, in bytes from the start of the frame.
    pub payload: usize,
}

/// An address as the switch knows it: the same MAC in two VLANs is two stations, because the two need not be
/// in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Station {
    /// The hardware address.
    pub mac: MacAddr,
    /// The VLAN id, 0 for untagged.
    pub vlan: u16,
}

impl EthernetHeader {
    /// Reads the header, or `None` when the frame ends inside it.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (destination, rest) = frame.split_first_chunk::<6>()?;
        let (source, rest) = rest.split_first_chunk::<6>()?;
        let (mut ethertype, mut rest) = word(rest)?;
        let mut vlan = None;
        for _ in 0..MAX_TAGS {
            if !matches!(ethertype, TAG_CUSTOMER | TAG_PROVIDER) {
                break;
            }
            let (control, after) = word(rest)?;
            vlan.get_or_insert(control & 0x0fff);
            (ethertype, rest) = word(after)?;
        }
        Some(Self {
            destination: MacAddr(*destination),
            source: MacAddr(*source),
            vlan: vlan.unwrap_or(0),
            ethertype,
            payload: frame.len() - rest.len(),
        })
    }

    /// The station that sent it.
    pub const fn sender(&self) -> Station {
        Station { mac: self.source, vlan: self.vlan }
    }

    /// The station it is for.
    pub const fn receiver(&self) -> Station {
        Station { mac: self.destination, vlan: self.vlan }
    }
}

/// Whether the address names a group (the broadcast address among them) and so cannot be a sender.
pub const fn is_multicast(mac: MacAddr) -> bool {
    mac.0[0] & 1 != 0
}

/// Whether the address names everyone.
pub fn is_broadcast(mac: MacAddr) -> bool {
    mac.0 == [0xff; 6]
}

fn word(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DESTINATION: [u8; 6] = [0x02, 0, 0, 0, 0, 0xd0];
    const SOURCE: [u8; 6] = [0x02, 0, 0, 0, 0, 0x50];

    fn frame(words: &[u16]) -> Vec<u8> {
        let mut frame = [DESTINATION, SOURCE].concat();
        frame.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        frame
    }

    #[test]
    fn tags_are_read_and_the_outermost_counts() {
        let parse =
            |words: &[u16]| EthernetHeader::parse(&frame(words)).map(|h| (h.vlan, h.ethertype, h.payload));
        assert_eq!(parse(&[0x0800]), Some((0, 0x0800, 14)));
        assert_eq!(parse(&[0x8100, 0xe02a, 0x86dd]), Some((42, 0x86dd, 18)));
        assert_eq!(parse(&[0x8100, 0xe000, 0x86dd]), Some((0, 0x86dd, 18)), "priority only");
        assert_eq!(parse(&[0x88a8, 7, 0x8100, 9, 0x0806]), Some((7, 0x0806, 22)));
        assert_eq!(
            parse(&[0x8100, 1, 0x8100, 2, 0x8100, 3, 0x0800]),
            Some((1, 0x8100, 22)),
            "a third is payload"
        );
        assert_eq!(parse(&[60]), Some((0, 60, 14)), "802.3 length");
        let header = EthernetHeader::parse(&frame(&[0x8100, 42, 0x0800])).unwrap();
        assert_eq!(header.sender(), Station { mac: MacAddr(SOURCE), vlan: 42 });
        assert_eq!(header.receiver(), Station { mac: MacAddr(DESTINATION), vlan: 42 });
    }

    #[test]
    fn a_header_cut_short_is_none() {
        for whole in [frame(&[0x0800]), frame(&[0x8100, 1, 0x0800]), frame(&[0x88a8, 1, 0x8100, 2, 0x0800])] {
            for len in 0..whole.len() {
                assert_eq!(EthernetHeader::parse(&whole[..len]), None, "{len} of {}", whole.len());
            }
            assert!(EthernetHeader::parse(&whole).is_some());
        }
    }

    #[test]
    fn groups_are_told_by_the_lowest_bit_of_the_first_byte() {
        assert!(
            is_multicast(MacAddr([0x33, 0x33, 0, 0, 0, 1]))
                && !is_broadcast(MacAddr([0x33, 0x33, 0, 0, 0, 1]))
        );
        assert!(is_multicast(MacAddr([0xff; 6])) && is_broadcast(MacAddr([0xff; 6])));
        assert!(!is_multicast(MacAddr(SOURCE)));
    }

    proptest! {
        #[test]
        fn total_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            match EthernetHeader::parse(&bytes) {
                None => prop_assert!(bytes.len() < 22),
                Some(header) => {
                    prop_assert!(header.payload <= bytes.len() && matches!(header.payload, 14 | 18 | 22));
                    prop_assert!(header.vlan <= 0x0fff);
                    prop_assert_eq!(&header.destination.0[..], &bytes[..6]);
                    prop_assert_eq!(&header.source.0[..], &bytes[6..12]);
                }
            }
        }
    }
}
