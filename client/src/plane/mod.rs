//! The data plane: two halves that move frames, the threads that run them ([`threads`]), and what joins them to the control task.
//!
//! ```text
//!   TAP <-> outbound: switch, seal into the ring, batch --> stream queue --> tokio --> relay, or UDP socket
//!              ^  |  news (bounded, both ways; see the switch)
//!              |  v
//!   TAP <-- inbound:  open, let in, put together        <-- bounded queue <-- tokio <-- relay, or UDP socket
//!   control task: keys as commands; routes and members as an immutable snapshot; acks through atomics
//! ```
//!
//! # Life
//!
//! [`Plane::start`] makes both threads; they sleep in `poll` on their descriptors and an eventfd. The control task sends
//! [`OutboundCommand`]s and [`InboundCommand`]s when keys come and go, and publishes a new [`Snapshot`] when a route
//! changes ([`Routes`] does both, from the endpoint's events). Dropping the [`Plane`] ends both and joins them; the device is
//! theirs, so it is gone from the machine afterwards.
//!
//! Where the device has several queues ([`Queues`]) the outbound half has a thread for each, and the inbound one writes each flow by the queue that
//! it is read from ([`steering`]).
//!
//! What the outbound thread writes to the TAP is what the switch says by itself: answers to ARP, and probes for loops.
//!
//! A simulation runs the same halves without threads, in its own time: [`Lockstep`].
//!
//! # Invariants
//!
//! - Per packet nothing is locked and nothing allocated, but for one that comes in pieces, which are kept until it is whole. Per batch: one allocation for the
//!   message, one channel operation.
//! - Each half owns its half of every session, and is in one thread. No key is ever in two threads. A device that has several queues has
//!   several threads in the outbound half, one at a time: they lock it for the frames of a turn, and what they do beside it takes none of it
//!   (`outbound::queues`).
//! - The threads never wait for the control task, so it may wait for them to end. What goes there is bounded and drops. What comes by
//!   streams, from a peer's known addresses, and from anywhere else has a queue each, of which the control task takes in turn: a
//!   flood in one of them leaves the others their share. Of one queue each peer or stranger has a share (`shares`).
//! - A peer is in the picture before its keys are sent. A command that is sent before a picture is published is carried out
//!   before that picture is used: so a new association is begun before the route that is bound for it.
//! - A frame that was sealed is in the ring until acknowledged or overwritten: losing the relay loses no frame that fits.
//! - Back-pressure, not loss, where nothing has room: the TAP is not read, and the kernel's queue does what it does on any slow link.
//!   But no slow way holds up those who have another: what it does not take is dropped before it is sealed, and counted.

mod flow;
mod inbound;
mod lockstep;
mod members;
mod memory;
mod outbound;
mod queue;
mod routes;
mod shares;
mod snapshot;
mod steering;
#[cfg(test)]
mod tests;
mod threads;
mod wake;

pub use inbound::{InboundCommand, InboundMessage};
pub use lockstep::Lockstep;
pub use members::Members;
pub use outbound::OutboundCommand;
pub use queue::{StreamHandle, StreamQueue, stream_queue};
pub use routes::{MoveCost, Routes, Vouched, tell};
pub(crate) use shares::host;
pub use snapshot::{PeerCounters, PeerRoute, PlaneCounters, Snapshot, SwitchCounters};
pub use wake::Waker;

use crate::device::{DeviceFault, Queues};
use crate::switch::{Limits, LoopState};
use crate::system_rng::SystemRng;
use crate::transport::udp::DatagramSocket;
use arc_swap::ArcSwap;
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::rng::Rng as _;
use shadowmesh_proto::session::{AckReport, ChunkPool, RingLimits};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use steering::{Steering, Writer};
use tokio::sync::mpsc;

/// News between the threads, each way; one that is lost is said again (see [`crate::switch`]).
const NEWS_QUEUE: usize = 1024;
/// FORWARD messages waiting for the inbound thread: at 64 KiB each 2 MiB, 20 ms at 800 Mbit/s. The stream's reader waits
/// when it is full, and TCP slows the relay down.
const INBOUND_QUEUE: usize = 32;
/// Packets that are not data, by streams and from a peer's known addresses each: dropped when the control task does not keep up.
const PACKET_QUEUE: usize = 256;
/// The same from other addresses: checks, a few per peer, and whatever strangers send who once saw a receiver index.
const STRAY_QUEUE: usize = 64;
/// Datagrams that may be answers of STUN: a handful is asked for at a time.
const DATAGRAM_QUEUE: usize = 32;
/// Facts from the threads themselves.
const FACT_QUEUE: usize = 1024;

/// A packet for the control task.
#[derive(Debug)]
pub struct ControlPacket {
    /// How it came.
    pub via: Via,
    /// The packet.
    pub packet: Vec<u8>,
    /// Its place in the queue, until it is dropped.
    _place: shares::Place,
}

/// A datagram that is no packet of a peer: perhaps an answer of STUN.
#[derive(Debug)]
pub struct Datagram {
    /// Who sent it.
    pub from: SocketAddr,
    /// Its payload.
    pub bytes: Vec<u8>,
}

/// What the threads tell the control task of themselves. Losing one costs a little time, never truth.
#[derive(Debug)]
pub enum Fact {
    /// Frames went out to the peer by this way, and every counter of its association below this one is used: said at most ten times a
    /// second, and with the first on a new way.
    DataSent(PeerSlot, Via, u64),
    /// Data of the peer came by datagram from an address where none of its paths is.
    Heard(PeerSlot, SocketAddr),
    /// An acknowledgement is due, of what came last by this way.
    AckDue(PeerSlot, Option<Via>, Box<AckReport>),
    /// The send key is used up or too old: said at most once a second.
    KeyUsedUp(PeerSlot),
    /// What came of [`OutboundCommand::StopSealing`] with this number: whether nothing more is sealed, for the peer has everything. Losing
    /// it costs the question.
    Stopped(PeerSlot, u64, bool),
    /// Frames wait for a session with the peer: said at most once a second.
    Wanted(PeerSlot),
    /// The peer has been without a path for so long that the stations behind it were forgotten.
    Forgotten(PeerSlot),
    /// What is known of loops changed.
    Loop(LoopState),
    /// Answers of a DHCP server or a router behind the peer are not let in: said once for each peer, and again after a while.
    Rogue(PeerSlot),
}

/// Where the threads speak to the control task.
#[derive(Debug)]
pub struct PlaneOutput {
    /// Packets that are not data, by the relays' streams.
    pub packets: mpsc::Receiver<ControlPacket>,
    /// Those that came by datagram, over a relay or from an address of the peer that they are for.
    pub direct: mpsc::Receiver<ControlPacket>,
    /// Those that came by datagram from elsewhere.
    pub stray: mpsc::Receiver<ControlPacket>,
    /// Datagrams that are no packets.
    pub datagrams: mpsc::Receiver<Datagram>,
    /// Facts.
    pub facts: mpsc::Receiver<Fact>,
    /// The device is gone or refuses: the thread that says so has ended, and the daemon cannot go on. A channel of its own,
    /// with room for every thread, so that this is never lost and nobody waits to say it.
    pub lost: mpsc::Receiver<DeviceFault>,
}

/// What the threads run.
#[derive(Debug)]
struct Halves {
    /// The first queue, and the others.
    outbound: outbound::Reading,
    others: Vec<outbound::Reading>,
    inbound: inbound::InboundThread,
}

/// The running threads.
#[derive(Debug)]
pub struct Plane {
    snapshot: Arc<ArcSwap<Snapshot>>,
    counters: Arc<PlaneCounters>,
    outbound: std_mpsc::Sender<OutboundCommand>,
    outbound_wake: Waker,
    inbound: std_mpsc::Sender<InboundCommand>,
    inbound_wake: Waker,
    messages: mpsc::Sender<InboundMessage>,
    threads: Vec<JoinHandle<()>>,
}

impl Plane {
    /// Starts the threads on the queues of a device, and `socket`. `ring` is what is kept of each peer's packets, in memory of `pool`.
    ///
    /// # Errors
    /// When the process may have no more descriptors or threads.
    pub fn start(
        queues: impl Into<Queues>,
        socket: DatagramSocket,
        snapshot: Snapshot,
        pool: Arc<ChunkPool>,
        ring: RingLimits,
    ) -> io::Result<(Self, PlaneOutput)> {
        let (mut plane, halves, output) = Self::assemble(queues.into(), socket, snapshot, pool, ring)?;
        let Halves { outbound, others, inbound } = halves;
        plane.threads.extend(threads::start(inbound, outbound, others)?);
        Ok((plane, output))
    }

    /// Both halves, and all that joins them to the control task, before they run.
    fn assemble(
        queues: Queues,
        socket: DatagramSocket,
        snapshot: Snapshot,
        pool: Arc<ChunkPool>,
        ring: RingLimits,
    ) -> io::Result<(Self, Halves, PlaneOutput)> {
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let (news_sender, news) = std_mpsc::sync_channel(NEWS_QUEUE);
        let (local_sender, local_news) = std_mpsc::sync_channel(NEWS_QUEUE);
        let is_blocked = Arc::new(AtomicBool::new(false));
        let (packet_sender, packets) = mpsc::channel(PACKET_QUEUE);
        let (direct_sender, direct) = mpsc::channel(PACKET_QUEUE);
        let (stray_sender, stray) = mpsc::channel(STRAY_QUEUE);
        let (datagram_sender, datagrams) = mpsc::channel(DATAGRAM_QUEUE);
        let (fact_sender, facts) = mpsc::channel(FACT_QUEUE);
        let (lost_sender, lost) = mpsc::channel(1 + queues.count());
        let counters = Arc::new(PlaneCounters::default());
        let (messages, message_receiver) = mpsc::channel(INBOUND_QUEUE);
        let (outbound, outbound_commands) = std_mpsc::channel();
        let (inbound, inbound_commands) = std_mpsc::channel();
        let (outbound_wake, inbound_wake) = (Waker::new()?, Waker::new()?);
        let steering = (queues.count() > 1).then(|| Arc::new(Steering::new(queues.count())));
        let out = outbound::Outbound::new(outbound::Parts {
            device: queues.first().clone(),
            socket: socket.clone(),
            snapshot: Arc::clone(&snapshot),
            counters: Arc::clone(&counters),
            commands: outbound_commands,
            news,
            local_news: local_sender,
            is_blocked: Arc::clone(&is_blocked),
            facts: fact_sender.clone(),
            lost: lost_sender.clone(),
            wake: outbound_wake.clone(),
            limits: Limits::default(),
            secret: SystemRng.bytes(),
            pool,
            ring,
        });
        let (out, others) = outbound::Reading::all(out, &queues, &socket, steering.as_ref())?;
        let inn = inbound::InboundThread::new(inbound::Parts {
            device: Writer::new(queues, steering),
            socket,
            snapshot: Arc::clone(&snapshot),
            counters: Arc::clone(&counters),
            commands: inbound_commands,
            messages: message_receiver,
            news: news_sender,
            local_news,
            is_blocked,
            reader: outbound_wake.clone(),
            packets: packet_sender,
            direct: direct_sender,
            stray: stray_sender,
            datagrams: datagram_sender,
            facts: fact_sender,
            lost: lost_sender,
            wake: inbound_wake.clone(),
            limits: Limits::default(),
            acks_seldom: ring.is_nothing(),
        });
        let threads = Vec::new();
        let plane =
            Self { snapshot, counters, outbound, outbound_wake, inbound, inbound_wake, messages, threads };
        let output = PlaneOutput { packets, direct, stray, datagrams, facts, lost };
        Ok((plane, Halves { outbound: out, others, inbound: inn }, output))
    }

    /// Gives both threads a new picture of the routes. The outbound thread looks at once: how long a peer has been without a
    /// path is counted from there.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.outbound_wake.wake();
    }

    /// What was dropped before it was known whose it was.
    pub fn counters(&self) -> &PlaneCounters {
        &self.counters
    }

    /// Sends a command to the outbound thread, which wakes for it.
    pub fn outbound(&self, command: OutboundCommand) {
        // A thread that ended has said why through `PlaneOutput::lost`; there is nobody left to tell.
        if self.outbound.send(command).is_ok() {
            self.outbound_wake.wake();
        }
    }

    /// Sends a command to the inbound thread, which takes it before the next message.
    pub fn inbound(&self, command: InboundCommand) {
        if self.inbound.send(command).is_ok() {
            self.inbound_wake.wake();
        }
    }

    /// Where FORWARD messages go in.
    pub fn messages(&self) -> InboundSender {
        InboundSender { messages: self.messages.clone(), wake: self.inbound_wake.clone() }
    }

    /// The outbound thread's eventfd, for queues that have room again.
    pub fn outbound_waker(&self) -> Waker {
        self.outbound_wake.clone()
    }

    /// Ends both threads and waits for them: a moment, since neither ever waits for anybody.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.outbound(OutboundCommand::Stop);
        self.inbound(InboundCommand::Stop);
        for thread in self.threads.drain(..) {
            // A panic there was printed there; shutting down goes on.
            let _ = thread.join();
        }
    }
}

/// Hands FORWARD messages to the inbound thread.
#[derive(Debug, Clone)]
pub struct InboundSender {
    messages: mpsc::Sender<InboundMessage>,
    wake: Waker,
}

impl InboundSender {
    /// Waits for room, so that a stream that is faster than this machine is slowed down. `false` when the thread is gone.
    pub async fn send(&self, message: InboundMessage) -> bool {
        let sent = self.messages.send(message).await.is_ok();
        self.wake.wake_sleeper();
        sent
    }

    /// Hands it over if there is room, and gives it back if not.
    ///
    /// # Errors
    /// The message.
    pub fn try_send(&self, message: InboundMessage) -> Result<(), InboundMessage> {
        self.messages.try_send(message).map_err(mpsc::error::TrySendError::into_inner)?;
        self.wake.wake_sleeper();
        Ok(())
    }
}
