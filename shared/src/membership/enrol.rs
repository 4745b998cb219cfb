//! What an admin node does about a node that comes in by an invite: it takes it up in the record, or revokes it (protocol §8.3).
//!
//! Members that no admin can reach admit whoever shows a certificate within its delegation; how often an invite was used only the
//! record can tell. So the limit holds from the moment an admin meets as many as it allows: the record knows them, and nobody who
//! heard it admits another. The admin that meets one too many revokes the delegate, and not the node: whoever has an invite can
//! make nodes without end, and the room for revocations has one. Nor does it take more room than that: what an admin says on its own of
//! those that come leaves room for all the revocations that a document may have, and for some members that a person lets in. Where room is
//! scarce words go of which nobody has any use ([`Document::drop_shut_out`]). Two admins that each met another node while they could not reach each
//! other both took one up; the record that merges their documents holds both, in an order on which everybody agrees, and of these the
//! later are revoked.

use super::certificate::{Addresses, Certificate};
use super::delegation::Delegation;
use super::document::{Document, MAX_MEMBERS, MAX_REVOKED, Word};
use super::name::Name;
use super::record::{Facts, Full, View};
use super::statement::{Body, Statement};
use super::{Address, Seconds};
use crate::ids::{Fingerprint, KeyId, NodeId};
use crate::wire::codec;

/// Bytes of a revocation at most: a key and when.
const REVOCATION: usize = 2 + 32 + 9;
/// Bytes of what is signed besides the document: kind and root.
const FRAME: usize = 64;
/// Bytes of a node's key in the map of members.
const KEY: usize = 2 + 32;
/// Bytes of a word on a member, as most have it.
const WORD: usize = 128;
/// Members, and bytes, that only a person gives away: who comes by an invite does not keep anybody out whom an admin lets in by hand.
const BY_HAND: (usize, usize) = (64, 16 << 10);

/// What to do about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolment {
    /// The record knows it.
    Known,
    /// It is to be taken up, by this word.
    Enter(Word),
    /// The invite has been used up by others: it is to be revoked, and people are to be told.
    UsedUp {
        /// Whose invite.
        delegate: Fingerprint,
        /// Who used it.
        by: Vec<NodeId>,
    },
}

impl View {
    /// What an admin does about a node that was admitted by `delegation`, or that a person approved. `is_taken`: which addresses are
    /// known to be others'.
    pub fn enrolment(
        &self,
        certificate: &Statement<Certificate>,
        delegation: &Statement<Delegation>,
        now: Seconds,
        is_taken: impl Fn(Address) -> bool,
    ) -> Enrolment {
        let says = certificate.body();
        if self.knows(says.node) {
            return Enrolment::Known;
        }
        let delegate = delegation.body().delegate;
        let by = self.joined_by(delegate);
        if delegation.body().uses.is_some_and(|uses| by.len() >= uses as usize) {
            return Enrolment::UsedUp { delegate, by };
        }
        let facts = self.facts_at_entry(says, Some(delegation.body()), is_taken);
        Enrolment::Enter(self.first_word(facts, Some(delegate), now))
    }

    /// What is true of a node that is taken up. Where the record gives another the name of its certificate, it is called `NAME-2`, or
    /// the next number that nobody has. Where it gives another the IPv4 address, it gets the next one of the invite's blocks: it cannot sign
    /// for that itself any more.
    pub fn facts_at_entry(
        &self,
        certificate: &Certificate,
        delegation: Option<&Delegation>,
        is_taken: impl Fn(Address) -> bool,
    ) -> Facts {
        let mut facts = self.facts(certificate);
        let has_lost =
            certificate.addresses.ipv4().next().is_some() && facts.addresses.ipv4().next().is_none();
        let next =
            delegation.filter(|_| has_lost).and_then(|limits| limits.free_ipv4(certificate.node, is_taken));
        if let Some(next) = next {
            facts.addresses.insert(next);
        }
        // What it is called by a word, a person chose.
        let is_called = self.word(certificate.node).is_some_and(|word| word.name.is_some());
        if !is_called && self.named(&certificate.name).is_some_and(|other| other != certificate.node) {
            facts.name = self.next_free(&certificate.name).unwrap_or(facts.name);
        }
        facts
    }

    /// The first of `NAME-2`, `NAME-3`, … that the record gives nobody.
    fn next_free(&self, name: &Name) -> Option<Name> {
        let numbers = 2..=MAX_MEMBERS + 2;
        numbers.map(|number| name.with_tail(&number.to_string())).find(|name| self.named(name).is_none())
    }

    /// The first word on a node: all that is true of it, so that it stays true whatever becomes of who vouched for it.
    pub fn first_word(&self, facts: Facts, delegate: Option<Fingerprint>, now: Seconds) -> Word {
        let Facts { name, tags, addresses } = facts;
        Word {
            delegate,
            name: Some(name),
            tags: Some(tags),
            // None given is said by leaving it out: what another certificate says counts then.
            addresses: Some(addresses).filter(|addresses| !addresses.is_empty()),
            since: now,
            version: self.next_version(),
        }
    }

    /// Nodes to which the record gives an IPv4 address that is another's, as two admins apart may have entered them, and by whom they
    /// came.
    pub fn without_address(&self) -> impl Iterator<Item = (NodeId, Fingerprint, &Addresses)> + '_ {
        self.members().filter_map(|(node, word, _)| {
            let (addresses, delegate) = (word.addresses.as_ref()?, word.delegate?);
            let mut own = addresses.ipv4().peekable();
            own.peek()?;
            let has_none = own.all(|address| self.holder(address.ip()) != Some(node));
            (has_none && self.revocation(node).is_none()).then_some((node, delegate, addresses))
        })
    }

    /// Nodes of the record by which `delegation` was used more often than it may be: those that came later. An admin revokes them as
    /// soon as it sees them here.
    pub fn joined_too_many(&self, delegation: &Delegation) -> Vec<NodeId> {
        let Some(uses) = delegation.uses else { return Vec::new() };
        let later = self.joined_by(delegation.delegate).into_iter().skip(uses as usize);
        later.filter(|node| self.revocation(*node).is_none()).collect()
    }
}

impl Document {
    /// Acts on an enrolment of `node`.
    ///
    /// # Errors
    /// [`Full`] when there is no room, and nothing was changed.
    pub fn enrol(&mut self, node: NodeId, enrolment: &Enrolment, now: Seconds) -> Result<(), Full> {
        let fits = match enrolment {
            Enrolment::Known => true,
            Enrolment::Enter(word) => {
                self.has_room(codec::encode(word).len()) && self.members.insert(node, word.clone())
            }
            Enrolment::UsedUp { delegate, .. } => self.revoke(*delegate, now),
        };
        if fits { Ok(()) } else { Err(Full) }
    }

    /// Says something of a node, by a person's will: all revocations fit beside it.
    ///
    /// # Errors
    /// [`Full`] when there is no room, and nothing was changed.
    pub fn say_of(&mut self, node: NodeId, word: Word) -> Result<(), Full> {
        let before = self.members.get(&node).map_or(0, |known| codec::encode(known).len());
        let more = codec::encode(&word).len();
        let fits = more <= before || self.room() >= more + KEY;
        if fits && self.members.insert(node, word) { Ok(()) } else { Err(Full) }
    }

    /// Whether one may be taken up that came by itself, whom a word of so many bytes is about.
    fn has_room(&self, word: usize) -> bool {
        let (members, bytes) = BY_HAND;
        self.members.len() + members < MAX_MEMBERS && self.room() >= word + KEY + bytes
    }

    /// Bytes that are left beside what it says, and beside as many revocations as it may have.
    fn room(&self) -> usize {
        let revocations = MAX_REVOKED.saturating_sub(self.revoked.len()) * REVOCATION;
        Self::MAX.saturating_sub(FRAME + codec::encode(self).len() + revocations)
    }

    /// Where there is no room for who comes by an invite: forgets the words on nodes that it shuts out and that came by an invite that it
    /// shuts out as well, or by none. A use of an invite that is open counts, also by who was revoked.
    pub fn drop_shut_out(&mut self) {
        if self.has_room(WORD) {
            return;
        }
        let is_out = |key: KeyId| self.revoked.contains_key(&key);
        let is_of_no_use = |(node, word): &(&NodeId, &Word)| {
            is_out(KeyId::from(**node)) && word.delegate.is_none_or(|delegate| is_out(KeyId::from(delegate)))
        };
        let gone: Vec<NodeId> = self.members.iter().filter(is_of_no_use).map(|(node, _)| *node).collect();
        gone.iter().for_each(|node| self.members.remove(node));
    }

    /// Shuts out a node or a delegate; one that is shut out already stays so from then on. False when there is no room.
    pub fn revoke(&mut self, key: impl Into<KeyId>, now: Seconds) -> bool {
        let key = key.into();
        self.revoked.contains_key(&key) || self.revoked.insert(key, now)
    }
}
