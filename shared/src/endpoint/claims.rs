//! Whose IPv4 address it is (protocol §1.6).
//!
//! Every member names its address in HELLO. When two show the same one, settled beats unsettled; between equals the lower
//! key keeps it; an address given by hand is never changed by the program. So exactly one of two honest members gives way,
//! without a server and without a clock.

use super::Endpoint;
use super::event::{Event, PeerState};
use crate::addresses;
use crate::ids::NodeId;
use crate::peer::Peer;
use crate::wire::control::{Cidr4, Hello};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// A node takes another address at most this often.
const MOVE_AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// What to do about two claims on one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// This node keeps it; the other gives way.
    Keep,
    /// This node takes another.
    Yield,
    /// A person gave this node its address and another member holds it: only a person can mend that.
    Report,
}

/// `own_manual`: a person gave this node its address.
fn decide(own: &NodeId, own_settled: bool, own_manual: bool, other: &NodeId, other_settled: bool) -> Verdict {
    let loses = match (own_settled, other_settled) {
        (true, false) => false,
        (false, true) => true,
        (true, true) | (false, false) => own > other,
    };
    match (loses, own_manual) {
        (false, _) => Verdict::Keep,
        (true, false) => Verdict::Yield,
        (true, true) => Verdict::Report,
    }
}

impl Endpoint {
    /// Compares this node's claim with those of all peers; gives way, reports, or settles.
    pub(super) fn settle_claims(&mut self, now: Instant) {
        let Some(own) = self.hello.ipv4 else { return };
        if !self.out.take_hello_news() {
            return;
        }
        let own_id = self.config.node.public();
        let rival = self.peers.values().find_map(|peer| {
            let hello = peer.about()?;
            let same = hello.ipv4.is_some_and(|theirs| theirs.address() == own.address());
            same.then(|| {
                (
                    peer.id(),
                    decide(&own_id, self.hello.settled, self.attempt.is_none(), &peer.id(), hello.settled),
                )
            })
        });
        match rival {
            Some((holder, Verdict::Yield)) => self.take_next_address(now, own, holder),
            Some((peer, Verdict::Report)) => self.out.event(Event::AddressConflict { peer, address: own }),
            Some((_, Verdict::Keep)) => {}
            // The first meeting with a member passed without conflict.
            None if !self.hello.settled && self.peers.values().any(|peer| peer.about().is_some()) => {
                self.hello.settled = true;
                self.out.event(Event::AddressSettled);
                self.announce(now);
            }
            None => {}
        }
    }

    fn take_next_address(&mut self, now: Instant, own: Cidr4, holder: NodeId) {
        // A member that claims one address after the other must not drive this node through all of its own.
        if self.moved.is_some_and(|moved| now.saturating_duration_since(moved) < MOVE_AT_MOST_EVERY) {
            self.out.event(Event::AddressConflict { peer: holder, address: own });
            return;
        }
        self.moved = Some(now);
        let taken: HashSet<Ipv4Addr> = self
            .peers
            .values()
            .filter_map(Peer::about)
            .filter_map(|hello: &Hello| hello.ipv4)
            .map(|c| c.address())
            .collect();
        let tried = self.attempt.unwrap_or(0);
        let node = self.config.node.public();
        let next = addresses::ipv4_attempts(self.config.network.id(), node)
            .find(|(attempt, address)| *attempt > tried && !taken.contains(address));
        let Some((attempt, address)) = next else {
            // 256 derived addresses are all taken: only a person can choose one.
            self.out.event(Event::AddressConflict { peer: holder, address: own });
            return;
        };
        let Some(address) = Cidr4::new(address, own.prefix()) else {
            return;
        };
        self.attempt = Some(attempt);
        self.hello.ipv4 = Some(address);
        self.hello.settled = true;
        self.out.event(Event::AddressChanged { address, attempt, holder });
        self.out.event(Event::AddressSettled);
        self.announce(now);
    }

    fn announce(&mut self, now: Instant) {
        self.hello.revision = self.hello.revision.wrapping_add(1);
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.with_peer(now, id, |peer, ctx| peer.announce(ctx));
        }
    }

    /// How many peers are connected.
    pub fn connected(&self) -> usize {
        self.peers.values().filter(|peer| peer.state() == PeerState::Connected).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_of_two_derived_claims_gives_way() {
        let (low, high) = (NodeId([1; 32]), NodeId([2; 32]));
        for (a_settled, b_settled) in [(false, false), (false, true), (true, false), (true, true)] {
            let a = decide(&low, a_settled, false, &high, b_settled);
            let b = decide(&high, b_settled, false, &low, a_settled);
            assert!(matches!((a, b), (Verdict::Keep, Verdict::Yield) | (Verdict::Yield, Verdict::Keep)));
        }
        assert_eq!(
            decide(&high, true, false, &low, false),
            Verdict::Keep,
            "a newcomer never displaces a settled member"
        );
        assert_eq!(
            decide(&high, false, true, &low, true),
            Verdict::Report,
            "what a person gave is not changed"
        );
    }
}
