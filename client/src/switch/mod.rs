//! The Ethernet switch: which peer a frame goes to, and which frames of a peer are let in.
//!
//! Everything here is pure: frames, time and facts come in, verdicts come out. The mesh is full, so a frame
//! takes one step: from our TAP to peers, or from a peer to our TAP. A frame that came from a peer is never
//! sent to another one, so the overlay itself cannot loop; loops can only come through bridges behind the
//! TAPs.
//!
//! # Who owns what
//!
//! ```text
//!   control task ── publishes ──▶ Owners       immutable, in the snapshot: whose own MAC is which
//!        outbound thread: Forwarder            frames from the TAP ──▶ Unicast | Flood | Drop
//!                            ▲
//!                            │ Learn            bounded channel, only news
//!        inbound thread:  Learner              frames from a peer ──▶ Deliver (+ Learn) | Drop
//! ```
//!
//! The inbound thread sees the source addresses, the outbound thread needs them. No lock and no message per
//! packet joins the two: [`Learner`] remembers what it has already said and speaks only when a station is
//! new, has moved, or was last reported [`limits::REPORT_AFTER`] ago. A message that is lost because the
//! channel is full is said again that much later; until then the frames for that station are flooded, which
//! is slower and not wrong.
//!
//! # Invariants
//!
//! - A member owns its MAC: no frame that another member sends with it as source is let in, and nothing
//!   learned ever redirects it ([`Owners`]).
//! - Memory is bounded per peer and in all ([`limits`]), so a flood of addresses costs its sender its own
//!   older entries first.
//! - Nothing runs on a timer. Old entries are ignored when looked up and removed when there is other work to
//!   do.

mod flood;
mod frame;
mod learner;
pub mod limits;
mod own_sockets;
mod owners;
mod rate;
mod table;

pub use flood::{Forwarder, OutboundDrop, Reach, Verdict};
pub use frame::{EthernetHeader, Station, is_broadcast, is_multicast};
pub use learner::{Inbound, InboundDrop, Learn, Learner};
pub use limits::Limits;
pub use own_sockets::OwnSockets;
pub use owners::{Owner, Owners, Taken};
pub use table::{Learned, Place, Table, TableCounts};
