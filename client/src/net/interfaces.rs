//! The interfaces of this machine and their addresses.

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::cidr::Cidr;
use super::netlink::{Netlink, to_io};

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its number in this network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is set up and has a carrier, so that it can send now.
    pub running: bool,
    /// Whether it leads to this machine only.
    pub loopback: bool,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<InterfaceAddress>,
}

/// One address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address, with its prefix; that of a point-to-point link stands alone.
    pub cidr: Cidr,
    /// Whether a new connection may use it: not tentative, not a duplicate, not deprecated (RFC 4862 §5.5.4).
    pub usable: bool,
}

/// Lists all interfaces but the one with the index `except`, by index.
///
/// # Errors
/// What the kernel said.
pub async fn list(netlink: &Netlink, except: Option<u32>) -> io::Result<Vec<Interface>> {
    let mut found = Vec::new();
    let mut links = netlink.handle().link().get().execute();
    while let Some(link) = links.try_next().await.map_err(to_io)? {
        if Some(link.header.index) != except {
            found.push(Interface {
                index: link.header.index,
                name: name_of(&link),
                running: is_running(&link),
                loopback: link.header.flags.contains(LinkFlags::Loopback),
                addresses: Vec::new(),
            });
        }
    }
    found.sort_by_key(|interface| interface.index);
    let mut addresses = netlink.handle().address().get().execute();
    while let Some(message) = addresses.try_next().await.map_err(to_io)? {
        let place = found.binary_search_by_key(&message.header.index, |interface| interface.index);
        if let (Some(interface), Some(address)) =
            (place.ok().and_then(|at| found.get_mut(at)), address_of(&message))
        {
            interface.addresses.push(address);
        }
    }
    Ok(found)
}

/// The name in a link message. The kernel always sends one; an empty text stands for what it did not say.
pub(super) fn name_of(message: &LinkMessage) -> String {
    let name = message.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::IfName(name) = attribute { Some(name.clone()) } else { None }
    });
    name.unwrap_or_default()
}

/// Whether the interface is up and its lower layer too.
pub(super) fn is_running(message: &LinkMessage) -> bool {
    message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
}

/// The hardware address in a link message; loopback has one of zeros, a tunnel may have none.
pub(crate) fn hardware_address_of(message: &LinkMessage) -> Option<&[u8]> {
    message.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Address(bytes) = attribute { Some(bytes.as_slice()) } else { None }
    })
}

/// The address in an address message.
pub(super) fn address_of(message: &AddressMessage) -> Option<InterfaceAddress> {
    let (mut local, mut address, mut flags) = (None, None, None);
    for attribute in &message.attributes {
        if let AddressAttribute::Local(ip) = attribute {
            local = Some(*ip);
        } else if let AddressAttribute::Address(ip) = attribute {
            address = Some(*ip);
        } else if let AddressAttribute::Flags(all) = attribute {
            flags = Some(*all);
        }
    }
    let flags =
        flags.unwrap_or_else(|| AddressFlags::from_bits_retain(u32::from(message.header.flags.bits())));
    let prefix = message.header.prefix_len;
    let cidr = match (local, address) {
        // On a point-to-point link `IFA_ADDRESS` is the other end, and the prefix is of the other end too.
        (Some(local), Some(peer)) if local != peer => Cidr::host(local),
        (Some(ip), _) | (None, Some(ip)) => Cidr::new(ip, prefix).ok()?,
        (None, None) => return None,
    };
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
    // An optimistic address is tentative and may be used all the same (RFC 4429).
    let usable = !flags.intersects(unusable) || flags.contains(AddressFlags::Optimistic);
    Some(InterfaceAddress { cidr, usable })
}

/// Whether any of these interfaces has `address`.
pub fn has_address(interfaces: &[Interface], address: IpAddr) -> bool {
    interfaces.iter().flat_map(|interface| &interface.addresses).any(|have| have.cidr.address() == address)
}

/// Whether `address` is one of a link that runs.
pub fn is_here(interfaces: &[Interface], address: IpAddr) -> bool {
    interfaces.iter().any(|one| one.running && has_address(std::slice::from_ref(one), address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::namespace::{block_on, isolated, sh};

    #[test]
    fn interfaces_are_listed_with_their_addresses() {
        isolated(|| {
            sh("ip link set lo up
                ip link add eth0 type veth peer name other0
                ip addr add 192.0.2.7/24 dev eth0
                ip addr add 198.51.100.1 peer 198.51.100.2/32 dev eth0
                ip -6 addr add 2001:db8::7/64 dev eth0 nodad
                ip -6 addr add 2001:db8::8/64 dev eth0 nodad preferred_lft 0
                ip link set eth0 up");
            let (all, without) = block_on(async {
                let netlink = Netlink::open().unwrap();
                let all = list(&netlink, None).await.unwrap();
                let eth0 = all.iter().find(|interface| interface.name == "eth0").unwrap().index;
                (all, list(&netlink, Some(eth0)).await.unwrap())
            });
            assert_eq!(all.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["lo", "other0", "eth0"]);
            let eth0 = &all[2];
            assert_eq!((eth0.loopback, eth0.running), (false, false), "its other end is down");
            let address = |text: &str, usable| InterfaceAddress { cidr: text.parse().unwrap(), usable };
            for expected in [
                address("192.0.2.7/24", true),
                address("198.51.100.1/32", true),
                address("2001:db8::7/64", true),
                address("2001:db8::8/64", false),
            ] {
                assert!(eth0.addresses.contains(&expected), "{expected:?} not in {:?}", eth0.addresses);
            }
            assert!(all[0].loopback && all[0].running);
            assert!(has_address(&all, "192.0.2.7".parse().unwrap()));
            assert_eq!(without.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["lo", "other0"]);
            assert!(!has_address(&without, "192.0.2.7".parse().unwrap()));
        });
    }
}
