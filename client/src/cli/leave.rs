//! `shadowmesh leave`: forgets the network on this host.

use super::global::Global;
use super::{down, output};
use crate::daemon::state_dir::StateDir;

/// Forget the network on this host
///
/// Stops the daemon if one runs, then deletes the network secret, its relays and the address. The node's key and name stay.
/// Asks nothing: coming back takes an invite.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh leave")]
pub(super) struct Args {}

pub(super) fn run(global: &Global, _: &Args) -> anyhow::Result<()> {
    down::stop(&global.socket())?;
    let Some(state) = StateDir::open_existing(global.state_dir())? else {
        output::note("this host is in no network");
        return Ok(());
    };
    let _lock = state.lock()?;
    let was_member = state.forget_network()?;
    output::note(if was_member { "this host has left the network" } else { "this host is in no network" });
    Ok(())
}
