//! Keeps the UDP socket's packets out of our own tunnel (hardening: TunnelCrack; EasyTier #2311).
//!
//! A stream is bound to the interface that leads outside when it is made. The one UDP socket cannot be: its peers may be behind
//! any interface. So each address is looked up before anything is sent to it, and again when the network changed; one that is
//! routed into the overlay is not sent to at all, and whatever path runs there ends. The relay stays.

use crate::net::Netlink;
use crate::net::routes::leads_into;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Addresses remembered; beyond, all are looked up anew. A peer brings 20 candidates at most.
const REMEMBERED: usize = 4096;

/// What is known of addresses.
#[derive(Debug)]
pub(super) struct Ways {
    netlink: Arc<Netlink>,
    device: u32,
    outside: HashMap<IpAddr, bool>,
}

impl Ways {
    /// `device` is the index of our own.
    pub(super) fn new(netlink: Arc<Netlink>, device: u32) -> Self {
        Self { netlink, device, outside: HashMap::new() }
    }

    /// Whether packets to `address` stay out of our own device.
    pub(super) async fn is_outside(&mut self, address: IpAddr) -> bool {
        if let Some(known) = self.outside.get(&address) {
            return *known;
        }
        let is_outside = match leads_into(&self.netlink, address, self.device).await {
            Ok(is_inside) => !is_inside,
            Err(error) => {
                // Not known is not outside; asked again next time.
                tracing::debug!(%error, %address, "the kernel does not say where this leads");
                return false;
            }
        };
        if !is_outside {
            tracing::debug!(%address, "is routed into our own device: nothing is sent there");
        }
        if self.outside.len() >= REMEMBERED {
            self.outside.clear();
        }
        self.outside.insert(address, is_outside);
        is_outside
    }

    /// The network changed: everything may lead elsewhere now.
    pub(super) fn forget(&mut self) {
        self.outside.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::namespace::{block_on, isolated, sh};

    #[test]
    fn an_address_that_is_routed_into_the_tunnel_is_not_outside_until_it_is_routed_elsewhere() {
        isolated(|| {
            sh("ip link add eth0 type veth peer name far0
                ip link add own0 type veth peer name far1
                ip addr add 192.0.2.1/24 dev eth0
                ip link set eth0 up; ip link set far0 up; ip link set own0 up; ip link set far1 up
                ip route add 198.51.100.0/24 dev own0");
            block_on(async {
                let netlink = Arc::new(Netlink::open().expect("a netlink socket"));
                let all = crate::net::interfaces::list(&netlink, None).await.expect("interfaces");
                let own = all.iter().find(|interface| interface.name == "own0").expect("own0").index;
                let mut ways = Ways::new(netlink, own);
                let inside: IpAddr = "198.51.100.7".parse().expect("an address");
                assert!(ways.is_outside("192.0.2.9".parse().expect("an address")).await);
                assert!(!ways.is_outside(inside).await);
                sh("ip route del 198.51.100.0/24 dev own0; ip route add 198.51.100.0/24 dev eth0");
                assert!(!ways.is_outside(inside).await, "remembered");
                ways.forget();
                assert!(ways.is_outside(inside).await);
            });
        });
    }
}
