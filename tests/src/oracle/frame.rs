//! The oracle's frame, byte by byte:
//!
//! | bytes | what |
//! |---|---|
//! | 6 + 6 | destination and source MAC |
//! | 4 | 802.1Q tag, if one was asked for |
//! | 2 | ethertype, 0x88B5 by default (IEEE 802: local experiments) |
//! | 4 | magic `SMO1` |
//! | 8 | run: a number that tells this run's frames from those of others |
//! | 1 + 1 | direction, zero |
//! | 2 | length of the whole frame |
//! | 8 | sequence, from 0 |
//! | 8 | when it was sent: nanoseconds since the run began |
//! | 8 | FNV-1a over the whole frame with this field zero |
//! | … | filler from the sequence, up to the length |
//!
//! All numbers are big-endian. FNV-1a detects every change of a single byte (each of its steps is a bijection), which is
//! what a memory or offset error looks like; it is no defence against an attacker and need not be.

/// For local experiments (IEEE Std 802, "Local Experimental Ethertype 1").
pub const ETHERTYPE: u16 = 0x88B5;

/// Ethernet's own smallest frame without its check sequence is 60 bytes; ours are never below 64, so nothing pads them.
pub const MIN_LENGTH: usize = 64;

const MAGIC: [u8; 4] = *b"SMO1";
const TAG_PROTOCOL: [u8; 2] = [0x81, 0x00];
const BODY: usize = 40;
const CHECKSUM_AT: usize = 32;

/// What all frames of one direction share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Destination MAC.
    pub to: [u8; 6],
    /// Source MAC.
    pub from: [u8; 6],
    /// 802.1Q tag: priority and VLAN id.
    pub tag: Option<u16>,
    /// What follows the MACs and the tag.
    pub ethertype: u16,
    /// Tells this run from others.
    pub run: u64,
    /// 0 or 1.
    pub direction: u8,
}

/// What a frame said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The run it belongs to.
    pub run: u64,
    /// The direction it was sent in.
    pub direction: u8,
    /// Its number.
    pub sequence: u64,
    /// When it was sent: nanoseconds since the run began.
    pub stamp: u64,
    /// Its 802.1Q tag.
    pub tag: Option<u16>,
}

/// The frame is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupted;

impl Template {
    /// Writes the frame `sequence` of `length` bytes (tag included) into `out`, replacing what was there.
    pub fn write(&self, sequence: u64, stamp: u64, length: usize, out: &mut Vec<u8>) {
        let length = length.max(self.header() + BODY);
        out.clear();
        out.extend_from_slice(&self.to);
        out.extend_from_slice(&self.from);
        if let Some(tag) = self.tag {
            out.extend_from_slice(&TAG_PROTOCOL);
            out.extend_from_slice(&tag.to_be_bytes());
        }
        out.extend_from_slice(&self.ethertype.to_be_bytes());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.run.to_be_bytes());
        out.extend_from_slice(&[self.direction, 0]);
        out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&stamp.to_be_bytes());
        out.extend_from_slice(&[0; 8]);
        let mut filler = scramble(self.run ^ sequence.rotate_left(8) ^ u64::from(self.direction));
        while out.len() < length {
            filler = scramble(filler);
            let take = (length - out.len()).min(8);
            out.extend(filler.to_be_bytes().into_iter().take(take));
        }
        let at = self.header() + CHECKSUM_AT;
        let sum = checksum(out, at);
        if let Some(field) = out.get_mut(at..at + 8) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }

    const fn header(&self) -> usize {
        if self.tag.is_some() { 18 } else { 14 }
    }
}

/// Reads a frame of the oracle's ethertype. Every change of a byte, of the length or of the tag's presence is
/// [`Corrupted`].
pub fn read(frame: &[u8]) -> Result<Seen, Corrupted> {
    let tagged = frame.get(12..14).ok_or(Corrupted)? == TAG_PROTOCOL;
    let header = if tagged { 18 } else { 14 };
    let tag = if tagged { Some(u16::from_be_bytes(field(frame, 14)?)) } else { None };
    let magic: [u8; 4] = field(frame, header)?;
    let run = u64::from_be_bytes(field(frame, header + 4)?);
    let [direction] = field(frame, header + 12)?;
    let length = u16::from_be_bytes(field(frame, header + 14)?);
    let sequence = u64::from_be_bytes(field(frame, header + 16)?);
    let stamp = u64::from_be_bytes(field(frame, header + 24)?);
    let sum = u64::from_be_bytes(field(frame, header + CHECKSUM_AT)?);
    let whole =
        magic == MAGIC && usize::from(length) == frame.len() && sum == checksum(frame, header + CHECKSUM_AT);
    if whole { Ok(Seen { run, direction, sequence, stamp, tag }) } else { Err(Corrupted) }
}

/// Whether the frame, tagged or not, says that it is of this ethertype.
#[must_use]
pub fn claims(frame: &[u8], ethertype: u16) -> bool {
    let at = if frame.get(12..14) == Some(&TAG_PROTOCOL) { 16 } else { 12 };
    frame.get(at..at + 2) == Some(&ethertype.to_be_bytes())
}

/// The length of frame `sequence`: seeded, between the two bounds, which both come up every 16 frames.
#[must_use]
pub fn length(seed: u64, sequence: u64, shortest: usize, longest: usize) -> usize {
    match sequence % 16 {
        0 => longest,
        1 => shortest,
        _ => {
            let span = longest.saturating_sub(shortest) as u64 + 1;
            shortest + usize::try_from(scramble(seed ^ sequence) % span).unwrap_or(0)
        }
    }
}

fn field<const N: usize>(frame: &[u8], at: usize) -> Result<[u8; N], Corrupted> {
    frame.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).ok_or(Corrupted)
}

/// FNV-1a, 64 bits, with the eight bytes at `hole` taken as zero.
fn checksum(frame: &[u8], hole: usize) -> u64 {
    frame.iter().enumerate().fold(0xcbf2_9ce4_8422_2325, |sum, (at, byte)| {
        let byte = if (hole..hole + 8).contains(&at) { 0 } else { *byte };
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// SplitMix64: a number that looks unrelated to the one before.
#[must_use]
pub const fn scramble(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Template =
        Template { to: [2; 6], from: [4; 6], tag: None, ethertype: ETHERTYPE, run: 99, direction: 1 };

    fn written(template: Template, sequence: u64, length: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        template.write(sequence, 5, length, &mut frame);
        frame
    }

    #[test]
    fn what_was_written_is_read() {
        for (tag, length) in [(None, 64), (None, 1514), (Some(0x2005), 64), (Some(7), 1518)] {
            let frame = written(Template { tag, ..PLAIN }, 12, length);
            assert_eq!(frame.len(), length);
            assert!(claims(&frame, ETHERTYPE) && !claims(&frame, 0x0800));
            assert_eq!(read(&frame), Ok(Seen { run: 99, direction: 1, sequence: 12, stamp: 5, tag }));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let frame = written(PLAIN, 3, 200);
        for at in 0..frame.len() {
            for flip in [1, 0x80] {
                let mut changed = frame.clone();
                changed[at] ^= flip;
                assert_eq!(read(&changed), Err(Corrupted), "byte {at}");
            }
        }
    }

    #[test]
    fn a_frame_cut_or_grown_is_noticed() {
        let frame = written(PLAIN, 3, 200);
        for length in 0..frame.len() {
            assert_eq!(read(&frame[..length]), Err(Corrupted), "cut to {length}");
        }
        let mut grown = frame;
        grown.push(0);
        assert_eq!(read(&grown), Err(Corrupted));
    }

    #[test]
    fn lengths_reach_both_bounds_and_stay_between() {
        let lengths: Vec<_> = (0..1000).map(|sequence| length(1, sequence, 64, 1414)).collect();
        assert!(lengths.iter().all(|length| (64..=1414).contains(length)));
        assert!(lengths.contains(&64) && lengths.contains(&1414));
        assert!(lengths.iter().collect::<std::collections::BTreeSet<_>>().len() > 300);
    }
}
