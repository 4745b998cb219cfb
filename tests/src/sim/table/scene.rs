//! A world of a few nodes that talk all the while, and what is asked of it.

use super::super::case::{Act, Case, Weather};
use super::super::dice::Dice;
use super::super::judge::check_directions;
use super::super::ledger::{Identity, Life};
use super::super::net::{Nat, Placement, Uplink, Wire};
use super::super::node::Plan;
use super::super::world::{Breach, World};
use shadowmesh_proto::crypto::aead::CipherSet;
use shadowmesh_proto::path::select::PathKind;
use shadowmesh_proto::session::RingLimits;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Frames leave this often, each way.
pub(super) const EVERY: Duration = Duration::from_millis(10);

/// What a machine of its own would take between a timer and its work.
pub(super) const SLACK: Duration = Duration::from_millis(10);

pub(super) const HOME: Uplink = Uplink::new(Nat::PortRestricted);

/// What the simulator saw of one direction of a pair, whatever the program says of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Packets that left once more.
    again: u64,
    /// Packets that came a second time.
    twice: u64,
    /// Frames that came out after later ones.
    reordered: u64,
    /// Frames that did not come out, or not yet.
    missing: u64,
}

/// How long the silence of a move was, as it was seen since somebody listened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// Nothing else was silent for so long.
    Longest,
    /// Something else may have been, and the move was for so long at least.
    AtLeast(Duration),
}

/// A world of a few nodes.
pub(super) struct Scene {
    pub(super) world: World,
    case: Case,
    /// Frames are so long, and leave so often, each way.
    pub(super) len: usize,
    pub(super) every: Duration,
    /// Node 0 and node 1 say so many at a time; others one.
    pub(super) burst: [u32; 2],
}

impl Scene {
    /// Nodes behind these uplinks, each so far from the relay. Between them it is as far as over it.
    pub(super) fn new(uplinks: &[(Uplink, Duration)], seed: u64, adjust: impl FnOnce(&mut Case)) -> Self {
        let plan = |latency| Plan {
            latency,
            jitter: Duration::ZERO,
            rekey: secs(120),
            ciphers: CipherSet::ALL,
            ring: RingLimits::default(),
            key_limit: None,
            address: None,
            listens: true,
            idle_after: None,
            rate: None,
        };
        let placement = |(uplink, latency): &(Uplink, Duration)| Placement {
            uplink: *uplink,
            beside: None,
            mtu: 1500,
            latency: *latency,
            jitter: Duration::ZERO,
        };
        let mut case = Case {
            weather: Weather::Moves,
            plans: uplinks.iter().map(|(_, latency)| plan(*latency)).collect(),
            placements: uplinks.iter().map(placement).collect(),
            detour: Some(8),
            wire: Wire::default(),
            acts: vec![],
            horizon: Duration::ZERO,
            window: 256 << 10,
            queue: 8 << 20,
            idle: Duration::ZERO,
        };
        adjust(&mut case);
        Self { world: World::new(&case, seed), case, len: 200, every: EVERY, burst: [1; 2] }
    }

    /// Two, whose round trip over the relay is 2 to 100 ms, and as long directly.
    pub(super) fn pair(dice: &mut Dice, seed: u64, uplinks: [Uplink; 2]) -> Self {
        let both = uplinks.map(|uplink| (uplink, dice.between(ms(1), ms(50)) / 2));
        Self::new(&both, seed, |_| ())
    }

    pub(super) fn breach(&self, what: String) -> Breach {
        self.world.breach(what)
    }

    pub(super) fn ensure(&self, is_so: bool, what: impl FnOnce() -> String) -> Result<(), Breach> {
        if is_so { Ok(()) } else { Err(self.breach(what())) }
    }

    pub(super) fn act(&mut self, act: Act) -> Result<(), Breach> {
        self.world.act(act).map_err(|what| self.breach(what))
    }

    /// The round trip over the relay.
    pub(super) fn relayed_round(&self) -> Duration {
        self.case.plans.iter().map(|plan| 2 * plan.latency).sum()
    }

    /// Frames go each way for a while.
    pub(super) fn talk(&mut self, span: Duration) -> Result<(), Breach> {
        let end = self.world.now + span;
        self.talk_until(end, |_| false).map(|_| ())
    }

    /// Frames go each way until `end`, or until something is so; when that was.
    pub(super) fn talk_until(
        &mut self,
        end: Instant,
        is_so: impl Fn(&World) -> bool,
    ) -> Result<Option<Instant>, Breach> {
        while self.world.now < end {
            if is_so(&self.world) {
                return Ok(Some(self.world.now));
            }
            for (from, to) in self.world.pairs() {
                self.world.send(from, to, self.burst.get(from).copied().unwrap_or(1), self.len);
            }
            let next = (self.world.now + self.every).min(end);
            self.world.run_until(next)?;
        }
        Ok(is_so(&self.world).then_some(self.world.now))
    }

    /// Whether the data of everybody goes by this kind of path.
    pub(super) fn all_on(kind: PathKind) -> impl Fn(&World) -> bool {
        move |world| world.kinds().into_iter().all(|(_, known)| known == Some(kind))
    }

    /// They talk until all are on such a path, and a little longer.
    pub(super) fn settle_on(&mut self, kind: PathKind, within: Duration) -> Result<(), Breach> {
        let end = self.world.now + within;
        let every = std::mem::replace(&mut self.every, 5 * EVERY);
        let burst = std::mem::replace(&mut self.burst, [1; 2]);
        let settled = self.talk_until(end, Self::all_on(kind))?;
        self.ensure(settled.is_some(), || {
            format!("not on {kind} within {within:?}: {:?}", self.world.kinds())
        })?;
        self.talk(secs(5))?;
        (self.every, self.burst) = (every, burst);
        self.talk(ms(200))?;
        self.ensure(Self::all_on(kind)(&self.world), || format!("not on {kind} for long"))
    }

    pub(super) fn expect_on(&self, kind: PathKind) -> Result<(), Breach> {
        self.ensure(Self::all_on(kind)(&self.world), || format!("not on {kind}: {:?}", self.world.kinds()))
    }

    pub(super) fn moves(&self) -> Vec<u64> {
        self.world.nodes.iter().map(|node| node.moves).collect()
    }

    /// How often each node's data moved since then.
    pub(super) fn expect_moves(&self, before: &[u64], each: u64) -> Result<(), Breach> {
        let moved: Vec<_> = self.moves().iter().zip(before).map(|(now, before)| now - before).collect();
        self.ensure(moved.iter().all(|moves| *moves == each), || {
            format!("data moved {moved:?} times, and not {each} times each")
        })
    }

    /// From now on silence is looked at.
    pub(super) fn listen(&mut self) {
        let directions = self.world.directions().into_iter();
        self.world.books.silences.begin(self.world.now, directions);
    }

    /// Nobody heard nothing for longer than that since [`Self::listen`].
    pub(super) fn expect_gap(&self, most: Duration) -> Result<(), Breach> {
        let gap = self.world.books.silences.longest(self.world.now);
        self.ensure(gap <= most + self.every, || format!("silence for {gap:?}, more than {most:?}"))
    }

    /// Somebody heard nothing for at least `least` since [`Self::listen`], so what was to keep them apart did, and nobody for longer than `most`.
    pub(super) fn expect_outage(&self, least: Duration, most: Duration) -> Result<(), Breach> {
        let gap = self.world.books.silences.longest(self.world.now);
        self.ensure(gap >= least, || format!("silence for {gap:?} only, and {least:?} were to be"))?;
        self.expect_gap(most)
    }

    /// Nobody heard anything while this lasted, but for what was under way, and everybody from so much later on.
    pub(super) fn expect_outage_of(&self, lasted: Duration, later: Duration) -> Result<(), Breach> {
        self.expect_outage(lasted.saturating_sub(self.relayed_round()), lasted + later)
    }

    /// Everything that was said has come out, in the end; but for what wires took.
    pub(super) fn expect_all(&mut self) -> Result<(), Breach> {
        self.expect_all_but_chance(true)
    }

    /// The same; wires may have taken by chance what was sent again, if not `is_exact`.
    pub(super) fn expect_all_but_chance(&mut self, is_exact: bool) -> Result<(), Breach> {
        self.world.run_until(self.world.now + secs(3))?;
        for node in &self.world.nodes {
            for (_, peer, counters) in node.counters() {
                let (lost, dropped) = (counters.lost.load(Relaxed), counters.tx_dropped.load(Relaxed));
                self.ensure(lost + dropped == 0, || {
                    format!("node {} lost {lost} and dropped {dropped} for {}", node.at, peer.short())
                })?;
            }
        }
        check_directions(&self.world, is_exact)
    }

    pub(super) fn reordered(&self) -> u64 {
        self.world.books.ledger.totals().reordered
    }

    /// What is seen of the direction from one node to another.
    fn seen_of(&self, from: usize, to: usize) -> ((Life, Identity), Seen) {
        let direction = (self.world.nodes[from].life, self.world.nodes[to].identity);
        let books = &self.world.books;
        let seen = Seen {
            again: books.copies.again(direction),
            twice: books.copies.twice(direction),
            reordered: books.ledger.reordered(direction.0, direction.1),
            missing: books.ledger.missing_of(direction.0, direction.1).len() as u64,
        };
        (direction, seen)
    }

    /// What was seen of every direction until now. A move that is judged begins after this.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.world.pairs().into_iter().map(|(from, to)| self.seen_of(from, to).1).collect()
    }

    /// What each of two nodes says of its last move is what was seen of it since `before`; and how much that was, of both: sent again,
    /// lost, come twice, reordered. `gaps`: of what node 0 and node 1 heard.
    pub(super) fn expect_costs(
        &self,
        before: &[Seen],
        (old, new): (PathKind, PathKind),
        gaps: [Gap; 2],
    ) -> Result<[u64; 4], Breach> {
        let mut sum = [0; 4];
        let pairs = self.world.pairs();
        for (here, there) in pairs.iter().copied() {
            let since = |from, to| {
                let (direction, now) = self.seen_of(from, to);
                let at = pairs.iter().position(|pair| *pair == (from, to));
                let before = at.and_then(|at| before.get(at)).copied().unwrap_or_default();
                let seen = Seen {
                    again: now.again - before.again,
                    twice: now.twice - before.twice,
                    reordered: now.reordered - before.reordered,
                    // What was under way before may have been lost since. Nothing else was.
                    missing: now.missing,
                };
                (direction, seen)
            };
            let (out, (way_in, came)) = (since(here, there).1, since(there, here));
            let Some((from, to, cost)) = self.world.last_switch(here, there) else {
                return Err(self.breach(format!("node {here} knows of no move")));
            };
            let told = [cost.resent, cost.lost, cost.duplicates, cost.reordered];
            let seen = [out.again, out.missing, came.twice, came.reordered];
            self.ensure((from, to) == (old, new) && told == seen, || {
                format!(
                    "node {here} says of its move from {from} to {to} that it sent again, lost, got twice and out of order \
                     {told:?}; from {old} to {new} {seen:?} were seen"
                )
            })?;
            // In microseconds, as it is counted.
            let silence = self.world.books.silences.longest_of(way_in).as_micros();
            let silence = Duration::from_micros(u64::try_from(silence).unwrap_or(u64::MAX));
            let gap = gaps[here];
            let is_so = match gap {
                Gap::Longest => cost.gap == Some(silence),
                Gap::AtLeast(least) => cost.gap.is_some_and(|gap| (least..=silence).contains(&gap)),
            };
            self.ensure(is_so, || {
                format!(
                    "node {here} was silent for {:?} when {there} moved, {silence:?} was seen: {gap:?}",
                    cost.gap
                )
            })?;
            sum.iter_mut().zip(told).for_each(|(sum, told)| *sum += told);
        }
        Ok(sum)
    }

    /// What each direction lost in all, as both ends' counters have it, and as it is: the same, in each. The sum.
    pub(super) fn expect_counted(&self) -> Result<u64, Breach> {
        let mut sum = 0;
        for (from, to) in self.world.pairs() {
            let (_, seen) = self.seen_of(from, to);
            let (node, peer) = (&self.world.nodes[from], self.world.nodes[to].id());
            let counters = node.counters().filter(|(life, id, _)| (*life, *id) == (node.life, peer));
            let (mut lost, mut dropped) = (0, node.unread());
            for (_, _, counters) in counters {
                lost += counters.lost.load(Relaxed);
                dropped += counters.tx_dropped.load(Relaxed);
            }
            self.ensure(lost + dropped == seen.missing, || {
                format!(
                    "node {from} counts {lost} as lost and {dropped} as dropped, and {} are missing",
                    seen.missing
                )
            })?;
            sum += seen.missing;
        }
        Ok(sum)
    }
}

pub(super) fn hole(both: bool, lasts: Duration) -> Act {
    Act::Hole { from: 0, to: 1, lasts, both }
}
