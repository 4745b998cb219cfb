//! Two guards and what lies between them: the LAN at once, the session after half a round trip.

use super::super::directory::Record;
use super::super::frame::EthernetHeader;
use super::*;
use proptest::prelude::*;

const LOW: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const HIGH: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const OTHER: PeerSlot = PeerSlot(4);

fn directory(own: MacAddr, other: MacAddr) -> Directory {
    let mut directory = Directory::new(own);
    directory.admit(OTHER, Record::new(other)).unwrap();
    directory
}

fn read(frame: &SmallFrame) -> Message {
    let bytes = frame.as_bytes();
    Message::parse(&EthernetHeader::parse(bytes).unwrap(), bytes).expect("one of ours")
}

/// Which way the LAN carries what a device puts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lan {
    Cut,
    BothWays,
    /// From the first to the second only.
    Forth,
}

/// The lower one first.
struct Pair {
    now: Instant,
    guards: [Guard; 2],
    directories: [Directory; 2],
    half_trip: Duration,
    lan: Lan,
    /// To which, when, what.
    under_way: Vec<(usize, Instant, Message)>,
    /// Probes that were sent.
    probes: usize,
    /// The second one answers and does not obey.
    is_stubborn: bool,
}

impl Pair {
    fn new(half_trip_ms: u64, lan: Lan) -> Self {
        Self {
            now: Instant::now(),
            guards: [Guard::new([1; 32]), Guard::new([2; 32])],
            directories: [directory(LOW, HIGH), directory(HIGH, LOW)],
            half_trip: Duration::from_millis(half_trip_ms),
            lan,
            under_way: Vec::new(),
            probes: 0,
            is_stubborn: false,
        }
    }

    fn step(&mut self) {
        let now = self.now;
        for at in 0..2 {
            let other = 1 - at;
            if self.guards[at].poll_timeout().is_some_and(|due| due.is_due(now)) {
                let local = self.directories[at].local();
                if let Some(probe) = self.guards[at].handle_timeout(local, now) {
                    self.probes += 1;
                    let passes = self.lan == Lan::BothWays || (self.lan == Lan::Forth && at == 0);
                    let (guard, directory) = (&mut self.guards[other], &self.directories[other]);
                    let heard = passes.then(|| guard.on_heard(directory, read(&probe), now)).flatten();
                    if let Some((slot, echo)) = heard {
                        assert_eq!(slot, OTHER);
                        self.under_way.push((at, now + self.half_trip, read(&echo)));
                    }
                }
            }
        }
        let due: Vec<_> = self.under_way.extract_if(.., |(_, at, _)| *at <= now).collect();
        for (at, _, message) in due {
            if self.is_stubborn && at == 1 && message.kind == Kind::Yield {
                continue;
            }
            let (guard, directory) = (&mut self.guards[at], &self.directories[at]);
            if let Some((_, frame)) = guard.handle_message(directory, OTHER, message, now) {
                self.under_way.push((1 - at, now + self.half_trip, read(&frame)));
            }
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.step();
            self.now += Duration::from_millis(1);
        }
    }

    fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    fn blocked(&self) -> [bool; 2] {
        [self.guards[0].is_blocked(), self.guards[1].is_blocked()]
    }

    /// A station was heard at both, and seems to move.
    fn suspect(&mut self) {
        for guard in &mut self.guards {
            guard.on_local_station(self.now);
            guard.on_suspicion(0);
        }
    }
}

#[test]
fn the_higher_of_two_gives_way_within_a_few_round_trips() {
    for half_trip in [0, 1, 20, 75, 150] {
        let mut pair = Pair::new(half_trip, Lan::BothWays);
        pair.suspect();
        pair.run_ms(3 * half_trip + 10);
        assert_eq!(pair.blocked(), [false, true], "with {half_trip} ms each way");
        pair.run_ms(1_000);
        assert_eq!(pair.guards[0].state(pair.now), LoopState::Contained(OTHER));
        assert_eq!(pair.guards[1].state(pair.now), LoopState::Blocked(OTHER));
        assert_eq!(pair.blocked(), [false, true]);
        assert_eq!((pair.guards[0].found(), pair.guards[1].found()), (1, 1));
    }
}

#[test]
fn a_loop_of_one_direction_is_a_loop() {
    // Only what the lower one puts on the LAN is heard: the higher one learns it from a yield.
    let mut pair = Pair::new(20, Lan::Forth);
    pair.suspect();
    pair.run_ms(100);
    assert_eq!(pair.blocked(), [false, true]);
}

#[test]
fn without_a_loop_nobody_gives_way_and_probes_are_few() {
    let mut pair = Pair::new(20, Lan::Cut);
    pair.run_ms(60_000);
    assert_eq!(pair.probes, 0, "who bridges nothing asks nothing");
    for _ in 0..60 {
        pair.suspect();
        pair.run_ms(1_000);
    }
    assert_eq!(pair.blocked(), [false, false]);
    assert!((60..=2 * 62).contains(&pair.probes), "{} probes in a minute of moves", pair.probes);
    let before = pair.probes;
    pair.run(Duration::from_secs(100));
    assert!((18..=22).contains(&(pair.probes - before)), "one in ten seconds each");
    pair.run(Duration::from_secs(300));
    let before = pair.probes;
    pair.run(Duration::from_secs(60));
    assert_eq!(pair.probes, before, "the LAN is gone");
    assert!(pair.guards.iter().all(|guard| guard.poll_timeout().is_none()));
}

#[test]
fn however_much_looks_like_a_loop_probes_are_ten_a_second() {
    let mut pair = Pair::new(20, Lan::Cut);
    for _ in 0..5_000 {
        pair.suspect();
        pair.run_ms(1);
    }
    assert!((90..=104).contains(&pair.probes), "{}", pair.probes);
}

#[test]
fn a_loop_that_lasts_is_asked_about_ever_more_seldom_and_never_opened() {
    let mut pair = Pair::new(20, Lan::BothWays);
    pair.suspect();
    pair.run_ms(100);
    let mut states = Vec::new();
    for _ in 0..900 {
        pair.guards.iter_mut().for_each(|guard| guard.on_local_station(pair.now));
        pair.run_ms(1_000);
        assert_eq!(pair.blocked(), [false, true]);
        states.push(matches!(pair.guards[1].state, State::Checking { .. }));
    }
    // Blocks of 10, 20, 40, 80, 160, 160 … seconds: the echo comes a round trip after each.
    assert_eq!(pair.guards[1].times, 9);
    assert_eq!(pair.guards[1].found(), 1);
    assert!(states.iter().filter(|checking| **checking).count() <= 2);
    // It is mended.
    pair.lan = Lan::Cut;
    pair.run(BLOCK_MAX + CHECK + Duration::from_secs(1));
    assert_eq!(pair.blocked(), [false, false]);
    assert_eq!(pair.guards[1].state(pair.now), LoopState::None);
    pair.run(SHOWN_FOR);
    assert_eq!(pair.guards[0].state(pair.now), LoopState::None);
}

#[test]
fn a_loop_that_was_mended_is_forgotten_after_ten_minutes() {
    let mut pair = Pair::new(5, Lan::BothWays);
    pair.suspect();
    pair.run_ms(100);
    pair.lan = Lan::Cut;
    pair.run(BLOCK + CHECK);
    assert_eq!(pair.blocked(), [false, false]);
    pair.lan = Lan::BothWays;
    pair.suspect();
    pair.run_ms(100);
    assert!(matches!(pair.guards[1].state, State::Blocked { until, .. } if until > pair.now + BLOCK));
    pair.lan = Lan::Cut;
    pair.run(2 * BLOCK + CHECK + FORGIVEN);
    pair.lan = Lan::BothWays;
    pair.suspect();
    pair.run_ms(100);
    assert!(matches!(pair.guards[1].state, State::Blocked { until, .. } if until < pair.now + BLOCK));
    assert_eq!(pair.guards[1].found(), 3);
}

#[test]
fn where_the_other_does_not_give_way_this_one_does() {
    for half_trip in [1, 100, 400] {
        let mut pair = Pair::new(half_trip, Lan::Forth);
        pair.is_stubborn = true;
        pair.suspect();
        pair.run_ms(4 * half_trip + 400);
        assert_eq!(pair.blocked(), [true, false], "with {half_trip} ms each way");
    }
}

#[test]
fn a_peer_that_is_gone_takes_its_loop_along() {
    let mut pair = Pair::new(5, Lan::BothWays);
    pair.suspect();
    pair.run_ms(100);
    pair.lan = Lan::Cut;
    pair.guards[1].forget(OTHER, pair.now);
    pair.run(CHECK + Duration::from_millis(10));
    assert_eq!(pair.blocked(), [false, false]);
}

#[test]
fn nobody_makes_a_node_give_way_who_is_not_on_its_lan() {
    let (mut guard, directory, now) = (Guard::new([2; 32]), directory(HIGH, LOW), Instant::now());
    guard.on_local_station(now);
    let probe = read(&guard.handle_timeout(HIGH, now).expect("the first look"));
    let say = |guard: &mut Guard, kind, origin, nonce, slot, at| {
        let message = Message { kind, is_blocked: false, origin, nonce };
        let said = guard.handle_message(&directory, slot, message, at);
        (guard.is_blocked(), said)
    };
    let quiet = (false, None);
    // An order about a probe that this node never heard; an echo of one that it never sent.
    assert_eq!(say(&mut guard, Kind::Yield, LOW, [9; 16], OTHER, now), quiet);
    assert_eq!(say(&mut guard, Kind::Yield, HIGH, probe.nonce, OTHER, now), quiet);
    assert_eq!(say(&mut guard, Kind::Echo, HIGH, [9; 16], OTHER, now), quiet);
    // The right one, too late, or from a peer without a record.
    assert_eq!(say(&mut guard, Kind::Echo, HIGH, probe.nonce, OTHER, now + NONCE_LIFE), quiet);
    assert_eq!(say(&mut guard, Kind::Echo, HIGH, probe.nonce, PeerSlot(9), now), quiet);
    // What was heard of one peer is no order of another.
    let heard = Message { kind: Kind::Probe, is_blocked: false, origin: LOW, nonce: [7; 16] };
    assert!(guard.on_heard(&directory, heard, now).is_some());
    assert_eq!(say(&mut guard, Kind::Yield, LOW, [7; 16], PeerSlot(9), now), quiet);
    assert_eq!(say(&mut guard, Kind::Yield, LOW, [7; 16], OTHER, now), (true, None));
}

#[test]
fn a_lan_full_of_forged_probes_is_answered_twenty_times_a_second() {
    let (mut guard, directory, begin) = (Guard::new([2; 32]), directory(HIGH, LOW), Instant::now());
    let echoes = (0..10_000u32).filter(|n| {
        let nonce = [&n.to_be_bytes()[..], &[0; 12]].concat().try_into().unwrap();
        let message = Message { kind: Kind::Probe, is_blocked: false, origin: LOW, nonce };
        guard.on_heard(&directory, message, begin + Duration::from_millis(u64::from(*n))).is_some()
    });
    assert!(echoes.count() <= 20 + 200);
    assert!(guard.heard.len() <= NONCES);
    let stranger = Message { kind: Kind::Probe, is_blocked: false, origin: MacAddr([8; 6]), nonce: [0; 16] };
    assert_eq!(guard.on_heard(&directory, stranger, begin + Duration::from_secs(20)), None);
}

#[test]
fn nonces_differ() {
    let (mut guard, begin) = (Guard::new([2; 32]), Instant::now());
    let mut seen = std::collections::HashSet::new();
    for n in 0..100 {
        let now = begin + SOON * n;
        guard.on_local_station(now);
        guard.on_suspicion(0);
        assert!(seen.insert(read(&guard.handle_timeout(HIGH, now).expect("due")).nonce));
    }
    assert!(guard.sent.len() <= NONCES);
}

proptest! {
    /// Whatever is heard and said, the guard goes on, its memory is bounded, and it never asks for a time in the past
    /// without then doing something about it.
    #[test]
    fn a_guard_always_goes_on(
        steps in proptest::collection::vec((0u8..8, 0u64..12_000, any::<bool>()), 1..200),
    ) {
        let (mut guard, directory) = (Guard::new([3; 32]), directory(LOW, HIGH));
        let (mut now, mut last) = (Instant::now(), [0; 16]);
        for (what, wait, blocked) in steps {
            now += Duration::from_millis(wait);
            let message = |kind, origin| Message { kind, is_blocked: blocked, origin, nonce: last };
            match what {
                0 => guard.on_local_station(now),
                1 => guard.on_suspicion(7),
                2 => { guard.handle_message(&directory, OTHER, message(Kind::Echo, LOW), now); }
                3 => { guard.handle_message(&directory, OTHER, message(Kind::Yield, HIGH), now); }
                4 => { guard.on_heard(&directory, message(Kind::Probe, HIGH), now); }
                5 => guard.forget(OTHER, now),
                _ => {
                    let mut turns = 0;
                    while guard.poll_timeout().is_some_and(|due| due.is_due(now)) {
                        if let Some(probe) = guard.handle_timeout(LOW, now) {
                            last = read(&probe).nonce;
                        }
                        turns += 1;
                        prop_assert!(turns < 5, "it turns in a circle");
                    }
                }
            }
            prop_assert!(guard.sent.len() <= NONCES && guard.heard.len() <= NONCES);
        }
    }
}
