//! Frames on their way to the device: what one flow brings in a burst goes there as one superframe.
//!
//! # Life
//!
//! A packet is opened to where its frame belongs if it goes on with the flow of the one before ([`Merging::space`]). What it is shows then
//! ([`Merging::opened`]), and it is let in ([`Merging::take`]) or not ([`Merging::withdraw`]). A frame that may be put together with others waits in a
//! slot of its flow until one comes that does not continue it, until its slot is wanted for another flow, or until the thread has nothing more to open
//! ([`Merging::flush`]), which is before it sleeps: nothing waits for time to pass.
//!
//! # Invariants
//!
//! - Frames of one flow go to the device in the order in which they came, with those that are put together with nothing among them. Between flows
//!   nobody promised an order. A flow is in one slot.
//! - A superframe that the kernel refuses goes frame by frame.
//! - Slots are made when they are wanted, and given back when the thread rests. One of them is empty between two packets.

use crate::device::offload::{Flow, Kind, Merge, Segment, Superframe, partial_header};
use crate::device::{DeviceFault, VnetHeader};
use crate::plane::steering::Writer;
use rustix::io::Errno;
use shadowmesh_proto::ids::PeerSlot;
use std::time::{Duration, Instant};

/// Flows that are put together side by side, and one: more than a machine downloads by at once, and few enough to look through.
const SLOTS: usize = 8;
/// The memory of slots is given back when none was used for so long.
const REST: Duration = Duration::from_secs(10);

/// What waits for the device.
#[derive(Debug, Default)]
pub(super) struct Merging {
    slots: Vec<Slot>,
    /// The slot whose flow the last frame was of, where the next one is opened.
    current: usize,
    /// Of slots that are in use, the one that began first has the lowest.
    begun: u64,
    used: Option<Instant>,
    /// The kernel takes no superframes of UDP: they are not made.
    is_udp_refused: bool,
    /// Where frames of a refused superframe are made.
    spare: Vec<u8>,
}

#[derive(Debug)]
struct Slot {
    merge: Merge,
    /// Who sent what is in it.
    from: PeerSlot,
    begun: u64,
    /// See [`Admitted::is_for_us`].
    is_for_us: bool,
}

/// A frame that was opened, and is let in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admitted {
    pub(super) now: Instant,
    /// Who sent it.
    pub(super) from: PeerSlot,
    /// Whether its checksum was left out.
    pub(super) is_partial: bool,
    /// Whether it is for this machine alone: what continues it is, by the same headers, and nobody need be asked about that.
    pub(super) is_for_us: bool,
}

/// What became of frames of a peer at the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) from: PeerSlot,
    /// So many were not taken.
    pub(super) frames: u64,
}

impl Merging {
    /// Where a metadata byte and a frame, `len` bytes together, are to be written. `None` for what is longer than any frame.
    pub(super) fn space(&mut self, len: usize) -> Option<&mut [u8]> {
        let frame = len.checked_sub(1)?;
        let takes = |slot: &mut Slot| slot.merge.space(frame).is_some();
        if !self.slots.get_mut(self.current).is_some_and(takes) {
            self.current = self.empty();
        }
        self.slots.get_mut(self.current)?.merge.space(frame)
    }

    /// The frame that was opened there.
    pub(super) fn opened(&self) -> &[u8] {
        self.slots.get(self.current).map(|slot| slot.merge.opened()).unwrap_or_default()
    }

    /// It is not let in, or did not open.
    pub(super) fn withdraw(&mut self) {
        if let Some(slot) = self.slots.get_mut(self.current) {
            slot.merge.withdraw();
        }
    }

    /// Takes the frame that was opened where it continues one of `from` that was let in a moment ago, for this machine; whether it does. What was
    /// refused meanwhile is told to `refused`.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn resume(
        &mut self,
        device: &Writer,
        from: PeerSlot,
        is_partial: bool,
        mut refused: impl FnMut(Refused),
    ) -> Result<bool, DeviceFault> {
        let Some(slot) = self.slots.get_mut(self.current) else { return Ok(false) };
        if slot.merge.is_empty() || slot.from != from || !slot.is_for_us {
            return Ok(false);
        }
        let Kind::Data(segment) = Kind::of(slot.merge.opened()) else { return Ok(false) };
        if !slot.merge.keep(segment, is_partial) {
            return Ok(false);
        }
        self.finish_if_ended(device, &mut refused)?;
        Ok(true)
    }

    /// Takes the frame that was opened, to the device or into a slot. What was refused meanwhile is told to `refused`.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn take(
        &mut self,
        device: &Writer,
        admitted: Admitted,
        mut refused: impl FnMut(Refused),
    ) -> Result<(), DeviceFault> {
        let mut kind = Kind::of(self.opened());
        if let Kind::Data(segment) = kind
            && self.is_udp_refused
            && segment.is_udp()
        {
            kind = Kind::Apart;
        }
        if let Kind::Data(segment) = kind
            && let Some(slot) = self.slots.get_mut(self.current)
            && !slot.merge.is_empty()
            && slot.from == admitted.from
            && slot.merge.keep(segment, admitted.is_partial)
        {
            return self.finish_if_ended(device, &mut refused);
        }
        // Of a fragment, whose ports nobody knows, there may be several that it may not overtake.
        while let Some(there) = self.of_flow() {
            if there != self.current
                && let Kind::Data(segment) = kind
                && self.slots.get(there).is_some_and(|slot| slot.from == admitted.from)
                && self.move_to(there, segment, admitted.is_partial)
            {
                return self.finish_if_ended(device, &mut refused);
            }
            // It does not continue that, and may not overtake it.
            if there == self.current {
                let empty = self.empty();
                self.hand_on(empty);
            }
            self.finish(device, there, &mut refused)?;
        }
        let Kind::Data(segment) = kind else {
            return self.write_alone(device, admitted, &mut refused);
        };
        if self.slots.get(self.current).is_some_and(|slot| !slot.merge.is_empty()) {
            let empty = self.empty();
            self.hand_on(empty);
        }
        let Some(slot) = self.slots.get_mut(self.current) else { return Ok(()) };
        if !slot.merge.keep(segment, admitted.is_partial) {
            return self.write_alone(device, admitted, &mut refused);
        }
        self.begun += 1;
        self.used = Some(admitted.now);
        (slot.from, slot.begun, slot.is_for_us) = (admitted.from, self.begun, admitted.is_for_us);
        self.finish_if_ended(device, &mut refused)?;
        // One is left for the next.
        let is_full = self.slots.len() >= SLOTS && self.slots.iter().all(|slot| !slot.merge.is_empty());
        if is_full {
            let oldest = (0..).zip(&self.slots).min_by_key(|(_, slot)| slot.begun).map_or(0, |(at, _)| at);
            self.finish(device, oldest, &mut refused)?;
        }
        Ok(())
    }

    /// Everything that waits goes to the device.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn flush(
        &mut self,
        device: &Writer,
        mut refused: impl FnMut(Refused),
    ) -> Result<(), DeviceFault> {
        for at in 0..self.slots.len() {
            self.finish(device, at, &mut refused)?;
        }
        Ok(())
    }

    /// The thread has nothing to do.
    pub(super) fn rest(&mut self, now: Instant) {
        if self.slots.is_empty() {
            return;
        }
        // A frame that begins nothing had a slot as well.
        let used = *self.used.get_or_insert(now);
        if now.saturating_duration_since(used) >= REST {
            (self.slots, self.spare, self.current, self.used) = Default::default();
            // It may have been that frame alone.
            self.is_udp_refused = false;
        }
    }

    /// When memory may be given back.
    pub(super) fn rests_at(&self) -> Option<Instant> {
        self.used.map(|used| used + REST)
    }

    /// A slot with what may be of the flow of the frame that was opened.
    fn of_flow(&self) -> Option<usize> {
        let flow = Flow::of(self.opened())?;
        self.slots.iter().position(|slot| slot.merge.is_of(flow))
    }

    /// A slot that is empty. There is always one, or room for it.
    fn empty(&mut self) -> usize {
        let is_empty = |slot: &Slot| slot.merge.is_empty() && slot.merge.opened().is_empty();
        self.slots.iter().position(is_empty).unwrap_or_else(|| {
            self.slots.push(Slot { merge: Merge::new(), from: PeerSlot(0), begun: 0, is_for_us: false });
            self.slots.len() - 1
        })
    }

    /// The open frame is open in another slot from now on.
    fn hand_on(&mut self, to: usize) {
        if let Ok([here, there]) = self.slots.get_disjoint_mut([self.current, to]) {
            copy(&here.merge, &mut there.merge);
            here.merge.withdraw();
            self.current = to;
        }
    }

    /// The open frame goes to another slot, if it continues what is there.
    fn move_to(&mut self, to: usize, segment: Segment, is_partial: bool) -> bool {
        let Ok([here, there]) = self.slots.get_disjoint_mut([self.current, to]) else { return false };
        if copy(&here.merge, &mut there.merge) && there.merge.keep(segment, is_partial) {
            here.merge.withdraw();
            self.current = to;
            return true;
        }
        there.merge.withdraw();
        false
    }

    /// Nothing can follow what is in the current slot: it need not wait.
    fn finish_if_ended(
        &mut self,
        device: &Writer,
        refused: &mut impl FnMut(Refused),
    ) -> Result<(), DeviceFault> {
        let is_ended = self.slots.get(self.current).is_some_and(|slot| slot.merge.is_ended());
        if is_ended { self.finish(device, self.current, refused) } else { Ok(()) }
    }

    /// The open frame goes to the device from where it is.
    fn write_alone(
        &mut self,
        device: &Writer,
        Admitted { from, is_partial, .. }: Admitted,
        refused: &mut impl FnMut(Refused),
    ) -> Result<(), DeviceFault> {
        let Some(slot) = self.slots.get_mut(self.current) else { return Ok(()) };
        let header =
            if is_partial { partial_header(slot.merge.opened()) } else { Some(VnetHeader::COMPLETE) };
        // Where its checksum would be nobody can tell: no frame that a member sends (protocol §5).
        let is_taken = match header {
            Some(header) => write(device, header, slot.merge.opened_packet())?,
            None => false,
        };
        slot.merge.withdraw();
        if !is_taken {
            refused(Refused { from, frames: 1 });
        }
        Ok(())
    }

    /// What is in a slot goes to the device.
    fn finish(
        &mut self,
        device: &Writer,
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
                // A kernel before 6.2 has no superframes of UDP, and will not have them.
                self.is_udp_refused |= header.gso_type == VnetHeader::GSO_UDP;
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

/// Writes the open frame of one to where the other wants it, if it wants any.
fn copy(from: &Merge, to: &mut Merge) -> bool {
    let frame = from.opened();
    let space = to.space(frame.len()).and_then(|space| space.get_mut(1..));
    space.map(|space| space.copy_from_slice(frame)).is_some()
}

/// A kernel that does not know how to cut it says so.
fn is_refusal(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

/// How many of its frames the device did not take.
fn write_one_by_one(
    device: &Writer,
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
fn write(device: &Writer, header: VnetHeader, packet: &mut [u8]) -> Result<bool, DeviceFault> {
    match device.write_frame(header, packet) {
        Ok(()) => Ok(true),
        Err(DeviceFault::Down | DeviceFault::Short(_) | DeviceFault::Io(_)) => Ok(false),
        Err(fault @ DeviceFault::Gone) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::memory::pair;
    use crate::device::offload::superframes::{Choice, PLAIN, all, made};
    use crate::device::{Device, MemoryPort, Segmentation};
    use proptest::prelude::*;
    use std::collections::HashMap;

    struct Bench {
        merging: Merging,
        device: Writer,
        port: Device,
        wire: MemoryPort,
        refused: Vec<Refused>,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let (wire, device) = pair(&"mem0".parse().unwrap(), 10_000).unwrap();
            let now = Instant::now();
            let port = device.into_device();
            let device = Writer::new(port.clone().into(), None);
            Self { merging: Merging::default(), device, port, wire, refused: vec![], now }
        }

        /// A packet with this frame was opened, and is let in.
        fn come(&mut self, from: u32, frame: &[u8]) {
            self.come_as(from, frame, false);
        }

        fn come_as(&mut self, from: u32, frame: &[u8], is_partial: bool) {
            self.merging.space(frame.len() + 1).unwrap()[1..].copy_from_slice(frame);
            assert_eq!(self.merging.opened(), frame);
            let admitted = Admitted { now: self.now, from: PeerSlot(from), is_partial, is_for_us: from == 0 };
            let Self { merging, device, refused, .. } = self;
            let is_taken = merging.resume(device, admitted.from, is_partial, |it| refused.push(it)).unwrap();
            if !is_taken {
                merging.take(device, admitted, |it| refused.push(it)).unwrap();
            }
            assert!(merging.slots.len() <= SLOTS);
        }

        fn flush(&mut self) {
            let Self { merging, device, refused, .. } = self;
            merging.flush(device, |it| refused.push(it)).unwrap();
        }

        /// What a kernel sees.
        fn received(&self) -> Vec<Vec<u8>> {
            std::iter::from_fn(|| self.wire.receive().unwrap()).collect()
        }

        /// What was written, not cut: the count of segments that each stands for.
        fn written(&self) -> Vec<usize> {
            let mut buffer = vec![0; 70_000];
            std::iter::from_fn(|| {
                let incoming = self.wire.read_frame(&mut buffer).unwrap()?;
                Some(Superframe::new(&incoming.header, incoming.frame).map_or(1, |it| it.count()))
            })
            .collect()
        }
    }

    /// Segments of one flow, which `port` tells from others.
    fn flow(port: u8, bytes: usize) -> Vec<Vec<u8>> {
        let mut made = made(Choice { flags: 0x10, ..PLAIN }, &vec![port; bytes]);
        made.frame[made.transport_at + 1] = port;
        all(&Superframe::new(&made.header, &made.frame).unwrap(), None)
    }

    #[test]
    fn a_flow_is_one_write_and_others_do_not_part_it() {
        let mut bench = Bench::new();
        let flows: Vec<_> = (1..=4).map(|port| flow(port, 6 * 1348)).collect();
        for at in 0..6 {
            for flow in &flows {
                bench.come(0, &flow[at]);
            }
        }
        assert_eq!(bench.written(), Vec::<usize>::new(), "they wait for each other");
        bench.flush();
        assert_eq!(bench.written(), [6; 4]);
    }

    #[test]
    fn what_ends_a_burst_is_not_waited_behind() {
        let mut bench = Bench::new();
        let parts = flow(1, 3 * 1348 + 100);
        parts.iter().for_each(|part| bench.come(0, part));
        assert_eq!(bench.written(), [4], "a short one is the last");
    }

    #[test]
    fn what_is_not_for_all_of_a_flow_comes_in_its_place() {
        let mut bench = Bench::new();
        let parts = flow(1, 4 * 1348);
        // An acknowledgement without data, of the same flow.
        let mut pure = parts[2].clone();
        pure.truncate(14 + 20 + 32);
        pure[16..18].copy_from_slice(&52_u16.to_be_bytes());
        bench.come(0, &parts[0]);
        bench.come(0, &parts[1]);
        bench.come(0, &pure);
        bench.come(0, &parts[2]);
        // The same headers from another member are another flow to us, and wait for nobody's.
        bench.come(1, &parts[3]);
        bench.flush();
        let expected = [&parts[0], &parts[1], &pure, &parts[2], &parts[3]];
        assert_eq!(bench.received().iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_fragment_overtakes_none_of_the_flows_that_it_may_be_of() {
        let mut bench = Bench::new();
        let datagrams = [1, 2, 3].map(|port| {
            let mut made = made(Choice { is_tcp: false, tcp_options: 0, ..PLAIN }, &[port; 2 * 1348]);
            made.frame[made.transport_at + 1] = port;
            all(&Superframe::new(&made.header, &made.frame).unwrap(), None).remove(0)
        });
        datagrams.iter().for_each(|datagram| bench.come(0, datagram));
        // The first of a larger one of the last flow: its ports are not looked at, since the others have none.
        let mut fragment = datagrams[2].clone();
        fragment[20] |= 0x20;
        bench.come(0, &fragment);
        bench.flush();
        let received = bench.received();
        assert_eq!((received.len(), &received[3]), (4, &fragment));
    }

    #[test]
    fn a_kernel_that_takes_no_superframes_gets_frames_and_what_it_does_not_take_is_counted() {
        let mut bench = Bench::new();
        let Device::Memory(port) = &bench.port else { unreachable!("made so") };
        port.refuse_superframes();
        let parts = flow(1, 5 * 1348);
        parts.iter().for_each(|part| bench.come(3, part));
        bench.flush();
        assert_eq!(bench.received(), parts);
        assert_eq!(bench.refused, []);
        // Datagrams are not put together again for a kernel that took none so: each is there at once.
        let made = made(Choice { is_tcp: false, tcp_options: 0, ..PLAIN }, &[7; 5 * 1348]);
        let datagrams = all(&Superframe::new(&made.header, &made.frame).unwrap(), None);
        datagrams.iter().for_each(|datagram| bench.come(3, datagram));
        assert_eq!(bench.received(), Vec::<Vec<u8>>::new());
        bench.flush();
        assert_eq!(bench.received(), datagrams);
        datagrams.iter().for_each(|datagram| bench.come(3, datagram));
        assert_eq!(bench.received(), datagrams);
        // What cannot be written at all is its sender's loss.
        bench.come_as(3, &[0x55; 60], true);
        assert_eq!(bench.refused, [Refused { from: PeerSlot(3), frames: 1 }]);
    }

    #[test]
    fn a_checksum_that_was_left_out_is_left_to_the_kernel() {
        let mut bench = Bench::new();
        let made = made(PLAIN, &[7; 3000]);
        let superframe = Superframe::new(&made.header, &made.frame).unwrap();
        let (mut partial, whole) = (superframe.segments(None).partial(), all(&superframe, None));
        while let Some(segment) = {
            let mut segment = Vec::new();
            partial.next_into(&mut segment).then_some(segment)
        } {
            bench.come_as(0, &segment, true);
            if segment.len() == whole[0].len() {
                // One alone says so as well.
                bench.flush();
            }
        }
        bench.flush();
        assert_eq!(bench.received(), whole);
    }

    #[test]
    fn what_is_not_let_in_leaves_no_trace() {
        let mut bench = Bench::new();
        let parts = flow(1, 3 * 1348);
        bench.come(0, &parts[0]);
        bench.merging.space(9_000).unwrap().fill(0xee);
        bench.merging.withdraw();
        bench.come(0, &parts[1]);
        bench.merging.space(60).unwrap().fill(0xee);
        bench.flush();
        assert_eq!(bench.received(), parts[..2]);
    }

    #[test]
    fn memory_is_given_back_after_a_rest_and_not_before() {
        let mut bench = Bench::new();
        (1..=20).for_each(|port| bench.come(0, &flow(port, 1348)[0]));
        bench.flush();
        assert_eq!(bench.merging.slots.len(), SLOTS);
        bench.merging.rest(bench.now + REST / 2);
        assert_eq!(bench.merging.slots.len(), SLOTS);
        bench.merging.rest(bench.now + REST);
        assert_eq!(bench.merging.slots.len(), 0);
        bench.come(0, &flow(1, 1348)[0]);
    }

    /// Kind, addresses and ports, of the frames made here.
    fn flow_of(frame: &[u8]) -> Vec<u8> {
        [&frame[12..14], &frame[26..38]].concat()
    }

    proptest! {
        /// Whoever sends what, and however it is mixed: each flow's frames come out as they came, in their order.
        #[test]
        fn each_flow_keeps_its_frames_and_their_order(
            picks in prop::collection::vec((0..12u8, 0..3u32, 0..20u8), 1..150),
            flushes in prop::collection::vec(any::<bool>(), 150),
        ) {
            let mut bench = Bench::new();
            let flows: Vec<_> = (0..12).map(|port| flow(port, 90 * 1348 + 5)).collect();
            let mut at = [0; 12];
            let mut sent: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
            for ((port, from, kind), flush) in picks.into_iter().zip(flushes) {
                let place = usize::from(port);
                let mut frame = flows[place][at[place] % flows[place].len()].clone();
                at[place] += 1;
                match kind {
                    // Damaged, cut short, another place in the flow, no flow at all.
                    0 => frame[100] ^= 1,
                    1 => frame.truncate(60),
                    2 => at[place] += 3,
                    3 => frame[12] = 0x99,
                    _ => {}
                }
                bench.come(from, &frame);
                sent.entry(flow_of(&frame)).or_default().push(frame);
                if flush {
                    bench.flush();
                }
            }
            bench.flush();
            let mut received: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
            for frame in bench.received() {
                received.entry(flow_of(&frame)).or_default().push(frame);
            }
            prop_assert_eq!(received, sent);
            prop_assert!(bench.refused.is_empty());
        }
    }

    #[test]
    fn superframes_are_of_the_kind_that_they_were_cut_from() {
        let mut bench = Bench::new();
        for choice in [PLAIN, Choice { is_v6: true, ..PLAIN }, Choice { is_tcp: false, ..PLAIN }] {
            let made = made(choice, &[7; 2 * 1348]);
            for segment in all(&Superframe::new(&made.header, &made.frame).unwrap(), None) {
                bench.come(0, &segment);
            }
            bench.flush();
            let mut buffer = vec![0; 10_000];
            let incoming = bench.wire.read_frame(&mut buffer).unwrap().unwrap();
            assert_ne!(incoming.header.segmentation(), Segmentation::None);
            assert_eq!(incoming.header, made.header, "{choice:?}");
        }
    }
}
