//! The state directory: who this node is, which network it is in, what `up` remembers.
//!
//! | file | holds | mode |
//! |---|---|---|
//! | `state.toml` | `version = 2`, the [`layout`] of all of this | 0600 |
//! | `node.key` | the node's X25519 secret, base64url | 0600 |
//! | `network.toml` | network secret and generation, name, relays ([`NetworkState`]) | 0600 |
//! | `address.toml` | which IPv4 address this host has there, the rest of [`NetworkState`] | 0600 |
//! | `members` | what is known of members, this node's certificate, while it joins the invite's seed ([`MemberState`]) | 0600 |
//! | `admin.key` | on an admin's node: the seed of its authority, base64url | 0600 |
//! | `admin.key.ID` | one that `admins id --new` replaced, by the start of its id | 0600 |
//! | `left-NAME` | a copy of a network that was left with an admin's key | 0600 |
//! | `clock` | the time of day that was seen last ([`clock`](crate::daemon::clock)) | 0600 |
//! | `config.toml` | what `up` remembers ([`Config`]); people may edit it | 0600 |
//! | `.lock` | `flock`ed by the program that may write; its process id | 0600 |
//!
//! Life: [`StateDir::open`] makes or checks the directory, [`StateDir::lock`] makes this process its only writer, then files
//! are loaded and replaced whole. One of an older layout is taken to this one by whoever locks it, and shown as if it were of this one to who
//! only looks. Invariants: a file is old or new, never half ([`atomic`]); nothing of a newer layout is
//! touched; nothing is written into an older one but by its way to this one; a damaged file is reported and left as it is, never replaced by a fresh one, because it may be all that is left of
//! a key; nothing is written into a directory whose keys would be somebody else's ([`owner`]).

mod atomic;
mod backup;
mod error;
mod layout;
mod members;
mod network;
mod owner;

pub use backup::CopyError;
pub(crate) use backup::MAX_COPY;
pub use error::StateError;
pub use members::{Joins, MemberState, StoredOwn};
pub use network::{AddressClaim, NetworkState};

use crate::config::Config;
use atomic::{Dir, Foreign};
use data_encoding::BASE64URL_NOPAD;
use layout::{Files, NEWEST, OLDEST, STATE, Written};
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::membership::Authority;
use shadowmesh_proto::rng::Rng;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// Where it is unless somebody says otherwise.
pub const DEFAULT: &str = "/var/lib/shadowmesh";
const NODE_KEY: &str = "node.key";
pub(crate) const NETWORK: &str = "network.toml";
const ADDRESS: &str = "address.toml";
const MEMBERS: &str = "members";
const ADMIN_KEY: &str = "admin.key";
const CONFIG: &str = "config.toml";
pub(crate) const CLOCK: &str = "clock";
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
/// Copies of networks that were left begin so.
const LEFT: &str = "left-";
/// Who has it locked is the daemon.
pub(crate) const LOCK: &str = ".lock";

/// An opened state directory of a layout that this program knows.
#[derive(Clone)]
pub struct StateDir {
    /// What people call it. All is done by `dir`, which stays the one that was opened.
    path: PathBuf,
    dir: Arc<Dir>,
    /// While the directory is of an older layout, what will be written to take it to this one.
    preview: Arc<Mutex<Option<Written>>>,
}

impl fmt::Debug for StateDir {
    /// Not what will be written: the network's secret is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateDir").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Makes this process the only writer of a state directory, until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// The file of an admin's key that was put aside.
fn name_of_aside(authority: &Authority) -> String {
    format!("{ADMIN_KEY}.{}", authority.fingerprint().short())
}

/// Whether a file of that name in it is for its owner alone.
pub(crate) fn is_secret(name: &str) -> bool {
    [NODE_KEY, NETWORK, MEMBERS, CONFIG].contains(&name)
        || name.starts_with(ADMIN_KEY)
        || name.starts_with(LEFT)
}

impl StateDir {
    /// Opens the directory to write in it; makes it (mode 0700) when it is not there, and takes it to this layout when it is of an older one.
    ///
    /// # Errors
    /// `NotWritable` when it cannot be made, `Exposed` when others could read or replace what is in it, `Newer` or `Damaged` when it is of no
    /// layout that is known, `Locked` when it is of an older one and some process is its writer.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateError> {
        let path = path.into();
        let opened = Dir::open(&path).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            Dir::open(&path)
        });
        let opened = opened.map_err(|cause| StateError::NotWritable { path: path.clone(), cause })?;
        let dir = Self::at(path, opened);
        owner::check(&dir.dir, &dir.path)?;
        match dir.layout()? {
            Some(NEWEST) => {}
            Some(_) => drop(dir.lock()?),
            None => dir.replace(STATE, layout::text_of(NEWEST).as_bytes())?,
        }
        Ok(dir)
    }

    /// Opens the directory to look at; `None` when there is none, or nothing of ours in it.
    ///
    /// # Errors
    /// As [`Self::open`], and `NotReadable`.
    pub fn open_existing(path: impl Into<PathBuf>) -> Result<Option<Self>, StateError> {
        let path = path.into();
        let opened = match Dir::open(&path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // One that is refused is none of the system's.
            Err(cause) if cause.raw_os_error().is_none() => {
                return Err(StateError::NotWritable { path, cause });
            }
            Err(cause) => return Err(StateError::NotReadable { path, cause }),
        };
        let dir = Self::at(path, opened);
        let Some(number) = dir.layout()? else { return Ok(None) };
        if number < NEWEST {
            let written = layout::preview(&OnDisk(&dir.dir), number);
            *dir.preview() = Some(written.map_err(|cause| dir.unreadable(STATE, cause))?);
        }
        Ok(Some(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes this process the writer, and takes a directory of an older layout to this one.
    ///
    /// # Errors
    /// `Locked` when another process is, `NotWritable`; `Newer` or `Damaged` when it became so meanwhile.
    pub fn lock(&self) -> Result<StateLock, StateError> {
        // Not emptied: until the lock is ours, the process id in it is another's.
        let mut file = self.dir.open_or_make(LOCK).map_err(|cause| self.not_writable(cause))?;
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
        self.migrate()?;
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
        let mut network = parsed.map_err(|why| StateError::damaged(self.path.join(NETWORK), why, remedy))?;
        if let Some(address) = self.read(ADDRESS)? {
            let remedy = "restore it, or delete it to have an address found anew";
            let taken = network.take_address(&address);
            taken.map_err(|why| StateError::damaged(self.path.join(ADDRESS), why, remedy))?;
        }
        Ok(Some(network))
    }

    /// Whether this host is in a network, be its file readable or not.
    pub fn has_network(&self) -> bool {
        self.is_there(NETWORK)
    }

    /// Remembers the network, and which address this host has there. What is there already is not written again.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn save_network(&self, network: &NetworkState) -> Result<(), StateError> {
        // First: an address of a network that was left would be taken for one of this.
        for (name, text) in [(ADDRESS, network.address_to_toml()), (NETWORK, network.to_toml())] {
            let is_there =
                self.read(name).is_ok_and(|there| there.map(Zeroizing::new).as_ref() == Some(&text));
            if !is_there {
                self.replace(name, text.as_bytes())?;
            }
        }
        Ok(())
    }

    /// What is known of the members of the network; nothing when there is no file.
    ///
    /// # Errors
    /// `Damaged`, `NotReadable`.
    pub fn load_members(&self) -> Result<MemberState, StateError> {
        let text = Zeroizing::new(self.read_up_to(MEMBERS, MAX_MEMBERS)?.unwrap_or_default());
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
        let known = self.dir.stat_of(MEMBERS).ok().flatten();
        known.and_then(|known| u64::try_from(known.st_mtime).ok()).unwrap_or(0)
    }

    /// The time of day that was seen last, seconds since 1970; `None` too where the file does not read: it keeps nobody from starting.
    pub fn load_clock(&self) -> Option<u64> {
        #[derive(Deserialize)]
        struct Stored {
            seen: u64,
        }
        let text = self.read(CLOCK).ok()??;
        toml::from_str(&text).ok().map(|Stored { seen }| seen)
    }

    /// Remembers it.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn save_clock(&self, seen: u64) -> Result<(), StateError> {
        self.replace(CLOCK, format!("seen = {seen}\n").as_bytes())
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
        self.is_there(ADMIN_KEY) || !self.names_of_authorities_aside().is_empty()
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

    /// Those of them that read.
    pub fn readable_authorities_aside(&self) -> Vec<Authority> {
        let names = self.names_of_authorities_aside();
        names.iter().filter_map(|name| self.load_authority_of(name).ok().flatten()).collect()
    }

    /// The files of those that were put aside, in order.
    fn names_of_authorities_aside(&self) -> Vec<String> {
        let is_aside = |name: &String| name.strip_prefix(ADMIN_KEY).is_some_and(|rest| rest.starts_with('.'));
        let names = self.dir.names().unwrap_or_default();
        let mut names: Vec<String> = names.into_iter().filter(is_aside).collect();
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
        self.replace(&name_of_aside(authority), text.as_bytes())
    }

    /// Deletes the one that is there; `before`, which was put aside for it, takes its place again.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn discard_authority(&self, before: Option<&Authority>) -> Result<(), StateError> {
        let Some(before) = before else { return self.remove(ADMIN_KEY).map(drop) };
        // Takes no room: there may be none, which is why it is taken back.
        if self.dir.rename(&name_of_aside(before), ADMIN_KEY).map_err(|cause| self.not_writable(cause))? {
            return Ok(());
        }
        self.save_authority(before)
    }

    /// Deletes the second file of one that was put aside and is in its place still.
    ///
    /// # Errors
    /// `NotWritable`.
    pub(crate) fn discard_aside(&self, authority: &Authority) -> Result<(), StateError> {
        self.remove(&name_of_aside(authority)).map(drop)
    }

    /// Forgets a network that was made a moment ago and that nobody else is in. A key of an admin that was there before it stays.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn forget_new_network(&self) -> Result<(), StateError> {
        self.remove(NETWORK)?;
        self.forget_remains()
    }

    /// Makes this host one of a network: what is left here of another, whose file is gone, is none of it.
    ///
    /// # Errors
    /// `NotWritable`.
    pub fn enter_network(&self, network: &NetworkState) -> Result<(), StateError> {
        self.forget_remains()?;
        self.save_network(network)
    }

    /// Deletes members and address where there is no network: somebody's who was ended while it was made or left. They count for nothing, and would be
    /// taken for those of the next.
    fn forget_remains(&self) -> Result<(), StateError> {
        if !self.has_network() {
            for name in [ADDRESS, MEMBERS] {
                self.remove(name)?;
            }
        }
        Ok(())
    }

    /// The same, and what `up` remembered for that network alone (relays, address). Keys stay.
    ///
    /// # Errors
    /// `NotWritable`, and those of [`Self::load_config`].
    pub fn forget_all_but_keys(&self) -> Result<(), StateError> {
        self.forget_remains()?;
        let config = self.load_config()?;
        let kept = Config { relays: Vec::new(), address: None, ..config.clone() };
        if kept == config { Ok(()) } else { self.save_config(&kept) }
    }

    /// Forgets the network, readable or not, and every key of an admin; `false` when there was none. What `up` remembered for it alone (relays, address)
    /// goes too; the node's key and name stay.
    ///
    /// # Errors
    /// `NotWritable`, and those of [`Self::load_config`].
    pub fn forget_network(&self) -> Result<bool, StateError> {
        let was_there = self.remove(NETWORK)?;
        self.forget_remains()?;
        let aside = self.names_of_authorities_aside();
        for name in std::iter::once(ADMIN_KEY).chain(aside.iter().map(String::as_str)) {
            self.remove(name)?;
        }
        self.forget_all_but_keys()?;
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

    /// Of the changes from now on, those with these numbers fail: how tests end a program between two of them.
    #[cfg(test)]
    pub(in crate::daemon) fn end_changes(&self, fail: std::ops::Range<u32>) {
        self.dir.end(atomic::ends::Ends::at(fail));
    }

    fn at(path: PathBuf, dir: Dir) -> Self {
        Self { path, dir: Arc::new(dir), preview: Arc::new(Mutex::new(None)) }
    }

    /// Whether a file of that name is in it, be it a link that leads nowhere.
    fn is_there(&self, name: &str) -> bool {
        self.dir.stat_of(name).is_ok_and(|found| found.is_some())
    }

    /// Which layout it is of; `None` when there is nothing of ours in it.
    fn layout(&self) -> Result<Option<u32>, StateError> {
        let text = self.dir.read(STATE).map_err(|cause| self.unreadable(STATE, cause))?;
        let Some(text) = text else {
            return Ok([NODE_KEY, NETWORK].into_iter().any(|name| self.is_there(name)).then_some(OLDEST));
        };
        match layout::number_in(&text) {
            Some(number) if number <= NEWEST => Ok(Some(number)),
            Some(found) => Err(StateError::Newer { path: self.path.clone(), found, known: NEWEST }),
            None => {
                let why = format!("it does not say `version = {NEWEST}`");
                let remedy = "restore it, or name another directory with --state";
                Err(StateError::damaged(self.path.join(STATE), why, remedy))
            }
        }
    }

    /// Takes it to this layout; the lock is held.
    fn migrate(&self) -> Result<(), StateError> {
        // Another process may have done so since it was opened.
        let number = self.layout()?.unwrap_or(NEWEST);
        if number < NEWEST {
            layout::migrate(&mut OnDisk(&self.dir), number).map_err(|cause| self.not_writable(cause))?;
            tracing::info!(
                from = number,
                to = NEWEST,
                "the state directory was brought to this version's layout: older versions refuse it from now on"
            );
        }
        *self.preview() = None;
        Ok(())
    }

    fn preview(&self) -> std::sync::MutexGuard<'_, Option<Written>> {
        // Replaced whole: whoever panicked left nothing half done.
        self.preview.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        self.read_up_to(name, atomic::MAX_FILE)
    }

    fn read_up_to(&self, name: &str, max: u64) -> Result<Option<String>, StateError> {
        if let Some(text) = self.preview().as_ref().and_then(|written| written.get(name)) {
            return Ok(Some(text.to_string()));
        }
        self.dir.read_up_to(name, max).map_err(|cause| self.unreadable(name, cause))
    }

    fn unreadable(&self, name: &str, cause: io::Error) -> StateError {
        let path = self.path.join(name);
        if Foreign::is(&cause) {
            let remedy = "make it an ordinary file of whose the directory is, or move it away";
            return StateError::damaged(path, cause.to_string(), remedy);
        }
        if cause.kind() == io::ErrorKind::InvalidData {
            let remedy = "restore it, or move it away";
            return StateError::damaged(path, "it is not a text file of ours", remedy);
        }
        StateError::NotReadable { path, cause }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        // Not every writer began with [`Self::open`].
        owner::check(&self.dir, &self.path)?;
        if self.preview().is_some() {
            let why = "it is of an older version's layout, and nobody locked it";
            return Err(self.not_writable(io::Error::other(why)));
        }
        self.dir.replace(name, bytes).map_err(|cause| self.not_writable(cause))
    }

    /// `false` where it was not there.
    fn remove(&self, name: &str) -> Result<bool, StateError> {
        self.dir.remove(name).map_err(|cause| self.not_writable(cause))
    }

    fn not_writable(&self, cause: io::Error) -> StateError {
        StateError::NotWritable { path: self.path.clone(), cause }
    }
}

/// The directory itself.
struct OnDisk<'a>(&'a Dir);

impl Files for OnDisk<'_> {
    fn read(&self, name: &str) -> io::Result<Option<Zeroizing<String>>> {
        Ok(self.0.read(name)?.map(Zeroizing::new))
    }

    fn replace(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.0.replace(name, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::geteuid;
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
        let newer = NEWEST + 1;
        fs::write(dir.path().join(STATE), format!("version = {newer}\nnew = true\n")).expect("written");
        let listed = || fs::read_dir(dir.path()).expect("listed").count();
        let before = listed();
        for refused in [StateDir::open(dir.path()).map(Some), StateDir::open_existing(dir.path())] {
            let error = refused.expect_err("refused");
            assert!(matches!(error, StateError::Newer { found, .. } if found == newer), "{error}");
            let both = format!(
                "is of layout {newer}, written by a newer shadowmesh, and this one knows only {NEWEST}"
            );
            assert!(error.to_string().contains(&both), "{error}");
        }
        assert!(matches!(dir.lock(), Err(StateError::Newer { .. })), "it became newer while it was open");
        assert_eq!(listed(), before + 1, "the lock's own file, and nothing else");
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
    fn whenever_leaving_is_ended_the_next_network_begins_empty_and_leaving_again_ends_it() {
        let mut ended = 0;
        for at in 0.. {
            let (_root, dir) = opened();
            let network = NetworkState::create("home", vec![relay()], &mut SeededRng::new(2));
            dir.save_network(&network).expect("saved");
            fs::write(dir.path().join(MEMBERS), "blob ???\n").expect("written");
            let key = Authority::generate(&mut SeededRng::new(3));
            dir.save_authority_aside(&key).expect("saved");
            dir.save_authority(&key).expect("saved");
            dir.save_config(&Config { relays: vec![relay()], ..Config::default() }).expect("saved");
            dir.end_changes(at..u32::MAX);
            let is_done = dir.forget_network().is_ok();
            dir.end_changes(0..0);
            ended = at;
            // What a `leave` does that finds no network, and a key.
            let has_key = dir.has_authority();
            if !dir.has_network() {
                let (_home, next) = copy_of(dir.path());
                let other = NetworkState::create("other", Vec::new(), &mut SeededRng::new(4));
                next.enter_network(&other).expect("entered");
                assert_eq!(next.load_network().expect("read"), Some(other), "after {at} changes");
                assert_eq!(next.load_members().expect("read"), MemberState::default());
                dir.forget_all_but_keys().expect("forgotten");
                assert_eq!(dir.has_authority(), has_key);
                assert!(!dir.is_there(MEMBERS) && !dir.is_there(ADDRESS), "after {at} changes");
                assert_eq!(dir.load_config().expect("read"), Config::default());
            }
            if is_done {
                assert!(!has_key);
                break;
            }
        }
        assert!(ended >= 6, "network, address, members, two keys, settings: {ended}");
    }

    fn copy_of(path: &Path) -> (tempfile::TempDir, StateDir) {
        let (root, copy) = opened();
        for entry in fs::read_dir(path).expect("listed") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copied");
        }
        (root, copy)
    }

    #[test]
    fn leaving_works_with_a_damaged_network_file() {
        let (_root, dir) = opened();
        fs::write(dir.path().join(NETWORK), "secret = 5").expect("written");
        assert!(matches!(dir.load_network(), Err(StateError::Damaged { .. })));
        assert!(dir.forget_network().expect("forgotten"));
    }
}
