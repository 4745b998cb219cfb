//! RESUME that is late, copied, stolen, made up, or said without end: it informs where it is the peer's word, and moves nothing.

use super::direct::{DIRECT, Nat, RELAYED, behind, kinds, traffic};
use super::*;
use crate::path::select::PathKind;
use crate::wire::control::Control;
use crate::wire::header::{HEADER_LEN, TAG_LEN};

const STRANGER: &str = "192.0.2.66:6";

fn direct_pair(seed: u64) -> World {
    let mut world = behind(seed, [Nat::PortRestricted; 2]);
    world.run(Duration::from_secs(5));
    traffic(&mut world, Duration::from_secs(2), true);
    assert_eq!(kinds(&world), DIRECT);
    for node in &mut world.nodes {
        node.events.clear();
    }
    world
}

fn stranger() -> Via {
    Via::Udp(STRANGER.parse().unwrap())
}

impl World {
    /// Node 0 says RESUME; the datagram that it leaves in does not arrive.
    fn stolen_resume(&mut self, number: u64, kind: PathKind) -> Vec<u8> {
        let (now, peer) = (self.now, self.nodes[1].endpoint.id());
        self.drain();
        let before: Vec<_> = self.internet.under_way.iter().map(|(.., bytes)| bytes.clone()).collect();
        let resume = Control::Resume { number, kind, paths: vec![], floor: 0 };
        self.nodes[0].endpoint.with_peer(now, peer, |peer, ctx| peer.say_for_test(ctx, &resume));
        self.drain();
        let at = self.internet.under_way.iter().position(|(.., bytes)| !before.contains(bytes));
        self.internet.under_way.remove(at.unwrap()).unwrap().3
    }

    /// It comes to node 1.
    fn deliver(&mut self, via: Via, packet: &[u8]) -> Result<(), PacketError> {
        let now = self.now;
        let result = self.nodes[1].endpoint.handle_packet(now, via, &mut packet.to_vec());
        self.drain();
        result
    }

    /// Node 1's data goes where it went, in the session that it was in, and nothing of it goes again.
    fn expect_unmoved(&self, via: Via) {
        assert_eq!(self.status(1).path.unwrap().via, via);
        assert_eq!(self.status(1).state, PeerState::Connected);
        let moved = self.count(1, |event| {
            matches!(
                event,
                Event::Route { .. }
                    | Event::Moved { .. }
                    | Event::Resend { .. }
                    | Event::Doubt { .. }
                    | Event::Sources { .. }
                    | Event::PeerState { .. }
                    | Event::StartAssociation { .. }
            )
        });
        assert_eq!(moved, 0, "{:?}", self.nodes[1].events);
    }

    /// Datagrams that node 1 sent to the stranger, and their bytes.
    fn sent_to_stranger(&self) -> (usize, usize) {
        let to: SocketAddr = STRANGER.parse().unwrap();
        let sent = self.internet.sent[1].iter().filter(|(address, _)| *address == to);
        sent.fold((0, 0), |(count, bytes), (_, len)| (count + 1, bytes + len))
    }
}

#[test]
fn the_highest_number_counts_and_one_that_was_held_back_takes_nothing_back() {
    let mut world = direct_pair(60);
    let via = world.status(1).path.unwrap().via;
    let late = world.stolen_resume(1_000, PathKind::RelayWs);
    let newest = world.stolen_resume(1_001, PathKind::RelayUdp);
    world.deliver(via, &newest).unwrap();
    assert_eq!(world.status(1).peer_path, Some(PathKind::RelayUdp));
    world.deliver(via, &late).unwrap();
    assert_eq!(world.status(1).peer_path, Some(PathKind::RelayUdp), "that was its last word");
    let acked = world.count(1, |event| matches!(event, Event::Acked { .. }));
    assert_eq!(acked, 1, "what the late one says to have come says nothing either");
    traffic(&mut world, Duration::from_secs(5), true);
    world.expect_unmoved(via);
}

#[test]
fn one_that_was_stolen_and_comes_from_elsewhere_informs_and_its_copies_do_nothing() {
    let mut world = direct_pair(61);
    let via = world.status(1).path.unwrap().via;
    let stolen = world.stolen_resume(1_000, PathKind::RelayWs);
    world.run(Duration::from_millis(800));
    world.internet.sent[1].clear();
    world.deliver(stranger(), &stolen).unwrap();
    assert_eq!(world.status(1).peer_path, Some(PathKind::RelayWs), "only the peer can have said it");
    // By every way that there is, a thousand times.
    for round in 0..1_000 {
        for way in [stranger(), via, channel()] {
            assert!(world.deliver(way, &stolen).is_err(), "round {round} by {way:?}");
        }
        world.run(Duration::from_millis(1));
    }
    traffic(&mut world, Duration::from_secs(5), true);
    world.expect_unmoved(via);
    let (datagrams, bytes) = world.sent_to_stranger();
    assert!(datagrams <= 2 && bytes < 100, "an answer and a check, and not {datagrams} of {bytes} bytes");
}

#[test]
fn one_of_another_session_or_that_was_changed_is_dropped() {
    let mut world = direct_pair(62);
    let via = world.status(1).path.unwrap().via;
    let foreign = direct_pair(63).stolen_resume(1_000, PathKind::RelayWs);
    let own = world.stolen_resume(1_000, PathKind::RelayWs);
    // Its clear part with the other's ciphertext, and itself with each bit of one byte in turn.
    let header = crate::wire::header::HEADER_LEN;
    let mixed = [&own[..header], &foreign[header..]].concat();
    let changed = (0..own.len()).map(|at| {
        let mut packet = own.clone();
        packet[at] ^= 1 << (at % 8);
        packet
    });
    let forged: Vec<_> = [foreign, mixed].into_iter().chain(changed).collect();
    for packet in &forged {
        for way in [stranger(), via, channel()] {
            assert!(world.deliver(way, packet).is_err());
        }
    }
    assert_eq!(world.status(1).peer_path, Some(PathKind::DirectUdp));
    world.deliver(via, &own).unwrap();
    assert_eq!(world.status(1).peer_path, Some(PathKind::RelayWs), "it is good as it was");
    traffic(&mut world, Duration::from_secs(5), true);
    world.expect_unmoved(via);
    assert_eq!(world.sent_to_stranger(), (0, 0));
}

#[test]
fn a_member_that_says_it_without_end_moves_nothing_and_has_a_stranger_sent_little() {
    let mut world = direct_pair(64);
    let via = world.status(1).path.unwrap().via;
    world.internet.sent[1].clear();
    let all = [PathKind::RelayWs, PathKind::RelayUdp, PathKind::DirectTcp, PathKind::DirectUdp];
    let numbers =
        (1..5_000).chain([u64::MAX]).map(|number| if number == 4_999 { u64::MAX - 1 } else { number });
    let (began, mut bytes) = (world.now, 0);
    for (at, number) in numbers.enumerate() {
        let packet = world.stolen_resume(number, all[at % all.len()]);
        let way = [stranger(), via, channel()][at % 3];
        if way == stranger() {
            bytes += packet.len();
        }
        world.deliver(way, &packet).unwrap();
        world.run(Duration::from_millis(1));
    }
    let seconds = (world.now - began).as_secs() + 1;
    let (datagrams, sent) = world.sent_to_stranger();
    // Answers as protocol §7.1 has them, twenty at once and ten a second; checks of an address that was heard from (§7.5) are fewer.
    let most = 20 + 10 * seconds + 20 + seconds;
    assert!(datagrams as u64 <= most && sent < bytes, "{datagrams} of {most}, {sent} bytes for {bytes}");
    traffic(&mut world, Duration::from_secs(5), true);
    world.expect_unmoved(via);
    assert_eq!(kinds(&world), DIRECT);
}

#[test]
fn a_relay_that_keeps_its_acknowledgement_does_not_keep_the_data() {
    let mut world = direct_pair(105);
    traffic(&mut world, Duration::from_secs(2), true);
    // It knows it by its size, which it shares with other acknowledgements.
    world.drop = |_, packet| {
        let is_control = PacketKind::of(packet) == Some(PacketKind::Transport(PacketType::Control));
        is_control && packet.len() == HEADER_LEN + Control::ResumeAck { number: 1 }.encode().len() + TAG_LEN
    };
    world.internet.is_torn = true;
    traffic(&mut world, Duration::from_millis(600), false);
    assert_eq!(kinds(&world), RELAYED);
    world.internet.is_torn = false;
    traffic(&mut world, Duration::from_secs(20), true);
    assert_eq!(kinds(&world), DIRECT);
}
