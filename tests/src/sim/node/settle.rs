//! What a simulated node does until nothing is left to do, as the daemon's loop does: events, what they ask for, packets in and out.

use super::super::net::is_thief;
use super::super::trace;
use super::{Books, Counted, ETHERNET, Node, Outcome, Plan, Try};
use shadowmesh::plane::{Fact, tell};
use shadowmesh_proto::endpoint::event::{Event, TCP_TRY};
use shadowmesh_proto::transmit::Transmit;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

impl Node {
    pub(super) fn settle(&mut self, now: Instant, books: &mut Books) -> Result<Outcome, String> {
        let mut outcome = Outcome::default();
        self.settle_into(now, books, &mut outcome)?;
        Ok(outcome)
    }

    /// What the daemon's loop does, until nothing is left to do: events, the picture, what the control side sends, the data plane,
    /// what that says.
    pub(super) fn settle_into(
        &mut self,
        now: Instant,
        books: &mut Books,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        trace::set_place(Some(self.at));
        let clock = self.clock(now);
        loop {
            let mut is_idle = true;
            while let Some(event) = self.endpoint.poll_event() {
                self.apply(now, event, books, outcome);
                if outcome.robbed {
                    return Err(format!("node {}: a path leads to somebody who stole packets", self.at));
                }
            }
            self.machine.routes.set_stun(self.endpoint.stun_servers());
            self.machine.routes.publish(self.machine.lockstep.plane());
            while let Some(transmit) = self.endpoint.poll_transmit() {
                match transmit {
                    Transmit::Stream { message, .. } => outcome.messages.push(message),
                    Transmit::Datagram { to, datagram } => outcome.datagrams.push((to, datagram)),
                    Transmit::Tcp { link, message } => outcome.direct.push((link, message)),
                }
            }
            self.machine.lockstep.run(clock).map_err(|fault| format!("node {}: {fault}", self.at))?;
            is_idle &= !self.machine.drain(clock, outcome);
            while let Ok(fact) = self.machine.output.facts.try_recv() {
                is_idle = false;
                if let Fact::DataSent(slot, ..) = &fact {
                    outcome.sent.extend(self.peers.get(slot));
                }
                tell(&mut self.endpoint, self.machine.lockstep.plane(), clock, fact);
            }
            while let Some(mut packet) = self.machine.next_packet() {
                is_idle = false;
                self.take(now, packet.via, &mut packet.packet, outcome);
            }
            while let Ok(datagram) = self.machine.output.datagrams.try_recv() {
                is_idle = false;
                self.endpoint.handle_datagram(clock, datagram.from, &datagram.bytes);
            }
            while let Some(frame) = self.machine.wire.receive().map_err(|fault| fault.to_string())? {
                is_idle = false;
                let source: [u8; 6] =
                    frame.get(6..12).and_then(|mac| mac.try_into().ok()).unwrap_or_default();
                let from = books.register.macs.get(&source).ok_or("a frame from a MAC that nobody has")?;
                let contents = frame.get(ETHERNET..).unwrap_or_default();
                let id = books.ledger.deliver(self.identity, *from, contents)?;
                books.silences.on_delivered(now, id);
            }
            if is_idle {
                self.waits_since = clock;
                trace::set_place(None);
                return Ok(());
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a few of many events are looked at")]
    fn apply(&mut self, now: Instant, event: Event, books: &mut Books, outcome: &mut Outcome) {
        if !matches!(event, Event::Acked { .. }) {
            tracing::debug!(event = name_of(&event));
        }
        match &event {
            Event::StartAssociation { .. } => {
                self.associations += 1;
                outcome.moved = Some("a new association");
            }
            Event::OpenAssociation { .. } => outcome.moved = Some("a new receive key"),
            Event::AddSealKey { .. } => outcome.moved = Some("a new send key"),
            Event::EndAssociation { .. } => {
                self.rests += 1;
                outcome.moved = Some("the end of a session");
            }
            Event::Route { .. } => outcome.moved = Some("another route"),
            Event::Doubt { path: Some(_), .. } => self.doubts += 1,
            Event::Sources { addresses, .. } => {
                outcome.robbed |= addresses.iter().any(|from| is_thief(*from))
            }
            _ => {}
        }
        if let Event::StartAssociation { slot, key, .. } | Event::AddSealKey { slot, key } = &event
            && let Some(to) = self.peers.get(slot).and_then(|id| books.register.identities.get(id))
        {
            books.ledger.name_key(key.receiver().0, self.life, *to);
        }
        match &event {
            Event::OpenAssociation { association, key, .. } => {
                self.unconfirmed.insert(*association, key.index().0);
            }
            Event::StartAssociation { association, .. } => {
                self.unconfirmed.remove(association);
            }
            Event::CloseAssociation { association } => {
                let forsaken = self.unconfirmed.remove(association);
                forsaken.into_iter().for_each(|index| books.ledger.forsake(index));
            }
            _ => {}
        }
        if let Event::StartAssociation { slot, .. } = &event
            && let Some(id) = self.peers.get(slot)
            && let Some(known) = self.counters.iter_mut().rfind(|known| known.peer == *id)
        {
            let dropped = known.counters.tx_dropped.load(Relaxed);
            known.dropped_before.get_or_insert(dropped);
        }
        self.note_rest(&event);
        let added = match &event {
            Event::PeerAdded { slot, id } => Some((*slot, *id)),
            _ => None,
        };
        let plane = self.machine.lockstep.plane();
        let other = self.machine.routes.steer(now, plane, self.plan.shorten(event));
        if let Some((slot, id)) = added {
            self.peers.insert(slot, id);
            let counters = self.machine.routes.counters(slot).map(Arc::clone);
            let life = self.life;
            let new =
                |counters| Counted { life, peer: id, counters, dropped_before: None, dropped_at_rest: None };
            self.counters.extend(counters.map(new));
        }
        let Ok(Some(other)) = other else { return };
        match other {
            Event::PeerState { slot, state } => {
                if let Some(id) = self.peers.get(&slot) {
                    self.states.insert(*id, state);
                }
            }
            Event::PeerHello { slot, hello } => {
                self.machine.routes.on_hello(slot, &hello).expect("nobody lies here");
            }
            Event::PeerRemoved { slot } => {
                if let Some(id) = self.peers.remove(&slot) {
                    self.states.remove(&id);
                }
                self.tries.remove(&slot);
            }
            Event::Moved { .. } => self.moves += 1,
            Event::AddressConflict { .. } => self.conflicts += 1,
            Event::RelayUp { .. } => {
                self.registered_at = Some(now);
                self.attempts = 0;
            }
            Event::RelayDead { .. } => outcome.hang_up = true,
            Event::TcpTry { slot, addresses } if self.plan.listens => {
                self.tried += 1;
                let until = now + TCP_TRY;
                self.tries.insert(slot, Try { number: self.tried, addresses, until });
                outcome.tries.push(slot);
            }
            Event::TcpKept { slot, link } => {
                self.tries.remove(&slot);
                if let Some(data) = self.machine.keep(link) {
                    self.machine.routes.add_link(link, data);
                }
            }
            Event::TcpClose { link, at_once } => {
                self.machine.links.remove(&link);
                self.machine.routes.remove_link(link);
                outcome.ended.push((link, at_once));
            }
            _ => {}
        }
    }
}

impl Node {
    /// While nothing is sealed for want of use frames wait as for a first key, and those that do not fit are dropped.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a few of many events are looked at")]
    fn note_rest(&mut self, event: &Event) {
        let (slot, is_over) = match event {
            Event::StopSealing { slot, .. } => (slot, false),
            Event::ResumeSealing { slot } | Event::StartAssociation { slot, .. } => (slot, true),
            _ => return,
        };
        let known = self.peers.get(slot);
        let known = known.and_then(|id| self.counters.iter_mut().rfind(|known| known.peer == *id));
        let Some(known) = known else { return };
        let dropped = known.counters.tx_dropped.load(Relaxed);
        if !is_over {
            known.dropped_at_rest = Some(dropped);
        } else if let Some(before) = known.dropped_at_rest.take() {
            known.dropped_before = known.dropped_before.map(|all| all + dropped - before);
        }
    }
}

impl Plan {
    /// A key that comes with an event seals as much as this node's may.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a few of many events are looked at")]
    fn shorten(&self, event: Event) -> Event {
        let Some(limit) = self.key_limit else { return event };
        match event {
            Event::StartAssociation { slot, association, key } => {
                Event::StartAssociation { slot, association, key: key.with_limit(limit) }
            }
            Event::AddSealKey { slot, key } => Event::AddSealKey { slot, key: key.with_limit(limit) },
            other => other,
        }
    }
}

/// Its variant, and the peer's slot where it has one.
#[expect(clippy::wildcard_enum_match_arm, reason = "a few of many events are looked at")]
fn name_of(event: &Event) -> String {
    match event {
        Event::Route { .. } | Event::Moved { .. } | Event::Resend { .. } | Event::Doubt { .. } => {
            return format!("{event:?}");
        }
        _ => {}
    }
    let text = format!("{event:?}");
    let slot = text.find("slot: ").and_then(|at| text.get(at..)?.split([',', ' ', '}']).nth(1));
    let name = text.split([' ', '(']).next().unwrap_or_default();
    format!("{name} {}", slot.unwrap_or_default())
}
