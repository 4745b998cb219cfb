//! What this node sent to one peer, so that answers pass.
//!
//! ```text
//!               sent by this node                    received from the peer: passes, and becomes
//!  TCP          SYN                -> opening        anything              -> open (a SYN too: both may open at once)
//!               SYN ACK            -> theirs         nothing passes for its sake
//!               other, unknown     -> resumed *      all but a SYN         -> open
//!               FIN                -> closing        all but a SYN
//!               RST                -> closed         all but a SYN
//!  UDP                             -> asked          anything              -> answered
//!  ICMP         echo request       -> echo           echo reply
//!  other                           -> other          anything with these addresses
//! ```
//!
//! \* Where the rules let this node begin a connection to that port: else it is the peer's, and the mark about it was lost.
//!
//! FIN and RST of the peer lead to *closing* and *closed* as well. Each packet of either side makes a flow young again, but for one that
//! was reset. Lives: [`limits`](super::limits).
//!
//! Not remembered is what needs it not: where the rules let the answer in, and what goes to a group, since whoever answers does so
//! from an address that was not asked (as with nf_conntrack, mDNS and the like need rules in both directions). Of a TCP connection that
//! the rules let in only the SYN ACK is: as *theirs*, so that it is known whose it was when the rules change.
//!
//! The answer has to come from the peer that was asked. A station that moves from behind one peer to another is known there with the
//! next packet that goes to it.
//!
//! An ICMP error passes when the packet that it quotes is one whose answers pass, by the rules or by this memory, and the error goes
//! to where that came from. Without this no path MTU would be found (RFC 1191, RFC 8201).

use super::flow::{Flow, fragmented};
use super::limits::{FLOWS, FRAGMENTS};
use super::packet::{Content, Datagram, TcpFlags};
use super::table::{Found, State, Table};
use shadowmesh_proto::rules::Policy;
use std::hash::RandomState;
use std::sync::OnceLock;
use std::time::Instant;

/// See the module page. The outbound thread calls [`Self::note`], the inbound thread the others.
#[derive(Debug)]
pub(super) struct Memory {
    began: Instant,
    key: RandomState,
    flows: OnceLock<Table>,
    fragments: OnceLock<Table>,
}

impl Memory {
    /// Remembers nothing.
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, key: RandomState::new(), flows: OnceLock::new(), fragments: OnceLock::new() }
    }

    fn second(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.began).as_secs()).unwrap_or(u32::MAX)
    }

    /// Notes what goes to the peer.
    pub(super) fn note(&self, now: Instant, policy: &Policy, sent: &Datagram<'_>) {
        let is_let_in = policy.allows(sent.answer());
        let flags = if let Content::Tcp { flags, .. } = sent.content { Some(flags) } else { None };
        if sent.is_to_group || (is_let_in && !flags.is_some_and(TcpFlags::is_accepting)) {
            return;
        }
        let Some(flow) = Flow::sent(sent) else { return };
        let (fingerprint, second) = (flow.fingerprint(&self.key), self.second(now));
        let flows = self.flows.get_or_init(|| Table::new(FLOWS));
        let found = flows.find(fingerprint, second);
        let known = found.as_ref().map(|found| found.state);
        let state = match sent.content {
            Content::Tcp { flags, destination, .. } => sent_tcp(flags, known, policy.may_reach(destination)),
            Content::Udp { .. } if known == Some(State::UdpAnswered) => known,
            Content::Udp { .. } => Some(State::UdpAsked),
            Content::EchoRequest { .. } => Some(State::Echo),
            Content::EchoReply { .. }
            | Content::IcmpError { .. }
            | Content::NeighbourDiscovery
            | Content::Router
            | Content::Plain
            | Content::Unreadable => Some(State::Other),
        };
        match (state, found) {
            (Some(state), Some(found)) if state == found.state => found.see(second, state),
            (Some(state), _) => {
                flows.insert(fingerprint, second, state);
            }
            (None, _) => {}
        }
    }

    /// Whether what came in is an answer to what was sent. `is_lenient`: TCP of which nothing is known passes as well where this node
    /// may have begun it, but for what begins a connection.
    pub(super) fn answers(
        &self,
        now: Instant,
        policy: &Policy,
        received: &Datagram<'_>,
        is_lenient: bool,
    ) -> bool {
        let Some(flow) = Flow::received(received) else { return false };
        let second = self.second(now);
        let found = self.flows.get().and_then(|flows| flows.find(flow.fingerprint(&self.key), second));
        match (received.content, found) {
            (Content::Tcp { flags, source, .. }, None) => {
                is_lenient && !flags.is_opening() && policy.may_reach(source)
            }
            (Content::Tcp { flags, .. }, Some(found)) => {
                let next = received_tcp(flags, found.state);
                if let Some(next) = next.filter(|_| found.state != State::TcpClosed) {
                    found.see(second, next);
                }
                next.is_some()
            }
            (_, None) => false,
            (Content::Udp { .. }, Some(found)) => saw(&found, second, State::UdpAnswered),
            (Content::EchoReply { .. }, Some(_)) => true,
            (_, Some(found)) => saw(&found, second, State::Other),
        }
    }

    /// Whether an ICMP error that came in is about a packet of this node whose answers pass.
    pub(super) fn is_error_about_ours(&self, now: Instant, policy: &Policy, error: &Datagram<'_>) -> bool {
        let Content::IcmpError { quoted } = error.content else { return false };
        let Some(ours) = error.quoted(quoted) else { return false };
        if ours.addresses.source != error.addresses.destination {
            return false;
        }
        let is_known = || {
            let flow = Flow::sent(&ours)?;
            let found = self.flows.get()?.find(flow.fingerprint(&self.key), self.second(now))?;
            Some(found.state != State::TcpTheirs)
        };
        policy.allows(ours.answer()) || is_known().unwrap_or_default()
    }

    /// Notes that the first fragment of a packet passed.
    pub(super) fn note_fragment(&self, now: Instant, first: &Datagram<'_>, id: u32) {
        let fragments = self.fragments.get_or_init(|| Table::new(FRAGMENTS));
        fragments.insert(fragmented(first, id, &self.key), self.second(now), State::Fragment);
    }

    /// Whether the first fragment of a packet passed.
    pub(super) fn knows_fragment(&self, now: Instant, later: &Datagram<'_>, id: u32) -> bool {
        let name = fragmented(later, id, &self.key);
        self.fragments.get().is_some_and(|fragments| fragments.find(name, self.second(now)).is_some())
    }
}

fn saw(found: &Found<'_>, second: u32, state: State) -> bool {
    found.see(second, state);
    true
}

/// What a connection is when this node sent in it; `may_be_ours` if it may have begun it. `None`: nothing is to be remembered.
fn sent_tcp(flags: TcpFlags, known: Option<State>, may_be_ours: bool) -> Option<State> {
    use State::{TcpClosed, TcpClosing, TcpOpening, TcpResumed, TcpTheirs};
    match known {
        _ if flags.is_opening() => Some(TcpOpening),
        // Both opened at once: still ours.
        Some(TcpOpening) if flags.is_accepting() => known,
        _ if flags.is_accepting() => Some(TcpTheirs),
        Some(TcpTheirs) => known,
        None if !may_be_ours => None,
        None | Some(TcpClosed) if flags.is_reset() => None,
        Some(_) if flags.is_reset() => Some(TcpClosed),
        _ if flags.is_fin() => Some(TcpClosing),
        // A reset that its receiver did not believe, for who is reset says no more.
        None | Some(TcpClosed) => Some(TcpResumed),
        Some(_) => known,
    }
}

/// What a connection becomes by what the peer sent in it. `None`: it does not pass.
fn received_tcp(flags: TcpFlags, known: State) -> Option<State> {
    use State::{TcpClosed, TcpClosing, TcpOpen, TcpOpening, TcpTheirs};
    match known {
        TcpTheirs => None,
        TcpOpening if flags.is_opening() => Some(TcpOpening),
        _ if flags.is_opening() => None,
        _ if flags.is_reset() => Some(TcpClosed),
        _ if flags.is_fin() => Some(TcpClosing),
        TcpClosing => Some(TcpClosing),
        State::TcpOpening
        | State::TcpResumed
        | State::TcpOpen
        | State::TcpClosed
        | State::UdpAsked
        | State::UdpAnswered
        | State::Echo
        | State::Other
        | State::Fragment => Some(TcpOpen),
    }
}
