//! The task of a relay against a WebSocket server that does what the test says.

use super::*;
use crate::device::memory::pair;
use crate::device::{DeviceFault, MemoryPort};
use crate::net::Netlink;
use crate::plane::{Plane, PlaneOutput, Snapshot};
use crate::switch::Directory;
use crate::transport::udp::DatagramSocket;
use futures_util::{SinkExt, StreamExt};
use shadowmesh_proto::ids::{ChannelId, MacAddr};
use shadowmesh_proto::rng::SeededRng;
use shadowmesh_proto::session::{ChunkPool, RingLimits};
use shadowmesh_proto::wire::relay::{ForwardBuilder, MAX_MESSAGE, StreamMessage};
use std::future::Future;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// Longer than any pause between tries that nobody asked for.
const NOT_AT_ONCE: Duration = Duration::from_millis(1_900);
/// Long enough for any machine; met by failures only.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// A task and what it speaks to.
struct Client {
    handle: RelayHandle,
    events: mpsc::Receiver<(RelayNo, RelayEvent)>,
    output: PlaneOutput,
    _plane: Plane,
    _wire: MemoryPort,
}

impl Client {
    fn new(addresses: &[SocketAddr]) -> Self {
        Self::at(addresses.iter().map(ToString::to_string).collect())
    }

    /// Of addresses as tickets have them.
    fn at(addresses: Vec<String>) -> Self {
        Self::by(None, addresses)
    }

    fn by(proxy: Option<Arc<ProxyRule>>, addresses: Vec<String>) -> Self {
        let (wire, device) = pair(&"mem0".parse().unwrap(), 16).unwrap();
        let snapshot = Snapshot {
            directory: Arc::new(Directory::new(MacAddr([2; 6]))),
            peers: vec![],
            streams: vec![None],
            links: vec![],
            bindings: vec![None],
            stun: [].into(),
            access: None,
            own: Arc::default(),
        };
        let socket = DatagramSocket::bind().unwrap();
        let (plane, output) = Plane::start(
            device.into_device(),
            socket,
            snapshot,
            ChunkPool::new(1 << 20),
            RingLimits::default(),
        )
        .unwrap();
        let (sender, events) = mpsc::channel(64);
        let relay = Relay {
            no: RelayNo(0),
            addresses,
            proxy,
            outside: Outside::new(Arc::new(Netlink::open().unwrap()), 0),
            events: sender,
            inbound: plane.messages(),
            producer: plane.outbound_waker(),
        };
        let handle = spawn(relay, SeededRng::new(1));
        Self { handle, events, output, _plane: plane, _wire: wire }
    }

    async fn event(&mut self) -> RelayEvent {
        soon("an event", self.events.recv()).await.expect("the task lives").1
    }

    async fn opened(&mut self) -> (Option<SocketAddr>, StreamHandle, RelayStream) {
        loop {
            match self.event().await {
                RelayEvent::Opened { remote, local, data, stream, .. } => {
                    assert!(local.is_some_and(|local| local.ip().is_loopback()), "{local:?}");
                    return (remote, data, stream);
                }
                RelayEvent::Connecting | RelayEvent::Closed { .. } => {}
                RelayEvent::Message(message) => panic!("{message:?}"),
            }
        }
    }

    async fn closed(&mut self) -> String {
        self.ended().await.0
    }

    async fn ended(&mut self) -> (String, Ending) {
        loop {
            match self.event().await {
                RelayEvent::Closed { why, ending } => return (why, ending),
                RelayEvent::Connecting | RelayEvent::Message(_) => {}
                RelayEvent::Opened { .. } => panic!("open"),
            }
        }
    }
}

type Server<S = TcpStream> = WebSocketStream<S>;

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn accept(listener: &TcpListener) -> Server {
    let (stream, _) = soon("a connection", listener.accept()).await.unwrap();
    soon("an upgrade", accept_async(stream)).await.unwrap()
}

async fn binary<S: AsyncRead + AsyncWrite + Unpin>(server: &mut Server<S>) -> Vec<u8> {
    match soon("a message", server.next()).await {
        Some(Ok(Message::Binary(message))) => message.to_vec(),
        other => panic!("{other:?}"),
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(server: &mut Server<S>, message: Vec<u8>) {
    server.send(Message::binary(message)).await.unwrap();
}

fn control(n: u8) -> Vec<u8> {
    StreamMessage::control(&[n; 40])
}

fn forward(n: u8) -> Vec<u8> {
    let mut builder = ForwardBuilder::new(ChannelId(7), vec![]);
    assert!(builder.push(&[&[0xc1], &[n; 40][..]].concat()));
    builder.finish()
}

/// A server and a client with an open stream.
async fn connected() -> (TcpListener, Server, Client, StreamHandle, RelayStream) {
    let (listener, address) = listener().await;
    let mut client = Client::new(&[address]);
    let server = accept(&listener).await;
    let (_, data, stream) = client.opened().await;
    (listener, server, client, data, stream)
}

#[tokio::test]
async fn messages_pass_both_ways_and_control_goes_first() {
    let (_listener, mut server, mut client, data, stream) = connected().await;
    for n in 0..3 {
        data.push(forward(n));
    }
    stream.send(control(9));
    assert_eq!(binary(&mut server).await, control(9));
    for n in 0..3 {
        assert_eq!(binary(&mut server).await, forward(n));
    }
    say(&mut server, control(1)).await;
    assert!(matches!(client.event().await, RelayEvent::Message(message) if message == control(1)));
    stream.registered();
    say(&mut server, forward(5)).await;
    let packet = soon("a packet", client.output.packets.recv()).await.unwrap();
    assert_eq!(packet.packet[1..], [5; 40]);
    server.send(Message::Ping("are you there".into())).await.unwrap();
    let answer = soon("an answer", server.next()).await;
    assert!(matches!(answer, Some(Ok(Message::Pong(text))) if text == "are you there"));
}

/// A certificate in four parts, and a word or two, to each of as many peers as a relay introduces.
#[tokio::test]
async fn what_one_turn_says_to_many_peers_does_not_end_the_stream() {
    let (_listener, mut server, _client, _data, stream) = connected().await;
    let count = 512 * 6;
    for n in 0..count {
        stream.send(control((n % 251) as u8));
    }
    for n in 0..count {
        assert_eq!(binary(&mut server).await, control((n % 251) as u8));
    }
}

#[tokio::test]
async fn what_was_said_to_a_stream_that_ended_never_reaches_the_next() {
    let (listener, server, mut client, old_data, old) = connected().await;
    drop(server);
    client.closed().await;
    old.send(control(1));
    old.registered();
    old_data.push(forward(1));
    let mut server = accept(&listener).await;
    let (_, _data, stream) = client.opened().await;
    old.send(control(2));
    old.give_up();
    stream.send(control(3));
    assert_eq!(binary(&mut server).await, control(3));
    // The registration was the old one's, too.
    say(&mut server, forward(1)).await;
    assert_eq!(client.closed().await, StreamError::Protocol.to_string());
}

#[tokio::test]
async fn a_stream_given_up_is_replaced_at_once() {
    let (listener, mut server, mut client, _data, stream) = connected().await;
    let began = Instant::now();
    stream.give_up();
    assert_eq!(client.closed().await, StreamError::GivenUp.to_string());
    let _next = accept(&listener).await;
    client.opened().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(!matches!(soon("the end", server.next()).await, Some(Ok(_))));
}

#[tokio::test]
async fn a_relay_that_says_when_to_come_back_is_not_hurried() {
    let (listener, _server, mut client, _data, stream) = connected().await;
    let began = Instant::now();
    client.handle.stay_away(Duration::from_millis(700));
    stream.give_up();
    client.closed().await;
    client.handle.hurry();
    let _next = accept(&listener).await;
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    client.opened().await;
}

#[tokio::test]
async fn the_pause_holds_when_it_is_named_after_the_stream_is_gone() {
    let (listener, server, mut client, _data, stream) = connected().await;
    drop(server);
    client.closed().await;
    let began = Instant::now();
    client.handle.stay_away(Duration::from_millis(700));
    stream.give_up();
    let second = async {
        loop {
            // A try that was under way may have come this far.
            let _next = accept(&listener).await;
            if began.elapsed() >= Duration::from_millis(650) {
                return;
            }
        }
    };
    tokio::select! {
        () = second => {}
        why = async { loop {
            if let RelayEvent::Opened { .. } = client.event().await {
                return began.elapsed();
            }
        } } => assert!(why >= Duration::from_millis(650), "{why:?}"),
    }
}

#[tokio::test]
async fn the_last_words_arrive_although_the_relay_is_talking() {
    let (_listener, server, mut client, _data, stream) = connected().await;
    stream.registered();
    let (mut says, mut hears) = server.split();
    let talking = tokio::spawn(async move {
        let message = Message::binary(forward(1));
        while says.send(message.clone()).await.is_ok() {}
    });
    for n in 0..100 {
        stream.send(control(n));
    }
    client.handle.end();
    stream.finish();
    let mut heard = Vec::new();
    while let Some(Ok(message)) = soon("the end", hears.next()).await {
        if let Message::Binary(message) = message {
            heard.push(message.to_vec());
        }
    }
    assert_eq!(heard, (0..100).map(control).collect::<Vec<_>>());
    talking.abort();
    assert!(soon("the end of the task", client.events.recv()).await.is_none());
}

#[tokio::test]
async fn a_task_ends_wherever_it_is() {
    // Before anybody answers, and while it pauses.
    let (hangs, address) = listener().await;
    let (refuses, refused) = listener().await;
    drop(refuses);
    for address in [address, refused] {
        let mut client = Client::new(&[address]);
        assert!(matches!(client.event().await, RelayEvent::Connecting));
        client.handle.end();
        let ended = async { while client.events.recv().await.is_some() {} };
        timeout(Duration::from_secs(2), ended).await.expect("ended");
    }
    drop(hangs);
}

#[tokio::test]
async fn a_relay_that_comes_back_is_found_within_two_seconds() {
    let (first, address) = listener().await;
    drop(first);
    let mut client = Client::new(&[address]);
    let mut closed = 0;
    // By the sixth refusal the pauses are the longest.
    while closed < 6 {
        let why = client.closed().await;
        assert!(why.contains("refused"), "{why}");
        closed += 1;
    }
    let listener = TcpListener::bind(address).await.unwrap();
    let began = Instant::now();
    let _server = accept(&listener).await;
    client.opened().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_storm_of_changes_is_not_a_storm_of_tries() {
    let (first, address) = listener().await;
    drop(first);
    let mut client = Client::new(&[address]);
    let began = Instant::now();
    let mut tries = 0;
    while began.elapsed() < Duration::from_secs(1) {
        client.handle.hurry();
        tokio::time::sleep(Duration::from_millis(2)).await;
        while let Ok((_, event)) = client.events.try_recv() {
            tries += u32::from(matches!(event, RelayEvent::Connecting));
        }
    }
    assert!((4..=14).contains(&tries), "{tries} tries in a second");
}

#[tokio::test]
async fn an_address_that_hangs_costs_a_quarter_of_a_second() {
    // The kernel takes the connection; nobody ever answers on it.
    let (_hangs, silent) = listener().await;
    let (listener, good) = listener().await;
    let began = Instant::now();
    let mut client = Client::new(&[silent, good]);
    let _server = accept(&listener).await;
    let (remote, ..) = client.opened().await;
    assert_eq!(remote, Some(good));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn somebody_else_at_the_address_is_named_and_the_next_tried() {
    let (web, address) = listener().await;
    let mut client = Client::new(&[address]);
    let (mut stream, _) = soon("a connection", web.accept()).await.unwrap();
    let mut request = [0; 1024];
    assert!(stream.read(&mut request).await.unwrap() > 0);
    stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let why = client.closed().await;
    assert!(why.contains("not as a relay"), "{why}");
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_the_stream() {
    let broken_forward = [&[4][..], &7u32.to_be_bytes(), &9u16.to_be_bytes(), &[1]].concat();
    let bad = [
        Message::text("hello"),
        Message::binary(vec![0x77; 10]),
        Message::binary(Vec::new()),
        Message::binary(broken_forward),
        Message::binary(vec![4; MAX_MESSAGE + 1]),
        Message::Close(None),
    ];
    for message in bad {
        let (_listener, mut server, mut client, _data, stream) = connected().await;
        stream.registered();
        server.send(message.clone()).await.unwrap();
        let why = client.closed().await;
        assert!(!why.is_empty(), "{message:?}");
        assert!(client.output.packets.try_recv().is_err(), "{message:?}");
        assert!(matches!(client.output.lost.try_recv(), Err(mpsc::error::TryRecvError::Empty)));
    }
}

#[tokio::test]
async fn a_forward_waits_for_the_registration_and_not_for_ever() {
    let (_listener, mut server, mut client, _data, stream) = connected().await;
    // In one piece with REGISTERED, as a busy relay sends them.
    say(&mut server, control(1)).await;
    say(&mut server, forward(5)).await;
    assert!(matches!(client.event().await, RelayEvent::Message(_)));
    stream.registered();
    let packet = soon("a packet", client.output.packets.recv()).await.unwrap();
    assert_eq!(packet.packet[1..], [5; 40]);

    let (_listener, mut server, mut client, _data, _stream) = connected().await;
    say(&mut server, forward(5)).await;
    assert_eq!(client.closed().await, StreamError::Protocol.to_string());
    assert!(client.output.packets.try_recv().is_err());
}

#[tokio::test]
async fn a_device_that_is_gone_ends_the_task_and_not_the_process() {
    let (_listener, mut server, client, _data, stream) = connected().await;
    stream.registered();
    let Client { mut events, output, _plane: plane, _wire: wire, handle } = client;
    drop(wire);
    let mut lost = output.lost;
    let fault = soon("the loss", lost.recv()).await;
    assert!(matches!(fault, Some(DeviceFault::Gone)));
    plane.stop();
    say(&mut server, forward(1)).await;
    assert!(soon("the end of the task", events.recv()).await.is_none());
    drop(handle);
}

/// A server's side of TLS with a certificate that nobody signed, for another name, whose time was over long ago, and which says that who does not know one of
/// its extensions is not to take it.
fn acceptor() -> tokio_rustls::TlsAcceptor {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["another.example".into()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let mut unknown = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    unknown.set_criticality(true);
    params.custom_extensions = vec![unknown];
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(
            vec![certificate],
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&key.serialize_der().try_into().unwrap())
                .unwrap(),
        ))));
    Arc::new(config).into()
}

#[tokio::test]
async fn an_address_of_tls_is_reached_by_it_whatever_the_certificate() {
    let (listener, address) = listener().await;
    let mut client = Client::at(vec![format!("wss://localhost:{}", address.port())]);
    let (tcp, _) = soon("a connection", listener.accept()).await.unwrap();
    let tls = soon("a TLS handshake", acceptor().accept(tcp)).await.unwrap();
    let (_, said) = tls.get_ref();
    assert_eq!(said.server_name(), Some("localhost"));
    let group = said.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    let mut server = soon("an upgrade", accept_async(tls)).await.unwrap();
    let (_, data, stream) = client.opened().await;
    stream.registered();
    for n in 0..50 {
        data.push(forward(n));
        assert_eq!(binary(&mut server).await, forward(n));
        say(&mut server, forward(n)).await;
        let packet = soon("a packet", client.output.packets.recv()).await.unwrap();
        assert_eq!(packet.packet[1..], [n; 40]);
    }
    stream.send(control(9));
    client.handle.end();
    stream.finish();
    assert_eq!(binary(&mut server).await, control(9));
    assert!(matches!(soon("the end", server.next()).await, Some(Ok(Message::Close(_)))));
}

#[tokio::test]
async fn who_speaks_no_tls_where_it_is_expected_is_named() {
    let (listener, address) = listener().await;
    let mut client = Client::at(vec![format!("wss://{address}")]);
    let (mut stream, _) = soon("a connection", listener.accept()).await.unwrap();
    stream.write_all(b"HTTP/1.1 429 Too Many Requests\r\n\r\n").await.unwrap();
    let (why, ending) = client.ended().await;
    assert!(why.contains(&format!("{address} answers, but not by TLS")), "{why}");
    assert_eq!(ending, Ending::NotReached);
    // It was nobody's leave, but nobody's hurry either: a relay without a place may be behind it.
    assert!(timeout(NOT_AT_ONCE, listener.accept()).await.is_err(), "{why}");
    client.handle.hurry();
    soon("a try", listener.accept()).await.unwrap();
}

#[test]
fn of_a_name_with_two_numbers_the_other_is_tried_where_one_speaks_no_tls() {
    crate::net::namespace::isolated(|| {
        let home = tempfile::tempdir().unwrap();
        let hosts = home.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 two.test\n127.0.0.2 two.test\n").unwrap();
        crate::net::namespace::sh(&format!("ip link set lo up; mount --bind {} /etc/hosts", hosts.display()));
        crate::net::namespace::block_on(two_numbers());
    });
}

async fn two_numbers() {
    // Whichever of the two is asked first.
    for (liar, relay) in [("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1")] {
        let relay = TcpListener::bind((relay, 0)).await.unwrap();
        let address = relay.local_addr().unwrap();
        let liar = TcpListener::bind((liar, address.port())).await.unwrap();
        let lying = tokio::spawn(async move {
            loop {
                let (mut stream, _) = liar.accept().await.unwrap();
                stream.write_all(b"HTTP/1.1 302 Found\r\n\r\n").await.unwrap();
            }
        });
        let mut client = Client::at(vec![format!("wss://two.test:{}", address.port())]);
        let (tcp, _) = soon("a connection", relay.accept()).await.unwrap();
        let tls = soon("a TLS handshake", acceptor().accept(tcp)).await.unwrap();
        let _server = soon("an upgrade", accept_async(tls)).await.unwrap();
        assert_eq!(client.opened().await.0, Some(address));
        lying.abort();
    }
}

#[tokio::test]
async fn a_relay_that_has_no_place_is_named_and_not_asked_again_at_once() {
    let http = |status: &str| {
        format!("HTTP/1.1 {status}\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n").into_bytes()
    };
    // A reverse proxy whose server restarts.
    let unavailable = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec();
    for (scheme, answer, expected) in [
        ("", http("429 Too Many Requests"), Some("too often, from this address")),
        ("", http("503 Service Unavailable"), Some("as many connections as it takes")),
        ("", http("404 Not Found"), None),
        ("", unavailable, None),
        ("wss://", vec![0x15, 3, 3, 0, 2, 2, 49], Some("from this address or in all")),
        ("wss://", vec![0x15, 3, 3, 0, 2, 2, 40], None),
    ] {
        let (listener, address) = listener().await;
        let mut client = Client::at(vec![format!("{scheme}{address}")]);
        let (mut stream, _) = soon("a connection", listener.accept()).await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(&answer).await.unwrap();
        drop(stream);
        let (why, ending) = client.ended().await;
        assert_eq!(ending, if expected.is_some() { Ending::Refused } else { Ending::NotReached }, "{why}");
        let began = Instant::now();
        match expected {
            Some(expected) => {
                assert!(
                    why.starts_with(&format!("the relay at {address} refuses this node for now: ")),
                    "{why}"
                );
                assert!(why.contains(expected), "{why}");
                assert!(timeout(NOT_AT_ONCE, listener.accept()).await.is_err(), "{why}");
                // Another network may be another address.
                client.handle.hurry();
                soon("a try", listener.accept()).await.unwrap();
                assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
            }
            None => {
                soon("a try", listener.accept()).await.unwrap();
                assert!(began.elapsed() < Duration::from_millis(1_900), "{:?}", began.elapsed());
            }
        }
    }
}

/// Takes connections and leads them to `relay`, whatever they ask for, after what `says` makes of the request.
async fn stand_in_proxy(
    relay: SocketAddr,
    says: fn(&str) -> &'static str,
) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let (listener, address) = listener().await;
    let (requests, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let requests = requests.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if client.read_exact(&mut byte).await.is_err() {
                        return;
                    }
                    request.extend(byte);
                }
                let request = String::from_utf8(request).unwrap();
                let answer = says(&request);
                let _ = requests.send(request);
                client.write_all(answer.as_bytes()).await.unwrap();
                if answer.contains(" 200 ") {
                    let mut relay = TcpStream::connect(relay).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut relay).await;
                }
            });
        }
    });
    (address, asked)
}

/// The rule of a proxy that somebody chose.
fn chosen(url: &str) -> Option<Arc<ProxyRule>> {
    let choice = crate::config::ProxyChoice::By(url.parse().unwrap());
    ProxyRule::of(Some(&choice), |_| None, |_| ()).map(Arc::new)
}

#[tokio::test]
async fn a_proxy_that_does_not_let_out_is_not_asked_again_until_the_network_changes() {
    let (_relay, address) = listener().await;
    let wrong: fn(&str) -> &'static str = |_| "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
    let forbids: fn(&str) -> &'static str = |_| "HTTP/1.1 403 Forbidden\r\n\r\n";
    let full: fn(&str) -> &'static str = |_| "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 9\r\n\r\n";
    let addresses = ["relay.invalid:8443", "wss://relay.invalid:443"];
    for (says, asked_at_once) in [(wrong, 1), (full, 1), (forbids, 2)] {
        let (proxy, mut asked) = stand_in_proxy(address, says).await;
        let mut client =
            Client::by(chosen(&format!("http://u:p@{proxy}")), addresses.map(ToOwned::to_owned).into());
        for _ in 0..2 {
            let (why, ending) = client.ended().await;
            assert_eq!(ending, Ending::NotReached, "{why}");
            for address in addresses.iter().take(asked_at_once) {
                let request = asked.recv().await.unwrap();
                assert!(request.contains(address.trim_start_matches("wss://")), "{why}: {request}");
            }
            assert!(timeout(NOT_AT_ONCE, asked.recv()).await.is_err(), "{why}: it was asked again");
            client.handle.hurry();
        }
    }
}

#[tokio::test]
async fn what_a_proxy_refuses_keeps_no_other_address_waiting() {
    let (listener, address) = listener().await;
    // Lets out to one port, as most do.
    let says = |request: &str| match request.contains(":443 ") {
        true => "HTTP/1.1 200 OK\r\n\r\n",
        false => "HTTP/1.1 403 Forbidden\r\n\r\n",
    };
    let (proxy, mut asked) = stand_in_proxy(address, says).await;
    let addresses = ["relay.invalid:8443", "relay.invalid:443"];
    let mut client = Client::by(chosen(&format!("http://{proxy}")), addresses.map(ToOwned::to_owned).into());
    let server = accept(&listener).await;
    client.opened().await;
    drop(server);
    assert_eq!(client.ended().await.1, Ending::Over);
    let _server = accept(&listener).await;
    client.opened().await;
    let ports = [(); 3].map(|()| asked.try_recv().unwrap().contains(":443 "));
    assert_eq!((ports, asked.try_recv().is_err()), ([false, true, true], true), "the first is left out");
    // One that goes without a proxy is tried as ever, and the proxy with the wrong password is not.
    let (proxy, mut asked) =
        stand_in_proxy(address, |_| "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    let url = format!("http://u:p@{proxy}");
    let rule = ProxyRule::of(None, |name| (name == "HTTPS_PROXY").then(|| url.clone()), |_| ());
    let (gone, own) = self::listener().await;
    drop(gone);
    let mut client = Client::by(rule.map(Arc::new), vec!["relay.invalid:443".into(), own.to_string()]);
    for _ in 0..4 {
        client.ended().await;
    }
    let listener = TcpListener::bind(own).await.unwrap();
    let began = Instant::now();
    let _server = accept(&listener).await;
    client.opened().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(asked.recv().await.unwrap().contains("Basic") && asked.try_recv().is_err());
}

#[tokio::test]
async fn behind_a_proxy_the_relay_has_its_own_name_and_a_proxy_that_is_gone_has_its() {
    let full = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n";
    for (answer, expected) in [
        (full, "the relay at relay.invalid:8443 refuses this node for now: "),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "relay.invalid:8443 answers, but not as a relay: ",
        ),
    ] {
        let (listener, address) = listener().await;
        let (proxy, _asked) = stand_in_proxy(address, |_| "HTTP/1.1 200 OK\r\n\r\n").await;
        let mut client = Client::by(chosen(&format!("http://{proxy}")), vec!["relay.invalid:8443".into()]);
        let (mut stream, _) = soon("a connection", listener.accept()).await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(answer.as_bytes()).await.unwrap();
        let why = client.closed().await;
        assert!(why.starts_with(expected), "{why}");
    }
    let (gone, proxy) = listener().await;
    drop(gone);
    let mut client = Client::by(chosen(&format!("http://{proxy}")), vec!["relay.invalid:8443".into()]);
    let why = client.closed().await;
    assert!(why.starts_with(&format!("the proxy {proxy} cannot be reached: ")), "{why}");
}

#[tokio::test]
async fn a_proxy_leads_to_the_relay_with_tls_and_without() {
    let (listener, address) = listener().await;
    let says = |request: &str| match request.contains("Proxy-Authorization: Basic dTpw\r\n") {
        true => "HTTP/1.1 200 Connection established\r\n\r\n",
        false => "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
    };
    let (proxy, mut asked) = stand_in_proxy(address, says).await;
    let rule = |url: String| {
        let variable = |name: &str| match name {
            "HTTPS_PROXY" => Some(url.clone()),
            "NO_PROXY" => Some("203.0.113.9".to_owned()),
            _ => None,
        };
        ProxyRule::of(None, variable, |_| ())
    };
    let with_user = rule(format!("http://u:p@{proxy}")).map(Arc::new);
    // No name server here knows it.
    let mut client = Client::by(with_user.clone(), vec!["relay.invalid:8443".into()]);
    let mut server = accept(&listener).await;
    let (remote, data, _stream) = client.opened().await;
    assert_eq!(remote, None, "least of all to the proxy");
    data.push(forward(3));
    assert_eq!(binary(&mut server).await, forward(3));
    let request = asked.recv().await.unwrap();
    assert!(
        request.starts_with("CONNECT relay.invalid:8443 HTTP/1.1\r\nHost: relay.invalid:8443\r\n"),
        "{request}"
    );
    let mut client = Client::by(with_user.clone(), vec!["wss://203.0.113.7:443".into()]);
    let (tcp, _) = soon("a connection", listener.accept()).await.unwrap();
    let tls = soon("a TLS handshake", acceptor().accept(tcp)).await.unwrap();
    let mut server = soon("an upgrade", accept_async(tls)).await.unwrap();
    let (remote, data, _stream) = client.opened().await;
    assert_eq!(remote, Some("203.0.113.7:443".parse().unwrap()), "datagrams go to the relay");
    data.push(forward(4));
    assert_eq!(binary(&mut server).await, forward(4));
    // Without a user: told what is wanted.
    let mut client =
        Client::by(rule(format!("http://{proxy}")).map(Arc::new), vec!["relay.invalid:1".into()]);
    let why = client.closed().await;
    assert!(why.starts_with(&format!("the proxy {proxy} wants a user and a password")), "{why}");
    // Of two addresses each goes its own way: this host is never reached by a proxy of the environment, and the other is.
    let mut client = Client::by(with_user, vec![address.to_string(), "relay.invalid:9".into()]);
    let _direct = accept(&listener).await;
    loop {
        match client.event().await {
            RelayEvent::Opened { remote, is_proxied, .. } => {
                assert_eq!((remote, is_proxied), (Some(address), false));
                break;
            }
            RelayEvent::Connecting => {}
            other @ (RelayEvent::Message(_) | RelayEvent::Closed { .. }) => panic!("{other:?}"),
        }
    }
}
