//! Two daemons, whole but for the TAP, and a relay in memory of the test: what people see when it works, when the relay is
//! gone for a while, and when it ends.

mod members;
mod names;
mod relays;
mod reload;
mod sessions;
mod watchdog;

use super::*;
use crate::config::{Config as FileConfig, Settings};
use crate::control::client::{ControlError, call};
use crate::control::message::{Request, Response, Wanted};
use crate::control::server::ControlSocket;
use crate::control::status::PathKind;
use crate::daemon::members::Members;
use crate::daemon::progress::Progress;
use crate::device::MemoryPort;
use crate::device::memory::pair;
use crate::names::Places;
use futures_util::{SinkExt, StreamExt};
use shadowmesh_proto::crypto::keys::NodeSecret;
use shadowmesh_proto::ids::{ChannelId, MacAddr, NetworkId, NodeId, RelayId};
use shadowmesh_proto::link::{ServerInput, ServerLink};
use shadowmesh_proto::path::liveness::HEARTBEAT;
use shadowmesh_proto::rng::SeededRng;
use shadowmesh_proto::session::RingLimits;
use shadowmesh_proto::version::SPOKEN;
use shadowmesh_proto::wire::relay::{Control, Forward, GoneReason};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// Long enough for any machine; met by failures only.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a connection of the relay is told to send.
enum Say {
    Control(Control),
    Forward(Vec<u8>),
}

/// A registered client of the relay.
struct Member {
    node: NodeId,
    network: NetworkId,
    instance: u64,
    say: mpsc::UnboundedSender<Say>,
}

impl Member {
    /// Who it is, in which network.
    const fn place(&self) -> (NodeId, NetworkId) {
        (self.node, self.network)
    }
}

/// A relay that introduces everybody of a network and forwards: the least that a daemon can live with.
#[derive(Clone)]
struct Relay {
    secret: Arc<NodeSecret>,
    members: Arc<Mutex<Vec<Member>>>,
    /// Forwards nothing.
    is_mute: Arc<AtomicBool>,
    /// How often it was asked whether it is there.
    pings: Arc<AtomicUsize>,
}

impl Relay {
    /// One that serves, and the ticket for it.
    async fn start(seed: u64) -> (Self, RelayTicket, JoinHandle<()>) {
        let secret = NodeSecret::generate(&mut SeededRng::new(seed));
        let key = RelayId(secret.public().0);
        let (members, pings, is_mute) = Default::default();
        let relay = Self { secret: Arc::new(secret), members, pings, is_mute };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![listener.local_addr().unwrap().to_string()];
        let serving = relay.run(listener);
        (relay, RelayTicket { key, addresses, expires: None }, serving)
    }

    fn channel(a: &NodeId, b: &NodeId) -> ChannelId {
        let word = |node: &NodeId| u32::from_be_bytes([node.0[0], node.0[1], node.0[2], node.0[3]]);
        ChannelId((word(a) ^ word(b)).max(1))
    }

    fn introduce(&self, own: (NodeId, NetworkId)) {
        let members = self.members.lock().unwrap();
        let new = members.iter().find(|member| member.place() == own).unwrap();
        for other in members.iter().filter(|member| member.network == own.1 && member.node != own.0) {
            let channel = Self::channel(&new.node, &other.node);
            for (to, about) in [(new, other), (other, new)] {
                let peer = Control::Peer { peer: about.node, channel, instance: about.instance };
                let _ = to.say.send(Say::Control(peer));
            }
        }
    }

    fn others(&self, own: (NodeId, NetworkId), tell: impl Fn(&Member)) {
        let members = self.members.lock().unwrap();
        members.iter().filter(|member| member.network == own.1 && member.node != own.0).for_each(tell);
    }

    async fn serve(self, stream: TcpStream) {
        let Ok(ws) = accept_async(stream).await else { return };
        let (mut sink, mut stream) = ws.split();
        let (mut link, mut own, mut rng) = (ServerLink::new(SPOKEN), None, SystemRng);
        let (say, mut said) = mpsc::unbounded_channel();
        loop {
            let reply = tokio::select! {
                Some(say) = said.recv() => match say {
                    Say::Control(body) => link.seal(&body).unwrap(),
                    Say::Forward(message) => message,
                },
                message = stream.next() => {
                    let Some(Ok(message)) = message else { break };
                    let Message::Binary(message) = message else { continue };
                    match link.handle(&self.secret, &message, &mut rng).unwrap() {
                        ServerInput::Send(reply) => reply,
                        ServerInput::Register { node, network, instance, .. } => {
                            own = Some((node, network));
                            let member = Member { node, network, instance, say: say.clone() };
                            self.members.lock().unwrap().push(member);
                            link.seal(&Control::Registered {
                                observed_tcp: "192.0.2.1:1".parse().unwrap(),
                                stun_token: [0; 16],
                                stun_ports: vec![],
                                heartbeat_ms: 15_000,
                                instance: 1,
                                direct: None,
                                versions: None,
                                version: None,
                            }).unwrap()
                        }
                        ServerInput::Control(Control::Connect { .. }) => {
                            self.introduce(own.unwrap());
                            continue;
                        }
                        ServerInput::Control(Control::Ping { id }) => {
                            self.pings.fetch_add(1, Relaxed);
                            link.seal(&Control::Pong { id }).unwrap()
                        }
                        ServerInput::Control(Control::Leave) => break,
                        ServerInput::Control(_) | ServerInput::Ignored => continue,
                        ServerInput::Forward => {
                            if self.is_mute.load(Relaxed) {
                                continue;
                            }
                            let (own, channel) = (own.unwrap(), Forward::parse(&message).unwrap().channel);
                            self.others(own, |member| {
                                if Self::channel(&own.0, &member.node) == channel {
                                    let _ = member.say.send(Say::Forward(message.to_vec()));
                                }
                            });
                            continue;
                        }
                    }
                }
            };
            if sink.send(Message::binary(reply)).await.is_err() {
                break;
            }
        }
        if let Some(own) = own {
            self.members.lock().unwrap().retain(|member| member.place() != own);
            self.others(own, |member| {
                let (peer, channel) = (own.0, Self::channel(&own.0, &member.node));
                let gone = Control::PeerGone { peer, channel, reason: GoneReason::Left };
                let _ = member.say.send(Say::Control(gone));
            });
        }
        let _ = sink.close().await;
    }

    /// Serves `listener` until aborted, with all its connections.
    fn run(&self, listener: TcpListener) -> JoinHandle<()> {
        let relay = self.clone();
        spawn_local(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn_local(relay.clone().serve(stream));
            }
        })
    }
}

/// What a daemon begins with in a network with certificates.
type MembersOf = Box<dyn FnOnce(&StateDir, NodeId) -> Members>;

/// A running daemon.
struct Daemon {
    mac: MacAddr,
    wire: MemoryPort,
    socket: PathBuf,
    progress: mpsc::UnboundedReceiver<Progress>,
    task: JoinHandle<Result<(), DaemonError>>,
    home: tempfile::TempDir,
}

impl Daemon {
    async fn start(name: &str, network: NetworkState) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), name, network, None).await
    }

    /// In a directory that may hold something, with members in a network that has some.
    async fn start_in(
        home: tempfile::TempDir,
        name: &str,
        network: NetworkState,
        members: Option<MembersOf>,
    ) -> Self {
        Self::start_as(home, name, network, FileConfig::default(), members).await
    }

    /// The same with settings of a file.
    async fn start_as(
        home: tempfile::TempDir,
        name: &str,
        network: NetworkState,
        config: FileConfig,
        members: Option<MembersOf>,
    ) -> Self {
        let socket = home.path().join("control");
        let (made, wire, progress) = made(&home, name, network, config, members).await;
        let mac = addresses::mac(&made.endpoint.id());
        Self { mac, wire, socket, progress, task: spawn_local(made.run()), home }
    }

    async fn status(&self) -> Box<crate::control::status::Status> {
        let status = within("an answer", call(&self.socket, &Request::Status)).await.unwrap();
        let Response::Status(status) = status else { panic!("{status:?}") };
        status
    }

    /// The path to its only peer.
    async fn path(&self) -> Option<PathKind> {
        self.status().await.peers.first()?.path.as_ref().map(|path| path.kind)
    }

    /// Waits until it says what `is_it` says yes to.
    async fn says(&mut self, what: &str, is_it: impl Fn(&Progress) -> bool) {
        let said = async {
            while let Some(progress) = self.progress.recv().await {
                if is_it(&progress) {
                    return;
                }
            }
            panic!("it ended without saying {what}");
        };
        within(what, said).await;
    }

    async fn connected(&mut self) {
        self.says("connected", |progress| matches!(progress, Progress::PeerConnected { .. })).await;
    }

    fn send(&self, to: &Self, n: u32) {
        let frame = [&to.mac.0[..], &self.mac.0, &[0x88, 0xb5], &n.to_be_bytes(), &[7; 100]].concat();
        self.wire.send(&frame).unwrap();
    }

    /// The numbers of the next `count` frames of our own.
    async fn numbers(&self, count: usize) -> Vec<u32> {
        let mut numbers = Vec::new();
        let all = async {
            while numbers.len() < count {
                while let Some(frame) = self.wire.receive().unwrap() {
                    assert_eq!(frame[12..14], [0x88, 0xb5]);
                    numbers.push(u32::from_be_bytes(frame[14..18].try_into().unwrap()));
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        within("all frames", all).await;
        numbers
    }
}

/// What people are told to type here.
const RESTART: &str = "sudo shadowmesh down && sudo shadowmesh up";

/// A relay that is not named any more is left so soon here.
const LEAVE_AFTER: Duration = Duration::from_secs(2);

/// A loop that does not run yet, the other end of its device, and what it will say.
async fn made(
    home: &tempfile::TempDir,
    name: &str,
    network: NetworkState,
    config: FileConfig,
    members: Option<MembersOf>,
) -> (EventLoop, MemoryPort, mpsc::UnboundedReceiver<Progress>) {
    let (options, progress) = options(home, name, network, config, members);
    let node = options.node_secret.public();
    let own = OwnAddresses::new(&options.settings, &options.network, node, options.members.as_ref());
    let (wire, port) = pair(&"mem0".parse().unwrap(), 10_000).unwrap();
    let made = EventLoop::start_on(options, own, Interface::memory(port), netlink().unwrap()).await;
    let mut made = made.unwrap();
    made.lanes.leave_after = LEAVE_AFTER;
    (made, wire, progress)
}

/// Those of a daemon with its state and its control socket in `home`, and what it will say.
fn options(
    home: &tempfile::TempDir,
    name: &str,
    network: NetworkState,
    config: FileConfig,
    members: Option<MembersOf>,
) -> (DaemonOptions, mpsc::UnboundedReceiver<Progress>) {
    let state = StateDir::open(home.path().join("state")).unwrap();
    let node_secret = state.load_or_create_node_key(&mut SystemRng).unwrap();
    let members = members.map(|members| members(&state, node_secret.public()));
    // The router of whoever runs this test is none of its business.
    let config = FileConfig { port_mapping: Some(false), ..config };
    let (sender, progress) = ProgressSender::channel();
    let options = DaemonOptions {
        lock: state.lock().unwrap(),
        state,
        control: ControlSocket::bind(&home.path().join("control")).unwrap(),
        node_secret,
        relays: network.relays.clone(),
        network,
        settings: Settings::new(&config, name),
        config_file: None,
        hostname: name.to_owned(),
        restart: RESTART.to_owned(),
        rules: None,
        members,
        ring: RingLimits::default(),
        names: Places::under(home.path()),
        manager: Manager::none(),
        progress: sender,
    };
    (options, progress)
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// A relay of the test, and two daemons that it introduced to each other.
struct Scene {
    relay: Relay,
    address: SocketAddr,
    serving: JoinHandle<()>,
    a: Daemon,
    b: Daemon,
}

impl Scene {
    async fn new() -> Self {
        let (relay, ticket, serving) = Relay::start(1).await;
        let address = ticket.addresses[0].parse().unwrap();
        let network = NetworkState::create("test", vec![ticket], &mut SystemRng);
        let mut a = Daemon::start("a", network.clone()).await;
        let mut b = Daemon::start("b", network).await;
        a.connected().await;
        b.connected().await;
        Self { relay, address, serving, a, b }
    }

    /// The relay goes without a word.
    async fn lose_relay(&mut self) {
        self.serving.abort();
        self.a.says("lost", |progress| matches!(progress, Progress::RelayLost { .. })).await;
        self.relay.members.lock().unwrap().clear();
    }

    /// It comes back.
    async fn restart_relay(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving = self.relay.run(listener);
    }

    fn send(&self, numbers: std::ops::Range<u32>) {
        for n in numbers {
            self.a.send(&self.b, n);
        }
    }
}

/// Runs in a network namespace where `setup` was done, after the loopback interface was set up.
fn in_network(setup: &str, scenario: impl Future<Output = ()>) {
    crate::net::namespace::sh(&format!("ip link set lo up\n{setup}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(LocalSet::new().run_until(scenario));
}

#[test]
fn two_daemons_from_the_first_word_to_the_last() {
    // Without an address that peers could be told, there is the relay and nothing else.
    crate::net::namespace::isolated(|| in_network("", by_relay()));
}

#[test]
fn two_daemons_that_see_each_other_need_the_relay_no_more() {
    crate::net::namespace::isolated(|| {
        in_network(
            "ip link add v0 type veth peer name v1; ip link set v1 up; ip link set v0 up
                    ip addr add 192.0.2.1/24 dev v0",
            directly(),
        );
    });
}

#[test]
fn a_clock_that_jumps_makes_the_daemon_look_around() {
    crate::net::namespace::isolated(|| in_network("", jumping()));
}

async fn jumping() {
    let (relay, ticket, _serving) = Relay::start(1).await;
    let network = NetworkState::create("test", vec![ticket], &mut SystemRng);
    let home = tempfile::tempdir().unwrap();
    let (made, _wire, _progress) = made(&home, "a", network, FileConfig::default(), None).await;
    // Its heartbeats are further apart than the jumps, and the second of those comes after the first PING.
    let jumps = made.clock_jumps.as_ref().expect("jumps are watched");
    jumps.jump_in(Duration::from_secs(3));
    let _task = spawn_local(made.run());
    let asked = |times| {
        let pings = relay.pings.clone();
        async move {
            while pings.load(Relaxed) < times {
                sleep(Duration::from_millis(5)).await;
            }
        }
    };
    within("the first question", asked(1)).await;
    let began = Instant::now();
    within("the question after the jump", asked(2)).await;
    assert!(began.elapsed() < HEARTBEAT / 2, "{:?}: that was a heartbeat", began.elapsed());
}

#[test]
fn what_comes_without_end_does_not_keep_a_packet_out() {
    crate::net::namespace::isolated(|| in_network("", crowded()));
}

async fn crowded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let key = RelayId(NodeSecret::generate(&mut SeededRng::new(1)).public().0);
    let addresses = vec![listener.local_addr().unwrap().to_string()];
    let ticket = RelayTicket { key, addresses, expires: None };
    let network = NetworkState::create("test", vec![ticket], &mut SystemRng);
    let home = tempfile::tempdir().unwrap();
    let (mut made, _wire, _progress) = made(&home, "a", network, FileConfig::default(), None).await;
    // What the threads would say, and cannot be made to say without end: acknowledgements that are due, and one datagram.
    let (say, facts) = mpsc::channel(100_000);
    let (arrive, datagrams) = mpsc::channel(1);
    (made.output.facts, made.output.datagrams) = (facts, datagrams);
    for _ in 0..100_000 {
        say.try_send(Fact::KeyUsedUp(PeerSlot(0))).unwrap();
    }
    for deadline in [None, Some(Deadline::new(Instant::now(), "it is always over"))] {
        for _ in 0..10 {
            arrive.try_send(Datagram { from: "192.0.2.1:1".parse().unwrap(), bytes: vec![] }).unwrap();
            let mut others = 0;
            while !matches!(within("an input", made.wait(deadline)).await, Input::Datagram(_)) {
                others += 1;
                assert!(others < 2 * turns::PASSED_OVER, "{others} others came first");
            }
        }
    }
}

#[test]
fn rules_count_from_one_reload_to_the_next() {
    crate::net::namespace::isolated(|| in_network("", under_rules()));
}

#[test]
fn a_start_that_fails_leaves_no_address_on_the_bridge() {
    let setup = "ip link add br0 type bridge; ip link set br0 up; ip address add 198.51.100.1/24 dev br0";
    crate::net::namespace::isolated(|| in_network(setup, starved()));
}

/// Starts with one file more that may be opened each time, until that is enough.
async fn starved() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let addresses = || crate::net::namespace::sh("ip -oneline address show dev br0 scope global");
    let (before, limits) = (addresses(), getrlimit(Resource::Nofile));
    let network = NetworkState::create("test", vec![], &mut SystemRng);
    let (mut failed, mut most) = (Vec::new(), 0);
    let running = loop {
        let home = tempfile::tempdir().unwrap();
        let device = format!("try{}", failed.len()).parse().ok();
        let config = FileConfig { bridge: "br0".parse().ok(), device, ..FileConfig::default() };
        let (options, _progress) = options(&home, "a", network.clone(), config, None);
        let open = u64::try_from(std::fs::read_dir("/proc/self/fd").unwrap().count()).unwrap();
        most = most.max(open) + 1;
        let mut tight = limits;
        tight.current = Some(most);
        setrlimit(Resource::Nofile, tight).unwrap();
        let started = EventLoop::start(options).await;
        setrlimit(Resource::Nofile, limits).unwrap();
        match started {
            Ok(running) => break running,
            Err(error) => failed.push(error.to_string()),
        }
        assert_eq!(addresses(), before, "{failed:?}");
        assert!(failed.len() < 100, "{failed:?}");
    };
    let behind = ["the threads of the data plane", "to watch its network"];
    let is_behind = |what: &str| failed.iter().any(|error| error.contains(what));
    assert!(behind.into_iter().all(is_behind), "what comes after the addresses failed: {failed:?}");
    assert_ne!(addresses(), before);
    running.leave().await;
    assert_eq!(addresses(), before);
}

async fn directly() {
    let mut scene = Scene::new().await;
    let direct = async {
        while scene.a.path().await != Some(PathKind::DirectUdp)
            || scene.b.path().await != Some(PathKind::DirectUdp)
        {
            sleep(Duration::from_millis(5)).await;
        }
    };
    within("both to be direct", direct).await;
    scene.send(0..500);
    assert_eq!(scene.b.numbers(500).await, (0..500).collect::<Vec<_>>());

    scene.lose_relay().await;
    scene.send(500..600);
    assert_eq!(scene.b.numbers(100).await, (500..600).collect::<Vec<_>>());
    scene.restart_relay().await;
    let is_back = |progress: &Progress| matches!(progress, Progress::RelayConnected { .. });
    scene.a.says("that the relay is back", is_back).await;
    scene.send(600..700);
    assert_eq!(scene.b.numbers(100).await, (600..700).collect::<Vec<_>>());

    let status = scene.a.status().await;
    let peer = &status.peers[0];
    let path = peer.path.as_ref().unwrap();
    assert_eq!((path.kind, path.remote.starts_with("192.0.2.1:")), (PathKind::DirectUdp, true));
    assert!(peer.paths_agree, "{peer:?}");
    assert_eq!((peer.switches, peer.lost, peer.resent), (1, 0, 0), "{peer:?}");
    let echo = within("an echo", call(&scene.a.socket, &Request::Ping { peer: "b".into() })).await.unwrap();
    let Response::Echo(echo) = echo else { panic!("{echo:?}") };
    assert_eq!(echo.remote.as_ref(), Some(&path.remote));

    // A planned move, there and back, under traffic; and one that cannot be.
    let socket = scene.a.socket.clone();
    let ask = |wanted, timeout_ms| {
        let socket = socket.clone();
        async move {
            let request = Request::Path { peer: "b".into(), wanted, timeout_ms };
            within("an answer", call(&socket, &request)).await
        }
    };
    for (wanted, kind, first) in
        [(Wanted::Relay, PathKind::RelayWs, 700), (Wanted::Direct, PathKind::DirectUdp, 800)]
    {
        scene.send(first..first + 50);
        let moved = ask(wanted, 5_000).await;
        scene.send(first + 50..first + 100);
        let Ok(Response::Path(moved)) = moved else { panic!("{moved:?}") };
        assert_eq!((moved.kind, moved.peer_path), (Some(kind), Some(kind)));
        assert_eq!(scene.b.numbers(100).await, (first..first + 100).collect::<Vec<_>>());
    }
    // Nothing was tried by TCP before somebody asked for it.
    let Ok(Response::Path(moved)) = ask(Wanted::DirectTcp, 5_000).await else { panic!("no direct TCP") };
    assert_eq!((moved.kind, moved.peer_path), (Some(PathKind::DirectTcp), Some(PathKind::DirectTcp)));
    let Ok(Response::Path(_)) = ask(Wanted::Direct, 5_000).await else { panic!("and back") };
    let refused = ask(Wanted::RelayUdp, 200).await;
    let Err(ControlError::Refused { sentence, .. }) = refused else { panic!("{refused:?}") };
    assert!(sentence.contains("no such path to b is proven"), "{sentence}");
    let peer = scene.a.status().await.peers.swap_remove(0);
    assert_eq!((peer.switches, peer.wanted), (5, Wanted::Direct));
    let switch = peer.last_switch.as_ref().unwrap();
    assert_eq!((switch.from, switch.to), (PathKind::DirectTcp, PathKind::DirectUdp));
    assert_eq!(switch.reason, "a better path was proven");
    assert_eq!((switch.resent, switch.duplicates, switch.reordered, switch.lost), (0, 0, 0, 0), "{switch:?}");

    // Whichever is best is waited for as well.
    let Ok(Response::Path(_)) = ask(Wanted::Relay, 5_000).await else { panic!("no move to the relay") };
    let Ok(Response::Path(moved)) = ask(Wanted::Auto, 8_000).await else { panic!("no move back") };
    let direct = Some(PathKind::DirectUdp);
    assert_eq!((moved.wanted, moved.kind, moved.peer_path), (Wanted::Auto, direct, direct));
}

async fn by_relay() {
    let mut scene = Scene::new().await;
    // Both ways, in order, nothing twice.
    let (a, b) = (&scene.a, &scene.b);
    for n in 0..500 {
        a.send(b, n);
        b.send(a, n);
    }
    let all: Vec<u32> = (0..500).collect();
    assert_eq!(b.numbers(500).await, all);
    assert_eq!(a.numbers(500).await, all);

    // The relay goes without a word and comes back; what was sent meanwhile arrives.
    scene.lose_relay().await;
    scene.send(500..600);
    scene.restart_relay().await;
    scene.send(600..700);
    scene.a.connected().await;
    scene.send(700..800);
    assert_eq!(scene.b.numbers(300).await, (500..800).collect::<Vec<_>>());

    let status = scene.a.status().await;
    assert_eq!(status.peers.len(), 1);
    assert_eq!(status.peers[0].name, "b");
    assert_eq!((status.peers[0].tx_frames, status.peers[0].rx_frames), (800, 500));
    let Scene { mut a, mut b, serving, .. } = scene;
    let echo = within("an echo", call(&a.socket, &Request::Ping { peer: "b".into() })).await.unwrap();
    assert!(matches!(echo, Response::Echo(_)), "{echo:?}");

    // One leaves; the other notices at once, and ends with a sentence when its device goes.
    let began = Instant::now();
    let leaving = within("an answer", call(&a.socket, &Request::Down)).await.unwrap();
    assert!(matches!(leaving, Response::Leaving), "{leaving:?}");
    within("the end of a", &mut a.task).await.unwrap().unwrap();
    assert!(matches!(a.wire.send(&[0; 60]), Err(DeviceFault::Gone)), "its device is gone");
    assert!(!a.socket.exists());
    b.says("lost", |progress| matches!(progress, Progress::PeerLost { .. })).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let Daemon { wire, task, socket, .. } = b;
    drop(wire);
    let ended = within("the end of b", task).await.unwrap();
    assert!(matches!(ended, Err(DaemonError::DeviceLost { fault: DeviceFault::Gone, .. })), "{ended:?}");
    assert!(!socket.exists());
    serving.abort();
}

async fn under_rules() {
    let scene = Scene::new().await;
    let b = &scene.b;
    let file = b.home.path().join("office rules");
    let config = FileConfig { rules: file.to_str().unwrap().parse().ok(), ..FileConfig::default() };
    let state = StateDir::open(b.home.path().join("state")).unwrap();
    let reload = || async { within("an answer", call(&b.socket, &Request::Reload)).await };
    let reloads = |text: String| {
        std::fs::write(&file, text).unwrap();
        reload()
    };
    let denied = |count: u64| async move {
        let is_counted = async {
            loop {
                let status = b.status().await;
                if status.dropped.get("access_not_allowed") == Some(&count) {
                    assert_eq!(status.peers[0].rx_dropped, count);
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        within("frames to be denied", is_counted).await;
    };
    let Ok(Response::Reloaded { rules: None, .. }) = reload().await else { panic!("no rules were set") };
    scene.send(0..10);
    assert_eq!(b.numbers(10).await, (0..10).collect::<Vec<_>>());

    state.save_config(&config).unwrap();
    let Ok(Response::Reloaded { rules: Some(rules), .. }) = reloads("allow any -> any ip\n".into()).await
    else {
        panic!("rules were set")
    };
    assert_eq!((rules.count, rules.file.as_str(), &rules.error), (1, file.to_str().unwrap(), &None));
    scene.send(10..20);
    denied(10).await;

    // A fault opens nothing, and is told whenever somebody asks.
    let refused = reloads("allow any -> any\nallow any -> tag:x\n".into()).await;
    let Err(ControlError::Refused { sentence, .. }) = refused else { panic!("{refused:?}") };
    assert!(sentence.contains("office rules:2:14: ") && sentence.ends_with("stay in force"), "{sentence}");
    let error = b.status().await.rules.unwrap().error.unwrap();
    assert!(sentence.starts_with(&error), "{error}");
    scene.send(20..30);
    denied(20).await;

    let a = scene.a.status().await.node.id;
    let text = format!("allow id:{} -> any ethertype 0x88b5", &a[..12]);
    let Ok(Response::Reloaded { rules: Some(rules), .. }) = reloads(text).await else { panic!("new rules") };
    assert_eq!((rules.count, rules.error), (1, None));
    scene.send(30..40);
    assert_eq!(b.numbers(10).await, (30..40).collect::<Vec<_>>(), "and none of those that were denied");
    assert_eq!(b.status().await.rules.unwrap().error, None);

    state.save_config(&FileConfig::default()).unwrap();
    reloads("deny any -> any".into()).await.unwrap();
    assert_eq!(b.status().await.rules, None);
    scene.send(40..50);
    assert_eq!(b.numbers(10).await, (40..50).collect::<Vec<_>>());
    assert_eq!(scene.a.status().await.rules, None, "rules are each node's own");
}
