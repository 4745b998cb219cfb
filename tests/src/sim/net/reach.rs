//! What two hosts can reach at best, whatever the program does.

use super::site::can_meet;
use super::{Nat, Net, Place};
use shadowmesh_proto::path::select::PathKind;
use std::time::Duration;

/// A direct path may be left for the relay when it takes twice as long as that, and this (protocol §7.6).
const MUCH_WORSE: Duration = Duration::from_millis(50);
/// What it has to be better by to be returned to.
const GAIN: Duration = Duration::from_millis(10);

impl Net {
    /// The best kind of path that two hosts can have. `listen`: whether both take connections.
    pub(in super::super) fn best(&self, a: usize, b: usize, listen: bool) -> PathKind {
        let sees_udp = |node: usize| self.nats(node).iter().all(|nat| nat.passes_udp());
        let is_one_lan = self.hosts[a].site == self.hosts[b].site;
        if is_one_lan || (sees_udp(a) && sees_udp(b) && (self.share_6(a, b) || self.meet_4(a, b))) {
            PathKind::DirectUdp
        } else if listen && self.meet_by_tcp(a, b) {
            PathKind::DirectTcp
        } else if sees_udp(a) && sees_udp(b) {
            PathKind::RelayUdp
        } else {
            PathKind::RelayWs
        }
    }

    /// Whether the way between two hosts is so much longer than that over the relay that data may, or must, be on either.
    pub(in super::super) fn is_detour(&self, a: usize, b: usize) -> bool {
        let round = |from, to| self.latency(from, to) + self.latency(to, from);
        let (a, b) = (Place::Node(a), Place::Node(b));
        let direct = round(a, b) + 2 * self.jitter(a, b);
        direct + GAIN > 2 * (round(a, Place::Relay) + round(Place::Relay, b)) + MUCH_WORSE
    }

    /// The routers between a host and the internet.
    fn nats(&self, node: usize) -> Vec<Nat> {
        self.chain(self.hosts[node].site).into_iter().map(|site| self.sites[site].nat).collect()
    }

    fn share_6(&self, a: usize, b: usize) -> bool {
        self.hosts[a].v6.is_some() && self.hosts[b].v6.is_some()
    }

    fn share_4(&self, a: usize, b: usize) -> bool {
        self.hosts[a].v4.is_some() && self.hosts[b].v4.is_some()
    }

    /// Whether routers let two hosts meet by IPv4: those of one and the same router, where that sends back inside what is for itself.
    fn meet_4(&self, a: usize, b: usize) -> bool {
        let [own, other] = [a, b].map(|node| self.chain(self.hosts[node].site));
        let shared = own.iter().find(|site| other.contains(site));
        let is_turned_back = shared.is_none_or(|site| self.sites[*site].hairpins);
        self.share_4(a, b) && is_turned_back && can_meet(&self.nats(a), &self.nats(b))
    }

    /// By TCP one has to know where the other's stream to the relay was seen, in the family in which they meet; or the other is there for
    /// everybody.
    fn meet_by_tcp(&self, a: usize, b: usize) -> bool {
        let all_pass = [a, b].iter().all(|node| self.nats(*node).iter().all(|nat| nat.passes_tcp()));
        let is_known = |node: usize| {
            self.relay_of(node).0.is_ipv4() || !self.nats(node).iter().any(|nat| nat.translates())
        };
        let is_open = |node: usize| is_known(node) && self.nats(node).iter().all(|nat| nat.lets_all_in());
        let is_found = (is_known(a) && is_known(b)) || is_open(a) || is_open(b);
        all_pass && (self.share_6(a, b) || (self.meet_4(a, b) && is_found))
    }
}
