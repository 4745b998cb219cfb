//! Addresses that are vouched for, and blocks of them (protocol §8.2).
//!
//! ```text
//!  address   byte string of 4 or 16
//!  block     [address whose bits beyond the prefix are 0, prefix length u8]
//! ```

use crate::addresses;
use crate::ids::NodeId;
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address that a member can have inside the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(IpAddr);

impl Address {
    /// `None` for what is no host's: unspecified, loopback, multicast, broadcast, link-local, or IPv4 in the clothes of IPv6,
    /// which would be a second name of the same address.
    pub fn new(ip: IpAddr) -> Option<Self> {
        let is_some_hosts = match ip {
            IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local() && ip.to_ipv4_mapped().is_none(),
        };
        (is_some_hosts && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()).then_some(Self(ip))
    }

    /// The address.
    pub const fn ip(self) -> IpAddr {
        self.0
    }
}

/// A block of addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    base: IpAddr,
    prefix: u8,
}

impl Block {
    /// The block `base/prefix`; `None` where bits beyond the prefix are set, or the prefix is too long.
    pub fn new(base: IpAddr, prefix: u8) -> Option<Self> {
        let length = if base.is_ipv4() { 32 } else { 128 };
        (prefix <= length && masked(base, prefix) == base).then_some(Self { base, prefix })
    }

    /// The block of this prefix that `address` lies in; `None` where the prefix is too long.
    pub fn around(address: IpAddr, prefix: u8) -> Option<Self> {
        Self::new(masked(address, prefix), prefix)
    }

    /// How many bits of an address are the block's.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether its addresses are of IPv4.
    pub const fn is_ipv4(self) -> bool {
        self.base.is_ipv4()
    }

    /// Its IPv4 addresses in the order in which `node` tries them (protocol §8.4); none where it is of IPv6.
    pub fn ipv4_attempts(self, node: NodeId) -> impl Iterator<Item = Address> {
        let base = match self.base {
            IpAddr::V4(base) => Some(base),
            IpAddr::V6(_) => None,
        };
        let tried = base.into_iter().flat_map(move |base| addresses::block_attempts(base, self.prefix, node));
        tried.filter_map(|address| Address::new(address.into()))
    }

    /// Whether `address` lies in it. Families do not mix.
    pub fn contains(self, address: Address) -> bool {
        self.base.is_ipv4() == address.0.is_ipv4() && masked(address.0, self.prefix) == self.base
    }
}

fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

fn write<W: Write>(ip: IpAddr, e: &mut Encoder<W>) -> Result<(), encode::Error<W::Error>> {
    match ip {
        IpAddr::V4(ip) => e.bytes(&ip.octets())?.ok(),
        IpAddr::V6(ip) => e.bytes(&ip.octets())?.ok(),
    }
}

fn read(d: &mut Decoder<'_>) -> Result<IpAddr, decode::Error> {
    let bytes = d.bytes()?;
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).map_err(|_| decode::Error::message("not 4 or 16 bytes"))
}

impl<C> Encode<C> for Address {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        write(self.0, e)
    }
}

impl<'b, C> Decode<'b, C> for Address {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Self::new(read(d)?).ok_or_else(|| decode::Error::message("no host's address"))
    }
}

impl<C> Encode<C> for Block {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.array(2)?;
        write(self.base, e)?;
        e.u8(self.prefix)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Block {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        if d.array()? != Some(2) {
            return Err(decode::Error::message("not an address and a length"));
        }
        let base = read(d)?;
        Self::new(base, d.u8()?).ok_or_else(|| decode::Error::message("bits beyond the prefix"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(base: &str, prefix: u8) -> Option<Block> {
        Block::new(base.parse().unwrap(), prefix)
    }

    fn address(text: &str) -> Option<Address> {
        Address::new(text.parse().unwrap())
    }

    #[test]
    fn a_block_holds_its_addresses_and_no_others() {
        for (base, prefix, inside, outside) in [
            ("10.1.2.0", 24, "10.1.2.255", "10.1.3.0"),
            ("10.1.2.3", 32, "10.1.2.3", "10.1.2.2"),
            ("0.0.0.0", 0, "203.0.113.9", "2001:db8::1"),
            ("::", 0, "2001:db8::1", "10.0.0.1"),
            ("fd00::", 8, "fd12::1", "fc00::1"),
            ("fd00::5", 128, "fd00::5", "fd00::4"),
        ] {
            let block = block(base, prefix).unwrap();
            assert!(block.contains(address(inside).unwrap()), "{block} {inside}");
            assert!(!block.contains(address(outside).unwrap()), "{block} {outside}");
        }
    }

    #[test]
    fn bits_beyond_the_prefix_make_no_block() {
        assert_eq!(block("10.1.2.1", 24), None);
        assert_eq!(block("10.0.0.0", 33), None);
        assert_eq!(block("fd00::", 129), None);
        assert_eq!(block("128.0.0.0", 0), None);
    }

    #[test]
    fn what_is_no_hosts_address_is_nobodys() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "169.254.1.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
