//! By which queue of the device a frame is written, where there are several.
//!
//! # Why
//!
//! The kernel hands a flow over by the queue by which its other direction was written last (`tun_flow_update`), and while nothing of it was, or not
//! for three seconds, by one that it computes of the flow. Were all frames written by one queue, all flows that have answers would be read from it.
//! Were a flow written by another queue than it is read from, it would change queues, and what is still in the first would be overtaken by what comes to
//! the second. So an answer is written by the queue that the question was read from, and nothing changes queues. What nobody here began is
//! written by a queue that a keyed hash picks, and read from that.
//!
//! # Life
//!
//! Those who read note each frame ([`Steering::note`]), the one who writes asks ([`Steering::queue_of`]). What is known is a table with a
//! place for each of some thousand flows, by their hash; of two flows that meet in a place it knows one, and goes on doing so while that goes on. The other is
//! written by the queue that the hash picks, always the same: where that is not the one that it is read from it changes queues when the first answer comes, and
//! then no more. So does what a tunnel in the tunnel carries (GRE, IP in IP), whose flows the kernel tells apart and this does not.

use super::flow::both_ways;
use crate::device::{DeviceFault, Queues, VnetHeader};
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// As many flows as the kernel remembers of a device (`MAX_TAP_FLOWS`).
const PLACES: usize = 4096;
/// A flow that is still there is noted anew this often.
const NOTED: u64 = 1;
/// One of which nothing was read for so many seconds gives its place to another: far beyond the kernel's three.
const OLD: u64 = 10;

/// Which flow was read from which queue.
#[derive(Debug)]
pub(super) struct Steering {
    queues: usize,
    hasher: RandomState,
    began: Instant,
    places: Box<[AtomicU64]>,
}

/// What is in a place: the upper half of a flow's key, the second in which it was noted (24 bits, which turn over after half a year: a flow
/// that looks old then gives way, no more), and its queue with one added. Zero where nothing is.
#[derive(Debug, Clone, Copy)]
struct Noted(u64);

impl Noted {
    const fn new(key: u64, second: u64, queue: usize) -> Self {
        Self((key & 0xffff_ffff_0000_0000) | ((second & 0x00ff_ffff) << 8) | (queue as u64 + 1))
    }

    const fn is_of(self, key: u64) -> bool {
        self.0 != 0 && self.0 >> 32 == key >> 32
    }

    /// Seconds since it was noted.
    const fn age(self, second: u64) -> u64 {
        second.wrapping_sub(self.0 >> 8) & 0x00ff_ffff
    }

    const fn queue(self) -> usize {
        (self.0 as usize & 0xff).saturating_sub(1)
    }
}

impl Steering {
    /// Of a device with so many queues, fewer than 255.
    pub(super) fn new(queues: usize) -> Self {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { queues, hasher: RandomState::new(), began: Instant::now(), places }
    }

    /// A frame was read from `queue`.
    pub(super) fn note(&self, now: Instant, queue: usize, frame: &[u8]) {
        let key = both_ways(frame, &self.hasher);
        let Some(place) = self.place(key) else { return };
        let second = now.saturating_duration_since(self.began).as_secs();
        let noted = Noted(place.load(Relaxed));
        let is_known = noted.is_of(key);
        let stays = if is_known {
            noted.queue() == queue && noted.age(second) < NOTED
        } else {
            noted.0 != 0 && noted.age(second) < OLD
        };
        if !stays {
            // Two who do so at once differ in a flow that begins, of which the next frame is noted again.
            place.store(Noted::new(key, second, queue).0, Relaxed);
        }
    }

    /// By which queue a frame is to be written.
    fn queue_of(&self, frame: &[u8]) -> usize {
        let key = both_ways(frame, &self.hasher);
        let noted = self.place(key).map(|place| Noted(place.load(Relaxed)));
        match noted.filter(|noted| noted.is_of(key)) {
            Some(noted) => noted.queue(),
            // Bits that pick no place.
            None => (key >> 32) as usize % self.queues.max(1),
        }
    }

    fn place(&self, key: u64) -> Option<&AtomicU64> {
        self.places.get(key as usize % PLACES)
    }
}

/// A device that frames are written to, each by its queue.
#[derive(Debug)]
pub(super) struct Writer {
    queues: Queues,
    /// `None` where there is one.
    steering: Option<Arc<Steering>>,
}

impl Writer {
    pub(super) const fn new(queues: Queues, steering: Option<Arc<Steering>>) -> Self {
        Self { queues, steering }
    }

    /// See [`Device::write_frame`](crate::device::Device::write_frame).
    ///
    /// # Errors
    /// As there.
    pub(super) fn write_frame(&self, header: VnetHeader, packet: &mut [u8]) -> Result<(), DeviceFault> {
        let Some(steering) = &self.steering else {
            return self.queues.first().write_frame(header, packet);
        };
        let queue = steering.queue_of(packet.get(VnetHeader::LEN..).unwrap_or_default());
        self.queues.at(queue).write_frame(header, packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// UDP from one port to the other.
    fn frame(from: u16, to: u16) -> Vec<u8> {
        let ethernet = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let ip = [0x45, 0, 0, 28, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 7, 0, 1, 10, 7, 0, 1];
        [&ethernet[..], &ip, &from.to_be_bytes(), &to.to_be_bytes(), &[0, 8, 0, 0]].concat()
    }

    #[test]
    fn an_answer_goes_by_the_queue_that_its_question_came_from() {
        let steering = Steering::new(4);
        let now = steering.began;
        // Of those that meet in a place one is known; which hash picks what is as it is.
        let mut seen = std::collections::HashSet::new();
        let apart = |port: &u16| seen.insert(both_ways(&frame(*port, 1), &steering.hasher) as usize % PLACES);
        for port in (0..100).filter(apart) {
            let queue = usize::from(port) % 4;
            steering.note(now, queue, &frame(port, 1));
            assert_eq!(steering.queue_of(&frame(1, port)), queue, "{port}");
        }
        // The kernel hands it over by another from now on.
        steering.note(now, 3, &frame(0, 1));
        assert_eq!(steering.queue_of(&frame(1, 0)), 3);
    }

    #[test]
    fn what_began_elsewhere_is_spread_and_stays_where_it_is() {
        let steering = Steering::new(4);
        let mut count = [0; 4];
        for port in 0..400 {
            let queue = steering.queue_of(&frame(port, 1));
            assert_eq!(steering.queue_of(&frame(1, port)), queue);
            count[queue] += 1;
        }
        assert!(count.iter().all(|count| (50..150).contains(count)), "{count:?}");
    }

    #[test]
    fn of_flows_that_meet_the_first_stays_until_it_is_old() {
        let steering = Steering::new(2);
        let at = |seconds| steering.began + Duration::from_secs(seconds);
        let place = |port| both_ways(&frame(port, 9), &steering.hasher) as usize % PLACES;
        // Among so many two meet; which hash picks what is as it is.
        let mut seen = std::collections::HashMap::new();
        let (first, second) =
            (10..u16::MAX).find_map(|port| Some((seen.insert(place(port), port)?, port))).unwrap();
        let picked = steering.queue_of(&frame(second, 9));
        steering.note(at(0), 1, &frame(first, 9));
        steering.note(at(3), 1 - picked, &frame(second, 9));
        assert_eq!(steering.queue_of(&frame(first, 9)), 1);
        assert_eq!(steering.queue_of(&frame(second, 9)), picked, "nothing is known of it");
        // It goes on, and is not old.
        steering.note(at(8), 1, &frame(first, 9));
        steering.note(at(12), 1 - picked, &frame(second, 9));
        assert_eq!(steering.queue_of(&frame(second, 9)), picked);
        steering.note(at(8 + OLD), 1 - picked, &frame(second, 9));
        assert_eq!(steering.queue_of(&frame(second, 9)), 1 - picked);
    }

    #[test]
    fn time_turns_over() {
        let noted = Noted::new(7 << 32, 0x00ff_ffff, 254);
        assert!(noted.is_of(7 << 32) && !noted.is_of(8 << 32));
        assert_eq!((noted.age(0x0100_0001), noted.queue()), (2, 254));
    }
}
