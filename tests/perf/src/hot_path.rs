//! A bulk transfer's way through the product without a kernel at its ends: what a superframe costs us.
//!
//! - outward: cut where it lies, sealed into the ring, in runs as one call of UDP GSO takes them ([`HotPath::outward`]);
//! - inward: each packet opened from there to where its frame is wanted, put together with those before it ([`HotPath::there_and_back`]).
//!
//! Acknowledgements come as a peer's would, so the ring neither fills nor is given up. Nothing else is here: no switch, no access rules, no
//! socket, no device. Those are measured one by one (`benches/data_path.rs`), and all of it together by `scripts/bench`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shadowmesh::device::VnetHeader;
use shadowmesh::device::offload::{Cutting, Kind, Merge};
use shadowmesh_proto::crypto::aead::Cipher;
use shadowmesh_proto::ids::ReceiverIndex;
use shadowmesh_proto::session::limits::POOL_BYTES;
use shadowmesh_proto::session::open::META_NEEDS_CHECKSUM;
use shadowmesh_proto::session::{
    AckMarks, ChunkPool, Fit, OpenHalf, OpenKey, PathSlot, RingLimits, SealHalf, SealKey,
};
use shadowmesh_proto::wire::header::DATA_OVERHEAD;

/// Bytes of data in each TCP segment at our MTU of 1,400: without the headers of IPv4 and of TCP with timestamps.
pub const SEGMENT: usize = 1_400 - 20 - 32;
/// Segments of a superframe: as many as fit its length field.
pub const SEGMENTS: usize = (65_535 - 20 - 32) / SEGMENT;

const MAC_BYTES: usize = 14;
const HEADERS: usize = MAC_BYTES + 20 + 32;

/// A TCP superframe over IPv4 as the kernel hands it over: its virtio header, and the frame with its checksum left out.
#[must_use]
pub fn superframe() -> (VnetHeader, Vec<u8>) {
    let payload = SEGMENT * SEGMENTS;
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45, 0];
    frame.extend(((20 + 32 + payload) as u16).to_be_bytes());
    // Identification, DF, TTL, TCP, no checksum yet, 10.7.0.1 to 10.7.0.2.
    frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 7, 0, 1, 10, 7, 0, 2]);
    let checksum = !sum(&frame[MAC_BYTES..]);
    frame[MAC_BYTES + 10..MAC_BYTES + 12].copy_from_slice(&checksum.to_be_bytes());
    // Ports, sequence and acknowledgement; eight words, ACK, window.
    frame.extend([0x9c, 0x40, 0x14, 0x51, 0, 0, 1, 0, 0, 0, 2, 0, 0x80, 0x10, 1, 0, 0, 0, 0, 0]);
    // Two of no operation, timestamps (RFC 7323 §3.2).
    frame.extend([1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6]);
    let pseudo =
        [&frame[MAC_BYTES + 12..MAC_BYTES + 20], &[0, 6], &((32 + payload) as u16).to_be_bytes()].concat();
    let partial = sum(&pseudo);
    frame[MAC_BYTES + 20 + 16..MAC_BYTES + 20 + 18].copy_from_slice(&partial.to_be_bytes());
    frame.extend((0..payload).map(|at| at as u8));
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        gso_type: VnetHeader::GSO_TCP_V4,
        header_len: HEADERS as u16,
        gso_size: SEGMENT as u16,
        checksum_start: (MAC_BYTES + 20) as u16,
        checksum_offset: 16,
    };
    (header, frame)
}

/// The one's-complement sum of an even number of bytes (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Both ends of a session.
#[derive(Debug)]
pub struct HotPath {
    sender: Sender,
    receiver: Receiver,
}

/// What became of a superframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// Packets that it was sealed in.
    pub packets: usize,
    /// Bytes of frames that the device at the other end was given.
    pub bytes: usize,
    /// By so many writes.
    pub writes: usize,
}

impl HotPath {
    /// A session with `cipher` on which nothing has passed.
    #[must_use]
    pub fn new(cipher: Cipher) -> Self {
        let now = Instant::now();
        Self { sender: Sender::new(cipher, now), receiver: Receiver::new(cipher, now) }
    }

    /// One superframe into packets.
    pub fn outward(&mut self) -> Passed {
        Passed { packets: self.sender.send(|_, _| ()), ..Passed::default() }
    }

    /// One superframe into packets and out of them, to the device.
    pub fn there_and_back(&mut self) -> Passed {
        let Self { sender, receiver } = self;
        let packets = sender.send(|run, segment| receiver.receive(run, segment));
        receiver.rest();
        let (bytes, writes) = std::mem::take(&mut receiver.written);
        Passed { packets, bytes, writes }
    }
}

#[derive(Debug)]
struct Sender {
    now: Instant,
    header: VnetHeader,
    /// Its headers before it was cut.
    head: [u8; HEADERS],
    /// A byte for the metadata, and the frame where it is cut.
    room: Vec<u8>,
    half: SealHalf,
    marks: Arc<AckMarks>,
}

const KEY: [u8; 32] = [7; 32];
const INDEX: ReceiverIndex = ReceiverIndex(1);

impl Sender {
    fn new(cipher: Cipher, now: Instant) -> Self {
        let marks = Arc::new(AckMarks::new());
        let mut half = SealHalf::new(RingLimits::default(), ChunkPool::new(POOL_BYTES), marks.clone());
        half.install(now, SealKey::new(cipher, &KEY, INDEX, now, now + Duration::from_secs(600)));
        let (header, frame) = superframe();
        let head = *frame.first_chunk().expect("a frame has its headers");
        Self { now, header, head, room: [&[0], &frame[..]].concat(), half, marks }
    }

    /// Seals the superframe and gives each run of packets, and how long each packet of it is, to `run`; how many packets there were.
    fn send(&mut self, mut sent: impl FnMut(&[u8], usize)) -> usize {
        let Self { now, header, head, room, half, marks } = self;
        // Of what was cut before, headers lie over the ends of the data, which nobody looks at; only the first are needed again.
        room[1..=HEADERS].copy_from_slice(head);
        let mut cutting = Cutting::new(header, room, None).expect("a superframe that can be cut");
        let mut packets = 0;
        while cutting.count() > 0 {
            let expected = cutting.count() * (cutting.longest() + DATA_OVERHEAD);
            let mut run = half.run(*now, PathSlot::FIRST, expected).expect("a key that seals");
            while let Some(plaintext) = cutting.front() {
                plaintext[0] = META_NEEDS_CHECKSUM;
                if run.push_prefixed(plaintext) != Ok(Fit::Taken) {
                    break;
                }
                cutting.advance();
            }
            let run = run.finish();
            assert!(run.packets > 0, "a packet does not fit an empty run");
            packets += run.packets;
            sent(run.bytes, run.segment);
            marks.record(&[], run.first + run.packets as u64);
        }
        half.apply_acks();
        packets
    }
}

#[derive(Debug)]
struct Receiver {
    now: Instant,
    half: OpenHalf,
    merge: Merge,
    /// Bytes of frames to the device, and writes.
    written: (usize, usize),
    /// The last of them, for tests.
    #[cfg(test)]
    last: Option<(VnetHeader, Vec<u8>)>,
}

impl Receiver {
    fn new(cipher: Cipher, now: Instant) -> Self {
        let mut half = OpenHalf::new();
        half.install(OpenKey::new(cipher, &KEY, INDEX));
        Self {
            now,
            half,
            merge: Merge::new(),
            written: (0, 0),
            #[cfg(test)]
            last: None,
        }
    }

    fn receive(&mut self, run: &[u8], segment: usize) {
        for packet in run.chunks(segment) {
            let frame = OpenHalf::plaintext_len(packet) - 1;
            if self.merge.space(frame).is_none() {
                self.write();
            }
            let space = self.merge.space(frame).expect("an empty merge has space");
            self.half.open(self.now, PathSlot::FIRST, packet, space).expect("a packet that opens");
            let Kind::Data(segment) = Kind::of(self.merge.opened()) else { unreachable!("data was sealed") };
            assert!(self.merge.keep(segment, true), "segments follow each other");
            if self.merge.is_ended() {
                self.write();
            }
        }
    }

    /// There is nothing more to open: what waits goes to the device, and an acknowledgement out.
    fn rest(&mut self) {
        self.write();
        if self.half.ack_due_at().is_some() {
            black_box(self.half.report());
        }
    }

    fn write(&mut self) {
        let Some((header, packet)) = self.merge.finish() else { return };
        let frame = &black_box(packet)[VnetHeader::LEN..];
        self.written.0 += frame.len();
        self.written.1 += 1;
        #[cfg(test)]
        {
            self.last = Some((header, frame.to_vec()));
        }
        black_box(header);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIPHERS: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];

    #[test]
    fn a_superframe_is_one_again() {
        for cipher in CIPHERS {
            let mut path = HotPath::new(cipher);
            let one = Passed { packets: SEGMENTS, bytes: HEADERS + SEGMENTS * SEGMENT, writes: 1 };
            for _ in 0..100 {
                assert_eq!(path.there_and_back(), one);
            }
            assert_eq!(path.outward(), Passed { packets: SEGMENTS, ..Passed::default() });
        }
    }

    #[test]
    fn what_comes_out_is_what_went_in() {
        for cipher in CIPHERS {
            let mut path = HotPath::new(cipher);
            path.there_and_back();
            let (header, frame) = path.receiver.last.unwrap();
            let (expected, whole) = superframe();
            assert_eq!(header, expected);
            assert!(frame == whole, "the superframe is not what it was");
        }
    }
}
