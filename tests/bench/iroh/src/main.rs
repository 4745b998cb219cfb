//! The released iroh-relay, and load for it by its own client; beside the load that `relay/examples/load` is for ours.
//!
//! ```text
//! iroh-load serve ADDRESS [tls]                             says `ready` and serves for ever
//! iroh-load pump  ADDRESS [tls] PACKETS-PER-MESSAGE SECONDS one client sends 1,200-byte packets to another; prints a JSON line
//! ```

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use iroh_base::SecretKey;
use iroh_dns::dns::DnsResolver;
use iroh_relay::client::{Client, ClientBuilder};
use iroh_relay::protos::relay::{ClientToRelayMsg, Datagrams, RelayToClientMsg};
use iroh_relay::server::{RelayConfig, Server, ServerConfig, testing};
use iroh_relay::tls::make_dangerous_client_config;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PACKET: u16 = 1200;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["version"] => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        ["serve", address] => serve(address.parse()?, false).await,
        ["serve", address, "tls"] => serve(address.parse()?, true).await,
        ["pump", address, packets, seconds] => pump(&format!("http://{address}"), packets, seconds).await,
        ["pump", address, "tls", packets, seconds] => {
            pump(&format!("https://{address}"), packets, seconds).await
        }
        _ => anyhow::bail!("usage: iroh-load serve ADDRESS [tls] | pump ADDRESS [tls] PACKETS SECONDS"),
    }
}

async fn serve(address: SocketAddr, is_tls: bool) -> anyhow::Result<()> {
    // Beside HTTPS it serves a page by HTTP, on a port that nobody asks.
    let plain = if is_tls { SocketAddr::new(address.ip(), 0) } else { address };
    let mut relay = RelayConfig::new(plain);
    if is_tls {
        let mut tls = testing::tls_config();
        tls.https_bind_addr = address;
        relay.tls = Some(tls);
    }
    let mut config = ServerConfig::default();
    config.relay = Some(relay);
    let server = Server::spawn(config).await?;
    println!("ready");
    // Until it is ended.
    let () = std::future::pending().await;
    drop(server);
    Ok(())
}

async fn connect(url: &str, key: &SecretKey) -> anyhow::Result<Client> {
    let builder = ClientBuilder::new(url.parse::<iroh_base::RelayUrl>()?, key.clone(), DnsResolver::new())
        .tls_client_config(make_dangerous_client_config());
    builder.connect().await.context("the relay does not take a client")
}

async fn pump(url: &str, packets: &str, seconds: &str) -> anyhow::Result<()> {
    let (packets, seconds): (usize, u64) = (packets.parse()?, seconds.parse()?);
    let keys = [SecretKey::generate(), SecretKey::generate()];
    let mut sender = connect(url, &keys[0]).await?;
    let mut receiver = connect(url, &keys[1]).await?;
    let contents = Bytes::from(vec![7; usize::from(PACKET) * packets]);
    let segment_size = if packets > 1 { NonZeroU16::new(PACKET) } else { None };
    let datagrams = Datagrams { ecn: None, segment_size, contents };
    let message = ClientToRelayMsg::Datagrams { dst_endpoint_id: keys[1].public(), datagrams };
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let pump = tokio::spawn(async move {
        loop {
            // As its own endpoint does: many are fed before one flush.
            for _ in 0..16 {
                if sender.feed(message.clone()).await.is_err() {
                    return;
                }
            }
            if sender.flush().await.is_err() {
                return;
            }
            counter.fetch_add(16, Ordering::Relaxed);
        }
    });
    let (mut bytes, began) = (0u64, Instant::now());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
    while let Ok(next) = tokio::time::timeout_at(deadline, receiver.next()).await {
        match next.context("the stream ended")?? {
            RelayToClientMsg::Datagrams { datagrams, .. } => bytes += datagrams.contents.len() as u64,
            _ => {}
        }
    }
    let elapsed = began.elapsed();
    let sent = sent.load(Ordering::Relaxed) * packets as u64 * u64::from(PACKET);
    pump.abort();
    println!(
        "{{\"packets_per_message\": {packets}, \"packet_bytes\": {PACKET}, \"mbit_s\": {}, \"sent_mbit_s\": {}}}",
        u128::from(bytes) * 8 / elapsed.as_micros(),
        u128::from(sent) * 8 / elapsed.as_micros(),
    );
    Ok(())
}
