//! This node's own packets, on their way into the tunnel that they carry.
//!
//! A LAN that is bridged to the tunnel may be this machine's way to other machines, and a member's address in that LAN lies behind the
//! tunnel: a path to it would be carried by itself. No route says so, for all of it is one link. What says so is the frame: it comes
//! out of the device, and was sent by one of this node's sockets. It is dropped, so such a path is never proven.

use std::net::IpAddr;

const ETHERTYPE: usize = 12;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where this node's sockets send from. Empty while its device is no port of a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnSockets {
    /// This machine's addresses outside the overlay.
    pub addresses: Vec<IpAddr>,
    /// The ports of its UDP socket and of its connections.
    pub ports: Vec<u16>,
}

impl OwnSockets {
    /// Whether the frame is a packet of one of them. Not where it has a VLAN tag, IPv6 extension headers, or is a fragment: this node's
    /// sockets send none of these.
    pub fn sent(&self, frame: &[u8]) -> bool {
        if self.addresses.is_empty() {
            return false;
        }
        let Some((source, protocol, payload)) = ip(frame) else { return false };
        let port = payload.first_chunk().map(|port| u16::from_be_bytes(*port));
        matches!(protocol, TCP | UDP)
            && port.is_some_and(|port| self.ports.contains(&port))
            && self.addresses.contains(&source)
    }
}

/// Source address, protocol and payload of the IP packet in a frame.
fn ip(frame: &[u8]) -> Option<(IpAddr, u8, &[u8])> {
    let (head, packet) = frame.split_at_checked(ETHERTYPE + 2)?;
    match *head.last_chunk()? {
        // RFC 791 §3.1: words of header, fragment offset, protocol, source.
        IPV4 => {
            let header: &[u8; 20] = packet.first_chunk()?;
            let len = usize::from(header[0] & 0xf) * 4;
            let is_first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
            let source: [u8; 4] = *header[12..].first_chunk()?;
            let payload = packet.get(len..).filter(|_| is_first && len >= header.len())?;
            Some((source.into(), header[9], payload))
        }
        // RFC 8200 §3: next header, source.
        IPV6 => {
            let (header, payload) = packet.split_first_chunk::<40>()?;
            let source: [u8; 16] = *header[8..].first_chunk()?;
            Some((source.into(), header[6], payload))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(source: [u8; 4], options: usize, protocol: u8, port: u16) -> Vec<u8> {
        let mut frame = vec![0; ETHERTYPE];
        frame.extend(IPV4);
        let mut header = vec![0; 20 + options];
        header[0] = 0x40 | u8::try_from(header.len() / 4).unwrap();
        header[9] = protocol;
        header[12..16].copy_from_slice(&source);
        frame.extend(header);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 30]);
        frame
    }

    fn v6(source: [u8; 16], protocol: u8, port: u16) -> Vec<u8> {
        let mut frame = vec![0; ETHERTYPE];
        frame.extend(IPV6);
        let mut header = vec![0; 40];
        header[0] = 0x60;
        header[6] = protocol;
        header[8..24].copy_from_slice(&source);
        frame.extend(header);
        frame.extend(port.to_be_bytes());
        frame
    }

    #[test]
    fn what_our_sockets_sent_is_known_and_nothing_else() {
        let (ours, theirs) = ([192, 0, 2, 7], [192, 0, 2, 8]);
        let six = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        let own = OwnSockets { addresses: vec![ours.into(), six.into()], ports: vec![41_641, 50_000] };
        for port in [41_641, 50_000] {
            assert!(own.sent(&v4(ours, 0, UDP, port)) && own.sent(&v4(ours, 0, TCP, port)));
            assert!(own.sent(&v4(ours, 8, UDP, port)), "with options");
            assert!(own.sent(&v6(six, UDP, port)) && own.sent(&v6(six, TCP, port)));
        }
        // Another program of this machine, another machine, something that has no ports, a later fragment.
        assert!(!own.sent(&v4(ours, 0, UDP, 53)));
        assert!(!own.sent(&v4(theirs, 0, UDP, 41_641)));
        assert!(!own.sent(&v4(ours, 0, 1, 41_641)));
        let mut later = v4(ours, 0, UDP, 41_641);
        later[ETHERTYPE + 2 + 7] = 1;
        assert!(!own.sent(&later));
        assert!(!OwnSockets::default().sent(&v4(ours, 0, UDP, 41_641)));
    }

    #[test]
    fn frames_cut_anywhere_are_nobodys_or_ours_and_never_a_panic() {
        let own = OwnSockets { addresses: vec![[192, 0, 2, 7].into()], ports: vec![1] };
        for whole in [v4([192, 0, 2, 7], 40, UDP, 1), v6([0; 16], UDP, 1)] {
            for len in 0..whole.len() {
                let _ = own.sent(&whole[..len]);
            }
        }
        let mut short = v4([192, 0, 2, 7], 0, UDP, 1);
        short[ETHERTYPE + 2] = 0x41;
        assert!(!own.sent(&short), "a header shorter than a header");
    }
}
