//! Fingerprints that nobody without the key can aim at: SipHash (Aumasson and Bernstein, 2012), as Linux uses it for the same purpose.
//!
//! A peer chooses most of what is hashed, its ports above all. Without a key it could compute flows that share a place in the table,
//! or the fingerprint of a flow that it wants to pass for.

/// One round less in each place than the original: what Rust's own maps use against such floods, and faster.
const ROUNDS: usize = 1;
const FINAL_ROUNDS: usize = 3;

/// A key, secret and drawn anew for each peer.
#[derive(Clone, Copy)]
pub(super) struct Key([u64; 2]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub(super) const fn new(words: [u64; 2]) -> Self {
        Self(words)
    }

    /// The fingerprint of `words`.
    pub(super) fn of(self, words: &[u64]) -> u64 {
        let bytes = words.len() as u64 * 8;
        sip::<ROUNDS, FINAL_ROUNDS>(self.0, words.iter().copied(), bytes << 56)
    }
}

/// `last` has the length of the input in its highest byte, and below it what is left of the input behind whole words.
fn sip<const C: usize, const D: usize>(
    [k0, k1]: [u64; 2],
    words: impl Iterator<Item = u64>,
    last: u64,
) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    for word in words.chain([last]) {
        v[3] ^= word;
        (0..C).for_each(|_| v = round(v));
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..D).for_each(|_| v = round(v));
    v.into_iter().fold(0, |all, word| all ^ word)
}

const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::{DefaultHasher, Hasher as _};

    #[test]
    fn it_is_the_published_function() {
        // Appendix A of the paper: key 00..0f, input 00..0e.
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let hash = sip::<2, 4>(key, [0x0706_0504_0302_0100].into_iter(), 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(hash, 0xa129_ca61_49be_45e5);
    }

    proptest! {
        /// With a key of zeros it is the standard library's.
        #[test]
        fn it_is_the_one_that_maps_use(words: [u64; 6]) {
            let mut hasher = DefaultHasher::new();
            words.iter().for_each(|word| hasher.write(&word.to_le_bytes()));
            prop_assert_eq!(Key::new([0, 0]).of(&words), hasher.finish());
        }

        #[test]
        fn another_key_is_another_function(words: [u64; 6], key: [u64; 2], other: [u64; 2]) {
            prop_assume!(key != other);
            prop_assert_ne!(Key::new(key).of(&words), Key::new(other).of(&words));
        }
    }
}
