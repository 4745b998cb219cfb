//! What must hold of any input: one function for each thing that reads what others wrote.
//!
//! A [`Target`] takes bytes and panics when a property is broken. The same functions run twice: under libFuzzer, which looks for inputs
//! that reach more of the code (`fuzz/`, `scripts/fuzz TARGET SECONDS`), and in `tests/properties/tests/fuzzed.rs`, with the inputs that are
//! committed and thousands that are near to them. They use the public interface of the protocol crate and nothing else.
//!
//! - Parsers ([`rules`], [`statement`], [`ticket`], [`payload`], [`packet`], [`peer`], [`relay`], [`stun`]) take the bytes as they
//!   would come: whatever is read is written back as the same thing, and is within its bounds.
//! - What takes more than bytes ([`chain`], [`judge`], [`record`], [`exchange`]) takes them as a [`Script`](script::Script): what an enemy does with
//!   signed statements, what an authority says in which field. So that the search does not end at the first signature.
//!
//! # Invariants
//!
//! - A function is a function of its bytes: no clock counts and no randomness, but for the hedge of ML-DSA, on which nothing depends.
//! - Each names seeds: inputs that reach the inside. `cargo run -p shadowmesh-properties --example seeds` writes them to `fuzz/seeds`.

pub mod authorities;
pub mod chain;
pub mod exchange;
pub mod judge;
pub mod packet;
pub mod payload;
pub mod peer;
pub mod record;
pub mod relay;
pub mod rules;
pub mod script;
pub mod statement;
pub mod stun;
pub mod ticket;

/// Something that reads what others wrote.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called in `fuzz/fuzz_targets`, `fuzz/seeds` and on the command line.
    pub name: &'static str,
    /// Panics when a property does not hold of these bytes.
    pub check: fn(&[u8]),
    /// Inputs to begin with, always the same.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 12] = [
    Target { name: "chain", check: chain::check, seeds: chain::seeds },
    Target { name: "exchange", check: exchange::check, seeds: exchange::seeds },
    Target { name: "judge", check: judge::check, seeds: judge::seeds },
    Target { name: "packet", check: packet::check, seeds: packet::seeds },
    Target { name: "payload", check: payload::check, seeds: payload::seeds },
    Target { name: "peer", check: peer::check, seeds: peer::seeds },
    Target { name: "record", check: record::check, seeds: record::seeds },
    Target { name: "relay", check: relay::check, seeds: relay::seeds },
    Target { name: "rules", check: rules::check, seeds: rules::seeds },
    Target { name: "statement", check: statement::check, seeds: statement::seeds },
    Target { name: "stun", check: stun::check, seeds: stun::seeds },
    Target { name: "ticket", check: ticket::check, seeds: ticket::seeds },
];
