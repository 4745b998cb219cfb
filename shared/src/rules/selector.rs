//! Who is meant: selectors, and the members that they are held against.

use crate::ids::{NodeId, SHORT_ID_CHARS};
use std::fmt;

/// Characters of a whole id (protocol §1.1).
const ID_CHARS: usize = 52;
/// Bytes of a name or tag.
const NAME_BYTES: usize = 63;

/// A member as the network vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its key.
    pub id: NodeId,
    /// Its name in the network's record.
    pub name: String,
    /// Its tags in the network's record.
    pub tags: Vec<String>,
}

impl Subject {
    /// A member of which the key alone is sure: no name and no tag names it.
    pub const fn by_id(id: NodeId) -> Self {
        Self { id, name: String::new(), tags: Vec::new() }
    }

    pub(super) fn named(&self) -> Named<'_> {
        Named { id: self.id.to_base32(), name: &self.name, tags: &self.tags }
    }
}

/// A [`Subject`] with its id as people write it.
#[derive(Debug)]
pub(super) struct Named<'a> {
    id: String,
    name: &'a str,
    tags: &'a [String],
}

/// What a member may do that others may not, whatever else the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights {
    /// Send from MACs and IP addresses that are not its own: a LAN is behind it.
    pub bridge: bool,
    /// Answer DHCP and send router advertisements.
    pub dhcp: bool,
    /// Send BPDUs and LLDP.
    pub stp: bool,
}

/// One word that names members.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Selector {
    Any,
    Tag(String),
    Name(String),
    /// In lower case.
    Id(String),
}

impl Selector {
    fn names(&self, who: &Named<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Tag(tag) => who.tags.contains(tag),
            Self::Name(name) => who.name == name,
            Self::Id(start) => who.id.starts_with(start),
        }
    }

    /// Whether it names everybody whom `other` names, whoever there is.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Id(start), Self::Id(longer)) => longer.starts_with(start),
            (_, _) => self == other,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Tag(tag) => write!(f, "tag:{tag}"),
            Self::Name(name) => write!(f, "name:{name}"),
            Self::Id(start) => write!(f, "id:{start}"),
        }
    }
}

/// A list of selectors, sorted, each once; `any` stands alone. An empty list names nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Selectors(Vec<Selector>);

impl Selectors {
    pub(super) fn is_any(&self) -> bool {
        matches!(self.0.as_slice(), [Selector::Any])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self, who: &Named<'_>) -> bool {
        self.0.iter().any(|selector| selector.names(who))
    }

    /// Whether it names everybody whom `other` names, whoever there is.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|narrow| self.0.iter().any(|wide| wide.covers(narrow)))
    }
}

impl FromIterator<Selector> for Selectors {
    fn from_iter<I: IntoIterator<Item = Selector>>(selectors: I) -> Self {
        let mut selectors: Vec<_> = selectors.into_iter().collect();
        selectors.sort_unstable();
        selectors.dedup();
        // It sorts first.
        if selectors.first() == Some(&Selector::Any) {
            selectors.truncate(1);
        }
        Self(selectors)
    }
}

impl fmt::Display for Selectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, selector) in self.0.iter().enumerate() {
            write!(f, "{}{selector}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Whether `text` can be a name or a tag.
pub(super) fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether `text`, in lower case, can be the start of an id.
pub(super) fn is_start_of_id(text: &str) -> bool {
    (SHORT_ID_CHARS..=ID_CHARS).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
        // The last character of a whole one has a single bit: most do not name 32 bytes.
        && (text.len() < ID_CHARS || NodeId::from_base32(text).is_some())
}
