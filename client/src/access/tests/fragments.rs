//! Packets in pieces.

use super::super::limits::{FRAGMENT_LIFE, FRAGMENTS};
use super::crafted::{Ip, SYN, icmp, tcp, udp, v4};
use super::{A, B, FRAGMENT, MALFORMED, NOT_ALLOWED, Node, PASS};

fn first(is_v6: bool, id: u32, port: u16) -> Vec<u8> {
    Ip::received(is_v6, 17, udp(9, port)).fragment(id, 0, true).frame()
}

fn later(is_v6: bool, id: u32) -> Ip {
    Ip::received(is_v6, 17, vec![0; 64]).fragment(id, 3, false)
}

#[test]
fn later_fragments_follow_the_verdict_on_the_first() {
    for is_v6 in [false, true] {
        let mut node = Node::new("allow any -> any udp 53");
        assert_eq!(node.judge(A, &later(is_v6, 7).frame()), FRAGMENT, "before the first");
        assert_eq!(node.judge(A, &first(is_v6, 7, 54)), NOT_ALLOWED);
        assert_eq!(node.judge(A, &later(is_v6, 7).frame()), FRAGMENT, "of one that did not pass");
        assert_eq!(node.judge(A, &first(is_v6, 7, 53)), PASS);
        for _ in 0..3 {
            assert_eq!(node.judge(A, &later(is_v6, 7).frame()), PASS);
        }
        assert_eq!(node.judge(A, &later(is_v6, 8).frame()), FRAGMENT, "of another packet");
        assert_eq!(node.judge(B, &later(is_v6, 7).frame()), FRAGMENT, "of another peer");
        let other_source = if is_v6 { vec![9; 16] } else { v4(9) };
        assert_eq!(node.judge(A, &Ip { source: other_source, ..later(is_v6, 7) }.frame()), FRAGMENT);
        assert_eq!(
            node.judge(A, &Ip { protocol: 6, ..later(is_v6, 7) }.fragment(7, 9, false).frame()),
            FRAGMENT
        );
        assert_eq!(node.judge(A, &later(is_v6, 7).tagged(&[(0x8100, 4)]).frame()), FRAGMENT);
        node.wait(FRAGMENT_LIFE);
        assert_eq!(node.judge(A, &later(is_v6, 7).frame()), PASS);
        node.wait_s(2);
        assert_eq!(node.judge(A, &later(is_v6, 7).frame()), FRAGMENT, "too late");
    }
}

#[test]
fn where_a_whole_protocol_is_allowed_no_first_fragment_is_needed() {
    let node = Node::new("allow any -> any udp\nallow any -> any tcp 22");
    assert_eq!(node.judge(A, &later(false, 7).frame()), PASS);
    assert_eq!(node.judge(A, &Ip { protocol: 6, ..later(false, 7) }.frame()), FRAGMENT);
    assert_eq!(node.judge(A, &Ip { protocol: 47, ..later(true, 7) }.frame()), FRAGMENT);
}

#[test]
fn a_tcp_header_that_was_judged_is_not_written_over() {
    let node = Node::new("allow any -> any tcp 22");
    let part = |offset| Ip::received(false, 6, vec![0; 64]).fragment(7, offset, true).frame();
    assert_eq!(node.judge(A, &Ip::received(false, 6, tcp(9, 22, SYN)).fragment(7, 0, true).frame()), PASS);
    assert_eq!([1, 2, 3, 100].map(|offset| node.judge(A, &part(offset))), [FRAGMENT, FRAGMENT, PASS, PASS]);
    // In IPv6 the protocol that a later piece names counts for nobody; so one of which all is allowed is no disguise.
    let node = Node::new("allow any -> any tcp 22\nallow any -> any proto 50");
    let piece = |offset| Ip::received(true, 50, vec![0; 64]).fragment(7, offset, true).frame();
    assert_eq!([1, 2, 3].map(|offset| node.judge(A, &piece(offset))), [FRAGMENT, FRAGMENT, PASS]);
    let tiny = Ip::received(false, 6, tcp(9, 22, SYN)[..16].to_vec()).fragment(8, 0, true).frame();
    assert_eq!(node.judge(A, &tiny), MALFORMED);
}

#[test]
fn answers_come_in_fragments_too() {
    let node = Node::closed();
    node.send(A, &Ip::sent(false, 17, udp(40_000, 53)).frame());
    node.send(A, &Ip::sent(false, 1, icmp(8, 3)).fragment(1, 0, true).frame());
    node.send(A, &Ip::sent(false, 1, vec![0; 64]).fragment(1, 3, false).frame());
    for (protocol, payload) in [(17, udp(53, 40_000)), (1, icmp(0, 3))] {
        assert_eq!(node.judge(A, &Ip::received(false, protocol, payload).fragment(5, 0, true).frame()), PASS);
        let rest = Ip::received(false, protocol, vec![0; 64]);
        assert_eq!(node.judge(A, &rest.clone().fragment(5, 3, false).frame()), PASS);
        assert_eq!(node.judge(A, &rest.fragment(6, 3, false).frame()), FRAGMENT);
    }
    // A later fragment that is sent asks for nothing.
    let node = Node::closed();
    node.send(A, &Ip::sent(false, 47, vec![0; 64]).fragment(1, 3, false).frame());
    assert_eq!(node.judge(A, &Ip::received(false, 47, vec![]).frame()), NOT_ALLOWED);
}

#[test]
fn a_peer_with_many_packets_in_pieces_forgets_its_own() {
    let node = Node::new("allow any -> any udp 53");
    assert_eq!(node.judge(B, &first(false, 7, 53)), PASS);
    let many = u32::try_from(FRAGMENTS * 20).expect("few");
    for id in 0..many {
        assert_eq!(node.judge(A, &first(true, id, 53)), PASS);
        assert_eq!(node.judge(A, &later(true, id).frame()), PASS, "the newest is always remembered");
    }
    let remembered = (0..many).filter(|id| node.judge(A, &later(true, *id).frame()) == PASS).count();
    assert!((FRAGMENTS / 2..=FRAGMENTS).contains(&remembered), "{remembered}");
    assert_eq!(node.judge(B, &later(false, 7).frame()), PASS);
}
