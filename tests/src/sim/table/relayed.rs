//! Rows of what the relay is for, and of what it may cost.

use super::super::case::Act;
use super::super::dice::Dice;
use super::super::net::{Family, Nat, Uplink};
use super::super::world::Breach;
use super::scene::{HOME, Scene, ms, secs};
use shadowmesh_proto::path::select::PathKind;
use shadowmesh_proto::session::RingLimits;
use std::time::Duration;

/// What the relay may send for a pair that says nothing and goes direct, bytes on the wire.
const PAIR_COSTS: usize = 10 << 10;
/// So soon after its start can a pair be used.
const USABLE_WITHIN: Duration = secs(1);

/// What the relay sends to these hosts in the first ten seconds, and in the minute after that. They say nothing.
fn spent(hosts: &[(Uplink, Duration)], seed: u64) -> Result<([usize; 2], Scene), Breach> {
    let mut scene = Scene::new(hosts, seed, |_| ());
    scene.world.run_until(scene.world.start + secs(10))?;
    let begun = scene.world.relay.spent;
    scene.world.run_until(scene.world.start + secs(70))?;
    Ok(([begun, scene.world.relay.spent - begun], scene))
}

/// A host costs something by being registered, with a peer or without: so what each of them costs alone is none of the pair's.
pub(super) fn idle_pair_costs_little(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let hosts = [0, 1].map(|_| (HOME, dice.between(ms(1), ms(50)) / 2));
    let mut alone = [0; 2];
    for host in hosts {
        let (spent, _) = spent(&[host], seed)?;
        alone.iter_mut().zip(spent).for_each(|(sum, spent)| *sum += spent);
    }
    let (both, scene) = spent(&hosts, seed)?;
    scene.expect_on(PathKind::DirectUdp)?;
    let [begun, idle] = [0, 1].map(|at| both[at].saturating_sub(alone[at]));
    scene
        .ensure(0 < begun && begun <= PAIR_COSTS, || format!("the relay spent {begun} bytes on the pair"))?;
    // Not a packet of theirs: heartbeats may fall a little otherwise.
    scene.ensure(idle <= 200, || format!("a minute in which nobody said anything cost {idle} bytes more"))?;
    let forwarded = scene.world.relay.forwarded;
    scene.ensure(forwarded == 0, || format!("the relay forwarded {forwarded} data packets"))
}

/// Pairs that nothing leads to each other but the relay, and by what of it.
const INFEASIBLE: [(Uplink, Uplink, PathKind); 6] = {
    let six = Uplink { family: Family::V6, ..Uplink::new(Nat::Firewall) };
    [
        (Uplink::new(Nat::Symmetric), Uplink::new(Nat::Symmetric), PathKind::RelayUdp),
        (Uplink::new(Nat::Symmetric), HOME, PathKind::RelayUdp),
        (six, HOME, PathKind::RelayUdp),
        (Uplink::new(Nat::UdpBlocked), Uplink::new(Nat::Symmetric), PathKind::RelayWs),
        (Uplink::new(Nat::Tcp443), HOME, PathKind::RelayWs),
        (Uplink::new(Nat::Tcp443), Uplink::new(Nat::Tcp443), PathKind::RelayWs),
    ]
};

/// Of rows that try each of those either way round.
pub(super) const EACH_INFEASIBLE: u64 = 2 * INFEASIBLE.len() as u64;

pub(super) fn usable_at_once(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let at = usize::try_from(seed).unwrap_or_default();
    let (one, other, kind) = INFEASIBLE[at % INFEASIBLE.len()];
    let uplinks = if (at / INFEASIBLE.len()).is_multiple_of(2) { [one, other] } else { [other, one] };
    let mut scene = Scene::pair(dice, seed, uplinks);
    let usable = scene.world.start + USABLE_WITHIN;
    scene.world.run_while(usable, |world| !world.unconnected().is_empty())?;
    scene.listen();
    let heard = scene.talk_until(usable, |world| world.books.silences.all_heard())?;
    scene.ensure(heard.is_some(), || format!("no frames both ways {USABLE_WITHIN:?} after the start"))?;
    scene.talk(secs(30))?;
    scene.expect_moves(&[0, 0], u64::from(kind != PathKind::RelayWs))?;
    scene.expect_on(kind)?;
    scene.expect_all()
}

/// By datagram and by stream, a cable that is out and a relay that is down: what a ring gave up is what is missing, to the frame, each way.
pub(super) fn ring_overflows(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let is_stream = seed % 2 == 1;
    let (nat, kind) =
        if is_stream { (Nat::UdpBlocked, PathKind::RelayWs) } else { (Nat::Symmetric, PathKind::RelayUdp) };
    let hosts = [0, 1].map(|_| (Uplink::new(nat), dice.between(ms(1), ms(50)) / 2));
    let mut scene = Scene::new(&hosts, seed, |case| {
        for plan in &mut case.plans {
            (plan.listens, plan.ring) = (!is_stream, RingLimits::TINY);
        }
    });
    scene.len = 1400;
    scene.settle_on(kind, secs(15))?;
    let offered = |scene: &Scene| scene.world.books.ledger.totals().offered;
    let before = offered(&scene);
    let lasts = dice.between(secs(5), secs(10));
    scene.listen();
    scene.act(if (seed / 2).is_multiple_of(2) {
        Act::LinkDown { node: dice.below(2), lasts }
    } else {
        Act::RelayRestart { down: lasts, silent: dice.per_mille(500) }
    })?;
    scene.talk(lasts + secs(5))?;
    let said = offered(&scene) - before;
    scene.expect_outage_of(lasts, secs(2))?;
    scene.settle_on(kind, secs(70))?;
    scene.world.run_until(scene.world.now + secs(3))?;
    let missing = scene.expect_counted()?;
    scene.ensure(0 < missing && missing < said, || format!("{missing} of {said} are missing"))
}
