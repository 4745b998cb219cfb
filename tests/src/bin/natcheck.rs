//! Asks a router what it does to UDP, in RFC 4787 words, before a scenario trusts it.
//!
//! Sockets are opened in the namespace of a host behind the router and in that of a machine with two public addresses:
//!
//! 1. from one socket to the first address only; then the first address answers from another port, and the second address
//!    speaks up: what comes through tells the filtering;
//! 2. from that same socket to the second address too: the same outside port is an endpoint-independent mapping.
//!
//! In this order, because a router may filter by host and not by socket.
//!
//! With a second host behind the router: whether what that sends to the first one's outside address comes back inside (hairpin,
//! RFC 4787 §6).
//!
//! Prints JSON; exit 0 whatever the router does.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use shadowmesh_tests::netns::End;

/// Longer than any round trip in the lab, short enough to be paid for every router.
const PATIENCE: Duration = Duration::from_millis(250);

/// Says how a router maps and filters UDP.
#[derive(Debug, Parser)]
struct Arguments {
    /// Namespace of a host behind the router.
    #[arg(long)]
    inside: String,
    /// Namespace of a second host behind it.
    #[arg(long)]
    beside: Option<String>,
    /// Namespace of the machine with the public addresses.
    #[arg(long)]
    outside: String,
    /// Two public addresses of that machine.
    #[arg(long, num_args = 2)]
    addresses: Vec<IpAddr>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let public = |address: IpAddr| udp(&arguments.outside, SocketAddr::new(address, 0));
    let (near, far) = (public(arguments.addresses[0])?, public(arguments.addresses[1])?);
    let near_other_port = public(arguments.addresses[0])?;

    let socket = udp(&arguments.inside, unspecified(arguments.addresses[0])).context("the socket inside")?;
    socket.send_to(b"open", near.local_addr()?)?;
    let report = if let Some(outside) = heard(&near)? {
        near_other_port.send_to(b"port", outside)?;
        let from_port = heard(&socket)?.is_some();
        far.send_to(b"address", outside)?;
        let from_address = heard(&socket)?.is_some();
        socket.send_to(b"map", far.local_addr()?)?;
        let second = heard(&far)?.context("the first address was reached and the second was not")?;
        let hairpin = arguments.beside.as_deref().map(|beside| {
            let other = udp(beside, unspecified(arguments.addresses[0])).context("the socket beside")?;
            // It has a mapping of its own before it asks, as a peer has.
            other.send_to(b"open", near.local_addr()?)?;
            heard(&near)?.context("the second host does not come out")?;
            other.send_to(b"hairpin", outside)?;
            socket.send_to(b"open", near.local_addr()?)?;
            anyhow::Ok(heard(&socket)?.is_some())
        });
        serde_json::json!({
            "udp": true,
            "mapping": if outside == second { "endpoint-independent" } else { "endpoint-dependent" },
            "filtering": match (from_port, from_address) {
                (_, true) => "endpoint-independent",
                (true, false) => "address-dependent",
                (false, false) => "address-and-port-dependent",
            },
            "port_kept": outside.port() == socket.local_addr()?.port(),
            "address": outside.ip(),
            "hairpin": hairpin.transpose()?,
        })
    } else {
        serde_json::json!({"udp": false})
    };
    writeln!(io::stdout(), "{report}")?;
    Ok(())
}

fn unspecified(like: IpAddr) -> SocketAddr {
    match like {
        IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
    }
}

fn udp(namespace: &str, local: SocketAddr) -> io::Result<UdpSocket> {
    let end = End { namespace: Some(PathBuf::from("/run/netns").join(namespace)), device: String::new() };
    let socket = end.within(|_| UdpSocket::bind(local))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn heard(socket: &UdpSocket) -> io::Result<Option<SocketAddr>> {
    match socket.recv_from(&mut [0; 16]) {
        Ok((_, from)) => Ok(Some(from)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error),
    }
}
