//! The one UDP socket: direct data, checks and STUN all leave from it, so that what STUN sees is what a peer may answer.
//!
//! One dual-stack socket where the kernel has IPv6, else one for IPv4. It is bound to no interface, because a peer may be behind
//! any of them: that nothing is sent into our own tunnel is seen to by whoever names addresses (`daemon::ways`). It
//! is shared by the outbound thread, which sends data, the control task, which sends the rest, and the inbound thread, which
//! alone receives. It is never connected (haproxy #3329: a connected socket misses a rebind of the NAT).
//!
//! Several segments go with one call (UDP GSO) where the way to their address takes that. Where it does not, because the device cannot make checksums or IPsec
//! is on the way (EIO), or for another reason (EINVAL, with some kernels where a segment is larger than the way takes), they go one by one, and so does for a
//! while all that goes to that address ([`Refusals`]). Other addresses are reached by other ways.
//!
//! Datagrams are never fragmented by IP: what is too large for the way is refused or lost, and the path's full-size PINGs show
//! that before data does (protocol §7.1).

mod memory;
mod refusals;

pub use memory::MemorySocket;

use arc_swap::ArcSwap;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use refusals::Refusals;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Room for what arrives while the inbound thread does something else: 20 ms at 800 Mbit/s, which the kernel doubles for its
/// own use. Taken only while it is full.
const RECEIVE_BUFFER: usize = 2 << 20;
/// Room for what leaves: with more, packets would only wait longer in front of a slow device.
const SEND_BUFFER: usize = 1 << 20;
/// The longest payload of a datagram, by IPv4's length field less both headers; also of all segments of one GSO call.
pub const MAX_PAYLOAD: usize = 65_535 - 20 - 8;

/// The socket. Cloning shares it.
#[derive(Debug, Clone)]
pub enum DatagramSocket {
    /// Of this machine.
    Kernel(Arc<KernelSocket>),
    /// Of a simulated one.
    Memory(Arc<MemorySocket>),
}

/// A socket of this machine's kernel.
#[derive(Debug)]
pub struct KernelSocket {
    socket: UdpSocket,
    /// Made anew after a refusal, since it takes one for a refusal of all.
    state: ArcSwap<UdpSocketState>,
    refusals: Refusals,
    /// Segments of one call, where none is refused.
    segments: usize,
    is_ipv6: bool,
    port: u16,
}

impl DatagramSocket {
    /// A socket on a port of the kernel's choice.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn bind() -> io::Result<Self> {
        let (socket, is_ipv6) = match bind_to(Ipv6Addr::UNSPECIFIED.into()) {
            Ok(socket) => (socket, true),
            // A kernel without IPv6, or one where it is switched off.
            Err(_) => (bind_to(Ipv4Addr::UNSPECIFIED.into())?, false),
        };
        let state = UdpSocketState::new((&socket).into())?;
        let (segments, port) = (state.max_gso_segments(), socket.local_addr()?.port());
        let (state, refusals) = (ArcSwap::from_pointee(state), Refusals::default());
        Ok(Self::Kernel(Arc::new(KernelSocket { socket, state, refusals, segments, is_ipv6, port })))
    }

    /// Its port, on every address of this machine.
    pub fn port(&self) -> u16 {
        match self {
            Self::Kernel(socket) => socket.port,
            Self::Memory(socket) => socket.port(),
        }
    }

    /// How many segments one call to this address may carry; 1 for a while after the kernel refused to cut.
    pub fn max_segments(&self, to: SocketAddr) -> usize {
        match self {
            Self::Kernel(socket) => socket.max_segments(to),
            Self::Memory(_) => memory::SEGMENTS,
        }
    }

    /// Sends one datagram, or several of `segment` bytes of which the last may be shorter.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel's buffer is full: nothing was sent, or where segments are refused, not all. Any other: at least one of them was not sent and never
    /// will be.
    pub fn send(&self, to: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        match self {
            Self::Kernel(socket) => socket.send(to, contents, segment),
            Self::Memory(socket) => socket.send(to, contents, segment),
        }
    }

    /// Receives into `buffers`, one or more datagrams of one sender in each. How many buffers were used.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing. Any other concerns something that was sent before, and there may be more.
    pub fn receive(&self, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> io::Result<usize> {
        match self {
            Self::Kernel(socket) => socket.state.load().recv((&socket.socket).into(), buffers, metas),
            Self::Memory(socket) => socket.receive(buffers, metas),
        }
    }
}

impl KernelSocket {
    fn max_segments(&self, to: SocketAddr) -> usize {
        if self.refusals.has(to) { 1 } else { self.segments }
    }

    fn send(&self, to: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let address = self.reachable(to)?;
        if contents.len() <= segment {
            self.refusals.on_single(to);
            return self.send_call(address, contents, None);
        }
        if self.max_segments(to) > 1 {
            let Err(error) = self.send_call(address, contents, Some(segment)) else { return Ok(()) };
            if !matches!(Errno::from_io_error(&error), Some(Errno::IO | Errno::INVAL)) {
                return Err(error);
            }
            tracing::debug!(%error, %to, "segments are not cut on the way there");
            self.refusals.on_refused(to);
            if let Ok(state) = UdpSocketState::new((&self.socket).into()) {
                self.state.store(Arc::new(state));
            }
        }
        self.send_singly(to, address, contents, segment)
    }

    fn send_singly(
        &self,
        to: SocketAddr,
        address: SocketAddr,
        contents: &[u8],
        segment: usize,
    ) -> io::Result<()> {
        let mut result = Ok(());
        for datagram in contents.chunks(segment) {
            self.refusals.on_single(to);
            match self.send_call(address, datagram, None) {
                Ok(()) => {}
                // All of them go again when there is room, and their receiver drops those that it has.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn send_call(&self, to: SocketAddr, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        let transmit = Transmit { destination: to, ecn: None, contents, segment_size, src_ip: None };
        self.state.load().try_send((&self.socket).into(), &transmit)
    }

    /// `to` in the socket's own family.
    fn reachable(&self, to: SocketAddr) -> io::Result<SocketAddr> {
        match (self.is_ipv6, to.ip()) {
            (true, IpAddr::V4(v4)) => Ok(SocketAddr::new(v4.to_ipv6_mapped().into(), to.port())),
            (false, IpAddr::V6(_)) => Err(io::ErrorKind::AddrNotAvailable.into()),
            (true, IpAddr::V6(_)) | (false, IpAddr::V4(_)) => Ok(to),
        }
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Kernel(socket) => socket.socket.as_fd(),
            Self::Memory(socket) => socket.as_fd(),
        }
    }
}

fn bind_to(any: IpAddr) -> io::Result<UdpSocket> {
    let address = SocketAddr::new(any, 0);
    let socket =
        Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if any.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // More than the system's limit is for those who may: the daemon usually may, and a test need not.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::namespace::{isolated, sh};
    use std::time::{Duration, Instant};

    /// Everything that arrives at `socket` until there are `count` datagrams.
    fn receive(socket: &DatagramSocket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut got = Vec::new();
        let mut buffer = vec![0; 65_536];
        let began = Instant::now();
        while got.len() < count {
            assert!(began.elapsed() < Duration::from_secs(10), "{} of {count} came", got.len());
            let mut metas = [RecvMeta::default()];
            let received = socket.receive(&mut [IoSliceMut::new(&mut buffer)], &mut metas);
            match received {
                Ok(_) => {
                    let meta = metas[0];
                    let datagrams = buffer[..meta.len].chunks(meta.stride.max(1));
                    got.extend(datagrams.map(|datagram| (meta.addr, datagram.to_vec())));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        got
    }

    fn at(socket: &DatagramSocket, ip: impl Into<IpAddr>) -> SocketAddr {
        SocketAddr::new(ip.into(), socket.port())
    }

    #[test]
    fn datagrams_reach_both_families_in_segments() {
        isolated(|| {
            sh("ip link set lo up");
            let (a, b) = (DatagramSocket::bind().unwrap(), DatagramSocket::bind().unwrap());
            for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
                a.send(at(&b, ip), &[7; 2500], 1000).unwrap();
                let got = receive(&b, 3);
                assert_eq!(
                    got.iter().map(|(_, datagram)| datagram.len()).collect::<Vec<_>>(),
                    [1000, 1000, 500]
                );
                assert_eq!(got[0].0.ip().to_canonical(), ip);
                assert_eq!(got[0].0.port(), a.port());
            }
        });
    }

    #[test]
    fn a_kernel_without_ipv6_still_has_a_socket() {
        isolated(|| {
            sh(
                "ip link set lo up; sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.lo.disable_ipv6=1",
            );
            let (a, b) = (DatagramSocket::bind().unwrap(), DatagramSocket::bind().unwrap());
            a.send(at(&b, Ipv4Addr::LOCALHOST), b"hello", 5).unwrap();
            assert_eq!(receive(&b, 1)[0].1, b"hello");
            assert!(a.send(at(&b, Ipv6Addr::LOCALHOST), b"hello", 5).is_err());
        });
    }

    #[test]
    fn what_is_too_large_for_the_way_is_refused_and_nothing_else_with_it() {
        isolated(|| {
            sh("ip link set lo up mtu 1400; ip link add v0 mtu 1280 type veth peer name v1
                ip addr add 192.0.2.1/24 dev v0; ip link set v0 up; ip link set v1 up
                ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev v0");
            let (a, b) = (DatagramSocket::bind().unwrap(), DatagramSocket::bind().unwrap());
            let away = "192.0.2.2:9".parse().unwrap();
            assert!(a.send(away, &[1; 1300], 1300).is_err());
            assert!(a.send(away, &[1; 4000], 1300).is_err(), "also in segments");
            a.send(away, &[1; 1200], 1200).unwrap();
            a.send(at(&b, Ipv4Addr::LOCALHOST), &[2; 3000], 1000).unwrap();
            assert_eq!(receive(&b, 3).len(), 3);
        });
    }

    #[test]
    fn a_way_that_refuses_segments_gets_single_datagrams_and_is_asked_again_later() {
        isolated(|| {
            sh("ip link set lo up");
            let (a, b) = (DatagramSocket::bind().unwrap(), DatagramSocket::bind().unwrap());
            let [refused, other] = [1, 2].map(|last| at(&b, Ipv4Addr::new(127, 0, 0, last)));
            let most = a.max_segments(refused);
            assert!(most > 1, "or this kernel has no UDP GSO");
            // EINVAL: more segments than a call may carry.
            a.send(refused, &[1; 2_000], 10).unwrap();
            assert_eq!(receive(&b, 200).len(), 200);
            assert_eq!((a.max_segments(refused), a.max_segments(other)), (1, most));
            let mut sent = 0;
            while a.max_segments(refused) == 1 {
                a.send(refused, &[2; 2_500], 1_000).unwrap();
                assert_eq!(receive(&b, 3).len(), 3);
                a.send(other, &[3; 1_000], 1_000).unwrap();
                assert_eq!(receive(&b, 1).len(), 1);
                sent += 1;
                assert!(sent < 100_000, "never asked again");
            }
            a.send(refused, &[4; 2_500], 1_000).unwrap();
            assert_eq!((receive(&b, 3).len(), a.max_segments(refused)), (3, most));
        });
    }
}
