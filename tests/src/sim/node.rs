//! A simulated node: a real endpoint, a data plane, and a transport that opens the stream to the relay again and again.
//!
//! A node has a key (its [`Identity`]) and lives one [`Life`] after the other. It is awake or frozen; frozen, it neither
//! reads nor looks at its timers, and finds everything at once when it thaws, as a stopped process does.

use super::dice::Dice;
use super::ledger::{FrameId, Identity, Ledger, Life};
use super::plane::{Plane, Settings};
use super::relay::Delivery;
use super::trace;
use shadowmesh_proto::addresses;
use shadowmesh_proto::crypto::aead::CipherSet;
use shadowmesh_proto::crypto::keys::{NetworkSecret, NodeSecret};
use shadowmesh_proto::endpoint::Endpoint;
use shadowmesh_proto::endpoint::config::Config;
use shadowmesh_proto::endpoint::event::{Contact, Event, PeerState};
use shadowmesh_proto::ids::{ChannelId, NodeId, PeerSlot, RelayId};
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::transmit::{RelayNo, Transmit};
use shadowmesh_proto::wire::control::{Cidr4, Claim, Hello};
use shadowmesh_proto::wire::header::PacketType;
use shadowmesh_proto::wire::packet::PacketKind;
use shadowmesh_proto::wire::relay::{Forward, ForwardBuilder, StreamMessage};
use shadowmesh_relay::core::ConnId;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

/// The one relay.
pub(super) const RELAY: RelayNo = RelayNo(0);
/// Where it is.
const RELAY_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9443));
/// Packets a node keeps for the hostile relay to replay to it.
const KEPT: usize = 64;

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
    pub(super) plane: Settings,
    /// Everybody begins with this address, so that they have to settle whose it is.
    pub(super) address: Option<Ipv4Addr>,
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

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) plan: Plan,
    pub(super) identity: Identity,
    pub(super) life: Life,
    pub(super) secret: NodeSecret,
    pub(super) endpoint: Endpoint,
    pub(super) plane: Plane,
    pub(super) stream: Stream,
    pub(super) attempts: u32,
    pub(super) registered_at: Option<Instant>,
    pub(super) stun_token: Option<[u8; 16]>,
    pub(super) frozen_until: Option<Instant>,
    /// Dials are answered by nothing before this.
    pub(super) cut_off_until: Instant,
    pub(super) states: BTreeMap<NodeId, PeerState>,
    pub(super) conflicts: usize,
    /// Times it was woken by its own timer, in all and in the second that began last.
    pub(super) wakes: u64,
    pub(super) busy_second: (Instant, u32),
    /// Packets that came in, for replay.
    pub(super) history: VecDeque<Vec<u8>>,
    /// Packets of peers that opened or were taken, by peer.
    pub(super) heard: BTreeMap<NodeId, Instant>,
    dice: Dice,
}

/// What a node did with what it was given.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Messages for its stream.
    pub(super) messages: Vec<Vec<u8>>,
    /// It gives the connection up.
    pub(super) hang_up: bool,
    /// Peers that data was sent to.
    pub(super) sent: Vec<NodeId>,
    /// STUN is to be asked.
    pub(super) stun: bool,
    /// A session or a route changed.
    pub(super) moved: Option<&'static str>,
}

impl Node {
    pub(super) fn new(
        now: Instant,
        at: usize,
        plan: Plan,
        home: &Home,
        ledger: &mut Ledger,
        identity: Identity,
        mut dice: Dice,
    ) -> Self {
        let secret = NodeSecret::generate(&mut dice);
        let life = ledger.begin_life(identity);
        let endpoint = start(at, &plan, home, &secret, &mut dice);
        let plane = Plane::new(plan.plane);
        Self {
            at,
            plan,
            identity,
            life,
            secret,
            endpoint,
            plane,
            stream: Stream::Waiting { until: now },
            attempts: 0,
            registered_at: None,
            stun_token: None,
            frozen_until: None,
            cut_off_until: now,
            states: BTreeMap::new(),
            conflicts: 0,
            wakes: 0,
            busy_second: (now, 0),
            history: VecDeque::new(),
            heard: BTreeMap::new(),
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
        self.plane = Plane::new(self.plan.plane);
        self.stream = Stream::Waiting { until: now };
        self.attempts = 0;
        self.registered_at = None;
        self.states.clear();
        self.heard.clear();
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

    /// The pause before the next try to connect: doubled each time, 1 s at most, and a quarter more or less.
    pub(super) fn back_off(&mut self) -> Duration {
        let pause = Duration::from_millis(50).saturating_mul(1 << self.attempts.min(4));
        self.attempts += 1;
        self.dice.between(pause.mul_f32(0.75), pause.mul_f32(1.25))
    }

    /// When it wants to be woken: its timers, frozen or not.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_running() {
            return None;
        }
        let timer = self.endpoint.poll_timeout().map(|deadline| deadline.at);
        timer.into_iter().chain(self.plane.next_ack()).min()
    }

    /// The stream to the relay is open.
    pub(super) fn opened(&mut self, now: Instant, ledger: &mut Ledger) -> Outcome {
        self.endpoint.handle_stream_opened(now, RELAY, RELAY_ADDRESS);
        self.drain(now, ledger)
    }

    /// The stream is gone.
    pub(super) fn closed(&mut self, now: Instant, ledger: &mut Ledger) -> Outcome {
        self.registered_at = None;
        self.endpoint.handle_stream_closed(now, RELAY);
        self.drain(now, ledger)
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
        ledger: &mut Ledger,
        identities: &BTreeMap<NodeId, Identity>,
    ) -> Result<Outcome, String> {
        trace::set_place(Some(self.at));
        if let Ok(StreamMessage::Forward(forward)) = StreamMessage::parse(&delivery.bytes) {
            let contact = Contact { relay: RELAY, channel: forward.channel };
            if self.endpoint.is_registered(RELAY) {
                for packet in forward.packets() {
                    let taken = self.take(now, contact, packet, delivery.replay, ledger, identities)?;
                    if let (true, Some(peer)) = (taken, peer) {
                        self.heard.insert(peer, now);
                    }
                }
            }
        } else if let Err(error) = self.endpoint.handle_stream_message(now, RELAY, &delivery.bytes) {
            return Err(format!("node {}: the link to the relay broke: {error}", self.at));
        }
        let outcome = self.drain(now, ledger);
        if let (true, Some(what)) = (delivery.replay, outcome.moved) {
            return Err(format!("node {}: a replayed packet led to {what}", self.at));
        }
        Ok(outcome)
    }

    /// Whether the packet was good for something.
    fn take(
        &mut self,
        now: Instant,
        contact: Contact,
        original: &[u8],
        replay: bool,
        ledger: &mut Ledger,
        identities: &BTreeMap<NodeId, Identity>,
    ) -> Result<bool, String> {
        let mut packet = original.to_vec();
        let kind = PacketKind::of(&packet);
        let taken = if kind == Some(PacketKind::Transport(PacketType::Data)) {
            match self.plane.open(now, &mut packet) {
                Ok((slot, frame)) => {
                    let peer = self.plane.peer(slot).ok_or("a frame from a slot without a peer")?;
                    let from = identities.get(&peer).ok_or("a frame from a key that nobody has")?;
                    ledger.deliver(self.identity, *from, frame)?;
                    true
                }
                // Dropped and counted; the ledger knows whether it was missed.
                Err(_) => false,
            }
        } else {
            match self.endpoint.handle_packet(now, contact, &mut packet) {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!(%error, ?kind, "dropped");
                    false
                }
            }
        };
        // protocol §4.5: a first message may be answered any number of times; everything else counts once.
        if replay && taken && kind != Some(PacketKind::Init) {
            return Err(format!("node {}: a replayed packet was taken: {kind:?}", self.at));
        }
        if !replay && taken {
            let place = self.dice.below(KEPT);
            match self.history.get_mut(place) {
                Some(old) => *old = original.to_vec(),
                None => self.history.push_back(original.to_vec()),
            }
        }
        Ok(taken)
    }

    /// Its timers are due.
    pub(super) fn wake(&mut self, now: Instant, ledger: &mut Ledger) -> Outcome {
        trace::set_place(Some(self.at));
        self.wakes += 1;
        if now.saturating_duration_since(self.busy_second.0) >= Duration::from_secs(1) {
            self.busy_second = (now, 0);
        }
        self.busy_second.1 += 1;
        self.plane.expire(now);
        for (slot, report) in self.plane.due_acks(now) {
            self.endpoint.handle_ack_report(now, slot, None, &report);
        }
        if self.endpoint.poll_timeout().is_some_and(|deadline| deadline.is_due(now)) {
            self.endpoint.handle_timeout(now);
        }
        self.drain(now, ledger)
    }

    /// Reads frames from the device for a peer.
    pub(super) fn send(
        &mut self,
        now: Instant,
        slot: PeerSlot,
        frames: Vec<(FrameId, Vec<u8>)>,
        ledger: &mut Ledger,
    ) -> Outcome {
        for (id, frame) in frames {
            self.plane.offer(slot, id, frame, ledger);
        }
        self.drain(now, ledger)
    }

    /// Says good-bye to everybody.
    pub(super) fn leave(&mut self, now: Instant, ledger: &mut Ledger) -> Outcome {
        self.endpoint.leave(now);
        self.drain(now, ledger)
    }

    /// Events, then data, then control; until nothing is left.
    fn drain(&mut self, now: Instant, ledger: &mut Ledger) -> Outcome {
        trace::set_place(Some(self.at));
        let mut outcome = Outcome::default();
        loop {
            while let Some(event) = self.endpoint.poll_event() {
                self.apply(now, event, &mut outcome, ledger);
            }
            let turn = self.plane.turn(now, ledger);
            let idle = turn.messages.is_empty();
            outcome.messages.extend(turn.messages);
            for (slot, via) in turn.sent {
                self.endpoint.handle_data_sent(now, slot, via);
                outcome.sent.extend(self.plane.peer(slot));
            }
            for slot in turn.used_up {
                self.endpoint.handle_key_used_up(now, slot);
            }
            while let Some(transmit) = self.endpoint.poll_transmit() {
                match transmit {
                    Transmit::Stream { message, .. } => outcome.messages.push(message),
                    // It was told no addresses, so it has no UDP (protocol §7.3), and no port.
                    Transmit::Datagram { to, .. } => unreachable!("a datagram to {to}"),
                    Transmit::Tcp { link, .. } => unreachable!("a message by {link:?}"),
                }
            }
            if idle {
                trace::set_place(None);
                return outcome;
            }
        }
    }

    fn apply(&mut self, now: Instant, event: Event, outcome: &mut Outcome, ledger: &mut Ledger) {
        match &event {
            Event::StartAssociation { .. } => outcome.moved = Some("a new association"),
            Event::OpenAssociation { .. } => outcome.moved = Some("a new receive key"),
            Event::AddSealKey { .. } => outcome.moved = Some("a new send key"),
            Event::Route { .. } => outcome.moved = Some("another route"),
            Event::PeerState { slot, state } => {
                if let Some(id) = self.plane.peer(*slot) {
                    self.states.insert(id, *state);
                }
            }
            Event::PeerRemoved { slot } => {
                if let Some(id) = self.plane.peer(*slot) {
                    self.states.remove(&id);
                }
            }
            Event::AddressConflict { .. } => self.conflicts += 1,
            Event::RelayUp { stun_token, .. } => {
                self.registered_at = Some(now);
                self.attempts = 0;
                self.stun_token = Some(*stun_token);
                outcome.stun = true;
            }
            Event::RelayDead { .. } => outcome.hang_up = true,
            Event::RelayRefused { .. }
            | Event::PeerAdded { .. }
            | Event::AddOpenKey { .. }
            | Event::RetireOpenKey { .. }
            | Event::CloseAssociation { .. }
            | Event::Resend { .. }
            | Event::Sources { .. }
            | Event::Patience { .. }
            | Event::Doubt { .. }
            | Event::Moved { .. }
            | Event::Acked { .. }
            | Event::PeerHello { .. }
            | Event::EchoReply { .. }
            | Event::AddressChanged { .. }
            | Event::AddressSettled
            | Event::RelayBound { .. }
            | Event::TcpTry { .. }
            | Event::TcpKept { .. }
            | Event::TcpClose { .. }
            | Event::Observed { .. } => {}
        }
        if !matches!(event, Event::Acked { .. }) {
            tracing::debug!(event = name_of(&event));
        }
        self.plane.apply(now, event, ledger);
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
}

/// Its variant, and the peer's slot where it has one.
fn name_of(event: &Event) -> String {
    let text = format!("{event:?}");
    let slot = text.find("slot: ").and_then(|at| text.get(at..)?.split([',', ' ', '}']).nth(1));
    let name = text.split([' ', '(']).next().unwrap_or_default();
    format!("{name} {}", slot.unwrap_or_default())
}

fn start(at: usize, plan: &Plan, home: &Home, secret: &NodeSecret, dice: &mut Dice) -> Endpoint {
    let network = home.network.derive();
    let derived = addresses::ipv4_attempts(network.id(), secret.public()).next();
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
        network,
        ciphers: plan.ciphers,
        hello,
        address_attempt: Some(0),
        rekey_interval: plan.rekey,
        instance: dice.next_u64(),
        program: "simulated".into(),
    };
    Endpoint::new(config, Box::new(dice.fork()))
}
