//! Delegations: what an invite allows (protocol §8.2, §8.3).

use super::block::Block;
use super::certificate::{Certificate, MAX_TAGS, Tags};
use super::name::{Pattern, Tag};
use super::set::Set;
use super::statement::Body;
use super::{Address, Seconds};
use crate::ids::{Fingerprint, NodeId};
use minicbor::{Decode, Encode};

/// Most blocks of addresses in a delegation.
pub const MAX_BLOCKS: usize = 8;

/// An admin lets somebody certify nodes, within limits.
///
/// ```text
///  [0] delegate's fingerprint  [1] joins until  [2] members until  [3] most uses u32 or null  [4] needs approval bool
///  [5] name pattern or null  [6] tags, at most 16  [7] blocks, at most 8
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Delegation {
    /// Who may.
    #[n(0)]
    pub delegate: Fingerprint,
    /// A node that a member meets first after this needs the record's word.
    #[n(1)]
    pub joins_until: Seconds,
    /// No certificate is good beyond this.
    #[n(2)]
    pub members_until: Seconds,
    /// How many nodes, at least 1.
    #[n(3)]
    pub uses: Option<u32>,
    /// Whether each node needs the record's word.
    #[n(4)]
    pub needs_approval: bool,
    /// Which names; any when absent.
    #[n(5)]
    pub names: Option<Pattern>,
    /// Which tags.
    #[n(6)]
    pub tags: Tags,
    /// Which addresses; none but those that follow from the key when empty.
    #[n(7)]
    pub blocks: Set<Block, MAX_BLOCKS>,
}

impl Body for Delegation {
    const KIND: u8 = 1;
    const MAX: usize = 2048;

    fn is_sound(&self) -> bool {
        self.uses != Some(0)
    }
}

/// In what a certificate goes beyond its delegation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Beyond {
    /// Its name.
    #[error("the invite is for names like {0}")]
    Name(Pattern),
    /// A tag.
    #[error("the invite does not give the tag {0}")]
    Tag(Tag),
    /// An address.
    #[error("the invite does not give the address {0}")]
    Address(Address),
    /// Its end.
    #[error("the invite makes members until {0} (seconds since 1970)")]
    Until(Seconds),
}

impl Delegation {
    /// Whether a delegate may say `certificate`.
    ///
    /// # Errors
    /// The first limit that it breaks.
    pub fn permits(&self, certificate: &Certificate) -> Result<(), Beyond> {
        if let Some(pattern) = self.names.as_ref().filter(|pattern| !pattern.matches(&certificate.name)) {
            return Err(Beyond::Name(pattern.clone()));
        }
        if let Some(tag) = certificate.tags.difference(&self.tags).next() {
            return Err(Beyond::Tag(tag.clone()));
        }
        let is_outside = |address: &&Address| !self.gives(**address);
        if let Some(address) = certificate.addresses.iter().find(is_outside) {
            return Err(Beyond::Address(*address));
        }
        if certificate.not_after > self.members_until {
            return Err(Beyond::Until(self.members_until));
        }
        Ok(())
    }

    /// Whether a delegate may give this address.
    pub fn gives(&self, address: Address) -> bool {
        self.blocks.iter().any(|block| block.contains(address))
    }

    /// The first IPv4 address of its blocks that `node` tries and that is not taken.
    pub fn free_ipv4(&self, node: NodeId, is_taken: impl Fn(Address) -> bool) -> Option<Address> {
        let mut tried = self.blocks.iter().flat_map(|block| block.ipv4_attempts(node));
        tried.find(|address| !is_taken(*address))
    }
}

const _: () = assert!(MAX_TAGS * 65 + MAX_BLOCKS * 21 + 64 + 200 < Delegation::MAX, "the largest one fits");
