//! The outbound half with several queues: a thread for each reads the device and sends datagrams beside the others, and they take turns at what
//! lies between.
//!
//! ```text
//!   queue 0 of the TAP --> read --+                                      +--> outbox 0 --> UDP socket
//!                                 +--> one at a time: a turn of Outbound +
//!   queue 1 of the TAP --> read --+    (switch, peers, seal, streams)    +--> outbox 1 --> UDP socket
//! ```
//!
//! # Why so
//!
//! Reading a superframe and sending its packets are system calls, and as long as sealing it or longer (docs/performance.md); they need nothing that is
//! shared. All that decides what becomes of a frame is in [`Outbound`], as with one queue, behind one lock that is held for the frames of a turn and not
//! for each: so a turn is what it always was, but that its frames were read before and that its datagrams leave afterwards. A lock for each peer
//! would let two peers be sealed for side by side. It would also be taken for each packet, with the one of the switch before it and the one of the
//! lists behind it. And two threads that seal for one peer would have to agree in which order its ring is filled, which is what tells a packet that was
//! handed over from one that was not.
//!
//! # Life
//!
//! A turn of a queue: [`Queue::read`] fills its memory, without the lock; [`Queue::seal`] is a turn of [`Outbound`] with those frames, with the lock;
//! [`Queue::leave`] sends what that left in the outbox, without it. The first queue's thread keeps time for all, and is who is woken by the control
//! task, by streams and by the inbound thread; but whoever has a turn does in it all that is to be done, commands first.
//!
//! # Invariants
//!
//! - A flow comes by one queue (`plane::steering`), and a queue's frames are sealed and leave in the order in which they were read. Packets of other
//!   flows may overtake them on the wire; the receiver's window is as wide as [`DATA_WINDOW`](shadowmesh_proto::session::limits::DATA_WINDOW).
//! - What is handed over is in the ring, and lies in an outbox or has left. Outboxes are handed in, and leave before anything else, before a way is ended
//!   or given up ([`Outbound::look_at_routes`]) and before what waits in a ring follows ([`Outbound::pump`]). An outbox that is
//!   on its way to the kernel is waited for. So the marker that ends a path comes behind all that took it, and what one thread still sends
//!   by a path that was given up is a duplicate of what went again.
//! - While what was handed in has no room at the kernel, nobody else hands over: it would be overtaken.
//! - A command is seen by all at once, for what it changes is behind the lock. That nothing more is sealed for a peer
//!   ([`OutboundCommand::StopSealing`](super::OutboundCommand::StopSealing)) is true of every thread when it is said: what one has read by then waits as any frame does.
//! - Frames that were read when nothing may be are kept, and are next. Whoever finds that they may be again wakes those who wait for it.
//! - The lock of an outbox is taken while the one of the half is held, or without it, and never the other way round.
//! - When one of the threads ends, all do.

use super::datagrams::Datagrams;
use super::{BATCH, BUFFER, FAULT_PAUSE, Faults, Outbound, Outgoing, QUIET, Rest, Turn};
use crate::device::offload::Superframe;
use crate::device::{Device, DeviceFault, Queues, VnetHeader};
use crate::plane::memory;
use crate::plane::steering::Steering;
use crate::plane::wake::Waker;
use crate::transport::udp::DatagramSocket;
use rustix::event::{PollFd, PollFlags};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a queue reads into: a turn's frames of the usual sizes, with room for one of the largest behind them.
const ARENA: usize = 4 * BUFFER;

/// The outbound half as a thread has it: alone, or as one of several.
#[derive(Debug)]
pub(in crate::plane) enum Reading {
    /// The only queue.
    Alone(Box<Outbound>),
    /// One of several.
    Of(Queue),
}

impl Reading {
    /// One for each of `queues`, of which the first is what the others' time is kept by.
    pub(in crate::plane) fn all(
        mut outbound: Outbound,
        queues: &Queues,
        socket: &DatagramSocket,
        steering: Option<&Arc<Steering>>,
    ) -> std::io::Result<(Self, Vec<Self>)> {
        let Some(steering) = steering else {
            return Ok((Self::Alone(Box::new(outbound)), Vec::new()));
        };
        let mut wakers = vec![outbound.wake.clone()];
        for _ in queues.others() {
            wakers.push(Waker::new()?);
        }
        let outbox = |_: &Waker| {
            let counters = Arc::clone(&outbound.counters);
            Arc::new(Mutex::new(Datagrams::deferring(socket.clone(), counters)))
        };
        let outboxes: Vec<_> = wakers.iter().map(outbox).collect();
        outbound.others.outboxes.clone_from(&outboxes);
        outbound.others.wakers.clone_from(&wakers);
        outbound.others.is_parked = vec![false; wakers.len()];
        let half = Arc::new(Mutex::new(outbound));
        let ways = outboxes.into_iter().zip(wakers);
        let mut all = ways.enumerate().map(|(number, (outbox, wake))| {
            Self::Of(Queue {
                number,
                half: Arc::clone(&half),
                device: queues.at(number).clone(),
                socket: socket.clone(),
                steering: Arc::clone(steering),
                outbox,
                wake,
                arena: Vec::new(),
                frames: Vec::new(),
                faults: Faults::default(),
                was_read_at: None,
                is_blocked: false,
                waits_for_socket: false,
            })
        });
        let first = all.next().ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok((first, all.collect()))
    }

    /// Takes commands and does one turn: how long to rest after it, if there is nothing to do. `Break` to end.
    ///
    /// # Errors
    /// The device is gone.
    pub(in crate::plane) fn step(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
    ) -> Result<ControlFlow<(), Option<Rest>>, DeviceFault> {
        match self {
            Self::Alone(outbound) => outbound.step(now, buffer),
            Self::Of(queue) => queue.step(now),
        }
    }

    /// See [`Outbound::answer_call`]. One of several reads before anything else in any case: a whole turn is its answer.
    ///
    /// # Errors
    /// The device is gone.
    pub(in crate::plane) fn answer_call(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
    ) -> Result<Option<Rest>, DeviceFault> {
        match self {
            Self::Alone(outbound) => outbound.answer_call(now, buffer),
            Self::Of(_) => Ok(None),
        }
    }

    /// What it waits for beside being woken; see [`Outbound::waits_for`].
    pub(in crate::plane) fn waits_for(&self, rest: Rest) -> [Option<PollFd<'_>>; 2] {
        match self {
            Self::Alone(outbound) => outbound.waits_for(rest),
            Self::Of(queue) => queue.waits_for(rest),
        }
    }

    /// What wakes it.
    pub(in crate::plane) const fn waker(&self) -> &Waker {
        match self {
            Self::Alone(outbound) => outbound.waker(),
            Self::Of(queue) => queue.waker(),
        }
    }

    /// It is about to rest.
    pub(in crate::plane) fn begin_rest(&self, rest: Rest) {
        match self {
            Self::Alone(outbound) => outbound.begin_rest(rest),
            Self::Of(_) if rest.is_quiet => memory::trim(),
            Self::Of(_) => {}
        }
    }

    /// Its rest is over: because a frame is there, and for no other reason, or not.
    pub(in crate::plane) fn call(&mut self, is_called: bool) {
        match self {
            Self::Alone(outbound) => outbound.call(is_called),
            Self::Of(_) => {}
        }
    }

    /// It ends with `fault`.
    pub(in crate::plane) fn fail(&self, fault: DeviceFault) {
        match self {
            Self::Alone(outbound) => outbound.fail(fault),
            Self::Of(queue) => queue.half().fail(fault),
        }
    }

    /// Whether frames were read that may go now: in a simulation nobody wakes it for them.
    pub(in crate::plane) fn has_more(&self) -> bool {
        match self {
            Self::Alone(_) => false,
            Self::Of(queue) => queue.has_more(),
        }
    }
}

/// Those who run the half together: nobody, where it is run alone.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// What each sealed and has not sent.
    outboxes: Vec<Arc<Mutex<Datagrams>>>,
    wakers: Vec<Waker>,
    /// Who sleeps until frames may be read again.
    is_parked: Vec<bool>,
    /// When the first wakes by itself.
    planned: Option<Instant>,
    is_over: bool,
}

impl Others {
    /// All that lies in outboxes goes into `datagrams`, and from there to the kernel as far as that has room.
    pub(super) fn hand_in(&self, datagrams: &mut Datagrams) {
        for outbox in &self.outboxes {
            datagrams.take_over(&mut lock(outbox));
        }
    }

    /// Gives memory back.
    pub(super) fn shrink(&self) {
        self.outboxes.iter().for_each(|outbox| lock(outbox).shrink());
    }

    fn wake_first(&self) {
        self.wakers.iter().take(1).for_each(Waker::wake);
    }

    /// Has those go on who wait for frames to be read.
    fn unpark(&mut self) {
        for (is_parked, waker) in self.is_parked.iter_mut().zip(&self.wakers) {
            if std::mem::take(is_parked) {
                waker.wake();
            }
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        self.wakers.iter().for_each(Waker::wake);
    }
}

/// One of several queues.
#[derive(Debug)]
pub(in crate::plane) struct Queue {
    number: usize,
    half: Arc<Mutex<Outbound>>,
    device: Device,
    socket: DatagramSocket,
    steering: Arc<Steering>,
    outbox: Arc<Mutex<Datagrams>>,
    wake: Waker,
    arena: Vec<u8>,
    /// What was read and is not sealed, in the arena.
    frames: Vec<Frame>,
    faults: Faults,
    /// When a frame was read, until its memory is given back.
    was_read_at: Option<Instant>,
    /// Whether the kernel had no room for what is in the outbox.
    is_blocked: bool,
    /// Whether it, or the half, had none at the last turn.
    waits_for_socket: bool,
}

/// A frame that was read.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Where its virtio header begins.
    at: usize,
    /// Bytes of the frame.
    len: usize,
    header: VnetHeader,
}

impl Queue {
    /// See [`Reading::step`].
    pub(in crate::plane) fn step(
        &mut self,
        now: Instant,
    ) -> Result<ControlFlow<(), Option<Rest>>, DeviceFault> {
        if self.is_blocked {
            self.leave();
        }
        let turn = self.read(now)?;
        let stepped = self.seal(now, turn)?;
        self.leave();
        Ok(stepped)
    }

    /// Reads a turn's frames, unless those of the last one are still here or have not left.
    pub(in crate::plane) fn read(&mut self, now: Instant) -> Result<Turn, DeviceFault> {
        if self.is_blocked {
            return Ok(Turn::Full);
        }
        if !self.frames.is_empty() {
            return Ok(Turn::Busy);
        }
        if self.arena.is_empty() {
            self.arena = vec![0; ARENA];
        }
        let (mut at, mut count) = (0, 0);
        while count < BATCH
            && let Some(room) = self.arena.get_mut(at..at + BUFFER)
        {
            let (header, len) = match self.device.read_frame(room) {
                Ok(Some(incoming)) => {
                    self.steering.note(now, self.number, incoming.frame);
                    let superframe = Superframe::new(&incoming.header, incoming.frame);
                    count += superframe.map_or(1, |superframe| superframe.count());
                    (incoming.header, incoming.frame.len())
                }
                Ok(None) => return Ok(Turn::Idle),
                Err(fault) => return self.faults.on_fault(fault),
            };
            self.faults = Faults::default();
            self.was_read_at = Some(now);
            self.frames.push(Frame { at, len, header });
            at += VnetHeader::LEN + len;
        }
        Ok(Turn::Busy)
    }

    /// A turn of the half, with the frames that were read, which came to `turn`.
    pub(in crate::plane) fn seal(
        &mut self,
        now: Instant,
        turn: Turn,
    ) -> Result<ControlFlow<(), Option<Rest>>, DeviceFault> {
        let shared = Arc::clone(&self.half);
        let half = &mut *lock(&shared);
        if half.others.is_over || !half.take_commands(now) {
            return Ok(ControlFlow::Break(()));
        }
        let snapshot = Arc::clone(&half.snapshot);
        let may_read = half.begin_turn(now, &snapshot)?;
        let turn = if may_read && !self.is_blocked {
            // What was handed over before is ahead of these.
            half.batches.datagrams.flush();
            let mut outbox = lock(&self.outbox);
            if !half.batches.datagrams.has_room() {
                outbox.block();
            }
            std::mem::swap(&mut half.batches.datagrams, &mut *outbox);
            let mut taken = Ok(());
            for Frame { at, len, header } in self.frames.drain(..) {
                let Some(plaintext) =
                    self.arena.get_mut(at + VnetHeader::LEN - 1..at + VnetHeader::LEN + len)
                else {
                    continue;
                };
                if let Err(fault) = half.take(now, &snapshot, Outgoing { header, plaintext }) {
                    taken = Err(fault);
                }
            }
            std::mem::swap(&mut half.batches.datagrams, &mut *outbox);
            drop(outbox);
            taken?;
            half.speak(now, &snapshot)?;
            turn
        } else {
            Turn::Full
        };
        half.end_turn(now, &snapshot);
        let rest = match turn {
            Turn::Busy => None,
            Turn::Idle | Turn::Full | Turn::Refused => Some(half.rest(now, turn)),
        };
        self.agree(half, may_read, rest);
        Ok(ControlFlow::Continue(rest.map(|rest| {
            // The first keeps time for all. Whose device refused tries it again by himself.
            let due = rest.due.filter(|_| self.number == 0);
            let again = (turn == Turn::Refused).then(|| now + FAULT_PAUSE);
            Rest { due: due.into_iter().chain(again).chain(self.give_back(now)).min(), ..rest }
        })))
    }

    /// Gives its memory back, if nothing was read for a while; when to look again.
    fn give_back(&mut self, now: Instant) -> Option<Instant> {
        let is_over = |at: &mut Instant| now.saturating_duration_since(*at) >= QUIET;
        self.was_read_at.take_if(is_over);
        if self.frames.is_empty() && self.was_read_at.is_none() {
            self.arena = Vec::new();
        }
        self.was_read_at.map(|at| at + QUIET)
    }

    /// Sees to it that the others know what they have to.
    fn agree(&mut self, half: &mut Outbound, may_read: bool, rest: Option<Rest>) {
        self.waits_for_socket = !half.batches.datagrams.has_room();
        let others = &mut half.others;
        if let Some(is_parked) = others.is_parked.get_mut(self.number) {
            *is_parked = !may_read;
        }
        if may_read {
            others.unpark();
        }
        let Some(due) = rest.map(|rest| rest.due) else { return };
        if self.number == 0 {
            others.planned = due;
        } else if due.is_some_and(|due| others.planned.is_none_or(|planned| due < planned)) {
            // It is told once.
            others.planned = due;
            others.wake_first();
        }
    }

    /// Sends what is in the outbox, as far as the kernel has room.
    pub(in crate::plane) fn leave(&mut self) {
        let mut outbox = lock(&self.outbox);
        outbox.flush();
        self.is_blocked = !outbox.has_room();
    }

    /// See [`Reading::waker`].
    pub(in crate::plane) const fn waker(&self) -> &Waker {
        &self.wake
    }

    fn waits_for(&self, rest: Rest) -> [Option<PollFd<'_>>; 2] {
        let readable = (rest.reads && !self.is_blocked).then(|| PollFd::new(&self.device, PollFlags::IN));
        let is_full = self.is_blocked || self.waits_for_socket;
        [readable, is_full.then(|| PollFd::new(&self.socket, PollFlags::OUT))]
    }

    fn has_more(&self) -> bool {
        let is_parked = self.half().others.is_parked.get(self.number).copied();
        !self.is_blocked && !self.frames.is_empty() && is_parked == Some(false)
    }

    fn half(&self) -> MutexGuard<'_, Outbound> {
        lock(&self.half)
    }
}

impl Drop for Queue {
    /// What is left of a device of which a part is gone is of no use.
    fn drop(&mut self) {
        self.half().others.end();
    }
}

/// A thread that panics ends the program; in a test the others go on to their own ends.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
