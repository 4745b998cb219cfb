//! `doctor --bundle`: an archive for somebody who helps, in which nobody is named.
//!
//! [`parts`] makes the texts of the facts and of the daemon's log, each through one set of [`pseudonyms`]; [`write()`] puts them into a
//! file that only its owner may read. Keys, the network's secret and invites are never read for it; the configuration is written anew from
//! what was understood of it, with tickets replaced: a file that cannot be read is left out, whatever was mistyped into it. Whom a log
//! names who is known nowhere else is known by the words around the name ([`mod@log`]). What nobody can tell from a word that means nothing is
//! left out: comments of firewall rules, and what they write into logs. What people called their tables, chains and sets is replaced ([`firewall`]).

mod firewall;
mod log;
mod pseudonyms;
#[cfg(test)]
mod tests;

use super::facts::{Facts, Kernel};
use super::finding::Report;
use super::gather::output_of;
use crate::config::{Config, ProxyChoice};
use crate::daemon::config_file::ConfigFile;
use crate::daemon::log_file;
use crate::daemon::state_dir::StateDir;
use crate::names::label::Label;
use crate::new_file;
use flate2::Compression;
use flate2::write::GzEncoder;
use log::{Named, host_of};
use pseudonyms::Pseudonyms;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

/// What is taken of a log, bytes: its end.
const LOG: u64 = 256 * 1024;
/// Users below are the machine's own, and so is `nobody` (login.defs(5), `UID_MIN`, `UID_MAX`).
const PEOPLE: std::ops::RangeInclusive<u32> = 1_000..=60_000;
/// Directory in the archive.
const INSIDE: &str = "shadowmesh-doctor";

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its name.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

/// What is read for the archive besides the facts.
#[derive(Debug, Clone, Default)]
struct Extra {
    config: Option<Config>,
    /// Those in people's file, where there is one.
    settings: Option<Config>,
    /// What the network is called where no daemon says it.
    network: Option<String>,
    log: Option<String>,
    system: String,
    hostname: String,
    users: Vec<String>,
    /// Words that name nobody.
    ordinary: BTreeSet<String>,
    /// The counts of interfaces and protocols, as the kernel prints them.
    counters: String,
}

/// The files of the archive. Of `ordinary` words, in lower case, sentences are made: who is called by one is not looked for in them.
pub(crate) async fn parts(facts: &Facts, report: &Report, ordinary: BTreeSet<String>) -> Vec<Part> {
    assemble(facts, report, &Extra { ordinary, ..read(facts).await })
}

async fn read(facts: &Facts) -> Extra {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let os = text("/etc/os-release");
    let os = os.lines().filter(|line| line.starts_with("PRETTY_NAME=")).collect::<Vec<_>>().join("\n");
    let kernel =
        format!("{} {}", text("/proc/sys/kernel/ostype").trim(), text("/proc/sys/kernel/osrelease").trim());
    let callers = ["USER", "SUDO_USER", "LOGNAME"].iter().filter_map(|name| std::env::var(name).ok());
    let state = StateDir::open_existing(&facts.call.state).ok().flatten();
    let counted =
        ["/proc/net/dev", "/proc/net/snmp", "/proc/net/snmp6", "/proc/net/netstat", "/proc/net/softnet_stat"];
    let mut counters = String::new();
    for path in counted {
        // Writing to a String does not fail.
        let _ = writeln!(counters, "== {path}\n{}", text(path));
    }
    Extra {
        config: state.as_ref().and_then(|state| state.load_config().ok()),
        settings: facts.settings.as_ref().and_then(|file| ConfigFile::new(&file.path).read().ok()),
        network: state.and_then(|state| Some(state.load_network().ok()??.name)),
        log: log(facts).await,
        system: format!("{kernel}\n{os}\n{}", std::env::consts::ARCH),
        hostname: text("/proc/sys/kernel/hostname").trim().to_owned(),
        users: callers.filter(|user| user != "root").chain(people(&text("/etc/passwd"))).collect(),
        counters,
        ordinary: BTreeSet::new(),
    }
}

/// Who is no program (passwd(5)).
fn people(passwd: &str) -> Vec<String> {
    let name = |line: &str| {
        let mut fields = line.split(':');
        let (name, user) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        PEOPLE.contains(&user).then(|| name.to_owned())
    };
    passwd.lines().filter_map(name).collect()
}

/// The end of the daemon's log.
async fn log(facts: &Facts) -> Option<String> {
    let own = log_file::tail(&facts.call.state.join(log_file::NAME), LOG).ok();
    let own = own.filter(|text| !text.is_empty());
    let is_needed = is_service(facts) || own.is_none();
    let journal = if is_needed { journal(facts).await } else { None };
    chosen(facts, own, journal)
}

/// Of a service the journal; else the file, which `up --detach` begins anew each time. The other where that one is not there.
fn chosen(facts: &Facts, own: Option<String>, journal: Option<String>) -> Option<String> {
    if is_service(facts) { journal.or(own) } else { own.or(journal) }
}

/// Whether the daemon in question is a service, or would be if it ran: a file that is there then is of one that ran by hand before.
fn is_service(facts: &Facts) -> bool {
    match facts.daemon.process() {
        Some(process) => process.unit.is_some(),
        None => facts.has_service,
    }
}

/// The end of what the service said.
async fn journal(facts: &Facts) -> Option<String> {
    let unit =
        facts.daemon.process().and_then(|process| process.unit.as_deref()).unwrap_or("shadowmesh.service");
    let words = ["--unit", unit, "--lines", "2000", "--no-pager", "--no-hostname", "--output", "short-iso"];
    let text = String::from_utf8_lossy(&output_of("journalctl", &words).await?).into_owned();
    let from = text.len().saturating_sub(usize::try_from(LOG).unwrap_or(usize::MAX));
    let tail = (from..=text.len()).find_map(|from| text.get(from..)).unwrap_or_default();
    (!tail.is_empty()).then(|| tail.to_owned())
}

fn assemble(facts: &Facts, report: &Report, extra: &Extra) -> Vec<Part> {
    let mut known = acquainted(facts, extra);
    let mut parts = Vec::new();
    let mut add = |name: &str, text: String| parts.push(Part { name: name.to_owned(), text });
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    add("README.txt", README.to_owned());
    add("versions.txt", format!("shadowmesh {}\n{}\n", facts.version, known.text(&extra.system)));
    add("doctor.json", pretty(&known.document(&value(report))));
    if let Some(running) = facts.daemon.running() {
        add("status.json", pretty(&known.document(&value(&running.status))));
        if let Some(netcheck) = &running.netcheck {
            add("netcheck.json", pretty(&known.document(&value(netcheck))));
        }
        if let Some(members) = &running.members {
            add("members.json", pretty(&known.document(&value(members))));
        }
    }
    if let Some(config) = &extra.config {
        add("config.toml", known.text(&config.clone().without_secrets().to_toml()));
    }
    if let Some(settings) = &extra.settings {
        add("settings.toml", known.text(&settings.clone().without_secrets().to_toml()));
    }
    add("network.json", pretty(&known.document(&network(facts))));
    add("kernel.json", pretty(&known.document(&kernel(&facts.kernel))));
    add("counters.txt", known.text(&extra.counters));
    if let Some(ruleset) = &facts.ruleset {
        let ruleset = firewall::unnamed(ruleset, &mut known);
        add("firewall.json", pretty(&known.document(&ruleset)));
    }
    if let Some(log) = &extra.log {
        add("daemon.log", known.text(log));
    }
    parts
}

/// A document as a value. Those of ours have texts for keys, and nothing in them fails.
fn value(of: &impl serde::Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

const README: &str = "\
What `shadowmesh doctor --bundle` found on a host, for who helps.

Names, addresses, keys and tickets are replaced: the same one by the same word everywhere in this archive. private4-s1-n2-h3 is a
private IPv4 address; those with the same s lie in one /16, with the same n in one /24 (IPv6: /48 and /64). overlay4 and overlay6
are addresses in the network itself. No secret is in here.
";

/// Who and what must not be told, from everywhere where it is known to be a name, a key or a range.
fn acquainted(facts: &Facts, extra: &Extra) -> Pseudonyms {
    let mut known = Pseudonyms::among(extra.ordinary.clone());
    known.name(&extra.hostname);
    known.name(extra.hostname.split('.').next().unwrap_or_default());
    extra.users.iter().for_each(|user| known.name(user));
    for at in [&facts.call.state, &facts.call.socket]
        .into_iter()
        .chain(facts.others.iter().map(|other| &other.state))
    {
        known.path(at);
    }
    for words in facts.call.options.chunks(2) {
        match words {
            [option, name] if option == "--network" => known.name(name),
            [_, path] => known.path(Path::new(path)),
            _ => {}
        }
    }
    let interfaces = facts.interfaces.iter().map(|one| &one.name);
    for name in
        interfaces.chain(facts.device.iter().flat_map(|link| [&link.name].into_iter().chain(&link.bridge)))
    {
        known.interface(name);
    }
    facts.settings.iter().for_each(|file| known.path(&file.path));
    for config in extra.config.iter().chain(&extra.settings) {
        config.name.iter().for_each(|name| known.name(name.as_str()));
        config.device.iter().for_each(|device| known.interface(device.as_str()));
        config
            .bridge
            .iter()
            .filter_map(|bridge| bridge.name())
            .for_each(|bridge| known.interface(bridge.as_str()));
        config.rules.iter().for_each(|rules| known.path(Path::new(rules.as_str())));
        for address in config.relays.iter().flat_map(|relay| &relay.addresses) {
            known.host(host_of(address));
        }
        if let Some(ProxyChoice::By(proxy)) = &config.proxy {
            known.host(host_of(proxy.host_port()));
        }
    }
    let network =
        extra.network.iter().chain(facts.daemon.running().map(|running| &running.status.network.name));
    for name in network {
        known.name(name);
        known.name(Label::of_network(name, "")[0].as_str());
    }
    let named = extra.log.as_deref().map(Named::of).unwrap_or_default();
    named.peers.iter().for_each(|name| known.name(name));
    named.relays.iter().for_each(|host| known.host(host));
    named.machines.iter().for_each(|machine| known.name(machine));
    if let Some(ruleset) = &facts.ruleset {
        firewall::interfaces(ruleset, &mut |name| known.interface(name));
        firewall::places(ruleset, &mut known);
    }
    facts.state.own.iter().for_each(|range| known.overlay(*range));
    for address in facts.relays.iter().flat_map(|relay| &relay.addresses) {
        known.host(&address.host);
        address.proxy.iter().for_each(|proxy| known.host(host_of(&proxy.at)));
    }
    let Some(running) = facts.daemon.running() else {
        named.keys.iter().for_each(|id| known.key(id));
        return known;
    };
    let status = &running.status;
    let ranges = status.node.addresses.iter().filter_map(|text| text.parse().ok());
    ranges.for_each(|range| known.overlay(range));
    for (id, name) in std::iter::once((&status.node.id, &status.node.name))
        .chain([(&status.network.id, &status.network.name)])
        .chain(status.peers.iter().map(|peer| (&peer.id, &peer.name)))
    {
        known.key(id);
        known.name(name);
    }
    status.rules.iter().for_each(|rules| known.path(Path::new(&rules.file)));
    status.names.iter().flat_map(|names| &names.left_out).for_each(|left| known.name(&left.name));
    if let Some(membership) = &status.membership {
        known.name(&membership.name);
        membership.tags.iter().for_each(|tag| known.name(tag));
    }
    for tag in status.peers.iter().filter_map(|peer| peer.member.as_ref()).flat_map(|member| &member.tags) {
        known.name(tag);
    }
    if let Some(members) = &running.members {
        known.key(&members.root);
        for member in &members.members {
            known.key(&member.id);
            known.name(&member.name);
            member.tags.iter().for_each(|tag| known.name(tag));
        }
        for admin in &members.admins {
            known.key(&admin.id);
            known.name(&admin.name);
        }
        members.revoked.iter().for_each(|revoked| known.key(&revoked.id));
        for relay in &members.relays {
            known.host(host_of(relay));
        }
    }
    // Behind the whole ones, which they stand for.
    named.keys.iter().for_each(|id| known.key(id));
    known
}

/// Settings and counts of the kernel.
fn kernel(kernel: &Kernel) -> Value {
    let Kernel { rmem_max, wmem_max, conntrack_count, conntrack_max, bridge_nf, ipv6_off, uplinks, down } =
        kernel;
    let uplinks: Vec<Value> =
        uplinks.iter().map(|(name, rp_filter)| json!({ "name": name, "rp_filter": rp_filter })).collect();
    json!({
        "rmem_max": rmem_max,
        "wmem_max": wmem_max,
        "conntrack_count": conntrack_count,
        "conntrack_max": conntrack_max,
        "bridge_nf": bridge_nf,
        "ipv6_off": ipv6_off,
        "uplinks": uplinks,
        "down": down,
    })
}

/// Interfaces, routes, the device and how the relays are reached.
fn network(facts: &Facts) -> Value {
    let name =
        |index: u32| facts.interfaces.iter().find(|one| one.index == index).map(|one| one.name.clone());
    let interfaces: Vec<Value> = facts
        .interfaces
        .iter()
        .map(|one| {
            let addresses: Vec<String> =
                one.addresses.iter().map(|address| address.cidr.to_string()).collect();
            json!({ "name": one.name, "running": one.running, "addresses": addresses })
        })
        .collect();
    let routes: Vec<Value> = facts
        .routes
        .iter()
        .map(|route| {
            let hops: Vec<Value> = route
                .hops
                .iter()
                .map(|hop| json!({ "interface": name(hop.interface), "alive": hop.alive }))
                .collect();
            let destination = route.destination.to_string();
            json!({ "destination": destination, "hops": hops, "metric": route.metric, "table": route.table })
        })
        .collect();
    let relays: Vec<Value> = facts
        .relays
        .iter()
        .flat_map(|relay| &relay.addresses)
        .map(|address| {
            let numbers: Vec<String> = address.numbers.iter().map(ToString::to_string).collect();
            json!({ "address": address.text, "numbers": numbers, "tcp": format!("{:?}", address.tcp) })
        })
        .collect();
    let device = facts.device.as_ref().map(|link| {
        let addresses: Vec<String> = link.addresses.iter().map(ToString::to_string).collect();
        json!({ "name": link.name, "up": link.is_up, "mtu": link.mtu, "bridge": link.bridge, "addresses": addresses })
    });
    json!({ "device": device, "interfaces": interfaces, "routes": routes, "relays": relays })
}

/// Writes the archive: a tar, compressed with gzip, for its owner alone. What is there already is left as it is.
///
/// # Errors
/// `AlreadyExists`, and what the system says.
pub(crate) fn write(file: &Path, parts: &[Part]) -> io::Result<()> {
    new_file::write(file, |opened| archive(opened, parts))
}

fn archive(out: impl io::Write, parts: &[Part]) -> io::Result<()> {
    let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::default()));
    for Part { name, text } in parts {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, format!("{INSIDE}/{name}"), text.as_bytes())?;
    }
    tar.into_inner()?.finish()?.flush()
}
