//! Streams that stay out of the tunnel they carry (hardening: TunnelCrack; EasyTier #2311).
//!
//! Somebody may route everything into the overlay, before or after a connection was made. So every stream is bound, before it
//! connects, to the interface that leads to its destination without our own device: what is routed elsewhere later does not
//! move it. An interface that goes away takes the connection along; the next one is bound to what leads there then. The one UDP
//! socket is kept out by `daemon::ways`.

use crate::net::Netlink;
use crate::net::routes::way_out;
use shadowmesh_proto::queueing::{TCP_INFO_LEN, TcpInfo};
use socket2::{Domain, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::Arc;
use std::time::Instant;
use tokio::net::{TcpListener, TcpSocket};

/// Makes sockets towards relays.
#[derive(Debug, Clone)]
pub struct Outside {
    netlink: Arc<Netlink>,
    /// The index of our own device.
    device: u32,
}

impl Outside {
    /// Sockets that avoid the device with index `device`.
    pub const fn new(netlink: Arc<Netlink>, device: u32) -> Self {
        Self { netlink, device }
    }

    /// A TCP socket on its way to a relay at `to`, not yet connected, from a port of its own that others may share
    /// ([`Self::tcp_from`], [`Self::tcp_listener`]).
    ///
    /// # Errors
    /// What the kernel said; *host unreachable* when the only way is through our own device.
    pub async fn tcp(&self, to: SocketAddr) -> io::Result<TcpSocket> {
        let socket = self.tcp_from(0, to).await?;
        if let Err(error) = SockRef::from(&socket).set_tcp_congestion(CONGESTION) {
            tracing::debug!(%error, "the stream of a relay sends by what the machine uses otherwise");
        }
        Ok(socket)
    }

    /// The same from `port`.
    ///
    /// # Errors
    /// As [`Self::tcp`].
    pub async fn tcp_from(&self, port: u16, to: SocketAddr) -> io::Result<TcpSocket> {
        let socket = self.socket(to).await?;
        share_port(&socket)?;
        let any =
            if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        socket.bind(&SocketAddr::new(any, port).into())?;
        socket.set_tcp_nodelay(true)?;
        // A few milliseconds of data unsent in the kernel; the rest waits where it can still be reordered or dropped.
        socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
        // Both directions: it is what the other end hears of as well.
        socket.set_tcp_mss(MSS)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }

    /// A listener on `port`, where sockets of this process may be bound already, for both families where there are two.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn tcp_listener(&self, port: u16) -> io::Result<TcpListener> {
        let listen = |any: IpAddr| {
            let address = SocketAddr::new(any, port);
            let socket =
                Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
            if any.is_ipv6() {
                socket.set_only_v6(false)?;
            }
            share_port(&socket)?;
            socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
            socket.set_tcp_mss(MSS)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            TcpListener::from_std(socket.into())
        };
        listen(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| listen(Ipv4Addr::UNSPECIFIED.into()))
    }

    async fn socket(&self, to: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), None)?;
        let way = way_out(&self.netlink, to.ip(), self.device).await?;
        let Some(index) = way.and_then(NonZeroU32::new) else {
            return Err(io::ErrorKind::HostUnreachable.into());
        };
        // What is the machine's own is found by no route but its own, and never leads into the tunnel; of the loopback interface the kernel
        // would take only addresses that are that interface's.
        if index == LOOPBACK {
            return Ok(socket);
        }
        if to.is_ipv4() {
            socket.bind_device_by_index_v4(Some(index))?;
        } else {
            socket.bind_device_by_index_v6(Some(index))?;
        }
        Ok(socket)
    }
}

/// How many bytes the kernel may hold unsent for `socket`: what it takes in a few milliseconds.
pub(super) fn hold_unsent(socket: &impl AsFd, bytes: usize) {
    let bytes = u32::try_from(bytes).map_or(NOTSENT_LOWAT, |bytes| bytes.min(NOTSENT_LOWAT));
    if let Err(error) = SockRef::from(socket).set_tcp_notsent_lowat(bytes) {
        tracing::debug!(%error, "a connection holds as much unsent as it did");
    }
}

/// What the kernel knows of the connection `socket`; `None` where it says too little.
pub(super) fn info(socket: &impl AsFd) -> Option<TcpInfo> {
    let mut info = [0_u8; TCP_INFO_LEN];
    let mut len = libc::socklen_t::try_from(info.len()).ok()?;
    // SAFETY: the descriptor is open as long as it is borrowed, and the kernel writes `len` bytes at most, which are there.
    let result = unsafe {
        let socket = socket.as_fd().as_raw_fd();
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len)
    };
    let len = usize::try_from(len).ok().filter(|_| result == 0)?;
    TcpInfo::parse(info.get(..len)?)
}

/// Until a connection that has enough under way is to be looked at again.
pub(super) async fn look_again(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// Other sockets of this process may be bound to the same port. No other user's: the kernel sees to that, unless SO_REUSEADDR is set
/// as well.
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// The loopback interface, the first of every network namespace (Linux: `LOOPBACK_IFINDEX`).
const LOOPBACK: NonZeroU32 = NonZeroU32::MIN;
/// Connections that the kernel holds until they are taken.
const BACKLOG: i32 = 16;
/// Segments that every link of IPv6's minimum MTU carries (1280 less 40 of IPv6 and 20 of TCP). The kernel would learn of a narrow
/// link by ICMP, which many networks drop; a relay that is out of reach for that is the last thing that anybody finds out.
const MSS: u32 = 1220;
/// What does not fill the buffers of the line until it loses something. Everything that a stream carries waits behind what is lost there, on top
/// of waiting for that buffer: with Reno a ping over 20 Mbit/s with a buffer of 50 ms took 120 ms, with BBR 55 (lab, `latency-under-load`).
/// A kernel loads it for who may change the network, as we may.
const CONGESTION: &[u8] = b"bbr";
/// Bytes that the kernel may hold unsent before the socket stops being writable: 2.6 ms at 400 Mbit/s.
const NOTSENT_LOWAT: u32 = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::namespace::{block_on, isolated, sh};

    /// A relay and a member on one machine: the ticket names the address that others see.
    #[test]
    fn what_runs_on_this_machine_is_reached_at_each_of_its_addresses() {
        isolated(|| {
            sh("ip link set lo up
                ip link add eth0 type veth peer name far0
                ip addr add 192.0.2.1/24 dev eth0
                ip addr add 2001:db8::1/64 dev eth0 nodad
                ip link set eth0 up; ip link set far0 up");
            block_on(async {
                let outside = Outside::new(Arc::new(Netlink::open().expect("a netlink socket")), 0);
                for address in ["192.0.2.1", "127.0.0.1", "2001:db8::1", "::1"] {
                    let address: IpAddr = address.parse().expect("an address");
                    let listener = TcpListener::bind((address, 0)).await.expect("a listener");
                    let to = listener.local_addr().expect("bound");
                    let socket = outside.tcp(to).await.expect("a socket");
                    let connected =
                        tokio::time::timeout(std::time::Duration::from_secs(5), socket.connect(to));
                    connected.await.expect("in time").expect("connected");
                }
            });
        });
    }
}
