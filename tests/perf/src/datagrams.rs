//! A UDP socket with the kernel's segmentation (`UDP_SEGMENT`) and aggregation (`UDP_GRO`), and with many datagrams a call (`sendmmsg`, `recvmmsg`).

use std::io;
use std::mem;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

/// The most bytes that one call sends: an IPv4 packet without its headers.
pub const MAX_SEND: usize = 65_535 - 20 - 8;
/// The most segments that every kernel cuts a call into (`UDP_MAX_SEGMENTS` of `include/linux/udp.h` before 6.9).
pub const MAX_SEGMENTS: usize = 64;
/// Datagrams in one call of [`Datagrams::send_many`] and [`Datagrams::receive_many`].
pub const BATCH: usize = 64;
/// Wide enough for a burst of superframes; without it the receiving side loses what arrives while it writes.
const BUFFER: libc::c_int = 8 << 20;

/// Room for one control message that holds an integer, aligned as the kernel's macros want it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// A blocking IPv4 socket.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
}

impl Datagrams {
    /// A socket at `local`, with large buffers.
    ///
    /// # Errors
    /// What the kernel said: the address is taken, or the buffers are above its limit and the caller is not root.
    pub fn bind(local: SocketAddrV4) -> io::Result<Self> {
        let socket = Self { socket: UdpSocket::bind(local)? };
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER)?;
        socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER)?;
        Ok(socket)
    }

    /// From now on all that is sent goes to `peer`, and only what `peer` sends is received.
    ///
    /// # Errors
    /// What the kernel said: there is no route.
    pub fn connect(&self, peer: SocketAddrV4) -> io::Result<()> {
        self.socket.connect(SocketAddr::V4(peer))
    }

    /// Asks for what arrives in a row to be handed over together ([`Self::receive_segments`]).
    ///
    /// # Errors
    /// What the kernel said: it is older than 5.0.
    pub fn aggregate(&self) -> io::Result<()> {
        self.set(libc::SOL_UDP, libc::UDP_GRO, 1)
    }

    /// How long receiving waits before it fails with `WouldBlock`.
    ///
    /// # Errors
    /// `InvalidInput` for no time at all.
    pub fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(time))
    }

    /// Sends `data` to the peer as datagrams of `segment` bytes, the last one shorter; at most [`MAX_SEND`] bytes and [`MAX_SEGMENTS`] segments.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn send_segments(&self, data: &[u8], segment: u16) -> io::Result<()> {
        if data.len() <= usize::from(segment) {
            return self.socket.send(data).map(drop);
        }
        let mut control = Control([0; 64]);
        let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        // SAFETY: all-zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        // SAFETY: the message points at `control`, which is aligned for a header and has room for it and two bytes; `sendmsg` only reads
        // `data`, `part` and `control`, and all three outlive the call.
        let sent = unsafe {
            message.msg_controllen = libc::CMSG_SPACE(mem::size_of::<u16>() as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_UDP;
            (*header).cmsg_type = libc::UDP_SEGMENT;
            (*header).cmsg_len = libc::CMSG_LEN(mem::size_of::<u16>() as u32) as _;
            libc::CMSG_DATA(header).cast::<u16>().write_unaligned(segment);
            libc::sendmsg(self.socket.as_raw_fd(), &raw const message, 0)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Receives one datagram, or several of the same length in a row (the last may be shorter): bytes in all, and bytes of each.
    ///
    /// # Errors
    /// `WouldBlock` after [`Self::wait_at_most`]; else what the kernel said.
    pub fn receive_segments(&self, buffer: &mut [u8]) -> io::Result<(usize, usize)> {
        let mut control = Control([0; 64]);
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all-zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = mem::size_of::<Control>() as _;
        // SAFETY: `recvmsg` writes into `buffer` and `control` within the lengths given, and both outlive the call.
        let got = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let length = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        let mut segment = length;
        // SAFETY: the kernel has left valid headers in `control` and their length in the message; the macros walk those and no further.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&raw const message);
            while let Some(found) = header.as_ref() {
                if found.cmsg_level == libc::SOL_UDP && found.cmsg_type == libc::UDP_GRO {
                    let size = libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned();
                    segment = usize::try_from(size).unwrap_or(length);
                }
                header = libc::CMSG_NXTHDR(&raw const message, header);
            }
        }
        Ok((length, segment.max(1)))
    }

    /// Sends `datagram` `count` times (at most [`BATCH`]) by one call, each on its own way through the kernel; how many were taken.
    ///
    /// # Errors
    /// What the kernel said to the first.
    pub fn send_many(&self, datagram: &[u8], count: usize) -> io::Result<usize> {
        let mut part = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
        // SAFETY: all-zero is a valid mmsghdr.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        for message in &mut messages {
            message.msg_hdr.msg_iov = &raw mut part;
            message.msg_hdr.msg_iovlen = 1;
        }
        let count = count.min(BATCH) as libc::c_uint;
        // SAFETY: `count` messages are there; each points at `part` and that at `datagram`, which are only read and outlive the call.
        let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Receives up to [`BATCH`] datagrams by one call, waiting for the first only. The first [`Batch::KEPT`] bytes of each are in `batch`.
    ///
    /// # Errors
    /// `WouldBlock` after [`Self::wait_at_most`]; else what the kernel said.
    pub fn receive_many(&self, batch: &mut Batch) -> io::Result<()> {
        batch.count = 0;
        let mut parts = batch
            .room
            .each_mut()
            .map(|room| libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: Batch::KEPT });
        // SAFETY: all-zero is a valid mmsghdr.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        for (message, part) in messages.iter_mut().zip(&mut parts) {
            message.msg_hdr.msg_iov = &raw mut *part;
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: BATCH messages are there, each with one part that describes a row of `batch.room`; all of it outlives the call.
        let got = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        batch.count = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }

    fn set(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let length = mem::size_of_val(&value) as libc::socklen_t;
        // SAFETY: pointer and length describe `value`.
        let done = unsafe {
            libc::setsockopt(self.socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// The beginnings of datagrams that came by one call.
#[derive(Debug)]
pub struct Batch {
    room: [[u8; Self::KEPT]; BATCH],
    count: usize,
}

impl Batch {
    /// Bytes that are kept of a datagram.
    pub const KEPT: usize = 16;

    /// Of none yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { room: [[0; Self::KEPT]; BATCH], count: 0 }
    }

    /// Those of the last call; what a shorter datagram leaves free is of an earlier one.
    pub fn iter(&self) -> impl Iterator<Item = &[u8; Self::KEPT]> {
        self.room.iter().take(self.count)
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOOPBACK: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);

    /// Two sockets on loopback, the first connected to the second. Their buffers are the system's: this runs without root.
    fn pair() -> (Datagrams, Datagrams) {
        let [from, to] = [(); 2].map(|()| Datagrams { socket: UdpSocket::bind(LOOPBACK).unwrap() });
        let SocketAddr::V4(address) = to.socket.local_addr().unwrap() else { unreachable!("bound to IPv4") };
        from.connect(address).unwrap();
        to.wait_at_most(Duration::from_secs(5)).unwrap();
        (from, to)
    }

    #[test]
    fn one_call_is_many_datagrams_and_comes_as_one() {
        let (from, to) = pair();
        to.aggregate().unwrap();
        let data: Vec<u8> = (0..5_000_u32).map(|n| n as u8).collect();
        from.send_segments(&data, 1_200).unwrap();

        let (mut whole, mut buffer) = (Vec::new(), vec![0; 65_535]);
        while whole.len() < data.len() {
            let (length, segment) = to.receive_segments(&mut buffer).unwrap();
            assert!(segment == 1_200 || length == segment, "{segment} of {length}");
            whole.extend_from_slice(&buffer[..length]);
        }
        assert_eq!(whole, data);
    }

    #[test]
    fn without_aggregation_each_datagram_comes_alone() {
        let (from, to) = pair();
        from.send_segments(&[7; 3_000], 1_200).unwrap();
        let mut buffer = vec![0; 65_535];
        let lengths = [(); 3].map(|()| to.receive_segments(&mut buffer).unwrap());
        assert_eq!(lengths, [(1_200, 1_200), (1_200, 1_200), (600, 600)]);
    }

    #[test]
    fn a_batch_arrives_whole() {
        let (from, to) = pair();
        assert_eq!(from.send_many(b"of more than sixteen bytes", 10).unwrap(), 10);
        let (mut batch, mut got) = (Batch::new(), 0);
        while got < 10 {
            to.receive_many(&mut batch).unwrap();
            assert!(batch.iter().all(|start| start == b"of more than six"));
            got += batch.iter().count();
        }
        assert_eq!(got, 10);
    }

    #[test]
    fn who_waits_in_vain_is_told() {
        let (_from, to) = pair();
        to.wait_at_most(Duration::from_millis(10)).unwrap();
        assert_eq!(to.receive_many(&mut Batch::new()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
