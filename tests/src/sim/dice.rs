//! Chance, from a seed: the only source of it in a simulated world.

use shadowmesh_proto::rng::{Rng, SeededRng};
use std::time::Duration;

/// A seeded generator with the questions that a world asks.
#[derive(Debug, Clone)]
pub(super) struct Dice(SeededRng);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(SeededRng::new(seed))
    }

    /// A generator of its own, so that what one part draws does not shift what another part gets.
    pub(super) fn fork(&mut self) -> Self {
        Self::new(self.0.next_u64())
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // Modulo bias does not matter here.
        usize::try_from(self.0.next_u64() % (bound.max(1) as u64)).unwrap_or(0)
    }

    /// Whether something of that many per mille happens.
    pub(super) fn per_mille(&mut self, chance: u32) -> bool {
        self.0.next_u32() % 1000 < chance
    }

    /// A time from `low` to `high`.
    pub(super) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_micros().max(1);
        low + Duration::from_micros(u64::try_from(u128::from(self.0.next_u64()) % span).unwrap_or(0))
    }

    /// One of `choices`.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T], otherwise: T) -> T {
        choices.get(self.below(choices.len())).copied().unwrap_or(otherwise)
    }
}

impl Rng for Dice {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }
}
