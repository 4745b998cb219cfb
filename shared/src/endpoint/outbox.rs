//! What is waiting for the owner, and the tables that peers share.

use super::event::{Contact, Event, Via};
use crate::ids::{NodeId, ReceiverIndex};
use crate::rng::Rng;
use crate::transmit::{RelayNo, Transmit};
use crate::wire::relay::ForwardBuilder;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Queues of outputs, drained by the owner.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) events: VecDeque<Event>,
    /// A peer said something new of itself since [`Self::take_hello_news`].
    hello_news: bool,
}

impl Outbox {
    /// Sends one peer packet.
    pub(crate) fn packet(&mut self, via: Via, packet: Vec<u8>) {
        match via {
            Via::Channel(contact) => self.forward(contact, &packet),
            Via::Udp(to) => self.datagram(to, packet),
        }
    }

    /// Sends one peer packet over a channel.
    pub(crate) fn forward(&mut self, contact: Contact, packet: &[u8]) {
        let mut builder = ForwardBuilder::new(contact.channel, Vec::with_capacity(packet.len() + 8));
        // Handshake and control packets are far below the limit of a message; one that is not is a bug of ours and is lost
        // like a packet on a bad network.
        if builder.push(packet) {
            self.message(contact.relay, builder.finish());
        }
    }

    /// Sends one stream message.
    pub(crate) fn message(&mut self, relay: RelayNo, message: Vec<u8>) {
        self.transmits.push_back(Transmit::Stream { relay, message });
    }

    /// Sends one datagram.
    pub(crate) fn datagram(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        self.transmits.push_back(Transmit::Datagram { to, datagram });
    }

    /// Whether any peer said something new of itself since the last call.
    pub(crate) fn take_hello_news(&mut self) -> bool {
        std::mem::take(&mut self.hello_news)
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.hello_news |= matches!(event, Event::PeerHello { .. });
        self.events.push_back(event);
    }
}

/// Which peer each of this node's receiver indices belongs to (protocol §1.4).
#[derive(Debug, Default)]
pub(crate) struct Indices {
    owners: HashMap<ReceiverIndex, NodeId>,
}

impl Indices {
    /// A fresh index for `owner`.
    pub(crate) fn allocate(&mut self, rng: &mut dyn Rng, owner: NodeId) -> ReceiverIndex {
        loop {
            let index = ReceiverIndex(rng.next_u32());
            if let std::collections::hash_map::Entry::Vacant(entry) = self.owners.entry(index) {
                entry.insert(owner);
                return index;
            }
        }
    }

    pub(crate) fn release(&mut self, index: ReceiverIndex) {
        self.owners.remove(&index);
    }

    pub(crate) fn owner(&self, index: ReceiverIndex) -> Option<NodeId> {
        self.owners.get(&index).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }
}
