//! What happens to a world: see [`Act`].

use super::super::case::Act;
use super::super::net::{Place, Uplink};
use super::super::node::Stream;
use super::{Todo, World};
use shadowmesh_proto::membership::Trust;
use shadowmesh_proto::path::select::Wanted;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

impl World {
    pub(in super::super) fn act(&mut self, act: Act) -> Result<(), String> {
        tracing::info!(?act, "act");
        *self.happened.entry(act.kind()).or_default() += 1;
        let now = self.now;
        let mut lasts = Duration::ZERO;
        match act {
            Act::Flow(flow) => return self.read_frames(flow),
            Act::RelayRestart { down, silent } => {
                lasts = down;
                self.restart_relay(down, silent);
            }
            Act::Cut { node, node_notices, relay_notices } => self.cut(node, node_notices, relay_notices)?,
            Act::Stall { node, lasts: time } => {
                lasts = time;
                self.stall(node, now + time);
            }
            Act::Partition { node, lasts: time } => {
                lasts = time;
                self.part(node, now + time);
            }
            Act::Freeze { node, lasts: time } => {
                lasts = time;
                self.net.losses.on_stopped(now, node);
                let node = &mut self.nodes[node];
                node.frozen_until = Some(node.frozen_until.map_or(now, |at| at.max(now)).max(now + time));
            }
            Act::Sleep { node: at, lasts: time } => {
                lasts = time;
                let node = &mut self.nodes[at];
                self.net.losses.on_stopped(now, at);
                if node.is_running() && !node.is_frozen() {
                    node.asleep_since = Some(now);
                    node.frozen_until = Some(now + time);
                }
            }
            Act::LinkDown { node, lasts: time } => {
                lasts = time;
                self.part(node, now + time);
                if self.nodes[node].is_running() && !self.nodes[node].is_frozen() {
                    let outcome = self.nodes[node].set_addresses(now, vec![], &mut self.books)?;
                    self.follow(node, outcome)?;
                    self.plan(now + time, Todo::LinkUp { node });
                }
            }
            Act::Kill { node, down, relay_notices, new_key } => {
                lasts = down;
                self.kill(node, relay_notices);
                self.plan(now + down, Todo::Start { node, new_key });
            }
            Act::Leave { node, down } => {
                lasts = down;
                if self.nodes[node].is_running() && !self.nodes[node].is_frozen() {
                    let outcome = self.nodes[node].leave(now, &mut self.books)?;
                    self.follow(node, outcome)?;
                    self.plan(now + down, Todo::Start { node, new_key: false });
                    self.end_process(node, true);
                }
            }
            Act::Hole { from, to, lasts: time, both } => {
                lasts = time;
                self.net.dig(Place::Node(from), Place::Node(to), now + time);
                if both {
                    self.net.dig(Place::Node(to), Place::Node(from), now + time);
                }
                // A stream needs both directions.
                self.stall_links(now + time, |a, b| (a, b) == (from, to) || (b, a) == (from, to));
            }
            Act::NoUdp { node, lasts: time } => {
                lasts = time;
                self.net.cut_off(node, now + time);
            }
            Act::Rebind { node } => self.net.rebind(node),
            Act::Roam { node, uplink } => return self.roam(node, uplink),
            Act::Mtu { node, mtu } => self.net.set_mtu(node, mtu),
            Act::Jump { node, by } => {
                self.nodes[node].jump(by);
                self.forget_in_vain(node);
                if self.nodes[node].has_slept(now) {
                    self.network_changed(node)?;
                }
            }
            Act::Want { node, peer, wanted } => return self.want(node, peer, wanted),
            Act::ReplayDatagram { node, elsewhere } => {
                if let Some((from, bytes)) = self.nodes[node].past_datagram(&mut self.dice) {
                    let port = if elsewhere { from.port() ^ 1 } else { from.port() };
                    self.net.replay(now, node, SocketAddr::new(from.ip(), port), bytes);
                }
            }
            Act::Steal { node, lasts: time } => {
                lasts = time;
                self.net.rob(node, now + time);
            }
            Act::Mood(mood) => self.relay.mood = mood,
            Act::Replay { node, packets } => {
                if let Stream::Open { conn, .. } = self.nodes[node].stream {
                    let channels = self.relay.channels(conn);
                    let past = self.nodes[node].past_packets(&mut self.dice, &channels, packets);
                    if let Some(message) = past {
                        self.relay.inject(now, conn, message);
                    }
                }
            }
            Act::Lie { node, kind } => {
                if let Stream::Open { conn, .. } = self.nodes[node].stream {
                    self.relay.lie(now, conn, kind);
                }
            }
        }
        self.disturbed_until = self.disturbed_until.max(now + lasts);
        Ok(())
    }

    /// Nothing passes to or from a node before `until`.
    fn part(&mut self, at: usize, until: Instant) {
        self.stall(at, until);
        self.net.cut_off(at, until);
        self.stall_links(until, |a, b| a == at || b == at);
        let node = &mut self.nodes[at];
        node.cut_off_until = node.cut_off_until.max(until);
    }

    /// What a node knows of members changes.
    pub(in super::super) fn change_trust(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut Trust),
    ) -> Result<(), String> {
        let outcome = self.nodes[at].change_trust(self.now, change, &mut self.books)?;
        self.follow(at, outcome)
    }

    pub(super) fn restart_relay(&mut self, down: Duration, silent: bool) {
        let connected = self.relay.restart(self.now);
        (self.relay_up, self.relay_silent) = (false, silent);
        self.plan(self.now + down, Todo::RelayUp);
        if !silent {
            for (node, conn) in connected {
                self.closes_soon(node, conn);
            }
        }
    }

    pub(super) fn cut(&mut self, at: usize, node_notices: bool, relay_notices: bool) -> Result<(), String> {
        let Stream::Open { conn, into_void, .. } = &mut self.nodes[at].stream else {
            return Ok(());
        };
        let conn = *conn;
        *into_void = true;
        if let Some(known) = self.relay.conns.get_mut(&conn) {
            known.deserted = true;
        }
        if relay_notices && self.relay_up {
            let facts = self.relay.close(self.now, conn);
            self.learn(facts)?;
        }
        if node_notices && !self.nodes[at].is_frozen() { self.disconnect(at) } else { Ok(()) }
    }

    pub(super) fn stall(&mut self, at: usize, until: Instant) {
        if let Stream::Open { conn, .. } = self.nodes[at].stream
            && let Some(conn) = self.relay.conns.get_mut(&conn)
        {
            conn.up.stall(until);
            conn.down.stall(until);
        }
    }

    pub(super) fn kill(&mut self, at: usize, relay_notices: bool) {
        if let Stream::Open { conn, .. } = self.nodes[at].stream
            && relay_notices
        {
            let arrives = self.now + self.nodes[at].plan.latency;
            self.plan(arrives, Todo::RelayNotices { conn });
        }
        self.end_process(at, relay_notices);
    }

    pub(super) fn end_process(&mut self, at: usize, is_noticed: bool) {
        for link in self.links.of(at) {
            if is_noticed {
                self.end_link(at, link, false);
            } else if let Some((own, _)) = self.links.ends(link, at) {
                own.is_open = false;
            }
        }
        if let Stream::Open { conn, .. } = self.nodes[at].stream
            && let Some(conn) = self.relay.conns.get_mut(&conn)
        {
            conn.deserted = true;
        }
        let node = &mut self.nodes[at];
        node.stream = Stream::Off;
        node.registered_at = None;
        (node.frozen_until, node.asleep_since) = (None, None);
        self.books.ledger.end_life(node.life);
        self.forget_in_vain(at);
    }

    pub(super) fn want(&mut self, node: usize, peer: usize, wanted: Wanted) -> Result<(), String> {
        let id = self.nodes[peer].id();
        if !self.nodes[node].is_running() || self.nodes[node].is_frozen() {
            return Ok(());
        }
        let outcome = self.nodes[node].want(self.now, &id, wanted, &mut self.books)?;
        self.follow(node, outcome)
    }

    /// A node has another address, and a process that runs is told: its streams have none any more. One that stands still finds them silent.
    pub(super) fn roam(&mut self, at: usize, uplink: Uplink) -> Result<(), String> {
        self.net.roam(at, uplink);
        for number in self.links.of(at) {
            // The other end hears nothing of it.
            let Some((own, _)) = self.links.ends(number, at) else { continue };
            own.is_open = false;
            let link = own.link;
            if !self.nodes[at].is_frozen() {
                let outcome = self.nodes[at].link_closed(self.now, link, &mut self.books)?;
                self.follow(at, outcome)?;
            }
        }
        self.cut(at, true, false)?;
        self.tell_addresses(at)
    }

    pub(super) fn stall_links(&mut self, until: Instant, is_meant: impl Fn(usize, usize) -> bool) {
        for [a, b] in self.links.all.values_mut() {
            if is_meant(a.node, b.node) {
                a.out.stall(until);
                b.out.stall(until);
            }
        }
    }
}
