//! The inbound half: from the relay's stream and the UDP socket into the TAP.
//!
//! One turn of its loop: take commands; take FORWARD messages, and what the socket has; for each packet, open data to where it
//! goes to the TAP from, with what it belongs to ([`merging`]), hand everything else to the control task; report acknowledgements
//! that are due; sleep when there was nothing.
//!
//! What comes by datagram comes from anybody. It costs a look-up of its index, and opening it if that is one of ours; nothing
//! else of it reaches the control task, but what may be an answer of STUN, by a queue that drops.
//!
//! What overtakes on a faster path is held for a moment ([`Order`](shadowmesh_proto::session::Order), protocol §7.6).
//!
//! Whoever fills a queue fills his share of it. Whose a packet is, is known only after it is opened; so a share belongs to what nobody
//! else can use: a channel of a relay, a direct connection, an address at which a path of the peer is, and elsewhere the host.
//!
//! A key is always announced by a command before the peer can use it, but the command and the packet come by two ways: a
//! packet with an unknown index makes the thread look at its commands once more before it is dropped.

mod data;
mod datagrams;
#[cfg(test)]
mod live_tests;
mod merging;
mod sessions;

use super::shares::{Shares, host};
use super::snapshot::{PlaneCounters, Snapshot, add};
use super::steering::Writer;
use super::wake::Waker;
use super::{ControlPacket, Datagram, Fact, PACKET_QUEUE, STRAY_QUEUE};
use crate::device::DeviceFault;
use crate::switch::{Gate, Limits, LocalNews, News};
use crate::transport::udp::DatagramSocket;
use arc_swap::ArcSwap;
use bytes::BytesMut;
use datagrams::Buffers;
use merging::Merging;
use rustix::event::{PollFd, PollFlags};
use sessions::Sessions;
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::ids::{AssociationId, PeerSlot, ReceiverIndex};
use shadowmesh_proto::session::OpenKey;
use shadowmesh_proto::session::fragment::Reassembler;
use shadowmesh_proto::wire::header::PacketType;
use shadowmesh_proto::wire::packet::PacketKind;
use shadowmesh_proto::wire::relay::packets;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// What the control task tells the inbound thread.
#[derive(Debug)]
pub enum InboundCommand {
    /// A new association with its first key.
    Open {
        /// The peer.
        slot: PeerSlot,
        /// The association.
        association: AssociationId,
        /// Its first key.
        key: OpenKey,
    },
    /// One more key.
    AddKey {
        /// The association.
        association: AssociationId,
        /// The key.
        key: OpenKey,
    },
    /// A key that was replaced.
    RetireKey {
        /// The association.
        association: AssociationId,
        /// The key's index.
        index: ReceiverIndex,
    },
    /// Open nothing of it any more; control packets that name its keys go on.
    Shut(AssociationId),
    /// Forget the association.
    Close(AssociationId),
    /// The forwarding table forgot what is behind this peer: what it sends is news again.
    Forget(PeerSlot),
    /// End.
    Stop,
}

/// A FORWARD message whose layout was checked, and the stream it came by.
#[derive(Debug)]
pub struct InboundMessage {
    /// The relay's channel, or the direct connection.
    pub via: Via,
    /// The whole message.
    pub message: BytesMut,
}

/// What the thread is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) device: Writer,
    pub(super) socket: DatagramSocket,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) counters: Arc<PlaneCounters>,
    pub(super) commands: Receiver<InboundCommand>,
    pub(super) messages: mpsc::Receiver<InboundMessage>,
    pub(super) news: SyncSender<News>,
    pub(super) local_news: Receiver<LocalNews>,
    /// Whether a loop is contained here: the outbound thread says.
    pub(super) is_blocked: Arc<AtomicBool>,
    /// Wakes the thread that takes the news.
    pub(super) reader: Waker,
    pub(super) packets: mpsc::Sender<ControlPacket>,
    pub(super) direct: mpsc::Sender<ControlPacket>,
    pub(super) stray: mpsc::Sender<ControlPacket>,
    pub(super) datagrams: mpsc::Sender<Datagram>,
    pub(super) facts: mpsc::Sender<Fact>,
    pub(super) lost: mpsc::Sender<DeviceFault>,
    pub(super) wake: Waker,
    pub(super) limits: Limits,
    /// Whether peers keep nothing that an acknowledgement would release.
    pub(super) acks_seldom: bool,
}

/// Bytes of messages in a turn, which is what a turn takes of the socket ...
const MESSAGE_BYTES: usize = 1 << 20;
/// ... and as many of these: a message costs more than its bytes.
const MESSAGE_LEAST: usize = 16 << 10;
/// Data from an address that is not one of the peer's paths is told this often at most: it moves once in a while.
const HEARD_EVERY: Duration = Duration::from_millis(100);
/// A person who wonders why there is no lease is told this often.
const ROGUE_EVERY: Duration = Duration::from_secs(600);

/// What was said of each peer a while ago, and is not said again yet. Each has its own, so that none speaks over another.
#[derive(Debug, Default)]
struct Told {
    last: HashMap<PeerSlot, Instant>,
}

impl Told {
    fn is_due(&mut self, now: Instant, slot: PeerSlot, every: Duration) -> bool {
        let is_recent = |last: Instant| now.saturating_duration_since(last) < every;
        let is_due = !self.last.get(&slot).copied().is_some_and(is_recent);
        if is_due {
            self.last.retain(|_, last| is_recent(*last));
            self.last.insert(slot, now);
        }
        is_due
    }
}

/// Who has how much of each queue for the control task.
#[derive(Debug)]
struct ControlShares {
    packets: Shares<Source>,
    direct: Shares<Source>,
    stray: Shares<Source>,
}

impl ControlShares {
    fn new() -> Self {
        Self { packets: Shares::new(), direct: Shares::new(), stray: Shares::new() }
    }
}

/// Those queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ControlQueue {
    Packets,
    Direct,
    Stray,
}

/// The thread.
#[derive(Debug)]
pub(super) struct InboundThread {
    device: Writer,
    socket: DatagramSocket,
    buffers: Buffers,
    snapshot: Arc<ArcSwap<Snapshot>>,
    counters: Arc<PlaneCounters>,
    commands: Receiver<InboundCommand>,
    messages: mpsc::Receiver<InboundMessage>,
    news: SyncSender<News>,
    local_news: Receiver<LocalNews>,
    is_blocked: Arc<AtomicBool>,
    reader: Waker,
    packets: mpsc::Sender<ControlPacket>,
    direct: mpsc::Sender<ControlPacket>,
    stray: mpsc::Sender<ControlPacket>,
    datagrams: mpsc::Sender<Datagram>,
    /// Who has how much of each of these queues.
    shares: ControlShares,
    heard: Told,
    pieces: Reassembler,
    facts: mpsc::Sender<Fact>,
    lost: mpsc::Sender<DeviceFault>,
    wake: Waker,
    gate: Gate,
    rogues: Told,
    sessions: Sessions,
    merging: Merging,
    stopped: bool,
    /// Whether a datagram ended its sleep, and nothing else is known to have come.
    is_called: bool,
}

/// Who fills a queue for the control task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// The stream of a relay or of a peer, or what a relay forwards by datagram.
    Way(Via),
    /// An address of a path of this peer.
    Peer(PeerSlot),
    /// Any other.
    Host(IpAddr),
}

impl Source {
    /// Of what came by `via` for `slot`, where that is known and one of its paths leads there.
    pub(super) fn of(via: Via, slot: Option<PeerSlot>) -> Self {
        match (via, slot) {
            (Via::Channel(_) | Via::RelayUdp(_) | Via::Tcp(_), _) => Self::Way(via),
            (Via::Udp(_), Some(slot)) => Self::Peer(slot),
            (Via::Udp(from), None) => Self::Host(host(from.ip())),
        }
    }

    /// Places that it may have of `all` in its queue. A peer may have several ways of some kinds, beside another kind.
    const fn share(self, all: usize) -> usize {
        match self {
            Self::Way(Via::RelayUdp(_) | Via::Tcp(_)) => all / 8,
            Self::Way(Via::Channel(_) | Via::Udp(_)) | Self::Peer(_) | Self::Host(_) => all / 4,
        }
    }
}

/// What is known when there is nothing to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// When there is something by itself.
    pub(super) due: Option<Instant>,
    /// There was something, and that was all.
    pub(super) has_worked: bool,
}

/// What was there to do.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    is_any: bool,
    /// There may be more.
    is_more: bool,
}

impl InboundThread {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            device: parts.device,
            socket: parts.socket,
            buffers: Buffers::new(),
            snapshot: parts.snapshot,
            counters: parts.counters,
            commands: parts.commands,
            messages: parts.messages,
            news: parts.news,
            local_news: parts.local_news,
            is_blocked: parts.is_blocked,
            reader: parts.reader,
            packets: parts.packets,
            direct: parts.direct,
            stray: parts.stray,
            datagrams: parts.datagrams,
            shares: ControlShares::new(),
            heard: Told::default(),
            pieces: Reassembler::default(),
            facts: parts.facts,
            lost: parts.lost,
            wake: parts.wake,
            gate: Gate::new(parts.limits),
            rogues: Told::default(),
            sessions: Sessions::new(parts.acks_seldom),
            merging: Merging::default(),
            stopped: false,
            is_called: false,
        }
    }

    /// Its rest is over: because a datagram is there, and for no other reason, or not.
    pub(super) const fn call(&mut self, is_called: bool) {
        self.is_called = is_called;
    }

    /// Takes the datagram that it was called for: how long to rest after that, if it was called. Whether there is more, the socket says. What comes after a while is
    /// mostly alone, and somebody waits for it: it need not wait for a look at anything else. A key that it is under may have been told
    /// meanwhile, which is looked for where it is missed.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn answer_call(&mut self, now: Instant) -> Result<Option<Rest>, DeviceFault> {
        if !std::mem::take(&mut self.is_called) {
            return Ok(None);
        }
        self.sessions.expire(now);
        let has_worked = self.receive_first(now)?;
        self.flush()?;
        Ok(Some(self.rest(now, has_worked)))
    }

    /// Takes commands and does one turn: how long to rest after it, if there is nothing to do. `Break` to end.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn step(&mut self, now: Instant) -> Result<ControlFlow<(), Option<Rest>>, DeviceFault> {
        self.take_commands(now);
        if self.stopped {
            self.flush()?;
            return Ok(ControlFlow::Break(()));
        }
        self.sessions.expire(now);
        let found = self.turn(now)?;
        let rest = self.rest(now, found.is_any);
        Ok(ControlFlow::Continue((!found.is_more).then_some(rest)))
    }

    /// Tells what is due, and until when there is nothing to do.
    fn rest(&mut self, now: Instant, has_worked: bool) -> Rest {
        let due = self.report(now).into_iter().chain(self.sessions.next_release());
        Rest { due: due.chain(self.merging.rests_at()).min(), has_worked }
    }

    /// A share of messages and what the socket has: as much of each at most, so that neither starves the other.
    fn turn(&mut self, now: Instant) -> Result<Found, DeviceFault> {
        let mut bytes = 0;
        while bytes < MESSAGE_BYTES
            && let Ok(message) = self.messages.try_recv()
        {
            bytes += message.message.len().max(MESSAGE_LEAST);
            self.message(now, message)?;
        }
        let has_message = bytes > 0;
        let found = self.receive_datagrams(now)?;
        self.give_on_due(now)?;
        self.flush()?;
        if !found.is_any && !has_message {
            self.merging.rest(now);
        }
        Ok(Found { is_any: found.is_any || has_message, is_more: found.is_more || has_message })
    }

    fn take_commands(&mut self, now: Instant) {
        loop {
            match self.commands.try_recv() {
                Ok(InboundCommand::Open { slot, association, key }) => {
                    self.sessions.open(slot, association, key);
                }
                Ok(InboundCommand::AddKey { association, key }) => self.sessions.add_key(association, key),
                Ok(InboundCommand::RetireKey { association, index }) => {
                    self.sessions.retire_key(association, index, now);
                }
                Ok(InboundCommand::Shut(association)) => {
                    self.give_up_waiting(now, association);
                    self.sessions.shut(association);
                }
                Ok(InboundCommand::Close(association)) => {
                    self.give_up_waiting(now, association);
                    self.sessions.close(association);
                }
                Ok(InboundCommand::Forget(slot)) => self.gate.forget(slot),
                Ok(InboundCommand::Stop) | Err(TryRecvError::Disconnected) => {
                    self.stopped = true;
                    return;
                }
                Err(TryRecvError::Empty) => break,
            }
        }
        while let Ok(news) = self.local_news.try_recv() {
            self.gate.handle_local(news, now);
        }
    }

    /// A key and the first packet under it come by two ways: where `index` is not known, what was commanded since may tell.
    fn look_for_key(&mut self, now: Instant, index: ReceiverIndex) {
        if !self.sessions.knows(index) {
            self.take_commands(now);
        }
    }

    fn message(&mut self, now: Instant, inbound: InboundMessage) -> Result<(), DeviceFault> {
        let snapshot = self.snapshot.load_full();
        let via = inbound.via;
        for packet in packets(&inbound.message) {
            match PacketKind::of(packet) {
                Some(PacketKind::Transport(PacketType::Data)) => self.data(now, &snapshot, via, packet)?,
                Some(
                    PacketKind::Transport(PacketType::Control) | PacketKind::Init | PacketKind::Response,
                ) => self.control(ControlQueue::Packets, Source::of(via, None), via, packet),
                Some(PacketKind::Transport(PacketType::Fragment)) | None => {
                    add(&self.counters.unknown_kind, 1);
                }
            }
        }
        Ok(())
    }

    fn control(&mut self, queue: ControlQueue, source: Source, via: Via, packet: &[u8]) {
        let (queue, shares, all) = match queue {
            ControlQueue::Packets => (&self.packets, &mut self.shares.packets, PACKET_QUEUE),
            ControlQueue::Direct => (&self.direct, &mut self.shares.direct, PACKET_QUEUE),
            ControlQueue::Stray => (&self.stray, &mut self.shares.stray, STRAY_QUEUE),
        };
        let place = shares.take(source, source.share(all));
        // Full means that the control task is behind: what is lost here is repeated by its sender, but for acknowledgements. Of those the next tells
        // as much, and whoever is told of nothing sends again (protocol §5.2).
        let is_taken = place.is_some_and(|place| {
            queue.try_send(ControlPacket { via, packet: packet.to_vec(), _place: place }).is_ok()
        });
        if !is_taken {
            add(&self.counters.control_dropped, 1);
        }
    }

    /// Tells the control task the acknowledgements that are due; when the next one is.
    fn report(&mut self, now: Instant) -> Option<Instant> {
        let facts = &self.facts;
        self.sessions.report(now, |slot, via, report| match facts.try_reserve() {
            Ok(permit) => {
                permit.send(Fact::AckDue(slot, via, Box::new(report())));
                true
            }
            Err(_) => false,
        })
    }

    /// What it waits for beside being woken; `None` where something came meanwhile. From now on whoever brings something wakes it, until it is
    /// awake.
    pub(super) fn waits_for(&self) -> Option<PollFd<'_>> {
        self.wake.about_to_sleep();
        if !self.messages.is_empty() {
            self.wake.stay_awake();
            return None;
        }
        Some(PollFd::new(&self.socket, PollFlags::IN))
    }

    /// What wakes it.
    pub(super) const fn waker(&self) -> &Waker {
        &self.wake
    }

    /// It ends with `fault`.
    pub(super) fn fail(&self, fault: DeviceFault) {
        // There is room for the one fault of each thread.
        let _ = self.lost.try_send(fault);
    }
}
