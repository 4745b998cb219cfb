//! Two ends that replace their keys every 2 s by the times of [`RekeyPolicy`] and the order of protocol §4.8, over a network
//! that loses, delays, reorders and goes away.

use crate::fixtures::{epoch, frame, generation_open, generation_seal, number, path, room, seal_half};
use proptest::prelude::*;
use shadowmesh_proto::crypto::aead::Cipher;
use shadowmesh_proto::ids::ReceiverIndex;
use shadowmesh_proto::session::{
    ControlOpen, ControlSeal, OpenError, OpenHalf, RekeyPolicy, RingLimits, Role, SealHalf,
};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// One end. Its handshakes always agree: a message is no more than the number of its generation.
struct End {
    policy: RekeyPolicy,
    data: (SealHalf, OpenHalf),
    control: (ControlSeal, ControlOpen),
    /// Of the key in use for sealing.
    generation: u32,
    installed: Instant,
    /// As initiator: the generation asked for, and when it was last asked for.
    asked: Option<(u32, Instant)>,
    /// As responder: the newest generation answered.
    answered: u32,
    sent: u64,
    received: BTreeSet<u64>,
    refused: u64,
}

const ASK: u8 = 5;
const ANSWER: u8 = 6;
const PING: u8 = 0;
const CIPHER: Cipher = Cipher::Aes256Gcm;

impl End {
    fn new(role: Role) -> Self {
        let policy = RekeyPolicy::new(Duration::from_secs(2), role);
        let mut end = Self {
            policy,
            data: (seal_half(RingLimits::default()), OpenHalf::new()),
            control: (ControlSeal::new(), ControlOpen::new()),
            generation: 0,
            installed: epoch(),
            asked: None,
            answered: 0,
            sent: 0,
            received: BTreeSet::new(),
            refused: 0,
        };
        end.receive_with(0);
        end.send_with(epoch(), 0);
        end
    }

    fn receive_with(&mut self, generation: u32) {
        self.data.1.install(generation_open(CIPHER, generation));
        self.control.1.install(generation_open(CIPHER, generation));
    }

    fn send_with(&mut self, now: Instant, generation: u32) {
        self.data.0.install(now, generation_seal(CIPHER, generation, now));
        self.control.0.install(generation_seal(CIPHER, generation, now));
        for old in 0..generation {
            self.data.1.retire(ReceiverIndex(old), now);
            self.control.1.retire(ReceiverIndex(old), now);
        }
        (self.generation, self.installed, self.asked) = (generation, now, None);
    }

    fn on_timeout(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        let due = match self.asked {
            Some((_, sent)) => RekeyPolicy::retransmit(sent),
            None => self.policy.begin(self.installed),
        };
        if due.is_due(now) {
            let generation = self.generation + 1;
            self.asked = Some((generation, now));
            out.push(self.control.0.seal(now, &[ASK, generation as u8]).unwrap());
        }
    }

    fn send_frame(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        match self.data.0.seal(now, path(0), 0, &frame(self.sent)) {
            Ok(sealed) => out.push(sealed.packet.to_vec()),
            Err(_) => self.refused += 1,
        }
        self.sent += 1;
    }

    fn on_packet(&mut self, now: Instant, mut packet: Vec<u8>, out: &mut Vec<Vec<u8>>) {
        if packet[0] == 0xc0 {
            match self.data.1.open(now, path(0), &packet, &mut room(&packet)) {
                Ok(opened) => {
                    let (index, first, number) = (opened.index.0, opened.first, number(opened.frame));
                    assert!(self.received.insert(number), "{number} delivered twice");
                    self.on_proof(now, index, first);
                }
                Err(OpenError::Replayed) => {}
                Err(other) => panic!("a data packet was refused: {other}"),
            }
            return;
        }
        let Ok(opened) = self.control.1.open(now, &mut packet) else { return };
        let (index, first, kind, generation) = (opened.index.0, opened.first, opened.body[0], opened.body[1]);
        let generation = u32::from(generation);
        self.on_proof(now, index, first);
        match kind {
            // §4.2: of two that began, the lower key's stands.
            ASK if self.asked.is_some() && self.policy.role() == Role::Lower => {}
            ASK if generation == self.generation + 1 => {
                self.asked = None;
                if self.answered < generation {
                    self.receive_with(generation);
                    self.answered = generation;
                }
                out.push(self.control.0.seal(now, &[ANSWER, generation as u8]).unwrap());
            }
            ANSWER if self.asked.is_some_and(|(asked, _)| asked == generation) => {
                self.asked = None;
                self.receive_with(generation);
                self.send_with(now, generation);
                out.push(self.control.0.seal(now, &[PING, 0]).unwrap());
            }
            _ => {}
        }
    }

    /// The responder sends under new keys once anything opened under them.
    fn on_proof(&mut self, now: Instant, index: u32, first: bool) {
        if first && index == self.generation + 1 && self.answered == index {
            self.send_with(now, index);
        }
    }
}

/// Both ends and what is between them.
struct World {
    random: u64,
    /// Packets in a hundred that are lost, and steps in ten thousand at which the network goes away.
    loss: u64,
    outages: u64,
    ends: [End; 2],
    network: Vec<(Instant, usize, Vec<u8>)>,
    away_until: Instant,
    /// Frames that the network lost, by sender.
    lost: [u64; 2],
}

const STEP: Duration = Duration::from_millis(50);

impl World {
    fn new(seed: u64, loss: u64, outages: u64) -> Self {
        let ends = [End::new(Role::Lower), End::new(Role::Higher)];
        Self { random: seed | 1, loss, outages, ends, network: Vec::new(), away_until: epoch(), lost: [0; 2] }
    }

    /// A number below `below`, by xorshift64*: the seed reproduces a failure.
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % below
    }

    /// Runs for `steps`, with a frame from each end every `every` steps, then lets everything arrive.
    fn run(&mut self, steps: u32, every: u32) {
        for step in 0..steps {
            let now = epoch() + STEP * step;
            // One outage at a time, and time to recover: a key is good for a minute without its successor.
            if self.draw(10_000) < self.outages && now > self.away_until + Duration::from_secs(10) {
                self.away_until = now + Duration::from_millis(self.draw(16_000));
            }
            for from in 0..2 {
                let mut out = Vec::new();
                self.ends[from].on_timeout(now, &mut out);
                if step % every == 0 {
                    self.ends[from].send_frame(now, &mut out);
                }
                self.post(now, from, out);
            }
            self.arrive(now);
        }
        (self.loss, self.away_until) = (0, epoch());
        for step in 0..40 {
            self.arrive(epoch() + STEP * (steps + step));
        }
        assert!(self.network.is_empty());
    }

    fn arrive(&mut self, now: Instant) {
        self.network.sort_by_key(|(at, _, _)| *at);
        let arrived: Vec<_> = self.network.extract_if(.., |(at, _, _)| *at <= now).collect();
        for (_, to, packet) in arrived {
            let mut out = Vec::new();
            self.ends[to].on_packet(now, packet, &mut out);
            self.post(now, to, out);
        }
    }

    fn post(&mut self, now: Instant, from: usize, packets: Vec<Vec<u8>>) {
        for packet in packets {
            if now < self.away_until || self.draw(100) < self.loss {
                self.lost[from] += u64::from(packet[0] == 0xc0);
            } else {
                let delay = Duration::from_millis(self.draw(100));
                self.network.push((now + delay, 1 - from, packet));
            }
        }
    }

    /// Every frame was sealed when it came, and arrived unless the network lost it.
    fn lost_nothing_itself(&self) {
        for (at, end) in self.ends.iter().enumerate() {
            assert_eq!(end.refused, 0);
            assert_eq!(end.received.len() as u64 + self.lost[1 - at], self.ends[1 - at].sent);
        }
        assert!(self.ends[0].generation.abs_diff(self.ends[1].generation) <= 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_frame_waits_for_a_key_however_bad_the_network(seed: u64, loss in 0u64..30, busy: bool) {
        let mut world = World::new(seed, loss, 20);
        world.run(1_500, if busy { 1 } else { 100 });
        world.lost_nothing_itself();
    }
}

#[test]
fn on_a_good_network_keys_are_replaced_on_time() {
    for every in [1, 40, 200] {
        let mut world = World::new(7, 0, 0);
        world.run(1_200, every);
        world.lost_nothing_itself();
        // 60 s; each rekey takes two round trips of up to 200 ms beyond its 2 s.
        assert!((24..=30).contains(&world.ends[0].generation), "{}", world.ends[0].generation);
        assert_eq!(world.lost, [0, 0]);
    }
}
