//! What a daemon is doing, for whoever watches it start: facts, not sentences. `cli/up` makes the words.

use crate::control::status::PathKind;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// One thing that happened, in the order it happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The TAP device exists and carries these addresses (CIDR each). Said again when an address had to change.
    DeviceUp {
        /// Its name.
        device: String,
        /// Addresses in CIDR form.
        addresses: Vec<String>,
        /// Bytes.
        mtu: u16,
    },
    /// Access rules are in force: at the start, and after a reload.
    Rules {
        /// Their file.
        file: String,
        /// How many; with 0 everything is let in.
        count: usize,
    },
    /// Members have names for other programs of this machine.
    Names {
        /// What their names end in, such as `office.internal`.
        domain: String,
        /// The file that they are in; nothing where systemd-resolved has them.
        file: Option<String>,
    },
    /// A connection to a relay is being made. Said once per outage, not per attempt.
    RelayConnecting {
        /// `host:port`.
        relay: String,
    },
    /// Registered at a relay.
    RelayConnected {
        /// `host:port`.
        relay: String,
        /// Round trip, if already measured.
        rtt: Option<Duration>,
    },
    /// A relay could not be reached, or was lost; it is tried again.
    RelayLost {
        /// `host:port`.
        relay: String,
        /// What went wrong, in words.
        why: String,
    },
    /// Registered, and nobody else is there yet.
    WaitingForPeers,
    /// A peer's session carries data, or moved to another path.
    PeerConnected {
        /// Its name.
        name: String,
        /// Its first address without prefix length, if it has told one.
        address: Option<String>,
        /// The path in use.
        via: PathKind,
        /// Round trip, if already measured.
        rtt: Option<Duration>,
    },
    /// A peer does not answer, or left.
    PeerLost {
        /// Its name.
        name: String,
        /// What happened, in words.
        why: String,
    },
    /// Something a person should know, as one sentence: an address conflict, a shortened interval.
    Notice(String),
    /// The daemon is leaving cleanly.
    Leaving,
}

/// Where a daemon says what it does. Never blocks; nobody has to listen.
#[derive(Debug, Clone)]
pub struct ProgressSender(UnboundedSender<Progress>);

impl ProgressSender {
    /// A sender and what it sends. Unbounded, because events come at the pace of connections, never of packets.
    pub fn channel() -> (Self, UnboundedReceiver<Progress>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    /// Says `progress`.
    pub fn send(&self, progress: Progress) {
        // The listener may be gone: a terminal was closed. The daemon goes on.
        let _ = self.0.send(progress);
    }
}
