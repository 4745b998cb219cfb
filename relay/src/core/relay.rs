//! The machine: facts in, [`Output`]s out.
//!
//! The loop: call a `handle_*` for each fact, then [`Relay::poll_output`] until it gives `None`, and carry out each output in
//! order. Nothing happens by itself: the relay has no timers of its own (idle connections are the server's to notice).

use crate::core::ConnId;
use crate::core::auth::{Refusal, Registration, Token, Tokens};
use crate::core::forward::PairMeter;
use crate::core::limits::Limits;
use crate::core::matchmaking::{PairCounts, Pairs};
use crate::core::nonce::Nonces;
use crate::core::registry::{Client, Registry};
use shadowmesh_proto::ids::{ChannelId, NodeId};
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::version::{UNSAID, Versions};
use shadowmesh_proto::wire::relay::{Control, GoneReason};
use shadowmesh_proto::wire::relayed::{BindingTag, Nonce};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the relay tells its clients about itself and proposes to pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// UDP ports that answer STUN.
    pub stun_ports: Vec<u16>,
    /// Idle heartbeat, of the link and proposed to pairs (protocol §3.7).
    pub heartbeat: Duration,
    /// Key rotation proposed to pairs; clients take it only to shorten theirs (protocol §3.5).
    pub rotation: Duration,
    /// Largest packet proposed to pairs, bytes.
    pub mtu: u16,
    /// Whether pairs may try a direct link.
    pub direct: bool,
    /// Random per relay start.
    pub instance: u64,
    /// Versions of the protocol that its links speak.
    pub versions: Versions,
}

/// What the server is to do.
#[derive(Debug, Clone)]
pub enum Output {
    /// Queue a body for a client.
    Send {
        /// Its connection.
        to: ConnId,
        /// The body.
        body: Control,
    },
    /// From now on FORWARD on `channel` from `conn` goes to `to`.
    Route {
        /// Whose messages.
        conn: ConnId,
        /// On which channel.
        channel: ChannelId,
        /// Where they go.
        to: ConnId,
        /// Counts them.
        meter: Arc<PairMeter>,
    },
    /// The client showed that it receives at this address: from now on its datagrams are forwarded from and to there with this tag,
    /// and nowhere else. Said each time that it shows it.
    Bind {
        /// Whose.
        conn: ConnId,
        /// Where.
        udp: SocketAddr,
        /// In each datagram.
        tag: BindingTag,
    },
    /// FORWARD on `channel` from `conn` goes nowhere any more.
    Unroute {
        /// Whose messages.
        conn: ConnId,
        /// On which channel.
        channel: ChannelId,
    },
    /// Close the connection once what was sent to it is written. It is forgotten already.
    Close {
        /// Which.
        conn: ConnId,
    },
}

/// The answer to a STUN request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StunAnswer {
    /// Whose request it was.
    pub conn: ConnId,
    /// Goes with it where that address can be bound.
    pub nonce: Option<Nonce>,
}

/// Counters of the machine, from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Registrations accepted.
    pub registrations: u64,
    /// Registrations refused.
    pub refusals: u64,
    /// Connections that gave way to a newer one of the same key.
    pub replaced: u64,
    /// Pairs introduced.
    pub introductions: u64,
    /// Pairs that both ends confirmed.
    pub established: u64,
    /// Clients that had datagrams bound to their address: once for each address, however often it is proven again.
    pub bindings: u64,
    /// Control bodies about a channel that their sender is no end of, or a nonce that is not its own (or not any more).
    pub strays: u64,
}

/// The relay without its sockets.
#[derive(Debug)]
pub struct Relay {
    limits: Limits,
    terms: Terms,
    registry: Registry,
    pairs: Pairs,
    tokens: Tokens,
    nonces: Nonces,
    counters: Counters,
    outputs: VecDeque<Output>,
}

impl Relay {
    /// A relay with nobody in it.
    pub fn new(now: Instant, limits: Limits, terms: Terms, rng: &mut dyn Rng) -> Self {
        Self {
            limits,
            terms,
            registry: Registry::default(),
            pairs: Pairs::default(),
            tokens: Tokens::default(),
            nonces: Nonces::new(now, rng),
            counters: Counters::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes new limits and terms: they apply to what happens from now on.
    pub fn reconfigure(&mut self, limits: Limits, terms: Terms) {
        self.limits = limits;
        self.terms = terms;
    }

    /// A connection proved a registration: it is told REGISTERED and introduced to whoever wished for it.
    ///
    /// # Errors
    /// [`Refusal`]: to be told to the connection, which is then closed. Nothing changed.
    pub fn handle_register(
        &mut self,
        now: Instant,
        conn: ConnId,
        registration: Registration,
        rng: &mut dyn Rng,
    ) -> Result<(), Refusal> {
        let result = self.register(now, conn, registration, rng);
        match result {
            Ok(()) => self.counters.registrations += 1,
            Err(_) => self.counters.refusals += 1,
        }
        result
    }

    /// A registered client sent `body`.
    ///
    /// # Errors
    /// [`Refusal`]: to be told to the connection, which is then closed (and reported by [`Self::handle_closed`]).
    pub fn handle_control(
        &mut self,
        now: Instant,
        conn: ConnId,
        body: Control,
        rng: &mut dyn Rng,
    ) -> Result<(), Refusal> {
        let Some(client) = self.registry.client_mut(conn) else {
            // Replaced while this was under way: its close is on its way too.
            return Ok(());
        };
        if !client.control.take(now, 1.0) {
            return Err(Refusal::TooChatty);
        }
        match body {
            Control::Connect { peer: None } => self.connect_everybody(conn),
            Control::Connect { peer: Some(peer) } => return self.connect(conn, peer),
            Control::Confirmed { channel } => self.confirm(conn, channel, rng),
            Control::Release { channel } => self.release(conn, channel),
            Control::Bind { nonce, udp } => self.bind(now, conn, nonce, udp, rng),
            Control::Ping { id } => self.send(conn, Control::Pong { id }),
            Control::Pong { .. } => {}
            Control::Leave => {
                self.depart(conn, GoneReason::Left);
                self.outputs.push_back(Output::Close { conn });
            }
            Control::Register { .. } => return Err(Refusal::OutOfPlace("a second REGISTER")),
            Control::Registered { .. }
            | Control::Peer { .. }
            | Control::Established { .. }
            | Control::PeerGone { .. }
            | Control::Drain { .. }
            | Control::Error { .. }
            | Control::Observed { .. }
            | Control::Bound { .. } => return Err(Refusal::OutOfPlace("only relays send this")),
        }
        Ok(())
    }

    /// A STUN request that carried `token` came from `from`; the answer, if it deserves one.
    ///
    /// `decides`: it came to where the client's stream came to. A NAT may show another port to each address of ours;
    /// if all of them counted, the observed address would flap. The others count only while nothing is known.
    ///
    /// The first address is believed, for a direct link is wanted soon. Another one later has to be bound first
    /// ([`Control::Bind`]): the token passes in clear, and whoever saw it could otherwise move the client. So after the first one
    /// a request changes nothing here; what it takes to bind its source is in the answer alone.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        token: &Token,
        from: SocketAddr,
        decides: impl FnOnce(ConnId) -> bool,
    ) -> Option<StunAnswer> {
        let conn = self.tokens.owner(token)?;
        let client = self.registry.client_mut(conn)?;
        if from.is_ipv4() != client.registration.observed_tcp.is_ipv4() {
            // Asked at the address of the other family, for a candidate and nothing else (protocol §7.4).
            return Some(StunAnswer { conn, nonce: None });
        }
        if client.observed.is_none() {
            client.observed = Some(from);
            self.tell_observed(conn, from);
        }
        let nonce = decides(conn).then(|| self.nonces.at(now, conn, from));
        Some(StunAnswer { conn, nonce })
    }

    /// The client is at another UDP address: tells it, and every peer it is established with.
    fn tell_observed(&mut self, conn: ConnId, udp: SocketAddr) {
        let Some(client) = self.registry.client(conn) else { return };
        let channels: Vec<_> = client.met.values().copied().collect();
        self.send(conn, Control::Observed { udp });
        for channel in channels {
            let other = self.pairs.of(channel, conn).and_then(|pair| {
                let (_, other) = pair.seen_from(conn)?;
                pair.session.map(|_| other.conn)
            });
            if let Some(other) = other {
                self.send_established(channel, other);
            }
        }
    }

    /// A connection is closed, whether it was registered or not.
    pub fn handle_closed(&mut self, conn: ConnId) {
        self.depart(conn, GoneReason::Lost);
    }

    /// The relay goes away: tells every client.
    pub fn handle_drain(&mut self, within: Duration) {
        let within_ms = millis(within);
        let conns: Vec<_> = self.registry.conns().collect();
        for conn in conns {
            self.send(conn, Control::Drain { within_ms });
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > 1024 {
            // A join into a large network queues thousands of outputs; the memory is not needed until the next.
            self.outputs = VecDeque::new();
        }
        output
    }

    /// Clients and networks here now.
    pub fn population(&self) -> (usize, usize) {
        (self.registry.len(), self.registry.networks())
    }

    /// Pairs by what carries their data.
    pub fn pairs(&self) -> PairCounts {
        self.pairs.count()
    }

    /// What happened so far.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The limits in force.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The terms in force.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    fn register(
        &mut self,
        now: Instant,
        conn: ConnId,
        registration: Registration,
        rng: &mut dyn Rng,
    ) -> Result<(), Refusal> {
        let Registration { node, network, .. } = registration;
        if self.registry.client(conn).is_some() {
            return Err(Refusal::OutOfPlace("a second REGISTER"));
        }
        let old = self.registry.find(&network, &node);
        let mut replacements = None;
        if let Some(old) = old {
            if let Some(client) = self.registry.client_mut(old) {
                if !client.replacements.take(now, 1.0) {
                    return Err(Refusal::Contested(client.replacements.next_in()));
                }
                replacements = Some(client.replacements);
            }
            self.replace(old);
        } else if self.registry.members(&network) >= self.limits.members_per_network {
            return Err(Refusal::NetworkFull);
        }
        if let Some(wait) = self.registry.charge_join(now, &network) {
            return Err(Refusal::NetworkBusy(wait));
        }
        let token = self.tokens.mint(conn, rng);
        let mut client = Client::new(now, registration, token, &self.limits);
        if let Some(replacements) = replacements {
            client.replacements = replacements;
        }
        self.registry.insert(now, &self.limits, conn, client);
        self.send(
            conn,
            Control::Registered {
                observed_tcp: registration.observed_tcp,
                stun_token: token,
                stun_ports: self.terms.stun_ports.clone(),
                heartbeat_ms: millis(self.terms.heartbeat),
                instance: self.terms.instance,
                direct: Some(self.terms.direct),
                versions: self.terms.versions.said(),
                version: Some(registration.version).filter(|version| *version != UNSAID),
            },
        );
        for (other, other_conn) in self.registry.others(&network, &node) {
            let wished = self.registry.client(other_conn).is_some_and(|client| client.wishes.include(&node));
            if wished {
                self.introduce((conn, node), (other_conn, other));
            }
        }
        Ok(())
    }

    /// Newest wins (protocol §3.4).
    fn replace(&mut self, old: ConnId) {
        self.counters.replaced += 1;
        self.send(old, Refusal::Replaced.to_body());
        self.depart(old, GoneReason::Replaced);
        self.outputs.push_back(Output::Close { conn: old });
    }

    fn connect_everybody(&mut self, conn: ConnId) {
        let Some(client) = self.registry.client_mut(conn) else {
            return;
        };
        // Who came later was introduced on arrival; to look again for each repetition would cost the relay more than the client.
        if !client.wishes.add_everybody() {
            return;
        }
        let Registration { node, network, .. } = client.registration;
        for (other, other_conn) in self.registry.others(&network, &node) {
            self.introduce((conn, node), (other_conn, other));
        }
    }

    fn connect(&mut self, conn: ConnId, peer: NodeId) -> Result<(), Refusal> {
        let limit = self.limits.wishes_per_client;
        let Some(client) = self.registry.client_mut(conn) else {
            return Ok(());
        };
        let Registration { node, network, .. } = client.registration;
        if peer == node {
            return Ok(());
        }
        if !client.wishes.add(peer, limit) {
            return Err(Refusal::TooManyWishes);
        }
        if let Some(other) = self.registry.find(&network, &peer) {
            self.introduce((conn, node), (other, peer));
        }
        Ok(())
    }

    /// One channel for the pair, PEER to both (protocol §3.5). Does nothing when they have met.
    fn introduce(&mut self, a: (ConnId, NodeId), b: (ConnId, NodeId)) {
        let instance_of =
            |registry: &Registry, conn| registry.client(conn).map(|client| client.registration.instance);
        let (Some(instance_a), Some(instance_b)) =
            (instance_of(&self.registry, a.0), instance_of(&self.registry, b.0))
        else {
            return;
        };
        if self.registry.client(a.0).is_some_and(|client| client.met.contains_key(&b.1)) {
            return;
        }
        let (channel, meter) = self.pairs.open(a, b);
        self.counters.introductions += 1;
        for ((conn, _), (to, peer), instance) in [(a, b, instance_b), (b, a, instance_a)] {
            if let Some(client) = self.registry.client_mut(conn) {
                client.met.insert(peer, channel);
            }
            // The route first: whoever was told of the channel can use it.
            self.outputs.push_back(Output::Route { conn, channel, to, meter: Arc::clone(&meter) });
            self.send(conn, Control::Peer { peer, channel, instance });
        }
    }

    fn confirm(&mut self, conn: ConnId, channel: ChannelId, rng: &mut dyn Rng) {
        let Some(pair) = self.pairs.of_mut(channel, conn) else {
            self.counters.strays += 1;
            return;
        };
        if !pair.confirm(conn) {
            return;
        }
        let mut session = [0; 16];
        rng.fill(&mut session);
        pair.session = Some(session);
        let Some((_, other)) = pair.seen_from(conn) else {
            return;
        };
        let other = other.conn;
        self.counters.established += 1;
        self.send_established(channel, conn);
        self.send_established(channel, other);
    }

    /// The client received what was sent to `udp`: datagrams are forwarded from and to there (protocol §3.9).
    fn bind(&mut self, now: Instant, conn: ConnId, nonce: Nonce, udp: SocketAddr, rng: &mut dyn Rng) {
        let udp = SocketAddr::new(udp.ip().to_canonical(), udp.port());
        let Some(client) = self.registry.client_mut(conn) else { return };
        if !self.nonces.is_known(now, conn, udp, nonce) {
            self.counters.strays += 1;
            return;
        }
        let is_moved = client.observed != Some(udp);
        if is_moved {
            // Each move is told to every peer: one that flips between two ports would keep the relay busy with nothing else. It
            // is asked for again with the client's next request.
            if !client.moves.take(now, 1.0) {
                return;
            }
            client.observed = Some(udp);
        }
        let still = client.bound.filter(|(known, _)| *known == udp);
        if still.is_none() {
            self.counters.bindings += 1;
        }
        let (_, tag) = *client.bound.insert(still.unwrap_or_else(|| (udp, BindingTag::new(rng.next_u32()))));
        if is_moved {
            self.tell_observed(conn, udp);
        }
        // The binding first: whoever was told of the tag can use it.
        self.outputs.push_back(Output::Bind { conn, udp, tag });
        self.send(conn, Control::Bound { tag: tag.number() });
    }

    /// Tells `to` where the other end of `channel` is. Only ever called for a pair that both ends confirmed.
    fn send_established(&mut self, channel: ChannelId, to: ConnId) {
        let Some((session, peer)) = self.pairs.of(channel, to).and_then(|pair| {
            let (_, other) = pair.seen_from(to)?;
            Some((pair.session?, self.registry.client(other.conn)?))
        }) else {
            return;
        };
        let body = Control::Established {
            channel,
            session,
            mtu: self.terms.mtu,
            heartbeat_ms: millis(self.terms.heartbeat),
            rotation_s: u32::try_from(self.terms.rotation.as_secs()).unwrap_or(u32::MAX),
            // Where nobody knows the port, no connection can be expected.
            peer_tcp: Some(peer.registration.observed_tcp).filter(|address| address.port() != 0),
            peer_udp: peer.observed,
            direct: self.terms.direct,
        };
        self.send(to, body);
    }

    /// Marks the channel dormant and passes the word on, so that the other end knows that nothing more will come this way
    /// unless the direct link fails.
    fn release(&mut self, conn: ConnId, channel: ChannelId) {
        let Some((pair, other)) = self
            .pairs
            .of(channel, conn)
            .and_then(|pair| pair.seen_from(conn).map(|(_, other)| (pair, other.conn)))
        else {
            self.counters.strays += 1;
            return;
        };
        // Said again, it is no news to the other end.
        if pair.meter.release() {
            self.send(other, Control::Release { channel });
        }
    }

    /// Forgets the client behind `conn` and tells everybody it met.
    fn depart(&mut self, conn: ConnId, reason: GoneReason) {
        let Some(client) = self.registry.remove(conn) else {
            return;
        };
        self.tokens.revoke(&client.token);
        let peer = client.registration.node;
        for channel in client.met.into_values() {
            let Some(pair) = self.pairs.close(channel) else {
                continue;
            };
            let Some((_, other)) = pair.seen_from(conn) else {
                continue;
            };
            if let Some(other) = self.registry.client_mut(other.conn) {
                other.met.remove(&peer);
            }
            self.outputs.push_back(Output::Unroute { conn, channel });
            self.outputs.push_back(Output::Unroute { conn: other.conn, channel });
            self.send(other.conn, Control::PeerGone { peer, channel, reason });
        }
    }

    fn send(&mut self, to: ConnId, body: Control) {
        self.outputs.push_back(Output::Send { to, body });
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
