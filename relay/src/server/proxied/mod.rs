//! Streams that a reverse proxy passes on: who is behind it, as the proxy says, if the operator lists it among `trusted_proxies`.
//!
//! Two ways of saying it are read. The PROXY protocol, version 2 ([`v2`]): a binary header before everything else, TLS included, with address and port.
//! And X-Forwarded-For ([`forwarded`]): a line of the HTTP request, with an address and no port. The first is for proxies that pass bytes on (HAProxy in TCP mode,
//! nginx `stream`, load balancers), the second for those that speak HTTP (nginx `proxy_pass`, Caddy, Traefik).
//!
//! # Who is believed
//!
//! Whoever connects from a listed address, and nobody else: a header that comes from elsewhere is junk (v2), or is passed over (X-Forwarded-For), for anybody can
//! write one and so have the blame, the limits and the place of another.
//!
//! What the address is good for: limits per address count it, and peers hear it where its port is known. Where it is not (port 0 here), no direct TCP is tried to
//! that client (protocol §7.12): nobody knows where its router would let a connection in. A proxied stream that says nothing of who is behind it counts as the
//! proxy's own.

mod forwarded;
mod v2;

pub(super) use forwarded::{HEADER, client};
pub(super) use v2::ProxyError;

use std::net::SocketAddr;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use v2::Source;

/// What follows the header of the PROXY protocol in the first bytes of a trusted proxy's stream, if they begin with one; nothing when that is not whole.
pub(super) fn behind(bytes: &[u8]) -> &[u8] {
    if bytes.first() != Some(&v2::FIRST_BYTE) {
        return bytes;
    }
    let after =
        bytes.split_first_chunk().and_then(|(fixed, rest)| rest.get(v2::Head::parse(fixed).ok()?.len()..));
    after.unwrap_or_default()
}

/// Reads what a trusted proxy at `via` says by the PROXY protocol of who is behind `tcp`: nothing when it does not speak that.
pub(super) async fn source(tcp: &mut TcpStream, via: SocketAddr) -> Result<Option<SocketAddr>, ProxyError> {
    let mut begin = [0; 6];
    let count = tcp.peek(&mut begin).await?;
    let begin = begin.get(..count).unwrap_or_default();
    if v2::is_v1(begin) {
        return Err(ProxyError::Version1);
    }
    if begin.first() != Some(&v2::FIRST_BYTE) {
        return Ok(None);
    }
    let mut fixed = [0; v2::FIXED];
    tcp.read_exact(&mut fixed).await?;
    let head = v2::Head::parse(&fixed)?;
    let mut rest = vec![0; head.len()];
    tcp.read_exact(&mut rest).await?;
    Ok(Some(match head.source(&rest)? {
        Source::Client(address) => SocketAddr::new(address.ip().to_canonical(), address.port()),
        // The proxy itself, such as when it looks whether the relay is there.
        Source::Unknown => SocketAddr::new(via.ip(), 0),
    }))
}
