//! Two kernels that speak through two planes with two queues each: real devices, sockets and threads, while the way changes.

use super::*;
use crate::device::{Device, LinkControl, LinkSettings, Offload, Opened, Tap};
use crate::net::namespace::{block_on, isolated, sh};
use crate::net::{Cidr, Netlink};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;

/// Of each connection, each way.
const BYTES: usize = 6 << 20;
/// Connections: that all of them are in one of two queues happens once in two million.
const CONNECTIONS: u16 = 22;
const PORT: u16 = 4000;

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0x53, 0x4d, 0, 0, n])
}

/// A device of this thread's namespace, up, with two queues.
fn device(n: u8) -> (Queues, LinkControl) {
    block_on(async {
        let name = format!("smtest{n}").parse().unwrap();
        let Opened { tap, others, refused } = Tap::open_queues(name, Offload::Full, 2).unwrap();
        assert!(refused.is_none(), "{refused:?}");
        let mut link = LinkControl::new(Arc::new(Netlink::open().unwrap()), &tap);
        link.bring_up(LinkSettings::new(mac(n), 1400)).await.unwrap();
        link.set_addresses(&[Cidr::new(address(n), 16).unwrap()]).await.unwrap();
        let device = |tap| Device::Tap(Arc::new(tap));
        (Queues::new(device(tap), others.into_iter().map(device).collect()), link)
    })
}

fn pattern(connection: u16, at: usize) -> u8 {
    ((at + usize::from(connection)) % 251) as u8
}

/// Each says all and hears all, at once.
fn talk(connection: u16, stream: &TcpStream) {
    stream.set_read_timeout(Some(3 * PATIENCE)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, mut at) = (stream, 0);
            let block: Vec<u8> = (0..251 * 1024).map(|at| pattern(connection, at)).collect();
            while at < BYTES {
                let some = block.len().min(BYTES - at);
                stream.write_all(&block[..some]).unwrap();
                at += some;
            }
        });
        let (mut stream, mut at, mut buffer) = (stream, 0, vec![0; 251 * 1024]);
        while at < BYTES {
            let len = stream.read(&mut buffer).unwrap();
            assert_ne!(len, 0, "closed at {at}");
            let is_right =
                buffer[..len].iter().enumerate().all(|(n, byte)| *byte == pattern(connection, at + n));
            assert!(is_right, "connection {connection} near {at}");
            at += len;
        }
    });
}

/// One of the two, as a control task has it.
struct End {
    plane: Arc<Plane>,
    snapshot: Snapshot,
    direct: Via,
}

impl End {
    /// Data goes by the other path, and the one before is given up or not.
    fn go_on(&mut self, gives_up: bool) {
        let route = &mut self.snapshot.peers[0];
        let via = if route.via == Some(self.direct) { CHANNEL.into() } else { self.direct };
        let before = route.via.replace(via).unwrap().slot();
        route.given_up[usize::from(before.number())] += u64::from(gives_up);
        self.plane.publish(self.snapshot.clone());
    }
}

/// The plane of node `n`, which speaks to the other. With what carries its acknowledgements, and its stream.
fn end(n: u8, queues: Queues, socket: DatagramSocket, other: u16) -> (End, PlaneOutput, StreamQueue) {
    let peer = 3 - n;
    let to: SocketAddr = (Ipv4Addr::LOCALHOST, other).into();
    let mut directory = Directory::new(mac(n)).with_addresses(&[address(n)]);
    directory.admit(PEER, Record::new(mac(peer)).with_addresses(&[address(peer)])).unwrap();
    let direct = Via::Udp(to);
    let route = PeerRoute {
        is_expected: true,
        via: Some(direct),
        sources: [to].into(),
        patience: Duration::from_millis(50),
        ..PeerRoute::default()
    };
    let mut snapshot = picture(directory, vec![route]);
    let pool = ChunkPool::new(POOL_BYTES);
    let (plane, output) =
        Plane::start(queues, socket, snapshot.clone(), pool, RingLimits::default()).unwrap();
    let (handle, stream) = wide_stream_queue(plane.outbound_waker());
    snapshot.streams[0] = Some(handle);
    plane.publish(snapshot.clone());
    (End { plane: Arc::new(plane), snapshot, direct }, output, stream)
}

/// Gives what `from` says to `to`: acknowledgements, which are for those marks, and messages.
fn carry(mut output: PlaneOutput, marks: Arc<AckMarks>, mut stream: StreamQueue, to: InboundSender) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        loop {
            tokio::select! {
                fact = output.facts.recv() => match fact {
                    Some(Fact::AckDue(_, _, report)) => marks.record(report.paths(), report.floor()),
                    Some(_) => {}
                    None => return,
                },
                Some(message) = stream.next() => {
                    stream.on_sent(message.len());
                    let message = InboundMessage { via: CHANNEL.into(), message: BytesMut::from(&message[..]) };
                    to.send(message).await;
                }
            }
        }
    });
}

/// Nanoseconds on a processor of each thread of this name.
fn processor_time(name: &str) -> Vec<u64> {
    let read = |task: &std::path::Path, what| std::fs::read_to_string(task.join(what)).unwrap_or_default();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let named = tasks.filter(|task| read(task, "comm").trim() == name);
    named.map(|task| read(&task, "schedstat").split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn kernels_hear_each_other_through_two_queues_while_paths_change() {
    isolated(|| {
        sh("ip link set lo up");
        let sockets = [(); 2].map(|()| DatagramSocket::bind().unwrap());
        let [near_port, far_port] = sockets.each_ref().map(DatagramSocket::port);
        let [near_socket, far_socket] = sockets;
        let (near_queues, _near_link) = device(1);
        let (tell, told) = std::sync::mpsc::channel();
        let heard = Arc::new(AtomicUsize::new(0));
        let far = {
            let heard = Arc::clone(&heard);
            std::thread::spawn(move || {
                // SAFETY: only this thread leaves, for a namespace of its own; no memory is concerned (unshare(2)).
                assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
                let device = device(2);
                let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
                tell.send(device).unwrap();
                let talks: Vec<_> = (0..CONNECTIONS)
                    .map(|_| {
                        let ((mut stream, _), heard) = (listener.accept().unwrap(), Arc::clone(&heard));
                        std::thread::spawn(move || {
                            let mut connection = [0; 2];
                            stream.read_exact(&mut connection).unwrap();
                            talk(u16::from_be_bytes(connection), &stream);
                            heard.fetch_add(1, Relaxed);
                        })
                    })
                    .collect();
                talks.into_iter().for_each(|talk| talk.join().unwrap());
            })
        };
        let (far_queues, _far_link) = told.recv_timeout(PATIENCE).unwrap();
        let (near, near_output, near_stream) = end(1, near_queues, near_socket, far_port);
        let (far_end, far_output, far_stream) = end(2, far_queues, far_socket, near_port);
        let ((near_seal, near_open), (far_seal, far_open)) = (keys(1), keys(2));
        let [near_marks, far_marks] = [(); 2].map(|()| Arc::new(AckMarks::new()));
        let association = |n| AssociationId([n; 8]);
        let open = |association, key| InboundCommand::Open { slot: PEER, association, key };
        far_end.plane.inbound(open(association(1), near_open));
        near.plane.inbound(open(association(2), far_open));
        for (end, key, marks) in [(&near, near_seal, &near_marks), (&far_end, far_seal, &far_marks)] {
            let (key, marks) = (key.for_one_who_completes_checksums(true), Arc::clone(marks));
            end.plane.outbound(OutboundCommand::Start { slot: PEER, key, marks });
        }
        let (to_far, to_near) = (far_end.plane.messages(), near.plane.messages());
        let carriers = [
            // What the near end acknowledges the far one sent.
            std::thread::spawn(move || carry(near_output, far_marks, near_stream, to_far)),
            std::thread::spawn(move || carry(far_output, near_marks, far_stream, to_near)),
        ];
        let calls: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                std::thread::spawn(move || {
                    let to = SocketAddr::new(address(2), PORT);
                    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
                    stream.write_all(&connection.to_be_bytes()).unwrap();
                    talk(connection, &stream);
                })
            })
            .collect();
        let mut ends = [near, far_end];
        let passed = |ends: &[End; 2]| -> u64 {
            ends.iter().map(|end| end.snapshot.peers[0].counters.rx_bytes.load(Relaxed)).sum()
        };
        // A move at each twentieth of what there is to be said.
        let step = (2 * BYTES * usize::from(CONNECTIONS) / 20) as u64;
        for round in 0..16 {
            let began = Instant::now();
            while passed(&ends) < (round + 1) * step {
                assert!(began.elapsed() < 3 * PATIENCE, "stuck in round {round} at {}", passed(&ends));
                std::thread::yield_now();
            }
            ends[usize::from(round % 4 >= 2)].go_on(round % 2 == 0);
        }
        calls.into_iter().for_each(|call| call.join().unwrap());
        far.join().unwrap();
        assert_eq!(heard.load(Relaxed), usize::from(CONNECTIONS));
        for name in ["outbound-1", "inbound"] {
            let times = processor_time(name);
            assert_eq!(times.len(), 2, "one at each end");
            assert!(times.iter().all(|time| *time > 10_000_000), "{name}: {times:?}");
        }
        for end in &ends {
            let counters = &end.snapshot.peers[0].counters;
            assert_eq!(counters.lost.load(Relaxed), 0);
        }
        drop(ends);
        carriers.into_iter().for_each(|carrier| carrier.join().unwrap());
    });
}
