//! What leaves the control side: whole stream messages, addressed to a relay connection.
//!
//! Datagram destinations join here with direct paths; a [`Transmit`] is always complete, so the transport only moves it.

/// Which relay, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayNo(pub usize);

/// Bytes to send, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The relay connection that carries it.
    pub relay: RelayNo,
    /// One whole stream message (protocol §3).
    pub message: Vec<u8>,
}
