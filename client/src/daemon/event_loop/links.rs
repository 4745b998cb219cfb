//! Direct TCP connections, between the endpoint that judges them and the transport that runs them.

use super::EventLoop;
use crate::transport::tcp::TcpEvent;
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::transmit::{RelayNo, TcpLink};
use shadowmesh_proto::wire::relay::{FORWARD_HEADER_LEN, take_packet_mut};
use std::net::IpAddr;
use std::time::Instant;

impl EventLoop {
    /// A stream to a relay is open, from this port. Its port is where others may reach this node, unless another relay's already is.
    pub(super) fn listen_beside(&mut self, no: RelayNo, port: u16) {
        let is_open = |other: RelayNo| self.relays.get(other.0).is_some_and(|task| task.stream.is_some());
        if self.listening.is_some_and(|other| other != no && is_open(other)) {
            return;
        }
        match self.tcp.listen(port) {
            Ok(()) => {
                self.listening = Some(no);
                self.endpoint.handle_tcp_port(Instant::now(), no, port);
            }
            // Without it there is no direct TCP; everything else goes on.
            Err(error) => tracing::warn!(%error, port, "this node cannot listen for direct connections"),
        }
    }

    pub(super) fn on_tcp(&mut self, event: TcpEvent) {
        let now = Instant::now();
        match event {
            // Dropping it closes it. Through the tunnel it would carry itself.
            TcpEvent::Opened(opened) if self.is_own_address(opened.local) => {}
            TcpEvent::Opened(opened) => {
                let (link, peer) = (opened.link, opened.peer);
                tracing::debug!(remote = %link.remote, was_opened = peer.is_some(), "a direct connection");
                self.routes.add_link(link, opened.data.clone());
                self.tcp.insert(opened);
                if let Some(slot) = peer {
                    self.endpoint.handle_tcp_opened(now, slot, link);
                }
            }
            TcpEvent::Message { link, message } => {
                let mut message = message.to_vec();
                let Some(mut rest) = message.get_mut(FORWARD_HEADER_LEN..) else { return };
                while let Some(packet) = take_packet_mut(&mut rest) {
                    if let Err(error) = self.endpoint.handle_packet(now, Via::Tcp(link), packet) {
                        tracing::trace!(%error, "a packet is dropped");
                    }
                }
            }
            TcpEvent::Closed { link } => {
                self.drop_link(link);
                self.endpoint.handle_tcp_closed(now, link);
            }
        }
    }

    /// A connection is of no use any more.
    pub(super) fn drop_link(&mut self, link: TcpLink) {
        self.tcp.close(link);
        self.routes.remove_link(link);
    }

    /// Whether it is one that this node has inside the tunnel.
    fn is_own_address(&self, address: IpAddr) -> bool {
        let hello = self.endpoint.hello();
        hello.ipv4.is_some_and(|own| IpAddr::V4(own.address()) == address)
            || hello.ipv6.is_some_and(|own| IpAddr::V6(own.address()) == address)
    }
}
