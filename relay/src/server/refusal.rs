//! What a client is told for which there is no place: that it is for now, and when to come again.
//!
//! One that begins with HTTP is answered 429 or 503, with the time to wait. One that begins with TLS could not read that: it gets an alert, access_denied, in the clear, as before
//! a handshake every alert is (RFC 8446 §6). Nothing else that a relay does ends so, for it asks nobody for a certificate: clients know it (protocol §3.10).
//!
//! # What it may cost
//!
//! Less than serving would, or it is the way to keep the relay busy. To end the handshake and say it inside by HTTP would be a key exchange and a signature (150 µs on another
//! thread) and up to 5 KB of certificates for whoever connects too often already, and the memory of the opening meanwhile. The alert is seven bytes, computed by nobody; there is no
//! time in it, so clients wait as long as they are told otherwise ([`RETRY_FULL`]).
//!
//! Which of both it is only the first byte says, which comes a round trip after the connection. It is waited for where the relay speaks TLS at all, [`PATIENCE`] at most and for
//! [`AT_ONCE`] connections together, each with a descriptor and a task of a few hundred bytes. Beyond that it is what is there already that says it, and where that is nothing, or
//! without TLS, it is said by HTTP at once.

use crate::core::limits::Full;
use crate::server::proxied::{self, ProxyError};
use crate::server::tls;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::StatusCode;

/// What a client that was refused for the relay's sake is told to wait.
const RETRY_FULL: Duration = Duration::from_secs(10);
/// For the first byte of somebody who is refused: a round trip around the world and a lost packet.
const PATIENCE: Duration = Duration::from_secs(1);
/// Connections whose first byte is waited for. At a round trip of 100 ms that is 640 refusals a second that every client understands.
pub(super) const AT_ONCE: usize = 64;
/// A record of type alert (RFC 8446 §5.1, §6): fatal, access_denied.
const ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 49];
/// What is read of the client before it is answered: a socket that is closed with something unread resets the connection, which may overtake the answer.
const READ: usize = 4 * 1024;

/// Refuses, within what that may cost.
#[derive(Debug)]
pub(super) struct Refusals {
    speaks_tls: bool,
    waiting: Arc<Semaphore>,
}

impl Refusals {
    /// Of a relay that speaks TLS as well, or does not.
    pub(super) fn new(speaks_tls: bool) -> Self {
        Self { speaks_tls, waiting: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Tells who is behind `tcp`, and closes. `via` is a proxy that is believed, and has not said yet whose stream it is.
    pub(super) fn refuse(&self, mut tcp: TcpStream, via: Option<SocketAddr>, full: Full) {
        if !self.speaks_tls {
            return say(&tcp, &by_http(full));
        }
        let Ok(waiting) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return tell_at_once(&tcp, via.is_some(), full);
        };
        tokio::spawn(async move {
            tell(&mut tcp, via, full, true).await;
            drop(waiting);
        });
    }
}

/// Tells who is behind `tcp`, and `via` if that is some, in the way that it understands, where TLS is spoken. Over within [`PATIENCE`].
pub(super) async fn tell(tcp: &mut TcpStream, via: Option<SocketAddr>, full: Full, speaks_tls: bool) {
    if !speaks_tls {
        return say(tcp, &by_http(full));
    }
    let began = timeout(PATIENCE, first(tcp, via)).await;
    let mut read = [0; READ];
    // More is whoever's fault who says so much unasked.
    let _ = tcp.try_read(&mut read);
    match began {
        Ok(Ok(Some(tls::FIRST_BYTE))) => say(tcp, &ALERT),
        Ok(Ok(Some(_))) | Err(_) => say(tcp, &by_http(full)),
        // Gone, or a proxy that says what nobody understands.
        Ok(_) => {}
    }
}

/// The first byte of the client, behind what the proxy says of it; nothing when there is none.
async fn first(tcp: &mut TcpStream, via: Option<SocketAddr>) -> Result<Option<u8>, ProxyError> {
    if let Some(via) = via {
        proxied::source(tcp, via).await?;
    }
    let mut first = [0];
    Ok((tcp.peek(&mut first).await? == 1).then_some(first[0]))
}

/// The same by what is there already. A client that begins with TLS does so as soon as it is connected, so mostly that is enough.
fn tell_at_once(tcp: &TcpStream, is_proxied: bool, full: Full) {
    let mut read = [0; READ];
    let count = tcp.try_read(&mut read).unwrap_or_default();
    let read = read.get(..count).unwrap_or_default();
    let of_client = if is_proxied { proxied::behind(read) } else { read };
    if of_client.first() == Some(&tls::FIRST_BYTE) {
        say(tcp, &ALERT);
    } else {
        say(tcp, &by_http(full));
    }
}

/// The few bytes fit any socket's buffer, and if not, so be it.
fn say(tcp: &TcpStream, bytes: &[u8]) {
    let _ = tcp.try_write(bytes);
}

fn by_http(full: Full) -> Vec<u8> {
    let (status, wait) = retry(full);
    let reason = status.canonical_reason().unwrap_or_default();
    format!(
        "HTTP/1.1 {} {reason}\r\nRetry-After: {wait}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        status.as_str()
    )
    .into_bytes()
}

/// How a client is told by HTTP that there is no place, and after how many seconds it may try again.
pub(super) fn retry(full: Full) -> (StatusCode, u64) {
    let (status, wait) = match full {
        Full::Relay => (StatusCode::SERVICE_UNAVAILABLE, RETRY_FULL),
        Full::Site => (StatusCode::TOO_MANY_REQUESTS, RETRY_FULL),
        Full::Rate(wait) => (StatusCode::TOO_MANY_REQUESTS, wait),
    };
    (status, wait.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Instant;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    async fn told(mut client: TcpStream) -> Vec<u8> {
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.unwrap();
        told
    }

    #[tokio::test]
    async fn each_is_told_in_its_own_language() {
        let refusals = Refusals::new(true);
        for (says, status) in
            [(&b"\x16\x03\x01\x07\x00"[..], None), (b"GET /v1 HTTP/1.1\r\n", Some("HTTP/1.1 429 "))]
        {
            let (mut client, server) = pair().await;
            refusals.refuse(server, None, Full::Site);
            client.write_all(says).await.unwrap();
            let told = told(client).await;
            match status {
                None => assert_eq!(told, ALERT),
                Some(status) => {
                    let told = String::from_utf8(told).unwrap();
                    assert!(told.starts_with(status) && told.contains("\r\nRetry-After: 10\r\n"), "{told}");
                }
            }
        }
        // Who says nothing is told by HTTP in the end, and who goes away is no trouble.
        let (client, server) = pair().await;
        refusals.refuse(server, None, Full::Relay);
        assert!(told(client).await.starts_with(b"HTTP/1.1 503 "));
        let (client, mut server) = pair().await;
        drop(client);
        tell(&mut server, None, Full::Relay, true).await;
    }

    const HELLO: &[u8] = b"\x16\x03\x01\x07\x00";
    const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
    /// A header of the PROXY protocol for a client at 192.0.2.7.
    const PROXIED: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x9c\x40\x01\xbb";

    #[tokio::test]
    async fn what_a_proxy_says_of_the_client_is_not_taken_for_what_that_says() {
        let refusals = Refusals::new(true);
        let (mut client, server) = pair().await;
        refusals.refuse(server, Some(PROXY), Full::Relay);
        // In two parts, as proxies send it.
        client.write_all(PROXIED).await.unwrap();
        tokio::time::sleep(PATIENCE / 20).await;
        client.write_all(HELLO).await.unwrap();
        assert_eq!(told(client).await, ALERT);
        for says in [&[PROXIED, b"GET /v1"].concat()[..], b"GET /v1"] {
            let (mut client, server) = pair().await;
            refusals.refuse(server, Some(PROXY), Full::Relay);
            client.write_all(says).await.unwrap();
            assert!(told(client).await.starts_with(b"HTTP/1.1 503 "));
        }
    }

    #[tokio::test]
    async fn no_more_are_waited_for_than_may_be() {
        let refusals = Refusals::new(true);
        let mut silent = Vec::new();
        for _ in 0..AT_ONCE {
            let (client, server) = pair().await;
            refusals.refuse(server, None, Full::Site);
            silent.push(client);
        }
        let (client, server) = pair().await;
        let began = Instant::now();
        refusals.refuse(server, None, Full::Site);
        assert!(told(client).await.starts_with(b"HTTP/1.1 429 "));
        // Who has begun with TLS is told so nevertheless.
        for (via, says) in [(None, HELLO), (Some(PROXY), &[PROXIED, HELLO].concat()[..])] {
            let (mut client, server) = pair().await;
            client.write_all(says).await.unwrap();
            server.readable().await.unwrap();
            refusals.refuse(server, via, Full::Site);
            assert_eq!(told(client).await, ALERT);
        }
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
        // Those who are gone make room.
        drop(silent);
        let (mut client, server) = pair().await;
        while refusals.waiting.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        refusals.refuse(server, None, Full::Site);
        client.write_all(&[tls::FIRST_BYTE]).await.unwrap();
        assert_eq!(told(client).await, ALERT);
    }

    #[tokio::test]
    async fn a_relay_without_tls_waits_for_nobody() {
        let (client, server) = pair().await;
        let began = Instant::now();
        Refusals::new(false).refuse(server, None, Full::Relay);
        assert!(told(client).await.starts_with(b"HTTP/1.1 503 "));
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    }
}
