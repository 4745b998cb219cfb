//! Members, on the side of the loop: what is learnt of them is stored and followed, and an admin's node does its part.
//!
//! # Invariants
//!
//! - What this node shows, knows, and says as an admin is on the disk before the messages that tell of it leave
//!   ([`EventLoop::keep_members`] runs between events and transmits).
//! - An admin's node that cannot do its part (its document is full, its record is old) says so once, and goes on. It does it once for
//!   whatever it hears, and not for what it said itself: no word of its own, or of another admin, keeps it from everything else.

mod joining;

use super::EventLoop;
use super::rules::RECORD;
use super::standing::{self, Heard, Stood};
use super::told::Told;
use crate::config::relays_in_use;
use crate::control::message::{ErrorCode, Response};
use crate::control::status::{self as doc, RulesInForce};
use crate::daemon::clock::{self, unix_now};
use crate::daemon::members::admin::{Admin, AdminError};
use crate::daemon::members::{self, Members};
use crate::daemon::report::{ANOTHER_INVITE, refusal_in_words};
use crate::daemon::state_dir::{Joins, MemberState};
use crate::plane::Vouched;
use crate::system_rng::SystemRng;
use joining::Joining;
use shadowmesh_proto::crypto::keys::NetworkSecret;
use shadowmesh_proto::endpoint::demand::{Keep, Sessions};
use shadowmesh_proto::endpoint::status::PeerStatus;
use shadowmesh_proto::ids::{Fingerprint, NodeId, PeerSlot};
use shadowmesh_proto::membership::{
    ADMITTED, Address, Admission, Authority, Certificate, Delegation, Enrolment, Event, Facts, JoinError,
    Name, Reason, Refusal, Seconds, SecretState, ShutOut, Statement, Trust, Verdict,
};
use shadowmesh_proto::rules::{self, Subject};
use shadowmesh_proto::wire::control::Cidr4;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How often certificates are looked at.
const LOOK: Duration = Duration::from_secs(3_600);
/// So long before the end of something people are told.
const WARN_BEFORE: Seconds = 30 * 86_400;
/// A node that sees nobody for so long is told what that may mean: members that start come within seconds.
const ALONE_FOR: Duration = Duration::from_secs(60);

/// Who comes by an invite for any number is taken up with all that come within this time after the last: what an admin says goes to
/// every member, and each tells each other of it.
const TOGETHER: Duration = Duration::from_secs(2);
/// Whom it met is stored so soon: who is killed before that judges those few as if it met them anew.
const MET_WITHIN: Duration = Duration::from_secs(1);

/// Who came by an invite, and what it showed.
#[derive(Debug)]
struct Newcomer {
    slot: PeerSlot,
    certificate: Statement<Certificate>,
    delegation: Statement<Delegation>,
}

/// What the loop keeps of membership beside what the endpoint has.
#[derive(Debug, Default)]
pub(super) struct Kept {
    authority: Option<Authority>,
    joins: Option<Joins>,
    /// The state of [`Trust`] that was stored and followed.
    followed: Option<u64>,
    /// Something to store that [`Trust::changes`] does not count.
    is_dirty: bool,
    /// Since when somebody was met of whom the file says nothing.
    met: Option<Instant>,
    /// The network's secrets could not be saved.
    is_unsaved: bool,
    /// When certificates are looked at next.
    look: Option<Instant>,
    /// As an admin: those that are to be taken up, and when that was done last.
    newcomers: BTreeMap<NodeId, Newcomer>,
    took_up: Option<Instant>,
    /// What was said of each peer, not to say it twice.
    told: BTreeMap<PeerSlot, String>,
    /// How each peer and this node stood to each other last.
    pub(super) stood: BTreeMap<PeerSlot, Stood>,
    /// What was said of this node, and of what cannot be done here.
    told_here: Told,
    /// What was said of the network's secret.
    told_secret: Option<SecretState>,
    /// Since when this node is at a relay and sees nobody there.
    alone: Option<Instant>,
    /// What the network gives this node, as it was followed last, and whether the record does.
    pub(super) given: Option<(Option<Cidr4>, bool)>,
    /// Why that was not taken.
    pub(super) given_clash: Option<String>,
    joining: Joining,
    /// What this node was said to be called last, where the network calls it anything.
    named: Option<Name>,
    joining_failed: Option<String>,
}

impl Kept {
    pub(super) fn forget(&mut self, slot: PeerSlot) {
        self.told.remove(&slot);
        self.stood.remove(&slot);
    }

    /// When those that wait for it are to be taken up.
    pub(super) fn take_up_at(&self, now: Instant) -> Option<Instant> {
        (!self.newcomers.is_empty()).then(|| self.took_up.map_or(now, |at| at + TOGETHER))
    }

    /// Whether this node, which is at a relay, sees somebody there.
    pub(super) fn sees(&mut self, is_somebody: bool) {
        self.alone = if is_somebody { None } else { self.alone.or_else(|| Some(Instant::now())) };
    }

    /// When the file has to say whom this node met: where a hundred are met within seconds it is written for all of them, not for each.
    pub(super) fn store_met_at(&self) -> Option<Instant> {
        self.met.map(|since| since + MET_WITHIN)
    }

    /// What is not stored yet is, with the next look at what there is to store.
    pub(super) fn store_met(&mut self) {
        self.is_dirty |= self.met.take().is_some();
    }

    /// When it is worth saying that this node still joins.
    pub(super) const fn joins_late_at(&self) -> Option<Instant> {
        self.joining.told_at()
    }

    pub(super) const fn look_at(&self) -> Option<Instant> {
        self.look
    }

    #[cfg(test)]
    pub(super) fn look_in(&mut self, wait: Duration) {
        self.look = Some(Instant::now() + wait);
    }
}

impl EventLoop {
    /// In a network with certificates frames flow between members alone, from the start.
    pub(super) fn begin_members(&mut self, members: Members) {
        let Members { mut trust, authority, joins } = members;
        let now = Instant::now();
        trust.hold(self.network.secrets());
        trust.wish_address(self.settings.address.and_then(|by_hand| Address::new(by_hand.address().into())));
        self.endpoint.set_trust(now, unix_now(), trust);
        self.routes.certify();
        let is_good =
            |trust: &Trust| trust.own().is_some_and(|own| own.certificate.body().not_after >= unix_now());
        let is_joining = joins.is_some() && !self.endpoint.trust().is_some_and(is_good);
        let joining = if is_joining { Joining::begin(now) } else { Joining::No };
        self.members = Kept { authority, joins, joining, look: Some(now), ..Kept::default() };
        self.members.named = self.own_facts().map(|facts| facts.name);
        self.follow_secrets();
    }

    /// The clock on the wall may have been set, or stood still for this process.
    pub(super) fn tell_time(&mut self) {
        clock::look(&self.state);
        self.endpoint.set_time_of_day(Instant::now(), unix_now());
    }

    /// What an admin's node does of itself; `None` where this is none.
    fn as_admin<T>(
        &mut self,
        act: impl FnOnce(&mut Admin<'_>) -> Result<T, AdminError>,
    ) -> Option<Result<T, AdminError>> {
        let authority = self.members.authority.as_ref()?;
        let here = authority.fingerprint();
        self.endpoint.trust().filter(|trust| trust.view().standing().is_admin(here))?;
        let act = |trust: &mut Trust| act(&mut Admin::new(trust, authority, unix_now()));
        self.endpoint.with_trust(Instant::now(), act)
    }

    /// The same as people ask for it.
    pub(super) fn ask_admin<T>(
        &mut self,
        act: impl FnOnce(&mut Admin<'_>) -> Result<T, AdminError>,
    ) -> Result<T, String> {
        if self.endpoint.trust().is_none() {
            return Err("this network has no certificates: whoever knows its secret is a member".to_owned());
        }
        // Whoever asks sees them as members already.
        if !self.members.newcomers.is_empty() {
            self.take_up_all(Instant::now());
        }
        let Some(authority) = &self.members.authority else {
            let names: Vec<String> = self.admins().into_iter().map(|admin| admin.name).collect();
            return Err(format!(
                "this host is no admin of the network: ask for it where one is ({}), or see `shadowmesh admins --help`",
                names.join(", ")
            ));
        };
        // Whether it has a say is decided by what it says: who was removed may object.
        let act = |trust: &mut Trust| act(&mut Admin::new(trust, authority, unix_now()));
        let done = self.endpoint.with_trust(Instant::now(), act);
        done.unwrap_or(Err(AdminError::NotAdmin)).map_err(|error| error.to_string())
    }

    /// Says it, unless it has been true all the time since that was said.
    pub(super) fn complain(&mut self, sentence: String) {
        // What lasts comes here each time that certificates are looked at, which may be late.
        if self.members.told_here.is_news(&sentence, Instant::now(), 2 * LOOK) {
            self.notice(sentence);
        }
    }

    fn try_admin<T>(&mut self, act: impl FnOnce(&mut Admin<'_>) -> Result<T, AdminError>) -> Option<T> {
        let done = self.as_admin(act)?;
        self.done_as_admin(done)
    }

    fn done_as_admin<T>(&mut self, done: Result<T, AdminError>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(error) => {
                self.complain(format!("as an admin this host could not do its part: {error}"));
                None
            }
        }
    }

    /// Stores and follows what changed; whether there was anything, and so perhaps something to send.
    pub(super) fn keep_members(&mut self) -> bool {
        let Some(trust) = self.endpoint.trust() else { return false };
        let changes = trust.changes();
        let is_news = self.members.followed != Some(changes);
        if !is_news && !std::mem::take(&mut self.members.is_dirty) {
            return false;
        }
        if is_news {
            self.do_my_part();
        }
        let Some(trust) = self.endpoint.trust() else { return false };
        // The secret first: a record that names one without the other would leave a node that cannot be spoken to, the other way
        // round one that holds what nobody named, which stands in nobody's way.
        let secrets = trust.secrets().clone();
        if self.network.set_secrets(&secrets) || self.members.is_unsaved {
            let saved = self.state.save_network(&self.network);
            // Tried again with whatever is stored next, and each time that certificates are looked at.
            self.members.is_unsaved = saved.is_err();
            if let Err(error) = saved {
                self.complain(format!("the network's secret could not be saved: {error}"));
            }
        }
        let Some(trust) = self.endpoint.trust() else { return false };
        // With what was just done, which is no news.
        self.members.followed = Some(trust.changes());
        self.members.is_dirty = false;
        self.members.met = None;
        let stored = members::stored(trust, self.members.joins.as_ref());
        if let Err(error) = self.state.save_members(&stored) {
            self.complain(format!("what is known of members could not be saved: {error}"));
        }
        if is_news {
            self.follow_secrets();
            self.follow_record();
            self.say_rotation();
        }
        true
    }

    /// Says that the network's secret is being replaced, once.
    fn say_rotation(&mut self) {
        let Some(trust) = self.endpoint.trust() else { return };
        let state = trust.secret_state(unix_now());
        let generation = trust.view().secret().map_or(0, |secret| secret.generation);
        if self.members.told_secret.replace(state) != Some(state)
            && let SecretState::Rotating { .. } = state
        {
            self.news(format!(
                "the network's secret was replaced (generation {generation}), and this host has the new one"
            ));
        }
    }

    /// An admin's node keeps its own certificate, and shuts out those who used an invite too often.
    pub(super) fn do_my_part(&mut self) {
        if let Some(authority) = &self.members.authority {
            let key = authority.public().clone();
            // Only what the record asks for is kept.
            self.endpoint.with_trust(Instant::now(), |trust| trust.keep_key(key));
        }
        let name = Name::new(self.settings.name.as_str());
        self.try_admin(|admin| name.map_or(Ok(false), |name| admin.certify_here(name)));
        self.try_admin(|admin| admin.enter_here());
        self.try_admin(|admin| admin.name_here());
        let by_hand = self.settings.address.and_then(|by_hand| Address::new(by_hand.address().into()));
        if let Some(by_hand) = by_hand {
            self.try_admin(|admin| admin.give_here(by_hand));
        }
        self.try_admin(|admin| admin.settle_addresses());
        let later = self.try_admin(|admin| admin.shut_out_too_many()).unwrap_or_default();
        for node in later {
            let name = self.name_of(node);
            self.notice(format!("revoked {name}: two admins let it in by an invite that others had used up"));
        }
    }

    /// The record's rules and relays, and what it calls everybody.
    fn follow_record(&mut self) {
        let now = Instant::now();
        let Some(trust) = self.endpoint.trust() else { return };
        let (relays, rules) =
            (trust.view().relays().map(<[_]>::to_vec), trust.view().rules().map(ToOwned::to_owned));
        let given = trust.view().addresses().collect();
        // Those that nobody is connected with hear nothing of it.
        let known = self.endpoint.peer_status(now).into_iter();
        let gone: Vec<PeerSlot> =
            known.filter(|peer| trust.view().revocation(peer.id).is_some()).map(|peer| peer.slot).collect();
        for slot in gone {
            self.routes.vouch(now, slot, None);
        }
        self.say_renamed();
        let facts = self.own_facts();
        self.routes.set_given(given, facts.as_ref().map(addresses_of).unwrap_or_default());
        if let Some(facts) = facts {
            self.routes.vouch_here(now, subject(self.endpoint.id(), &facts));
        }
        if let Some(relays) = relays.filter(|relays| *relays != self.network.relays) {
            self.network.relays = relays;
            self.save_network();
            let (relays, left_out) = relays_in_use(&self.network.relays, &self.settings.relays);
            let names: Vec<_> = relays.iter().filter_map(|relay| relay.addresses.first()).cloned().collect();
            let rest = if left_out > 0 { format!(", and not {left_out} more") } else { String::new() };
            self.news(format!(
                "the relays of the network changed: this host uses {}{rest}",
                names.join(", ")
            ));
            self.use_relays(relays);
        }
        self.follow_rules(rules.as_deref());
        self.follow_sessions();
    }

    /// An admin's node renews what others show, and has to know whom it told of a new secret: where nobody said otherwise it keeps a session
    /// with each.
    pub(super) fn follow_sessions(&mut self) {
        let sessions = self.settings.sessions();
        let keep = match sessions.keep {
            Keep::Auto if self.is_admin() => Keep::All,
            chosen @ (Keep::Auto | Keep::All | Keep::Few) => chosen,
        };
        self.endpoint.set_sessions(Instant::now(), Sessions { keep, ..sessions });
    }

    /// The rules of the record count where no file does.
    fn follow_rules(&mut self, text: Option<&str>) {
        if self.rules.as_ref().is_some_and(|rules| rules.file != RECORD) {
            return;
        }
        let here = self.endpoint.id();
        let Some(text) = text else {
            if self.rules.take().is_some() {
                self.routes.set_rules(Instant::now(), here, rules::Rules::default());
            }
            return;
        };
        match rules::Rules::parse(text.as_bytes()) {
            Ok(rules) => {
                let count = rules.len();
                self.routes.set_rules(Instant::now(), here, rules);
                let in_force = RulesInForce { file: RECORD.to_owned(), count, error: None };
                if self.rules.as_ref() != Some(&in_force) {
                    super::rules::say(&self.progress, Some(&in_force));
                }
                self.rules = Some(in_force);
            }
            Err(faults) => {
                // Signed by a later version, which knows more. Nothing is opened by it: those from before stay, and without any
                // nothing is let in.
                let error =
                    faults.first().map_or_else(String::new, |fault| format!("line {}: {fault}", fault.line));
                if self.rules.is_none() {
                    self.routes.set_rules(Instant::now(), here, deny_all());
                    self.rules = Some(RulesInForce { file: RECORD.to_owned(), count: 1, error: None });
                }
                if let Some(rules) = &mut self.rules {
                    rules.error = Some(error.clone());
                }
                self.complain(format!(
                    "the rules of the network's record cannot be read here ({error}): is an upgrade due?"
                ));
            }
        }
    }

    /// The rules of the record, whose file is not there any more.
    pub(super) fn fall_back_to_record(&mut self) {
        let text = self.endpoint.trust().and_then(|trust| trust.view().rules()).map(ToOwned::to_owned);
        self.follow_rules(text.as_deref());
    }

    /// Something of a session about membership.
    pub(super) fn on_membership(&mut self, slot: PeerSlot, event: Event) {
        match &event {
            Event::Judged(verdict) => self.members.stood.entry(slot).or_default().on_judged(verdict),
            Event::Standing(standing) => self.members.stood.entry(slot).or_default().on_standing(*standing),
            Event::Joined | Event::JoinFailed(_) | Event::Renewed(_) | Event::Gate(_) => {}
        }
        match event {
            Event::Judged(verdict) => self.on_judged(slot, verdict),
            Event::Standing(standing) if standing > ADMITTED => {
                let why = refusal_in_words(standing);
                self.tell(slot, |name| format!("{name} does not let this node in: {why}"));
            }
            Event::Joined => {
                self.members.joins = None;
                self.members.joining.end();
                self.members.joining_failed = None;
                self.members.is_dirty = true;
                self.say_joined();
            }
            Event::JoinFailed(error) => {
                self.members.joining.end();
                let mut sentence = format!("this host could not join: {}", standing::not_joined(&error));
                if matches!(error, JoinError::Ended(_)) {
                    // By this host's clock; what it joins by is kept for when that is right.
                    sentence.push_str("; if this host's clock is wrong, set it");
                } else {
                    self.members.joins = None;
                    self.members.is_dirty = true;
                }
                if self.members.joining_failed.as_ref() != Some(&sentence) {
                    self.members.joining_failed = Some(sentence.clone());
                    self.notice(sentence);
                }
            }
            Event::Renewed(certificate) => {
                self.members.is_dirty = true;
                tracing::info!(
                    until = certificate.body().not_after,
                    "an admin renewed this node's certificate"
                );
            }
            Event::Gate(gate) => tracing::debug!(slot = slot.0, ?gate, "what may pass"),
            Event::Standing(_) => {}
        }
    }

    fn on_judged(&mut self, slot: PeerSlot, verdict: Verdict) {
        match verdict {
            Verdict::Admitted(admission) => {
                // Whom it met is part of what is stored.
                if admission.joined_by.is_some() {
                    self.members.met.get_or_insert_with(Instant::now);
                }
                self.members.told.remove(&slot);
                self.on_admitted(slot, &admission);
            }
            Verdict::Refused(reason) => {
                if let Some(id) = self.id_of(slot) {
                    self.members.newcomers.remove(&id);
                }
                self.routes.vouch(Instant::now(), slot, None);
                self.on_refused(slot, &reason);
                let is_waiting = matches!(reason, Reason::Refusal(Refusal::NeedsApproval));
                // By its id: names are anybody's.
                let id = self.id_of(slot).map_or_else(String::new, |id| id.short());
                let why = self.why_refused(slot, &reason);
                self.tell(slot, |name| match is_waiting {
                    true => format!(
                        "{name} waits to be let in: `sudo shadowmesh approve {id}` on an admin's host"
                    ),
                    false => format!("{name} is not let in: {why}"),
                });
            }
            Verdict::Pending => {}
        }
    }

    /// As an admin: what is to be done about who was refused.
    fn on_refused(&mut self, slot: PeerSlot, reason: &Reason) {
        let Some((certificate, delegation)) = self.endpoint.chain_of(slot) else { return };
        match reason {
            // An invite that was used up by others is of no use to anybody any more.
            Reason::Refusal(Refusal::UsedUp) => {
                if let Some(delegation) = delegation {
                    self.enrol(slot, &certificate, &delegation);
                }
            }
            // Of a clock that was ahead, when an admin's made it or its own: its time may be years away.
            Reason::Refusal(Refusal::NotYet(_)) => {
                let shown = certificate.body().clone();
                self.try_admin(|admin| admin.mend(&shown));
            }
            Reason::Refusal(_) | Reason::Statement(_) => {}
        }
    }

    fn enrol(
        &mut self,
        slot: PeerSlot,
        certificate: &Statement<Certificate>,
        delegation: &Statement<Delegation>,
    ) {
        let enrolment = self.try_admin(|admin| admin.enrol(certificate, delegation));
        self.say_enrolled(slot, certificate, enrolment);
    }

    /// Takes up who waits for that, if the last time is long enough ago.
    pub(super) fn take_up_newcomers(&mut self, now: Instant) {
        if self.members.take_up_at(now).is_some_and(|at| at <= now) {
            self.take_up_all(now);
        }
    }

    /// Takes up who waits for that, although it may have left since; others hear of all of them at once.
    fn take_up_all(&mut self, now: Instant) {
        self.members.took_up = Some(now);
        let came = std::mem::take(&mut self.members.newcomers);
        let enrol = |admin: &mut Admin<'_>| {
            Ok(came.values().map(|came| admin.enrol(&came.certificate, &came.delegation)).collect())
        };
        let enrolments: Vec<_> = self.try_admin(enrol).unwrap_or_default();
        for (came, enrolment) in came.values().zip(enrolments) {
            let enrolment = self.done_as_admin(enrolment);
            self.say_enrolled(came.slot, &came.certificate, enrolment);
        }
    }

    fn say_enrolled(
        &mut self,
        slot: PeerSlot,
        certificate: &Statement<Certificate>,
        enrolment: Option<Enrolment>,
    ) {
        let node = certificate.body().node;
        match enrolment {
            Some(Enrolment::UsedUp { by, .. }) => {
                let by: Vec<String> = by.into_iter().map(|node| self.name_of(node)).collect();
                let sentence = format!(
                    "revoked the invite by which {} came ({}): it was used up by {}",
                    certificate.body().name,
                    node.short(),
                    by.join(" and ")
                );
                self.complain(sentence);
            }
            Some(Enrolment::Enter(_)) => {
                self.news(format!("{} joined the network", self.name_of(node)));
            }
            Some(Enrolment::Known) | None => {}
        }
        self.members.told.remove(&slot);
    }

    fn on_admitted(&mut self, slot: PeerSlot, admission: &Admission) {
        let Some(id) = self.id_of(slot) else { return };
        let facts = &admission.facts;
        let vouched = Vouched { subject: subject(id, facts), addresses: addresses_of(facts) };
        self.routes.vouch(Instant::now(), slot, Some(vouched));
        let Some((certificate, delegation)) = self.endpoint.chain_of(slot) else { return };
        if admission.joined_by.is_some()
            && let Some(delegation) = delegation
        {
            // How often one may be used is kept at once.
            if delegation.body().uses.is_some() {
                self.enrol(slot, &certificate, &delegation);
            } else if self.is_admin() {
                let certificate = certificate.clone();
                self.members.newcomers.insert(id, Newcomer { slot, certificate, delegation });
                self.take_up_newcomers(Instant::now());
            }
        }
        self.renew(certificate.body(), admission);
    }

    /// As an admin: a certificate in its second half is replaced.
    fn renew(&mut self, shown: &Certificate, admission: &Admission) {
        let facts = admission.facts.clone();
        self.try_admin(|admin| if admin.is_due(shown) { admin.renew(shown, facts) } else { Ok(()) });
    }

    /// Looks at everybody's certificates, this node's among them.
    pub(super) fn look_at_certificates(&mut self, now: Instant) {
        if self.members.look.is_none_or(|at| at > now) {
            return;
        }
        self.members.look = Some(now + LOOK);
        self.tell_time();
        self.members.followed = None;
        for peer in self.endpoint.peer_status(now) {
            if let (Some(Verdict::Admitted(admission)), Some((certificate, _))) =
                (peer.member.map(|member| member.verdict), self.endpoint.chain_of(peer.slot))
            {
                self.renew(certificate.body(), &admission);
            }
        }
        for warning in self.warnings() {
            self.complain(warning);
        }
    }

    /// Says something of a peer, unless that was said last.
    fn tell(&mut self, slot: PeerSlot, sentence: impl FnOnce(&str) -> String) {
        let name = self.id_of(slot).map_or_else(|| "a peer".to_owned(), |id| self.name_and_id(id));
        let sentence = sentence(&name);
        if self.members.told.get(&slot) != Some(&sentence) {
            self.members.told.insert(slot, sentence.clone());
            self.notice(sentence);
        }
    }

    fn id_of(&self, slot: PeerSlot) -> Option<NodeId> {
        self.endpoint.id_of(slot)
    }

    /// What the network vouches for of this node.
    pub(super) fn own_facts(&self) -> Option<Facts> {
        self.endpoint.trust()?.own_facts()
    }

    /// The id that this host has as an admin, made when there is none; another one with `anew`.
    pub(super) fn admin_id(&mut self, anew: bool) -> Result<Fingerprint, String> {
        if self.endpoint.trust().is_none() {
            return Err("this network has no certificates, and so no admins".to_owned());
        }
        if let Some(known) = self.authority_here().filter(|_| !anew) {
            return Ok(known);
        }
        if self.is_admin() {
            return Err("this host's key is an admin's: have it removed first (`shadowmesh admins remove`)"
                .to_owned());
        }
        // The key before may be the root's, which can object: it is not to be lost by a word.
        self.state.put_authority_aside().map_err(|error| error.to_string())?;
        let authority = Authority::generate(&mut SystemRng);
        self.state.save_authority(&authority).map_err(|error| error.to_string())?;
        let id = authority.fingerprint();
        self.members.authority = Some(authority);
        Ok(id)
    }

    /// A copy of the network as this daemon holds it now, stored or not.
    pub(super) fn copy(&self) -> Response {
        let mut network = self.network.clone();
        let members = self.endpoint.trust().map_or_else(MemberState::default, |trust| {
            network.set_secrets(trust.secrets());
            members::stored(trust, None)
        });
        match self.state.export_as(&network, members) {
            Ok(text) => Response::Copy { text },
            Err(error) => Response::error(ErrorCode::Failed, error.to_string()),
        }
    }

    /// The authority of this host.
    pub(super) fn authority_here(&self) -> Option<Fingerprint> {
        self.members.authority.as_ref().map(Authority::fingerprint)
    }

    pub(super) fn is_admin(&self) -> bool {
        let standing = self.endpoint.trust().map(|trust| trust.view().standing());
        standing.zip(self.authority_here()).is_some_and(|(standing, here)| standing.is_admin(here))
    }

    /// How this node stands in the network, in one word.
    pub(super) fn own_state(&self, trust: &Trust, peers: &[PeerStatus]) -> &'static str {
        match trust.own().map(|own| own.certificate.body().not_after) {
            _ if trust.own_revocation().is_some() => "revoked",
            Some(until) if until < unix_now() => "expired",
            Some(_) => match self.heard(peers) {
                Heard::Well => "member",
                Heard::Waiting => "waiting",
                Heard::Refused(_) => "refused",
            },
            None if self.members.joins.is_some() => "joining",
            None => "none",
        }
    }

    /// Why this node is not in the network yet, where it has no certificate and that is worth a word.
    pub(super) fn why_outside(&self) -> Option<String> {
        match &self.members.joining_failed {
            Some(failed) => Some(failed.clone()),
            None if self.members.joins.is_none() => {
                Some(format!("this host has no certificate: {ANOTHER_INVITE}"))
            }
            None => self.members.joining.why().map(ToOwned::to_owned),
        }
    }

    /// This node as a member, for `status`.
    pub(super) fn membership(&self) -> Option<doc::Membership> {
        let trust = self.endpoint.trust()?;
        let own = trust.own().map(|own| own.certificate.body());
        let facts = self.own_facts();
        let shut_out = trust.own_revocation();
        Some(doc::Membership {
            state: self.own_state(trust, &self.endpoint.peer_status(Instant::now())).to_owned(),
            name: facts
                .as_ref()
                .map_or_else(|| self.settings.name.to_string(), |facts| facts.name.to_string()),
            tags: facts.iter().flat_map(|facts| facts.tags.iter()).map(ToString::to_string).collect(),
            given: facts.iter().flat_map(|facts| facts.addresses.iter()).map(ToString::to_string).collect(),
            until: own.map(|own| own.not_after),
            is_admin: self.is_admin(),
            shut_out: shut_out.map(|shut_out| {
                let by = match shut_out {
                    ShutOut::Key(_) => "key",
                    ShutOut::Invite { is_used_up: true, .. } => "invite-used-up",
                    ShutOut::Invite { is_used_up: false, .. } => "invite-revoked",
                };
                by.to_owned()
            }),
            warnings: self.warnings(),
            secret: self.secret_document(),
        })
    }

    /// Where the network's secret stands.
    pub(super) fn secret_document(&self) -> doc::Secret {
        let Some(trust) = self.endpoint.trust() else { return doc::Secret::default() };
        let (state, until) = match trust.secret_state(unix_now()) {
            SecretState::Settled => ("settled", None),
            SecretState::Rotating { until } => ("rotating", Some(until)),
            SecretState::Missing { until } => ("missing", Some(until)),
            SecretState::Late { since } => ("late", Some(since)),
        };
        let held = trust.secrets().in_force(trust.view().secret()).map(NetworkSecret::generation);
        doc::Secret { generation: held.unwrap_or_default(), state: state.to_owned(), until }
    }

    /// Whether a member holds the secret that the record names, where it says so.
    pub(super) fn has_new_secret(&self, node: NodeId) -> Option<bool> {
        self.endpoint.trust()?.has_new_secret(node)
    }

    /// That the secret was replaced and is not here, or may have been.
    fn secret_warning(&self, trust: &Trust) -> Option<String> {
        let remedy =
            "`shadowmesh invite` on an admin's host makes one, `sudo shadowmesh up smi1...` here takes it";
        match trust.secret_state(unix_now()) {
            SecretState::Missing { .. } => {
                return Some("the network's secret was replaced, and this host has not got the new one yet: it does as soon as it \
                             is connected with a member that has it".to_owned());
            }
            SecretState::Late { .. } => {
                return Some(format!(
                    "the network's secret was replaced, and this host has not got the new one in time: where no member is \
                     connected, it needs another invite ({remedy})"
                ));
            }
            SecretState::Settled | SecretState::Rotating { .. } => {}
        }
        let here = trust.node();
        let is_expected =
            self.members.joins.is_some() || trust.view().members().any(|(node, ..)| node != here);
        let is_alone = self.members.alone.is_some_and(|since| since.elapsed() >= ALONE_FOR);
        (is_alone && is_expected).then(|| {
            format!(
                "no other member is at the relay: should the network's secret have been replaced while this host was away, or \
                 since its invite was made, it needs another invite ({remedy})"
            )
        })
    }

    /// What a person should do something about.
    fn warnings(&self) -> Vec<String> {
        let Some(trust) = self.endpoint.trust() else { return Vec::new() };
        let now = unix_now();
        let own = trust.own().map(|own| own.certificate.body().not_after);
        let shut_out = trust.own_revocation();
        let mut warnings = Vec::new();
        match own {
            None if shut_out.is_none() => warnings.extend(self.why_outside()),
            _ => warnings.extend(self.members.joining_failed.iter().cloned()),
        }
        // Who is shut out gets no secret, and needs more than an invite for that.
        warnings.extend(self.secret_warning(trust).filter(|_| shut_out.is_none()));
        warnings.extend(self.address_warning());
        if let Some(own) =
            self.rules.as_ref().filter(|rules| rules.file != RECORD && trust.view().rules().is_some())
        {
            warnings.push(format!(
                "this host keeps to the rules in {}, not to those of the network's record",
                own.file
            ));
        }
        let peers = self.endpoint.peer_status(Instant::now());
        warnings.extend(shut_out.map(|shut_out| self.why_shut_out(shut_out)));
        // What those that let nobody of an expired certificate in say adds nothing.
        if shut_out.is_none() && own.is_some_and(|until| until >= now) {
            match self.heard(&peers) {
                Heard::Well => {}
                Heard::Waiting => warnings.push(format!(
                    "this host waits to be let in: `sudo shadowmesh approve {}` on an admin's host",
                    trust.node().short()
                )),
                Heard::Refused(standing) => {
                    warnings.push(format!("no member lets this host in: {}", refusal_in_words(standing)));
                }
            }
        }
        match own {
            _ if shut_out.is_some() => {}
            Some(until) if until < now => warnings.push(self.why_expired().to_owned()),
            Some(until) => warnings.extend(ends("this host's certificate", until, now)),
            None => {}
        }
        for peer in peers {
            if let Some(Verdict::Admitted(admission)) = peer.member.map(|member| member.verdict) {
                let what = format!("the certificate of {}", admission.facts.name);
                warnings.extend(ends(&what, admission.until, now));
            }
        }
        warnings
    }
}

fn subject(id: NodeId, facts: &Facts) -> Subject {
    let tags = facts.tags.iter().map(ToString::to_string).collect();
    Subject { id, name: facts.name.to_string(), tags }
}

fn addresses_of(facts: &Facts) -> Vec<IpAddr> {
    facts.addresses.iter().map(|address| address.ip()).collect()
}

fn deny_all() -> rules::Rules {
    rules::Rules::parse(b"deny any -> any\n").unwrap_or_default()
}

/// That a certificate ends soon, or has ended. Who shows one that has is not let in by anybody, and so not renewed.
fn ends(what: &str, until: Seconds, now: Seconds) -> Option<String> {
    if until < now {
        return Some(format!("{what} has expired: {ANOTHER_INVITE}"));
    }
    let left = until - now;
    let remedy = "an admin's host renews it while both are connected";
    (left < WARN_BEFORE).then(|| match left / 86_400 {
        0 => format!("{what} expires in {} hours: {remedy}", left / 3_600),
        days => format!("{what} expires in {days} days: {remedy}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_told_thirty_days_before() {
        let (day, renews) = (86_400, "an admin's host renews it while both are connected");
        let said = |now| ends("it", 100 * day, now);
        assert_eq!(said(69 * day), None);
        assert_eq!(said(71 * day), Some(format!("it expires in 29 days: {renews}")));
        assert_eq!(said(100 * day - 7_200), Some(format!("it expires in 2 hours: {renews}")));
        assert_eq!(said(101 * day), Some(format!("it has expired: {ANOTHER_INVITE}")), "nobody renews that");
    }
}
