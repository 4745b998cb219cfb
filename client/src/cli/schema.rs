//! `shadowmesh schema`: the shape of every `--json`, made of the types that are printed, so that the two cannot differ.
//!
//! [`DOCUMENTS`] names the document of each command, `WITHOUT` the commands that have none and why: a test walks the command line and
//! finds each of them in one of the two.

use super::documents::{
    AdminId, Admins, Changed, Down, Install, Invite, Leave, NetworkExported, NetworkImported, NetworkMade,
    Ping, Relays, Reloaded, Rotated, RulesChecked, RulesShown, Uninstall, Up,
};
use super::output;
use crate::control::message::{Members, Netcheck, PathMoved};
use crate::control::status::Status;
use crate::doctor::Report;
use anyhow::bail;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use shadowmesh_proto::spelling;

/// Print the JSON schema of what commands print with --json
///
/// Of all of them, by the command's name, or of one. Fields may be added in any version; none is renamed or removed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  shadowmesh schema status\n  shadowmesh schema | jq 'keys'")]
pub(super) struct Args {
    /// Of which command, such as `status` or `network create`
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// Which document a command prints.
type Document = (&'static str, fn(&mut SchemaGenerator) -> Schema);

const fn of<T: JsonSchema>(command: &'static str) -> Document {
    (command, SchemaGenerator::root_schema_for::<T>)
}

/// The document of each command that has one.
const DOCUMENTS: &[Document] = &[
    of::<Up<'_>>("up"),
    of::<Down>("down"),
    of::<Leave>("leave"),
    of::<Install>("install"),
    of::<Uninstall>("uninstall"),
    of::<Status>("status"),
    of::<Ping>("ping"),
    of::<PathMoved>("path"),
    of::<Netcheck>("netcheck"),
    of::<Report>("doctor"),
    of::<Invite<'_>>("invite"),
    of::<NetworkMade>("network create"),
    of::<NetworkExported>("network export"),
    of::<NetworkImported>("network import"),
    of::<Members>("members"),
    of::<Changed>("revoke"),
    of::<Changed>("approve"),
    of::<Changed>("rename"),
    of::<Changed>("tag"),
    of::<Rotated>("rotate-secret"),
    of::<Changed>("relays add"),
    of::<Changed>("relays remove"),
    of::<Relays>("relays list"),
    of::<Changed>("admins add"),
    of::<Changed>("admins remove"),
    of::<Admins>("admins list"),
    of::<AdminId>("admins id"),
    of::<RulesChecked>("rules check"),
    of::<Changed>("rules publish"),
    of::<RulesShown>("rules show"),
    of::<Reloaded>("reload"),
];

/// Commands that print no document, and why.
#[cfg(test)]
const WITHOUT: &[(&str, &str)] = &[
    ("config", "it prints a file of settings, which is TOML"),
    ("completions", "it prints a program for a shell"),
    ("schema", "it prints schemas, which are JSON in any case"),
];

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let document = match args.command.join(" ").as_str() {
        "" => all(),
        asked => {
            let Some((_, make)) = DOCUMENTS.iter().find(|(command, _)| *command == asked) else {
                let meant = spelling::closest(asked, DOCUMENTS.iter().map(|(command, _)| *command));
                let hint = meant.map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
                bail!("no command prints a document as {:?}{hint}", output::clean(asked, 60));
            };
            schema(*make).into()
        }
    };
    output::document(&document)
}

/// All of them, by the commands' names.
pub(super) fn all() -> serde_json::Value {
    let all = DOCUMENTS.iter().map(|(command, make)| ((*command).to_owned(), schema(*make).into()));
    serde_json::Value::Object(all.collect())
}

/// As it is written, not as it may be read: what is always there is required.
fn schema(make: fn(&mut SchemaGenerator) -> Schema) -> Schema {
    make(&mut SchemaSettings::draft2020_12().for_serialize().into_generator())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory as _;

    /// Commands that have no commands below, by their whole names.
    fn leaves(command: &clap::Command, name: &str, found: &mut Vec<String>) {
        for sub in command.get_subcommands() {
            let name = format!("{name} {}", sub.get_name()).trim().to_owned();
            if sub.has_subcommands() { leaves(sub, &name, found) } else { found.push(name) }
        }
    }

    #[test]
    fn every_command_has_a_document_or_a_reason() {
        let mut commands = Vec::new();
        leaves(&Cli::command(), "", &mut commands);
        let mut known: Vec<&str> = DOCUMENTS.iter().map(|(command, _)| *command).collect();
        known.extend(WITHOUT.iter().map(|(command, _)| *command));
        commands.sort_unstable();
        known.sort_unstable();
        assert_eq!(commands, known);
    }

    #[test]
    fn what_is_always_there_is_required_and_has_a_description() {
        for (command, make) in DOCUMENTS {
            let schema: serde_json::Value = schema(*make).into();
            let properties = schema["properties"].as_object().expect(command);
            for (name, property) in properties {
                assert!(property.get("description").is_some(), "{command}: {name} is not explained");
                let required = schema["required"].as_array().expect(command);
                assert!(required.contains(&name.as_str().into()), "{command}: {name} is said to be optional");
            }
        }
    }
}
