//! The stream to one relay, kept alive.
//!
//! One task per relay: connect, run, and connect again, for as long as the daemon lives. It speaks WebSocket and nothing
//! above it: what the messages mean is the endpoint's business, which also decides when a connection is dead
//! ([`RelayCommand::Drop`]).
//!
//! # Reconnecting
//!
//! The first try after a loss comes at once, the following after pauses that double from [`PAUSE_FIRST`] to [`PAUSE_MAX`],
//! each shortened or lengthened at random by a quarter, so that the clients of a restarted relay do not come in step. The
//! longest pause and the connect timeout together stay under the two seconds within which traffic must flow again once it can. A
//! change of the machine's network cuts a pause short. A relay that refuses says when to come back.
//!
//! # Writing
//!
//! Control before data. Whatever waits is written and flushed in one go, so batches grow with the load and no timer delays
//! a lone packet.

use super::outside::Outside;
use crate::plane::{InboundMessage, InboundSender, StreamHandle, StreamQueue, Waker, stream_queue};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use shadowmesh_proto::endpoint::event::Contact;
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::transmit::RelayNo;
use shadowmesh_proto::wire::relay::{HTTP_PATH, MAX_MESSAGE, StreamMessage};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// The first pause between tries.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause between tries.
const PAUSE_MAX: Duration = Duration::from_millis(1200);
/// A TCP connection takes one round trip; a SYN that was lost is better sent anew than waited for.
const CONNECT_WITHIN: Duration = Duration::from_millis(1500);
/// The WebSocket upgrade takes one more.
const UPGRADE_WITHIN: Duration = Duration::from_secs(5);
/// A connection that lived this long was a good one: the next loss begins with short pauses again.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// The most that a relay may tell a client to stay away.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Bytes written before a flush, beyond which the library writes by itself.
const WRITE_BUFFER: usize = 16 * 1024;
/// Read buffer; the library's default of 128 KiB is most of an idle daemon.
const READ_BUFFER: usize = 16 * 1024;
/// Bytes handed to the library before a flush, so that the queue's count stays honest.
const WRITE_ROUND: usize = 128 * 1024;

type Ws = WebSocketStream<TcpStream>;

/// What a relay's task says.
#[derive(Debug)]
pub enum RelayEvent {
    /// A try begins.
    Connecting,
    /// The stream is open.
    Opened {
        /// The relay's address.
        remote: SocketAddr,
        /// Where the outbound thread puts data.
        data: StreamHandle,
    },
    /// A message that is not FORWARD.
    Message(Bytes),
    /// The stream is gone, or could not be had; another try follows.
    Closed {
        /// Why, in words.
        why: String,
    },
}

/// What a relay's task is told.
#[derive(Debug)]
pub enum RelayCommand {
    /// Send this stream message, before all data.
    Send(Vec<u8>),
    /// The relay accepted the registration: FORWARD is welcome.
    Registered,
    /// Give this connection up; come back after the pause, if one is given.
    Drop(Option<Duration>),
    /// Say what is queued, close, and end.
    End,
}

/// Where to speak to a relay's task.
#[derive(Debug, Clone)]
pub struct RelayHandle {
    commands: mpsc::UnboundedSender<RelayCommand>,
    hurry: Arc<Notify>,
}

impl RelayHandle {
    /// Sends a command; one to a task that ended is dropped.
    pub fn send(&self, command: RelayCommand) {
        let _ = self.commands.send(command);
    }

    /// The network changed: try now.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }
}

/// A relay to keep a stream to.
#[derive(Debug)]
pub struct Relay {
    /// Its place in the configuration.
    pub no: RelayNo,
    /// `host:port` each, tried in turn.
    pub addresses: Vec<String>,
    /// Makes sockets.
    pub outside: Outside,
    /// Where events go, in order.
    pub events: mpsc::Sender<(RelayNo, RelayEvent)>,
    /// Where FORWARD messages go.
    pub inbound: InboundSender,
    /// Woken when the stream's queue has room again.
    pub producer: Waker,
}

/// Starts the task.
pub fn spawn(relay: Relay, rng: impl Rng + Send + Sync + 'static) -> RelayHandle {
    let (commands, receiver) = mpsc::unbounded_channel();
    let hurry = Arc::new(Notify::new());
    let handle = RelayHandle { commands, hurry: Arc::clone(&hurry) };
    tokio::spawn(Keeper { relay, rng, commands: receiver, hurry, pause: Duration::ZERO, next: 0 }.run());
    handle
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("no address of {0} could be found: {1}")]
    Resolve(String, io::Error),
    #[error("{0} does not answer")]
    NoAnswer(SocketAddr),
    #[error("{0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("{0} answers, but not as a relay: {1}")]
    NotARelay(SocketAddr, WsError),
    #[error("the connection broke: {0}")]
    Broken(WsError),
    #[error("the relay closed the connection")]
    Closed,
    #[error("the relay broke the protocol")]
    Protocol,
    #[error("the relay no longer answers")]
    Given,
    #[error("this node is leaving")]
    Ended,
}

struct Keeper<R> {
    relay: Relay,
    rng: R,
    commands: mpsc::UnboundedReceiver<RelayCommand>,
    hurry: Arc<Notify>,
    pause: Duration,
    next: usize,
}

impl<R: Rng> Keeper<R> {
    async fn run(mut self) {
        loop {
            self.say(RelayEvent::Connecting).await;
            let began = Instant::now();
            let mut told = None;
            let why = match self.connect().await {
                Ok((ws, remote)) => self.converse(ws, remote, &mut told).await,
                Err(why) => why,
            };
            if matches!(why, StreamError::Ended) {
                return;
            }
            self.say(RelayEvent::Closed { why: why.to_string() }).await;
            if began.elapsed() >= GOOD_AFTER {
                self.pause = Duration::ZERO;
            }
            if !self.wait(told).await {
                return;
            }
        }
    }

    async fn say(&self, event: RelayEvent) {
        // The event loop is gone only when the daemon ends, which ends this task as well.
        let _ = self.relay.events.send((self.relay.no, event)).await;
    }

    /// Pauses; `false` to end.
    async fn wait(&mut self, told: Option<Duration>) -> bool {
        let pause = told.map_or_else(|| self.jittered(), |told| told.min(RETRY_MAX));
        self.pause = (self.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                // A relay that named a time is not to be hurried.
                () = self.hurry.notified(), if told.is_none() => {
                    self.pause = PAUSE_FIRST;
                    return true;
                }
                command = self.commands.recv() => match command {
                    Some(RelayCommand::End) | None => return false,
                    Some(RelayCommand::Send(_) | RelayCommand::Registered | RelayCommand::Drop(_)) => {}
                },
            }
        }
    }

    /// The pause, up to a quarter shorter or longer.
    fn jittered(&mut self) -> Duration {
        let share = f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        self.pause.mul_f64(0.75 + share / 2.0)
    }

    /// Tries the next address.
    async fn connect(&mut self) -> Result<(Ws, SocketAddr), StreamError> {
        let at = self.next % self.relay.addresses.len().max(1);
        self.next = self.next.wrapping_add(1);
        let Some(address) = self.relay.addresses.get(at) else { return Err(StreamError::Closed) };
        let resolved = timeout(UPGRADE_WITHIN, tokio::net::lookup_host(address.as_str())).await;
        let resolved = resolved.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let resolved: Vec<_> = resolved.map_err(|e| StreamError::Resolve(address.clone(), e))?.collect();
        let mut last = StreamError::Resolve(address.clone(), io::ErrorKind::NotFound.into());
        for remote in resolved {
            match self.open(remote, address).await {
                Ok(ws) => {
                    // Stay with what works.
                    self.next = at;
                    return Ok((ws, remote));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn open(&self, remote: SocketAddr, authority: &str) -> Result<Ws, StreamError> {
        let connecting = async { self.relay.outside.tcp(remote).await?.connect(remote).await };
        let stream = timeout(CONNECT_WITHIN, connecting)
            .await
            .map_err(|_| StreamError::NoAnswer(remote))?
            .map_err(|error| StreamError::Connect(remote, error))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(4 * MAX_MESSAGE)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let url = format!("ws://{authority}{HTTP_PATH}");
        let upgrade = timeout(UPGRADE_WITHIN, client_async_with_config(url, stream, Some(config))).await;
        match upgrade {
            Ok(Ok((ws, _))) => Ok(ws),
            Ok(Err(error)) => Err(StreamError::NotARelay(remote, error)),
            Err(_) => Err(StreamError::NoAnswer(remote)),
        }
    }

    /// Runs an open stream to its end.
    async fn converse(&mut self, ws: Ws, remote: SocketAddr, told: &mut Option<Duration>) -> StreamError {
        let (data, queue) = stream_queue(self.relay.producer.clone());
        let (control, control_queue) = mpsc::unbounded_channel();
        self.say(RelayEvent::Opened { remote, data }).await;
        let (sink, stream) = ws.split();
        let registered = AtomicBool::new(false);
        let reading = read(stream, &self.relay, &registered);
        let writing = write(sink, control_queue, queue);
        tokio::pin!(reading, writing);
        loop {
            tokio::select! {
                why = &mut reading => return why,
                why = &mut writing => return why,
                command = self.commands.recv() => match command {
                    Some(RelayCommand::Send(message)) => {
                        let _ = control.send(Bytes::from(message));
                    }
                    Some(RelayCommand::Registered) => {
                        registered.store(true, Relaxed);
                        self.pause = Duration::ZERO;
                    }
                    Some(RelayCommand::Drop(pause)) => {
                        *told = pause;
                        return StreamError::Given;
                    }
                    Some(RelayCommand::End) | None => {
                        // The writer ends once it has said what was queued before this.
                        drop(control);
                        let _ = timeout(Duration::from_secs(1), &mut writing).await;
                        return StreamError::Ended;
                    }
                },
            }
        }
    }
}

async fn read(mut stream: SplitStream<Ws>, relay: &Relay, registered: &AtomicBool) -> StreamError {
    loop {
        let message = match stream.next().await {
            Some(Ok(Message::Binary(message))) => message,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Text(_) | Message::Frame(_))) => return StreamError::Protocol,
            Some(Ok(Message::Close(_))) | None => return StreamError::Closed,
            Some(Err(error)) => return StreamError::Broken(error),
        };
        match StreamMessage::parse(&message) {
            Ok(StreamMessage::Forward(forward)) => {
                if !registered.load(Relaxed) {
                    return StreamError::Protocol;
                }
                let contact = Contact { relay: relay.no, channel: forward.channel };
                let message = message.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                if !relay.inbound.send(InboundMessage { contact, message }).await {
                    return StreamError::Ended;
                }
            }
            Ok(StreamMessage::LinkInit(_) | StreamMessage::LinkResponse(_) | StreamMessage::Control(_)) => {
                if relay.events.send((relay.no, RelayEvent::Message(message))).await.is_err() {
                    return StreamError::Ended;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a message of the relay does not parse");
                return StreamError::Protocol;
            }
        }
    }
}

async fn write(
    mut sink: SplitSink<Ws, Message>,
    mut control: mpsc::UnboundedReceiver<Bytes>,
    mut data: StreamQueue,
) -> StreamError {
    loop {
        let (first, mut sent) = tokio::select! {
            biased;
            message = control.recv() => match message {
                Some(message) => (message, 0),
                None => {
                    let closed = sink.close().await;
                    return closed.map_or_else(StreamError::Broken, |()| StreamError::Ended);
                }
            },
            Some(message) = data.next() => {
                let len = message.len();
                (message, len)
            }
        };
        let mut result = sink.feed(Message::Binary(first)).await;
        while result.is_ok() && sent < WRITE_ROUND {
            if let Ok(message) = control.try_recv() {
                result = sink.feed(Message::Binary(message)).await;
            } else if let Some(message) = data.try_next() {
                sent += message.len();
                result = sink.feed(Message::Binary(message)).await;
            } else {
                break;
            }
        }
        if result.is_ok() {
            result = sink.flush().await;
        }
        data.on_sent(sent);
        if let Err(error) = result {
            return StreamError::Broken(error);
        }
        // One task must not keep the others of this thread from running, however much there is to write.
        tokio::task::consume_budget().await;
    }
}
