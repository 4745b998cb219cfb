//! What outlives a restart: one directory, and backing it up is copying it.
//!
//! ```text
//!  relay.key    the relay's identity, mode 0600: whoever has it can pose as the relay (never read a tunnel)
//!  state.toml   `version = 2`, the [`layout`] of all of this
//!  ticket.toml  what the ticket says
//!  acme.toml    account, key and certificate where those come by ACME, mode 0600
//!  lock         held by the running relay
//!  admin.sock   what `status` talks to
//! ```
//!
//! Files are replaced whole ([`atomic`]): after a crash at any instant the old or the new content is there, never half of
//! one. A directory of an older layout is taken to this one by whoever locks it; one written by a newer version is refused rather than
//! understood wrongly, and nothing in it is touched.

mod atomic;
mod key;
mod layout;

use layout::{Files, NEWEST, OLDEST, STATE_FILE};
use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::rng::Rng;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const KEY_FILE: &str = "relay.key";
const TICKET_FILE: &str = "ticket.toml";
const ACME_FILE: &str = "acme.toml";
const LOCK_FILE: &str = "lock";
const SOCKET_FILE: &str = "admin.sock";

/// Why the state directory cannot be used; one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The machine refused.
    #[error("cannot {action} {path}: {cause}; {advice}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// Another relay runs on it.
    #[error(
        "another shadowmesh-relay is running with the state directory {path}; stop it, or give this one its own with --state",
        path = .0.display()
    )]
    InUse(PathBuf),
    /// A newer version wrote it.
    #[error(
        "{path} was written by a newer version (format {found}, this program knows {known}); install that version or use another --state",
        path = path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format it names.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// The key file is not what was written.
    #[error(
        "the relay's key in {path} is damaged ({what}); restore it from a backup, or remove it to begin with a new key (every ticket must then be handed out anew)",
        path = path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The number of the layout is not what was written.
    #[error(
        "{path} does not say which layout the state directory has ({what}); restore it, or let it say `version = {NEWEST}`, as this program writes it",
        path = path.display()
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// What is kept of ACME is not what was written.
    #[error("{path} does not parse, so another account is made and another certificate ordered, unless it is restored from a backup while the relay is stopped", path = .0.display())]
    Acme(PathBuf),
    /// What is remembered of the ticket is not what was written.
    #[error("{path} does not parse ({what}); remove it, the relay writes it anew at its next start", path = path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl StoreError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "ErrorKind is open-ended")]
    pub(crate) fn io(action: &'static str, path: &Path, cause: io::Error) -> Self {
        let advice = match cause.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "run as its owner or name a writable directory with --state"
            }
            io::ErrorKind::NotFound => {
                "name an existing state directory with --state, or start the relay once"
            }
            io::ErrorKind::StorageFull => "make room on the disk",
            _ => "check the disk, or name another directory with --state",
        };
        Self::Io { action, path: path.to_owned(), cause, advice }
    }
}

/// What the ticket says, remembered so that `ticket` and the next start say the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// As in the ticket.
    pub addresses: Vec<String>,
    /// What `--public` said last, if ever; kept until another is given.
    pub public: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketFile {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    public: Option<String>,
}

/// A state directory.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// Held while a relay runs on a state directory; the kernel releases it when the process ends, however it ends.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct RunLock {
    _file: File,
}

impl StateDir {
    /// The directory at `path`, made with mode 0700 if it is not there.
    ///
    /// # Errors
    /// `Io` when it cannot be made, `Newer` or `Layout` when its layout is unknown.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| StoreError::io("make the state directory", path, source))?;
        let dir = Self::open(path);
        // A newer format is refused before anything is written.
        if dir.layout()?.is_none() {
            dir.replace(STATE_FILE, &layout::text_of(NEWEST))?;
        }
        Ok(dir)
    }

    /// The directory at `path` as it is.
    pub fn open(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the running relay answers `status`.
    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET_FILE)
    }

    /// Makes sure that no other relay runs on it, and takes a directory of an older layout to this one.
    ///
    /// # Errors
    /// `InUse`, or `Io`; `Newer` or `Layout` when it became so meanwhile.
    pub fn lock(&self) -> Result<RunLock, StoreError> {
        let path = self.path.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| StoreError::io("write to the state directory:", &path, source))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                self.migrate()?;
                Ok(RunLock { _file: file })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse(self.path.clone())),
            Err(errno) => Err(StoreError::io("lock", &path, errno.into())),
        }
    }

    /// The relay's key.
    ///
    /// # Errors
    /// `Io` (`NotFound` when no relay was ever started here), `Key`, `Newer`.
    pub fn key(&self) -> Result<NodeSecret, StoreError> {
        let path = self.path.join(KEY_FILE);
        let text = atomic::read(&path).map_err(|source| StoreError::io("read", &path, source))?;
        key::parse(&path, &text)
    }

    /// The relay's key; a new one, already safe on disk, if there was none.
    ///
    /// # Errors
    /// As [`Self::key`].
    pub fn key_or_new(&self, rng: &mut dyn Rng) -> Result<NodeSecret, StoreError> {
        match self.key() {
            Err(StoreError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                let secret = NodeSecret::generate(rng);
                self.replace(KEY_FILE, &key::format(&secret))?;
                Ok(secret)
            }
            other => other,
        }
    }

    /// What was remembered; nothing when the relay was never started.
    ///
    /// # Errors
    /// `Io`, `Newer`, `Layout`, `State`.
    pub fn read_state(&self) -> Result<Remembered, StoreError> {
        let path = self.path.join(TICKET_FILE);
        let number = self.layout()?.unwrap_or(NEWEST);
        let text = layout::preview(&OnDisk(&self.path), number).and_then(|mut written| {
            written
                .remove(TICKET_FILE)
                .map_or_else(|| OnDisk(&self.path).read(TICKET_FILE), |text| Ok(Some(text)))
        });
        let Some(text) = text.map_err(|source| StoreError::io("read", &path, source))? else {
            return Ok(Remembered::default());
        };
        let TicketFile { addresses, public } = toml::from_str(&text)
            .map_err(|error: toml::de::Error| StoreError::State { path, what: error.message().to_owned() })?;
        Ok(Remembered { addresses, public })
    }

    /// Remembers `remembered`, unless that is what the file says already.
    ///
    /// # Errors
    /// `Io`.
    pub fn write_state(&self, remembered: &Remembered) -> Result<(), StoreError> {
        if !remembered.addresses.is_empty() && self.read_state().is_ok_and(|old| old == *remembered) {
            return Ok(());
        }
        let file = TicketFile { addresses: remembered.addresses.clone(), public: remembered.public.clone() };
        let path = self.path.join(TICKET_FILE);
        let text =
            toml::to_string(&file).map_err(|error| StoreError::State { path, what: error.to_string() })?;
        self.replace(TICKET_FILE, &text)
    }

    /// What is kept of ACME, if anything: **a secret**.
    ///
    /// # Errors
    /// `Io`, `Acme`.
    pub fn read_acme<T: DeserializeOwned>(&self) -> Result<Option<T>, StoreError> {
        let path = self.path.join(ACME_FILE);
        match atomic::read(&path) {
            // Nothing of it is repeated.
            Ok(text) => toml::from_str(&text).map(Some).map_err(|_| StoreError::Acme(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // No text, or too much of it.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(StoreError::Acme(path)),
            Err(source) => Err(StoreError::io("read", &path, source)),
        }
    }

    /// Keeps this of ACME.
    ///
    /// # Errors
    /// `Io`.
    pub fn write_acme<T: Serialize>(&self, kept: &T) -> Result<(), StoreError> {
        let path = self.path.join(ACME_FILE);
        let text = toml::to_string(kept).map(Zeroizing::new).map_err(|_| StoreError::Acme(path))?;
        self.replace(ACME_FILE, &text)
    }

    /// Which layout it has; `None` when there is nothing of ours in it.
    fn layout(&self) -> Result<Option<u32>, StoreError> {
        let path = self.path.join(STATE_FILE);
        let text =
            OnDisk(&self.path).read(STATE_FILE).map_err(|source| StoreError::io("read", &path, source))?;
        let Some(text) = text else {
            let is_used = self.path.join(KEY_FILE).symlink_metadata().is_ok();
            return Ok(is_used.then_some(OLDEST));
        };
        match layout::number_in(&text) {
            Ok(number) if number <= NEWEST => Ok(Some(number)),
            Ok(found) => Err(StoreError::Newer { path, found, known: NEWEST }),
            Err(what) => Err(StoreError::Layout { path, what }),
        }
    }

    /// Takes it to this layout; the lock is held.
    fn migrate(&self) -> Result<(), StoreError> {
        let Some(number) = self.layout()?.filter(|number| *number < NEWEST) else { return Ok(()) };
        layout::migrate(&mut OnDisk(&self.path), number)
            .map_err(|source| StoreError::io("bring to this version's layout", &self.path, source))?;
        tracing::info!(
            from = number,
            to = NEWEST,
            "the state directory was brought to this version's layout: older versions refuse it from now on"
        );
        Ok(())
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), StoreError> {
        OnDisk(&self.path)
            .replace(name, text)
            .map_err(|source| StoreError::io("write", &self.path.join(name), source))
    }
}

/// The directory itself.
struct OnDisk<'a>(&'a Path);

impl Files for OnDisk<'_> {
    fn read(&self, name: &str) -> io::Result<Option<String>> {
        match atomic::read(&self.0.join(name)) {
            // No secret goes by this way.
            Ok(text) => Ok(Some(text.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&mut self, name: &str, text: &str) -> io::Result<()> {
        atomic::replace(self.0, name, text.as_bytes())
    }
}

#[cfg(test)]
mod tests;
