//! Which datagrams are forwarded, and where to (protocol §3.9).
//!
//! A client that showed that it receives at an address has a [`Binding`]: what comes from there with its tag is taken for what its
//! stream would have brought, and what is for it leaves from the socket and the address that it asked. A binding lives as long as the
//! connection of its client, or until the client binds another address; of two clients with one address the newer has it. Nothing
//! is sent to an address from which nothing came for [`SILENT`]: it may be somebody else's by now.
//!
//! Nothing is queued here. What the kernel has no room for is lost and counted, as on any router: the peers' path notices.

use crate::server::port::{Port, lock};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
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

/// A UDP socket of the relay.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) socket: UdpSocket,
    pub(super) state: UdpSocketState,
    pub(super) port: u16,
}

impl Socket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let socket = UdpSocket::from_std(socket)?;
        let port = socket.local_addr()?.port();
        Ok(Self { socket, state, port })
    }

    /// Sends now or not at all.
    pub(super) fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket
            .try_io(Interest::WRITABLE, || self.state.try_send(UdpSockRef::from(&self.socket), transmit))
    }
}

/// By which way a client's datagrams come: answers leave by the same.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) socket: Arc<Socket>,
    /// As the socket names it: an IPv4 address may be mapped into IPv6.
    pub(super) remote: SocketAddr,
    /// The address of ours that was asked. A host with several would otherwise answer from another, which no NAT lets in.
    pub(super) local: Option<IpAddr>,
}

impl Door {
    /// Sends `contents`, datagrams of `stride` bytes each.
    pub(super) fn send(&self, contents: &[u8], stride: usize) -> io::Result<()> {
        self.socket.try_send(&Transmit {
            destination: self.remote,
            ecn: None,
            contents,
            segment_size: (contents.len() > stride).then_some(stride),
            src_ip: self.local,
        })
    }
}

/// An address from and to which datagrams of a client are forwarded.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) tag: BindingTag,
    pub(super) port: Arc<Port>,
    door: Door,
    /// The address, IPv4 as such.
    pub(super) udp: SocketAddr,
    /// When something of the client came from there.
    heard: Mutex<Instant>,
}

impl Binding {
    /// Something of the client came from there.
    pub(super) fn heard(&self, now: Instant) {
        *lock(&self.heard) = now;
    }

    /// Whether the client is still to be found there.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(*lock(&self.heard)) < SILENT
    }

    /// Sends `datagrams` of `stride` bytes each to the client, under its own tag.
    pub(super) fn pass_on(&self, datagrams: &mut [u8], stride: usize) -> io::Result<()> {
        retag(datagrams, stride, self.tag);
        self.door.send(datagrams, stride)
    }
}

/// All of them, by address.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    by_address: Mutex<HashMap<SocketAddr, Arc<Binding>>>,
}

impl Bindings {
    /// The client behind `port` receives at `udp`, by the way that its last STUN request came.
    pub(super) fn bind(&self, now: Instant, port: &Arc<Port>, udp: SocketAddr, tag: BindingTag) {
        let Some(door) = port.door(udp) else { return };
        let binding = Arc::new(Binding { tag, port: Arc::clone(port), door, udp, heard: Mutex::new(now) });
        self.unbind(port);
        if let Some(before) = lock(&self.by_address).insert(udp, Arc::clone(&binding)) {
            before.port.set_binding(None);
        }
        port.set_binding(Some(binding));
    }

    /// The client behind `port` leaves, or moved. Binding and port hold each other until here.
    pub(super) fn unbind(&self, port: &Port) {
        let Some(binding) = port.set_binding(None) else { return };
        let mut all = lock(&self.by_address);
        if all.get(&binding.udp).is_some_and(|known| Arc::ptr_eq(known, &binding)) {
            all.remove(&binding.udp);
        }
    }

    /// Whose address it is.
    pub(super) fn at(&self, udp: SocketAddr) -> Option<Arc<Binding>> {
        lock(&self.by_address).get(&udp).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::limits::Limits;

    fn socket() -> Arc<Socket> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Arc::new(Socket::new(socket).unwrap())
    }

    #[tokio::test]
    async fn an_address_that_is_silent_for_long_is_sent_nothing_until_it_is_heard_again() {
        let (now, socket) = (Instant::now(), socket());
        let port = Arc::new(Port::new(now, &Limits::default(), socket.port));
        let udp: SocketAddr = "198.51.100.7:4000".parse().unwrap();
        let door = Door { socket, remote: udp, local: None };
        let bindings = Bindings::default();
        bindings.bind(now, &port, udp, BindingTag::new(1));
        assert!(port.binding().is_none(), "nobody asked from there");
        port.on_stun(now, udp, &door);
        bindings.bind(now, &port, udp, BindingTag::new(1));
        let binding = port.binding().unwrap();
        assert!(binding.is_alive(now + SILENT - Duration::from_secs(1)));
        let later = now + SILENT;
        assert!(!binding.is_alive(later));
        // Somebody else's request with the client's token says nothing of this address.
        port.on_stun(later, "198.51.100.66:4000".parse().unwrap(), &door);
        assert!(!binding.is_alive(later));
        port.on_stun(later, udp, &door);
        assert!(binding.is_alive(later));
        bindings.unbind(&port);
        assert!(bindings.at(udp).is_none() && port.binding().is_none());
    }

    #[tokio::test]
    async fn of_many_addresses_the_newest_few_are_known() {
        let (now, socket) = (Instant::now(), socket());
        let port = Port::new(now, &Limits::default(), socket.port);
        let door = |n: u16| {
            let remote = SocketAddr::from(([198, 51, 100, 66], n));
            (remote, Door { socket: Arc::clone(&socket), remote, local: None })
        };
        for n in 1..100 {
            let (from, door) = door(n);
            port.on_stun(now, from, &door);
        }
        assert!(port.door(door(99).0).is_some(), "the newest is known");
        assert!(port.door(door(1).0).is_none(), "and no more than a few");
    }
}
