//! How large a packet a datagram path carries: proven, never assumed, and never taken from ICMP (RFC 8899).
//!
//! Sizes are bytes of a peer packet, as it lies in the datagram. A path is proven at [`Mtu::base`], which every link of IPv6's
//! minimum carries, or at once at the largest that data needs: the PINGs of a path that is not proven ask for both in turn. On a
//! proven one larger sizes are asked for with PINGs of their own, whose loss says nothing about the path: by halving.
//!
//! # Life
//!
//! ```text
//!   search --all known--> rest --RAISE_AFTER--> search
//!      ^                                          |
//!      '--- the path was silent at this size: from the base anew
//! ```
//!
//! # Invariants
//!
//! - The current size passed, and nothing larger is used.
//! - A size is given up after [`TRIES`] probes, and the search ends when less than [`CLOSE`] is left to be found.

use crate::path::challenge::Challenges;
use crate::time::Deadline;
use std::time::{Duration, Instant};

/// Probes of one size before it is taken not to pass (RFC 8899 §5.1.2, MAX_PROBES).
pub const TRIES: u32 = 3;
/// Between two of them, and at least two round trips.
pub const PAUSE: Duration = Duration::from_millis(250);
/// The search ends this close to what may be the truth.
pub const CLOSE: usize = 16;
/// After this a larger size is looked for again (RFC 8899 §5.1.1, PMTU_RAISE_TIMER), ...
pub const RAISE_AFTER: Duration = Duration::from_secs(600);
/// ... and after this the first time, for it may have been chance.
pub const RAISE_FIRST: Duration = Duration::from_secs(30);

/// What is known of one path.
#[derive(Debug)]
pub struct Mtu {
    base: usize,
    /// The largest that data needs.
    wanted: usize,
    current: usize,
    /// The smallest that is known not to pass; one more than wanted when none is.
    too_large: usize,
    /// Whether anything passed yet.
    is_known: bool,
    search: Search,
    challenges: Challenges,
    raises: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// A size is asked for: how often it was, and when the next probe is due.
    Asking { size: usize, tries: u32, next: Instant },
    /// Until then nothing is to be found out.
    Resting { until: Option<Instant> },
}

impl Mtu {
    /// A path that was just found: proven at no size; `wanted` is asked for at once.
    pub fn new(now: Instant, base: usize, wanted: usize) -> Self {
        let mut mtu = Self {
            base,
            wanted: wanted.max(base),
            current: base,
            too_large: wanted.max(base) + 1,
            is_known: false,
            search: Search::Resting { until: None },
            challenges: Challenges::new(),
            raises: 0,
        };
        mtu.ask(now, mtu.wanted);
        mtu
    }

    /// What every path carries.
    pub const fn base(&self) -> usize {
        self.base
    }

    /// What a PING of the path itself asks for: the current size, and before anything passed the wanted one.
    pub const fn hoped(&self) -> usize {
        if self.is_known { self.current } else { self.wanted }
    }

    /// The largest packet that passed.
    pub const fn current(&self) -> usize {
        self.current
    }

    /// The size to probe now, if one is due. Report the probe with [`Self::on_sent`].
    pub fn poll_probe(&mut self, now: Instant) -> Option<usize> {
        loop {
            match self.search {
                Search::Asking { size, tries, next } if next <= now => {
                    if tries < TRIES {
                        return Some(size);
                    }
                    self.too_large = self.too_large.min(size);
                    self.ask_between(now);
                }
                Search::Resting { until: Some(until) } if until <= now => {
                    self.too_large = self.wanted + 1;
                    self.ask(now, self.wanted);
                }
                Search::Asking { .. } | Search::Resting { .. } => return None,
            }
        }
    }

    /// The probe `id` left.
    pub fn on_sent(&mut self, now: Instant, id: u64, rtt: Option<Duration>) {
        if let Search::Asking { tries, next, .. } = &mut self.search {
            *tries += 1;
            *next = now + rtt.map_or(PAUSE, |rtt| PAUSE.max(2 * rtt));
            self.challenges.on_sent(now, id);
        }
    }

    /// PONG `id` came: whether it answers a probe. A late answer counts: what passed, passed.
    pub fn on_answer(&mut self, now: Instant, id: u64) -> bool {
        let Search::Asking { size, .. } = self.search else { return false };
        if self.challenges.on_answer(now, id).is_none() {
            return false;
        }
        tracing::debug!(size, "the path carries packets of this size");
        self.current = size;
        self.ask_between(now);
        true
    }

    /// A PING of the path itself was answered, of this size. If that is less than the current one, the path was silent at that: the
    /// search begins anew.
    pub fn on_passed(&mut self, now: Instant, size: usize) {
        self.is_known = true;
        if size > self.current {
            self.current = size;
            self.ask_between(now);
        } else if size < self.current {
            tracing::debug!(from = self.current, "the path may not carry as much any more");
            let before = self.current;
            (self.current, self.too_large, self.raises) = (self.base, self.wanted + 1, 0);
            // What passed before is the best guess: most silences have other causes.
            self.ask(now, before);
        }
    }

    /// When [`Self::poll_probe`] has something.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        match self.search {
            Search::Asking { next, .. } => Some(Deadline::new(next, "probe a packet size")),
            Search::Resting { until } => {
                until.map(|until| Deadline::new(until, "look for a larger packet size"))
            }
        }
    }

    fn ask(&mut self, now: Instant, size: usize) {
        self.challenges = Challenges::new();
        self.search = if self.current >= size {
            Search::Resting { until: None }
        } else {
            Search::Asking { size, tries: 0, next: now }
        };
    }

    /// The next size of the search, or the end of it.
    fn ask_between(&mut self, now: Instant) {
        if self.current >= self.wanted {
            self.raises = 0;
            self.search = Search::Resting { until: None };
        } else if self.too_large - self.current > CLOSE {
            let size = if self.too_large > self.wanted {
                self.wanted
            } else {
                self.current.midpoint(self.too_large)
            };
            self.ask(now, size);
        } else {
            let pause = if self.raises == 0 { RAISE_FIRST } else { RAISE_AFTER };
            self.raises = self.raises.saturating_add(1);
            self.search = Search::Resting { until: Some(now + pause) };
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RTT: Duration = Duration::from_millis(20);
    const BASE: usize = 1232;

    /// A path in virtual time that carries what is no larger than `truth`.
    struct Run {
        now: Instant,
        mtu: Mtu,
        truth: usize,
        next_id: u64,
        probes: Vec<usize>,
        /// So many of the probes that would pass are lost.
        losses: usize,
    }

    impl Run {
        fn new(wanted: usize, truth: usize) -> Self {
            let now = Instant::now();
            Self { now, mtu: Mtu::new(now, BASE, wanted), truth, next_id: 0, probes: vec![], losses: 0 }
        }

        fn run(&mut self, span: Duration) {
            let end = self.now + span;
            for _ in 0..10_000 {
                while let Some(size) = self.mtu.poll_probe(self.now) {
                    self.next_id += 1;
                    self.mtu.on_sent(self.now, self.next_id, Some(RTT));
                    self.probes.push(size);
                    if size > self.truth {
                        continue;
                    }
                    if self.losses > 0 {
                        self.losses -= 1;
                        continue;
                    }
                    assert!(self.mtu.on_answer(self.now, self.next_id));
                }
                match self.mtu.poll_timeout() {
                    Some(due) if due.at <= end => self.now = self.now.max(due.at),
                    _ => {
                        self.now = end;
                        return;
                    }
                }
            }
            panic!("it does not come to rest");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_found_closely_and_nothing_more_is_used(wanted in 1000usize..9100, truth in BASE..9200) {
            let mut run = Run::new(wanted, truth);
            run.run(Duration::from_secs(20));
            let most = truth.min(wanted.max(BASE));
            prop_assert!(run.mtu.current() <= most);
            prop_assert!(most - run.mtu.current() < CLOSE, "{} of {most}", run.mtu.current());
            prop_assert!(run.probes.len() <= 3 * 14, "{:?}", run.probes);
        }
    }

    #[test]
    fn an_ordinary_path_costs_one_probe() {
        let mut run = Run::new(1451, 1472);
        run.run(Duration::from_secs(3600));
        assert_eq!((run.mtu.current(), run.probes.len(), run.mtu.poll_timeout()), (1451, 1, None));
    }

    #[test]
    fn lost_probes_are_repeated_and_chance_is_looked_at_again() {
        let mut run = Run::new(1451, 1472);
        run.losses = 2;
        run.run(Duration::from_secs(1));
        assert_eq!((run.mtu.current(), run.probes.len()), (1451, 3));
        let mut run = Run::new(1451, 1472);
        run.losses = 3;
        run.run(Duration::from_secs(10));
        assert!(run.mtu.current() >= 1400, "the halving finds most of it: {}", run.mtu.current());
        run.run(RAISE_FIRST);
        assert_eq!(run.mtu.current(), 1451);
    }

    #[test]
    fn a_path_that_becomes_narrower_falls_to_what_it_carries_and_rises_again() {
        let mut run = Run::new(1451, 1472);
        run.run(Duration::from_secs(1));
        run.truth = 1252;
        run.mtu.on_passed(run.now, BASE);
        assert_eq!(run.mtu.current(), BASE);
        run.run(Duration::from_secs(10));
        assert!((1252 - CLOSE..=1252).contains(&run.mtu.current()), "{}", run.mtu.current());
        run.probes.clear();
        run.run(Duration::from_secs(3600));
        assert!(run.probes.len() < 8 * 20, "{} in an hour", run.probes.len());
        run.truth = 1472;
        run.run(RAISE_AFTER);
        assert_eq!(run.mtu.current(), 1451);
    }

    #[test]
    fn a_silence_that_had_another_cause_costs_one_probe() {
        let mut run = Run::new(1451, 1472);
        run.run(Duration::from_secs(1));
        run.mtu.on_passed(run.now, BASE);
        run.run(RTT);
        assert_eq!((run.mtu.current(), run.probes.len()), (1451, 2));
        run.mtu.on_passed(run.now, BASE);
        run.mtu.on_passed(run.now, BASE);
        run.run(RTT);
        assert_eq!(run.mtu.current(), 1451);
    }

    #[test]
    fn what_was_never_asked_answers_nothing() {
        let mut run = Run::new(1451, 1472);
        assert!(!run.mtu.on_answer(run.now, 5));
        run.run(Duration::from_secs(1));
        assert!(!run.mtu.on_answer(run.now, 1), "once");
    }
}
