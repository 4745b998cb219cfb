//! `shadowmesh leave`: forgets the network on this host.

use super::documents::Leave;
use super::global::Global;
use super::{down, output};
use crate::daemon::members::held::Held;
use crate::daemon::state_dir::StateDir;
use anyhow::Context as _;
use std::path::PathBuf;

/// Forget the network on this host
///
/// Stops the daemon if one runs, then deletes the network secret, its relays and the address. The node's key and name stay.
/// Asks nothing: coming back takes an invite. Where a key is on this host that is an admin's, or may be one's, a copy of the network is kept in
/// the state directory, with which `shadowmesh network import` makes this or another host that admin again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh leave")]
pub(super) struct Args {
    /// Keep no copy where the key of an admin is, which may be the only one of the network
    #[arg(long)]
    discard_admin_key: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    down::stop(&global.socket())?;
    let swept = down::sweep(global)?;
    let left = forget(global, args.discard_admin_key)?;
    if global.json {
        return output::document(&Leave {
            was_member: left.was_member,
            took_names_out: swept.is_some(),
            deleted_admin_key: left.held.is_some() && args.discard_admin_key,
            copy: left.copy.as_deref(),
        });
    }
    down::note_swept(swept.as_deref());
    output::note(if left.was_member {
        "this host has left the network; its own key and its name are kept"
    } else {
        "this host is in no network"
    });
    if let Some(copy) = left.copy {
        let shown = copy.display();
        output::note(&format!(
            "it had an admin's key: a copy of the network with that is in {shown}; `sudo shadowmesh network import {shown}` takes it back, \
             delete it when nobody needs it"
        ));
    } else if let Some(held) = left.held {
        let whose = match held {
            Held::Admin { .. } => "the admin's key that was here is deleted",
            Held::NoAdmin { .. } => "the key that was no admin's is deleted",
            Held::Unknown { .. } if args.discard_admin_key => {
                "the key that may have been an admin's is deleted"
            }
            Held::Unknown { .. } => "a key that may be an admin's is kept",
        };
        output::note(whose);
    }
    Ok(())
}

/// What was left.
#[derive(Debug, Default)]
struct Left {
    was_member: bool,
    /// Keys of an admin that were here.
    held: Option<Held>,
    /// Where a copy of it all is.
    copy: Option<PathBuf>,
}

/// Whether there was anything to forget, and what was kept.
fn forget(global: &Global, discards: bool) -> anyhow::Result<Left> {
    let Some(state) = StateDir::open_existing(global.state_dir())? else { return Ok(Left::default()) };
    let _lock = state.lock()?;
    let held = Held::of(&state);
    let mut copy = None;
    if let Some(held) = held.as_ref().filter(|_| !discards) {
        if !state.has_network() {
            // A key that waits for a network: nothing is left by this, but what a run that was cut off forgot.
            state.forget_all_but_keys()?;
            return Ok(Left { held: Some(held.clone()), ..Left::default() });
        }
        copy = state.keep_copy().with_context(|| {
            let held_now = output::clean(&held.to_string(), 500);
            format!("{held_now}; {}, or give it up with --discard-admin-key", held.remedy(&state))
        })?;
    }
    Ok(Left { was_member: state.forget_network()?, held, copy })
}
