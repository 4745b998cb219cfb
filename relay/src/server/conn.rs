//! One connection, from its first byte to its last.
//!
//! Life: what a proxy says of it, TLS where the first byte says so, [`opening`] (WebSocket upgrade, link handshake and REGISTER), all within one deadline, then a
//! [`session`](super::session) that reads, writes and watches the time, then the end, in which the client is told why if
//! there is a why.
//!
//! [`opening`]: super::opening

use crate::config::Prefixes;
use crate::core::ConnId;
use crate::core::auth::Refusal;
use crate::core::limits::Full;
use crate::server::accept::Pass;
use crate::server::hub::Hub;
use crate::server::opening::open;
use crate::server::proxied::{self, ProxyError};
use crate::server::refusal;
use crate::server::relayed::Entrance;
use crate::server::socket::Line;
use crate::server::tls::{self, Front, TlsError};
use crate::server::ws::{StreamError, WsStream};
use shadowmesh_proto::link::{LinkError, ServerLink};
use shadowmesh_proto::wire::codec::WireError;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};

/// For the last words of a connection.
const FAREWELL: Duration = Duration::from_secs(1);
/// WebSocket close codes (RFC 6455 §7.4.1).
const CLOSE_NORMAL: u16 = 1000;
const CLOSE_POLICY: u16 = 1008;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    #[error("it was asked to close")]
    Asked,
    #[error("the relay is stopping")]
    Stopping,
    #[error("there is no place for it")]
    Full,
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("a FORWARD message does not parse: {0}")]
    Forward(#[from] WireError),
    #[error("it was refused: {0}")]
    Refused(#[from] Refusal),
    #[error("handshake and registration took too long")]
    Late,
    #[error("it did not read for too long")]
    Stuck,
    #[error("nothing came from it for too long")]
    Silent,
}

impl From<std::io::Error> for Ending {
    fn from(error: std::io::Error) -> Self {
        Self::Stream(error.into())
    }
}

/// What the acceptor knows of a connection.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) conn: ConnId,
    /// As others see it; port 0 where that is not known.
    pub(super) peer: SocketAddr,
    /// `peer` is a proxy that is believed, which has not said yet whose stream it is.
    pub(super) is_proxied: bool,
    pub(super) entrance: Entrance,
    pub(super) pass: Pass,
}

impl Origin {
    /// The proxy says whose stream it is.
    fn on_source(&mut self, source: SocketAddr) -> Result<(), Full> {
        (self.peer, self.is_proxied) = (source, false);
        self.pass.name(source.ip())
    }

    /// The last moment for a proxy to say it; one that does not is taken for the client itself.
    ///
    /// # Errors
    /// [`Full`]: there is no place for the client.
    pub(super) fn on_request(&mut self, trusted: &Prefixes, headers: &HeaderMap) -> Result<(), Full> {
        if !self.is_proxied {
            return Ok(());
        }
        let values: Vec<&[u8]> = headers.get_all(proxied::HEADER).iter().map(HeaderValue::as_bytes).collect();
        let own = SocketAddr::new(self.peer.ip(), 0);
        self.on_source(proxied::client(values.into_iter(), trusted).unwrap_or(own))
    }
}

/// A connection that has registered, whatever it goes by, until it ends. In a box: what a connection needs while it opens, or goes by the other kind of stream, is five times what
/// an idle one keeps.
type Registered = Pin<Box<dyn Future<Output = Ending> + Send>>;

/// Serves one connection until it ends; who begins with TLS is answered by `front`.
pub(super) async fn serve(hub: Arc<Hub>, front: Option<Front>, tcp: TcpStream, mut origin: Origin) {
    let patience = hub.rules().patience;
    // In a box of its own, which is gone afterwards.
    let opened = timeout(patience.handshake, Box::pin(arrive(&hub, front, tcp, &mut origin))).await;
    let ending = match opened {
        Err(_) => Ending::Late,
        Ok(Err(ending)) => ending,
        Ok(Ok(registered)) => {
            tracing::debug!(conn = origin.conn.0, peer = %origin.peer, "registered");
            registered.await
        }
    };
    count(&hub, &ending);
    tracing::debug!(conn = origin.conn.0, peer = %origin.peer, reason = %ending, "connection ended");
}

async fn arrive(
    hub: &Arc<Hub>,
    front: Option<Front>,
    mut tcp: TcpStream,
    origin: &mut Origin,
) -> Result<Registered, Ending> {
    if origin.is_proxied
        && let Some(source) = proxied::source(&mut tcp, origin.peer).await?
        && let Err(full) = origin.on_source(source)
    {
        refusal::tell(&mut tcp, None, full, front.is_some()).await;
        return Err(Ending::Full);
    }
    if let Some(front) = front
        && begins_with_tls(&tcp).await?
    {
        let stream = tls::accept(tcp, &front).await?;
        let metrics = &hub.metrics().tls;
        metrics.handshakes.add_one();
        if stream.is_post_quantum() {
            metrics.post_quantum.add_one();
        }
        return Ok(Box::pin(open(hub, stream, origin).await?.run()));
    }
    Ok(Box::pin(open(hub, tcp, origin).await?.run()))
}

async fn begins_with_tls(tcp: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0];
    Ok(tcp.peek(&mut first).await? == 1 && first == [tls::FIRST_BYTE])
}

fn count(hub: &Hub, ending: &Ending) {
    let dropped = &hub.metrics().dropped;
    match ending {
        Ending::Late => dropped.handshake_timeout.add_one(),
        Ending::Stuck => dropped.stuck_reader.add_one(),
        Ending::Silent => dropped.silent.add_one(),
        Ending::Proxy(error) => {
            if !matches!(error, ProxyError::Io(_)) {
                dropped.proxy_header.add_one();
                hub.warn_of_proxy(error);
            }
        }
        Ending::Tls(TlsError::Protocol(_) | TlsError::Long | TlsError::Io(_) | TlsError::NoChallenge) => {
            dropped.tls_failed.add_one()
        }
        Ending::Stream(StreamError::Protocol(_)) => dropped.not_websocket.add_one(),
        // What TLS does not take says so.
        Ending::Stream(StreamError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            dropped.tls_failed.add_one();
        }
        Ending::Refused(Refusal::BadRegistration) => dropped.bad_proof.add_one(),
        Ending::Link(_) | Ending::Forward(_) | Ending::Refused(Refusal::OutOfPlace(_)) => {
            dropped.malformed.add_one();
        }
        Ending::Asked
        | Ending::Stopping
        | Ending::Full
        | Ending::Tls(_)
        | Ending::Stream(_)
        | Ending::Refused(_) => {}
    }
}

/// Says why, and closes.
pub(super) async fn refuse<S: Line>(mut ws: WsStream<S>, mut link: ServerLink, refusal: Refusal) {
    if let Ok(message) = link.seal(&refusal.to_body()) {
        ws.stage(message.into());
    }
    ws.stage_close(CLOSE_POLICY);
    bid_farewell(ws).await;
}

/// Closes as asked, after what is staged.
pub(super) async fn close<S: Line>(mut ws: WsStream<S>) {
    ws.stage_close(CLOSE_NORMAL);
    bid_farewell(ws).await;
}

async fn bid_farewell<S: Line>(ws: WsStream<S>) {
    // A client that does not let us finish within the time misses our last words.
    let _ = timeout(FAREWELL, ws.finish()).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::session::Session;
    use crate::server::tls::TlsStream;

    fn of_serving<A, B, C, D, F>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    fn of_session<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    /// Each idle client has one of these and one of those.
    #[test]
    fn what_an_idle_connection_keeps_is_no_room_for_its_begin_or_its_end() {
        let (serving, plain, tls) =
            (of_serving(serve), of_session(Session::<TcpStream>::run), of_session(Session::<TlsStream>::run));
        let session = size_of::<Session<TlsStream>>();
        assert!(serving <= 512, "{serving} bytes");
        assert!(plain.max(tls) <= session + 256, "{plain} and {tls} bytes for a session of {session}");
        assert!(session <= 2_048, "{session} bytes");
    }
}
