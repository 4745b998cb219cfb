//! Many pairs with a little each, as a relay has them: one FORWARD message with one packet at a time, evenly.

use crate::client::{Client, all_come, pair};
use crate::pump::PACKET;
use shadowmesh_proto::ids::ChannelId;
use shadowmesh_proto::ticket::RelayTicket;
use shadowmesh_proto::wire::relay::ForwardBuilder;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
}

pub(crate) async fn run(
    ticket: &RelayTicket,
    count: usize,
    kbit: u64,
    long: Duration,
) -> anyhow::Result<String> {
    let mut pairs = Vec::new();
    let come = || {
        let ticket = ticket.clone();
        async move { pair(&ticket).await }
    };
    all_come(count, come, |come| pairs.push(come)).await?;
    let counts = Arc::new(Counts::default());
    let each = Duration::from_nanos(PACKET as u64 * 8 * 1_000_000 / kbit.max(1));
    let mut receiving = JoinSet::new();
    let mut senders = Vec::new();
    for (sender, receiver, channel) in pairs {
        receiving.spawn(receive(receiver, Arc::clone(&counts)));
        senders.push((sender, message(channel)?));
    }
    // One task sends for all, so that they are spread evenly and cost no timer each.
    let began = Instant::now();
    let mut next = tokio::time::Instant::now();
    while began.elapsed() < long {
        let share = each / u32::try_from(senders.len().max(1))?;
        for (sender, message) in &mut senders {
            tokio::time::sleep_until(next).await;
            sender.forward(message.clone()).await?;
            counts.sent.fetch_add(1, Ordering::Relaxed);
            next += share;
        }
    }
    let elapsed = began.elapsed();
    // What is under way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (sent, received) = (counts.sent.load(Ordering::Relaxed), counts.received.load(Ordering::Relaxed));
    receiving.abort_all();
    let mbit = received as f64 * PACKET as f64 * 8.0 / 1e6 / elapsed.as_secs_f64();
    Ok(format!("{{\"pairs\": {count}, \"sent\": {sent}, \"received\": {received}, \"mbit_s\": {mbit:.0}}}"))
}

fn message(channel: ChannelId) -> anyhow::Result<bytes::Bytes> {
    let mut builder = ForwardBuilder::new(channel, Vec::new());
    anyhow::ensure!(builder.push(&[7; PACKET]), "a packet fits");
    Ok(builder.finish().into())
}

async fn receive(mut client: Client, counts: Arc<Counts>) -> anyhow::Result<()> {
    loop {
        client.forwarded().await?;
        counts.received.fetch_add(1, Ordering::Relaxed);
    }
}
