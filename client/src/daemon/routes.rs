//! The picture that the data plane works from: kept here, published as a whole when it changed.

use crate::plane::{PeerCounters, PeerRoute, Plane, Snapshot, StreamHandle};
use crate::switch::Owners;
use shadowmesh_proto::endpoint::event::{Contact, PeerState};
use shadowmesh_proto::ids::{MacAddr, PeerSlot};
use shadowmesh_proto::session::AckMarks;
use shadowmesh_proto::transmit::RelayNo;
use std::sync::Arc;

/// Peers, streams and owners as the control side knows them.
#[derive(Debug)]
pub(super) struct Routes {
    owners: Owners,
    peers: Vec<Peer>,
    streams: Vec<Option<StreamHandle>>,
    changed: bool,
}

#[derive(Debug, Default)]
struct Peer {
    contact: Option<Contact>,
    is_expected: bool,
    counters: Arc<PeerCounters>,
    marks: Arc<AckMarks>,
}

impl Routes {
    pub(super) fn new(local: MacAddr, relays: usize) -> Self {
        let streams = vec![None; relays];
        Self { owners: Owners::new(local), peers: Vec::new(), streams, changed: false }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let route = |peer: &Peer| PeerRoute {
            contact: peer.contact,
            is_expected: peer.is_expected,
            counters: Arc::clone(&peer.counters),
        };
        Snapshot {
            owners: self.owners.clone(),
            peers: self.peers.iter().map(route).collect(),
            streams: self.streams.clone(),
        }
    }

    /// Publishes what changed since the last call.
    pub(super) fn publish(&mut self, plane: &Plane) {
        if std::mem::take(&mut self.changed) {
            plane.publish(self.snapshot());
        }
    }

    pub(super) fn set_stream(&mut self, relay: RelayNo, stream: Option<StreamHandle>) {
        if let Some(place) = self.streams.get_mut(relay.0) {
            *place = stream;
            self.changed = true;
        }
    }

    pub(super) fn set_contact(&mut self, slot: PeerSlot, contact: Option<Contact>) {
        self.change(slot, |peer| peer.contact = contact);
    }

    pub(super) fn set_state(&mut self, slot: PeerSlot, state: PeerState) {
        self.change(slot, |peer| peer.is_expected = state != PeerState::Offline);
    }

    /// Gives a peer its MAC; the sentence says why not.
    pub(super) fn set_mac(&mut self, slot: PeerSlot, mac: MacAddr) -> Result<(), String> {
        self.changed = true;
        self.owners.assign(mac, slot).map_err(|taken| taken.to_string())
    }

    /// A new association: acknowledgements of the old one mean nothing for it.
    pub(super) fn renew_marks(&mut self, slot: PeerSlot) -> Arc<AckMarks> {
        let marks = Arc::new(AckMarks::new());
        self.change(slot, |peer| peer.marks = Arc::clone(&marks));
        marks
    }

    pub(super) fn marks(&self, slot: PeerSlot) -> Option<&AckMarks> {
        Some(&self.peers.get(usize::try_from(slot.0).ok()?)?.marks)
    }

    pub(super) fn counters(&self, slot: PeerSlot) -> Option<&PeerCounters> {
        Some(&self.peers.get(usize::try_from(slot.0).ok()?)?.counters)
    }

    pub(super) fn add(&mut self, slot: PeerSlot) {
        self.change(slot, |_| ());
    }

    fn change(&mut self, slot: PeerSlot, f: impl FnOnce(&mut Peer)) {
        let Ok(at) = usize::try_from(slot.0) else { return };
        if at >= self.peers.len() {
            self.peers.resize_with(at + 1, Peer::default);
        }
        if let Some(peer) = self.peers.get_mut(at) {
            f(peer);
            self.changed = true;
        }
    }
}
