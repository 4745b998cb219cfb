//! Whose IPv4 address it is (protocol §1.6).
//!
//! Every member names its address in HELLO. When two show the same one, by hand beats settled and settled beats fresh; between
//! equals the lower key keeps it, but an address given by hand is never changed by the program: two of those are reported at
//! both ends. Otherwise exactly one of two members gives way, without a server and without a clock.

use super::Endpoint;
use super::event::{Event, PeerState};
use crate::addresses;
use crate::ids::NodeId;
use crate::peer::Peer;
use crate::wire::control::{Cidr4, Claim, Hello};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// A node takes another address at most this often, ...
const MOVE_AT_MOST_EVERY: Duration = Duration::from_secs(10);
/// ... and so many times in [`MOVES_WITHIN`]: a member that claims one after the other would break its connections each time and use
/// up the addresses that it has. An honest network settles with one.
const MOVES: usize = 3;
/// See [`MOVES`].
const MOVES_WITHIN: Duration = Duration::from_secs(3600);

/// What to do about two claims on one address; the graver the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// This node keeps it; the other gives way.
    Keep,
    /// This node takes another.
    Yield,
    /// A person gave this node its address and another member holds it: only a person can mend that.
    Report,
}

/// What becomes of this node's claim beside another's on the same address.
fn decide(own: (&NodeId, Claim), other: (&NodeId, Claim)) -> Verdict {
    match own.1.cmp(&other.1) {
        Ordering::Greater => Verdict::Keep,
        Ordering::Less => Verdict::Yield,
        Ordering::Equal if own.1 == Claim::ByHand => Verdict::Report,
        Ordering::Equal if own.0 < other.0 => Verdict::Keep,
        Ordering::Equal => Verdict::Yield,
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
        let rivals = self.peers.values().filter_map(|peer| {
            let hello = peer.about()?;
            let same = hello.ipv4.is_some_and(|theirs| theirs.address() == own.address());
            same.then(|| (peer.id(), decide((&own_id, self.hello.claim), (&peer.id(), hello.claim))))
        });
        // One rival that has to give way says nothing of the others: the gravest counts.
        match rivals.max_by_key(|(_, verdict)| *verdict) {
            Some((holder, Verdict::Yield)) => self.take_next_address(now, own, holder),
            Some((peer, Verdict::Report)) => self.out.event(Event::AddressConflict { peer, address: own }),
            Some((_, Verdict::Keep)) => {}
            // The first meeting with a member passed without conflict.
            None if self.hello.claim == Claim::Fresh
                && self.peers.values().any(|peer| peer.about().is_some()) =>
            {
                self.hello.claim = Claim::Settled;
                self.out.event(Event::AddressSettled);
                self.announce(now);
            }
            None => {}
        }
    }

    fn take_next_address(&mut self, now: Instant, own: Cidr4, holder: NodeId) {
        // A member that claims one address after the other must not drive this node through all of its own.
        self.moves.retain(|moved| now.saturating_duration_since(*moved) < MOVES_WITHIN);
        let is_too_soon = |moved: &Instant| now.saturating_duration_since(*moved) < MOVE_AT_MOST_EVERY;
        if self.moves.len() >= MOVES || self.moves.last().is_some_and(is_too_soon) {
            self.out.event(Event::AddressConflict { peer: holder, address: own });
            return;
        }
        self.moves.push(now);
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
        self.hello.claim = Claim::Settled;
        self.out.event(Event::AddressChanged { address, attempt, holder });
        self.out.event(Event::AddressSettled);
        self.announce(now);
    }

    pub(super) fn announce(&mut self, now: Instant) {
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
    fn exactly_one_of_two_claims_gives_way_unless_both_were_given_by_hand() {
        let (low, high) = (NodeId([1; 32]), NodeId([2; 32]));
        let all = [Claim::Fresh, Claim::Settled, Claim::ByHand];
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
            let verdicts = (decide((&low, a), (&high, b)), decide((&high, b), (&low, a)));
            if (a, b) == (Claim::ByHand, Claim::ByHand) {
                assert_eq!(verdicts, (Verdict::Report, Verdict::Report));
            } else {
                let one =
                    matches!(verdicts, (Verdict::Keep, Verdict::Yield) | (Verdict::Yield, Verdict::Keep));
                assert!(one, "{a:?} {b:?} {verdicts:?}");
            }
        }
        let newcomer = decide((&high, Claim::Settled), (&low, Claim::Fresh));
        assert_eq!(newcomer, Verdict::Keep, "a newcomer never displaces a settled member");
    }
}
