//! The virtio network header that precedes each frame on the device.
//!
//! ```text
//! offset  size
//!      0     1  flags        1 NEEDS_CSUM: checksum field holds the pseudo-header sum only
//!                            2 DATA_VALID: the kernel has verified the checksums
//!      1     1  gso_type     0 none, 1 TCPv4, 3 UDP (fragments), 4 TCPv6, 5 UDP (segments);
//!                            bit 7: the first segment has CWR set
//!      2     2  hdr_len      bytes of headers, of a frame to be segmented
//!      4     2  gso_size     payload bytes of each segment
//!      6     2  csum_start   where the checksummed part begins, from the start of the frame
//!      8     2  csum_offset  where its checksum field is, from csum_start
//! ```
//!
//! Numbers are in the byte order of the machine, which is what a TAP uses unless told otherwise
//! (`TUNSETVNETLE`). The layout is `struct virtio_net_hdr` (virtio 1.2, 5.1.6; `linux/virtio_net.h`) without
//! the receive-buffer count, because the default `TUNSETVNETHDRSZ` is 10.

/// What the kernel, or we, left undone on a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    /// Raw flags; see [`Self::needs_checksum`].
    pub flags: u8,
    /// Raw segmentation type; see [`Self::segmentation`].
    pub gso_type: u8,
    /// Length of all headers in bytes, where the frame is to be segmented. A hint, not to be relied on.
    pub header_len: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// First checksummed byte, counted from the start of the frame.
    pub checksum_start: u16,
    /// The checksum field, counted from `checksum_start`.
    pub checksum_offset: u16,
}

/// How a frame larger than the MTU is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segmentation {
    /// Not at all: it is one frame.
    None,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams of one size, each with its own UDP header (`UDP_L4`).
    Udp,
    /// Something this program never asked for.
    Other(u8),
}

impl VnetHeader {
    /// Bytes in front of a frame.
    pub const LEN: usize = 10;
    /// Of `flags`: the checksum field holds the pseudo-header's sum.
    pub const NEEDS_CHECKSUM: u8 = 1;
    /// Of `gso_type`: TCP over IPv4.
    pub const GSO_TCP_V4: u8 = 1;
    /// TCP over IPv6.
    pub const GSO_TCP_V6: u8 = 4;
    /// UDP datagrams of one size.
    pub const GSO_UDP: u8 = 5;
    /// The first segment has CWR set.
    pub const GSO_ECN: u8 = 0x80;

    /// The header of a frame that is complete: nothing to checksum, nothing to cut.
    pub const COMPLETE: Self =
        Self { flags: 0, gso_type: 0, header_len: 0, gso_size: 0, checksum_start: 0, checksum_offset: 0 };

    /// Splits a packet into header and frame; `None` when it is shorter than a header.
    pub fn split(packet: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (header, frame) = packet.split_first_chunk_mut::<{ Self::LEN }>()?;
        Some((Self::parse(header), frame))
    }

    /// Reads a header. Every value is a header.
    pub const fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *bytes;
        Self {
            flags,
            gso_type,
            header_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            checksum_start: u16::from_ne_bytes([s0, s1]),
            checksum_offset: u16::from_ne_bytes([o0, o1]),
        }
    }

    /// Its bytes, as the kernel reads them.
    pub const fn emit(&self) -> [u8; Self::LEN] {
        let [h0, h1] = self.header_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.checksum_start.to_ne_bytes();
        let [o0, o1] = self.checksum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    /// Whether the checksum field holds only the pseudo-header sum and must be completed before the frame
    /// leaves the machine.
    pub const fn needs_checksum(&self) -> bool {
        self.flags & Self::NEEDS_CHECKSUM != 0
    }

    /// How the frame is to be cut.
    pub const fn segmentation(&self) -> Segmentation {
        match self.gso_type & !Self::GSO_ECN {
            0 => Segmentation::None,
            Self::GSO_TCP_V4 => Segmentation::TcpV4,
            Self::GSO_TCP_V6 => Segmentation::TcpV6,
            Self::GSO_UDP => Segmentation::Udp,
            other => Segmentation::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_ten_bytes_are_a_header_and_come_back(bytes: [u8; VnetHeader::LEN]) {
            prop_assert_eq!(VnetHeader::parse(&bytes).emit(), bytes);
        }

        #[test]
        fn splitting_takes_exactly_the_header(mut packet in proptest::collection::vec(any::<u8>(), 0..64)) {
            let whole = packet.clone();
            match VnetHeader::split(&mut packet) {
                None => prop_assert!(whole.len() < VnetHeader::LEN),
                Some((header, frame)) => {
                    prop_assert_eq!(&header.emit()[..], &whole[..VnetHeader::LEN]);
                    prop_assert_eq!(&*frame, &whole[VnetHeader::LEN..]);
                }
            }
        }
    }

    #[test]
    fn the_layout_is_the_kernels() {
        let header = VnetHeader {
            flags: 1,
            gso_type: 0x84,
            header_len: 74,
            gso_size: 1348,
            checksum_start: 54,
            checksum_offset: 16,
        };
        let mut expected = vec![1, 0x84];
        for number in [74u16, 1348, 54, 16] {
            expected.extend(number.to_ne_bytes());
        }
        assert_eq!(header.emit()[..], expected[..]);
        assert!(header.needs_checksum());
        assert_eq!(header.segmentation(), Segmentation::TcpV6);
        assert!(!VnetHeader::COMPLETE.needs_checksum());
        assert_eq!(VnetHeader::COMPLETE.segmentation(), Segmentation::None);
    }
}
