//! What waits for a direct connection that takes nothing.
//!
//! A connection that falls silent fills its queue before it comes into doubt. What is sealed until then waits in the ring, and goes by
//! whatever path is next: nothing is lost with the connection. One that takes what it is given, only slower than frames come, is to drop
//! some, or what waits would be nothing but delay. Both are full; they differ in whether they take anything. So a backlog begins when
//! the queue is full, grows only while the connection takes nothing, and has to be handed over before there is another.

use super::association::Association;
use super::batches::Batches;
use crate::plane::queue::StreamHandle;
use crate::plane::snapshot::Snapshot;
use shadowmesh_proto::endpoint::event::Via;

/// Packets that may wait: half a second at 100 Mbit/s, which is longer than silence goes unnoticed (protocol §7.2).
pub(super) const BACKLOG_PACKETS: u64 = 4096;

/// What is to be done with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It goes at once.
    Go,
    /// It is sealed, and waits.
    Wait,
    /// It is dropped.
    Drop,
}

/// Whether packets wait for the connection in use, and since when.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Bytes that the connection had taken when it began.
    taken_before: Option<u64>,
}

impl Backlog {
    /// Whether `frame` may go by the connection `via`.
    pub(super) fn admit(
        &mut self,
        batches: &Batches,
        snapshot: &Snapshot,
        via: Via,
        association: &Association,
        frame: &[u8],
    ) -> Admission {
        let waiting = association.waiting();
        if batches.has_room(snapshot, via) && (self.taken_before.is_none() || waiting == 0) {
            self.taken_before = None;
            return Admission::Go;
        }
        let taken = snapshot.stream(via).map_or(0, StreamHandle::taken);
        let takes_nothing = *self.taken_before.get_or_insert(taken) == taken;
        if takes_nothing && waiting < BACKLOG_PACKETS && association.holds_one_more(frame) {
            Admission::Wait
        } else {
            Admission::Drop
        }
    }
}
