//! Whether the relays can be reached from here, past the daemon: their names, and their ports by TCP.

use super::super::facts::{AddressReach, Daemon, RelayReach, Tcp};
use futures_util::future::join_all;
use shadowmesh_proto::ticket::{Address, RelayTicket};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a name may take, and a connection: a round trip around the world and one lost SYN.
const NAME_PATIENCE: Duration = Duration::from_secs(3);
const TCP_PATIENCE: Duration = Duration::from_millis(2_500);

/// The addresses of each relay: by the tickets of the state directory, or, for who may not read that, as the daemon says.
pub(super) fn known(tickets: &[RelayTicket], daemon: &Daemon) -> Vec<Vec<String>> {
    if !tickets.is_empty() {
        return tickets.iter().map(|ticket| ticket.addresses.clone()).collect();
    }
    let relays = daemon.running().map(|running| running.status.relays.as_slice()).unwrap_or_default();
    relays.iter().map(|relay| vec![relay.authority().to_owned()]).collect()
}

/// Tries all of them at once.
pub(super) async fn reach(relays: Vec<Vec<String>>) -> Vec<RelayReach> {
    join_all(relays.into_iter().map(|addresses| async move {
        RelayReach { addresses: join_all(addresses.into_iter().map(one)).await }
    }))
    .await
}

async fn one(text: String) -> AddressReach {
    let host_port = Address::of(&text).host_port;
    let (host, port) = host_port.rsplit_once(':').unwrap_or((host_port, ""));
    let (host, port) = (host.trim_matches(['[', ']']).to_owned(), port.parse().unwrap_or(0));
    let found = timeout(NAME_PATIENCE, tokio::net::lookup_host(host_port)).await;
    let remotes: Vec<SocketAddr> = found.ok().and_then(Result::ok).into_iter().flatten().collect();
    let tries = join_all(remotes.iter().map(|remote| connect(*remote))).await;
    AddressReach {
        numbers: remotes.iter().map(SocketAddr::ip).collect(),
        tcp: tries.into_iter().min().unwrap_or(Tcp::Unresolved),
        text,
        host,
        port,
    }
}

async fn connect(remote: SocketAddr) -> Tcp {
    match timeout(TCP_PATIENCE, TcpStream::connect(remote)).await {
        Ok(Ok(_)) => Tcp::Open,
        Ok(Err(error)) => refusal(&error),
        Err(_) => Tcp::Silent,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "ErrorKind is open-ended")]
fn refusal(error: &io::Error) -> Tcp {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Tcp::Refused,
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::AddrNotAvailable => {
            Tcp::Unreachable
        }
        _ => Tcp::Silent,
    }
}

pub(super) fn has_name_server() -> Option<bool> {
    let text = std::fs::read_to_string("/etc/resolv.conf").ok()?;
    Some(text.lines().any(|line| line.trim_start().starts_with("nameserver ")))
}
