//! Completing a checksum that the kernel left to the hardware.
//!
//! A frame marked *needs checksum* holds in its checksum field the sum over the pseudo-header, folded and not
//! inverted. What remains is the one's-complement sum (RFC 1071) from `start` to the end of the frame, that
//! field included, inverted and stored over it. It is the same work for TCP and UDP, IPv4 and IPv6, tagged or
//! not, because the header says where things are; this is `skb_checksum_help` of the kernel.
//!
//! A result of zero is stored as `0xffff`: in UDP zero means *no checksum* (RFC 768), and IPv6 forbids that
//! (RFC 8200 §8.1). For TCP the two values are the same number in one's complement, so, as in the kernel, one
//! rule serves both.

/// The header asked for a checksum outside the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("checksum field at {start}+{offset} lies outside a frame of {len} bytes")]
pub struct OutsideFrame {
    /// Where the checksummed part was said to begin.
    pub start: u16,
    /// Where in it the field was said to be.
    pub offset: u16,
    /// The frame's length in bytes.
    pub len: usize,
}

/// Completes the checksum of `frame` in place.
///
/// # Errors
/// [`OutsideFrame`] when the field does not lie inside the frame; the frame is unchanged.
pub fn complete(frame: &mut [u8], start: u16, offset: u16) -> Result<(), OutsideFrame> {
    let outside = OutsideFrame { start, offset, len: frame.len() };
    let covered = frame.get_mut(usize::from(start)..).ok_or(outside)?;
    let sum = !fold(sum(covered));
    let field =
        covered.get_mut(usize::from(offset)..).and_then(<[u8]>::first_chunk_mut::<2>).ok_or(outside)?;
    *field = if sum == 0 { 0xffff_u16 } else { sum }.to_be_bytes();
    Ok(())
}

/// The one's-complement sum of `bytes` as big-endian 16-bit words, the last one padded with a zero; not
/// folded.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    // A frame has at most 65,549 bytes, so 64 bits hold the sum of its words without a carry.
    let even: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    even + rest.first().map_or(0, |last| u64::from(*last) << 8)
}

/// Adds the carries back in until 16 bits are left.
pub(crate) const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // The loop ends at or below 0xffff.
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TCP: u8 = 6;
    const UDP: u8 = 17;

    /// The checksum computed the slow way over the whole pseudo-header and segment, from the text of the
    /// RFCs.
    fn reference(pseudo: &[u8], segment: &[u8], field: usize) -> u16 {
        let mut bytes = pseudo.to_vec();
        bytes.extend_from_slice(segment);
        bytes[pseudo.len() + field] = 0;
        bytes[pseudo.len() + field + 1] = 0;
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        let mut acc: u32 = 0;
        for pair in bytes.chunks(2) {
            acc += u32::from(pair[0]) * 256 + u32::from(pair[1]);
            if acc > 0xffff {
                acc -= 0xffff;
            }
        }
        !(acc as u16)
    }

    /// A frame as the kernel hands it over for completion, with where its checksum is and what it should
    /// become.
    struct Partial {
        frame: Vec<u8>,
        start: u16,
        offset: u16,
        expected: u16,
    }

    fn partial(vlan: bool, v6: bool, protocol: u8, payload: &[u8]) -> Partial {
        let mut frame = vec![0x02; 12];
        if vlan {
            frame.extend([0x81, 0x00, 0x20, 0x2a]);
        }
        let (header_len, field) = if protocol == TCP { (20, 16) } else { (8, 6) };
        let segment_len = header_len + payload.len();
        let mut pseudo = Vec::new();
        if v6 {
            let addresses: Vec<u8> = (0..32).map(|n| n * 7 + 1).collect();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((segment_len as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(&addresses);
            pseudo.extend(&addresses);
            pseudo.extend((segment_len as u32).to_be_bytes());
            pseudo.extend([0, 0, 0, protocol]);
        } else {
            let addresses = [10, 7, 0, 1, 10, 7, 0, 2];
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((20 + segment_len as u16).to_be_bytes());
            frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(addresses);
            pseudo.extend(addresses);
            pseudo.extend([0, protocol]);
            pseudo.extend((segment_len as u16).to_be_bytes());
        }
        let start = frame.len();
        let mut segment: Vec<u8> = (0..header_len as u8).map(|n| n.wrapping_mul(29)).collect();
        segment.extend(payload);
        let expected = reference(&pseudo, &segment, field);
        segment[field..field + 2].copy_from_slice(&fold(sum(&pseudo)).to_be_bytes());
        frame.extend(segment);
        Partial { frame, start: start as u16, offset: field as u16, expected }
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(
            vlan: bool,
            v6: bool,
            tcp: bool,
            payload in proptest::collection::vec(any::<u8>(), 0..1500),
        ) {
            let protocol = if tcp { TCP } else { UDP };
            let Partial { mut frame, start, offset, expected } = partial(vlan, v6, protocol, &payload);
            let before = frame.clone();
            complete(&mut frame, start, offset).unwrap();
            let at = usize::from(start + offset);
            let stored = u16::from_be_bytes([frame[at], frame[at + 1]]);
            prop_assert_eq!(stored, if expected == 0 { 0xffff } else { expected });
            prop_assert_eq!(&frame[..at], &before[..at]);
            prop_assert_eq!(&frame[at + 2..], &before[at + 2..]);
        }

        #[test]
        fn never_panics_and_refuses_without_a_change(
            frame in proptest::collection::vec(any::<u8>(), 0..80),
            start in 0u16..120,
            offset: u16,
        ) {
            let mut after = frame.clone();
            if complete(&mut after, start, offset).is_err() {
                prop_assert_eq!(after, frame);
            } else {
                prop_assert!(usize::from(start) + usize::from(offset) + 2 <= frame.len());
            }
        }
    }

    #[test]
    fn a_sum_of_zero_is_stored_as_all_ones() {
        // One word more than the rest makes the sum 0xffff, whose inverse is zero: "no checksum" if stored as
        // it is.
        for odd in [0usize, 1] {
            let Partial { frame, start, offset, expected } = partial(false, true, UDP, &vec![0; 2 + odd]);
            let payload = [&expected.to_be_bytes()[..], &vec![0; odd]].concat();
            let mut zero = partial(false, true, UDP, &payload);
            assert_eq!((zero.expected, zero.start, zero.frame.len()), (0, start, frame.len()));
            complete(&mut zero.frame, start, offset).unwrap();
            let at = usize::from(start + offset);
            assert_eq!(zero.frame[at..at + 2], [0xff, 0xff]);
        }
    }

    #[test]
    fn a_field_beyond_the_frame_is_refused() {
        let mut frame = [0u8; 20];
        assert_eq!(complete(&mut frame, 21, 0), Err(OutsideFrame { start: 21, offset: 0, len: 20 }));
        assert_eq!(complete(&mut frame, 10, 9), Err(OutsideFrame { start: 10, offset: 9, len: 20 }));
        assert_eq!(complete(&mut frame, 10, 8), Ok(()));
        assert_eq!(complete(&mut frame, u16::MAX, u16::MAX).map_err(|e| e.len), Err(20));
    }
}
