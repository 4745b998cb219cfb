//! What people ask for about the network: who is in it, and what an admin changes.

use super::EventLoop;
use super::standing::{Heard, shown_as};
use crate::config::remembered_relay;
use crate::control::message::{
    AdminEntry, Change, ErrorCode, InviteLimits, Member, Members, NO_LIMITS, Response, Revoked,
};
use crate::daemon::clock::unix_now;
use crate::daemon::members::admin::AdminError;
use crate::daemon::members::inviting::{BAD_NAME, BAD_TAG, Wanted, tags};
use crate::daemon::report::refusal_in_words;
use crate::system_rng::SystemRng;
use shadowmesh_proto::crypto::keys::NetworkSecret;
use shadowmesh_proto::endpoint::event::PeerState;
use shadowmesh_proto::endpoint::status::PeerStatus;
use shadowmesh_proto::ids::{Fingerprint, NodeId, SHORT_ID_CHARS};
use shadowmesh_proto::membership::{
    Delegation, Facts, GRACE, Legacy, Name, Reason, Refusal, SecretName, SecretState, Statement, Tag, Tags,
    Trust, Verdict,
};
use shadowmesh_proto::rules;
use shadowmesh_proto::ticket::{Address, MAX_ENTRIES, RelayTicket};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Of this host.
const HERE_WAITS: &str = "waits for an admin's approval";

impl EventLoop {
    /// An invite, in either kind of network.
    pub(super) fn invite(&mut self, expires_s: u64, name: Option<String>, limits: InviteLimits) -> Response {
        match self.make_invite(expires_s, name, limits) {
            Ok(ticket) => Response::Invite { ticket },
            Err(sentence) => Response::error(ErrorCode::Failed, sentence),
        }
    }

    fn make_invite(
        &mut self,
        expires_s: u64,
        name: Option<String>,
        limits: InviteLimits,
    ) -> Result<String, String> {
        let until = unix_now().saturating_add(expires_s);
        let wanted = Wanted { until, expires_s, name, limits };
        let invite = if self.endpoint.trust().is_none() {
            wanted.open(&self.network, &self.relay_tickets)?
        } else {
            let limits = wanted.limits(self.network.address_space(), self.settings.address)?;
            let delegated = self.ask_admin(|admin| admin.invite(limits, &mut SystemRng))?;
            let trust = self.endpoint.trust().ok_or(NO_LIMITS)?;
            wanted.ticket(&self.network, trust, &self.relay_tickets, delegated)
        };
        Ok(invite.to_text().to_string())
    }

    /// Whoever sleeps is woken: it is to be told something, and to say whether it has it.
    fn wake_all(&mut self) {
        let now = Instant::now();
        let asleep = self.endpoint.peer_status(now).into_iter().filter(|peer| peer.state == PeerState::Idle);
        for slot in asleep.map(|peer| peer.slot).collect::<Vec<_>>() {
            self.endpoint.wake(now, slot);
        }
    }

    /// Members that are connected, or sleep, and have not got the new secret, while they may get it.
    fn without_secret(&self, now: Instant) -> Vec<String> {
        let hands_on = |trust: &Trust| trust.secrets().hands_on(trust.view().secret(), now);
        if !self.endpoint.trust().is_some_and(hands_on) {
            return Vec::new();
        }
        let peers = self.endpoint.peer_status(now).into_iter();
        let is_without = |peer: &PeerStatus| {
            let verdict = peer.member.as_ref().map(|member| &member.verdict);
            matches!(peer.state, PeerState::Connected | PeerState::Idle)
                && matches!(verdict, Some(Verdict::Admitted(_)))
                && self.has_new_secret(peer.id) != Some(true)
        };
        peers.filter(is_without).map(|peer| self.name_of(peer.id)).collect()
    }

    /// Draws another secret for the network and names it in the record.
    fn rotate_secret(&mut self, at_once: bool) -> Result<String, String> {
        let Some(trust) = self.endpoint.trust() else {
            return Err("this network has no certificates, so its secret is all that it is: make one that has, with `shadowmesh \
                        network create`, and let its hosts join that"
                .to_owned());
        };
        let (now, unix) = (Instant::now(), unix_now());
        let without = self.without_secret(now);
        match trust.secret_state(unix) {
            // Nothing is drawn where it is refused anyway.
            _ if !self.is_admin() => return self.ask_admin(|_| Err(AdminError::NotAdmin)),
            SecretState::Rotating { until } if !at_once && until > unix => {
                return Err(format!(
                    "the secret is being replaced already, and the one before is good for {} more: wait for that, or replace both \
                     at once with `shadowmesh rotate-secret --now`",
                    span(until - unix)
                ));
            }
            SecretState::Rotating { .. } if !without.is_empty() => {
                return Err(format!(
                    "the secret was replaced just now, and {} {} not got it yet: another would cut them off; try again in a minute",
                    without.join(" and "),
                    if without.len() == 1 { "has" } else { "have" }
                ));
            }
            SecretState::Missing { .. } | SecretState::Late { .. } => {
                return Err("another admin has replaced the secret, and this host has not got that one yet: try again when it is \
                            connected with a member that has it"
                    .to_owned());
            }
            SecretState::Rotating { .. } | SecretState::Settled => {}
        }
        let (before, named) = (trust.secrets().clone(), trust.view().secret());
        let known = before.all().map(NetworkSecret::generation).chain(named.map(|named| named.generation));
        let generation =
            known.max().unwrap_or_default().checked_add(1).ok_or("there is no higher generation")?;
        let next = NetworkSecret::draw(generation, &mut SystemRng);
        let secrets = before.with_next(named, next.clone(), now);
        // On the disk before anybody hears of it; one that nobody heard of stands in nobody's way.
        self.network.set_secrets(&secrets);
        if let Err(error) = self.state.save_network(&self.network) {
            self.network.set_secrets(&before);
            return Err(format!("the new secret cannot be saved: {error}"));
        }
        let grace = if at_once { Duration::ZERO } else { GRACE };
        // Over by every clock, also one that is hours behind.
        let until = if at_once { 0 } else { unix.saturating_add(grace.as_secs()) };
        let name = SecretName { generation, network: next.derive().id(), until };
        if let Err(sentence) = self.ask_admin(|admin| admin.rotate(secrets, name)) {
            self.network.set_secrets(&before);
            self.save_network();
            return Err(sentence);
        }
        Ok(match at_once {
            true => format!(
                "replaced the network's secret (generation {generation}): who is connected gets it now, and within a minute nobody \
                 takes the one before"
            ),
            false => format!(
                "replaced the network's secret (generation {generation}): who is connected gets it now, everybody else who comes \
                 within {}",
                span(grace.as_secs())
            ),
        })
    }

    pub(super) fn change(&mut self, change: Change) -> Response {
        match self.make_change(change) {
            Ok(sentence) => Response::Changed { sentence },
            Err(sentence) => Response::error(ErrorCode::Failed, sentence),
        }
    }

    fn make_change(&mut self, change: Change) -> Result<String, String> {
        match change {
            Change::Revoke { member } => {
                let (node, name) = self.member(&member)?;
                if node == self.endpoint.id() {
                    return Err(
                        "that is this host: let another admin do it, or `shadowmesh leave`".to_owned()
                    );
                }
                let was_revoked = self.is_revoked(node);
                self.ask_admin(|admin| admin.revoke(node))?;
                if was_revoked {
                    return self.revoked_already(&member, node, &name);
                }
                Ok(format!(
                    "revoked {name} ({}): every member shuts it out as soon as it hears of it",
                    node.short()
                ))
            }
            Change::Approve { member } => self.approve(&member),
            Change::RotateSecret { now } => {
                let done = self.rotate_secret(now);
                if self.is_admin() {
                    self.wake_all();
                }
                done
            }
            Change::Rename { member, name } => {
                let (node, before) = self.member(&member)?;
                let name = Name::new(&name).ok_or(BAD_NAME)?;
                if let Some(other) = self.anothers_name(node, &name) {
                    return Err(format!("another member is called {other}"));
                }
                let facts = self.facts_of(node);
                self.ask_admin(|admin| {
                    admin.say_of(node, facts, |word| word.name = Some(name.clone()))?;
                    admin.follow_name(node, &before, &name)
                })?;
                Ok(format!("{before} is called {name} now"))
            }
            Change::Tag { member, add, remove } => {
                let (node, name) = self.member(&member)?;
                let (add, remove) = (tags(&add)?, tags(&remove)?);
                if let Some(both) = add.iter().find(|tag| remove.contains(tag)) {
                    return Err(format!("{both} cannot be given and taken at once: leave one of them out"));
                }
                let mut have = self.tags_of(node);
                have.retain(|tag| !remove.contains(tag));
                have.extend(add.iter().cloned());
                let have = Tags::new(have).ok_or(BAD_TAG)?;
                let list: Vec<String> = have.iter().map(ToString::to_string).collect();
                let facts = self.facts_of(node);
                self.ask_admin(|admin| admin.say_of(node, facts, |word| word.tags = Some(have)))?;
                let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
                Ok(format!("tags of {name}: {list}"))
            }
            Change::AddRelay { ticket } => {
                let ticket = RelayTicket::parse(&ticket, unix_now()).map_err(|error| error.to_string())?;
                let mut relays = self.relays_of_network();
                relays.retain(|relay| relay.key != ticket.key);
                if relays.len() >= MAX_ENTRIES {
                    return Err(format!("a network has at most {MAX_ENTRIES} relays: remove one first"));
                }
                let address = ticket.addresses.first().cloned().unwrap_or_default();
                relays.push(ticket);
                self.ask_admin(|admin| admin.set_relays(relays))?;
                Ok(format!(
                    "the relay {address} is the network's now: members use it as soon as they hear of it"
                ))
            }
            Change::RemoveRelay { relay } => {
                let ticket = remembered_relay(&relay).ok();
                let is_meant = |known: &RelayTicket| {
                    let is_it =
                        |address: &String| *address == relay || Address::of(address).host_port == relay;
                    known.addresses.iter().any(is_it)
                        || ticket.as_ref().is_some_and(|ticket| ticket.key == known.key)
                };
                let mut relays = self.relays_of_network();
                let before = relays.len();
                relays.retain(|known| !is_meant(known));
                if relays.len() == before {
                    return Err(format!(
                        "the network has no relay {relay:?}: `shadowmesh relays list` shows them"
                    ));
                }
                self.ask_admin(|admin| admin.set_relays(relays))?;
                Ok(format!(
                    "the relay {relay} is the network's no more: members leave it a quarter of a minute after they hear of it"
                ))
            }
            Change::AddAdmin { id, name } => {
                let admin_id = Fingerprint::from_base32(&id)
                    .ok_or("that is no admin's id: `sudo shadowmesh admins id` prints it on the host that shall be one")?;
                let name = Name::new(&name).ok_or(BAD_NAME)?;
                self.ask_admin(|admin| admin.grant(admin_id, name.clone()))?;
                Ok(format!("{name} ({}) is an admin now", admin_id.short()))
            }
            Change::RemoveAdmin { admin, stolen } => {
                let (id, name) = self.admin(&admin)?;
                let legacy = if stolen { Legacy::Dropped } else { Legacy::Kept };
                let lost = self.ask_admin(|admin| admin.remove_admin(id, legacy))?;
                let what = match (stolen, lost) {
                    (true, _) => "; what it had said counts no more",
                    (false, 0) => "; what it had said stays",
                    (false, _) => "; of what it had said there was no room for all",
                };
                Ok(format!("{name} ({}) is no admin any more{what}", id.short()))
            }
            Change::SetRules { text } => {
                let rules = rules::Rules::parse(text.as_bytes()).map_err(|faults| {
                    let first =
                        faults.first().map(|fault| format!("{}:{}: {fault}", fault.line, fault.column));
                    first.unwrap_or_default()
                })?;
                let count = match rules.len() {
                    1 => "1 access rule".to_owned(),
                    count => format!("{count} access rules"),
                };
                self.ask_admin(|admin| admin.set_rules(text))?;
                Ok(format!("the network has {count}: members that have no file of their own keep to them"))
            }
        }
    }

    /// Of a node that was revoked before. Who came back with another key may be what whoever typed its name means.
    fn revoked_already(&self, typed: &str, node: NodeId, name: &str) -> Result<String, String> {
        let short = node.short();
        let others = if typed == name { self.numbered(name) } else { Vec::new() };
        if others.is_empty() {
            return Ok(format!("{name} ({short}) was revoked already"));
        }
        let others: Vec<String> = others
            .iter()
            .map(|(id, other)| format!("{other} ({}, `sudo shadowmesh revoke {other}`)", id.short()))
            .collect();
        Err(format!(
            "{name} ({short}) was revoked already, and nobody else is: is another meant, {}?",
            others.join(" or ")
        ))
    }

    fn approve(&mut self, member: &str) -> Result<String, String> {
        let (node, name) = self.waiting(member)?;
        let peers = self.endpoint.peer_status(Instant::now());
        let peer = peers.iter().find(|peer| peer.id == node);
        // Of a certificate that no admin stands behind nothing is taken over.
        let is_waiting = |peer: &&PeerStatus| match peer.member.as_ref().map(|member| &member.verdict) {
            Some(Verdict::Refused(Reason::Refusal(refusal))) => {
                matches!(refusal, Refusal::NeedsApproval | Refusal::Late(_) | Refusal::UsedUp)
            }
            Some(Verdict::Refused(_) | Verdict::Pending | Verdict::Admitted(_)) | None => false,
        };
        let chain = peer.filter(is_waiting).and_then(|peer| self.endpoint.chain_of(peer.slot));
        let view = self.endpoint.trust().map(Trust::view);
        let facts = self.endpoint.trust().zip(chain.as_ref()).map(|(trust, (certificate, delegation))| {
            let limits = delegation.as_ref().map(Statement::body);
            let is_taken = |address| trust.is_anothers(address, node);
            trust.view().facts_at_entry(certificate.body(), limits, is_taken)
        });
        // An approval beyond the uses of an invite is the admin's own: as a use it would be one too many.
        let is_use = |delegation: &Delegation| {
            let by = view.map_or(0, |view| view.joined_by(delegation.delegate).len());
            delegation.uses.is_none_or(|uses| by < uses as usize)
        };
        let delegation = chain.as_ref().and_then(|(_, delegation)| delegation.as_ref());
        let delegate = delegation.map(|delegation| delegation.body());
        let delegate = delegate.filter(|body| is_use(body)).map(|body| body.delegate);
        self.ask_admin(|admin| admin.approve(node, facts, delegate))?;
        Ok(format!("approved {name} ({})", node.short()))
    }

    /// What is true of a node that is let in.
    fn facts_of(&self, node: NodeId) -> Option<Facts> {
        if node == self.endpoint.id() {
            return self.own_facts();
        }
        let peers = self.endpoint.peer_status(Instant::now());
        match peers.into_iter().find(|peer| peer.id == node)?.member?.verdict {
            Verdict::Admitted(admission) => Some(admission.facts),
            Verdict::Pending | Verdict::Refused(_) => None,
        }
    }

    /// The tags of a node as they are now.
    fn tags_of(&self, node: NodeId) -> Vec<Tag> {
        let word = self
            .endpoint
            .trust()
            .and_then(|trust| trust.view().word(node))
            .and_then(|word| word.tags.as_ref());
        if let Some(tags) = word {
            return tags.iter().cloned().collect();
        }
        self.facts_of(node).iter().flat_map(|facts| facts.tags.iter().cloned()).collect()
    }

    /// The addresses of a node: those that the network gives it, and those that it says it has where it is let in.
    fn addresses_of(&self, node: NodeId, peers: &[PeerStatus]) -> Vec<String> {
        let Some(trust) = self.endpoint.trust() else { return Vec::new() };
        let peer = peers.iter().find(|peer| peer.id == node);
        let facts = match peer.and_then(|peer| peer.member.as_ref()).map(|member| &member.verdict) {
            _ if node == trust.node() => self.own_facts(),
            Some(Verdict::Admitted(admission)) => Some(admission.facts.clone()),
            _ => None,
        };
        let own = self.endpoint.hello();
        let hello = if node == trust.node() { Some(own) } else { peer.and_then(|peer| peer.hello.as_ref()) };
        let said = hello.filter(|_| facts.is_some()).into_iter().flat_map(|hello| {
            let v4 = hello.ipv4.map(|cidr| IpAddr::V4(cidr.address()));
            v4.into_iter().chain(hello.ipv6.map(|cidr| IpAddr::V6(cidr.address())))
        });
        let certified = facts.iter().flat_map(|facts| facts.addresses.iter()).map(|address| address.ip());
        let recorded =
            trust.view().addresses().filter(|(_, holder)| *holder == node).map(|(address, _)| address);
        let mut all: Vec<IpAddr> = Vec::new();
        for address in recorded.chain(certified).chain(said) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        // What people type comes first.
        all.sort_by_key(IpAddr::is_ipv6);
        all.iter().map(ToString::to_string).collect()
    }

    fn relays_of_network(&self) -> Vec<RelayTicket> {
        let said = self.endpoint.trust().and_then(|trust| trust.view().relays());
        said.map_or_else(|| self.network.relays.clone(), <[_]>::to_vec)
    }

    /// Which admin `text` means.
    fn admin(&self, text: &str) -> Result<(Fingerprint, String), String> {
        let admins = self.admins();
        let start = text.to_ascii_lowercase();
        let root = self.endpoint.trust().map(|trust| trust.root().to_base32());
        let is_meant = |admin: &&AdminEntry| {
            admin.name == text
                || (text == "root" && Some(&admin.id) == root.as_ref())
                || (start.len() >= SHORT_ID_CHARS && admin.id.starts_with(&start))
        };
        let found: Vec<&AdminEntry> = admins.iter().filter(is_meant).collect();
        let [one] = found.as_slice() else {
            let ids: Vec<&str> = found.iter().map(|admin| admin.id.as_str()).collect();
            return Err(match ids.as_slice() {
                [] => format!("no admin is called {text:?}: `shadowmesh admins list` shows them"),
                ids => format!("{text:?} could mean {}: type an id", ids.join(" or ")),
            });
        };
        let id = Fingerprint::from_base32(&one.id).ok_or("that admin's id does not read")?;
        Ok((id, one.name.clone()))
    }

    pub(super) fn admins(&self) -> Vec<AdminEntry> {
        let Some(trust) = self.endpoint.trust() else { return Vec::new() };
        let here = self.authority_here();
        let entry = |(id, name): (Fingerprint, Option<&Name>)| AdminEntry {
            id: id.to_base32(),
            name: name.map_or_else(
                || if id == trust.root() { "root".to_owned() } else { id.short() },
                ToString::to_string,
            ),
            is_here: here == Some(id),
        };
        trust.view().standing().admins().map(entry).collect()
    }

    /// Who is in the network.
    pub(super) fn members_document(&self) -> Response {
        let Some(trust) = self.endpoint.trust() else {
            let sentence = "this network has no certificates, so nobody keeps a list of its members: `shadowmesh status` shows who is there";
            return Response::error(ErrorCode::Failed, sentence);
        };
        let view = trust.view();
        let peers = self.endpoint.peer_status(Instant::now());
        let since = |node: NodeId| view.members().find(|(id, _, _)| *id == node).map(|(_, _, since)| since);
        let shut_out = trust.own_revocation();
        let heard = self.heard(&peers);
        let (own_state, now) = (self.own_state(trust, &peers), unix_now());
        let entry = |(node, name): (NodeId, String)| {
            let peer = peers.iter().find(|peer| peer.id == node);
            let verdict = peer.and_then(|peer| Some((peer.slot, &peer.member.as_ref()?.verdict)));
            let is_here = node == trust.node();
            // Also between the sessions of somebody who is refused.
            let barred = peer.and_then(|peer| self.barred(peer)).filter(|barred| barred.by_us);
            let own = trust.own().map(|own| own.certificate.body().not_after).filter(|_| is_here);
            let (standing, why, until) = match verdict {
                _ if view.revocation(node).is_some() => ("revoked", None, None),
                Some((_, Verdict::Admitted(admission))) => ("member", None, Some(admission.until)),
                Some((_, Verdict::Pending)) => ("pending", None, None),
                Some((slot, Verdict::Refused(reason))) => {
                    ("refused", Some(self.why_refused(slot, reason)), None)
                }
                None if is_here && shut_out.is_some() => {
                    ("refused", shut_out.map(|shut_out| self.why_shut_out(shut_out)), own)
                }
                None if own.is_some_and(|until| until < now) => {
                    ("refused", Some(self.why_expired().to_owned()), own)
                }
                None if own.is_some() => match heard {
                    Heard::Well => ("member", None, own),
                    Heard::Waiting => ("refused", Some(HERE_WAITS.to_owned()), own),
                    Heard::Refused(standing) => ("refused", Some(refusal_in_words(standing).to_owned()), own),
                },
                None if is_here => ("pending", self.why_outside(), None),
                None => match &barred {
                    Some(barred) => ("refused", Some(barred.why.clone()), None),
                    None => ("unseen", None, None),
                },
            };
            let state = match &barred {
                _ if is_here => shown_as(own_state, shut_out),
                Some(barred) => &barred.state,
                None => standing,
            };
            Member {
                state: state.to_owned(),
                id: node.to_base32(),
                name,
                tags: self.tags_of(node).iter().map(ToString::to_string).collect(),
                addresses: self.addresses_of(node, &peers),
                standing: standing.to_owned(),
                why,
                until,
                since: since(node),
                is_here,
                is_connected: peers.iter().any(|peer| peer.id == node && peer.state == PeerState::Connected),
                has_new_secret: self.has_new_secret(node),
            }
        };
        let is_worth_a_line = |(node, _): &(NodeId, String)| {
            let has_session = peers.iter().any(|peer| peer.id == *node && peer.member.is_some());
            let waits = || peers.iter().any(|peer| peer.id == *node && self.waits_here(peer));
            *node == trust.node()
                || view.knows(*node)
                || view.revocation(*node).is_some()
                || has_session
                || waits()
        };
        Response::Members(Box::new(Members {
            root: trust.root().to_base32(),
            is_admin: self.admins().iter().any(|admin| admin.is_here),
            secret: self.secret_document(),
            now,
            members: self.roster().into_iter().filter(is_worth_a_line).map(entry).collect(),
            admins: self.admins(),
            relays: self
                .relays_of_network()
                .iter()
                .filter_map(|relay| relay.addresses.first().cloned())
                .collect(),
            rules: view.rules().map(ToOwned::to_owned),
            revoked: view
                .revocations()
                .map(|(key, revocation)| Revoked {
                    id: key.to_base32(),
                    by: revocation.by.to_base32(),
                    at: revocation.at,
                })
                .collect(),
        }))
    }
}

/// A number of seconds, for people.
fn span(seconds: u64) -> String {
    match seconds {
        0..3_600 => "less than an hour".to_owned(),
        3_600..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
