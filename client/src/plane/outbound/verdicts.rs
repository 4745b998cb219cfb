//! What the switch decides, carried out: frames to peers, answers and probes to the device, news to the other thread.

use super::{Outbound, Outgoing, slots};
use crate::device::{DeviceFault, VnetHeader};
use crate::plane::Fact;
use crate::plane::snapshot::{Snapshot, add, add_at};
use crate::switch::{Admission, Flood, OutboundDrop, Output, SmallFrame, Verdict};
use shadowmesh_proto::ids::PeerSlot;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

impl Outbound {
    /// Does with a frame what was decided.
    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        verdict: Verdict,
        outgoing: &mut Outgoing<'_>,
    ) -> Result<(), DeviceFault> {
        match verdict {
            Verdict::Unicast(slot) => {
                note(now, snapshot, slot, outgoing.frame());
                self.send_only(now, snapshot, slot, outgoing);
            }
            Verdict::Flood(flood) => self.flood(now, snapshot, flood, outgoing),
            Verdict::Answer { owner, is_probe, is_arp } => {
                let is_there =
                    snapshot.peer(owner).is_some_and(|route| route.is_expected || route.via.is_some());
                if !is_there && !is_probe {
                    add_at(&self.counters.switch.dropped, OutboundDrop::OwnerIsAway.index());
                } else if let Some(answer) = self.forwarder.answer().copied() {
                    let switch = &self.counters.switch;
                    add(if is_arp { &switch.arp_answered } else { &switch.neighbours_answered }, 1);
                    self.write(&answer)?;
                }
            }
            Verdict::Drop(cause) => {
                add_at(&self.counters.switch.dropped, cause.index());
                tracing::trace!(?cause, "a frame goes nowhere");
            }
        }
        Ok(())
    }

    /// Sends a frame to each peer that is to get it.
    fn flood(&mut self, now: Instant, snapshot: &Snapshot, flood: Flood, outgoing: &mut Outgoing<'_>) {
        let (directory, len) = (&snapshot.directory, outgoing.bytes());
        for (slot, route) in slots(&snapshot.peers) {
            match self.forwarder.admit(directory, slot, flood, len, now) {
                Admission::Pass => {
                    add_at(&route.counters.tx_flooded, flood.reach.index());
                    note(now, snapshot, slot, outgoing.frame());
                    self.send_too(now, snapshot, slot, outgoing);
                }
                Admission::NotWanted => {}
                Admission::TooMuch => add_at(&route.counters.tx_over_budget, flood.reach.index()),
            }
        }
    }

    /// Says what the switch has to say by itself, and does what is due for it.
    pub(super) fn speak(&mut self, now: Instant, snapshot: &Snapshot) -> Result<(), DeviceFault> {
        if self.forwarder.poll_timeout().is_some_and(|due| due.is_due(now)) {
            self.forwarder.handle_timeout(&snapshot.directory, now);
        }
        while let Some(output) = self.forwarder.poll_output() {
            match output {
                // Full: said again later.
                Output::News(news) => drop(self.local_news.try_send(news)),
                Output::Device(frame) => self.write(&frame)?,
                Output::Peer(slot, frame) => {
                    // protocol §5: the metadata byte, of a complete frame, and the frame.
                    let mut plaintext = [0; 1 + SmallFrame::MAX];
                    let bytes = frame.as_bytes();
                    plaintext.iter_mut().skip(1).zip(bytes).for_each(|(to, from)| *to = *from);
                    self.send(now, snapshot, slot, plaintext.get(..=bytes.len()).unwrap_or_default());
                }
            }
        }
        self.is_blocked.store(self.forwarder.is_blocked(), Relaxed);
        Ok(())
    }

    /// Writes a frame of our own to the device. It is lost where the device is down or full, as on any wire.
    fn write(&self, frame: &SmallFrame) -> Result<(), DeviceFault> {
        let mut packet = [0; VnetHeader::LEN + SmallFrame::MAX];
        let bytes = frame.as_bytes();
        packet.iter_mut().skip(VnetHeader::LEN).zip(bytes).for_each(|(to, from)| *to = *from);
        let packet = packet.get_mut(..VnetHeader::LEN + bytes.len()).unwrap_or_default();
        match self.device.write_frame(VnetHeader::COMPLETE, packet) {
            Ok(()) | Err(DeviceFault::Down | DeviceFault::Short(_) | DeviceFault::Io(_)) => Ok(()),
            Err(fault @ DeviceFault::Gone) => Err(fault),
        }
    }

    /// Tells what the switch keeps, and that a loop was found or is over.
    pub(super) fn note_switch(&mut self, now: Instant) {
        let stats = self.forwarder.stats(now);
        self.counters.switch.note(&stats);
        if stats.loop_state != self.loop_state && self.facts.try_send(Fact::Loop(stats.loop_state)).is_ok() {
            self.loop_state = stats.loop_state;
        }
    }
}

/// Notes a frame of the device that goes to a peer, whose answer finds it noted. Who is not asked answers nothing.
fn note(now: Instant, snapshot: &Snapshot, slot: PeerSlot, frame: &[u8]) {
    if let Some(access) = &snapshot.access {
        access.note(now, slot, frame);
    }
}
