//! Frames that wait to be sealed, because the stream that they are for has no room: a queue for each flow, served in turn (FQ-CoDel,
//! RFC 8290).
//!
//! # Why here
//!
//! The kernel lets go of a frame when it gives it to a TAP, so that no sender notices how much waits there: a TAP that is not read
//! holds a thousand superframes, seconds of a slow line, and whatever comes then waits behind them. And what is sealed has to arrive,
//! in the order in which it was sealed. So the one place where a frame may overtake those of other flows, or be dropped for having waited
//! too long, is between the two.
//!
//! # Turns
//!
//! Deficit round robin, [`QUANTUM`] bytes a turn. A flow that was empty goes before those that were not, once: a ping, or a flow that sends
//! less than its share, waits for no bulk transfer. Within a flow nothing overtakes anything.
//!
//! # Bounds
//!
//! [`CoDel`] drops what waited too long in a flow that stands. When there is too much in all, the oldest frame of the flow that has most goes.
//! At most [`FLOWS`] are told apart; more share one queue. Memory of frames that went is used again, [`SPARE_BYTES`] of it, and given back
//! when nothing was sent for a while.

use crate::plane::flow;
use shadowmesh_proto::queueing::CoDel;
use std::collections::VecDeque;
use std::hash::RandomState;
use std::time::Instant;

/// Bytes of a flow's turn: a frame of the usual size (RFC 8290 §5.2.3).
const QUANTUM: usize = 1514;
/// Flows that are told apart: they are looked through for each frame that waits.
const FLOWS: usize = 256;
/// Bytes of buffers that are kept for the next frames, until the next rest: as much as mostly waits at most.
const SPARE_BYTES: usize = 1 << 20;

/// A buffer that is so many times as large as the frame is not used for it.
const WASTE: usize = 4;

/// What waits for one peer.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: Vec<Flow>,
    /// Flows that were empty a moment ago, in their order.
    new: VecDeque<usize>,
    /// The others that are not empty.
    old: VecDeque<usize>,
    bytes: usize,
    spare: Spare,
    hasher: RandomState,
}

/// Memory of frames that went.
#[derive(Debug, Default)]
struct Spare {
    buffers: Vec<Vec<u8>>,
    /// What they have room for.
    bytes: usize,
}

/// One flow.
#[derive(Debug, Default)]
struct Flow {
    key: u64,
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Bytes that it may still send in its turn; below zero what it sent beyond.
    deficit: isize,
    codel: CoDel,
    /// Whether it is in one of the two lists.
    is_listed: bool,
}

/// A frame that waits.
#[derive(Debug)]
struct Frame {
    since: Instant,
    plaintext: Vec<u8>,
}

/// What is next, and what was dropped on the way to it.
#[derive(Debug, Default)]
pub(super) struct Next {
    /// Metadata byte and frame: to be given back with [`Flows::recycle`].
    pub(super) plaintext: Option<Vec<u8>>,
    pub(super) dropped: u64,
}

impl Flows {
    /// Whether nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames that wait.
    pub(super) fn frames(&self) -> u64 {
        self.flows.iter().map(|flow| flow.frames.len() as u64).sum()
    }

    /// Takes a frame (metadata byte first), where no more than `limit` bytes may wait; how many were dropped for it.
    pub(super) fn push(&mut self, now: Instant, plaintext: &[u8], limit: usize) -> u64 {
        let key = flow::key(plaintext.get(1..).unwrap_or_default(), &self.hasher);
        let at = self.place(key);
        let mut dropped = 0;
        while self.bytes + plaintext.len() > limit && self.drop_oldest_of_largest() {
            dropped += 1;
        }
        let mut bytes = self.spare.take(plaintext.len());
        bytes.extend_from_slice(plaintext);
        let Some(flow) = self.flows.get_mut(at) else { return dropped };
        flow.bytes += bytes.len();
        self.bytes += bytes.len();
        flow.frames.push_back(Frame { since: now, plaintext: bytes });
        if !std::mem::replace(&mut flow.is_listed, true) {
            flow.deficit = QUANTUM.cast_signed();
            self.new.push_back(at);
        }
        dropped
    }

    /// The next frame whose turn it is, and where it `may_drop` those before it, one that did not wait too long.
    pub(super) fn pop(&mut self, now: Instant, may_drop: bool) -> Next {
        let mut dropped = 0;
        while let Some((at, is_new)) = self.turn() {
            let Some(flow) = self.flows.get_mut(at) else { break };
            if flow.deficit <= 0 {
                flow.deficit += QUANTUM.cast_signed();
                self.end_turn(is_new);
                continue;
            }
            while let Some(frame) = flow.frames.pop_front() {
                flow.bytes -= frame.plaintext.len();
                self.bytes -= frame.plaintext.len();
                let waited = now.saturating_duration_since(frame.since);
                if !(may_drop && flow.codel.drops(now, waited, flow.bytes)) {
                    flow.deficit -= frame.plaintext.len().cast_signed();
                    return Next { plaintext: Some(frame.plaintext), dropped };
                }
                dropped += 1;
                self.spare.keep(frame.plaintext);
            }
            // One that was new goes through the others once, or it would be new again with its next frame and go before them for ever
            // (RFC 8290 §4.2).
            if is_new && !self.old.is_empty() {
                self.end_turn(is_new);
            } else {
                flow.is_listed = false;
                if is_new {
                    self.new.pop_front()
                } else {
                    self.old.pop_front()
                };
            }
        }
        Next { plaintext: None, dropped }
    }

    /// The next frame whose turn it is, however long it waited: another path takes all of them.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let flows = self.flows.iter().enumerate();
        let oldest = flows.filter_map(|(at, flow)| Some((flow.frames.front()?.since, at)));
        let (_, at) = oldest.min()?;
        let flow = self.flows.get_mut(at)?;
        let frame = flow.frames.pop_front()?;
        flow.bytes -= frame.plaintext.len();
        self.bytes -= frame.plaintext.len();
        Some(frame.plaintext)
    }

    /// How long frames waited until now says nothing of what follows.
    pub(super) fn forget(&mut self) {
        self.flows.iter_mut().for_each(|flow| flow.codel = CoDel::default());
    }

    /// Takes the memory of a frame back.
    pub(super) fn recycle(&mut self, plaintext: Vec<u8>) {
        self.spare.keep(plaintext);
    }

    /// Gives memory back when nothing waits.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self { hasher: self.hasher.clone(), ..Self::default() };
        }
    }

    /// Whose turn it is, and whether it is a new one.
    fn turn(&self) -> Option<(usize, bool)> {
        let new = self.new.front().map(|at| (*at, true));
        new.or_else(|| self.old.front().map(|at| (*at, false)))
    }

    /// Whose turn it was comes behind all others.
    fn end_turn(&mut self, is_new: bool) {
        let at = if is_new { self.new.pop_front() } else { self.old.pop_front() };
        self.old.extend(at);
    }

    /// Where frames of `key` wait. Those that find no place of their own share the last one, and go on to until that is empty: so none of a
    /// flow waits in two places.
    fn place(&mut self, key: u64) -> usize {
        let (own, shared) = self.flows.split_at(FLOWS.min(self.flows.len()));
        if let Some(at) = own.iter().position(|flow| flow.is_listed && flow.key == key) {
            return at;
        }
        if shared.iter().any(|flow| flow.is_listed) {
            return FLOWS;
        }
        let idle = own.iter().position(|flow| !flow.is_listed);
        let at = idle.unwrap_or_else(|| self.flows.len().min(FLOWS));
        match self.flows.get_mut(at) {
            Some(flow) => (flow.key, flow.codel) = (key, CoDel::default()),
            None => self.flows.push(Flow { key, ..Flow::default() }),
        }
        at
    }

    /// Whether there was one.
    fn drop_oldest_of_largest(&mut self) -> bool {
        let Some(flow) = self.flows.iter_mut().max_by_key(|flow| flow.bytes) else { return false };
        let Some(frame) = flow.frames.pop_front() else { return false };
        flow.bytes -= frame.plaintext.len();
        self.bytes -= frame.plaintext.len();
        self.spare.keep(frame.plaintext);
        true
    }
}

impl Spare {
    /// An empty one for so many bytes, not many times as large: what waits is counted by its bytes.
    fn take(&mut self, len: usize) -> Vec<u8> {
        let Some(mut buffer) = self.buffers.pop() else { return Vec::with_capacity(len) };
        self.bytes -= buffer.capacity();
        if buffer.capacity() > WASTE * len {
            return Vec::with_capacity(len);
        }
        buffer.clear();
        buffer
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        if self.bytes + buffer.capacity() <= SPARE_BYTES {
            self.bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests;
