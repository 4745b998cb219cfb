//! What relays say, and what is said to them (protocol §3).
//!
//! A relay introduces and forwards; it decides nothing here. Everything in its messages is a hint: bounded, and never the
//! end of a peer session. A link that breaks the protocol is closed and opened again by the owner.

use super::event::{Contact, Event, RelayBinding};
use super::status::RelayStatus;
use super::{Endpoint, outbox::Outbox};
use crate::ids::{ChannelId, NodeId, RelayId};
use crate::link::{ClientInput, ClientLink, LinkError, Registration};
use crate::path::liveness::{HEARTBEAT, HEARTBEAT_MAX, HEARTBEAT_MIN};
use crate::peer::Peer;
use crate::rng::Rng;
use crate::time::Deadline;
use crate::transmit::RelayNo;
use crate::traverse::mapping::Mapping;
use crate::wire::relay::{Control, GoneReason};
use crate::wire::relayed::{BindingTag, Nonce};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// A link whose handshake and registration take longer is given up: a little more than the relay allows for them.
const REGISTER_WITHIN: Duration = Duration::from_secs(12);
/// While a peer behind it is in doubt, a relay is asked this often.
const DOUBT_EVERY: Duration = Duration::from_secs(1);
/// PONG within this, or the connection is given up (protocol §3.7), unless something else came by it meanwhile: of a queue that is worked
/// off slowly, here or there, the PONG is the last.
const PONG_WITHIN: Duration = Duration::from_secs(3);
/// PONG within this, whatever else comes: what this node says does not get through.
const PONG_AT_LAST: Duration = Duration::from_secs(15);
/// A relay that speaks no version of the protocol that this node does is asked again after this long: somebody may have upgraded it.
const INCOMPATIBLE: Duration = Duration::from_secs(60);
/// Most peers taken from one relay: what a relay allows in a network, and a bound on what a lying one can make a node
/// remember.
const MAX_PEERS: usize = 512;
/// Each handshake with a peer that is only a name so far puts the next one off by this much: a node that joins a large network,
/// or hears a lying relay, spends a few per cent of a core on it.
const HANDSHAKE_SPACING: Duration = Duration::from_millis(10);

/// A relay and the link to it.
#[derive(Debug)]
pub(super) struct Relay {
    key: RelayId,
    link: Option<Link>,
    rtt: Option<Duration>,
    /// How it saw this node's stream.
    pub(super) observed_tcp: Option<SocketAddr>,
    observed_udp: Option<SocketAddr>,
    /// Where its stream leads.
    remote: Option<SocketAddr>,
    /// Its address of the other family, if it has one.
    other_family: Option<IpAddr>,
    /// What its STUN says of this node's socket. It outlives the stream: the token may be of use until the next one.
    pub(super) mapping: Option<Mapping>,
    /// What it said last of direct links: whether those that it introduces may try them.
    allows_direct: bool,
    /// When it was last asked whether it is there.
    doubted: Option<Instant>,
    /// The nonce that was last said to it, and whether it answered: another one each minute, so that what it has bound is proven
    /// again.
    said: Option<(Nonce, bool)>,
}

/// What lives as long as one stream.
#[derive(Debug)]
struct Link {
    link: ClientLink,
    channels: HashMap<ChannelId, NodeId>,
    heartbeat: Duration,
    heartbeat_timer: Heartbeat,
    /// When anything came by it last.
    heard: Instant,
}

impl Link {
    /// Until when the answer to what was asked at `sent` is waited for.
    fn answer_due(&self, sent: Instant) -> Instant {
        (self.heard.max(sent) + PONG_WITHIN).min(sent + PONG_AT_LAST)
    }
}

#[derive(Debug, Clone, Copy)]
enum Heartbeat {
    Registering { until: Instant },
    Idle { next: Instant },
    Waiting { id: u64, sent: Instant },
    Dead,
}

impl Relay {
    pub(super) const fn new(key: RelayId) -> Self {
        Self {
            key,
            link: None,
            rtt: None,
            observed_tcp: None,
            observed_udp: None,
            remote: None,
            other_family: None,
            mapping: None,
            allows_direct: true,
            doubted: None,
            said: None,
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.link.is_registered())
    }

    pub(super) fn poll_timeout(&self, has_udp: bool) -> Option<Deadline> {
        let stun = self.mapping.as_ref().filter(|_| has_udp).and_then(Mapping::poll_timeout);
        Deadline::earlier(self.heartbeat_due(), stun)
    }

    fn heartbeat_due(&self) -> Option<Deadline> {
        let link = self.link.as_ref()?;
        match link.heartbeat_timer {
            Heartbeat::Registering { until } => {
                Some(Deadline::new(until, "the relay did not accept the registration in time"))
            }
            Heartbeat::Idle { next } => Some(Deadline::new(next, "relay heartbeat")),
            Heartbeat::Waiting { sent, .. } => {
                Some(Deadline::new(link.answer_due(sent), "the relay owes a PONG"))
            }
            Heartbeat::Dead => None,
        }
    }

    pub(super) fn status(&self, relay: RelayNo) -> RelayStatus {
        RelayStatus {
            relay,
            registered: self.is_registered(),
            rtt: self.rtt.filter(|_| self.is_registered()),
            observed_tcp: self.observed_tcp.filter(|_| self.is_registered()),
            observed_udp: self.observed_udp.filter(|_| self.is_registered()),
            version: self.link.as_ref().and_then(|link| link.link.version()),
            udp: self.mapping.as_ref().and_then(Mapping::udp_works),
            mapping: self.mapping.as_ref().and_then(Mapping::behaviour),
        }
    }

    fn send(&mut self, no: RelayNo, out: &mut Outbox, body: &Control) {
        if let Some(link) = &mut self.link {
            match link.link.seal(body) {
                Ok(message) => out.message(no, message),
                Err(error) => tracing::debug!(%error, "nothing could be said to the relay"),
            }
        }
    }

    fn ping(&mut self, now: Instant, no: RelayNo, out: &mut Outbox, id: u64) {
        if let Some(link) = &mut self.link {
            link.heartbeat_timer = Heartbeat::Waiting { id, sent: now };
        }
        self.send(no, out, &Control::Ping { id });
    }
}

impl Endpoint {
    pub(super) fn relay_opened(&mut self, now: Instant, no: RelayNo, remote: Option<SocketAddr>) {
        self.relay_closed(now, no);
        let Some(relay) = self.relays.get_mut(no.0) else {
            return;
        };
        match ClientLink::begin(&self.config.node, relay.key, &mut self.rng) {
            Ok((link, init)) => {
                relay.remote = remote;
                relay.link = Some(Link {
                    link,
                    channels: HashMap::new(),
                    heartbeat: HEARTBEAT,
                    heartbeat_timer: Heartbeat::Registering { until: now + REGISTER_WITHIN },
                    heard: now,
                });
                self.out.message(no, init);
            }
            Err(error) => {
                tracing::warn!(%error, "the relay's pinned key is not usable");
                self.out.event(Event::RelayDead { relay: no });
            }
        }
    }

    /// From now on this relay is the one with that key, and nothing is known of it. A number that there was not yet is the next one.
    pub fn set_relay(&mut self, now: Instant, relay: RelayNo, key: RelayId) {
        if relay.0 >= self.relays.len() {
            self.relays.push(Relay::new(key));
            self.lanes.push(None);
            return;
        }
        self.relay_closed(now, relay);
        if let Some(known) = self.relays.get_mut(relay.0) {
            *known = Relay::new(key);
        }
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.with_peer(now, id, |peer, ctx| peer.forget_relay(ctx, relay));
        }
        self.renew_candidates(now);
        self.after_input(now);
    }

    /// The relay whose stream was opened last has that address as well, of the other family: its STUN is asked there too, for what a peer
    /// may reach that has nothing else.
    pub fn handle_relay_family(&mut self, relay: RelayNo, other: Option<IpAddr>) {
        if let Some(relay) = self.relays.get_mut(relay.0) {
            relay.other_family = other;
        }
    }

    pub(super) fn relay_closed(&mut self, now: Instant, no: RelayNo) {
        if let Some(relay) = self.relays.get_mut(no.0) {
            relay.link = None;
            relay.said = None;
            // Where its next stream is seen is not known yet.
            relay.observed_tcp = None;
        }
        self.out.bind(no, None);
        self.renew_candidates(now);
        self.weigh_demand = true;
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.with_peer(now, id, |peer, ctx| {
                peer.lose_contacts(ctx, |contact| contact.relay == no, "the relay connection is lost");
            });
        }
        self.forget_gone(now);
    }

    pub(super) fn relay_message(
        &mut self,
        now: Instant,
        no: RelayNo,
        message: &[u8],
    ) -> Result<(), LinkError> {
        let keys = self.keys_of_lane(no);
        let Some(link) = self.relays.get_mut(no.0).and_then(|relay| relay.link.as_mut()) else {
            // Still under way when the stream was closed from this side.
            return Ok(());
        };
        let Some(keys) = keys else {
            // The secret was given up meanwhile, and the stream is to be.
            self.out.event(Event::RelayDead { relay: no });
            return Ok(());
        };
        link.heard = now;
        let registration = Registration {
            node: self.config.node.public(),
            network: &keys,
            instance: self.config.instance,
            versions: self.config.versions,
        };
        let input = match link.link.handle(registration, message) {
            Err(LinkError::Version(mismatch)) => {
                // Nothing is wrong with the stream: it is no use to open another at once.
                let sentence = mismatch.sentence("the relay");
                self.out.event(Event::RelayRefused { relay: no, sentence, retry: Some(INCOMPATIBLE) });
                return Ok(());
            }
            other => other?,
        };
        match input {
            ClientInput::Send(reply) => self.out.message(no, reply),
            ClientInput::Control(body) => self.relay_control(now, no, body),
            ClientInput::Forward | ClientInput::Ignored => {}
        }
        Ok(())
    }

    fn relay_control(&mut self, now: Instant, no: RelayNo, body: Control) {
        match body {
            Control::Registered { observed_tcp, stun_token, stun_ports, heartbeat_ms, direct, .. } => {
                let Some(relay) = self.relays.get_mut(no.0) else {
                    return;
                };
                relay.observed_tcp = Some(observed_tcp);
                relay.allows_direct = direct.unwrap_or(true);
                if let Some(link) = &mut relay.link {
                    link.heartbeat =
                        Duration::from_millis(heartbeat_ms.into()).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
                }
                relay.send(no, &mut self.out, &Control::Connect { peer: None });
                // At once, for the round trip that `status` shows.
                let id = self.rng.next_u64();
                relay.ping(now, no, &mut self.out, id);
                relay.mapping =
                    relay.remote.map(|remote| Mapping::new(now, remote.ip(), &stun_ports, stun_token));
                if let (Some(mapping), Some(other)) = (&mut relay.mapping, relay.other_family) {
                    mapping.set_other_family(now, other);
                }
                self.ask_stun(now);
                self.renew_candidates(now);
                self.out.event(Event::RelayUp { relay: no, observed_tcp, stun_ports, stun_token });
            }
            Control::Peer { peer, channel, instance } => self.introduced(now, no, peer, channel, instance),
            // The rest is of no use to this version (protocol §3.5).
            Control::Established { channel, heartbeat_ms, rotation_s, peer_udp, direct, .. } => {
                let contact = Contact { relay: no, channel };
                if let Some(owner) = self.channel_owner(contact) {
                    let rotation = Duration::from_secs(rotation_s.into());
                    let heartbeat = Duration::from_millis(heartbeat_ms.into());
                    if let Some(relay) = self.relays.get_mut(no.0) {
                        relay.allows_direct = direct;
                    }
                    self.with_peer(now, owner, |peer, ctx| {
                        peer.allow_direct(ctx, no, direct);
                        peer.hint(ctx, contact, rotation, heartbeat, peer_udp);
                    });
                }
            }
            Control::PeerGone { channel, reason, .. } => {
                let contact = Contact { relay: no, channel };
                if let Some(owner) = self.channel_owner(contact) {
                    let why = match reason {
                        GoneReason::Left => "it left the relay",
                        GoneReason::Lost => "it lost the relay",
                        GoneReason::Replaced => "it registered anew",
                    };
                    self.weigh_demand = true;
                    self.with_peer(now, owner, |peer, ctx| {
                        peer.lose_contacts(ctx, |lost| lost == contact, why)
                    });
                    self.forget_gone(now);
                }
                if let Some(link) = self.relays.get_mut(no.0).and_then(|relay| relay.link.as_mut()) {
                    link.channels.remove(&channel);
                }
            }
            Control::Ping { id } => {
                if let Some(relay) = self.relays.get_mut(no.0) {
                    relay.send(no, &mut self.out, &Control::Pong { id });
                }
            }
            Control::Pong { id } => self.relay_pong(now, no, id),
            Control::Drain { within_ms } => tracing::info!(within_ms, "the relay is about to go away"),
            Control::Error { sentence, retry_ms, .. } => {
                let retry = retry_ms.map(|ms| Duration::from_millis(ms.into()));
                self.out.event(Event::RelayRefused { relay: no, sentence, retry });
            }
            Control::Observed { udp } => {
                if let Some(relay) = self.relays.get_mut(no.0) {
                    relay.observed_udp = Some(udp);
                }
                self.renew_candidates(now);
                self.out.event(Event::Observed { relay: no, udp });
            }
            Control::Bound { tag } => self.bound(now, no, BindingTag::new(tag)),
            // The relay frees what it held for the pair; nothing is held here.
            Control::Release { .. } => {}
            Control::Register { .. }
            | Control::Connect { .. }
            | Control::Confirmed { .. }
            | Control::Bind { .. }
            | Control::Leave => {
                tracing::debug!("the relay sent what only clients send");
            }
        }
    }

    /// This node received `nonce` from the relay's STUN, in the answer that was just taken in: it says so until that was heard
    /// (protocol §3.9).
    pub(super) fn bind_at(&mut self, no: RelayNo, nonce: Nonce) {
        if let Some(relay) = self.relays.get_mut(no.0)
            && relay.is_registered()
            && relay.said != Some((nonce, true))
            && let Some(udp) = relay.mapping.as_ref().and_then(Mapping::mapped)
        {
            relay.said = Some((nonce, false));
            relay.send(no, &mut self.out, &Control::Bind { nonce, udp });
        }
    }

    /// The relay forwards datagrams: for peers behind it that is one more path. Mostly it says that it still does, and nothing
    /// comes of that.
    fn bound(&mut self, now: Instant, no: RelayNo, tag: BindingTag) {
        let Some(relay) = self.relays.get_mut(no.0) else { return };
        // Each BIND is answered once: what nobody asked for would only make paths be doubted, as often as the relay likes.
        let Some((_, is_heard)) = relay.said.as_mut().filter(|(_, is_heard)| !is_heard) else { return };
        *is_heard = true;
        let Some(remote) = relay.mapping.as_ref().and_then(Mapping::first_port) else { return };
        let binding = Some(RelayBinding { remote, tag });
        if self.out.binding(no) == binding {
            return;
        }
        self.out.bind(no, binding);
        let behind = |peer: &&Peer| peer.contact().is_some_and(|contact| contact.relay == no);
        let ids: Vec<_> = self.peers.values().filter(behind).map(Peer::id).collect();
        for id in ids {
            self.with_peer(now, id, |peer, ctx| peer.on_relay_udp_bound(ctx));
        }
    }

    fn introduced(&mut self, now: Instant, no: RelayNo, peer: NodeId, channel: ChannelId, instance: u64) {
        let Some(link) = self.relays.get_mut(no.0).and_then(|relay| relay.link.as_mut()) else { return };
        // A peer has one channel per link, and a channel one peer.
        link.channels.retain(|_, known| *known != peer);
        if peer == self.config.node.public() || link.channels.len() >= MAX_PEERS {
            return tracing::debug!("an introduction is ignored: to this node itself, or one too many");
        }
        link.channels.insert(channel, peer);
        self.weigh_demand = true;
        self.meet(peer);
        let pending = self.peers.values().filter(|peer| peer.is_pending()).count();
        let pause = HANDSHAKE_SPACING * u32::try_from(pending).unwrap_or(u32::MAX);
        let contact = Contact { relay: no, channel };
        let allows_direct = self.relays.get(no.0).is_none_or(|relay| relay.allows_direct);
        self.with_peer(now, peer, |peer, ctx| {
            // Before anything is said to the peer.
            peer.allow_direct(ctx, no, allows_direct);
            peer.introduce(ctx, contact, instance, pause);
        });
    }

    /// The first relay introduces somebody.
    #[cfg(test)]
    pub(super) fn introduced_for_test(&mut self, now: Instant, peer: NodeId, channel: ChannelId) {
        self.introduced(now, RelayNo(0), peer, channel, 1);
        self.after_input(now);
    }

    fn relay_pong(&mut self, now: Instant, no: RelayNo, id: u64) {
        let Some(relay) = self.relays.get_mut(no.0) else {
            return;
        };
        let Some(link) = &mut relay.link else { return };
        if let Heartbeat::Waiting { id: asked, sent } = link.heartbeat_timer
            && asked == id
        {
            relay.rtt = Some(now.saturating_duration_since(sent));
            link.heartbeat_timer = Heartbeat::Idle { next: now + link.heartbeat };
        }
    }

    /// An address, link or route of this machine changed: every relay is asked whether it still answers, now and not at the
    /// next heartbeat, so that a connection that went with the change is replaced within seconds; STUN is asked where the socket
    /// appears now; and direct paths are looked for.
    pub fn handle_network_changed(&mut self, now: Instant) {
        self.hurry_stun(now);
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.with_peer(now, id, |peer, ctx| peer.on_network_changed(ctx, "the network changed"));
        }
        for relay in &mut self.relays {
            if let Some(Link { heartbeat_timer: Heartbeat::Idle { next }, .. }) = &mut relay.link {
                *next = now;
            }
        }
        self.relays_timeout(now);
    }

    pub(super) fn relays_timeout(&mut self, now: Instant) {
        for at in 0..self.relays.len() {
            let no = RelayNo(at);
            // A peer that is there and silent while its relay says nothing either: ask the relay now, not at the next
            // heartbeat, so that a network that is gone is noticed within seconds while somebody uses it.
            let doubted = self
                .peers
                .values()
                .any(|peer| peer.is_suspect() && peer.contact().is_some_and(|contact| contact.relay == no));
            let Some(relay) = self.relays.get_mut(at) else {
                continue;
            };
            let Some(link) = &mut relay.link else { continue };
            match link.heartbeat_timer {
                Heartbeat::Registering { until } if until <= now => {
                    link.heartbeat_timer = Heartbeat::Dead;
                    self.out.event(Event::RelayDead { relay: no });
                }
                Heartbeat::Waiting { sent, .. } if link.answer_due(sent) <= now => {
                    link.heartbeat_timer = Heartbeat::Dead;
                    self.out.event(Event::RelayDead { relay: no });
                }
                Heartbeat::Idle { next }
                    if next <= now
                        || (doubted && relay.doubted.is_none_or(|last| last + DOUBT_EVERY <= now)) =>
                {
                    relay.doubted = Some(now);
                    let id = self.rng.next_u64();
                    relay.ping(now, no, &mut self.out, id);
                }
                Heartbeat::Registering { .. }
                | Heartbeat::Waiting { .. }
                | Heartbeat::Idle { .. }
                | Heartbeat::Dead => {}
            }
        }
    }

    /// CONFIRMED for every contact whose path was proven since the last call (protocol §3.5).
    pub(super) fn confirm_contacts(&mut self) {
        let confirmed: Vec<_> =
            self.peers.values_mut().filter_map(crate::peer::Peer::take_confirmation).collect();
        for contact in confirmed {
            if let Some(relay) = self.relays.get_mut(contact.relay.0) {
                relay.send(contact.relay, &mut self.out, &Control::Confirmed { channel: contact.channel });
            }
        }
    }

    /// RELEASE for every channel that both ends left for a direct path (protocol §7.8).
    pub(super) fn release_channels(&mut self) {
        let released: Vec<_> = self.peers.values_mut().filter_map(crate::peer::Peer::take_release).collect();
        for contact in released {
            if let Some(relay) = self.relays.get_mut(contact.relay.0) {
                relay.send(contact.relay, &mut self.out, &Control::Release { channel: contact.channel });
            }
        }
    }

    pub(super) fn leave_relays(&mut self) {
        for (at, relay) in self.relays.iter_mut().enumerate() {
            if relay.is_registered() {
                relay.send(RelayNo(at), &mut self.out, &Control::Leave);
            }
        }
    }

    /// A packet of a peer came by the relay's stream.
    pub(super) fn relay_heard(&mut self, now: Instant, no: RelayNo) {
        if let Some(link) = self.relays.get_mut(no.0).and_then(|relay| relay.link.as_mut()) {
            link.heard = now;
        }
    }

    /// The peer that a channel was introduced for.
    pub(super) fn channel_owner(&self, contact: Contact) -> Option<NodeId> {
        let link = self.relays.get(contact.relay.0)?.link.as_ref()?;
        link.channels.get(&contact.channel).copied()
    }
}
