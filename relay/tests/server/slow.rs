//! A client that does not read: it loses its own data, oldest first, and delays nobody.

use crate::harness::{Client, Received, TestRelay, dropped, forward, network};
use shadowmesh_proto::ids::ChannelId;
use shadowmesh_proto::wire::relay::{Control, GoneReason};
use shadowmesh_relay::config::Settings;
use std::time::Duration;

/// Data that no socket buffers on loopback hold: the relay's queue must overflow.
const FLOOD_MESSAGES: u32 = 600;
const FLOOD_PACKET: usize = 30_000;

/// A sender and two receivers of one network, and the sender's channels to them.
async fn three(relay: &TestRelay) -> (Client, (Client, ChannelId), (Client, ChannelId)) {
    let secret = network(1);
    let mut sender = Client::join(relay, &secret, 10).await;
    sender.send(Control::Connect { peer: None }).await;
    let mut slow = Client::join(relay, &secret, 11).await;
    let to_slow = sender.met(slow.node).await;
    slow.met(sender.node).await;
    let mut quick = Client::join(relay, &secret, 12).await;
    let to_quick = sender.met(quick.node).await;
    quick.met(sender.node).await;
    (sender, (slow, to_slow), (quick, to_quick))
}

async fn flood(sender: &mut Client, channel: ChannelId) {
    for number in 0..FLOOD_MESSAGES {
        let mut packet = vec![0; FLOOD_PACKET];
        packet[..4].copy_from_slice(&number.to_be_bytes());
        sender.forward(channel, &[&packet]).await;
    }
    sender.sync().await;
}

#[tokio::test]
async fn a_slow_reader_delays_nobody_and_loses_the_oldest() {
    let relay = TestRelay::start(&Settings::default());
    let (mut sender, (mut slow, to_slow), (mut quick, to_quick)) = three(&relay).await;
    for number in 0u32..50 {
        flood_some(&mut sender, to_slow).await;
        let message = forward(to_quick, &[&number.to_be_bytes()]);
        sender.raw(message.clone()).await;
        assert_eq!(quick.next().await, Received::Forward(message.into()), "in order and whole");
    }
    flood(&mut sender, to_slow).await;
    let lost = relay.drops("queue_full");
    assert!(lost > 0);

    // When it reads again: what is there is in order, the newest is there, and every packet is accounted for.
    let last = FLOOD_MESSAGES - 1;
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        let received = slow.next().await;
        let Received::Forward(message) = received else { panic!("expected FORWARD, got {received:?}") };
        numbers.push(u32::from_be_bytes(message[7..11].try_into().unwrap()));
    }
    let received = u64::try_from(numbers.len()).unwrap();
    assert_eq!(received + lost, u64::from(FLOOD_MESSAGES) + 50 * u64::from(SOME));
    let tail = numbers.iter().rev().take_while(|number| **number > 0);
    assert!(tail.is_sorted_by(|later, earlier| later > earlier));
}

const SOME: u32 = 20;

async fn flood_some(sender: &mut Client, channel: ChannelId) {
    for _ in 0..SOME {
        sender.forward(channel, &[&[0; FLOOD_PACKET]]).await;
    }
}

#[tokio::test]
async fn who_keeps_up_loses_nothing_to_a_sender_that_is_faster() {
    // No timer comes to the rescue of a wake-up that was forgotten, and however busy this machine is, the reader catches up.
    let long = Duration::from_secs(3_600);
    let mut settings = Settings { write_timeout: long, heartbeat: long, ..Settings::default() };
    settings.limits.back_pressure = long;
    let relay = TestRelay::start(&settings);
    let (mut sender, _slow, (mut quick, to_quick)) = three(&relay).await;
    let read = async {
        for number in 0..FLOOD_MESSAGES {
            let received = quick.next().await;
            let Received::Forward(message) = received else { panic!("expected FORWARD, got {received:?}") };
            assert_eq!(message[7..11], number.to_be_bytes());
        }
    };
    let both = async { tokio::join!(flood(&mut sender, to_quick), read) };
    tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert_eq!(relay.drops("queue_full"), 0);
}

#[tokio::test]
async fn without_back_pressure_the_queue_alone_decides() {
    let mut settings = Settings::default();
    settings.limits.back_pressure = Duration::ZERO;
    let relay = TestRelay::start(&settings);
    let (mut sender, (_slow, to_slow), (mut quick, _)) = three(&relay).await;
    flood(&mut sender, to_slow).await;
    assert!(relay.drops("queue_full") > 0);
    quick.sync().await;
}

#[tokio::test]
async fn control_overtakes_data_that_waits() {
    let relay = TestRelay::start(&Settings::default());
    let (mut sender, (mut slow, to_slow), _quick) = three(&relay).await;
    flood(&mut sender, to_slow).await;
    slow.send(Control::Ping { id: 5 }).await;
    // The relay still reads from a client that does not read: once the sender is told RELEASE, the PONG waits.
    slow.send(Control::Release { channel: to_slow }).await;
    assert_eq!(sender.control().await, Control::Release { channel: to_slow });
    let mut before = 0;
    while matches!(slow.next().await, Received::Forward(_)) {
        before += 1;
    }
    let mut after = 0;
    let arrived = u64::from(FLOOD_MESSAGES) - relay.drops("queue_full");
    while u64::try_from(before + after).unwrap() < arrived {
        assert!(matches!(slow.next().await, Received::Forward(_)));
        after += 1;
    }
    assert!(after > 0, "the PONG came before data that was queued before it");
}

#[tokio::test]
async fn who_never_reads_is_closed_and_its_peers_are_told() {
    let settings = Settings { write_timeout: Duration::from_millis(100), ..Settings::default() };
    let relay = TestRelay::start(&settings);
    let (mut sender, (slow, to_slow), (mut quick, _)) = three(&relay).await;
    flood(&mut sender, to_slow).await;
    let gone = Control::PeerGone { peer: slow.node, channel: to_slow, reason: GoneReason::Lost };
    assert_eq!(sender.control().await, gone);
    quick.sync().await;
    relay.until(|status| dropped(status, "stuck_reader") == 1 && status.clients == 2).await;
    drop(slow);
}

#[tokio::test]
async fn who_says_nothing_is_pinged_and_then_given_up() {
    let settings = Settings { heartbeat: Duration::from_millis(40), ..Settings::default() };
    let relay = TestRelay::start(&settings);
    let mut client = Client::join(&relay, &network(1), 10).await;
    let body = client.control().await;
    let Control::Ping { id } = body else { panic!("expected PING, got {body:?}") };
    client.send(Control::Pong { id }).await;
    // An answer buys another round.
    assert!(matches!(client.control().await, Control::Ping { .. }));
    client.closed().await;
    relay.until(|status| dropped(status, "silent") == 1).await;
}

#[tokio::test]
async fn a_rate_is_kept_by_reading_slower_and_nothing_is_lost() {
    let mut settings = Settings::default();
    // The burst is one second's worth; half as much again takes half a second, which nothing here asserts.
    settings.limits.bytes_per_second = Some(1_000_000.0);
    let relay = TestRelay::start(&settings);
    let (mut sender, _slow, (mut quick, to_quick)) = three(&relay).await;
    for number in 0u32..50 {
        let mut packet = vec![0; FLOOD_PACKET];
        packet[..4].copy_from_slice(&number.to_be_bytes());
        sender.forward(to_quick, &[&packet]).await;
    }
    for number in 0u32..50 {
        let received = quick.next().await;
        let Received::Forward(message) = received else { panic!("expected FORWARD, got {received:?}") };
        assert_eq!(message[7..11], number.to_be_bytes());
    }
    assert_eq!(relay.drops("queue_full"), 0);
}
