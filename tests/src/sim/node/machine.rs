//! The machine around a node's data plane: a device and a socket in memory, and the queues of its streams.

use super::super::node::{Home, Outcome, Plan};
use shadowmesh::device::memory::{self, MemoryPort};
use shadowmesh::plane::{
    ControlPacket, InboundMessage, InboundSender, Lockstep, Members, PlaneOutput, Routes, StreamHandle,
    StreamQueue, stream_queue,
};
use shadowmesh::switch::SwitchConfig;
use shadowmesh::transport::udp::{DatagramSocket, MemorySocket};
use shadowmesh_proto::endpoint::Endpoint;
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::session::ChunkPool;
use shadowmesh_proto::transmit::TcpLink;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Frames that a device holds.
const DEVICE_FRAMES: usize = 8192;

/// A direct connection, as the node has it.
#[derive(Debug)]
pub(super) struct Link {
    /// What the data plane puts in, once the connection is kept.
    pub(super) queue: Option<StreamQueue>,
    /// Bytes that its socket takes now.
    pub(super) room: usize,
}

/// The data plane of one life, with its ends outside.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) lockstep: Lockstep,
    pub(super) output: PlaneOutput,
    pub(super) inbound: InboundSender,
    pub(super) wire: MemoryPort,
    pub(super) socket: Arc<MemorySocket>,
    pub(super) routes: Routes,
    /// What the data plane puts into the relay's stream.
    pub(super) queue: Option<StreamQueue>,
    /// Bytes that its socket takes now.
    pub(super) room: usize,
    /// A socket was full when there may have been more for it.
    is_full: bool,
    pub(super) links: BTreeMap<TcpLink, Link>,
}

impl Machine {
    pub(super) fn new(plan: &Plan, home: &Home, endpoint: &Endpoint, port: u16) -> Self {
        let name = "sim0".parse().expect("a device name");
        let (wire, device) = memory::pair(&name, DEVICE_FRAMES).expect("descriptors");
        let socket = Arc::new(MemorySocket::new(port).expect("a descriptor"));
        let network = home.network.derive().id().into();
        let members = Members::new(endpoint.id(), network, endpoint.hello(), SwitchConfig::default());
        let routes = Routes::new(members);
        let (lockstep, output) = Lockstep::new(
            device.into_device(),
            DatagramSocket::Memory(Arc::clone(&socket)),
            routes.snapshot(),
            ChunkPool::new(64 << 20),
            plan.ring,
        )
        .expect("descriptors");
        let inbound = lockstep.plane().messages();
        Self {
            lockstep,
            output,
            inbound,
            wire,
            socket,
            routes,
            queue: None,
            room: usize::MAX,
            is_full: false,
            links: BTreeMap::new(),
        }
    }

    /// A FORWARD message for the data plane.
    pub(super) fn deliver(&self, via: Via, message: &[u8]) {
        let refused = self.inbound.try_send(InboundMessage { via, message: message.into() });
        // It is run after each.
        debug_assert!(refused.is_ok(), "the data plane has no room");
    }

    pub(super) fn keep(&mut self, link: TcpLink) -> Option<StreamHandle> {
        let known = self.links.get_mut(&link).filter(|known| known.queue.is_none())?;
        let (data, queue) = stream_queue(self.lockstep.plane().outbound_waker());
        known.queue = Some(queue);
        Some(data)
    }

    pub(super) fn next_packet(&mut self) -> Option<ControlPacket> {
        let PlaneOutput { packets, direct, stray, .. } = &mut self.output;
        packets.try_recv().or_else(|_| direct.try_recv()).or_else(|_| stray.try_recv()).ok()
    }

    /// Its sockets take so much now; whether something may have waited for that.
    pub(super) fn take_room(&mut self, stream: usize, links: &[(TcpLink, usize)]) -> bool {
        self.room = stream;
        for (link, room) in links {
            if let Some(known) = self.links.get_mut(link) {
                known.room = *room;
            }
        }
        std::mem::take(&mut self.is_full)
    }

    /// Takes what the data plane wants to send, as far as sockets take it, which is at once; whether it did.
    pub(super) fn drain(&mut self, now: Instant, outcome: &mut Outcome) -> bool {
        let before = outcome.messages.len() + outcome.datagrams.len() + outcome.direct.len();
        if let Some(queue) = &mut self.queue {
            while self.room > 0
                && let Some(message) = queue.try_next()
            {
                queue.on_written(now, message.len(), Duration::ZERO);
                self.room = self.room.saturating_sub(message.len());
                outcome.messages.push(message.to_vec());
            }
            self.is_full |= self.room == 0;
        }
        for (link, known) in &mut self.links {
            let Some(queue) = &mut known.queue else { continue };
            while known.room > 0
                && let Some(message) = queue.try_next()
            {
                queue.on_written(now, message.len(), Duration::ZERO);
                known.room = known.room.saturating_sub(message.len());
                outcome.direct.push((*link, message.to_vec()));
            }
            self.is_full |= known.room == 0;
        }
        outcome.datagrams.extend(std::iter::from_fn(|| self.socket.take()));
        outcome.messages.len() + outcome.datagrams.len() + outcome.direct.len() > before
    }
}
