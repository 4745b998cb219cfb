//! The relay on loopback: real sockets, real clients of the protocol crate, no other machine.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod serving;
