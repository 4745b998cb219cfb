//! Who is a member, for all peers at once (protocol §8.5).
//!
//! What one peer brings is judged by in every session at once: a node that was revoked is cut off by whoever hears of it.

use super::Endpoint;
use crate::crypto::keys::NetworkKeys;
use crate::ids::{NetworkId, PeerSlot};
use crate::membership::{Certificate, Delegation, Seconds, Statement, Trust};
use crate::peer::{Context, Peer};
use crate::time::Deadline;
use crate::transmit::RelayNo;
use std::time::Instant;

/// What an endpoint knows of members.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Nothing in a network without certificates.
    pub(super) trust: Option<Trust>,
    /// The state of it that every session was told of.
    told: u64,
    /// Both clocks at one moment.
    clock: Option<(Instant, Seconds)>,
}

impl Members {
    /// Seconds since 1970; 0, when nothing is good yet, before anybody said.
    pub(super) fn time_of_day(&self, now: Instant) -> Seconds {
        let Some((at, unix)) = self.clock else { return 0 };
        unix.saturating_add(now.saturating_duration_since(at).as_secs())
    }

    /// When the secret before is given up.
    pub(super) fn secret_retires_at(&self) -> Option<Deadline> {
        let at = self.trust.as_ref()?.secret_retires_at(self.clock?)?;
        Some(Deadline::new(at, "the network's secret before is given up"))
    }
}

impl Endpoint {
    /// From now on only members may send frames, by what `trust` knows. `unix`: seconds since 1970.
    pub fn set_trust(&mut self, now: Instant, unix: Seconds, trust: Trust) {
        self.members = Members { told: trust.changes(), trust: Some(trust), clock: Some((now, unix)) };
        self.weigh_demand = true;
        self.tell_all(now);
    }

    /// The clock on the wall says this: to be told when it was set, and when the machine slept.
    pub fn set_time_of_day(&mut self, now: Instant, unix: Seconds) {
        self.members.clock = Some((now, unix));
    }

    /// Who is a member; nothing in a network without certificates.
    pub const fn trust(&self) -> Option<&Trust> {
        self.members.trust.as_ref()
    }

    /// Under which secret of the network this node registers at a relay from its next stream on. A relay is configured once for each
    /// secret that may be in use at a time (protocol §8.8).
    pub fn set_lane(&mut self, relay: RelayNo, network: Option<NetworkId>) {
        if let Some(lane) = self.lanes.get_mut(relay.0) {
            *lane = network;
        }
    }

    /// The keys to register with at a relay; nothing where its secret was given up.
    pub(super) fn keys_of_lane(&self, relay: RelayNo) -> Option<NetworkKeys> {
        let mut held = Trust::keys(self.members.trust.as_ref(), &self.config.network);
        match self.lanes.get(relay.0).copied().flatten() {
            Some(lane) => held.find(|keys| keys.id() == lane).cloned(),
            None => held.next().cloned(),
        }
    }

    /// Lets `change` do something to it, and every session follow. Nothing without certificates.
    pub fn with_trust<T>(&mut self, now: Instant, change: impl FnOnce(&mut Trust) -> T) -> Option<T> {
        let result = change(self.members.trust.as_mut()?);
        self.after_input(now);
        Some(result)
    }

    /// What a peer showed to be a member by, as far as that was verified.
    pub fn chain_of(
        &self,
        slot: PeerSlot,
    ) -> Option<(Statement<Certificate>, Option<Statement<Delegation>>)> {
        self.peers.get(self.slots.get(&slot)?)?.chain()
    }

    /// What a session changed is told to all, until nothing changes any more.
    pub(super) fn spread_trust(&mut self, now: Instant) {
        let unix = self.members.time_of_day(now);
        if let Some(trust) = self.members.trust.as_mut().filter(|_| self.members.clock.is_some()) {
            trust.retire_secret(now, unix);
        }
        while let Some(trust) = self.members.trust.as_mut() {
            let changes = trust.changes();
            if self.members.told != changes {
                self.members.told = changes;
                self.out.weigh_claims_anew();
                self.tell_all(now);
            } else if let Some(peer) = trust.poll_turn(now) {
                self.with_peer(now, peer, Peer::on_turn);
            } else {
                break;
            }
        }
    }

    fn tell_all(&mut self, now: Instant) {
        self.with_all(now, Peer::on_trust_changed);
    }

    fn with_all(&mut self, now: Instant, tell: fn(&mut Peer, &mut Context<'_>)) {
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.with_peer(now, id, tell);
        }
    }
}
