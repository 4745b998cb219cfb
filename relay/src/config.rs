//! Settings: what an operator may change, in a file and on the command line, and what holds when nothing is said.

mod fault;
mod file;
pub(crate) mod keys;
mod prefix;

pub use fault::{ConfigError, Fault};
pub use file::ConfigFile;
pub use prefix::{BadPrefix, Prefix, Prefixes};

use crate::core::limits::Limits;
use std::time::Duration;

/// Everything the server is told, beside its sockets and its key.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// See [`Limits`].
    pub limits: Limits,
    /// Idle heartbeat of links, and proposed to pairs (protocol §3.7).
    pub heartbeat: Duration,
    /// Key rotation proposed to pairs; theirs if it is shorter (protocol §3.5, §4.8).
    pub rotation: Duration,
    /// Largest packet proposed to pairs, bytes (1280 to 9000; protocol §3.5).
    pub mtu: u16,
    /// Whether pairs may try a direct link.
    pub direct: bool,
    /// For handshake and registration together (protocol §3.1).
    pub handshake_timeout: Duration,
    /// Without one byte taken by a client for which something waits. Long enough for a phone that changes networks, short
    /// enough not to hold the memory of its queue for nothing.
    pub write_timeout: Duration,
    /// Reverse proxies that are believed when they say whose stream they pass on.
    pub trusted_proxies: Prefixes,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            heartbeat: Duration::from_secs(15),
            rotation: Duration::from_secs(120),
            mtu: 1500,
            direct: true,
            handshake_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            trusted_proxies: Prefixes::default(),
        }
    }
}

/// A time as it is written in the file.
fn span(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1000 == 0 && ms > 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}
