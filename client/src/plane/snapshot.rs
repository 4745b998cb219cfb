//! What both threads know of the world: immutable, replaced as a whole by the control task.

use super::queue::StreamHandle;
use crate::access::{AccessDrop, Filter};
use crate::switch::{
    Directory, ForwarderStats, InboundDrop, LoopState, OutboundDrop, OwnSockets, Reach, TableCounts,
};
use shadowmesh_proto::endpoint::event::{Contact, RelayBinding, Via};
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::session::limits::PATH_SLOTS;
use shadowmesh_proto::session::{OpenError, PathSlot};
use shadowmesh_proto::transmit::{RelayNo, TcpLink};
use shadowmesh_proto::wire::relayed::RelayedHeader;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The picture.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Who has which MAC and address, and may do what.
    pub directory: Arc<Directory>,
    /// By slot.
    pub peers: Vec<PeerRoute>,
    /// By relay number; `None` while it is not connected.
    pub streams: Vec<Option<StreamHandle>>,
    /// Direct connections: few, for where UDP does not pass.
    pub links: Vec<(TcpLink, StreamHandle)>,
    /// By relay number; where it forwards datagrams of this node, while it does.
    pub bindings: Vec<Option<RelayBinding>>,
    /// Whose STUN is asked: few.
    pub stun: Arc<[SocketAddr]>,
    /// What the rules let in; `None` while they restrict nobody.
    pub access: Option<Arc<Filter>>,
    /// Whose packets never enter the tunnel.
    pub own: Arc<OwnSockets>,
}

/// A peer in the picture; by default one of which nothing is known.
#[derive(Debug, Clone, Default)]
pub struct PeerRoute {
    /// Where its data goes; `None` while no path is proven.
    pub via: Option<Via>,
    /// The largest packet that goes there whole, bytes; larger ones go in pieces. `None`: every packet does.
    pub room: Option<usize>,
    /// By path number: how often that path was given up, or bound anew. With another number, what was sent on it and is not
    /// acknowledged goes out once more. It is part of the picture and no message, because nothing new may go by a new route
    /// before that.
    pub given_up: [u64; PATH_SLOTS],
    /// The path in doubt, if there is one: what is overtaken there is kept, for it may have to go again.
    pub doubted: Option<PathSlot>,
    /// Where its datagrams may come from; from elsewhere, its data is news.
    pub sources: Arc<[SocketAddr]>,
    /// How long its data on one path may be behind that on another: the round trip of the slowest.
    pub patience: Duration,
    /// Whether a path may come soon, so that frames for it are worth keeping for a moment.
    pub is_expected: bool,
    /// What went to it and came from it.
    pub counters: Arc<PeerCounters>,
}

impl Snapshot {
    /// The route of a peer.
    pub fn peer(&self, slot: PeerSlot) -> Option<&PeerRoute> {
        self.peers.get(usize::try_from(slot.0).ok()?)
    }

    /// The stream that leads there, if it does and is connected.
    pub fn stream(&self, via: Via) -> Option<&StreamHandle> {
        match via {
            Via::Channel(contact) => self.streams.get(contact.relay.0)?.as_ref(),
            Via::Tcp(link) => self.links.iter().find(|(known, _)| *known == link).map(|(_, stream)| stream),
            Via::Udp(_) | Via::RelayUdp(_) => None,
        }
    }

    /// Where the relay of a contact forwards datagrams, if it does.
    pub fn binding(&self, contact: Contact) -> Option<RelayBinding> {
        *self.bindings.get(contact.relay.0)?
    }

    /// The contact that a datagram from `from` with this header came by: the relay's address and this node's tag.
    pub fn contact(&self, from: SocketAddr, header: RelayedHeader) -> Option<Contact> {
        let expected = Some(RelayBinding { remote: from, tag: header.tag });
        let relay = self.bindings.iter().position(|binding| *binding == expected)?;
        Some(Contact { relay: RelayNo(relay), channel: header.channel })
    }
}

/// Traffic of one peer. Each field has one writing thread.
#[derive(Debug, Default)]
pub struct PeerCounters {
    /// Frames sealed for it.
    pub tx_frames: AtomicU64,
    /// Bytes of those frames.
    pub tx_bytes: AtomicU64,
    /// Frames delivered from it: let in, on their way to the device. What that refuses then, set down or short of memory, is in `rx_dropped` as well.
    pub rx_frames: AtomicU64,
    /// Bytes of those frames.
    pub rx_bytes: AtomicU64,
    /// Frames for it that had nowhere to go, no room to wait, or waited too long for a key. Never sealed.
    pub tx_dropped: AtomicU64,
    /// Packets of it that had been opened before.
    pub rx_duplicates: AtomicU64,
    /// Packets delivered after a later one.
    pub rx_reordered: AtomicU64,
    /// How often its data began to come by another path.
    pub rx_moves: AtomicU64,
    /// `rx_duplicates` as it was when the first packet came by the path of the last of those moves.
    pub rx_duplicates_before: AtomicU64,
    /// `rx_reordered` as it was then.
    pub rx_reordered_before: AtomicU64,
    /// One more than the silence at the last of those moves, microseconds; 0 where that says nothing.
    pub rx_gap_us: AtomicU64,
    /// Packets of it that were dropped, for any cause: not opened, not let in by the rules or the switch, or not taken by the device.
    pub rx_dropped: AtomicU64,
    /// Frames for several peers that went to it as well, by cause: in the order of [`Reach::ALL`].
    pub tx_flooded: [AtomicU64; Reach::ALL.len()],
    /// Those that did not, for they were beyond its budget.
    pub tx_over_budget: [AtomicU64; Reach::ALL.len()],
    /// Frames for several that it sent beyond its budget, and that were not let in.
    pub rx_over_budget: [AtomicU64; Reach::ALL.len()],
    /// Frames that it sent and that were not let in, by cause: in the order of [`InboundDrop::ALL`].
    pub rx_refused: [AtomicU64; InboundDrop::ALL.len()],
    /// Packets that were handed to a stream once more after its path was bound anew. Those that had waited for a path and
    /// went out for the first time are not among them.
    pub resent: AtomicU64,
    /// Packets that may be missing at the peer: overwritten in the ring, kept too long without a path, or sealed for an
    /// association that ended, before they were acknowledged.
    pub lost: AtomicU64,
}

impl PeerCounters {
    pub(super) fn count_tx(&self, bytes: usize) {
        self.count_tx_many(1, bytes as u64);
    }

    /// `bytes` are those of all.
    pub(super) fn count_tx_many(&self, frames: u64, bytes: u64) {
        add(&self.tx_frames, frames);
        add(&self.tx_bytes, bytes);
    }

    pub(super) fn count_rx(&self, bytes: usize) {
        add(&self.rx_frames, 1);
        add(&self.rx_bytes, bytes as u64);
    }
}

/// What the threads dropped without anybody to charge it to (protocol §5.3). Each field has one writing thread.
#[derive(Debug, Default)]
pub struct PlaneCounters {
    /// Packets of no kind that is known here.
    pub unknown_kind: AtomicU64,
    /// Data for no key of this node.
    pub unknown_index: AtomicU64,
    /// Data that did not open, by cause: in the order of [`OpenError::ALL`].
    pub not_opened: [AtomicU64; OpenError::ALL.len()],
    /// Packets of this node's own sockets that were on their way into the tunnel which they carry.
    pub own_packets: AtomicU64,
    /// Frames that opened and that the switch did not let in, for whatever cause.
    pub not_let_in: AtomicU64,
    /// Frames that the rules do not let in, by cause: in the order of [`AccessDrop::ALL`].
    pub denied: [AtomicU64; AccessDrop::ALL.len()],
    /// Packets for the control task that it was too busy to take, or of which one peer or stranger sent too many.
    pub control_dropped: AtomicU64,
    /// Datagrams that look like STUN, from where none is asked.
    pub stun_unasked: AtomicU64,
    /// Datagrams that may be answers of STUN and that the control task was too busy to take.
    pub stun_dropped: AtomicU64,
    /// Handshake packets that came by datagram, where they are never answered (protocol §4.1).
    pub handshake_by_datagram: AtomicU64,
    /// Datagrams that claim to come through a relay, from elsewhere than one that bound this node, or without this node's tag.
    pub not_bound: AtomicU64,
    /// Packets of which some pieces came and not all, or pieces that do not fit each other.
    pub fragments_given_up: AtomicU64,
    /// Datagrams that the kernel refused to send; data in them is in its ring.
    pub datagrams_refused: AtomicU64,
    /// What the switch does.
    pub switch: SwitchCounters,
}

/// What the switch does beside passing frames on. Each field has one writing thread.
#[derive(Debug, Default)]
pub struct SwitchCounters {
    /// Frames of our own device that went nowhere, by cause: in the order of [`OutboundDrop::ALL`].
    pub dropped: [AtomicU64; OutboundDrop::ALL.len()],
    /// Questions for the address of a member that were answered here: ARP.
    pub arp_answered: AtomicU64,
    /// The same: neighbour solicitations.
    pub neighbours_answered: AtomicU64,
    /// Stations that are remembered.
    pub stations: AtomicU64,
    /// Groups that are remembered.
    pub groups: AtomicU64,
    /// Stations that changed their place.
    pub moves: AtomicU64,
    /// Times that a station was found to flap.
    pub flaps: AtomicU64,
    /// Moves that were refused because a station is held.
    pub held: AtomicU64,
    /// Loops that were found.
    pub loops: AtomicU64,
    /// What is known of loops now: see [`SwitchCounters::loop_state`].
    loop_state: AtomicU64,
}

const LOOP_BLOCKED: u64 = 1 << 32;
const LOOP_CONTAINED: u64 = 2 << 32;

impl SwitchCounters {
    /// What the outbound thread keeps.
    pub(super) fn note(&self, stats: &ForwarderStats) {
        let TableCounts { moves, flaps, held, .. } = stats.table;
        let counted = [
            (&self.stations, stats.stations as u64),
            (&self.groups, stats.groups as u64),
            (&self.moves, moves),
            (&self.flaps, flaps),
            (&self.held, held),
            (&self.loops, stats.loops),
        ];
        counted.into_iter().for_each(|(counter, count)| counter.store(count, Relaxed));
        let state = match stats.loop_state {
            LoopState::None => 0,
            LoopState::Blocked(PeerSlot(slot)) => LOOP_BLOCKED | u64::from(slot),
            LoopState::Contained(PeerSlot(slot)) => LOOP_CONTAINED | u64::from(slot),
        };
        self.loop_state.store(state, Relaxed);
    }

    /// What is known of loops now.
    pub fn loop_state(&self) -> LoopState {
        let state = self.loop_state.load(Relaxed);
        // The lower half is a slot.
        let slot = PeerSlot(state as u32);
        match state >> 32 << 32 {
            LOOP_BLOCKED => LoopState::Blocked(slot),
            LOOP_CONTAINED => LoopState::Contained(slot),
            _ => LoopState::None,
        }
    }
}

/// Adds one to a counter of several.
pub(super) fn add_at(counters: &[AtomicU64], at: usize) {
    if let Some(counter) = counters.get(at) {
        add(counter, 1);
    }
}

/// Adds without a locked instruction: each counter has one writer.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed) + n, Relaxed);
}
