//! The outbound half: from the TAP into the relay's stream or the UDP socket.
//!
//! One turn of its loop: take commands and news of the switch's other half; hand over what waits in rings; read up to
//! [`BATCH`] frames, decide, seal, batch (or answer, into the TAP); hand the batches over; sleep when there was nothing.
//!
//! A superframe (TCP or UDP that the kernel left whole) is one frame to the switch. Each peer that gets it gets its segments, cut to what
//! goes to that peer whole (protocol §7.11). Where only one does, and by datagram, nothing of it is copied but by the cipher and the kernel: it
//! is cut where it lies ([`Cutting`]), sealed into the ring, and sent from there, as many segments with a call as one takes. Its checksums are
//! left to whoever needs them, if the peer said that it completes them.
//!
//! A peer without a key keeps up to [`peer::WAITING_FRAMES`] frames for at most [`HOLD`] (protocol §4.7). A peer with a key whose
//! path is being bound anew goes on sealing into its ring, and what is not older than [`KEEP`] is sent when a path comes.
//! A peer that stays away for longer than [`HOLD`] is forgotten as a place where stations are.
//!
//! A peer whose session is to end because nobody uses it is asked about first: nothing more is sealed from when the answer is that it has
//! everything, and frames for it wait, as without a key, and are told ([`Fact::Wanted`]) until the next session begins or this one goes
//! on (protocol §4.10); as many as [`peer::RESTING_FRAMES`]. However long it sleeps, it stays known as a place where stations are.
//!
//! What is for who is behind a full stream waits here, unsealed, a queue for each flow, and is dropped when it waits for too long
//! ([`flows`]): the TAP is read all the same, for a kernel's senders do not notice how much waits in it. Where several peers wait for one
//! stream they take turns. How slowly a relay, or a peer, reads is for it to choose. While the socket has no room, and while as much as may
//! waits for streams that are not known to be slow, the TAP is not read.
//!
//! While whoever is sent to is in doubt and a ring is nearly full, the TAP is not read: its queue fills and its senders slow down, where
//! the ring would overwrite what may have to go again. Not so while anybody else is sent to, and for [`HELD_BACK_MOST`] of each
//! [`HELD_BACK_EACH`] at most: one peer that acknowledges nothing does not hold up the others.

mod association;
mod backlog;
mod batches;
mod datagrams;
mod flows;
mod peer;
mod queues;
mod verdicts;
mod window;

use super::Fact;
use super::memory;
use super::snapshot::{PlaneCounters, Snapshot, add};
use super::wake::Waker;
use crate::device::offload::{Cutting, Superframe, complete, is_dhcp, partial_header};
use crate::device::{Device, DeviceFault, Segmentation, VnetHeader};
use crate::switch::{Forwarder, Limits, LocalNews, LoopState, News};
use crate::transport::udp::DatagramSocket;
use arc_swap::ArcSwap;
use association::Association;
use batches::{Batches, Way};
use datagrams::Datagrams;
use peer::{Context, Peer, Sent, Served};
#[cfg(test)]
pub(super) use peer::{RESTING_FRAMES, WAITING_BYTES};
use queues::Others;
#[cfg(test)]
pub(super) use queues::Queue;
pub(super) use queues::Reading;
use rustix::event::{PollFd, PollFlags};
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::session::open::META_NEEDS_CHECKSUM;
use shadowmesh_proto::session::{AckMarks, ChunkPool, RingLimits, SealHalf, SealKey};
use shadowmesh_proto::wire::header::DATA_OVERHEAD;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Frames, or segments of superframes, read before commands are looked at again and batches are handed over.
const BATCH: usize = 64;
/// How long frames wait for a first key, and after which absence of a path a peer's stations are forgotten.
pub(super) const HOLD: Duration = Duration::from_secs(5);
/// How long packets in the ring are worth sending, if the ring is large enough to keep them: half of the longest that a segment may live
/// in a network (RFC 9293 §3.4.1), and less than its key lives (protocol §4.8).
pub(super) const KEEP: Duration = Duration::from_secs(60);
/// The TAP is not read while this part of the ring of a peer in doubt is all that is left: a MiB, which is a turn's jumbo frames, or 2,048 packets,
/// which is as many as a superframe may stand for.
const DOUBT_SHARE: usize = 16;
/// Nor longer than this: the time in which an honest doubt is settled where a ring fills at all (some hundred Mbit/s) ...
const HELD_BACK_MOST: Duration = Duration::from_millis(500);
/// ... in this: nobody can tell from a doubt whether the peer is away or plays dead.
const HELD_BACK_EACH: Duration = Duration::from_secs(10);
/// `DataSent` at most this often per peer: fine enough for the suspicion rule (protocol §7.2).
const TELL_EVERY: Duration = Duration::from_millis(100);
/// With unacknowledged packets in a ring the thread looks for acks this often ...
const ACK_LOOK: Duration = Duration::from_millis(100);
/// ... until nothing was sent for this long: what is not acknowledged by then never will be, short of a new path.
const QUIET: Duration = Duration::from_secs(2);
/// Room for the largest superframe (an IP packet of 65,535 bytes, Ethernet's header, two tags), its virtio header, and one byte by which
/// one that was cut is known.
pub(super) const BUFFER: usize = 65_535 + 14 + 8 + VnetHeader::LEN + 1;
/// A device that refuses to be read is tried again after this ...
const FAULT_PAUSE: Duration = Duration::from_millis(50);
/// ... and given up after so many refusals in a row: five seconds of what might have been a lack of memory.
const FAULTS: u32 = 100;

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
    /// Seal nothing more, if the peer has everything: the answer is [`Fact::Stopped`] with the number.
    StopSealing {
        /// The peer.
        slot: PeerSlot,
        /// Names the question.
        number: u64,
    },
    /// Seal again.
    ResumeSealing(PeerSlot),
    /// The association is over, and nothing of it is outstanding. What is known of the peer stays.
    End(PeerSlot),
    /// The peer is forgotten: its slot may be given to another.
    Remove(PeerSlot),
    /// End.
    Stop,
}

/// What the thread is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) device: Device,
    pub(super) socket: DatagramSocket,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) counters: Arc<PlaneCounters>,
    pub(super) commands: Receiver<OutboundCommand>,
    pub(super) news: Receiver<News>,
    pub(super) local_news: SyncSender<LocalNews>,
    /// Whether a loop is contained here: for the inbound thread.
    pub(super) is_blocked: Arc<AtomicBool>,
    pub(super) facts: mpsc::Sender<Fact>,
    pub(super) lost: mpsc::Sender<DeviceFault>,
    pub(super) wake: Waker,
    pub(super) limits: Limits,
    /// Drawn at random, for the switch.
    pub(super) secret: [u8; 32],
    pub(super) pool: Arc<ChunkPool>,
    pub(super) ring: RingLimits,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Outbound {
    device: Device,
    published: Arc<ArcSwap<Snapshot>>,
    /// The picture in use, to see when another one is published.
    snapshot: Arc<Snapshot>,
    counters: Arc<PlaneCounters>,
    commands: Receiver<OutboundCommand>,
    news: Receiver<News>,
    local_news: SyncSender<LocalNews>,
    is_blocked: Arc<AtomicBool>,
    /// What was told last of loops.
    loop_state: LoopState,
    facts: mpsc::Sender<Fact>,
    lost: mpsc::Sender<DeviceFault>,
    wake: Waker,
    forwarder: Forwarder,
    pool: Arc<ChunkPool>,
    ring: RingLimits,
    peers: Vec<Peer>,
    batches: Batches,
    /// Memory for one segment: metadata byte and frame.
    segment: Vec<u8>,
    waiting_bytes: usize,
    /// Peers whose frames wait for a stream to have room, in the order of their turns.
    queued: VecDeque<PeerSlot>,
    /// Peers with packets that are not acknowledged, as far as is known.
    active: Vec<PeerSlot>,
    /// Peers that were sent something in this turn, which is to be told when it has left.
    untold: Vec<PeerSlot>,
    /// Whether some ring may hold what was not handed over.
    is_behind: bool,
    /// When some ring has something to hand over by itself.
    pump_due: Option<Instant>,
    last_sent: Option<Instant>,
    faults: Faults,
    /// While the TAP is not read because of a doubt: for whom, and what it had dropped when that began.
    held_back: Option<(PeerSlot, u64)>,
    /// When that last began.
    held_back_at: Option<Instant>,
    /// Whether a frame ended its sleep, and nothing else is known to have come.
    is_called: bool,
    /// Who else runs it, where it has several queues.
    others: Others,
}

/// What a turn found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Frames were read, and there may be more.
    Busy,
    /// The TAP is empty.
    Idle,
    /// Nothing has room: the TAP is not to be read.
    Full,
    /// The TAP refused.
    Refused,
}

/// A frame of the device on its way to peers.
#[derive(Debug)]
struct Outgoing<'b> {
    /// What the kernel left undone.
    header: VnetHeader,
    /// A byte of room for the metadata, and the frame.
    plaintext: &'b mut [u8],
}

impl Outgoing<'_> {
    fn frame(&self) -> &[u8] {
        self.plaintext.get(1..).unwrap_or_default()
    }

    /// Where it stands for several. `header` was found to fit when the frame was read.
    fn superframe(&self) -> Option<Superframe<'_>> {
        Superframe::new(&self.header, self.frame()).ok()
    }

    /// How many it stands for.
    fn count(&self) -> usize {
        self.superframe().map_or(1, |superframe| superframe.count())
    }

    /// Bytes of all that it stands for: each has the headers.
    fn bytes(&self) -> usize {
        self.superframe().map_or_else(|| self.frame().len(), |superframe| superframe.bytes())
    }

    /// Has its checksum made, if that was left out of a single frame.
    fn complete(&mut self) {
        if self.header.segmentation() == Segmentation::None && self.header.needs_checksum() {
            self.plaintext.get_mut(1..).into_iter().for_each(complete);
            self.header = VnetHeader::COMPLETE;
        }
    }

    /// Writes its metadata byte (protocol §5).
    fn mark(&mut self) {
        if let Some(meta) = self.plaintext.first_mut() {
            *meta = if self.header.needs_checksum() { META_NEEDS_CHECKSUM } else { 0 };
        }
    }
}

/// Refusals of a device in a row.
#[derive(Debug, Default)]
struct Faults(u32);

impl Faults {
    /// A refusal that may pass is waited for; one that stays, or a device that is gone, is the end.
    fn on_fault(&mut self, fault: DeviceFault) -> Result<Turn, DeviceFault> {
        self.0 += 1;
        if matches!(fault, DeviceFault::Gone) || self.0 >= FAULTS {
            return Err(fault);
        }
        tracing::debug!(%fault, "the device refused to be read");
        Ok(Turn::Refused)
    }
}

/// What is known when there is nothing to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// When there is something by itself.
    pub(super) due: Option<Instant>,
    /// A burst is over.
    is_quiet: bool,
    /// A frame ends it.
    reads: bool,
}

impl Outbound {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            device: parts.device,
            // Another one than the published, so that this one is looked at as well.
            snapshot: Arc::new(Snapshot::clone(&parts.snapshot.load())),
            published: parts.snapshot,
            counters: Arc::clone(&parts.counters),
            commands: parts.commands,
            news: parts.news,
            local_news: parts.local_news,
            is_blocked: parts.is_blocked,
            loop_state: LoopState::None,
            facts: parts.facts,
            lost: parts.lost,
            wake: parts.wake,
            forwarder: Forwarder::new(parts.limits, parts.secret),
            pool: parts.pool,
            ring: parts.ring,
            peers: Vec::new(),
            batches: Batches::new(Datagrams::new(parts.socket, parts.counters)),
            segment: Vec::new(),
            waiting_bytes: 0,
            queued: VecDeque::new(),
            active: Vec::new(),
            untold: Vec::new(),
            is_behind: false,
            pump_due: None,
            last_sent: None,
            faults: Faults::default(),
            held_back: None,
            held_back_at: None,
            is_called: false,
            others: Others::default(),
        }
    }

    /// Sends the frame that it was called for: how long to rest after that, if it was called and nothing else is to be done. A frame after a while is
    /// mostly alone, and somebody waits for it: it need not wait for a look at anything else.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn answer_call(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
    ) -> Result<Option<Rest>, DeviceFault> {
        if !std::mem::take(&mut self.is_called) || self.is_behind || !self.queued.is_empty() {
            return Ok(None);
        }
        let snapshot = Arc::clone(&self.snapshot);
        if self.is_held_back(now, &snapshot) || self.is_full(now, &snapshot) {
            return Ok(None);
        }
        // It may be the answer to the first frame of a station, of which nothing else is known.
        self.take_news(now);
        let turn = self.read(now, &snapshot, buffer, 1)?;
        self.speak(now, &snapshot)?;
        self.end_turn(now, &snapshot);
        let is_done = turn != Turn::Refused && !self.is_behind && self.queued.is_empty();
        // Whether there is another frame, the device says.
        Ok((is_done && self.batches.datagrams.has_room()).then(|| self.rest(now, Turn::Idle)))
    }

    /// Takes commands and does one turn: how long to rest after it, if there is nothing to do. `Break` to end.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn step(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
    ) -> Result<ControlFlow<(), Option<Rest>>, DeviceFault> {
        self.is_called = false;
        if !self.take_commands(now) {
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(match self.turn(now, buffer)? {
            Turn::Busy => None,
            turn @ (Turn::Idle | Turn::Full | Turn::Refused) => Some(self.rest(now, turn)),
        }))
    }

    /// `false` to end.
    fn take_commands(&mut self, now: Instant) -> bool {
        // The picture before the commands, and used after them: a binding that comes with a new association is seen only when
        // the command that began the association is seen as well.
        let published = self.published.load_full();
        loop {
            match self.commands.try_recv() {
                Ok(OutboundCommand::Start { slot, key, marks }) => {
                    let half = SealHalf::new(self.ring, Arc::clone(&self.pool), marks);
                    if let Some(peer) = peer_at(&mut self.peers, slot) {
                        let counters = self.snapshot.peer(slot).map(|route| &*route.counters);
                        let path = peer.path();
                        peer.start(Association::new(now, path, half, key), counters);
                    }
                }
                Ok(OutboundCommand::AddKey { slot, key }) => {
                    if let Some(peer) = peer_at(&mut self.peers, slot) {
                        peer.add_key(now, key);
                    }
                }
                Ok(OutboundCommand::StopSealing { slot, number }) => {
                    let peer = peer_at(&mut self.peers, slot);
                    let is_empty = peer.is_some_and(|peer| peer.stop_sealing(now));
                    // Lost: whoever asked asks again, or has it go on.
                    let _ = self.facts.try_send(Fact::Stopped(slot, number, is_empty));
                }
                Ok(OutboundCommand::ResumeSealing(slot)) => {
                    if let Some(peer) = peer_at(&mut self.peers, slot) {
                        peer.resume_sealing();
                    }
                }
                Ok(OutboundCommand::End(slot)) => {
                    let counters = self.snapshot.peer(slot).map(|route| &*route.counters);
                    if let Some(peer) = peer_at(&mut self.peers, slot) {
                        peer.end(counters);
                    }
                }
                Ok(OutboundCommand::Remove(slot)) => {
                    // The picture before it: the next one may give the slot to another.
                    let counters = self.snapshot.peer(slot).map(|route| &*route.counters);
                    if let Some(peer) = peer_at(&mut self.peers, slot) {
                        peer.clear(counters, &mut self.waiting_bytes);
                    }
                    self.forwarder.forget(slot, now);
                }
                Ok(OutboundCommand::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => break,
            }
            self.is_behind = true;
        }
        if !Arc::ptr_eq(&published, &self.snapshot) {
            self.snapshot = published;
            self.look_at_routes(now);
        }
        self.take_news(now);
        true
    }

    /// Takes in what the switch's other half learned.
    fn take_news(&mut self, now: Instant) {
        while let Ok(news) = self.news.try_recv() {
            self.forwarder.handle_news(&self.snapshot.directory, news, now);
        }
    }

    /// Takes in a new picture.
    fn look_at_routes(&mut self, now: Instant) {
        self.is_behind = true;
        // What was sealed for the ways before leaves by them, before they are ended.
        self.others.hand_in(&mut self.batches.datagrams);
        let snapshot = Arc::clone(&self.snapshot);
        for (slot, route) in slots(&snapshot.peers) {
            let Some(peer) = peer_at(&mut self.peers, slot) else { continue };
            let usable = route.via.filter(|via| match via {
                Via::Channel(_) | Via::Tcp(_) => snapshot.stream(*via).is_some(),
                Via::Udp(_) => true,
                Via::RelayUdp(contact) => snapshot.binding(*contact).is_some(),
            });
            let (batches, waiting_bytes) = (&mut self.batches, &mut self.waiting_bytes);
            peer.on_route(
                &mut Context { now, snapshot: &snapshot, batches, waiting_bytes },
                usable.map(|via| Way { via, room: route.room }),
                route,
            );
        }
    }

    fn turn(&mut self, now: Instant, buffer: &mut [u8]) -> Result<Turn, DeviceFault> {
        let snapshot = Arc::clone(&self.snapshot);
        let turn = if self.begin_turn(now, &snapshot)? {
            let turn = self.read(now, &snapshot, buffer, BATCH)?;
            self.speak(now, &snapshot)?;
            turn
        } else {
            Turn::Full
        };
        self.end_turn(now, &snapshot);
        Ok(turn)
    }

    /// What comes before the frames of a turn; whether those may be read.
    fn begin_turn(&mut self, now: Instant, snapshot: &Snapshot) -> Result<bool, DeviceFault> {
        if !self.batches.datagrams.has_room() {
            self.batches.datagrams.flush();
        }
        self.pump(now, snapshot);
        self.serve(now, snapshot);
        self.speak(now, snapshot)?;
        Ok(!self.is_held_back(now, snapshot) && !self.is_full(now, snapshot))
    }

    /// Hands over what was sealed, and tells of it.
    fn end_turn(&mut self, now: Instant, snapshot: &Snapshot) {
        self.batches.flush(snapshot);
        for slot in self.untold.drain(..) {
            if let Some(peer) = peer_at(&mut self.peers, slot) {
                tell_sent(&self.facts, slot, peer, now);
            }
        }
        self.note_switch(now);
        if self.pool.was_short() {
            self.even_out();
        }
    }

    /// Some ring overwrote what it holds for want of memory. The one that has the most gives half of what it has more, if that is twice as much: who
    /// acknowledges nothing leaves the others what they need. One in doubt may need what it has soon, and gives only where no other has so much.
    fn even_out(&mut self) {
        let short = self.rings(|_| true).filter_map(|ring| ring.was_short().then(|| ring.memory())).min();
        let Some(short) = short else { return };
        for may_give in [|peer: &Peer| !peer.is_doubted(), |_: &Peer| true] {
            let most = self.rings(may_give).max_by_key(|ring| ring.memory());
            if let Some(most) = most.filter(|ring| ring.memory() >= 2 * short) {
                return most.give_memory(usize::midpoint(short, most.memory()));
            }
        }
    }

    /// Of those peers to which there is a way. What is kept for others was never handed over.
    fn rings(&mut self, is_one: impl Fn(&Peer) -> bool) -> impl Iterator<Item = &mut Association> {
        let peers = self.peers.iter_mut().filter(move |peer| peer.via().is_some() && is_one(peer));
        peers.flat_map(Peer::associations)
    }

    /// Reads frames, `most` of them or one more that stands for several, and sends them.
    fn read(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        buffer: &mut [u8],
        most: usize,
    ) -> Result<Turn, DeviceFault> {
        let mut read = 0;
        while read < most {
            let (header, len) = match self.device.read_frame(buffer) {
                Ok(Some(incoming)) => (incoming.header, incoming.frame.len()),
                Ok(None) => return Ok(Turn::Idle),
                Err(fault) => return self.faults.on_fault(fault),
            };
            self.faults = Faults::default();
            read += 1;
            // protocol §5: the metadata byte goes before the frame, over the last one of the virtio header, which is
            // no longer needed.
            if let Some(plaintext) = buffer.get_mut(VnetHeader::LEN - 1..VnetHeader::LEN + len) {
                read += self.take(now, snapshot, Outgoing { header, plaintext })? - 1;
            }
        }
        Ok(Turn::Busy)
    }

    /// Sends a frame of the device to whom it is for; how many it stood for.
    fn take(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        mut outgoing: Outgoing<'_>,
    ) -> Result<usize, DeviceFault> {
        if snapshot.own.sent(outgoing.frame()) {
            add(&self.counters.own_packets, 1);
            return Ok(1);
        }
        let verdict = self.forwarder.forward(&snapshot.directory, outgoing.frame(), now);
        let count = outgoing.count();
        self.dispatch(now, snapshot, verdict, &mut outgoing)?;
        Ok(count)
    }

    /// Whether the TAP is not to be read: the socket has no room, which is this machine's own pace, or much waits for streams that are silent
    /// and none has room. No peer's stream holds up those who have another way.
    fn is_full(&mut self, now: Instant, snapshot: &Snapshot) -> bool {
        let (batches, waiting_bytes) = (&mut self.batches, &mut self.waiting_bytes);
        let ctx = Context { now, snapshot, batches, waiting_bytes };
        let (mut is_any_free, mut is_any_at_limit) = (false, false);
        for (peer, via) in self.peers.iter().filter_map(|peer| Some((peer, peer.via()?))) {
            if ctx.batches.has_room(snapshot, via) {
                is_any_free = true;
            } else if via.is_stream() {
                is_any_at_limit |= peer.is_at_limit(&ctx);
            } else {
                return true;
            }
        }
        is_any_at_limit && !is_any_free
    }

    /// Whether frames are left in the TAP because of a doubt. What the TAP drops meanwhile is lost for whoever is in doubt.
    fn is_held_back(&mut self, now: Instant, snapshot: &Snapshot) -> bool {
        let since = self.held_back_at.map(|at| now.saturating_duration_since(at));
        let may = since.is_none_or(|since| {
            since >= HELD_BACK_EACH || (self.held_back.is_some() && since < HELD_BACK_MOST)
        });
        let full = self.full_in_doubt(now).filter(|_| may);
        match (full, self.held_back) {
            (Some(slot), None) => {
                self.held_back = Some((slot, self.device.overflowed().unwrap_or_default()));
                self.held_back_at = Some(now);
            }
            (None, Some((slot, before))) => {
                self.held_back = None;
                let dropped = self.device.overflowed().unwrap_or_default().saturating_sub(before);
                if let Some(route) = snapshot.peer(slot) {
                    add(&route.counters.lost, dropped);
                }
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        full.is_some()
    }

    /// A peer in doubt whose ring is nearly full, if nothing was sent lately but to peers in doubt.
    fn full_in_doubt(&self, now: Instant) -> Option<PeerSlot> {
        let peer = |slot: &PeerSlot| self.peers.get(usize::try_from(slot.0).ok()?);
        if self.peers.iter().any(|peer| !peer.is_doubted() && peer.was_sent_to(now)) {
            return None;
        }
        self.active.iter().copied().find(|slot| peer(slot).is_some_and(|peer| peer.is_nearly_full(self.ring)))
    }

    /// Sends a frame, or what it stands for, to a peer alone: it is written over.
    fn send_only(&mut self, now: Instant, snapshot: &Snapshot, slot: PeerSlot, outgoing: &mut Outgoing<'_>) {
        let is_made = outgoing.header.segmentation() == Segmentation::Udp && is_dhcp(outgoing.frame());
        if is_made || !peer_at(&mut self.peers, slot).is_some_and(|peer| peer.completes_checksums()) {
            return self.send_too(now, snapshot, slot, outgoing);
        }
        if outgoing.header.segmentation() == Segmentation::None {
            outgoing.mark();
            return self.send(now, snapshot, slot, outgoing.plaintext);
        }
        // Who gets the segments looks for the headers in them (protocol §5): behind those that he does not know he finds none.
        if partial_header(outgoing.frame()).is_none() {
            return self.send_too(now, snapshot, slot, outgoing);
        }
        let Some(mut cutting) = Cutting::new(&outgoing.header, outgoing.plaintext, longest(snapshot, slot))
        else {
            return self.send_too(now, snapshot, slot, outgoing);
        };
        self.send_run(now, snapshot, slot, &mut cutting);
        while let Some(plaintext) = cutting.front() {
            if let Some(meta) = plaintext.first_mut() {
                *meta = META_NEEDS_CHECKSUM;
            }
            self.send(now, snapshot, slot, plaintext);
            cutting.advance();
        }
    }

    /// Sends a frame, or what it stands for, to a peer; others may follow. Checksums are made.
    fn send_too(&mut self, now: Instant, snapshot: &Snapshot, slot: PeerSlot, outgoing: &mut Outgoing<'_>) {
        outgoing.complete();
        let Some(superframe) = outgoing.superframe() else {
            outgoing.mark();
            return self.send(now, snapshot, slot, outgoing.plaintext);
        };
        let mut segments = superframe.segments(longest(snapshot, slot));
        let mut plaintext = std::mem::take(&mut self.segment);
        loop {
            plaintext.clear();
            // The metadata byte of a complete frame.
            plaintext.push(0);
            if !segments.next_into(&mut plaintext) {
                break;
            }
            self.send(now, snapshot, slot, &plaintext);
        }
        self.segment = plaintext;
    }

    /// Sends as much of a superframe as goes by datagram right from the ring.
    fn send_run(&mut self, now: Instant, snapshot: &Snapshot, slot: PeerSlot, cutting: &mut Cutting<'_>) {
        let Some(route) = snapshot.peer(slot) else { return };
        let Some(peer) = peer_at(&mut self.peers, slot) else { return };
        let mut ctx =
            Context { now, snapshot, batches: &mut self.batches, waiting_bytes: &mut self.waiting_bytes };
        if let Some(sent) = peer.send_run(&mut ctx, route, cutting) {
            self.on_sent(now, slot, sent);
        }
    }

    fn send(&mut self, now: Instant, snapshot: &Snapshot, slot: PeerSlot, plaintext: &[u8]) {
        let Some(route) = snapshot.peer(slot) else { return };
        let Some(peer) = peer_at(&mut self.peers, slot) else { return };
        let mut ctx =
            Context { now, snapshot, batches: &mut self.batches, waiting_bytes: &mut self.waiting_bytes };
        let sent = peer.send(&mut ctx, route, plaintext);
        self.on_sent(now, slot, sent);
    }

    /// Notes what became of what was sent.
    fn on_sent(&mut self, now: Instant, slot: PeerSlot, sent: Sent) {
        let Some(peer) = peer_at(&mut self.peers, slot) else { return };
        match sent {
            Sent::HandedOver => {
                self.last_sent = Some(now);
                note_sent(&mut self.active, &mut self.untold, slot, peer, now);
            }
            Sent::Kept => self.is_behind = true,
            Sent::Queued => {
                if !std::mem::replace(&mut peer.is_queued, true) {
                    self.queued.push_back(slot);
                    self.batches.queued = self.queued.len();
                }
                return;
            }
            Sent::SessionWanted => {
                self.is_behind = true;
                return tell_wanted(&self.facts, slot, peer, now);
            }
            Sent::Dropped => return,
            Sent::KeyWanted => {
                if peer.may_ask_for_key(now) {
                    let _ = self.facts.try_send(Fact::KeyUsedUp(slot));
                }
                return;
            }
        }
        if peer.wants_rekey() && peer.may_ask_for_key(now) {
            let _ = self.facts.try_send(Fact::KeyUsedUp(slot));
        }
    }

    /// Seals what waits for streams, as far as they have room: peers take turns.
    fn serve(&mut self, now: Instant, snapshot: &Snapshot) {
        let mut blocked = 0;
        let queued = self.queued.iter().filter_map(|slot| self.peers.get(usize::try_from(slot.0).ok()?));
        self.batches.queued_bytes = queued.map(Peer::queued_bytes).sum();
        while blocked < self.queued.len()
            && let Some(slot) = self.queued.pop_front()
        {
            let Some(peer) = peer_at(&mut self.peers, slot) else { continue };
            let (batches, waiting_bytes) = (&mut self.batches, &mut self.waiting_bytes);
            let mut ctx = Context { now, snapshot, batches, waiting_bytes };
            let served =
                snapshot.peer(slot).map_or(Served::All, |route| peer.serve(&mut ctx, &route.counters));
            match served {
                Served::Sent { sent, is_over } => {
                    blocked = 0;
                    if is_over {
                        self.queued.push_back(slot)
                    } else {
                        self.queued.push_front(slot)
                    }
                    self.on_sent(now, slot, sent);
                }
                Served::Turn => {
                    blocked = 0;
                    self.queued.push_back(slot);
                }
                Served::Blocked => {
                    blocked += 1;
                    self.queued.push_back(slot);
                }
                Served::All => peer.is_queued = false,
            }
        }
        self.batches.queued = self.queued.len();
    }

    /// Hands over what waits in rings: after a path was bound anew, and behind that what was sealed since.
    fn pump(&mut self, now: Instant, snapshot: &Snapshot) {
        let is_due = self.pump_due.is_some_and(|due| due <= now);
        if !std::mem::take(&mut self.is_behind) && !is_due {
            return;
        }
        self.pump_due = None;
        // What was sealed before what waits leaves before it.
        self.others.hand_in(&mut self.batches.datagrams);
        for (slot, route) in slots(&snapshot.peers) {
            let Some(peer) = peer_at(&mut self.peers, slot) else { continue };
            let mut ctx =
                Context { now, snapshot, batches: &mut self.batches, waiting_bytes: &mut self.waiting_bytes };
            let pumped = peer.pump(&mut ctx, route);
            self.is_behind |= pumped.is_stopped;
            if pumped.is_sent {
                self.last_sent = Some(now);
                note_sent(&mut self.active, &mut self.untold, slot, peer, now);
            }
            self.pump_due = self.pump_due.into_iter().chain(peer.pump_due()).min();
        }
    }

    /// Until when there is nothing to do, as far as is known.
    fn rest(&mut self, now: Instant, turn: Turn) -> Rest {
        let is_unacknowledged = self.look_for_acks(now);
        let quiet_at = self.last_sent.map(|sent| sent + QUIET);
        let is_quiet = quiet_at.is_some_and(|at| at <= now);
        if is_quiet {
            self.last_sent = None;
            self.peers.iter_mut().for_each(Peer::shrink);
            self.batches.datagrams.shrink();
            self.others.shrink();
            self.segment = Vec::new();
            self.pool.trim();
        }
        let mut due = self.hold_over(now);
        let mut limit_to = |at: Instant| due = Some(due.map_or(at, |due| due.min(at)));
        self.pump_due.into_iter().for_each(&mut limit_to);
        self.forwarder.poll_timeout().into_iter().for_each(|deadline| limit_to(deadline.at));
        if self.last_sent.is_some() {
            quiet_at.into_iter().for_each(&mut limit_to);
            if is_unacknowledged {
                limit_to(now + ACK_LOOK);
            }
        }
        if turn == Turn::Refused {
            limit_to(now + FAULT_PAUSE);
        }
        if self.held_back.is_some() {
            self.held_back_at.into_iter().for_each(|at| limit_to(at + HELD_BACK_MOST));
        }
        Rest { due, is_quiet, reads: turn == Turn::Idle }
    }

    /// What it waits for beside being woken: the TAP, unless it is not to be read, and the socket where that had no room.
    ///
    /// Whatever is meant to wake it writes to its eventfd, asleep or not: nothing is to be looked at again before it sleeps.
    pub(super) fn waits_for(&self, rest: Rest) -> [Option<PollFd<'_>>; 2] {
        let readable = rest.reads.then(|| PollFd::new(&self.device, PollFlags::IN));
        let datagrams = &self.batches.datagrams;
        [readable, (!datagrams.has_room()).then(|| PollFd::new(datagrams.socket(), PollFlags::OUT))]
    }

    /// What wakes it.
    pub(super) const fn waker(&self) -> &Waker {
        &self.wake
    }

    /// It is about to rest.
    pub(super) fn begin_rest(&self, rest: Rest) {
        if rest.is_quiet {
            memory::trim();
        }
    }

    /// Its rest is over: because a frame is there, and for no other reason, or not.
    pub(super) fn call(&mut self, is_called: bool) {
        self.is_called = is_called && self.batches.datagrams.has_room();
    }

    /// It ends with `fault`.
    pub(super) fn fail(&self, fault: DeviceFault) {
        // There is room for the one fault of each thread.
        let _ = self.lost.try_send(fault);
    }

    /// Takes in acknowledgements, and tells what was sent since the last telling; whether packets remain unacknowledged.
    fn look_for_acks(&mut self, now: Instant) -> bool {
        let (peers, facts) = (&mut self.peers, &self.facts);
        self.active.retain(|slot| {
            let Some(peer) = peer_at(peers, *slot) else { return false };
            if peer.is_untold {
                tell_sent(facts, *slot, peer, now);
            }
            peer.is_active = peer.look_for_acks() || peer.is_untold;
            peer.is_active
        });
        !self.active.is_empty()
    }

    /// Gives up what was kept for too long for peers without a path; when to look again.
    fn hold_over(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for (slot, route) in slots(&self.snapshot.peers) {
            let Some(peer) = peer_at(&mut self.peers, slot) else { continue };
            if peer.deadline().is_some_and(|due| due <= now)
                && peer.hold_over(now, &route.counters, &mut self.waiting_bytes)
            {
                self.forwarder.forget(slot, now);
                let _ = self.facts.try_send(Fact::Forgotten(slot));
            }
            if peer.wants_session(now) {
                tell_wanted(&self.facts, slot, peer, now);
            }
            next = next.into_iter().chain(peer.deadline()).min();
        }
        next
    }
}

/// Bytes of the longest frame that goes to the peer whole, where that is known (protocol §7.11).
fn longest(snapshot: &Snapshot, slot: PeerSlot) -> Option<usize> {
    let room = snapshot.peer(slot).and_then(|route| route.room);
    room.map(|room| room.saturating_sub(DATA_OVERHEAD))
}

/// Tells that frames wait for a session, unless that was told a moment ago.
fn tell_wanted(facts: &mpsc::Sender<Fact>, slot: PeerSlot, peer: &mut Peer, now: Instant) {
    if peer.wants_session(now) {
        let is_told = facts.try_send(Fact::Wanted(slot)).is_ok();
        peer.on_wanted_told(now, is_told);
    }
}

/// Notes that packets went to a peer.
fn note_sent(
    active: &mut Vec<PeerSlot>,
    untold: &mut Vec<PeerSlot>,
    slot: PeerSlot,
    peer: &mut Peer,
    now: Instant,
) {
    if !std::mem::replace(&mut peer.is_active, true) {
        active.push(slot);
    }
    if !std::mem::replace(&mut peer.is_untold, true) {
        untold.push(slot);
    }
    peer.sent = Some(now);
}

/// Tells that packets went to a peer, unless that was told a moment ago.
fn tell_sent(facts: &mpsc::Sender<Fact>, slot: PeerSlot, peer: &mut Peer, now: Instant) {
    if peer.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY) {
        peer.told = Some(now);
        // Lost: said again with the next frame. Without a way, there is no path to judge by it.
        let told = peer.via().map(|via| facts.try_send(Fact::DataSent(slot, via, peer.sealed())));
        peer.is_untold = told.is_some_and(|told| told.is_err());
    }
}

/// Every peer in the picture with its slot.
fn slots<T>(peers: &[T]) -> impl Iterator<Item = (PeerSlot, &T)> {
    (0..).map(PeerSlot).zip(peers)
}

/// The peer of `slot`, made when it is new. `None` only where a slot is no index on this machine.
fn peer_at(peers: &mut Vec<Peer>, slot: PeerSlot) -> Option<&mut Peer> {
    let at = usize::try_from(slot.0).ok()?;
    if at >= peers.len() {
        peers.resize_with(at + 1, Peer::default);
    }
    peers.get_mut(at)
}
