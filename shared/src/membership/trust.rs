//! What a node holds to judge others and to show itself: one for the node, whatever many sessions it has (protocol §8.4).
//!
//! Everything in it can be stored and read back ([`Trust::blobs`], [`Trust::restore`]); what is read back is verified again.

use super::Seconds;
use super::authority::{AuthorityKey, PUBLIC_LEN};
use super::certificate::Certificate;
use super::delegation::Delegation;
use super::document::Document;
use super::join::{JoinError, Joining};
use super::message::Listed;
use super::record::{Record, View};
use super::statement::{Statement, StatementError, Unverified};
use crate::ids::{BlobHash, Fingerprint, NodeId, StatementHash};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Most nodes of which is remembered that they were met in time. The record takes them up before long.
const MAX_MET: usize = 1024;
/// What one peer is being asked for no other is, for so long: the largest document takes ten round trips.
const CLAIM: Duration = Duration::from_secs(5);
/// Who waited so long for its turn is there no more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// What a node holds.
#[derive(Debug)]
pub struct Trust {
    root: Fingerprint,
    node: NodeId,
    /// Of the root and of admins.
    keys: BTreeMap<Fingerprint, AuthorityKey>,
    record: Record,
    view: View,
    /// Delegations that somebody may join by, to be handed on.
    invites: BTreeMap<StatementHash, Statement<Delegation>>,
    met: BTreeSet<NodeId>,
    own: Option<Own>,
    joining: Option<Joining>,
    offers: BTreeMap<NodeId, Statement<Certificate>>,
    claims: BTreeMap<BlobHash, Claim>,
    changes: u64,
}

/// What this node shows.
#[derive(Debug, Clone)]
pub struct Own {
    /// Its certificate.
    pub certificate: Statement<Certificate>,
    /// Where a delegate signed it: the delegation, and the delegate's public keys.
    pub chain: Option<(Unverified<Delegation>, AuthorityKey)>,
}

impl Trust {
    /// Of `node` in the network of `root`. It knows nothing yet.
    pub fn new(root: Fingerprint, node: NodeId) -> Self {
        let record = Record::new(root);
        let view = record.view();
        Self {
            root,
            node,
            keys: BTreeMap::new(),
            record,
            view,
            invites: BTreeMap::new(),
            met: BTreeSet::new(),
            own: None,
            joining: None,
            offers: BTreeMap::new(),
            claims: BTreeMap::new(),
            changes: 0,
        }
    }

    /// The network.
    pub const fn root(&self) -> Fingerprint {
        self.root
    }

    /// This node.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// What the record says.
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// What was heard.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// What this node shows, if it has it.
    pub const fn own(&self) -> Option<&Own> {
        self.own.as_ref()
    }

    /// Grows with each change after which a peer may have to be told or judged anew.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// The public keys of an authority.
    pub fn key(&self, authority: Fingerprint) -> Option<&AuthorityKey> {
        self.keys.get(&authority)
    }

    /// Keeps the keys of the root, and of whoever the record names as an admin. Whether it is one of those.
    pub fn keep_key(&mut self, key: AuthorityKey) -> bool {
        let fingerprint = key.fingerprint();
        let is_wanted = self.view.standing().ranked().contains(&fingerprint);
        if is_wanted && self.keys.insert(fingerprint, key).is_none() {
            self.changes += 1;
        }
        is_wanted
    }

    /// An admin said something: this node's own, or somebody else's. Whether it is news.
    pub fn hear(&mut self, document: Statement<Document>) -> bool {
        let is_news = self.record.insert(document);
        if is_news {
            self.view = self.record.view();
            let open = self.view.invites();
            self.invites.retain(|hash, _| open.contains(hash));
            let view = &self.view;
            self.met.retain(|node| !view.knows(*node));
            let ranked = self.view.standing().ranked();
            self.keys.retain(|fingerprint, _| ranked.contains(fingerprint));
            self.changes += 1;
        }
        is_news
    }

    /// A delegation that the record names as open, for others to have it from here.
    pub fn keep_invite(&mut self, delegation: Statement<Delegation>) {
        let hash = delegation.hash();
        if self.view.invites().contains(&hash) && self.invites.insert(hash, delegation).is_none() {
            self.changes += 1;
        }
    }

    /// Delegations that may be used still, as far as they are here.
    pub fn invites(&self) -> impl Iterator<Item = &Statement<Delegation>> + '_ {
        self.invites.values()
    }

    /// A delegation that may be used still.
    pub(super) fn invite(&self, hash: StatementHash) -> Option<&Statement<Delegation>> {
        self.invites.get(&hash)
    }

    /// This node met `node` while that might join. It is remembered, for as long as the record does not know it.
    pub fn remember(&mut self, node: NodeId) {
        if !self.met.contains(&node) && self.met.len() < MAX_MET && !self.view.knows(node) {
            self.met.insert(node);
        }
    }

    /// Whether it did.
    pub fn has_met(&self, node: NodeId) -> bool {
        self.met.contains(&node)
    }

    /// Whom it met: to be stored, and given to [`Self::remember`] again.
    pub fn met(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.met.iter().copied()
    }

    /// This node shows another certificate from now on.
    pub fn show(&mut self, own: Own) {
        self.own = Some(own);
        self.joining = None;
        self.changes += 1;
    }

    /// This node shows a certificate that an admin made for it.
    pub(super) fn renew(&mut self, certificate: Statement<Certificate>) {
        self.show(Own { certificate, chain: None });
    }

    /// This node joins: as soon as somebody hands it the delegation, it certifies itself.
    pub fn join(&mut self, joining: Joining) {
        self.joining = Some(joining);
        self.changes += 1;
    }

    /// The delegation that joining needs.
    pub(super) fn sought(&self) -> Option<StatementHash> {
        self.joining.as_ref().map(Joining::delegation)
    }

    /// The delegation that joining needed is here: this node certifies itself.
    ///
    /// # Errors
    /// As [`JoinError`]; it is not tried again.
    pub(super) fn on_sought(
        &mut self,
        delegation: Unverified<Delegation>,
        now: Seconds,
    ) -> Result<(), JoinError> {
        if let Some(joining) = self.joining.take() {
            let own = joining.certify(self.root, self.node, delegation, now)?;
            self.show(own);
        }
        Ok(())
    }

    /// As an admin: a certificate for `node`, to be fetched by it.
    pub fn offer(&mut self, certificate: Statement<Certificate>) {
        self.offers.insert(certificate.body().node, certificate);
        self.changes += 1;
    }

    /// The certificate that waits for `node`.
    pub(super) fn offered_to(&self, node: NodeId) -> Option<StatementHash> {
        self.offers.get(&node).map(Statement::hash)
    }

    /// `node` shows `certificate`: it needs no offer of that any more.
    pub(super) fn on_shown(&mut self, node: NodeId, certificate: StatementHash) {
        if self.offered_to(node) == Some(certificate) {
            self.offers.remove(&node);
        }
    }

    /// The documents to tell others of.
    pub(super) fn documents(&self) -> Vec<Listed> {
        let ranked = self.view.standing().ranked().iter();
        let documents = ranked.filter_map(|issuer| self.record.document(*issuer));
        documents
            .map(|document| Listed {
                issuer: document.issuer(),
                version: document.body().version,
                hash: document.hash(),
            })
            .collect()
    }

    /// What others may ask this node for. No secret is among it.
    pub fn blob(&self, hash: BlobHash) -> Option<&[u8]> {
        let key = self.keys.get(&Fingerprint(hash.0)).map(|key| key.as_bytes().as_slice());
        key.or_else(|| self.invites.get(&StatementHash(hash.0)).map(Statement::bytes))
            .or_else(|| self.documents_with(hash).next())
            .or_else(|| self.offers.values().find(|offer| offer.hash().0 == hash.0).map(Statement::bytes))
            .or_else(|| self.own.as_ref()?.blob(hash))
    }

    fn documents_with(&self, hash: BlobHash) -> impl Iterator<Item = &[u8]> {
        self.record.documents().filter(move |document| document.hash().0 == hash.0).map(Statement::bytes)
    }

    /// All that is to be stored, beside secrets, [`Self::own`] and whom it met; in an order in which [`Self::restore`] takes it.
    pub fn blobs(&self) -> Vec<Vec<u8>> {
        let ranked = self.view.standing().ranked().iter();
        let admins = ranked.flat_map(|admin| {
            let key = self.keys.get(admin).map(|key| key.as_bytes().to_vec());
            key.into_iter().chain(self.record.document(*admin).map(|document| document.bytes().to_vec()))
        });
        admins.chain(self.invites.values().map(|invite| invite.bytes().to_vec())).collect()
    }

    /// Takes in one of [`Self::blobs`].
    ///
    /// # Errors
    /// As [`StatementError`]; `Malformed` also for what has no place here.
    pub fn restore(&mut self, blob: &[u8]) -> Result<(), StatementError> {
        if blob.len() == PUBLIC_LEN {
            let key = AuthorityKey::from_bytes(blob).ok_or(StatementError::Malformed)?;
            return self.keep_key(key).then_some(()).ok_or(StatementError::Malformed);
        }
        if let Ok(document) = Unverified::<Document>::decode(self.root, blob) {
            let key = self.keys.get(&document.issuer()).ok_or(StatementError::Malformed)?;
            let document = document.verify(key)?;
            self.hear(document);
            return Ok(());
        }
        let invite = Unverified::<Delegation>::decode(self.root, blob)?;
        let key = self.keys.get(&invite.issuer()).ok_or(StatementError::Malformed)?;
        let invite = invite.verify(key)?;
        self.keep_invite(invite);
        Ok(())
    }

    /// Whether `peer` may be asked for `hash`: nobody else is. It is noted.
    ///
    /// # Errors
    /// When to try again. Who had its turn and gave nothing waits for those that came after it, so that no member keeps news from a
    /// node by offering it.
    pub(super) fn claim(&mut self, now: Instant, peer: NodeId, hash: BlobHash) -> Result<(), Instant> {
        self.claims.retain(|_, claim| claim.until + FORGOTTEN_AFTER > now);
        let Some(claim) = self.claims.get_mut(&hash) else {
            self.claims.insert(hash, Claim::new(now, peer));
            return Ok(());
        };
        claim.waiting.remove(&peer);
        let (is_running, is_own) = (claim.until > now, claim.owner == peer);
        if is_running && !is_own {
            claim.waiting.insert(peer);
            return Err(claim.until);
        }
        if is_own && !is_running && !claim.waiting.is_empty() {
            return Err(now + CLAIM);
        }
        if !is_running {
            (claim.owner, claim.until) = (peer, now + CLAIM);
        }
        Ok(())
    }

    /// `peer` is not being asked for it any more. Nobody has to be if it is `here`.
    pub(super) fn release(&mut self, now: Instant, peer: NodeId, hash: BlobHash, here: bool) {
        if here {
            self.claims.remove(&hash);
        } else if let Some(claim) = self.claims.get_mut(&hash).filter(|claim| claim.owner == peer) {
            claim.until = claim.until.min(now);
        }
    }
}

/// A blob that somebody is being asked for.
#[derive(Debug)]
struct Claim {
    owner: NodeId,
    until: Instant,
    /// Who could be asked as well.
    waiting: BTreeSet<NodeId>,
}

impl Claim {
    fn new(now: Instant, owner: NodeId) -> Self {
        Self { owner, until: now + CLAIM, waiting: BTreeSet::new() }
    }
}

impl Own {
    fn blob(&self, hash: BlobHash) -> Option<&[u8]> {
        if self.certificate.hash().0 == hash.0 {
            return Some(self.certificate.bytes());
        }
        let (delegation, key) = self.chain.as_ref()?;
        if delegation.hash().0 == hash.0 {
            return Some(delegation.bytes());
        }
        (key.fingerprint().0 == hash.0).then(|| key.as_bytes().as_slice())
    }
}
