//! A device without a kernel: two ports joined back to back, for tests and simulations.
//!
//! What one port writes the other reads, in order, each with its virtio header. A port is readable to `poll`
//! exactly while a packet waits or the other end is gone, because the eventfd is set and cleared under the
//! same lock that guards the queue. As with the ring of a TAP the queue is bounded, and what does not fit is
//! dropped and counted, never an error.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::checksum;
use super::error::DeviceFault;
use super::name::DeviceName;
use super::offload::Superframe;
use super::tap_linux::{DropCounts, Drops};
use super::vnet::{Segmentation, VnetHeader};
use super::{Device, Incoming};

/// One end of a pair.
#[derive(Debug)]
pub struct MemoryPort {
    name: DeviceName,
    incoming: Arc<Lane>,
    outgoing: Arc<Lane>,
    drops: Drops,
    /// What a superframe was cut into, for [`Self::receive`].
    cut: Mutex<VecDeque<Vec<u8>>>,
    /// Whether it takes none.
    refuses_superframes: AtomicBool,
}

/// One direction: packets waiting, and the descriptor that says so.
#[derive(Debug)]
struct Lane {
    state: Mutex<LaneState>,
    ready: OwnedFd,
    capacity: usize,
}

#[derive(Debug, Default)]
struct LaneState {
    packets: VecDeque<Vec<u8>>,
    overflowed: u64,
    closed: bool,
}

/// Makes two ports that are each other's far end, with room for `capacity` packets in each direction.
///
/// # Errors
/// When the process has no descriptors left.
pub fn pair(name: &DeviceName, capacity: usize) -> std::io::Result<(MemoryPort, MemoryPort)> {
    let (a, b) = (Arc::new(Lane::new(capacity)?), Arc::new(Lane::new(capacity)?));
    let port = |incoming: &Arc<Lane>, outgoing: &Arc<Lane>| MemoryPort {
        name: name.clone(),
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        drops: Drops::default(),
        cut: Mutex::default(),
        refuses_superframes: AtomicBool::new(false),
    };
    Ok((port(&a, &b), port(&b, &a)))
}

impl MemoryPort {
    /// The name it was given.
    pub const fn name(&self) -> &DeviceName {
        &self.name
    }

    /// This port as the device of a daemon.
    pub fn into_device(self) -> Device {
        Device::Memory(Arc::new(self))
    }

    /// Writes a complete frame without the caller keeping room for the header. For the test's end of a pair.
    ///
    /// # Errors
    /// As [`Device::write_frame`].
    pub fn send(&self, frame: &[u8]) -> Result<(), DeviceFault> {
        self.write_frame(VnetHeader::COMPLETE, &mut [&[0; VnetHeader::LEN], frame].concat())
    }

    /// Takes the next frame as a vector, as whoever is behind a kernel sees it: superframes cut, checksums complete. For the test's end of a
    /// pair.
    ///
    /// # Errors
    /// As [`Device::read_frame`].
    pub fn receive(&self) -> Result<Option<Vec<u8>>, DeviceFault> {
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(frame) = cut.pop_front() {
            return Ok(Some(frame));
        }
        let mut buffer = vec![0; usize::from(u16::MAX) + VnetHeader::LEN + 64];
        let Some(Incoming { header, frame }) = self.read_frame(&mut buffer)? else { return Ok(None) };
        if let Ok(superframe) = Superframe::new(&header, frame) {
            let mut segments = superframe.segments(None);
            cut.extend(std::iter::from_fn(|| {
                let mut segment = Vec::new();
                segments.next_into(&mut segment).then_some(segment)
            }));
            return Ok(cut.pop_front());
        }
        if header.needs_checksum() {
            // `Drops::admit` lets none through that has no place for it.
            let _ = checksum::complete(frame, header.checksum_start, header.checksum_offset);
        }
        Ok(Some(frame.to_vec()))
    }

    /// Refuses superframes from now on that are written to it, as a kernel does that cannot cut them.
    pub fn refuse_superframes(&self) {
        self.refuses_superframes.store(true, Relaxed);
    }

    /// Packets that this port wrote and the other had no room for.
    pub fn overflowed(&self) -> u64 {
        self.outgoing.lock().overflowed
    }

    /// Packets that the other port wrote and this one had no room for.
    pub fn unread(&self) -> u64 {
        self.incoming.lock().overflowed
    }

    /// Frames that were dropped on reading, by cause.
    pub fn drops(&self) -> DropCounts {
        self.drops.counts()
    }

    /// See [`Device::read_frame`].
    ///
    /// # Errors
    /// [`DeviceFault::Gone`] once the other port is dropped and everything it sent has been read.
    pub fn read_frame<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<Incoming<'b>>, DeviceFault> {
        while let Some(packet) = self.incoming.pop()? {
            // As `read` does: what does not fit is cut off.
            let len = packet.len().min(buffer.len());
            for (into, from) in buffer.iter_mut().zip(&packet) {
                *into = *from;
            }
            if let Some(header) = self.drops.admit(buffer, len) {
                return Ok(buffer.get_mut(VnetHeader::LEN..len).map(|frame| Incoming { header, frame }));
            }
        }
        Ok(None)
    }

    /// See [`Device::write_frame`].
    ///
    /// # Errors
    /// [`DeviceFault::Gone`] once the other port is dropped, [`DeviceFault::Short`] as for a TAP.
    pub fn write_frame(&self, header: VnetHeader, packet: &mut [u8]) -> Result<(), DeviceFault> {
        let len = packet.len();
        if self.refuses_superframes.load(Relaxed) && header.segmentation() != Segmentation::None {
            return Err(DeviceFault::Io(Errno::INVAL.into()));
        }
        match packet.first_chunk_mut::<{ VnetHeader::LEN }>() {
            Some(space) if len >= VnetHeader::LEN + 14 => *space = header.emit(),
            _ => return Err(DeviceFault::Short(len)),
        }
        self.outgoing.push(packet)
    }
}

impl AsFd for MemoryPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.incoming.ready.as_fd()
    }
}

impl Drop for MemoryPort {
    fn drop(&mut self) {
        self.incoming.close();
        self.outgoing.close();
    }
}

impl Lane {
    fn new(capacity: usize) -> std::io::Result<Self> {
        let ready = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { state: Mutex::default(), ready, capacity })
    }

    /// A queue stays a queue when a thread that held it panicked.
    fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, packet: &[u8]) -> Result<(), DeviceFault> {
        let mut state = self.lock();
        if state.closed {
            return Err(DeviceFault::Gone);
        }
        if state.packets.len() >= self.capacity {
            state.overflowed += 1;
            return Ok(());
        }
        state.packets.push_back(packet.to_vec());
        if state.packets.len() == 1 {
            self.signal()?;
        }
        Ok(())
    }

    fn pop(&self) -> Result<Option<Vec<u8>>, DeviceFault> {
        let mut state = self.lock();
        let Some(packet) = state.packets.pop_front() else {
            return if state.closed { Err(DeviceFault::Gone) } else { Ok(None) };
        };
        if state.packets.is_empty() && !state.closed {
            // Resets the counter, which is not zero: the push that ended the emptiness set it.
            rustix::io::read(&self.ready, &mut [0; 8]).map_err(std::io::Error::from)?;
        }
        Ok(Some(packet))
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        // The counter cannot be at its limit of 2^64 - 2, the only reason for a refusal.
        let _ = self.signal();
    }

    fn signal(&self) -> std::io::Result<()> {
        rustix::io::write(&self.ready, &1u64.to_ne_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::offload::superframes::{Choice, made};
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn ports(capacity: usize) -> (MemoryPort, MemoryPort) {
        pair(&"mem0".parse().unwrap(), capacity).unwrap()
    }

    fn readable(port: &MemoryPort) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(port, PollFlags::IN)], Some(&now)).unwrap() == 1
    }

    fn frame(tag: u8) -> Vec<u8> {
        vec![tag; 60]
    }

    #[test]
    fn frames_cross_in_order_with_their_header() {
        let (kernel, daemon) = ports(8);
        let choice =
            Choice { tags: 0, is_v6: false, is_tcp: true, ip_options: 0, tcp_options: 0, flags: 0, size: 20 };
        let made = made(choice, &[1; 60]);
        kernel.write_frame(made.header, &mut [&[0; VnetHeader::LEN], &made.frame[..]].concat()).unwrap();
        kernel.send(&frame(2)).unwrap();
        let device = daemon.into_device();
        let mut buffer = [0; 128];
        let first = device.read_frame(&mut buffer).unwrap().unwrap();
        assert_eq!((first.header, &*first.frame), (made.header, &made.frame[..]));
        let second = device.read_frame(&mut buffer).unwrap().unwrap();
        assert_eq!((second.header, &*second.frame), (VnetHeader::COMPLETE, &frame(2)[..]));
        assert_eq!(device.read_frame(&mut buffer).unwrap(), None);
    }

    #[test]
    fn readable_exactly_while_something_waits() {
        let (a, b) = ports(8);
        assert!(!readable(&b));
        a.send(&frame(1)).unwrap();
        a.send(&frame(2)).unwrap();
        assert!(readable(&b) && !readable(&a));
        b.receive().unwrap().unwrap();
        assert!(readable(&b));
        b.receive().unwrap().unwrap();
        assert!(!readable(&b));
    }

    #[test]
    fn what_does_not_fit_the_queue_is_dropped_and_counted() {
        let (a, b) = ports(2);
        for tag in 0..5 {
            a.send(&frame(tag)).unwrap();
        }
        assert_eq!(a.overflowed(), 3);
        assert_eq!(b.receive().unwrap(), Some(frame(0)));
        assert_eq!(b.receive().unwrap(), Some(frame(1)));
        assert_eq!(b.receive().unwrap(), None);
    }

    #[test]
    fn a_frame_that_fills_the_buffer_is_taken_for_a_cut_one() {
        let (a, b) = ports(4);
        a.send(&[7; 100]).unwrap();
        a.send(&frame(1)).unwrap();
        let mut buffer = [0; VnetHeader::LEN + 100];
        let incoming = b.read_frame(&mut buffer).unwrap().unwrap();
        assert_eq!(incoming.frame, &frame(1)[..]);
        assert_eq!(b.drops(), DropCounts { truncated: 1, malformed: 0 });
    }

    #[test]
    fn a_checksum_is_completed_or_the_frame_is_dropped() {
        let (a, b) = ports(4);
        let needs = |start, offset| VnetHeader {
            flags: 1,
            checksum_start: start,
            checksum_offset: offset,
            ..VnetHeader::COMPLETE
        };
        let packet = || [vec![0; VnetHeader::LEN], vec![0; 40]].concat();
        a.write_frame(needs(34, 16), &mut packet()).unwrap();
        a.write_frame(needs(20, 6), &mut packet()).unwrap();
        let mut buffer = [0; 128];
        let incoming = b.read_frame(&mut buffer).unwrap().unwrap();
        assert_eq!(incoming.header, VnetHeader::COMPLETE);
        assert_eq!(incoming.frame[26..28], [0xff, 0xff]);
        assert_eq!(b.drops(), DropCounts { truncated: 0, malformed: 1 });
    }

    #[test]
    fn a_dropped_end_is_seen_after_what_it_sent() {
        let (a, b) = ports(4);
        a.send(&frame(1)).unwrap();
        drop(a);
        assert!(readable(&b));
        assert_eq!(b.receive().unwrap(), Some(frame(1)));
        assert!(readable(&b));
        assert!(matches!(b.receive(), Err(DeviceFault::Gone)));
        assert!(matches!(b.send(&frame(2)), Err(DeviceFault::Gone)));
    }

    #[test]
    fn a_packet_without_an_ethernet_header_is_refused() {
        let (a, _b) = ports(4);
        assert!(matches!(a.write_frame(VnetHeader::COMPLETE, &mut [0; 23]), Err(DeviceFault::Short(23))));
        assert!(matches!(a.write_frame(VnetHeader::COMPLETE, &mut [0; 3]), Err(DeviceFault::Short(3))));
    }
}
