//! Names of members for the programs of this machine: `ping b`, `ssh b.NETWORK.internal`.
//!
//! # What it does
//!
//! Only where somebody asks for it (`up --names on`, `names` in `config.toml`): whatever changes how a machine finds names is
//! the machine's own. Then each member has the name `LABEL.NETWORK.internal`, and `LABEL` alone where this host has no such name
//! itself. (`internal` is reserved for private use by ICANN's resolution 2024.07.29.06, so that no name of the internet is there.)
//!
//! - [`label`] (pure): what may be a name at all, and what a network is called.
//! - [`book`] (pure): who has which name, from whom the event loop knows.
//! - [`block`] (pure): the block in a hosts file; [`hosts`]: that file, with its lock.
//! - [`responder`]: a DNS server on the loopback interface that knows this book and nothing else; [`resolved`]: how
//!   systemd-resolved is told of it.
//! - [`service`]: one task that serves the newest book by one of the two ways, and takes everything back at the end.
//!
//! # Life
//!
//! The daemon starts the [`Names`] in any case. They first take out the block that an earlier daemon of this node left behind when it
//! was killed. Where names are wanted they claim the network's label on this machine, take systemd-resolved where it
//! answers this machine's programs and the block in `/etc/hosts` else, and follow each new book. When the daemon ends, the block is
//! taken out, or systemd-resolved told to forget; of that it forgets everything anyway when the device goes. `shadowmesh down`
//! takes out a block as well that a dead daemon left ([`sweep`]).
//!
//! # Invariants
//!
//! - Off by default, and while it is off nothing is touched but a block that this node left.
//! - Nothing outside of this node's own block is ever changed, byte for byte; a block that has no end is left as it is.
//! - Names from members are hostile input: only labels (RFC 1123 §2.1) in lower case, none that mean something on a machine
//!   ([`label::Unfit::Reserved`]), none that this host has itself, and at most [`book::MAX_NAMES`]. No member can have a name
//!   with a dot but in `NETWORK.internal`.
//! - Addresses are those that the switch takes for the member's, so a name leads to a member or nowhere.
//! - A block is known by the node's id: that is another in each state directory, stays when the network's secret is rotated,
//!   and is there when the network was left. Its first line says the network's name as well, for people.
//! - Failures are said, counted and shown by `status`, and end nothing.

pub mod block;
pub mod book;
pub mod hosts;
pub mod label;
pub mod resolved;
pub mod responder;
pub mod service;

pub use service::{Identity, Names};

use hosts::{HostsError, HostsFile};
use shadowmesh_proto::ids::NodeId;
use std::path::PathBuf;

/// Where on this machine names are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The hosts file (hosts(5)).
    pub hosts: PathBuf,
    /// Which name servers programs ask (resolv.conf(5)).
    pub resolv_conf: PathBuf,
    /// Which ways programs take to find a host (nsswitch.conf(5)).
    pub nsswitch: PathBuf,
    /// The directory that systemd-resolved makes when it starts.
    pub resolved: PathBuf,
    /// The program that speaks to systemd-resolved; looked for in `PATH`.
    pub resolvectl: PathBuf,
    /// What this machine is called.
    pub hostname: PathBuf,
    /// What the names of the sockets begin with by which daemons of one machine claim a network's label.
    pub claims: String,
}

impl Places {
    /// Those of every Linux.
    pub fn system() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            nsswitch: "/etc/nsswitch.conf".into(),
            resolved: "/run/systemd/resolve".into(),
            resolvectl: "resolvectl".into(),
            hostname: "/proc/sys/kernel/hostname".into(),
            claims: "shadowmesh/names".into(),
        }
    }

    /// Those of a machine of which nothing lies outside of `home`.
    #[cfg(test)]
    pub(crate) fn under(home: &std::path::Path) -> Self {
        Self {
            hosts: home.join("hosts"),
            resolv_conf: home.join("resolv.conf"),
            nsswitch: home.join("nsswitch.conf"),
            resolved: home.join("resolved"),
            resolvectl: home.join("resolvectl"),
            hostname: home.join("hostname"),
            claims: home.display().to_string(),
        }
    }
}

/// Takes out the block that a daemon of this node left behind; `false` where there is none. The caller knows that no daemon runs.
///
/// # Errors
/// See [`HostsError`].
pub fn sweep(places: &Places, node: NodeId) -> Result<bool, HostsError> {
    HostsFile::new(&places.hosts).remove(&node.to_base32())
}
