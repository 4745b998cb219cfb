//! Documents: one admin's word on everything (protocol §8.5).
//!
//! # What it costs
//!
//! A member takes about 110 bytes with its invite, a name and a tag; a revocation 40. A network of 500 members that one admin
//! takes care of, 50 of them revoked, is a document of 55 kB (`tests::statements::five_hundred_members`). Every member keeps one per
//! admin, and gets it whole when it changes: one change costs 55 kB a member, 28 MB in all. So what need not be told at once (who
//! joined) is to be written in batches.

use super::Seconds;
use super::certificate::{Addresses, Tags};
use super::name::Name;
use super::set::{Map, Set};
use super::statement::Body;
use crate::ids::{Fingerprint, KeyId, NetworkId, NodeId, StatementHash};
use crate::ticket::{MAX_ENTRIES, RelayTicket};
use minicbor::{Decode, Encode};

/// Most admins that one admin grants.
pub const MAX_GRANTS: usize = 16;
/// Most admins of a network, those that were removed among them.
pub const MAX_ADMINS: usize = 32;
/// Most keys that one admin revokes.
pub const MAX_REVOKED: usize = 2048;
/// Most members that one admin has a word on.
pub const MAX_MEMBERS: usize = 1024;
/// Most open invites of one admin.
pub const MAX_INVITES: usize = 64;
/// Most bytes of access rules.
pub const MAX_RULES: usize = 64 * 1024;

/// One admin's word. Its newest counts (protocol §8.5).
///
/// ```text
///  [0] version u64, from 1  [1] written at  [2] relays  [3] rules  [4] secret: [version u64, value] or null each
///  [5] {granted admin: name}  [6] removed admins  [7] {revoked key: when}  [8] {node: word}  [9] hashes of open delegations
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(array)]
pub struct Document {
    /// Grows with each document of this admin.
    #[n(0)]
    pub version: u64,
    /// When it was written, by the admin's clock; for people.
    #[n(1)]
    pub written: Seconds,
    /// The network's relays, at most [`MAX_ENTRIES`].
    #[n(2)]
    pub relays: Option<Versioned<Vec<RelayTicket>>>,
    /// The access rules, at most [`MAX_RULES`] bytes.
    #[n(3)]
    pub rules: Option<Versioned<String>>,
    /// Which secret counts.
    #[n(4)]
    pub secret: Option<Versioned<SecretName>>,
    /// Whom this admin makes admins, and what people call them.
    #[n(5)]
    pub admins: Map<Fingerprint, Name, MAX_GRANTS>,
    /// Who is no admin any more.
    #[n(6)]
    pub removed: Set<Fingerprint, MAX_ADMINS>,
    /// Keys of nodes and delegates that are shut out, and since when.
    #[n(7)]
    pub revoked: Map<KeyId, Seconds, MAX_REVOKED>,
    /// What this admin says of nodes. To say anything is to know the node (protocol §8.3).
    #[n(8)]
    pub members: Map<NodeId, Word, MAX_MEMBERS>,
    /// Invites that may be used still.
    #[n(9)]
    pub invites: Set<StatementHash, MAX_INVITES>,
}

/// Something of which the highest version counts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Versioned<T> {
    /// Above those that its writer knew.
    #[n(0)]
    pub version: u64,
    /// What.
    #[n(1)]
    pub value: T,
}

/// Names a network secret without giving it away: whoever has one can see whether it is this (protocol §1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct SecretName {
    /// How often it was rotated.
    #[n(0)]
    pub generation: u32,
    /// What it is called at relays.
    #[n(1)]
    pub network: NetworkId,
    /// Until then the one before is good as well; 0 where it is over at once, whatever a clock says.
    #[n(2)]
    pub until: Seconds,
}

/// What an admin says of a node. What is absent is as in the node's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(array)]
pub struct Word {
    /// By whose invite the node joined.
    #[n(0)]
    pub delegate: Option<Fingerprint>,
    /// Its name.
    #[n(1)]
    pub name: Option<Name>,
    /// Its tags.
    #[n(2)]
    pub tags: Option<Tags>,
    /// Its addresses.
    #[n(3)]
    pub addresses: Option<Addresses>,
    /// When an admin saw it first.
    #[n(4)]
    pub since: Seconds,
    /// As in [`Versioned`].
    #[n(5)]
    pub version: u64,
}

impl Body for Document {
    const KIND: u8 = 3;
    const MAX: usize = 256 * 1024;

    fn is_sound(&self) -> bool {
        let are_relays = self.relays.as_ref().is_none_or(|relays| {
            (1..=MAX_ENTRIES).contains(&relays.value.len())
                && relays.value.iter().all(|relay| relay.check().is_ok())
        });
        let are_rules = self.rules.as_ref().is_none_or(|rules| rules.value.len() <= MAX_RULES);
        self.version > 0 && are_relays && are_rules
    }
}
