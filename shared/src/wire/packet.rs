//! What a peer packet is, told by its first byte, and the clear part of handshake packets (protocol §4.4, §5).
//!
//! ```text
//!  INIT      0xc8, version u8, reserved u16, sender index u32, noise message 1, mac1 16 B
//!  RESPONSE  0xc9, version u8, reserved u16, sender index u32, receiver index u32, noise message 2
//! ```

use crate::ids::ReceiverIndex;
use crate::wire::codec::{Reader, WireError};
use crate::wire::header::PacketType;

/// The form of the messages by which versions of the protocol are agreed on: one, for all versions so far (protocol §1.7).
pub const VERSION: u8 = 1;
/// Type byte of a first handshake message.
pub const INIT: u8 = 0xc8;
/// Type byte of the answer to one.
pub const RESPONSE: u8 = 0xc9;
/// Bytes of mac1 at the end of INIT.
pub const MAC1_LEN: usize = 16;
/// No packet between peers is longer: a FORWARD message holds at least one whole packet (protocol §3).
pub const MAX_PACKET: usize = 65_000;

/// The kinds of packet that pass between peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// Belongs to a session.
    Transport(PacketType),
    /// First message of a handshake.
    Init,
    /// Second message of a handshake.
    Response,
}

impl PacketKind {
    /// The kind of `packet`, or `None` when no such kind exists.
    pub fn of(packet: &[u8]) -> Option<Self> {
        match *packet.first()? {
            INIT => Some(Self::Init),
            RESPONSE => Some(Self::Response),
            byte => PacketType::from_byte(byte).map(Self::Transport),
        }
    }
}

/// A parsed INIT. `authenticated` is everything that mac1 covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init<'a> {
    /// The initiator's receiver index for the new keys.
    pub sender: ReceiverIndex,
    /// Noise message 1.
    pub noise: &'a [u8],
    /// All bytes before mac1.
    pub authenticated: &'a [u8],
    /// The mac over `authenticated`.
    pub mac1: [u8; MAC1_LEN],
}

/// A parsed RESPONSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// The responder's receiver index for the new keys.
    pub sender: ReceiverIndex,
    /// The initiator's, from its INIT.
    pub receiver: ReceiverIndex,
    /// Noise message 2.
    pub noise: &'a [u8],
}

fn prefix(reader: &mut Reader<'_>, kind: u8) -> Result<(), WireError> {
    match reader.u8()? {
        byte if byte == kind => {}
        byte => return Err(WireError::Kind(byte)),
    }
    match reader.u8()? {
        VERSION => {}
        version => return Err(WireError::Version(version)),
    }
    match reader.u16()? {
        0 => Ok(()),
        _ => Err(WireError::Value("reserved")),
    }
}

fn write_prefix(kind: u8) -> Vec<u8> {
    vec![kind, VERSION, 0, 0]
}

impl<'a> Init<'a> {
    /// Splits an INIT packet. Checks layout only, no mac.
    ///
    /// # Errors
    /// `Kind`, `Version`, `Value` or `Truncated` as the clear part says.
    pub fn parse(packet: &'a [u8]) -> Result<Self, WireError> {
        let (authenticated, mac1) = packet.split_last_chunk::<MAC1_LEN>().ok_or(WireError::Truncated)?;
        let mut reader = Reader::new(authenticated);
        prefix(&mut reader, INIT)?;
        let sender = ReceiverIndex(reader.u32()?);
        Ok(Self { sender, noise: reader.rest(), authenticated, mac1: *mac1 })
    }

    /// An INIT up to but without its mac1.
    pub fn write_without_mac(sender: ReceiverIndex, noise: &[u8]) -> Vec<u8> {
        let mut packet = write_prefix(INIT);
        packet.extend_from_slice(&sender.0.to_be_bytes());
        packet.extend_from_slice(noise);
        packet
    }
}

impl<'a> Response<'a> {
    /// Splits a RESPONSE packet.
    ///
    /// # Errors
    /// `Kind`, `Version`, `Value` or `Truncated` as the clear part says.
    pub fn parse(packet: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(packet);
        prefix(&mut reader, RESPONSE)?;
        let sender = ReceiverIndex(reader.u32()?);
        let receiver = ReceiverIndex(reader.u32()?);
        Ok(Self { sender, receiver, noise: reader.rest() })
    }

    /// The bytes of a RESPONSE.
    pub fn write(sender: ReceiverIndex, receiver: ReceiverIndex, noise: &[u8]) -> Vec<u8> {
        let mut packet = write_prefix(RESPONSE);
        packet.extend_from_slice(&sender.0.to_be_bytes());
        packet.extend_from_slice(&receiver.0.to_be_bytes());
        packet.extend_from_slice(noise);
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn init_round_trip(sender: u32, noise: Vec<u8>, mac1: [u8; MAC1_LEN]) {
            let mut packet = Init::write_without_mac(ReceiverIndex(sender), &noise);
            let covered = packet.clone();
            packet.extend_from_slice(&mac1);
            let parsed = Init::parse(&packet).unwrap();
            prop_assert_eq!(parsed, Init { sender: ReceiverIndex(sender), noise: &noise, authenticated: &covered, mac1 });
        }

        #[test]
        fn response_round_trip(sender: u32, receiver: u32, noise: Vec<u8>) {
            let (sender, receiver) = (ReceiverIndex(sender), ReceiverIndex(receiver));
            let packet = Response::write(sender, receiver, &noise);
            prop_assert_eq!(Response::parse(&packet), Ok(Response { sender, receiver, noise: &noise }));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            // Reaching the end is the property: no input panics.
            let _ = (PacketKind::of(&bytes), Init::parse(&bytes), Response::parse(&bytes));
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut packet = Response::write(ReceiverIndex(1), ReceiverIndex(2), &[]);
        packet[1] = 2;
        assert_eq!(Response::parse(&packet), Err(WireError::Version(2)));
    }
}
