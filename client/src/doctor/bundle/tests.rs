//! Nobody who is in the input is in the archive.

use super::*;
use crate::control::message::{AdminEntry, Member, Members};
use crate::control::status::{
    Membership, NameLeftOut, Names, Network, Node, Path, PathKind, Peer, Relay, RulesInForce, Status,
};
use crate::doctor::checks::examine;
use crate::doctor::facts::*;
use crate::net::interfaces::{Interface, InterfaceAddress};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;

/// Somebody, with everything that tells who.
#[derive(Debug, Clone)]
struct Somebody {
    name: String,
    id: String,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    outside: Ipv4Addr,
    mac: String,
    host: String,
    tag: String,
    ticket: String,
    /// What a network is called: any text.
    network: String,
    /// Of one that is gone, and told of by the log only.
    gone: String,
    user: String,
    interface: String,
}

fn somebody() -> impl Strategy<Value = Somebody> {
    let id =
        proptest::collection::vec(proptest::sample::select(b"abcdefghijklmnopqrstuvwxyz234567".to_vec()), 52);
    let body = proptest::collection::vec(proptest::sample::select(b"ABCxyz0189_-".to_vec()), 60..200);
    let address = any::<[u8; 4]>().prop_map(Ipv4Addr::from);
    let address6 = any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits | 1 << 127));
    let names = ("q[a-z]{4,9}(-[a-z0-9]{1,6})?", "q[a-z]{4,9}(\\.[a-z]{3,6}){1,2}", "q[a-z]{6,9}");
    let more = ("q[a-z]{6,9} & [\"'a-zé ]{1,9}q", "q[a-z]{6,9}[._]?", "q[a-z]{6,9}", "q[a-z]{6,9}(_v)?");
    (names, more, id, address, address6, any::<[u8; 4]>(), any::<[u8; 6]>(), body, any::<bool>()).prop_map(
        |((name, host, tag), (network, gone, user, interface), id, v4, v6, outside, mac, body, is_invite)| {
            Somebody {
                name,
                id: String::from_utf8(id).unwrap(),
                v4,
                v6,
                outside: outside.into(),
                mac: mac.map(|byte| format!("{byte:02x}")).join(":"),
                host,
                tag,
                ticket: format!(
                    "{}{}",
                    if is_invite { "smi1" } else { "smr1" },
                    String::from_utf8(body).unwrap()
                ),
                network,
                gone,
                user,
                interface,
            }
        },
    )
}

fn nobody() -> Somebody {
    Somebody {
        name: "qanna".into(),
        id: "4k7dqx2mzp".repeat(5) + "aa",
        v4: Ipv4Addr::new(10, 7, 3, 4),
        v6: Ipv6Addr::LOCALHOST,
        outside: Ipv4Addr::new(192, 0, 2, 1),
        mac: "02:00:5e:00:00:01".into(),
        host: "qtower".into(),
        tag: "qstaff".into(),
        ticket: format!("smr1{}", "Ab3_-".repeat(30)),
        network: "qhome".into(),
        gone: "qgone".into(),
        user: "quser".into(),
        interface: "qacme".into(),
    }
}

/// A host of one of them, whose log tells of all.
fn scene(all: &[Somebody]) -> (Facts, Extra) {
    let own = &all[0];
    let peers = all.iter().skip(1).map(|one| Peer {
        id: one.id.clone(),
        name: one.name.clone(),
        addresses: vec![format!("{}/16", one.v4), format!("{}/64", one.v6)],
        path: Some(Path {
            kind: PathKind::DirectUdp,
            remote: format!("{}:41641", one.outside),
            rtt_ms: None,
            mtu: None,
            loss_pct: None,
            why: "best".into(),
        }),
        ..Peer::default()
    });
    let relays =
        all.iter().map(|one| Relay { url: format!("ws://{}:8443/v1", one.host), ..Relay::default() });
    let status = Status {
        node: Node {
            id: own.id.clone(),
            name: own.name.clone(),
            addresses: vec![format!("{}/16", own.v4), format!("{}/64", own.v6)],
            mac: own.mac.clone(),
            device: "smesh0".into(),
            ..Node::default()
        },
        network: Network { id: own.id.chars().rev().collect(), name: own.network.clone() },
        peers: peers.collect(),
        relays: relays.collect(),
        rules: Some(RulesInForce { file: format!("/data/{}/rules", own.user), ..RulesInForce::default() }),
        names: Some(Names {
            domain: format!("{}.internal", Label::of_network(&own.network, "")[0].as_str()),
            left_out: vec![NameLeftOut { name: own.gone.clone(), why: "is no host name".into() }],
            ..Names::default()
        }),
        membership: Some(Membership { tags: vec![own.tag.clone()], ..Membership::default() }),
        ..Status::default()
    };
    let members = Members {
        members: all
            .iter()
            .map(|one| Member {
                id: one.id.clone(),
                name: one.name.clone(),
                tags: vec![one.tag.clone()],
                addresses: vec![one.v4.to_string()],
                ..Member::default()
            })
            .collect(),
        admins: vec![AdminEntry { id: own.id.clone(), name: own.name.clone(), is_here: true }],
        ..Members::default()
    };
    let cidr = |ip: IpAddr, bits| crate::net::Cidr::new(ip, bits).unwrap();
    let interfaces = all.iter().map(|one| Interface {
        index: 2,
        name: one.interface.clone(),
        running: true,
        loopback: false,
        addresses: vec![InterfaceAddress { cidr: cidr(one.outside.into(), 24), usable: true }],
    });
    let reach = all.iter().map(|one| AddressReach {
        text: format!("{}:8443", one.host),
        host: one.host.clone(),
        port: 8_443,
        numbers: vec![one.outside.into()],
        tcp: Tcp::Open,
        proxy: Some(ProxyReach { at: format!("proxy.{}:3128", one.host), fault: None, wants_user: false }),
    });
    let facts = Facts {
        caller: Caller::default(),
        call: Call {
            options: vec![
                "--state".into(),
                format!("/data/{}/s", own.user),
                "--network".into(),
                own.tag.clone(),
            ],
            state: format!("/data/{}/s/{}", own.user, own.tag).into(),
            socket: "/run/x.sock".into(),
        },
        now: 0,
        version: "1",
        daemon: Daemon::Runs(Box::new(Running {
            status,
            netcheck: None,
            members: Some(members),
            process: None,
            denied: 0,
        })),
        others: vec![],
        state: State { own: vec![cidr(own.v4.into(), 16)], ..State::default() },
        tun: Tun::Opens,
        kernel: Kernel::default(),
        interfaces: interfaces.collect(),
        routes: vec![],
        device: None,
        relays: vec![RelayReach { addresses: reach.collect() }],
        has_name_server: None,
        has_resolved: false,
        has_service: false,
        settings: Some(SettingsFile {
            path: "/etc/shadowmesh/config.toml".into(),
            ..SettingsFile::default()
        }),
        hosts: Hosts::default(),
        ruleset: Some(json!({ "nftables": [
                { "table": { "family": "inet", "name": format!("{}_fw", own.gone) } },
                { "chain": { "family": "inet", "table": format!("{}_fw", own.gone), "name": format!("to_{}", own.gone) } },
                { "rule": {
                    "family": "inet",
                    "table": format!("{}_fw", own.gone),
                    "chain": format!("to_{}", own.gone),
                    "comment": own.tag,
                    "expr": [
                        { "match": { "op": "==", "left": { "meta": { "key": "iifname" } }, "right": format!("{}9", own.interface) } },
                        { "match": { "op": "==", "left": { "payload": { "field": "saddr" } }, "right": own.outside.to_string() } },
                        { "log": { "prefix": format!("{} drops: ", own.ticket.get(5..30).unwrap_or_default()) } },
                        { "jump": { "target": format!("to_{}", own.gone) } },
                    ],
                } },
            ] })),
    };
    let mut log = String::new();
    for Somebody { name, id, v4, v6, outside, mac, host, tag, ticket, network: _, gone, user, interface } in
        all
    {
        let _ = write!(
            log,
            "peer {name} ({short}) at {outside}:41641, [{v6}]:5 and {v4}/16, fe80::1%eth0; mac={mac}\n\
             \"{name}\".{tag}: {id}, up {ticket}. relay={host}:443 https://{host}/x?{name} <{v6}/64> '{tag}'\n\
             connected to {gone} via relay-ws\nlost {gone}: it left\n{outside}-{v4} {plain} enx{plain}: {dashes} {interface}\n\
             cannot read /home/{user}/x and \"/data/{user}/rules\" of {network:?} or {network}\n",
            short = &id[..10],
            network = own.network,
            plain = mac.replace(':', ""),
            dashes = mac.replace(':', "-"),
        );
    }
    let extra = Extra {
        config: Some(Config { name: own.name.parse().ok(), ..Config::default() }),
        settings: Some(Config { name: own.host.parse().ok(), ..Config::default() }),
        network: Some(own.network.clone()),
        log: Some(log),
        hostname: own.host.clone(),
        users: vec![format!("u{}", own.tag)],
        system: format!("Linux 6.1 of u{}", own.tag),
        counters: format!("{}: 1 2 3", own.interface),
        ordinary: BTreeSet::new(),
    };
    (facts, extra)
}

/// Where `what` stands in `text` as a word of its own.
fn stands(text: &str, what: &str) -> bool {
    let (text, what) = (text.to_lowercase(), what.to_lowercase());
    let is_edge = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '-');
    text.match_indices(&what).any(|(at, found)| {
        is_edge(text[..at].chars().next_back()) && is_edge(text[at + found.len()..].chars().next())
    })
}

/// Addresses that tell nothing stay.
fn is_somebodys(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast())
        }
        IpAddr::V6(ip) => !ip.is_multicast(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nobody_who_is_in_the_input_is_in_the_archive(all in proptest::collection::vec(somebody(), 1..5)) {
        let (facts, extra) = scene(&all);
        let report = examine(&facts);
        let parts = assemble(&facts, &report, &extra);
        let text: String = parts.iter().map(|part| part.text.as_str()).collect();
        for one in &all {
            for (what, value) in [
                ("name", &one.name), ("host", &one.host), ("tag", &one.tag), ("mac", &one.mac), ("user", &extra.users[0]),
                ("peer of before", &one.gone), ("user", &one.user), ("interface", &one.interface),
                ("network", &all[0].network), ("mac", &one.mac.replace(':', "-")),
                ("table", &format!("{}_fw", one.gone)), ("chain", &format!("to_{}", one.gone)), ("interface", &format!("{}9", one.interface)),
            ] {
                prop_assert!(!stands(&text, value), "{what} {value} in {text}");
            }
            // Of digits alone it could be a count.
            let plain = one.mac.replace(':', "");
            prop_assert!(plain.bytes().all(|byte| byte.is_ascii_digit()) || !text.contains(&plain), "{plain} in {text}");
            prop_assert!(!text.contains(&format!("enx{plain}")), "{plain} in {text}");
            // Not even in part.
            for (what, value) in [("id", &one.id[..10]), ("id", &one.id[20..36]), ("ticket", &one.ticket[4..20])] {
                prop_assert!(!text.contains(value), "{what} {value} in {text}");
            }
            for ip in [IpAddr::V4(one.v4), IpAddr::V4(one.outside), IpAddr::V6(one.v6)] {
                prop_assert!(!is_somebodys(ip) || !stands(&text, &ip.to_string()), "{ip} in {text}");
            }
        }
        // No address at all, whoever's it is.
        for word in text.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':')) {
            if let Ok(ip) = word.parse::<Ipv4Addr>() {
                prop_assert!(!is_somebodys(ip.into()), "{ip} in {text}");
            }
        }
    }

    #[test]
    fn any_text_is_taken_and_the_same_twice(text in "(\\PC|[0-9a-f:./\\-_ \n]){0,200}") {
        let mut known = Pseudonyms::default();
        let once = known.text(&text);
        prop_assert_eq!(known.text(&text), once);
    }
}

/// Whoever is known by the daemon's log alone, while none runs that could be asked.
#[test]
fn a_log_names_nobody_though_no_daemon_says_who_they_are() {
    let (facts, extra) = scene(&[nobody()]);
    let log = "\
        2026-01-01T00:00:00+0000 oldbox shadowmesh[7]: connected to annas-pc (10.7.3.9) via relay-ws 12 ms\n\
        this node and bobs-phone are bridged to one LAN, which makes a loop: this node passes no broadcasts between them until it is over\n\
        this node and daves-tv are bridged to one LAN, which makes a loop: daves-tv passes no broadcasts until it is over\n\
        carols-nas answers as a DHCP server or a router, which is not let in: `shadowmesh up --allow-dhcp 5abcdefghi` lets it\n\
        the relays of the network changed: this host uses tower:8443, mast:8443, and not 3 more\n\
        another member (6bcdefghij) already has this node's address; it takes 10.7.1.1 instead\n\
        2026-01-01T00:00:00.000001Z DEBUG a peer was introduced peer=7cdefghijk\n";
    let facts = Facts { daemon: Daemon::None, ..facts };
    let extra = Extra { log: Some(log.into()), ..extra };
    let parts = assemble(&facts, &examine(&facts), &extra);
    let said = &parts.iter().find(|part| part.name == "daemon.log").expect("a log").text;
    for named in [
        "oldbox",
        "annas-pc",
        "bobs-phone",
        "daves-tv",
        "carols-nas",
        "tower",
        "mast",
        "5abcdefghi",
        "6bcdefghij",
        "7cdefghijk",
    ] {
        assert!(!stands(said, named), "{named} in {said}");
    }
    assert!(said.contains("are bridged to one LAN") && said.contains("--allow-dhcp key-"), "{said}");
}

/// Who calls a network as the program, and hosts as words of its sentences.
#[test]
fn our_own_words_stay_whole_whatever_hosts_and_networks_are_called() {
    let of = |name: &str| Somebody { name: name.into(), ..nobody() };
    let (mut facts, mut extra) =
        scene(&[Somebody { network: "shadowmesh".into(), ..of("a") }, of("Sudo"), of("qbob")]);
    let Daemon::Runs(running) = &mut facts.daemon else { panic!("it runs") };
    running.status.membership = Some(Membership { state: "joining".into(), ..Membership::default() });
    facts.kernel.uplinks = vec![("eth0".into(), 2)];
    extra.ordinary = "a is no not sudo shadowmesh".split(' ').map(ToOwned::to_owned).collect();
    extra.log = Some("shadowmesh says that a is no qbob\n".into());
    let report = examine(&facts);
    let parts = assemble(&facts, &report, &extra);
    let text = |name: &str| parts.iter().find(|part| part.name == name).expect("there").text.clone();
    let document = |name: &str| serde_json::from_str::<Value>(&text(name)).expect("a document");
    assert!(text("versions.txt").starts_with("shadowmesh 1\nLinux"), "{}", text("versions.txt"));
    let joining = report.findings.iter().find(|finding| finding.id == "joining").expect("found");
    let (told, all) = (document("doctor.json"), joining.sentence.clone());
    let said = told["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["id"] == "joining")
        .expect("there");
    assert_eq!(
        (said["sentence"].as_str(), &said["line"]),
        (Some(all.as_str()), &json!("sudo shadowmesh up --detach"))
    );
    assert!(text("daemon.log").starts_with("shadowmesh says that a is no name-"), "{}", text("daemon.log"));
    // Where only names stand they are names, the same everywhere.
    let (status, members) = (document("status.json"), document("members.json"));
    for (name, replaced) in [
        ("a", &status["node"]["name"]),
        ("shadowmesh", &status["network"]["name"]),
        ("Sudo", &status["peers"][0]["name"]),
        ("qbob", &status["peers"][1]["name"]),
    ] {
        assert!(replaced.as_str().is_some_and(|word| word.starts_with("name-")), "{name}: {replaced}");
    }
    assert_eq!(members["members"][0]["name"], status["node"]["name"]);
    assert_eq!(document("kernel.json")["uplinks"][0], json!({ "name": "eth0", "rp_filter": 2 }));
}

#[test]
fn of_a_service_the_journal_is_taken_and_of_a_daemon_by_hand_its_file() {
    let (mut facts, _) = scene(&[nobody()]);
    let text = |text: &str| Some(text.to_owned());
    let log = |facts: &Facts| chosen(facts, text("file"), text("journal")).expect("one");
    let process =
        |unit: Option<&str>| Some(Process { unit: unit.map(ToOwned::to_owned), ..Process::default() });
    for (process, has_service, is_answering, expected) in [
        // It says itself what it is, whatever else is installed.
        (process(Some("shadowmesh.service")), true, true, "journal"),
        (process(Some("shadowmesh.service")), true, false, "journal"),
        (process(None), true, true, "file"),
        // Nobody runs, and a service would.
        (None, true, false, "journal"),
        (None, false, false, "file"),
    ] {
        facts.has_service = has_service;
        facts.daemon = match (is_answering, process) {
            (true, process) => Daemon::Runs(Box::new(Running {
                status: Status::default(),
                netcheck: None,
                members: None,
                process,
                denied: 0,
            })),
            (false, Some(process)) => Daemon::Silent { process: Some(process) },
            (false, None) => Daemon::None,
        };
        assert_eq!(log(&facts), expected, "{:?}", facts.daemon);
        // What is not there is not missed.
        assert_eq!(chosen(&facts, text("file"), None), text("file"));
        assert_eq!(chosen(&facts, None, text("journal")), text("journal"));
    }
}

#[test]
fn an_archive_is_for_its_owner_and_replaces_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("a.tar.gz");
    let parts = [("a.txt", "first\n"), ("b/c.json", "{}")]
        .map(|(name, text)| Part { name: name.into(), text: text.into() });
    write(&file, &parts).expect("written");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(write(&file, &parts).expect_err("refused").kind(), io::ErrorKind::AlreadyExists);
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(&file).expect("opened")));
    let mut found = Vec::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let mut text = String::new();
        io::Read::read_to_string(&mut entry, &mut text).expect("text");
        found.push((path, text));
    }
    let expected = parts.clone().map(|part| (format!("{INSIDE}/{}", part.name), part.text));
    assert_eq!(found, expected);
    assert!(write(&dir.path().join("none/a"), &parts).is_err());
}
