//! Numbers of the data side: each with its unit, why it is what it is, and where that is written.

use crate::crypto::aead::Cipher;
use crate::wire::header::DATA_OVERHEAD;
use crate::wire::packet::MAX_PACKET;
use std::time::Duration;

/// Data counters below the highest one that are still accepted (protocol §5.1). 100 ms of path skew at 1 Gbit/s is about
/// 9,000 packets; a resend after a 500 ms black hole at that rate reaches back 45,000.
pub const DATA_WINDOW: usize = 65_536;

/// Control counters below the highest one that are still accepted (protocol §5.1): a few a second, over paths that differ
/// by a second at most.
pub const CONTROL_WINDOW: usize = 1_024;

/// Bytes of packets a peer's ring keeps (protocol §5.2): 130 ms at 1 Gbit/s, 1.3 s at 100 Mbit/s, so that a path may die
/// and be noticed before what it swallowed is overwritten.
pub const RING_BYTES: usize = 16 << 20;

/// Packets a peer's ring keeps (protocol §5.2): half the receiver's window, so that whatever is resent is still accepted
/// while as many new packets overtake it.
pub const RING_PACKETS: usize = 32_768;

/// Bytes of a chunk of ring memory. It holds several runs of 64 equal segments (65,535 bytes, the most that one UDP GSO
/// call takes, Linux `UDP_MAX_SEGMENTS`), so that few runs are cut short by the end of a chunk; and it is at or above the
/// size from which malloc returns memory to the system when freed (glibc `M_MMAP_THRESHOLD`, 128 KiB).
pub const CHUNK_BYTES: usize = 256 << 10;

/// Bytes of ring memory of the whole process, unless configured: 16 peers with a full ring.
pub const POOL_BYTES: usize = 256 << 20;

/// Free chunks the process keeps at most for the next ring that needs one: as many as a full ring has.
pub const POOL_SPARE_CHUNKS: usize = RING_BYTES / CHUNK_BYTES;

/// Segments in one run of packets to be sent with one call (Linux `UDP_MAX_SEGMENTS` before 6.9; still what drivers take).
pub const RUN_SEGMENTS: usize = 64;

/// Bytes of one run: the payload of one UDP GSO call is bounded by IPv4's length field less both headers.
pub const RUN_BYTES: usize = 65_535 - 20 - 8;

/// Paths of one peer that can be told apart in acknowledgements: one of each kind (protocol §7).
pub const PATH_SLOTS: usize = 4;

/// Counters below the highest that an acknowledgement describes one by one (protocol §6, ACK).
pub const ACK_BITMAP: u64 = 256;

/// Data packets opened after which an acknowledgement is due: as many as one has room to describe, in four bitmaps (less 256 for each other path,
/// and place of what came late, that it has to tell of). Each costs two
/// threads a wake-up; at 5 Gbit/s these are 400 a second, for 1.4 MB that a sender keeps.
pub const ACK_EVERY: u32 = 1024;

/// Longest time an opened data packet waits to be acknowledged: short beside the 150 ms after which a silent path is
/// suspect (protocol §7.2), long enough that a slow flow costs 50 small packets a second at most.
pub const ACK_DELAY: Duration = Duration::from_millis(20);

/// Acknowledgements in a row that may tell of what came again alone, as soon as of anything: who sends a ring of it again needs a dozen ...
pub const ACK_REPEATS: u32 = 16;

/// ... and the time between those that follow: whoever copied a packet keeps nobody busy by sending it over and over (protocol §5.2).
pub const ACK_REPEAT_PAUSE: Duration = Duration::from_secs(1);

/// Shortest time between two acknowledgements of fewer packets than [`ACK_EVERY`], however urgent (protocol §5.2): what a sender resends in
/// many places is told of within it, and one that sends four packets far apart over and over causes a thousand a second and no more.
pub const ACK_PAUSE: Duration = Duration::from_millis(1);

/// Bytes of the longest frame that fits a packet (protocol §3: packets are at most 65,000 bytes).
pub const MAX_FRAME: usize = MAX_PACKET - DATA_OVERHEAD;

/// How long a key opens packets after its replacement (protocol §4.8): packets in flight, and resends of packets sealed
/// under it before the path was lost. WireGuard rejects keys at the same age.
pub const RETIRED_KEY_LIFE: Duration = Duration::from_secs(180);

/// Receive keys kept of one association. Each replacement needed control packets to pass both ways, so whatever is still
/// unacknowledged under the eighth key back will not be resent; 8 bounds memory where the rotation is cut to 2 s.
pub const RECEIVE_KEYS: usize = 8;

/// Rotation interval unless the relay or the configuration shortens it (protocol §4.8; WireGuard REKEY_AFTER_TIME).
pub const ROTATION: Duration = Duration::from_secs(120);

/// Shortest rotation interval (protocol §3.5): the handshake costs under a millisecond, so 2 s costs nothing; below it the
/// 1 s retransmission would not fit.
pub const MIN_ROTATION: Duration = Duration::from_secs(2);

/// How often an unanswered rekey message is repeated (protocol §4.8).
pub const REKEY_RETRANSMIT: Duration = Duration::from_secs(1);

/// Packets after which a key asks to be replaced (protocol §4.8); it seals nothing at twice the number.
///
/// AES-256-GCM: 2^26. RFC 9001 §B.1.1 allows 2^28 packets of at most 2^11 bytes; ours are, but for rare jumbo frames.
/// ChaCha20-Poly1305: 2^60, as WireGuard; its confidentiality does not wear (RFC 9001 §6.6).
pub const fn seal_limit(cipher: Cipher) -> u64 {
    match cipher {
        Cipher::ChaCha20Poly1305 => 1 << 60,
        Cipher::Aes256Gcm => 1 << 26,
    }
}

/// Packets that failed to open after which a key is given up (protocol §4.9; RFC 9001 §6.6, integrity limits).
pub const fn forgery_limit(cipher: Cipher) -> u64 {
    match cipher {
        Cipher::ChaCha20Poly1305 => 1 << 36,
        Cipher::Aes256Gcm => 1 << 52,
    }
}
