//! The endpoint: one node in one network, as a state machine (protocol §3, §4, §6, §7).
//!
//! It holds the links to relays and the peers, and is driven by a loop of five calls. Its owner moves bytes and keeps time:
//!
//! ```text
//!   loop {
//!       while let Some(event) = endpoint.poll_event() { apply it to the data plane, the device, the status }
//!       while let Some(transmit) = endpoint.poll_transmit() { give it to the relay's connection }
//!       wait for a stream message, a packet from the data plane, a command, or endpoint.poll_timeout()
//!       endpoint.handle_stream_…(now, …) | endpoint.handle_packet(now, …) | endpoint.handle_timeout(now)
//!   }
//! ```
//!
//! Events before transmits: a receive key must be in place before the packet that lets a peer use it leaves.
//!
//! FORWARD messages do not pass through here whole: the data plane splits them, opens what is data, and hands the rest to
//! [`Endpoint::handle_packet`]. Unauthenticated input costs one hash or one look-up before it is dropped and counted.
//!
//! Datagrams that are no peer packets go to [`Endpoint::handle_datagram`]: answers of a relay's STUN, and nothing else.
//!
//! - [`config`], [`event`], [`status`]: what goes in at the start, what comes out, what can be looked at.
//! - [`demand`]: whose sessions are kept. `relays`: what relays say. `claims`: whose address it is. `local`: where this node may be
//!   reached. `members`: who may send frames.

mod claims;
pub mod config;
pub mod demand;
pub mod event;
mod local;
mod members;
pub(crate) mod outbox;
mod own;
mod relays;
pub mod status;
#[cfg(test)]
mod tests;

use crate::ids::{NetworkId, NodeId, PeerSlot};
use crate::link::LinkError;
use crate::path::select::Wanted;
use crate::peer::{Context, PacketError, Peer};
use crate::rng::Rng;
use crate::session::ack::AckReport;
use crate::time::Deadline;
use crate::transmit::{RelayNo, TcpLink, Transmit};
use crate::traverse::strangers::Strangers;
use crate::wire::control::Hello;
use crate::wire::header::{Header, PacketType};
use crate::wire::packet::PacketKind;
use config::Config;
use demand::Sessions;
use event::{Event, PeerState, Via};
pub(crate) use local::LocalCandidates;
use members::Members;
use outbox::{Indices, Outbox};
use relays::Relay;
use status::{PeerStatus, RelayStatus};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Instant;

/// Peers kept in mind, with those that are gone.
const MAX_PEERS_KNOWN: usize = 1024;

/// Packets dropped by the control side, by cause (protocol §5.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// Handshake packets that failed.
    pub handshake: u64,
    /// Control packets that did not open.
    pub forged: u64,
    /// Packets for a channel, an index or a state that does not exist.
    pub out_of_place: u64,
    /// Datagrams that look like answers of STUN and answer nothing that was asked.
    pub unasked: u64,
}

/// One node in one network.
pub struct Endpoint {
    config: Config,
    hello: Hello,
    attempt: Option<u8>,
    rng: Box<dyn Rng + Send>,
    relays: Vec<Relay>,
    /// By relay: under which secret of the network this node registers there; the one in force where that is not said.
    lanes: Vec<Option<NetworkId>>,
    /// In the order of their keys, so that a run in virtual time repeats exactly.
    peers: BTreeMap<NodeId, Peer>,
    slots: HashMap<PeerSlot, NodeId>,
    indices: Indices,
    out: Outbox,
    drops: Drops,
    local: LocalCandidates,
    strangers: Strangers,
    /// Peers that are being met, as of the last look.
    being_met: usize,
    /// When this node took another address of late (see [`claims`]).
    moves: Vec<Instant>,
    members: Members,
    sessions: Sessions,
    /// Whether whose sessions are kept is to be looked at.
    weigh_demand: bool,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("node", &self.config.node)
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// A node that knows nobody yet.
    pub fn new(config: Config, rng: Box<dyn Rng + Send>) -> Self {
        let relays = config.relays.iter().map(|key| Relay::new(*key)).collect();
        let lanes = vec![None; config.relays.len()];
        let (hello, attempt) = (config.hello.clone(), config.address_attempt);
        Self {
            config,
            hello,
            attempt,
            rng,
            relays,
            lanes,
            peers: BTreeMap::new(),
            slots: HashMap::new(),
            indices: Indices::default(),
            out: Outbox::default(),
            drops: Drops::default(),
            local: LocalCandidates::default(),
            strangers: Strangers::default(),
            being_met: 0,
            moves: Vec::new(),
            members: Members::default(),
            sessions: Sessions::default(),
            weigh_demand: false,
        }
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        self.config.node.public()
    }

    /// What this node says of itself now.
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The relay's stream is open, to `remote`: the link begins.
    pub fn handle_stream_opened(&mut self, now: Instant, relay: RelayNo, remote: SocketAddr) {
        self.relay_opened(now, relay, Some(remote));
    }

    /// The same by a proxy that knows where the relay is, and nobody here does: no datagram is sent to it, and its STUN is not asked.
    pub fn handle_tunnelled_stream_opened(&mut self, now: Instant, relay: RelayNo) {
        self.relay_opened(now, relay, None);
    }

    /// A message of the relay's stream that is not FORWARD.
    ///
    /// # Errors
    /// Any [`LinkError`]: close the stream and call [`Self::handle_stream_closed`].
    pub fn handle_stream_message(
        &mut self,
        now: Instant,
        relay: RelayNo,
        message: &[u8],
    ) -> Result<(), LinkError> {
        let result = self.relay_message(now, relay, message);
        self.after_input(now);
        result
    }

    /// The relay's stream is gone.
    pub fn handle_stream_closed(&mut self, now: Instant, relay: RelayNo) {
        self.relay_closed(now, relay);
    }

    /// Whether FORWARD messages may be taken from this relay (protocol §3: not before REGISTERED).
    pub fn is_registered(&self, relay: RelayNo) -> bool {
        self.relays.get(relay.0).is_some_and(Relay::is_registered)
    }

    /// A peer packet that is not data. Whatever the error, the packet is dropped silently; it was counted.
    ///
    /// # Errors
    /// Why it was dropped, for a trace.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        via: impl Into<Via>,
        packet: &mut [u8],
    ) -> Result<(), PacketError> {
        let result = self.packet(now, via.into(), packet);
        match &result {
            // What did not open changed nothing, and costs no look at the other peers.
            Ok(()) => self.after_input(now),
            Err(PacketError::Handshake(_) | PacketError::WrongPeer | PacketError::Refused) => {
                self.drops.handshake += 1
            }
            Err(PacketError::Open(_)) => self.drops.forged += 1,
            Err(
                PacketError::UnknownIndex | PacketError::OutOfTurn | PacketError::TooMany | PacketError::Kind,
            ) => self.drops.out_of_place += 1,
        }
        result
    }

    /// The data plane sent frames to the peer by `via` since the last call, and of the association's counters used every one below
    /// `sealed`.
    pub fn handle_data_sent(&mut self, now: Instant, slot: PeerSlot, via: Via, sealed: u64) {
        self.with_peer_at(now, slot, |peer, ctx| peer.on_data_sent(ctx, via, sealed));
        self.after_input(now);
    }

    /// The data plane opened data of the peer that came by datagram from an address that [`Event::Sources`] does not name.
    pub fn handle_heard(&mut self, now: Instant, slot: PeerSlot, from: SocketAddr) {
        self.with_peer_at(now, slot, |peer, ctx| peer.on_heard_from(ctx, from));
        self.after_input(now);
    }

    /// A connection that [`Event::TcpTry`] asked for is there.
    pub fn handle_tcp_opened(&mut self, now: Instant, slot: PeerSlot, link: TcpLink) {
        if self.with_peer_at(now, slot, |peer, ctx| peer.on_tcp_opened(ctx, link)).is_none() {
            self.out.event(Event::TcpClose { link, at_once: true });
        }
        self.after_input(now);
    }

    /// A direct TCP connection is gone, whoever opened it.
    pub fn handle_tcp_closed(&mut self, now: Instant, link: TcpLink) {
        if let Some(owner) = self.link_owner(link) {
            self.with_peer(now, owner, |peer, ctx| peer.on_tcp_closed(ctx, link));
        }
        self.after_input(now);
    }

    /// The data plane's report of what arrived, to be told to the peer, and the way by which the last of it came.
    pub fn handle_ack_report(&mut self, now: Instant, slot: PeerSlot, via: Option<Via>, report: &AckReport) {
        self.with_peer_at(now, slot, |peer, ctx| peer.acknowledge(ctx, via, report));
    }

    /// The data plane's send key is used up: rekey now.
    pub fn handle_key_used_up(&mut self, now: Instant, slot: PeerSlot) {
        self.with_peer_at(now, slot, |peer, ctx| peer.want_rekey(ctx));
    }

    /// Sends ECHO to a peer; `false` when there is no session to send it in. The answer is [`Event::EchoReply`].
    pub fn echo(&mut self, now: Instant, slot: PeerSlot, id: u64) -> bool {
        self.with_peer_at(now, slot, |peer, ctx| peer.echo(ctx, id)).unwrap_or(false)
    }

    /// A user wants data of both directions to take these paths (protocol §7.9).
    pub fn want_path(&mut self, now: Instant, slot: PeerSlot, wanted: Wanted) {
        // What STUN did not answer last time may be what is wanted now.
        self.hurry_stun(now);
        self.with_peer_at(now, slot, |peer, ctx| peer.want_path(ctx, wanted));
        self.after_input(now);
    }

    /// Says BYE to every peer and LEAVE to every relay; drain the transmits, then close.
    pub fn leave(&mut self, now: Instant) {
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.with_peer(now, id, |peer, ctx| peer.leave(ctx, 0));
        }
        self.leave_relays();
    }

    /// Time passed; call at or after [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<_> = self
            .peers
            .values()
            .filter(|peer| peer.due().is_some_and(|d| d.is_due(now)))
            .map(Peer::id)
            .collect();
        self.being_met = self.peers.values().filter(|peer| peer.is_being_met(now)).count();
        for id in &due {
            self.with_peer(now, *id, |peer, ctx| peer.handle_timeout(ctx));
        }
        if !due.is_empty() || self.peers.len() > MAX_PEERS_KNOWN {
            self.forget_gone(now);
        }
        self.relays_timeout(now);
        self.ask_stun(now);
        self.renew_put_off(now);
        self.after_input(now);
    }

    /// The next thing to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        debug_assert!(self.peers.values().all(|peer| peer.due() == peer.poll_timeout()));
        let peers = self.peers.values().filter_map(Peer::due);
        let relays = self.relays.iter().filter_map(|relay| relay.poll_timeout(self.local.has_udp));
        let secret = self.members.secret_retires_at();
        peers.chain(relays).chain(secret).chain(self.local.poll_timeout()).min_by_key(|deadline| deadline.at)
    }

    /// Packets dropped so far.
    pub const fn drops(&self) -> Drops {
        self.drops
    }

    /// Receiver indices handed out and not given back: a bounded number for each peer.
    pub fn indices_in_use(&self) -> usize {
        self.indices.len()
    }

    /// Every relay, in order.
    pub fn relay_status(&self) -> Vec<RelayStatus> {
        self.relays.iter().enumerate().map(|(at, relay)| relay.status(RelayNo(at))).collect()
    }

    /// Every peer, in the order of its slot.
    pub fn peer_status(&self, now: Instant) -> Vec<PeerStatus> {
        let mut peers: Vec<_> = self.peers.values().map(|peer| peer.status(now)).collect();
        peers.sort_by_key(|peer| peer.slot);
        peers
    }

    /// The peer of that slot.
    pub fn status_of(&self, now: Instant, slot: PeerSlot) -> Option<PeerStatus> {
        Some(self.peers.get(self.slots.get(&slot)?)?.status(now))
    }

    /// Whether any peer is there: a relay says so, or it answers.
    pub fn is_anybody_there(&self) -> bool {
        self.peers.values().any(|peer| peer.state() != PeerState::Offline)
    }

    /// How it stands with a peer.
    pub fn state_of(&self, slot: PeerSlot) -> Option<PeerState> {
        Some(self.peers.get(self.slots.get(&slot)?)?.state())
    }

    /// Who has that slot.
    pub fn id_of(&self, slot: PeerSlot) -> Option<NodeId> {
        self.slots.get(&slot).copied()
    }

    fn packet(&mut self, now: Instant, via: Via, packet: &mut [u8]) -> Result<(), PacketError> {
        if let Via::Channel(contact) = via {
            self.relay_heard(now, contact.relay);
        }
        match PacketKind::of(packet) {
            Some(PacketKind::Transport(PacketType::Control)) => {
                let index = Header::parse(packet).map_err(|_| PacketError::Kind)?.receiver;
                let owner = self.indices.owner(index).ok_or(PacketError::UnknownIndex)?;
                // Its own channel, or a relay could move a peer to another's. (An address belongs to nobody.)
                if let Via::Channel(contact) | Via::RelayUdp(contact) = via
                    && self.channel_owner(contact) != Some(owner)
                {
                    return Err(PacketError::WrongPeer);
                }
                // A connection is the peer's that was heard on it first, whomever it was opened for: where it leads is only what somebody
                // said.
                let opened_for = match via {
                    Via::Tcp(link) => {
                        self.link_owner(link).filter(|other| *other != owner).map(|other| (other, link))
                    }
                    Via::Channel(_) | Via::Udp(_) | Via::RelayUdp(_) => None,
                };
                if opened_for
                    .is_some_and(|(other, link)| self.peers.get(&other).is_some_and(|p| p.keeps_link(link)))
                {
                    return Err(PacketError::WrongPeer);
                }
                let result = self
                    .with_peer(now, owner, |peer, ctx| peer.handle_control(ctx, via, index, packet))
                    .unwrap_or(Err(PacketError::UnknownIndex));
                if let (Ok(()), Some((other, link))) = (&result, opened_for) {
                    self.with_peer(now, other, |peer, _| peer.forget_link(link));
                }
                result
            }
            Some(PacketKind::Init) => {
                // protocol §4.1: first handshakes travel over streams only, so no datagram makes this node answer.
                let Via::Channel(contact) = via else { return Err(PacketError::Kind) };
                let owner = self.channel_owner(contact).ok_or(PacketError::UnknownIndex)?;
                self.with_peer(now, owner, |peer, ctx| peer.handle_init(ctx, contact, packet))
                    .unwrap_or(Err(PacketError::UnknownIndex))
            }
            Some(PacketKind::Response) => {
                let Via::Channel(contact) = via else { return Err(PacketError::Kind) };
                let owner = self.channel_owner(contact).ok_or(PacketError::UnknownIndex)?;
                self.with_peer(now, owner, |peer, ctx| peer.handle_response(ctx, contact, packet))
                    .unwrap_or(Err(PacketError::UnknownIndex))
            }
            Some(PacketKind::Transport(PacketType::Data | PacketType::Fragment)) | None => {
                Err(PacketError::Kind)
            }
        }
    }

    /// Whose connection that is, as far as is known.
    fn link_owner(&self, link: TcpLink) -> Option<NodeId> {
        self.peers.values().find(|peer| peer.has_link(link)).map(Peer::id)
    }

    /// Consequences that concern more than one peer: CONFIRMED and RELEASE to relays, address claims.
    fn after_input(&mut self, now: Instant) {
        self.confirm_contacts();
        self.spread_trust(now);
        self.settle_demand(now);
        self.release_channels();
        self.settle_claims(now);
        self.doubt_mappings(now);
    }

    fn with_peer_at<T>(
        &mut self,
        now: Instant,
        slot: PeerSlot,
        f: impl FnOnce(&mut Peer, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let id = *self.slots.get(&slot)?;
        self.with_peer(now, id, f)
    }

    fn with_peer<T>(
        &mut self,
        now: Instant,
        id: NodeId,
        f: impl FnOnce(&mut Peer, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let peer = self.peers.get_mut(&id)?;
        let mut ctx = Context {
            now,
            unix: self.members.time_of_day(now),
            trust: self.members.trust.as_mut(),
            config: &self.config,
            lanes: &self.lanes,
            hello: &self.hello,
            local: &self.local,
            rng: &mut *self.rng,
            indices: &mut self.indices,
            strangers: &mut self.strangers,
            being_met: &mut self.being_met,
            out: &mut self.out,
        };
        let result = f(peer, &mut ctx);
        peer.reckon();
        Some(result)
    }

    /// The peer `id`, made if it is new.
    fn meet(&mut self, id: NodeId) -> PeerSlot {
        if let Some(peer) = self.peers.get(&id) {
            return peer.slot();
        }
        // The lowest free one, so that the tables of the data plane stay as small as the network.
        let slot = (0..=u32::MAX).map(PeerSlot).find(|slot| !self.slots.contains_key(slot));
        let slot = slot.unwrap_or(PeerSlot(u32::MAX));
        self.peers.insert(id, Peer::new(id, slot, &self.config.node.public()));
        self.slots.insert(slot, id);
        self.out.event(Event::PeerAdded { slot, id });
        slot
    }

    /// Forgets peers that no relay says are there any more: those that never were more than a name that a relay said at once,
    /// others after [`Peer::forgotten_at`], and of more than [`MAX_PEERS_KNOWN`] those that are gone longest. Keys are cheap: without
    /// this, who makes one after the other would fill every table here.
    pub(super) fn forget_gone(&mut self, now: Instant) {
        let mut gone: Vec<_> =
            self.peers.values().filter_map(|p| Some((p.forgotten_at()?, p.id()))).collect();
        gone.sort();
        let too_many = self.peers.len().saturating_sub(MAX_PEERS_KNOWN);
        for (at, (due, id)) in gone.into_iter().enumerate() {
            if due <= now || at < too_many {
                self.with_peer(now, id, |peer, ctx| peer.forget(ctx));
                if let Some(peer) = self.peers.remove(&id) {
                    self.slots.remove(&peer.slot());
                    self.members.trust.iter_mut().for_each(|trust| trust.part(id));
                    self.out.event(Event::PeerRemoved { slot: peer.slot() });
                }
            }
        }
    }
}
