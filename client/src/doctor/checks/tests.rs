//! One host on which all is well, and each fault alone on it.

use super::*;
use crate::config::{ConfigError, Fault, What};
use crate::control::message::{Member, Members, Netcheck, Wanted};
use crate::control::status::{
    Barred, ClockBehind, Membership, Names, Node, Path, PathKind, Peer, PeerMember, PeerState, Relay,
    RelayState, RulesInForce, Status,
};
use crate::doctor::facts::*;
use crate::net::interfaces::{Interface, InterfaceAddress};
use crate::net::routes::{Hop, Route};
use serde_json::json;
use std::collections::BTreeSet;

const DAY: u64 = 86_400;
const NOW: u64 = 1_800_000_000;

fn interface(index: u32, name: &str, cidr: &str) -> Interface {
    let addresses = vec![InterfaceAddress { cidr: cidr.parse().unwrap(), usable: true }];
    Interface { index, name: name.into(), running: true, loopback: false, addresses }
}

fn relay(text: &str, tcp: Tcp) -> RelayReach {
    let (host, port) = text.rsplit_once(':').unwrap();
    let (host, port) = (host.to_owned(), port.parse().unwrap());
    let address = AddressReach { text: text.into(), host, port, numbers: vec![], tcp, proxy: None };
    RelayReach { addresses: vec![address] }
}

/// The same by a proxy, which says that.
fn by_proxy(text: &str, fault: Option<&str>, wants_user: bool) -> RelayReach {
    let mut relay = relay(text, if fault.is_some() { Tcp::NotLed } else { Tcp::Open });
    let proxy = ProxyReach { at: "p.example:3128".into(), fault: fault.map(Into::into), wants_user };
    relay.addresses[0].proxy = Some(proxy);
    relay
}

fn peer(name: &str, address: &str) -> Peer {
    let path = Path {
        kind: PathKind::DirectUdp,
        remote: "203.0.113.7:4".into(),
        rtt_ms: None,
        mtu: None,
        loss_pct: None,
        why: "best".into(),
    };
    let addresses = vec![address.to_owned()];
    Peer { name: name.into(), addresses, state: PeerState::Connected, path: Some(path), ..Peer::default() }
}

/// A host on which all is well.
fn healthy() -> Facts {
    let status = Status {
        version: "1.2.3".into(),
        node: Node {
            id: "4k7dqx2mzp".repeat(5),
            addresses: vec!["10.7.3.4/16".into(), "fd12::4/64".into()],
            device: "smesh0".into(),
            mtu: 1_400,
            ..Node::default()
        },
        relays: vec![Relay {
            url: "ws://r.example:8443/v1".into(),
            state: RelayState::Connected,
            ..Relay::default()
        }],
        peers: vec![peer("b", "10.7.9.1/16")],
        ..Status::default()
    };
    let process = Process {
        pid: 77,
        unit: None,
        is_root: Some(true),
        config: None,
        is_replaced: Some(false),
        max_files: Some(1_024),
        hard_max_files: Some(1_024),
        open_files: Some(30),
    };
    let running = Running {
        status,
        netcheck: Some(Netcheck { udp: Some(true), ipv6: true, ..Netcheck::default() }),
        members: None,
        process: Some(process),
        denied: 0,
    };
    let state = State {
        access: Access::Read,
        free_bytes: Some(1 << 30),
        free_files: Some(1_000),
        mount: Some("/".into()),
        newest: Some(NOW - 5),
        has_network: true,
        own: vec!["10.7.3.4/16".parse().unwrap()],
        ..State::default()
    };
    Facts {
        caller: Caller { is_root: true, net_admin: true },
        call: Call { options: vec![], state: "/var/lib/shadowmesh".into(), socket: "/run/x.sock".into() },
        now: NOW,
        version: "1.2.3",
        daemon: Daemon::Runs(Box::new(running)),
        others: vec![],
        state,
        tun: Tun::Opens,
        kernel: Kernel {
            rmem_max: Some(8 << 20),
            wmem_max: Some(8 << 20),
            conntrack_count: Some(5),
            conntrack_max: Some(1_000),
            bridge_nf: Some(true),
            ipv6_off: Some(false),
            uplinks: vec![("eth0".into(), 1)],
            down: vec![],
        },
        interfaces: vec![interface(2, "eth0", "192.168.1.2/24")],
        routes: vec![],
        device: Some(Link {
            name: "smesh0".into(),
            is_up: true,
            mtu: 1_400,
            addresses: vec!["10.7.3.4/16".parse().unwrap(), "fd12::4/64".parse().unwrap()],
            bridge: None,
            ipv6_off: Some(false),
        }),
        relays: vec![relay("r.example:8443", Tcp::Open)],
        has_name_server: Some(true),
        has_resolved: false,
        has_service: false,
        settings: None,
        hosts: Hosts { path: "/etc/hosts".into(), block: Block::None },
        ruleset: Some(json!({ "nftables": [] })),
    }
}

fn running(facts: &mut Facts) -> &mut Running {
    if let Daemon::Runs(running) = &mut facts.daemon { running } else { panic!("it runs") }
}

fn without_daemon(facts: &mut Facts) {
    facts.daemon = Daemon::None;
    facts.device = None;
}

fn member(facts: &mut Facts, state: &str, until: u64) {
    let membership = Membership { state: state.into(), until: Some(until), ..Membership::default() };
    running(facts).status.membership = Some(membership);
}

fn refused(facts: &mut Facts, why: &str) {
    let member = PeerMember { refuses_us: Some(why.into()), ..PeerMember::default() };
    running(facts).status.peers[0].member = Some(member);
}

fn damaged(file: &str) -> Option<Damage> {
    Some(Damage { file: Some(file.into()), sentence: format!("{file} is damaged") })
}

fn process(pid: i32, unit: Option<&str>) -> Process {
    Process { pid, unit: unit.map(ToOwned::to_owned), ..Process::default() }
}

fn settings(facts: &mut Facts, sets: Vec<&'static str>, fault: Option<SettingsFault>) {
    facts.settings = Some(SettingsFile { path: "/etc/shadowmesh/config.toml".into(), sets, fault });
}

/// The daemon is the service, as its own user.
fn as_service(facts: &mut Facts) {
    facts.has_service = true;
    let process = running(facts).process.as_mut().unwrap();
    (process.unit, process.is_root) = (Some("shadowmesh.service".into()), Some(false));
}

fn mistyped(line: usize) -> Option<SettingsFault> {
    Some(SettingsFault::Faulty(faulty(vec![unknown(line)])))
}

fn faulty(faults: Vec<Fault>) -> ConfigError {
    ConfigError::of(faults).unwrap()
}

fn unknown(line: usize) -> Fault {
    Fault { line, column: 1, what: What::Unknown { field: "mtuu".into(), suggestion: Some("mtu") } }
}

fn unserved(why: &str) -> Option<Names> {
    Some(Names { error: Some(why.into()), ..Names::default() })
}

fn chain(policy: &str) -> serde_json::Value {
    json!({ "chain": { "family": "inet", "table": "f", "name": "in", "handle": 1, "type": "filter", "hook": "input", "prio": 0, "policy": policy } })
}

fn rule(handle: u64, expressions: serde_json::Value) -> serde_json::Value {
    json!({ "rule": { "family": "inet", "table": "f", "chain": "in", "handle": handle, "expr": expressions } })
}

fn by(device: &str) -> serde_json::Value {
    json!({ "match": { "op": "==", "left": { "meta": { "key": "iifname" } }, "right": device } })
}

/// What breaks it, which check finds it, how bad it is, and what is to be typed.
type Case = (&'static str, fn(&mut Facts), Severity, Option<&'static str>);

const CASES: &[Case] = &[
    ("tun", |f| f.tun = Tun::Missing { has_driver: false }, Severity::Fault, Some("modprobe tun")),
    (
        "tun",
        |f| f.tun = Tun::NotTheDevice,
        Severity::Fault,
        Some(
            "sh -c 'mkdir -p /dev/net && rm -f /dev/net/tun && mknod /dev/net/tun c 10 200 && chmod 0666 /dev/net/tun'",
        ),
    ),
    (
        "tun",
        |f| f.tun = Tun::Denied,
        Severity::Fault,
        Some("docker run --cap-add NET_ADMIN --device /dev/net/tun ..."),
    ),
    (
        "capability",
        |f| f.caller.net_admin = false,
        Severity::Fault,
        Some("docker run --cap-add NET_ADMIN --device /dev/net/tun ..."),
    ),
    ("state-layout", |f| f.state.is_newer = true, Severity::Fault, None),
    (
        "state-damage",
        |f| f.state.damage = damaged("members"),
        Severity::Fault,
        Some("shadowmesh leave && shadowmesh up --detach smi1..."),
    ),
    (
        "state-damage",
        |f| f.state.damage = damaged("node.key"),
        Severity::Fault,
        Some("rm /var/lib/shadowmesh/node.key && shadowmesh leave && shadowmesh up --detach smi1..."),
    ),
    ("state-damage", |f| f.state.damage = damaged("state.toml"), Severity::Fault, None),
    (
        "state-damage",
        |f| f.state.damage = damaged("address.toml"),
        Severity::Fault,
        Some("rm /var/lib/shadowmesh/address.toml && shadowmesh up --detach"),
    ),
    (
        "state-damage",
        |f| (f.state.damage, f.state.has_admin_key) = (damaged("network.toml"), true),
        Severity::Fault,
        None,
    ),
    (
        "config",
        |f| f.state.config = Some(faulty(vec![unknown(3)])),
        Severity::Fault,
        Some("sed -i 3s/mtuu/mtu/ /var/lib/shadowmesh/config.toml"),
    ),
    (
        "config",
        |f| {
            let value = |column| Fault { line: 2, column, what: What::Value("no".into()) };
            f.state.config = Some(faulty(vec![unknown(3), value(9), value(1)]));
        },
        Severity::Fault,
        Some("sed -i '2s/^/# /;3s/mtuu/mtu/' /var/lib/shadowmesh/config.toml"),
    ),
    (
        "settings",
        |f| {
            as_service(f);
            settings(f, vec![], mistyped(4));
        },
        Severity::Warning,
        Some("sed -i 4s/mtuu/mtu/ /etc/shadowmesh/config.toml && systemctl restart shadowmesh.service"),
    ),
    (
        "settings",
        |f| settings(f, vec![], mistyped(4)),
        Severity::Warning,
        Some(
            "sed -i 4s/mtuu/mtu/ /etc/shadowmesh/config.toml && shadowmesh down && \
             shadowmesh up --detach --config /etc/shadowmesh/config.toml",
        ),
    ),
    (
        "settings",
        |f| {
            without_daemon(f);
            f.has_service = true;
            settings(f, vec![], Some(SettingsFault::Missing));
        },
        Severity::Fault,
        Some("install -D -m 0644 /dev/null /etc/shadowmesh/config.toml"),
    ),
    (
        "settings",
        |f| {
            without_daemon(f);
            f.has_service = true;
            let alone = ["/etc/shadowmesh", "/etc/shadowmesh/config.toml"].map(Into::into).to_vec();
            settings(f, vec!["mtu"], Some(SettingsFault::RootsAlone(alone)));
        },
        Severity::Fault,
        Some("chmod a+rX /etc/shadowmesh /etc/shadowmesh/config.toml"),
    ),
    (
        "settings",
        |f| settings(f, vec![], Some(SettingsFault::NotReadable("it is too large".into()))),
        Severity::Warning,
        None,
    ),
    (
        "secrets",
        |f| f.state.exposed = vec!["/var/lib/shadowmesh/node.key".into(), "/var/lib/shadowmesh/a b".into()],
        Severity::Fault,
        Some("chmod go= /var/lib/shadowmesh/node.key '/var/lib/shadowmesh/a b'"),
    ),
    ("state-writable", |f| f.state.is_read_only = true, Severity::Fault, Some("mount -o remount,rw /")),
    ("disk", |f| f.state.free_bytes = Some(100), Severity::Fault, None),
    (
        "disk",
        |f| (f.state.free_bytes, f.state.has_journal) = (Some(100), true),
        Severity::Fault,
        Some("journalctl --vacuum-size=100M"),
    ),
    (
        "disk",
        |f| (f.state.free_files, f.state.log_bytes) = (Some(0), 5 << 20),
        Severity::Fault,
        Some("truncate --size 0 /var/lib/shadowmesh/daemon.log"),
    ),
    ("clock", |f| f.state.clock_seen = Some(NOW + DAY), Severity::Fault, Some("timedatectl set-ntp true")),
    ("clock", |f| f.state.newest = Some(NOW + DAY), Severity::Fault, Some("timedatectl set-ntp true")),
    (
        "clock",
        |f| refused(f, crate::daemon::refusal_in_words(5)),
        Severity::Fault,
        Some("timedatectl set-ntp true"),
    ),
    (
        "network",
        |f| {
            without_daemon(f);
            f.state.has_network = false;
        },
        Severity::Fault,
        Some("shadowmesh up --detach smi1..."),
    ),
    ("daemon", without_daemon, Severity::Fault, Some("shadowmesh up --detach")),
    (
        "daemon",
        |f| {
            without_daemon(f);
            f.has_service = true;
        },
        Severity::Fault,
        Some("systemctl start shadowmesh"),
    ),
    (
        "lock",
        |f| {
            without_daemon(f);
            f.state.locked_by = Some(process(9, None));
            // It is one and the same.
            f.others = vec![OtherDaemon { pid: 9, state: "/s".into(), same_network: true }];
        },
        Severity::Fault,
        Some("kill -TERM 9; while kill -0 9 2>/dev/null; do sleep 0.1; done; shadowmesh up --detach"),
    ),
    ("socket", |f| f.daemon = Daemon::KeptOut, Severity::Fault, Some("shadowmesh doctor")),
    (
        "silent",
        |f| f.daemon = Daemon::Silent { process: Some(process(9, None)) },
        Severity::Fault,
        Some("kill -KILL 9; while kill -0 9 2>/dev/null; do sleep 0.1; done; shadowmesh up --detach"),
    ),
    (
        "silent",
        |f| f.daemon = Daemon::Silent { process: Some(process(9, Some("shadowmesh.service"))) },
        Severity::Fault,
        Some("systemctl restart shadowmesh.service"),
    ),
    (
        "version",
        |f| f.daemon = Daemon::NotUnderstood { process: Some(process(9, None)) },
        Severity::Warning,
        Some("kill -TERM 9; while kill -0 9 2>/dev/null; do sleep 0.1; done; shadowmesh up --detach"),
    ),
    (
        "version",
        |f| running(f).status.version = "1.2.2".into(),
        Severity::Warning,
        Some("shadowmesh down && shadowmesh up --detach"),
    ),
    (
        "version",
        |f| {
            let process = running(f).process.as_mut().unwrap();
            (process.is_replaced, process.unit) = (Some(true), Some("shadowmesh.service".into()));
        },
        Severity::Warning,
        Some("systemctl restart shadowmesh.service"),
    ),
    (
        "two-daemons",
        |f| f.others = vec![OtherDaemon { pid: 9, state: "/s".into(), same_network: true }],
        Severity::Fault,
        Some("kill 9"),
    ),
    (
        "open-files",
        |f| running(f).process.as_mut().unwrap().max_files = Some(64),
        Severity::Warning,
        Some("prlimit --pid 77 --nofile=1024:"),
    ),
    (
        "open-files",
        |f| running(f).process.as_mut().unwrap().open_files = Some(900),
        Severity::Warning,
        Some("prlimit --pid 77 --nofile=65536:65536"),
    ),
    (
        "names",
        |f| running(f).status.names = unserved("no room"),
        Severity::Warning,
        Some("shadowmesh reload"),
    ),
    (
        "names",
        |f| (running(f).status.names, f.hosts.block) = (unserved("/etc/hosts is not there"), Block::NoFile),
        Severity::Warning,
        Some("touch /etc/hosts && shadowmesh reload"),
    ),
    (
        "names-left",
        |f| {
            without_daemon(f);
            f.hosts.block = Block::Whole;
        },
        Severity::Warning,
        Some("shadowmesh down"),
    ),
    (
        "names-left",
        |f| (running(f).status.names, f.hosts.block) = (unserved("not whole"), Block::Part { line: 7 }),
        Severity::Warning,
        Some("\"${EDITOR:-vi}\" /etc/hosts && shadowmesh reload"),
    ),
    (
        "rules",
        |f| {
            let error = Some("/etc/r:1:1: no".into());
            running(f).status.rules = Some(RulesInForce { file: "/etc/r".into(), count: 1, error });
        },
        Severity::Warning,
        Some("\"${EDITOR:-vi}\" /etc/r && shadowmesh reload"),
    ),
    (
        "device-down",
        |f| f.device.as_mut().unwrap().is_up = false,
        Severity::Fault,
        Some("ip link set smesh0 up"),
    ),
    (
        "device-mtu",
        |f| f.device.as_mut().unwrap().mtu = 1_280,
        Severity::Warning,
        Some("ip link set smesh0 mtu 1400"),
    ),
    (
        "device-addresses",
        |f| f.device.as_mut().unwrap().addresses.clear(),
        Severity::Fault,
        Some("ip address add 10.7.3.4/16 dev smesh0 && ip address add fd12::4/64 dev smesh0"),
    ),
    (
        "ipv6-off",
        |f| {
            let link = f.device.as_mut().unwrap();
            link.ipv6_off = Some(true);
            link.addresses.retain(|cidr| cidr.address().is_ipv4());
        },
        Severity::Warning,
        Some(
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 && shadowmesh down && \
             shadowmesh up --detach",
        ),
    ),
    (
        "subnet",
        |f| f.interfaces.push(interface(9, "wg0", "10.7.200.1/24")),
        Severity::Fault,
        Some("shadowmesh down && shadowmesh up --detach --address 192.168.255.1/24"),
    ),
    (
        "subnet",
        |f| {
            without_daemon(f);
            f.state.last_words = Some("the range overlaps".into());
            // Else that no daemon runs is told as well.
            f.state.locked_by = None;
            f.routes.push(Route {
                destination: "10.7.0.0/24".parse().unwrap(),
                hops: vec![Hop { interface: 2, alive: true }],
                metric: 0,
                table: 254,
            });
        },
        Severity::Fault,
        Some("shadowmesh up --detach --address 192.168.255.1/24"),
    ),
    (
        "firewall",
        |f| {
            f.ruleset = Some(
                json!({ "nftables": [chain("accept"), rule(7, json!([by("smesh0"), { "drop": null }]))] }),
            )
        },
        Severity::Fault,
        Some("nft delete rule inet f in handle 7"),
    ),
    (
        "firewall",
        |f| {
            f.ruleset =
                Some(json!({ "nftables": [chain("drop"), rule(7, json!([by("lo"), { "accept": null }]))] }))
        },
        Severity::Warning,
        Some("nft insert rule inet f in iifname smesh0 accept"),
    ),
    (
        "bridge-filter",
        |f| f.device.as_mut().unwrap().bridge = Some("br0".into()),
        Severity::Warning,
        Some(
            "sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 \
             net.bridge.bridge-nf-call-arptables=0",
        ),
    ),
    (
        "protocol",
        |f| running(f).status.peers[0].incompatible = Some("it speaks version 2 of the protocol".into()),
        Severity::Fault,
        None,
    ),
    (
        "protocol",
        |f| running(f).status.relays[0].refused = Some("this relay speaks version 2 of the protocol".into()),
        Severity::Fault,
        None,
    ),
    (
        "relay-name",
        |f| {
            f.relays = vec![relay("r.example:8443", Tcp::Unresolved)];
            f.has_name_server = Some(false);
        },
        Severity::Warning,
        Some("echo nameserver 9.9.9.9 | tee -a /etc/resolv.conf"),
    ),
    ("relay-proxy", |f| f.relays = vec![by_proxy("r.example:8443", None, false)], Severity::Hint, None),
    (
        "relay-proxy",
        |f| {
            f.relays = vec![by_proxy("r.example:8443", Some("wants a user and a password"), true)];
            running(f).status.relays[0].state = RelayState::Down;
        },
        Severity::Fault,
        Some("shadowmesh down && shadowmesh up --detach --proxy http://USER:PASSWORD@p.example:3128"),
    ),
    (
        // The daemon knows the password, and this user does not.
        "relay-proxy",
        |f| f.relays = vec![by_proxy("r.example:8443", Some("wants a user and a password"), true)],
        Severity::Hint,
        None,
    ),
    (
        "relay-proxy",
        |f| {
            let fault = Some("does not let this host out (403)");
            f.relays =
                vec![by_proxy("r.example:8443", fault, false), by_proxy("q.example:8443", fault, false)];
        },
        Severity::Warning,
        None,
    ),
    (
        "relay-place",
        |f| {
            let relay = &mut running(f).status.relays[0];
            (relay.state, relay.refused) = (RelayState::Down, Some("it is full".into()));
        },
        Severity::Fault,
        None,
    ),
    ("relay-name", |f| f.relays = vec![relay("r.example:8443", Tcp::Unresolved)], Severity::Warning, None),
    (
        "relay-name",
        |f| (f.relays, f.has_resolved) = (vec![relay("r.example:8443", Tcp::Unresolved)], true),
        Severity::Warning,
        Some("resolvectl flush-caches"),
    ),
    (
        "relay-refused",
        |f| {
            f.relays = vec![relay("r.example:8443", Tcp::Refused)];
            running(f).status.relays[0].state = RelayState::Down;
        },
        Severity::Fault,
        Some("sudo systemctl restart shadowmesh-relay"),
    ),
    (
        "relay-silent",
        |f| f.relays = vec![relay("r.example:8443", Tcp::Silent)],
        Severity::Warning,
        Some("sudo nft insert rule inet filter input tcp dport 8443 accept"),
    ),
    (
        "relay-way",
        |f| {
            f.relays = vec![relay("r.example:8443", Tcp::Unreachable)];
            // One that has no carrier is not set down.
            f.interfaces.insert(0, Interface { running: false, ..interface(1, "docker0", "172.17.0.1/16") });
            f.kernel.down = vec!["eth0".into()];
        },
        Severity::Warning,
        Some("ip link set eth0 up"),
    ),
    (
        "relay-key",
        |f| running(f).status.relays[0].state = RelayState::Down,
        Severity::Fault,
        Some("shadowmesh down && shadowmesh up --detach --relay smr1..."),
    ),
    (
        "relay-key",
        |f| {
            let old = running(f).status.relays[0].clone();
            running(f).status.relays.push(Relay { state: RelayState::Down, ..old });
        },
        Severity::Hint,
        None,
    ),
    (
        "udp",
        |f| running(f).netcheck.as_mut().unwrap().udp = Some(false),
        Severity::Warning,
        Some("sudo nft insert rule inet filter input udp dport '{ 8443, 8444 }' accept"),
    ),
    (
        "pinned",
        |f| running(f).status.peers[0].wanted = Wanted::Relay,
        Severity::Warning,
        Some("shadowmesh path b --use auto"),
    ),
    (
        "relayed",
        |f| {
            running(f).status.peers[0].path.as_mut().unwrap().kind = PathKind::RelayUdp;
            running(f).netcheck.as_mut().unwrap().mapping = Some("endpoint-dependent".into());
            f.state.no_port_mapping = true;
        },
        Severity::Hint,
        Some("shadowmesh down && shadowmesh up --detach --port-mapping on"),
    ),
    (
        "relayed",
        |f| running(f).status.peers[0].path.as_mut().unwrap().kind = PathKind::RelayWs,
        Severity::Hint,
        None,
    ),
    (
        "address-taken",
        |f| {
            running(f).status.peers = vec![peer("b", "10.7.3.4/16"), peer("c", "10.7.3.5/16")];
        },
        Severity::Fault,
        Some("shadowmesh down && shadowmesh up --detach --address 10.7.3.6/16"),
    ),
    (
        "address-taken",
        |f| {
            member(f, "member", NOW + 90 * DAY);
            running(f).status.peers = vec![peer("b", "10.7.3.4/16")];
        },
        Severity::Fault,
        None,
    ),
    (
        "rules-drop",
        |f| {
            let rules = RulesInForce { file: "/etc/rules".into(), count: 2, error: None };
            (running(f).status.rules, running(f).denied) = (Some(rules), 3);
        },
        Severity::Hint,
        Some("cat /etc/rules"),
    ),
    (
        "rules-drop",
        |f| {
            let file = crate::daemon::RULES_OF_RECORD.into();
            let rules = RulesInForce { file, count: 2, error: None };
            (running(f).status.rules, running(f).denied) = (Some(rules), 1);
        },
        Severity::Hint,
        Some("shadowmesh rules show"),
    ),
    (
        "address-range",
        |f| {
            let away = Peer { state: PeerState::default(), ..peer("d", "10.10.0.1/16") };
            running(f).status.peers = vec![peer("b", "10.9.9.1/16"), peer("c", "10.7.9.1/16"), away];
        },
        Severity::Hint,
        None,
    ),
    (
        "approval",
        |f| refused(f, crate::daemon::refusal_in_words(13)),
        Severity::Fault,
        Some("sudo shadowmesh approve 4k7dqx2mzp"),
    ),
    (
        "approval",
        |f| {
            let why = Some(shadowmesh_proto::membership::Refusal::NeedsApproval.to_string());
            let waits = Member { id: "b".repeat(52), standing: "refused".into(), why, ..Member::default() };
            running(f).members = Some(Members { is_admin: true, members: vec![waits], ..Members::default() });
        },
        Severity::Warning,
        Some("shadowmesh approve bbbbbbbbbb"),
    ),
    (
        "joining",
        |f| {
            let membership = Membership { state: "joining".into(), ..Membership::default() };
            running(f).status.membership = Some(membership);
        },
        Severity::Fault,
        Some("sudo shadowmesh up --detach"),
    ),
    (
        "revoked",
        |f| member(f, "revoked", NOW + 90 * DAY),
        Severity::Fault,
        Some("shadowmesh leave && rm /var/lib/shadowmesh/node.key && shadowmesh up --detach smi1..."),
    ),
    (
        "revoked",
        |f| {
            member(f, "revoked", NOW + 90 * DAY);
            f.state.has_admin_key = true;
            running(f).status.membership.as_mut().unwrap().is_admin = true;
        },
        Severity::Fault,
        Some("shadowmesh down && rm /var/lib/shadowmesh/node.key && shadowmesh up --detach"),
    ),
    (
        "revoked",
        |f| {
            member(f, "revoked", NOW + 90 * DAY);
            running(f).status.membership.as_mut().unwrap().shut_out = Some("invite-used-up".into());
        },
        Severity::Fault,
        Some("shadowmesh leave && shadowmesh up --detach smi1..."),
    ),
    (
        "revoked",
        |f| {
            // `admins id --new` made the one in use, and no record names it; one that was put aside may be the root's.
            member(f, "revoked", NOW + 90 * DAY);
            f.state.has_admin_key = true;
        },
        Severity::Fault,
        Some("shadowmesh leave && rm /var/lib/shadowmesh/node.key && shadowmesh up --detach smi1..."),
    ),
    (
        "certificate",
        |f| member(f, "expired", NOW - DAY),
        Severity::Fault,
        Some("shadowmesh down && shadowmesh up --detach smi1..."),
    ),
    (
        "certificate",
        |f| member(f, "member", NOW + 29 * DAY),
        Severity::Warning,
        Some("sudo shadowmesh up --detach"),
    ),
    (
        "certificate",
        |f| {
            member(f, "member", NOW + 300 * DAY);
            running(f).status.clock = Some(ClockBehind { says: NOW, reckoned: NOW + 280 * DAY });
        },
        Severity::Warning,
        Some("sudo shadowmesh up --detach"),
    ),
    (
        "rp-filter",
        |f| f.kernel.uplinks = vec![("eth0".into(), 1), ("wlan0.5".into(), 1), ("x".into(), 2)],
        Severity::Warning,
        Some("sysctl -w net.ipv4.conf.eth0.rp_filter=2 net.ipv4.conf.wlan0/5.rp_filter=2"),
    ),
    (
        "socket-buffers",
        |f| f.kernel.wmem_max = Some(212_992),
        Severity::Hint,
        Some(
            "sysctl -w net.core.rmem_max=8388608 net.core.wmem_max=8388608 && shadowmesh down && shadowmesh up --detach",
        ),
    ),
    (
        "conntrack",
        |f| f.kernel.conntrack_count = Some(990),
        Severity::Fault,
        Some("sysctl -w net.netfilter.nf_conntrack_max=262144"),
    ),
];

#[test]
fn a_healthy_host_has_nothing_wrong_and_everything_was_looked_at() {
    let report = examine(&healthy());
    assert!(report.findings.is_empty() && report.unknown.is_empty() && report.healthy, "{report:?}");
    assert_eq!(report.clean.len(), CHECKS.len());
}

#[test]
fn each_fault_is_found_alone_with_the_line_that_mends_it() {
    for (id, break_it, severity, line) in CASES {
        let mut facts = healthy();
        break_it(&mut facts);
        let report = examine(&facts);
        let found: Vec<&Finding> = report.findings.iter().filter(|finding| finding.id == *id).collect();
        let [finding] = found.as_slice() else { panic!("{id}: {:?}", report.findings) };
        assert_eq!((finding.severity, finding.line.as_deref()), (*severity, *line), "{finding:?}");
        // A daemon that cannot start for that cause is not there either.
        let others: Vec<&str> =
            report.findings.iter().map(|finding| finding.id.as_str()).filter(|other| other != id).collect();
        assert!(
            others
                .iter()
                .all(|other| *other == "daemon" && ["subnet", "names-left", "settings"].contains(id)),
            "{id}: {others:?}"
        );
        assert_eq!(report.healthy, others.is_empty() && *severity != Severity::Fault, "{id}");
        assert!(!finding.sentence.contains('\n') && !finding.sentence.is_empty());
    }
}

#[test]
fn who_has_no_certificate_yet_has_none_that_is_good() {
    let mut facts = healthy();
    running(&mut facts).status.membership =
        Some(Membership { state: "joining".into(), ..Membership::default() });
    let report = examine(&facts);
    assert!(!report.healthy && report.clean.iter().all(|looked| looked.id != "certificate"), "{report:?}");
    assert!(report.unknown.iter().any(|unknown| unknown.id == "certificate"));
}

#[test]
fn each_check_has_a_case_and_a_name_of_its_own() {
    let checks: BTreeSet<&str> = CHECKS.iter().map(|check| check.id).collect();
    let cases: BTreeSet<&str> = CASES.iter().map(|(id, ..)| *id).collect();
    assert_eq!((checks.len(), &checks), (CHECKS.len(), &cases));
    let page = include_str!("../mod.rs");
    assert!(checks.iter().all(|id| page.contains(&format!("`{id}`"))), "the page lists them");
}

#[test]
fn who_is_not_root_types_sudo_and_is_told_what_was_not_looked_at() {
    let mut facts = healthy();
    (facts.caller.is_root, facts.caller.net_admin) = (false, false);
    (facts.state, facts.tun, facts.ruleset) =
        (State { access: Access::Denied, ..State::default() }, Tun::NotMine, None);
    facts.hosts.block = Block::Unknown;
    facts.call.options = vec!["--network".into(), "home".into()];
    running(&mut facts).status.version = "0".into();
    let report = examine(&facts);
    let unknown: Vec<&str> = report.unknown.iter().map(|unknown| unknown.id.as_str()).collect();
    for id in ["tun", "capability", "config", "secrets", "disk", "names-left", "firewall"] {
        assert!(unknown.contains(&id), "{id}: {unknown:?}");
    }
    let [finding] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    let line = "sudo shadowmesh --network home down && sudo shadowmesh --network home up --detach";
    assert_eq!(finding.line.as_deref(), Some(line));
}

/// The line for what this check finds.
#[track_caller]
fn line(facts: &Facts, id: &str) -> String {
    let report = examine(facts);
    let found = report.findings.iter().find(|finding| finding.id == id);
    found.and_then(|finding| finding.line.clone()).unwrap_or_else(|| panic!("no line of {id}: {report:?}"))
}

#[test]
fn a_machine_with_the_service_is_mended_as_one() {
    let mut facts = healthy();
    as_service(&mut facts);
    running(&mut facts).netcheck.as_mut().unwrap().mapping = Some("endpoint-dependent".into());
    running(&mut facts).status.peers[0].path.as_mut().unwrap().kind = PathKind::RelayUdp;
    facts.state.no_port_mapping = true;
    // What `up` is given is remembered, and the service starts with it.
    let once = "systemctl stop shadowmesh.service && shadowmesh up --detach --port-mapping on && shadowmesh down && \
                systemctl start shadowmesh.service";
    assert_eq!(line(&facts, "relayed"), once);
    settings(&mut facts, vec!["mtu"], None);
    let config = "up --detach --config /etc/shadowmesh/config.toml --port-mapping on";
    assert_eq!(line(&facts, "relayed"), once.replace("up --detach --port-mapping on", config));
    // But for what people's file says, which wins.
    settings(&mut facts, vec!["port_mapping"], None);
    let edited = "\"${EDITOR:-vi}\" /etc/shadowmesh/config.toml && systemctl restart shadowmesh.service";
    assert_eq!(line(&facts, "relayed"), edited);
    facts.caller.is_root = false;
    let edited =
        "sudo \"${EDITOR:-vi}\" /etc/shadowmesh/config.toml && sudo systemctl restart shadowmesh.service";
    assert_eq!(line(&facts, "relayed"), edited);
    facts.caller.is_root = true;

    member(&mut facts, "expired", NOW - DAY);
    settings(&mut facts, vec![], None);
    let joined = "shadowmesh up --detach smi1... && shadowmesh down && systemctl start shadowmesh";
    let stopped = format!("systemctl stop shadowmesh.service && {joined}.service");
    assert_eq!(line(&facts, "certificate"), stopped);
    // It would be there again in a moment while the state is put away.
    member(&mut facts, "revoked", NOW + DAY);
    let gone = "shadowmesh leave && rm /var/lib/shadowmesh/node.key";
    assert_eq!(
        line(&facts, "revoked"),
        stopped.replace(" && shadowmesh up", &format!(" && {gone} && shadowmesh up"))
    );

    // One that runs by hand makes way.
    let process = running(&mut facts).process.as_mut().unwrap();
    (process.unit, process.is_replaced) = (None, Some(true));
    let restarted = "systemctl stop shadowmesh && shadowmesh down && systemctl start shadowmesh";
    assert_eq!(line(&facts, "version"), restarted);

    without_daemon(&mut facts);
    assert_eq!(line(&facts, "daemon"), "systemctl start shadowmesh");
    facts.state.has_network = false;
    assert_eq!(line(&facts, "network"), format!("systemctl stop shadowmesh && {joined}"));
    facts.state.damage = damaged("network.toml");
    let again = format!("systemctl stop shadowmesh && shadowmesh leave && {joined}");
    assert_eq!(line(&facts, "state-damage"), again);
    facts.state.damage = None;
    facts.state.has_network = true;
    settings(&mut facts, vec!["address"], None);
    facts.interfaces.push(interface(9, "wg0", "10.7.200.1/24"));
    let edited = "\"${EDITOR:-vi}\" /etc/shadowmesh/config.toml && systemctl start shadowmesh";
    assert_eq!(line(&facts, "subnet"), edited);
    facts.daemon = Daemon::Silent { process: Some(process_of_service()) };
    assert_eq!(line(&facts, "silent"), "systemctl restart shadowmesh.service");
}

#[test]
fn nothing_is_said_to_be_carried_for_whom_nothing_passes() {
    let relayed = |change: fn(&mut Peer)| {
        let mut facts = healthy();
        let peer = &mut running(&mut facts).status.peers[0];
        peer.path.as_mut().unwrap().kind = PathKind::RelayWs;
        change(peer);
        examine(&facts).findings.iter().filter(|finding| finding.id == "relayed").count()
    };
    assert_eq!(relayed(|_| {}), 1);
    assert_eq!(relayed(|peer| peer.state = PeerState::Connecting), 0);
    assert_eq!(relayed(|peer| peer.barred = Some(Barred::default())), 0);
}

fn process_of_service() -> Process {
    process(9, Some("shadowmesh.service"))
}

#[test]
fn settings_that_only_root_may_see_are_not_judged() {
    let mut facts = healthy();
    settings(&mut facts, vec![], Some(SettingsFault::Denied));
    let report = examine(&facts);
    assert!(report.findings.is_empty(), "{report:?}");
    assert_eq!(report.unknown.iter().map(|unknown| unknown.id.as_str()).collect::<Vec<_>>(), ["settings"]);
}

#[test]
fn a_service_that_may_not_write_names_gets_its_drop_in_by_the_line() {
    let mut facts = healthy();
    as_service(&mut facts);
    running(&mut facts).status.names = unserved("/etc/hosts cannot be written: Permission denied");
    // Typed where nothing is told, and into a directory of this test.
    let home = tempfile::tempdir().unwrap();
    let at = home.path().to_str().unwrap();
    let line = line(&facts, "names").replace("/etc/systemd/system", at).replace("systemctl", "echo");
    let done = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(said, "daemon-reload\nrestart shadowmesh.service\n", "{line}: {done:?}");
    let written = std::fs::read_to_string(home.path().join("shadowmesh.service.d/names.conf")).unwrap();
    let lines: Vec<&str> = crate::service::unit::NAMES_DROP_IN
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert!(lines.contains(&"User=root"));
    assert_eq!(written.lines().collect::<Vec<_>>(), lines);
    // With it, or by hand, something else is wrong.
    running(&mut facts).process.as_mut().unwrap().is_root = Some(true);
    assert_eq!(self::line(&facts, "names"), "shadowmesh reload");
}

#[test]
fn the_worst_comes_first() {
    let mut facts = healthy();
    facts.kernel.wmem_max = Some(1);
    facts.kernel.conntrack_count = Some(1_000);
    running(&mut facts).status.peers[0].wanted = Wanted::Relay;
    let severities: Vec<Severity> = examine(&facts).findings.iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, [Severity::Fault, Severity::Warning, Severity::Hint]);
}

#[test]
fn a_firewall_is_accused_only_where_it_is_certain() {
    let clean = |rules: serde_json::Value| {
        let facts = Facts { ruleset: Some(json!({ "nftables": rules })), ..healthy() };
        examine(&facts).findings.is_empty()
    };
    let port = json!({ "match": { "op": "==", "left": { "payload": { "protocol": "tcp", "field": "dport" } }, "right": 22 } });
    // Some of what comes by the device, or what comes by others.
    assert!(clean(json!([chain("accept"), rule(1, json!([by("smesh0"), port, { "drop": null }]))])));
    assert!(clean(json!([chain("accept"), rule(1, json!([by("eth0"), { "drop": null }]))])));
    assert!(clean(json!([chain("drop"), rule(1, json!([by("smesh0"), { "accept": null }]))])));
    assert!(clean(json!([chain("drop"), rule(1, json!([{ "accept": null }]))])));
    assert!(clean(json!([chain("drop"), rule(1, json!([{ "jump": { "target": "more" } }]))])));
    assert!(!clean(json!([chain("drop"), rule(1, json!([port, { "accept": null }]))])));
    assert!(!clean(json!([
        chain("accept"),
        rule(1, json!([by("smesh*"), { "counter": {} }, { "reject": null }]))
    ])));
    // What is not understood spares something of what is dropped, and lets in all of what is accepted.
    let xt = json!({ "xt": { "type": "match", "name": "tcp" } });
    let limit = json!({ "limit": { "rate": 10, "per": "second" } });
    for spared in [&xt, &limit] {
        assert!(clean(json!([chain("accept"), rule(1, json!([by("smesh0"), spared, { "drop": null }]))])));
    }
    let from = json!({ "match": { "op": "==", "left": { "payload": { "protocol": "ip", "field": "saddr" } }, "right": "10.7.0.0" } });
    let others =
        json!({ "match": { "op": "!=", "left": { "meta": { "key": "iifname" } }, "right": "eth0" } });
    let set =
        json!({ "match": { "op": "==", "left": { "meta": { "key": "iifname" } }, "right": "@trusted" } });
    for opens in [&xt, &from, &others, &set] {
        assert!(clean(json!([chain("drop"), rule(1, json!([opens, { "accept": null }]))])), "{opens}");
    }
    let by_name = json!({ "vmap": { "key": { "meta": { "key": "iifname" } }, "data": { "set": [] } } });
    assert!(clean(json!([chain("drop"), rule(1, json!([by_name]))])));
    let state =
        json!({ "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": ["established"] } });
    assert!(!clean(json!([chain("drop"), rule(1, json!([state, { "accept": null }]))])));
    // What is forwarded, or comes to a chain only by a jump.
    let mut forward = chain("accept");
    forward["chain"]["hook"] = json!("forward");
    let mut jumped = chain("accept");
    jumped["chain"].as_object_mut().unwrap().remove("hook");
    for chain in [forward, jumped] {
        assert!(clean(json!([chain, rule(1, json!([by("smesh0"), { "drop": null }]))])));
    }
    let set = json!({ "match": { "op": "==", "left": { "meta": { "key": "oifname" } }, "right": { "set": ["a", "smesh0"] } } });
    assert!(!clean(json!([chain("accept"), rule(1, json!([set, { "drop": null }]))])));
}
