//! What opening a DATA and a CONTROL packet have in common: header, key, window, cipher, in that order.
//!
//! Each step is cheaper than the next, and nothing changes before the cipher agreed: a forged packet moves no window and
//! proves nothing. Whatever fails is counted by cause and never answered (protocol §5.3).

use crate::crypto::aead::{AeadError, AeadKey};
use crate::session::key::OpenKeys;
use crate::session::replay::{Freshness, ReplayWindow};
use crate::wire::codec::WireError;
use crate::wire::header::{HEADER_LEN, Header, PacketType, TAG_LEN};
use std::time::Instant;

/// Why a packet was not opened. The number is its place in [`Drops`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short, or not of the type this key opens.
    #[error("the packet is malformed")]
    Malformed,
    /// Flags or reserved bits are set, which version 1 does not know (protocol §5).
    #[error("the packet has header bits that this version does not know")]
    NonZeroReserved,
    /// No key of this association has that receiver index.
    #[error("no key has the packet's receiver index")]
    UnknownIndex,
    /// The key was replaced too long ago (protocol §4.8).
    #[error("the packet's key is retired")]
    Retired,
    /// The key saw too many forgeries (protocol §4.9).
    #[error("the packet's key has seen too many forgeries")]
    WornOut,
    /// The counter is below the window (protocol §5.1).
    #[error("the packet is too old")]
    TooOld,
    /// The counter was opened before.
    #[error("the packet was opened before")]
    Replayed,
    /// The tag does not match.
    #[error("the packet does not open under its key")]
    Forged,
    /// It opened, but its plaintext has no metadata byte or one with unknown bits (protocol §5).
    #[error("the packet's metadata is not of this version")]
    Metadata,
}

impl OpenError {
    /// Every cause, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::NonZeroReserved,
        Self::UnknownIndex,
        Self::Retired,
        Self::WornOut,
        Self::TooOld,
        Self::Replayed,
        Self::Forged,
        Self::Metadata,
    ];

    /// A name for a counter in status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NonZeroReserved => "reserved_bits",
            Self::UnknownIndex => "unknown_index",
            Self::Retired => "retired_key",
            Self::WornOut => "worn_out_key",
            Self::TooOld => "too_old",
            Self::Replayed => "replayed",
            Self::Forged => "forged",
            Self::Metadata => "metadata",
        }
    }
}

impl From<WireError> for OpenError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Value(_) => Self::NonZeroReserved,
            WireError::Truncated
            | WireError::Trailing
            | WireError::Version(_)
            | WireError::Kind(_)
            | WireError::Body => Self::Malformed,
        }
    }
}

/// Packets dropped, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops([u64; OpenError::ALL.len()]);

impl Drops {
    /// How many were dropped for `cause`.
    pub const fn of(&self, cause: OpenError) -> u64 {
        self.0[cause as usize]
    }

    /// How many were dropped.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each cause with its count.
    pub fn iter(&self) -> impl Iterator<Item = (OpenError, u64)> + '_ {
        OpenError::ALL.into_iter().zip(self.0)
    }

    pub(crate) const fn count(&mut self, cause: OpenError) {
        self.0[cause as usize] += 1;
    }
}

/// No honest sender comes near it (protocol §5.1), and nobody behind this line need think of overflow.
const COUNTER_END: u64 = 1 << 62;

/// Receive keys and the window that spans them.
#[derive(Debug)]
pub(crate) struct Opener<const WINDOW: usize> {
    pub(crate) keys: OpenKeys,
    pub(crate) window: ReplayWindow<WINDOW>,
    pub(crate) drops: Drops,
    pub(crate) opened: u64,
}

impl<const WINDOW: usize> Opener<WINDOW> {
    pub(crate) fn new() -> Self {
        Self { keys: OpenKeys::new(), window: ReplayWindow::new(), drops: Drops::default(), opened: 0 }
    }

    /// Reads the header of `packet` and checks that it is of this kind and long enough to hold a tag.
    pub(crate) fn examine(kind: PacketType, packet: &[u8]) -> Result<Header, OpenError> {
        let header = Header::parse(packet)?;
        if header.kind != kind || packet.len() < HEADER_LEN + TAG_LEN || header.counter >= COUNTER_END {
            return Err(OpenError::Malformed);
        }
        Ok(header)
    }

    /// Has `cipher` open a packet of this header, if it is one to be opened; on success its counter is marked. Gives what `cipher` gave, and
    /// whether it was the first that its key opened.
    pub(crate) fn open<T>(
        &mut self,
        now: Instant,
        header: Header,
        cipher: impl FnOnce(&AeadKey) -> Result<T, AeadError>,
    ) -> Result<(T, bool), OpenError> {
        let key = self.keys.find(header.receiver).ok_or(OpenError::UnknownIndex)?;
        if !key.is_open(now) {
            return Err(OpenError::Retired);
        }
        if key.is_worn_out() {
            return Err(OpenError::WornOut);
        }
        let freshness = self.window.check(header.counter);
        if freshness == Freshness::Old {
            return Err(OpenError::TooOld);
        }
        let text = match cipher(&key.aead) {
            Ok(text) => text,
            Err(AeadError::Length) => return Err(OpenError::Malformed),
            Err(AeadError::Forged) => {
                key.count_forged();
                return Err(OpenError::Forged);
            }
        };
        // Not before it opened: what came again is answered (protocol §5.2), and a counter anybody can read.
        if freshness == Freshness::Seen {
            return Err(OpenError::Replayed);
        }
        let first = key.count_opened();
        self.window.mark(header.counter);
        self.opened += 1;
        Ok((text, first))
    }
}
