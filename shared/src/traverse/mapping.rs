//! How this node's UDP socket looks from outside, asked of a relay's STUN (protocol §3.8; RFC 8489, RFC 5780).
//!
//! The question goes out from the socket that data uses, or the answer would be about another mapping. Both ports of the relay
//! are asked once a registration: two answers that differ tell a mapping that depends on the destination (RFC 4787 §4.1), through
//! which nobody can be invited. After that the first port is asked now and then, because a mapping changes without a word. First is the
//! one that the stream came to, as the nonce in its answer tells, whatever order the relay names them in.
//!
//! A relay that has an address of the other family is asked there as well: a host whose stream runs over IPv6 may be behind a NAT
//! for IPv4, and its peer may have nothing else. That answer is a candidate and nothing more: what comes over the other
//! family moves nothing that the relay knows of this node.
//!
//! UDP loses packets: a question is repeated with growing pauses, then given up until the next time.

use super::candidate::canonical;
use crate::rng::Rng;
use crate::time::Deadline;
use crate::wire::relayed::Nonce;
use crate::wire::stun::{BindingRequest, BindingResponse, TOKEN_LEN, TransactionId};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Most STUN ports of one relay that are asked, whatever it names.
const MAX_PORTS: usize = 2;
/// Pauses after each question (RFC 8489 §6.2.1 begins with 500 ms and doubles).
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// A mapping is looked at again after this: below the 30 s after which the meanest NATs forget one.
pub const REFRESH: Duration = Duration::from_secs(25);

/// What was asked of one STUN port.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    /// The question under way and how often it was asked.
    pending: Option<(TransactionId, usize)>,
    next: Option<Instant>,
    mapped: Option<SocketAddr>,
    /// Whether it was given up at least once without ever an answer.
    is_silent: bool,
    /// Whether it is asked again each [`REFRESH`].
    is_refreshed: bool,
}

/// How a NAT maps one socket (RFC 4787 §4.1), as far as two answers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingBehaviour {
    /// The same address towards both: others can be invited to it.
    EndpointIndependent,
    /// Another one towards each destination ("symmetric").
    EndpointDependent,
}

/// The questions to one relay.
#[derive(Debug)]
pub struct Mapping {
    token: [u8; TOKEN_LEN],
    servers: Vec<Server>,
    /// At the relay's address of the other family.
    other: Option<Server>,
    /// Which port is the first is settled: a nonce came from it.
    is_settled: bool,
}

impl Server {
    fn new(now: Instant, address: SocketAddr, is_refreshed: bool) -> Self {
        let address = canonical(address);
        Self { address, pending: None, next: Some(now), mapped: None, is_silent: false, is_refreshed }
    }

    fn refresh(&self, now: Instant) -> Option<Instant> {
        self.is_refreshed.then_some(now + REFRESH)
    }

    /// The next question, unless it was asked often enough.
    fn ask(&mut self, now: Instant, token: [u8; TOKEN_LEN], rng: &mut dyn Rng) -> Option<Vec<u8>> {
        let (transaction, asked) = self.pending.get_or_insert_with(|| {
            let mut transaction = TransactionId::default();
            rng.fill(&mut transaction);
            (transaction, 0)
        });
        let pause = PAUSES.get(*asked)?;
        *asked += 1;
        self.next = Some(now + *pause);
        Some(BindingRequest { transaction: *transaction, token }.encode())
    }

    /// Until the next time what was known is no longer known.
    fn give_up(&mut self, now: Instant) {
        (self.pending, self.mapped, self.is_silent, self.next) = (None, None, true, self.refresh(now));
    }

    /// Whether that answers what was asked here.
    fn take(&mut self, now: Instant, response: &BindingResponse) -> bool {
        let is_asked = self.pending.is_some_and(|(transaction, _)| transaction == response.transaction);
        if is_asked {
            (self.pending, self.is_silent, self.next) = (None, false, self.refresh(now));
            self.mapped = Some(canonical(response.mapped));
        }
        is_asked
    }
}

impl Mapping {
    /// Asks `ports` of `relay` as soon as polled.
    pub fn new(now: Instant, relay: IpAddr, ports: &[u16], token: [u8; TOKEN_LEN]) -> Self {
        let ports = ports.iter().filter(|port| **port != 0).take(MAX_PORTS);
        let servers = ports.zip([true, false]);
        let servers =
            servers.map(|(port, is_first)| Server::new(now, SocketAddr::new(relay, *port), is_first));
        Self { token, servers: servers.collect(), other: None, is_settled: false }
    }

    /// The relay has that address as well, of the other family.
    pub fn set_other_family(&mut self, now: Instant, relay: IpAddr) {
        let first = self.servers.first().map(|server| server.address);
        let port = self.servers.last().map(|server| server.address.port());
        let is_other =
            first.is_some_and(|first| first.is_ipv4() != canonical(SocketAddr::new(relay, 0)).is_ipv4());
        self.other =
            port.filter(|_| is_other).map(|port| Server::new(now, SocketAddr::new(relay, port), true));
    }

    /// Where the relay's address of the other family sees the socket.
    pub fn mapped_other(&self) -> Option<SocketAddr> {
        self.other.as_ref()?.mapped
    }

    /// Every address that is asked: answers come from nowhere else.
    pub fn asked(&self) -> impl Iterator<Item = SocketAddr> + Clone {
        self.servers.iter().chain(&self.other).map(|server| server.address)
    }

    /// The relay's first port.
    pub fn first_port(&self) -> Option<SocketAddr> {
        Some(self.servers.first()?.address)
    }

    /// Where the relay's first port sees the socket.
    pub fn mapped(&self) -> Option<SocketAddr> {
        self.servers.first()?.mapped
    }

    /// What two answers tell; `None` before there are two.
    pub fn behaviour(&self) -> Option<MappingBehaviour> {
        let mut mapped = self.servers.iter().map(|server| server.mapped);
        match (mapped.next()??, mapped.next()??) {
            (first, second) if first == second => Some(MappingBehaviour::EndpointIndependent),
            (_, _) => Some(MappingBehaviour::EndpointDependent),
        }
    }

    /// Whether UDP works to the relay: `None` while that is being found out.
    pub fn udp_works(&self) -> Option<bool> {
        if self.servers.iter().any(|server| server.mapped.is_some()) {
            return Some(true);
        }
        self.servers.iter().all(|server| server.is_silent).then_some(false)
    }

    /// The network changed: look at once.
    pub fn hurry(&mut self, now: Instant) {
        for server in self.servers.iter_mut().chain(&mut self.other) {
            (server.pending, server.next) = (None, Some(now));
        }
    }

    /// The next question to send, and to whom.
    pub fn poll_request(&mut self, now: Instant, rng: &mut dyn Rng) -> Option<(SocketAddr, Vec<u8>)> {
        let (first, mut is_first_lost) = (self.first_port(), false);
        let all = self.servers.iter_mut().chain(&mut self.other);
        for server in all.filter(|server| server.next.is_some_and(|next| next <= now)) {
            if let Some(request) = server.ask(now, self.token, rng) {
                return Some((server.address, request));
            }
            server.give_up(now);
            is_first_lost |= first == Some(server.address);
        }
        // UDP may be blocked since the second port answered.
        let second = self.servers.get(1).and_then(|second| second.mapped);
        if !is_first_lost || second.is_none() {
            return None;
        }
        self.ask_second_anew(now);
        self.poll_request(now, rng)
    }

    /// What the second port saw is about a mapping that there may be no more.
    fn ask_second_anew(&mut self, now: Instant) {
        for server in self.servers.iter_mut().skip(1) {
            (server.pending, server.next, server.mapped) = (None, Some(now), None);
        }
    }

    /// A datagram that may be an answer came from `from`: whether it was one, and what the first port sees changed by it.
    pub fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<Answered> {
        let response = BindingResponse::parse(datagram).ok()?;
        let before = self.mapped();
        if let Some(other) = self.other.as_mut().filter(|other| other.address == from) {
            let before = other.mapped;
            let is_answer = other.take(now, &response);
            return is_answer.then_some(Answered { moved: before != other.mapped, nonce: None });
        }
        let at = self.servers.iter().position(|server| server.address == from)?;
        if !self.servers.get_mut(at)?.take(now, &response) {
            return None;
        }
        // Once: ports that take turns would be asked without a pause, and peers be told of each turn.
        if response.nonce.is_some() && !std::mem::replace(&mut self.is_settled, true) {
            self.put_first(now, at);
        }
        let is_first = self.first_port() == Some(from);
        let moved = is_first && before != self.mapped();
        if moved && before.is_some() {
            // Another NAT, or the same with another mind: the second port tells which kind.
            self.ask_second_anew(now);
        }
        // Only the first port's is of use: that is from where datagrams are passed on.
        Some(Answered { moved, nonce: response.nonce.filter(|_| is_first) })
    }

    /// The relay's first port is the one that this node's stream came to: from there datagrams are passed on (protocol §3.9).
    fn put_first(&mut self, now: Instant, at: usize) {
        if at == 0 {
            return;
        }
        self.servers.swap(0, at);
        for (at, server) in self.servers.iter_mut().enumerate() {
            server.is_refreshed = at == 0;
            if server.pending.is_none() {
                server.next = server.refresh(now);
            }
        }
    }

    /// When [`Self::poll_request`] has something.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let next = self.servers.iter().chain(&self.other).filter_map(|server| server.next).min()?;
        Some(Deadline::new(next, "ask a relay's STUN"))
    }
}

/// An answer was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Whether the socket is seen elsewhere than before.
    pub moved: bool,
    /// What shows to the relay that this node receives there (protocol §3.9).
    pub nonce: Option<Nonce>,
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
mod tests {
    use super::*;
    use crate::rng::SeededRng;

    const TOKEN: [u8; TOKEN_LEN] = [7; TOKEN_LEN];

    struct Run {
        now: Instant,
        rng: SeededRng,
        mapping: Mapping,
    }

    impl Run {
        fn new() -> Self {
            let now = Instant::now();
            let mapping = Mapping::new(now, [198, 51, 100, 2].into(), &[8443, 8444], TOKEN);
            Self { now, rng: SeededRng::new(3), mapping }
        }

        fn requests(&mut self) -> Vec<(SocketAddr, BindingRequest)> {
            let mut all = vec![];
            while let Some((to, datagram)) = self.mapping.poll_request(self.now, &mut self.rng) {
                all.push((to, BindingRequest::parse(&datagram).unwrap()));
            }
            all
        }

        fn answer(&mut self, from: SocketAddr, request: &BindingRequest, mapped: &str) -> Option<Answered> {
            let response = BindingResponse {
                transaction: request.transaction,
                mapped: mapped.parse().unwrap(),
                nonce: None,
            };
            self.mapping.handle(self.now, from, &response.encode())
        }
    }

    #[test]
    fn the_relays_address_of_the_other_family_gives_a_candidate_and_nothing_else() {
        let mut run = Run::new();
        run.mapping.set_other_family(run.now, "2001:db8::2".parse().unwrap());
        let asked = run.requests();
        let to: Vec<_> = asked.iter().map(|(to, _)| to.to_string()).collect();
        assert_eq!(to, ["198.51.100.2:8443", "198.51.100.2:8444", "[2001:db8::2]:8444"]);
        let (other, request) = &asked[2];
        let response = BindingResponse {
            transaction: request.transaction,
            mapped: "[2001:db8:9::9]:5".parse().unwrap(),
            nonce: Some([1; 8]),
        };
        let answered = run.mapping.handle(run.now, *other, &response.encode()).unwrap();
        assert_eq!(answered, Answered { moved: true, nonce: None });
        assert_eq!((run.mapping.mapped(), run.mapping.behaviour()), (None, None));
        assert_eq!(run.mapping.mapped_other(), Some("[2001:db8:9::9]:5".parse().unwrap()));
        // It is asked again, and forgotten when it is silent.
        run.now += REFRESH;
        let mut asked = 0;
        for _ in 0..20 {
            asked += run.requests().iter().filter(|(to, _)| to == other).count();
            run.now += Duration::from_secs(1);
        }
        assert_eq!((asked, run.mapping.mapped_other()), (PAUSES.len(), None));
        // One of the same family is none.
        run.mapping.set_other_family(run.now, [192, 0, 2, 9].into());
        assert!(run.mapping.other.is_none());
    }

    #[test]
    fn two_answers_that_agree_tell_a_mapping_that_can_be_invited_to() {
        let mut run = Run::new();
        let requests = run.requests();
        assert_eq!(requests.iter().map(|(to, _)| to.port()).collect::<Vec<_>>(), [8443, 8444]);
        assert!(requests.iter().all(|(_, request)| request.token == TOKEN));
        assert_eq!(
            run.answer(requests[0].0, &requests[0].1, "203.0.113.1:5"),
            Some(Answered { moved: true, nonce: None })
        );
        assert_eq!(run.mapping.behaviour(), None);
        assert_eq!(
            run.answer(requests[1].0, &requests[1].1, "203.0.113.1:5"),
            Some(Answered { moved: false, nonce: None })
        );
        assert_eq!(run.mapping.behaviour(), Some(MappingBehaviour::EndpointIndependent));
        assert_eq!(run.mapping.mapped(), Some("203.0.113.1:5".parse().unwrap()));
        assert_eq!(run.mapping.udp_works(), Some(true));
    }

    #[test]
    fn the_port_that_gives_a_nonce_is_the_first_one_from_then_on() {
        let mut run = Run::new();
        let requests = run.requests();
        run.answer(requests[0].0, &requests[0].1, "203.0.113.1:5");
        let (second, request) = &requests[1];
        let response = BindingResponse {
            transaction: request.transaction,
            mapped: "203.0.113.1:6".parse().unwrap(),
            nonce: Some([1; 8]),
        };
        let answered = run.mapping.handle(run.now, *second, &response.encode());
        assert_eq!(answered, Some(Answered { moved: true, nonce: Some([1; 8]) }));
        assert_eq!(run.mapping.first_port(), Some(*second));
        assert_eq!(run.mapping.mapped(), Some("203.0.113.1:6".parse().unwrap()));
        // The other one is asked once more, for what kind of NAT it is, and then only this one.
        let again = run.requests();
        assert_eq!(again.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [requests[0].0]);
        run.answer(again[0].0, &again[0].1, "203.0.113.1:5");
        assert_eq!(run.mapping.behaviour(), Some(MappingBehaviour::EndpointDependent));
        for _ in 0..3 {
            run.now += REFRESH;
            let asked = run.requests();
            assert_eq!(asked.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [*second]);
            run.answer(asked[0].0, &asked[0].1, "203.0.113.1:6");
        }
    }

    #[test]
    fn ports_that_take_turns_at_being_the_first_are_asked_no_more_often() {
        let mut run = Run::new();
        let (mut asked, end) = (0, run.now + Duration::from_secs(10));
        while run.now < end {
            for (at, (from, request)) in run.requests().iter().enumerate() {
                asked += 1;
                let mapped = SocketAddr::from(([203, 0, 113, 1], 1000 + asked + u16::try_from(at).unwrap()));
                let response =
                    BindingResponse { transaction: request.transaction, mapped, nonce: Some([1; 8]) };
                run.now += Duration::from_millis(1);
                let answered = run.mapping.handle(run.now, *from, &response.encode()).unwrap();
                assert_eq!(answered.nonce.is_some(), Some(*from) == run.mapping.first_port());
            }
            run.now += Duration::from_millis(1);
        }
        assert!(asked <= 4, "{asked}");
    }

    #[test]
    fn udp_that_worked_and_is_blocked_since_is_found_out() {
        let mut run = Run::new();
        for (from, request) in run.requests() {
            run.answer(from, &request, "203.0.113.1:5");
        }
        assert_eq!(run.mapping.udp_works(), Some(true));
        let began = run.now;
        while run.mapping.udp_works() != Some(false) {
            run.now = run.mapping.poll_timeout().unwrap().at;
            run.requests();
            assert!(run.now < began + REFRESH + Duration::from_secs(16), "{:?}", run.mapping);
        }
        assert_eq!((run.mapping.mapped(), run.mapping.behaviour()), (None, None));
        // From then on the first port is asked now and then, and the second only when that answers.
        run.now += REFRESH;
        assert_eq!(run.requests().len(), 1);
    }

    #[test]
    fn two_answers_that_differ_tell_a_symmetric_nat() {
        let mut run = Run::new();
        let requests = run.requests();
        run.answer(requests[0].0, &requests[0].1, "203.0.113.1:5");
        run.answer(requests[1].0, &requests[1].1, "203.0.113.1:6");
        assert_eq!(run.mapping.behaviour(), Some(MappingBehaviour::EndpointDependent));
    }

    #[test]
    fn only_the_answer_to_the_question_from_whom_it_was_asked_counts() {
        let mut run = Run::new();
        let requests = run.requests();
        let (to, request) = requests[0];
        assert_eq!(run.answer("192.0.2.66:8443".parse().unwrap(), &request, "203.0.113.1:5"), None);
        let forged = BindingRequest { transaction: [0; 12], ..request };
        assert_eq!(run.answer(to, &forged, "203.0.113.1:5"), None);
        assert_eq!(run.mapping.handle(run.now, to, b"no STUN at all"), None);
        assert_eq!(run.mapping.mapped(), None);
        assert!(run.answer(to, &request, "203.0.113.1:5").is_some());
        assert_eq!(run.answer(to, &request, "203.0.113.1:9"), None, "once");
    }

    #[test]
    fn a_question_that_is_lost_is_repeated_and_given_up_in_the_end() {
        let mut run = Run::new();
        let (began, mut sent) = (run.now, 0);
        loop {
            sent += run.requests().len();
            if run.mapping.udp_works().is_some() {
                break;
            }
            run.now = run.now.max(run.mapping.poll_timeout().unwrap().at);
        }
        assert_eq!(sent, 2 * PAUSES.len());
        assert_eq!(run.now - began, PAUSES.iter().sum());
        assert_eq!(run.mapping.udp_works(), Some(false));
        run.now += REFRESH;
        let requests = run.requests();
        assert_eq!(requests.len(), 1, "the first port is asked again");
        assert_eq!(
            run.answer(requests[0].0, &requests[0].1, "203.0.113.1:5"),
            Some(Answered { moved: true, nonce: None })
        );
        assert_eq!(run.mapping.udp_works(), Some(true));
    }

    #[test]
    fn a_mapping_that_moved_is_noticed_at_the_next_look() {
        let mut run = Run::new();
        let requests = run.requests();
        run.answer(requests[0].0, &requests[0].1, "203.0.113.1:5");
        run.answer(requests[1].0, &requests[1].1, "203.0.113.1:5");
        assert!(run.requests().is_empty());
        run.now += REFRESH;
        let requests = run.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!(
            run.answer(requests[0].0, &requests[0].1, "203.0.113.1:7"),
            Some(Answered { moved: true, nonce: None })
        );
        assert_eq!(run.mapping.behaviour(), None, "the second port is asked anew");
        assert_eq!(run.requests().len(), 1);
        run.mapping.hurry(run.now);
        assert_eq!(run.requests().len(), 2);
    }

    #[test]
    fn a_relay_that_names_a_thousand_ports_is_asked_at_two() {
        let ports: Vec<u16> = (0..1000).collect();
        let mut run = Run::new();
        run.mapping = Mapping::new(run.now, [198, 51, 100, 2].into(), &ports, TOKEN);
        assert_eq!(run.requests().len(), MAX_PORTS);
    }
}
