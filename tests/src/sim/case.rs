//! What a seed decides: how many nodes, over which lines, and what happens to them when.

use super::dice::Dice;
use super::net::{Beside, Family, Nat, Placement, Uplink, Wire};
use super::node::Plan;
use super::relay::Mood;
use shadowmesh_proto::crypto::aead::{Cipher, CipherSet};
use shadowmesh_proto::path::select::Wanted;
use shadowmesh_proto::session::RingLimits;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How much a world does to its nodes, and so what may be asked of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    /// Latency, jitter, rekeys, short pauses, wishes of users. Nothing may be lost or come out of order, and nobody may lose sight
    /// of anybody.
    Calm,
    /// Connections break, the relay restarts, nodes freeze and roam, routers forget, paths go dark. What was in flight is sent
    /// again: nothing may be lost but what a router turned away.
    Moves,
    /// The relay drops, repeats, delays and damages packets, and its queues overflow. So do wires.
    Lossy,
    /// Nodes are killed, restarted, replaced, and leave.
    Churn,
    /// The relay is an enemy: all of it, and replays and lies.
    Hostile,
}

/// Frames from one node to another: `burst` of them at a time, `len` bytes each, until there were so many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Flow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) frames: u32,
    pub(super) burst: u32,
    pub(super) every: Duration,
    pub(super) len: usize,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Act {
    /// Frames from one node to another.
    Flow(Flow),
    /// The relay's process ends and comes back. `silent`: its host does not answer the nodes meanwhile.
    RelayRestart { down: Duration, silent: bool },
    /// A connection breaks; each end notices or does not.
    Cut { node: usize, node_notices: bool, relay_notices: bool },
    /// Nothing arrives for a while, in both directions.
    Stall { node: usize, lasts: Duration },
    /// As a stall, and no connection can be made and no datagram passes either.
    Partition { node: usize, lasts: Duration },
    /// The process is stopped and goes on.
    Freeze { node: usize, lasts: Duration },
    /// The process ends without a word and comes back, with the same key or a new one.
    Kill { node: usize, down: Duration, relay_notices: bool, new_key: bool },
    /// The process says good-bye, ends, and comes back.
    Leave { node: usize, down: Duration },
    /// From now on the relay treats packets like this.
    Mood(Mood),
    /// Nothing passes from one node to another directly, or neither way.
    Hole { from: usize, to: usize, lasts: Duration, both: bool },
    /// No datagram leaves or reaches a node.
    NoUdp { node: usize, lasts: Duration },
    /// A router forgets its mappings, and makes others.
    Rebind { node: usize },
    /// A node moves to another network.
    Roam { node: usize, uplink: Uplink },
    /// The largest packet that a node's line takes, bytes with the IP header.
    Mtu { node: usize, mtu: usize },
    /// A node's clock jumps ahead, as that of a machine that had no time for it.
    Jump { node: usize, by: Duration },
    /// A machine is suspended: nothing runs, and its clock stands still.
    Sleep { node: usize, lasts: Duration },
    /// A node's cable is pulled and put in again, and it knows.
    LinkDown { node: usize, lasts: Duration },
    /// A user wants a path.
    Want { node: usize, peer: usize, wanted: Wanted },
    /// A node gets a datagram of its past, from where it came or from beside.
    ReplayDatagram { node: usize, elsewhere: bool },
    /// Somebody on the way takes control packets for a node, and passes them on from elsewhere.
    Steal { node: usize, lasts: Duration },
    /// A node gets packets of its past.
    Replay { node: usize, packets: usize },
    /// The relay lies to a node.
    Lie { node: usize, kind: usize },
}

impl Act {
    /// What it is called where it is counted what happened.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Flow(_) => "flow",
            Self::RelayRestart { .. } => "relay restart",
            Self::Cut { .. } => "cut",
            Self::Stall { .. } => "stall",
            Self::Partition { .. } => "partition",
            Self::Freeze { .. } => "freeze",
            Self::Kill { .. } => "kill",
            Self::Leave { .. } => "leave",
            Self::Mood(_) => "mood",
            Self::Hole { both: false, .. } => "one way blocked",
            Self::Hole { both: true, .. } => "black hole",
            Self::NoUdp { .. } => "no UDP",
            Self::Rebind { .. } => "rebind",
            Self::Roam { .. } => "roam",
            Self::Mtu { .. } => "mtu",
            Self::Jump { .. } => "clock jump",
            Self::Sleep { .. } => "sleep",
            Self::LinkDown { .. } => "link down",
            Self::Want { .. } => "want",
            Self::ReplayDatagram { .. } | Self::Replay { .. } => "replay",
            Self::Steal { .. } => "steal",
            Self::Lie { .. } => "lie",
        }
    }
}

/// A world to be run.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) weather: Weather,
    pub(super) plans: Vec<Plan>,
    pub(super) placements: Vec<Placement>,
    /// How much longer or shorter the way between two hosts is than over the relay, in eighths; by chance if it is not said.
    pub(super) detour: Option<u32>,
    pub(super) wire: Wire,
    pub(super) acts: Vec<(Duration, Act)>,
    pub(super) horizon: Duration,
    /// Bytes on a line to a client before the rest waits in the relay's queues.
    pub(super) window: usize,
    /// Bytes of such a queue.
    pub(super) queue: usize,
    /// Whether everybody is silent at first for so long that heartbeats and wake-ups can be counted.
    pub(super) idle: Duration,
}

impl Case {
    pub(super) fn from_seed(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let weather = match seed % 6 {
            0 => Weather::Calm,
            1 | 2 => Weather::Moves,
            3 => Weather::Lossy,
            4 => Weather::Churn,
            _ => Weather::Hostile,
        };
        let mut case = Self::new(weather, &mut dice);
        case.let_rest(&mut Dice::new(seed ^ 0x1d1e));
        case
    }

    /// In some worlds most nodes let sessions end that they do not use for a few seconds.
    fn let_rest(&mut self, dice: &mut Dice) {
        if !dice.per_mille(300) {
            return;
        }
        for plan in &mut self.plans {
            let idle_after = Duration::from_millis(dice.pick(&[2000, 2000, 2500, 4000], 2000));
            plan.idle_after = (!dice.per_mille(150)).then_some(idle_after);
        }
    }

    /// Whether sessions may end there because nobody uses them.
    pub(super) fn rests(&self) -> bool {
        self.plans.iter().any(|plan| plan.idle_after.is_some())
    }

    pub(super) fn new(weather: Weather, dice: &mut Dice) -> Self {
        let count = dice.pick(&[2, 2, 2, 3, 3, 4, 5], 2);
        // The more pairs, the shorter: a case costs about the same.
        let horizon = Duration::from_secs(if count <= 3 { 24 } else { 14 });
        let rekey = Duration::from_secs(dice.pick(&[2, 2, 3, 10, 120], 120));
        let address = dice.per_mille(150).then_some(Ipv4Addr::new(10, 7, 0, 9));
        let tiny_ring = weather >= Weather::Lossy && dice.per_mille(100);
        let ring = if tiny_ring { RingLimits::TINY } else { RingLimits::default() };
        let key_limit = dice.per_mille(150).then(|| 100 + dice.below(200) as u64);
        let plans = (0..count)
            .map(|_| Plan {
                latency: Duration::from_millis(dice.pick(&[1, 5, 20, 60], 5)),
                jitter: Duration::from_millis(dice.pick(&[0, 1, 10, 40], 1)),
                rekey,
                ciphers: dice
                    .pick(&[CipherSet::ALL, CipherSet::only(Cipher::ChaCha20Poly1305)], CipherSet::ALL),
                ring,
                key_limit,
                address,
                listens: !dice.per_mille(200),
                idle_after: None,
                rate: None,
            })
            .collect();
        let plans: Vec<Plan> = plans;
        let placements = plans.iter().map(|plan| Placement {
            uplink: uplink(dice),
            beside: match dice.below(10) {
                0 => Some(Beside::Lan(dice.below(count))),
                1 => Some(Beside::Router(dice.below(count))),
                _ => None,
            },
            mtu: dice.pick(&[1500, 1500, 1500, 1492, 1420, 1280], 1500),
            latency: plan.latency,
            jitter: plan.jitter,
        });
        let placements = placements.collect();
        let mut acts = vec![];
        let flows = 3 + dice.below(3 * count);
        for _ in 0..flows {
            let (from, to) = two(dice, count);
            let at = dice.between(Duration::from_secs(1), horizon);
            acts.push((at, flow(dice, from, to)));
        }
        let disturbances = match weather {
            Weather::Calm => dice.below(3),
            Weather::Moves | Weather::Lossy => 1 + dice.below(5),
            Weather::Churn => 3 + dice.below(6),
            Weather::Hostile => 4 + dice.below(12),
        };
        for _ in 0..disturbances {
            let at = dice.between(Duration::from_millis(200), horizon);
            acts.push((at, disturbance(weather, dice, count)));
        }
        if weather >= Weather::Lossy && weather != Weather::Churn {
            let begin = dice.between(Duration::ZERO, horizon / 2);
            acts.push((begin, Act::Mood(mood(weather, dice))));
        }
        acts.sort_by_key(|(at, _)| *at);
        let wire = match weather {
            Weather::Calm | Weather::Moves => Wire::default(),
            Weather::Lossy => Wire {
                loss: dice.pick(&[0, 10, 50, 200], 10),
                repeat: dice.pick(&[0, 5, 30], 5),
                damage: dice.pick(&[0, 0, 10], 0),
                reorders: dice.per_mille(600),
            },
            Weather::Churn => Wire { reorders: dice.per_mille(500), ..Wire::default() },
            Weather::Hostile => Wire { loss: 20, repeat: 100, damage: 30, reorders: dice.per_mille(500) },
        };
        let narrow = weather == Weather::Lossy && dice.per_mille(500);
        let idle = if dice.per_mille(120) { Duration::from_secs(3600) } else { Duration::ZERO };
        Self {
            weather,
            plans,
            placements,
            detour: None,
            wire,
            acts,
            horizon,
            window: if narrow { 16 << 10 } else { 256 << 10 },
            queue: if narrow { 16 << 10 } else { 8 << 20 },
            idle,
        }
    }
}

/// Some network. One that passes little is seldom, as in life: nothing moves there.
fn uplink(dice: &mut Dice) -> Uplink {
    let nat = dice.pick(&Nat::ALL, Nat::PortRestricted);
    let is_poor = matches!(nat, Nat::UdpBlocked | Nat::Tcp443);
    let nat = if is_poor && dice.per_mille(500) { Nat::PortRestricted } else { nat };
    Uplink {
        nat,
        family: dice
            .pick(&[Family::V4, Family::V4, Family::V4, Family::Dual, Family::Dual, Family::V6], Family::V4),
        hairpins: dice.per_mille(300),
        prefers_6: dice.per_mille(700),
        carrier: dice.per_mille(150).then_some(Nat::PortRestricted),
    }
}

fn two(dice: &mut Dice, count: usize) -> (usize, usize) {
    let from = dice.below(count);
    (from, (from + 1 + dice.below(count - 1)) % count)
}

fn flow(dice: &mut Dice, from: usize, to: usize) -> Act {
    let every = Duration::from_millis(dice.pick(&[2, 10, 30, 150, 900], 10));
    let frames = dice.pick(&[1, 20, 150, 400], 20);
    let burst = dice.pick(&[1, 1, 3, 12], 1);
    Act::Flow(Flow { from, to, frames, burst, every, len: dice.pick(&[60, 200, 1400, 1518], 200) })
}

fn disturbance(weather: Weather, dice: &mut Dice, count: usize) -> Act {
    let ms = Duration::from_millis;
    let node = dice.below(count);
    let peer = (node + 1 + dice.below(count - 1)) % count;
    let wish = |dice: &mut Dice| {
        let wanted = [
            Wanted::Auto,
            Wanted::Relay,
            Wanted::Direct,
            Wanted::DirectTcp,
            Wanted::RelayUdp,
            Wanted::RelayWs,
        ];
        Act::Want { node, peer, wanted: dice.pick(&wanted, Wanted::Auto) }
    };
    let paths = |dice: &mut Dice| match dice.below(9) {
        // Long enough for a path to be called dead, whatever its round trip.
        0 | 1 => Act::Hole {
            from: node,
            to: peer,
            lasts: dice.between(ms(4000), ms(12_000)),
            both: dice.per_mille(500),
        },
        2 => Act::NoUdp { node, lasts: dice.between(ms(4000), ms(12_000)) },
        3 | 4 => Act::Rebind { node },
        5 => Act::Roam { node, uplink: uplink(dice) },
        6 => Act::Mtu { node, mtu: dice.pick(&[1500, 1420, 1280], 1280) },
        7 => match dice.below(3) {
            0 => Act::Jump { node, by: dice.between(ms(100), ms(40_000)) },
            1 => Act::Sleep { node, lasts: dice.between(ms(1000), ms(12_000)) },
            _ => Act::LinkDown { node, lasts: dice.between(ms(100), ms(8000)) },
        },
        _ => wish(dice),
    };
    let streams = |dice: &mut Dice| match dice.below(6) {
        0 => Act::RelayRestart { down: dice.between(ms(1), ms(5000)), silent: dice.per_mille(300) },
        1 | 2 => Act::Cut { node, node_notices: dice.per_mille(700), relay_notices: dice.per_mille(700) },
        3 => Act::Stall { node, lasts: dice.between(ms(100), ms(8000)) },
        4 => Act::Partition { node, lasts: dice.between(ms(500), ms(8000)) },
        _ => Act::Freeze { node, lasts: dice.between(ms(100), ms(10_000)) },
    };
    let moves = |dice: &mut Dice| if dice.per_mille(550) { paths(dice) } else { streams(dice) };
    let churn = |dice: &mut Dice| match dice.below(3) {
        0 => Act::Leave { node, down: dice.between(ms(1), ms(6000)) },
        _ => Act::Kill {
            node,
            down: dice.between(ms(1), ms(6000)),
            relay_notices: dice.per_mille(600),
            new_key: dice.per_mille(300),
        },
    };
    match weather {
        // Too short for a path to be called dead.
        Weather::Calm => match dice.below(4) {
            0 | 1 => wish(dice),
            2 => Act::Stall { node, lasts: dice.between(ms(10), ms(900)) },
            _ => Act::Freeze { node, lasts: dice.between(ms(10), ms(900)) },
        },
        Weather::Moves | Weather::Lossy => moves(dice),
        Weather::Churn => match dice.below(2) {
            0 => moves(dice),
            _ => churn(dice),
        },
        Weather::Hostile => match dice.below(11) {
            0 => moves(dice),
            1 => churn(dice),
            2 | 3 => Act::ReplayDatagram { node, elsewhere: dice.per_mille(500) },
            10 => Act::Steal { node, lasts: dice.between(ms(1000), ms(6000)) },
            4..=6 => Act::Lie { node, kind: dice.below(64) },
            _ => Act::Replay { node, packets: 1 + dice.below(20) },
        },
    }
}

fn mood(weather: Weather, dice: &mut Dice) -> Mood {
    let worst = if weather == Weather::Hostile { 300 } else { 60 };
    let mut level = || u32::try_from(dice.below(worst)).unwrap_or(0);
    Mood { drop: level(), repeat: level(), delay: level(), damage: level() }
}
