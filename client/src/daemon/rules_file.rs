//! The file with the access rules that this node enforces (see [`shadowmesh_proto::rules`]): read at the start and on `reload`.
//!
//! Until the network has a record that vouches for them, tags and names name nobody, and a rule about them would deny or allow
//! something else than it says; so a file with such rules is refused. Keys are sure: the handshake proves them.

use crate::config::RulesPath;
use shadowmesh_proto::rules::{Fault, MAX_BYTES, Rules};
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

/// Rules, and where they came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesFile {
    /// The file.
    pub path: RulesPath,
    /// What it said.
    pub rules: Rules,
}

/// Why a file of rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesFileError {
    /// It is not there, or may not be read.
    #[error("the rules in {path} cannot be read: {cause}")]
    NotReadable {
        /// The file.
        path: RulesPath,
        /// What the kernel said.
        cause: io::Error,
    },
    /// What is wrong with them.
    #[error("{path}:{}", first_of(path, faults))]
    Faulty {
        /// The file.
        path: RulesPath,
        /// All of it, at least one.
        faults: Vec<Fault>,
    },
}

fn first_of(path: &RulesPath, faults: &[Fault]) -> String {
    let more = match faults.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more: `shadowmesh rules check {path}`)", n - 1),
    };
    let first = faults.first().map(|fault| format!("{}:{}: {fault}", fault.line, fault.column));
    first.unwrap_or_default() + &more
}

impl RulesFile {
    /// Reads the rules in `path`.
    ///
    /// # Errors
    /// See [`RulesFileError`].
    pub fn read(path: &RulesPath) -> Result<Self, RulesFileError> {
        let text = bytes(path).map_err(|cause| RulesFileError::NotReadable { path: path.clone(), cause })?;
        let rules = Rules::parse_by_id(&text)
            .map_err(|faults| RulesFileError::Faulty { path: path.clone(), faults })?;
        Ok(Self { path: path.clone(), rules })
    }
}

/// At most a byte more than rules may have. Whoever waits at the other end of what is no ordinary file is not waited for.
fn bytes(path: &RulesPath) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path.as_str())?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file"));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_read_or_refused_with_the_place() {
        let home = tempfile::tempdir().expect("a directory");
        let path: RulesPath = home.path().join("rules").to_str().expect("text").parse().expect("a path");
        let read = |text: &str| {
            fs::write(path.as_str(), text).expect("written");
            RulesFile::read(&path).map(|file| file.rules.len()).map_err(|error| error.to_string())
        };
        assert_eq!(read(""), Ok(0));
        assert_eq!(read("allow id:aaaaaaaaaa -> any tcp 22\nallow any -> any icmp\n"), Ok(2));
        let error = read("allow any -> any tcp 0\nallow name:a -> any\nal").expect_err("refused");
        let expected = format!("{path}:1:22: `0` is no port: ");
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.ends_with(&format!("(and 1 more: `shadowmesh rules check {path}`)")), "{error}");
        let error = read("allow any -> any\nallow any -> tag:server\n").expect_err("refused");
        assert!(error.starts_with(&format!("{path}:2:14: `tag:server` names somebody only in rules")));
        assert!(error.ends_with("expected any or id:START_OF_AN_ID"), "{error}");

        for nothing in ["/nowhere/at/all", "/dev/zero", "/"] {
            let error = RulesFile::read(&nothing.parse().expect("a path")).expect_err("refused");
            assert!(error.to_string().starts_with(&format!("the rules in {nothing} cannot be read: ")));
        }
    }
}
