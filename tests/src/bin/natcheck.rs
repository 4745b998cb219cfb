//! Asks a router what it does to UDP and TCP, in the words of RFC 4787 and RFC 5382, before a scenario trusts it.
//!
//! Sockets are opened in the namespace of a host behind the router and in that of a machine with two public addresses, for UDP and for TCP alike:
//!
//! 1. from one port to the first address only; then the first address speaks up from another port, and the second address does (by TCP: each opens
//!    a connection to where the first was seen to come from): what comes through tells the filtering;
//! 2. from that same port to the second address too: the same outside port is an endpoint-independent mapping.
//!
//! In this order, because a router may filter by host and not by socket; the two protocols wait for each other in between, for the same reason.
//! Before that a connection to port 443, which some routers let out alone.
//!
//! With a second host behind the router: whether what that sends to the first one's outside address comes back inside (hairpin,
//! RFC 4787 §6).
//!
//! Prints JSON; exit 0 whatever the router does.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use serde_json::{Value, json};
use shadowmesh_tests::netns::End;
use socket2::{Domain, Socket, Type};

/// Longer than any round trip in the lab, short enough to be paid for every router.
const PATIENCE: Duration = Duration::from_millis(250);

/// Says how a router maps and filters UDP and TCP.
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
    /// Two public addresses of that machine, of one family.
    #[arg(long, num_args = 2)]
    addresses: Vec<IpAddr>,
}

/// What came through of what nobody inside had asked for.
#[derive(Clone, Copy)]
struct Unasked {
    from_port: bool,
    from_address: bool,
}

impl Unasked {
    const fn filtering(self) -> &'static str {
        match (self.from_port, self.from_address) {
            (_, true) => "endpoint-independent",
            (true, false) => "address-dependent",
            (false, false) => "address-and-port-dependent",
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let together = Barrier::new(2);
    let (udp, tcp) = thread::scope(|scope| {
        let tcp = scope.spawn(|| about_tcp(&arguments, &together));
        let udp = about_udp(&arguments, &together);
        (udp, tcp.join())
    });
    let mut report = udp?;
    report["tcp"] = tcp.map_err(|_| anyhow::anyhow!("the thread about TCP panicked"))??;
    writeln!(io::stdout(), "{report}")?;
    Ok(())
}

const fn mapping(is_one: bool) -> &'static str {
    if is_one { "endpoint-independent" } else { "endpoint-dependent" }
}

fn about_udp(arguments: &Arguments, together: &Barrier) -> anyhow::Result<Value> {
    let public = |address: IpAddr| udp(&arguments.outside, SocketAddr::new(address, 0));
    let (near, far) = (public(arguments.addresses[0])?, public(arguments.addresses[1])?);
    let near_other_port = public(arguments.addresses[0])?;

    let socket = udp(&arguments.inside, unspecified(arguments.addresses[0])).context("the socket inside")?;
    // Nothing leads there: the same as silence.
    let is_sent = socket.send_to(b"open", near.local_addr()?).is_ok();
    let outside = if is_sent { heard(&near)? } else { None };
    let unasked = outside
        .map(|outside| {
            near_other_port.send_to(b"port", outside)?;
            let from_port = heard(&socket)?.is_some();
            far.send_to(b"address", outside)?;
            io::Result::Ok((outside, Unasked { from_port, from_address: heard(&socket)?.is_some() }))
        })
        .transpose();
    together.wait();
    let Some((outside, unasked)) = unasked? else { return Ok(json!({"udp": false})) };
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
    Ok(json!({
        "udp": true,
        "mapping": mapping(outside == second),
        "filtering": unasked.filtering(),
        "port_kept": outside.port() == socket.local_addr()?.port(),
        "address": outside.ip(),
        "hairpin": hairpin.transpose()?,
    }))
}

fn about_tcp(arguments: &Arguments, together: &Barrier) -> anyhow::Result<Value> {
    let &[near, far] = arguments.addresses.as_slice() else { anyhow::bail!("two addresses are needed") };
    let https = SocketAddr::new(near, 443);
    let answers = match tcp(&arguments.outside, https) {
        Ok(socket) => Some(socket),
        // Somebody serves there, which does as well.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
        Err(error) => return Err(error).context("port 443"),
    };
    answers.iter().try_for_each(|socket| socket.listen(8))?;
    // A refusal comes from there as well: the port may be another check's, which is over.
    let asked = tcp(&arguments.inside, unspecified(near))?.connect_timeout(&https.into(), PATIENCE);
    let reaches_443 = asked.map_or_else(|error| error.kind() == io::ErrorKind::ConnectionRefused, |()| true);

    let [near, far] = [near, far].map(|address| listening(&arguments.outside, SocketAddr::new(address, 0)));
    let (near, far) = (near?, far?);
    let first = reaches(&arguments.inside, unspecified(at(&near)?.ip()), at(&near)?);
    let seen = first
        .map(|socket| {
            let outside = accepted(&near)?;
            let inside = listening(&arguments.inside, at(&socket)?)?;
            let asks =
                |address: IpAddr| reaches(&arguments.outside, SocketAddr::new(address, 0), outside).is_some();
            let (from_port, from_address) = thread::scope(|scope| {
                let from_address = scope.spawn(|| at(&far).is_ok_and(|far| asks(far.ip())));
                (at(&near).is_ok_and(|near| asks(near.ip())), from_address.join().unwrap_or(false))
            });
            io::Result::Ok((socket, inside, outside, Unasked { from_port, from_address }))
        })
        .transpose();
    together.wait();
    let Some((socket, _inside, outside, unasked)) = seen? else {
        return Ok(json!({"to_443": reaches_443, "to_others": false}));
    };
    reaches(&arguments.inside, at(&socket)?, at(&far)?)
        .context("the first address was reached by TCP and the second was not")?;
    Ok(json!({
        "to_443": reaches_443,
        "to_others": true,
        "mapping": mapping(accepted(&far)? == outside),
        "filtering": unasked.filtering(),
    }))
}

fn unspecified(like: IpAddr) -> SocketAddr {
    match like {
        IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
    }
}

fn within<T: Send>(namespace: &str, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = Some(PathBuf::from("/run/netns").join(namespace));
    End { namespace, device: String::new() }.within(|_| work())
}

fn udp(namespace: &str, local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = within(namespace, || UdpSocket::bind(local))?;
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

/// A TCP socket at a port that others may use as well: connections from it and the one who listens there share it.
fn tcp(namespace: &str, local: SocketAddr) -> io::Result<Socket> {
    within(namespace, || {
        let socket = Socket::new(Domain::for_address(local), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        // `accept` waits no longer than this either.
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.bind(&local.into())?;
        Ok(socket)
    })
}

fn listening(namespace: &str, local: SocketAddr) -> io::Result<Socket> {
    let socket = tcp(namespace, local)?;
    socket.listen(8)?;
    Ok(socket)
}

/// A connection from `local` to `target`, if there is one in time.
fn reaches(namespace: &str, local: SocketAddr, target: SocketAddr) -> Option<Socket> {
    let socket = tcp(namespace, local).ok()?;
    socket.connect_timeout(&target.into(), PATIENCE).ok()?;
    Some(socket)
}

fn accepted(listener: &Socket) -> io::Result<SocketAddr> {
    let (_, from) = listener.accept()?;
    from.as_socket().ok_or_else(|| io::Error::other("no address of the internet"))
}

fn at(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no address of the internet"))
}
