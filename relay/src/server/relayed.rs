//! Which datagrams are forwarded, and where to (protocol §3.9).
//!
//! A client that showed that it receives at an address has a [`Binding`]: what comes from there with its tag is taken for what its
//! stream would have brought, and what is for it leaves from the address and port that its stream came to (its [`Entrance`]; where it
//! asked is not kept, for others can ask in its name). A binding lives as long as the connection of its client, or until the client
//! binds another address. The client proves it again about each minute; one that it did not prove for [`UNPROVEN`] carries nothing in
//! either direction, and nothing is sent to an address from which nothing came for [`SILENT`]: it may be somebody else's by now.
//!
//! Several clients may have one address: the tag tells whose a datagram is. So nobody who binds takes anything from anybody.
//!
//! Nothing is queued here. What the kernel has no room for is lost and counted, as on any router: the peers' path notices.

use crate::server::port::{Port, lock};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use rustix::io::Errno;
use shadowmesh_proto::wire::relayed::{BindingTag, retag};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Clients ask STUN each 25 s (protocol §7.4); this is five questions that were lost.
const SILENT: Duration = Duration::from_secs(125);
/// What comes from an address, or seems to, keeps a binding alive no longer than this. A client has another nonce to say about each
/// minute ([`SLOT`](crate::core::nonce::SLOT)); this is four that were lost.
const UNPROVEN: Duration = Duration::from_secs(300);

/// A UDP socket of the relay.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) socket: UdpSocket,
    pub(super) state: UdpSocketState,
    /// Which names IPv4 addresses as mapped ones.
    is_ipv6: bool,
}

impl Socket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let socket = UdpSocket::from_std(socket)?;
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        Ok(Self { socket, state, is_ipv6 })
    }

    /// As the socket names it.
    fn name(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(ip) if self.is_ipv6 => ip.to_ipv6_mapped().into(),
            IpAddr::V4(_) | IpAddr::V6(_) => ip,
        }
    }

    /// Sends now or not at all.
    pub(super) fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket
            .try_io(Interest::WRITABLE, || self.state.try_send(UdpSockRef::from(&self.socket), transmit))
    }
}

/// Where a client's stream came to: its datagrams come to the same address and port, or are not taken for its own.
#[derive(Debug, Clone)]
pub(super) struct Entrance {
    socket: Arc<Socket>,
    /// The address, IPv4 as such; not known where a proxy passes the stream on: datagrams come past that, to any address of the relay.
    local: Option<IpAddr>,
}

impl Entrance {
    /// `socket` has the port of the stream, `local` is its address at our end.
    pub(super) fn new(socket: Arc<Socket>, local: IpAddr) -> Self {
        Self { socket, local: Some(local.to_canonical()) }
    }

    /// `socket` has the port of the stream, which a proxy passes on.
    pub(super) const fn any(socket: Arc<Socket>) -> Self {
        Self { socket, local: None }
    }

    /// Whether what came by `door` came to here.
    pub(super) fn is_at(&self, door: &Door) -> bool {
        Arc::ptr_eq(&self.socket, &door.socket)
            && match (door.local, self.local) {
                (Some(door), Some(own)) => door.to_canonical() == own,
                (None, _) | (_, None) => true,
            }
    }

    /// The way from here to `udp`.
    fn door(&self, udp: SocketAddr) -> Door {
        Door {
            socket: Arc::clone(&self.socket),
            remote: SocketAddr::new(self.socket.name(udp.ip()), udp.port()),
            local: self.local.map(|local| self.socket.name(local)),
        }
    }
}

/// By which way a datagram came: an answer leaves by the same.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) socket: Arc<Socket>,
    /// As the socket names it: an IPv4 address may be mapped into IPv6.
    pub(super) remote: SocketAddr,
    /// The address of ours that was asked. A host with several would otherwise answer from another, which no NAT lets in.
    pub(super) local: Option<IpAddr>,
}

impl Door {
    /// Sends `contents`, datagrams of `stride` bytes each; the bytes of those that left.
    pub(super) fn send(&self, contents: &[u8], stride: usize) -> usize {
        let are_several = contents.len() > stride;
        match self.send_call(contents, are_several.then_some(stride)) {
            Ok(()) => contents.len(),
            // A way that does not cut segments (IPsec, or a narrow route) takes them one by one all the same.
            Err(error) if are_several && is_refusal(&error) => {
                let sent = |datagram: &&[u8]| self.send_call(datagram, None).is_ok();
                contents.chunks(stride).take_while(sent).map(<[u8]>::len).sum()
            }
            Err(error) => {
                tracing::trace!(%error, "datagrams could not be passed on");
                0
            }
        }
    }

    fn send_call(&self, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        let (destination, src_ip) = (self.remote, self.local);
        self.socket.try_send(&Transmit { destination, ecn: None, contents, segment_size, src_ip })
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::INVAL))
}

/// An address from and to which datagrams of a client are forwarded.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) tag: BindingTag,
    pub(super) port: Arc<Port>,
    door: Door,
    /// The address, IPv4 as such.
    pub(super) udp: SocketAddr,
    life: Mutex<Life>,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    /// When something of the client came from there, as it seems.
    heard: Instant,
    /// When the client showed that it receives there.
    proven: Instant,
}

impl Life {
    fn is_proven(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.proven) < UNPROVEN
    }
}

impl Binding {
    /// Something of the client came from there.
    pub(super) fn on_heard(&self, now: Instant) {
        lock(&self.life).heard = now;
    }

    /// The client showed that it receives there.
    fn on_proven(&self, now: Instant) {
        *lock(&self.life) = Life { heard: now, proven: now };
    }

    /// Whether what comes from there may be the client's.
    pub(super) fn is_proven(&self, now: Instant) -> bool {
        lock(&self.life).is_proven(now)
    }

    /// Whether the client is still to be found there.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        let life = *lock(&self.life);
        life.is_proven(now) && now.saturating_duration_since(life.heard) < SILENT
    }

    /// Sends `datagrams` of `stride` bytes each to the client, under its own tag; the bytes of those that left.
    pub(super) fn pass_on(&self, datagrams: &mut [u8], stride: usize) -> usize {
        retag(datagrams, stride, self.tag);
        self.door.send(datagrams, stride)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    all: Mutex<HashMap<(SocketAddr, BindingTag), Arc<Binding>>>,
}

impl Bindings {
    /// The client behind `port` receives at `udp`.
    pub(super) fn bind(&self, now: Instant, port: &Arc<Port>, udp: SocketAddr, tag: BindingTag) {
        if let Some(known) = port.binding().filter(|known| (known.udp, known.tag) == (udp, tag)) {
            return known.on_proven(now);
        }
        self.unbind(port);
        let (door, life) = (port.entrance().door(udp), Life { heard: now, proven: now });
        let binding = Arc::new(Binding { tag, port: Arc::clone(port), door, udp, life: Mutex::new(life) });
        let same = lock(&self.all).insert((udp, tag), Arc::clone(&binding));
        if let Some(before) = same {
            // Two clients of one address drew one tag of 2^24: whose a datagram is can no longer be told.
            before.port.set_binding(None);
        }
        port.set_binding(Some(binding));
    }

    /// The client behind `port` leaves, or moved. Binding and port hold each other until here.
    pub(super) fn unbind(&self, port: &Port) {
        let Some(binding) = port.set_binding(None) else { return };
        let mut all = lock(&self.all);
        let key = (binding.udp, binding.tag);
        if all.get(&key).is_some_and(|known| Arc::ptr_eq(known, &binding)) {
            all.remove(&key);
        }
    }

    /// Whose datagrams come from `udp` with `tag`.
    pub(super) fn at(&self, udp: SocketAddr, tag: BindingTag) -> Option<Arc<Binding>> {
        lock(&self.all).get(&(udp, tag)).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests;
