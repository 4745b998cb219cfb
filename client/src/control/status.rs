//! The document of `shadowmesh status --json`: a contract with scripts outside the project.
//!
//! Fields may be added at any time and none is renamed or removed. What this version does not know yet is `null` where the
//! contract allows it. Reading fills in what is missing, so that a command line and a daemon of two versions understand each
//! other during an upgrade.

use super::message::Wanted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shadowmesh_proto::crypto::aead;
use shadowmesh_proto::endpoint::event;
use shadowmesh_proto::path::select;
use shadowmesh_proto::version::Versions;
use std::collections::BTreeMap;
use std::fmt;

/// Who is there, over which path, how well.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Status {
    /// Version of the daemon's program.
    pub version: String,
    /// This node.
    pub node: Node,
    /// The network.
    pub network: Network,
    /// Every relay in use.
    pub relays: Vec<Relay>,
    /// Every other node known, never this one.
    pub peers: Vec<Peer>,
    /// The access rules that this node enforces; `null` for none: everything is let in.
    pub rules: Option<RulesInForce>,
    /// This node as a member; `null` in a network without certificates.
    pub membership: Option<Membership>,
    /// Packets and frames dropped since the start, by cause (protocol §5.3).
    pub dropped: BTreeMap<String, u64>,
    /// What the Ethernet switch does.
    pub switch: EthernetSwitch,
    /// The names that other programs of this machine find members by; `null` where that is off.
    pub names: Option<Names>,
    /// Where this machine's clock says less than was seen, what it says and what is believed; else `null`.
    pub clock: Option<ClockBehind>,
    /// The time by which this daemon judges what ends, seconds since 1970.
    pub now: u64,
}

/// A clock that says less than was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClockBehind {
    /// What it says, seconds since 1970.
    pub says: u64,
    /// What is believed.
    pub reckoned: u64,
}

/// Names of members for other programs of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Names {
    /// How they are served.
    pub way: NamesWay,
    /// What they end in, such as `office.internal`; empty before that is known.
    pub domain: String,
    /// How many are served.
    pub served: usize,
    /// What gets no name, or not all of it: the first of them.
    pub left_out: Vec<NameLeftOut>,
    /// How many that are in all.
    pub left_out_count: usize,
    /// Why they are not served as they should be; `null` where they are.
    pub error: Option<String>,
    /// Why they are served in this way, where another was to be expected.
    pub note: Option<String>,
    /// How often something failed since the start.
    pub failures: u64,
}

/// How names are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NamesWay {
    /// They are not, or not yet.
    #[default]
    None,
    /// By a block in the hosts file.
    Hosts,
    /// By systemd-resolved.
    Resolved,
}

/// A name that nobody gets here, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NameLeftOut {
    /// What somebody is called.
    pub name: String,
    /// Why; goes on after the name.
    pub why: String,
}

/// What the Ethernet switch does beside passing frames on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EthernetSwitch {
    /// Protocols that are kept out.
    pub filters: Vec<String>,
    /// What is flooded to each peer, and taken of each, per second; `none` for no limit.
    pub flood_budget: String,
    /// Questions for a member's address that were answered here: ARP.
    pub arp_answered: u64,
    /// The same: neighbour solicitations.
    pub neighbours_answered: u64,
    /// Stations remembered.
    pub stations: u64,
    /// Groups remembered, for all peers.
    pub groups: u64,
    /// Stations that changed their place.
    pub moves: u64,
    /// Times that a station was found to move too often, and held.
    pub flaps: u64,
    /// Moves that were refused because a station is held.
    pub held: u64,
    /// Frames of this node's device that went nowhere, by cause.
    pub dropped: BTreeMap<String, u64>,
    /// Loops through bridges.
    #[serde(rename = "loop")]
    pub loops: Loop,
}

/// What is known of loops.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Loop {
    /// Whether there is one, and who gives way.
    pub state: LoopState,
    /// With whom; a peer's name.
    pub with: Option<String>,
    /// Loops found since the start.
    pub found: u64,
}

/// Whether there is a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoopState {
    /// There is none.
    #[default]
    None,
    /// This node passes no broadcasts.
    Blocked,
    /// The other one does not.
    Contained,
}

/// This node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Node {
    /// Full base32 form of its key.
    pub id: String,
    /// Its name.
    pub name: String,
    /// CIDR each.
    pub addresses: Vec<String>,
    /// Its Ethernet address.
    pub mac: String,
    /// Name of the TAP device.
    pub device: String,
    /// MTU of the TAP device, bytes.
    pub mtu: u16,
    /// Queues of the TAP device.
    pub queues: usize,
}

/// Access rules in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RulesInForce {
    /// The file that they were read from.
    pub file: String,
    /// How many; with 0 everything is let in.
    pub count: usize,
    /// Why what the file says now could not be taken; `null` when it was.
    pub error: Option<String>,
}

/// This node as a member of a network with certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Membership {
    /// `member`; `waiting` for an admin's word; `refused` by all members that said anything; `joining`, `expired`, `revoked`, or `none`:
    /// there is neither a certificate nor an invite.
    pub state: String,
    /// What the network calls it.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// The addresses that the record or its certificate gives it, without prefix length.
    pub given: Vec<String>,
    /// Until when its certificate is good, seconds since 1970.
    pub until: Option<u64>,
    /// Whether its host holds an admin's key that has a say.
    pub is_admin: bool,
    /// Where its state is `revoked`, what was: its `key`, or the invite by which it came, `invite-used-up` or `invite-revoked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shut_out: Option<String>,
    /// What a person should do something about, a sentence each.
    pub warnings: Vec<String>,
    /// The network's secret.
    pub secret: Secret,
}

/// Where the network's secret stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Secret {
    /// How often the one that this node uses first was rotated.
    pub generation: u32,
    /// `settled`; `rotating`: the one before is good as well; `missing` or `late`: the record names one that is not here, and the one
    /// before is good still, or is not any more.
    pub state: String,
    /// Until when the one before is good, seconds since 1970; `null` while it is settled.
    pub until: Option<u64>,
}

/// What is thought of a peer as a member.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PeerMember {
    /// `pending`, `admitted` or `refused`.
    pub standing: String,
    /// Why it is refused.
    pub why: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Until when its certificate is good, seconds since 1970.
    pub until: Option<u64>,
    /// Why it does not admit this node; `null` where it does, or has not said.
    pub refuses_us: Option<String>,
    /// Whether it holds the secret that the network's record names; `null` where it has not said, or none was ever rotated.
    pub has_new_secret: Option<bool>,
}

/// The network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Network {
    /// Full base32 form of its id.
    pub id: String,
    /// What people call it.
    pub name: String,
}

/// A relay.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Relay {
    /// The address in use, `wss://host:port/v1` or the like.
    pub url: String,
    /// Where the connection stands.
    pub state: RelayState,
    /// Round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// The TCP address the relay sees, `ip:port`.
    pub observed_tcp: Option<String>,
    /// The UDP address the relay sees, `ip:port`.
    pub observed_udp: Option<String>,
    /// Why it does not take this node in, while it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The HTTP proxy by which it is reached, if by one: `http://host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

impl Relay {
    /// The `host:port` in its address.
    pub(crate) fn authority(&self) -> &str {
        let url = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        url.split_once('/').map_or(url, |(authority, _)| authority)
    }
}

/// Where the connection to a relay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RelayState {
    /// Registered.
    Connected,
    /// Being made.
    Connecting,
    /// Lost, waiting for the next attempt.
    #[default]
    Down,
}

impl fmt::Display for RelayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Connecting => "connecting",
            Self::Down => "down",
        })
    }
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Peer {
    /// Full base32 form of its key.
    pub id: String,
    /// Its name; two of one name get `-2`.
    pub name: String,
    /// CIDR each.
    pub addresses: Vec<String>,
    /// Whether full-size data passes both ways.
    pub state: PeerState,
    /// The path this node sends on.
    pub path: Option<Path>,
    /// Proven paths that are not in use.
    pub standby: Vec<StandbyPath>,
    /// The path the peer says it sends on; `null` before it said so.
    pub peer_path: Option<PathKind>,
    /// Whether both send on the same path.
    pub paths_agree: bool,
    /// The session's keys.
    pub handshake: Option<Handshake>,
    /// Whether it is a member; `null` without a session, or in a network without certificates.
    pub member: Option<PeerMember>,
    /// Bytes of frames sent.
    pub tx_bytes: u64,
    /// Bytes of frames received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Frames received.
    pub rx_frames: u64,
    /// Frames for it that had nowhere to go.
    pub tx_dropped: u64,
    /// Packets and frames of it that were dropped.
    pub rx_dropped: u64,
    /// Frames for several peers that went to it as well, by cause.
    pub tx_flooded: BTreeMap<String, u64>,
    /// Those that were beyond its budget, and did not.
    pub tx_over_budget: BTreeMap<String, u64>,
    /// Those that it sent beyond its budget, and that were not let in.
    pub rx_over_budget: BTreeMap<String, u64>,
    /// Frames of it that the switch did not let in, by cause; what never happened is left out.
    pub rx_refused: BTreeMap<String, u64>,
    /// Packets sent again after its path was bound anew.
    pub resent: u64,
    /// Packets that left the ring before it was known that they arrived.
    pub lost: u64,
    /// How often the path in use changed.
    pub switches: u64,
    /// What was asked for with `shadowmesh path`: auto, relay, relay-udp, relay-ws, direct, direct-tcp.
    #[serde(rename = "use", default)]
    pub wanted: Wanted,
    /// The latest change.
    pub last_switch: Option<Switch>,
    /// Seconds until a direct path is tried again.
    pub next_direct_try_s: Option<u64>,
    /// Where its state is `idle`: the session that there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asleep: Option<Asleep>,
    /// Why there is no session, where the two speak no common version of the protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incompatible: Option<String>,
    /// That one of the two does not let the other in, also between their sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<Barred>,
}

/// That one of two nodes does not let the other in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Barred {
    /// `waiting` for an admin's word, `refused`, or `revoked`.
    pub state: String,
    /// Whether this node refuses the peer; else the peer refuses this node.
    pub by_us: bool,
    /// Why.
    pub why: String,
}

/// A session that nobody used, and that both ends gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Asleep {
    /// Seconds since.
    pub age_s: u64,
    /// The path that data took last.
    pub last_path: PathKind,
}

/// Whether a peer can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// Full-size data passed both ways within the last 3 s, or the path is idle and proven (protocol §7.2).
    Connected,
    /// A handshake or a proof is under way.
    Connecting,
    /// A relay says that it is there, and both ends gave their session up because nobody used it; the first frame begins another
    /// (protocol §4.10).
    Idle,
    /// Not there.
    #[default]
    Offline,
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Connecting => "connecting",
            Self::Idle => "idle",
            Self::Offline => "offline",
        })
    }
}

impl From<event::PeerState> for PeerState {
    fn from(state: event::PeerState) -> Self {
        match state {
            event::PeerState::Connected => Self::Connected,
            event::PeerState::Connecting => Self::Connecting,
            event::PeerState::Idle => Self::Idle,
            event::PeerState::Offline => Self::Offline,
        }
    }
}

/// Kinds of path, best first (protocol §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// UDP between the two nodes.
    DirectUdp,
    /// TCP between the two nodes.
    DirectTcp,
    /// UDP through a relay.
    RelayUdp,
    /// The WebSocket stream through a relay.
    RelayWs,
}

impl fmt::Display for PathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DirectUdp => "direct-udp",
            Self::DirectTcp => "direct-tcp",
            Self::RelayUdp => "relay-udp",
            Self::RelayWs => "relay-ws",
        })
    }
}

impl From<select::PathKind> for PathKind {
    fn from(kind: select::PathKind) -> Self {
        match kind {
            select::PathKind::DirectUdp => Self::DirectUdp,
            select::PathKind::DirectTcp => Self::DirectTcp,
            select::PathKind::RelayUdp => Self::RelayUdp,
            select::PathKind::RelayWs => Self::RelayWs,
        }
    }
}

/// A path in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Path {
    /// Its kind.
    pub kind: PathKind,
    /// The far end: `ip:port`, or the relay's address.
    pub remote: String,
    /// Round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Largest packet proven on it, bytes, with its IP header; `null` on a stream, which has no such size.
    pub mtu: Option<u16>,
    /// Loss over the last two seconds, or as long as forty packets took, per cent; `null` where too little was sent to say.
    pub loss_pct: Option<f64>,
    /// Why this one.
    pub why: String,
}

/// A proven path that is not in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StandbyPath {
    /// Its kind.
    pub kind: PathKind,
    /// The far end.
    pub remote: String,
    /// Round trip, milliseconds.
    pub rtt_ms: Option<f64>,
}

/// A session's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Handshake {
    /// The Noise pattern in full.
    pub pattern: String,
    /// `ML-KEM-768`.
    pub kem: String,
    /// The cipher of data.
    pub cipher: Cipher,
    /// Seconds since the keys in use were agreed on.
    pub age_s: u64,
    /// How often they were replaced.
    pub rekeys: u64,
    /// The version of the protocol that both speak; left out where it is the first.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub version: u8,
}

/// What a daemon speaks that says nothing of it.
const fn first_version() -> u8 {
    Versions::FIRST.newest()
}

const fn is_first_version(version: &u8) -> bool {
    *version == first_version()
}

/// The ciphers of data packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Cipher {
    /// AES with 256-bit keys in Galois/counter mode.
    #[serde(rename = "AES-256-GCM")]
    Aes256Gcm,
    /// ChaCha20 with Poly1305 (RFC 8439).
    #[serde(rename = "ChaCha20-Poly1305")]
    ChaCha20Poly1305,
}

impl From<aead::Cipher> for Cipher {
    fn from(cipher: aead::Cipher) -> Self {
        match cipher {
            aead::Cipher::Aes256Gcm => Self::Aes256Gcm,
            aead::Cipher::ChaCha20Poly1305 => Self::ChaCha20Poly1305,
        }
    }
}

/// A change of the path in use, and what it cost: measured, never assumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Switch {
    /// The path before.
    pub from: PathKind,
    /// The path after.
    pub to: PathKind,
    /// Why, in words.
    pub reason: String,
    /// Packets sent again on the new path.
    pub resent: u64,
    /// Packets that had arrived already.
    pub duplicates: u64,
    /// Frames delivered out of order.
    pub reordered: u64,
    /// Frames lost.
    pub lost: u64,
    /// How long nothing came from the peer when its data moved as well, milliseconds; null where it had little to say, or did not move.
    pub gap_ms: Option<f64>,
    /// Seconds since it happened.
    pub age_s: u64,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A status with every field filled in.
    pub(crate) fn full() -> Status {
        Status {
            version: "0.1.0".into(),
            node: Node {
                id: "a".repeat(52),
                name: "a".into(),
                addresses: vec!["10.7.3.4/16".into(), "fd12:3456:789a::1234:5678:9abc:def0/64".into()],
                mac: "02:00:00:00:00:01".into(),
                device: "smesh0".into(),
                mtu: 1400,
                queues: 1,
            },
            network: Network { id: "n".repeat(52), name: "home".into() },
            relays: vec![Relay {
                proxy: None,
                url: "ws://relay.example:8443/v1".into(),
                state: RelayState::Connected,
                rtt_ms: Some(11.75),
                observed_tcp: Some("203.0.113.7:41641".into()),
                observed_udp: None,
                refused: None,
            }],
            rules: Some(RulesInForce { file: "/etc/rules".into(), count: 3, error: None }),
            membership: Some(Membership {
                state: "member".into(),
                name: "a".into(),
                tags: vec!["server".into()],
                given: vec!["10.7.3.4".into()],
                until: Some(2_000_000_000),
                is_admin: true,
                shut_out: None,
                warnings: vec![],
                secret: Secret { generation: 2, state: "rotating".into(), until: Some(2_000_000_000) },
            }),
            dropped: [("forged".to_owned(), 1)].into(),
            names: Some(Names {
                way: NamesWay::Hosts,
                domain: "home.internal".into(),
                served: 2,
                left_out: vec![NameLeftOut { name: "wpad".into(), why: "means something else".into() }],
                left_out_count: 1,
                ..Names::default()
            }),
            clock: None,
            now: 1_900_000_000,
            switch: EthernetSwitch {
                filters: vec!["bpdu".into(), "dhcp".into()],
                flood_budget: "1mbit".into(),
                arp_answered: 1,
                loops: Loop { state: LoopState::Blocked, with: Some("b".into()), found: 2 },
                ..EthernetSwitch::default()
            },
            peers: vec![
                Peer {
                    id: "b".repeat(52),
                    name: "b".into(),
                    addresses: vec!["10.7.9.1/16".into()],
                    state: PeerState::Connected,
                    path: Some(Path {
                        kind: PathKind::RelayWs,
                        remote: "relay.example:8443".into(),
                        rtt_ms: Some(48.25),
                        mtu: None,
                        loss_pct: Some(0.5),
                        why: "the only proven path".into(),
                    }),
                    standby: vec![StandbyPath {
                        kind: PathKind::RelayUdp,
                        remote: "relay.example:8443".into(),
                        rtt_ms: Some(40.0),
                    }],
                    peer_path: Some(PathKind::RelayWs),
                    paths_agree: true,
                    handshake: Some(Handshake {
                        pattern: "Noise_IKhfs+psk0_25519+MLKEM768_ChaChaPoly_BLAKE2s".into(),
                        kem: "ML-KEM-768".into(),
                        cipher: Cipher::Aes256Gcm,
                        age_s: 61,
                        rekeys: 3,
                        version: 1,
                    }),
                    member: Some(PeerMember { standing: "admitted".into(), ..PeerMember::default() }),
                    tx_bytes: 1_234_567,
                    rx_bytes: 9_876_543_210,
                    tx_frames: 1_000,
                    rx_frames: 2_000,
                    tx_dropped: 1,
                    rx_dropped: 2,
                    tx_flooded: [("broadcast".to_owned(), 7)].into(),
                    tx_over_budget: BTreeMap::new(),
                    rx_over_budget: BTreeMap::new(),
                    rx_refused: [("in_arp_spoofed".to_owned(), 1)].into(),
                    resent: 3,
                    lost: 0,
                    switches: 1,
                    wanted: Wanted::Auto,
                    last_switch: Some(Switch {
                        from: PathKind::DirectUdp,
                        to: PathKind::RelayWs,
                        reason: "no answer for 150 ms".into(),
                        resent: 1,
                        duplicates: 2,
                        reordered: 3,
                        lost: 0,
                        gap_ms: Some(4.0),
                        age_s: 5,
                    }),
                    next_direct_try_s: Some(60),
                    asleep: None,
                    incompatible: None,
                    barred: None,
                },
                Peer { id: "c".repeat(52), name: "c".into(), ..Peer::default() },
            ],
        }
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().expect("an object").keys().map(String::as_str).collect()
    }

    #[test]
    fn the_contract_has_exactly_these_names() {
        let json = serde_json::to_value(full()).expect("written");
        let names = |pointer: &str| {
            let mut names = keys(json.pointer(pointer).expect(pointer));
            names.sort_unstable();
            names.join(" ")
        };
        assert_eq!(
            names(""),
            "clock dropped membership names network node now peers relays rules switch version"
        );
        assert_eq!(names("/membership"), "given is_admin name secret state tags until warnings");
        assert_eq!(names("/membership/secret"), "generation state until");
        assert_eq!(names("/peers/0/member"), "has_new_secret refuses_us standing tags until why");
        assert_eq!(
            names("/switch"),
            "arp_answered dropped filters flaps flood_budget groups held loop moves neighbours_answered stations"
        );
        assert_eq!(names("/switch/loop"), "found state with");
        assert_eq!(json.pointer("/switch/loop/state"), Some(&json!("blocked")));
        assert_eq!(names("/names"), "domain error failures left_out left_out_count note served way");
        assert_eq!(names("/names/left_out/0"), "name why");
        assert_eq!(json.pointer("/names/way"), Some(&json!("hosts")));
        assert_eq!(names("/node"), "addresses device id mac mtu name queues");
        assert_eq!(names("/network"), "id name");
        assert_eq!(names("/rules"), "count error file");
        assert_eq!(names("/relays/0"), "observed_tcp observed_udp rtt_ms state url");
        assert_eq!(
            names("/peers/0"),
            "addresses handshake id last_switch lost member name next_direct_try_s path paths_agree peer_path resent rx_bytes \
             rx_dropped rx_frames rx_over_budget rx_refused standby state switches tx_bytes tx_dropped tx_flooded tx_frames \
             tx_over_budget use"
        );
        assert_eq!(names("/peers/0/path"), "kind loss_pct mtu remote rtt_ms why");
        assert_eq!(names("/peers/0/standby/0"), "kind remote rtt_ms");
        assert_eq!(names("/peers/0/handshake"), "age_s cipher kem pattern rekeys");
        assert_eq!(
            names("/peers/0/last_switch"),
            "age_s duplicates from gap_ms lost reason reordered resent to"
        );
        assert_eq!(json.pointer("/peers/0/path/kind"), Some(&json!("relay-ws")));
        assert_eq!(json.pointer("/peers/0/handshake/cipher"), Some(&json!("AES-256-GCM")));
        assert_eq!(json.pointer("/peers/0/state"), Some(&json!("connected")));
        assert_eq!(json.pointer("/peers/1/path"), Some(&Value::Null));
        assert_eq!(json.pointer("/peers/1/state"), Some(&json!("offline")));
    }

    #[test]
    fn it_reads_back_and_fills_in_what_an_older_daemon_does_not_say() {
        let text = serde_json::to_string(&full()).expect("written");
        assert_eq!(serde_json::from_str::<Status>(&text).expect("read"), full());
        let sparse: Status = serde_json::from_str(r#"{"peers":[{"name":"b","new":1}]}"#).expect("read");
        assert_eq!(sparse.peers[0].name, "b");
        assert_eq!(sparse.peers[0].state, PeerState::Offline);
        let handshake: Handshake =
            serde_json::from_str(r#"{"pattern":"p","kem":"k","cipher":"AES-256-GCM","age_s":1,"rekeys":2}"#)
                .expect("read");
        assert_eq!(handshake.version, 1);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_said_where_it_is_so() {
        let mut status = full();
        status.clock = Some(ClockBehind { says: 1, reckoned: 2 });
        status.relays[0].refused = Some("x".into());
        status.peers[0].incompatible = Some("y".into());
        status.peers[0].handshake.as_mut().expect("a session").version = 2;
        let json = serde_json::to_value(&status).expect("written");
        for (at, value) in [
            ("/clock/says", json!(1)),
            ("/clock/reckoned", json!(2)),
            ("/relays/0/refused", json!("x")),
            ("/peers/0/incompatible", json!("y")),
            ("/peers/0/handshake/version", json!(2)),
        ] {
            assert_eq!(json.pointer(at), Some(&value), "{at}");
        }
        assert_eq!(serde_json::from_value::<Status>(json).expect("read"), status);
    }
}
