//! Bytes as a script: choices that somebody makes one after the other. At its end every choice is the first one.

use shadowmesh_proto::rng::{Rng, SeededRng};

/// What is left of a script.
#[derive(Debug, Clone)]
pub struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    /// From its beginning.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether it is over.
    pub const fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// Two bytes.
    pub fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A place below `bound`, which may be above 255; 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let drawn = if bound > 256 { usize::from(self.number()) } else { usize::from(self.byte()) };
        drawn.checked_rem(bound).unwrap_or_default()
    }

    /// One of several.
    ///
    /// # Panics
    /// Where there are none.
    pub fn pick<'t, T>(&mut self, choices: &'t [T]) -> &'t T {
        let at = self.below(choices.len());
        choices.get(at).expect("a choice of something")
    }

    /// At most `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        head
    }

    /// Does to `bytes` what somebody on the way can do: changes, drops, adds, cuts, and puts pieces of `others` in. At least once.
    pub fn damage(&mut self, bytes: &mut Vec<u8>, others: &[&[u8]]) {
        let times = 1 + self.below(3);
        for _ in 0..times {
            let at = self.below(bytes.len());
            match self.byte() % 8 {
                0 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << (self.byte() % 8);
                    }
                }
                1 => {
                    let value = self.byte();
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = value;
                    }
                }
                2 => {
                    let end = bytes.len().min(at + 1 + self.below(40));
                    bytes.drain(at.min(end)..end);
                }
                3 => {
                    let added = self.take(8).to_vec();
                    bytes.splice(at..at, added);
                }
                4 => bytes.truncate(at),
                5 => {
                    let other = if others.is_empty() { &[][..] } else { self.pick(others) };
                    let from = self.below(other.len());
                    let piece = other.get(from..).unwrap_or_default();
                    let piece = piece.get(..self.below(piece.len() + 1)).unwrap_or_default();
                    let end = bytes.len().min(at + piece.len());
                    bytes.splice(at..end, piece.iter().copied());
                }
                6 => {
                    let end = bytes.len().min(at + 1 + self.below(80));
                    let twice = bytes.get(at..end).unwrap_or_default().to_vec();
                    bytes.splice(at..at, twice);
                }
                _ => bytes.extend_from_slice(self.take(4)),
            }
        }
    }
}

/// Scripts of nothing in particular: `count` of them, of `len` bytes each.
pub(crate) fn any_scripts(seed: u64, count: usize, len: usize) -> Vec<Vec<u8>> {
    let mut rng = SeededRng::new(seed);
    let one = |_| {
        let mut script = vec![0; len];
        rng.fill(&mut script);
        script
    };
    (0..count).map(one).collect()
}
