//! Reading an Ethernet header.
//!
//! ```text
//! | destination 6 | source 6 | [ tag type 2 | tag 2 ]… | ethertype or length 2 | payload
//!                                               tag: priority 3 bits, DEI 1 bit, VLAN id 12 bits
//! payload behind a length, where an EtherType follows (LLC and SNAP, RFC 1042): | aa aa 03 | 00 00 00 | ethertype 2 | payload
//! ```
//!
//! A tag type is 0x8100 (IEEE 802.1Q, customer) or 0x88a8 (802.1ad, provider). Whatever stands before a packet is read, in
//! whatever order and number: kernels take as many tags without an id as there are, and bridges to Wi-Fi take LLC and SNAP off,
//! so behind either of them a lie would pass unseen (CVE-2021-27853 and its like). Nothing is refused but a frame that ends
//! inside its header.

use shadowmesh_proto::ids::MacAddr;

const TAG_CUSTOMER: u16 = 0x8100;
const TAG_PROVIDER: u16 = 0x88a8;
/// Below this the field is a length (IEEE 802.3 §3.2.6). What length it says is nobody's concern (CVE-2021-27861).
const ETHERTYPE_MIN: u16 = 0x0600;
/// LLC with SNAP, and an EtherType: of RFC 1042, and of bridge tunnels (IEEE 802.1H).
const SNAP: [[u8; 6]; 2] = [[0xaa, 0xaa, 3, 0, 0, 0], [0xaa, 0xaa, 3, 0, 0, 0xf8]];

/// What the switch reads of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthernetHeader {
    /// To whom.
    pub destination: MacAddr,
    /// From whom.
    pub source: MacAddr,
    /// VLAN id of the outermost tag that has one; 0 for an untagged frame and for one that carries a priority only.
    pub vlan: u16,
    /// What the payload is (0x0800, 0x86dd …), or its length for an 802.3 frame (up to 1500).
    pub ethertype: u16,
    /// Where its payload begins, in bytes from the start of the frame.
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
        let (mut vlan, mut is_wrapped) = (0, false);
        loop {
            if is_tag(ethertype) {
                let (control, after) = word(rest)?;
                if vlan == 0 && !is_wrapped {
                    vlan = control & 0x0fff;
                }
                (ethertype, rest) = word(after)?;
            } else if let Some(after) = after_snap(ethertype, rest) {
                is_wrapped = true;
                (ethertype, rest) = word(after)?;
            } else {
                break;
            }
        }
        Some(Self {
            destination: MacAddr(*destination),
            source: MacAddr(*source),
            vlan,
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

/// Whether it is no EtherType, but begins a tag.
pub(super) const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, TAG_CUSTOMER | TAG_PROVIDER)
}

/// Whether the address names a group (the broadcast address among them) and so cannot be a sender.
pub const fn is_multicast(mac: MacAddr) -> bool {
    mac.0[0] & 1 != 0
}

/// Whether the address names everyone.
pub fn is_broadcast(mac: MacAddr) -> bool {
    mac.0 == [0xff; 6]
}

/// What follows LLC and SNAP, if they are there.
fn after_snap(length: u16, payload: &[u8]) -> Option<&[u8]> {
    let (snap, after) = payload.split_first_chunk::<6>()?;
    (length < ETHERTYPE_MIN && SNAP.contains(snap)).then_some(after)
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
        assert_eq!(parse(&[0x8100, 0, 0x8100, 9, 0x0806]), Some((9, 0x0806, 22)), "as a kernel reads it");
        assert_eq!(parse(&[0x8100, 1, 0x8100, 2, 0x8100, 3, 0x0800]), Some((1, 0x0800, 26)));
        let many = [[0x8100, 0xe000]; 30].concat();
        assert_eq!(parse(&[&many[..], &[0x0806]].concat()), Some((0, 0x0806, 134)), "however many");
        assert_eq!(parse(&[60]), Some((0, 60, 14)), "802.3 length");
        let header = EthernetHeader::parse(&frame(&[0x8100, 42, 0x0800])).unwrap();
        assert_eq!(header.sender(), Station { mac: MacAddr(SOURCE), vlan: 42 });
        assert_eq!(header.receiver(), Station { mac: MacAddr(DESTINATION), vlan: 42 });
    }

    #[test]
    fn what_is_wrapped_for_other_media_is_seen() {
        let parse =
            |words: &[u16]| EthernetHeader::parse(&frame(words)).map(|h| (h.vlan, h.ethertype, h.payload));
        for length in [0, 36, 0x05ff] {
            assert_eq!(parse(&[length, 0xaaaa, 0x0300, 0, 0x0806]), Some((0, 0x0806, 22)));
            assert_eq!(parse(&[length, 0xaaaa, 0x0300, 0x00f8, 0x86dd]), Some((0, 0x86dd, 22)));
        }
        let tagged = [0x8100, 7, 36, 0xaaaa, 0x0300, 0, 0x8100, 9, 36, 0xaaaa, 0x0300, 0, 0x0806];
        assert_eq!(parse(&tagged), Some((7, 0x0806, 38)), "a tag inside tells nobody's VLAN");
        assert_eq!(parse(&[0x0600, 0xaaaa, 0x0300, 0, 0x0806]), Some((0, 0x0600, 14)), "an EtherType");
        assert_eq!(parse(&[36, 0xaaaa, 0x0300, 0x000c, 0x2000]), Some((0, 36, 14)), "a vendor's own");
        assert_eq!(parse(&[38, 0x4242, 0x0300, 0, 0, 0]), Some((0, 38, 14)), "a BPDU");
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
                None => prop_assert!(bytes.len() < 22 || matches!(bytes[12..14], [0x81, 0] | [0x88, 0xa8] | [..6, _])),
                Some(header) => {
                    prop_assert!(header.payload <= bytes.len() && header.payload >= 14 && header.payload % 2 == 0);
                    prop_assert!(header.vlan <= 0x0fff);
                    prop_assert_eq!(&header.destination.0[..], &bytes[..6]);
                    prop_assert_eq!(&header.source.0[..], &bytes[6..12]);
                }
            }
        }
    }
}
