//! The settings of a TAP as a network interface: link and addresses, through the routing netlink.
//!
//! # What a device gets, and why
//!
//! - **MAC, MTU, queue length** in one request that also brings it up, so nothing is ever sent with another
//!   MAC. It is put back where somebody else replaces it ([`LinkControl::restore_mac`]): udev gives each new device one by its own policy, and
//!   on a busy machine does so after us. Members know this node by that of its certificate, and what they send to it would be for nobody here.
//! - **As many segments at once as leave with one call** (`gso_max_segs`): of the 48 that the kernel would hand over 45 do, and three would cost as much
//!   again.
//! - **IPv4** with its prefix; the kernel adds the connected route. **IPv6** without duplicate address
//!   detection: the address comes from the key, a conflict is found by the session, and an address that is
//!   tentative for its first second would fail the first `ping`.
//! - **The link-local address** the kernel derives from the MAC stays, because IPv6 neighbour discovery, MLD
//!   and mDNS speak from it (RFC 4291 §2.8 requires one). How it is derived is the administrator's choice
//!   (`addr_gen_mode`) and is not touched.
//! - **Router advertisements are ignored** (`accept_ra=0`, `autoconf=0`). Otherwise any member could give
//!   this machine an address and a default route (the class of TunnelVision, CVE-2024-3661), and the kernel
//!   would send router solicitations for ever, waking an idle daemon. Who wants them, on a bridged LAN, sets
//!   the sysctl back, or has the bridge do it.
//!
//! A device that is a port of a bridge has no addresses: the kernel hands what arrives there to the bridge. Ours are the bridge's then, and
//! the bridge, which takes for itself what is sent to a MAC of its ports, answers for both.
//!
//! Only addresses that were set here are ever removed again; what the user adds by hand or by DHCP stays.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{AddressMessageBuilder, LinkUnspec};
use rustix::io::Errno;
use shadowmesh_proto::ids::MacAddr;
use shadowmesh_proto::session::limits::{RUN_BYTES, RUN_SEGMENTS};
use shadowmesh_proto::wire::header::DATA_OVERHEAD;

use super::error::LinkError;
use super::name::DeviceName;
use super::tap_linux::{ETHERNET_HEADER_LEN, Tap};
use crate::net::interfaces::hardware_address_of;
use crate::net::netlink::to_io;
use crate::net::{Cidr, Netlink};

/// Frames that may wait in the device for the outbound thread.
///
/// The kernel's default for a TAP is 500. At the 1,000 small frames a second that interactive traffic makes,
/// 1,000 carry a stall of one second; at 1 Gbit/s of full frames they are 11 ms, which still is no buffer to
/// speak of.
pub const QUEUE_LEN: u32 = 1_000;

/// How the link is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkSettings {
    /// The hardware address, derived from the node's key.
    pub mac: MacAddr,
    /// Largest payload of a frame in bytes, without the Ethernet header. IPv6 needs 1280.
    pub mtu: u16,
    /// Frames that may wait to be read.
    pub queue_len: u32,
}

impl LinkSettings {
    /// `mac` and `mtu` with the usual queue length, [`QUEUE_LEN`].
    pub const fn new(mac: MacAddr, mtu: u16) -> Self {
        Self { mac, mtu, queue_len: QUEUE_LEN }
    }
}

/// Changes the settings of one device, and remembers which addresses are ours.
#[derive(Debug, Clone)]
pub struct LinkControl {
    netlink: Arc<Netlink>,
    name: DeviceName,
    index: u32,
    /// Where addresses are put: the device, or the bridge that it is a port of.
    home: u32,
    ours: Vec<Cidr>,
    /// The MAC that it was given.
    mac: Option<MacAddr>,
}

impl LinkControl {
    /// Control over `tap`.
    pub fn new(netlink: Arc<Netlink>, tap: &Tap) -> Self {
        let (name, index) = (tap.name().clone(), tap.index());
        Self { netlink, name, index, home: index, ours: Vec::new(), mac: None }
    }

    /// Applies the settings and brings the device up.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn bring_up(&mut self, settings: LinkSettings) -> Result<(), LinkError> {
        self.ignore_router_advertisements();
        self.mac = Some(settings.mac);
        let message = LinkUnspec::new_with_index(self.index)
            .address(settings.mac.0.to_vec())
            .mtu(u32::from(settings.mtu))
            .txqueuelen(settings.queue_len)
            .up()
            .build();
        self.change(message, || format!("set the MAC, an MTU of {} and the state up", settings.mtu)).await?;
        self.limit_superframes(settings.mtu).await;
        Ok(())
    }

    /// Has the kernel hand over no more segments at once than leave with one call. A kernel that does not know how goes on with more.
    async fn limit_superframes(&self, mtu: u16) {
        let packet = usize::from(mtu) + ETHERNET_HEADER_LEN + DATA_OVERHEAD;
        let segments = (RUN_BYTES / packet).clamp(1, RUN_SEGMENTS);
        let limit = LinkAttribute::GsoMaxSegs(u32::try_from(segments).unwrap_or(u32::MAX));
        let message = LinkUnspec::new_with_index(self.index).append_extra_attribute(limit).build();
        if let Err(error) = self.change(message, || "limit what it hands over at once".to_owned()).await {
            tracing::debug!(%error, "superframes are as large as the kernel likes");
        }
    }

    /// Gives the device back the MAC that [`Self::bring_up`] gave it; the one that it had instead, where it had another.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn restore_mac(&self) -> Result<Option<MacAddr>, LinkError> {
        let Some(mac) = self.mac else { return Ok(None) };
        let mut found = self.netlink.handle().link().get().match_index(self.index).execute();
        let link = match found.try_next().await.map_err(to_io) {
            Ok(Some(link)) => link,
            Ok(None) => return Err(LinkError::Gone { device: self.name.clone() }),
            Err(error) => return Err(self.refusal("read the MAC".to_owned(), error)),
        };
        let other = hardware_address_of(&link).and_then(|bytes| bytes.try_into().ok()).map(MacAddr);
        let Some(other) = other.filter(|other| *other != mac) else { return Ok(None) };
        let message = LinkUnspec::new_with_index(self.index).address(mac.0.to_vec()).build();
        self.change(message, || "put back the MAC".to_owned()).await?;
        Ok(Some(other))
    }

    /// Puts the device into the bridge `bridge`. Addresses are put on that from now on, and are to be taken away again with
    /// [`Self::set_addresses`]: they do not go with the device.
    ///
    /// # Errors
    /// [`LinkError::NoBridge`] when there is none of that name.
    pub async fn join_bridge(&mut self, bridge: &str) -> Result<(), LinkError> {
        let mut found = self.netlink.handle().link().get().match_name(bridge).execute();
        let bridge_index = match found.try_next().await.map_err(to_io) {
            Ok(Some(message)) => message.header.index,
            Ok(None) => {
                return Err(LinkError::NoBridge { bridge: bridge.to_owned() });
            }
            Err(error) if errno(&error) == Some(Errno::NODEV) => {
                return Err(LinkError::NoBridge { bridge: bridge.to_owned() });
            }
            Err(error) => return Err(self.refusal(format!("find the bridge {bridge} for it"), error)),
        };
        let message = LinkUnspec::new_with_index(self.index).controller(bridge_index).build();
        self.change(message, || format!("enter the bridge {bridge}")).await?;
        self.home = bridge_index;
        Ok(())
    }

    /// Whether it is a port of a bridge.
    pub const fn is_bridged(&self) -> bool {
        self.home != self.index
    }

    /// Makes `wanted` the addresses that this program has set on the device, adding and removing as needed.
    /// Addresses set by others stay.
    ///
    /// An address that is replaced by one of the same network is removed first, because the kernel would take
    /// the newer one away together with the older.
    ///
    /// # Errors
    /// [`LinkError::Ipv6Disabled`] when an IPv6 address cannot be had on this machine (the IPv4 ones are set
    /// then), else the first that failed.
    pub async fn set_addresses(&mut self, wanted: &[Cidr]) -> Result<(), LinkError> {
        let surplus: Vec<Cidr> = self.ours.iter().filter(|have| !wanted.contains(have)).copied().collect();
        for cidr in surplus {
            self.remove_address(cidr).await?;
            self.ours.retain(|have| *have != cidr);
        }
        let mut disabled = None;
        for cidr in wanted {
            // Those we have are asked for again: removing a primary address may have taken a secondary with
            // it.
            match self.add_address(*cidr).await {
                Ok(()) if self.ours.contains(cidr) => {}
                Ok(()) => self.ours.push(*cidr),
                Err(error @ LinkError::Ipv6Disabled { .. }) => disabled = Some(error),
                Err(error) => return Err(error),
            }
        }
        disabled.map_or(Ok(()), Err)
    }

    /// The addresses set here, in the order they were asked for.
    pub fn addresses(&self) -> &[Cidr] {
        &self.ours
    }

    async fn add_address(&self, cidr: Cidr) -> Result<(), LinkError> {
        let mut request = self.netlink.handle().address().add(self.home, cidr.address(), cidr.prefix());
        *request.message_mut() = self.address_message(cidr);
        let Err(error) = request.execute().await.map_err(to_io) else {
            return Ok(());
        };
        match (errno(&error), cidr.address()) {
            (Some(Errno::EXIST), _) => Ok(()),
            // `EACCES` while `disable_ipv6` is set, `EOPNOTSUPP` on a kernel started with `ipv6.disable=1`.
            (Some(Errno::ACCESS | Errno::OPNOTSUPP), IpAddr::V6(_)) => {
                Err(LinkError::Ipv6Disabled { device: self.name.clone() })
            }
            _ => Err(self.refusal(format!("set the address {cidr}"), error)),
        }
    }

    async fn remove_address(&self, cidr: Cidr) -> Result<(), LinkError> {
        let removal = self.netlink.handle().address().del(self.address_message(cidr)).execute();
        match removal.await.map_err(to_io) {
            Ok(()) => Ok(()),
            // Someone else has removed it.
            Err(error) if errno(&error) == Some(Errno::ADDRNOTAVAIL) => Ok(()),
            Err(error) => Err(self.refusal(format!("remove the address {cidr}"), error)),
        }
    }

    fn address_message(&self, cidr: Cidr) -> AddressMessage {
        match cidr.address() {
            IpAddr::V4(v4) => {
                AddressMessageBuilder::<Ipv4Addr>::new().index(self.home).address(v4, cidr.prefix()).build()
            }
            IpAddr::V6(v6) => {
                let builder = AddressMessageBuilder::<Ipv6Addr>::new().index(self.home);
                let mut message = builder.address(v6, cidr.prefix()).build();
                message.header.flags |= AddressHeaderFlags::Nodad;
                message
            }
        }
    }

    async fn change(&self, message: LinkMessage, what: impl FnOnce() -> String) -> Result<(), LinkError> {
        let outcome = self.netlink.handle().link().change(message).execute().await;
        outcome.map_err(|error| self.refusal(what(), to_io(error)))
    }

    /// Best effort: where `/proc/sys` is read-only (some containers) the kernel's defaults stay, and a user
    /// should know.
    fn ignore_router_advertisements(&self) {
        for knob in ["accept_ra", "autoconf"] {
            match std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/{knob}", self.name), "0") {
                Ok(()) => {}
                // No IPv6 on this machine, so no router advertisements either.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(
                    device = %self.name,
                    %error,
                    "cannot set net.ipv6.conf.{}.{knob} to 0: any member could announce itself as a router to this machine; \
                     set it by hand",
                    self.name,
                ),
            }
        }
    }

    fn refusal(&self, what: String, source: io::Error) -> LinkError {
        let device = self.name.clone();
        match errno(&source) {
            Some(Errno::PERM) => LinkError::NotPermitted { what, device },
            Some(Errno::NODEV) => LinkError::Gone { device },
            _ => LinkError::Refused { what, device, source },
        }
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}
