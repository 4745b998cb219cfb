//! A frame that this program writes itself: an answer, a probe. It lies where it is made; nothing is allocated.

use shadowmesh_proto::ids::MacAddr;

/// Ethernet pads shorter ones (IEEE 802.3 §3.2.8), and some kernels count those that come without.
const MIN: usize = 60;

/// See the module page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmallFrame {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl SmallFrame {
    /// The longest: a neighbour advertisement behind two VLAN tags has 94 bytes.
    pub const MAX: usize = 96;

    /// From `source` to `destination`, with whatever tags and ethertype `between` holds.
    pub(super) fn new(destination: MacAddr, source: MacAddr, between: &[u8]) -> Self {
        let mut frame = Self { bytes: [0; Self::MAX], len: 0 };
        frame.push(&destination.0);
        frame.push(&source.0);
        frame.push(between);
        frame
    }

    /// Appends. What does not fit is left out: the largest that is made here is known (see the tests).
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if let Some(space) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            space.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    /// The frame, padded.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.max(MIN)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_frames_are_padded_with_zeros() {
        let mut frame = SmallFrame::new(MacAddr([1; 6]), MacAddr([2; 6]), &[0x08, 0x06]);
        frame.push(&[7; 20]);
        assert_eq!(frame.as_bytes().len(), 60);
        assert_eq!(&frame.as_bytes()[12..16], [8, 6, 7, 7]);
        assert_eq!(frame.as_bytes()[34..], [0; 26]);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut frame = SmallFrame::new(MacAddr([1; 6]), MacAddr([2; 6]), &[]);
        frame.push(&[7; SmallFrame::MAX]);
        assert_eq!(frame.len, 12);
    }
}
