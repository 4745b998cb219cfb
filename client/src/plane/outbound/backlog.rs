//! What waits for a stream that takes nothing: a direct connection, or that of a relay while others have another way. (While nobody has,
//! the TAP waits instead.)
//!
//! A connection that falls silent fills its queue before it comes into doubt. What is sealed until then waits in the ring, and goes by
//! whatever path is next. One that takes what it is given, only slower than frames come, is to drop some, or what waits would be nothing
//! but delay. Both are full; they differ in whether they take anything. So a backlog begins when the queue is full, grows only while the
//! connection takes nothing, by what that took in half a second at most, and has to be handed over before there is another.
//!
//! A relay in doubt is a relay that may be away, and what is for who is behind it is kept as while it is: as much as the ring holds. A
//! relay that drains a trickle and answers is in no doubt.

use super::association::Association;
use super::peer::Context;
use crate::plane::queue::StreamHandle;
use shadowmesh_proto::endpoint::event::Via;
use std::time::{Duration, Instant};

/// A backlog holds what the connection takes in this: longer than its silence goes unnoticed (protocol §7.2), and no more delay than
/// people bear.
const WORTH: Duration = Duration::from_millis(500);
/// It may always hold this: what is taken at a time.
const BYTES_MIN: usize = 64 << 10;
/// It never holds more packets: the ring has others to hold.
const PACKETS_MAX: u64 = 4096;

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
    begun: Option<Begun>,
    pace: Option<Pace>,
}

/// Packets wait.
#[derive(Debug)]
struct Begun {
    /// Bytes that the connection had taken when the first of them was sealed.
    taken: u64,
    /// Bytes of frames since.
    bytes: usize,
}

/// How much the connection takes.
#[derive(Debug)]
struct Pace {
    since: Instant,
    /// Bytes that it had taken then.
    taken: u64,
    /// Bytes in [`WORTH`], by what it took before that.
    worth: usize,
}

impl Backlog {
    /// Whether `frame` may go by the stream `via`. One that `is_away`, as far as is known, is waited for.
    pub(super) fn admit(
        &mut self,
        ctx: &Context<'_>,
        via: Via,
        association: &Association,
        frame: &[u8],
        is_away: bool,
    ) -> Admission {
        let taken = ctx.snapshot.stream(via).map_or(0, StreamHandle::taken);
        let worth = self.worth(ctx.now, taken);
        let waiting = association.waiting();
        if ctx.batches.takes_more(ctx.snapshot, via) && (self.begun.is_none() || waiting == 0) {
            self.begun = None;
            return Admission::Go;
        }
        let begun = self.begun.get_or_insert(Begun { taken, bytes: 0 });
        let has_room = begun.bytes + frame.len() <= worth && waiting < PACKETS_MAX;
        if (is_away || (begun.taken == taken && has_room)) && association.holds_one_more(frame) {
            begun.bytes += frame.len();
            Admission::Wait
        } else {
            Admission::Drop
        }
    }

    /// Whether packets wait, or did a moment ago.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// What the connection takes in [`WORTH`], by the latest time as long in which it took something: silence says nothing of that.
    fn worth(&mut self, now: Instant, taken: u64) -> usize {
        let pace = self.pace.get_or_insert(Pace { since: now, taken, worth: 0 });
        let elapsed = now.saturating_duration_since(pace.since);
        if taken > pace.taken && elapsed >= WORTH {
            let bytes = u128::from(taken - pace.taken) * WORTH.as_millis() / elapsed.as_millis().max(1);
            *pace = Pace { since: now, taken, worth: usize::try_from(bytes).unwrap_or(usize::MAX) };
        }
        pace.worth.max(BYTES_MIN)
    }
}
