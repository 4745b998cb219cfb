//! What outlives a restart: one directory, and backing it up is copying it.
//!
//! ```text
//!  relay.key    the relay's identity, mode 0600: whoever has it can pose as the relay (never read a tunnel)
//!  state.toml   format version, and what the ticket says
//!  lock         held by the running relay
//!  admin.sock   what `status` talks to
//! ```
//!
//! Files are replaced whole ([`atomic`]): after a crash at any instant the old or the new content is there, never half of
//! one. A directory written by a newer version is refused rather than understood wrongly.

mod atomic;
mod key;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::rng::Rng;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Format of the directory that this program writes, and the newest it reads.
const VERSION: u32 = 1;
const KEY_FILE: &str = "relay.key";
const STATE_FILE: &str = "state.toml";
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
        "{path} was written by a newer version (format {found}, this program knows {VERSION}); install that version or use another --state",
        path = path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format it names.
        found: u32,
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
    /// The state file is not what was written.
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
    /// `host:port` each, as in the ticket.
    pub addresses: Vec<String>,
    /// What `--public` said last, if ever; kept until another is given.
    pub public: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    version: u32,
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
    /// `Io` when it cannot be made, `Newer` when its format is unknown.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| StoreError::io("make the state directory", path, source))?;
        let dir = Self::open(path);
        // Refuse a newer format before anything is written.
        dir.read_state()?;
        Ok(dir)
    }

    /// The directory at `path` as it is.
    pub fn open(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where the running relay answers `status`.
    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET_FILE)
    }

    /// Makes sure that no other relay runs on it.
    ///
    /// # Errors
    /// `InUse`, or `Io`.
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
            Ok(()) => Ok(RunLock { _file: file }),
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
                self.write(KEY_FILE, key::format(&secret).as_bytes())?;
                Ok(secret)
            }
            other => other,
        }
    }

    /// What was remembered; nothing when the relay was never started.
    ///
    /// # Errors
    /// `Io`, `Newer`, `State`.
    pub fn read_state(&self) -> Result<Remembered, StoreError> {
        #[derive(Deserialize)]
        struct VersionOnly {
            version: u32,
        }
        let path = self.path.join(STATE_FILE);
        let text = match atomic::read(&path) {
            Ok(text) => text,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Remembered::default()),
            Err(source) => return Err(StoreError::io("read", &path, source)),
        };
        let bad = |error: toml::de::Error| StoreError::State {
            path: path.clone(),
            what: error.message().to_owned(),
        };
        // The version first: a newer file may have fields that we would call unknown.
        let VersionOnly { version: found } = toml::from_str(&text).map_err(bad)?;
        if found > VERSION {
            return Err(StoreError::Newer { path, found });
        }
        let StateFile { addresses, public, .. } = toml::from_str(&text).map_err(bad)?;
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
        let file = StateFile {
            version: VERSION,
            addresses: remembered.addresses.clone(),
            public: remembered.public.clone(),
        };
        let path = self.path.join(STATE_FILE);
        let text =
            toml::to_string(&file).map_err(|error| StoreError::State { path, what: error.to_string() })?;
        self.write(STATE_FILE, text.as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        atomic::replace(&self.path, name, bytes)
            .map_err(|source| StoreError::io("write", &self.path.join(name), source))
    }
}

#[cfg(test)]
mod tests;
