//! What the two halves of the switch tell each other. Every message is small and copied; one that is lost is said again
//! when it is due again.

use super::frame::Station;
use super::guard::Message;
use super::packet::membership::Query;
use shadowmesh_proto::ids::{MacAddr, PeerSlot};
use std::time::Instant;

/// For the outbound half: what peers sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Where a station is.
    Station(Learn),
    /// What groups are wanted where.
    Listener(ListenerNews),
    /// What another node says of a loop.
    Guard(GuardNews),
}

impl News {
    /// Whether it is to be looked at now, and not when the thread is awake anyway: what is about loops.
    pub const fn is_urgent(&self) -> bool {
        match self {
            Self::Station(learn) => learn.was_local,
            Self::Listener(_) => false,
            Self::Guard(_) => true,
        }
    }
}

/// `station` speaks from behind `slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learn {
    /// Who spoke.
    pub station: Station,
    /// From where.
    pub slot: PeerSlot,
    /// Whether it was behind our own device until now.
    pub was_local: bool,
}

/// What was heard from behind a peer about groups in a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerNews {
    pub(super) slot: PeerSlot,
    pub(super) vlan: u16,
    pub(super) said: Said,
}

/// What it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Who is in which group?
    Asks(Query),
    /// I am a router.
    Routes,
    /// I want this group's frames.
    Wants(MacAddr),
    /// I want them no more.
    Leaves(MacAddr),
}

/// What a peer's guard said to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardNews {
    pub(super) slot: PeerSlot,
    pub(super) message: Message,
}

/// For the inbound half: what our own device sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalNews {
    /// This station is behind our own device.
    Station(Station),
    /// It flaps between here and a peer, and is held to be here until then.
    Held(Station, Instant),
    /// A router, or a switch that asks for it, is behind our own device: until then it wants to hear reports.
    Asks(Instant),
}
