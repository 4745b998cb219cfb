use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

const MUCH: usize = 1 << 20;
/// 20 Mbit/s.
const BYTES_PER_MS: usize = 2_500;

/// A frame of a flow: metadata, two stations of which the second is the flow, a number.
fn frame(flow: u8, n: u32, len: usize) -> Vec<u8> {
    let head = [&[0, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, flow, 0x88, 0xb5][..], &n.to_be_bytes()].concat();
    [&head[..], &vec![0; len.saturating_sub(head.len())]].concat()
}

fn flow_and_number(plaintext: &[u8]) -> (u8, u32) {
    (plaintext[12], u32::from_be_bytes(plaintext[15..19].try_into().unwrap()))
}

/// A line of 20 Mbit/s that takes what is next.
struct Line {
    flows: Flows,
    now: Instant,
    credit: isize,
    taken: BTreeMap<u8, usize>,
    dropped: u64,
    /// When each frame was pushed.
    pushed: HashMap<(u8, u32), Instant>,
    longest: BTreeMap<u8, Duration>,
    last: BTreeMap<u8, u32>,
}

impl Line {
    fn new() -> Self {
        Self {
            flows: Flows::default(),
            now: Instant::now(),
            credit: 0,
            taken: BTreeMap::new(),
            dropped: 0,
            pushed: HashMap::new(),
            longest: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    fn push(&mut self, flow: u8, n: u32, len: usize) {
        self.pushed.insert((flow, n), self.now);
        self.dropped += self.flows.push(self.now, &frame(flow, n, len), MUCH);
    }

    /// A millisecond passes.
    fn tick(&mut self) {
        self.now += Duration::from_millis(1);
        self.credit += BYTES_PER_MS.cast_signed();
        while self.credit > 0 {
            let next = self.flows.pop(self.now, true);
            self.dropped += next.dropped;
            let Some(plaintext) = next.plaintext else { break };
            self.credit -= plaintext.len().cast_signed();
            let (flow, n) = flow_and_number(&plaintext);
            assert!(self.last.insert(flow, n).is_none_or(|last| last < n), "{n} of {flow} came late");
            let waited = self.now - self.pushed[&(flow, n)];
            let longest = self.longest.entry(flow).or_default();
            *longest = waited.max(*longest);
            *self.taken.entry(flow).or_default() += plaintext.len();
            self.flows.recycle(plaintext);
        }
        if self.flows.is_empty() {
            self.credit = self.credit.min(0);
        }
    }
}

#[test]
fn a_light_flow_waits_for_no_heavy_one() {
    let mut line = Line::new();
    for ms in 0..2_000 {
        // Four that send four times what the line takes, and one small frame in ten milliseconds.
        for flow in 1..5 {
            line.push(flow, ms, BYTES_PER_MS);
        }
        if ms % 10 == 0 {
            line.push(9, ms, 100);
        }
        line.tick();
    }
    // A frame of each at most, where its last one left a moment ago.
    assert!(line.longest[&9] <= Duration::from_millis(6), "{:?}", line.longest);
    assert_eq!(line.taken[&9], 200 * 100, "all of it");
    let heavy: Vec<_> = (1..5).map(|flow| line.taken[&flow]).collect();
    let (least, most) = (heavy.iter().min().unwrap(), heavy.iter().max().unwrap());
    assert!(most - least <= 4 * BYTES_PER_MS, "{heavy:?}");
}

#[test]
fn shares_are_of_bytes_and_not_of_frames() {
    let mut line = Line::new();
    for ms in 0..2_000 {
        for n in 0..20 {
            line.push(1, ms * 20 + n, 200);
        }
        line.push(2, ms, 9_000);
        line.tick();
    }
    let (small, large) = (line.taken[&1], line.taken[&2]);
    assert!(small.abs_diff(large) < small / 50, "{small} and {large}");
}

#[test]
fn who_minds_no_loss_has_a_queue_of_a_twentieth_of_a_second() {
    let mut line = Line::new();
    for ms in 0..5_000 {
        line.push(1, ms, 3 * BYTES_PER_MS);
        if ms >= 1_000 {
            assert!(line.flows.bytes() <= 52 * 3 * BYTES_PER_MS, "{} bytes at {ms} ms", line.flows.bytes());
        }
        line.tick();
    }
    assert!(line.dropped > 2_000);
    let share = line.taken[&1] as f64 / (5_000.0 * BYTES_PER_MS as f64);
    assert!(share > 0.99, "the line is full all the time: {share}");
}

#[test]
fn nothing_is_dropped_for_a_stream_of_which_nothing_is_known() {
    let (mut now, mut flows) = (Instant::now(), Flows::default());
    (0..500).for_each(|n| assert_eq!(flows.push(now, &frame(1, n, 1_000), MUCH), 0));
    for n in 0..500 {
        now += Duration::from_millis(10);
        let next = flows.pop(now, false);
        assert_eq!((flow_and_number(&next.plaintext.unwrap()), next.dropped), ((1, n), 0));
    }
}

#[test]
fn a_burst_that_drains_loses_nothing() {
    let mut line = Line::new();
    for n in 0..200 {
        line.push(1, n, 1_000);
    }
    for _ in 0..80 {
        line.tick();
    }
    assert_eq!((line.taken[&1], line.dropped), (200_000, 0));
}

#[test]
fn what_is_too_much_goes_from_whoever_has_most_and_the_oldest_first() {
    let (now, mut flows) = (Instant::now(), Flows::default());
    let dropped: u64 = (0..50).map(|n| flows.push(now, &frame(1, n, 1_000), 20_000)).sum();
    assert_eq!(dropped, 30);
    assert_eq!(flows.push(now, &frame(2, 0, 1_000), 20_000), 1);
    assert_eq!(flow_and_number(&flows.pop(now, true).plaintext.unwrap()), (1, 31));
    assert_eq!(flow_and_number(&flows.pop(now, true).plaintext.unwrap()), (1, 32));
    assert_eq!(flow_and_number(&flows.pop(now, true).plaintext.unwrap()), (2, 0));
    // Alone it is taken, however large.
    let mut flows = Flows::default();
    assert_eq!(flows.push(now, &frame(1, 0, 60_000), 20_000), 0);
    assert!(flows.pop(now, true).plaintext.is_some());
}

#[test]
fn another_path_takes_all_of_it_in_its_order() {
    let (mut now, mut flows) = (Instant::now(), Flows::default());
    for n in 0..100 {
        now += Duration::from_millis(20);
        flows.push(now, &frame((n % 7) as u8, n, 1_000), MUCH);
    }
    let taken = std::iter::from_fn(|| flows.take()).map(|plaintext| flow_and_number(&plaintext).1);
    assert!(taken.eq(0..100));
    assert!(flows.is_empty() && flows.pop(now, true).plaintext.is_none());
}

#[test]
fn memory_is_used_again_and_given_back() {
    let (now, mut flows) = (Instant::now(), Flows::default());
    for n in 0..10_000 {
        flows.push(now, &frame(1, n, 1_000), MUCH);
        let plaintext = flows.pop(now, true).plaintext.unwrap();
        flows.recycle(plaintext);
    }
    assert_eq!((flows.spare.buffers.len(), flows.flows.len()), (1, 1));
    // A wave of them: no more is kept than is said.
    for n in 0..3_000 {
        flows.push(now, &frame(1, n, 1_000), MUCH);
    }
    while let Some(plaintext) = flows.pop(now, false).plaintext {
        flows.recycle(plaintext);
    }
    let kept: usize = flows.spare.buffers.iter().map(Vec::capacity).sum();
    assert!(kept == flows.spare.bytes && kept <= SPARE_BYTES && kept > SPARE_BYTES / 2, "{kept}");
    flows.shrink();
    assert_eq!((flows.spare.buffers.capacity(), flows.flows.capacity()), (0, 0));
}

proptest! {
    /// However many flows there are, each keeps its order, and each frame is sent once or was dropped.
    #[test]
    fn every_flow_keeps_its_order(
        steps in prop::collection::vec((0u16..400, 20usize..3_000, 0u8..3, any::<bool>()), 1..1_500)
    ) {
        let (mut now, mut flows) = (Instant::now(), Flows::default());
        let (mut pushed, mut gone) = (0u64, 0u64);
        let mut last = HashMap::new();
        let mut see = |plaintext: &[u8]| {
            let flow = u16::from_be_bytes(plaintext[11..13].try_into().unwrap());
            let n = flow_and_number(plaintext).1;
            last.insert(flow, n).is_none_or(|last| last < n)
        };
        for (n, (flow, len, pops, is_all)) in (0..).zip(steps) {
            let mut plaintext = frame(0, n, len);
            plaintext[11..13].copy_from_slice(&flow.to_be_bytes());
            gone += flows.push(now, &plaintext, 1 << 18);
            pushed += 1;
            now += Duration::from_micros(500);
            for _ in 0..pops {
                let next = flows.pop(now, true);
                gone += next.dropped + u64::from(next.plaintext.is_some());
                prop_assert!(next.plaintext.is_none_or(|plaintext| see(&plaintext)));
            }
            if is_all && n % 400 == 0 {
                while let Some(plaintext) = flows.take() {
                    gone += 1;
                    prop_assert!(see(&plaintext));
                }
            }
            prop_assert!(flows.flows.len() <= FLOWS + 1);
            prop_assert_eq!(pushed, gone + flows.frames());
        }
        loop {
            let next = flows.pop(now, true);
            gone += next.dropped;
            let Some(plaintext) = next.plaintext else { break };
            gone += 1;
            prop_assert!(see(&plaintext));
        }
        prop_assert_eq!((pushed, flows.bytes()), (gone, 0));
    }
}
