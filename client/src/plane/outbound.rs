//! The outbound thread: from the TAP into the relay's stream.
//!
//! One turn of its loop: take commands and news of stations; send again what has to be; read up to [`BATCH`] frames, decide,
//! seal, batch; hand the batches over; sleep when there was nothing.
//!
//! A peer without a key keeps up to [`WAITING_FRAMES`] frames for at most [`HOLD`] (protocol §4.7). A peer with a key whose path is
//! being bound anew goes on sealing into its ring for as long, and the ring is sent when a path comes: order is kept because
//! new packets of a peer never overtake those that still wait (`cursor`).

use super::Fact;
use super::memory;
use super::snapshot::{PeerRoute, Snapshot, add};
use super::wake::Waker;
use crate::device::{Device, DeviceFault, VnetHeader};
use crate::switch::{Forwarder, Learn, Limits, Verdict};
use arc_swap::ArcSwap;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shadowmesh_proto::endpoint::event::Contact;
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::session::{AckMarks, ChunkPool, PathSlot, RingLimits, SealError, SealHalf, SealKey};
use shadowmesh_proto::wire::relay::ForwardBuilder;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Frames read before commands are looked at again and batches are handed over.
const BATCH: usize = 64;
/// Frames that wait for a peer's first key (protocol §4.7): a burst of ARP and the first segments of a few connections.
const WAITING_FRAMES: usize = 64;
/// How long frames are kept for a peer without a path. Longer, and what arrives would be news of the past.
const HOLD: Duration = Duration::from_secs(5);
/// `DataSent` at most this often per peer: fine enough for the suspicion rule (protocol §7.2).
const TELL_EVERY: Duration = Duration::from_millis(100);
/// With unacknowledged packets in a ring the thread looks for acks this often ...
const ACK_LOOK: Duration = Duration::from_millis(100);
/// ... until nothing was sent for this long: what is not acknowledged by then never will be, short of a new path.
const QUIET: Duration = Duration::from_secs(2);
/// The relay path's number. There is one path until there are direct ones.
const PATH: PathSlot = PathSlot::FIRST;
/// Room for the largest frame, its virtio header, and one byte by which a frame that was cut is known.
const BUFFER: usize = 65_536 + VnetHeader::LEN;
/// A buffer for a message of this size is taken at first; it grows to what the traffic needs.
const MESSAGE_HINT: usize = 4096;

/// What the control task tells the outbound thread.
#[derive(Debug)]
pub enum OutboundCommand {
    /// A new association: counters and ring start anew.
    Start {
        /// The peer.
        slot: PeerSlot,
        /// Its first key.
        key: SealKey,
        /// Where the control task records acknowledgements.
        marks: Arc<AckMarks>,
    },
    /// The next key of the association.
    AddKey {
        /// The peer.
        slot: PeerSlot,
        /// The key.
        key: SealKey,
    },
    /// The path was bound anew: send again what is not acknowledged.
    Resend(PeerSlot),
    /// Forget what was learned behind the peer.
    Forget(PeerSlot),
    /// End.
    Stop,
}

/// What the thread is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) device: Device,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) commands: Receiver<OutboundCommand>,
    pub(super) learns: Receiver<Learn>,
    pub(super) facts: mpsc::Sender<Fact>,
    pub(super) wake: Waker,
    pub(super) limits: Limits,
    pub(super) pool: Arc<ChunkPool>,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Outbound {
    device: Device,
    snapshot: Arc<ArcSwap<Snapshot>>,
    commands: Receiver<OutboundCommand>,
    learns: Receiver<Learn>,
    facts: mpsc::Sender<Fact>,
    wake: Waker,
    forwarder: Forwarder,
    pool: Arc<ChunkPool>,
    peers: Vec<Peer>,
    batches: Batches,
    last_sent: Option<Instant>,
}

#[derive(Debug, Default)]
struct Peer {
    half: Option<SealHalf>,
    /// The next counter to hand to the stream: below it everything was handed over at least once.
    cursor: u64,
    /// Metadata byte and frame each, and when the oldest came.
    waiting: VecDeque<Vec<u8>>,
    /// Since when there is no path, while frames are kept for one.
    pathless: Option<Instant>,
    told: Option<Instant>,
    lost_seen: u64,
}

/// Messages being filled, one per contact.
#[derive(Debug, Default)]
struct Batches {
    open: Vec<(Contact, ForwardBuilder)>,
}

impl Batches {
    /// Adds a packet; whether there was a stream to add it for.
    fn push(&mut self, snapshot: &Snapshot, contact: Contact, packet: &[u8]) -> bool {
        if snapshot.stream(contact).is_none() {
            return false;
        }
        let at = self.open.iter().position(|(open, _)| *open == contact).unwrap_or_else(|| {
            self.open.push((contact, new_builder(contact)));
            self.open.len() - 1
        });
        let Some((_, builder)) = self.open.get_mut(at) else { return false };
        if builder.push(packet) {
            return true;
        }
        let full = std::mem::replace(builder, new_builder(contact));
        let fits = builder.push(packet);
        hand_over(snapshot, contact, full);
        fits
    }

    fn flush(&mut self, snapshot: &Snapshot) {
        for (contact, builder) in self.open.drain(..) {
            hand_over(snapshot, contact, builder);
        }
    }
}

fn new_builder(contact: Contact) -> ForwardBuilder {
    ForwardBuilder::new(contact.channel, Vec::with_capacity(MESSAGE_HINT))
}

fn hand_over(snapshot: &Snapshot, contact: Contact, builder: ForwardBuilder) {
    if let Some(stream) = snapshot.stream(contact)
        && !builder.is_empty()
    {
        stream.push(builder.finish());
    }
}

/// What a turn found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Frames were read, and there may be more.
    Busy,
    /// The TAP is empty.
    Idle,
    /// A stream is full: the TAP is not to be read.
    Full,
}

impl Outbound {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            device: parts.device,
            snapshot: parts.snapshot,
            commands: parts.commands,
            learns: parts.learns,
            facts: parts.facts,
            wake: parts.wake,
            forwarder: Forwarder::new(parts.limits),
            pool: parts.pool,
            peers: Vec::new(),
            batches: Batches::default(),
            last_sent: None,
        }
    }

    /// Runs until told to stop or the device is gone.
    pub(super) fn run(mut self) {
        // One byte before the virtio header is never needed: the metadata byte overwrites the header's last one.
        let mut buffer = vec![0; BUFFER].into_boxed_slice();
        loop {
            let now = Instant::now();
            if !self.take_commands(now) {
                return;
            }
            let turn = match self.turn(now, &mut buffer) {
                Ok(turn) => turn,
                Err(fault) => {
                    let _ = self.facts.blocking_send(Fact::DeviceLost(fault.to_string()));
                    return;
                }
            };
            if turn != Turn::Busy {
                self.sleep(now, turn);
            }
        }
    }

    fn turn(&mut self, now: Instant, buffer: &mut [u8]) -> Result<Turn, DeviceFault> {
        let snapshot = self.snapshot.load_full();
        self.pump_all(now, &snapshot);
        let mut turn = Turn::Busy;
        if snapshot.streams.iter().flatten().any(|stream| !stream.has_room()) {
            turn = Turn::Full;
        } else {
            for _ in 0..BATCH {
                let Some(incoming) = self.device.read_frame(buffer)? else {
                    turn = Turn::Idle;
                    break;
                };
                let len = incoming.frame.len();
                let verdict = self.forwarder.forward(&snapshot.owners, incoming.frame, now);
                // protocol §5: the metadata byte goes before the frame; complete frames have none of its bits.
                let Some(plaintext) = buffer.get_mut(VnetHeader::LEN - 1..VnetHeader::LEN + len) else {
                    continue;
                };
                if let Some(meta) = plaintext.first_mut() {
                    *meta = 0;
                }
                self.dispatch(now, &snapshot, verdict, plaintext);
            }
        }
        self.batches.flush(&snapshot);
        Ok(turn)
    }

    fn dispatch(&mut self, now: Instant, snapshot: &Snapshot, verdict: Verdict, plaintext: &[u8]) {
        match verdict {
            Verdict::Unicast(slot) => {
                if let Some(route) = snapshot.peer(slot) {
                    self.send(now, snapshot, slot, route, plaintext);
                }
            }
            Verdict::Flood(_) => {
                for (at, route) in snapshot.peers.iter().enumerate() {
                    if let Ok(at) = u32::try_from(at) {
                        self.send(now, snapshot, PeerSlot(at), route, plaintext);
                    }
                }
            }
            Verdict::Drop(cause) => tracing::trace!(?cause, "a frame goes nowhere"),
        }
    }

    fn send(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        slot: PeerSlot,
        route: &PeerRoute,
        plaintext: &[u8],
    ) {
        let Some(peer) = peer_at(&mut self.peers, slot) else { return };
        match (route.contact, peer.pathless) {
            (Some(_), _) => peer.pathless = None,
            (None, None) => peer.pathless = Some(now),
            (None, Some(_)) => {}
        }
        let held = peer.pathless.is_none_or(|since| now.saturating_duration_since(since) < HOLD);
        // Offline and long gone: frames for it are not kept.
        if route.contact.is_none() && !(held && (route.is_expected || peer.half.is_some())) {
            add(&route.counters.tx_dropped, 1);
            peer.waiting.clear();
            return;
        }
        let Some(half) = &mut peer.half else {
            return peer.keep(route, plaintext);
        };
        match half.seal_prefixed(now, PATH, plaintext) {
            Ok(sealed) => {
                route.counters.count_tx(plaintext.len() - 1);
                if let Some(contact) = route.contact
                    && peer.cursor == sealed.counter
                    && self.batches.push(snapshot, contact, sealed.packet)
                {
                    peer.cursor = sealed.counter + 1;
                    self.last_sent = Some(now);
                    if peer.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY) {
                        peer.told = Some(now);
                        let _ = self.facts.try_send(Fact::DataSent(slot));
                    }
                }
                if half.wants_rekey() {
                    let _ = self.facts.try_send(Fact::KeyUsedUp(slot));
                }
                let lost = half.stats().ring.lost;
                add(&route.counters.lost, lost.saturating_sub(peer.lost_seen));
                peer.lost_seen = lost;
            }
            Err(SealError::NoKey | SealError::Expired | SealError::Exhausted) => {
                let _ = self.facts.try_send(Fact::KeyUsedUp(slot));
                peer.keep(route, plaintext);
            }
            Err(error @ (SealError::TooLarge | SealError::NoMetadata)) => {
                add(&route.counters.tx_dropped, 1);
                tracing::debug!(%error, bytes = plaintext.len(), "a frame was not sealed");
            }
        }
    }

    /// Hands over what waits in rings: after a path was bound anew, and behind that what was sealed since.
    fn pump_all(&mut self, now: Instant, snapshot: &Snapshot) {
        for (peer, route) in self.peers.iter_mut().zip(&snapshot.peers) {
            let (Some(half), Some(contact)) = (&mut peer.half, route.contact) else { continue };
            let (begin, end) = (peer.cursor, half.next_counter());
            if begin >= end {
                continue;
            }
            let Some(stream) = snapshot.stream(contact) else { continue };
            peer.pathless = None;
            let mut cursor = end;
            for sealed in half.resend(now, PATH, PATH, begin..end) {
                if !stream.has_room() {
                    cursor = sealed.counter;
                    break;
                }
                add(&route.counters.resent, 1);
                if !self.batches.push(snapshot, contact, sealed.packet) {
                    cursor = sealed.counter;
                    break;
                }
            }
            peer.cursor = cursor;
            self.last_sent = Some(now);
        }
    }

    /// `false` to end.
    fn take_commands(&mut self, now: Instant) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(OutboundCommand::Start { slot, key, marks }) => self.start(now, slot, key, marks),
                Ok(OutboundCommand::AddKey { slot, key }) => {
                    if let Some(peer) = peer_at(&mut self.peers, slot) {
                        if let Some(half) = &mut peer.half {
                            half.install(now, key);
                        }
                        peer.seal_waiting(now);
                    }
                }
                Ok(OutboundCommand::Resend(slot)) => {
                    if let Some(peer) = peer_at(&mut self.peers, slot) {
                        peer.cursor = 0;
                    }
                }
                Ok(OutboundCommand::Forget(slot)) => self.forwarder.forget(slot),
                Ok(OutboundCommand::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => break,
            }
        }
        if let Ok(first) = self.learns.try_recv() {
            let snapshot = self.snapshot.load();
            for learn in std::iter::once(first).chain(self.learns.try_iter()) {
                self.forwarder.learn(&snapshot.owners, learn, now);
            }
        }
        true
    }

    fn start(&mut self, now: Instant, slot: PeerSlot, key: SealKey, marks: Arc<AckMarks>) {
        let Some(peer) = peer_at(&mut self.peers, slot) else { return };
        let mut half = SealHalf::new(RingLimits::default(), Arc::clone(&self.pool), marks);
        half.install(now, key);
        peer.half = Some(half);
        peer.cursor = 0;
        peer.lost_seen = 0;
        peer.pathless = None;
        peer.seal_waiting(now);
    }

    /// Sleeps until the TAP (unless a stream is full) or the eventfd has something.
    fn sleep(&mut self, now: Instant, turn: Turn) {
        self.wake.about_to_sleep();
        let unacknowledged = self.look_for_acks();
        let quiet = self.last_sent.is_none_or(|sent| now.saturating_duration_since(sent) >= QUIET);
        if quiet && self.last_sent.take().is_some() {
            self.peers.iter_mut().filter_map(|peer| peer.half.as_mut()).for_each(SealHalf::shrink);
            memory::trim();
        }
        let timeout = (unacknowledged && !quiet)
            .then(|| Timespec { tv_sec: 0, tv_nsec: i64::from(ACK_LOOK.subsec_nanos()) });
        let (device, wake) = (self.device.clone(), self.wake.clone());
        let mut fds = [
            PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN),
        ];
        let watched = if turn == Turn::Full { &mut fds[..1] } else { &mut fds[..] };
        // Interrupted or not, the loop looks at everything again.
        let _ = poll(watched, timeout.as_ref());
        self.wake.awake();
    }

    /// Takes in acknowledgements; whether packets remain without.
    fn look_for_acks(&mut self) -> bool {
        let halves = self.peers.iter_mut().filter_map(|peer| peer.half.as_mut());
        halves.fold(false, |any, half| {
            half.apply_acks();
            any || half.outstanding(PATH) > 0
        })
    }
}

impl Peer {
    /// Keeps a frame until there is a key.
    fn keep(&mut self, route: &PeerRoute, plaintext: &[u8]) {
        if self.waiting.len() >= WAITING_FRAMES {
            self.waiting.pop_front();
            add(&route.counters.tx_dropped, 1);
        }
        self.waiting.push_back(plaintext.to_vec());
    }

    /// Seals what waited; it is handed over behind the cursor.
    fn seal_waiting(&mut self, now: Instant) {
        let Some(half) = &mut self.half else { return };
        while let Some(plaintext) = self.waiting.pop_front() {
            if half.seal_prefixed(now, PATH, &plaintext).is_err() {
                self.waiting.push_front(plaintext);
                return;
            }
        }
    }
}

/// The peer of `slot`, made when it is new. `None` only where a slot is no index on this machine.
fn peer_at(peers: &mut Vec<Peer>, slot: PeerSlot) -> Option<&mut Peer> {
    let at = usize::try_from(slot.0).ok()?;
    if at >= peers.len() {
        peers.resize_with(at + 1, Peer::default);
    }
    peers.get_mut(at)
}
