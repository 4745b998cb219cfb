//! Two clients: one pumps FORWARD messages, the other counts bytes. Frames are prepared once, so that this program costs as
//! little of the machine as it can.

use crate::client::pair;
use shadowmesh_proto::ticket::RelayTicket;
use shadowmesh_proto::wire::relay::ForwardBuilder;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) const PACKET: usize = 1200;
/// Written and read at once.
const BATCH: usize = 256 * 1024;
/// Written at once where there is a rate to be kept.
const PACED: usize = 16 * 1024;
/// What is caught up with.
const BEHIND: Duration = Duration::from_millis(5);

pub(crate) async fn run(
    ticket: &RelayTicket,
    packets: usize,
    long: Duration,
    rate: Option<u64>,
) -> anyhow::Result<String> {
    let (sender, receiver, channel) = pair(ticket).await?;
    let mut builder = ForwardBuilder::new(channel, Vec::new());
    anyhow::ensure!((0..packets).all(|_| builder.push(&[7; PACKET])), "so many packets do not fit a message");
    let frame = frame(&builder.finish())?;
    let batch = frame.repeat((if rate.is_some() { PACED } else { BATCH } / frame.len()).max(1));

    let (mut out, mut input) = (sender.into_stream(), receiver.into_stream());
    let pump = tokio::spawn(async move {
        let mut pace = Pace::new(rate);
        while out.write_all(&batch).await.is_ok() {
            pace.wait(batch.len()).await;
        }
    });
    let mut buffer = vec![0; BATCH];
    let (mut bytes, began) = (0u64, Instant::now());
    while began.elapsed() < long {
        bytes += u64::try_from(input.read(&mut buffer).await?)?;
    }
    let elapsed = began.elapsed();
    pump.abort();
    let mbit = u128::from(bytes) * 8 / elapsed.as_micros();
    Ok(format!("{{\"packets_per_message\": {packets}, \"packet_bytes\": {PACKET}, \"mbit_s\": {mbit}}}"))
}

/// Keeps to a rate.
pub(crate) struct Pace {
    /// Mbit/s.
    rate: Option<u64>,
    next: tokio::time::Instant,
}

impl Pace {
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate, next: tokio::time::Instant::now() }
    }

    /// After so many bytes. Sleeps are a millisecond long at least, so what was missed is caught up with, a little.
    pub(crate) async fn wait(&mut self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let now = tokio::time::Instant::now();
        self.next = self.next.max(now - BEHIND) + Duration::from_nanos(bytes as u64 * 8_000 / rate.max(1));
        tokio::time::sleep_until(self.next).await;
    }
}

/// A binary frame around `message` with a mask of zeros: masked as a client must, and the same bytes each time.
fn frame(message: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut frame = vec![0x82];
    // The three forms of a length (RFC 6455 §5.2); 0x80 says masked.
    match u16::try_from(message.len()) {
        Ok(length @ ..=125) => frame.push(0x80 | u8::try_from(length)?),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&u64::try_from(message.len())?.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(message);
    Ok(frame)
}
