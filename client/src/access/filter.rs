//! The judge of what comes in, and the note-taker of what goes out: immutable, in the published picture.

use super::memory::Memory;
use super::packet::{Content, Datagram, Packet, Part, TCP_HEADER};
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::rules::{Policy, Traffic};
use std::sync::Arc;
use std::time::Instant;

/// What becomes of a frame from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is let in.
    Pass,
    /// It is not.
    Drop(AccessDrop),
}

/// Why a frame of a peer is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccessDrop {
    /// Nobody has said yet who the peer is.
    UnknownPeer,
    /// It cannot be read, or contradicts itself.
    Malformed,
    /// A later fragment, and the first did not pass, or not lately; or it reaches into a header that was judged.
    Fragment,
    /// ARP or neighbour discovery from a member that this node exchanges nothing with.
    Stranger,
    /// No rule allows it, and it answers nothing that was sent.
    NotAllowed,
}

impl AccessDrop {
    /// Every reason, in the order of its number: `reason as usize` is its place.
    pub const ALL: [Self; 5] =
        [Self::UnknownPeer, Self::Malformed, Self::Fragment, Self::Stranger, Self::NotAllowed];

    /// Its name in `status --json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownPeer => "access_unknown_peer",
            Self::Malformed => "access_malformed",
            Self::Fragment => "access_fragment",
            Self::Stranger => "access_stranger",
            Self::NotAllowed => "access_not_allowed",
        }
    }
}

impl std::fmt::Display for AccessDrop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// See the module page. Made by [`super::Access::filter`].
#[derive(Debug, Clone)]
pub struct Filter {
    /// By slot.
    peers: Box<[Standing]>,
}

/// How a peer stands.
#[derive(Debug, Clone, Default)]
pub(super) enum Standing {
    /// Nobody told.
    #[default]
    Unknown,
    /// Everything that it sends is let in.
    Open,
    /// It is judged.
    Restricted(Arc<Guard>),
}

/// What is needed to judge one peer.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) policy: Policy,
    pub(super) memory: Arc<Memory>,
    /// Until when TCP of which nothing is remembered may pass.
    pub(super) lenient_until: Instant,
}

impl Filter {
    pub(super) fn new(peers: impl IntoIterator<Item = Standing>) -> Self {
        Self { peers: peers.into_iter().collect() }
    }

    /// Decides about a frame that came from `peer`. For the inbound thread.
    pub fn judge(&self, now: Instant, peer: PeerSlot, frame: &[u8]) -> Verdict {
        match self.standing(peer) {
            Standing::Unknown => Verdict::Drop(AccessDrop::UnknownPeer),
            Standing::Open => Verdict::Pass,
            Standing::Restricted(guard) => match guard.judge(now, &Packet::read(frame)) {
                None => Verdict::Pass,
                Some(reason) => Verdict::Drop(reason),
            },
        }
    }

    /// Notes a frame that goes to `peer`, alone or among others. For the outbound thread.
    pub fn note(&self, now: Instant, peer: PeerSlot, frame: &[u8]) {
        if let Standing::Restricted(guard) = self.standing(peer) {
            guard.note(now, &Packet::read(frame));
        }
    }

    fn standing(&self, peer: PeerSlot) -> &Standing {
        let at = usize::try_from(peer.0).ok();
        at.and_then(|at| self.peers.get(at)).unwrap_or(&Standing::Unknown)
    }
}

impl Guard {
    fn note(&self, now: Instant, packet: &Packet<'_>) {
        match packet {
            Packet::Ip(datagram) => self.memory.note(now, &self.policy, datagram),
            Packet::Arp | Packet::Topology(_) | Packet::Other(_) | Packet::Malformed => {}
        }
    }

    /// Why it is not let in, if it is not.
    fn judge(&self, now: Instant, packet: &Packet<'_>) -> Option<AccessDrop> {
        let (traffic, otherwise) = match packet {
            Packet::Malformed => return Some(AccessDrop::Malformed),
            Packet::Ip(datagram) => return self.judge_ip(now, datagram),
            Packet::Arp => (Traffic::Arp, AccessDrop::Stranger),
            Packet::Topology(ethertype) => {
                (Traffic::Topology { ethertype: *ethertype }, AccessDrop::NotAllowed)
            }
            Packet::Other(ethertype) => (Traffic::Other { ethertype: *ethertype }, AccessDrop::NotAllowed),
        };
        (!self.policy.allows(traffic)).then_some(otherwise)
    }

    fn judge_ip(&self, now: Instant, datagram: &Datagram<'_>) -> Option<AccessDrop> {
        let is_all_allowed = || self.policy.allows(Traffic::Ip { protocol: datagram.protocol });
        let first = match datagram.part {
            Part::Whole => None,
            Part::First { id } => Some(id),
            Part::Later { id, offset } => {
                // Whatever it calls itself: in IPv6 a later fragment's protocol counts for nobody (RFC 8200 §4.5).
                let spares_header = usize::from(offset) >= TCP_HEADER;
                let may_pass =
                    spares_header && (is_all_allowed() || self.memory.knows_fragment(now, datagram, id));
                return (!may_pass).then_some(AccessDrop::Fragment);
            }
        };
        let otherwise = match datagram.content {
            Content::Unreadable => return Some(AccessDrop::Malformed),
            Content::NeighbourDiscovery => AccessDrop::Stranger,
            Content::Tcp { .. }
            | Content::Udp { .. }
            | Content::EchoRequest { .. }
            | Content::EchoReply { .. }
            | Content::IcmpError { .. }
            | Content::Router
            | Content::Plain => AccessDrop::NotAllowed,
        };
        let may_pass = self.policy.allows(datagram.traffic())
            || self.memory.answers(now, &self.policy, datagram, now < self.lenient_until)
            || self.memory.is_error_about_ours(now, &self.policy, datagram);
        if let Some(id) = first
            && may_pass
            && !is_all_allowed()
        {
            self.memory.note_fragment(now, datagram, id);
        }
        (!may_pass).then_some(otherwise)
    }
}
