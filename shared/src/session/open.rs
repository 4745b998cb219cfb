//! The opening half of an association, owned by the inbound thread.
//!
//! # Life
//!
//! Made when an association's first keys are known. Each rekey installs another [`OpenKey`] before the peer learns of it, and
//! retires the one before once the new one is proven; the retired one opens what is still under way for 180 s (protocol
//! §4.8). One replay window spans them all, since counters go on over a rekey.
//!
//! # Where to
//!
//! A packet is opened from where it was received to where its frame is wanted: behind the one before it in a superframe, or with room for a
//! virtio header before it. So the cipher makes the only copy. Nothing allocates, locks or reads a clock per packet.
//!
//! # Acknowledgements
//!
//! The half notes what opened on which path. When [`OpenHalf::ack_due_at`] has passed, the thread takes
//! [`OpenHalf::report`] and hands it to the control task, which sends it, and sends its last one again when the peer
//! asks with a PING: an acknowledgement that was lost is thereby repeated.

use crate::ids::ReceiverIndex;
use crate::session::ack::{AckReport, PathSlot, ReceiveMarks};
use crate::session::key::OpenKey;
use crate::session::limits::DATA_WINDOW;
use crate::session::opener::{Drops, OpenError, Opener};
use crate::wire::header::{HEADER_LEN, PacketType, TAG_LEN};
use std::time::Instant;

/// Metadata bit 0: the frame's inner checksum was left for the receiver to complete (protocol §5).
pub const META_NEEDS_CHECKSUM: u8 = 1;
/// Metadata bit 1: the frame continues the one of the counter before (protocol §5).
pub const META_CONTINUES: u8 = 2;
/// Metadata bit 2: no frame, but the end of the path that it comes by: the sender goes on by another (protocol §7.6).
pub const META_MOVED: u8 = 4;
const META_KNOWN: u8 = META_NEEDS_CHECKSUM | META_CONTINUES | META_MOVED;

/// A data packet that opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// Its metadata: [`META_NEEDS_CHECKSUM`], [`META_CONTINUES`], [`META_MOVED`].
    pub meta: u8,
    /// The Ethernet frame, behind the metadata byte.
    pub frame: &'a mut [u8],
    /// Its counter.
    pub counter: u64,
    /// The key that opened it.
    pub index: ReceiverIndex,
    /// Whether it is the first that this key opened: proof that the peer has it (protocol §4.5, §4.8).
    pub first: bool,
}

/// Opens data packets of one association.
#[derive(Debug)]
pub struct OpenHalf {
    opener: Opener<DATA_WINDOW>,
    marks: ReceiveMarks,
    bytes: u64,
}

impl Default for OpenHalf {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenHalf {
    /// A half without keys, which opens nothing.
    pub fn new() -> Self {
        Self { opener: Opener::new(), marks: ReceiveMarks::default(), bytes: 0 }
    }

    /// The same, for a sender that keeps nothing ([`RingLimits::NOTHING`](super::RingLimits::NOTHING)): of what it is told it needs no more than that
    /// its packets arrive, so a report is due each 20 ms at most.
    pub fn reporting_seldom() -> Self {
        Self { marks: ReceiveMarks::seldom(), ..Self::new() }
    }

    /// Opens with `key` as well from now on. Returns the index of a key that had to make way, if one did.
    pub fn install(&mut self, key: OpenKey) -> Option<ReceiverIndex> {
        self.opener.keys.install(key)
    }

    /// Says that the key `index` was replaced at `now`; it opens packets for another 180 s.
    pub fn retire(&mut self, index: ReceiverIndex, now: Instant) {
        self.opener.keys.retire(index, now);
    }

    /// Drops and wipes keys that open nothing any more, and tells `gone` the index of each.
    pub fn expire(&mut self, now: Instant, gone: impl FnMut(ReceiverIndex)) {
        self.opener.keys.expire(now, gone);
    }

    /// When [`Self::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.opener.keys.next_expiry()
    }

    /// The receiver indices of its keys, oldest first.
    pub fn indices(&self) -> impl Iterator<Item = ReceiverIndex> + '_ {
        self.opener.keys.indices()
    }

    /// Bytes that [`Self::open`] writes of `packet`: the metadata byte and the frame. 0 for one that is too short to be one.
    pub const fn plaintext_len(packet: &[u8]) -> usize {
        packet.len().saturating_sub(HEADER_LEN + TAG_LEN)
    }

    /// Opens `packet`, which came over `path`, into `out`, which has [`Self::plaintext_len`] bytes. `path` is the *sender's* number for the path, which its PING
    /// over it told (protocol §6): the acknowledgement goes back under that number.
    ///
    /// # Errors
    /// As [`OpenError`]; the packet is to be dropped, and was counted. What was in `out` may have been overwritten, by nothing secret.
    pub fn open<'a>(
        &mut self,
        now: Instant,
        path: PathSlot,
        packet: &[u8],
        out: &'a mut [u8],
    ) -> Result<Opened<'a>, OpenError> {
        let result = self.try_open(now, path, packet, out);
        match &result {
            Ok(opened) => self.bytes += opened.frame.len() as u64,
            Err(cause) => self.opener.drops.count(*cause),
        }
        result
    }

    fn try_open<'a>(
        &mut self,
        now: Instant,
        path: PathSlot,
        packet: &[u8],
        out: &'a mut [u8],
    ) -> Result<Opened<'a>, OpenError> {
        let header = Opener::<DATA_WINDOW>::examine(PacketType::Data, packet)?;
        let (clear, sealed) = packet.split_first_chunk().ok_or(OpenError::Malformed)?;
        let opened =
            self.opener.open(now, header, |aead| aead.open_to(header.counter, clear, sealed, &mut *out));
        let first = match opened {
            Ok(((), first)) => first,
            Err(cause) => {
                if cause == OpenError::Replayed {
                    self.marks.on_replayed(now, header.counter);
                }
                return Err(cause);
            }
        };
        self.marks.on_opened(now, path, header.counter);
        let (meta, frame) = out.split_first_mut().ok_or(OpenError::Metadata)?;
        if *meta & !META_KNOWN != 0 || (*meta & META_MOVED != 0 && !frame.is_empty()) {
            return Err(OpenError::Metadata);
        }
        Ok(Opened { meta: *meta, frame, counter: header.counter, index: header.receiver, first })
    }

    /// When an acknowledgement is due; `None` when nothing opened since the last report, nor came again.
    pub fn ack_due_at(&self) -> Option<Instant> {
        self.marks.due_at()
    }

    /// Whether anything opened that was not reported.
    pub const fn has_news(&self) -> bool {
        self.marks.has_news()
    }

    /// What arrived, for an ACK.
    pub fn report(&mut self) -> AckReport {
        let newest = self.indices().last();
        self.marks.report(&mut self.opener.window).of_key(newest)
    }

    /// The highest counter opened, on any path.
    pub fn highest(&self) -> Option<u64> {
        self.opener.window.highest()
    }

    /// The highest counter opened that came over `path`.
    pub const fn highest_on(&self, path: PathSlot) -> Option<u64> {
        self.marks.highest(path)
    }

    /// Packets opened.
    pub const fn opened(&self) -> u64 {
        self.opener.opened
    }

    /// Bytes of frames in them.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets dropped, by cause.
    pub const fn drops(&self) -> &Drops {
        &self.opener.drops
    }
}
