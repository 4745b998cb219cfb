//! Data by the UDP socket: moves between it and the stream, what is lost there, and what strangers send.

use super::connections::link;
use super::*;
use crate::net::namespace::{isolated, sh};
use shadowmesh_proto::path::select::PathKind;
use shadowmesh_proto::session::fragment::FragmentHeader;
use shadowmesh_proto::wire::control::PathAck;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};

const DIRECT: PathSlot = PathKind::DirectUdp.slot();

fn address(node: &Node) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, node.socket.port()).into()
}

fn via(node: &Node) -> Option<Via> {
    Some(Via::Udp(address(node)))
}

/// What `b` receives until it has `n` frames, with the stream carried meanwhile.
fn collect(a: &mut Node, b: &Node, n: usize) -> Vec<u32> {
    numbers(&carry(a, b, n))
}

/// Where everything goes and nothing comes out: a socket that nobody reads.
fn hole() -> (Option<Via>, UdpSocket) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    (Some(Via::Udp(socket.local_addr().unwrap())), socket)
}

/// Waits until so many datagrams came to it.
fn swallowed(socket: &UdpSocket, n: usize) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..n {
        socket.recv(&mut [0; 2048]).unwrap();
    }
}

#[test]
fn frames_pass_by_datagram_byte_for_byte_and_in_order() {
    let (mut a, b, _) = two();
    a.reroute(PEER, via(&b), &[]);
    // In steps that the receiver's buffer holds, whatever else the machine does: there is nobody here who sends again.
    for step in 0..10u32 {
        let sent: Vec<_> =
            (0..200u32).map(|n| frame(1, 2, 200 * step + n, 60 + (n as usize * 37) % 1400)).collect();
        for frame in &sent {
            a.wire.send(frame).unwrap();
        }
        assert!(carry(&mut a, &b, sent.len()) == sent, "what came is what went");
    }
    assert_eq!(a.counters(PEER).resent.load(Relaxed), 0);
    let mut told = false;
    until("the way that was taken to be told", || {
        while let Ok(fact) = a.output.facts.try_recv() {
            told |= matches!(fact, Fact::DataSent(PEER, way, _) if Some(way) == via(&b));
        }
        told
    });
}

#[test]
fn moves_between_stream_and_datagrams_under_load_keep_every_frame_and_their_order() {
    let (mut a, b, _) = two();
    let mut all = Vec::new();
    for round in 0..40u32 {
        let first = 100 * round;
        for n in first..first + 50 {
            a.send(2, n, 300);
        }
        let way = if round % 2 == 0 { via(&b) } else { Some(CHANNEL.into()) };
        a.reroute(PEER, way, &[]);
        for n in first + 50..first + 100 {
            a.send(2, n, 300);
        }
        all.extend(collect(&mut a, &b, 100));
    }
    assert_eq!(all, (0..4000).collect::<Vec<_>>());
    let moves = b.counters(PEER).rx_moves.load(Relaxed);
    assert!((10..=40).contains(&moves), "{moves} moves seen");
    assert_eq!(b.counters(PEER).rx_reordered.load(Relaxed), 0);
    assert_eq!(a.counters(PEER).resent.load(Relaxed), 0, "a planned move sends nothing twice");
}

#[test]
fn what_a_black_hole_swallowed_goes_again_and_first() {
    let (mut a, b, marks) = two();
    for n in 0..10 {
        a.send(2, n, 100);
    }
    let mut all = collect(&mut a, &b, 10);
    marks.record(&[], 10);
    let (hole, _socket) = hole();
    a.reroute(PEER, hole, &[]);
    seal(&mut a, 10..110, 100);
    a.reroute(PEER, Some(CHANNEL.into()), &[DIRECT]);
    for n in 110..200 {
        a.send(2, n, 100);
    }
    all.extend(collect(&mut a, &b, 190));
    assert_eq!(all, (0..200).collect::<Vec<_>>());
    let resent = a.counters(PEER).resent.load(Relaxed);
    assert!((36..=100).contains(&resent), "{resent}: only what had gone into the hole");
    assert_eq!(a.counters(PEER).lost.load(Relaxed), 0);
}

#[test]
fn what_goes_again_by_datagram_and_is_lost_goes_until_it_is_acknowledged() {
    let (mut a, b, marks) = two();
    a.snapshot.peers[0].patience = Duration::from_millis(20);
    let (hole, _socket) = hole();
    a.reroute(PEER, hole, &[]);
    seal(&mut a, 0..100, 1000);
    // Where it goes again everything is lost, twice.
    let middle = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    middle.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    a.reroute(PEER, Some(Via::Udp(middle.local_addr().unwrap())), &[DIRECT]);
    let mut buffer = [0; 2000];
    let mut seen = std::collections::BTreeMap::<u64, usize>::new();
    while seen.len() < 100 || seen.values().any(|times| *times < 3) {
        let len = middle.recv(&mut buffer).expect("sent again and again");
        let counter = u64::from_be_bytes(buffer[8..16].try_into().unwrap());
        let times = seen.entry(counter).or_default();
        *times += 1;
        if *times == 3 {
            middle.send_to(&buffer[..len], address(&b)).unwrap();
        }
    }
    assert_eq!(collect(&mut a, &b, 100), (0..100).collect::<Vec<_>>(), "each of them once");
    // All but 50 are acknowledged: that one goes on, and nothing else.
    marks.record(
        &[PathAck { path: DIRECT.number(), highest: 99, bitmap: [!(1 << 48), (1 << 35) - 1, 0, 0] }],
        0,
    );
    let mut alone = 0;
    while alone < 3 {
        middle.recv(&mut buffer).expect("sent again and again");
        alone = if u64::from_be_bytes(buffer[8..16].try_into().unwrap()) == 50 { alone + 1 } else { 0 };
    }
    assert_eq!(a.counters(PEER).lost.load(Relaxed), 0);
}

#[test]
fn what_two_paths_in_a_row_swallowed_goes_by_the_third() {
    let (mut a, b, _) = two();
    // A repeat is far away: nothing but the moves themselves sends anything again.
    a.snapshot.peers[0].patience = Duration::from_secs(60);
    let (hole, socket) = hole();
    a.reroute(PEER, hole, &[]);
    seal(&mut a, 0..100, 100);
    swallowed(&socket, 100);
    let (link, _, _queue) = link(&mut a);
    a.reroute(PEER, Some(Via::Tcp(link)), &[DIRECT]);
    until("the frames to go again", || a.counters(PEER).resent.load(Relaxed) == 100);
    a.reroute(PEER, Some(CHANNEL.into()), &[PathKind::DirectTcp.slot()]);
    assert_eq!(collect(&mut a, &b, 100), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_repeat_that_is_due_survives_a_planned_move_and_another_path_that_is_given_up() {
    let (mut a, b, _) = two();
    a.snapshot.peers[0].patience = Duration::from_secs(60);
    let (link, _, _queue) = link(&mut a);
    a.reroute(PEER, Some(Via::Tcp(link)), &[]);
    seal(&mut a, 0..100, 100);
    let (hole, _socket) = hole();
    a.reroute(PEER, hole, &[PathKind::DirectTcp.slot()]);
    until("the frames to go again", || a.counters(PEER).resent.load(Relaxed) == 100);
    seal(&mut a, 100..200, 100);
    a.reroute(PEER, Some(CHANNEL.into()), &[]);
    a.send(2, 200, 100);
    assert_eq!(collect(&mut a, &b, 1), [200], "a planned move sends nothing again");
    a.reroute(PEER, Some(CHANNEL.into()), &[DIRECT]);
    assert_eq!(collect(&mut a, &b, 200), (0..200).collect::<Vec<_>>());
}

#[test]
fn what_went_again_by_a_stream_that_was_left_before_it_stopped_is_asked_for() {
    let (mut a, b, _) = two();
    a.snapshot.peers[0].patience = Duration::from_millis(20);
    let (hole, socket) = hole();
    a.reroute(PEER, hole, &[]);
    seal(&mut a, 0..100, 100);
    swallowed(&socket, 100);
    let (link, _, _queue) = link(&mut a);
    a.reroute(PEER, Some(Via::Tcp(link)), &[DIRECT]);
    until("the frames to go again", || a.counters(PEER).resent.load(Relaxed) == 100);
    // The stream is not in doubt yet when data leaves it; that it stopped is found out afterwards.
    a.reroute(PEER, Some(CHANNEL.into()), &[]);
    a.reroute(PEER, Some(CHANNEL.into()), &[PathKind::DirectTcp.slot()]);
    assert_eq!(collect(&mut a, &b, 100), (0..100).collect::<Vec<_>>());
}

#[test]
fn what_the_ring_no_longer_had_is_counted_once_the_peer_was_heard() {
    let (mut a, _b, marks) = two_with_ring(RingLimits::TINY);
    a.snapshot.peers[0].patience = Duration::from_millis(5);
    let (hole, _socket) = hole();
    a.reroute(PEER, hole, &[]);
    seal(&mut a, 0..200, 1000);
    // About 60 are still there and go again, over and over: nothing is heard of them.
    let middle = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    middle.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    a.reroute(PEER, Some(Via::Udp(middle.local_addr().unwrap())), &[DIRECT]);
    let mut buffer = [0; 2000];
    let mut last_times = || {
        while middle.recv(&mut buffer).expect("sent again and again") < 24
            || u64::from_be_bytes(buffer[8..16].try_into().unwrap()) != 199
        {}
    };
    (0..4).for_each(|_| last_times());
    assert_eq!(a.counters(PEER).lost.load(Relaxed), 0, "the peer may have them all");
    // It has them from the 20th on, but for the last.
    let bitmap = [u64::MAX, u64::MAX, (1 << 50) - 1, 0];
    marks.record(&[PathAck { path: DIRECT.number(), highest: 198, bitmap }], 0);
    last_times();
    until("those before to be counted", || a.counters(PEER).lost.load(Relaxed) == 20);
    (0..2).for_each(|_| last_times());
    assert_eq!(a.counters(PEER).lost.load(Relaxed), 20, "each once, and none that the ring has");
}

#[test]
fn what_overtakes_by_datagram_waits_for_what_the_relay_still_has() {
    let (mut a, b, _) = two();
    for n in 0..10 {
        a.send(2, n, 300);
    }
    let mut all = collect(&mut a, &b, 10);
    seal(&mut a, 10..20, 300);
    let slow = a.message();
    a.reroute(PEER, via(&b), &[]);
    seal(&mut a, 20..30, 300);
    // The relay takes its time: what it has, and the marker behind it.
    let marker = a.message();
    b.deliver(CHANNEL, &slow);
    b.deliver(CHANNEL, &marker);
    all.extend(collect(&mut a, &b, 20));
    assert_eq!(all, (0..30).collect::<Vec<_>>());

    // One that never comes is not waited for for ever.
    a.reroute(PEER, Some(CHANNEL.into()), &[]);
    a.send(2, 30, 300);
    assert_eq!(collect(&mut a, &b, 1), [30]);
    a.send(2, 31, 300);
    let _lost = a.message();
    a.reroute(PEER, via(&b), &[]);
    a.send(2, 32, 300);
    let _marker = a.message();
    assert_eq!(collect(&mut a, &b, 1), [32]);
}

#[test]
fn a_path_given_up_long_after_the_move_repeats_only_its_own() {
    let (mut a, b, _) = two();
    // A stream whose messages go nowhere.
    seal(&mut a, 0..20, 100);
    let swallowed = a.message();
    a.reroute(PEER, via(&b), &[]);
    for n in 20..120 {
        a.send(2, n, 100);
    }
    let mut all = Vec::new();
    until("what went by datagram", || {
        all.extend(b.wire.receive().unwrap().map(|frame| number(&frame)));
        all.len() >= 100
    });
    assert!(all.iter().all(|n| *n >= 20), "{all:?}");
    a.reroute(PEER, via(&b), &[RELAYED]);
    until("the rest", || {
        all.extend(b.wire.receive().unwrap().map(|frame| number(&frame)));
        all.len() >= 120
    });
    assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), (0..120).collect());
    let resent = a.counters(PEER).resent.load(Relaxed);
    assert!((20..=120).contains(&resent), "{resent}");
    // What was swallowed arrives after all: it is known.
    let before = b.counters(PEER).rx_dropped.load(Relaxed);
    b.deliver(CHANNEL, &swallowed);
    until("the copy to be dropped", || b.counters(PEER).rx_dropped.load(Relaxed) > before);
    assert!(b.wire.receive().unwrap().is_none());
}

#[test]
fn what_a_silent_spell_swallowed_goes_again_even_when_newer_frames_are_acknowledged_first() {
    let (mut a, b, marks) = two();
    let (hole, _socket) = hole();
    a.reroute(PEER, hole, &[]);
    seal(&mut a, 0..400, 100);
    a.snapshot.peers[0].doubted = Some(DIRECT);
    a.publish();
    seal(&mut a, 400..410, 100);
    // The way works again: the newest frame arrived and is acknowledged, with nothing of what was before it.
    let newest =
        shadowmesh_proto::wire::control::PathAck { path: DIRECT.number(), highest: 409, bitmap: [0; 4] };
    marks.record(&[newest], 0);
    a.snapshot.peers[0].doubted = None;
    a.reroute(PEER, via(&b), &[DIRECT]);
    a.send(2, 410, 100);
    let all = collect(&mut a, &b, 410);
    assert_eq!(all, (0..409).chain([410]).collect::<Vec<_>>());
}

#[test]
fn a_full_socket_holds_frames_back_and_loses_none() {
    isolated(|| {
        // Packets to a neighbour that does not answer wait in the kernel and fill the socket's buffer.
        sh("ip link set lo up
            ip link add v0 type veth peer name v1 address 02:00:00:00:00:02; ip addr add 192.0.2.1/24 dev v0
            ip link set v0 up; ip link set v1 up
            sysctl -q -w net.ipv4.neigh.v0.unres_qlen_bytes=100000000
            sysctl -q -w net.ipv4.neigh.v0.mcast_solicit=100");
        let (mut a, b, _) = two();
        a.reroute(PEER, Some(Via::Udp("192.0.2.2:9".parse().unwrap())), &[]);
        // More than the buffer holds; the thread takes a part of it and then no more.
        let n = 4_000;
        for n in 0..n {
            a.send(2, n, 1400);
        }
        let (mut sealed, mut since) = (0, Instant::now());
        until("the thread to stand still", || {
            let now = a.counters(PEER).tx_frames.load(Relaxed);
            if std::mem::replace(&mut sealed, now) != now {
                since = Instant::now();
            }
            sealed > 0 && since.elapsed() > Duration::from_millis(300)
        });
        assert!(sealed < u64::from(n), "{sealed} of {n} were sealed");
        assert_eq!(b.plane.counters().datagrams_refused.load(Relaxed), 0);
        // The neighbour is found, and what waited leaves.
        sh("ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev v0");
        until("all frames to be sealed", || a.counters(PEER).tx_frames.load(Relaxed) == u64::from(n));
        assert_eq!(a.counters(PEER).tx_dropped.load(Relaxed), 0);
    });
}

#[test]
fn only_news_of_another_address_is_told() {
    let (mut a, mut b, _) = two();
    let known = |b: &mut Node, sources: &[SocketAddr]| {
        b.snapshot.peers[0].sources = sources.into();
        b.publish();
    };
    a.reroute(PEER, via(&b), &[]);
    known(&mut b, &[address(&a)]);
    for n in 0..50 {
        a.send(2, n, 100);
    }
    collect(&mut a, &b, 50);
    let heard = |b: &mut Node| {
        let mut heard = Vec::new();
        while let Ok(fact) = b.output.facts.try_recv() {
            if let Fact::Heard(slot, from) = fact {
                heard.push((slot, from));
            }
        }
        heard
    };
    assert_eq!(heard(&mut b), []);
    known(&mut b, &[]);
    for n in 50..100 {
        a.send(2, n, 100);
    }
    collect(&mut a, &b, 50);
    assert_eq!(heard(&mut b).first(), Some(&(PEER, address(&a))));
}

#[test]
fn a_move_while_a_backlog_waits_for_the_stream_keeps_the_order() {
    let (mut a, b, _) = two();
    a.send(2, 0, 1000);
    let mut all = collect(&mut a, &b, 1);
    // Sealed while there is no way; more of it than the stream takes at once.
    a.route(PEER, None);
    seal(&mut a, 1..400, 1000);
    a.reroute(PEER, Some(CHANNEL.into()), &[]);
    until("the stream to be full", || !a.snapshot.streams[0].as_ref().unwrap().has_room());
    a.reroute(PEER, via(&b), &[]);
    for n in 400..500 {
        a.send(2, n, 1000);
    }
    all.extend(collect(&mut a, &b, 499));
    assert_eq!(all, (0..500).collect::<Vec<_>>());
    assert_eq!(b.counters(PEER).rx_reordered.load(Relaxed), 0);
}

#[test]
fn what_does_not_fit_goes_in_pieces_and_comes_whole() {
    let (mut a, b, _) = two();
    a.snapshot.peers[0].room = Some(1232);
    a.reroute(PEER, via(&b), &[]);
    let lens = [60, 1180, 1199, 1200, 1201, 1400, 1518, 4000, 9018];
    for step in 0..20u32 {
        let sent: Vec<_> = lens.iter().zip(10 * step..).map(|(len, n)| frame(1, 2, n, *len)).collect();
        for frame in &sent {
            a.wire.send(frame).unwrap();
        }
        assert!(carry(&mut a, &b, sent.len()) == sent, "what came is what went");
    }
    assert_eq!(b.plane.counters().fragments_given_up.load(Relaxed), 0);
    // Somebody who saw the index throws pieces in.
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let packet = shadowmesh_proto::wire::header::Header {
        kind: shadowmesh_proto::wire::header::PacketType::Data,
        receiver: ReceiverIndex(1001),
        counter: 1 << 20,
    };
    for (offset, has_more) in [(0, true), (5, false), (9, true)] {
        let header = FragmentHeader { packet, offset, has_more }.to_bytes();
        stranger.send_to(&[&header[..], &[7; 100]].concat(), address(&b)).unwrap();
    }
    until("the forgery to be given up", || b.plane.counters().fragments_given_up.load(Relaxed) > 0);
    a.send(2, 999, 1500);
    assert_eq!(collect(&mut a, &b, 1), [999]);
}

#[test]
fn what_strangers_send_is_counted_and_goes_nowhere() {
    let (_a, mut b, _) = two();
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let from = stranger.local_addr().unwrap();
    let to = address(&b);
    // One that is asked by STUN, and one that is not.
    let unasked = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    b.snapshot.stun = [from].into();
    b.publish();
    let send = |datagram: &[u8]| stranger.send_to(datagram, to).unwrap();
    let mut init = vec![0; 1400];
    init[0] = shadowmesh_proto::wire::packet::INIT;
    init[1] = 1;
    send(&init);
    let counters = b.plane.counters();
    until("the handshake to be counted", || counters.handshake_by_datagram.load(Relaxed) == 1);
    // Data and control for no key of ours, and for ours but not from who has it.
    let header = |kind, index| {
        let header =
            shadowmesh_proto::wire::header::Header { kind, receiver: ReceiverIndex(index), counter: 7 };
        [&header.to_bytes()[..], &[0; 60]].concat()
    };
    use shadowmesh_proto::wire::header::PacketType::{Control, Data};
    send(&header(Data, 4));
    send(&header(Control, 4));
    until("both", || counters.unknown_index.load(Relaxed) == 2);
    send(&header(Data, 1001));
    until("the forgery", || b.counters(PEER).rx_dropped.load(Relaxed) == 1);
    send(&[]);
    send(&[0xff; 9]);
    send(&vec![0; 60_000]);
    until("what is of no kind", || counters.unknown_kind.load(Relaxed) >= 2);
    send(&header(Control, 1001));
    unasked.send_to(&[0, 1, 2, 3, 4], to).unwrap();
    until("what nobody asked for", || counters.stun_unasked.load(Relaxed) == 1);
    send(&[0, 1, 2, 3]);
    let mut packet = None;
    until("what only the control task can judge", || {
        packet = packet.take().or_else(|| b.output.stray.try_recv().ok());
        packet.is_some()
    });
    assert_eq!(packet.unwrap().via, Via::Udp(from));
    let mut datagram = None;
    until("what may be an answer of STUN", || {
        datagram = datagram.take().or_else(|| b.output.datagrams.try_recv().ok());
        datagram.is_some()
    });
    let datagram = datagram.unwrap();
    assert_eq!((datagram.from, &datagram.bytes[..]), (from, &[0, 1, 2, 3][..]));
    // A flood of them fills a queue and no more.
    for _ in 0..10 * super::super::DATAGRAM_QUEUE {
        send(&[0; 40]);
    }
    send(&[0xff; 9]);
    until("the last one", || counters.unknown_kind.load(Relaxed) >= 3);
    assert!(b.wire.receive().unwrap().is_none());
}

/// What looks like a control packet under the key of this index.
fn control(index: u32) -> Vec<u8> {
    let kind = shadowmesh_proto::wire::header::PacketType::Control;
    let header = shadowmesh_proto::wire::header::Header { kind, receiver: ReceiverIndex(index), counter: 7 };
    [&header.to_bytes()[..], &[0; 30]].concat()
}

#[test]
fn of_a_session_that_is_shut_control_comes_through_and_no_data() {
    let (mut a, mut b, _) = two();
    a.reroute(PEER, via(&b), &[]);
    a.send(2, 0, 100);
    assert_eq!(collect(&mut a, &b, 1), [0]);
    let association = AssociationId([1; 8]);
    b.plane.inbound(InboundCommand::Shut(association));
    let unknown = || b.plane.counters().unknown_index.load(Relaxed);
    until("data to be opened no more", || {
        a.send(2, 1, 100);
        unknown() > 0
    });
    while b.wire.receive().unwrap().is_some() {}
    let before = unknown();
    for n in 0..10 {
        a.send(2, n, 100);
    }
    until("ten more to be refused", || unknown() >= before + 10);
    assert!(b.wire.receive().unwrap().is_none());
    // A rekey meanwhile: its index is known as well.
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    b.plane.inbound(InboundCommand::AddKey { association, key: keys(2).1 });
    for index in [1001, 1002] {
        peer.send_to(&control(index), address(&b)).unwrap();
        until("control to come through", || b.output.stray.try_recv().is_ok());
    }
    b.plane.inbound(InboundCommand::Close(association));
    let before = b.plane.counters().unknown_index.load(Relaxed);
    until("its end", || {
        peer.send_to(&control(1001), address(&b)).unwrap();
        b.plane.counters().unknown_index.load(Relaxed) > before
    });
}

#[test]
fn a_flood_of_control_from_strangers_leaves_room_for_peers_and_relays() {
    let (_a, mut b, _) = two();
    let [stranger, peer] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let known = peer.local_addr().unwrap();
    b.snapshot.peers[0].sources = [known].into();
    b.publish();
    // An index that somebody saw on the way.
    let forged = control(1001);
    let mut sent = 0;
    until("the strangers' queue to be full", || {
        for _ in 0..10 {
            stranger.send_to(&forged, address(&b)).unwrap();
            sent += 1;
        }
        b.plane.counters().control_dropped.load(Relaxed) > 0
    });
    assert!(sent >= STRAY_QUEUE / 4);
    // Another host has its own share.
    let elsewhere = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 9), 0)).unwrap();
    elsewhere.send_to(&forged, address(&b)).unwrap();
    let mut strays = Vec::new();
    until("the other stranger", || {
        strays.extend(b.output.stray.try_recv().map(|packet| packet.via).ok());
        strays.last() == Some(&Via::Udp(elsewhere.local_addr().unwrap()))
    });
    peer.send_to(&forged, address(&b)).unwrap();
    let mut message = ForwardBuilder::new(CHANNEL.channel, vec![]);
    assert!(message.push(&forged));
    b.deliver(CHANNEL, &message.finish());
    let (mut direct, mut relayed) = (None, None);
    until("the peer's and the relay's", || {
        direct = direct.take().or_else(|| b.output.direct.try_recv().ok());
        relayed = relayed.take().or_else(|| b.output.packets.try_recv().ok());
        direct.is_some() && relayed.is_some()
    });
    assert_eq!((direct.unwrap().via, relayed.unwrap().via), (Via::Udp(known), CHANNEL.into()));
}
