//! Whose sessions are kept, and whose end when nobody uses them (protocol §4.10).
//!
//! In a small network everybody keeps a session with everybody: a ring, a heartbeat and a rekey for each cost little, and frames and news
//! of members go at once, with the relay or without it. Where there are many that is too much, and most pairs never talk. So beyond
//! [`ALL_UP_TO`] peers a session lives while it is used, and for [`Sessions::idle_after`] more.
//!
//! Where a network has certificates a handful is kept all the same, for what members have to tell each other: who is revoked, and who has
//! which name. [`handful`] chooses whom: both neighbours on the circle of keys, which makes one ring of all members, and one anywhere on it, which makes the ways across it
//! short (of a hundred nodes, everybody is reached in about five steps and not in fifty). Where on it, nobody else knows: who makes keys
//! until both neighbours are its own does not come by the third one so. Each node chooses for itself, from the keys
//! of those that are there; a session that one of two keeps does not end.
//!
//! A relay can name whom it likes, and whoever has the network's secret can be as many nodes as it likes. So only those count, and
//! are chosen, that are members by the last that was judged of them; where there are no certificates, those that said who they are.
//!
//! The default ([`Sessions::default`]) is that: up to 32 peers nothing ever ends, so that two machines at home are as quick after a night as they
//! were before; beyond, five minutes ([`IDLE_AFTER`]). Shorter would end what merely pauses, and each waking costs the first frame two round trips over the
//! relay; longer would keep, in a network of hundreds, what was of use once.
//!
//! What ends so needs a relay to begin again, for both to be told of each other and for the handshake's stream (protocol §4.1). So nothing ends while no
//! relay says that the peer is there, and who rests when the relay goes away is offline until it is back. A frame for all wakes all: ARP for
//! members is answered by the own switch, but a host that says something to everybody every few minutes keeps every session.
//!
//! Who holds the keys of an admin keeps all unless a person wants otherwise (the owner says so with [`Keep::All`]): it renews certificates, sees who joins by an invite
//! and has to know that everybody got the network's new secret.

use super::Endpoint;
use crate::crypto::kdf;
use crate::crypto::labels;
use crate::ids::NodeId;
use crate::peer::Peer;
use std::time::{Duration, Instant};

/// With [`Keep::Auto`], up to so many members that relays introduce all sessions are kept: what people who have few machines see, and a
/// few per cent of a core and some MiB at the most.
pub const ALL_UP_TO: usize = 32;
/// Longer than most of what talks now and then pauses (TCP keepalives, a monitor each minute), and shorter than the two hours of others.
pub const IDLE_AFTER: Duration = Duration::from_secs(300);
/// The shortest that may be asked for: an honest answer to anything takes less.
pub const IDLE_AFTER_MIN: Duration = Duration::from_secs(2);
/// Each handshake that this causes puts the next one off by this much.
const SPACING: Duration = Duration::from_millis(10);

/// Which sessions are kept when nobody uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All, up to [`ALL_UP_TO`] peers; beyond that few.
    Auto,
    /// All, however many peers there are.
    All,
    /// A handful where members have things to tell each other, however few peers there are; else none.
    Few,
}

/// What becomes of sessions that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    /// Which are kept.
    pub keep: Keep,
    /// How long the others may be of no use before they end.
    pub idle_after: Duration,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { keep: Keep::Auto, idle_after: IDLE_AFTER }
    }
}

/// The peers among `there`, in ascending order, whose sessions `own` keeps in a large network; `across` is a place on the circle that is
/// its secret.
fn handful(own: &NodeId, across: &NodeId, there: &[NodeId]) -> [Option<NodeId>; 3] {
    let after = |key: &NodeId| {
        let at = there.partition_point(|other| other <= key);
        there.get(at).or_else(|| there.first()).copied()
    };
    let at = there.partition_point(|other| other < own);
    let before = at.checked_sub(1).and_then(|at| there.get(at)).or_else(|| there.last()).copied();
    [after(own), before, after(across)]
}

/// Where on the circle the node of this secret has its third.
fn place_across(own: &[u8; 32]) -> NodeId {
    NodeId(kdf::sha256(&[labels::ACROSS, own]))
}

impl Endpoint {
    /// From now on this becomes of sessions that nobody uses.
    pub fn set_sessions(&mut self, now: Instant, sessions: Sessions) {
        let idle_after = sessions.idle_after.max(IDLE_AFTER_MIN);
        let sessions = Sessions { idle_after, ..sessions };
        if std::mem::replace(&mut self.sessions, sessions) != sessions {
            self.weigh_demand = true;
            self.after_input(now);
        }
    }

    /// The data plane has a frame for a peer that it has no association for, or was told to stop sealing for.
    pub fn handle_wanted(&mut self, now: Instant, slot: crate::ids::PeerSlot) {
        self.with_peer_at(now, slot, |peer, ctx| peer.on_wanted(ctx, "there is a frame for it"));
        self.after_input(now);
    }

    /// A user wants to know something of a peer: there is to be a session with it. Whether one may come: a relay says that it is there.
    pub fn wake(&mut self, now: Instant, slot: crate::ids::PeerSlot) -> bool {
        let is_there = self.with_peer_at(now, slot, |peer, ctx| {
            peer.on_wanted(ctx, "a user asks for it");
            peer.contact().is_some()
        });
        self.after_input(now);
        is_there.unwrap_or(false)
    }

    /// What came of [`Event::StopSealing`](super::event::Event::StopSealing) with this number: the data plane has stopped because the
    /// peer has everything that was sealed for it (`is_empty`), or it goes on.
    pub fn handle_sealing_stopped(
        &mut self,
        now: Instant,
        slot: crate::ids::PeerSlot,
        number: u64,
        is_empty: bool,
    ) {
        self.with_peer_at(now, slot, |peer, ctx| peer.on_sealing_stopped(ctx, number, is_empty));
        self.after_input(now);
    }

    /// Who is there, or what is wanted, is another matter: whose sessions are kept follows.
    pub(super) fn settle_demand(&mut self, now: Instant) {
        if !(self.out.take_demand_news() | std::mem::take(&mut self.weigh_demand)) {
            return;
        }
        let counts = |peer: &&Peer| match &self.members.trust {
            Some(_) => peer.was_admitted(),
            None => peer.about().is_some(),
        };
        let introduced = self.peers.values().filter(|peer| peer.is_introduced());
        let there: Vec<NodeId> = introduced.filter(counts).map(Peer::id).collect();
        let keeps_all = match self.sessions.keep {
            Keep::Auto => there.len() <= ALL_UP_TO,
            Keep::All => true,
            Keep::Few => false,
        };
        let has_news = self.members.trust.is_some();
        let across = place_across(&self.config.node.to_bytes());
        let kept = if has_news { handful(&self.id(), &across, &there) } else { [None; 3] };
        let idle_after = self.sessions.idle_after;
        let ids: Vec<NodeId> = self.peers.keys().copied().collect();
        let mut pause = Duration::ZERO;
        for id in ids {
            let is_kept = keeps_all || kept.contains(&Some(id));
            let idle_after = (!is_kept).then_some(idle_after);
            let is_woken = self.with_peer(now, id, |peer, ctx| peer.set_idle_after(ctx, idle_after, pause));
            if is_woken == Some(true) {
                pause += SPACING;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, VecDeque};

    fn keys() -> impl Strategy<Value = Vec<NodeId>> {
        prop::collection::btree_set(any::<[u8; 32]>(), 1..120)
            .prop_map(|keys| keys.into_iter().map(NodeId).collect())
    }

    /// How many steps it takes to reach each from the first, by sessions that one of two keeps.
    fn steps(keys: &[NodeId]) -> Vec<usize> {
        let mut edges: BTreeSet<(usize, usize)> = BTreeSet::new();
        for (at, own) in keys.iter().enumerate() {
            let there: Vec<_> = keys.iter().copied().filter(|key| key != own).collect();
            for other in handful(own, &place_across(&own.0), &there).into_iter().flatten() {
                let other = keys.binary_search(&other).unwrap();
                edges.insert((at, other));
                edges.insert((other, at));
            }
        }
        let mut steps = vec![usize::MAX; keys.len()];
        steps[0] = 0;
        let mut queue = VecDeque::from([0]);
        while let Some(at) = queue.pop_front() {
            for (_, to) in edges.range((at, 0)..=(at, usize::MAX)) {
                if steps[*to] == usize::MAX {
                    steps[*to] = steps[at] + 1;
                    queue.push_back(*to);
                }
            }
        }
        steps
    }

    proptest! {
        #[test]
        fn whatever_the_keys_everybody_is_reached(keys in keys()) {
            prop_assert!(steps(&keys).into_iter().all(|steps| steps < usize::MAX));
        }
    }

    #[test]
    fn a_hundred_are_reached_in_a_few_steps() {
        let keys: BTreeSet<_> = (0..100_u32).map(|n| NodeId(kdf::sha256(&[&n.to_be_bytes()]))).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let farthest = steps(&keys).into_iter().max().unwrap();
        assert!(farthest <= 10, "{farthest}");
    }

    /// Its neighbours may be anybody's keys that were made for that.
    #[test]
    fn the_third_does_not_follow_from_what_others_know() {
        let own = NodeId([128; 32]);
        let there: Vec<NodeId> = (0..=255).filter(|n| *n != 128).map(|n| NodeId([n; 32])).collect();
        let third = |n: u8| handful(&own, &place_across(&[n; 32]), &there)[2];
        let thirds: BTreeSet<_> = (0..20).map(third).collect();
        assert!(thirds.len() > 15, "{thirds:?}");
    }

    #[test]
    fn nobody_is_chosen_where_nobody_is_and_the_only_one_where_one_is() {
        let [own, other] = [1, 2].map(|byte| NodeId([byte; 32]));
        let across = place_across(&[7; 32]);
        assert_eq!(handful(&own, &across, &[]), [None; 3]);
        assert_eq!(handful(&own, &across, &[other]), [Some(other); 3]);
    }
}
