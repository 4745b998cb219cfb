//! Taking connections in: never waits for one, counts them per address, and says why when it refuses.

use crate::core::ConnId;
use crate::core::limits::{Full, Site, Sites};
use crate::server::conn::{self, Origin};
use crate::server::hub::Hub;
use crate::server::port::lock;
use crate::server::relayed::{Entrance, Socket};
use crate::server::socket::tune;
use crate::server::tls::Front;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Pause after the system refused to accept (out of descriptors or memory): trying at once would spin.
const BREATHER: Duration = Duration::from_millis(100);
/// What a client that was refused for the relay's sake is told to wait.
const RETRY_FULL: Duration = Duration::from_secs(10);

/// Shared by all listeners.
#[derive(Debug)]
pub(super) struct Acceptor {
    hub: Arc<Hub>,
    /// Who begins with TLS is answered so, where there is something to answer with.
    front: Option<Front>,
    sites: Mutex<Sites>,
    next: AtomicU64,
    /// Held by every connection: when all are dropped, all connections are gone.
    alive: mpsc::Sender<()>,
}

impl Acceptor {
    pub(super) fn new(hub: Arc<Hub>, front: Option<Front>, alive: mpsc::Sender<()>) -> Self {
        Self { hub, front, sites: Mutex::new(Sites::new()), next: AtomicU64::new(1), alive }
    }

    /// Accepts on `listener` for ever; `socket` has the same port.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener, socket: Arc<Socket>) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.take(stream, peer, &socket),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, socket: &Arc<Socket>) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let site = Site::of(peer.ip());
        let rules = self.hub.rules();
        let entered = lock(&self.sites).enter(Instant::now(), site, &rules.limits);
        if let Err(full) = entered {
            self.refuse(&stream, full);
            return;
        }
        let pass = Pass { acceptor: Arc::clone(self), site };
        let (Ok(()), Ok(local)) = (tune(&stream), stream.local_addr()) else {
            // Gone already.
            return;
        };
        self.hub.metrics().connections.add_one();
        let origin = Origin {
            conn: ConnId(self.next.fetch_add(1, Ordering::Relaxed)),
            peer,
            entrance: Entrance::new(Arc::clone(socket), local.ip()),
        };
        let (hub, front, alive) = (Arc::clone(&self.hub), self.front.clone(), self.alive.clone());
        tokio::spawn(async move {
            conn::serve(hub, front, stream, origin).await;
            drop((pass, alive));
        });
    }

    /// Before the handshake there is only HTTP to say it in; the few bytes fit any socket's buffer, and if not, so be it.
    fn refuse(&self, stream: &TcpStream, full: Full) {
        let dropped = &self.hub.metrics().dropped;
        let (counter, status, wait) = match full {
            Full::Relay => (&dropped.refused_full, "503 Service Unavailable", RETRY_FULL),
            Full::Site => (&dropped.refused_address, "429 Too Many Requests", RETRY_FULL),
            Full::Rate(wait) => (&dropped.refused_rate, "429 Too Many Requests", wait),
        };
        counter.add_one();
        let answer = format!(
            "HTTP/1.1 {status}\r\nRetry-After: {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            wait.as_secs().max(1)
        );
        let _ = stream.try_write(answer.as_bytes());
    }
}

/// A connection's place among those of its site.
#[derive(Debug)]
struct Pass {
    acceptor: Arc<Acceptor>,
    site: Site,
}

impl Drop for Pass {
    fn drop(&mut self) {
        lock(&self.acceptor.sites).leave(self.site);
    }
}
