//! Who is a member, on the side of the daemon: what it remembers of it, and what it does as an admin.
//!
//! What is decided is decided in [`shadowmesh_proto::membership`]; here it is read from and written to the state directory
//! ([`Members`]), and an admin's wishes become documents ([`admin`]).

pub mod admin;

use super::state_dir::{Joins, MemberState, StateDir, StateError, StoredOwn};
use shadowmesh_proto::ids::{Fingerprint, NodeId};
use shadowmesh_proto::membership::{
    Authority, AuthorityKey, Joining, Name, Own, Seconds, StatementError, Trust, Unverified,
};
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::ticket::Delegated;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn unix_now() -> Seconds {
    // A clock before 1970 is a clock that was never set: nothing has expired then.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

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
    /// Reads what `node` remembers of the network of `root`, and verifies it.
    ///
    /// # Errors
    /// As [`StateDir::load_members`] and [`StateDir::load_authority`].
    pub fn load(state: &StateDir, root: Fingerprint, node: NodeId) -> Result<Self, StateError> {
        let authority = state.load_authority()?;
        let MemberState { blobs, met, own, joining } = state.load_members()?;
        let mut trust = Trust::new(root, node);
        let damaged = |error: StatementError| state.damaged_members(error.to_string());
        for blob in &blobs {
            trust.restore(blob).map_err(damaged)?;
        }
        met.into_iter().for_each(|node| trust.remember(node));
        if let Some(own) = own.map(|own| read_own(&trust, &own)).transpose().map_err(damaged)? {
            trust.show(own);
        }
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

fn read_own(trust: &Trust, own: &StoredOwn) -> Result<Own, StatementError> {
    let certificate = Unverified::decode(trust.root(), &own.certificate)?;
    let chain = own.chain.as_ref().map(|(delegation, key)| {
        let key = AuthorityKey::from_bytes(key).ok_or(StatementError::Malformed)?;
        Ok::<_, StatementError>((Unverified::decode(trust.root(), delegation)?, key))
    });
    let chain = chain.transpose()?;
    let key = match &chain {
        Some((_, key)) => key,
        None => trust.key(certificate.issuer()).ok_or(StatementError::Malformed)?,
    };
    Ok(Own { certificate: certificate.verify(key)?, chain })
}

/// What is to be stored of `trust`.
pub fn stored(trust: &Trust, joins: Option<&Joins>) -> MemberState {
    MemberState {
        blobs: trust.blobs(),
        met: trust.met().collect(),
        own: trust.own().map(StoredOwn::from),
        joining: joins.cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::admin::{Admin, Limits};
    use super::*;
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
        trust.remember(NodeId([7; 32]));
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
