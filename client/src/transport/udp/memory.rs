//! A socket without a kernel: what is sent waits for whoever carries it, and what he brings is received. For simulations, which
//! say themselves where a datagram goes and whether it arrives.
//!
//! Both directions are bounded in bytes as a kernel's are: a sender that is ahead is told to wait, and what arrives at a full
//! buffer is dropped and counted. The descriptor is readable exactly while something waits to be received.

use super::{RECEIVE_BUFFER, SEND_BUFFER};
use quinn_udp::RecvMeta;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Segments of one call: what Linux takes (`UDP_MAX_SEGMENTS`).
pub(super) const SEGMENTS: usize = 64;

/// The socket.
#[derive(Debug)]
pub struct MemorySocket {
    port: u16,
    ready: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sent: VecDeque<(SocketAddr, Vec<u8>)>,
    sent_bytes: usize,
    arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    arrived_bytes: usize,
    overflowed: u64,
}

impl MemorySocket {
    /// A socket on `port` of whatever address it is said to have.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new(port: u16) -> io::Result<Self> {
        let ready = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { port, ready, state: Mutex::default() })
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The next datagram to be carried, and where to.
    pub fn take(&self) -> Option<(SocketAddr, Vec<u8>)> {
        let mut state = self.lock();
        let taken = state.sent.pop_front()?;
        state.sent_bytes -= taken.1.len();
        Some(taken)
    }

    /// A datagram arrives.
    pub fn put(&self, from: SocketAddr, datagram: Vec<u8>) {
        let mut state = self.lock();
        if state.arrived_bytes + datagram.len() > RECEIVE_BUFFER {
            state.overflowed += 1;
            return;
        }
        if state.arrived.is_empty() {
            // Fails only when the count is at its maximum, and then it is readable.
            let _ = rustix::io::write(&self.ready, &1u64.to_ne_bytes());
        }
        state.arrived_bytes += datagram.len();
        state.arrived.push_back((from, datagram));
    }

    /// Datagrams that arrived and had no room.
    pub fn overflowed(&self) -> u64 {
        self.lock().overflowed
    }

    pub(super) fn send(&self, to: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let mut state = self.lock();
        if state.sent_bytes + contents.len() > SEND_BUFFER {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.sent_bytes += contents.len();
        state.sent.extend(contents.chunks(segment.max(1)).map(|datagram| (to, datagram.to_vec())));
        Ok(())
    }

    pub(super) fn receive(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        let mut state = self.lock();
        let mut filled = 0;
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            let Some((from, datagram)) = state.arrived.pop_front() else { break };
            state.arrived_bytes -= datagram.len();
            // As `recv` does: what does not fit is cut off.
            let len = datagram.len().min(buffer.len());
            if let (Some(into), Some(from)) = (buffer.get_mut(..len), datagram.get(..len)) {
                into.copy_from_slice(from);
            }
            *meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (from, len, len);
            filled += 1;
        }
        if filled == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if state.arrived.is_empty() {
            // Not zero: the datagram that ended the emptiness set it.
            rustix::io::read(&self.ready, &mut [0; 8])?;
        }
        Ok(filled)
    }

    /// A queue stays a queue when a thread that held it panicked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for MemorySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::udp::DatagramSocket;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::sync::Arc;

    fn is_readable(socket: &DatagramSocket) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&now)).unwrap() == 1
    }

    #[test]
    fn it_is_cut_into_segments_and_readable_exactly_while_something_waits() {
        let memory = Arc::new(MemorySocket::new(4000).unwrap());
        let socket = DatagramSocket::Memory(Arc::clone(&memory));
        let peer: SocketAddr = "192.0.2.1:9".parse().unwrap();
        socket.send(peer, &[7; 2500], 1000).unwrap();
        let lens: Vec<_> = std::iter::from_fn(|| memory.take()).map(|(to, it)| (to, it.len())).collect();
        assert_eq!(lens, [(peer, 1000), (peer, 1000), (peer, 500)]);
        assert!(!is_readable(&socket));
        memory.put(peer, vec![1; 5]);
        memory.put(peer, vec![2; 3]);
        assert!(is_readable(&socket));
        let (mut buffer, mut metas) = ([0; 4], [RecvMeta::default()]);
        let mut receive = || {
            let count = socket.receive(&mut [IoSliceMut::new(&mut buffer)], &mut metas)?;
            Ok::<_, io::Error>((count, metas[0].addr, metas[0].len))
        };
        assert_eq!(receive().unwrap(), (1, peer, 4), "cut off");
        assert!(is_readable(&socket));
        assert_eq!(receive().unwrap(), (1, peer, 3));
        assert!(!is_readable(&socket));
        assert_eq!(receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_full_buffer_makes_the_sender_wait_and_drops_what_arrives() {
        let memory = Arc::new(MemorySocket::new(4000).unwrap());
        let socket = DatagramSocket::Memory(Arc::clone(&memory));
        let peer: SocketAddr = "192.0.2.1:9".parse().unwrap();
        let chunk = vec![0; 60_000];
        let refused = loop {
            if let Err(error) = socket.send(peer, &chunk, 60_000) {
                break error;
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        memory.take().unwrap();
        socket.send(peer, &chunk, 60_000).unwrap();
        while memory.overflowed() == 0 {
            memory.put(peer, chunk.clone());
        }
    }
}
