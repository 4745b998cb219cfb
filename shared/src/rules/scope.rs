//! Sets of traffic: what a rule covers, what a pair is allowed, what is left to decide behind some rules.
//!
//! A packet is one point of it: an IP protocol number (TCP and UDP with a destination port), or the type of a frame that is not IP.
//! ARP is no part of it, for no rule judges it. Frames with a length (IEEE 802.3) are the types below 0x0600.

use super::ranges::{Gaps, Ranges};
use super::what::{ARP, IPV4, IPV6, What};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP: u8 = 1;
pub(super) const ICMPV6: u8 = 58;

/// What nobody has decided about yet, while rules are gone through from the first to the last.
#[derive(Debug)]
pub(super) struct Undecided {
    protocols: [u64; 4],
    tcp: Gaps,
    udp: Gaps,
    types: Gaps,
}

/// What was decided in one way.
#[derive(Debug, Default)]
pub(super) struct Decided {
    protocols: [u64; 4],
    tcp: Vec<(u16, u16)>,
    udp: Vec<(u16, u16)>,
    types: Vec<(u16, u16)>,
}

impl Undecided {
    /// All of `scope`.
    pub(super) fn of(scope: &Scope) -> Self {
        let [tcp, udp, types] = [&scope.tcp, &scope.udp, &scope.types].map(Gaps::of);
        Self { protocols: scope.protocols, tcp, udp, types }
    }

    /// A rule decides about all of `scope` that is left.
    pub(super) fn decide(&mut self, scope: &Scope, decided: &mut Decided) {
        for ((open, wanted), into) in
            self.protocols.iter_mut().zip(scope.protocols).zip(&mut decided.protocols)
        {
            *into |= *open & wanted;
            *open &= !wanted;
        }
        let claim = |open: &mut Gaps, wanted: &Ranges, into: &mut Vec<(u16, u16)>| {
            wanted
                .iter()
                .for_each(|(first, last)| open.claim(first, last, |first, last| into.push((first, last))));
        };
        claim(&mut self.tcp, &scope.tcp, &mut decided.tcp);
        claim(&mut self.udp, &scope.udp, &mut decided.udp);
        claim(&mut self.types, &scope.types, &mut decided.types);
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.protocols == [0; 4] && self.tcp.is_empty() && self.udp.is_empty() && self.types.is_empty()
    }
}

impl From<Decided> for Scope {
    fn from(decided: Decided) -> Self {
        let [tcp, udp, types] = [decided.tcp, decided.udp, decided.types].map(Ranges::of);
        Self { protocols: decided.protocols, tcp, udp, types }
    }
}

/// A set of traffic; equal sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scope {
    /// A bit for each protocol number; those of TCP and UDP are never set.
    protocols: [u64; 4],
    tcp: Ranges,
    udp: Ranges,
    types: Ranges,
}

impl Scope {
    pub(super) fn everything() -> Self {
        Self::ip().union(&Self::other())
    }

    fn ip() -> Self {
        let mut protocols = [u64::MAX; 4];
        for number in [TCP, UDP] {
            if let (Some(word), bit) = (protocols.get_mut(usize::from(number / 64)), number % 64) {
                *word &= !(1 << bit);
            }
        }
        Self { protocols, tcp: Ranges::all(), udp: Ranges::all(), types: Ranges::none() }
    }

    fn other() -> Self {
        let mut types = Gaps::of(&Ranges::all());
        for judged_apart in [IPV4, ARP, IPV6] {
            types.claim(judged_apart, judged_apart, |_, _| {});
        }
        let mut left = Vec::new();
        types.claim(0, u16::MAX, |first, last| left.push((first, last)));
        Self { types: Ranges::of(left), ..Self::default() }
    }

    pub(super) fn of(what: &What) -> Self {
        match what {
            What::Everything => Self::everything(),
            What::Tcp(ports) => Self { tcp: ports.clone(), ..Self::default() },
            What::Udp(ports) => Self { udp: ports.clone(), ..Self::default() },
            What::Icmp => Self::protocol(ICMP).union(&Self::protocol(ICMPV6)),
            What::Protocol(number) => Self::protocol(*number),
            What::Ip => Self::ip(),
            What::Other => Self::other(),
            What::Ethertypes(types) => {
                Self { types: Ranges::of(types.iter().map(|kind| (*kind, *kind))), ..Self::default() }
            }
        }
    }

    fn protocol(number: u8) -> Self {
        let mut scope = Self::default();
        match number {
            TCP => scope.tcp = Ranges::all(),
            UDP => scope.udp = Ranges::all(),
            number => {
                if let Some(word) = scope.protocols.get_mut(usize::from(number / 64)) {
                    *word = 1 << (number % 64);
                }
            }
        }
        scope
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut protocols = self.protocols;
        protocols.iter_mut().zip(other.protocols).for_each(|(word, more)| *word |= more);
        Self {
            protocols,
            tcp: self.tcp.union(&other.tcp),
            udp: self.udp.union(&other.udp),
            types: self.types.union(&other.types),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether something is in both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.protocols.iter().zip(other.protocols).any(|(word, other)| word & other != 0)
            || self.tcp.meets(&other.tcp)
            || self.udp.meets(&other.udp)
            || self.types.meets(&other.types)
    }

    pub(super) fn has_tcp(&self, port: u16) -> bool {
        self.tcp.contains(port)
    }

    pub(super) fn has_udp(&self, port: u16) -> bool {
        self.udp.contains(port)
    }

    /// Whether all of a protocol is in it.
    pub(super) fn has_protocol(&self, number: u8) -> bool {
        match number {
            TCP => self.tcp.is_all(),
            UDP => self.udp.is_all(),
            number => self
                .protocols
                .get(usize::from(number / 64))
                .is_some_and(|word| word >> (number % 64) & 1 != 0),
        }
    }

    pub(super) fn has_type(&self, ethertype: u16) -> bool {
        self.types.contains(ethertype)
    }
}
