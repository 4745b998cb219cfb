//! Many clients that do nothing.

use crate::client::{Client, all_come};
use shadowmesh_proto::crypto::keys::NetworkSecret;
use shadowmesh_proto::ticket::RelayTicket;
use shadowmesh_relay::random::SystemRng;
use std::time::Instant;

pub(crate) async fn run(ticket: &RelayTicket, count: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut idle = tokio::task::JoinSet::new();
    let come = || {
        let ticket = ticket.clone();
        async move { Client::join(&ticket, &NetworkSecret::generate(&mut SystemRng)).await }
    };
    all_come(count, come, |client| drop(idle.spawn(client.idle()))).await?;
    println!("{{\"clients\": {count}, \"joined_ms\": {}}}", began.elapsed().as_millis());
    let until_end =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    tokio::select! {
        _ = until_end => Ok(()),
        Some(ended) = idle.join_next() => ended?,
    }
}
