//! Acknowledgements between two real threads: none is torn, and none is made up.

use crate::fixtures::{epoch, path, seal_key};
use shadowmesh_proto::crypto::aead::Cipher;
use shadowmesh_proto::session::limits::POOL_BYTES;
use shadowmesh_proto::session::{AckMarks, ChunkPool, RingLimits, SealHalf};
use shadowmesh_proto::wire::control::PathAck;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The writer alternates between two kinds of entries. One acknowledges even counters. The other says nothing, since its
/// `highest` was never sent, but its bitmap would release odd counters if it were ever read beside the first kind's.
#[test]
fn a_reader_beside_a_writer_sees_no_torn_entry() {
    const PACKETS: u64 = 20_000;
    const EVEN: [u64; 4] = [0xaaaa_aaaa_aaaa_aaaa; 4];
    const ODD: [u64; 4] = [0x5555_5555_5555_5555; 4];

    let marks = Arc::new(AckMarks::new());
    let mut seal = SealHalf::new(RingLimits::default(), ChunkPool::new(POOL_BYTES), marks.clone());
    seal.install(epoch(), seal_key(Cipher::ChaCha20Poly1305));
    for counter in 0..PACKETS {
        // All on path 1, so that acknowledgements of path 0 release by bit alone.
        assert_eq!(seal.seal(epoch(), path(1), 0, b"").map(|sealed| sealed.counter), Ok(counter));
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..30 {
                for counter in (0..PACKETS).step_by(2) {
                    let telling = PathAck { path: 0, highest: counter, bitmap: EVEN };
                    let silent = PathAck { path: 0, highest: PACKETS, bitmap: ODD };
                    // Three to a turn, so that either kind is written over the other.
                    marks.record(&[telling, silent, silent], 0);
                }
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            seal.apply_acks();
        }
    });
    // The writer is done: whatever the reader missed is said once more.
    for counter in (0..PACKETS).step_by(2) {
        marks.record(&[PathAck { path: 0, highest: counter, bitmap: EVEN }], 0);
        seal.apply_acks();
    }
    let left: Vec<u64> =
        seal.resend(epoch(), path(1), path(1), 0..u64::MAX).map(|sealed| sealed.counter).collect();
    assert_eq!(left, (1..PACKETS).step_by(2).collect::<Vec<_>>());
    assert_eq!(marks.highest(path(1)), None);
}

#[test]
fn marks_only_grow_and_unknown_paths_are_ignored() {
    let marks = AckMarks::new();
    assert_eq!((marks.highest(path(2)), marks.floor()), (None, 0));
    let ack = |path, highest| PathAck { path, highest, bitmap: [0; 4] };
    marks.record(&[ack(2, 10), ack(2, 4), ack(4, 99), ack(255, 99)], 7);
    marks.record(&[], 3);
    assert_eq!((marks.highest(path(2)), marks.floor()), (Some(10), 7));
    marks.record(&[ack(2, u64::MAX)], u64::MAX);
    assert_eq!((marks.highest(path(2)), marks.floor()), (Some(u64::MAX - 1), u64::MAX));
}
