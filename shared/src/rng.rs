//! Randomness as an argument.
//!
//! A daemon passes the operating system's generator; a simulation passes a seeded one, and every choice the state machines
//! make can be replayed. (Ciphertext bytes need not repeat: ML-KEM inside aws-lc draws its own.)

use std::time::Duration;

/// A source of random bytes.
///
/// Infallible on purpose: a machine whose generator fails cannot run a VPN, so the implementation that asks the operating
/// system ends the process rather than returning weak bytes.
pub trait Rng {
    /// Fills all of `out`.
    fn fill(&mut self, out: &mut [u8]);

    /// A uniform `u32`.
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    /// A uniform `u64`.
    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    /// `span`, give or take a tenth to the millisecond: so that many who wait for the same do not go in step.
    fn about(&mut self, span: Duration) -> Duration {
        let tenth = u64::try_from(span.as_millis() / 10).unwrap_or(u64::MAX).max(1);
        span - span / 10 + Duration::from_millis(u64::from(self.next_u32()) % (2 * tenth))
    }

    /// An array of `N` random bytes.
    fn bytes<const N: usize>(&mut self) -> [u8; N]
    where
        Self: Sized,
    {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }
}

impl<R: Rng + ?Sized> Rng for &mut R {
    fn fill(&mut self, out: &mut [u8]) {
        (**self).fill(out);
    }
}

impl<R: Rng + ?Sized> Rng for Box<R> {
    fn fill(&mut self, out: &mut [u8]) {
        (**self).fill(out);
    }
}

/// A deterministic generator for tests and simulations: SplitMix64 (Steele, Lea, Flood 2014). **Never** for keys in use.
#[derive(Debug, Clone)]
pub struct SeededRng(u64);

impl SeededRng {
    /// Starts the sequence that `seed` names.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Rng for SeededRng {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            for (to, from) in chunk.iter_mut().zip(z.to_be_bytes()) {
                *to = from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_seeds_differ() {
        let a: [u8; 32] = SeededRng::new(7).bytes();
        let b: [u8; 32] = SeededRng::new(7).bytes();
        let c: [u8; 32] = SeededRng::new(8).bytes();
        assert_eq!(a, b);
        assert_ne!(a, c);
    }
}
