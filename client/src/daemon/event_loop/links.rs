//! Direct TCP connections, between the endpoint that judges them and the transport that runs them.

use super::{EventLoop, RelayTask};
use crate::net::interfaces::{self, Interface};
use crate::transport::tcp::TcpEvent;
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::transmit::{RelayNo, TcpLink};
use shadowmesh_proto::wire::relay::packets;
use std::net::IpAddr;
use std::time::Instant;

impl EventLoop {
    /// A stream to a relay is open, from this port. Its port is where others may reach this node, unless another relay's already is.
    pub(super) fn listen_beside(&mut self, no: RelayNo, port: u16) {
        let is_open = |other: RelayNo| self.relays.get(other.0).is_some_and(|task| task.stream.is_some());
        if self.listening.is_some_and(|other| other != no && is_open(other)) {
            return;
        }
        let listening = self.tcp.listen(port).map(|()| (no, port));
        // Without it there is no direct TCP; everything else goes on.
        let listening = listening.inspect_err(|error| {
            tracing::warn!(%error, port, "this node cannot listen for direct connections");
        });
        self.listening = listening.as_ref().ok().map(|(no, _)| *no);
        self.endpoint.handle_tcp_port(Instant::now(), listening.ok());
    }

    /// The stream to a relay ended. If its port was the one that listens, that of another stream does from now on.
    pub(super) fn listen_elsewhere(&mut self, ended: RelayNo) {
        if self.listening != Some(ended) {
            return;
        }
        let is_usable = |task: &RelayTask| task.stream.is_some() && !task.is_proxied;
        let open = self.relays.iter().enumerate().filter(|(_, task)| is_usable(task));
        let other = open.filter_map(|(at, task)| Some((RelayNo(at), task.local?.port()))).next();
        if let Some((no, port)) = other {
            self.listen_beside(no, port);
        }
    }

    /// The stream to a relay came back by a proxy: what the relay sees of it is no place where this node is. Another's port would listen since the one before ended, if there
    /// were one.
    pub(super) fn listen_no_more_beside(&mut self, no: RelayNo) {
        if self.listening.take_if(|listening| *listening == no).is_some() {
            self.endpoint.handle_tcp_port(Instant::now(), None);
        }
    }

    pub(super) async fn on_tcp(&mut self, event: TcpEvent) {
        let now = Instant::now();
        match event {
            TcpEvent::Opened(opened) => {
                let (link, peer) = (opened.link, opened.peer);
                // Through the tunnel it would carry itself.
                if self.is_own_address(opened.local) || !self.ways.is_outside(link.remote.ip()).await {
                    return opened.refuse();
                }
                tracing::debug!(remote = %link.remote, was_opened = peer.is_some(), "a direct connection");
                if self.tcp.insert(opened)
                    && let Some(slot) = peer
                {
                    self.endpoint.handle_tcp_opened(now, slot, link);
                }
            }
            TcpEvent::Message { link, message } => {
                if !self.tcp.has(link) {
                    return;
                }
                for packet in packets(&message) {
                    // Opened in place.
                    let mut packet = packet.to_vec();
                    if let Err(error) = self.endpoint.handle_packet(now, Via::Tcp(link), &mut packet) {
                        tracing::trace!(%error, "a packet is dropped");
                    }
                }
            }
            TcpEvent::Closed { link } => self.lose_link(link),
        }
    }

    /// The peer was heard on a connection: data may go there.
    pub(super) fn keep_link(&mut self, slot: PeerSlot, link: TcpLink) {
        if let Some(data) = self.tcp.keep(slot, link) {
            self.routes.add_link(link, data);
        }
    }

    /// A connection is of no use any more.
    pub(super) fn drop_link(&mut self, link: TcpLink, at_once: bool) {
        self.tcp.close(link, at_once);
        self.routes.remove_link(link);
    }

    /// The network changed: connections from an address that is gone end, and those that would run through the tunnel.
    pub(super) async fn drop_stray_links(&mut self, interfaces: &[Interface]) {
        for (link, local) in self.tcp.links() {
            if !interfaces::is_here(interfaces, local) || !self.ways.is_outside(link.remote.ip()).await {
                self.lose_link(link);
            }
        }
    }

    fn lose_link(&mut self, link: TcpLink) {
        self.drop_link(link, true);
        self.endpoint.handle_tcp_closed(Instant::now(), link);
    }

    /// Whether it is one that this node has inside the tunnel.
    fn is_own_address(&self, address: IpAddr) -> bool {
        let hello = self.endpoint.hello();
        hello.ipv4.is_some_and(|own| IpAddr::V4(own.address()) == address)
            || hello.ipv6.is_some_and(|own| IpAddr::V6(own.address()) == address)
    }
}
