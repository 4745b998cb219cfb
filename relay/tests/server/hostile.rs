//! What strangers and bad clients try. Each is cut or dropped and counted, and nobody else notices.

use crate::harness::{Client, Received, TestRelay, forward, network, open, pair};
use futures_util::{SinkExt as _, StreamExt as _};
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::ids::{ChannelId, RelayId};
use shadowmesh_proto::link::ClientLink;
use shadowmesh_proto::rng::{Rng as _, SeededRng};
use shadowmesh_proto::wire::relay::{Control, ErrorCode, GoneReason, MAX_MESSAGE};
use shadowmesh_relay::config::Settings;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// Everything the relay says until it closes; a reset counts as closing.
async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        bytes.extend_from_slice(&buffer[..count]);
    }
    bytes
}

fn impatient() -> Settings {
    // Long enough for an honest client of a busy machine, which two of these tests need.
    Settings { handshake_timeout: Duration::from_millis(800), ..Settings::default() }
}

#[tokio::test]
async fn another_path_is_not_found() {
    let relay = TestRelay::start(&Settings::default());
    let stream = TcpStream::connect(relay.address).await.unwrap();
    let refused = tokio_tungstenite::client_async("ws://relay/other", stream).await.unwrap_err();
    assert!(refused.to_string().contains("404"), "{refused}");
    relay.until(|status| crate::harness::dropped(status, "not_websocket") == 1).await;
}

#[tokio::test]
async fn what_is_no_http_is_closed() {
    let relay = TestRelay::start(&Settings::default());
    let mut rng = SeededRng::new(1);
    for length in [1usize, 100, 5_000, 70_000] {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        let mut junk = vec![0; length];
        rng.fill(&mut junk);
        junk.extend_from_slice(b"\r\n\r\n");
        // The relay may close in the middle of it.
        let _ = stream.write_all(&junk).await;
        read_to_end(&mut stream).await;
    }
    // A TLS greeting on the plain port.
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
    read_to_end(&mut stream).await;
}

#[tokio::test]
async fn slow_strangers_are_cut_at_every_stage() {
    let relay = TestRelay::start(&impatient());
    // Nothing at all; half a request; a request byte by byte and never finished.
    let mut silent = TcpStream::connect(relay.address).await.unwrap();
    let mut half = TcpStream::connect(relay.address).await.unwrap();
    half.write_all(b"GET /v1 HTTP/1.1\r\nHost: relay\r\n").await.unwrap();
    read_to_end(&mut silent).await;
    read_to_end(&mut half).await;
    // An upgrade and nothing more; a handshake and no REGISTER.
    let mut upgraded = open(&relay).await;
    assert!(!matches!(upgraded.next().await, Some(Ok(Message::Binary(_)))));
    let mut handshaken = open(&relay).await;
    let node = NodeSecret::generate(&mut SeededRng::new(5));
    let (_, init) = ClientLink::begin(&node, relay.key, &mut SeededRng::new(6)).unwrap();
    handshaken.send(Message::binary(init)).await.unwrap();
    assert!(matches!(handshaken.next().await, Some(Ok(Message::Binary(_)))), "LINK_RESPONSE");
    assert!(!matches!(handshaken.next().await, Some(Ok(Message::Binary(_)))));
    let status = relay.until(|status| crate::harness::dropped(status, "handshake_timeout") == 4).await;
    assert_eq!(status.clients, 0);
}

#[tokio::test]
async fn a_registered_client_outlives_the_handshake_deadline() {
    let relay = TestRelay::start(&impatient());
    let mut client = Client::join(&relay, &network(1), 10).await;
    // Somebody else being cut proves that the time has passed.
    let mut silent = TcpStream::connect(relay.address).await.unwrap();
    read_to_end(&mut silent).await;
    client.sync().await;
}

#[tokio::test]
async fn the_first_message_must_be_a_handshake() {
    let relay = TestRelay::start(&Settings::default());
    let wrong = [
        vec![],
        vec![0],
        vec![0x02, 1, 2, 3],
        vec![0x03; 40],
        vec![0xff; 100],
        forward(ChannelId(1), &[b"x"]),
        vec![0x01, 2],
        vec![0x01, 1],
    ];
    let count = wrong.len();
    for first in wrong {
        let mut ws = open(&relay).await;
        ws.send(Message::binary(first)).await.unwrap();
        assert!(!matches!(ws.next().await, Some(Ok(Message::Binary(_)))), "a stranger gets no answer");
    }
    let expected = u64::try_from(count).unwrap();
    relay.until(|status| crate::harness::dropped(status, "malformed") == expected).await;
}

#[tokio::test]
async fn a_handshake_for_another_relay_is_not_answered() {
    let relay = TestRelay::start(&Settings::default());
    let other = NodeSecret::generate(&mut SeededRng::new(3));
    let node = NodeSecret::generate(&mut SeededRng::new(4));
    let (_, init) = ClientLink::begin(&node, RelayId(other.public().0), &mut SeededRng::new(5)).unwrap();
    let mut ws = open(&relay).await;
    ws.send(Message::binary(init)).await.unwrap();
    assert!(!matches!(ws.next().await, Some(Ok(Message::Binary(_)))));
}

#[tokio::test]
async fn damage_on_an_open_link_ends_it_and_the_peer_is_told() {
    let too_long = {
        let mut message = forward(ChannelId(1), &[&[1; 65_000]]);
        message.resize(MAX_MESSAGE + 1, 0);
        message
    };
    let mut no_packet = forward(ChannelId(1), &[b"x"]);
    no_packet.truncate(5);
    let mut lying_length = forward(ChannelId(1), &[b"x"]);
    lying_length[5] = 0xff;
    let wrong = [vec![0x03; 60], vec![0x05], vec![], no_packet, lying_length, too_long, vec![0x01, 1, 2, 3]];
    for bytes in wrong {
        let relay = TestRelay::start(&Settings::default());
        let (mut a, mut b, channel) = pair(&relay).await;
        let gone = a.node;
        a.raw(bytes).await;
        a.closed().await;
        assert_eq!(b.control().await, Control::PeerGone { peer: gone, channel, reason: GoneReason::Lost });
        b.sync().await;
    }
}

#[tokio::test]
async fn text_is_not_spoken_here() {
    let relay = TestRelay::start(&Settings::default());
    let mut client = Client::join(&relay, &network(1), 10).await;
    client.ws.send(Message::text("hello")).await.unwrap();
    client.closed().await;
}

#[tokio::test]
async fn a_message_in_fragments_is_one_message_and_too_many_fragments_are_cut() {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let relay = TestRelay::start(&Settings::default());
    let (mut a, mut b, channel) = pair(&relay).await;
    let message = forward(channel, &[&[9; 3_000]]);
    let (head, tail) = message.split_at(1_000);
    let frame =
        |bytes: &[u8], kind, last| Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(kind), last));
    a.ws.send(frame(head, Data::Binary, false)).await.unwrap();
    a.ws.send(Message::Ping(vec![1].into())).await.unwrap();
    a.ws.send(frame(tail, Data::Continue, true)).await.unwrap();
    assert_eq!(b.next().await, Received::Forward(message.into()));
    a.ws.send(frame(&[4; 40_000], Data::Binary, false)).await.unwrap();
    a.ws.send(frame(&[4; 40_000], Data::Continue, false)).await.unwrap();
    a.closed().await;
}

#[tokio::test]
async fn a_channel_of_others_leads_nowhere() {
    let relay = TestRelay::start(&Settings::default());
    let (mut a, mut b, channel) = pair(&relay).await;
    let mut stranger = Client::join(&relay, &network(2), 20).await;
    stranger.forward(channel, &[b"injected"]).await;
    stranger.send(Control::Confirmed { channel }).await;
    stranger.sync().await;
    assert_eq!(relay.drops("unknown_channel"), 1);
    a.forward(channel, &[b"honest"]).await;
    assert_eq!(b.next().await, Received::Forward(forward(channel, &[b"honest"]).into()));
    // The channel dies with one of its ends.
    drop(b);
    assert!(matches!(a.control().await, Control::PeerGone { reason: GoneReason::Lost, .. }));
    a.forward(channel, &[b"late"]).await;
    a.sync().await;
    assert_eq!(relay.drops("unknown_channel"), 2);
}

#[tokio::test]
async fn the_same_key_again_takes_the_place_and_the_old_one_is_told() {
    let relay = TestRelay::start(&Settings::default());
    let mut old = Client::join(&relay, &network(1), 10).await;
    let mut new = Client::join(&relay, &network(1), 10).await;
    let body = old.control().await;
    let Control::Error { code, retry_ms, .. } = body else { panic!("expected ERROR, got {body:?}") };
    assert_eq!((ErrorCode::from_u16(code), retry_ms), (ErrorCode::Replaced, None));
    old.closed().await;
    new.sync().await;
    assert_eq!(relay.until(|status| status.clients == 1).await.replaced, 1);
}

#[tokio::test]
async fn who_talks_too_much_is_told_and_closed() {
    let mut settings = Settings::default();
    settings.limits.control_burst = 5.0;
    settings.limits.control_per_second = 0.001;
    let relay = TestRelay::start(&settings);
    let mut client = Client::join(&relay, &network(1), 10).await;
    for id in 0..5 {
        client.send(Control::Ping { id }).await;
        assert_eq!(client.control().await, Control::Pong { id });
    }
    client.send(Control::Ping { id: 5 }).await;
    let body = client.control().await;
    let Control::Error { code, retry_ms: Some(_), .. } = body else { panic!("expected ERROR, got {body:?}") };
    assert_eq!(ErrorCode::from_u16(code), ErrorCode::Limited);
    client.closed().await;
}

#[tokio::test]
async fn a_full_network_and_a_full_address_are_told() {
    let mut settings = Settings::default();
    settings.limits.members_per_network = 1;
    settings.limits.connections_per_address = 2;
    let relay = TestRelay::start(&settings);
    let first = Client::join(&relay, &network(1), 10).await;
    let refused = Client::try_join(&relay, open(&relay).await, &network(1), 11).await.err().unwrap();
    assert!(matches!(refused, Control::Error { retry_ms: Some(_), .. }), "{refused:?}");
    // The refused one is gone before the next comes.
    let second = loop {
        match tokio_tungstenite::client_async(
            "ws://relay/v1",
            TcpStream::connect(relay.address).await.unwrap(),
        )
        .await
        {
            Ok((ws, _)) => break ws,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut third = TcpStream::connect(relay.address).await.unwrap();
    let answer = String::from_utf8(read_to_end(&mut third).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("Retry-After: "), "{answer}");
    drop((first, second));
}

#[tokio::test]
async fn connecting_too_often_is_refused_before_any_handshake() {
    let mut settings = Settings::default();
    settings.limits.connects_burst = 3.0;
    settings.limits.connects_per_second = 0.001;
    let relay = TestRelay::start(&settings);
    for _ in 0..3 {
        open(&relay).await;
    }
    let mut fourth = TcpStream::connect(relay.address).await.unwrap();
    assert!(read_to_end(&mut fourth).await.starts_with(b"HTTP/1.1 429 "));
    assert_eq!(relay.drops("refused_rate"), 1);
}
