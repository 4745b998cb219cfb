//! The words of this program's own texts: what its commands and options are called and say of themselves, the fields of its documents and
//! what they mean, and what `doctor` looks at.
//!
//! Who calls a host by one of them has not told who he is, and a text in which each of them was replaced could not be read: an archive for
//! who helps ([`crate::doctor`]) keeps them in sentences. Examples are left out, for in them stand names as people choose them.

use super::schema;
use crate::doctor::looks_at;
use std::collections::BTreeSet;

/// Words of the log and of the machine, which stand in no help.
const MORE: [&str; 14] = [
    "trace",
    "debug",
    "info",
    "warn",
    "error",
    "linux",
    "gnu",
    "lost",
    "connected",
    "connecting",
    "joined",
    "leaving",
    "revoked",
    "kind",
];

/// All of them, in lower case.
pub(super) fn words(command: &clap::Command) -> BTreeSet<String> {
    let mut words: BTreeSet<String> = MORE.map(ToOwned::to_owned).into();
    of_command(command, &mut words);
    of_document(&schema::all(), &mut words);
    for (id, what) in looks_at() {
        of_text(id, &mut words);
        of_text(what, &mut words);
    }
    words
}

fn of_command(command: &clap::Command, words: &mut BTreeSet<String>) {
    of_text(command.get_name(), words);
    for said in [command.get_about(), command.get_long_about()].into_iter().flatten() {
        of_text(&said.to_string(), words);
    }
    for argument in command.get_arguments() {
        of_text(argument.get_long().unwrap_or_default(), words);
        for said in [argument.get_help(), argument.get_long_help()].into_iter().flatten() {
            of_text(&said.to_string(), words);
        }
    }
    command.get_subcommands().for_each(|below| of_command(below, words));
}

fn of_document(value: &serde_json::Value, words: &mut BTreeSet<String>) {
    use serde_json::Value;
    match value {
        Value::String(text) => of_text(text, words),
        Value::Array(items) => items.iter().for_each(|item| of_document(item, words)),
        Value::Object(fields) => {
            for (name, value) in fields {
                of_text(name, words);
                of_document(value, words);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Words with something inside that is no letter are names of an example, if they are any.
fn of_text(text: &str, words: &mut BTreeSet<String>) {
    let all = text.split(|c: char| !(c.is_alphanumeric() || "-_.:".contains(c)));
    let plain = all.map(|word| word.trim_matches(['-', '_', '.', ':'])).filter(|word| !word.is_empty());
    words.extend(plain.filter(|word| word.chars().all(char::is_alphabetic)).map(str::to_lowercase));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_words_are_in_it_and_names_as_people_choose_them_are_not() {
        let words = words(&crate::cli::command());
        for ours in "a is no the member host network certificate shadowmesh sudo approve warn".split(' ') {
            assert!(words.contains(ours), "{ours}");
        }
        for chosen in ["anna", "laptop", "printer", "office", "anna-laptop", "home", "tower"] {
            assert!(!words.contains(chosen), "{chosen}");
        }
    }
}
