//! Frames on their way to the device: what one flow brings in a burst goes there as one superframe.
//!
//! # Life
//!
//! A frame that may be put together with others waits in a slot of its flow ([`Merging::take`]) until one comes that does not continue it, until
//! its slot is wanted for another flow, or until the thread has nothing more to open ([`Merging::flush`]), which is before it sleeps: nothing waits
//! for time to pass.
//!
//! # Invariants
//!
//! - Frames of one flow go to the device in the order in which they came, with those that are put together with nothing among them. Between flows
//!   nobody promised an order.
//! - A superframe that the kernel refuses goes frame by frame.
//! - Slots are made when they are wanted, and given back when the thread rests.

use crate::device::offload::{Kind, Merge, Superframe};
use crate::device::{Device, DeviceFault, VnetHeader};
use rustix::io::Errno;
use shadowmesh_proto::ids::PeerSlot;
use std::time::{Duration, Instant};

/// Flows that are put together side by side: more than a machine downloads by at once, and few enough to look through.
const FLOWS: usize = 8;
/// The memory of slots is given back when none was used for so long.
const REST: Duration = Duration::from_secs(10);

/// What waits for the device.
#[derive(Debug, Default)]
pub(super) struct Merging {
    slots: Vec<Slot>,
    /// Of slots that are in use, the one that began first has the lowest.
    begun: u64,
    used: Option<Instant>,
    /// Where frames of a refused superframe are made.
    spare: Vec<u8>,
}

#[derive(Debug)]
struct Slot {
    merge: Merge,
    /// Who sent it.
    from: PeerSlot,
    begun: u64,
}

/// What became of frames of a peer at the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) from: PeerSlot,
    /// So many were not taken.
    pub(super) frames: u64,
}

impl Merging {
    /// Takes `packet`, room for the virtio header and a complete frame behind it, of `from`, to the device or into a slot. What was refused meanwhile
    /// is told to `refused`.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn take(
        &mut self,
        now: Instant,
        device: &Device,
        from: PeerSlot,
        packet: &mut [u8],
        mut refused: impl FnMut(Refused),
    ) -> Result<(), DeviceFault> {
        let Some(frame) = packet.get(VnetHeader::LEN..) else { return Ok(()) };
        let kind = Kind::of(frame);
        let is_of_flow = |slot: &Slot| slot.merge.is_of_flow(frame);
        let there = self.slots.iter().position(is_of_flow);
        if let Some(at) = there {
            if let (Kind::Data(segment), Some(slot)) = (kind, self.slots.get_mut(at))
                && slot.from == from
                && slot.merge.take(frame, segment)
            {
                return Ok(());
            }
            // It does not continue that, and may not overtake it.
            self.finish(device, at, &mut refused)?;
        }
        if let Kind::Data(segment) = kind {
            let at = self.free(device, &mut refused)?;
            self.begun += 1;
            self.used = Some(now);
            if let Some(slot) = self.slots.get_mut(at)
                && slot.merge.begin(frame, segment)
            {
                (slot.from, slot.begun) = (from, self.begun);
                return Ok(());
            }
        }
        if !write(device, VnetHeader::COMPLETE, packet)? {
            refused(Refused { from, frames: 1 });
        }
        Ok(())
    }

    /// Everything that waits goes to the device.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn flush(
        &mut self,
        device: &Device,
        mut refused: impl FnMut(Refused),
    ) -> Result<(), DeviceFault> {
        for at in 0..self.slots.len() {
            self.finish(device, at, &mut refused)?;
        }
        Ok(())
    }

    /// The thread has nothing to do.
    pub(super) fn rest(&mut self, now: Instant) {
        let is_unused = |used: &mut Instant| now.saturating_duration_since(*used) >= REST;
        if self.used.take_if(is_unused).is_some() {
            (self.slots, self.spare) = Default::default();
        }
    }

    /// A slot that is empty, made or made so.
    fn free(&mut self, device: &Device, refused: &mut impl FnMut(Refused)) -> Result<usize, DeviceFault> {
        if let Some(at) = self.slots.iter().position(|slot| slot.merge.is_empty()) {
            return Ok(at);
        }
        if self.slots.len() < FLOWS {
            self.slots.push(Slot { merge: Merge::new(), from: PeerSlot(0), begun: 0 });
            return Ok(self.slots.len() - 1);
        }
        let oldest = (0..).zip(&self.slots).min_by_key(|(_, slot)| slot.begun).map_or(0, |(at, _)| at);
        self.finish(device, oldest, refused)?;
        Ok(oldest)
    }

    /// What is in a slot goes to the device.
    fn finish(
        &mut self,
        device: &Device,
        at: usize,
        refused: &mut impl FnMut(Refused),
    ) -> Result<(), DeviceFault> {
        let Self { slots, spare, .. } = self;
        let Some(slot) = slots.get_mut(at) else { return Ok(()) };
        let (from, count) = (slot.from, u64::from(slot.merge.count()));
        let Some((header, packet)) = slot.merge.finish() else { return Ok(()) };
        let frames = match device.write_frame(header, packet) {
            Ok(()) => 0,
            Err(DeviceFault::Gone) => return Err(DeviceFault::Gone),
            Err(DeviceFault::Io(error)) if is_refusal(&error) && count > 1 => {
                write_one_by_one(device, header, packet, spare)?
            }
            Err(DeviceFault::Down | DeviceFault::Short(_) | DeviceFault::Io(_)) => count,
        };
        if frames > 0 {
            refused(Refused { from, frames });
        }
        Ok(())
    }
}

/// A kernel that does not know how to cut it says so.
fn is_refusal(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

/// How many of its frames the device did not take.
fn write_one_by_one(
    device: &Device,
    header: VnetHeader,
    packet: &[u8],
    spare: &mut Vec<u8>,
) -> Result<u64, DeviceFault> {
    let frame = packet.get(VnetHeader::LEN..).unwrap_or_default();
    let Ok(superframe) = Superframe::new(&header, frame) else { return Ok(1) };
    let mut segments = superframe.segments(None);
    let mut refused = 0;
    loop {
        spare.clear();
        spare.resize(VnetHeader::LEN, 0);
        if !segments.next_into(spare) {
            return Ok(refused);
        }
        refused += u64::from(!write(device, VnetHeader::COMPLETE, spare)?);
    }
}

/// Whether the device took it. Set down by the administrator, or no memory for a moment: the frame is lost as on any device.
fn write(device: &Device, header: VnetHeader, packet: &mut [u8]) -> Result<bool, DeviceFault> {
    match device.write_frame(header, packet) {
        Ok(()) => Ok(true),
        Err(DeviceFault::Down | DeviceFault::Short(_) | DeviceFault::Io(_)) => Ok(false),
        Err(fault @ DeviceFault::Gone) => Err(fault),
    }
}
