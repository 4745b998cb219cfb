//! NO_PROXY: the hosts that are reached without the proxy of the environment.
//!
//! There is no standard; this is what Go's programs, and with few differences curl's and Python's, make of it. Entries with commas or white space between, in upper or lower case:
//!
//! | entry | is |
//! |---|---|
//! | `*` | every host |
//! | `example.com` | that name, and every name below it |
//! | `.example.com`, `*.example.com` | every name below it |
//! | `192.0.2.7`, `2001:db8::7`, `[2001:db8::7]` | that address |
//! | `192.0.2.0/24`, `2001:db8::/32` | every address in it |
//!
//! A name or an address may have a port behind it (`example.com:443`, `[2001:db8::7]:443`) and is meant with that port alone then. Names are compared as tickets have them: no name
//! is looked up for it, for where a proxy is the only way out there may be nobody to ask. What is none of these means nothing, and hides nothing behind it.
//!
//! This host itself (`localhost`, a name below that, a loopback address) is never reached by a proxy, whatever is written: to the proxy it would be the proxy.

use std::net::IpAddr;

/// See the module page. The default is nobody, not even this host: for a proxy that somebody chose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NoProxy(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Everybody,
    Loopback,
    /// In lower case, without a dot at either end. `is_itself`: the name too, and not only those below.
    Name {
        name: String,
        is_itself: bool,
        port: Option<u16>,
    },
    Addresses {
        prefix: IpAddr,
        bits: u8,
        port: Option<u16>,
    },
}

impl NoProxy {
    /// Of the text of the variable.
    pub(super) fn of_environment(text: &str) -> Self {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace()).filter_map(Entry::read);
        Self([Entry::Loopback].into_iter().chain(entries).collect())
    }

    /// Whether the host in `host:port` or `[address]:port` is one of them.
    pub(super) fn has(&self, host_port: &str) -> bool {
        let (host, port) = parts(host_port);
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let ip = host.parse().ok().map(|ip: IpAddr| ip.to_canonical());
        self.0.iter().any(|entry| entry.is_it(&host, ip, port))
    }
}

/// Host without brackets, and the port if there is one.
fn parts(text: &str) -> (&str, Option<u16>) {
    // The colons of a bare IPv6 address lead to no port.
    if text.parse::<IpAddr>().is_ok() {
        return (text, None);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port.parse().ok()),
        _ => (text, None),
    };
    (host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), port)
}

impl Entry {
    fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everybody);
        }
        if let Some((prefix, bits)) = text.split_once('/') {
            let prefix: IpAddr = prefix.parse().ok()?;
            let bits = bits.parse().ok().filter(|bits| *bits <= width(prefix))?;
            return Some(Self::Addresses { prefix, bits, port: None });
        }
        let (host, port) = parts(text);
        if let Ok(ip) = host.parse::<IpAddr>() {
            let prefix = ip.to_canonical();
            return Some(Self::Addresses { prefix, bits: width(prefix), port });
        }
        let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
        let name = below.unwrap_or(host).trim_end_matches('.').to_ascii_lowercase();
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        is_name.then_some(Self::Name { name, is_itself: below.is_none(), port })
    }

    fn is_it(&self, host: &str, ip: Option<IpAddr>, port: Option<u16>) -> bool {
        let is_port = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        match self {
            Self::Everybody => true,
            Self::Loopback => {
                ip.is_some_and(|ip| ip.is_loopback()) || host == "localhost" || host.ends_with(".localhost")
            }
            Self::Name { name, is_itself, port } => {
                let before = host.strip_suffix(name.as_str());
                let is_name =
                    before.is_some_and(|before| (before.is_empty() && *is_itself) || before.ends_with('.'));
                is_name && ip.is_none() && is_port(port)
            }
            Self::Addresses { prefix, bits, port } => {
                ip.is_some_and(|ip| shares(*prefix, ip, *bits)) && is_port(port)
            }
        }
    }
}

const fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Whether the first `bits` of both are the same.
fn shares(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= bits,
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind_of_entry_means_what_it_means_to_other_programs() {
        for (entries, inside, outside) in [
            ("*", &["relay.example:443", "192.0.2.7:1", "[2001:db8::7]:1"][..], &[][..]),
            (
                "relay.example",
                &["relay.example:443", "RELAY.example.:1", "a.relay.example:1"],
                &["xrelay.example:1", "example:1"],
            ),
            (".example.com", &["a.example.com:1", "a.b.example.com:1"], &["example.com:1", "xexample.com:1"]),
            ("*.Example.com", &["a.example.COM:1"], &["example.com:1"]),
            (
                "a.example b.example,\tc.example",
                &["a.example:1", "b.example:1", "c.example:1"],
                &["d.example:1"],
            ),
            ("relay.example:443", &["relay.example:443"], &["relay.example:8443"]),
            ("192.0.2.7", &["192.0.2.7:1", "[::ffff:192.0.2.7]:1"], &["192.0.2.8:1", "relay.example:1"]),
            ("192.0.2.7:443", &["192.0.2.7:443"], &["192.0.2.7:1"]),
            ("192.0.2.0/24", &["192.0.2.0:1", "192.0.2.255:1"], &["192.0.3.0:1", "[2001:db8::]:1"]),
            ("0.0.0.0/0", &["192.0.2.7:1"], &["[2001:db8::7]:1", "relay.example:1"]),
            ("2001:db8::/32", &["[2001:db8:1::7]:443"], &["[2001:db9::1]:443", "32.1.13.184:1"]),
            ("2001:db8::7", &["[2001:db8::7]:443"], &["[2001:db8::8]:443"]),
            ("[2001:db8::7]:443", &["[2001:db8::7]:443"], &["[2001:db8::7]:1"]),
            // Addresses have no names below them.
            ("2.7", &[], &["192.0.2.7:1"]),
            // Nonsense hides nothing.
            (
                ",, ,/,192.0.2.0/33,a/b,\u{e9},..,*x,[,:1,b.example",
                &["b.example:1"],
                &["c.example:1", "192.0.2.1:1"],
            ),
            ("", &[], &["relay.example:443"]),
        ] {
            let except = NoProxy::of_environment(entries);
            for relay in inside {
                assert!(except.has(relay), "{relay} is in {entries:?}");
            }
            for relay in outside {
                assert!(!except.has(relay), "{relay} is not in {entries:?}");
            }
        }
    }

    #[test]
    fn this_host_is_reached_by_no_proxy_of_the_environment() {
        let nothing_said = NoProxy::of_environment("");
        for own in [
            "localhost:1",
            "LOCALHOST.:1",
            "a.localhost:1",
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(nothing_said.has(own) && !NoProxy::default().has(own), "{own}");
        }
        assert!(!nothing_said.has("localhost.example:1"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_asked(entries in "\\PC{0,60}", host in "\\PC{0,40}") {
            let except = NoProxy::of_environment(&entries);
            let _ = except.has(&host);
        }
    }
}
