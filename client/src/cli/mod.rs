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

use crate::control::server::BindError;
use crate::daemon::state_dir::StateError;
use clap::{CommandFactory as _, Parser, Subcommand};
use global::Global;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Example, three machines:
  relay$ shadowmesh-relay                        prints a relay ticket, smr1...
  a$     sudo shadowmesh up --relay smr1...      makes a network, prints an invite, smi1...
  b$     sudo shadowmesh up smi1...              joins it
  a$     sudo shadowmesh ping b

Who is in the group shadowmesh, which `install` and the package make, types `status`, `ping`, `members` and other questions without sudo.
Exit codes: 0 done, 1 failed (with one sentence that says why), 2 wrong usage.
Environment: SHADOWMESH_STATE and SHADOWMESH_SOCKET stand in for --state and --socket; SHADOWMESH_LOG=debug (or RUST_LOG)
makes a daemon say more.";

/// Joins machines into one Ethernet segment across the internet, encrypted end to end.
#[derive(Debug, Parser)]
#[command(name = "shadowmesh", version, after_help = AFTER_HELP, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(Box<up::Args>),
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
        Command::Up(args) => up::run(&global, *args),
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
            output::note(&format!("shadowmesh: {}", output::one_line(&sentence(&error, &global))));
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, for people. Where it is a daemon that runs already, with what reaches that one.
fn sentence(error: &anyhow::Error, global: &Global) -> String {
    let said = format!("{error:#}");
    let is_in_the_way = error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(StateError::Locked { .. }))
            || matches!(cause.downcast_ref(), Some(BindError::Live(_)))
    });
    if !is_in_the_way {
        return said;
    }
    said.replace("`shadowmesh down`", &format!("`{}`", global.typed("down")))
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
    fn help_fits_the_terminal() {
        let mut command = Cli::command().term_width(80);
        command.build();
        let mut pages = vec![command];
        while let Some(mut page) = pages.pop() {
            let help = page.render_long_help().to_string();
            let widest = help.lines().max_by_key(|line| line.chars().count()).unwrap_or_default();
            assert!(widest.chars().count() <= 80, "{}: {widest}", page.get_name());
            pages.extend(page.get_subcommands().map(|below| below.clone().term_width(80)));
        }
    }

    #[test]
    fn who_is_told_to_stop_a_daemon_is_told_which() {
        let said = |args: &[&str], error: anyhow::Error| {
            let line = ["shadowmesh"].iter().chain(args).chain(&["status"]);
            sentence(&error, &Cli::try_parse_from(line).expect("parsed").global)
        };
        let locked = || StateError::Locked { path: "/s/home".into(), pid: Some(7) }.into();
        let live = || anyhow::Error::from(BindError::Live("/x.sock".into())).context("no daemon was started");
        assert!(said(&[], locked()).ends_with("stop it first with `sudo shadowmesh down`"));
        let home = ["--network", "home"];
        assert!(said(&home, locked()).ends_with("stop it first with `sudo shadowmesh --network home down`"));
        assert!(said(&home, live()).contains("first with `sudo shadowmesh --network home down`, or name"));
        let other = anyhow::anyhow!("on b type `shadowmesh down`");
        assert_eq!(said(&home, other), "on b type `shadowmesh down`", "that host has its own names");
    }

    #[test]
    fn global_options_go_before_or_after() {
        for line in [["shadowmesh", "--json", "status"], ["shadowmesh", "status", "--json"]] {
            assert!(Cli::try_parse_from(line).expect("parsed").global.json);
        }
    }
}
