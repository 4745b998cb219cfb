//! A bounded reader, and CBOR in and out.
//!
//! [`Reader`] hands out slices of what it was given and never more; every layout in [`crate::wire`] with fixed fields is
//! read through it. Bodies that may grow in later versions are CBOR with indexed fields (minicbor), read by [`decode`],
//! which refuses trailing bytes so that a body has one reading.

use minicbor::{Decode, Encode};

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The input ended inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// Bytes were left over after the last field.
    #[error("the message has bytes after its last field")]
    Trailing,
    /// A field holds a value that the protocol does not allow.
    #[error("the message has a field with an impossible value: {0}")]
    Value(&'static str),
    /// A version this program does not speak.
    #[error("the message is of protocol version {0}, which this program does not speak")]
    Version(u8),
    /// A type byte or tag nobody defined.
    #[error("the message is of the unknown kind {0:#04x}")]
    Kind(u8),
    /// A CBOR body that does not parse.
    #[error("the message body does not parse")]
    Body,
}

/// Reads fixed-size fields off the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// A big-endian u16.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// A big-endian u32.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Everything that is left.
    pub const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Succeeds only when nothing is left.
    pub const fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing) }
    }
}

/// CBOR bytes of `value`.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    // Writing into a Vec cannot fail (its error type is uninhabited) and our derived types refuse nothing.
    minicbor::to_vec(value).unwrap_or_default()
}

/// Writes them behind what `buffer` holds. With room enough nothing is moved, and so nothing left behind.
pub fn encode_to<T: Encode<()>>(value: &T, buffer: &mut Vec<u8>) {
    // As above: it cannot fail.
    let _ = minicbor::encode(value, buffer);
}

/// Reads exactly one CBOR value from all of `bytes`.
pub fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, WireError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|_| WireError::Body)?;
    if decoder.position() == bytes.len() { Ok(value) } else { Err(WireError::Trailing) }
}

/// Reads a flat enum `[tag, fields…]`; `Ok(None)` when its tag is above `last_tag`, so defined by a later version.
///
/// # Errors
/// `Body` or `Trailing` for a known tag that does not parse or anything that is no such array.
pub fn decode_known<'b, T: Decode<'b, ()>>(bytes: &'b [u8], last_tag: u32) -> Result<Option<T>, WireError> {
    if tag(bytes)? > last_tag { Ok(None) } else { decode(bytes).map(Some) }
}

/// The tag of a flat enum `[tag, fields…]`.
///
/// # Errors
/// `Body` for anything that is no such array.
pub fn tag(bytes: &[u8]) -> Result<u32, WireError> {
    let mut peek = minicbor::Decoder::new(bytes);
    peek.array().map_err(|_| WireError::Body)?;
    peek.u32().map_err(|_| WireError::Body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_reader_never_gives_more_than_it_has(bytes: Vec<u8>, cuts in prop::collection::vec(0usize..64, 0..16)) {
            let mut reader = Reader::new(&bytes);
            let mut given = 0;
            for cut in cuts {
                match reader.take(cut) {
                    Ok(slice) => given += slice.len(),
                    Err(error) => { prop_assert_eq!(error, WireError::Truncated); break; }
                }
            }
            prop_assert_eq!(given + reader.rest().len(), bytes.len());
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u32);
        assert_eq!(decode::<u32>(&bytes), Ok(7));
        bytes.push(0);
        assert_eq!(decode::<u32>(&bytes), Err(WireError::Trailing));
    }
}
