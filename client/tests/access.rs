//! Judging and noting frames takes no memory but the tables of a peer, which are taken once (architecture: "No lock and no
//! allocation per packet").

use shadowmesh::access::{Access, AccessDrop, Verdict};
use shadowmesh_proto::ids::{NodeId, PeerSlot};
use shadowmesh_proto::rules::{Rules, Subject};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

const PEER: PeerSlot = PeerSlot(0);

thread_local! {
    /// Allocations of this thread; the harness has threads of its own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is passed to the system's allocator as it came; counting allocates nothing, since the cell needs no
// initialisation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn member(byte: u8, name: &str) -> Subject {
    Subject { id: NodeId([byte; 32]), name: name.to_owned(), tags: vec![] }
}

/// UDP over IPv4 in a frame; a fragment if `flags` say so.
fn datagram(from: [u8; 4], to: [u8; 4], ports: (u16, u16), flags: [u8; 2]) -> Vec<u8> {
    let ethernet = [&[2; 12][..], &[0x08, 0]].concat();
    let ip = [&[0x45, 0, 0, 28, 0, 9][..], &flags, &[64, 17, 0, 0], &from, &to].concat();
    let udp = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), [0, 8], [0, 0]].concat();
    [ethernet, ip, udp].concat()
}

#[test]
fn packets_cost_no_allocation() {
    let now = Instant::now();
    let mut access = Access::new(now, member(1, "here"));
    let rules = "allow name:there -> any udp 53,5353\nallow name:here -> any";
    access.set_rules(now, Rules::parse(rules.as_bytes()).expect("rules"));
    access.set_peer(now, PEER, member(2, "there"));
    let filter = access.filter().expect("one");

    let (here, there) = ([10, 7, 0, 1], [10, 7, 0, 2]);
    let frames: Vec<_> = (0..200u16)
        .map(|n| {
            let question = datagram(here, there, (40_000 + n, 123), [0, 0]);
            (question, datagram(there, here, (123, 40_000 + n), [0, 0]))
        })
        .collect();
    let allowed = datagram(there, here, (9, 53), [0x20, 0]);
    let rest = datagram(there, here, (0, 0), [0, 3]);
    let denied = datagram(there, here, (9, 54), [0, 0]);
    let around = |rounds: u64| {
        let before = ALLOCATIONS.get();
        for _ in 0..rounds {
            for (question, answer) in &frames {
                filter.note(now, PEER, question);
                assert_eq!(filter.judge(now, PEER, answer), Verdict::Pass);
            }
            assert_eq!(filter.judge(now, PEER, &allowed), Verdict::Pass);
            assert_eq!(filter.judge(now, PEER, &rest), Verdict::Pass);
            assert_eq!(filter.judge(now, PEER, &denied), Verdict::Drop(AccessDrop::NotAllowed));
            assert_eq!(filter.judge(now, PEER, &denied[..30]), Verdict::Drop(AccessDrop::Malformed));
        }
        ALLOCATIONS.get() - before
    };
    assert_eq!(around(1), 2, "the counter counts: one table of flows, one of fragments");
    assert_eq!(around(50), 0);
}
