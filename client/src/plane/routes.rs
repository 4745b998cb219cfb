//! The control side of the data plane: what the endpoint decides, turned into commands for the threads and into the picture that
//! they work from, which is published as a whole when it changed.

use super::members::Members;
use super::{Fact, InboundCommand, OutboundCommand, PeerCounters, PeerRoute, Plane, Snapshot, StreamHandle};
use crate::access::Access;
use crate::switch::{Bridging, Directory, OwnSockets, Rights, SwitchConfig};
use shadowmesh_proto::endpoint::Endpoint;
use shadowmesh_proto::endpoint::event::{Event, PeerState, RelayBinding, Via};
use shadowmesh_proto::ids::{NodeId, PeerSlot};
use shadowmesh_proto::rules::{self, Rules, Subject};
use shadowmesh_proto::session::{AckMarks, PathSlot};
use shadowmesh_proto::transmit::{RelayNo, TcpLink};
use shadowmesh_proto::wire::control::Hello;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What a move cost: sent again and lost by this side, from the moment of it on; the rest as this side received, also from when the
/// peer's data began to come by another path, where that was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MoveCost {
    /// Packets that went once more.
    pub resent: u64,
    /// Packets given up.
    pub lost: u64,
    /// Packets that came twice, and were dropped the second time.
    pub duplicates: u64,
    /// Packets delivered after a later one.
    pub reordered: u64,
    /// How often the peer's data began to come by another path.
    moves: u64,
    /// Duplicates and what was out of order when it last did.
    before: [u64; 2],
    /// The silence when it last did; `None` where the peer had little to say, or has not moved with this side.
    pub gap: Option<Duration>,
}

impl MoveCost {
    fn counted(counters: &PeerCounters) -> Self {
        Self {
            resent: counters.resent.load(Relaxed),
            lost: counters.lost.load(Relaxed),
            duplicates: counters.rx_duplicates.load(Relaxed),
            reordered: counters.rx_reordered.load(Relaxed),
            moves: counters.rx_moves.load(Relaxed),
            before: [&counters.rx_duplicates_before, &counters.rx_reordered_before]
                .map(|count| count.load(Relaxed)),
            gap: counters.rx_gap_us.load(Relaxed).checked_sub(1).map(Duration::from_micros),
        }
    }
}

/// What the network vouches for of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// What access rules call it.
    pub subject: Subject,
    /// Addresses that it was given; none where those of its key are its own.
    pub addresses: Vec<IpAddr>,
}

/// Peers, streams and members as the control side knows them.
#[derive(Debug)]
pub struct Routes {
    members: Members,
    /// Made of the members as they were when it was made.
    directory: Arc<Directory>,
    peers: Vec<Peer>,
    streams: Vec<Option<StreamHandle>>,
    links: Vec<(TcpLink, StreamHandle)>,
    bindings: Vec<Option<RelayBinding>>,
    stun: Arc<[SocketAddr]>,
    own: Arc<OwnSockets>,
    /// Peers whose association was replaced since the picture was published last.
    started: Vec<PeerSlot>,
    /// This node, as the network vouches for it.
    here: Option<Subject>,
    /// Whether the network has certificates: rules judge a peer by what those say, and nobody else may send anything.
    is_certified: bool,
    /// Since there were rules.
    access: Option<Access>,
    /// What the switch asks them for; none where there are none.
    rules: Rules,
    changed: bool,
}

/// What a move had under way has come by then, or been sent again: the longest that a receiver waits for it is half a second (protocol §7.6),
/// and what is repeated is repeated after so many round trips.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Peer {
    /// Who it is; `None` where nobody is.
    id: Option<NodeId>,
    /// What the network vouches for of it; nothing but the id without.
    subject: Option<Subject>,
    /// What the data plane is told.
    route: PeerRoute,
    /// What was counted when data last moved.
    at_move: MoveCost,
    /// The peer's moves when it moved the time before.
    moves_before: u64,
    /// What was counted when the next doubt began: what comes after that is not this move's.
    settled: Option<MoveCost>,
    /// What was counted when the doubt began that there is now.
    at_doubt: Option<MoveCost>,
    /// When data last moved.
    moved: Option<Instant>,
    /// Duplicates and what was out of order [`SETTLED_AFTER`] that: what comes later a line did, or somebody who repeats packets.
    received: Option<[u64; 2]>,
    marks: Arc<AckMarks>,
}

impl Routes {
    /// No route to anybody. `members` says who everybody is.
    pub fn new(mut members: Members) -> Self {
        Self {
            directory: Arc::new(members.directory()),
            members,
            peers: Vec::new(),
            streams: Vec::new(),
            links: Vec::new(),
            bindings: Vec::new(),
            stun: Arc::default(),
            own: Arc::default(),
            started: Vec::new(),
            here: None,
            is_certified: false,
            access: None,
            rules: Rules::default(),
            changed: false,
        }
    }

    /// Does what `event` means for the data plane. Gives it back where somebody else may want it as well.
    ///
    /// # Errors
    /// A sentence for people, where a peer does not get what it should.
    pub fn steer(&mut self, now: Instant, plane: &Plane, event: Event) -> Result<Option<Event>, String> {
        match event {
            Event::PeerAdded { slot, id } => {
                tracing::debug!(peer = %id.short(), "a peer was introduced");
                self.add(now, slot, id)?;
            }
            Event::PeerRemoved { slot } => {
                self.remove(slot);
                plane.outbound(OutboundCommand::Remove(slot));
                plane.inbound(InboundCommand::Forget(slot));
                return Ok(Some(event));
            }
            Event::OpenAssociation { slot, association, key } => {
                plane.inbound(InboundCommand::Open { slot, association, key });
            }
            Event::AddOpenKey { association, key } => {
                plane.inbound(InboundCommand::AddKey { association, key })
            }
            Event::RetireOpenKey { association, index } => {
                plane.inbound(InboundCommand::RetireKey { association, index });
            }
            Event::ShutAssociation { association } => plane.inbound(InboundCommand::Shut(association)),
            Event::CloseAssociation { association } => plane.inbound(InboundCommand::Close(association)),
            Event::StartAssociation { slot, key, .. } => {
                let marks = self.renew_marks(slot);
                plane.outbound(OutboundCommand::Start { slot, key, marks });
                self.started.push(slot);
            }
            Event::AddSealKey { slot, key } => plane.outbound(OutboundCommand::AddKey { slot, key }),
            Event::StopSealing { slot, number } => {
                plane.outbound(OutboundCommand::StopSealing { slot, number });
            }
            Event::ResumeSealing { slot } => plane.outbound(OutboundCommand::ResumeSealing(slot)),
            Event::EndAssociation { slot } => plane.outbound(OutboundCommand::End(slot)),
            Event::Route { slot, via, room } => {
                self.change(slot, |peer| (peer.route.via, peer.route.room) = (via, room));
            }
            Event::Resend { slot, path } => self.give_up(slot, path),
            Event::Sources { slot, addresses } => {
                self.change(slot, |peer| peer.route.sources = addresses.into());
            }
            Event::Doubt { slot, path } => self.change(slot, |peer| {
                peer.route.doubted = path;
                peer.at_doubt = path.map(|_| MoveCost::counted(&peer.route.counters));
                peer.settled = peer.settled.or(peer.at_doubt);
            }),
            Event::Patience { slot, patience } => self.change(slot, |peer| peer.route.patience = patience),
            Event::Acked { slot, paths, floor } => {
                if let Some(marks) = self.marks(slot) {
                    marks.record(&paths, floor);
                }
                self.settle(now, slot);
            }
            Event::RelayBound { relay, binding } => {
                tracing::debug!(relay = relay.0, bound = binding.is_some(), "datagrams through the relay");
                self.set_binding(relay, binding);
            }
            Event::Moved { slot, .. } => {
                self.note_move(now, slot);
                return Ok(Some(event));
            }
            Event::PeerState { slot, state } => {
                let is_there = state != PeerState::Offline;
                self.change(slot, |peer| peer.route.is_expected = is_there);
                self.members.set_presence(slot, is_there);
                return Ok(Some(event));
            }
            Event::AddressChanged { address, .. } => {
                self.members.set_own(address);
                return Ok(Some(event));
            }
            Event::AddressTaken { address, claim, .. } => {
                self.members.take_own(address, claim);
                return Ok(Some(event));
            }
            Event::AddressSettled => {
                self.members.settle();
                return Ok(Some(event));
            }
            Event::PeerHello { .. }
            | Event::EchoReply { .. }
            | Event::AddressConflict { .. }
            | Event::RelayUp { .. }
            | Event::RelayDead { .. }
            | Event::RelayRefused { .. }
            | Event::TcpTry { .. }
            | Event::TcpKept { .. }
            | Event::TcpClose { .. }
            | Event::Membership { .. }
            | Event::Observed { .. } => return Ok(Some(event)),
        }
        Ok(None)
    }

    /// See [`Self::set_own_sockets`].
    pub fn own_sockets(&self) -> &OwnSockets {
        &self.own
    }

    /// Whose packets never enter the tunnel.
    pub fn set_own_sockets(&mut self, own: OwnSockets) {
        if *self.own != own {
            self.own = Arc::new(own);
            self.changed = true;
        }
    }

    /// The picture as it was published last, with the routes as they are now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            directory: Arc::clone(&self.directory),
            peers: self.peers.iter().map(|peer| peer.route.clone()).collect(),
            streams: self.streams.clone(),
            links: self.links.clone(),
            bindings: self.bindings.clone(),
            stun: Arc::clone(&self.stun),
            access: self.access.as_ref().and_then(Access::filter),
            own: Arc::clone(&self.own),
        }
    }

    /// From the next [`Self::publish`] on these rules, its own, say what of a peer this node, `here`, lets in.
    pub fn set_rules(&mut self, now: Instant, here: NodeId, rules: Rules) {
        let (peers, is_certified) = (&self.peers, self.is_certified);
        let access = self.access.get_or_insert_with(|| {
            let own = self.here.clone().unwrap_or_else(|| Subject::by_id(here));
            let mut access = Access::new(now, own);
            let known = (0..).map(PeerSlot).zip(peers);
            let known = known.filter_map(|(slot, peer)| Some((slot, peer.judged_as(is_certified)?)));
            known.for_each(|(slot, subject)| access.set_peer(now, slot, subject));
            access
        });
        access.set_rules(now, rules.clone().of_node(&here));
        self.rules = rules;
        self.changed = true;
        let own = self.here.clone().unwrap_or_else(|| Subject::by_id(here));
        self.members.set_own_rights(rights(&self.rules, &own));
        let slots = (0..).map(PeerSlot).take(self.peers.len());
        slots.for_each(|slot| self.follow_rights(slot));
    }

    /// From the next [`Self::publish`] on the switch goes by this.
    pub fn set_switch(&mut self, config: SwitchConfig) {
        self.members.set_switch(config);
    }

    /// What the rules let a peer do that the switch asks for.
    fn follow_rights(&mut self, slot: PeerSlot) {
        let known = usize::try_from(slot.0).ok().and_then(|at| self.peers.get(at)?.subject());
        if let Some(subject) = known {
            self.members.set_rights(slot, rights(&self.rules, &subject));
        }
    }

    /// The network has certificates: addresses are those that it vouches for, and none is anybody's before that.
    pub fn certify(&mut self) {
        self.members.certify();
        self.is_certified = true;
        let slots = (0..).map(PeerSlot).take(self.peers.len());
        slots.for_each(|slot| self.let_in(Instant::now(), slot));
    }

    /// Rules judge a peer by what the network vouches for of it; in a network with certificates, which vouches for nothing before that, nothing of
    /// it is let in: what a rule forbids to a tag is not to be had without one.
    fn let_in(&mut self, now: Instant, slot: PeerSlot) {
        let Some(access) = &mut self.access else { return };
        let peer = usize::try_from(slot.0).ok().and_then(|at| self.peers.get(at));
        match peer.and_then(|peer| peer.judged_as(self.is_certified)) {
            Some(subject) => access.set_peer(now, slot, subject),
            None => access.remove_peer(slot),
        }
        self.changed = true;
    }

    /// To whom the network's record gives addresses, and which it vouches for as this node's.
    pub fn set_given(&mut self, given: HashMap<IpAddr, NodeId>, own: Vec<IpAddr>) {
        self.members.set_given(given, own);
    }

    /// The network vouches for this name and these tags of this node.
    pub fn vouch_here(&mut self, now: Instant, subject: Subject) {
        if self.here.as_ref() == Some(&subject) {
            return;
        }
        if let Some(access) = &mut self.access {
            access.set_here(now, subject.clone());
            self.changed = true;
        }
        self.members.set_own_rights(rights(&self.rules, &subject));
        self.here = Some(subject);
    }

    /// The network vouches for this name, these tags and these addresses of a peer, or, with `None`, for nothing any more.
    pub fn vouch(&mut self, now: Instant, slot: PeerSlot, vouched: Option<Vouched>) {
        let (subject, addresses) = vouched.map(|Vouched { subject, addresses }| (subject, addresses)).unzip();
        self.members.vouch(slot, addresses);
        self.change(slot, |peer| peer.subject = subject);
        self.let_in(now, slot);
        self.follow_rights(slot);
    }

    /// Publishes what changed since the last call. Whether that is about who has which address.
    pub fn publish(&mut self, plane: &Plane) -> bool {
        // An association that is replaced on a path that stays proven brings no new route, and so no resend of its own; what
        // the one before holds still has to go out.
        for slot in std::mem::take(&mut self.started) {
            if self.via(slot).is_some() {
                self.give_up_all(slot);
            }
        }
        let renewed = self.members.renewed();
        let is_renewed = renewed.is_some();
        if let Some(directory) = renewed {
            self.directory = Arc::new(directory);
            self.changed = true;
        }
        if std::mem::take(&mut self.changed) {
            plane.publish(self.snapshot());
        }
        is_renewed
    }

    /// The addresses that a peer has, as far as this node believes.
    pub fn addresses(&self, slot: PeerSlot) -> &[IpAddr] {
        self.directory.member(slot).map_or(&[], |record| &record.addresses)
    }

    fn set_binding(&mut self, relay: RelayNo, binding: Option<RelayBinding>) {
        if relay.0 >= self.bindings.len() {
            self.bindings.resize(relay.0 + 1, None);
        }
        if let Some(place) = self.bindings.get_mut(relay.0) {
            *place = binding;
            self.changed = true;
        }
    }

    /// Whose STUN is asked: to be said before it is.
    pub fn set_stun(&mut self, asked: impl Iterator<Item = SocketAddr> + Clone) {
        if !self.stun.iter().copied().eq(asked.clone()) {
            self.stun = asked.collect();
            self.changed = true;
        }
    }

    /// The stream to a relay is there, or gone.
    pub fn set_stream(&mut self, relay: RelayNo, stream: Option<StreamHandle>) {
        if relay.0 >= self.streams.len() {
            self.streams.resize(relay.0 + 1, None);
        }
        if let Some(place) = self.streams.get_mut(relay.0) {
            *place = stream;
            self.changed = true;
        }
    }

    /// A direct connection is there.
    pub fn add_link(&mut self, link: TcpLink, stream: StreamHandle) {
        self.links.push((link, stream));
        self.changed = true;
    }

    /// It is gone.
    pub fn remove_link(&mut self, link: TcpLink) {
        let before = self.links.len();
        self.links.retain(|(known, _)| *known != link);
        self.changed |= self.links.len() < before;
    }

    /// A path was given up, or bound anew: what is not acknowledged on it is to go out once more.
    fn give_up(&mut self, slot: PeerSlot, path: PathSlot) {
        self.change(slot, |peer| {
            if let Some(count) = peer.route.given_up.get_mut(usize::from(path.number())) {
                *count += 1;
            }
        });
    }

    /// An association was replaced on a route that stays: what the one before holds is to go out once more, whatever path it
    /// went by.
    fn give_up_all(&mut self, slot: PeerSlot) {
        self.change(slot, |peer| peer.route.given_up.iter_mut().for_each(|count| *count += 1));
    }

    /// Where datagrams are sent to or come from now.
    pub fn datagram_addresses(&self) -> Vec<SocketAddr> {
        self.peers.iter().flat_map(|peer| peer.route.sources.iter().copied()).collect()
    }

    /// Where data for the peer goes.
    pub fn via(&self, slot: PeerSlot) -> Option<Via> {
        self.peers.get(usize::try_from(slot.0).ok()?)?.route.via
    }

    /// Data moved: notes what was counted before.
    fn note_move(&mut self, now: Instant, slot: PeerSlot) {
        self.change(slot, |peer| {
            peer.moves_before = peer.at_move.moves;
            // A move out of doubt costs what that doubt did.
            let counted = MoveCost::counted(&peer.route.counters);
            peer.at_move = peer.at_doubt.unwrap_or(counted);
            peer.settled = None;
            (peer.moved, peer.received) = (Some(now), None);
        });
    }

    /// The peer was heard: notes what its last move brought, when that is over.
    fn settle(&mut self, now: Instant, slot: PeerSlot) {
        let Some(peer) = usize::try_from(slot.0).ok().and_then(|at| self.peers.get_mut(at)) else { return };
        let is_over = peer.moved.is_some_and(|at| now.saturating_duration_since(at) >= SETTLED_AFTER);
        if is_over && peer.received.is_none() {
            let counted = MoveCost::counted(&peer.route.counters);
            peer.received = Some([counted.duplicates, counted.reordered]);
        }
    }

    /// What the last move cost so far.
    pub fn cost_of_move(&self, slot: PeerSlot) -> MoveCost {
        let peer = usize::try_from(slot.0).ok().and_then(|at| self.peers.get(at));
        let Some(peer) = peer else { return MoveCost::default() };
        let before = peer.at_move;
        let now = peer.settled.unwrap_or_else(|| MoveCost::counted(&peer.route.counters));
        let has_peer_moved = now.moves > peer.moves_before;
        let of_peer = if has_peer_moved { now.before } else { [u64::MAX; 2] };
        let (duplicates, reordered) = (before.duplicates.min(of_peer[0]), before.reordered.min(of_peer[1]));
        let received = peer.received.unwrap_or([u64::MAX; 2]);
        MoveCost {
            resent: now.resent.saturating_sub(before.resent),
            lost: now.lost.saturating_sub(before.lost),
            duplicates: now.duplicates.min(received[0]).saturating_sub(duplicates),
            reordered: now.reordered.min(received[1]).saturating_sub(reordered),
            moves: now.moves,
            before: now.before,
            gap: now.gap.filter(|_| has_peer_moved),
        }
    }

    /// A peer said who it is.
    ///
    /// # Errors
    /// A sentence for people, where what it claims does not follow from its key (protocol §1.5): a member that is believed there
    /// could take somebody else's frames.
    pub fn on_hello(&mut self, slot: PeerSlot, hello: &Hello) -> Result<(), String> {
        self.members.on_hello(slot, hello)
    }

    /// A new association: acknowledgements of the old one mean nothing for it.
    fn renew_marks(&mut self, slot: PeerSlot) -> Arc<AckMarks> {
        let marks = Arc::new(AckMarks::new());
        self.change(slot, |peer| peer.marks = Arc::clone(&marks));
        marks
    }

    fn marks(&self, slot: PeerSlot) -> Option<&AckMarks> {
        Some(&self.peers.get(usize::try_from(slot.0).ok()?)?.marks)
    }

    /// What is counted of the peer.
    pub fn counters(&self, slot: PeerSlot) -> Option<&Arc<PeerCounters>> {
        Some(&self.peers.get(usize::try_from(slot.0).ok()?)?.route.counters)
    }

    /// A peer is known. Its MAC is its own from now on, whatever others send: the sentence says if somebody has it already.
    fn add(&mut self, now: Instant, slot: PeerSlot, id: NodeId) -> Result<(), String> {
        self.change(slot, |peer| peer.id = Some(id));
        self.let_in(now, slot);
        let introduced = self.members.introduce(slot, id);
        self.follow_rights(slot);
        introduced
    }

    /// A peer is forgotten; its slot may be given to another, who begins with nothing of it.
    fn remove(&mut self, slot: PeerSlot) {
        self.members.remove(slot);
        if let Some(access) = &mut self.access {
            access.remove_peer(slot);
        }
        self.change(slot, |peer| *peer = Peer::default());
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

/// What `rules` let somebody do, in the words of the switch. Where they say who may bridge, nobody else speaks for another.
fn rights(rules: &Rules, subject: &Subject) -> Rights {
    let rules::Rights { bridge, dhcp, stp } = rules.rights(subject);
    Rights {
        may_bridge: match (bridge, rules.says_who_bridges()) {
            (true, _) => Bridging::Anybody,
            (false, true) => Bridging::Nothing,
            (false, false) => Bridging::Strangers,
        },
        may_serve_dhcp: dhcp,
        may_speak_to_bridges: stp,
    }
}

impl Peer {
    fn subject(&self) -> Option<Subject> {
        self.subject.clone().or_else(|| self.id.map(Subject::by_id))
    }

    /// As whom access rules judge it.
    fn judged_as(&self, is_certified: bool) -> Option<Subject> {
        if is_certified { self.subject.clone() } else { self.subject() }
    }
}

/// Tells the endpoint what the threads say of themselves.
pub fn tell(endpoint: &mut Endpoint, plane: &Plane, now: Instant, fact: Fact) {
    match fact {
        Fact::DataSent(slot, via, sealed) => endpoint.handle_data_sent(now, slot, via, sealed),
        Fact::Heard(slot, from) => endpoint.handle_heard(now, slot, from),
        Fact::AckDue(slot, via, report) => endpoint.handle_ack_report(now, slot, via, &report),
        Fact::KeyUsedUp(slot) => endpoint.handle_key_used_up(now, slot),
        Fact::Stopped(slot, number, is_empty) => endpoint.handle_sealing_stopped(now, slot, number, is_empty),
        Fact::Wanted(slot) => endpoint.handle_wanted(now, slot),
        // What the outbound thread forgot must be news to the inbound one.
        Fact::Forgotten(slot) => plane.inbound(InboundCommand::Forget(slot)),
        // For people.
        Fact::Loop(_) | Fact::Rogue(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{AccessDrop, Verdict};
    use crate::switch::SwitchConfig;
    use shadowmesh_proto::addresses::{self, AddressSpace};
    use shadowmesh_proto::wire::control::Claim;

    /// No route from the node `here`.
    fn routes(here: NodeId) -> Routes {
        let mac = addresses::mac(&here);
        let hello = Hello {
            name: "x".into(),
            mac,
            ipv4: None,
            ipv6: None,
            claim: Claim::Fresh,
            mtu: 1400,
            revision: 1,
        };
        Routes::new(Members::new(here, AddressSpace([7; 32]), &hello, SwitchConfig::default()))
    }

    #[test]
    fn what_the_rules_let_a_member_do_reaches_the_switch() {
        let (now, here) = (Instant::now(), NodeId([9; 32]));
        let [a, b] = [1, 2].map(|byte| NodeId([byte; 32]));
        let mut routes = routes(here);
        routes.certify();
        routes.add(now, PeerSlot(0), a).expect("its own");
        routes.add(now, PeerSlot(1), b).expect("its own");
        let lan = |id| {
            let subject = Subject { id, name: "x".into(), tags: vec!["lan".into()] };
            Some(Vouched { subject, addresses: vec![] })
        };
        routes.vouch(now, PeerSlot(0), lan(a));
        let may = |routes: &mut Routes, slot| routes.members.directory().rights(PeerSlot(slot));
        assert_eq!((may(&mut routes, 0), may(&mut routes, 1)), (Rights::default(), Rights::default()));

        let text = format!("bridge tag:lan\ndhcp tag:lan\nstp id:{}\n", here.to_base32());
        routes.set_rules(now, here, Rules::parse(text.as_bytes()).expect("rules"));
        let named =
            Rights { may_bridge: Bridging::Anybody, may_serve_dhcp: true, may_speak_to_bridges: false };
        let others = Rights { may_bridge: Bridging::Nothing, ..Rights::default() };
        assert_eq!((may(&mut routes, 0), may(&mut routes, 1)), (named, others));
        assert!(routes.members.directory().own_rights().may_speak_to_bridges);
        // Tags change, and another comes into the place.
        routes.vouch(now, PeerSlot(1), lan(b));
        routes.vouch(now, PeerSlot(0), None);
        assert_eq!((may(&mut routes, 0), may(&mut routes, 1)), (others, named));
        routes.remove(PeerSlot(1));
        routes.add(now, PeerSlot(1), b).expect("its own");
        assert_eq!(may(&mut routes, 1), others);
        routes.set_rules(now, here, Rules::default());
        assert_eq!(may(&mut routes, 1), Rights::default());
        assert!(!routes.members.directory().own_rights().may_speak_to_bridges);
    }

    #[test]
    fn what_a_line_doubles_long_after_a_move_is_none_of_its_cost() {
        let mut routes = routes(NodeId([9; 32]));
        let (now, slot) = (Instant::now(), PeerSlot(0));
        routes.add(now, slot, NodeId([1; 32])).expect("its own");
        let counters = Arc::clone(routes.counters(slot).expect("a peer"));
        let count = |n| {
            counters.rx_duplicates.store(n, Relaxed);
            counters.rx_reordered.store(2 * n, Relaxed);
        };
        let cost = |routes: &Routes| {
            let cost = routes.cost_of_move(slot);
            (cost.duplicates, cost.reordered)
        };
        count(100);
        routes.note_move(now, slot);
        count(103);
        routes.settle(now + Duration::from_secs(1), slot);
        assert_eq!(cost(&routes), (3, 6));
        count(104);
        routes.settle(now + SETTLED_AFTER, slot);
        count(5_000);
        routes.settle(now + 2 * SETTLED_AFTER, slot);
        assert_eq!(cost(&routes), (4, 8));
        // The next one has its own.
        let later = now + 3 * SETTLED_AFTER;
        routes.note_move(later, slot);
        count(5_001);
        assert_eq!(cost(&routes), (1, 2));
    }

    #[test]
    fn rules_concern_whoever_is_there_and_whoever_comes() {
        let (now, here) = (Instant::now(), NodeId([9; 32]));
        let [a, b] = [1, 2].map(|byte| NodeId([byte; 32]));
        let mut routes = routes(here);
        routes.add(now, PeerSlot(0), a).expect("its own");
        assert!(routes.snapshot().access.is_none(), "without rules nothing is looked at");

        let text = format!("allow id:{} -> id:{}", b.to_base32(), here.to_base32());
        routes.set_rules(now, here, Rules::parse(text.as_bytes()).expect("rules"));
        routes.add(now, PeerSlot(1), b).expect("its own");
        let frame = [&[2; 12][..], &[0x88, 0xb5], &[0; 46]].concat();
        let judge = |routes: &Routes, slot| {
            routes.snapshot().access.map(|access| access.judge(now, PeerSlot(slot), &frame))
        };
        let denied = |cause| Some(Verdict::Drop(cause));
        assert_eq!(judge(&routes, 0), denied(AccessDrop::NotAllowed));
        assert_eq!(judge(&routes, 1), Some(Verdict::Pass));
        assert_eq!(judge(&routes, 2), denied(AccessDrop::UnknownPeer));
        // The slot of one who left is the next one's, with nothing of it.
        routes.remove(PeerSlot(1));
        assert_eq!(judge(&routes, 1), denied(AccessDrop::UnknownPeer));
        routes.add(now, PeerSlot(1), NodeId([3; 32])).expect("its own");
        assert_eq!(judge(&routes, 1), denied(AccessDrop::NotAllowed));

        routes.set_rules(now, here, Rules::default());
        assert!(routes.snapshot().access.is_none());
    }

    /// A key of the data plane may be there before anything is published that came with it.
    #[test]
    fn what_is_forbidden_to_a_tag_is_not_let_in_before_or_after_the_network_vouches_for_the_peer() {
        let (now, here) = (Instant::now(), NodeId([9; 32]));
        let (slot, id) = (PeerSlot(0), NodeId([1; 32]));
        let mut routes = routes(here);
        routes.certify();
        let rules = Rules::parse(b"deny tag:guest -> any\nallow any -> any").expect("rules");
        routes.set_rules(now, here, rules);
        let ip = [0x45, 0, 0, 40, 0, 9, 0, 0, 64, 6, 0, 0, 10, 7, 0, 1, 10, 7, 0, 9];
        let tcp = [&40_000_u16.to_be_bytes()[..], &[0, 22], &[0; 8], &[0x50, 2], &[0; 6]].concat();
        let frame = [&[2; 12][..], &[8, 0], &ip, &tcp].concat();
        let judge = |routes: &Routes| routes.snapshot().access.expect("a filter").judge(now, slot, &frame);
        let unknown = Verdict::Drop(AccessDrop::UnknownPeer);
        routes.add(now, slot, id).expect("its own");
        assert_eq!(judge(&routes), unknown);
        let tagged = |tag: &str| {
            let subject = Subject { id, name: "x".into(), tags: vec![tag.into()] };
            Some(Vouched { subject, addresses: vec![] })
        };
        routes.vouch(now, slot, tagged("guest"));
        assert_eq!(judge(&routes), Verdict::Drop(AccessDrop::NotAllowed));
        routes.vouch(now, slot, None);
        assert_eq!(judge(&routes), unknown);
        routes.vouch(now, slot, tagged("lab"));
        assert_eq!(judge(&routes), Verdict::Pass);
    }

    #[test]
    fn a_node_reaches_whom_its_own_rules_do_not_let_in() {
        let (now, here) = (Instant::now(), NodeId([9; 32]));
        let mut routes = routes(here);
        routes.add(now, PeerSlot(0), NodeId([1; 32])).expect("its own");
        // What the kernel had open from before the daemon began is picked up as well: a segment to port 443 and its answer.
        let ethernet = |ethertype: [u8; 2]| [&[2; 12][..], &ethertype].concat();
        let arp = [&ethernet([8, 6])[..], &[0; 28]].concat();
        let segment = |ports: [u16; 2], addresses: [u8; 2], flags: u8| {
            let ip =
                [0x45, 0, 0, 40, 0, 9, 0, 0, 64, 6, 0, 0, 10, 7, 0, addresses[0], 10, 7, 0, addresses[1]];
            let [source, destination] = ports.map(u16::to_be_bytes);
            let tcp = [&source[..], &destination, &[0; 8], &[0x50, flags], &[0; 6]].concat();
            [&ethernet([8, 0])[..], &ip, &tcp].concat()
        };
        for text in
            ["allow any -> any ethertype 0x88b5", "deny any -> any", "allow any -> any udp\ndeny any -> any"]
        {
            routes.set_rules(now, here, Rules::parse(text.as_bytes()).expect("rules"));
            let access = routes.snapshot().access.expect("a filter");
            assert_eq!(access.judge(now, PeerSlot(0), &arp), Verdict::Pass, "{text}");
            access.note(now, PeerSlot(0), &segment([40_000, 443], [9, 1], 0x10));
            let later = now + Duration::from_secs(299);
            assert_eq!(
                access.judge(later, PeerSlot(0), &segment([443, 40_000], [1, 9], 0x10)),
                Verdict::Pass
            );
            let begins = segment([443, 22], [1, 9], 0x02);
            assert_eq!(
                access.judge(now, PeerSlot(0), &begins),
                Verdict::Drop(AccessDrop::NotAllowed),
                "{text}"
            );
        }
    }
}
