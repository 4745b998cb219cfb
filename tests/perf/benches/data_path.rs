//! What each stage of the data path costs, by itself and in memory: `cargo bench -p shadowmesh-perf`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shadowmesh::device::VnetHeader;
use shadowmesh::device::offload::{Cutting, Kind, Merge, Superframe};
use shadowmesh::switch::{Directory, Forwarder, Learn, Limits, News, Record, Station, Verdict};
use shadowmesh_perf::hot_path::{HotPath, SEGMENTS, superframe};
use shadowmesh_proto::crypto::aead::Cipher;
use shadowmesh_proto::ids::{MacAddr, PeerSlot, ReceiverIndex};
use shadowmesh_proto::session::limits::{DATA_WINDOW, POOL_BYTES};
use shadowmesh_proto::session::{
    AckMarks, ChunkPool, Freshness, OpenHalf, OpenKey, PathSlot, ReplayWindow, RingLimits, SealHalf, SealKey,
};

const CIPHERS: [(&str, Cipher); 2] = [("chacha", Cipher::ChaCha20Poly1305), ("aes", Cipher::Aes256Gcm)];
/// Bytes of frames: the smallest, and the largest at our MTU.
const FRAMES: [usize; 2] = [60, 1_414];
const KEY: [u8; 32] = [7; 32];

fn halves(cipher: Cipher) -> (Instant, SealHalf, OpenHalf, Arc<AckMarks>) {
    let now = Instant::now();
    let marks = Arc::new(AckMarks::new());
    let mut seal = SealHalf::new(RingLimits::default(), ChunkPool::new(POOL_BYTES), marks.clone());
    let later = now + Duration::from_secs(3_600);
    seal.install(now, SealKey::new(cipher, &KEY, ReceiverIndex(1), now, later));
    let mut open = OpenHalf::new();
    open.install(OpenKey::new(cipher, &KEY, ReceiverIndex(1)));
    (now, seal, open, marks)
}

/// A packet into the ring; the peer acknowledges each.
fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal");
    for (name, cipher) in CIPHERS {
        for frame in FRAMES {
            let (now, mut seal, _, marks) = halves(cipher);
            let plaintext = vec![0; 1 + frame];
            group.throughput(Throughput::Bytes(frame as u64));
            group.bench_function(format!("{name}/{frame}"), |bencher| {
                bencher.iter(|| {
                    let counter = seal
                        .seal_prefixed(now, PathSlot::FIRST, black_box(&plaintext))
                        .expect("sealed")
                        .counter;
                    marks.record(&[], counter + 1);
                    seal.apply_acks();
                });
            });
        }
    }
}

/// A packet out of the socket's buffer, with its place in the window and in the next acknowledgement.
fn open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    for (name, cipher) in CIPHERS {
        for frame in FRAMES {
            group.throughput(Throughput::Bytes(frame as u64));
            group.bench_function(format!("{name}/{frame}"), |bencher| {
                bencher.iter_custom(|times| {
                    let (now, mut seal, mut open, marks) = halves(cipher);
                    let plaintext = vec![0; 1 + frame];
                    let mut out = vec![0; 1 + frame];
                    let mut spent = Duration::ZERO;
                    let mut left = times;
                    while left > 0 {
                        // A window of them at most, sealed outside of what is timed.
                        let now_many = left.min(1_000);
                        let packets: Vec<Vec<u8>> = (0..now_many)
                            .map(|_| {
                                let sealed =
                                    seal.seal_prefixed(now, PathSlot::FIRST, &plaintext).expect("sealed");
                                marks.record(&[], sealed.counter + 1);
                                sealed.packet.to_vec()
                            })
                            .collect();
                        seal.apply_acks();
                        let began = Instant::now();
                        for packet in &packets {
                            black_box(open.open(now, PathSlot::FIRST, packet, &mut out).expect("opened"));
                            if open.ack_due_at() == Some(now) {
                                black_box(open.report());
                            }
                        }
                        spent += began.elapsed();
                        left -= now_many;
                    }
                    spent
                });
            });
        }
    }
}

fn replay_window(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay window");
    group.bench_function("in order", |bencher| {
        let (mut window, mut counter) = (ReplayWindow::<DATA_WINDOW>::new(), 0);
        bencher.iter(|| {
            counter += 1;
            let fresh = window.check(black_box(counter)) == Freshness::Fresh;
            window.mark(counter);
            fresh
        });
    });
    group.bench_function("a replay", |bencher| {
        let mut window = ReplayWindow::<DATA_WINDOW>::new();
        (0..10_000).for_each(|counter| window.mark(counter));
        bencher.iter(|| window.check(black_box(5_000)));
    });
}

const LOCAL: MacAddr = MacAddr([2, 0, 0, 0, 0xff, 0xff]);

const fn mac(number: u16) -> MacAddr {
    let [high, low] = number.to_be_bytes();
    MacAddr([2, 0, 0, 0, high, low])
}

fn switch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("switch");
    for members in [2, 100] {
        let now = Instant::now();
        let mut directory = Directory::new(LOCAL);
        for n in 1..=members {
            let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a07_0000 + u32::from(n)));
            let record = Record::new(mac(n)).with_addresses(&[address]);
            directory.admit(PeerSlot(u32::from(n)), record).expect("a MAC of its own");
        }
        let mut forwarder = Forwarder::new(Limits::default(), [7; 32]);
        let learned = mac(0x1000);
        let station = Station { mac: learned, vlan: 0 };
        forwarder.handle_news(
            &directory,
            News::Station(Learn { station, slot: PeerSlot(1), was_local: false }),
            now,
        );
        let to = |destination: MacAddr| [&destination.0[..], &LOCAL.0, &[0x08, 0], &[0; 46]].concat();
        let slot = PeerSlot(u32::from(members));
        for (what, frame, expected) in
            [("to a member", to(mac(members)), slot), ("to a station behind one", to(learned), PeerSlot(1))]
        {
            assert_eq!(forwarder.forward(&directory, &frame, now), Verdict::Unicast(expected));
            group.bench_function(format!("{what} of {members}"), |bencher| {
                bencher.iter(|| forwarder.forward(&directory, black_box(&frame), now));
            });
        }
    }
}

/// A superframe of 64 KiB into its segments.
fn split(criterion: &mut Criterion) {
    let (header, frame) = superframe();
    let mut group = criterion.benchmark_group("split");
    group.throughput(Throughput::Elements(SEGMENTS as u64));
    group.bench_function("where it lies, checksums left out", |bencher| {
        let mut room = [&[0], &frame[..]].concat();
        // What is cut is gone: the headers of each segment lie over the one before. The data is never looked at, so it is cut once more.
        let mut head = [0; 128];
        head.copy_from_slice(&room[..128]);
        bencher.iter(|| {
            room[..128].copy_from_slice(&head);
            let mut cutting = Cutting::new(&header, &mut room, None).expect("a superframe");
            while let Some(segment) = cutting.front() {
                black_box(segment);
                cutting.advance();
            }
        });
    });
    group.bench_function("into a buffer, with checksums", |bencher| {
        let mut out = Vec::with_capacity(2 * frame.len());
        bencher.iter(|| {
            out.clear();
            let mut segments = Superframe::new(&header, &frame).expect("a superframe").segments(None);
            while segments.next_into(&mut out) {}
            black_box(&out);
        });
    });
}

/// Segments into the superframe that they are of; the copy stands for the cipher's.
fn merge(criterion: &mut Criterion) {
    let (header, frame) = superframe();
    let mut group = criterion.benchmark_group("merge");
    group.throughput(Throughput::Elements(SEGMENTS as u64));
    for (name, is_partial) in [("checksums left out", true), ("with checksums", false)] {
        let cut = Superframe::new(&header, &frame).expect("a superframe");
        let mut rest = if is_partial { cut.segments(None).partial() } else { cut.segments(None) };
        let segments: Vec<Vec<u8>> = std::iter::from_fn(|| {
            let mut out = Vec::new();
            rest.next_into(&mut out).then_some(out)
        })
        .collect();
        assert_eq!(segments.len(), SEGMENTS);
        let mut merge = Merge::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for segment in &segments {
                    let space = merge.space(segment.len()).expect("space for a segment");
                    space[1..].copy_from_slice(segment);
                    let Kind::Data(kind) = Kind::of(merge.opened()) else {
                        unreachable!("segments hold data")
                    };
                    assert!(merge.keep(kind, is_partial));
                }
                let (header, packet) = merge.finish().expect("it is not empty");
                assert_eq!(header.gso_type, VnetHeader::GSO_TCP_V4);
                black_box(packet);
            });
        });
    }
}

/// All of it: cut, sealed, opened, merged.
fn hot_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("superframe");
    for (name, cipher) in CIPHERS {
        let mut path = HotPath::new(cipher);
        group.throughput(Throughput::Elements(SEGMENTS as u64));
        group.bench_function(format!("{name}, cut and sealed"), |bencher| bencher.iter(|| path.outward()));
        group.bench_function(format!("{name}, there and back"), |bencher| {
            bencher.iter(|| path.there_and_back());
        });
    }
}

criterion_group!(benches, seal, open, replay_window, switch, split, merge, hot_path);
criterion_main!(benches);
