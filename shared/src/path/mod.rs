//! Paths: what is known of one way to a peer, and whether it may carry data (protocol §7).
//!
//! A *path* is judged here; a *transport* moves bytes and lives outside this crate. A path is born unproven, is proven by a
//! full-size PING that came back as PONG over it, falls under suspicion when data is outstanding and nothing confirms it,
//! and is dead when suspicion lasted [`liveness::DEAD_AFTER`]. Only [`state`] changes the state, and every transition is
//! traced once, with its reason.
//!
//! - [`select`]: the order of path kinds; best first, readable as an order.
//! - [`challenge`]: outstanding PINGs, bounded, oldest dropped.
//! - [`liveness`]: the numbers and the pure rule of suspicion.
//! - `rtt`: how long a round trip takes.
//! - [`loss`]: how much arrives, and when that is too little.
//! - [`mtu`]: how large a packet it carries.
//! - [`trial`]: whether another path is fit to take the place of one that loses much.
//! - [`state`]: the machine.

pub mod challenge;
pub mod liveness;
pub mod loss;
pub mod mtu;
mod rtt;
pub mod select;
pub mod state;
pub mod trial;
