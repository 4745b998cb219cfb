//! A copy of a network in one text: what another host needs to take its place. Not the node's key: two hosts with one key would shut
//! each other out.

use super::members::MemberState;
use super::network::NetworkState;
use super::{LEFT, StateDir, StateError, network};
use crate::config::Config;
use crate::wiped::Growing;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use shadowmesh_proto::membership::Authority;
use std::path::PathBuf;
use zeroize::{Zeroize, Zeroizing};

const FORMAT: u32 = 1;
/// Largest copy that is read, bytes: one of 64 MiB of members, and a little.
pub(crate) const MAX_COPY: u64 = 80 << 20;

#[derive(Serialize, Deserialize)]
struct Copy {
    /// Says what it is, and of which form.
    shadowmesh_network: u32,
    network: String,
    members: String,
    admin_key: Option<String>,
    /// Those that another took the place of. Copies of before there were any have none, and versions of before leave them out.
    #[serde(default)]
    admin_keys_aside: Vec<String>,
    /// The address that the host which it was made on had by hand. Copies of before have none.
    #[serde(default)]
    address: Option<ByHand>,
}

/// An address by hand is one host's own: another that took it would have that of a host which may be there still.
#[derive(Serialize, Deserialize)]
struct ByHand {
    /// Whose: its public key, base32.
    node: String,
    /// CIDR.
    address: String,
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.network.zeroize();
        self.members.zeroize();
        self.admin_key.zeroize();
        self.admin_keys_aside.zeroize();
    }
}

/// Why a copy is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It does not read.
    #[error("it does not read as one ({0})")]
    Damaged(String),
    /// It was made by a later version.
    #[error("it was made by a newer shadowmesh (form {0}): upgrade this one")]
    Newer(u32),
    /// It cannot be stored.
    #[error(transparent)]
    State(#[from] StateError),
}

impl StateDir {
    /// The network, its record, the admin's keys, if there are any, and the address that this host was given by hand; `None` without a network.
    /// **A secret.**
    ///
    /// # Errors
    /// As the loading of each.
    pub fn export(&self) -> Result<Option<Zeroizing<String>>, StateError> {
        let Some(network) = self.load_network()? else { return Ok(None) };
        self.export_as(&network, self.load_members()?).map(Some)
    }

    /// The same with a network and members that are in memory, and the admin's keys from here, where they are before they are in use.
    /// **A secret.**
    ///
    /// # Errors
    /// As [`Self::load_authority`].
    pub fn export_as(
        &self,
        network: &NetworkState,
        members: MemberState,
    ) -> Result<Zeroizing<String>, StateError> {
        let MemberState { blobs, bygones, .. } = members;
        let members = MemberState { blobs, bygones, ..MemberState::default() };
        let encoded = |authority: &Authority| BASE64URL_NOPAD.encode(authority.seed().as_slice());
        let key = self.load_authority()?.as_ref().map(encoded);
        let aside = self.load_authorities_aside()?.iter().map(encoded).collect();
        let copy = Copy {
            shadowmesh_network: FORMAT,
            network: network.to_toml().to_string(),
            members: members.to_text().to_string(),
            admin_key: key,
            admin_keys_aside: aside,
            address: self.by_hand(),
        };
        let mut text = Growing::default();
        // What this program writes can be written, and is text.
        let _ = serde_json::to_writer_pretty(&mut text, &copy);
        Ok(Zeroizing::new(std::str::from_utf8(text.bytes()).unwrap_or_default().to_owned()))
    }

    /// The address that `up` remembers, and whose it is. Where one of both does not read there is none: it keeps nobody from a copy.
    fn by_hand(&self) -> Option<ByHand> {
        let address = self.load_config().ok()?.address?.to_string();
        let node = self.load_node_key().ok()??.public().to_base32();
        Some(ByHand { node, address })
    }

    /// The copies that were kept here in which there is the key of an admin, or that do not read: then there may be.
    pub fn copies_with_authority(&self) -> Vec<PathBuf> {
        let names = self.dir.names().unwrap_or_default().into_iter();
        let mut kept: Vec<String> = names
            .filter(|name| {
                name.starts_with(LEFT) && self.dir.stat_of(name).is_ok_and(|found| found.is_some_and(is_file))
            })
            .filter(|name| {
                let text = self.dir.read_up_to(name, MAX_COPY).map(|text| text.map(Zeroizing::new));
                let Ok(Some(text)) = text else { return true };
                let copy: Option<Copy> = serde_json::from_str(&text).ok();
                copy.is_none_or(|copy| copy.admin_key.is_some() || !copy.admin_keys_aside.is_empty())
            })
            .collect();
        kept.sort();
        kept.into_iter().map(|name| self.path.join(name)).collect()
    }

    /// Writes such a copy into the state directory, for whoever regrets having left; where, or `None` without a network.
    ///
    /// # Errors
    /// As [`Self::export`], and `NotWritable`.
    pub fn keep_copy(&self) -> Result<Option<PathBuf>, StateError> {
        let (Some(network), Some(copy)) = (self.load_network()?, self.export()?) else { return Ok(None) };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let label: String = network.name.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
        let names = (1u32..).map(|n| match n {
            1 => format!("{LEFT}{label}"),
            _ => format!("{LEFT}{label}-{n}"),
        });
        let is_free = |name: &String| !self.is_there(name);
        // There is a free number: a directory holds no 2^32 files.
        let Some(name) = names.into_iter().find(is_free) else { return Ok(None) };
        self.replace(&name, copy.as_bytes())?;
        Ok(Some(self.path.join(name)))
    }

    /// Takes over a copy where there is no network; which, and whether it brought an admin's key. One that is here already and would make
    /// room for it is put aside. The host that it was made on has its address by hand again, unless it has another meanwhile.
    ///
    /// # Errors
    /// See [`CopyError`]; nothing was changed by one that does not read.
    pub fn import(&self, text: &str) -> Result<(NetworkState, bool), CopyError> {
        let damaged = |why: String| CopyError::Damaged(why);
        let copy: Copy = serde_json::from_str(text).map_err(|error| {
            // Not what it says: it may quote.
            damaged(format!("line {}, column {}", error.line(), error.column()))
        })?;
        if copy.shadowmesh_network > FORMAT {
            return Err(CopyError::Newer(copy.shadowmesh_network));
        }
        // Without the address in it: that is the other host's, and copies of older versions name it.
        let network = NetworkState::parse(&copy.network).map_err(damaged)?;
        let members = MemberState::parse(&copy.members).map_err(damaged)?;
        let members =
            MemberState { blobs: members.blobs, bygones: members.bygones, ..MemberState::default() };
        let decoded = |text: &String| {
            let seed = network::decode_key(text).ok_or_else(|| damaged("its admin's key is none".to_owned()));
            seed.map(Authority::from_seed)
        };
        let authority = copy.admin_key.as_ref().map(decoded).transpose()?;
        let aside = copy.admin_keys_aside.iter().map(decoded).collect::<Result<Vec<_>, _>>()?;
        let is_here = |node: &str| {
            self.load_node_key().is_ok_and(|key| key.is_some_and(|key| key.public().to_base32() == node))
        };
        let address = match &copy.address {
            Some(ByHand { node, address }) if is_here(node) => {
                Some(address.parse().map_err(|_| damaged("its address is none".to_owned()))?)
            }
            Some(_) | None => None,
        };
        // First of all: one that is damaged may be all that is left of a key, and stays where it is.
        let before = self.load_authority()?;
        for authority in &aside {
            self.save_authority_aside(authority)?;
        }
        if let Some(authority) = &authority {
            // That of a network whose file is gone, or one that `admins id` made.
            if let Some(before) = before.filter(|before| before.fingerprint() != authority.fingerprint()) {
                self.save_authority_aside(&before)?;
            }
            self.save_authority(authority)?;
        }
        let config = self.load_config()?;
        // One that was named since is the newer wish.
        if address.is_some() && config.address.is_none() {
            self.save_config(&Config { address, ..config })?;
        }
        self.save_members(&members)?;
        // Last: with it this host is in the network.
        self.save_network(&network)?;
        Ok((network, authority.is_some()))
    }
}

fn is_file(found: rustix::fs::Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(found.st_mode).is_file()
}

#[cfg(test)]
mod tests {
    use super::super::members::StoredOwn;
    use super::*;
    use shadowmesh_proto::crypto::keys::NetworkSecret;
    use shadowmesh_proto::ids::RelayId;
    use shadowmesh_proto::rng::SeededRng;
    use shadowmesh_proto::ticket::RelayTicket;

    #[test]
    fn a_copy_that_is_kept_replaces_no_other() {
        let home = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(home.path().join("state")).expect("opened");
        assert_eq!(state.keep_copy().expect("looked"), None);
        let network = NetworkState::create("../my lan", Vec::new(), &mut SeededRng::new(2));
        state.save_network(&network).expect("saved");
        let kept: Vec<_> = (0..3).map(|_| state.keep_copy().expect("kept").expect("a copy")).collect();
        let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let names: Vec<_> = kept.iter().filter_map(name).collect();
        assert_eq!(names, ["left----my-lan", "left----my-lan-2", "left----my-lan-3"]);
        assert!(names.iter().all(|name| super::super::is_secret(name)));
    }

    #[test]
    fn an_address_by_hand_comes_back_to_the_host_that_had_it_and_to_no_other() {
        let home = tempfile::tempdir().expect("a directory");
        let [from, to] = ["from", "to"].map(|name| StateDir::open(home.path().join(name)).expect("opened"));
        let rng = &mut SeededRng::new(9);
        from.load_or_create_node_key(rng).expect("made");
        from.save_network(&NetworkState::create("home", Vec::new(), rng)).expect("saved");
        let by_hand = |text: &str| Config { address: text.parse().ok(), ..Config::default() };
        let address =
            |state: &StateDir| state.load_config().expect("read").address.map(|cidr| cidr.to_string());
        from.save_config(&by_hand("10.7.3.4/24")).expect("saved");
        let kept = from.keep_copy().expect("kept").expect("a copy");
        let copy = std::fs::read_to_string(kept).expect("read");
        from.forget_network().expect("left");
        assert_eq!(address(&from), None);
        from.import(&copy).expect("taken over");
        assert_eq!(address(&from).as_deref(), Some("10.7.3.4/24"));
        // Neither before it has a key, nor with its own.
        to.import(&copy).expect("taken over");
        assert_eq!(address(&to), None);
        to.forget_network().expect("left");
        to.load_or_create_node_key(rng).expect("made");
        to.import(&copy).expect("taken over");
        assert_eq!(address(&to), None);
        // Another that was named since stays.
        from.forget_network().expect("left");
        from.save_config(&by_hand("10.9.9.9/16")).expect("saved");
        from.import(&copy).expect("taken over");
        assert_eq!(address(&from).as_deref(), Some("10.9.9.9/16"));
        from.forget_network().expect("left");
        let damaged = copy.replace("10.7.3.4/24", "10.7.3.4/240");
        assert!(matches!(from.import(&damaged), Err(CopyError::Damaged(_))) && !from.has_network());
    }

    #[test]
    fn nothing_that_a_link_leads_to_gets_into_a_copy() {
        let home = tempfile::tempdir().expect("a directory");
        let beside = StateDir::open(home.path().join("work")).expect("opened");
        beside
            .save_network(&NetworkState::create("work", Vec::new(), &mut SeededRng::new(2)))
            .expect("saved");
        let key = Authority::generate(&mut SeededRng::new(3));
        beside.save_authority(&key).expect("saved");
        beside.save_members(&MemberState::default()).expect("saved");
        let link = |state: &StateDir, name: &str| {
            std::os::unix::fs::symlink(beside.path().join(name), state.path().join(name)).expect("laid");
        };
        for name in ["network.toml", "admin.key", "members"] {
            let state = StateDir::open(home.path().join(format!("of-{name}"))).expect("opened");
            if name != "network.toml" {
                let own = NetworkState::create("home", Vec::new(), &mut SeededRng::new(4));
                state.save_network(&own).expect("saved");
            }
            link(&state, name);
            let error = state.keep_copy().expect_err("refused").to_string();
            assert!(error.contains(&format!("{name} is damaged (it is a link")), "{error}");
            // Nor is a key put aside that is another directory's.
            if name == "admin.key" {
                state.put_authority_aside().expect_err("refused");
                state.import(&beside.export().expect("read").expect("a copy")).expect_err("refused");
            }
            let names = state.dir.names().expect("listed");
            assert!(
                !names.iter().any(|name| name.starts_with(LEFT) || name.starts_with("admin.key.")),
                "{names:?}"
            );
        }
    }

    #[test]
    fn a_copy_brings_the_network_and_nothing_that_is_one_hosts_own() {
        let home = tempfile::tempdir().expect("a directory");
        let [from, to] = ["from", "to"].map(|name| StateDir::open(home.path().join(name)).expect("opened"));
        assert!(from.export().expect("looked").is_none());
        let relay =
            RelayTicket { key: RelayId([7; 32]), addresses: vec!["192.0.2.1:8443".into()], expires: None };
        let mut network = NetworkState::create("home", vec![relay], &mut SeededRng::new(2));
        let authority = Authority::generate(&mut SeededRng::new(3));
        network.root = Some(authority.fingerprint());
        network.next = Some(NetworkSecret::draw(1, &mut SeededRng::new(4)));
        let own = Some(StoredOwn { certificate: vec![1], issuer: None, chain: None });
        let members = MemberState { blobs: vec![vec![5; 2000]], own, ..MemberState::default() };
        from.save_network(&network).expect("saved");
        from.save_members(&members).expect("saved");
        let before = Authority::generate(&mut SeededRng::new(5));
        from.save_authority_aside(&before).expect("saved");
        from.save_authority(&authority).expect("saved");
        let copy = from.export().expect("read").expect("a network");
        let (taken, has_key) = to.import(&copy).expect("taken over");
        assert!(has_key && !taken.claim.settled);
        assert_eq!(taken.root, network.root);
        let ids = |network: &NetworkState| network.secrets().ids().collect::<Vec<_>>();
        assert_eq!((ids(&taken), ids(&taken).len()), (ids(&network), 2), "both secrets of a rotation");
        assert_eq!(to.load_authority().expect("read").expect("a key").fingerprint(), authority.fingerprint());
        let aside = to.load_authorities_aside().expect("read");
        assert_eq!(aside.iter().map(Authority::fingerprint).collect::<Vec<_>>(), [before.fingerprint()]);
        let expected = MemberState { own: None, ..members };
        assert_eq!(to.load_members().expect("read"), expected);
        assert_eq!(to.load_network().expect("read"), Some(taken));
    }

    #[test]
    fn a_lone_key_makes_room_and_is_not_lost() {
        let home = tempfile::tempdir().expect("a directory");
        let open = |name: &str| StateDir::open(home.path().join(name)).expect("opened");
        let (from, to) = (open("from"), open("to"));
        let [brought, lone] = [3, 4].map(|seed| Authority::generate(&mut SeededRng::new(seed)));
        from.save_network(&NetworkState::create("home", Vec::new(), &mut SeededRng::new(2))).expect("saved");
        from.save_authority(&brought).expect("saved");
        let copy = from.export().expect("read").expect("a network");
        to.save_authority(&lone).expect("saved");
        let keys = |dir: &StateDir| {
            let own = dir.load_authority().expect("read").map(|key| key.fingerprint());
            let aside = dir.load_authorities_aside().expect("read");
            (own, aside.iter().map(Authority::fingerprint).collect::<Vec<_>>())
        };
        to.import(&copy).expect("taken over");
        assert_eq!(keys(&to), (Some(brought.fingerprint()), vec![lone.fingerprint()]));
        // The same again is no other.
        to.forget_new_network().expect("forgotten");
        to.import(&copy).expect("taken over");
        assert_eq!(keys(&to), (Some(brought.fingerprint()), vec![lone.fingerprint()]));

        let damaged = open("damaged");
        std::fs::write(damaged.path().join("admin.key"), "half of a key\n").expect("written");
        assert!(matches!(damaged.import(&copy), Err(CopyError::State(StateError::Damaged { .. }))));
        assert_eq!(damaged.load_network().expect("read"), None);
        let left = std::fs::read_to_string(damaged.path().join("admin.key")).expect("read");
        assert_eq!(left, "half of a key\n");
    }

    #[test]
    fn what_is_no_copy_changes_nothing() {
        let home = tempfile::tempdir().expect("a directory");
        let to = StateDir::open(home.path().join("to")).expect("opened");
        let newer = r#"{"shadowmesh_network":2,"network":"","members":"","admin_key":null}"#;
        assert!(matches!(to.import(newer), Err(CopyError::Newer(2))));
        for text in ["", "{}", r#"{"shadowmesh_network":1,"network":"x","members":"","admin_key":null}"#] {
            assert!(matches!(to.import(text), Err(CopyError::Damaged(_))), "{text}");
        }
        // One that a version of before made has no such field; one that is damaged brings no key at all.
        let network = NetworkState::create("home", Vec::new(), &mut SeededRng::new(2)).to_toml().to_string();
        let key = BASE64URL_NOPAD.encode(&[7; 32]);
        let copy = |aside: serde_json::Value| {
            let mut copy = serde_json::json!({ "shadowmesh_network": 1, "network": network, "members": "", "admin_key": key });
            copy["admin_keys_aside"] = aside;
            copy
        };
        let half = copy(serde_json::json!([key, "x"])).to_string();
        assert!(matches!(to.import(&half), Err(CopyError::Damaged(_))) && !to.has_authority());
        let mut older = copy(serde_json::Value::Null);
        older.as_object_mut().expect("an object").remove("admin_keys_aside");
        let fresh = StateDir::open(home.path().join("fresh")).expect("opened");
        assert!(fresh.import(&older.to_string()).expect("taken over").1);
        assert_eq!(to.load_network().expect("read"), None);
    }
}
