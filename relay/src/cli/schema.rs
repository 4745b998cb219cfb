//! `schema`: the shape of every `--json`, made of the types that are printed, so that the two cannot differ.
//!
//! [`DOCUMENTS`] names the document of each command, `WITHOUT` the commands that have none and why: a test walks the command line and
//! finds each of them in one of the two.

use super::{say, ticket};
use crate::admin::Status;
use anyhow::bail;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use shadowmesh_proto::spelling;

/// Which document a command prints.
type Document = (&'static str, fn(&mut SchemaGenerator) -> Schema);

const fn of<T: JsonSchema>(command: &'static str) -> Document {
    (command, SchemaGenerator::root_schema_for::<T>)
}

/// The document of each command that has one.
const DOCUMENTS: &[Document] = &[of::<ticket::Document>("ticket"), of::<Status>("status")];

/// Commands that print no document, and why.
#[cfg(test)]
const WITHOUT: &[(&str, &str)] = &[
    ("run", "it prints a ticket, and then nothing for as long as it runs"),
    ("config", "it prints a file of settings, which is TOML"),
    ("completions", "it prints a program for a shell"),
    ("schema", "it prints schemas, which are JSON in any case"),
];

/// All of them by the command's name, or one.
pub(super) fn execute(command: Option<&str>) -> anyhow::Result<()> {
    let document = match command {
        None => {
            let all = DOCUMENTS.iter().map(|(command, make)| ((*command).to_owned(), schema(*make).into()));
            serde_json::Value::Object(all.collect())
        }
        Some(asked) => {
            let Some((_, make)) = DOCUMENTS.iter().find(|(command, _)| *command == asked) else {
                let meant = spelling::closest(asked, DOCUMENTS.iter().map(|(command, _)| *command));
                let hint = meant.map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
                bail!("no command prints a document as {asked:?}{hint}");
            };
            schema(*make).into()
        }
    };
    say(&serde_json::to_string_pretty(&document)?)
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

    #[test]
    fn every_command_has_a_document_or_a_reason() {
        let command = Cli::command();
        let mut commands: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
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
