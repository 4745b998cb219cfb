//! Frames of the device that stand for several.

use super::*;
use crate::device::VnetHeader;
use crate::device::offload::Superframe;
use crate::device::offload::superframes::{Choice, all, made};
use crate::switch::{BitRate, FloodBudget, Protection, Reach};
use shadowmesh_proto::wire::header::DATA_OVERHEAD;
use std::sync::atomic::AtomicU64;

const TCP: Choice =
    Choice { tags: 0, is_v6: false, is_tcp: true, ip_options: 0, tcp_options: 3, flags: 0x18, size: 1348 };
const ROOM: usize = 1232;

/// From node 1 to node 2, of 20,000 bytes, and what it is when it is cut so.
fn superframe(choice: Choice, longest: Option<usize>) -> (VnetHeader, Vec<u8>, Vec<Vec<u8>>) {
    let payload: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
    let made = made(choice, &payload);
    let segments = all(&Superframe::new(&made.header, &made.frame).unwrap(), longest);
    (made.header, made.frame, segments)
}

fn write(a: &Node, header: VnetHeader, frame: &[u8]) {
    a.wire.write_frame(header, &mut [&[0; VnetHeader::LEN], frame].concat()).unwrap();
}

#[test]
fn a_superframe_arrives_as_the_frames_that_it_stands_for_and_each_is_counted() {
    let (mut a, b, _) = two();
    let (header, frame, segments) = superframe(TCP, None);
    write(&a, header, &frame);
    a.send(2, 7, 100);
    let mut received = carry(&mut a, &b, segments.len() + 1);
    assert_eq!(number(&received.pop().unwrap()), 7, "what was read later comes later");
    assert_eq!(received, segments);
    assert_eq!(a.counters(PEER).tx_frames.load(Relaxed), segments.len() as u64 + 1);
}

#[test]
fn tcp_is_cut_to_what_goes_there_whole_and_udp_is_not() {
    let (mut a, b, _) = two();
    a.snapshot.peers[0].room = Some(ROOM);
    a.publish();
    let (header, frame, segments) = superframe(TCP, Some(ROOM - DATA_OVERHEAD));
    write(&a, header, &frame);
    let received = carry(&mut a, &b, segments.len());
    assert!(received.iter().all(|frame| frame.len() + DATA_OVERHEAD <= ROOM));
    assert_eq!(received, segments);

    let udp = Choice { is_tcp: false, ..TCP };
    let (header, frame, segments) = superframe(udp, None);
    write(&a, header, &frame);
    assert_eq!(carry(&mut a, &b, segments.len()), segments);
}

#[test]
fn a_superframe_to_all_is_cut_for_each_as_his_path_is() {
    let (mut a, b, c) = (Node::new(1, &[2, 3]), Node::new(2, &[1]), Node::new(3, &[1]));
    join(&a, PeerSlot(0), &b, PEER, 1);
    join(&a, PeerSlot(1), &c, PEER, 2);
    a.snapshot.peers[1].room = Some(ROOM);
    a.route(PeerSlot(0), Some(CHANNEL));
    a.route(PeerSlot(1), Some(OTHER));
    let (header, mut frame, mut whole) = superframe(TCP, None);
    let (_, _, mut narrow) = superframe(TCP, Some(ROOM - DATA_OVERHEAD));
    frame[..6].fill(0xff);
    whole.iter_mut().chain(&mut narrow).for_each(|segment| segment[..6].fill(0xff));
    write(&a, header, &frame);
    let mut received = [vec![], vec![]];
    until("both to have it", || {
        let queue = a.queue.as_mut().unwrap();
        while let Some(message) = queue.try_next() {
            queue.on_sent(message.len());
            let is_b = Forward::parse(&message).unwrap().channel == CHANNEL.channel;
            if is_b { &b } else { &c }.deliver(CHANNEL, &message);
        }
        for (node, received) in [&b, &c].into_iter().zip(&mut received) {
            while let Some(frame) = node.wire.receive().unwrap() {
                received.push(frame);
            }
        }
        received[0].len() >= whole.len() && received[1].len() >= narrow.len()
    });
    assert_eq!(received, [whole, narrow]);
}

#[test]
fn behind_a_header_that_members_do_not_know_checksums_are_made() {
    let (mut a, b, _) = two();
    // A host identity protocol header (RFC 7401), which is none of those that are walked, in front of what is said to be TCP there.
    let (header, mut frame, _) = superframe(Choice { is_v6: true, ..TCP }, None);
    let (network, transport) = (14, usize::from(header.checksum_start));
    let next = std::mem::replace(&mut frame[network + 6], 139);
    frame.splice(transport..transport, [next, 0, 0, 0, 0, 0, 0, 0]);
    let len = u16::from_be_bytes([frame[network + 4], frame[network + 5]]) + 8;
    frame[network + 4..network + 6].copy_from_slice(&len.to_be_bytes());
    let header =
        VnetHeader { checksum_start: header.checksum_start + 8, header_len: header.header_len + 8, ..header };
    let segments = all(&Superframe::new(&header, &frame).unwrap(), None);
    write(&a, header, &frame);
    assert_eq!(carry(&mut a, &b, segments.len()), segments);
}

#[test]
fn a_superframe_to_all_costs_what_leaves_and_not_what_the_kernel_handed_over() {
    let (mut a, _b, _) = two();
    a.protect(Protection { flood_budget: FloodBudget::Rate(BitRate::MIN), ..Protection::default() });
    // A byte in each of a hundred datagrams: 4.3 KB of frames, of which 48 KiB may go at once.
    let made = made(Choice { is_tcp: false, tcp_options: 0, size: 1, ..TCP }, &[7; 100]);
    let mut frame = made.frame;
    frame[..6].fill(0xff);
    (0..40).for_each(|_| write(&a, made.header, &frame));
    let broadcasts = |counts: &[AtomicU64; 4]| counts[Reach::Broadcast.index()].load(Relaxed);
    let passed = |a: &Node| broadcasts(&a.counters(PEER).tx_flooded);
    let refused = |a: &Node| broadcasts(&a.counters(PEER).tx_over_budget);
    until("all to be looked at", || passed(&a) + refused(&a) == 40);
    assert!((11..=13).contains(&passed(&a)), "{} passed", passed(&a));
}

#[test]
fn one_that_cannot_be_cut_is_dropped_and_counted() {
    let (mut a, b, _) = two();
    let (header, frame, _) = superframe(TCP, None);
    write(&a, VnetHeader { checksum_offset: 6, ..header }, &frame);
    a.send(2, 7, 100);
    assert_eq!(numbers(&carry(&mut a, &b, 1)), [7]);
    assert_eq!(a.counters(PEER).tx_frames.load(Relaxed), 1);
}
