//! A superframe as sealed packets and back: what of a tunnel is left without a protocol.
//!
//! A superframe (the virtio header and all that the kernel handed over in one piece) is put behind its length and cut into packets of
//! [`SEGMENT`] bytes, the last one shorter:
//!
//! ```text
//! counter, 8 bytes, little-endian; the top bit says that a superframe begins │ up to 1,416 bytes of it, sealed │ tag, 16 bytes
//! ```
//!
//! The counter is the nonce. What opens is put together in order; when one packet is missing, the rest of its superframe is thrown away. The key
//! is the same at every start: this hides nothing, it only costs what hiding costs.

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::datagrams::{MAX_SEGMENTS, MAX_SEND};
use crate::tap::MAX_READ;

/// Bytes of a packet: within an Ethernet packet of 1,500 with IPv6 and UDP headers.
pub const SEGMENT: usize = 1_440;
const COUNTER: usize = 8;
const TAG: usize = 16;
/// Bytes of a superframe in each packet.
pub const PIECE: usize = SEGMENT - COUNTER - TAG;
/// Bytes of the length in front of a superframe.
pub const LENGTH: usize = 4;
/// Packets that go out by one call.
pub const PER_CALL: usize = if MAX_SEND / SEGMENT < MAX_SEGMENTS { MAX_SEND / SEGMENT } else { MAX_SEGMENTS };
const _: () = assert!(
    PER_CALL <= MAX_SEGMENTS && PER_CALL * SEGMENT <= MAX_SEND,
    "more than the kernel takes by a call"
);
/// Bytes of the packets of the longest superframe.
pub const MAX_SEALED: usize = (LENGTH + MAX_READ).div_ceil(PIECE) * SEGMENT;

const BEGINS: u64 = 1 << 63;

/// What a packet costs besides being moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Cipher {
    /// Copied, with room for a tag that nobody makes.
    None,
    /// ChaCha20-Poly1305.
    Chacha,
    /// AES-256-GCM.
    Aes,
}

impl Cipher {
    fn key(self) -> Option<LessSafeKey> {
        let algorithm = match self {
            Self::None => return None,
            Self::Chacha => &CHACHA20_POLY1305,
            Self::Aes => &AES_256_GCM,
        };
        Some(LessSafeKey::new(UnboundKey::new(algorithm, &[1; 32]).expect("both ciphers take a 32-byte key")))
    }
}

/// The sending half.
#[derive(Debug)]
pub struct Sealer {
    key: Option<LessSafeKey>,
    counter: u64,
}

impl Sealer {
    /// Of the other end's [`Opener`] with the same cipher.
    #[must_use]
    pub fn new(cipher: Cipher) -> Self {
        Self { key: cipher.key(), counter: 0 }
    }

    /// Cuts and seals `superframe`, whose first [`LENGTH`] bytes are room for its length, into `out` (of [`MAX_SEALED`] bytes); what was written.
    pub fn seal<'o>(&mut self, superframe: &mut [u8], out: &'o mut [u8]) -> &'o [u8] {
        let length = (superframe.len() - LENGTH) as u32;
        superframe[..LENGTH].copy_from_slice(&length.to_le_bytes());
        let mut written = 0;
        let mut begins = BEGINS;
        for piece in superframe.chunks(PIECE) {
            self.counter += 1;
            let counter = self.counter | std::mem::take(&mut begins);
            let packet = &mut out[written..written + COUNTER + piece.len() + TAG];
            let (head, rest) = packet.split_at_mut(COUNTER);
            let (text, tag) = rest.split_at_mut(piece.len());
            head.copy_from_slice(&counter.to_le_bytes());
            match &self.key {
                None => text.copy_from_slice(piece),
                Some(key) => key
                    .seal_out_of_place_scatter(nonce(counter), Aad::empty(), piece, text, &[], tag)
                    .expect("lengths that fit each other"),
            }
            written += packet.len();
        }
        &out[..written]
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Opener {
    key: Option<LessSafeKey>,
    last: u64,
    superframe: Box<[u8]>,
    /// How much of it is there; nothing means that the next packet to be of use begins one.
    have: usize,
}

impl Opener {
    /// Of the other end's [`Sealer`] with the same cipher.
    #[must_use]
    pub fn new(cipher: Cipher) -> Self {
        // Whole pieces, so that a packet has room wherever it begins.
        let room = (LENGTH + MAX_READ).next_multiple_of(PIECE);
        Self { key: cipher.key(), last: 0, superframe: vec![0; room].into(), have: 0 }
    }

    /// Takes a packet; the superframe that it completes, without its length.
    pub fn open(&mut self, packet: &[u8]) -> Option<&[u8]> {
        let (head, rest) = packet.split_first_chunk::<COUNTER>()?;
        let (text, tag) = rest.split_last_chunk::<TAG>()?;
        let counter = u64::from_le_bytes(*head);
        let begins = counter & BEGINS != 0;
        let is_next = counter & !BEGINS == self.last.wrapping_add(1);
        self.last = counter & !BEGINS;
        if begins {
            self.have = 0;
        } else if !is_next || self.have == 0 {
            self.have = 0;
            return None;
        }
        let end = self.have + text.len();
        let opened = match (self.superframe.get_mut(self.have..end), &self.key) {
            (None, _) => false,
            (Some(room), None) => {
                room.copy_from_slice(text);
                true
            }
            (Some(room), Some(key)) => {
                key.open_separate_gather(nonce(counter), Aad::empty(), text, tag, room).is_ok()
            }
        };
        if !opened {
            self.have = 0;
            return None;
        }
        self.have = end;
        let (length, superframe) = self.superframe.get(..end)?.split_first_chunk::<LENGTH>()?;
        let whole = superframe.len() == u32::from_le_bytes(*length) as usize;
        if whole {
            self.have = 0;
        }
        whole.then_some(superframe)
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - COUNTER..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIPHERS: [Cipher; 3] = [Cipher::None, Cipher::Chacha, Cipher::Aes];

    /// A superframe with room for its length; `n` makes it differ from others.
    fn superframe(length: usize, n: u8) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        bytes.extend((0..length).map(|at| (at as u8) ^ n));
        bytes
    }

    fn packets(sealer: &mut Sealer, superframe: &[u8]) -> Vec<Vec<u8>> {
        let mut out = vec![0; MAX_SEALED];
        let sealed = sealer.seal(&mut superframe.to_vec(), &mut out);
        sealed.chunks(SEGMENT).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn what_is_sealed_opens() {
        for cipher in CIPHERS {
            let (mut sealer, mut opener) = (Sealer::new(cipher), Opener::new(cipher));
            for length in [64, PIECE - LENGTH, PIECE - LENGTH + 1, 20_000, MAX_READ] {
                let sent = superframe(length, 3);
                let packets = packets(&mut sealer, &sent);
                let (last, before) = packets.split_last().unwrap();
                assert!(before.iter().all(|packet| packet.len() == SEGMENT && opener.open(packet).is_none()));
                assert_eq!(opener.open(last), Some(&sent[LENGTH..]), "{cipher:?}, {length} bytes");
            }
        }
    }

    #[test]
    fn a_lost_packet_costs_its_superframe_and_no_other() {
        for cipher in CIPHERS {
            for lost in 0..4 {
                let (mut sealer, mut opener) = (Sealer::new(cipher), Opener::new(cipher));
                let (first, second) = (superframe(5_000, 1), superframe(6_000, 2));
                for (n, packet) in packets(&mut sealer, &first).iter().enumerate() {
                    assert!(n == lost || opener.open(packet).is_none(), "{cipher:?} without packet {lost}");
                }
                let packets = packets(&mut sealer, &second);
                let whole: Vec<_> =
                    packets.iter().filter_map(|p| opener.open(p).map(<[u8]>::to_vec)).collect();
                assert_eq!(whole, [&second[LENGTH..]], "{cipher:?} without packet {lost}");
            }
        }
    }

    #[test]
    fn what_was_altered_does_not_open() {
        for cipher in [Cipher::Chacha, Cipher::Aes] {
            let sent = packets(&mut Sealer::new(cipher), &superframe(500, 1)).remove(0);
            for at in [COUNTER, COUNTER + 100, sent.len() - 1] {
                let mut altered = sent.clone();
                altered[at] ^= 1;
                assert_eq!(Opener::new(cipher).open(&altered), None);
            }
            assert!(Opener::new(cipher).open(&sent).is_some());
        }
    }

    #[test]
    fn nonsense_is_no_superframe() {
        let mut opener = Opener::new(Cipher::None);
        for packet in [&[][..], &[0xff; 7], &[0xff; 23], &[0xff; 24], &[0xff; SEGMENT]] {
            for _ in 0..100 {
                assert_eq!(opener.open(packet), None);
            }
        }
    }
}
