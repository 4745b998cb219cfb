//! What this node decides for itself: what it filters, and how much it floods. The same for every member; what one
//! member may do and another may not is in its record ([`super::Rights`]), into which goes whom this node lets serve it.

use serde::Deserialize;
use shadowmesh_proto::ids::{NodeId, SHORT_ID_CHARS};
use std::fmt;
use std::str::FromStr;

/// What this node keeps out, and how much it floods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protection {
    /// What is kept out, of members that have no right to it.
    pub filters: Filters,
    /// How much is flooded to each peer, and taken of each.
    pub flood_budget: FloodBudget,
}

/// What this node has its switch do about members.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SwitchConfig {
    /// For every member.
    pub protection: Protection,
    /// Who may be its DHCP server or router.
    pub dhcp_servers: DhcpServers,
}

/// Whose DHCP answers and router advertisements are let in. Members are told by their ids: a name is what somebody calls
/// himself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum DhcpServers {
    /// Nobody's.
    #[default]
    None,
    /// Everybody's.
    Any,
    /// Those of the members whose ids begin like this: each has at least the [`SHORT_ID_CHARS`] characters that are shown
    /// to people.
    Some(Vec<String>),
}

/// Not a list of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "allowed DHCP servers are any, none, or ids with commas between, each with its first {SHORT_ID_CHARS} characters at \
     least (`shadowmesh status --json` shows them; a name is no proof)"
)]
pub struct NoServers;

impl DhcpServers {
    /// Whether this member is one of them.
    pub fn allows(&self, id: &NodeId) -> bool {
        match self {
            Self::None => false,
            Self::Any => true,
            Self::Some(starts) => {
                let id = id.to_base32();
                starts.iter().any(|start| id.starts_with(start.as_str()))
            }
        }
    }
}

impl TryFrom<String> for DhcpServers {
    type Error = NoServers;

    fn try_from(text: String) -> Result<Self, NoServers> {
        text.parse()
    }
}

impl FromStr for DhcpServers {
    type Err = NoServers;

    fn from_str(text: &str) -> Result<Self, NoServers> {
        const LONGEST: usize = 52;
        let start = |text: &str| {
            let start = text.trim().to_ascii_lowercase();
            let is_id = start.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
            (is_id && (SHORT_ID_CHARS..=LONGEST).contains(&start.len())).then_some(start).ok_or(NoServers)
        };
        match text {
            "none" => Ok(Self::None),
            "any" => Ok(Self::Any),
            _ => Ok(Self::Some(text.split(',').map(start).collect::<Result<_, _>>()?)),
        }
    }
}

impl fmt::Display for DhcpServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Any => f.write_str("any"),
            Self::Some(starts) => f.write_str(&starts.join(",")),
        }
    }
}

/// Which protocols are filtered. All are, unless somebody chose otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Filters {
    bits: u8,
}

/// A protocol that is filtered, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter {
    /// What IEEE 802.1D §7.12.6 reserves for bridges (STP, pause, LACP, 802.1X …), and Cisco's own spanning tree.
    Bpdu,
    /// Link layer discovery (IEEE 802.1AB).
    Lldp,
    /// Cisco's discovery and its relatives (CDP, VTP, DTP, UDLD).
    Cdp,
    /// Answers of DHCP servers, IPv4 and IPv6.
    Dhcp,
    /// IPv6 router advertisements and redirects.
    Ra,
}

impl Filter {
    /// All of them, in the order they are written.
    pub const ALL: [Self; 5] = [Self::Bpdu, Self::Lldp, Self::Cdp, Self::Dhcp, Self::Ra];

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bpdu => "bpdu",
            Self::Lldp => "lldp",
            Self::Cdp => "cdp",
            Self::Dhcp => "dhcp",
            Self::Ra => "ra",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Filters {
    /// Nothing is filtered.
    pub const NONE: Self = Self { bits: 0 };

    /// Whether this protocol is filtered.
    pub const fn has(self, filter: Filter) -> bool {
        self.bits & filter.bit() != 0
    }

    /// With this protocol as well.
    #[must_use]
    pub const fn with(self, filter: Filter) -> Self {
        Self { bits: self.bits | filter.bit() }
    }

    /// Those that are filtered.
    pub fn iter(self) -> impl Iterator<Item = Filter> {
        Filter::ALL.into_iter().filter(move |filter| self.has(*filter))
    }
}

impl Default for Filters {
    fn default() -> Self {
        Filter::ALL.into_iter().fold(Self::NONE, Self::with)
    }
}

/// Not a list of filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("filters are all, none, or some of bpdu, lldp, cdp, dhcp and ra with commas between")]
pub struct NoFilters;

impl TryFrom<String> for Filters {
    type Error = NoFilters;

    fn try_from(text: String) -> Result<Self, NoFilters> {
        text.parse()
    }
}

impl FromStr for Filters {
    type Err = NoFilters;

    fn from_str(text: &str) -> Result<Self, NoFilters> {
        match text {
            "all" => Ok(Self::default()),
            "none" => Ok(Self::NONE),
            _ => text.split(',').try_fold(Self::NONE, |filters, name| {
                let known = Filter::ALL.into_iter().find(|filter| filter.name() == name.trim());
                known.map(|filter| filters.with(filter)).ok_or(NoFilters)
            }),
        }
    }
}

impl fmt::Display for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("none"),
            all if all == Self::default() => f.write_str("all"),
            some => {
                let names: Vec<&str> = some.iter().map(Filter::name).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

/// Bits a second, from [`Self::MIN`] to [`Self::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitRate(u64);

impl BitRate {
    /// Less would starve DHCP and neighbour discovery of a few hosts.
    pub const MIN: Self = Self(64_000);
    /// More than any budget that deserves the name; who wants that has none.
    pub const MAX: Self = Self(10_000_000_000);

    /// `None` outside the range.
    pub const fn new(bits_per_second: u64) -> Option<Self> {
        if bits_per_second < Self::MIN.0 || bits_per_second > Self::MAX.0 {
            None
        } else {
            Some(Self(bits_per_second))
        }
    }

    /// Bits a second.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// How much broadcast, multicast and unknown unicast goes to each peer and is taken of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum FloodBudget {
    /// So much in the long run.
    Rate(BitRate),
    /// Whatever comes.
    Unlimited,
}

impl Default for FloodBudget {
    /// 1 Mbit/s: two hundred ARP requests and a thousand small mDNS answers a second fit; a video stream by multicast
    /// does not, and ten peers of it are still less than a home uplink.
    fn default() -> Self {
        Self::Rate(BitRate(1_000_000))
    }
}

/// Not a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the flood budget is a rate from 64kbit to 10gbit a second, such as 500kbit or 2mbit, or none")]
pub struct NoBudget;

impl TryFrom<String> for FloodBudget {
    type Error = NoBudget;

    fn try_from(text: String) -> Result<Self, NoBudget> {
        text.parse()
    }
}

impl FromStr for FloodBudget {
    type Err = NoBudget;

    fn from_str(text: &str) -> Result<Self, NoBudget> {
        if text == "none" {
            return Ok(Self::Unlimited);
        }
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at_checked(digits).ok_or(NoBudget)?;
        let number: u64 = number.parse().map_err(|_| NoBudget)?;
        let factor = match unit.to_ascii_lowercase().as_str() {
            "kbit" => 1_000,
            "mbit" => 1_000_000,
            "gbit" => 1_000_000_000,
            _ => return Err(NoBudget),
        };
        number.checked_mul(factor).and_then(BitRate::new).map(Self::Rate).ok_or(NoBudget)
    }
}

impl fmt::Display for FloodBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Rate(BitRate(bits)) = self else { return f.write_str("none") };
        let units = [(1_000_000_000, "gbit"), (1_000_000, "mbit")];
        let (factor, unit) =
            units.into_iter().find(|(factor, _)| bits.is_multiple_of(*factor)).unwrap_or((1_000, "kbit"));
        write!(f, "{}{unit}", bits / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn everything_is_filtered_by_default() {
        assert!(Filter::ALL.into_iter().all(|filter| Filters::default().has(filter)));
        assert!(Filter::ALL.into_iter().all(|filter| !Filters::NONE.has(filter)));
        assert_eq!(
            (Filters::default().to_string(), Filters::NONE.to_string()),
            ("all".into(), "none".into())
        );
    }

    #[test]
    fn a_list_of_filters_is_read_and_anything_else_refused() {
        let some: Filters = "dhcp, ra".parse().unwrap();
        assert!(some.has(Filter::Dhcp) && some.has(Filter::Ra) && !some.has(Filter::Bpdu));
        assert_eq!(some.to_string(), "dhcp,ra");
        assert_eq!("bpdu,lldp,cdp,dhcp,ra".parse(), Ok(Filters::default()));
        for bad in ["", "all,dhcp", "stp", "dhcp,", "DHCP"] {
            assert_eq!(bad.parse::<Filters>(), Err(NoFilters), "{bad}");
        }
    }

    #[test]
    fn a_budget_is_a_rate_with_a_unit_or_none() {
        assert_eq!("1Mbit".parse(), Ok(FloodBudget::default()));
        assert_eq!("none".parse(), Ok(FloodBudget::Unlimited));
        assert_eq!("64kbit".parse(), Ok(FloodBudget::Rate(BitRate::MIN)));
        for bad in ["63kbit", "11gbit", "1", "1mb", "mbit", "-1mbit", "1.5mbit", "99999999999999999999gbit"] {
            assert_eq!(bad.parse::<FloodBudget>(), Err(NoBudget), "{bad}");
        }
        assert_eq!(FloodBudget::default().to_string(), "1mbit");
    }

    #[test]
    fn dhcp_servers_are_told_by_their_ids() {
        let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
        let some: DhcpServers = format!("{}, {}", a.short().to_uppercase(), "z".repeat(52)).parse().unwrap();
        assert!(some.allows(&a) && !some.allows(&b));
        assert_eq!(some.to_string().parse(), Ok(some));
        assert!(!DhcpServers::default().allows(&a) && "any".parse() == Ok(DhcpServers::Any));
        assert!(DhcpServers::Any.allows(&b) && "none".parse() == Ok(DhcpServers::None));
        for bad in ["", "attic", "abcdefghi", "abcdefghij,", "abcdefghi1", "any,abcdefghij", &"a".repeat(53)]
        {
            assert_eq!(bad.parse::<DhcpServers>(), Err(NoServers), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bits in 0u8..32, kbit in 64u64..10_000_000) {
            let filters = Filter::ALL.into_iter().filter(|f| bits & f.bit() != 0).fold(Filters::NONE, Filters::with);
            prop_assert_eq!(filters.to_string().parse(), Ok(filters));
            let budget = FloodBudget::Rate(BitRate::new(kbit * 1_000).unwrap());
            prop_assert_eq!(budget.to_string().parse(), Ok(budget));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = (text.parse::<Filters>(), text.parse::<FloodBudget>(), text.parse::<DhcpServers>());
        }
    }
}
