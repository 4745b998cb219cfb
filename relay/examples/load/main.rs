//! Load for a relay that runs on this machine; prints one JSON line. By TLS where the ticket says so.
//!
//! What it costs itself is kept small and is not what is measured: whoever runs it looks at what the relay takes meanwhile (`scripts/bench relay`).

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

mod bound;
mod client;
mod crowd;
mod datagrams;
mod echo;
mod join;
mod pairs;
mod pump;
mod tls;

use clap::{Parser, Subcommand};
use shadowmesh_proto::ticket::RelayTicket;
use std::time::Duration;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    load: Load,
}

#[derive(Debug, Subcommand)]
enum Load {
    /// One client sends 1,200-byte packets to another, as much as the relay takes.
    Pump {
        /// Of the relay.
        ticket: String,
        /// By datagram (protocol §3.9).
        #[arg(long)]
        udp: bool,
        /// Of one FORWARD message, or of one call to the system.
        #[arg(long, default_value_t = 40)]
        packets: usize,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Mbit/s at most.
        #[arg(long)]
        rate: Option<u64>,
    },
    /// Small packets to another client, who sends them back; one at a time, one each millisecond.
    Echo {
        /// Of the relay.
        ticket: String,
        /// By datagram.
        #[arg(long)]
        udp: bool,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// One pair of clients after the other: connects, registers, is introduced, and leaves.
    Join {
        /// Of the relay.
        ticket: String,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Clients that do so at once.
        #[arg(long, default_value_t = 16)]
        together: usize,
    },
    /// So many clients register, each in a network of its own, and stay until standard input ends.
    Crowd {
        /// Of the relay.
        ticket: String,
        count: usize,
    },
    /// Pairs of clients with so many kbit/s each, in packets of 1,200 bytes.
    Pairs {
        /// Of the relay.
        ticket: String,
        count: usize,
        #[arg(long, default_value_t = 1000)]
        kbit: u64,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let ticket = |text: &str| RelayTicket::parse(text, 0);
    let seconds = Duration::from_secs;
    let line = match Cli::parse().load {
        Load::Pump { ticket: of, udp, packets, seconds: long, rate } => {
            let of = &ticket(&of)?;
            match udp {
                true => datagrams::pump(of, packets, seconds(long), rate).await?,
                false => pump::run(of, packets, seconds(long), rate).await?,
            }
        }
        Load::Echo { ticket: of, udp, seconds: long } => {
            let of = &ticket(&of)?;
            match udp {
                true => echo::by_datagram(of, seconds(long)).await?,
                false => echo::by_stream(of, seconds(long)).await?,
            }
        }
        Load::Join { ticket: of, seconds: long, together } => {
            join::run(&ticket(&of)?, seconds(long), together).await?
        }
        Load::Crowd { ticket: of, count } => return crowd::run(&ticket(&of)?, count).await,
        Load::Pairs { ticket: of, count, kbit, seconds: long } => {
            pairs::run(&ticket(&of)?, count, kbit, seconds(long)).await?
        }
    };
    println!("{line}");
    Ok(())
}
