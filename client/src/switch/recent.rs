//! A bounded memory of what happened lately: two generations of a map.
//!
//! News goes into the younger; when that is full, or has been the younger for the span, it becomes the older one
//! and the older one is emptied. So an entry is remembered for the span at least and twice the span at most
//! (less where more comes than fits), at the price of two look-ups, without a sweep.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// See the module page.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    begun: Option<Instant>,
    span: Duration,
    capacity: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Remembers each entry for `span`, at most `capacity` of them in a generation.
    pub(super) fn new(span: Duration, capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), begun: None, span, capacity }
    }

    /// What was remembered of `key` last. It may be older than the span: who cares looks at a time in the entry.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Remembers `value` in place of what was remembered of `key`.
    pub(super) fn insert(&mut self, key: K, value: V, now: Instant) {
        let begun = *self.begun.get_or_insert(now);
        if self.young.len() >= self.capacity || now.saturating_duration_since(begun) >= self.span {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.begun = Some(now);
        }
        self.young.insert(key, value);
    }

    /// Forgets `key`.
    pub(super) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Forgets what `is_kept` says no to.
    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(&V) -> bool) {
        self.young.retain(|_, value| is_kept(value));
        self.old.retain(|_, value| is_kept(value));
    }

    /// Entries, those that were remembered anew since counted twice.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: Duration = Duration::from_secs(10);

    proptest! {
        /// Whatever comes, nothing is forgotten within the span while it fits, and nothing is there after two of them.
        #[test]
        fn entries_live_for_the_span_and_at_most_twice_that(
            steps in proptest::collection::vec((0u8..8, 0u64..6_000), 1..200),
        ) {
            let (mut recent, mut now) = (Recent::new(SPAN, 8), Instant::now());
            let mut naive = HashMap::new();
            for (key, wait) in steps {
                now += Duration::from_millis(wait);
                recent.insert(key, now, now);
                naive.insert(key, now);
                for (key, at) in &naive {
                    match recent.get(key) {
                        Some(found) => prop_assert_eq!(found, at),
                        None => prop_assert!(now - *at >= SPAN),
                    }
                    if now - *at >= 3 * SPAN {
                        prop_assert!(recent.get(key).is_none());
                    }
                }
            }
        }
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let (mut recent, now) = (Recent::new(SPAN, 16), Instant::now());
        for key in 0..10_000u32 {
            recent.insert(key, (), now);
            assert!(recent.len() <= 32);
        }
        assert!(recent.get(&9_999).is_some() && recent.get(&9_000).is_none());
    }

    #[test]
    fn what_is_removed_is_gone_from_both_generations() {
        let (mut recent, begin) = (Recent::new(SPAN, 16), Instant::now());
        recent.insert(1, 'a', begin);
        recent.insert(2, 'b', begin + SPAN);
        recent.insert(1, 'c', begin + SPAN);
        recent.remove(&1);
        assert_eq!((recent.get(&1), recent.get(&2)), (None, Some(&'b')));
        recent.retain(|value| *value != 'b');
        assert_eq!(recent.len(), 0);
    }
}
