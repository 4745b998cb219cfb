//! Rows of paths that swallow what they are given.

use super::super::dice::Dice;
use super::super::judge::check_directions;
use super::super::net::{Bad, Narrow, Nat, Uplink};
use super::super::world::{Breach, World};
use super::scene::{EVERY, Gap, HOME, SLACK, Scene, Seen, hole, ms, secs};
use shadowmesh_proto::path::select::PathKind;
use shadowmesh_proto::session::RingLimits;
use std::time::Duration;

/// No path is in doubt sooner (protocol §7.2).
const DOUBT: Duration = ms(100);

/// What a node says of a hole that it left: the silence was that, everything that was swallowed went again, and nothing is missing.
fn expect_what_a_hole_costs(
    scene: &Scene,
    before: &[Seen],
    kinds: (PathKind, PathKind),
) -> Result<(), Breach> {
    let [resent, lost, ..] = scene.expect_costs(before, kinds, [Gap::Longest; 2])?;
    scene.ensure(resent > 0 && lost == 0, || format!("{resent} went again, {lost} were lost"))
}

/// One of the two says 50 Mbit/s, in frames that fill a packet.
pub(super) fn black_holes(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    scene.len = 1400;
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    let loud = dice.below(2);
    for _ in 0..2 {
        // It speeds up for as long as data takes to be acknowledged.
        (scene.every, scene.burst[loud]) = (ms(2), 9);
        scene.talk(ms(500))?;
        let (before, seen) = (scene.moves(), scene.seen());
        scene.listen();
        scene.act(hole(true, secs(30)))?;
        scene.talk(secs(2))?;
        (scene.every, scene.burst) = (EVERY, [1; 2]);
        let swallowed = scene.world.net.losses.swallowed();
        scene.talk(secs(26))?;
        scene.expect_moves(&before, 1)?;
        scene.expect_on(PathKind::RelayUdp)?;
        // The figures are 500 ms at the 99th percentile and 1 s at most. What acknowledges the last data that passed comes half a round
        // trip after the hole opens; three more, and 100 ms, raise the doubt (one less could be the acknowledgement's own delay); one goes
        // by until the relay's path has answered, and half of one until data is there: five, less the half that the last data took.
        // So 500 ms hold up to a round trip of 88 ms, and here it is up to 100 ms.
        let least = 9 * scene.relayed_round() / 2 + ms(100);
        scene.expect_outage(DOUBT, ms(500).max(least + SLACK))?;
        let since = scene.world.net.losses.swallowed() - swallowed;
        scene.ensure(since == 0, || format!("{since} data packets went on into the hole"))?;
        scene.world.run_until(scene.world.now + secs(1))?;
        expect_what_a_hole_costs(&scene, &seen, (PathKind::DirectUdp, PathKind::RelayUdp))?;
        scene.settle_on(PathKind::DirectUdp, secs(150))?;
    }
    scene.expect_all()
}

pub(super) fn black_hole_with_a_small_ring(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let both = [(HOME, dice.between(ms(5), ms(25))), (HOME, dice.between(ms(5), ms(25)))];
    let mut scene = Scene::new(&both, seed, |case| {
        case.plans.iter_mut().for_each(|plan| plan.ring = RingLimits::TINY);
    });
    scene.len = 1400;
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    let (before, seen) = (scene.moves(), scene.seen());
    scene.listen();
    scene.act(hole(true, secs(20)))?;
    scene.burst = [20; 2];
    scene.talk(secs(2))?;
    scene.burst = [1; 2];
    scene.talk(secs(5))?;
    scene.expect_moves(&before, 1)?;
    scene.expect_on(PathKind::RelayUdp)?;
    scene.world.run_until(scene.world.now + secs(5))?;
    let [resent, lost, ..] =
        scene.expect_costs(&seen, (PathKind::DirectUdp, PathKind::RelayUdp), [Gap::Longest; 2])?;
    scene.ensure(resent > 0 && lost > 0, || format!("{resent} went again, {lost} were lost"))?;
    scene.expect_counted().map(|_| ())
}

/// A pair where UDP does not pass, at one side or at both.
fn without_udp(dice: &mut Dice, seed: u64) -> Scene {
    let blocked = Uplink::new(Nat::UdpBlocked);
    let uplinks = if dice.per_mille(500) { [blocked; 2] } else { [blocked, HOME] };
    Scene::pair(dice, seed, uplinks)
}

/// The same, on a direct connection.
pub(super) fn on_direct_tcp(dice: &mut Dice, seed: u64) -> Result<Scene, Breach> {
    let mut scene = without_udp(dice, seed);
    scene.settle_on(PathKind::DirectTcp, secs(15))?;
    Ok(scene)
}

pub(super) fn black_hole_under_tcp(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = on_direct_tcp(dice, seed)?;
    let (before, seen) = (scene.moves(), scene.seen());
    scene.listen();
    scene.act(hole(true, secs(30)))?;
    scene.talk(secs(28))?;
    scene.expect_moves(&before, 1)?;
    scene.expect_on(PathKind::RelayWs)?;
    scene.expect_outage(DOUBT, secs(1))?;
    scene.world.run_until(scene.world.now + secs(1))?;
    expect_what_a_hole_costs(&scene, &seen, (PathKind::DirectTcp, PathKind::RelayWs))?;
    scene.settle_on(PathKind::DirectTcp, secs(150))?;
    scene.expect_all()
}

pub(super) fn black_hole_under_slow_tcp(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let both = [0, 1].map(|_| (Uplink::new(Nat::UdpBlocked), dice.between(ms(1), ms(50)) / 2));
    let mut scene = Scene::new(&both, seed, |case| {
        case.plans.iter_mut().for_each(|plan| plan.rate = Some(4_000_000));
    });
    scene.len = 1400;
    scene.settle_on(PathKind::DirectTcp, secs(15))?;
    // Seven hundred kilobytes a second: what its socket and queue hold is full before the doubt comes.
    scene.every = ms(2);
    scene.talk(secs(1))?;
    let before = scene.moves();
    scene.listen();
    scene.act(hole(true, secs(20)))?;
    scene.talk(secs(3))?;
    scene.every = EVERY;
    scene.talk(secs(10))?;
    scene.expect_moves(&before, 1)?;
    scene.expect_on(PathKind::RelayWs)?;
    scene.expect_outage(DOUBT, secs(1))?;
    scene.expect_all()
}

/// Who takes which way, where what is large is lost.
fn where_large_is_lost(dice: &mut Dice, seed: u64) -> Result<Scene, Breach> {
    let ways = [
        (Nat::PortRestricted, PathKind::DirectUdp),
        (Nat::Symmetric, PathKind::RelayUdp),
        (Nat::UdpBlocked, PathKind::DirectTcp),
    ];
    let at = usize::try_from(seed).unwrap_or_default() % ways.len();
    let (nat, kind) = ways.get(at).copied().unwrap_or(ways[0]);
    let mut scene = Scene::pair(dice, seed, [Uplink::new(nat); 2]);
    // Small frames pass and are acknowledged, where data goes by datagram.
    scene.len = dice.pick(&[200, 1400], 200);
    scene.settle_on(kind, secs(15))?;
    Ok(scene)
}

/// None of these ends says connected from 3 s on, for as long as it lasts.
fn expect_apart(scene: &mut Scene, ends: &[usize]) -> Result<(), Breach> {
    let began = scene.world.now;
    let is_shown = |world: &World, at: usize| {
        let (node, peer) = (&world.nodes[at], &world.nodes[1 - at]);
        node.is_connected_to(&peer.id())
    };
    let is_any = |world: &World| ends.iter().any(|at| is_shown(world, *at));
    let left = scene.talk_until(began + secs(3), |world| !is_any(world))?;
    scene.ensure(left.is_some(), || {
        let still = [0, 1].map(|at| is_shown(&scene.world, at));
        format!("still shown as connected after 3 s: {still:?}")
    })?;
    let back = scene.talk_until(began + secs(30), is_any)?;
    scene.ensure(back.is_none(), || {
        let again = [0, 1].map(|at| is_shown(&scene.world, at));
        format!("shown as connected again: {again:?}")
    })
}

pub(super) fn large_is_lost(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = where_large_is_lost(dice, seed)?;
    scene.world.narrow(Narrow::all(600));
    expect_apart(&mut scene, &[0, 1])
}

/// What one of them says; what is for it passes. It notices, and so does the other: an answer is as large as what was asked.
pub(super) fn large_is_lost_one_way(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = where_large_is_lost(dice, seed)?;
    let node = dice.below(2);
    scene.world.narrow(Narrow::of(node, 600));
    expect_apart(&mut scene, &[0, 1])
}

pub(super) fn one_way_blocked(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    let (before, seen) = (scene.moves(), scene.seen());
    scene.listen();
    scene.act(hole(false, secs(300)))?;
    scene.talk(secs(5))?;
    scene.expect_outage(DOUBT, secs(1))?;
    scene.world.run_until(scene.world.now + secs(1))?;
    // The one heard nothing until the other moved, who heard everything. What came the way that passes was not acknowledged by that which does not, and came again.
    let [resent, lost, twice, _] = scene.expect_costs(
        &seen,
        (PathKind::DirectUdp, PathKind::RelayUdp),
        [Gap::AtLeast(EVERY), Gap::Longest],
    )?;
    scene.ensure(resent > 0 && lost == 0 && twice > 0, || {
        format!("{resent} went again, {lost} were lost, {twice} came twice")
    })?;
    scene.every = ms(100);
    scene.listen();
    scene.talk(secs(290))?;
    scene.expect_moves(&before, 1)?;
    scene.expect_on(PathKind::RelayUdp)?;
    scene.expect_gap(secs(1))?;
    scene.expect_all()
}

/// Frames go by the relay's stream before, and through the move.
pub(super) fn no_udp(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = without_udp(dice, seed);
    scene.world.run_while(scene.world.start + secs(2), |world| !world.unconnected().is_empty())?;
    scene.listen();
    let is_relayed = Scene::all_on(PathKind::RelayWs);
    let relayed = scene.talk_until(scene.world.start + secs(2), |world| {
        world.books.silences.all_heard() && is_relayed(world)
    })?;
    scene.ensure(relayed.is_some(), || format!("no frames by the relay: {:?}", scene.world.kinds()))?;
    let seen = scene.seen();
    let direct = scene.talk_until(scene.world.start + secs(15), Scene::all_on(PathKind::DirectTcp))?;
    scene.ensure(direct.is_some(), || format!("not direct: {:?}", scene.world.kinds()))?;
    scene.talk(secs(60))?;
    scene.expect_moves(&[0, 0], 1)?;
    scene.expect_on(PathKind::DirectTcp)?;
    scene.expect_gap(scene.relayed_round() + SLACK)?;
    scene.world.run_until(scene.world.now + secs(1))?;
    // A silence that is known says that there was a flow when data moved.
    let gaps = [Gap::AtLeast(Duration::from_micros(1)); 2];
    let cost = scene.expect_costs(&seen, (PathKind::RelayWs, PathKind::DirectTcp), gaps)?;
    scene.ensure(cost == [0; 4], || format!("the move cost {cost:?}"))?;
    scene.expect_all()
}

pub(super) fn few_are_lost(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    let before = scene.moves();
    scene.world.net.spoil(0, 1, Bad { loss: dice.pick(&[10, 50], 10), delay: Duration::ZERO });
    scene.talk(secs(60))?;
    scene.expect_moves(&before, 0)?;
    scene.expect_on(PathKind::DirectUdp)?;
    expect_losses(&scene)?;
    scene.expect_all_but_chance(false)
}

/// A wire took something.
fn expect_losses(scene: &Scene) -> Result<(), Breach> {
    scene.ensure(scene.world.net.losses.touched().next().is_some(), || "no wire lost anything".to_owned())
}

pub(super) fn many_are_lost(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    let before = scene.moves();
    scene.world.net.spoil(0, 1, Bad { loss: 200, delay: Duration::ZERO });
    scene.talk(secs(20))?;
    scene.expect_on(PathKind::RelayUdp)?;
    scene.talk(secs(40))?;
    scene.expect_on(PathKind::RelayUdp)?;
    scene.expect_moves(&before, 1)?;
    expect_losses(&scene)?;
    scene.expect_all_but_chance(false)
}

/// Where datagrams through the relay are lost as well its stream is what is left, which repairs that; and what lost so much is not
/// returned to.
pub(super) fn many_are_lost_everywhere(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    let before = scene.moves();
    scene.world.net.wire.loss = 200;
    scene.talk(secs(60))?;
    scene.expect_on(PathKind::RelayWs)?;
    // Each path may be in doubt once before it is known to lose so much, and each return takes twice as long as the one before.
    let moved: Vec<_> = scene.moves().iter().zip(&before).map(|(now, before)| now - before).collect();
    scene.ensure(moved.iter().all(|moves| *moves <= 5), || format!("data moved {moved:?} times"))?;
    let before = scene.moves();
    scene.talk(secs(120))?;
    scene.expect_moves(&before, 0)?;
    scene.expect_on(PathKind::RelayWs)?;
    expect_losses(&scene)?;
    // What the wire lost, no more. (A ring that gave up what it sent again in vain for a minute counts that.)
    scene.world.run_until(scene.world.now + secs(3))?;
    check_directions(&scene.world, false)
}
