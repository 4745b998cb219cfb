//! The streams to relays: one to each for every secret of the network that is in use (protocol §8.8).
//!
//! What leads to all relays under one secret is a *lane*. A network without certificates has one lane, for ever. In another a lane opens
//! when a secret is taken, and closes when it is given up; what went by it goes by another then, like anything when a relay is lost.
//!
//! Which relays there are is said by the network's record and by this host's own configuration. That changes while the daemon runs: streams
//! to relays that are new open at once, and those to relays that nobody names any more, or at other addresses, end [`LEAVE_AFTER`] that,
//! when others have heard of it as well, and not before another relay has registered this node: a list that leads nowhere cuts nobody off.
//!
//! # Invariants
//!
//! - Each stream has a relay number, the same in all tables. One that was given back rests until [`REST`] others were: what its task had
//!   yet to say is over by then.
//! - In each open lane there is one stream to each relay in use, and beside them those that are leaving.

use super::{EventLoop, RelayTask};
use crate::config::ProxyRule;
use crate::system_rng::SystemRng;
use crate::transport::outside::Outside;
use crate::transport::relay::{self, Relay, RelayEvent, RelayHandle};
use shadowmesh_proto::ids::NetworkId;
use shadowmesh_proto::ticket::{Address, RelayTicket};
use shadowmesh_proto::time::Deadline;
use shadowmesh_proto::transmit::RelayNo;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A relay that is not named any more is left so long after that was heard.
const LEAVE_AFTER: Duration = Duration::from_secs(15);
/// Numbers that rest.
const REST: usize = 16;

/// Which lanes there are.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Which secret each is for; nothing in a network without certificates.
    open: Vec<Option<NetworkId>>,
    /// Which was given back first comes first.
    resting: VecDeque<RelayNo>,
    /// [`LEAVE_AFTER`].
    pub(super) leave_after: Duration,
    outside: Outside,
    /// By which proxy the relays are reached.
    pub(super) proxy: Option<Arc<ProxyRule>>,
    /// What tasks are given to speak through; nothing when the daemon ends.
    events: Option<mpsc::Sender<(RelayNo, RelayEvent)>>,
}

/// What a stream is for.
#[derive(Debug)]
pub(super) struct Place {
    lane: Option<NetworkId>,
    ticket: RelayTicket,
    /// Nobody names that relay any more: it is left then at the earliest.
    leaves: Option<Instant>,
}

impl Lanes {
    pub(super) fn new(
        outside: Outside,
        proxy: Option<ProxyRule>,
        events: mpsc::Sender<(RelayNo, RelayEvent)>,
    ) -> Self {
        let (open, resting) = (Vec::new(), VecDeque::new());
        let proxy = proxy.map(Arc::new);
        Self { open, resting, leave_after: LEAVE_AFTER, outside, proxy, events: Some(events) }
    }

    /// No task begins any more.
    pub(super) fn end(&mut self) {
        self.events = None;
    }
}

impl RelayTask {
    /// Of a stream that is to be opened.
    fn new(place: Place, handle: RelayHandle, proxy: Option<&ProxyRule>) -> Self {
        let address = place.ticket.addresses.first().cloned().unwrap_or_default();
        let is_proxied = proxy.is_some_and(|rule| rule.by(Address::of(&address).host_port).is_some());
        Self {
            address,
            place: Some(place),
            handle: Some(handle),
            stream: None,
            local: None,
            is_proxied,
            connecting: false,
            outage_told: false,
            refused: None,
            mute: 0,
        }
    }
}

impl EventLoop {
    /// Opens and closes lanes, so that there is one for each secret.
    pub(super) fn follow_secrets(&mut self) {
        let Some(trust) = self.endpoint.trust() else { return };
        let held: Vec<_> = trust.secrets().ids().map(Some).collect();
        // First the new ones: whoever is met there need not be missed.
        for lane in &held {
            if !self.lanes.open.contains(lane) {
                self.open_lane(*lane);
            }
        }
        let over: Vec<_> = self.lanes.open.extract_if(.., |lane| !held.contains(lane)).collect();
        self.close_streams(|place| over.contains(&place.lane));
    }

    /// Streams under that secret open from now on.
    pub(super) fn open_lane(&mut self, lane: Option<NetworkId>) {
        self.lanes.open.push(lane);
        for ticket in self.relay_tickets.clone() {
            self.open_stream(lane, ticket);
        }
    }

    /// The relays in use are these from now on.
    pub(super) fn use_relays(&mut self, tickets: Vec<RelayTicket>) {
        self.relay_tickets = tickets;
        let leaves = Instant::now() + self.lanes.leave_after;
        for place in self.relays.iter_mut().filter_map(|task| task.place.as_mut()) {
            let is_named = self.relay_tickets.contains(&place.ticket);
            place.leaves = (!is_named).then(|| place.leaves.unwrap_or(leaves));
        }
        for lane in self.lanes.open.clone() {
            for ticket in self.relay_tickets.clone() {
                let is_it = |place: &Place| place.lane == lane && place.ticket == ticket;
                if !self.relays.iter().filter_map(|task| task.place.as_ref()).any(is_it) {
                    self.open_stream(lane, ticket);
                }
            }
        }
    }

    /// When [`Self::leave_relays`] has something to do that it had not before.
    pub(super) fn leave_at(&self) -> Option<Deadline> {
        let now = Instant::now();
        let places = self.relays.iter().filter_map(|task| task.place.as_ref());
        let next = places.filter_map(|place| place.leaves).filter(|leaves| *leaves > now).min()?;
        Some(Deadline::new(next, "a relay that is not the network's any more is left"))
    }

    /// Leaves the relays that are due, once another has registered this node.
    pub(super) fn leave_relays(&mut self) {
        let now = Instant::now();
        let is_due = |place: &Place| place.leaves.is_some_and(|leaves| leaves <= now);
        let places = || self.relays.iter().map(|task| task.place.as_ref());
        if !places().flatten().any(is_due) {
            return;
        }
        let status = self.endpoint.relay_status();
        let stays = |place: Option<&Place>| place.is_some_and(|place| place.leaves.is_none());
        if status.iter().zip(places()).any(|(status, place)| status.registered && stays(place)) {
            self.close_streams(is_due);
        }
    }

    fn open_stream(&mut self, lane: Option<NetworkId>, ticket: RelayTicket) {
        let (Some(plane), Some(events)) = (&self.plane, &self.lanes.events) else { return };
        let rested = if self.lanes.resting.len() > REST { self.lanes.resting.pop_front() } else { None };
        let no = rested.unwrap_or(RelayNo(self.relays.len()));
        self.endpoint.set_relay(Instant::now(), no, ticket.key);
        self.endpoint.set_lane(no, lane);
        let task = Relay {
            no,
            addresses: ticket.addresses.clone(),
            outside: self.lanes.outside.clone(),
            proxy: self.lanes.proxy.clone(),
            events: events.clone(),
            inbound: plane.messages(),
            producer: plane.outbound_waker(),
        };
        let place = Place { lane, ticket, leaves: None };
        let task = RelayTask::new(place, relay::spawn(task, SystemRng), self.lanes.proxy.as_deref());
        match self.relays.get_mut(no.0) {
            Some(known) => *known = task,
            None => self.relays.push(task),
        }
    }

    fn close_streams(&mut self, ends: impl Fn(&Place) -> bool) {
        for at in 0..self.relays.len() {
            let Some(task) = self.relays.get_mut(at) else { continue };
            if task.place.take_if(|place| ends(place)).is_none() {
                continue;
            }
            let no = RelayNo(at);
            self.lanes.resting.push_back(no);
            if let Some(handle) = task.handle.take() {
                handle.end();
            }
            if let Some(stream) = self.take_stream(no) {
                stream.finish();
            }
        }
    }

    /// Whether people are shown this stream: of a relay the one under the secret in force.
    pub(super) fn is_shown(&self, no: RelayNo) -> bool {
        let place = self.relays.get(no.0).and_then(|task| task.place.as_ref());
        place.is_some_and(|place| self.shown_lane() == Some(place.lane))
    }

    fn shown_lane(&self) -> Option<Option<NetworkId>> {
        let in_force = self.network_in_force();
        let shown = self.lanes.open.iter().find(|lane| lane.is_none() || **lane == in_force);
        shown.or_else(|| self.lanes.open.first()).copied()
    }

    /// What the network is called at relays, by the secret in force.
    pub(super) fn network_in_force(&self) -> Option<NetworkId> {
        let trust = self.endpoint.trust()?;
        trust.secrets().id_in_force(trust.view().secret())
    }
}
