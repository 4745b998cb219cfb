//! The checks: one list of small deciders over [`Facts`]. They decide and do nothing; what they need to know stands in the facts.
//!
//! A decider says [`Outcome::Unknown`] where it has too little to go by, and is silent ([`Outcome::Clean`]) where another one speaks of the
//! same cause: one fault, one finding.

mod daemon;
mod device;
mod firewall;
mod machine;
mod members;
mod names;
mod relays;
mod state;
#[cfg(test)]
mod tests;

use super::facts::Facts;
use super::finding::{Finding, Looked, NotLooked, Outcome, Report, Severity, Trouble};

/// Why a check is unknown that asks the daemon.
const NO_DAEMON: &str = "no daemon answers";

/// A check.
pub(super) struct Check {
    /// Its name, for programs.
    pub(super) id: &'static str,
    /// What is in order where it finds nothing.
    pub(super) what: &'static str,
    decide: fn(&Facts) -> Outcome,
}

const fn check(id: &'static str, what: &'static str, decide: fn(&Facts) -> Outcome) -> Check {
    Check { id, what, decide }
}

/// All of them, in the order in which they are told: first what else may follow from.
pub(super) const CHECKS: &[Check] = &[
    check("tun", "/dev/net/tun can be opened", machine::tun),
    check("capability", "devices may be made (CAP_NET_ADMIN)", machine::capability),
    check("state-layout", "the state directory is of a layout that this program knows", state::layout),
    check("state-damage", "the files in the state directory can be read", state::damage),
    check("config", "config.toml can be read, without an unknown key", state::config),
    check(
        "settings",
        "the file of settings (`up --config`) can be read, without an unknown key",
        state::settings,
    ),
    check("secrets", "nobody else may read the keys", state::secrets),
    check("state-writable", "the state directory can be written", state::writable),
    check("disk", "there is room for the state", state::disk),
    check("clock", "the clock is not behind", state::clock),
    check("network", "this host is in a network", daemon::network),
    check("daemon", "a daemon runs", daemon::runs),
    check("lock", "the daemon of this state is the one that answers", daemon::lock),
    check("socket", "the control socket lets this user ask", daemon::socket),
    check("silent", "the daemon answers", daemon::silent),
    check("version", "daemon and command are of one version", daemon::version),
    check("two-daemons", "one daemon of this network runs here", daemon::others),
    check("open-files", "the daemon may open enough files", daemon::open_files),
    check("names", "members are found by name where that is asked for", names::served),
    check("names-left", "no names are left of a daemon that was killed", names::left),
    check("rules", "the access rules in force are those of their file", daemon::rules),
    check("rules-drop", "the access rules drop nothing that comes now", daemon::rules_drop),
    check("device-down", "the device is up", device::down),
    check("device-mtu", "the device has the MTU that it was given", device::mtu),
    check("device-addresses", "the device has this node's addresses", device::addresses),
    check("ipv6-off", "IPv6 is not switched off", device::ipv6_off),
    check("subnet", "the network's range is used by nothing else here", device::subnet),
    check("firewall", "no rule of nftables drops what comes by the device", firewall::decide),
    check("bridge-filter", "bridged frames do not go through the firewall", device::bridge_filter),
    check("relay-proxy", "no proxy is between this host and the relays", relays::proxy),
    check("relay-name", "the names of the relays have addresses", relays::name),
    check("relay-refused", "the relays listen", relays::refused),
    check("relay-silent", "the relays can be reached by TCP", relays::silent),
    check("relay-way", "there is a way to the relays", relays::unreachable),
    check("relay-place", "the relays take this node in", relays::place),
    check("relay-key", "the relays have the keys of their tickets", relays::key),
    check(
        "protocol",
        "peers and relays speak a version of the protocol that this program does",
        relays::protocol,
    ),
    check("udp", "UDP works to a relay", relays::udp),
    check("pinned", "no peer is kept from its best path by `shadowmesh path`", relays::pinned),
    check("relayed", "every peer is reached directly", relays::relayed),
    check("address-taken", "this node's addresses are its own", members::address_taken),
    check("address-range", "the members that are connected are in this node's range", members::out_of_range),
    check("approval", "nobody waits for an admin", members::approval),
    check("joining", "this host has joined its network", members::joining),
    check("revoked", "this host was not revoked", members::revoked),
    check("certificate", "this host's certificate is good for 30 days and more", members::certificate),
    check("rp-filter", "no strict reverse-path filter between several uplinks", machine::rp_filter),
    check("socket-buffers", "sockets may have large buffers", machine::socket_buffers),
    check("conntrack", "there is room in the connection table", machine::conntrack),
];

/// What the checks look at: the name of each, and what is in order where it finds nothing.
pub(crate) fn looks_at() -> impl Iterator<Item = (&'static str, &'static str)> {
    CHECKS.iter().map(|check| (check.id, check.what))
}

/// Makes all checks.
pub(crate) fn examine(facts: &Facts) -> Report {
    let mut report = Report {
        version: facts.version.to_owned(),
        healthy: true,
        findings: Vec::new(),
        clean: Vec::new(),
        unknown: Vec::new(),
    };
    for check in CHECKS {
        let id = check.id.to_owned();
        match (check.decide)(facts) {
            Outcome::Clean => report.clean.push(Looked { id, what: check.what.to_owned() }),
            Outcome::Unknown(why) => report.unknown.push(NotLooked { id, why: why.to_owned() }),
            Outcome::Found(troubles) => {
                let named = |Trouble { severity, sentence, line, host }| Finding {
                    id: id.clone(),
                    severity,
                    sentence,
                    line,
                    host,
                };
                report.findings.extend(troubles.into_iter().map(named));
            }
        }
    }
    // Stable: among equals the order of the list.
    report.findings.sort_by_key(|finding| finding.severity);
    report.healthy = report.findings.iter().all(|finding| finding.severity != Severity::Fault);
    report
}
