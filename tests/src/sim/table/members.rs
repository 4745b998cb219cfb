//! Rows of a network with certificates: whom an admin shuts out is cut off by everybody who hears of it, whatever else is down.

use super::super::case::Act;
use super::super::dice::Dice;
use super::super::world::{Breach, World};
use super::scene::{HOME, Scene, hole, ms, secs};
use shadowmesh_proto::ids::NodeId;
use shadowmesh_proto::membership::{
    Addresses, Authority, Certificate, Document, Name, Own, Seconds, Statement, Tags, Trust,
};
use shadowmesh_proto::path::select::PathKind;
use std::time::Duration;

/// What the clock on the wall says in the beginning.
const BEGUN: Seconds = 1_800_000_000;
/// The first two are admins, the third is a member.
const STAY: [usize; 3] = [0, 1, 2];
/// Whom the one admin and the other shut out.
const SHUT_OUT: [usize; 2] = [3, 4];
/// Issue and protocol §8.5: so soon is a revoked node cut off.
const CUT_WITHIN: Duration = secs(1);

/// A network of five members with two admins.
struct Office {
    scene: Scene,
    admins: [Authority; 2],
}

impl Office {
    fn new(dice: &mut Dice, seed: u64) -> Result<Self, Breach> {
        let admins = [Authority::generate(dice), Authority::generate(dice)];
        let all: Vec<_> = (0..5).map(|_| (HOME, dice.between(ms(1), ms(20)))).collect();
        let mut scene = Scene::new(&all, seed, |_| ());
        let [root, second] = &admins;
        let now = scene.world.now;
        for (at, node) in scene.world.nodes.iter_mut().enumerate() {
            let mut trust = Trust::new(root.fingerprint(), node.id());
            trust.show(Own { certificate: certificate(root, node.id(), at), chain: None });
            let clock = node.clock(now);
            node.endpoint.set_trust(clock, BEGUN, trust);
        }
        let mut office = Self { scene, admins: admins.clone() };
        office.say(0, |document| {
            assert!(document.admins.insert(second.fingerprint(), name("second")), "room for an admin");
        })?;
        office.scene.settle_on(PathKind::DirectUdp, secs(15))?;
        let key = second.public().clone();
        office.change(1, move |trust| assert!(trust.keep_key(key), "an admin by the record"))?;
        Ok(office)
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut Trust)) -> Result<(), Breach> {
        self.scene.world.change_trust(at, change).map_err(|what| self.scene.breach(what))
    }

    /// The admin at a node says something.
    fn say(&mut self, at: usize, change: impl FnOnce(&mut Document)) -> Result<(), Breach> {
        let (admin, root) = (self.admins[at].clone(), self.admins[0].fingerprint());
        self.change(at, move |trust| {
            trust.keep_key(admin.public().clone());
            let mut document = trust.record().draft(admin.fingerprint(), BEGUN);
            change(&mut document);
            assert!(trust.hear(Statement::sign(&admin, root, document).expect("small enough")), "news");
        })
    }

    /// Both admins shut somebody out, neither having heard of the other.
    fn revoke_both(&mut self) -> Result<(), Breach> {
        for (at, node) in SHUT_OUT.into_iter().enumerate() {
            let node = self.scene.world.nodes[node].id();
            self.say(at, |document| assert!(document.revoke(node, BEGUN), "room for a key"))?;
        }
        Ok(())
    }

    /// Those who stay send each other frames.
    fn work(&mut self, span: Duration) -> Result<(), Breach> {
        let end = self.scene.world.now + span;
        while self.scene.world.now < end {
            for (from, to) in STAY.iter().flat_map(|from| STAY.map(|to| (*from, to))).filter(|(a, b)| a != b)
            {
                self.scene.world.send(from, to, 1, self.scene.len);
            }
            self.scene.world.run_until((self.scene.world.now + ms(50)).min(end))?;
        }
        Ok(())
    }

    fn is_cut_off_by(world: &World, by: &[usize]) -> bool {
        let pairs = || by.iter().flat_map(|by| SHUT_OUT.map(|out| (*by, out)));
        pairs().all(|(by, out)| !world.nodes[by].is_connected_to(&world.nodes[out].id()))
    }

    fn expect_cut_off(&self, by: &[usize]) -> Result<(), Breach> {
        self.scene.ensure(Self::is_cut_off_by(&self.scene.world, by), || {
            format!("{by:?} are not all apart from {SHUT_OUT:?}")
        })
    }

    /// Everybody who stays knows of both, and by whom.
    fn expect_one_record(&self) -> Result<(), Breach> {
        for at in STAY {
            let node = &self.scene.world.nodes[at];
            let Some(trust) = node.endpoint.trust() else { continue };
            for (out, admin) in SHUT_OUT.into_iter().zip(&self.admins) {
                let by = trust.view().revocation(self.scene.world.nodes[out].id()).map(|known| known.by);
                self.scene.ensure(by == Some(admin.fingerprint()), || {
                    format!("node {at} knows that {by:?} revoked node {out}")
                })?;
            }
        }
        Ok(())
    }

    /// It stays so, and those who stay are one network again.
    fn expect_for_good(&mut self) -> Result<(), Breach> {
        let end = self.scene.world.now + secs(180);
        while self.scene.world.now < end {
            self.work(secs(2))?;
            self.expect_cut_off(&STAY)?;
        }
        let apart = self.scene.world.unconnected();
        let apart: Vec<_> = apart.iter().filter(|(a, b)| STAY.contains(a) && STAY.contains(b)).collect();
        self.scene.ensure(apart.is_empty(), || format!("not connected: {apart:?}"))?;
        self.expect_one_record()
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn certificate(root: &Authority, node: NodeId, at: usize) -> Statement<Certificate> {
    let says = Certificate {
        node,
        name: name(&format!("node-{at}")),
        addresses: Addresses::default(),
        tags: Tags::default(),
        not_before: BEGUN - 10,
        not_after: BEGUN + 86_400,
        delegation: None,
        serial: 1,
    };
    Statement::sign(root, root.fingerprint(), says).expect("small enough")
}

/// The relay is gone, and the admins do not reach each other: what each says goes by who reaches both.
pub(super) fn two_admins_revoke_at_once(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut office = Office::new(dice, seed)?;
    office.scene.act(Act::RelayRestart { down: secs(60), silent: dice.per_mille(500) })?;
    office.scene.act(hole(true, secs(60)))?;
    office.work(secs(10))?;
    let apart = office.scene.world.unconnected();
    office.scene.ensure(apart.contains(&(0, 1)), || format!("the admins reach each other: {apart:?}"))?;
    office.revoke_both()?;
    let end = office.scene.world.now + CUT_WITHIN;
    office.scene.world.run_until(end)?;
    office.expect_cut_off(&STAY)?;
    office.expect_one_record()?;
    office.expect_for_good()
}

/// A member that nobody reaches meanwhile hears of it when it is back.
pub(super) fn who_was_away_hears_who_is_revoked(dice: &mut Dice, seed: u64) -> Result<(), Breach> {
    let mut office = Office::new(dice, seed)?;
    office.scene.act(Act::Partition { node: 2, lasts: secs(30) })?;
    office.work(secs(10))?;
    office.revoke_both()?;
    let end = office.scene.world.now + CUT_WITHIN;
    office.scene.world.run_until(end)?;
    office.expect_cut_off(&[0, 1])?;
    office.work(secs(19))?;
    // The partition ends now. It finds a way back, and hears of both, before long.
    office.work(secs(10))?;
    office.expect_cut_off(&STAY)?;
    office.expect_one_record()?;
    office.expect_for_good()
}
