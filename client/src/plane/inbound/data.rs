//! Data packets, from opening to the TAP.

use super::merging::{Admitted, Refused};
use super::{HEARD_EVERY, InboundThread, ROGUE_EVERY};
use crate::access::Verdict;
use crate::device::DeviceFault;
use crate::plane::Fact;
use crate::plane::snapshot::{PeerRoute, Snapshot, add, add_at};
use crate::switch::{Inbound, InboundDrop, is_guard_message};
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::ids::{AssociationId, PeerSlot};
use shadowmesh_proto::path::select::PathKind;
use shadowmesh_proto::session::open::{META_MOVED, META_NEEDS_CHECKSUM};
use shadowmesh_proto::session::{OpenError, OpenHalf, PathSlot, Turn};
use shadowmesh_proto::wire::header::Header;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What comes by a TCP that begins is waited for at least so long: what a session begins with may come by the relay's stream before that is
/// measured, three or four of its round trips late.
const STREAM_BEGINS: Duration = Duration::from_millis(200);
/// Bytes held for order, over all peers: a member that provokes it costs no more than this.
const HELD_BYTES: usize = 32 << 20;

impl InboundThread {
    /// Opens a data packet; its frame goes to the TAP, or waits for those before it.
    pub(super) fn data(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        via: Via,
        packet: &[u8],
    ) -> Result<(), DeviceFault> {
        let Ok(header) = Header::parse(packet) else {
            add(&self.counters.unknown_kind, 1);
            return Ok(());
        };
        if !self.sessions.is_recent(header.receiver) {
            self.look_for_key(now, header.receiver);
        }
        let Some((association, open)) = self.sessions.owner(header.receiver) else {
            add(&self.counters.unknown_index, 1);
            return Ok(());
        };
        // A peer is in the picture before it has a key.
        let slot = open.slot;
        let Some(route) = snapshot.peer(slot) else { return Ok(()) };
        let path = via.slot();
        let Some(space) = self.merging.space(OpenHalf::plaintext_len(packet)) else {
            add(&self.counters.unknown_kind, 1);
            return Ok(());
        };
        let (counter, meta) = match open.half.open(now, path, packet, space) {
            Ok(opened) => (opened.counter, opened.meta),
            Err(cause) => {
                self.merging.withdraw();
                add(&route.counters.rx_dropped, 1);
                if cause == OpenError::Replayed {
                    open.on_came(now, path, route);
                    add(&route.counters.rx_duplicates, 1);
                    // What tells of it goes where it comes from, if that is proven: the way before may be why it comes again. What tells of
                    // more does not.
                    if !open.half.has_news() {
                        open.last_via = Some(via);
                    }
                }
                if let Some(counter) = self.counters.not_opened.get(cause as usize) {
                    add(counter, 1);
                }
                tracing::trace!(%cause, "a packet is dropped");
                return Ok(());
            }
        };
        if let Some(from) = news_of(via, route)
            && self.heard.is_due(now, slot, HEARD_EVERY)
        {
            tracing::debug!(slot = slot.0, %from, "data of a peer came from another address");
            let _ = self.facts.try_send(Fact::Heard(slot, from));
        }
        open.last_via = Some(via);
        open.on_came(now, path, route);
        let is_end = meta & META_MOVED != 0;
        let turn = open.order.on_opened(now, path, counter, is_end, patience(open.order.path(), route));
        open.tell_order(route);
        match turn {
            Turn::Now if is_end => self.merging.withdraw(),
            Turn::Now => self.deliver(now, snapshot, slot, meta)?,
            Turn::Later => {
                // As it was sealed: metadata byte and frame.
                let text = [&[meta], self.merging.opened()].concat();
                self.merging.withdraw();
                let open = self.sessions.hold(association);
                if let Some(open) = open {
                    open.order.hold(path, counter, text);
                }
                // Who holds little is not the one to give in.
                if self.sessions.held_bytes() > HELD_BYTES
                    && let Some(most) = self.sessions.holds_most()
                {
                    self.sessions.give_in(most);
                    self.give_on(now, snapshot, most)?;
                }
            }
        }
        self.give_on(now, snapshot, association)
    }

    /// Delivers what need not wait any more.
    fn give_on(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        association: AssociationId,
    ) -> Result<(), DeviceFault> {
        while self.sessions.is_holding()
            && let Some((slot, text)) = self.sessions.take(now, association)
        {
            let Some((meta, frame)) = text.split_first() else { continue };
            let Some(space) = self.merging.space(text.len()).and_then(|space| space.get_mut(1..)) else {
                continue;
            };
            space.copy_from_slice(frame);
            self.deliver(now, snapshot, slot, *meta)?;
        }
        Ok(())
    }

    /// Delivers what has waited long enough.
    pub(super) fn give_on_due(&mut self, now: Instant) -> Result<(), DeviceFault> {
        while let Some(association) = self.sessions.release_due(now) {
            let snapshot = self.snapshot.load_full();
            self.give_on(now, &snapshot, association)?;
        }
        Ok(())
    }

    /// Delivers what waits for an association that ends.
    pub(super) fn give_up_waiting(&mut self, now: Instant, association: AssociationId) {
        self.sessions.give_in(association);
        let snapshot = self.snapshot.load_full();
        if let Err(fault) = self.give_on(now, &snapshot, association) {
            // The next frame finds the device gone as well.
            tracing::debug!(%fault, "a held frame was not delivered");
        }
    }

    /// Lets the frame that was opened in, on its way to the TAP.
    fn deliver(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        slot: PeerSlot,
        meta: u8,
    ) -> Result<(), DeviceFault> {
        let Some(route) = snapshot.peer(slot) else {
            self.merging.withdraw();
            return Ok(());
        };
        let (len, is_partial) = (self.merging.opened().len(), meta & META_NEEDS_CHECKSUM != 0);
        let Self { merging, device, .. } = self;
        if merging.resume(device, slot, is_partial, |refused| on_refused(snapshot, refused))? {
            route.counters.count_rx(len);
            return Ok(());
        }
        if !self.lets_in(now, snapshot, slot, route) {
            self.merging.withdraw();
            return Ok(());
        }
        route.counters.count_rx(len);
        let Self { merging, device, .. } = self;
        let is_for_us = merging.opened().starts_with(&snapshot.directory.local().0);
        let admitted = Admitted { now, from: slot, is_partial, is_for_us };
        merging.take(device, admitted, |refused| on_refused(snapshot, refused))
    }

    /// Whether rules and switch let the frame that was opened in. The switch learns from it.
    fn lets_in(&mut self, now: Instant, snapshot: &Snapshot, slot: PeerSlot, route: &PeerRoute) -> bool {
        let frame = self.merging.opened();
        // Before the switch learns from it: what is not let in says nothing. What guards say to each other against loops is no
        // traffic of members, never reaches the device, and is believed for what it proves: no rule switches it off.
        if let Some(access) = &snapshot.access
            && let Verdict::Drop(cause) = access.judge(now, slot, frame)
            && !is_guard_message(frame)
        {
            add(&route.counters.rx_dropped, 1);
            if let Some(counter) = self.counters.denied.get(cause as usize) {
                add(counter, 1);
            }
            tracing::trace!(%cause, "the rules do not let a frame in");
            return false;
        }
        let (gate, news, reader) = (&mut self.gate, &self.news, &self.reader);
        let is_blocked = self.is_blocked.load(Relaxed);
        let inbound = gate.receive(&snapshot.directory, frame, slot, is_blocked, now, |told| {
            // Where there is no room the reader has slept for long.
            let is_taken = news.try_send(told).is_ok();
            if !is_taken || told.is_urgent() {
                reader.wake();
            }
            is_taken
        });
        match inbound {
            Inbound::Deliver => return true,
            Inbound::Consume => {}
            Inbound::Drop(cause) => self.refuse(now, route, slot, cause),
            Inbound::TooMuch(reach) => {
                add_at(&route.counters.rx_over_budget, reach.index());
                self.refuse(now, route, slot, InboundDrop::OverBudget);
            }
        }
        false
    }

    /// What waits to be put together with more goes to the device.
    pub(super) fn flush(&mut self) -> Result<(), DeviceFault> {
        let snapshot = self.snapshot.load_full();
        let Self { merging, device, .. } = self;
        merging.flush(device, |refused| on_refused(&snapshot, refused))
    }

    /// Counts a frame that the switch does not let in.
    fn refuse(&mut self, now: Instant, route: &PeerRoute, slot: PeerSlot, cause: InboundDrop) {
        add(&route.counters.rx_dropped, 1);
        add_at(&route.counters.rx_refused, cause.index());
        add(&self.counters.not_let_in, 1);
        tracing::trace!(?cause, slot = slot.0, "a frame is not let in");
        let is_rogue = matches!(cause, InboundDrop::RogueDhcp | InboundDrop::RogueRouter);
        if is_rogue && self.rogues.is_due(now, slot, ROGUE_EVERY) {
            // Full: its next answer says it.
            let _ = self.facts.try_send(Fact::Rogue(slot));
        }
    }
}

/// How long what came by another path waits for what comes by this one. A TCP that begins, or begins again, with as much as was kept for its peer
/// takes some round trips to get up to speed; and nothing is missing there, it is only late.
fn patience(behind: Option<PathSlot>, route: &PeerRoute) -> Duration {
    let is_stream = behind.and_then(PathKind::of_slot).is_some_and(PathKind::is_stream);
    if is_stream { (2 * route.patience).max(STREAM_BEGINS) } else { route.patience }
}

/// Frames that the device did not take are counted with their sender.
fn on_refused(snapshot: &Snapshot, Refused { from, frames }: Refused) {
    if let Some(route) = snapshot.peer(from) {
        add(&route.counters.rx_dropped, frames);
    }
}

/// Where data came from, if none of the peer's paths is there.
fn news_of(via: Via, route: &PeerRoute) -> Option<SocketAddr> {
    match via {
        Via::Udp(from) => (!route.sources.contains(&from)).then_some(from),
        Via::Channel(_) | Via::RelayUdp(_) | Via::Tcp(_) => None,
    }
}
