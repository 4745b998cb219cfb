//! Peer packets that pass a relay by datagram (protocol §3.9).
//!
//! ```text
//!  0       1                       4                               8
//!  +-------+-----------------------+-------------------------------+----------------
//!  | 0xe0  |          tag          |            channel            | one peer packet
//!  +-------+-----------------------+-------------------------------+----------------
//! ```
//!
//! The top bits 111 are neither STUN's (00) nor those of a peer packet (110). The tag is drawn by the relay for each client that
//! bound an address; it is the client's in both directions, so the relay rewrites it in place when it passes a packet on. It keeps out
//! who only knows addresses. What the packet says is authentic by the peers' session alone, as on the stream.

use crate::ids::ChannelId;
use crate::wire::codec::WireError;

/// The first byte.
pub const RELAYED: u8 = 0xe0;
/// Bytes before the packet.
pub const RELAYED_HEADER_LEN: usize = 8;
/// What shows to a relay, over the stream, who receives at an address (protocol §3.9): bytes that nobody else can foresee.
pub type Nonce = [u8; 8];

/// What ties datagrams to a client's binding: 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BindingTag(u32);

impl BindingTag {
    /// The low 24 bits of `bits`.
    pub const fn new(bits: u32) -> Self {
        Self(bits & 0x00ff_ffff)
    }

    /// The tag as a number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// The header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayedHeader {
    /// Whose binding.
    pub tag: BindingTag,
    /// Where the packet goes, or came from.
    pub channel: ChannelId,
}

impl RelayedHeader {
    /// Reads the header at the front of `datagram`; behind it there must be something.
    ///
    /// # Errors
    /// `Truncated`, or `Kind` for another first byte.
    pub fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        let Some(([kind, tag @ .., c0, c1, c2, c3], packet)) =
            datagram.split_first_chunk::<RELAYED_HEADER_LEN>()
        else {
            return Err(WireError::Truncated);
        };
        if *kind != RELAYED {
            return Err(WireError::Kind(*kind));
        }
        if packet.is_empty() {
            return Err(WireError::Truncated);
        }
        let [t0, t1, t2] = *tag;
        Ok(Self {
            tag: BindingTag(u32::from_be_bytes([0, t0, t1, t2])),
            channel: ChannelId(u32::from_be_bytes([*c0, *c1, *c2, *c3])),
        })
    }

    /// The bytes.
    pub const fn to_bytes(self) -> [u8; RELAYED_HEADER_LEN] {
        let [_, t0, t1, t2] = self.tag.0.to_be_bytes();
        let [c0, c1, c2, c3] = self.channel.0.to_be_bytes();
        [RELAYED, t0, t1, t2, c0, c1, c2, c3]
    }
}

/// Puts `tag` into the header of each of the datagrams of `stride` bytes (the last may be shorter) that lie in `datagrams`.
pub fn retag(datagrams: &mut [u8], stride: usize, tag: BindingTag) {
    let [_, tag @ ..] = tag.0.to_be_bytes();
    for datagram in datagrams.chunks_mut(stride.max(1)) {
        if let Some(field) = datagram.get_mut(1..4) {
            field.copy_from_slice(&tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::PacketKind;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(tag: u32, channel: u32, packet in prop::collection::vec(any::<u8>(), 1..50)) {
            let header = RelayedHeader { tag: BindingTag::new(tag), channel: ChannelId(channel) };
            let datagram = [&header.to_bytes()[..], &packet].concat();
            prop_assert_eq!(RelayedHeader::parse(&datagram), Ok(header));
            prop_assert_eq!(PacketKind::of(&datagram), None);
            prop_assert!(datagram[0] >= 0x40, "no STUN");
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(header) = RelayedHeader::parse(&bytes) {
                prop_assert_eq!(&header.to_bytes()[..], &bytes[..RELAYED_HEADER_LEN]);
            }
        }

        #[test]
        fn a_new_tag_changes_nothing_else(
            old: u32, new: u32, lens in (1usize..40, 0usize..40), count in 1usize..5
        ) {
            let (len, last) = (lens.0, lens.1.min(lens.0));
            let header = |tag| RelayedHeader { tag: BindingTag::new(tag), channel: ChannelId(7) }.to_bytes();
            let run = |tag| {
                let mut bytes = [&header(tag)[..], &vec![9; len]].concat().repeat(count);
                if last > 0 {
                    bytes.extend([&header(tag)[..], &vec![9; last]].concat());
                }
                bytes
            };
            let mut bytes = run(old);
            retag(&mut bytes, RELAYED_HEADER_LEN + len, BindingTag::new(new));
            prop_assert_eq!(bytes, run(new));
        }
    }

    #[test]
    fn layout_is_as_drawn() {
        let header = RelayedHeader { tag: BindingTag::new(0xff01_0203), channel: ChannelId(0x0405_0607) };
        assert_eq!(header.to_bytes(), [0xe0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(RelayedHeader::parse(&header.to_bytes()), Err(WireError::Truncated), "no packet");
        assert_eq!(RelayedHeader::parse(&[0xe0; 7]), Err(WireError::Truncated));
        assert_eq!(RelayedHeader::parse(&[0xc0; 20]), Err(WireError::Kind(0xc0)));
    }
}
