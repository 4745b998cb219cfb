//! A client's UDP socket, bound at the relay (protocol §3.9).

use crate::client::Client;
use shadowmesh_proto::ids::ChannelId;
use shadowmesh_proto::rng::Rng as _;
use shadowmesh_proto::ticket::{Address, RelayTicket};
use shadowmesh_proto::wire::relay::Control;
use shadowmesh_proto::wire::relayed::{BindingTag, RelayedHeader};
use shadowmesh_proto::wire::stun::{BindingRequest, BindingResponse};
use shadowmesh_relay::random::SystemRng;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use tokio::net::UdpSocket;

/// Bytes that the kernel is asked to hold for each socket; it may grant fewer.
const BUFFER: usize = 4 << 20;

pub(crate) struct Bound {
    pub(crate) socket: UdpSocket,
    tag: BindingTag,
}

impl Bound {
    pub(crate) async fn new(ticket: &RelayTicket, client: &mut Client) -> anyhow::Result<Self> {
        let address = ticket.addresses.first().map(String::as_str).unwrap_or_default();
        let host = Address::of(address).host_port.to_socket_addrs()?.next();
        let host = host.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
        let any: IpAddr = if host.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        let buffers = socket2::SockRef::from(&socket);
        buffers.set_recv_buffer_size(BUFFER)?;
        buffers.set_send_buffer_size(BUFFER)?;
        let (token, port) = client.stun;
        socket.connect(SocketAddr::new(host, port)).await?;
        let mut transaction = [0; 12];
        SystemRng.fill(&mut transaction);
        socket.send(&BindingRequest { transaction, token }.encode()).await?;
        let mut buffer = [0; 1500];
        let count = socket.recv(&mut buffer).await?;
        let answer = BindingResponse::parse(buffer.get(..count).unwrap_or_default())?;
        let nonce = answer.nonce.ok_or_else(|| anyhow::anyhow!("the relay forwards no datagrams"))?;
        client.send(&Control::Bind { nonce, udp: answer.mapped }).await?;
        loop {
            if let Control::Bound { tag } = client.control().await? {
                return Ok(Self { socket, tag: BindingTag::new(tag) });
            }
        }
    }

    /// A datagram with this packet.
    pub(crate) fn datagram(&self, channel: ChannelId, packet: &[u8]) -> Vec<u8> {
        [&RelayedHeader { tag: self.tag, channel }.to_bytes()[..], packet].concat()
    }
}
