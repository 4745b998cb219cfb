//! The stream to one relay, kept alive.
//!
//! One task per relay: connect, run, and connect again, for as long as the daemon lives. It speaks WebSocket and nothing
//! above it: what the messages mean is the endpoint's business, which also decides when a connection is dead
//! ([`RelayStream::give_up`]).
//!
//! - `connect`: every address of the relay at once, the first that answers wins; by `tls` where it says so, over a `line` of one kind or the other.
//! - `proxy`: the way out through an HTTP proxy, where there is no other.
//! - `backoff`: the pauses between tries.
//! - `rests`: the addresses that are left out of tries for a while.
//! - `stream`: an open stream, from [`RelayEvent::Opened`] to [`RelayEvent::Closed`].
//!
//! # A relay that refuses
//!
//! One that has no place for this node says so before the stream is one, by HTTP or by an alert of TLS (protocol §3.10). That is no loss to be mended in a second: it is told in a
//! sentence, and the relay is left alone as long as it wants, or until the network here changes. By HTTP only an answer with Retry-After is one: a relay always says it, and a
//! reverse proxy whose server restarts does not. Nobody has signed such an answer, so it keeps nobody away for longer than 15 s.
//!
//! # What belongs to a stream ends with it
//!
//! Messages are sealed for one link. So they are given to a [`RelayStream`], which [`RelayEvent::Opened`] brings and which
//! speaks to that stream only: what is said to one that ended goes nowhere, never to the next. What concerns the relay
//! whatever stream there is (hurry, stay away, end) goes to the [`RelayHandle`] and is a state, not a message: it cannot come
//! too late. Events come in order on one channel; after `Closed`, nothing of that stream follows.

mod backoff;
mod connect;
mod line;
mod proxy;
mod rests;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use proxy::{ProxyError, tunnel};

use super::outside::Outside;
use crate::config::ProxyRule;
use crate::plane::{InboundSender, StreamHandle, Waker};
use backoff::{Backoff, UNPROVEN_MAX};
use bytes::Bytes;
use rests::{Rest, Rests};
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::transmit::RelayNo;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use stream::StreamCommand;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::RETRY_AFTER;

/// A connection that lived this long was a good one: the next loss begins with short pauses again. One that dies sooner goes
/// on with the longer ones, so that a relay that takes a registration and then falls over is not hammered.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// The most that a relay may tell a client to stay away, by what came sealed.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// After a relay said by TLS that there is no place: there is no way to say how long to wait. And after what spoke no TLS where that was expected: mostly a relay, or one before it, that
/// has no place either and says so by HTTP.
const AWAY_WHEN_REFUSED: Duration = Duration::from_secs(10);
const _: () = assert!(AWAY_WHEN_REFUSED.as_secs() <= UNPROVEN_MAX.as_secs(), "nobody has signed that");
/// However often the network changes, there is a try this often at most.
const HURRIED_PAUSE: Duration = Duration::from_millis(100);

/// What a relay's task says.
#[derive(Debug)]
pub enum RelayEvent {
    /// A try begins.
    Connecting,
    /// The stream is open.
    Opened {
        /// The relay's address; nothing where a proxy leads to a name that is not known here.
        remote: Option<SocketAddr>,
        /// Another address of it, of the other family.
        other_family: Option<IpAddr>,
        /// This end's. Once it is gone from this machine, nothing comes by this stream any more.
        local: Option<SocketAddr>,
        /// It goes by a proxy: what the relay sees is that.
        is_proxied: bool,
        /// Where the outbound thread puts data.
        data: StreamHandle,
        /// Where to say what concerns this stream.
        stream: RelayStream,
    },
    /// A message that is not FORWARD.
    Message(Bytes),
    /// The stream is gone, or could not be had; another try follows.
    Closed {
        /// Why, in words.
        why: String,
        /// What that says of the relay.
        ending: Ending,
    },
}

/// What ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A try: the relay is there and takes nobody from here for now.
    Refused,
    /// A try, for any other reason: nothing is known of the relay.
    NotReached,
    /// A stream that was open, or a try that was not wanted any more.
    Over,
}

/// Speaks to one open stream, and to nothing once that ended. Dropping it gives the stream up.
#[derive(Debug)]
pub struct RelayStream {
    commands: mpsc::UnboundedSender<StreamCommand>,
}

impl RelayStream {
    /// Sends this stream message, before all data.
    pub fn send(&self, message: Vec<u8>) {
        self.command(StreamCommand::Send(message));
    }

    /// The relay accepted the registration: FORWARD is welcome.
    pub fn registered(&self) {
        self.command(StreamCommand::Registered);
    }

    /// Give this connection up at once; another one follows.
    pub fn give_up(self) {
        self.command(StreamCommand::GiveUp);
    }

    /// Say what was sent before this, close, and wait a moment for the relay to have heard it.
    pub fn finish(self) {
        self.command(StreamCommand::Finish);
    }

    fn command(&self, command: StreamCommand) {
        // The stream has ended: what was meant for it has no meaning any more.
        let _ = self.commands.send(command);
    }
}

/// What is wanted of a relay's task, whatever it is doing.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    away_until: Option<Instant>,
    is_ended: bool,
}

/// Where to speak to a relay's task. Dropping it ends the task.
#[derive(Debug)]
pub struct RelayHandle {
    hurry: Arc<Notify>,
    wish: watch::Sender<Wish>,
}

impl RelayHandle {
    /// The network changed: try soon.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// No new connection for this long (a minute at most): the relay said so.
    pub fn stay_away(&self, pause: Duration) {
        let until = Instant::now() + pause.min(AWAY_MAX);
        self.wish.send_modify(|wish| wish.away_until = Some(until));
    }

    /// No new connection ever. A stream that is open goes on until [`RelayStream::finish`].
    pub fn end(&self) {
        self.wish.send_modify(|wish| wish.is_ended = true);
    }
}

/// A relay to keep a stream to.
#[derive(Debug)]
pub struct Relay {
    /// Its place in the configuration.
    pub no: RelayNo,
    /// As in a ticket, all of one relay, best first.
    pub addresses: Vec<String>,
    /// Makes sockets.
    pub outside: Outside,
    /// By which proxy its addresses are reached, if by one.
    pub proxy: Option<Arc<ProxyRule>>,
    /// Where events go, in order.
    pub events: mpsc::Sender<(RelayNo, RelayEvent)>,
    /// Where FORWARD messages go.
    pub inbound: InboundSender,
    /// Woken when the stream's queue has room again.
    pub producer: Waker,
}

/// Starts the task.
pub fn spawn(relay: Relay, rng: impl Rng + Send + Sync + 'static) -> RelayHandle {
    let (wish, wishes) = watch::channel(Wish::default());
    let hurry = Arc::new(Notify::new());
    let handle = RelayHandle { hurry: Arc::clone(&hurry), wish };
    tokio::spawn(
        Keeper { relay, rng, wishes, hurry, backoff: Backoff::default(), rests: Rests::default(), best: 0 }
            .run(),
    );
    handle
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("no address of {0} could be found: {1}")]
    Resolve(String, io::Error),
    #[error("{0} does not answer")]
    NoAnswer(String),
    #[error("{0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("the proxy {0} {1}")]
    Proxy(String, ProxyError),
    #[error("no address of the relay is asked again yet")]
    Resting,
    #[error("the relay at {at} refuses this node for now: {why}")]
    Refused { at: String, why: &'static str, wait: Duration },
    #[error("{0} answers, but not by TLS: {1}")]
    NotTls(String, io::Error),
    #[error("{0} answers, but not as a relay: {1}")]
    NotARelay(String, WsError),
    #[error("the connection broke: {0}")]
    Broken(WsError),
    #[error("the relay closed the connection")]
    Closed,
    #[error("the relay broke the protocol")]
    Protocol,
    #[error("the connection was given up")]
    GivenUp,
    #[error("the relay asks and does not read the answers")]
    Stuck,
    #[error("this node is leaving")]
    Ended,
}

impl StreamError {
    /// What the upgrade ended with; `at` is the relay's address for people, whoever leads there.
    fn of_upgrade(at: String, error: WsError) -> Self {
        let WsError::Http(answer) = &error else { return Self::NotARelay(at, error) };
        let wait = answer.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok());
        // protocol §3.10: a relay's refusal has it.
        let Some(wait) = wait.and_then(backoff::retry_after) else { return Self::NotARelay(at, error) };
        let why = match answer.status() {
            StatusCode::TOO_MANY_REQUESTS => "too many connections, or too often, from this address",
            StatusCode::SERVICE_UNAVAILABLE => "it has as many connections as it takes",
            _ => return Self::NotARelay(at, error),
        };
        Self::Refused { at, why, wait }
    }

    /// What the TLS handshake ended with.
    fn of_tls(at: String, error: io::Error) -> Self {
        if tls::is_refusal(&error) {
            let why = "too many connections, from this address or in all";
            return Self::Refused { at, why, wait: AWAY_WHEN_REFUSED };
        }
        Self::NotTls(at, error)
    }

    /// How long not to try again, at any address of the relay.
    const fn wait(&self) -> Option<Duration> {
        if let Self::Refused { wait, .. } = self { Some(*wait) } else { None }
    }

    /// How long not to try this address again, while others are tried.
    fn rest(&self) -> Option<Rest> {
        if let Self::Proxy(_, why) = self {
            return why.rest();
        }
        let is_other = matches!(self, Self::NotTls(_, why) if tls::is_other_language(why));
        is_other.then_some(Rest::of_address(AWAY_WHEN_REFUSED))
    }

    /// Who is there and says no, which says more than who is not.
    fn is_answer(&self) -> bool {
        self.wait().is_some() || self.rest().is_some()
    }

    /// What a try that ended so says of the relay.
    const fn ending(&self) -> Ending {
        if matches!(self, Self::Refused { .. }) {
            return Ending::Refused;
        }
        if matches!(self, Self::GivenUp | Self::Resting) { Ending::Over } else { Ending::NotReached }
    }
}

struct Keeper<R> {
    relay: Relay,
    rng: R,
    wishes: watch::Receiver<Wish>,
    hurry: Arc<Notify>,
    backoff: Backoff,
    rests: Rests,
    /// The address that answered last.
    best: usize,
}

impl<R: Rng> Keeper<R> {
    async fn run(mut self) {
        while self.may_try().await {
            self.say(RelayEvent::Connecting).await;
            let Relay { addresses, outside, proxy, .. } = &self.relay;
            let trying = connect::connect(addresses, self.best, outside, proxy.as_deref(), &mut self.rests);
            let tried = tokio::select! {
                tried = trying => tried,
                () = forbidden(self.wishes.clone()) => Err(StreamError::GivenUp),
            };
            let (why, ending) = match tried {
                Ok(connected) => {
                    self.best = connected.at;
                    let opened = Instant::now();
                    let why = stream::converse(connected, &self.relay).await;
                    if opened.elapsed() >= GOOD_AFTER {
                        self.backoff = Backoff::default();
                    }
                    (why, Ending::Over)
                }
                Err(why) => {
                    let ending = why.ending();
                    (why, ending)
                }
            };
            if matches!(why, StreamError::Ended) {
                return;
            }
            self.say(RelayEvent::Closed { why: why.to_string(), ending }).await;
            let pause = self.backoff.next(&mut self.rng);
            let resting = self.rests.all_until(self.relay.addresses.len());
            let refused = why.wait().or_else(|| Some(resting?.saturating_duration_since(Instant::now())));
            // Longer than it said, so that those who were refused together do not come together. Another network may have another address, so a change of
            // it hurries this as any pause.
            let refused = refused
                .map(|wait| wait.mul_f64(1.0 + f64::from(self.rng.next_u32()) / f64::from(u32::MAX) / 4.0));
            self.pause(refused.map_or(pause, |wait| wait.max(pause))).await;
        }
    }

    async fn say(&self, event: RelayEvent) {
        // The event loop is gone only when the daemon ends, which ends this task as well.
        let _ = self.relay.events.send((self.relay.no, event)).await;
    }

    /// Waits for `pause`, or less when the network changed or nothing is wanted any more.
    async fn pause(&mut self, pause: Duration) {
        let mut until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.hurry.notified() => {
                    self.rests.clear();
                    until = until.min(Instant::now() + HURRIED_PAUSE);
                }
                () = forbidden(self.wishes.clone()) => return,
            }
        }
    }

    /// Waits until a try is allowed; `false` to end.
    async fn may_try(&mut self) -> bool {
        loop {
            let wish = *self.wishes.borrow_and_update();
            if wish.is_ended {
                return false;
            }
            let Some(until) = wish.away_until.filter(|until| *until > Instant::now()) else { return true };
            // A relay that named a time is not to be hurried.
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                changed = self.wishes.changed() => if changed.is_err() { return false },
            }
        }
    }
}

/// Resolves once a connection is not wanted now.
async fn forbidden(mut wishes: watch::Receiver<Wish>) {
    let is_forbidden =
        |wish: &Wish| wish.is_ended || wish.away_until.is_some_and(|until| until > Instant::now());
    // An error means that the handle is gone, and with it whoever wanted a connection.
    let _ = wishes.wait_for(is_forbidden).await;
}
