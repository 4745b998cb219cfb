//! Where frames of our own device go, and what is answered in their place.

use super::super::directory::{Record, Rights};
use super::super::gate::{Gate, Inbound};
use super::super::guard::Kind;
use super::super::news::{GuardNews, ListenerNews, Said};
use super::super::packet::arp::Arp;
use super::super::packet::arp::tests::request;
use super::super::packet::membership::tests::igmp_2;
use super::super::packet::neighbour::tests::solicitation;
use super::super::protection::{Filters, FloodBudget, Protection};
use super::*;
use proptest::prelude::*;
use shadowmesh_proto::ids::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const A: PeerSlot = PeerSlot(1);
const B: PeerSlot = PeerSlot(2);

const fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

const LOCAL: MacAddr = mac(0);
const EVERYONE: MacAddr = MacAddr([0xff; 6]);
const GROUP: MacAddr = MacAddr([1, 0, 0x5e, 1, 2, 3]);
const MDNS: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 0xfb]);
const OURS: Ipv4Addr = v4(100);
const UNSPECIFIED: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

const fn v4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 7, 0, n)
}

fn frame(destination: MacAddr, source: MacAddr) -> Vec<u8> {
    [&destination.0[..], &source.0, &[0x88, 0xb5], &[0; 46]].concat()
}

fn tagged(destination: MacAddr, source: MacAddr, vlan: u8) -> Vec<u8> {
    [&destination.0[..], &source.0, &[0x81, 0, 0, vlan, 0x88, 0xb5], &[0; 46]].concat()
}

fn arp(from: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    [&EVERYONE.0[..], &from.0, &[0x08, 0x06], &request(from, sender, target)].concat()
}

fn heard(mac: MacAddr, vlan: u16, slot: PeerSlot) -> News {
    News::Station(Learn { station: Station { mac, vlan }, slot, was_local: false })
}

const fn to(reach: Reach, audience: Audience) -> Verdict {
    Verdict::Flood(Flood { reach, audience })
}

const UNKNOWN: Verdict = to(Reach::Unknown, Audience::Bridges);
const BROADCAST: Verdict = to(Reach::Broadcast, Audience::Everyone);

/// Members A with mac(1) and B with mac(2), each with an IPv4 address.
struct World {
    switch: Forwarder,
    directory: Directory,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let mut directory = Directory::new(LOCAL).with_addresses(&[OURS.into()]);
        directory.admit(A, Record::new(mac(1)).with_addresses(&[v4(1).into()])).unwrap();
        directory.admit(B, Record::new(mac(2)).with_addresses(&[v4(2).into()])).unwrap();
        Self { switch: Forwarder::new(Limits::default(), [7; 32]), directory, now: Instant::now() }
    }

    fn forward(&mut self, frame: &[u8]) -> Verdict {
        self.switch.forward(&self.directory, frame, self.now)
    }

    fn news(&mut self, news: News) {
        self.switch.handle_news(&self.directory, news, self.now);
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.switch.poll_output()).collect()
    }

    fn admit(&mut self, slot: PeerSlot, verdict: Verdict) -> Admission {
        let Verdict::Flood(flood) = verdict else { panic!("{verdict:?} is no flood") };
        self.switch.admit(&self.directory, slot, flood, 60, self.now)
    }

    /// There is a loop with A, which is contained here.
    fn block(&mut self) {
        self.directory = Directory::new(MacAddr([0xfe; 6])).with_addresses(&[OURS.into()]);
        self.directory.admit(A, Record::new(mac(1)).with_addresses(&[v4(1).into()])).unwrap();
        self.forward(&frame(EVERYONE, mac(30)));
        self.switch.handle_timeout(&self.directory, self.now);
        let probe = self.outputs().into_iter().find_map(|output| match output {
            Output::Device(probe) => {
                Message::parse(&EthernetHeader::parse(probe.as_bytes())?, probe.as_bytes())
            }
            Output::News(_) | Output::Peer(..) => None,
        });
        let message = Message { kind: Kind::Echo, ..probe.expect("a probe") };
        self.news(News::Guard(GuardNews { slot: A, message }));
        assert!(self.switch.is_blocked());
    }
}

#[test]
fn groups_go_to_all_and_members_to_one() {
    let mut world = World::new();
    let mut forward = |destination| world.forward(&frame(destination, LOCAL));
    assert_eq!(forward(EVERYONE), BROADCAST);
    assert_eq!(forward(GROUP), to(Reach::Multicast, Audience::Everyone));
    assert_eq!(forward(MDNS), to(Reach::LinkLocal, Audience::Everyone));
    assert_eq!(forward(mac(1)), Verdict::Unicast(A));
    assert_eq!(forward(mac(2)), Verdict::Unicast(B));
    assert_eq!(forward(mac(9)), UNKNOWN);
    assert_eq!(forward(LOCAL), Verdict::Drop(OutboundDrop::ToOurselves));
    assert_eq!(world.forward(&frame(mac(1), LOCAL)[..13]), Verdict::Drop(OutboundDrop::Truncated));
}

#[test]
fn a_learned_station_is_reached_in_its_vlan_until_it_is_old() {
    let mut world = World::new();
    world.news(heard(mac(9), 7, A));
    let begin = world.now;
    let mut forward = |frame: &[u8], seconds| {
        world.now = begin + Duration::from_secs(seconds);
        world.forward(frame)
    };
    assert_eq!(forward(&tagged(mac(9), LOCAL, 8), 0), UNKNOWN);
    assert_eq!(forward(&frame(mac(9), LOCAL), 0), UNKNOWN);
    assert_eq!(forward(&tagged(mac(9), LOCAL, 7), 299), Verdict::Unicast(A));
    assert_eq!(forward(&tagged(mac(9), LOCAL, 7), 300), UNKNOWN);
}

#[test]
fn stations_behind_our_own_device_are_not_sent_to_peers() {
    let mut world = World::new();
    assert_eq!(world.forward(&frame(EVERYONE, mac(30))), BROADCAST);
    assert_eq!(world.forward(&frame(mac(30), mac(31))), Verdict::Drop(OutboundDrop::Hairpin));
    let local = |n| Output::News(LocalNews::Station(Station { mac: mac(n), vlan: 0 }));
    assert_eq!(world.outputs(), [local(30), local(31)], "the other half is told once");
    // It moves to A's side, is reported from there, and is reached there.
    world.news(heard(mac(30), 0, A));
    assert_eq!(world.forward(&frame(mac(30), mac(31))), Verdict::Unicast(A));
}

#[test]
fn sources_that_cannot_be_here_are_dropped() {
    let mut world = World::new();
    let mut from = |source| world.forward(&frame(EVERYONE, source));
    assert_eq!(from(GROUP), Verdict::Drop(OutboundDrop::SourceIsGroup));
    assert_eq!(from(EVERYONE), Verdict::Drop(OutboundDrop::SourceIsGroup));
    assert_eq!(from(mac(2)), Verdict::Drop(OutboundDrop::SourceIsMember));
}

#[test]
fn what_a_departed_peer_had_is_forgotten() {
    let mut world = World::new();
    world.news(heard(mac(9), 0, A));
    world.switch.forget(A, world.now);
    world.directory.remove(A);
    for destination in [mac(9), mac(1)] {
        assert_eq!(world.forward(&frame(destination, LOCAL)), UNKNOWN);
    }
}

#[test]
fn a_question_for_a_member_is_answered_and_goes_nowhere() {
    let mut world = World::new();
    let answered = |is_probe| Verdict::Answer { owner: A, is_probe, is_arp: true };
    assert_eq!(world.forward(&arp(LOCAL, OURS, v4(1))), answered(false));
    let answer = world.switch.answer().unwrap().as_bytes();
    assert_eq!((&answer[..6], &answer[6..12]), (&LOCAL.0[..], &mac(1).0[..]));
    assert_eq!(Arp::parse(&answer[14..]).unwrap().sender, v4(1));
    // Of a host of the LAN behind us, and of one that wants the address.
    assert_eq!(world.forward(&arp(mac(30), v4(77), v4(1))), answered(false));
    assert_eq!(world.forward(&arp(mac(30), UNSPECIFIED, v4(1))), answered(true));
    // Asked of the member alone, it is for the member to answer: whether it lives only it can say.
    let mut unicast = arp(LOCAL, OURS, v4(1));
    unicast[..6].copy_from_slice(&mac(1).0);
    assert_eq!(world.forward(&unicast), Verdict::Unicast(A));
}

#[test]
fn announcements_and_our_own_probes_go_to_all() {
    let mut world = World::new();
    assert_eq!(world.forward(&arp(LOCAL, OURS, OURS)), BROADCAST);
    assert_eq!(world.forward(&arp(LOCAL, UNSPECIFIED, OURS)), BROADCAST);
    let ours = Verdict::Drop(OutboundDrop::AsksForUs);
    assert_eq!(world.forward(&arp(mac(30), v4(77), OURS)), ours, "we are on this side");
    assert_eq!(world.forward(&arp(mac(30), UNSPECIFIED, OURS)), ours);
}

#[test]
fn a_question_that_nobody_can_answer_goes_to_those_that_may_bridge_once_a_second() {
    let mut world = World::new();
    let asked = to(Reach::Broadcast, Audience::Bridges);
    let passed = (0..4_000).filter(|_| {
        world.now += Duration::from_millis(1);
        let verdict = world.forward(&arp(LOCAL, OURS, v4(50)));
        assert!(verdict == asked || verdict == Verdict::Drop(OutboundDrop::AskedAgain), "{verdict:?}");
        verdict == asked
    });
    assert_eq!(passed.count(), 5);
    let nothing = Rights { may_bridge: Bridging::Nothing, ..Rights::default() };
    world.directory.admit(B, Record::new(mac(2)).with_rights(nothing)).unwrap();
    assert_eq!((world.admit(A, asked), world.admit(B, asked)), (Admission::Pass, Admission::NotWanted));
    assert_eq!(world.admit(B, BROADCAST), Admission::Pass);
    // Every member has link-local addresses.
    let target = "fe80::77".parse().unwrap();
    let payload = solicitation("fe80::1".parse().unwrap(), target, LOCAL);
    let solicit = [&[0x33, 0x33, 0xff, 0, 0, 0x77], &LOCAL.0[..], &[0x86, 0xdd], &payload].concat();
    assert_eq!(world.forward(&solicit), to(Reach::LinkLocal, Audience::Everyone));
    assert_eq!(world.forward(&solicit), Verdict::Drop(OutboundDrop::AskedAgain));
}

#[test]
fn a_router_is_asked_itself() {
    let mut world = World::new();
    let six = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
    let router = Rights { may_serve_dhcp: true, ..Rights::default() };
    world.directory.admit(B, Record::new(mac(2)).with_addresses(&[six.into()]).with_rights(router)).unwrap();
    let payload = solicitation("fd00::1".parse().unwrap(), six, LOCAL);
    let solicit = [&[0x33, 0x33, 0xff, 0, 0, 9], &LOCAL.0[..], &[0x86, 0xdd], &payload].concat();
    assert_eq!(world.forward(&solicit), Verdict::Unicast(B));
}

#[test]
fn frames_for_a_station_that_nobody_hears_of_end_after_three_seconds() {
    let mut world = World::new();
    let mut passed = 0;
    for _ in 0..600 {
        world.now += Duration::from_millis(100);
        let verdict = world.forward(&frame(mac(9), LOCAL));
        assert!(verdict == UNKNOWN || verdict == Verdict::Drop(OutboundDrop::Unheard), "{verdict:?}");
        passed += usize::from(verdict == UNKNOWN);
    }
    assert_eq!(passed, 30);
    world.news(heard(mac(9), 0, B));
    assert_eq!(world.forward(&frame(mac(9), LOCAL)), Verdict::Unicast(B));
    world.switch.forget(B, world.now);
    assert_eq!(world.forward(&frame(mac(9), LOCAL)), UNKNOWN, "it is sought anew");
}

#[test]
fn multicast_goes_to_those_that_want_it_once_somebody_asks() {
    let mut world = World::new();
    let said = |slot, said| News::Listener(ListenerNews { slot, vlan: 0, said });
    world.news(said(B, Said::Wants(GROUP)));
    assert_eq!(world.forward(&frame(GROUP, LOCAL)), to(Reach::Multicast, Audience::Everyone));
    // A router behind our own device asks: for the switches of all members, and for the other half.
    let asked = igmp_2(v4(77), 0x11, UNSPECIFIED);
    let query = [&[1, 0, 0x5e, 0, 0, 1], &mac(30).0[..], &[0x08, 0x00], &asked].concat();
    assert_eq!(world.forward(&query), to(Reach::LinkLocal, Audience::Everyone));
    assert!(world.outputs().iter().any(|output| matches!(output, Output::News(LocalNews::Asks(_)))));
    let wanted = world.forward(&frame(GROUP, LOCAL));
    assert_eq!(
        (world.admit(A, wanted), world.admit(B, wanted)),
        (Admission::Pass, Admission::Pass),
        "not asked yet"
    );
    world.forward(&query);
    world.now += Duration::from_secs(12);
    assert_eq!((world.admit(A, wanted), world.admit(B, wanted)), (Admission::NotWanted, Admission::Pass));
    let unwanted = world.forward(&frame(MacAddr([1, 0, 0x5e, 9, 9, 9]), LOCAL));
    assert_eq!(
        (world.admit(A, unwanted), world.admit(B, unwanted)),
        (Admission::NotWanted, Admission::NotWanted)
    );
    let all = world.forward(&frame(MDNS, LOCAL));
    assert_eq!((world.admit(A, all), world.admit(B, all)), (Admission::Pass, Admission::Pass));
    // What our own hosts want, every switch hears.
    let report = igmp_2(v4(77), 0x16, [239, 1, 2, 3].into());
    let report = [&GROUP.0[..], &mac(30).0, &[0x08, 0x00], &report].concat();
    assert_eq!(world.forward(&report), to(Reach::LinkLocal, Audience::Everyone));
}

#[test]
fn each_peer_has_its_budget() {
    let mut world = World::new();
    let (mut passed, mut refused) = (0, 0);
    let verdict = world.forward(&frame(GROUP, LOCAL));
    for _ in 0..10_000 {
        match world.admit(A, verdict) {
            Admission::Pass => passed += 1,
            Admission::TooMuch => refused += 1,
            Admission::NotWanted => panic!("it is for all"),
        }
    }
    // Three quarters of a second of 1 Mbit/s, in frames of 60 bytes.
    assert_eq!((passed, refused), (1_562, 8_438));
    assert_eq!((world.admit(B, verdict), world.admit(A, BROADCAST)), (Admission::Pass, Admission::Pass));
    let protection = Protection { flood_budget: FloodBudget::Unlimited, ..Protection::default() };
    world.directory = world.directory.with_protection(protection);
    assert_eq!(world.admit(A, verdict), Admission::Pass);
}

#[test]
fn the_protocols_of_bridges_end_here_unless_that_is_switched_off() {
    let mut world = World::new();
    let stp = frame(MacAddr([1, 0x80, 0xc2, 0, 0, 0]), mac(30));
    let mut lldp = frame(mac(1), mac(30));
    lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
    for frame in [&stp, &lldp] {
        assert_eq!(world.forward(frame), Verdict::Drop(OutboundDrop::LinkControl));
    }
    assert_eq!(world.outputs().len(), 1, "who sent them is heard");
    let allowed = Rights { may_speak_to_bridges: true, ..Rights::default() };
    world.directory = world.directory.with_own_rights(allowed);
    assert_ne!(world.forward(&stp), Verdict::Drop(OutboundDrop::LinkControl));
    world.directory = world.directory.with_own_rights(Rights::default());
    assert_eq!(world.forward(&stp), Verdict::Drop(OutboundDrop::LinkControl));
    world.directory =
        world.directory.with_protection(Protection { filters: Filters::NONE, ..Protection::default() });
    assert_eq!(world.forward(&stp), to(Reach::Multicast, Audience::Everyone));
    assert_eq!(world.forward(&lldp), Verdict::Unicast(A));
}

#[test]
fn while_a_loop_is_contained_here_only_what_we_say_ourselves_goes_to_several() {
    let mut world = World::new();
    world.block();
    let local = world.directory.local();
    let blocked = Verdict::Drop(OutboundDrop::LoopBlocked);
    assert_eq!(world.forward(&frame(EVERYONE, mac(30))), blocked);
    assert_eq!(world.forward(&frame(GROUP, mac(30))), blocked);
    assert_eq!(world.forward(&frame(mac(9), mac(30))), blocked);
    assert_eq!(world.forward(&arp(mac(30), v4(77), v4(50))), blocked);
    assert_eq!(world.forward(&frame(mac(1), mac(30))), Verdict::Unicast(A));
    assert_eq!(world.forward(&frame(EVERYONE, local)), BROADCAST);
    assert!(matches!(world.forward(&arp(mac(30), v4(77), v4(1))), Verdict::Answer { .. }));
    assert_eq!(world.switch.stats(world.now).loop_state, LoopState::Blocked(A));
}

#[test]
fn what_we_say_ourselves_goes_round_a_loop_no_second_time() {
    let mut world = World::new();
    world.block();
    let local = world.directory.local();
    let (broadcast, group) = (frame(EVERYONE, local), frame(GROUP, local));
    let (stranger, question) = (frame(mac(9), local), arp(local, OURS, v4(50)));
    for said in [&broadcast, &group, &stranger, &question] {
        assert!(matches!(world.forward(said), Verdict::Flood(_)));
        world.now += Duration::from_millis(30);
        for _ in 0..20 {
            assert_eq!(world.forward(said), Verdict::Drop(OutboundDrop::LoopBlocked));
        }
    }
    // A kernel that asks again a second later is heard again; to a member there is one way only.
    world.now += Duration::from_secs(1);
    assert_eq!(world.forward(&broadcast), BROADCAST);
    for _ in 0..2 {
        assert_eq!(world.forward(&frame(mac(1), local)), Verdict::Unicast(A));
    }
}

#[test]
fn a_members_probe_is_echoed_to_it_and_learned_from_never() {
    let mut world = World::new();
    let probe = Message { kind: Kind::Probe, is_blocked: false, origin: mac(1), nonce: [9; 16] };
    let on_lan =
        [&EVERYONE.0[..], &[6, 0, 0, 0, 0, 1], &probe.to_node(LOCAL, LOCAL).as_bytes()[12..]].concat();
    assert_eq!(world.forward(&on_lan), Verdict::Drop(OutboundDrop::Probe));
    let outputs = world.outputs();
    let [Output::Peer(A, echo)] = outputs.as_slice() else { panic!("{outputs:?}") };
    let header = EthernetHeader::parse(echo.as_bytes()).unwrap();
    assert_eq!((header.destination, header.source), (mac(1), LOCAL));
    assert_eq!(Message::parse(&header, echo.as_bytes()), Some(Message { kind: Kind::Echo, ..probe }));
    assert_eq!(world.switch.stats(world.now).stations, 0);
}

proptest! {
    /// Both halves together: a station that keeps talking is always sent to where it last spoke, except
    /// while it moves too often.
    #[test]
    fn who_keeps_talking_is_reached_where_it_last_spoke(
        talk in proptest::collection::vec((10u8..16, 1u32..4, 300u64..60_000), 1..200),
    ) {
        let mut world = World::new();
        let mut gate = Gate::new(Limits::default());
        let mut last = std::collections::HashMap::new();
        for (n, slot, wait) in talk {
            world.now += Duration::from_millis(wait);
            let slot = PeerSlot(slot);
            let mut told = Vec::new();
            let spoken = frame(LOCAL, mac(n));
            let inbound = gate.receive(&world.directory, &spoken, slot, false, world.now, |news| {
            told.push(news);
            true
        });
            prop_assert_eq!(inbound, Inbound::Deliver);
            told.into_iter().for_each(|news| world.news(news));
            last.insert(n, (slot, world.now));
            for (n, (slot, heard)) in &last {
                if world.now - *heard < Duration::from_secs(270) {
                    prop_assert_eq!(world.forward(&frame(mac(*n), LOCAL)), Verdict::Unicast(*slot));
                }
            }
        }
    }

    /// Whatever is read and reported: no panic, bounded memory, and no timer that is due without end.
    #[test]
    fn whatever_is_read_the_switch_goes_on(
        steps in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..90), 0usize..6, 0u8..12, 0u8..12, 0u64..3_000), 0..120),
    ) {
        let mut world = World::new();
        for (mut bytes, kind, to, from, wait) in steps {
            world.now += Duration::from_millis(wait);
            let ethertype = [0x0806u16, 0x0800, 0x86dd, 0x8100, 0x88b6, 0x88b5][kind].to_be_bytes();
            let destination = if to > 8 { EVERYONE } else { mac(to) };
            let head = [&destination.0[..], &mac(from).0, &ethertype].concat();
            let cut = bytes.len() % 15;
            bytes = if cut == 14 { bytes } else { [&head[..], &bytes].concat() };
            if let verdict @ Verdict::Flood(_) = world.forward(&bytes) {
                world.admit(A, verdict);
            }
            world.news(heard(mac(from), 0, PeerSlot(u32::from(to) % 3)));
            let mut turns = 0;
            while world.switch.poll_timeout().is_some_and(|due| due.is_due(world.now)) {
                world.switch.handle_timeout(&world.directory, world.now);
                turns += 1;
                prop_assert!(turns < 5);
            }
            prop_assert!(world.outputs().len() < 10);
            prop_assert!(world.switch.stats(world.now).stations <= Limits::default().stations);
        }
    }
}
