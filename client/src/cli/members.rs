//! Who is in the network: `shadowmesh members`, and what an admin changes.
//!
//! All of it is said to the daemon of an admin's host, which signs it and tells it to the others.

use super::documents::{AdminId, Admins, Changed, Relays};
use super::global::Global;
use super::output::{self, clean, wrapped};
use super::{rotate, runtime};
use crate::control::client::{self, ControlError, unexpected};
use crate::control::message::{Change, Member, Members, Request, Response};
use crate::daemon::clock::unix_now;
use anyhow::bail;
use std::fmt::Write as _;

/// Show who is in the network, as its record says
///
/// Needs a network with certificates, as `shadowmesh up --relay` and `network create` make it; in one without, `shadowmesh status` shows who is
/// there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sudo shadowmesh members\n  sudo shadowmesh members --json | jq '.members[] | {name, standing}'"
)]
pub(super) struct MembersArgs {}

/// Shut a member out of the network, for ever
///
/// Every member refuses it as soon as it hears of it, whether or not the relay is there. A host that shall come back takes a new key:
/// `sudo shadowmesh leave`, delete node.key, and join with another invite. Only on an admin's host.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh revoke laptop")]
pub(super) struct RevokeArgs {
    /// A name, an address, or an id as `shadowmesh members` shows it; who is no member goes by its whole id
    #[arg(value_name = "NAME|ID")]
    member: String,
}

/// Let in a host that waits for it
///
/// Hosts wait that came by an invite with --approval, or too late by one that has ended. Only on an admin's host.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh approve 4k7dqx2mzp")]
pub(super) struct ApproveArgs {
    /// The name in its certificate, or its id, as `shadowmesh members` shows them; anybody may have taken a name
    #[arg(value_name = "NAME|ID")]
    member: String,
}

/// Give a member another name
///
/// Only on an admin's host.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh rename laptop anna-laptop")]
pub(super) struct RenameArgs {
    /// A name, an address, or an id as `shadowmesh members` shows it
    #[arg(value_name = "NAME|ID")]
    member: String,

    /// 1 to 63 of letters, digits, `-`, `_` and `.`
    #[arg(value_name = "NEW-NAME")]
    name: String,
}

/// Give a member tags, or take them
///
/// Access rules name members by tag. Only on an admin's host.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sudo shadowmesh tag printer office device\n  sudo shadowmesh tag printer --remove office"
)]
pub(super) struct TagArgs {
    /// A name, an address, or an id as `shadowmesh members` shows it
    #[arg(value_name = "NAME|ID")]
    member: String,

    /// Tags that it gets
    #[arg(value_name = "TAG", required_unless_present = "remove")]
    add: Vec<String>,

    /// A tag that it loses; may be given several times
    #[arg(long, value_name = "TAG")]
    remove: Vec<String>,
}

/// Add, remove or list the relays of the network
///
/// The record carries the list; members use it as soon as they hear of it, and invites name it.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    after_help = "Example:\n  sudo shadowmesh relays add smr1...\n  sudo shadowmesh relays list"
)]
pub(super) struct RelaysArgs {
    #[command(subcommand)]
    command: RelaysCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RelaysCommand {
    /// Add one, by its ticket
    #[command(after_help = "Example:\n  sudo shadowmesh relays add smr1...")]
    Add {
        /// smr1...
        #[arg(value_name = "SMR")]
        ticket: String,
    },
    /// Remove one, by its address or ticket
    #[command(after_help = "Example:\n  sudo shadowmesh relays remove relay.example:8443")]
    Remove {
        /// As `relays list` shows it
        #[arg(value_name = "ADDRESS|SMR")]
        relay: String,
    },
    /// List them
    #[command(after_help = "Example:\n  sudo shadowmesh relays list --json")]
    List,
}

/// Add, remove or list the admins of the network
///
/// An admin is a key, kept on a host. With two of them losing one machine does not lose the network. To make host b one: on b run
/// `sudo shadowmesh admins id`, and on an admin's host `sudo shadowmesh admins add ID --name b`.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    after_help = "Example:\n  b$ sudo shadowmesh admins id\n  a$ sudo shadowmesh admins add 4k7dqx2mzp... --name b\n  \
                  a$ sudo shadowmesh admins list"
)]
pub(super) struct AdminsArgs {
    #[command(subcommand)]
    command: AdminsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AdminsCommand {
    /// Make the key of another host an admin's
    #[command(after_help = "Example:\n  sudo shadowmesh admins add 4k7dqx2mzp... --name b")]
    Add {
        /// What `shadowmesh admins id` printed there
        #[arg(value_name = "ID")]
        id: String,
        /// What people call it
        #[arg(long, value_name = "NAME")]
        name: String,
    },
    /// Remove one, for ever; what it had said stays, and is this host's word from now on
    #[command(
        after_help = "Example:\n  sudo shadowmesh admins remove b\n  sudo shadowmesh admins remove b --stolen"
    )]
    Remove {
        /// Its name, or its id as `admins list` shows it
        #[arg(value_name = "NAME|ID")]
        admin: String,
        /// Somebody else may have its key: drop what it said, made and revoked; whom it alone let in has to be approved
        #[arg(long)]
        stolen: bool,
    },
    /// List them
    #[command(after_help = "Example:\n  sudo shadowmesh admins list --json")]
    List,
    /// Print the id by which this host can be made an admin's
    #[command(after_help = "Example:\n  sudo shadowmesh admins id")]
    Id {
        /// Make another key, where the one before was removed; that one is put aside as admin.key.ID
        #[arg(long)]
        new: bool,
    },
}

pub(super) fn members(global: &Global, _: &MembersArgs) -> anyhow::Result<()> {
    let members = ask(global)?;
    if global.json {
        return output::document(&members);
    }
    Ok(output::data(&table(&members, by_clock_of(members.now)))?)
}

pub(super) fn revoke(global: &Global, args: &RevokeArgs) -> anyhow::Result<()> {
    change(global, Change::Revoke { member: args.member.clone() })
}

pub(super) fn approve(global: &Global, args: &ApproveArgs) -> anyhow::Result<()> {
    change(global, Change::Approve { member: args.member.clone() })
}

pub(super) fn rename(global: &Global, args: &RenameArgs) -> anyhow::Result<()> {
    change(global, Change::Rename { member: args.member.clone(), name: args.name.clone() })
}

pub(super) fn tag(global: &Global, args: &TagArgs) -> anyhow::Result<()> {
    let TagArgs { member, add, remove } = args;
    change(global, Change::Tag { member: member.clone(), add: add.clone(), remove: remove.clone() })
}

pub(super) fn relays(global: &Global, args: &RelaysArgs) -> anyhow::Result<()> {
    match &args.command {
        RelaysCommand::Add { ticket } => change(global, Change::AddRelay { ticket: ticket.clone() }),
        RelaysCommand::Remove { relay } => change(global, Change::RemoveRelay { relay: relay.clone() }),
        RelaysCommand::List => {
            let relays = ask(global)?.relays;
            if global.json {
                return output::document(&Relays { relays });
            }
            if relays.is_empty() {
                output::note("this host knows no relay of the network");
            }
            let lines: Vec<String> = relays.iter().map(|relay| clean(relay, 78)).collect();
            print(&lines)
        }
    }
}

pub(super) fn admins(global: &Global, args: &AdminsArgs) -> anyhow::Result<()> {
    match &args.command {
        AdminsCommand::Add { id, name } => {
            change(global, Change::AddAdmin { id: id.clone(), name: name.clone() })
        }
        AdminsCommand::Remove { admin, stolen } => {
            change(global, Change::RemoveAdmin { admin: admin.clone(), stolen: *stolen })
        }
        AdminsCommand::List => {
            let admins = ask(global)?.admins;
            if global.json {
                return output::document(&Admins { admins });
            }
            let line = |admin: &crate::control::message::AdminEntry| {
                let here = if admin.is_here { "  (this host)" } else { "" };
                format!("{:<20} {}{here}", clean(&admin.name, 20), short(&admin.id))
            };
            print(&admins.iter().map(line).collect::<Vec<_>>())
        }
        AdminsCommand::Id { new } => {
            let Response::AdminId { id } = call(global, &Request::AdminId { anew: *new })? else {
                return Err(unexpected(&global.socket()).into());
            };
            if global.json {
                return output::document(&AdminId { id });
            }
            Ok(output::data(&id)?)
        }
    }
}

/// Has an admin's daemon change something.
pub(super) fn change(global: &Global, change: Change) -> anyhow::Result<()> {
    let Response::Changed { sentence } = call(global, &Request::Change(change))? else {
        return Err(unexpected(&global.socket()).into());
    };
    if global.json {
        return output::document(&Changed { done: sentence });
    }
    output::note(&clean(&sentence, 500));
    Ok(())
}

pub(super) fn ask(global: &Global) -> anyhow::Result<Members> {
    let Response::Members(members) = call(global, &Request::Members)? else {
        return Err(unexpected(&global.socket()).into());
    };
    Ok(*members)
}

pub(super) fn call(global: &Global, request: &Request) -> anyhow::Result<Response> {
    match runtime()?.block_on(client::call(&global.socket(), request)) {
        Ok(response) => Ok(response),
        Err(ControlError::Refused { sentence, .. }) => bail!(sentence),
        Err(error) => Err(error.into()),
    }
}

fn print(lines: &[String]) -> anyhow::Result<()> {
    if lines.is_empty() { Ok(()) } else { Ok(output::data(&lines.join("\n"))?) }
}

fn short(id: &str) -> String {
    clean(id, 80).chars().take(shadowmesh_proto::ids::SHORT_ID_CHARS).collect()
}

/// What time it is for a daemon that says `now`, whose clock may know better than this machine's; one of an earlier version does not say.
pub(super) fn by_clock_of(now: u64) -> u64 {
    if now == 0 { unix_now() } else { now }
}

/// This host first, then by name: the order stays as it is when somebody comes or goes.
fn in_order(members: &Members) -> Vec<&Member> {
    let mut sorted: Vec<&Member> = members.members.iter().collect();
    sorted.sort_by(|a, b| (!a.is_here, &a.name, &a.id).cmp(&(!b.is_here, &b.name, &b.id)));
    sorted
}

/// In one word, as `status` has it; a daemon of an earlier version says less.
fn state_of(member: &Member) -> &str {
    if member.state.is_empty() { &member.standing } else { &member.state }
}

/// For people: no line wider than 80 columns.
fn table(members: &Members, now: u64) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ =
        writeln!(text, "{:<16} {:<10} {:<8} {:<9} {:<15} TAGS", "NAME", "ID", "STANDING", "CERT", "ADDRESS");
    for member in in_order(members) {
        let here = if member.is_here { "*" } else { "" };
        let name = format!("{}{here}", clean(&member.name, 15));
        let until = member.until.map_or_else(|| "-".to_owned(), |until| left(until, now));
        let tags = clean(&member.tags.join(","), 17);
        let address = member.addresses.first().map_or("-", String::as_str);
        let line = format!(
            "{name:<16} {:<10} {:<8} {until:<9} {:<15} {tags}",
            short(&member.id),
            clean(state_of(member), 8),
            clean(address, 15)
        );
        let _ = writeln!(text, "{}", line.trim_end());
        for line in member.why.iter().flat_map(|why| wrapped(&clean(why, 400), 77)) {
            let _ = writeln!(text, "  {line}");
        }
    }
    let admins: Vec<String> = members.admins.iter().map(|admin| clean(&admin.name, 20)).collect();
    let _ = writeln!(text, "\nadmins: {}", clean(&admins.join(", "), 70));
    if let Some(line) = rotate::line(members, now) {
        let _ = writeln!(text, "secret: {line}");
    }
    text
}

/// How long something is good.
pub(super) fn left(until: u64, now: u64) -> String {
    match until.checked_sub(now) {
        None => "expired".to_owned(),
        Some(left) if left < 2 * 86_400 => format!("{} hours", left / 3_600),
        Some(left) => format!("{} days", left / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::AdminEntry;
    use crate::control::status::Secret;

    #[test]
    fn the_table_fits_80_columns_whatever_members_are_called() {
        let member = Member {
            id: "b".repeat(52),
            name: "x\x1b[2J".repeat(20),
            tags: vec!["t".repeat(63); 16],
            addresses: vec!["fd12:3456:789a::1234:5678:9abc:def0".into()],
            standing: "refused".into(),
            why: Some("y".repeat(200)),
            until: Some(10 * 86_400),
            since: None,
            is_here: true,
            has_new_secret: Some(false),
            ..Member::default()
        };
        let admins = vec![AdminEntry { id: "c".repeat(52), name: "z".repeat(63), is_here: false }; 8];
        let secret = Secret { generation: 3, state: "rotating".into(), until: Some(3 * 86_400) };
        let text = table(&Members { members: vec![member], admins, secret, ..Members::default() }, 86_400);
        assert!(text.contains("secret: generation 3, the old one is good for 2 days more"), "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
        assert!(text.contains("9 days") && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn what_is_to_be_done_is_told_to_its_end_and_the_word_is_that_of_status() {
        let why = "the invite by which this host came was used up by others: `sudo shadowmesh leave`, and join by another invite \
                   (`shadowmesh invite` on an admin's host)";
        let member = |state: &str| Member {
            name: "b".into(),
            standing: "refused".into(),
            state: state.into(),
            why: Some(why.into()),
            ..Member::default()
        };
        let text = table(&Members { members: vec![member("waiting")], ..Members::default() }, 0);
        let row = text.lines().nth(1).unwrap();
        assert!(row.contains(" waiting ") && !text.contains("refused"), "{text}");
        let said: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        assert_eq!(said.join(" "), why);
        let text = table(&Members { members: vec![member("")], ..Members::default() }, 0);
        assert!(text.contains(" refused "), "a daemon of before: {text}");
    }

    #[test]
    fn this_host_comes_first_and_the_others_by_name() {
        let member = |id: &str, name: &str, is_here| Member {
            id: id.repeat(52),
            name: name.into(),
            is_here,
            ..Member::default()
        };
        let members = vec![member("a", "z", false), member("b", "m", true), member("c", "d", false)];
        let text = table(&Members { members, ..Members::default() }, 0);
        let names: Vec<&str> =
            text.lines().skip(1).take(3).filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, ["m*", "d", "z"], "{text}");
    }

    #[test]
    fn what_is_left_is_said_in_days_or_hours() {
        assert_eq!((left(86_400 * 9, 86_400), left(7_200, 0)), ("8 days".into(), "2 hours".into()));
        assert_eq!(left(5, 6), "expired");
    }
}
