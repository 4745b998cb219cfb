//! The way to the relays, and what comes of it for the paths to peers.

use super::super::facts::{AddressReach, Facts, RelayReach, Running, Tcp};
use super::super::finding::{Outcome, Trouble};
use super::super::line::quoted;
use super::NO_DAEMON;
use crate::control::message::Wanted;
use crate::control::status::{PathKind, Peer, PeerState, Relay, RelayState};
use std::collections::BTreeMap;

const NO_RELAY: &str = "no relay is known to this user";
/// What the daemon says when it ends because every relay hung up on it.
const OTHER_KEY: &str = "does not hold the key of the ticket";

/// The best that any address of a relay does, if none stands.
fn worst(relay: &RelayReach) -> Option<(&AddressReach, Tcp)> {
    let best = relay.addresses.iter().min_by_key(|address| address.tcp)?;
    (best.tcp != Tcp::Open).then_some((best, best.tcp))
}

/// As bad as it is for the whole: with another relay it is no more than a warning.
fn as_bad(facts: &Facts, sentence: String) -> Trouble {
    let is_connected = facts.daemon.running().is_some_and(|running| {
        running.status.relays.iter().any(|relay| relay.state == RelayState::Connected)
    });
    if is_connected { Trouble::warning(sentence) } else { Trouble::fault(sentence) }
}

fn each(facts: &Facts, wanted: Tcp, trouble: impl Fn(&AddressReach) -> Trouble) -> Outcome {
    if facts.relays.is_empty() {
        return Outcome::Unknown(NO_RELAY);
    }
    let found = facts.relays.iter().filter_map(worst).filter(|(_, tcp)| *tcp == wanted);
    found.map(|(address, _)| trouble(address)).collect()
}

/// By which proxy the relays are reached, and why they are not.
pub(super) fn proxy(facts: &Facts) -> Outcome {
    if facts.relays.is_empty() {
        return Outcome::Unknown(NO_RELAY);
    }
    let is_connected = |address: &AddressReach| {
        let mut relays = facts.daemon.running().into_iter().flat_map(|running| &running.status.relays);
        relays.any(|relay| relay.authority() == address.text && relay.state == RelayState::Connected)
    };
    let mut troubles: BTreeMap<String, Trouble> = BTreeMap::new();
    for address in facts.relays.iter().flat_map(|relay| &relay.addresses) {
        let Some(proxy) = &address.proxy else { continue };
        // The daemon has what this user was asked for.
        let fault = proxy.fault.as_ref().filter(|_| !(proxy.wants_user && is_connected(address)));
        let trouble = match fault {
            Some(fault) => {
                let trouble = as_bad(facts, format!("the proxy {} {fault}", proxy.at));
                if proxy.wants_user {
                    trouble.line(facts.set("proxy", &format!(" --proxy http://USER:PASSWORD@{}", proxy.at)))
                } else {
                    trouble
                }
            }
            None => Trouble::hint(format!(
                "the relay at {} is reached by the HTTP proxy {}",
                address.text, proxy.at
            )),
        };
        // Said once, whoever is behind it.
        troubles.entry(trouble.sentence.clone()).or_insert(trouble);
    }
    troubles.into_values().collect()
}

/// A relay that is there and takes nobody from here for now. What it says of versions is told by [`protocol`].
pub(super) fn place(facts: &Facts) -> Outcome {
    let Some(Running { status, .. }) = facts.daemon.running() else { return Outcome::Unknown(NO_DAEMON) };
    let refused = status.relays.iter().filter(|relay| relay.state != RelayState::Connected);
    let refused = refused.filter_map(|relay| Some((relay, relay.refused.as_ref()?)));
    refused
        .filter(|(_, why)| !is_of_versions(why))
        .map(|(relay, why)| {
            as_bad(facts, format!("the relay at {} does not take this node in: {why}", relay.authority()))
        })
        .collect()
}

fn is_of_versions(why: &str) -> bool {
    why.contains(" of the protocol")
}

pub(super) fn name(facts: &Facts) -> Outcome {
    if facts.relays.is_empty() {
        return Outcome::Unknown(NO_RELAY);
    }
    let unresolved = facts.relays.iter().flat_map(|relay| &relay.addresses);
    let mut hosts: Vec<&str> = unresolved
        .filter(|address| address.tcp == Tcp::Unresolved)
        .map(|address| address.host.as_str())
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    let trouble = |host: &&str| {
        let sentence = format!("the relay's name {host} has no address here");
        if facts.has_name_server == Some(false) {
            let line = format!("echo nameserver 9.9.9.9 | {}", facts.root("tee -a /etc/resolv.conf"));
            return as_bad(facts, format!("{sentence}: there is no name server in /etc/resolv.conf"))
                .line(line);
        }
        let unknown = as_bad(facts, format!("{sentence}: the name servers do not know it, or do not answer"));
        // What systemd-resolved remembers of a time without an answer is all that can be mended here.
        if facts.has_resolved { unknown.line(facts.root("resolvectl flush-caches")) } else { unknown }
    };
    hosts.iter().map(trouble).collect()
}

pub(super) fn refused(facts: &Facts) -> Outcome {
    each(facts, Tcp::Refused, |address| {
        as_bad(facts, format!("nobody listens at {}: no relay is running there", address.text))
            .line("sudo systemctl restart shadowmesh-relay")
            .on(format!("the relay, {}", address.host))
    })
}

pub(super) fn silent(facts: &Facts) -> Outcome {
    each(facts, Tcp::Silent, |address| {
        let sentence = format!(
            "{} does not answer by TCP: mostly a firewall before the relay, else one that lets nothing out here",
            address.text
        );
        as_bad(facts, sentence)
            .line(format!("sudo nft insert rule inet filter input tcp dport {} accept", address.port))
            .on(format!("the relay, {}", address.host))
    })
}

pub(super) fn unreachable(facts: &Facts) -> Outcome {
    each(facts, Tcp::Unreachable, |address| {
        let trouble =
            as_bad(facts, format!("this machine has no way to {}: it is not on the internet", address.text));
        // Not one that is up and has no carrier, such as the bridge of containers that do not run.
        match facts.kernel.down.first() {
            Some(name) => trouble.line(facts.root(&format!("ip link set {} up", quoted(name)))),
            None => trouble,
        }
    })
}

/// A relay that takes connections and lets nobody register: it does not prove the key that the ticket names.
pub(super) fn key(facts: &Facts) -> Outcome {
    let ask = "; ask for its ticket (`sudo shadowmesh-relay ticket` there)";
    let sentence =
        |address: &str| format!("what answers at {address} does not have the key of the relay's ticket{ask}");
    let Some(Running { status, .. }) = facts.daemon.running() else {
        let ended = facts.state.last_words.as_ref().filter(|words| words.contains(OTHER_KEY));
        let known = ended.and_then(|_| facts.relays.first()?.addresses.first());
        let open = known.filter(|address| address.tcp == Tcp::Open);
        return match open {
            Some(address) => {
                Trouble::fault(sentence(&address.text)).line(facts.start(" --relay smr1...")).into()
            }
            None => Outcome::Unknown(NO_DAEMON),
        };
    };
    let is_open = |address: &str| {
        let mut all = facts.relays.iter().flat_map(|relay| &relay.addresses);
        all.any(|known| known.text == address && known.tcp == Tcp::Open)
    };
    let connected: Vec<&str> = status
        .relays
        .iter()
        .filter(|relay| relay.state == RelayState::Connected)
        .map(Relay::authority)
        .collect();
    // One that says why is there.
    let is_kept_out = |relay: &&Relay| relay.state != RelayState::Connected && relay.refused.is_none();
    let kept_out = status.relays.iter().filter(is_kept_out).map(Relay::authority);
    let found = kept_out.filter(|address| is_open(address)).map(|address| {
        if connected.contains(&address) {
            let old =
                format!("an old ticket of the relay at {address} is still known, whose key is gone: no harm");
            return Trouble::hint(old);
        }
        as_bad(facts, sentence(address)).line(facts.restart(" --relay smr1..."))
    });
    found.collect()
}

/// Who is to be upgraded is in the sentence: the daemon knows both sides' versions. A relay's own sentence is told as it stands.
pub(super) fn protocol(facts: &Facts) -> Outcome {
    let Some(Running { status, .. }) = facts.daemon.running() else { return Outcome::Unknown(NO_DAEMON) };
    let peers = status.peers.iter().filter_map(|peer| Some((&peer.name, peer.incompatible.as_ref()?)));
    let peers = peers.map(|(name, why)| Trouble::fault(format!("there is no session with {name}: {why}")));
    let relays = status.relays.iter().filter_map(|relay| {
        let why = relay.refused.as_ref().filter(|why| is_of_versions(why))?;
        Some(Trouble::fault(format!("the relay at {} is of no use: {why}", relay.authority())))
    });
    peers.chain(relays).collect()
}

pub(super) fn udp(facts: &Facts) -> Outcome {
    let Some(netcheck) = facts.daemon.running().and_then(|running| running.netcheck.as_ref()) else {
        return Outcome::Unknown(NO_DAEMON);
    };
    match netcheck.udp {
        Some(true) => Outcome::Clean,
        None => Outcome::Unknown("no relay has answered, and none been asked in vain for long enough"),
        Some(false) => {
            let known = facts
                .relays
                .iter()
                .flat_map(|relay| &relay.addresses)
                .find(|address| address.tcp == Tcp::Open);
            let sentence = "no relay answers by UDP: everything goes by streams; mostly a firewall before the relay, else one here";
            let trouble = Trouble::warning(sentence);
            match known {
                Some(AddressReach { port, host, .. }) => {
                    let ports = format!("'{{ {port}, {} }}'", port.saturating_add(1));
                    let line = format!("sudo nft insert rule inet filter input udp dport {ports} accept");
                    trouble.line(line).on(format!("the relay, {host}"))
                }
                None => trouble,
            }
            .into()
        }
    }
}

pub(super) fn pinned(facts: &Facts) -> Outcome {
    let Some(Running { status, .. }) = facts.daemon.running() else { return Outcome::Unknown(NO_DAEMON) };
    let pinned = status.peers.iter().filter(|peer| peer.wanted != Wanted::Auto);
    pinned
        .map(|peer| {
            let sentence =
                format!("data for {} is kept on `{}` by `shadowmesh path`", peer.name, peer.wanted);
            Trouble::warning(sentence)
                .line(facts.shadowmesh(&format!("path {} --use auto", quoted(&peer.name))))
        })
        .collect()
}

/// Whom only the relay reaches, by why that is so.
pub(super) fn relayed(facts: &Facts) -> Outcome {
    let Some(running) = facts.daemon.running() else { return Outcome::Unknown(NO_DAEMON) };
    let is_relayed = |peer: &&Peer| {
        let kind = peer.path.as_ref().map(|path| path.kind);
        // Where nothing passes, nothing is carried.
        let is_carried = peer.state == PeerState::Connected && peer.barred.is_none();
        is_carried
            && peer.wanted == Wanted::Auto
            && matches!(kind, Some(PathKind::RelayUdp | PathKind::RelayWs))
    };
    let mut by_cause: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for peer in running.status.peers.iter().filter(is_relayed) {
        let why = peer.path.as_ref().map_or("", |path| path.why.as_str());
        by_cause.entry(why).or_default().push(&peer.name);
    }
    let netcheck = running.netcheck.as_ref();
    let is_symmetric = netcheck.is_some_and(|found| found.mapping.as_deref() == Some("endpoint-dependent"));
    let no_ipv6 = netcheck.is_some_and(|found| !found.ipv6);
    let trouble = |(why, names): (&str, Vec<&str>)| {
        let router = match (is_symmetric, no_ipv6) {
            (true, true) => "; the router here takes another port for each destination, and there is no IPv6",
            (true, false) => "; the router here takes another port for each destination",
            (false, _) => "",
        };
        let hint =
            Trouble::hint(format!("the relay carries what is for {}: {why}{router}", names.join(", ")));
        if is_symmetric && facts.state.no_port_mapping {
            hint.line(facts.set("port_mapping", " --port-mapping on"))
        } else {
            hint
        }
    };
    by_cause.into_iter().map(trouble).collect()
}
