//! The clear part of a transport packet (protocol §5).
//!
//! ```text
//!  0       1       2               4               8                               16
//!  +-------+-------+---------------+---------------+-------------------------------+----------------+
//!  | type  | flags |   reserved    | receiver index|            counter            | ciphertext ‖ tag
//!  +-------+-------+---------------+---------------+-------------------------------+----------------+
//! ```
//!
//! All 16 bytes are associated data. The top two bits of the type are 11, which no STUN message has (RFC 8489 §5), so one
//! socket can carry both. Flags and reserved are zero in version 1; anything else is refused, to keep them usable later.

use crate::ids::ReceiverIndex;
use crate::wire::codec::WireError;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the clear header.
pub const HEADER_LEN: usize = 16;
/// Bytes of the authentication tag at the end of every transport packet.
pub const TAG_LEN: usize = 16;
/// Bytes of metadata before the Ethernet frame in a DATA plaintext.
pub const META_LEN: usize = 1;
/// What a DATA packet adds to an Ethernet frame.
pub const DATA_OVERHEAD: usize = HEADER_LEN + META_LEN + TAG_LEN;

/// The kinds of transport packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// An Ethernet frame, sealed under a data key.
    Data = 0xc0,
    /// A control body, sealed under a control key.
    Control = 0xc1,
    /// Part of the ciphertext of a DATA packet too big for its path.
    Fragment = 0xc2,
}

impl PacketType {
    /// The kind that `byte` names.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0xc0 => Some(Self::Data),
            0xc1 => Some(Self::Control),
            0xc2 => Some(Self::Fragment),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    kind: u8,
    flags: u8,
    reserved: U16,
    receiver: U32,
    counter: U64,
}

/// A parsed clear header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: PacketType,
    /// Which key of the receiver opens it.
    pub receiver: ReceiverIndex,
    /// Position in its direction's sequence; the AEAD nonce.
    pub counter: u64,
}

impl Header {
    /// Reads the header at the front of `packet`.
    ///
    /// # Errors
    /// `Truncated` under 16 bytes, `Kind` for an unknown type, `Value` when flags or reserved are not zero.
    pub fn parse(packet: &[u8]) -> Result<Self, WireError> {
        let (raw, _) = Raw::ref_from_prefix(packet).map_err(|_| WireError::Truncated)?;
        let kind = PacketType::from_byte(raw.kind).ok_or(WireError::Kind(raw.kind))?;
        if raw.flags != 0 || raw.reserved.get() != 0 {
            return Err(WireError::Value("header flags"));
        }
        Ok(Self { kind, receiver: ReceiverIndex(raw.receiver.get()), counter: raw.counter.get() })
    }

    /// The 16 bytes, which are also the associated data.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let raw = Raw {
            kind: self.kind as u8,
            flags: 0,
            reserved: U16::ZERO,
            receiver: U32::new(self.receiver.0),
            counter: U64::new(self.counter),
        };
        zerocopy::transmute!(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(kind in prop::sample::select(vec![PacketType::Data, PacketType::Control, PacketType::Fragment]),
                      receiver: u32, counter: u64) {
            let header = Header { kind, receiver: ReceiverIndex(receiver), counter };
            prop_assert_eq!(Header::parse(&header.to_bytes()), Ok(header));
        }

        #[test]
        fn any_bytes_give_a_value_that_writes_itself_back(bytes: Vec<u8>) {
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert_eq!(&header.to_bytes()[..], &bytes[..HEADER_LEN]);
            }
        }
    }

    #[test]
    fn layout_is_as_drawn() {
        let header = Header {
            kind: PacketType::Data,
            receiver: ReceiverIndex(0x0102_0304),
            counter: 0x0506_0708_090a_0b0c,
        };
        assert_eq!(header.to_bytes(), [0xc0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    }

    #[test]
    fn nothing_with_a_flag_or_short_is_read() {
        let good = Header { kind: PacketType::Data, receiver: ReceiverIndex(1), counter: 2 }.to_bytes();
        for at in 1..4 {
            let mut bad = good;
            bad[at] = 1;
            assert_eq!(Header::parse(&bad), Err(WireError::Value("header flags")));
        }
        assert_eq!(Header::parse(&good[..15]), Err(WireError::Truncated));
        assert_eq!(Header::parse(&[0x01; 16]), Err(WireError::Kind(0x01)));
    }
}
