//! Why the state could not be used, in sentences.

use crate::config::ConfigError;
use std::io;
use std::path::PathBuf;

/// Why the state could not be used. Each text is one sentence with a remedy.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory or a file in it cannot be written.
    #[error("cannot write to the state directory {} ({cause}): run this as root, or name another one with --state", .path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Others could read or replace the secrets in it.
    #[error("the state directory {} is no place for secrets ({why}): {remedy}, or name another one with --state", .path.display())]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Who could.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A file cannot be read.
    #[error("cannot read {} ({cause}): run this as root, or name another state directory with --state", .path.display())]
    NotReadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Written by a later version of this program.
    #[error(
        "the state directory {} is of layout {found}, written by a newer shadowmesh, and this one knows only {known}: \
         upgrade it, or name another directory with --state", .path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// The newest layout that this program knows.
        known: u32,
    },
    /// A file does not read as what it should be.
    #[error("{} is damaged ({why}): {remedy}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; quotes no secret.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// `config.toml` was edited into something that cannot be used.
    #[error("{} {cause}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Line and fault.
        cause: ConfigError,
    },
    /// Another process is the writer.
    #[error(
        "a daemon is already running for {}{}: stop it first with `shadowmesh down`", .path.display(),
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Its writer, if it said so.
        pid: Option<u32>,
    },
}

impl StateError {
    pub(super) fn damaged(path: PathBuf, why: impl Into<String>, remedy: &'static str) -> Self {
        Self::Damaged { path, why: why.into(), remedy }
    }
}
