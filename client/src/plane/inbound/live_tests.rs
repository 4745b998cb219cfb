//! Two kernels that speak to each other through what is cut and put together here: real TCP and UDP, with nothing made by hand.
//!
//! `SHADOWMESH_CAPTURE=DIRECTORY` has the first superframes of each kind written there, as the kernel handed them over: the fixtures of
//! `device/offload/captured` are such.

use super::merging::{Admitted, Merging};
use crate::device::offload::superframes::all;
use crate::device::offload::{Cutting, Kind, Merge, Superframe, complete};
use crate::device::{Device, LinkControl, LinkSettings, Offload, Segmentation, Tap, VnetHeader};
use crate::net::namespace::{block_on, isolated, sh};
use crate::net::{Cidr, Netlink};
use crate::plane::steering::Writer;
use crate::transport::udp::DatagramSocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shadowmesh_proto::ids::{MacAddr, PeerSlot};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const BYTES: usize = 24 << 20;
const PORT: u16 = 4000;
const PATIENCE: Duration = Duration::from_secs(20);

fn addresses(n: u8) -> [IpAddr; 2] {
    [IpAddr::from([10, 7, 0, n]), IpAddr::from([0xfd53, 0x4d, 0, 0, 0, 0, 0, u16::from(n)])]
}

/// A device of this thread's namespace, up.
fn device(n: u8) -> (Device, LinkControl) {
    block_on(async {
        let tap = Arc::new(Tap::open(format!("smtest{n}").parse().unwrap(), Offload::Full).unwrap());
        let mut link = LinkControl::new(Arc::new(Netlink::open().unwrap()), &tap);
        link.bring_up(LinkSettings::new(MacAddr([2, 0x53, 0x4d, 0, 0, n]), 1400)).await.unwrap();
        let [v4, v6] = addresses(n);
        link.set_addresses(&[Cidr::new(v4, 16).unwrap(), Cidr::new(v6, 64).unwrap()]).await.unwrap();
        (Device::Tap(tap), link)
    })
}

fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

fn send(mut stream: &TcpStream) {
    let block: Vec<u8> = (0..251 * 1024).map(pattern).collect();
    let mut left = BYTES;
    while left > 0 {
        let some = left.min(block.len());
        stream.write_all(&block[..some]).unwrap();
        left -= some;
    }
}

fn receive(mut stream: &TcpStream) {
    let mut buffer = vec![0; 251 * 1024];
    let mut at = 0;
    while at < BYTES {
        let len = stream.read(&mut buffer).unwrap();
        assert_ne!(len, 0, "closed at {at}");
        assert!(buffer[..len].iter().enumerate().all(|(n, byte)| *byte == pattern(at + n)), "near {at}");
        at += len;
    }
}

/// What one kernel says to the other, until `is_over`.
struct Carrier {
    devices: [Device; 2],
    writers: [Writer; 2],
    merging: [Merging; 2],
    buffer: Vec<u8>,
    /// Superframes that were read and that were written, by kind.
    read: HashMap<u8, usize>,
    captured: HashMap<(u8, bool), usize>,
    frames: usize,
}

impl Carrier {
    fn carry(&mut self, is_over: &AtomicBool) {
        let began = Instant::now();
        while !is_over.load(Relaxed) {
            assert!(began.elapsed() < 4 * PATIENCE, "not over in time");
            let mut fds = [0, 1].map(|n| PollFd::new(&self.devices[n], PollFlags::IN));
            poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 })).unwrap();
            for from in 0..2 {
                self.carry_from(from, Instant::now());
            }
        }
    }

    fn carry_from(&mut self, from: usize, now: Instant) {
        let Self { devices, merging, buffer, .. } = self;
        let (device, merging) = (&self.writers[1 - from], &mut merging[1 - from]);
        let refused = |refused| panic!("{refused:?}");
        for _ in 0..16 {
            let Some(incoming) = devices[from].read_frame(buffer).unwrap() else { break };
            let (header, len) = (incoming.header, incoming.frame.len());
            let kind = header.gso_type & !VnetHeader::GSO_ECN;
            if header.segmentation() != Segmentation::None {
                *self.read.entry(kind).or_default() += 1;
                capture(header, incoming.frame, &mut self.captured);
            }
            let room = &mut buffer[VnetHeader::LEN - 1..VnetHeader::LEN + len];
            let mut pass = |text: &[u8], is_partial| {
                self.frames += 1;
                merging.space(text.len()).unwrap().copy_from_slice(text);
                let admitted = Admitted { now, from: PeerSlot(0), is_partial, is_for_us: true };
                if !merging.resume(device, PeerSlot(0), is_partial, refused).unwrap() {
                    merging.take(device, admitted, refused).unwrap();
                }
            };
            if header.segmentation() == Segmentation::None {
                pass(room, header.needs_checksum());
                continue;
            }
            let mut cutting = Cutting::new(&header, room, None).unwrap();
            while let Some(text) = cutting.front() {
                pass(text, true);
                cutting.advance();
            }
        }
        merging.flush(device, refused).unwrap();
    }
}

/// Writes one of each kind, not the first of a connection that begins.
fn capture(header: VnetHeader, frame: &[u8], seen: &mut HashMap<(u8, bool), usize>) {
    let is_v6 = frame[12..14] == [0x86, 0xdd];
    let seen = seen.entry((header.gso_type, is_v6)).or_default();
    *seen += 1;
    let wanted = if header.gso_type == VnetHeader::GSO_UDP { 2 } else { 20 };
    if let Ok(directory) = std::env::var("SHADOWMESH_CAPTURE")
        && *seen == wanted
    {
        let name =
            format!("{}-{}", if wanted == 2 { "udp" } else { "tcp" }, if is_v6 { "ipv6" } else { "ipv4" });
        std::fs::write(format!("{directory}/{name}.bin"), [&header.emit()[..], frame].concat()).unwrap();
    }
}

#[test]
fn two_kernels_hear_what_the_other_said() {
    isolated(|| {
        let (near, _near_link) = device(1);
        let (tell, told) = mpsc::channel();
        let far = std::thread::spawn(move || {
            // SAFETY: only this thread leaves, for a namespace of its own; no memory is concerned (unshare(2)).
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
            let (device, link) = device(2);
            let listener = TcpListener::bind(("::", PORT)).unwrap();
            let socket = UdpSocket::bind(("::", PORT)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            tell.send((device, link)).unwrap();
            for _ in 0..2 {
                let (stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                receive(&stream);
                send(&stream);
                // Datagrams that left together arrive as each was.
                let mut buffer = [0; 2000];
                for n in 0..30 {
                    let len = socket.recv(&mut buffer).unwrap();
                    let expected = if n % 10 == 9 { 500 } else { 1200 };
                    assert_eq!((len, buffer[0]), (expected, n / 10));
                }
                // Whoever called waits for the end.
                drop(stream);
            }
        });
        let (far_device, _far_link) = told.recv_timeout(PATIENCE).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let near_side = {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                for to in addresses(2) {
                    let stream = TcpStream::connect_timeout(&SocketAddr::new(to, PORT), PATIENCE).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    send(&stream);
                    receive(&stream);
                    let socket = DatagramSocket::bind().unwrap();
                    for n in 0..3 {
                        socket.send(SocketAddr::new(to, PORT), &[n; 9 * 1200 + 500], 1200).unwrap();
                    }
                    assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
                }
                is_over.store(true, Relaxed);
            })
        };
        let merging = [Merging::default(), Merging::default()];
        let (buffer, devices) = (vec![0; 70_000], [near, far_device]);
        let (read, captured) = Default::default();
        let writers = devices.clone().map(|device| Writer::new(device.into(), None));
        let mut carrier = Carrier { devices, writers, merging, buffer, read, captured, frames: 0 };
        carrier.carry(&is_over);
        near_side.join().unwrap();
        far.join().unwrap();
        let read = |kind| carrier.read.get(&kind).copied().unwrap_or(0);
        assert!(
            read(VnetHeader::GSO_TCP_V4) > 100 && read(VnetHeader::GSO_TCP_V6) > 100,
            "{:?}",
            carrier.read
        );
        let uso = sh("uname -r")
            .split('.')
            .take(2)
            .filter_map(|part| part.trim().parse().ok())
            .collect::<Vec<u32>>();
        // `TUN_F_USO4` came with Linux 6.2; before, the kernel cuts them for us.
        assert!(uso < vec![6, 2] || read(VnetHeader::GSO_UDP) >= 4, "{:?}", carrier.read);
        let superframes: usize = carrier.read.values().sum();
        assert!(carrier.frames > 10 * superframes, "{} frames in {superframes}", carrier.frames);
        // What was written to each device is counted by the kernel, which saw superframes again.
        let received: usize =
            sh("ip -s link show smtest1 | awk '/RX:/ { getline; print $2 }'").trim().parse().unwrap();
        assert!(
            received * 4 < carrier.frames,
            "{received} were written to one of two for {} frames",
            carrier.frames
        );
    });
}

/// Captured by the test above, on Linux 6.18.
#[test]
fn what_a_kernel_handed_over_is_cut_and_put_together_again() {
    macro_rules! captured {
        ($($name:literal),*) => { [$(($name, &include_bytes!(concat!("../../device/offload/captured/", $name, ".bin"))[..])),*] };
    }
    for (name, bytes) in captured!["tcp-ipv4", "tcp-ipv6", "udp-ipv4", "udp-ipv6"] {
        let (header, frame) = bytes.split_first_chunk().unwrap();
        let header = VnetHeader::parse(header);
        let superframe = Superframe::new(&header, frame).unwrap();
        assert!(superframe.count() > 5, "{name}");
        let (mut merge, mut partial) = (Merge::new(), Merge::new());
        let mut room = [&[0], frame].concat();
        let mut cutting = Cutting::new(&header, &mut room, None).unwrap();
        for segment in all(&superframe, None) {
            merge.space(segment.len()).unwrap()[1..].copy_from_slice(&segment);
            let Kind::Data(kind) = Kind::of(merge.opened()) else { panic!("{name}") };
            assert!(merge.keep(kind, false), "{name}: its checksums hold, and it follows");
            let text = cutting.front().unwrap();
            let mut completed = text[1..].to_vec();
            complete(&mut completed);
            assert_eq!(completed, segment, "{name}");
            partial.space(segment.len()).unwrap().copy_from_slice(text);
            assert!(partial.keep(kind, true), "{name}");
            cutting.advance();
        }
        for merge in [&mut merge, &mut partial] {
            let (back, packet) = merge.finish().unwrap();
            // How long the headers are is a hint, which the kernel gives from what it knows of the socket.
            assert_eq!(VnetHeader { header_len: header.header_len, ..back }, header, "{name}");
            assert_eq!(&packet[VnetHeader::LEN..], frame, "{name}");
        }
    }
}
