//! Where things are in a superframe.

use super::super::vnet::{Segmentation, VnetHeader};

const ETHERNET: usize = 14;
const VLAN_TAG: usize = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Segments of a superframe at most: of TCP with the least data that Linux sends in one (48 bytes with its options, `TCP_MIN_SND_MSS`, of which time stamps are
/// 12) there are 1,819 in the longest. Who may write to a device's other end as to a network may ask for one for each byte.
const SEGMENTS: usize = 2048;

/// The virtio header says what the frame does not bear out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is of a kind that was never asked for, or without a checksum to complete or a size to cut by.
    #[error("it is to be cut in a way that nobody asked for")]
    Kind,
    /// The frame is shorter than its headers.
    #[error("it is shorter than its headers")]
    Short,
    /// It stands for more frames than any kernel's own.
    #[error("it is to be cut into too many pieces")]
    Many,
    /// It is no IP packet of that version and protocol, or its transport header is elsewhere.
    #[error("its headers are not those that it is to be cut by")]
    Headers,
}

/// The IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// The transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// Its IP protocol number.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
        }
    }

    /// Where its checksum is, from its start.
    pub(super) const fn checksum_at(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// Offsets from the start of the frame, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) version: Version,
    pub(super) transport: Transport,
    pub(super) ip_at: usize,
    pub(super) transport_at: usize,
    pub(super) payload_at: usize,
}

impl Headers {
    /// Those of `frame`, which `header` wants cut.
    pub(super) fn find(header: &VnetHeader, frame: &[u8]) -> Result<Self, Malformed> {
        let transport = match header.segmentation() {
            Segmentation::TcpV4 | Segmentation::TcpV6 => Transport::Tcp,
            Segmentation::Udp => Transport::Udp,
            Segmentation::None | Segmentation::Other(_) => return Err(Malformed::Kind),
        };
        if !header.needs_checksum() || header.gso_size == 0 {
            return Err(Malformed::Kind);
        }
        let (ip_at, version) = find_ip(frame)?;
        let is_meant = match header.segmentation() {
            Segmentation::TcpV4 => version == Version::V4,
            Segmentation::TcpV6 => version == Version::V6,
            Segmentation::None | Segmentation::Udp | Segmentation::Other(_) => true,
        };
        let transport_at = usize::from(header.checksum_start);
        let ip = frame.get(ip_at..).ok_or(Malformed::Short)?;
        if !is_meant
            || usize::from(header.checksum_offset) != transport.checksum_at()
            || !ends_at(version, ip, transport_at.checked_sub(ip_at), transport)
        {
            return Err(Malformed::Headers);
        }
        let payload_at = transport_at + transport_len(frame, transport, transport_at)?;
        if frame.len() <= payload_at {
            return Err(Malformed::Short);
        }
        if (frame.len() - payload_at).div_ceil(usize::from(header.gso_size)) > SEGMENTS {
            return Err(Malformed::Many);
        }
        Ok(Self { version, transport, ip_at, transport_at, payload_at })
    }

    /// Whether `frame`, which has them, is a fragment, the first one.
    pub(super) fn is_fragment(self, frame: &[u8]) -> bool {
        // IPv6 has a header for that, behind which nothing was looked for.
        self.version == Version::V4
            && super::get(frame.get(self.ip_at..).unwrap_or_default(), 6) & 0x3fff != 0
    }

    /// What the device is told of a frame with them whose checksum was left out.
    pub(super) const fn partial(self) -> VnetHeader {
        VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            // It lies in a frame that has no more than 65,535 bytes, and its link header.
            checksum_start: self.transport_at as u16,
            checksum_offset: self.transport.checksum_at() as u16,
            ..VnetHeader::COMPLETE
        }
    }

    /// Those of a complete frame; `None` where it is neither TCP nor UDP, or is shorter than its headers. A first fragment has them as well.
    pub(super) fn of_complete(frame: &[u8]) -> Option<Self> {
        let (ip_at, version) = find_ip(frame).ok()?;
        let ip = frame.get(ip_at..)?;
        let (number, len) = match version {
            Version::V4 => {
                let len = usize::from(ip.first()? & 0x0f) * 4;
                (*ip.get(9)?, (ip.first()? >> 4 == 4 && len >= 20).then_some(len)?)
            }
            Version::V6 => behind_extensions(ip)?,
        };
        let transport = match number {
            TCP => Transport::Tcp,
            UDP => Transport::Udp,
            _ => return None,
        };
        let transport_at = ip_at + len;
        let payload_at = transport_at + transport_len(frame, transport, transport_at).ok()?;
        (frame.len() >= payload_at).then_some(Self { version, transport, ip_at, transport_at, payload_at })
    }
}

fn transport_len(frame: &[u8], transport: Transport, at: usize) -> Result<usize, Malformed> {
    match transport {
        Transport::Udp => Ok(8),
        Transport::Tcp => {
            let offset = frame.get(at + 12).ok_or(Malformed::Short)?;
            let len = usize::from(offset >> 4) * 4;
            if len < 20 { Err(Malformed::Headers) } else { Ok(len) }
        }
    }
}

/// Extension headers are looked through until here: a frame of 64 KB may have thousands, and no honest one has more than a few.
const FARTHEST: usize = 512;

/// What an IPv6 header and the extension headers behind it say that follows, and where; only those whose form is the general one
/// (RFC 8200 §4.3, §4.4, §4.6).
fn behind_extensions(ip: &[u8]) -> Option<(u8, usize)> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    if ip.first()? >> 4 != 6 {
        return None;
    }
    let (mut number, mut at) = (*ip.get(6)?, 40);
    while matches!(number, HOP_BY_HOP | ROUTING | DESTINATION) {
        if at > FARTHEST {
            return None;
        }
        let &[next, units] = ip.get(at..)?.first_chunk()?;
        (number, at) = (next, at + 8 * (1 + usize::from(units)));
    }
    Some((number, at))
}

/// The IP header behind at most two tags.
pub(super) fn find_ip(frame: &[u8]) -> Result<(usize, Version), Malformed> {
    let mut at = ETHERNET;
    for _ in 0..=2 {
        let kind = at.checked_sub(2).and_then(|kind_at| frame.get(kind_at..at)).ok_or(Malformed::Short)?;
        match kind {
            [0x08, 0x00] => return Ok((at, Version::V4)),
            [0x86, 0xdd] => return Ok((at, Version::V6)),
            [0x81, 0x00] | [0x88, 0xa8] => at += VLAN_TAG,
            _ => return Err(Malformed::Headers),
        }
    }
    Err(Malformed::Headers)
}

/// Whether the headers of `ip` end at `len`, and `transport` follows. With extension headers of IPv6 in between the kernel is believed as
/// to where they end.
fn ends_at(version: Version, ip: &[u8], len: Option<usize>, transport: Transport) -> bool {
    let (Some(len), Some(&first)) = (len, ip.first()) else { return false };
    match version {
        Version::V4 => {
            let own = usize::from(first & 0x0f) * 4;
            first >> 4 == 4 && own >= 20 && own == len && ip.get(9) == Some(&transport.number())
        }
        Version::V6 => first >> 4 == 6 && (len > 40 || len == 40 && ip.get(6) == Some(&transport.number())),
    }
}
