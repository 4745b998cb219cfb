//! Load for a relay that runs on this machine; prints one JSON line.
//!
//! ```text
//! load pump TICKET [PACKETS-PER-MESSAGE] [SECONDS]   one client pumps FORWARD messages of 1,200-byte packets to another
//! load crowd TICKET COUNT                            COUNT clients register, each in a network of its own, and stay until
//!                                                    standard input ends
//! ```
//!
//! By TLS where the ticket says so.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

mod client;
mod crowd;
mod pump;
mod tls;

use shadowmesh_proto::ticket::RelayTicket;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let line = match args[..] {
        ["pump", ticket] => pump::run(&RelayTicket::parse(ticket, 0)?, 40, 5).await?,
        ["pump", ticket, packets] => pump::run(&RelayTicket::parse(ticket, 0)?, packets.parse()?, 5).await?,
        ["pump", ticket, packets, seconds] => {
            pump::run(&RelayTicket::parse(ticket, 0)?, packets.parse()?, seconds.parse()?).await?
        }
        ["crowd", ticket, count] => return crowd::run(&RelayTicket::parse(ticket, 0)?, count.parse()?).await,
        _ => anyhow::bail!("usage: load pump TICKET [PACKETS] [SECONDS] | load crowd TICKET COUNT"),
    };
    println!("{line}");
    Ok(())
}
