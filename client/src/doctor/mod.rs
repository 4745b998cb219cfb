//! `shadowmesh doctor`: what is wrong on this host, and the line that mends it. It changes nothing.
//!
//! [`gather`](mod@gather) asks the machine, the daemon and the relays and makes [`facts`] of the answers; [`checks`] judges them, a small pure
//! decider each, and says what mends what it found ([`finding`], [`line`](mod@line)). [`bundle`] puts what a helper wants to see into an archive
//! that names nobody.
//!
//! # The faults
//!
//! | check | finds |
//! |---|---|
//! | `tun` | `/dev/net/tun` is missing, is something else, has no driver, or may not be opened |
//! | `capability` | root without `CAP_NET_ADMIN`, as in a container |
//! | `state-layout`, `state-damage` | a state directory of a newer program, or with a damaged file |
//! | `config` | an unknown key or an impossible value in config.toml |
//! | `settings` | the same in the file of settings that people keep (`up --config`), or one that the daemon could not read |
//! | `secrets` | keys that others may read |
//! | `state-writable`, `disk` | a state directory that is read-only, or on a full file system |
//! | `clock` | a clock that is behind what was written before, or ahead of other members' |
//! | `network`, `daemon`, `lock` | no network, no daemon, a daemon that answers elsewhere |
//! | `socket`, `silent` | a control socket that keeps this user out, a daemon that does not answer |
//! | `version` | a daemon of another version than the command, or whose program was replaced |
//! | `two-daemons` | two daemons of one network on this host |
//! | `open-files` | too low a limit on open files |
//! | `names`, `names-left` | members that are not found by name although that is asked for, or names that a killed daemon left |
//! | `rules` | access rules in force that are older than their file |
//! | `rules-drop` | access rules that drop frames while one looks |
//! | `device-down`, `device-mtu`, `device-addresses` | a device that somebody changed |
//! | `ipv6-off` | IPv6 switched off |
//! | `subnet` | a route or an address of this machine in the network's range |
//! | `firewall`, `bridge-filter` | a firewall that drops what comes by the device, or between the ports of its bridge |
//! | `relay-proxy` | an HTTP proxy by which the relays are reached, or that does not lead there |
//! | `relay-name` | a relay's name without an address |
//! | `relay-refused`, `relay-silent`, `relay-way` | a relay that does not run, is behind a firewall, has no way to it |
//! | `relay-place` | a relay that takes nobody from here for now |
//! | `relay-key` | a relay with another key than its ticket says |
//! | `protocol` | a peer or a relay that speaks no version of the protocol that this program does |
//! | `udp` | UDP to the relay blocked |
//! | `pinned`, `relayed` | peers that the relay carries although they need not be: asked for, or why else |
//! | `address-taken` | another member with this node's address |
//! | `joining` | a host that no member has let in yet |
//! | `address-range` | a member that is connected and has an IPv4 address outside of this node's range |
//! | `approval`, `revoked`, `certificate` | a member that waits, was revoked, or whose certificate ends |
//! | `rp-filter`, `socket-buffers`, `conntrack` | settings of the kernel that cost packets |
//!
//! What is looked at in vain is said as well, and so is what was in order. Root sees all; without, some checks are unknown.
//!
//! Exit codes of the command: 0 without a fault (there may be warnings and hints), 1 with one.

pub(crate) mod bundle;
mod checks;
mod facts;
mod finding;
mod gather;
mod line;

pub use finding::{Finding, Looked, NotLooked, Report, Severity};

pub(crate) use checks::{examine, looks_at};
pub(crate) use facts::Call;
pub(crate) use gather::{gather, unit_of};
pub(crate) use line::quoted;
