//! The document of `status --json` (interface: a contract), made from what everybody knows.

use crate::access::AccessDrop;
use crate::control::names::{Named, display_names};
use crate::control::status as doc;
use crate::device::DropCounts;
use crate::plane::{MoveCost, Routes};
use crate::plane::{PeerCounters, PlaneCounters, SwitchCounters};
use crate::switch::{InboundDrop, LoopState, OutboundDrop, Protection, Reach};
use shadowmesh_proto::endpoint::Drops;
use shadowmesh_proto::endpoint::event::{PeerState, Via};
use shadowmesh_proto::endpoint::status::{
    MemberStatus, PeerStatus, RelayStatus, SessionStatus, SwitchStatus,
};
use shadowmesh_proto::handshake::PEER_PATTERN;
use shadowmesh_proto::ids::{NodeId, PeerSlot};
use shadowmesh_proto::membership::{ADMITTED, Verdict};
use shadowmesh_proto::session::OpenError;
use shadowmesh_proto::ticket::Address;
use shadowmesh_proto::transmit::RelayNo;
use shadowmesh_proto::wire::control::{Cidr4, Cidr6};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The KEM in the pattern of every peer handshake (protocol §4).
const KEM: &str = "ML-KEM-768";

pub(super) fn relay(
    status: &RelayStatus,
    address: &str,
    connecting: bool,
    refused: Option<&str>,
) -> doc::Relay {
    doc::Relay {
        url: relay_url(address),
        state: match (status.registered, connecting) {
            (true, _) => doc::RelayState::Connected,
            (false, true) => doc::RelayState::Connecting,
            (false, false) => doc::RelayState::Down,
        },
        rtt_ms: status.rtt.map(millis),
        observed_tcp: status.observed_tcp.map(|address| address.to_string()),
        observed_udp: status.observed_udp.map(|address| address.to_string()),
        refused: refused.filter(|_| !status.registered).map(ToOwned::to_owned),
        proxy: None,
    }
}

/// A relay's address as people and programs read it.
pub(crate) fn relay_url(address: &str) -> String {
    let Address { is_tls, host_port } = Address::of(address);
    let scheme = if is_tls { Address::TLS } else { "ws://" };
    format!("{scheme}{host_port}{}", shadowmesh_proto::wire::relay::HTTP_PATH)
}

/// The peers as they can be called, in the same order, where `called` says what each would be called alone. `own` is this node,
/// which keeps or yields its name like any other.
pub(super) fn named(
    own: (NodeId, &str),
    peers: &[PeerStatus],
    called: impl Fn(&PeerStatus) -> String,
) -> Vec<Named> {
    let called: Vec<(NodeId, String)> = peers.iter().map(|peer| (peer.id, called(peer))).collect();
    let others = called.iter().map(|(id, name)| (*id, name.as_str()));
    let nodes: Vec<(NodeId, &str)> = std::iter::once(own).chain(others).collect();
    let names = display_names(&nodes).into_iter().skip(1);
    peers
        .iter()
        .zip(names)
        .map(|(peer, name)| Named { id: peer.id, name, addresses: addresses(peer) })
        .collect()
}

/// What it said its addresses are.
pub(super) fn addresses(peer: &PeerStatus) -> Vec<IpAddr> {
    let Some(hello) = &peer.hello else { return Vec::new() };
    let v4 = hello.ipv4.map(|cidr| IpAddr::V4(cidr.address()));
    v4.into_iter().chain(hello.ipv6.map(|cidr| IpAddr::V6(cidr.address()))).collect()
}

/// Every peer, under the names of [`named`]. `relay_address` names a relay for people.
pub(super) fn peers(
    peers: &[PeerStatus],
    names: Vec<Named>,
    routes: &Routes,
    relay_address: impl Fn(RelayNo) -> String,
) -> Vec<doc::Peer> {
    peers.iter().zip(names).map(|(peer, named)| one_peer(peer, named.name, routes, &relay_address)).collect()
}

fn one_peer(
    peer: &PeerStatus,
    name: String,
    routes: &Routes,
    relay_address: impl Fn(RelayNo) -> String,
) -> doc::Peer {
    let counters = routes.counters(peer.slot);
    let count = |field: fn(&PeerCounters) -> &AtomicU64| counters.map_or(0, |c| field(c).load(Relaxed));
    let by_reach = |field: fn(&PeerCounters) -> &[AtomicU64]| {
        counters
            .map_or_else(BTreeMap::new, |c| counted(Reach::ALL.iter().map(|reach| reach.name()), field(c)))
    };
    let hello = peer.hello.as_ref();
    let far_end = |via| match via {
        Via::Channel(contact) | Via::RelayUdp(contact) => relay_address(contact.relay),
        Via::Udp(address) => address.to_string(),
        Via::Tcp(link) => link.remote.to_string(),
    };
    let path = peer.path.map(|path| path.via.kind());
    doc::Peer {
        id: peer.id.to_base32(),
        name,
        addresses: hello.map_or_else(Vec::new, |hello| address_texts(hello.ipv4, hello.ipv6)),
        state: peer.state.into(),
        path: peer.path.map(|path| doc::Path {
            kind: path.via.kind().into(),
            remote: far_end(path.via),
            rtt_ms: path.rtt.map(millis),
            mtu: path.mtu,
            loss_pct: path.loss.map(per_cent),
            why: path.why.to_owned(),
        }),
        standby: peer
            .standby
            .iter()
            .map(|path| doc::StandbyPath {
                kind: path.via.kind().into(),
                remote: far_end(path.via),
                rtt_ms: path.rtt.map(millis),
            })
            .collect(),
        peer_path: peer.peer_path.map(Into::into),
        paths_agree: path.is_some() && path == peer.peer_path,
        handshake: peer.session.map(handshake),
        member: peer.member.as_ref().map(member),
        tx_bytes: count(|c| &c.tx_bytes),
        rx_bytes: count(|c| &c.rx_bytes),
        tx_frames: count(|c| &c.tx_frames),
        rx_frames: count(|c| &c.rx_frames),
        tx_dropped: count(|c| &c.tx_dropped),
        rx_dropped: count(|c| &c.rx_dropped),
        tx_flooded: by_reach(|c| &c.tx_flooded),
        tx_over_budget: by_reach(|c| &c.tx_over_budget),
        rx_over_budget: by_reach(|c| &c.rx_over_budget),
        rx_refused: counters.map_or_else(BTreeMap::new, |c| {
            counted(InboundDrop::ALL.iter().map(|cause| cause.name()), &c.rx_refused)
        }),
        resent: count(|c| &c.resent),
        lost: count(|c| &c.lost),
        switches: peer.switches,
        wanted: peer.wanted.into(),
        last_switch: peer.last_switch.map(|switch| last_switch(switch, routes.cost_of_move(peer.slot))),
        next_direct_try_s: peer.next_direct_try.map(|span| span.as_secs()),
        asleep: peer
            .asleep
            .filter(|_| peer.state == PeerState::Idle)
            .map(|asleep| doc::Asleep { age_s: asleep.age.as_secs(), last_path: asleep.last_path.into() }),
        incompatible: peer
            .incompatible
            .filter(|_| peer.session.is_none())
            .map(|mismatch| mismatch.sentence("it")),
        barred: None,
    }
}

fn member(member: &MemberStatus) -> doc::PeerMember {
    let mut document = doc::PeerMember {
        refuses_us: (member.standing > ADMITTED).then(|| refusal_in_words(member.standing).to_owned()),
        ..doc::PeerMember::default()
    };
    match &member.verdict {
        Verdict::Pending => document.standing = "pending".to_owned(),
        Verdict::Admitted(admission) => {
            document.standing = "admitted".to_owned();
            document.tags = admission.facts.tags.iter().map(ToString::to_string).collect();
            document.until = Some(admission.until);
        }
        Verdict::Refused(reason) => {
            document.standing = "refused".to_owned();
            document.why = Some(reason.to_string());
        }
    }
    document
}

/// What stands for the file where the rules in force are those of the network's record.
pub(crate) const RULES_OF_RECORD: &str = "the network's record";
/// What it takes where nobody renews a certificate.
pub(crate) const ANOTHER_INVITE: &str = "it takes an invite (`sudo shadowmesh invite` on an admin's host)";
/// Of this host's own.
pub(crate) const EXPIRED: &str =
    "this host's certificate has expired: it takes an invite (`sudo shadowmesh invite` on an admin's host)";

/// Why a peer does not admit this node, from the number that it said (protocol §8.5).
pub(crate) const fn refusal_in_words(standing: u8) -> &'static str {
    match standing {
        2 => "what this node shows does not verify there",
        3 => "the certificate is for another node",
        4 => "this node was revoked",
        5 => "the certificate is not good yet by its clock",
        6 => "the certificate has expired",
        7 => "who certified this node is no admin",
        8 => "the certificate's issuer is not the delegate of the invite",
        9 => "the certificate goes beyond the invite",
        10 => "the admin who vouched for this node was removed",
        11 => "the invite was revoked",
        12 => "the invite had ended before it met this node",
        13 => "an admin has to approve this node",
        14 => "others used up the invite",
        _ => "for a reason that this version does not know",
    }
}

fn handshake(session: SessionStatus) -> doc::Handshake {
    doc::Handshake {
        pattern: PEER_PATTERN.to_owned(),
        kem: KEM.to_owned(),
        cipher: session.cipher.into(),
        age_s: session.age.as_secs(),
        rekeys: session.rekeys,
        version: session.version,
    }
}

/// The addresses as texts.
pub(super) fn address_texts(ipv4: Option<Cidr4>, ipv6: Option<Cidr6>) -> Vec<String> {
    ipv4.map(|cidr| cidr.to_string()).into_iter().chain(ipv6.map(|cidr| cidr.to_string())).collect()
}

/// What was dropped, by cause: the control side's counts, the inbound thread's, and the device's.
pub(super) fn dropped(control: Drops, plane: &PlaneCounters, device: DropCounts) -> BTreeMap<String, u64> {
    let opened = OpenError::ALL.iter().zip(&plane.not_opened);
    let opened = opened.map(|(cause, counter)| (cause.name(), counter.load(Relaxed)));
    let others = [
        ("control_forged", control.forged),
        ("control_out_of_place", control.out_of_place),
        ("control_queue_full", plane.control_dropped.load(Relaxed)),
        ("handshake", control.handshake),
        ("stun_unasked", control.unasked + plane.stun_unasked.load(Relaxed)),
        ("stun_queue_full", plane.stun_dropped.load(Relaxed)),
        ("fragments_given_up", plane.fragments_given_up.load(Relaxed)),
        ("handshake_by_datagram", plane.handshake_by_datagram.load(Relaxed)),
        ("relayed_not_bound", plane.not_bound.load(Relaxed)),
        ("datagrams_refused", plane.datagrams_refused.load(Relaxed)),
        ("no_such_key", plane.unknown_index.load(Relaxed)),
        ("no_such_kind", plane.unknown_kind.load(Relaxed)),
        ("own_packets", plane.own_packets.load(Relaxed)),
        ("not_let_in", plane.not_let_in.load(Relaxed)),
        ("device_truncated", device.truncated),
        ("device_malformed", device.malformed),
    ];
    let denied = AccessDrop::ALL.iter().zip(&plane.denied);
    let denied = denied.map(|(cause, counter)| (cause.as_str(), counter.load(Relaxed)));
    opened.chain(denied).chain(others).map(|(cause, count)| (cause.to_owned(), count)).collect()
}

/// What the Ethernet switch does; `name` tells what a peer is called.
pub(super) fn switch(
    protection: Protection,
    counters: &SwitchCounters,
    name: impl Fn(PeerSlot) -> Option<String>,
) -> doc::EthernetSwitch {
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let (state, with) = match counters.loop_state() {
        LoopState::None => (doc::LoopState::None, None),
        LoopState::Blocked(slot) => (doc::LoopState::Blocked, name(slot)),
        LoopState::Contained(slot) => (doc::LoopState::Contained, name(slot)),
    };
    doc::EthernetSwitch {
        filters: protection.filters.iter().map(|filter| filter.name().to_owned()).collect(),
        flood_budget: protection.flood_budget.to_string(),
        arp_answered: count(&counters.arp_answered),
        neighbours_answered: count(&counters.neighbours_answered),
        stations: count(&counters.stations),
        groups: count(&counters.groups),
        moves: count(&counters.moves),
        flaps: count(&counters.flaps),
        held: count(&counters.held),
        dropped: counted(OutboundDrop::ALL.iter().map(|cause| cause.name()), &counters.dropped),
        loops: doc::Loop { state, with, found: count(&counters.loops) },
    }
}

/// Those of the counters that counted anything, by their names.
fn counted(names: impl Iterator<Item = &'static str>, counters: &[AtomicU64]) -> BTreeMap<String, u64> {
    let counts = names.zip(counters).map(|(name, counter)| (name.to_owned(), counter.load(Relaxed)));
    counts.filter(|(_, count)| *count > 0).collect()
}

fn last_switch(switch: SwitchStatus, cost: MoveCost) -> doc::Switch {
    doc::Switch {
        from: switch.from.into(),
        to: switch.to.into(),
        reason: switch.why.to_owned(),
        resent: cost.resent,
        duplicates: cost.duplicates,
        reordered: cost.reordered,
        lost: cost.lost,
        gap_ms: cost.gap.map(millis),
        age_s: switch.age.as_secs(),
    }
}

/// The far end of a direct path.
pub(super) fn remote(via: Via) -> Option<String> {
    match via {
        Via::Udp(address) => Some(address.to_string()),
        Via::Tcp(link) => Some(link.remote.to_string()),
        Via::Channel(_) | Via::RelayUdp(_) => None,
    }
}

/// Thousandths as per cent.
fn per_cent(per_mille: u64) -> f64 {
    u32::try_from(per_mille).map_or(100.0, |per_mille| f64::from(per_mille) / 10.0)
}

/// Milliseconds, to a microsecond.
pub(super) fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}
