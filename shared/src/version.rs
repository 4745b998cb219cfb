//! Versions of the protocol, and how two programs agree on one (protocol §1.7).
//!
//! Each side says which span it speaks, the side that answers takes the highest that both do and says that back, and the one that asked
//! checks it. Both statements are sealed inside the handshake, so whoever changes or strips them ends it; and the version is in the
//! derivation of the keys, so two sides that think of different ones cannot talk.

use minicbor::{Decode, Encode};
use std::fmt;

/// What this program speaks.
pub const SPOKEN: Versions = Versions::FIRST;

/// The version that an answer means which names none: there was only one when such were written.
pub const UNSAID: u8 = Versions::FIRST.newest;

/// What is said in the place of a version where there is none that both sides speak.
pub const NONE: u8 = 0;

/// A span of versions, both ends included; the first one is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Versions {
    oldest: u8,
    newest: u8,
}

impl Versions {
    /// Version 1 alone: what somebody speaks who says nothing of it.
    pub const FIRST: Self = Self { oldest: 1, newest: 1 };

    /// From `oldest` to `newest`; `None` where that is no span of versions.
    pub const fn new(oldest: u8, newest: u8) -> Option<Self> {
        if oldest > NONE && oldest <= newest { Some(Self { oldest, newest }) } else { None }
    }

    /// `version` alone; `None` where that is none.
    pub const fn only(version: u8) -> Option<Self> {
        Self::new(version, version)
    }

    /// The oldest.
    pub const fn oldest(self) -> u8 {
        self.oldest
    }

    /// The newest.
    pub const fn newest(self) -> u8 {
        self.newest
    }

    /// The highest version in both.
    pub fn common(self, other: Self) -> Option<u8> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }

    fn numbers(self) -> String {
        let Self { oldest, newest } = self;
        if oldest == newest { oldest.to_string() } else { format!("{oldest} to {newest}") }
    }

    /// As it is said: nothing for version 1 alone, which is what programs say that know of no other.
    pub fn said(self) -> Option<Self> {
        (self != Self::FIRST).then_some(self)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.oldest == self.newest { "version" } else { "versions" }, self.numbers())
    }
}

impl<C> Encode<C> for Versions {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?.u8(self.oldest)?.u8(self.newest)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Versions {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let wrong = || minicbor::decode::Error::message("no span of versions").at(at);
        if d.array()? != Some(2) {
            return Err(wrong());
        }
        Self::new(d.u8()?, d.u8()?).ok_or_else(wrong)
    }
}

/// Two programs that have no version in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// What the other side speaks.
    pub theirs: Versions,
    /// What this side does.
    pub ours: Versions,
}

impl Mismatch {
    /// One sentence for people on this side; `who` is the other.
    pub fn sentence(&self, who: &str) -> String {
        let Self { theirs, ours } = self;
        let remedy =
            if theirs.newest < ours.oldest { format!("upgrade {who}") } else { "upgrade this one".into() };
        format!("{who} speaks {theirs} of the protocol, this program {}: {remedy}", ours.numbers())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec;
    use proptest::prelude::*;

    fn span(oldest: u8, newest: u8) -> Versions {
        Versions::new(oldest, newest).unwrap()
    }

    #[test]
    fn the_highest_version_that_both_speak_counts() {
        for (ours, theirs, common) in [
            ((1, 1), (1, 1), Some(1)),
            ((1, 1), (1, 2), Some(1)),
            ((1, 2), (1, 2), Some(2)),
            ((2, 4), (1, 3), Some(3)),
            ((2, 2), (1, 1), None),
            ((1, 2), (3, 4), None),
        ] {
            let (ours, theirs) = (span(ours.0, ours.1), span(theirs.0, theirs.1));
            assert_eq!((ours.common(theirs), theirs.common(ours)), (common, common), "{ours}, {theirs}");
        }
    }

    #[test]
    fn who_has_to_upgrade_is_told() {
        let mismatch = Mismatch { theirs: span(3, 4), ours: span(1, 2) };
        assert_eq!(
            mismatch.sentence("b"),
            "b speaks versions 3 to 4 of the protocol, this program 1 to 2: upgrade this one"
        );
        let mismatch = Mismatch { theirs: Versions::FIRST, ours: span(2, 3) };
        assert_eq!(
            mismatch.sentence("b"),
            "b speaks version 1 of the protocol, this program 2 to 3: upgrade b"
        );
    }

    #[test]
    fn what_is_no_span_is_not_read() {
        for bytes in [&[0x82, 0, 1][..], &[0x82, 2, 1], &[0x81, 1], &[0x83, 1, 1, 1], &[0x01], &[0x82, 1]] {
            assert!(codec::decode::<Versions>(bytes).is_err(), "{bytes:x?}");
        }
        assert_eq!(Versions::only(NONE), None);
    }

    proptest! {
        #[test]
        fn round_trip(oldest: u8, newest: u8) {
            if let Some(versions) = Versions::new(oldest, newest) {
                prop_assert_eq!(codec::decode::<Versions>(&codec::encode(&versions)).unwrap(), versions);
            }
        }
    }
}
