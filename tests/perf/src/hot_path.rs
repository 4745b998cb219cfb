//! A bulk transfer's way through the product without a kernel at its ends: what a superframe costs us.
//!
//! - outward: cut where it lies, sealed into the ring, in runs as one call of UDP GSO takes them ([`HotPath::outward`]);
//! - inward: each packet opened to where its frame is wanted, put together with those before it ([`HotPath::inward`]).
//!
//! Acknowledgements come as a peer's would, so the ring neither fills nor is given up. Nothing else is here: no switch, no access rules, no
//! socket, no device. Those are measured one by one (`benches/data_path.rs`), and all of it together by `scripts/bench`.

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

/// Both ends of a session, and what lies between.
#[derive(Debug)]
pub struct HotPath {
    now: Instant,
    header: VnetHeader,
    frame: Vec<u8>,
    /// A byte for the metadata, and the frame while it is cut.
    room: Vec<u8>,
    seal: SealHalf,
    marks: Arc<AckMarks>,
    /// What is under way: sealed packets, and how long each is.
    wire: Vec<u8>,
    runs: Vec<(usize, usize)>,
    open: OpenHalf,
    merge: Merge,
}

impl HotPath {
    /// A session with `cipher` on which nothing has passed.
    #[must_use]
    pub fn new(cipher: Cipher) -> Self {
        let now = Instant::now();
        let key = [7; 32];
        let marks = Arc::new(AckMarks::new());
        let mut seal = SealHalf::new(RingLimits::default(), ChunkPool::new(POOL_BYTES), marks.clone());
        seal.install(now, SealKey::new(cipher, &key, ReceiverIndex(1), now, now + Duration::from_secs(600)));
        let mut open = OpenHalf::new();
        open.install(OpenKey::new(cipher, &key, ReceiverIndex(1)));
        let (header, frame) = superframe();
        let room = vec![0; 1 + frame.len()];
        let (wire, runs) = (Vec::with_capacity(2 * frame.len()), Vec::new());
        Self { now, header, frame, room, seal, marks, wire, runs, open, merge: Merge::new() }
    }

    /// One superframe onto the wire; how many packets it became.
    ///
    /// The copy into the room stands for the kernel's into the buffer that was read into; that onto the wire for the kernel's out of the ring.
    pub fn outward(&mut self) -> usize {
        let Self { now, header, frame, room, seal, marks, wire, runs, .. } = self;
        room[1..].copy_from_slice(frame);
        let mut cutting = Cutting::new(header, room, None).expect("a superframe that can be cut");
        wire.clear();
        runs.clear();
        let mut packets = 0;
        while cutting.count() > 0 {
            let expected = cutting.count() * (cutting.longest() + DATA_OVERHEAD);
            let mut run = seal.run(*now, PathSlot::FIRST, expected).expect("a key that seals");
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
            wire.extend_from_slice(run.bytes);
            runs.push((run.bytes.len(), run.segment));
            marks.record(&[], run.first + run.packets as u64);
        }
        seal.apply_acks();
        packets
    }

    /// What is on the wire to the device; the bytes of frames that it was given, by how many writes.
    pub fn inward(&mut self) -> (usize, usize) {
        let Self { now, wire, runs, open, merge, .. } = self;
        let (mut bytes, mut writes, mut at) = (0, 0, 0);
        let mut write = |merge: &mut Merge| {
            if let Some((_, packet)) = merge.finish() {
                bytes += std::hint::black_box(packet).len() - VnetHeader::LEN;
                writes += 1;
            }
        };
        for (length, segment) in runs.drain(..) {
            for packet in wire[at..at + length].chunks(segment) {
                let frame = OpenHalf::plaintext_len(packet) - 1;
                if merge.space(frame).is_none() {
                    write(merge);
                }
                let space = merge.space(frame).expect("an empty merge has space");
                open.open(*now, PathSlot::FIRST, packet, space).expect("a packet that opens");
                let Kind::Data(segment) = Kind::of(merge.opened()) else { unreachable!("data was sealed") };
                assert!(merge.keep(segment, true), "segments follow each other");
                if merge.is_ended() {
                    write(merge);
                }
            }
            at += length;
        }
        write(merge);
        if open.ack_due_at().is_some() {
            std::hint::black_box(open.report());
        }
        (bytes, writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for cipher in [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm] {
            let mut path = HotPath::new(cipher);
            for _ in 0..100 {
                assert_eq!(path.outward(), SEGMENTS);
                // One superframe again, which the device is given at once.
                assert_eq!(path.inward(), (HEADERS + SEGMENTS * SEGMENT, 1));
            }
        }
    }

    #[test]
    fn the_frame_at_the_end_is_the_one_at_the_beginning() {
        let mut path = HotPath::new(Cipher::Aes256Gcm);
        path.outward();
        let (mut merge, mut out) = (Merge::new(), Vec::new());
        let mut at = 0;
        for (length, segment) in path.runs.clone() {
            for packet in path.wire[at..at + length].chunks(segment) {
                let space = merge.space(OpenHalf::plaintext_len(packet) - 1).unwrap();
                path.open.open(path.now, PathSlot::FIRST, packet, space).unwrap();
                let Kind::Data(segment) = Kind::of(merge.opened()) else { panic!("no data") };
                assert!(merge.keep(segment, true));
            }
            at += length;
        }
        let (header, packet) = merge.finish().unwrap();
        out.extend_from_slice(&packet[VnetHeader::LEN..]);
        assert_eq!(header, path.header);
        assert!(out == path.frame, "the superframe is not what it was");
    }
}
