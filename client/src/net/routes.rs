//! Two questions to the machine's routes.
//!
//! **Does the overlay's subnet clash?** ([`clash`]) It does when another interface has an address in it or a
//! route into it, in any table: whichever is more specific would take the other's traffic. Not a clash are
//! default routes, and the halves `0.0.0.0/1` and `128.0.0.0/1` that VPNs use in their stead: everything lies
//! in them, and the overlay is meant to be more specific.
//!
//! **By which interface do our own packets leave?** ([`way_out`]) Someone may route everything into the
//! tunnel, the relay and the peers' real addresses too. The daemon's packets would then enter the tunnel they
//! carry. So the caller binds each of its sockets to the interface it is told here, before it connects: a route
//! that is added later then moves nothing. The kernel is asked first, so that other routing policy of the
//! machine stays in force, another VPN among it; only where its answer is our own device the main table is
//! searched for the way it would take without it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RouteType,
};
use rustix::io::Errno;

use super::cidr::Cidr;
use super::interfaces::Interface;
use super::netlink::{Netlink, to_io};

/// The table of the machine's own addresses; they are read from the interfaces.
const TABLE_LOCAL: u32 = 255;
/// The table that holds what people call "the routes".
const TABLE_MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;
/// Up to this prefix length a route stands for "everything": a default route, or half of one.
const DEFAULT_PREFIX: u8 = 1;

/// A unicast route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub destination: Cidr,
    /// The interfaces it may leave by; several for a multipath route.
    pub hops: Vec<Hop>,
    /// Less is preferred among routes of one prefix length.
    pub metric: u32,
    /// The table it is in.
    pub table: u32,
}

/// One way a route may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// The index of the interface.
    pub interface: u32,
    /// Whether it can carry a packet now.
    pub alive: bool,
}

/// Something of this machine that the overlay's subnet collides with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clash {
    /// An address of another interface.
    Address {
        /// The address with its prefix.
        cidr: Cidr,
        /// The interface that has it.
        interface: String,
    },
    /// A route out of another interface.
    Route {
        /// Where it leads.
        destination: Cidr,
        /// The interface it leaves by.
        interface: String,
    },
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { cidr, interface } => write!(f, "{cidr} on {interface}"),
            Self::Route { destination, interface } => write!(f, "{destination} via {interface}"),
        }
    }
}

/// Lists the unicast routes of both families and all tables but the local one. What leaves only by the
/// interface `except` is left out.
///
/// # Errors
/// What the kernel said.
pub async fn list(netlink: &Netlink, except: Option<u32>) -> io::Result<Vec<Route>> {
    let mut found = Vec::new();
    for request in
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
    {
        let mut answers = netlink.handle().route().get(request).execute();
        loop {
            match answers.try_next().await.map_err(to_io) {
                Ok(Some(message)) => found.extend(route_of(&message, except)),
                Ok(None) => break,
                // A kernel without IPv6 has no IPv6 routes.
                Err(error) if errno(&error) == Some(Errno::OPNOTSUPP) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// What on this machine collides with the overlay's subnet `wanted`, the most specific first.
///
/// `interfaces` and `routes` are those without our own device.
pub fn clash(wanted: Cidr, interfaces: &[Interface], routes: &[Route]) -> Option<Clash> {
    let addresses = interfaces.iter().flat_map(|interface| {
        let taken = interface.addresses.iter().filter(|address| address.cidr.overlaps(&wanted));
        taken.map(|address| {
            (address.cidr, Clash::Address { cidr: address.cidr, interface: interface.name.clone() })
        })
    });
    let routed = routes
        .iter()
        .filter(|route| route.destination.prefix() > DEFAULT_PREFIX && route.destination.overlaps(&wanted));
    let routed = routed.map(|route| {
        let index = route.hops.first().map_or(0, |hop| hop.interface);
        let known = interfaces.iter().find(|interface| interface.index == index);
        let interface =
            known.map_or_else(|| format!("interface {index}"), |interface| interface.name.clone());
        (route.destination, Clash::Route { destination: route.destination, interface })
    });
    // An address comes before the route that the kernel made of it: `max_by_key` keeps the last of equals.
    routed.chain(addresses).max_by_key(|(cidr, _)| cidr.prefix()).map(|(_, clash)| clash)
}

/// The interface by which `destination` is reached without `except`: the longest prefix in the main table
/// with a living hop, then the least metric.
pub fn longest_match(destination: IpAddr, routes: &[Route], except: u32) -> Option<u32> {
    let usable = |route: &Route| route.hops.iter().find(|hop| hop.alive && hop.interface != except).copied();
    routes
        .iter()
        .filter(|route| route.table == TABLE_MAIN && route.destination.contains(destination))
        .filter_map(|route| Some((route, usable(route)?)))
        .max_by_key(|(route, _)| (route.destination.prefix(), std::cmp::Reverse(route.metric)))
        .map(|(_, hop)| hop.interface)
}

/// The index of the interface by which packets to `destination` leave the machine, not counting the device
/// `ours`; `None` when there is no way, or only through it. For `bind_device_by_index_v4` and `_v6`.
///
/// # Errors
/// What the kernel said, other than that there is no way.
pub async fn way_out(netlink: &Netlink, destination: IpAddr, ours: u32) -> io::Result<Option<u32>> {
    match kernel_choice(netlink, destination).await? {
        Some(index) if index == ours => {
            let routes = list(netlink, Some(ours)).await?;
            Ok(longest_match(destination, &routes, ours))
        }
        choice => Ok(choice),
    }
}

/// The router that packets to the internet go to over IPv4, and the interface to it, not counting the device `ours`: that of the default
/// route with the least metric.
///
/// # Errors
/// What the kernel said.
pub async fn default_router(netlink: &Netlink, ours: u32) -> io::Result<Option<(Ipv4Addr, u32)>> {
    let mut best: Option<(u32, Ipv4Addr, u32)> = None;
    let mut answers = netlink.handle().route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    while let Some(message) = answers.try_next().await.map_err(to_io)? {
        let Some(route) = route_of(&message, Some(ours)) else { continue };
        let router = message.attributes.iter().find_map(|attribute| {
            if let RouteAttribute::Gateway(RouteAddress::Inet(v4)) = attribute { Some(*v4) } else { None }
        });
        let interface = route.hops.iter().find(|hop| hop.alive).map(|hop| hop.interface);
        let is_default = route.table == TABLE_MAIN && route.destination.prefix() == 0;
        if let (Some(router), Some(interface), true) = (router, interface, is_default)
            && best.is_none_or(|(metric, ..)| route.metric < metric)
        {
            best = Some((route.metric, router, interface));
        }
    }
    Ok(best.map(|(_, router, interface)| (router, interface)))
}

/// Whether a packet to `destination` from a socket that is bound to no interface would leave by the device `ours`.
///
/// # Errors
/// What the kernel said, other than that there is no way.
pub async fn leads_into(netlink: &Netlink, destination: IpAddr, ours: u32) -> io::Result<bool> {
    Ok(kernel_choice(netlink, destination).await? == Some(ours))
}

/// The interface that the kernel would send a packet to `destination` by, all its rules considered.
async fn kernel_choice(netlink: &Netlink, destination: IpAddr) -> io::Result<Option<u32>> {
    let request = match destination {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(v4, 32).build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(v6, 128).build(),
    };
    let mut answers = netlink.handle().route().get(request).execute();
    match answers.try_next().await.map_err(to_io) {
        Ok(message) => Ok(message.and_then(|message| oif(&message))),
        // Unreachable, prohibited and blackholed destinations, in the words of both families; the last is a
        // kernel without IPv6.
        Err(error) => match errno(&error) {
            Some(
                Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL | Errno::OPNOTSUPP,
            ) => Ok(None),
            _ => Err(error),
        },
    }
}

/// The route in a message, if it is one of those [`list`] is about.
fn route_of(message: &RouteMessage, except: Option<u32>) -> Option<Route> {
    let header = &message.header;
    if header.kind != RouteType::Unicast
        || header.source_prefix_length != 0
        || header.flags.contains(RouteFlags::Cloned)
    {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut metric = 0;
    let mut address = None;
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        if let RouteAttribute::Table(number) = attribute {
            table = *number;
        } else if let RouteAttribute::Priority(priority) = attribute {
            metric = *priority;
        } else if let RouteAttribute::Destination(RouteAddress::Inet(v4)) = attribute {
            address = Some(IpAddr::V4(*v4));
        } else if let RouteAttribute::Destination(RouteAddress::Inet6(v6)) = attribute {
            address = Some(IpAddr::V6(*v6));
        } else if let RouteAttribute::Oif(interface) = attribute {
            let alive = !header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown);
            hops.push(Hop { interface: *interface, alive });
        } else if let RouteAttribute::MultiPath(ways) = attribute {
            hops.extend(ways.iter().map(|way| Hop {
                interface: way.interface_index,
                alive: !way.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown),
            }));
        }
    }
    // A default route comes without a destination.
    let address = if header.address_family == AddressFamily::Inet {
        address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    } else if header.address_family == AddressFamily::Inet6 {
        address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    } else {
        return None;
    };
    hops.retain(|hop| Some(hop.interface) != except);
    if hops.is_empty() || table == TABLE_LOCAL {
        return None;
    }
    let destination = Cidr::new(address, header.destination_prefix_length).ok()?;
    Some(Route { destination, hops, metric, table })
}

/// The interface in the answer to a lookup.
fn oif(message: &RouteMessage) -> Option<u32> {
    message
        .attributes
        .iter()
        .find_map(|attribute| if let RouteAttribute::Oif(index) = attribute { Some(*index) } else { None })
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::interfaces::{self, InterfaceAddress};
    use crate::net::namespace::{block_on, isolated, sh};
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn route(destination: &str, interface: u32, metric: u32) -> Route {
        let hops = vec![Hop { interface, alive: true }];
        Route { destination: cidr(destination), hops, metric, table: TABLE_MAIN }
    }

    fn interface(index: u32, name: &str, address: &str) -> Interface {
        let addresses = vec![InterfaceAddress { cidr: cidr(address), usable: true }];
        Interface { index, name: name.into(), running: true, loopback: false, addresses }
    }

    #[test]
    fn a_clash_is_named_and_a_default_route_is_none() {
        let interfaces = [interface(2, "eth0", "192.0.2.7/24"), interface(3, "docker0", "172.17.0.1/16")];
        let mut routes = vec![
            route("0.0.0.0/0", 2, 100),
            route("0.0.0.0/1", 2, 0),
            route("128.0.0.0/1", 2, 0),
            route("::/0", 2, 0),
            route("192.0.2.0/24", 2, 100),
        ];
        let shown = |wanted, routes: &[Route]| {
            clash(cidr(wanted), &interfaces, routes).map(|clash| clash.to_string())
        };
        assert_eq!(shown("10.7.0.0/16", &routes), None);
        assert_eq!(shown("fd53::/64", &routes), None);
        assert_eq!(shown("172.17.200.0/24", &routes).as_deref(), Some("172.17.0.1/16 on docker0"));
        assert_eq!(shown("192.0.2.128/25", &routes).as_deref(), Some("192.0.2.7/24 on eth0"));
        routes.push(route("10.0.0.0/8", 2, 0));
        assert_eq!(shown("10.7.0.0/16", &routes).as_deref(), Some("10.0.0.0/8 via eth0"));
        routes.push(route("10.7.3.0/24", 9, 0));
        assert_eq!(shown("10.7.0.0/16", &routes).as_deref(), Some("10.7.3.0/24 via interface 9"));
        let other_table = [Route { table: 52, ..route("10.7.0.0/16", 3, 0) }];
        assert_eq!(shown("10.7.0.0/16", &other_table).as_deref(), Some("10.7.0.0/16 via docker0"));
    }

    #[test]
    fn the_way_around_our_device() {
        let mut routes = vec![
            route("0.0.0.0/0", 7, 0),
            route("0.0.0.0/0", 2, 100),
            route("0.0.0.0/0", 3, 50),
            route("203.0.113.0/24", 4, 0),
            Route { table: 52, ..route("203.0.113.0/25", 9, 0) },
        ];
        let to = |text: &str, routes: &[Route]| longest_match(text.parse().unwrap(), routes, 7);
        assert_eq!(to("203.0.113.1", &routes), Some(4));
        assert_eq!(to("198.51.100.1", &routes), Some(3));
        assert_eq!(to("2001:db8::1", &routes), None);
        routes[2].hops[0].alive = false;
        assert_eq!(to("198.51.100.1", &routes), Some(2));
        routes[2].hops = vec![Hop { interface: 7, alive: true }, Hop { interface: 5, alive: true }];
        assert_eq!(to("198.51.100.1", &routes), Some(5));
        assert_eq!(to("198.51.100.1", &routes[..1]), None);
    }

    proptest! {
        /// Against trying every prefix length from the longest down.
        #[test]
        fn longest_match_agrees_with_the_slow_search(
            table in proptest::collection::vec((any::<u32>(), 0u8..=32, 1u32..5, 0u32..3, any::<bool>()), 0..30),
            destination: u32,
        ) {
            let destination = Ipv4Addr::from_bits(destination);
            // Half of the routes lead towards the destination, so that there is something to choose.
            let routes: Vec<Route> = table.iter().map(|(bits, prefix, interface, metric, near)| {
                let base = if *near { destination } else { Ipv4Addr::from_bits(*bits) };
                route(&Cidr::new(base.into(), *prefix).unwrap().network().to_string(), *interface, *metric)
            }).collect();
            let best = (0..=32).rev().find_map(|prefix| {
                let at = |metric: u32| routes.iter().filter(move |route| {
                    route.destination == Cidr::new(destination.into(), prefix).unwrap().network()
                        && route.metric == metric && route.hops[0].interface != 4
                }).map(|route| route.hops[0].interface).collect::<Vec<_>>();
                (0..3).map(at).find(|found| !found.is_empty())
            });
            let found = longest_match(destination.into(), &routes, 4);
            prop_assert_eq!(found.is_some(), best.is_some());
            if let (Some(found), Some(best)) = (found, best) {
                prop_assert!(best.contains(&found));
            }
        }
    }

    /// eth0 with a default route, and a second device that stands for ours.
    const MACHINE: &str = "
        ip link set lo up
        ip link add eth0 type veth peer name far0; ip link add smesh0 type veth peer name far1
        for i in eth0 far0 smesh0 far1; do ip link set $i up; done
        ip addr add 192.0.2.7/24 dev eth0; ip addr add 10.7.0.1/16 dev smesh0
        ip -6 addr add 2001:db8::7/64 dev eth0 nodad
        ip route add default via 192.0.2.1 metric 100
        ip -6 route add default via 2001:db8::1";

    async fn index(netlink: &Netlink, name: &str) -> u32 {
        let all = interfaces::list(netlink, None).await.unwrap();
        all.iter().find(|interface| interface.name == name).unwrap().index
    }

    #[test]
    fn the_kernels_routes_are_read_without_our_device() {
        isolated(|| {
            sh(MACHINE);
            sh("ip route add 10.0.0.0/8 via 192.0.2.9; ip route add 10.9.0.0/16 table 1052 via 192.0.2.9
                ip route add blackhole 10.7.0.0/20
                ip route add 198.51.100.0/24 nexthop via 192.0.2.1 nexthop via 10.7.0.2");
            block_on(async {
                let netlink = Netlink::open().unwrap();
                let ours = index(&netlink, "smesh0").await;
                let eth0 = index(&netlink, "eth0").await;
                let routes = list(&netlink, Some(ours)).await.unwrap();
                let find = |text: &str| routes.iter().find(|route| route.destination == cidr(text));
                assert_eq!(
                    find("0.0.0.0/0").map(|route| (route.metric, route.table)),
                    Some((100, TABLE_MAIN))
                );
                assert_eq!(find("10.9.0.0/16").unwrap().table, 1052);
                assert_eq!(find("198.51.100.0/24").unwrap().hops, [Hop { interface: eth0, alive: true }]);
                assert!(find("::/0").is_some() && find("2001:db8::/64").is_some());
                assert!(find("10.7.0.0/16").is_none(), "ours");
                assert!(find("10.7.0.0/20").is_none(), "leads nowhere");
                let interfaces = interfaces::list(&netlink, Some(ours)).await.unwrap();
                let shown = |wanted| clash(cidr(wanted), &interfaces, &routes).map(|clash| clash.to_string());
                assert_eq!(shown("10.7.0.0/16").as_deref(), Some("10.0.0.0/8 via eth0"));
                assert_eq!(shown("10.9.0.0/16").as_deref(), Some("10.9.0.0/16 via eth0"));
                assert_eq!(shown("172.30.0.0/16"), None);
                // Clashes with nothing but our own device, which does not count.
                sh("ip route del 10.0.0.0/8");
                let routes = list(&netlink, Some(ours)).await.unwrap();
                assert_eq!(clash(cidr("10.7.0.0/16"), &interfaces, &routes), None);
            });
        });
    }

    #[test]
    fn our_own_packets_find_the_way_around_the_tunnel() {
        isolated(|| {
            sh(MACHINE);
            block_on(async {
                let netlink = Netlink::open().unwrap();
                let ours = index(&netlink, "smesh0").await;
                let eth0 = index(&netlink, "eth0").await;
                let (v4, v6) = ("203.0.113.5".parse().unwrap(), "2001:db8:9::5".parse().unwrap());
                let way = |to| way_out(&netlink, to, ours);
                assert_eq!((way(v4).await.unwrap(), way(v6).await.unwrap()), (Some(eth0), Some(eth0)));
                // Everything into the tunnel.
                sh("ip route add 0.0.0.0/1 dev smesh0; ip route add 128.0.0.0/1 dev smesh0
                    ip -6 route add default dev smesh0 metric 1");
                assert_eq!((way(v4).await.unwrap(), way(v6).await.unwrap()), (Some(eth0), Some(eth0)));
                let router = async || default_router(&netlink, ours).await.unwrap();
                assert_eq!(router().await, Some((Ipv4Addr::new(192, 0, 2, 1), eth0)));
                sh("ip route add default via 192.0.2.9 metric 5");
                assert_eq!(router().await, Some((Ipv4Addr::new(192, 0, 2, 9), eth0)), "the less the better");
                // A socket bound as told leaves past the tunnel: the kernel gives it the address of that
                // side.
                let (bound, free) = (udp(Some(eth0)), udp(None));
                for socket in [&bound, &free] {
                    socket.connect((v4, 9)).unwrap();
                }
                assert_eq!(bound.local_addr().unwrap().ip().to_string(), "192.0.2.7");
                assert_eq!(free.local_addr().unwrap().ip().to_string(), "10.7.0.1");
                // No other way.
                sh("ip link set eth0 down");
                assert_eq!((way(v4).await.unwrap(), way(v6).await.unwrap()), (None, None));
                assert_eq!(router().await, None);
                sh("ip route del 0.0.0.0/1; ip route del 128.0.0.0/1; ip -6 route del default dev smesh0");
                assert_eq!((way(v4).await.unwrap(), way(v6).await.unwrap()), (None, None));
            });
        });
    }

    fn udp(bind_to: Option<u32>) -> std::net::UdpSocket {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        socket.bind_device_by_index_v4(bind_to.and_then(std::num::NonZeroU32::new)).unwrap();
        socket.into()
    }
}
