//! The rules of the network, enforced: which frames of a peer are let in (see [`shadowmesh_proto::rules`] for what rules mean).
//!
//! Each node judges what comes in, after it was opened and before the switch learns from it. A pair that the rules do not restrict
//! is not looked at, and where nobody is restricted there is no [`Filter`] at all. What a filter says of the switch's own messages
//! ([`is_guard_message`](crate::switch::is_guard_message)) does not count: they end in the switch.
//!
//! # Who owns what
//!
//! ```text
//!   control task:  Access   members, rules ──▶ Policy per peer ──▶ Filter, in the published picture
//!   outbound thread:  filter.note(now, peer, frame)     what goes to a peer is remembered
//!   inbound thread:   filter.judge(now, peer, frame)    Pass, or Drop with the reason
//! ```
//!
//! Both threads use one memory of each peer ([`memory`]): a table of atomics, so nothing is locked, and nothing is allocated but the
//! table itself when the first packet goes to that peer.
//!
//! # Life of a packet that comes in
//!
//! 1. The peer: one that nobody told of is denied everything; one that is not restricted, nothing.
//! 2. What it is ([`packet`]). What cannot be read is dropped: the kernel might read it otherwise.
//! 3. What the rules allow it to begin ([`Policy::allows`](shadowmesh_proto::rules::Policy::allows)).
//! 4. What this node asked for: an answer to what it sent to this peer, or an ICMP error about it ([`memory`]).
//! 5. Dropped, with the reason.
//!
//! # Fragments
//!
//! A first fragment has the ports and is judged like a packet; what it has to show must be in it whole. A later one passes
//! - where every packet of its protocol would, or
//! - when the first fragment of its packet passed before it, at most [`limits::FRAGMENTS`] packets and
//!   [`limits::FRAGMENT_LIFE`] ago;
//!
//! and in either case only if it does not reach into a header that was judged (RFC 3128): no honest sender cuts so early.
//!
//! So later fragments that overtake their first are lost, as in many a firewall; our paths keep the order, but for what is sent again
//! after an outage.
//! Neighbour discovery in fragments is dropped, as its receivers do (RFC 6980 §5), and so are IPv6 fragments that hide further headers
//! behind the fragment header (RFC 7112 allows them, and nobody sends them).
//!
//! # When the rules change
//!
//! The memory stays, and the new rules count from the next packet on. A TCP connection that the peer began and that the rules do
//! not allow any more is cut; one that this node began goes on. What is remembered is enough to tell them apart, but for
//! connections from before the pair was restricted, or older than the last few thousand of the same peer. Such a connection goes on if
//! the rules let this node begin it (the port is that of the peer): whatever this node sends in it makes it known, and for
//! [`limits::GRACE`] after the rules changed or the daemon began, what the peer sends in it passes before that. So an upgrade of
//! the daemon or the first rule of a network does not cut what is open. Nothing that begins a connection ever passes so.
//!
//! # Invariants
//!
//! - A peer can make this node forget flows with that peer, and no others: each has a memory of its own. Only what this node sends
//!   makes a flow.
//! - Memory is bounded per peer, and taken only for those that are restricted and that something is sent to.
//! - Reading is total, and nothing that comes in is trusted to be what it says: what cannot be told apart is dropped.

mod control;
mod filter;
mod flow;
pub mod limits;
mod memory;
mod packet;
mod table;
#[cfg(test)]
mod tests;

pub use control::Access;
pub use filter::{AccessDrop, Filter, Verdict};
