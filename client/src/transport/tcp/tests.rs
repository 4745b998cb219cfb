//! Connections between two nodes of one process, and what strangers get.

use super::link::KEPT_WITHIN;
use super::*;
use crate::device::MemoryPort;
use crate::device::memory::pair;
use crate::net::Netlink;
use crate::net::namespace::{block_on, isolated, sh};
use crate::plane::{Plane, PlaneOutput, Snapshot};
use crate::switch::Directory;
use crate::transport::udp::DatagramSocket;
use shadowmesh_proto::endpoint::event::{TCP_TRY, Via};
use shadowmesh_proto::ids::{MacAddr, ReceiverIndex};
use shadowmesh_proto::session::{ChunkPool, RingLimits};
use shadowmesh_proto::wire::header::{Header, PacketType};
use shadowmesh_proto::wire::relay::{DIRECT_CHANNEL, ForwardBuilder, MAX_MESSAGE};
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

const PEER: PeerSlot = PeerSlot(3);
/// Long enough for any machine; met by failures only.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

struct Node {
    tcp: TcpTransport,
    events: mpsc::Receiver<TcpEvent>,
    output: PlaneOutput,
    port: u16,
    _plane: Plane,
    _wire: MemoryPort,
}

impl Node {
    /// A node that listens.
    fn new() -> Self {
        let (wire, device) = pair(&"mem0".parse().unwrap(), 16).unwrap();
        let snapshot = Snapshot {
            directory: Arc::new(Directory::new(MacAddr([2; 6]))),
            peers: vec![],
            streams: vec![],
            links: vec![],
            bindings: vec![],
            stun: [].into(),
            access: None,
            own: Arc::default(),
        };
        let (socket, pool) = (DatagramSocket::bind().unwrap(), ChunkPool::new(1 << 20));
        let (plane, output) =
            Plane::start(device.into_device(), socket, snapshot, pool, RingLimits::default()).unwrap();
        let outside = Outside::new(Arc::new(Netlink::open().unwrap()), 0);
        let (mut tcp, events) = TcpTransport::new(outside, plane.messages(), plane.outbound_waker());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        tcp.listen(port).unwrap();
        Self { tcp, events, output, port, _plane: plane, _wire: wire }
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    async fn event(&mut self) -> TcpEvent {
        soon("an event", self.events.recv()).await.expect("the transport lives")
    }

    /// Takes the connection that comes next.
    async fn opened(&mut self) -> (TcpLink, Option<PeerSlot>, StreamHandle) {
        match self.event().await {
            TcpEvent::Opened(opened) => {
                assert!(opened.local.is_loopback(), "{opened:?}");
                let taken = (opened.link, opened.peer, opened.data.clone());
                assert!(self.tcp.insert(opened));
                taken
            }
            other @ (TcpEvent::Message { .. } | TcpEvent::Closed { .. }) => panic!("{other:?}"),
        }
    }

    async fn closed(&mut self) -> TcpLink {
        match self.event().await {
            TcpEvent::Closed { link } => link,
            other @ (TcpEvent::Opened(_) | TcpEvent::Message { .. }) => panic!("{other:?}"),
        }
    }

    async fn message(&mut self) -> Bytes {
        match self.event().await {
            TcpEvent::Message { message, .. } => message,
            other @ (TcpEvent::Opened(_) | TcpEvent::Closed { .. }) => panic!("{other:?}"),
        }
    }
}

/// A message with one control packet of `len` bytes.
fn message(len: usize) -> Vec<u8> {
    let header = Header { kind: PacketType::Control, receiver: ReceiverIndex(7), counter: 1 };
    let mut packet = header.to_bytes().to_vec();
    packet.resize(len, 0);
    let mut builder = ForwardBuilder::new(DIRECT_CHANNEL, Vec::new());
    assert!(builder.push(&packet));
    builder.finish()
}

async fn say(stream: &mut TcpStream, message: &[u8]) {
    stream.write_u32(message.len().try_into().unwrap()).await.unwrap();
    stream.write_all(message).await.unwrap();
}

/// Two nodes with one connection between them: the first opened it.
async fn connected() -> (Node, Node, [TcpLink; 2], [StreamHandle; 2]) {
    let (mut a, mut b) = (Node::new(), Node::new());
    a.tcp.open(PEER, vec![b.address()]);
    let (link_a, peer, data_a) = a.opened().await;
    assert_eq!((peer, link_a.remote), (Some(PEER), b.address()));
    let (link_b, peer, data_b) = b.opened().await;
    assert_eq!((peer, link_b.remote), (None, a.address()), "from the port on which it listens");
    (a, b, [link_a, link_b], [data_a, data_b])
}

#[tokio::test]
async fn messages_pass_whole_both_ways_to_the_loop_first_and_to_the_plane_once_kept() {
    let (mut a, mut b, [link_a, link_b], [data_a, _]) = connected().await;
    a.tcp.send(link_a, message(1300));
    b.tcp.send(link_b, message(100));
    assert_eq!(b.message().await, message(1300));
    assert_eq!(a.message().await, message(100));
    a.tcp.keep(PEER, link_a);
    b.tcp.keep(PEER, link_b);
    for len in [100, 60_000, 20] {
        data_a.push(message(len));
        let packet = soon("a packet", b.output.packets.recv()).await.unwrap();
        assert_eq!((packet.via, packet.packet.len()), (Via::Tcp(link_b), len));
    }
    // A clean end says what was said before it.
    a.tcp.send(link_a, message(77));
    a.tcp.links.clear();
    let packet = soon("the last packet", b.output.packets.recv()).await.unwrap();
    assert_eq!(packet.packet.len(), 77);
    assert_eq!((a.closed().await, b.closed().await), (link_a, link_b));
}

#[tokio::test]
async fn ports_are_free_at_once_when_a_connection_is_given_up() {
    let (mut a, mut b, [link_a, link_b], _) = connected().await;
    a.tcp.keep(PEER, link_a);
    b.tcp.keep(PEER, link_b);
    for _ in 0..5 {
        let (link, from) =
            (a.tcp.links.keys().copied().next().unwrap(), b.tcp.links.keys().copied().next().unwrap());
        a.tcp.close(link, true);
        assert_eq!((a.closed().await, b.closed().await), (link, from));
        b.tcp.close(from, true);
        // Between the same two ports.
        a.tcp.open(PEER, vec![b.address()]);
        let ((again, ..), (_, _, _)) = (a.opened().await, b.opened().await);
        assert_ne!(again, link);
    }
}

#[tokio::test]
async fn both_that_open_at_once_get_one_connection() {
    for _ in 0..20 {
        let (mut a, mut b) = (Node::new(), Node::new());
        a.tcp.open(PEER, vec![b.address()]);
        b.tcp.open(PEER, vec![a.address()]);
        let ((link_a, ..), (link_b, ..)) = (a.opened().await, b.opened().await);
        assert_eq!((link_a.remote, link_b.remote), (b.address(), a.address()));
        a.tcp.keep(PEER, link_a);
        b.tcp.keep(PEER, link_b);
        a.tcp.send(link_a, message(99));
        let packet = soon("a packet", b.output.packets.recv()).await.unwrap();
        assert_eq!(packet.via, Via::Tcp(link_b));
        assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err(), "one each");
    }
}

#[tokio::test]
async fn who_is_refused_tries_again() {
    let (mut a, mut b) = (Node::new(), Node::new());
    b.tcp.listening = None;
    // The task that listened is gone once its port can be bound by somebody who does not share it.
    soon("the port to be free", async {
        while std::net::TcpListener::bind(b.address()).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    a.tcp.open(PEER, vec![b.address()]);
    let refused = timeout(Duration::from_millis(300), a.events.recv()).await;
    assert!(refused.is_err(), "{refused:?}");
    b.tcp.listen(b.port).unwrap();
    assert_eq!(a.opened().await.1, Some(PEER));
}

#[tokio::test]
async fn a_connection_that_nobody_keeps_ends_in_time() {
    let began = Instant::now();
    let (mut a, mut b, links, _) = connected().await;
    assert_eq!([a.closed().await, b.closed().await], links);
    assert!(began.elapsed() >= KEPT_WITHIN);
}

#[tokio::test]
async fn strangers_who_break_the_rules_are_sent_away_at_once() {
    let mut node = Node::new();
    let oversized = u32::try_from(MAX_MESSAGE + 1).unwrap().to_be_bytes();
    let unknown_and_large = 4000_u32.to_be_bytes();
    let control = [&5_u32.to_be_bytes()[..], &[3, 0, 0, 0, 0]].concat();
    for bytes in
        [&oversized[..], &unknown_and_large, &0_u32.to_be_bytes(), &control, b"GET / HTTP/1.1\r\n\r\n"]
    {
        let began = Instant::now();
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        let (link, peer, _) = node.opened().await;
        assert_eq!(peer, None);
        stream.write_all(bytes).await.unwrap();
        assert_eq!(node.closed().await, link);
        assert!(began.elapsed() < KEPT_WITHIN, "{bytes:?}");
        let mut answer = Vec::new();
        // Nothing is ever said to them; what they sent and nobody read may make it a reset.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{answer:?}");
        node.tcp.close(link, true);
    }
    // Too many messages before anybody knows who it is.
    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    let (link, ..) = node.opened().await;
    for _ in 0..16 {
        say(&mut stream, &message(100)).await;
        node.message().await;
    }
    say(&mut stream, &message(100)).await;
    assert_eq!(node.closed().await, link);
}

async fn connect_from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    soon("a connection", socket.connect(to)).await.unwrap()
}

/// Whether the node ends a connection from there without a word to anybody.
async fn is_sent_away(node: &mut Node, source: [u8; 4]) -> bool {
    let mut stream = connect_from(source, node.address()).await;
    let mut byte = [0; 1];
    tokio::select! {
        end = stream.read(&mut byte) => !matches!(end, Ok(1)),
        event = node.event() => {
            let TcpEvent::Opened(opened) = event else { panic!("{event:?}") };
            opened.refuse();
            false
        }
    }
}

#[tokio::test]
async fn few_strangers_are_borne_at_a_time_and_fewer_of_one_address() {
    let mut node = Node::new();
    let mut streams = Vec::new();
    let (each, all) = (u8::try_from(accept::PER_ADDRESS).unwrap(), u8::try_from(accept::STRANGERS).unwrap());
    for n in 0..all / each {
        for _ in 0..each {
            streams.push(connect_from([127, 0, 0, n + 1], node.address()).await);
            node.opened().await;
        }
        if n == 0 {
            assert!(is_sent_away(&mut node, [127, 0, 0, 1]).await, "too many of one address");
        }
    }
    assert!(is_sent_away(&mut node, [127, 0, 1, 1]).await, "too many in all");
    // Their time is over some seconds later, and others are heard again.
    for _ in 0..all {
        let link = node.closed().await;
        node.tcp.close(link, true);
    }
    assert!(!is_sent_away(&mut node, [127, 0, 1, 1]).await);
}

#[tokio::test]
async fn who_has_many_connections_leaves_one_to_who_has_none() {
    let mut node = Node::new();
    let mut number = 0;
    let mut opened = |peer: Option<u32>| {
        number += 1;
        let (handle, is_ended) = LinkHandle::of_none();
        let (data, queue) = crate::plane::stream_queue(Waker::new().unwrap());
        let remote = ([192, 0, 2, 1], 5).into();
        let link = TcpLink { number, remote };
        let opened = Opened { link, peer: peer.map(PeerSlot), local: [192, 0, 2, 2].into(), data, handle };
        (opened, link, is_ended, queue)
    };
    // Three for each of 86, but for the last, who has one. The second of each is idle.
    let mut held = Vec::new();
    for n in 0..CONNECTIONS {
        let (some, link, is_ended, mut queue) = opened(None);
        let slot = PeerSlot(u32::try_from(n / 3).unwrap());
        assert!(node.tcp.insert(some));
        let data = node.tcp.keep(slot, link).expect("there is room");
        if n % 3 != 1 {
            data.push(vec![0; 1_000]);
            let carried = queue.try_next().unwrap().len();
            queue.on_sent(carried);
        }
        held.push((link, slot, is_ended, queue));
    }
    let count = |node: &Node| node.tcp.links.values().filter(|taken| taken.peer.is_some()).count();
    assert_eq!(count(&node), CONNECTIONS);
    // Who has some gets no more, whether he comes or was looked for.
    let (more, link, is_ended, _queue) = opened(None);
    assert!(node.tcp.insert(more), "nobody knows whose it is");
    assert!(node.tcp.keep(PeerSlot(7), link).is_none());
    assert!(is_ended() && !node.tcp.has(link));
    assert!(!node.tcp.insert(opened(Some(7)).0));
    assert!(held.iter().all(|(_, _, is_ended, _)| !is_ended()));
    // Who has none gets one, of somebody who has three: that which carried nothing.
    let (new, link, _, _queue) = opened(Some(1_000));
    assert!(node.tcp.insert(new));
    assert!(node.tcp.keep(PeerSlot(1_000), link).is_some());
    let (other, came, _, _queue) = opened(None);
    assert!(node.tcp.insert(other));
    assert!(node.tcp.keep(PeerSlot(1_001), came).is_some(), "nor does it matter who began");
    let ended: Vec<_> = (0..).zip(&held).filter(|(_, (_, _, is_ended, _))| is_ended()).collect();
    assert_eq!(ended.len(), 2);
    assert!(ended.iter().all(|(n, (link, ..))| n % 3 == 1 && !node.tcp.has(*link)));
    assert_ne!(ended[0].1.1, ended[1].1.1, "of two of them");
    assert_eq!(count(&node), CONNECTIONS);
    // As long as somebody has several.
    for slot in 2_000..3_000 {
        node.tcp.insert(opened(Some(slot)).0);
    }
    assert_eq!(count(&node), CONNECTIONS);
    let mut each: Vec<_> = node.tcp.links.values().filter_map(|taken| taken.peer).collect();
    each.sort();
    each.dedup();
    assert_eq!(each.len(), CONNECTIONS, "one each");
}

/// Fills a connection to a peer that reads nothing, lets go of it, and waits until it is gone.
async fn end_while_full(is_kept: bool) {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut node = Node::new();
    node.tcp.open(PEER, vec![silent.local_addr().unwrap()]);
    let (link, _, data) = node.opened().await;
    let (mut far, _) = soon("the connection", silent.accept()).await.unwrap();
    if is_kept {
        node.tcp.keep(PEER, link);
    }
    // The writer is blocked once nothing has left for a while although there is more.
    let (mut taken, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(200) {
        if data.has_room() {
            data.push(message(60_000));
        }
        let now_taken = data.taken();
        if now_taken != std::mem::replace(&mut taken, now_taken) {
            since = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!data.has_room());
    let began = Instant::now();
    node.tcp.close(link, false);
    assert_eq!(node.closed().await, link);
    assert!(began.elapsed() < link::LINGER + Duration::from_secs(2), "{:?}", began.elapsed());
    // Reset, not left to the kernel: it would send the rest for as long as the far end lets it wait.
    let mut rest = Vec::new();
    let end = soon("the end", far.read_to_end(&mut rest)).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(data.has_room(), "nobody waits for room there");
}

#[tokio::test]
async fn a_peer_that_reads_nothing_does_not_keep_a_connection_that_is_not_needed() {
    tokio::join!(end_while_full(true), end_while_full(false));
}

#[test]
fn a_try_that_fails_leaves_no_descriptor() {
    isolated(|| {
        // A link on which SYNs vanish.
        sh("ip link set lo up
            ip link add v0 type veth peer name v1
            ip address add 192.0.2.1/24 dev v0
            ip link set v0 up
            ip link set v1 up
            ip neighbour add 192.0.2.2 lladdr 02:00:00:00:00:01 dev v0");
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        block_on(async {
            let mut node = Node::new();
            let before = descriptors();
            let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
            let vanishes = SocketAddr::from(([192, 0, 2, 2], 9));
            node.tcp.open(PEER, vec![vanishes, nobody]);
            soon("a socket", async {
                while descriptors() == before {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            let began = Instant::now();
            soon("the end of the try", async {
                while descriptors() > before || node.tcp.tries.values().any(|task| !task.0.is_finished()) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            assert!(began.elapsed() <= TCP_TRY + Duration::from_secs(2), "{:?}", began.elapsed());
            assert!(node.events.try_recv().is_err());
            // One that is given up in the middle leaves none either.
            node.tcp.open(PEER, vec![vanishes]);
            soon("a socket", async {
                while descriptors() == before {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            node.tcp.tries.clear();
            soon("the end of it", async {
                while descriptors() > before {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        });
    });
}
