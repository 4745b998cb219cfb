//! The data plane allocates per batch, never per packet (architecture: "No lock and no allocation per packet").
//!
//! An allocator that counts what one thread asks for; the thread is found by its name. The device in memory takes one
//! allocation for each packet that is written to it, which a TAP does not: the inbound thread is allowed that one.

use bytes::BytesMut;
use shadowmesh::device::memory::pair;
use shadowmesh::device::{MemoryPort, Queues, VnetHeader};
use shadowmesh::plane::{
    InboundCommand, InboundMessage, OutboundCommand, PeerRoute, Plane, Snapshot, StreamQueue, stream_queue,
};
use shadowmesh::switch::{Directory, Record};
use shadowmesh::transport::udp::DatagramSocket;
use shadowmesh_proto::crypto::aead::Cipher;
use shadowmesh_proto::endpoint::event::{Contact, Via};
use shadowmesh_proto::ids::{AssociationId, ChannelId, MacAddr, PeerSlot, ReceiverIndex};
use shadowmesh_proto::session::limits::POOL_BYTES;
use shadowmesh_proto::session::{AckMarks, ChunkPool, OpenKey, RingLimits, SealKey};
use shadowmesh_proto::transmit::RelayNo;
use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const CONTACT: Contact = Contact { relay: RelayNo(0), channel: ChannelId(7) };
const PEER: PeerSlot = PeerSlot(0);
const PACKETS: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(30);

struct Counting;

/// The threads that are watched; 0 for none.
static WATCHED: [AtomicI32; 2] = [const { AtomicI32::new(0) }; 2];
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn count() {
    // SAFETY: `gettid` takes nothing, touches no memory and cannot fail (gettid(2)).
    let own = unsafe { libc::gettid() };
    if WATCHED.iter().any(|watched| watched.load(Relaxed) == own) {
        ALLOCATIONS.fetch_add(1, Relaxed);
    }
}

// SAFETY: everything is passed to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts the allocations of the thread called `name` from now on.
fn watch(name: &str) {
    watch_all([name, name]);
}

/// Counts those of two threads: the halves of the plane go from one to the other.
fn watch_all(names: [&str; 2]) {
    let threads = names.map(thread_called);
    ALLOCATIONS.store(0, Relaxed);
    WATCHED.iter().zip(threads).for_each(|(watched, thread)| watched.store(thread, Relaxed));
}

fn thread_called(name: &str) -> i32 {
    let is_called = |path: std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let mut thread = 0;
    // A thread gives itself its name, a moment after it was made.
    until("a thread of that name", || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("the list of threads");
        let found = tasks.flatten().find(|task| is_called(task.path()));
        thread = found.and_then(|task| task.file_name().to_str()?.parse().ok()).unwrap_or(0);
        thread != 0
    });
    thread
}

fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

fn key_pair() -> (SealKey, OpenKey) {
    let (now, index) = (Instant::now(), ReceiverIndex(5));
    let seal = SealKey::new(Cipher::ChaCha20Poly1305, &[9; 32], index, now, now + Duration::from_secs(3600));
    (seal, OpenKey::new(Cipher::ChaCha20Poly1305, &[9; 32], index))
}

/// A plane with one peer; what it sends comes out of the queue.
/// Its packets go over the relay's stream, or to `direct`. With the port of its socket.
fn plane(own: MacAddr, peer: MacAddr, direct: Option<SocketAddr>) -> (Plane, MemoryPort, StreamQueue, u16) {
    let (wire, device) = pair(&"mem0".parse().expect("a name"), 1 << 16).expect("a pair");
    let (plane, queue, port) = plane_on(device.into_device().into(), own, peer, direct);
    (plane, wire, queue, port)
}

/// The same on these queues.
fn plane_on(
    queues: Queues,
    own: MacAddr,
    peer: MacAddr,
    direct: Option<SocketAddr>,
) -> (Plane, StreamQueue, u16) {
    let mut directory = Directory::new(own);
    let address = if peer.0[5] == 1 { [10, 7, 0, 1] } else { [10, 7, 0, 2] };
    directory.admit(PEER, Record::new(peer).with_addresses(&[address.into()])).expect("free");
    let route = PeerRoute { via: Some(CONTACT.into()), is_expected: true, ..PeerRoute::default() };
    let mut snapshot = Snapshot {
        directory: directory.into(),
        peers: vec![route],
        streams: vec![None],
        links: vec![],
        bindings: vec![None],
        stun: [].into(),
        access: None,
        own: Arc::default(),
    };
    let socket = DatagramSocket::bind().expect("a socket");
    let port = socket.port();
    let (plane, _) =
        Plane::start(queues, socket, snapshot.clone(), ChunkPool::new(POOL_BYTES), RingLimits::default())
            .expect("a plane");
    let (handle, queue) = stream_queue(plane.outbound_waker());
    snapshot.streams = vec![Some(handle)];
    if let Some(to) = direct {
        snapshot.peers[0].via = Some(Via::Udp(to));
        snapshot.peers[0].sources = vec![to].into();
    }
    plane.publish(snapshot);
    (plane, queue, port)
}

#[test]
fn packets_cost_no_allocation_in_either_direction() {
    let (a_mac, b_mac) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    // TCP in IPv4, so that the switch looks at what it looks at.
    let packet = [0x45, 0, 1, 44, 0, 1, 0, 0, 64, 6, 0, 0, 10, 7, 0, 1, 10, 7, 0, 2];
    let frame = [&b_mac.0[..], &a_mac.0, &[0x08, 0x00], &packet, &[0; 280]].concat();
    let (seal, open) = key_pair();

    let (a, wire, mut queue, _) = plane(a_mac, b_mac, None);
    a.outbound(OutboundCommand::Start { slot: PEER, key: seal, marks: Arc::new(AckMarks::new()) });
    let mut messages = Vec::new();
    // protocol §3: type and channel of a message; of each packet its length, header, metadata and tag.
    let (message_head, packet_len) = (5, frame.len() + 35);
    let mut carry = |packets: u64| {
        let mut carried = 0;
        for _ in 0..packets {
            wire.send(&frame).expect("sent");
        }
        until("the packets", || {
            while let Some(message) = queue.try_next() {
                queue.on_sent(message.len());
                assert_eq!((message.len() - message_head) % packet_len, 0, "whole packets of one size");
                carried += ((message.len() - message_head) / packet_len) as u64;
                messages.push(message);
            }
            carried >= packets
        });
        assert_eq!(carried, packets);
    };
    // The ring takes its memory, every table its size, and as much waits for the queue as may.
    carry(PACKETS);
    watch("outbound");
    carry(PACKETS);
    let outbound = ALLOCATIONS.load(Relaxed);
    assert!(outbound < PACKETS / 8, "{outbound} allocations for {PACKETS} packets out");
    assert!(outbound > 0, "the counter counts: each message is one");
    drop(a);

    let (b, wire, _queue, _) = plane(b_mac, a_mac, None);
    b.inbound(InboundCommand::Open { slot: PEER, association: AssociationId([1; 8]), key: open });
    let sender = b.messages();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    watch("inbound");
    let mut received = 0;
    for message in messages {
        let message = InboundMessage { via: Via::Channel(CONTACT), message: BytesMut::from(&message[..]) };
        assert!(runtime.block_on(sender.send(message)));
        while wire.receive().expect("open").is_some() {
            received += 1;
        }
    }
    until("the packets", || {
        received += u64::from(wire.receive().expect("open").is_some());
        received == 2 * PACKETS
    });
    let inbound = ALLOCATIONS.load(Relaxed);
    let allowed = received + received / 8;
    assert!(inbound < allowed, "{inbound} allocations for {received} packets in, one each by the device");
}

/// TCP over IPv4 as the kernel hands it over: so many bytes in one frame, to be cut to `SEGMENT`.
fn superframe(to: MacAddr, from: MacAddr, sequence: u32, payload: usize) -> (VnetHeader, Vec<u8>) {
    let ip = [0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 7, 0, 1, 10, 7, 0, 2];
    let [a, b, c, d] = sequence.to_be_bytes();
    // The sum of the pseudo-header, which is all that the kernel leaves in the field (RFC 9293 §3.1).
    let words = ip[12..].as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
    let sum = words.sum::<u32>() + 6 + (20 + payload) as u32;
    let [high, low] = ((sum & 0xffff) as u16 + (sum >> 16) as u16).to_be_bytes();
    let tcp = [0x13, 0x88, 0x13, 0x89, a, b, c, d, 0, 0, 0, 1, 0x50, 0x10, 0x10, 0, high, low, 0, 0];
    let frame = [&to.0[..], &from.0, &[0x08, 0x00], &ip, &tcp, &vec![7; payload]].concat();
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        gso_type: VnetHeader::GSO_TCP_V4,
        header_len: 54,
        gso_size: SEGMENT as u16,
        checksum_start: 34,
        checksum_offset: 16,
    };
    (header, [&[0; VnetHeader::LEN], &frame[..]].concat())
}

/// As much as leaves with one call, and what is left for a second.
const SEGMENT: usize = 1_348;
const SEGMENTS: usize = 48;
const SUPERFRAMES: u64 = 400;

#[test]
fn superframes_cost_no_allocation_for_each_segment_in_either_direction() {
    let (a_mac, b_mac) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let (seal, open) = key_pair();
    let catch = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    catch.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let to = Some(catch.local_addr().expect("bound"));
    let (a, wire, _queue, _) = plane(a_mac, b_mac, to);
    let seal = seal.for_one_who_completes_checksums(true);
    a.outbound(OutboundCommand::Start { slot: PEER, key: seal, marks: Arc::new(AckMarks::new()) });
    let mut datagrams = Vec::new();
    let mut carry = |superframes: u64| {
        for number in 0..superframes {
            let sequence = number as u32 * (SEGMENT * SEGMENTS) as u32;
            let (header, mut packet) = superframe(b_mac, a_mac, sequence, SEGMENT * SEGMENTS);
            wire.write_frame(header, &mut packet).expect("taken");
            for _ in 0..SEGMENTS {
                let mut datagram = vec![0; 2_000];
                let len = catch.recv(&mut datagram).expect("each segment is a datagram");
                datagram.truncate(len);
                datagrams.push(datagram);
            }
        }
    };
    carry(20);
    // One superframe at a time is no load: the thread that has both halves sends it, most often.
    watch_all(["inbound", "outbound"]);
    carry(SUPERFRAMES);
    let outbound = ALLOCATIONS.load(Relaxed);
    // A chunk of the ring for each 256 KiB, which nobody acknowledges here; and its queues grow.
    assert!(outbound < SUPERFRAMES, "{outbound} allocations for {SUPERFRAMES} superframes out");
    drop(a);

    let throw = DatagramSocket::bind().expect("a socket");
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (b, wire, _queue, port) = plane(b_mac, a_mac, Some(local(throw.port())));
    b.inbound(InboundCommand::Open { slot: PEER, association: AssociationId([1; 8]), key: open });
    watch("inbound");
    let mut received = 0;
    for burst in datagrams.chunks(SEGMENTS / 2) {
        throw.send(local(port), &burst.concat(), burst[0].len()).expect("sent");
        let whole = received + burst.len();
        until("the frames", || {
            while let Some(frame) = wire.receive().expect("open") {
                assert_eq!(frame.len(), 54 + SEGMENT);
                received += 1;
            }
            received == whole
        });
    }
    let inbound = ALLOCATIONS.load(Relaxed);
    // The device in memory takes one for each that is written, which is one for all that came at once.
    assert!(inbound < received as u64 / 8, "{inbound} allocations for {received} segments in");
}

#[test]
fn nor_does_a_second_queue_cost_any() {
    let (a_mac, b_mac) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let catch = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    catch.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let name = "mem0".parse().expect("a name");
    let [(first_wire, first), (wire, second)] = [(); 2].map(|()| pair(&name, 1 << 16).expect("a pair"));
    let queues = Queues::new(first.into_device(), vec![second.into_device()]);
    let to = Some(catch.local_addr().expect("bound"));
    let (a, _queue, _) = plane_on(queues, a_mac, b_mac, to);
    let key = key_pair().0.for_one_who_completes_checksums(true);
    a.outbound(OutboundCommand::Start { slot: PEER, key, marks: Arc::new(AckMarks::new()) });
    let carry = |superframes: u64| {
        let mut datagram = [0; 2_000];
        for number in 0..superframes {
            let sequence = number as u32 * (SEGMENT * SEGMENTS) as u32;
            let (header, mut packet) = superframe(b_mac, a_mac, sequence, SEGMENT * SEGMENTS);
            wire.write_frame(header, &mut packet).expect("taken");
            for _ in 0..SEGMENTS {
                catch.recv(&mut datagram).expect("each segment is a datagram");
            }
        }
    };
    carry(20);
    watch("outbound-1");
    carry(SUPERFRAMES);
    let allocations = ALLOCATIONS.load(Relaxed);
    // A chunk of the ring for each 256 KiB, which nobody acknowledges here.
    assert!(allocations < SUPERFRAMES, "{allocations} allocations for {SUPERFRAMES} superframes");
    assert!(allocations > 0, "the counter counts: the ring grows");
    drop((a, first_wire));
}
