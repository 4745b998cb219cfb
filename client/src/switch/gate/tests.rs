//! What is let in, what is not, and what is told.

use super::super::directory::{Bridging, Owner, Record, Rights};
use super::super::filter::tests::udp;
use super::super::packet::arp::tests::request;
use super::super::packet::ipv4::tests::packet as ipv4;
use super::super::packet::ipv6::tests::{icmp, packet as ipv6};
use super::super::packet::membership::tests::{igmp_2, mld_report, report_3};
use super::super::packet::neighbour::advertisement;
use super::super::packet::neighbour::tests::solicitation;
use super::super::packet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_PIM};
use super::super::protection::{BitRate, Filters, FloodBudget, Protection};
use super::*;
use proptest::prelude::*;
use shadowmesh_proto::ids::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const A: PeerSlot = PeerSlot(1);
const B: PeerSlot = PeerSlot(2);
const LOCAL: MacAddr = mac(100);
const EVERYONE: MacAddr = MacAddr([0xff; 6]);
const STRANGER: MacAddr = mac(9);
const GROUP: MacAddr = MacAddr([1, 0, 0x5e, 1, 2, 3]);

const fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

const fn v4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 7, 0, n)
}

const fn v6(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n)
}

/// The link-local address that is made of `mac(n)`.
const fn link(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x00ff, 0xfe00, n)
}

fn frame(to: MacAddr, from: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0, &ethertype.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

fn rights(may_bridge: Bridging) -> Rights {
    Rights { may_bridge, ..Rights::default() }
}

/// We are 100, members are 1 and 2, each with an address of either family.
struct World {
    directory: Directory,
    gate: Gate,
    now: Instant,
    news: Vec<News>,
    takes_news: bool,
    is_blocked: bool,
}

impl World {
    fn new() -> Self {
        let mut directory = Directory::new(LOCAL).with_addresses(&[v4(100).into(), v6(100).into()]);
        for n in [1, 2] {
            let addresses = [v4(n).into(), v6(n.into()).into()];
            directory.admit(PeerSlot(n.into()), Record::new(mac(n)).with_addresses(&addresses)).unwrap();
        }
        let gate = Gate::new(Limits::default());
        Self { directory, gate, now: Instant::now(), news: Vec::new(), takes_news: true, is_blocked: false }
    }

    fn with_rights(mut self, slot: PeerSlot, rights: Rights) -> Self {
        let record = self.directory.member(slot).unwrap().clone().with_rights(rights);
        self.directory.admit(slot, record).unwrap();
        self
    }

    fn with_protection(mut self, protection: Protection) -> Self {
        self.directory = self.directory.with_protection(protection);
        self
    }

    fn receive(&mut self, from: PeerSlot, frame: &[u8]) -> Inbound {
        let Self { directory, gate, now, news, takes_news, is_blocked } = self;
        gate.receive(directory, frame, from, *is_blocked, *now, |told| {
            news.push(told);
            *takes_news
        })
    }

    /// From A, to our own device.
    fn unicast(&mut self, from: MacAddr, ethertype: u16, payload: &[u8]) -> Inbound {
        self.receive(A, &frame(LOCAL, from, ethertype, payload))
    }
}

const fn dropped(cause: InboundDrop) -> Inbound {
    Inbound::Drop(cause)
}

#[test]
fn a_members_own_mac_is_its_own() {
    let mut world = World::new();
    let mut from = |mac, slot| world.receive(slot, &frame(LOCAL, mac, 0x88b5, &[]));
    assert_eq!(from(mac(1), A), Inbound::Deliver);
    assert_eq!(from(mac(1), B), dropped(InboundDrop::Spoofed));
    assert_eq!(from(LOCAL, A), dropped(InboundDrop::SourceIsOurs));
    assert_eq!(from(EVERYONE, A), dropped(InboundDrop::SourceIsGroup));
    assert_eq!(from(STRANGER, A), Inbound::Deliver);
    assert_eq!(from(mac(5), PeerSlot(77)), Inbound::Deliver, "of a peer without a record");
    assert_eq!(world.receive(A, &[0; 13]), dropped(InboundDrop::Truncated));
    assert_eq!(world.news.len(), 2, "of its own MAC there is nothing to learn");
}

#[test]
fn a_member_that_may_not_bridge_speaks_for_itself_alone() {
    let mut world = World::new().with_rights(A, rights(Bridging::Nothing));
    let refused = dropped(InboundDrop::NotABridge);
    assert_eq!(world.unicast(STRANGER, 0x88b5, &[]), refused);
    assert_eq!(world.unicast(mac(1), ETHERTYPE_ARP, &request(mac(1), v4(50), v4(100))), refused);
    assert_eq!(world.unicast(mac(1), ETHERTYPE_ARP, &request(STRANGER, v4(1), v4(100))), refused);
    assert_eq!(world.unicast(mac(1), ETHERTYPE_IPV4, &ipv4(v4(50), 6, 0, &[])), refused);
    assert_eq!(world.unicast(mac(1), ETHERTYPE_IPV6, &ipv6(v6(50), v6(100), 6, &[])), refused);
    for own in [v4(1), Ipv4Addr::UNSPECIFIED] {
        assert_eq!(world.unicast(mac(1), ETHERTYPE_IPV4, &ipv4(own, 6, 0, &[])), Inbound::Deliver);
        assert_eq!(world.unicast(mac(1), ETHERTYPE_ARP, &request(mac(1), own, v4(100))), Inbound::Deliver);
    }
    for own in [v6(1), link(1), "fe80::abcd".parse().unwrap(), Ipv6Addr::UNSPECIFIED] {
        assert_eq!(world.unicast(mac(1), ETHERTYPE_IPV6, &ipv6(own, v6(100), 6, &[])), Inbound::Deliver);
    }
    assert!(world.news.is_empty());
}

#[test]
fn a_member_that_bridges_speaks_for_strangers() {
    let mut world = World::new();
    assert_eq!(world.unicast(STRANGER, ETHERTYPE_ARP, &request(STRANGER, v4(50), v4(100))), Inbound::Deliver);
    assert_eq!(
        world.unicast(mac(1), ETHERTYPE_IPV4, &ipv4([192, 168, 7, 7].into(), 6, 0, &[])),
        Inbound::Deliver
    );
    assert_eq!(world.unicast(STRANGER, ETHERTYPE_IPV6, &ipv6(link(9), v6(100), 6, &[])), Inbound::Deliver);
    assert_eq!(world.unicast(STRANGER, ETHERTYPE_IPV6, &ipv6(v6(50), v6(100), 6, &[])), Inbound::Deliver);
}

/// Lies of A: about B, and about this node.
fn lies() -> Vec<(u16, Vec<u8>, InboundDrop)> {
    let mut lies = Vec::new();
    for (victim, owner) in [(2u8, mac(2)), (100, LOCAL)] {
        let (four, six) = (v4(victim), v6(victim.into()));
        let arp = InboundDrop::ArpSpoofed;
        lies.push((ETHERTYPE_ARP, request(mac(1), four, v4(77)), arp));
        lies.push((ETHERTYPE_ARP, request(owner, v4(1), v4(77)), arp));
        lies.push((ETHERTYPE_ARP, request(owner, four, four), arp));
        lies.push((ETHERTYPE_IPV4, ipv4(four, 17, 0, &udp(1, 2, 3)), InboundDrop::Ipv4Spoofed));
        lies.push((ETHERTYPE_IPV4, ipv4(four, 17, 0x0009, b"later fragment"), InboundDrop::Ipv4Spoofed));
        lies.push((ETHERTYPE_IPV6, ipv6(six, v6(1), 6, b"tcp"), InboundDrop::Ipv6Spoofed));
        let neighbour = InboundDrop::NeighbourSpoofed;
        // "I have its address", "its MAC has mine".
        let mut told = advertisement(v6(9), six, mac(1)).to_vec();
        told.splice(8..24, v6(1).octets());
        lies.push((ETHERTYPE_IPV6, icmp(v6(1), v6(9), &reset(&told[40..])), neighbour));
        lies.push((ETHERTYPE_IPV6, icmp(Ipv6Addr::UNSPECIFIED, v6(9), &reset(&told[40..])), neighbour));
        lies.push((ETHERTYPE_IPV6, advertisement(v6(9), v6(1), owner).to_vec(), neighbour));
        lies.push((ETHERTYPE_IPV6, solicitation(v6(1), v6(77), owner), neighbour));
    }
    lies.push((ETHERTYPE_IPV6, ipv6(link(2), v6(1), 6, b"tcp"), InboundDrop::Ipv6Spoofed));
    lies.push((ETHERTYPE_IPV6, ipv6(link(100), v6(1), 6, b"tcp"), InboundDrop::Ipv6Spoofed));
    lies
}

/// An ICMPv6 message without its checksum.
fn reset(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[2..4].fill(0);
    message
}

#[test]
fn nobody_speaks_for_another_member_or_for_this_node() {
    let mut world = World::new();
    for (ethertype, payload, cause) in lies() {
        for from in [mac(1), STRANGER] {
            assert_eq!(world.unicast(from, ethertype, &payload), dropped(cause), "{ethertype:x} {payload:?}");
            let kind = ethertype.to_be_bytes();
            let tagged = [&[0xe0, 0, 0x81, 0, 0, 0, 0x88, 0xa8, 0, 0][..], &kind, &payload].concat();
            assert_eq!(
                world.unicast(from, 0x8100, &tagged),
                dropped(cause),
                "behind tags that a kernel ignores"
            );
            let wrapped = [&[0xaa, 0xaa, 3, 0, 0, 0][..], &kind, &payload].concat();
            assert_eq!(world.unicast(from, 36, &wrapped), dropped(cause), "as Wi-Fi takes it out");
            assert_eq!(
                world.receive(A, &frame(EVERYONE, from, ethertype, &payload)),
                dropped(cause),
                "to all"
            );
        }
    }
    assert!(world.news.is_empty(), "nothing is learned of a liar");
}

#[test]
fn discovery_in_pieces_is_nobodys() {
    let mut world = World::new();
    // The first piece of an advertisement, whose target is in the next.
    let first = [&[58, 0, 0, 1, 0, 0, 0, 1], &[136, 0, 0, 0, 0x20, 0, 0, 0][..]].concat();
    let piece = ipv6(v6(1), v6(100), 44, &first);
    assert_eq!(world.unicast(mac(1), ETHERTYPE_IPV6, &piece), dropped(InboundDrop::Obscured));
    let mut echo = first;
    echo[8] = 128;
    assert_eq!(world.unicast(mac(1), ETHERTYPE_IPV6, &ipv6(v6(1), v6(100), 44, &echo)), Inbound::Deliver);
    let mut world =
        World::new().with_protection(Protection { filters: Filters::NONE, ..Protection::default() });
    assert_eq!(world.unicast(mac(1), ETHERTYPE_IPV6, &piece), dropped(InboundDrop::Obscured));
}

#[test]
fn in_a_vlan_addresses_are_its_own_affair_and_macs_are_not() {
    let mut world = World::new();
    for (ethertype, payload, cause) in lies() {
        // A MAC, or an address that is made of one.
        let names = |mac: MacAddr| payload.windows(6).any(|bytes| bytes == mac.0);
        let is_made_of_one = payload.get(8..16) == Some(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0][..]);
        let is_lie = names(LOCAL) || names(mac(2)) || is_made_of_one;
        let tagged = [&[0, 42][..], &ethertype.to_be_bytes(), &payload].concat();
        let expected = if is_lie { dropped(cause) } else { Inbound::Deliver };
        assert_eq!(world.unicast(mac(1), 0x8100, &tagged), expected, "{ethertype:x} {payload:?}");
    }
}

#[test]
fn a_member_that_stands_between_the_others_and_the_rest_speaks_for_all_but_this_nodes_mac() {
    let mut world = World::new().with_rights(A, rights(Bridging::Anybody));
    for (ethertype, payload, cause) in lies() {
        let names_our_mac = payload.windows(6).any(|bytes| bytes == LOCAL.0);
        let expected = if names_our_mac { dropped(cause) } else { Inbound::Deliver };
        assert_eq!(world.unicast(mac(1), ethertype, &payload), expected, "{ethertype:x} {payload:?}");
    }
    assert_eq!(world.unicast(mac(2), 0x88b5, &[]), Inbound::Deliver);
    assert_eq!(world.unicast(LOCAL, 0x88b5, &[]), dropped(InboundDrop::SourceIsOurs));
    assert!(world.news.is_empty(), "what has an owner is not learned elsewhere");
}

#[test]
fn rogue_servers_are_kept_out_until_they_are_allowed() {
    let answer = ipv4(v4(1), 17, 0, &udp(67, 68, 2));
    let advertised = icmp(link(1), "ff02::1".parse().unwrap(), &[134, 0, 0, 0, 64, 0, 7, 8]);
    let allowed = Rights { may_serve_dhcp: true, ..Rights::default() };
    let nothing = Protection { filters: Filters::NONE, ..Protection::default() };
    let cases = [
        (World::new(), dropped(InboundDrop::RogueDhcp), dropped(InboundDrop::RogueRouter)),
        (World::new().with_rights(A, allowed), Inbound::Deliver, Inbound::Deliver),
        (World::new().with_protection(nothing), Inbound::Deliver, Inbound::Deliver),
    ];
    for (mut world, dhcp, ra) in cases {
        assert_eq!(world.unicast(mac(1), ETHERTYPE_IPV4, &answer), dhcp);
        assert_eq!(world.unicast(mac(1), ETHERTYPE_IPV6, &advertised), ra);
        let own = ipv4(Ipv4Addr::UNSPECIFIED, 17, 0, &udp(68, 67, 1));
        assert_eq!(world.unicast(mac(1), ETHERTYPE_IPV4, &own), Inbound::Deliver, "a client asks");
    }
}

#[test]
fn what_bridges_say_to_each_other_ends_here() {
    let mut world = World::new();
    let stp = MacAddr([1, 0x80, 0xc2, 0, 0, 0]);
    assert_eq!(
        world.receive(A, &frame(stp, mac(1), 38, &[0x42, 0x42, 3])),
        dropped(InboundDrop::LinkControl)
    );
    let wrapped = [&[0xaa, 0xaa, 3, 0, 0, 0, 0x88, 0xcc][..], &[2, 7, 4]].concat();
    assert_eq!(
        world.receive(A, &frame(LOCAL, mac(1), 38, &wrapped)),
        dropped(InboundDrop::LinkControl),
        "LLDP"
    );
    // From whom the rules let do that it passes, and from nobody else.
    let allowed = Rights { may_speak_to_bridges: true, ..Rights::default() };
    let mut world = world.with_rights(A, allowed);
    assert_eq!(world.receive(A, &frame(stp, mac(1), 38, &[0x42, 0x42, 3])), Inbound::Deliver);
    assert_eq!(
        world.receive(B, &frame(stp, mac(2), 38, &[0x42, 0x42, 3])),
        dropped(InboundDrop::LinkControl)
    );
    let mut world =
        World::new().with_protection(Protection { filters: Filters::NONE, ..Protection::default() });
    assert_eq!(world.receive(A, &frame(stp, mac(1), 38, &[0x42, 0x42, 3])), Inbound::Deliver);
}

#[test]
fn what_is_for_all_is_within_a_budget_and_what_is_for_us_is_not() {
    let mut world = World::new();
    let passed = |world: &mut World, to| {
        let frame = frame(to, mac(1), 0x88b5, &[0; 986]);
        (0..20_000).filter(|_| world.receive(A, &frame) == Inbound::Deliver).count()
    };
    assert_eq!(passed(&mut world, LOCAL), 20_000);
    // 82 s of 1 Mbit/s, of which three quarters are for strangers.
    assert_eq!(passed(&mut world, STRANGER), 7_687);
    assert_eq!(
        world.receive(A, &frame(STRANGER, mac(1), 0x88b5, &[0; 986])),
        Inbound::TooMuch(Reach::Unknown)
    );
    assert_eq!(passed(&mut world, EVERYONE), 2_563);
    world.gate.forget(A);
    assert_eq!(passed(&mut world, GROUP), 0, "also where it left and came back");
    // A station that was heard here is no stranger.
    world.gate.handle_local(LocalNews::Station(Station { mac: STRANGER, vlan: 0 }), world.now);
    assert_eq!(passed(&mut world, STRANGER), 20_000);
    let rate = FloodBudget::Rate(BitRate::new(64_000).unwrap());
    let mut world = World::new().with_protection(Protection { flood_budget: rate, ..Protection::default() });
    assert_eq!(passed(&mut world, EVERYONE), 656);
    let mut world = World::new()
        .with_protection(Protection { flood_budget: FloodBudget::Unlimited, ..Protection::default() });
    assert_eq!(passed(&mut world, EVERYONE), 20_000);
}

#[test]
fn what_is_for_another_member_strayed() {
    let mut world = World::new();
    assert_eq!(world.receive(A, &frame(mac(2), mac(1), 0x88b5, &[])), dropped(InboundDrop::NotForUs));
}

#[test]
fn while_a_loop_is_contained_here_only_what_has_one_receiver_passes() {
    let mut world = World::new();
    world.is_blocked = true;
    for to in [EVERYONE, GROUP, STRANGER] {
        assert_eq!(world.receive(A, &frame(to, mac(1), 0x88b5, &[])), dropped(InboundDrop::LoopBlocked));
    }
    assert_eq!(world.receive(A, &frame(LOCAL, mac(1), 0x88b5, &[])), Inbound::Deliver);
}

#[test]
fn a_station_that_is_held_here_does_not_flood_from_there() {
    let mut world = World::new();
    let station = Station { mac: STRANGER, vlan: 0 };
    world.gate.handle_local(LocalNews::Held(station, world.now + Duration::from_secs(10)), world.now);
    assert_eq!(world.receive(A, &frame(EVERYONE, STRANGER, 0x88b5, &[])), dropped(InboundDrop::Flapping));
    assert_eq!(world.receive(A, &frame(LOCAL, STRANGER, 0x88b5, &[])), Inbound::Deliver);
    assert_eq!(world.receive(A, &frame(EVERYONE, mac(8), 0x88b5, &[])), Inbound::Deliver);
    world.now += Duration::from_secs(10);
    assert_eq!(world.receive(A, &frame(EVERYONE, STRANGER, 0x88b5, &[])), Inbound::Deliver);
}

#[test]
fn what_went_from_here_to_here_went_round() {
    let mut world = World::new();
    let heard = |world: &mut World, mac| {
        world.gate.handle_local(LocalNews::Station(Station { mac, vlan: 0 }), world.now);
    };
    heard(&mut world, STRANGER);
    heard(&mut world, mac(8));
    let round = frame(mac(8), STRANGER, 0x88b5, &[]);
    assert_eq!(world.receive(A, &round), dropped(InboundDrop::Flapping));
    assert_eq!(world.receive(A, &round), Inbound::Deliver, "it moved");
    for _ in 0..10 {
        heard(&mut world, STRANGER);
        assert_eq!(world.receive(A, &round), dropped(InboundDrop::Flapping), "it is in a circle");
    }
    assert_eq!(world.receive(A, &frame(mac(8), mac(7), 0x88b5, &[])), Inbound::Deliver);
}

#[test]
fn reports_are_told_and_kept_from_hosts_that_would_fall_silent() {
    let mut world = World::new();
    let group = Ipv4Addr::new(239, 1, 2, 3);
    let old = frame(GROUP, mac(1), ETHERTYPE_IPV4, &igmp_2(v4(1), 0x16, group));
    let new = frame(MacAddr([1, 0, 0x5e, 0, 0, 0x16]), STRANGER, ETHERTYPE_IPV4, &report_3(4, group));
    assert_eq!(world.receive(A, &old), dropped(InboundDrop::ReportKept));
    assert_eq!(world.receive(A, &new), Inbound::Deliver);
    let said = |said| News::Listener(ListenerNews { slot: A, vlan: 0, said });
    assert_eq!(world.news.iter().filter(|news| **news == said(Said::Wants(GROUP))).count(), 2);
    let six = frame(
        MacAddr([0x33, 0x33, 0, 0, 0, 0x16]),
        mac(1),
        ETHERTYPE_IPV6,
        &mld_report(3, "ff05::1:203".parse().unwrap()),
    );
    // The sender of that report has a link-local address that is made of no member's MAC.
    assert_eq!(world.receive(A, &six), Inbound::Deliver);
    assert_eq!(world.news.last(), Some(&said(Said::Leaves(MacAddr([0x33, 0x33, 0, 1, 2, 3])))));
    // A router is behind our device: it hears them all.
    world.gate.handle_local(LocalNews::Asks(world.now + Duration::from_secs(255)), world.now);
    assert_eq!(world.receive(A, &old), Inbound::Deliver);
    // What is in every host's interest is not kept for anybody.
    let before = world.news.len();
    world.receive(A, &frame(GROUP, mac(1), ETHERTYPE_IPV4, &igmp_2(v4(1), 0x16, [224, 0, 0, 251].into())));
    assert_eq!(world.news.len(), before);
}

#[test]
fn routers_and_questions_are_told() {
    let mut world = World::new();
    let asked = igmp_2(v4(1), 0x11, Ipv4Addr::UNSPECIFIED);
    assert_eq!(world.receive(A, &frame(GROUP, mac(1), ETHERTYPE_IPV4, &asked)), Inbound::Deliver);
    assert!(matches!(world.news.last(), Some(News::Listener(ListenerNews { said: Said::Asks(_), .. }))));
    let hello = ipv4(v4(1), PROTOCOL_PIM, 0, &[0x20, 0, 0, 0]);
    assert_eq!(world.receive(A, &frame(GROUP, mac(1), ETHERTYPE_IPV4, &hello)), Inbound::Deliver);
    assert!(matches!(world.news.last(), Some(News::Listener(ListenerNews { said: Said::Routes, .. }))));
}

#[test]
fn where_a_station_is_is_said_again_when_nobody_took_it() {
    let mut world = World::new();
    world.takes_news = false;
    for _ in 0..3 {
        world.unicast(STRANGER, 0x88b5, &[]);
    }
    assert_eq!(world.news.len(), 3);
    world.takes_news = true;
    for _ in 0..3 {
        world.unicast(STRANGER, 0x88b5, &[]);
    }
    assert_eq!(world.news.len(), 4);
}

#[test]
fn questions_of_one_peer_do_not_make_our_hosts_shout() {
    let mut world = World::new()
        .with_protection(Protection { flood_budget: FloodBudget::Unlimited, ..Protection::default() });
    let query = frame(GROUP, mac(1), ETHERTYPE_IPV4, &igmp_2(v4(1), 0x11, Ipv4Addr::UNSPECIFIED));
    let asked = |world: &mut World, frames: u64| {
        let passed = |world: &mut World| {
            world.now += Duration::from_millis(1);
            world.receive(A, &query) == Inbound::Deliver
        };
        (0..frames).filter(|_| passed(world)).count()
    };
    assert_eq!(asked(&mut world, 64), 64, "of a querier in many VLANs, all at once");
    let beyond = asked(&mut world, 20_000);
    assert!((95..=105).contains(&beyond), "{beyond} in 20 s");
    assert_eq!(world.receive(A, &query), Inbound::TooMuch(Reach::LinkLocal));
    let other = frame(GROUP, mac(2), ETHERTYPE_IPV4, &igmp_2(v4(2), 0x11, Ipv4Addr::UNSPECIFIED));
    assert_eq!(world.receive(B, &other), Inbound::Deliver, "each has its own");
}

#[test]
fn reports_of_one_peer_are_metered() {
    let mut world = World::new()
        .with_protection(Protection { flood_budget: FloodBudget::Unlimited, ..Protection::default() });
    let group = MacAddr([1, 0, 0x5e, 0, 0, 0x16]);
    for n in 0..20_000u32 {
        let [_, a, b, c] = (n + 0x0010_0000).to_be_bytes();
        world.receive(A, &frame(group, mac(1), ETHERTYPE_IPV4, &report_3(4, Ipv4Addr::new(239, a, b, c))));
    }
    let Limits { report_burst, .. } = Limits::default();
    assert_eq!(world.news.len(), report_burst as usize);
}

#[test]
fn messages_of_guards_go_to_ours_and_never_to_the_device() {
    let mut world = World::new();
    let message = |kind| Message { kind, is_blocked: false, origin: LOCAL, nonce: [7; 16] };
    let echo = message(Kind::Echo).to_node(LOCAL, mac(1));
    assert_eq!(world.receive(A, echo.as_bytes()), Inbound::Consume);
    assert_eq!(world.news, [News::Guard(GuardNews { slot: A, message: message(Kind::Echo) })]);
    let probe = message(Kind::Probe).on_lan(0);
    assert_eq!(world.receive(A, probe.as_bytes()), dropped(InboundDrop::Probe));
    assert_eq!(
        world.receive(A, message(Kind::Yield).to_node(EVERYONE, mac(1)).as_bytes()),
        dropped(InboundDrop::Probe)
    );
    let told = (0..1_000).filter(|_| world.receive(A, echo.as_bytes()) == Inbound::Consume).count();
    assert!(told < GUARD_MESSAGES as usize, "{told}");
    let somebodys = frame(EVERYONE, mac(1), 0x88b6, b"something else of that EtherType");
    assert_eq!(world.receive(A, &somebodys), Inbound::Deliver);
}

#[test]
fn a_station_that_comes_from_here_is_urgent_news() {
    let mut world = World::new();
    let station = Station { mac: STRANGER, vlan: 0 };
    world.gate.handle_local(LocalNews::Station(station), world.now);
    world.receive(A, &frame(EVERYONE, STRANGER, 0x88b5, &[]));
    assert!(world.news.last().unwrap().is_urgent());
    assert!(world.gate.local.get(&station).is_none(), "it is behind A now");
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let ethertype = prop_oneof![
        Just(ETHERTYPE_ARP),
        Just(ETHERTYPE_IPV4),
        Just(ETHERTYPE_IPV6),
        Just(0x8100u16),
        Just(0x88b6),
        any::<u16>(),
    ];
    let destination = prop_oneof![Just(LOCAL), Just(EVERYONE), Just(GROUP), Just(STRANGER), Just(mac(2))];
    (destination, 0u8..12, ethertype, proptest::collection::vec(any::<u8>(), 0..120)).prop_map(
        |(to, from, ethertype, mut payload)| {
            // As often as not it begins like what it claims to be.
            if let Some(first) = payload.first_mut().filter(|first| **first & 1 == 0) {
                *first = if ethertype == ETHERTYPE_IPV6 { 0x60 } else { 0x45 };
            }
            [&to.0[..], &mac(from).0, &ethertype.to_be_bytes(), &payload].concat()
        },
    )
}

proptest! {
    /// Whatever comes: no panic, bounded memory, and never a frame of another's MAC.
    #[test]
    fn whatever_comes_nobody_is_impersonated(
        frames in proptest::collection::vec((any_frame(), 1u32..3, 0u64..400), 0..120),
    ) {
        let mut world = World::new();
        for (frame, slot, wait) in frames {
            world.now += Duration::from_millis(wait);
            let slot = PeerSlot(slot);
            if world.receive(slot, &frame) == Inbound::Deliver {
                let source = MacAddr(*frame[6..].first_chunk().unwrap());
                let owner = world.directory.owner(source);
                prop_assert!(owner.is_none() || owner == Some(Owner::Member(slot)));
            }
        }
        prop_assert!(world.gate.meters.len() <= 2);
    }
}
