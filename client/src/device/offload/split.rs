//! One superframe into the frames that it stands for.
//!
//! Every segment has a copy of the headers, in which this differs, as the kernel has it (`tcp_gso_segment`, `__udp_gso_segment`,
//! `inet_gso_segment`):
//!
//! | field | in segment n |
//! |---|---|
//! | IPv4 total length, IPv6 payload length, UDP length | its own |
//! | IPv4 identification | the first one's + n |
//! | IPv4 header checksum, TCP and UDP checksum | its own |
//! | TCP sequence number | the first one's + the bytes before |
//! | FIN, PSH | in the last only |
//! | CWR | in the first only (RFC 3168 §6.1.2: once per window) |

use super::super::checksum::{fold, sum};
use super::super::vnet::VnetHeader;
use super::headers::{Headers, Malformed, Transport, Version};
use super::{get, put};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// What is cut smaller than the kernel would has at least so much data in each segment.
const LEAST: usize = 256;

/// A frame that stands for several.
#[derive(Debug, Clone, Copy)]
pub struct Superframe<'f> {
    frame: &'f [u8],
    headers: Headers,
    /// Payload bytes of each segment but the last.
    size: usize,
}

impl<'f> Superframe<'f> {
    /// Looks over `frame`, which `header` wants cut.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn new(header: &VnetHeader, frame: &'f [u8]) -> Result<Self, Malformed> {
        let headers = Headers::find(header, frame)?;
        Ok(Self { frame, headers, size: usize::from(header.gso_size) })
    }

    /// How many segments it stands for, as the kernel would cut it; one at least.
    #[must_use]
    pub fn count(&self) -> usize {
        self.frame.len().saturating_sub(self.headers.payload_at).div_ceil(self.size).max(1)
    }

    /// Bytes of its segments, as the kernel would cut it.
    pub fn bytes(&self) -> usize {
        self.frame.len() + (self.count() - 1) * self.headers.payload_at
    }

    /// Its segments: frames of at most `longest` bytes where it is TCP and that leaves room for data, else as the kernel would cut it.
    #[must_use]
    pub fn segments(&self, longest: Option<usize>) -> Segments<'f> {
        let size = size_for(self.headers, self.size, longest);
        Segments { superframe: *self, size, at: self.headers.payload_at, number: 0, is_partial: false }
    }
}

/// Payload bytes of each segment, where the frames are to have `longest` bytes at most.
fn size_for(headers: Headers, size: usize, longest: Option<usize>) -> usize {
    let fitting = longest
        .filter(|_| headers.transport == Transport::Tcp)
        .and_then(|longest| longest.checked_sub(headers.payload_at))
        // Where headers are most of what fits, pieces of a packet are fewer than packets would be.
        .filter(|room| *room >= size.min(LEAST));
    fitting.map_or(size, |room| room.min(size))
}

/// What is left of a superframe.
#[derive(Debug)]
pub struct Segments<'f> {
    superframe: Superframe<'f>,
    size: usize,
    /// Where the next one's payload begins.
    at: usize,
    number: u16,
    is_partial: bool,
}

impl Segments<'_> {
    /// The same with their checksums left out (`partial`).
    #[must_use]
    pub const fn partial(mut self) -> Self {
        self.is_partial = true;
        self
    }

    /// Appends the next frame to `out`; `false` when there is none.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> bool {
        let Superframe { frame, headers, .. } = self.superframe;
        let end = (self.at + self.size).min(frame.len());
        let (Some(head), Some(payload)) = (frame.get(..headers.payload_at), frame.get(self.at..end)) else {
            return false;
        };
        if payload.is_empty() {
            return false;
        }
        let begin = out.len();
        out.extend_from_slice(head);
        out.extend_from_slice(payload);
        let place = Place {
            number: self.number,
            // A superframe has less than 65,536 bytes.
            before: (self.at - headers.payload_at) as u32,
            is_last: end == frame.len(),
            is_partial: self.is_partial,
            whole: frame.len() - headers.transport_at,
        };
        if let Some(segment) = out.get_mut(begin..) {
            finish(segment, headers, place);
        }
        self.at = end;
        self.number = self.number.wrapping_add(1);
        true
    }
}

/// Headers so long can be kept apart: more than any TCP over IPv4 behind two tags has.
const KEPT: usize = 192;

/// A superframe that is cut where it lies, for one receiver: the headers of each segment are written over the end of the one before, which
/// was sealed by then. So each lies in one piece, and its payload is never copied. Checksums are left out (`partial`).
#[derive(Debug)]
pub struct Cutting<'m> {
    /// One byte of room, and the frame.
    room: &'m mut [u8],
    headers: Headers,
    head: [u8; KEPT],
    size: usize,
    /// Where in the frame the next one's payload begins.
    at: usize,
    number: u16,
}

impl<'m> Cutting<'m> {
    /// Looks over the frame behind the first byte of `room`, which `header` wants cut; `longest` as in [`Superframe::segments`]. `None` where
    /// it cannot be cut so.
    pub fn new(header: &VnetHeader, room: &'m mut [u8], longest: Option<usize>) -> Option<Self> {
        let frame = room.get(1..)?;
        let headers = Headers::find(header, frame).ok()?;
        let mut head = [0; KEPT];
        head.get_mut(..headers.payload_at)?.copy_from_slice(frame.get(..headers.payload_at)?);
        let size = size_for(headers, usize::from(header.gso_size), longest);
        Some(Self { room, headers, head, size, at: headers.payload_at, number: 0 })
    }

    /// Bytes of the longest frame.
    #[must_use]
    pub const fn longest(&self) -> usize {
        self.headers.payload_at + self.size
    }

    /// How many frames are left.
    #[must_use]
    pub fn count(&self) -> usize {
        (self.room.len() - 1).saturating_sub(self.at).div_ceil(self.size)
    }

    /// The next frame with one byte of room before it; `None` when there is none. Those before are gone, and this one stays the next until
    /// [`Self::advance`].
    pub fn front(&mut self) -> Option<&mut [u8]> {
        let (end, len) = (self.end(), self.room.len() - 1);
        if self.at >= end {
            return None;
        }
        let begin = self.at.checked_sub(self.headers.payload_at)?;
        let text = self.room.get_mut(begin..=end)?;
        let segment = text.get_mut(1..)?;
        segment
            .get_mut(..self.headers.payload_at)?
            .copy_from_slice(self.head.get(..self.headers.payload_at)?);
        let place = Place {
            number: self.number,
            // A superframe has less than 65,536 bytes.
            before: begin as u32,
            is_last: end == len,
            is_partial: true,
            whole: len - self.headers.transport_at,
        };
        finish(segment, self.headers, place);
        Some(text)
    }

    /// The next one was taken.
    pub fn advance(&mut self) {
        self.at = self.end();
        self.number = self.number.wrapping_add(1);
    }

    fn end(&self) -> usize {
        (self.at + self.size).min(self.room.len() - 1)
    }
}

/// Which segment it is.
#[derive(Debug, Clone, Copy)]
struct Place {
    number: u16,
    /// Bytes of payload in those before it.
    before: u32,
    is_last: bool,
    /// Whether its checksum is left out.
    is_partial: bool,
    /// Bytes of the superframe from the transport header on.
    whole: usize,
}

/// Makes the copied headers those of this segment. `Headers::find` has seen that everything touched here is there.
fn finish(segment: &mut [u8], headers: Headers, place: Place) {
    let Headers { version, transport, ip_at, transport_at, .. } = headers;
    let transport_len = segment.len() - transport_at;
    let Some((before, body)) = segment.split_at_mut_checked(transport_at) else { return };
    let Some(ip) = before.get_mut(ip_at..) else { return };
    match version {
        Version::V4 => {
            let total = ip.len() + transport_len;
            put(ip, 2, total as u16);
            let identification = get(ip, 4).wrapping_add(place.number);
            put(ip, 4, identification);
            put(ip, 10, 0);
            let checksum = !fold(sum(ip));
            put(ip, 10, checksum);
        }
        Version::V6 => {
            // Extension headers count as payload (RFC 8200 §3).
            let len = ip.len() - 40 + transport_len;
            put(ip, 4, len as u16);
        }
    }
    // What the kernel left there is the sum of the pseudo-header, of the superframe's length. The addresses in that are those of the packet's end, which a
    // routing header or a source route says; so it is kept but for the length.
    let given = get(body, transport.checksum_at());
    let pseudo = u64::from(given) + u64::from(!(place.whole as u16)) + transport_len as u64;
    match transport {
        Transport::Udp => put(body, 4, transport_len as u16),
        Transport::Tcp => {
            if let Some(sequence) = body.get_mut(4..).and_then(<[u8]>::first_chunk_mut::<4>) {
                *sequence = u32::from_be_bytes(*sequence).wrapping_add(place.before).to_be_bytes();
            }
            if let Some(flags) = body.get_mut(13) {
                *flags &= !(if place.is_last { 0 } else { FIN | PSH });
                *flags &= !(if place.number == 0 { 0 } else { CWR });
            }
        }
    }
    if place.is_partial {
        return put(body, transport.checksum_at(), fold(pseudo));
    }
    put(body, transport.checksum_at(), 0);
    let checksum = match (!fold(pseudo + sum(body)), transport) {
        // Zero would say that there is none (RFC 768).
        (0, Transport::Udp) => 0xffff,
        (other, _) => other,
    };
    put(body, transport.checksum_at(), checksum);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A superframe as the kernel makes one, and what it is about.
    #[derive(Debug, Clone)]
    pub(crate) struct Made {
        pub(crate) header: VnetHeader,
        pub(crate) frame: Vec<u8>,
        pub(crate) payload_at: usize,
        pub(crate) transport_at: usize,
        pub(crate) ip_at: usize,
        is_v6: bool,
        is_tcp: bool,
    }

    /// What there is to choose.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Choice {
        pub(crate) tags: usize,
        pub(crate) is_v6: bool,
        pub(crate) is_tcp: bool,
        /// Words of IPv4 options, or of an IPv6 destination option header.
        pub(crate) ip_options: usize,
        pub(crate) tcp_options: usize,
        pub(crate) flags: u8,
        pub(crate) size: u16,
    }

    pub(crate) fn made(choice: Choice, payload: &[u8]) -> Made {
        let Choice { tags, is_v6, is_tcp, ip_options, tcp_options, flags, size } = choice;
        let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1];
        for tag in 0..tags {
            frame.extend([0x81, 0, 0, 5 + tag as u8]);
        }
        let ip_at = frame.len() + 2;
        let transport = if is_tcp { 20 + 4 * tcp_options } else { 8 };
        let number = if is_tcp { 6 } else { 17 };
        if is_v6 {
            let extension = if ip_options > 0 { 8 } else { 0 };
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(((extension + transport + payload.len()) as u16).to_be_bytes());
            frame.extend([if extension > 0 { 60 } else { number }, 64]);
            frame.extend([0xfd, 0x53, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            frame.extend([0xfd, 0x53, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
            if extension > 0 {
                // Destination options: six bytes of padding (RFC 8200 §4.2).
                frame.extend([number, 0, 1, 4, 0, 0, 0, 0]);
            }
        } else {
            frame.extend([0x08, 0, 0x45 + ip_options as u8, 0]);
            frame.extend(((20 + 4 * ip_options + transport + payload.len()) as u16).to_be_bytes());
            frame.extend([0xff, 0xfe, 0x40, 0, 64, number, 0, 0, 10, 7, 0, 1, 10, 7, 0, 2]);
            // No operation (RFC 791).
            frame.extend(vec![1; 4 * ip_options]);
            let check = !fold(sum(&frame[ip_at..]));
            put(&mut frame[ip_at..], 10, check);
        }
        let transport_at = frame.len();
        if is_tcp {
            frame.extend([0x9c, 0x40, 0x14, 0x51, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 1]);
            frame.extend([((5 + tcp_options) as u8) << 4, flags, 1, 0, 0, 0, 0, 0]);
            frame.extend(vec![1; 4 * tcp_options]);
        } else {
            frame.extend([0x9c, 0x40, 0x14, 0x51]);
            frame.extend(((8 + payload.len()) as u16).to_be_bytes());
            frame.extend([0, 0]);
        }
        let payload_at = frame.len();
        frame.extend(payload);
        let checksum_offset = if is_tcp { 16 } else { 6 };
        let addresses = if is_v6 { &frame[ip_at + 8..ip_at + 40] } else { &frame[ip_at + 12..ip_at + 20] };
        let pseudo = fold(sum(addresses) + u64::from(number) + (frame.len() - transport_at) as u64);
        put(&mut frame[transport_at..], checksum_offset, pseudo);
        let gso_type = match (is_tcp, is_v6) {
            (true, false) => 1,
            (true, true) => 4,
            (false, _) => 5,
        };
        let header = VnetHeader {
            flags: 1,
            gso_type,
            header_len: payload_at as u16,
            gso_size: size,
            checksum_start: transport_at as u16,
            checksum_offset: checksum_offset as u16,
        };
        Made { header, frame, payload_at, transport_at, ip_at, is_v6, is_tcp }
    }

    pub(crate) fn choice() -> impl Strategy<Value = Choice> {
        (0..3usize, any::<bool>(), any::<bool>(), 0..3usize, 0..4usize, any::<u8>(), 5..3000u16).prop_map(
            |(tags, is_v6, is_tcp, ip_options, tcp_options, flags, size)| Choice {
                tags,
                is_v6,
                is_tcp,
                ip_options,
                tcp_options,
                flags,
                size,
            },
        )
    }

    pub(crate) fn all(superframe: &Superframe<'_>, longest: Option<usize>) -> Vec<Vec<u8>> {
        let mut segments = superframe.segments(longest);
        std::iter::from_fn(|| {
            let mut out = Vec::new();
            segments.next_into(&mut out).then_some(out)
        })
        .collect()
    }

    /// The one's-complement sum as RFC 1071 §4.1 writes it.
    fn rfc_1071(bytes: &[u8]) -> u16 {
        let mut acc = 0u32;
        for pair in bytes.chunks(2) {
            acc += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while acc >> 16 != 0 {
            acc = (acc & 0xffff) + (acc >> 16);
        }
        !(acc as u16)
    }

    fn word(bytes: &[u8], at: usize) -> u16 {
        u16::from_be_bytes([bytes[at], bytes[at + 1]])
    }

    /// Whether what a receiver would verify holds.
    fn is_sound(made: &Made, segment: &[u8]) {
        let ip = &segment[made.ip_at..];
        let body = &segment[made.transport_at..];
        let mut pseudo = Vec::new();
        if made.is_v6 {
            assert_eq!(usize::from(word(ip, 4)), ip.len() - 40);
            pseudo.extend(&ip[8..40]);
        } else {
            assert_eq!(usize::from(word(ip, 2)), ip.len());
            assert_eq!(rfc_1071(&ip[..made.transport_at - made.ip_at]), 0);
            pseudo.extend(&ip[12..20]);
        }
        pseudo.extend([0, if made.is_tcp { 6 } else { 17 }]);
        pseudo.extend((body.len() as u16).to_be_bytes());
        pseudo.extend(body);
        assert_eq!(rfc_1071(&pseudo), 0);
        if !made.is_tcp {
            assert_eq!(usize::from(word(body, 4)), body.len());
            assert_ne!(word(body, 6), 0);
        }
    }

    proptest! {
        #[test]
        fn what_is_cut_where_it_lies_is_the_same(
            choice in choice(),
            payload in proptest::collection::vec(any::<u8>(), 1..9000),
            longest in proptest::option::of(0..4000usize),
        ) {
            let made = made(choice, &payload);
            let superframe = Superframe::new(&made.header, &made.frame).unwrap();
            let mut expected = superframe.segments(longest).partial();
            let mut room = [&[0], &made.frame[..]].concat();
            let mut cutting = Cutting::new(&made.header, &mut room, longest).unwrap();
            let mut left = cutting.count();
            loop {
                let mut segment = Vec::new();
                let is_any = expected.next_into(&mut segment);
                // Asked twice it is the same.
                for _ in 0..2 {
                    let Some(text) = cutting.front() else { break };
                    text[0] = 0xa5;
                    prop_assert_eq!(&text[1..], &segment[..]);
                }
                if !is_any {
                    break;
                }
                cutting.advance();
                left -= 1;
            }
            prop_assert_eq!(left, 0);
            prop_assert!(cutting.front().is_none());
        }

        #[test]
        fn segments_are_the_superframe(
            choice in choice(),
            payload in proptest::collection::vec(any::<u8>(), 1..9000),
            longest in proptest::option::of(0..4000usize),
        ) {
            let made = made(choice, &payload);
            let superframe = Superframe::new(&made.header, &made.frame).unwrap();
            let segments = all(&superframe, longest);
            let size = usize::from(choice.size);
            let room = longest.and_then(|longest| longest.checked_sub(made.payload_at));
            let room = room.filter(|room| *room >= size.min(LEAST));
            let most = if choice.is_tcp { room.map_or(size, |room| room.min(size)) } else { size };
            let mut whole = Vec::<u8>::new();
            for (n, segment) in segments.iter().enumerate() {
                is_sound(&made, segment);
                let is_last = n + 1 == segments.len();
                let len = segment.len() - made.payload_at;
                let is_so_long = if is_last { len <= most && len > 0 } else { len == most };
                prop_assert!(is_so_long);
                if choice.is_tcp {
                    let tcp = &segment[made.transport_at..];
                    let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
                    prop_assert_eq!(sequence, 0xffff_ff00_u32.wrapping_add(whole.len() as u32));
                    let kept = !(if is_last { 0 } else { FIN | PSH }) & !(if n == 0 { 0 } else { CWR });
                    prop_assert_eq!(tcp[13], choice.flags & kept);
                }
                if !choice.is_v6 {
                    prop_assert_eq!(word(segment, made.ip_at + 4), 0xfffe_u16.wrapping_add(n as u16));
                }
                whole.extend(&segment[made.payload_at..]);
            }
            prop_assert_eq!(whole, payload);
        }

        #[test]
        fn whatever_the_header_says_nothing_breaks(
            header: [u8; VnetHeader::LEN],
            kind in proptest::sample::select(vec![0u8, 1, 4, 5, 0x81]),
            frame in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let header = VnetHeader { gso_type: kind, ..VnetHeader::parse(&header) };
            let mut room = [&[0], &frame[..]].concat();
            if let Some(mut cutting) = Cutting::new(&header, &mut room, None) {
                while cutting.front().is_some() {
                    cutting.advance();
                }
            }
            if let Ok(superframe) = Superframe::new(&header, &frame) {
                prop_assert!(all(&superframe, None).iter().all(|segment| segment.len() <= frame.len()));
            }
        }

        #[test]
        fn a_superframe_that_was_cut_off_or_changed_breaks_nothing(
            choice in choice(),
            payload in proptest::collection::vec(any::<u8>(), 1..300),
            at: proptest::sample::Index,
            value: u8,
            len: proptest::sample::Index,
        ) {
            let mut made = made(choice, &payload);
            let at = at.index(made.frame.len());
            made.frame[at] = value;
            made.frame.truncate(len.index(made.frame.len() + 1));
            if let Ok(superframe) = Superframe::new(&made.header, &made.frame) {
                all(&superframe, Some(100));
            }
        }
    }

    #[test]
    fn the_end_that_a_routing_header_names_is_in_every_checksum() {
        let made = made(Choice { is_v6: true, ..PLAIN }, &[9; 5000]);
        let end = [0xfd, 0x53, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let mut frame = made.frame;
        let addresses = sum(&frame[made.ip_at + 8..made.ip_at + 24]) + sum(&end);
        let pseudo = |len: usize| addresses + 6 + len as u64;
        let whole = frame.len() - made.transport_at;
        put(&mut frame[made.transport_at..], 16, fold(pseudo(whole)));
        let segments = all(&Superframe::new(&made.header, &frame).unwrap(), None);
        assert_eq!(segments.len(), 4);
        for segment in segments {
            let body = &segment[made.transport_at..];
            assert_eq!(fold(pseudo(body.len()) + sum(body)), 0xffff);
        }
    }

    #[test]
    fn nothing_is_cut_into_crumbs() {
        let made = made(Choice { size: 1348, ..PLAIN }, &[9; 65_000]);
        let superframe = Superframe::new(&made.header, &made.frame).unwrap();
        let count = |data: usize| all(&superframe, Some(made.payload_at + data)).len();
        assert_eq!((count(1), count(LEAST - 1), count(LEAST)), (49, 49, 254));
        // One segment for each byte, which a guest may ask for.
        let header = VnetHeader { gso_size: 1, ..made.header };
        assert_eq!(Superframe::new(&header, &made.frame).unwrap_err(), Malformed::Many);
        let header = VnetHeader { gso_size: 36, ..made.header };
        assert_eq!(Superframe::new(&header, &made.frame).unwrap().count(), 1_806);
    }

    pub(crate) const PLAIN: Choice = Choice {
        tags: 0,
        is_v6: false,
        is_tcp: true,
        ip_options: 0,
        tcp_options: 3,
        flags: 0x18,
        size: 1348,
    };

    #[test]
    fn what_the_frame_does_not_bear_out_is_refused() {
        let good = made(PLAIN, &[7; 4000]);
        let refused = |header: VnetHeader, frame: &[u8]| Superframe::new(&header, frame).map(drop);
        assert_eq!(refused(good.header, &good.frame), Ok(()));
        for header in [
            VnetHeader { gso_size: 0, ..good.header },
            VnetHeader { flags: 0, ..good.header },
            VnetHeader { gso_type: 0, ..good.header },
            VnetHeader { gso_type: 3, ..good.header },
        ] {
            assert_eq!(refused(header, &good.frame), Err(Malformed::Kind), "{header:?}");
        }
        for header in [
            VnetHeader { gso_type: 4, ..good.header },
            VnetHeader { gso_type: 5, ..good.header },
            VnetHeader { checksum_start: 33, ..good.header },
            VnetHeader { checksum_start: 10, ..good.header },
            VnetHeader { checksum_offset: 6, ..good.header },
        ] {
            assert_eq!(refused(header, &good.frame), Err(Malformed::Headers), "{header:?}");
        }
        for len in [0, 13, 20, 46, good.payload_at] {
            assert_eq!(refused(good.header, &good.frame[..len]).map_err(|_| ()), Err(()), "{len}");
        }
        let mut short = good.frame.clone();
        short[good.transport_at + 12] = 0x40;
        assert_eq!(refused(good.header, &short), Err(Malformed::Headers));
        let three = made(Choice { tags: 3, ..PLAIN }, &[7; 4000]);
        assert_eq!(refused(three.header, &three.frame), Err(Malformed::Headers));
    }

    #[test]
    fn tcp_is_cut_to_fit_and_udp_never() {
        let tcp = made(PLAIN, &[7; 4000]);
        let superframe = Superframe::new(&tcp.header, &tcp.frame).unwrap();
        let lengths = |longest| all(&superframe, longest).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(None), [1414, 1414, 66 + 1304]);
        assert_eq!(lengths(Some(1280)), [1280, 1280, 1280, 66 + 358]);
        assert_eq!(lengths(Some(9000)), lengths(None));
        // Where not even the headers fit it is left to who cuts anything.
        assert_eq!(lengths(Some(66)), lengths(None));
        let udp = made(Choice { is_tcp: false, ..PLAIN }, &[7; 4000]);
        let superframe = Superframe::new(&udp.header, &udp.frame).unwrap();
        assert_eq!(all(&superframe, Some(600)), all(&superframe, None));
    }
}
