//! What the machine gives: the driver, rights, and settings of its kernel.

use super::super::facts::{Facts, Tun};
use super::super::finding::{Outcome, Trouble};

/// What a daemon asks its UDP sockets to hold ([`crate::transport::udp`]), and what `deploy/sysctl.d` sets.
const WANTED_RECEIVE: u64 = 2 << 20;
const WANTED_SEND: u64 = 1 << 20;
const RECOMMENDED: u64 = 8 << 20;
/// How full a connection table may be, per cent: beyond, a burst of new flows fills it.
const TABLE_FULL: u64 = 95;
/// The table of a machine that has a limit of next to nothing.
const TABLE_LEAST: u64 = 262_144;
/// Of a container, whose rights are given from outside.
const CONTAINER: &str = "docker run --cap-add NET_ADMIN --device /dev/net/tun ...";
const MAKE_NODE: &str = "sh -c 'mkdir -p /dev/net && rm -f /dev/net/tun && mknod /dev/net/tun c 10 200 && chmod 0666 /dev/net/tun'";

pub(super) fn tun(facts: &Facts) -> Outcome {
    let container =
        |sentence: &str| Trouble::fault(sentence).line(CONTAINER).on("the machine of this container");
    match facts.tun {
        Tun::Opens => Outcome::Clean,
        Tun::Missing { has_driver: false } | Tun::NoDriver => {
            Trouble::fault("the kernel's driver for TAP devices is not loaded")
                .line(facts.root("modprobe tun"))
                .into()
        }
        Tun::Missing { has_driver: true } => {
            Trouble::fault("/dev/net/tun is missing although the kernel has the driver")
                .line(facts.root(MAKE_NODE))
                .into()
        }
        Tun::NotTheDevice => Trouble::fault("what is called /dev/net/tun is not that device")
            .line(facts.root(MAKE_NODE))
            .into(),
        Tun::Denied => container("root may not open /dev/net/tun, which a container keeps from it").into(),
        Tun::NotMine => Outcome::Unknown("only root's rights count, who runs the daemon"),
    }
}

pub(super) fn capability(facts: &Facts) -> Outcome {
    match (facts.caller.is_root, facts.caller.net_admin) {
        (_, true) => Outcome::Clean,
        (true, false) => {
            let sentence = "root may make no network devices here (no CAP_NET_ADMIN), as in a container that was not given it";
            Trouble::fault(sentence).line(CONTAINER).on("the machine of this container").into()
        }
        (false, false) => Outcome::Unknown("only root's rights count, who runs the daemon"),
    }
}

/// With several uplinks an answer may leave by another than the question came by, and a strict filter drops such questions.
pub(super) fn rp_filter(facts: &Facts) -> Outcome {
    let uplinks = &facts.kernel.uplinks;
    let strict: Vec<&str> =
        uplinks.iter().filter(|(_, mode)| *mode == 1).map(|(name, _)| name.as_str()).collect();
    if uplinks.len() < 2 || strict.is_empty() {
        return Outcome::Clean;
    }
    let settings: Vec<String> =
        strict.iter().map(|name| format!("net.ipv4.conf.{}.rp_filter=2", key(name))).collect();
    let sentence = format!(
        "several uplinks and a strict reverse-path filter on {}: what peers send to the uplink that is not preferred is dropped",
        strict.join(", ")
    );
    Trouble::warning(sentence).line(facts.root(&format!("sysctl -w {}", settings.join(" ")))).into()
}

/// A device in the name of a setting, whose parts dots separate (sysctl.d(5)).
fn key(device: &str) -> String {
    device.replace('.', "/")
}

pub(super) fn socket_buffers(facts: &Facts) -> Outcome {
    let (Some(receive), Some(send)) = (facts.kernel.rmem_max, facts.kernel.wmem_max) else {
        return Outcome::Unknown("this kernel does not say how large buffers may be");
    };
    if receive >= WANTED_RECEIVE && send >= WANTED_SEND {
        return Outcome::Clean;
    }
    let sentence = format!(
        "sockets may have buffers of {} KiB only: where much is sent, a burst that finds the daemon busy is lost",
        receive.min(send) / 1024
    );
    let set =
        facts.root(&format!("sysctl -w net.core.rmem_max={RECOMMENDED} net.core.wmem_max={RECOMMENDED}"));
    let line = match facts.daemon.running() {
        Some(_) => format!("{set} && {}", facts.restart("")),
        None => set,
    };
    Trouble::hint(sentence).line(line).into()
}

pub(super) fn conntrack(facts: &Facts) -> Outcome {
    let (Some(count), Some(max)) = (facts.kernel.conntrack_count, facts.kernel.conntrack_max) else {
        // Without connection tracking there is no table.
        return Outcome::Clean;
    };
    if max == 0 || count.saturating_mul(100) < max.saturating_mul(TABLE_FULL) {
        return Outcome::Clean;
    }
    let more = max.saturating_mul(2).max(TABLE_LEAST);
    let sentence = format!("the connection table is full ({count} of {max}): new flows are dropped");
    Trouble::fault(sentence)
        .line(facts.root(&format!("sysctl -w net.netfilter.nf_conntrack_max={more}")))
        .into()
}
