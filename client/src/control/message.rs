//! What can be asked of a daemon, and what it answers.

use super::status::{PathKind, RulesInForce, Secret, Status};
use crate::config::{NamesChoice, SessionsChoice};
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shadowmesh_proto::path::select;
use zeroize::Zeroizing;

/// A request: the only line a caller writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Who is there? Answered by [`Response::Status`].
    Status,
    /// One echo inside the session with a peer (protocol §6 ECHO). Answered by [`Response::Echo`] when it comes back, by
    /// [`Response::Error`] when it cannot be sent. The caller gives up by hanging up; pacing and counting are its own.
    Ping {
        /// A name, an address, or an unambiguous start of an id.
        peer: String,
    },
    /// What the network here lets through. Answered by [`Response::Netcheck`].
    Netcheck,
    /// Send data of both directions by certain paths. Answered by [`Response::Path`] once both ends do, by [`Response::Error`]
    /// when they do not in time; then what was wanted before holds again.
    Path {
        /// As in `Ping`.
        peer: String,
        /// Which.
        #[serde(rename = "use")]
        wanted: Wanted,
        /// How long to wait, milliseconds.
        timeout_ms: u64,
    },
    /// Read the configuration again and apply what can be applied while running. Answered by [`Response::Reloaded`].
    Reload,
    /// Leave cleanly and end. Answered by [`Response::Leaving`] before the daemon begins to.
    Down,
    /// Make an invite. Answered by [`Response::Invite`].
    Invite {
        /// Seconds from now until it expires.
        expires_s: u64,
        /// A name proposed for the node that joins; in a network with certificates the only ones that it may take, where `*` stands for
        /// any characters.
        name: Option<String>,
        /// In a network with certificates: what else it is limited to.
        #[serde(default, skip_serializing_if = "InviteLimits::is_default")]
        limits: InviteLimits,
    },
    /// Who is in the network? Answered by [`Response::Members`].
    Members,
    /// By which id this host can be made an admin's. Answered by [`Response::AdminId`].
    AdminId {
        /// Make another key for it.
        anew: bool,
    },
    /// As an admin: change something about the network. Answered by [`Response::Changed`].
    Change(Change),
    /// A copy of the network, its secrets among it. Answered by [`Response::Copy`].
    Export,
}

/// Why an invite is refused that is to be limited where nothing could enforce it.
pub const NO_LIMITS: &str = "this network has no certificates, so an invite cannot be limited: `shadowmesh network create` makes one that has";

/// What an invite is limited to beside time and name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InviteLimits {
    /// How many may join by it; `null`: any number.
    pub uses: Option<u32>,
    /// Whether an admin has to approve each.
    pub needs_approval: bool,
    /// Tags that they get.
    pub tags: Vec<String>,
    /// Blocks (`ADDRESS/BITS`) in which they may choose addresses.
    pub blocks: Vec<String>,
}

impl InviteLimits {
    /// Whether there are none.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What an admin changes. `member`: a name, an address, or an id from its first ten characters on; only one node may be meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Shuts a member out for ever; a whole id need not be known.
    Revoke {
        /// Whom.
        member: String,
    },
    /// Lets in who waits for it.
    Approve {
        /// Whom.
        member: String,
    },
    /// Another name.
    Rename {
        /// Whose.
        member: String,
        /// The name.
        name: String,
    },
    /// Other tags.
    Tag {
        /// Whose.
        member: String,
        /// Those that it gets.
        add: Vec<String>,
        /// Those that it loses.
        remove: Vec<String>,
    },
    /// One more relay.
    AddRelay {
        /// `smr1…`
        ticket: String,
    },
    /// One relay less.
    RemoveRelay {
        /// Its address, as `shadowmesh relays list` shows it, or its ticket.
        relay: String,
    },
    /// One more admin.
    AddAdmin {
        /// What `shadowmesh admins id` printed on its host.
        id: String,
        /// What people call it.
        name: String,
    },
    /// One admin less.
    RemoveAdmin {
        /// Its name, or its id from the first ten characters on.
        admin: String,
        /// Whether nothing that it had said is to count any more.
        #[serde(default)]
        stolen: bool,
    },
    /// Another secret of the network for all.
    RotateSecret {
        /// Whether the one before is good no longer than it takes to hand on the new one.
        #[serde(default)]
        now: bool,
    },
    /// Other access rules for all.
    SetRules {
        /// Their text.
        text: String,
    },
}

impl Request {
    /// Whether it only looks: then members of the group `shadowmesh` may ask too.
    pub const fn is_read_only(&self) -> bool {
        match self {
            Self::Status | Self::Netcheck | Self::Members | Self::Ping { .. } => true,
            Self::Path { .. } | Self::Reload | Self::Down => false,
            Self::Invite { .. } | Self::AdminId { .. } | Self::Change(_) => false,
            // It changes nothing, and is all that it takes to be this network.
            Self::Export => false,
        }
    }
}

/// An answer.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub enum Response {
    /// The document of `shadowmesh status --json`.
    Status(Box<Status>),
    /// An echo came back.
    Echo(Echo),
    /// What the network lets through.
    Netcheck(Box<Netcheck>),
    /// Both ends send as wanted.
    Path(PathMoved),
    /// What was read is in force.
    Reloaded {
        /// The access rules; `null` for none.
        rules: Option<RulesInForce>,
        /// Whether other programs find members by name; `null` from a daemon that knows of none.
        #[serde(default)]
        names: Option<NamesChoice>,
        /// Which sessions are kept when nobody uses them; `null` from a daemon that keeps all.
        #[serde(default)]
        sessions: Option<SessionsChoice>,
        /// How long the others may be of no use, as config.toml has it; likewise.
        #[serde(default)]
        idle_after: Option<String>,
        /// Keys that are other than before, and count.
        #[serde(default)]
        applied: Vec<Setting>,
        /// Keys that are other than what the daemon runs with, and count from its next start on.
        #[serde(default)]
        waits: Vec<Setting>,
        /// What a person types to start it anew; `null` where nothing waits for that.
        #[serde(default)]
        restart: Option<String>,
    },
    /// The daemon begins to leave; its process ends when it has.
    Leaving,
    /// An invite: **a secret**.
    Invite {
        /// `smi1…`
        ticket: String,
    },
    /// What another host needs to take this one's place in the network: **a secret**.
    Copy {
        /// The text of the file.
        #[serde(with = "crate::wiped::text")]
        text: Zeroizing<String>,
    },
    /// Who is in the network.
    Members(Box<Members>),
    /// This host's id as an admin.
    AdminId {
        /// The fingerprint of its keys.
        id: String,
    },
    /// It was done, and is on its way to all.
    Changed {
        /// What, for people.
        sentence: String,
    },
    /// The request was not done.
    Error {
        /// What kind of failure, for programs.
        code: ErrorCode,
        /// What, why, what to do; for people.
        sentence: String,
    },
}

impl Response {
    /// An error with its sentence.
    pub fn error(code: ErrorCode, sentence: impl Into<String>) -> Self {
        Self::Error { code, sentence: sentence.into() }
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => f.debug_tuple("Status").field(status).finish(),
            Self::Echo(echo) => f.debug_tuple("Echo").field(echo).finish(),
            Self::Netcheck(found) => f.debug_tuple("Netcheck").field(found).finish(),
            Self::Path(moved) => f.debug_tuple("Path").field(moved).finish(),
            Self::Reloaded { rules, .. } => f.debug_tuple("Reloaded").field(rules).finish(),
            Self::Leaving => f.write_str("Leaving"),
            Self::Invite { .. } => f.write_str("Invite(..)"),
            Self::Copy { .. } => f.write_str("Copy(..)"),
            Self::Members(members) => f.debug_tuple("Members").field(members).finish(),
            Self::AdminId { id } => f.debug_tuple("AdminId").field(id).finish(),
            Self::Changed { sentence } => f.debug_tuple("Changed").field(sentence).finish(),
            Self::Error { code, sentence } => f.debug_tuple("Error").field(code).field(sentence).finish(),
        }
    }
}

/// A key of config.toml that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// What it is now in the file, or by default, for people.
    pub value: String,
    /// For what alone it counts, or why it has to wait; `null` where there is nothing to say.
    pub note: Option<String>,
}

impl Setting {
    /// That it counts, for people.
    pub fn applied(&self) -> String {
        let Self { key, value, note } = self;
        let note =
            note.as_ref().map(|note| format!(", for {note} that begin from now on")).unwrap_or_default();
        format!("{key} = {value}: applied{note}")
    }

    /// That it does not yet, for people.
    pub fn waits(&self) -> String {
        let Self { key, value, note } = self;
        let note = note.as_ref().map(|note| format!(", for {note}")).unwrap_or_default();
        format!("{key} = {value}: counts from the next start on{note}")
    }
}

/// The network as its record says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Members {
    /// Id of the authority that the network was made with.
    pub root: String,
    /// Whether this node is an admin's.
    pub is_admin: bool,
    /// Nodes, this one among them.
    pub members: Vec<Member>,
    /// Admins.
    pub admins: Vec<AdminEntry>,
    /// Relays of the network: those that the record names, else those that came with this host's invite.
    pub relays: Vec<String>,
    /// The access rules of the record, as they were published; `null` where it has none.
    pub rules: Option<String>,
    /// Keys that were shut out, in full.
    pub revoked: Vec<Revoked>,
    /// The network's secret.
    pub secret: Secret,
    /// The time by which this daemon judges what ends, seconds since 1970.
    pub now: u64,
}

/// A node of the network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Member {
    /// Full base32 form of its key.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its addresses, without prefix length, those of IPv4 first: what the network gives it, and what it says it has.
    pub addresses: Vec<String>,
    /// `member`, `pending`, `refused`, `revoked`, or `unseen`: in the record, and not met since the daemon began.
    pub standing: String,
    /// The same in the words of `status`: `member`, `pending`, `waiting` for an admin's word, `refused`, `revoked` or `unseen`; of this node
    /// as `membership.state` there, and `refused` where it was shut out with its invite.
    pub state: String,
    /// Why it is refused; `null` where it is not.
    pub why: Option<String>,
    /// Until when its certificate is good, seconds since 1970; `null` where it was not seen.
    pub until: Option<u64>,
    /// Since when the record knows it, seconds since 1970; `null` where it does not.
    pub since: Option<u64>,
    /// Whether it is this node.
    pub is_here: bool,
    /// Whether it is connected now.
    pub is_connected: bool,
    /// Whether it holds the secret that the record names; `null` where it has not said so since the daemon began, or none was ever
    /// rotated.
    pub has_new_secret: Option<bool>,
}

/// An admin.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdminEntry {
    /// Its id: the fingerprint of its keys.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Whether its key is on this host.
    pub is_here: bool,
}

/// A key that was shut out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Revoked {
    /// Full base32 form.
    pub id: String,
    /// By whom: an admin's id.
    pub by: String,
    /// When, seconds since 1970 by that one's clock.
    pub at: u64,
}

/// Which paths a user wants for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// Whichever is best
    #[default]
    Auto,
    /// Through the relay
    Relay,
    /// Between the two alone
    Direct,
    /// TCP between the two
    DirectTcp,
    /// Through the relay by datagram
    RelayUdp,
    /// Through the relay's stream
    RelayWs,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Relay => "relay",
            Self::Direct => "direct",
            Self::DirectTcp => "direct-tcp",
            Self::RelayUdp => "relay-udp",
            Self::RelayWs => "relay-ws",
        })
    }
}

impl From<Wanted> for select::Wanted {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Auto => Self::Auto,
            Wanted::Relay => Self::Relay,
            Wanted::Direct => Self::Direct,
            Wanted::DirectTcp => Self::DirectTcp,
            Wanted::RelayUdp => Self::RelayUdp,
            Wanted::RelayWs => Self::RelayWs,
        }
    }
}

impl From<select::Wanted> for Wanted {
    fn from(wanted: select::Wanted) -> Self {
        match wanted {
            select::Wanted::Auto => Self::Auto,
            select::Wanted::Relay => Self::Relay,
            select::Wanted::Direct => Self::Direct,
            select::Wanted::DirectTcp => Self::DirectTcp,
            select::Wanted::RelayUdp => Self::RelayUdp,
            select::Wanted::RelayWs => Self::RelayWs,
        }
    }
}

/// The paths of both directions after a request for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathMoved {
    /// The peer's name.
    pub name: String,
    /// The peer's id.
    pub id: String,
    /// What is wanted now.
    #[serde(rename = "use")]
    pub wanted: Wanted,
    /// What this end sends on.
    pub kind: Option<PathKind>,
    /// The far end of that path.
    pub remote: Option<String>,
    /// What the peer says that it sends on.
    pub peer_path: Option<PathKind>,
    /// Milliseconds from the request to this.
    pub took_ms: f64,
}

/// What the network here lets through (RFC 4787's words); `null` where it is not known, with the reason beside it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Netcheck {
    /// Whether UDP works, to any relay.
    pub udp: Option<bool>,
    /// `endpoint-independent`, `endpoint-dependent`.
    pub mapping: Option<String>,
    /// What that means, or why it is not known.
    pub mapping_why: String,
    /// `endpoint-independent`, `address-dependent`, `address-and-port-dependent`. Always `null`, which means unknown: it takes an answer
    /// from an address that was not asked to find out, and relays send none, or they could be made to send to strangers.
    pub filtering: Option<String>,
    /// Why that is not known.
    pub filtering_why: String,
    /// Whether this host has an IPv6 address that others may reach.
    pub ipv6: bool,
    /// Ports that a router forwards.
    pub mapped_ports: Vec<String>,
    /// Addresses that peers are told, best first: `kind address`.
    pub candidates: Vec<String>,
    /// The relays.
    pub relays: Vec<NetcheckRelay>,
}

/// A relay, seen by [`Netcheck`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetcheckRelay {
    /// Its address.
    pub url: String,
    /// Whether the stream to it stands.
    pub connected: bool,
    /// Round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Whether UDP works to it.
    pub udp: Option<bool>,
    /// Where it sees this node's UDP socket.
    pub observed_udp: Option<String>,
}

/// How an echo came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Echo {
    /// The peer's name.
    pub name: String,
    /// The peer's id.
    pub id: String,
    /// The peer's first address, without prefix length.
    pub address: Option<String>,
    /// The path that carried it.
    pub via: PathKind,
    /// The far end of that path (`ip:port`), where it is a direct one.
    pub remote: Option<String>,
    /// Milliseconds there and back.
    pub rtt_ms: f64,
    /// Milliseconds that it took to begin a session first, where the two had none because nobody used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub woken_ms: Option<f64>,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request does not read as one.
    BadRequest,
    /// The caller may not ask this.
    Denied,
    /// No peer, or more than one, is called that.
    UnknownPeer,
    /// The peer is known and there is no proven path to it.
    NotConnected,
    /// The daemon is leaving, or has too much to do.
    Busy,
    /// Anything else.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_have_these_names() {
        for (request, text) in [
            (Request::Status, r#"{"request":"status"}"#),
            (Request::Down, r#"{"request":"down"}"#),
            (Request::Reload, r#"{"request":"reload"}"#),
            (Request::Netcheck, r#"{"request":"netcheck"}"#),
            (Request::Ping { peer: "b".into() }, r#"{"request":"ping","peer":"b"}"#),
            (
                Request::Path { peer: "b".into(), wanted: Wanted::DirectTcp, timeout_ms: 5 },
                r#"{"request":"path","peer":"b","use":"direct-tcp","timeout_ms":5}"#,
            ),
            (
                Request::Invite { expires_s: 60, name: None, limits: InviteLimits::default() },
                r#"{"request":"invite","expires_s":60,"name":null}"#,
            ),
            (Request::Members, r#"{"request":"members"}"#),
            (Request::Export, r#"{"request":"export"}"#),
            (
                Request::Change(Change::Rename { member: "b".into(), name: "c".into() }),
                r#"{"request":"change","change":"rename","member":"b","name":"c"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&request).expect("written"), text);
            assert_eq!(serde_json::from_str::<Request>(text).expect("read"), request);
        }
    }

    #[test]
    fn an_invite_and_a_copy_do_not_print_what_they_are() {
        let response = Response::Invite { ticket: "smi1secret".into() };
        assert_eq!(format!("{response:?}"), "Invite(..)");
        assert_eq!(format!("{:?}", Response::Copy { text: "secret".to_owned().into() }), "Copy(..)");
    }

    #[test]
    fn nobody_but_the_owner_has_a_copy() {
        assert!(!Request::Export.is_read_only());
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over() {
        let read = serde_json::from_str::<Response>(r#"{"response":"leaving","within_ms":5}"#);
        assert_eq!(read.expect("read"), Response::Leaving);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (serde_json::from_slice::<Request>(&bytes), serde_json::from_slice::<Response>(&bytes));
        }

        #[test]
        fn perturbed_requests_are_read_or_refused(peer in "\\PC{0,40}", at: usize, byte: u8) {
            let mut bytes = serde_json::to_vec(&Request::Ping { peer }).expect("written");
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = serde_json::from_slice::<Request>(&bytes);
        }

        #[test]
        fn requests_round_trip(peer in "\\PC{0,40}", expires_s: u64, name in proptest::option::of("\\PC{0,9}")) {
            for request in [Request::Ping { peer }, Request::Invite { expires_s, name, limits: InviteLimits::default() }] {
                let text = serde_json::to_string(&request).expect("written");
                prop_assert!(!text.contains('\n'));
                prop_assert_eq!(serde_json::from_str::<Request>(&text).expect("read"), request);
            }
        }

        #[test]
        fn echoes_round_trip(rtt_ms in 0f64..1e6, remote in proptest::option::of("\\PC{0,40}")) {
            let echo = Echo { name: "b".into(), id: "x".into(), address: None, via: PathKind::RelayWs, remote, rtt_ms, woken_ms: None };
            let text = serde_json::to_string(&Response::Echo(echo.clone())).expect("written");
            let Response::Echo(read) = serde_json::from_str(&text).expect("read") else {
                return Err(TestCaseError::fail("not an echo"));
            };
            prop_assert!((read.rtt_ms - rtt_ms).abs() < 1e-6);
            prop_assert_eq!(read.remote, echo.remote);
        }
    }
}
