//! What a packet costs in the two halves of a session: nanoseconds per packet of 1,400 bytes of frame, on one core.
//!
//! `cargo run --release -p shadowmesh-proto --example session_cost`. Prints JSON; nothing is asserted.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement, printed; it stops at the first surprise"
)]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use shadowmesh_proto::crypto::aead::{AeadKey, Cipher, TAG_LEN};
use shadowmesh_proto::ids::ReceiverIndex;
use shadowmesh_proto::session::limits::POOL_BYTES;
use shadowmesh_proto::session::{
    AckMarks, ChunkPool, Fit, OpenHalf, OpenKey, PathSlot, RingLimits, SealHalf, SealKey,
};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FRAME: usize = 1_400;
const PACKETS: usize = 40_000;
const ROUNDS: usize = 7;

/// The median over the rounds of the nanoseconds that `work` takes per packet.
fn measure(mut work: impl FnMut() -> Duration) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| work().as_nanos() as f64 / PACKETS as f64).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn halves(cipher: Cipher) -> (SealHalf, OpenHalf, Arc<AckMarks>) {
    let (now, marks) = (Instant::now(), Arc::new(AckMarks::new()));
    let mut seal = SealHalf::new(RingLimits::default(), ChunkPool::new(POOL_BYTES), marks.clone());
    let later = now + Duration::from_secs(600);
    seal.install(now, SealKey::new(cipher, &[7; 32], ReceiverIndex(1), now, later));
    let mut open = OpenHalf::new();
    open.install(OpenKey::new(cipher, &[7; 32], ReceiverIndex(1)));
    (seal, open, marks)
}

fn main() {
    let now = Instant::now();
    let path = PathSlot::FIRST;
    let plaintext = [0; FRAME + 1];
    for cipher in [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm] {
        let key = AeadKey::new(cipher, &[7; 32]);
        let mut out = [0; FRAME + 1 + TAG_LEN];
        let bare = measure(|| {
            timed(|| {
                for counter in 0..PACKETS as u64 {
                    key.seal_to(counter, &[0; 16], black_box(&plaintext), &mut out).unwrap();
                }
            })
        });
        let sealed = |acknowledge: bool, how: fn(&mut SealHalf, Instant, &[u8])| {
            let (mut seal, _, marks) = halves(cipher);
            measure(|| {
                timed(|| {
                    for number in 0..PACKETS {
                        how(&mut seal, now, black_box(&plaintext));
                        if acknowledge && number % 64 == 63 {
                            marks.record(&[], seal.next_counter());
                            seal.apply_acks();
                        }
                    }
                })
            })
        };
        let prefixed = |seal: &mut SealHalf, now: Instant, text: &[u8]| {
            black_box(seal.seal_prefixed(now, PathSlot::FIRST, text).unwrap());
        };
        let copied = |seal: &mut SealHalf, now: Instant, text: &[u8]| {
            black_box(seal.seal(now, PathSlot::FIRST, 0, &text[1..]).unwrap());
        };
        let (mut seal, _, marks) = halves(cipher);
        let runs = measure(|| {
            timed(|| {
                let mut packets = 0;
                while packets < PACKETS {
                    let mut run = seal.run(now, path, 65_535).unwrap();
                    while run.push_prefixed(black_box(&plaintext)).unwrap() == Fit::Taken {}
                    let run = run.finish();
                    packets += run.packets;
                    marks.record(&[], run.first + run.packets as u64);
                    seal.apply_acks();
                }
            })
        });
        let (mut seal, mut open, _) = halves(cipher);
        let opened = measure(|| {
            let packets: Vec<Vec<u8>> = (0..PACKETS)
                .map(|_| seal.seal_prefixed(now, path, &plaintext).unwrap().packet.to_vec())
                .collect();
            let mut out = vec![0; plaintext.len()];
            timed(|| {
                for packet in &packets {
                    black_box(open.open(now, path, packet, &mut out).unwrap());
                    if open.ack_due_at() == Some(now) {
                        black_box(open.report());
                    }
                }
            })
        });
        println!(
            "{{\"cipher\": \"{}\", \"frame_bytes\": {FRAME}, \"ns_per_packet\": {{\"cipher_alone\": {bare:.0}, \
             \"seal_prefixed\": {:.0}, \"seal_prefixed_never_acknowledged\": {:.0}, \"seal_copying\": {:.0}, \
             \"seal_in_runs\": {runs:.0}, \"open\": {opened:.0}}}}}",
            cipher.name(),
            sealed(true, prefixed),
            sealed(false, prefixed),
            sealed(true, copied),
        );
    }
}
