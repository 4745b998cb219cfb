//! Control bodies inside a peer session (protocol §6), sealed as CONTROL packets.

use crate::ids::MacAddr;
use crate::membership::Message;
use crate::path::select::{PathKind, Wanted};
use crate::traverse::candidate::{self, Candidate};
use crate::wire::codec::{self, WireError};
use minicbor::{Decode, Encode};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest node name on the wire, bytes of UTF-8 (a DNS label has at most 63).
pub const MAX_NAME: usize = 63;
/// Highest number of paths whose reception one ACK reports.
pub const MAX_ACK_PATHS: usize = 4;

/// An IPv4 address on the overlay with its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Cidr4 {
    /// The address, as its number.
    #[n(0)]
    bits: u32,
    /// Prefix length, at most 32.
    #[n(1)]
    prefix: u8,
}

impl Cidr4 {
    /// `address/prefix`; `None` when the prefix is over 32.
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        if prefix > 32 { None } else { Some(Self { bits: address.to_bits(), prefix }) }
    }

    /// The address.
    pub const fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.bits)
    }

    /// The prefix length.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl std::fmt::Display for Cidr4 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address(), self.prefix)
    }
}

/// An IPv6 address on the overlay with its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Cidr6 {
    /// The address.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    octets: [u8; 16],
    /// Prefix length, at most 128.
    #[n(1)]
    prefix: u8,
}

impl Cidr6 {
    /// `address/prefix`; `None` when the prefix is over 128.
    pub const fn new(address: Ipv6Addr, prefix: u8) -> Option<Self> {
        if prefix > 128 { None } else { Some(Self { octets: address.octets(), prefix }) }
    }

    /// The address.
    pub const fn address(&self) -> Ipv6Addr {
        Ipv6Addr::from_octets(self.octets)
    }

    /// The prefix length.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl std::fmt::Display for Cidr6 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address(), self.prefix)
    }
}

/// How firmly a member holds its IPv4 address (protocol §1.6). Declared weakest first, so `Ord` is the preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Claim {
    /// Derived, and not yet compared with any other member's.
    #[n(0)]
    Fresh,
    /// Derived, and lived through a meeting, or was made with the network.
    #[n(1)]
    Settled,
    /// Given by a person, so only a person changes it.
    #[n(2)]
    ByHand,
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// Its name, at most [`MAX_NAME`] bytes.
    #[n(0)]
    pub name: String,
    /// Its TAP's address.
    #[n(1)]
    pub mac: MacAddr,
    /// Its IPv4 address on the overlay.
    #[n(2)]
    pub ipv4: Option<Cidr4>,
    /// Its IPv6 address on the overlay.
    #[n(3)]
    pub ipv6: Option<Cidr6>,
    /// How firmly it holds the IPv4 address.
    #[n(4)]
    pub claim: Claim,
    /// MTU of its TAP, bytes of IP packet.
    #[n(5)]
    pub mtu: u16,
    /// Grows with every change.
    #[n(6)]
    pub revision: u32,
}

/// Reception on one path: what arrived up to the highest counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct PathAck {
    /// The sender's number for the path.
    #[n(0)]
    pub path: u8,
    /// Highest data counter opened that came over it.
    #[n(1)]
    pub highest: u64,
    /// Bit `i` of word `j` set: counter `highest - 1 - (64 j + i)` was opened, over any path.
    #[n(2)]
    pub bitmap: [u64; 4],
}

/// A body inside a peer session.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Control {
    /// Proves a path, confirms a session, measures.
    #[n(0)]
    Ping {
        /// Comes back in PONG.
        #[n(0)]
        id: u64,
        /// The sender's number for the path (protocol §6), or [`CHECK`] for a candidate that is not one yet.
        #[n(1)]
        path: u8,
        /// Zeros that bring the packet to full size.
        #[n(2)]
        #[cbor(with = "minicbor::bytes")]
        padding: Vec<u8>,
    },
    /// Answers PING on the path it came by.
    #[n(1)]
    Pong {
        /// From the PING.
        #[n(0)]
        id: u64,
        /// From the PING.
        #[n(1)]
        path: u8,
        /// As many zeros as in the PING, up to full size (protocol §7.1).
        #[n(2)]
        #[cbor(with = "minicbor::bytes")]
        padding: Vec<u8>,
    },
    /// Who I am.
    #[n(2)]
    Hello(#[n(0)] Hello),
    /// I have your HELLO of this revision.
    #[n(3)]
    HelloAck {
        /// From the HELLO.
        #[n(0)]
        revision: u32,
    },
    /// What data arrived.
    #[n(4)]
    Ack {
        /// At most [`MAX_ACK_PATHS`].
        #[n(0)]
        paths: Vec<PathAck>,
        /// Every counter below was opened or has left the window.
        #[n(1)]
        floor: u64,
    },
    /// A rekey's INIT packet.
    #[n(5)]
    RekeyInit {
        /// The packet of protocol §4.4.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        packet: Vec<u8>,
    },
    /// A rekey's RESPONSE packet.
    #[n(6)]
    RekeyResponse {
        /// The packet of protocol §4.4.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        packet: Vec<u8>,
    },
    /// I am leaving cleanly.
    #[n(7)]
    Bye {
        /// 0: shut down; 1: left the network.
        #[n(0)]
        reason: u8,
    },
    /// `shadowmesh ping`.
    #[n(8)]
    Echo {
        /// Comes back.
        #[n(0)]
        id: u64,
    },
    /// The answer to it.
    #[n(9)]
    EchoReply {
        /// From the ECHO.
        #[n(0)]
        id: u64,
    },
    /// Where I may be reached directly.
    #[n(10)]
    Candidates {
        /// Grows with every change, and when a round is asked for.
        #[n(0)]
        revision: u32,
        /// At most [`candidate::MAX_CANDIDATES`].
        #[n(1)]
        list: Vec<Candidate>,
        /// The same for TCP: at most [`candidate::MAX_TCP_CANDIDATES`].
        #[n(2)]
        #[cbor(default)]
        tcp: Vec<Candidate>,
    },
    /// I have your CANDIDATES of this revision.
    #[n(11)]
    CandidatesAck {
        /// From the CANDIDATES.
        #[n(0)]
        revision: u32,
    },
    /// SESSION_RESUME: from now on I send data on this path (protocol §7.6).
    #[n(12)]
    Resume {
        /// Grows with every move of this direction: the highest one heard counts.
        #[n(0)]
        number: u64,
        /// The kind of the path that data takes now.
        #[n(1)]
        kind: PathKind,
        /// What I have of yours, as in ACK: what is missing there may be sent again.
        #[n(2)]
        paths: Vec<PathAck>,
        /// As in ACK.
        #[n(3)]
        floor: u64,
    },
    /// I heard your RESUME of this number.
    #[n(13)]
    ResumeAck {
        /// From the RESUME.
        #[n(0)]
        number: u64,
    },
    /// A user of mine wants us both to use these paths (protocol §7.9).
    #[n(14)]
    Use {
        /// The highest one counts, whoever said it.
        #[n(0)]
        number: u64,
        /// Which.
        #[n(1)]
        wanted: Wanted,
    },
    /// I heard your USE of this number.
    #[n(15)]
    UseAck {
        /// From the USE.
        #[n(0)]
        number: u64,
    },
    /// I open TCP connections to your candidates now: open yours to mine (protocol §7.12).
    #[n(16)]
    TcpTry,
    /// Who may send frames, and who says so (protocol §8.5): tags 17 to 22, on the wire as the message is by itself.
    #[n(17)]
    Membership(#[n(0)] Message),
    /// I have stopped sealing, and you have all that I sealed: let this session end, until there is something to say (protocol §4.10).
    #[n(23)]
    Rest {
        /// Grows with every such question of this process to this peer.
        #[n(0)]
        number: u64,
    },
    /// The answer to REST.
    #[n(24)]
    RestAnswer {
        /// From the REST.
        #[n(0)]
        number: u64,
        /// Whether the session has ended here.
        #[n(1)]
        is_over: bool,
    },
}

/// Highest tag of [`Control`] this version knows.
const LAST_TAG: u32 = 24;
/// Those that are a [`Message`].
const OF_MEMBERSHIP: std::ops::RangeInclusive<u32> = 17..=22;

/// The path number of a PING that checks a candidate: no path, so nothing is concluded from it but that the address answers.
pub const CHECK: u8 = 0xff;

impl Control {
    /// CBOR bytes of the body.
    pub fn encode(&self) -> Vec<u8> {
        if let Self::Membership(message) = self { message.encode() } else { codec::encode(self) }
    }

    /// Reads a body; `Ok(None)` for a tag of a later version, which is to be ignored.
    ///
    /// # Errors
    /// `Body` or `Trailing` when it does not parse, `Value` when a field is outside its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        if OF_MEMBERSHIP.contains(&codec::tag(bytes)?) {
            return Message::decode(bytes).map(|message| Some(Self::Membership(message)));
        }
        let body = codec::decode_known(bytes, LAST_TAG)?;
        match &body {
            Some(Self::Hello(hello)) => hello.check()?,
            Some(Self::Ack { paths, .. } | Self::Resume { paths, .. }) if paths.len() > MAX_ACK_PATHS => {
                return Err(WireError::Value("ack paths"));
            }
            Some(Self::Candidates { list, tcp, .. }) => {
                candidate::check(list, candidate::MAX_CANDIDATES)?;
                candidate::check(tcp, candidate::MAX_TCP_CANDIDATES)?;
            }
            _ => {}
        }
        Ok(body)
    }
}

impl Hello {
    fn check(&self) -> Result<(), WireError> {
        let name_ok = !self.name.is_empty()
            && self.name.len() <= MAX_NAME
            && self
                .name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if !name_ok {
            return Err(WireError::Value("name"));
        }
        if self.ipv4.is_some_and(|cidr| cidr.prefix > 32) || self.ipv6.is_some_and(|cidr| cidr.prefix > 128) {
            return Err(WireError::Value("prefix length"));
        }
        if self.mac.0[0] & 1 == 1 {
            return Err(WireError::Value("MAC"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> impl Strategy<Value = Hello> {
        (
            "[a-z][a-z0-9-]{0,62}",
            any::<[u8; 6]>(),
            any::<Option<u32>>(),
            any::<Option<[u8; 16]>>(),
            any::<(u8, u16, u32)>(),
        )
            .prop_map(|(name, mut mac, v4, v6, (claim, mtu, revision))| {
                mac[0] &= 0xfe;
                Hello {
                    name,
                    mac: MacAddr(mac),
                    ipv4: v4.and_then(|bits| Cidr4::new(bits.into(), 16)),
                    ipv6: v6.and_then(|octets| Cidr6::new(octets.into(), 64)),
                    claim: [Claim::Fresh, Claim::Settled, Claim::ByHand][usize::from(claim % 3)],
                    mtu,
                    revision,
                }
            })
    }

    fn candidates() -> impl Strategy<Value = Candidate> {
        use crate::traverse::candidate::CandidateKind::{Host, PeerReflexive, PortMapped, ServerReflexive};
        let kind = prop::sample::select(vec![Host, PeerReflexive, ServerReflexive, PortMapped]);
        (kind, any::<std::net::IpAddr>(), any::<u16>())
            .prop_map(|(kind, ip, port)| Candidate::new(kind, std::net::SocketAddr::new(ip, port)))
    }

    fn members() -> impl Strategy<Value = Message> {
        use crate::crypto::keys::NetworkSecret;
        use crate::ids::{BlobHash, Fingerprint, NetworkId, StatementHash};
        use crate::membership::{Handed, Listed, Member, PART_LEN, Part, Want};
        use zeroize::Zeroizing;
        let listed = any::<([u8; 32], u64, [u8; 32])>().prop_map(|(issuer, version, hash)| Listed {
            issuer: Fingerprint(issuer),
            version,
            hash: StatementHash(hash),
        });
        let documents = prop::collection::vec(listed, 0..=32);
        prop_oneof![
            (documents, any::<(u32, u8, Option<[u8; 32]>, Option<[u8; 32]>, Option<[u8; 32]>)>()).prop_map(
                |(documents, (revision, standing, certificate, offer, secret))| Message::Member(Member {
                    revision,
                    standing,
                    certificate: certificate.map(StatementHash),
                    offer: offer.map(StatementHash),
                    documents,
                    secrets: secret.map(NetworkId).into_iter().collect(),
                })
            ),
            any::<u32>().prop_map(|revision| Message::MemberAck { revision }),
            any::<[u8; 32]>().prop_map(|id| Message::AskSecret { network: NetworkId(id) }),
            any::<([u8; 32], u32)>().prop_map(|(bytes, generation)| {
                let secret = NetworkSecret::from_bytes(Zeroizing::new(bytes), generation);
                Message::Secret(Handed::from(&secret))
            }),
            any::<([u8; 32], u16, u32)>().prop_map(|(hash, first, missing)| Message::Want(Want {
                hash: BlobHash(hash),
                first,
                missing
            })),
            (any::<([u8; 32], u32, u16)>(), prop::collection::vec(any::<u8>(), 0..=PART_LEN)).prop_map(
                |((hash, total, number), bytes)| Message::Part(Part {
                    hash: BlobHash(hash),
                    total,
                    number,
                    bytes
                })
            ),
        ]
    }

    fn bodies() -> impl Strategy<Value = Control> {
        let path_ack = || {
            any::<(u8, u64, [u64; 4])>().prop_map(|(path, highest, bitmap)| PathAck { path, highest, bitmap })
        };
        prop_oneof![
            (any::<(u64, u8)>(), 0usize..1300).prop_map(|((id, path), n)| Control::Ping {
                id,
                path,
                padding: vec![0; n]
            }),
            (any::<(u64, u8)>(), 0usize..1300).prop_map(|((id, path), n)| Control::Pong {
                id,
                path,
                padding: vec![0; n],
            }),
            hello().prop_map(Control::Hello),
            any::<u32>().prop_map(|revision| Control::HelloAck { revision }),
            (prop::collection::vec(path_ack(), 0..=MAX_ACK_PATHS), any::<u64>())
                .prop_map(|(paths, floor)| Control::Ack { paths, floor }),
            (
                prop::collection::vec(candidates(), 0..=candidate::MAX_CANDIDATES),
                prop::collection::vec(candidates(), 0..=candidate::MAX_TCP_CANDIDATES),
                any::<u32>()
            )
                .prop_map(|(list, tcp, revision)| Control::Candidates { revision, list, tcp }),
            Just(Control::TcpTry),
            any::<u64>().prop_map(|number| Control::Rest { number }),
            any::<(u64, bool)>().prop_map(|(number, is_over)| Control::RestAnswer { number, is_over }),
            any::<u32>().prop_map(|revision| Control::CandidatesAck { revision }),
            (prop::collection::vec(path_ack(), 0..=MAX_ACK_PATHS), any::<(u64, u64, prop::sample::Index)>())
                .prop_map(|(paths, (number, floor, kind))| Control::Resume {
                    number,
                    kind: *kind.get(&PathKind::ALL),
                    paths,
                    floor
                }),
            any::<u64>().prop_map(|number| Control::ResumeAck { number }),
            (
                any::<u64>(),
                prop::sample::select(vec![Wanted::Auto, Wanted::Relay, Wanted::Direct, Wanted::DirectTcp])
            )
                .prop_map(|(number, wanted)| Control::Use { number, wanted }),
            any::<u64>().prop_map(|number| Control::UseAck { number }),
            any::<Vec<u8>>().prop_map(|packet| Control::RekeyInit { packet }),
            any::<Vec<u8>>().prop_map(|packet| Control::RekeyResponse { packet }),
            any::<u8>().prop_map(|reason| Control::Bye { reason }),
            members().prop_map(Control::Membership),
            any::<u64>().prop_map(|id| Control::Echo { id }),
            any::<u64>().prop_map(|id| Control::EchoReply { id }),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(body in bodies()) {
            prop_assert_eq!(Control::decode(&body.encode()), Ok(Some(body)));
        }

        #[test]
        fn perturbed_bodies_never_panic(body in bodies(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut bytes = body.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Control::decode(&bytes);
            let _ = Control::decode(&bytes[..cut.index(bytes.len())]);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Control::decode(&bytes);
        }
    }

    #[test]
    fn what_is_said_of_membership_has_its_own_tags_and_bounds() {
        use crate::membership::{Member, PART_LEN, Part};
        // An older version reads the tag and ignores the body: so the message must not be wrapped in another.
        let said = Message::Member(Member::default());
        assert_eq!(Control::Membership(said.clone()).encode(), said.encode());
        for (message, tag) in [(said, 17), (Message::MemberAck { revision: 1 }, 18)] {
            assert_eq!(codec::tag(&Control::Membership(message).encode()), Ok(tag));
        }
        let part = |len| {
            let part = Part { hash: crate::ids::BlobHash([1; 32]), total: 1, number: 0, bytes: vec![0; len] };
            Control::Membership(Message::Part(part)).encode()
        };
        assert!(Control::decode(&part(PART_LEN)).is_ok());
        assert_eq!(Control::decode(&part(PART_LEN + 1)), Err(WireError::Value("part")));
        assert_eq!(Control::decode(&[0x81, 0x18, 25]), Ok(None), "tag 25 is a later version's");
    }

    #[test]
    fn too_many_candidates_or_impossible_ones_are_refused() {
        let one = Candidate::new(candidate::CandidateKind::Host, "192.0.2.1:5".parse().unwrap());
        let list = |n| Control::Candidates { revision: 1, list: vec![one; n], tcp: vec![] }.encode();
        let tcp = |n| Control::Candidates { revision: 1, list: vec![], tcp: vec![one; n] }.encode();
        assert!(Control::decode(&tcp(candidate::MAX_TCP_CANDIDATES)).is_ok());
        assert_eq!(
            Control::decode(&tcp(candidate::MAX_TCP_CANDIDATES + 1)),
            Err(WireError::Value("candidates"))
        );
        assert!(Control::decode(&list(candidate::MAX_CANDIDATES)).is_ok());
        assert_eq!(
            Control::decode(&list(candidate::MAX_CANDIDATES + 1)),
            Err(WireError::Value("candidates"))
        );
        let mut bytes = list(1);
        let octets = bytes.windows(4).position(|four| four == [192, 0, 2, 1]).unwrap();
        // A byte string of three is no address.
        bytes[octets - 1] = 0x43;
        bytes.remove(octets);
        assert_eq!(Control::decode(&bytes), Err(WireError::Body));
    }

    #[test]
    fn impossible_hellos_are_refused() {
        let good = Hello {
            name: "a".into(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            ipv4: None,
            ipv6: None,
            claim: Claim::Settled,
            mtu: 1400,
            revision: 1,
        };
        let refused = |hello: Hello| Control::decode(&Control::Hello(hello).encode()).is_err();
        assert!(!refused(good.clone()));
        assert!(refused(Hello { name: String::new(), ..good.clone() }));
        assert!(refused(Hello { name: "a\u{1b}[2J".into(), ..good.clone() }));
        assert!(refused(Hello { name: "a".repeat(64), ..good.clone() }));
        assert!(refused(Hello { mac: MacAddr([1, 0, 0, 0, 0, 1]), ..good.clone() }));
        assert!(refused(Hello { ipv4: Some(Cidr4 { bits: 0, prefix: 33 }), ..good }));
    }
}
