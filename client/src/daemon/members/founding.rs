//! Founding a network: what comes into being on the host that is its first admin, and how it is kept or taken back.
//!
//! # Life
//!
//! [`Founding::new`] makes a secret, an authority, its first document and this host's certificate, all in memory. Invites may be made of it at
//! once. [`Founding::store`] writes it, the network last: with that this host is in the network, and a run that is cut off before has
//! made nothing that counts. [`Stored::take_back`] undoes that while nobody else is in it.
//!
//! # Invariants
//!
//! The key of an admin that was there before is put aside and never lost: it may be another network's only one.

use super::admin::{Admin, AdminError, Limits};
use super::stored;
use crate::daemon::state_dir::{MemberState, NetworkState, StateDir, StateError};
use shadowmesh_proto::ids::{Fingerprint, NodeId};
use shadowmesh_proto::membership::{Authority, Name, Seconds, Trust};
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::ticket::Invite;

/// A network with certificates that is only here yet.
#[derive(Debug)]
pub struct Founding {
    network: NetworkState,
    authority: Authority,
    trust: Trust,
    now: Seconds,
}

/// What was in the state directory before a network was founded there.
#[derive(Debug)]
pub struct Stored {
    /// That of the network.
    made: Fingerprint,
    /// What an admin's host had there before.
    before: Option<Authority>,
    members: MemberState,
}

impl Founding {
    /// A new `network`, whose first admin and member is `node`, called `host`; `now` in seconds since 1970.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn new(
        network: NetworkState,
        node: NodeId,
        host: Name,
        now: Seconds,
        rng: &mut dyn Rng,
    ) -> Result<Self, AdminError> {
        let authority = Authority::generate(rng);
        let root = authority.fingerprint();
        let mut trust = Trust::new(root, node);
        let mut admin = Admin::new(&mut trust, &authority, now);
        admin.found()?;
        admin.certify_here(host)?;
        admin.enter_here()?;
        admin.name_here()?;
        Ok(Self { network: NetworkState { root: Some(root), ..network }, authority, trust, now })
    }

    /// The network.
    pub const fn network(&self) -> &NetworkState {
        &self.network
    }

    /// An invite into it.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn invite(&mut self, limits: Limits, rng: &mut dyn Rng) -> Result<Invite, AdminError> {
        let expires = self.now.saturating_add(limits.joins_for.as_secs());
        let delegated = Admin::new(&mut self.trust, &self.authority, self.now).invite(limits, rng)?;
        Ok(self.network.invite(&[], Some(expires), None, Some(delegated)))
    }

    /// Writes it.
    ///
    /// # Errors
    /// As [`StateError`]; this host is in no network then.
    pub fn store(&self, state: &StateDir) -> Result<Stored, StateError> {
        // That of a network that came to nothing, or of another whose file is gone.
        let before = state.load_authority()?;
        let members = state.load_members()?;
        state.put_authority_aside()?;
        state.save_authority(&self.authority)?;
        state.save_members(&stored(&self.trust, None))?;
        state.save_network(&self.network)?;
        Ok(Stored { made: self.authority.fingerprint(), before, members })
    }
}

impl Stored {
    /// Takes the network back: nobody else is in it. What was there before is there again, and nothing of it that came since, such as another
    /// key, is touched.
    ///
    /// # Errors
    /// As [`StateError`].
    pub fn take_back(&self, state: &StateDir) -> Result<(), StateError> {
        // First: without it nothing else counts.
        state.forget_new_network()?;
        state.save_members(&self.members)?;
        if state.load_authority()?.is_some_and(|there| there.fingerprint() == self.made) {
            state.discard_authority(self.before.as_ref())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::members::Members;
    use shadowmesh_proto::ids::RelayId;
    use shadowmesh_proto::rng::SeededRng;
    use shadowmesh_proto::ticket::RelayTicket;
    use std::time::Duration;

    const NODE: NodeId = NodeId([3; 32]);

    fn founding(seed: u64) -> Founding {
        let relay =
            RelayTicket { key: RelayId([9; 32]), addresses: vec!["192.0.2.1:8443".into()], expires: None };
        let (host, rng) = (Name::new("a").expect("a name"), &mut SeededRng::new(seed));
        let network = NetworkState::create("home", vec![relay], rng);
        Founding::new(network, NODE, host, 1_000, rng).expect("founded")
    }

    fn open() -> (tempfile::TempDir, StateDir) {
        let home = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(home.path().join("state")).expect("opened");
        (home, state)
    }

    #[test]
    fn who_founds_a_network_is_its_admin_and_member_and_its_invite_is_one_that_members_can_serve() {
        let (_home, state) = open();
        let mut founding = founding(1);
        let limits = Limits { joins_for: Duration::from_secs(60), ..Limits::default() };
        let invite = founding.invite(limits, &mut SeededRng::new(2)).expect("an invite");
        founding.store(&state).expect("stored");
        let network = state.load_network().expect("read").expect("a network");
        let again = Invite::parse(&invite.to_text(), 1_000).expect("an invite");
        assert!(network.is_of(&again) && again.expires == Some(1_060));
        let root = network.root.expect("certificates");
        let members = Members::load(&state, root, NODE).expect("loaded");
        let own = members.trust.own_facts().expect("a certificate");
        assert_eq!((own.name.as_str(), members.trust.invites().count()), ("a", 1));
        assert!(members.trust.view().knows(NODE) && members.trust.view().standing().is_admin(root));
        let admins: Vec<_> = members.trust.view().standing().admins().collect();
        assert_eq!(admins, [(root, Name::new("a").as_ref())], "people find the host of that name");
        assert_eq!(members.authority.map(|authority| authority.fingerprint()), Some(root));
    }

    #[test]
    fn a_network_that_is_taken_back_leaves_what_was_there() {
        let (_home, state) = open();
        founding(1).store(&state).expect("stored").take_back(&state).expect("taken back");
        assert_eq!(state.load_network().expect("read"), None);
        assert!(!state.has_authority(), "a key of nothing");
        assert_eq!(state.load_members().expect("read"), MemberState::default());

        // An admin of a network that this host is to join, and what a `network create` left that was cut off.
        let before = Authority::generate(&mut SeededRng::new(7));
        state.save_authority(&before).expect("saved");
        let members = MemberState { blobs: vec![vec![5; 20]], ..MemberState::default() };
        state.save_members(&members).expect("saved");
        let stored = founding(2).store(&state).expect("stored");
        let aside = |state: &StateDir| state.load_authorities_aside().expect("read").len();
        assert_eq!(aside(&state), 1, "nothing is lost meanwhile");
        stored.take_back(&state).expect("taken back");
        let kept = state.load_authority().expect("read").expect("the key from before");
        assert_eq!((kept.fingerprint(), aside(&state)), (before.fingerprint(), 0));
        assert_eq!(state.load_members().expect("read"), members);
    }

    #[test]
    fn another_key_that_came_meanwhile_is_left_alone() {
        let (_home, state) = open();
        let stored = founding(1).store(&state).expect("stored");
        let other = Authority::generate(&mut SeededRng::new(7));
        state.save_authority(&other).expect("saved");
        stored.take_back(&state).expect("taken back");
        let kept = state.load_authority().expect("read").expect("a key");
        assert_eq!(kept.fingerprint(), other.fingerprint());
    }
}
