//! The control side: members and rules come in, filters go out.

use super::filter::{Filter, Guard, Standing};
use super::limits::{GRACE, PARTED};
use super::memory::Memory;
use shadowmesh_proto::ids::{NodeId, PeerSlot};
use shadowmesh_proto::rules::{Policy, Rules, Subject};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Who is who and what is allowed, as the control task knows it. After each change the caller publishes [`Self::filter`] anew, before
/// frames of a new peer are let in: a peer that a filter does not know may send nothing.
#[derive(Debug)]
pub struct Access {
    rules: Rules,
    here: Subject,
    /// By slot.
    peers: Vec<Option<Peer>>,
    /// Memories of peers that left, the oldest first.
    parted: VecDeque<(NodeId, Arc<Memory>)>,
    began: Instant,
}

#[derive(Debug)]
struct Peer {
    subject: Subject,
    standing: Standing,
    /// How long a connection of which nothing is remembered may go on: for a while after this node began, or the rules or this node changed.
    /// Not after the peer did: what it shows is its own to choose.
    lenient_until: Instant,
}

impl Access {
    /// Without rules, in which everything is allowed. `here` is this node as the network vouches for it.
    pub fn new(now: Instant, here: Subject) -> Self {
        Self { rules: Rules::default(), here, peers: Vec::new(), parted: VecDeque::new(), began: now }
    }

    /// Other rules.
    pub fn set_rules(&mut self, now: Instant, rules: Rules) {
        self.rules = rules;
        self.renew_all(now);
    }

    /// This node has another name or other tags.
    pub fn set_here(&mut self, now: Instant, here: Subject) {
        self.here = here;
        self.renew_all(now);
    }

    fn renew_all(&mut self, now: Instant) {
        let mut peers = std::mem::take(&mut self.peers);
        for peer in peers.iter_mut().flatten() {
            let before = std::mem::take(&mut peer.standing);
            let policy = Policy::new(&self.rules, &peer.subject, &self.here);
            if !matches!(&before, Standing::Restricted(guard) if guard.policy == policy) {
                peer.lenient_until = now + GRACE;
            }
            peer.standing = renewed(now, policy, before, peer.lenient_until);
        }
        self.peers = peers;
    }

    /// A peer, as the network vouches for it: a new one in this slot, or one with another name or other tags.
    pub fn set_peer(&mut self, now: Instant, slot: PeerSlot, subject: Subject) {
        let Ok(at) = usize::try_from(slot.0) else { return };
        if self.peer(slot).is_some_and(|peer| peer.subject.id != subject.id) {
            self.remove_peer(slot);
        }
        if at >= self.peers.len() {
            self.peers.resize_with(at + 1, || None);
        }
        let policy = Policy::new(&self.rules, &subject, &self.here);
        let (standing, lenient_until) = match self.peers.get_mut(at).and_then(Option::take) {
            Some(Peer { standing, lenient_until, .. }) => {
                (renewed(now, policy, standing, lenient_until), lenient_until)
            }
            None => {
                let (memory, lenient_until) = (self.parted_memory(&subject.id), self.began + GRACE);
                (standing(now, policy, memory, lenient_until), lenient_until)
            }
        };
        if let Some(place) = self.peers.get_mut(at) {
            *place = Some(Peer { subject, standing, lenient_until });
        }
    }

    /// A peer left; its slot may be given to another.
    pub fn remove_peer(&mut self, slot: PeerSlot) {
        let place = usize::try_from(slot.0).ok().and_then(|at| self.peers.get_mut(at));
        let Some(Peer { subject, standing: Standing::Restricted(guard), .. }) = place.and_then(Option::take)
        else {
            return;
        };
        if self.parted.len() >= PARTED {
            self.parted.pop_front();
        }
        self.parted.push_back((subject.id, Arc::clone(&guard.memory)));
    }

    /// What the data threads judge by; `None` while nothing is restricted, whoever comes.
    pub fn filter(&self) -> Option<Arc<Filter>> {
        let standing =
            |peer: &Option<Peer>| peer.as_ref().map(|peer| peer.standing.clone()).unwrap_or_default();
        (!self.rules.is_open()).then(|| Arc::new(Filter::new(self.peers.iter().map(standing))))
    }

    fn peer(&self, slot: PeerSlot) -> Option<&Peer> {
        self.peers.get(usize::try_from(slot.0).ok()?)?.as_ref()
    }

    /// What is remembered of a peer that was here before.
    fn parted_memory(&mut self, id: &NodeId) -> Option<Arc<Memory>> {
        let at = self.parted.iter().position(|(parted, _)| parted == id)?;
        self.parted.remove(at).map(|(_, memory)| memory)
    }
}

/// How a peer stands that stood as `before`: with what is remembered of it.
fn renewed(now: Instant, policy: Policy, before: Standing, lenient_until: Instant) -> Standing {
    let memory = match before {
        Standing::Restricted(guard) if guard.policy == policy => return Standing::Restricted(guard),
        Standing::Restricted(guard) => Some(Arc::clone(&guard.memory)),
        Standing::Unknown | Standing::Open => None,
    };
    standing(now, policy, memory, lenient_until)
}

fn standing(now: Instant, policy: Policy, memory: Option<Arc<Memory>>, lenient_until: Instant) -> Standing {
    if policy.is_unrestricted() {
        return Standing::Open;
    }
    let memory = memory.unwrap_or_else(|| Arc::new(Memory::new(now)));
    Standing::Restricted(Arc::new(Guard { policy, memory, lenient_until }))
}
