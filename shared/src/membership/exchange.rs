//! One session's talk about membership: what to say, what to ask for, and whether frames may flow (protocol §8.4).
//!
//! # Life
//!
//! It begins with the session and ends with it; of what it learned only what concerns everybody outlives it, in [`Trust`]. Each side says
//! MEMBER, and again whenever anything in it changes. From the other's it follows what is missing here, and that is asked for, one blob
//! at a time: first documents that are newer than this node's (who is revoked should be known before anybody is admitted), then
//! what the other's certificate stands on, then open invites, then a certificate that the other made for this node. After each
//! blob, each change of the record, and when a certificate ends, the other is judged anew.
//!
//! # Invariants
//!
//! - Frames flow ([`Gate::Open`]) only while both sides say *admitted*. What this side says, it does before it says it: who hears
//!   *admitted* finds the other ready.
//! - A blob counts only if its hash is the one asked for, and what it says only if it verifies.
//! - What the peer can cause is bounded: news by a bucket, what is served by another and, before it is admitted, by one that it shares
//!   with all that are not; one blob on its way, of a bounded size; what did not help once is not asked for again before the peer says
//!   something new. A session in which nothing comes of it ends.
//! - Who was revoked is refused before it has shown anything.
//! - The network's secret is asked of, handed to, and taken from a peer only while this side admits it (protocol §8.8).

use super::Seconds;
use super::authority::{AuthorityKey, PUBLIC_LEN};
use super::certificate::Certificate;
use super::delegation::Delegation;
use super::document::Document;
use super::fetch::{Fetch, Progress, parts};
use super::join::JoinError;
use super::judge::{Admission, Refusal, judge, refuse_revoked};
use super::message::{ADMITTED, Handed, Listed, Member, Message, PENDING, Part, Want};
use super::offer::judge_offer;
use super::statement::{AROUND, Body, Statement, StatementError, Unverified};
use super::trust::Trust;
use crate::bucket::Bucket;
use crate::crypto::keys::NetworkSecret;
use crate::ids::{BlobHash, Fingerprint, NetworkId, NodeId, StatementHash};
use crate::time::Deadline;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// MEMBER is repeated this often until acknowledged, as HELLO is.
const REPEAT: Duration = Duration::from_secs(1);
/// A refused peer's session is kept so long, for it to hear why, and to be served what may mend it.
pub const REFUSED_FOR: Duration = Duration::from_secs(10);
/// So long a peer may leave open what it is. A node that joins has its certificate within seconds of meeting somebody who has the
/// invite; what a slow path brings counts as it comes.
pub const PENDING_FOR: Duration = Duration::from_secs(60);
/// What a peer did not give is not asked for again so soon, and something else is.
const SILENT_FOR: Duration = Duration::from_secs(5);
/// New MEMBERs that are taken in: each may cost a few signatures to verify.
const NEWS: Bucket = Bucket::new(8, Duration::from_millis(500));
/// MEMBERs that bring nothing but newer documents: some at once, then no more than the other takes in ([`NEWS`]). An admin that takes up
/// a hundred nodes says a hundred documents within seconds, and each is said by everybody to everybody.
const DOCUMENTS: Bucket = Bucket::new(2, TOGETHER);
/// So long documents wait for others that may follow.
const TOGETHER: Duration = Duration::from_millis(500);
/// WANTs that are answered, with up to 32 kB each.
const SERVED: Bucket = Bucket::new(16, Duration::from_millis(100));

/// The network's secret is asked for again after this, then after twice as long, and so on.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Times that it is asked for before the peer has said something new: for two minutes. One that says it has it and does not give it
/// is broken, or of ill will.
const ASKS: u32 = 7;
/// Secrets that are handed on to a peer, or taken from it to be looked at, which derives a key each.
const SECRETS: Bucket = Bucket::new(4, Duration::from_secs(1));

/// Both clocks: one to wait by, one that certificates are dated by.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Monotonic.
    pub now: Instant,
    /// Seconds since 1970.
    pub unix: Seconds,
}

/// Why a peer is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// What it shows is no statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// It makes no member.
    #[error(transparent)]
    Refusal(#[from] Refusal),
}

impl Reason {
    /// The number that stands for it in MEMBER.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Statement(_) => 2,
            Self::Refusal(refusal) => refusal.code(),
        }
    }

    const fn is_worth_waiting(&self) -> bool {
        match self {
            Self::Statement(_) => false,
            Self::Refusal(refusal) => refusal.is_mended_by_a_word(),
        }
    }
}

/// What this side thinks of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Something to judge by is missing still.
    Pending,
    /// It is a member.
    Admitted(Admission),
    /// It is not.
    Refused(Reason),
}

impl Verdict {
    const fn standing(&self) -> u8 {
        match self {
            Self::Pending => PENDING,
            Self::Admitted(_) => ADMITTED,
            Self::Refused(reason) => reason.code(),
        }
    }
}

/// What may pass between the two. Declared narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// Nothing: no frame is sent, and none is opened.
    Shut,
    /// The peer's frames are opened, should it send any; none is sent.
    Receive,
    /// Frames flow.
    Open,
}

/// What the owner has to know. To be acted on before the messages that wait are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What this side thinks of the peer changed.
    Judged(Verdict),
    /// What the peer thinks of this side changed, by the number in its MEMBER.
    Standing(u8),
    /// What may pass changed.
    Gate(Gate),
    /// An admin made a certificate for this node, and it is shown from now on: to be stored.
    Renewed(Statement<Certificate>),
    /// This node joined, with what [`Trust::own`] shows now: to be stored.
    Joined,
    /// This node cannot join by its invite.
    JoinFailed(JoinError),
}

/// The talk with one peer, in one session.
#[derive(Debug)]
pub struct Exchange {
    peer: NodeId,
    said: Member,
    /// When MEMBER is said again; never, once it was acknowledged.
    repeat: Option<Instant>,
    /// When documents that wait for others are said.
    together: Option<Instant>,
    heard: Option<Member>,
    shown: Shown,
    fetch: Option<(Purpose, Fetch)>,
    /// When what another peer is asked for may be asked for here.
    waits: Option<Instant>,
    /// What was asked for and did not help: not asked for again before that time, or before there is news.
    tried: BTreeMap<BlobHash, Option<Instant>>,
    verdict: Verdict,
    /// Since when, for something that no admin's word mends.
    refused: Option<Instant>,
    /// Since when nothing came of it, while that is so: it is not admitted, nor refused for what an admin's word mends.
    pending: Option<Instant>,
    is_over: bool,
    /// Whether there is no session to ask anything in.
    is_paused: bool,
    /// When time alone may change the verdict.
    ends: Option<Instant>,
    /// What was said last in [`Event::Gate`].
    gate: Gate,
    /// The state of [`Trust`] that the verdict rests on.
    judged_at: Option<u64>,
    /// The network's secret that the peer was asked for.
    asked: Option<Asked>,
    news: Bucket,
    documents: Bucket,
    served: Bucket,
    secrets: Bucket,
    messages: VecDeque<Message>,
    events: VecDeque<Event>,
}

/// A question for a secret.
#[derive(Debug)]
struct Asked {
    network: NetworkId,
    times: u32,
    again: Instant,
}

/// What the peer showed of itself.
#[derive(Debug, Default)]
struct Shown {
    /// Read, and waiting for the keys that verify them.
    certificate: Option<Unverified<Certificate>>,
    delegation: Option<Unverified<Delegation>>,
    keys: BTreeMap<Fingerprint, AuthorityKey>,
    /// Verified: judged until the peer shows another.
    chain: Option<(Statement<Certificate>, Option<Statement<Delegation>>)>,
    /// No statement at all.
    broken: Option<(StatementHash, StatementError)>,
}

/// What a blob is asked for as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Key(Fingerprint),
    Document(Fingerprint),
    Certificate,
    Delegation,
    Invite(StatementHash),
    Sought,
    Offer,
}

impl Purpose {
    /// Most bytes of such a blob.
    const fn max(self) -> usize {
        match self {
            Self::Key(_) => PUBLIC_LEN,
            Self::Document(_) => Document::MAX + AROUND,
            Self::Certificate | Self::Offer => Certificate::MAX + AROUND,
            Self::Delegation | Self::Invite(_) | Self::Sought => Delegation::MAX + AROUND,
        }
    }

    /// Whether it serves every session once it is here, so that one peer is asked for it and the others are not. What serves one session
    /// alone is nobody else's to wait for.
    fn is_for_all(self, trust: &Trust) -> bool {
        match self {
            Self::Document(_) | Self::Invite(_) | Self::Sought => true,
            Self::Key(fingerprint) => trust.wants_key(fingerprint),
            Self::Certificate | Self::Delegation | Self::Offer => false,
        }
    }
}

type Need = (Purpose, BlobHash);

impl Exchange {
    /// A session with `peer` was confirmed.
    pub fn begin(clock: Clock, trust: &mut Trust, peer: NodeId) -> Self {
        let mut exchange = Self {
            peer,
            said: Member::default(),
            repeat: None,
            together: None,
            heard: None,
            shown: Shown::default(),
            fetch: None,
            waits: None,
            tried: BTreeMap::new(),
            verdict: Verdict::Pending,
            refused: None,
            pending: Some(clock.now),
            is_over: false,
            is_paused: false,
            ends: None,
            gate: Gate::Shut,
            judged_at: None,
            asked: None,
            news: NEWS,
            documents: DOCUMENTS,
            served: SERVED,
            secrets: SECRETS,
            messages: VecDeque::new(),
            events: VecDeque::new(),
        };
        exchange.settle(clock, trust);
        exchange
    }

    /// What this side thinks of the peer.
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// What the peer shows, once it was verified.
    pub const fn chain(&self) -> Option<&(Statement<Certificate>, Option<Statement<Delegation>>)> {
        self.shown.chain.as_ref()
    }

    /// What may pass.
    pub fn gate(&self) -> Gate {
        let is_admitted = matches!(self.verdict, Verdict::Admitted(_));
        let admits = self.heard.as_ref().is_some_and(|heard| heard.standing == ADMITTED);
        match (is_admitted, admits) {
            (false, _) => Gate::Shut,
            (true, false) => Gate::Receive,
            (true, true) => Gate::Open,
        }
    }

    /// Which of the network's secrets the peer says that it holds.
    pub fn secrets(&self) -> &[NetworkId] {
        self.heard.as_ref().map_or(&[], |heard| heard.secrets.as_slice())
    }

    /// Whether nothing is being asked for or told: what either has to say of members was said.
    pub fn is_quiet(&self) -> bool {
        let asks = self.asked.as_ref().is_some_and(|asked| asked.times < ASKS);
        self.repeat.is_none() && self.fetch.is_none() && self.waits.is_none() && !asks
    }

    /// Whether the session is of no use any more: the peer was refused, and had time to hear it.
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next thing to say, in the session.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let repeat = self.repeat.map(|at| Deadline::new(at, "say MEMBER again"));
        let fetch =
            self.fetch.as_ref().map(|(_, fetch)| Deadline::new(fetch.repeat_at(), "ask for parts again"));
        let waits = self.waits.map(|at| Deadline::new(at, "ask for what another peer did not give"));
        let refused = self
            .refused
            .filter(|_| !self.is_over)
            .map(|at| Deadline::new(at + REFUSED_FOR, "end the session of a refused peer"));
        let pending = self
            .pending
            .filter(|_| !self.is_over)
            .map(|at| Deadline::new(at + PENDING_FOR, "end the session of a peer that shows nothing"));
        let ends = self.ends.map(|at| Deadline::new(at, "judge the peer anew"));
        let asked = self.asked.as_ref().filter(|asked| asked.times < ASKS);
        let asked = asked.map(|asked| Deadline::new(asked.again, "ask for the network's secret again"));
        let together = self.together.map(|at| Deadline::new(at, "say MEMBER with newer documents"));
        [repeat, together, fetch, waits, refused, pending, ends, asked]
            .into_iter()
            .fold(None, Deadline::earlier)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, clock: Clock, trust: &mut Trust) {
        if self.waits.is_some_and(|at| at <= clock.now) {
            self.waits = None;
        }
        if let Some((_, fetch)) = &mut self.fetch {
            let progress = fetch.handle_timeout(clock.now);
            self.proceed(clock, trust, progress);
        }
        if self.repeat.is_some_and(|at| at <= clock.now) {
            self.say(clock.now);
        }
        self.judged_at = None;
        self.settle(clock, trust);
        self.is_over = self.refused.is_some_and(|at| at + REFUSED_FOR <= clock.now)
            || self.pending.is_some_and(|at| at + PENDING_FOR <= clock.now);
    }

    /// The session ends, and what is known of the peer is kept: it is judged by what changes, and asked for nothing. Another session begins
    /// another exchange.
    pub fn pause(&mut self, now: Instant, trust: &mut Trust) {
        self.is_paused = true;
        self.end_fetch(now, trust, None, false);
        (self.waits, self.asked) = (None, None);
    }

    /// [`Trust`] may have changed: another peer brought something, or this node's user did.
    pub fn handle_change(&mut self, clock: Clock, trust: &mut Trust) {
        self.settle(clock, trust);
    }

    /// The peer said something.
    pub fn handle_message(&mut self, clock: Clock, trust: &mut Trust, message: Message) {
        match message {
            Message::Member(member) => self.on_member(clock, trust, member),
            Message::MemberAck { revision } if revision == self.said.revision => self.repeat = None,
            // Of an older one.
            Message::MemberAck { .. } => {}
            Message::Want(want) => self.on_want(clock, trust, want),
            Message::Part(part) => self.on_part(clock, trust, &part),
            Message::AskSecret { network } => self.on_ask_secret(clock, trust, network),
            Message::Secret(handed) => self.on_secret(clock, trust, handed),
        }
        self.settle(clock, trust);
    }

    fn on_member(&mut self, clock: Clock, trust: &mut Trust, member: Member) {
        let revision = member.revision;
        if let Some(heard) = &self.heard {
            // Packets may overtake each other; an older word does not take back a newer one. Revisions wrap.
            if revision == heard.revision || revision.wrapping_sub(heard.revision) > u32::MAX / 2 {
                return self.messages.push_back(Message::MemberAck { revision });
            }
        }
        // What is not taken in is not acknowledged, and so comes again.
        if !self.news.take(clock.now) {
            return;
        }
        self.messages.push_back(Message::MemberAck { revision });
        if self.heard.as_ref().map_or(PENDING, |heard| heard.standing) != member.standing {
            self.events.push_back(Event::Standing(member.standing));
        }
        if let Some(certificate) = member.certificate {
            trust.on_shown(self.peer, certificate);
        }
        self.heard = Some(member);
        self.tried.clear();
        self.asked = None;
        self.judged_at = None;
    }

    fn on_want(&mut self, clock: Clock, trust: &mut Trust, want: Want) {
        let is_admitted = matches!(self.verdict, Verdict::Admitted(_));
        if self.served.take(clock.now) && (is_admitted || trust.serve_stranger(clock.now)) {
            self.messages.extend(parts(want, trust.blob(want.hash)).into_iter().map(Message::Part));
        }
    }

    fn on_part(&mut self, clock: Clock, trust: &mut Trust, part: &Part) {
        let Some((_, fetch)) = &mut self.fetch else { return };
        let progress = fetch.on_part(clock.now, part);
        self.proceed(clock, trust, progress);
    }

    /// The peer wants the network's secret. Who is not admitted gets none; nor does who would not be any more if it were judged now.
    fn on_ask_secret(&mut self, clock: Clock, trust: &mut Trust, network: NetworkId) {
        self.settle(clock, trust);
        if let Verdict::Admitted(_) = self.verdict
            && let Some(secret) = trust.secrets().secret(network)
            && self.secrets.take(clock.now)
        {
            self.messages.push_back(Message::Secret(Handed::from(secret)));
        }
    }

    /// The peer hands one on: it is looked at where it was asked for, and counts where it is the one that the record names.
    fn on_secret(&mut self, clock: Clock, trust: &mut Trust, handed: Handed) {
        let is_wanted = self.asked.is_some() && matches!(self.verdict, Verdict::Admitted(_));
        if is_wanted && self.secrets.take(clock.now) {
            let secret = NetworkSecret::from(handed);
            let generation = secret.generation();
            let is_taken = trust.take_secret(secret, clock.now);
            tracing::debug!(peer = %self.peer.short(), generation, is_taken, "a secret was handed on");
        }
    }

    /// Asks for the secret that the record names, if it is not here and the peer says that it has it.
    fn ask_secret(&mut self, clock: Clock, trust: &Trust) {
        let has =
            |network: &NetworkId| self.heard.as_ref().is_some_and(|heard| heard.secrets.contains(network));
        let may = !self.is_paused && matches!(self.verdict, Verdict::Admitted(_));
        let missing = trust.missing_secret().filter(has).filter(|_| may);
        let Some(network) = missing else {
            self.asked = None;
            return;
        };
        let times = match &self.asked {
            Some(asked) if asked.network != network => 0,
            Some(asked) if asked.times >= ASKS || asked.again > clock.now => return,
            Some(asked) => asked.times,
            None => 0,
        };
        self.asked =
            Some(Asked { network, times: times + 1, again: clock.now + ASK_AGAIN * 2_u32.pow(times) });
        self.messages.push_back(Message::AskSecret { network });
    }

    fn proceed(&mut self, clock: Clock, trust: &mut Trust, progress: Progress) {
        match progress {
            Progress::Waiting => {}
            Progress::Ask(want) => self.messages.push_back(Message::Want(want)),
            Progress::Done(blob) => {
                if let Some(purpose) = self.end_fetch(clock.now, trust, None, true) {
                    let before = trust.changes();
                    self.on_blob(clock, trust, purpose, &blob);
                    if trust.changes() != before {
                        // Only what verifies changes anything.
                        self.pending = self.pending.map(|_| clock.now);
                    }
                    self.judged_at = None;
                }
            }
            Progress::Lacking => {
                self.end_fetch(clock.now, trust, None, false);
            }
            Progress::Silent => {
                self.end_fetch(clock.now, trust, Some(clock.now + SILENT_FOR), false);
            }
        }
    }

    /// Whatever became of it, it is not asked for again before `again`, or before there is news.
    fn end_fetch(
        &mut self,
        now: Instant,
        trust: &mut Trust,
        again: Option<Instant>,
        is_here: bool,
    ) -> Option<Purpose> {
        let (purpose, fetch) = self.fetch.take()?;
        self.tried.insert(fetch.hash(), again);
        if purpose.is_for_all(trust) {
            trust.release(now, self.peer, fetch.hash(), is_here);
        }
        Some(purpose)
    }

    fn on_blob(&mut self, clock: Clock, trust: &mut Trust, purpose: Purpose, blob: &[u8]) {
        if let Err(error) = self.take_blob(clock, trust, purpose, blob) {
            tracing::debug!(peer = %self.peer.short(), ?purpose, %error, "what the peer gave is of no use");
            let certificate = self.heard.as_ref().and_then(|heard| heard.certificate);
            if let (Purpose::Certificate | Purpose::Delegation, Some(certificate)) = (purpose, certificate) {
                self.shown.broken = Some((certificate, error));
            }
        }
    }

    fn take_blob(
        &mut self,
        clock: Clock,
        trust: &mut Trust,
        purpose: Purpose,
        blob: &[u8],
    ) -> Result<(), StatementError> {
        let key_of = |trust: &Trust, issuer| trust.key(issuer).cloned().ok_or(StatementError::Malformed);
        match purpose {
            Purpose::Key(fingerprint) => {
                let key = AuthorityKey::from_bytes(blob).ok_or(StatementError::Malformed)?;
                if !trust.keep_key(key.clone()) {
                    self.shown.keys.insert(fingerprint, key);
                }
            }
            Purpose::Document(issuer) => {
                let document = Unverified::<Document>::decode(trust.root(), blob)?;
                let key = key_of(trust, issuer)?;
                trust.hear(document.verify(&key)?);
                trust.on_heard(clock.now, issuer);
            }
            Purpose::Certificate => {
                self.shown.keys.clear();
                self.shown.delegation = None;
                self.shown.certificate = Some(Unverified::decode(trust.root(), blob)?);
            }
            Purpose::Delegation => self.shown.delegation = Some(Unverified::decode(trust.root(), blob)?),
            Purpose::Invite(_) => {
                let invite = Unverified::<Delegation>::decode(trust.root(), blob)?;
                match trust.key(invite.issuer()) {
                    Some(key) => trust.keep_invite(invite.verify(key)?),
                    // For this session it is good all the same, once it is known who vouches for it.
                    None => self.shown.delegation = Some(invite),
                }
            }
            Purpose::Sought => {
                let delegation = Unverified::decode(trust.root(), blob)?;
                self.on_sought(clock, trust, delegation);
            }
            Purpose::Offer => {
                let offer = Unverified::<Certificate>::decode(trust.root(), blob)?;
                let key = key_of(trust, offer.issuer())?;
                let offer = offer.verify(&key)?;
                let own = trust.own().map(|own| own.certificate.body());
                match judge_offer(trust.view(), trust.node(), own, &offer, clock.unix) {
                    Ok(()) => {
                        trust.renew(offer.clone());
                        self.events.push_back(Event::Renewed(offer));
                    }
                    Err(error) => {
                        tracing::debug!(peer = %self.peer.short(), %error, "a certificate that the peer offers is not taken");
                    }
                }
            }
        }
        Ok(())
    }

    /// What follows from any change.
    fn settle(&mut self, clock: Clock, trust: &mut Trust) {
        // Judging may make this node meet the peer, and a blob that is here already needs no asking: until nothing changes.
        if self.judged_at != Some(trust.changes()) {
            self.judged_at = Some(trust.changes());
            self.verify(trust);
            self.judge(clock, trust);
            self.join(clock, trust);
        }
        self.ask(clock, trust);
        self.ask_secret(clock, trust);
        let gate = self.gate();
        if gate != self.gate {
            self.gate = gate;
            self.events.push_back(Event::Gate(gate));
        }
        let is_admitted = matches!(self.verdict, Verdict::Admitted(_));
        if let Some(heard) = self.heard.as_ref().filter(|_| is_admitted) {
            trust.on_secrets_shown(self.peer, &heard.secrets);
        }
        let admitted = match &self.verdict {
            Verdict::Admitted(admission) => Some(&admission.facts.addresses),
            Verdict::Pending | Verdict::Refused(_) => None,
        };
        trust.on_addresses_shown(self.peer, admitted);
        let member = Member {
            revision: self.said.revision,
            standing: self.verdict.standing(),
            certificate: trust.own().map(|own| own.certificate.hash()),
            offer: trust.offered_to(self.peer),
            documents: trust.documents(),
            secrets: if is_admitted { trust.secrets().ids().collect() } else { Vec::new() },
        };
        if self.is_worth_saying(clock.now, &member) {
            self.said = Member { revision: self.said.revision.wrapping_add(1), ..member };
            self.say(clock.now);
        }
    }

    /// Whether the other side has to hear `member` now. Of documents alone it has not where it said that it has them, or newer ones; and those that
    /// follow each other fast are said together.
    fn is_worth_saying(&mut self, now: Instant, member: &Member) -> bool {
        let together = self.together.take().filter(|at| *at > now);
        if self.said.revision == 0 {
            return true;
        }
        if *member == self.said {
            return false;
        }
        let as_before = Member { documents: self.said.documents.clone(), ..member.clone() };
        if as_before != self.said {
            return true;
        }
        let heard = self.heard.as_ref().map_or(&[][..], |heard| &heard.documents);
        let has = |document: &Listed| {
            heard.iter().any(|heard| {
                heard == document || heard.issuer == document.issuer && heard.version > document.version
            })
        };
        if member.documents.iter().all(has) {
            return false;
        }
        let may = self.documents.take(now);
        if !may {
            self.together = together.or(Some(now + TOGETHER));
        }
        may
    }

    fn say(&mut self, now: Instant) {
        self.repeat = Some(now + REPEAT);
        self.messages.push_back(Message::Member(self.said.clone()));
    }

    /// Verifies what the peer showed, as soon as all that takes is here.
    fn verify(&mut self, trust: &Trust) {
        let wanted = self.heard.as_ref().and_then(|heard| heard.certificate);
        let Some(certificate) = self.shown.certificate.as_ref().filter(|read| Some(read.hash()) == wanted)
        else {
            return;
        };
        let delegation = match certificate.claims().delegation {
            None => None,
            Some(hash) => match self.shown.delegation_of(trust, hash) {
                None => return,
                Some(Err(error)) => {
                    self.shown.broken = Some((certificate.hash(), error));
                    return;
                }
                Some(Ok(delegation)) => Some(delegation),
            },
        };
        let Some(key) = self.shown.key(trust, certificate.issuer()) else { return };
        match certificate.clone().verify(key) {
            Ok(certificate) => self.shown.chain = Some((certificate, delegation)),
            Err(error) => self.shown.broken = Some((certificate.hash(), error)),
        }
        self.shown.certificate = None;
    }

    fn judge(&mut self, clock: Clock, trust: &mut Trust) {
        let wanted = self.heard.as_ref().and_then(|heard| heard.certificate);
        let revoked = refuse_revoked(trust.view(), self.peer).err();
        let verdict = match (revoked, &self.shown.broken, &self.shown.chain) {
            (Some(refusal), _, _) => Verdict::Refused(refusal.into()),
            (None, Some((hash, error)), _) if Some(*hash) == wanted => Verdict::Refused((*error).into()),
            (None, _, None) => Verdict::Pending,
            // One that the peer does not show any more counts until the other is here.
            (None, _, Some((certificate, delegation))) => {
                let met = trust.has_met(self.peer);
                judge(trust.view(), self.peer, certificate, delegation.as_ref(), met, clock.unix)
                    .map_or_else(|refusal| Verdict::Refused(refusal.into()), Verdict::Admitted)
            }
        };
        if let Verdict::Admitted(Admission { joined_by: Some(delegate), .. }) = &verdict {
            trust.remember(self.peer, Some(*delegate));
        }
        self.refused = match &verdict {
            Verdict::Refused(reason) if !reason.is_worth_waiting() => self.refused.or(Some(clock.now)),
            Verdict::Refused(_) | Verdict::Pending | Verdict::Admitted(_) => None,
        };
        // Nothing that the peer says begins it anew, or it would say one thing after the other for ever.
        self.pending = match &verdict {
            Verdict::Refused(reason) if reason.is_worth_waiting() => None,
            Verdict::Pending | Verdict::Refused(_) => self.pending.or(Some(clock.now)),
            Verdict::Admitted(_) => None,
        };
        self.ends = match &verdict {
            // One second more: it is good up to its last second. A day at most: the two clocks go apart, and an Instant has an end.
            Verdict::Admitted(admission) => {
                let left = admission.until.saturating_sub(clock.unix).saturating_add(1).min(86_400);
                Some(clock.now + Duration::from_secs(left))
            }
            // Soon enough for one that is not good yet.
            Verdict::Refused(_) => Some(clock.now + Duration::from_secs(60)),
            Verdict::Pending => None,
        };
        if verdict != self.verdict {
            self.events.push_back(Event::Judged(verdict.clone()));
            self.verdict = verdict;
        }
    }

    /// This node joins by a delegation that is here already: the peer's own certificate stands on it, or it is an open invite.
    fn join(&mut self, clock: Clock, trust: &mut Trust) {
        let Some(sought) = trust.sought() else { return };
        let shown = self.shown.chain.as_ref().and_then(|(_, delegation)| delegation.as_ref());
        let known = shown.filter(|delegation| delegation.hash() == sought).or_else(|| trust.invite(sought));
        let read = known.map(|known| Unverified::decode(trust.root(), known.bytes()));
        if let Some(Ok(delegation)) = read {
            self.on_sought(clock, trust, delegation);
        }
    }

    fn on_sought(&mut self, clock: Clock, trust: &mut Trust, delegation: Unverified<Delegation>) {
        self.events.push_back(match trust.on_sought(delegation, clock.unix) {
            Ok(()) => Event::Joined,
            Err(error) => Event::JoinFailed(error),
        });
    }

    /// Asks for the next thing that is missing, if nothing is under way.
    fn ask(&mut self, clock: Clock, trust: &mut Trust) {
        if self.fetch.is_some() || self.is_paused {
            return;
        }
        self.waits = None;
        let is_admitted = matches!(self.verdict, Verdict::Admitted(_));
        for (purpose, hash) in self.needs(trust) {
            let may = match (self.tried.get(&hash), purpose) {
                (Some(at), _) if at.is_none_or(|at| at > clock.now) => Err(*at),
                (_, Purpose::Document(issuer)) => trust.may_hear(clock.now, issuer).map_err(Some),
                (Some(_) | None, _) => Ok(()),
            };
            let may = may.and_then(|()| match purpose.is_for_all(trust) {
                true => trust.claim(clock.now, self.peer, is_admitted, hash).map_err(Some),
                false => Ok(()),
            });
            if let Err(at) = may {
                self.waits = at.into_iter().chain(self.waits).min();
                continue;
            }
            let (fetch, want) = Fetch::begin(clock.now, hash, purpose.max());
            self.fetch = Some((purpose, fetch));
            return self.messages.push_back(Message::Want(want));
        }
    }

    /// What is missing here and the peer may have, in the order of asking.
    fn needs(&self, trust: &Trust) -> Vec<Need> {
        let Some(heard) = &self.heard else { return Vec::new() };
        let mut needs: Vec<Need> = Vec::new();
        let key = |issuer: Fingerprint| (Purpose::Key(issuer), issuer.into());
        for issuer in trust.view().standing().ranked() {
            let Some(listed) = heard.documents.iter().find(|listed| listed.issuer == *issuer) else {
                continue;
            };
            let known = trust.record().document(*issuer).map(|known| (known.body().version, known.hash()));
            if known.is_some_and(|known| known >= (listed.version, listed.hash)) {
                continue;
            }
            needs.push(if trust.key(*issuer).is_none() {
                key(*issuer)
            } else {
                (Purpose::Document(*issuer), listed.hash.into())
            });
        }
        if trust.key(trust.root()).is_none() {
            needs.push(key(trust.root()));
        }
        // Before this node certifies itself: what the other was given it does not take.
        needs.extend(heard.certificate.and_then(|certificate| self.shown.need(trust, certificate)));
        let sought = trust.sought().map(|hash| (Purpose::Sought, hash.into()));
        needs.extend(sought);
        let open = trust.view().invites().iter().filter(|hash| trust.invite(**hash).is_none());
        needs.extend(open.map(|hash| (Purpose::Invite(*hash), (*hash).into())));
        let is_new = |offer: &StatementHash| trust.own().is_none_or(|own| own.certificate.hash() != *offer);
        needs.extend(heard.offer.filter(is_new).map(|offer| (Purpose::Offer, offer.into())));
        needs
    }
}

impl Shown {
    fn key<'a>(&'a self, trust: &'a Trust, authority: Fingerprint) -> Option<&'a AuthorityKey> {
        trust.key(authority).or_else(|| self.keys.get(&authority))
    }

    /// The delegation of that hash, verified; nothing while it, or its issuer's key, is missing.
    fn delegation_of(
        &self,
        trust: &Trust,
        hash: StatementHash,
    ) -> Option<Result<Statement<Delegation>, StatementError>> {
        if let Some(known) = trust.invite(hash) {
            return Some(Ok(known.clone()));
        }
        let read = self.delegation.as_ref().filter(|read| read.hash() == hash)?;
        Some(read.clone().verify(self.key(trust, read.issuer())?))
    }

    /// What is missing to verify `certificate`.
    fn need(&self, trust: &Trust, certificate: StatementHash) -> Option<Need> {
        let is_settled = self.chain.as_ref().is_some_and(|(known, _)| known.hash() == certificate)
            || self.broken.is_some_and(|(broken, _)| broken == certificate);
        if is_settled {
            return None;
        }
        let Some(read) = self.certificate.as_ref().filter(|read| read.hash() == certificate) else {
            return Some((Purpose::Certificate, certificate.into()));
        };
        let key = |issuer: Fingerprint| {
            self.key(trust, issuer).is_none().then(|| (Purpose::Key(issuer), issuer.into()))
        };
        if let Some(hash) = read.claims().delegation.filter(|hash| trust.invite(*hash).is_none()) {
            let Some(delegation) = self.delegation.as_ref().filter(|delegation| delegation.hash() == hash)
            else {
                let is_open = trust.view().invites().contains(&hash);
                let purpose = if is_open { Purpose::Invite(hash) } else { Purpose::Delegation };
                return Some((purpose, hash.into()));
            };
            return key(delegation.issuer()).or_else(|| key(read.issuer()));
        }
        key(read.issuer())
    }
}
