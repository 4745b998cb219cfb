//! Whose IPv4 address it is (protocol §1.6).
//!
//! Every member names its address in HELLO. When two show the same one, by hand beats settled and settled beats fresh; between
//! equals the lower key keeps it, but an address given by hand is never changed by the program: two of those are reported at
//! both ends. Otherwise exactly one of two members gives way, without a server and without a clock.
//!
//! In a network with certificates only members count, and what the network vouches for beats what they say (protocol §8.7).

use super::Endpoint;
use super::event::{Event, PeerState};
use crate::addresses;
use crate::ids::NodeId;
use crate::membership::{self, Facts};
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

/// How much a claim counts; the most last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// In a network with certificates: it follows from nothing that the network vouches for.
    Unfounded,
    /// As HELLO says.
    Said(Claim),
    /// The network vouches for it. Of two whose certificates name it who has it keeps it.
    Vouched(Claim),
}

/// A member's claim on an address.
#[derive(Debug, Clone, Copy)]
struct Stake {
    node: NodeId,
    weight: Weight,
    is_by_hand: bool,
}

/// What becomes of this node's claim beside another's on the same address.
fn decide(own: Stake, other: Stake) -> Verdict {
    let is_lost = match own.weight.cmp(&other.weight) {
        Ordering::Greater => false,
        Ordering::Less => true,
        Ordering::Equal if own.is_by_hand && other.is_by_hand => return Verdict::Report,
        Ordering::Equal => own.node > other.node,
    };
    match (is_lost, own.is_by_hand) {
        (false, _) => Verdict::Keep,
        (true, true) => Verdict::Report,
        (true, false) => Verdict::Yield,
    }
}

impl Endpoint {
    /// Compares this node's claim with those of all peers; gives way, reports, or settles.
    pub(super) fn settle_claims(&mut self, now: Instant) {
        let Some(own) = self.hello.ipv4 else { return };
        if !self.out.take_hello_news() {
            return;
        }
        let is_same = |hello: &Hello| hello.ipv4.is_some_and(|theirs| theirs.address() == own.address());
        let mut rivals: Vec<Stake> = self
            .claimants()
            .filter(|(_, hello, _)| is_same(hello))
            .map(|(node, hello, facts)| self.stake(node, own, hello.claim, facts))
            .collect();
        let node = self.config.node.public();
        // Who has it by the record need not be there to say so.
        let holder = self.trust().and_then(|trust| trust.view().holder(own.address().into()));
        rivals.extend(holder.filter(|holder| *holder != node).map(|holder| Stake {
            node: holder,
            weight: Weight::Vouched(Claim::Settled),
            is_by_hand: false,
        }));
        let facts = self.own_facts();
        let verdicts = rivals.into_iter().map(|rival| {
            let ours = self.stake(node, own, self.hello.claim, facts.as_ref());
            (rival.node, decide(ours, rival))
        });
        // One rival that has to give way says nothing of the others: the gravest counts.
        match verdicts.max_by_key(|(_, verdict)| *verdict) {
            Some((holder, Verdict::Yield)) => self.take_next_address(now, own, holder),
            Some((peer, Verdict::Report)) => self.out.event(Event::AddressConflict { peer, address: own }),
            Some((_, Verdict::Keep)) => {}
            // The first meeting with a member passed without conflict.
            None if self.hello.claim == Claim::Fresh && self.claimants().next().is_some() => {
                self.hello.claim = Claim::Settled;
                self.out.event(Event::AddressSettled);
                self.announce(now);
            }
            None => {}
        }
    }

    /// Whose word on their address counts, their word, and what the network vouches for of them: with certificates those that are
    /// let in. Who only has the secret could else drive this node from its address.
    fn claimants(&self) -> impl Iterator<Item = (NodeId, &Hello, Option<&Facts>)> {
        let is_open = self.trust().is_none();
        self.peers.values().filter_map(move |peer| {
            let facts = peer.admission().map(|admission| &admission.facts);
            (is_open || facts.is_some()).then_some((peer.id(), peer.about()?, facts))
        })
    }

    fn own_facts(&self) -> Option<Facts> {
        self.trust()?.own_facts()
    }

    /// How much it counts that `node` claims `address`.
    fn stake(&self, node: NodeId, address: Cidr4, claim: Claim, facts: Option<&Facts>) -> Stake {
        let address = address.address();
        let is_vouched_for = || facts.is_some_and(|facts| facts.has(address.into()));
        let follows_from_key = || addresses::is_derived_ipv4(self.config.addresses, node, address);
        let weight = if self.trust().is_none() {
            Weight::Said(claim)
        } else if is_vouched_for() {
            Weight::Vouched(claim.min(Claim::Settled))
        } else if follows_from_key() {
            // A hand that the network knows nothing of moves nobody.
            Weight::Said(claim.min(Claim::Settled))
        } else {
            Weight::Unfounded
        };
        Stake { node, weight, is_by_hand: claim == Claim::ByHand }
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
        let Some((attempt, address)) = self.next_derived() else {
            // 256 derived addresses are all taken: only a person can choose one.
            self.out.event(Event::AddressConflict { peer: holder, address: own });
            return;
        };
        self.attempt = Some(attempt);
        self.hello.ipv4 = Some(address);
        self.hello.claim = Claim::Settled;
        self.out.event(Event::AddressChanged { address, attempt, holder });
        self.out.event(Event::AddressSettled);
        self.announce(now);
    }

    /// The next address that this node's key gives and that is nobody's, in the network's range; the first where it has another.
    fn next_derived(&self) -> Option<(u8, Cidr4)> {
        let taken: HashSet<Ipv4Addr> =
            self.claimants().filter_map(|(_, hello, _)| hello.ipv4).map(|cidr| cidr.address()).collect();
        let node = self.config.node.public();
        let is_anothers = |address: Ipv4Addr| {
            let address = membership::Address::new(address.into());
            self.trust().zip(address).is_some_and(|(trust, address)| trust.is_anothers(address, node))
        };
        let (attempt, address) =
            addresses::ipv4_attempts(self.config.addresses, node).find(|(attempt, address)| {
                self.attempt.is_none_or(|tried| *attempt > tried)
                    && !taken.contains(address)
                    && !is_anothers(*address)
            })?;
        Some((attempt, Cidr4::new(address, addresses::IPV4_PREFIX_LEN)?))
    }

    /// The network gives this node an IPv4 address, which it holds so firmly; or, with `None`, none any more: then it has one of its key.
    pub fn set_given_ipv4(&mut self, now: Instant, given: Option<(Cidr4, Claim)>) {
        let (address, attempt, claim) = match given {
            Some((address, claim)) => (address, None, claim),
            // It has one of those already.
            None if self.attempt.is_some() => return,
            None => match self.next_derived() {
                Some((attempt, address)) => (address, Some(attempt), Claim::Fresh),
                None => return,
            },
        };
        if (self.hello.ipv4, self.hello.claim) == (Some(address), claim) {
            return;
        }
        self.attempt = attempt;
        (self.hello.ipv4, self.hello.claim) = (Some(address), claim);
        self.out.event(Event::AddressTaken { address, attempt, claim });
        self.out.weigh_claims_anew();
        self.announce(now);
        self.after_input(now);
    }

    pub(super) fn announce(&mut self, now: Instant) {
        self.hello.revision = self.hello.revision.wrapping_add(1);
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.with_peer(now, id, |peer, ctx| peer.announce(ctx));
        }
    }

    /// How many peers are connected, or sleep.
    pub fn connected(&self) -> usize {
        self.peers
            .values()
            .filter(|peer| matches!(peer.state(), PeerState::Connected | PeerState::Idle))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(node: NodeId, claim: Claim) -> Stake {
        Stake { node, weight: Weight::Said(claim), is_by_hand: claim == Claim::ByHand }
    }

    #[test]
    fn exactly_one_of_two_claims_gives_way_unless_both_were_given_by_hand() {
        let (low, high) = (NodeId([1; 32]), NodeId([2; 32]));
        let all = [Claim::Fresh, Claim::Settled, Claim::ByHand];
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
            let (ours, theirs) = (said(low, a), said(high, b));
            let verdicts = (decide(ours, theirs), decide(theirs, ours));
            if (a, b) == (Claim::ByHand, Claim::ByHand) {
                assert_eq!(verdicts, (Verdict::Report, Verdict::Report));
            } else {
                let one =
                    matches!(verdicts, (Verdict::Keep, Verdict::Yield) | (Verdict::Yield, Verdict::Keep));
                assert!(one, "{a:?} {b:?} {verdicts:?}");
            }
        }
        let newcomer = decide(said(high, Claim::Settled), said(low, Claim::Fresh));
        assert_eq!(newcomer, Verdict::Keep, "a newcomer never displaces a settled member");
    }

    #[test]
    fn what_the_network_vouches_for_beats_every_word_and_a_person_is_asked_before_a_hand_is_overruled() {
        let (low, high) = (NodeId([1; 32]), NodeId([2; 32]));
        let vouched = Stake { weight: Weight::Vouched(Claim::Fresh), ..said(high, Claim::Fresh) };
        for claim in [Claim::Fresh, Claim::Settled, Claim::ByHand] {
            assert_eq!(decide(vouched, said(low, claim)), Verdict::Keep);
            let loses = if claim == Claim::ByHand { Verdict::Report } else { Verdict::Yield };
            assert_eq!(decide(said(low, claim), vouched), loses);
        }
        let newcomer = Stake { node: low, ..vouched };
        let settled = Stake { weight: Weight::Vouched(Claim::Settled), ..vouched };
        assert_eq!(decide(newcomer, settled), Verdict::Yield, "of two certificates who has it keeps it");
        assert_eq!(decide(settled, newcomer), Verdict::Keep);
        let unfounded = Stake { weight: Weight::Unfounded, ..said(low, Claim::ByHand) };
        assert_eq!(decide(said(high, Claim::Fresh), unfounded), Verdict::Keep);
        assert_eq!(decide(unfounded, said(high, Claim::Fresh)), Verdict::Report);
    }
}
