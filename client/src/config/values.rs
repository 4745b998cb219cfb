//! The values people type, each a type that cannot hold a wrong one.
//!
//! Every type reads itself from text ([`FromStr`]) and prints itself back, so that a flag and a line of `config.toml` go
//! through the same check and give the same sentence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shadowmesh_proto::endpoint::demand::{IDLE_AFTER, IDLE_AFTER_MIN, Keep};
use shadowmesh_proto::membership::Block;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

/// Why a value was refused; the text says what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a number, or outside [`Mtu::MIN`]..=[`Mtu::MAX`].
    #[error("the MTU must be a whole number from {} to {}, in bytes", Mtu::MIN, Mtu::MAX)]
    Mtu,
    /// Not a number, or outside [`QueueCount::MIN`]..=[`QueueCount::MAX`].
    #[error("a device may have {} to {} queues", QueueCount::MIN, QueueCount::MAX)]
    Queues,
    /// Empty, too long, or a character that a host name cannot have.
    #[error("a name has 1 to 63 characters of a-z, 0-9 and -, and neither begins nor ends with -")]
    NodeName,
    /// What the kernel would refuse as an interface name.
    #[error("a device name has 1 to 15 characters of A-Z, a-z, 0-9, -, _ and ., and is not . or ..")]
    DeviceName,
    /// Not a file name that is safe to make a directory of.
    #[error("a network name has 1 to 32 characters of a-z, 0-9, - and _, and begins with a letter or digit")]
    NetworkAlias,
    /// Not `ADDRESS/BITS`.
    #[error("an address is IPv4 with a prefix length, such as 10.7.3.4/16")]
    CidrForm,
    /// An IPv6 address where only IPv4 can be set.
    #[error(
        "only an IPv4 address can be set by hand, such as 10.7.3.4/16; the IPv6 address comes from the key"
    )]
    CidrVersion6,
    /// Prefix length outside 8..=30.
    #[error("the prefix length must be from 8 to 30, as in 10.7.3.4/16")]
    CidrBits,
    /// The network's own or its broadcast address, loopback, multicast …
    #[error("{0} cannot be the address of a host")]
    CidrHost(Ipv4Addr),
    /// Not a choice of `--cipher`.
    #[error("the cipher is one of auto, aes and chacha")]
    Cipher,
    /// Not a choice of `--names`.
    #[error("names are one of off, on and hosts")]
    Names,
    /// Not absolute, or with characters that neither a line of a log nor TOML carries as they are.
    #[error("a file of rules is named by a whole path of printable characters, without \" and \\")]
    RulesPath,
    /// No [`ProxyUrl`](super::ProxyUrl), nor `none`.
    #[error(
        "a proxy is written http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, with %40 for @ and the like in these two; or none"
    )]
    Proxy,
    /// Not a number with a unit.
    #[error("a time span is a whole number with a unit, such as 500ms, 2s, 15m, 24h or 7d")]
    Span,
    /// Outside [`RekeyInterval::MIN`]..=[`RekeyInterval::MAX`].
    #[error("the rekey interval must be from 2s to 120s")]
    RekeyInterval,
    /// No [`SessionsChoice`].
    #[error("the sessions that are kept are auto, all or on-demand")]
    Sessions,
    /// Outside [`IdleAfter::MIN`]..=[`IdleAfter::MAX`].
    #[error("a session may end after 2s to 24h without use")]
    IdleAfter,
}

/// Size of the largest payload of a frame on the TAP device, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "i64")]
pub struct Mtu(u16);

impl Mtu {
    /// What IPv6 demands of every link (RFC 8200 §5).
    pub const MIN: u16 = 1280;
    /// The largest MTU that the relay's ESTABLISHED may carry (protocol §3.5).
    pub const MAX: u16 = 9000;

    /// Bytes.
    pub const fn bytes(self) -> u16 {
        self.0
    }
}

impl Mtu {
    /// That of the LANs that a bridge joins: a smaller one would make the bridge drop what the LAN's hosts send. What does not fit a
    /// packet goes in pieces (protocol §5.4).
    pub const BRIDGED: Self = Self(1500);
}

impl Default for Mtu {
    /// 1400: a frame with its VLAN tag, our headers, UDP and IPv6 still fit an Ethernet of 1500.
    fn default() -> Self {
        Self(1400)
    }
}

impl TryFrom<i64> for Mtu {
    type Error = ValueError;

    fn try_from(bytes: i64) -> Result<Self, ValueError> {
        match u16::try_from(bytes) {
            Ok(bytes) if (Self::MIN..=Self::MAX).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(ValueError::Mtu),
        }
    }
}

impl FromStr for Mtu {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse::<i64>().map_err(|_| ValueError::Mtu)?.try_into()
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How many queues the TAP device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueCount(u8);

impl QueueCount {
    /// A device without queues is none.
    pub const MIN: u8 = 1;
    /// More threads than this only wait for each other: what lies between reading and sending is done one at a time.
    pub const MAX: u8 = 8;

    /// Queues.
    pub fn count(self) -> usize {
        self.0.into()
    }
}

impl Default for QueueCount {
    /// One: the thread that reads it waits for nobody.
    fn default() -> Self {
        Self(Self::MIN)
    }
}

impl FromStr for QueueCount {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let count = text.parse().ok().filter(|count| (Self::MIN..=Self::MAX).contains(count));
        count.map(Self).ok_or(ValueError::Queues)
    }
}

impl fmt::Display for QueueCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Implements what the text types share: `TryFrom<String>` for serde, `Display`, `as_str`.
macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident, $error:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = ValueError;

            fn try_from(text: String) -> Result<Self, ValueError> {
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(ValueError::$error) }
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                text.to_owned().try_into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_value! {
    /// What a node calls itself: one label of a host name (RFC 1123 §2.1), in lower case.
    NodeName, NodeName, |text| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !text.starts_with('-')
            && !text.ends_with('-')
    }
}

text_value! {
    /// The name of the TAP device (`IFNAMSIZ` is 16 with the final zero).
    DeviceName, DeviceName, |text| {
        (1..=15).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && !matches!(text, "." | "..")
    }
}

text_value! {
    /// What `--network` calls a network on this host; it becomes a directory and a socket name, so it has no dot and no slash.
    NetworkAlias, NetworkAlias, |text| {
        (1..=32).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
            && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
    }
}

text_value! {
    /// The file with the access rules: an absolute path, since a daemon has a directory of its own.
    RulesPath, RulesPath, |text| {
        text.starts_with('/')
            && text.len() < 4096
            && !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\'))
    }
}

impl NodeName {
    /// Makes a name of any text, a host name above all: lower case, whatever does not belong becomes `-`, only the first
    /// label is kept. Falls back to `node`.
    pub fn from_hostname(hostname: &str) -> Self {
        let label = hostname.trim().split('.').next().unwrap_or_default();
        let mut text: String = label
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
            .take(63)
            .collect();
        text = text.trim_matches('-').to_owned();
        Self::try_from(text).unwrap_or_else(|_| Self("node".into()))
    }
}

impl Default for DeviceName {
    fn default() -> Self {
        Self("smesh0".into())
    }
}

/// The bridge of this machine that the TAP is put into.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum Bridge {
    /// None: the TAP is an interface of its own.
    #[default]
    None,
    /// The one of this name.
    Named(DeviceName),
}

impl Bridge {
    /// Its name.
    pub const fn name(&self) -> Option<&DeviceName> {
        match self {
            Self::None => None,
            Self::Named(name) => Some(name),
        }
    }
}

impl TryFrom<String> for Bridge {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        if text == "none" { Ok(Self::None) } else { text.try_into().map(Self::Named) }
    }
}

impl FromStr for Bridge {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().map_or("none", DeviceName::as_str))
    }
}

/// An IPv4 address of a host and the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Ipv4Cidr {
    address: Ipv4Addr,
    bits: u8,
}

impl Ipv4Cidr {
    /// A host's address in a network of `bits` prefix bits.
    ///
    /// # Errors
    /// `CidrBits` outside 8..=30, `CidrHost` where the address cannot be a host's.
    pub fn new(address: Ipv4Addr, bits: u8) -> Result<Self, ValueError> {
        if !(8..=30).contains(&bits) {
            return Err(ValueError::CidrBits);
        }
        let host = u32::from(address) & (u32::MAX >> bits);
        let unusable = address.is_loopback()
            || address.is_multicast()
            || address.is_broadcast()
            || address.octets()[0] == 0
            || address.octets()[0] >= 240
            || host == 0
            || host == u32::MAX >> bits;
        if unusable { Err(ValueError::CidrHost(address)) } else { Ok(Self { address, bits }) }
    }

    /// The host's address.
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Length of the prefix, bits.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// The network that it lies in.
    pub fn block(self) -> Option<Block> {
        Block::around(self.address.into(), self.bits)
    }
}

impl TryFrom<String> for Ipv4Cidr {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for Ipv4Cidr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (address, bits) = text.split_once('/').ok_or(ValueError::CidrForm)?;
        if address.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err(ValueError::CidrVersion6);
        }
        let address = address.parse().map_err(|_| ValueError::CidrForm)?;
        Self::new(address, bits.parse().map_err(|_| ValueError::CidrForm)?)
    }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Whether other programs of this machine find members by name, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NamesChoice {
    /// They do not: nothing of how this machine finds names is touched.
    #[default]
    Off,
    /// By systemd-resolved where programs ask it, else by a block in the hosts file.
    On,
    /// By a block in the hosts file in any case.
    Hosts,
}

impl NamesChoice {
    /// What people type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Hosts => "hosts",
        }
    }
}

impl FromStr for NamesChoice {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        [Self::Off, Self::On, Self::Hosts]
            .into_iter()
            .find(|choice| choice.as_str() == text)
            .ok_or(ValueError::Names)
    }
}

impl fmt::Display for NamesChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which cipher this node offers for data (protocol §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CipherChoice {
    /// AES-256-GCM where both ends have AES instructions, else ChaCha20-Poly1305.
    #[default]
    Auto,
    /// Only AES-256-GCM.
    Aes,
    /// Only ChaCha20-Poly1305.
    Chacha,
}

impl CipherChoice {
    /// What people type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Aes => "aes",
            Self::Chacha => "chacha",
        }
    }
}

impl FromStr for CipherChoice {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        [Self::Auto, Self::Aes, Self::Chacha]
            .into_iter()
            .find(|choice| choice.as_str() == text)
            .ok_or(ValueError::Cipher)
    }
}

impl fmt::Display for CipherChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A time span as people write it: `500ms`, `2s`, `15m`, `24h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at_checked(digits).ok_or(ValueError::Span)?;
        let number: u64 = number.parse().map_err(|_| ValueError::Span)?;
        let factor_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(ValueError::Span),
        };
        number.checked_mul(factor_ms).map(|ms| Self(Duration::from_millis(ms))).ok_or(ValueError::Span)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let (factor, unit) = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
            .into_iter()
            .find(|(factor, _)| ms > 0 && ms.is_multiple_of(*factor))
            .unwrap_or((1, "ms"));
        write!(f, "{}{unit}", ms / factor)
    }
}

/// Which sessions are kept when nobody uses them (protocol §4.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SessionsChoice {
    /// All, while there are few members; beyond [`ALL_UP_TO`](shadowmesh_proto::endpoint::demand::ALL_UP_TO) as on demand.
    #[default]
    Auto,
    /// All.
    All,
    /// Those that are used, and a handful for the members' record.
    OnDemand,
}

impl SessionsChoice {
    /// What people type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::All => "all",
            Self::OnDemand => "on-demand",
        }
    }
}

impl From<SessionsChoice> for Keep {
    fn from(choice: SessionsChoice) -> Self {
        match choice {
            SessionsChoice::Auto => Self::Auto,
            SessionsChoice::All => Self::All,
            SessionsChoice::OnDemand => Self::Few,
        }
    }
}

impl FromStr for SessionsChoice {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        [Self::Auto, Self::All, Self::OnDemand]
            .into_iter()
            .find(|choice| choice.as_str() == text)
            .ok_or(ValueError::Sessions)
    }
}

impl fmt::Display for SessionsChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How long a session that is not kept may be of no use before it ends (protocol §4.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct IdleAfter(Duration);

impl IdleAfter {
    /// Shorter than what an answer may take makes no sense; tests use this one.
    pub const MIN: Duration = IDLE_AFTER_MIN;
    /// Whoever wants more wants to keep them all.
    pub const MAX: Duration = Duration::from_secs(24 * 3600);

    /// The time span.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl Default for IdleAfter {
    fn default() -> Self {
        Self(IDLE_AFTER)
    }
}

impl TryFrom<String> for IdleAfter {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for IdleAfter {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Span(span) = text.parse()?;
        if (Self::MIN..=Self::MAX).contains(&span) { Ok(Self(span)) } else { Err(ValueError::IdleAfter) }
    }
}

impl fmt::Display for IdleAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Span(self.0).fmt(f)
    }
}

/// How old a session's keys may become before they are replaced (protocol §4.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct RekeyInterval(Duration);

impl RekeyInterval {
    /// Shorter ones would only serve a denial of service; tests use this one.
    pub const MIN: Duration = Duration::from_secs(2);
    /// WireGuard's, and the protocol's default: longer would weaken forward secrecy.
    pub const MAX: Duration = Duration::from_secs(120);

    /// The time span.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl Default for RekeyInterval {
    fn default() -> Self {
        Self(Self::MAX)
    }
}

impl TryFrom<String> for RekeyInterval {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for RekeyInterval {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Span(span) = text.parse()?;
        if (Self::MIN..=Self::MAX).contains(&span) { Ok(Self(span)) } else { Err(ValueError::RekeyInterval) }
    }
}

impl fmt::Display for RekeyInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Span(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mtu_has_both_ends() {
        assert_eq!("1280".parse(), Ok(Mtu(1280)));
        assert_eq!("9000".parse(), Ok(Mtu(9000)));
        for bad in ["1279", "9001", "-1400", "", "1400B", "99999999999999999999"] {
            assert_eq!(bad.parse::<Mtu>(), Err(ValueError::Mtu), "{bad}");
        }
    }

    #[test]
    fn a_device_has_one_queue_at_least_and_eight_at_most() {
        assert_eq!("1".parse(), Ok(QueueCount::default()));
        assert_eq!("8".parse(), Ok(QueueCount(8)));
        for bad in ["0", "9", "-1", "", "2.0", "two", "256", "99999999999999999999"] {
            assert_eq!(bad.parse::<QueueCount>(), Err(ValueError::Queues), "{bad}");
        }
        assert_eq!(ValueError::Queues.to_string(), "a device may have 1 to 8 queues");
    }

    #[test]
    fn cidr_says_what_is_wrong() {
        let cidr: Ipv4Cidr = "10.7.3.4/16".parse().expect("a host");
        assert_eq!((cidr.address(), cidr.bits()), (Ipv4Addr::new(10, 7, 3, 4), 16));
        for (text, error) in [
            ("10.7.3.4", ValueError::CidrForm),
            ("10.7.3/16", ValueError::CidrForm),
            ("10.7.3.4/x", ValueError::CidrForm),
            ("fd00::1/64", ValueError::CidrVersion6),
            ("10.7.3.4/31", ValueError::CidrBits),
            ("10.7.3.4/7", ValueError::CidrBits),
            ("10.7.0.0/16", ValueError::CidrHost(Ipv4Addr::new(10, 7, 0, 0))),
            ("10.7.255.255/16", ValueError::CidrHost(Ipv4Addr::new(10, 7, 255, 255))),
            ("127.0.0.1/8", ValueError::CidrHost(Ipv4Addr::new(127, 0, 0, 1))),
            ("224.0.0.5/16", ValueError::CidrHost(Ipv4Addr::new(224, 0, 0, 5))),
        ] {
            assert_eq!(text.parse::<Ipv4Cidr>(), Err(error), "{text}");
        }
    }

    #[test]
    fn host_names_become_names() {
        for (host, name) in [
            ("Attic-PC.local", "attic-pc"),
            ("my_box\n", "my-box"),
            ("--", "node"),
            ("", "node"),
            ("ünder", "nder"),
        ] {
            assert_eq!(NodeName::from_hostname(host).as_str(), name, "{host:?}");
        }
    }

    #[test]
    fn a_network_alias_cannot_leave_its_directory() {
        for bad in ["", "..", "a/b", ".lock", "a.b", "-x", "A", &"x".repeat(33)] {
            assert_eq!(bad.parse::<NetworkAlias>(), Err(ValueError::NetworkAlias), "{bad}");
        }
        assert!("home-2_x".parse::<NetworkAlias>().is_ok());
    }

    #[test]
    fn rekey_interval_is_bounded() {
        assert_eq!("2s".parse(), Ok(RekeyInterval(Duration::from_secs(2))));
        assert_eq!("2m".parse(), Ok(RekeyInterval(Duration::from_secs(120))));
        assert_eq!("1999ms".parse::<RekeyInterval>(), Err(ValueError::RekeyInterval));
        assert_eq!("121s".parse::<RekeyInterval>(), Err(ValueError::RekeyInterval));
        assert_eq!("2".parse::<RekeyInterval>(), Err(ValueError::Span));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,70}") {
            if let Ok(value) = text.parse::<Span>() {
                prop_assert_eq!(value.to_string().parse::<Span>(), Ok(value));
            }
            if let Ok(value) = text.parse::<Ipv4Cidr>() {
                prop_assert_eq!(value.to_string().parse::<Ipv4Cidr>(), Ok(value));
            }
            let _ = (text.parse::<Mtu>(), text.parse::<NetworkAlias>(), text.parse::<RekeyInterval>());
            let name = NodeName::from_hostname(&text);
            prop_assert_eq!(name.as_str().parse::<NodeName>(), Ok(name.clone()));
        }

        #[test]
        fn spans_round_trip(ms in 0u64..u64::MAX / 2) {
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }

        #[test]
        fn cidrs_round_trip(address: [u8; 4], bits in 0u8..40) {
            if let Ok(cidr) = Ipv4Cidr::new(address.into(), bits) {
                prop_assert_eq!(cidr.to_string().parse::<Ipv4Cidr>(), Ok(cidr));
            }
        }
    }
}
