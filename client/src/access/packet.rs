//! What a frame is, as far as rules and the memory of flows need to know.
//!
//! ```text
//! | Ethernet, up to two VLANs' tags | IPv4, options | ports …
//!                                   | IPv6, extension headers | ports …
//! ```
//!
//! Reading is total: whatever the bytes, they are one of [`Packet`]. The length that an IP header says is believed where the frame has
//! as much; what is behind it (Ethernet's padding) is not looked at. Nothing is guessed: what a kernel could read otherwise than we do
//! is [`Packet::Malformed`].

use super::limits::EXTENSION_HEADERS;
use crate::switch::is_multicast;
use shadowmesh_proto::ids::MacAddr;
use shadowmesh_proto::rules::Traffic;

/// Types of VLAN tags: IEEE 802.1Q and 802.1ad.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const LLDP: u16 = 0x88cc;
/// Below it, an ethertype is a length (IEEE 802.3 §3.2.6).
const FIRST_ETHERTYPE: u16 = 0x0600;
/// LLC of a BPDU (IEEE 802.1D §9): both service access points 0x42, unnumbered information.
const BPDU: [u8; 3] = [0x42, 0x42, 0x03];

pub(super) const ICMP: u8 = 1;
const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Bytes of a TCP header without options: what is judged lies in them.
pub(super) const TCP_HEADER: usize = 20;
/// Bytes of a UDP or ICMP header.
const SHORT_HEADER: usize = 8;

/// A frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// ARP.
    Arp,
    /// IPv4 or IPv6.
    Ip(Datagram<'a>),
    /// A BPDU or LLDP, with its ethertype or length.
    Topology(u16),
    /// Any other, with its ethertype or length.
    Other(u16),
    /// It ends early, or contradicts itself.
    Malformed,
}

/// An IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Datagram<'a> {
    /// The VLANs of its tags, outermost first; 0 for none. A tag that gives a priority only (its id is 0) is not among them.
    pub(super) vlans: [u16; 2],
    pub(super) addresses: Addresses,
    /// What follows the IP header and its extensions.
    pub(super) protocol: u8,
    pub(super) part: Part,
    pub(super) content: Content<'a>,
    /// Whether it is for a group, on the link or by its address: then nobody can answer it from there.
    pub(super) is_to_group: bool,
}

/// From whom, to whom; IPv4 addresses in the first four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) is_v6: bool,
    pub(super) source: [u8; 16],
    pub(super) destination: [u8; 16],
}

/// Whether it is a whole packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// The first fragment of the packet `id`.
    First {
        id: u32,
    },
    /// Another, so many bytes from the beginning of what was fragmented.
    Later {
        id: u32,
        offset: u16,
    },
}

/// What is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Tcp {
        source: u16,
        destination: u16,
        flags: TcpFlags,
    },
    Udp {
        source: u16,
        destination: u16,
    },
    EchoRequest {
        id: u16,
    },
    EchoReply {
        id: u16,
    },
    /// With the beginning of the packet that it is about.
    IcmpError {
        quoted: &'a [u8],
    },
    /// ICMPv6 133, 135, 136.
    NeighbourDiscovery,
    /// ICMPv6 134, 137.
    Router,
    /// Whatever else: another protocol, other ICMP, or a later fragment.
    Plain,
    /// TCP, UDP or ICMP whose header is not there whole, or that may not come in fragments.
    Unreadable,
}

/// The flags that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TcpFlags(u8);

impl TcpFlags {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// A SYN without ACK, which begins a connection.
    pub(super) fn is_opening(self) -> bool {
        self.has(Self::SYN) && !self.has(Self::ACK)
    }

    /// A SYN with ACK, which answers one.
    pub(super) fn is_accepting(self) -> bool {
        self.has(Self::SYN) && self.has(Self::ACK)
    }

    pub(super) fn is_fin(self) -> bool {
        self.has(Self::FIN)
    }

    pub(super) fn is_reset(self) -> bool {
        self.has(Self::RST)
    }
}

impl<'a> Packet<'a> {
    /// Reads a frame.
    pub(super) fn read(frame: &'a [u8]) -> Self {
        let Some(Header { destination, vlans, ethertype, payload }) = Header::read(frame) else {
            return Self::Malformed;
        };
        let is_to_group = is_multicast(destination);
        let datagram = match ethertype {
            ARP => return Self::Arp,
            LLDP => return Self::Topology(LLDP),
            IPV4 => ipv4(payload, Length::Whole),
            IPV6 => ipv6(payload, Length::Whole),
            length @ 0..FIRST_ETHERTYPE if payload.starts_with(&BPDU) => return Self::Topology(length),
            ethertype => return Self::Other(ethertype),
        };
        match datagram {
            Some(read) => Self::Ip(Datagram { vlans, is_to_group: is_to_group || read.is_to_group, ..read }),
            None => Self::Malformed,
        }
    }
}

impl<'a> Datagram<'a> {
    /// Reads the beginning of a packet that an ICMP error of this one's family quotes (RFC 792, RFC 4443 §3).
    pub(super) fn quoted(&self, quoted: &'a [u8]) -> Option<Self> {
        let read =
            if self.addresses.is_v6 { ipv6(quoted, Length::Quoted) } else { ipv4(quoted, Length::Quoted) };
        read.map(|read| Self { vlans: self.vlans, ..read })
    }

    /// As rules judge it.
    pub(super) fn traffic(&self) -> Traffic {
        match self.content {
            Content::Tcp { destination, .. } => Traffic::Tcp { port: destination },
            Content::Udp { source, destination } => Traffic::Udp { source, port: destination },
            Content::NeighbourDiscovery => Traffic::NeighbourDiscovery,
            Content::Router => Traffic::Router,
            Content::EchoRequest { .. }
            | Content::EchoReply { .. }
            | Content::IcmpError { .. }
            | Content::Plain
            | Content::Unreadable => Traffic::Ip { protocol: self.protocol },
        }
    }

    /// As rules judge an answer to it.
    pub(super) fn answer(&self) -> Traffic {
        match self.content {
            Content::Tcp { source, .. } => Traffic::Tcp { port: source },
            Content::Udp { source, destination } => Traffic::Udp { source: destination, port: source },
            Content::EchoRequest { .. }
            | Content::EchoReply { .. }
            | Content::IcmpError { .. }
            | Content::NeighbourDiscovery
            | Content::Router
            | Content::Plain
            | Content::Unreadable => Traffic::Ip { protocol: self.protocol },
        }
    }
}

/// How much of a packet has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// All that its header says.
    Whole,
    /// As much as an ICMP error quotes.
    Quoted,
}

/// An Ethernet header as rules mean it: the tags of at most two VLANs, and whatever else is wrapped is judged as its wrapping. Tags with
/// the id 0 give a priority and no VLAN (IEEE 802.1Q §9.6): kernels take off any number of them and read on, and so it is done here. (The
/// switch reads on through any number of all tags and LLC: see [`crate::switch::EthernetHeader`].)
struct Header<'a> {
    destination: MacAddr,
    /// See [`Datagram::vlans`].
    vlans: [u16; 2],
    /// Or a length.
    ethertype: u16,
    payload: &'a [u8],
}

impl<'a> Header<'a> {
    /// `None` where the frame ends inside it.
    fn read(frame: &'a [u8]) -> Option<Self> {
        let (destination, rest) = frame.split_first_chunk::<6>()?;
        let (_source, rest) = rest.split_first_chunk::<6>()?;
        let (mut ethertype, mut payload) = word(rest)?;
        let mut vlans = [0; 2];
        let mut free = vlans.iter_mut();
        while TAGS.contains(&ethertype) {
            let (control, rest) = word(payload)?;
            let (inner, rest) = word(rest)?;
            let id = control & 0x0fff;
            if id != 0 {
                let Some(vlan) = free.next() else { break };
                *vlan = id;
            }
            (ethertype, payload) = (inner, rest);
        }
        Some(Self { destination: MacAddr(*destination), vlans, ethertype, payload })
    }
}

fn word(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*word), rest))
}

/// RFC 791 §3.1.
fn ipv4(bytes: &[u8], length: Length) -> Option<Datagram<'_>> {
    let head = bytes.first_chunk::<IPV4_HEADER>()?;
    let [version, _, l0, l1, i0, i1, o0, o1, _, protocol, _, _, addresses @ ..] = head;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    let header = usize::from(version & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([*l0, *l1]));
    let total = if length == Length::Whole { total } else { total.min(bytes.len()) };
    if version >> 4 != 4 || header < IPV4_HEADER {
        return None;
    }
    // `None` as well where it is shorter than its header.
    let payload = bytes.get(header..total)?;
    let fragment = u16::from_be_bytes([*o0, *o1]);
    let part = part(u32::from(u16::from_be_bytes([*i0, *i1])), fragment & 0x1fff, fragment & 0x2000 != 0);
    let source = v4([*s0, *s1, *s2, *s3]);
    let destination = v4([*d0, *d1, *d2, *d3]);
    Some(Datagram {
        vlans: [0; 2],
        addresses: Addresses { is_v6: false, source, destination },
        protocol: *protocol,
        part,
        content: content(*protocol, part, payload, length, false),
        // 224.0.0.0/4, and 255.255.255.255; the broadcast address of a network nobody can tell.
        is_to_group: *d0 >> 4 == 0xe || [*d0, *d1, *d2, *d3] == [0xff; 4],
    })
}

/// RFC 8200 §3. Hop-by-hop, routing and destination options are walked, and one fragment header; anything else is the protocol.
fn ipv6(bytes: &[u8], length: Length) -> Option<Datagram<'_>> {
    let (head, rest) = bytes.split_first_chunk::<IPV6_HEADER>()?;
    let [version, _, _, _, l0, l1, next, _, addresses @ ..] = head;
    let (source, destination) = addresses.split_first_chunk::<16>()?;
    let destination: [u8; 16] = destination.try_into().ok()?;
    if version >> 4 != 6 {
        return None;
    }
    // A jumbogram says 0 (RFC 2675), which leaves nothing to read here: no link of ours carries one.
    let said = usize::from(u16::from_be_bytes([*l0, *l1]));
    let mut payload = rest.get(..if length == Length::Whole { said } else { said.min(rest.len()) })?;
    let (mut next, mut part) = (*next, Part::Whole);
    for _ in 0..=EXTENSION_HEADERS {
        let is_fragment = next == FRAGMENT;
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
            return Some(Datagram {
                vlans: [0; 2],
                addresses: Addresses { is_v6: true, source: *source, destination },
                protocol: next,
                part,
                content: content(next, part, payload, length, true),
                is_to_group: destination.first() == Some(&0xff),
            });
        }
        // Behind a fragment header nothing but the protocol: see the page of the module above.
        let (this, after) = payload.split_first_chunk::<8>()?;
        if part != Part::Whole {
            return None;
        }
        let [following, size, o0, o1, id @ ..] = this;
        payload = if is_fragment {
            let fragment = u16::from_be_bytes([*o0, *o1]);
            part = self::part(u32::from_be_bytes(*id), fragment >> 3, fragment & 1 != 0);
            after
        } else {
            after.get(usize::from(*size) * 8..)?
        };
        next = *following;
    }
    None
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// `offset` in units of eight bytes, 13 bits of them. A fragment that is all of its packet is none (RFC 6946).
fn part(id: u32, offset: u16, has_more: bool) -> Part {
    match (offset, has_more) {
        (0, false) => Part::Whole,
        (0, true) => Part::First { id },
        (offset, _) => Part::Later { id, offset: offset.saturating_mul(8) },
    }
}

fn content(protocol: u8, part: Part, payload: &[u8], length: Length, is_v6: bool) -> Content<'_> {
    if matches!(part, Part::Later { .. }) {
        return Content::Plain;
    }
    let needed = match (protocol, is_v6, length) {
        (TCP, _, Length::Whole) => TCP_HEADER,
        // What every error quotes: RFC 792.
        (TCP, _, Length::Quoted) | (UDP, _, _) | (ICMP, false, _) | (ICMPV6, true, _) => SHORT_HEADER,
        (_, _, _) => return Content::Plain,
    };
    let Some(([s0, s1, d0, d1, i0, i1, _, _], rest)) = payload.split_first_chunk::<SHORT_HEADER>() else {
        return Content::Unreadable;
    };
    let [source, destination, id] = [[*s0, *s1], [*d0, *d1], [*i0, *i1]].map(u16::from_be_bytes);
    match protocol {
        _ if payload.len() < needed => Content::Unreadable,
        TCP => Content::Tcp {
            source,
            destination,
            flags: TcpFlags(payload.get(13).copied().unwrap_or_default()),
        },
        UDP => Content::Udp { source, destination },
        _ => icmp(*s0, id, rest, part, is_v6),
    }
}

/// RFC 792, RFC 4443, RFC 4861. Errors are not in fragments: they quote little (RFC 1812 §4.3.2.3, RFC 4443 §2.4).
fn icmp(kind: u8, id: u16, rest: &[u8], part: Part, is_v6: bool) -> Content<'_> {
    let is_whole = part == Part::Whole;
    match (is_v6, kind) {
        (false, 8) | (true, 128) => Content::EchoRequest { id },
        (false, 0) | (true, 129) => Content::EchoReply { id },
        // Unreachable, source quench, time exceeded, parameter problem; redirects (5) are none of these.
        (false, 3 | 4 | 11 | 12) | (true, 1..=4) if is_whole => Content::IcmpError { quoted: rest },
        (true, 133 | 135 | 136) if is_whole => Content::NeighbourDiscovery,
        (true, 134 | 137) if is_whole => Content::Router,
        // RFC 6980 §5.
        (true, 133..=137) => Content::Unreadable,
        (_, _) => Content::Plain,
    }
}

fn v4([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}
