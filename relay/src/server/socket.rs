//! The sockets, and why each option is set.

use shadowmesh_proto::queueing::{TCP_INFO_LEN, TcpInfo};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Connections that may wait to be accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Bytes the kernel may hold unsent for one client as long as its line is not known, and at most. What it holds can neither be overtaken by
/// control nor dropped when it has grown old; less than this and a fast line idles while the task is scheduled.
const NOT_SENT: u32 = 128 * 1024;
/// What does not fill the buffers of a client's line until it loses something: everything in the stream would wait for that. Where it is not
/// loaded (`tcp_bbr`), it is what the machine uses otherwise.
const CONGESTION: &[u8] = b"bbr";
/// Room for datagrams that arrive while the relay does something else. The system's limit (`net.core.rmem_max`) is the most that is
/// given. Taken only while it is full.
const RECEIVE_BUFFER: usize = 4 << 20;
/// After this much time without an answer to what was sent, the kernel gives a connection up.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle time before the kernel asks by itself whether the other end is there. The link's own heartbeat is faster; this
/// catches connections in their handshake.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A TCP listener and the UDP socket on the same port number.
///
/// `address` unspecified and IPv6 means both families; where the machine has no IPv6, IPv4 alone.
///
/// # Errors
/// Whatever the system says.
pub(super) fn listen(address: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let (listener, address) = match bind(address, Type::STREAM) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && is_no_ipv6(&error) => {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            (bind(address, Type::STREAM)?, address)
        }
        other => (other?, address),
    };
    listener.listen(BACKLOG)?;
    let listener = TcpListener::from(listener);
    // With port 0 the kernel chose one: UDP takes the same number.
    let port = listener.local_addr()?.port();
    let udp = bind(SocketAddr::new(address.ip(), port), Type::DGRAM)?;
    Ok((listener, udp.into()))
}

/// A UDP socket alone: the second STUN port.
///
/// # Errors
/// Whatever the system says.
pub(super) fn listen_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    Ok(bind(address, Type::DGRAM)?.into())
}

fn bind(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if kind == Type::STREAM {
        // A restart must not wait for the last connections of the run before (TIME_WAIT).
        socket.set_reuse_address(true)?;
    } else if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn is_no_ipv6(error: &io::Error) -> bool {
    let none = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];
    rustix::io::Errno::from_io_error(error).is_some_and(|errno| none.contains(&errno))
}

/// Sets up an accepted connection.
///
/// # Errors
/// Whatever the system says; the connection is of no use then.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    // A batch is written in one call already: waiting for more would only delay it.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOT_SENT)?;
    if let Err(error) = socket.set_tcp_congestion(CONGESTION) {
        tracing::debug!(%error, "a connection sends by what the machine uses otherwise");
    }
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    Ok(())
}

/// The stream that a client's messages go by.
pub(super) trait Line: AsyncRead + AsyncWrite + Unpin {
    /// What is read at once, bytes, and what every connection keeps for it.
    const READ_BUFFER: usize;

    /// How many bytes may be held unsent below it: what the line takes in a few milliseconds.
    fn hold_unsent(&mut self, bytes: usize);

    /// How many bytes came over the line beside those that were read, since this was last asked.
    fn take_beside(&mut self) -> usize {
        0
    }

    /// What the kernel knows of it; `None` where it says too little.
    fn info(&self) -> Option<TcpInfo>;
}

impl Line for TcpStream {
    /// The library's default is 128 KiB. Half of this would save 8 KiB per client and cost about a third more CPU per byte of full messages
    /// (examples/load).
    const READ_BUFFER: usize = 16 * 1024;

    fn hold_unsent(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).map_or(NOT_SENT, |bytes| bytes.min(NOT_SENT));
        if let Err(error) = SockRef::from(&*self).set_tcp_notsent_lowat(bytes) {
            tracing::debug!(%error, "a connection holds as much unsent as it did");
        }
    }

    #[expect(unsafe_code, reason = "no crate that is here has this option")]
    fn info(&self) -> Option<TcpInfo> {
        let mut info = [0_u8; TCP_INFO_LEN];
        let mut len = libc::socklen_t::try_from(info.len()).ok()?;
        // SAFETY: the descriptor is open as long as the stream is, and the kernel writes `len` bytes at most, which are there.
        let result = unsafe {
            let into = info.as_mut_ptr().cast();
            libc::getsockopt(self.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut len)
        };
        let len = usize::try_from(len).ok().filter(|_| result == 0)?;
        TcpInfo::parse(info.get(..len)?)
    }
}

/// Lets the process have as many descriptors as the system allows, and says how many.
pub(super) fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    };
    now.unwrap_or(u64::MAX)
}
