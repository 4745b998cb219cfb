//! Certificates: what makes a node a member (protocol §8.2).

use super::Seconds;
use super::block::Address;
use super::name::{Name, Tag};
use super::set::Set;
use super::statement::Body;
use crate::ids::{NodeId, StatementHash};
use minicbor::{Decode, Encode};

/// Most tags of a member.
pub const MAX_TAGS: usize = 16;
/// Most addresses of a member.
pub const MAX_ADDRESSES: usize = 8;
/// Tags of a member.
pub type Tags = Set<Tag, MAX_TAGS>;
/// Addresses of a member. None: it has those that follow from its key (protocol §1.5, §1.6).
pub type Addresses = Set<Address, MAX_ADDRESSES>;

impl Addresses {
    /// The IPv4 addresses among them.
    pub fn ipv4(&self) -> impl Iterator<Item = Address> + '_ {
        self.iter().copied().filter(|address| address.ip().is_ipv4())
    }
}

/// An admin, or a delegate, says that a node is a member.
///
/// ```text
///  [0] node key  [1] name  [2] addresses, at most 8  [3] tags, at most 16  [4] not before  [5] not after
///  [6] hash of the delegation that lets its issuer say so, or null where that is an admin  [7] serial u64
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Certificate {
    /// Whose it is.
    #[n(0)]
    pub node: NodeId,
    /// What people call it.
    #[n(1)]
    pub name: Name,
    /// Its addresses inside the network.
    #[n(2)]
    pub addresses: Addresses,
    /// What access rules call it.
    #[n(3)]
    pub tags: Tags,
    /// Good from here.
    #[n(4)]
    pub not_before: Seconds,
    /// Good up to here, and after it no more.
    #[n(5)]
    pub not_after: Seconds,
    /// From what a delegate has the right; an admin needs none.
    #[n(6)]
    pub delegation: Option<StatementHash>,
    /// Of two certificates of one node that begin at the same time the higher is the newer; drawn at random where nothing is known.
    #[n(7)]
    pub serial: u64,
}

impl Body for Certificate {
    const KIND: u8 = 2;
    const MAX: usize = 2048;

    fn is_sound(&self) -> bool {
        self.not_before < self.not_after
    }
}

const _: () =
    assert!(MAX_TAGS * 65 + MAX_ADDRESSES * 18 + 65 + 150 < Certificate::MAX, "the largest one fits");
