//! Direct TCP connections of a world: SYNs, what becomes of them, and what arrives.

use super::super::net::Place;
use super::super::node::Stream;
use super::super::tcp::Caller;
use super::{Todo, World};
use shadowmesh_proto::ids::PeerSlot;
use std::net::SocketAddr;
use std::time::Duration;

/// A connection that nobody keeps ends.
const STRANGER: Duration = Duration::from_secs(5);

/// A SYN on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Syn {
    pub(super) node: usize,
    pub(super) slot: PeerSlot,
    pub(super) number: u64,
    pub(super) source: SocketAddr,
    pub(super) to: SocketAddr,
}

impl World {
    /// What has arrived on direct connections.
    pub(super) fn step_links(&mut self, at: usize) -> Result<(), String> {
        for number in self.links.of(at) {
            loop {
                let now = self.now;
                let Some((own, other)) = self.links.ends(number, at) else { break };
                if !own.is_open {
                    break;
                }
                let (link, peer) = (own.link, other.node);
                if let Some(message) = other.out.receive(now) {
                    let peer = self.nodes[peer].id();
                    let node = &mut self.nodes[at];
                    let outcome = node.receive_direct(now, link, message, peer, &mut self.books)?;
                    self.note_heard(at, Some(peer));
                    self.follow(at, outcome)?;
                    continue;
                }
                if own.closes.is_some_and(|closes| closes <= now) {
                    own.is_open = false;
                    let outcome = self.nodes[at].link_closed(now, link, &mut self.books)?;
                    self.follow(at, outcome)?;
                }
                break;
            }
        }
        self.links.sweep();
        Ok(())
    }

    pub(super) fn end_link(&mut self, at: usize, number: u64, at_once: bool) {
        let Some((_, other)) = self.links.ends(number, at) else { return };
        let latency = self.net.latency(Place::Node(at), Place::Node(other.node));
        self.links.end(self.now, number, at, at_once, latency);
    }

    pub(super) fn send_syn(&mut self, node: usize, slot: PeerSlot, number: u64, to: SocketAddr) {
        let own = &self.nodes[node];
        let is_live =
            own.tries.get(&slot).is_some_and(|tried| tried.number == number && tried.until > self.now);
        if !is_live || own.is_frozen() || !matches!(own.stream, Stream::Open { .. }) {
            return;
        }
        let Some(source) = self.net.tcp_out(node, own.tcp_port, to) else { return };
        let Some(at) = self.net.tcp_towards(node, to) else { return };
        let latency = self.net.latency(Place::Node(node), Place::Node(at));
        let syn = Syn { node, slot, number, source, to };
        self.plan(self.now + latency, Todo::SynArrives { syn, at });
    }

    pub(super) fn syn_arrives(&mut self, syn: Syn, at: usize) -> Result<(), String> {
        // Its answer has to come back as well.
        if self.net.is_swallowed(self.now, syn.node, at) || self.net.is_swallowed(self.now, at, syn.node) {
            return Ok(());
        }
        let port = self.net.tcp_in(syn.node, at, syn.to, syn.source);
        let node = &self.nodes[at];
        let listens = node.is_running()
            && !node.is_frozen()
            && node.plan.listens
            && matches!(node.stream, Stream::Open { .. });
        if !listens || port != Some(node.tcp_port) {
            return Ok(());
        }
        let (here, there) = (Place::Node(at), Place::Node(syn.node));
        let latency = self.net.latency(here, there);
        let ends = [
            Caller { node: syn.node, life: self.nodes[syn.node].life, seen: syn.source },
            Caller { node: at, life: node.life, seen: syn.to },
        ];
        let jitter = node.plan.jitter;
        // Both were on their way to each other: this end was opened for somebody as well.
        let slot = node.looks_for(self.now, syn.source);
        let Some(number) = self.links.open(self.now, ends, latency, jitter) else { return Ok(()) };
        self.plan(self.now + latency, Todo::LinkOpens { syn, link: number });
        let Some((own, _)) = self.links.ends(number, at) else { return Ok(()) };
        own.is_open = true;
        let link = own.link;
        self.plan(self.now + STRANGER, Todo::Stranger { node: at, link: number });
        let outcome = self.nodes[at].link_opened(self.now, slot, link, &mut self.books)?;
        self.follow(at, outcome)
    }

    pub(super) fn link_opens(&mut self, syn: Syn, number: u64) -> Result<(), String> {
        let node = &self.nodes[syn.node];
        let is_wanted = node.is_running()
            && !node.is_frozen()
            && node.tries.get(&syn.slot).is_some_and(|t| t.number == syn.number);
        let Some((own, _)) = self.links.ends(number, syn.node) else { return Ok(()) };
        if !is_wanted || own.life != node.life {
            self.end_link(syn.node, number, true);
            return Ok(());
        }
        own.is_open = true;
        let link = own.link;
        self.plan(self.now + STRANGER, Todo::Stranger { node: syn.node, link: number });
        let slot = Some(syn.slot);
        let outcome = self.nodes[syn.node].link_opened(self.now, slot, link, &mut self.books)?;
        self.follow(syn.node, outcome)
    }

    pub(super) fn send_stranger_away(&mut self, at: usize, number: u64) -> Result<(), String> {
        let Some((own, _)) = self.links.ends(number, at).filter(|(own, _)| own.is_open) else {
            return Ok(());
        };
        let link = own.link;
        if self.nodes[at].keeps(link) {
            return Ok(());
        }
        self.end_link(at, number, true);
        let outcome = self.nodes[at].link_closed(self.now, link, &mut self.books)?;
        self.follow(at, outcome)
    }
}
