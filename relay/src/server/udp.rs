//! UDP: STUN Binding requests of registered clients, and silence for everybody else (protocol §3.8).
//!
//! The answer goes to the source only, from the very address that was asked (a host with several would otherwise answer from
//! another, which no NAT lets in), and is never longer than the request.

use crate::server::hub::Hub;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use shadowmesh_proto::wire::stun::{BindingRequest, BindingResponse};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Longest datagram that is read whole; a longer one is no request of ours (RFC 8489 §6.1).
const DATAGRAM: usize = 1500;

/// Answers on one socket.
#[derive(Debug)]
pub(super) struct Responder {
    hub: Arc<Hub>,
    socket: UdpSocket,
    state: UdpSocketState,
    port: u16,
}

impl Responder {
    pub(super) fn new(hub: Arc<Hub>, socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let socket = UdpSocket::from_std(socket)?;
        let port = socket.local_addr()?.port();
        Ok(Self { hub, socket, state, port })
    }

    /// Answers for ever.
    pub(super) async fn run(self) {
        let stride = DATAGRAM * self.state.gro_segments();
        let mut memory = vec![0; stride * BATCH_SIZE];
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        loop {
            match self.receive(&mut memory, stride, &mut metas).await {
                Ok(count) => {
                    for (meta, bytes) in metas.iter().take(count).zip(memory.chunks(stride)) {
                        let bytes = bytes.get(..meta.len).unwrap_or_default();
                        // Datagrams of one source that the kernel put together, or one, which may be empty.
                        let (first, rest) = bytes.split_at(meta.stride.min(bytes.len()));
                        self.on_datagram(first, meta);
                        for datagram in rest.chunks(meta.stride.max(1)) {
                            self.on_datagram(datagram, meta);
                        }
                    }
                }
                // An ICMP error for an earlier answer, or no memory: nothing that concerns the next datagram.
                Err(error) => {
                    tracing::debug!(%error, "cannot receive from UDP");
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    async fn receive(&self, memory: &mut [u8], stride: usize, metas: &mut [RecvMeta]) -> io::Result<usize> {
        self.socket.readable().await?;
        self.socket
            .try_io(Interest::READABLE, || {
                let mut chunks = memory.chunks_mut(stride);
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                    std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
                self.state.recv(UdpSockRef::from(&self.socket), &mut slices, metas)
            })
            .or_else(|error| if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) })
    }

    fn on_datagram(&self, datagram: &[u8], meta: &RecvMeta) {
        let metrics = self.hub.metrics();
        let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
        let Ok(request) = BindingRequest::parse(datagram) else {
            metrics.dropped.stun_silent.add_one();
            return;
        };
        if !self.hub.stun(&request.token, from, self.port) {
            metrics.dropped.stun_silent.add_one();
            return;
        }
        let answer = BindingResponse { transaction: request.transaction, mapped: from }.encode();
        let transmit = Transmit {
            destination: meta.addr,
            ecn: None,
            contents: &answer,
            segment_size: None,
            src_ip: meta.dst_ip,
        };
        // Full or refused: the client asks again.
        let sent = self
            .socket
            .try_io(Interest::WRITABLE, || self.state.try_send(UdpSockRef::from(&self.socket), &transmit));
        match sent {
            Ok(()) => metrics.stun_answered.add_one(),
            Err(error) => tracing::debug!(%error, "cannot answer a STUN request"),
        }
    }
}
