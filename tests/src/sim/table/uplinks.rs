//! Rows of nodes whose network changes: routers that forget, uplinks that move, cables that are pulled.

use super::super::case::Act;
use super::super::dice::Dice;
use super::super::net::{Beside, Family, Nat, Uplink};
use super::super::world::Breach;
use super::scene::{HOME, Scene, ms, secs};
use shadowmesh_proto::path::select::PathKind;

/// Routers of peers that let a new port of an address in that they know: data follows it at once.
const LENIENT: [Nat; 3] = [Nat::Open, Nat::FullCone, Nat::AddressRestricted];
/// Those that do not: both have to ask each other over the relay.
const STRICT: [Nat; 3] = [Nat::PortRestricted, Nat::PortShifting, Nat::Firewall];

/// Of rows that try each of those at either side.
pub(super) const EACH_ROUTER: u64 = 2 * LENIENT.len() as u64;

/// The pair of this seed, and which of the two is behind the router that forgets.
fn before_a_rebind(dice: &mut Dice, seed: u64, routers: [Nat; 3]) -> Result<(Scene, usize), Breach> {
    let at = usize::try_from(seed).unwrap_or_default();
    let (peers, node) = (routers[at % routers.len()], at / routers.len() % 2);
    let own = [Nat::PortRestricted, Nat::PortShifting, Nat::AddressRestricted, Nat::FullCone];
    let mut uplinks = [Uplink::new(peers); 2];
    uplinks[node] = Uplink::new(dice.pick(&own, Nat::PortRestricted));
    let mut scene = Scene::pair(dice, seed, uplinks);
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    Ok((scene, node))
}

pub(super) fn rebinds(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let (mut scene, node) = before_a_rebind(dice, seed, LENIENT)?;
    let (before, sessions) = (scene.moves(), scene.world.associations());
    scene.listen();
    for _ in 0..12 {
        scene.act(Act::Rebind { node })?;
        scene.talk(secs(5))?;
    }
    scene.expect_moves(&before, 0)?;
    scene.expect_on(PathKind::DirectUdp)?;
    // Half a round trip until the peer hears from the new port, one until that answers, and half of one until data is there.
    // And it would be heard at once if the router had not forgotten.
    scene.expect_outage(scene.relayed_round(), 2 * scene.relayed_round())?;
    scene.ensure(scene.world.associations() == sessions, || "a full handshake".to_owned())?;
    scene.expect_all()
}

/// Nothing that comes from the new port is let in before the peer has spoken to it, and it does not know it: the silence is noticed as in a
/// black hole, and the relay has the data until both have found each other anew.
pub(super) fn rebinds_before_a_strict_router(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let (mut scene, node) = before_a_rebind(dice, seed, STRICT)?;
    let sessions = scene.world.associations();
    for _ in 0..12 {
        let before = scene.moves();
        scene.listen();
        scene.act(Act::Rebind { node })?;
        scene.talk(secs(5))?;
        // The relay's datagrams came by the router that forgot as well: its stream has the data until they are bound anew.
        scene.expect_outage(ms(100), secs(1))?;
        scene.expect_on(PathKind::DirectUdp)?;
        // There and back, or not at all.
        let moved: Vec<_> = scene.moves().iter().zip(&before).map(|(now, before)| now - before).collect();
        scene.ensure(moved.iter().all(|moves| [0, 2].contains(moves)), || {
            format!("data moved {moved:?} times")
        })?;
    }
    scene.ensure(scene.world.associations() == sessions, || "a full handshake".to_owned())?;
    scene.expect_all()
}

/// The changes of family that an uplink goes through.
const CHANGES: [(Family, Family); 9] = [
    (Family::V4, Family::V4),
    (Family::V4, Family::V6),
    (Family::V4, Family::Dual),
    (Family::V6, Family::V4),
    (Family::V6, Family::V6),
    (Family::V6, Family::Dual),
    (Family::Dual, Family::V4),
    (Family::Dual, Family::V6),
    (Family::Dual, Family::Dual),
];

/// Of rows that try each of [`CHANGES`].
pub(super) const EACH_CHANGE: u64 = CHANGES.len() as u64;

fn of_family(dice: &mut Dice, family: Family) -> Uplink {
    let nat =
        dice.pick(&[Nat::PortRestricted, Nat::AddressRestricted, Nat::PortShifting], Nat::PortRestricted);
    Uplink { nat, family, prefers_6: dice.per_mille(500), ..HOME }
}

/// The change of this seed.
fn change(seed: u64) -> (Family, Family) {
    let at = usize::try_from(seed % EACH_CHANGE).unwrap_or_default();
    CHANGES.get(at).copied().unwrap_or(CHANGES[0])
}

pub(super) fn one_uplink_moves(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let (before, after) = change(seed);
    let (first, second) = (of_family(dice, before), of_family(dice, after));
    let other = of_family(dice, Family::Dual);
    let node = usize::from(seed / EACH_CHANGE % 2 == 1);
    let uplinks = if node == 0 { [first, other] } else { [other, first] };
    let mut scene = Scene::pair(dice, seed, uplinks);
    scene.settle_on(PathKind::DirectUdp, secs(10))?;
    scene.listen();
    scene.act(Act::Roam { node, uplink: second })?;
    moved(&mut scene)
}

/// Both change alike, or the one does while the other moves between two networks of both families.
pub(super) fn both_uplinks_move(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let (before, after) = change(seed);
    let is_alike = (seed / EACH_CHANGE).is_multiple_of(2);
    let [others_before, others_after] = if is_alike { [before, after] } else { [Family::Dual; 2] };
    let uplinks = [of_family(dice, before), of_family(dice, others_before)];
    let mut scene = Scene::pair(dice, seed, uplinks);
    scene.settle_on(PathKind::DirectUdp, secs(10))?;
    scene.listen();
    for (node, family) in [(0, after), (1, others_after)] {
        let uplink = of_family(dice, family);
        scene.act(Act::Roam { node, uplink })?;
    }
    moved(&mut scene)
}

fn moved(scene: &mut Scene) -> Result<(), Breach> {
    let began = scene.world.now;
    scene.talk(secs(5))?;
    // At least what comes from the new address says so first.
    scene.expect_outage(scene.relayed_round() / 2, secs(1))?;
    let direct = scene.talk_until(began + secs(5), Scene::all_on(PathKind::DirectUdp))?;
    scene.ensure(direct.is_some(), || format!("not direct in 5 s: {:?}", scene.world.kinds()))?;
    scene.expect_all()
}

pub(super) fn link_down(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    for lasts in [1, 5, 30].map(secs) {
        scene.settle_on(PathKind::DirectUdp, secs(150))?;
        let node = dice.below(2);
        scene.listen();
        scene.act(Act::LinkDown { node, lasts })?;
        scene.talk(lasts + secs(3))?;
        scene.expect_outage_of(lasts, secs(1))?;
    }
    scene.settle_on(PathKind::DirectUdp, secs(150))?;
    scene.expect_all()
}

/// More than the ring holds is said while the cable is out: what it holds arrives, what it does not is counted, and nothing else is
/// missing.
pub(super) fn link_down_for_too_long(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut scene = Scene::pair(dice, seed, [HOME; 2]);
    (scene.len, scene.burst) = (1400, [5; 2]);
    scene.settle_on(PathKind::DirectUdp, secs(5))?;
    let node = dice.below(2);
    // Six million bits a second each way, 21 MB; a ring holds 16 MiB of a peer's packets (protocol §5.2).
    scene.act(Act::LinkDown { node, lasts: secs(30) })?;
    let offered = |scene: &Scene| scene.world.books.ledger.totals().offered;
    let before = offered(&scene);
    scene.talk(secs(30))?;
    let said = offered(&scene) - before;
    scene.listen();
    scene.burst = [1; 2];
    scene.talk(secs(3))?;
    scene.expect_gap(secs(1))?;
    scene.settle_on(PathKind::DirectUdp, secs(150))?;
    scene.world.run_until(scene.world.now + secs(3))?;
    let missing = scene.expect_counted()?;
    // With header and tag a packet is less than 100 bytes longer than its frame.
    let kept = 2 * (16 << 20) / (scene.len as u64 + 100);
    scene.ensure(missing > 0 && missing + kept <= said, || {
        format!("{missing} of {said} are missing, and two rings hold {kept}")
    })
}

/// So many at a time that go by a router which sends back inside what is for itself, for an hour. It forgets whom nobody writes to after
/// half a minute, and so do their own: nothing but what keeps paths alive is so frequent. Keys are renewed four times as seldom, and STUN
/// keeps no peer's state. For ten minutes a frame a minute goes each way, for ten minutes none.
pub(super) fn ten_behind_one_router(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let nat = [Nat::PortRestricted, Nat::PortShifting, Nat::FullCone][usize::try_from(seed).unwrap_or(0) % 3];
    let uplink = Uplink { hairpins: true, ..Uplink::new(nat) };
    let all: Vec<_> = (0..10).map(|_| (uplink, dice.between(ms(1), ms(20)))).collect();
    let mut scene = Scene::new(&all, seed, |case| {
        case.placements.iter_mut().skip(1).for_each(|placement| placement.beside = Some(Beside::Router(0)));
    });
    scene.world.net.forget_after(secs(30));
    scene.world.run_while(scene.world.start + secs(3), |world| !world.unconnected().is_empty())?;
    scene.world.run_until(scene.world.now + secs(10))?;
    let count = all.len();
    let ways = scene.world.kinds().len();
    scene.ensure(ways == count * (count - 1), || format!("{ways} ways between {count}"))?;
    scene.expect_on(PathKind::DirectUdp)?;
    let (before, doubts, relayed) = (scene.moves(), scene.world.doubts(), scene.world.relay.forwarded);
    for minute in 0..60 {
        if minute / 10 % 2 == 0 {
            for (from, to) in scene.world.pairs() {
                scene.world.send(from, to, 1, scene.len);
            }
        }
        scene.world.run_until(scene.world.now + secs(60))?;
        let apart = scene.world.unconnected();
        scene.ensure(apart.is_empty(), || format!("not connected: {apart:?}"))?;
        scene.expect_on(PathKind::DirectUdp)?;
    }
    scene.expect_moves(&before, 0)?;
    let doubts = scene.world.doubts() - doubts;
    scene.ensure(doubts == 0, || format!("a path was in doubt {doubts} times"))?;
    let relayed = scene.world.relay.forwarded - relayed;
    scene.ensure(relayed == 0, || format!("the relay forwarded {relayed} data packets"))?;
    scene.expect_all()
}
