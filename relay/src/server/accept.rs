//! Taking connections in: never waits for one, and counts them per address.

use crate::core::ConnId;
use crate::core::limits::{Full, Site, Sites};
use crate::server::conn::{self, Origin};
use crate::server::hub::Hub;
use crate::server::port::lock;
use crate::server::refusal::Refusals;
use crate::server::relayed::{Entrance, Socket};
use crate::server::socket::tune;
use crate::server::tls::Front;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Pause after the system refused to accept (out of descriptors or memory): trying at once would spin.
const BREATHER: Duration = Duration::from_millis(100);

/// Shared by all listeners.
#[derive(Debug)]
pub(super) struct Acceptor {
    hub: Arc<Hub>,
    /// Who begins with TLS is answered so, where there is something to answer with.
    front: Option<Front>,
    refusals: Refusals,
    sites: Mutex<Sites>,
    next: AtomicU64,
    /// Held by every connection: when all are dropped, all connections are gone.
    alive: mpsc::Sender<()>,
}

impl Acceptor {
    pub(super) fn new(hub: Arc<Hub>, front: Option<Front>, alive: mpsc::Sender<()>) -> Self {
        let refusals = Refusals::new(front.is_some());
        Self { hub, front, refusals, sites: Mutex::new(Sites::new()), next: AtomicU64::new(1), alive }
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
        let mut pass = Pass { acceptor: Arc::clone(self), counted: Counted::Not };
        let is_proxied = self.hub.rules().trusted.contains(peer.ip());
        let entered = if is_proxied { pass.enter() } else { pass.name(peer.ip()) };
        if let Err(full) = entered {
            return self.refusals.refuse(stream, is_proxied.then_some(peer), full);
        }
        let (Ok(()), Ok(local)) = (tune(&stream), stream.local_addr()) else {
            // Gone already.
            return;
        };
        self.hub.metrics().connections.add_one();
        let socket = Arc::clone(socket);
        let entrance = if is_proxied { Entrance::any(socket) } else { Entrance::new(socket, local.ip()) };
        let conn = ConnId(self.next.fetch_add(1, Ordering::Relaxed));
        let origin = Origin { conn, peer, is_proxied, entrance, pass };
        let (hub, front, alive) = (Arc::clone(&self.hub), self.front.clone(), self.alive.clone());
        tokio::spawn(async move {
            conn::serve(hub, front, stream, origin).await;
            drop(alive);
        });
    }
}

/// A connection's place, among all and among those of its site. A stream that a proxy passes on has none among these until it is known whose it is.
#[derive(Debug)]
pub(super) struct Pass {
    acceptor: Arc<Acceptor>,
    counted: Counted,
}

#[derive(Debug, Clone, Copy)]
enum Counted {
    Not,
    Unnamed,
    For(Site),
}

impl Pass {
    fn enter(&mut self) -> Result<(), Full> {
        let rules = self.acceptor.hub.rules();
        let entered = lock(&self.acceptor.sites).enter_unnamed(&rules.limits);
        self.count(entered, Counted::Unnamed)
    }

    /// The connection is from `ip`.
    ///
    /// # Errors
    /// [`Full`], which is counted.
    pub(super) fn name(&mut self, ip: IpAddr) -> Result<(), Full> {
        let rules = self.acceptor.hub.rules();
        let (now, site) = (Instant::now(), Site::of(ip));
        let mut sites = lock(&self.acceptor.sites);
        let named = match self.counted {
            Counted::Not => sites.enter(now, site, &rules.limits),
            Counted::Unnamed => sites.name(now, site, &rules.limits),
            Counted::For(_) => return Ok(()),
        };
        drop(sites);
        self.count(named, Counted::For(site))
    }

    fn count(&mut self, result: Result<(), Full>, counted: Counted) -> Result<(), Full> {
        let dropped = &self.acceptor.hub.metrics().dropped;
        match result {
            Ok(()) => self.counted = counted,
            Err(Full::Relay) => dropped.refused_full.add_one(),
            Err(Full::Site) => dropped.refused_address.add_one(),
            Err(Full::Rate(_)) => dropped.refused_rate.add_one(),
        }
        result
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        match self.counted {
            Counted::Not => {}
            Counted::Unnamed => lock(&self.acceptor.sites).leave_unnamed(),
            Counted::For(site) => lock(&self.acceptor.sites).leave(site),
        }
    }
}
