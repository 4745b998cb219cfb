//! The rows of the scenario table, in virtual time: one thing happens to nodes that talk all the while, on lines that a seed
//! decides, and what that may cost is written down in numbers.
//!
//! The namespace lab (`tests/lab/scenarios`) does the same with real kernels, once; here each row is run over many round trips. What a
//! random world cannot be asked (how often data moved, for how long it was silent, and whether what a node says of its last move is what
//! it cost) is asked here.

mod members;
mod planned;
mod relayed;
mod restarts;
mod rests;
mod scene;
mod silent;
mod uplinks;

use super::dice::Dice;
use super::trace;
use super::world::Breach;
use relayed::EACH_INFEASIBLE;
use rests::EACH_EVENT;
use std::time::Duration;
use uplinks::{EACH_CHANGE, EACH_ROUTER};

/// A row.
#[derive(Debug)]
pub struct Row {
    /// What happens.
    pub name: &'static str,
    /// How often it is tried.
    pub seeds: u64,
    run: fn(&mut Dice, u64) -> Result<(), Breach>,
}

const fn row(name: &'static str, seeds: u64, run: fn(&mut Dice, u64) -> Result<(), Breach>) -> Row {
    Row { name, seeds, run }
}

/// Round trips and the like that each is tried with.
const SEEDS: u64 = 4;

/// All of them.
pub const ROWS: [Row; 40] = [
    row("from the relay to a direct path under load", SEEDS, planned::goes_direct_under_load),
    row("planned, to the relay and back, twenty times", SEEDS, planned::planned_moves),
    row("planned, and the relay is far behind", SEEDS, planned::planned_move_beyond_patience),
    row("a black hole, twice", 2, silent::black_holes),
    row("a black hole with a small ring", SEEDS, silent::black_hole_with_a_small_ring),
    row("a black hole under direct TCP", SEEDS, silent::black_hole_under_tcp),
    row("a black hole under a slow direct TCP", SEEDS, silent::black_hole_under_slow_tcp),
    row("what is large is lost on every path", 3 * SEEDS, silent::large_is_lost),
    row("what is large is lost one way, on every path", 3 * SEEDS, silent::large_is_lost_one_way),
    row("one way blocked for five minutes", SEEDS, silent::one_way_blocked),
    row("a router forgets every five seconds", EACH_ROUTER, uplinks::rebinds),
    row("a router forgets, and the other is strict", EACH_ROUTER, uplinks::rebinds_before_a_strict_router),
    row("one uplink moves to another router", 2 * EACH_CHANGE, uplinks::one_uplink_moves),
    row("both uplinks move", 2 * EACH_CHANGE, uplinks::both_uplinks_move),
    row("the link is down", SEEDS, uplinks::link_down),
    row("the link is down for longer than the ring holds", 2, uplinks::link_down_for_too_long),
    row("the relay restarts while direct", SEEDS, restarts::relay_restarts_while_direct),
    row("the direct path fails while the relay is away", SEEDS, restarts::direct_fails_without_a_relay),
    row(
        "the relay restarts, and the peer reads slowly",
        SEEDS,
        restarts::relay_restarts_before_a_slow_reader,
    ),
    row("the relay restarts while relayed", SEEDS, restarts::relay_restarts_while_relayed),
    row("the peer restarts with its key", SEEDS, restarts::peer_restarts),
    row("the peer restarts with another key", SEEDS, restarts::peer_restarts_anew),
    row("a few per cent are lost", SEEDS, silent::few_are_lost),
    row("a fifth is lost", SEEDS, silent::many_are_lost),
    row("a fifth is lost everywhere", 2, silent::many_are_lost_everywhere),
    row("the direct path becomes slow", SEEDS, planned::direct_becomes_slow),
    row("ten behind one router, an hour", 1, uplinks::ten_behind_one_router),
    row("a process stands still", SEEDS, restarts::process_stands_still),
    row("no UDP at one side, or at both", SEEDS, silent::no_udp),
    row("the path is narrow, or becomes so", SEEDS, planned::narrow_path),
    row("a way that is shorter than the relay's", SEEDS, planned::shorter_than_the_relay),
    row("an idle pair talks again", SEEDS, rests::idle_pair_talks_again),
    row("something changes, and a way is looked for", EACH_EVENT, rests::looks_after_a_change),
    row("what an idle pair costs the relay", SEEDS, relayed::idle_pair_costs_little),
    row("no way but the relay's, at once", EACH_INFEASIBLE, relayed::usable_at_once),
    row("a ring overflows while relayed", 2 * SEEDS, relayed::ring_overflows),
    row("a machine slept", SEEDS, rests::machine_slept),
    row("the clock jumps ahead", SEEDS, rests::clock_jumps),
    row("two admins revoke at once, without a relay", SEEDS, members::two_admins_revoke_at_once),
    row("who was away hears who is revoked", SEEDS, members::who_was_away_hears_who_is_revoked),
];

/// Runs one row with one seed; the breach, and the trace if it was asked for.
pub fn run_row(row: &Row, seed: u64, with_trace: bool) -> (Result<(), Breach>, Vec<String>) {
    let mut dice = Dice::new(seed ^ 0x7ab1e);
    let (result, errors, trace) = trace::record(with_trace, || (row.run)(&mut dice, seed));
    let at = Duration::ZERO;
    let result = result.and_then(|()| match errors.into_iter().next() {
        Some(error) => Err(Breach { at, what: format!("the program reported an error: {error}") }),
        None => Ok(()),
    });
    (result, trace)
}
