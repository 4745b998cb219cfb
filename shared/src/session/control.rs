//! Control packets between peers: their own keys, counters and window, owned by the control task (protocol §5, §6).
//!
//! The same rules as for data, apart from the ring: a control body that must arrive is repeated by whoever sent it, so none
//! is kept here. A few packets a second: sealing allocates.

use crate::ids::ReceiverIndex;
use crate::session::key::{OpenKey, SealError, SealKey};
use crate::session::limits::CONTROL_WINDOW;
use crate::session::opener::{Drops, OpenError, Opener};
use crate::wire::header::{HEADER_LEN, Header, PacketType, TAG_LEN};
use crate::wire::packet::MAX_PACKET;
use std::time::Instant;

/// Seals control packets of one association.
#[derive(Debug, Default)]
pub struct ControlSeal {
    key: Option<SealKey>,
    next: u64,
}

impl ControlSeal {
    /// Without a key.
    pub const fn new() -> Self {
        Self { key: None, next: 0 }
    }

    /// Seals under `key` from now on; the counter goes on. The key before is wiped.
    pub fn install(&mut self, key: SealKey) {
        self.key = Some(key);
    }

    /// The key in use.
    pub const fn key(&self) -> Option<&SealKey> {
        self.key.as_ref()
    }

    /// The counter of the next packet.
    pub const fn next_counter(&self) -> u64 {
        self.next
    }

    /// Whether the key sealed so many packets that a rekey should begin at once (protocol §4.8).
    pub fn wants_rekey(&self) -> bool {
        self.key.as_ref().is_some_and(SealKey::wants_rekey)
    }

    /// The packet that carries `body`.
    ///
    /// # Errors
    /// As [`SealError`]; no counter was used then.
    pub fn seal(&mut self, now: Instant, body: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.key.as_mut().ok_or(SealError::NoKey)?;
        key.check(now)?;
        let len = HEADER_LEN + body.len() + TAG_LEN;
        if len > MAX_PACKET {
            return Err(SealError::TooLarge);
        }
        let header =
            Header { kind: PacketType::Control, receiver: key.receiver(), counter: self.next }.to_bytes();
        let mut packet = vec![0; len];
        let (clear, sealed) = packet.split_first_chunk_mut::<HEADER_LEN>().ok_or(SealError::TooLarge)?;
        *clear = header;
        key.aead().seal_to(self.next, &header, body, sealed).map_err(|_| SealError::TooLarge)?;
        key.count_sealed();
        self.next += 1;
        Ok(packet)
    }
}

/// A control packet that opened.
#[derive(Debug, PartialEq, Eq)]
pub struct OpenedControl<'a> {
    /// Its body, to be parsed by [`crate::wire::control::Control::decode`].
    pub body: &'a [u8],
    /// Its counter.
    pub counter: u64,
    /// The key that opened it.
    pub index: ReceiverIndex,
    /// Whether it is the first that this key opened: proof that the peer has it (protocol §4.5, §4.8).
    pub first: bool,
}

/// Opens control packets of one association.
#[derive(Debug)]
pub struct ControlOpen {
    opener: Opener<CONTROL_WINDOW>,
}

impl Default for ControlOpen {
    fn default() -> Self {
        Self::new()
    }
}

impl ControlOpen {
    /// Without keys: it opens nothing.
    pub fn new() -> Self {
        Self { opener: Opener::new() }
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

    /// Opens `packet` where it lies.
    ///
    /// # Errors
    /// As [`OpenError`]; the packet is to be dropped, and was counted. Its bytes may have been overwritten.
    pub fn open<'a>(&mut self, now: Instant, packet: &'a mut [u8]) -> Result<OpenedControl<'a>, OpenError> {
        let result = self.try_open(now, packet);
        if let Err(cause) = &result {
            self.opener.drops.count(*cause);
        }
        result
    }

    fn try_open<'a>(&mut self, now: Instant, packet: &'a mut [u8]) -> Result<OpenedControl<'a>, OpenError> {
        let header = Opener::<CONTROL_WINDOW>::examine(PacketType::Control, packet)?;
        let (clear, sealed) = packet.split_first_chunk_mut().ok_or(OpenError::Malformed)?;
        let opened = self.opener.open(now, header, |aead| aead.open_in_place(header.counter, clear, sealed));
        let (body, first) = opened?;
        Ok(OpenedControl { body, counter: header.counter, index: header.receiver, first })
    }

    /// Packets opened.
    pub const fn opened(&self) -> u64 {
        self.opener.opened
    }

    /// Packets dropped, by cause.
    pub const fn drops(&self) -> &Drops {
        &self.opener.drops
    }
}
