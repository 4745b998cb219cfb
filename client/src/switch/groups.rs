//! Which peers want which groups (RFC 4541).
//!
//! Every node is a switch, so every node has to hear what the others' hosts want: reports go to all peers, and each
//! keeps for itself what came from whom. The rules, in order:
//!
//! 1. Groups of the link go to all: 224.0.0.0/24, the well-known ones of IPv6 (ff0x::/120 and, for DHCP, ff0x::1:0/120),
//!    solicited-node groups (RFC 4541 §2.1.2, §3). So does what is no group of IP.
//! 2. While nobody asks (no general query was heard for as long as its sender's timers say, 255 s by default), all go
//!    to all: hosts report unasked when they join and never again, so what was heard once means nothing after a while.
//!    That is what the Linux bridge does. Only a question counts that everybody was asked: one from our own device, which
//!    this node passed on to all itself, or of a member that this node lets be its router. Another member may have asked
//!    nobody but us, and whoever was not asked does not answer: it could silence the groups of all others so.
//! 3. While somebody asks, a group goes to the peers that reported it, and to those with a router behind them; one that
//!    nobody reported goes to the routers alone. The two families, and each VLAN, are apart: one may be asked in and
//!    another not.
//! 4. A peer whose hosts were not asked since it is here, or have not had the time to answer, gets everything: what they
//!    want they may have said before.
//!
//! A router is behind a peer from which a query with a source address came, or a PIM message. What the peer has behind
//! it may be a LAN, so a peer that says it leaves is given the time in which another of its hosts would speak up.
//! What is heard from our own device counts as a question and never as a wish: what our own hosts want comes from
//! peers, and all of that is delivered.
//!
//! # Invariants
//!
//! - A peer never gets less than it asked for. One that asks for more groups than are kept for it, or for all peers,
//!   gets everything for as long as a report is good, within its budget.
//! - At most [`limits::GROUPS_PER_PEER`](super::limits::GROUPS_PER_PEER) a peer and
//!   [`limits::GROUPS`](super::limits::GROUPS) in all are kept, and [`VLANS`] questioners.

use super::limits::Limits;
use super::news::{ListenerNews, Said};
use super::packet::membership::{Family, Query};
use shadowmesh_proto::ids::{MacAddr, PeerSlot};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a report is good for while its questioner is not known: the default of RFC 3376 §8.4.
const MEMBERSHIP: Duration = Duration::from_secs(260);
/// A questioner's timers are believed within these: less would let a forger make memberships end between reports.
const MEMBERSHIP_MIN: Duration = Duration::from_secs(10);
const MEMBERSHIP_MAX: Duration = Duration::from_secs(3_600);
/// After somebody left, others behind the same peer have this long: two queries a second apart (RFC 3376 §8.8), and a
/// second for the way.
const LAST_MEMBER: Duration = Duration::from_secs(3);
/// An answer may come so much later than its questioner allows: the way there and back.
const ANSWER_SLACK: Duration = Duration::from_secs(1);
/// What is over is looked for this often at most, so that reports beyond the limits stay cheap.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// VLANs of which it is known who asks, per family. In one more everything goes to everybody.
const VLANS: usize = 64;

/// A group in a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Group {
    /// Where its frames go.
    pub(super) mac: MacAddr,
    pub(super) vlan: u16,
}

impl Group {
    /// Whose group it is; `None` when it is none of IP's.
    const fn family(self) -> Option<Family> {
        match self.mac.0 {
            [0x01, 0x00, 0x5e, ..] => Some(Family::Ipv4),
            [0x33, 0x33, ..] => Some(Family::Ipv6),
            _ => None,
        }
    }

    /// Whether it is one of the link's, which every host is in.
    pub(super) const fn is_of_the_link(self) -> bool {
        matches!(
            self.mac.0,
            [0x01, 0x00, 0x5e, 0, 0, _] | [0x33, 0x33, 0, 0 | 1, 0, _] | [0x33, 0x33, 0xff, ..]
        )
    }
}

/// See the module page.
#[derive(Debug)]
pub(super) struct Groups {
    limits: Limits,
    questioners: HashMap<(Family, u16), Questioner>,
    peers: HashMap<PeerSlot, Peer>,
    kept: usize,
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Questioner {
    until: Instant,
    membership: Duration,
    response: Duration,
}

#[derive(Debug, Default)]
struct Peer {
    groups: HashMap<Group, Instant>,
    /// Until when everything is sent to it, because not all that it wants is kept.
    everything: Option<Instant>,
    /// Until when a router is behind it.
    router: Option<Instant>,
    /// When its hosts were first asked, since it is here or since somebody asks again.
    asked: HashMap<(Family, u16), Instant>,
}

impl Groups {
    /// Nobody asked, nobody said anything.
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, questioners: HashMap::new(), peers: HashMap::new(), kept: 0, swept: None }
    }

    /// Whether a frame for this group goes only to those that [want](Self::wants) it.
    pub(super) fn is_selective(&self, group: Group, now: Instant) -> bool {
        !group.is_of_the_link()
            && group.family().is_some_and(|family| self.questioner(family, group.vlan, now).is_some())
    }

    /// Whether the peer wants it.
    pub(super) fn wants(&mut self, slot: PeerSlot, group: Group, now: Instant) -> bool {
        let place = group.family().map(|family| (family, group.vlan));
        let asks =
            place.and_then(|(family, vlan)| Some(((family, vlan), *self.questioner(family, vlan, now)?)));
        let Some((place, questioner)) = asks else { return true };
        let peer = self.peers.entry(slot).or_default();
        let answered = |asked: &Instant| *asked + questioner.response + ANSWER_SLACK <= now;
        let until = [peer.groups.get(&group), peer.router.as_ref(), peer.everything.as_ref()];
        !peer.asked.get(&place).is_some_and(answered) || until.into_iter().flatten().any(|until| *until > now)
    }

    /// Takes in what a peer's host or router said. `asks_all` for a member that this node lets be its router.
    pub(super) fn handle(&mut self, news: ListenerNews, asks_all: bool, now: Instant) {
        let ListenerNews { slot, vlan, said } = news;
        match said {
            Said::Asks(query) => {
                if asks_all {
                    self.on_query(query, vlan, now);
                }
                if query.is_from_router {
                    let lasts = query.membership.clamp(MEMBERSHIP_MIN, MEMBERSHIP_MAX);
                    self.peers.entry(slot).or_default().router = Some(now + lasts);
                }
            }
            Said::Routes => self.peers.entry(slot).or_default().router = Some(now + MEMBERSHIP),
            Said::Wants(mac) => self.on_wish(slot, Group { mac, vlan }, now),
            Said::Leaves(mac) => {
                let peer = self.peers.get_mut(&slot);
                if let Some(until) = peer.and_then(|peer| peer.groups.get_mut(&Group { mac, vlan })) {
                    *until = (*until).min(now + LAST_MEMBER);
                }
            }
        }
    }

    /// Somebody asks everybody.
    pub(super) fn on_query(&mut self, query: Query, vlan: u16, now: Instant) {
        if !query.is_general {
            return;
        }
        let membership = query.membership.clamp(MEMBERSHIP_MIN, MEMBERSHIP_MAX);
        // RFC 3376 §8.5: over before the reports are that it asked for.
        let until = now + membership - (query.response / 2).min(membership / 2);
        self.questioners.retain(|_, questioner| questioner.until > now);
        let place = (query.family, vlan);
        let is_known = self.questioners.contains_key(&place);
        if !is_known && self.questioners.len() >= VLANS {
            return;
        }
        let response = query.response.min(membership);
        self.questioners.insert(place, Questioner { until, membership, response });
        for peer in self.peers.values_mut() {
            if is_known {
                peer.asked.entry(place).or_insert(now);
            } else {
                peer.asked.retain(|place, _| self.questioners.contains_key(place));
                peer.asked.insert(place, now);
            }
        }
    }

    fn on_wish(&mut self, slot: PeerSlot, group: Group, now: Instant) {
        let Some(family) = group.family().filter(|_| !group.is_of_the_link()) else { return };
        let questioner = self.questioner(family, group.vlan, now);
        let until = now + questioner.map_or(MEMBERSHIP, |questioner| questioner.membership);
        let is_kept = self.peers.get(&slot).is_some_and(|peer| peer.groups.contains_key(&group));
        if !is_kept && !self.has_room(slot, now) {
            let peer = self.peers.entry(slot).or_default();
            peer.everything = peer.everything.max(Some(until));
            return;
        }
        self.kept += usize::from(!is_kept);
        // Never for less long than before: that is for whoever leaves.
        let kept = self.peers.entry(slot).or_default().groups.entry(group).or_insert(until);
        *kept = (*kept).max(until);
    }

    /// Whether one more may be kept for the peer, after what is over was forgotten.
    fn has_room(&mut self, slot: PeerSlot, now: Instant) -> bool {
        let Limits { groups_per_peer, groups, .. } = self.limits;
        let own = |peers: &HashMap<PeerSlot, Peer>| peers.get(&slot).map_or(0, |peer| peer.groups.len());
        let is_full = own(&self.peers) >= groups_per_peer || self.kept >= groups;
        if is_full && self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_EVERY) {
            self.swept = Some(now);
            self.peers.values_mut().for_each(|peer| peer.groups.retain(|_, until| *until > now));
            self.kept = self.peers.values().map(|peer| peer.groups.len()).sum();
        }
        own(&self.peers) < groups_per_peer && self.kept < groups
    }

    /// Forgets what a peer wanted that left.
    pub(super) fn forget(&mut self, slot: PeerSlot) {
        if let Some(peer) = self.peers.remove(&slot) {
            self.kept -= peer.groups.len();
        }
    }

    /// Groups that are kept, of all peers.
    pub(super) const fn len(&self) -> usize {
        self.kept
    }

    fn questioner(&self, family: Family, vlan: u16, now: Instant) -> Option<&Questioner> {
        self.questioners.get(&(family, vlan)).filter(|questioner| questioner.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: PeerSlot = PeerSlot(1);
    const B: PeerSlot = PeerSlot(2);
    const ASKED: Query = Query {
        family: Family::Ipv4,
        is_general: true,
        is_from_router: false,
        membership: MEMBERSHIP,
        response: Duration::from_secs(10),
    };

    fn group(n: u32) -> Group {
        let [_, a, b, c] = (n + 0x0010_0000).to_be_bytes();
        Group { mac: MacAddr([1, 0, 0x5e, a, b, c]), vlan: 0 }
    }

    fn news(slot: PeerSlot, said: Said) -> ListenerNews {
        ListenerNews { slot, vlan: 0, said }
    }

    fn wants(slot: PeerSlot, n: u32) -> ListenerNews {
        news(slot, Said::Wants(group(n).mac))
    }

    fn groups() -> (Groups, Instant) {
        (Groups::new(Limits::default()), Instant::now())
    }

    /// The same, with A and B known, somebody asking, and the time over in which they might have answered.
    fn asked() -> (Groups, Instant) {
        let (mut groups, begin) = groups();
        groups.on_query(ASKED, 0, begin);
        assert!(groups.wants(A, group(1), begin) && groups.wants(B, group(1), begin));
        groups.on_query(ASKED, 0, begin);
        (groups, begin + Duration::from_secs(11))
    }

    #[test]
    fn while_nobody_asks_everything_goes_to_everybody() {
        let (mut groups, begin) = groups();
        let at = |seconds| begin + Duration::from_secs(seconds);
        groups.handle(wants(A, 1), true, begin);
        assert!(!groups.is_selective(group(1), begin));
        groups.on_query(ASKED, 0, begin);
        assert!(groups.is_selective(group(1), at(254)) && groups.is_selective(group(2), at(254)));
        assert!(!groups.is_selective(group(1), at(255)), "whoever asked is silent");
        let six = Group { mac: MacAddr([0x33, 0x33, 0, 9, 9, 9]), vlan: 0 };
        assert!(!groups.is_selective(six, at(1)), "the other family is not asked");
        assert!(!groups.is_selective(Group { vlan: 7, ..group(1) }, at(1)), "nor another VLAN");
        groups.on_query(Query { is_general: false, ..ASKED }, 9, begin);
        assert!(!groups.is_selective(Group { vlan: 9, ..group(1) }, at(1)), "one group is not all");
    }

    #[test]
    fn groups_of_the_link_go_to_everybody_always() {
        let (mut groups, now) = groups();
        groups.on_query(ASKED, 0, now);
        groups.on_query(Query { family: Family::Ipv6, ..ASKED }, 0, now);
        let is_selective = |mac| groups.is_selective(Group { mac: MacAddr(mac), vlan: 0 }, now);
        for mac in [
            [1, 0, 0x5e, 0, 0, 0xfb],
            [0x33, 0x33, 0, 0, 0, 1],
            [0x33, 0x33, 0, 0, 0, 0xfb],
            [0x33, 0x33, 0, 1, 0, 2],
            [0x33, 0x33, 0xff, 1, 2, 3],
            [1, 0x80, 0xc2, 0, 0, 0x10],
            [3, 1, 2, 3, 4, 5],
        ] {
            assert!(!is_selective(mac), "{mac:?}");
        }
        assert!(is_selective([1, 0, 0x5e, 0x7f, 0, 1]) && is_selective([0x33, 0x33, 0, 2, 0, 1]));
    }

    #[test]
    fn a_report_is_good_for_as_long_as_its_questioner_says() {
        let (mut groups, begin) = asked();
        let at = |seconds| begin + Duration::from_secs(seconds);
        groups.handle(wants(A, 1), true, begin);
        groups.on_query(ASKED, 0, at(100));
        assert!(groups.wants(A, group(1), at(259)) && !groups.wants(A, group(1), at(260)));
        assert!(!groups.wants(B, group(1), begin) && !groups.wants(A, group(2), begin));
        groups.on_query(Query { membership: Duration::from_secs(21), ..ASKED }, 0, begin);
        groups.handle(wants(B, 1), true, begin);
        groups.on_query(ASKED, 0, at(1));
        assert!(groups.wants(B, group(1), at(20)) && !groups.wants(B, group(1), at(21)));
        // A forged one of no time at all, and one of years.
        groups.on_query(Query { membership: Duration::ZERO, ..ASKED }, 0, begin);
        groups.handle(wants(B, 2), true, begin);
        groups.on_query(ASKED, 0, at(1));
        assert!(groups.wants(B, group(2), at(9)) && !groups.wants(B, group(2), at(10)));
        groups.on_query(Query { membership: Duration::MAX, response: Duration::MAX, ..ASKED }, 0, begin);
        assert!(!groups.is_selective(group(1), at(3_600)));
    }

    #[test]
    fn who_leaves_is_given_the_time_to_be_contradicted() {
        let (mut groups, begin) = asked();
        let at = |seconds| begin + Duration::from_secs(seconds);
        groups.handle(wants(A, 1), true, begin);
        groups.handle(news(A, Said::Leaves(group(1).mac)), true, at(1));
        assert!(groups.wants(A, group(1), at(3)) && !groups.wants(A, group(1), at(4)));
        groups.handle(wants(A, 1), true, at(2));
        assert!(groups.wants(A, group(1), at(200)), "another host behind the same peer");
        groups.handle(news(B, Said::Leaves(group(1).mac)), true, at(2));
        assert!(groups.wants(A, group(1), at(200)));
    }

    #[test]
    fn who_was_not_asked_or_had_no_time_to_answer_gets_everything() {
        let (mut groups, begin) = asked();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(!groups.wants(A, group(1), begin));
        // A newcomer, until it was asked and ten seconds and one are over.
        let new = PeerSlot(9);
        assert!(groups.wants(new, group(1), at(50)));
        groups.on_query(ASKED, 0, at(100));
        assert!(groups.wants(new, group(1), at(110)) && !groups.wants(new, group(1), at(111)));
        assert!(!groups.wants(A, group(1), at(101)), "who was asked before is not asked anew");
        // One that was away.
        groups.forget(A);
        assert!(groups.wants(A, group(1), at(112)));
        // All of them, when nobody asked for a while and somebody does again.
        groups.on_query(ASKED, 0, at(1_000));
        assert!(groups.wants(B, group(1), at(1_010)) && !groups.wants(B, group(1), at(1_011)));
        // Another family, another VLAN: another question.
        groups.on_query(ASKED, 7, at(1_011));
        assert!(groups.wants(B, Group { vlan: 7, ..group(1) }, at(1_020)));
        assert!(!groups.wants(B, group(1), at(1_020)));
    }

    #[test]
    fn a_member_that_is_no_router_of_ours_silences_nobody() {
        let (mut groups, begin) = groups();
        groups.handle(wants(B, 1), true, begin);
        groups.handle(news(A, Said::Asks(Query { is_from_router: true, ..ASKED })), false, begin);
        let later = begin + Duration::from_secs(20);
        assert!(!groups.is_selective(group(1), later) && !groups.is_selective(group(2), later));
        // What it wants itself it gets: it says that it routes.
        groups.on_query(ASKED, 0, later);
        let settled = later + Duration::from_secs(11);
        assert!(groups.wants(A, group(9), settled) && groups.is_selective(group(9), settled));
        // Nor does it end what was reported, by asking with short timers.
        groups.handle(wants(B, 1), true, settled);
        groups.on_query(Query { membership: Duration::ZERO, ..ASKED }, 0, settled);
        groups.handle(wants(B, 1), true, settled);
        groups.on_query(ASKED, 0, settled);
        assert!(groups.wants(B, group(1), settled + Duration::from_secs(259)));
    }

    #[test]
    fn routers_get_what_nobody_else_wants() {
        let (mut groups, now) = asked();
        groups.handle(news(A, Said::Asks(Query { is_from_router: true, ..ASKED })), true, now);
        groups.handle(news(B, Said::Asks(ASKED)), true, now);
        assert!(groups.is_selective(group(9), now));
        assert!(groups.wants(A, group(9), now) && !groups.wants(B, group(9), now));
        groups.handle(news(B, Said::Routes), true, now);
        assert!(groups.wants(B, group(9), now));
    }

    #[test]
    fn who_asks_for_more_than_is_kept_gets_everything() {
        let (mut groups, begin) = asked();
        let Limits { groups_per_peer, groups: all, .. } = Limits::default();
        for n in 0..10 * groups_per_peer as u32 {
            groups.handle(wants(A, n), true, begin);
        }
        assert_eq!(groups.len(), groups_per_peer);
        assert!(groups.wants(A, group(1_000_000), begin));
        for slot in 10..1_000 {
            for n in 0..groups_per_peer as u32 {
                groups.handle(wants(PeerSlot(slot), n), true, begin);
            }
        }
        assert_eq!(groups.len(), all);
        // What is over makes room.
        let later = begin + MEMBERSHIP;
        groups.handle(wants(B, 5), true, later);
        assert_eq!(groups.len(), 1);
        groups.on_query(ASKED, 0, later);
        let settled = later + Duration::from_secs(11);
        assert!(!groups.wants(A, group(5), settled) && groups.wants(B, group(5), settled));
    }

    #[test]
    fn questioners_are_bounded() {
        let (mut groups, begin) = groups();
        for vlan in 0..4_096 {
            groups.on_query(ASKED, vlan, begin);
        }
        assert_eq!(groups.questioners.len(), VLANS);
        assert!(!groups.is_selective(Group { vlan: 4_000, ..group(1) }, begin));
        let later = begin + MEMBERSHIP;
        groups.on_query(ASKED, 4_000, later);
        assert!(groups.is_selective(Group { vlan: 4_000, ..group(1) }, later));
    }

    proptest! {
        /// Whatever is said, a wish that is fresh is granted and the counts add up.
        #[test]
        fn a_fresh_wish_is_granted(
            steps in proptest::collection::vec((0u32..3, 0u32..12, 0u8..6, 0u64..120), 1..200),
        ) {
            let limits = Limits { groups_per_peer: 4, groups: 8, ..Limits::default() };
            let (mut groups, mut now) = (Groups::new(limits), Instant::now());
            for (slot, n, what, wait) in steps {
                now += Duration::from_secs(wait);
                let slot = PeerSlot(slot);
                match what {
                    0 => groups.forget(slot),
                    1 => groups.on_query(ASKED, 0, now),
                    2 => groups.handle(news(slot, Said::Leaves(group(n).mac)), true, now),
                    _ => {
                        groups.handle(wants(slot, n), true, now);
                        prop_assert!(groups.wants(slot, group(n), now + Duration::from_secs(100)));
                    }
                }
                prop_assert_eq!(groups.kept, groups.peers.values().map(|peer| peer.groups.len()).sum::<usize>());
                prop_assert!(groups.kept <= 8 && groups.peers.values().all(|peer| peer.groups.len() <= 4));
            }
        }
    }
}
