//! Whether the relays can be reached from here, past the daemon: their names, and their ports by TCP; or, where the daemon goes by a proxy, whether that leads there.

use super::super::facts::{AddressReach, Daemon, ProxyReach, RelayReach, Tcp};
use super::proxy::Proxies;
use crate::config::ProxyUrl;
use crate::transport::relay::{ProxyError, tunnel};
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

/// Tries all of them at once, each by the proxy that is for it.
pub(super) async fn reach(relays: Vec<Vec<String>>, proxies: &Proxies) -> Vec<RelayReach> {
    join_all(relays.into_iter().map(|addresses| async move {
        let tries = addresses.iter().map(|address| {
            let host_port = Address::of(address).host_port;
            one(host_port, proxies.by(host_port))
        });
        RelayReach { addresses: join_all(tries).await }
    }))
    .await
}

async fn one(host_port: &str, proxy: Option<&ProxyUrl>) -> AddressReach {
    let (host, port) = host_port.rsplit_once(':').unwrap_or((host_port, ""));
    let (text, host, port) =
        (host_port.to_owned(), host.trim_matches(['[', ']']).to_owned(), port.parse().unwrap_or(0));
    if let Some(proxy) = proxy {
        // Its name is the proxy's to know.
        let proxy = by_proxy(host_port, proxy).await;
        let tcp = if proxy.fault.is_none() { Tcp::Open } else { Tcp::NotLed };
        return AddressReach { text, host, port, numbers: Vec::new(), tcp, proxy: Some(proxy) };
    }
    let found = timeout(NAME_PATIENCE, tokio::net::lookup_host(host_port)).await;
    let remotes: Vec<SocketAddr> = found.ok().and_then(Result::ok).into_iter().flatten().collect();
    let tries = join_all(remotes.iter().map(|remote| connect(*remote))).await;
    AddressReach {
        numbers: remotes.iter().map(SocketAddr::ip).collect(),
        tcp: tries.into_iter().min().unwrap_or(Tcp::Unresolved),
        text,
        host,
        port,
        proxy: None,
    }
}

/// Asks the proxy for the relay, as the daemon does.
async fn by_proxy(host_port: &str, proxy: &ProxyUrl) -> ProxyReach {
    let led = async {
        let connecting = timeout(TCP_PATIENCE, TcpStream::connect(proxy.host_port())).await;
        let mut tcp = connecting.map_err(|_| ProxyError::Silent)??;
        tunnel(&mut tcp, proxy, host_port).await
    };
    let fault = led.await.err();
    ProxyReach {
        at: proxy.host_port().to_owned(),
        wants_user: matches!(fault, Some(ProxyError::WantsUser | ProxyError::WrongUser)),
        fault: fault.map(|fault| fault.to_string()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProxyChoice;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_relay_behind_a_proxy_is_asked_for_there_and_nowhere_else() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = proxy.local_addr().unwrap();
        let choice: ProxyChoice = format!("http://u:p@{at}").parse().unwrap();
        let proxies = Proxies::of(Some(&choice), &Daemon::None);
        for (answer, tcp, fault) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Tcp::Open, None),
            (
                "HTTP/1.1 403 Forbidden\r\n\r\n",
                Tcp::NotLed,
                Some("does not let this host out to relay.invalid:443"),
            ),
            ("HTTP/1.1 407 Who\r\n\r\n", Tcp::NotLed, Some("refuses the user and password")),
        ] {
            let serving = async {
                let (mut stream, _) = proxy.accept().await.unwrap();
                let mut request = [0; 1024];
                let count = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                String::from_utf8_lossy(&request[..count]).into_owned()
            };
            let relays = vec![vec!["wss://relay.invalid:443".to_owned()]];
            let (found, asked) = tokio::join!(reach(relays, &proxies), serving);
            assert!(
                asked.starts_with("CONNECT relay.invalid:443 ") && asked.contains("Basic dTpw"),
                "{asked}"
            );
            let address = &found[0].addresses[0];
            assert_eq!(
                (address.text.as_str(), address.host.as_str(), address.tcp),
                ("relay.invalid:443", "relay.invalid", tcp)
            );
            let reached = address.proxy.as_ref().unwrap();
            assert_eq!(reached.at, at.to_string());
            assert_eq!(reached.fault.is_some(), fault.is_some());
            assert!(
                reached.fault.as_ref().zip(fault).is_none_or(|(said, fault)| said.contains(fault)),
                "{reached:?}"
            );
            assert_eq!(reached.wants_user, answer.contains("407"));
        }
        drop(proxy);
        let found = reach(vec![vec!["relay.invalid:1".to_owned()]], &proxies).await;
        assert!(found[0].addresses[0].proxy.as_ref().unwrap().fault.as_ref().unwrap().contains("refused"));
    }
}
