//! What the rules say for one pair: one member as the source, this node as the destination.
//!
//! The rules that concern the pair are boiled down, when they change, to the set of traffic that they allow: bits for protocols, sorted
//! ranges for ports and types. So a packet costs a look at a few bits, or a binary search, however many rules there are, and whether
//! anything is restricted at all is a comparison.

use super::Rules;
use super::scope::{Decided, ICMPV6, Scope, Undecided};
use super::selector::{Named, Rights, Subject};
use super::statement::Action;

/// What is judged of a packet that came from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// ARP.
    Arp,
    /// ICMPv6 133, 135 or 136, whole.
    NeighbourDiscovery,
    /// ICMPv6 134 or 137, whole.
    Router,
    /// TCP.
    Tcp {
        /// The destination port.
        port: u16,
    },
    /// UDP.
    Udp {
        /// The source port.
        source: u16,
        /// The destination port.
        port: u16,
    },
    /// Another protocol of IPv4 or IPv6, or TCP or UDP of which the ports are not known: those pass where every port would.
    Ip {
        /// Its number.
        protocol: u8,
    },
    /// A BPDU or LLDP, with its ethertype or length.
    Topology {
        /// What stands in its place.
        ethertype: u16,
    },
    /// Any other frame, with its ethertype or length (IEEE 802.3).
    Other {
        /// What stands in its place.
        ethertype: u16,
    },
}

/// See the module page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    allowed: Scope,
    /// Whether the two may exchange anything, in either direction.
    are_related: bool,
    /// Of the source.
    rights: Rights,
    /// Whether this node answers DHCP.
    is_dhcp_here: bool,
    /// What this node may begin towards the source.
    back: Scope,
}

/// Client and server port of DHCP (RFC 2131 §4.1) and DHCPv6 (RFC 8415 §7.2).
const DHCP: [(u16, u16); 2] = [(68, 67), (546, 547)];

impl Policy {
    /// What `rules` say about traffic from `source` to `here`.
    pub fn new(rules: &Rules, source: &Subject, here: &Subject) -> Self {
        let rights = rules.rights(source);
        let is_dhcp_here = rules.rights(here).dhcp;
        let (from, to) = (source.named(), here.named());
        let (allowed, back) = (allowed(rules, &from, &to), allowed(rules, &to, &from));
        let are_related = rights.dhcp || is_dhcp_here || !allowed.is_empty() || !back.is_empty();
        Self { allowed, are_related, rights, is_dhcp_here, back }
    }

    /// Whether nothing that the source sends is denied, so that nothing has to be judged.
    pub fn is_unrestricted(&self) -> bool {
        self.allowed == Scope::everything()
    }

    /// Whether a packet of the source that begins something may pass.
    pub fn allows(&self, traffic: Traffic) -> bool {
        match traffic {
            Traffic::Arp | Traffic::NeighbourDiscovery => self.are_related,
            Traffic::Router => self.rights.dhcp || self.allowed.has_protocol(ICMPV6),
            Traffic::Tcp { port } => self.allowed.has_tcp(port),
            Traffic::Udp { source, port } => self.allowed.has_udp(port) || self.is_dhcp(source, port),
            Traffic::Ip { protocol } => self.allowed.has_protocol(protocol),
            Traffic::Topology { ethertype } => self.rights.stp || self.allowed.has_type(ethertype),
            Traffic::Other { ethertype } => self.allowed.has_type(ethertype),
        }
    }

    /// Whether this node may begin a connection to that port of the source, so that it may have begun one of which nobody remembers
    /// who did.
    pub fn may_reach(&self, port: u16) -> bool {
        self.back.has_tcp(port)
    }

    fn is_dhcp(&self, source: u16, port: u16) -> bool {
        let is_answer = || DHCP.iter().any(|(client, server)| (*server, *client) == (source, port));
        let is_question = || DHCP.contains(&(source, port));
        (self.rights.dhcp && is_answer()) || (self.is_dhcp_here && is_question())
    }
}

/// What is allowed from one to the other.
fn allowed(rules: &Rules, from: &Named<'_>, to: &Named<'_>) -> Scope {
    if rules.is_empty() {
        return Scope::everything();
    }
    let mut left = Undecided::of(&Scope::everything());
    let (mut allowed, mut denied) = (Decided::default(), Decided::default());
    for rule in rules.rules.iter().filter(|rule| rule.is_about(from, to)) {
        let decided = match rule.action {
            Action::Allow => &mut allowed,
            Action::Deny => &mut denied,
        };
        left.decide(&Scope::of(&rule.what), decided);
        if left.is_empty() {
            break;
        }
    }
    allowed.into()
}
