//! Frames are read as what they were made of, and any bytes as something.

use super::super::limits::EXTENSION_HEADERS;
use super::super::packet::{Content, Datagram, Packet, Part};
use super::crafted::{ACK, FIN, Ip, RST, SYN, ethernet, icmp, icmp_error, other, tcp, udp, v4, v6};
use proptest::prelude::*;

#[track_caller]
fn datagram(frame: &[u8]) -> Datagram<'_> {
    let read = Packet::read(frame);
    let Packet::Ip(datagram) = read else { panic!("{read:?}") };
    datagram
}

#[test]
fn what_is_not_ip_is_told_by_its_type() {
    assert_eq!(Packet::read(&other(0x0806, &[0; 28])), Packet::Arp);
    assert_eq!(Packet::read(&other(0x0806, &[])), Packet::Arp, "its receiver judges what is in it");
    assert_eq!(Packet::read(&other(0x88cc, &[1])), Packet::Topology(0x88cc));
    assert_eq!(Packet::read(&other(38, &[0x42, 0x42, 3, 0])), Packet::Topology(38));
    assert_eq!(Packet::read(&other(38, &[0x42, 0x42])), Packet::Other(38));
    assert_eq!(Packet::read(&other(38, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0])), Packet::Other(38), "SNAP");
    assert_eq!(Packet::read(&other(0x0600, &[0x42, 0x42, 3])), Packet::Other(0x0600));
    assert_eq!(Packet::read(&other(0x8863, &[])), Packet::Other(0x8863));
    let to = [1, 0x80, 0xc2, 0, 0, 0];
    assert_eq!(Packet::read(&ethernet(to, &[(0x8100, 7)], 0x88cc, &[])), Packet::Topology(0x88cc));
    let third = ethernet(to, &[(0x88a8, 1), (0x8100, 2), (0x8100, 3)], 0x0800, &[]);
    assert_eq!(Packet::read(&third), Packet::Other(0x8100), "a third tag");
    let cut = ethernet(to, &[(0x8100, 0)], 0x8100, &[0]);
    assert_eq!(Packet::read(&cut), Packet::Malformed, "it ends in a tag");
    assert_eq!(Packet::read(&[0; 13]), Packet::Malformed);
}

#[test]
fn a_header_that_contradicts_itself_is_malformed() {
    let good = Ip::sent(false, 6, tcp(1, 2, SYN)).frame();
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        bad
    };
    for (frame, why) in [
        (with(14, 0x55), "version 5"),
        (with(14, 0x65), "IPv6 in a frame for IPv4"),
        (with(14, 0x44), "a header of 16 bytes"),
        (with(14, 0x4f), "a header longer than the packet"),
        (with(17, 19), "a packet shorter than its header"),
        (with(17, 41), "a packet longer than the frame"),
        (other(0x86dd, &good[14..]), "IPv4 in a frame for IPv6"),
        (other(0x0800, &[]), "nothing"),
        (other(0x0800, &[0x45; 19]), "19 bytes"),
        (other(0x86dd, &[0x60; 39]), "39 bytes"),
    ] {
        assert_eq!(Packet::read(&frame), Packet::Malformed, "{why}");
    }
    assert!(matches!(Packet::read(&good), Packet::Ip(_)));
    let mut six = Ip::sent(true, 6, tcp(1, 2, SYN)).frame();
    six[14 + 5] += 1;
    assert_eq!(Packet::read(&six), Packet::Malformed, "IPv6 that ends early");
    six[14 + 5] = 0;
    assert_eq!(datagram(&six).content, Content::Unreadable, "a jumbogram, or nothing");
}

#[test]
fn headers_that_end_early_are_unreadable() {
    for (protocol, payload, whole) in [(6, tcp(1, 2, ACK), 20), (17, udp(1, 2), 8), (1, icmp(8, 7), 8)] {
        for len in 0..payload.len() {
            let frame = Ip::sent(false, protocol, payload[..len].to_vec()).frame();
            let is_unreadable = datagram(&frame).content == Content::Unreadable;
            assert_eq!(is_unreadable, len < whole, "{len} of protocol {protocol}");
        }
    }
    let of_other_family = Ip::sent(true, 1, vec![]).frame();
    assert_eq!(datagram(&of_other_family).content, Content::Plain, "ICMP of IPv4 is nothing in IPv6");
}

#[test]
fn icmp_is_told_by_its_type() {
    let content = |is_v6, kind| {
        let frame = Ip::received(is_v6, if is_v6 { 58 } else { 1 }, icmp(kind, 0x0102)).frame();
        let Packet::Ip(datagram) = Packet::read(&frame) else { panic!("{frame:?}") };
        match datagram.content {
            Content::EchoRequest { id: 0x0102 } => "request",
            Content::EchoReply { id: 0x0102 } => "reply",
            Content::IcmpError { quoted: b"data" } => "error",
            Content::NeighbourDiscovery => "neighbour",
            Content::Router => "router",
            Content::Plain => "plain",
            other @ (Content::Tcp { .. }
            | Content::Udp { .. }
            | Content::EchoRequest { .. }
            | Content::EchoReply { .. }
            | Content::IcmpError { .. }
            | Content::Unreadable) => panic!("{other:?}"),
        }
    };
    for kind in 0..=255 {
        let (four, six) = (content(false, kind), content(true, kind));
        let expected_four = match kind {
            8 => "request",
            0 => "reply",
            3 | 4 | 11 | 12 => "error",
            _ => "plain",
        };
        let expected_six = match kind {
            128 => "request",
            129 => "reply",
            1..=4 => "error",
            133 | 135 | 136 => "neighbour",
            134 | 137 => "router",
            _ => "plain",
        };
        assert_eq!((four, six), (expected_four, expected_six), "{kind}");
    }
}

#[test]
fn extension_headers_are_walked_up_to_a_bound() {
    let with = |count: usize| {
        let extensions = vec![(60, 0); count];
        Ip { extensions, ..Ip::sent(true, 17, udp(5, 6)) }.frame()
    };
    let frame = with(EXTENSION_HEADERS);
    assert_eq!(datagram(&frame).content, Content::Udp { source: 5, destination: 6 });
    assert_eq!(Packet::read(&with(EXTENSION_HEADERS + 1)), Packet::Malformed);
    // ESP, AH, no next header: what they are.
    for protocol in [50, 51, 59, 135] {
        let frame = Ip::sent(true, protocol, vec![17, 0, 0, 0, 0, 0, 0, 0]).frame();
        assert_eq!((datagram(&frame).protocol, datagram(&frame).content), (protocol, Content::Plain));
    }
    // One that is longer than the packet.
    let long = Ip { extensions: vec![(0, 3)], ..Ip::sent(true, 59, vec![]) };
    assert!(matches!(Packet::read(&long.frame()), Packet::Ip(_)));
    let mut cut = long.frame();
    cut[14 + 41] = 4;
    assert_eq!(Packet::read(&cut), Packet::Malformed);
}

#[test]
fn fragments_are_told_by_their_place() {
    for is_v6 in [false, true] {
        let of = |id, offset, more| {
            let frame = Ip::sent(is_v6, 17, udp(5, 6)).fragment(id, offset, more).frame();
            let read = datagram(&frame);
            (read.part, read.protocol, matches!(read.content, Content::Udp { source: 5, destination: 6 }))
        };
        assert_eq!(of(7, 0, true), (Part::First { id: 7 }, 17, true));
        assert_eq!(of(7, 1, true), (Part::Later { id: 7, offset: 8 }, 17, false));
        assert_eq!(of(7, 0x1fff, false), (Part::Later { id: 7, offset: 0xfff8 }, 17, false));
        assert_eq!(of(7, 0, false), (Part::Whole, 17, true), "all of its packet");
    }
    // What RFC 6980 forbids in fragments, and errors.
    for (is_v6, kind, expected) in [
        (true, 135, Content::Unreadable),
        (true, 134, Content::Unreadable),
        (true, 1, Content::Plain),
        (false, 3, Content::Plain),
    ] {
        let protocol = if is_v6 { 58 } else { 1 };
        let frame = Ip::received(is_v6, protocol, icmp(kind, 0)).fragment(1, 0, true).frame();
        assert_eq!(datagram(&frame).content, expected, "{kind}");
    }
    // Further headers behind the fragment header, and a second one of it.
    for next in [0, 43, 44, 60] {
        for offset in [0, 1] {
            let frame = Ip::sent(true, next, vec![17; 24]).fragment(1, offset, true).frame();
            assert_eq!(Packet::read(&frame), Packet::Malformed, "{next} at {offset}");
        }
    }
}

#[test]
fn groups_are_known_on_the_link_and_by_address() {
    let frame = |is_v6: bool, address: Vec<u8>| {
        let ip = Ip::sent(is_v6, 17, udp(1, 2));
        datagram(&Ip { destination: address, ..ip }.frame()).is_to_group
    };
    assert!(
        frame(false, vec![224, 0, 0, 251])
            && frame(false, vec![239, 255, 255, 255])
            && frame(false, vec![255; 4])
    );
    assert!(!frame(false, vec![240, 0, 0, 1]) && !frame(false, v4(9)));
    assert!(frame(true, [&[0xff, 2][..], &[0; 13], &[1]].concat()) && !frame(true, v6(9)));
    let broadcast = Ip { to_mac: [0xff; 6], ..Ip::sent(false, 17, udp(1, 2)) }.frame();
    assert!(datagram(&broadcast).is_to_group);
}

#[test]
fn a_quotation_may_be_short() {
    for is_v6 in [false, true] {
        let about = Ip { options: 2, ..Ip::sent(is_v6, 6, tcp(40_000, 80, ACK)) }.packet();
        let header = about.len() - 20;
        let kind = if is_v6 { 1 } else { 3 };
        for quoted in 0..=about.len() {
            let error =
                Ip::received(is_v6, if is_v6 { 58 } else { 1 }, icmp_error(kind, &about, quoted)).frame();
            let outer = datagram(&error);
            let Content::IcmpError { quoted: bytes } = outer.content else { panic!("{outer:?}") };
            let read = outer.quoted(bytes).map(|ours| ours.content);
            let is_read = matches!(read, Some(Content::Tcp { source: 40_000, destination: 80, .. }));
            assert_eq!(is_read, quoted >= header + 8, "{quoted}");
        }
    }
}

#[test]
fn tags_without_a_vlan_hide_nothing() {
    const PRIORITY: (u16, u16) = (0x8100, 0xe000);
    let (five, six) = ((0x88a8, 5), (0x8100, 6));
    for (tags, vlans) in [
        (vec![PRIORITY; 3], [0, 0]),
        (vec![(0x88a8, 0); 40], [0, 0]),
        (vec![PRIORITY, PRIORITY, five, six], [5, 6]),
        (vec![five, PRIORITY, six, PRIORITY], [5, 6]),
        (vec![five, PRIORITY], [5, 0]),
    ] {
        let ip = Ip::sent(false, 17, udp(5, 6)).tagged(&tags);
        assert_eq!(expected(&ip).1, vlans, "{tags:?}");
        let frame = ip.frame();
        let read = datagram(&frame);
        assert_eq!(read.vlans, vlans, "{tags:?}");
        assert_eq!(read.content, Content::Udp { source: 5, destination: 6 }, "{tags:?}");
    }
}

/// What an [`Ip`] is, in words of the reader: the other way round.
fn expected(ip: &Ip) -> (Part, [u16; 2], [u8; 16], [u8; 16]) {
    let part = match ip.fragment {
        None | Some((_, 0, false)) => Part::Whole,
        Some((id, 0, true)) => Part::First { id },
        Some((id, offset, _)) => Part::Later { id, offset: offset * 8 },
    };
    let mut vlans = ip.tags.iter().map(|(_, control)| control & 0xfff).filter(|id| *id != 0);
    let vlans = [vlans.next().unwrap_or(0), vlans.next().unwrap_or(0)];
    let padded = |address: &[u8]| {
        let mut padded = [0; 16];
        padded[..address.len()].copy_from_slice(address);
        padded
    };
    (part, vlans, padded(&ip.source), padded(&ip.destination))
}

fn addresses() -> impl Strategy<Value = (bool, Vec<u8>, Vec<u8>)> {
    any::<bool>().prop_flat_map(|is_v6| {
        let bytes = || prop::collection::vec(any::<u8>(), if is_v6 { 16 } else { 4 });
        (Just(is_v6), bytes(), bytes())
    })
}

fn carried() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let rest = || prop::collection::vec(any::<u8>(), 0..40);
    let tcp = (any::<(u16, u16, u8)>(), rest())
        .prop_map(|((a, b, flags), rest)| (6, [tcp(a, b, flags), rest].concat()));
    let udp = (any::<(u16, u16)>(), rest()).prop_map(|((a, b), rest)| (17, [udp(a, b), rest].concat()));
    let plain = prop::sample::select(vec![2u8, 47, 50, 51, 59, 89, 132, 255]);
    prop_oneof![tcp, udp, (plain, rest())]
}

/// Of at most two VLANs, with any number between them that give a priority only.
fn tags() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let tag = |ids: std::ops::Range<u16>| {
        let kinds = prop::sample::select(vec![0x8100u16, 0x88a8]);
        (kinds, 0u16..16, ids).prop_map(|(kind, priority, id)| (kind, priority << 12 | id))
    };
    let priorities = move || prop::collection::vec(tag(0..1), 0..3);
    let vlans = prop::collection::vec((tag(1..0x1000), priorities()), 0..=2);
    (priorities(), vlans).prop_map(|(mut tags, vlans)| {
        for (vlan, behind) in vlans {
            tags.push(vlan);
            tags.extend(behind);
        }
        tags
    })
}

prop_compose! {
    fn ip()(
        (is_v6, source, destination) in addresses(),
        (protocol, payload) in carried(),
        options in 0u8..=10,
        extensions in prop::collection::vec((prop::sample::select(vec![0u8, 43, 60]), 0u8..4), 0..EXTENSION_HEADERS),
        fragment in prop::option::of((0u32..=0xffff, prop_oneof![Just(0u16), 0u16..=0x1fff], any::<bool>())),
        tags in tags(),
        padding in 0usize..20,
    ) -> Ip {
        Ip { is_v6, source, destination, protocol, payload, options, extensions, fragment, tags, padding, to_mac: [2; 6] }
    }
}

proptest! {
    #[test]
    fn a_packet_is_read_as_what_it_was_made_of(ip in ip()) {
        let frame = ip.frame();
        let read = datagram(&frame);
        let (part, vlans, source, destination) = expected(&ip);
        prop_assert_eq!((read.part, read.vlans, read.protocol), (part, vlans, ip.protocol));
        prop_assert_eq!((read.addresses.is_v6, read.addresses.source, read.addresses.destination), (ip.is_v6, source, destination));
        let port = |at: usize| u16::from_be_bytes([ip.payload[at], ip.payload[at + 1]]);
        match (ip.protocol, part) {
            (_, Part::Later { .. }) => prop_assert_eq!(read.content, Content::Plain),
            (6, _) => {
                let Content::Tcp { source, destination, flags } = read.content else { panic!("{read:?}") };
                prop_assert_eq!((source, destination), (port(0), port(2)));
                let bits = ip.payload[13];
                prop_assert_eq!(flags.is_opening(), bits & (SYN | ACK) == SYN);
                prop_assert_eq!(flags.is_accepting(), bits & (SYN | ACK) == SYN | ACK);
                prop_assert_eq!((flags.is_fin(), flags.is_reset()), (bits & FIN != 0, bits & RST != 0));
            }
            (17, _) => prop_assert_eq!(read.content, Content::Udp { source: port(0), destination: port(2) }),
            (_, _) => prop_assert_eq!(read.content, Content::Plain),
        }
    }

    /// Cut anywhere, it is malformed: never another packet.
    #[test]
    fn a_packet_that_is_cut_is_malformed(ip in ip(), at: prop::sample::Index) {
        let ip = Ip { padding: 0, ..ip };
        let frame = ip.frame();
        let cut = at.index(frame.len());
        prop_assert_eq!(Packet::read(&frame[..cut]), Packet::Malformed);
    }

    /// Bytes that begin like frames, so that more than the first is looked at.
    #[test]
    fn any_bytes_are_something(
        ethertype in prop::sample::select(vec![0x0800u16, 0x86dd, 0x8100, 0x88a8, 0x0806, 38, 0x88cc]),
        next in prop::sample::select(vec![0u8, 1, 6, 17, 43, 44, 58, 60]),
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        is_v6: bool,
    ) {
        let claimed = u8::try_from(bytes.len()).unwrap();
        if let [version, _, _, four, _, six, next6, _, _, next4, ..] = bytes.as_mut_slice() {
            if is_v6 {
                (*version, *four, *six, *next6) = (0x60, 0, claimed.saturating_sub(40), next);
            } else {
                (*version, *four, *next4) = (0x45 + (*version & 3), claimed, next);
            }
        }
        let frame = other(ethertype, &bytes);
        if let Packet::Ip(read) = Packet::read(&frame) {
            if let Content::IcmpError { quoted } = read.content {
                prop_assert!(quoted.len() + 28 <= bytes.len());
                let _ = read.quoted(quoted);
            }
            let _ = (read.traffic(), read.answer());
        }
    }
}
