//! One task that owns the endpoint: inputs in, outputs out, nothing else.
//!
//! Each turn handles one input (a relay's message, a packet from the data plane, a request, a timer, a signal), then drains
//! the endpoint: first events, then transmits (see [`Endpoint`] for why in this order), then publishes the routes if they
//! changed. Nothing here blocks; what takes time (connecting) runs in tasks of its own and comes back as an input.

mod apply;
mod changes;
mod given;
mod lanes;
mod links;
mod members;
mod names;
mod paths;
mod reload;
mod requests;
mod roster;
mod rules;
mod standing;
#[cfg(test)]
mod tests;
mod told;
mod turns;

use super::address::{self, OwnAddresses};
use super::hangup::Hangup;
use super::interface::{Interface, clear_bridge};
use super::ways::Ways;
use super::{DaemonError, DaemonOptions};
use crate::config::{CipherChoice, ProxyRule, Settings};
use crate::control::server::{ControlServer, Incoming, Reply};
use crate::control::status::RulesInForce;
use crate::daemon::clock;
use crate::daemon::config_file::ConfigFile;
use crate::daemon::manager::Manager;
use crate::daemon::progress::{Progress, ProgressSender};
use crate::daemon::state_dir::{NetworkState, StateDir, StateLock};
use crate::device::{DeviceFault, LinkSettings};
use crate::names::label::Label;
use crate::names::{Identity, Names};
use crate::net::changes::{Change, KeptChanges};
use crate::net::port_mapping::PortMapper;
use crate::net::wake_up::{self, ClockJumps};
use crate::net::{Netlink, interfaces};
use crate::plane::{self, ControlPacket, Datagram, Fact, Members, Plane, PlaneOutput, Routes};
use crate::switch::OwnSockets;
use crate::system_rng::SystemRng;
use crate::transport::outside::Outside;
use crate::transport::relay::{Ending, RelayEvent, RelayHandle, RelayStream};
use crate::transport::tcp::{TcpEvent, TcpTransport};
use crate::transport::udp::DatagramSocket;
use lanes::Lanes;
use members::Kept;
use paths::PathWait;
use shadowmesh_proto::addresses;
use shadowmesh_proto::crypto::aead::{Cipher, CipherSet};
use shadowmesh_proto::endpoint::Endpoint;
use shadowmesh_proto::endpoint::config::Config;
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::rng::Rng as _;
use shadowmesh_proto::session::ChunkPool;
use shadowmesh_proto::session::limits::POOL_BYTES;
use shadowmesh_proto::ticket::RelayTicket;
use shadowmesh_proto::time::Deadline;
use shadowmesh_proto::transmit::RelayNo;
use shadowmesh_proto::version::SPOKEN;
use shadowmesh_proto::wire::control::Hello;
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use turns::{CLASSES, Turns};

/// Packets that are taken before what follows from them is done.
const TOGETHER: usize = 16;
/// Events of relay tasks that wait for the loop; a relay that talks more than this is slowed down.
const RELAY_QUEUE: usize = 64;
/// An echo that did not come back in this time is forgotten; whoever asked has given up long before.
const ECHO_KEPT: Duration = Duration::from_secs(10);
/// On the way out the relay tasks get this long to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// Everything the loop owns.
pub(super) struct EventLoop {
    endpoint: Endpoint,
    routes: Routes,
    plane: Option<Plane>,
    output: PlaneOutput,
    interface: Interface,
    relays: Vec<RelayTask>,
    lanes: Lanes,
    relay_events: mpsc::Receiver<(RelayNo, RelayEvent)>,
    turns: Turns,
    socket: DatagramSocket,
    tcp: TcpTransport,
    tcp_events: mpsc::Receiver<TcpEvent>,
    /// The relay whose stream has the port on which this node listens.
    listening: Option<RelayNo>,
    /// The ports that its sockets send from: that for datagrams, and those of the latest streams, which direct connections share.
    ports: Vec<u16>,
    ways: Ways,
    netlink: Arc<Netlink>,
    control: ControlServer,
    changes: KeptChanges,
    clock_jumps: Option<ClockJumps>,
    /// Unless it is switched off.
    mapper: Option<PortMapper>,
    /// One that was switched off gives its port back.
    gives_back: Option<JoinHandle<()>>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Hangup,
    echoes: HashMap<u64, Echo>,
    sleepers: Vec<Sleeper>,
    path_waits: Vec<PathWait>,
    progress: ProgressSender,
    manager: Manager,
    state: StateDir,
    /// Whose settings win over what is remembered.
    config_file: Option<ConfigFile>,
    /// What it runs with; of what counts from the next start on, what it was started with.
    settings: Settings,
    /// What stands in for a name that nobody chose.
    hostname: String,
    /// What a person types to start it anew.
    restart: String,
    network: NetworkState,
    /// Those in use, best first.
    relay_tickets: Vec<RelayTicket>,
    /// The access rules in force, and what went wrong with others since.
    rules: Option<RulesInForce>,
    waiting_said: bool,
    /// Peers that claimed what does not follow from their keys: that is said once.
    lie_told: HashSet<PeerSlot>,
    /// What peers are called, until somebody may be called otherwise: it takes a look at everybody, and is asked for each.
    shown_names: OnceCell<BTreeMap<PeerSlot, String>>,
    /// Peers that were said to be connected, under a name, since they last were not.
    said: HashSet<PeerSlot>,
    /// Peers that sleep, or are being woken.
    drowsy: HashSet<PeerSlot>,
    /// Whether any relay ever accepted this node.
    was_registered: bool,
    members: Kept,
    names: Names,
    lock: StateLock,
}

/// What is known of a relay beside what the endpoint knows.
struct RelayTask {
    /// Nothing while its number rests.
    place: Option<lanes::Place>,
    handle: Option<RelayHandle>,
    /// The stream that is open; `None` as soon as it is given up, although its task may not know yet.
    stream: Option<RelayStream>,
    address: String,
    /// This end's address of the open stream.
    local: Option<SocketAddr>,
    /// The open stream, or that which is tried, goes by a proxy.
    is_proxied: bool,
    connecting: bool,
    /// The connection's outage was told; said once per outage.
    outage_told: bool,
    /// Why it said that it does not take this node in, since it last did.
    refused: Option<String>,
    /// Streams in a row that were opened and on which nothing came: what a relay with another key looks like from here.
    mute: u32,
}

/// An ECHO under way.
struct Echo {
    reply: Reply,
    sent: Instant,
    /// How long it took to wake the peer before.
    woken: Option<Duration>,
}

/// An ECHO to a peer that is being woken.
struct Sleeper {
    slot: PeerSlot,
    asked: Instant,
    reply: Reply,
}

/// Streams on which a relay hung up without a word before it is taken for another: one may be a relay that is just stopping.
const MUTE_STREAMS: u32 = 3;
/// Ports of streams that are remembered: a direct connection may outlive the stream whose port it shares.
const STREAM_PORTS: usize = 16;

/// What ended a wait.
enum Input {
    Relay(RelayNo, RelayEvent),
    Packet(ControlPacket),
    Datagram(Datagram),
    Tcp(TcpEvent),
    Fact(Fact),
    DeviceLost(DeviceFault),
    Request(Incoming),
    NetworkChanged(Change),
    /// The machine was suspended, or its clock was set; or that is no longer noticed.
    ClockJumped(io::Result<()>),
    /// The router forwards a port of this outside address, or none any more.
    Mapped(Option<SocketAddr>),
    Timer,
    /// SIGHUP.
    Hangup,
    Stop,
}

impl EventLoop {
    /// Makes the device and everything around it.
    pub(super) async fn start(options: DaemonOptions) -> Result<Self, DaemonError> {
        let (settings, node) = (&options.settings, options.node_secret.public());
        let mut own = OwnAddresses::new(settings, &options.network, node, options.members.as_ref());
        let netlink = netlink()?;
        let is_free = address::check(&netlink, &own.cidrs(), &settings.bridge).await;
        if own.is_given() && matches!(is_free, Err(DaemonError::Clash { .. })) {
            // Nobody here asked for that one; people are told once the record was looked at.
            own = OwnAddresses::derived(&options.network, node);
            address::check(&netlink, &own.cidrs(), &settings.bridge).await?;
        } else {
            is_free?;
        }
        let (mac, mtu) = (addresses::mac(&node), settings.mtu.bytes());
        let (name, progress) = (settings.device.as_str(), &options.progress);
        let interface = Interface::tap(
            &netlink,
            name,
            LinkSettings::new(mac, mtu),
            settings.queues.count(),
            &settings.bridge,
            &own.cidrs(),
            progress,
        )
        .await?;
        let port = interface.bridge_port();
        let started = Self::start_on(options, own, interface, netlink).await;
        if let Some(port) = port.filter(|_| started.is_err()) {
            clear_bridge(port).await;
        }
        started
    }

    /// The same around a device that is there.
    async fn start_on(
        options: DaemonOptions,
        own: OwnAddresses,
        mut interface: Interface,
        netlink: Arc<Netlink>,
    ) -> Result<Self, DaemonError> {
        let DaemonOptions {
            state,
            lock,
            control,
            node_secret,
            network,
            relays,
            settings,
            config_file,
            hostname,
            restart,
            rules,
            members,
            ring,
            names: places,
            manager,
            progress,
        } = options;
        let system = |what| move |cause: io::Error| DaemonError::System { what, cause };
        let keys = network.secret.derive();
        let mac = addresses::mac(&node_secret.public());
        let mtu = settings.mtu.bytes();

        let hello = Hello {
            name: settings.name.to_string(),
            mac,
            ipv4: own.ipv4,
            ipv6: own.ipv6,
            claim: own.claim,
            mtu,
            revision: 1,
        };
        let everybody =
            Members::new(node_secret.public(), network.address_space(), &hello, settings.switch());
        let mut routes = Routes::new(everybody);
        let rules = rules.map(|file| rules::enforce(&mut routes, node_secret.public(), file));
        let queues = interface.queues.clone();
        let socket = DatagramSocket::bind().map_err(system("a UDP socket"))?;
        let (plane, output) =
            Plane::start(queues, socket.clone(), routes.snapshot(), ChunkPool::new(POOL_BYTES), ring)
                .map_err(system("the threads of the data plane"))?;

        let mut endpoint = Endpoint::new(
            Config {
                node: node_secret,
                network: keys,
                addresses: network.address_space(),
                // They come with their streams (`lanes`).
                relays: Vec::new(),
                ciphers: ciphers(settings.cipher),
                hello,
                address_attempt: own.attempt,
                rekey_interval: settings.rekey_interval.duration(),
                instance: SystemRng.next_u64(),
                program: env!("CARGO_PKG_VERSION").to_owned(),
                versions: SPOKEN,
            },
            Box::new(SystemRng),
        );
        endpoint.set_sessions(Instant::now(), settings.sessions());
        progress.send(interface.up(mtu));
        rules::say(&progress, rules.as_ref());

        let outside = Outside::new(Arc::clone(&netlink), interface.index);
        let ways = Ways::new(Arc::clone(&netlink), interface.index);
        let (tcp, tcp_events) = TcpTransport::new(outside.clone(), plane.messages(), plane.outbound_waker());
        let (events, relay_events) = mpsc::channel(RELAY_QUEUE);
        let passed_over = |variable: &str| {
            tracing::warn!(
                "{variable} names no HTTP proxy that is of use here (http://host:port), and is passed over"
            );
        };
        let proxy = ProxyRule::of(settings.proxy.as_ref(), |name| std::env::var(name).ok(), passed_over);
        let lanes = Lanes::new(outside, proxy, events);
        let mapper = settings
            .port_mapping
            .then(|| PortMapper::spawn(Arc::clone(&netlink), interface.index, socket.port(), None));
        let ports = vec![socket.port()];
        let changes =
            KeptChanges::watch(Some(interface.index)).await.map_err(system("to watch its network"))?;
        // What happened to it before is no change for who begins to watch now.
        interface.keep_mac().await;
        let control = ControlServer::start(control).map_err(system("the control socket"))?;
        let terminate = signal(SignalKind::terminate()).map_err(system("signals"))?;
        let interrupt = signal(SignalKind::interrupt()).map_err(system("signals"))?;
        let hangup = Hangup::watch().map_err(system("signals"))?;
        // Nothing fails any more: what names change of this machine is always taken back.
        let called = Identity {
            node: endpoint.id(),
            networks: Label::of_network(&network.name, &network.label_id()),
            device: interface.name(),
            is_bridged: interface.is_bridged(),
        };
        let names = Names::start(called, places, settings.names, progress.clone());
        let mut made = Self {
            endpoint,
            routes,
            plane: Some(plane),
            output,
            interface,
            relays: Vec::new(),
            lanes,
            relay_events,
            turns: Turns::default(),
            socket,
            tcp,
            tcp_events,
            listening: None,
            ports,
            ways,
            netlink,
            control,
            changes,
            // Without it only a timer that is late tells of a sleep.
            clock_jumps: ClockJumps::watch()
                .inspect_err(|error| tracing::warn!(%error, "jumps of the clock are not noticed"))
                .ok(),
            mapper,
            gives_back: None,
            terminate,
            interrupt,
            hangup,
            echoes: HashMap::new(),
            sleepers: Vec::new(),
            path_waits: Vec::new(),
            progress,
            manager,
            state,
            config_file,
            settings,
            hostname,
            restart,
            network,
            relay_tickets: relays,
            rules,
            waiting_said: false,
            said: HashSet::new(),
            drowsy: HashSet::new(),
            lie_told: HashSet::new(),
            shown_names: OnceCell::new(),
            was_registered: false,
            members: Kept::default(),
            names,
            lock,
        };
        match members {
            Some(members) => made.begin_members(members),
            None => made.open_lane(None),
        }
        Ok(made)
    }

    pub(super) async fn run(mut self) -> Result<(), DaemonError> {
        self.manager.ready(Instant::now());
        self.tell_addresses().await;
        let ended = loop {
            self.manager.feed(Instant::now());
            self.drain().await;
            if self.settle_path_waits() {
                self.drain().await;
            }
            let paths = self.path_deadline().map(|at| Deadline::new(at, "a path was waited for long enough"));
            let look = self.members.look_at().map(|at| Deadline::new(at, "certificates are looked at"));
            let newcomers = self.members.take_up_at(Instant::now());
            let look =
                Deadline::earlier(look, newcomers.map(|at| Deadline::new(at, "newcomers are taken up")));
            let met = self.members.store_met_at().map(|at| Deadline::new(at, "whom this node met is stored"));
            let look = Deadline::earlier(look, met);
            let late = self.members.joins_late_at().map(|at| Deadline::new(at, "joining takes long"));
            let look = Deadline::earlier(look, late);
            self.leave_relays();
            let deadline = Deadline::earlier(Deadline::earlier(self.endpoint.poll_timeout(), paths), look);
            let deadline = Deadline::earlier(deadline, self.leave_at());
            let deadline = Deadline::earlier(deadline, self.manager.deadline());
            let began = Instant::now();
            let input = self.wait(deadline).await;
            if wake_up::has_slept(began, deadline.map(|deadline| deadline.at), Instant::now()) {
                self.on_awake("a timer fired much too late").await;
            }
            match input {
                Input::Stop => break Ok(()),
                Input::DeviceLost(fault) => {
                    break Err(DaemonError::DeviceLost { name: self.interface.name(), fault });
                }
                Input::Request(incoming) => {
                    if self.answer(incoming) {
                        break Ok(());
                    }
                }
                Input::Relay(no, event) => {
                    self.on_relay(no, event);
                    if let Some(address) = self.other_relay() {
                        break Err(DaemonError::OtherRelay { address });
                    }
                }
                Input::Packet(packet) => {
                    self.on_packet(packet);
                    self.take_waiting();
                }
                Input::Datagram(datagram) => {
                    self.endpoint.handle_datagram(Instant::now(), datagram.from, &datagram.bytes);
                }
                Input::Tcp(event) => self.on_tcp(event).await,
                Input::Fact(fact) => self.on_fact(fact),
                Input::Mapped(outside) => self.endpoint.handle_mapped_port(Instant::now(), outside),
                Input::NetworkChanged(change) => {
                    if change.own_mac {
                        self.interface.keep_mac().await;
                    }
                    if change.is_around_us() {
                        self.on_network_changed().await;
                    }
                }
                Input::ClockJumped(jump) => {
                    if let Err(error) = jump {
                        tracing::warn!(%error, "jumps of the clock are no longer noticed");
                        self.clock_jumps = None;
                    }
                    self.on_awake("the clock jumped").await;
                }
                Input::Hangup if self.hangup.is_of_terminal() => break Ok(()),
                Input::Hangup => drop(self.reload()),
                Input::Timer => {
                    // Where this machine is busy an answer may be here that nobody has looked at: what waits was not silent.
                    self.take_waiting();
                    let now = Instant::now();
                    self.forget_echoes(now);
                    self.look_at_certificates(now);
                    self.take_up_newcomers(now);
                    self.say_joining(now);
                    if self.members.store_met_at().is_some_and(|at| at <= now) {
                        self.members.store_met();
                    }
                    self.endpoint.handle_timeout(now);
                }
            }
        };
        self.leave().await;
        ended
    }

    /// The next input. What is rare and wanted now comes first; relay messages come before packets, because a packet may come
    /// over a channel that such a message introduces, and the two take different ways here. Nobody who speaks without pause keeps the
    /// others out ([`Turns`]).
    async fn wait(&mut self, deadline: Option<Deadline>) -> Input {
        let PlaneOutput { packets, direct, stray, datagrams, facts, lost } = &mut self.output;
        let mut timer = pin!(async {
            match deadline {
                Some(deadline) => {
                    tokio::time::sleep_until(deadline.at.into()).await;
                    tracing::trace!(why = deadline.why, "timer");
                }
                None => std::future::pending().await,
            }
            Input::Timer
        });
        let mapped = async {
            match &mut self.mapper {
                Some(mapper) => mapper.changed().await,
                None => std::future::pending().await,
            }
        };
        let jumped = async {
            match &mut self.clock_jumps {
                Some(jumps) => jumps.next().await,
                None => std::future::pending().await,
            }
        };
        let mut rare = pin!(async {
            tokio::select! {
                biased;
                Some(incoming) = self.control.next() => Input::Request(incoming),
                () = self.hangup.next() => Input::Hangup,
                change = self.changes.next() => Input::NetworkChanged(change),
                jump = jumped => Input::ClockJumped(jump),
                outside = mapped => Input::Mapped(outside),
            }
        });
        let mut fact = pin!(async {
            match facts.recv().await {
                Some(fact) => Input::Fact(fact),
                None => std::future::pending().await,
            }
        });
        let mut relay = pin!(async {
            match self.relay_events.recv().await {
                Some((no, event)) => Input::Relay(no, event),
                None => std::future::pending().await,
            }
        });
        // No order among these: strangers who fill one of them leave the others their share.
        let mut arrival = pin!(async {
            tokio::select! {
                Some(packet) = packets.recv() => Input::Packet(packet),
                Some(packet) = direct.recv() => Input::Packet(packet),
                Some(packet) = stray.recv() => Input::Packet(packet),
                Some(datagram) = datagrams.recv() => Input::Datagram(datagram),
                Some(event) = self.tcp_events.recv() => Input::Tcp(event),
                else => std::future::pending().await,
            }
        });
        let sources: [Pin<&mut dyn Future<Output = Input>>; CLASSES] =
            [timer.as_mut(), rare.as_mut(), fact.as_mut(), relay.as_mut(), arrival.as_mut()];
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Input::Stop,
            _ = self.interrupt.recv() => Input::Stop,
            Some(fault) = lost.recv() => Input::DeviceLost(fault),
            input = self.turns.next(sources) => input,
        }
    }

    /// Takes packets that are there already, some at once: what follows from each of them, and is looked for after each input, is
    /// most of what a packet costs. None before a message of a relay that waits ([`Self::wait`]).
    fn take_waiting(&mut self) {
        for turn in 0..TOGETHER {
            if !self.relay_events.is_empty() {
                return;
            }
            let PlaneOutput { packets, direct, .. } = &mut self.output;
            let (first, second) = if turn % 2 == 0 { (packets, direct) } else { (direct, packets) };
            let Ok(packet) = first.try_recv().or_else(|_| second.try_recv()) else { return };
            self.on_packet(packet);
        }
    }

    fn on_packet(&mut self, mut packet: ControlPacket) {
        // It was on its way through the data plane when its connection ended.
        if matches!(packet.via, Via::Tcp(link) if !self.tcp.has(link)) {
            return;
        }
        if let Err(error) = self.endpoint.handle_packet(Instant::now(), packet.via, &mut packet.packet) {
            tracing::trace!(%error, "a packet is dropped");
        }
    }

    fn on_fact(&mut self, fact: Fact) {
        match fact {
            Fact::Loop(state) => self.say_loop(state),
            Fact::Rogue(slot) => self.say_rogue(slot),
            Fact::DataSent(..)
            | Fact::Heard(..)
            | Fact::AckDue(..)
            | Fact::KeyUsedUp(_)
            | Fact::Stopped(..)
            | Fact::Wanted(_)
            | Fact::Forgotten(_) => {}
        }
        if let Some(plane) = &self.plane {
            plane::tell(&mut self.endpoint, plane, Instant::now(), fact);
        }
    }

    /// This process stood still. What it knew of the network may be as old as that.
    async fn on_awake(&mut self, sign: &'static str) {
        tracing::debug!(sign, "awake: the network may be another one");
        self.tell_time();
        self.on_network_changed().await;
    }

    async fn on_network_changed(&mut self) {
        self.relays.iter().filter_map(|relay| relay.handle.as_ref()).for_each(RelayHandle::hurry);
        self.mapper.iter().for_each(PortMapper::hurry);
        self.ways.forget();
        for address in self.routes.datagram_addresses() {
            if !self.ways.is_outside(address.ip()).await {
                self.endpoint.handle_unreachable(Instant::now(), address);
            }
        }
        self.tell_addresses().await;
        self.endpoint.handle_network_changed(Instant::now());
    }

    /// Streams whose own address is gone from this machine, or from a link that is, are given up at once: their TCP would take
    /// minutes to find out, and their PING seconds.
    fn drop_homeless_streams(&mut self, interfaces: &[interfaces::Interface]) {
        let homeless: Vec<RelayNo> = self
            .relays
            .iter()
            .enumerate()
            .filter(|(_, task)| {
                task.stream.is_some()
                    && task
                        .local
                        .is_some_and(|local| !interfaces::is_here(interfaces, local.ip().to_canonical()))
            })
            .map(|(at, _)| RelayNo(at))
            .collect();
        for no in homeless {
            self.say_outage(no, "its address is gone from this machine");
            self.drop_stream(no, None);
            if let Some(handle) = self.relays.get(no.0).and_then(|task| task.handle.as_ref()) {
                handle.hurry();
            }
        }
    }

    /// Tells the endpoint where this machine may be reached by datagram.
    async fn tell_addresses(&mut self) {
        match interfaces::list(&self.netlink, Some(self.interface.index)).await {
            Ok(interfaces) => {
                self.drop_homeless_streams(&interfaces);
                self.drop_stray_links(&interfaces).await;
                let usable = interfaces.iter().filter(|interface| interface.running && !interface.loopback);
                // Those of a bridge that the device is a port of lie in the overlay.
                let overlay = self.interface.on_bridge();
                let addresses = usable
                    .flat_map(|interface| &interface.addresses)
                    .filter(|have| have.usable && !overlay.contains(&have.cidr))
                    .map(|have| have.cidr.address());
                let addresses: Vec<IpAddr> = addresses.collect();
                let port = self.socket.port();
                let hosts = addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
                if self.interface.is_bridged() {
                    self.routes.set_own_sockets(OwnSockets { addresses, ports: self.ports.clone() });
                }
                self.endpoint.handle_addresses(Instant::now(), hosts);
            }
            // What was told before stays; the next change asks again.
            Err(error) => tracing::warn!(%error, "the addresses of this machine cannot be listed"),
        }
    }

    /// A stream leaves from this port, as direct connections may.
    fn note_port(&mut self, port: u16) {
        if self.ports.contains(&port) {
            return;
        }
        if self.ports.len() > STREAM_PORTS {
            self.ports.remove(1);
        }
        self.ports.push(port);
        if self.interface.is_bridged() {
            let addresses = self.routes.own_sockets().addresses.clone();
            self.routes.set_own_sockets(OwnSockets { addresses, ports: self.ports.clone() });
        }
    }

    fn on_relay(&mut self, no: RelayNo, event: RelayEvent) {
        let now = Instant::now();
        let is_shown = self.is_shown(no);
        // What one of a lane that was closed meant to say comes late.
        let Some(task) = self.relays.get_mut(no.0).filter(|task| task.handle.is_some()) else { return };
        match event {
            RelayEvent::Connecting => {
                task.connecting = true;
                if !task.outage_told && is_shown {
                    self.progress.send(Progress::RelayConnecting { relay: task.address.clone() });
                }
            }
            RelayEvent::Opened { remote, other_family, local, is_proxied, data, stream } => {
                (task.local, task.is_proxied) = (local, is_proxied);
                task.mute += 1;
                task.stream = Some(stream);
                self.routes.set_stream(no, Some(data));
                match remote {
                    Some(remote) => self.endpoint.handle_stream_opened(now, no, remote),
                    None => self.endpoint.handle_tunnelled_stream_opened(now, no),
                }
                self.endpoint.handle_relay_family(no, other_family);
                if let Some(local) = local {
                    // What the relay saw behind a proxy is the proxy: nobody can open a connection to this node there.
                    if is_proxied {
                        self.listen_no_more_beside(no);
                    } else {
                        self.listen_beside(no, local.port());
                    }
                    self.note_port(local.port());
                }
            }
            // Given up: the rest of what it said means nothing.
            RelayEvent::Message(_) if task.stream.is_none() => {}
            RelayEvent::Message(message) => {
                task.mute = 0;
                if let Err(error) = self.endpoint.handle_stream_message(now, no, &message) {
                    self.say_outage(no, &error.to_string());
                    self.drop_stream(no, None);
                }
            }
            RelayEvent::Closed { why, ending } => {
                task.connecting = false;
                match ending {
                    Ending::Refused => task.refused = Some(why.clone()),
                    // What it said once is no reason any more that it is not there.
                    Ending::NotReached => task.refused = None,
                    // It may have been said in the stream that is over.
                    Ending::Over => {}
                }
                self.say_outage(no, &why);
                self.drop_stream(no, None);
            }
        }
    }

    /// The address of a relay that is another than its ticket says, where that is so of all of them and none ever accepted this
    /// node: a daemon that was never connected to anything has no reason to go on. (One that was goes on trying, whatever
    /// answers there now.)
    fn other_relay(&self) -> Option<String> {
        let never = !self.was_registered && !self.relays.is_empty();
        let mut used = self.relays.iter().filter(|task| task.handle.is_some());
        let all = used.all(|task| task.stream.is_none() && task.mute >= MUTE_STREAMS);
        self.relays.first().filter(|_| never && all).map(|task| task.address.clone())
    }

    /// Says once per outage that a relay is lost.
    fn say_outage(&mut self, no: RelayNo, why: &str) {
        let is_shown = self.is_shown(no);
        let Some(task) = self.relays.get_mut(no.0) else { return };
        if !std::mem::replace(&mut task.outage_told, true) && is_shown {
            self.progress.send(Progress::RelayLost { relay: task.address.clone(), why: why.to_owned() });
        }
        tracing::debug!(relay = no.0, why, "relay connection closed");
    }

    /// A stream is gone, or to be given up; its task comes back after `pause`.
    fn drop_stream(&mut self, no: RelayNo, pause: Option<Duration>) {
        let Some(task) = self.relays.get(no.0) else { return };
        if let (Some(pause), Some(handle)) = (pause, &task.handle) {
            handle.stay_away(pause);
        }
        // What the relay said last may be worked off after its stream was given up.
        let Some(stream) = self.take_stream(no) else { return };
        stream.give_up();
        self.waiting_said = false;
    }

    /// The open stream of a relay, which nothing goes by any more.
    fn take_stream(&mut self, no: RelayNo) -> Option<RelayStream> {
        let stream = self.relays.get_mut(no.0)?.stream.take()?;
        self.routes.set_stream(no, None);
        self.endpoint.handle_stream_closed(Instant::now(), no);
        self.listen_elsewhere(no);
        Some(stream)
    }

    /// Says goodbye to everybody, and gives everything back.
    async fn leave(mut self) {
        self.progress.send(Progress::Leaving);
        clock::end(&self.state);
        self.manager.stopping();
        self.names.stop();
        self.members.store_met();
        self.endpoint.leave(Instant::now());
        self.drain().await;
        self.lanes.end();
        for relay in &mut self.relays {
            if let Some(handle) = &relay.handle {
                handle.end();
            }
            if let Some(stream) = relay.stream.take() {
                stream.finish();
            }
        }
        // The relay tasks hold the other ends of this channel: it ends when the last of them has.
        let ended = async { while self.relay_events.recv().await.is_some() {} };
        let _ = tokio::time::timeout(GOODBYE, ended).await;
        if let Some(mapper) = self.mapper.take() {
            mapper.end().await;
        }
        if let Some(gives_back) = self.gives_back.take() {
            let _ = gives_back.await;
        }
        if let Some(plane) = self.plane.take() {
            // Joins two threads that were told to stop: a few milliseconds, and nothing else is left to run.
            plane.stop();
        }
        self.names.end().await;
        self.interface.close().await;
        drop(self.control);
        drop(self.lock);
    }
}

fn netlink() -> Result<Arc<Netlink>, DaemonError> {
    let opened = Netlink::open();
    opened.map(Arc::new).map_err(|cause| DaemonError::System { what: "a netlink socket", cause })
}

fn ciphers(choice: CipherChoice) -> CipherSet {
    match choice {
        CipherChoice::Auto => CipherSet::for_this_processor(),
        CipherChoice::Aes => CipherSet::only(Cipher::Aes256Gcm),
        CipherChoice::Chacha => CipherSet::only(Cipher::ChaCha20Poly1305),
    }
}
