//! Who asked to be let in, why somebody was refused, and the tokens that tie a STUN request to a client.
//!
//! The proof itself (the Noise handshake for the node key, the signature for the network) is verified by the link in the
//! shared crate before a [`Registration`] exists.

use crate::core::ConnId;
use shadowmesh_proto::ids::{NetworkId, NodeId};
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::version::Mismatch;
use shadowmesh_proto::wire::relay::{Control, ErrorCode};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A registration whose proofs were verified (protocol §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// The client's key.
    pub node: NodeId,
    /// Its network.
    pub network: NetworkId,
    /// Random per daemon start.
    pub instance: u64,
    /// Where its stream comes from; port 0 where that is not known, behind a proxy.
    pub observed_tcp: SocketAddr,
    /// The version of the protocol that its link chose.
    pub version: u8,
}

/// Why a client is not served, told to it as ERROR before its connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The registration's signature or network key does not fit.
    #[error(
        "the proof of network membership is not valid; check that this host has the network's current invite"
    )]
    BadRegistration,
    /// The same key registered over another connection.
    #[error(
        "this node registered over another connection, which took its place; when that goes on, another host has a copy of its key: give one of the two a new state directory"
    )]
    Replaced,
    /// Two machines seem to have one key.
    #[error(
        "this node's key is in use by another live connection that keeps coming back; give each machine its own state"
    )]
    Contested(Duration),
    /// The network has as many members here as it may.
    #[error("the network has as many members here as this relay allows")]
    NetworkFull,
    /// Members come and go faster than the relay introduces them.
    #[error("members of this network come and go too often for this relay; trying again later")]
    NetworkBusy(Duration),
    /// Its program and this one cannot talk.
    #[error(
        "this relay speaks {} of the protocol, the client {}: upgrade the {}",
        .0.ours, .0.theirs, if .0.theirs.newest() < .0.ours.oldest() { "client" } else { "relay" }
    )]
    Version(Mismatch),
    /// More control messages than allowed.
    #[error("too many control messages")]
    TooChatty,
    /// Too many peers named.
    #[error("too many peers named by CONNECT; ask for everybody instead")]
    TooManyWishes,
    /// A message without sense in this state.
    #[error("a message came that has no place here: {0}")]
    OutOfPlace(&'static str),
}

impl Refusal {
    /// When to come back, where that is known.
    const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Contested(wait) | Self::NetworkBusy(wait) => Some(*wait),
            Self::NetworkFull | Self::Version(_) => Some(Duration::from_secs(60)),
            Self::TooChatty => Some(Duration::from_secs(5)),
            Self::BadRegistration | Self::Replaced | Self::TooManyWishes | Self::OutOfPlace(_) => None,
        }
    }

    const fn code(&self) -> ErrorCode {
        match self {
            Self::BadRegistration => ErrorCode::BadRegistration,
            Self::Replaced => ErrorCode::Replaced,
            Self::Contested(_)
            | Self::NetworkFull
            | Self::NetworkBusy(_)
            | Self::TooChatty
            | Self::TooManyWishes => ErrorCode::Limited,
            Self::OutOfPlace(_) => ErrorCode::Protocol,
            Self::Version(_) => ErrorCode::Version,
        }
    }

    /// The ERROR body that says so.
    pub fn to_body(&self) -> Control {
        Control::Error {
            code: self.code().to_u16(),
            sentence: self.to_string(),
            retry_ms: self.retry_after().map(|wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)),
        }
    }
}

/// A STUN token: 16 random bytes that only a registered client was told (protocol §3.8).
pub type Token = [u8; 16];

/// Which client a STUN token belongs to.
///
/// A lookup by hash leaks nothing useful about the tokens by its timing: they are random, and the hash is keyed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    owners: HashMap<Token, ConnId>,
}

impl Tokens {
    /// Draws a token for `conn`.
    pub fn mint(&mut self, conn: ConnId, rng: &mut dyn Rng) -> Token {
        let mut token = [0; 16];
        rng.fill(&mut token);
        self.owners.insert(token, conn);
        token
    }

    /// Whose it is.
    pub fn owner(&self, token: &Token) -> Option<ConnId> {
        self.owners.get(token).copied()
    }

    /// Forgets it.
    pub fn revoke(&mut self, token: &Token) {
        self.owners.remove(token);
    }
}
