//! What changes around us: links, addresses and routes, settled and without the noise.
//!
//! A path that failed may work after any of these, so a [`Change`] is the reason to try again. The kernel
//! says far more than that, and each word would wake the machine and set off probes:
//!
//! - Our own device is left out: its changes are our doing. But for its hardware address, which udev gives to each new device by its own
//!   policy (systemd.link(5), `MACAddressPolicy=`), and may do so after us.
//! - Router advertisements renew addresses every few seconds to minutes; `RTM_NEWADDR` of an address we know
//!   is no change. So what is known is kept, and only differences count. A tentative address does not count
//!   until it may be used.
//! - Links say much that does not concern us (wireless events, statistics); only name and running state
//!   count.
//! - A router's table changes many times a second by itself. Routes of routing daemons (BGP, OSPF, …) count
//!   only when they are default routes.
//! - One event of the world is many messages (a cable: link, addresses, routes). They are gathered until
//!   [`QUIET`] has passed without one, at most for [`LONGEST`].
//!
//! When the kernel drops messages because we were slow, everything is taken to have changed.

mod kept;

pub use kept::KeptChanges;

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::BitOrAssign;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::cidr::Cidr;
use super::interfaces::{address_of, hardware_address_of, is_running, name_of};
use super::netlink::to_io;

/// Without a message for this long, an event is over: the kernel sends those of one event within
/// milliseconds, DHCP clients set address and route a little apart.
pub const QUIET: Duration = Duration::from_millis(100);
/// However busy, a change is told after this long: reconnecting within 2 s is promised.
pub const LONGEST: Duration = Duration::from_millis(500);

/// What kinds of things changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// An interface came, went, or gained or lost its carrier.
    pub links: bool,
    /// A usable address came or went.
    pub addresses: bool,
    /// A route that may concern us came, went or changed.
    pub routes: bool,
    /// Our own device was given another hardware address than it had.
    pub own_mac: bool,
}

impl Change {
    const NONE: Self = Self { links: false, addresses: false, routes: false, own_mac: false };
    const LINKS: Self = Self { links: true, ..Self::NONE };
    const ADDRESSES: Self = Self { addresses: true, ..Self::NONE };
    const ROUTES: Self = Self { routes: true, ..Self::NONE };
    const OWN_MAC: Self = Self { own_mac: true, ..Self::NONE };
    const ALL: Self = Self { links: true, addresses: true, routes: true, own_mac: true };

    fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Whether it is of anything around us, which is all but our own device.
    pub const fn is_around_us(self) -> bool {
        self.links || self.addresses || self.routes
    }
}

impl BitOrAssign for Change {
    fn bitor_assign(&mut self, other: Self) {
        self.links |= other.links;
        self.addresses |= other.addresses;
        self.routes |= other.routes;
        self.own_mac |= other.own_mac;
    }
}

type Message = NetlinkMessage<RouteNetlinkMessage>;
type Messages = futures_util::stream::BoxStream<'static, Message>;

/// A subscription. Ends when dropped.
pub struct Changes {
    messages: Messages,
    task: JoinHandle<()>,
    known: Known,
    pending: Change,
    /// While something is pending: when to tell it if nothing more comes, and when in any case.
    due: Option<(Instant, Instant)>,
}

impl Changes {
    /// Begins to watch all interfaces, and of `ours` its hardware address only. Must be called inside a tokio runtime with I/O and time
    /// enabled.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn watch(ours: Option<u32>) -> io::Result<Self> {
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])?;
        let mut changes = Self {
            messages: messages.map(|(message, _)| message).boxed(),
            task: tokio::spawn(connection),
            known: Known { ours, ..Known::default() },
            pending: Change::NONE,
            due: None,
        };
        // What is there now is known, not news. Messages of changes meanwhile wait in the channel and are
        // compared to it.
        let mut links = handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(to_io)? {
            changes.known.link(&link);
        }
        let mut addresses = handle.address().get().execute();
        while let Some(address) = addresses.try_next().await.map_err(to_io)? {
            changes.known.address(&address);
        }
        Ok(changes)
    }

    /// Waits for the next change. Loses nothing when dropped while waiting.
    ///
    /// `None` when the kernel has closed the subscription; watch again, as [`KeptChanges`] does.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            let message = match self.due {
                None => self.messages.next().await?,
                Some((quiet, latest)) => {
                    match tokio::time::timeout_at(quiet.min(latest), self.messages.next()).await {
                        Ok(message) => message?,
                        Err(_elapsed) => {
                            self.due = None;
                            return Some(std::mem::take(&mut self.pending));
                        }
                    }
                }
            };
            let change = self.known.message(&message);
            if !change.is_none() {
                let now = Instant::now();
                let latest = self.due.map_or(now + LONGEST, |(_, latest)| latest);
                self.pending |= change;
                self.due = Some((now + QUIET, latest));
            }
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes")
            .field("known", &self.known)
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

/// What is known of the machine; tells a change from a repetition.
#[derive(Debug, Default)]
struct Known {
    ours: Option<u32>,
    /// The hardware address of our own.
    own_mac: Option<Vec<u8>>,
    /// Name and running state of each interface.
    links: HashMap<u32, (String, bool)>,
    /// Usable addresses.
    addresses: HashSet<(u32, Cidr)>,
}

impl Known {
    fn message(&mut self, message: &Message) -> Change {
        // Only what was asked for is listed; anything else the kernel may say is no change.
        if let NetlinkPayload::InnerMessage(inner) = &message.payload {
            if let RouteNetlinkMessage::NewLink(link) = inner {
                self.link(link)
            } else if let RouteNetlinkMessage::DelLink(link) = inner {
                self.link_gone(link)
            } else if let RouteNetlinkMessage::NewAddress(address) = inner {
                self.address(address)
            } else if let RouteNetlinkMessage::DelAddress(address) = inner {
                self.address_gone(address)
            } else if let RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) = inner
            {
                self.route(route)
            } else {
                Change::NONE
            }
        } else if let NetlinkPayload::Overrun(_) = &message.payload {
            Change::ALL
        } else {
            Change::NONE
        }
    }

    fn link(&mut self, link: &LinkMessage) -> Change {
        let index = link.header.index;
        // A bridge repeats its ports' links in its own family.
        if is_bridge_message(link) {
            return Change::NONE;
        }
        if Some(index) == self.ours {
            return self.own_link(link);
        }
        let state = (name_of(link), is_running(link));
        if self.links.get(&index) == Some(&state) {
            return Change::NONE;
        }
        self.links.insert(index, state);
        Change::LINKS
    }

    fn own_link(&mut self, link: &LinkMessage) -> Change {
        let Some(mac) = hardware_address_of(link) else { return Change::NONE };
        let known = self.own_mac.replace(mac.to_owned());
        if known.is_some_and(|known| known != mac) { Change::OWN_MAC } else { Change::NONE }
    }

    fn link_gone(&mut self, link: &LinkMessage) -> Change {
        if is_bridge_message(link) || self.links.remove(&link.header.index).is_none() {
            return Change::NONE;
        }
        self.addresses.retain(|(index, _)| *index != link.header.index);
        Change::LINKS
    }

    fn address(&mut self, message: &AddressMessage) -> Change {
        let index = message.header.index;
        let Some(address) = address_of(message).filter(|_| Some(index) != self.ours) else {
            return Change::NONE;
        };
        let changed = if address.usable {
            self.addresses.insert((index, address.cidr))
        } else {
            self.addresses.remove(&(index, address.cidr))
        };
        if changed { Change::ADDRESSES } else { Change::NONE }
    }

    fn address_gone(&mut self, message: &AddressMessage) -> Change {
        let gone = address_of(message)
            .is_some_and(|address| self.addresses.remove(&(message.header.index, address.cidr)));
        if gone { Change::ADDRESSES } else { Change::NONE }
    }

    fn route(&self, route: &RouteMessage) -> Change {
        let header = &route.header;
        // Local, broadcast and multicast routes only follow addresses, which are told by themselves.
        let concerns =
            matches!(header.kind, RouteType::Unicast | RouteType::Unreachable | RouteType::Prohibit);
        let set_by_hand = matches!(
            header.protocol,
            RouteProtocol::Kernel
                | RouteProtocol::Boot
                | RouteProtocol::Static
                | RouteProtocol::Dhcp
                | RouteProtocol::Ra
        );
        let ours = self.ours.map(RouteAttribute::Oif);
        if concerns
            && !header.flags.contains(RouteFlags::Cloned)
            && (set_by_hand || header.destination_prefix_length <= 1)
            && !route.attributes.iter().any(|attribute| ours.as_ref() == Some(attribute))
        {
            Change::ROUTES
        } else {
            Change::NONE
        }
    }
}

fn is_bridge_message(link: &LinkMessage) -> bool {
    link.header.interface_family == rtnetlink::packet_route::AddressFamily::Bridge
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::namespace::{block_on, isolated, sh};
    use crate::net::{Netlink, interfaces};

    pub(super) const MACHINE: &str = "
        ip link set lo up
        ip link add eth0 type veth peer name far0; ip link add smesh0 type veth peer name far1
        for i in eth0 far0 smesh0 far1; do ip link set $i up; done
        ip addr add 192.0.2.7/24 dev eth0";

    async fn watch_without(name: &str) -> Changes {
        let all = interfaces::list(&Netlink::open().unwrap(), None).await.unwrap();
        let ours = all.iter().find(|interface| interface.name == name).map(|interface| interface.index);
        assert!(ours.is_some());
        // Let the link-local addresses finish their duplicate address detection; they are news otherwise.
        while sh("ip -6 addr").contains("tentative") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Changes::watch(ours).await.unwrap()
    }

    /// The changes told up to the marker, which is a change of a kind that cannot be mistaken: a new loopback
    /// address.
    async fn until_marker(changes: &mut Changes, number: u8) -> Change {
        sh(&format!("ip addr add 127.7.7.{number}/32 dev lo"));
        let index_of_lo = 1;
        let marker = (index_of_lo, format!("127.7.7.{number}/32").parse().unwrap());
        let mut told = Change::NONE;
        while !changes.known.addresses.contains(&marker) {
            told |= changes.next().await.unwrap();
        }
        told
    }

    pub(super) async fn within<F: Future>(future: F) -> F::Output {
        tokio::time::timeout(Duration::from_secs(5), future).await.expect("a change within 5 s")
    }

    #[test]
    fn what_happens_around_us_is_told_once_it_settled() {
        isolated(|| {
            sh(MACHINE);
            block_on(async {
                let mut changes = watch_without("smesh0").await;
                sh("ip addr add 192.0.2.8/24 dev eth0");
                assert_eq!(within(changes.next()).await, Some(Change::ADDRESSES));
                sh("ip route add default via 192.0.2.1");
                assert_eq!(within(changes.next()).await, Some(Change::ROUTES));
                sh("ip link set far0 down");
                assert!(within(changes.next()).await.unwrap().links);
                // Many messages of one event are one change.
                sh(
                    "ip link set far0 up; ip addr add 192.0.2.9/24 dev eth0; ip route add 198.51.100.0/24 via 192.0.2.1",
                );
                assert_eq!(within(changes.next()).await, Some(Change { own_mac: false, ..Change::ALL }));
                sh("ip link delete eth0");
                assert!(within(changes.next()).await.unwrap().links);
            });
        });
    }

    #[test]
    fn our_own_device_and_repetitions_are_not_told() {
        isolated(|| {
            sh(MACHINE);
            block_on(async {
                let mut changes = watch_without("smesh0").await;
                sh("ip addr add 10.7.0.1/16 dev smesh0; ip route add 10.99.0.0/16 dev smesh0
                    ip link set smesh0 mtu 1300; ip link set smesh0 down; ip link set smesh0 up
                    ip link set eth0 txqueuelen 77
                    ip addr change 192.0.2.7/24 dev eth0 valid_lft 900 preferred_lft 900
                    ip route add 203.0.113.0/24 via 192.0.2.1 proto bgp");
                // The peer of our stand-in follows it down and up, which a TAP does not have; told, or
                // settled to nothing.
                let told = within(until_marker(&mut changes, 1)).await;
                assert_eq!(Change { links: false, ..told }, Change::ADDRESSES, "nothing but the marker");
                sh("ip route add default via 192.0.2.1 proto bgp");
                assert_eq!(within(changes.next()).await, Some(Change::ROUTES));
            });
        });
    }

    #[test]
    fn another_mac_of_our_own_device_is_told_and_is_nothing_around_us() {
        isolated(|| {
            sh(MACHINE);
            block_on(async {
                let mut changes = watch_without("smesh0").await;
                sh("ip link set smesh0 address 02:53:4d:00:00:09; ip link set smesh0 mtu 1300");
                let told = within(changes.next()).await.unwrap();
                assert_eq!((told, told.is_around_us()), (Change::OWN_MAC, false));
                // The same once more is none, and neither is that of another.
                sh(
                    "ip link set smesh0 address 02:53:4d:00:00:09; ip link set eth0 address 02:53:4d:00:00:08",
                );
                assert_eq!(within(until_marker(&mut changes, 1)).await, Change::ADDRESSES);
            });
        });
    }

    #[test]
    fn a_wait_that_is_given_up_loses_nothing() {
        isolated(|| {
            sh(MACHINE);
            block_on(async {
                let mut changes = watch_without("smesh0").await;
                sh("ip addr add 192.0.2.8/24 dev eth0");
                let told = within(async {
                    loop {
                        // Shorter than the quiet time: each try is dropped before it can finish, until the
                        // change is due.
                        match tokio::time::timeout(Duration::from_millis(20), changes.next()).await {
                            Ok(change) => break change,
                            Err(_elapsed) => {}
                        }
                    }
                });
                assert_eq!(told.await, Some(Change::ADDRESSES));
            });
        });
    }

    #[test]
    fn lost_messages_mean_that_anything_may_have_changed() {
        let lost = NetlinkMessage::new(Default::default(), NetlinkPayload::Overrun(Vec::new()));
        assert_eq!(Known::default().message(&lost), Change::ALL);
    }
}
