//! What an endpoint shows of itself: plain copies, taken when somebody asks.

use super::event::PeerState;
use crate::crypto::aead::Cipher;
use crate::ids::{NodeId, PeerSlot};
use crate::path::select::PathKind;
use crate::transmit::RelayNo;
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
    /// The session, if there is one.
    pub session: Option<SessionStatus>,
}

/// The path in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathStatus {
    /// Its kind.
    pub kind: PathKind,
    /// Through which relay.
    pub relay: RelayNo,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
}

/// A session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionStatus {
    /// The cipher agreed on.
    pub cipher: Cipher,
    /// Since its first handshake.
    pub age: Duration,
    /// Completed rekeys.
    pub rekeys: u64,
}
