//! `shadowmesh reload`: lets the daemon read its settings again.

use super::documents::Reloaded;
use super::global::Global;
use super::output::{self, counted};
use super::runtime;
use crate::config::{IdleAfter, NamesChoice, SessionsChoice};
use crate::control::client::{self, ControlError, unexpected};
use crate::control::message::{Request, Response, Setting};
use anyhow::bail;

/// Let the daemon read its settings again, and apply what can change while it runs
///
/// Read are what `up` remembered, the file that `up --config` named, which wins, and the access rules. A line for each key that is other than what the
/// daemon runs with says whether it counts now or from the next start on (`shadowmesh config` says so of all). A fault in any of the files changes
/// nothing, and is told with its place. SIGHUP does the same; then the daemon's log has the lines.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  shadowmesh rules check /etc/shadowmesh/rules && sudo shadowmesh reload\n  sudo shadowmesh reload --json | jq '.waits[].key'"
)]
pub(super) struct Args {}

pub(super) fn run(global: &Global, _: &Args) -> anyhow::Result<()> {
    let socket = global.socket();
    let reloaded = match runtime()?.block_on(client::call(&socket, &Request::Reload)) {
        Ok(Response::Reloaded { rules, names, sessions, idle_after, applied, waits, restart }) => {
            Reloaded { rules, names, sessions, idle_after, applied, waits, restart }
        }
        Ok(_) => return Err(unexpected(&socket).into()),
        Err(ControlError::Refused { sentence, .. }) => bail!(sentence),
        Err(error) => return Err(error.into()),
    };
    if global.json {
        return output::document(&reloaded);
    }
    let Reloaded { rules, names, sessions, idle_after, applied, waits, restart } = reloaded;
    for line in applied.iter().map(Setting::applied).chain(waits.iter().map(Setting::waits)) {
        output::note(&output::clean(&line, 500));
    }
    if let Some(restart) = restart {
        output::note(&format!("to start it anew: {}", output::clean(&restart, 500)));
    }
    output::note(&match rules {
        Some(rules) => {
            let file = output::clean(&rules.file, 300);
            let open = if rules.count == 0 { ": everything is let in" } else { "" };
            format!("in force: {} from {file}{open}", counted(rules.count, "rule"))
        }
        None => "no rules are set: everything is let in".to_owned(),
    });
    if let Some(names) = names.filter(|names| *names != NamesChoice::Off) {
        output::note(&format!("names: {names}; `shadowmesh status` shows how they are served"));
    }
    let usual = (SessionsChoice::default(), IdleAfter::default().to_string());
    if let Some((sessions, idle_after)) = sessions.zip(idle_after).filter(|chosen| *chosen != usual) {
        let idle_after = output::clean(&idle_after, 20);
        output::note(&match sessions {
            SessionsChoice::All => "sessions: all are kept".to_owned(),
            chosen @ (SessionsChoice::Auto | SessionsChoice::OnDemand) => {
                format!("sessions: {chosen}; those that are not kept end after {idle_after} without use")
            }
        });
    }
    Ok(())
}
