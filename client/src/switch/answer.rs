//! Questions for addresses, answered from the directory.
//!
//! What the answers say is what the member itself would say: its own MAC, from its own MAC. One question is left to it:
//! a member that may advertise itself as a router says itself whether it is one (the R flag; an advertisement without
//! it takes a router out of every list, RFC 4861 §7.2.5), so who solicits it is sent to it and to nobody else.

use super::directory::{Directory, Owner};
use super::frame::{EthernetHeader, is_tag};
use super::packet::arp::Arp;
use super::packet::ipv6::Ipv6;
use super::packet::neighbour::{Neighbour, advertisement};
use super::packet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, word};
use super::small_frame::SmallFrame;
use shadowmesh_proto::ids::{MacAddr, PeerSlot};
use std::net::{IpAddr, Ipv6Addr};

/// Tags that an answer has room for: a VLAN's, and a provider's around it.
const TAGS_MAX: usize = 2;

/// Who has this address?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Arp(Arp),
    Neighbour { asker: Ipv6Addr, target: Ipv6Addr },
}

/// What is known of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Nobody owns the address.
    Nobody,
    /// This node does.
    Ours,
    /// This member does, and this is what it would say.
    Answered(PeerSlot, SmallFrame),
    /// This member does, and has to say for itself.
    AskIt(PeerSlot),
}

impl Question {
    /// The question in a frame for a group. `None` for anything else: announcements among it, and what no kernel asks, behind
    /// more than [`TAGS_MAX`] or wrapped for other media, for an answer begins as its question does.
    pub(super) fn parse(header: &EthernetHeader, frame: &[u8]) -> Option<Self> {
        let (before, payload) = frame.split_at_checked(header.payload)?;
        let is_plain = word(before, 12).is_some_and(|first| first == header.ethertype || is_tag(first));
        if !is_plain || before.len() > 14 + 4 * TAGS_MAX {
            return None;
        }
        match header.ethertype {
            ETHERTYPE_ARP => Arp::parse(payload).filter(|arp| !arp.is_announcement()).map(Self::Arp),
            ETHERTYPE_IPV6 => {
                let packet = Ipv6::parse(payload)?;
                let said = Neighbour::parse(&packet).filter(|said| said.is_question(packet.source))?;
                packet.icmp().map(|_| Self::Neighbour { asker: packet.source, target: said.target })
            }
            _ => None,
        }
    }

    /// The address that is asked for.
    pub(super) const fn address(&self) -> IpAddr {
        match self {
            Self::Arp(arp) => IpAddr::V4(arp.target),
            Self::Neighbour { target, .. } => IpAddr::V6(*target),
        }
    }

    /// Whether somebody wants to know if the address is free.
    pub(super) fn is_probe(&self) -> bool {
        match self {
            Self::Arp(arp) => arp.is_probe(),
            Self::Neighbour { asker, .. } => asker.is_unspecified(),
        }
    }

    /// What the directory knows of it.
    pub(super) fn look_up(&self, directory: &Directory, header: &EthernetHeader, frame: &[u8]) -> Known {
        let slot = match directory.holder(self.address(), header.vlan) {
            Some(Owner::Local) => return Known::Ours,
            Some(Owner::Member(slot)) => slot,
            Some(Owner::Absent) | None => return Known::Nobody,
        };
        let Some(record) = directory.member(slot) else { return Known::Nobody };
        let is_router = record.rights.may_serve_dhcp && matches!(self, Self::Neighbour { .. });
        if is_router && !self.is_probe() {
            return Known::AskIt(slot);
        }
        Known::Answered(slot, self.answer(record.mac, header, frame))
    }

    /// The frame that answers the one that asked, with its tags: those of a priority.
    fn answer(&self, owner: MacAddr, header: &EthernetHeader, asked: &[u8]) -> SmallFrame {
        // Everything between the addresses and the payload: tags and ethertype.
        let between = asked.get(12..header.payload).unwrap_or_default();
        match self {
            Self::Arp(arp) => {
                let mut frame = SmallFrame::new(header.source, owner, between);
                frame.push(&arp.reply(owner));
                frame
            }
            Self::Neighbour { asker, target } => {
                // RFC 2464 §7: where ff02::1 is.
                const ALL_NODES: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
                let to = if asker.is_unspecified() { ALL_NODES } else { header.source };
                let mut frame = SmallFrame::new(to, owner, between);
                frame.push(&advertisement(*asker, *target, owner));
                frame
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::{Record, Rights};
    use super::super::packet::arp::tests::request;
    use super::super::packet::neighbour::tests::{A, B, solicitation, solicited_node};
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const MEMBER: PeerSlot = PeerSlot(3);
    const OWNER: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
    const ASKER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
    const EVERYONE: [u8; 6] = [0xff; 6];
    const WHO: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 9);
    const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 3);
    const OURS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);

    fn directory(may_serve_dhcp: bool) -> Directory {
        let mut directory = Directory::new(MacAddr([2, 0, 0, 0, 0, 1])).with_addresses(&[OURS.into()]);
        let rights = Rights { may_serve_dhcp, ..Rights::default() };
        let record = Record::new(OWNER).with_addresses(&[THEIRS.into(), B.into()]).with_rights(rights);
        directory.admit(MEMBER, record).unwrap();
        directory
    }

    fn arp(between: &[u8], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        [&EVERYONE[..], &ASKER.0, between, &request(ASKER, sender, target)].concat()
    }

    fn solicit(between: &[u8], from: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
        let [.., a, b, c, d] = solicited_node(target).octets();
        [&[0x33, 0x33, a, b, c, d], &ASKER.0[..], between, &solicitation(from, target, ASKER)].concat()
    }

    fn header(frame: &[u8]) -> EthernetHeader {
        EthernetHeader::parse(frame).unwrap()
    }

    fn look_up(frame: &[u8], may_serve_dhcp: bool) -> Option<Known> {
        let header = header(frame);
        Some(Question::parse(&header, frame)?.look_up(&directory(may_serve_dhcp), &header, frame))
    }

    fn answered(frame: &[u8]) -> Vec<u8> {
        match look_up(frame, false) {
            Some(Known::Answered(MEMBER, answer)) => answer.as_bytes().to_vec(),
            other => panic!("not answered: {other:?}"),
        }
    }

    /// The tags that a question may come behind, of priorities, and its ethertype.
    fn between(ethertype: u16) -> [Vec<u8>; 3] {
        let [a, b] = ethertype.to_be_bytes();
        let (tag, outer) = ([0x81, 0, 0x60, 0], [0x88, 0xa8, 0, 0]);
        [vec![a, b], [&tag[..], &[a, b]].concat(), [&outer[..], &tag, &[a, b]].concat()]
    }

    #[test]
    fn arp_is_answered_as_the_member_would() {
        for between in between(ETHERTYPE_ARP) {
            let answer = answered(&arp(&between, WHO, THEIRS));
            let header = header(&answer);
            assert_eq!((header.destination, header.source), (ASKER, OWNER));
            assert_eq!(answer[12..header.payload], between, "the same tags");
            let said = Arp::parse(&answer[header.payload..]).unwrap();
            assert_eq!((said.sender_mac, said.sender, said.target), (OWNER, THEIRS, WHO));
            assert!(!said.is_request && answer.len() >= 60);
        }
    }

    #[test]
    fn solicitations_are_answered_as_the_member_would() {
        for between in between(ETHERTYPE_IPV6) {
            let answer = answered(&solicit(&between, A, B));
            let header = header(&answer);
            assert_eq!((header.destination, header.source), (ASKER, OWNER));
            assert_eq!(answer[12..header.payload], between);
            let packet = Ipv6::parse(&answer[header.payload..]).unwrap();
            assert_eq!((packet.source, packet.destination), (B, A));
            let said = Neighbour::parse(&packet).expect("an advertisement");
            assert!(!said.is_solicitation && said.target == B && said.macs().eq([OWNER]));
            assert!(packet.icmp().is_some(), "valid, with its checksum");
        }
    }

    #[test]
    fn whoever_wants_to_know_whether_an_address_is_free_is_told_that_it_is_not() {
        let [plain, ..] = between(ETHERTYPE_ARP);
        let answer = answered(&arp(&plain, Ipv4Addr::UNSPECIFIED, THEIRS));
        assert_eq!(Arp::parse(&answer[14..]).unwrap().sender, THEIRS);
        let [plain, ..] = between(ETHERTYPE_IPV6);
        let probe = solicit(&plain, Ipv6Addr::UNSPECIFIED, B);
        let answer = answered(&probe);
        assert_eq!(answer[..6], [0x33, 0x33, 0, 0, 0, 1], "to all, for the asker has no address");
        assert!(matches!(look_up(&probe, true), Some(Known::Answered(..))), "a router's as well");
    }

    #[test]
    fn a_router_says_for_itself_that_it_is_one() {
        let [plain, ..] = between(ETHERTYPE_IPV6);
        assert_eq!(look_up(&solicit(&plain, A, B), true), Some(Known::AskIt(MEMBER)));
        let [plain, ..] = between(ETHERTYPE_ARP);
        assert!(matches!(look_up(&arp(&plain, WHO, THEIRS), true), Some(Known::Answered(..))));
    }

    #[test]
    fn what_is_ours_nobodys_or_no_question_is_not_answered() {
        let [plain, ..] = between(ETHERTYPE_ARP);
        assert_eq!(look_up(&arp(&plain, WHO, OURS), false), Some(Known::Ours));
        assert_eq!(look_up(&arp(&plain, WHO, Ipv4Addr::new(10, 7, 0, 77)), false), Some(Known::Nobody));
        assert_eq!(look_up(&arp(&plain, THEIRS, THEIRS), false), None, "an announcement");
        let [plain, ..] = between(ETHERTYPE_IPV6);
        assert_eq!(look_up(&solicit(&plain, A, A), false), Some(Known::Nobody));
        let told = advertisement(A, B, OWNER);
        let frame = [&EVERYONE[..], &ASKER.0, &plain, &told].concat();
        assert_eq!(look_up(&frame, false), None, "an answer");
    }

    #[test]
    fn a_vlan_is_another_segment() {
        for vlan in [[0x81, 0, 0, 42, 8, 6].to_vec(), [0x81, 0, 0, 0, 0x81, 0, 0, 42, 8, 6].to_vec()] {
            assert_eq!(look_up(&arp(&vlan, WHO, THEIRS), false), Some(Known::Nobody));
            assert_eq!(look_up(&arp(&vlan, WHO, OURS), false), Some(Known::Nobody));
        }
    }

    #[test]
    fn what_could_not_be_answered_in_kind_is_no_question() {
        let wrapped = [0, 36, 0xaa, 0xaa, 3, 0, 0, 0, 8, 6];
        assert_eq!(look_up(&arp(&wrapped, WHO, THEIRS), false), None);
        let tagged = [[0x81, 0, 0, 0, 0x81, 0, 0, 0, 0x81, 0, 0, 0].as_slice(), &[8, 6]].concat();
        assert_eq!(look_up(&arp(&tagged, WHO, THEIRS), false), None);
    }

    proptest! {
        #[test]
        fn other_frames_are_no_questions(bytes in proptest::collection::vec(any::<u8>(), 14..120), arp: bool, at in 0usize..60, bit in 0u8..8) {
            let mut bytes = bytes;
            let kind = if arp { ETHERTYPE_ARP } else { ETHERTYPE_IPV6 };
            bytes[12..14].copy_from_slice(&kind.to_be_bytes());
            let _ = look_up(&bytes, false);
            let [plain, ..] = between(ETHERTYPE_IPV6);
            let mut bent = solicit(&plain, A, B);
            bent[14 + at] ^= 1 << bit;
            if let Some(Known::Answered(_, answer)) = look_up(&bent, false) {
                prop_assert!((60..=96).contains(&answer.as_bytes().len()));
            }
        }
    }
}
