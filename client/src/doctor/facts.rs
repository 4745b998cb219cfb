//! What is known of this machine, its daemon and its relays at one moment: plain data, gathered by [`super::gather`](mod@super::gather), judged by
//! [`super::checks`]. Nothing here is a secret.
//!
//! `Option` is what could not be found out, for lack of rights or because this kernel has no such thing; a decider that needs it says so.

use crate::config::ConfigError;
use crate::control::message::{Members, Netcheck};
use crate::control::status::Status;
use crate::net::Cidr;
use crate::net::interfaces::Interface;
use crate::net::routes::Route;
use std::net::IpAddr;
use std::path::PathBuf;

/// Everything.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) caller: Caller,
    pub(crate) call: Call,
    /// Seconds since 1970 by this machine's clock.
    pub(crate) now: u64,
    /// Of this program.
    pub(crate) version: &'static str,
    pub(crate) daemon: Daemon,
    /// Other daemons in this network namespace.
    pub(crate) others: Vec<OtherDaemon>,
    pub(crate) state: State,
    pub(crate) tun: Tun,
    pub(crate) kernel: Kernel,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) routes: Vec<Route>,
    /// The daemon's device, where it is one of this machine.
    pub(crate) device: Option<Link>,
    pub(crate) relays: Vec<RelayReach>,
    /// Whether there is a name server in resolv.conf; `None` where that cannot be read.
    pub(crate) has_name_server: Option<bool>,
    /// systemd-resolved runs.
    pub(crate) has_resolved: bool,
    /// The daemon that is meant is a service of this machine (`shadowmesh install`), and systemd runs.
    pub(crate) has_service: bool,
    /// The file of settings that the daemon reads beside what it remembers (`up --config`), or the service would.
    pub(crate) settings: Option<SettingsFile>,
    pub(crate) hosts: Hosts,
    /// `nft --json list ruleset`; `None` without nft or without rights.
    pub(crate) ruleset: Option<serde_json::Value>,
}

/// Who runs this program.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    pub(crate) is_root: bool,
    /// `CAP_NET_ADMIN` is in the effective set.
    pub(crate) net_admin: bool,
}

/// How a command reaches the same daemon and state: options that are not the default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    pub(crate) options: Vec<String>,
    pub(crate) state: PathBuf,
    pub(crate) socket: PathBuf,
}

/// What answers on the control socket.
#[derive(Debug, Clone)]
pub(crate) enum Daemon {
    /// Nobody.
    None,
    /// This user may not ask.
    KeptOut,
    /// It does not answer.
    Silent { process: Option<Process> },
    /// It speaks of things that this program does not know.
    NotUnderstood { process: Option<Process> },
    /// It answers.
    Runs(Box<Running>),
}

impl Daemon {
    pub(crate) const fn running(&self) -> Option<&Running> {
        if let Self::Runs(running) = self { Some(running) } else { None }
    }

    /// Whose socket it is, whether it answers or not; `None` where it is in a namespace that this one does not see.
    pub(crate) fn process(&self) -> Option<&Process> {
        match self {
            Self::None | Self::KeptOut => None,
            Self::Silent { process } | Self::NotUnderstood { process } => process.as_ref(),
            Self::Runs(running) => running.process.as_ref(),
        }
    }
}

/// A daemon that answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running {
    pub(crate) status: Status,
    pub(crate) netcheck: Option<Netcheck>,
    /// `None` in a network without certificates.
    pub(crate) members: Option<Members>,
    pub(crate) process: Option<Process>,
    /// Frames that its access rules dropped while it was looked at, for [`WATCHED`](super::gather::WATCHED).
    pub(crate) denied: u64,
}

/// A process of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// It is a service of systemd: the unit.
    pub(crate) unit: Option<String>,
    /// It has root's files; `None` where that cannot be seen.
    pub(crate) is_root: Option<bool>,
    /// The file of settings that it was told to read (`--config`).
    pub(crate) config: Option<PathBuf>,
    /// Its program was replaced or removed since it started; `None` without rights.
    pub(crate) is_replaced: Option<bool>,
    /// Its limit on open files, how far that may be raised, and how many it has open.
    pub(crate) max_files: Option<u64>,
    pub(crate) hard_max_files: Option<u64>,
    pub(crate) open_files: Option<u64>,
}

/// Another daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherDaemon {
    pub(crate) pid: i32,
    pub(crate) state: PathBuf,
    /// Its network is ours.
    pub(crate) same_network: bool,
}

/// The state directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) access: Access,
    /// Files that others than their owner may read, write or search.
    pub(crate) exposed: Vec<PathBuf>,
    /// Bytes free for this user, and inodes; `None` where there is no directory.
    pub(crate) free_bytes: Option<u64>,
    pub(crate) free_files: Option<u64>,
    pub(crate) is_read_only: bool,
    /// The file system that it is on.
    pub(crate) mount: Option<PathBuf>,
    /// A log of ours in it, bytes.
    pub(crate) log_bytes: u64,
    /// The journal is on the same file system.
    pub(crate) has_journal: bool,
    /// The latest time at which something in it was written, seconds since 1970.
    pub(crate) newest: Option<u64>,
    /// What is wrong with config.toml.
    pub(crate) config: Option<ConfigError>,
    /// What is wrong with anything else in it.
    pub(crate) damage: Option<Damage>,
    /// It has a newer layout than this program knows.
    pub(crate) is_newer: bool,
    /// The time of day that the daemon saw last, seconds since 1970.
    pub(crate) clock_seen: Option<u64>,
    /// This host is in a network.
    pub(crate) has_network: bool,
    /// The key of an admin is on it, which no line may make anybody lose.
    pub(crate) has_admin_key: bool,
    /// The router is not to be asked for a port.
    pub(crate) no_port_mapping: bool,
    /// Addresses that this node would have where no daemon runs.
    pub(crate) own: Vec<Cidr>,
    /// The process that has its lock, if another than the daemon on the socket.
    pub(crate) locked_by: Option<Process>,
    /// The sentence with which the daemon before failed, from its log.
    pub(crate) last_words: Option<String>,
}

/// A file of settings that people keep (`up --config`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SettingsFile {
    pub(crate) path: PathBuf,
    /// The keys that it sets: they win over what `up` is given and remembers.
    pub(crate) sets: Vec<&'static str>,
    pub(crate) fault: Option<SettingsFault>,
}

/// Why a daemon cannot start with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SettingsFault {
    /// It is not there.
    Missing,
    /// Not with this user's rights, which says nothing of the daemon's.
    Denied,
    /// These, the file or its directory, are for root alone, and the service is of a user of its own.
    RootsAlone(Vec<PathBuf>),
    /// What the system said of it, for people.
    NotReadable(String),
    /// A line in it is wrong.
    Faulty(ConfigError),
}

/// A file of the state directory that does not read as what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Its name; `None` where it is about all of the directory.
    pub(crate) file: Option<String>,
    /// What is wrong, for people.
    pub(crate) sentence: String,
}

/// What the hosts file has of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    pub(crate) path: PathBuf,
    pub(crate) block: Block,
}

/// The block of this node in the hosts file ([`crate::names::block`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Block {
    /// It is not known which node this is, or the file cannot be read.
    #[default]
    Unknown,
    /// There is no such file.
    NoFile,
    /// There is none.
    None,
    /// There is one.
    Whole,
    /// There is part of one, at this line.
    Part { line: usize },
}

/// Whether the state could be looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is not there.
    #[default]
    Missing,
    /// Not with this user's rights.
    Denied,
    /// It could.
    Read,
}

/// `/dev/net/tun`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Tun {
    /// It opens.
    #[default]
    Opens,
    /// It is not there. Whether the kernel has the driver.
    Missing { has_driver: bool },
    /// Something else has its name.
    NotTheDevice,
    /// There is no driver behind it.
    NoDriver,
    /// Root may not open it.
    Denied,
    /// This user may not, which says nothing of root.
    NotMine,
}

/// Settings and counts of the kernel; `None` where it has no such thing here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kernel {
    pub(crate) rmem_max: Option<u64>,
    pub(crate) wmem_max: Option<u64>,
    pub(crate) conntrack_count: Option<u64>,
    pub(crate) conntrack_max: Option<u64>,
    /// Whether bridged IPv4 frames go through the machine's firewall.
    pub(crate) bridge_nf: Option<bool>,
    /// IPv6 is switched off for all devices, or for new ones.
    pub(crate) ipv6_off: Option<bool>,
    /// Interfaces by which packets leave, and their effective `rp_filter`.
    pub(crate) uplinks: Vec<(String, u8)>,
    /// Interfaces that somebody set down, or never up.
    pub(crate) down: Vec<String>,
}

/// The daemon's device as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) is_up: bool,
    pub(crate) mtu: u32,
    /// Its addresses, or those of the bridge that it is a port of.
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) bridge: Option<String>,
    pub(crate) ipv6_off: Option<bool>,
}

/// A relay seen from here, past the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelayReach {
    pub(crate) addresses: Vec<AddressReach>,
}

/// One address of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressReach {
    /// `host:port`.
    pub(crate) text: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The numbers behind it; empty where the name means nothing here.
    pub(crate) numbers: Vec<IpAddr>,
    pub(crate) tcp: Tcp,
    /// The proxy by which it is reached, where there is one.
    pub(crate) proxy: Option<ProxyReach>,
}

/// The HTTP proxy before an address of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProxyReach {
    /// `host:port`.
    pub(crate) at: String,
    /// Why it does not lead to the relay: the end of a sentence that begins with it.
    pub(crate) fault: Option<String>,
    /// What is lacking is the user and password, which this user may not know.
    pub(crate) wants_user: bool,
}

/// How a TCP connection to an address went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tcp {
    /// It stands.
    Open,
    /// The proxy before it does not lead there.
    NotLed,
    /// The host says that nobody listens.
    Refused,
    /// There is no way there.
    Unreachable,
    /// Nothing came back.
    Silent,
    /// Its name has no number.
    Unresolved,
}
