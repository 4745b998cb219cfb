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
