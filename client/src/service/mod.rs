//! ShadowMesh as a service of the machine: what `shadowmesh install` makes and `uninstall` takes away.
//!
//! # What there is
//!
//! | file | is | by whom |
//! |---|---|---|
//! | `/etc/systemd/system/shadowmesh.service` | the unit, with a stamp that tells whether a person changed it | `install` |
//! | `/etc/sysusers.d/shadowmesh.conf` | the service's user, where there was none (sysusers.d(5)) | `install` |
//! | `/etc/shadowmesh/config.toml` | settings that people keep, at first an example in which all is commented out | `install`, where there is none |
//! | `/usr/lib/systemd/system/shadowmesh.service` and the rest | the same of a package, without stamps | dpkg; `install` enables and starts it, and writes nothing |
//! | `/var/lib/shadowmesh` | the state: keys, membership, what `up` remembers | the daemon; only `uninstall --purge` deletes it |
//!
//! - [`mod@unit`] (pure): the unit's text. There is one in the tree, `deploy/systemd/shadowmesh.service`, and it is compiled in, so the package's and
//!   ours cannot differ but for the path of the program and of the settings.
//! - [`stamp`] (pure): whether a file is as we wrote it, and in which lines two texts differ.
//! - [`machine`]: the machine, or the root directory of another (`--root`): its files, and the programs that are told (systemctl, systemd-sysusers).
//! - [`install`], [`uninstall`]: in which order. Everything that can be refused is refused before anything is changed.
//!
//! # Whose it is
//!
//! The service runs as the system user `shadowmesh` with `CAP_NET_ADMIN` and nothing else of root: the TAP, its addresses and routes need no more
//! (`/dev/net/tun` is open to everybody wherever udev made it). A user that stays, and not `DynamicUser=`, because
//!
//! - root works in the same directory: `sudo shadowmesh up smi1…` joins before there is a service, `network create` and `leave` write there. What root writes
//!   belongs to whose the directory is ([`crate::daemon::state_dir`]); with `DynamicUser=` that would be a number that means nobody while the service rests,
//!   and the directory a link to another place;
//! - its group is the one that may ask the daemon over the control socket ([`crate::control::server`]), for which it must exist before the
//!   service does, so that people can be put into it.
//!
//! A directory that root made before is given to that user by systemd at the start (`StateDirectory=`).
//!
//! `names` changes what belongs to root, so for that a drop-in gives the service root's files (`deploy/systemd/shadowmesh.service.d/names.conf`).
//!
//! # Invariants
//!
//! - A file that a person changed is never replaced or removed without `--force`, and then what differed was shown.
//! - Files are old or new, never half.
//! - Twice is as good as once, for both commands.
//! - `uninstall` removes what `install` made and nothing else; drop-ins are people's and stay. The state, and the user whose it is, go by `--purge` alone.
//! - Where systemd does not run nothing is begun that needs it.
//! - A program that somebody else than root could replace is not run as the service. In another root directory no link leads out of it, and `uninstall`
//!   follows none in the state, whose owner is the service's user.

pub mod install;
pub mod machine;
mod settings;
pub mod stamp;
#[cfg(test)]
mod tests;
pub mod uninstall;
pub mod unit;

pub use install::{Installed, Start};
pub use machine::{Machine, ServiceError};
pub use uninstall::{Loss, Uninstalled};
