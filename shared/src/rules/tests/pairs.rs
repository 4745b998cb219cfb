//! What texts mean for a pair, as tables.

use super::{member, rules};
use crate::rules::{Policy, Rights, Subject, Traffic};

const SSH: Traffic = Traffic::Tcp { port: 22 };
const WEB: Traffic = Traffic::Tcp { port: 443 };
const DNS: Traffic = Traffic::Udp { source: 40_000, port: 53 };
const PING: Traffic = Traffic::Ip { protocol: 1 };
const PING6: Traffic = Traffic::Ip { protocol: 58 };
const GRE: Traffic = Traffic::Ip { protocol: 47 };
const SOME_TCP: Traffic = Traffic::Ip { protocol: 6 };
const SOME_UDP: Traffic = Traffic::Ip { protocol: 17 };
const IPX: Traffic = Traffic::Other { ethertype: 0x8137 };
const LENGTH: Traffic = Traffic::Other { ethertype: 60 };
const BPDU: Traffic = Traffic::Topology { ethertype: 38 };
const LLDP: Traffic = Traffic::Topology { ethertype: 0x88cc };
const LEASE: Traffic = Traffic::Udp { source: 67, port: 68 };
const LEASE6: Traffic = Traffic::Udp { source: 547, port: 546 };
const DISCOVER: Traffic = Traffic::Udp { source: 68, port: 67 };
const SOLICIT: Traffic = Traffic::Udp { source: 546, port: 547 };
const ALL: [Traffic; 20] = [
    SSH,
    WEB,
    DNS,
    PING,
    PING6,
    GRE,
    SOME_TCP,
    SOME_UDP,
    IPX,
    LENGTH,
    BPDU,
    LLDP,
    LEASE,
    LEASE6,
    DISCOVER,
    SOLICIT,
    Traffic::Arp,
    Traffic::NeighbourDiscovery,
    Traffic::Router,
    Traffic::Tcp { port: 0 },
];

fn admin() -> Subject {
    member(1, "desk", &["admin"])
}

fn server() -> Subject {
    member(2, "rack", &["server", "lan"])
}

fn guest() -> Subject {
    member(3, "phone", &[])
}

/// Asserts that exactly `allowed` passes, of everything that is tried.
#[track_caller]
fn only(text: &str, source: &Subject, here: &Subject, allowed: &[Traffic]) {
    let policy = Policy::new(&rules(text), source, here);
    let passed: Vec<_> = ALL.into_iter().filter(|traffic| policy.allows(*traffic)).collect();
    let expected: Vec<_> = ALL.into_iter().filter(|traffic| allowed.contains(traffic)).collect();
    assert_eq!(passed, expected, "{text}");
    assert_eq!(policy.is_unrestricted(), allowed.len() == ALL.len());
}

const RELATED: [Traffic; 2] = [Traffic::Arp, Traffic::NeighbourDiscovery];

fn and_related(more: &[Traffic]) -> Vec<Traffic> {
    [&RELATED, more].concat()
}

#[test]
fn without_rules_everything_passes_and_with_one_nothing_else_does() {
    for text in ["", "# allow any -> any tcp 22", "dhcp tag:lan\nbridge any\nstp any"] {
        only(text, &guest(), &server(), &ALL);
        assert!(rules(text).is_open());
    }
    only("deny any -> any", &guest(), &server(), &[]);
    only("allow tag:admin -> tag:server", &guest(), &server(), &[]);
    only("allow tag:admin -> tag:server", &admin(), &server(), &ALL);
}

#[test]
fn the_first_rule_that_matches_decides() {
    let text =
        "deny any -> name:rack tcp 22\nallow tag:admin -> any tcp\nallow any -> any icmp\ndeny any -> any";
    let but_ssh = and_related(&[WEB, PING, PING6, Traffic::Router, Traffic::Tcp { port: 0 }]);
    only(text, &admin(), &server(), &but_ssh);
    only(text, &guest(), &server(), &and_related(&[PING, PING6, Traffic::Router]));
    let turned = "allow tag:admin -> any tcp 22\ndeny any -> any tcp 22\nallow any -> any tcp 22,443";
    only(turned, &admin(), &server(), &and_related(&[SSH, WEB]));
    only(turned, &guest(), &server(), &and_related(&[WEB]));
}

#[test]
fn each_word_covers_what_the_page_says() {
    let ip = [SSH, WEB, DNS, PING, PING6, GRE, SOME_TCP, SOME_UDP, LEASE, LEASE6, DISCOVER, SOLICIT];
    let ip = [&ip[..], &[Traffic::Router, Traffic::Tcp { port: 0 }]].concat();
    let udp = [DNS, SOME_UDP, LEASE, LEASE6, DISCOVER, SOLICIT];
    for (what, allowed) in [
        ("", [&ip[..], &[IPX, LENGTH, BPDU, LLDP]].concat()),
        ("tcp 22", vec![SSH]),
        ("tcp 20-30,443", vec![SSH, WEB]),
        ("tcp", vec![SSH, WEB, SOME_TCP, Traffic::Tcp { port: 0 }]),
        ("tcp 1-65535", vec![SSH, WEB]),
        ("udp 53", vec![DNS]),
        ("udp", udp.to_vec()),
        ("icmp", vec![PING, PING6, Traffic::Router]),
        ("proto 1", vec![PING]),
        ("proto 58", vec![PING6, Traffic::Router]),
        ("proto 47", vec![GRE]),
        ("proto 6", vec![SSH, WEB, SOME_TCP, Traffic::Tcp { port: 0 }]),
        ("proto 17", udp.to_vec()),
        ("ip", ip.clone()),
        ("other", vec![IPX, LENGTH, BPDU, LLDP]),
        ("ethertype 0x8137", vec![IPX]),
        ("ethertype 0x88cc,0x8137", vec![IPX, LLDP]),
    ] {
        only(&format!("allow any -> any {what}"), &guest(), &server(), &and_related(&allowed));
        // Denying it leaves the rest.
        let left: Vec<_> = ALL.into_iter().filter(|traffic| !allowed.contains(traffic)).collect();
        let is_all = what.is_empty();
        // Of TCP and UDP without ports something is missing wherever a port is.
        let has_ports = |is_port: fn(&Traffic) -> bool| allowed.iter().any(is_port);
        let is_torn = |traffic: &Traffic| {
            (*traffic == SOME_TCP && has_ports(|traffic| matches!(traffic, Traffic::Tcp { .. })))
                || (*traffic == SOME_UDP && has_ports(|traffic| matches!(traffic, Traffic::Udp { .. })))
        };
        let left: Vec<_> = left.into_iter().filter(|traffic| !is_torn(traffic)).filter(|_| !is_all).collect();
        only(&format!("deny any -> any {what}\nallow any -> any"), &guest(), &server(), &left);
    }
}

#[test]
fn selectors_name_whom_they_say() {
    let whole = guest().id.to_base32();
    let (start, other) = (&whole[..10], member(9, "", &[]).id.short());
    for (selector, names_it) in [
        ("any".to_owned(), true),
        ("name:phone".to_owned(), true),
        ("name:Phone".to_owned(), false),
        ("name:phon".to_owned(), false),
        ("tag:phone".to_owned(), false),
        (format!("id:{start}"), true),
        (format!("id:{whole}"), true),
        (format!("id:{}", whole.to_uppercase()), true),
        (format!("id:{other}"), false),
        (format!("tag:x, id:{other} ,name:phone"), true),
    ] {
        let as_source = Policy::new(&rules(&format!("allow {selector} -> any")), &guest(), &server());
        let as_destination = Policy::new(&rules(&format!("allow any -> {selector}")), &server(), &guest());
        assert_eq!((as_source.allows(SSH), as_destination.allows(SSH)), (names_it, names_it), "{selector}");
    }
    only("allow tag:lan -> any", &server(), &guest(), &ALL);
    only("allow tag:lan -> any", &guest(), &server(), &RELATED);
}

#[test]
fn arp_passes_where_anything_does_in_either_direction() {
    let one_way = "allow tag:admin -> tag:server tcp 22";
    only(one_way, &admin(), &server(), &and_related(&[SSH]));
    only(one_way, &server(), &admin(), &RELATED);
    only(one_way, &server(), &guest(), &[]);
    only(one_way, &guest(), &guest(), &[]);
    // What an earlier rule takes away whole is nothing.
    only("deny any -> any tcp 20-30\nallow tag:admin -> tag:server tcp 22", &admin(), &server(), &[]);
    only("deny any -> any icmp\nallow any -> any tcp 22", &admin(), &server(), &and_related(&[SSH]));
    only("allow any -> any ethertype 0x8137", &admin(), &server(), &and_related(&[IPX]));
}

#[test]
fn what_this_node_may_begin_is_judged_in_the_other_direction() {
    let text = "deny any -> name:rack tcp 25\nallow tag:admin -> tag:server tcp 20-30";
    let here_is_the_admin = Policy::new(&rules(text), &server(), &admin());
    assert_eq!([22, 25, 31].map(|port| here_is_the_admin.may_reach(port)), [true, false, false]);
    let here_is_the_server = Policy::new(&rules(text), &admin(), &server());
    assert!(!here_is_the_server.may_reach(22));
    assert!(Policy::new(&rules(""), &guest(), &server()).may_reach(0));
}

#[test]
fn a_nodes_own_rules_leave_it_free_to_begin_anything() {
    let (here, there) = (server(), guest());
    for text in ["deny any -> any", "allow tag:admin -> any tcp 22", "deny any -> any\nallow any -> any"] {
        let (own, shared) = (rules(text).of_node(&here.id), rules(text));
        let policy = Policy::new(&own, &there, &here);
        assert!(policy.allows(Traffic::Arp) && policy.may_reach(443) && !policy.allows(SSH), "{text}");
        let shared = Policy::new(&shared, &there, &here);
        assert!(!shared.allows(Traffic::Arp) && !shared.may_reach(443), "{text}");
    }
    assert_eq!(rules("").of_node(&here.id), rules(""), "none are none");
    assert!(rules("allow any -> any").of_node(&here.id).is_open());
}

#[test]
fn rights_pass_whatever_the_rules_say() {
    let text = "dhcp tag:lan\nstp name:rack\nbridge tag:admin, name:phone\ndeny any -> any";
    let read = rules(text);
    assert_eq!(read.rights(&server()), Rights { bridge: false, dhcp: true, stp: true });
    assert_eq!(read.rights(&admin()), Rights { bridge: true, dhcp: false, stp: false });
    assert_eq!(read.rights(&member(8, "x", &[])), Rights::default());
    let from_server = and_related(&[LEASE, LEASE6, Traffic::Router, BPDU, LLDP]);
    only(text, &server(), &guest(), &from_server);
    only(text, &guest(), &server(), &and_related(&[DISCOVER, SOLICIT]));
    only(text, &guest(), &admin(), &[]);
}

#[test]
fn open_rules_are_known_as_such() {
    for (text, is_open) in [
        ("", true),
        ("allow any -> any", true),
        ("allow tag:a -> any tcp 1\nallow any -> any\ndeny any -> any", true),
        ("deny tag:a -> any tcp 1\nallow any -> any", false),
        ("allow any -> any ip", false),
        ("allow any,tag:a -> any", true),
        ("allow tag:a -> any", false),
        ("deny any -> any", false),
    ] {
        assert_eq!(rules(text).is_open(), is_open, "{text}");
    }
}

#[test]
fn the_canonical_form_is_one_whatever_was_written() {
    let text = "stp name:b,tag:a\nallow  tag:b ,any->any\tTCP".replace("TCP", "tcp 23,22,443,24-25 # web\n")
        + "bridge tag:z\n\nbridge tag:a\r\ndeny id:ABCDEFGHIJ,tag:x,name:y,tag:x -> any ethertype 0x88CC,0x0600\n"
        + "allow any -> any proto 047\nallow any -> any tcp\nallow any -> any ip";
    let expected = "bridge tag:a,tag:z\nstp tag:a,name:b\nallow any -> any tcp 22-25,443\n\
                    deny tag:x,name:y,id:abcdefghij -> any ethertype 0x0600,0x88cc\nallow any -> any proto 47\n\
                    allow any -> any tcp\nallow any -> any ip\n";
    assert_eq!(rules(&text).to_string(), expected);
    assert_eq!(rules(expected), rules(&text));
    assert_eq!(rules("").to_string(), "");
}
