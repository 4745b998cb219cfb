//! Rows of moves that somebody wants, or that are worth it.

use super::super::case::Act;
use super::super::dice::Dice;
use super::super::net::Bad;
use super::super::world::Breach;
use super::scene::{Gap, HOME, SLACK, Scene, ms, secs};
use shadowmesh_proto::path::select::{PathKind, Wanted};
use std::time::Duration;

pub(super) fn goes_direct_under_load(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    scene.world.run_while(scene.world.start + secs(2), |world| !world.unconnected().is_empty())?;
    scene.listen();
    let direct = scene.talk_until(scene.world.start + secs(3), Scene::all_on(PathKind::DirectUdp))?;
    scene.ensure(direct.is_some(), || format!("not direct within 3 s: {:?}", scene.world.kinds()))?;
    scene.talk(secs(10))?;
    scene.expect_moves(&[0, 0], 1)?;
    scene.expect_gap(scene.relayed_round() + SLACK)?;
    scene.expect_all()?;
    scene.ensure(scene.reordered() == 0, || "out of order".to_owned())
}

pub(super) fn planned_moves(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let latency = dice.between(ms(30), ms(40));
    let mut scene = Scene::new(&[(HOME, latency); 2], seed, |case| case.detour = Some(2));
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    let before = scene.moves();
    // Directly it is a quarter as far.
    let skew = 2 * latency * 3 / 4;
    let mut old = PathKind::DirectUdp;
    for round in 0..20 {
        // What goes the longer way from some moment on comes so much later; what goes the shorter way waits for what is under way.
        let moves = [
            (Wanted::Relay, PathKind::RelayUdp, skew),
            (Wanted::Auto, PathKind::DirectUdp, Duration::from_micros(1)),
        ];
        for (wanted, kind, least) in moves {
            let seen = scene.seen();
            scene.listen();
            scene.act(Act::Want { node: round % 2, peer: 1 - round % 2, wanted })?;
            let end = scene.world.now + secs(4);
            let there = scene.talk_until(end, Scene::all_on(kind))?;
            scene.ensure(there.is_some(), || format!("round {round}: not on {kind} within 4 s"))?;
            scene.talk(ms(500))?;
            scene.expect_gap(skew + SLACK)?;
            scene.world.run_until(scene.world.now + ms(100))?;
            let cost = scene.expect_costs(&seen, (old, kind), [Gap::AtLeast(least); 2])?;
            scene.ensure(cost == [0; 4], || format!("round {round}: a planned move cost {cost:?}"))?;
            old = kind;
        }
    }
    scene.expect_moves(&before, 40)?;
    scene.expect_all()?;
    scene.ensure(scene.reordered() == 0, || format!("{} out of order", scene.reordered()))
}

/// The way over the relay takes so much longer that nobody waits for what is still under way there: that comes out of order, and is counted.
pub(super) fn planned_move_beyond_patience(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let latency = dice.between(ms(450), ms(600));
    let mut scene = Scene::new(&[(HOME, latency); 2], seed, |case| case.detour = Some(1));
    // Nothing is said before there is somebody to say it to.
    scene.world.run_until(scene.world.start + secs(15))?;
    scene.settle_on(PathKind::DirectUdp, secs(15))?;
    scene.act(Act::Want { node: 0, peer: 1, wanted: Wanted::Relay })?;
    let end = scene.world.now + secs(10);
    let there = scene.talk_until(end, Scene::all_on(PathKind::RelayUdp))?;
    scene.ensure(there.is_some(), || "not on the relay within 10 s".to_owned())?;
    scene.talk(secs(5))?;
    let (before, seen) = (scene.moves(), scene.seen());
    scene.listen();
    scene.act(Act::Want { node: 0, peer: 1, wanted: Wanted::Auto })?;
    scene.talk(secs(10))?;
    scene.expect_moves(&before, 1)?;
    scene.world.run_until(scene.world.now + secs(2))?;
    let gaps = [Gap::AtLeast(Duration::from_micros(1)); 2];
    let [resent, lost, twice, reordered] =
        scene.expect_costs(&seen, (PathKind::RelayUdp, PathKind::DirectUdp), gaps)?;
    scene.ensure(reordered > 0 && lost == 0, || {
        format!("{resent} went again, {lost} were lost, {twice} came twice, {reordered} out of order")
    })?;
    scene.expect_all()
}

pub(super) fn direct_becomes_slow(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let latency = dice.between(ms(10), ms(15));
    let mut scene = Scene::new(&[(HOME, latency); 2], seed, |_| ());
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    let before = scene.moves();
    scene.world.net.spoil(0, 1, Bad { loss: 0, delay: ms(100) });
    scene.talk(secs(60))?;
    scene.expect_moves(&before, 1)?;
    scene.expect_on(PathKind::RelayUdp)?;
    scene.expect_all()
}

pub(super) fn narrow_path(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let is_always = dice.per_mille(500);
    let both = [(HOME, dice.between(ms(1), ms(40))), (HOME, dice.between(ms(1), ms(40)))];
    let mut scene = Scene::new(&both, seed, |case| {
        case.placements[0].mtu = if is_always { 1280 } else { 1500 };
    });
    scene.len = 1518;
    scene.settle_on(PathKind::DirectUdp, secs(10))?;
    let before = scene.moves();
    scene.listen();
    scene.act(Act::Mtu { node: 0, mtu: 1280 })?;
    scene.talk(secs(30))?;
    scene.expect_gap(secs(3))?;
    let mtu = scene.world.mtu(0, 1);
    scene.ensure(mtu.is_some_and(|mtu| mtu <= 1280), || format!("its path is not narrow: {mtu:?}"))?;
    scene.settle_on(PathKind::DirectUdp, secs(70))?;
    scene.ensure(!is_always || scene.moves() == before, || "it moves".to_owned())?;
    scene.expect_all()
}

pub(super) fn shorter_than_the_relay(_: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::new(&[(HOME, ms(20)); 2], seed, |case| case.detour = Some(3));
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    scene.expect_moves(&[0, 0], 1)?;
    let before = scene.world.relay.forwarded;
    scene.talk(secs(20))?;
    for (from, to) in scene.world.pairs() {
        let rtt = scene.world.rtt(from, to);
        scene.ensure(rtt.is_some_and(|rtt| rtt > ms(29) && rtt < ms(35)), || format!("{rtt:?}"))?;
    }
    let forwarded = scene.world.relay.forwarded - before;
    scene.ensure(forwarded == 0, || format!("the relay forwarded {forwarded} data packets"))?;
    scene.expect_all()
}
