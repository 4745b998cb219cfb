//! Messages on a relay stream (protocol §3).
//!
//! ```text
//!  0x01 LINK_INIT      version u8, Noise message 1
//!  0x02 LINK_RESPONSE  Noise message 2
//!  0x03 CONTROL        ciphertext of a [`Control`] body
//!  0x04 FORWARD        channel u32, then packets: length u16 (1..=65,000), packet
//! ```
//!
//! One message is one binary WebSocket message of at most [`MAX_MESSAGE`] bytes. FORWARD is passed on unchanged, so its
//! layout is checked by the relay ([`Forward::parse`]) and read by the receiver ([`Forward::packets`]) with the same code.

use crate::ids::{ChannelId, NetworkId, NodeId};
use crate::version::Versions;
use crate::wire::codec::{self, Reader, WireError};
use crate::wire::packet::{MAX_PACKET, VERSION};
use crate::wire::relayed::Nonce;
use minicbor::{Decode, Encode};
use std::net::{IpAddr, SocketAddr};

/// Largest message on a relay stream, in bytes. A batch is cut before it; one packet always fits.
pub const MAX_MESSAGE: usize = 65_536;
/// The path of the WebSocket upgrade request.
pub const HTTP_PATH: &str = "/v1";
/// Bytes before the first packet of a FORWARD message.
const FORWARD_HEADER_LEN: usize = 5;
/// The channel in the messages of a direct TCP connection, which leads to one peer only (protocol §7.12).
pub const DIRECT_CHANNEL: ChannelId = ChannelId(0);
/// Bytes before each packet in a FORWARD message.
pub const PACKET_PREFIX_LEN: usize = 2;

const LINK_INIT: u8 = 0x01;
const LINK_RESPONSE: u8 = 0x02;
const CONTROL: u8 = 0x03;
const FORWARD: u8 = 0x04;

/// A message on a relay stream, split but not yet opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamMessage<'a> {
    /// Noise message 1 of the link.
    LinkInit(&'a [u8]),
    /// Noise message 2 of the link.
    LinkResponse(&'a [u8]),
    /// A sealed [`Control`].
    Control(&'a [u8]),
    /// Packets for a channel.
    Forward(Forward<'a>),
}

impl<'a> StreamMessage<'a> {
    /// Splits `message`.
    ///
    /// # Errors
    /// Any [`WireError`]; whatever the error, the connection is to be closed (protocol §3).
    pub fn parse(message: &'a [u8]) -> Result<Self, WireError> {
        if message.len() > MAX_MESSAGE {
            return Err(WireError::Value("message length"));
        }
        let mut reader = Reader::new(message);
        match reader.u8()? {
            LINK_INIT => match reader.u8()? {
                VERSION => Ok(Self::LinkInit(reader.rest())),
                version => Err(WireError::Version(version)),
            },
            LINK_RESPONSE => Ok(Self::LinkResponse(reader.rest())),
            CONTROL => Ok(Self::Control(reader.rest())),
            FORWARD => Forward::parse(message).map(Self::Forward),
            kind => Err(WireError::Kind(kind)),
        }
    }

    /// The bytes of a LINK_INIT.
    pub fn link_init(noise: &[u8]) -> Vec<u8> {
        [&[LINK_INIT, VERSION], noise].concat()
    }

    /// The bytes of a LINK_RESPONSE.
    pub fn link_response(noise: &[u8]) -> Vec<u8> {
        [&[LINK_RESPONSE], noise].concat()
    }

    /// The bytes of a CONTROL around `ciphertext`.
    pub fn control(ciphertext: &[u8]) -> Vec<u8> {
        [&[CONTROL], ciphertext].concat()
    }
}

/// A FORWARD message whose layout was checked from end to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward<'a> {
    /// Where it goes or came from.
    pub channel: ChannelId,
    packets: &'a [u8],
}

impl<'a> Forward<'a> {
    /// Checks a whole FORWARD message: the channel and one or more packets that fill it exactly.
    ///
    /// # Errors
    /// `Kind`, `Truncated`, or `Value` for a packet of impossible length or a message without packets.
    pub fn parse(message: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(message);
        match reader.u8()? {
            FORWARD => {}
            kind => return Err(WireError::Kind(kind)),
        }
        let channel = ChannelId(reader.u32()?);
        let packets = reader.rest();
        if packets.is_empty() {
            return Err(WireError::Value("forward without packets"));
        }
        while !reader.is_empty() {
            let length = usize::from(reader.u16()?);
            if length == 0 || length > MAX_PACKET {
                return Err(WireError::Value("packet length"));
            }
            reader.take(length)?;
        }
        Ok(Self { channel, packets })
    }

    /// The packets, in order.
    pub const fn packets(&self) -> Packets<'a> {
        Packets { reader: Reader::new(self.packets) }
    }
}

/// Iterates over the packets of a checked [`Forward`].
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Packets<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = self.reader.u16().ok()?;
        self.reader.take(usize::from(length)).ok()
    }
}

/// The packets of a FORWARD message whose layout was checked before ([`Forward::parse`]); of any other, those before the first that is broken.
pub fn packets(message: &[u8]) -> Packets<'_> {
    Packets { reader: Reader::new(message.get(FORWARD_HEADER_LEN..).unwrap_or_default()) }
}

/// Builds FORWARD messages: packets of one channel until it is full.
#[derive(Debug)]
pub struct ForwardBuilder {
    message: Vec<u8>,
}

impl ForwardBuilder {
    /// Starts a message for `channel` in `buffer`, whose memory is reused and whose content is dropped.
    pub fn new(channel: ChannelId, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.push(FORWARD);
        buffer.extend_from_slice(&channel.0.to_be_bytes());
        Self { message: buffer }
    }

    /// Adds `packet`; `false`, and nothing is added, when it is empty, too long, or does not fit any more.
    #[must_use]
    pub fn push(&mut self, packet: &[u8]) -> bool {
        let Ok(length) = u16::try_from(packet.len()) else {
            return false;
        };
        if packet.is_empty()
            || packet.len() > MAX_PACKET
            || self.message.len() + PACKET_PREFIX_LEN + packet.len() > MAX_MESSAGE
        {
            return false;
        }
        self.message.extend_from_slice(&length.to_be_bytes());
        self.message.extend_from_slice(packet);
        true
    }

    /// Whether no packet was added yet.
    pub fn is_empty(&self) -> bool {
        self.message.len() <= FORWARD_HEADER_LEN
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.message.len()
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.message
    }
}

/// Why a peer is gone from the relay's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum GoneReason {
    /// It said LEAVE.
    #[n(0)]
    Left,
    /// Its connection broke.
    #[n(1)]
    Lost,
    /// It registered again over another connection.
    #[n(2)]
    Replaced,
}

/// Codes of ERROR. Unknown codes are kept as numbers by [`ErrorCode::from_u16`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// 1: the registration's signature or network key does not fit.
    BadRegistration,
    /// 2: the same key registered over another connection.
    Replaced,
    /// 3: too many connections, networks, or messages.
    Limited,
    /// 4: a message that makes no sense in this state.
    Protocol,
    /// 5: the relay is shutting down.
    Shutdown,
    /// 6: client and relay speak no common version of the protocol.
    Version,
    /// Anything a later version may say.
    Other(u16),
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn to_u16(self) -> u16 {
        match self {
            Self::BadRegistration => 1,
            Self::Replaced => 2,
            Self::Limited => 3,
            Self::Protocol => 4,
            Self::Shutdown => 5,
            Self::Version => 6,
            Self::Other(code) => code,
        }
    }

    /// The meaning of a number on the wire.
    pub const fn from_u16(code: u16) -> Self {
        match code {
            1 => Self::BadRegistration,
            2 => Self::Replaced,
            3 => Self::Limited,
            4 => Self::Protocol,
            5 => Self::Shutdown,
            6 => Self::Version,
            other => Self::Other(other),
        }
    }
}

/// A control body between client and relay (protocol §3.3).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Control {
    /// Client: let me in; here is the proof that I know the network's secret.
    #[n(0)]
    Register {
        /// The network.
        #[n(0)]
        network: NetworkId,
        /// Ed25519 public key whose hash is `network`.
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        network_key: [u8; 32],
        /// Signature of protocol §3.3 under that key.
        #[n(2)]
        #[cbor(with = "minicbor::bytes")]
        signature: [u8; 64],
        /// Random per daemon start.
        #[n(3)]
        instance: u64,
        /// Feature bits: none so far.
        #[n(4)]
        features: u32,
        /// Versions of the protocol that the client speaks; unsaid means the first alone.
        #[n(5)]
        versions: Option<Versions>,
    },
    /// Relay: you are in; this is how I see you.
    #[n(1)]
    Registered {
        /// Source of the TCP connection.
        #[n(0)]
        #[cbor(with = "socket_addr")]
        observed_tcp: SocketAddr,
        /// Goes into USERNAME of STUN requests.
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        stun_token: [u8; 16],
        /// UDP ports that answer STUN.
        #[n(2)]
        stun_ports: Vec<u16>,
        /// Idle heartbeat, milliseconds.
        #[n(3)]
        heartbeat_ms: u32,
        /// Random per relay start.
        #[n(4)]
        instance: u64,
        /// Whether clients that it introduces may try direct links; unsaid means that they may.
        #[n(5)]
        direct: Option<bool>,
        /// Versions of the protocol that the relay speaks; unsaid means the first alone.
        #[n(6)]
        versions: Option<Versions>,
        /// The one that counts on this link: the highest that both speak; unsaid means the first.
        #[n(7)]
        version: Option<u8>,
    },
    /// Client: introduce me to this peer, or to everybody of my network.
    #[n(2)]
    Connect {
        /// One peer; `None` for everybody, now and later.
        #[n(0)]
        peer: Option<NodeId>,
    },
    /// Relay: this peer is here, reach it on this channel. No address.
    #[n(3)]
    Peer {
        /// Who.
        #[n(0)]
        peer: NodeId,
        /// Where FORWARD reaches it.
        #[n(1)]
        channel: ChannelId,
        /// Its instance number: another one means it restarted.
        #[n(2)]
        instance: u64,
    },
    /// Client: my session with the peer behind this channel is confirmed.
    #[n(4)]
    Confirmed {
        /// The channel.
        #[n(0)]
        channel: ChannelId,
    },
    /// Relay, to both, after both said CONFIRMED (protocol §3.5). All of it hints.
    #[n(5)]
    Established {
        /// The channel.
        #[n(0)]
        channel: ChannelId,
        /// Names this introduction. Nothing depends on it.
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        session: [u8; 16],
        /// Largest packet that the operator thinks worth trying, bytes. Each path is measured (protocol §7.11), so version 1 does not
        /// ask.
        #[n(2)]
        mtu: u16,
        /// Heartbeat between the peers, milliseconds.
        #[n(3)]
        heartbeat_ms: u32,
        /// Key rotation interval, seconds; can only shorten.
        #[n(4)]
        rotation_s: u32,
        /// The peer's address as the relay sees its stream. A peer that listens there says so itself (protocol §7.12), so version 1 does
        /// not ask.
        #[n(5)]
        #[cbor(with = "opt_socket_addr")]
        peer_tcp: Option<SocketAddr>,
        /// The peer's address as STUN saw it.
        #[n(6)]
        #[cbor(with = "opt_socket_addr")]
        peer_udp: Option<SocketAddr>,
        /// Whether a direct link may be tried.
        #[n(7)]
        direct: bool,
    },
    /// Either: the channel is no longer needed for data; it lies dormant and the next packet revives it.
    #[n(6)]
    Release {
        /// The channel.
        #[n(0)]
        channel: ChannelId,
    },
    /// Relay: this peer is not here any more.
    #[n(7)]
    PeerGone {
        /// Who.
        #[n(0)]
        peer: NodeId,
        /// The channel that ended.
        #[n(1)]
        channel: ChannelId,
        /// Why.
        #[n(2)]
        reason: GoneReason,
    },
    /// Either: are you there?
    #[n(8)]
    Ping {
        /// Comes back in PONG.
        #[n(0)]
        id: u64,
    },
    /// Either: I am.
    #[n(9)]
    Pong {
        /// From the PING.
        #[n(0)]
        id: u64,
    },
    /// Relay: move elsewhere, I am going away.
    #[n(10)]
    Drain {
        /// Time left, milliseconds.
        #[n(0)]
        within_ms: u32,
    },
    /// Relay: no, and why.
    #[n(11)]
    Error {
        /// See [`ErrorCode`].
        #[n(0)]
        code: u16,
        /// For people.
        #[n(1)]
        sentence: String,
        /// When trying again makes sense, milliseconds.
        #[n(2)]
        retry_ms: Option<u32>,
    },
    /// Client: I am leaving now.
    #[n(12)]
    Leave,
    /// Relay: STUN saw you here.
    #[n(13)]
    Observed {
        /// Source of the STUN request that carried your token.
        #[n(0)]
        #[cbor(with = "socket_addr")]
        udp: SocketAddr,
    },
    /// Client: what you sent to the address where STUN saw me, I received. Forward datagrams from and to there.
    #[n(14)]
    Bind {
        /// From the STUN answer.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        nonce: Nonce,
        /// The address that this answer named.
        #[n(1)]
        #[cbor(with = "socket_addr")]
        udp: SocketAddr,
    },
    /// Relay: I do from now on, or still.
    #[n(15)]
    Bound {
        /// Goes into each datagram, either way: 24 bits.
        #[n(0)]
        tag: u32,
    },
}

/// Highest tag of [`Control`] this version knows.
const LAST_TAG: u32 = 15;
/// Longest sentence of an ERROR that is kept, bytes: it goes to a log and a terminal, and it is a stranger's.
pub const MAX_SENTENCE: usize = 300;
/// Most STUN ports of a REGISTERED that are kept: two tell the kind of a NAT, each further one is a choice.
pub const MAX_STUN_PORTS: usize = 16;

impl Control {
    /// CBOR bytes of the body.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a body; `Ok(None)` for a tag of a later version, which is to be ignored. The sentence of an ERROR is cut to
    /// [`MAX_SENTENCE`] and loses its control characters, the ports of a REGISTERED are cut to [`MAX_STUN_PORTS`].
    ///
    /// # Errors
    /// `Body` or `Trailing`; the connection is to be closed.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        let mut body = codec::decode_known(bytes, LAST_TAG)?;
        if let Some(Self::Error { sentence, .. }) = &mut body {
            sentence.truncate(sentence.floor_char_boundary(MAX_SENTENCE));
            sentence.retain(|char| !char.is_control());
        }
        if let Some(Self::Registered { stun_ports, .. }) = &mut body {
            stun_ports.truncate(MAX_STUN_PORTS);
        }
        Ok(body)
    }
}

/// Socket addresses as CBOR bytes: 4 or 16 bytes of address, 2 of port.
mod socket_addr {
    use super::{IpAddr, SocketAddr};
    use minicbor::decode::{self, Decoder};
    use minicbor::encode::{self, Encoder, Write};

    pub(super) fn encode<C, W: Write>(
        addr: &SocketAddr,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        let mut bytes = match addr.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        bytes.extend_from_slice(&addr.port().to_be_bytes());
        e.bytes(&bytes)?.ok()
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<SocketAddr, decode::Error> {
        let bad = || decode::Error::message("not a socket address");
        let (ip, port) = d.bytes()?.split_last_chunk::<2>().ok_or_else(bad)?;
        let ip = if let Ok(v4) = <[u8; 4]>::try_from(ip) {
            IpAddr::from(v4)
        } else {
            IpAddr::from(<[u8; 16]>::try_from(ip).map_err(|_| bad())?)
        };
        Ok(SocketAddr::new(ip, u16::from_be_bytes(*port)))
    }
}

/// The same, or null.
mod opt_socket_addr {
    use super::{SocketAddr, socket_addr};
    use minicbor::data::Type;
    use minicbor::decode::{self, Decoder};
    use minicbor::encode::{self, Encoder, Write};

    pub(super) fn encode<C, W: Write>(
        addr: &Option<SocketAddr>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        match addr {
            Some(addr) => socket_addr::encode(addr, e, ctx),
            None => e.null()?.ok(),
        }
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Option<SocketAddr>, decode::Error> {
        if d.datatype()? == Type::Null {
            d.null()?;
            return Ok(None);
        }
        socket_addr::decode(d, ctx).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addr() -> impl Strategy<Value = SocketAddr> {
        prop_oneof![
            (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
            (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
        ]
    }

    fn versions() -> impl Strategy<Value = Option<Versions>> {
        any::<(u8, u8)>().prop_map(|(oldest, newest)| Versions::new(oldest, newest))
    }

    fn bodies() -> impl Strategy<Value = Control> {
        let id = any::<[u8; 32]>();
        prop_oneof![
            (id, id, any::<[u8; 64]>(), any::<(u64, u32)>(), versions()).prop_map(
                |(n, k, signature, (instance, features), versions)| Control::Register {
                    network: NetworkId(n),
                    network_key: k,
                    signature,
                    instance,
                    features,
                    versions
                }
            ),
            (
                addr(),
                any::<[u8; 16]>(),
                prop::collection::vec(any::<u16>(), 0..=MAX_STUN_PORTS),
                any::<(u32, u64, Option<bool>, Option<u8>)>(),
                versions()
            )
                .prop_map(
                    |(
                        observed_tcp,
                        stun_token,
                        stun_ports,
                        (heartbeat_ms, instance, direct, version),
                        versions,
                    )| {
                        Control::Registered {
                            observed_tcp,
                            stun_token,
                            stun_ports,
                            heartbeat_ms,
                            instance,
                            direct,
                            versions,
                            version,
                        }
                    }
                ),
            prop::option::of(id).prop_map(|peer| Control::Connect { peer: peer.map(NodeId) }),
            (id, any::<u32>(), any::<u64>()).prop_map(|(peer, channel, instance)| Control::Peer {
                peer: NodeId(peer),
                channel: ChannelId(channel),
                instance
            }),
            (
                any::<(u32, [u8; 16], u16, u32, u32, bool)>(),
                prop::option::of(addr()),
                prop::option::of(addr())
            )
                .prop_map(
                    |((channel, session, mtu, heartbeat_ms, rotation_s, direct), peer_tcp, peer_udp)| {
                        Control::Established {
                            channel: ChannelId(channel),
                            session,
                            mtu,
                            heartbeat_ms,
                            rotation_s,
                            peer_tcp,
                            peer_udp,
                            direct,
                        }
                    }
                ),
            (id, any::<u32>()).prop_map(|(peer, channel)| Control::PeerGone {
                peer: NodeId(peer),
                channel: ChannelId(channel),
                reason: GoneReason::Lost
            }),
            any::<u64>().prop_map(|id| Control::Ping { id }),
            any::<u64>().prop_map(|id| Control::Pong { id }),
            any::<u32>().prop_map(|channel| Control::Release { channel: ChannelId(channel) }),
            any::<u32>().prop_map(|channel| Control::Confirmed { channel: ChannelId(channel) }),
            any::<u32>().prop_map(|within_ms| Control::Drain { within_ms }),
            (any::<u16>(), "\\PC{0,60}", any::<Option<u32>>())
                .prop_map(|(code, sentence, retry_ms)| Control::Error { code, sentence, retry_ms }),
            Just(Control::Leave),
            addr().prop_map(|udp| Control::Observed { udp }),
            (any::<Nonce>(), addr()).prop_map(|(nonce, udp)| Control::Bind { nonce, udp }),
            any::<u32>().prop_map(|tag| Control::Bound { tag }),
        ]
    }

    proptest! {
        #[test]
        fn control_round_trip(body in bodies()) {
            prop_assert_eq!(Control::decode(&body.encode()), Ok(Some(body)));
        }

        #[test]
        fn perturbed_control_never_panics(body in bodies(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut bytes = body.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Control::decode(&bytes);
            let _ = Control::decode(&bytes[..cut.index(bytes.len())]);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = (StreamMessage::parse(&bytes), Control::decode(&bytes));
        }

        #[test]
        fn forward_round_trip(channel: u32, packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..20)) {
            let mut builder = ForwardBuilder::new(ChannelId(channel), Vec::new());
            for packet in &packets {
                prop_assert!(builder.push(packet));
            }
            let message = builder.finish();
            let StreamMessage::Forward(forward) = StreamMessage::parse(&message).unwrap() else { panic!("not FORWARD") };
            prop_assert_eq!(forward.channel, ChannelId(channel));
            prop_assert!(forward.packets().eq(packets.iter().map(Vec::as_slice)));
            prop_assert!(super::packets(&message).eq(packets.iter().map(Vec::as_slice)));
        }

        #[test]
        fn a_cut_forward_is_refused(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 1..5), cut: prop::sample::Index) {
            let mut builder = ForwardBuilder::new(ChannelId(1), Vec::new());
            let mut ends = vec![];
            for packet in &packets {
                prop_assert!(builder.push(packet));
                ends.push(builder.len());
            }
            let message = builder.finish();
            let cut = cut.index(message.len());
            prop_assert_eq!(Forward::parse(&message[..cut]).is_ok(), ends.contains(&cut));
        }
    }

    #[test]
    fn a_relay_that_says_nothing_of_direct_links_is_understood() {
        let (tcp, token) = (minicbor::bytes::ByteArray::from([192, 0, 2, 1, 0, 1]), [0; 16]);
        let token = minicbor::bytes::ByteArray::from(token);
        let said = codec::encode(&(1u32, tcp, token, vec![8443u16], 15_000u32, 7u64));
        let read = Control::decode(&said);
        assert!(matches!(read, Ok(Some(Control::Registered { instance: 7, direct: None, .. }))), "{read:?}");
    }

    /// What is said in version 1, byte for byte: of versions nothing.
    #[test]
    fn the_first_version_says_what_it_always_did() {
        let register = Control::Register {
            network: NetworkId([1; 32]),
            network_key: [2; 32],
            signature: [3; 64],
            instance: 4,
            features: 0,
            versions: Versions::FIRST.said(),
        };
        let bytes = |tag: &[u8], length: usize, byte: u8| [tag, &vec![byte; length]].concat();
        let expected = [
            vec![0x86, 0],
            bytes(&[0x58, 32], 32, 1),
            bytes(&[0x58, 32], 32, 2),
            bytes(&[0x58, 64], 64, 3),
            vec![4, 0],
        ];
        assert_eq!(register.encode(), expected.concat());
        let registered = Control::Registered {
            observed_tcp: SocketAddr::from(([192, 0, 2, 1], 1)),
            stun_token: [9; 16],
            stun_ports: vec![8443],
            heartbeat_ms: 15_000,
            instance: 7,
            direct: Some(true),
            versions: Versions::FIRST.said(),
            version: None,
        };
        let (tcp, token) = (minicbor::bytes::ByteArray::from([192, 0, 2, 1, 0, 1]), [9; 16]);
        let token = minicbor::bytes::ByteArray::from(token);
        let expected = codec::encode(&(1u32, tcp, token, vec![8443u16], 15_000u32, 7u64, true));
        assert_eq!(registered.encode(), expected);
    }

    /// How an older program reads what a newer one says: fields that it does not know are passed over.
    #[test]
    fn fields_of_a_later_version_are_ignored() {
        let known = codec::encode(&Control::Pong { id: 7 });
        assert_eq!(known, [0x82, 9, 7]);
        for more in [&[0x83, 9, 7, 0xf5][..], &[0x84, 9, 7, 0x82, 1, 2, 0x61, b'x']] {
            assert_eq!(Control::decode(more), Ok(Some(Control::Pong { id: 7 })));
        }
    }

    #[test]
    fn tags_of_a_later_version_are_ignored_and_known_ones_must_parse() {
        assert_eq!(Control::decode(&codec::encode(&(LAST_TAG + 1, 1u32))), Ok(None));
        assert_eq!(Control::decode(&codec::encode(&(8u32, "text"))), Err(WireError::Body));
    }

    #[test]
    fn what_a_relay_says_to_people_is_short_and_plain() {
        let sentence = format!("\u{1b}[2Jgo away\r\n{}", "\u{20ac}".repeat(MAX_SENTENCE));
        let said = Control::Error { code: 3, sentence, retry_ms: None };
        let Ok(Some(Control::Error { sentence, .. })) = Control::decode(&said.encode()) else {
            panic!("not an ERROR")
        };
        assert!(sentence.starts_with("[2Jgo away\u{20ac}") && sentence.len() <= MAX_SENTENCE, "{sentence:?}");

        let registered = Control::Registered {
            observed_tcp: SocketAddr::from(([192, 0, 2, 1], 1)),
            stun_token: [0; 16],
            stun_ports: (0..60_000).collect(),
            heartbeat_ms: 1,
            instance: 1,
            direct: None,
            versions: None,
            version: None,
        };
        let Ok(Some(Control::Registered { stun_ports, .. })) = Control::decode(&registered.encode()) else {
            panic!("not a REGISTERED")
        };
        assert_eq!(stun_ports.len(), MAX_STUN_PORTS);
    }

    #[test]
    fn a_full_builder_says_so() {
        let mut builder = ForwardBuilder::new(ChannelId(1), Vec::new());
        assert!(!builder.push(&[]));
        assert!(!builder.push(&vec![0; MAX_PACKET + 1]));
        assert!(builder.push(&vec![0; MAX_PACKET]));
        assert!(!builder.push(&[0; 600]));
        assert!(StreamMessage::parse(&builder.finish()).is_ok());
    }
}
