//! Direct connections that take little, or nothing.

use super::*;
use shadowmesh_proto::path::select::PathKind;

/// A direct connection of which somebody may take something.
pub(super) fn link(a: &mut Node) -> (TcpLink, StreamHandle, StreamQueue) {
    let link = TcpLink { number: 1, remote: "192.0.2.1:5".parse().unwrap() };
    let (handle, queue) = stream_queue(a.plane.outbound_waker());
    a.snapshot.links = vec![(link, handle.clone())];
    (link, handle, queue)
}

#[test]
fn a_peer_that_reads_its_connection_slowly_holds_up_nobody_else() {
    let (mut a, b, c) = (Node::new(1, &[2, 3]), Node::new(2, &[1]), Node::new(3, &[1]));
    let slow = PeerSlot(1);
    join(&a, PEER, &b, PEER, 1);
    join(&a, slow, &c, PEER, 2);
    // Nobody ever takes anything out of it.
    let (link, handle, _queue) = link(&mut a);
    a.reroute(slow, Some(Via::Tcp(link)), &[]);
    a.route(PEER, Some(CHANNEL));
    let is_counted = |a: &Node, n: u32| {
        let counters = a.counters(slow);
        // A megabyte may wait.
        counters.tx_frames.load(Relaxed) + counters.tx_dropped.load(Relaxed) + 1_048 >= u64::from(n)
    };
    // In steps that the device holds.
    for step in 0..6u32 {
        for n in 0..1_000 {
            a.send(3, 1_000 * step + n, 1000);
        }
        until("every frame to be counted", || is_counted(&a, 1_000 * (step + 1)));
    }
    assert!(a.counters(slow).tx_dropped.load(Relaxed) > 0, "no backlog is endless");
    assert!(!handle.has_room());
    for n in 0..100 {
        a.send(2, n, 500);
    }
    assert_eq!(numbers(&carry(&mut a, &b, 100)), (0..100).collect::<Vec<_>>());
    assert_eq!(a.counters(PEER).tx_dropped.load(Relaxed), 0);
    assert_eq!(a.counters(slow).lost.load(Relaxed), 0, "what was dropped was never sealed");
}

#[test]
fn what_a_connection_did_not_take_before_it_was_in_doubt_goes_by_the_next_path() {
    let (mut a, b, marks) = two();
    let (link, handle, _queue) = link(&mut a);
    a.reroute(PEER, Some(Via::Tcp(link)), &[]);
    // More than its queue takes.
    (0..300).for_each(|n| a.send(2, n, 1000));
    until("the queue to be full", || !handle.has_room());
    a.reroute(PEER, Some(CHANNEL.into()), &[PathKind::DirectTcp.slot()]);
    a.send(2, 300, 1000);
    let mut received = vec![];
    while received.len() < 301 {
        received.extend(carry(&mut a, &b, 1));
        marks.record(&[], received.len() as u64);
    }
    assert_eq!(numbers(&received), (0..301).collect::<Vec<_>>());
    assert_eq!(a.counters(PEER).tx_dropped.load(Relaxed), 0);
    assert_eq!(a.counters(PEER).lost.load(Relaxed), 0);
}
