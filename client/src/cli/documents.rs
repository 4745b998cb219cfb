//! What `--json` prints where it is not a document of the daemon ([`crate::control`]): what was asked for, and what came of it.
//!
//! A contract with scripts, as [`Status`](crate::control::status::Status) is: fields are added, none is renamed or removed. Their schema is
//! made of these types ([`super::schema`]).

use crate::config::{NamesChoice, SessionsChoice};
use crate::control::message::{AdminEntry, Echo, Setting};
use crate::control::status::RulesInForce;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// `up`: with `--detach` once, else a line of it each time that it says something else. On the run that made a network **a secret**.
#[derive(Serialize, JsonSchema)]
pub(super) struct Up<'a> {
    /// The TAP device.
    pub(super) device: &'a str,
    /// Its addresses, in CIDR form.
    pub(super) addresses: &'a [String],
    /// Its MTU, bytes.
    pub(super) mtu: u16,
    /// The relay that is connected; `null` while there is none, and the daemon goes on trying.
    pub(super) relay: Option<&'a str>,
    /// `smi1…`, by which others join: on the run that made the network, once a relay took it; else `null`.
    pub(super) invite: Option<&'a str>,
    /// What the daemon says is written there; `null` without `--detach`: then it is on stderr.
    pub(super) log: Option<&'a Path>,
}

/// `down`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Down {
    /// Whether there was a daemon to stop.
    pub(super) was_running: bool,
    /// Whether names were taken out of the hosts file that a killed daemon had left there.
    pub(super) took_names_out: bool,
}

/// `leave`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Leave<'a> {
    /// Whether this host was in a network.
    pub(super) was_member: bool,
    /// Whether names were taken out of the hosts file that a killed daemon had left there.
    pub(super) took_names_out: bool,
    /// Whether a key was deleted that is an admin's, or may have been.
    pub(super) deleted_admin_key: bool,
    /// Where a copy of the network is, with such a key; `null` where there was none.
    pub(super) copy: Option<&'a Path>,
}

/// `install`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Install {
    /// The unit that is enabled.
    pub(super) unit: PathBuf,
    /// Whether it is a package's.
    pub(super) packaged: bool,
    /// Files that were written or replaced.
    pub(super) written: Vec<PathBuf>,
    /// Files that were removed, because a package's take their place.
    pub(super) removed: Vec<PathBuf>,
    /// Whether the daemon runs as a service now.
    pub(super) started: bool,
    /// Whether nothing was started because this host is in no network yet.
    pub(super) waits_for_network: bool,
    /// Whether a daemon that ran by hand was stopped for it.
    pub(super) stopped_other: bool,
}

/// `uninstall`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Uninstall {
    /// Files and directories that were removed.
    pub(super) removed: Vec<PathBuf>,
    /// Those that are left, because people made or changed them, or hold the state.
    pub(super) left: Vec<PathBuf>,
    /// Whether the service's user was removed.
    pub(super) removed_user: bool,
}

/// `ping`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Ping {
    /// Whom, as it was typed.
    pub(super) peer: String,
    /// How many were asked.
    pub(super) sent: u32,
    /// How many were answered.
    pub(super) received: usize,
    /// Unanswered, per cent.
    pub(super) loss_pct: f64,
    /// Round trips; `null` without an answer.
    pub(super) rtt_ms: Option<RoundTrips>,
    /// The answers, in order.
    pub(super) replies: Vec<Echo>,
}

/// Round trips, milliseconds.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RoundTrips {
    /// Least.
    pub(super) min: f64,
    /// Mean.
    pub(super) avg: f64,
    /// Greatest.
    pub(super) max: f64,
}

/// `invite`: **a secret**.
#[derive(Serialize, JsonSchema)]
pub(super) struct Invite<'a> {
    /// `smi1…`
    pub(super) ticket: &'a str,
    /// Seconds from now until it expires.
    pub(super) expires_s: u64,
    /// How many may join by it; `null` for any number.
    pub(super) uses: Option<u32>,
    /// What to mind, for people.
    pub(super) advice: &'a str,
}

/// What an admin changed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Changed {
    /// What was done, for people.
    pub(super) done: String,
}

/// `rotate-secret`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Rotated {
    /// What was done, for people.
    pub(super) done: String,
    /// How often the secret was replaced.
    pub(super) generation: u32,
    /// Names of members that have not got it yet.
    pub(super) without: Vec<String>,
}

/// `relays list`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Relays {
    /// Those that the record names; empty where it names none.
    pub(super) relays: Vec<String>,
}

/// `admins list`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Admins {
    /// The admins.
    pub(super) admins: Vec<AdminEntry>,
}

/// `admins id`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AdminId {
    /// The fingerprint of this host's keys as an admin.
    pub(super) id: String,
}

/// `reload`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Reloaded {
    /// The access rules in force; `null` for none.
    pub(super) rules: Option<RulesInForce>,
    /// Whether other programs find members by name; `null` from a daemon that knows of none.
    pub(super) names: Option<NamesChoice>,
    /// Which sessions are kept when nobody uses them; `null` from a daemon that keeps all.
    pub(super) sessions: Option<SessionsChoice>,
    /// How long the others may be of no use before they end, such as `5m`; likewise.
    pub(super) idle_after: Option<String>,
    /// Keys of the settings that are other than before, and count.
    pub(super) applied: Vec<Setting>,
    /// Keys that are other than what the daemon runs with, and count from its next start on.
    pub(super) waits: Vec<Setting>,
    /// What to type to start it anew; `null` where nothing waits for that.
    pub(super) restart: Option<String>,
}

/// `network create`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NetworkMade {
    /// What people call it.
    pub(super) network: String,
    /// Id of its authority.
    pub(super) root: String,
    /// Id of this host's key.
    pub(super) node: String,
}

/// `network export`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NetworkExported {
    /// Where the copy is.
    pub(super) file: PathBuf,
}

/// `network import`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NetworkImported {
    /// What people call it.
    pub(super) network: String,
    /// Whether the copy had the key of an admin, which this host is now.
    pub(super) has_admin_key: bool,
}

/// `rules check`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RulesChecked {
    /// Whether they read as rules.
    pub(super) valid: bool,
    /// Whether a daemon of this version takes them as its own file.
    pub(super) enforceable: bool,
    /// How many; `null` where they cannot be read.
    pub(super) rules: Option<usize>,
    /// What is wrong.
    pub(super) errors: Vec<Remark>,
    /// What is odd.
    pub(super) warnings: Vec<Remark>,
    /// The canonical form; `null` where there is none.
    pub(super) canonical: Option<String>,
}

/// `rules show`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RulesShown {
    /// The rules of the network's record, as they were published; `null` where it has none.
    pub(super) text: Option<String>,
}

/// Something about a line of rules.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Remark {
    /// From 1 on.
    pub(super) line: usize,
    /// From 1 on, characters.
    pub(super) column: usize,
    /// The word that is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) word: Option<String>,
    /// What is the matter, for people.
    pub(super) sentence: String,
    /// What was meant, probably.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) suggestion: Option<String>,
    /// Whether it is about one line, and not about all of the text.
    #[serde(skip)]
    pub(super) has_line: bool,
}
