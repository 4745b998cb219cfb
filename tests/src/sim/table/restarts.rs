//! Rows of processes that end and begin anew, or stand still: relays and peers.

use super::super::case::Act;
use super::super::dice::Dice;
use super::super::judge::check_directions;
use super::super::net::{Nat, Uplink};
use super::super::node::Node;
use super::super::world::Breach;
use super::scene::{EVERY, HOME, SLACK, Scene, hole, ms, secs};
use shadowmesh_proto::path::select::PathKind;
use std::sync::atomic::Ordering::Relaxed;

/// By datagram and by connection.
pub(super) fn relay_restarts_while_direct(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let ways = [(HOME, PathKind::DirectUdp), (Uplink::new(Nat::UdpBlocked), PathKind::DirectTcp)];
    let (uplink, kind) = ways[usize::from(seed % 2 == 1)];
    let mut scene = Scene::pair(dice, seed, [uplink; 2]);
    scene.settle_on(kind, secs(15))?;
    let before = scene.moves();
    scene.listen();
    let (down, silent) = (dice.between(ms(1), secs(10)), dice.per_mille(500));
    let began = scene.world.now;
    scene.act(Act::RelayRestart { down, silent })?;
    scene.talk(secs(30))?;
    let is_anew = |node: &Node| node.registered_at.is_some_and(|at| at >= began + down);
    scene.ensure(scene.world.nodes.iter().all(is_anew), || "somebody is registered as before".to_owned())?;
    scene.expect_moves(&before, 0)?;
    scene.expect_on(kind)?;
    scene.expect_gap(SLACK)?;
    scene.expect_all()
}

/// The relay is away for so long that nobody says any more how either is seen, and neither names that address to the other.
pub(super) fn direct_fails_without_a_relay(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    scene.act(Act::RelayRestart { down: secs(400), silent: dice.per_mille(500) })?;
    scene.talk(secs(100))?;
    scene.expect_on(PathKind::DirectUdp)?;
    let lasts = dice.between(secs(5), secs(20));
    scene.act(hole(true, lasts))?;
    scene.talk(lasts)?;
    scene.ensure(scene.world.kinds().iter().all(|(_, kind)| kind.is_none()), || {
        "the hole was not found out".to_owned()
    })?;
    // What is tried in vain is tried again after a minute, a tenth more or less.
    let direct = scene.talk_until(scene.world.now + secs(67), Scene::all_on(PathKind::DirectUdp))?;
    scene.ensure(direct.is_some(), || format!("not found again: {:?}", scene.world.kinds()))?;
    scene.talk(secs(5))?;
    scene.world.run_until(scene.world.now + secs(3))?;
    // What waited for more than a minute was given up, and that is counted. So is what arrived just before, of which nobody could say so.
    for (from, to) in scene.world.pairs() {
        let (node, peer) = (&scene.world.nodes[from], scene.world.nodes[to].identity);
        let missing = scene.world.books.ledger.missing_of(node.life, peer).len() as u64;
        let counted: u64 =
            node.counters().map(|(_, _, c)| c.lost.load(Relaxed) + c.tx_dropped.load(Relaxed)).sum();
        let under_way = u64::try_from(secs(1).as_millis() / EVERY.as_millis()).unwrap_or(u64::MAX);
        scene.ensure((missing..=missing + under_way).contains(&counted), || {
            format!("of what node {from} said {missing} are missing, and it counts {counted}")
        })?;
    }
    Ok(())
}

/// By datagram and by stream.
pub(super) fn relay_restarts_while_relayed(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let is_stream = seed % 2 == 1;
    let (nat, kind) =
        if is_stream { (Nat::UdpBlocked, PathKind::RelayWs) } else { (Nat::Symmetric, PathKind::RelayUdp) };
    let both = [0, 1].map(|_| (Uplink::new(nat), dice.between(ms(1), ms(50)) / 2));
    let mut scene = Scene::new(&both, seed, |case| {
        case.plans.iter_mut().for_each(|plan| plan.listens = !is_stream);
    });
    scene.settle_on(kind, secs(10))?;
    let sessions = scene.world.associations();
    let down = dice.between(ms(1), secs(10));
    scene.listen();
    scene.act(Act::RelayRestart { down, silent: false })?;
    scene.talk(down + secs(5))?;
    scene.expect_outage_of(down, secs(2))?;
    scene.settle_on(kind, secs(70))?;
    scene.ensure(scene.world.associations() == sessions, || "a full handshake".to_owned())?;
    scene.expect_all()
}

/// What was said while the relay was away is more than it holds for a client that reads slowly: it drops the oldest, and that goes again.
/// Of what is said meanwhile a little may be dropped, before it is sealed and counted: while more waits behind that than its window, which
/// such a relay makes small (protocol §5.2).
pub(super) fn relay_restarts_before_a_slow_reader(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let both = [0, 1].map(|_| (Uplink::new(Nat::UdpBlocked), dice.between(ms(1), ms(50)) / 2));
    let slow = dice.below(2);
    let mut scene = Scene::new(&both, seed, |case| {
        (case.queue, case.window) = (512 << 10, 64 << 10);
        for (at, plan) in case.plans.iter_mut().enumerate() {
            (plan.listens, plan.rate) = (false, Some(if at == slow { 1_200_000 } else { 8_000_000 }));
        }
    });
    scene.len = 1400;
    scene.settle_on(PathKind::RelayWs, secs(5))?;
    // Two hundred and eighty kilobytes a second, for longer than the relay could hold any of it.
    scene.every = ms(5);
    scene.talk(secs(1))?;
    let down = dice.between(secs(5), secs(8));
    scene.act(Act::RelayRestart { down, silent: false })?;
    scene.talk(down)?;
    scene.listen();
    scene.talk(secs(10))?;
    scene.expect_gap(secs(2))?;
    scene.ensure(scene.world.relay.displaced > 0, || "the relay held all of it".to_owned())?;
    scene.world.run_until(scene.world.now + secs(3))?;
    for node in &scene.world.nodes {
        for (_, peer, counters) in node.counters() {
            let said = counters.tx_frames.load(Relaxed);
            let (lost, dropped) = (counters.lost.load(Relaxed), counters.tx_dropped.load(Relaxed));
            scene.ensure(lost == 0 && dropped * 50 <= said, || {
                format!("node {} lost {lost} and dropped {dropped} of {said} for {}", node.at, peer.short())
            })?;
        }
    }
    check_directions(&scene.world, true)
}

pub(super) fn peer_restarts(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    restarts(dice, seed, false)
}

pub(super) fn peer_restarts_anew(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    restarts(dice, seed, true)
}

fn restarts(dice: &mut Dice, seed: u64, new_key: bool) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    let (node, down, relay_notices) = (dice.below(2), dice.between(ms(1), secs(5)), dice.per_mille(500));
    // The one that goes on, and how much it had said when what the other heard last left.
    let stays = (scene.world.nodes[1 - node].life, scene.world.nodes[1 - node].identity);
    let stayed = scene.world.nodes[node].identity;
    let under_way = usize::try_from(scene.relayed_round().as_millis() / EVERY.as_millis()).unwrap_or(0) + 1;
    let heard_before = scene.world.books.ledger.offered(stays.0, stayed).saturating_sub(under_way);
    scene.act(Act::Kill { node, down, relay_notices, new_key })?;
    scene.talk(down)?;
    let up = scene.world.now;
    scene.listen();
    let heard = scene.talk_until(up + secs(2), |world| world.books.silences.all_heard())?;
    scene.ensure(heard.is_some(), || "no frames both ways within 2 s".to_owned())?;
    let now = [(stays.0, scene.world.nodes[node].identity), (scene.world.nodes[node].life, stays.1)];
    let said = now.map(|(from, to)| scene.world.books.ledger.offered(from, to));
    let direct = scene.talk_until(up + secs(10), Scene::all_on(PathKind::DirectUdp))?;
    scene.ensure(direct.is_some(), || format!("not direct in 10 s: {:?}", scene.world.kinds()))?;
    scene.talk(secs(5))?;
    scene.world.run_until(scene.world.now + secs(3))?;
    // Nothing is missing but what was said while the process was down, until it was heard again both ways.
    let restarted = (scene.world.nodes[node].life, scene.world.nodes[node].identity);
    let ledger = &scene.world.books.ledger;
    let [to_it, from_it] = [(stays.0, restarted.1), (restarted.0, stays.1)];
    let is_one = to_it == (stays.0, stayed);
    let excused = if is_one { heard_before..said[0] } else { 0..said[0] };
    let missing = ledger.missing_of(to_it.0, to_it.1);
    scene.ensure(missing.iter().all(|number| excused.contains(number)), || {
        format!("of what was said to it {missing:?} are missing, and not only {excused:?}")
    })?;
    let missing = ledger.missing_of(from_it.0, from_it.1);
    scene.ensure(missing.iter().all(|number| *number < said[1]), || {
        format!("of what it said {missing:?} are missing, and it was heard from {} on", said[1])
    })?;
    // What it said before is counted, if it was not kept.
    let counters = scene.world.nodes[node].counters().filter(|(life, _, _)| *life == restarted.0);
    let counted = counters.map(|(_, _, c)| c.lost.load(Relaxed) + c.tx_dropped.load(Relaxed)).sum::<u64>();
    scene.ensure(missing.len() as u64 <= counted, || {
        format!("{} of what it said are missing, and it counts {counted}", missing.len())
    })
}

pub(super) fn process_stands_still(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    scene.listen();
    scene.act(Act::Freeze { node: dice.below(2), lasts: secs(30) })?;
    scene.talk(secs(35))?;
    scene.expect_outage_of(secs(30), secs(2))?;
    scene.settle_on(PathKind::DirectUdp, secs(70))?;
    scene.expect_all()
}
