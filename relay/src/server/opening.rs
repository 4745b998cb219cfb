//! The first messages of a connection: WebSocket upgrade, link handshake, REGISTER. The caller sets the deadline.
//!
//! The asymmetric work happens on other threads (as many as the runtime allows): a thousand clients that come back at once
//! after a restart, or a stranger who sends handshakes as fast as he can, then compete with forwarding for a core and not
//! for the thread that forwards.

use crate::core::auth::{Refusal, Registration};
use crate::random::SystemRng;
use crate::server::conn::{Ending, Origin, refuse};
use crate::server::hub::Hub;
use crate::server::port::Port;
use crate::server::session::Session;
use crate::server::socket::Line;
use crate::server::ws::WsStream;
use bytes::Bytes;
use shadowmesh_proto::link::{LinkError, ServerInput, ServerLink};
use std::sync::Arc;
use std::time::Instant;

/// Upgrade, handshake, registration.
pub(super) async fn open<S: Line>(hub: &Arc<Hub>, io: S, origin: &mut Origin) -> Result<Session<S>, Ending> {
    let mut ws = WsStream::accept(io, |headers| origin.on_request(&hub.rules().trusted, headers)).await?;
    let mut link = ServerLink::new(hub.versions());
    loop {
        let message = ws.next_message().await?;
        let (returned, input) = in_background(hub, link, message).await?;
        link = returned;
        match input {
            Ok(ServerInput::Send(response)) => {
                ws.stage(response.into());
                ws.write_all().await?;
            }
            Ok(ServerInput::Register { node, network, instance, features: _, version }) => {
                let observed_tcp = origin.peer;
                let registration = Registration { node, network, instance, observed_tcp, version };
                let rules = hub.rules();
                let port = Arc::new(Port::new(Instant::now(), &rules.limits, origin.entrance.clone()));
                if let Err(refusal) = hub.register(origin.conn, &port, registration) {
                    refuse(ws, link, refusal).await;
                    return Err(refusal.into());
                }
                return Ok(Session::new(ws, link, Arc::clone(hub), port, origin.conn, &rules));
            }
            Ok(ServerInput::Ignored | ServerInput::Control(_) | ServerInput::Forward) => {
                return Err(LinkError::OutOfPlace("a message before REGISTER").into());
            }
            Err(LinkError::Proof) => {
                refuse(ws, link, Refusal::BadRegistration).await;
                return Err(Refusal::BadRegistration.into());
            }
            Err(LinkError::Version(mismatch)) => {
                refuse(ws, link, Refusal::Version(mismatch)).await;
                return Err(Refusal::Version(mismatch).into());
            }
            // Whoever cannot finish the handshake is a stranger: no word.
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lets the link take `message` on another thread.
async fn in_background(
    hub: &Arc<Hub>,
    mut link: ServerLink,
    message: Bytes,
) -> Result<(ServerLink, Result<ServerInput, LinkError>), Ending> {
    let hub = Arc::clone(hub);
    let work = move || {
        let input = link.handle(hub.secret(), &message, &mut SystemRng);
        (link, input)
    };
    // In a set because that takes the work back, if it has not begun, when the connection runs out of time meanwhile.
    let mut set = tokio::task::JoinSet::new();
    set.spawn_blocking(work);
    match set.join_next().await {
        Some(Ok(done)) => Ok(done),
        Some(Err(_)) | None => Err(Ending::Stopping),
    }
}
