//! The ShadowMesh protocol as state machines.
//!
//! This crate decides; it never does. It opens no socket, reads no clock and draws no randomness of its own: time is an
//! [`std::time::Instant`] argument, randomness a [`rng::Rng`], bytes come in as slices and go out as values. So every rule
//! in `docs/protocol.md` (the text of record, cited as `protocol §N`) runs in virtual time, and a seed reproduces a failure.
//!
//! From the bottom up:
//!
//! - [`addresses`]: what follows from keys.
//! - [`ids`], [`rng`], [`time`], [`transmit`]: the vocabulary. [`spelling`]: which word was meant. [`calendar`]: which day a second is of.
//! - [`version`]: versions of the protocol, and how two programs agree on one.
//! - [`wire`]: byte layouts, each written down where it is parsed. Parsing is total.
//! - [`ticket`]: the one-line strings people paste.
//! - [`crypto`]: keys, derivations, AEAD, the resolver that gives `snow` its primitives.
//! - [`handshake`]: states are types that consume themselves.
//! - [`link`]: the control session between a client and a relay.
//! - [`session`]: the data plane's halves — seal and open — owned by two threads that never meet.
//! - [`path`]: what is known of an address pair, and whether it may carry data.
//! - [`membership`]: who may send frames in a network, and who says so.
//! - [`rules`]: who may send what to whom, as text and as a judge of one pair.
//! - [`queueing`]: what keeps the queues before streams short.
//! - [`peer`], [`endpoint`]: compose the above into the loop that a daemon drives.

#![forbid(unsafe_code)]

pub mod addresses;
mod bucket;
pub mod calendar;
pub mod crypto;
pub mod endpoint;
pub mod handshake;
pub mod ids;
pub mod link;
pub mod membership;
pub mod path;
pub mod peer;
pub mod queueing;
pub mod rng;
pub mod rules;
pub mod session;
pub mod spelling;
pub mod ticket;
pub mod time;
pub mod transmit;
pub mod traverse;
pub mod version;
pub mod wire;
