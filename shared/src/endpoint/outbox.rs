//! What is waiting for the owner, and the tables that peers share.

use super::event::{Contact, Event, RelayBinding, Via};
use crate::ids::{ChannelId, NodeId, ReceiverIndex};
use crate::membership;
use crate::rng::Rng;
use crate::session::fragment::pieces;
use crate::transmit::{RelayNo, TcpLink, Transmit};
use crate::wire::relay::{DIRECT_CHANNEL, ForwardBuilder};
use crate::wire::relayed::RelayedHeader;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Queues of outputs, drained by the owner.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) events: VecDeque<Event>,
    /// A peer said something new of itself since [`Self::take_hello_news`].
    hello_news: bool,
    /// Somebody counts otherwise for whose sessions are kept since [`Self::take_demand_news`].
    demand_news: bool,
    /// By relay.
    bindings: Vec<Option<RelayBinding>>,
}

impl Outbox {
    /// Where the relay forwards datagrams of this node.
    pub(crate) fn binding(&self, relay: RelayNo) -> Option<RelayBinding> {
        *self.bindings.get(relay.0)?
    }

    /// Notes where the relay forwards datagrams, and tells the owner if that is news.
    pub(crate) fn bind(&mut self, relay: RelayNo, binding: Option<RelayBinding>) {
        if self.binding(relay) == binding {
            return;
        }
        if self.bindings.len() <= relay.0 {
            self.bindings.resize(relay.0 + 1, None);
        }
        if let Some(known) = self.bindings.get_mut(relay.0) {
            *known = binding;
        }
        self.event(Event::RelayBound { relay, binding });
    }

    /// Sends one peer packet, in pieces where the way carries no more than `room` bytes.
    pub(crate) fn packet(&mut self, via: Via, packet: &[u8], room: Option<usize>) {
        let header = match via {
            Via::Channel(contact) => return self.forward(contact, packet),
            Via::Tcp(link) => return self.tcp(link, packet),
            Via::Udp(to) => Some((to, None)),
            Via::RelayUdp(contact) => self.binding(contact.relay).map(|RelayBinding { remote, tag }| {
                (remote, Some(RelayedHeader { tag, channel: contact.channel }.to_bytes()))
            }),
        };
        // Without a binding it is lost, like any datagram.
        let Some((to, header)) = header else { return };
        let header = header.as_ref().map_or(&[][..], |header| &header[..]);
        match pieces(packet, room) {
            Some(pieces) => {
                for (fragment, piece) in pieces {
                    self.datagram(to, [header, &fragment, piece].concat());
                }
            }
            None => self.datagram(to, [header, packet].concat()),
        }
    }

    /// Sends one peer packet over a channel.
    pub(crate) fn forward(&mut self, contact: Contact, packet: &[u8]) {
        if let Some(message) = message_of(contact.channel, packet) {
            self.message(contact.relay, message);
        }
    }

    /// Sends one peer packet over a direct connection.
    fn tcp(&mut self, link: TcpLink, packet: &[u8]) {
        if let Some(message) = message_of(DIRECT_CHANNEL, packet) {
            self.transmits.push_back(Transmit::Tcp { link, message });
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

    /// What others say of their addresses counts otherwise than before.
    pub(crate) const fn weigh_claims_anew(&mut self) {
        self.hello_news = true;
    }

    /// Whether any peer said something new of itself, or what was said counts otherwise, since the last call.
    pub(crate) fn take_hello_news(&mut self) -> bool {
        std::mem::take(&mut self.hello_news)
    }

    /// Somebody counts otherwise for whose sessions are kept.
    pub(crate) const fn weigh_demand_anew(&mut self) {
        self.demand_news = true;
    }

    /// Whether somebody did since the last call.
    pub(crate) fn take_demand_news(&mut self) -> bool {
        std::mem::take(&mut self.demand_news)
    }

    pub(crate) fn event(&mut self, event: Event) {
        let is_judged = matches!(event, Event::Membership { event: membership::Event::Judged(_), .. });
        self.hello_news |= is_judged || matches!(event, Event::PeerHello { .. });
        self.events.push_back(event);
    }
}

/// A message with one packet. Handshake and control packets are far below the limit of a message; one that is not is a bug of ours and
/// is lost like a packet on a bad network.
fn message_of(channel: ChannelId, packet: &[u8]) -> Option<Vec<u8>> {
    let mut builder = ForwardBuilder::new(channel, Vec::with_capacity(packet.len() + 8));
    builder.push(packet).then(|| builder.finish())
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

    #[cfg(test)]
    pub(crate) fn any_for_test(&self) -> ReceiverIndex {
        *self.owners.keys().next().unwrap()
    }
}
