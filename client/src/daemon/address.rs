//! The overlay addresses of this node, and whether they fit this machine.

use super::DaemonError;
use crate::config::{Bridge, Settings};
use crate::daemon::state_dir::NetworkState;
use crate::net::interfaces::Interface;
use crate::net::routes::Route;
use crate::net::{Cidr, Netlink, interfaces, routes};
use shadowmesh_proto::addresses;
use shadowmesh_proto::ids::NodeId;
use shadowmesh_proto::wire::control::{Cidr4, Cidr6, Claim};
use std::io;
use std::net::IpAddr;

/// Prefix length of the derived IPv4 range (protocol §1.5).
const IPV4_PREFIX: u8 = 16;

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
    /// By hand if the settings say so, else derived as the claim was last saved.
    pub(super) fn new(settings: &Settings, network: &NetworkState, node: NodeId) -> Self {
        let space = network.address_space();
        let ipv6 = Cidr6::new(addresses::ipv6(&space, &node), addresses::IPV6_PREFIX_LEN);
        if let Some(by_hand) = settings.address {
            return Self {
                ipv4: Cidr4::new(by_hand.address(), by_hand.bits()),
                ipv6,
                attempt: None,
                claim: Claim::ByHand,
            };
        }
        let derived =
            addresses::ipv4_attempts(space, node).find(|(attempt, _)| *attempt >= network.claim.attempt);
        Self {
            ipv4: derived.and_then(|(_, address)| Cidr4::new(address, IPV4_PREFIX)),
            ipv6,
            attempt: derived.map(|(attempt, _)| attempt),
            claim: if network.claim.settled { Claim::Settled } else { Claim::Fresh },
        }
    }

    pub(super) fn cidrs(&self) -> Vec<Cidr> {
        cidrs(self.ipv4, self.ipv6)
    }
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
    let system = |cause: io::Error| DaemonError::System { what: "to list its routes", cause };
    let mut interfaces = interfaces::list(netlink, None).await.map_err(system)?;
    let mut routes = routes::list(netlink, None).await.map_err(system)?;
    if let Some(bridge) = bridge.name() {
        leave_out_own(&mut interfaces, &mut routes, wanted, bridge.as_str());
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
fn leave_out_own(interfaces: &mut [Interface], routes: &mut Vec<Route>, own: &[Cidr], bridge: &str) {
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
fn offer(interfaces: &[interfaces::Interface], routes: &[routes::Route]) -> String {
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
