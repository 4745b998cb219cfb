//! Which remote addresses to check, when, and when to try again (protocol §7.5). Pure: it names addresses, its owner sends.
//!
//! # A round
//!
//! Each remote candidate is checked at once, and again after 100, 200, 400 and 800 ms while nothing answers: both sides do the
//! same, so that the later packets of one find the mapping that the earlier ones of the other have opened. The best come first,
//! [`PACE`] apart, [`ROUND_PACKETS`] in all. A candidate that answered is checked no more: it is a path now, which proves itself.
//!
//! # When
//!
//! A round begins when the peer's candidates come or change, when this side's own do, and when the network changed or a direct
//! path died, but never two within [`ROUND_GAP`]; else every [`RETRY`] ± 10 %, and rarer up to [`RETRY_MAX`] while the pair has
//! nothing to say: when it speaks again, the retry is as near as if it had never been silent. While there is a direct path no retry is
//! due.
//!
//! # Invariants
//!
//! - At most [`MAX_CANDIDATES`] announced, [`MAX_HINTS`] named by relays and [`MAX_HEARD`] heard from are kept; the oldest goes.
//! - Whoever names an address causes at most [`CHECKS`] packets to it a round, and rounds are bounded in time. Whoever named them, and
//!   whatever is named meanwhile: a round is about at most [`MAX_CANDIDATES`] addresses, [`PORTS_PER_IP`] ports of one IP address among
//!   them, and [`ROUND_PACKETS`] packets. Rounds that a peer can cause, by announcing or by answering and falling
//!   silent, are metered ([`PROVOKED`]): so a member cannot make others flood somebody. (What goes to one host over all peers is bounded
//!   by [`super::strangers`].)
//! - An address that was merely heard from is checked outside a round too, within a budget of its own ([`HEARD_BUDGET`]): what a
//!   member can make a node send to an address it spoofs is a check a second. During a round it counts as of that.

use super::candidate::{Candidate, CandidateKind, MAX_CANDIDATES};
use crate::bucket::Bucket;
use crate::path::challenge::Challenges;
use crate::rng::Rng;
use crate::time::Deadline;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Checks of one candidate in a round.
pub const CHECKS: u32 = 5;
/// Packets in a round, over all candidates.
pub const ROUND_PACKETS: u32 = 50;
/// Those of them that are kept for addresses heard from while the round is under way: the peer has just gone there.
const ROUND_RESERVE: u32 = 4;
/// Packets of one address heard from: a check, and one as large as data where the peer has a path on that host.
const HEARD_PACKETS: u32 = 2;
/// Between two checks: a burst of fifty would be lost in the queue of a slow uplink. (RFC 8445 §14.2 has 50 ms, for agents that do
/// not know each other yet and whose checks are answered by strangers.)
pub const PACE: Duration = Duration::from_millis(5);
/// What a candidate waits after its nth check.
const WAITS: [Duration; CHECKS as usize] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1500),
];
/// Ports of one IP address that are checked: a host's own, and what its NATs make of it.
pub const PORTS_PER_IP: usize = 3;
/// Rounds that a peer causes: addresses come one after the other when a machine starts or roams, ...
const PROVOKED: Bucket = Bucket::new(12, PROVOKED_PAUSE);
/// ... and then one in this time.
pub const PROVOKED_PAUSE: Duration = Duration::from_secs(30);
/// What a round may take: a check that had to wait for longer is not worth sending.
const ROUND_SPAN: Duration = Duration::from_secs(3);
/// A check of a host that was sent enough waits for this.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);
/// Two rounds do not begin closer than this: a change of the network comes as a burst of events.
pub const ROUND_GAP: Duration = Duration::from_secs(1);
/// A round that found nothing is repeated after this, give or take a tenth.
pub const RETRY: Duration = Duration::from_secs(60);
/// ... and at the latest after this, for a pair without traffic.
pub const RETRY_MAX: Duration = Duration::from_secs(600);
/// Addresses named by relays that are kept: what each of two relays saw last.
pub const MAX_HINTS: usize = 2;
/// Addresses that packets came from, kept: a NAT that rebinds makes one after the other.
pub const MAX_HEARD: usize = 4;
/// Checks of addresses heard from outside a round: this many at once, and one more each second.
pub const HEARD_BUDGET: u32 = 10;

/// Who named a remote address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The peer, inside the session.
    Announced,
    /// A relay.
    Hint,
    /// A packet of the session came from there.
    Heard,
}

#[derive(Debug)]
struct Remote {
    candidate: Candidate,
    source: Source,
    tries: u32,
    /// When to check it; `None` when it answered, or was checked often enough.
    next: Option<Instant>,
    challenges: Challenges,
}

impl Remote {
    const fn new(candidate: Candidate, source: Source) -> Self {
        Self { candidate, source, tries: 0, next: None, challenges: Challenges::new() }
    }

    const fn begin(&mut self, now: Instant) {
        self.tries = 0;
        self.next = Some(now);
    }
}

/// What is tried towards one peer.
#[derive(Debug)]
pub struct Agent {
    /// Best first.
    remotes: Vec<Remote>,
    /// Packets that this round may still send.
    left: u32,
    /// The addresses that it is about, and whether they were checked in it.
    subjects: Vec<(SocketAddr, bool)>,
    began: Option<Instant>,
    rounds: u64,
    paced: Option<Instant>,
    /// The next round.
    wanted: Option<Deadline>,
    /// When it would be with traffic.
    wanted_with_traffic: Option<Instant>,
    /// Retries in a row without traffic.
    idle_retries: u32,
    /// Rounds that the peer may cause.
    provoked: Bucket,
    /// Checks outside a round, and when one was last added.
    heard_budget: Option<(u32, Instant)>,
    /// Where something was heard from last: the peer is there now, so it is checked before all others.
    heard: Option<SocketAddr>,
}

impl Default for Agent {
    fn default() -> Self {
        Self::new()
    }
}

impl Agent {
    /// Knows no address.
    pub const fn new() -> Self {
        Self {
            remotes: Vec::new(),
            left: 0,
            subjects: Vec::new(),
            began: None,
            rounds: 0,
            paced: None,
            wanted: None,
            wanted_with_traffic: None,
            idle_retries: 0,
            provoked: PROVOKED,
            heard_budget: None,
            heard: None,
        }
    }

    /// The peer's candidates came: they replace what it announced before. New ones are checked in the round that is under way, if
    /// there is one, and are worth a round otherwise. The caller filters them.
    pub fn on_announced(&mut self, now: Instant, candidates: impl IntoIterator<Item = Candidate>) {
        let is_checking = self.is_checking();
        let candidates: Vec<_> = candidates.into_iter().take(MAX_CANDIDATES).collect();
        let is_named = |address| candidates.iter().any(|candidate| candidate.address == address);
        self.remotes.retain(|known| known.source != Source::Announced || is_named(known.candidate.address));
        // What is not named any more, and was not checked yet, makes room in the round.
        let remotes = &self.remotes;
        self.subjects.retain(|(address, is_checked)| {
            *is_checked || remotes.iter().any(|known| known.candidate.address == *address)
        });
        let mut news = 0u32;
        for candidate in &candidates {
            let known = self.remotes.iter_mut().find(|known| known.candidate.address == candidate.address);
            if let Some(known) = known {
                // Its checks go on; one that was merely named by others before is as good as new.
                let is_new = known.source != Source::Announced;
                (known.source, known.candidate) = (Source::Announced, *candidate);
                if is_new && is_checking && known.tries == 0 {
                    known.begin(now);
                }
                news += u32::from(is_new);
                continue;
            }
            let of_ip = |known: &&Remote| {
                known.source == Source::Announced && known.candidate.address.ip() == candidate.address.ip()
            };
            if self.remotes.iter().filter(of_ip).count() < PORTS_PER_IP {
                let mut remote = Remote::new(*candidate, Source::Announced);
                if is_checking {
                    remote.begin(now);
                }
                self.remotes.push(remote);
                news += 1;
            }
        }
        self.sort();
        // Or the round that is under way is too far on to check them as often as others.
        if news > 0 && (!is_checking || self.left < news.saturating_mul(CHECKS)) {
            self.begin_provoked(now, "the peer's candidates came");
        }
    }

    /// A round is wanted because of something that the peer can do as often as it likes.
    pub fn begin_provoked(&mut self, now: Instant, why: &'static str) {
        let pause = if self.provoked.take(now) { ROUND_GAP } else { PROVOKED_PAUSE };
        self.begin_after(now, pause, why);
    }

    /// A relay says that the peer's socket appears at `address`. It begins nothing: a relay may say what it likes.
    pub fn hint(&mut self, address: SocketAddr) {
        self.name(Candidate::new(CandidateKind::ServerReflexive, address), Source::Hint, MAX_HINTS);
    }

    /// A packet that only the peer could seal came from `address`, which is checked at once unless it is known.
    pub fn on_heard(&mut self, now: Instant, address: SocketAddr) {
        let candidate = Candidate::new(CandidateKind::PeerReflexive, address);
        self.name(candidate, Source::Heard, MAX_HEARD);
        if self.is_in_round(now) {
            // The next packet heard from there asks again.
            if self.left == 0 || !(self.is_subject(address) || self.displace(address)) {
                return;
            }
        } else {
            self.left = self.left.max(HEARD_PACKETS);
        }
        let may = self.take_heard_budget(now);
        if let Some(remote) =
            self.remotes.iter_mut().find(|known| known.candidate.address == candidate.address)
            && remote.next.is_none()
            && may
        {
            self.heard = Some(address);
            // One packet; the next one heard causes the next.
            remote.tries = CHECKS - 1;
            remote.next = Some(now);
        }
    }

    /// The peer was there for long: it is tried as well from now on, whether or not anybody names it.
    pub fn remember(&mut self, address: SocketAddr) {
        self.name(Candidate::new(CandidateKind::PeerReflexive, address), Source::Heard, MAX_HEARD);
    }

    /// There is no direct path: once a first round was, the next one is always planned.
    pub fn plan_retry(&mut self, now: Instant, rng: &mut dyn Rng) {
        if self.wanted.is_none() && self.began.is_some() {
            self.wait_for_retry(now, rng);
        }
    }

    /// The session ended because neither side used it for a while. So the rounds that the next one begins with cannot be as many as
    /// the peer likes: one is not metered.
    pub const fn on_rest(&mut self) {
        self.provoked.give_back();
    }

    /// A round is wanted at once.
    pub fn begin(&mut self, now: Instant, why: &'static str) {
        self.begin_after(now, ROUND_GAP, why);
    }

    /// A round is wanted, `pause` after the last began; at once when that is over.
    fn begin_after(&mut self, now: Instant, pause: Duration, why: &'static str) {
        let earliest = self.began.map_or(now, |began| now.max(began + pause));
        self.idle_retries = 0;
        // What is planned and comes sooner is not put off.
        let at = self.wanted.map_or(earliest, |wanted| wanted.at.min(earliest));
        self.wanted = Some(Deadline::new(at, why));
    }

    /// Frames passed between the two: it is worth looking for a better path.
    pub fn on_traffic(&mut self) {
        self.idle_retries = 0;
        if let (Some(wanted), Some(at)) = (&mut self.wanted, self.wanted_with_traffic) {
            wanted.at = wanted.at.min(at);
        }
    }

    /// Nothing is checked until the next round.
    pub fn stop(&mut self) {
        for remote in &mut self.remotes {
            remote.next = None;
        }
    }

    /// Forgets everything but what the retries need to keep their pace.
    pub fn clear(&mut self) {
        let provoked = std::mem::replace(&mut self.provoked, PROVOKED);
        *self = Self { began: self.began, provoked, ..Self::new() };
    }

    /// Begins the round that is due. While there is a direct path (`is_needed` is false) the retry is dropped.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut dyn Rng, is_needed: bool) {
        if !self.wanted.is_some_and(|wanted| wanted.is_due(now)) {
            return;
        }
        let why = self.wanted.take().map_or("", |wanted| wanted.why);
        self.wanted_with_traffic = None;
        if !is_needed && why == RETRY_WHY {
            return;
        }
        tracing::debug!(why, addresses = self.remotes.len(), "looking for a direct path");
        self.began = Some(now);
        self.rounds += 1;
        self.left = ROUND_PACKETS;
        self.subjects = self.chosen().into_iter().map(|address| (address, false)).collect();
        for remote in &mut self.remotes {
            remote.next = None;
            if self.subjects.iter().any(|(address, _)| *address == remote.candidate.address) {
                remote.begin(now);
            }
        }
        self.wait_for_retry(now, rng);
    }

    fn wait_for_retry(&mut self, now: Instant, rng: &mut dyn Rng) {
        let wait = RETRY.saturating_mul(1 << self.idle_retries.min(4)).min(RETRY_MAX);
        self.idle_retries = self.idle_retries.saturating_add(1);
        self.wanted = Some(Deadline::new(now + rng.about(wait), RETRY_WHY));
        self.wanted_with_traffic = Some(now + rng.about(RETRY));
    }

    /// The address to check now. Report the check with [`Self::on_check_sent`].
    pub fn poll_check(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.left == 0 || self.paced.is_some_and(|until| now < until) {
            return None;
        }
        loop {
            let due = self.remotes.iter().filter(|remote| remote.next.is_some_and(|next| next <= now));
            // Of equals the first.
            let address = due
                .map(|remote| remote.candidate.address)
                .min_by_key(|address| self.heard != Some(*address))?;
            if !self.is_in_round(now) || self.is_subject(address) {
                return Some(address);
            }
            // It was named meanwhile, and is one too many.
            self.on_known(address);
        }
    }

    /// Whether one more packet may leave, beside the check that was just sent.
    pub const fn has_room(&self) -> bool {
        self.left > 0
    }

    /// Whether what is sent now is of the round that began last.
    fn is_in_round(&self, now: Instant) -> bool {
        self.began.is_some_and(|began| now < began + ROUND_SPAN)
    }

    /// Whether the round is about `address`, or is from now on because there is room.
    fn is_subject(&mut self, address: SocketAddr) -> bool {
        if self.subjects.iter().any(|(known, _)| *known == address) {
            return true;
        }
        let of_ip = self.subjects.iter().filter(|(known, _)| known.ip() == address.ip()).count();
        let has_room = self.subjects.len() < MAX_CANDIDATES && of_ip < PORTS_PER_IP;
        if has_room {
            self.subjects.push((address, false));
        }
        has_room
    }

    /// Whether one that was not checked yet makes room for `address`, where the peer is now.
    fn displace(&mut self, address: SocketAddr) -> bool {
        let is_of_ip = |known: &SocketAddr| known.ip() == address.ip();
        let is_full = self.subjects.iter().filter(|(known, _)| is_of_ip(known)).count() >= PORTS_PER_IP;
        let unchecked =
            |(known, is_checked): &(SocketAddr, bool)| !is_checked && (!is_full || is_of_ip(known));
        let last = self.subjects.iter().rposition(unchecked).and_then(|at| self.subjects.get_mut(at));
        last.map(|subject| *subject = (address, false)).is_some()
    }

    /// The addresses of a round that begins: where the peer was heard last, what it announces, what relays say, and where else it was
    /// heard. Of too many, those that it announced last are left out: what others saw is not kept out by what it says.
    fn chosen(&self) -> Vec<SocketAddr> {
        let mut known: Vec<_> = self.remotes.iter().collect();
        known.sort_by_key(|remote| match remote.source {
            Source::Heard if self.heard == Some(remote.candidate.address) => 0,
            Source::Announced => 1,
            Source::Hint => 2,
            Source::Heard => 3,
        });
        let mut chosen: Vec<&Remote> = Vec::new();
        for remote in known {
            let ip = remote.candidate.address.ip();
            if chosen.iter().filter(|other| other.candidate.address.ip() == ip).count() < PORTS_PER_IP {
                chosen.push(remote);
            }
        }
        while chosen.len() > MAX_CANDIDATES
            && let Some(last) = chosen.iter().rposition(|remote| remote.source == Source::Announced)
        {
            chosen.remove(last);
        }
        chosen.into_iter().map(|remote| remote.candidate.address).collect()
    }

    /// The address is a path that works already: it need not be checked.
    pub fn on_known(&mut self, address: SocketAddr) {
        self.put_off(address, |_| None);
    }

    /// The host of the address was sent enough for now.
    pub fn on_refused(&mut self, now: Instant, address: SocketAddr) {
        let until = self.began.map(|began| began + ROUND_SPAN);
        self.put_off(address, |next| {
            let next = next.max(now) + REFUSED_PAUSE;
            until.is_some_and(|until| next < until).then_some(next)
        });
    }

    fn put_off(&mut self, address: SocketAddr, until: impl Fn(Instant) -> Option<Instant>) {
        if let Some(remote) = self.remotes.iter_mut().find(|remote| remote.candidate.address == address) {
            remote.next = remote.next.and_then(until);
        }
    }

    /// The check `id` left for `address`.
    pub fn on_check_sent(&mut self, now: Instant, address: SocketAddr, id: u64) {
        self.left = self.left.saturating_sub(1);
        self.paced = Some(now + PACE);
        for subject in self.subjects.iter_mut().filter(|(known, _)| *known == address) {
            subject.1 = true;
        }
        let Some(remote) = self.remotes.iter_mut().find(|remote| remote.candidate.address == address) else {
            return;
        };
        remote.challenges.on_sent(now, id);
        let wait = WAITS.get(usize::try_from(remote.tries).unwrap_or(usize::MAX));
        remote.tries += 1;
        remote.next = wait.filter(|_| remote.tries < CHECKS).map(|wait| now + *wait);
        if self.left <= ROUND_RESERVE {
            for remote in self.remotes.iter_mut().filter(|other| self.heard != Some(other.candidate.address))
            {
                remote.next = None;
            }
        }
        if self.left == 0 {
            for remote in &mut self.remotes {
                remote.next = None;
            }
        }
    }

    /// The answer `id` came from `address`: its round trip and what kind of candidate it is, if it is the answer to a check of
    /// that very address.
    pub fn on_answer(
        &mut self,
        now: Instant,
        address: SocketAddr,
        id: u64,
    ) -> Option<(CandidateKind, Duration)> {
        let remote = self.remotes.iter_mut().find(|remote| remote.candidate.address == address)?;
        let rtt = remote.challenges.on_answer(now, id)?.took;
        remote.next = None;
        Some((remote.candidate.kind, rtt))
    }

    /// When to call [`Self::handle_timeout`] and [`Self::poll_check`].
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let check = self.remotes.iter().filter_map(|remote| remote.next).min();
        let check = check.map(|next| self.paced.map_or(next, |paced| next.max(paced)));
        Deadline::earlier(self.wanted, check.map(|next| Deadline::new(next, "check a candidate")))
    }

    /// Whether a round is under way.
    pub fn is_checking(&self) -> bool {
        self.left > 0 && self.remotes.iter().any(|remote| remote.next.is_some())
    }

    /// Whether a round is about to begin for a reason, and not because the last one found nothing.
    pub fn is_awaited(&self, now: Instant) -> bool {
        self.wanted.is_some_and(|wanted| wanted.why != RETRY_WHY && wanted.at <= now + ROUND_GAP)
    }

    /// Rounds begun so far.
    pub const fn rounds(&self) -> u64 {
        self.rounds
    }

    /// When the next round begins, as far as is planned.
    pub fn next_round(&self) -> Option<Instant> {
        self.wanted.map(|wanted| wanted.at)
    }

    /// Keeps an address that somebody else than the peer's announcement named.
    fn name(&mut self, candidate: Candidate, source: Source, most: usize) {
        if self.remotes.iter().any(|known| known.candidate.address == candidate.address) {
            return;
        }
        let of_source = self.remotes.iter().filter(|remote| remote.source == source).count();
        if of_source >= most
            && let Some(oldest) = self.remotes.iter().position(|remote| remote.source == source)
        {
            self.remotes.remove(oldest);
        }
        self.remotes.push(Remote::new(candidate, source));
        self.sort();
    }

    /// Stable, so that among equals the oldest stays in front.
    fn sort(&mut self) {
        self.remotes.sort_by_key(|remote| (remote.candidate.kind, remote.candidate.address.is_ipv4()));
    }

    fn take_heard_budget(&mut self, now: Instant) -> bool {
        let (left, since) = self.heard_budget.unwrap_or((HEARD_BUDGET, now));
        let more = now.saturating_duration_since(since).as_secs();
        let (left, since) = match u32::try_from(more) {
            Ok(0) => (left, since),
            Ok(more) => {
                (left.saturating_add(more).min(HEARD_BUDGET), since + Duration::from_secs(more.into()))
            }
            Err(_) => (HEARD_BUDGET, now),
        };
        self.heard_budget = Some((left.saturating_sub(1), since));
        left > 0
    }
}

/// Why a retry happens; it alone is dropped when there is a direct path.
const RETRY_WHY: &str = "no direct path was found last time";

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
mod tests {
    use super::*;
    use crate::rng::SeededRng;
    use std::collections::BTreeMap;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn hosts(n: u16) -> Vec<Candidate> {
        (1..=n)
            .map(|n| {
                let [high, low] = n.to_be_bytes();
                Candidate::new(CandidateKind::Host, SocketAddr::new([192, 0, high, low].into(), 4000))
            })
            .collect()
    }

    struct Run {
        now: Instant,
        rng: SeededRng,
        agent: Agent,
        next_id: u64,
        needed: bool,
        /// When, where to, under which id.
        sent: Vec<(Instant, SocketAddr, u64)>,
    }

    impl Run {
        fn new(candidates: Vec<Candidate>) -> Self {
            let (now, mut agent) = (Instant::now(), Agent::new());
            agent.on_announced(now, candidates);
            (agent.wanted, agent.provoked) = (None, PROVOKED);
            Self { now, rng: SeededRng::new(1), agent, next_id: 0, needed: true, sent: vec![] }
        }

        /// From timer to timer for `span`.
        fn run(&mut self, span: Duration) {
            let end = self.now + span;
            for _ in 0..100_000 {
                self.agent.handle_timeout(self.now, &mut self.rng, self.needed);
                while let Some(address) = self.agent.poll_check(self.now) {
                    self.next_id += 1;
                    self.agent.on_check_sent(self.now, address, self.next_id);
                    self.sent.push((self.now, address, self.next_id));
                }
                match self.agent.poll_timeout() {
                    Some(deadline) if deadline.at <= end => self.now = self.now.max(deadline.at),
                    Some(_) | None => {
                        self.now = end;
                        return;
                    }
                }
            }
            panic!("the agent does not come to rest");
        }

        fn per_address(&self) -> BTreeMap<SocketAddr, u32> {
            let mut counts = BTreeMap::new();
            for (_, address, _) in &self.sent {
                *counts.entry(*address).or_default() += 1;
            }
            counts
        }
    }

    #[test]
    fn a_silent_candidate_is_checked_five_times_and_left_alone_for_a_minute() {
        let mut run = Run::new(hosts(1));
        run.agent.begin(run.now, "test");
        run.run(Duration::from_secs(50));
        assert_eq!(run.sent.len(), CHECKS as usize);
        let took = run.sent[4].0 - run.sent[0].0;
        assert_eq!(took, Duration::from_millis(1500));
        let began = run.sent[0].0;
        run.run(Duration::from_secs(20));
        assert_eq!(run.sent.len(), 2 * CHECKS as usize);
        let again = run.sent[5].0 - began;
        assert!(again >= RETRY.mul_f32(0.9) && again <= RETRY.mul_f32(1.1), "{again:?}");
    }

    #[test]
    fn a_round_is_bounded_however_many_candidates_there_are() {
        let mut run = Run::new(hosts(200));
        run.agent.begin(run.now, "test");
        run.run(Duration::from_secs(30));
        assert_eq!(run.sent.len(), (ROUND_PACKETS - ROUND_RESERVE) as usize);
        let counts = run.per_address();
        assert_eq!(counts.len(), MAX_CANDIDATES, "each was tried at least once");
        assert!(run.sent.windows(2).all(|two| two[1].0 - two[0].0 >= PACE), "paced");
    }

    #[test]
    fn retries_grow_rare_without_traffic_and_never_pass_ten_minutes() {
        let mut run = Run::new(hosts(1));
        run.agent.begin(run.now, "test");
        run.run(Duration::from_secs(3600));
        let rounds = run.sent.len() / CHECKS as usize;
        // 0, 1, 3, 7, 15, 25, 35, 45, 55 minutes, a tenth either way.
        assert!((8..=11).contains(&rounds), "{rounds}");
        let mut busy = Run::new(hosts(1));
        busy.agent.begin(busy.now, "test");
        for _ in 0..3600 {
            busy.agent.on_traffic();
            busy.run(Duration::from_secs(1));
        }
        let rounds = busy.sent.len() / CHECKS as usize;
        assert!((55..=66).contains(&rounds), "{rounds}");
    }

    #[test]
    fn nothing_is_retried_while_there_is_a_direct_path() {
        let mut run = Run::new(hosts(1));
        run.agent.begin(run.now, "test");
        run.run(Duration::from_secs(10));
        run.needed = false;
        let before = run.sent.len();
        run.run(Duration::from_secs(3600));
        assert_eq!(run.sent.len(), before);
        run.agent.begin(run.now, "the path died");
        run.run(Duration::from_secs(1));
        assert!(run.sent.len() > before);
    }

    #[test]
    fn an_answer_counts_for_the_address_it_was_asked_of_and_once() {
        let mut run = Run::new(hosts(2));
        run.agent.begin(run.now, "test");
        run.run(Duration::from_millis(20));
        let (_, first, id) = run.sent[0];
        let other = run.sent[1].1;
        assert_eq!(run.agent.on_answer(run.now, other, id), None, "from elsewhere");
        assert_eq!(run.agent.on_answer(run.now, at("203.0.113.9:1"), id), None, "from nowhere");
        let answer = run.agent.on_answer(run.now, first, id);
        assert_eq!(answer, Some((CandidateKind::Host, Duration::from_millis(20))));
        assert_eq!(run.agent.on_answer(run.now, first, id), None, "once");
        run.run(Duration::from_secs(5));
        assert_eq!(run.per_address()[&first], 1, "what answered is checked no more");
        assert_eq!(run.per_address()[&other], CHECKS);
    }

    #[test]
    fn what_is_announced_during_a_round_is_checked_in_it_and_the_others_go_on() {
        let mut run = Run::new(hosts(2));
        run.agent.begin(run.now, "test");
        run.run(Duration::from_millis(150));
        let before = run.sent.len();
        assert_eq!(before, 4);
        // A relay named it before.
        run.agent.hint(hosts(3)[2].address);
        run.agent.on_announced(run.now, hosts(3));
        run.run(Duration::from_millis(20));
        assert_eq!(
            run.sent[before..].iter().map(|(_, to, _)| *to).collect::<Vec<_>>(),
            [hosts(3)[2].address]
        );
        run.run(Duration::from_secs(10));
        assert!(run.per_address().values().all(|count| *count == CHECKS), "{:?}", run.per_address());
        assert_eq!(run.sent.len(), 3 * CHECKS as usize, "no round beside it");
    }

    #[test]
    fn a_member_that_announces_for_an_hour_makes_no_flood() {
        for answers in [false, true] {
            let mut run = Run::new(vec![]);
            let own = Candidate::new(CandidateKind::Host, at("192.0.2.9:4000"));
            for second in 0..3600_u16 {
                let ports = (0..19).map(|n| SocketAddr::new([203, 0, 113, n].into(), 1 + second));
                let target = ports.map(|address| Candidate::new(CandidateKind::Host, address));
                run.agent.on_announced(run.now, target.chain([own]));
                let before = run.sent.len();
                run.run(Duration::from_secs(1));
                let news: Vec<_> = run.sent.iter().skip(before).copied().collect();
                for (now, to, id) in news {
                    // It is there, and somebody else's addresses are not the better for it.
                    assert!(!answers || to != own.address || run.agent.on_answer(now, to, id).is_some());
                }
            }
            // Some rounds at once, then one each 30 s, and a retry each minute, of fifty packets of 46 bytes: less than three a second.
            let rounds = 12 + 3600 / 30 + 3600 / 54;
            assert!(run.sent.len() <= (rounds * ROUND_PACKETS) as usize, "{}", run.sent.len());
            assert!(run.sent.len() > 3600 / 30 * 20, "and yet it is tried: {}", run.sent.len());
        }
        let mut run = Run::new(vec![]);
        // The same list again is no reason for anything.
        let before = run.sent.len();
        let same = vec![Candidate::new(CandidateKind::Host, at("203.0.113.9:1"))];
        run.agent.on_announced(run.now, same.clone());
        run.run(Duration::from_secs(300));
        let between = run.sent.len();
        assert!(between > before);
        for _ in 0..20 {
            run.agent.on_announced(run.now, same.clone());
            run.run(Duration::from_secs(1));
        }
        assert!(run.sent.len() - between <= CHECKS as usize, "a retry at most");
    }

    #[test]
    fn what_comes_at_the_end_of_a_round_has_a_round_of_its_own() {
        let mut run = Run::new(hosts(10));
        run.agent.begin(run.now, "test");
        run.run(Duration::from_millis(1_500));
        assert!(run.agent.is_checking() && run.agent.left < 15, "{} left", run.agent.left);
        let late: Vec<_> = hosts(13);
        run.agent.on_announced(run.now, late.clone());
        run.run(Duration::from_secs(4));
        let counts = run.per_address();
        // Fifty packets for thirteen addresses.
        assert!(late[10..].iter().all(|late| counts.get(&late.address) >= Some(&3)), "{counts:?}");
    }

    #[test]
    fn a_pair_that_speaks_again_after_hours_looks_for_a_path_within_a_minute() {
        let mut run = Run::new(hosts(1));
        run.agent.begin(run.now, "test");
        for hours in [1, 3] {
            run.run(Duration::from_secs(hours * 3600));
            let before = run.sent.len();
            run.agent.on_traffic();
            run.run(RETRY + RETRY / 10);
            assert!(run.sent.len() >= before + CHECKS as usize, "after {hours} h");
        }
    }

    #[test]
    fn what_may_not_be_checked_now_is_checked_later_or_left() {
        let mut run = Run::new(hosts(2));
        let [one, other] = [0, 1].map(|at: usize| hosts(2)[at].address);
        run.agent.begin(run.now, "test");
        run.agent.handle_timeout(run.now, &mut run.rng, true);
        assert_eq!(run.agent.poll_check(run.now), Some(one));
        run.agent.on_refused(run.now, one);
        assert_eq!(run.agent.poll_check(run.now), Some(other), "others are not held up");
        run.agent.on_known(other);
        assert_eq!(run.agent.poll_check(run.now), None);
        let mut refused = 1;
        while let Some(due) = run.agent.poll_timeout().filter(|due| due.at < run.now + RETRY / 2) {
            run.now = due.at;
            while let Some(address) = run.agent.poll_check(run.now) {
                run.agent.on_refused(run.now, address);
                refused += 1;
            }
        }
        assert!((3..10).contains(&refused), "{refused}: asked for again, and not for ever");
        assert!(!run.agent.is_checking());
    }

    #[test]
    fn a_burst_of_events_makes_one_round_a_second() {
        let mut run = Run::new(hosts(1));
        for _ in 0..50 {
            run.agent.begin(run.now, "an address changed");
            run.run(Duration::from_millis(20));
        }
        // Each event puts the same round off no further: one at once, one a second later.
        assert!(run.sent.len() <= 2 * CHECKS as usize, "{}", run.sent.len());
        run.run(Duration::from_secs(1));
        let firsts = run.sent.iter().filter(|(_, _, id)| *id == 1).count();
        assert_eq!(firsts, 1);
    }

    #[test]
    fn an_address_heard_from_is_checked_at_once_and_a_flood_of_them_is_not() {
        let mut run = Run::new(vec![]);
        let heard = at("203.0.113.7:4000");
        run.agent.on_heard(run.now, heard);
        run.run(Duration::from_millis(1));
        assert_eq!(run.sent.len(), 1);
        let (_, address, id) = run.sent[0];
        assert_eq!(address, heard);
        assert!(run.agent.on_answer(run.now, heard, id).is_some());
        for port in 1..10_000 {
            run.agent.on_heard(run.now, SocketAddr::new([203, 0, 113, 8].into(), port));
            run.run(Duration::from_millis(1));
        }
        // Ten at once and one a second for ten seconds.
        assert!(run.sent.len() <= 22, "{}", run.sent.len());
        assert!(run.agent.remotes.len() <= MAX_HEARD);
    }

    #[test]
    fn where_the_peer_was_heard_just_now_is_checked_before_all_others() {
        let mut run = Run::new(hosts(20));
        run.agent.begin(run.now, "test");
        run.run(Duration::from_millis(12));
        let heard = at("203.0.113.207:4000");
        run.agent.on_heard(run.now, heard);
        let before = run.sent.len();
        run.run(PACE);
        assert_eq!(run.sent[before..].iter().map(|(_, to, _)| *to).collect::<Vec<_>>(), [heard]);
    }

    /// Says, hears and hints whatever it likes at node and address, as fast as it likes.
    fn anybody(run: &mut Run, ips: u8) {
        let some = |run: &mut Run| {
            let [ip, port, ..] = run.rng.next_u64().to_be_bytes();
            SocketAddr::new([203, 0, 113, ip % ips].into(), 4000 + u16::from(port % 8))
        };
        match run.rng.next_u64() % 400 {
            0 => {
                let list: Vec<_> = (0..25).map(|_| Candidate::new(CandidateKind::Host, some(run))).collect();
                run.agent.on_announced(run.now, list);
            }
            1..10 => {
                let address = some(run);
                run.agent.hint(address);
            }
            10..60 => {
                let address = some(run);
                run.agent.on_heard(run.now, address);
            }
            60..62 => run.agent.begin(run.now, "test"),
            _ => {}
        }
    }

    #[test]
    fn whatever_is_announced_hinted_and_heard_together_a_round_keeps_its_bounds() {
        for (seed, ips) in [(1, 1), (2, 4), (3, 40), (4, 200)] {
            let mut run = Run::new(vec![]);
            run.rng = SeededRng::new(seed);
            let (mut rounds, mut full) = (0, 0);
            let mut seen = 0;
            let mut of_round: Vec<SocketAddr> = vec![];
            for _ in 0..120_000 {
                anybody(&mut run, ips);
                run.run(Duration::from_millis(1));
                if run.agent.rounds() != rounds {
                    (rounds, of_round) = (run.agent.rounds(), vec![]);
                }
                let began = run.agent.began;
                of_round.extend(run.sent.iter().skip(seen).filter_map(|(at, to, _)| {
                    began.is_some_and(|began| *at >= began && *at < began + ROUND_SPAN).then_some(*to)
                }));
                seen = run.sent.len();
                let mut distinct = of_round.clone();
                distinct.sort();
                distinct.dedup();
                assert!(of_round.len() <= ROUND_PACKETS as usize, "{} packets", of_round.len());
                assert!(distinct.len() <= MAX_CANDIDATES, "{} addresses", distinct.len());
                for one in &distinct {
                    let ports = distinct.iter().filter(|other| other.ip() == one.ip()).count();
                    assert!(ports <= PORTS_PER_IP, "{ports} ports of {}", one.ip());
                }
                full += usize::from(distinct.len() == MAX_CANDIDATES.min(PORTS_PER_IP * usize::from(ips)));
            }
            assert!(rounds > 20, "{rounds}");
            assert!(full > 0, "the bounds are reached with {ips} hosts");
        }
    }

    #[test]
    fn what_others_saw_is_tried_beside_twenty_that_the_peer_names() {
        let mut run = Run::new(hosts(20));
        let hinted = at("203.0.113.1:1");
        run.agent.hint(hinted);
        run.agent.begin(run.now, "test");
        run.run(Duration::from_secs(5));
        let counts = run.per_address();
        assert_eq!(counts.len(), MAX_CANDIDATES);
        assert!(counts.contains_key(&hinted));
    }

    #[test]
    fn a_relay_that_names_address_after_address_starts_nothing() {
        let mut run = Run::new(hosts(1));
        for port in 1..1000 {
            run.agent.hint(SocketAddr::new([203, 0, 113, 8].into(), port));
            run.run(Duration::from_millis(10));
        }
        assert!(run.sent.is_empty());
        run.agent.begin(run.now, "test");
        run.run(Duration::from_secs(5));
        let counts = run.per_address();
        assert_eq!(counts.len(), 1 + MAX_HINTS);
        assert!(counts.values().all(|count| *count <= CHECKS));
    }

    #[test]
    fn a_known_address_is_not_named_twice() {
        let mut run = Run::new(hosts(1));
        let known = run.agent.remotes[0].candidate.address;
        run.agent.hint(known);
        run.agent.on_heard(run.now, known);
        run.agent.on_announced(run.now, hosts(1));
        assert_eq!(run.agent.remotes.len(), 1);
    }
}
