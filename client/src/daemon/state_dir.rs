//! The state directory: who this node is, which network it is in, what `up` remembers.
//!
//! | file | holds | mode |
//! |---|---|---|
//! | `state.toml` | `version = 1`, the layout of all of this | 0600 |
//! | `node.key` | the node's X25519 secret, base64url | 0600 |
//! | `network.toml` | network secret and generation, name, relays, address claim ([`NetworkState`]) | 0600 |
//! | `members` | what is known of members, this node's certificate, while it joins the invite's seed ([`MemberState`]) | 0600 |
//! | `admin.key` | on an admin's node: the seed of its authority, base64url | 0600 |
//! | `admin.key.ID` | one that `admins id --new` replaced, by the start of its id | 0600 |
//! | `config.toml` | what `up` remembers ([`Config`]); people may edit it | 0600 |
//! | `.lock` | `flock`ed by the program that may write; its process id | 0600 |
//!
//! Life: [`StateDir::open`] makes or checks the directory, [`StateDir::lock`] makes this process its only writer, then files
//! are loaded and replaced whole. Invariants: a file is old or new, never half ([`atomic`]); nothing of a newer layout is
//! touched; a damaged file is reported and left as it is, never replaced by a fresh one, because it may be all that is left of
//! a key; nothing is written into a directory whose keys would be somebody else's ([`owner`]).

mod atomic;
mod backup;
mod error;
mod members;
mod network;
mod owner;

pub use backup::CopyError;
pub use error::StateError;
pub use members::{Joins, MemberState, StoredOwn};
pub use network::{AddressClaim, NetworkState};

use crate::config::Config;
use data_encoding::BASE64URL_NOPAD;
use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use serde::Deserialize;
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::membership::Authority;
use shadowmesh_proto::rng::Rng;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where it is unless somebody says otherwise.
pub const DEFAULT: &str = "/var/lib/shadowmesh";
const VERSION: u32 = 1;
const STATE: &str = "state.toml";
const NODE_KEY: &str = "node.key";
pub(crate) const NETWORK: &str = "network.toml";
const MEMBERS: &str = "members";
const ADMIN_KEY: &str = "admin.key";
const CONFIG: &str = "config.toml";
/// Largest file of members that is read, bytes. What admins may say, however much it is, is below that, or one could keep every node from
/// starting: of 32 admins keys, documents of 256 KiB and 64 invites of 6 kB, a third more in base64url; what 64 shut out once, 2,048 keys
/// of 130 bytes each; and 1,024 nodes that were met.
const MAX_MEMBERS: u64 = 64 << 20;
const _: () = {
    let statements = 32 * (2_100 + (256 << 10) + 4_096 + 64 * 6_200);
    assert!(
        statements * 4 / 3 + 64 * (2_048 + 32) * 140 + 1_024 * 64 + (1 << 20) < MAX_MEMBERS,
        "it is readable"
    );
};
/// Who has it locked is the daemon.
pub(crate) const LOCK: &str = ".lock";

/// An opened state directory of a layout that this program knows.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

/// Makes this process the only writer of a state directory, until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Whether a file of that name in it is for its owner alone.
pub(crate) fn is_secret(name: &str) -> bool {
    [NODE_KEY, NETWORK, MEMBERS, CONFIG].contains(&name) || name.starts_with(ADMIN_KEY)
}

impl StateDir {
    /// Opens the directory; makes it (mode 0700) when it is not there.
    ///
    /// # Errors
    /// `NotWritable` when it cannot be made, `Exposed` when others could read or replace what is in it, `Newer` or `Damaged` when it is not of
    /// our layout.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateError> {
        let path = path.into();
        check_link(&path)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|cause| StateError::NotWritable { path: path.clone(), cause })?;
        let dir = Self { path };
        owner::check(&dir.path)?;
        match dir.layout()? {
            Some(()) => {}
            None => dir.replace(STATE, format!("version = {VERSION}\n").as_bytes())?,
        }
        Ok(dir)
    }

    /// Opens the directory to look at; `None` when there is none, or nothing of ours in it.
    ///
    /// # Errors
    /// As [`Self::open`], and `NotReadable`.
    pub fn open_existing(path: impl Into<PathBuf>) -> Result<Option<Self>, StateError> {
        let dir = Self { path: path.into() };
        check_link(&dir.path)?;
        Ok(dir.layout()?.map(|()| dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes this process the writer.
    ///
    /// # Errors
    /// `Locked` when another process is, `NotWritable`.
    pub fn lock(&self) -> Result<StateLock, StateError> {
        // Not emptied: until the lock is ours, the process id in it is another's.
        let mut file = atomic::open_or_make(&self.path, LOCK).map_err(|cause| self.not_writable(cause))?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error == rustix::io::Errno::WOULDBLOCK {
                let mut text = String::new();
                let pid = (&mut file)
                    .take(20)
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse().ok());
                return Err(StateError::Locked { path: self.path.clone(), pid });
            }
            return Err(self.not_writable(error.into()));
        }
        let noted = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(|cause| self.not_writable(cause))?;
        Ok(StateLock { _file: file })
    }

    /// The node's X25519 secret, drawn from `rng` and stored when there is none yet.
    ///
    /// # Errors
    /// `Damaged` when the file holds no key: a key is never replaced behind its owner's back.
    pub fn load_or_create_node_key(&self, rng: &mut dyn Rng) -> Result<NodeSecret, StateError> {
        if let Some(key) = self.load_node_key()? {
            return Ok(key);
        }
        let key = NodeSecret::generate(rng);
        let text = Zeroizing::new(BASE64URL_NOPAD.encode(key.to_bytes().as_slice()) + "\n");
        self.replace(NODE_KEY, text.as_bytes())?;
        Ok(key)
    }

    /// The node's X25519 secret, if there is one yet.
    ///
    /// # Errors
    /// `Damaged`, `NotReadable`.
    pub fn load_node_key(&self) -> Result<Option<NodeSecret>, StateError> {
        let Some(text) = self.read(NODE_KEY)?.map(Zeroizing::new) else { return Ok(None) };
        let key = network::decode_key(&text).map(NodeSecret::from_bytes).ok_or_else(|| {
            let remedy = "restore it, or delete it to become a new node with another address";
            StateError::damaged(self.path.join(NODE_KEY), "it is not 32 bytes of base64url", remedy)
        })?;
        Ok(Some(key))
    }

    /// The network this host is in, if any.
    ///
    /// # Errors
    /// `Damaged`, `NotReadable`.
    pub fn load_network(&self) -> Result<Option<NetworkState>, StateError> {
        let Some(text) = self.read(NETWORK)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        let remedy = "restore it, or run `shadowmesh leave` and join again";
        let parsed = NetworkState::parse(&text);
        parsed.map(Some).map_err(|why| StateError::damaged(self.path.join(NETWORK), why, remedy))
    }

    /// Remembers the network.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn save_network(&self, network: &NetworkState) -> Result<(), StateError> {
        self.replace(NETWORK, network.to_toml().as_bytes())
    }

    /// What is known of the members of the network; nothing when there is no file.
    ///
    /// # Errors
    /// `Damaged`, `NotReadable`.
    pub fn load_members(&self) -> Result<MemberState, StateError> {
        let text = atomic::read_up_to(&self.path, MEMBERS, MAX_MEMBERS)
            .map_err(|cause| self.unreadable(MEMBERS, cause))?;
        let text = Zeroizing::new(text.unwrap_or_default());
        MemberState::parse(&text).map_err(|why| self.damaged_members(why))
    }

    /// That the file of members is no use, and what to do.
    pub fn damaged_members(&self, why: impl Into<String>) -> StateError {
        let remedy = "restore it, or run `shadowmesh leave` and join again";
        StateError::damaged(self.path.join(MEMBERS), why, remedy)
    }

    /// Remembers what is known of members.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn save_members(&self, members: &MemberState) -> Result<(), StateError> {
        self.replace(MEMBERS, members.to_text().as_bytes())
    }

    /// When that was, in seconds since 1970 by the clock of then; 0 where it never was.
    pub fn members_saved_at(&self) -> u64 {
        let modified = std::fs::metadata(self.path.join(MEMBERS)).and_then(|known| known.modified());
        let since = modified.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        since.map_or(0, |since| since.as_secs())
    }

    /// The authority of this node, if it is, or shall be, an admin's.
    ///
    /// # Errors
    /// `Damaged` when the file holds no key, `NotReadable`.
    pub fn load_authority(&self) -> Result<Option<Authority>, StateError> {
        self.load_authority_of(ADMIN_KEY)
    }

    fn load_authority_of(&self, name: &str) -> Result<Option<Authority>, StateError> {
        let Some(text) = self.read(name)?.map(Zeroizing::new) else { return Ok(None) };
        let seed = network::decode_key(&text).ok_or_else(|| {
            let remedy = "restore it, or delete it where another admin is left";
            StateError::damaged(self.path.join(name), "it is not 32 bytes of base64url", remedy)
        })?;
        Ok(Some(Authority::from_seed(seed)))
    }

    /// Whether there is one, readable or not, or one that was put aside, which may be the root's.
    pub fn has_authority(&self) -> bool {
        self.path.join(ADMIN_KEY).exists() || !self.names_of_authorities_aside().is_empty()
    }

    /// Those that were put aside.
    ///
    /// # Errors
    /// As of [`Self::load_authority`].
    pub fn load_authorities_aside(&self) -> Result<Vec<Authority>, StateError> {
        let names = self.names_of_authorities_aside();
        let loaded = names.iter().map(|name| self.load_authority_of(name));
        loaded.filter_map(Result::transpose).collect()
    }

    /// The files of those that were put aside, in order.
    fn names_of_authorities_aside(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let is_aside = |name: &String| name.strip_prefix(ADMIN_KEY).is_some_and(|rest| rest.starts_with('.'));
        let mut names: Vec<String> = names.filter(is_aside).collect();
        names.sort();
        names
    }

    /// Remembers it.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn save_authority(&self, authority: &Authority) -> Result<(), StateError> {
        let text = Zeroizing::new(BASE64URL_NOPAD.encode(authority.seed().as_slice()) + "\n");
        self.replace(ADMIN_KEY, text.as_bytes())
    }

    /// Puts the one that is there aside, under a name that says which: another may take its place, and its owner may want it back.
    ///
    /// # Errors
    /// `NotWritable`, and those of [`Self::load_authority`].
    pub fn put_authority_aside(&self) -> Result<(), StateError> {
        let Some(authority) = self.load_authority()? else { return Ok(()) };
        self.save_authority_aside(&authority)
    }

    /// Remembers one so.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn save_authority_aside(&self, authority: &Authority) -> Result<(), StateError> {
        let text = Zeroizing::new(BASE64URL_NOPAD.encode(authority.seed().as_slice()) + "\n");
        self.replace(&format!("{ADMIN_KEY}.{}", authority.fingerprint().short()), text.as_bytes())
    }

    /// Forgets a network that was made a moment ago and that nobody else is in. All else stays: a key of an admin, and members, were there before it.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn forget_new_network(&self) -> Result<(), StateError> {
        atomic::remove(&self.path, NETWORK).map(drop).map_err(|cause| self.not_writable(cause))
    }

    /// Forgets the network, readable or not, and every key of an admin; `false` when there was none. What `up` remembered for it alone (relays, address)
    /// goes too; the node's key and name stay.
    ///
    /// # Errors
    /// `NotWritable`, and those of [`Self::load_config`].
    pub fn forget_network(&self) -> Result<bool, StateError> {
        let was_there = atomic::remove(&self.path, NETWORK).map_err(|cause| self.not_writable(cause))?;
        let aside = self.names_of_authorities_aside();
        for name in [MEMBERS, ADMIN_KEY].into_iter().chain(aside.iter().map(String::as_str)) {
            atomic::remove(&self.path, name).map_err(|cause| self.not_writable(cause))?;
        }
        let config = self.load_config()?;
        let kept = Config { relays: Vec::new(), address: None, ..config.clone() };
        if kept != config {
            self.save_config(&kept)?;
        }
        Ok(was_there)
    }

    /// What `up` remembers; nothing chosen when there is no file.
    ///
    /// # Errors
    /// `Config` with line and field, `NotReadable`.
    pub fn load_config(&self) -> Result<Config, StateError> {
        let text = self.read(CONFIG)?.unwrap_or_default();
        Config::parse(&text).map_err(|cause| StateError::Config { path: self.path.join(CONFIG), cause })
    }

    /// Remembers `config`.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn save_config(&self, config: &Config) -> Result<(), StateError> {
        self.replace(CONFIG, config.to_toml().as_bytes())
    }

    /// Checks `state.toml`; `None` when there is none.
    fn layout(&self) -> Result<Option<()>, StateError> {
        #[derive(Deserialize)]
        struct Layout {
            version: u32,
        }
        let Some(text) = self.read(STATE)? else {
            return Ok(None);
        };
        match toml::from_str(&text) {
            Ok(Layout { version: VERSION }) => Ok(Some(())),
            Ok(Layout { version }) if version > VERSION => {
                Err(StateError::Newer { path: self.path.clone(), found: version, known: VERSION })
            }
            Ok(_) | Err(_) => {
                let why = format!("it does not say `version = {VERSION}`");
                Err(StateError::damaged(
                    self.path.join(STATE),
                    why,
                    "restore it, or name another directory with --state",
                ))
            }
        }
    }

    fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        atomic::read(&self.path, name).map_err(|cause| self.unreadable(name, cause))
    }

    fn unreadable(&self, name: &str, cause: io::Error) -> StateError {
        let path = self.path.join(name);
        if cause.kind() == io::ErrorKind::InvalidData {
            let remedy = "restore it, or move it away";
            return StateError::damaged(path, "it is not a text file of ours", remedy);
        }
        StateError::NotReadable { path, cause }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        // Not every writer began with [`Self::open`].
        owner::check(&self.path)?;
        atomic::replace(&self.path, name, bytes).map_err(|cause| self.not_writable(cause))
    }

    fn not_writable(&self, cause: io::Error) -> StateError {
        StateError::NotWritable { path: self.path.clone(), cause }
    }
}

/// Root works in no directory that a link of somebody else's leads to: the service's user could have laid it, in place of that of a network beside
/// the first (`--network`). Root's own links are its affair.
fn check_link(path: &Path) -> Result<(), StateError> {
    let link = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_symlink);
    if link.is_some_and(|link| link.uid() != 0) && geteuid().is_root() {
        let cause =
            io::Error::new(io::ErrorKind::PermissionDenied, "it is a link that another user than root laid");
        return Err(StateError::NotWritable { path: path.to_owned(), cause });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shadowmesh_proto::ids::RelayId;
    use shadowmesh_proto::rng::SeededRng;
    use shadowmesh_proto::ticket::RelayTicket;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};

    fn opened() -> (tempfile::TempDir, StateDir) {
        let root = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(root.path().join("deep/state")).expect("opened");
        (root, dir)
    }

    fn relay() -> RelayTicket {
        RelayTicket { key: RelayId([7; 32]), addresses: vec!["192.0.2.1:8443".into()], expires: None }
    }

    #[test]
    fn root_works_behind_no_link_of_somebody_else() {
        let (root, dir) = opened();
        let link = root.path().join("link");
        symlink(dir.path(), &link).expect("laid");
        StateDir::open(&link).expect("its own");
        // Only root can give it away, and only for root it would be a trap.
        if geteuid().is_root() {
            lchown(&link, Some(4_242), None).expect("given away");
            for refused in [StateDir::open(&link).map(Some), StateDir::open_existing(&link)] {
                let error = refused.expect_err("refused").to_string();
                assert!(error.contains("a link that another user than root laid"), "{error}");
            }
        }
    }

    #[test]
    fn what_is_saved_is_there_after_opening_again() {
        let (_root, dir) = opened();
        let key = dir.load_or_create_node_key(&mut SeededRng::new(1)).expect("made");
        let network = NetworkState::create("home", vec![relay()], &mut SeededRng::new(2));
        dir.save_network(&network).expect("saved");
        let again = StateDir::open_existing(dir.path()).expect("opened").expect("there");
        assert_eq!(
            again.load_or_create_node_key(&mut SeededRng::new(3)).expect("kept").public(),
            key.public()
        );
        assert_eq!(again.load_network().expect("read"), Some(network));
        for entry in fs::read_dir(dir.path()).expect("listed") {
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("its mode").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        }
        assert_eq!(fs::metadata(dir.path()).expect("there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn looking_at_a_directory_makes_nothing() {
        let root = tempfile::tempdir().expect("a directory");
        assert!(StateDir::open_existing(root.path()).expect("looked").is_none());
        assert!(StateDir::open_existing(root.path().join("none")).expect("looked").is_none());
        assert_eq!(fs::read_dir(root.path()).expect("listed").count(), 0);
    }

    #[test]
    fn a_newer_layout_is_left_alone() {
        let (_root, dir) = opened();
        fs::write(dir.path().join(STATE), "version = 2\nnew = true\n").expect("written");
        let error = StateDir::open(dir.path()).expect_err("refused");
        assert!(matches!(error, StateError::Newer { found: 2, .. }), "{error}");
        fs::write(dir.path().join(STATE), "nonsense").expect("written");
        assert!(matches!(StateDir::open(dir.path()), Err(StateError::Damaged { .. })));
    }

    #[test]
    fn a_damaged_key_is_reported_and_kept() {
        let (_root, dir) = opened();
        fs::write(dir.path().join(NODE_KEY), "short\n").expect("written");
        let error = dir.load_or_create_node_key(&mut SeededRng::new(1)).expect_err("refused");
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join(NODE_KEY)).expect("kept"), "short\n");
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_not_writable() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("state");
        fs::write(&path, "").expect("written");
        assert!(matches!(StateDir::open(path.join("x")), Err(StateError::NotWritable { .. })));
        assert!(matches!(
            StateDir::open(path),
            Err(StateError::NotWritable { .. } | StateError::NotReadable { .. })
        ));
    }

    #[test]
    fn one_writer_at_a_time() {
        let (_root, dir) = opened();
        let lock = dir.lock().expect("free");
        let error = dir.lock().expect_err("held");
        assert!(
            matches!(error, StateError::Locked { pid: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        drop(lock);
        dir.lock().expect("free again");
    }

    #[test]
    fn leaving_forgets_the_network_and_keeps_the_node() {
        let (_root, dir) = opened();
        let key = dir.load_or_create_node_key(&mut SeededRng::new(1)).expect("made");
        dir.save_network(&NetworkState::create("home", vec![relay()], &mut SeededRng::new(2)))
            .expect("saved");
        let name = "a".parse().ok();
        let config =
            Config { relays: vec![relay()], address: "10.7.3.4/16".parse().ok(), name, ..Config::default() };
        dir.save_config(&config).expect("saved");
        assert!(dir.forget_network().expect("forgotten"));
        assert!(!dir.forget_network().expect("nothing left"));
        assert_eq!(dir.load_network().expect("read"), None);
        let kept = dir.load_config().expect("read");
        assert_eq!(kept, Config { name: config.name, ..Config::default() });
        assert_eq!(dir.load_or_create_node_key(&mut SeededRng::new(3)).expect("kept").public(), key.public());
    }

    #[test]
    fn a_key_of_an_admin_that_was_put_aside_is_one_until_the_network_is_forgotten() {
        let (_root, dir) = opened();
        assert!(!dir.has_authority());
        fs::write(dir.path().join("admin.keys"), "of something else").expect("written");
        assert!(!dir.has_authority());
        let [first, second] = [1, 2].map(|seed| Authority::generate(&mut SeededRng::new(seed)));
        dir.save_authority(&first).expect("saved");
        dir.put_authority_aside().expect("put aside");
        dir.save_authority(&second).expect("saved");
        let aside = dir.load_authorities_aside().expect("read");
        assert_eq!(aside.iter().map(Authority::fingerprint).collect::<Vec<_>>(), [first.fingerprint()]);
        fs::remove_file(dir.path().join(ADMIN_KEY)).expect("removed");
        assert!(dir.has_authority());
        dir.forget_network().expect("forgotten");
        assert!(!dir.has_authority() && dir.path().join("admin.keys").exists());
    }

    #[test]
    fn leaving_works_with_a_damaged_network_file() {
        let (_root, dir) = opened();
        fs::write(dir.path().join(NETWORK), "secret = 5").expect("written");
        assert!(matches!(dir.load_network(), Err(StateError::Damaged { .. })));
        assert!(dir.forget_network().expect("forgotten"));
    }
}
