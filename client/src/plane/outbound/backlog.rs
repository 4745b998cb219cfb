//! Whether a frame may go by a stream, a direct connection or that of a relay, at once.
//!
//! A stream that is full takes nothing for now. Whether it is slow or silent nobody knows for half a second (protocol §7.2): what comes
//! meanwhile waits, before it is sealed ([`Flows`](super::flows)), where it may still be dropped for having waited too long, or go by
//! whatever path is next.
//!
//! A relay in doubt is a relay that may be away, and what is for who is behind it is kept as while it is: sealed, as much as the ring holds,
//! and handed over before anything else. A relay that drains a trickle and answers is in no doubt.

use super::association::Association;
use super::peer::Context;
use shadowmesh_proto::endpoint::event::Via;

/// What is to be done with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It goes at once.
    Go,
    /// It waits, and is sealed when there is room.
    Queue,
    /// It is sealed, and waits.
    Wait,
    /// It is dropped.
    Drop,
}

/// Whether sealed packets wait for the stream in use.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    has_begun: bool,
}

impl Backlog {
    /// Whether a frame of `len` bytes may go by the stream `via`. One that `is_away`, as far as is known, is waited for.
    pub(super) fn admit(
        &mut self,
        ctx: &Context<'_>,
        via: Via,
        association: &Association,
        len: usize,
        is_away: bool,
    ) -> Admission {
        let is_clear = !self.has_begun || association.waiting() == 0;
        if is_clear && ctx.batches.has_room(ctx.snapshot, via) {
            self.has_begun = false;
            return Admission::Go;
        }
        if !is_away {
            return Admission::Queue;
        }
        if !association.holds_one_more(len) {
            return Admission::Drop;
        }
        self.has_begun = true;
        Admission::Wait
    }

    /// Whether packets wait, or did a moment ago.
    pub(super) const fn has_begun(&self) -> bool {
        self.has_begun
    }
}
