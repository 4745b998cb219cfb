//! What Linux says of a TCP connection: `struct tcp_info` (`linux/tcp.h`), as `getsockopt(TCP_INFO)` fills it. It has only ever grown at its end.

use std::time::Duration;

/// Bytes to offer for it: all of those that are read here, and none that a kernel would have to invent.
pub const TCP_INFO_LEN: usize = 152;

const SND_MSS: usize = 16;
const UNACKED: usize = 24;
const SACKED: usize = 28;
const RTT: usize = 68;
const BYTES_ACKED: usize = 120;
const NOTSENT_BYTES: usize = 144;
const MIN_RTT: usize = 148;

/// What is under way of a connection, and how long it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// Bytes that the other end has, by what it said so far.
    pub arrived: u64,
    /// Bytes that were sent and that it has not, as far as is known.
    pub in_flight: usize,
    /// Bytes that wait in the socket.
    pub unsent: usize,
    /// A round trip, of those that were measured lately.
    pub rtt: Duration,
    /// The shortest one for minutes.
    pub least: Duration,
}

impl TcpInfo {
    /// Reads what the kernel wrote; `None` where it says less (Linux 4.9 is the first to say all), or has measured nothing yet.
    pub fn parse(info: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(*info.get(at..)?.first_chunk()?));
        let acked = u64::from_ne_bytes(*info.get(BYTES_ACKED..)?.first_chunk()?);
        let (mss, sacked) = (word(SND_MSS)?, word(SACKED)?);
        let micros = |at: usize| Some(Duration::from_micros(u64::from(word(at)?)));
        let (rtt, least) = (micros(RTT)?, micros(MIN_RTT)?);
        let bytes = |segments: u32| u64::from(segments) * u64::from(mss);
        let info = Self {
            // What came behind a gap has come as well: it stops no queue from getting shorter.
            arrived: acked.saturating_add(bytes(sacked)),
            in_flight: usize::try_from(bytes(word(UNACKED)?.saturating_sub(sacked))).unwrap_or(usize::MAX),
            unsent: usize::try_from(word(NOTSENT_BYTES)?).unwrap_or(usize::MAX),
            rtt,
            least,
        };
        // The shortest is all ones before the first.
        (!rtt.is_zero() && least <= rtt.max(Duration::from_secs(60))).then_some(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Vec<u8> {
        let mut info = vec![0; TCP_INFO_LEN];
        let words = [
            (SND_MSS, 1_000_u32),
            (UNACKED, 30),
            (SACKED, 4),
            (RTT, 42_000),
            (NOTSENT_BYTES, 7),
            (MIN_RTT, 20_000),
        ];
        for (at, word) in words {
            info[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        info[BYTES_ACKED..BYTES_ACKED + 8].copy_from_slice(&5_000_000_000_u64.to_ne_bytes());
        info
    }

    #[test]
    fn it_is_read_as_the_kernel_wrote_it() {
        let expected = TcpInfo {
            arrived: 5_000_004_000,
            in_flight: 26_000,
            unsent: 7,
            rtt: Duration::from_millis(42),
            least: Duration::from_millis(20),
        };
        assert_eq!(TcpInfo::parse(&written()), Some(expected));
        let mut more = written();
        more.extend([9; 100]);
        assert_eq!(TcpInfo::parse(&more), Some(expected));
    }

    #[test]
    fn a_kernel_that_says_less_or_knows_nothing_yet_says_nothing() {
        let info = written();
        for len in 0..TCP_INFO_LEN {
            assert_eq!(TcpInfo::parse(&info[..len]), None);
        }
        let mut unmeasured = info.clone();
        unmeasured[RTT..RTT + 4].fill(0);
        assert_eq!(TcpInfo::parse(&unmeasured), None);
        let mut unknown = info;
        unknown[MIN_RTT..MIN_RTT + 4].fill(0xFF);
        assert_eq!(TcpInfo::parse(&unknown), None);
    }
}
