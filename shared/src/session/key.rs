//! One key generation, seen from the side that seals and from the side that opens.
//!
//! A [`SealKey`] is replaced whole: the new one is installed, the old one dropped, and the counter goes on (protocol §4.8).
//! Receive keys overlap: [`OpenKeys`] holds the generations that may still open something, found by receiver index. The
//! life of a receive key: installed; the newer one installed and proven; *retired* with a moment at which it closes;
//! dropped. Dropping a key wipes it ([`crate::crypto::aead`]).

use crate::crypto::aead::{AeadKey, Cipher};
use crate::ids::ReceiverIndex;
use crate::session::limits::{RECEIVE_KEYS, RETIRED_KEY_LIFE, forgery_limit, seal_limit};
use std::time::Instant;

/// Why a packet was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No key was installed yet: the frame waits in the caller's queue (protocol §4.7).
    #[error("there is no key to seal with yet")]
    NoKey,
    /// The key is past the time at which it may seal (protocol §4.8).
    #[error("the key has reached the age at which it seals nothing more")]
    Expired,
    /// The key sealed twice the packets after which it asked to be replaced (protocol §4.8).
    #[error("the key has sealed as many packets as it may")]
    Exhausted,
    /// The packet would be longer than any path carries.
    #[error("the frame is longer than a packet can carry")]
    TooLarge,
    /// The plaintext is empty: it has to begin with the metadata byte (protocol §5).
    #[error("the plaintext has no metadata byte")]
    NoMetadata,
}

/// A key that seals, the receiver's index for it, and its bounds.
#[derive(Debug)]
pub struct SealKey {
    aead: AeadKey,
    receiver: ReceiverIndex,
    installed_at: Instant,
    expires_at: Instant,
    limit: u64,
    sealed: u64,
    completes_checksums: bool,
}

impl SealKey {
    /// A key under which the peer expects `receiver`. It seals nothing from `expires_at` on
    /// ([`crate::session::rekey::RekeyPolicy::stop_sealing_at`]).
    pub fn new(
        cipher: Cipher,
        key: &[u8; 32],
        receiver: ReceiverIndex,
        installed_at: Instant,
        expires_at: Instant,
    ) -> Self {
        let aead = AeadKey::new(cipher, key);
        Self {
            aead,
            receiver,
            installed_at,
            expires_at,
            limit: seal_limit(cipher),
            sealed: 0,
            completes_checksums: false,
        }
    }

    /// The same key with a lower packet limit, for tests of what happens there; a higher one changes nothing.
    #[must_use]
    pub fn with_limit(mut self, packets: u64) -> Self {
        self.limit = self.limit.min(packets);
        self
    }

    /// The same key, with what the receiver said of itself: see [`Self::completes_checksums`].
    #[must_use]
    pub const fn for_one_who_completes_checksums(mut self, completes: bool) -> Self {
        self.completes_checksums = completes;
        self
    }

    /// Whether a frame may go without its inner checksum (protocol §5, *needs checksum*).
    pub const fn completes_checksums(&self) -> bool {
        self.completes_checksums
    }

    /// The receiver index its packets carry.
    pub const fn receiver(&self) -> ReceiverIndex {
        self.receiver
    }

    /// When it was installed.
    pub const fn installed_at(&self) -> Instant {
        self.installed_at
    }

    /// From when on it seals nothing.
    pub const fn expires_at(&self) -> Instant {
        self.expires_at
    }

    /// Packets sealed under it.
    pub const fn sealed(&self) -> u64 {
        self.sealed
    }

    /// Whether it sealed enough that a rekey should begin at once (protocol §4.8).
    pub const fn wants_rekey(&self) -> bool {
        self.sealed >= self.limit
    }

    /// Whether it may seal one more packet at `now`.
    pub fn seals(&self, now: Instant) -> bool {
        self.check(now).is_ok()
    }

    pub(crate) fn check(&self, now: Instant) -> Result<(), SealError> {
        if now >= self.expires_at {
            Err(SealError::Expired)
        } else if self.sealed >= self.limit.saturating_mul(2) {
            Err(SealError::Exhausted)
        } else {
            Ok(())
        }
    }

    pub(crate) const fn aead(&self) -> &AeadKey {
        &self.aead
    }

    pub(crate) const fn count_sealed(&mut self) {
        self.sealed += 1;
    }
}

/// A key that opens, and its bounds.
#[derive(Debug)]
pub struct OpenKey {
    pub(crate) aead: AeadKey,
    index: ReceiverIndex,
    closes_at: Option<Instant>,
    forgery_limit: u64,
    forged: u64,
    opened: bool,
}

impl OpenKey {
    /// The key that this node named `index`.
    pub fn new(cipher: Cipher, key: &[u8; 32], index: ReceiverIndex) -> Self {
        let aead = AeadKey::new(cipher, key);
        Self { aead, index, closes_at: None, forgery_limit: forgery_limit(cipher), forged: 0, opened: false }
    }

    /// The same key with a lower limit of failed opens, for tests of what happens there; a higher one changes nothing.
    #[must_use]
    pub fn with_forgery_limit(mut self, packets: u64) -> Self {
        self.forgery_limit = self.forgery_limit.min(packets);
        self
    }

    /// Its receiver index.
    pub const fn index(&self) -> ReceiverIndex {
        self.index
    }

    /// Whether it still opens packets at `now`.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.closes_at.is_none_or(|at| now < at)
    }

    /// Whether it saw as many forgeries as it may (protocol §4.9).
    pub(crate) const fn is_worn_out(&self) -> bool {
        self.forged >= self.forgery_limit
    }

    pub(crate) const fn count_forged(&mut self) {
        self.forged += 1;
    }

    /// Records an open; true the first time.
    pub(crate) const fn count_opened(&mut self) -> bool {
        let first = !self.opened;
        self.opened = true;
        first
    }
}

/// The receive keys of one association, oldest first, at most [`RECEIVE_KEYS`].
#[derive(Debug)]
pub struct OpenKeys {
    keys: Vec<OpenKey>,
}

impl Default for OpenKeys {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenKeys {
    /// No key: nothing opens.
    pub fn new() -> Self {
        Self { keys: Vec::with_capacity(RECEIVE_KEYS) }
    }

    /// Adds a key. A key of the same index is replaced. When there are [`RECEIVE_KEYS`] already, one goes and its index is
    /// returned, for the caller's table of indices: the oldest retired one, else the oldest that never opened anything (a
    /// rekey that came to nothing), else the oldest.
    pub fn install(&mut self, key: OpenKey) -> Option<ReceiverIndex> {
        if let Some(same) = self.keys.iter_mut().find(|held| held.index == key.index) {
            *same = key;
            return None;
        }
        let evicted = (self.keys.len() >= RECEIVE_KEYS).then(|| {
            let at = self.keys.iter().position(|held| held.closes_at.is_some());
            let at = at.or_else(|| self.keys.iter().position(|held| !held.opened));
            self.keys.remove(at.unwrap_or(0)).index
        });
        self.keys.push(key);
        evicted
    }

    /// Says that the key named `index` was replaced at `now`: it closes [`RETIRED_KEY_LIFE`] later. A key retired before
    /// keeps its earlier moment.
    pub fn retire(&mut self, index: ReceiverIndex, now: Instant) {
        if let Some(key) = self.keys.iter_mut().find(|key| key.index == index) {
            key.closes_at.get_or_insert(now + RETIRED_KEY_LIFE);
        }
    }

    /// Drops the keys that open nothing any more at `now`, and tells `gone` the index of each.
    pub fn expire(&mut self, now: Instant, mut gone: impl FnMut(ReceiverIndex)) {
        self.keys.retain(|key| {
            let keep = key.is_open(now);
            if !keep {
                gone(key.index);
            }
            keep
        });
    }

    /// When the next retired key closes.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.keys.iter().filter_map(|key| key.closes_at).min()
    }

    /// The indices held, oldest first.
    pub fn indices(&self) -> impl Iterator<Item = ReceiverIndex> + '_ {
        self.keys.iter().map(|key| key.index)
    }

    /// Gives them away, oldest first; those that were replaced go on to open until their time is over.
    pub(crate) fn into_keys(self) -> impl Iterator<Item = OpenKey> {
        self.keys.into_iter()
    }

    /// The key named `index`. The newest is looked at first: nearly every packet is for it.
    pub(crate) fn find(&mut self, index: ReceiverIndex) -> Option<&mut OpenKey> {
        self.keys.iter_mut().rev().find(|key| key.index == index)
    }
}
