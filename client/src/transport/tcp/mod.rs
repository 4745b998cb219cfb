//! Direct TCP connections to peers (protocol §7.12): opened, taken, and run until they end.
//!
//! What to try, whose a connection is and whether it carries data is the endpoint's business. Here are the sockets:
//!
//! - `open`: a try, from the port on which this node listens to every address of the peer at once.
//! - `accept`: the listener on that port. Anybody may connect to it.
//! - `congestion`: what decides how fast one sends that was opened from both ends.
//! - `link`: a connection and its messages, from [`TcpEvent::Opened`] to [`TcpEvent::Closed`].
//!
//! # The port
//!
//! It is that of the stream to a relay, which was opened with it free to be shared ([`Outside::tcp`](super::outside::Outside::tcp)): so a
//! NAT that maps endpoint-independently (RFC 5382 §4.1) maps a connection from there to a peer to what the relay saw. Each stream to a
//! relay has a port of its own, and the newest listens.
//!
//! # Why no WebSocket
//!
//! In a simultaneous open nobody is the client: the two ends would have to agree who asks for the upgrade before they know each other.
//! And a masked frame costs a pass over every byte. A message here is its length and the stream message that a relay would forward.
//!
//! # Invariants
//!
//! - A connection that nobody keeps ([`TcpTransport::keep`]) ends by itself within seconds; at most `accept::STRANGERS` of them came from
//!   outside. At most [`CONNECTIONS`] are some peer's, and [`SOCKETS`] on their way.
//! - Whoever has most of them, when there are that many, has one less as soon as a peer comes that has none: nobody keeps others out by
//!   having many, nor does somebody with many keys, as long as each of those has more than one.
//! - None runs through our own device: who takes one looks where it leads, and again when the network changes.
//! - No socket outlives what it was for: a try owns those it has not connected yet, a link its own; dropping either closes them.

mod accept;
mod congestion;
mod link;
mod open;
#[cfg(test)]
mod tests;

use super::outside::Outside;
use crate::plane::{InboundSender, StreamHandle, Waker};
use bytes::Bytes;
use link::LinkHandle;
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::transmit::TcpLink;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Connections of peers at a time: with as many relays and peers as a node has, far below what a process may have open.
pub const CONNECTIONS: usize = 256;
/// Sockets of tries at a time; others wait.
const SOCKETS: usize = 64;
/// Events that wait for the loop; a connection that brings more waits.
const EVENTS: usize = 64;

/// What happens to connections.
#[derive(Debug)]
pub enum TcpEvent {
    /// One is there: give it to [`TcpTransport::insert`], or [`Opened::refuse`] it.
    Opened(Opened),
    /// A message on one that is not kept yet.
    Message {
        /// The connection.
        link: TcpLink,
        /// One whole stream message, which may be anything.
        message: Bytes,
    },
    /// It is gone.
    Closed {
        /// The connection.
        link: TcpLink,
    },
}

/// A connection that is there.
#[derive(Debug)]
pub struct Opened {
    /// Its name.
    pub link: TcpLink,
    /// The peer that it was opened for; `None` where somebody came.
    pub peer: Option<PeerSlot>,
    /// This end's address.
    pub local: IpAddr,
    data: StreamHandle,
    handle: LinkHandle,
}

impl Opened {
    /// Ends it.
    pub fn refuse(self) {
        self.handle.abort();
    }
}

/// One that was taken.
#[derive(Debug)]
struct Taken {
    handle: LinkHandle,
    local: IpAddr,
    /// Whose it is: for whom it was opened, or who was heard there.
    peer: Option<PeerSlot>,
    is_kept: bool,
    /// Where the outbound thread puts data.
    data: StreamHandle,
}

impl Taken {
    /// Bytes that it carried, both ways.
    fn carried(&self) -> u64 {
        self.data.taken() + self.handle.received()
    }
}

/// What tasks share.
#[derive(Debug)]
struct Shared {
    outside: Outside,
    inbound: InboundSender,
    producer: Waker,
    events: mpsc::Sender<TcpEvent>,
    opened: AtomicU64,
    sockets: Semaphore,
}

impl Shared {
    fn name(&self, remote: SocketAddr) -> TcpLink {
        TcpLink { number: self.opened.fetch_add(1, Ordering::Relaxed), remote }
    }
}

/// A task that ends when this is dropped.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Every connection of this node.
#[derive(Debug)]
pub struct TcpTransport {
    shared: Arc<Shared>,
    listening: Option<(u16, Task)>,
    tries: HashMap<PeerSlot, Task>,
    links: HashMap<TcpLink, Taken>,
}

impl TcpTransport {
    /// No connection, and where their events come from. `inbound` takes messages of those that are kept; `producer` is woken when one
    /// has room again.
    pub fn new(
        outside: Outside,
        inbound: InboundSender,
        producer: Waker,
    ) -> (Self, mpsc::Receiver<TcpEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let shared = Shared {
            outside,
            inbound,
            producer,
            events,
            opened: AtomicU64::new(0),
            sockets: Semaphore::new(SOCKETS),
        };
        let transport =
            Self { shared: Arc::new(shared), listening: None, tries: HashMap::new(), links: HashMap::new() };
        (transport, receiver)
    }

    /// Listens on `port`, and no longer on the one before.
    ///
    /// # Errors
    /// What the kernel said; then this node listens nowhere.
    pub fn listen(&mut self, port: u16) -> io::Result<()> {
        self.listening = None;
        let listener = self.shared.outside.tcp_listener(port)?;
        self.listening = Some((port, Task(tokio::spawn(accept::run(listener, Arc::clone(&self.shared))))));
        Ok(())
    }

    /// Tries to reach a peer at all of `addresses`, from the port on which this node listens; without one it does nothing. A try for
    /// it that is under way ends.
    pub fn open(&mut self, peer: PeerSlot, addresses: Vec<SocketAddr>) {
        self.tries.retain(|_, task| !task.0.is_finished());
        if let Some((port, _)) = self.listening {
            let task = open::run(Arc::clone(&self.shared), peer, port, addresses);
            self.tries.insert(peer, Task(tokio::spawn(task)));
        }
    }

    /// Takes a connection: it may be spoken to from now on. `false` where there are too many: it ends.
    pub fn insert(&mut self, opened: Opened) -> bool {
        let has_room = match opened.peer {
            Some(peer) => self.has_room(peer),
            // Nobody knows yet whose it is. The listener bears few of those at a time; another one, on another port, as many.
            None => self.links.values().filter(|taken| taken.peer.is_none()).count() < 2 * accept::STRANGERS,
        };
        if !has_room {
            opened.refuse();
            return false;
        }
        let Opened { link, peer, local, data, handle } = opened;
        self.links.insert(link, Taken { handle, local, peer, is_kept: false, data });
        true
    }

    /// A connection is `peer`'s: it stays, its messages go to the data plane, and a try for the peer ends. The first time, where the
    /// outbound thread puts data. Where there are too many it ends, as [`TcpEvent::Closed`] will say.
    pub fn keep(&mut self, peer: PeerSlot, link: TcpLink) -> Option<StreamHandle> {
        self.tries.remove(&peer);
        let is_counted = self.links.get(&link)?.peer.is_some();
        if !is_counted && !self.has_room(peer) {
            self.close(link, true);
            return None;
        }
        let taken = self.links.get_mut(&link)?;
        taken.peer = Some(peer);
        taken.handle.keep();
        (!std::mem::replace(&mut taken.is_kept, true)).then(|| taken.data.clone())
    }

    /// Whether `peer` may have another one. Where there are too many, one that has none may have that of somebody who has several: of
    /// whoever has most, the one that carried least. It ends, as [`TcpEvent::Closed`] will say; what was under way there goes again.
    fn has_room(&mut self, peer: PeerSlot) -> bool {
        let mut each: HashMap<PeerSlot, usize> = HashMap::new();
        self.links
            .values()
            .filter_map(|taken| taken.peer)
            .for_each(|peer| *each.entry(peer).or_default() += 1);
        if each.values().sum::<usize>() < CONNECTIONS {
            return true;
        }
        let most = each.iter().max_by_key(|(slot, has)| (**has, slot.0)).filter(|(_, has)| **has > 1);
        let Some((most, _)) = most.filter(|_| !each.contains_key(&peer)) else { return false };
        let of_most = self.links.iter().filter(|(_, taken)| taken.peer == Some(*most));
        let idle = of_most.min_by_key(|(link, taken)| (taken.carried(), link.number)).map(|(link, _)| *link);
        idle.into_iter().for_each(|link| {
            tracing::debug!(remote = %link.remote, "a direct connection ends for a peer that has none");
            self.close(link, true);
        });
        idle.is_some()
    }

    /// Whether a connection is there.
    pub fn has(&self, link: TcpLink) -> bool {
        self.links.contains_key(&link)
    }

    /// Every connection, and this end's address of it.
    pub fn links(&self) -> Vec<(TcpLink, IpAddr)> {
        self.links.iter().map(|(link, taken)| (*link, taken.local)).collect()
    }

    /// Says a message before all data.
    pub fn send(&self, link: TcpLink, message: Vec<u8>) {
        if let Some(taken) = self.links.get(&link) {
            taken.handle.send(message);
        }
    }

    /// Ends a connection at once, or else well: what was said before is still sent. (As when all of this is dropped.)
    pub fn close(&mut self, link: TcpLink, at_once: bool) {
        if let Some(taken) = self.links.remove(&link)
            && at_once
        {
            taken.handle.abort();
        }
    }
}
