//! The data keys of a session on their way to the data plane (protocol §4.7, §8.5).
//!
//! ```text
//!   kept --open--> receiving --start--> both
//!                      |                 |
//!                      +----take back----+--> withdrawn
//! ```
//!
//! Without certificates the data plane gets them with the session. With certificates it gets the receive keys when the peer is
//! admitted, and the send key when both are; rekeys meanwhile change what is kept. What was taken back is not given again: counters
//! would run twice. A peer that is admitted again begins another session. The data plane is who reads datagrams, and tells by the index of a
//! key whose they are: that it keeps until the session ends, or who was revoked could ask for nothing, and would not hear why.

use crate::endpoint::event::Event;
use crate::endpoint::outbox::Outbox;
use crate::ids::{AssociationId, PeerSlot, ReceiverIndex};
use crate::session::key::{OpenKey, OpenKeys, SealKey};
use std::time::Instant;

/// What the data plane has.
#[derive(Debug)]
enum Given {
    /// Nothing yet.
    Kept { open: OpenKeys, seal: SealKey },
    /// What opens.
    Receiving { seal: SealKey },
    /// Everything.
    Both,
    /// Indices alone.
    Withdrawn,
}

/// The data keys of one association.
#[derive(Debug)]
pub(super) struct DataKeys {
    association: AssociationId,
    given: Given,
}

impl DataKeys {
    pub(super) fn new(association: AssociationId, key: OpenKey, seal: SealKey) -> Self {
        let mut open = OpenKeys::new();
        open.install(key);
        Self { association, given: Given::Kept { open, seal } }
    }

    /// Whether the data plane has, or had, any of them.
    pub(super) const fn is_kept(&self) -> bool {
        matches!(self.given, Given::Kept { .. })
    }

    /// Whether the data plane opens with them.
    pub(super) const fn is_receiving(&self) -> bool {
        matches!(self.given, Given::Receiving { .. } | Given::Both)
    }

    /// The peer's frames may be opened from now on.
    pub(super) fn open(&mut self, slot: PeerSlot, out: &mut Outbox) {
        match std::mem::replace(&mut self.given, Given::Withdrawn) {
            Given::Kept { open, seal } => {
                let association = self.association;
                for (at, key) in open.into_keys().enumerate() {
                    out.event(if at == 0 {
                        Event::OpenAssociation { slot, association, key }
                    } else {
                        Event::AddOpenKey { association, key }
                    });
                }
                self.given = Given::Receiving { seal };
            }
            other @ (Given::Receiving { .. } | Given::Both | Given::Withdrawn) => self.given = other,
        }
    }

    /// Frames may be sent from now on, and opened.
    pub(super) fn start(&mut self, slot: PeerSlot, out: &mut Outbox) {
        self.open(slot, out);
        match std::mem::replace(&mut self.given, Given::Withdrawn) {
            Given::Receiving { seal } => {
                out.event(Event::StartAssociation { slot, association: self.association, key: seal });
                self.given = Given::Both;
            }
            other @ (Given::Kept { .. } | Given::Both | Given::Withdrawn) => self.given = other,
        }
    }

    /// The data plane loses them, for good, and is left with their indices.
    pub(super) fn take_back(&mut self, out: &mut Outbox) {
        if self.is_receiving() {
            out.event(Event::ShutAssociation { association: self.association });
            self.given = Given::Withdrawn;
        }
    }

    /// The data plane forgets all of it.
    pub(super) fn close(&self, out: &mut Outbox) {
        if !self.is_kept() {
            out.event(Event::CloseAssociation { association: self.association });
        }
    }

    /// A rekey: one more that opens.
    pub(super) fn add_open(&mut self, key: OpenKey, out: &mut Outbox) {
        match &mut self.given {
            Given::Kept { open, .. } => {
                open.install(key);
            }
            Given::Receiving { .. } | Given::Both | Given::Withdrawn => {
                out.event(Event::AddOpenKey { association: self.association, key });
            }
        }
    }

    /// A rekey: what seals from now on.
    pub(super) fn switch(&mut self, key: SealKey, slot: PeerSlot, out: &mut Outbox) {
        match &mut self.given {
            Given::Kept { seal, .. } | Given::Receiving { seal } => *seal = key,
            Given::Both => out.event(Event::AddSealKey { slot, key }),
            Given::Withdrawn => {}
        }
    }

    /// The one of this index was replaced.
    pub(super) fn retire(&mut self, now: Instant, index: ReceiverIndex, out: &mut Outbox) {
        match &mut self.given {
            Given::Kept { open, .. } => {
                open.retire(index, now);
                open.expire(now, |_| ());
            }
            Given::Receiving { .. } | Given::Both => {
                out.event(Event::RetireOpenKey { association: self.association, index });
            }
            Given::Withdrawn => {}
        }
    }
}
