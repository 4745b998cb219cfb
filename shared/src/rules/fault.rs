//! What is wrong with a text, where, and what was probably meant.

use super::statement::Place;
use super::{MAX_BYTES, MAX_RULES};
use std::fmt;

/// Characters of a word that are repeated in a fault.
const SHOWN: usize = 80;

/// One thing that is wrong. Its `Display` is the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// From 1.
    pub line: usize,
    /// From 1, in characters. Where something is missing at the end of a line, the column behind it.
    pub column: usize,
    /// The word in question, or its beginning; empty where one is missing.
    pub word: String,
    /// What is wrong with it.
    pub wrong: Wrong,
    /// What was probably meant, to be written in its place.
    pub suggestion: Option<String>,
}

/// What is wrong with a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The text is longer than [`MAX_BYTES`].
    TooLong,
    /// Its canonical form is; so many bytes.
    TooLongWritten(usize),
    /// More than [`MAX_RULES`].
    TooManyRules,
    /// Enough was found already.
    MoreFaults,
    /// Bytes that are no UTF-8.
    NotText,
    /// A character that does not show what it does.
    Hidden(char),
    /// A first word that begins no statement.
    Verb,
    /// Something else is expected here: what.
    Expected(&'static str),
    /// A word that names no members.
    Selector,
    /// An address in the place of a member.
    Address,
    /// A tag or name, where only ids are sure.
    Unvouched,
    /// What stands behind `tag:` or `name:`.
    Name,
    /// What stands behind `id:`.
    IdStart,
    /// A word for traffic.
    What,
    /// ARP cannot be ruled.
    Arp,
    /// A port or a range of them.
    Port,
    /// A range that ends before it begins.
    Backwards,
    /// A protocol number.
    Protocol,
    /// An ethertype.
    Ethertype,
    /// An ethertype that has words of its own: which.
    EthertypeHasWord(&'static str),
}

impl Fault {
    pub(super) fn new(place: Place, word: &str, wrong: Wrong) -> Self {
        let word = word.chars().take(SHOWN).collect();
        Self { line: place.line, column: place.column, word, wrong, suggestion: None }
    }

    #[must_use]
    pub(super) fn meaning(self, suggestion: Option<String>) -> Self {
        Self { suggestion, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.escape_debug();
        match self.wrong {
            Wrong::TooLong => {
                write!(f, "the text is longer than {MAX_BYTES} bytes, which is all that it may have")?
            }
            Wrong::TooLongWritten(bytes) => {
                write!(f, "written out, the rules have {bytes} bytes, and may have {MAX_BYTES}")?;
            }
            Wrong::TooManyRules => {
                write!(f, "a network has at most {MAX_RULES} rules, and this is one more")?
            }
            Wrong::MoreFaults => {
                f.write_str("there is more that is wrong from here on, which was not read")?
            }
            Wrong::NotText => f.write_str("these bytes are no text: expected UTF-8")?,
            Wrong::Hidden(c) => {
                let code = u32::from(c);
                write!(f, "the character U+{code:04X} does not show what it does, so it may stand nowhere")?;
            }
            Wrong::Verb => {
                write!(f, "`{word}` begins no statement: expected allow, deny, bridge, dhcp or stp")?
            }
            Wrong::Expected(what) if self.word.is_empty() => {
                write!(f, "the line ends where {what} is expected")?
            }
            Wrong::Expected(what) => write!(f, "expected {what} instead of `{word}`")?,
            Wrong::Selector => {
                write!(
                    f,
                    "`{word}` names no members: expected any, tag:NAME, name:NAME or id:START_OF_AN_ID"
                )?;
            }
            Wrong::Address => write!(
                f,
                "`{word}` is an address, and rules are about members: expected any, tag:NAME, name:NAME or id:START_OF_AN_ID"
            )?,
            Wrong::Unvouched => write!(
                f,
                "`{word}` names somebody only in rules that an admin publishes: for a host's own file \
                 expected any or id:START_OF_AN_ID"
            )?,
            Wrong::Name => {
                write!(
                    f,
                    "`{word}` holds no name: expected 1 to 63 letters without accents, digits, -, _ or ."
                )?;
            }
            Wrong::IdStart => write!(
                f,
                "`{word}` holds no start of an id: expected its first 10 to 52 characters, of a-z and 2-7"
            )?,
            Wrong::What => write!(
                f,
                "`{word}` is no kind of traffic: expected tcp, udp, icmp, proto, ip, other or ethertype, or nothing for everything"
            )?,
            Wrong::Arp => write!(
                f,
                "`{word}` needs no rule: it passes between members that may exchange anything, and cannot be denied alone"
            )?,
            Wrong::Port => {
                write!(
                    f,
                    "`{word}` is no port: expected a number from 1 to 65535, or a range such as 8000-8010"
                )?;
            }
            Wrong::Backwards => write!(f, "the range `{word}` ends before it begins")?,
            Wrong::Protocol => {
                write!(f, "`{word}` is no protocol number: expected 0 to 255, as in the IP header")?;
            }
            Wrong::Ethertype => write!(
                f,
                "`{word}` is no ethertype: expected 0x and four hexadecimal digits, from 0x0600 on"
            )?,
            Wrong::EthertypeHasWord(what) => write!(f, "`{word}` is {what}")?,
        }
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{}`?", suggestion.escape_debug()),
            None => Ok(()),
        }
    }
}
