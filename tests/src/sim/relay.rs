//! The relay of a simulated world: the relay's real core, link and queues, with a server of lines around them.
//!
//! It does what `shadowmesh-relay`'s server does with sockets: a link per connection, the core told of every fact and its
//! outputs carried out, FORWARD passed on over the routes, bounded queues before each client that drain as fast as the line
//! takes them; STUN answered, and datagrams forwarded between addresses that were bound. A [`Mood`] makes it a bad relay: it drops,
//! repeats, delays and damages packets, and lies.

use super::dice::Dice;
use super::line::Line;
use super::losses::{Cause, Piece};
use super::net::{Narrow, Place, RELAY_PORTS};
use super::world::LATE;
use bytes::Bytes;
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::ids::{ChannelId, NodeId};
use shadowmesh_proto::link::{ServerInput, ServerLink};
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::version::SPOKEN;
use shadowmesh_proto::wire::relay::{Control, Forward, ForwardBuilder};
use shadowmesh_proto::wire::relayed::{BindingTag, RelayedHeader, retag};
use shadowmesh_proto::wire::stun::{BindingRequest, BindingResponse};
use shadowmesh_relay::core::auth::{Refusal, Registration};
use shadowmesh_relay::core::forward::{Item, PairMeter, Queues};
use shadowmesh_relay::core::limits::Limits;
use shadowmesh_relay::core::relay::Terms;
use shadowmesh_relay::core::{ConnId, Output, Relay};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(45);

/// Bytes of Ethernet, IPv4, TCP with timestamps and WebSocket around a message to a client, if each is sent alone.
const AROUND_MESSAGE: usize = 14 + 20 + 32 + 4;
/// Those of an acknowledgement of what comes, if each message has one of its own.
const ACKNOWLEDGEMENT: usize = 14 + 20 + 32;
/// Those around a datagram.
const AROUND_DATAGRAM: usize = 14 + 20 + 8;

/// What a relay does to the packets that pass, each in per mille of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mood {
    pub(super) drop: u32,
    pub(super) repeat: u32,
    pub(super) delay: u32,
    pub(super) damage: u32,
}

/// A message on its way to a client.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) bytes: Vec<u8>,
    /// A copy of what this client opened before: it must change nothing.
    pub(super) replay: bool,
}

/// A datagram that leaves the relay: where to, its bytes, and which node said it to which, if not the relay itself.
pub(super) type Leaving = (SocketAddr, Vec<u8>, Option<(usize, usize)>);

/// One stream: both directions and the relay's end of it.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) node: usize,
    pub(super) up: Line<Vec<u8>>,
    pub(super) down: Line<Delivery>,
    link: ServerLink,
    queues: Queues,
    /// The packets in them, so that what they drop can be named.
    waiting: BTreeMap<ChannelId, VecDeque<Vec<u8>>>,
    routes: HashMap<ChannelId, (ConnId, Arc<PairMeter>)>,
    key: Option<NodeId>,
    observed_tcp: SocketAddr,
    /// Where its datagrams come from and go to, under which tag.
    binding: Option<(SocketAddr, BindingTag)>,
    heard: Instant,
    /// The client is gone and the relay does not know.
    pub(super) deserted: bool,
}

/// The relay and its connections.
#[derive(Debug)]
pub(super) struct RelayHost {
    secret: NodeSecret,
    core: Relay,
    terms: Terms,
    dice: Dice,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    pub(super) mood: Mood,
    delayed: VecDeque<(Instant, ConnId, Bytes)>,
    next_conn: u64,
    /// Bytes on the way to a client above which the rest waits in its queues.
    window: usize,
    narrow: Narrow,
    /// Data messages that left a queue because newer ones came.
    pub(super) displaced: u64,
    /// Data packets that came, to be forwarded.
    pub(super) forwarded: u64,
    /// Bytes that it sent, as an interface would count them, and as many as could be where TCP puts nothing together.
    pub(super) spent: usize,
    /// Packets that it lost, and why, to be taken.
    pub(super) lost: Vec<(Vec<u8>, Cause)>,
    /// FORWARD messages for a channel that leads nowhere: a move between two connections was under way.
    pub(super) strays: u64,
    limits: Limits,
}

/// What the world is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// The relay closed the connection of this node.
    Closed { node: usize, conn: ConnId },
    /// A client broke the protocol of the stream; nobody here does, so it is a failure of the program.
    BrokenLink { node: usize, why: String },
}

impl RelayHost {
    pub(super) fn new(
        now: Instant,
        secret: NodeSecret,
        terms: Terms,
        limits: Limits,
        window: usize,
        mut dice: Dice,
    ) -> Self {
        Self {
            secret,
            core: Relay::new(now, limits.clone(), terms.clone(), &mut dice),
            terms,
            dice,
            conns: BTreeMap::new(),
            mood: Mood::default(),
            delayed: VecDeque::new(),
            next_conn: 0,
            window,
            narrow: Narrow::NOT,
            displaced: 0,
            forwarded: 0,
            spent: 0,
            lost: vec![],
            strays: 0,
            limits,
        }
    }

    /// Loses everything but its key, as a restart does; gives the nodes that were connected.
    pub(super) fn restart(&mut self, now: Instant) -> Vec<(usize, ConnId)> {
        self.terms.instance = self.dice.next_u64();
        self.core = Relay::new(now, self.limits.clone(), self.terms.clone(), &mut self.dice);
        self.delayed.clear();
        std::mem::take(&mut self.conns)
            .into_iter()
            .filter(|(_, conn)| !conn.deserted)
            .map(|(id, conn)| (conn.node, id))
            .collect()
    }

    /// A client connects.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        node: usize,
        observed_tcp: SocketAddr,
        latency: Duration,
        jitter: Duration,
        rate: Option<u32>,
    ) -> ConnId {
        self.next_conn += 1;
        let id = ConnId(self.next_conn);
        let mut up = Line::new(now, latency, jitter).with_rate(rate);
        let mut down = Line::new(now, latency, jitter).with_rate(rate);
        up.narrow(self.narrow.from(Place::Node(node)));
        down.narrow(self.narrow.from(Place::Relay));
        let conn = Conn {
            node,
            up,
            down,
            link: ServerLink::new(SPOKEN),
            queues: Queues::new(self.limits.queue_control, self.limits.queue_bytes),
            waiting: BTreeMap::new(),
            routes: HashMap::new(),
            key: None,
            observed_tcp,
            binding: None,
            heard: now,
            deserted: false,
        };
        self.conns.insert(id, conn);
        id
    }

    /// See [`Line::narrow`]; all of its lines, and those that come.
    pub(super) fn narrow(&mut self, narrow: Narrow) {
        self.narrow = narrow;
        for conn in self.conns.values_mut() {
            conn.up.narrow(narrow.from(Place::Node(conn.node)));
            conn.down.narrow(narrow.from(Place::Relay));
        }
    }

    /// A message of a client arrived.
    pub(super) fn handle(&mut self, now: Instant, id: ConnId, message: &[u8]) -> Vec<Fact> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return vec![];
        };
        conn.heard = now;
        self.spent += ACKNOWLEDGEMENT;
        let node = conn.node;
        let input = match conn.link.handle(&self.secret, message, &mut self.dice) {
            Ok(input) => input,
            Err(error) => return vec![Fact::BrokenLink { node, why: error.to_string() }],
        };
        let refused = match input {
            ServerInput::Send(reply) => {
                self.spent += AROUND_MESSAGE + reply.len();
                conn.down.send(now, &mut self.dice, reply.len(), Delivery { bytes: reply, replay: false });
                Ok(())
            }
            ServerInput::Register { node: key, network, instance, version, .. } => {
                conn.key = Some(key);
                let observed_tcp = conn.observed_tcp;
                let registration = Registration { node: key, network, instance, observed_tcp, version };
                self.core.handle_register(now, id, registration, &mut self.dice)
            }
            ServerInput::Control(body) => self.core.handle_control(now, id, body, &mut self.dice),
            ServerInput::Forward => {
                self.forward(now, id, message);
                Ok(())
            }
            ServerInput::Ignored => Ok(()),
        };
        let mut facts = match refused {
            Ok(()) => vec![],
            Err(refusal) => self.refuse(now, id, &refusal),
        };
        facts.extend(self.carry_out(now));
        facts
    }

    /// A datagram arrived from `from` at `port`: what leaves for it, where to, and which node said it to which (none: the relay itself).
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        port: u16,
        datagram: &[u8],
    ) -> Option<Leaving> {
        let leaving = self.answer_datagram(now, from, port, datagram)?;
        self.spent += AROUND_DATAGRAM + leaving.1.len();
        Some(leaving)
    }

    fn answer_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        port: u16,
        datagram: &[u8],
    ) -> Option<Leaving> {
        if let Ok(header) = RelayedHeader::parse(datagram) {
            self.forwarded += u64::from(Piece::of(datagram).is_some());
            return self.forward_datagram(from, header, datagram);
        }
        let request = BindingRequest::parse(datagram).ok()?;
        // Its streams all come to the first of its ports.
        let answer = self.core.handle_stun(now, &request.token, from, |_| port == RELAY_PORTS[0])?;
        let response =
            BindingResponse { transaction: request.transaction, mapped: from, nonce: answer.nonce };
        // Bodies only; nothing is closed by it.
        let facts = self.carry_out(now);
        debug_assert!(facts.is_empty());
        Some((from, response.encode(), None))
    }

    fn forward_datagram(
        &mut self,
        from: SocketAddr,
        header: RelayedHeader,
        datagram: &[u8],
    ) -> Option<Leaving> {
        let sender = self.conns.values().find(|conn| conn.binding == Some((from, header.tag)))?;
        let (to, meter) = sender.routes.get(&header.channel)?;
        meter.count(datagram.len() as u64);
        let receiver = self.conns.get(to)?;
        let (address, tag) = receiver.binding?;
        let way = (sender.node, receiver.node);
        let mut datagram = datagram.to_vec();
        let stride = datagram.len();
        retag(&mut datagram, stride, tag);
        Some((address, datagram, Some(way)))
    }

    /// The relay learns that a connection is gone.
    pub(super) fn close(&mut self, now: Instant, id: ConnId) -> Vec<Fact> {
        self.conns.remove(&id);
        self.core.handle_closed(id);
        self.carry_out(now)
    }

    /// Moves what waits in queues onto the lines, as far as these take it.
    pub(super) fn pump(&mut self, now: Instant) {
        for conn in self.conns.values_mut() {
            while conn.down.bytes() < self.window {
                let (item, displaced) = conn.queues.pop(now, false, true);
                self.displaced += displaced.packets;
                let bytes = match item {
                    Some(Item::Control(body)) => match conn.link.seal(&body) {
                        Ok(message) => message,
                        Err(_) => continue,
                    },
                    Some(Item::Data(message)) => {
                        conn.name_lost_before(&message, &mut self.lost);
                        message.to_vec()
                    }
                    None => {
                        let left = std::mem::take(&mut conn.waiting).into_values().flatten();
                        self.lost.extend(left.map(|packet| (packet, Cause::Displaced)));
                        break;
                    }
                };
                self.spent += AROUND_MESSAGE + bytes.len();
                conn.down.send(now, &mut self.dice, bytes.len(), Delivery { bytes, replay: false });
            }
        }
    }

    /// When it has to act by itself.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let silent = self.conns.values().map(|conn| conn.heard + SILENCE).min();
        let delayed = self.delayed.iter().map(|(at, ..)| *at).min();
        silent.into_iter().chain(delayed).min()
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Fact> {
        let silent: Vec<_> =
            self.conns.iter().filter(|(_, conn)| conn.heard + SILENCE <= now).map(|(id, _)| *id).collect();
        let mut facts = vec![];
        for id in silent {
            if let Some(conn) = self.conns.get(&id).filter(|conn| !conn.deserted) {
                facts.push(Fact::Closed { node: conn.node, conn: id });
            }
            facts.extend(self.close(now, id));
        }
        for (at, to, message) in std::mem::take(&mut self.delayed) {
            if at <= now {
                self.queue(now, to, &message);
            } else {
                self.delayed.push_back((at, to, message));
            }
        }
        facts
    }

    /// Puts a copy of packets that the client had before into its stream.
    pub(super) fn inject(&mut self, now: Instant, id: ConnId, bytes: Vec<u8>) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.down.send(now, &mut self.dice, bytes.len(), Delivery { bytes, replay: true });
        }
    }

    /// Who sends to `id` on the channel of this message, as far as the routes still say.
    pub(super) fn sender(&self, id: ConnId, message: &[u8]) -> Option<NodeId> {
        let channel = Forward::parse(message).ok()?.channel;
        let (other, _) = self.conns.get(&id)?.routes.get(&channel)?;
        self.conns.get(other)?.key
    }

    /// The channels that a client can use.
    pub(super) fn channels(&self, id: ConnId) -> Vec<ChannelId> {
        let mut channels: Vec<_> =
            self.conns.get(&id).map(|conn| conn.routes.keys().copied().collect()).unwrap_or_default();
        channels.sort_unstable();
        channels
    }

    /// Tells a client a lie about one of its channels.
    pub(super) fn lie(&mut self, now: Instant, id: ConnId, kind: usize) {
        let peers: Vec<_> = self.conns.values().filter_map(|conn| conn.key).collect();
        let channels = self.channels(id);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(&channel) = channels.get(self.dice.below(channels.len())) else {
            return;
        };
        let Some(&peer) = peers.get(self.dice.below(peers.len())) else {
            return;
        };
        let absurd = self.dice.next_u32();
        let body = match kind % 7 {
            0 => Control::PeerGone { peer, channel, reason: shadowmesh_proto::wire::relay::GoneReason::Left },
            1 => Control::Release { channel },
            2 => Control::Error { code: 3, sentence: "no".into(), retry_ms: Some(absurd) },
            3 => Control::Peer { peer, channel, instance: u64::from(absurd) },
            4 => Control::Established {
                channel,
                session: [0; 16],
                mtu: 1,
                heartbeat_ms: if absurd.is_multiple_of(2) { 0 } else { absurd },
                rotation_s: if absurd.is_multiple_of(3) { 0 } else { absurd },
                peer_tcp: None,
                peer_udp: None,
                direct: true,
            },
            5 => Control::Drain { within_ms: absurd },
            // Somebody nobody is: whoever believes it asks for a handshake that is never answered.
            _ => Control::Peer { peer: NodeId([0x5a; 32]), channel: ChannelId(absurd | 1), instance: 1 },
        };
        // A full queue of control is the client's end; a lie less is nothing.
        let _full = conn.queues.push_control(body);
        self.pump(now);
    }

    fn refuse(&mut self, now: Instant, id: ConnId, refusal: &Refusal) -> Vec<Fact> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return vec![];
        };
        if let Ok(bytes) = conn.link.seal(&refusal.to_body()) {
            self.spent += AROUND_MESSAGE + bytes.len();
            conn.down.send(now, &mut self.dice, bytes.len(), Delivery { bytes, replay: false });
        }
        let node = conn.node;
        let deserted = conn.deserted;
        let mut facts = self.close(now, id);
        if !deserted {
            facts.push(Fact::Closed { node, conn: id });
        }
        facts
    }

    fn carry_out(&mut self, now: Instant) -> Vec<Fact> {
        let mut facts = vec![];
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Send { to, body } => {
                    if let Some(conn) = self.conns.get_mut(&to) {
                        // Nobody here lets so many pile up.
                        let _full = conn.queues.push_control(body);
                    }
                }
                Output::Route { conn, channel, to, meter } => {
                    if let Some(conn) = self.conns.get_mut(&conn) {
                        conn.routes.insert(channel, (to, meter));
                    }
                }
                Output::Bind { conn, udp, tag } => {
                    if let Some(conn) = self.conns.get_mut(&conn) {
                        conn.binding = Some((udp, tag));
                    }
                }
                Output::Unroute { conn, channel } => {
                    if let Some(conn) = self.conns.get_mut(&conn) {
                        conn.routes.remove(&channel);
                    }
                }
                Output::Close { conn: id } => {
                    if let Some(conn) = self.conns.remove(&id)
                        && !conn.deserted
                    {
                        facts.push(Fact::Closed { node: conn.node, conn: id });
                    }
                }
            }
        }
        self.pump(now);
        facts
    }

    fn forward(&mut self, now: Instant, from: ConnId, message: &[u8]) {
        let Ok(forward) = Forward::parse(message) else { return };
        let route = self.conns.get(&from).and_then(|conn| conn.routes.get(&forward.channel));
        let Some((to, meter)) = route else {
            self.strays += 1;
            return;
        };
        let to = *to;
        meter.count(message.len() as u64);
        self.forwarded += forward.packets().filter_map(Piece::of).count() as u64;
        if self.mood == Mood::default() {
            self.queue(now, to, message);
        } else {
            for packet in forward.packets() {
                self.mistreat(now, to, forward.channel, packet);
            }
        }
        self.pump(now);
    }

    fn mistreat(&mut self, now: Instant, to: ConnId, channel: ChannelId, packet: &[u8]) {
        let Mood { drop, repeat, delay, damage } = self.mood;
        if self.dice.per_mille(drop) {
            self.lost.push((packet.to_vec(), Cause::Mood));
            return;
        }
        let mut packet = packet.to_vec();
        if self.dice.per_mille(damage) {
            self.lost.push((packet.clone(), Cause::Mood));
            let at = self.dice.below(packet.len());
            if let Some(byte) = packet.get_mut(at) {
                *byte ^= 1 << self.dice.below(8);
            }
        }
        let copies = 1 + usize::from(self.dice.per_mille(repeat));
        for _ in 0..copies {
            let Some(message) = message_of(channel, &packet) else { return };
            if self.dice.per_mille(delay) {
                let at = now + self.dice.between(Duration::ZERO, LATE);
                self.delayed.push_back((at, to, message));
            } else {
                self.queue(now, to, &message);
            }
        }
    }

    fn queue(&mut self, now: Instant, to: ConnId, message: &[u8]) {
        let Ok(forward) = Forward::parse(message) else { return };
        let Some(conn) = self.conns.get_mut(&to) else { return };
        let waiting = conn.waiting.entry(forward.channel).or_default();
        waiting.extend(forward.packets().map(<[u8]>::to_vec));
        let message = Bytes::copy_from_slice(message);
        self.displaced += conn.queues.push_data(now, forward.channel, message, None).packets;
    }
}

impl Conn {
    /// What leaves a queue is what waited in it, in its order, but for what was displaced: that is named here.
    fn name_lost_before(&mut self, message: &[u8], lost: &mut Vec<(Vec<u8>, Cause)>) {
        let Ok(forward) = Forward::parse(message) else { return };
        let waiting = self.waiting.entry(forward.channel).or_default();
        for packet in forward.packets() {
            while let Some(oldest) = waiting.pop_front()
                && oldest != packet
            {
                lost.push((oldest, Cause::Displaced));
            }
        }
    }
}

fn message_of(channel: ChannelId, packet: &[u8]) -> Option<Bytes> {
    let mut builder = ForwardBuilder::new(channel, Vec::new());
    builder.push(packet).then(|| builder.finish().into())
}
