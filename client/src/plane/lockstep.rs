//! Both halves of the data plane without threads, in the caller's time: for simulations.
//!
//! What runs is what the threads run, turn for turn; only who wakes them differs. [`Lockstep::run`] goes on until neither half finds
//! anything to do, and says when one of them would have woken by itself. A caller that takes something out of a full queue calls it
//! again.

use super::inbound::InboundThread;
use super::outbound::{BUFFER, Reading};
use super::{Halves, Plane, PlaneOutput, Snapshot};
use crate::device::{DeviceFault, Queues};
use crate::transport::udp::DatagramSocket;
use shadowmesh_proto::session::{ChunkPool, RingLimits};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

/// A data plane that runs when it is told to.
#[derive(Debug)]
pub struct Lockstep {
    plane: Plane,
    outbound: Vec<Reading>,
    inbound: InboundThread,
    buffer: Box<[u8]>,
    due: Option<Instant>,
}

impl Lockstep {
    /// As [`Plane::start`], with a device and a socket of which nothing is waited for.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new(
        queues: impl Into<Queues>,
        socket: DatagramSocket,
        snapshot: Snapshot,
        pool: Arc<ChunkPool>,
        ring: RingLimits,
    ) -> io::Result<(Self, PlaneOutput)> {
        let (plane, halves, output) = Plane::assemble(queues.into(), socket, snapshot, pool, ring)?;
        let Halves { outbound, others, inbound } = halves;
        let outbound = std::iter::once(outbound).chain(others).collect();
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Ok((Self { plane, outbound, inbound, buffer, due: None }, output))
    }

    /// Where commands and pictures go in.
    pub const fn plane(&self) -> &Plane {
        &self.plane
    }

    /// When [`Self::run`] has something to do by itself.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// What a thread does when a frame, a datagram or both ended its sleep: the halves answer those, and look at nothing else.
    ///
    /// # Errors
    /// The device is gone.
    #[cfg(test)]
    pub(super) fn answer(&mut self, now: Instant) -> Result<(), DeviceFault> {
        self.inbound.call(true);
        self.inbound.answer_call(now)?;
        if let Some(outbound) = self.outbound.first_mut() {
            outbound.call(true);
            outbound.answer_call(now, &mut self.buffer)?;
        }
        Ok(())
    }

    /// Runs both halves until neither finds anything to do.
    ///
    /// # Errors
    /// The device is gone.
    pub fn run(&mut self, now: Instant) -> Result<(), DeviceFault> {
        loop {
            let mut due = None;
            let mut is_busy = false;
            for queue in &mut self.outbound {
                match queue.step(now, &mut self.buffer)? {
                    ControlFlow::Break(()) => return Ok(()),
                    ControlFlow::Continue(None) => is_busy = true,
                    ControlFlow::Continue(Some(rest)) => due = rest.due.into_iter().chain(due).min(),
                }
            }
            match self.inbound.step(now)? {
                ControlFlow::Break(()) => return Ok(()),
                ControlFlow::Continue(None) => is_busy = true,
                ControlFlow::Continue(Some(rest)) => {
                    is_busy |= rest.has_worked;
                    due = rest.due.into_iter().chain(due).min();
                }
            }
            if !is_busy && !self.outbound.iter().any(Reading::has_more) {
                self.due = due;
                return Ok(());
            }
        }
    }
}
