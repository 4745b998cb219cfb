//! Outputs of the endpoint: events become commands to the data plane, the device and the state directory; transmits go to
//! the relay tasks and the UDP socket.

use super::{ECHO_KEPT, Echo, EventLoop, Sleeper};
use crate::control::message::{Echo as EchoDoc, Response};
use crate::daemon::address::cidrs;
use crate::daemon::progress::Progress;
use crate::daemon::report;
use crate::daemon::state_dir::AddressClaim;
use crate::switch::LoopState;
use crate::system_rng::SystemRng;
use shadowmesh_proto::endpoint::event::{Event, PeerState, Via};
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::path::select::PathKind;
use shadowmesh_proto::rng::Rng as _;
use shadowmesh_proto::transmit::{RelayNo, Transmit};
use shadowmesh_proto::wire::control::Claim;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A relay that refuses without saying when to come back is left alone for this long.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// ... and whatever it says, for this long: a handshake each round trip is no way to be refused.
const REFUSED_PAUSE_MIN: Duration = Duration::from_secs(1);

impl EventLoop {
    /// Takes everything that the endpoint has to say.
    pub(super) async fn drain(&mut self) {
        loop {
            while let Some(event) = self.endpoint.poll_event() {
                let Some(plane) = &self.plane else { continue };
                match self.routes.steer(Instant::now(), plane, event) {
                    Ok(Some(event)) => self.apply(event).await,
                    Ok(None) => {}
                    Err(sentence) => self.notice(sentence),
                }
            }
            // An admin whose word was heard by others and forgotten here would say another under the same number.
            if !self.keep_members() {
                break;
            }
            self.on_names_changed();
            self.follow_given().await;
        }
        self.routes.set_stun(self.endpoint.stun_servers());
        if let Some(plane) = &self.plane
            && self.routes.publish(plane)
        {
            self.on_names_changed();
        }
        self.tell_names();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            match transmit {
                Transmit::Stream { relay, message } => {
                    // Without a stream it was sealed for a link that is gone.
                    if let Some(stream) = self.relays.get(relay.0).and_then(|relay| relay.stream.as_ref()) {
                        stream.send(message);
                    }
                }
                Transmit::Tcp { link, message } => self.tcp.send(link, message),
                Transmit::Datagram { to, datagram } => self.send_datagram(to, &datagram).await,
            }
        }
    }

    /// A datagram that cannot be sent is lost, as on the way.
    async fn send_datagram(&mut self, to: SocketAddr, datagram: &[u8]) {
        if !self.ways.is_outside(to.ip()).await {
            return;
        }
        if let Err(error) = self.socket.send(to, datagram, datagram.len()) {
            tracing::trace!(%error, %to, bytes = datagram.len(), "a datagram was not sent");
        }
    }

    async fn apply(&mut self, event: Event) {
        match event {
            Event::PeerRemoved { slot } => {
                self.on_names_changed();
                self.drowsy.remove(&slot);
                self.lie_told.remove(&slot);
                self.members.forget(slot);
            }
            Event::Moved { slot, from, to, why } => self.on_moved(slot, from, to, why),
            Event::PeerHello { slot, hello } => {
                self.on_names_changed();
                if let Err(sentence) = self.routes.on_hello(slot, &hello) {
                    if self.lie_told.insert(slot) {
                        self.notice(sentence);
                    }
                } else {
                    self.lie_told.remove(&slot);
                }
                // A peer that was shown by its short id has a name now. One that changes it again is not worth a line each time.
                if !self.said.contains(&slot) {
                    self.say_connected(slot);
                }
            }
            Event::PeerState { slot, state } => self.on_peer_state(slot, state),
            Event::EchoReply { id, slot, via } => self.on_echo_reply(id, slot, via),
            Event::AddressChanged { address, attempt, holder } => {
                self.network.claim = AddressClaim { attempt, settled: true };
                self.save_network();
                self.notice(format!(
                    "another member ({}) already has this node's address; it takes {address} instead",
                    holder.short()
                ));
                self.set_addresses().await;
            }
            Event::AddressTaken { address: _, attempt, claim } => {
                let attempt = attempt.unwrap_or(self.network.claim.attempt);
                self.network.claim = AddressClaim { attempt, settled: claim >= Claim::Settled };
                self.save_network();
                self.set_addresses().await;
            }
            Event::AddressConflict { peer, address } => self.notice(format!(
                "the address {} is also used by member {}: give one of the two another with --address",
                address.address(),
                peer.short()
            )),
            Event::AddressSettled => {
                self.network.claim.settled = true;
                self.save_network();
            }
            Event::RelayUp { relay, .. } => self.on_relay_up(relay),
            Event::RelayDead { relay } => {
                self.say_outage(relay, "it no longer answers");
                self.drop_stream(relay, None);
            }
            Event::RelayRefused { relay, sentence, retry } => {
                self.say_outage(relay, &sentence);
                if let Some(task) = self.relays.get_mut(relay.0) {
                    task.refused = Some(sentence);
                }
                self.drop_stream(relay, Some(retry.unwrap_or(REFUSED_PAUSE).max(REFUSED_PAUSE_MIN)));
            }
            Event::TcpTry { slot, addresses } => self.tcp.open(slot, addresses),
            Event::TcpKept { slot, link } => self.keep_link(slot, link),
            Event::TcpClose { link, at_once } => self.drop_link(link, at_once),
            Event::Membership { slot, event } => {
                self.on_names_changed();
                self.on_membership(slot, event);
            }
            Event::Observed { relay, udp } => tracing::debug!(relay = relay.0, %udp, "seen by STUN"),
            // The data plane's alone.
            Event::PeerAdded { .. }
            | Event::OpenAssociation { .. }
            | Event::AddOpenKey { .. }
            | Event::RetireOpenKey { .. }
            | Event::ShutAssociation { .. }
            | Event::CloseAssociation { .. }
            | Event::StartAssociation { .. }
            | Event::AddSealKey { .. }
            | Event::StopSealing { .. }
            | Event::ResumeSealing { .. }
            | Event::EndAssociation { .. }
            | Event::Route { .. }
            | Event::Resend { .. }
            | Event::Sources { .. }
            | Event::Doubt { .. }
            | Event::Patience { .. }
            | Event::Acked { .. }
            | Event::RelayBound { .. } => {}
        }
    }

    fn on_relay_up(&mut self, no: RelayNo) {
        self.was_registered = true;
        let (is_shown, connected) = (self.is_shown(no), self.endpoint.connected());
        self.members.sees(connected > 0);
        let Some(task) = self.relays.get_mut(no.0) else { return };
        task.outage_told = false;
        task.refused = None;
        task.connecting = false;
        if let Some(stream) = &task.stream {
            stream.registered();
        }
        if !is_shown {
            return;
        }
        self.progress.send(Progress::RelayConnected { relay: task.address.clone(), rtt: None });
        if connected == 0 && !std::mem::replace(&mut self.waiting_said, true) {
            self.progress.send(Progress::WaitingForPeers);
        }
    }

    fn on_peer_state(&mut self, slot: PeerSlot, state: PeerState) {
        let was_drowsy = self.drowsy.contains(&slot);
        // Who slept and was woken was never gone.
        if state != PeerState::Idle && (!was_drowsy || state == PeerState::Offline) {
            self.said.remove(&slot);
        }
        match state {
            PeerState::Idle => _ = self.drowsy.insert(slot),
            PeerState::Connected | PeerState::Offline => _ = self.drowsy.remove(&slot),
            PeerState::Connecting => {}
        }
        self.members.sees(self.endpoint.is_anybody_there());
        if state == PeerState::Connected {
            self.ask_awakened(slot);
        }
        match state {
            PeerState::Connected if self.said.contains(&slot) => {}
            PeerState::Connected => self.say_connected(slot),
            PeerState::Idle => tracing::debug!(slot = slot.0, "a peer sleeps"),
            PeerState::Connecting => tracing::debug!(slot = slot.0, "connecting to a peer"),
            PeerState::Offline => {
                if let Some((peer, name)) = self.peer(slot)
                    && peer.hello.is_some()
                {
                    let relays_up = self.endpoint.relay_status().iter().any(|relay| relay.registered);
                    let why = if relays_up { "it left the relay" } else { "the relay is lost" };
                    self.progress.send(Progress::PeerLost { name, why: why.to_owned() });
                }
            }
        }
    }

    /// Says that a peer is connected, once it is and has told its name.
    fn say_connected(&mut self, slot: PeerSlot) {
        // Before all is looked up that there is to know of every peer.
        if self.endpoint.state_of(slot) != Some(PeerState::Connected) {
            return;
        }
        if let Some((peer, name)) = self.peer(slot)
            && let (PeerState::Connected, Some(hello), Some(path)) = (peer.state, peer.hello, peer.path)
        {
            self.said.insert(slot);
            self.progress.send(Progress::PeerConnected {
                name,
                address: hello.ipv4.map(|cidr| cidr.address().to_string()),
                via: path.via.kind().into(),
                rtt: path.rtt,
            });
        }
    }

    /// A loop was found, or is over.
    pub(super) fn say_loop(&self, state: LoopState) {
        let name = |slot| self.peer(slot).map_or_else(|| "a member".to_owned(), |(_, name)| name);
        self.notice(match state {
            LoopState::None => return self.news("the loop through another bridge is over".to_owned()),
            LoopState::Blocked(slot) => format!(
                "this node and {} are bridged to one LAN, which makes a loop: this node passes no broadcasts between them \
                 until it is over; unplug one of the two bridges",
                name(slot)
            ),
            LoopState::Contained(slot) => format!(
                "this node and {} are bridged to one LAN, which makes a loop: {} passes no broadcasts until it is over; unplug \
                 one of the two bridges",
                name(slot),
                name(slot)
            ),
        });
    }

    /// Somebody who waits for a lease wants to know why there is none.
    pub(super) fn say_rogue(&self, slot: PeerSlot) {
        let Some((peer, name)) = self.peer(slot) else { return };
        self.notice(format!(
            "{name} answers as a DHCP server or a router, which is not let in: `shadowmesh up --allow-dhcp {}` lets it",
            peer.id.short()
        ));
    }

    /// Data of a peer goes another way: said, because it is what this program is for.
    fn on_moved(&mut self, slot: PeerSlot, from: PathKind, to: PathKind, why: &'static str) {
        tracing::info!(slot = slot.0, from = from.as_str(), to = to.as_str(), why, "moved to another path");
        // Not yet said to be connected: that will name the new path.
        if self.said.contains(&slot) {
            self.say_connected(slot);
        }
    }

    fn on_echo_reply(&mut self, id: u64, slot: PeerSlot, via: Via) {
        let now = Instant::now();
        let echo = self.echoes.remove(&id);
        if let (Some(echo), Some((peer, name))) = (echo, self.peer(slot)) {
            echo.reply.send(Response::Echo(EchoDoc {
                name,
                id: peer.id.to_base32(),
                address: peer.hello.and_then(|hello| hello.ipv4).map(|cidr| cidr.address().to_string()),
                via: via.kind().into(),
                remote: report::remote(via),
                rtt_ms: report::millis(now.saturating_duration_since(echo.sent)),
                woken_ms: echo.woken.map(report::millis),
            }));
        }
    }

    /// Forgets echoes that nobody waits for, or that will not come back.
    pub(super) fn forget_echoes(&mut self, now: Instant) {
        self.echoes
            .retain(|_, echo| now.saturating_duration_since(echo.sent) < ECHO_KEPT && !echo.reply.is_gone());
        let is_waited_for = |sleeper: &Sleeper| {
            now.saturating_duration_since(sleeper.asked) < ECHO_KEPT && !sleeper.reply.is_gone()
        };
        self.sleepers.retain(is_waited_for);
    }

    /// A peer that somebody wants an echo of is awake.
    fn ask_awakened(&mut self, slot: PeerSlot) {
        let now = Instant::now();
        for Sleeper { reply, asked, .. } in self.sleepers.extract_if(.., |sleeper| sleeper.slot == slot) {
            let id = SystemRng.next_u64();
            if self.endpoint.echo(now, slot, id) {
                let woken = Some(now.saturating_duration_since(asked));
                self.echoes.insert(id, Echo { reply, sent: now, woken });
            }
        }
    }

    async fn set_addresses(&mut self) {
        let hello = self.endpoint.hello();
        let wanted = cidrs(hello.ipv4, hello.ipv6);
        if let Err(error) = self.interface.set_addresses(&wanted).await {
            self.notice(error.to_string());
        }
        self.progress.send(self.interface.up(self.settings.mtu.bytes()));
    }

    pub(super) fn save_network(&self) {
        if let Err(error) = self.state.save_network(&self.network) {
            tracing::warn!(%error, "what is known of the network could not be saved");
        }
    }

    /// Something that went as it should, for people: who shows it writes it into the log as well.
    pub(super) fn news(&self, sentence: String) {
        self.progress.send(Progress::Notice(sentence));
    }

    /// Something that somebody should look at.
    pub(super) fn notice(&self, sentence: String) {
        tracing::warn!("{sentence}");
        self.progress.send(Progress::Notice(sentence));
    }
}
