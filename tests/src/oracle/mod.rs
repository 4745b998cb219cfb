//! The frame oracle: says exactly what a tunnel did to the frames that went through it.
//!
//! It stands at both ends, sends numbered and checksummed Ethernet frames into each device and counts what comes out of
//! the other: lost, duplicated, reordered, corrupted, reflected, and the longest silence. It knows nothing of the tunnel,
//! so it cannot share the tunnel's mistakes.
//!
//! - [`frame`]: the bytes of a frame, and how they are checked. Pure.
//! - [`ledger`]: the counting of one direction. Pure, with time as an argument.
//! - [`report`]: what is printed, and whether it is within the limits asked for.
//! - [`run`]: the threads and sockets around them.
//!
//! Invariant: the oracle never loses a frame unnoticed. Frames that the kernel drops because the oracle reads too slowly
//! are counted, and a run with such frames is no verdict.

pub mod frame;
pub mod ledger;
pub mod report;
pub mod run;
