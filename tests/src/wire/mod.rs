//! A bad line between two devices, for kernels without `netem`: what goes in at one end comes out of the other late, twice,
//! in another order, or not at all.
//!
//! - [`settings`]: what is wrong with the line, as people write it: `delay=20ms,jitter=5ms,loss=1%`. Pure.
//! - [`mod@line`]: the fate of each frame of one direction. Pure; seeded, with time as an argument, so a run repeats.
//! - [`join`]: the threads, sockets and clock around two lines.
//!
//! Superframes (TCP segmentation left to the hardware) are carried whole, so one loss would take up to 64 KiB. They are counted;
//! a scenario that counts losses turns the offloads of the two devices off first.

pub mod join;
pub mod line;
pub mod settings;
