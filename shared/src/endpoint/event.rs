//! What an endpoint tells its owner, and what its owner tells it.

use crate::ids::{AssociationId, ChannelId, NodeId, PeerSlot, ReceiverIndex};
use crate::membership;
use crate::path::select::PathKind;
use crate::session::PathSlot;
use crate::session::key::{OpenKey, SealKey};
use crate::transmit::{RelayNo, TcpLink};
use crate::wire::control::{Cidr4, Claim, Hello, PathAck};
use crate::wire::relayed::BindingTag;
use std::net::SocketAddr;
use std::time::Duration;

/// Where a peer can be reached now: a channel of a relay connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Contact {
    /// The relay connection.
    pub relay: RelayNo,
    /// The channel on it.
    pub channel: ChannelId,
}

/// Where a relay forwards datagrams of this node, and what they carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayBinding {
    /// The relay's socket.
    pub remote: SocketAddr,
    /// In each datagram, either way.
    pub tag: BindingTag,
}

/// How bytes reach a peer, or how they came from it. (A *path* is judged; this only says where it is.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// A relay's stream.
    Channel(Contact),
    /// A datagram to or from this address.
    Udp(SocketAddr),
    /// A datagram that a relay forwards.
    RelayUdp(Contact),
    /// A direct TCP connection.
    Tcp(TcpLink),
}

impl Via {
    /// The kind of a path that runs there.
    pub const fn kind(self) -> PathKind {
        match self {
            Self::Channel(_) => PathKind::RelayWs,
            Self::Udp(_) => PathKind::DirectUdp,
            Self::RelayUdp(_) => PathKind::RelayUdp,
            Self::Tcp(_) => PathKind::DirectTcp,
        }
    }

    /// See [`PathKind::is_stream`].
    pub const fn is_stream(self) -> bool {
        self.kind().is_stream()
    }

    /// The number of that kind in PING and ACK.
    pub const fn slot(self) -> PathSlot {
        self.kind().slot()
    }
}

impl From<Contact> for Via {
    fn from(contact: Contact) -> Self {
        Self::Channel(contact)
    }
}

/// How long connections are tried: several SYNs of each side, the first of which may have been lost or refused.
pub const TCP_TRY: Duration = Duration::from_secs(5);

/// How a peer is doing, in the words of `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerState {
    /// No relay says that it is there and no path to it is proven.
    Offline,
    /// Introduced; handshake or proof under way.
    Connecting,
    /// A path is proven both ways at full size and not in doubt for more than 3 s.
    Connected,
}

impl PeerState {
    /// The word that people and programs read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
        }
    }
}

/// What happened. Apply events in order and before sending transmits: a receive key must be in place before the packet
/// that lets the peer use it leaves.
#[derive(Debug)]
pub enum Event {
    /// A peer has a slot in the data plane's tables.
    PeerAdded {
        /// Its slot.
        slot: PeerSlot,
        /// Who it is.
        id: NodeId,
    },
    /// A peer that never had a session is forgotten; its slot may be given to another.
    PeerRemoved {
        /// Its slot.
        slot: PeerSlot,
    },
    /// Inbound: a new association with its first receive key. Older ones stay open until closed.
    OpenAssociation {
        /// The peer.
        slot: PeerSlot,
        /// The association.
        association: AssociationId,
        /// Opens its data.
        key: OpenKey,
    },
    /// Inbound: one more receive key for an association (a rekey).
    AddOpenKey {
        /// The association.
        association: AssociationId,
        /// The key.
        key: OpenKey,
    },
    /// Inbound: this key was replaced; it may still open what is under way (protocol §4.8).
    RetireOpenKey {
        /// The association.
        association: AssociationId,
        /// The key's index.
        index: ReceiverIndex,
    },
    /// Inbound: open no data of the association any more, and forget its keys; what comes by datagram for the session still names them.
    ShutAssociation {
        /// The association.
        association: AssociationId,
    },
    /// Inbound: forget the association.
    CloseAssociation {
        /// The association.
        association: AssociationId,
    },
    /// Outbound: counters and ring start anew, with this key.
    StartAssociation {
        /// The peer.
        slot: PeerSlot,
        /// The association.
        association: AssociationId,
        /// Seals its data.
        key: SealKey,
    },
    /// Outbound: seal with this key from now on; the counter goes on.
    AddSealKey {
        /// The peer.
        slot: PeerSlot,
        /// The key.
        key: SealKey,
    },
    /// Outbound: where data for the peer goes; `None` while no path is proven.
    Route {
        /// The peer.
        slot: PeerSlot,
        /// There.
        via: Option<Via>,
        /// The largest packet that goes there whole, bytes: larger ones go in pieces (protocol §5.4). `None`: every packet does.
        room: Option<usize>,
    },
    /// Outbound: this path was given up, or bound anew; what was sent on it and is not acknowledged goes out again, by the route
    /// that was told last, before anything new.
    Resend {
        /// The peer.
        slot: PeerSlot,
        /// The path.
        path: PathSlot,
    },
    /// Inbound: where data of the peer may come from by datagram; what comes from elsewhere is to be told with
    /// [`super::Endpoint::handle_heard`].
    Sources {
        /// The peer.
        slot: PeerSlot,
        /// Addresses of its paths.
        addresses: Vec<SocketAddr>,
    },
    /// Outbound: the path that data takes is in doubt, or is not any more. Told before what comes of it ([`Self::Resend`]) when it
    /// begins, and with it when it ends.
    Doubt {
        /// The peer.
        slot: PeerSlot,
        /// The path in doubt.
        path: Option<PathSlot>,
    },
    /// Inbound: how long the peer's data on one path may be behind that on another (protocol §7.6).
    Patience {
        /// The peer.
        slot: PeerSlot,
        /// The round trip of the slowest of its paths.
        patience: Duration,
    },
    /// This node moved its data to another path (protocol §7.6).
    Moved {
        /// The peer.
        slot: PeerSlot,
        /// The kind of path before.
        from: PathKind,
        /// The kind of path now.
        to: PathKind,
        /// Why, in words.
        why: &'static str,
    },
    /// The peer acknowledged data.
    Acked {
        /// The peer.
        slot: PeerSlot,
        /// Per path.
        paths: Vec<PathAck>,
        /// Every counter below arrived or is beyond repair.
        floor: u64,
    },
    /// The peer said who it is.
    PeerHello {
        /// The peer.
        slot: PeerSlot,
        /// What it said.
        hello: Hello,
    },
    /// Something of membership (protocol §8.5), which was acted on already as far as it concerns the peer.
    Membership {
        /// The peer.
        slot: PeerSlot,
        /// What.
        event: membership::Event,
    },
    /// A peer's state changed.
    PeerState {
        /// The peer.
        slot: PeerSlot,
        /// To this.
        state: PeerState,
    },
    /// The answer to [`super::Endpoint::echo`].
    EchoReply {
        /// The peer.
        slot: PeerSlot,
        /// The number given.
        id: u64,
        /// The way by which it came: the one by which the question went, for it is answered where it came from.
        via: Via,
    },
    /// This node's IPv4 address was taken by a member with an older claim: use this one (protocol §1.6).
    AddressChanged {
        /// The new address.
        address: Cidr4,
        /// Which attempt gave it; remember it.
        attempt: u8,
        /// Who holds the old one.
        holder: NodeId,
    },
    /// This node has another IPv4 address: one that the network gives it, or, where it does so no more, one that its key gives.
    AddressTaken {
        /// The new address.
        address: Cidr4,
        /// Which attempt gave it; nothing where the network did.
        attempt: Option<u8>,
        /// How firmly it is held.
        claim: Claim,
    },
    /// Two members show one IPv4 address and neither gives way on its own, because both were set by hand.
    AddressConflict {
        /// The other one.
        peer: NodeId,
        /// The address.
        address: Cidr4,
    },
    /// The claim on this node's address is settled: remember it.
    AddressSettled,
    /// The relay accepted the registration.
    RelayUp {
        /// The relay.
        relay: RelayNo,
        /// How it sees this node's stream.
        observed_tcp: SocketAddr,
        /// Its STUN ports.
        stun_ports: Vec<u16>,
        /// For STUN requests.
        stun_token: [u8; 16],
    },
    /// The relay answers no more: close its connection and open a new one.
    RelayDead {
        /// The relay.
        relay: RelayNo,
    },
    /// The relay said no.
    RelayRefused {
        /// The relay.
        relay: RelayNo,
        /// Its sentence.
        sentence: String,
        /// When trying again makes sense.
        retry: Option<Duration>,
    },
    /// The relay forwards datagrams of this node from now on, or does not any more (protocol §3.9).
    RelayBound {
        /// The relay.
        relay: RelayNo,
        /// Where, and under which tag.
        binding: Option<RelayBinding>,
    },
    /// Open connections to these addresses of the peer, from the port told with [`super::Endpoint::handle_tcp_port`], for
    /// [`TCP_TRY`]: those that come to be are told with [`super::Endpoint::handle_tcp_opened`].
    TcpTry {
        /// The peer.
        slot: PeerSlot,
        /// At most [`MAX_TCP_CANDIDATES`](crate::traverse::candidate::MAX_TCP_CANDIDATES).
        addresses: Vec<SocketAddr>,
    },
    /// The peer was heard on this connection, and no other of it is needed: what is still being tried may end.
    TcpKept {
        /// The peer.
        slot: PeerSlot,
        /// The connection.
        link: TcpLink,
    },
    /// This connection is of no use any more.
    TcpClose {
        /// The connection.
        link: TcpLink,
        /// Whether it is to be reset, for its ports to be free; else what was sent there may still arrive.
        at_once: bool,
    },
    /// STUN saw this node here.
    Observed {
        /// The relay.
        relay: RelayNo,
        /// The UDP address.
        udp: SocketAddr,
    },
}
