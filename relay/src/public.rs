//! The address that the ticket names: what the operator says, or what the machine shows.
//!
//! A machine rarely knows its public address, but it knows which of its own it would send from; on a server with a public
//! address that is it. Behind a NAT it is a private one, which is right for a lab or a LAN and wrong for the internet: the
//! ticket then carries it, and a warning says what to type.

use shadowmesh_proto::ticket::Address;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses in a ticket: what fits a terminal line, and what a ticket may hold.
const MAX_ADDRESSES: usize = shadowmesh_proto::ticket::MAX_ENTRIES;

/// What may stand before a host that is not reached by TLS, although this relay would speak it.
const PLAIN: &str = "ws://";

/// What `--public` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Public {
    /// Look for it, also if another was given before.
    Auto,
    /// This host, on the ports that are listened on or on the one given.
    Host {
        /// Whether it is reached by TLS, where that was said: something before the relay may do it, or undo it.
        tls: Option<bool>,
        /// A name or an address, IPv6 without brackets.
        host: String,
        /// Another port, where something forwards it here.
        port: Option<u16>,
    },
}

/// `--public` makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no host or host:port such as relay.example.org, 192.0.2.1:8443 or [2001:db8::1]:8443, with wss:// (or ws://) before it where a reverse proxy adds TLS (or takes it away)"
)]
pub struct BadPublic(String);

impl Public {
    /// The text to remember; nothing for `auto`.
    pub fn to_remember(&self) -> Option<String> {
        match self {
            Self::Auto => None,
            Self::Host { tls, host, port } => {
                let scheme = match tls {
                    Some(true) => Address::TLS,
                    Some(false) => PLAIN,
                    None => "",
                };
                Some(format!("{scheme}{}", port.map_or_else(|| host.clone(), |port| with_port(host, port))))
            }
        }
    }
}

impl std::str::FromStr for Public {
    type Err = BadPublic;

    fn from_str(text: &str) -> Result<Self, BadPublic> {
        let bad = || BadPublic(text.to_owned());
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let (tls, text) = match (text.strip_prefix(Address::TLS), text.strip_prefix(PLAIN)) {
            (Some(rest), _) => (Some(true), rest),
            (None, Some(rest)) => (Some(false), rest),
            (None, None) => (None, text),
        };
        if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            let host = ip.to_string();
            return Ok(Self::Host { tls, host, port: None });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            if address.port() == 0 {
                return Err(bad());
            }
            return Ok(Self::Host { tls, host: address.ip().to_string(), port: Some(address.port()) });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => {
                let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
                (host, Some(port))
            }
            None => (text, None),
        };
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if host.len() > 253 || !host.trim_end_matches('.').split('.').all(label_ok) {
            return Err(bad());
        }
        Ok(Self::Host { tls, host: host.to_owned(), port })
    }
}

/// What the ticket says, and what to warn of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// An [`Address`] each, at most eight.
    pub addresses: Vec<String>,
    /// Nothing public among them.
    pub private: bool,
}

/// The addresses for the ticket of a relay that listens on `listen` (ports as bound), and speaks TLS there or does not.
pub fn addresses(public: Option<&Public>, listen: &[SocketAddr], tls: bool) -> Found {
    let mut found = hosts_and_ports(public, listen);
    let said = match public {
        Some(Public::Host { tls, .. }) => *tls,
        Some(Public::Auto) | None => None,
    };
    if said.unwrap_or(tls) {
        for address in &mut found.addresses {
            address.insert_str(0, Address::TLS);
        }
    }
    found
}

fn hosts_and_ports(public: Option<&Public>, listen: &[SocketAddr]) -> Found {
    if let Some(Public::Host { host, port, .. }) = public {
        let ports: Vec<u16> = match port {
            Some(port) => vec![*port],
            None => listen.iter().map(SocketAddr::port).collect(),
        };
        return Found {
            addresses: ports.into_iter().map(|port| with_port(host, port)).take(MAX_ADDRESSES).collect(),
            private: host.parse().is_ok_and(|ip| !is_public(ip)),
        };
    }
    let own = own_addresses();
    let mut found: Vec<SocketAddr> = Vec::new();
    for socket in listen {
        let ips: Vec<IpAddr> = match socket.ip() {
            ip if !ip.is_unspecified() => vec![ip],
            IpAddr::V4(_) => own.iter().copied().filter(IpAddr::is_ipv4).collect(),
            IpAddr::V6(_) => own.clone(),
        };
        for ip in ips {
            let address = SocketAddr::new(ip, socket.port());
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    // Public ones first: clients try in order.
    found.sort_by_key(|address| !is_public(address.ip()));
    Found {
        private: !found.iter().any(|address| is_public(address.ip())),
        addresses: found.into_iter().map(|address| address.to_string()).take(MAX_ADDRESSES).collect(),
    }
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The addresses this machine sends from, by its routes: no packet is sent, the kernel only looks. Of a family without a default
/// route, those of its interfaces: all of them where no family has one (a lab, a closed LAN), else public IPv4 ones alone, since every
/// container bridge and every other tunnel has some address.
fn own_addresses() -> Vec<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849): nobody's, so only a default route leads there.
    let probes: [SocketAddr; 2] =
        [(Ipv4Addr::new(192, 0, 2, 1), 9).into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into()];
    let by_route: Vec<IpAddr> = probes.into_iter().filter_map(source_towards).collect();
    let mut own = with_interfaces(by_route, interface_addresses);
    own.retain(|ip| !ip.is_loopback() && !ip.is_unspecified() && !is_link_local(*ip));
    if own.is_empty() {
        own.push(Ipv4Addr::LOCALHOST.into());
    }
    own
}

/// `by_route` and what the interfaces have of a family that it lacks.
fn with_interfaces(mut by_route: Vec<IpAddr>, of_interfaces: impl FnOnce() -> Vec<IpAddr>) -> Vec<IpAddr> {
    if by_route.iter().any(IpAddr::is_ipv4) {
        return by_route;
    }
    let has_route = !by_route.is_empty();
    by_route.extend(of_interfaces().into_iter().filter(|ip| (ip.is_ipv4() && is_public(*ip)) || !has_route));
    by_route
}

fn source_towards(target: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn interface_addresses() -> Vec<IpAddr> {
    let v4 = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let mut all: Vec<IpAddr> = local_v4(&v4).into_iter().map(IpAddr::V4).collect();
    all.extend(local_v6(&v6).into_iter().map(IpAddr::V6));
    all
}

/// The local addresses in the text of `/proc/net/fib_trie`: a leaf line `|-- 192.0.2.1`, then a line `/32 host LOCAL`.
fn local_v4(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut leaf = None;
    let mut found: Vec<Ipv4Addr> = Vec::new();
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = leaf
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found.retain(|address| !address.is_loopback());
    found
}

/// The addresses in the text of `/proc/net/if_inet6`: 32 hex digits at the start of each line.
fn local_v6(if_inet6: &str) -> Vec<Ipv6Addr> {
    if_inet6
        .lines()
        .filter_map(|line| u128::from_str_radix(line.split_whitespace().next()?, 16).ok())
        .map(Ipv6Addr::from_bits)
        .collect()
}

const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Whether strangers on the internet can reach `ip`.
pub const fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // RFC 6598: what carriers put between their customers and the internet.
            let shared = a == 100 && b & 0xC0 == 64;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_documentation()
                || shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Vec<SocketAddr> {
        text.split(' ').map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn what_the_operator_says_is_what_the_ticket_says() {
        let on = |public: &str| {
            let public: Public = public.parse().unwrap();
            addresses(Some(&public), &listen("[::]:8443 [::]:443"), false).addresses
        };
        assert_eq!(on("relay.example.org"), ["relay.example.org:8443", "relay.example.org:443"]);
        assert_eq!(on("relay.example.org:80"), ["relay.example.org:80"]);
        assert_eq!(on("2001:db8::1"), ["[2001:db8::1]:8443", "[2001:db8::1]:443"]);
        assert_eq!(on("[2001:db8::1]"), ["[2001:db8::1]:8443", "[2001:db8::1]:443"]);
        assert_eq!(on("[2001:db8::1]:80"), ["[2001:db8::1]:80"]);
        assert_eq!(on("198.51.100.7:1"), ["198.51.100.7:1"]);
    }

    #[test]
    fn tls_is_named_where_the_relay_speaks_it_or_something_before_it_does() {
        let on = |public: &str, tls| {
            let public: Public = public.parse().unwrap();
            let again = public.to_remember().map(|text| text.parse());
            assert!(again.is_none_or(|again| again == Ok(public.clone())), "{public:?}");
            addresses(Some(&public), &listen("127.0.0.1:8443"), tls).addresses
        };
        assert_eq!(on("relay.example", true), ["wss://relay.example:8443"]);
        assert_eq!(on("auto", true), ["wss://127.0.0.1:8443"]);
        assert_eq!(on("wss://relay.example:443", false), ["wss://relay.example:443"]);
        assert_eq!(on("ws://[2001:db8::1]", true), ["[2001:db8::1]:8443"]);
        assert_eq!(on("wss://2001:db8::1", false), ["wss://[2001:db8::1]:8443"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "wss://",
            "wss://auto:",
            "wss://ws://host",
            ":",
            "a b",
            "host:",
            "host:0",
            "host:x",
            "http://host",
            "a..b",
            "-a",
            "1.2.3.4:0",
            "ho_st",
        ] {
            assert!(bad.parse::<Public>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_given_listen_address_is_used_as_it_is() {
        let found = addresses(None, &listen("127.0.0.1:8443"), false);
        assert_eq!(found.addresses, ["127.0.0.1:8443"]);
        assert!(found.private);
    }

    #[test]
    fn a_family_without_a_default_route_has_the_addresses_of_its_interfaces() {
        let ips = |text: &str| text.split_whitespace().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let found = |by_route, interfaces| with_interfaces(ips(by_route), || ips(interfaces));
        assert_eq!(found("192.0.2.7", "192.0.2.7 172.17.0.1 fd00::1"), ips("192.0.2.7"));
        assert_eq!(
            found("2001:db8::7", "172.17.0.1 8.8.4.4 2001:db8::7 fd00::1"),
            ips("2001:db8::7 8.8.4.4")
        );
        assert_eq!(found("", "10.0.0.7 fd00::1"), ips("10.0.0.7 fd00::1"));
    }

    #[test]
    fn without_anything_there_is_still_an_address_on_each_port() {
        let found = addresses(None, &listen("[::]:8443 [::]:443"), false);
        assert!(found.addresses.iter().any(|address| address.ends_with(":8443")));
        assert!(found.addresses.iter().any(|address| address.ends_with(":443")));
        assert!(found.addresses.len() <= MAX_ADDRESSES);
    }

    #[test]
    fn private_ranges_are_known() {
        for private in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["8.8.8.8", "100.128.0.1", "2600::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn the_kernel_tables_are_read() {
        let fib = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.1.2.0\n        /24 link UNICAST\n     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n";
        assert_eq!(local_v4(fib), [Ipv4Addr::new(10, 1, 2, 3)]);
        let inet6 = "00000000000000000000000000000001 01 80 10 80 lo\n20010db8000000000000000000000005 02 40 00 80 eth0\n";
        assert_eq!(local_v6(inet6).len(), 2);
        assert!(local_v6("nonsense\n\n").is_empty());
    }
}
