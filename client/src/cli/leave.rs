//! `shadowmesh leave`: forgets the network on this host.

use super::documents::Leave;
use super::global::Global;
use super::{down, output};
use crate::daemon::state_dir::StateDir;
use anyhow::bail;

/// Forget the network on this host
///
/// Stops the daemon if one runs, then deletes the network secret, its relays and the address. The node's key and name stay.
/// Asks nothing: coming back takes an invite. Where the key of an admin is on this host, it wants to be told to give that up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh leave")]
pub(super) struct Args {
    /// Forget the key of an admin too, which may be the only one of the network
    #[arg(long)]
    discard_admin_key: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    if let Some(state) = StateDir::open_existing(global.state_dir())?
        && !args.discard_admin_key
        && state.has_authority()
    {
        bail!(
            "this host has the key of an admin: keep a copy (`shadowmesh network export FILE`), or give it up with \
             --discard-admin-key"
        );
    }
    down::stop(&global.socket())?;
    let swept = down::sweep(global)?;
    let was_member = forget(global)?;
    if global.json {
        return output::document(&Leave { was_member, took_names_out: swept.is_some() });
    }
    down::note_swept(swept.as_deref());
    output::note(if was_member { "this host has left the network" } else { "this host is in no network" });
    Ok(())
}

/// Whether there was anything to forget.
fn forget(global: &Global) -> anyhow::Result<bool> {
    let Some(state) = StateDir::open_existing(global.state_dir())? else { return Ok(false) };
    let _lock = state.lock()?;
    Ok(state.forget_network()?)
}
