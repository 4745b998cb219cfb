//! `shadowmesh invite`: prints a ticket with which another host joins.

use super::global::Global;
use super::{output, runtime};
use crate::config::{NodeName, Span};
use crate::control::client::{self, ControlError, unexpected};
use crate::control::message::{Request, Response};
use crate::daemon::state_dir::StateDir;
use anyhow::Context as _;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Print a ticket with which another host joins the network
///
/// The ticket is a secret: it carries the key of the whole network, and its expiry is only advice to the
/// program that joins. Hand it over like a password; `shadowmesh up -` reads it from stdin.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh invite --expires 1h --name printer\n  \
                        sudo shadowmesh invite | ssh root@b shadowmesh up --detach -")]
pub(super) struct Args {
    /// When joining with it ends, such as 30m, 24h or 7d
    #[arg(long, value_name = "TIME", default_value = "24h")]
    expires: Span,

    /// A name for the host that joins
    #[arg(long, value_name = "NAME")]
    name: Option<NodeName>,

    /// How often it shall be used; a note for people, until certificates come nobody counts
    #[arg(long, value_name = "N")]
    uses: Option<NonZeroU32>,
}

/// How long the invite is good for that `up` prints on the first run.
pub(super) const FIRST_EXPIRY: Duration = Duration::from_secs(24 * 3_600);

/// Said with every invite, until certificates come.
pub(super) const ADVICE: &str =
    "keep it secret: it carries the key of the network, and its expiry is only advice to who joins";

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let expires_s = args.expires.0.as_secs().max(1);
    let name = args.name.as_ref().map(ToString::to_string);
    let ticket = match ask_daemon(global, expires_s, name.clone()) {
        Err(ControlError::NotRunning(_)) => from_state(global, expires_s, name)?,
        answered => Zeroizing::new(answered?),
    };
    output::note(ADVICE);
    if global.json {
        let uses = args.uses.map(NonZeroU32::get);
        let document =
            serde_json::json!({ "ticket": *ticket, "expires_s": expires_s, "uses": uses, "advice": ADVICE });
        return Ok(output::data(&serde_json::to_string_pretty(&document)?)?);
    }
    Ok(output::data(&ticket)?)
}

fn ask_daemon(global: &Global, expires_s: u64, name: Option<String>) -> Result<String, ControlError> {
    let socket = global.socket();
    let not_started = |error: anyhow::Error| ControlError::Silent {
        path: socket.clone(),
        cause: std::io::Error::other(error),
    };
    let runtime = runtime().map_err(not_started)?;
    let response = runtime.block_on(client::call(&socket, &Request::Invite { expires_s, name }))?;
    if let Response::Invite { ticket } = response { Ok(ticket) } else { Err(unexpected(&socket)) }
}

/// Without a daemon the state directory has all that is needed.
fn from_state(global: &Global, expires_s: u64, name: Option<String>) -> anyhow::Result<Zeroizing<String>> {
    let in_no_network = "this host is in no network: join one with `sudo shadowmesh up smi1...`, or make one with \
                         `sudo shadowmesh up --relay smr1...`";
    let state = StateDir::open_existing(global.state_dir())?.context(in_no_network)?;
    let network = state.load_network()?.context(in_no_network)?;
    let relays = state.load_config()?.relays;
    Ok(network.invite(&relays, Some(unix_now().saturating_add(expires_s)), name).to_text())
}

/// Seconds since 1970.
pub(super) fn unix_now() -> u64 {
    // A clock before 1970 is a clock that was never set: nothing has expired then.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
