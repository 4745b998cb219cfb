//! What is probably not meant in rules that can be read.
//!
//! A warning never keeps rules from being used. What is said:
//!
//! - a rule never matches, because those before it have decided all that it covers. "Covers" is judged for whoever may ever be a
//!   member: `allow tag:a -> any` behind `allow any -> any` is dead, behind `allow name:b -> any` it is not, even if only b has the tag.
//! - no rule allows anything, so no member reaches another.
//! - a right is given to `any`: the filter that it is an exception of is switched off.
//! - a tag, name or id is not in the network, where the caller knows what is.

use super::Rules;
use super::scope::{Decided, Scope, Undecided};
use super::selector::Selector;
use super::statement::{Action, Place, PlacedSelector, Read, Right, Rule, Says, Statement};
use crate::ids::NodeId;
use crate::spelling::closest;

/// Lines that a warning names before it says "and others".
const NAMED: usize = 3;

/// What the network has; `None` where that is not known, and then nothing is said about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Tags that members have.
    pub tags: Option<&'a [String]>,
    /// Names of members.
    pub names: Option<&'a [String]>,
    /// Keys of members.
    pub ids: Option<&'a [NodeId]>,
}

/// Something odd. Its `Display` is the sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Warning {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    sentence: String,
}

impl Warning {
    const fn new(place: Place, sentence: String) -> Self {
        Self { line: place.line, column: place.column, sentence }
    }
}

/// Everything that is odd, in the order of lines and columns.
pub(super) fn warnings(read: &Read, known: &Known<'_>) -> Vec<Warning> {
    let rules = Rules::from(read).rules;
    let is_rule = |statement: &&Statement| matches!(statement.says, Says::Rule { .. });
    let places: Vec<_> = read.0.iter().filter(is_rule).map(|statement| statement.place).collect();
    let placed: Vec<_> = places.into_iter().zip(&rules).collect();
    let mut warnings = dead_rules(&placed);
    warnings.extend(nothing_allowed(&placed));
    warnings.extend(read.0.iter().filter_map(right_of_everybody));
    warnings.extend(read.selectors().filter_map(|selector| stranger(selector, known)));
    warnings.sort_by_key(|warning| (warning.line, warning.column));
    warnings
}

fn dead_rules(placed: &[(Place, &Rule)]) -> Vec<Warning> {
    let scopes: Vec<_> = placed.iter().map(|(_, rule)| Scope::of(&rule.what)).collect();
    let mut warnings = Vec::new();
    for (at, ((place, rule), scope)) in placed.iter().zip(&scopes).enumerate() {
        let mut left = Undecided::of(scope);
        let mut deciders = Vec::new();
        for ((earlier_place, earlier), wanted) in placed.iter().zip(&scopes).take(at) {
            if left.is_empty() {
                break;
            }
            if wanted.meets(scope)
                && earlier.sources.covers(&rule.sources)
                && earlier.destinations.covers(&rule.destinations)
            {
                let mut decided = Decided::default();
                left.decide(wanted, &mut decided);
                if !Scope::from(decided).is_empty() {
                    deciders.push((earlier_place.line, earlier.action));
                }
            }
        }
        if left.is_empty() {
            warnings.push(Warning::new(*place, never_matches(rule.action, &deciders)));
        }
    }
    warnings
}

fn never_matches(action: Action, deciders: &[(usize, Action)]) -> String {
    let lines: Vec<_> = deciders.iter().take(NAMED).map(|(line, _)| line.to_string()).collect();
    let rest = if deciders.len() > NAMED { " and others" } else { "" };
    let (noun, lines) = (if deciders.len() == 1 { "line" } else { "lines" }, lines.join(", "));
    let against: Vec<_> = deciders.iter().filter(|(_, other)| *other != action).collect();
    let verb = match (action, against.len()) {
        (_, 0) => "does the same with",
        (Action::Allow, _) => "denies",
        (Action::Deny, _) => "allows",
    };
    match against.len() {
        all if all == deciders.len() || all == 0 => {
            let verb = if deciders.len() == 1 { verb.to_owned() } else { plural(verb) };
            format!("this rule never matches: {noun} {lines}{rest} {verb} all that it covers")
        }
        _ => format!("this rule never matches: {noun} {lines}{rest} decide about all that it covers"),
    }
}

fn plural(verb: &str) -> String {
    match verb {
        "denies" => "deny".to_owned(),
        "allows" => "allow".to_owned(),
        _ => "do the same with".to_owned(),
    }
}

fn nothing_allowed(placed: &[(Place, &Rule)]) -> Option<Warning> {
    let (place, _) = placed.first()?;
    let sentence = "no rule allows anything, and what no rule allows is denied: no member reaches another. \
                    Where the rest should pass, end with `allow any -> any`";
    let is_denied = placed.iter().all(|(_, rule)| rule.action == Action::Deny);
    is_denied.then(|| Warning::new(*place, sentence.to_owned()))
}

fn right_of_everybody(statement: &Statement) -> Option<Warning> {
    let Says::Right { right, members } = &statement.says else { return None };
    let (place, _) = members.iter().find(|(_, selector)| *selector == Selector::Any)?;
    let what = match right {
        Right::Bridge => "send from addresses that are not its own",
        Right::Dhcp => "answer DHCP and send router advertisements",
        Right::Stp => "speak to bridges",
    };
    Some(Warning::new(
        *place,
        format!("with `{} any` every member may {what}: nothing is filtered", right.word()),
    ))
}

fn stranger((place, selector): &PlacedSelector, known: &Known<'_>) -> Option<Warning> {
    let sentence = |what: &str, kind: &str, known: &[String], missing: &str| {
        let nearest = closest(missing, known.iter().map(String::as_str));
        let meant = nearest.map(|nearest| format!("; did you mean `{kind}:{nearest}`?")).unwrap_or_default();
        format!("`{selector}` names nobody: {what}{meant}")
    };
    let sentence = match selector {
        Selector::Any => return None,
        Selector::Tag(tag) => {
            let tags = known.tags.filter(|tags| !tags.contains(tag))?;
            sentence("no member has this tag", "tag", tags, tag)
        }
        Selector::Name(name) => {
            let names = known.names.filter(|names| !names.contains(name))?;
            sentence("no member has this name", "name", names, name)
        }
        Selector::Id(start) => {
            let ids = known.ids.filter(|ids| !ids.iter().any(|id| id.to_base32().starts_with(start)))?;
            let ids: Vec<_> = ids.iter().map(NodeId::short).collect();
            sentence("no member's id begins so", "id", &ids, start)
        }
    };
    Some(Warning::new(*place, sentence))
}
