//! Rows of pairs that had no reason to talk, and talk again.

use super::super::case::Act;
use super::super::dice::Dice;
use super::super::net::{Nat, Uplink};
use super::super::world::{Breach, World};
use super::scene::{EVERY, HOME, SLACK, Scene, hole, ms, secs};
use shadowmesh_proto::path::select::PathKind;
use std::time::Duration;

/// Two that cannot go direct, and have not had a reason to talk for an hour when they could.
fn estranged(dice: &mut Dice, seed: u64) -> Result<Scene, Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    scene.act(hole(true, secs(3600)))?;
    scene.settle_on(PathKind::RelayUdp, secs(20))?;
    Ok(scene)
}

pub(super) fn idle_pair_talks_again(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = estranged(dice, seed)?;
    scene.world.run_until(scene.world.start + secs(3601))?;
    scene.every = ms(100);
    // 60 s, a tenth more or less, and the time to find and prove it.
    scene.settle_on(PathKind::DirectUdp, secs(66) + secs(2))?;
    scene.expect_all()
}

pub(super) fn machine_slept(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = estranged(dice, seed)?;
    // It sleeps in one network and wakes in another, where the hole is not, or that is filled meanwhile.
    scene.world.run_until(scene.world.start + secs(3000))?;
    let (node, lasts) = (dice.below(2), dice.between(secs(601), secs(700)));
    scene.act(Act::Sleep { node, lasts })?;
    scene.world.run_until(scene.world.now + lasts)?;
    awake(&mut scene)
}

pub(super) fn clock_jumps(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = estranged(dice, seed)?;
    scene.world.run_until(scene.world.start + secs(3600))?;
    // No retry is due by that alone.
    scene.act(Act::Jump { node: dice.below(2), by: dice.between(secs(18), secs(25)) })?;
    awake(&mut scene)
}

/// A round towards a direct path begins within 2 s, and finds it.
fn awake(scene: &mut Scene) -> Result<(), Breach> {
    let within = secs(2) + 8 * scene.relayed_round() + secs(1);
    let direct = scene.talk_until(scene.world.now + within, Scene::all_on(PathKind::DirectUdp))?;
    scene.ensure(direct.is_some(), || format!("not direct within {within:?}: {:?}", scene.world.kinds()))
}

/// So soon is a way looked for when something changed (issue, and protocol §7.5).
const LOOKS_WITHIN: Duration = secs(2);

/// What changes.
#[derive(Debug, Clone, Copy)]
enum Change {
    Network,
    Mapping,
    Link,
    Sleep,
    Clock,
}

const CHANGES: [Change; 5] = [Change::Network, Change::Mapping, Change::Link, Change::Sleep, Change::Clock];

/// Of rows that try each of those at either side.
pub(super) const EACH_EVENT: u64 = 2 * CHANGES.len() as u64;

/// Two that cannot go direct, by routers that give a port for each destination, try again in a minute; but at once when something changed: who is
/// told sends the other a datagram by no relay.
pub(super) fn looks_after_a_change(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let at = usize::try_from(seed).unwrap_or_default();
    let (change, node) = (CHANGES[at % CHANGES.len()], at / CHANGES.len() % 2);
    let apart = Uplink::new(Nat::Symmetric);
    let mut scene = Scene::pair(dice, seed, [apart; 2]);
    scene.settle_on(PathKind::RelayUdp, secs(20))?;
    scene.every = ms(100);
    let end = scene.world.now + secs(120);
    loop {
        scene.world.net.tried.clear();
        scene.talk(ms(1500))?;
        if scene.world.net.tried.is_empty() && next_try(&scene.world, node) > secs(25) {
            break;
        }
        scene.ensure(scene.world.now < end, || "somebody looks for a way all the time".to_owned())?;
    }
    let (act, lasts) = match change {
        Change::Network => (Act::Roam { node, uplink: apart }, Duration::ZERO),
        Change::Mapping => (Act::Rebind { node }, Duration::ZERO),
        Change::Link => (Act::LinkDown { node, lasts: secs(1) }, secs(1)),
        Change::Sleep => (Act::Sleep { node, lasts: secs(12) }, secs(12)),
        Change::Clock => (Act::Jump { node, by: secs(12) }, Duration::ZERO),
    };
    let since = scene.world.now + lasts;
    scene.act(act)?;
    scene.talk(lasts.saturating_sub(ms(1)))?;
    // What goes nowhere while a cable is out is no try.
    scene.world.net.tried.remove(&node);
    let tried = |world: &World| world.net.tried.contains_key(&node);
    let found = scene.talk_until(since + LOOKS_WITHIN, tried)?;
    scene.ensure(found.is_some(), || {
        format!("{change:?}: nothing left for the other within {LOOKS_WITHIN:?}")
    })?;
    scene.settle_on(PathKind::RelayUdp, secs(70))?;
    scene.expect_all()
}

/// Until a node tries by itself.
fn next_try(world: &World, at: usize) -> Duration {
    let node = &world.nodes[at];
    let all = node.endpoint.peer_status(node.clock(world.now)).into_iter();
    all.filter_map(|status| status.next_direct_try).min().unwrap_or_default()
}

/// So long a session may be of no use here.
const IDLE: Duration = secs(5);

fn rests(world: &World) -> u64 {
    world.nodes.iter().map(|node| node.rests).sum()
}

/// Lets sessions end that are not used.
fn let_rest(scene: &mut Scene) -> Result<(), Breach> {
    for at in 0..scene.world.nodes.len() {
        scene.world.keep_sessions(at, Some(IDLE)).map_err(|what| scene.breach(what))?;
    }
    Ok(())
}

/// Two that have no session because they had nothing to say; then the first frame of either, or of both at once, comes within two round trips over
/// the relay and one way more, and then data goes directly again within a second.
pub(super) fn session_rests(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    scene.settle_on(PathKind::DirectUdp, secs(20))?;
    let_rest(&mut scene)?;
    for round in 1..=4 {
        scene.world.run_until(scene.world.now + IDLE + secs(2))?;
        let ended = rests(&scene.world);
        scene.ensure(ended == 2 * round, || format!("{ended} sessions ended, after {round} silences"))?;
        scene.world.run_until(scene.world.now + dice.between(secs(0), secs(40)))?;
        let (begun, doubts) = (scene.world.now, scene.world.doubts());
        let first = usize::try_from(seed).unwrap_or_default();
        if first % 3 < 2 {
            scene.world.send(first % 3, 1 - first % 3, 3, 200);
        } else {
            scene.world.send(0, 1, 3, 200);
            scene.world.run_until(begun + dice.between(ms(0), scene.relayed_round()))?;
            scene.world.send(1, 0, 3, 200);
        }
        // INIT, RESPONSE, PING, PONG (but who answered sends after PING), the frame, each one way; and who begins may lose to the other.
        let within = scene.relayed_round() * 7 / 2 + SLACK;
        let totals = |scene: &Scene| scene.world.books.ledger.totals();
        let end = scene.world.now + within;
        scene.world.run_while(end, |world| {
            let totals = world.books.ledger.totals();
            totals.delivered < totals.offered
        })?;
        let (after, totals) = (scene.world.now - begun, totals(&scene));
        scene.ensure(totals.delivered == totals.offered, || {
            format!("not all came within {after:?}: {totals:?}")
        })?;
        scene.every = 5 * EVERY;
        let direct = scene.talk_until(scene.world.now + secs(1), Scene::all_on(PathKind::DirectUdp))?;
        scene
            .ensure(direct.is_some(), || format!("not direct within a second: {:?}", scene.world.kinds()))?;
        let doubts = scene.world.doubts() - doubts;
        scene.ensure(doubts == 0, || format!("{doubts} paths came into doubt"))?;
    }
    scene.ensure(scene.reordered() == 0, || format!("{} frames out of order", scene.reordered()))?;
    scene.expect_all()
}

/// Frames, one or a few, each way, about when a session is to end: every moment of that is tried.
pub(super) fn frames_while_a_session_ends(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    scene.settle_on(PathKind::DirectUdp, secs(20))?;
    let_rest(&mut scene)?;
    let begun = rests(&scene.world);
    for _ in 0..60 {
        // The lower key asks after that time, the other a second later.
        let around = dice.pick(&[IDLE, IDLE, IDLE + secs(1)], IDLE);
        let near = dice.between(around.saturating_sub(ms(20)), around + 2 * scene.relayed_round() + ms(40));
        scene.world.run_until(scene.world.now + near)?;
        for _ in 0..=dice.below(3) {
            let from = dice.below(2);
            scene.world.send(from, 1 - from, 1 + u32::try_from(dice.below(3)).unwrap_or_default(), 200);
            scene.world.run_until(scene.world.now + dice.between(ms(0), scene.relayed_round()))?;
        }
    }
    let ended = rests(&scene.world) - begun;
    scene.ensure(ended >= 20, || format!("only {ended} sessions ended"))?;
    scene.ensure(scene.reordered() == 0, || format!("{} frames out of order", scene.reordered()))?;
    scene.expect_all()
}
