//! Sites: a router, its outside address, what it translates and what it lets in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// UDP states of routers that were measured live from 30 s on; RFC 4787 (REQ-5) asks for 2 minutes. Which, a seed says.
pub(super) const UDP_IDLE: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(120)];
/// Of TCP connections that are established (RFC 5382, REQ-5): longer than anything here.
const TCP_IDLE: Duration = Duration::from_secs(7440);

/// How a router maps and filters (RFC 4787 §4.1, §5), and what it blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Nat {
    /// No router at all.
    Open,
    /// No translation; in comes only what answers.
    Firewall,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    AddressRestricted,
    /// Endpoint-independent mapping, address- and port-dependent filtering; a port stays as it is where it is free.
    PortRestricted,
    /// The same, and ports never stay as they are.
    PortShifting,
    /// Address- and port-dependent mapping and filtering.
    Symmetric,
    /// Port-restricted; no UDP at all.
    UdpBlocked,
    /// Port-restricted; nothing but TCP to port 443.
    Tcp443,
}

impl Nat {
    pub(in super::super) const ALL: [Self; 9] = [
        Self::Open,
        Self::Firewall,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::PortShifting,
        Self::Symmetric,
        Self::UdpBlocked,
        Self::Tcp443,
    ];

    pub(super) const fn translates(self) -> bool {
        !matches!(self, Self::Open | Self::Firewall)
    }

    /// Whether it shows another port to each destination.
    const fn is_symmetric(self) -> bool {
        matches!(self, Self::Symmetric)
    }

    /// Whether everything comes in.
    pub(super) const fn lets_all_in(self) -> bool {
        matches!(self, Self::Open | Self::FullCone)
    }

    /// Whether its filter looks at ports.
    const fn is_strict(self) -> bool {
        !self.lets_all_in() && !matches!(self, Self::AddressRestricted)
    }

    const fn keeps_ports(self) -> bool {
        !matches!(self, Self::PortShifting | Self::Symmetric)
    }

    /// Whether what goes to that port passes at all.
    pub(super) const fn passes(self, layer: Layer, port: u16) -> bool {
        match self {
            Self::UdpBlocked => matches!(layer, Layer::Tcp),
            Self::Tcp443 => matches!(layer, Layer::Tcp) && port == 443,
            Self::Open
            | Self::Firewall
            | Self::FullCone
            | Self::AddressRestricted
            | Self::PortRestricted
            | Self::PortShifting
            | Self::Symmetric => true,
        }
    }

    pub(super) const fn passes_udp(self) -> bool {
        self.passes(Layer::Udp, 443)
    }

    /// Whether connections to ports of peers pass.
    pub(super) const fn passes_tcp(self) -> bool {
        self.passes(Layer::Tcp, 40_000)
    }

    /// Whether it lets in what is from there, where `to` was written to.
    fn lets_in(self, to: SocketAddr, from: SocketAddr) -> bool {
        self.lets_all_in() || if self.is_strict() { to == from } else { to.ip() == from.ip() }
    }
}

/// Whether hosts behind these routers, each a chain of them, can speak at all: not where one shows a port to each destination and the
/// other lets in only what it wrote to by port.
pub(super) fn can_meet(one: &[Nat], other: &[Nat]) -> bool {
    let is_symmetric = |chain: &[Nat]| chain.iter().any(|nat| nat.is_symmetric());
    let is_strict = |chain: &[Nat]| chain.iter().any(|nat| nat.is_strict());
    let misses = |one, other| is_symmetric(one) && is_strict(other);
    !(misses(one, other) || misses(other, one))
}

/// What is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Layer {
    Udp,
    Tcp,
}

/// The families of addresses that a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Family {
    V4,
    V6,
    Dual,
}

impl Family {
    pub(in super::super) const fn has_4(self) -> bool {
        !matches!(self, Self::V6)
    }

    pub(in super::super) const fn has_6(self) -> bool {
        !matches!(self, Self::V4)
    }
}

/// One outside port, or a state of the filter.
#[derive(Debug)]
pub(super) struct Mapping {
    layer: Layer,
    pub(super) inside: SocketAddr,
    /// Where it leads to, if it is for that destination alone.
    to: Option<SocketAddr>,
    pub(super) port: u16,
    /// Who was written to through it, and until when that is remembered unless something goes out there again. (What comes in renews
    /// nothing: RFC 4787, REQ-6 does not ask for it.)
    contacted: BTreeMap<SocketAddr, Instant>,
}

impl Mapping {
    /// Those that are remembered.
    fn contacts(&self, now: Instant) -> impl Iterator<Item = SocketAddr> {
        self.contacted.iter().filter(move |(_, until)| **until > now).map(|(to, _)| *to)
    }
}

/// A router and its outside addresses. IPv6 is filtered and not translated.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) nat: Nat,
    pub(super) family: Family,
    pub(super) outside: Ipv4Addr,
    /// What its hosts' IPv6 addresses begin with.
    pub(super) prefix: u16,
    /// The carrier's router, or whatever else lies between it and the internet.
    pub(super) parent: Option<usize>,
    /// Whether it sends back inside what is for its own outside address.
    pub(super) hairpins: bool,
    mappings: Vec<Mapping>,
    /// After so long without a word out a state of UDP is forgotten.
    pub(super) udp_idle: Duration,
    /// Ports begin here; moved when everything is forgotten.
    next_port: u16,
    pub(super) hosts: u8,
}

impl Site {
    pub(super) const fn new(
        nat: Nat,
        family: Family,
        outside: Ipv4Addr,
        prefix: u16,
        udp_idle: Duration,
    ) -> Self {
        Self {
            nat,
            family,
            outside,
            prefix,
            parent: None,
            hairpins: false,
            mappings: vec![],
            udp_idle,
            next_port: 10_000,
            hosts: 0,
        }
    }

    fn translates(&self, address: SocketAddr) -> bool {
        self.nat.translates() && address.is_ipv4()
    }

    /// The outside address of what `inside` sends to `to`.
    pub(super) fn outgoing(
        &mut self,
        now: Instant,
        layer: Layer,
        inside: SocketAddr,
        to: SocketAddr,
    ) -> SocketAddr {
        self.mappings.retain(|mapping| mapping.contacts(now).next().is_some());
        let is_translated = self.translates(inside);
        let key = (is_translated && self.nat.is_symmetric()).then_some(to);
        let known =
            |mapping: &Mapping| mapping.layer == layer && mapping.inside == inside && mapping.to == key;
        let at = self.mappings.iter().position(known).unwrap_or_else(|| {
            let port = if is_translated { self.free_port(layer, inside.port()) } else { inside.port() };
            self.mappings.push(Mapping { layer, inside, to: key, port, contacted: BTreeMap::new() });
            self.mappings.len() - 1
        });
        let mapping = &mut self.mappings[at];
        let idle = if layer == Layer::Udp { self.udp_idle } else { TCP_IDLE };
        mapping.contacted.insert(to, now + idle);
        SocketAddr::new(if is_translated { IpAddr::V4(self.outside) } else { inside.ip() }, mapping.port)
    }

    fn free_port(&mut self, layer: Layer, wanted: u16) -> u16 {
        let is_free = |port| !self.mappings.iter().any(|known| known.layer == layer && known.port == port);
        if self.nat.keeps_ports() && is_free(wanted) && self.next_port == 10_000 {
            return wanted;
        }
        let port = self.next_port;
        self.next_port = self.next_port.wrapping_add(1).max(1024);
        port
    }

    /// Which inside address a packet to `to` is for, whether or not it is let in.
    pub(super) fn leads_to(&self, layer: Layer, to: SocketAddr) -> Option<SocketAddr> {
        if !self.translates(to) {
            return Some(to);
        }
        let leads_here = |mapping: &&Mapping| mapping.layer == layer && mapping.port == to.port();
        self.mappings
            .iter()
            .filter(|mapping| mapping.inside.is_ipv4())
            .find(leads_here)
            .map(|known| known.inside)
    }

    /// Which inside address gets what comes from `from` to `to`; `None` where it is turned away.
    pub(super) fn incoming(
        &self,
        now: Instant,
        layer: Layer,
        to: SocketAddr,
        from: SocketAddr,
    ) -> Option<SocketAddr> {
        if self.nat == Nat::Open {
            return Some(to);
        }
        let is_translated = self.translates(to);
        let leads_here = |mapping: &&Mapping| {
            let is_this = if is_translated {
                mapping.inside.is_ipv4() && mapping.port == to.port()
            } else {
                mapping.inside == to
            };
            // What does not translate filters by address and port.
            let mut contacts = mapping.contacts(now);
            let lets_in =
                contacts.any(|to| if is_translated { self.nat.lets_in(to, from) } else { to == from });
            mapping.layer == layer && is_this && lets_in
        };
        let is_passed = self.nat.passes(layer, from.port());
        self.mappings.iter().filter(|_| is_passed).find(leads_here).map(|mapping| mapping.inside)
    }

    /// It forgets everything, and gives other ports from now on.
    pub(super) fn forget(&mut self) {
        self.mappings.clear();
        self.next_port = self.next_port.wrapping_add(1000).max(1024);
    }

    /// The addresses of its next host.
    pub(super) fn new_host(&mut self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        self.hosts += 1;
        // Many sites have the same addresses inside, as in life.
        let v4 =
            if self.nat.translates() { Ipv4Addr::new(192, 168, 1, 1 + self.hosts) } else { self.outside };
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 1, self.prefix, 0, 0, 0, u16::from(self.hosts) + 1);
        (self.family.has_4().then_some(v4), self.family.has_6().then_some(v6))
    }
}
