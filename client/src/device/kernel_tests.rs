//! What a real TAP of the running kernel does, each test in a network namespace of its own.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shadowmesh_proto::ids::MacAddr;

use super::offload::complete;
use super::*;
use crate::net::namespace::{block_on, isolated, sh};
use crate::net::{Cidr, Netlink};

const MAC: MacAddr = MacAddr([0x02, 0x53, 0x4d, 0, 0, 1]);

fn name() -> DeviceName {
    "smtest0".parse().unwrap()
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

/// A TAP that is up with `addresses`, and the control over it. Must be called inside a runtime.
async fn up(offload: Offload, addresses: &[Cidr]) -> (Device, LinkControl) {
    let tap = Arc::new(Tap::open(name(), offload).unwrap());
    let mut link = LinkControl::new(Arc::new(Netlink::open().unwrap()), &tap);
    link.bring_up(LinkSettings::new(MAC, 1400)).await.unwrap();
    link.set_addresses(addresses).await.unwrap();
    (Device::Tap(tap), link)
}

/// The next frame that `wanted` accepts, within two seconds.
fn next_frame(device: &Device, wanted: impl Fn(&[u8]) -> bool) -> (VnetHeader, Vec<u8>) {
    let end = Instant::now() + Duration::from_secs(2);
    let mut buffer = vec![0; 70_000];
    loop {
        while let Some(Incoming { header, frame }) = device.read_frame(&mut buffer).unwrap() {
            if wanted(frame) {
                return (header, frame.to_vec());
            }
        }
        assert!(Instant::now() < end, "no such frame within 2 s");
        let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        poll(&mut [PollFd::new(device, PollFlags::IN)], Some(&wait)).unwrap();
    }
}

/// Whether this is UDP over IPv4 to `port`.
fn is_udp_v4_to(frame: &[u8], port: u16) -> bool {
    frame[12..14] == [8, 0] && frame[23] == 17 && frame[36..38] == port.to_be_bytes()
}

/// Verifies the checksum of a UDP datagram over IPv4 in an untagged frame without IP options: the sum of
/// everything is all ones.
fn udp_checksum_holds(frame: &[u8]) -> bool {
    let segment = &frame[34..];
    let mut bytes = frame[26..34].to_vec();
    bytes.extend([0, 17]);
    bytes.extend((segment.len() as u16).to_be_bytes());
    bytes.extend(segment);
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    let sum: u64 = bytes.chunks(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    segment[6..8] != [0, 0] && sum.is_multiple_of(0xffff)
}

#[test]
fn a_device_has_what_was_asked_for_and_is_gone_when_closed() {
    isolated(|| {
        block_on(async {
            let addresses = [cidr("10.7.1.2/16"), cidr("fd53:4d::2/64")];
            let (device, link) = up(Offload::None, &addresses).await;
            let shown = sh("ip -d addr show dev smtest0");
            for part in [
                "02:53:4d:00:00:01",
                "mtu 1400",
                "qlen 1000",
                "tun type tap",
                "persist off",
                "vnet_hdr on",
                "inet 10.7.1.2/16 brd 10.7.255.255",
                "inet6 fd53:4d::2/64",
                "inet6 fe80::53:4dff:fe00:1/64",
            ] {
                assert!(shown.contains(part), "{part:?} is not in: {shown}");
            }
            let ours = shown.lines().find(|line| line.contains("fd53:4d::2")).unwrap();
            assert!(!ours.contains("tentative"), "{ours}");
            assert_eq!(sh("cat /proc/sys/net/ipv6/conf/smtest0/accept_ra").trim(), "0");
            assert!(sh("ip route").contains("10.7.0.0/16 dev smtest0"));
            assert_eq!(link.addresses(), addresses);
            drop((device, link));
            assert!(!sh("ip addr; ip route; ip -6 route").contains("smtest0"));
        });
    });
}

#[test]
fn a_mac_that_another_program_replaced_is_put_back() {
    isolated(|| {
        block_on(async {
            let (_device, link) = up(Offload::None, &[cidr("10.7.1.2/16")]).await;
            let local = |shown: &str| shown.contains("inet6 fe80::53:4dff:fe00:1/64");
            assert_eq!(link.restore_mac().await.unwrap(), None);
            sh("ip link set smtest0 address 02:11:22:33:44:55");
            let other = MacAddr([2, 0x11, 0x22, 0x33, 0x44, 0x55]);
            assert_eq!(link.restore_mac().await.unwrap(), Some(other));
            let shown = sh("ip addr show dev smtest0");
            assert!(
                shown.contains("02:53:4d:00:00:01") && local(&shown) && shown.contains("10.7.1.2/16"),
                "{shown}"
            );
            assert_eq!(link.restore_mac().await.unwrap(), None);
            sh("ip link delete smtest0");
            let error = link.restore_mac().await.unwrap_err();
            assert!(matches!(error, LinkError::Gone { .. }), "{error:?}");
        });
    });
}

#[test]
fn without_offload_frames_arrive_complete() {
    isolated(|| {
        block_on(async {
            let (device, _link) = up(Offload::None, &[cidr("10.7.0.1/16")]).await;
            sh("ip neigh add 10.7.0.2 lladdr 02:53:4d:00:00:02 dev smtest0");
            let socket = UdpSocket::bind("10.7.0.1:0").unwrap();
            for payload in [&b"even"[..], b"odd"] {
                socket.send_to(payload, "10.7.0.2:4000").unwrap();
                let (header, frame) = next_frame(&device, |frame| is_udp_v4_to(frame, 4000));
                assert_eq!((header.flags & 1, header.segmentation()), (0, Segmentation::None));
                assert_eq!(frame[..12], [2, 0x53, 0x4d, 0, 0, 2, 2, 0x53, 0x4d, 0, 0, 1]);
                assert_eq!(frame[42..42 + payload.len()], *payload);
                assert!(udp_checksum_holds(&frame));
            }
        });
    });
}

/// With checksum offload promised, the kernel leaves the work to us, and says so of each frame.
#[test]
fn with_offload_the_kernel_leaves_checksums_to_us() {
    isolated(|| {
        block_on(async {
            let (device, _link) = up(Offload::Full, &[cidr("10.7.0.1/16")]).await;
            sh("ip neigh add 10.7.0.2 lladdr 02:53:4d:00:00:02 dev smtest0");
            let Device::Tap(tap) = &device else { unreachable!("opened as a TAP") };
            let socket = UdpSocket::bind("10.7.0.1:0").unwrap();
            // Seen raw, to know that the promise reached the kernel.
            socket.send_to(b"raw", "10.7.0.2:4001").unwrap();
            let raw = loop {
                let mut packet = [0; 2000];
                match rustix::io::read(tap.as_fd(), &mut packet) {
                    Ok(len) if is_udp_v4_to(&packet[10..len], 4001) => break packet[..len].to_vec(),
                    Ok(_) => {}
                    Err(rustix::io::Errno::AGAIN) => {
                        poll(&mut [PollFd::new(tap, PollFlags::IN)], None).unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            assert_eq!(raw[0] & 1, 1, "NEEDS_CSUM is set");
            assert!(!udp_checksum_holds(&raw[10..]));
            socket.send_to(b"completed", "10.7.0.2:4002").unwrap();
            let (header, frame) = next_frame(&device, |frame| is_udp_v4_to(frame, 4002));
            assert_eq!(header.segmentation(), Segmentation::None);
            assert!(header.needs_checksum() && !udp_checksum_holds(&frame), "it may stay so between members");
            let mut completed = frame.clone();
            complete(&mut completed);
            assert!(udp_checksum_holds(&completed));
            // And taken back again while the device is up.
            tap.set_offload(Offload::None).unwrap();
            socket.send_to(b"none", "10.7.0.2:4003").unwrap();
            let (_, frame) = next_frame(&device, |frame| is_udp_v4_to(frame, 4003));
            assert!(udp_checksum_holds(&frame));
        });
    });
}

#[test]
fn a_written_frame_reaches_a_socket() {
    isolated(|| {
        block_on(async {
            let (device, _link) = up(Offload::None, &[cidr("10.7.0.1/16")]).await;
            sh("ip neigh add 10.7.0.2 lladdr 02:53:4d:00:00:02 dev smtest0");
            let socket = UdpSocket::bind("10.7.0.1:4000").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            // Let the kernel make a frame to the far side, and send it back.
            socket.send_to(b"echo", "10.7.0.2:4000").unwrap();
            let (_, frame) = next_frame(&device, |frame| is_udp_v4_to(frame, 4000));
            device.write_frame(VnetHeader::COMPLETE, &mut answer(&frame)).unwrap();
            let mut buffer = [0; 64];
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from.to_string().as_str()), (&b"echo"[..], "10.7.0.2:4000"));
        });
    });
}

/// The same with the sides exchanged, as a far side answers: sums do not change.
fn answer(frame: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xee; VnetHeader::LEN];
    packet.extend(
        [&frame[6..12], &frame[..6], &frame[12..26], &frame[30..34], &frame[26..30], &frame[34..]].concat(),
    );
    packet
}

/// What `plane::steering` is there for: where a flow is read follows where its answers are written, and nothing else.
#[test]
fn a_flow_is_read_from_the_queue_that_its_answers_are_written_to() {
    isolated(|| {
        block_on(async {
            let opened = Tap::open_queues(name(), Offload::Full, 2).unwrap();
            assert_eq!((opened.others.len(), opened.refused.is_none()), (1, true));
            let mut link = LinkControl::new(Arc::new(Netlink::open().unwrap()), &opened.tap);
            link.bring_up(LinkSettings::new(MAC, 1400)).await.unwrap();
            link.set_addresses(&[cidr("10.7.0.1/16")]).await.unwrap();
            let queues: Vec<_> = std::iter::once(opened.tap).chain(opened.others).map(Arc::new).collect();
            sh("ip neigh add 10.7.0.2 lladdr 02:53:4d:00:00:02 dev smtest0");
            let mut buffer = vec![0; 70_000];
            // From which queue the next frame to this port comes.
            let mut read = |port| {
                let end = Instant::now() + Duration::from_secs(2);
                loop {
                    for (number, queue) in queues.iter().enumerate() {
                        if let Some(incoming) = queue.read_frame(&mut buffer).unwrap()
                            && is_udp_v4_to(incoming.frame, port)
                        {
                            assert_eq!(incoming.header.segmentation(), Segmentation::None);
                            return (number, incoming.frame.to_vec());
                        }
                    }
                    assert!(Instant::now() < end, "nothing came to {port}");
                }
            };
            let socket = UdpSocket::bind("10.7.0.1:4000").unwrap();
            let mut seen = [0; 2];
            for port in 5000..5032 {
                socket.send_to(b"asked", ("10.7.0.2", port)).unwrap();
                let (began, frame) = read(port);
                seen[began] += 1;
                for other in [1 - began, 1 - began, began] {
                    queues[other].write_frame(VnetHeader::COMPLETE, &mut answer(&frame)).unwrap();
                    for _ in 0..3 {
                        socket.send_to(b"again", ("10.7.0.2", port)).unwrap();
                        assert_eq!(read(port).0, other, "{port}");
                    }
                }
            }
            assert!(seen[0] > 0 && seen[1] > 0, "flows that begin here are spread by the kernel: {seen:?}");
        });
    });
}

#[test]
fn the_addresses_can_be_exchanged_and_strangers_stay() {
    isolated(|| {
        block_on(async {
            let (_device, mut link) = up(Offload::None, &[cidr("10.7.0.1/16"), cidr("fd53:4d::1/64")]).await;
            sh("ip addr add 10.7.99.99/16 dev smtest0; ip addr add 192.168.77.1/24 dev smtest0");
            link.set_addresses(&[cidr("10.7.0.9/16"), cidr("fd53:4d::1/64")]).await.unwrap();
            let shown = sh("ip addr show dev smtest0");
            assert!(shown.contains("10.7.0.9/16") && shown.contains("fd53:4d::1/64"), "{shown}");
            assert!(!shown.contains("10.7.0.1/16"), "{shown}");
            assert!(shown.contains("192.168.77.1/24"), "{shown}");
            // Removed behind our back, asked for again: it comes back.
            sh("ip addr del 10.7.0.9/16 dev smtest0");
            link.set_addresses(&[cidr("10.7.0.9/16"), cidr("fd53:4d::1/64")]).await.unwrap();
            assert!(sh("ip addr show dev smtest0").contains("10.7.0.9/16"));
            // Removed by someone else, and not wanted by us either: no error.
            sh("ip addr del 10.7.0.9/16 dev smtest0");
            link.set_addresses(&[]).await.unwrap();
            assert!(!sh("ip addr show dev smtest0").contains("fd53"));
            assert!(link.addresses().is_empty());
        });
    });
}

#[test]
fn a_machine_without_ipv6_keeps_its_ipv4_address() {
    isolated(|| {
        block_on(async {
            sh("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
            let tap = Tap::open(name(), Offload::None).unwrap();
            let mut link = LinkControl::new(Arc::new(Netlink::open().unwrap()), &tap);
            link.bring_up(LinkSettings::new(MAC, 1400)).await.unwrap();
            let outcome = link.set_addresses(&[cidr("fd53:4d::1/64"), cidr("10.7.0.1/16")]).await;
            assert!(matches!(outcome, Err(LinkError::Ipv6Disabled { .. })), "{outcome:?}");
            assert!(sh("ip addr show dev smtest0").contains("10.7.0.1/16"));
            assert_eq!(link.addresses(), [cidr("10.7.0.1/16")]);
        });
    });
}

#[test]
fn a_bridge_takes_the_device_and_a_missing_one_is_named() {
    isolated(|| {
        block_on(async {
            let (_device, mut link) = up(Offload::None, &[]).await;
            assert!(!link.is_bridged());
            let missing = link.join_bridge("br9").await.unwrap_err();
            assert!(missing.to_string().starts_with("there is no bridge named br9"), "{missing}");
            sh("ip link add br0 type bridge");
            link.join_bridge("br0").await.unwrap();
            assert!(sh("ip link show dev smtest0").contains("master br0"));
            assert!(link.is_bridged());
            // Addresses are the bridge's, and only ours are taken away.
            sh("ip link set br0 up; ip address add 192.0.2.1/24 dev br0");
            link.set_addresses(&[cidr("10.7.0.1/16"), cidr("fd53:4d::1/64")]).await.unwrap();
            assert!(!sh("ip address show dev smtest0").contains("10.7.0.1"));
            let shown = sh("ip address show dev br0");
            assert!(shown.contains("10.7.0.1/16") && shown.contains("fd53:4d::1/64"), "{shown}");
            link.set_addresses(&[]).await.unwrap();
            let left = sh("ip address show dev br0");
            assert!(
                !left.contains("10.7.0.1") && !left.contains("fd53") && left.contains("192.0.2.1/24"),
                "{left}"
            );
        });
    });
}

#[test]
fn a_name_that_is_taken_is_refused_whoever_has_it() {
    isolated(|| {
        let first = Tap::open(name(), Offload::None).unwrap();
        let refuse = |name: &str| Tap::open(name.parse().unwrap(), Offload::None).unwrap_err();
        let error = refuse("smtest0");
        assert!(matches!(error, OpenError::NameTaken { .. }), "{error:?}");
        assert!(error.to_string().contains("--device"), "{error}");
        sh("ip link add other0 type veth peer name other1; ip tuntap add mode tap name idle0");
        assert!(matches!(refuse("other0"), OpenError::NameTaken { .. }));
        assert!(matches!(refuse("idle0"), OpenError::NameTaken { .. }));
        drop(first);
        Tap::open(name(), Offload::None).unwrap();
    });
}

#[test]
fn a_missing_driver_is_named() {
    isolated(|| {
        sh("mount -t tmpfs none /dev/net");
        let error = Tap::open(name(), Offload::None).unwrap_err();
        assert!(matches!(error, OpenError::NoDriver), "{error:?}");
        assert!(error.to_string().contains("modprobe tun"), "{error}");
        assert!(!std::path::Path::new("/dev/net/tun").exists(), "and no node was made");
    });
}

#[test]
fn a_process_without_the_capability_is_told() {
    isolated(|| {
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        if own.lines().any(|line| line.starts_with("CapEff") && line.trim_end().ends_with("0000000000000000"))
        {
            let error = Tap::open(name(), Offload::None).unwrap_err();
            assert!(matches!(error, OpenError::NotPermitted { .. }), "{error:?}");
            assert!(error.to_string().contains("sudo"), "{error}");
            return;
        }
        // Again, as itself, with every capability dropped; /dev/net/tun may be for root only, which root
        // still is.
        let this = std::env::current_exe().unwrap();
        let test = std::env::args().nth(1).unwrap();
        let run = format!(
            "setpriv --bounding-set=-all --inh-caps=-all {} {test} --exact --test-threads=1",
            this.display()
        );
        assert!(sh(&run).contains("1 passed"));
    });
}

#[test]
fn a_device_set_down_or_removed_says_so() {
    isolated(|| {
        block_on(async {
            let (device, mut link) = up(Offload::None, &[]).await;
            let packet = || [vec![0; VnetHeader::LEN], vec![2; 60]].concat();
            sh("ip link set smtest0 down");
            assert!(matches!(
                device.write_frame(VnetHeader::COMPLETE, &mut packet()),
                Err(DeviceFault::Down)
            ));
            sh("ip link delete smtest0");
            let mut buffer = [0; 2000];
            let read = loop {
                match device.read_frame(&mut buffer) {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("a removed device must not look idle"),
                    Err(fault) => break fault,
                }
            };
            assert!(matches!(read, DeviceFault::Gone), "{read:?}");
            let written = device.write_frame(VnetHeader::COMPLETE, &mut packet());
            assert!(matches!(written, Err(DeviceFault::Gone)), "{written:?}");
            let changed = link.bring_up(LinkSettings::new(MAC, 1400)).await;
            assert!(matches!(changed, Err(LinkError::Gone { .. })), "{changed:?}");
        });
    });
}

#[test]
fn a_frame_beyond_the_buffer_is_dropped_and_counted() {
    isolated(|| {
        block_on(async {
            let (device, _link) = up(Offload::None, &[cidr("10.7.0.1/16")]).await;
            sh("ip link set smtest0 mtu 9000; ip neigh add 10.7.0.2 lladdr 02:53:4d:00:00:02 dev smtest0");
            let socket = UdpSocket::bind((IpAddr::from([10, 7, 0, 1]), 0)).unwrap();
            socket.send_to(&[1; 8000], "10.7.0.2:4000").unwrap();
            socket.send_to(b"small", "10.7.0.2:4001").unwrap();
            let mut buffer = [0; VnetHeader::LEN + 1519];
            let end = Instant::now() + Duration::from_secs(2);
            loop {
                match device.read_frame(&mut buffer).unwrap() {
                    Some(incoming) if is_udp_v4_to(incoming.frame, 4001) => break,
                    Some(incoming) => assert!(!is_udp_v4_to(incoming.frame, 4000)),
                    None => assert!(Instant::now() < end),
                }
            }
            assert_eq!(device.drops(), DropCounts { truncated: 1, malformed: 0 });
        });
    });
}

/// What an idle device sends by itself: the daemon is woken for each of these frames.
#[test]
fn an_idle_device_is_quiet() {
    isolated(|| {
        block_on(async {
            let (device, _link) = up(Offload::None, &[cidr("10.7.0.1/16"), cidr("fd53:4d::1/64")]).await;
            let (begin, mut frames, mut buffer) = (Instant::now(), 0, [0; 2000]);
            while begin.elapsed() < Duration::from_secs(4) {
                let wait = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
                poll(&mut [PollFd::new(&device, PollFlags::IN)], Some(&wait)).unwrap();
                while let Some(Incoming { frame, .. }) = device.read_frame(&mut buffer).unwrap() {
                    frames += 1;
                    // Router solicitations (ICMPv6 type 133) would be for ever.
                    let solicits = frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 133;
                    assert!(!solicits, "a router solicitation after {:?}", begin.elapsed());
                }
            }
            // MLD reports and one neighbour solicitation, all within the first seconds.
            assert!(frames <= 12, "{frames} frames in 4 s");
        });
    });
}

/// The kernel cuts a superframe for a device that did not promise to: what it makes of one is what we make.
#[test]
fn a_superframe_is_cut_as_the_kernel_would() {
    use super::offload::superframes::{Choice, all, made};
    use super::offload::{Kind, Merge, Superframe};
    isolated(|| {
        block_on(async {
            sh(
                "sysctl -qw net.ipv6.conf.default.disable_ipv6=1; ip link add br0 type bridge mcast_snooping 0; ip link set br0 up",
            );
            let netlink = Arc::new(Netlink::open().unwrap());
            let mut ports = Vec::new();
            for (name, offload) in [("smtest0", Offload::Full), ("smtest1", Offload::None)] {
                let tap = Arc::new(Tap::open(name.parse().unwrap(), offload).unwrap());
                let mut link = LinkControl::new(Arc::clone(&netlink), &tap);
                link.bring_up(LinkSettings::new(MAC, 1500)).await.unwrap();
                link.join_bridge("br0").await.unwrap();
                ports.push((Device::Tap(tap), link));
            }
            let [(into, _), (out, _)] = &ports[..] else { unreachable!("two were made") };
            let payload: Vec<u8> = (0..20_000_u32).map(|n| (n * 7 % 253) as u8).collect();
            let plain = Choice {
                tags: 0,
                is_v6: false,
                is_tcp: true,
                ip_options: 0,
                tcp_options: 3,
                flags: 0x99,
                size: 1348,
            };
            for choice in [
                plain,
                Choice { is_v6: true, ..plain },
                Choice { tags: 1, ..plain },
                Choice { ip_options: 2, ..plain },
                Choice { ip_options: 1, is_v6: true, ..plain },
                Choice { flags: 0x10, size: 536, tcp_options: 0, ..plain },
                Choice { is_tcp: false, ..plain },
                Choice { is_tcp: false, is_v6: true, ..plain },
            ] {
                let made = made(choice, &payload);
                let expected = all(&Superframe::new(&made.header, &made.frame).unwrap(), None);
                let header = if choice.flags & 0x80 != 0 && choice.is_tcp {
                    VnetHeader { gso_type: made.header.gso_type | 0x80, ..made.header }
                } else {
                    made.header
                };
                let mut packet = [&[0; VnetHeader::LEN], &made.frame[..]].concat();
                into.write_frame(header, &mut packet).unwrap();
                let is_ours = |frame: &[u8]| frame[..12] == made.frame[..12];
                let came_out = |what: &str| {
                    for (n, segment) in expected.iter().enumerate() {
                        let (_, frame) = next_frame(out, is_ours);
                        assert_eq!(&frame, segment, "segment {n} of {choice:?}, {what}");
                    }
                };
                came_out("as it was made");
                // Put together from the segments it is taken as well, and stands for the same.
                let mut merge = Merge::new();
                for segment in &expected {
                    merge.space(segment.len()).unwrap()[1..].copy_from_slice(segment);
                    let Kind::Data(kind) = Kind::of(merge.opened()) else { panic!("{choice:?}") };
                    assert!(merge.keep(kind, false), "{choice:?}");
                }
                let (header, packet) = merge.finish().unwrap();
                assert_ne!(header.segmentation(), Segmentation::None);
                into.write_frame(header, packet).unwrap();
                came_out("as it was put together");
            }
        });
    });
}
