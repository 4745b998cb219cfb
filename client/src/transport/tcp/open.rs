//! A try: connections to every address of a peer at once, for [`TCP_TRY`].
//!
//! A SYN that is dropped is repeated by the kernel after a second. One that is refused (a host without our listener, or a router that
//! answers for it) is tried again after [`AGAIN`]: the other side's own SYN may have opened the way by then.

use super::Shared;
use super::congestion::{REMEMBERED, Usual};
use super::link::{self, Origin};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use shadowmesh_proto::endpoint::event::TCP_TRY;
use shadowmesh_proto::ids::PeerSlot;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// From one SYN to the next where they are refused: seven in a try.
const AGAIN: Duration = Duration::from_millis(700);

/// Runs a try from `port` to its end.
pub(super) async fn run(shared: Arc<Shared>, peer: PeerSlot, port: u16, addresses: Vec<SocketAddr>) {
    let connecting = async {
        let mut tries: FuturesUnordered<_> =
            addresses.into_iter().map(|address| connect(&shared, port, address)).collect();
        while let Some(connected) = tries.next().await {
            if let Some((stream, remote, usual)) = connected {
                let origin = Origin::Tried { peer, usual };
                tokio::spawn(link::run(stream, remote, origin, Arc::clone(&shared)));
            }
        }
    };
    // Sockets that are not connected by then are closed with it.
    let _ = timeout(TCP_TRY, connecting).await;
}

async fn connect(
    shared: &Shared,
    port: u16,
    address: SocketAddr,
) -> Option<(TcpStream, SocketAddr, Option<Usual>)> {
    loop {
        let again = Instant::now() + AGAIN;
        let connected = async {
            // Closed only when this node has no use for it any more.
            let _place = shared.sockets.acquire().await;
            let socket = shared.outside.tcp_from(port, address).await?;
            let usual = Usual::put_off(&socket, REMEMBERED);
            Ok((socket.connect(address).await?, usual))
        };
        match connected.await {
            Ok((stream, usual)) => return Some((stream, address, usual)),
            Err(error) if is_worth_another(&error) => sleep_until(again).await,
            Err(error) => {
                tracing::trace!(%error, %address, "no connection to a peer");
                return None;
            }
        }
    }
}

fn is_worth_another(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, ConnectionRefused, ConnectionReset};
    // The address is not available while there is a connection between the two ports already, which the listener took: perhaps of
    // somebody who is about to be sent away.
    matches!(error.kind(), ConnectionRefused | ConnectionReset | AddrNotAvailable | AddrInUse)
}
