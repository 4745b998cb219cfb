//! What passes because this node asked for it, and for how long.

use super::super::limits;
use super::crafted::{
    ACK, FIN, Ip, RST, SYN, SYN_ACK, THERE, echo_kinds, icmp, icmp_error, icmp_of, tcp, udp, v4, v6,
};
use super::{A, B, NOT_ALLOWED, Node, PASS};
use std::time::Duration;

const NEAR: u16 = 40_000;
const FAR: u16 = 443;

fn sent_tcp(is_v6: bool, flags: u8) -> Vec<u8> {
    Ip::sent(is_v6, 6, tcp(NEAR, FAR, flags)).frame()
}

fn received_tcp(is_v6: bool, flags: u8) -> Vec<u8> {
    Ip::received(is_v6, 6, tcp(FAR, NEAR, flags)).frame()
}

fn sent_udp() -> Vec<u8> {
    Ip::sent(false, 17, udp(NEAR, 53)).frame()
}

fn received_udp() -> Vec<u8> {
    Ip::received(false, 17, udp(53, NEAR)).frame()
}

/// Asserts that `frame` of A passes for `life` from now on, and not for two seconds more.
#[track_caller]
fn lives(node: &mut Node, frame: &[u8], life: Duration) {
    let begun = node.now;
    // The later moment first: what passes makes a flow young again.
    node.now = begun + life + Duration::from_secs(2);
    assert_eq!(node.judge(A, frame), NOT_ALLOWED, "after {life:?}");
    node.now = begun + life;
    assert_eq!(node.judge(A, frame), PASS, "at {life:?}");
}

#[test]
fn answers_pass_from_the_peer_that_was_asked_and_no_other() {
    for is_v6 in [false, true] {
        let [request, reply, _] = echo_kinds(is_v6);
        let pairs = [
            (sent_tcp(is_v6, SYN), received_tcp(is_v6, SYN_ACK)),
            (Ip::sent(is_v6, 17, udp(NEAR, 53)).frame(), Ip::received(is_v6, 17, udp(53, NEAR)).frame()),
            (
                Ip::sent(is_v6, icmp_of(is_v6), icmp(request, 7)).frame(),
                Ip::received(is_v6, icmp_of(is_v6), icmp(reply, 7)).frame(),
            ),
            (Ip::sent(is_v6, 47, vec![1; 9]).frame(), Ip::received(is_v6, 47, vec![2; 30]).frame()),
        ];
        for (question, answer) in &pairs {
            let node = Node::closed();
            assert_eq!(node.judge(A, answer), NOT_ALLOWED, "before");
            node.send(A, question);
            assert_eq!((node.judge(A, answer), node.judge(A, answer)), (PASS, PASS));
            assert_eq!(node.judge(B, answer), NOT_ALLOWED, "another peer");
            for (_, other) in pairs.iter().filter(|(sent, _)| sent != question) {
                assert_eq!(node.judge(A, other), NOT_ALLOWED, "another flow");
            }
        }
    }
}

#[test]
fn everything_of_a_flow_must_be_the_same() {
    for is_v6 in [false, true] {
        let address = |byte: usize| {
            let mut address = if is_v6 { v6(THERE) } else { v4(THERE) };
            address[byte] ^= 0x40;
            address
        };
        let node = Node::closed();
        node.send(A, &Ip::sent(is_v6, 17, udp(NEAR, 53)).tagged(&[(0x8100, 5)]).frame());
        let answer = Ip::received(is_v6, 17, udp(53, NEAR)).tagged(&[(0x8100, 0xe005)]);
        assert_eq!(node.judge(A, &answer.frame()), PASS, "whatever its priority");
        let with = |change: &dyn Fn(&mut Ip)| {
            let mut other = answer.clone();
            change(&mut other);
            other.frame()
        };
        for (frame, what) in [
            (with(&|ip| ip.payload = udp(54, NEAR)), "its port"),
            (with(&|ip| ip.payload = udp(53, NEAR + 1)), "our port"),
            (with(&|ip| ip.payload = udp(NEAR, 53)), "the ports the other way round"),
            (with(&|ip| ip.tags = vec![(0x8100, 6)]), "the VLAN"),
            (with(&|ip| ip.tags = vec![]), "no VLAN"),
            (with(&|ip| ip.tags = vec![(0x88a8, 5), (0x8100, 1)]), "a VLAN in it"),
            (with(&|ip| (ip.protocol, ip.payload) = (6, tcp(53, NEAR, ACK))), "the protocol"),
            (with(&|ip| std::mem::swap(&mut ip.source, &mut ip.destination)), "the direction"),
        ] {
            assert_eq!(node.judge(A, &frame), NOT_ALLOWED, "{what}");
        }
        for byte in 0..answer.source.len() {
            assert_eq!(
                node.judge(A, &with(&|ip| ip.source = address(byte))),
                NOT_ALLOWED,
                "its address, {byte}"
            );
            assert_eq!(
                node.judge(A, &with(&|ip| ip.destination = address(byte))),
                NOT_ALLOWED,
                "ours, {byte}"
            );
        }
    }
    let node = Node::closed();
    node.send(A, &Ip::sent(false, 1, icmp(8, 7)).frame());
    assert_eq!(node.judge(A, &Ip::received(false, 1, icmp(0, 8)).frame()), NOT_ALLOWED, "another echo");
    assert_eq!(
        node.judge(A, &Ip::received(false, 1, icmp(8, 7)).frame()),
        NOT_ALLOWED,
        "a request is no reply"
    );
    for kind in [5, 13] {
        node.send(A, &Ip::sent(false, 1, icmp(kind, 7)).frame());
        for answer in [5, 13, 14] {
            let answer = Ip::received(false, 1, icmp(answer, 7)).frame();
            assert_eq!(node.judge(A, &answer), NOT_ALLOWED, "echoes alone");
        }
    }
}

#[test]
fn what_is_asked_lives_as_long_as_in_linux() {
    let mut node = Node::closed();
    node.send(A, &sent_udp());
    lives(&mut node, &received_udp(), limits::UDP_ASKED);
    lives(&mut node, &received_udp(), limits::UDP_ANSWERED);
    lives(&mut node, &received_udp(), limits::UDP_ANSWERED);
    node.send(A, &sent_udp());
    lives(&mut node, &received_udp(), limits::UDP_ANSWERED);

    let mut node = Node::closed();
    node.send(A, &Ip::sent(true, 58, icmp(128, 7)).frame());
    lives(&mut node, &Ip::received(true, 58, icmp(129, 7)).frame(), limits::ECHO);
    node.wait_s(2);
    assert_eq!(
        node.judge(A, &Ip::received(true, 58, icmp(129, 7)).frame()),
        NOT_ALLOWED,
        "replies do not prolong it"
    );

    let mut node = Node::closed();
    node.send(A, &Ip::sent(false, 47, vec![]).frame());
    lives(&mut node, &Ip::received(false, 47, vec![]).frame(), limits::OTHER);
    lives(&mut node, &Ip::received(false, 47, vec![]).frame(), limits::OTHER);
}

#[test]
fn a_connection_lives_by_its_state() {
    let mut node = Node::closed();
    node.send(A, &sent_tcp(false, SYN));
    lives(&mut node, &received_tcp(false, SYN_ACK), limits::TCP_OPENING);
    lives(&mut node, &received_tcp(false, ACK), limits::TCP_OPEN);
    node.send(A, &sent_tcp(false, ACK));
    lives(&mut node, &received_tcp(false, ACK), limits::TCP_OPEN);
    // Half closed: the other side goes on for as long as it has something to say.
    node.send(A, &sent_tcp(false, FIN | ACK));
    lives(&mut node, &received_tcp(false, ACK), limits::TCP_CLOSING);
    lives(&mut node, &received_tcp(false, ACK), limits::TCP_CLOSING);
    lives(&mut node, &received_tcp(false, FIN | ACK), limits::TCP_CLOSING);
    lives(&mut node, &received_tcp(false, RST), limits::TCP_CLOSING);
    lives(&mut node, &received_tcp(false, ACK), limits::TCP_CLOSED);
    node.wait_s(2);
    assert_eq!(
        node.judge(A, &received_tcp(false, ACK)),
        NOT_ALLOWED,
        "the peer cannot prolong what was reset"
    );
    // The same ports again.
    node.send(A, &sent_tcp(false, SYN));
    lives(&mut node, &received_tcp(false, SYN_ACK), limits::TCP_OPENING);

    let mut node = Node::closed();
    node.send(A, &sent_tcp(true, SYN));
    assert_eq!(node.judge(A, &received_tcp(true, FIN | ACK)), PASS);
    lives(&mut node, &received_tcp(true, ACK), limits::TCP_CLOSING);
    node.send(A, &sent_tcp(true, RST));
    lives(&mut node, &received_tcp(true, ACK), limits::TCP_CLOSED);
    node.send(A, &sent_tcp(true, RST));
    node.wait_s(2);
    assert_eq!(node.judge(A, &received_tcp(true, ACK)), NOT_ALLOWED, "nor can it have this node prolong it");
}

#[test]
fn a_peer_opens_no_connection_by_an_answer() {
    let mut node = Node::closed();
    let syn = received_tcp(false, SYN);
    node.send(A, &sent_tcp(false, SYN));
    assert_eq!(node.judge(A, &syn), PASS, "both open at once");
    node.send(A, &sent_tcp(false, SYN_ACK));
    assert_eq!(node.judge(A, &received_tcp(false, SYN_ACK)), PASS);
    node.send(A, &sent_tcp(false, ACK));
    for _ in 0..3 {
        assert_eq!(node.judge(A, &syn), NOT_ALLOWED, "it is open");
        assert_eq!(node.judge(A, &received_tcp(false, ACK)), PASS);
        node.wait(limits::TCP_OPEN / 2);
    }
    node.send(A, &sent_tcp(false, FIN | ACK));
    assert_eq!(node.judge(A, &syn), NOT_ALLOWED, "it is being closed");
    node.send(A, &sent_tcp(false, RST));
    assert_eq!(node.judge(A, &syn), NOT_ALLOWED, "it is closed");
}

#[test]
fn a_connection_that_was_forgotten_is_picked_up_by_what_is_sent() {
    let mut node = Node::closed();
    assert_eq!(node.judge(A, &received_tcp(false, ACK)), NOT_ALLOWED);
    node.send(A, &sent_tcp(false, ACK));
    lives(&mut node, &received_tcp(false, ACK), limits::TCP_RESUMED);
    lives(&mut node, &received_tcp(false, ACK), limits::TCP_OPEN);
    let node = Node::closed();
    node.send(A, &sent_tcp(false, RST));
    assert_eq!(node.judge(A, &received_tcp(false, ACK)), NOT_ALLOWED, "a reset picks up nothing");
}

#[test]
fn what_is_sent_to_a_group_is_no_question() {
    let node = Node::closed();
    for question in [
        Ip { destination: vec![224, 0, 0, THERE], ..Ip::sent(false, 17, udp(NEAR, 53)) },
        Ip { to_mac: [0xff; 6], ..Ip::sent(false, 17, udp(NEAR, 53)) },
    ] {
        node.send(A, &question.frame());
        let answer = Ip { source: question.destination.clone(), ..Ip::received(false, 17, udp(53, NEAR)) };
        assert_eq!(node.judge(A, &answer.frame()), NOT_ALLOWED);
        assert_eq!(node.judge(A, &received_udp()), NOT_ALLOWED);
    }
}

#[test]
fn replies_pass_against_a_deny() {
    let node = Node::new("deny any -> any udp\ndeny any -> any tcp\nallow any -> any icmp");
    node.send(A, &sent_udp());
    node.send(A, &sent_tcp(false, SYN));
    assert_eq!((node.judge(A, &received_udp()), node.judge(A, &received_tcp(false, SYN_ACK))), (PASS, PASS));
}

/// An ICMP error to this node about `packet`.
fn error(is_v6: bool, about: &Ip) -> Ip {
    let [.., unreachable] = echo_kinds(is_v6);
    Ip::received(is_v6, icmp_of(is_v6), icmp_error(unreachable, &about.packet(), 68))
}

#[test]
fn errors_pass_about_what_was_sent() {
    for is_v6 in [false, true] {
        let [request, reply, _] = echo_kinds(is_v6);
        for (protocol, payload) in [
            (6, tcp(NEAR, FAR, SYN)),
            (17, udp(NEAR, 53)),
            (icmp_of(is_v6), icmp(request, 7)),
            (47, vec![0; 8]),
        ] {
            let node = Node::closed();
            let sent = Ip::sent(is_v6, protocol, payload);
            assert_eq!(node.judge(A, &error(is_v6, &sent).frame()), NOT_ALLOWED, "before");
            node.send(A, &sent.frame());
            assert_eq!(node.judge(A, &error(is_v6, &sent).frame()), PASS, "{protocol}");
            assert_eq!(node.judge(B, &error(is_v6, &sent).frame()), NOT_ALLOWED, "from another peer");
            let from_a_router =
                Ip { source: if is_v6 { vec![9; 16] } else { vec![9; 4] }, ..error(is_v6, &sent) };
            assert_eq!(node.judge(A, &from_a_router.frame()), PASS, "from whoever is behind the peer");
            let elsewhere = Ip { destination: from_a_router.source.clone(), ..error(is_v6, &sent) };
            assert_eq!(node.judge(A, &elsewhere.frame()), NOT_ALLOWED, "to somebody who did not send it");
            let in_a_vlan = error(is_v6, &sent).tagged(&[(0x8100, 3)]);
            assert_eq!(node.judge(A, &in_a_vlan.frame()), NOT_ALLOWED, "in another network");
        }
        let node = Node::closed();
        let never_sent = [
            Ip::sent(is_v6, icmp_of(is_v6), icmp(reply, 7)),
            Ip::sent(is_v6, 6, tcp(NEAR, FAR, ACK)).fragment(3, 4, true),
            error(is_v6, &Ip::sent(is_v6, 17, udp(1, 2))),
        ];
        for about in never_sent {
            node.send(A, &about.frame());
            assert_eq!(node.judge(A, &error(is_v6, &about).frame()), NOT_ALLOWED, "{about:?}");
        }
    }
}

#[test]
fn errors_pass_about_answers_to_what_the_rules_let_in() {
    let mut node = Node::new("allow name:a -> any tcp 443");
    // The peer is a client; what this node answers meets a narrow link behind it.
    let answer = Ip::sent(false, 6, tcp(FAR, NEAR, ACK));
    node.send(A, &answer.frame());
    assert_eq!(node.judge(A, &error(false, &answer).frame()), PASS);
    assert_eq!(node.judge(A, &error(false, &Ip::sent(false, 6, tcp(22, NEAR, ACK))).frame()), NOT_ALLOWED);
    assert_eq!(node.judge(B, &error(false, &answer).frame()), NOT_ALLOWED);
    let redirect = Ip::received(false, 1, icmp_error(5, &answer.packet(), 28));
    assert_eq!(node.judge(A, &redirect.frame()), NOT_ALLOWED, "a redirect is no error");
    node.set_rules("allow name:here -> any");
    node.wait(limits::GRACE);
    assert_eq!(node.judge(A, &error(false, &answer).frame()), NOT_ALLOWED);
}
