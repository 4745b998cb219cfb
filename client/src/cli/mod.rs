//! The command line: a file per sub-command, each with its arguments, its help and what it does.
//!
//! Names and exit codes are a contract with scripts: 0 done, 1 failed (one sentence on stderr), 2 usage (clap's). What is
//! data goes to stdout, what is said to a person to stderr; the two exceptions are in [`up`], and are lines to copy.

mod completions;
mod config;
mod doctor;
mod documents;
mod down;
mod global;
mod install;
mod invite;
mod leave;
mod logging;
mod members;
mod netcheck;
mod network;
mod output;
mod path;
mod ping;
mod reload;
mod rotate;
mod rules;
mod schema;
mod status;
mod uninstall;
mod up;
mod vocabulary;

use clap::{CommandFactory as _, Parser, Subcommand};
use global::Global;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Example, three machines:
  relay$ shadowmesh-relay                        prints a relay ticket, smr1...
  a$     sudo shadowmesh up --relay smr1...      makes a network, prints an invite, smi1...
  b$     sudo shadowmesh up smi1...              joins it
  a$     shadowmesh ping b

Exit codes: 0 done, 1 failed (with one sentence that says why), 2 wrong usage.
Environment: SHADOWMESH_STATE and SHADOWMESH_SOCKET stand in for --state and --socket; SHADOWMESH_LOG=debug (or RUST_LOG)
makes a daemon say more.";

/// Joins machines into one Ethernet segment across the internet, encrypted end to end.
#[derive(Debug, Parser)]
#[command(name = "shadowmesh", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Args),
    Down(down::Args),
    Leave(leave::Args),
    Install(install::Args),
    Uninstall(uninstall::Args),
    Status(status::Args),
    Ping(ping::Args),
    Path(path::Args),
    Netcheck(netcheck::Args),
    Doctor(doctor::Args),
    Invite(invite::Args),
    Network(network::Args),
    Members(members::MembersArgs),
    Revoke(members::RevokeArgs),
    Approve(members::ApproveArgs),
    Rename(members::RenameArgs),
    Tag(members::TagArgs),
    RotateSecret(rotate::Args),
    Relays(members::RelaysArgs),
    Admins(members::AdminsArgs),
    Rules(rules::Args),
    Reload(reload::Args),
    Config(config::Args),
    Completions(completions::Args),
    Schema(schema::Args),
}

/// Reads the command line, does what it says and reports a failure in one sentence.
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let done = match command {
        Command::Up(args) => up::run(&global, args),
        Command::Down(args) => down::run(&global, &args),
        Command::Leave(args) => leave::run(&global, &args),
        Command::Install(args) => install::run(&global, args),
        Command::Uninstall(args) => uninstall::run(&global, args),
        Command::Status(args) => status::run(&global, &args),
        Command::Ping(args) => ping::run(&global, &args),
        Command::Path(args) => path::run(&global, &args),
        Command::Netcheck(args) => netcheck::run(&global, &args),
        Command::Doctor(args) => doctor::run(&global, &args),
        Command::Invite(args) => invite::run(&global, &args),
        Command::Network(args) => network::run(&global, &args),
        Command::Members(args) => members::members(&global, &args),
        Command::Revoke(args) => members::revoke(&global, &args),
        Command::Approve(args) => members::approve(&global, &args),
        Command::Rename(args) => members::rename(&global, &args),
        Command::Tag(args) => members::tag(&global, &args),
        Command::RotateSecret(args) => rotate::run(&global, &args),
        Command::Relays(args) => members::relays(&global, &args),
        Command::Admins(args) => members::admins(&global, &args),
        Command::Rules(args) => rules::run(&global, &args),
        Command::Reload(args) => reload::run(&global, &args),
        Command::Config(args) => config::run(&args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Schema(args) => schema::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough of it: `shadowmesh status | head -1`.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("shadowmesh: {}", output::one_line(&format!("{error:#}"))));
            ExitCode::FAILURE
        }
    }
}

/// The command line itself, for what is made of it: manual pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// A runtime for one command: one thread, because commands and the control side only wait.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context as _;
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_an_example() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let mut seen = 0;
        explained(&command, &mut seen);
        assert!(seen > 20, "{seen} commands");
    }

    /// This command and all below it say what they do, show it, and explain each argument.
    fn explained(command: &clap::Command, seen: &mut usize) {
        *seen += 1;
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let example = help.split_once("Example").map(|(_, rest)| rest);
        assert!(example.is_some_and(|rest| rest.contains(name)), "{name} has no example of itself: {help}");
        assert!(command.get_about().is_some(), "{name}");
        for argument in command.get_arguments() {
            let is_explained = argument.get_help().is_some_and(|help| !help.to_string().is_empty());
            assert!(is_explained, "{name}: {}", argument.get_id());
        }
        command.get_subcommands().for_each(|sub| explained(sub, seen));
    }

    #[test]
    fn global_options_go_before_or_after() {
        for line in [["shadowmesh", "--json", "status"], ["shadowmesh", "status", "--json"]] {
            assert!(Cli::try_parse_from(line).expect("parsed").global.json);
        }
    }
}
