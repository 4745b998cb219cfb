//! Module page to come.

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod device;
pub mod net;
pub mod plane;
pub mod switch;
pub mod system_rng;
pub mod transport;
