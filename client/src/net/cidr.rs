//! An address with the length of its prefix, such as `10.7.0.1/16`: an address on an interface, or a
//! destination.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP address and a prefix length that fits its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text or a pair is no [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not `ADDRESS/LENGTH`.
    #[error("{0:?} is not an address with a prefix length; write it like 10.7.0.1/16 or fd00::1/64")]
    Syntax(String),
    /// A length that the family does not have.
    #[error("the prefix length {prefix} is too long for {address}; the longest is {}", width(*.address))]
    TooLong {
        /// The address before the slash.
        address: IpAddr,
        /// The number after it.
        prefix: u8,
    },
}

/// Bits in an address of this family.
const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl Cidr {
    /// Puts the two together.
    ///
    /// # Errors
    /// [`CidrError::TooLong`] when the address has fewer than `prefix` bits.
    pub const fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        if prefix > width(address) {
            return Err(CidrError::TooLong { address, prefix });
        }
        Ok(Self { address, prefix })
    }

    /// The address alone, as a network of one.
    pub const fn host(address: IpAddr) -> Self {
        Self { address, prefix: width(address) }
    }

    /// The address, host bits included.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The length of the prefix in bits.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The network it belongs to: the same with the host bits zero.
    pub const fn network(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = match u32::MAX.checked_shl(32 - self.prefix as u32) {
                    Some(mask) => mask,
                    None => 0,
                };
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = match u128::MAX.checked_shl(128 - self.prefix as u32) {
                    Some(mask) => mask,
                    None => 0,
                };
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Self { address, prefix: self.prefix }
    }

    /// Whether `address` is in this network. Families never mix.
    pub fn contains(&self, address: IpAddr) -> bool {
        width(address) == width(self.address)
            && Self { address, prefix: self.prefix }.network() == self.network()
    }

    /// Whether the two networks share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.prefix <= other.prefix { self.contains(other.address) } else { other.contains(self.address) }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let syntax = || CidrError::Syntax(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(syntax)?;
        // `u8::from_str` also takes a sign, which no prefix length has.
        if !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(syntax());
        }
        let address = address.parse().map_err(|_| syntax())?;
        Self::new(address, prefix.parse().map_err(|_| syntax())?)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn text_comes_back_as_it_was() {
        for text in ["10.7.0.1/16", "0.0.0.0/0", "fd00::1/64", "::/0", "192.0.2.1/32", "::1/128"] {
            assert_eq!(cidr(text).to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_cause() {
        for text in
            ["", "10.7.0.1", "10.7.0.1/", "10.7.0.1/+8", "10.7.0/16", "fd00::/x", "10.0.0.0/300", "/8"]
        {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError::Syntax(text.to_owned())), "{text}");
        }
        let error = "10.7.0.1/33".parse::<Cidr>().unwrap_err();
        assert_eq!(error.to_string(), "the prefix length 33 is too long for 10.7.0.1; the longest is 32");
    }

    #[test]
    fn networks_and_what_is_in_them() {
        assert_eq!(cidr("10.7.3.9/16").network(), cidr("10.7.0.0/16"));
        assert_eq!(cidr("10.7.3.9/0").network(), cidr("0.0.0.0/0"));
        assert_eq!(cidr("fd12::9/64").network(), cidr("fd12::/64"));
        assert!(cidr("10.0.0.0/8").contains("10.255.0.1".parse().unwrap()));
        assert!(!cidr("10.0.0.0/8").contains("11.0.0.1".parse().unwrap()));
        assert!(!cidr("0.0.0.0/0").contains("::1".parse().unwrap()));
    }

    #[test]
    fn overlap_is_one_containing_the_other() {
        assert!(cidr("10.0.0.0/8").overlaps(&cidr("10.7.0.0/16")));
        assert!(cidr("10.7.0.0/16").overlaps(&cidr("10.0.0.0/8")));
        assert!(!cidr("10.7.0.0/16").overlaps(&cidr("10.8.0.0/16")));
        assert!(!cidr("::/0").overlaps(&cidr("10.0.0.0/8")));
    }

    proptest! {
        #[test]
        fn overlap_agrees_with_the_ranges(a: u32, b: u32, p in 0u8..=32, q in 0u8..=32) {
            let range = |bits: u32, prefix: u8| {
                let size = 1u64 << (32 - prefix);
                let first = u64::from(bits) / size * size;
                (first, first + size - 1)
            };
            let ((a0, a1), (b0, b1)) = (range(a, p), range(b, q));
            let one = Cidr::new(Ipv4Addr::from_bits(a).into(), p).unwrap();
            let two = Cidr::new(Ipv4Addr::from_bits(b).into(), q).unwrap();
            prop_assert_eq!(one.overlaps(&two), a0 <= b1 && b0 <= a1);
            prop_assert_eq!(one.overlaps(&two), two.overlaps(&one));
        }
    }
}
