//! A ruleset of nftables without what people wrote or named in it.
//!
//! Its form is that of `nft --json` (libnftables-json(5)). Comments and what a rule writes into the log are left out. Names of tables, chains and sets become
//! `table-1`, `chain-1`, `set-1`, the same for the same, but those that are the same on most machines. They are replaced here, where it is known what
//! they are, and not as words wherever they stand: a chain may well be called `status`. Interfaces are words in all of the archive, and only told
//! ([`interfaces`]).

use super::pseudonyms::Pseudonyms;
use serde_json::Value;
use std::net::IpAddr;

/// What is for people alone.
const LEFT_OUT: [&str; 2] = ["comment", "prefix"];
/// Objects that have a `name`, and what they are called here.
const OBJECTS: [(&str, &str); 11] = [
    ("table", "table"),
    ("chain", "chain"),
    ("set", "set"),
    ("map", "set"),
    ("flowtable", "set"),
    ("counter", "object"),
    ("quota", "object"),
    ("limit", "object"),
    ("secmark", "object"),
    ("synproxy", "object"),
    ("ct helper", "object"),
];
/// Fields by which something is named elsewhere.
const REFERENCES: [(&str, &str); 8] = [
    ("table", "table"),
    ("chain", "chain"),
    ("target", "chain"),
    ("counter", "object"),
    ("quota", "object"),
    ("limit", "object"),
    ("secmark", "object"),
    ("synproxy", "object"),
];
/// What nftables' own manual and the programs that everybody has call theirs.
const USUAL: [&str; 18] = [
    "filter",
    "nat",
    "mangle",
    "raw",
    "security",
    "broute",
    "firewalld",
    "input",
    "output",
    "forward",
    "prerouting",
    "postrouting",
    "ingress",
    "egress",
    "docker",
    "docker-user",
    "docker-forward",
    "fw4",
];
/// What of a packet's is an interface's name, and the type of that in sets.
const OF_INTERFACES: [&str; 8] =
    ["iifname", "oifname", "iif", "oif", "ibrname", "obrname", "sdifname", "ifname"];

/// The ruleset without names.
pub(super) fn unnamed(ruleset: &Value, known: &mut Pseudonyms) -> Value {
    within("", ruleset, known)
}

/// What is in a field called `field`, or in a list there.
fn within(field: &str, value: &Value, known: &mut Pseudonyms) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| within(field, item, known)).collect(),
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
            let kept = kept.map(|(name, value)| {
                let kind = if name == "name" { kind_of(&OBJECTS, field) } else { kind_of(&REFERENCES, name) };
                let value = match (kind, value) {
                    (Some(kind), Value::String(text)) => Value::String(replaced(kind, text, known)),
                    _ => within(name, value, known),
                };
                (name.clone(), value)
            });
            Value::Object(kept.collect())
        }
        Value::String(text) => match text.strip_prefix('@') {
            Some(set) => Value::String(format!("@{}", replaced("set", set, known))),
            None => value.clone(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn kind_of(kinds: &[(&str, &'static str)], field: &str) -> Option<&'static str> {
    kinds.iter().find(|(name, _)| *name == field).map(|(_, kind)| *kind)
}

fn replaced(kind: &'static str, name: &str, known: &mut Pseudonyms) -> String {
    let is_usual = USUAL.contains(&name.to_lowercase().as_str());
    if is_usual { name.to_owned() } else { known.numbered(kind, name) }
}

/// Tells of chains by family, table and chain, as `doctor`'s sentences name them.
pub(super) fn places(ruleset: &Value, known: &mut Pseudonyms) {
    let objects = ruleset.get("nftables").and_then(Value::as_array).into_iter().flatten();
    for chain in objects.filter_map(|object| object.get("chain")) {
        let text = |name: &str| chain.get(name).and_then(Value::as_str).unwrap_or_default();
        let place = [text("family"), text("table"), text("name")].join(" ");
        let unnamed = [
            text("family"),
            &replaced("table", text("table"), known),
            &replaced("chain", text("name"), known),
        ];
        known.phrase(&place, unnamed.join(" "));
    }
}

/// Tells of every interface in a ruleset, those that this machine does not have too.
pub(super) fn interfaces(ruleset: &Value, tell: &mut impl FnMut(&str)) {
    let fields = match ruleset {
        Value::Array(items) => return items.iter().for_each(|item| interfaces(item, tell)),
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    };
    for (name, value) in fields {
        // What is compared, and with what: of a condition, a map within a rule, and a set or map that has a name.
        let compared = [("left", "right"), ("key", "data"), ("type", "elem")]
            .into_iter()
            .find_map(|(of, with)| Some((column(value.get(of)?)?, value.get(with)?)));
        match (name.as_str(), compared) {
            ("dev", _) => texts(value, 0, tell),
            ("match" | "vmap" | "map" | "set", Some((column, with))) => texts(with, column, tell),
            _ => interfaces(value, tell),
        }
    }
}

/// Which of what is compared is an interface's name.
fn column(of: &Value) -> Option<usize> {
    let is_interface = |of: &Value| {
        let key = of.pointer("/meta/key").or(Some(of)).and_then(Value::as_str);
        key.is_some_and(|key| OF_INTERFACES.contains(&key))
    };
    let parts = of.get("concat").unwrap_or(of).as_array();
    parts.map_or_else(|| is_interface(of).then_some(0), |parts| parts.iter().position(is_interface))
}

/// All texts there that are none of the language's own.
fn texts(value: &Value, column: usize, tell: &mut impl FnMut(&str)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, column, tell)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("concat", Value::Array(parts)) => {
                        parts.get(column).into_iter().for_each(|part| texts(part, 0, tell))
                    }
                    // Where a map sends, and what was left out.
                    ("jump" | "goto" | "comment", _) => {}
                    _ => texts(value, column, tell),
                }
            }
        }
        // One with an asterisk is the start of some. A map may be to an address.
        Value::String(text) if !text.starts_with('@') && text.parse::<IpAddr>().is_err() => {
            tell(text.trim_end_matches('*'))
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_people_named_is_replaced_and_what_everybody_has_stays() {
        let iifname = json!({ "meta": { "key": "iifname" } });
        let ruleset = json!({ "nftables": [
            { "metainfo": { "version": "1.0.6", "release_name": "Lester Gooch #5" } },
            { "table": { "family": "inet", "name": "acme_fw", "handle": 1 } },
            { "chain": { "family": "inet", "table": "acme_fw", "name": "input", "hook": "input", "policy": "drop" } },
            { "chain": { "family": "inet", "table": "acme_fw", "name": "from_anna", "handle": 3 } },
            { "set": { "family": "inet", "table": "acme_fw", "name": "annas_lan", "type": "ifname", "elem": ["qacme0", "qacme1"] } },
            { "rule": { "family": "inet", "table": "acme_fw", "chain": "from_anna", "comment": "Anna", "expr": [
                { "match": { "op": "==", "left": iifname, "right": "qacme2*" } },
                { "match": { "op": "in", "left": iifname, "right": { "set": ["qacme3", "lo"] } } },
                { "match": { "op": "==", "left": iifname, "right": "@annas_lan" } },
                { "match": { "op": "==", "left": { "payload": { "protocol": "tcp", "field": "dport" } }, "right": 22 } },
                { "match": { "op": "==", "left": { "concat": [{ "meta": { "key": "l4proto" } }, iifname] },
                    "right": { "set": [{ "concat": ["tcp", "qacme5"] }] } } },
                { "vmap": { "key": iifname, "data": { "set": [["qacme4", { "jump": { "target": "from_anna" } }]] } } },
                { "counter": "annas_bytes" },
                { "log": { "prefix": "Anna: ", "group": 2 } },
                { "exthdr": { "name": "frag" } },
                { "goto": { "target": "from_anna" } },
            ] } },
        ] });
        let mut told = Vec::new();
        interfaces(&ruleset, &mut |name| told.push(name.to_owned()));
        assert_eq!(told, ["qacme0", "qacme1", "qacme2", "qacme3", "lo", "qacme5", "qacme4"]);
        let mut known = Pseudonyms::default();
        places(&ruleset, &mut known);
        let sentence = "a rule (inet acme_fw from_anna) drops; inet acme_fw input; inet filter input";
        assert_eq!(
            known.text(sentence),
            "a rule (inet table-1 chain-1) drops; inet table-1 input; inet filter input"
        );
        let text = unnamed(&ruleset, &mut known).to_string();
        for named in ["acme_fw", "anna", "Anna"] {
            assert!(!text.contains(named), "{named}: {text}");
        }
        for kept in [
            "\"name\":\"input\"",
            "\"hook\":\"input\"",
            "\"chain\":\"chain-1\"",
            "\"target\":\"chain-1\"",
            "\"@set-1\"",
            "\"name\":\"set-1\"",
            "\"table\":\"table-1\"",
            "\"name\":\"frag\"",
            "\"group\":2",
            "\"field\":\"dport\"",
            "Lester Gooch",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }
}
