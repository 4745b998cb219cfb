//! What `shadowmesh up` remembers, in `config.toml`, and what it amounts to.
//!
//! [`Config`] holds only what somebody chose: flags make one, the file makes one, and the flags laid over the file make the
//! next file. [`Settings`] is that with every default filled in. So a default can change in a later version without a host
//! that never chose being stuck with the old one.
//!
//! A field that is not known is refused with its line and the name that was probably meant: a mistyped `mtuu = 1280` that is
//! silently ignored costs an evening.

mod values;

pub use values::{
    Bridge, CipherChoice, DeviceName, IdleAfter, Ipv4Cidr, Mtu, NamesChoice, NetworkAlias, NodeName,
    RekeyInterval, RulesPath, SessionsChoice, Span, ValueError,
};

pub use crate::switch::{DhcpServers, Filters, FloodBudget};

use crate::switch::{Protection, SwitchConfig};
use serde::Deserialize;
use shadowmesh_proto::endpoint::demand::Sessions;
use shadowmesh_proto::spelling;
use shadowmesh_proto::ticket::{MAX_ENTRIES, RelayTicket, TicketError};
use std::fmt::Write as _;
use std::ops::Range;
use toml::de::DeTable;

/// Why a `config.toml` was refused. `line` counts from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A key that no version up to this one knows.
    #[error("line {line} has the unknown field `{field}`{}", hint(.suggestion))]
    UnknownField {
        /// Where.
        line: usize,
        /// The key as written.
        field: String,
        /// The known key that looks most like it.
        suggestion: Option<&'static str>,
    },
    /// Not TOML, or a value of the wrong kind or range.
    #[error("line {line}: {message}")]
    Value {
        /// Where.
        line: usize,
        /// What is wrong, without the file's text.
        message: String,
    },
}

fn hint(suggestion: &Option<&'static str>) -> String {
    match suggestion {
        Some(name) => format!(", did you mean `{name}`?"),
        None => format!("; known are {}", FIELDS.join(", ")),
    }
}

/// The keys of `config.toml`, in the order they are written.
const FIELDS: [&str; 16] = [
    "relays",
    "name",
    "device",
    "mtu",
    "bridge",
    "address",
    "cipher",
    "port_mapping",
    "filter",
    "allow_dhcp",
    "flood_budget",
    "rules",
    "names",
    "sessions",
    "idle_after",
    "rekey_interval",
];

/// What somebody chose; `None` and empty mean *not chosen*.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Relays beside those that the network itself brought.
    #[serde(deserialize_with = "relay_tickets")]
    pub relays: Vec<RelayTicket>,
    /// What this node calls itself.
    pub name: Option<NodeName>,
    /// Name of the TAP device.
    pub device: Option<DeviceName>,
    /// MTU of the TAP device.
    pub mtu: Option<Mtu>,
    /// The bridge that the TAP is put into.
    pub bridge: Option<Bridge>,
    /// The IPv4 address, instead of the one derived from the key.
    pub address: Option<Ipv4Cidr>,
    /// The cipher.
    pub cipher: Option<CipherChoice>,
    /// Whether the router is asked to forward a port.
    pub port_mapping: Option<bool>,
    /// Which protocols the switch filters.
    pub filter: Option<Filters>,
    /// Whose DHCP answers and router advertisements are let in.
    pub allow_dhcp: Option<DhcpServers>,
    /// How much is flooded to each peer, and taken of each.
    pub flood_budget: Option<FloodBudget>,
    /// The file with the access rules that this node enforces.
    pub rules: Option<RulesPath>,
    /// Whether other programs find members by name.
    pub names: Option<NamesChoice>,
    /// Which sessions are kept when nobody uses them.
    pub sessions: Option<SessionsChoice>,
    /// How long the others may be of no use before they end.
    pub idle_after: Option<IdleAfter>,
    /// How often session keys are replaced.
    pub rekey_interval: Option<RekeyInterval>,
}

impl Config {
    /// Reads the text of a `config.toml`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let refused = |error: toml::de::Error| value_error(text, error.span(), error.message());
        let table = DeTable::parse(text).map_err(refused)?;
        for key in table.get_ref().keys() {
            let field: &str = key.get_ref();
            if !FIELDS.contains(&field) {
                let (line, suggestion) = (line_of(text, key.span().start), spelling::closest(field, FIELDS));
                return Err(ConfigError::UnknownField { line, field: field.to_owned(), suggestion });
            }
        }
        toml::from_str(text).map_err(refused)
    }

    /// The keys that were chosen, in the order they are written.
    pub fn chosen(&self) -> Vec<&'static str> {
        let Self {
            relays,
            name,
            device,
            mtu,
            bridge,
            address,
            cipher,
            port_mapping,
            filter,
            allow_dhcp,
            flood_budget,
            rules,
            names,
            sessions,
            idle_after,
            rekey_interval,
        } = self;
        let are_chosen: [bool; FIELDS.len()] = [
            !relays.is_empty(),
            name.is_some(),
            device.is_some(),
            mtu.is_some(),
            bridge.is_some(),
            address.is_some(),
            cipher.is_some(),
            port_mapping.is_some(),
            filter.is_some(),
            allow_dhcp.is_some(),
            flood_budget.is_some(),
            rules.is_some(),
            names.is_some(),
            sessions.is_some(),
            idle_after.is_some(),
            rekey_interval.is_some(),
        ];
        FIELDS
            .into_iter()
            .zip(are_chosen)
            .filter_map(|(field, is_chosen)| is_chosen.then_some(field))
            .collect()
    }

    /// The text of a `config.toml` that reads back as `self`, with every key explained.
    pub fn to_toml(&self) -> String {
        self.text("# What `shadowmesh up` remembers. It rewrites this file when a flag changes something.\n")
    }

    /// The file for `shadowmesh up --config` in which nothing is chosen and every key is explained.
    pub fn example() -> String {
        Self::default().text(
            "# Settings of this host's member of a ShadowMesh network, read by the service: `shadowmesh up --config` names this file.\n\
             # What is set here wins over what `shadowmesh up` was given and remembers; nothing writes to it. After a change:\n\
             # `sudo systemctl restart shadowmesh`, or `reload` where it says so.\n",
        )
    }

    fn text(&self, heading: &str) -> String {
        let relays = self.relays.iter().map(RelayTicket::to_text).collect::<Vec<_>>();
        let quoted = |value: String| format!("\"{value}\"");
        let lines: [(&str, Option<String>, &str, &str); FIELDS.len()] = [
            (
                "Relays (smr1 tickets) beside those that came with the network.",
                (!relays.is_empty()).then(|| format!("[\n    \"{}\",\n]", relays.join("\",\n    \""))),
                "relays",
                "[\"smr1...\"]",
            ),
            (
                "What this node calls itself.",
                self.name.as_ref().map(|v| quoted(v.to_string())),
                "name",
                "host name",
            ),
            ("The TAP device.", self.device.as_ref().map(|v| quoted(v.to_string())), "device", "\"smesh0\""),
            ("Its MTU, bytes: 1280 to 9000.", self.mtu.map(|v| v.to_string()), "mtu", "1400"),
            (
                "The bridge of this host that it is put into, or none. Its MTU is 1500 then, unless said otherwise.",
                self.bridge.as_ref().map(|v| quoted(v.to_string())),
                "bridge",
                "\"none\"",
            ),
            (
                "The IPv4 address, instead of one derived from the key.",
                self.address.map(|v| quoted(v.to_string())),
                "address",
                "\"10.7.3.4/16\"",
            ),
            ("auto, aes or chacha.", self.cipher.map(|v| quoted(v.to_string())), "cipher", "\"auto\""),
            (
                "Whether the router is asked to forward a port (PCP, NAT-PMP, UPnP).",
                self.port_mapping.map(|v| v.to_string()),
                "port_mapping",
                "true",
            ),
            (
                "Which protocols are kept out: all, none, or some of bpdu, lldp, cdp, dhcp and ra with commas between.",
                self.filter.map(|v| quoted(v.to_string())),
                "filter",
                "\"all\"",
            ),
            (
                "Whose DHCP answers and router advertisements are let in nevertheless, and whose questions about groups count: any, none, or ids.",
                self.allow_dhcp.as_ref().map(|v| quoted(v.to_string())),
                "allow_dhcp",
                "\"none\"",
            ),
            (
                "Broadcast, multicast and frames for unknown stations to each peer, and of each, per second: 64kbit to 10gbit, or none.",
                self.flood_budget.map(|v| quoted(v.to_string())),
                "flood_budget",
                "\"1mbit\"",
            ),
            (
                "Access rules: who may send what to this node. Read at the start and by `shadowmesh reload`; without, all is allowed.",
                self.rules.as_ref().map(|v| quoted(v.to_string())),
                "rules",
                "\"/etc/shadowmesh/rules\"",
            ),
            (
                "Whether `ping b` and `ssh b.NETWORK.internal` work here: off, on (by systemd-resolved, else a block in /etc/hosts), or hosts (the block in any case). Read at the start and by `shadowmesh reload`.",
                self.names.map(|v| quoted(v.to_string())),
                "names",
                "\"off\"",
            ),
            (
                "Which sessions with other members are kept though nobody uses them: all; on-demand (those that are used, and a handful for news of members: the first frame begins another, through the relay); or auto (all, up to 32 members, and at an admin's host however many).",
                self.sessions.map(|v| quoted(v.to_string())),
                "sessions",
                "\"auto\"",
            ),
            (
                "How long a session that is not kept may be of no use before it ends: 2s to 24h.",
                self.idle_after.map(|v| quoted(v.to_string())),
                "idle_after",
                "\"5m\"",
            ),
            (
                "How often session keys are replaced: 2s to 120s. Shorter than 120s is meant for tests.",
                self.rekey_interval.map(|v| quoted(v.to_string())),
                "rekey_interval",
                "\"120s\"",
            ),
        ];
        let mut text = heading.to_owned();
        for (about, value, key, example) in lines {
            // Writing to a String does not fail.
            let _ = match value {
                Some(value) => write!(text, "\n# {about}\n{key} = {value}\n"),
                None => write!(text, "\n# {about}\n# {key} = {example}\n"),
            };
        }
        text
    }

    /// `newer` laid over `self`: what it chose wins, relays add up and a later ticket replaces the earlier of the same key.
    #[must_use]
    pub fn overlaid_with(self, newer: Self) -> Self {
        Self {
            relays: union_of_relays(&self.relays, &newer.relays),
            name: newer.name.or(self.name),
            device: newer.device.or(self.device),
            mtu: newer.mtu.or(self.mtu),
            bridge: newer.bridge.or(self.bridge),
            address: newer.address.or(self.address),
            cipher: newer.cipher.or(self.cipher),
            port_mapping: newer.port_mapping.or(self.port_mapping),
            filter: newer.filter.or(self.filter),
            allow_dhcp: newer.allow_dhcp.or(self.allow_dhcp),
            flood_budget: newer.flood_budget.or(self.flood_budget),
            rules: newer.rules.or(self.rules),
            names: newer.names.or(self.names),
            sessions: newer.sessions.or(self.sessions),
            idle_after: newer.idle_after.or(self.idle_after),
            rekey_interval: newer.rekey_interval.or(self.rekey_interval),
        }
    }
}

/// What a daemon runs with: every choice made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What this node calls itself.
    pub name: NodeName,
    /// Name of the TAP device.
    pub device: DeviceName,
    /// MTU of the TAP device.
    pub mtu: Mtu,
    /// The bridge that the TAP is put into.
    pub bridge: Bridge,
    /// The IPv4 address to keep, if it is not to be derived (protocol §1.5).
    pub address: Option<Ipv4Cidr>,
    /// The cipher.
    pub cipher: CipherChoice,
    /// Whether the router is asked to forward a port.
    pub port_mapping: bool,
    /// Which protocols the switch filters.
    pub filter: Filters,
    /// Whose DHCP answers and router advertisements are let in.
    pub allow_dhcp: DhcpServers,
    /// How much is flooded to each peer, and taken of each.
    pub flood_budget: FloodBudget,
    /// Whether other programs find members by name.
    pub names: NamesChoice,
    /// Which sessions are kept when nobody uses them.
    pub sessions: SessionsChoice,
    /// How long the others may be of no use before they end.
    pub idle_after: IdleAfter,
    /// How often session keys are replaced.
    pub rekey_interval: RekeyInterval,
}

impl Settings {
    /// Fills the gaps of `config`; the host's name stands in for a name that was not chosen.
    pub fn new(config: &Config, hostname: &str) -> Self {
        let bridge = config.bridge.clone().unwrap_or_default();
        Self {
            name: config.name.clone().unwrap_or_else(|| NodeName::from_hostname(hostname)),
            device: config.device.clone().unwrap_or_default(),
            mtu: config
                .mtu
                .unwrap_or_else(|| if bridge == Bridge::None { Mtu::default() } else { Mtu::BRIDGED }),
            bridge,
            address: config.address,
            cipher: config.cipher.unwrap_or_default(),
            port_mapping: config.port_mapping.unwrap_or(true),
            filter: config.filter.unwrap_or_default(),
            allow_dhcp: config.allow_dhcp.clone().unwrap_or_default(),
            flood_budget: config.flood_budget.unwrap_or_default(),
            names: config.names.unwrap_or_default(),
            sessions: config.sessions.unwrap_or_default(),
            idle_after: config.idle_after.unwrap_or_default(),
            rekey_interval: config.rekey_interval.unwrap_or_default(),
        }
    }

    /// What becomes of sessions that nobody uses.
    pub fn sessions(&self) -> Sessions {
        Sessions { keep: self.sessions.into(), idle_after: self.idle_after.duration() }
    }

    /// What the switch goes by.
    pub fn switch(&self) -> SwitchConfig {
        let protection = Protection { filters: self.filter, flood_budget: self.flood_budget };
        SwitchConfig { protection, dhcp_servers: self.allow_dhcp.clone() }
    }
}

/// The relays of `first`, then those of `second`; where both name a key, the ticket of `second` stands in its place.
pub fn union_of_relays(first: &[RelayTicket], second: &[RelayTicket]) -> Vec<RelayTicket> {
    let mut all: Vec<RelayTicket> = Vec::new();
    for ticket in first.iter().chain(second) {
        match all.iter_mut().find(|known| known.key == ticket.key) {
            Some(known) => known.clone_from(ticket),
            None => all.push(ticket.clone()),
        }
    }
    all
}

/// The relays that a host uses, at most [`MAX_ENTRIES`], and how many are left out: those of the network and its `own`, which come first
/// where there are too many.
pub fn relays_in_use(network: &[RelayTicket], own: &[RelayTicket]) -> (Vec<RelayTicket>, usize) {
    let mut relays = union_of_relays(network, own);
    if relays.len() <= MAX_ENTRIES {
        return (relays, 0);
    }
    relays = union_of_relays(own, network);
    let left_out = relays.split_off(MAX_ENTRIES).len();
    (relays, left_out)
}

fn relay_tickets<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<RelayTicket>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| remembered_relay(text).map_err(serde::de::Error::custom)).collect()
}

/// Reads a ticket that was accepted earlier: its expiry concerned that moment only.
pub(crate) fn remembered_relay(text: &str) -> Result<RelayTicket, TicketError> {
    RelayTicket::recall(text)
}

fn value_error(text: &str, span: Option<Range<usize>>, message: &str) -> ConfigError {
    let line = span.map_or(1, |span| line_of(text, span.start));
    ConfigError::Value { line, message: message.split_whitespace().collect::<Vec<_>>().join(" ") }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shadowmesh_proto::ids::RelayId;

    fn relay(key: u8, address: &str) -> RelayTicket {
        RelayTicket { key: RelayId([key; 32]), addresses: vec![address.into()], expires: Some(1) }
    }

    #[test]
    fn the_example_that_is_installed_is_this_one_and_each_of_its_lines_can_be_used() {
        let example = Config::example();
        let installed = include_str!("../../deploy/etc/shadowmesh/config.toml");
        assert_eq!(installed, example, "deploy/etc/shadowmesh/config.toml is not Config::example()");
        assert_eq!(Config::parse(&example), Ok(Config::default()));
        // A ticket and a host's name stand for those of people.
        let ticket = relay(1, "192.0.2.1:1").to_text();
        let mut used = 0;
        for line in example.lines() {
            let Some(line) = FIELDS.iter().find_map(|field| {
                line.strip_prefix("# ").filter(|line| line.starts_with(&format!("{field} = ")))
            }) else {
                continue;
            };
            let line = line.replace("smr1...", &ticket).replace("host name", "\"a\"");
            let field = line.split(" = ").next().expect("a key");
            let config = Config::parse(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(config.chosen(), [field], "{line}");
            used += 1;
        }
        assert_eq!(used, FIELDS.len());
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line_and_the_likely_one() {
        let error = Config::parse("# comment\nname = \"a\"\nmtuu = 1400\n").expect_err("refused");
        assert_eq!(error.to_string(), "line 3 has the unknown field `mtuu`, did you mean `mtu`?");
        let error = Config::parse("[colour]\nx = 1\n").expect_err("refused");
        assert_eq!(error.to_string().split(';').next(), Some("line 1 has the unknown field `colour`"));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        let error = Config::parse("name = \"a\"\nmtu = 12\n").expect_err("refused");
        assert_eq!(error.to_string(), "line 2: the MTU must be a whole number from 1280 to 9000, in bytes");
        let error = Config::parse("\n\nrelays = [\"smr1xx\"]\n").expect_err("refused");
        assert!(error.to_string().starts_with("line 3: the ticket is damaged"), "{error}");
        assert!(matches!(
            Config::parse("name = \"a").expect_err("refused"),
            ConfigError::Value { line: 1, .. }
        ));
    }

    #[test]
    fn newer_choices_win_and_relays_add_up() {
        let file = Config {
            relays: vec![relay(1, "a:1"), relay(2, "b:1")],
            mtu: "1300".parse().ok(),
            ..Config::default()
        };
        let flags = Config {
            relays: vec![relay(2, "c:1"), relay(3, "d:1")],
            name: "x".parse().ok(),
            ..Config::default()
        };
        let both = file.overlaid_with(flags);
        assert_eq!(both.relays, [relay(1, "a:1"), relay(2, "c:1"), relay(3, "d:1")]);
        assert_eq!(
            (both.mtu.map(Mtu::bytes), both.name.as_ref().map(NodeName::as_str)),
            (Some(1300), Some("x"))
        );
    }

    #[test]
    fn an_expired_relay_that_was_accepted_once_is_still_read() {
        let config = Config { relays: vec![relay(1, "a:1")], ..Config::default() };
        assert_eq!(Config::parse(&config.to_toml()), Ok(config));
    }

    #[test]
    fn in_a_bridge_the_mtu_is_that_of_its_lan_unless_said_otherwise_and_none_ends_it() {
        let read = |text: &str| Config::parse(text).expect("good");
        let mtu = |config: &Config| Settings::new(config, "h").mtu.bytes();
        let bridged = read("bridge = \"br0\"");
        assert_eq!((mtu(&bridged), mtu(&read("bridge = \"br0\"\nmtu = 1300"))), (1500, 1300));
        let ended = bridged.overlaid_with(Config { bridge: Some(Bridge::None), ..Config::default() });
        assert_eq!((mtu(&ended), Settings::new(&ended, "h").bridge.name()), (1400, None));
        assert!(Config::parse("bridge = \"a b\"").is_err());
    }

    #[test]
    fn every_field_is_explained_in_the_file() {
        let text = Config::default().to_toml();
        for field in FIELDS {
            assert!(text.contains(&format!("\n# {field} = ")), "{field}");
        }
    }

    fn config() -> impl Strategy<Value = Config> {
        let texts = (
            proptest::option::of("[a-z0-9]{1,63}"),
            (proptest::option::of("[A-Za-z0-9_-]{1,15}"), proptest::option::of("none|br[0-9]")),
            proptest::option::of(1280i64..=9000),
            proptest::option::of((1u8..100, 0u8..255, 1u8..255)),
            proptest::option::of(0usize..3),
            (
                proptest::option::of(2u64..=120),
                proptest::option::of(any::<bool>()),
                proptest::option::of(prop_oneof![Just("off"), Just("on"), Just("hosts")]),
                proptest::option::of(prop_oneof![Just("auto"), Just("all"), Just("on-demand")]),
                proptest::option::of(2u64..=86_400),
            ),
            proptest::option::of("/[ -~\u{e4}]{0,40}"),
            (
                proptest::option::of(prop_oneof![Just("all"), Just("none"), Just("dhcp,ra"), Just("bpdu")]),
                proptest::option::of(prop_oneof![Just("any"), Just("none"), Just("abcdefghij,kkkkkkkkkk2")]),
                proptest::option::of(prop_oneof![
                    Just("none"),
                    Just("64kbit"),
                    Just("1mbit"),
                    Just("10gbit")
                ]),
            ),
            proptest::collection::vec(any::<u8>(), 0..4),
        );
        texts.prop_map(
            |(
                name,
                (device, bridge),
                mtu,
                address,
                cipher,
                (rekey, port_mapping, names, sessions, idle),
                rules,
                switch,
                relays,
            )| {
                Config {
                    relays: union_of_relays(
                        &[],
                        &relays.into_iter().map(|key| relay(key, "h:1")).collect::<Vec<_>>(),
                    ),
                    name: name.and_then(|text| text.parse().ok()),
                    device: device.and_then(|text| text.parse().ok()),
                    mtu: mtu.and_then(|bytes| bytes.try_into().ok()),
                    bridge: bridge.and_then(|text| text.parse().ok()),
                    address: address.and_then(|(a, b, c)| Ipv4Cidr::new([a, b, 0, c].into(), 24).ok()),
                    cipher: cipher.map(|n| [CipherChoice::Auto, CipherChoice::Aes, CipherChoice::Chacha][n]),
                    port_mapping,
                    filter: switch.0.and_then(|text| text.parse().ok()),
                    allow_dhcp: switch.1.and_then(|text| text.parse().ok()),
                    flood_budget: switch.2.and_then(|text| text.parse().ok()),
                    rules: rules.and_then(|path| path.parse().ok()),
                    names: names.and_then(|text| text.parse().ok()),
                    sessions: sessions.and_then(|text| text.parse().ok()),
                    idle_after: idle.and_then(|s| format!("{s}s").parse().ok()),
                    rekey_interval: rekey.and_then(|s| format!("{s}s").parse().ok()),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(config in config()) {
            prop_assert_eq!(Config::parse(&config.to_toml()), Ok(config));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|\n){0,200}") {
            if let Err(error) = Config::parse(&text) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
