//! The inbound thread: from the relay's stream into the TAP.
//!
//! One turn of its loop: take commands; take a FORWARD message; for each packet in it, open data where it lies and write the
//! frame to the TAP, hand everything else to the control task; report acknowledgements that are due; sleep when there was
//! nothing.
//!
//! A key is always announced by a command before the peer can use it, but the command and the packet come by two ways: a
//! packet with an unknown index makes the thread look at its commands once more before it is dropped.

use super::snapshot::{Snapshot, add};
use super::wake::Waker;
use super::{ControlPacket, Fact};
use crate::device::{Device, DeviceFault, VnetHeader};
use crate::switch::{Inbound, Learn, Learner, Limits};
use arc_swap::ArcSwap;
use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shadowmesh_proto::endpoint::event::Contact;
use shadowmesh_proto::ids::{AssociationId, PeerSlot, ReceiverIndex};
use shadowmesh_proto::session::open::FRAME_OFFSET;
use shadowmesh_proto::session::{OpenHalf, OpenKey, PathSlot};
use shadowmesh_proto::wire::header::{Header, PacketType};
use shadowmesh_proto::wire::packet::PacketKind;
use shadowmesh_proto::wire::relay::{FORWARD_HEADER_LEN, take_packet_mut};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The relay path's number at the sender (protocol §6). There is one path until there are direct ones.
const PATH: PathSlot = PathSlot::FIRST;
/// Expired receive keys are looked for this often, while traffic keeps the thread awake anyway.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);
/// Where the virtio header begins in a packet, so that it ends where the frame begins.
const TAP_OFFSET: usize = FRAME_OFFSET - VnetHeader::LEN;

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
    /// Forget the association.
    Close(AssociationId),
    /// End.
    Stop,
}

/// A FORWARD message whose layout was checked, and the contact it came by.
#[derive(Debug)]
pub struct InboundMessage {
    /// The channel.
    pub contact: Contact,
    /// The whole message.
    pub message: BytesMut,
}

/// What the thread is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) device: Device,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) commands: Receiver<InboundCommand>,
    pub(super) messages: mpsc::Receiver<InboundMessage>,
    pub(super) learns: SyncSender<Learn>,
    pub(super) packets: mpsc::Sender<ControlPacket>,
    pub(super) facts: mpsc::Sender<Fact>,
    pub(super) wake: Waker,
    pub(super) limits: Limits,
}

/// The thread.
#[derive(Debug)]
pub(super) struct InboundThread {
    device: Device,
    snapshot: Arc<ArcSwap<Snapshot>>,
    messages: mpsc::Receiver<InboundMessage>,
    learns: SyncSender<Learn>,
    packets: mpsc::Sender<ControlPacket>,
    facts: mpsc::Sender<Fact>,
    wake: Waker,
    learner: Learner,
    sessions: Sessions,
    expired: Option<Instant>,
}

/// Every association that is open, and which index belongs to which.
#[derive(Debug)]
struct Sessions {
    commands: Receiver<InboundCommand>,
    open: HashMap<AssociationId, (PeerSlot, OpenHalf)>,
    owners: HashMap<ReceiverIndex, AssociationId>,
    stopped: bool,
}

impl Sessions {
    fn take_commands(&mut self, now: Instant) {
        loop {
            match self.commands.try_recv() {
                Ok(InboundCommand::Open { slot, association, key }) => {
                    let (_, half) = self.open.entry(association).or_insert_with(|| (slot, OpenHalf::new()));
                    install(&mut self.owners, half, association, key);
                }
                Ok(InboundCommand::AddKey { association, key }) => {
                    if let Some((_, half)) = self.open.get_mut(&association) {
                        install(&mut self.owners, half, association, key);
                    }
                }
                Ok(InboundCommand::RetireKey { association, index }) => {
                    if let Some((_, half)) = self.open.get_mut(&association) {
                        half.retire(index, now);
                    }
                }
                Ok(InboundCommand::Close(association)) => {
                    self.open.remove(&association);
                    self.owners.retain(|_, owner| *owner != association);
                }
                Ok(InboundCommand::Stop) | Err(TryRecvError::Disconnected) => {
                    self.stopped = true;
                    return;
                }
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    fn of(&mut self, now: Instant, index: ReceiverIndex) -> Option<(PeerSlot, &mut OpenHalf)> {
        if !self.owners.contains_key(&index) {
            self.take_commands(now);
        }
        let association = self.owners.get(&index)?;
        self.open.get_mut(association).map(|(slot, half)| (*slot, half))
    }

    fn expire(&mut self, now: Instant) {
        for (_, half) in self.open.values_mut() {
            half.expire(now, |index| {
                self.owners.remove(&index);
            });
        }
    }
}

fn install(
    owners: &mut HashMap<ReceiverIndex, AssociationId>,
    half: &mut OpenHalf,
    association: AssociationId,
    key: OpenKey,
) {
    owners.insert(key.index(), association);
    if let Some(gone) = half.install(key) {
        owners.remove(&gone);
    }
}

impl InboundThread {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            device: parts.device,
            snapshot: parts.snapshot,
            messages: parts.messages,
            learns: parts.learns,
            packets: parts.packets,
            facts: parts.facts,
            wake: parts.wake,
            learner: Learner::new(parts.limits),
            sessions: Sessions {
                commands: parts.commands,
                open: HashMap::new(),
                owners: HashMap::new(),
                stopped: false,
            },
            expired: None,
        }
    }

    /// Runs until told to stop or the device is gone.
    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            self.sessions.take_commands(now);
            if self.sessions.stopped {
                return;
            }
            let result = match self.messages.try_recv() {
                Ok(message) => self.message(now, message),
                Err(_) => {
                    self.report(now);
                    self.sleep(now);
                    continue;
                }
            };
            if let Err(fault) = result {
                let _ = self.facts.blocking_send(Fact::DeviceLost(fault.to_string()));
                return;
            }
            self.report(now);
            if self.expired.is_none_or(|last| now.saturating_duration_since(last) >= EXPIRE_EVERY) {
                self.expired = Some(now);
                self.sessions.expire(now);
            }
        }
    }

    fn message(&mut self, now: Instant, mut inbound: InboundMessage) -> Result<(), DeviceFault> {
        let snapshot = self.snapshot.load_full();
        let Some(mut rest) = inbound.message.get_mut(FORWARD_HEADER_LEN..) else { return Ok(()) };
        while let Some(packet) = take_packet_mut(&mut rest) {
            match PacketKind::of(packet) {
                Some(PacketKind::Transport(PacketType::Data)) => self.data(now, &snapshot, packet)?,
                Some(
                    PacketKind::Transport(PacketType::Control) | PacketKind::Init | PacketKind::Response,
                ) => {
                    // Full means that the control task is behind: what is lost here is repeated by its sender.
                    let _ = self
                        .packets
                        .try_send(ControlPacket { contact: inbound.contact, packet: packet.to_vec() });
                }
                Some(PacketKind::Transport(PacketType::Fragment)) | None => {
                    tracing::trace!("a packet of no kind that is known here");
                }
            }
        }
        Ok(())
    }

    fn data(&mut self, now: Instant, snapshot: &Snapshot, packet: &mut [u8]) -> Result<(), DeviceFault> {
        let Ok(header) = Header::parse(packet) else { return Ok(()) };
        let Some((slot, half)) = self.sessions.of(now, header.receiver) else {
            tracing::trace!("a packet for no key of this node");
            return Ok(());
        };
        let Some(route) = snapshot.peer(slot) else { return Ok(()) };
        let len = match half.open(now, PATH, packet) {
            Ok(opened) => match self.learner.receive(&snapshot.owners, opened.frame, slot, now) {
                Inbound::Deliver(news) => {
                    if let Some(news) = news {
                        // Full: said again later.
                        let _ = self.learns.try_send(news);
                    }
                    opened.frame.len()
                }
                Inbound::Drop(cause) => {
                    add(&route.counters.rx_dropped, 1);
                    tracing::trace!(?cause, "a frame is not let in");
                    return Ok(());
                }
            },
            Err(cause) => {
                add(&route.counters.rx_dropped, 1);
                tracing::trace!(%cause, "a packet is dropped");
                return Ok(());
            }
        };
        let Some(space) = packet.get_mut(TAP_OFFSET..FRAME_OFFSET + len) else { return Ok(()) };
        match self.device.write_frame(VnetHeader::COMPLETE, space) {
            Ok(()) => route.counters.count_rx(len),
            // Set down by the administrator, or no memory for a moment: the frame is lost as on any device.
            Err(DeviceFault::Down | DeviceFault::Short(_) | DeviceFault::Io(_)) => {
                add(&route.counters.rx_dropped, 1)
            }
            Err(fault @ DeviceFault::Gone) => return Err(fault),
        }
        Ok(())
    }

    /// Tells the control task the acknowledgements that are due.
    fn report(&mut self, now: Instant) {
        for (slot, half) in self.sessions.open.values_mut() {
            if half.ack_due_at().is_some_and(|due| due <= now) {
                let _ = self.facts.try_send(Fact::AckDue(*slot, half.report()));
            }
        }
    }

    fn sleep(&mut self, now: Instant) {
        self.wake.about_to_sleep();
        if !self.messages.is_empty() {
            return self.wake.awake();
        }
        let due = self.sessions.open.values().filter_map(|(_, half)| half.ack_due_at()).min();
        let timeout = due.map(|due| {
            let left = due.saturating_duration_since(now);
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        let wake = self.wake.clone();
        // Interrupted or not, the loop looks at everything again.
        let _ = poll(&mut [PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN)], timeout.as_ref());
        self.wake.awake();
    }
}
