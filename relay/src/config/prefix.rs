//! Ranges of addresses, as operators write them: `192.0.2.7`, `10.0.0.0/8`, `fd00::/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// One range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Its first address, no IPv4 in IPv6 form.
    first: IpAddr,
    /// Bits that all of it has in common.
    len: u8,
}

/// A text is no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no address and no range of addresses such as 10.0.0.0/8")]
pub struct BadPrefix;

impl Prefix {
    /// Whether `ip` lies in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.first, ip.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(ip)) => {
                same(first.to_bits().into(), ip.to_bits().into(), 32, self.len)
            }
            (IpAddr::V6(first), IpAddr::V6(ip)) => same(first.to_bits(), ip.to_bits(), 128, self.len),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Whether the first `len` of `bits` bits are the same.
fn same(one: u128, other: u128, bits: u8, len: u8) -> bool {
    (one ^ other).checked_shr(u32::from(bits - len)).unwrap_or(0) == 0
}

impl FromStr for Prefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| BadPrefix)?;
        // An IPv4 address in IPv6 form would have to say of which of the two its length is.
        if first != first.to_canonical() {
            return Err(BadPrefix);
        }
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let len = match len {
            None => bits,
            Some(len) if len.bytes().all(|byte| byte.is_ascii_digit()) => {
                len.parse().map_err(|_| BadPrefix)?
            }
            Some(_) => return Err(BadPrefix),
        };
        if len > bits { Err(BadPrefix) } else { Ok(Self { first, len }) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.first.is_ipv4() { 32 } else { 128 };
        if self.len == bits { self.first.fmt(f) } else { write!(f, "{}/{}", self.first, self.len) }
    }
}

/// Several of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefixes(pub Vec<Prefix>);

impl Prefixes {
    /// Whether `ip` lies in one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|prefix| prefix.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_has_what_begins_like_it_and_nothing_of_the_other_family() {
        for (range, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.7/32", "::ffff:192.0.2.7", "::ffff:192.0.2.6"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/9", "10.127.0.1", "10.128.0.1"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
        ] {
            assert!(prefix(range).contains(inside.parse().unwrap()), "{range} {inside}");
            assert!(!prefix(range).contains(outside.parse().unwrap()), "{range} {outside}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "::ffff:10.0.0.0/104",
            "localhost",
            "10.0.0.0 /8",
            "10.0.0.0/300",
        ] {
            assert_eq!(bad.parse::<Prefix>(), Err(BadPrefix), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn it_is_read_as_it_is_shown(ip: IpAddr, len in 0u8..=128) {
            let ip = ip.to_canonical();
            let text = format!("{ip}/{}", len.min(if ip.is_ipv4() { 32 } else { 128 }));
            let range = prefix(&text);
            prop_assert!(range.contains(ip));
            prop_assert_eq!(prefix(&range.to_string()), range);
        }
    }
}
