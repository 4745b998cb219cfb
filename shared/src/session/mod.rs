//! A session's halves: what seals and what opens, owned by different threads that never meet.
//!
//! ```text
//!            control task                                   two data threads
//!   ControlSeal  ControlOpen  RekeyPolicy          outbound: SealHalf       inbound: OpenHalf
//!        |            |            |                   ring, counter          window, marks
//!        |            |            '-- SealKey --------->  |                      |
//!        |            |            '-- OpenKey ----------------------------------> |
//!        |            '-- ACK body --> AckMarks (atomics) ->                       |
//!        '<------------- ACK body <------------------------------ AckReport -------'
//! ```
//!
//! An *association* is the life of one pair of counters: one [`SealHalf`], [`OpenHalf`], [`ControlSeal`] and [`ControlOpen`]
//! at each end, made by a first handshake. A *generation* is the keys of one handshake: a rekey installs another in the
//! same halves, and nothing else about them changes (protocol §4.8).
//!
//! - [`seal`], [`ring`], [`pool`]: frames are sealed into the memory they are sent from and kept in until acknowledged.
//! - [`open`], [`replay`]: packets are opened where they were received, once each.
//! - [`order`]: what overtakes on a faster path waits for the slower one.
//! - [`ack`]: how the receiver's knowledge reaches the sender's ring.
//! - [`control`]: the same for control packets, without ring and acknowledgements.
//! - [`key`]: one generation, from both sides. [`rekey`]: when the next one is due.
//! - [`limits`]: every number, with its reason.
//!
//! What holds for all of it: time is an argument, keys are wiped when dropped, and a packet that does not open changes
//! nothing but a count.

pub mod ack;
pub mod control;
pub mod fragment;
pub mod key;
pub mod limits;
pub mod open;
mod opener;
pub mod order;
pub mod pool;
pub mod rekey;
pub mod replay;
pub mod ring;
pub mod seal;

pub use ack::{AckMarks, AckReport, PathSlot, ReceiveMarks};
pub use control::{ControlOpen, ControlSeal, OpenedControl};
pub use key::{OpenKey, OpenKeys, SealError, SealKey};
pub use open::{OpenHalf, Opened};
pub use opener::{Drops, OpenError};
pub use order::{Order, OrderStats, Turn};
pub use pool::ChunkPool;
pub use rekey::{RekeyPolicy, Role};
pub use replay::{Freshness, ReplayWindow};
pub use ring::{Held, Resend, Ring, RingLimits, RingStats, Sealed};
pub use seal::{Fit, Run, SealHalf, SealStats, SealedRun};
