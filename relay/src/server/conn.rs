//! One connection, from its first byte to its last.
//!
//! Life: WebSocket upgrade, link handshake and REGISTER, all within one deadline; then one task that reads, writes and
//! watches the time; then the end, in which the client is told why if there is a why. The task never waits for another
//! connection, and reading goes on while writing is blocked, so a client that does not read still gets its own data out.
//!
//! The asymmetric work of handshake and registration happens on other threads (as many as the runtime allows): a thousand
//! clients that come back at once after a restart, or a stranger who sends handshakes as fast as he can, then compete with
//! forwarding for a core and not for the thread that forwards.

use crate::core::ConnId;
use crate::core::auth::{Refusal, Registration};
use crate::core::forward::Item;
use crate::core::limits::Bucket;
use crate::server::hub::{Hub, Patience, Port};
use crate::server::ws::{StreamError, WsStream};
use bytes::Bytes;
use shadowmesh_proto::link::{LinkError, ServerInput, ServerLink};
use shadowmesh_proto::wire::codec::WireError;
use shadowmesh_proto::wire::relay::{Control, Forward};
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep, timeout};

/// Bytes read in one go before other connections get their turn: well under a queue, so that a burst of one client is
/// written on before it can overflow the queue of the other.
const READ_BUDGET: usize = 256 * 1024;
/// Messages read in one go, for the same reason.
const READ_MESSAGES: usize = 64;
/// For the last words of a connection.
const FAREWELL: Duration = Duration::from_secs(1);
/// WebSocket close codes (RFC 6455 §7.4.1).
const CLOSE_NORMAL: u16 = 1000;
const CLOSE_POLICY: u16 = 1008;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ending {
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
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) conn: ConnId,
    pub(super) peer: SocketAddr,
    pub(super) local_port: u16,
}

/// Serves one connection until it ends.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(hub: Arc<Hub>, io: S, origin: Origin) {
    let patience = hub.rules().patience;
    let opened = timeout(patience.handshake, open(&hub, io, origin)).await;
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

/// Upgrade, handshake, registration.
async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    hub: &Arc<Hub>,
    io: S,
    origin: Origin,
) -> Result<Session<S>, Ending> {
    let mut ws = WsStream::accept(io).await?;
    let mut link = ServerLink::new();
    loop {
        let message = ws.next_message().await?;
        let (returned, input) = in_background(hub, link, message).await?;
        link = returned;
        match input {
            Ok(ServerInput::Send(response)) => {
                ws.stage(response.into());
                ws.write_all().await?;
            }
            Ok(ServerInput::Register { node, network, instance, features: _ }) => {
                let registration = Registration { node, network, instance, observed_tcp: origin.peer };
                let rules = hub.rules();
                let port = Arc::new(Port::new(&rules.limits, origin.local_port));
                if let Err(refusal) = hub.register(origin.conn, &port, registration) {
                    refuse(ws, link, refusal).await;
                    return Err(refusal.into());
                }
                let now = Instant::now();
                let rate = rules.limits.bytes_per_second;
                return Ok(Session {
                    ws,
                    link,
                    hub: Arc::clone(hub),
                    port,
                    conn: origin.conn,
                    patience: rules.patience,
                    bytes: rate.map(|rate| Bucket::full(now, rate, rate)),
                    pause: None,
                    back_pressure: rules.limits.back_pressure,
                    heard: now,
                    pinged: false,
                    progress: now,
                    blocked: false,
                    timer: Box::pin(sleep(rules.patience.ping)),
                });
            }
            Ok(ServerInput::Ignored | ServerInput::Control(_) | ServerInput::Forward) => {
                return Err(LinkError::OutOfPlace("a message before REGISTER").into());
            }
            Err(LinkError::Proof) => {
                refuse(ws, link, Refusal::BadRegistration).await;
                return Err(Refusal::BadRegistration.into());
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
        let input = link.handle(hub.secret(), &message, &mut crate::random::SystemRng);
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

/// Says why, and closes.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
    mut ws: WsStream<S>,
    mut link: ServerLink,
    refusal: Refusal,
) {
    if let Ok(message) = link.seal(&refusal.to_body()) {
        ws.stage(message.into());
    }
    ws.stage_close(CLOSE_POLICY);
    // A client that does not let us say goodbye within the time misses it.
    let _ = timeout(FAREWELL, ws.finish()).await;
}

/// Why and until when a client is not read.
#[derive(Debug)]
enum Pause {
    /// It sent as much as its rate allows.
    Rate { until: Instant },
    /// It sends to a client whose queue is crowded.
    Crowd { to: Arc<Port>, until: Instant },
}

impl Pause {
    const fn until(&self) -> Instant {
        match self {
            Self::Rate { until } | Self::Crowd { until, .. } => *until,
        }
    }
}

/// A registered connection.
#[derive(Debug)]
struct Session<S> {
    ws: WsStream<S>,
    link: ServerLink,
    hub: Arc<Hub>,
    port: Arc<Port>,
    conn: ConnId,
    patience: Patience,
    /// Meters what it sends, where the operator set a rate.
    bytes: Option<Bucket>,
    /// Not read for now.
    pause: Option<Pause>,
    back_pressure: Duration,
    /// When something last came.
    heard: Instant,
    /// Whether it was pinged since.
    pinged: bool,
    /// When something was last written, or there was nothing to write.
    progress: Instant,
    /// Whether the socket takes no more for now.
    blocked: bool,
    timer: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn run(mut self) -> Ending {
        let ending = poll_fn(|cx| self.poll(cx)).await;
        // First the others: they are told PEER_GONE while this one gets its last words.
        self.hub.closed(self.conn);
        let Self { mut ws, mut link, port, .. } = self;
        match &ending {
            Ending::Refused(refusal) => refuse(ws, link, *refusal).await,
            Ending::Asked => {
                while let Some(item) = port.pop() {
                    if let Item::Control(body) = item
                        && let Ok(message) = link.seal(&body)
                    {
                        ws.stage(message.into());
                    }
                }
                ws.stage_close(CLOSE_NORMAL);
                let _ = timeout(FAREWELL, ws.finish()).await;
            }
            Ending::Stream(_)
            | Ending::Link(_)
            | Ending::Forward(_)
            | Ending::Stopping
            | Ending::Late
            | Ending::Stuck
            | Ending::Silent => {}
        }
        ending
    }

    /// Reads and writes until nothing moves; ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        self.port.register(cx.waker());
        let now = Instant::now();
        let result = self
            .poll_read(cx, now)
            .and_then(|()| self.poll_write(cx, now))
            .and_then(|()| self.poll_time(cx, now));
        match result {
            Ok(()) if self.port.is_stuck() => Poll::Ready(Ending::Stuck),
            Ok(()) if self.port.is_closing() => Poll::Ready(Ending::Asked),
            Ok(()) => Poll::Pending,
            Err(ending) => Poll::Ready(ending),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ending> {
        if self.is_paused(cx, now) {
            return Ok(());
        }
        let mut budget = READ_BUDGET;
        for _ in 0..READ_MESSAGES {
            let Poll::Ready(message) = self.ws.poll_message(cx)? else {
                return Ok(());
            };
            self.heard = now;
            self.pinged = false;
            let Some(message) = message else {
                continue;
            };
            let length = message.len();
            self.on_message(message, now)?;
            self.keep_to_rate(now, length);
            if self.is_paused(cx, now) {
                return Ok(());
            }
            let Some(left) = budget.checked_sub(length) else {
                break;
            };
            budget = left;
        }
        // More may be there: come back after the others.
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn on_message(&mut self, message: Bytes, now: Instant) -> Result<(), Ending> {
        // The data path first. Only registered links come here, so FORWARD is in place.
        match Forward::parse(&message) {
            Ok(forward) => {
                let channel = forward.channel;
                let crowded = self.port.forward(channel, message, now, self.hub.metrics());
                if let Some(to) = crowded
                    && !self.back_pressure.is_zero()
                {
                    self.pause = Some(Pause::Crowd { to, until: now + self.back_pressure });
                }
                return Ok(());
            }
            Err(WireError::Kind(_)) => {}
            Err(error) => return Err(error.into()),
        }
        match self.link.handle(self.hub.secret(), &message, &mut crate::random::SystemRng)? {
            ServerInput::Control(body) => Ok(self.hub.control(self.conn, body)?),
            ServerInput::Ignored => Ok(()),
            ServerInput::Send(_) | ServerInput::Register { .. } | ServerInput::Forward => {
                Err(LinkError::OutOfPlace("a handshake on an open link").into())
            }
        }
    }

    /// Takes `length` bytes from the allowance, and stops reading when it is used up.
    fn keep_to_rate(&mut self, now: Instant, length: usize) {
        let Some(bucket) = &mut self.bytes else {
            return;
        };
        let amount = u32::try_from(length).map_or(f64::MAX, f64::from);
        let wait = bucket.spend(now, amount);
        if !wait.is_zero() {
            self.pause = Some(Pause::Rate { until: now + wait });
        }
    }

    /// Whether reading waits for something; if so, the task is woken when it need not any more.
    fn is_paused(&mut self, cx: &Context<'_>, now: Instant) -> bool {
        let until = match &self.pause {
            None => return false,
            Some(Pause::Rate { until }) if *until > now => *until,
            Some(Pause::Crowd { to, until }) if !to.is_ready(cx.waker(), now) => {
                if *until <= now {
                    to.give_up_waiting(now);
                    self.pause = None;
                    return false;
                }
                *until
            }
            Some(Pause::Rate { .. } | Pause::Crowd { .. }) => {
                self.pause = None;
                return false;
            }
        };
        self.wake_at(until);
        true
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ending> {
        let mut written = 0;
        let idle = loop {
            while self.ws.has_room()
                && let Some(item) = self.port.pop()
            {
                let message = match item {
                    Item::Control(body) => self.link.seal(&body)?.into(),
                    Item::Data(message) => message,
                };
                self.ws.stage(message);
            }
            // Only when staging left nothing behind: what found no room above waits for the next round of this loop.
            if self.ws.is_idle() {
                break true;
            }
            if self.ws.poll_write(cx, &mut written)?.is_pending() {
                break false;
            }
        };
        if idle || written > 0 {
            self.progress = now;
        }
        if !idle && !self.blocked {
            self.wake_at(now + self.patience.write);
        }
        self.blocked = !idle;
        Ok(())
    }

    /// Looks at the clock when the timer fires, and sets it for what is next.
    fn poll_time(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ending> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.blocked && now.duration_since(self.progress) >= self.patience.write {
                return Err(Ending::Stuck);
            }
            if self.pause.is_some() {
                // It is us who do not listen.
                self.heard = now;
            }
            let quiet = now.duration_since(self.heard);
            if quiet >= self.patience.silence {
                return Err(Ending::Silent);
            }
            if quiet >= self.patience.ping / 2 {
                self.port.shrink();
                self.ws.shrink();
            }
            if quiet >= self.patience.ping && !self.pinged {
                self.pinged = true;
                self.port.send(Control::Ping { id: 0 });
            }
            let mut next = self.heard + if self.pinged { self.patience.silence } else { self.patience.ping };
            if self.blocked {
                next = next.min(self.progress + self.patience.write);
            }
            if let Some(pause) = &self.pause {
                next = next.min(pause.until());
            }
            self.timer.as_mut().reset(next.max(now + Duration::from_millis(1)).into());
        }
        Ok(())
    }

    /// Makes sure that the timer fires at `at` or before.
    fn wake_at(&mut self, at: Instant) {
        if self.timer.deadline().into_std() > at {
            self.timer.as_mut().reset(at.into());
        }
    }
}
