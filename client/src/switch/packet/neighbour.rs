//! Neighbour discovery (RFC 4861 §4.3, §4.4): solicitations and advertisements.
//!
//! ```text
//! | type 1 (135 solicitation, 136 advertisement) | code 1 = 0 | checksum 2
//! | flags 3 bits (router, solicited, override), 29 bits | target 16 | options: type 1, length 1 (units of 8 bytes), …
//! ```

use super::ipv6::Ipv6;
use shadowmesh_proto::ids::MacAddr;
use std::net::Ipv6Addr;

pub(in crate::switch) const ROUTER_ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
pub(in crate::switch) const REDIRECT: u8 = 137;

/// Type, code, checksum, flags, target.
const HEAD: usize = 24;
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// A message that was routed is none (RFC 4861 §7.1).
const HOP_LIMIT: u8 = 255;

/// What is said of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::switch) struct Neighbour<'a> {
    pub(in crate::switch) is_solicitation: bool,
    /// The address that is asked for, or told of.
    pub(in crate::switch) target: Ipv6Addr,
    options: &'a [u8],
}

impl<'a> Neighbour<'a> {
    /// `None` for what is no solicitation or advertisement to anybody (RFC 4861 §7.1.1, §7.1.2). The checksum is not looked at,
    /// nor who says it: an advertisement is believed that comes from no address.
    pub(in crate::switch) fn parse(packet: &Ipv6<'a>) -> Option<Self> {
        let message = packet.icmp_unchecked()?;
        let is_solicitation = match *message.first()? {
            SOLICITATION => true,
            ADVERTISEMENT => false,
            _ => return None,
        };
        let target = Ipv6Addr::from(*message.get(8..)?.first_chunk::<16>()?);
        if packet.hop_limit != HOP_LIMIT || message.get(1) != Some(&0) || target.is_multicast() {
            return None;
        }
        Some(Self { is_solicitation, target, options: message.get(HEAD..)? })
    }

    /// The MACs that it names: of the sender of a solicitation, of the target of an advertisement. There may be several, and
    /// which of them counts receivers are not agreed on.
    pub(in crate::switch) fn macs(&self) -> impl Iterator<Item = MacAddr> + use<'a> {
        let wanted = if self.is_solicitation { OPTION_SOURCE } else { OPTION_TARGET };
        let mut options = self.options;
        std::iter::from_fn(move || {
            let units = usize::from(*options.get(1)?);
            let (option, rest) = options.split_at_checked(8 * units).filter(|_| units > 0)?;
            options = rest;
            Some(option)
        })
        .filter(move |option| option.first() == Some(&wanted))
        .filter_map(|option| option.get(2..)?.first_chunk().copied().map(MacAddr))
    }

    /// Whether it is a solicitation of `asker` that is to be answered: whoever has no address yet names no MAC (RFC 4861 §7.1.1).
    pub(in crate::switch) fn is_question(&self, asker: Ipv6Addr) -> bool {
        self.is_solicitation && !(asker.is_unspecified() && self.macs().next().is_some())
    }
}

/// The packet that tells whoever solicited `target` from `asker` that `owner` has it. `asker` is unspecified where somebody
/// wants to know whether the address is free: then everybody is told (RFC 4861 §7.2.4).
pub(in crate::switch) fn advertisement(asker: Ipv6Addr, target: Ipv6Addr, owner: MacAddr) -> [u8; 72] {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let (destination, flags) =
        if asker.is_unspecified() { (ALL_NODES, OVERRIDE) } else { (asker, SOLICITED | OVERRIDE) };
    let mut packet = [0; 72];
    let head: [&[u8]; 4] = [
        &[0x60, 0, 0, 0, 0, 32, 58, HOP_LIMIT],
        &target.octets(),
        &destination.octets(),
        &[ADVERTISEMENT, 0],
    ];
    let body: [&[u8]; 5] = [&[0, 0], &[flags, 0, 0, 0], &target.octets(), &[OPTION_TARGET, 1], &owner.0];
    let bytes = head.into_iter().chain(body).flatten();
    packet.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let (_, message) = packet.split_at(40);
    let pseudo = Ipv6::pseudo_header(target, destination, message.len(), super::PROTOCOL_ICMPV6);
    let sum = super::checksum(&[&pseudo, message]);
    if let Some(field) = packet.get_mut(42..44) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

#[cfg(test)]
pub(in crate::switch) mod tests {
    use super::super::ipv6::tests::icmp;
    use super::*;
    use proptest::prelude::*;

    pub(in crate::switch) const A: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    pub(in crate::switch) const B: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    /// The group that is asked for `target` (RFC 4291 §2.7.1).
    pub(in crate::switch) fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
        let [.., b, c, d] = target.octets();
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(b), u16::from_be_bytes([c, d]))
    }

    /// A solicitation; from nobody where somebody wants to know whether the address is free.
    pub(in crate::switch) fn solicitation(from: Ipv6Addr, target: Ipv6Addr, mac: MacAddr) -> Vec<u8> {
        let mut message = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
        if !from.is_unspecified() {
            message.extend([&[OPTION_SOURCE, 1][..], &mac.0].concat());
        }
        icmp(from, solicited_node(target), &message)
    }

    fn parse(packet: &[u8]) -> Option<Neighbour<'_>> {
        Neighbour::parse(&Ipv6::parse(packet)?)
    }

    #[test]
    fn a_solicitation_is_read_and_its_answer_is_valid() {
        let asked = solicitation(A, B, MAC);
        let asked = parse(&asked).unwrap();
        assert!(asked.is_question(A) && asked.target == B && asked.macs().eq([MAC]));
        let answer = advertisement(A, B, MAC);
        let told = parse(&answer).unwrap();
        assert!(!told.is_solicitation && told.target == B && told.macs().eq([MAC]));
        let read = Ipv6::parse(&answer).unwrap();
        assert_eq!((read.source, read.destination, read.hop_limit), (B, A, 255));
        assert_eq!(read.icmp().unwrap()[4], 0x60, "solicited, override, no router");
    }

    #[test]
    fn who_asks_without_an_address_is_answered_before_everybody() {
        let asked = solicitation(Ipv6Addr::UNSPECIFIED, B, MAC);
        assert_eq!(parse(&asked).unwrap().macs().next(), None);
        assert!(parse(&asked).unwrap().is_question(Ipv6Addr::UNSPECIFIED));
        let named = solicitation(A, B, MAC);
        assert!(
            !parse(&named).unwrap().is_question(Ipv6Addr::UNSPECIFIED),
            "who has no address names no MAC"
        );
        let answer = advertisement(Ipv6Addr::UNSPECIFIED, B, MAC);
        let read = Ipv6::parse(&answer).unwrap();
        assert_eq!(read.destination, "ff02::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(read.icmp().unwrap()[4], 0x20, "not solicited (RFC 4861 §7.2.5)");
    }

    #[test]
    fn what_somebody_might_believe_is_read() {
        let told = advertisement(A, B, MAC);
        let mut bent = told;
        bent[42] ^= 1;
        assert!(parse(&bent).is_some() && Ipv6::parse(&bent).unwrap().icmp().is_none(), "its checksum");
        let mut from_nobody = told;
        from_nobody[8..24].fill(0);
        assert!(parse(&from_nobody).is_some());
        let second = MacAddr([6; 6]);
        let more = [&told[40..], &[OPTION_SOURCE, 1, 4, 4, 4, 4, 4, 4, OPTION_TARGET, 1], &second.0].concat();
        let mut message = more;
        message[2..4].fill(0);
        let twice = icmp(B, A, &message);
        assert!(parse(&twice).unwrap().macs().eq([MAC, second]), "whichever counts");
    }

    #[test]
    fn what_is_not_valid_is_no_message() {
        let good = solicitation(A, B, MAC);
        let bent = |at: usize, value: u8| {
            let mut bent = good.clone();
            bent[at] = value;
            bent
        };
        assert!(parse(&good).is_some());
        assert_eq!(parse(&bent(7, 254)), None, "it was routed");
        let message = |bytes: &[u8]| icmp(A, solicited_node(B), bytes);
        let head = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &B.octets()].concat();
        assert!(parse(&message(&head)).is_some());
        for (option, what) in
            [([1, 0, 0, 0, 0, 0, 0, 0], "an empty option"), ([1, 2, 0, 0, 0, 0, 0, 0], "longer than it is")]
        {
            let odd = message(&[&head[..], &option].concat());
            assert_eq!(parse(&odd).unwrap().macs().next(), None, "{what}");
        }
        assert_eq!(parse(&message(&head[..23])), None, "cut");
        let group = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &solicited_node(B).octets()].concat();
        assert_eq!(parse(&message(&group)), None, "nobody is a group");
        let mut code = head.clone();
        code[1] = 1;
        assert_eq!(parse(&message(&code)), None, "code");
    }

    proptest! {
        #[test]
        fn other_bytes_are_read_or_refused(
            kind in 130u8..140,
            bytes in proptest::collection::vec(any::<u8>(), 3..80),
            asker: u128,
            target: u128,
        ) {
            let _ = parse(&icmp(A, B, &[&[kind], &bytes[..]].concat()));
            let answer = advertisement(Ipv6Addr::from(asker), Ipv6Addr::from(target), MAC);
            prop_assert!(Ipv6::parse(&answer).unwrap().icmp().is_some(), "the checksum is right");
        }
    }
}
