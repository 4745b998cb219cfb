//! One connection, from its first byte to its last.
//!
//! Life: [`opening`] (WebSocket upgrade, link handshake and REGISTER, all within one deadline), then a
//! [`session`](super::session) that reads, writes and watches the time, then the end, in which the client is told why if
//! there is a why.
//!
//! [`opening`]: super::opening

use crate::core::ConnId;
use crate::core::auth::Refusal;
use crate::server::hub::Hub;
use crate::server::opening::open;
use crate::server::relayed::Entrance;
use crate::server::socket::Line;
use crate::server::ws::{StreamError, WsStream};
use shadowmesh_proto::link::{LinkError, ServerLink};
use shadowmesh_proto::wire::codec::WireError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
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

/// Serves one connection until it ends.
pub(super) async fn serve<S: Line>(hub: Arc<Hub>, io: S, origin: Origin) {
    let patience = hub.rules().patience;
    // In a box of its own, which is gone afterwards: the opening needs five times the memory of the session that stays.
    let opened = timeout(patience.handshake, Box::pin(open(&hub, io, &origin))).await;
    let ending = match opened {
        Err(_) => Ending::Late,
        Ok(Err(ending)) => ending,
        Ok(Ok(session)) => {
            tracing::debug!(conn = origin.conn.0, peer = %origin.peer, "registered");
            session.run().await
        }
    };
    count(&hub, &ending);
    tracing::debug!(conn = origin.conn.0, peer = %origin.peer, reason = %ending, "connection ended");
}

fn count(hub: &Hub, ending: &Ending) {
    let dropped = &hub.metrics().dropped;
    match ending {
        Ending::Late => dropped.handshake_timeout.add_one(),
        Ending::Stuck => dropped.stuck_reader.add_one(),
        Ending::Silent => dropped.silent.add_one(),
        Ending::Stream(StreamError::Protocol(_)) => dropped.not_websocket.add_one(),
        Ending::Refused(Refusal::BadRegistration) => dropped.bad_proof.add_one(),
        Ending::Link(_) | Ending::Forward(_) | Ending::Refused(Refusal::OutOfPlace(_)) => {
            dropped.malformed.add_one();
        }
        Ending::Asked | Ending::Stopping | Ending::Stream(_) | Ending::Refused(_) => {}
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
