//! One peer: from introduction to a proven path, through rekeys, to the end.
//!
//! # Life
//!
//! A relay introduces the peer (`contacts`). Without a session, a first handshake begins (`first`): the lower key
//! at once, the other a second later. The initiator's new session sends a full-size PING; when it opens at the responder
//! that side is *confirmed*, and the PONG confirms the initiator's. From then on there is a `session::Session`, whose keys
//! are replaced by `rekey`, and a [`Path`] that is proven, doubted and proven again by PINGs. Losing the contact or the
//! path never ends the session: a later introduction proves it anew and resends what was not acknowledged.
//!
//! Beside the path over the relay's stream there may be one by datagram (`relayed`), and direct ones by datagram (`direct`) and by
//! TCP (`direct_tcp`). `route` chooses
//! among all that are proven (protocol §7.6), tells the data plane, and says RESUME to the peer; what leads over the relay rests
//! while both send directly.
//!
//! A session that nobody uses may end in agreement (`rest`): the peer sleeps then, and what is known of it stays, until there is something to
//! say to it.
//!
//! # Invariants
//!
//! - An unconfirmed session sends nothing and replaces nothing (protocol §4.5). There are at most
//!   `first::MAX_UNCONFIRMED`, oldest dropped, and none gets older than `first::UNCONFIRMED_LIFE`.
//! - While there is a contact, either a path of a session is being judged or a handshake is planned or under way, or the peer sleeps.
//! - A receive key is announced to the data plane before the packet leaves that lets the peer use it.
//! - With certificates the data plane has no key of a peer that is not admitted, and sends nothing before both are (`member`, `gate`).
//! - `Route` names a path only while it is proven; [`PeerState::Connected`] means exactly that.
//! - Whatever was under way on a path that is given up is sent again (`Resend`) by the next route; on a planned move nothing is.
//! - Nothing a relay says ends a session. Only BYE and REST (authentic), the age of the keys, or a newer confirmed session does.
//! - Every receiver index handed out is released when its session ends.

mod contacts;
mod direct;
mod direct_tcp;
mod first;
mod gate;
mod member;
mod probation;
mod rekey;
mod relayed;
mod rest;
mod route;
mod session;
mod status;

use crate::bucket::Bucket;
use crate::crypto::aead::CipherSet;
use crate::crypto::keys::NetworkKeys;
use crate::endpoint::LocalCandidates;
use crate::endpoint::config::Config;
use crate::endpoint::event::{Contact, Event, PeerState, Via};
use crate::endpoint::outbox::{Indices, Outbox};
use crate::handshake::HandshakeError;
use crate::handshake::payload::{COMPLETES_CHECKSUMS, KNOWS_REST, Payload};
use crate::handshake::peer::{Received, Responder};
use crate::ids::{AssociationId, NetworkId, NodeId, PeerSlot, ReceiverIndex};
use crate::membership::{Admission, Seconds, Trust};
use crate::path::liveness::FULL_SIZE;
use crate::path::select::{PathKind, Wanted};
use crate::path::state::Path;
use crate::rng::Rng;
use crate::session::AckReport;
use crate::session::limits::PATH_SLOTS;
use crate::session::rekey::Role;
use crate::time::Deadline;
use crate::transmit::RelayNo;
use crate::traverse::strangers::Strangers;
use crate::version::{Mismatch, UNSAID, Versions};
use crate::wire::control::{CHECK, Control, Hello, PathAck};
use crate::wire::header::{HEADER_LEN, TAG_LEN};
use direct::{Direct, base_size, datagram_ping};
use direct_tcp::DirectTcp;
#[cfg(test)]
pub(crate) use first::AT_ONCE;
use first::{First, Unconfirmed};
use member::Membership;
use relayed::RelayUdp;
use rest::Rest;
use route::{Resume, Wish};
use session::Session;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// HELLO is repeated this often until acknowledged (protocol §6).
const HELLO_REPEAT: Duration = Duration::from_secs(1);
/// An association that was replaced stays open this long at the receiver, for packets still under way.
const CLOSE_AFTER: Duration = Duration::from_secs(30);
/// Most of them at a time: a peer that goes through sessions faster has nothing under way in the oldest.
const MAX_CLOSING: usize = 4;
/// Answers to addresses where no path is: twenty at once and then ten a second, which is more than checks of an honest peer ask for. Each
/// may be an address that its owner has to look up before it sends there.
const STRAY_ANSWERS: Bucket = Bucket::new(20, Duration::from_millis(100));
/// HELLOs that say something new: eight at once and then two a second. Each is looked at by all that deals with names and addresses.
const HELLO_NEWS: Bucket = Bucket::new(8, Duration::from_millis(500));
/// A peer that is gone is shown as offline for this long.
const FORGET_AFTER: Duration = Duration::from_secs(6 * 3600);
/// The number under which this side's PINGs name the path over the relay's stream.
const PATH_NUMBER: u8 = PathKind::RelayWs.slot().number();
/// CBOR around a PING's padding: array, tag, id (9), path (2), byte string head (3); exact to a few bytes is enough.
const PING_BODY: usize = 16;

/// What a peer needs from its endpoint while it handles one input.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    /// The time of day, by which certificates are dated.
    pub(crate) unix: Seconds,
    /// Who is a member; nothing in a network without certificates.
    pub(crate) trust: Option<&'a mut Trust>,
    pub(crate) config: &'a Config,
    /// By relay: under which of the network's secrets this node is registered there.
    pub(crate) lanes: &'a [Option<NetworkId>],
    pub(crate) hello: &'a Hello,
    pub(crate) local: &'a LocalCandidates,
    pub(crate) rng: &'a mut dyn Rng,
    pub(crate) indices: &'a mut Indices,
    pub(crate) strangers: &'a mut Strangers,
    /// Peers with which a first session is being made ([`Peer::is_being_met`]).
    pub(crate) being_met: &'a mut usize,
    pub(crate) out: &'a mut Outbox,
}

impl Context<'_> {
    /// What this side says in a handshake for an association that speaks one of `versions`.
    fn offer(&self, association: AssociationId, versions: Versions) -> Payload {
        Payload {
            ciphers: self.config.ciphers,
            mtu: self.hello.mtu,
            name: self.hello.name.clone(),
            association,
            program: self.config.program.clone(),
            features: KNOWS_REST | COMPLETES_CHECKSUMS,
            versions,
            version: UNSAID,
        }
    }

    /// For new keys of a session, which keeps its cipher whatever this node offers to others since.
    fn offer_again(&self, session: &Session, versions: Versions) -> Payload {
        Payload { ciphers: CipherSet::only(session.cipher()), ..self.offer(session.association(), versions) }
    }

    /// The keys of all secrets of the network that are in use, of the one in force first.
    fn networks(&self) -> impl Iterator<Item = &NetworkKeys> {
        Trust::keys(self.trust.as_deref(), &self.config.network)
    }

    /// The best of them of which `is_so`, else the one in force.
    fn network_that(&self, is_so: impl Fn(NetworkId) -> bool) -> &NetworkKeys {
        let best = self.networks().find(|keys| is_so(keys.id())).or_else(|| self.networks().next());
        best.unwrap_or(&self.config.network)
    }

    /// The keys for a handshake over `contact`: who was introduced there registered under that secret, and so has it (protocol §8.8).
    fn network_at(&self, contact: Contact) -> NetworkKeys {
        let lane = self.lanes.get(contact.relay.0).copied().flatten();
        self.network_that(|id| lane == Some(id)).clone()
    }

    /// How many secrets are better than the one of `contact`.
    fn rank(&self, contact: Contact) -> usize {
        let lane = self.lanes.get(contact.relay.0).copied().flatten();
        self.networks().position(|keys| lane == Some(keys.id())).unwrap_or(0)
    }

    /// Reads an INIT under whichever secret it was made with. What was made with none of them costs a hash each.
    fn read_init(&self, packet: &[u8]) -> Result<Received, HandshakeError> {
        let read = self.networks().map(|keys| Responder::read(&self.config.node, keys, packet));
        let mut known = read.filter(|read| !matches!(read, Err(HandshakeError::Mac)));
        known.next().unwrap_or(Err(HandshakeError::Mac))
    }
}

/// Why a packet of a peer was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// A handshake packet failed.
    #[error("handshake: {0}")]
    Handshake(#[from] crate::handshake::HandshakeError),
    /// A control packet did not open.
    #[error("control packet: {0}")]
    Open(#[from] crate::session::OpenError),
    /// No peer has this channel, or no session this index.
    #[error("no session has this receiver index")]
    UnknownIndex,
    /// A handshake packet of somebody else than the peer that this channel was made for.
    #[error("the packet is from another peer than its channel")]
    WrongPeer,
    /// A handshake packet that is not due: a collision lost, or an answer to nothing.
    #[error("a handshake packet out of turn")]
    OutOfTurn,
    /// A handshake packet of a peer that is no member, too soon after it was told so.
    #[error("a handshake packet of a peer that was refused")]
    Refused,
    /// More handshake packets than a peer may make this node answer.
    #[error("too many handshake packets")]
    TooMany,
    /// A kind of packet that has no place here.
    #[error("this kind of packet has no place here")]
    Kind,
}

/// A peer and all that is known of it.
#[derive(Debug)]
pub(crate) struct Peer {
    id: NodeId,
    slot: PeerSlot,
    role: Role,
    instance: Option<u64>,
    /// The contact in use.
    contact: Option<Contact>,
    /// Every contact that a relay gave, one per relay, the newest last.
    contacts: Vec<(Contact, u64)>,
    /// Relays that allow no direct link to it, and whether that holds: while every relay that introduces it says so.
    barred_by: Vec<RelayNo>,
    is_barred: bool,
    /// When a relay last said that the peer is there, and was listened to.
    introduced: Option<Instant>,
    /// Whether the relay was told CONFIRMED for this contact.
    confirmed_contact: bool,
    /// The path over the contact.
    path: Option<Path>,
    /// The path over the contact's relay by datagram.
    relay_udp: RelayUdp,
    direct: Direct,
    direct_tcp: DirectTcp,
    first: First,
    /// What the last handshake found, where that was no common version of the protocol.
    incompatible: Option<Mismatch>,
    /// When this node last began a handshake.
    begun: Option<Instant>,
    /// When the session became one.
    met: Option<Instant>,
    /// Oldest first.
    unconfirmed: VecDeque<Unconfirmed>,
    session: Option<Session>,
    rest: Rest,
    member: Membership,
    /// See [`Self::due`].
    due: Option<Deadline>,
    closing: VecDeque<(Instant, AssociationId)>,
    about: Option<Hello>,
    /// The newest revision of it in this session; a process that restarted counts anew.
    revision_heard: Option<u32>,
    hello_sent: Option<Instant>,
    hello_acked: Option<u32>,
    rotation_hint: Duration,
    heartbeat_hint: Duration,
    /// Where a relay sends datagrams for the peer, as the contact's relay said last.
    peer_bound: Option<(Contact, SocketAddr)>,
    peer_moves: Bucket,
    shown: PeerState,
    /// Since when neither a relay nor a session says that it is there.
    gone: Option<Instant>,
    /// Where data goes.
    routed: Option<Via>,
    /// What was last said of it.
    route_told: Option<(Via, Option<usize>)>,
    /// The kind of path that data took last, in this session.
    last_kind: Option<PathKind>,
    /// Paths whose packets under way are to be sent again with the next route, by slot.
    abandoned: [bool; PATH_SLOTS],
    /// One above the highest counter that the peer acknowledged on each path: only more than that confirms the path.
    acked: [u64; PATH_SLOTS],
    /// The same of what is known to have been sealed: what was not, cannot have arrived.
    confirmed: [u64; PATH_SLOTS],
    /// One above the highest counter that the data plane said it sealed in this session; a moment later it has sealed more.
    sealed: u64,
    /// What this node last said it has of the peer's.
    last_report: (Vec<PathAck>, u64),
    resume: Resume,
    wish: Wish,
    /// See [`Event::Doubt`].
    doubted: Option<PathKind>,
    /// By path number: whether data left a path of this kind before that was in doubt.
    left_in_doubt: [bool; PATH_SLOTS],
    /// While nothing was proven of wherever data went, over however many moves (see [`route`]).
    silence: Option<route::Silence>,
    /// While data's path is in doubt, and when it died in that: since when nothing was known of it.
    doubted_since: Option<Instant>,
    /// See [`Event::Patience`].
    patience: Duration,
    switches: u64,
    last_switch: Option<(Instant, PathKind, PathKind, &'static str)>,
    /// What first handshakes and rekeys of this peer may cost.
    first_budget: Bucket,
    rekey_budget: Bucket,
    /// Tries by TCP that it may cause.
    tcp_budget: Bucket,
    /// Its users' wishes.
    wish_budget: Bucket,
    /// Its questions from addresses where no path is.
    stray_budget: Bucket,
    /// What it says of itself anew.
    hello_budget: Bucket,
}

impl Peer {
    pub(crate) fn new(id: NodeId, slot: PeerSlot, own: &NodeId) -> Self {
        Self {
            id,
            slot,
            role: Role::of(own, &id),
            instance: None,
            contact: None,
            contacts: Vec::new(),
            barred_by: Vec::new(),
            is_barred: false,
            introduced: None,
            confirmed_contact: false,
            path: None,
            relay_udp: RelayUdp::default(),
            direct: Direct::default(),
            direct_tcp: DirectTcp::default(),
            first: First::Idle,
            incompatible: None,
            begun: None,
            met: None,
            unconfirmed: VecDeque::new(),
            session: None,
            rest: Rest::default(),
            member: Membership::default(),
            due: None,
            closing: VecDeque::new(),
            about: None,
            revision_heard: None,
            hello_sent: None,
            hello_acked: None,
            rotation_hint: crate::session::limits::ROTATION,
            heartbeat_hint: crate::path::liveness::HEARTBEAT,
            peer_bound: None,
            peer_moves: relayed::PEER_MOVES,
            shown: PeerState::Offline,
            gone: None,
            routed: None,
            route_told: None,
            last_kind: None,
            abandoned: [false; PATH_SLOTS],
            acked: [0; PATH_SLOTS],
            confirmed: [0; PATH_SLOTS],
            sealed: 0,
            last_report: (Vec::new(), 0),
            resume: Resume::default(),
            wish: Wish::default(),
            doubted: None,
            left_in_doubt: [false; PATH_SLOTS],
            silence: None,
            doubted_since: None,
            patience: Duration::ZERO,
            switches: 0,
            last_switch: None,
            first_budget: Bucket::of_handshakes(),
            rekey_budget: Bucket::of_handshakes(),
            tcp_budget: direct_tcp::PROVOKED,
            wish_budget: route::WISHES,
            stray_budget: STRAY_ANSWERS,
            hello_budget: HELLO_NEWS,
        }
    }

    pub(crate) const fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) const fn slot(&self) -> PeerSlot {
        self.slot
    }

    pub(crate) const fn contact(&self) -> Option<Contact> {
        self.contact
    }

    pub(crate) const fn about(&self) -> Option<&Hello> {
        self.about.as_ref()
    }

    /// As what this node lets it in; nothing without certificates.
    pub(crate) fn admission(&self) -> Option<&Admission> {
        self.member.admission()
    }

    pub(crate) const fn state(&self) -> PeerState {
        self.shown
    }

    /// Whether its path is in doubt.
    pub(crate) fn is_suspect(&self) -> bool {
        self.path.as_ref().is_some_and(Path::is_suspect)
    }

    /// Whether it never was more than a name that a relay said: no session, no HELLO.
    const fn is_phantom(&self) -> bool {
        self.session.is_none() && self.about.is_none()
    }

    /// When it is forgotten, as it is gone and nothing of it is left here: at once where it never was more than a name. Not while it
    /// has sessions that wait to be confirmed, or to close: with those the memory of what it made this node compute would go.
    pub(crate) fn forgotten_at(&self) -> Option<Instant> {
        let is_left = !self.closing.is_empty() || !self.unconfirmed.is_empty();
        let gone = self.gone.filter(|_| !is_left)?;
        Some(if self.is_phantom() { gone } else { gone + FORGET_AFTER })
    }

    /// Gives back what it holds; it is forgotten afterwards.
    pub(crate) fn forget(&mut self, ctx: &mut Context<'_>) {
        self.first.cancel(ctx);
        self.drop_unconfirmed(ctx);
        self.drop_rested(ctx);
    }

    fn drop_unconfirmed(&mut self, ctx: &mut Context<'_>) {
        for stale in std::mem::take(&mut self.unconfirmed) {
            stale.session.release(ctx.indices);
        }
    }

    /// Whether a handshake with it is due or under way while nothing else proves it exists.
    pub(crate) const fn is_pending(&self) -> bool {
        self.is_phantom() && self.contact.is_some()
    }

    /// Whether it and this node are at work to become known to each other: INIT was just sent, or was answered, or the session is new
    /// and the other side has not let this one in. One that does not answer is waited for no longer than an answer takes.
    pub(crate) fn is_being_met(&self, now: Instant) -> bool {
        let since = |at: Option<Instant>, within: Duration| at.is_some_and(|at| now < at + within);
        match &self.session {
            None => {
                self.first.is_confirming() || self.first.is_asked() && since(self.begun, first::ANSWER_TAKES)
            }
            Some(_) => self.shown == PeerState::Connecting && since(self.met, first::MEETING_TAKES),
        }
    }

    /// A packet that is not data came over `contact`, a channel of this peer.
    pub(crate) fn handle_init(
        &mut self,
        ctx: &mut Context<'_>,
        contact: Contact,
        packet: &[u8],
    ) -> Result<(), PacketError> {
        self.first_init(ctx, contact, packet)?;
        self.settle(ctx);
        Ok(())
    }

    /// The answer to an INIT of this node.
    pub(crate) fn handle_response(
        &mut self,
        ctx: &mut Context<'_>,
        contact: Contact,
        packet: &[u8],
    ) -> Result<(), PacketError> {
        self.first_response(ctx, contact, packet)?;
        self.settle(ctx);
        Ok(())
    }

    /// A control packet for one of this peer's sessions.
    pub(crate) fn handle_control(
        &mut self,
        ctx: &mut Context<'_>,
        via: Via,
        index: ReceiverIndex,
        packet: &mut [u8],
    ) -> Result<(), PacketError> {
        if let Some(session) = self.session.as_mut().filter(|session| session.has_index(index)) {
            let body = session.open(ctx.now, packet)?;
            rekey::on_opened(session, ctx, self.slot, index);
            self.on_session_heard(ctx);
            match via {
                Via::Udp(from) => self.direct_heard(ctx, from),
                Via::RelayUdp(_) => self.on_relay_udp_heard(),
                Via::Tcp(link) => self.tcp_on_heard(ctx, link),
                Via::Channel(_) => {}
            }
            self.handle_body(ctx, via, body);
        } else if self.has_rested(index) {
            self.rested_control(ctx, via, packet)?;
        } else if let Some(at) =
            self.unconfirmed.iter().position(|unconfirmed| unconfirmed.session.has_index(index))
        {
            let Via::Channel(contact) = via else { return Err(PacketError::OutOfTurn) };
            // Both sides' handshakes came this far: the lower key's stands, the other side drops its own on our PING.
            if self.role == Role::Lower && self.first.is_confirming() {
                return Err(PacketError::OutOfTurn);
            }
            // protocol §4.5: only a packet that opens confirms, and only then is anything replaced.
            let body = match self.unconfirmed.get_mut(at) {
                Some(unconfirmed) => unconfirmed.session.open(ctx.now, packet)?,
                None => return Err(PacketError::UnknownIndex),
            };
            if let Some(Unconfirmed { session, .. }) = self.unconfirmed.remove(at) {
                self.first.cancel(ctx);
                self.establish(ctx, session);
                self.contact = Some(contact);
                self.path = Some(self.new_path(ctx.now));
            }
            self.handle_body(ctx, via, body);
        } else {
            // protocol §4.1: a session is begun and confirmed over streams only.
            let Via::Channel(contact) = via else { return Err(PacketError::UnknownIndex) };
            self.confirming_control(ctx, contact, index, packet)?;
        }
        self.settle(ctx);
        Ok(())
    }

    /// Frames went out to the peer since the last call, by `via`; every counter below `sealed` is used.
    pub(crate) fn on_data_sent(&mut self, ctx: &mut Context<'_>, via: Via, sealed: u64) {
        self.direct.on_traffic();
        self.rest.on_use(ctx.now);
        self.sealed = sealed;
        if let Some(path) = self.path_at(via) {
            path.on_data_sent(ctx.now);
        }
        self.settle(ctx);
    }

    /// Data of the peer came by datagram from an address that none of its paths has.
    pub(crate) fn on_heard_from(&mut self, ctx: &mut Context<'_>, from: SocketAddr) {
        self.direct_follow(ctx, from);
        self.settle(ctx);
    }

    /// No datagram reaches `address` any more.
    pub(crate) fn on_unreachable(&mut self, ctx: &mut Context<'_>, address: SocketAddr) {
        self.direct_drop(address);
        self.settle(ctx);
    }

    /// This node's candidates changed: they are told, and a round begins.
    pub(crate) fn on_candidates_changed(&mut self, ctx: &mut Context<'_>) {
        self.direct.on_own_candidates_changed(ctx.now);
        self.direct_tcp.on_changed();
        self.settle(ctx);
    }

    /// `address` of this node is gone.
    pub(crate) fn on_address_lost(&mut self, ctx: &mut Context<'_>, address: SocketAddr) {
        self.direct.shake(ctx.now, address);
        self.settle(ctx);
    }

    /// The addresses of this node, or its network, changed.
    pub(crate) fn on_network_changed(&mut self, ctx: &mut Context<'_>, why: &'static str) {
        if self.session.is_some() && ctx.local.has_udp {
            self.direct.begin(ctx.now, why);
        }
        self.direct_tcp.on_changed();
        // Whether what worked still works is not left to the next heartbeat.
        self.direct.question(ctx.now);
        self.direct_tcp.want_pings(ctx.now);
        self.settle(ctx);
    }

    /// The data plane wants this told to the peer. A report of an association that was replaced meanwhile is dropped: said in
    /// the new one, it would release packets that never arrived.
    pub(crate) fn acknowledge(&mut self, ctx: &mut Context<'_>, via: Option<Via>, report: &AckReport) {
        let session = self.session.as_ref();
        if report.index().is_some_and(|index| session.is_some_and(|session| session.has_index(index))) {
            self.last_report = (report.paths().to_vec(), report.floor());
            if report.is_news() {
                // Something arrived: a pair in which only the other side sends has traffic as well.
                self.direct.on_traffic();
                self.rest.on_use(ctx.now);
                if let Some(Via::Tcp(link)) = via {
                    self.direct_tcp.on_data(link);
                }
            }
            let (back, way) = (via.and_then(|via| self.way_back(via)), self.way());
            // What came again somebody else may have brought, who does not pass on what is said of it.
            let beside = way.filter(|_| back.is_some() && back != way && !report.is_news());
            for via in back.or(way).into_iter().chain(beside) {
                self.reply(ctx, via, &Control::Ack { paths: report.paths().to_vec(), floor: report.floor() });
            }
        }
    }

    /// The data plane ran out of what its key may seal: rekey now (protocol §4.8).
    pub(crate) fn want_rekey(&mut self, ctx: &mut Context<'_>) {
        rekey::begin(self, ctx);
        self.settle(ctx);
    }

    /// A user here wants data of both directions to take these paths.
    pub(crate) fn want_path(&mut self, ctx: &mut Context<'_>, wanted: Wanted) {
        self.want_session(ctx, "a user wants a path");
        self.wish(ctx, wanted);
        self.settle(ctx);
    }

    /// Sends ECHO; whether there was a session and a way to send it by.
    pub(crate) fn echo(&mut self, ctx: &mut Context<'_>, id: u64) -> bool {
        self.rest.on_use(ctx.now);
        self.send(ctx, &Control::Echo { id })
    }

    /// This node's own HELLO changed.
    pub(crate) fn announce(&mut self, ctx: &mut Context<'_>) {
        self.hello_sent = None;
        self.hello_acked = None;
        // What it knows of this node is to be true.
        self.end_sleep(ctx, "this node has something to say of itself", Duration::ZERO);
        self.settle(ctx);
    }

    /// Says BYE.
    pub(crate) fn leave(&mut self, ctx: &mut Context<'_>, reason: u8) {
        self.send(ctx, &Control::Bye { reason });
    }

    /// [`Self::poll_timeout`], as it was when the peer was last changed: asked for all peers at each input, and so not reckoned anew.
    pub(crate) const fn due(&self) -> Option<Deadline> {
        self.due
    }

    /// To be called after each change.
    pub(crate) fn reckon(&mut self) {
        self.due = self.poll_timeout();
    }

    /// When to call [`Self::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        let mut next = None;
        if self.session.is_some() {
            next = Deadline::earlier(next, self.direct.poll_timeout(self.routed.is_some(), self.is_barred));
            next = Deadline::earlier(next, self.direct_tcp.poll_timeout());
        }
        if self.contact.is_some() {
            next = Deadline::earlier(next, self.first.deadline());
            next = Deadline::earlier(next, self.path.as_ref().and_then(Path::poll_timeout));
            next = Deadline::earlier(next, self.relay_udp.poll_timeout());
            next = Deadline::earlier(next, self.relay_udp_due(self.is_well_direct()));
        }
        if self.way().is_some() {
            if let Some(session) = &self.session {
                next = Deadline::earlier(next, Some(session.poll_timeout()));
            }
            next = Deadline::earlier(next, self.hello_due());
            next = Deadline::earlier(next, self.resume_due());
            next = Deadline::earlier(next, self.wish_due());
        } else if let Some(session) = &self.session {
            next = Deadline::earlier(
                next,
                Some(Deadline::new(session.dies_at(), "the session's keys are too old")),
            );
        }
        if self.session.is_some() {
            next = Deadline::earlier(next, self.member.poll_timeout());
        }
        next = Deadline::earlier(next, self.rest_due());
        next = Deadline::earlier(next, self.silence_due());
        let close = self.closing.front().map(|(at, _)| Deadline::new(*at, "close a replaced association"));
        let drop = self.unconfirmed.front().map(|unconfirmed| {
            Deadline::new(unconfirmed.born + first::UNCONFIRMED_LIFE, "drop a session that nobody confirmed")
        });
        let forget = self.forgotten_at().map(|at| Deadline::new(at, "forget a peer that is gone"));
        [close, drop, forget].into_iter().fold(next, Deadline::earlier)
    }

    /// Time passed.
    pub(crate) fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        while let Some((_, association)) = self.closing.pop_front_if(|(at, _)| *at <= ctx.now) {
            ctx.out.event(Event::CloseAssociation { association });
        }
        while let Some(old) =
            self.unconfirmed.pop_front_if(|old| old.born + first::UNCONFIRMED_LIFE <= ctx.now)
        {
            old.session.release(ctx.indices);
        }
        if self.session.as_ref().is_some_and(|session| session.dies_at() <= ctx.now) {
            tracing::debug!(peer = %self.id.short(), "no rekey succeeded in time: the session is over");
            self.end_session(ctx);
            self.revive(ctx, "the session's keys grew too old");
        }
        if let Some(path) = &mut self.path {
            path.handle_timeout(ctx.now);
        }
        self.drop_dead_stream(ctx);
        self.relay_udp_timeout(ctx);
        self.direct_timeout(ctx);
        self.tcp_timeout(ctx);
        self.member_timeout(ctx);
        self.rest_timeout(ctx);
        if self.way().is_some() {
            rekey::handle_timeout(self, ctx);
        }
        if self.contact.is_some() {
            self.first_timeout(ctx);
        }
        self.settle(ctx);
    }

    /// The path over the stream may have died.
    fn drop_dead_stream(&mut self, ctx: &mut Context<'_>) {
        if !self.path.as_ref().is_some_and(Path::is_dead) {
            return;
        }
        self.drop_stream();
        if self.routed.is_none_or(|via| !via.kind().is_direct()) {
            self.revive(ctx, "the path is dead");
            self.turn_to_next_contact(ctx);
        }
    }

    /// The path over the stream ends, also one that data has left: what was under way in the channel may have gone with it.
    fn drop_stream(&mut self) {
        if self.path.take().is_some() {
            self.abandon(PathKind::RelayWs);
        }
    }

    fn handle_body(&mut self, ctx: &mut Context<'_>, via: Via, body: Option<Control>) {
        match body {
            // The answer proves to the peer that the way by which it asked leads here. Somebody who takes a question from one way to
            // another must not get the answer: it would prove the way that he has made.
            Some(Control::Ping { path, .. }) if !may_be_asked(via, path) => {}
            Some(Control::Ping { id, path, padding }) => {
                // A session that begins costs the relay no more than it must: whether its stream carries what is large this end asks as well.
                let is_small = via.kind().is_stream() && self.last_kind.is_none();
                let pong = pong(via.kind(), id, path, if is_small { vec![] } else { padding });
                if self.routed.is_some_and(|routed| routed.kind() != via.kind())
                    && self.path_of(via).is_some()
                {
                    // Asked on another path than what this node answers on: acknowledgements may have been lost there. Not where no
                    // path is: the address may be somebody else's, who would get more than the peer spent.
                    self.repeat_report(ctx, via);
                }
                self.answer(ctx, via, &pong);
                if let Via::Udp(from) = via
                    && path == PathKind::DirectUdp.slot().number()
                    && let Some(other) = self.direct_other_way(from)
                {
                    self.reply(ctx, other, &pong);
                }
                if let (Via::Channel(_) | Via::RelayUdp(_), Some(Via::Udp(remote))) = (via, self.routed) {
                    // Asked over the relay while data goes directly: the peer doubts the direct path. Should its NAT, or this
                    // node's, have forgotten the mapping, then a packet from this side opens it again.
                    if let Some(path) = self.direct.path_mut(remote) {
                        path.want_ping(ctx.now);
                    }
                }
            }
            Some(Control::Pong { id, path: number, .. }) => {
                let contact = match via {
                    Via::Channel(contact) if number == PATH_NUMBER => contact,
                    // A path number of a later version.
                    Via::Channel(_) => return,
                    Via::Udp(from) => return self.direct_on_pong(ctx, from, id, number),
                    Via::Tcp(link) => return self.tcp_on_pong(ctx, link, id, number),
                    Via::RelayUdp(contact) if number == PathKind::RelayUdp.slot().number() => {
                        return self.relay_udp_on_pong(ctx, contact, id);
                    }
                    Via::RelayUdp(_) => return,
                };
                // A PONG proves the path it came over, so it counts only on the contact in use.
                let answered = self.contact == Some(contact)
                    && self.path.as_mut().is_some_and(|path| path.on_pong(ctx.now, id));
                if answered {
                    self.on_session_answers(ctx);
                }
                self.drop_dead_stream(ctx);
            }
            Some(Control::Hello(hello)) => self.on_hello(ctx, via, hello),
            Some(Control::HelloAck { revision }) if revision == ctx.hello.revision => {
                self.hello_acked = Some(revision)
            }
            Some(Control::Ack { mut paths, floor }) => {
                self.drop_lies(&mut paths);
                self.on_acks(ctx.now, &paths);
                ctx.out.event(Event::Acked { slot: self.slot, paths, floor });
            }
            Some(Control::Candidates { revision, list, tcp }) => {
                self.answer(ctx, via, &Control::CandidatesAck { revision });
                self.direct_on_candidates(ctx, revision, list, tcp);
            }
            Some(Control::TcpTry) => self.tcp_on_try(ctx),
            Some(Control::CandidatesAck { revision }) => self.direct_on_candidates_ack(revision),
            Some(Control::Resume { number, kind, mut paths, floor }) => {
                self.drop_lies(&mut paths);
                self.answer(ctx, via, &Control::ResumeAck { number });
                // The highest number counts: a packet that was held back takes nothing back.
                if number > self.resume.heard {
                    self.resume.heard = number;
                    self.resume.peer_kind = Some(kind);
                    ctx.out.event(Event::Acked { slot: self.slot, paths, floor });
                }
            }
            Some(Control::ResumeAck { number }) => {
                if number == self.resume.number {
                    self.resume.said = None;
                }
            }
            Some(Control::Rest { number }) => self.on_rest(ctx, via, number),
            Some(Control::RestAnswer { number, is_over }) => self.on_rest_answer(ctx, number, is_over),
            Some(Control::Use { number, wanted }) => {
                self.rest.on_use(ctx.now);
                if self.on_use(ctx.now, number, wanted) {
                    self.answer(ctx, via, &Control::UseAck { number });
                }
            }
            Some(Control::UseAck { number }) => self.on_use_ack(number),
            Some(Control::RekeyInit { packet }) => rekey::on_init(self, ctx, via, &packet),
            Some(Control::RekeyResponse { packet }) => rekey::on_response(self, ctx, &packet),
            Some(Control::Bye { .. }) => {
                self.end_session(ctx);
                // A good-bye that was overtaken by the introduction of the next life says nothing of that one (relays pass
                // control before data).
                let is_stale = match via {
                    Via::Channel(contact) | Via::RelayUdp(contact) => self.contact != Some(contact),
                    Via::Udp(_) | Via::Tcp(_) => false,
                };
                if !is_stale {
                    self.first.cancel(ctx);
                    self.contact = None;
                    self.path = None;
                }
            }
            Some(Control::Echo { id }) => {
                self.rest.on_use(ctx.now);
                self.answer(ctx, via, &Control::EchoReply { id });
            }
            Some(Control::Membership(message)) => self.member_message(ctx, message),
            Some(Control::EchoReply { id }) => ctx.out.event(Event::EchoReply { slot: self.slot, id, via }),
            // The acknowledgement of an older HELLO, or a body of a later version.
            Some(Control::HelloAck { .. }) | None => {}
        }
    }

    /// The peer says who it is. What is not taken in is not acknowledged, and so comes again (protocol §6).
    fn on_hello(&mut self, ctx: &mut Context<'_>, via: Via, hello: Hello) {
        let revision = hello.revision;
        // Packets may overtake each other; an older word does not take back a newer one. Revisions wrap.
        let is_older = self.revision_heard.is_some_and(|known| revision.wrapping_sub(known) > u32::MAX / 2);
        // The revision alone is no news to anybody.
        let is_known = |known: &Hello| Hello { revision, ..known.clone() } == hello;
        let is_news = !is_older && !self.about.as_ref().is_some_and(is_known);
        if is_news && !self.hello_budget.take(ctx.now) {
            return;
        }
        self.answer(ctx, via, &Control::HelloAck { revision });
        if !is_older {
            self.revision_heard = Some(revision);
        }
        if is_news {
            if self.about.is_none() {
                ctx.out.weigh_demand_anew();
            }
            self.about = Some(hello.clone());
            ctx.out.event(Event::PeerHello { slot: self.slot, hello });
        }
    }

    /// Says ACK without a data plane.
    #[cfg(test)]
    pub(crate) fn say_ack_for_test(
        &mut self,
        ctx: &mut Context<'_>,
        path: u8,
        highest: u64,
        bitmap: [u64; 4],
    ) {
        let paths = vec![PathAck { path, highest, bitmap }];
        self.send(ctx, &Control::Ack { paths, floor: 0 });
    }

    /// What its data plane reports when every packet up to `highest` came by `path`.
    #[cfg(test)]
    pub(crate) fn report_for_test(&self, path: crate::session::PathSlot, highest: u64) -> AckReport {
        AckReport::for_test(self.session.as_ref().map(Session::index_for_test), path.number(), highest)
    }

    /// Rounds of checks begun in this session.
    #[cfg(test)]
    pub(crate) const fn rounds_for_test(&self) -> u64 {
        self.direct.rounds()
    }

    /// Says whatever, the way that data goes.
    #[cfg(test)]
    pub(crate) fn say_for_test(&mut self, ctx: &mut Context<'_>, body: &Control) {
        self.send(ctx, body);
    }

    /// Says PING with the number of this path, the way that data goes.
    #[cfg(test)]
    pub(crate) fn say_ping_for_test(&mut self, ctx: &mut Context<'_>, path: u8) {
        self.send(ctx, &Control::Ping { id: 7, path, padding: vec![] });
    }

    /// What follows from any change: PINGs and HELLOs that are due, CONFIRMED, the route and the state to show.
    fn settle(&mut self, ctx: &mut Context<'_>) {
        let is_gone = self.contact.is_none() && self.session.is_none();
        self.gone = if is_gone { self.gone.or(Some(ctx.now)) } else { None };
        self.member_settle(ctx);
        self.rest_or_wake(ctx);
        self.relay_udp_settle(ctx, self.is_well_direct());
        if self.contact.is_some() {
            self.probe(ctx);
            let is_reached = self.path.is_some() || self.routed.is_some_and(|via| via.kind().is_direct());
            // Whatever led here, somebody who is there and neither reached nor asked is asked.
            if self.first.is_idle() && !self.rest.is_asleep() && (self.session.is_none() || !is_reached) {
                self.first.schedule(ctx.now + first::GRACE, "nothing else is under way");
            }
        }
        self.direct_settle(ctx);
        self.tcp_settle(ctx);
        self.tell_patience(ctx);
        self.show(ctx);
        // After the route: what is said goes by it.
        self.member_say(ctx);
        if self.way().is_some() {
            if self.hello_is_due(ctx.now) {
                self.hello_sent = Some(ctx.now);
                let hello = Control::Hello(ctx.hello.clone());
                self.send(ctx, &hello);
            }
            if self.resume_due().is_some_and(|due| due.is_due(ctx.now)) {
                self.repeat_resume(ctx);
            }
            if self.wish_due().is_some_and(|due| due.is_due(ctx.now)) {
                self.say_wish(ctx);
            }
        }
    }

    /// Sends the PING that is due.
    fn probe(&mut self, ctx: &mut Context<'_>) {
        let Some(contact) = self.contact else { return };
        if let (Some(session), Some(path)) = (&mut self.session, &mut self.path)
            && path.poll_ping(ctx.now).is_some()
        {
            let id = ctx.rng.next_u64();
            if let Some(packet) = session.seal(ctx.now, &full_size_ping(id)) {
                ctx.out.forward(contact, &packet);
            }
            path.on_ping_sent(ctx.now, id);
        }
    }

    /// Something opened under the session: the other side has it. A handshake beside it is put off, and a path that was given
    /// up is asked again.
    fn on_session_heard(&mut self, ctx: &mut Context<'_>) {
        if self.contact.is_none() || self.is_usable() || self.first.is_confirming() {
            return;
        }
        if self.first.is_asked() {
            self.first.cancel(ctx);
            self.first.schedule(ctx.now + first::GRACE, "the session was heard and did not answer");
        }
        if self.path.is_none() {
            self.path = Some(self.new_path(ctx.now));
        }
    }

    /// A path of the session answered: a handshake beside it is not needed.
    fn on_session_answers(&mut self, ctx: &mut Context<'_>) {
        if !self.first.is_confirming() {
            self.first.cancel(ctx);
        }
    }

    /// Whether there is a session and a proven path.
    fn is_usable(&self) -> bool {
        let relayed = self.contact.is_some() && self.path.as_ref().is_some_and(Path::is_usable);
        let relayed = relayed || self.relay_udp.path().is_some_and(Path::is_usable);
        self.session.is_some() && (relayed || self.direct_paths().any(|(_, path)| path.is_usable()))
    }

    /// The contact to tell the relay CONFIRMED for, once per introduction.
    pub(crate) fn take_confirmation(&mut self) -> Option<Contact> {
        if self.confirmed_contact || self.shown != PeerState::Connected {
            return None;
        }
        self.confirmed_contact = true;
        self.contact
    }

    /// Whether a direct path came into doubt, so that it is worth asking where this node is seen; once.
    pub(crate) fn take_mapping_doubt(&mut self) -> bool {
        self.direct.take_mapping_doubt()
    }

    /// When HELLO is to be said again: until the peer acknowledged the current revision.
    fn hello_due(&self) -> Option<Deadline> {
        let wanted = self.hello_acked.is_none() && self.is_usable();
        let sent = self.hello_sent.filter(|_| wanted)?;
        Some(Deadline::new(sent + HELLO_REPEAT, "repeat HELLO"))
    }

    fn hello_is_due(&self, now: Instant) -> bool {
        let never_said = self.hello_sent.is_none() && self.is_usable();
        never_said || self.hello_due().is_some_and(|due| due.is_due(now))
    }

    /// Makes `session` the session; the one before stays open at the receiver for what is under way.
    fn establish(&mut self, ctx: &mut Context<'_>, mut session: Session) {
        self.end_session(ctx);
        self.drop_rested(ctx);
        // What was kept of it as a member while there was no session is told anew.
        self.member.end();
        self.rest.on_established(ctx.now);
        self.incompatible = None;
        session.shorten_rotation(self.rotation_hint);
        if ctx.trust.is_none() {
            session.data.start(self.slot, ctx.out);
        }
        self.hello_sent = None;
        self.hello_acked = None;
        self.revision_heard = None;
        self.acked = [0; PATH_SLOTS];
        self.confirmed = [0; PATH_SLOTS];
        self.sealed = 0;
        self.last_report = (Vec::new(), 0);
        self.resume = Resume::default();
        self.renew_wish(ctx.now);
        self.last_kind = None;
        self.relay_udp = RelayUdp::begin(ctx.now);
        self.session = Some(session);
        self.met = Some(ctx.now);
        if let Some(address) = self.rest.take_direct() {
            self.direct_hint(ctx, address);
        }
        self.drop_unconfirmed(ctx);
    }

    fn end_session(&mut self, ctx: &mut Context<'_>) {
        self.resume_sealing(ctx);
        if let Some(old) = self.take_session(ctx) {
            old.release(ctx.indices);
        }
    }

    /// Ends the session but for its control keys.
    fn take_session(&mut self, ctx: &mut Context<'_>) -> Option<Session> {
        let old = self.session.take()?;
        // A path is proven by PINGs of a session: it ends with it.
        self.path = None;
        self.relay_udp_drop();
        self.direct.clear();
        self.tcp_clear(ctx);
        self.tell_sources(ctx);
        self.member.end();
        if !old.data.is_kept() {
            self.closing.push_back((ctx.now + CLOSE_AFTER, old.association()));
        }
        if self.closing.len() > MAX_CLOSING
            && let Some((_, association)) = self.closing.pop_front()
        {
            ctx.out.event(Event::CloseAssociation { association });
        }
        Some(old)
    }

    /// The peer should be there and does not answer: prove anew, and begin a handshake in case it lost the session.
    fn revive(&mut self, ctx: &mut Context<'_>, why: &'static str) {
        if self.contact.is_none() {
            return;
        }
        self.first.schedule(ctx.now + self.turn(), why);
    }

    /// How long this node leaves the beginning of a handshake to the other (protocol §4.2).
    const fn turn(&self) -> Duration {
        match self.role {
            Role::Lower => Duration::ZERO,
            Role::Higher => first::GRACE,
        }
    }

    fn new_path(&self, now: Instant) -> Path {
        let mut path = Path::new(now, PathKind::RelayWs);
        path.set_heartbeat(self.heartbeat_hint);
        path
    }

    /// Seals and sends the way that data goes; `false` without session or way.
    fn send(&mut self, ctx: &mut Context<'_>, body: &Control) -> bool {
        self.way().is_some_and(|via| self.send_by(ctx, via, body, self.room(via)))
    }

    /// Seals and sends the way the question came, if that is one that packets may be sent by: anybody can write any address on a
    /// datagram.
    fn reply(&mut self, ctx: &mut Context<'_>, via: Via, body: &Control) {
        if !self.may_answer(ctx, via) {
            return;
        }
        self.send_by(ctx, via, body, self.room(via));
    }

    /// Replies to what the peer asked, unless it asks from too many places.
    fn answer(&mut self, ctx: &mut Context<'_>, via: Via, body: &Control) {
        if let Via::Udp(from) = via
            && self.direct.path(from).is_none()
            && !self.stray_budget.take(ctx.now)
        {
            return;
        }
        self.reply(ctx, via, body);
    }

    /// Seals and sends whole, whatever the way is known to carry: that is the question.
    fn ask(&mut self, ctx: &mut Context<'_>, via: Via, body: &Control) {
        self.send_by(ctx, via, body, None);
    }

    fn send_by(&mut self, ctx: &mut Context<'_>, via: Via, body: &Control, room: Option<usize>) -> bool {
        let packet = self.session.as_mut().and_then(|session| session.seal(ctx.now, body));
        packet.as_ref().inspect(|packet| ctx.out.packet(via, packet, room)).is_some()
    }
}

/// Whether a PING with this number is one that is sent by `via`.
fn may_be_asked(via: Via, number: u8) -> bool {
    number == via.slot().number() || (number == CHECK && via.kind() == PathKind::DirectUdp)
}

/// The answer to a PING that came by a path of this kind: as large as that was, up to what every such path carries. Else an end whose own
/// direction carries large packets would hear nothing of the other one, which does not, and call that connected.
fn pong(kind: PathKind, id: u64, path: u8, mut padding: Vec<u8>) -> Control {
    let full =
        if kind.is_stream() { stream_ping(kind, id) } else { datagram_ping(id, base_size(kind), path) };
    if let Control::Ping { padding: most, .. } = full {
        padding.truncate(most.len());
    }
    Control::Pong { id, path, padding }
}

/// A PING for the relay's stream.
fn full_size_ping(id: u64) -> Control {
    stream_ping(PathKind::RelayWs, id)
}

/// A PING for a stream of this kind whose packet is [`FULL_SIZE`] bytes, up to the few that CBOR's integers vary by.
fn stream_ping(kind: PathKind, id: u64) -> Control {
    let padding = FULL_SIZE - HEADER_LEN - TAG_LEN - PING_BODY;
    Control::Ping { id, path: kind.slot().number(), padding: vec![0; padding] }
}
