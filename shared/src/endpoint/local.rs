//! Where this node may be reached: addresses of its interfaces, and what relays' STUN says of its socket (protocol §7.4).

use super::Endpoint;
use crate::bucket::Bucket;
use crate::time::Deadline;
use crate::transmit::RelayNo;
use crate::traverse::candidate::{
    Candidate, CandidateKind, MAX_CANDIDATES, MAX_TCP_CANDIDATES, Overlay, is_allowed,
};
use crate::traverse::mapping::Mapping;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Doubts of peers' paths make relays' STUN be asked this often at most.
const DOUBT_EVERY: Duration = Duration::from_secs(2);
/// Peers are told of other candidates ten times at once, and then once in this time: a relay says where it sees this node as often as it likes.
const CHANGES: Bucket = Bucket::new(10, Duration::from_secs(2));
/// What they were not told of is looked at again after this.
const PUT_OFF: Duration = Duration::from_secs(2);
/// Most interface addresses among them.
const MAX_HOSTS: usize = 16;

/// This node's own candidates, as they are told to peers.
#[derive(Debug)]
pub(crate) struct LocalCandidates {
    /// Whether there is a UDP socket at all: until addresses are told there is none, and nothing direct is tried.
    pub(crate) has_udp: bool,
    /// Grows with every change.
    pub(crate) revision: u32,
    /// Best first, at most [`MAX_CANDIDATES`].
    pub(crate) list: Vec<Candidate>,
    /// Where TCP connections to this node may be tried, best first, at most [`MAX_TCP_CANDIDATES`].
    pub(crate) tcp: Vec<Candidate>,
    /// Where this node listens: the port of its stream to that relay.
    listening: Option<(RelayNo, u16)>,
    hosts: Vec<SocketAddr>,
    /// A port that this machine's router forwards.
    mapped: Option<SocketAddr>,
    /// When STUN was last asked because a direct path came into doubt.
    doubted: Option<Instant>,
    changes: Bucket,
    /// There are others, of which peers are told then.
    put_off: Option<Instant>,
}

impl Default for LocalCandidates {
    fn default() -> Self {
        Self {
            has_udp: false,
            revision: 0,
            list: Vec::new(),
            tcp: Vec::new(),
            listening: None,
            hosts: Vec::new(),
            mapped: None,
            doubted: None,
            changes: CHANGES,
            put_off: None,
        }
    }
}

impl LocalCandidates {
    /// When [`Endpoint::renew_put_off`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        Some(Deadline::new(self.put_off?, "tell peers of other candidates"))
    }
}

impl Endpoint {
    /// The addresses of this machine's interfaces, each with the port of the UDP socket. To be called at the start and
    /// whenever they change.
    pub fn handle_addresses(&mut self, now: Instant, hosts: Vec<SocketAddr>) {
        self.local.has_udp = true;
        let mut lost = std::mem::replace(&mut self.local.hosts, hosts);
        lost.retain(|had| !self.local.hosts.contains(had));
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for (address, id) in lost.iter().flat_map(|address| ids.iter().map(move |id| (address, id))) {
            self.with_peer(now, *id, |peer, ctx| peer.on_address_lost(ctx, *address));
        }
        self.ask_stun(now);
        self.renew_candidates(now);
    }

    /// This machine's router forwards what comes to `outside` to the UDP socket, or nothing any more. An address that is private to some
    /// network is none: another router is before that one, and lets nobody in.
    pub fn handle_mapped_port(&mut self, now: Instant, outside: Option<SocketAddr>) {
        self.local.mapped = outside.filter(|outside| is_public(outside.ip()));
        self.renew_candidates(now);
        self.after_input(now);
    }

    /// This node listens on a port, from which its stream to that relay was opened: what the relay sees of that is where others may
    /// reach this one (protocol §7.12). `None`: it listens nowhere.
    pub fn handle_tcp_port(&mut self, now: Instant, listening: Option<(RelayNo, u16)>) {
        self.local.listening = listening;
        self.renew_candidates(now);
        self.after_input(now);
    }

    /// Where this node may be reached, best first: what peers are told.
    pub fn candidates(&self) -> &[Candidate] {
        &self.local.list
    }

    /// Nothing can be sent to `address` by datagram any more, or must not: the paths that lead there end.
    pub fn handle_unreachable(&mut self, now: Instant, address: SocketAddr) {
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.with_peer(now, id, |peer, ctx| peer.on_unreachable(ctx, address));
        }
        self.after_input(now);
    }

    /// The addresses whose STUN is asked: [`Self::handle_datagram`] takes answers from nowhere else.
    pub fn stun_servers(&self) -> impl Iterator<Item = SocketAddr> + Clone {
        self.relays.iter().filter_map(|relay| relay.mapping.as_ref()).flat_map(Mapping::asked)
    }

    /// A datagram that is no peer packet, from `from`: an answer of STUN, or to be dropped. Whether it was one.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> bool {
        let answered =
            self.relays.iter_mut().map(|relay| &mut relay.mapping).enumerate().find_map(|(at, mapping)| {
                Some((RelayNo(at), mapping.as_mut()?.handle(now, from, datagram)?))
            });
        if let Some((relay, answered)) = answered {
            if let Some(nonce) = answered.nonce {
                self.bind_at(relay, nonce);
            }
            self.ask_stun(now);
            self.renew_candidates(now);
            self.after_input(now);
        } else {
            self.drops.unasked += 1;
        }
        answered.is_some()
    }

    /// Asks every relay's STUN now, and not when it is due.
    pub(super) fn hurry_stun(&mut self, now: Instant) {
        for relay in &mut self.relays {
            if let Some(mapping) = &mut relay.mapping {
                mapping.hurry(now);
            }
        }
        self.ask_stun(now);
    }

    /// Data's path to a peer came into doubt: a router that forgot this node's mapping has another by now, and says nothing. Where the
    /// socket is seen is told to the peer, who cannot be reached from there otherwise, if its own router lets in only whom it knows.
    pub(super) fn doubt_mappings(&mut self, now: Instant) {
        // All of them, each once.
        let doubts =
            self.peers.values_mut().filter_map(|peer| peer.take_mapping_doubt().then_some(())).count();
        let may = self.local.doubted.is_none_or(|last| now.saturating_duration_since(last) >= DOUBT_EVERY);
        if doubts > 0 && may {
            self.local.doubted = Some(now);
            self.hurry_stun(now);
        }
    }

    /// Sends the questions to STUN that are due. One that was given up takes its candidate along.
    pub(super) fn ask_stun(&mut self, now: Instant) {
        if !self.local.has_udp {
            return;
        }
        let mut was_due = false;
        for relay in &mut self.relays {
            let Some(mapping) = &mut relay.mapping else { continue };
            was_due |= mapping.poll_timeout().is_some_and(|due| due.is_due(now));
            while let Some((to, request)) = mapping.poll_request(now, &mut *self.rng) {
                self.out.datagram(to, request);
            }
        }
        if was_due {
            self.renew_candidates(now);
        }
    }

    /// Tells the peers of what was put off, when that is due.
    pub(super) fn renew_put_off(&mut self, now: Instant) {
        if self.local.put_off.take_if(|at| *at <= now).is_some() {
            self.renew_candidates(now);
        }
    }

    /// Collects the candidates anew, and tells the peers when they changed.
    pub(super) fn renew_candidates(&mut self, now: Instant) {
        if !self.local.has_udp {
            return;
        }
        let overlay = Overlay::of(&self.hello);
        let hosts = self.local.hosts.iter().map(|address| Candidate::new(CandidateKind::Host, *address));
        // A host with many bridges must not push out the one address that others can reach.
        let hosts = hosts.filter(|host| is_allowed(host.address, &overlay)).take(MAX_HOSTS);
        let mappings = || self.relays.iter().filter_map(|relay| relay.mapping.as_ref());
        let seen = mappings().filter_map(Mapping::mapped).chain(mappings().filter_map(Mapping::mapped_other));
        let seen = seen.map(|address| Candidate::new(CandidateKind::ServerReflexive, address));
        let mapped = self.local.mapped.map(|address| Candidate::new(CandidateKind::PortMapped, address));
        let mut list = allowed(hosts.chain(seen).chain(mapped), &overlay);
        list.sort_by_key(Candidate::preference);
        list.truncate(MAX_CANDIDATES);
        let tcp = self.tcp_candidates(&overlay);
        if list == self.local.list && tcp == self.local.tcp && self.local.revision > 0 {
            self.local.put_off = None;
            return;
        }
        if !self.local.changes.take(now) {
            self.local.put_off.get_or_insert(now + PUT_OFF);
            return;
        }
        self.local.put_off = None;
        tracing::debug!(?list, ?tcp, "this node's candidates");
        (self.local.list, self.local.tcp) = (list, tcp);
        self.local.revision = self.local.revision.wrapping_add(1);
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.with_peer(now, id, crate::peer::Peer::on_candidates_changed);
        }
    }

    /// Where a connection may come through first, then the addresses of this machine: they are for its own networks, where a
    /// datagram comes through as well.
    fn tcp_candidates(&self, overlay: &Overlay) -> Vec<Candidate> {
        let Some((relay, port)) = self.local.listening else { return Vec::new() };
        let seen = self.relays.get(relay.0).and_then(|relay| relay.observed_tcp);
        let seen = seen.map(|address| Candidate::new(CandidateKind::ServerReflexive, address));
        let hosts = self.local.hosts.iter().map(|host| SocketAddr::new(host.ip(), port));
        let hosts = hosts.map(|address| Candidate::new(CandidateKind::Host, address));
        let mut list = allowed(seen.into_iter().chain(hosts), overlay);
        list.truncate(MAX_TCP_CANDIDATES);
        list
    }
}

/// Whether the address is not for one network alone: private (RFC 1918, RFC 4193), or shared behind a carrier's NAT (RFC 6598).
const fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let is_shared = a == 100 && b & 0xc0 == 64;
            !v4.is_private() && !is_shared
        }
        IpAddr::V6(v6) => !v6.is_unique_local(),
    }
}

/// Those that may be told to others, in order, each address once.
fn allowed(candidates: impl Iterator<Item = Candidate>, overlay: &Overlay) -> Vec<Candidate> {
    let mut list: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let is_known = list.iter().any(|known| known.address == candidate.address);
        if !is_known && is_allowed(candidate.address, overlay) {
            list.push(candidate);
        }
    }
    list
}
