//! The TLS handshake of a connection; the caller sets the deadline.
//!
//! Its asymmetric work, some 150 µs, happens on another thread, as that of the link handshake does and for the same reason: whoever begins handshakes as fast
//! as he can then competes with forwarding for a core, and not for the thread that forwards (see [`opening`](super::super::opening)). For a client that is asked to
//! begin again, with a key for another group (HelloRetryRequest), that is the second message as well: the work is done for that one.

use super::stream::{MAX_HANDSHAKE, Now, TlsStream};
use super::{Front, challenge};
use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use rustls::{HandshakeKind, ServerConnection};
use std::future::poll_fn;
use std::io::{self, Read as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longest first message of a client that is read, bytes, give or take a read of 4 KiB. A browser's has two thousand, most of them a post-quantum key; the library would
/// keep 64 KiB for each stranger.
const MAX_HELLO: usize = 12 * 1024;
/// What is read at once of a client that began again, bytes.
const READ: usize = 4 * 1024;

/// Why there is no TLS stream.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum TlsError {
    /// What came is no TLS 1.3 that can be answered.
    #[error("no TLS of the kind that is spoken here: {0}")]
    Protocol(rustls::Error),
    /// More than [`MAX_HELLO`], or [`MAX_HANDSHAKE`] in all.
    #[error("the client's messages of the TLS handshake are too long")]
    Long,
    /// The other side ended it.
    #[error("the client gave its TLS handshake up")]
    GivenUp,
    /// An ACME authority was shown what it wanted.
    #[error("an ACME authority looked whether its challenge is answered here")]
    Answered,
    /// There is no such challenge.
    #[error("somebody asks for the answer to a challenge of ACME that nobody set")]
    NoChallenge,
    /// The relay is ending.
    #[error("the relay is stopping")]
    Stopping,
    /// The network, or an alert of the other side.
    #[error("the TLS handshake failed: {0}")]
    Io(#[from] io::Error),
}

/// Ends the handshake that whoever is behind `tcp` has begun.
pub(in crate::server) async fn accept(tcp: TcpStream, front: &Front) -> Result<TlsStream, TlsError> {
    let accepted = hello(&tcp).await?;
    let hello = accepted.client_hello();
    let is_challenge = hello.alpn().is_some_and(|mut names| names.any(|name| name == challenge::PROTOCOL));
    let config = if is_challenge {
        front.challenges().config(hello.server_name()).ok_or(TlsError::NoChallenge)?
    } else {
        front.presented().config()
    };
    let connection = match in_background(move || accepted.into_connection(config)).await? {
        Ok(connection) => begin_again(&tcp, connection).await?,
        Err((error, alert)) => return Err(refuse(&tcp, error, alert)),
    };
    let mut stream = TlsStream::new(tcp, connection);
    match poll_fn(|cx| stream.poll_handshake(cx)).await {
        // RFC 8737 §3: nothing more is said.
        Ok(()) if is_challenge => {
            stream.shutdown().await?;
            Err(TlsError::Answered)
        }
        Ok(()) => Ok(stream),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(TlsError::GivenUp),
        Err(error) => Err(error.into()),
    }
}

/// Lets another thread do `work`.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TlsError> {
    // In a set because that takes the work back, if it has not begun, when the connection runs out of time meanwhile.
    let mut set = JoinSet::new();
    set.spawn_blocking(work);
    match set.join_next().await {
        Some(Ok(done)) => Ok(done),
        Some(Err(_)) | None => Err(TlsError::Stopping),
    }
}

/// The rest of the handshake, where the client was asked to begin again.
async fn begin_again(
    tcp: &TcpStream,
    mut connection: ServerConnection,
) -> Result<ServerConnection, TlsError> {
    let mut read = 0;
    while connection.is_handshaking()
        && connection.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest)
    {
        send(tcp, &mut connection).await?;
        let bytes = receive(tcp).await?;
        read += bytes.len();
        if read > MAX_HANDSHAKE {
            return Err(TlsError::Long);
        }
        let work = move || {
            let taken = take(&mut connection, &bytes);
            (connection, taken)
        };
        let (returned, taken) = in_background(work).await?;
        connection = returned;
        if let Err(error) = taken {
            // An alert, if the socket takes the few bytes.
            let _ = connection.write_tls(&mut Now(tcp));
            return Err(error);
        }
    }
    Ok(connection)
}

/// Hands `bytes`, which are few, to the library. What a client sends behind its handshake stays there until it is read.
fn take(connection: &mut ServerConnection, bytes: &[u8]) -> Result<(), TlsError> {
    let mut rest = bytes;
    while !rest.is_empty() && connection.read_tls(&mut rest)? > 0 {
        connection.process_new_packets().map_err(TlsError::Protocol)?;
    }
    Ok(())
}

/// Sends what the library has to say.
async fn send(tcp: &TcpStream, connection: &mut ServerConnection) -> io::Result<()> {
    while connection.wants_write() {
        match connection.write_tls(&mut Now(tcp)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What comes next of the client, at least a byte.
async fn receive(tcp: &TcpStream) -> Result<Vec<u8>, TlsError> {
    loop {
        tcp.readable().await?;
        let mut bytes = vec![0; READ];
        match Now(tcp).read(&mut bytes) {
            Ok(0) => return Err(TlsError::GivenUp),
            Ok(count) => {
                bytes.truncate(count);
                return Ok(bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads until the client's first message is whole.
async fn hello(tcp: &TcpStream) -> Result<Accepted, TlsError> {
    let mut acceptor = Acceptor::default();
    let mut read = 0;
    loop {
        tcp.readable().await?;
        match acceptor.read_tls(&mut Now(tcp)) {
            Ok(0) => return Err(TlsError::GivenUp),
            Ok(_) if read > MAX_HELLO => return Err(TlsError::Long),
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) => {}
            Err((error, alert)) => return Err(refuse(tcp, error, alert)),
        }
    }
}

/// Tells the client why, if its socket takes the few bytes.
fn refuse(tcp: &TcpStream, error: rustls::Error, mut alert: AcceptedAlert) -> TlsError {
    if let Err(unsaid) = alert.write_all(&mut Now(tcp)) {
        tracing::trace!(error = %unsaid, "a TLS alert could not be sent");
    }
    TlsError::Protocol(error)
}
