//! Texts with secrets on their way through memory: what is left of them is wiped, also where they grew.
//!
//! Not all of it: what a library copies (`serde_json` while it reads what is escaped, buffers of streams) is beyond reach.

use std::io;
use zeroize::Zeroizing;

/// Bytes that are written one after the other. Where they take more room, the place they had is wiped.
#[derive(Default)]
pub(crate) struct Growing(Zeroizing<Vec<u8>>);

impl Growing {
    /// Puts `part` behind what is there.
    pub(crate) fn append(&mut self, part: &[u8]) {
        let needed = self.0.len().saturating_add(part.len());
        if needed > self.0.capacity() {
            let room = needed.max(self.0.capacity().saturating_mul(2));
            let mut larger = Zeroizing::new(Vec::with_capacity(room));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(part);
    }

    /// What is there.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl io::Write for Growing {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.append(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A field of a message (`#[serde(with = "wiped::text")]`).
pub(crate) mod text {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(crate) fn serialize<S: Serializer>(text: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(from).map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn what_grows_stays_whole() {
        let mut growing = Growing::default();
        let mut expected = Vec::new();
        for n in 0..200_u8 {
            let part = vec![n; usize::from(n)];
            growing.write_all(&part).expect("written");
            expected.extend_from_slice(&part);
            assert_eq!(growing.bytes(), expected);
        }
    }
}
