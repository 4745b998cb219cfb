//! The daemon's device, its addresses, and what of this machine is in their way.

use super::super::facts::{Facts, Link};
use super::super::finding::{Outcome, Trouble};
use super::super::line::quoted;
use crate::control::status::Node;
use crate::daemon::address;
use crate::net::{Cidr, routes};

pub(super) const NO_DEVICE: &str = "no daemon answers that has a device here";

fn with(facts: &Facts, decide: impl FnOnce(&Link, &Node) -> Option<Trouble>) -> Outcome {
    match (&facts.device, facts.daemon.running()) {
        (Some(link), Some(running)) => decide(link, &running.status.node).into(),
        _ => Outcome::Unknown(NO_DEVICE),
    }
}

pub(super) fn down(facts: &Facts) -> Outcome {
    with(facts, |link, _| {
        (!link.is_up).then(|| {
            let line = facts.root(&format!("ip link set {} up", quoted(&link.name)));
            Trouble::fault(format!("the device {} was set down: nothing passes", link.name)).line(line)
        })
    })
}

pub(super) fn mtu(facts: &Facts) -> Outcome {
    with(facts, |link, node| {
        let mtu = node.mtu;
        (link.mtu != u32::from(mtu)).then(|| {
            let sentence = format!("the MTU of {} was changed from {mtu} to {}", link.name, link.mtu);
            Trouble::warning(sentence)
                .line(facts.root(&format!("ip link set {} mtu {mtu}", quoted(&link.name))))
        })
    })
}

pub(super) fn addresses(facts: &Facts) -> Outcome {
    with(facts, |link, node| {
        // One that is down has no IPv6 addresses, and where IPv6 is off it has none either: others say that.
        let may_lack = |cidr: &Cidr| cidr.address().is_ipv6() && (!link.is_up || link.ipv6_off == Some(true));
        let own = node.addresses.iter().filter_map(|text| text.parse::<Cidr>().ok());
        let gone: Vec<Cidr> = own.filter(|cidr| !link.addresses.contains(cidr) && !may_lack(cidr)).collect();
        if gone.is_empty() {
            return None;
        }
        let carrier = quoted(link.bridge.as_ref().unwrap_or(&link.name));
        let lines: Vec<String> =
            gone.iter().map(|cidr| facts.root(&format!("ip address add {cidr} dev {carrier}"))).collect();
        let texts: Vec<String> = gone.iter().map(ToString::to_string).collect();
        Some(
            Trouble::fault(format!("{} was taken from {carrier}", texts.join(" and ")))
                .line(lines.join(" && ")),
        )
    })
}

pub(super) fn ipv6_off(facts: &Facts) -> Outcome {
    let device = facts.device.as_ref().and_then(|link| link.ipv6_off);
    let Some(is_off) = device.or(facts.kernel.ipv6_off) else {
        return Outcome::Unknown("this kernel has no IPv6");
    };
    let off = is_off.then(|| {
        let set = "sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0";
        let line = match facts.daemon.running() {
            Some(_) => format!("{} && {}", facts.root(set), facts.restart("")),
            None => facts.root(set),
        };
        let sentence =
            "IPv6 is switched off on this machine: the network has IPv4 only here, and no path goes by IPv6";
        Trouble::warning(sentence).line(line)
    });
    off.into()
}

pub(super) fn subnet(facts: &Facts) -> Outcome {
    let running = facts.daemon.running();
    let own: Vec<Cidr> = match running {
        Some(running) => running.status.node.addresses.iter().filter_map(|text| text.parse().ok()).collect(),
        None => facts.state.own.clone(),
    };
    let (mut interfaces, mut known_routes) = (facts.interfaces.clone(), facts.routes.clone());
    if let Some(bridge) = facts.device.as_ref().and_then(|link| link.bridge.as_deref()) {
        address::leave_out_own(&mut interfaces, &mut known_routes, &own, bridge);
    }
    let clash = own.iter().find_map(|cidr| Some((cidr, routes::clash(*cidr, &interfaces, &known_routes)?)));
    let found = clash.map(|(cidr, clash)| {
        let range = cidr.network();
        let sentence =
            format!("the network's range {range} overlaps {clash}: one takes what is for the other");
        if running.is_some_and(|running| running.status.membership.is_some()) {
            let sentence = format!(
                "{sentence}; in a network with certificates an admin gives another: `shadowmesh invite --block`"
            );
            return Trouble::fault(sentence);
        }
        let trouble = Trouble::fault(sentence);
        if cidr.address().is_ipv6() {
            return trouble;
        }
        let offer = format!(" --address {}", address::offer(&interfaces, &known_routes));
        trouble.line(facts.set("address", &offer))
    });
    found.into()
}

/// What goes from port to port of a bridge is the LAN's; Docker's firewall, above all, drops what it does not know.
pub(super) fn bridge_filter(facts: &Facts) -> Outcome {
    let bridge = facts.device.as_ref().and_then(|link| link.bridge.as_ref());
    let filtered = bridge.filter(|_| facts.kernel.bridge_nf == Some(true)).map(|bridge| {
        let settings = ["iptables", "ip6tables", "arptables"]
            .map(|which| format!("net.bridge.bridge-nf-call-{which}=0"));
        let sentence =
            format!(
                "frames in the bridge {bridge} go through this machine's firewall, which may drop them (Kubernetes, and Docker with \
                 --icc=false, want that: there, let the firewall's FORWARD pass what comes and goes by {bridge} instead)"
            );
        Trouble::warning(sentence).line(facts.root(&format!("sysctl -w {}", settings.join(" "))))
    });
    filtered.into()
}
