//! Packets on their way into the UDP socket: per address one burst of equal segments, sent with one call (UDP GSO).
//!
//! A burst is sent when the next packet does not fit it, and at the end of a turn. What lies in the ring as one is sent from there. What the kernel has no room for stays here
//! and is sent first when it has; meanwhile nothing more is taken, and the thread reads no more frames.
//!
//! Those of a queue among several ([`Datagrams::deferring`]) send nothing until they are told to ([`Datagrams::flush`]): while they are filled others wait.
//! Bursts to one address leave in the order in which they were begun, and none after one for which there was no room.

use crate::plane::snapshot::PlaneCounters;
use crate::transport::udp::{DatagramSocket, MAX_PAYLOAD};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bursts whose memory is kept: more peers than this are seldom sent to in one turn.
const KEPT: usize = 8;

/// Bursts being filled.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: DatagramSocket,
    counters: Arc<PlaneCounters>,
    open: Vec<Burst>,
    /// Memory of bursts that were sent.
    spare: Vec<Vec<u8>>,
    is_blocked: bool,
    /// Whether nothing is sent but by [`Self::flush`].
    is_deferring: bool,
}

#[derive(Debug)]
struct Burst {
    to: SocketAddr,
    /// Bytes of each packet but the last.
    segment: usize,
    packets: usize,
    bytes: Vec<u8>,
}

impl Burst {
    /// Whether a packet of `len` bytes may follow.
    fn takes(&self, len: usize, max_segments: usize) -> bool {
        let is_whole = self.bytes.len() == self.segment * self.packets;
        is_whole
            && len <= self.segment
            && self.packets < max_segments
            && self.bytes.len() + len <= MAX_PAYLOAD
    }
}

impl Datagrams {
    pub(super) const fn new(socket: DatagramSocket, counters: Arc<PlaneCounters>) -> Self {
        Self { socket, counters, open: Vec::new(), spare: Vec::new(), is_blocked: false, is_deferring: false }
    }

    /// Those that send nothing by themselves.
    pub(super) fn deferring(socket: DatagramSocket, counters: Arc<PlaneCounters>) -> Self {
        Self { is_deferring: true, ..Self::new(socket, counters) }
    }

    /// The socket, to be waited for while [`Self::has_room`] says no.
    pub(super) const fn socket(&self) -> &DatagramSocket {
        &self.socket
    }

    /// Whether packets are taken. When not, look again with [`Self::flush`] once the socket can be written.
    pub(super) const fn has_room(&self) -> bool {
        !self.is_blocked
    }

    /// Adds a datagram for `to`, which lies in parts; whether it was taken.
    pub(super) fn push(&mut self, to: SocketAddr, parts: &[&[u8]]) -> bool {
        let len = parts.iter().map(|part| part.len()).sum();
        if self.is_blocked || len > MAX_PAYLOAD {
            return false;
        }
        let (is_deferring, max_segments) = (self.is_deferring, self.socket.max_segments(to));
        let last = self.open.iter_mut().rfind(|burst| burst.to == to);
        if let Some(burst) = last
            && (!is_deferring || burst.takes(len, max_segments))
        {
            if !burst.bytes.is_empty() && !burst.takes(len, max_segments) {
                if !send(&self.socket, &self.counters, burst) {
                    self.is_blocked = true;
                    return false;
                }
                burst.bytes.clear();
            }
            burst.add(len, parts);
            return true;
        }
        let mut burst = Burst { to, segment: 0, packets: 0, bytes: self.spare.pop().unwrap_or_default() };
        burst.add(len, parts);
        self.open.push(burst);
        true
    }

    /// Sends `packets` datagrams of `segment` bytes, of which the last may be shorter, from where they lie, behind what is being filled for `to`;
    /// whether they were taken.
    pub(super) fn send_run(&mut self, to: SocketAddr, bytes: &[u8], segment: usize, packets: usize) -> bool {
        if packets == 1 || self.socket.max_segments(to) == 1 {
            // More may come that goes with it. Or the kernel does not cut: one at a time, and where it has no room for the next, all of them go again,
            // of which the receiver drops what it has.
            return bytes.chunks(segment).all(|datagram| self.push(to, &[datagram]));
        }
        if self.is_deferring {
            if !self.is_blocked {
                let mut copy = self.spare.pop().unwrap_or_default();
                copy.extend_from_slice(bytes);
                self.open.push(Burst { to, segment, packets, bytes: copy });
            }
            return !self.is_blocked;
        }
        if let Some(burst) = self.open.iter_mut().find(|burst| burst.to == to) {
            if self.is_blocked || !send(&self.socket, &self.counters, burst) {
                self.is_blocked = true;
                return false;
            }
            burst.bytes.clear();
        }
        self.is_blocked = self.is_blocked || !send_bytes(&self.socket, &self.counters, to, bytes, segment);
        !self.is_blocked
    }

    /// Sends everything, as far as the kernel has room.
    pub(super) fn flush(&mut self) {
        let (socket, counters, spare) = (&self.socket, &self.counters, &mut self.spare);
        let mut is_blocked = false;
        self.open.retain_mut(|burst| {
            is_blocked = is_blocked || !send(socket, counters, burst);
            if is_blocked {
                return true;
            }
            if spare.len() < KEPT {
                burst.bytes.clear();
                spare.push(std::mem::take(&mut burst.bytes));
            }
            false
        });
        self.is_blocked = is_blocked;
    }

    /// Takes nothing until the next [`Self::flush`].
    pub(super) const fn block(&mut self) {
        self.is_blocked = true;
    }

    /// Takes over what others hold, behind what is here, and sends it as far as the kernel has room.
    pub(super) fn take_over(&mut self, others: &mut Self) {
        if !others.open.is_empty() {
            self.open.append(&mut others.open);
            self.flush();
        }
    }

    /// Gives memory back.
    pub(super) fn shrink(&mut self) {
        self.spare = Vec::new();
    }
}

impl Burst {
    fn add(&mut self, len: usize, parts: &[&[u8]]) {
        if self.bytes.is_empty() {
            self.segment = len;
            self.packets = 0;
        }
        self.packets += 1;
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
    }
}

/// As [`send_bytes`].
fn send(socket: &DatagramSocket, counters: &PlaneCounters, burst: &Burst) -> bool {
    burst.bytes.is_empty() || send_bytes(socket, counters, burst.to, &burst.bytes, burst.segment)
}

/// `false` when the kernel has no room now. Any other refusal is a loss on the way: the ring has the packets, and the path is
/// found out by its own means.
fn send_bytes(
    socket: &DatagramSocket,
    counters: &PlaneCounters,
    to: SocketAddr,
    bytes: &[u8],
    segment: usize,
) -> bool {
    match socket.send(to, bytes, segment) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => {
            // Threads of several queues send side by side.
            counters.datagrams_refused.fetch_add(1, Relaxed);
            tracing::debug!(%error, %to, "a datagram was not sent");
            true
        }
    }
}
