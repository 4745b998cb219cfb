//! The relay on a network: listeners, one task per connection, UDP, and the end.
//!
//! Life: [`Server::bind`] takes the sockets (so that a port in use is known before anything is announced), [`Server::run`]
//! serves until told to stop, drains, and returns. Everything shared is in the [`hub`].
//!
//! One thread serves all of it: the runtime is `current_thread`. Passing bytes on is nearly all system calls; what is ours
//! per message is a lookup and two short uncontended locks, and a wake-up that crosses cores would cost more than that. On
//! the two cores of a small VPS the second one belongs to the kernel's network work. Nothing in here relies on it (ports and
//! hub are `Send`), so that several such runtimes can share the listeners where one thread is not enough.

mod accept;
mod conn;
pub(crate) mod hub;
mod opening;
mod port;
mod proxied;
mod refusal;
mod relayed;
mod session;
mod shutdown;
mod socket;
pub mod tls;
mod udp;
mod ws;

pub use shutdown::{DRAIN_TIME, Stop};

use crate::config::Settings;
use crate::core::relay::Terms;
use crate::random::SystemRng;
use hub::{Hub, Patience, Rules};
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::rng::Rng as _;
use shadowmesh_proto::version::Versions;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

/// Descriptors kept back from connections: listeners, admin, logs, the runtime, and those who are refused.
const RESERVED_DESCRIPTORS: u64 = 64 + refusal::AT_ONCE as u64;

/// Why the relay cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody else has the port.
    #[error(
        "cannot listen on {address}: the port is in use; stop what uses it (`ss -lntup` shows it) or choose another with --listen"
    )]
    InUse {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The port is for root.
    #[error(
        "cannot listen on {address}: ports below 1024 need CAP_NET_BIND_SERVICE; run under the systemd unit or choose a higher port with --listen"
    )]
    Privileged {
        /// What was asked for.
        address: SocketAddr,
    },
    /// Anything else the system said.
    #[error("cannot listen on {address}: {cause}; check the address given with --listen")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// The runtime refused a socket.
    #[error("cannot watch the listening sockets: {0}; check the limit on open files")]
    Runtime(#[from] io::Error),
}

impl ServeError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "ErrorKind is open-ended")]
    fn listen(address: SocketAddr, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::PermissionDenied if address.port() < 1024 => Self::Privileged { address },
            _ => Self::Listen { address, cause },
        }
    }
}

/// Which sockets to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sockets {
    /// TCP and UDP on each.
    pub listen: Vec<SocketAddr>,
    /// The second STUN port.
    pub stun_alt: StunAlt,
}

/// The second STUN port, by which a client tells what kind of NAT it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StunAlt {
    /// The one after the first port; gone without, with a warning, when it is taken.
    Next,
    /// This one, or the relay does not start.
    Port(u16),
}

/// A relay that has its sockets.
#[derive(Debug)]
pub struct Server {
    hub: Arc<Hub>,
    instance: u64,
    versions: Versions,
    stun_ports: Vec<u16>,
    listeners: Vec<TcpListener>,
    /// One for each listener, in their order; behind them that of the second STUN port.
    datagrams: Vec<UdpSocket>,
    front: Option<tls::Front>,
    started: Instant,
}

impl Server {
    /// Takes the sockets; links will speak `versions` of the protocol.
    ///
    /// # Errors
    /// [`ServeError`] names the address that cannot be had.
    pub fn bind(
        sockets: &Sockets,
        settings: &Settings,
        secret: NodeSecret,
        versions: Versions,
    ) -> Result<Self, ServeError> {
        let (mut listeners, mut datagrams, mut stun_ports) = (Vec::new(), Vec::new(), Vec::new());
        for address in &sockets.listen {
            let (tcp, udp) = socket::listen(*address).map_err(|error| ServeError::listen(*address, error))?;
            stun_ports.push(tcp.local_addr()?.port());
            listeners.push(tcp);
            datagrams.push(udp);
        }
        if let (Some(first), Some(udp)) = (sockets.listen.first(), datagrams.first()) {
            let local = udp.local_addr()?;
            match stun_alt(sockets.stun_alt, *first, local)? {
                Some(udp) => {
                    stun_ports.push(udp.local_addr()?.port());
                    datagrams.push(udp);
                }
                None => tracing::warn!(
                    "no second STUN port: the one after the first is taken; name another with --stun-alt, or clients cannot tell what NAT they are behind"
                ),
            }
        }
        let instance = SystemRng.next_u64();
        let settings = capped(settings);
        let terms = terms(&settings, instance, stun_ports.clone(), versions);
        let hub = Hub::new(secret, rules(&settings), terms);
        Ok(Self {
            hub: Arc::new(hub),
            instance,
            versions,
            stun_ports,
            listeners,
            datagrams,
            front: None,
            started: Instant::now(),
        })
    }

    /// Answers those who begin with TLS as well, on the same ports.
    #[must_use]
    pub fn with_tls(mut self, front: tls::Front) -> Self {
        self.front = Some(front);
        self
    }

    /// The ports that TCP is served on.
    pub fn ports(&self) -> Vec<u16> {
        let addresses = self.listeners.iter().filter_map(|listener| listener.local_addr().ok());
        addresses.map(|address| address.port()).collect()
    }

    /// What `status` asks and a reload changes.
    pub fn handle(&self) -> Handle {
        Handle {
            hub: Arc::clone(&self.hub),
            instance: self.instance,
            versions: self.versions,
            stun_ports: self.stun_ports.clone(),
            front: self.front.clone(),
            started: self.started,
        }
    }

    /// Serves until `stop` asks for the end, then drains: clients are told DRAIN and have [`DRAIN_TIME`] to go by themselves.
    ///
    /// # Errors
    /// `Runtime` when the sockets cannot be watched; nothing after that is fatal.
    pub async fn run(self, stop: Stop) -> Result<(), ServeError> {
        let (alive, gone) = tokio::sync::mpsc::channel(1);
        let acceptor = Arc::new(accept::Acceptor::new(Arc::clone(&self.hub), self.front, alive));
        let mut tasks = tokio::task::JoinSet::new();
        let mut sockets = Vec::new();
        for socket in self.datagrams {
            let responder = udp::Responder::new(Arc::clone(&self.hub), socket)?;
            sockets.push(responder.socket());
            tasks.spawn(responder.run());
        }
        for (listener, socket) in self.listeners.into_iter().zip(sockets) {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tasks.spawn(Arc::clone(&acceptor).run(listener, socket));
        }
        drop(acceptor);
        shutdown::wait_and_drain(stop, self.hub, tasks, gone).await;
        Ok(())
    }
}

/// A running server, as the admin socket and a reload see it.
#[derive(Debug, Clone)]
pub struct Handle {
    hub: Arc<Hub>,
    instance: u64,
    versions: Versions,
    stun_ports: Vec<u16>,
    front: Option<tls::Front>,
    started: Instant,
}

impl Handle {
    /// Takes new settings: limits and terms hold for new connections and introductions.
    pub fn reconfigure(&self, settings: &Settings) {
        let settings = capped(settings);
        let terms = terms(&settings, self.instance, self.stun_ports.clone(), self.versions);
        self.hub.reconfigure(rules(&settings), terms);
    }

    /// When the server was bound.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// What is presented to those who begin with TLS, if anything.
    pub const fn front(&self) -> Option<&tls::Front> {
        self.front.as_ref()
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }
}

/// The settings with no more connections than there are descriptors.
fn capped(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    let descriptors = socket::raise_descriptor_limit().saturating_sub(RESERVED_DESCRIPTORS);
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    if settings.limits.connections > descriptors {
        tracing::warn!(
            asked = settings.limits.connections,
            possible = descriptors,
            "fewer connections than configured: raise the limit on open files (LimitNOFILE=)"
        );
        settings.limits.connections = descriptors;
    }
    settings
}

fn terms(settings: &Settings, instance: u64, stun_ports: Vec<u16>, versions: Versions) -> Terms {
    Terms {
        stun_ports,
        heartbeat: settings.heartbeat,
        rotation: settings.rotation,
        mtu: settings.mtu,
        direct: settings.direct,
        instance,
        versions,
    }
}

fn rules(settings: &Settings) -> Rules {
    Rules {
        limits: settings.limits.clone(),
        trusted: settings.trusted_proxies.clone(),
        patience: patience(settings),
    }
}

fn patience(settings: &Settings) -> Patience {
    Patience {
        handshake: settings.handshake_timeout,
        write: settings.write_timeout,
        // The client pings each heartbeat when idle; half a heartbeat late it is asked, and two missed ones are enough.
        ping: settings.heartbeat * 3 / 2,
        silence: settings.heartbeat * 5 / 2,
    }
}

fn stun_alt(wish: StunAlt, first: SocketAddr, bound: SocketAddr) -> Result<Option<UdpSocket>, ServeError> {
    let address = |port| SocketAddr::new(bound.ip(), port);
    match wish {
        StunAlt::Port(port) => socket::listen_udp(address(port))
            .map(Some)
            .map_err(|error| ServeError::listen(address(port), error)),
        // An ephemeral first port (tests) makes the second one ephemeral too.
        StunAlt::Next if first.port() == 0 => Ok(socket::listen_udp(address(0)).ok()),
        StunAlt::Next => {
            Ok(bound.port().checked_add(1).and_then(|port| socket::listen_udp(address(port)).ok()))
        }
    }
}
