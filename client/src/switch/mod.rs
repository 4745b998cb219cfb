//! The Ethernet switch: which peer a frame goes to, and which frames of a peer are let in.
//!
//! Everything here is pure: frames, time and facts come in, verdicts come out. The mesh is full, so a frame
//! takes one step: from our TAP to peers, or from a peer to our TAP. A frame that came from a peer is never
//! sent to another one, so the overlay itself cannot loop; loops can only come through bridges behind the
//! TAPs, and those are looked for ([`guard`]).
//!
//! # Who owns what
//!
//! ```text
//!   control task ── publishes ──▶ Directory    immutable, in the snapshot: who has which MAC and addresses,
//!                                              what each may do, what this node filters
//!        outbound thread: Forwarder            frames from the TAP ──▶ Unicast | Flood | Answer | Drop
//!                            ▲   │
//!                       News │   │ LocalNews    bounded channels, only news
//!                            │   ▼
//!        inbound thread:  Gate                 frames from a peer ──▶ Deliver | Consume | Drop
//! ```
//!
//! Each thread owns its half. The inbound thread sees what peers send, the outbound thread what our own device
//! sends, and each needs some of what the other sees. No lock and no message per packet joins the two: each
//! remembers what it has already said and speaks only when a station is new, has moved, or was last reported
//! [`limits::REPORT_AFTER`] ago. Where the channel is full, where a station is is said again with its next frame; what our
//! own device sent is said again that much later, and until then counts as unknown, which is slower and not wrong.
//!
//! # What floods, and what does not
//!
//! - An ARP request or neighbour solicitation for an address that a member owns is answered here, from the
//!   directory ([`answer`]). Only what is sent to a group is: the unicast probes by which a kernel finds out
//!   whether a neighbour still lives go to the member itself, for only it can say so.
//! - A question for an address that nobody owns goes to the members that may bridge, the same question of the
//!   same asker once a second ([`questions`]).
//! - A frame for a MAC that nobody knows goes to the members that may bridge for [`limits::UNKNOWN_FOR`], and
//!   is then dropped and counted until the MAC is heard somewhere, or asked for no more ([`questions`]).
//! - Multicast goes to the peers that want it, as far as that is known ([`groups`], RFC 4541): where our own LAN asks, or a
//!   member that may be our router.
//! - All of it is within a budget for each peer ([`budget`]), on both sides: what a peer sends too much of is
//!   not let in.
//!
//! # What is let in
//!
//! - Headers are read as the most willing receiver would: any number of tags, LLC and SNAP, every hardware type of ARP
//!   that kernels take ([`frame`], [`packet`]).
//! - A member owns its MAC: no frame that another member sends with it as source is let in, and nothing
//!   learned ever redirects it ([`directory`]). It owns the addresses of its record as well, where there is no VLAN: in ARP, as a source of
//!   IPv4 and IPv6, and as the target of a neighbour advertisement ([`sender`]).
//! - Bridges' own protocols, DHCP servers and routers are kept out unless they are allowed ([`filter`]). DHCP and
//!   router advertisements are filtered where they arrive and nowhere else: it is the receiver that has to be
//!   protected, a rogue's own word about itself is worth nothing, and one intention (this member serves me) is then
//!   one switch, at whom it concerns.
//!
//! # Invariants
//!
//! - Memory is bounded per peer and in all ([`limits`]), so a flood of addresses costs its sender its own
//!   older entries first.
//! - Nothing but the guard runs on a timer. Old entries are ignored when looked up and removed when there is
//!   other work to do.
//! - A frame from our device for a member, or for a station that is known, costs two look-ups and no more:
//!   everything above concerns groups and strangers only. A frame from a member costs a comparison of its MAC and
//!   its address with its record.

mod answer;
mod budget;
mod directory;
mod discard;
mod filter;
mod flood;
mod frame;
mod gate;
mod groups;
mod guard;
mod learner;
pub mod limits;
mod news;
mod own_sockets;
mod packet;
mod protection;
mod questions;
mod rate;
mod recent;
mod sender;
#[cfg(test)]
mod simulation;
mod small_frame;
mod table;

pub use budget::Reach;
pub use directory::{Bridging, Directory, Owner, Record, Rights, Taken};
pub use discard::{InboundDrop, OutboundDrop};
pub use flood::{Admission, Flood, Forwarder, ForwarderStats, Output, Verdict};
pub use frame::{EthernetHeader, Station, is_broadcast, is_multicast};
pub use gate::{Gate, Inbound};
pub use guard::{LoopState, is_guard_message};
pub use limits::Limits;
pub use news::{GuardNews, Learn, ListenerNews, LocalNews, News};
pub use own_sockets::OwnSockets;
pub use protection::{
    BitRate, DhcpServers, Filter, Filters, FloodBudget, NoBudget, NoFilters, NoServers, Protection,
    SwitchConfig,
};
pub use small_frame::SmallFrame;
pub use table::{Learned, Place, Table, TableCounts};
