//! Where the connections meet: the core behind a lock, and a [`Port`] per connection.
//!
//! The lock is held for one fact and its outputs, never across a wait, and not at all to forward a message: each port has
//! its own routes, and each route leads straight to the port of the other end.

use crate::config::Prefixes;
use crate::core::auth::{Refusal, Registration, Token};
use crate::core::limits::Limits;
use crate::core::matchmaking::PairCounts;
use crate::core::relay::{Counters, Terms};
use crate::core::{ConnId, Output, Relay};
use crate::metrics::Metrics;
use crate::random::SystemRng;
use crate::server::port::{Port, lock};
use crate::server::proxied::ProxyError;
use crate::server::relayed::{Bindings, Door};
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::version::Versions;
use shadowmesh_proto::wire::relay::Control;
use shadowmesh_proto::wire::relayed::{Nonce, RelayedHeader};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Between two words about the same fault of somebody else.
const WARN_AGAIN: Duration = Duration::from_secs(60);

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
    /// Who is believed when it says whose stream it passes on.
    pub(super) trusted: Prefixes,
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
    versions: Versions,
    metrics: Metrics,
    rules: Mutex<Arc<Rules>>,
    bindings: Bindings,
    /// When people were last told of a proxy that speaks what nobody understands.
    warned: Mutex<Option<Instant>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    relay: Relay,
    ports: HashMap<ConnId, Arc<Port>>,
}

impl Hub {
    pub(super) fn new(secret: NodeSecret, rules: Rules, terms: Terms) -> Self {
        let versions = terms.versions;
        let relay = Relay::new(Instant::now(), rules.limits.clone(), terms, &mut SystemRng);
        Self {
            secret,
            versions,
            metrics: Metrics::default(),
            rules: Mutex::new(Arc::new(rules)),
            bindings: Bindings::default(),
            warned: Mutex::new(None),
            state: Mutex::new(State { relay, ports: HashMap::new() }),
        }
    }

    pub(super) const fn secret(&self) -> &NodeSecret {
        &self.secret
    }

    /// Which versions of the protocol links are offered; no settings change them.
    pub(super) const fn versions(&self) -> Versions {
        self.versions
    }

    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&lock(&self.rules))
    }

    /// Tells people, once a while: a proxy that is set up wrongly is so for each stream.
    pub(super) fn warn_of_proxy(&self, error: &ProxyError) {
        let now = Instant::now();
        let mut warned = lock(&self.warned);
        if warned.is_none_or(|last| now.duration_since(last) >= WARN_AGAIN) {
            *warned = Some(now);
            tracing::warn!("{error}");
        }
    }

    /// New settings, for new connections and introductions.
    pub(super) fn reconfigure(&self, rules: Rules, terms: Terms) {
        let limits = rules.limits.clone();
        *lock(&self.rules) = Arc::new(rules);
        lock(&self.state).relay.reconfigure(limits, terms);
    }

    pub(super) fn register(
        &self,
        conn: ConnId,
        port: &Arc<Port>,
        registration: Registration,
    ) -> Result<(), Refusal> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.ports.insert(conn, Arc::clone(port));
        let result = state.relay.handle_register(now, conn, registration, &mut SystemRng);
        if result.is_err() {
            state.ports.remove(&conn);
        }
        self.carry_out(now, &mut state);
        result
    }

    pub(super) fn control(&self, now: Instant, conn: ConnId, body: Control) -> Result<(), Refusal> {
        let mut state = lock(&self.state);
        let result = state.relay.handle_control(now, conn, body, &mut SystemRng);
        self.carry_out(now, &mut state);
        result
    }

    pub(super) fn closed(&self, conn: ConnId) {
        let mut state = lock(&self.state);
        state.relay.handle_closed(conn);
        self.carry_out(Instant::now(), &mut state);
        if let Some(port) = state.ports.remove(&conn) {
            port.clear_routes();
            self.bindings.unbind(&port);
        }
    }

    /// A STUN request with `token` came from `from` through `door`: what to answer, if anything.
    pub(super) fn stun(
        &self,
        now: Instant,
        token: &Token,
        from: SocketAddr,
        door: &Door,
    ) -> Option<Option<Nonce>> {
        let mut state = lock(&self.state);
        let State { relay, ports } = &mut *state;
        let decides = |conn| ports.get(&conn).is_some_and(|client| client.entrance().is_at(door));
        let answer = relay.handle_stun(now, token, from, decides)?;
        if answer.nonce.is_some()
            && let Some(port) = ports.get(&answer.conn)
        {
            port.on_stun(now, from);
        }
        self.carry_out(now, &mut state);
        Some(answer.nonce)
    }

    /// Passes on `datagrams` of `stride` bytes each, all of them with `header`, that came from `from`.
    pub(super) fn forward_datagrams(
        &self,
        now: Instant,
        from: SocketAddr,
        header: RelayedHeader,
        datagrams: &mut [u8],
        stride: usize,
    ) {
        let Metrics { dropped, forwarded, .. } = &self.metrics;
        let count = u64::try_from(datagrams.len().div_ceil(stride)).unwrap_or(u64::MAX);
        let bytes = u64::try_from(datagrams.len()).unwrap_or(u64::MAX);
        let Some(sender) = self.bindings.at(from, header.tag).filter(|sender| sender.is_proven(now)) else {
            return dropped.datagrams_unbound.add(count);
        };
        if !sender.port.may_send(now, datagrams.len()) {
            return dropped.datagrams_rate.add(count);
        }
        let Some(to) = sender.port.way(header.channel, bytes) else {
            return dropped.unknown_channel.add(count);
        };
        sender.on_heard(now);
        let Some(receiver) = to.binding().filter(|receiver| receiver.is_alive(now)) else {
            return dropped.datagrams_no_receiver.add(count);
        };
        let sent = receiver.pass_on(datagrams, stride);
        let left = u64::try_from(sent.div_ceil(stride)).unwrap_or(u64::MAX);
        forwarded.datagrams.add(left);
        forwarded.bytes.add(u64::try_from(sent).unwrap_or(u64::MAX));
        dropped.datagrams_full.add(count.saturating_sub(left));
    }

    pub(super) fn drain(&self, within: Duration) {
        let mut state = lock(&self.state);
        state.relay.handle_drain(within);
        self.carry_out(Instant::now(), &mut state);
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

impl Hub {
    fn carry_out(&self, now: Instant, State { relay, ports }: &mut State) {
        while let Some(output) = relay.poll_output() {
            match output {
                Output::Send { to, body } => {
                    if let Some(port) = ports.get(&to) {
                        port.send(body);
                    }
                }
                Output::Route { conn, channel, to, meter } => {
                    if let (Some(port), Some(to)) = (ports.get(&conn), ports.get(&to)) {
                        port.add_route(channel, Arc::clone(to), meter);
                    }
                }
                Output::Bind { conn, udp, tag } => {
                    if let Some(port) = ports.get(&conn) {
                        self.bindings.bind(now, port, udp, tag);
                    }
                }
                Output::Unroute { conn, channel } => {
                    if let Some(port) = ports.get(&conn) {
                        port.remove_route(channel);
                    }
                }
                Output::Close { conn } => {
                    if let Some(port) = ports.get(&conn) {
                        port.close();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
