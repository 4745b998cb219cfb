//! What the relay decides, without a socket, a clock or randomness of its own.
//!
//! The server tells the [`Relay`] what happened (a proven registration, a control body, a STUN request with a token, a
//! closed connection) and carries out what it answers: bodies to send, routes to install, connections to close. Life of a
//! client: registered → wishes to meet peers (CONNECT) → introduced to each by a channel (PEER, no address) → both ends
//! say CONFIRMED → both learn each other's addresses (ESTABLISHED) → gone (PEER_GONE to everybody it met).
//!
//! - [`auth`]: who asked to be let in, why somebody was refused, and the tokens that tie a STUN request to a client.
//! - [`registry`]: who is here, by connection and by (network, full node key).
//! - [`matchmaking`]: the pairs, their channels and how far each end has come.
//! - [`forward`]: what the data path needs: a pair's meter and a client's two bounded queues.
//! - [`nonce`]: what shows who receives at an address, kept nowhere.
//! - [`limits`]: how much of everything, and the token bucket.
//! - [`relay`]: composes them into one machine.
//!
//! Invariants:
//! - A channel is known to exactly two connections, and only they can use or change it.
//! - No address leaves before both ends of the pair said CONFIRMED (protocol §3.5).
//! - One connection per (network, node key): the newest (protocol §3.4).
//! - Nothing that a STUN request says changes what is known of a client, but the first address: whoever saw a token can send them.
//! - Every map is bounded by [`limits::Limits`]; what a client causes, it can cause only so often.

pub mod auth;
pub mod forward;
pub mod limits;
pub mod matchmaking;
pub mod nonce;
pub mod registry;
pub mod relay;

pub use relay::{Output, Relay};

/// A connection: numbered by the server, never reused within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);
