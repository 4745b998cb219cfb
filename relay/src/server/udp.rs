//! UDP: STUN Binding requests of registered clients (protocol §3.8), datagrams between clients that bound their addresses
//! (protocol §3.9), and silence for everybody else.
//!
//! A STUN answer goes to the source only, from the very address that was asked, and is never longer than the request. What is
//! forwarded goes where a client showed that it receives, one datagram for one.

use crate::server::hub::Hub;
use crate::server::relayed::{Door, Socket};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef};
use shadowmesh_proto::wire::relayed::{RELAYED, RelayedHeader};
use shadowmesh_proto::wire::stun::{BindingRequest, BindingResponse};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::Interest;

/// Longest datagram that is read whole; a longer one is no request of ours (RFC 8489 §6.1), and nothing that a client sends to be
/// forwarded: it fits an Ethernet link.
const DATAGRAM: usize = 1500;

/// Serves one socket.
#[derive(Debug)]
pub(super) struct Responder {
    hub: Arc<Hub>,
    socket: Arc<Socket>,
}

impl Responder {
    pub(super) fn new(hub: Arc<Hub>, socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self { hub, socket: Arc::new(Socket::new(socket)?) })
    }

    /// Its socket, for what is to leave from there.
    pub(super) fn socket(&self) -> Arc<Socket> {
        Arc::clone(&self.socket)
    }

    /// Serves for ever.
    pub(super) async fn run(self) {
        let stride = DATAGRAM * self.socket.state.gro_segments();
        let mut memory = vec![0; stride * BATCH_SIZE];
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        loop {
            match self.receive(&mut memory, stride, &mut metas).await {
                Ok(count) => {
                    let now = Instant::now();
                    for (meta, bytes) in metas.iter().take(count).zip(memory.chunks_mut(stride)) {
                        self.on_datagrams(now, bytes.get_mut(..meta.len).unwrap_or_default(), meta);
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
        let Socket { socket, state, .. } = &*self.socket;
        socket.readable().await?;
        socket
            .try_io(Interest::READABLE, || {
                let mut chunks = memory.chunks_mut(stride);
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                    std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
                state.recv(UdpSockRef::from(socket), &mut slices, metas)
            })
            .or_else(|error| if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) })
    }

    /// Datagrams of one source that the kernel put together, or one, which may be empty.
    fn on_datagrams(&self, now: Instant, mut datagrams: &mut [u8], meta: &RecvMeta) {
        let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
        let stride = meta.stride.max(1);
        if datagrams.is_empty() {
            return self.on_request(now, datagrams, from, meta);
        }
        while !datagrams.is_empty() {
            // As many as go the same way leave as they came: together.
            let (len, header) = run(datagrams, stride);
            let (run, rest) = datagrams.split_at_mut(len);
            match header {
                Some(header) => self.hub.forward_datagrams(now, from, header, run, stride),
                None => self.on_request(now, run, from, meta),
            }
            datagrams = rest;
        }
    }

    fn on_request(&self, now: Instant, datagram: &[u8], from: SocketAddr, meta: &RecvMeta) {
        let metrics = self.hub.metrics();
        let door = Door { socket: Arc::clone(&self.socket), remote: meta.addr, local: meta.dst_ip };
        let request = BindingRequest::parse(datagram).ok();
        let answer = request.and_then(|request| {
            let nonce = self.hub.stun(now, &request.token, from, &door)?;
            Some(BindingResponse { transaction: request.transaction, mapped: from, nonce }.encode())
        });
        let Some(answer) = answer else {
            metrics.dropped.stun_silent.add_one();
            return;
        };
        // Full or refused: the client asks again.
        if door.send(&answer, answer.len()) == answer.len() {
            metrics.stun_answered.add_one();
        }
    }
}

/// How many bytes at the front of `datagrams`, of `stride` bytes each, have one and the same header, and which. Without a header
/// it is one datagram.
fn run(datagrams: &[u8], stride: usize) -> (usize, Option<RelayedHeader>) {
    let mut chunks = datagrams.chunks(stride);
    let Some(first) = chunks.next() else { return (0, None) };
    if first.first() != Some(&RELAYED) {
        return (first.len(), None);
    }
    let Ok(header) = RelayedHeader::parse(first) else { return (first.len(), None) };
    let same = chunks.take_while(|next| RelayedHeader::parse(next) == Ok(header));
    (first.len() + same.map(<[u8]>::len).sum::<usize>(), Some(header))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shadowmesh_proto::ids::ChannelId;
    use shadowmesh_proto::wire::relayed::BindingTag;

    #[test]
    fn a_run_ends_where_the_way_does() {
        let header = |channel| RelayedHeader { tag: BindingTag::new(5), channel: ChannelId(channel) };
        let datagram = |channel, len| [&header(channel).to_bytes()[..], &vec![1; len]].concat();
        let three = [datagram(1, 20), datagram(1, 20), datagram(1, 9)].concat();
        assert_eq!(run(&three, 28), (three.len(), Some(header(1))));
        let mixed = [datagram(1, 20), datagram(1, 20), datagram(2, 20)].concat();
        assert_eq!(run(&mixed, 28), (56, Some(header(1))));
        // A tail that is a header alone is not part of it, nor of anything.
        let cut = [datagram(1, 20), datagram(1, 0)].concat();
        assert_eq!(run(&cut, 28), (28, Some(header(1))));
        assert_eq!(run(&cut[28..], 28), (8, None));
        assert_eq!(run(&[0xe0; 3], 28), (3, None));
        assert_eq!(run(&[0; 60], 28), (28, None));
        assert_eq!(run(&[], 28), (0, None));
    }
}
