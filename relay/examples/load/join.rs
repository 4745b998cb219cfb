//! Clients that come, are introduced to another one, and leave.

use crate::client::Client;
use shadowmesh_proto::crypto::keys::NetworkSecret;
use shadowmesh_proto::ticket::RelayTicket;
use shadowmesh_proto::wire::relay::Control;
use shadowmesh_relay::random::SystemRng;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

pub(crate) async fn run(ticket: &RelayTicket, long: Duration, together: usize) -> anyhow::Result<String> {
    let began = Instant::now();
    let mut coming = JoinSet::new();
    for _ in 0..together.max(1) {
        let ticket = ticket.clone();
        coming.spawn(async move {
            // One who stays is who the others are introduced to.
            let network = NetworkSecret::generate(&mut SystemRng);
            let mut stays = Client::join(&ticket, &network).await?;
            let mut times = Vec::new();
            while began.elapsed() < long {
                let mut comes = Client::join(&ticket, &network).await?;
                let asked = Instant::now();
                comes.send(&Control::Connect { peer: None }).await?;
                comes.meet().await?;
                times.push(asked.elapsed());
                stays.meet().await?;
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(joined) = coming.join_next().await {
        times.extend(joined??);
    }
    let elapsed = began.elapsed();
    times.sort_unstable();
    let at =
        |share: usize| times.get(times.len() * share / 1000).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    let (count, rate) = (times.len(), times.len() as f64 / elapsed.as_secs_f64());
    Ok(format!(
        "{{\"clients\": {count}, \"per_second\": {rate:.0}, \"matched_p50_us\": {:.0}, \"matched_p99_us\": {:.0}}}",
        at(500),
        at(990)
    ))
}
