//! Frames of one flow into the superframe that they are segments of: the other way round than `split`, for what came from the network and goes
//! to the kernel, which then walks its stack once and not forty times.
//!
//! # Life
//!
//! A [`Merge`] is empty, is begun by a frame, takes what follows that and is finished ([`Merge::finish`]): then it lies in one piece, with the
//! virtio header that says how it is to be seen, and the merge is empty again.
//!
//! # Where a frame comes from
//!
//! Who it is for says where it is to be written ([`Merge::space`]) before anybody knows what it is: so that its payload, should it follow what is
//! there, comes to lie right behind that, and its headers over the end of that, which is put by. Then it is looked at ([`Merge::opened`]), and
//! stays ([`Merge::keep`]: the end is put back, over its headers), or goes elsewhere ([`Merge::withdraw`]). A cipher that writes there makes the
//! only copy of the payload.
//!
//! # Invariants
//!
//! - What is taken is what the kernel's own GRO takes (`tcp_gro_receive`, `udp_gro_receive`, `inet_gro_receive`), and stricter where that is simpler:
//!   all headers are those of the first frame, but for lengths, checksums, the IPv4 identification, which counts up, the sequence number, which
//!   follows, and PSH and FIN, which end it. (No mark of the sender is needed for it, nor would one be believed: protocol §5.)
//! - So cutting what is finished gives the frames that were taken, byte for byte; and what was cut is whole again (tests).
//! - A frame whose checksums do not hold is taken by nobody: the kernel is told that they need not be looked at, and what was damaged before it came to
//!   us (behind a bridge) has to be found by whom it is for. One that *needs a checksum* has none that could not hold.
//! - One frame alone is finished as it was.

use super::super::checksum::{fold, sum};
use super::super::vnet::VnetHeader;
use super::headers::{Headers, Transport, Version, find_ip};
use super::partial::has_dhcp_ports;
use super::{get, put};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

/// Most frames that become one: what `UDP_SEGMENT` takes (`UDP_MAX_SEGMENTS` before Linux 6.12), and TCP of 1348 bytes fills the rest anyway.
const MOST: u16 = 64;
/// Bytes of an IP packet at most, as far as its length field tells.
const LONGEST: usize = 65_535;
/// Bytes before an IP header at most: two tags.
const LINK: usize = 22;

/// Bytes that a merge needs: the virtio header, and the longest frame.
const MERGE_BYTES: usize = VnetHeader::LEN + LINK + 40 + LONGEST;
/// Bytes of headers of what is put together at most: more than any TCP over IPv4 has behind two tags.
const HEAD: usize = 192;

/// What a frame is to a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It may be put together with what follows it.
    Data(Segment),
    /// Nothing may be put together with it; what was before it in its flow is to go first.
    Apart,
}

/// A frame that was looked at: a whole TCP segment or UDP datagram with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    headers: Headers,
    payload: usize,
    /// TCP's; 0 of UDP.
    sequence: u32,
    flags: u8,
}

impl Segment {
    /// Whether it is a datagram of UDP.
    pub fn is_udp(&self) -> bool {
        self.headers.transport == Transport::Udp
    }
}

impl Kind {
    /// Looks over a complete frame. Checksums are looked at when it is taken.
    pub fn of(frame: &[u8]) -> Self {
        segment_of(frame).map_or(Self::Apart, Self::Data)
    }
}

fn segment_of(frame: &[u8]) -> Option<Segment> {
    let headers = Headers::of_complete(frame)?;
    let Headers { version, transport, ip_at, transport_at, payload_at } = headers;
    let (ip, body) = (frame.get(ip_at..)?, frame.get(transport_at..)?);
    let said = match version {
        // Neither a fragment nor padded.
        Version::V4 if get(ip, 6) & 0x3fff != 0 => return None,
        Version::V4 => usize::from(get(ip, 2)),
        Version::V6 => 40 + usize::from(get(ip, 4)),
    };
    let payload = frame.len().checked_sub(payload_at).filter(|payload| *payload > 0)?;
    if said != ip.len() || payload_at > HEAD {
        return None;
    }
    match transport {
        Transport::Tcp => {
            let flags = *body.get(13)?;
            let is_plain = flags & (SYN | RST | URG) == 0 && flags & ACK != 0;
            let sequence = u32::from_be_bytes(*body.get(4..)?.first_chunk()?);
            is_plain.then_some(Segment { headers, payload, sequence, flags })
        }
        Transport::Udp => {
            // Without a checksum it is none that the kernel may fill in.
            let is_whole = usize::from(get(body, 4)) == body.len() && get(body, 6) != 0;
            (is_whole && !has_dhcp_ports(headers, frame)).then_some(Segment {
                headers,
                payload,
                sequence: 0,
                flags: 0,
            })
        }
    }
}

/// Of which flow a frame is, as far as it says: by its own headers, for options and extension headers may be in some of a flow's frames alone.
#[derive(Debug, Clone, Copy)]
pub struct Flow<'f> {
    /// MAC addresses, and what tags there are.
    link: &'f [u8],
    version: Version,
    addresses: &'f [u8],
    /// IPv4's; IPv6's is behind its extension headers.
    protocol: Option<u8>,
    /// With the transport protocol; `None` where nobody can tell: of a fragment, or behind headers that are not known here.
    ports: Option<(Transport, &'f [u8])>,
}

impl<'f> Flow<'f> {
    /// That of `frame`; `None` where it is no IP.
    pub fn of(frame: &'f [u8]) -> Option<Self> {
        let (ip_at, version) = find_ip(frame).ok()?;
        let headers = Headers::of_complete(frame).filter(|headers| !headers.is_fragment(frame));
        Self::with(frame, ip_at, version, headers)
    }

    fn with(frame: &'f [u8], ip_at: usize, version: Version, headers: Option<Headers>) -> Option<Self> {
        let ip = frame.get(ip_at..)?;
        let (addresses, protocol) = match version {
            Version::V4 => (ip.get(12..20)?, Some(*ip.get(9)?)),
            Version::V6 => (ip.get(8..40)?, None),
        };
        let ports = headers.and_then(|Headers { transport, transport_at, .. }| {
            Some((transport, frame.get(transport_at..transport_at + 4)?))
        });
        Some(Self { link: frame.get(..ip_at)?, version, addresses, protocol, ports })
    }

    /// Whether the two may be of one.
    fn may_be(self, other: Self) -> bool {
        self.version == other.version
            && self.addresses == other.addresses
            && self.protocol == other.protocol
            && self.ports.zip(other.ports).is_none_or(|(one, other)| one == other)
            && self.link.get(..12) == other.link.get(..12)
            && self.tags().eq(other.tags())
    }

    /// Of which VLANs it is. Its priority may be another in each frame.
    fn tags(self) -> impl Iterator<Item = u16> {
        self.link.get(14..).unwrap_or_default().chunks(4).map(|tag| get(tag, 0) & 0x0fff)
    }
}

/// Frames of one flow that are being put together.
#[derive(Debug)]
pub struct Merge {
    /// Room for the virtio header, then the frame.
    memory: Box<[u8]>,
    /// Bytes of the frame.
    len: usize,
    /// The first frame; `None` when it is empty.
    first: Option<First>,
    count: u16,
    /// Nothing follows: the last one was shorter, or ends a burst.
    is_ended: bool,
    /// The frame that was written last, until it is known where it belongs.
    open: Option<Open>,
    /// What was where that has its headers.
    put_by: [u8; VnetHeader::LEN + HEAD],
    /// The headers of the first frame: those of the one that is open may lie over them.
    head: [u8; HEAD],
}

#[derive(Debug, Clone, Copy)]
struct First {
    segment: Segment,
    /// Whether its checksum was left out.
    is_partial: bool,
}

/// A frame of which it is not known yet where it belongs.
#[derive(Debug, Clone, Copy)]
struct Open {
    /// Where it begins in the memory.
    at: usize,
    len: usize,
    /// How much of what is before its payload was put by.
    put_by: usize,
}

impl Default for Merge {
    fn default() -> Self {
        Self::new()
    }
}

impl Merge {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            memory: vec![0; MERGE_BYTES].into_boxed_slice(),
            len: 0,
            first: None,
            count: 0,
            is_ended: false,
            open: None,
            put_by: [0; VnetHeader::LEN + HEAD],
            head: [0; HEAD],
        }
    }

    /// Whether nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Whether nothing can follow what is in it.
    pub const fn is_ended(&self) -> bool {
        self.is_ended || self.count >= MOST
    }

    /// How many frames are in it.
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Whether a frame of `flow` may be of the flow that is in it.
    pub fn is_of(&self, flow: Flow<'_>) -> bool {
        self.first.is_some_and(|first| {
            let headers = first.segment.headers;
            let there = Flow::with(self.head(headers), headers.ip_at, headers.version, Some(headers));
            there.is_some_and(|there| there.may_be(flow))
        })
    }

    /// Where a frame of `len` bytes with one byte before it is to be written. `None` where it has no place behind what is in it. It is open
    /// until [`Self::keep`] takes it, or [`Self::withdraw`].
    pub fn space(&mut self, len: usize) -> Option<&mut [u8]> {
        self.withdraw();
        let (at, put_by) = match self.first {
            None => (VnetHeader::LEN, 0),
            Some(_) if self.is_ended() => return None,
            Some(First { segment, .. }) => {
                let headers = segment.headers.payload_at;
                (VnetHeader::LEN + self.len - headers, VnetHeader::LEN + headers)
            }
        };
        if put_by > 0 {
            let before = self.memory.get(at - VnetHeader::LEN..)?.get(..put_by)?;
            self.put_by.get_mut(..put_by)?.copy_from_slice(before);
        }
        let space = self.memory.get_mut(at - 1..at + len)?;
        self.open = Some(Open { at, len, put_by });
        Some(space)
    }

    /// The frame that is open.
    pub fn opened(&self) -> &[u8] {
        self.open.and_then(|Open { at, len, .. }| self.memory.get(at..at + len)).unwrap_or_default()
    }

    /// Room for a virtio header with the open frame behind it.
    pub fn opened_packet(&mut self) -> &mut [u8] {
        let range = self.open.map_or(0..0, |Open { at, len, .. }| at - VnetHeader::LEN..at + len);
        self.memory.get_mut(range).unwrap_or_default()
    }

    /// The open frame is none of this.
    pub fn withdraw(&mut self) {
        let Some(Open { at, put_by, .. }) = self.open.take() else { return };
        let place = self.memory.get_mut(at - VnetHeader::LEN..).and_then(|rest| rest.get_mut(..put_by));
        if let (Some(place), Some(before)) = (place, self.put_by.get(..put_by)) {
            place.copy_from_slice(before);
        }
    }

    /// Takes the open frame, where that follows what is in it (or nothing is) and is sound; else it stays open. `is_partial`: its checksum was
    /// left out.
    pub fn keep(&mut self, segment: Segment, is_partial: bool) -> bool {
        let Some(Open { len, .. }) = self.open else { return false };
        let size = match self.first {
            None => segment.payload,
            Some(First { segment: first, .. }) => {
                let is_within = self.len - first.headers.ip_at + segment.payload <= LONGEST;
                if self.is_ended() || !is_within || !self.follows(self.opened(), first, segment) {
                    return false;
                }
                first.payload
            }
        };
        if !is_sound(self.opened(), segment.headers, is_partial) {
            return false;
        }
        if self.first.is_none() {
            let Self { head, memory, .. } = self;
            let from = memory.get(VnetHeader::LEN..).unwrap_or_default();
            head.iter_mut().zip(from).take(segment.headers.payload_at).for_each(|(to, from)| *to = *from);
            self.first = Some(First { segment, is_partial });
            (self.len, self.open) = (len, None);
        } else {
            self.withdraw();
            self.len += segment.payload;
            let flags = self.memory.get_mut(VnetHeader::LEN + segment.headers.transport_at + 13);
            if let Some(flags) = flags.filter(|_| segment.headers.transport == Transport::Tcp) {
                *flags |= segment.flags & (PSH | FIN);
            }
        }
        self.count += 1;
        self.is_ended = ends(segment, size);
        true
    }

    /// What is in it: the header for the device, and room for that with the frame behind it. `None` where it is empty. It is empty afterwards.
    pub fn finish(&mut self) -> Option<(VnetHeader, &mut [u8])> {
        self.withdraw();
        let First { segment, is_partial } = self.first.take()?;
        let (len, count) = (std::mem::take(&mut self.len), std::mem::take(&mut self.count));
        self.is_ended = false;
        let packet = self.memory.get_mut(..VnetHeader::LEN + len)?;
        if count < 2 {
            let header = if is_partial { segment.headers.partial() } else { VnetHeader::COMPLETE };
            return Some((header, packet));
        }
        let header = seal(packet.get_mut(VnetHeader::LEN..)?, segment);
        Some((header, packet))
    }

    /// The headers of the first frame.
    fn head(&self, headers: Headers) -> &[u8] {
        self.head.get(..headers.payload_at).unwrap_or_default()
    }

    /// Whether `frame` is the next of those that begin with `first`.
    fn follows(&self, frame: &[u8], first: Segment, segment: Segment) -> bool {
        if first.headers != segment.headers || segment.payload > first.payload {
            return false;
        }
        let there = self.head(first.headers);
        let same = |from: usize, to: usize| there.get(from..to) == frame.get(from..to);
        let Headers { version, transport, ip_at, transport_at, payload_at } = first.headers;
        let is_same_ip = match version {
            Version::V4 => {
                let counts_up = get(frame.get(ip_at..).unwrap_or_default(), 4)
                    == get(there.get(ip_at..).unwrap_or_default(), 4).wrapping_add(self.count);
                counts_up
                    && same(ip_at, ip_at + 2)
                    && same(ip_at + 6, ip_at + 10)
                    && same(ip_at + 12, transport_at)
            }
            Version::V6 => same(ip_at, ip_at + 4) && same(ip_at + 6, transport_at),
        };
        let is_same_transport = match transport {
            Transport::Udp => same(transport_at, transport_at + 4),
            Transport::Tcp => {
                let taken = self.len - payload_at;
                let next = first.sequence.wrapping_add(taken as u32);
                // CWR is once (RFC 3168 §6.1.2); PSH and FIN may come with the last.
                let but = !(PSH | FIN);
                segment.sequence == next
                    && segment.flags & but == first.flags & but & !CWR
                    && same(transport_at, transport_at + 4)
                    && same(transport_at + 8, transport_at + 13)
                    && same(transport_at + 14, transport_at + 16)
                    && same(transport_at + 18, payload_at)
            }
        };
        same(0, ip_at) && is_same_ip && is_same_transport
    }
}

/// Whether nothing may come behind a segment among those of `size`.
const fn ends(segment: Segment, size: usize) -> bool {
    segment.payload < size || segment.flags & (PSH | FIN) != 0
}

/// Whether its checksums hold (RFC 1071), as far as it has any.
fn is_sound(frame: &[u8], headers: Headers, is_partial: bool) -> bool {
    let Headers { version, transport, ip_at, transport_at, .. } = headers;
    let (Some(ip), Some(body)) = (frame.get(ip_at..transport_at), frame.get(transport_at..)) else {
        return false;
    };
    let is_ip_sound = version == Version::V6 || fold(sum(ip)) == 0xffff;
    let pseudo = pseudo(ip, version, transport, body.len());
    // Where the packet is for another than its header says (a routing header, a source route) the sum is that one's, and each frame goes alone.
    let is_left_out = || get(body, transport.checksum_at()) == fold(pseudo);
    is_ip_sound && if is_partial { is_left_out() } else { fold(pseudo + sum(body)) == 0xffff }
}

/// The sum of the pseudo-header, not folded.
fn pseudo(ip: &[u8], version: Version, transport: Transport, len: usize) -> u64 {
    let addresses = match version {
        Version::V4 => ip.get(12..20),
        Version::V6 => ip.get(8..40),
    };
    sum(addresses.unwrap_or_default()) + u64::from(transport.number()) + len as u64
}

/// Makes the headers of the first frame those of all, with the checksum left to the kernel.
fn seal(frame: &mut [u8], first: Segment) -> VnetHeader {
    let Headers { version, transport, ip_at, transport_at, payload_at } = first.headers;
    let gso_type = match (transport, version) {
        (Transport::Tcp, Version::V4) => VnetHeader::GSO_TCP_V4,
        (Transport::Tcp, Version::V6) => VnetHeader::GSO_TCP_V6,
        (Transport::Udp, _) => VnetHeader::GSO_UDP,
    };
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        gso_type: gso_type | if first.flags & CWR == 0 { 0 } else { VnetHeader::GSO_ECN },
        // None of these is as long as a frame, and that fits 16 bits.
        header_len: payload_at as u16,
        gso_size: first.payload as u16,
        checksum_start: transport_at as u16,
        checksum_offset: transport.checksum_at() as u16,
    };
    let Some((before, body)) = frame.split_at_mut_checked(transport_at) else { return header };
    let Some(ip) = before.get_mut(ip_at..) else { return header };
    match version {
        Version::V4 => {
            put(ip, 2, (ip.len() + body.len()) as u16);
            put(ip, 10, 0);
            let checksum = !fold(sum(ip));
            put(ip, 10, checksum);
        }
        // Extension headers count as payload (RFC 8200 §3).
        Version::V6 => put(ip, 4, (ip.len() - 40 + body.len()) as u16),
    }
    if transport == Transport::Udp {
        put(body, 4, body.len() as u16);
    }
    let partial = fold(pseudo(ip, version, transport, body.len()));
    put(body, transport.checksum_at(), partial);
    header
}

#[cfg(test)]
mod tests {
    use super::super::Superframe;
    use super::super::split::tests::{Choice, Made, PLAIN, all, choice, made};
    use super::*;
    use proptest::prelude::*;

    /// Writes `frame` where it belongs if it follows, and says whether it does; if not, what was there is as before.
    fn take(merge: &mut Merge, frame: &[u8], segment: Segment) -> bool {
        let Some(space) = merge.space(frame.len()) else { return false };
        space[0] = 0xa5;
        space[1..].copy_from_slice(frame);
        assert_eq!(merge.opened(), frame);
        assert_eq!(&merge.opened_packet()[VnetHeader::LEN..], frame);
        // Whoever writes it from there to the device writes a virtio header before it.
        merge.opened_packet()[..VnetHeader::LEN].fill(0x5a);
        let is_kept = merge.keep(segment, false);
        if !is_kept {
            merge.withdraw();
        }
        is_kept
    }

    fn is_of_flow(merge: &Merge, frame: &[u8]) -> bool {
        Flow::of(frame).is_some_and(|flow| merge.is_of(flow))
    }

    #[test]
    fn each_message_of_dhcp_goes_alone() {
        for port in [67, 68, 546, 547, 4000u16] {
            let mut datagram = made(Choice { is_tcp: false, tcp_options: 0, ..PLAIN }, &[1; 300]);
            put(&mut datagram.frame[datagram.transport_at..], 2, port);
            let is_apart = Kind::of(&datagram.frame) == Kind::Apart;
            assert_eq!(is_apart, port != 4000, "{port}");
        }
    }

    #[test]
    fn options_tags_and_fragments_do_not_hide_a_flow() {
        for is_v6 in [false, true] {
            let with = |tags, ip_options| {
                let choice = Choice { is_tcp: false, tcp_options: 0, is_v6, tags, ip_options, ..PLAIN };
                let made = made(choice, &[7; 100]);
                all(&Superframe::new(&made.header, &made.frame).unwrap(), None).remove(0)
            };
            for tags in 0..3 {
                let mut merge = Merge::new();
                let first = with(tags, 0);
                let Kind::Data(segment) = Kind::of(&first) else { panic!("a datagram") };
                assert!(take(&mut merge, &first, segment));
                assert!(is_of_flow(&merge, &with(tags, 1)), "options, or an extension header");
                assert!(!is_of_flow(&merge, &with((tags + 1) % 3, 0)), "another VLAN");
                let mut other = with(tags, 0);
                for priority in other[12..].chunks_mut(4).take(tags) {
                    priority[2] |= 0xa0;
                }
                assert!(is_of_flow(&merge, &other), "another priority");
            }
        }
        let made = made(Choice { is_tcp: false, tcp_options: 0, ..PLAIN }, &[7; 100]);
        let first = all(&Superframe::new(&made.header, &made.frame).unwrap(), None).remove(0);
        let Kind::Data(segment) = Kind::of(&first) else { panic!("a datagram") };
        let mut merge = Merge::new();
        assert!(take(&mut merge, &first, segment));
        // Of a later fragment nobody knows the ports; of another protocol's everybody that it is none of these.
        let mut fragment = first;
        fragment[made.ip_at + 7] = 9;
        fragment[made.transport_at..].fill(0xff);
        assert!(is_of_flow(&merge, &fragment));
        fragment[made.ip_at + 9] = 6;
        assert!(!is_of_flow(&merge, &fragment));
        assert!(!is_of_flow(&merge, &[0; 60]));
    }

    #[test]
    fn a_sum_that_is_not_the_headers_goes_alone() {
        let whole = made(PLAIN, &[9; 3 * 1348]);
        let mut segments = Superframe::new(&whole.header, &whole.frame).unwrap().segments(None).partial();
        for change in [0, 1] {
            let mut frame = Vec::new();
            assert!(segments.next_into(&mut frame));
            let sum = get(&frame[whole.transport_at..], 16);
            put(&mut frame[whole.transport_at..], 16, sum ^ change);
            let Kind::Data(segment) = Kind::of(&frame) else { panic!("TCP with data") };
            let mut merge = Merge::new();
            merge.space(frame.len()).unwrap()[1..].copy_from_slice(&frame);
            assert_eq!(merge.keep(segment, true), change == 0);
        }
    }

    /// What was finished, in its order, of frames that come one behind the other: with the frames that are finished as they were.
    fn merged<'f>(frames: impl IntoIterator<Item = &'f Vec<u8>>) -> Vec<(VnetHeader, Vec<u8>)> {
        let mut merge = Merge::new();
        let mut done = Vec::new();
        let finish = |merge: &mut Merge, done: &mut Vec<(VnetHeader, Vec<u8>)>| {
            done.extend(merge.finish().map(|(header, packet)| (header, packet[VnetHeader::LEN..].to_vec())));
            assert!(merge.is_empty());
        };
        for frame in frames {
            let Kind::Data(segment) = Kind::of(frame) else {
                finish(&mut merge, &mut done);
                done.push((VnetHeader::COMPLETE, frame.clone()));
                continue;
            };
            if !take(&mut merge, frame, segment) {
                finish(&mut merge, &mut done);
                if !take(&mut merge, frame, segment) {
                    done.push((VnetHeader::COMPLETE, frame.clone()));
                }
            }
        }
        finish(&mut merge, &mut done);
        done
    }

    /// What the kernel would have seen without us.
    fn cut(done: &[(VnetHeader, Vec<u8>)]) -> Vec<Vec<u8>> {
        let frames = |(header, frame): &(VnetHeader, Vec<u8>)| match Superframe::new(header, frame) {
            Ok(superframe) => all(&superframe, None),
            Err(_) => vec![frame.clone()],
        };
        done.iter().flat_map(frames).collect()
    }

    fn segments(made: &Made) -> Vec<Vec<u8>> {
        all(&Superframe::new(&made.header, &made.frame).unwrap(), None)
    }

    /// Flags that data has: the acknowledgement, and what may come with it.
    const DATA: u8 = ACK | PSH | FIN | CWR | 0x40;

    proptest! {
        #[test]
        fn what_was_cut_is_whole_again(
            choice in choice(),
            payload in proptest::collection::vec(any::<u8>(), 1..9000),
        ) {
            let choice = Choice { flags: choice.flags & DATA | ACK, ..choice };
            let whole = made(choice, &payload);
            let done = merged(&segments(&whole));
            let parts = payload.len().div_ceil(usize::from(choice.size));
            prop_assert_eq!(done.len(), parts.div_ceil(usize::from(MOST)));
            if done.len() == 1 && parts > 1 {
                let ecn = if choice.is_tcp && choice.flags & CWR != 0 { VnetHeader::GSO_ECN } else { 0 };
                let header = VnetHeader { gso_type: whole.header.gso_type | ecn, ..whole.header };
                prop_assert_eq!(done[0].0, header);
                prop_assert_eq!(&done[0].1, &whole.frame);
            }
        }

        /// Whatever comes, and in whatever order, the kernel sees these frames and no others, each as it was, in this order.
        #[test]
        fn what_is_put_together_is_cut_into_the_same(
            flows in proptest::collection::vec((choice(), proptest::collection::vec(any::<u8>(), 1..4000)), 1..4),
            order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
            damage in proptest::option::of((any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), 1..=255u8)),
        ) {
            let mut all: Vec<Vec<u8>> = flows.iter().flat_map(|(choice, payload)| segments(&made(*choice, payload))).collect();
            all.truncate(200);
            for pair in order.chunks_exact(2) {
                let (a, b) = (pair[0].index(all.len()), pair[1].index(all.len()));
                all.swap(a, b);
            }
            if let Some((which, at, by)) = damage {
                let which = which.index(all.len());
                let at = at.index(all[which].len());
                all[which][at] ^= by;
            }
            let done = merged(&all);
            prop_assert_eq!(cut(&done), all);
        }

        #[test]
        fn any_bytes_are_looked_over(frame in proptest::collection::vec(any::<u8>(), 0..200), tcp: bool) {
            let mut frame = frame;
            if let Some(head) = frame.get_mut(12..24) {
                head[..3].copy_from_slice(&[8, 0, 0x45]);
                head[11] = if tcp { 6 } else { 17 };
            }
            let _ = Kind::of(&frame);
            prop_assert_eq!(cut(&merged([&frame, &frame])), vec![frame.clone(), frame]);
        }
    }

    #[test]
    fn what_differs_in_a_header_is_not_put_together() {
        let whole = made(PLAIN, &[7; 4000]);
        let parts = segments(&whole);
        assert_eq!(merged(&parts).len(), 1);
        let headers = whole.payload_at;
        // Every bit of every header of the second one, with the checksums made right again.
        for bit in 0..8 * headers {
            let mut changed = parts.clone();
            changed[1][bit / 8] ^= 1 << (bit % 8);
            right_checksums(&mut changed[1]);
            if changed[1] == parts[1] {
                continue;
            }
            let done = merged(&changed);
            assert_eq!(cut(&done), changed, "bit {bit}");
            // PSH and FIN end what is put together, CWR begins it; whatever else differs stays alone.
            let is_between = bit / 8 == whole.transport_at + 13 && (1 << (bit % 8)) & (PSH | FIN | CWR) != 0;
            assert_eq!(done.len(), if is_between { 2 } else { 3 }, "bit {bit}");
        }
    }

    /// Only where the frame is IPv4 and TCP still.
    fn right_checksums(frame: &mut [u8]) {
        let Some(headers) = Headers::of_complete(frame) else { return };
        let (before, body) = frame.split_at_mut(headers.transport_at);
        let ip = &mut before[headers.ip_at..];
        put(ip, 10, 0);
        let checksum = !fold(sum(ip));
        put(ip, 10, checksum);
        put(body, 16, 0);
        let checksum = !fold(pseudo(ip, headers.version, headers.transport, body.len()) + sum(body));
        put(body, 16, checksum);
    }

    #[test]
    fn a_damaged_frame_stays_alone_and_as_it_is() {
        let parts = segments(&made(PLAIN, &[7; 5000]));
        for at in [30, 60, 70, 1000] {
            let mut damaged = parts.clone();
            damaged[1][at] ^= 0x10;
            let done = merged(&damaged);
            assert!(done.contains(&(VnetHeader::COMPLETE, damaged[1].clone())), "{at}");
            assert_eq!(cut(&done), damaged, "{at}");
        }
    }

    #[test]
    fn a_flow_is_told_by_addresses_tags_and_ports() {
        let parts = segments(&made(Choice { tags: 1, ..PLAIN }, &[7; 3000]));
        let Kind::Data(segment) = Kind::of(&parts[0]) else { panic!("data") };
        let mut merge = Merge::new();
        assert!(!is_of_flow(&merge, &parts[1]));
        assert!(take(&mut merge, &parts[0], segment));
        assert!(is_of_flow(&merge, &parts[1]));
        for at in [0, 6, 15, 18 + 9, 18 + 12, 18 + 19, 18 + 20, 18 + 23] {
            let mut other = parts[1].clone();
            other[at] ^= 1;
            assert!(!is_of_flow(&merge, &other), "{at}");
        }
        let mut later = parts[1].clone();
        later[18 + 20 + 4] ^= 0xff;
        assert!(is_of_flow(&merge, &later), "another place in the same flow");
    }
}
