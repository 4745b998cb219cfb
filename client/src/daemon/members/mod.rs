//! Who is a member, on the side of the daemon: what it remembers of it, and what it does as an admin.
//!
//! What is decided is decided in [`shadowmesh_proto::membership`]; here it is read from and written to the state directory
//! ([`Members`]), and an admin's wishes become documents ([`admin`]). A network begins in [`founding`], and grows by [`inviting`]; what an
//! admin's key here is worth is found out by [`held`].

pub mod admin;
pub mod founding;
pub mod held;
pub mod inviting;

use super::state_dir::{Joins, MemberState, StateDir, StateError, StoredOwn};
use shadowmesh_proto::ids::{Fingerprint, NodeId};
use shadowmesh_proto::membership::{
    Authority, AuthorityKey, Joining, Name, Own, StatementError, Trust, Unverified,
};
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::ticket::Delegated;

/// What a node begins with.
#[derive(Debug)]
pub struct Members {
    /// What it knows.
    pub trust: Trust,
    /// Its authority, if it is an admin's.
    pub authority: Option<Authority>,
    /// By which invite it joins.
    pub joins: Option<Joins>,
}

impl Members {
    /// Reads what `node` remembers of the network of `root`, and verifies it. Of the keys of an admin that are here its authority is the one that the
    /// record makes one.
    ///
    /// # Errors
    /// As [`StateDir::load_members`] and [`StateDir::load_authority`].
    pub fn load(state: &StateDir, root: Fingerprint, node: NodeId) -> Result<Self, StateError> {
        let authority = state.load_authority()?;
        let MemberState { blobs, bygones, met, own, joining } = state.load_members()?;
        let mut trust = Trust::new(root, node);
        let damaged = |error: StatementError| state.damaged_members(error.to_string());
        for blob in &blobs {
            if !trust.restore(blob).map_err(damaged)? {
                // An admin whose keys went is no reason not to start: what is worth it members hand out again.
                tracing::warn!(
                    "something in the file of members has no place in the record any more and was left out"
                );
            }
        }
        bygones.into_iter().for_each(|(issuer, bygone)| trust.recall(issuer, bygone));
        met.into_iter().for_each(|node| trust.remember(node, None));
        match own.map(|own| read_own(&trust, &own)).transpose().map_err(damaged)? {
            // An admin's certifies the new key itself; another host takes an invite.
            Some(Some((own, _))) if own.certificate.body().node != node => {
                tracing::warn!(
                    "the certificate here is of the key that this host had before: it has none for the one of now"
                );
            }
            Some(Some((own, key))) => {
                trust.show(own);
                if let Some(key) = key {
                    trust.keep_key(key);
                }
            }
            Some(None) => {
                tracing::warn!("the keys of who certified this host are not there: it has no certificate")
            }
            None => {}
        }
        let authority = acting(state, authority, &trust);
        if let Some(authority) = &authority {
            trust.keep_key(authority.public().clone());
        }
        if let Some(joins) = &joining {
            trust.join(joins.joining());
        }
        Ok(Self { trust, authority, joins: joining })
    }

    /// Joins by this invite, as soon as a member hands out what it needs.
    pub fn join(&mut self, joins: Joins) {
        self.trust.join(joins.joining());
        self.joins = Some(joins);
    }

    /// What is to be stored.
    pub fn stored(&self) -> MemberState {
        stored(&self.trust, self.joins.as_ref())
    }
}

impl Joins {
    /// By `delegated`, as `name`.
    pub fn new(delegated: Delegated, name: Name, rng: &mut dyn Rng) -> Self {
        Self { delegated, name, serial: rng.next_u64() }
    }

    fn joining(&self) -> Joining {
        Joining::new(&self.delegated, self.name.clone(), self.serial)
    }
}

/// The key that is an admin's by the record, be it one that was put aside: a founding that was cut off, or `admins id --new` that came to nothing, left
/// another in its place. Where none is, the one that is in place. One that is damaged keeps nobody from starting.
fn acting(state: &StateDir, active: Option<Authority>, trust: &Trust) -> Option<Authority> {
    let standing = trust.view().standing();
    let is_admin = |authority: &Authority| standing.is_admin(authority.fingerprint());
    if active.as_ref().is_some_and(is_admin) {
        return active;
    }
    state.readable_authorities_aside().into_iter().find(is_admin).or(active)
}

/// With the issuer's key where it is stored beside the certificate; nothing when it is nowhere.
fn read_own(trust: &Trust, own: &StoredOwn) -> Result<Option<(Own, Option<AuthorityKey>)>, StatementError> {
    let read_key = |key: &[u8]| AuthorityKey::from_bytes(key).ok_or(StatementError::Malformed);
    let certificate = Unverified::decode(trust.root(), &own.certificate)?;
    if let Some((delegation, key)) = &own.chain {
        let key = read_key(key)?;
        let chain = Some((Unverified::decode(trust.root(), delegation)?, key.clone()));
        return Ok(Some((Own { certificate: certificate.verify(&key)?, chain }, None)));
    }
    let stored = own.issuer.as_deref().map(read_key).transpose()?;
    let stored = stored.filter(|key| key.fingerprint() == certificate.issuer());
    let Some(key) = stored.or_else(|| trust.key(certificate.issuer()).cloned()) else { return Ok(None) };
    Ok(Some((Own { certificate: certificate.verify(&key)?, chain: None }, Some(key))))
}

/// What is to be stored of `trust`.
pub fn stored(trust: &Trust, joins: Option<&Joins>) -> MemberState {
    MemberState {
        blobs: trust.blobs(),
        bygones: trust.record().bygones().collect(),
        met: trust.met().collect(),
        own: trust.own().map(|own| StoredOwn::new(own, trust.key(own.certificate.issuer()))),
        joining: joins.cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::admin::{Admin, Limits};
    use super::*;
    use crate::daemon::clock::unix_now;
    use shadowmesh_proto::membership::{Document, Statement};
    use shadowmesh_proto::rng::SeededRng;
    use std::time::Duration;

    fn made(dir: &StateDir, node: NodeId) -> (Trust, Authority) {
        let authority = Authority::generate(&mut SeededRng::new(1));
        let mut trust = Trust::new(authority.fingerprint(), node);
        let mut admin = Admin::new(&mut trust, &authority, 1_000);
        admin.found().expect("founded");
        admin.certify_here(Name::new("a").expect("a name")).expect("certified");
        let limits = Limits { joins_for: Duration::from_secs(60), ..Limits::default() };
        admin.invite(limits, &mut SeededRng::new(2)).expect("invited");
        trust.remember(NodeId([7; 32]), None);
        dir.save_authority(&authority).expect("saved");
        (trust, authority)
    }

    #[test]
    fn what_is_stored_comes_back_verified() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(home.path().join("state")).expect("opened");
        let node = NodeId([3; 32]);
        let (trust, authority) = made(&dir, node);
        dir.save_members(&stored(&trust, None)).expect("saved");
        let Members { trust: again, authority: kept, joins } =
            Members::load(&dir, authority.fingerprint(), node).expect("loaded");
        assert_eq!((kept.expect("an authority").fingerprint(), joins), (authority.fingerprint(), None));
        assert_eq!(again.view(), trust.view());
        assert_eq!(again.invites().count(), 1);
        assert!(again.has_met(NodeId([7; 32])));
        let name = |trust: &Trust| trust.own().map(|own| own.certificate.hash());
        assert_eq!(name(&again), name(&trust));
    }

    #[test]
    fn of_the_keys_here_the_one_that_is_an_admins_is_taken() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(home.path().join("state")).expect("opened");
        let node = NodeId([3; 32]);
        let (trust, root) = made(&dir, node);
        dir.save_members(&stored(&trust, None)).expect("saved");
        let taken = || {
            let members = Members::load(&dir, root.fingerprint(), node).expect("loaded");
            members.authority.map(|authority| authority.fingerprint())
        };
        assert_eq!(taken(), Some(root.fingerprint()));
        let other = Authority::generate(&mut SeededRng::new(9));
        dir.put_authority_aside().expect("put aside");
        dir.save_authority(&other).expect("saved");
        std::fs::write(dir.path().join("admin.key.aaaa"), "half of a key").expect("written");
        assert_eq!(taken(), Some(root.fingerprint()), "put aside, and an admin's");
        for name in ["admin.key.aaaa".to_owned(), format!("admin.key.{}", root.fingerprint().short())] {
            std::fs::remove_file(dir.path().join(name)).expect("there");
        }
        assert_eq!(taken(), Some(other.fingerprint()), "nobody else's word");
    }

    #[test]
    fn whatever_becomes_of_an_admin_the_node_that_it_certified_starts() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(home.path().join("state")).expect("opened");
        let node = NodeId([3; 32]);
        let [root, second] = [1, 2].map(|seed| Authority::generate(&mut SeededRng::new(seed)));
        let mut trust = Trust::new(root.fingerprint(), node);
        let mut admin = Admin::new(&mut trust, &root, 1_000);
        admin.found().expect("founded");
        admin.grant(second.fingerprint(), Name::new("second").expect("a name")).expect("granted");
        let mut admin = Admin::new(&mut trust, &second, 1_000);
        admin.certify_here(Name::new("a").expect("a name")).expect("certified");
        let limits = Limits { joins_for: Duration::from_secs(60), ..Limits::default() };
        admin.invite(limits, &mut SeededRng::new(2)).expect("invited");
        // The root takes its grant back, and says nothing else; a document before that removed the second, too.
        let mut document = trust.record().draft(root.fingerprint(), 1_100);
        document.removed.insert(second.fingerprint());
        document.revoke(NodeId([8; 32]), 1_100);
        trust.hear(Statement::sign(&root, root.fingerprint(), document).expect("signed"));
        let document = Document { version: 9, ..Document::default() };
        trust.hear(Statement::sign(&root, root.fingerprint(), document).expect("signed"));

        dir.save_members(&stored(&trust, None)).expect("saved");
        let again = Members::load(&dir, root.fingerprint(), node).expect("loaded").trust;
        let own = |trust: &Trust| trust.own().map(|own| own.certificate.hash());
        assert_eq!((own(&again), own(&again).is_some()), (own(&trust), true));
        assert_eq!(again.view(), trust.view());
        assert!(again.view().revocation(NodeId([8; 32])).is_some(), "nothing goes back");
        dir.save_members(&stored(&again, None)).expect("saved");
        Members::load(&dir, root.fingerprint(), node).expect("loaded once more");

        // As a version before stored it: without the key that the certificate needs.
        let mut state = stored(&trust, None);
        state.own.as_mut().expect("a certificate").issuer = None;
        dir.save_members(&state).expect("saved");
        let again = Members::load(&dir, root.fingerprint(), node).expect("loaded").trust;
        assert!(again.own().is_none());
    }

    #[test]
    fn the_certificate_of_a_key_that_is_gone_is_not_shown() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(home.path().join("state")).expect("opened");
        let (node, next) = (NodeId([3; 32]), NodeId([4; 32]));
        let (trust, authority) = made(&dir, node);
        dir.save_members(&stored(&trust, None)).expect("saved");
        let load = |node| Members::load(&dir, authority.fingerprint(), node).expect("loaded").trust;
        assert_eq!(load(node).own().map(|own| own.certificate.body().node), Some(node));
        let mut trust = load(next);
        assert!(trust.own().is_none());
        let mut admin = Admin::new(&mut trust, &authority, 1_000);
        assert!(admin.certify_here(Name::new("a").expect("a name")).expect("certified"));
        assert_eq!(trust.own().map(|own| own.certificate.body().node), Some(next));
    }

    #[test]
    fn when_members_were_written_last_is_known() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(home.path().join("state")).expect("opened");
        assert_eq!(dir.members_saved_at(), 0);
        let before = unix_now();
        dir.save_members(&MemberState::default()).expect("saved");
        assert!(
            (before - 1..=unix_now()).contains(&dir.members_saved_at()),
            "by the coarse clock of the file system"
        );
    }

    #[test]
    fn a_network_of_many_words_is_read_again() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(home.path().join("state")).expect("opened");
        let state = MemberState { blobs: vec![vec![7; 256 << 10]; 80], ..MemberState::default() };
        dir.save_members(&state).expect("saved");
        assert_eq!(dir.load_members().expect("read"), state);
    }

    #[test]
    fn what_was_changed_in_the_file_is_damage() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(home.path().join("state")).expect("opened");
        let node = NodeId([3; 32]);
        let (trust, authority) = made(&dir, node);
        let mut state = stored(&trust, None);
        let document = state.blobs.iter_mut().find(|blob| blob.len() > 3_300).expect("a document");
        let last = document.len() - 1;
        document[last] ^= 1;
        dir.save_members(&state).expect("saved");
        let error = Members::load(&dir, authority.fingerprint(), node).expect_err("refused");
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    }
}
