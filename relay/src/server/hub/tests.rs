//! Bindings in virtual time (protocol §3.9): the core and what the server keeps, with whoever saw a client's token against them.

use super::*;
use crate::core::forward::Item;
use crate::core::nonce::SLOT;
use crate::server::relayed::{Entrance, Socket};
use proptest::prelude::*;
use shadowmesh_proto::ids::{ChannelId, NetworkId, NodeId};
use shadowmesh_proto::rng::SeededRng;
use shadowmesh_proto::version::{UNSAID, Versions};
use shadowmesh_proto::wire::relayed::BindingTag;

/// Clients ask so often (protocol §7.4).
const ASKED: Duration = Duration::from_secs(25);
/// A binding that was not proven for so long carries nothing.
const UNPROVEN: Duration = Duration::from_secs(300);

/// A hub, two clients that have met, and a third one who wants what they have.
struct World {
    hub: Hub,
    now: Instant,
    socket: Arc<Socket>,
    pair: [Client; 2],
    mallory: Client,
    channel: ChannelId,
    /// So that what is sent to the pair finds somebody.
    receivers: Vec<std::net::UdpSocket>,
    /// The socket of the hub lives in it.
    runtime: tokio::runtime::Runtime,
}

/// What an honest client knows (`shared`, `endpoint/relays.rs`).
struct Client {
    conn: ConnId,
    port: Arc<Port>,
    token: Token,
    at: SocketAddr,
    /// The nonce that it said last, and whether it was BOUND since.
    said: Option<(Nonce, bool)>,
    tag: Option<BindingTag>,
}

impl Client {
    fn new(hub: &Hub, socket: &Arc<Socket>, number: u8, at: SocketAddr) -> Self {
        let (conn, now) = (ConnId(number.into()), Instant::now());
        let entrance = Entrance::new(Arc::clone(socket), at.ip());
        let port = Arc::new(Port::new(now, &Limits::default(), entrance));
        let registration = Registration {
            node: NodeId([number; 32]),
            network: NetworkId([number / 10; 32]),
            instance: 1,
            observed_tcp: SocketAddr::new(at.ip(), 1000),
            version: UNSAID,
        };
        hub.register(conn, &port, registration).unwrap();
        let Some(Item::Control(Control::Registered { stun_token, .. })) = port.pop(now, true, hub.metrics())
        else {
            panic!("not registered")
        };
        Self { conn, port, token: stun_token, at, said: None, tag: None }
    }

    fn heard(&self) -> Vec<Control> {
        let next = || match self.port.pop(Instant::now(), true, &Metrics::default())? {
            Item::Control(body) => Some(body),
            Item::Data(_) => panic!("nobody sends over streams here"),
        };
        std::iter::from_fn(next).collect()
    }

    /// It received `nonce`.
    fn answered(&mut self, hub: &Hub, now: Instant, nonce: Nonce) {
        if self.said != Some((nonce, true)) {
            self.said = Some((nonce, false));
            hub.control(now, self.conn, Control::Bind { nonce, udp: self.at }).unwrap();
        }
        for body in self.heard() {
            if let (Control::Bound { tag }, Some((_, is_heard))) = (body, &mut self.said) {
                (*is_heard, self.tag) = (true, Some(BindingTag::new(tag)));
            }
        }
    }
}

fn loopback() -> std::net::UdpSocket {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let socket = runtime.block_on(async {
            let socket = Arc::new(Socket::new(loopback()).unwrap());
            socket.socket.writable().await.unwrap();
            socket
        });
        let terms = Terms {
            stun_ports: vec![8443],
            heartbeat: Duration::from_secs(15),
            rotation: Duration::from_secs(120),
            mtu: 1500,
            direct: true,
            instance: 7,
            versions: Versions::FIRST,
        };
        let soon = Duration::from_secs(10);
        let patience = Patience { handshake: soon, write: soon, ping: soon, silence: soon };
        let secret = NodeSecret::generate(&mut SeededRng::new(1));
        let rules = Rules { limits: Limits::default(), trusted: Prefixes::default(), patience };
        let hub = Hub::new(secret, rules, terms);
        let receivers: Vec<_> = (0..2).map(|_| loopback()).collect();
        let client = |number: u8, at| Client::new(&hub, &socket, number, at);
        let pair = [(10, &receivers[0]), (11, &receivers[1])]
            .map(|(number, receiver)| client(number, receiver.local_addr().unwrap()));
        let mallory = client(20, "127.0.0.1:9".parse().unwrap());
        let now = Instant::now();
        hub.control(now, pair[0].conn, Control::Connect { peer: None }).unwrap();
        let [Control::Peer { channel, .. }] = pair[0].heard()[..] else { panic!("not met") };
        pair[1].heard();
        Self { hub, now, socket, pair, mallory, channel, receivers, runtime }
    }

    /// With both of the pair bound.
    fn bound() -> Self {
        let mut world = Self::new();
        world.ask(0, |_| ());
        world.ask(1, |_| ());
        assert!(world.passes());
        world
    }

    fn stun(&self, token: &Token, from: SocketAddr) -> Option<Nonce> {
        let door = Door { socket: Arc::clone(&self.socket), remote: from, local: Some(from.ip()) };
        // Asked at the address that streams come to, wherever that was from.
        let door = Door { local: Some([127, 0, 0, 1].into()), ..door };
        self.hub.stun(self.now, token, from, &door).flatten()
    }

    /// A request with the token of one of the pair, from somewhere.
    fn pretend(&self, at: usize, from: SocketAddr) {
        let _ = self.stun(&self.pair[at].token, from);
    }

    /// One of the pair asks; `meanwhile` happens before what it says to the answer is heard.
    fn ask(&mut self, at: usize, meanwhile: impl FnOnce(&Self)) {
        let Client { token, at: from, .. } = self.pair[at];
        let nonce = self.stun(&token, from).expect("the nonce of an address that may be bound");
        meanwhile(self);
        self.pair[at].answered(&self.hub, self.now, nonce);
    }

    /// Mallory has a request sent from `from`, and somebody who reads there tells what came.
    fn mallory_binds(&self, from: SocketAddr) {
        let Some(nonce) = self.stun(&self.mallory.token, from) else { return };
        let _ = self.hub.control(self.now, self.mallory.conn, Control::Bind { nonce, udp: from });
        self.mallory.heard();
    }

    fn passes_from(&self, at: usize) -> bool {
        let Client { at: from, tag: Some(tag), .. } = self.pair[at] else { return false };
        let header = RelayedHeader { tag, channel: self.channel };
        let mut datagram = [&header.to_bytes()[..], b"packet"].concat();
        let forwarded = &self.hub.metrics().forwarded.datagrams;
        let (before, len) = (forwarded.value(), datagram.len());
        self.hub.forward_datagrams(self.now, from, header, &mut datagram, len);
        forwarded.value() > before
    }

    /// Whether datagrams pass between the two, both ways.
    fn passes(&self) -> bool {
        let both = [0, 1].map(|at| self.passes_from(at));
        assert_eq!(both[0], both[1], "both ways or none");
        both[0]
    }

    /// One of the pair has another port, as after its NAT forgot.
    fn rebind(&mut self, at: usize) {
        self.receivers[at] = loopback();
        self.pair[at].at = self.receivers[at].local_addr().unwrap();
    }
}

fn elsewhere(n: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 66], n))
}

#[test]
fn whoever_is_told_bound_is_bound_whatever_strangers_asked_before_it_said_so() {
    let mut world = World::new();
    for at in 0..2 {
        world.ask(at, |world| (1..2000).for_each(|n| world.pretend(at, elsewhere(n))));
    }
    assert!(world.passes());
}

#[test]
fn requests_from_elsewhere_do_not_keep_a_client_from_moving() {
    let mut world = World::bound();
    for _ in 0..5 {
        world.now += ASKED;
        world.rebind(0);
        assert!(!world.passes_from(0), "not bound there yet");
        world.ask(0, |world| (1..2000).for_each(|n| world.pretend(0, elsewhere(n))));
        world.ask(1, |_| ());
        assert!(world.passes());
    }
}

#[test]
fn another_client_at_the_same_address_takes_nothing() {
    let mut world = World::bound();
    let (tags, at) = (world.pair.each_ref().map(|client| client.tag), world.pair[0].at);
    for _ in 0..20 {
        world.mallory_binds(at);
        assert!(world.mallory.port.binding().is_some_and(|binding| binding.udp == at), "it did bind");
        assert!(world.passes());
        world.now += ASKED;
        world.ask(0, |world| world.mallory_binds(at));
        world.ask(1, |_| ());
    }
    assert_eq!(world.pair.each_ref().map(|client| client.tag), tags);
    // Nor when it leaves.
    world.hub.closed(world.mallory.conn);
    assert!(world.passes());
}

#[test]
fn a_binding_lives_as_long_as_it_is_proven_and_not_as_long_as_somebody_asks_from_there() {
    let mut world = World::bound();
    let (began, tags) = (world.now, world.pair.each_ref().map(|client| client.tag));
    for _ in 0..40 {
        world.now += ASKED;
        // The second one proves its address, the first one is not there any more.
        world.ask(1, |_| ());
        world.pretend(0, world.pair[0].at);
        assert_eq!(world.passes(), world.now < began + UNPROVEN, "after {:?}", world.now - began);
    }
    let dropped = &world.hub.metrics().dropped;
    assert!(dropped.datagrams_unbound.value() > 0 && dropped.datagrams_no_receiver.value() > 0);
    // It was only asleep: what it has is as good as before.
    world.ask(0, |_| ());
    assert!(world.passes());
    assert_eq!(world.pair.each_ref().map(|client| client.tag), tags);
}

#[test]
fn asking_each_interval_keeps_a_binding_for_ever_and_says_so_once_a_minute() {
    let mut world = World::bound();
    let binding = world.pair[0].port.binding().unwrap();
    let mut said = 0;
    for _ in 0..144 {
        world.now += ASKED;
        for at in 0..2 {
            let before = world.pair[at].said;
            world.ask(at, |_| ());
            said += usize::from(world.pair[at].said != before);
        }
        assert!(world.passes());
    }
    assert!(Arc::ptr_eq(&binding, &world.pair[0].port.binding().unwrap()));
    assert_eq!(said, 2 * 60, "in an hour");
}

#[test]
fn what_was_not_sent_to_the_address_binds_nothing() {
    let mut world = World::new();
    let Client { conn, token, at, .. } = world.pair[0];
    let nonce = world.stun(&token, at).unwrap();
    let of_mallory = world.stun(&world.mallory.token, at).unwrap();
    for (conn, nonce, udp) in [
        (conn, nonce, elsewhere(1)),
        (conn, of_mallory, at),
        (world.mallory.conn, nonce, at),
        (conn, [0; 8], at),
    ] {
        world.hub.control(world.now, conn, Control::Bind { nonce, udp }).unwrap();
    }
    world.now += 2 * SLOT;
    world.hub.control(world.now, conn, Control::Bind { nonce, udp: at }).unwrap();
    for client in [&world.pair[0], &world.mallory] {
        assert!(client.port.binding().is_none());
        assert!(!client.heard().iter().any(|body| matches!(body, Control::Bound { .. })));
    }
}

#[test]
fn where_else_than_its_stream_a_client_asks_is_answered_without_a_nonce() {
    let world = World::new();
    let Client { token, at, .. } = world.pair[0];
    let other = world.runtime.block_on(async { Arc::new(Socket::new(loopback()).unwrap()) });
    let local = Some([127, 0, 0, 1].into());
    let door = Door { socket: Arc::clone(&world.socket), remote: at, local };
    assert!(world.hub.stun(world.now, &token, at, &door).unwrap().is_some());
    for door in [Door { socket: other, ..door.clone() }, Door { local: Some([127, 0, 0, 9].into()), ..door }]
    {
        assert_eq!(world.hub.stun(world.now, &token, at, &door), Some(None));
    }
}

/// What may happen around two honest clients.
#[derive(Debug, Clone)]
enum Step {
    /// Somebody who saw the token of one asks from somewhere, or pretends to be somewhere: at the first or the second of the pair.
    Pretend {
        at: usize,
        from: u16,
    },
    /// Mallory binds an address, that of one of the pair or another.
    Mallory {
        from: u16,
    },
    /// The NAT of one forgets.
    Rebind {
        at: usize,
    },
    Wait {
        ms: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop_oneof![
        4 => (0usize..2, 0u16..12).prop_map(|(at, from)| Step::Pretend { at, from }),
        3 => (0u16..5).prop_map(|from| Step::Mallory { from }),
        1 => (0usize..2).prop_map(|at| Step::Rebind { at }),
        1 => (0u64..3_000).prop_map(|ms| Step::Wait { ms }),
    ];
    prop::collection::vec(prop::collection::vec(step, 0..12), 1..20)
}

impl World {
    fn whose(&self, from: u16) -> SocketAddr {
        self.pair.get(usize::from(from)).map_or_else(|| elsewhere(from), |client| client.at)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Pretend { at, from } => self.pretend(at, self.whose(from)),
            Step::Mallory { from } => self.mallory_binds(self.whose(from)),
            Step::Rebind { at } => self.rebind(at),
            Step::Wait { ms } => self.now += Duration::from_millis(ms),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever strangers ask, and whatever another client binds: who asks is bound by what it says to the answer, though strangers
    /// are quicker each time; and what is bound stays so, with its tag, until the client itself moves.
    #[test]
    fn no_stranger_keeps_an_honest_client_unbound(rounds in steps()) {
        let mut world = World::bound();
        for steps in rounds {
            let (before, tags) = (world.pair.each_ref().map(|client| client.at), world.pair.each_ref().map(|client| client.tag));
            for step in &steps {
                world.step(step);
                let has_moved = world.pair.each_ref().map(|client| client.at) != before;
                prop_assert!(has_moved || world.passes(), "unbound by {step:?}");
            }
            world.now += ASKED;
            for at in 0..2 {
                let is_still = world.pair[at].at == before[at];
                world.ask(at, |world| {
                    for step in &steps {
                        match *step {
                            Step::Pretend { at, from } => world.pretend(at, world.whose(from)),
                            Step::Mallory { from } => world.mallory_binds(world.whose(from)),
                            Step::Rebind { .. } | Step::Wait { .. } => {}
                        }
                    }
                });
                prop_assert!(!is_still || world.pair[at].tag == tags[at], "another tag for the same address");
            }
            prop_assert!(world.passes(), "unbound after an interval");
        }
    }
}
