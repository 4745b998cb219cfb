//! Runs a case from its seed to its end and judges it.

use super::case::{Case, Weather};
use super::ledger::{Identity, Life};
use super::trace;
use super::world::{Breach, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A connection that a node does not know to be dead is found out by its heartbeat (15 s) and the answer it is owed (3 s).
const REGISTER_WITHIN: Duration = Duration::from_secs(21);
/// From the last registration to every pair being connected: what the product promises (2 s), on lines of which four
/// crossings take up to 0.8 s.
const CONNECT_WITHIN: Duration = Duration::from_millis(2800);
/// What is sent again in vain, or for an association that ended, is given up and counted a minute after it was sealed (protocol §5.2).
const GIVEN_UP: Duration = Duration::from_secs(65);
/// For the frames of the last exchange, and whatever else is under way.
const DRAIN: Duration = Duration::from_secs(2);
/// A direct path is looked for each 60 s, a tenth more or less, and once more where the other side was not ready; one that failed has to behave for as
/// long before data trusts it again. A try by TCP that was in vain is followed by none for 130 s (protocol §7.12).
const BEST_WITHIN: Duration = Duration::from_secs(150 + 130);
/// Lines of a trace that are shown with a failure.
const SHOWN: usize = 60;

/// What a case came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Frames offered to planes.
    pub offered: u64,
    /// Frames that came out.
    pub delivered: u64,
    /// Frames dropped by the bounded queue before a key and a route were there.
    pub overflowed: u64,
    /// Frames that went down with their process.
    pub killed: u64,
    /// Frames that the wire, a relay's queue or a ring lost.
    pub missing: u64,
    /// Packets sent again.
    pub resent: u64,
    /// Completed rekeys, of the sessions alive at the end.
    pub rekeys: u64,
    /// Virtual time.
    pub virtual_time: Duration,
    /// Steps of the world.
    pub steps: u64,
    /// What happened, and how often: the acts of the world, and `idle` where nobody said anything for an hour, or a minute of short keys.
    pub happened: BTreeMap<&'static str, u64>,
}

impl Report {
    fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.delivered += other.delivered;
        self.overflowed += other.overflowed;
        self.killed += other.killed;
        self.missing += other.missing;
        self.resent += other.resent;
        self.rekeys += other.rekeys;
        self.virtual_time += other.virtual_time;
        self.steps += other.steps;
        for (kind, count) in &other.happened {
            *self.happened.entry(kind).or_default() += count;
        }
    }
}

/// A case and how it ended.
#[derive(Debug)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// What kind of case it was.
    pub weather: Weather,
    /// How it went.
    pub result: Result<Report, Breach>,
    /// The trace, if it was asked for.
    pub trace: Vec<String>,
}

/// Runs one seed.
pub fn run(seed: u64, with_trace: bool) -> Verdict {
    let case = Case::from_seed(seed);
    let (result, errors, trace) = trace::record(with_trace, || judge(&case, seed));
    let result = match (result, errors.into_iter().next()) {
        (Ok(report), Some(error)) => {
            Err(Breach { at: report.virtual_time, what: format!("the program reported an error: {error}") })
        }
        (result, _) => result,
    };
    Verdict { seed, weather: case.weather, result, trace }
}

/// Runs the seeds from `first` on, on all processors; the sum, or what failed, each with the end of its trace.
///
/// # Errors
/// A text for people.
pub fn run_many(first: u64, count: u64) -> Result<Report, String> {
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        let mut sum = Report::default();
        let mut failed = vec![];
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count || failed.len() > 4 {
                return (sum, failed);
            }
            match run(seed, false).result {
                Ok(report) => sum.add(&report),
                Err(_) => failed.push(seed),
            }
        }
    };
    let (mut sum, mut failed) = (Report::default(), vec![]);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            match worker.join() {
                Ok((part, seeds)) => {
                    sum.add(&part);
                    failed.extend(seeds);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    if failed.is_empty() {
        return Ok(sum);
    }
    failed.sort_unstable();
    Err(failed.into_iter().map(describe).collect::<Vec<_>>().join("\n\n"))
}

fn describe(seed: u64) -> String {
    let verdict = run(seed, true);
    if let Ok(directory) = std::env::var("SIM_TRACES")
        && let Err(error) = std::fs::write(format!("{directory}/{seed}.txt"), verdict.trace.join("\n"))
    {
        return format!("SIM_SEED={seed}: its trace could not be written: {error}");
    }
    let tail = verdict.trace.len().saturating_sub(SHOWN);
    let end = verdict.trace.get(tail..).unwrap_or_default().join("\n");
    let what = match verdict.result {
        Ok(_) => "failed once and not again: something in it does not follow from the seed".to_owned(),
        Err(breach) => breach.to_string(),
    };
    format!("SIM_SEED={seed} ({:?}): {what}\n{end}", verdict.weather)
}

fn judge(case: &Case, seed: u64) -> Result<Report, Breach> {
    let mut world = World::new(case, seed);
    let gentle = case.weather <= Weather::Moves;
    let mut early = 0;
    if case.weather == Weather::Calm {
        // A pause in the first second may cost the first handshake a repetition.
        world.run_until(world.start + Duration::from_secs(4))?;
        expect_connected(&mut world, Duration::ZERO)?;
        world.stay_connected = true;
        early = overflowed(&world);
    }
    world.run_until(world.start + case.horizon)?;
    world.run_until(world.disturbed_until.max(world.now))?;
    world.end_flows();
    world.make_honest(case.weather == Weather::Hostile)?;
    if world.run_while(world.now + REGISTER_WITHIN, |world| !world.all_registered())? {
        expect_connected(&mut world, CONNECT_WITHIN)?;
    } else {
        return Err(world.breach("somebody does not register though nothing is in the way".into()));
    }
    exchange(&mut world)?;
    if gentle && case.plans.len() <= 3 {
        expect_best(&mut world)?;
    }
    if !case.idle.is_zero() {
        idle(&mut world, case)?;
        world.happened.insert("idle", 1);
        exchange(&mut world)?;
    }
    check_loss(&mut world, case, early)?;
    check_addresses(&world, case)?;
    check_memory(&world)?;
    Ok(report(&world))
}

/// Every pair is connected within a bound, from both ends.
fn expect_connected(world: &mut World, within: Duration) -> Result<(), Breach> {
    let end = world.now + within;
    if !world.run_while(end, |world| !world.unconnected().is_empty())? && !world.unconnected().is_empty() {
        let apart = world.unconnected();
        return Err(world.breach(format!("not connected within {within:?}: {apart:?}")));
    }
    Ok(())
}

/// Frames from everybody to everybody; all of them arrive.
fn exchange(world: &mut World) -> Result<(), Breach> {
    // What is sent again because a path was just proven goes first, and may fill a narrow queue.
    world.run_until(world.now + DRAIN)?;
    let pairs = world.pairs();
    let mut wanted = vec![];
    for (from, to) in pairs {
        let (life, identity) = (world.nodes[from].life, world.nodes[to].identity);
        wanted.push((from, to, life, identity, world.books.ledger.delivered(life, identity)));
        world.send(from, to, 3, 300);
    }
    world.run_until(world.now + DRAIN)?;
    for (from, to, life, identity, before) in wanted {
        let after = world.books.ledger.delivered(life, identity);
        if after < before + 3 {
            return Err(world.breach(format!("node {from} and node {to} are connected, but no data passes")));
        }
    }
    Ok(())
}

/// With a little traffic, everybody is reached, from both ends, by the best path that the routers between allow. And then nothing moves
/// any more.
fn expect_best(world: &mut World) -> Result<(), Breach> {
    let end = world.now + BEST_WITHIN;
    loop {
        let wrong = world.not_as_could_be();
        if wrong.is_empty() {
            break;
        }
        if world.now >= end {
            return Err(world.breach(format!("after {BEST_WITHIN:?} other paths are best: {wrong:?}")));
        }
        trickle(world, 1)?;
    }
    // What was tried when the last of them moved has come to its end.
    trickle(world, 12)?;
    let before: u64 = world.nodes.iter().map(|node| node.moves).sum();
    trickle(world, 20)?;
    let moves = world.nodes.iter().map(|node| node.moves).sum::<u64>() - before;
    // One each: of a path that is just as much slower than the relay as it may be, the two ends may think differently for a while.
    if moves > world.pairs().len() as u64 {
        return Err(world.breach(format!("data still moves, {moves} times, though nothing happens")));
    }
    Ok(())
}

/// A frame from everybody to everybody each half second.
fn trickle(world: &mut World, times: u32) -> Result<(), Breach> {
    for _ in 0..times {
        for (from, to) in world.pairs() {
            world.send(from, to, 1, 300);
        }
        world.run_until(world.now + Duration::from_millis(500))?;
    }
    Ok(())
}

/// Nobody says anything for a while, and nobody wakes for more than heartbeats and rekeys.
fn idle(world: &mut World, case: &Case) -> Result<(), Breach> {
    let span = if case.plans.iter().any(|plan| plan.rekey < Duration::from_secs(120)) {
        Duration::from_secs(60)
    } else {
        case.idle
    };
    world.nodes.iter_mut().for_each(|node| node.reasons.clear());
    let before: Vec<_> = world.nodes.iter().map(|node| node.wakes).collect();
    world.run_until(world.now + span)?;
    let peers = world.keys().len();
    for (at, wakes) in before.into_iter().enumerate() {
        let woke = world.nodes[at].wakes - wakes;
        let rekeys = span.as_secs() / world.nodes[at].plan.rekey.as_secs().max(1) + 1;
        let heartbeats = span.as_secs() / 15 + 1;
        // A heartbeat is one wake-up, and up to three where the answer takes long; a peer has up to three paths, of which each
        // looks for a larger packet size now and then. A rekey is a few; keys that stay unanswered for the dead are tried each
        // 15 s. STUN is asked each 25 s.
        let bound = 20 + 2 * heartbeats + (peers as u64) * (3 * 3 * heartbeats + 6 * rekeys);
        if woke > bound {
            return Err(world.breach(format!(
                "idle node {at} woke {woke} times in {span:?}, more than {bound}: {:?}",
                world.nodes[at].reasons
            )));
        }
    }
    Ok(())
}

/// Frames that were never sealed: dropped by the bounded queue before a key and a route were there.
fn overflowed(world: &World) -> u64 {
    world.nodes.iter().map(|node| node.overflowed()).sum()
}

/// Nothing is lost but what a documented bound dropped (`early`: before everybody was connected) and what a wire took of which nobody
/// can know, each in its own direction of its own pair; and a rekey costs nothing.
fn check_loss(world: &mut World, case: &Case, early: u64) -> Result<(), Breach> {
    let is_gentle = case.weather <= Weather::Moves;
    if is_gentle {
        check_rings(world)?;
    }
    // Once there was a key, frames wait in rings for as long as anything lasts here; only a key that is used up stops them.
    if is_gentle && case.plans.iter().all(|plan| plan.key_limit.is_none()) {
        check_dropped(world)?;
    }
    let check = |world: &World| match case.weather {
        Weather::Calm | Weather::Moves | Weather::Churn => check_directions(world, true),
        Weather::Lossy => check_directions(world, false),
        Weather::Hostile => check_touched(world),
    };
    if !is_gentle && check(world).is_err() {
        world.run_until(world.now + GIVEN_UP)?;
    }
    check(world)?;
    let totals = world.books.ledger.totals();
    let overflowed = overflowed(world);
    let short_keys = case.plans.iter().any(|plan| plan.key_limit.is_some());
    if case.weather == Weather::Calm && overflowed > early && !short_keys {
        return Err(world.breach(format!("{overflowed} frames overflowed in calm weather")));
    }
    if case.weather == Weather::Calm && totals.reordered > 0 {
        return Err(world.breach(format!("{} frames came out of order", totals.reordered)));
    }
    Ok(())
}

/// Nobody dropped a frame for somebody whom it had had a key for.
fn check_dropped(world: &World) -> Result<(), Breach> {
    for node in &world.nodes {
        if let Some((peer, dropped)) = node.dropped_since().find(|(_, dropped)| *dropped > 0) {
            return Err(world.breach(format!(
                "node {} dropped {dropped} frames for {} though there was a key",
                node.at,
                peer.short()
            )));
        }
    }
    Ok(())
}

/// No ring had to give anything up, and no device was full.
fn check_rings(world: &World) -> Result<(), Breach> {
    for node in &world.nodes {
        for (_, peer, counters) in node.counters() {
            let lost = counters.lost.load(Relaxed);
            if lost > 0 {
                return Err(world.breach(format!(
                    "node {} lost {lost} packets for {}",
                    node.at,
                    peer.short()
                )));
            }
        }
        if node.unread() > 0 {
            return Err(world.breach(format!("node {} did not read {} frames", node.at, node.unread())));
        }
    }
    Ok(())
}

/// In each direction of each pair no more is missing than was dropped unsealed, counted as lost, or taken by a wire as
/// [`Losses::missing`](super::losses::Losses::missing) excuses it, or came under a key that its receiver had let go of unconfirmed.
pub(super) fn check_directions(world: &World, is_exact: bool) -> Result<(), Breach> {
    // Excused, dropped unsealed, counted as lost, said to nobody.
    let mut known: BTreeMap<(Life, Identity), [u64; 4]> = BTreeMap::new();
    let mut stories: BTreeMap<(Life, Identity), Vec<String>> = BTreeMap::new();
    for (name, is_excused) in world.net.losses.missing(is_exact) {
        let Some(direction) = world.books.ledger.direction(name.key) else { continue };
        if is_excused {
            known.entry(direction).or_default()[0] += 1;
        } else {
            stories.entry(direction).or_default().push(world.net.losses.story(name));
        }
    }
    for (direction, frames) in world.nodes.iter().flat_map(|node| &node.in_vain) {
        known.entry(*direction).or_default()[3] += frames;
    }
    // What came whole under a key that its receiver let go of before it was confirmed: nobody knows.
    for name in world.books.copies.refused(&world.net.losses) {
        let direction = world.books.ledger.direction(name.key);
        if let Some(direction) = direction.filter(|_| world.books.ledger.is_forsaken(name.key)) {
            known.entry(direction).or_default()[3] += 1;
        }
    }
    for (life, peer, counters) in world.nodes.iter().flat_map(super::node::Node::counters) {
        let Some(to) = world.books.register.identities.get(&peer) else { continue };
        let known = known.entry((life, *to)).or_default();
        known[1] += counters.tx_dropped.load(Relaxed);
        known[2] += counters.lost.load(Relaxed);
    }
    for (first, missing) in world.books.ledger.missing() {
        let direction = (first.from, first.to);
        let mut known = known.get(&direction).copied().unwrap_or_default();
        if !is_exact {
            // Where lines jitter so much that more packets in pieces are under way than a receiver puts together (protocol §5.4).
            known[0] += given_up(world, first.to);
        }
        if missing > known.iter().sum::<u64>() + world.net.losses.spoilt {
            return Err(world.breach(format!(
                "{missing} frames are missing, the first of them {first:?}; {known:?} were excused, dropped, lost and said to nobody: {:?}; {}",
                stories.get(&direction),
                world.books.copies.story(&world.books.ledger, direction)
            )));
        }
    }
    Ok(())
}

/// In each direction of each pair no more is missing than was dropped unsealed, counted as lost, or had a copy lost by a wire, a queue or an
/// enemy, however often it was sent (he may see to it that what goes again is lost as well, or looks as if it had come), or came where it was not
/// understood: he may have made its receiver forget the session.
fn check_touched(world: &World) -> Result<(), Breach> {
    let mut known: BTreeMap<(Life, Identity), u64> = BTreeMap::new();
    let losses = &world.net.losses;
    let names = losses.touched().chain(world.books.copies.refused(losses).copied());
    for direction in names.filter_map(|name| world.books.ledger.direction(name.key)) {
        *known.entry(direction).or_default() += 1;
    }
    for (direction, frames) in world.nodes.iter().flat_map(|node| &node.in_vain) {
        *known.entry(*direction).or_default() += frames;
    }
    for (life, peer, counters) in world.nodes.iter().flat_map(super::node::Node::counters) {
        let Some(to) = world.books.register.identities.get(&peer) else { continue };
        *known.entry((life, *to)).or_default() +=
            counters.tx_dropped.load(Relaxed) + counters.lost.load(Relaxed);
    }
    for (first, missing) in world.books.ledger.missing() {
        let direction = (first.from, first.to);
        let known = known.get(&direction).copied().unwrap_or_default() + given_up(world, first.to);
        if missing > known + world.net.losses.spoilt {
            let story = world.books.copies.story(&world.books.ledger, direction);
            return Err(world.breach(format!(
                "{missing} frames are missing, the first of them {first:?}, and {known} may be: {story}"
            )));
        }
    }
    Ok(())
}

/// Packets in pieces that whoever has a key now gave up.
fn given_up(world: &World, identity: Identity) -> u64 {
    world.nodes.iter().filter(|node| node.identity == identity).map(super::node::Node::given_up).sum()
}

/// Members that derived their addresses have different ones.
fn check_addresses(world: &World, case: &Case) -> Result<(), Breach> {
    let addresses: Vec<_> = world.nodes.iter().map(|node| node.endpoint.hello().ipv4).collect();
    let different: BTreeSet<_> = addresses.iter().flatten().map(|cidr| cidr.address()).collect();
    if different.len() < case.plans.len() {
        return Err(world.breach(format!("two members have one address: {addresses:?}")));
    }
    Ok(())
}

/// Tables hold what the living need, and a bounded rest.
fn check_memory(world: &World) -> Result<(), Breach> {
    let peers = world.keys().len() + 2;
    for node in &world.nodes {
        // Eight receive keys, four unconfirmed sessions, a handshake and a rekey under way.
        let indices = node.endpoint.indices_in_use();
        if indices > 14 * peers {
            return Err(world.breach(format!("node {}: {indices} receiver indices in use", node.at)));
        }
    }
    Ok(())
}

fn report(world: &World) -> Report {
    let totals = world.books.ledger.totals();
    let now: Instant = world.now;
    let sessions = world.nodes.iter().flat_map(|node| node.endpoint.peer_status(now));
    Report {
        offered: totals.offered,
        delivered: totals.delivered,
        overflowed: overflowed(world),
        killed: totals.killed,
        missing: totals.missing,
        resent: world.nodes.iter().map(|node| node.resent()).sum(),
        rekeys: sessions.filter_map(|status| status.session).map(|session| session.rekeys).sum(),
        virtual_time: now - world.start,
        steps: world.steps,
        happened: world.happened.clone(),
    }
}
