//! The kernel's driver, rights, settings and counts.

use super::super::facts::{Kernel, Link, Tun};
use crate::net::Cidr;
use crate::net::interfaces::Interface;
use crate::net::routes::Route;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::str::FromStr;

const TUN: &str = "/dev/net/tun";
/// Its number: `misc`, `tun` (Documentation/admin-guide/devices.txt).
const TUN_DEVICE: (u32, u32) = (10, 200);
/// The bit of `CAP_NET_ADMIN` (capabilities(7)).
const CAP_NET_ADMIN: u32 = 12;

pub(super) fn tun(is_root: bool) -> Tun {
    let metadata = match fs::metadata(TUN) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !is_root => return Tun::NotMine,
        Err(_) => return Tun::Missing { has_driver: Path::new("/sys/class/misc/tun").exists() },
    };
    let number = metadata.rdev();
    let is_it = metadata.file_type().is_char_device()
        && (rustix::fs::major(number), rustix::fs::minor(number)) == TUN_DEVICE;
    if !is_it {
        return Tun::NotTheDevice;
    }
    // Opening makes nothing: a device begins with TUNSETIFF.
    match OpenOptions::new().read(true).write(true).open(TUN) {
        Ok(_) => Tun::Opens,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            if is_root {
                Tun::Denied
            } else {
                Tun::NotMine
            }
        }
        Err(_) => Tun::NoDriver,
    }
}

/// Whether this process has `CAP_NET_ADMIN` now.
pub(super) fn may_admin_net() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> CAP_NET_ADMIN & 1 == 1)
}

/// A number from a file of one.
fn number<T: FromStr>(path: &str) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn is_on(path: &str) -> Option<bool> {
    number::<u8>(path).map(|value| value != 0)
}

pub(super) fn settings(interfaces: &[Interface], routes: &[Route]) -> Kernel {
    let off = |which: &str| is_on(&format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"));
    Kernel {
        rmem_max: number("/proc/sys/net/core/rmem_max"),
        wmem_max: number("/proc/sys/net/core/wmem_max"),
        conntrack_count: number("/proc/sys/net/netfilter/nf_conntrack_count"),
        conntrack_max: number("/proc/sys/net/netfilter/nf_conntrack_max"),
        bridge_nf: is_on("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        ipv6_off: off("all").map(|all| all || off("default") == Some(true)),
        uplinks: uplinks(interfaces, routes),
        down: interfaces
            .iter()
            .filter(|interface| !interface.loopback && is_up(&interface.name) == Some(false))
            .map(|interface| interface.name.clone())
            .collect(),
    }
}

/// Whether somebody set it up, which is not to say that it has a carrier: IFF_UP is the first flag (netdevice(7)).
fn is_up(name: &str) -> Option<bool> {
    let flags = fs::read_to_string(format!("/sys/class/net/{name}/flags")).ok()?;
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).ok()?;
    Some(flags & 1 == 1)
}

/// Interfaces with a living default route of IPv4, and how strictly the kernel looks at where packets come from: the larger number of
/// all and one counts (Documentation/networking/ip-sysctl.rst).
fn uplinks(interfaces: &[Interface], routes: &[Route]) -> Vec<(String, u8)> {
    let default = routes
        .iter()
        .filter(|route| route.destination.prefix() == 0 && route.destination.address().is_ipv4());
    let ways: BTreeSet<u32> =
        default.flat_map(|route| &route.hops).filter(|hop| hop.alive).map(|hop| hop.interface).collect();
    let mode = |which: &str| number::<u8>(&format!("/proc/sys/net/ipv4/conf/{which}/rp_filter")).unwrap_or(0);
    let named = interfaces.iter().filter(|interface| ways.contains(&interface.index));
    named.map(|interface| (interface.name.clone(), mode("all").max(mode(&interface.name)))).collect()
}

/// The daemon's device, with the addresses of its bridge where it is a port of one.
pub(super) fn link(interface: &Interface, all: &[Interface]) -> Link {
    let class = format!("/sys/class/net/{}", interface.name);
    let bridge = fs::read_link(format!("{class}/master")).ok();
    let bridge = bridge.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let carrier = bridge.as_ref().and_then(|name| all.iter().find(|other| other.name == *name));
    let addresses: Vec<Cidr> =
        carrier.unwrap_or(interface).addresses.iter().map(|address| address.cidr).collect();
    let carrier = bridge.as_ref().unwrap_or(&interface.name);
    Link {
        name: interface.name.clone(),
        is_up: is_up(&interface.name).unwrap_or(interface.running),
        mtu: number(&format!("{class}/mtu")).unwrap_or(0),
        addresses,
        ipv6_off: is_on(&format!("/proc/sys/net/ipv6/conf/{carrier}/disable_ipv6")),
        bridge,
    }
}
