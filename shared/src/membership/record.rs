//! The record: what the documents of all admins say together (protocol §8.5).
//!
//! A [`Record`] is what was heard: of each authority its newest document, and every key and admin that any of its documents shut out,
//! those of documents that were replaced among them. Merging two records is a join (the higher version, the union of what is shut
//! out), so members that heard the same things in any order, and any number of times, hold the same record. Who counts as an admin is not
//! asked when something is heard, or the order would matter: it is asked when the record is read, as a [`View`].
//!
//! # Invariants
//!
//! - What an authority shut out stays shut out by it here, whatever it says later.
//! - Bounded: [`MAX_WRITERS`] authorities, each with what a document can hold. Only those worth asking for
//!   ([`Standing::ranked`]) are asked for; the rest of the room is for those that were it.

use super::delegation::Delegation;
use super::document::{Document, MAX_ADMINS, MAX_REVOKED, SecretName, Versioned, Word};
use super::name::Name;
use super::standing::{Said, Standing};
use super::statement::Statement;
use super::{Address, Addresses, Certificate, Seconds, Tags};
use crate::ids::{Fingerprint, KeyId, NodeId, StatementHash};
use crate::ticket::RelayTicket;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Most authorities whose documents are kept.
pub const MAX_WRITERS: usize = 2 * MAX_ADMINS;

/// The highest version that others go by. One above it leaves little room above itself, and nobody comes to it by counting: it counts
/// for what was said under it, and for nothing else.
const MAX_MEASURE: u64 = 1 << 63;

/// What was heard of a network's admins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    root: Fingerprint,
    writers: BTreeMap<Fingerprint, Writer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Writer {
    newest: Statement<Document>,
    removed: BTreeSet<Fingerprint>,
    revoked: BTreeMap<KeyId, Seconds>,
}

impl Writer {
    fn new(document: Statement<Document>) -> Self {
        let body = document.body();
        let (removed, revoked) = ((*body.removed).clone(), (*body.revoked).clone());
        Self { newest: document, removed, revoked }
    }

    /// The join of what was heard here and there. Of more than a document can say again the lowest keys stay, which is a join as well.
    fn merge(&mut self, other: &Self) {
        let order = |document: &Statement<Document>| (document.body().version, document.hash());
        if order(&other.newest) > order(&self.newest) {
            self.newest = other.newest.clone();
        }
        self.removed.extend(&other.removed);
        while self.removed.len() > MAX_ADMINS {
            self.removed.pop_last();
        }
        for (key, at) in &other.revoked {
            let first = self.revoked.entry(*key).or_insert(*at);
            *first = (*first).min(*at);
        }
        while self.revoked.len() > MAX_REVOKED {
            self.revoked.pop_last();
        }
    }
}

impl Record {
    /// Nothing was heard yet in the network of `root`.
    pub const fn new(root: Fingerprint) -> Self {
        Self { root, writers: BTreeMap::new() }
    }

    /// Somebody said this. Whether that is news.
    pub fn insert(&mut self, document: Statement<Document>) -> bool {
        let issuer = document.issuer();
        let heard = Writer::new(document);
        if let Some(known) = self.writers.get_mut(&issuer) {
            let before = known.clone();
            known.merge(&heard);
            return *known != before;
        }
        self.enter(issuer, heard)
    }

    /// Takes in a writer that is not there yet, if there is room. Room is made by those that nobody grants anything any more.
    fn enter(&mut self, issuer: Fingerprint, heard: Writer) -> bool {
        if self.writers.len() >= MAX_WRITERS {
            let standing = self.standing();
            self.writers.retain(|writer, _| standing.ranked().contains(writer));
        }
        let has_room = self.writers.len() < MAX_WRITERS;
        if has_room {
            self.writers.insert(issuer, heard);
        }
        has_room
    }

    /// Takes over what was heard elsewhere: a join, as long as both together are within [`MAX_WRITERS`].
    pub fn merge(&mut self, other: &Self) {
        for (issuer, heard) in &other.writers {
            match self.writers.get_mut(issuer) {
                Some(known) => known.merge(heard),
                None => {
                    self.enter(*issuer, heard.clone());
                }
            }
        }
    }

    /// The newest document of `issuer`.
    pub fn document(&self, issuer: Fingerprint) -> Option<&Statement<Document>> {
        self.writers.get(&issuer).map(|writer| &writer.newest)
    }

    /// The newest documents of all.
    pub fn documents(&self) -> impl Iterator<Item = &Statement<Document>> + '_ {
        self.writers.values().map(|writer| &writer.newest)
    }

    /// What `issuer` has to write next, before any change: what it said last, under the next version, and all it ever shut out. Also
    /// where its own memory is an old copy, as long as others told it what it had said.
    pub fn draft(&self, issuer: Fingerprint, now: Seconds) -> Document {
        let mut draft = self.document(issuer).map(|newest| newest.body().clone()).unwrap_or_default();
        draft.version = draft.version.saturating_add(1);
        draft.written = now;
        if let Some(writer) = self.writers.get(&issuer) {
            // Both are within the bounds of a document.
            for admin in &writer.removed {
                draft.removed.insert(*admin);
            }
            for (key, at) in &writer.revoked {
                draft.revoked.insert(*key, *at);
            }
        }
        draft
    }

    /// What documents shut out that were replaced, and whose newest does not say so: to be stored beside those, or it would be
    /// forgotten. Ends with what was removed.
    pub fn bygones(&self) -> impl Iterator<Item = (Fingerprint, Bygone)> + '_ {
        self.writers.iter().flat_map(|(issuer, writer)| {
            let newest = writer.newest.body();
            let revoked = writer.revoked.iter().filter(|(key, at)| newest.revoked.get(*key) != Some(*at));
            let revoked = revoked.map(|(key, at)| Bygone::Revoked(*key, *at));
            let removed = writer.removed.difference(&newest.removed).copied().map(Bygone::Removed);
            revoked.chain(removed).map(|bygone| (*issuer, bygone))
        })
    }

    /// Takes in one of [`Self::bygones`]; false where nothing is known of its issuer.
    pub(super) fn recall(&mut self, issuer: Fingerprint, bygone: Bygone) -> bool {
        let Some(writer) = self.writers.get_mut(&issuer) else { return false };
        let mut heard = writer.clone();
        (heard.removed, heard.revoked) = match bygone {
            Bygone::Revoked(key, at) => (BTreeSet::new(), BTreeMap::from([(key, at)])),
            Bygone::Removed(admin) => (BTreeSet::from([admin]), BTreeMap::new()),
        };
        writer.merge(&heard);
        true
    }

    /// The highest version of anything that those say of whom `counts` says so.
    fn latest_of(&self, counts: impl Fn(Fingerprint) -> bool) -> u64 {
        let documents = self.writers.iter().filter(|(issuer, _)| counts(**issuer));
        documents.map(|(_, writer)| writer.newest.body().latest()).max().unwrap_or_default()
    }

    fn standing(&self) -> Standing {
        Standing::of(self.root, |issuer| {
            let writer = self.writers.get(&issuer)?;
            Some(Said { newest: writer.newest.body(), removed: &writer.removed })
        })
    }

    /// What all this amounts to.
    pub fn view(&self) -> View {
        View::of(self)
    }
}

/// What a document shut out that is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bygone {
    /// The key of a node or a delegate, and since when.
    Revoked(KeyId, Seconds),
    /// An admin.
    Removed(Fingerprint),
}

/// Who shut a key out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// An admin.
    pub by: Fingerprint,
    /// By its clock.
    pub at: Seconds,
}

/// What is true of a member, whatever it says of itself (protocol §8.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What it is called; nobody else is.
    pub name: Name,
    /// What access rules call it.
    pub tags: Tags,
    /// Its addresses. None: those that follow from its key.
    pub addresses: Addresses,
}

impl Facts {
    /// Whether that is one of its addresses.
    pub fn has(&self, address: IpAddr) -> bool {
        Address::new(address).is_some_and(|address| self.addresses.contains(&address))
    }
}

/// What the record says: only what admins say who stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    standing: Standing,
    revoked: BTreeMap<KeyId, Revocation>,
    members: BTreeMap<NodeId, Known>,
    names: BTreeMap<Name, NodeId>,
    addresses: BTreeMap<Address, NodeId>,
    relays: Option<Ruling<Vec<RelayTicket>>>,
    rules: Option<Ruling<String>>,
    secret: Option<Ruling<SecretName>>,
    invites: BTreeSet<StatementHash>,
    latest: u64,
}

/// The word on a node that counts, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    word: Word,
    by: Fingerprint,
    /// The earliest of all admins'.
    since: Seconds,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ruling<T> {
    said: Versioned<T>,
    by: Fingerprint,
}

impl View {
    fn of(record: &Record) -> Self {
        let mut view = Self { standing: record.standing(), ..Self::default() };
        // In the order of fingerprints: between equal versions the first one stays.
        for (by, writer) in &record.writers {
            if !view.standing.is_admin(*by) {
                continue;
            }
            let (by, document) = (*by, writer.newest.body());
            for (key, at) in &writer.revoked {
                let first = view.revoked.entry(*key).or_insert(Revocation { by, at: *at });
                if *at < first.at {
                    *first = Revocation { by, at: *at };
                }
            }
            for (node, word) in document.members.iter() {
                view.latest = view.latest.max(measure(word.version));
                let since = word.since;
                let known =
                    view.members.entry(*node).or_insert_with(|| Known { word: word.clone(), by, since });
                known.since = known.since.min(since);
                if word.version > known.word.version {
                    (known.word, known.by) = (word.clone(), by);
                }
            }
            take(&mut view.relays, document.relays.as_ref(), by, &mut view.latest);
            take(&mut view.rules, document.rules.as_ref(), by, &mut view.latest);
            take(&mut view.secret, document.secret.as_ref(), by, &mut view.latest);
            view.invites.extend(document.invites.iter());
        }
        view.settle_names();
        view
    }

    /// Of those to whom the record gives one name or address, and that were not shut out, the one that joined first has it.
    fn settle_names(&mut self) {
        let mut members: Vec<(&NodeId, &Known)> = self.members.iter().collect();
        members.sort_unstable_by_key(|(node, known)| (known.since, **node));
        // Who was shut out keeps none from others.
        let stands = |node: NodeId| !self.revoked.contains_key(&KeyId::from(node));
        for (node, known) in members.into_iter().filter(|(node, _)| stands(**node)) {
            if let Some(name) = &known.word.name {
                self.names.entry(name.clone()).or_insert(*node);
            }
            for address in known.word.addresses.iter().flat_map(|addresses| addresses.iter()) {
                self.addresses.entry(*address).or_insert(*node);
            }
        }
    }

    /// Who is an admin.
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether, by whom and when a key was shut out.
    pub fn revocation(&self, key: impl Into<KeyId>) -> Option<Revocation> {
        self.revoked.get(&key.into()).copied()
    }

    /// Every key that was shut out.
    pub fn revocations(&self) -> impl Iterator<Item = (KeyId, Revocation)> + '_ {
        self.revoked.iter().map(|(key, revocation)| (*key, *revocation))
    }

    /// Whether an admin has a word on the node.
    pub fn knows(&self, node: NodeId) -> bool {
        self.members.contains_key(&node)
    }

    /// What is true of the owner of `certificate`: what the record says, else what the certificate does; but not a name or an address
    /// that the record gives to another.
    pub fn facts(&self, certificate: &Certificate) -> Facts {
        let node = certificate.node;
        let word = self.members.get(&node).map(|known| &known.word);
        let name = word.and_then(|word| word.name.as_ref()).unwrap_or(&certificate.name);
        let tags = word.and_then(|word| word.tags.as_ref()).unwrap_or(&certificate.tags);
        let addresses = word.and_then(|word| word.addresses.as_ref()).unwrap_or(&certificate.addresses);
        let is_anothers = |owner: Option<&NodeId>| owner.is_some_and(|owner| *owner != node);
        let name =
            if is_anothers(self.names.get(name)) { name.with_tail(&node.short()) } else { name.clone() };
        let addresses = addresses.iter().filter(|address| !is_anothers(self.addresses.get(address)));
        Facts { name, tags: tags.clone(), addresses: Addresses::new(addresses.copied()).unwrap_or_default() }
    }

    /// The same of a certificate that `voucher` stands behind: its issuer, or that of its delegation. Of what somebody says who is no
    /// admin any more nothing counts but what the record says as well: whoever removed it may have had a reason.
    pub fn facts_vouched_by(&self, voucher: Fingerprint, certificate: &Certificate) -> Facts {
        if self.standing.is_admin(voucher) {
            return self.facts(certificate);
        }
        self.facts_of_record(certificate)
    }

    /// What the record alone says of the owner of `certificate`.
    pub fn facts_of_record(&self, certificate: &Certificate) -> Facts {
        self.facts(&Certificate {
            // The certificate's name says nothing; only a record without one shows it.
            name: Name::new(&certificate.node.short()).unwrap_or_else(|| certificate.name.clone()),
            tags: Tags::default(),
            addresses: Addresses::default(),
            ..certificate.clone()
        })
    }

    /// Every address that the record gives to somebody, and to whom.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, NodeId)> + '_ {
        self.addresses.iter().map(|(address, node)| (address.ip(), *node))
    }

    /// To whom the record gives an address.
    pub fn holder(&self, address: IpAddr) -> Option<NodeId> {
        self.addresses.get(&Address::new(address)?).copied()
    }

    /// Every name that the record gives to somebody, and to whom.
    pub fn names(&self) -> impl Iterator<Item = (&Name, NodeId)> + '_ {
        self.names.iter().map(|(name, node)| (name, *node))
    }

    /// To whom the record gives a name.
    pub fn named(&self, name: &Name) -> Option<NodeId> {
        self.names.get(name).copied()
    }

    /// The word on a node that counts.
    pub fn word(&self, node: NodeId) -> Option<&Word> {
        self.members.get(&node).map(|known| &known.word)
    }

    /// Every node that an admin has a word on, and since when the first of them knows it.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Word, Seconds)> + '_ {
        self.members.iter().map(|(node, known)| (*node, &known.word, known.since))
    }

    /// Those who joined by `delegate`, first who joined first. A revoked one used it as well.
    pub fn joined_by(&self, delegate: Fingerprint) -> Vec<NodeId> {
        let joined = self.members.iter().filter(|(_, known)| known.word.delegate == Some(delegate));
        let mut joined: Vec<(Seconds, NodeId)> = joined.map(|(node, known)| (known.since, *node)).collect();
        joined.sort_unstable();
        joined.into_iter().map(|(_, node)| node).collect()
    }

    /// Whether members used an invite as often as it may be.
    pub fn is_used_up(&self, invite: &Delegation) -> bool {
        invite.uses.is_some_and(|uses| self.joined_by(invite.delegate).len() >= uses as usize)
    }

    /// The network's relays, if the record says so.
    pub fn relays(&self) -> Option<&[RelayTicket]> {
        self.relays.as_ref().map(|ruling| ruling.said.value.as_slice())
    }

    /// The access rules.
    pub fn rules(&self) -> Option<&str> {
        self.rules.as_ref().map(|ruling| ruling.said.value.as_str())
    }

    /// Which secret counts.
    pub fn secret(&self) -> Option<SecretName> {
        self.secret.as_ref().map(|ruling| ruling.said.value)
    }

    /// Delegations that members should have at hand for whoever joins.
    pub const fn invites(&self) -> &BTreeSet<StatementHash> {
        &self.invites
    }

    /// The version for what is said next of something that nobody said anything of: above all others, but for those that leave others
    /// no room.
    pub const fn next_version(&self) -> u64 {
        self.latest.saturating_add(1)
    }

    /// The same where something is said already: above that as well. `None` where it has the highest version that there is; nobody says
    /// anything else of it then, until its writer is removed ([`Self::remove_admin`]).
    fn next_above(&self, said: Option<u64>) -> Option<u64> {
        let above = said.map_or(Some(0), |said| said.checked_add(1))?;
        Some(above.max(self.next_version()))
    }

    /// The version for another word on a node; `None` where none is left.
    pub fn next_of_word(&self, node: NodeId) -> Option<u64> {
        self.next_above(self.word(node).map(|word| word.version))
    }

    /// The version for other relays; `None` where none is left.
    pub fn next_of_relays(&self) -> Option<u64> {
        self.next_above(self.relays.as_ref().map(|ruling| ruling.said.version))
    }

    /// The version for other rules; `None` where none is left.
    pub fn next_of_rules(&self) -> Option<u64> {
        self.next_above(self.rules.as_ref().map(|ruling| ruling.said.version))
    }

    /// The version for another secret; `None` where none is left.
    pub fn next_of_secret(&self) -> Option<u64> {
        self.next_above(self.secret.as_ref().map(|ruling| ruling.said.version))
    }

    /// Lets `document`, which is `writer`'s, remove an admin; its open invites end. With [`Legacy::Kept`] the document takes over what
    /// that one had said and fits: whom it shut out and removed, its words that count, its grants. How much did not fit is returned.
    ///
    /// The removal comes first and nothing else hinders it: an admin that says so much that nobody can repeat it would stay for ever.
    /// Nor do versions: what is taken over, and what `writer` said above it, is numbered anew, above what those say who remain.
    ///
    /// Revocations of an admin count as long as it stands. One that it made at the same time, and that its remover had not heard of,
    /// is lost with it: the other way round whoever stole an admin's key could shut out everybody after having been removed.
    ///
    /// # Errors
    /// [`Full`] when so many were removed that no other can be.
    pub fn remove_admin(
        &self,
        record: &Record,
        document: &mut Document,
        writer: Fingerprint,
        admin: Fingerprint,
        legacy: Legacy,
    ) -> Result<usize, Full> {
        if !document.removed.insert(admin) {
            return Err(Full);
        }
        let next =
            record.latest_of(|other| self.standing.is_admin(other) && other != writer && other != admin);
        let next = next.saturating_add(1);
        document.number_at_most(next);
        // What people call the remover may have been said by none but that one.
        let said = record.document(admin).and_then(|said| said.body().admins.get(&writer));
        if let Some(name) = said.filter(|_| !document.admins.contains_key(&writer)) {
            document.admins.insert(writer, name.clone());
        }
        let Some(other) = record.writers.get(&admin).filter(|_| legacy == Legacy::Kept) else {
            return Ok(0);
        };
        let mut lost = 0_usize;
        let mut count = |fits: bool| lost += usize::from(!fits);
        for (key, at) in &other.revoked {
            count(document.revoked.contains_key(key) || document.revoked.insert(*key, *at));
        }
        // Whoever stands although that one removed it goes on standing.
        for removed in other.removed.iter().filter(|removed| !self.standing.is_admin(**removed)) {
            count(document.removed.insert(*removed));
        }
        for (granted, name) in other.newest.body().admins.iter().filter(|(granted, _)| **granted != writer) {
            if !document.removed.contains(granted) && !document.admins.contains_key(granted) {
                count(document.admins.insert(*granted, name.clone()));
            }
        }
        for (node, known) in self.members.iter().filter(|(_, known)| known.by == admin) {
            let word = Word { since: known.since, version: next, ..known.word.clone() };
            count(document.members.insert(*node, word));
        }
        take_over(&mut document.relays, self.relays.as_ref(), admin, next);
        take_over(&mut document.rules, self.rules.as_ref(), admin, next);
        take_over(&mut document.secret, self.secret.as_ref(), admin, next);
        Ok(lost)
    }
}

/// What becomes of what a removed admin had said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Legacy {
    /// Its remover says it from now on.
    Kept,
    /// It counts no more: the key was stolen, or its owner is not to be trusted.
    Dropped,
}

impl Document {
    /// No version of anything it says is above `version`.
    fn number_at_most(&mut self, version: u64) {
        let above: Vec<(NodeId, Word)> = self
            .members
            .iter()
            .filter(|(_, word)| word.version > version)
            .map(|(node, word)| (*node, Word { version, ..word.clone() }))
            .collect();
        for (node, word) in above {
            // There already.
            self.members.insert(node, word);
        }
        let clip = |said: &mut u64| *said = (*said).min(version);
        self.relays.as_mut().map(|said| &mut said.version).map(clip);
        self.rules.as_mut().map(|said| &mut said.version).map(clip);
        self.secret.as_mut().map(|said| &mut said.version).map(clip);
    }

    /// The highest version of anything it says.
    fn latest(&self) -> u64 {
        let rulings = [
            self.relays.as_ref().map(|said| said.version),
            self.rules.as_ref().map(|said| said.version),
            self.secret.as_ref().map(|said| said.version),
        ];
        let words = self.members.values().map(|word| word.version);
        words.chain(rulings.into_iter().flatten()).max().unwrap_or_default()
    }
}

/// A document has no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an admin's document has no room for more")]
pub struct Full;

/// What a version counts for others.
const fn measure(version: u64) -> u64 {
    if version > MAX_MEASURE { 0 } else { version }
}

fn take<T: Clone>(
    best: &mut Option<Ruling<T>>,
    said: Option<&Versioned<T>>,
    by: Fingerprint,
    latest: &mut u64,
) {
    let Some(said) = said else { return };
    *latest = (*latest).max(measure(said.version));
    if best.as_ref().is_none_or(|best| said.version > best.said.version) {
        *best = Some(Ruling { said: said.clone(), by });
    }
}

fn take_over<T: Clone>(
    own: &mut Option<Versioned<T>>,
    counts: Option<&Ruling<T>>,
    admin: Fingerprint,
    version: u64,
) {
    if let Some(ruling) = counts.filter(|ruling| ruling.by == admin) {
        *own = Some(Versioned { version, value: ruling.said.value.clone() });
    }
}
