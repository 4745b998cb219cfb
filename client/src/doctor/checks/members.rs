//! This host in its network: its address, and whether it is a member.

use super::super::facts::{Facts, Running};
use super::super::finding::{Outcome, Trouble};
use super::super::line::{path, quoted};
use super::NO_DAEMON;
use crate::config::Ipv4Cidr;
use crate::control::status::PeerState;
use crate::daemon::EXPIRED;
use shadowmesh_proto::ids::SHORT_ID_CHARS;
use shadowmesh_proto::membership::Block;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// As long before its end as `status` warns, seconds.
const SOON: u64 = 30 * 86_400;
/// What a peer says of this host, and what is said of a peer here, where an admin's word lets it in: it has to be approved, or came by an
/// invite that has ended (protocol §8.5).
const HERE: [&str; 2] = ["an admin has to approve", "the invite had ended"];
const THERE: [&str; 2] = ["waits for an admin's approval", "the invite ended"];
const ADMIN: &str = "an admin's host";
const MEMBER: &str = "any member's host";

fn with(facts: &Facts, decide: impl FnOnce(&Running) -> Outcome) -> Outcome {
    facts.daemon.running().map_or(Outcome::Unknown(NO_DAEMON), decide)
}

pub(super) fn address_taken(facts: &Facts) -> Outcome {
    with(facts, |Running { status, .. }| {
        let own = status.node.addresses.iter().find_map(|text| text.parse::<Ipv4Cidr>().ok());
        let Some(own) = own else { return Outcome::Clean };
        let carries = |addresses: &[String]| {
            addresses.iter().filter_map(|text| ipv4(text)).any(|ip| ip == own.address())
        };
        let Some(peer) = status.peers.iter().find(|peer| carries(&peer.addresses)) else {
            return Outcome::Clean;
        };
        let taken: BTreeSet<Ipv4Addr> = status
            .peers
            .iter()
            .flat_map(|peer| &peer.addresses)
            .filter_map(|text| ipv4(text))
            .chain([own.address()])
            .collect();
        let sentence = format!("{} has this node's address, {own}, as well", peer.name);
        // What a host takes by hand counts for nothing there (protocol §8.7).
        if status.membership.is_some() {
            return Trouble::fault(format!(
                "{sentence}; an admin gives another: `shadowmesh invite --block`"
            ))
            .into();
        }
        let trouble = Trouble::fault(sentence);
        match free(own, &taken) {
            Some(offer) => trouble.line(facts.set("address", &format!(" --address {offer}"))),
            None => trouble,
        }
        .into()
    })
}

pub(super) fn out_of_range(facts: &Facts) -> Outcome {
    with(facts, |Running { status, .. }| {
        let own = status.node.addresses.iter().find_map(|text| text.parse::<Ipv4Cidr>().ok());
        let Some(own) = own else { return Outcome::Clean };
        let lies_in = |ip: &Ipv4Addr| Block::around((*ip).into(), own.bits()) == own.block();
        let outside =
            status.peers.iter().filter(|peer| peer.state == PeerState::Connected).filter_map(|peer| {
                let addresses: Vec<Ipv4Addr> = peer.addresses.iter().filter_map(|text| ipv4(text)).collect();
                let first = addresses.first().filter(|_| !addresses.iter().any(lies_in))?;
                Some(format!("{} ({first})", peer.name))
            });
        let outside: Vec<String> = outside.collect();
        let hint = outside.split_first().map(|(first, others)| {
            let others = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            Trouble::hint(format!(
                "{first}{others} is outside of this host's range, {own}, and not reached by IPv4 from here: a host is given its range by its \
                 own `up --address ADDRESS/BITS`, or by the block of its invite"
            ))
        });
        hint.into()
    })
}

/// The IPv4 address in a text that is one, with or without a prefix length.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    text.split('/').next()?.parse().ok()
}

/// The address that follows `own` in its range and is nobody's.
fn free(own: Ipv4Cidr, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Cidr> {
    let hosts = u32::MAX >> own.bits();
    let network = u32::from(own.address()) & !hosts;
    let first = u32::from(own.address()) & hosts;
    let after =
        (1..=hosts.min(65_536)).map(|n| network | (first.wrapping_add(n) & hosts)).map(Ipv4Addr::from);
    after.filter(|ip| !taken.contains(ip)).find_map(|ip| Ipv4Cidr::new(ip, own.bits()).ok())
}

pub(super) fn approval(facts: &Facts) -> Outcome {
    with(facts, |Running { status, members, .. }| {
        let start = |id: &str| id.chars().take(SHORT_ID_CHARS).collect::<String>();
        let approve = |id: &str| format!("approve {}", quoted(&start(id)));
        let waits_here = status.peers.iter().any(|peer| {
            let why = peer.member.as_ref().and_then(|member| member.refuses_us.as_deref());
            why.is_some_and(|why| HERE.iter().any(|words| why.contains(words)))
        });
        let own = waits_here.then(|| {
            Trouble::fault("this host waits until an admin lets it in")
                .line(format!("sudo shadowmesh {}", approve(&status.node.id)))
                .on(ADMIN)
        });
        let pending = members.iter().filter(|members| members.is_admin).flat_map(|members| &members.members);
        let waits = |why: &String| THERE.iter().any(|words| why.contains(words));
        let others = pending.filter(|member| !member.is_here && member.why.as_ref().is_some_and(waits)).map(
            |member| {
                Trouble::warning(format!("{} waits until an admin lets it in", member.name))
                    .line(facts.shadowmesh(&approve(&member.id)))
            },
        );
        own.into_iter().chain(others).collect()
    })
}

pub(super) fn joining(facts: &Facts) -> Outcome {
    with(facts, |Running { status, .. }| {
        let is_joining = status.membership.as_ref().is_some_and(|membership| membership.state == "joining");
        let waits = is_joining.then(|| {
            let sentence =
                "this host has not joined its network yet: no member that could let it in is connected";
            Trouble::fault(sentence).line("sudo shadowmesh up --detach").on(MEMBER)
        });
        waits.into()
    })
}

pub(super) fn revoked(facts: &Facts) -> Outcome {
    with(facts, |Running { status, .. }| {
        let is_revoked = status.membership.as_ref().is_some_and(|membership| membership.state == "revoked");
        let shut_out = status.membership.as_ref().and_then(|membership| membership.shut_out.as_deref());
        let is_admin = status.membership.as_ref().is_some_and(|membership| membership.is_admin);
        let revoked = is_revoked.then(|| {
            let (sentence, takes_key) = match shut_out {
                Some("invite-used-up") => {
                    ("the invite by which this host came was used up by others: it takes another invite", false)
                }
                Some("invite-revoked") => {
                    ("the invite by which this host came was revoked: it takes another invite", false)
                }
                _ => ("this host was revoked: it can come back only with another key and an invite", true),
            };
            let key = path(&facts.call.state.join("node.key"));
            if facts.state.has_admin_key && is_admin {
                // What an admin says counts whatever became of its host's key, and leaving would give that up.
                let sentence = "this host was revoked, and is an admin's still: with another key it certifies itself, and needs no invite";
                let first = vec![facts.shadowmesh("down"), facts.root(&format!("rm {key}"))];
                return Trouble::fault(sentence).line(facts.start_after(first, ""));
            }
            // It keeps a copy where there is any key: the one in use is no admin's, and one that was put aside may be the root's.
            let mut first = vec![facts.shadowmesh("leave")];
            first.extend(takes_key.then(|| facts.root(&format!("rm {key}"))));
            Trouble::fault(sentence).line(facts.start_after(first, " smi1..."))
        });
        revoked.into()
    })
}

pub(super) fn certificate(facts: &Facts) -> Outcome {
    with(facts, |Running { status, .. }| {
        let Some(membership) = &status.membership else { return Outcome::Clean };
        let again = || facts.restart(" smi1...");
        // By the time that the daemon goes by, where the clock is behind it.
        let now = status.clock.map_or(facts.now, |clock| clock.reckoned);
        match (membership.state.as_str(), membership.until) {
            ("expired", _) => Trouble::fault(EXPIRED).line(again()).into(),
            ("joining", _) => Outcome::Unknown("this host has none before it joined"),
            ("none", _) => {
                let sentence = "this host has no certificate: it takes an invite (`sudo shadowmesh invite` on an admin's host)";
                Trouble::fault(sentence).line(again()).into()
            }
            ("member", Some(until)) if until < now.saturating_add(SOON) => {
                let days = until.saturating_sub(now) / 86_400;
                let sentence = format!(
                    "this host's certificate ends in {days} days: it is renewed as soon as an admin's host is connected"
                );
                Trouble::warning(sentence).line("sudo shadowmesh up --detach").on(ADMIN).into()
            }
            _ => Outcome::Clean,
        }
    })
}
