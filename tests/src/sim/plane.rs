//! The data plane of a simulated node: the real halves of the real sessions, driven by an endpoint's events in the way the
//! daemon's two threads drive them.
//!
//! Outbound, per peer: a [`SealHalf`], the route, and the bounded queue in which frames wait for a key and a route
//! (protocol §4.7). Inbound, per association: an [`OpenHalf`], found by receiver index.
//!
//! One rule costs frames when it is broken: when an association is replaced while packets of it are unacknowledged, they are
//! sent once more beside the first resend of its successor. The receiver keeps the old one open for a while
//! ([`Event::CloseAssociation`]).

use super::ledger::{FrameId, Ledger};
use shadowmesh_proto::endpoint::event::{Contact, Event, Via};
use shadowmesh_proto::ids::{AssociationId, NodeId, PeerSlot, ReceiverIndex};
use shadowmesh_proto::session::{
    AckMarks, AckReport, ChunkPool, OpenError, OpenHalf, OpenKey, PathSlot, RingLimits, SealError, SealHalf,
};
use shadowmesh_proto::wire::header::Header;
use shadowmesh_proto::wire::relay::ForwardBuilder;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Frames that wait for a key and a route, per peer (protocol §4.7).
const WAITING: usize = 64;

/// What a plane is made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) ring: RingLimits,
    /// Cuts the packets that a key may seal, so that rekeys by count happen.
    pub(super) key_limit: Option<u64>,
}

/// Both directions of all peers.
#[derive(Debug)]
pub(super) struct Plane {
    settings: Settings,
    pool: Arc<ChunkPool>,
    outbound: BTreeMap<PeerSlot, Outbound>,
    inbound: BTreeMap<AssociationKey, Inbound>,
    indices: HashMap<ReceiverIndex, AssociationKey>,
    /// Packets that a ring no longer held when they had to be sent again, of halves that are gone.
    lost_before: u64,
}

type AssociationKey = [u8; 8];

#[derive(Debug)]
struct Outbound {
    id: NodeId,
    half: Option<SealHalf>,
    replaced: Option<SealHalf>,
    marks: Arc<AckMarks>,
    /// The simulated nodes have no UDP yet: data goes by the relay.
    route: Option<Contact>,
    resend: bool,
    waiting: VecDeque<(FrameId, Vec<u8>)>,
}

#[derive(Debug)]
struct Inbound {
    slot: PeerSlot,
    half: OpenHalf,
}

/// What an outbound turn gave.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// FORWARD messages to send, in order.
    pub(super) messages: Vec<Vec<u8>>,
    /// Peers that data was sent to.
    pub(super) sent: Vec<(PeerSlot, Via)>,
    /// Peers whose key is used up.
    pub(super) used_up: Vec<PeerSlot>,
}

impl Plane {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            pool: ChunkPool::new(64 << 20),
            outbound: BTreeMap::new(),
            inbound: BTreeMap::new(),
            indices: HashMap::new(),
            lost_before: 0,
        }
    }

    /// Carries out an event, if it concerns data. Resends and the waiting queue are [`Self::turn`]'s, so that the events
    /// that came with this one are carried out first.
    pub(super) fn apply(&mut self, now: Instant, event: Event, ledger: &mut Ledger) {
        match event {
            Event::PeerAdded { slot, id } => {
                let outbound = Outbound {
                    id,
                    half: None,
                    replaced: None,
                    marks: Arc::new(AckMarks::new()),
                    route: None,
                    resend: false,
                    waiting: VecDeque::new(),
                };
                self.outbound.insert(slot, outbound);
            }
            Event::PeerRemoved { slot } => {
                // It never had a session; what waited for one goes with it.
                for (id, _) in self.outbound.remove(&slot).into_iter().flat_map(|gone| gone.waiting) {
                    ledger.overflowed(id);
                }
            }
            Event::OpenAssociation { slot, association, key } => {
                self.inbound.insert(association.0, Inbound { slot, half: OpenHalf::new() });
                self.install(association, key);
            }
            Event::AddOpenKey { association, key } => self.install(association, key),
            Event::RetireOpenKey { association, index } => {
                if let Some(inbound) = self.inbound.get_mut(&association.0) {
                    inbound.half.retire(index, now);
                }
            }
            Event::CloseAssociation { association } => {
                self.inbound.remove(&association.0);
                self.indices.retain(|_, owner| *owner != association.0);
            }
            Event::StartAssociation { slot, key, .. } => {
                let ring = self.settings.ring;
                let key = match self.settings.key_limit {
                    Some(limit) => key.with_limit(limit),
                    None => key,
                };
                if let Some(outbound) = self.outbound.get_mut(&slot) {
                    outbound.marks = Arc::new(AckMarks::new());
                    let mut half = SealHalf::new(ring, Arc::clone(&self.pool), Arc::clone(&outbound.marks));
                    half.install(now, key);
                    if let Some(old) = outbound.half.replace(half) {
                        self.lost_before += old.stats().ring.lost;
                        outbound.replaced = Some(old);
                    }
                }
            }
            Event::AddSealKey { slot, key } => {
                let key = match self.settings.key_limit {
                    Some(limit) => key.with_limit(limit),
                    None => key,
                };
                if let Some(half) = self.outbound.get_mut(&slot).and_then(|out| out.half.as_mut()) {
                    half.install(now, key);
                }
            }
            Event::Route { slot, via, .. } => {
                if let Some(outbound) = self.outbound.get_mut(&slot) {
                    outbound.route = via.map(|via| match via {
                        Via::Channel(contact) => contact,
                        Via::Udp(_) | Via::RelayUdp(_) | Via::Tcp(_) => {
                            unreachable!("a direct route without sockets")
                        }
                    });
                }
            }
            Event::Resend { slot, .. } => {
                if let Some(outbound) = self.outbound.get_mut(&slot) {
                    outbound.resend = true;
                }
            }
            Event::Acked { slot, paths, floor } => {
                if let Some(outbound) = self.outbound.get_mut(&slot) {
                    outbound.marks.record(&paths, floor);
                }
            }
            Event::PeerHello { .. }
            | Event::PeerState { .. }
            | Event::EchoReply { .. }
            | Event::AddressChanged { .. }
            | Event::AddressConflict { .. }
            | Event::AddressSettled
            | Event::RelayUp { .. }
            | Event::RelayDead { .. }
            | Event::RelayRefused { .. }
            | Event::RelayBound { .. }
            | Event::Observed { .. }
            | Event::TcpTry { .. }
            | Event::TcpKept { .. }
            | Event::TcpClose { .. }
            | Event::Sources { .. }
            | Event::Patience { .. }
            | Event::Doubt { .. }
            | Event::Moved { .. } => {}
        }
    }

    /// Takes frames for a peer; they leave with the next [`Self::turn`]. The oldest that does not fit is counted and gone.
    pub(super) fn offer(&mut self, slot: PeerSlot, id: FrameId, frame: Vec<u8>, ledger: &mut Ledger) {
        let Some(outbound) = self.outbound.get_mut(&slot) else {
            return ledger.overflowed(id);
        };
        outbound.waiting.push_back((id, frame));
        if outbound.route.is_none() || outbound.half.is_none() {
            while outbound.waiting.len() > WAITING {
                if let Some((oldest, _)) = outbound.waiting.pop_front() {
                    ledger.overflowed(oldest);
                }
            }
        }
    }

    /// Sends what can be sent: resends first, oldest first, then what waits (protocol §5.2).
    pub(super) fn turn(&mut self, now: Instant, ledger: &mut Ledger) -> Turn {
        let mut turn = Turn::default();
        for (slot, outbound) in &mut self.outbound {
            outbound.turn(now, *slot, ledger, &mut turn);
        }
        turn
    }

    /// Opens a data packet; the frame in it and who sent it.
    pub(super) fn open<'a>(
        &mut self,
        now: Instant,
        packet: &'a mut [u8],
    ) -> Result<(PeerSlot, &'a [u8]), OpenError> {
        let index = Header::parse(packet)?.receiver;
        let owner = self.indices.get(&index).ok_or(OpenError::UnknownIndex)?;
        let inbound = self.inbound.get_mut(owner).ok_or(OpenError::UnknownIndex)?;
        let opened = inbound.half.open(now, PathSlot::FIRST, packet)?;
        Ok((inbound.slot, opened.frame))
    }

    /// When the next acknowledgement is due.
    pub(super) fn next_ack(&self) -> Option<Instant> {
        self.inbound.values().filter_map(|inbound| inbound.half.ack_due_at()).min()
    }

    /// The acknowledgements that are due, of whatever association: which one counts, the endpoint knows.
    pub(super) fn due_acks(&mut self, now: Instant) -> Vec<(PeerSlot, AckReport)> {
        let mut due = vec![];
        for inbound in self.inbound.values_mut() {
            if inbound.half.ack_due_at().is_some_and(|at| at <= now) {
                due.push((inbound.slot, inbound.half.report()));
            }
        }
        due
    }

    /// Drops receive keys that are over.
    pub(super) fn expire(&mut self, now: Instant) {
        let indices = &mut self.indices;
        for inbound in self.inbound.values_mut() {
            inbound.half.expire(now, |index| {
                indices.remove(&index);
            });
        }
    }

    /// The peer in a slot.
    pub(super) fn peer(&self, slot: PeerSlot) -> Option<NodeId> {
        self.outbound.get(&slot).map(|outbound| outbound.id)
    }

    /// The slot of a peer.
    pub(super) fn slot(&self, id: &NodeId) -> Option<PeerSlot> {
        self.outbound.iter().find(|(_, outbound)| outbound.id == *id).map(|(slot, _)| *slot)
    }

    /// Packets that were no longer in a ring when they had to be sent again.
    pub(super) fn lost(&self) -> u64 {
        let live = self.outbound.values().filter_map(|outbound| outbound.half.as_ref());
        self.lost_before + live.map(|half| half.stats().ring.lost).sum::<u64>()
    }

    /// Packets sent again.
    pub(super) fn resent(&self) -> u64 {
        let live = self.outbound.values().filter_map(|outbound| outbound.half.as_ref());
        live.map(|half| half.stats().ring.resent).sum()
    }

    /// Associations that can be opened, and receiver indices.
    pub(super) fn census(&self) -> (usize, usize) {
        (self.inbound.len(), self.indices.len())
    }

    fn install(&mut self, association: AssociationId, key: OpenKey) {
        let index = key.index();
        if let Some(inbound) = self.inbound.get_mut(&association.0) {
            if let Some(gone) = inbound.half.install(key) {
                self.indices.remove(&gone);
            }
            self.indices.insert(index, association.0);
        }
    }
}

impl Outbound {
    fn turn(&mut self, now: Instant, slot: PeerSlot, ledger: &mut Ledger, turn: &mut Turn) {
        let (Some(route), Some(half)) = (self.route, self.half.as_mut()) else {
            return;
        };
        half.apply_acks();
        let mut batch = Batch { route, builder: None, turn };
        if std::mem::take(&mut self.resend) {
            if let Some(mut old) = self.replaced.take() {
                let end = old.next_counter();
                for packet in old.resend(now, PathSlot::FIRST, PathSlot::FIRST, 0..end) {
                    batch.push(packet.packet);
                }
            }
            let end = half.next_counter();
            for packet in half.resend(now, PathSlot::FIRST, PathSlot::FIRST, 0..end) {
                batch.push(packet.packet);
            }
        }
        while let Some((_, frame)) = self.waiting.front() {
            match half.seal(now, PathSlot::FIRST, 0, frame) {
                Ok(sealed) => {
                    batch.push(sealed.packet);
                    self.waiting.pop_front();
                }
                // The key's time is over, and with it the session: the frame waits for the next one.
                Err(SealError::NoKey | SealError::Expired | SealError::Exhausted) => break,
                Err(SealError::TooLarge | SealError::NoMetadata) => {
                    if let Some((id, _)) = self.waiting.pop_front() {
                        ledger.overflowed(id);
                    }
                }
            }
        }
        while self.waiting.len() > WAITING {
            if let Some((oldest, _)) = self.waiting.pop_front() {
                ledger.overflowed(oldest);
            }
        }
        if batch.finish() {
            turn.sent.push((slot, Via::Channel(route)));
        }
        if half.wants_rekey() {
            turn.used_up.push(slot);
        }
    }
}

/// Packets of one peer, many to a message.
struct Batch<'a> {
    route: Contact,
    builder: Option<ForwardBuilder>,
    turn: &'a mut Turn,
}

/// Few packets to a message: the relay drops whole messages, and a batch shall not hide that from a test.
const BATCH_BYTES: usize = 8_000;

impl Batch<'_> {
    fn push(&mut self, packet: &[u8]) {
        let channel = self.route.channel;
        let mut builder = self.builder.take().unwrap_or_else(|| ForwardBuilder::new(channel, Vec::new()));
        if builder.len() + packet.len() > BATCH_BYTES || !builder.push(packet) {
            if !builder.is_empty() {
                self.turn.messages.push(builder.finish());
            }
            builder = ForwardBuilder::new(channel, Vec::new());
            // A packet always fits an empty message.
            let _fits = builder.push(packet);
        }
        self.builder = Some(builder);
    }

    /// Whether anything was sent.
    fn finish(self) -> bool {
        match self.builder {
            Some(builder) if !builder.is_empty() => {
                self.turn.messages.push(builder.finish());
                true
            }
            Some(_) | None => false,
        }
    }
}
