//! What keeps queues short, in time and not in bytes, at both ends of a stream: how fast it takes bytes ([`Pace`]), how much of it is under way
//! at a time ([`Flight`], by [`TcpInfo`]), and which of those that wait too long are dropped ([`CoDel`]). No part of the protocol, but both
//! programs have to do it alike.

mod codel;
mod flight;
mod info;
mod pace;

pub use codel::{CoDel, STALE};
pub use flight::Flight;
pub use info::{TCP_INFO_LEN, TcpInfo};
pub use pace::{BYTES_FIRST, BYTES_MAX, Pace};
