//! `shadowmesh reload`: lets the daemon read again what it can apply while it runs.

use super::documents::Reloaded;
use super::global::Global;
use super::output::{self, counted};
use super::runtime;
use crate::config::{IdleAfter, NamesChoice, SessionsChoice};
use crate::control::client::{self, ControlError, unexpected};
use crate::control::message::{Request, Response};
use anyhow::bail;

/// Let the daemon read again what can change while it runs: access rules, names, sessions
///
/// The file is the one that `up --rules` named, or `rules` in config.toml since. Rules with a fault are refused, and those from
/// before stay in force. `names` in config.toml counts at once as well: what is served is taken back and begun anew; so do `sessions` and
/// `idle_after`. Whatever else was changed there counts from the next `shadowmesh up` on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  shadowmesh rules check /etc/shadowmesh/rules && sudo shadowmesh reload")]
pub(super) struct Args {}

pub(super) fn run(global: &Global, _: &Args) -> anyhow::Result<()> {
    let socket = global.socket();
    let reloaded = match runtime()?.block_on(client::call(&socket, &Request::Reload)) {
        Ok(Response::Reloaded { rules, names, sessions, idle_after }) => {
            Reloaded { rules, names, sessions, idle_after }
        }
        Ok(_) => return Err(unexpected(&socket).into()),
        Err(ControlError::Refused { sentence, .. }) => bail!(sentence),
        Err(error) => return Err(error.into()),
    };
    if global.json {
        return output::document(&reloaded);
    }
    let Reloaded { rules, names, sessions, idle_after } = reloaded;
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
