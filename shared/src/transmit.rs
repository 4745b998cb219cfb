//! What leaves the control side: whole stream messages for a relay connection or a direct one, and whole datagrams. A [`Transmit`] is always
//! complete, so the transport only moves it.

use std::net::SocketAddr;

/// Which relay, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayNo(pub usize);

/// A direct TCP connection. Its owner numbers them, and uses no number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpLink {
    /// Its number.
    pub number: u64,
    /// The other end.
    pub remote: SocketAddr,
}

/// Bytes to send, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// Over a relay's stream.
    Stream {
        /// The relay connection that carries it.
        relay: RelayNo,
        /// One whole stream message (protocol §3).
        message: Vec<u8>,
    },
    /// Over a direct TCP connection.
    Tcp {
        /// The connection.
        link: TcpLink,
        /// One whole stream message (protocol §7.12).
        message: Vec<u8>,
    },
    /// From the UDP socket.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// The payload.
        datagram: Vec<u8>,
    },
}
