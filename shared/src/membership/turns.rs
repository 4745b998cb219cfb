//! Whose turn it is to be asked for a blob that serves all sessions (protocol §8.5).
//!
//! One peer is asked for it at a time, and the others that may have it wait. A turn lasts until the blob is here, until the peer says that
//! it does not have it, or [`TURN`]; then it is the next one's. Keys are cheap, so what somebody pretends to have and does not give
//! must not keep it from a node that others would give it to, however many keys pretend:
//!
//! - Who waits longest is next; who had its turn and comes again is last. So N peers that give nothing cost N turns, once.
//! - Each second turn is an admitted peer's, if one waits: who only has the network's secret takes every other turn at the most, and
//!   members that give nothing leave as many to a peer that is not admitted yet (as by an admin that the missing document names).
//! - Only the one whose turn it is is told so ([`Turns::poll`]), and who does not take it then (it is gone, or asked for something else) loses it to the
//!   next at once. What others do here so costs a look at one session each time, and not at all.

use crate::ids::{BlobHash, NodeId};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// What one peer is being asked for no other is, for so long: the largest document takes ten round trips.
const TURN: Duration = Duration::from_secs(5);
/// Nobody that waited has asked again for so long: they are gone.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Whose turn it is, by blob.
#[derive(Debug, Default)]
pub(super) struct Turns {
    claims: BTreeMap<BlobHash, Claim>,
    /// Blobs with a new owner that has to be told, or was told and may not have taken its turn.
    given: VecDeque<BlobHash>,
}

/// A blob that somebody is being asked for.
#[derive(Debug)]
struct Claim {
    owner: NodeId,
    until: Instant,
    /// Whether the owner is being asked.
    is_taken: bool,
    is_told: bool,
    /// Whose turn comes, the longest waiting first.
    waiting: VecDeque<Waiting>,
    /// Whether the next turn is an admitted peer's, if there is one.
    is_for_member: bool,
}

#[derive(Debug)]
struct Waiting {
    peer: NodeId,
    is_admitted: bool,
}

impl Claim {
    fn new(now: Instant, owner: NodeId) -> Self {
        let (until, waiting) = (now + TURN, VecDeque::new());
        Self { owner, until, is_taken: true, is_told: true, waiting, is_for_member: true }
    }

    fn wait(&mut self, peer: NodeId, is_admitted: bool) {
        match self.waiting.iter_mut().find(|waiting| waiting.peer == peer) {
            Some(waiting) => waiting.is_admitted = is_admitted,
            None => self.waiting.push_back(Waiting { peer, is_admitted }),
        }
    }

    /// Gives the turn to the next one, if there is one.
    fn pass(&mut self, now: Instant) -> bool {
        let member = self.waiting.iter().position(|waiting| waiting.is_admitted);
        let at = member.filter(|_| self.is_for_member).unwrap_or_default();
        let Some(next) = self.waiting.remove(at) else { return false };
        (self.owner, self.until) = (next.peer, now + TURN);
        (self.is_taken, self.is_told) = (false, false);
        self.is_for_member = !self.is_for_member;
        true
    }
}

impl Turns {
    /// Whether `peer` may be asked for `hash`: nobody else is. It is noted. `is_admitted`: whether it is a member, as far as is known.
    ///
    /// # Errors
    /// When to try again, at the latest: it waits for its turn.
    pub(super) fn claim(
        &mut self,
        now: Instant,
        peer: NodeId,
        is_admitted: bool,
        hash: BlobHash,
    ) -> Result<(), Instant> {
        self.claims.retain(|_, claim| claim.until + FORGOTTEN_AFTER > now);
        let Some(claim) = self.claims.get_mut(&hash) else {
            self.claims.insert(hash, Claim::new(now, peer));
            return Ok(());
        };
        if claim.until <= now {
            if claim.owner == peer && claim.waiting.is_empty() {
                *claim = Claim { is_for_member: claim.is_for_member, ..Claim::new(now, peer) };
                return Ok(());
            }
            claim.wait(peer, is_admitted);
            if claim.pass(now) {
                self.given.push_back(hash);
            }
        }
        if claim.owner == peer {
            claim.is_taken = true;
            return Ok(());
        }
        claim.wait(peer, is_admitted);
        Err(claim.until)
    }

    /// `peer` is not being asked for it any more. Nobody has to be if it is `here`.
    pub(super) fn release(&mut self, now: Instant, peer: NodeId, hash: BlobHash, is_here: bool) {
        let Some(claim) = self.claims.get_mut(&hash).filter(|claim| is_here || claim.owner == peer) else {
            return;
        };
        if !is_here && claim.pass(now) {
            self.given.push_back(hash);
        } else {
            self.claims.remove(&hash);
        }
    }

    /// Whose turn it is now and was not told: to be let ask, before the next call.
    pub(super) fn poll(&mut self, now: Instant) -> Option<NodeId> {
        while let Some(hash) = self.given.front() {
            if let Some(claim) = self.claims.get_mut(hash).filter(|claim| !claim.is_taken) {
                if !claim.is_told || claim.pass(now) {
                    claim.is_told = true;
                    return Some(claim.owner);
                }
                // Nobody wants it any more.
                self.claims.remove(hash);
            }
            self.given.pop_front();
        }
        None
    }
}
