//! Which counters were seen: the sliding window of RFC 6479, exact to the counter.
//!
//! The life of a packet's counter: [`ReplayWindow::check`] before the packet is opened, so that a replay costs no cipher;
//! [`ReplayWindow::mark`] after it opened, so that a forged packet changes nothing.
//!
//! The bitmap is a ring of 64-bit words, one more than the window needs: the window's two ends share no word, and moving
//! the window only ever clears whole words. So a counter is accepted exactly when it is above `highest - WINDOW - 1` and
//! was not marked.

/// Whether a counter may still be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Not seen and not below the window.
    Fresh,
    /// Marked before.
    Seen,
    /// Below the window: nothing is known of it, so it is refused.
    Old,
}

/// The counters opened among the `WINDOW` below the highest one. `WINDOW` is a multiple of 64.
#[derive(Debug, Clone)]
pub struct ReplayWindow<const WINDOW: usize> {
    words: Box<[u64]>,
    highest: u64,
    /// Every counter below was marked or has left the window. Moves on demand, in [`Self::floor`].
    floor: u64,
}

impl<const WINDOW: usize> Default for ReplayWindow<WINDOW> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const WINDOW: usize> ReplayWindow<WINDOW> {
    const WORDS: usize = {
        assert!(WINDOW >= 64 && WINDOW.is_multiple_of(64), "a window is a whole number of 64-bit words");
        WINDOW / 64 + 1
    };

    /// A window that has seen nothing: any counter is fresh.
    pub fn new() -> Self {
        Self { words: vec![0; Self::WORDS].into_boxed_slice(), highest: 0, floor: 0 }
    }

    /// Whether `counter` may be opened. Changes nothing.
    pub fn check(&self, counter: u64) -> Freshness {
        if counter > self.highest {
            Freshness::Fresh
        } else if self.highest - counter > WINDOW as u64 {
            Freshness::Old
        } else if self.bit(counter) {
            Freshness::Seen
        } else {
            Freshness::Fresh
        }
    }

    /// Records that `counter` was opened. Call it only for a counter that [`Self::check`] called fresh.
    pub fn mark(&mut self, counter: u64) {
        if counter > self.highest {
            let from = self.highest / 64;
            // Words between the old and the new highest hold counters that left the window: at most all of them once.
            let steps = (counter / 64 - from).min(Self::WORDS as u64);
            for step in 1..=steps {
                *self.word_mut(from.wrapping_add(step)) = 0;
            }
            self.highest = counter;
        } else if self.highest - counter > WINDOW as u64 {
            return;
        }
        *self.word_mut(counter / 64) |= 1 << (counter % 64);
    }

    /// Whether `counter` was marked and is still inside the window.
    pub fn contains(&self, counter: u64) -> bool {
        counter <= self.highest && self.highest - counter <= WINDOW as u64 && self.bit(counter)
    }

    /// The highest counter marked, or `None` when nothing was.
    pub fn highest(&self) -> Option<u64> {
        (self.highest > 0 || self.bit(0)).then_some(self.highest)
    }

    /// The lowest counter that is still awaited: every one below was marked or has left the window (protocol §6, ACK).
    pub fn floor(&mut self) -> u64 {
        let mut floor = self.floor.max(self.highest.saturating_sub(WINDOW as u64));
        while floor <= self.highest {
            // Ones above the window's end in the last word are zero bits, so the run of ones stops there by itself.
            let run = (self.word(floor / 64) >> (floor % 64)).trailing_ones();
            floor = floor.saturating_add(u64::from(run));
            if run == 0 || !floor.is_multiple_of(64) {
                break;
            }
        }
        self.floor = floor;
        floor
    }

    /// Bit `i` of word `j` is set when counter `highest - 1 - (64 j + i)` was marked (protocol §6, ACK).
    pub fn bitmap_below(&self, highest: u64) -> [u64; 4] {
        let mut bitmap = [0; 4];
        for (word, base) in bitmap.iter_mut().zip((0..4u64).map(|j| 64 * j)) {
            // The 64 counters end..end+64 in ascending order, mirrored so that the highest becomes bit 0.
            let Some(top) = highest.checked_sub(base) else {
                break;
            };
            *word = self.ascending(top).reverse_bits();
        }
        bitmap
    }

    /// The 64 counters below `top`, the lowest in bit 0; counters below zero or outside the window are zero.
    fn ascending(&self, top: u64) -> u64 {
        let (start, missing) = match top.checked_sub(64) {
            Some(start) => (start, 0),
            None => (0, 64 - top),
        };
        let low = self.windowed(start / 64) >> (start % 64);
        let both = if start.is_multiple_of(64) {
            low
        } else {
            low | (self.windowed(start / 64 + 1) << (64 - start % 64))
        };
        if missing == 0 {
            both
        } else {
            // Fewer than 64 counters exist below `top`: those from `top` on must not shift in.
            both.checked_shl(missing as u32).unwrap_or(0)
        }
    }

    /// The word of counters `64 index ..`, with those outside the window cleared.
    fn windowed(&self, index: u64) -> u64 {
        let lowest = self.highest.saturating_sub(WINDOW as u64);
        if index > self.highest / 64 || index < lowest / 64 {
            return 0;
        }
        let word = self.word(index);
        if index == lowest / 64 { word & (u64::MAX << (lowest % 64)) } else { word }
    }

    fn bit(&self, counter: u64) -> bool {
        self.word(counter / 64) >> (counter % 64) & 1 == 1
    }

    fn word(&self, index: u64) -> u64 {
        self.words[(index % Self::WORDS as u64) as usize]
    }

    fn word_mut(&mut self, index: u64) -> &mut u64 {
        &mut self.words[(index % Self::WORDS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::limits::{ACK_BITMAP, CONTROL_WINDOW, DATA_WINDOW};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// What the window must do, said with a set of everything ever opened.
    #[derive(Default)]
    struct Model {
        opened: BTreeSet<u64>,
    }

    impl Model {
        fn highest(&self) -> u64 {
            self.opened.last().copied().unwrap_or(0)
        }

        fn check(&self, counter: u64, window: u64) -> Freshness {
            if counter < self.highest().saturating_sub(window) {
                Freshness::Old
            } else if self.opened.contains(&counter) {
                Freshness::Seen
            } else {
                Freshness::Fresh
            }
        }

        fn floor(&self, window: u64) -> u64 {
            let lowest = self.highest().saturating_sub(window);
            (lowest..).find(|counter| !self.opened.contains(counter)).unwrap()
        }

        fn bitmap(&self, highest: u64, window: u64) -> [u64; 4] {
            let lowest = self.highest().saturating_sub(window);
            let mut bitmap = [0; 4];
            for below in 0..ACK_BITMAP {
                let Some(counter) = highest.checked_sub(below + 1) else {
                    break;
                };
                if counter >= lowest && self.opened.contains(&counter) {
                    bitmap[(below / 64) as usize] |= 1 << (below % 64);
                }
            }
            bitmap
        }
    }

    /// Counters as a network brings them: mostly forward, often back a little, sometimes far in either direction.
    fn steps(window: i64) -> impl Strategy<Value = Vec<i64>> {
        let step = prop_oneof![
            6 => 0i64..4,
            4 => -80i64..80,
            2 => -window - 70..window + 70,
            1 => -3 * window..3 * window,
        ];
        prop::collection::vec(step, 1..400)
    }

    fn agrees_with_the_model<const WINDOW: usize>(steps: Vec<i64>) -> Result<(), TestCaseError> {
        let mut window = ReplayWindow::<WINDOW>::new();
        let mut model = Model::default();
        for step in steps {
            let counter = model.highest().saturating_add_signed(step);
            let freshness = window.check(counter);
            prop_assert_eq!(freshness, model.check(counter, WINDOW as u64), "counter {}", counter);
            prop_assert_eq!(window.contains(counter), freshness == Freshness::Seen);
            if freshness == Freshness::Fresh {
                window.mark(counter);
                model.opened.insert(counter);
            }
            prop_assert_eq!(window.check(counter) == Freshness::Fresh, false);
            prop_assert_eq!(window.floor(), model.floor(WINDOW as u64));
            prop_assert_eq!(window.highest(), model.opened.last().copied());
            for at in [counter, model.highest(), counter.saturating_add(100)] {
                prop_assert_eq!(window.bitmap_below(at), model.bitmap(at, WINDOW as u64), "below {}", at);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn smallest_window(steps in steps(64)) {
            agrees_with_the_model::<64>(steps)?;
        }

        #[test]
        fn control_window(steps in steps(CONTROL_WINDOW as i64)) {
            agrees_with_the_model::<CONTROL_WINDOW>(steps)?;
        }

        #[test]
        fn any_counters_at_all_are_taken_without_a_panic(counters: Vec<u64>, near in 0u64..200) {
            let mut window = ReplayWindow::<CONTROL_WINDOW>::new();
            for counter in counters.into_iter().chain([u64::MAX - near, u64::MAX]) {
                if window.check(counter) == Freshness::Fresh {
                    window.mark(counter);
                    prop_assert_eq!(window.check(counter), Freshness::Seen);
                }
                let _ = (window.floor(), window.bitmap_below(counter));
            }
            prop_assert_eq!(window.highest(), Some(u64::MAX));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn data_window(steps in steps(DATA_WINDOW as i64)) {
            agrees_with_the_model::<DATA_WINDOW>(steps)?;
        }
    }

    #[test]
    fn the_window_is_exact_to_the_counter_wherever_it_stands() {
        for highest in (DATA_WINDOW as u64 * 3)..(DATA_WINDOW as u64 * 3 + 130) {
            let mut window = ReplayWindow::<DATA_WINDOW>::new();
            window.mark(highest);
            let lowest = highest - DATA_WINDOW as u64;
            assert_eq!(window.check(lowest), Freshness::Fresh);
            assert_eq!(window.check(lowest - 1), Freshness::Old);
        }
    }

    #[test]
    fn the_first_counter_of_all_is_accepted_once() {
        let mut window = ReplayWindow::<CONTROL_WINDOW>::new();
        assert_eq!(window.highest(), None);
        assert_eq!(window.check(0), Freshness::Fresh);
        window.mark(0);
        assert_eq!(window.check(0), Freshness::Seen);
        assert_eq!(window.highest(), Some(0));
        assert_eq!(window.floor(), 1);
    }

    #[test]
    fn checking_changes_nothing() {
        let window = ReplayWindow::<CONTROL_WINDOW>::new();
        assert_eq!(window.check(1 << 40), Freshness::Fresh);
        assert_eq!(
            window.check(5),
            Freshness::Fresh,
            "a forged packet far ahead would have pushed this one out"
        );
    }
}
