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
//! [`AT_ONCE`] connections together, each with a descriptor and a task of a few hundred bytes. Beyond that, and without TLS, it is said by HTTP at once.

use crate::core::limits::Full;
use crate::server::tls;
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

    /// Tells who is behind `tcp`, and closes.
    pub(super) fn refuse(&self, tcp: TcpStream, full: Full) {
        let waiting = self.speaks_tls.then(|| Arc::clone(&self.waiting).try_acquire_owned().ok()).flatten();
        let Some(waiting) = waiting else { return say(&tcp, &by_http(full)) };
        tokio::spawn(async move {
            tell(&tcp, full, true).await;
            drop(waiting);
        });
    }
}

/// Tells who is behind `tcp` in the way that it understands, where TLS is spoken. Over within [`PATIENCE`].
pub(super) async fn tell(tcp: &TcpStream, full: Full, speaks_tls: bool) {
    if !speaks_tls {
        return say(tcp, &by_http(full));
    }
    let mut first = [0];
    let began = timeout(PATIENCE, tcp.peek(&mut first)).await;
    let mut read = [0; READ];
    // More is whoever's fault who says so much unasked.
    let _ = tcp.try_read(&mut read);
    match began {
        Ok(Ok(1)) if first == [tls::FIRST_BYTE] => say(tcp, &ALERT),
        Ok(Ok(1)) | Err(_) => say(tcp, &by_http(full)),
        // Gone.
        Ok(_) => {}
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
            refusals.refuse(server, Full::Site);
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
        refusals.refuse(server, Full::Relay);
        assert!(told(client).await.starts_with(b"HTTP/1.1 503 "));
        let (client, server) = pair().await;
        drop(client);
        tell(&server, Full::Relay, true).await;
    }

    #[tokio::test]
    async fn no_more_are_waited_for_than_may_be() {
        let refusals = Refusals::new(true);
        let mut silent = Vec::new();
        for _ in 0..AT_ONCE {
            let (client, server) = pair().await;
            refusals.refuse(server, Full::Site);
            silent.push(client);
        }
        let (client, server) = pair().await;
        let began = Instant::now();
        refusals.refuse(server, Full::Site);
        assert!(told(client).await.starts_with(b"HTTP/1.1 429 "));
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
        // Those who are gone make room.
        drop(silent);
        let (mut client, server) = pair().await;
        while refusals.waiting.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        refusals.refuse(server, Full::Site);
        client.write_all(&[tls::FIRST_BYTE]).await.unwrap();
        assert_eq!(told(client).await, ALERT);
    }

    #[tokio::test]
    async fn a_relay_without_tls_waits_for_nobody() {
        let (client, server) = pair().await;
        let began = Instant::now();
        Refusals::new(false).refuse(server, Full::Relay);
        assert!(told(client).await.starts_with(b"HTTP/1.1 503 "));
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    }
}
