//! What an admin does: each thing is a new document of its, signed and heard here at once (protocol §8.6).

use shadowmesh_proto::ids::{Fingerprint, KeyId, NodeId};
use shadowmesh_proto::membership::{
    self, Address, Addresses, Authority, Block, Certificate, Delegation, Document, Enrolment, Facts, Full,
    Legacy, MAX_BLOCKS, MAX_GRANTS, Name, Own, Pattern, Seconds, SecretName, Secrets, Set, SignError,
    Statement, Tags, Trust, Versioned, View, Word,
};
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::ticket::{Delegated, RelayTicket};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a certificate is good, and a member by an invite without another word: a year. It is renewed in its second half.
const LIFE: Seconds = 365 * 86_400;
/// A certificate begins so much earlier: for clocks that are behind.
const EARLY: Seconds = 60;

/// Why it was not done. Each text is a sentence.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The key here has no say.
    #[error(
        "this host's admin key has no say in this network any more, or not yet: ask another admin for `shadowmesh admins add`"
    )]
    NotAdmin,
    /// Its document has no room.
    #[error("there is no room for it: {0}")]
    Full(#[from] Full),
    /// It cannot be said.
    #[error("it cannot be signed: {0}")]
    Sign(#[from] SignError),
    /// There is something newer under the same version.
    #[error(
        "the record here is older than what this admin said before: wait until other members have told this host, and try again"
    )]
    Old,
    /// Too many invites are open.
    #[error("too many invites are open: wait until some have ended")]
    TooManyInvites,
    /// Another said it under the highest version.
    #[error(
        "no version is left above what another admin said of it, which none does by mistake: remove that admin (`shadowmesh admins remove`), and try again"
    )]
    NoVersion,
    /// It makes no sense.
    #[error("{0}")]
    Senseless(&'static str),
}

/// What an invite is limited to.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// How long one may join by it.
    pub joins_for: Duration,
    /// How often.
    pub uses: Option<u32>,
    /// Whether an admin has to say yes to each.
    pub needs_approval: bool,
    /// Names that who joins may take.
    pub names: Option<Pattern>,
    /// Tags that they get.
    pub tags: Tags,
    /// Addresses that they may take.
    pub blocks: Set<Block, MAX_BLOCKS>,
}

/// An admin at work.
#[derive(Debug)]
pub struct Admin<'a> {
    trust: &'a mut Trust,
    authority: &'a Authority,
    now: Seconds,
}

impl<'a> Admin<'a> {
    /// `authority` speaks, in the record of `trust`. `now` in seconds since 1970.
    pub const fn new(trust: &'a mut Trust, authority: &'a Authority, now: Seconds) -> Self {
        Self { trust, authority, now }
    }

    /// The first document of a network.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn found(&mut self) -> Result<(), AdminError> {
        self.trust.keep_key(self.authority.public().clone());
        self.write(|_, _| Ok(()))
    }

    /// What is said next, before any change.
    fn draft(&mut self) -> Document {
        self.trust.keep_key(self.authority.public().clone());
        let mut document = self.trust.record().draft(self.authority.fingerprint(), self.now);
        self.drop_ended_invites(&mut document);
        document.drop_shut_out();
        document
    }

    /// Says something: all that was said before, and what `change` makes of it.
    fn write(
        &mut self,
        change: impl FnOnce(&mut Document, &View) -> Result<(), AdminError>,
    ) -> Result<(), AdminError> {
        let mut document = self.draft();
        change(&mut document, self.trust.view())?;
        self.say(document)
    }

    /// Whether this admin has a say is asked of the record as it is with what it says: one that was removed may object.
    fn say(&mut self, document: Document) -> Result<(), AdminError> {
        let here = self.authority.fingerprint();
        let said = Statement::sign(self.authority, self.trust.root(), document)?;
        let mut after = self.trust.record().clone();
        let is_news = after.insert(said.clone());
        if !after.view().standing().is_admin(here) {
            return Err(AdminError::NotAdmin);
        }
        if is_news && self.trust.hear(said) { Ok(()) } else { Err(AdminError::Old) }
    }

    fn drop_ended_invites(&self, document: &mut Document) {
        let ended = |hash| {
            let mut known = self.trust.invites();
            known.any(|invite| invite.hash() == hash && invite.body().joins_until < self.now)
        };
        let open = document.invites.iter().copied().filter(|hash| !ended(*hash));
        if let Some(open) = Set::new(open) {
            document.invites = open;
        }
    }

    /// What goes into an invite; members hand out the rest.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn invite(&mut self, limits: Limits, rng: &mut dyn Rng) -> Result<Delegated, AdminError> {
        let delegation = Delegation {
            // Drawn by whoever signs it.
            delegate: Fingerprint([0; 32]),
            joins_until: self.now.saturating_add(limits.joins_for.as_secs().max(1)),
            members_until: self.now.saturating_add(LIFE),
            uses: limits.uses,
            needs_approval: limits.needs_approval,
            names: limits.names,
            tags: limits.tags,
            blocks: limits.blocks,
        };
        let (ticket, statement) = membership::invite(self.authority, self.trust.root(), delegation, rng)?;
        let view = self.trust.view();
        let used_up: Vec<_> = self
            .trust
            .invites()
            .filter(|invite| view.is_used_up(invite.body()))
            .map(Statement::hash)
            .collect();
        self.write(|document, _| {
            let hash = statement.hash();
            if document.invites.insert(hash) {
                return Ok(());
            }
            // Those that let nobody in any more make room; while there is some they stay, for who comes late to be told why.
            let open = document.invites.iter().copied().filter(|hash| !used_up.contains(hash));
            document.invites = Set::new(open).unwrap_or_default();
            if document.invites.insert(hash) { Ok(()) } else { Err(AdminError::TooManyInvites) }
        })?;
        self.trust.keep_invite(statement);
        Ok(ticket)
    }

    /// Shuts out a node, or whoever would join by a delegate.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn revoke(&mut self, key: impl Into<KeyId>) -> Result<(), AdminError> {
        let (key, now) = (key.into(), self.now);
        self.write(|document, _| if document.revoke(key, now) { Ok(()) } else { Err(Full.into()) })
    }

    /// Another word on a node: as the one before, but for what `change` makes of it. Of one that the record does not know the first
    /// says what is true of it as a `member`; who is none is not made one by a name or a tag.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn say_of(
        &mut self,
        node: NodeId,
        member: Option<Facts>,
        change: impl FnOnce(&mut Word),
    ) -> Result<(), AdminError> {
        let now = self.now;
        self.write(|document, view| {
            let known = view.word(node).cloned();
            let first = || member.map(|facts| view.first_word(facts, None, now));
            let mut word = known.or_else(first).ok_or(AdminError::Senseless(
                "that host is no member: let it in first, with `shadowmesh approve`",
            ))?;
            word.version = view.next_of_word(node).ok_or(AdminError::NoVersion)?;
            change(&mut word);
            Ok(document.say_of(node, word)?)
        })
    }

    /// Lets a node in: by this word the record knows it. `facts`: what its certificate says, where that was seen and an admin stands behind
    /// it; `delegate`: by whose invite it came.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn approve(
        &mut self,
        node: NodeId,
        facts: Option<Facts>,
        delegate: Option<Fingerprint>,
    ) -> Result<(), AdminError> {
        let now = self.now;
        self.write(|document, view| {
            let mut word = match facts {
                Some(facts) => view.first_word(facts, delegate, now),
                None => Word { delegate, since: now, ..Word::default() },
            };
            word.version = view.next_of_word(node).ok_or(AdminError::NoVersion)?;
            Ok(document.say_of(node, word)?)
        })
    }

    /// This node is in the record like any other, so that nobody else takes its name or its addresses.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn enter_here(&mut self) -> Result<(), AdminError> {
        let (node, facts) = (self.trust.node(), self.trust.own_facts());
        match facts.filter(|_| !self.trust.view().knows(node)) {
            Some(facts) => self.approve(node, Some(facts), None),
            None => Ok(()),
        }
    }

    /// This admin goes by the name of its host, where nobody gave it one: people have to find that.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn name_here(&mut self) -> Result<(), AdminError> {
        let (here, view) = (self.authority.fingerprint(), self.trust.view());
        let has_name = view.standing().name(here).is_some();
        let is_shut_out = view.revocation(self.trust.node()).is_some();
        let said = self.trust.record().document(here);
        let has_room = said.is_none_or(|said| said.body().admins.len() < MAX_GRANTS);
        match self.trust.own_facts().filter(|_| !has_name && !is_shut_out && has_room) {
            Some(facts) => self.grant(here, facts.name),
            None => Ok(()),
        }
    }

    /// A node is called otherwise: where it is this one, and the admin here goes by its name, it does so still.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn follow_name(&mut self, node: NodeId, before: &str, name: &Name) -> Result<(), AdminError> {
        let here = self.authority.fingerprint();
        let said = self.trust.record().document(here).and_then(|said| said.body().admins.get(&here));
        if node == self.trust.node() && said.is_some_and(|said| said.as_str() == before) {
            self.grant(here, name.clone())?;
        }
        Ok(())
    }

    /// This node has this IPv4 address: it is in the record for that. Whether it is this node's, and not another's already; nor is it where
    /// this node was shut out, whatever is said of it.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn give_here(&mut self, address: Address) -> Result<bool, AdminError> {
        let (node, view) = (self.trust.node(), self.trust.view());
        if let Some(holder) = view.holder(address.ip()) {
            return Ok(holder == node);
        }
        // To say it again would change nothing.
        let has = view.word(node).and_then(|word| word.addresses.as_ref());
        if view.revocation(node).is_some() || has.is_some_and(|has| has.contains(&address)) {
            return Ok(false);
        }
        let Some(facts) = self.trust.own_facts() else { return Ok(false) };
        let others = facts.addresses.iter().copied().filter(|other| other.ip().is_ipv6());
        let addresses = Addresses::new(others.chain([address]));
        self.say_of(node, Some(facts.clone()), |word| word.addresses = addresses)?;
        Ok(true)
    }

    /// Who came by an invite with blocks and has an address of the record that is another's, as two admins apart may have entered them,
    /// gets the next one of the blocks, while the invite is open. Each once: of one that another admin has the last word on nothing
    /// comes, and the others are seen to all the same.
    ///
    /// # Errors
    /// As [`AdminError`], the first.
    pub fn settle_addresses(&mut self) -> Result<(), AdminError> {
        let (mut tried, mut settled) = (BTreeSet::new(), Ok(()));
        loop {
            let trust = &*self.trust;
            let untried = |node: &NodeId| !tried.contains(node);
            let next = trust.view().without_address().find_map(|(node, delegate, has)| {
                let node = Some(node).filter(untried)?;
                let invite = trust.invites().find(|invite| invite.body().delegate == delegate)?;
                let free = invite.body().free_ipv4(node, |address| trust.is_anothers(address, node))?;
                let others = has.iter().copied().filter(|other| other.ip().is_ipv6());
                Some((node, Addresses::new(others.chain([free]))?))
            });
            let Some((node, addresses)) = next else { return settled };
            tried.insert(node);
            let said = self.say_of(node, None, |word| word.addresses = Some(addresses));
            settled = settled.and(said);
        }
    }

    /// What is to be done about a node that came in by an invite; it is done.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn enrol(
        &mut self,
        certificate: &Statement<Certificate>,
        delegation: &Statement<Delegation>,
    ) -> Result<Enrolment, AdminError> {
        let joins = certificate.body().node;
        let is_taken = |address| self.trust.is_anothers(address, joins);
        let enrolment = self.trust.view().enrolment(certificate, delegation, self.now, is_taken);
        let is_done = match &enrolment {
            Enrolment::Known => true,
            Enrolment::Enter(_) => false,
            Enrolment::UsedUp { delegate, .. } => self.trust.view().revocation(*delegate).is_some(),
        };
        if !is_done {
            let (node, now) = (certificate.body().node, self.now);
            self.write(|document, _| Ok(document.enrol(node, &enrolment, now)?))?;
        }
        Ok(enrolment)
    }

    /// Nodes that used an invite too often, as two admins apart may have let in: the later ones are shut out.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn shut_out_too_many(&mut self) -> Result<Vec<NodeId>, AdminError> {
        let view = self.trust.view();
        let later = self.trust.counted_invites().flat_map(|invite| view.joined_too_many(invite));
        let later: Vec<NodeId> = later.collect();
        if !later.is_empty() {
            let now = self.now;
            self.write(|document, _| {
                let fits = later.iter().all(|node| document.revoke(*node, now));
                if fits { Ok(()) } else { Err(Full.into()) }
            })?;
        }
        Ok(later)
    }

    /// Whether a certificate is in its second half, or was made by a clock that was ahead: nobody takes it before its time.
    pub const fn is_due(&self, certificate: &Certificate) -> bool {
        let life = certificate.not_after.saturating_sub(certificate.not_before);
        let half = if life < LIFE { life / 2 } else { LIFE / 2 };
        let is_ahead = certificate.not_before > self.now.saturating_add(membership::CLOCK_SKEW);
        is_ahead || certificate.not_after.saturating_sub(self.now) <= half
    }

    /// Offers a member a certificate that is good for longer than what it shows.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn renew(&mut self, shown: &Certificate, facts: Facts) -> Result<(), AdminError> {
        if !self.trust.view().standing().is_admin(self.authority.fingerprint()) {
            return Err(AdminError::NotAdmin);
        }
        if self.is_offered(shown, &facts) {
            return Ok(());
        }
        let early = self.now.saturating_sub(EARLY);
        let says = Certificate {
            node: shown.node,
            name: facts.name,
            addresses: facts.addresses,
            tags: facts.tags,
            // Newer than the one before, whatever the clocks say; but of one that was made by a clock that was ahead nothing is kept.
            not_before: if shown.not_before > self.now.saturating_add(membership::CLOCK_SKEW) {
                early
            } else {
                early.max(shown.not_before.saturating_add(1))
            },
            not_after: self.now.saturating_add(LIFE),
            delegation: None,
            serial: shown.serial.wrapping_add(1),
        };
        let certificate = Statement::sign(self.authority, self.trust.root(), says)?;
        if shown.node == self.trust.node() {
            self.trust.show(Own { certificate, chain: None });
        } else {
            self.trust.offer(certificate);
        }
        Ok(())
    }

    /// Whether what waits for the node of `shown` is what would be made now.
    fn is_offered(&self, shown: &Certificate, facts: &Facts) -> bool {
        self.trust.offer_for(shown.node).is_some_and(|offer| {
            let waits = offer.body();
            let says =
                (&waits.name, &waits.tags, &waits.addresses) == (&facts.name, &facts.tags, &facts.addresses);
            let is_mine = offer.issuer() == self.authority.fingerprint();
            let is_next = waits.serial == shown.serial.wrapping_add(1) && waits.not_after > shown.not_after;
            is_mine && is_next && says && !self.is_due(waits)
        })
    }

    /// A certificate that begins too late, of a node that the record knows, is replaced by one for now.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn mend(&mut self, shown: &Certificate) -> Result<(), AdminError> {
        let view = self.trust.view();
        if !view.knows(shown.node) {
            return Ok(());
        }
        // What the record says and nothing else: this certificate makes no member.
        let facts = view.facts_of_record(shown);
        self.renew(shown, facts)
    }

    /// This node's own certificate, where it has none or that is due.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn certify_here(&mut self, name: Name) -> Result<bool, AdminError> {
        let own = self.trust.own().map(|own| own.certificate.body().clone());
        if own.as_ref().is_some_and(|own| !self.is_due(own)) {
            return Ok(false);
        }
        let shown = own.unwrap_or_else(|| Certificate {
            node: self.trust.node(),
            name,
            addresses: Addresses::default(),
            tags: Tags::default(),
            not_before: 0,
            not_after: 0,
            delegation: None,
            serial: 0,
        });
        let facts = self.trust.own_facts().unwrap_or_else(|| self.trust.view().facts(&shown));
        self.renew(&shown, facts)?;
        Ok(true)
    }

    /// The relays of the network are these.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn set_relays(&mut self, relays: Vec<RelayTicket>) -> Result<(), AdminError> {
        if relays.is_empty() {
            return Err(AdminError::Senseless(
                "a network without a relay cannot be joined: add another first",
            ));
        }
        self.write(|document, view| {
            let version = view.next_of_relays().ok_or(AdminError::NoVersion)?;
            document.relays = Some(Versioned { version, value: relays });
            Ok(())
        })
    }

    /// The access rules of the network are these.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn set_rules(&mut self, rules: String) -> Result<(), AdminError> {
        self.write(|document, view| {
            let version = view.next_of_rules().ok_or(AdminError::NoVersion)?;
            document.rules = Some(Versioned { version, value: rules });
            Ok(())
        })
    }

    /// Another secret counts, which is held here beside the one before.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn rotate(&mut self, secrets: Secrets, name: SecretName) -> Result<(), AdminError> {
        self.write(|document, view| {
            let version = view.next_of_secret().ok_or(AdminError::NoVersion)?;
            document.secret = Some(Versioned { version, value: name });
            Ok(())
        })?;
        self.trust.hold(secrets);
        Ok(())
    }

    /// Makes another authority an admin.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn grant(&mut self, to: Fingerprint, name: Name) -> Result<(), AdminError> {
        if self.trust.view().standing().was_removed(to) {
            return Err(AdminError::Senseless(
                "that admin was removed, which lasts: make a new key there, with `shadowmesh admins id --new`",
            ));
        }
        let here = self.authority.fingerprint();
        self.write(|document, _| {
            if document.admins.insert(to, name.clone()) {
                return Ok(());
            }
            // Its own name makes room for another admin.
            document.admins.remove(&here);
            if document.admins.insert(to, name) { Ok(()) } else { Err(Full.into()) }
        })
    }

    /// Removes an admin; what it had said is said by this one from now on, or is dropped. How much of it was lost for want of room.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn remove_admin(&mut self, admin: Fingerprint, legacy: Legacy) -> Result<usize, AdminError> {
        let standing = self.trust.view().standing();
        if !standing.is_admin(admin) {
            return Err(AdminError::Senseless("nobody of that id is an admin"));
        }
        if admin == self.authority.fingerprint() {
            return Err(AdminError::Senseless("an admin does not remove itself: let another one do it"));
        }
        let (with, lost) = self.removal(admin, legacy)?;
        match self.say(with) {
            // All that it had said does not fit into one statement beside what this one says; the removal does.
            Err(AdminError::Sign(SignError::TooLarge(_))) if legacy == Legacy::Kept => {
                let dropped = self.trust.record().document(admin).map_or(0, |newest| {
                    let said = newest.body();
                    said.revoked.len() + said.admins.len() + said.members.len()
                });
                let (without, _) = self.removal(admin, Legacy::Dropped)?;
                self.say(without)?;
                Ok(dropped)
            }
            said => said.map(|()| lost),
        }
    }

    fn removal(&mut self, admin: Fingerprint, legacy: Legacy) -> Result<(Document, usize), AdminError> {
        let (mut document, here) = (self.draft(), self.authority.fingerprint());
        let record = self.trust.record();
        let lost = self.trust.view().remove_admin(record, &mut document, here, admin, legacy)?;
        Ok((document, lost))
    }
}

#[cfg(test)]
mod tests;
