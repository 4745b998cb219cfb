//! What the keys of an admin in a state directory are worth, as far as it says: for who is asked whether they may be given up.
//!
//! A file of a key alone tells nothing: `admins id` makes one that nobody has to take, and an admin who was removed has his still. Only the
//! network's record says whose word counts, and it is read here as a daemon reads it, verified.

use super::Members;
use crate::daemon::state_dir::StateDir;
use shadowmesh_proto::ids::Fingerprint;
use shadowmesh_proto::membership::Authority;
use std::fmt;

/// Keys of an admin, and what is known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// One of them is an admin's.
    Admin {
        /// What people call the network.
        network: String,
        /// How many admins there are besides.
        others: usize,
    },
    /// None of them is an admin's, as the record was known here last.
    NoAdmin {
        /// As above.
        network: String,
    },
    /// It cannot be known.
    Unknown {
        /// Why, as a part of a sentence.
        why: String,
        /// Whether there is a network of which a copy can be made, the keys in it.
        is_in_network: bool,
    },
}

impl Held {
    /// Those in `state`; `None` where there are none. Nothing is changed.
    pub fn of(state: &StateDir) -> Option<Self> {
        state.has_authority().then(|| Self::look(state).unwrap_or_else(|unknown| unknown))
    }

    fn look(state: &StateDir) -> Result<Self, Self> {
        let unknown = |why: String, is_in_network| Self::Unknown { why: one_part(&why), is_in_network };
        let network = state.load_network().map_err(|error| unknown(error.to_string(), false))?;
        let network = network.ok_or_else(|| unknown("this host is in no network".into(), false))?;
        let root = network
            .root
            .ok_or_else(|| unknown(format!("the network {:?} has no certificates", network.name), true))?;
        let damaged = |error: crate::daemon::state_dir::StateError| unknown(error.to_string(), false);
        let own = state.load_authority().map_err(damaged)?;
        let aside = state.load_authorities_aside().map_err(damaged)?;
        let node = state.load_node_key().map_err(damaged)?;
        let node = node.ok_or_else(|| unknown("this host's own key is not there".into(), true))?;
        let members = Members::load(state, root, node.public()).map_err(damaged)?;
        let standing = members.trust.view().standing();
        let keys: Vec<Fingerprint> = own.iter().chain(&aside).map(Authority::fingerprint).collect();
        let here = |id: &Fingerprint| keys.contains(id);
        if !keys.iter().any(|key| standing.is_admin(*key)) {
            return Ok(Self::NoAdmin { network: network.name });
        }
        let others = standing.admins().filter(|(id, _)| !here(id)).count();
        Ok(Self::Admin { network: network.name, others })
    }

    /// What to type to keep them, as a part of a sentence.
    pub fn remedy(&self, state: &StateDir) -> String {
        match self {
            Self::Unknown { is_in_network: false, .. } => {
                format!("keep a copy of {}", state.path().join("admin.key*").display())
            }
            Self::Unknown { is_in_network: true, .. } | Self::Admin { .. } | Self::NoAdmin { .. } => {
                "keep a copy (`sudo shadowmesh network export FILE`)".to_owned()
            }
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin { network, others: 0 } => write!(
                f,
                "this host has the key of the only admin of {network:?}: without it nobody can ever change that network again"
            ),
            Self::Admin { network, others } => {
                let s = if *others == 1 { "" } else { "s" };
                write!(f, "this host has the key of an admin of {network:?}, which has {others} other{s}")
            }
            Self::NoAdmin { network } => write!(
                f,
                "this host has a key that is no admin's in the record of {network:?}, as it is known here: it was removed, or nobody took it up yet"
            ),
            Self::Unknown { why, .. } => write!(
                f,
                "this host has a key that may be an admin's, and whether it is cannot be known ({why})"
            ),
        }
    }
}

/// Without what to do, which is said by who asks.
fn one_part(sentence: &str) -> String {
    sentence.rsplit_once(": ").map_or(sentence, |(fault, _)| fault).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::admin::Admin;
    use super::super::stored;
    use super::*;
    use crate::daemon::state_dir::NetworkState;
    use shadowmesh_proto::crypto::keys::NodeSecret;
    use shadowmesh_proto::membership::{Name, Trust};
    use shadowmesh_proto::rng::SeededRng;

    fn authority(seed: u64) -> Authority {
        Authority::generate(&mut SeededRng::new(seed))
    }

    /// A host of a network whose admins are `admins`, the first of them its root.
    fn host(home: &tempfile::TempDir, admins: &[&Authority]) -> StateDir {
        let state = StateDir::open(home.path().join("state")).expect("opened");
        let node: NodeSecret = state.load_or_create_node_key(&mut SeededRng::new(9)).expect("made");
        let root = admins[0];
        let mut trust = Trust::new(root.fingerprint(), node.public());
        let mut admin = Admin::new(&mut trust, root, 1_000);
        admin.found().expect("founded");
        for (n, more) in admins.iter().enumerate().skip(1) {
            let name = Name::new(&format!("admin-{n}")).expect("a name");
            admin.grant(more.fingerprint(), name).expect("granted");
        }
        state.save_members(&stored(&trust, None)).expect("saved");
        let mut network = NetworkState::create("office", Vec::new(), &mut SeededRng::new(2));
        network.root = Some(root.fingerprint());
        state.save_network(&network).expect("saved");
        state
    }

    #[test]
    fn whether_a_key_is_an_admins_is_what_the_record_says() {
        let home = tempfile::tempdir().expect("a directory");
        let (root, second, stranger) = (authority(1), authority(2), authority(3));
        let state = host(&home, &[&root, &second]);
        assert_eq!(Held::of(&state), None);
        let network = "office".to_owned();
        state.save_authority(&stranger).expect("saved");
        let held = Held::of(&state).expect("a key");
        assert_eq!(held, Held::NoAdmin { network: network.clone() });
        assert!(held.to_string().contains("no admin's in the record of \"office\""), "{held}");
        // One that was put aside counts as well.
        state.save_authority_aside(&second).expect("saved");
        let held = Held::of(&state).expect("keys");
        assert_eq!(held, Held::Admin { network: network.clone(), others: 1 });
        assert!(held.to_string().ends_with("which has 1 other"), "{held}");
        state.save_authority_aside(&root).expect("saved");
        let held = Held::of(&state).expect("keys");
        assert_eq!(held, Held::Admin { network, others: 0 });
        assert!(held.to_string().contains("the only admin"), "{held}");
        assert!(held.remedy(&state).contains("network export"));
    }

    #[test]
    fn what_cannot_be_known_is_said_so() {
        let home = tempfile::tempdir().expect("a directory");
        let root = authority(1);
        let state = host(&home, &[&root]);
        state.save_authority(&root).expect("saved");
        std::fs::write(state.path().join("members"), "blob ???\n").expect("written");
        let held = Held::of(&state).expect("a key");
        assert!(matches!(held, Held::Unknown { is_in_network: false, .. }), "{held:?}");
        let said = held.to_string();
        assert!(said.contains("cannot be known") && said.contains("is damaged"), "{said}");
        assert!(held.remedy(&state).contains("admin.key*"), "what is damaged is exported by nobody");
        state.forget_new_network().expect("forgotten");
        assert!(Held::of(&state).expect("a key").to_string().contains("in no network"));
        let plain = NetworkState::create("home", Vec::new(), &mut SeededRng::new(2));
        state.save_network(&plain).expect("saved");
        let held = Held::of(&state).expect("a key");
        assert!(held.to_string().contains("\"home\" has no certificates"), "{held}");
        assert!(held.remedy(&state).contains("network export"));
    }
}
