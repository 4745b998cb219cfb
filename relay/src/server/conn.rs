//! One connection, from its first byte to its last.
//!
//! Life: TLS where the first byte says so, [`opening`] (WebSocket upgrade, link handshake and REGISTER), all within one deadline, then a
//! [`session`](super::session) that reads, writes and watches the time, then the end, in which the client is told why if
//! there is a why.
//!
//! [`opening`]: super::opening

use crate::core::ConnId;
use crate::core::auth::Refusal;
use crate::server::hub::Hub;
use crate::server::opening::open;
use crate::server::relayed::Entrance;
use crate::server::session::Session;
use crate::server::socket::Line;
use crate::server::tls::{self, Front, TlsError, TlsStream};
use crate::server::ws::{StreamError, WsStream};
use shadowmesh_proto::link::{LinkError, ServerLink};
use shadowmesh_proto::wire::codec::WireError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

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
    pub(super) peer: SocketAddr,
    pub(super) entrance: Entrance,
}

/// A connection that has registered, by what it goes.
enum Opened {
    Plain(Session<TcpStream>),
    Tls(Session<TlsStream>),
}

/// Serves one connection until it ends; who begins with TLS is answered by `front`.
pub(super) async fn serve(hub: Arc<Hub>, front: Option<Front>, tcp: TcpStream, origin: Origin) {
    let patience = hub.rules().patience;
    // In a box of its own, which is gone afterwards: the opening needs five times the memory of the session that stays.
    let opened = timeout(patience.handshake, Box::pin(arrive(&hub, front, tcp, &origin))).await;
    let ending = match opened {
        Err(_) => Ending::Late,
        Ok(Err(ending)) => ending,
        Ok(Ok(opened)) => {
            tracing::debug!(conn = origin.conn.0, peer = %origin.peer, "registered");
            match opened {
                Opened::Plain(session) => session.run().await,
                Opened::Tls(session) => session.run().await,
            }
        }
    };
    count(&hub, &ending);
    tracing::debug!(conn = origin.conn.0, peer = %origin.peer, reason = %ending, "connection ended");
}

async fn arrive(
    hub: &Arc<Hub>,
    front: Option<Front>,
    tcp: TcpStream,
    origin: &Origin,
) -> Result<Opened, Ending> {
    if let Some(front) = front
        && begins_with_tls(&tcp).await?
    {
        let stream = tls::accept(tcp, &front).await?;
        let metrics = &hub.metrics().tls;
        metrics.handshakes.add_one();
        if stream.is_post_quantum() {
            metrics.post_quantum.add_one();
        }
        return Ok(Opened::Tls(open(hub, stream, origin).await?));
    }
    Ok(Opened::Plain(open(hub, tcp, origin).await?))
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
        Ending::Tls(TlsError::Protocol(_) | TlsError::Io(_)) => dropped.tls_failed.add_one(),
        Ending::Stream(StreamError::Protocol(_)) => dropped.not_websocket.add_one(),
        Ending::Refused(Refusal::BadRegistration) => dropped.bad_proof.add_one(),
        Ending::Link(_) | Ending::Forward(_) | Ending::Refused(Refusal::OutOfPlace(_)) => {
            dropped.malformed.add_one();
        }
        Ending::Asked | Ending::Stopping | Ending::Tls(_) | Ending::Stream(_) | Ending::Refused(_) => {}
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
