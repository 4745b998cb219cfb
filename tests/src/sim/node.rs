//! A simulated node: a real endpoint, the daemon's real data plane with a device and a socket in memory, and a transport that opens the
//! stream to the relay again and again.
//!
//! A node has a key (its [`Identity`]) and lives one [`Life`] after the other. It is awake or frozen; frozen, it neither reads nor
//! looks at its timers, and finds everything at once when it thaws, as a stopped process does. Its clock is its own: it may be
//! ahead of the world's, and jump further ahead, as that of a machine that slept.

mod machine;
mod settle;

use super::copies::{Copies, in_message};
use super::dice::Dice;
use super::ledger::{Identity, Ledger, Life, SHORTEST, Silences};
use super::losses::Piece;
use super::net::Flight;
use super::relay::Delivery;
use super::trace;
use machine::{Link, Machine};
use shadowmesh::net::wake_up::has_slept;
use shadowmesh::plane::{MoveCost, PeerCounters, stream_queue};
use shadowmesh_proto::addresses;
use shadowmesh_proto::crypto::aead::CipherSet;
use shadowmesh_proto::crypto::keys::{NetworkSecret, NodeSecret};
use shadowmesh_proto::endpoint::Endpoint;
use shadowmesh_proto::endpoint::config::Config;
use shadowmesh_proto::endpoint::demand::{Keep, Sessions};
use shadowmesh_proto::endpoint::event::{Contact, PeerState, Via};
use shadowmesh_proto::ids::{AssociationId, ChannelId, NodeId, PeerSlot, RelayId};
use shadowmesh_proto::membership::Trust;
use shadowmesh_proto::path::select::{PathKind, Wanted};
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::session::RingLimits;
use shadowmesh_proto::transmit::{RelayNo, TcpLink};
use shadowmesh_proto::version::SPOKEN;
use shadowmesh_proto::wire::control::{Cidr4, Claim, Hello};
use shadowmesh_proto::wire::packet::PacketKind;
use shadowmesh_proto::wire::relay::{Forward, ForwardBuilder, StreamMessage, packets};
use shadowmesh_proto::wire::relayed::RELAYED;
use shadowmesh_relay::core::ConnId;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The one relay.
pub(super) const RELAY: RelayNo = RelayNo(0);
/// What a socket of a stream takes that is not on its way yet, where lines are slow: what a kernel gives one at first, about.
pub(super) const SOCKET_BYTES: usize = 64 << 10;
/// Packets a node keeps for replay to it.
const KEPT: usize = 64;
/// A packet of this many bytes shows that its path carries what is large: the least that proves a path has a few more (protocol §7.1).
const LARGE: usize = 1200;
/// Destination, source, EtherType.
const ETHERNET: usize = 14;
/// Of an experiment (IEEE 802, local experimental EtherType 1).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// What all nodes share.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) relay: RelayId,
    pub(super) network: NetworkSecret,
}

/// How a node is made.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    pub(super) rekey: Duration,
    pub(super) ciphers: CipherSet,
    pub(super) ring: RingLimits,
    /// Cuts the packets that a key may seal, so that rekeys by count happen.
    pub(super) key_limit: Option<u64>,
    /// Everybody begins with this address, so that they have to settle whose it is.
    pub(super) address: Option<Ipv4Addr>,
    /// Whether it takes direct TCP connections.
    pub(super) listens: bool,
    /// After how long without use its sessions end; `None`: it keeps them.
    pub(super) idle_after: Option<Duration>,
    /// Bytes a second that each of its streams takes, each way; `None` where they take whatever comes.
    pub(super) rate: Option<u32>,
}

impl Plan {
    /// What becomes of its sessions when nobody uses them.
    fn sessions(&self) -> Sessions {
        let keep = self.idle_after.map_or(Keep::All, |_| Keep::Few);
        Sessions { keep, idle_after: self.idle_after.unwrap_or_default() }
    }

    /// What a socket takes that was just opened, bytes.
    const fn fresh_room(&self) -> usize {
        if self.rate.is_some() { SOCKET_BYTES } else { usize::MAX }
    }
}

/// The stream to the relay, from the node's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Waits before it tries again.
    Waiting { until: Instant },
    /// SYN is under way.
    Dialing { arrives: Instant },
    /// Open as far as this node knows. `into_void`: nothing arrives any more and nobody says so.
    Open { conn: ConnId, into_void: bool, closes: Option<Instant> },
    /// The process is not running, or it left.
    Off,
}

/// A try to open connections.
#[derive(Debug, Clone)]
pub(super) struct Try {
    pub(super) number: u64,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) until: Instant,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) plan: Plan,
    pub(super) identity: Identity,
    pub(super) life: Life,
    pub(super) secret: NodeSecret,
    pub(super) endpoint: Endpoint,
    machine: Machine,
    pub(super) stream: Stream,
    pub(super) attempts: u32,
    pub(super) registered_at: Option<Instant>,
    pub(super) frozen_until: Option<Instant>,
    /// How far its clock is ahead, and behind.
    skew: Duration,
    behind: Duration,
    /// When it began to wait for what comes next, by its own clock.
    waits_since: Instant,
    /// While its machine is suspended: since when.
    pub(super) asleep_since: Option<Instant>,
    /// Dials are answered by nothing before this.
    pub(super) cut_off_until: Instant,
    peers: BTreeMap<PeerSlot, NodeId>,
    pub(super) states: BTreeMap<NodeId, PeerState>,
    pub(super) conflicts: usize,
    /// Moves of its data between kinds of path.
    pub(super) moves: u64,
    /// How often the path of its data, to whomever, came into doubt.
    pub(super) doubts: u64,
    /// Associations in which it began to send, and that ended because nobody used them.
    pub(super) associations: u64,
    pub(super) rests: u64,
    /// Times it was woken by a timer of the endpoint, in all and in the second that began last.
    pub(super) wakes: u64,
    pub(super) busy_second: (Instant, u32),
    /// What it was woken for, and how often.
    pub(super) reasons: BTreeMap<&'static str, u64>,
    /// Packets and datagrams that came in, for replay.
    history: VecDeque<Vec<u8>>,
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    /// When each peer was heard last.
    pub(super) heard: BTreeMap<NodeId, Instant>,
    /// When something large of each came last.
    pub(super) heard_large: BTreeMap<NodeId, Instant>,
    /// What was counted of every peer it ever had, in all its lives.
    counters: Vec<Counted>,
    /// Frames for whoever it said was not there when it read them.
    pub(super) in_vain: BTreeMap<(Life, Identity), u64>,
    /// Receive keys of associations that it does not send in yet.
    unconfirmed: HashMap<AssociationId, u32>,
    /// The port of its stream to the relay, where it listens.
    pub(super) tcp_port: u16,
    pub(super) tries: BTreeMap<PeerSlot, Try>,
    tried: u64,
    /// What was thrown at it while it was frozen.
    pub(super) pending: VecDeque<Flight>,
    udp_port: u16,
    addresses: Vec<SocketAddr>,
    dice: Dice,
}

/// What was counted of a peer from when it was met until it was forgotten.
#[derive(Debug)]
struct Counted {
    life: Life,
    peer: NodeId,
    counters: Arc<PeerCounters>,
    /// Frames for it that had been dropped when its first association began, and while there was none later, for nobody used it. (One that
    /// was forgotten and is met again has no key either.)
    dropped_before: Option<u64>,
    /// What had been dropped when nothing more was sealed for want of use, while that is so.
    dropped_at_rest: Option<u64>,
}

/// What a node did with what it was given.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Messages for its stream.
    pub(super) messages: Vec<Vec<u8>>,
    /// Datagrams from its socket.
    pub(super) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// Messages for direct connections.
    pub(super) direct: Vec<(TcpLink, Vec<u8>)>,
    /// Connections that it ends, and whether at once.
    pub(super) ended: Vec<(TcpLink, bool)>,
    /// Peers that it wants to connect to.
    pub(super) tries: Vec<PeerSlot>,
    /// It gives the connection to the relay up.
    pub(super) hang_up: bool,
    /// Peers that data was sent to.
    pub(super) sent: Vec<NodeId>,
    /// Data that came, and was good.
    pub(super) opened: Vec<Piece>,
    /// All data that came, for the first time or once more.
    pub(super) came: Vec<Piece>,
    /// An address of somebody who stole packets is taken for the peer's.
    pub(super) robbed: bool,
    /// A session or a route changed.
    pub(super) moved: Option<&'static str>,
    /// Control packets that were good for something.
    taken: Vec<PacketKind>,
}

/// What everybody may look up.
#[derive(Debug, Default)]
pub(super) struct Register {
    /// Keys that were ever in use.
    pub(super) identities: BTreeMap<NodeId, Identity>,
    /// The MAC that follows from each.
    pub(super) macs: BTreeMap<[u8; 6], Identity>,
}

/// What is known of everybody.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) ledger: Ledger,
    pub(super) silences: Silences,
    pub(super) copies: Copies,
    pub(super) register: Register,
}

impl Register {
    pub(super) fn add(&mut self, id: NodeId, identity: Identity) {
        self.identities.insert(id, identity);
        self.macs.insert(addresses::mac(&id).0, identity);
    }
}

impl Node {
    #[expect(clippy::too_many_arguments, reason = "what a world has to say of a node is much")]
    pub(super) fn new(
        now: Instant,
        at: usize,
        plan: Plan,
        home: &Home,
        ledger: &mut Ledger,
        identity: Identity,
        udp_port: u16,
        mut dice: Dice,
    ) -> Self {
        let secret = NodeSecret::generate(&mut dice);
        let life = ledger.begin_life(identity);
        let mut endpoint = start(at, &plan, home, &secret, &mut dice);
        endpoint.set_sessions(now, plan.sessions());
        let machine = Machine::new(&plan, home, &endpoint, udp_port);
        Self {
            at,
            plan,
            identity,
            life,
            secret,
            endpoint,
            machine,
            stream: Stream::Waiting { until: now },
            attempts: 0,
            registered_at: None,
            frozen_until: None,
            skew: Duration::ZERO,
            behind: Duration::ZERO,
            waits_since: now,
            asleep_since: None,
            cut_off_until: now,
            peers: BTreeMap::new(),
            states: BTreeMap::new(),
            conflicts: 0,
            moves: 0,
            doubts: 0,
            associations: 0,
            rests: 0,
            wakes: 0,
            busy_second: (now, 0),
            reasons: BTreeMap::new(),
            history: VecDeque::new(),
            datagrams: VecDeque::new(),
            heard: BTreeMap::new(),
            heard_large: BTreeMap::new(),
            counters: Vec::new(),
            in_vain: BTreeMap::new(),
            unconfirmed: HashMap::new(),
            tcp_port: 20_000,
            tries: BTreeMap::new(),
            tried: 0,
            pending: VecDeque::new(),
            udp_port,
            addresses: Vec::new(),
            dice,
        }
    }

    /// Begins another life, with the same key or with a new one.
    pub(super) fn restart(
        &mut self,
        now: Instant,
        home: &Home,
        ledger: &mut Ledger,
        new_identity: Option<Identity>,
    ) {
        if let Some(identity) = new_identity {
            self.identity = identity;
            self.secret = NodeSecret::generate(&mut self.dice);
        }
        self.life = ledger.begin_life(self.identity);
        self.endpoint = start(self.at, &self.plan, home, &self.secret, &mut self.dice);
        self.endpoint.set_sessions(now, self.plan.sessions());
        self.machine = Machine::new(&self.plan, home, &self.endpoint, self.udp_port);
        self.stream = Stream::Waiting { until: now };
        self.attempts = 0;
        self.registered_at = None;
        self.peers.clear();
        self.states.clear();
        self.heard.clear();
        self.heard_large.clear();
        self.tries.clear();
        self.pending.clear();
        self.addresses.clear();
    }

    pub(super) fn id(&self) -> NodeId {
        self.secret.public()
    }

    pub(super) const fn is_running(&self) -> bool {
        !matches!(self.stream, Stream::Off)
    }

    pub(super) const fn is_frozen(&self) -> bool {
        self.frozen_until.is_some()
    }

    pub(super) fn is_connected_to(&self, id: &NodeId) -> bool {
        self.states.get(id) == Some(&PeerState::Connected)
    }

    /// Whether a frame for `id` would go to it and nobody else: the switch knows its MAC.
    pub(super) fn knows(&self, id: &NodeId) -> bool {
        self.slot(id).is_some()
    }

    fn slot(&self, id: &NodeId) -> Option<PeerSlot> {
        self.peers.iter().find(|(_, peer)| *peer == id).map(|(slot, _)| *slot)
    }

    /// Its own time.
    pub(super) fn clock(&self, now: Instant) -> Instant {
        now + self.skew - self.behind
    }

    /// Its clock jumps ahead.
    pub(super) fn jump(&mut self, by: Duration) {
        self.skew += by;
    }

    /// Its clock stood still for so long.
    pub(super) fn stand_still(&mut self, by: Duration) {
        self.behind += by;
    }

    /// Whether the daemon would find that it stood still: as it looks after each wait.
    pub(super) fn has_slept(&self, now: Instant) -> bool {
        let due = self.endpoint.poll_timeout().map(|deadline| deadline.at);
        has_slept(self.waits_since, due, self.clock(now))
    }

    /// The network may be another one, as the daemon tells the endpoint where it is told so, or finds that it slept.
    pub(super) fn network_changed(&mut self, now: Instant, books: &mut Books) -> Result<Outcome, String> {
        let clock = self.clock(now);
        self.endpoint.handle_addresses(clock, self.addresses.clone());
        self.endpoint.handle_network_changed(clock);
        self.settle(now, books)
    }

    /// The kind of path by which its data goes to a peer.
    pub(super) fn path_to(&self, id: &NodeId) -> Option<PathKind> {
        self.machine.routes.via(self.slot(id)?).map(Via::kind)
    }

    /// Its last move of data to a peer, and what it says that this cost.
    pub(super) fn last_switch(&self, now: Instant, id: &NodeId) -> Option<(PathKind, PathKind, MoveCost)> {
        let all = self.endpoint.peer_status(self.clock(now)).into_iter();
        let switch = all.filter(|status| status.id == *id).find_map(|status| status.last_switch)?;
        Some((switch.from, switch.to, self.machine.routes.cost_of_move(self.slot(id)?)))
    }

    /// The longest round trip that it knows of any path.
    pub(super) fn longest_round(&self, now: Instant) -> Duration {
        let all = self.endpoint.peer_status(self.clock(now)).into_iter();
        let paths = all.flat_map(|status| status.path.into_iter().chain(status.standby));
        paths.filter_map(|path| path.rtt).max().unwrap_or_default()
    }

    /// The pause before the next try to connect: doubled each time, 1 s at most, and a quarter more or less.
    pub(super) fn back_off(&mut self) -> Duration {
        let pause = Duration::from_millis(50).saturating_mul(1 << self.attempts.min(4));
        self.attempts += 1;
        self.dice.between(pause.mul_f32(0.75), pause.mul_f32(1.25))
    }

    /// When it wants to be woken, by the world's time: its timers, frozen or not.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_running() {
            return None;
        }
        let timer = self.endpoint.poll_timeout().map(|deadline| deadline.at);
        let due = timer.into_iter().chain(self.machine.lockstep.poll_timeout()).min()?;
        Some((due + self.behind).checked_sub(self.skew).unwrap_or(due))
    }

    /// The stream to the relay at `relay`, which has that address of the other family as well, is open, from the port that is given.
    pub(super) fn opened(
        &mut self,
        now: Instant,
        port: u16,
        (relay, other): (SocketAddr, IpAddr),
        books: &mut Books,
    ) -> Result<Outcome, String> {
        let clock = self.clock(now);
        self.tcp_port = port;
        let (data, queue) = stream_queue(self.machine.lockstep.plane().outbound_waker());
        self.machine.queue = Some(queue);
        self.machine.room = self.plan.fresh_room();
        self.machine.routes.set_stream(RELAY, Some(data));
        self.endpoint.handle_stream_opened(clock, RELAY, relay);
        self.endpoint.handle_relay_family(RELAY, Some(other));
        if self.plan.listens {
            self.endpoint.handle_tcp_port(clock, Some((RELAY, port)));
        }
        self.settle(now, books)
    }

    /// The stream is gone.
    pub(super) fn closed(&mut self, now: Instant, books: &mut Books) -> Result<Outcome, String> {
        let clock = self.clock(now);
        self.registered_at = None;
        self.machine.queue = None;
        self.machine.routes.set_stream(RELAY, None);
        self.endpoint.handle_stream_closed(clock, RELAY);
        self.endpoint.handle_tcp_port(clock, None);
        self.settle(now, books)
    }

    /// Its addresses are these. Nothing is told where they are the same.
    pub(super) fn set_addresses(
        &mut self,
        now: Instant,
        addresses: Vec<SocketAddr>,
        books: &mut Books,
    ) -> Result<Outcome, String> {
        if self.addresses != addresses {
            self.addresses.clone_from(&addresses);
            self.endpoint.handle_addresses(self.clock(now), addresses);
            self.endpoint.handle_network_changed(self.clock(now));
        }
        self.settle(now, books)
    }

    /// A stream message arrived; FORWARD is from `peer`, as far as the world knows.
    ///
    /// # Errors
    /// A frame that should not have come out, a stream that is broken, or a replay that changed something.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        delivery: &Delivery,
        peer: Option<NodeId>,
        books: &mut Books,
    ) -> Result<Outcome, String> {
        trace::set_place(Some(self.at));
        let before = self.dropped();
        let mut is_forward = false;
        if let Ok(StreamMessage::Forward(forward)) = StreamMessage::parse(&delivery.bytes) {
            is_forward = true;
            let via = Via::Channel(Contact { relay: RELAY, channel: forward.channel });
            if self.endpoint.is_registered(RELAY) {
                self.machine.deliver(via, &delivery.bytes);
            }
        } else if let Err(error) =
            self.endpoint.handle_stream_message(self.clock(now), RELAY, &delivery.bytes)
        {
            return Err(format!("node {}: the link to the relay broke: {error}", self.at));
        }
        let mut outcome = self.settle(now, books)?;
        self.check_replay(delivery.replay, &outcome)?;
        if is_forward {
            outcome.opened = opened(&delivery.bytes, self.dropped() - before);
            outcome.came = in_message(&delivery.bytes);
        }
        if is_forward && self.dropped() == before {
            self.note_heard(now, peer, largest(&delivery.bytes));
            if !delivery.replay
                && let Ok(StreamMessage::Forward(forward)) = StreamMessage::parse(&delivery.bytes)
            {
                forward.packets().for_each(|packet| keep(&mut self.history, &mut self.dice, packet.to_vec()));
            }
        }
        Ok(outcome)
    }

    /// A datagram arrived; it is from `peer`, as far as the world knows.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub(super) fn receive_datagram(
        &mut self,
        now: Instant,
        flight: Flight,
        peer: Option<NodeId>,
        books: &mut Books,
    ) -> Result<Outcome, String> {
        trace::set_place(Some(self.at));
        let Flight { from, bytes, replay, is_damaged, .. } = flight;
        let before = self.dropped();
        self.machine.socket.put(from, bytes.clone());
        let mut outcome = self.settle(now, books)?;
        self.check_replay(replay, &outcome)?;
        if !is_damaged {
            outcome.opened.extend(Piece::of(&bytes));
            outcome.came.clone_from(&outcome.opened);
        }
        // Half a packet says nothing.
        let is_packet = matches!(PacketKind::of(&bytes), Some(PacketKind::Transport(_)))
            || bytes.first() == Some(&RELAYED);
        if is_packet && self.dropped() == before {
            self.note_heard(now, peer, bytes.len());
            if !replay {
                keep(&mut self.datagrams, &mut self.dice, (from, bytes));
            }
        }
        Ok(outcome)
    }

    /// A message arrived on a direct connection.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub(super) fn receive_direct(
        &mut self,
        now: Instant,
        link: TcpLink,
        message: Vec<u8>,
        peer: NodeId,
        books: &mut Books,
    ) -> Result<Outcome, String> {
        trace::set_place(Some(self.at));
        let before = self.dropped();
        let mut outcome = Outcome::default();
        let Some(known) = self.machine.links.get(&link) else { return Ok(outcome) };
        let len = largest(&message);
        if known.queue.is_some() {
            outcome.opened = opened(&message, 0);
            outcome.came = in_message(&message);
            self.machine.deliver(Via::Tcp(link), &message);
        } else {
            for packet in packets(&message) {
                self.take(now, Via::Tcp(link), &mut packet.to_vec(), &mut outcome);
            }
        }
        self.settle_into(now, books, &mut outcome)?;
        if self.dropped() == before {
            self.note_heard(now, Some(peer), len);
        }
        Ok(outcome)
    }

    /// A direct connection is there: for `slot`, or somebody's who came.
    pub(super) fn link_opened(
        &mut self,
        now: Instant,
        slot: Option<PeerSlot>,
        link: TcpLink,
        books: &mut Books,
    ) -> Result<Outcome, String> {
        self.machine.links.insert(link, Link { queue: None, room: self.plan.fresh_room() });
        if let Some(slot) = slot {
            self.endpoint.handle_tcp_opened(self.clock(now), slot, link);
        }
        self.settle(now, books)
    }

    /// Its sockets take so much now; what it does, where something waited for that.
    pub(super) fn take_room(
        &mut self,
        now: Instant,
        stream: usize,
        links: &[(TcpLink, usize)],
        books: &mut Books,
    ) -> Result<Option<Outcome>, String> {
        if self.machine.take_room(stream, links) { self.settle(now, books).map(Some) } else { Ok(None) }
    }

    /// A direct connection is gone.
    pub(super) fn link_closed(
        &mut self,
        now: Instant,
        link: TcpLink,
        books: &mut Books,
    ) -> Result<Outcome, String> {
        if self.machine.links.remove(&link).is_some() {
            self.machine.routes.remove_link(link);
            self.endpoint.handle_tcp_closed(self.clock(now), link);
        }
        self.settle(now, books)
    }

    /// Whether somebody keeps that connection.
    pub(super) fn keeps(&self, link: TcpLink) -> bool {
        self.machine.links.get(&link).is_some_and(|link| link.queue.is_some())
    }

    /// The try in which it looks for `from`, if it does.
    pub(super) fn looks_for(&self, now: Instant, from: SocketAddr) -> Option<PeerSlot> {
        let is_live = |try_: &Try| try_.until > now && try_.addresses.contains(&from);
        self.tries.iter().find(|(_, try_)| is_live(try_)).map(|(slot, _)| *slot)
    }

    /// Its timers are due.
    ///
    /// # Errors
    /// A frame that should not have come out.
    pub(super) fn wake(&mut self, now: Instant, books: &mut Books) -> Result<Outcome, String> {
        trace::set_place(Some(self.at));
        let clock = self.clock(now);
        if let Some(deadline) = self.endpoint.poll_timeout().filter(|deadline| deadline.is_due(clock)) {
            self.wakes += 1;
            *self.reasons.entry(deadline.why).or_default() += 1;
            if now.saturating_duration_since(self.busy_second.0) >= Duration::from_secs(1) {
                self.busy_second = (now, 0);
            }
            self.busy_second.1 += 1;
            self.endpoint.handle_timeout(clock);
        }
        self.settle(now, books)
    }

    /// Reads `count` frames of `len` bytes from the device, for a peer.
    pub(super) fn send(
        &mut self,
        now: Instant,
        to: &NodeId,
        identity: Identity,
        count: u32,
        len: usize,
        books: &mut Books,
    ) -> Result<Outcome, String> {
        let len = len.saturating_sub(ETHERNET).max(SHORTEST);
        if !matches!(
            self.states.get(to),
            Some(PeerState::Connected | PeerState::Connecting | PeerState::Idle)
        ) {
            *self.in_vain.entry((self.life, identity)).or_default() += u64::from(count);
        }
        for _ in 0..count {
            let contents = books.ledger.offer(self.life, identity, len);
            let (to, from) = (addresses::mac(to), addresses::mac(&self.id()));
            let frame = [&to.0[..], &from.0, &ETHERTYPE, &contents].concat();
            self.machine.wire.send(&frame).map_err(|error| error.to_string())?;
        }
        self.settle(now, books)
    }

    /// It keeps its sessions from now on, or not any more.
    pub(super) fn keep_sessions(
        &mut self,
        now: Instant,
        idle_after: Option<Duration>,
        books: &mut Books,
    ) -> Result<Outcome, String> {
        self.plan.idle_after = idle_after;
        self.endpoint.set_sessions(self.clock(now), self.plan.sessions());
        self.settle(now, books)
    }

    /// A user wants a path.
    pub(super) fn want(
        &mut self,
        now: Instant,
        peer: &NodeId,
        wanted: Wanted,
        books: &mut Books,
    ) -> Result<Outcome, String> {
        if let Some(slot) = self.slot(peer) {
            self.endpoint.want_path(self.clock(now), slot, wanted);
        }
        self.settle(now, books)
    }

    /// What it knows of members changes.
    pub(super) fn change_trust(
        &mut self,
        now: Instant,
        change: impl FnOnce(&mut Trust),
        books: &mut Books,
    ) -> Result<Outcome, String> {
        let changed = self.endpoint.with_trust(self.clock(now), change);
        changed.ok_or("a network without certificates")?;
        self.settle(now, books)
    }

    /// Says good-bye to everybody.
    pub(super) fn leave(&mut self, now: Instant, books: &mut Books) -> Result<Outcome, String> {
        self.endpoint.leave(self.clock(now));
        self.settle(now, books)
    }

    /// What each of its lives counted of each of its peers.
    pub(super) fn counters(&self) -> impl Iterator<Item = (Life, NodeId, &PeerCounters)> {
        self.counters.iter().map(|known| (known.life, known.peer, &*known.counters))
    }

    /// Frames for each of its peers that were dropped though there had been an association before: none should be.
    pub(super) fn dropped_since(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.counters.iter().filter_map(|known| {
            let dropped = known.counters.tx_dropped.load(Relaxed);
            Some((known.peer, dropped.saturating_sub(known.dropped_before?)))
        })
    }

    /// Frames that were never sealed.
    pub(super) fn overflowed(&self) -> u64 {
        self.counters().map(|(_, _, peer)| peer.tx_dropped.load(Relaxed)).sum::<u64>() + self.unread()
    }

    /// Packets in pieces that it gave up: too many at once, or not all of them came.
    pub(super) fn given_up(&self) -> u64 {
        self.machine.lockstep.plane().counters().fragments_given_up.load(Relaxed)
    }

    /// Frames that its device had no room for.
    pub(super) fn unread(&self) -> u64 {
        self.machine.wire.overflowed()
    }

    /// Packets sent again.
    pub(super) fn resent(&self) -> u64 {
        self.counters().map(|(_, _, peer)| peer.resent.load(Relaxed)).sum()
    }

    /// A FORWARD message around packets of its past, for the channel on which it hears somebody now.
    pub(super) fn past_packets(
        &mut self,
        dice: &mut Dice,
        channels: &[ChannelId],
        count: usize,
    ) -> Option<Vec<u8>> {
        let channel = dice.pick(channels, ChannelId(0));
        let mut builder = ForwardBuilder::new(channel, Vec::new());
        for _ in 0..count {
            let packet = self.history.get(dice.below(self.history.len()))?;
            if !builder.push(packet) {
                break;
            }
        }
        let message = builder.finish();
        Forward::parse(&message).is_ok().then_some(message)
    }

    /// A datagram of its past, and where it came from.
    pub(super) fn past_datagram(&self, dice: &mut Dice) -> Option<(SocketAddr, Vec<u8>)> {
        self.datagrams.get(dice.below(self.datagrams.len())).cloned()
    }

    fn note_heard(&mut self, now: Instant, peer: Option<NodeId>, len: usize) {
        if let Some(peer) = peer {
            self.heard.insert(peer, now);
            if len >= LARGE {
                self.heard_large.insert(peer, now);
            }
        }
    }

    /// Packets dropped in all, for whatever cause but that nobody had time.
    fn dropped(&self) -> u64 {
        let counters = self.machine.lockstep.plane().counters();
        let plane = [
            &counters.unknown_kind,
            &counters.unknown_index,
            &counters.not_let_in,
            &counters.handshake_by_datagram,
            &counters.not_bound,
            &counters.fragments_given_up,
        ];
        let plane: u64 = plane.into_iter().chain(&counters.not_opened).map(|count| count.load(Relaxed)).sum();
        let drops = self.endpoint.drops();
        plane + drops.handshake + drops.forged + drops.out_of_place
    }

    /// protocol §4.5: a first message may be answered any number of times; everything else counts once.
    fn check_replay(&self, replay: bool, outcome: &Outcome) -> Result<(), String> {
        if !replay {
            return Ok(());
        }
        if let Some(what) = outcome.moved {
            return Err(format!("node {}: a replayed packet led to {what}", self.at));
        }
        match outcome.taken.iter().find(|kind| **kind != PacketKind::Init) {
            Some(kind) => Err(format!("node {}: a replayed packet was taken: {kind:?}", self.at)),
            None => Ok(()),
        }
    }

    /// A packet that is not data.
    fn take(&mut self, now: Instant, via: Via, packet: &mut [u8], outcome: &mut Outcome) {
        let kind = PacketKind::of(packet);
        match self.endpoint.handle_packet(self.clock(now), via, packet) {
            Ok(()) => outcome.taken.extend(kind),
            Err(error) => tracing::debug!(%error, ?kind, ?via, "dropped"),
        }
    }
}

/// Data in a message of a stream, of which so many packets were `dropped`. A relay in a bad mood damages packets, each alone in its
/// message; where there are several, one that was there before is no reason to doubt the others, but none opened where all were dropped:
/// their session is gone.
fn opened(message: &[u8], dropped: u64) -> Vec<Piece> {
    let Ok(StreamMessage::Forward(forward)) = StreamMessage::parse(message) else { return vec![] };
    let is_none = dropped >= forward.packets().count() as u64;
    forward.packets().filter(|_| !is_none).filter_map(Piece::of).collect()
}

/// Bytes of the largest packet in a message of a stream.
fn largest(message: &[u8]) -> usize {
    let Ok(StreamMessage::Forward(forward)) = StreamMessage::parse(message) else { return 0 };
    forward.packets().map(<[u8]>::len).max().unwrap_or_default()
}

fn keep<T>(history: &mut VecDeque<T>, dice: &mut Dice, item: T) {
    let place = dice.below(KEPT);
    match history.get_mut(place) {
        Some(old) => *old = item,
        None => history.push_back(item),
    }
}

fn start(at: usize, plan: &Plan, home: &Home, secret: &NodeSecret, dice: &mut Dice) -> Endpoint {
    let network = home.network.derive();
    let derived = addresses::ipv4_attempts(network.id().into(), secret.public()).next();
    let ipv4 = plan.address.or_else(|| derived.map(|(_, address)| address));
    let hello = Hello {
        name: format!("node-{at}"),
        mac: addresses::mac(&secret.public()),
        ipv4: ipv4.and_then(|address| Cidr4::new(address, 16)),
        ipv6: None,
        claim: Claim::Fresh,
        mtu: 1400,
        revision: 1,
    };
    let config = Config {
        relays: vec![home.relay],
        node: secret.clone(),
        addresses: network.id().into(),
        network,
        ciphers: plan.ciphers,
        hello,
        address_attempt: Some(0),
        rekey_interval: plan.rekey,
        instance: dice.next_u64(),
        program: "simulated".into(),
        versions: SPOKEN,
    };
    Endpoint::new(config, Box::new(dice.fork()))
}
