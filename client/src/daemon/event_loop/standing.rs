//! How this node and others stand to each other, for people: who is not let in, by whom, and why.
//!
//! A peer that is refused has a session for some seconds at a time, and what it showed and said is known only while it lasts. Here it
//! is kept, so that the answer is the same in between. Times and names read as they do everywhere else.
//!
//! # Invariants
//!
//! - Nothing here decides whether a frame passes: that is the endpoint's, by the verdict itself.
//! - What a node says of this one counts only while that node is, or was last, admitted here: whoever has the network's secret can say
//!   anything.

use super::EventLoop;
use crate::control::status::Barred;
use crate::daemon::clock::date;
use crate::daemon::report::refusal_in_words;
use shadowmesh_proto::endpoint::status::PeerStatus;
use shadowmesh_proto::ids::{Fingerprint, NodeId, PeerSlot};
use shadowmesh_proto::membership::{
    ADMITTED, JoinError, PENDING, Reason, Refusal, Revocation, ShutOut, Trust, Verdict,
};

/// What a peer says where an admin's word lets this node in: the invite had ended before the two met, or it needs approval (protocol
/// §8.5).
const WAITING: [u8; 2] = [12, 13];
/// What it says where this node was revoked.
const REVOKED: u8 = 4;

/// What was last known of a peer.
#[derive(Debug, Default)]
pub(super) struct Stood {
    /// Why it is refused here.
    by_us: Option<Reason>,
    /// Its number for why it refuses this node.
    by_it: Option<u8>,
    is_admitted: bool,
}

impl Stood {
    pub(super) fn on_judged(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Admitted(_) => (self.by_us, self.is_admitted) = (None, true),
            Verdict::Refused(reason) => (self.by_us, self.is_admitted) = (Some(reason.clone()), false),
            Verdict::Pending => {}
        }
    }

    pub(super) fn on_standing(&mut self, standing: u8) {
        self.by_it = (standing > ADMITTED).then_some(standing);
    }
}

/// How members that this node admits stand to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// One lets it in, or none said anything.
    Well,
    /// It waits for an admin's word.
    Waiting,
    /// None of those that said anything lets it in; the first of their numbers.
    Refused(u8),
}

/// What they said, taken together: one that lets this node in is enough, for others may have heard less.
fn taken_together(said: impl Iterator<Item = u8>) -> Heard {
    let mut heard = Heard::Well;
    for standing in said {
        heard = match (heard, standing) {
            (_, ADMITTED) => return Heard::Well,
            (known, PENDING) => known,
            (_, standing) if WAITING.contains(&standing) => Heard::Waiting,
            (Heard::Well, standing) => Heard::Refused(standing),
            (known @ (Heard::Waiting | Heard::Refused(_)), _) => known,
        };
    }
    heard
}

/// One word for why a node is refused.
const fn word_for(reason: &Reason) -> &'static str {
    match reason {
        Reason::Refusal(Refusal::NeedsApproval | Refusal::Late(_)) => "waiting",
        Reason::Refusal(Refusal::Revoked { .. }) => "revoked",
        Reason::Refusal(_) | Reason::Statement(_) => "refused",
    }
}

/// The same of this node itself, by `state`: who was shut out with the invite by which it came is `revoked` by that word, and refused by all
/// others.
pub(super) const fn shown_as(state: &'static str, shut_out: Option<ShutOut>) -> &'static str {
    match shut_out {
        Some(ShutOut::Invite { .. }) => "refused",
        Some(ShutOut::Key(_)) | None => state,
    }
}

/// A time for people.
pub(super) fn on(seconds: u64) -> String {
    format!("on {} UTC", date(seconds))
}

/// Why this host could not join, for people.
pub(super) fn not_joined(error: &JoinError) -> String {
    match error {
        JoinError::Ended(at) => format!("the invite ended {}; ask for a new one", on(*at)),
        JoinError::OtherDelegation | JoinError::Sign(_) => error.to_string(),
    }
}

impl EventLoop {
    /// That one of the two does not let the other in, as far as is known.
    pub(super) fn barred(&self, peer: &PeerStatus) -> Option<Barred> {
        let view = self.endpoint.trust()?.view();
        if let Some(Revocation { by, at }) = view.revocation(peer.id) {
            let why = format!("revoked by the admin {} {}", self.admin_name(by), on(at));
            return Some(Barred { state: "revoked".to_owned(), by_us: true, why });
        }
        let stood = self.members.stood.get(&peer.slot);
        let reason = match peer.member.as_ref().map(|member| &member.verdict) {
            Some(Verdict::Refused(reason)) => Some(reason),
            Some(Verdict::Admitted(_)) => None,
            // An admin may have had a word on it since it was here.
            Some(Verdict::Pending) | None => stood.and_then(|stood| stood.by_us.as_ref()).filter(|reason| {
                let Reason::Refusal(refusal) = reason else { return true };
                !(refusal.is_mended_by_a_word() && view.knows(peer.id))
            }),
        };
        if let Some(reason) = reason {
            let why = self.why_refused(peer.slot, reason);
            return Some(Barred { state: word_for(reason).to_owned(), by_us: true, why });
        }
        let standing = self.said_by(peer).filter(|standing| *standing > ADMITTED)?;
        let state = match standing {
            REVOKED => "revoked",
            standing if WAITING.contains(&standing) => "waiting",
            _ => "refused",
        };
        let why = refusal_in_words(standing).to_owned();
        Some(Barred { state: state.to_owned(), by_us: false, why })
    }

    /// Whether the peer waits for an admin's word, as far as this node knows.
    pub(super) fn waits_here(&self, peer: &PeerStatus) -> bool {
        self.barred(peer).is_some_and(|barred| barred.by_us && barred.state == "waiting")
    }

    /// What the peer says of this node, or said last.
    fn said_by(&self, peer: &PeerStatus) -> Option<u8> {
        let said = peer.member.as_ref().map(|member| member.standing).filter(|said| *said != PENDING);
        said.or_else(|| self.members.stood.get(&peer.slot)?.by_it)
    }

    /// How this node stands with those that it admits.
    pub(super) fn heard(&self, peers: &[PeerStatus]) -> Heard {
        let is_admitted = |peer: &&PeerStatus| match peer.member.as_ref().map(|member| &member.verdict) {
            Some(Verdict::Admitted(_)) => true,
            Some(Verdict::Refused(_)) => false,
            Some(Verdict::Pending) | None => {
                self.members.stood.get(&peer.slot).is_some_and(|stood| stood.is_admitted)
            }
        };
        taken_together(peers.iter().filter(is_admitted).filter_map(|peer| self.said_by(peer)))
    }

    /// Why an echo to the peer would say what is not so: frames do not pass, in a network with certificates, before each of the two has
    /// let the other in.
    pub(super) fn why_no_frames(&self, peer: &PeerStatus, name: &str) -> Option<String> {
        if let Some(Barred { by_us, why, .. }) = self.barred(peer) {
            return Some(match by_us {
                true => format!("{name} is not let in: {why}"),
                false => format!("{name} does not let this node in: {why}"),
            });
        }
        let member = peer.member.as_ref()?;
        match (&member.verdict, member.standing) {
            (Verdict::Admitted(_), ADMITTED) => None,
            (Verdict::Admitted(_), _) => {
                Some(format!("{name} has not said yet whether it lets this node in"))
            }
            (Verdict::Pending | Verdict::Refused(_), _) => {
                Some(format!("{name} is not let in yet: it has shown no certificate"))
            }
        }
    }

    /// Why no path is worth waiting for, and what to do: one of the two does not let the other in, which time alone does not mend.
    pub(super) fn why_no_path(&self, peer: &PeerStatus, name: &str) -> Option<String> {
        let Barred { state, by_us, why } = self.barred(peer)?;
        let waits =
            |id: NodeId| format!("`sudo shadowmesh approve {}` on an admin's host lets it in", id.short());
        Some(match (state.as_str(), by_us) {
            ("waiting", true) => format!("{name} is not let in: {why}; {}", waits(peer.id)),
            ("waiting", false) => {
                format!("{name} does not let this node in: {why}; {}", waits(self.endpoint.id()))
            }
            ("revoked", true) => {
                format!("{name} is not let in: {why}; it takes another key and an invite to come back")
            }
            (_, true) => format!("{name} is not let in: {why}; `shadowmesh doctor` there says what to do"),
            (_, false) => {
                format!("{name} does not let this node in: {why}; `shadowmesh doctor` here says what to do")
            }
        })
    }

    /// Why somebody is refused, with times and names for people.
    pub(super) fn why_refused(&self, slot: PeerSlot, reason: &Reason) -> String {
        let Reason::Refusal(refusal) = reason else { return reason.to_string() };
        match refusal {
            Refusal::Revoked { by, at } => {
                format!("revoked by the admin {} {}", self.admin_name(*by), on(*at))
            }
            Refusal::NotYet(at) => {
                format!("the certificate is good from {} UTC: is a clock wrong?", date(*at))
            }
            Refusal::Expired(at) => format!("the certificate expired {}", on(*at)),
            Refusal::AdminRemoved(by) => {
                format!("{} is no admin any more, and no other vouches for this node", self.admin_name(*by))
            }
            Refusal::InviteRevoked { by, at } => {
                let invite = self.endpoint.chain_of(slot).and_then(|(_, delegation)| delegation);
                let view = self.endpoint.trust().map(Trust::view);
                if view.zip(invite).is_some_and(|(view, invite)| view.is_used_up(invite.body())) {
                    return "the invite was used up by others".to_owned();
                }
                format!("the invite was revoked by the admin {} {}", self.admin_name(*by), on(*at))
            }
            Refusal::Late(at) => format!("the invite ended {}, before anybody here met this node", on(*at)),
            Refusal::OtherNode(_)
            | Refusal::NoAdmin(_)
            | Refusal::OtherDelegate(_)
            | Refusal::Beyond(_)
            | Refusal::NeedsApproval
            | Refusal::UsedUp => refusal.to_string(),
        }
    }

    /// How this host was shut out, and what it takes to come back.
    pub(super) fn why_shut_out(&self, shut_out: ShutOut) -> String {
        let (ShutOut::Key(Revocation { by, at }) | ShutOut::Invite { revocation: Revocation { by, at }, .. }) =
            shut_out;
        let by = format!("by the admin {} {}", self.admin_name(by), on(at));
        match shut_out {
            ShutOut::Key(_) => {
                format!("this host was revoked {by}: `sudo shadowmesh leave`, and join anew with another key")
            }
            ShutOut::Invite { is_used_up, .. } => {
                let what = match is_used_up {
                    true => "the invite by which this host came was used up by others".to_owned(),
                    false => format!("the invite by which this host came was revoked {by}"),
                };
                format!(
                    "{what}: `sudo shadowmesh leave`, and join by another invite (`shadowmesh invite` on an admin's host)"
                )
            }
        }
    }

    /// What `admins list` calls it.
    fn admin_name(&self, id: Fingerprint) -> String {
        let known = self.admins().into_iter().find(|admin| admin.id == id.to_base32());
        known.map_or_else(|| id.short(), |admin| admin.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_that_lets_this_node_in_is_enough_and_waiting_comes_before_refused() {
        for (said, heard) in [
            (&[][..], Heard::Well),
            (&[PENDING], Heard::Well),
            (&[13], Heard::Waiting),
            (&[12, PENDING], Heard::Waiting),
            (&[7, 13], Heard::Waiting),
            (&[13, 7], Heard::Waiting),
            (&[14, 7], Heard::Refused(14)),
            (&[14, 13, ADMITTED], Heard::Well),
            (&[ADMITTED, 14], Heard::Well),
        ] {
            assert_eq!(taken_together(said.iter().copied()), heard, "{said:?}");
        }
    }

    #[test]
    fn what_was_known_of_a_peer_outlives_its_session() {
        let mut stood = Stood::default();
        let refused = Verdict::Refused(Reason::Refusal(Refusal::NeedsApproval));
        stood.on_judged(&refused);
        stood.on_standing(13);
        // The next session begins.
        stood.on_judged(&Verdict::Pending);
        assert!(matches!(stood.by_us, Some(Reason::Refusal(Refusal::NeedsApproval))) && !stood.is_admitted);
        assert_eq!((stood.by_it, word_for(stood.by_us.as_ref().unwrap())), (Some(13), "waiting"));
        stood.on_standing(ADMITTED);
        assert_eq!(stood.by_it, None);
    }

    #[test]
    fn times_are_dates() {
        assert_eq!(
            not_joined(&JoinError::Ended(0)),
            "the invite ended on 1970-01-01 00:00 UTC; ask for a new one"
        );
    }
}
