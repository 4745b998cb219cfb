//! The simulated internet: sites with their NATs, the hosts in them, and datagrams on their way.
//!
//! A site has one outside address and a NAT that maps and filters after RFC 4787, for UDP and TCP alike. What it lets in is decided
//! when a packet arrives, as on a real router. A wire between two places has a latency, jitter, an MTU, and may lose, repeat and
//! damage what it carries; it keeps the order unless it is said not to.
//!
//! Every copy of data that is lost is written down with its cause ([`Net::losses`]).

use super::dice::Dice;
use super::losses::{Cause, Losses};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

/// Where the relay is.
pub(super) const RELAY_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Its ports: that of its streams first.
pub(super) const RELAY_PORTS: [u16; 2] = [8443, 443];
/// IPv4 and UDP headers.
const HEADERS: usize = 28;

/// Silence on a way of this round trip is noticed after so long: data is in doubt (protocol §7.2), and then not answered for longer than
/// an answer takes.
fn noticed_after(rtt: Duration) -> Duration {
    let ms = Duration::from_millis;
    (3 * rtt).max(ms(150)) + ms(100) + (3 * rtt).max(ms(50))
}

/// How a router maps and filters (RFC 4787 §4.1, §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nat {
    /// No router at all.
    Open,
    /// No translation; in comes only what answers.
    Firewall,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    AddressRestricted,
    /// Endpoint-independent mapping, address- and port-dependent filtering.
    PortRestricted,
    /// Address- and port-dependent mapping and filtering.
    Symmetric,
}

impl Nat {
    pub(super) const ALL: [Self; 6] = [
        Self::Open,
        Self::Firewall,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Symmetric,
    ];

    const fn translates(self) -> bool {
        !matches!(self, Self::Open | Self::Firewall)
    }

    fn lets_in(self, contacted: &BTreeSet<SocketAddr>, from: SocketAddr) -> bool {
        match self {
            Self::Open | Self::FullCone => true,
            Self::AddressRestricted => contacted.iter().any(|to| to.ip() == from.ip()),
            Self::Firewall | Self::PortRestricted | Self::Symmetric => contacted.contains(&from),
        }
    }

    /// Whether two hosts behind such routers can speak by UDP at all: not where one shows a port to each destination and the other
    /// lets in only what it wrote to by port.
    pub(super) const fn can_meet(self, other: Self) -> bool {
        const fn is_strict(nat: Nat) -> bool {
            matches!(nat, Nat::Firewall | Nat::PortRestricted | Nat::Symmetric)
        }
        let one = matches!(self, Self::Symmetric) && is_strict(other);
        let two = matches!(other, Self::Symmetric) && is_strict(self);
        !one && !two
    }
}

/// What is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Udp,
    Tcp,
}

/// One outside port.
#[derive(Debug)]
struct Mapping {
    layer: Layer,
    inside: SocketAddrV4,
    /// Where it leads to, if it is for that destination alone.
    to: Option<SocketAddr>,
    port: u16,
    contacted: BTreeSet<SocketAddr>,
}

/// A router and its outside address.
#[derive(Debug)]
struct Site {
    nat: Nat,
    outside: Ipv4Addr,
    mappings: Vec<Mapping>,
    /// Ports begin here; moved when everything is forgotten.
    next_port: u16,
    hosts: u8,
}

impl Site {
    /// The outside address of what `inside` sends to `to`.
    fn outgoing(&mut self, layer: Layer, inside: SocketAddrV4, to: SocketAddr) -> SocketAddr {
        let key = (self.nat == Nat::Symmetric).then_some(to);
        let known =
            |mapping: &Mapping| mapping.layer == layer && mapping.inside == inside && mapping.to == key;
        let at = self.mappings.iter().position(known).unwrap_or_else(|| {
            let port = if self.nat.translates() { self.next_port } else { inside.port() };
            self.next_port = self.next_port.wrapping_add(1).max(1024);
            self.mappings.push(Mapping { layer, inside, to: key, port, contacted: BTreeSet::new() });
            self.mappings.len() - 1
        });
        let mapping = &mut self.mappings[at];
        mapping.contacted.insert(to);
        let ip = if self.nat.translates() { self.outside } else { *inside.ip() };
        SocketAddrV4::new(ip, mapping.port).into()
    }

    /// Which inside address gets what comes from `from` to `to`; `None` where it is turned away.
    fn incoming(&self, layer: Layer, to: SocketAddrV4, from: SocketAddr) -> Option<SocketAddrV4> {
        if self.nat == Nat::Open {
            return Some(to);
        }
        let leads_here = |mapping: &&Mapping| {
            mapping.layer == layer
                && mapping.port == to.port()
                && (self.nat.translates() || mapping.inside == to)
                && self.nat.lets_in(&mapping.contacted, from)
        };
        self.mappings.iter().find(leads_here).map(|mapping| mapping.inside)
    }
}

/// A machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host {
    site: usize,
    inside: Ipv4Addr,
    port: u16,
    mtu: usize,
    latency: Duration,
    jitter: Duration,
}

/// How a host is placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    pub(super) nat: Nat,
    /// Behind the router of that host, whatever `nat` says.
    pub(super) beside: Option<usize>,
    pub(super) mtu: usize,
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
}

/// What wires do to datagrams, in per mille of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) loss: u32,
    pub(super) repeat: u32,
    pub(super) damage: u32,
    pub(super) reorders: bool,
}

/// An end of a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Relay,
    Node(usize),
}

/// A datagram on its way.
#[derive(Debug)]
pub(super) struct Flight {
    source: Place,
    place: Place,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
    /// The node that said it; `None`: the relay.
    pub(super) sender: Option<usize>,
    /// A copy of what the receiver had before.
    pub(super) replay: bool,
    /// From beside the receiver: no router is asked.
    is_inside: bool,
    pub(super) is_damaged: bool,
}

/// A direction in which nothing passes for a time.
#[derive(Debug, Clone, Copy)]
struct Hole {
    from: Place,
    to: Place,
    until: Instant,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Net {
    sites: Vec<Site>,
    hosts: Vec<Host>,
    /// How much longer or shorter the way between two hosts is than over the relay, in eighths.
    detour: BTreeMap<(usize, usize), u32>,
    pub(super) wire: Wire,
    flights: BTreeMap<(Instant, u64), Flight>,
    sent: u64,
    newest: BTreeMap<(Place, Place), Instant>,
    holes: Vec<Hole>,
    pub(super) losses: Losses,
    /// The longest round trip that a node believes in: one over which a process slept is believed for a while.
    believed: BTreeMap<usize, Duration>,
    dice: Dice,
}

impl Net {
    pub(super) fn new(placements: &[Placement], wire: Wire, mut dice: Dice) -> Self {
        let count = placements.len();
        let mut detour = BTreeMap::new();
        for a in 0..count {
            for b in a + 1..count {
                detour.insert((a, b), u32::try_from(dice.pick(&[2, 4, 6, 8, 8, 24], 8)).unwrap_or(8));
            }
        }
        let mut net = Self {
            sites: vec![],
            hosts: vec![],
            detour,
            wire,
            flights: BTreeMap::new(),
            sent: 0,
            newest: BTreeMap::new(),
            holes: vec![],
            losses: Losses::default(),
            believed: BTreeMap::new(),
            dice,
        };
        for (at, placement) in placements.iter().enumerate() {
            let site = match placement.beside.filter(|beside| *beside < at) {
                Some(beside) if net.sites[net.hosts[beside].site].nat.translates() => net.hosts[beside].site,
                Some(_) | None => net.new_site(placement.nat),
            };
            let inside = net.new_inside(site);
            net.hosts.push(Host {
                site,
                inside,
                port: 40_000 + u16::try_from(at).unwrap_or(0),
                mtu: placement.mtu,
                latency: placement.latency,
                jitter: placement.jitter,
            });
        }
        net
    }

    fn new_site(&mut self, nat: Nat) -> usize {
        let number = u8::try_from(self.sites.len() + 1).unwrap_or(u8::MAX);
        let outside = Ipv4Addr::new(198, 51, 100, number);
        self.sites.push(Site { nat, outside, mappings: vec![], next_port: 10_000, hosts: 0 });
        self.sites.len() - 1
    }

    /// Many sites have the same addresses inside, as in life.
    fn new_inside(&mut self, at: usize) -> Ipv4Addr {
        let site = &mut self.sites[at];
        site.hosts += 1;
        if site.nat.translates() { Ipv4Addr::new(192, 168, 1, 1 + site.hosts) } else { site.outside }
    }

    /// The UDP addresses of a host's interfaces.
    pub(super) fn addresses(&self, node: usize) -> Vec<SocketAddr> {
        let host = self.hosts[node];
        vec![SocketAddrV4::new(host.inside, host.port).into()]
    }

    /// The port of its socket.
    pub(super) fn port(&self, node: usize) -> u16 {
        self.hosts[node].port
    }

    /// Whether two hosts can speak by UDP, over no longer a way than the relay's.
    pub(super) fn can_meet_well(&self, a: usize, b: usize) -> bool {
        let is_short = self.detour.get(&(a.min(b), a.max(b))).is_none_or(|eighths| *eighths <= 8);
        let (a, b) = (self.hosts[a].site, self.hosts[b].site);
        a == b || (is_short && self.sites[a].nat.can_meet(self.sites[b].nat))
    }

    /// One way between two hosts.
    pub(super) fn latency(&self, from: Place, to: Place) -> Duration {
        let own = |place| match place {
            Place::Relay => Duration::ZERO,
            Place::Node(at) => self.hosts[at].latency,
        };
        let both = own(from) + own(to);
        match (from, to) {
            (Place::Node(a), Place::Node(b)) if self.hosts[a].site == self.hosts[b].site => {
                Duration::from_micros(300)
            }
            (Place::Node(a), Place::Node(b)) => {
                both * self.detour.get(&(a.min(b), a.max(b))).copied().unwrap_or(8) / 8
            }
            (Place::Relay, _) | (_, Place::Relay) => both,
        }
    }

    fn jitter(&self, from: Place, to: Place) -> Duration {
        [from, to]
            .into_iter()
            .map(|place| match place {
                Place::Relay => Duration::ZERO,
                Place::Node(at) => self.hosts[at].jitter,
            })
            .sum()
    }

    /// The longest round trip of what goes from one place to another, to the relay on its way to anybody.
    fn longest_round(&self, from: Place, to: Place) -> Duration {
        let one_way = |from, to| self.latency(from, to) + self.jitter(from, to);
        let to_relay = |at| one_way(Place::Node(at), Place::Relay);
        let beyond = || (0..self.hosts.len()).map(to_relay).max().unwrap_or_default();
        match (from, to) {
            (Place::Node(_), Place::Node(_)) => 2 * one_way(from, to),
            (Place::Relay, _) | (_, Place::Relay) => 2 * (one_way(from, to) + beyond()),
        }
    }

    fn mtu(&self, from: Place, to: Place) -> usize {
        let own = |place| match place {
            Place::Relay => 1500,
            Place::Node(at) => self.hosts[at].mtu,
        };
        own(from).min(own(to))
    }

    /// Who has an address, as far as `from` can see: a place, and whether no router lies between.
    fn whose(&self, layer: Layer, from: Option<usize>, to: SocketAddr) -> Option<(Place, bool)> {
        let SocketAddr::V4(to) = to else { return None };
        if *to.ip() == RELAY_IP {
            return Some((Place::Relay, false));
        }
        let beside = |host: &Host| from.is_some_and(|from| self.hosts[from].site == host.site);
        if let Some(at) = self.hosts.iter().position(|host| host.inside == *to.ip() && beside(host)) {
            return Some((Place::Node(at), true));
        }
        let (number, site) =
            self.sites.iter().enumerate().find(|(_, site)| site.outside == *to.ip() && site.hosts > 0)?;
        // No hairpin: a router does not send back inside what comes from there.
        if from.is_some_and(|from| self.hosts[from].site == number && site.nat.translates()) {
            return None;
        }
        let at = if site.nat.translates() {
            let mapped =
                site.mappings.iter().find(|mapping| mapping.layer == layer && mapping.port == to.port())?;
            self.hosts.iter().position(|host| host.site == number && host.inside == *mapped.inside.ip())?
        } else {
            self.hosts.iter().position(|host| host.site == number)?
        };
        Some((Place::Node(at), false))
    }

    /// A host sends a datagram.
    pub(super) fn send(&mut self, now: Instant, node: usize, to: SocketAddr, bytes: Vec<u8>) {
        let host = self.hosts[node];
        let inside = SocketAddrV4::new(host.inside, host.port);
        let whose = self.whose(Layer::Udp, Some(node), to);
        let is_inside = whose.is_some_and(|(_, is_inside)| is_inside);
        let from = if is_inside {
            inside.into()
        } else {
            // The router maps it whether or not anybody is there.
            self.sites[host.site].outgoing(Layer::Udp, inside, to)
        };
        let Some((place, _)) = whose else {
            self.losses.on_lost(&bytes, Cause::TurnedAway);
            return;
        };
        let flight = Flight {
            source: Place::Node(node),
            place,
            from,
            to,
            bytes,
            sender: Some(node),
            replay: false,
            is_inside,
            is_damaged: false,
        };
        self.launch(now, Place::Node(node), flight);
    }

    /// The relay sends a datagram that `sender` said, or it itself.
    pub(super) fn send_from_relay(
        &mut self,
        now: Instant,
        port: u16,
        to: SocketAddr,
        bytes: Vec<u8>,
        sender: Option<usize>,
    ) {
        let Some((place, _)) = self.whose(Layer::Udp, None, to) else {
            self.losses.on_lost(&bytes, Cause::TurnedAway);
            return;
        };
        let from = SocketAddrV4::new(RELAY_IP, port).into();
        let flight = Flight {
            source: Place::Relay,
            place,
            from,
            to,
            bytes,
            sender,
            replay: false,
            is_inside: false,
            is_damaged: false,
        };
        self.launch(now, Place::Relay, flight);
    }

    /// Somebody on the way sends a node what it had before, from `from`.
    pub(super) fn replay(&mut self, now: Instant, node: usize, from: SocketAddr, bytes: Vec<u8>) {
        let host = self.hosts[node];
        let to = SocketAddrV4::new(host.inside, host.port).into();
        let (place, sender) = (Place::Node(node), None);
        self.sent += 1;
        let flight = Flight {
            source: place,
            place,
            from,
            to,
            bytes,
            sender,
            replay: true,
            is_inside: true,
            is_damaged: false,
        };
        self.flights.insert((now, self.sent), flight);
    }

    fn launch(&mut self, now: Instant, from: Place, flight: Flight) {
        let to = flight.place;
        if flight.bytes.len() + HEADERS > self.mtu(from, to) {
            self.losses.on_lost(&flight.bytes, Cause::TooLarge);
            return;
        }
        let holes = self.holes.iter().filter(|hole| hole.until > now && hole.from == from && hole.to == to);
        if let Some(until) = holes.map(|hole| hole.until).max() {
            let believed = flight.sender.and_then(|sender| self.believed.get(&sender)).copied();
            let round = self.longest_round(from, to).max(believed.unwrap_or_default());
            let is_noticed = until >= now + noticed_after(round);
            self.losses.on_lost(&flight.bytes, if is_noticed { Cause::Hole } else { Cause::Unnoticed });
            return;
        }
        if self.dice.per_mille(self.wire.loss) {
            self.losses.on_lost(&flight.bytes, Cause::Chance);
            return;
        }
        let copies = 1 + usize::from(self.dice.per_mille(self.wire.repeat));
        for _ in 0..copies {
            let mut arrival =
                now + self.latency(from, to) + self.dice.between(Duration::ZERO, self.jitter(from, to));
            if !self.wire.reorders {
                let newest = self.newest.entry((from, to)).or_insert(arrival);
                *newest = arrival.max(*newest);
                arrival = *newest;
            }
            let mut bytes = flight.bytes.clone();
            let is_damaged = self.dice.per_mille(self.wire.damage);
            if is_damaged {
                let at = self.dice.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.dice.below(8);
                    self.losses.on_damaged(&flight.bytes, &bytes);
                }
            }
            self.sent += 1;
            self.flights.insert((arrival, self.sent), Flight { bytes, is_damaged, ..flight });
        }
    }

    /// When the next datagram arrives.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.flights.keys().next().map(|(at, _)| *at)
    }

    /// A datagram that has arrived somewhere: at the relay, or past a node's router.
    pub(super) fn arrival(&mut self, now: Instant) -> Option<(Place, Flight)> {
        while let Some(entry) = self.flights.first_entry()
            && entry.key().0 <= now
        {
            let flight = entry.remove();
            let place = match flight.place {
                Place::Relay => Some(Place::Relay),
                Place::Node(at) if flight.is_inside => {
                    // Another host may have left, or moved, meanwhile.
                    let is_here = flight.to.ip() == IpAddr::V4(self.hosts[at].inside);
                    is_here.then_some(Place::Node(at))
                }
                Place::Node(at) => {
                    let host = self.hosts[at];
                    let to = match flight.to {
                        SocketAddr::V4(to) => to,
                        SocketAddr::V6(_) => continue,
                    };
                    let site = &self.sites[host.site];
                    let inside = (site.outside == *to.ip())
                        .then(|| site.incoming(Layer::Udp, to, flight.from))
                        .flatten();
                    (inside == Some(SocketAddrV4::new(host.inside, host.port))).then_some(Place::Node(at))
                }
            };
            let way = (flight.from, flight.to);
            let Some(place) = place else {
                self.losses.on_turned_away(now, way, &flight.bytes);
                continue;
            };
            let noticed = noticed_after(self.longest_round(flight.source, place));
            self.losses.on_let_in(now, way, noticed);
            return Some((place, flight));
        }
        None
    }

    /// Nothing passes from one place to another until then.
    pub(super) fn dig(&mut self, from: Place, to: Place, until: Instant) {
        self.holes.push(Hole { from, to, until });
    }

    /// Nothing leaves or reaches a node by datagram until then.
    pub(super) fn cut_off(&mut self, node: usize, until: Instant) {
        let others = (0..self.hosts.len()).filter(|other| *other != node).map(Place::Node);
        for place in others.chain([Place::Relay]) {
            self.dig(Place::Node(node), place, until);
            self.dig(place, Place::Node(node), until);
        }
    }

    /// Whether anything is swallowed anywhere.
    pub(super) fn has_holes(&self, now: Instant) -> bool {
        self.holes.iter().any(|hole| hole.until > now)
    }

    /// The longest round trip of its paths, as `node` has it.
    pub(super) fn believe(&mut self, node: usize, round: Duration) {
        self.believed.insert(node, round);
    }

    /// All holes are filled, and wires are good.
    pub(super) fn mend(&mut self) {
        self.holes.clear();
        self.wire = Wire::default();
    }

    /// The router of a node forgets everything, and gives other ports from now on.
    pub(super) fn rebind(&mut self, node: usize) {
        let site = &mut self.sites[self.hosts[node].site];
        site.mappings.clear();
        site.next_port = site.next_port.wrapping_add(1000).max(1024);
    }

    /// A node moves to a new site. What was on its way to it is lost.
    pub(super) fn roam(&mut self, node: usize, nat: Nat) {
        let old = self.hosts[node].site;
        self.sites[old].hosts -= 1;
        let site = self.new_site(nat);
        let inside = self.new_inside(site);
        let host = &mut self.hosts[node];
        (host.site, host.inside) = (site, inside);
    }

    /// The largest packet that a node's line takes changes.
    pub(super) fn set_mtu(&mut self, node: usize, mtu: usize) {
        self.hosts[node].mtu = mtu;
    }

    /// How what a node sends from its TCP port `port` to `to` looks outside.
    pub(super) fn tcp_out(&mut self, node: usize, port: u16, to: SocketAddr) -> SocketAddr {
        let host = self.hosts[node];
        let inside = SocketAddrV4::new(host.inside, port);
        if self.whose(Layer::Tcp, Some(node), to).is_some_and(|(_, is_inside)| is_inside) {
            return inside.into();
        }
        self.sites[host.site].outgoing(Layer::Tcp, inside, to)
    }

    /// Which node might be reached by TCP at `to`.
    pub(super) fn tcp_towards(&self, node: usize, to: SocketAddr) -> Option<usize> {
        match self.whose(Layer::Tcp, Some(node), to)? {
            (Place::Node(at), _) => Some(at),
            (Place::Relay, _) => None,
        }
    }

    /// Which port of `node` a SYN from `source` (the node `from`) to `to` comes to; `None` where it is turned away.
    pub(super) fn tcp_in(&self, from: usize, node: usize, to: SocketAddr, source: SocketAddr) -> Option<u16> {
        let (host, SocketAddr::V4(to)) = (self.hosts[node], to) else { return None };
        if *to.ip() == host.inside && self.hosts[from].site == host.site {
            return Some(to.port());
        }
        let site = &self.sites[host.site];
        let inside = (site.outside == *to.ip()).then(|| site.incoming(Layer::Tcp, to, source)).flatten()?;
        (*inside.ip() == host.inside).then_some(inside.port())
    }

    /// Whether nothing passes between two nodes now.
    pub(super) fn is_swallowed(&self, now: Instant, from: usize, to: usize) -> bool {
        let (from, to) = (Place::Node(from), Place::Node(to));
        self.holes.iter().any(|hole| hole.until > now && hole.from == from && hole.to == to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(nats: &[Nat]) -> Net {
        let placements: Vec<_> = nats
            .iter()
            .map(|nat| Placement {
                nat: *nat,
                beside: None,
                mtu: 1500,
                latency: Duration::from_millis(10),
                jitter: Duration::ZERO,
            })
            .collect();
        Net::new(&placements, Wire::default(), Dice::new(1))
    }

    /// Whether a datagram from `from` to `to` comes out at the node `at`, and as whose.
    fn passes(net: &mut Net, now: Instant, from: usize, to: SocketAddr, at: usize) -> Option<SocketAddr> {
        net.send(now, from, to, vec![1; 60]);
        let (place, flight) = net.arrival(now + Duration::from_secs(1))?;
        (place == Place::Node(at)).then_some(flight.from)
    }

    /// How the relay sees a node.
    fn seen(net: &mut Net, now: Instant, node: usize) -> SocketAddr {
        net.send(now, node, SocketAddrV4::new(RELAY_IP, RELAY_PORTS[0]).into(), vec![1; 60]);
        net.arrival(now + Duration::from_secs(1)).expect("it reaches the relay").1.from
    }

    #[test]
    fn routers_do_what_they_are_called() {
        let now = Instant::now();
        for nat in Nat::ALL {
            for other in Nat::ALL {
                let mut net = world(&[nat, other]);
                let (a, b) = (seen(&mut net, now, 0), seen(&mut net, now, 1));
                let is_translated = a.ip() != net.addresses(0)[0].ip();
                assert_eq!(is_translated, nat.translates(), "{nat:?}");
                // Unasked, from somebody that was never written to.
                let unasked = passes(&mut net, now, 1, a, 0);
                assert_eq!(
                    unasked.is_some(),
                    matches!(nat, Nat::Open | Nat::FullCone),
                    "{other:?} to {nat:?}"
                );
                // Both write to what the relay saw, and then to what they heard from.
                let mut heard = [None, None];
                for _ in 0..3 {
                    let to = heard[0].unwrap_or(b);
                    heard[1] = passes(&mut net, now, 0, to, 1).or(heard[1]);
                    let to = heard[1].unwrap_or(a);
                    heard[0] = passes(&mut net, now, 1, to, 0).or(heard[0]);
                }
                let met = heard.iter().all(Option::is_some);
                assert_eq!(met, nat.can_meet(other), "{nat:?} and {other:?}");
            }
        }
    }

    #[test]
    fn a_rebind_turns_away_what_goes_to_the_old_port_and_a_hole_ends() {
        let now = Instant::now();
        let mut net = world(&[Nat::FullCone, Nat::Open]);
        let old = seen(&mut net, now, 0);
        assert!(passes(&mut net, now, 1, old, 0).is_some());
        net.rebind(0);
        let new = seen(&mut net, now, 0);
        assert_ne!(new, old);
        assert!(passes(&mut net, now, 1, old, 0).is_none());
        net.dig(Place::Node(1), Place::Node(0), now + Duration::from_secs(1));
        assert!(passes(&mut net, now, 1, new, 0).is_none());
        let later = now + Duration::from_secs(1);
        assert!(passes(&mut net, later, 1, new, 0).is_some());
        net.roam(0, Nat::FullCone);
        assert!(passes(&mut net, later, 1, new, 0).is_none(), "it moved away");
    }

    #[test]
    fn hosts_of_one_site_meet_inside_and_not_by_its_outside() {
        let now = Instant::now();
        let beside = |beside| Placement {
            nat: Nat::PortRestricted,
            beside,
            mtu: 1500,
            latency: Duration::from_millis(10),
            jitter: Duration::ZERO,
        };
        let mut net = Net::new(&[beside(None), beside(Some(0))], Wire::default(), Dice::new(1));
        let outside = seen(&mut net, now, 0);
        assert!(passes(&mut net, now, 1, outside, 0).is_none(), "no hairpin");
        let inside = net.addresses(0)[0];
        assert_eq!(passes(&mut net, now, 1, inside, 0), Some(net.addresses(1)[0]));
    }
}
