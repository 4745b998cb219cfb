//! Records of TLS that no library writes: those that bring nothing, and handshakes that begin again.

use crate::harness::{Client, Received, TestRelay, dropped, forward, network, upgrade};
use crate::tls::{certificate, client, relay, usual};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs::kx_group::{SECP384R1, X25519};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ConnectionTrafficSecrets, HandshakeKind};
use shadowmesh_proto::wire::relay::Control;
use shadowmesh_relay::config::Settings;
use shadowmesh_relay::server::tls::Front;
use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Types of content (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// A stream whose handshake is over, and whose records are sealed here.
struct Raw {
    tcp: TcpStream,
    key: LessSafeKey,
    iv: [u8; 12],
    number: u64,
}

impl Raw {
    fn of(stream: TlsStream<TcpStream>) -> Self {
        let (tcp, tls) = stream.into_inner();
        let (number, secrets) = tls.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { panic!("another cipher") };
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key.as_ref()).unwrap());
        Self { tcp, key, iv: iv.as_ref().try_into().unwrap(), number }
    }

    async fn open(relay: &TestRelay) -> Self {
        let mut stream = crate::tls::connect(relay, &usual()).await.unwrap();
        stream.flush().await.unwrap();
        Self::of(stream)
    }

    /// A record with this content and so many bytes of padding (RFC 8446 §5.2).
    fn record(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut inner = [content, &[kind], &vec![0; padding]].concat();
        let len = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, len[0], len[1]];
        let mut nonce = self.iv;
        nonce.iter_mut().skip(4).zip(self.number.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        self.number += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner).unwrap();
        [&header[..], &inner].concat()
    }

    /// Sends it, until the relay takes no more of it.
    async fn is_cut(&mut self, bytes: &[u8]) -> bool {
        let written = self.tcp.write_all(bytes).await;
        let ended = async { while matches!(self.tcp.read(&mut [0; 1024]).await, Ok(1..)) {} };
        written.is_err() || tokio::time::timeout(Duration::from_secs(3), ended).await.is_ok()
    }
}

#[tokio::test]
async fn records_that_bring_nothing_end_the_stream() {
    let (relay, _) = relay();
    let nothing = async |make: &dyn Fn(&mut Raw) -> Vec<u8>| {
        let mut raw = Raw::open(&relay).await;
        let bytes = make(&mut raw);
        assert!(raw.is_cut(&bytes).await);
    };
    let repeat = |raw: &mut Raw, count: usize, one: &dyn Fn(&mut Raw) -> Vec<u8>| {
        (0..count).flat_map(|_| one(raw)).collect::<Vec<u8>>()
    };
    // Empty ones, padded ones, a message of the handshake that does not end, and a byte now and then.
    nothing(&|raw| repeat(raw, 2_000, &|raw| raw.record(APPLICATION_DATA, &[], 0))).await;
    nothing(&|raw| repeat(raw, 3, &|raw| raw.record(APPLICATION_DATA, &[], 16_000))).await;
    nothing(&|raw| {
        let begun = raw.record(HANDSHAKE, &[24, 0, 0xfe, 0, 0], 0);
        [begun, repeat(raw, 5, &|raw| raw.record(HANDSHAKE, &[0; 8_000], 0))].concat()
    })
    .await;
    nothing(&|raw| {
        repeat(raw, 20, &|raw| {
            [raw.record(APPLICATION_DATA, b"G", 0), raw.record(APPLICATION_DATA, &[], 4_000)].concat()
        })
    })
    .await;
    relay.until(|status| dropped(status, "tls_failed") == 4).await;
}

#[tokio::test]
async fn what_records_take_beside_their_content_is_charged_and_small_ones_pass() {
    let rate: usize = 5_000;
    let mut settings = Settings::default();
    settings.limits.bytes_per_second = Some(f64::from(u32::try_from(rate).unwrap()));
    let relay = TestRelay::start_with_tls(&settings, Front::new(certificate(2040).0));
    let mut b = Client::join(&relay, &network(1), 11).await;
    let stream = crate::tls::connect(&relay, &usual()).await.unwrap();
    let mut a = Client::try_join(&relay, upgrade(stream).await, &network(1), 10).await.unwrap();
    a.send(Control::Connect { peer: None }).await;
    let channel = a.met(b.node).await;
    b.met(a.node).await;
    a.sync().await;
    let mut raw = Raw::of(a.ws.into_inner());
    // One frame of WebSocket (RFC 6455 §5.2), with a mask of nothing, in records of eight bytes, with 22 beside them.
    let message = forward(channel, &[&[7; 4_000]]);
    let len = u16::try_from(message.len()).unwrap().to_be_bytes();
    let frame = [&[0x82, 0x80 | 126, len[0], len[1], 0, 0, 0, 0][..], &message].concat();
    let began = Instant::now();
    let mut sent = 0;
    for _ in 0..2 {
        let records: Vec<u8> =
            frame.chunks(8).flat_map(|bytes| raw.record(APPLICATION_DATA, bytes, 0)).collect();
        raw.tcp.write_all(&records).await.unwrap();
        sent += records.len();
        assert_eq!(b.next().await, Received::Forward(message.clone().into()));
    }
    assert!(sent > 4 * rate, "{sent}");
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
}

/// A client that offers a share of a group that the relay does not take, and then another: it is asked to begin again.
fn begins_again() -> ClientConnection {
    let config = client(vec![SECP384R1, X25519], &[]).config().clone();
    ClientConnection::new(config, ServerName::try_from("another.example").unwrap()).unwrap()
}

/// Begins, and hears that it is to begin again.
async fn asked_to_begin_again(relay: &TestRelay) -> (TcpStream, ClientConnection) {
    let (mut tcp, mut tls) = (TcpStream::connect(relay.address).await.unwrap(), begins_again());
    send(&mut tcp, &mut tls).await;
    while !tls.wants_write() {
        assert!(receive(&mut tcp, &mut tls).await, "it is asked to begin again");
    }
    (tcp, tls)
}

async fn send(tcp: &mut TcpStream, tls: &mut ClientConnection) {
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).unwrap();
    }
    tcp.write_all(&bytes).await.unwrap();
}

/// Whether something came.
async fn receive(tcp: &mut TcpStream, tls: &mut ClientConnection) -> bool {
    let mut bytes = [0; 4096];
    let count = tcp.read(&mut bytes).await.unwrap_or_default();
    let mut rest = &bytes[..count];
    while !rest.is_empty() {
        tls.read_tls(&mut rest).unwrap();
        tls.process_new_packets().unwrap();
    }
    count > 0
}

#[tokio::test]
async fn who_is_asked_to_begin_again_is_served() {
    let (relay, _) = relay();
    let connector = client(vec![SECP384R1, X25519], &[]);
    let stream = crate::tls::connect(&relay, &connector).await.unwrap();
    assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
    Client::try_join(&relay, upgrade(stream).await, &network(1), 10).await.unwrap().sync().await;
    // What comes in one go with the end of its handshake is not lost.
    let (mut tcp, mut tls) = asked_to_begin_again(&relay).await;
    send(&mut tcp, &mut tls).await;
    while tls.is_handshaking() {
        assert!(receive(&mut tcp, &mut tls).await);
    }
    tls.writer().write_all(b"GET /nothing HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").unwrap();
    send(&mut tcp, &mut tls).await;
    let mut answer = [0; 12];
    while tls.reader().read(&mut answer).is_err() {
        assert!(receive(&mut tcp, &mut tls).await);
    }
    assert_eq!(&answer, b"HTTP/1.1 404");
}

#[test]
fn beginning_again_is_computed_elsewhere_too() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let (relay, _) = relay();
        let (mut tcp, mut tls) = asked_to_begin_again(&relay).await;
        // The thread for such work has something else to do.
        let (release, released) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || released.recv());
        send(&mut tcp, &mut tls).await;
        let answered = tokio::time::timeout(Duration::from_millis(300), tcp.peek(&mut [0])).await;
        assert!(answered.is_err(), "the answer took none of it");
        release.send(()).unwrap();
        busy.await.unwrap().unwrap();
        while tls.is_handshaking() {
            assert!(receive(&mut tcp, &mut tls).await);
        }
    });
}

#[tokio::test]
async fn a_second_message_that_does_not_end_is_not_kept() {
    let (relay, _) = relay();
    let (mut tcp, _) = asked_to_begin_again(&relay).await;
    let first = [&[HANDSHAKE, 3, 3, 0x10, 0, 1, 0, 0xf0, 0][..], &[0; 0x1000 - 4]].concat();
    let more = [&[HANDSHAKE, 3, 3, 0x10, 0][..], &[0; 0x1000]].concat();
    tcp.write_all(&first).await.unwrap();
    for _ in 0..8 {
        if tcp.write_all(&more).await.is_err() {
            break;
        }
    }
    while matches!(tcp.read(&mut [0; 64]).await, Ok(1..)) {}
    relay.until(|status| dropped(status, "tls_failed") == 1).await;
    // Who begins as before, and not as it was asked to, is told so.
    let (mut tcp, _) = asked_to_begin_again(&relay).await;
    let mut other = begins_again();
    send(&mut tcp, &mut other).await;
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer).await;
    assert_eq!(answer.first(), Some(&0x15), "an alert: {answer:?}");
    relay.until(|status| dropped(status, "tls_failed") == 2).await;
}
