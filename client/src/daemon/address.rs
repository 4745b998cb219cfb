//! The overlay addresses of this node, and whether they fit this machine.

use super::DaemonError;
use crate::config::{Bridge, Ipv4Cidr, Settings};
use crate::daemon::members::Members;
use crate::daemon::state_dir::NetworkState;
use crate::net::interfaces::Interface;
use crate::net::routes::Route;
use crate::net::{Cidr, Netlink, interfaces, routes};
use shadowmesh_proto::addresses::{self, AddressSpace};
use shadowmesh_proto::ids::NodeId;
use shadowmesh_proto::membership::{Address, Authority, Delegation, Trust};
use shadowmesh_proto::wire::control::{Cidr4, Cidr6, Claim};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// Prefix length of an address of which nobody here knows from which block it came.
const UNKNOWN_PREFIX: u8 = 24;
/// Shortest prefix that a device gets, whatever block an admin gave: what is wider is no network to be on-link.
const SHORTEST_PREFIX: u8 = 8;

/// What this node calls its own at the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnAddresses {
    pub(super) ipv4: Option<Cidr4>,
    pub(super) ipv6: Option<Cidr6>,
    /// Which derivation gave the IPv4 address; `None` when a person did.
    pub(super) attempt: Option<u8>,
    pub(super) claim: Claim,
}

impl OwnAddresses {
    /// As the network gives it, where it has certificates and this node one: nobody believes another. Else by hand if the settings say
    /// so, else derived as the claim was last saved.
    pub(super) fn new(
        settings: &Settings,
        network: &NetworkState,
        node: NodeId,
        members: Option<&Members>,
    ) -> Self {
        let by_hand = settings.address;
        let certified = members.filter(|members| members.trust.own().is_some());
        let (given, is_asked) = match certified {
            None => (by_hand.and_then(cidr_of), true),
            Some(Members { trust, authority, .. }) => {
                let key = authority.as_ref().map(Authority::fingerprint);
                let is_admin = key.is_some_and(|key| trust.view().standing().is_admin(key));
                let is_free = |by_hand: &Ipv4Cidr| trust.view().holder(by_hand.address().into()).is_none();
                // An admin's host puts it into the record.
                let soon = by_hand.filter(is_free).filter(|_| is_admin).and_then(cidr_of);
                let given = given(trust, network.address_space(), by_hand, network.given);
                (soon.or(given), false)
            }
        };
        let derived = Self::derived(network, node);
        let Some(given) = given else { return derived };
        let is_by_hand = is_asked || by_hand.is_some_and(|by_hand| by_hand.address() == given.address());
        let claim = if is_by_hand { Claim::ByHand } else { derived.claim };
        Self { ipv4: Some(given), attempt: None, claim, ..derived }
    }

    /// As the claim was last saved.
    pub(super) fn derived(network: &NetworkState, node: NodeId) -> Self {
        let space = network.address_space();
        let ipv6 = Cidr6::new(addresses::ipv6(&space, &node), addresses::IPV6_PREFIX_LEN);
        let derived =
            addresses::ipv4_attempts(space, node).find(|(attempt, _)| *attempt >= network.claim.attempt);
        Self {
            ipv4: derived.and_then(|(_, address)| Cidr4::new(address, addresses::IPV4_PREFIX_LEN)),
            ipv6,
            attempt: derived.map(|(attempt, _)| attempt),
            claim: if network.claim.settled { Claim::Settled } else { Claim::Fresh },
        }
    }

    /// Whether the network gave it, and no person asked for it here.
    pub(super) const fn is_given(&self) -> bool {
        self.attempt.is_none() && !matches!(self.claim, Claim::ByHand)
    }

    pub(super) fn cidrs(&self) -> Vec<Cidr> {
        cidrs(self.ipv4, self.ipv6)
    }
}

fn cidr_of(by_hand: Ipv4Cidr) -> Option<Cidr4> {
    Cidr4::new(by_hand.address(), by_hand.bits())
}

/// The IPv4 address that the network gives this node, by the record or its certificate (protocol §8.7), with the prefix length that it
/// gets on the device; `by_hand` if that is one of several, or one of its key, then the `last` one. `None`: one of its key.
pub(super) fn given(
    trust: &Trust,
    space: AddressSpace,
    by_hand: Option<Ipv4Cidr>,
    last: Option<Cidr4>,
) -> Option<Cidr4> {
    let facts = trust.own_facts()?;
    let has = |address: Ipv4Addr| facts.has(address.into());
    let is_derived = |address: Ipv4Addr| addresses::is_derived_ipv4(space, trust.node(), address);
    let is_free =
        |address: Ipv4Addr| trust.view().holder(address.into()).is_none_or(|holder| holder == trust.node());
    let is_ours = |by_hand: &Ipv4Cidr| {
        let address = by_hand.address();
        has(address) || (is_derived(address) && is_free(address) && facts.addresses.ipv4().next().is_none())
    };
    if let Some(by_hand) = by_hand.filter(is_ours) {
        return cidr_of(by_hand);
    }
    let first = facts.addresses.ipv4().find_map(|address| match address.ip() {
        IpAddr::V4(ip) => Some((address, ip)),
        IpAddr::V6(_) => None,
    });
    let before = last.map(|last| last.address()).filter(|last| has(*last));
    let before = before.and_then(|ip| Some((Address::new(ip.into())?, ip)));
    let (address, ip) = before.or(first)?;
    Cidr4::new(ip, prefix_of(trust, space, address, ip, last))
}

/// As wide as the block it came from, the widest of those that may be; as the derived range where it lies in that, for there everybody else may be.
fn prefix_of(trust: &Trust, space: AddressSpace, address: Address, ip: Ipv4Addr, last: Option<Cidr4>) -> u8 {
    let mask = |prefix: u8| u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
    let lies_in = |range: Ipv4Addr, prefix| (ip.to_bits() ^ range.to_bits()) & mask(prefix) == 0;
    if lies_in(addresses::ipv4_network(&space), addresses::IPV4_PREFIX_LEN) {
        return addresses::IPV4_PREFIX_LEN;
    }
    let of = |limits: &Delegation| {
        limits.blocks.iter().filter(|block| block.contains(address)).map(|block| block.prefix()).min()
    };
    let own = trust.own().and_then(|own| of(own.chain.as_ref()?.0.claims()));
    let before = last.filter(|last| lies_in(last.address(), last.prefix())).map(|last| last.prefix());
    let open = || trust.invites().filter_map(|invite| of(invite.body())).min();
    own.or(before).or_else(open).unwrap_or(UNKNOWN_PREFIX).max(SHORTEST_PREFIX)
}

/// What a daemon with these settings begins with in a network without certificates, or before it has one.
pub(crate) fn own(settings: &Settings, network: &NetworkState, node: NodeId) -> Vec<Cidr> {
    let OwnAddresses { ipv4, ipv6, .. } = OwnAddresses::new(settings, network, node, None);
    cidrs(ipv4, ipv6)
}

/// The two addresses as the device takes them.
pub(super) fn cidrs(ipv4: Option<Cidr4>, ipv6: Option<Cidr6>) -> Vec<Cidr> {
    let v4 = ipv4.and_then(|cidr| Cidr::new(IpAddr::V4(cidr.address()), cidr.prefix()).ok());
    let v6 = ipv6.and_then(|cidr| Cidr::new(IpAddr::V6(cidr.address()), cidr.prefix()).ok());
    v4.into_iter().chain(v6).collect()
}

/// Refuses a range that another interface or route of this machine uses, by its name. Not for what a daemon that was killed left on the
/// bridge that this one is to put it on again.
pub(super) async fn check(netlink: &Netlink, wanted: &[Cidr], bridge: &Bridge) -> Result<(), DaemonError> {
    check_beside(netlink, wanted, bridge.name().map(|bridge| (bridge.as_str(), wanted)), None).await
}

/// The same while the device is there, which is interface `own`; what it has on a bridge is in nobody's way.
pub(super) async fn check_beside(
    netlink: &Netlink,
    wanted: &[Cidr],
    on_bridge: Option<(&str, &[Cidr])>,
    own: Option<u32>,
) -> Result<(), DaemonError> {
    let system = |cause: io::Error| DaemonError::System { what: "to list its routes", cause };
    let mut interfaces = interfaces::list(netlink, own).await.map_err(system)?;
    let mut routes = routes::list(netlink, own).await.map_err(system)?;
    if let Some((bridge, there)) = on_bridge {
        leave_out_own(&mut interfaces, &mut routes, there, bridge);
    }
    for cidr in wanted {
        if let Some(clash) = routes::clash(*cidr, &interfaces, &routes) {
            return Err(DaemonError::Clash {
                range: cidr.network().to_string(),
                clash: clash.to_string(),
                offer: offer(&interfaces, &routes),
            });
        }
    }
    Ok(())
}

/// Takes the addresses of `own` that the bridge has, and the routes that the kernel made of them, out of what is in use.
pub(crate) fn leave_out_own(
    interfaces: &mut [Interface],
    routes: &mut Vec<Route>,
    own: &[Cidr],
    bridge: &str,
) {
    let Some(bridge) = interfaces.iter_mut().find(|interface| interface.name == bridge) else { return };
    let index = bridge.index;
    let (left, others): (Vec<_>, Vec<_>) =
        bridge.addresses.iter().copied().partition(|have| own.contains(&have.cidr));
    bridge.addresses = others;
    routes.retain(|route| {
        let is_of_ours = left.iter().any(|have| have.cidr.network() == route.destination);
        !(is_of_ours && route.hops.iter().all(|hop| hop.interface == index))
    });
}

/// An address in a private range that is free here: what the error suggests.
pub(crate) fn offer(interfaces: &[interfaces::Interface], routes: &[routes::Route]) -> String {
    let candidates = (0..=255u8).rev().map(|third| format!("192.168.{third}.1/24"));
    let more = (16..=31u8).rev().map(|second| format!("172.{second}.77.1/24"));
    let free = |text: &String| {
        text.parse::<Cidr>().is_ok_and(|cidr| routes::clash(cidr, interfaces, routes).is_none())
    };
    candidates.chain(more).find(free).unwrap_or_else(|| "100.64.77.1/24".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::members::admin::{Admin, Limits};
    use shadowmesh_proto::membership::{Block, Name, Set};
    use shadowmesh_proto::rng::SeededRng;

    #[test]
    fn of_the_blocks_that_an_address_may_be_of_the_widest_is_its_range() {
        // Invites are in the order of their hashes: whichever is the first.
        for seed in 0..8 {
            let rng = &mut SeededRng::new(seed);
            let (node, authority) = (NodeId([3; 32]), Authority::generate(rng));
            let mut trust = Trust::new(authority.fingerprint(), node);
            let mut admin = Admin::new(&mut trust, &authority, 1_000);
            admin.found().expect("founded");
            admin.certify_here(Name::new("a").expect("a name")).expect("certified");
            let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
            let own = Address::new(ip("10.7.3.4")).expect("an address");
            assert!(admin.give_here(own).expect("given"));
            let invite = |trust: &mut Trust, rng: &mut SeededRng, network: &str, bits: u8| {
                let block = Block::new(ip(network), bits).expect("a block");
                let limits = Limits {
                    joins_for: std::time::Duration::from_secs(60),
                    blocks: Set::new([block]).expect("one"),
                    ..Limits::default()
                };
                Admin::new(trust, &authority, 1_000).invite(limits, rng).expect("invited");
            };
            let prefix = |trust: &Trust, last: Option<&str>| {
                let space = AddressSpace::from(authority.fingerprint());
                let last = last.and_then(|last| cidr_of(last.parse().expect("a range")));
                given(trust, space, None, last).expect("given").prefix()
            };
            assert_eq!(prefix(&trust, None), UNKNOWN_PREFIX);
            invite(&mut trust, rng, "10.7.3.4", 32);
            assert_eq!(prefix(&trust, None), 32);
            invite(&mut trust, rng, "10.7.0.0", 20);
            invite(&mut trust, rng, "10.7.3.0", 28);
            assert_eq!(prefix(&trust, None), 20, "seed {seed}");
            assert_eq!(prefix(&trust, Some("10.7.3.4/22")), 22, "as it was known here last");
        }
    }

    #[test]
    fn the_offer_avoids_what_is_in_use() {
        assert_eq!(offer(&[], &[]), "192.168.255.1/24");
    }

    #[test]
    fn what_a_killed_daemon_left_on_its_bridge_is_in_nobodys_way() {
        crate::net::namespace::isolated(|| {
            crate::net::namespace::sh(
                "for bridge in br0 br1; do ip link add $bridge type bridge; ip link set $bridge up; done
                    ip address add 10.7.3.4/16 dev br0; ip address add fd53:4d::4/64 dev br0 nodad",
            );
            let own: [Cidr; 2] = ["10.7.3.4/16".parse().unwrap(), "fd53:4d::4/64".parse().unwrap()];
            let another: [Cidr; 1] = ["10.7.3.5/16".parse().unwrap()];
            crate::net::namespace::block_on(async {
                let netlink = Netlink::open().unwrap();
                let is_free = async |wanted: &[Cidr], bridge: &str| {
                    check(&netlink, wanted, &bridge.parse().unwrap()).await.is_ok()
                };
                assert!(is_free(&own, "br0").await);
                assert!(!is_free(&own, "br1").await, "another bridge has it");
                assert!(!is_free(&own, "none").await, "it would be there twice");
                assert!(!is_free(&another, "br0").await, "another's address is another's");
            });
        });
    }
}
