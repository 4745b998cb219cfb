//! What somebody meant who wrote something else: slips of the finger, and the words of other firewalls.

use super::selector::{is_name, is_start_of_id};
use crate::spelling::closest;

pub(super) const VERBS: [&str; 5] = ["allow", "deny", "bridge", "dhcp", "stp"];
const KINDS: [&str; 3] = ["tag", "name", "id"];
const TRAFFIC: [&str; 7] = ["tcp", "udp", "icmp", "proto", "ip", "other", "ethertype"];

/// A first word.
pub(super) fn verb(word: &str) -> Option<String> {
    let meant = match word.to_ascii_lowercase().as_str() {
        "accept" | "permit" | "pass" | "grant" => "allow",
        "drop" | "reject" | "block" | "forbid" => "deny",
        lower => closest(lower, VERBS)?,
    };
    Some(meant.to_owned())
}

/// A word that names no members.
pub(super) fn selector(word: &str) -> Option<String> {
    let lower = word.to_ascii_lowercase();
    let Some((kind, name)) = word.split_once(':') else {
        return match lower.as_str() {
            "*" | "all" | "everyone" | "everybody" | "anyone" | "anybody" => Some("any".to_owned()),
            "any" => Some(lower),
            _ if is_start_of_id(&lower) && lower.len() > 20 => Some(format!("id:{lower}")),
            _ if is_name(word) => {
                Some(closest(word, ["any"]).map_or_else(|| format!("tag:{word}"), str::to_owned))
            }
            _ => None,
        };
    };
    let kind = match kind.to_ascii_lowercase().as_str() {
        "any" | "*" => return Some(format!("any tcp {name}")).filter(|_| is_ports(name)),
        "group" | "autogroup" | "role" => "tag",
        "host" | "node" | "user" | "member" | "peer" => "name",
        lower => closest(lower, KINDS)?,
    };
    // Tailscale's tag:server:22.
    let (name, port) = name.split_once(':').map_or((name, None), |(name, port)| (name, Some(port)));
    let fits = if kind == "id" { is_start_of_id(&name.to_ascii_lowercase()) } else { is_name(name) };
    match port {
        _ if !fits => None,
        None => Some(format!("{kind}:{name}")),
        Some(port) => Some(format!("{kind}:{name} tcp {port}")).filter(|_| is_ports(port)),
    }
}

/// Whether a word is an address, as other firewalls take.
pub(super) fn is_address(word: &str) -> bool {
    let address = word.split_once('/').map_or(word, |(address, _)| address);
    address.parse::<std::net::IpAddr>().is_ok()
}

/// A word for traffic.
pub(super) fn traffic(word: &str) -> Option<String> {
    let lower = word.to_ascii_lowercase();
    if is_ports(&lower) {
        return Some(format!("tcp {lower}"));
    }
    if let Some((one, other)) = lower.split_once(['/', ':']) {
        let (protocol, port) = if is_ports(one) { (other, one) } else { (one, other) };
        if matches!(protocol, "tcp" | "udp") && is_ports(port) {
            return Some(format!("{protocol} {port}"));
        }
    }
    let meant = match lower.as_str() {
        "ping" | "icmp4" | "icmpv4" | "icmp6" | "icmpv6" | "ipv6-icmp" => "icmp",
        "protocol" => "proto",
        "igmp" => "proto 2",
        "gre" => "proto 47",
        "esp" => "proto 50",
        "ah" => "proto 51",
        "ospf" => "proto 89",
        "vrrp" => "proto 112",
        "sctp" => "proto 132",
        "ssh" => "tcp 22",
        "http" => "tcp 80",
        "https" => "tcp 443",
        "dns" => "udp 53",
        "ipv4" | "ipv6" => "ip",
        lower => closest(lower, TRAFFIC)?,
    };
    Some(meant.to_owned())
}

/// A word that is no port.
pub(super) fn port(word: &str) -> Option<String> {
    let named = match word.to_ascii_lowercase().as_str() {
        "ssh" => "22",
        "dns" | "domain" => "53",
        "http" => "80",
        "https" => "443",
        lower => {
            return lower.split_once(':').map(|(a, b)| format!("{a}-{b}")).filter(|range| is_ports(range));
        }
    };
    Some(named.to_owned())
}

/// A word that is no protocol number: a name that has one.
pub(super) fn protocol(word: &str) -> Option<String> {
    traffic(word).and_then(|meant| meant.strip_prefix("proto ").map(str::to_owned))
}

/// A word that is no ethertype: digits without their `0x`, or too few of them.
pub(super) fn ethertype(word: &str) -> Option<String> {
    let lower = word.to_ascii_lowercase();
    let digits = lower.strip_prefix("0x").unwrap_or(&lower);
    let number = u16::from_str_radix(digits, 16).ok()?;
    (number >= super::what::FIRST_ETHERTYPE).then(|| format!("0x{number:04x}"))
}

/// Whether a word looks like a port or a range.
fn is_ports(word: &str) -> bool {
    let is_port = |word: &str| word.parse::<u16>().is_ok_and(|port| port > 0);
    word.split_once('-').map_or_else(|| is_port(word), |(first, last)| is_port(first) && is_port(last))
}
