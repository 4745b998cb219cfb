//! Rules of nftables (and of iptables, where that is nftables underneath) that keep out all that comes by the device.
//!
//! Not a verdict over a whole ruleset, which only the kernel gives: what is found is a rule about the device alone that drops, in a
//! chain that every packet goes through, and a chain that drops what it has no rule for and has none for the device. Nobody is accused
//! for a condition that is not understood here: of a rule that drops it is taken to spare something, of one that accepts to let all in.

use super::super::facts::Facts;
use super::super::finding::{Outcome, Trouble};
use super::super::line::quoted;
use super::device::NO_DEVICE;
use serde_json::Value;

/// Where packets of this machine's own come by. What is forwarded from one device to another is not this machine's.
const OWN_HOOKS: [&str; 6] = ["ingress", "prerouting", "input", "output", "postrouting", "egress"];
/// Statements that change nothing of where a packet goes.
const HARMLESS: [&str; 4] = ["counter", "log", "meter", "mangle"];
/// What a packet has that tells ports, kinds or flows apart, so that a condition on it is on part of what comes by a device.
const PARTS: [&str; 9] = ["dport", "sport", "th", "tcp", "udp", "icmp", "icmpv6", "l4proto", "state"];

pub(super) fn decide(facts: &Facts) -> Outcome {
    let Some(link) = &facts.device else {
        return Outcome::Unknown(NO_DEVICE);
    };
    let Some(ruleset) = &facts.ruleset else {
        return Outcome::Unknown("it takes root and the command nft to see the firewall's rules");
    };
    // What comes in from a bridge's port is the bridge's.
    let device = link.bridge.as_ref().unwrap_or(&link.name);
    let objects = ruleset.get("nftables").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let rules: Vec<Rule<'_>> = objects.iter().filter_map(|object| Rule::read(object.get("rule")?)).collect();
    let chains: Vec<Chain<'_>> =
        objects.iter().filter_map(|object| Chain::read(object.get("chain")?)).collect();
    let is_own = |rule: &&Rule<'_>| {
        let mut own = chains.iter().filter(|chain| OWN_HOOKS.contains(&chain.hook));
        own.any(|chain| chain.place == rule.place)
    };
    let dropping = rules.iter().filter(is_own).filter(|rule| rule.drops_all_of(device)).map(|rule| {
        let Rule { place, handle, .. } = rule;
        let sentence =
            format!("a rule of the firewall ({}) drops all that comes or goes by {device}", place.join(" "));
        let line = format!("nft delete rule {} handle {handle}", typed(place));
        Trouble::fault(sentence).line(facts.root(&line))
    });
    let is_closed = |chain: &&Chain<'_>| {
        let opens = |rule: &Rule<'_>| rule.place == chain.place && rule.may_let_in(device);
        chain.hook == "input" && chain.drops_the_rest && !rules.iter().any(opens)
    };
    let closed = chains.iter().filter(is_closed).map(|Chain { place, .. }| {
        let sentence = format!(
            "the firewall ({}) lets in only what it has a rule for, and has none for {device}",
            place.join(" ")
        );
        let line = format!("nft insert rule {} iifname {} accept", typed(place), quoted(device));
        Trouble::warning(sentence).line(facts.root(&line))
    });
    dropping.chain(closed).collect()
}

/// Family, table and chain.
type Place<'a> = [&'a str; 3];

fn typed(place: &Place<'_>) -> String {
    place.map(quoted).join(" ")
}

/// A chain that the kernel sends packets through.
struct Chain<'a> {
    place: Place<'a>,
    hook: &'a str,
    /// By its policy.
    drops_the_rest: bool,
}

impl<'a> Chain<'a> {
    fn read(chain: &'a Value) -> Option<Self> {
        let text = |name: &str| chain.get(name).and_then(Value::as_str);
        Some(Self {
            place: [text("family")?, text("table")?, text("name")?],
            hook: text("hook")?,
            drops_the_rest: text("policy") == Some("drop"),
        })
    }
}

/// What a condition of a rule says of the packets that come or go by the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// It is about all of them.
    All,
    /// About some.
    Some,
    /// About none: it is another device's.
    None,
    /// That is not known.
    Unknown,
}

/// A rule: a list of conditions and what is done.
struct Rule<'a> {
    place: Place<'a>,
    handle: u64,
    expressions: &'a [Value],
}

impl<'a> Rule<'a> {
    fn read(rule: &'a Value) -> Option<Self> {
        let text = |name: &str| rule.get(name).and_then(Value::as_str);
        Some(Self {
            place: [text("family")?, text("table")?, text("chain")?],
            handle: rule.get("handle")?.as_u64()?,
            expressions: rule.get("expr")?.as_array()?,
        })
    }

    /// Its conditions, and its end.
    fn read_for(&self, device: &str) -> (Vec<Condition>, Option<&str>) {
        let Some((last, before)) = self.expressions.split_last() else { return (Vec::new(), None) };
        let conditions = before.iter().filter_map(|one| match one.get("match") {
            Some(condition) => Some(read(condition, device)),
            // A match of iptables that nft has no words for, a limit, and what is not known here.
            None => (!HARMLESS.iter().any(|name| one.get(name).is_some())).then_some(Condition::Unknown),
        });
        let end = last.as_object().and_then(|last| last.keys().next()).map(String::as_str);
        (conditions.collect(), end)
    }

    fn drops_all_of(&self, device: &str) -> bool {
        let (conditions, end) = self.read_for(device);
        !conditions.is_empty()
            && conditions.iter().all(|condition| *condition == Condition::All)
            && matches!(end, Some("drop" | "reject"))
    }

    /// Whether it accepts all that comes by the device, for all that is known.
    fn may_let_in(&self, device: &str) -> bool {
        let (conditions, end) = self.read_for(device);
        let is_open =
            conditions.iter().all(|condition| matches!(condition, Condition::All | Condition::Unknown));
        is_open && matches!(end, Some("accept" | "jump" | "goto" | "queue" | "vmap" | "xt"))
    }
}

fn read(condition: &Value, device: &str) -> Condition {
    let left = condition.get("left").unwrap_or(&Value::Null);
    let key = left.pointer("/meta/key").and_then(Value::as_str);
    if !matches!(key, Some("iifname" | "oifname" | "iif" | "oif")) {
        let of = ["/meta/key", "/payload/field", "/payload/protocol", "/ct/key"];
        let is_part = of.iter().filter_map(|at| left.pointer(at)?.as_str()).any(|name| PARTS.contains(&name));
        return if is_part { Condition::Some } else { Condition::Unknown };
    }
    let right = condition.get("right").unwrap_or(&Value::Null);
    let names: Option<Vec<&str>> = match right.get("set").and_then(Value::as_array) {
        Some(set) => set.iter().map(Value::as_str).collect(),
        None => right.as_str().map(|name| vec![name]),
    };
    // A set that has a name of its own, or something else than names.
    let Some(names) = names.filter(|names| !names.iter().any(|name| name.starts_with('@'))) else {
        return Condition::Unknown;
    };
    let is_named = names.iter().any(|name| match name.strip_suffix('*') {
        Some(start) => device.starts_with(start),
        None => *name == device,
    });
    match (condition.get("op").and_then(Value::as_str), is_named) {
        (Some("==" | "in"), true) | (Some("!="), false) => Condition::All,
        (Some("==" | "in"), false) | (Some("!="), true) => Condition::None,
        (Some(_) | None, _) => Condition::Unknown,
    }
}
