//! A connection that sends by losses, over a line whose buffer drops what does not fit, in virtual time.

#![expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]

use super::*;
use crate::queueing::Pace;
use std::collections::{BTreeSet, VecDeque};

const STEP: Duration = Duration::from_micros(100);
const MSS: usize = 1_200;
/// Of the line's own buffer.
const BUFFER: Duration = Duration::from_millis(50);

/// One transmission of a segment.
#[derive(Debug, Clone, Copy)]
struct Sent {
    segment: usize,
    at: Instant,
}

/// A kernel's end, the line, the other end, and who writes.
struct Model {
    now: Instant,
    /// Bytes a millisecond.
    rate: usize,
    /// A round trip of nothing.
    way: Duration,
    is_looked_at: bool,

    pace: Pace,
    flight: Flight,
    held_until: Option<Instant>,
    /// Since when the next segment waits to be given.
    waits_since: Instant,
    /// When each segment came into the queue before the socket, and how many were given to it.
    queued: Vec<Instant>,
    given: usize,

    sent: usize,
    resend: BTreeSet<usize>,
    /// In the order they left.
    under_way: VecDeque<Sent>,
    window: f64,
    threshold: f64,
    /// A loss of what was sent before is no other loss.
    recovers_until: usize,
    acked: usize,
    rtt: Option<Duration>,
    least: Duration,

    line: VecDeque<Sent>,
    credit: usize,
    /// Acknowledgements on their way back.
    acks: VecDeque<(Instant, Sent)>,
    has: BTreeSet<usize>,
    in_order: usize,
    lost: usize,
    /// Arrivals in order: when, and how long since each came into the queue.
    delays: Vec<(Instant, Duration)>,
}

impl Model {
    fn new(mbit: usize, way: Duration, is_looked_at: bool) -> Self {
        let now = Instant::now();
        Self {
            now,
            rate: mbit * 125,
            way,
            is_looked_at,
            pace: Pace::default(),
            flight: Flight::default(),
            held_until: None,
            waits_since: now,
            queued: vec![],
            given: 0,
            sent: 0,
            resend: BTreeSet::new(),
            under_way: VecDeque::new(),
            window: 10.0,
            threshold: f64::INFINITY,
            recovers_until: 0,
            acked: 0,
            // As the handshake had it.
            rtt: Some(way.max(Duration::from_micros(20))),
            least: way.max(Duration::from_micros(20)),
            line: VecDeque::new(),
            credit: 0,
            acks: VecDeque::new(),
            has: BTreeSet::new(),
            in_order: 0,
            lost: 0,
            delays: vec![],
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            self.carry();
            self.hear();
            self.write();
            self.send();
        }
    }

    fn carry(&mut self) {
        self.credit += self.rate / 10;
        while self.credit >= MSS
            && let Some(sent) = self.line.pop_front()
        {
            self.credit -= MSS;
            self.has.insert(sent.segment);
            while self.has.remove(&self.in_order) {
                self.delays.push((self.now, self.now - self.queued[self.in_order]));
                self.in_order += 1;
            }
            self.acks.push_back((self.now + self.way, sent));
        }
        if self.line.is_empty() {
            self.credit = self.credit.min(MSS);
        }
    }

    fn hear(&mut self) {
        while let Some((_, sent)) = self.acks.pop_front_if(|(at, _)| *at <= self.now) {
            self.acked += MSS;
            let rtt = (self.now - sent.at).max(Duration::from_micros(20));
            self.rtt = self.rtt.map(|smooth| (7 * smooth + rtt) / 8);
            self.least = self.least.min(rtt);
            // The line keeps their order: what left before it, and is not acknowledged, is lost.
            while let Some(first) = self.under_way.pop_front()
                && (first.segment, first.at) != (sent.segment, sent.at)
            {
                self.resend.insert(first.segment);
                if first.segment >= self.recovers_until {
                    self.threshold = (self.window / 2.0).max(2.0);
                    (self.window, self.recovers_until) = (self.threshold, self.sent);
                }
            }
            let is_full = self.under_way.len() as f64 >= self.window / 2.0;
            if is_full && self.window < self.threshold {
                self.window += 1.0;
            } else if is_full {
                self.window += 1.0 / self.window;
            }
        }
    }

    fn send(&mut self) {
        while (self.under_way.len() as f64) < self.window {
            let segment = match self.resend.pop_first() {
                Some(segment) => segment,
                None if self.sent < self.given => {
                    self.sent += 1;
                    self.sent - 1
                }
                None => break,
            };
            let sent = Sent { segment, at: self.now };
            self.under_way.push_back(sent);
            if self.line.len() * MSS < self.rate * BUFFER.as_millis() as usize {
                self.line.push_back(sent);
            } else {
                self.lost += 1;
            }
        }
    }

    /// There is always more, and as much of it waits before the socket as may.
    fn write(&mut self) {
        let ahead = self.pace.ahead();
        while (self.queued.len() - self.given) * MSS < ahead {
            self.queued.push(self.now);
        }
        while (self.given - self.sent) * MSS < ahead {
            if self.held_until.is_some_and(|until| self.now < until) {
                return;
            }
            if self.is_looked_at && !self.flight.has_room() {
                let info = TcpInfo {
                    arrived: self.acked as u64,
                    in_flight: self.under_way.len() * MSS,
                    unsent: (self.given - self.sent) * MSS,
                    rtt: self.rtt.unwrap(),
                    least: self.least,
                };
                self.held_until = self.flight.look(self.now, Some(info), ahead);
                continue;
            }
            self.flight.on_given(MSS);
            self.given += 1;
            self.pace.on_written(self.now, MSS, self.now - self.waits_since);
            self.waits_since = self.now;
        }
    }

    /// The longest that anything took that arrived between these, less half a round trip.
    fn longest(&self, from: Duration, to: Duration) -> Duration {
        let began = self.now - self.took();
        let of = self.delays.iter().filter(|(at, _)| (began + from..began + to).contains(at));
        of.map(|(_, delay)| *delay).max().unwrap()
    }

    fn took(&self) -> Duration {
        self.now - self.queued[0]
    }

    /// What arrived of what the line could have carried between these.
    fn share(&self, from: Duration, to: Duration) -> f64 {
        let began = self.now - self.took();
        let of = self.delays.iter().filter(|(at, _)| (began + from..began + to).contains(at)).count();
        (of * MSS) as f64 / (self.rate as f64 * (to - from).as_secs_f64() * 1e3)
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn what_is_not_held_back_fills_the_line_and_waits_for_what_was_lost() {
    let mut model = Model::new(20, ms(1), false);
    model.run(ms(10_000));
    assert!(model.lost > 50, "{}", model.lost);
    assert!(model.longest(ms(0), ms(1_000)) > ms(110), "{:?}", model.longest(ms(0), ms(1_000)));
}

#[test]
fn from_the_first_second_on_little_stands_and_the_line_is_full() {
    // Beyond what the line's own queue and what waits before the socket may be, at its rate.
    // On the slowest the 32 KiB before the socket and as many inside, of a connection of which nothing is known, are 105 ms, and more than the line's
    // buffer has room for.
    for (mbit, way, first, later, lost) in
        [(20, 0, 45, 35, 0), (20, 1, 45, 35, 0), (20, 20, 65, 35, 0), (50, 5, 40, 30, 0), (5, 1, 130, 90, 10)]
    {
        let mut model = Model::new(mbit, ms(way), true);
        model.run(ms(10_000));
        let (begins, goes_on) = (model.longest(ms(0), ms(1_000)), model.longest(ms(1_000), ms(10_000)));
        assert!(
            begins <= ms(first) && goes_on <= ms(later),
            "{mbit} Mbit/s, {way} ms: {begins:?}, {goes_on:?}"
        );
        assert!(model.lost <= lost, "{mbit} Mbit/s, {way} ms: {}", model.lost);
        let share = model.share(ms(1_000), ms(10_000));
        assert!(share > 0.98, "{mbit} Mbit/s, {way} ms: {share}");
    }
}

#[test]
fn where_one_round_trip_overfills_the_line_it_does_so_once() {
    for (mbit, way) in [(20, 60), (100, 30)] {
        let mut model = Model::new(mbit, ms(way), true);
        model.run(ms(2_000));
        let lost = model.lost;
        model.run(ms(8_000));
        assert_eq!(model.lost, lost, "{mbit} Mbit/s, {way} ms");
        let (longest, share) = (model.longest(ms(2_000), ms(10_000)), model.share(ms(2_000), ms(10_000)));
        assert!(longest <= ms(35) && share > 0.95, "{mbit} Mbit/s, {way} ms: {longest:?}, {share}");
    }
}

#[test]
fn a_way_that_became_longer_is_not_taken_for_a_queue_for_long() {
    let share_of = |way: u64, is_looked_at: bool| {
        let mut model = Model::new(20, ms(1), is_looked_at);
        model.run(ms(3_000));
        model.way = ms(way);
        model.run(ms(60_000));
        model.share(ms(4_000), ms(60_000))
    };
    // Of what its kernel alone makes of such a line. The first looks like a queue that holding back keeps short, until the kernel has forgotten the way
    // before; a flow that begins anew after each try needs longest over the last.
    for (way, least) in [(20, 0.8), (50, 0.9), (150, 0.75)] {
        let (share, alone) = (share_of(way, true), share_of(way, false));
        assert!(share > least * alone, "{way} ms: {share} and {alone}");
    }
}

#[test]
fn of_a_connection_that_nothing_is_known_of_nothing_is_held_back() {
    let mut flight = Flight::default();
    assert!(!flight.has_room());
    assert_eq!(flight.look(Instant::now(), None, 20_000), None);
    flight.on_given(19_999);
    assert!(flight.has_room());
    flight.on_given(usize::MAX);
    assert!(!flight.has_room());
}
