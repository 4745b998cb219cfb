//! Rules and members that change while connections are open.

use super::super::limits;
use super::crafted::{ACK, FIN, Ip, RST, SYN, SYN_ACK, icmp_error, tcp, udp};
use super::{A, B, NOT_ALLOWED, Node, PASS, UNKNOWN, member};
use shadowmesh_proto::ids::PeerSlot;

const CLOSED: &str = "allow name:here -> any";
const SSH: &str = "allow name:a,name:here -> any tcp 22";

/// Both directions of a connection that the peer began to port 22 here ...
fn theirs(flags: u8) -> (Vec<u8>, Vec<u8>) {
    (
        Ip::sent(false, 6, tcp(22, 50_000, flags)).frame(),
        Ip::received(false, 6, tcp(50_000, 22, flags)).frame(),
    )
}

/// ... and of one that this node began to port 443 there.
fn ours(flags: u8) -> (Vec<u8>, Vec<u8>) {
    (
        Ip::sent(false, 6, tcp(50_001, 443, flags)).frame(),
        Ip::received(false, 6, tcp(443, 50_001, flags)).frame(),
    )
}

/// Opens both.
fn open_both(node: &Node) {
    assert_eq!(node.judge(A, &theirs(SYN).1), PASS);
    node.send(A, &theirs(SYN_ACK).0);
    assert_eq!(node.judge(A, &theirs(ACK).1), PASS);
    node.send(A, &theirs(ACK).0);
    node.send(A, &ours(SYN).0);
    assert_eq!(node.judge(A, &ours(SYN_ACK).1), PASS);
}

#[test]
fn what_the_peer_began_is_cut_when_the_rules_forbid_it_and_what_this_node_began_goes_on() {
    let mut node = Node::new(SSH);
    open_both(&node);
    node.set_rules(CLOSED);
    for wait in [0, 1, limits::GRACE.as_secs(), 3_600] {
        node.wait_s(wait);
        // The server here goes on trying; that makes nothing of it ours.
        node.send(A, &theirs(ACK).0);
        node.send(A, &theirs(FIN | ACK).0);
        for flags in [SYN, ACK, SYN_ACK, FIN | ACK, RST] {
            assert_eq!(node.judge(A, &theirs(flags).1), NOT_ALLOWED, "{flags} after {wait} s");
        }
        assert_eq!(node.judge(A, &ours(ACK).1), PASS);
    }
    let about_theirs = Ip::sent(false, 6, tcp(22, 50_000, ACK)).packet();
    let error = Ip::received(false, 1, icmp_error(3, &about_theirs, 28)).frame();
    assert_eq!(node.judge(A, &error), NOT_ALLOWED, "nor are errors about it ours");
    node.set_rules(SSH);
    assert_eq!((node.judge(A, &theirs(ACK).1), node.judge(A, &error)), (PASS, PASS), "allowed again");
}

#[test]
fn who_leaves_and_returns_is_remembered() {
    let mut node = Node::new(SSH);
    open_both(&node);
    node.set_rules(CLOSED);
    node.change(|access, _| access.remove_peer(A));
    assert_eq!(node.judge(A, &ours(ACK).1), UNKNOWN);
    let other = PeerSlot(5);
    node.change(|access, now| access.set_peer(now, other, member("a")));
    node.send(other, &theirs(ACK).0);
    assert_eq!(node.judge(other, &theirs(ACK).1), NOT_ALLOWED, "as it was");
    assert_eq!(node.judge(other, &ours(ACK).1), PASS, "as it was");
    // Another member in the old slot has nothing of it.
    node.change(|access, now| access.set_peer(now, A, member("c")));
    assert_eq!(node.judge(A, &ours(ACK).1), NOT_ALLOWED);
    node.send(A, &ours(SYN).0);
    assert_eq!(node.judge(A, &ours(SYN_ACK).1), PASS);
    node.change(|access, now| access.set_peer(now, A, member("d")));
    assert_eq!(node.judge(A, &ours(SYN_ACK).1), NOT_ALLOWED, "though nobody said that the one before left");
}

#[test]
fn so_many_who_left_are_remembered_and_no_more() {
    let mut node = Node::new(CLOSED);
    node.send(A, &ours(SYN).0);
    node.change(|access, _| access.remove_peer(A));
    let returns = |node: &mut Node| {
        node.change(|access, now| access.set_peer(now, A, member("a")));
        let verdict = node.judge(A, &ours(SYN_ACK).1);
        node.change(|access, _| access.remove_peer(A));
        verdict
    };
    let come_and_go = |node: &mut Node, count: usize| {
        for n in 0..count {
            let mut passer_by = member("x");
            passer_by.id.0[1] = u8::try_from(n).expect("few");
            node.change(|access, now| access.set_peer(now, PeerSlot(9), passer_by));
            node.change(|access, _| access.remove_peer(PeerSlot(9)));
        }
    };
    come_and_go(&mut node, limits::PARTED - 1);
    assert_eq!(returns(&mut node), PASS);
    come_and_go(&mut node, limits::PARTED);
    assert_eq!(returns(&mut node), NOT_ALLOWED);
}

#[test]
fn the_first_rules_cut_nothing_that_is_open_but_let_nothing_begin() {
    let mut node = Node::new("");
    // Nothing is remembered of these, for nothing was restricted.
    open_both(&node);
    node.set_rules(CLOSED);
    assert_eq!(
        node.judge(A, &ours(ACK).1),
        PASS,
        "a download in which this node has nothing to say before more comes"
    );
    assert_eq!(node.judge(A, &ours(SYN).1), NOT_ALLOWED);
    assert_eq!(node.judge(A, &Ip::received(false, 17, udp(53, 40_000)).frame()), NOT_ALLOWED, "TCP alone");
    node.send(A, &ours(ACK).0);
    node.wait(limits::GRACE);
    assert_eq!(node.judge(A, &ours(ACK).1), PASS, "known by what was sent");
    assert_eq!(node.judge(A, &theirs(ACK).1), NOT_ALLOWED, "nothing was sent");
}

#[test]
fn nothing_goes_on_that_this_node_may_not_have_begun() {
    let mut node = Node::new("");
    open_both(&node);
    node.set_rules("allow name:here -> any tcp 443");
    for _ in 0..2 {
        assert_eq!((node.judge(A, &ours(ACK).1), node.judge(A, &theirs(ACK).1)), (PASS, NOT_ALLOWED));
        for flags in [ACK, FIN | ACK] {
            node.send(A, &ours(ACK).0);
            node.send(A, &theirs(flags).0);
            assert_eq!((node.judge(A, &ours(ACK).1), node.judge(A, &theirs(ACK).1)), (PASS, NOT_ALLOWED));
        }
        node.wait(limits::GRACE);
    }
    // The other one may neither begin nor be begun.
    node.set_rules("deny any -> any");
    assert_eq!(node.judge(B, &ours(ACK).1), NOT_ALLOWED);
}

#[test]
fn a_daemon_that_begins_is_lenient_once() {
    let mut node = Node::young(CLOSED);
    assert_eq!((node.judge(A, &ours(ACK).1), node.judge(A, &ours(SYN).1)), (PASS, NOT_ALLOWED));
    node.wait(limits::GRACE);
    assert_eq!(node.judge(A, &ours(ACK).1), NOT_ALLOWED);
    node.change(|access, now| access.set_peer(now, PeerSlot(3), member("e")));
    assert_eq!(node.judge(PeerSlot(3), &ours(ACK).1), NOT_ALLOWED, "who comes later finds no leniency");
    // Rules that say the same for the pair change nothing.
    node.set_rules("allow name:here -> any\nallow name:b -> name:b");
    assert_eq!(node.judge(A, &ours(ACK).1), NOT_ALLOWED);
}

#[test]
fn what_the_rules_let_in_is_known_once_they_do_not() {
    let mut node = Node::new("allow any -> any tcp");
    node.send(A, &ours(SYN).0);
    assert_eq!(node.judge(A, &ours(SYN_ACK).1), PASS);
    node.set_rules(CLOSED);
    assert_eq!(node.judge(A, &ours(ACK).1), PASS);
    node.send(A, &ours(ACK).0);
    node.wait(limits::GRACE);
    assert_eq!(node.judge(A, &ours(ACK).1), PASS);
}

#[test]
fn what_answers_a_question_that_the_rules_let_in_is_no_question() {
    let mut node = Node::new("allow any -> any udp 53\nallow any -> any proto 47");
    let (answer, question) = (Ip::sent(false, 17, udp(53, 40_000)), Ip::received(false, 17, udp(40_000, 53)));
    assert_eq!(node.judge(A, &question.frame()), PASS);
    node.send(A, &answer.frame());
    node.send(A, &Ip::sent(false, 47, vec![]).frame());
    node.set_rules(CLOSED);
    assert_eq!(node.judge(A, &question.frame()), NOT_ALLOWED);
    assert_eq!(node.judge(A, &Ip::received(false, 47, vec![]).frame()), NOT_ALLOWED);
}

#[test]
fn marks_about_the_peers_connections_push_out_none_of_ours() {
    let mut node = Node::new(SSH);
    node.send(A, &ours(SYN).0);
    assert_eq!(node.judge(A, &ours(SYN_ACK).1), PASS);
    for port in 1..60_000 {
        node.send(A, &Ip::sent(false, 6, tcp(22, port, SYN_ACK)).frame());
    }
    assert_eq!(node.judge(A, &ours(ACK).1), PASS);
    node.set_rules(CLOSED);
    let cut = (50_000..60_000).filter(|port| {
        let segment = Ip::received(false, 6, tcp(*port, 22, ACK)).frame();
        node.judge(A, &segment) == NOT_ALLOWED
    });
    let (cut, room) = (cut.count(), limits::FLOWS);
    assert!((room * 3 / 4..=room).contains(&cut), "{cut} of the last connections are known to be the peer's");
}

#[test]
fn flows_of_one_peer_do_not_push_out_those_of_another() {
    let node = Node::closed();
    node.send(B, &ours(SYN).0);
    assert_eq!(node.judge(B, &ours(SYN_ACK).1), PASS);
    node.send(A, &ours(SYN).0);
    for port in 1..60_000 {
        node.send(A, &Ip::sent(false, 17, udp(port, 53)).frame());
        let answer = Ip::received(false, 17, udp(53, port)).frame();
        assert_eq!(node.judge(A, &answer), PASS, "the newest is always remembered");
    }
    assert_eq!(node.judge(A, &ours(SYN_ACK).1), NOT_ALLOWED, "what was not answered gives way");
    assert_eq!(node.judge(B, &ours(ACK).1), PASS);
}

#[test]
fn a_member_is_judged_by_the_tags_it_has_now() {
    let mut node = Node::new("allow tag:is-a -> any tcp 22\nallow name:here -> any");
    assert_eq!((node.judge(A, &theirs(SYN).1), node.judge(B, &theirs(SYN).1)), (PASS, NOT_ALLOWED));
    node.change(|access, now| {
        let mut b = member("b");
        b.tags.push("is-a".to_owned());
        access.set_peer(now, B, b);
        let mut a = member("a");
        a.tags.clear();
        access.set_peer(now, A, a);
    });
    assert_eq!((node.judge(A, &theirs(SYN).1), node.judge(B, &theirs(SYN).1)), (NOT_ALLOWED, PASS));
    node.set_rules("allow name:b -> name:there");
    assert_eq!(node.judge(B, &theirs(SYN).1), NOT_ALLOWED, "another node");
    node.set_rules("allow name:b -> tag:is-here");
    assert_eq!(node.judge(B, &theirs(SYN).1), PASS);
}

/// A peer that shows this today and that tomorrow, and nothing in between.
#[test]
fn a_peer_that_changes_itself_finds_no_leniency() {
    let mut node = Node::new("deny tag:is-a -> any\nallow any -> any");
    let by_id = || shadowmesh_proto::rules::Subject::by_id(member("a").id);
    for is_removed in [false, true] {
        let other = by_id();
        node.change(|access, now| {
            if is_removed {
                access.remove_peer(A);
            }
            access.set_peer(now, A, other);
        });
        assert_eq!(node.judge(A, &theirs(SYN).1), PASS, "nothing is forbidden to it");
        node.change(|access, now| access.set_peer(now, A, member("a")));
        for flags in [ACK, SYN] {
            assert_eq!((flags, node.judge(A, &theirs(flags).1)), (flags, NOT_ALLOWED));
            assert_eq!((flags, node.judge(A, &ours(flags).1)), (flags, NOT_ALLOWED));
        }
        // The rules change, and what is under way is not cut.
        node.set_rules("deny tag:is-a -> any\nallow name:here -> any\nallow any -> any");
        node.wait(limits::GRACE);
    }
}
