//! The packet path allocates nothing: a counting allocator under 100,000 packets sealed, acknowledged and opened.
//!
//! Only Rust's allocations are seen. aws-lc's own happen when a key is made, not when it is used.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use shadowmesh_proto::crypto::aead::Cipher;
use shadowmesh_proto::ids::ReceiverIndex;
use shadowmesh_proto::session::limits::{CHUNK_BYTES, POOL_BYTES, RING_BYTES};
use shadowmesh_proto::session::{
    AckMarks, ChunkPool, Fit, OpenError, OpenHalf, OpenKey, PathSlot, RingLimits, SealHalf, SealKey,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // A thread that is going away has no counter any more, and no test either.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every method passes its arguments on to `System` unchanged, which upholds the contract; counting touches only a
// thread-local `Cell` without a destructor, and so neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises about `layout` are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from `System` with this `layout`, since all of ours does.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `memory` came from `System` with this `layout`; the caller vouches for `size`.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises about `layout` are those `System` asks for.
        unsafe { System.alloc_zeroed(layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while `work` runs.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

struct Session {
    now: Instant,
    marks: Arc<AckMarks>,
    seal: SealHalf,
    open: OpenHalf,
    packet: Vec<u8>,
    out: Vec<u8>,
}

const FRAME: [u8; 1_401] = [0; 1_401];

impl Session {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
    fn new(cipher: Cipher) -> Self {
        let now = Instant::now();
        let marks = Arc::new(AckMarks::new());
        let mut seal = SealHalf::new(RingLimits::default(), ChunkPool::new(POOL_BYTES), marks.clone());
        let later = now + Duration::from_secs(180);
        seal.install(now, SealKey::new(cipher, &[7; 32], ReceiverIndex(1), now, later));
        let mut open = OpenHalf::new();
        open.install(OpenKey::new(cipher, &[7; 32], ReceiverIndex(1)));
        Self { now, marks, seal, open, packet: vec![0; 2_000], out: vec![0; 2_000] }
    }

    fn pass(&mut self, packets: usize) {
        for number in 0..packets {
            self.seal.apply_acks();
            let sealed = if number % 2 == 0 {
                self.seal.seal(self.now, PathSlot::FIRST, 0, &FRAME[1..]).unwrap()
            } else {
                self.seal.seal_prefixed(self.now, PathSlot::FIRST, &FRAME).unwrap()
            };
            let packet = &mut self.packet[..sealed.packet.len()];
            packet.copy_from_slice(sealed.packet);
            let out = &mut self.out[..OpenHalf::plaintext_len(packet)];
            let opened = self.open.open(self.now, PathSlot::FIRST, packet, out).unwrap();
            assert_eq!(opened.frame.len(), 1_400);
            if self.open.ack_due_at() == Some(self.now) {
                let report = self.open.report();
                self.marks.record(report.paths(), report.floor());
            }
        }
    }
}

#[test]
fn packets_allocate_nothing() {
    for cipher in [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm] {
        let mut session = Session::new(cipher);
        // Until it has the memory for what is acknowledged at a time.
        session.pass(10_000);
        assert_eq!(allocations(|| session.pass(100_000)), 0, "{cipher:?}");
    }
}

#[test]
fn runs_allocate_nothing() {
    let mut session = Session::new(Cipher::Aes256Gcm);
    let mut pass = |rounds: u64| {
        for _ in 0..rounds {
            let mut run = session.seal.run(session.now, PathSlot::FIRST, 64 * 1_434).unwrap();
            while run.push_prefixed(&FRAME).unwrap() == Fit::Taken {}
            let run = run.finish();
            assert_eq!(run.packets, 65_507 / 1_433);
            session.marks.record(&[], run.first + run.packets as u64);
            session.seal.apply_acks();
        }
    };
    pass(100);
    assert_eq!(allocations(|| pass(1_000)), 0);
}

#[test]
fn packets_that_are_dropped_allocate_nothing() {
    let mut session = Session::new(Cipher::ChaCha20Poly1305);
    let sealed = session.seal.seal(session.now, PathSlot::FIRST, 0, &FRAME[1..]).unwrap().packet.to_vec();
    let mut packet = sealed.clone();
    let mut out = vec![0; OpenHalf::plaintext_len(&packet)];
    session.open.open(session.now, PathSlot::FIRST, &packet, &mut out).unwrap();
    let mut drop_one = |damage: usize, expected: OpenError| {
        packet.copy_from_slice(&sealed);
        packet[damage] ^= 1;
        let refused = session.open.open(session.now, PathSlot::FIRST, &packet, &mut out);
        assert_eq!(refused.unwrap_err(), expected);
    };
    let mut drop_each = || {
        for _ in 0..1_000 {
            drop_one(0, OpenError::Malformed);
            drop_one(1, OpenError::NonZeroReserved);
            drop_one(4, OpenError::UnknownIndex);
            drop_one(12, OpenError::Forged);
        }
    };
    drop_each();
    assert_eq!(allocations(drop_each), 0);
}

/// Without acknowledgements the ring grows a chunk at a time, and a full one reuses what it has.
#[test]
fn a_ring_that_grows_allocates_chunks_only() {
    let mut session = Session::new(Cipher::Aes256Gcm);
    let per_chunk = CHUNK_BYTES / 1_433;
    let chunks = RING_BYTES / CHUNK_BYTES + 2;
    let mut seal = |packets: usize| {
        for _ in 0..packets {
            session.seal.seal_prefixed(session.now, PathSlot::FIRST, &FRAME).unwrap();
        }
    };
    // Besides the chunks: the queues double a few times.
    let growing = allocations(|| seal(per_chunk * chunks));
    assert!(growing <= chunks + 20, "{growing}");
    seal(70_000);
    let full = allocations(|| seal(100_000));
    assert!(full <= 100_000 / per_chunk, "{full}: a chunk at most is exchanged with the pool");
}
