//! TLS in front of the stream: what is agreed on, what is refused, and that everything passes as it does without.

use crate::harness::{Client, Received, TestRelay, dropped, forward, network, open, upgrade};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, NamedGroup, ProtocolVersion, SignatureScheme};
use shadowmesh_proto::version::SPOKEN;
use shadowmesh_proto::wire::relay::{Control, GoneReason};
use shadowmesh_relay::admin::Status;
use shadowmesh_relay::config::{Prefixes, Settings};
use shadowmesh_relay::server::tls::Front;
use shadowmesh_relay::server::tls::certificate::Certificate;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Signed by itself, until that year; and its DER.
pub(crate) fn certificate(year: i32) -> (Certificate, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["relay.example".into()]).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    let made = params.self_signed(&key).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (Certificate::new(vec![made.clone()], key).unwrap(), made)
}

/// Takes any certificate whose key signed.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 alone")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        match rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms) {
            // That of a challenge has an extension that only authorities know.
            Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(_))) => {
                Ok(HandshakeSignatureValid::assertion())
            }
            other => other,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

pub(crate) fn client(groups: Vec<&'static dyn SupportedKxGroup>, protocols: &[&[u8]]) -> TlsConnector {
    // One cipher, and its keys can be had: for records that are sealed by hand.
    let cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let provider = CryptoProvider { kx_groups: groups, cipher_suites, ..aws_lc_rs::default_provider() };
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.enable_secret_extraction = true;
    TlsConnector::from(Arc::new(config))
}

pub(crate) fn usual() -> TlsConnector {
    client(vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519], &[b"http/1.1"])
}

pub(crate) async fn connect(relay: &TestRelay, with: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(relay.address).await?;
    tcp.set_nodelay(true)?;
    with.connect(ServerName::try_from("another.example").unwrap(), tcp).await
}

pub(crate) fn relay() -> (TestRelay, Front) {
    let front = Front::new(certificate(2040).0);
    (TestRelay::start_with_tls(&Settings::default(), front.clone()), front)
}

async fn join(relay: &TestRelay, seed: u64) -> Client<TlsStream<TcpStream>> {
    let stream = connect(relay, &usual()).await.unwrap();
    Client::try_join(relay, upgrade(stream).await, &network(1), seed).await.unwrap()
}

#[tokio::test]
async fn a_client_by_tls_and_one_without_meet_on_one_port_and_packets_pass_unchanged() {
    let (relay, _) = relay();
    let mut a = join(&relay, 10).await;
    let mut b = Client::join(&relay, &network(1), 11).await;
    a.send(Control::Connect { peer: None }).await;
    let channel = a.met(b.node).await;
    assert_eq!(b.met(a.node).await, channel);
    // Records are of 16 KiB at most, and messages of four times as much.
    for len in [1usize, 1_200, 16_384, 65_000] {
        for _ in 0..20 {
            let packet = vec![u8::try_from(len % 251).unwrap(); len];
            a.forward(channel, &[&packet]).await;
            b.forward(channel, &[&packet]).await;
            let message = forward(channel, &[&packet]);
            assert_eq!(b.next().await, Received::Forward(message.clone().into()));
            assert_eq!(a.next().await, Received::Forward(message.into()));
        }
    }
    let Control::Registered { observed_tcp, .. } = a.registered else { panic!("not registered") };
    assert_eq!(observed_tcp, a.ws.get_ref().get_ref().0.local_addr().unwrap());
    let gone = a.node;
    a.send(Control::Leave).await;
    a.closed().await;
    assert_eq!(b.control().await, Control::PeerGone { peer: gone, channel, reason: GoneReason::Left });
    let tls = Status::of(&relay.handle).tls.unwrap();
    assert_eq!((tls.handshakes, tls.post_quantum, tls.certificate_expires), (1, 1, 2_208_988_800));
}

/// What stands in the receiver's queue when it reads slowly is written as it reads, also what only the TLS layer still holds.
#[tokio::test]
async fn what_waits_for_a_slow_reader_comes_without_another_word() {
    let (relay, _) = relay();
    let mut a = join(&relay, 10).await;
    let mut b = join(&relay, 11).await;
    a.send(Control::Connect { peer: None }).await;
    let channel = a.met(b.node).await;
    b.met(a.node).await;
    // Less than its queue takes, more than its socket does.
    let packet = vec![7; 8_000];
    for n in 0..40u8 {
        a.forward(channel, &[&packet, &[n]]).await;
    }
    a.sync().await;
    for n in 0..40u8 {
        let message = tokio::time::timeout(Duration::from_secs(20), b.next()).await.expect("it comes");
        assert_eq!(message, Received::Forward(forward(channel, &[&packet, &[n]]).into()));
    }
}

#[tokio::test]
async fn post_quantum_is_preferred_and_what_is_older_taken() {
    let (relay, _) = relay();
    let groups = aws_lc_rs::kx_group::X25519MLKEM768;
    for (offered, agreed) in [
        // Shares of both come: it is the relay that chooses.
        (vec![groups, aws_lc_rs::kx_group::X25519], NamedGroup::X25519MLKEM768),
        (vec![aws_lc_rs::kx_group::X25519], NamedGroup::X25519),
        (vec![aws_lc_rs::kx_group::SECP256R1], NamedGroup::secp256r1),
    ] {
        let stream = connect(&relay, &client(offered, &[])).await.unwrap();
        let (_, tls) = stream.get_ref();
        assert_eq!(tls.negotiated_key_exchange_group().unwrap().name(), agreed);
        assert_eq!(tls.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(tls.alpn_protocol(), None, "it named none");
    }
    let stream = connect(&relay, &client(vec![groups], &[b"h2", b"http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let refused = connect(&relay, &client(vec![groups], &[b"h2"])).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    let refused = connect(&relay, &client(vec![aws_lc_rs::kx_group::SECP384R1], &[])).await.unwrap_err();
    assert!(refused.to_string().contains("HandshakeFailure"), "{refused}");
    relay.until(|status| dropped(status, "tls_failed") == 2).await;
}

#[tokio::test]
async fn who_finds_no_place_is_told_by_an_alert_and_costs_no_handshake() {
    let front = Front::new(certificate(2040).0);
    let mut settings =
        Settings { trusted_proxies: Prefixes(vec!["127.0.0.3".parse().unwrap()]), ..Settings::default() };
    settings.limits.connections_per_address = 1;
    let relay = TestRelay::start_with_tls(&settings, front);
    let first = join(&relay, 10).await;
    let refused = connect(&relay, &usual()).await.unwrap_err();
    let error = refused.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let expected = rustls::Error::AlertReceived(rustls::AlertDescription::AccessDenied);
    assert_eq!(error, Some(&expected), "{refused}");
    // The same without TLS, where it is read.
    let tcp = TcpStream::connect(relay.address).await.unwrap();
    let refused = tokio_tungstenite::client_async("ws://relay/v1", tcp).await.unwrap_err();
    assert!(refused.to_string().contains("429"), "{refused}");
    // And by a proxy that says whose the stream is.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.3:0".parse().unwrap()).unwrap();
    let mut tcp = socket.connect(relay.address).await.unwrap();
    let of_first =
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[127, 0, 0, 1, 127, 0, 0, 1, 1, 1, 1, 1]].concat();
    tcp.write_all(&of_first).await.unwrap();
    let refused = usual().connect(ServerName::try_from("another.example").unwrap(), tcp).await.unwrap_err();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    let status = relay.until(|status| dropped(status, "refused_address") == 3).await;
    assert_eq!((dropped(&status, "tls_failed"), status.tls.unwrap().handshakes), (0, 1));
    drop(first);
}

#[tokio::test]
async fn a_first_message_that_does_not_end_is_not_kept() {
    let (relay, _) = relay();
    let mut tcp = TcpStream::connect(relay.address).await.unwrap();
    // Records of a handshake whose first message has 16 MB, as it says.
    let record = [&[0x16, 3, 1, 0x10, 0][..], &[1, 0xff, 0xff, 0xff], &[0; 0x1000 - 4]].concat();
    let more = [&[0x16, 3, 1, 0x10, 0][..], &[0; 0x1000]].concat();
    tcp.write_all(&record).await.unwrap();
    for _ in 0..8 {
        if tcp.write_all(&more).await.is_err() {
            break;
        }
    }
    assert!(!matches!(tcp.read(&mut [0; 16]).await, Ok(count) if count > 7), "an alert at most");
    relay.until(|status| dropped(status, "tls_failed") == 1).await;
}

#[tokio::test]
async fn nothing_is_kept_of_a_session() {
    let (relay, _) = relay();
    let connector = usual();
    for _ in 0..2 {
        let stream = connect(&relay, &connector).await.unwrap();
        // Something of the relay is read, so that tickets would have come before it.
        let client = Client::try_join(&relay, upgrade(stream).await, &network(1), 10).await.unwrap();
        let (_, tls) = client.ws.get_ref().get_ref();
        assert_eq!(tls.tls13_tickets_received(), 0);
        assert_eq!(tls.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn another_certificate_is_presented_to_the_next_and_ends_nobody() {
    let (relay, front) = relay();
    let mut before = join(&relay, 10).await;
    let (expired, der) = certificate(2001);
    front.present(expired);
    let after = connect(&relay, &usual()).await.unwrap();
    assert_eq!(after.get_ref().1.peer_certificates().unwrap(), [der]);
    let mut after = Client::try_join(&relay, upgrade(after).await, &network(1), 11).await.unwrap();
    before.sync().await;
    after.sync().await;
}

#[tokio::test]
async fn who_begins_with_tls_and_does_not_go_on_is_cut_in_time() {
    let settings = Settings { handshake_timeout: Duration::from_millis(800), ..Settings::default() };
    let relay = TestRelay::start_with_tls(&settings, Front::new(certificate(2040).0));
    let silent = TcpStream::connect(relay.address).await.unwrap();
    let mut one_byte = TcpStream::connect(relay.address).await.unwrap();
    one_byte.write_all(&[0x16]).await.unwrap();
    let mut half = TcpStream::connect(relay.address).await.unwrap();
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
    let mut done = connect(&relay, &usual()).await.unwrap();
    done.flush().await.unwrap();
    for mut stream in [silent, one_byte, half] {
        assert!(!matches!(stream.read(&mut [0; 64]).await, Ok(1..)), "nothing is said");
    }
    assert!(!matches!(done.read(&mut [0; 64]).await, Ok(1..)));
    relay.until(|status| dropped(status, "handshake_timeout") == 4).await;
    assert_eq!(relay.drops("tls_failed"), 0);
}

#[tokio::test]
async fn what_is_no_tls_of_today_is_refused_and_counted() {
    let (relay, _) = relay();
    let answer = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    let wrong: [&[u8]; 4] = [
        // No handshake, a record that is too long, a message that is none, one without an end.
        &[0x16, 3, 1, 0, 4, 2, 0, 0, 0],
        &[0x16, 3, 1, 0xff, 0xff, 1],
        &[0x16, 0x16, 0x16, 0x16, 0x16, 0x16, 0x16, 0x16],
        &[0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
    ];
    for bytes in wrong {
        let answer = answer(bytes).await;
        // An alert, or nothing.
        assert!(answer.is_empty() || answer.first() == Some(&0x15), "{answer:?}");
    }
    // RFC 8446 §6.2: fatal, protocol_version. The same hello with TLS 1.3 named in it as well is answered by the handshake.
    assert_eq!(answer(&hello(&[3, 3])).await, [0x15, 3, 3, 0, 2, 2, 70]);
    assert_eq!(answer(&hello(&[3, 4, 3, 3])).await.first(), Some(&0x16));
    relay.until(|status| dropped(status, "tls_failed") >= 5).await;
    Client::join(&relay, &network(1), 10).await.sync().await;
}

/// A ClientHello of someone who speaks these versions (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2).
fn hello(versions: &[u8]) -> Vec<u8> {
    let len = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    let list = |items: &[u8]| [&[0, len(items)][..], items].concat();
    let extension = |kind: u8, contents: &[u8]| [&[0, kind][..], &list(contents)].concat();
    let extensions = [
        // Groups: X25519 and P-256; signatures: ECDSA with P-256, RSA with SHA-256.
        extension(10, &list(&[0, 0x1d, 0, 0x17])),
        extension(13, &list(&[4, 3, 4, 1, 8, 4])),
        extension(43, &[&[len(versions)][..], versions].concat()),
        extension(51, &list(&[&[0, 0x1d, 0, 32][..], &[9; 32]].concat())),
    ]
    .concat();
    // ECDHE-ECDSA-AES128-GCM-SHA256 of TLS 1.2, and TLS_AES_128_GCM_SHA256.
    let suites = list(&[0xc0, 0x2b, 0x13, 1]);
    let body = [&[3, 3][..], &[7; 32], &[0], &suites, &[1, 0], &list(&extensions)].concat();
    [&[0x16, 3, 1, 0, len(&body) + 4, 1, 0, 0, len(&body)][..], &body].concat()
}

#[tokio::test]
async fn damage_inside_ends_the_stream_with_an_alert() {
    let (relay, _) = relay();
    let mut stream = connect(&relay, &usual()).await.unwrap();
    stream.flush().await.unwrap();
    let (tcp, _) = stream.get_mut();
    // A record of application data that nobody sealed.
    tcp.write_all(&[[0x17, 3, 3, 0, 40].as_slice(), &[9; 40]].concat()).await.unwrap();
    let error = stream.read(&mut [0; 64]).await.unwrap_err();
    assert!(
        error.to_string().contains("BadRecordMac") || error.to_string().contains("DecryptError"),
        "{error}"
    );
}

#[tokio::test]
async fn a_stream_that_is_cut_is_told_to_the_peer_as_lost() {
    let (relay, _) = relay();
    let mut a = join(&relay, 10).await;
    let mut b = Client::join(&relay, &network(1), 11).await;
    a.send(Control::Connect { peer: None }).await;
    let channel = a.met(b.node).await;
    b.met(a.node).await;
    let gone = a.node;
    // No close_notify: as who cuts the connection would do it.
    a.ws.get_mut().get_mut().0.shutdown().await.unwrap();
    assert_eq!(b.control().await, Control::PeerGone { peer: gone, channel, reason: GoneReason::Lost });
}

#[tokio::test]
async fn where_no_tls_is_spoken_a_greeting_of_it_is_closed() {
    let relay = TestRelay::start(&Settings::default());
    assert!(connect(&relay, &usual()).await.is_err());
    assert_eq!(Status::of(&relay.handle).tls, None);
    let stream = open(&relay).await;
    Client::try_speaking(&relay, stream, &network(1), 10, SPOKEN).await.unwrap().sync().await;
}

#[tokio::test]
async fn an_authority_that_looks_is_shown_what_was_set_and_nothing_else() {
    let (relay, front) = relay();
    front.challenges().answer("Relay.example", &[0xa7; 32]).unwrap();
    let groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    let looks = async |name: &'static str| {
        let tcp = TcpStream::connect(relay.address).await.unwrap();
        client(groups.clone(), &[b"acme-tls/1"]).connect(ServerName::try_from(name).unwrap(), tcp).await
    };
    let mut shown = looks("relay.example").await.unwrap();
    let (_, tls) = shown.get_ref();
    assert_eq!(tls.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    // RFC 8737 §3: id-pe-acmeIdentifier, critical, an octet string of 32 bytes.
    let extension =
        [&[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff, 4, 34, 4, 32][..], &[0xa7; 32]].concat();
    let der = &tls.peer_certificates().unwrap()[0];
    assert!(der.windows(extension.len()).any(|part| part == extension), "{der:?}");
    assert_eq!(shown.read(&mut [0; 16]).await.unwrap(), 0, "nothing more is said");
    assert!(looks("other.example").await.is_err());
    assert!(front.challenges().answer("relay.example", &[1; 31]).is_err());
    // Clients are served meanwhile, and nobody is shown it afterwards.
    join(&relay, 10).await.sync().await;
    front.challenges().forget();
    assert!(looks("relay.example").await.is_err());
    relay.until(|status| dropped(status, "tls_failed") == 2).await;
}
