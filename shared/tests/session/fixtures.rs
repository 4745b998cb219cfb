//! Fixed keys and halves for the tests of a session.
use shadowmesh_proto::crypto::aead::Cipher;
use shadowmesh_proto::ids::ReceiverIndex;
use shadowmesh_proto::session::limits::POOL_BYTES;
use shadowmesh_proto::session::{
    AckMarks, ChunkPool, OpenHalf, OpenKey, PathSlot, RekeyPolicy, RingLimits, Role, SealHalf, SealKey,
};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub(crate) const CIPHERS: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];
pub(crate) const KEY: [u8; 32] = *b"a key that every test may know..";
pub(crate) const INDEX: ReceiverIndex = ReceiverIndex(0x1122_3344);

/// Where virtual time begins.
#[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
pub(crate) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

pub(crate) fn path(number: u8) -> PathSlot {
    PathSlot::new(number).unwrap()
}

/// A frame that can be told from every other by its number.
pub(crate) fn frame(number: u64) -> Vec<u8> {
    let mut frame = vec![0x5a; 60];
    frame[14..22].copy_from_slice(&number.to_be_bytes());
    frame
}

/// The number of a [`frame`].
pub(crate) fn number(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[14..22].try_into().unwrap())
}

/// The key of a generation, different for each.
fn key_of(generation: u32) -> [u8; 32] {
    let mut key = KEY;
    key[..4].copy_from_slice(&generation.to_be_bytes());
    key
}

/// What seals with the keys of a generation that was installed at `now`, under a rotation of 2 s.
pub(crate) fn generation_seal(cipher: Cipher, generation: u32, now: Instant) -> SealKey {
    let policy = RekeyPolicy::new(Duration::from_secs(2), Role::Lower);
    SealKey::new(cipher, &key_of(generation), ReceiverIndex(generation), now, policy.stop_sealing_at(now))
}

/// What opens with the keys of a generation; its index is its number.
pub(crate) fn generation_open(cipher: Cipher, generation: u32) -> OpenKey {
    OpenKey::new(cipher, &key_of(generation), ReceiverIndex(generation))
}

pub(crate) fn seal_key(cipher: Cipher) -> SealKey {
    SealKey::new(cipher, &KEY, INDEX, epoch(), epoch() + Duration::from_secs(180))
}

pub(crate) fn seal_half(limits: RingLimits) -> SealHalf {
    SealHalf::new(limits, ChunkPool::new(POOL_BYTES), Arc::new(AckMarks::new()))
}

/// Two halves that share a key.
pub(crate) fn pair(cipher: Cipher) -> (SealHalf, OpenHalf) {
    let mut seal = seal_half(RingLimits::default());
    seal.install(epoch(), seal_key(cipher));
    let mut open = OpenHalf::new();
    open.install(OpenKey::new(cipher, &KEY, INDEX));
    (seal, open)
}

/// Where `packet` is opened to.
pub(crate) fn room(packet: &[u8]) -> Vec<u8> {
    vec![0; OpenHalf::plaintext_len(packet)]
}
