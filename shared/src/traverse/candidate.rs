//! Addresses at which a node may be reached (RFC 8445 §5.1; protocol §7.4).

use crate::wire::codec::WireError;
use crate::wire::control::Hello;
use minicbor::{Decode, Encode};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most candidates of one node in one message, and of one peer in one round.
pub const MAX_CANDIDATES: usize = 20;

/// Most addresses of one node where TCP connections are tried: with [`crate::endpoint::event::TCP_TRY`] and a SYN each
/// 700 ms at most, about as many packets as a round by datagram has.
pub const MAX_TCP_CANDIDATES: usize = 6;

/// Metadata services outside the link-local range: Alibaba Cloud's, and the IPv6 one of AWS.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// See [`METADATA_V4`].
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// How an address was learned. Declared best first, so `Ord` is the preference: what is nearer first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum CandidateKind {
    /// An address of an interface.
    #[n(0)]
    Host,
    /// Where the peer's packets came from, unannounced.
    #[n(1)]
    PeerReflexive,
    /// Where a relay's STUN saw the socket.
    #[n(2)]
    ServerReflexive,
    /// A port that a router was asked to forward (UPnP-IGD, NAT-PMP, PCP).
    #[n(3)]
    PortMapped,
}

impl CandidateKind {
    /// The word people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::PeerReflexive => "peer-reflexive",
            Self::ServerReflexive => "server-reflexive",
            Self::PortMapped => "port-mapped",
        }
    }
}

/// An address to try, and how it was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// How it was learned.
    pub kind: CandidateKind,
    /// The address; an IPv4 address is never written as an IPv6 one.
    pub address: SocketAddr,
}

impl Candidate {
    /// A candidate at `address`, in its canonical form.
    pub fn new(kind: CandidateKind, address: SocketAddr) -> Self {
        Self { kind, address: canonical(address) }
    }

    /// What to check first: hosts before reflexive ones, IPv6 before IPv4 (no NAT is in the way), then by address, so that two
    /// runs do the same.
    pub fn preference(&self) -> impl Ord + use<> {
        (self.kind, self.address.is_ipv4(), self.address)
    }
}

/// IPv4 in its own form (RFC 4291 §2.5.5.2 writes it as IPv6 where one socket serves both), and no flow label or zone.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Networks whose addresses are inside the tunnel: a packet to one of them would go through what it is to carry.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    networks: Vec<(IpAddr, u8)>,
}

impl Overlay {
    /// Nothing is inside.
    pub const fn new() -> Self {
        Self { networks: Vec::new() }
    }

    /// The networks of a node that says this of itself are inside.
    pub fn of(hello: &Hello) -> Self {
        let mut overlay = Self::new();
        if let Some(own) = hello.ipv4 {
            overlay.add(IpAddr::V4(own.address()), own.prefix());
        }
        if let Some(own) = hello.ipv6 {
            overlay.add(IpAddr::V6(own.address()), own.prefix());
        }
        overlay
    }

    /// What `address/prefix` covers is inside too.
    pub fn add(&mut self, address: IpAddr, prefix: u8) {
        if !self.networks.contains(&(address, prefix)) {
            self.networks.push((address, prefix));
        }
    }

    /// Whether `ip` is inside.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|(network, prefix)| covers(*network, *prefix, ip))
    }
}

fn covers(network: IpAddr, prefix: u8, ip: IpAddr) -> bool {
    match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            let differ = network.to_bits() ^ ip.to_bits();
            differ.checked_shr(32 - u32::from(prefix.min(32))).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            let differ = network.to_bits() ^ ip.to_bits();
            differ.checked_shr(128 - u32::from(prefix.min(128))).unwrap_or(0) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Whether packets may be sent to `address` because somebody named it. What is refused is either of no use between two machines
/// or belongs to something that must not be reached this way: this machine itself, a whole segment, a cloud's metadata
/// service ([`METADATA_V4`], [`METADATA_V6`], and 169.254.169.254, which is link-local), the tunnel.
pub fn is_allowed(address: SocketAddr, overlay: &Overlay) -> bool {
    let ip = canonical(address).ip();
    let of_two_machines = match ip {
        IpAddr::V4(ip) => is_unicast_v4(ip),
        // What a NAT64 makes of it counts as well.
        IpAddr::V6(ip) => is_unicast_v6(ip) && behind_nat64(ip).is_none_or(is_unicast_v4),
    };
    address.port() != 0 && of_two_machines && !overlay.contains(ip)
}

const fn is_unicast_v4(ip: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is this network (RFC 1122 §3.2.1.3), 240.0.0.0/4 reserved and the limited broadcast.
    let first = ip.octets()[0];
    let is_metadata = ip.to_bits() == METADATA_V4.to_bits();
    !(first == 0
        || first >= 240
        || is_metadata
        || ip.is_loopback()
        || ip.is_multicast()
        || ip.is_link_local())
}

const fn is_unicast_v6(ip: Ipv6Addr) -> bool {
    let is_metadata = ip.to_bits() == METADATA_V6.to_bits();
    !(ip.is_unspecified()
        || is_metadata
        || ip.is_loopback()
        || ip.is_multicast()
        || ip.is_unicast_link_local())
}

/// The IPv4 address in one of the well-known prefix (RFC 6052 §2.1), of the prefix for local use (RFC 8215), whose addresses have it at
/// the end where the prefix is a /96, and in an IPv4-compatible one (RFC 4291 §2.5.5.1).
fn behind_nat64(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0x64, 0xff9b, 1, ..] | [0, 0, 0, 0, 0, 0, _, _] => {}
        _ => return None,
    }
    Some(Ipv4Addr::from_bits(u32::try_from(ip.to_bits() & 0xffff_ffff).unwrap_or_default()))
}

impl<C> Encode<C> for Candidate {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.array(3)?;
        self.kind.encode(encoder, ctx)?;
        match self.address.ip() {
            IpAddr::V4(ip) => encoder.bytes(&ip.octets())?,
            IpAddr::V6(ip) => encoder.bytes(&ip.octets())?,
        };
        encoder.u16(self.address.port())?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Candidate {
    fn decode(decoder: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        if decoder.array()? != Some(3) {
            return Err(minicbor::decode::Error::message("a candidate has three fields"));
        }
        let kind = CandidateKind::decode(decoder, ctx)?;
        let octets = decoder.bytes()?;
        let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
        let ip = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
        let ip = ip.map_err(|_| minicbor::decode::Error::message("an address has 4 or 16 bytes"))?;
        let port = decoder.u16()?;
        Ok(Self::new(kind, SocketAddr::new(ip, port)))
    }
}

/// Checks a list as it comes from the wire.
///
/// # Errors
/// `Value` when there are more than `most`.
pub fn check(candidates: &[Candidate], most: usize) -> Result<(), WireError> {
    if candidates.len() > most { Err(WireError::Value("candidates")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_addresses_of_two_machines_outside_the_tunnel_are_allowed() {
        let mut overlay = Overlay::new();
        overlay.add("10.77.0.0".parse().unwrap(), 16);
        overlay.add("fd00:1::".parse().unwrap(), 64);
        for good in [
            "192.0.2.1:1",
            "10.78.0.1:500",
            "100.64.0.1:9",
            "[2001:db8::1]:7",
            "[fd00:2::1]:7",
            "[::ffff:192.0.2.1]:5",
        ] {
            assert!(is_allowed(at(good), &overlay), "{good}");
        }
        for bad in [
            "192.0.2.1:0",
            "127.0.0.1:5",
            "127.8.9.1:5",
            "0.0.0.0:5",
            "0.1.2.3:5",
            "224.0.0.1:5",
            "255.255.255.255:5",
            "240.0.0.1:5",
            "169.254.169.254:80",
            "10.77.3.4:5",
            "[::1]:5",
            "[::]:5",
            "[ff02::1]:5",
            "[fe80::1]:5",
            "[fd00:1::9]:5",
            "[::ffff:127.0.0.1]:5",
            "[::ffff:10.77.0.9]:5",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::169.254.169.254]:80",
            "[64:ff9b:1::169.254.169.254]:80",
            "[64:ff9b:1:2:3:4:127.0.0.1]:5",
            "[::127.0.0.1]:5",
        ] {
            assert!(!is_allowed(at(bad), &overlay), "{bad}");
        }
    }

    #[test]
    fn an_overlay_of_everything_or_of_one_address_is_no_special_case() {
        let mut overlay = Overlay::new();
        overlay.add("192.0.2.1".parse().unwrap(), 32);
        assert!(overlay.contains("192.0.2.1".parse().unwrap()));
        assert!(!overlay.contains("192.0.2.2".parse().unwrap()));
        overlay.add("::".parse().unwrap(), 0);
        assert!(overlay.contains("2001:db8::1".parse().unwrap()));
        overlay.add("0.0.0.0".parse().unwrap(), 0);
        assert!(overlay.contains("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn hosts_come_first_and_ipv6_before_ipv4() {
        let mut all = [
            Candidate::new(CandidateKind::ServerReflexive, at("192.0.2.1:1")),
            Candidate::new(CandidateKind::Host, at("192.0.2.2:1")),
            Candidate::new(CandidateKind::Host, at("[2001:db8::2]:1")),
            Candidate::new(CandidateKind::ServerReflexive, at("[2001:db8::1]:1")),
        ];
        all.sort_by_key(Candidate::preference);
        let order = all.map(|candidate| candidate.address.to_string());
        assert_eq!(order, ["[2001:db8::2]:1", "192.0.2.2:1", "[2001:db8::1]:1", "192.0.2.1:1"]);
    }

    #[test]
    fn an_ipv4_address_written_as_ipv6_is_the_same_candidate() {
        let mapped = Candidate::new(CandidateKind::Host, at("[::ffff:192.0.2.1]:7"));
        assert_eq!(mapped, Candidate::new(CandidateKind::Host, at("192.0.2.1:7")));
    }
}
