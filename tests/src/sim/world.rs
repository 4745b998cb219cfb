//! The world: nodes, lines and a relay in virtual time, and what happens to them.
//!
//! Time jumps from one thing to the next; nothing here reads a clock or draws a number that the seed did not decide. At each
//! instant: what was planned, then what arrived at the relay, then each node in turn (its stream, its messages, its timers).

mod acts;
mod links;

use super::case::{Act, Case, Flow, Weather};
use super::copies::in_message;
use super::dice::Dice;
use super::ledger::{Identity, Ledger, Life};
use super::losses::{Cause, Piece};
use super::net::{Flight, Narrow, Net, Place, RELAY_PORTS};
use super::node::{Books, Home, Node, Outcome, Plan, Register, Stream};
use super::relay::{Fact, Mood, RelayHost};
use super::tcp::Connections;
use links::Syn;
use shadowmesh::plane::MoveCost;
use shadowmesh_proto::crypto::keys::{NetworkSecret, NodeSecret};
use shadowmesh_proto::endpoint::status::PathStatus;
use shadowmesh_proto::ids::{NodeId, PeerSlot, RelayId};
use shadowmesh_proto::path::select::{PathKind, Wanted};
use shadowmesh_proto::rng::Rng;
use shadowmesh_proto::version::SPOKEN;
use shadowmesh_relay::core::ConnId;
use shadowmesh_relay::core::limits::Limits;
use shadowmesh_relay::core::relay::Terms;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a connection attempt that nothing answers takes.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The bound of protocol §7.2, written out here so that a change of the program's does not change what it is held to.
const DEAD_AFTER: Duration = Duration::from_secs(3);
/// What an answer may take beyond the round trip that its path is thought to have: the jitter of both ends' lines, there and back.
const SHOWN_SLACK: Duration = Duration::from_millis(160);

/// When SYNs of a try go out, after its beginning: the kernel repeats them after 1 s and 3 s.
const SYNS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];
/// Datagrams that a socket holds for a process that is stopped.
const SOCKET_DATAGRAMS: usize = 1500;

/// Longest time for which a relay that delays single packets holds one back.
pub(super) const LATE: Duration = Duration::from_millis(800);

/// For how long an end that sends may say `connected` while what is large does not pass (protocol §7.2): 3 s, but beyond a round trip of
/// 400 ms as long as a second question takes. The last one that was answered left a round trip before that was known; half a second
/// later the first left that was not, which is suspect after 900 ms or three round trips; and then it is asked once more.
fn shown_for(rtt: Duration) -> Duration {
    let ms = Duration::from_millis;
    let suspicion = ms(900).max((3 * rtt).max(ms(150)) + ms(100));
    DEAD_AFTER.max(rtt + ms(500) + suspicion + rtt + ms(250).max(rtt / 4))
}

/// Data that went out in vain, as far as the world knows and its sender does not.
#[derive(Debug, Clone, Copy)]
struct InVain {
    /// When some of it left first and last.
    first: Instant,
    last: Instant,
    /// The round trip that the sender knew first.
    rtt: Option<Duration>,
}

impl InVain {
    /// Who has stopped sending asks at its heartbeat only.
    fn is_over(&self, now: Instant) -> bool {
        now - self.last > Duration::from_secs(1)
    }
}

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// When, from the beginning of the world.
    pub at: Duration,
    /// What.
    pub what: String,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at {:.3} s: {}", self.at.as_secs_f64(), self.what)
    }
}

/// Things to do later.
#[derive(Debug)]
enum Todo {
    Act(Act),
    Frames(Flow),
    RelayUp,
    Start {
        node: usize,
        new_key: bool,
    },
    RelayNotices {
        conn: ConnId,
    },
    /// A cable is in again.
    LinkUp {
        node: usize,
    },
    /// A process that began learns its addresses.
    Boot {
        node: usize,
    },
    /// A node sends a SYN, if it still tries.
    Syn {
        node: usize,
        slot: PeerSlot,
        number: u64,
        to: SocketAddr,
    },
    /// It comes to the router of `at`.
    SynArrives {
        syn: Syn,
        at: usize,
    },
    /// The answer comes back.
    LinkOpens {
        syn: Syn,
        link: u64,
    },
    /// Nobody may be interested in a connection.
    Stranger {
        node: usize,
        link: u64,
    },
}

/// The whole of it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Instant,
    dice: Dice,
    pub(super) books: Books,
    home: Home,
    pub(super) relay: RelayHost,
    relay_up: bool,
    relay_silent: bool,
    pub(super) net: Net,
    links: Connections,
    pub(super) nodes: Vec<Node>,
    streams: u16,
    agenda: BTreeMap<(Instant, u64), Todo>,
    planned: u64,
    /// When the last disturbance is over.
    pub(super) disturbed_until: Instant,
    /// What a node sent to a peer that nothing large of it came to since.
    unheard: BTreeMap<(usize, NodeId), InVain>,
    /// What it sent to one that it has heard nothing from since.
    unanswered: BTreeMap<(usize, NodeId), InVain>,
    /// Whether the relay delays single packets, so that an old answer may come late.
    delays: bool,
    /// Once set, a peer that is not shown as connected is a breach.
    pub(super) stay_connected: bool,
    /// Steps so far, for the report.
    pub(super) steps: u64,
    /// What happened so far, and how often, by [`Act::kind`].
    pub(super) happened: BTreeMap<&'static str, u64>,
}

impl World {
    pub(super) fn new(case: &Case, seed: u64) -> Self {
        let start = Instant::now();
        super::trace::set_time(Duration::ZERO);
        let mut dice = Dice::new(seed);
        let mut ledger = Ledger::default();
        let relay_secret = NodeSecret::generate(&mut dice);
        let network = NetworkSecret::generate(&mut dice);
        let home = Home { relay: RelayId(relay_secret.public().0), network };
        let terms = Terms {
            stun_ports: RELAY_PORTS.to_vec(),
            heartbeat: Duration::from_secs(15),
            rotation: Duration::from_secs(120),
            mtu: 1500,
            direct: true,
            instance: dice.next_u64(),
            versions: SPOKEN,
        };
        let limits = Limits { queue_bytes: case.queue, ..Limits::default() };
        let relay = RelayHost::new(start, relay_secret, terms, limits, case.window, dice.fork());
        let net = Net::new(&case.placements, case.detour, case.wire, dice.fork());
        let mut register = Register::default();
        let mut nodes = vec![];
        for (at, plan) in case.plans.iter().enumerate() {
            let identity = Identity(u16::try_from(at).unwrap_or(u16::MAX));
            let fork = dice.fork();
            let port = net.port(at);
            let node = Node::new(start, at, plan.clone(), &home, &mut ledger, identity, port, fork);
            register.add(node.id(), identity);
            nodes.push(node);
        }
        let mut world = Self {
            start,
            now: start,
            dice,
            books: Books { ledger, register, ..Books::default() },
            home,
            relay,
            relay_up: true,
            relay_silent: false,
            net,
            links: Connections::default(),
            nodes,
            streams: 20_000,
            agenda: BTreeMap::new(),
            planned: 0,
            disturbed_until: start,
            unheard: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            delays: case.weather >= Weather::Lossy,
            stay_connected: false,
            steps: 0,
            happened: BTreeMap::new(),
        };
        for node in 0..world.nodes.len() {
            world.plan(start, Todo::Boot { node });
        }
        for (at, act) in &case.acts {
            world.plan(start + *at, Todo::Act(*act));
        }
        world
    }

    /// Runs until `end`.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(super) fn run_until(&mut self, end: Instant) -> Result<(), Breach> {
        self.run_while(end, |_| true).map(|_| ())
    }

    /// Runs until `end`, or until `go_on` is false; whether it was.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(super) fn run_while(
        &mut self,
        end: Instant,
        mut go_on: impl FnMut(&Self) -> bool,
    ) -> Result<bool, Breach> {
        let mut here = 0;
        while go_on(self) {
            let next = self.next_instant().unwrap_or(end).max(self.now);
            if next > end {
                self.now = end;
                return Ok(false);
            }
            here = if next == self.now { here + 1 } else { 0 };
            if here > 1000 {
                let why = self.nodes.iter().filter_map(|node| node.endpoint.poll_timeout());
                let why: Vec<_> = why.filter(|deadline| deadline.is_due(self.now)).map(|d| d.why).collect();
                return Err(self.breach(format!("time stands still: {why:?}")));
            }
            self.now = next;
            super::trace::set_time(self.now - self.start);
            self.steps += 1;
            self.step().map_err(|what| self.breach(what))?;
        }
        Ok(true)
    }

    /// Sends `frames` frames from one node to another, now.
    pub(super) fn send(&mut self, from: usize, to: usize, frames: u32, len: usize) {
        let todo = Todo::Frames(Flow { from, to, frames, burst: frames, every: Duration::ZERO, len });
        self.plan(self.now, todo);
    }

    /// Nobody reads frames from a device any more.
    pub(super) fn end_flows(&mut self) {
        self.agenda.retain(|_, todo| !matches!(todo, Todo::Frames(_) | Todo::Act(Act::Flow(_))));
    }

    /// The relay becomes an honest one, by a restart if it was not; wires are good, and nobody has wishes.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(super) fn make_honest(&mut self, restart: bool) -> Result<(), Breach> {
        self.relay.mood = Mood::default();
        self.net.mend();
        if restart {
            self.restart_relay(Duration::from_millis(1), false);
        }
        for (node, peer) in self.pairs() {
            self.want(node, peer, Wanted::Auto).map_err(|what| self.breach(what))?;
        }
        for node in 0..self.nodes.len() {
            self.keep_sessions(node, None).map_err(|what| self.breach(what))?;
        }
        Ok(())
    }

    /// A node keeps its sessions from now on, or lets them end when it does not use them for so long.
    pub(super) fn keep_sessions(&mut self, at: usize, idle_after: Option<Duration>) -> Result<(), String> {
        let node = &mut self.nodes[at];
        if !node.is_running() || node.is_frozen() {
            // It finds that in its configuration.
            node.plan.idle_after = idle_after;
            return Ok(());
        }
        let outcome = node.keep_sessions(self.now, idle_after, &mut self.books)?;
        self.follow(at, outcome)
    }

    /// Whether all nodes run, are awake and registered, over connections that both ends hold.
    pub(super) fn all_registered(&self) -> bool {
        self.nodes.iter().all(|node| {
            let Stream::Open { conn, into_void: false, closes: None } = node.stream else {
                return false;
            };
            node.registered_at.is_some() && !node.is_frozen() && self.relay.conns.contains_key(&conn)
        })
    }

    /// The pairs that are not connected, from the first one's point of view.
    pub(super) fn unconnected(&self) -> Vec<(usize, usize)> {
        let all = self.pairs();
        let is_apart = |(a, b): &(usize, usize)| match (self.nodes.get(*a), self.nodes.get(*b)) {
            (Some(a), Some(b)) => !a.is_connected_to(&b.id()),
            _ => false,
        };
        all.into_iter().filter(is_apart).collect()
    }

    /// The pairs whose data does not take the best path that there is, with what it takes and what there is. Where the direct way is much
    /// longer than that over the relay, data may be anywhere.
    pub(super) fn not_as_could_be(&self) -> Vec<(usize, usize, Option<PathKind>, PathKind)> {
        let kind = |(a, b): (usize, usize)| {
            let (one, other) = (self.nodes.get(a)?, self.nodes.get(b)?);
            one.path_to(&other.id())
        };
        let listen = |(a, b): (usize, usize)| {
            [a, b].iter().all(|at| self.nodes.get(*at).is_some_and(|node| node.plan.listens))
        };
        let judge = |pair: (usize, usize)| {
            let (kind, best) = (kind(pair), self.net.best(pair.0, pair.1, listen(pair)));
            let is_excused = best.is_direct() && self.net.is_detour(pair.0, pair.1);
            let is_well = kind == Some(best) || (is_excused && kind.is_some());
            (!is_well).then_some((pair.0, pair.1, kind, best))
        };
        self.pairs().into_iter().filter_map(judge).collect()
    }

    /// Every ordered pair.
    pub(super) fn pairs(&self) -> Vec<(usize, usize)> {
        let count = self.nodes.len();
        (0..count).flat_map(|a| (0..count).filter(move |b| *b != a).map(move |b| (a, b))).collect()
    }

    pub(super) fn breach(&self, what: String) -> Breach {
        Breach { at: self.now - self.start, what }
    }

    /// No larger packet passes from now on, wherever. A stream that has one to carry is stuck.
    pub(super) fn narrow(&mut self, narrow: Narrow) {
        self.net.narrow = narrow;
        self.relay.narrow(narrow);
        self.links.narrow(narrow);
    }

    fn plan(&mut self, at: Instant, todo: Todo) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), todo);
    }

    fn next_instant(&self) -> Option<Instant> {
        let mut next = self.agenda.keys().next().map(|(at, _)| *at);
        let mut consider = |at: Option<Instant>| {
            next = next.into_iter().chain(at).min();
        };
        if self.relay_up {
            consider(self.relay.poll_timeout());
            for conn in self.relay.conns.values() {
                consider(conn.up.next_arrival());
            }
        }
        consider(self.net.next_arrival());
        let reads = |at: usize| {
            let node = self.nodes.get(at).filter(|node| node.is_running())?;
            Some(node.frozen_until.unwrap_or(self.start))
        };
        consider(self.links.next_arrival(reads));
        for node in &self.nodes {
            let mut own = node.poll_timeout();
            let mut consider_own = |at: Option<Instant>| {
                own = own.into_iter().chain(at).min();
            };
            match node.stream {
                Stream::Off => {}
                Stream::Waiting { until } => consider_own(Some(until)),
                Stream::Dialing { arrives } => consider_own(Some(arrives)),
                Stream::Open { conn, into_void, closes } => {
                    consider_own(closes);
                    let conn = self.relay.conns.get(&conn).filter(|_| !into_void);
                    consider_own(conn.and_then(|conn| conn.down.next_arrival()));
                }
            }
            consider(own.map(|at| node.frozen_until.map_or(at, |thaw| at.max(thaw))));
            consider(node.frozen_until);
        }
        next
    }

    fn step(&mut self) -> Result<(), String> {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.now
        {
            let todo = entry.remove();
            self.carry_out(todo)?;
        }
        if self.relay_up {
            self.step_relay()?;
        }
        self.step_datagrams()?;
        for at in 0..self.nodes.len() {
            if let Some(thaw) = self.nodes[at].frozen_until
                && thaw <= self.now
            {
                self.nodes[at].frozen_until = None;
                self.forget_in_vain(at);
                self.thaw(at)?;
                while let Some(flight) = self.nodes[at].pending.pop_front() {
                    self.receive_datagram(at, flight)?;
                }
            }
            if self.nodes[at].is_running() && !self.nodes[at].is_frozen() {
                self.step_stream(at)?;
                self.step_messages(at)?;
                self.step_links(at)?;
                self.step_rooms(at)?;
                self.step_timers(at)?;
            }
        }
        self.check_shown()
    }

    fn step_relay(&mut self) -> Result<(), String> {
        let ids: Vec<_> = self.relay.conns.keys().copied().collect();
        for id in ids {
            while let Some(message) = self.relay.conns.get_mut(&id).and_then(|conn| conn.up.receive(self.now))
            {
                let facts = self.relay.handle(self.now, id, &message);
                self.learn(facts)?;
            }
        }
        if self.relay.poll_timeout().is_some_and(|at| at <= self.now) {
            let facts = self.relay.handle_timeout(self.now);
            self.learn(facts)?;
        }
        self.relay.pump(self.now);
        for (packet, cause) in self.relay.lost.drain(..) {
            self.net.losses.on_lost(&packet, cause);
        }
        Ok(())
    }

    /// Datagrams that have arrived, wherever.
    fn step_datagrams(&mut self) -> Result<(), String> {
        while let Some((place, flight)) = self.net.arrival(self.now) {
            match place {
                Place::Relay if self.relay_up => {
                    let port = flight.to.port();
                    let answer = self.relay.handle_datagram(self.now, flight.from, port, &flight.bytes);
                    match answer {
                        Some((to, bytes, way)) => {
                            self.net.send_from_relay(self.now, flight.to, to, bytes, way);
                        }
                        None => self.net.losses.on_lost(&flight.bytes, Cause::Relay),
                    }
                }
                Place::Relay => self.net.losses.on_lost(&flight.bytes, Cause::Relay),
                Place::Node(at) if self.nodes[at].is_frozen() => {
                    let pending = &mut self.nodes[at].pending;
                    if pending.len() < SOCKET_DATAGRAMS {
                        pending.push_back(flight);
                    } else {
                        self.net.losses.on_lost(&flight.bytes, Cause::NoRoom);
                    }
                }
                Place::Node(at) if self.nodes[at].is_running() => {
                    self.receive_datagram(at, flight)?;
                }
                Place::Node(_) => self.net.losses.on_lost(&flight.bytes, Cause::Ended),
            }
        }
        Ok(())
    }

    fn receive_datagram(&mut self, at: usize, flight: Flight) -> Result<(), String> {
        let peer = flight.sender.and_then(|sender| self.nodes.get(sender)).map(Node::id);
        let node = &mut self.nodes[at];
        let outcome = node.receive_datagram(self.now, flight, peer, &mut self.books)?;
        self.note_heard(at, peer);
        self.follow(at, outcome)
    }

    /// What a node heard just now was not in vain for whoever said it.
    fn note_heard(&mut self, at: usize, peer: Option<NodeId>) {
        let node = &self.nodes[at];
        let Some(peer) = peer.filter(|peer| node.heard.get(peer) == Some(&self.now)) else { return };
        self.unanswered.remove(&(at, peer));
        let is_large = node.heard_large.get(&peer) == Some(&self.now);
        let own = node.id();
        if let Some(from) = self.nodes.iter().position(|node| is_large && node.id() == peer) {
            self.unheard.remove(&(from, own));
        }
    }

    /// What a node sent is not looked at any more: it is another process, or stood still.
    fn forget_in_vain(&mut self, at: usize) {
        self.unheard.retain(|(node, _), _| *node != at);
        self.unanswered.retain(|(node, _), _| *node != at);
    }

    fn learn(&mut self, facts: Vec<Fact>) -> Result<(), String> {
        for fact in facts {
            match fact {
                Fact::Closed { node, conn } => self.closes_soon(node, conn),
                Fact::BrokenLink { node, why } => {
                    return Err(format!("the relay finds node {node}'s link broken: {why}"));
                }
            }
        }
        Ok(())
    }

    /// The node's end of `conn` learns that it is closed.
    fn closes_soon(&mut self, at: usize, conn: ConnId) {
        let node = &mut self.nodes[at];
        let after = self.now + node.plan.latency;
        if let Stream::Open { conn: own, closes, into_void: false } = &mut node.stream
            && *own == conn
        {
            closes.get_or_insert(after);
        }
    }

    fn step_stream(&mut self, at: usize) -> Result<(), String> {
        let now = self.now;
        let node = &mut self.nodes[at];
        let cut_off = node.cut_off_until > now;
        match node.stream {
            Stream::Waiting { until } if until <= now => {
                let silent = cut_off || (!self.relay_up && self.relay_silent);
                let takes = if silent { DIAL_TIMEOUT } else { node.plan.latency * 2 };
                node.stream = Stream::Dialing { arrives: now + takes };
            }
            Stream::Dialing { arrives } if arrives <= now => {
                if cut_off || !self.relay_up {
                    node.stream = Stream::Waiting { until: now + node.back_off() };
                } else {
                    // A port of its own for each.
                    self.streams = self.streams.wrapping_add(1).max(1024);
                    let relay = self.net.relay_of(at);
                    let observed =
                        self.net.tcp_out(now, at, self.streams, relay.0).ok_or("no way to the relay")?;
                    let conn = {
                        let Plan { latency, jitter, rate, .. } = node.plan;
                        self.relay.accept(now, at, observed, latency, jitter, rate)
                    };
                    node.stream = Stream::Open { conn, into_void: false, closes: None };
                    let outcome = node.opened(now, self.streams, relay, &mut self.books)?;
                    self.follow(at, outcome)?;
                }
            }
            Stream::Open { closes: Some(closes), .. } if closes <= now => self.disconnect(at)?,
            Stream::Waiting { .. } | Stream::Dialing { .. } | Stream::Open { .. } | Stream::Off => {}
        }
        Ok(())
    }

    /// The node gives its stream up and will open another.
    fn disconnect(&mut self, at: usize) -> Result<(), String> {
        let node = &mut self.nodes[at];
        if let Stream::Open { conn, into_void, .. } = node.stream
            && let Some(known) = self.relay.conns.get_mut(&conn)
        {
            known.deserted = true;
            if !into_void {
                let arrives = self.now + node.plan.latency;
                self.plan(arrives, Todo::RelayNotices { conn });
            }
        }
        let node = &mut self.nodes[at];
        node.stream = Stream::Waiting { until: self.now + node.back_off() };
        let outcome = node.closed(self.now, &mut self.books)?;
        self.follow(at, outcome)
    }

    fn step_messages(&mut self, at: usize) -> Result<(), String> {
        while let Stream::Open { conn, into_void: false, .. } = self.nodes[at].stream {
            let Some(line) = self.relay.conns.get_mut(&conn).filter(|conn| !conn.deserted) else {
                break;
            };
            let Some(delivery) = line.down.receive(self.now) else {
                break;
            };
            let peer = self.relay.sender(conn, &delivery.bytes);
            let node = &mut self.nodes[at];
            let outcome = node.receive(self.now, &delivery, peer, &mut self.books)?;
            self.note_heard(at, peer);
            self.follow(at, outcome)?;
            self.relay.pump(self.now);
        }
        Ok(())
    }

    fn step_timers(&mut self, at: usize) -> Result<(), String> {
        let node = &mut self.nodes[at];
        if !node.is_running() || node.poll_timeout().is_none_or(|due| due > self.now) {
            return Ok(());
        }
        let outcome = node.wake(self.now, &mut self.books)?;
        // Acknowledgements each 20 ms are 50 a second and peer; heartbeats, probes, rekeys and hellos a handful.
        let bound = 200 + 70 * u32::try_from(self.books.register.identities.len()).unwrap_or(u32::MAX);
        if node.busy_second.1 > bound {
            let why = node.endpoint.poll_timeout().map(|deadline| deadline.why);
            return Err(format!("node {at} woke {} times in a second, next for {why:?}", node.busy_second.1));
        }
        self.follow(at, outcome)
    }

    /// Does what a node asks for.
    fn follow(&mut self, at: usize, outcome: Outcome) -> Result<(), String> {
        let now = self.now;
        for piece in &outcome.came {
            self.books.copies.on_came(&self.books.ledger, piece);
        }
        for piece in &outcome.opened {
            self.net.losses.on_arrived(now, piece);
        }
        let streams = outcome.messages.iter().chain(outcome.direct.iter().map(|(_, message)| message));
        let by_stream = streams.flat_map(|message| in_message(message));
        let by_datagram = outcome.datagrams.iter().filter_map(|(_, bytes)| Piece::of(bytes));
        for piece in by_stream.chain(by_datagram) {
            self.books.copies.on_left(&self.books.ledger, &piece);
        }
        let node = &mut self.nodes[at];
        let latency = node.plan.latency;
        for peer in outcome.sent {
            let clock = node.clock(now);
            let rtt = || {
                let status = node.endpoint.peer_status(clock).into_iter().find(|status| status.id == peer);
                status.and_then(|status| status.path).and_then(|path| path.rtt)
            };
            // See [`Self::check_shown`].
            if self.unheard.get(&(at, peer)).is_some_and(|known| known.is_over(now)) {
                self.unheard.remove(&(at, peer));
            }
            for book in [&mut self.unheard, &mut self.unanswered] {
                let fresh = || InVain { first: now, last: now, rtt: rtt() };
                book.entry((at, peer)).or_insert_with(fresh).last = now;
            }
        }
        if let Stream::Open { conn, into_void, closes } = &mut node.stream {
            let conn = *conn;
            if !outcome.messages.is_empty() && !*into_void {
                match self.relay.conns.get_mut(&conn) {
                    Some(line) => {
                        for message in outcome.messages {
                            line.up.send(now, &mut self.dice, message.len(), message);
                        }
                    }
                    // A reset comes back from a host that knows nothing of the connection.
                    None if self.relay_up || !self.relay_silent => {
                        closes.get_or_insert(now + latency * 2);
                    }
                    None => {}
                }
            }
        }
        if !outcome.datagrams.is_empty() && self.net.has_holes(now) {
            self.net.believe(at, node.longest_round(now));
        }
        for (to, bytes) in outcome.datagrams {
            self.net.send(now, at, to, bytes);
        }
        for (link, message) in outcome.direct {
            if let Some((own, _)) = self.links.ends(link.number, at)
                && own.is_open
            {
                own.out.send(now, &mut self.dice, message.len(), message);
            }
        }
        for (link, at_once) in outcome.ended {
            self.end_link(at, link.number, at_once);
        }
        for slot in outcome.tries {
            let tried = self.nodes[at].tries.get(&slot).cloned();
            for (to, after) in tried
                .iter()
                .flat_map(|tried| tried.addresses.iter().flat_map(|to| SYNS.map(|after| (*to, after))))
            {
                let number = tried.as_ref().map_or(0, |tried| tried.number);
                self.plan(now + after, Todo::Syn { node: at, slot, number, to });
            }
        }
        if self.stay_connected && self.nodes[at].states.values().any(|state| state.as_str() != "connected") {
            return Err(format!("node {at} lost sight of a peer: {:?}", self.nodes[at].states.values()));
        }
        if outcome.hang_up {
            self.disconnect(at)?;
        }
        Ok(())
    }

    /// `connected` is not shown by one who sends for longer than protocol §7.2 says while nothing large of it arrives, or nothing comes
    /// back.
    ///
    /// Who has paused for a second begins anew as far as what is large is concerned: at the end of a flow the last PING of full size may have
    /// been answered before the last frames left, acknowledgements say that these arrived, and the next of that size leaves at the
    /// heartbeat, or with the next frame. Who goes on asks each half second.
    fn check_shown(&self) -> Result<(), String> {
        // An answer to what went out before may be under way for so long, and looks like one to the last frame of a flow.
        let late = if self.delays { LATE } else { Duration::ZERO };
        // What is large may have passed until just before the next question of that size, which leaves half a second after the last answer.
        let seldom = Duration::from_millis(500);
        let unheard = self.unheard.iter().map(|entry| (entry, seldom, "nothing large of it came there"));
        let unanswered =
            self.unanswered.iter().map(|entry| (entry, Duration::ZERO, "nothing came from there"));
        for (((at, peer), known), seldom, what) in unheard.chain(unanswered) {
            let InVain { first, last, rtt } = known;
            let silence = self.now - *first;
            if silence < DEAD_AFTER + SHOWN_SLACK || *last - *first < late || known.is_over(self.now) {
                continue;
            }
            let Some(node) = self.nodes.get(*at).filter(|node| node.is_running() && !node.is_frozen()) else {
                continue;
            };
            if !node.is_connected_to(peer) {
                continue;
            }
            let rtt = node.longest_round(self.now).max(rtt.unwrap_or(Duration::from_millis(300)));
            let unseen = if seldom.is_zero() { seldom } else { seldom + rtt };
            if silence > shown_for(rtt) + unseen + SHOWN_SLACK + late {
                return Err(format!(
                    "node {at} shows {} as connected, and {what} for {silence:?} (rtt {rtt:?})",
                    peer.short()
                ));
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, todo: Todo) -> Result<(), String> {
        match todo {
            Todo::Act(act) => return self.act(act),
            Todo::Frames(flow) => return self.read_frames(flow),
            Todo::RelayUp => self.relay_up = true,
            Todo::Start { node, new_key } => {
                if self.nodes[node].is_running() {
                    return Ok(());
                }
                let identity = new_key.then(|| {
                    Identity(u16::try_from(self.books.register.identities.len()).unwrap_or(u16::MAX))
                });
                if new_key {
                    self.books.ledger.end_identity(self.nodes[node].identity);
                }
                self.nodes[node].restart(self.now, &self.home, &mut self.books.ledger, identity);
                self.books.register.add(self.nodes[node].id(), self.nodes[node].identity);
                return self.tell_addresses(node);
            }
            Todo::Boot { node } => return self.tell_addresses(node),
            Todo::LinkUp { node } => {
                self.tell_addresses(node)?;
                return self.network_changed(node);
            }
            Todo::Syn { node, slot, number, to } => self.send_syn(node, slot, number, to),
            Todo::SynArrives { syn, at } => return self.syn_arrives(syn, at),
            Todo::LinkOpens { syn, link } => return self.link_opens(syn, link),
            Todo::Stranger { node, link } => return self.send_stranger_away(node, link),
            Todo::RelayNotices { conn } => {
                if self.relay_up {
                    let facts = self.relay.close(self.now, conn);
                    self.learn(facts)?;
                }
            }
        }
        Ok(())
    }

    fn read_frames(&mut self, flow: Flow) -> Result<(), String> {
        let Flow { from, to, frames, burst, every, len } = flow;
        let to_id = self.nodes[to].id();
        let identity = self.nodes[to].identity;
        let node = &mut self.nodes[from];
        if node.is_running() && !node.is_frozen() {
            // A frame for a MAC that nobody is known to have would go to everybody.
            if node.knows(&to_id) {
                let count = burst.min(frames);
                let outcome = node.send(self.now, &to_id, identity, count, len, &mut self.books)?;
                self.follow(from, outcome)?;
            }
        }
        if frames > burst {
            self.plan(self.now + every, Todo::Frames(Flow { frames: frames - burst, ..flow }));
        }
        Ok(())
    }

    /// A process goes on.
    fn thaw(&mut self, at: usize) -> Result<(), String> {
        let node = &mut self.nodes[at];
        let suspended = node.asleep_since.take();
        if let Some(since) = suspended {
            node.stand_still(self.now - since);
        }
        // The wall clock tells of the one, a timer of the other; both are asked for where it was.
        let has_slept = suspended.is_some() || node.has_slept(self.now);
        self.tell_addresses(at)?;
        if has_slept { self.network_changed(at) } else { Ok(()) }
    }

    /// A node looks around.
    fn network_changed(&mut self, at: usize) -> Result<(), String> {
        let now = self.now;
        let node = &mut self.nodes[at];
        if !node.is_running() || node.is_frozen() {
            return Ok(());
        }
        if let Stream::Waiting { until } = &mut node.stream {
            *until = (*until).min(now);
        }
        let outcome = node.network_changed(now, &mut self.books)?;
        self.follow(at, outcome)
    }

    /// Whose data to whom takes which kind of path.
    pub(super) fn kinds(&self) -> Vec<((usize, usize), Option<PathKind>)> {
        let kind = |(a, b): (usize, usize)| {
            let (one, other) = (self.nodes.get(a)?, self.nodes.get(b)?);
            one.path_to(&other.id())
        };
        self.pairs().into_iter().map(|pair| (pair, kind(pair))).collect()
    }

    /// Whose frames are for whom.
    pub(super) fn directions(&self) -> Vec<(Life, Identity)> {
        let pairs = self.pairs().into_iter();
        pairs.map(|(from, to)| (self.nodes[from].life, self.nodes[to].identity)).collect()
    }

    /// What a node says of its last move of data to another.
    pub(super) fn last_switch(&self, from: usize, to: usize) -> Option<(PathKind, PathKind, MoveCost)> {
        let (from, to) = (self.nodes.get(from)?, self.nodes.get(to)?.id());
        from.last_switch(self.now, &to)
    }

    /// How often the path of somebody's data came into doubt.
    pub(super) fn doubts(&self) -> u64 {
        self.nodes.iter().map(|node| node.doubts).sum()
    }

    /// Associations that were begun, by all together.
    pub(super) fn associations(&self) -> u64 {
        self.nodes.iter().map(|node| node.associations).sum()
    }

    /// The path that data takes from one node to another, as the former has it.
    fn path(&self, from: usize, to: usize) -> Option<PathStatus> {
        let (from, to) = (self.nodes.get(from)?, self.nodes.get(to)?.id());
        let all = from.endpoint.peer_status(from.clock(self.now)).into_iter();
        all.filter(|status| status.id == to).find_map(|status| status.path)
    }

    /// Its round trip.
    pub(super) fn rtt(&self, from: usize, to: usize) -> Option<Duration> {
        self.path(from, to)?.rtt
    }

    /// The largest packet that was proven to pass there.
    pub(super) fn mtu(&self, from: usize, to: usize) -> Option<u16> {
        self.path(from, to)?.mtu
    }

    /// Keys that were ever in use.
    pub(super) fn keys(&self) -> BTreeSet<NodeId> {
        self.books.register.identities.keys().copied().collect()
    }

    /// A process that runs is told which addresses it has; one that stands still hears of it when it goes on.
    fn tell_addresses(&mut self, at: usize) -> Result<(), String> {
        let addresses = self.net.addresses(at);
        let node = &mut self.nodes[at];
        if !node.is_running() || node.is_frozen() {
            return Ok(());
        }
        let outcome = node.set_addresses(self.now, addresses, &mut self.books)?;
        self.follow(at, outcome)
    }
}
