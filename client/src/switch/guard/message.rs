//! What guards say to each other, on the LANs behind their devices and inside sessions (protocol §5.6).
//!
//! ```text
//! | destination 6 | source 6 | VLAN tag, if any | 0x88b6 | "SMLG" | version 1 = 1 | kind 1 | blocked 1 | 0
//! | origin's MAC 6 | nonce 16 | zeros up to 60 bytes
//! kind: 1 probe, 2 echo, 3 yield
//! ```
//!
//! The EtherType is one for local experiments (IEEE 802, number 2); a frame of it that does not begin like that is
//! somebody else's and passes as any other.

use crate::switch::frame::EthernetHeader;
use crate::switch::small_frame::SmallFrame;
use shadowmesh_proto::ids::MacAddr;

const ETHERTYPE: u16 = 0x88b6;
const TAG_CUSTOMER: u16 = 0x8100;
const MAGIC: [u8; 4] = *b"SMLG";
const VERSION: u8 = 1;
/// A group of nobody's (locally administered), which every bridge floods.
const EVERY_BRIDGE: MacAddr = MacAddr([0x03, 0x53, 0x4d, 0x4c, 0x47, 0x01]);
/// What makes another MAC of a node's own. A bridge that hears its own address from outside complains.
const NOT_OWN: u8 = 0x04;

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::switch) enum Kind {
    /// On the LAN behind a device: who hears this?
    Probe,
    /// To the origin, inside a session: I do.
    Echo,
    /// Of the origin, inside a session: then we two bridge one LAN, and it is you who gives way.
    Yield,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::switch) struct Message {
    pub(in crate::switch) kind: Kind,
    /// Whether whoever says this passes nothing on that is for all.
    pub(in crate::switch) is_blocked: bool,
    /// Whose probe it is about.
    pub(in crate::switch) origin: MacAddr,
    /// Drawn for that probe.
    pub(in crate::switch) nonce: [u8; 16],
}

impl Message {
    /// `None` for every other frame.
    pub(in crate::switch) fn parse(header: &EthernetHeader, frame: &[u8]) -> Option<Self> {
        if header.ethertype != ETHERTYPE {
            return None;
        }
        let (magic, rest) = frame.get(header.payload..)?.split_first_chunk::<4>()?;
        let (head, rest) = rest.split_first_chunk::<4>()?;
        let (origin, rest) = rest.split_first_chunk::<6>()?;
        let nonce = *rest.first_chunk::<16>()?;
        let [version, kind, blocked, _] = *head;
        let kind = match kind {
            1 => Kind::Probe,
            2 => Kind::Echo,
            3 => Kind::Yield,
            _ => return None,
        };
        let is_ours = *magic == MAGIC && version == VERSION;
        is_ours.then_some(Self { kind, is_blocked: blocked != 0, origin: MacAddr(*origin), nonce })
    }

    /// As a frame for the LAN behind the origin's device.
    pub(in crate::switch) fn on_lan(&self, vlan: u16) -> SmallFrame {
        let MacAddr([first, b, c, d, e, f]) = self.origin;
        let source = MacAddr([first ^ NOT_OWN, b, c, d, e, f]);
        let ([t0, t1], [v0, v1], [e0, e1]) =
            (TAG_CUSTOMER.to_be_bytes(), vlan.to_be_bytes(), ETHERTYPE.to_be_bytes());
        let tagged = [t0, t1, v0, v1, e0, e1];
        let between = if vlan == 0 { tagged.get(4..) } else { Some(&tagged[..]) };
        self.emit(SmallFrame::new(EVERY_BRIDGE, source, between.unwrap_or_default()))
    }

    /// As a frame for the node with this MAC, from that with the other.
    pub(in crate::switch) fn to_node(self, to: MacAddr, from: MacAddr) -> SmallFrame {
        self.emit(SmallFrame::new(to, from, &ETHERTYPE.to_be_bytes()))
    }

    fn emit(&self, mut frame: SmallFrame) -> SmallFrame {
        let kind = match self.kind {
            Kind::Probe => 1,
            Kind::Echo => 2,
            Kind::Yield => 3,
        };
        frame.push(&MAGIC);
        frame.push(&[VERSION, kind, u8::from(self.is_blocked), 0]);
        frame.push(&self.origin.0);
        frame.push(&self.nonce);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ORIGIN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn read(frame: &[u8]) -> Option<Message> {
        Message::parse(&EthernetHeader::parse(frame)?, frame)
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(kind in 0usize..3, is_blocked: bool, nonce: [u8; 16], vlan in 0u16..4_095) {
            let kind = [Kind::Probe, Kind::Echo, Kind::Yield][kind];
            let message = Message { kind, is_blocked, origin: ORIGIN, nonce };
            let on_lan = message.on_lan(vlan);
            prop_assert_eq!(read(on_lan.as_bytes()), Some(message));
            let header = EthernetHeader::parse(on_lan.as_bytes()).unwrap();
            prop_assert_eq!((header.vlan, header.destination), (vlan, EVERY_BRIDGE));
            prop_assert_ne!(header.source, ORIGIN);
            prop_assert_eq!(header.source.0[0] & 3, 2, "local, and of one station");
            let to_node = message.to_node(MacAddr([2; 6]), ORIGIN);
            prop_assert_eq!(read(to_node.as_bytes()), Some(message));
            prop_assert_eq!(to_node.as_bytes().len(), 60);
        }

        #[test]
        fn other_frames_are_none(bytes in proptest::collection::vec(any::<u8>(), 0..70), at in 12usize..44, cut in 0usize..44) {
            let _ = read(&bytes);
            let message = Message { kind: Kind::Echo, is_blocked: false, origin: ORIGIN, nonce: [7; 16] };
            let frame = message.to_node(MacAddr([2; 6]), ORIGIN);
            prop_assert_eq!(read(&frame.as_bytes()[..cut]), None);
            let mut bent = frame.as_bytes().to_vec();
            bent[at] ^= 0x40;
            prop_assert_ne!(read(&bent), Some(message).filter(|_| at != 21 && at != 20));
        }
    }
}
