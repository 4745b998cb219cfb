//! How long a small packet takes through the relay: there and back, halved.

use crate::bound::Bound;
use crate::client::pair;
use shadowmesh_proto::ticket::RelayTicket;
use shadowmesh_proto::wire::relay::ForwardBuilder;
use std::time::{Duration, Instant};

/// Between two of them.
const EACH: Duration = Duration::from_millis(1);
/// A datagram that was lost is not waited for longer.
const PATIENCE: Duration = Duration::from_millis(200);
const PACKET: [u8; 64] = [7; 64];

/// Of so many round trips, one-way times in microseconds.
fn line(mut trips: Vec<Duration>, lost: usize) -> anyhow::Result<String> {
    trips.sort_unstable();
    let at = |share: usize| {
        let trip = trips.get((trips.len() * share / 1000).min(trips.len().saturating_sub(1)));
        trip.map(|trip| trip.as_secs_f64() * 1e6 / 2.0).ok_or_else(|| anyhow::anyhow!("nothing came back"))
    };
    let (p50, p99, count) = (at(500)?, at(990)?, trips.len());
    Ok(format!("{{\"packets\": {count}, \"lost\": {lost}, \"p50_us\": {p50:.1}, \"p99_us\": {p99:.1}}}"))
}

pub(crate) async fn by_stream(ticket: &RelayTicket, long: Duration) -> anyhow::Result<String> {
    let (mut one, mut other, channel) = pair(ticket).await?;
    let mut builder = ForwardBuilder::new(channel, Vec::new());
    anyhow::ensure!(builder.push(&PACKET), "a small packet fits");
    let message = bytes::Bytes::from(builder.finish());
    let answering = tokio::spawn(async move {
        while let Ok(message) = other.forwarded().await {
            if other.forward(message).await.is_err() {
                break;
            }
        }
    });
    let (began, mut trips) = (Instant::now(), Vec::new());
    while began.elapsed() < long {
        let left = Instant::now();
        one.forward(message.clone()).await?;
        one.forwarded().await?;
        trips.push(left.elapsed());
        tokio::time::sleep(EACH).await;
    }
    answering.abort();
    line(trips, 0)
}

pub(crate) async fn by_datagram(ticket: &RelayTicket, long: Duration) -> anyhow::Result<String> {
    let (mut one, mut other, channel) = pair(ticket).await?;
    let (from, to) = (Bound::new(ticket, &mut one).await?, Bound::new(ticket, &mut other).await?);
    let (question, answer) = (from.datagram(channel, &PACKET), to.datagram(channel, &PACKET));
    let streams = [tokio::spawn(one.idle()), tokio::spawn(other.idle())];
    let answering = tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while to.socket.recv(&mut buffer).await.is_ok() && to.socket.send(&answer).await.is_ok() {}
    });
    let (began, mut trips, mut lost) = (Instant::now(), Vec::new(), 0);
    let mut buffer = [0; 2048];
    while began.elapsed() < long {
        let left = Instant::now();
        from.socket.send(&question).await?;
        match tokio::time::timeout(PATIENCE, from.socket.recv(&mut buffer)).await {
            Ok(received) => drop(received?),
            Err(_) => lost += 1,
        }
        trips.push(left.elapsed());
        tokio::time::sleep(EACH).await;
    }
    answering.abort();
    streams.iter().for_each(tokio::task::JoinHandle::abort);
    line(trips, lost)
}
