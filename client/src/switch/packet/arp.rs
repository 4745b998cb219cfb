//! ARP for IPv4 on Ethernet (RFC 826).
//!
//! ```text
//! | hardware type 2 = 1 or 6 | protocol type 2 = 0x0800 | 6 | 4 | operation 2
//! | sender MAC 6 | sender address 4 | target MAC 6 | target address 4
//! ```
//!
//! What receivers believe is read, and not only what they should be sent: kernels take hardware type 6 (IEEE 802, RFC 1390) as
//! well, and a receiver notes the sender before it looks at the operation (RFC 826, packet reception).

use super::word;
use shadowmesh_proto::ids::MacAddr;
use std::net::Ipv4Addr;

const HARDWARE_ETHERNET: u16 = 1;
const HARDWARE_IEEE802: u16 = 6;
const PROTOCOL_IPV4: u16 = 0x0800;
const LENGTHS: u16 = 0x0604;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::switch) struct Arp {
    /// Who speaks, and as whom. The address is 0.0.0.0 in a probe (RFC 5227).
    pub(in crate::switch) sender_mac: MacAddr,
    pub(in crate::switch) sender: Ipv4Addr,
    /// Whom it asks, or tells.
    pub(in crate::switch) target: Ipv4Addr,
    pub(in crate::switch) is_request: bool,
}

impl Arp {
    /// `None` for anything that is not ARP for IPv4 on Ethernet.
    pub(in crate::switch) fn parse(payload: &[u8]) -> Option<Self> {
        let hardware = word(payload, 0)?;
        if !matches!(hardware, HARDWARE_ETHERNET | HARDWARE_IEEE802)
            || word(payload, 2)? != PROTOCOL_IPV4
            || word(payload, 4)? != LENGTHS
        {
            return None;
        }
        let is_request = word(payload, 6)? == REQUEST;
        let (sender_mac, rest) = payload.get(8..)?.split_first_chunk::<6>()?;
        let (sender, rest) = rest.split_first_chunk::<4>()?;
        let target = rest.get(6..)?.first_chunk::<4>()?;
        Some(Self {
            sender_mac: MacAddr(*sender_mac),
            sender: Ipv4Addr::from(*sender),
            target: Ipv4Addr::from(*target),
            is_request,
        })
    }

    /// Whether it tells who has an address and asks nothing (RFC 5944 §4.6, RFC 5227 §2.3).
    pub(in crate::switch) fn is_announcement(&self) -> bool {
        !self.is_request || self.sender == self.target
    }

    /// Whether it asks if an address is free (RFC 5227 §2.1).
    pub(in crate::switch) fn is_probe(&self) -> bool {
        self.is_request && self.sender.is_unspecified()
    }

    /// The payload of the reply to this request: `owner` has the target.
    pub(in crate::switch) fn reply(&self, owner: MacAddr) -> [u8; 28] {
        let mut reply = [0; 28];
        let fields: [&[u8]; 8] = [
            &HARDWARE_ETHERNET.to_be_bytes(),
            &PROTOCOL_IPV4.to_be_bytes(),
            &LENGTHS.to_be_bytes(),
            &REPLY.to_be_bytes(),
            &owner.0,
            &self.target.octets(),
            &self.sender_mac.0,
            &self.sender.octets(),
        ];
        let bytes = fields.into_iter().flatten();
        reply.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        reply
    }
}

#[cfg(test)]
pub(in crate::switch) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The payload of a request.
    pub(in crate::switch) fn request(mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        [&[0, 1, 8, 0, 6, 4, 0, 1][..], &mac.0, &sender.octets(), &[0; 6], &target.octets()].concat()
    }

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
    const A: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);

    #[test]
    fn a_request_is_read_and_its_reply_answers_it() {
        let asked = Arp::parse(&request(MAC, A, B)).unwrap();
        assert_eq!(asked, Arp { sender_mac: MAC, sender: A, target: B, is_request: true });
        assert!(!asked.is_probe() && !asked.is_announcement());
        let owner = MacAddr([2, 0, 0, 0, 0, 1]);
        let reply = Arp::parse(&asked.reply(owner)).unwrap();
        assert_eq!(reply, Arp { sender_mac: owner, sender: B, target: A, is_request: false });
        assert_eq!(asked.reply(owner)[18..24], MAC.0, "to whom it is said");
    }

    #[test]
    fn probes_and_announcements_are_told_apart() {
        let probe = Arp::parse(&request(MAC, Ipv4Addr::UNSPECIFIED, B)).unwrap();
        assert!(probe.is_probe() && !probe.is_announcement());
        let announcement = Arp::parse(&request(MAC, A, A)).unwrap();
        assert!(announcement.is_announcement() && !announcement.is_probe());
        assert!(Arp::parse(&probe.reply(MAC)).unwrap().is_announcement());
    }

    #[test]
    fn what_a_kernel_believes_is_read() {
        for hardware in [1, 6] {
            for operation in 0..=255 {
                let mut told = request(MAC, A, B);
                (told[1], told[7]) = (hardware, operation);
                let arp = Arp::parse(&told).expect("ARP");
                assert_eq!((arp.sender_mac, arp.sender), (MAC, A));
                assert_eq!(arp.is_announcement(), operation != 1, "a question only as a request");
            }
        }
    }

    proptest! {
        #[test]
        fn other_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40), cut in 0usize..28) {
            let _ = Arp::parse(&bytes);
            prop_assert_eq!(Arp::parse(&request(MAC, A, B)[..cut]), None);
            let mut bent = request(MAC, A, B);
            bent[cut % 6] ^= 0x40;
            prop_assert_eq!(Arp::parse(&bent), None);
        }
    }
}
