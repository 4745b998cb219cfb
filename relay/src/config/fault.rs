//! Why a file of settings was refused: all that is wrong with it, each with its place.

use super::keys::Key;
use std::fmt;
use std::path::PathBuf;

/// Most faults that are said; who has more wrote something else than a file of settings.
const SHOWN: usize = 8;
/// Longest name of a key that is repeated, characters.
const NAME_SHOWN: usize = 32;

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}: {cause}; check the path given with --config", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("the configuration {path} is wrong in {}; correct that", all(.faults), path = path.display())]
    Faulty {
        /// The file.
        path: PathBuf,
        /// All of it, at least one, in the order of the lines.
        faults: Vec<Fault>,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// From 1 on.
    pub line: usize,
    /// From 1 on, characters.
    pub column: usize,
    /// What, for people; one line.
    pub what: String,
}

impl Fault {
    /// At this place of `text`.
    pub(super) fn at(text: &str, offset: usize, what: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
        Self { line, column, what: what.into() }
    }

    /// A field that nobody knows, in this table.
    pub(super) fn unknown(text: &str, offset: usize, table: &str, field: &str) -> Self {
        let meant = shadowmesh_proto::spelling::closest(field, Key::names(table));
        let advice = match meant {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known here are {}", Key::names(table).collect::<Vec<_>>().join(", ")),
        };
        let shown: String = field.chars().filter(|c| !c.is_control()).take(NAME_SHOWN).collect();
        Self::at(text, offset, format!("unknown field `{shown}`, {advice}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

fn all(faults: &[Fault]) -> String {
    let mut shown = faults.iter().take(SHOWN).map(Fault::to_string).collect::<Vec<_>>().join("; ");
    if let Some(more) = faults.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        shown.push_str(&format!("; and {more} more"));
    }
    shown
}
