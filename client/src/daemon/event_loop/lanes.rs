//! The streams to relays: one to each for every secret of the network that is in use (protocol §8.8).
//!
//! A *lane* is a group of them, one for each relay, in which this node registers under one secret. A network without certificates has one
//! lane, for ever. In another a lane opens when a secret is taken, and closes when it is given up; what went by it goes by another then,
//! like anything when a relay is lost.
//!
//! # Invariants
//!
//! - The relay number `l * n + i` is relay `i` of `n` in lane `l`, in all tables.
//! - A lane that was closed is the last to be opened again: what its tasks had yet to say is over by then.

use super::{EventLoop, RelayTask};
use crate::system_rng::SystemRng;
use crate::transport::outside::Outside;
use crate::transport::relay::{self, Relay, RelayEvent};
use shadowmesh_proto::ids::NetworkId;
use shadowmesh_proto::membership::MAX_SECRETS;
use shadowmesh_proto::ticket::RelayTicket;
use shadowmesh_proto::transmit::RelayNo;
use std::collections::VecDeque;
use std::time::Instant;
use tokio::sync::mpsc;

/// One for each secret, and one that rests.
pub(super) const LANES: usize = MAX_SECRETS + 1;

/// Which lanes there are.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Which secret each is for.
    open: Vec<(usize, Option<NetworkId>)>,
    /// Which was closed first comes first.
    free: VecDeque<usize>,
    outside: Outside,
    /// What tasks are given to speak through; nothing when the daemon ends.
    events: Option<mpsc::Sender<(RelayNo, RelayEvent)>>,
}

impl Lanes {
    pub(super) fn new(count: usize, outside: Outside, events: mpsc::Sender<(RelayNo, RelayEvent)>) -> Self {
        Self { open: Vec::new(), free: (0..count).collect(), outside, events: Some(events) }
    }

    /// No task begins any more.
    pub(super) fn end(&mut self) {
        self.events = None;
    }
}

impl RelayTask {
    /// Of a lane that is not in use.
    pub(super) fn idle(ticket: &RelayTicket) -> Self {
        Self {
            handle: None,
            stream: None,
            address: ticket.addresses.first().cloned().unwrap_or_default(),
            local: None,
            connecting: false,
            outage_told: false,
            mute: 0,
        }
    }
}

impl EventLoop {
    /// Opens and closes lanes, so that there is one for each secret.
    pub(super) fn follow_secrets(&mut self) {
        let Some(trust) = self.endpoint.trust() else { return };
        let held: Vec<NetworkId> = trust.secrets().ids().collect();
        let is_over = |network: &Option<NetworkId>| network.is_none_or(|network| !held.contains(&network));
        let over: Vec<usize> =
            self.lanes.open.iter().filter(|(_, network)| is_over(network)).map(|(lane, _)| *lane).collect();
        // First the new ones: whoever is met there need not be missed.
        self.open_lanes(&held);
        over.into_iter().for_each(|lane| self.close_lane(lane));
        self.open_lanes(&held);
    }

    fn open_lanes(&mut self, held: &[NetworkId]) {
        for network in held {
            if !self.lanes.open.iter().any(|(_, open)| *open == Some(*network))
                && let Some(lane) = self.lanes.free.pop_front()
            {
                self.open_lane(lane, Some(*network));
            }
        }
    }

    /// Streams of this lane open from now on, and register under that secret.
    pub(super) fn open_lane(&mut self, lane: usize, network: Option<NetworkId>) {
        let (Some(plane), Some(events)) = (&self.plane, &self.lanes.events) else { return };
        self.lanes.free.retain(|free| *free != lane);
        self.lanes.open.push((lane, network));
        for (at, ticket) in self.relay_tickets.iter().enumerate() {
            let no = RelayNo(lane * self.relay_tickets.len() + at);
            self.endpoint.set_lane(no, network);
            let task = Relay {
                no,
                addresses: ticket.addresses.clone(),
                outside: self.lanes.outside.clone(),
                events: events.clone(),
                inbound: plane.messages(),
                producer: plane.outbound_waker(),
            };
            if let Some(known) = self.relays.get_mut(no.0) {
                *known = RelayTask { handle: Some(relay::spawn(task, SystemRng)), ..RelayTask::idle(ticket) };
            }
        }
    }

    fn close_lane(&mut self, lane: usize) {
        let count = self.relay_tickets.len();
        for no in (lane * count..(lane + 1) * count).map(RelayNo) {
            let Some(task) = self.relays.get_mut(no.0) else { continue };
            if let Some(handle) = task.handle.take() {
                handle.end();
            }
            let Some(stream) = task.stream.take() else { continue };
            self.routes.set_stream(no, None);
            self.endpoint.handle_stream_closed(Instant::now(), no);
            stream.finish();
            self.listen_elsewhere(no);
        }
        self.lanes.open.retain(|(open, _)| *open != lane);
        self.lanes.free.push_back(lane);
    }

    /// Whether people are shown this stream: of a relay the one under the secret in force.
    pub(super) fn is_shown(&self, no: RelayNo) -> bool {
        let lane = no.0 / self.relay_tickets.len().max(1);
        self.shown_lane() == Some(lane)
    }

    fn shown_lane(&self) -> Option<usize> {
        let in_force = self.network_in_force();
        let shown = self.lanes.open.iter().find(|(_, network)| network.is_none() || *network == in_force);
        shown.or_else(|| self.lanes.open.first()).map(|(lane, _)| *lane)
    }

    /// What the network is called at relays, by the secret in force.
    pub(super) fn network_in_force(&self) -> Option<NetworkId> {
        let trust = self.endpoint.trust()?;
        trust.secrets().id_in_force(trust.view().secret())
    }
}
