//! What `doctor` says, as values: a contract with scripts, like the other documents of `--json`.

use schemars::JsonSchema;
use serde::Serialize;

/// The document of `shadowmesh doctor --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// Version of this program.
    pub version: String,
    /// Whether nothing of what was found is a fault.
    pub healthy: bool,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// What was looked at and found in order.
    pub clean: Vec<Looked>,
    /// What could not be looked at.
    pub unknown: Vec<NotLooked>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// Which check found it.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, for people: one sentence.
    pub sentence: String,
    /// What mends it, to be copied into a shell; `null` where nothing that could be typed does, and the sentence says what would.
    pub line: Option<String>,
    /// On which host it is to be typed; `null` for this one.
    pub host: Option<String>,
}

/// How bad something is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work.
    Fault,
    /// It works worse than it could, or will not for long.
    Warning,
    /// Worth knowing.
    Hint,
}

/// A check that found nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Looked {
    /// Which.
    pub id: String,
    /// What is in order, for people.
    pub what: String,
}

/// A check that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NotLooked {
    /// Which.
    pub id: String,
    /// Why, for people.
    pub why: String,
}

/// What a decider says. Its own name is not its business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All is well.
    Clean,
    /// This is wrong.
    Found(Vec<Trouble>),
    /// There is too little to go by, and why.
    Unknown(&'static str),
}

/// A [`Finding`] that does not know who found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) severity: Severity,
    pub(super) sentence: String,
    pub(super) line: Option<String>,
    pub(super) host: Option<String>,
}

impl Trouble {
    pub(super) fn fault(sentence: impl Into<String>) -> Self {
        Self { severity: Severity::Fault, sentence: sentence.into(), line: None, host: None }
    }

    pub(super) fn warning(sentence: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::fault(sentence) }
    }

    pub(super) fn hint(sentence: impl Into<String>) -> Self {
        Self { severity: Severity::Hint, ..Self::fault(sentence) }
    }

    /// This line mends it.
    pub(super) fn line(self, line: impl Into<String>) -> Self {
        Self { line: Some(line.into()), ..self }
    }

    /// It is to be typed on that host.
    pub(super) fn on(self, host: impl Into<String>) -> Self {
        Self { host: Some(host.into()), ..self }
    }
}

impl From<Trouble> for Outcome {
    fn from(trouble: Trouble) -> Self {
        Self::Found(vec![trouble])
    }
}

impl From<Option<Trouble>> for Outcome {
    fn from(trouble: Option<Trouble>) -> Self {
        trouble.map_or(Self::Clean, Self::from)
    }
}

impl FromIterator<Trouble> for Outcome {
    fn from_iter<T: IntoIterator<Item = Trouble>>(troubles: T) -> Self {
        let troubles: Vec<_> = troubles.into_iter().collect();
        if troubles.is_empty() { Self::Clean } else { Self::Found(troubles) }
    }
}
