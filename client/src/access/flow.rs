//! What a packet has in common with its answers.
//!
//! A flow is named from this node's side: `near` is here, `far` is there. What is sent has `near` as its source, what comes in as its
//! destination; so a packet and its answer are one flow. Two VLANs are two networks: the tags belong to the name.
//!
//! Flows are known by 64 bits of a keyed hash (SipHash, as for the same purpose in Linux): a peer chooses most of what is hashed, and
//! without the key it cannot compute flows that share a place in the table, or one that passes for another.

use super::packet::{Addresses, Content, Datagram, ICMP, ICMPV6, Part};
use std::hash::{BuildHasher as _, RandomState};

/// A flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    protocol: u8,
    is_v6: bool,
    vlans: [u16; 2],
    /// The ports, or twice the id of an echo; zero where a protocol has no such thing.
    ports: [u16; 2],
    near: [u8; 16],
    far: [u8; 16],
}

impl Flow {
    /// Of what this node sent. `None` where nothing could be told as its answer.
    pub(super) fn sent(datagram: &Datagram<'_>) -> Option<Self> {
        let ports = match datagram.content {
            Content::Tcp { source, destination, .. } | Content::Udp { source, destination } => {
                [source, destination]
            }
            Content::EchoRequest { id } => [id, id],
            Content::Plain if is_flow_by_addresses(datagram) => [0; 2],
            Content::EchoReply { .. }
            | Content::IcmpError { .. }
            | Content::NeighbourDiscovery
            | Content::Router
            | Content::Plain
            | Content::Unreadable => return None,
        };
        let addresses = &datagram.addresses;
        Some(Self::new(datagram, ports, addresses.source, addresses.destination))
    }

    /// Of what came in. `None` where it can be no answer.
    pub(super) fn received(datagram: &Datagram<'_>) -> Option<Self> {
        let ports = match datagram.content {
            Content::Tcp { source, destination, .. } | Content::Udp { source, destination } => {
                [destination, source]
            }
            Content::EchoReply { id } => [id, id],
            Content::Plain if is_flow_by_addresses(datagram) => [0; 2],
            Content::EchoRequest { .. }
            | Content::IcmpError { .. }
            | Content::NeighbourDiscovery
            | Content::Router
            | Content::Plain
            | Content::Unreadable => return None,
        };
        let addresses = &datagram.addresses;
        Some(Self::new(datagram, ports, addresses.destination, addresses.source))
    }

    fn new(datagram: &Datagram<'_>, ports: [u16; 2], near: [u8; 16], far: [u8; 16]) -> Self {
        let (protocol, is_v6) = (datagram.protocol, datagram.addresses.is_v6);
        Self { protocol, is_v6, vlans: datagram.vlans, ports, near, far }
    }

    /// Its fingerprint.
    pub(super) fn fingerprint(&self, key: &RandomState) -> u64 {
        let [p0, p1] = self.ports.map(u64::from);
        let [near, far] = [self.near, self.far].map(u128::from_le_bytes);
        key.hash_one((head(self.protocol, self.is_v6, self.vlans), p0 | p1 << 16, near, far))
    }
}

/// The name of a packet in fragments, of those that came in (RFC 791 §3.2, RFC 8200 §4.5).
pub(super) fn fragmented(datagram: &Datagram<'_>, id: u32, key: &RandomState) -> u64 {
    let Addresses { is_v6, source, destination } = datagram.addresses;
    let [source, destination] = [source, destination].map(u128::from_le_bytes);
    key.hash_one((head(datagram.protocol, is_v6, datagram.vlans), u64::from(id), source, destination))
}

/// ICMP other than an echo is never a flow of its own, and a later fragment does not say of which it is.
fn is_flow_by_addresses(datagram: &Datagram<'_>) -> bool {
    !matches!(datagram.protocol, ICMP | ICMPV6) && !matches!(datagram.part, Part::Later { .. })
}

/// In a word, for speed.
fn head(protocol: u8, is_v6: bool, vlans: [u16; 2]) -> u64 {
    let [v0, v1] = vlans.map(u64::from);
    u64::from(protocol) | u64::from(is_v6) << 8 | v0 << 16 | v1 << 32
}
