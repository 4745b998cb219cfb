//! A file of settings that people keep (`up --config FILE`), read beside what `up` remembers in the state directory.
//!
//! Its form is that of `config.toml` there, and what it says wins: whoever manages a machine by its files finds it so after each start. Nothing
//! ever writes to it. Read at the start and on `reload`.

use crate::config::{Config, ConfigError};
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where it is on a machine with a service: the unit names it.
pub const DEFAULT: &str = "/etc/shadowmesh/config.toml";
/// Largest that is read, bytes: far above what anybody writes, far below what would hurt.
const MAX_BYTES: u64 = 256 * 1024;

/// Such a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile(PathBuf);

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It is not there, may not be read, or is no text file.
    #[error("the settings in {} cannot be read ({cause}): check the path given with --config", .path.display())]
    NotReadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A line in it is wrong.
    #[error("{} {cause}", .path.display())]
    Faulty {
        /// The file.
        path: PathBuf,
        /// Line and fault.
        cause: ConfigError,
    },
}

impl ConfigFile {
    /// The one at `path`, whether it is there or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What it says now.
    ///
    /// # Errors
    /// See [`ConfigFileError`].
    pub fn read(&self) -> Result<Config, ConfigFileError> {
        let text =
            text(&self.0).map_err(|cause| ConfigFileError::NotReadable { path: self.0.clone(), cause })?;
        Config::parse(&text).map_err(|cause| ConfigFileError::Faulty { path: self.0.clone(), cause })
    }
}

fn text(path: &Path) -> io::Result<String> {
    // Nobody waits for who may write into what is no ordinary file.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no ordinary file"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_cannot_be_used_is_named() {
        let home = tempfile::tempdir().expect("a directory");
        let at = |name: &str| home.path().join(name);
        let sentence = |path: PathBuf| ConfigFile::new(path).read().expect_err("refused").to_string();
        assert!(sentence(at("none")).contains("none cannot be read (No such file"));
        assert!(sentence(home.path().into()).contains("it is no ordinary file"));
        fs::write(at("long"), b"# long\n".repeat(40_000)).expect("written");
        assert!(sentence(at("long")).contains("it is too large"));
        fs::write(at("key"), "\nmtuu = 1400\n").expect("written");
        assert!(
            sentence(at("key"))
                .ends_with("key line 2, column 1 has the unknown field `mtuu`, did you mean `mtu`?")
        );
        fs::write(at("good"), "mtu = 1400\n").expect("written");
        let config = ConfigFile::new(at("good")).read().expect("read");
        assert_eq!(config.mtu.map(|mtu| mtu.bytes()), Some(1400));
    }
}
