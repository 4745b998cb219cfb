//! Packets on their way out: into messages for streams, one being filled per peer, and into bursts of datagrams.

use super::datagrams::Datagrams;
use crate::plane::queue::StreamHandle;
use crate::plane::snapshot::Snapshot;
use shadowmesh_proto::endpoint::event::{Contact, RelayBinding, Via};
use shadowmesh_proto::ids::ChannelId;
use shadowmesh_proto::session::fragment::pieces;
use shadowmesh_proto::wire::relay::{DIRECT_CHANNEL, ForwardBuilder, MAX_MESSAGE};
use shadowmesh_proto::wire::relayed::RelayedHeader;
use std::net::SocketAddr;

/// The least that is taken for a message: a few small frames.
const ROOM_MIN: usize = 4096;

/// Where packets go, and how large they may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) via: Via,
    /// See [`PeerRoute::room`](crate::plane::snapshot::PeerRoute::room).
    pub(super) room: Option<usize>,
}

/// Messages and bursts being filled.
#[derive(Debug)]
pub(super) struct Batches {
    open: Vec<(Via, ForwardBuilder)>,
    /// Room that the next message is given: what the last one needed, so that a stream of full messages never grows one by
    /// copying it, and a lone frame does not take 64 KiB.
    room: usize,
    pub(super) datagrams: Datagrams,
    /// How many peers have frames that wait for a stream.
    pub(super) queued: usize,
    /// Bytes of those, when they were last counted.
    pub(super) queued_bytes: usize,
}

impl Batches {
    pub(super) const fn new(datagrams: Datagrams) -> Self {
        Self { open: Vec::new(), room: ROOM_MIN, datagrams, queued: 0, queued_bytes: 0 }
    }

    /// Whether packets for `via` are taken without piling up.
    pub(super) fn has_room(&self, snapshot: &Snapshot, via: Via) -> bool {
        match via {
            Via::Channel(_) | Via::Tcp(_) => {
                let room = |stream: &StreamHandle| stream.has_room_beside(self.filled(via));
                snapshot.stream(via).is_some_and(room)
            }
            Via::Udp(_) | Via::RelayUdp(_) => self.datagrams.has_room(),
        }
    }

    /// Bytes of the messages being filled for the stream that `via` goes by.
    fn filled(&self, via: Via) -> usize {
        let is_same = |open: Via| match (open, via) {
            (Via::Channel(open), Via::Channel(contact)) => open.relay == contact.relay,
            _ => open == via,
        };
        self.open.iter().filter(|(open, _)| is_same(*open)).map(|(_, builder)| builder.len()).sum()
    }

    /// Adds a packet to what leaves by `way`, in pieces if it has to; whether it was taken.
    pub(super) fn push(&mut self, snapshot: &Snapshot, way: Way, packet: &[u8]) -> bool {
        match way.via {
            Via::Channel(Contact { channel, .. }) => self.push_to_stream(snapshot, way.via, channel, packet),
            Via::Tcp(_) => self.push_to_stream(snapshot, way.via, DIRECT_CHANNEL, packet),
            Via::Udp(to) => self.push_datagram(to, &[], way.room, packet),
            Via::RelayUdp(contact) => {
                snapshot.binding(contact).is_some_and(|RelayBinding { remote, tag }| {
                    let header = RelayedHeader { tag, channel: contact.channel };
                    self.push_datagram(remote, &header.to_bytes(), way.room, packet)
                })
            }
        }
    }

    fn push_datagram(&mut self, to: SocketAddr, header: &[u8], room: Option<usize>, packet: &[u8]) -> bool {
        let Some(mut pieces) = pieces(packet, room) else {
            return self.datagrams.push(to, &[header, packet]);
        };
        // If the socket fills in the middle the whole packet goes again: the receiver passes over the pieces that it has.
        pieces.all(|(fragment, piece)| self.datagrams.push(to, &[header, &fragment, piece]))
    }

    /// Adds a packet to the message for the stream `via`, handing over the one before when it is full. Whether there was a stream
    /// to add it for.
    fn push_to_stream(&mut self, snapshot: &Snapshot, via: Via, channel: ChannelId, packet: &[u8]) -> bool {
        if snapshot.stream(via).is_none() {
            return false;
        }
        let at = self.open.iter().position(|(open, _)| *open == via).unwrap_or_else(|| {
            self.open.push((via, ForwardBuilder::new(channel, Vec::with_capacity(self.room))));
            self.open.len() - 1
        });
        let Some((_, builder)) = self.open.get_mut(at) else { return false };
        if builder.push(packet) {
            return true;
        }
        self.room = MAX_MESSAGE;
        let mut next = ForwardBuilder::new(channel, Vec::with_capacity(MAX_MESSAGE));
        let fits = next.push(packet);
        hand_over(snapshot, via, std::mem::replace(builder, next));
        fits
    }

    /// Hands everything over.
    pub(super) fn flush(&mut self, snapshot: &Snapshot) {
        self.datagrams.flush();
        let mut most = 0;
        for (via, builder) in self.open.drain(..) {
            most = most.max(builder.len());
            hand_over(snapshot, via, builder);
        }
        if most > 0 {
            self.room = most.next_power_of_two().clamp(ROOM_MIN, MAX_MESSAGE);
        }
    }
}

fn hand_over(snapshot: &Snapshot, via: Via, builder: ForwardBuilder) {
    if let Some(stream) = snapshot.stream(via)
        && !builder.is_empty()
    {
        stream.push(builder.finish());
    }
}
