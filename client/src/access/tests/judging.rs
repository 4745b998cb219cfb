//! Texts against frames of a peer that nothing was sent to.

use super::crafted::{ACK, Ip, RST, SYN, SYN_ACK, ethernet, icmp, other, tcp, udp};
use super::{A, B, MALFORMED, NOT_ALLOWED, Node, PASS, STRANGER, UNKNOWN, Verdict};
use proptest::prelude::*;
use shadowmesh_proto::ids::PeerSlot;

fn syn(port: u16) -> Vec<u8> {
    Ip::received(false, 6, tcp(40_000, port, SYN)).frame()
}

fn query(is_v6: bool, port: u16) -> Vec<u8> {
    Ip::received(is_v6, 17, udp(40_000, port)).frame()
}

fn icmp6(kind: u8) -> Vec<u8> {
    Ip::received(true, 58, icmp(kind, 1)).frame()
}

/// Asserts which of the frames pass; the others are not allowed.
#[track_caller]
fn passes(text: &str, frames: &[(&str, Vec<u8>)], passing: &[&str]) {
    let node = Node::new(text);
    for (name, frame) in frames {
        let expected = if passing.contains(name) { PASS } else { NOT_ALLOWED };
        assert_eq!(node.judge(A, frame), expected, "{name} under {text}");
    }
    assert!(passing.iter().all(|wanted| frames.iter().any(|(name, _)| name == wanted)));
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let bpdu = ethernet([1, 0x80, 0xc2, 0, 0, 0], &[], 38, &[0x42, 0x42, 3]);
    vec![
        ("ssh", syn(22)),
        ("web", syn(443)),
        ("web of ipv6", Ip::received(true, 6, tcp(1, 443, SYN)).frame()),
        ("web with options", Ip { options: 3, ..Ip::received(false, 6, tcp(1, 443, SYN)) }.frame()),
        ("web in a vlan", Ip::received(false, 6, tcp(1, 443, SYN)).tagged(&[(0x8100, 5)]).frame()),
        (
            "web in two vlans",
            Ip::received(true, 6, tcp(1, 443, SYN)).tagged(&[(0x88a8, 5), (0x8100, 6)]).frame(),
        ),
        ("web behind extensions", {
            Ip { extensions: vec![(0, 0), (60, 2)], ..Ip::received(true, 6, tcp(1, 443, SYN)) }.frame()
        }),
        ("acknowledgement to web", Ip::received(false, 6, tcp(1, 443, ACK)).frame()),
        ("acceptance from web", Ip::received(false, 6, tcp(443, 1, SYN_ACK)).frame()),
        ("reset from web", Ip::received(false, 6, tcp(443, 1, RST)).frame()),
        ("dns", query(false, 53)),
        ("dns of ipv6", query(true, 53)),
        ("answer from dns", Ip::received(false, 17, udp(53, 40_000)).frame()),
        (
            "mdns",
            Ip { destination: vec![224, 0, 0, 251], ..Ip::received(false, 17, udp(5353, 5353)) }.frame(),
        ),
        ("lease", Ip::received(false, 17, udp(67, 68)).frame()),
        ("lease of ipv6", Ip::received(true, 17, udp(547, 546)).frame()),
        ("ping", Ip::received(false, 1, icmp(8, 1)).frame()),
        ("ping of ipv6", icmp6(128)),
        ("pong", Ip::received(false, 1, icmp(0, 1)).frame()),
        ("unreachable", Ip::received(false, 1, icmp(3, 1)).frame()),
        ("redirect", Ip::received(false, 1, icmp(5, 1)).frame()),
        ("advertisement", icmp6(134)),
        ("redirect of ipv6", icmp6(137)),
        ("listener report", icmp6(143)),
        ("gre", Ip::received(false, 47, vec![0; 20]).frame()),
        ("esp of ipv6", Ip::received(true, 50, vec![0; 20]).frame()),
        ("bpdu", bpdu),
        ("lldp", other(0x88cc, &[2, 7])),
        ("profinet", other(0x8892, &[0; 46])),
        ("802.3", other(46, &[0xe0, 0xe0, 3])),
        ("a third tag", other(0x8100, &[0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0])),
    ]
}

#[test]
fn what_is_denied_does_not_pass_behind_tags_without_a_vlan() {
    let node = Node::new("deny any -> any tcp 443\nallow any -> any");
    for priorities in 0..5 {
        let web = Ip::received(false, 6, tcp(1, 443, SYN)).tagged(&vec![(0x8100, 0); priorities]);
        assert_eq!(node.judge(A, &web.frame()), NOT_ALLOWED, "{priorities}");
    }
}

#[test]
fn frames_pass_by_the_rules() {
    let frames = frames();
    let web = [
        "web",
        "web of ipv6",
        "web with options",
        "web in a vlan",
        "web in two vlans",
        "web behind extensions",
    ];
    let web = [&web[..], &["acknowledgement to web"]].concat();
    let tcp = [&web[..], &["ssh", "acceptance from web", "reset from web"]].concat();
    let icmp4 = ["ping", "pong", "unreachable", "redirect"];
    let icmp6 = ["ping of ipv6", "advertisement", "redirect of ipv6", "listener report"];
    let udp = ["dns", "dns of ipv6", "answer from dns", "mdns", "lease", "lease of ipv6"];
    let ip = [&tcp[..], &udp, &icmp4, &icmp6, &["gre", "esp of ipv6"]].concat();
    let not_ip = ["bpdu", "lldp", "profinet", "802.3", "a third tag"];
    for (what, passing) in [
        ("tcp 443", web.clone()),
        ("tcp 22", vec!["ssh"]),
        ("tcp", tcp.clone()),
        ("udp 53", vec!["dns", "dns of ipv6"]),
        ("udp 53,5353", vec!["dns", "dns of ipv6", "mdns"]),
        ("udp", udp.to_vec()),
        ("icmp", [icmp4, icmp6].concat()),
        ("proto 1", icmp4.to_vec()),
        ("proto 47", vec!["gre"]),
        ("proto 50", vec!["esp of ipv6"]),
        ("ip", ip.clone()),
        ("other", not_ip.to_vec()),
        ("ethertype 0x8892,0x88cc", vec!["lldp", "profinet"]),
        ("ethertype 0x9999", vec![]),
    ] {
        passes(&format!("allow any -> any {what}"), &frames, &passing);
        let rest: Vec<_> =
            frames.iter().map(|(name, _)| *name).filter(|name| !passing.contains(name)).collect();
        passes(&format!("deny any -> any {what}\nallow any -> any"), &frames, &rest);
        passes(&format!("allow name:b -> any {what}\nallow any -> any ethertype 0x9999"), &frames, &[]);
    }
    passes(
        "dhcp tag:is-a\nstp name:a\nallow name:here -> any",
        &frames,
        &["lease", "lease of ipv6", "advertisement", "redirect of ipv6", "bpdu", "lldp"],
    );
}

#[test]
fn questions_of_dhcp_pass_to_who_may_answer() {
    let questions = [
        ("discover", Ip { destination: vec![255; 4], ..Ip::received(false, 17, udp(68, 67)) }.frame()),
        ("solicit", Ip::received(true, 17, udp(546, 547)).frame()),
        ("from elsewhere", Ip::received(false, 17, udp(40_000, 67)).frame()),
    ];
    passes("dhcp name:here\ndeny any -> any", &questions, &["discover", "solicit"]);
    passes("dhcp name:b\nallow name:here -> any", &questions, &[]);
}

#[test]
fn arp_and_neighbour_discovery_pass_between_those_that_exchange_anything() {
    let asking = [
        ("arp", other(0x0806, &[0; 28])),
        ("arp in a vlan", ethernet([0xff; 6], &[(0x8100, 3)], 0x0806, &[0; 28])),
        ("router solicitation", icmp6(133)),
        ("neighbour solicitation", icmp6(135)),
        ("neighbour advertisement", icmp6(136)),
    ];
    for (text, expected) in [
        ("allow name:a -> any tcp 22", PASS),
        ("allow any -> tag:is-a udp 53", PASS),
        ("allow any -> any ethertype 0x8892", PASS),
        ("deny any -> any icmp\nallow any -> any tcp 22", PASS),
        ("dhcp name:a\ndeny any -> any", PASS),
        ("dhcp name:here\ndeny any -> any", PASS),
        ("allow name:b -> any", STRANGER),
        ("deny name:a -> any tcp\nallow name:a -> any tcp 22", STRANGER),
        ("deny any -> any", STRANGER),
    ] {
        let node = Node::new(text);
        for (name, frame) in &asking {
            assert_eq!(node.judge(A, frame), expected, "{name} under {text}");
        }
    }
}

#[test]
fn a_peer_is_judged_by_what_it_is_and_one_that_is_not_known_is_denied() {
    let node = Node::new("allow name:a -> any tcp 22\nallow name:b -> any");
    assert_eq!((node.judge(A, &syn(22)), node.judge(A, &syn(443))), (PASS, NOT_ALLOWED));
    assert_eq!((node.judge(B, &syn(22)), node.judge(B, &syn(443))), (PASS, PASS));
    for slot in [2, 1_000_000, u32::MAX] {
        assert_eq!(node.judge(PeerSlot(slot), &syn(22)), UNKNOWN);
        node.send(PeerSlot(slot), &syn(22));
    }
    // What is not restricted is not looked at either.
    assert_eq!((node.judge(B, &[]), node.judge(A, &[])), (PASS, MALFORMED));
}

#[test]
fn where_nothing_is_restricted_there_is_no_filter() {
    for text in ["", "dhcp tag:x", "allow any -> any", "allow name:a -> any tcp 22\nallow any -> any"] {
        assert!(Node::new(text).filter.is_none(), "{text}");
    }
    for text in ["deny any -> any", "allow any -> any ip", "allow name:a,name:b -> any"] {
        assert!(Node::new(text).filter.is_some(), "{text}");
    }
}

#[test]
fn every_reason_has_a_number_and_a_word() {
    use super::AccessDrop;
    let words: std::collections::BTreeSet<_> = AccessDrop::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(words.len(), AccessDrop::ALL.len());
    for (at, reason) in AccessDrop::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, at);
        assert_eq!(Verdict::Drop(reason), Verdict::Drop(AccessDrop::ALL[at]));
    }
}

#[test]
fn headers_that_cannot_be_read_never_pass_by_a_port() {
    let node = Node::new("allow any -> any tcp");
    let short = Ip::received(false, 6, tcp(1, 22, SYN)[..19].to_vec());
    assert_eq!(node.judge(A, &short.frame()), MALFORMED, "though all of TCP is allowed");
    assert_eq!(
        node.judge(A, &short.clone().fragment(9, 0, true).frame()),
        MALFORMED,
        "a tiny first fragment, RFC 1858"
    );
    assert_eq!(node.judge(A, &Ip::received(false, 6, tcp(1, 22, SYN)).frame()[..40]), MALFORMED);
    let node = Node::new("allow any -> any icmp");
    let hidden = Ip::received(true, 58, icmp(134, 0)).fragment(9, 0, true).frame();
    assert_eq!(node.judge(A, &hidden), MALFORMED, "an advertisement in fragments, RFC 6980");
}

proptest! {
    /// Bytes that begin like frames, after bytes that were sent.
    #[test]
    fn nothing_passes_where_nothing_is_allowed(
        kinds in prop::collection::vec((prop::sample::select(&[0x0800u16, 0x86dd, 0x0806, 0x8100, 0x88cc, 38][..]), any::<bool>()), 1..20),
        bytes in prop::collection::vec(any::<u8>(), 40..120),
    ) {
        let node = Node::young("deny any -> any");
        for (at, (ethertype, is_sent)) in kinds.iter().enumerate() {
            let mut bytes = bytes[at..].to_vec();
            bytes[0] = if *ethertype == 0x86dd { 0x60 } else { 0x45 };
            let frame = other(*ethertype, &bytes);
            if *is_sent {
                node.send(A, &frame);
            } else {
                // Nothing that is sent has an answer here but by chance: sender and receiver would have to change places.
                prop_assert_ne!(node.judge(A, &frame), PASS);
            }
        }
    }
}
