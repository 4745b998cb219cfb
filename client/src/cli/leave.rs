//! `shadowmesh leave`: forgets the network on this host.

use super::documents::Leave;
use super::global::Global;
use super::{down, output};
use crate::daemon::members::held::Held;
use crate::daemon::state_dir::StateDir;
use anyhow::bail;

/// Forget the network on this host
///
/// Stops the daemon if one runs, then deletes the network secret, its relays and the address. The node's key and name stay.
/// Asks nothing: coming back takes an invite. Where a key is on this host that is an admin's, or may be one's, it says what is known of it
/// and wants to be told to give that up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh leave")]
pub(super) struct Args {
    /// Delete the key of an admin too, which may be the only one of the network
    #[arg(long)]
    discard_admin_key: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let state = StateDir::open_existing(global.state_dir())?;
    let held = state.as_ref().and_then(|state| Some((Held::of(state)?, state)));
    if let Some((held, state)) = &held
        && !args.discard_admin_key
    {
        let held_now = output::clean(&held.to_string(), 500);
        bail!("{held_now}; {}, or give it up with --discard-admin-key", held.remedy(state));
    }
    down::stop(&global.socket())?;
    let swept = down::sweep(global)?;
    let was_member = forget(global)?;
    let deleted_admin_key = held.is_some();
    if global.json {
        return output::document(&Leave { was_member, took_names_out: swept.is_some(), deleted_admin_key });
    }
    down::note_swept(swept.as_deref());
    output::note(if was_member {
        "this host has left the network; its own key and its name are kept"
    } else {
        "this host is in no network"
    });
    if let Some((held, _)) = held {
        let whose = match held {
            Held::Admin { .. } => "the admin's key that was here is deleted",
            Held::NoAdmin { .. } => "the key that was no admin's is deleted",
            Held::Unknown { .. } => "the key that may have been an admin's is deleted",
        };
        output::note(whose);
    }
    Ok(())
}

/// Whether there was anything to forget.
fn forget(global: &Global) -> anyhow::Result<bool> {
    let Some(state) = StateDir::open_existing(global.state_dir())? else { return Ok(false) };
    let _lock = state.lock()?;
    Ok(state.forget_network()?)
}
