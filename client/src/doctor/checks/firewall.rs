//! Rules of nftables (and of iptables, where that is nftables underneath) that keep out all that comes by the device.
//!
//! Not a verdict over a whole ruleset, which only the kernel gives: what is found is a rule about the device alone that drops, and a chain
//! that drops what it has no rule for and has none for the device. Where such a chain jumps elsewhere nobody is accused.

use super::super::facts::Facts;
use super::super::finding::{Outcome, Trouble};
use serde_json::Value;

pub(super) fn decide(facts: &Facts) -> Outcome {
    let Some(link) = &facts.device else {
        return Outcome::Unknown("no daemon answers that has a device here");
    };
    let Some(ruleset) = &facts.ruleset else {
        return Outcome::Unknown("it takes root and the command nft to see the firewall's rules");
    };
    // What comes in from a bridge's port is the bridge's.
    let device = link.bridge.as_ref().unwrap_or(&link.name);
    let objects = ruleset.get("nftables").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let rules: Vec<Rule<'_>> = objects.iter().filter_map(|object| Rule::read(object.get("rule")?)).collect();
    let chains = objects.iter().filter_map(|object| object.get("chain"));
    let dropping = rules.iter().filter(|rule| rule.drops_all_of(device)).map(|rule| {
        let Rule { place, handle, .. } = rule;
        let sentence = format!("a rule of the firewall ({place}) drops all that comes or goes by {device}");
        Trouble::fault(sentence).line(facts.root(&format!("nft delete rule {place} handle {handle}")))
    });
    let closed = chains.filter_map(|chain| closed_chain(chain, &rules, device)).map(|place| {
        let sentence =
            format!("the firewall ({place}) lets in only what it has a rule for, and has none for {device}");
        let rule = format!("iifname {device} accept");
        Trouble::warning(sentence).line(facts.root(&format!("nft insert rule {place} {rule}")))
    });
    dropping.chain(closed).collect()
}

/// Where the chain is, if it lets in nothing that comes by the device.
fn closed_chain(chain: &Value, rules: &[Rule<'_>], device: &str) -> Option<String> {
    let text = |name: &str| chain.get(name).and_then(Value::as_str);
    if text("hook")? != "input" || text("policy")? != "drop" {
        return None;
    }
    let place = format!("{} {} {}", text("family")?, text("table")?, text("name")?);
    let opens = |rule: &&Rule<'_>| rule.place == place && rule.may_let_in(device);
    (!rules.iter().any(|rule| opens(&rule))).then_some(place)
}

/// A rule: a list of matches and what is done.
struct Rule<'a> {
    /// `FAMILY TABLE CHAIN`.
    place: String,
    handle: u64,
    expressions: &'a [Value],
}

impl<'a> Rule<'a> {
    fn read(rule: &'a Value) -> Option<Self> {
        let text = |name: &str| rule.get(name).and_then(Value::as_str);
        let place = format!("{} {} {}", text("family")?, text("table")?, text("chain")?);
        let expressions = rule.get("expr")?.as_array()?;
        Some(Self { place, handle: rule.get("handle")?.as_u64()?, expressions })
    }

    /// Its conditions, each by whether it is that a packet comes or goes by the device.
    fn matches(&self, device: &str) -> Vec<bool> {
        self.expressions.iter().filter_map(|one| one.get("match")).map(|one| is_about(one, device)).collect()
    }

    fn ends_with(&self, verdicts: &[&str]) -> bool {
        self.expressions.last().is_some_and(|last| verdicts.iter().any(|verdict| last.get(verdict).is_some()))
    }

    fn drops_all_of(&self, device: &str) -> bool {
        let matches = self.matches(device);
        !matches.is_empty() && matches.iter().all(|about| *about) && self.ends_with(&["drop", "reject"])
    }

    /// Whether it accepts something of the device for all that is known: by name, without a condition, or somewhere else.
    fn may_let_in(&self, device: &str) -> bool {
        let matches = self.matches(device);
        (matches.iter().all(|about| *about) && self.ends_with(&["accept"]))
            || self.ends_with(&["jump", "goto", "queue"])
    }
}

fn is_about(condition: &Value, device: &str) -> bool {
    let key = condition.pointer("/left/meta/key").and_then(Value::as_str);
    let is_equal = condition.get("op").and_then(Value::as_str) == Some("==");
    let names = |value: &Value| match value {
        Value::String(name) => match name.strip_suffix('*') {
            Some(start) => device.starts_with(start),
            None => name == device,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    };
    let right = condition.get("right").unwrap_or(&Value::Null);
    let set = right.get("set").and_then(Value::as_array);
    is_equal
        && matches!(key, Some("iifname" | "oifname" | "iif" | "oif"))
        && (names(right) || set.is_some_and(|set| set.iter().any(names)))
}
