//! What becomes of a frame read from our own device: to one peer, to all, or nowhere.
//!
//! The order of the questions, first answer wins:
//!
//! 1. Can it be read, and may it have come from here? Sources that are groups, or another member's own
//!    address, are dropped: the second is a loop through a bridge behind our device, or a forgery that every
//!    receiver would drop anyway.
//! 2. Is it for a group? To all peers.
//! 3. Does the destination have an owner? To that member; to ourselves never.
//! 4. Where was the destination last heard? There; if that is behind our own device, nowhere.
//! 5. To all peers. Ordinary traffic soon stops this by answering.

use std::time::Instant;

use shadowmesh_proto::ids::PeerSlot;

use super::frame::{EthernetHeader, is_broadcast, is_multicast};
use super::learner::Learn;
use super::limits::Limits;
use super::owners::{Owner, Owners};
use super::table::{Learned, Place, Table};

/// Where a frame from our own device goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To this peer.
    Unicast(PeerSlot),
    /// To every peer.
    Flood(Reach),
    /// Nowhere.
    Drop(OutboundDrop),
}

/// Why a frame goes to every peer. They are counted, and later budgeted, apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// It is for everyone.
    Broadcast,
    /// It is for a group, and who is in it is not known.
    Multicast,
    /// It is for one station, and where that is is not known.
    Unknown,
}

/// Why a frame from our own device goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutboundDrop {
    /// It ends inside its Ethernet header.
    Truncated,
    /// Its source is a group address.
    SourceIsGroup,
    /// Its source is a member's own address.
    SourceIsMember(PeerSlot),
    /// It is for our own device.
    ToOurselves,
    /// It is for a station that was last heard behind our own device.
    Hairpin,
}

/// The outbound thread's half of the switch.
#[derive(Debug)]
pub struct Forwarder {
    table: Table,
}

impl Forwarder {
    /// Knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self { table: Table::new(limits) }
    }

    /// Decides about a frame read from our own device, and learns where its sender is.
    pub fn forward(&mut self, owners: &Owners, frame: &[u8], now: Instant) -> Verdict {
        let Some(header) = EthernetHeader::parse(frame) else {
            return Verdict::Drop(OutboundDrop::Truncated);
        };
        if is_multicast(header.source) {
            return Verdict::Drop(OutboundDrop::SourceIsGroup);
        }
        match owners.owner(header.source) {
            Some(Owner::Local) => {}
            Some(Owner::Member(slot)) => return Verdict::Drop(OutboundDrop::SourceIsMember(slot)),
            None => {
                self.table.learn_local(owners, header.sender(), now);
            }
        }
        if is_multicast(header.destination) {
            let everyone = is_broadcast(header.destination);
            return Verdict::Flood(if everyone { Reach::Broadcast } else { Reach::Multicast });
        }
        match owners.owner(header.destination) {
            Some(Owner::Local) => return Verdict::Drop(OutboundDrop::ToOurselves),
            Some(Owner::Member(slot)) => return Verdict::Unicast(slot),
            None => {}
        }
        match self.table.lookup(header.receiver(), now) {
            Some(Place::Peer(slot)) => Verdict::Unicast(slot),
            Some(Place::Local) => Verdict::Drop(OutboundDrop::Hairpin),
            None => Verdict::Flood(Reach::Unknown),
        }
    }

    /// Takes over what the inbound thread learned.
    pub fn learn(&mut self, owners: &Owners, learn: Learn, now: Instant) -> Learned {
        self.table.learn(owners, learn.station, Place::Peer(learn.slot), now)
    }

    /// Forgets everything behind a peer that left.
    pub fn forget(&mut self, slot: PeerSlot) {
        self.table.forget(slot);
    }

    /// The table, to look at.
    pub const fn table(&self) -> &Table {
        &self.table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::{Inbound, Learner, Station};
    use proptest::prelude::*;
    use shadowmesh_proto::ids::MacAddr;
    use std::time::Duration;

    const A: PeerSlot = PeerSlot(1);
    const B: PeerSlot = PeerSlot(2);

    const fn mac(n: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, n])
    }

    const LOCAL: MacAddr = mac(0);
    const EVERYONE: MacAddr = MacAddr([0xff; 6]);
    const GROUP: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 0xfb]);

    fn frame(destination: MacAddr, source: MacAddr) -> Vec<u8> {
        [&destination.0[..], &source.0, &[0x08, 0x06], &[0; 46]].concat()
    }

    fn tagged(destination: MacAddr, source: MacAddr, vlan: u8) -> Vec<u8> {
        [&destination.0[..], &source.0, &[0x81, 0, 0, vlan, 0x08, 0x06], &[0; 46]].concat()
    }

    /// Members A with mac(1) and B with mac(2).
    fn network() -> (Forwarder, Owners, Instant) {
        let mut owners = Owners::new(LOCAL);
        owners.assign(mac(1), A).unwrap();
        owners.assign(mac(2), B).unwrap();
        (Forwarder::new(Limits::default()), owners, Instant::now())
    }

    fn heard(mac: MacAddr, vlan: u16, slot: PeerSlot) -> Learn {
        Learn { station: Station { mac, vlan }, slot }
    }

    #[test]
    fn groups_go_to_all_and_members_to_one() {
        let (mut switch, owners, now) = network();
        let mut to = |destination| switch.forward(&owners, &frame(destination, LOCAL), now);
        assert_eq!(to(EVERYONE), Verdict::Flood(Reach::Broadcast));
        assert_eq!(to(GROUP), Verdict::Flood(Reach::Multicast));
        assert_eq!(to(mac(1)), Verdict::Unicast(A));
        assert_eq!(to(mac(2)), Verdict::Unicast(B));
        assert_eq!(to(mac(9)), Verdict::Flood(Reach::Unknown));
        assert_eq!(to(LOCAL), Verdict::Drop(OutboundDrop::ToOurselves));
        assert_eq!(
            switch.forward(&owners, &frame(mac(1), LOCAL)[..13], now),
            Verdict::Drop(OutboundDrop::Truncated)
        );
    }

    #[test]
    fn a_learned_station_is_reached_in_its_vlan_until_it_is_old() {
        let (mut switch, owners, now) = network();
        assert_eq!(switch.learn(&owners, heard(mac(9), 7, A), now), Learned::New);
        let later = |seconds| now + Duration::from_secs(seconds);
        let mut to = |frame: &[u8], now| switch.forward(&owners, frame, now);
        assert_eq!(to(&tagged(mac(9), LOCAL, 7), later(299)), Verdict::Unicast(A));
        assert_eq!(to(&tagged(mac(9), LOCAL, 8), now), Verdict::Flood(Reach::Unknown));
        assert_eq!(to(&frame(mac(9), LOCAL), now), Verdict::Flood(Reach::Unknown));
        assert_eq!(to(&tagged(mac(9), LOCAL, 7), later(300)), Verdict::Flood(Reach::Unknown));
    }

    #[test]
    fn stations_behind_our_own_device_are_not_sent_to_peers() {
        let (mut switch, owners, now) = network();
        assert_eq!(switch.forward(&owners, &frame(EVERYONE, mac(30)), now), Verdict::Flood(Reach::Broadcast));
        assert_eq!(
            switch.forward(&owners, &frame(mac(30), mac(31)), now),
            Verdict::Drop(OutboundDrop::Hairpin)
        );
        // It moves to A's side, is reported from there, and is reached there.
        let moved = Learned::Moved { from: Place::Local, flapping: false };
        assert_eq!(switch.learn(&owners, heard(mac(30), 0, A), now), moved);
        assert_eq!(switch.forward(&owners, &frame(mac(30), mac(31)), now), Verdict::Unicast(A));
    }

    #[test]
    fn sources_that_cannot_be_here_are_dropped() {
        let (mut switch, owners, now) = network();
        let mut from = |source| switch.forward(&owners, &frame(EVERYONE, source), now);
        assert_eq!(from(GROUP), Verdict::Drop(OutboundDrop::SourceIsGroup));
        assert_eq!(from(EVERYONE), Verdict::Drop(OutboundDrop::SourceIsGroup));
        assert_eq!(from(mac(2)), Verdict::Drop(OutboundDrop::SourceIsMember(B)));
    }

    #[test]
    fn what_a_departed_peer_had_is_forgotten() {
        let (mut switch, mut owners, now) = network();
        switch.learn(&owners, heard(mac(9), 0, A), now);
        switch.forget(A);
        owners.remove(A);
        for destination in [mac(9), mac(1)] {
            assert_eq!(
                switch.forward(&owners, &frame(destination, LOCAL), now),
                Verdict::Flood(Reach::Unknown)
            );
        }
    }

    proptest! {
        /// Both halves together: a station that keeps talking is always sent to where it last spoke, except
        /// while it moves too often.
        #[test]
        fn who_keeps_talking_is_reached_where_it_last_spoke(
            talk in proptest::collection::vec((10u8..16, 1u32..4, 300u64..60_000), 1..200),
        ) {
            let (mut switch, owners, mut now) = network();
            let mut learner = Learner::new(Limits::default());
            let mut last = std::collections::HashMap::new();
            for (n, slot, wait) in talk {
                now += Duration::from_millis(wait);
                let slot = PeerSlot(slot);
                let Inbound::Deliver(news) = learner.receive(&owners, &frame(LOCAL, mac(n)), slot, now) else {
                    panic!("nothing here is to be dropped");
                };
                if let Some(learn) = news {
                    switch.learn(&owners, learn, now);
                }
                last.insert(n, (slot, now));
                for (n, (slot, heard)) in &last {
                    if now - *heard < Duration::from_secs(270) {
                        let verdict = switch.forward(&owners, &frame(mac(*n), LOCAL), now);
                        prop_assert_eq!(verdict, Verdict::Unicast(*slot));
                    }
                }
            }
        }

        #[test]
        fn no_frame_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let (mut switch, owners, now) = network();
            switch.forward(&owners, &bytes, now);
            Learner::new(Limits::default()).receive(&owners, &bytes, A, now);
        }
    }
}
