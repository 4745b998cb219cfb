//! What keeps queues short, in time and not in bytes, at both ends of a stream: how fast it takes bytes ([`Pace`]), and which of those that
//! wait too long are dropped ([`CoDel`]). No part of the protocol, but both programs have to do it alike.

mod codel;
mod pace;

pub use codel::{CoDel, STALE};
pub use pace::{BYTES_MAX, Pace};
