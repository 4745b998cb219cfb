//! Superframes: what the kernel hands over instead of many segments, when we promised to cut them ([`Offload::Full`](super::Offload)), and what it
//! takes instead of many frames.
//!
//! - `headers`: where things are in a frame, by what the virtio header says and the frame confirms.
//! - `split`: one superframe into frames that are complete.
//! - `partial`: frames whose checksum was left out.
//! - `merge`: frames of one flow into a superframe.
//!
//! # Invariants
//!
//! - What is handed out has final checksums and is what the kernel would have sent without the promise, byte for byte, where it is cut at
//!   the size that the kernel named.
//! - TCP may be cut smaller than that, for a path that carries less (protocol §7.11): a stream does not mind. UDP is not: each segment is a
//!   datagram of its own (`UDP_SEGMENT`, udp(7)), and its size means something to whoever reads it.
//! - A header that the frame does not bear out makes an error, never a wrong frame.

mod headers;
mod merge;
mod partial;
mod split;

pub use headers::Malformed;
pub use merge::{Flow, Kind, Merge, Segment};
pub(super) use partial::may_stay_partial;
pub use partial::{complete, is_dhcp, partial_header};
pub use split::{Cutting, Segments, Superframe};

fn get(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk::<2>).map_or(0, |field| u16::from_be_bytes(*field))
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(field) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) {
        *field = value.to_be_bytes();
    }
}

#[cfg(test)]
pub(crate) use split::tests as superframes;
