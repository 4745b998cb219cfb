//! The order of paths (protocol §7).

/// How a path reaches the peer. Declared best first, so `Ord` is the preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// UDP between the peers.
    DirectUdp,
    /// TCP between the peers.
    DirectTcp,
    /// UDP through the relay.
    RelayUdp,
    /// The relay's WebSocket stream.
    RelayWs,
}

impl PathKind {
    /// The word people and programs read (`status --json`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DirectUdp => "direct-udp",
            Self::DirectTcp => "direct-tcp",
            Self::RelayUdp => "relay-udp",
            Self::RelayWs => "relay-ws",
        }
    }
}

impl std::fmt::Display for PathKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_is_better_than_relayed_and_datagrams_than_streams() {
        let mut kinds = [PathKind::RelayWs, PathKind::DirectTcp, PathKind::RelayUdp, PathKind::DirectUdp];
        kinds.sort();
        assert_eq!(kinds.map(PathKind::as_str), ["direct-udp", "direct-tcp", "relay-udp", "relay-ws"]);
    }
}
