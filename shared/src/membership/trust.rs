//! What a node holds to judge others and to show itself: one for the node, whatever many sessions it has (protocol §8.4).
//!
//! Everything in it can be stored and read back ([`Trust::blobs`], [`Trust::restore`]); what is read back is verified again.

use super::authority::{AuthorityKey, PUBLIC_LEN};
use super::certificate::{Addresses, Certificate};
use super::delegation::Delegation;
use super::document::Document;
use super::join::{JoinError, Joining};
use super::message::Listed;
use super::record::{Bygone, Facts, Record, Revocation, View};
use super::secrets::{SecretState, Secrets};
use super::statement::{Statement, StatementError, Unverified};
use super::turns::Turns;
use super::{Address, Seconds};
use crate::bucket::Bucket;
use crate::crypto::keys::{NetworkKeys, NetworkSecret};
use crate::ids::{BlobHash, Fingerprint, NetworkId, NodeId, StatementHash};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Most nodes of which is remembered that they were met in time. The record takes them up before long.
const MAX_MET: usize = 1024;
/// Most delegations that are kept to count by when their invites have ended. Of more those go that ended first.
const MAX_ENDED: usize = 256;
/// So often at most a document is asked for whose writer is no admin any more. It may object, which takes one; who removed it may have
/// had a reason, and each costs every member up to 256 kB and as much on its disk.
const OBJECTION: Duration = Duration::from_secs(60);
/// WANTs of all that are not admitted together, with up to 32 kB each: whoever has the secret can be as many nodes as it likes. Enough
/// for a hundred that join at once, or all of whom ask one that joins what it is.
const SERVED_TO_STRANGERS: Bucket = Bucket::new(256, Duration::from_millis(25));

/// What a node holds.
#[derive(Debug)]
pub struct Trust {
    root: Fingerprint,
    node: NodeId,
    /// Of the root, of admins, and of who certifies by an open invite.
    keys: BTreeMap<Fingerprint, AuthorityKey>,
    record: Record,
    view: View,
    /// Of the network; none where whoever made this keeps the only one itself.
    secrets: Secrets,
    /// Who showed last that it holds which.
    holders: BTreeMap<NodeId, Vec<NetworkId>>,
    /// Delegations that somebody may join by, to be handed on.
    invites: BTreeMap<StatementHash, Statement<Delegation>>,
    /// Those that nobody joins by any more, for a number of nodes, by which some of the record came: another admin may have let in others
    /// before it heard that they had ended.
    ended: BTreeMap<StatementHash, Statement<Delegation>>,
    /// Which addresses members were given, as their certificates and the record said when they were admitted last.
    shown: BTreeMap<NodeId, Addresses>,
    /// Whom this node met, and by whose invite they came, where that is known since it began.
    met: BTreeMap<NodeId, Option<Fingerprint>>,
    own: Option<Own>,
    joining: Option<Joining>,
    offers: BTreeMap<NodeId, Statement<Certificate>>,
    turns: Turns,
    /// When a document was last heard of somebody who is no admin any more.
    objections: BTreeMap<Fingerprint, Instant>,
    /// What all those are served together who are not admitted.
    served_to_strangers: Bucket,
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

/// How this node was shut out, which decides what it needs to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutOut {
    /// Its key was, for ever: it takes another.
    Key(Revocation),
    /// The invite by which it came was, before the record knew it: it takes another invite, and the key may stay.
    Invite {
        /// Who did.
        revocation: Revocation,
        /// Others had used it as often as it may be.
        is_used_up: bool,
    },
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
            secrets: Secrets::default(),
            holders: BTreeMap::new(),
            invites: BTreeMap::new(),
            ended: BTreeMap::new(),
            shown: BTreeMap::new(),
            met: BTreeMap::new(),
            own: None,
            joining: None,
            offers: BTreeMap::new(),
            turns: Turns::default(),
            objections: BTreeMap::new(),
            served_to_strangers: SERVED_TO_STRANGERS,
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

    /// What is true of this node, by its own certificate.
    pub fn own_facts(&self) -> Option<Facts> {
        let own = self.own.as_ref()?;
        let delegation = own.chain.as_ref().map(|(delegation, _)| delegation.issuer());
        let voucher = delegation.unwrap_or_else(|| own.certificate.issuer());
        Some(self.view.facts_vouched_by(voucher, own.certificate.body()))
    }

    /// Whether this node was shut out: itself, or the invite by which it came before the record knew it.
    pub fn own_revocation(&self) -> Option<ShutOut> {
        let by_invite = || {
            let own = self.own.as_ref().filter(|own| own.certificate.body().delegation.is_some())?;
            let delegate = own.certificate.issuer();
            let revocation = self.view.revocation(delegate).filter(|_| !self.view.knows(self.node))?;
            let claims = own.chain.as_ref().map(|(delegation, _)| delegation.claims());
            let is_used_up = claims.is_some_and(|claims| self.view.is_used_up(claims));
            Some(ShutOut::Invite { revocation, is_used_up })
        };
        self.view.revocation(self.node).map(ShutOut::Key).or_else(by_invite)
    }

    /// Grows with each change after which a peer may have to be told or judged anew.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// The public keys of an authority.
    pub fn key(&self, authority: Fingerprint) -> Option<&AuthorityKey> {
        self.keys.get(&authority)
    }

    /// Keeps the keys of the root, of whoever the record names as an admin, of who certified this node, and of those by whose open
    /// invites others join. Whether it is one of those.
    pub fn keep_key(&mut self, key: AuthorityKey) -> bool {
        let fingerprint = key.fingerprint();
        let is_wanted = self.wants_key(fingerprint);
        if is_wanted && self.keys.insert(fingerprint, key).is_none() {
            self.changes += 1;
        }
        is_wanted
    }

    /// Whether a key is kept for all that show something by it.
    pub(super) fn wants_key(&self, fingerprint: Fingerprint) -> bool {
        let is_own = |own: &Own| own.chain.is_none() && own.certificate.issuer() == fingerprint;
        self.view.standing().ranked().contains(&fingerprint)
            || self.own.as_ref().is_some_and(is_own)
            || self.invites.values().any(|invite| invite.body().delegate == fingerprint)
    }

    /// The network's secrets.
    pub const fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// These are the network's secrets here.
    pub fn hold(&mut self, secrets: Secrets) {
        self.secrets = secrets;
        self.changes += 1;
    }

    /// The keys of all of them, of the one in force first; `only` where there are none, as in a network without certificates.
    pub(crate) fn keys<'a>(
        trust: Option<&'a Self>,
        only: &'a NetworkKeys,
    ) -> impl Iterator<Item = &'a NetworkKeys> {
        let held = trust.into_iter().flat_map(|trust| trust.secrets.keys(trust.view.secret()));
        let is_none = trust.is_none_or(|trust| trust.secrets.ids().next().is_none());
        held.chain(is_none.then_some(only))
    }

    /// How this node stands to the secret that the record names, at this time.
    pub fn secret_state(&self, unix: Seconds) -> SecretState {
        self.secrets.state(self.view.secret(), unix)
    }

    /// The secret that the record names and that is to be asked for.
    pub(super) fn missing_secret(&self) -> Option<NetworkId> {
        self.secrets.missing(self.view.secret())
    }

    /// A peer handed this one on. Whether it is the one that the record names, and was not here.
    pub(super) fn take_secret(&mut self, secret: NetworkSecret, now: Instant) -> bool {
        let is_taken = self.secrets.take(secret, self.view.secret(), now);
        self.changes += u64::from(is_taken);
        is_taken
    }

    /// Gives up the secret before when its time is over.
    pub(crate) fn retire_secret(&mut self, now: Instant, unix: Seconds) {
        let is_over = self.secrets.retire(self.view.secret(), now, unix);
        self.changes += u64::from(is_over);
    }

    /// When that is; `clock` are both clocks at one moment.
    pub(crate) fn secret_retires_at(&self, clock: (Instant, Seconds)) -> Option<Instant> {
        self.secrets.retires_at(self.view.secret(), clock)
    }

    /// An admitted peer shows which secrets it holds.
    pub(super) fn on_secrets_shown(&mut self, node: NodeId, secrets: &[NetworkId]) {
        // It does not say so yet in this session, or said the same before.
        let is_known = self.holders.get(&node).is_some_and(|known| known == secrets);
        if secrets.is_empty() || is_known {
            return;
        }
        if self.holders.len() >= MAX_MET && !self.holders.contains_key(&node) {
            self.holders.retain(|known, _| self.view.knows(*known));
        }
        if self.holders.len() < MAX_MET || self.holders.contains_key(&node) {
            self.holders.insert(node, secrets.to_vec());
        }
    }

    /// A peer that is admitted has these addresses; one that is not has none.
    pub(super) fn on_addresses_shown(&mut self, node: NodeId, addresses: Option<&Addresses>) {
        let Some(addresses) = addresses.filter(|addresses| !addresses.is_empty()) else {
            self.shown.remove(&node);
            return;
        };
        let is_known = self.shown.get(&node).is_some_and(|known| known == addresses);
        if !is_known && (self.shown.len() < MAX_MET || self.shown.contains_key(&node)) {
            self.shown.insert(node, addresses.clone());
        }
    }

    /// Whether an address is another's than `node`'s, by the record or by what a member showed.
    pub fn is_anothers(&self, address: Address, node: NodeId) -> bool {
        let by_record = self.view.holder(address.ip()).is_some_and(|holder| holder != node);
        by_record
            || self.shown.iter().any(|(other, shown)| {
                *other != node && shown.contains(&address) && self.view.revocation(*other).is_none()
            })
    }

    /// Whether `node` holds the secret that the record names, by what it showed last; nothing where it showed nothing since this node
    /// began, or the record names none.
    pub fn has_new_secret(&self, node: NodeId) -> Option<bool> {
        let named = self.view.secret()?.network;
        if node == self.node {
            return Some(self.secrets.holds(named));
        }
        self.holders.get(&node).map(|held| held.contains(&named))
    }

    /// An admin said something: this node's own, or somebody else's. Whether it is news.
    pub fn hear(&mut self, document: Statement<Document>) -> bool {
        let is_news = self.record.insert(document);
        if is_news {
            self.follow_record();
        }
        is_news
    }

    /// What a document said that was replaced before this node was stopped; see [`Record::bygones`]. What is nobody's is left out.
    pub fn recall(&mut self, issuer: Fingerprint, bygone: Bygone) {
        if self.record.recall(issuer, bygone) {
            self.follow_record();
        }
    }

    fn follow_record(&mut self) {
        self.view = self.record.view();
        let known = std::mem::take(&mut self.invites).into_iter().chain(std::mem::take(&mut self.ended));
        for (hash, invite) in known.collect::<Vec<_>>() {
            self.sort_invite(hash, invite);
        }
        let view = &self.view;
        let is_out = |delegate: Fingerprint| view.revocation(delegate).is_some();
        self.met.retain(|node, delegate| !view.knows(*node) && !delegate.is_some_and(is_out));
        let mut keys = std::mem::take(&mut self.keys);
        keys.retain(|fingerprint, _| self.wants_key(*fingerprint));
        self.keys = keys;
        self.changes += 1;
    }

    /// A delegation that the record names as open, for others to have it from here; or one that ended, to count by.
    pub fn keep_invite(&mut self, delegation: Statement<Delegation>) {
        let (hash, before) = (delegation.hash(), self.invites.len());
        self.sort_invite(hash, delegation);
        self.changes += u64::from(self.invites.len() > before);
    }

    /// Keeps a delegation where it belongs by what the record says, or not at all. Without its issuer's key it is of no use, nor could it
    /// be verified when it is read back.
    fn sort_invite(&mut self, hash: StatementHash, invite: Statement<Delegation>) {
        if !self.view.standing().ranked().contains(&invite.issuer()) {
            return;
        }
        if self.view.invites().contains(&hash) {
            self.invites.insert(hash, invite);
            return;
        }
        let body = invite.body();
        if body.uses.is_none() || self.view.joined_by(body.delegate).is_empty() {
            return;
        }
        self.ended.insert(hash, invite);
        if self.ended.len() > MAX_ENDED {
            let first = self.ended.iter().min_by_key(|(_, ended)| ended.body().joins_until);
            if let Some(first) = first.map(|(hash, _)| *hash) {
                self.ended.remove(&first);
            }
        }
    }

    /// Delegations by which it is counted how many came, whether they may be used still or not.
    pub fn counted_invites(&self) -> impl Iterator<Item = &Delegation> + '_ {
        self.invites.values().chain(self.ended.values()).map(Statement::body)
    }

    /// Delegations that may be used still, as far as they are here.
    pub fn invites(&self) -> impl Iterator<Item = &Statement<Delegation>> + '_ {
        self.invites.values()
    }

    /// A delegation that may be used still.
    pub(super) fn invite(&self, hash: StatementHash) -> Option<&Statement<Delegation>> {
        self.invites.get(&hash)
    }

    /// This node met `node` while that might join, by an invite of `delegate`. It is remembered, for as long as the record does not know
    /// it and the invite is not revoked. Of too many those go of whose invite there are most: whoever has one can be as many nodes as
    /// it likes.
    pub fn remember(&mut self, node: NodeId, delegate: Option<Fingerprint>) {
        if let Some(known) = self.met.get_mut(&node) {
            *known = known.or(delegate);
            return;
        }
        if self.view.knows(node) || (self.met.len() >= MAX_MET && !self.forget_one_for(delegate)) {
            return;
        }
        self.met.insert(node, delegate);
    }

    /// Forgets one of those that were met by the invite of which there are most, unless `delegate` has as many. Whether it did.
    fn forget_one_for(&mut self, delegate: Option<Fingerprint>) -> bool {
        let mut shares: BTreeMap<Option<Fingerprint>, usize> = BTreeMap::new();
        self.met.values().for_each(|by| *shares.entry(*by).or_default() += 1);
        let own = shares.get(&delegate).copied().unwrap_or_default();
        let Some((most, _)) =
            shares.into_iter().max_by_key(|(_, share)| *share).filter(|(_, share)| *share > own + 1)
        else {
            return false;
        };
        let last = self.met.iter().rev().find(|(_, by)| **by == most).map(|(node, _)| *node);
        last.is_some_and(|node| self.met.remove(&node).is_some())
    }

    /// Whether it did.
    pub fn has_met(&self, node: NodeId) -> bool {
        self.met.contains_key(&node)
    }

    /// Whom it met: to be stored, and given to [`Self::remember`] again.
    pub fn met(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.met.keys().copied()
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

    /// Joining, it would have this address.
    pub const fn wish_address(&mut self, address: Option<Address>) {
        if let Some(joining) = &mut self.joining {
            joining.wish(address);
        }
    }

    /// The delegation that joining needs.
    pub(super) fn sought(&self) -> Option<StatementHash> {
        self.joining.as_ref().map(Joining::delegation)
    }

    /// The delegation that joining needed is here: this node certifies itself.
    ///
    /// # Errors
    /// As [`JoinError`]; it is not tried again, but where the invite has ended.
    pub(super) fn on_sought(
        &mut self,
        delegation: Unverified<Delegation>,
        now: Seconds,
    ) -> Result<(), JoinError> {
        let Some(joining) = self.joining.take() else { return Ok(()) };
        let is_taken = |address| self.is_anothers(address, self.node);
        match joining.certify(self.root, self.node, delegation, now, is_taken) {
            Ok(own) => {
                self.show(own);
                Ok(())
            }
            Err(error) => {
                // By this node's clock, which may be mended.
                self.joining = Some(joining).filter(|_| matches!(error, JoinError::Ended(_)));
                Err(error)
            }
        }
    }

    /// As an admin: a certificate for `node`, to be fetched by it. Of too many the one goes that ends first: it is made again when its node
    /// is seen again.
    pub fn offer(&mut self, certificate: Statement<Certificate>) {
        self.offers.insert(certificate.body().node, certificate);
        if self.offers.len() > MAX_MET {
            let ends = |offer: &Statement<Certificate>| offer.body().not_after;
            let first = self.offers.iter().min_by_key(|(_, offer)| ends(offer)).map(|(node, _)| *node);
            if let Some(node) = first {
                self.offers.remove(&node);
            }
        }
        self.changes += 1;
    }

    /// `node` is forgotten: what was of use only to judge it by, or for it, is as well.
    pub fn part(&mut self, node: NodeId) {
        self.offers.remove(&node);
        self.shown.remove(&node);
    }

    /// What was made for `node` and waits for it.
    pub fn offer_for(&self, node: NodeId) -> Option<&Statement<Certificate>> {
        self.offers.get(&node)
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
        let invites = self.invites.values().chain(self.ended.values());
        admins.chain(invites.map(|invite| invite.bytes().to_vec())).collect()
    }

    /// Takes in one of [`Self::blobs`]. False for what has no place here, such as a statement whose issuer's key is not there: it is
    /// asked for again, if it is worth that, and keeps no node from starting.
    ///
    /// # Errors
    /// As [`StatementError`].
    pub fn restore(&mut self, blob: &[u8]) -> Result<bool, StatementError> {
        if blob.len() == PUBLIC_LEN {
            let key = AuthorityKey::from_bytes(blob).ok_or(StatementError::Malformed)?;
            return Ok(self.keep_key(key));
        }
        if let Ok(document) = Unverified::<Document>::decode(self.root, blob) {
            let Some(key) = self.keys.get(&document.issuer()) else { return Ok(false) };
            let document = document.verify(key)?;
            return Ok(self.hear(document));
        }
        let invite = Unverified::<Delegation>::decode(self.root, blob)?;
        let Some(key) = self.keys.get(&invite.issuer()) else { return Ok(false) };
        let invite = invite.verify(key)?;
        self.keep_invite(invite);
        Ok(true)
    }

    /// Whether a document of `issuer` may be asked for now.
    ///
    /// # Errors
    /// When it may.
    pub(super) fn may_hear(&self, now: Instant, issuer: Fingerprint) -> Result<(), Instant> {
        if !self.view.standing().was_removed(issuer) {
            return Ok(());
        }
        let again = self.objections.get(&issuer).map(|at| *at + OBJECTION).filter(|at| *at > now);
        again.map_or(Ok(()), Err)
    }

    /// A document of `issuer` came, and it is that one's: a peer that only says that it has some keeps none from this node.
    pub(super) fn on_heard(&mut self, now: Instant, issuer: Fingerprint) {
        let standing = self.view.standing();
        // At most as many as are ranked.
        self.objections.retain(|other, _| standing.was_removed(*other));
        if standing.was_removed(issuer) {
            self.objections.insert(issuer, now);
        }
    }

    /// Whether one that is not admitted may be served once more.
    pub(super) fn serve_stranger(&mut self, now: Instant) -> bool {
        self.served_to_strangers.take(now)
    }

    /// Whether `peer` may be asked for `hash`; see [`Turns::claim`].
    ///
    /// # Errors
    /// When to try again, at the latest.
    pub(super) fn claim(
        &mut self,
        now: Instant,
        peer: NodeId,
        is_admitted: bool,
        hash: BlobHash,
    ) -> Result<(), Instant> {
        self.turns.claim(now, peer, is_admitted, hash)
    }

    /// `peer` is not being asked for it any more. Nobody has to be if it is `here`.
    pub(super) fn release(&mut self, now: Instant, peer: NodeId, hash: BlobHash, here: bool) {
        self.turns.release(now, peer, hash, here);
    }

    /// Whose turn it is to be asked for something that it waited for: its session is to settle before the next call.
    pub(crate) fn poll_turn(&mut self, now: Instant) -> Option<NodeId> {
        self.turns.poll(now)
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
