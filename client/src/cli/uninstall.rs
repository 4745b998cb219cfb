//! `shadowmesh uninstall`: takes the service away again.

use super::documents::Uninstall;
use super::global::Global;
use super::install::{lines, machine, show_differences};
use super::{down, output};
use crate::service::uninstall::{Wish, loss, uninstall};
use crate::service::{Loss, Uninstalled};
use anyhow::{Context as _, bail};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::PathBuf;

/// What is typed to go on.
const YES: &str = "yes";

/// Stop the service and remove what `install` made
///
/// The state stays: keys, membership, and the user whose it is. --purge deletes that too, says before what is lost, and asks. Files that a person changed
/// are shown and left as they are, without --force.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh uninstall\n  sudo shadowmesh uninstall --purge --yes")]
pub(super) struct Args {
    /// Delete the state as well: this host's key, its networks and settings
    #[arg(long)]
    purge: bool,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// With --purge, delete the key of an admin too, which may be the only one of the network, and the copies with one that `leave` kept
    #[arg(long, requires = "purge")]
    discard_admin_key: bool,

    /// Remove a unit that was changed by hand
    #[arg(long)]
    force: bool,

    /// Another machine's root directory, such as that of an image
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

pub(super) fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    let machine = machine(global, args.root)?;
    let wish = Wish { purge: args.purge, discard_admin_key: args.discard_admin_key, force: args.force };
    if wish.purge
        && let Some(loss) = loss(&machine, wish)?
    {
        output::note(&in_words(&loss));
        if !args.yes && !confirmed()? {
            bail!("nothing was changed");
        }
    }
    let make_way = || {
        if machine.is_this() {
            // Whoever keeps the state keeps a daemon that runs by hand.
            if wish.purge {
                down::stop(&global.socket())?;
            }
            down::note_swept(down::sweep(global)?.as_deref());
        }
        Ok(())
    };
    let done = uninstall(&machine, wish, make_way).inspect_err(show_differences)?;
    if global.json {
        let Uninstalled { removed, left, removed_user, .. } = done;
        return output::document(&Uninstall { removed, left, removed_user });
    }
    say(&done);
    Ok(())
}

/// What is lost.
fn in_words(loss: &Loss) -> String {
    let mut parts = Vec::new();
    if loss.has_node_key {
        parts.push("this host's key, without which it is another node with another address".to_owned());
    }
    if !loss.networks.is_empty() {
        let names: Vec<String> = loss.networks.iter().map(|name| output::clean(name, 60)).collect();
        parts.push(format!("its membership of {}: coming back takes an invite", names.join(", ")));
    }
    if loss.has_admin_key {
        parts.push(
            "THE KEY OF AN ADMIN: without another admin nobody can ever change that network again".to_owned(),
        );
    }
    if !loss.copies.is_empty() {
        let files: Vec<String> =
            loss.copies.iter().map(|file| output::clean(&file.display().to_string(), 300)).collect();
        parts.push(format!("THE KEY OF AN ADMIN in what `leave` kept ({})", files.join(", ")));
    }
    let state = loss.state.as_ref().map(|state| {
        parts.push("what `up` remembers".to_owned());
        format!("{}: {}", state.display(), parts.join("; "))
    });
    let settings = loss.settings.as_ref().map(|file| format!("the settings in {}", file.display()));
    let all: Vec<String> = state.into_iter().chain(settings).collect();
    format!("deleted for good with {}", all.join("; and with "))
}

/// Whether a person at a terminal agrees.
fn confirmed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("nobody can be asked here: say --yes to delete the state");
    }
    output::note(&format!("type {YES} to go on:"));
    let mut answer = String::new();
    io::stdin().lock().take(80).read_line(&mut answer).context("cannot read the answer")?;
    Ok(answer.trim() == YES)
}

fn say(done: &Uninstalled) {
    if !done.overwritten.is_empty() {
        output::note("given up, what was changed by hand:");
        lines(&done.overwritten);
    }
    done.removed.iter().for_each(|path| output::note(&format!("removed {}", path.display())));
    if done.removed_user {
        output::note("removed the user shadowmesh");
    }
    done.left.iter().for_each(|path| output::note(&format!("left {}", path.display())));
    if done.removed.is_empty() {
        output::note("no service was installed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_said() {
        let loss = Loss {
            state: Some("/var/lib/shadowmesh".into()),
            settings: Some("/etc/shadowmesh/config.toml".into()),
            networks: vec!["home".into(), "w\x1b[2Jork".into()],
            has_node_key: true,
            has_admin_key: true,
            copies: vec!["/var/lib/shadowmesh/left-\x1bhome".into()],
        };
        let words = in_words(&loss);
        for part in [
            "/var/lib/shadowmesh",
            "the settings in /etc/shadowmesh/config.toml",
            "this host's key",
            "its membership of home, w[2Jork",
            "THE KEY OF AN ADMIN: ",
            "THE KEY OF AN ADMIN in what `leave` kept (/var/lib/shadowmesh/left-home)",
        ] {
            assert!(words.contains(part), "{words}");
        }
        let words = in_words(&Loss { state: Some("/s".into()), ..Loss::default() });
        assert_eq!(words, "deleted for good with /s: what `up` remembers");
        let words = in_words(&Loss { settings: Some("/c".into()), ..Loss::default() });
        assert_eq!(words, "deleted for good with the settings in /c");
    }
}
