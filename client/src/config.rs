//! What `shadowmesh up` remembers, in `config.toml`, and what it amounts to.
//!
//! [`Config`] holds only what somebody chose: flags make one, the file makes one, and the flags laid over the file make the
//! next file. [`Settings`] is that with every default filled in. So a default can change in a later version without a host
//! that never chose being stuck with the old one.
//!
//! - [`keys`]: each key and what there is to say of it. `text`: the file, read and written. `fault`: what is wrong with one.
//! - `values`: what people type, each a type that cannot hold a wrong one. `proxy` and `no_proxy`: by which HTTP proxy which relay is reached.
//!
//! A field that is not known is refused with its place and the name that was probably meant: a mistyped `mtuu = 1280` that is
//! silently ignored costs an evening.

mod fault;
pub mod keys;
mod no_proxy;
mod proxy;
mod text;
mod values;

pub use values::{
    Bridge, CipherChoice, DeviceName, IdleAfter, Ipv4Cidr, Mtu, NamesChoice, NetworkAlias, NodeName,
    QueueCount, RekeyInterval, RulesPath, SessionsChoice, Span, ValueError,
};

pub use proxy::{ProxyChoice, ProxyRule, ProxyUrl};

pub use crate::switch::{DhcpServers, Filters, FloodBudget};

pub use fault::{ConfigError, Fault, What};
pub use keys::Key;

use crate::switch::{Protection, SwitchConfig};
use shadowmesh_proto::endpoint::demand::Sessions;
use shadowmesh_proto::ticket::{MAX_ENTRIES, RelayTicket, TicketError};

/// What somebody chose; `None` and empty mean *not chosen*.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Relays beside those that the network itself brought.
    pub relays: Vec<RelayTicket>,
    /// The proxy by which they are reached.
    pub proxy: Option<ProxyChoice>,
    /// What this node calls itself.
    pub name: Option<NodeName>,
    /// Name of the TAP device.
    pub device: Option<DeviceName>,
    /// MTU of the TAP device.
    pub mtu: Option<Mtu>,
    /// Queues of the TAP device.
    pub queues: Option<QueueCount>,
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
    /// `newer` laid over `self`: what it chose wins, relays add up and a later ticket replaces the earlier of the same key.
    #[must_use]
    pub fn overlaid_with(self, newer: Self) -> Self {
        Self {
            relays: union_of_relays(&self.relays, &newer.relays),
            proxy: newer.proxy.or(self.proxy),
            name: newer.name.or(self.name),
            device: newer.device.or(self.device),
            mtu: newer.mtu.or(self.mtu),
            queues: newer.queues.or(self.queues),
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

impl Config {
    /// What others may read of it: no password.
    #[must_use]
    pub fn without_secrets(self) -> Self {
        Self { proxy: self.proxy.map(ProxyChoice::without_user), ..self }
    }
}

/// What a daemon runs with: every choice made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Relays beside those that the network itself brought.
    pub relays: Vec<RelayTicket>,
    /// The proxy by which they are reached, if somebody chose.
    pub proxy: Option<ProxyChoice>,
    /// What this node calls itself.
    pub name: NodeName,
    /// Name of the TAP device.
    pub device: DeviceName,
    /// MTU of the TAP device.
    pub mtu: Mtu,
    /// Queues of the TAP device.
    pub queues: QueueCount,
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
    /// The file with the access rules that this node enforces.
    pub rules: Option<RulesPath>,
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
            relays: config.relays.clone(),
            proxy: config.proxy.clone(),
            name: config.name.clone().unwrap_or_else(|| NodeName::from_hostname(hostname)),
            device: config.device.clone().unwrap_or_default(),
            mtu: config
                .mtu
                .unwrap_or_else(|| if bridge == Bridge::None { Mtu::default() } else { Mtu::BRIDGED }),
            queues: config.queues.unwrap_or_default(),
            bridge,
            address: config.address,
            cipher: config.cipher.unwrap_or_default(),
            port_mapping: config.port_mapping.unwrap_or(true),
            filter: config.filter.unwrap_or_default(),
            allow_dhcp: config.allow_dhcp.clone().unwrap_or_default(),
            flood_budget: config.flood_budget.unwrap_or_default(),
            rules: config.rules.clone(),
            names: config.names.unwrap_or_default(),
            sessions: config.sessions.unwrap_or_default(),
            idle_after: config.idle_after.unwrap_or_default(),
            rekey_interval: config.rekey_interval.unwrap_or_default(),
        }
    }

    /// Whether `other` says otherwise of a key.
    pub fn differs(&self, other: &Self, key: Key) -> bool {
        match key {
            Key::Relays => self.relays != other.relays,
            Key::Proxy => self.proxy != other.proxy,
            Key::Name => self.name != other.name,
            Key::Device => self.device != other.device,
            Key::Mtu => self.mtu != other.mtu,
            Key::Queues => self.queues != other.queues,
            Key::Bridge => self.bridge != other.bridge,
            Key::Address => self.address != other.address,
            Key::Cipher => self.cipher != other.cipher,
            Key::PortMapping => self.port_mapping != other.port_mapping,
            Key::Filter => self.filter != other.filter,
            Key::AllowDhcp => self.allow_dhcp != other.allow_dhcp,
            Key::FloodBudget => self.flood_budget != other.flood_budget,
            Key::Rules => self.rules != other.rules,
            Key::Names => self.names != other.names,
            Key::Sessions => self.sessions != other.sessions,
            Key::IdleAfter => self.idle_after != other.idle_after,
            Key::RekeyInterval => self.rekey_interval != other.rekey_interval,
        }
    }

    /// What a key is, for people.
    pub fn shown(&self, key: Key) -> String {
        let relays = || self.relays.iter().filter_map(|relay| relay.addresses.first());
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        match key {
            Key::Relays if self.relays.is_empty() => "none".to_owned(),
            Key::Relays => relays().map(String::as_str).collect::<Vec<_>>().join(", "),
            // Not what is in the file: that may have a password.
            Key::Proxy => or_none(self.proxy.as_ref().map(ProxyChoice::shown)),
            Key::Name => self.name.to_string(),
            Key::Device => self.device.to_string(),
            Key::Mtu => self.mtu.to_string(),
            Key::Queues => self.queues.to_string(),
            Key::Bridge => self.bridge.to_string(),
            Key::Address => or_none(self.address.map(|address| address.to_string())),
            Key::Cipher => self.cipher.to_string(),
            Key::PortMapping => self.port_mapping.to_string(),
            Key::Filter => self.filter.to_string(),
            Key::AllowDhcp => self.allow_dhcp.to_string(),
            Key::FloodBudget => self.flood_budget.to_string(),
            Key::Rules => or_none(self.rules.as_ref().map(ToString::to_string)),
            Key::Names => self.names.to_string(),
            Key::Sessions => self.sessions.to_string(),
            Key::IdleAfter => self.idle_after.to_string(),
            Key::RekeyInterval => self.rekey_interval.to_string(),
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

/// Reads a ticket that was accepted earlier: its expiry concerned that moment only.
pub(crate) fn remembered_relay(text: &str) -> Result<RelayTicket, TicketError> {
    RelayTicket::recall(text)
}

#[cfg(test)]
mod tests;
