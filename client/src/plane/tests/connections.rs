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
        counters.tx_frames.load(Relaxed) + counters.tx_dropped.load(Relaxed) == u64::from(n)
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
    let (mut a, b, _) = two();
    let (link, handle, _queue) = link(&mut a);
    a.reroute(PEER, Some(Via::Tcp(link)), &[]);
    // Several times what its queue takes.
    seal(&mut a, 0..2_000, 1000);
    assert!(!handle.has_room());
    a.reroute(PEER, Some(CHANNEL.into()), &[PathKind::DirectTcp.slot()]);
    a.send(2, 2_000, 1000);
    assert_eq!(numbers(&carry(&mut a, &b, 2_001)), (0..2_001).collect::<Vec<_>>());
    assert_eq!(a.counters(PEER).tx_dropped.load(Relaxed), 0);
    assert_eq!(a.counters(PEER).lost.load(Relaxed), 0);
}

#[test]
fn a_connection_that_takes_a_little_is_given_no_more_than_that() {
    let (mut a, b, _) = two();
    let (link, handle, mut queue) = link(&mut a);
    a.reroute(PEER, Some(Via::Tcp(link)), &[]);
    seal(&mut a, 0..1_000, 1000);
    assert!(!handle.has_room());
    let (sealed, dropped) = (a.counters(PEER).tx_frames.load(Relaxed), &a.counters(PEER).tx_dropped);
    // A message leaves, the queue is full again by what waited, and everything new is dropped.
    let taken = queue.try_next().unwrap();
    queue.on_sent(taken.len());
    a.send(2, 1_000, 1000);
    until("the frame to be dropped", || dropped.load(Relaxed) == 1);
    // All of it leaves: what waited comes first and in order, and there is room.
    let all = std::cell::RefCell::new(Vec::new());
    let empty = |queue: &mut StreamQueue| {
        let mut queued = 0;
        while let Some(message) = queue.try_next() {
            b.deliver(CHANNEL, &message);
            queued += message.len();
        }
        queue.on_sent(queued);
        while let Some(frame) = b.wire.receive().unwrap() {
            all.borrow_mut().push(number(&frame));
        }
        all.borrow().len()
    };
    b.deliver(CHANNEL, &taken);
    until("what waited", || empty(&mut queue) == 1_000);
    a.send(2, 1_001, 1000);
    until("a frame that has room", || empty(&mut queue) == 1_001);
    assert_eq!(all.into_inner(), (0..1_000).chain([1_001]).collect::<Vec<_>>());
    assert_eq!(a.counters(PEER).tx_frames.load(Relaxed), sealed + 1);
}
