//! What is wrong with a file of settings, and where. Nothing of the file's text is in it but the names of keys: what stands behind them may be a
//! secret.

use super::keys::Key;
use std::fmt;

/// Most faults that are said; who has more wrote something else than a file of settings.
const SHOWN: usize = 8;
/// Longest name of a key that is repeated, characters: a ticket that was pasted in its place is longer.
const NAME_SHOWN: usize = 32;

/// Why a file of settings was refused: all that is wrong with it, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(Vec<Fault>);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// From 1 on.
    pub line: usize,
    /// From 1 on, characters.
    pub column: usize,
    /// What.
    pub what: What,
}

/// What is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A key that no version up to this one knows.
    Unknown {
        /// As it is written.
        field: String,
        /// The known one that looks most like it.
        suggestion: Option<&'static str>,
    },
    /// Not TOML, or a value of the wrong kind or range: a sentence, without the file's text.
    Value(String),
}

impl ConfigError {
    /// Of at least one fault; without any there is nothing to refuse.
    pub fn of(mut faults: Vec<Fault>) -> Option<Self> {
        faults.sort_by_key(|fault| (fault.line, fault.column));
        (!faults.is_empty()).then_some(Self(faults))
    }

    /// All of them.
    pub fn faults(&self) -> &[Fault] {
        &self.0
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{fault}", if n == 0 { "" } else { "; " })?;
        }
        match self.0.len().checked_sub(SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "; and {more} more"),
        }
    }
}

impl Fault {
    /// At this place of `text`.
    pub(super) fn at(text: &str, offset: usize, what: What) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
        Self { line, column, what }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)?;
        match &self.what {
            What::Unknown { field, suggestion } => {
                let field: String = field.chars().filter(|c| !c.is_control()).take(NAME_SHOWN).collect();
                write!(f, " has the unknown field `{field}`")?;
                match suggestion {
                    Some(name) => write!(f, ", did you mean `{name}`?"),
                    None => write!(f, "; known are {}", Key::names().collect::<Vec<_>>().join(", ")),
                }
            }
            What::Value(sentence) => write!(f, ": {sentence}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters_from_one() {
        let text = "a\nb\u{e4}c = 1\n";
        let place = |offset| {
            let Fault { line, column, .. } = Fault::at(text, offset, What::Value(String::new()));
            (line, column)
        };
        assert_eq!([place(0), place(2), place(5), place(11)], [(1, 1), (2, 1), (2, 3), (3, 1)]);
        // Behind its end, or in the middle of a character.
        assert_eq!([place(99), place(4)], [(3, 1), (3, 1)]);
    }

    #[test]
    fn what_is_said_is_bounded_and_one_line() {
        let long = || What::Unknown { field: format!("smi1\n{}", "s".repeat(500)), suggestion: None };
        let error = ConfigError::of((0..30).map(|line| Fault { line, column: 1, what: long() }).collect());
        let text = error.expect("faults").to_string();
        assert!(text.ends_with("; and 22 more") && !text.contains('\n'), "{text}");
        assert!(!text.contains(&"s".repeat(NAME_SHOWN)), "{text}");
        assert_eq!(ConfigError::of(vec![]), None);
    }
}
