//! Behind a reverse proxy: who is believed, whose limits count, and what peers are told.

use crate::harness::{Client, TestRelay, dropped, network, upgrade};
use shadowmesh_proto::wire::relay::Control;
use shadowmesh_relay::admin::Status;
use shadowmesh_relay::config::{Prefixes, Settings};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// All of them share this machine: 127.0.0.1 is the proxy, 127.0.0.2 is not.
fn settings() -> Settings {
    Settings { trusted_proxies: Prefixes(vec!["127.0.0.1".parse().unwrap()]), ..Settings::default() }
}

fn header(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, kind], &len, rest].concat()
}

/// A header of version 2 for a client at 192.0.2.`host`, port 40000.
fn of_client(host: u8) -> Vec<u8> {
    header(0x21, 0x11, &[192, 0, 2, host, 198, 51, 100, 1, 0x9c, 0x40, 0x01, 0xbb])
}

async fn from(relay: &TestRelay, ip: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((ip, 0))).unwrap();
    socket.connect(relay.address).await.unwrap()
}

async fn said(relay: &TestRelay, header: &[u8]) -> TcpStream {
    let mut stream = from(relay, [127, 0, 0, 1]).await;
    stream.write_all(header).await.unwrap();
    stream
}

async fn forwarded(
    stream: TcpStream,
    value: &str,
) -> Result<WebSocketStream<TcpStream>, tokio_tungstenite::tungstenite::Error> {
    let mut request = "ws://relay/v1".into_client_request().unwrap();
    request.headers_mut().insert("x-forwarded-for", value.parse().unwrap());
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}

fn observed(client: &Client) -> SocketAddr {
    let Control::Registered { observed_tcp, .. } = client.registered else { panic!("not registered") };
    observed_tcp
}

async fn join(relay: &TestRelay, ws: WebSocketStream<TcpStream>, seed: u64) -> Client {
    Client::try_join(relay, ws, &network(1), seed).await.unwrap()
}

/// What each of the two is told of the other's address.
async fn told(a: &mut Client, b: &mut Client) -> [Option<SocketAddr>; 2] {
    a.send(Control::Connect { peer: None }).await;
    let channel = a.met(b.node).await;
    b.met(a.node).await;
    a.send(Control::Confirmed { channel }).await;
    b.send(Control::Confirmed { channel }).await;
    let mut told = [None; 2];
    for (client, told) in [a, b].into_iter().zip(&mut told) {
        let body = client.control().await;
        let Control::Established { peer_tcp, .. } = body else {
            panic!("expected ESTABLISHED, got {body:?}")
        };
        *told = peer_tcp;
    }
    told
}

#[tokio::test]
async fn a_header_names_the_client_and_its_port_is_told_to_peers() {
    let relay = TestRelay::start(&settings());
    let stream = said(&relay, &of_client(7)).await;
    let mut a = join(&relay, upgrade(stream).await, 10).await;
    assert_eq!(observed(&a), "192.0.2.7:40000".parse().unwrap());
    let mut b = join(&relay, upgrade(from(&relay, [127, 0, 0, 2]).await).await, 11).await;
    assert_eq!(observed(&b), b.address());
    assert_eq!(told(&mut a, &mut b).await, [Some(b.address()), Some("192.0.2.7:40000".parse().unwrap())]);
}

#[tokio::test]
async fn a_line_of_the_request_names_the_client_and_no_direct_tcp_is_offered() {
    let relay = TestRelay::start(&settings());
    let ws = forwarded(from(&relay, [127, 0, 0, 1]).await, "203.0.113.9, 192.0.2.7").await.unwrap();
    let mut a = join(&relay, ws, 10).await;
    assert_eq!(observed(&a), "192.0.2.7:0".parse().unwrap());
    let mut b = join(&relay, upgrade(from(&relay, [127, 0, 0, 2]).await).await, 11).await;
    assert_eq!(told(&mut a, &mut b).await, [Some(b.address()), None]);
}

#[tokio::test]
async fn what_the_proxy_does_itself_is_the_proxys_and_its_port_is_nobodys() {
    let relay = TestRelay::start(&settings());
    let unix = header(0x21, 0x31, &[b'x'; 216]);
    for (seed, header) in
        [header(0x20, 0, &[]), unix, header(0x21, 0x12, &[7; 12]), Vec::new()].iter().enumerate()
    {
        let stream = said(&relay, header).await;
        let client = join(&relay, upgrade(stream).await, 10 + u64::try_from(seed).unwrap()).await;
        assert_eq!(observed(&client), "127.0.0.1:0".parse().unwrap());
    }
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let relay = TestRelay::start(&settings());
    let stream = from(&relay, [127, 0, 0, 2]).await;
    let own = stream.local_addr().unwrap();
    let client = join(&relay, forwarded(stream, "192.0.2.7").await.unwrap(), 10).await;
    assert_eq!(observed(&client), own);
    // The header of version 2 is no HTTP.
    let mut stream = from(&relay, [127, 0, 0, 2]).await;
    stream.write_all(&of_client(7)).await.unwrap();
    stream.write_all(b"GET /v1 HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    // Nor is anybody where nobody is listed.
    let relay = TestRelay::start(&Settings::default());
    let stream = from(&relay, [127, 0, 0, 1]).await;
    let own = stream.local_addr().unwrap();
    let client = join(&relay, forwarded(stream, "192.0.2.7").await.unwrap(), 10).await;
    assert_eq!(observed(&client), own);
}

#[tokio::test]
async fn limits_count_who_is_behind_the_proxy_and_not_the_proxy() {
    let mut settings = settings();
    settings.limits.connections_per_address = 2;
    let relay = TestRelay::start(&settings);
    let mut open = Vec::new();
    for host in 1..=3 {
        for _ in 0..2 {
            open.push(upgrade(said(&relay, &of_client(host)).await).await);
        }
    }
    let mut third = said(&relay, &of_client(1)).await;
    let mut answer = String::new();
    third.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("Retry-After: "), "{answer}");
    for _ in 0..2 {
        open.push(forwarded(from(&relay, [127, 0, 0, 1]).await, "192.0.2.4").await.unwrap());
    }
    let refused = forwarded(from(&relay, [127, 0, 0, 1]).await, "192.0.2.4").await.unwrap_err();
    assert!(refused.to_string().contains("429"), "{refused}");
    assert_eq!(relay.drops("refused_address"), 2);
    // A departure makes room.
    drop(open);
    let again = async {
        loop {
            let stream = said(&relay, &of_client(1)).await;
            if tokio_tungstenite::client_async("ws://relay/v1", stream).await.is_ok() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("there is room");
}

#[tokio::test]
async fn a_header_that_is_none_ends_the_connection_and_is_counted() {
    let relay = TestRelay::start(&settings());
    let mut wrong_signature = of_client(7);
    wrong_signature[3] = 0;
    let wrong = [
        wrong_signature,
        header(0x11, 0x11, &[0; 12]),
        header(0x21, 0x11, &[0; 11]),
        header(0x21, 0x21, &[0; 12]),
        header(0x2f, 0x11, &[0; 12]),
        header(0x21, 0x11, &[0; 5_000]),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n".to_vec(),
    ];
    let count = u64::try_from(wrong.len()).unwrap();
    for header in wrong {
        let mut stream = said(&relay, &header).await;
        let _ = stream.write_all(b"GET /v1 HTTP/1.1\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    }
    relay.until(|status| dropped(status, "proxy_header") == count).await;
}

#[tokio::test]
async fn a_header_that_does_not_end_is_cut_in_time() {
    let settings = Settings { handshake_timeout: Duration::from_millis(800), ..settings() };
    let relay = TestRelay::start(&settings);
    let whole = of_client(7);
    let mut waiting = Vec::new();
    for len in [0, 1, 12, 15, 16, 27] {
        waiting.push(said(&relay, &whole[..len]).await);
    }
    for mut stream in waiting {
        assert!(!matches!(stream.read(&mut [0; 16]).await, Ok(1..)));
    }
    relay.until(|status| dropped(status, "handshake_timeout") == 6).await;
    assert_eq!(Status::of(&relay.handle).clients, 0);
}

#[tokio::test]
async fn settings_read_again_say_anew_who_is_believed() {
    let relay = TestRelay::start(&Settings::default());
    relay.handle.reconfigure(&settings());
    let mut client = join(&relay, upgrade(said(&relay, &of_client(7)).await).await, 10).await;
    assert_eq!(observed(&client), "192.0.2.7:40000".parse().unwrap());
    client.sync().await;
    relay.handle.reconfigure(&Settings::default());
    let stream = said(&relay, &of_client(7)).await;
    assert!(tokio_tungstenite::client_async("ws://relay/v1", stream).await.is_err());
    client.sync().await;
}
