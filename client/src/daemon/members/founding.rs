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

use super::admin::{Admin, AdminError};
use super::inviting::Wanted;
use super::stored;
use crate::config::Ipv4Cidr;
use crate::daemon::state_dir::{NetworkState, StateDir, StateError};
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

    /// An invite into it. `beside`: the address that this host was given by hand, if any.
    ///
    /// # Errors
    /// As [`AdminError`].
    pub fn invite(
        &mut self,
        wanted: Wanted,
        beside: Option<Ipv4Cidr>,
        rng: &mut dyn Rng,
    ) -> Result<Invite, AdminError> {
        let limits = wanted.limits(self.network.address_space(), beside).map_err(AdminError::Senseless)?;
        let delegated = Admin::new(&mut self.trust, &self.authority, self.now).invite(limits, rng)?;
        Ok(wanted.ticket(&self.network, &self.trust, &[], delegated))
    }

    /// Writes it.
    ///
    /// # Errors
    /// As [`StateError`]; this host is in no network then, and what was written is taken back.
    pub fn store(&self, state: &StateDir) -> Result<Stored, StateError> {
        // That of a network that came to nothing, or of another whose file is gone.
        let before = state.load_authority()?;
        let stored = Stored { made: self.authority.fingerprint(), before };
        self.write(state).inspect_err(|_| {
            if let Err(error) = stored.take_back(state) {
                tracing::warn!(%error, "not all that was written of the network could be taken back");
            }
        })?;
        Ok(stored)
    }

    fn write(&self, state: &StateDir) -> Result<(), StateError> {
        state.put_authority_aside()?;
        state.save_authority(&self.authority)?;
        state.save_members(&stored(&self.trust, None))?;
        state.save_network(&self.network)
    }
}

impl Stored {
    /// Takes the network back: nobody else is in it. The key that was there before is there again, and nothing that came since, such as another
    /// key or network, is touched.
    ///
    /// # Errors
    /// As [`StateError`].
    pub fn take_back(&self, state: &StateDir) -> Result<(), StateError> {
        if state.load_network()?.is_some_and(|there| there.root != Some(self.made)) {
            return Ok(());
        }
        // First: without it nothing else counts.
        state.forget_new_network()?;
        let there = state.load_authority()?.map(|there| there.fingerprint());
        match &self.before {
            before if there == Some(self.made) => state.discard_authority(before.as_ref()),
            // It was put aside, and no more.
            Some(before) if there == Some(before.fingerprint()) => state.discard_aside(before),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::members::Members;
    use crate::daemon::state_dir::MemberState;
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
        let wanted = Wanted::usual(1_000, Duration::from_secs(60));
        let invite = founding.invite(wanted, None, &mut SeededRng::new(2)).expect("an invite");
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
        std::fs::write(state.path().join("members"), "blob ???\n").expect("written");
        let stored = founding(2).store(&state).expect("stored");
        let aside = |state: &StateDir| state.load_authorities_aside().expect("read").len();
        assert_eq!(aside(&state), 1, "nothing is lost meanwhile");
        stored.take_back(&state).expect("taken back");
        let kept = state.load_authority().expect("read").expect("the key from before");
        assert_eq!((kept.fingerprint(), aside(&state)), (before.fingerprint(), 0));
        assert_eq!(state.load_members().expect("read"), MemberState::default());
        // One that was put in its place meanwhile is not its to take back.
        let stored = founding(3).store(&state).expect("stored");
        let other = NetworkState::create("other", Vec::new(), &mut SeededRng::new(8));
        state.save_network(&other).expect("saved");
        stored.take_back(&state).expect("nothing to take back");
        assert_eq!(state.load_network().expect("read"), Some(other));
    }

    #[test]
    fn whenever_founding_is_ended_no_key_is_lost_and_another_network_is_joined_as_if_it_had_not_been() {
        for is_killed in [false, true] {
            let mut ended = 0;
            for at in 0.. {
                let (_home, state) = open();
                let before = Authority::generate(&mut SeededRng::new(7));
                state.save_authority(&before).expect("saved");
                state.end_changes(at..if is_killed { u32::MAX } else { at + 1 });
                let done = founding(1).store(&state);
                state.end_changes(0..0);
                ended = at;
                if done.is_ok() {
                    break;
                }
                assert_eq!(state.load_network().expect("read"), None, "{is_killed} at {at}");
                if !is_killed {
                    let key = state.load_authority().expect("read").expect("the key from before");
                    assert_eq!(key.fingerprint(), before.fingerprint(), "taken back at {at}");
                    assert_eq!(state.load_authorities_aside().expect("read").len(), 0, "taken back at {at}");
                    assert_eq!(state.load_members().expect("read"), MemberState::default());
                }
                // The network whose admin this host is, as an invite would bring it.
                let mut other = NetworkState::create("other", Vec::new(), &mut SeededRng::new(8));
                other.root = Some(before.fingerprint());
                state.enter_network(&other).expect("entered");
                let members = Members::load(&state, before.fingerprint(), NODE).expect("loaded");
                let key = members.authority.map(|authority| authority.fingerprint());
                assert_eq!(
                    key,
                    Some(before.fingerprint()),
                    "{is_killed} at {at}: the one that is an admin's there"
                );
                assert!(members.trust.own().is_none(), "{is_killed} at {at}");
            }
            assert_eq!(ended, 5, "two keys, members, address, network");
        }
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
