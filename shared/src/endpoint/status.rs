//! What an endpoint shows of itself: plain copies, taken when somebody asks.

use super::event::{PeerState, Via};
use crate::crypto::aead::Cipher;
use crate::ids::{NetworkId, NodeId, PeerSlot};
use crate::membership::Verdict;
use crate::path::select::{PathKind, Wanted};
use crate::transmit::RelayNo;
use crate::traverse::mapping::MappingBehaviour;
use crate::version::Mismatch;
use crate::wire::control::Hello;
use std::net::SocketAddr;
use std::time::Duration;

/// A relay connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayStatus {
    /// Which.
    pub relay: RelayNo,
    /// Whether the registration stands.
    pub registered: bool,
    /// Round trip of the last heartbeat.
    pub rtt: Option<Duration>,
    /// How it sees this node's stream.
    pub observed_tcp: Option<SocketAddr>,
    /// How its STUN sees this node.
    pub observed_udp: Option<SocketAddr>,
    /// The version of the protocol agreed on, while it is registered.
    pub version: Option<u8>,
    /// Whether UDP works to it; `None` while that is being found out.
    pub udp: Option<bool>,
    /// How this node's NAT maps its socket, as two of the relay's ports see it; `None` while that is not known.
    pub mapping: Option<MappingBehaviour>,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub id: NodeId,
    /// Its place in the data plane.
    pub slot: PeerSlot,
    /// How it is doing.
    pub state: PeerState,
    /// What it said of itself.
    pub hello: Option<Hello>,
    /// The path that data takes.
    pub path: Option<PathStatus>,
    /// Other paths that are proven.
    pub standby: Vec<PathStatus>,
    /// The kind of path that the peer says it sends on; `None` before it said anything.
    pub peer_path: Option<PathKind>,
    /// What users of either side asked for.
    pub wanted: Wanted,
    /// Whether no direct link may be tried, by the word of every relay that introduces it.
    pub is_direct_barred: bool,
    /// Whether nothing is under way that may make data of either side take another path soon.
    pub is_settled: bool,
    /// How often data moved to another kind of path.
    pub switches: u64,
    /// The last of those moves.
    pub last_switch: Option<SwitchStatus>,
    /// Whether it is a member; nothing without a session, or in a network without certificates.
    pub member: Option<MemberStatus>,
    /// Until a direct path is tried again; `None` while there is one, or none can be tried.
    pub next_direct_try: Option<Duration>,
    /// The session, if there is one.
    pub session: Option<SessionStatus>,
    /// Since the two gave their session up for want of anything to say; `None` while there is one, or none was.
    pub asleep: Option<SleepStatus>,
    /// That the two speak no common version of the protocol, as the last handshake found.
    pub incompatible: Option<Mismatch>,
}

/// A peer whose session rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SleepStatus {
    /// For how long.
    pub age: Duration,
    /// The path that data took last.
    pub last_path: PathKind,
}

/// What two nodes think of each other as members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// What this node thinks of the peer.
    pub verdict: Verdict,
    /// What the peer said of this node, by its number (protocol §8.5).
    pub standing: u8,
    /// Which of the network's secrets it says that it holds.
    pub secrets: Vec<NetworkId>,
}

/// A path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathStatus {
    /// Where it runs; also its kind.
    pub via: Via,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// The largest packet that was proven to pass both ways on a datagram path, bytes, with the IP header. A stream has no such size:
    /// its TCP cuts what it carries.
    pub mtu: Option<u16>,
    /// Loss of this side's data over the last two seconds, or as long as forty packets took, in thousandths, where enough was sent to say.
    pub loss: Option<u64>,
    /// Why data takes it, or may.
    pub why: &'static str,
}

/// A move of the data to another kind of path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchStatus {
    /// The kind before.
    pub from: PathKind,
    /// The kind after.
    pub to: PathKind,
    /// Why.
    pub why: &'static str,
    /// How long ago.
    pub age: Duration,
}

/// A session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionStatus {
    /// The cipher agreed on.
    pub cipher: Cipher,
    /// The version of the protocol agreed on.
    pub version: u8,
    /// Since its first handshake.
    pub age: Duration,
    /// Completed rekeys.
    pub rekeys: u64,
}
