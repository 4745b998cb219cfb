//! The switch in its place: what is answered, passed on, let in and counted by the running threads.

use super::*;
use crate::switch::{
    BitRate, Bridging, Filters, FloodBudget, InboundDrop, LoopState, OutboundDrop, Protection, Reach, Rights,
};
use std::net::Ipv4Addr;

/// An ARP request of `mac(from)`; from nobody's address where it only asks if one is free.
fn arp(from: u8, sender: Ipv4Addr, target: u8) -> Vec<u8> {
    let head = [&[0xff; 6][..], &mac(from).0, &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1], &mac(from).0].concat();
    [&head[..], &sender.octets(), &[0; 6], &[10, 7, 0, target], &[0; 18]].concat()
}

const fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 7, 0, n)
}

/// An IPv4 packet with a UDP datagram in a frame of `mac(from)` to `to`.
fn udp(from: u8, to: MacAddr, source: Ipv4Addr, ports: [u16; 2], first: u8) -> Vec<u8> {
    let datagram =
        [&ports[0].to_be_bytes()[..], &ports[1].to_be_bytes(), &[0, 12, 0, 0, first, 0, 0, 0]].concat();
    let head = [0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0];
    let packet = [&head[..], &source.octets(), &[255; 4], &datagram].concat();
    let mut frame = [&to.0[..], &mac(from).0, &[0x08, 0x00], &packet].concat();
    frame.resize(60, 0);
    frame
}

impl Node {
    fn change(&mut self, change: impl FnOnce(Directory) -> Directory) {
        let directory = Directory::clone(&self.snapshot.directory);
        self.snapshot.directory = Arc::new(change(directory));
        self.publish();
    }

    pub(super) fn protect(&mut self, protection: Protection) {
        self.change(|directory| directory.with_protection(protection));
    }

    fn rights(&mut self, slot: PeerSlot, rights: Rights) {
        self.change(|mut directory| {
            let record = directory.member(slot).unwrap().clone().with_rights(rights);
            directory.admit(slot, record).unwrap();
            directory
        });
    }

    fn dropped(&self, cause: OutboundDrop) -> u64 {
        self.plane.counters().switch.dropped[cause.index()].load(Relaxed)
    }

    fn refused(&self, cause: InboundDrop) -> u64 {
        self.counters(PEER).rx_refused[cause.index()].load(Relaxed)
    }
}

#[test]
fn arp_for_a_member_is_answered_and_does_not_cross() {
    let (mut a, b, _) = two();
    a.wire.send(&arp(1, ip(1), 2)).unwrap();
    let answer = a.received();
    assert_eq!((&answer[..6], &answer[6..12]), (&mac(1).0[..], &mac(2).0[..]));
    assert_eq!(answer[20..22], [0, 2], "a reply");
    assert_eq!(answer[28..32], ip(2).octets(), "the address is that of");
    assert_eq!(answer[22..28], mac(2).0, "this MAC");
    // Whoever wants to know whether it is free.
    a.wire.send(&arp(1, Ipv4Addr::UNSPECIFIED, 2)).unwrap();
    assert_eq!(a.received()[28..32], ip(2).octets());
    a.send(2, 7, 60);
    assert_eq!(numbers(&carry(&mut a, &b, 1)), [7], "nothing else came");
    assert_eq!(a.plane.counters().switch.arp_answered.load(Relaxed), 2);
    assert_eq!(a.counters(PEER).tx_frames.load(Relaxed), 1);
}

#[test]
fn a_member_that_is_away_has_no_neighbours_and_still_its_address() {
    let mut a = Node::new(1, &[2]);
    a.snapshot.peers[0].is_expected = false;
    a.publish();
    a.wire.send(&arp(1, ip(1), 2)).unwrap();
    until("the question to be dropped", || a.dropped(OutboundDrop::OwnerIsAway) == 1);
    assert!(a.wire.receive().unwrap().is_none());
    a.wire.send(&arp(1, Ipv4Addr::UNSPECIFIED, 2)).unwrap();
    assert_eq!(a.received()[28..32], ip(2).octets());
}

#[test]
fn a_question_that_nobody_owns_crosses_once() {
    let (mut a, b, _) = two();
    for _ in 0..5 {
        a.wire.send(&arp(1, ip(1), 99)).unwrap();
    }
    a.send(2, 7, 60);
    let frames = carry(&mut a, &b, 2);
    assert_eq!(frames[0], arp(1, ip(1), 99));
    assert_eq!(number(&frames[1]), 7);
    assert_eq!(a.dropped(OutboundDrop::AskedAgain), 4);
    assert_eq!(a.counters(PEER).tx_flooded[Reach::Broadcast.index()].load(Relaxed), 1);
}

#[test]
fn lies_about_addresses_are_not_let_in_and_counted_by_cause() {
    let (mut a, mut b, _) = two();
    // A third member, at b; a knows nothing of it.
    b.change(|mut directory| {
        directory.admit(PeerSlot(1), Record::new(mac(3)).with_addresses(&[address(3)])).unwrap();
        directory
    });
    a.wire.send(&arp(1, ip(3), 77)).unwrap();
    a.wire.send(&arp(1, ip(2), 78)).unwrap();
    a.wire.send(&udp(1, mac(2), ip(3), [1, 2], 0)).unwrap();
    a.wire.send(&udp(1, mac(2), ip(1), [1, 2], 0)).unwrap();
    a.wire.send(&udp(1, mac(2), ip(50), [1, 2], 0)).unwrap();
    a.send(2, 7, 60);
    let frames = carry(&mut a, &b, 3);
    assert_eq!(frames[0][26..30], ip(1).octets(), "its own");
    assert_eq!(frames[1][26..30], ip(50).octets(), "nobody's");
    assert_eq!(number(&frames[2]), 7);
    assert_eq!((b.refused(InboundDrop::ArpSpoofed), b.refused(InboundDrop::Ipv4Spoofed)), (2, 1));
    assert_eq!(b.plane.counters().not_let_in.load(Relaxed), 3);
    assert_eq!(b.counters(PEER).rx_dropped.load(Relaxed), 3);
}

#[test]
fn a_rogue_dhcp_server_is_told_of_and_let_in_when_it_is_allowed() {
    let (mut a, mut b, _) = two();
    let answer = udp(1, mac(2), ip(1), [67, 68], 2);
    a.wire.send(&answer).unwrap();
    a.wire.send(&answer).unwrap();
    a.send(2, 1, 60);
    assert_eq!(numbers(&carry(&mut a, &b, 1)), [1]);
    let mut told = 0;
    while let Ok(fact) = b.output.facts.try_recv() {
        told += u32::from(matches!(fact, Fact::Rogue(PEER)));
    }
    assert_eq!((told, b.refused(InboundDrop::RogueDhcp)), (1, 2));
    b.rights(PEER, Rights { may_serve_dhcp: true, ..Rights::default() });
    a.wire.send(&answer).unwrap();
    assert_eq!(carry(&mut a, &b, 1), std::slice::from_ref(&answer));
    b.rights(PEER, Rights::default());
    b.protect(Protection { filters: Filters::NONE, ..Protection::default() });
    a.wire.send(&answer).unwrap();
    assert_eq!(carry(&mut a, &b, 1), [answer]);
}

#[test]
fn what_bridges_say_to_each_other_does_not_cross() {
    let (mut a, b, _) = two();
    let mut stp = frame(1, 2, 9, 60);
    stp[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 0]);
    a.wire.send(&stp).unwrap();
    a.send(2, 1, 60);
    assert_eq!(numbers(&carry(&mut a, &b, 1)), [1]);
    assert_eq!(a.dropped(OutboundDrop::LinkControl), 1);
    // Where only the sender lets it pass, the receiver does not.
    a.protect(Protection { filters: Filters::NONE, ..Protection::default() });
    a.wire.send(&stp).unwrap();
    a.send(2, 2, 60);
    assert_eq!(numbers(&carry(&mut a, &b, 1)), [2]);
    assert_eq!(b.refused(InboundDrop::LinkControl), 1);
}

#[test]
fn floods_are_within_a_budget_on_both_sides_and_unicast_is_not() {
    let (mut a, mut b, _) = two();
    let mut group = frame(1, 2, 0, 1_000);
    group[..6].copy_from_slice(&[1, 0, 0x5e, 1, 2, 3]);
    let multicast = Reach::Multicast.index();
    // How many pass of two thousand, and how many seconds they take.
    let burst = |a: &mut Node, b: &Node, last: u32| {
        let began = Instant::now();
        for _ in 0..2_000 {
            a.wire.send(&group).unwrap();
        }
        for n in 0..500 {
            a.send(2, last - 500 + n, 1_000);
        }
        a.send(2, last, 60);
        let mut frames = Vec::new();
        while frames.last().is_none_or(|frame: &Vec<u8>| number(frame) != last) {
            frames.extend(carry(a, b, 1));
        }
        (frames.iter().filter(|frame| frame[0] & 1 == 1).count() as u64, began.elapsed().as_secs() + 1)
    };
    let (passed, seconds) = burst(&mut a, &b, 10_000);
    // Three quarters of a second of 1 Mbit/s at once, and what the time brought that it took.
    assert!((93..=94 + 125 * seconds).contains(&passed), "{passed} in {seconds} s");
    let over = a.counters(PEER).tx_over_budget[multicast].load(Relaxed);
    assert_eq!(over + passed, 2_000);
    assert_eq!(a.counters(PEER).tx_flooded[multicast].load(Relaxed), passed);
    // A sender without a budget meets that of the receiver: 61 s of it at once, less what came before.
    a.protect(Protection { flood_budget: FloodBudget::Unlimited, ..Protection::default() });
    b.protect(Protection { flood_budget: FloodBudget::Rate(BitRate::MIN), ..Protection::default() });
    let (passed, seconds) = burst(&mut a, &b, 20_000);
    assert!((480..=492 + 8 * seconds).contains(&passed), "{passed} in {seconds} s");
    assert_eq!(b.counters(PEER).rx_over_budget[multicast].load(Relaxed) + passed, 2_000);
    assert_eq!(b.refused(InboundDrop::OverBudget) + passed, 2_000);
    b.protect(Protection { flood_budget: FloodBudget::Unlimited, ..Protection::default() });
    assert_eq!(burst(&mut a, &b, 30_000).0, 2_000);
}

#[test]
fn frames_for_a_station_that_nobody_hears_of_come_to_an_end() {
    let (mut a, b, _) = two();
    a.send(9, 1, 60);
    assert_eq!(numbers(&carry(&mut a, &b, 1)), [1]);
    let began = Instant::now();
    let mut n = 1;
    until("the frames to be dropped", || {
        n += 1;
        a.send(9, n, 60);
        std::thread::sleep(Duration::from_millis(20));
        a.dropped(OutboundDrop::Unheard) > 0
    });
    assert!(began.elapsed() >= Duration::from_millis(2_900), "{:?}", began.elapsed());
}

/// Carries what both nodes put into their streams, and what their devices say on one LAN, until `is_over`.
fn bridged(a: &mut Node, b: &mut Node, mut is_over: impl FnMut(&Node, &Node) -> bool) -> u64 {
    let mut on_lan = 0;
    until("it", || {
        for (from, to) in [(&*a, &*b), (&*b, &*a)] {
            while let Some(frame) = from.wire.receive().unwrap() {
                on_lan += 1;
                to.wire.send(&frame).unwrap();
            }
        }
        let pass = |from: &mut Node, to: &Node| {
            let queue = from.queue.as_mut().expect("connected");
            while let Some(message) = queue.try_next() {
                queue.on_sent(message.len());
                to.deliver(CHANNEL, &message);
            }
        };
        pass(a, b);
        pass(b, a);
        is_over(a, b)
    });
    on_lan
}

#[test]
fn a_loop_through_two_bridges_is_contained_within_a_second_and_told() {
    let (mut a, mut b, _) = two();
    join(&b, PEER, &a, PEER, 2);
    b.route(PEER, Some(CHANNEL));
    // A broadcast of a host of the LAN, which both hear.
    let mut hello = frame(40, 0, 5, 60);
    hello[..6].fill(0xff);
    a.wire.send(&hello).unwrap();
    b.wire.send(&hello).unwrap();
    let began = Instant::now();
    let blocked = |node: &Node| node.plane.counters().switch.loop_state() == LoopState::Blocked(PEER);
    bridged(&mut a, &mut b, |_, b| blocked(b));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}; the target is one second", began.elapsed());
    assert!(!blocked(&a), "the higher MAC gives way, and only that");
    // What goes round is over: a second passes in which nothing but probes is on the LAN.
    let quiet = Instant::now();
    let on_lan = bridged(&mut a, &mut b, |_, _| quiet.elapsed() > Duration::from_secs(1));
    assert!(on_lan < 30, "{on_lan} frames in a second");
    let told = |node: &mut Node| {
        let facts = std::iter::from_fn(|| node.output.facts.try_recv().ok());
        facts.filter_map(|fact| if let Fact::Loop(state) = fact { Some(state) } else { None }).last()
    };
    assert_eq!(told(&mut b), Some(LoopState::Blocked(PEER)));
    assert_eq!(told(&mut a), Some(LoopState::Contained(PEER)));
    assert_eq!(b.plane.counters().switch.loops.load(Relaxed), 1);
    // A broadcast of the LAN is passed on by one of the two: to the other, which puts it on no LAN.
    let dropped = b.dropped(OutboundDrop::LoopBlocked);
    a.wire.send(&hello).unwrap();
    b.wire.send(&hello).unwrap();
    bridged(&mut a, &mut b, |a, b| {
        b.dropped(OutboundDrop::LoopBlocked) > dropped
            && b.refused(InboundDrop::LoopBlocked) > 0
            && !blocked(a)
    });
}

/// UDP from node `from`, but for the address `10.7.0.99`, to node 2.
fn answer(from: u8) -> Vec<u8> {
    let mut frame = super::udp(99, 2, [123, 40_000]);
    frame[6..12].copy_from_slice(&mac(from).0);
    frame
}

#[test]
fn only_who_was_asked_answers() {
    let (mut a, mut b, mut c) = (Node::new(1, &[2]), Node::new(2, &[1, 3]), Node::new(3, &[2]));
    join(&a, PEER, &b, PEER, 1);
    join(&c, PEER, &b, PeerSlot(1), 2);
    join(&b, PEER, &a, PEER, 3);
    join(&b, PeerSlot(1), &c, PEER, 4);
    a.route(PEER, Some(CHANNEL));
    b.route(PEER, Some(CHANNEL));
    b.route(PeerSlot(1), Some(OTHER));
    c.route(PEER, Some(OTHER));
    b.snapshot.access = access("allow any -> any tcp");
    // Nobody but itself is behind the third: what is for somebody unknown does not go there.
    b.rights(PeerSlot(1), Rights { may_bridge: Bridging::Nothing, ..Rights::default() });
    b.wire.send(&super::udp(2, 99, [40_000, 123])).unwrap();
    let asked = b.message();
    assert_eq!(Forward::parse(&asked).unwrap().channel, CHANNEL.channel);
    c.wire.send(&answer(3)).unwrap();
    let message = c.message();
    b.deliver(OTHER, &message);
    until("the answer of the third to be denied", || denied(&b) == 1);
    a.wire.send(&answer(1)).unwrap();
    assert_eq!(carry(&mut a, &b, 1), [answer(1)]);
}

#[test]
fn a_loop_is_contained_whatever_the_rules_deny() {
    let (mut a, mut b, _) = two();
    join(&b, PEER, &a, PEER, 2);
    b.route(PEER, Some(CHANNEL));
    for node in [&mut a, &mut b] {
        // What goes round, and nothing else that is not IP.
        node.snapshot.access = access("allow any -> any ethertype 0x88b5");
        node.publish();
    }
    let mut hello = frame(40, 0, 5, 60);
    hello[..6].fill(0xff);
    a.wire.send(&hello).unwrap();
    b.wire.send(&hello).unwrap();
    let state = |node: &Node| node.plane.counters().switch.loop_state();
    bridged(&mut a, &mut b, |a, b| {
        state(b) == LoopState::Blocked(PEER) && state(a) == LoopState::Contained(PEER)
    });
    assert_eq!((denied(&a), denied(&b)), (0, 0));
    // Of the type of these messages, and none of them.
    let mut other = frame(1, 2, 6, 60);
    other[12..14].copy_from_slice(&[0x88, 0xb6]);
    a.wire.send(&other).unwrap();
    bridged(&mut a, &mut b, |_, b| denied(b) == 1);
}
