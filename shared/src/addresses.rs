//! Addresses that follow from keys (protocol §1.5).
//!
//! Every member derives the same answer for every other, so a node has an address before it has met anybody, and a clash is
//! settled by trying the next one (protocol §1.6). None of this is secret.

use crate::crypto::{kdf, labels};
use crate::ids::{Fingerprint, MacAddr, NetworkId, NodeId};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What the addresses of a network derive from: the fingerprint of its root, which outlives every secret, or, where there are no
/// certificates and so no rotation, the network id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressSpace(pub [u8; 32]);

impl From<NetworkId> for AddressSpace {
    fn from(network: NetworkId) -> Self {
        Self(network.0)
    }
}

impl From<Fingerprint> for AddressSpace {
    fn from(root: Fingerprint) -> Self {
        Self(root.0)
    }
}

/// Prefix length of a network's IPv4 range, 10.x.0.0/16.
pub const IPV4_PREFIX_LEN: u8 = 16;
/// Prefix length of a network's IPv6 range, a unique local /64 (RFC 4193).
pub const IPV6_PREFIX_LEN: u8 = 64;

/// The Ethernet address of `node`'s device: locally administered, unicast.
pub fn mac(node: &NodeId) -> MacAddr {
    let [first, b, c, d, e, f, ..] = hash(labels::ADDRESS_MAC, &[node.as_bytes()]);
    MacAddr([(first & !0x01) | 0x02, b, c, d, e, f])
}

/// The second byte `x` of the network's 10.x.0.0/16.
fn ipv4_net(network: &AddressSpace) -> u8 {
    let [x, ..] = hash(labels::ADDRESS_IPV4_NET, &[&network.0]);
    x
}

/// The address of the network's IPv4 range, 10.x.0.0.
pub fn ipv4_network(network: &AddressSpace) -> Ipv4Addr {
    Ipv4Addr::new(10, ipv4_net(network), 0, 0)
}

/// `node`'s IPv4 address at `attempt`, or `None` where that attempt is skipped (it gave the network or broadcast address).
pub fn ipv4(network: &AddressSpace, node: &NodeId, attempt: u8) -> Option<Ipv4Addr> {
    let [high, low, ..] = hash(labels::ADDRESS_IPV4_HOST, &[node.as_bytes(), &[attempt]]);
    match (high, low) {
        (0, 0) | (255, 255) => None,
        _ => Some(Ipv4Addr::new(10, ipv4_net(network), high, low)),
    }
}

/// All of `node`'s IPv4 addresses in the order they are tried, each with its attempt.
pub fn ipv4_attempts(network: AddressSpace, node: NodeId) -> impl Iterator<Item = (u8, Ipv4Addr)> {
    (0..=u8::MAX).filter_map(move |attempt| Some((attempt, ipv4(&network, &node, attempt)?)))
}

/// Whether `address` is one of them.
pub fn is_derived_ipv4(network: AddressSpace, node: NodeId, address: Ipv4Addr) -> bool {
    ipv4_attempts(network, node).any(|(_, derived)| derived == address)
}

/// Attempts in a block by hash, before one address after the other is tried.
const BLOCK_HASHES: u8 = u8::MAX;
/// Addresses of a block that are tried one after the other: all of a /22.
const BLOCK_SCAN: u32 = 1 << 10;

/// The IPv4 addresses of the block `base/prefix` in the order in which `node` tries them (protocol §8.4): 256 drawn from its key, then
/// those that follow the last of these. A few come twice. Its network and broadcast address are left out, where it has them.
pub fn block_attempts(base: Ipv4Addr, prefix: u8, node: NodeId) -> impl Iterator<Item = Ipv4Addr> {
    let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    let drawn = move |attempt: u8| {
        let block: &[u8] = &[&base.octets()[..], &[prefix, attempt]].concat();
        let [a, b, c, d, ..] = hash(labels::ADDRESS_IPV4_BLOCK, &[node.as_bytes(), block]);
        u32::from_be_bytes([a, b, c, d]) & hosts
    };
    let last = drawn(BLOCK_HASHES);
    let scanned = (1..=BLOCK_SCAN.min(hosts)).map(move |step| last.wrapping_add(step) & hosts);
    let is_a_host = move |host: &u32| hosts <= 1 || (*host != 0 && *host != hosts);
    let tried = (0..=BLOCK_HASHES).map(drawn).chain(scanned).filter(is_a_host);
    tried.map(move |host| Ipv4Addr::from_bits(base.to_bits() | host))
}

/// `node`'s IPv6 address, in the network's fd…/64.
pub fn ipv6(network: &AddressSpace, node: &NodeId) -> Ipv6Addr {
    let [a, b, c, d, e, ..] = hash(labels::ADDRESS_IPV6_NET, &[&network.0]);
    let [i, j, k, l, m, n, o, p, ..] = hash(labels::ADDRESS_IPV6_HOST, &[node.as_bytes()]);
    Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, i, j, k, l, m, n, o, p])
}

/// `H(label, x)` of protocol §1.5.
fn hash(label: &[u8], x: &[&[u8]]) -> [u8; 32] {
    let head: [&[u8]; 3] = [labels::ADDRESS_PREFIX, label, &[0]];
    kdf::sha256(&[&head[..], x].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn mac_is_local_and_unicast(node: [u8; 32]) {
            let MacAddr([first, ..]) = mac(&NodeId(node));
            prop_assert_eq!(first & 0x03, 0x02);
        }

        #[test]
        fn ipv4_is_a_host_of_the_network(network: [u8; 32], node: [u8; 32]) {
            let (network, node) = (AddressSpace(network), NodeId(node));
            for (attempt, address) in ipv4_attempts(network, node) {
                prop_assert_eq!(ipv4(&network, &node, attempt), Some(address));
                let [a, b, c, d] = address.octets();
                prop_assert_eq!(Ipv4Addr::new(a, b, 0, 0), ipv4_network(&network));
                prop_assert!((c, d) != (0, 0) && (c, d) != (255, 255));
            }
        }

        #[test]
        fn ipv6_is_unique_local(network: [u8; 32], node: [u8; 32]) {
            let address = ipv6(&AddressSpace(network), &NodeId(node));
            prop_assert!(address.is_unique_local());
            prop_assert_eq!(&address.octets()[6..8], &[0, 0]);
        }
    }

    #[test]
    fn a_block_is_tried_in_an_order_of_ones_own_and_to_its_last_address() {
        let base = Ipv4Addr::new(10, 7, 4, 0);
        let of = |node: u8, prefix| block_attempts(base, prefix, NodeId([node; 32])).collect::<Vec<_>>();
        for (prefix, hosts) in [(22, 1_022), (24, 254), (29, 6), (30, 2), (31, 2), (32, 1)] {
            let all: std::collections::BTreeSet<_> = of(1, prefix).into_iter().collect();
            assert_eq!(all.len(), hosts, "/{prefix}");
            let size = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            assert!(all.iter().all(|address| address.to_bits() & !size == base.to_bits()), "/{prefix}");
        }
        assert_ne!(of(1, 24)[..3], of(2, 24)[..3]);
        assert!(of(1, 8).len() >= 1_200);
    }

    #[test]
    fn attempts_give_other_addresses() {
        let addresses: Vec<_> = ipv4_attempts(AddressSpace([1; 32]), NodeId([2; 32])).take(8).collect();
        for (at, (attempt, address)) in addresses.iter().enumerate() {
            assert!(addresses.iter().skip(at + 1).all(|(a, other)| a != attempt && other != address));
        }
    }
}
