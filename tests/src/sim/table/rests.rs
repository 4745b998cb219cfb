//! Rows of pairs that had no reason to talk, and talk again.

use super::super::case::Act;
use super::super::dice::Dice;
use super::super::world::Breach;
use super::scene::{HOME, Scene, hole, ms, secs};
use shadowmesh_proto::path::select::PathKind;

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
