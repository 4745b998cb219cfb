//! `shadowmesh reload`: lets the daemon read again what it can apply while it runs.

use super::documents::Reloaded;
use super::global::Global;
use super::output::{self, counted};
use super::runtime;
use crate::config::NamesChoice;
use crate::control::client::{self, ControlError, unexpected};
use crate::control::message::{Request, Response};
use anyhow::bail;

/// Let the daemon read again what can change while it runs: access rules, names
///
/// The file is the one that `up --rules` named, or `rules` in config.toml since. Rules with a fault are refused, and those from
/// before stay in force. `names` in config.toml counts at once as well: what is served is taken back and begun anew. Whatever else was
/// changed there counts from the next `shadowmesh up` on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  shadowmesh rules check /etc/shadowmesh/rules && sudo shadowmesh reload")]
pub(super) struct Args {}

pub(super) fn run(global: &Global, _: &Args) -> anyhow::Result<()> {
    let socket = global.socket();
    let (rules, names) = match runtime()?.block_on(client::call(&socket, &Request::Reload)) {
        Ok(Response::Reloaded { rules, names }) => (rules, names),
        Ok(_) => return Err(unexpected(&socket).into()),
        Err(ControlError::Refused { sentence, .. }) => bail!(sentence),
        Err(error) => return Err(error.into()),
    };
    if global.json {
        return output::document(&Reloaded { rules, names });
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
    Ok(())
}
