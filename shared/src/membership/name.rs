//! Names of members and tags, and patterns of names (protocol §8.2).

use crate::wire::control::MAX_NAME;
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use std::fmt;

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn is_made_of(text: &str, is_allowed: impl Fn(u8) -> bool) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_allowed)
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// `None` when it is empty, too long or has other characters.
            pub fn new(text: &str) -> Option<Self> {
                is_made_of(text, $allowed).then(|| Self(text.to_owned()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
                e.str(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
                Self::new(d.str()?).ok_or_else(|| decode::Error::message("characters or length"))
            }
        }
    };
}

text! {
    /// What a member is called: as in HELLO, 1 to 63 of `A-Z a-z 0-9 - _ .`.
    Name, is_name_byte
}
text! {
    /// What access rules call a group of members, in the characters of a [`Name`].
    Tag, is_name_byte
}
text! {
    /// Which names an invite is for: the characters of a [`Name`], and `*` for any number of any characters.
    Pattern, |byte| is_name_byte(byte) || byte == b'*'
}

impl Name {
    /// This name with `-` and `tail` behind it, shortened so that it is one still. For who comes to a name that another has.
    pub fn with_tail(&self, tail: &str) -> Self {
        let room = MAX_NAME.saturating_sub(tail.len() + 1);
        let head = self.0.get(..room.min(self.0.len())).unwrap_or_default();
        Self(format!("{head}-{tail}"))
    }
}

impl Pattern {
    /// Whether `name` is one of those. In time of the product of both lengths at most, whatever they are.
    pub fn matches(&self, name: &Name) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.0.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where to go on when what follows the last `*` did not fit: that swallows one more.
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match (pattern.get(p), retry) {
                (Some(b'*'), _) => {
                    retry = Some((p + 1, n));
                    p += 1;
                }
                (Some(byte), _) if name.get(n) == Some(byte) => (p, n) = (p + 1, n + 1),
                (_, Some((after, swallowed))) => {
                    retry = Some((after, swallowed + 1));
                    (p, n) = (after, swallowed + 1);
                }
                (_, None) => return false,
            }
        }
        pattern.iter().skip(p).all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The meaning, written down without regard to time.
    fn model(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|skip| model(rest, &name[skip..])),
            Some((byte, rest)) => {
                name.split_first().is_some_and(|(first, more)| first == byte && model(rest, more))
            }
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_is_written(pattern in "[ab*]{1,8}", name in "[ab]{1,10}") {
            let matches = Pattern::new(&pattern).unwrap().matches(&Name::new(&name).unwrap());
            prop_assert_eq!(matches, model(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn only_the_allowed_characters_make_a_name(text in "\\PC{0,70}") {
            if let Some(name) = Name::new(&text) {
                prop_assert!(name.as_str().len() <= 63 && name.as_str().bytes().all(is_name_byte));
                let longer = name.with_tail("abcdefghij");
                prop_assert_eq!(Name::new(longer.as_str()), Some(longer));
            }
        }
    }

    #[test]
    fn a_pattern_that_makes_others_slow_is_answered_at_once() {
        let pattern = Pattern::new(&format!("{}b", "a*".repeat(31))).unwrap();
        assert!(!pattern.matches(&Name::new(&"a".repeat(63)).unwrap()));
    }

    #[test]
    fn names_have_bounds_and_no_stars() {
        assert!(Name::new(&"a".repeat(63)).is_some() && Pattern::new("*").is_some());
        for text in ["", "*", "a b", "ä", "a\n", &"a".repeat(64)] {
            assert_eq!(Name::new(text), None, "{text:?}");
        }
    }
}
