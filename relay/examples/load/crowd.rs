//! Many clients that do nothing.

use crate::client::Client;
use shadowmesh_proto::crypto::keys::NetworkSecret;
use shadowmesh_proto::ticket::RelayTicket;
use shadowmesh_relay::random::SystemRng;
use std::time::Instant;

/// At once; more would only wait for each other on the relay's one thread.
const TOGETHER: usize = 32;

pub(crate) async fn run(ticket: &RelayTicket, count: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut idle = tokio::task::JoinSet::new();
    let mut joining = tokio::task::JoinSet::new();
    for number in 0..count {
        let ticket = ticket.clone();
        joining.spawn(async move { Client::join(&ticket, &NetworkSecret::generate(&mut SystemRng)).await });
        if number >= TOGETHER
            && let Some(joined) = joining.join_next().await
        {
            idle.spawn(joined??.idle());
        }
    }
    while let Some(joined) = joining.join_next().await {
        idle.spawn(joined??.idle());
    }
    println!("{{\"clients\": {count}, \"joined_ms\": {}}}", began.elapsed().as_millis());
    let until_end =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    tokio::select! {
        _ = until_end => Ok(()),
        Some(ended) = idle.join_next() => ended?,
    }
}
