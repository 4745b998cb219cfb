//! What `status` shows of a peer: a copy, nothing of it decides anything.

use super::{Peer, direct};
use crate::endpoint::event::Via;
use crate::endpoint::status::{PathStatus, PeerStatus, SessionStatus, SwitchStatus};
use crate::membership::{Certificate, Delegation, Statement};
use crate::path::liveness::FULL_SIZE;
use crate::path::select::{PathKind, Wanted};
use crate::path::state::Path;
use std::time::Instant;

impl Peer {
    /// A copy for `status`.
    pub(crate) fn status(&self, now: Instant) -> PeerStatus {
        let proven = |via| {
            let path = self.path_of(via)?;
            let loss = path.loss_per_mille(now);
            let size = path.packet_size().unwrap_or(FULL_SIZE);
            let mtu = match via {
                Via::Channel(_) | Via::Tcp(_) => None,
                Via::Udp(remote) => Some(direct::ip_packet(remote, size, PathKind::DirectUdp)),
                Via::RelayUdp(_) => Some(self.relay_udp.ip_packet(size)),
            };
            path.is_usable().then(|| PathStatus { via, rtt: path.rtt(), mtu, loss, why: self.why(via) })
        };
        let standby = self.direct_paths().map(|(via, _)| via).chain(self.relayed_ways());
        PeerStatus {
            id: self.id,
            slot: self.slot,
            state: self.shown,
            hello: self.about.clone(),
            path: self.routed.and_then(proven),
            standby: standby.filter(|via| Some(*via) != self.routed).filter_map(proven).collect(),
            peer_path: self.routed.and_then(|_| self.peer_kind()),
            wanted: self.wish.wanted,
            is_direct_barred: self.is_barred,
            is_settled: self.is_settled(now),
            switches: self.switches,
            last_switch: self.last_switch.map(|(at, from, to, why)| SwitchStatus {
                from,
                to,
                why,
                age: now.saturating_duration_since(at),
            }),
            member: self.member.status(),
            next_direct_try: self
                .direct
                .next_round()
                .filter(|_| self.session.is_some() && !self.is_barred)
                .filter(|_| self.routed.is_none_or(|via| !via.kind().is_direct()))
                .map(|at| at.saturating_duration_since(now)),
            session: self.session.as_ref().map(|session| SessionStatus {
                cipher: session.cipher(),
                version: session.version(),
                age: session.age(now),
                rekeys: session.rekeys(),
            }),
            asleep: self.rest.sleep_status(now),
            incompatible: self.incompatible,
        }
    }

    /// What it showed to be a member by, as far as that was verified.
    pub(crate) fn chain(&self) -> Option<(Statement<Certificate>, Option<Statement<Delegation>>)> {
        self.member.chain()
    }

    /// What the peer sends on: what its RESUME said, or the relay's stream, where it has a path and said none (protocol §7.6). It has one
    /// when it says HELLO.
    fn peer_kind(&self) -> Option<PathKind> {
        self.resume.peer_kind.or_else(|| self.revision_heard.map(|_| PathKind::RelayWs))
    }

    /// Whether nothing is under way that may make data of either side take another path soon: as far as this side can know.
    fn is_settled(&self, now: Instant) -> bool {
        let is_looking = !self.is_barred && (self.direct.is_looking(now) || self.direct_tcp.is_looking(now));
        let is_asked = self.relay_udp.path().is_some_and(Path::is_unproven);
        (self.session.is_none() && !self.rest.is_waking(now))
            || (self.is_well_routed() && self.is_agreed() && !is_looking && !is_asked)
    }

    /// Why data takes this path, in words for `status`.
    fn why(&self, via: Via) -> &'static str {
        let direct = self.direct_paths().any(|(_, path)| path.is_usable());
        let is_barred = self.is_barred && !direct;
        if self.wish.wanted != Wanted::Auto {
            return match (self.routed == Some(via), self.wish.wanted.allows(via.kind())) {
                (true, false) if is_barred && self.wish.wanted.is_direct() => {
                    "a direct path was asked for, and the relay allows none"
                }
                (true, true) => "it was asked for",
                (true, false) => "the path that was asked for is not proven",
                (false, _) => "in case the other path fails",
            };
        }
        match via {
            Via::Udp(_) => "the best proven path",
            Via::Tcp(_) if self.routed == Some(via) => "no direct path by datagram is proven",
            Via::Tcp(_) => "in case the other path fails",
            Via::Channel(_) | Via::RelayUdp(_) if self.routed != Some(via) => "in case the other path fails",
            Via::Channel(_) | Via::RelayUdp(_) if self.direct_paths().any(|(_, path)| path.is_lossy()) => {
                "the direct path loses too much"
            }
            Via::Channel(_) | Via::RelayUdp(_) if direct => {
                "the direct path is worse, or has not behaved for long enough"
            }
            Via::Channel(_) | Via::RelayUdp(_) if is_barred => "the relay allows no direct path",
            Via::RelayUdp(_) => "no direct path is proven",
            Via::Channel(_) => "the only proven path",
        }
    }
}
