//! Where the connections meet: the core behind a lock, and a port per connection.
//!
//! The lock is held for one fact and its outputs, never across a wait, and not at all to forward a message: each port has
//! its own routes, and each route leads straight to the port of the other end.
//!
//! Back-pressure: when the queue of the other end is crowded, the sender is not read for a moment ([`Limits::back_pressure`])
//! rather than its data dropped. An end that does not catch up in that time is slow until it has, or for [`SLOW_FOR`]: its
//! senders no longer wait for it, so that one reader who stands still costs its senders' other peers one short pause every
//! two seconds.

use crate::core::auth::{Refusal, Registration, Token};
use crate::core::forward::{Item, PairMeter, Queues};
use crate::core::limits::Limits;
use crate::core::matchmaking::PairCounts;
use crate::core::relay::{Counters, Terms};
use crate::core::{ConnId, Output, Relay};
use crate::metrics::Metrics;
use crate::random::SystemRng;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::ids::ChannelId;
use shadowmesh_proto::wire::relay::Control;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

/// A mutex whose holder cannot panic half-way: what it guards stays usable even if somebody did.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long senders do not wait for a client that did not catch up: with pauses of 10 ms that is half a percent of the time.
const SLOW_FOR: Duration = Duration::from_secs(2);

/// Where messages for one connection are left, and where its own go.
#[derive(Debug)]
pub(super) struct Port {
    inbox: Mutex<Inbox>,
    routes: Mutex<HashMap<ChannelId, Route>>,
    waker: AtomicWaker,
    /// Set once: write what is queued, then close.
    closing: AtomicBool,
    /// Set once: the client does not read even its control messages.
    stuck: AtomicBool,
    /// The port its stream came to, at our end.
    local_port: u16,
}

#[derive(Debug)]
struct Inbox {
    queues: Queues,
    /// Senders that are not read until there is room here.
    paused: Vec<Waker>,
    /// Until then nobody waits for this client.
    slow_until: Option<Instant>,
}

impl Inbox {
    fn is_slow(&self, now: Instant) -> bool {
        self.slow_until.is_some_and(|until| until > now)
    }
}

#[derive(Debug)]
struct Route {
    to: Arc<Port>,
    meter: Arc<PairMeter>,
}

impl Port {
    pub(super) fn new(limits: &Limits, local_port: u16) -> Self {
        Self {
            inbox: Mutex::new(Inbox {
                queues: Queues::new(limits.queue_control, limits.queue_bytes),
                paused: Vec::new(),
                slow_until: None,
            }),
            routes: Mutex::new(HashMap::new()),
            waker: AtomicWaker::new(),
            closing: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            local_port,
        }
    }

    /// Whom to wake when something is left here.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// The next thing to write.
    pub(super) fn pop(&self) -> Option<Item> {
        let mut inbox = lock(&self.inbox);
        let item = inbox.queues.pop();
        if inbox.queues.has_room() {
            // It has caught up.
            inbox.slow_until = None;
            let paused = std::mem::take(&mut inbox.paused);
            drop(inbox);
            paused.into_iter().for_each(Waker::wake);
        }
        item
    }

    /// Gives memory back: nothing has come for a while.
    pub(super) fn shrink(&self) {
        lock(&self.inbox).queues.shrink();
    }

    /// Whether a sender need not wait for this client any more; else it is woken when that may have changed.
    pub(super) fn is_ready(&self, waker: &Waker, now: Instant) -> bool {
        let mut inbox = lock(&self.inbox);
        if inbox.queues.has_room() || inbox.is_slow(now) || self.is_closing() {
            return true;
        }
        if !inbox.paused.iter().any(|paused| paused.will_wake(waker)) {
            inbox.paused.push(waker.clone());
        }
        false
    }

    /// A sender has waited long enough.
    pub(super) fn give_up_waiting(&self, now: Instant) {
        let mut inbox = lock(&self.inbox);
        inbox.slow_until = Some(now + SLOW_FOR);
        let paused = std::mem::take(&mut inbox.paused);
        drop(inbox);
        paused.into_iter().for_each(Waker::wake);
    }

    /// Whether the connection is to close once its queue is written.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Whether the client let its control messages pile up.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire)
    }

    /// Passes `message`, a checked FORWARD for `channel`, on to the other end; gives that end when it is so crowded that this
    /// one should pause.
    pub(super) fn forward(
        &self,
        channel: ChannelId,
        message: Bytes,
        now: Instant,
        metrics: &Metrics,
    ) -> Option<Arc<Self>> {
        let bytes = u64::try_from(message.len()).unwrap_or(u64::MAX);
        // Ours may hold while the other end's inbox is taken; nothing takes the two in the other order.
        let routes = lock(&self.routes);
        let Some(Route { to, meter }) = routes.get(&channel) else {
            metrics.dropped.unknown_channel.add_one();
            return None;
        };
        meter.count(bytes);
        metrics.forwarded.messages.add_one();
        metrics.forwarded.bytes.add(bytes);
        let mut inbox = lock(&to.inbox);
        let displaced = inbox.queues.push_data(message);
        let pause = inbox.queues.is_crowded() && !inbox.is_slow(now);
        drop(inbox);
        if displaced.packets > 0 {
            metrics.dropped.queue_full.add(displaced.packets);
        }
        to.waker.wake();
        pause.then(|| Arc::clone(to))
    }

    /// Leaves a body.
    pub(super) fn send(&self, body: Control) {
        if lock(&self.inbox).queues.push_control(body).is_err() {
            self.stuck.store(true, Ordering::Release);
        }
        self.waker.wake();
    }

    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// Intervals the server keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// For WebSocket, link handshake and REGISTER together (protocol §3.1).
    pub(crate) handshake: Duration,
    /// Without one byte written to a client for which data waits.
    pub(crate) write: Duration,
    /// Without a message from a client before it is pinged.
    pub(crate) ping: Duration,
    /// Without a message from a client before it is given up.
    pub(crate) silence: Duration,
}

/// What a connection needs to know of the settings in force.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) limits: Limits,
    pub(super) patience: Patience,
}

/// The whole relay at one moment, for `status`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Census {
    pub(crate) clients: usize,
    pub(crate) networks: usize,
    pub(crate) pairs: PairCounts,
    pub(crate) counters: Counters,
}

/// See the module page.
#[derive(Debug)]
pub(crate) struct Hub {
    secret: NodeSecret,
    metrics: Metrics,
    rules: Mutex<Arc<Rules>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    relay: Relay,
    ports: HashMap<ConnId, Arc<Port>>,
}

impl Hub {
    pub(crate) fn new(secret: NodeSecret, limits: Limits, terms: Terms, patience: Patience) -> Self {
        let relay = Relay::new(limits.clone(), terms);
        Self {
            secret,
            metrics: Metrics::default(),
            rules: Mutex::new(Arc::new(Rules { limits, patience })),
            state: Mutex::new(State { relay, ports: HashMap::new() }),
        }
    }

    pub(super) const fn secret(&self) -> &NodeSecret {
        &self.secret
    }

    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&lock(&self.rules))
    }

    /// New settings, for new connections and introductions.
    pub(crate) fn reconfigure(&self, limits: Limits, terms: Terms, patience: Patience) {
        *lock(&self.rules) = Arc::new(Rules { limits: limits.clone(), patience });
        lock(&self.state).relay.reconfigure(limits, terms);
    }

    pub(super) fn register(
        &self,
        conn: ConnId,
        port: &Arc<Port>,
        registration: Registration,
    ) -> Result<(), Refusal> {
        let mut state = lock(&self.state);
        state.ports.insert(conn, Arc::clone(port));
        let result = state.relay.handle_register(Instant::now(), conn, registration, &mut SystemRng);
        if result.is_err() {
            state.ports.remove(&conn);
        }
        state.carry_out();
        result
    }

    pub(super) fn control(&self, conn: ConnId, body: Control) -> Result<(), Refusal> {
        let mut state = lock(&self.state);
        let result = state.relay.handle_control(Instant::now(), conn, body, &mut SystemRng);
        state.carry_out();
        result
    }

    pub(super) fn closed(&self, conn: ConnId) {
        let mut state = lock(&self.state);
        state.relay.handle_closed(conn);
        state.carry_out();
        if let Some(port) = state.ports.remove(&conn) {
            // Routes hold the ports they lead to: a cycle until here.
            lock(&port.routes).clear();
        }
    }

    /// A STUN request with `token` came from `from` to our `port`; whether to answer.
    pub(super) fn stun(&self, token: &Token, from: SocketAddr, port: u16) -> bool {
        let mut state = lock(&self.state);
        let State { relay, ports } = &mut *state;
        let answer = relay.handle_stun(token, from, |conn| {
            ports.get(&conn).is_some_and(|client| client.local_port == port)
        });
        state.carry_out();
        answer
    }

    pub(super) fn drain(&self, within: Duration) {
        let mut state = lock(&self.state);
        state.relay.handle_drain(within);
        state.carry_out();
    }

    /// Asks every registered connection to close once its queue is written.
    pub(super) fn close_all(&self) {
        for port in lock(&self.state).ports.values() {
            port.close();
        }
    }

    pub(crate) fn census(&self) -> Census {
        let state = lock(&self.state);
        let (clients, networks) = state.relay.population();
        Census { clients, networks, pairs: state.relay.pairs(), counters: state.relay.counters() }
    }
}

impl State {
    fn carry_out(&mut self) {
        while let Some(output) = self.relay.poll_output() {
            match output {
                Output::Send { to, body } => {
                    if let Some(port) = self.ports.get(&to) {
                        port.send(body);
                    }
                }
                Output::Route { conn, channel, to, meter } => {
                    if let (Some(port), Some(to)) = (self.ports.get(&conn), self.ports.get(&to)) {
                        let to = Arc::clone(to);
                        lock(&port.routes).insert(channel, Route { to, meter });
                    }
                }
                Output::Unroute { conn, channel } => {
                    if let Some(port) = self.ports.get(&conn) {
                        lock(&port.routes).remove(&channel);
                    }
                }
                Output::Close { conn } => {
                    if let Some(port) = self.ports.get(&conn) {
                        port.close();
                    }
                }
            }
        }
    }
}
