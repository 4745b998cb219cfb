//! Rekeys lose nothing: whatever the order of seals, rekeys, loss, reordering and duplication, every frame that the network
//! did not lose is delivered exactly once.

use crate::fixtures::{
    CIPHERS, epoch, frame, generation_open, generation_seal, number, path, room, seal_half,
};
use proptest::prelude::*;
use shadowmesh_proto::crypto::aead::Cipher;
use shadowmesh_proto::ids::ReceiverIndex;
use shadowmesh_proto::session::limits::RETIRED_KEY_LIFE;
use shadowmesh_proto::session::{OpenError, OpenHalf, RingLimits, SealHalf};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
enum Step {
    /// Frames are sealed and put on the network.
    Seal(usize),
    /// The receiver installs the next generation (protocol §4.8: before it answers).
    InstallReceive,
    /// The sender begins to use the newest generation that the receiver has.
    InstallSend,
    /// The receiver retires all but the newest generation that opened something.
    Retire,
    /// Packets arrive, in any order.
    Deliver(Vec<prop::sample::Index>),
    /// One is lost.
    Lose(prop::sample::Index),
    /// One is there twice.
    Duplicate(prop::sample::Index),
    /// Time goes by.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let any_packet = any::<prop::sample::Index>;
    prop_oneof![
        6 => (1usize..20).prop_map(Step::Seal),
        2 => Just(Step::InstallReceive),
        2 => Just(Step::InstallSend),
        1 => Just(Step::Retire),
        6 => prop::collection::vec(any_packet(), 1..20).prop_map(Step::Deliver),
        2 => any_packet().prop_map(Step::Lose),
        2 => any_packet().prop_map(Step::Duplicate),
        2 => (1u64..500).prop_map(Step::Wait),
    ]
}

/// One direction of an association and the network in between.
struct Direction {
    cipher: Cipher,
    now: Instant,
    seal: SealHalf,
    open: OpenHalf,
    installed: u32,
    sending: u32,
    proven: u32,
    sent: u64,
    in_flight: Vec<Vec<u8>>,
    delivered: BTreeSet<u64>,
}

impl Direction {
    fn new(cipher: Cipher) -> Self {
        let mut open = OpenHalf::new();
        open.install(generation_open(cipher, 0));
        let mut seal = seal_half(RingLimits::default());
        seal.install(epoch(), generation_seal(cipher, 0, epoch()));
        Self {
            cipher,
            now: epoch(),
            seal,
            open,
            installed: 0,
            sending: 0,
            proven: 0,
            sent: 0,
            in_flight: Vec::new(),
            delivered: BTreeSet::new(),
        }
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Seal(frames) => {
                for _ in 0..frames {
                    let sealed = self.seal.seal(self.now, path(0), 0, &frame(self.sent)).unwrap();
                    prop_assert_eq!(sealed.counter, self.sent, "the counter goes on over every rekey");
                    self.in_flight.push(sealed.packet.to_vec());
                    self.sent += 1;
                }
            }
            // A generation is only begun when the one before is in use, which is what a handshake inside the session means.
            Step::InstallReceive if self.installed == self.sending => {
                self.installed += 1;
                // At most as many as are kept, so that nothing in flight can lose its key but by age.
                if self.installed <= 7 {
                    prop_assert_eq!(self.open.install(generation_open(self.cipher, self.installed)), None);
                } else {
                    self.installed -= 1;
                }
            }
            Step::InstallSend if self.sending < self.installed => {
                self.sending = self.installed;
                self.seal.install(self.now, generation_seal(self.cipher, self.sending, self.now));
            }
            Step::InstallReceive | Step::InstallSend => {}
            Step::Retire => (0..self.proven).for_each(|old| self.open.retire(ReceiverIndex(old), self.now)),
            Step::Deliver(order) => {
                for index in order {
                    if !self.in_flight.is_empty() {
                        let packet = self.in_flight.swap_remove(index.index(self.in_flight.len()));
                        self.deliver(packet)?;
                    }
                }
            }
            Step::Lose(index) => {
                if !self.in_flight.is_empty() {
                    let lost = self.in_flight.swap_remove(index.index(self.in_flight.len()));
                    // A copy may still be under way; only the last copy's loss is a loss. `lost` below is computed at the end.
                    drop(lost);
                }
            }
            Step::Duplicate(index) => {
                if !self.in_flight.is_empty() {
                    let copy = self.in_flight[index.index(self.in_flight.len())].clone();
                    self.in_flight.push(copy);
                }
            }
            Step::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
        }
        Ok(())
    }

    fn deliver(&mut self, packet: Vec<u8>) -> Result<(), TestCaseError> {
        let counter = u64::from_be_bytes(packet[8..16].try_into().unwrap());
        match self.open.open(self.now, path(0), &packet, &mut room(&packet)) {
            Ok(opened) => {
                prop_assert_eq!(opened.counter, counter);
                prop_assert_eq!(number(opened.frame), counter);
                self.proven = self.proven.max(opened.index.0);
                prop_assert!(self.delivered.insert(counter), "{} delivered twice", counter);
            }
            Err(OpenError::Replayed) => {
                prop_assert!(self.delivered.contains(&counter), "{} never came", counter)
            }
            Err(other) => prop_assert!(false, "{} was refused: {}", counter, other),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_frame_that_is_not_lost_is_delivered_exactly_once(
        cipher in prop::sample::select(CIPHERS.to_vec()), steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut direction = Direction::new(cipher);
        for step in steps {
            let before: BTreeSet<u64> = direction.under_way();
            let delivered = direction.delivered.len();
            let loses = matches!(step, Step::Lose(_));
            direction.take(step)?;
            let after = direction.under_way();
            // Whatever left the network was delivered, unless this step was a loss.
            let gone = before.difference(&after).filter(|counter| !direction.delivered.contains(counter)).count();
            prop_assert!(gone <= usize::from(loses));
            prop_assert!(direction.delivered.len() >= delivered);
        }
        let expected: BTreeSet<u64> = direction.under_way().union(&direction.delivered).copied().collect();
        while let Some(packet) = direction.in_flight.pop() {
            direction.deliver(packet)?;
        }
        prop_assert_eq!(&direction.delivered, &expected);
        prop_assert_eq!(direction.seal.next_counter(), direction.sent);
    }
}

impl Direction {
    fn under_way(&self) -> BTreeSet<u64> {
        self.in_flight.iter().map(|packet| u64::from_be_bytes(packet[8..16].try_into().unwrap())).collect()
    }
}

/// What a resend finds in the ring from before a rekey opens after it, as long as the receiver has the key.
#[test]
fn a_resend_reaches_back_over_a_rekey() {
    let mut direction = Direction::new(Cipher::ChaCha20Poly1305);
    for generation in 1..4 {
        direction.take(Step::Seal(10)).unwrap();
        direction.in_flight.clear(); // the path died
        direction.open.install(generation_open(Cipher::ChaCha20Poly1305, generation));
        direction.open.retire(ReceiverIndex(generation - 1), direction.now);
        direction
            .seal
            .install(direction.now, generation_seal(Cipher::ChaCha20Poly1305, generation, direction.now));
        direction.now += Duration::from_secs(10);
    }
    direction.now = epoch() + RETIRED_KEY_LIFE - Duration::from_secs(1);
    let resent: Vec<Vec<u8>> = direction
        .seal
        .resend(direction.now, path(0), path(1), 0..u64::MAX)
        .map(|sealed| sealed.packet.to_vec())
        .collect();
    assert_eq!(resent.len(), 30);
    for packet in resent {
        direction.deliver(packet).unwrap();
    }
    assert_eq!(direction.delivered.len(), 30);
}

/// What no key opens any more is not sent again in vain, and it is counted.
#[test]
fn a_resend_gives_up_what_the_receiver_has_no_key_for() {
    let mut direction = Direction::new(Cipher::ChaCha20Poly1305);
    direction.take(Step::Seal(10)).unwrap();
    direction.seal.install(epoch(), generation_seal(Cipher::ChaCha20Poly1305, 1, epoch()));
    direction.take(Step::Seal(5)).unwrap();
    let late = epoch() + RETIRED_KEY_LIFE;
    let resent: Vec<u64> =
        direction.seal.resend(late, path(0), path(1), 0..u64::MAX).map(|sealed| sealed.counter).collect();
    assert_eq!(resent, [10, 11, 12, 13, 14]);
    assert_eq!(direction.seal.stats().ring.lost, 10);
}
