//! Frames, byte by byte. Checksums are zero: nobody looks at them here.

/// This node's address, and the peer's, as their last bytes.
pub(super) const HERE: u8 = 1;
pub(super) const THERE: u8 = 2;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;
pub(super) const SYN_ACK: u8 = SYN | ACK;

/// An IP packet in a frame.
#[derive(Debug, Clone)]
pub(super) struct Ip {
    pub(super) is_v6: bool,
    pub(super) source: Vec<u8>,
    pub(super) destination: Vec<u8>,
    pub(super) protocol: u8,
    pub(super) payload: Vec<u8>,
    /// Words of IPv4 options.
    pub(super) options: u8,
    /// IPv6 extension headers: kind, and how many times eight bytes beyond the first eight.
    pub(super) extensions: Vec<(u8, u8)>,
    /// Id, offset in eights of bytes, and whether more follow.
    pub(super) fragment: Option<(u32, u16, bool)>,
    /// Type and control of each VLAN tag.
    pub(super) tags: Vec<(u16, u16)>,
    /// Bytes behind the packet.
    pub(super) padding: usize,
    pub(super) to_mac: [u8; 6],
}

pub(super) fn v4(last: u8) -> Vec<u8> {
    vec![10, 7, 0, last]
}

pub(super) fn v6(last: u8) -> Vec<u8> {
    [&[0xfd, 0x07][..], &[0; 13], &[last]].concat()
}

impl Ip {
    /// From this node to the peer.
    pub(super) fn sent(is_v6: bool, protocol: u8, payload: Vec<u8>) -> Self {
        let address = if is_v6 { v6 } else { v4 };
        Self {
            is_v6,
            source: address(HERE),
            destination: address(THERE),
            protocol,
            payload,
            options: 0,
            extensions: Vec::new(),
            fragment: None,
            tags: Vec::new(),
            padding: 0,
            to_mac: [2, 0, 0, 0, 0, 9],
        }
    }

    /// From the peer to this node.
    pub(super) fn received(is_v6: bool, protocol: u8, payload: Vec<u8>) -> Self {
        let sent = Self::sent(is_v6, protocol, payload);
        Self { source: sent.destination, destination: sent.source, ..sent }
    }

    /// As fragment `id`, from `offset` eights of bytes on.
    pub(super) fn fragment(self, id: u32, offset: u16, has_more: bool) -> Self {
        Self { fragment: Some((id, offset, has_more)), ..self }
    }

    pub(super) fn tagged(self, tags: &[(u16, u16)]) -> Self {
        Self { tags: tags.to_vec(), ..self }
    }

    /// Without the Ethernet header.
    pub(super) fn packet(&self) -> Vec<u8> {
        if self.is_v6 { self.packet_v6() } else { self.packet_v4() }
    }

    fn packet_v4(&self) -> Vec<u8> {
        let words = 5 + self.options;
        let total = u16::try_from(usize::from(words) * 4 + self.payload.len()).expect("short");
        let (id, offset, more) = self.fragment.unwrap_or_default();
        let id = u16::try_from(id).expect("16 bits in IPv4");
        let flags = offset | if more { 0x2000 } else { 0x4000 * u16::from(self.fragment.is_none()) };
        let mut packet = vec![0x40 | words, 0];
        packet.extend(total.to_be_bytes());
        packet.extend(id.to_be_bytes());
        packet.extend(flags.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0]);
        packet.extend(&self.source);
        packet.extend(&self.destination);
        packet.extend(std::iter::repeat_n(1, usize::from(self.options) * 4));
        packet.extend(&self.payload);
        packet
    }

    fn packet_v6(&self) -> Vec<u8> {
        let mut kinds: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).collect();
        kinds.extend(self.fragment.map(|_| 44));
        kinds.push(self.protocol);
        let mut rest = Vec::new();
        for ((_, size), next) in self.extensions.iter().zip(kinds.iter().skip(1)) {
            rest.extend([*next, *size]);
            rest.extend(std::iter::repeat_n(0, 6 + usize::from(*size) * 8));
        }
        if let Some((id, offset, more)) = self.fragment {
            rest.extend([self.protocol, 0]);
            rest.extend((offset << 3 | u16::from(more)).to_be_bytes());
            rest.extend(id.to_be_bytes());
        }
        rest.extend(&self.payload);
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(u16::try_from(rest.len()).expect("short").to_be_bytes());
        packet.extend([kinds[0], 64]);
        packet.extend(&self.source);
        packet.extend(&self.destination);
        packet.extend(rest);
        packet
    }

    pub(super) fn frame(&self) -> Vec<u8> {
        let ethertype = if self.is_v6 { 0x86dd } else { 0x0800 };
        let mut frame = ethernet(self.to_mac, &self.tags, ethertype, &self.packet());
        frame.extend(std::iter::repeat_n(0, self.padding));
        frame
    }
}

pub(super) fn ethernet(to: [u8; 6], tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &[2, 0, 0, 0, 0, 7]].concat();
    for (kind, control) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(control.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A frame that is not IP.
pub(super) fn other(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    ethernet([2, 0, 0, 0, 0, 9], &[], ethertype, payload)
}

pub(super) fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    [&ports[..], &[0; 8], &[0x50, flags], &[0; 6]].concat()
}

pub(super) fn udp(source: u16, destination: u16) -> Vec<u8> {
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &[0, 12, 0, 0], b"data"].concat()
}

pub(super) fn icmp(kind: u8, id: u16) -> Vec<u8> {
    [&[kind, 0, 0, 0][..], &id.to_be_bytes(), &[0, 1], b"data"].concat()
}

/// An ICMP error about `packet`, of which so many bytes are quoted.
pub(super) fn icmp_error(kind: u8, packet: &[u8], quoted: usize) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &packet[..quoted.min(packet.len())]].concat()
}

/// The ICMP of a family.
pub(super) fn icmp_of(is_v6: bool) -> u8 {
    if is_v6 { 58 } else { 1 }
}

/// What a family calls an echo request, an echo reply and "unreachable".
pub(super) fn echo_kinds(is_v6: bool) -> [u8; 3] {
    if is_v6 { [128, 129, 1] } else { [8, 0, 3] }
}
