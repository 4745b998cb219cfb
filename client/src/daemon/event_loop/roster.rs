//! What nodes are called, and whom people mean.
//!
//! # Invariants
//!
//! - In a network with certificates a node goes by what the record or a certificate says that reaches an admin, else by its short id;
//!   never by what it says itself: whoever has the network's secret can say anything.
//! - What an admin changes is changed for the one node that is meant, or for none ([`names::find_exactly`]): members by name, address
//!   or short id, everybody else by the whole id. Who waits to be let in is found among members as well, so that one that
//!   took a member's name is not approved for it, or it for the member.

use super::EventLoop;
use crate::control::names::{self, NameError, Named};
use crate::daemon::report;
use shadowmesh_proto::endpoint::status::PeerStatus;
use shadowmesh_proto::ids::{NodeId, PeerSlot, SHORT_ID_CHARS};
use shadowmesh_proto::membership::{Name, Reason, Refusal, Verdict};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

impl EventLoop {
    /// A peer and the name to show for it.
    pub(super) fn peer(&self, slot: PeerSlot) -> Option<(PeerStatus, String)> {
        let peer = self.endpoint.status_of(Instant::now(), slot)?;
        // One that is new since then is not among them.
        let name = self.shown_names.get_or_init(|| self.names_by_slot()).get(&slot).cloned();
        let name = name.or_else(|| self.names_by_slot().remove(&slot))?;
        Some((peer, name))
    }

    /// Somebody may be called otherwise now, or there is somebody else.
    pub(super) fn on_names_changed(&mut self) {
        self.shown_names.take();
        self.names.touch();
    }

    fn names_by_slot(&self) -> BTreeMap<PeerSlot, String> {
        let peers = self.endpoint.peer_status(Instant::now());
        let names = self.named(&peers).into_iter().map(|named| named.name);
        peers.iter().map(|peer| peer.slot).zip(names).collect()
    }

    /// The peers as they can be called, in the same order.
    pub(super) fn named(&self, peers: &[PeerStatus]) -> Vec<Named> {
        let roster: BTreeMap<NodeId, String> = self.roster().into_iter().collect();
        let is_certified = self.endpoint.trust().is_some();
        let own = roster.get(&self.endpoint.id()).map_or_else(|| self.settings.name.as_str(), String::as_str);
        report::named((self.endpoint.id(), own), peers, |peer| {
            let own = peer.hello.as_ref().map(|hello| hello.name.clone()).filter(|_| !is_certified);
            // Who waits, or was shut out, makes nobody else go by another name, and is not found where another is meant.
            let stands = self.is_member(peer) && !self.is_revoked(peer.id);
            let is_free = |name: &&String| stands || is_nobody_elses(name, peer.id, &roster);
            let known = roster.get(&peer.id).filter(is_free).cloned();
            known.or(own).unwrap_or_else(|| peer.id.short())
        })
    }

    /// What people call a node, as far as anybody said.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        let known = self.roster().into_iter().find(|(id, _)| *id == node);
        known.map_or_else(|| node.short(), |(_, name)| name)
    }

    /// The same with its short id, for whom others may be called like.
    pub(super) fn name_and_id(&self, node: NodeId) -> String {
        let (name, short) = (self.name_of(node), node.short());
        if name == short { name } else { format!("{name} ({short})") }
    }

    /// Every node of which something is known, with its name.
    pub(super) fn roster(&self) -> Vec<(NodeId, String)> {
        let mut roster: BTreeMap<NodeId, String> = BTreeMap::new();
        let Some(trust) = self.endpoint.trust() else { return Vec::new() };
        for (node, word, _) in trust.view().members() {
            roster.insert(node, word.name.as_ref().map_or_else(|| node.short(), ToString::to_string));
        }
        for peer in self.endpoint.peer_status(Instant::now()) {
            let known = roster.entry(peer.id).or_insert_with(|| peer.id.short());
            if let Some(Verdict::Admitted(admission)) = peer.member.as_ref().map(|member| &member.verdict) {
                *known = admission.facts.name.to_string();
            } else if *known == peer.id.short()
                && let Some(name) = self.certified_name(&peer)
            {
                *known = name.to_string();
            }
        }
        let own =
            self.own_facts().map_or_else(|| self.settings.name.to_string(), |facts| facts.name.to_string());
        roster.insert(trust.node(), own);
        roster.into_iter().collect()
    }

    /// What the certificate of a node says that waits for an admin's word, where an admin stands behind it still.
    fn certified_name(&self, peer: &PeerStatus) -> Option<Name> {
        let Some(Verdict::Refused(Reason::Refusal(Refusal::NeedsApproval | Refusal::Late(_)))) =
            peer.member.as_ref().map(|member| &member.verdict)
        else {
            return None;
        };
        self.endpoint.chain_of(peer.slot).map(|(certificate, _)| certificate.body().name.clone())
    }

    fn is_member(&self, peer: &PeerStatus) -> bool {
        let is_admitted =
            peer.member.as_ref().is_some_and(|member| matches!(member.verdict, Verdict::Admitted(_)));
        is_admitted || self.endpoint.trust().is_some_and(|trust| trust.view().knows(peer.id))
    }

    /// Whom `text` means of those who are members, or were: by what the network calls them, an address, a short id; a whole id need not
    /// be known. With the name to tell people.
    pub(super) fn member(&self, text: &str) -> Result<(NodeId, String), String> {
        self.refuse_uncertified()?;
        if let Some(whole) = NodeId::from_base32(text) {
            return Ok((whole, self.name_of(whole)));
        }
        let members = self.members_as_named();
        match find_standing(&members, text, |node| self.is_revoked(node)) {
            Ok(found) => Ok((found.id, self.name_of(found.id))),
            Err(NameError::Unknown(text)) => Err(format!(
                "no member is called {text:?}: `shadowmesh members` shows who is known, and who is none goes by its whole id"
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The name of another member than `node` that is `name`, but for the case, in which neither lookups nor DNS tell names apart. It is of
    /// whom the record names and did not shut out, or who is let in: nobody keeps a name from others by waiting under it.
    pub(super) fn anothers_name(&self, node: NodeId, name: &Name) -> Option<String> {
        let trust = self.endpoint.trust()?;
        let recorded = trust.view().names().map(|(known, holder)| (holder, known.to_string()));
        let peers = self.endpoint.peer_status(Instant::now());
        let let_in = peers.iter().filter_map(|peer| match &peer.member.as_ref()?.verdict {
            Verdict::Admitted(admission) => Some((peer.id, admission.facts.name.to_string())),
            Verdict::Pending | Verdict::Refused(_) => None,
        });
        let here = self.own_facts().map(|facts| (trust.node(), facts.name.to_string()));
        let mut known = recorded.chain(let_in).chain(here);
        let is_like = |other: &str| other.eq_ignore_ascii_case(name.as_str());
        known.find(|(holder, other)| *holder != node && is_like(other)).map(|(_, other)| other)
    }

    /// Members that were not shut out and are called `name` with a number, as who comes to a name that another has.
    pub(super) fn numbered(&self, name: &str) -> Vec<(NodeId, String)> {
        let is_number = |tail: &str| !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_digit());
        let is_numbered = |other: &str| {
            other.strip_prefix(name).and_then(|tail| tail.strip_prefix('-')).is_some_and(is_number)
        };
        let members = self.members_as_named().into_iter().filter(|named| !self.is_revoked(named.id));
        let found = members.filter(|named| is_numbered(&named.name)).map(|named| (named.id, named.name));
        found.collect::<BTreeMap<NodeId, String>>().into_iter().collect()
    }

    /// Whom `text` means of those who wait to be let in: by the name in its certificate, or its id.
    ///
    /// A node that is a member already is no answer, but it is asked whether it is meant.
    pub(super) fn waiting(&self, text: &str) -> Result<(NodeId, String), String> {
        self.refuse_uncertified()?;
        let (node, name) = match NodeId::from_base32(text) {
            Some(whole) => (whole, self.name_of(whole)),
            None => {
                let mut all = self.members_as_named();
                for peer in self.endpoint.peer_status(Instant::now()) {
                    let name = self.certified_name(&peer);
                    let name = name.map_or_else(|| peer.id.short(), |name| name.to_string());
                    all.push(Named { id: peer.id, name, addresses: Vec::new() });
                }
                let found = find_standing(&all, text, |node| self.is_revoked(node));
                let found = found.map_err(|error| match error {
                    NameError::Unknown(text) => {
                        format!("nobody that waits is called {text:?}: `shadowmesh members` shows who does")
                    }
                    error @ NameError::Ambiguous { .. } => error.to_string(),
                })?;
                (found.id, found.name)
            }
        };
        if self.is_revoked(node) {
            return Err(format!("{name} was revoked, which lasts: it has to join with another key"));
        }
        if self.endpoint.trust().is_some_and(|trust| trust.view().knows(node)) {
            return Err(format!("{name} ({}) is a member already", node.short()));
        }
        Ok((node, name))
    }

    /// Nobody is asked for by a name, only to hear that nothing can be changed.
    fn refuse_uncertified(&self) -> Result<(), String> {
        let without = "this network has no certificates: whoever knows its secret is a member, and nobody can be shut out or renamed; \
                       `shadowmesh network create` makes one that has";
        self.endpoint.trust().is_some().then_some(()).ok_or_else(|| without.to_owned())
    }

    pub(super) fn is_revoked(&self, node: NodeId) -> bool {
        self.endpoint.trust().is_some_and(|trust| trust.view().revocation(node).is_some())
    }

    /// Everybody whom the record knows or who is let in, once for each name that there is for it.
    fn members_as_named(&self) -> Vec<Named> {
        let Some(trust) = self.endpoint.trust() else { return Vec::new() };
        let view = trust.view();
        let peers = self.endpoint.peer_status(Instant::now());
        let given: Vec<(IpAddr, NodeId)> = view.addresses().collect();
        let addresses = |node: NodeId| {
            let said = peers.iter().find(|peer| peer.id == node).filter(|peer| self.is_member(peer));
            let given = given.iter().filter(|(_, owner)| *owner == node).map(|(address, _)| *address);
            given.chain(said.into_iter().flat_map(report::addresses)).collect::<Vec<IpAddr>>()
        };
        let mut names: Vec<(NodeId, String)> = vec![(trust.node(), self.name_of(trust.node()))];
        // As the record says it, whether or not another has the name: whoever asks may mean either.
        names.extend(view.members().map(|(node, word, _)| {
            (node, word.name.as_ref().map_or_else(|| node.short(), ToString::to_string))
        }));
        for peer in &peers {
            if let Some(Verdict::Admitted(admission)) = peer.member.as_ref().map(|member| &member.verdict) {
                names.push((peer.id, admission.facts.name.to_string()));
            }
        }
        names.into_iter().map(|(id, name)| Named { id, name, addresses: addresses(id) }).collect()
    }
}

/// Whether a name cannot be taken for another of `roster`, its id, or an address.
fn is_nobody_elses(name: &str, node: NodeId, roster: &BTreeMap<NodeId, String>) -> bool {
    let start = name.to_ascii_lowercase();
    let is_like = |(other, known): (&NodeId, &String)| {
        let has_id = start.len() >= SHORT_ID_CHARS && other.to_base32().starts_with(&start);
        *other != node && (known.eq_ignore_ascii_case(name) || has_id)
    };
    name.parse::<IpAddr>().is_err() && !roster.iter().any(is_like)
}

/// Those count that were not revoked, if there are any: a host that comes back with another key has the name of the one before.
fn find_standing(all: &[Named], text: &str, is_revoked: impl Fn(NodeId) -> bool) -> Result<Named, NameError> {
    let standing: Vec<Named> = all.iter().filter(|named| !is_revoked(named.id)).cloned().collect();
    match names::find_exactly(&standing, text) {
        Err(NameError::Unknown(_)) => names::find_exactly(all, text).cloned(),
        found => found.cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_who_waits_is_nobody_elses_in_any_way_of_being_called() {
        let (here, other) = (NodeId([1; 32]), NodeId([2; 32]));
        let roster: BTreeMap<NodeId, String> = [(here, "lab".to_owned()), (other, "Anna".to_owned())].into();
        let is_free = |name: &str| is_nobody_elses(name, here, &roster);
        assert!(is_free("lab") && is_free(&other.to_base32()[..3]), "too short for an id");
        for taken in ["anna", &other.short(), &other.to_base32(), "10.7.3.4"] {
            assert!(!is_free(taken), "{taken}");
        }
    }
}
