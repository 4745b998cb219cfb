//! Sets of 16-bit numbers, ports and ethertypes, kept as ranges.

use std::collections::BTreeMap;
use std::fmt;

/// Ranges in order that neither overlap nor touch: equal sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ranges(Box<[(u16, u16)]>);

impl Ranges {
    pub(super) fn none() -> Self {
        Self::default()
    }

    pub(super) fn all() -> Self {
        Self(Box::new([(0, u16::MAX)]))
    }

    /// The union of ranges, each with its first and last number, in any order.
    pub(super) fn of(ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                Some(_) | None => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    pub(super) fn contains(&self, number: u16) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        let last = after.checked_sub(1).and_then(|at| self.0.get(at));
        last.is_some_and(|(_, last)| number <= *last)
    }

    pub(super) fn is_all(&self) -> bool {
        *self.0 == [(0, u16::MAX)]
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        Self::of(self.iter().chain(other.iter()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, u16)> {
        self.0.iter().copied()
    }

    /// Whether a number is in both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.0.iter().any(|(first, last)| {
            // The first range of the other that does not end before this one.
            let at = other.0.partition_point(|(_, end)| end < first);
            other.0.get(at).is_some_and(|(begin, _)| begin <= last)
        })
    }
}

/// The numbers that nobody has claimed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gaps(BTreeMap<u16, u16>);

impl Gaps {
    /// Where all of `ranges` can be claimed.
    pub(super) fn of(ranges: &Ranges) -> Self {
        Self(ranges.iter().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Claims what is left of a range, and says what that is, the last piece first.
    pub(super) fn claim(&mut self, first: u16, last: u16, mut claimed: impl FnMut(u16, u16)) {
        while let Some((begin, end)) = self.0.range(..=last).next_back().map(|(begin, end)| (*begin, *end))
            && end >= first
        {
            self.0.remove(&begin);
            claimed(begin.max(first), end.min(last));
            if begin < first {
                self.0.insert(begin, first - 1);
            }
            if end > last {
                self.0.insert(last + 1, end);
            }
        }
    }
}

/// As ports are written: `22,443,8000-8010`.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            match first == last {
                true => write!(f, "{first}")?,
                false => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Numbers near both ends and close together, so that ranges touch, overlap and end where numbers do.
    fn ranges() -> impl Strategy<Value = Vec<(u16, u16)>> {
        let edge = prop_oneof![0u16..12, u16::MAX - 12..=u16::MAX];
        proptest::collection::vec((edge.clone(), edge), 0..6)
    }

    fn set(ranges: &[(u16, u16)]) -> BTreeSet<u16> {
        ranges.iter().flat_map(|(first, last)| *first..=*last).collect()
    }

    proptest! {
        #[test]
        fn they_are_the_sets_that_they_stand_for(a in ranges(), b in ranges()) {
            let (a_set, b_set) = (set(&a), set(&b));
            let (a, b) = (Ranges::of(a), Ranges::of(b));
            prop_assert_eq!(a == Ranges::none(), a_set.is_empty());
            prop_assert_eq!(a.is_all(), a_set.len() == 1 << 16);
            prop_assert_eq!(a == b, a_set == b_set);
            prop_assert_eq!(a.meets(&b), !a_set.is_disjoint(&b_set));
            let both = a.union(&b);
            let (mut gaps, mut claimed) = (Gaps::of(&a), Vec::new());
            for (first, last) in b.iter() {
                gaps.claim(first, last, |first, last| claimed.push((first, last)));
            }
            let (claimed, rest) = (Ranges::of(claimed), Ranges::of(gaps.0.clone()));
            for number in (0..40).chain(u16::MAX - 40..=u16::MAX) {
                prop_assert_eq!(a.contains(number), a_set.contains(&number));
                prop_assert_eq!(both.contains(number), a_set.contains(&number) || b_set.contains(&number));
                prop_assert_eq!(claimed.contains(number), a_set.contains(&number) && b_set.contains(&number));
                prop_assert_eq!(rest.contains(number), a_set.contains(&number) && !b_set.contains(&number));
            }
            prop_assert_eq!(gaps.is_empty(), a_set.is_subset(&b_set));
            prop_assert_eq!(&Ranges::of(both.iter()), &both, "in its normal form");
        }
    }

    #[test]
    fn they_are_written_as_ports_are() {
        assert_eq!(
            Ranges::of([(443, 443), (8001, 8010), (22, 22), (8000, 8000)]).to_string(),
            "22,443,8000-8010"
        );
        assert_eq!(Ranges::none().to_string(), "");
    }
}
