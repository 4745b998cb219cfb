//! What comes by the UDP socket, from anybody.

use super::{ControlQueue, Found, InboundThread, Source};
use crate::device::DeviceFault;
use crate::plane::Datagram;
use crate::plane::snapshot::{Snapshot, add};
use crate::transport::udp::DatagramSocket;
use quinn_udp::RecvMeta;
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::session::fragment::FragmentHeader;
use shadowmesh_proto::wire::header::{Header, PacketType};
use shadowmesh_proto::wire::packet::PacketKind;
use shadowmesh_proto::wire::relayed::{RELAYED, RELAYED_HEADER_LEN, RelayedHeader};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::time::Instant;

/// Buffers that one call may fill, each with what the kernel put together of one sender (UDP GRO).
const BUFFERS: usize = 4;
/// What GRO puts together at most.
const BUFFER: usize = 65_536;
/// Calls in one turn, before relays are looked at again: 4 times 256 KiB.
const CALLS: usize = 4;
/// Errors of the socket that are heard in one call.
const REPORTS: usize = 64;
/// The longest datagram that may be an answer of STUN: far above any.
const STUN_MAX: usize = 512;

/// What received datagrams lie in.
#[derive(Debug)]
pub(super) struct Buffers {
    memory: Box<[u8]>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self { memory: vec![0; BUFFERS * BUFFER].into_boxed_slice() }
    }
}

impl InboundThread {
    /// Takes what the socket has, up to a bound.
    pub(super) fn receive_datagrams(&mut self, now: Instant) -> Result<Found, DeviceFault> {
        self.receive(now, BUFFERS, CALLS)
    }

    /// Takes what the kernel put together first, and asks for no more; whether there was any.
    pub(super) fn receive_first(&mut self, now: Instant) -> Result<bool, DeviceFault> {
        self.receive(now, 1, 1).map(|found| found.is_any)
    }

    fn receive(&mut self, now: Instant, buffers: usize, calls: usize) -> Result<Found, DeviceFault> {
        // Out of `self` while packets in it are opened.
        let mut memory = std::mem::take(&mut self.buffers.memory);
        let mut found = Found::default();
        let mut result = Ok(());
        for _ in 0..calls {
            let mut metas = [RecvMeta::default(); BUFFERS];
            let metas = metas.get_mut(..buffers).unwrap_or_default();
            let count = receive(&self.socket, &mut memory, metas).unwrap_or(0);
            // A socket that filled fewer than it might has no more. Should some have come since, it does not let the thread sleep.
            found = Found { is_any: found.is_any || count > 0, is_more: count == buffers };
            let snapshot = self.snapshot.load_full();
            for (buffer, meta) in memory.chunks(BUFFER).zip(&*metas).take(count) {
                let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
                let Some(filled) = buffer.get(..meta.len) else { continue };
                for datagram in filled.chunks(meta.stride.max(1)) {
                    result = result.and_then(|()| self.datagram(now, &snapshot, from, datagram));
                }
            }
            if !found.is_more || result.is_err() {
                break;
            }
        }
        self.buffers.memory = memory;
        result.map(|()| found)
    }

    fn datagram(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DeviceFault> {
        if datagram.first() != Some(&RELAYED) {
            return self.packet(now, snapshot, Via::Udp(from), datagram);
        }
        let contact = RelayedHeader::parse(datagram).ok().and_then(|header| snapshot.contact(from, header));
        match (contact, datagram.get(RELAYED_HEADER_LEN..)) {
            (Some(contact), Some(packet)) => self.packet(now, snapshot, Via::RelayUdp(contact), packet),
            _ => {
                add(&self.counters.not_bound, 1);
                Ok(())
            }
        }
    }

    fn packet(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        via: Via,
        datagram: &[u8],
    ) -> Result<(), DeviceFault> {
        match PacketKind::of(datagram) {
            Some(PacketKind::Transport(PacketType::Data)) => {
                return self.data(now, snapshot, via, datagram);
            }
            Some(PacketKind::Transport(PacketType::Control)) => {
                let Ok(header) = Header::parse(datagram) else {
                    add(&self.counters.unknown_kind, 1);
                    return Ok(());
                };
                self.look_for_key(now, header.receiver);
                let Some(slot) = self.sessions.slot(header.receiver) else {
                    add(&self.counters.unknown_index, 1);
                    return Ok(());
                };
                let is_known = match via {
                    Via::Udp(from) => snapshot.peer(slot).is_some_and(|route| route.sources.contains(&from)),
                    Via::Channel(_) | Via::RelayUdp(_) | Via::Tcp(_) => true,
                };
                let queue = if is_known { ControlQueue::Direct } else { ControlQueue::Stray };
                self.control(queue, Source::of(via, is_known.then_some(slot)), via, datagram);
            }
            Some(PacketKind::Init | PacketKind::Response) => add(&self.counters.handshake_by_datagram, 1),
            // RFC 8489 §5: the first two bits of every STUN message are 0. No packet of ours begins so.
            None if datagram.first().is_some_and(|first| *first < 0x40) && datagram.len() <= STUN_MAX => {
                let Via::Udp(from) = via else {
                    add(&self.counters.unknown_kind, 1);
                    return Ok(());
                };
                if !snapshot.stun.contains(&from) {
                    add(&self.counters.stun_unasked, 1);
                    return Ok(());
                }
                // Full: STUN asks again.
                if self.datagrams.try_send(Datagram { from, bytes: datagram.to_vec() }).is_err() {
                    add(&self.counters.stun_dropped, 1);
                }
            }
            Some(PacketKind::Transport(PacketType::Fragment)) => {
                return self.fragment(now, snapshot, via, datagram);
            }
            None => add(&self.counters.unknown_kind, 1),
        }
        Ok(())
    }

    /// A piece of a packet, which is taken further once it is whole.
    fn fragment(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        via: Via,
        datagram: &[u8],
    ) -> Result<(), DeviceFault> {
        let Ok(header) = FragmentHeader::parse(datagram) else {
            add(&self.counters.unknown_kind, 1);
            return Ok(());
        };
        self.look_for_key(now, header.packet.receiver);
        // Only whose key it is bears it: what others hold is not pushed out.
        let Some(PeerSlot(owner)) = self.sessions.slot(header.packet.receiver) else {
            add(&self.counters.unknown_index, 1);
            return Ok(());
        };
        let before = self.pieces.given_up();
        let whole = self.pieces.take(now, owner, datagram);
        add(&self.counters.fragments_given_up, self.pieces.given_up() - before);
        match whole {
            Ok(Some(packet)) => self.packet(now, snapshot, via, &packet),
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

/// How many buffers were filled; `None` when there is nothing to read.
fn receive(socket: &DatagramSocket, memory: &mut [u8], metas: &mut [RecvMeta]) -> Option<usize> {
    let mut chunks = memory.chunks_mut(BUFFER);
    let mut buffers: [IoSliceMut<'_>; BUFFERS] =
        std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
    let buffers = buffers.get_mut(..metas.len()).unwrap_or_default();
    // Each is told once, and there is one for each that was sent at most. What is told for ever is for the next turn, so that commands are heard.
    for _ in 0..REPORTS {
        match socket.receive(buffers, metas) {
            Ok(count) => return Some(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            // A refusal of something sent before.
            Err(error) => tracing::debug!(%error, "the UDP socket reports"),
        }
    }
    None
}
