//! The simulated internet: sites with their NATs, the hosts in them, and datagrams on their way.
//!
//! A site has a router ([`site`]) that maps and filters after RFC 4787, for UDP and TCP alike, forgets what nobody uses, and may lie behind another one. What is
//! let in is decided when a packet arrives, as on a real router. A wire between two places has a latency, jitter, an MTU, and may lose,
//! repeat and damage what it carries; it keeps the order unless it is said not to. What two hosts can reach at best is known
//! ([`reach`]), and the same as the matrix of the namespace lab says.
//!
//! Every copy of data that is lost is written down with its cause ([`Net::losses`]).

mod reach;
mod site;

use super::dice::Dice;
use super::losses::{Cause, Losses};
use shadowmesh_proto::wire::header::PacketType;
use site::Site;
pub(super) use site::{Family, Layer, Nat};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Where the relay is.
const RELAY_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const RELAY_IP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
/// Its ports: that of its streams first.
pub(super) const RELAY_PORTS: [u16; 2] = [8443, 443];
/// Where somebody sends from who took packets on their way, and passes them on.
const THIEF: (Ipv4Addr, Ipv6Addr, u16) =
    (Ipv4Addr::new(203, 0, 113, 66), Ipv6Addr::new(0x2001, 0xdb8, 66, 0, 0, 0, 0, 66), 4000);
/// How long such a packet is kept, at most.
const KEPT: Duration = Duration::from_millis(800);
/// Copies of it, at most.
const COPIES: usize = 8;

/// Whether that is where a thief is.
pub(super) fn is_thief(address: SocketAddr) -> bool {
    let (v4, v6, port) = THIEF;
    address.port() == port && [IpAddr::V4(v4), IpAddr::V6(v6)].contains(&address.ip())
}

/// IP and UDP headers.
const fn headers(to: SocketAddr) -> usize {
    if to.is_ipv4() { 28 } else { 48 }
}

/// Silence on a way of this round trip is noticed after so long: data is in doubt (protocol §7.2), and then not answered for longer than
/// an answer takes.
fn noticed_after(rtt: Duration) -> Duration {
    let ms = Duration::from_millis;
    (3 * rtt).max(ms(150)) + ms(100) + (3 * rtt).max(ms(50))
}

/// A machine.
#[derive(Debug, Clone, Copy)]
struct Host {
    site: usize,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    port: u16,
    mtu: usize,
    latency: Duration,
    jitter: Duration,
    /// Its streams to the relay use IPv6 where they can.
    prefers_6: bool,
}

impl Host {
    /// Its address of the family of `to`.
    fn own(&self, port: u16, to: SocketAddr) -> Option<SocketAddr> {
        let ip = if to.is_ipv4() { self.v4.map(IpAddr::V4) } else { self.v6.map(IpAddr::V6) };
        ip.map(|ip| SocketAddr::new(ip, port))
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.v4.map(IpAddr::V4) == Some(ip) || self.v6.map(IpAddr::V6) == Some(ip)
    }
}

/// What lies between a host and the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uplink {
    pub(super) nat: Nat,
    pub(super) family: Family,
    pub(super) hairpins: bool,
    pub(super) prefers_6: bool,
    /// Another router between its own and the internet.
    pub(super) carrier: Option<Nat>,
}

impl Uplink {
    /// A network of IPv4 behind one router.
    pub(super) const fn new(nat: Nat) -> Self {
        Self { nat, family: Family::V4, hairpins: false, prefers_6: false, carrier: None }
    }
}

/// Where somebody else is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// On the same LAN as that host.
    Lan(usize),
    /// On another LAN behind the same outermost router, if that translates.
    Router(usize),
}

/// How a host is placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    pub(super) uplink: Uplink,
    /// Beside a host that was placed before, whatever `uplink` says.
    pub(super) beside: Option<Beside>,
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

/// What is wrong with the way between two hosts alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bad {
    /// Per mille of what goes there.
    pub(super) loss: u32,
    pub(super) delay: Duration,
}

/// The largest packet that passes, bytes with the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Narrow {
    largest: usize,
    /// Of what this node says alone; `None`: of what anybody says.
    of: Option<usize>,
}

impl Narrow {
    /// Everything passes.
    pub(super) const NOT: Self = Self::all(usize::MAX);

    pub(super) const fn all(largest: usize) -> Self {
        Self { largest, of: None }
    }

    pub(super) const fn of(node: usize, largest: usize) -> Self {
        Self { largest, of: Some(node) }
    }

    /// Of what leaves there.
    pub(super) fn from(self, place: Place) -> usize {
        let is_meant = self.of.is_none_or(|node| place == Place::Node(node));
        if is_meant { self.largest } else { usize::MAX }
    }
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
    /// Where the relay passed it on: from which node to which.
    relayed: Option<(usize, usize)>,
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
    bad: BTreeMap<(usize, usize), Bad>,
    pub(super) wire: Wire,
    pub(super) narrow: Narrow,
    flights: BTreeMap<(Instant, u64), Flight>,
    sent: u64,
    newest: BTreeMap<(Place, Place), Instant>,
    holes: Vec<Hole>,
    pub(super) losses: Losses,
    /// Whose control packets are stolen, and until when.
    robbed: BTreeMap<usize, Instant>,
    /// The longest round trip that a node believes in: one over which a process slept is believed for a while.
    believed: BTreeMap<usize, Duration>,
    /// When nodes first sent a datagram to somebody who is not the relay, since somebody looked.
    pub(super) tried: BTreeMap<usize, Instant>,
    dice: Dice,
}

impl Net {
    pub(super) fn new(placements: &[Placement], detour: Option<u32>, wire: Wire, mut dice: Dice) -> Self {
        let count = placements.len();
        let mut ways = BTreeMap::new();
        for a in 0..count {
            for b in a + 1..count {
                let chance = dice.pick(&[2, 4, 6, 8, 8, 24], 8);
                ways.insert((a, b), detour.unwrap_or(chance));
            }
        }
        let mut net = Self {
            sites: vec![],
            hosts: vec![],
            detour: ways,
            bad: BTreeMap::new(),
            wire,
            narrow: Narrow::NOT,
            flights: BTreeMap::new(),
            sent: 0,
            newest: BTreeMap::new(),
            holes: vec![],
            losses: Losses::default(),
            robbed: BTreeMap::new(),
            believed: BTreeMap::new(),
            tried: BTreeMap::new(),
            dice,
        };
        for (at, placement) in placements.iter().enumerate() {
            let site = net.site_beside(placement).unwrap_or_else(|| net.new_uplink(placement.uplink));
            let (v4, v6) = net.sites[site].new_host();
            net.hosts.push(Host {
                site,
                v4,
                v6,
                port: 40_000 + u16::try_from(at).unwrap_or(0),
                mtu: placement.mtu,
                latency: placement.latency,
                jitter: placement.jitter,
                prefers_6: placement.uplink.prefers_6,
            });
        }
        net
    }

    /// The site that `beside` asks for, where there can be one.
    fn site_beside(&mut self, placement: &Placement) -> Option<usize> {
        let (Beside::Lan(other) | Beside::Router(other)) = placement.beside?;
        let site = self.hosts.get(other)?.site;
        if !self.sites[site].nat.translates() {
            return None;
        }
        if placement.beside == Some(Beside::Lan(other)) {
            return Some(site);
        }
        let top = self.chain(site).last().copied().unwrap_or(site);
        let child = self.new_site(Nat::PortRestricted, Family::V4);
        self.put_behind(child, top);
        Some(child)
    }

    fn new_uplink(&mut self, uplink: Uplink) -> usize {
        let site = self.new_site(uplink.nat, uplink.family);
        self.sites[site].hairpins = uplink.hairpins;
        if let Some(carrier) = uplink.carrier.filter(|_| uplink.nat.translates()) {
            let carrier = self.new_site(carrier, Family::V4);
            self.sites[carrier].hairpins = uplink.hairpins;
            self.put_behind(site, carrier);
        }
        site
    }

    fn new_site(&mut self, nat: Nat, family: Family) -> usize {
        let number = u8::try_from(self.sites.len() + 1).unwrap_or(u8::MAX);
        let [shortest, longest] = site::UDP_IDLE;
        // Every other one is as bad as any.
        let idle = if self.dice.per_mille(500) { shortest } else { self.dice.between(shortest, longest) };
        self.sites.push(Site::new(nat, family, Ipv4Addr::new(198, 51, 100, number), number.into(), idle));
        self.sites.len() - 1
    }

    /// Outside it has an address of the carrier's then (RFC 6598).
    fn put_behind(&mut self, site: usize, carrier: usize) {
        let number = u8::try_from(site + 1).unwrap_or(u8::MAX);
        self.sites[site].outside = Ipv4Addr::new(100, 64, 0, number);
        self.sites[site].parent = Some(carrier);
        self.sites[carrier].hosts += 1;
    }

    /// A site and the routers beyond it.
    fn chain(&self, site: usize) -> Vec<usize> {
        std::iter::successors(Some(site), |site| self.sites[*site].parent).collect()
    }

    /// The UDP addresses of a host's interfaces.
    pub(super) fn addresses(&self, node: usize) -> Vec<SocketAddr> {
        let host = self.hosts[node];
        let all = host.v4.map(IpAddr::V4).into_iter().chain(host.v6.map(IpAddr::V6));
        all.map(|ip| SocketAddr::new(ip, host.port)).collect()
    }

    /// The port of its socket.
    pub(super) fn port(&self, node: usize) -> u16 {
        self.hosts[node].port
    }

    /// Where a node's streams to the relay go, and the relay's address of the other family, as the node's resolver has it.
    pub(super) fn relay_of(&self, node: usize) -> (SocketAddr, IpAddr) {
        let host = self.hosts[node];
        let is_poor = self.chain(host.site).iter().any(|site| self.sites[*site].nat == Nat::Tcp443);
        let port = if is_poor { 443 } else { RELAY_PORTS[0] };
        let (v4, v6) = (IpAddr::V4(RELAY_IP), IpAddr::V6(RELAY_IP6));
        let uses_6 = host.v4.is_none() || (host.prefers_6 && host.v6.is_some());
        let (ip, other) = if uses_6 { (v6, v4) } else { (v4, v6) };
        (SocketAddr::new(ip, port), other)
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
        own(from).min(own(to)).min(self.narrow.from(from))
    }

    /// Who has an address, as far as `sender` can see (`None`: the relay): a place, its address there, and the last of the routers that
    /// what the sender says passes, from its own on; none where both are on one LAN.
    fn whose(&self, layer: Layer, sender: Option<usize>, to: SocketAddr) -> Option<(Place, Option<usize>)> {
        let chain = sender.map_or_else(Vec::new, |sender| self.chain(self.hosts[sender].site));
        // What the routers of the sender pass, and it has an address for.
        let is_sent = sender.is_none_or(|sender| {
            let host = self.hosts[sender];
            let is_beside = self.hosts.iter().any(|other| other.has(to.ip()) && other.site == host.site);
            let passes = chain.iter().all(|site| self.sites[*site].nat.passes(layer, to.port()));
            host.own(0, to).is_some() && (is_beside || passes)
        });
        if !is_sent {
            return None;
        }
        let top = chain.last().copied();
        if to.ip() == IpAddr::V4(RELAY_IP) || to.ip() == IpAddr::V6(RELAY_IP6) {
            return Some((Place::Relay, top));
        }
        let beside = |host: &Host| chain.first() == Some(&host.site);
        if let Some(at) = self.hosts.iter().position(|host| host.has(to.ip()) && beside(host)) {
            return Some((Place::Node(at), None));
        }
        if to.is_ipv6() {
            let at = self.hosts.iter().position(|host| host.has(to.ip()))?;
            return Some((Place::Node(at), chain.first().copied()));
        }
        let is_reached = |site: &Site| IpAddr::V4(site.outside) == to.ip() && site.hosts > 0;
        // A router that it passes itself sends it back inside, or not; others are reached from the internet.
        let own = chain
            .iter()
            .copied()
            .find(|site| self.sites[*site].nat.translates() && is_reached(&self.sites[*site]));
        let site = match own {
            Some(own) => Some(own).filter(|own| self.sites[*own].hairpins),
            None => self.sites.iter().position(|site| site.parent.is_none() && is_reached(site)),
        }?;
        let at = self.inside_of(site, to, |site, to| site.leads_to(layer, to))?.0;
        Some((Place::Node(at), own.or(top)))
    }

    /// Follows `to` from the router `site` inside: the host, and its address.
    fn inside_of(
        &self,
        site: usize,
        to: SocketAddr,
        step: impl Fn(&Site, SocketAddr) -> Option<SocketAddr>,
    ) -> Option<(usize, SocketAddr)> {
        let inside = step(&self.sites[site], to)?;
        let is_it = |host: &Host| host.site == site && host.has(inside.ip());
        if let Some(at) = self.hosts.iter().position(is_it) {
            return Some((at, inside));
        }
        let child = self.sites.iter().position(|child| {
            child.parent == Some(site) && child.hosts > 0 && IpAddr::V4(child.outside) == inside.ip()
        })?;
        self.inside_of(child, inside, step)
    }

    /// How what a host sends from `port` to `to` looks beyond the router `until`. Routers map it whether or not anybody is there.
    fn outgoing(
        &mut self,
        now: Instant,
        node: usize,
        layer: Layer,
        port: u16,
        to: SocketAddr,
        until: usize,
    ) -> Option<SocketAddr> {
        let host = self.hosts[node];
        let mut from = host.own(port, to)?;
        for site in self.chain(host.site) {
            from = self.sites[site].outgoing(now, layer, from, to);
            if site == until {
                break;
            }
        }
        Some(from)
    }

    /// The address of a node at which something for `to` from `from` comes in, if the routers between let it.
    fn lets_in(
        &self,
        now: Instant,
        layer: Layer,
        node: usize,
        to: SocketAddr,
        from: SocketAddr,
    ) -> Option<SocketAddr> {
        let host = self.hosts[node];
        if to.is_ipv6() {
            return self.sites[host.site].incoming(now, layer, to, from).filter(|to| host.has(to.ip()));
        }
        let site = self
            .chain(host.site)
            .into_iter()
            .find(|site| IpAddr::V4(self.sites[*site].outside) == to.ip())?;
        let (at, inside) = self.inside_of(site, to, |site, to| site.incoming(now, layer, to, from))?;
        (at == node).then_some(inside)
    }

    /// A host sends a datagram.
    pub(super) fn send(&mut self, now: Instant, node: usize, to: SocketAddr, bytes: Vec<u8>) {
        let host = self.hosts[node];
        if ![IpAddr::V4(RELAY_IP), IpAddr::V6(RELAY_IP6)].contains(&to.ip()) {
            self.tried.entry(node).or_insert(now);
        }
        let whose = self.whose(Layer::Udp, Some(node), to);
        let is_inside = matches!(whose, Some((_, None)));
        let until = whose.and_then(|(_, until)| until).or_else(|| self.chain(host.site).last().copied());
        let from = match until.filter(|_| !is_inside) {
            Some(until) => self.outgoing(now, node, Layer::Udp, host.port, to, until),
            None => host.own(host.port, to),
        };
        let (Some((place, _)), Some(from)) = (whose, from) else {
            self.losses.on_lost(&bytes, Cause::TurnedAway);
            return;
        };
        let source = Place::Node(node);
        let sender = Some(node);
        self.launch(
            now,
            Flight {
                source,
                place,
                from,
                to,
                bytes,
                sender,
                relayed: None,
                replay: false,
                is_inside,
                is_damaged: false,
            },
        );
    }

    /// The relay sends a datagram from where it received one, `at`, that one node said to another, or it itself.
    pub(super) fn send_from_relay(
        &mut self,
        now: Instant,
        at: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
        relayed: Option<(usize, usize)>,
    ) {
        let Some((place, _)) = self.whose(Layer::Udp, None, to) else {
            let rounds =
                (0..self.hosts.len()).map(|node| self.longest_round(Place::Relay, Place::Node(node)));
            let noticed = now + noticed_after(rounds.max().unwrap_or_default());
            self.losses.on_unmapped(noticed, relayed, to, &bytes);
            return;
        };
        let own = if to.is_ipv4() { IpAddr::V4(RELAY_IP) } else { IpAddr::V6(RELAY_IP6) };
        let (source, from) = (Place::Relay, SocketAddr::new(own, at.port()));
        self.launch(
            now,
            Flight {
                source,
                place,
                from,
                to,
                bytes,
                sender: relayed.map(|(sender, _)| sender),
                relayed,
                replay: false,
                is_inside: false,
                is_damaged: false,
            },
        );
    }

    /// Somebody on the way sends a node what it had before, from `from`.
    pub(super) fn replay(&mut self, now: Instant, node: usize, from: SocketAddr, bytes: Vec<u8>) {
        let host = self.hosts[node];
        let Some(to) = host.own(host.port, from) else { return };
        let (source, place, sender) = (Place::Node(node), Place::Node(node), None);
        self.sent += 1;
        let flight = Flight {
            source,
            place,
            from,
            to,
            bytes,
            sender,
            relayed: None,
            replay: true,
            is_inside: true,
            is_damaged: false,
        };
        self.flights.insert((now, self.sent), flight);
    }

    fn launch(&mut self, now: Instant, flight: Flight) {
        let (from, to) = (flight.source, flight.place);
        if flight.bytes.len() + headers(flight.to) > self.mtu(from, to) {
            self.losses.on_lost(&flight.bytes, Cause::TooLarge);
            return;
        }
        let holes = self.holes.iter().filter(|hole| hole.until > now && hole.from == from && hole.to == to);
        if let Some(until) = holes.map(|hole| hole.until).max() {
            let believed = flight.sender.and_then(|sender| self.believed.get(&sender)).copied();
            let round = self.longest_round(from, to).max(believed.unwrap_or_default());
            let noticed = now + noticed_after(round);
            match flight.sender {
                _ if until < noticed => self.losses.on_lost(&flight.bytes, Cause::Unnoticed),
                Some(sender) => self.losses.on_hole(now, sender, noticed, &flight.bytes),
                None => self.losses.on_lost(&flight.bytes, Cause::Hole),
            }
            return;
        }
        if self.is_stolen(now, &flight) {
            return self.steal(now, flight);
        }
        let bad = match (from, to) {
            (Place::Node(a), Place::Node(b)) => self.bad.get(&(a.min(b), a.max(b))).copied(),
            (Place::Relay, _) | (_, Place::Relay) => None,
        };
        let bad = bad.unwrap_or_default();
        if self.dice.per_mille(self.wire.loss + bad.loss) {
            self.losses.on_lost(&flight.bytes, Cause::Chance);
            return;
        }
        let copies = 1 + usize::from(self.dice.per_mille(self.wire.repeat));
        for _ in 0..copies {
            let mut arrival = now
                + self.latency(from, to)
                + self.dice.between(Duration::ZERO, self.jitter(from, to))
                + bad.delay;
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

    /// Half of the control packets that are for a node do not come, but later, from elsewhere, and more than once.
    pub(super) fn rob(&mut self, node: usize, until: Instant) {
        self.robbed.insert(node, until);
    }

    fn is_stolen(&mut self, now: Instant, flight: &Flight) -> bool {
        let Place::Node(node) = flight.place else { return false };
        let is_robbed = self.robbed.get(&node).is_some_and(|until| *until > now);
        let is_control =
            flight.bytes.first().copied().and_then(PacketType::from_byte) == Some(PacketType::Control);
        is_robbed && is_control && self.dice.per_mille(500)
    }

    fn steal(&mut self, now: Instant, flight: Flight) {
        let (v4, v6, port) = THIEF;
        let ip = if flight.to.is_ipv4() { IpAddr::V4(v4) } else { IpAddr::V6(v6) };
        let Place::Node(node) = flight.place else { return };
        let host = self.hosts[node];
        let Some(to) = host.own(host.port, flight.to) else { return };
        for _ in 0..=self.dice.below(COPIES) {
            let arrival =
                now + self.latency(flight.source, flight.place) + self.dice.between(Duration::ZERO, KEPT);
            self.sent += 1;
            let bytes = flight.bytes.clone();
            // From beside the receiver, behind whatever router it has.
            let copy = Flight { from: SocketAddr::new(ip, port), to, is_inside: true, bytes, ..flight };
            self.flights.insert((arrival, self.sent), copy);
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
                    self.hosts[at].has(flight.to.ip()).then_some(Place::Node(at))
                }
                Place::Node(at) => {
                    let inside = self.lets_in(now, Layer::Udp, at, flight.to, flight.from);
                    inside.filter(|inside| inside.port() == self.hosts[at].port).map(|_| Place::Node(at))
                }
            };
            let way = (flight.from, flight.to);
            let Some(place) = place else {
                if flight.source == Place::Relay {
                    // The next may come by another address of the same host.
                    let noticed = now + noticed_after(self.longest_round(flight.source, flight.place));
                    self.losses.on_unmapped(noticed, flight.relayed, flight.to, &flight.bytes);
                } else {
                    self.losses.on_turned_away(now, way, &flight.bytes);
                }
                continue;
            };
            let noticed = noticed_after(self.longest_round(flight.source, place));
            self.losses.on_let_in(now, way, noticed);
            if let Some(relayed) = flight.relayed {
                self.losses.on_mapped(now, relayed, flight.to);
            }
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

    /// Every router forgets whom nobody writes to by UDP after so long.
    pub(super) fn forget_after(&mut self, idle: Duration) {
        self.sites.iter_mut().for_each(|site| site.udp_idle = idle);
    }

    /// The way between two hosts is like this from now on.
    pub(super) fn spoil(&mut self, a: usize, b: usize, bad: Bad) {
        self.bad.insert((a.min(b), a.max(b)), bad);
    }

    /// All holes are filled, and wires are good.
    pub(super) fn mend(&mut self) {
        self.holes.clear();
        self.robbed.clear();
        self.wire = Wire::default();
    }

    /// The routers of a node forget everything, and give other ports from now on.
    pub(super) fn rebind(&mut self, node: usize) {
        for site in self.chain(self.hosts[node].site) {
            self.sites[site].forget();
        }
    }

    /// A node moves to a new site. What was on its way to it is lost.
    pub(super) fn roam(&mut self, node: usize, uplink: Uplink) {
        let old = self.hosts[node].site;
        self.sites[old].hosts -= 1;
        let site = self.new_uplink(uplink);
        let (v4, v6) = self.sites[site].new_host();
        let host = &mut self.hosts[node];
        (host.site, host.v4, host.v6, host.prefers_6) = (site, v4, v6, uplink.prefers_6);
    }

    /// The largest packet that a node's line takes changes.
    pub(super) fn set_mtu(&mut self, node: usize, mtu: usize) {
        self.hosts[node].mtu = mtu;
    }

    /// How what a node sends from its TCP port `port` to `to` looks to whoever gets it; `None` where it gets nowhere.
    pub(super) fn tcp_out(
        &mut self,
        now: Instant,
        node: usize,
        port: u16,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        let host = self.hosts[node];
        let Some((_, until)) = self.whose(Layer::Tcp, Some(node), to) else {
            // Nobody is there, yet the routers note who was called.
            let chain = self.chain(host.site);
            let passes = chain.iter().all(|site| self.sites[*site].nat.passes(Layer::Tcp, to.port()));
            let top = chain.last().copied().filter(|_| passes)?;
            self.outgoing(now, node, Layer::Tcp, port, to, top);
            return None;
        };
        match until {
            Some(until) => self.outgoing(now, node, Layer::Tcp, port, to, until),
            None => host.own(port, to),
        }
    }

    /// Which node might be reached by TCP at `to`.
    pub(super) fn tcp_towards(&self, node: usize, to: SocketAddr) -> Option<usize> {
        match self.whose(Layer::Tcp, Some(node), to)? {
            (Place::Node(at), _) => Some(at),
            (Place::Relay, _) => None,
        }
    }

    /// Which port of `node` a SYN from `source` (the node `from`) to `to` comes to; `None` where it is turned away.
    pub(super) fn tcp_in(
        &self,
        now: Instant,
        from: usize,
        node: usize,
        to: SocketAddr,
        source: SocketAddr,
    ) -> Option<u16> {
        let host = self.hosts[node];
        if host.has(to.ip()) && self.hosts[from].site == host.site {
            return Some(to.port());
        }
        self.lets_in(now, Layer::Tcp, node, to, source).map(|inside| inside.port())
    }

    /// Whether nothing passes between two nodes now.
    pub(super) fn is_swallowed(&self, now: Instant, from: usize, to: usize) -> bool {
        let (from, to) = (Place::Node(from), Place::Node(to));
        self.holes.iter().any(|hole| hole.until > now && hole.from == from && hole.to == to)
    }
}

#[cfg(test)]
mod tests;
