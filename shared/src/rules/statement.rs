//! What a text says, with where it says it.

use super::Rules;
use super::scope::Scope;
use super::selector::{Named, Selector, Selectors};
use super::what::What;
use std::fmt;

/// What becomes of a packet that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Deny,
}

impl Action {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) action: Action,
    pub(super) sources: Selectors,
    pub(super) destinations: Selectors,
    pub(super) what: What,
}

impl Rule {
    /// Whether it matches whatever anybody sends.
    pub(super) fn is_everything(&self) -> bool {
        self.sources.is_any() && self.destinations.is_any() && Scope::of(&self.what) == Scope::everything()
    }

    pub(super) fn is_about(&self, source: &Named<'_>, destination: &Named<'_>) -> bool {
        self.sources.names(source) && self.destinations.names(destination)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}{}", self.action.word(), self.sources, self.destinations, self.what)
    }
}

/// Where a word begins; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A selector where it stands.
pub(super) type PlacedSelector = (Place, Selector);

/// The kinds of statement that give rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    Bridge,
    Dhcp,
    Stp,
}

impl Right {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Dhcp => "dhcp",
            Self::Stp => "stp",
        }
    }
}

/// A statement where it stands.
#[derive(Debug)]
pub(super) struct Statement {
    /// Of its first word.
    pub(super) place: Place,
    pub(super) says: Says,
}

/// What a statement says.
#[derive(Debug)]
pub(super) enum Says {
    Rule { action: Action, sources: Vec<PlacedSelector>, destinations: Vec<PlacedSelector>, what: What },
    Right { right: Right, members: Vec<PlacedSelector> },
}

/// A whole text.
#[derive(Debug)]
pub(super) struct Read(pub(super) Vec<Statement>);

impl Read {
    /// Every word that names members, in the order of the text.
    pub(super) fn selectors(&self) -> impl Iterator<Item = &PlacedSelector> {
        self.0.iter().flat_map(|statement| match &statement.says {
            Says::Rule { sources, destinations, .. } => sources.iter().chain(destinations),
            Says::Right { members, .. } => members.iter().chain(&[]),
        })
    }
}

impl From<&Read> for Rules {
    fn from(read: &Read) -> Self {
        let unplaced =
            |placed: &[PlacedSelector]| placed.iter().map(|(_, selector)| selector.clone()).collect();
        let rights = |wanted: Right| {
            let of = |statement: &Statement| match &statement.says {
                Says::Right { right, members } if *right == wanted => members.clone(),
                Says::Right { .. } | Says::Rule { .. } => Vec::new(),
            };
            unplaced(&read.0.iter().flat_map(of).collect::<Vec<_>>())
        };
        let rule = |statement: &Statement| match &statement.says {
            Says::Rule { action, sources, destinations, what } => Some(Rule {
                action: *action,
                sources: unplaced(sources),
                destinations: unplaced(destinations),
                what: what.clone(),
            }),
            Says::Right { .. } => None,
        };
        Self {
            rules: read.0.iter().filter_map(rule).collect(),
            bridge: rights(Right::Bridge),
            dhcp: rights(Right::Dhcp),
            stp: rights(Right::Stp),
        }
    }
}
