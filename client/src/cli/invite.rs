//! `shadowmesh invite`: prints a ticket with which another host joins.

use super::global::Global;
use super::{documents, output, runtime};
use crate::config::{NodeName, Span};
use crate::control::client::{self, ControlError, unexpected};
use crate::control::message::{InviteLimits, Request, Response};
use crate::daemon::clock::{self, unix_now};
use crate::daemon::members::Members;
use crate::daemon::members::admin::Admin;
use crate::daemon::members::inviting::Wanted;
use crate::daemon::state_dir::StateDir;
use crate::system_rng::SystemRng;
use anyhow::Context as _;
use shadowmesh_proto::ticket::Invite;
use std::num::NonZeroU32;
use std::time::Duration;
use zeroize::Zeroizing;

/// Print a ticket with which another host joins the network
///
/// The ticket is a secret: it carries the key of the whole network. Hand it over like a password; `shadowmesh up -` reads it from
/// stdin. In a network with certificates, as `shadowmesh up --relay` and `network create` make it, it lets in whom the limits allow, and nobody else; without them
/// its expiry is only advice to the program that joins, and uses are not counted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh invite --expires 1h --name printer --uses 1\n  \
                        sudo shadowmesh invite --name 'lab-*' --tag lab --approval\n  \
                        sudo shadowmesh invite | ssh root@b shadowmesh up --detach -")]
pub(super) struct Args {
    /// When joining with it ends, such as 30m, 24h or 7d
    #[arg(long, value_name = "TIME", default_value = "24h")]
    expires: Span,

    /// A name for the host that joins; with certificates the only one that it may have, `*` standing for any characters
    #[arg(long, value_name = "NAME")]
    name: Option<NamePattern>,

    /// How many hosts may join by it; when an admin's host has met as many, nobody lets in another
    #[arg(long, value_name = "N|any", default_value = "any")]
    uses: Uses,

    /// A tag that who joins gets; may be given several times
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    /// Addresses of which who joins gets one, or the one it asks for with `up --address`, such as 10.7.3.0/24; may be given several times
    #[arg(long, value_name = "CIDR")]
    block: Vec<String>,

    /// Who joins waits until an admin approved it
    #[arg(long)]
    approval: bool,
}

/// How often an invite may be used.
#[derive(Debug, Clone, Copy)]
struct Uses(Option<NonZeroU32>);

impl std::str::FromStr for Uses {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "any" => Ok(Self(None)),
            text => {
                text.parse().map(|uses| Self(Some(uses))).map_err(|_| "it is a number from 1 on, or `any`")
            }
        }
    }
}

/// A name, or a pattern of names.
#[derive(Debug, Clone)]
struct NamePattern(String);

impl std::str::FromStr for NamePattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Any one letter stands for the star.
        let name = text.replace('*', "x").parse::<NodeName>();
        name.map(|_| Self(text.to_owned())).map_err(|_| {
            "a name has 1 to 63 characters of a-z, 0-9 and -, and neither begins nor ends with -; a * in it stands for any of them"
        })
    }
}

/// How long the invite is good for that `up` prints on the first run.
pub(super) const FIRST_EXPIRY: Duration = Duration::from_secs(24 * 3_600);

/// Said with every invite of a network without certificates.
pub(super) const ADVICE: &str =
    "keep it secret: it carries the key of the network, and its expiry is only advice to who joins";

/// Said with those of a network with certificates.
pub(super) const KEEP_SECRET: &str =
    "keep it secret: it carries the key of the network, and whoever has it may join within its limits";

/// The same with when it ends.
pub(super) fn advised(advice: &str, expires: Duration) -> String {
    let hours = expires.as_secs() / 3_600;
    let span = match expires.as_secs() {
        0..=60 => "a minute".to_owned(),
        61..7_200 => format!("{} minutes", expires.as_secs().div_ceil(60)),
        7_200..172_800 => format!("{hours} hours"),
        _ => format!("{} days", hours / 24),
    };
    format!("{advice}; it ends in {span} (`shadowmesh invite --expires`)")
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let expires_s = args.expires.0.as_secs().max(1);
    let name = args.name.as_ref().map(|pattern| pattern.0.clone());
    let limits = InviteLimits {
        uses: args.uses.0.map(NonZeroU32::get),
        needs_approval: args.approval,
        tags: args.tag.clone(),
        blocks: args.block.clone(),
    };
    let ticket = match ask_daemon(global, expires_s, name.clone(), limits.clone()) {
        Err(ControlError::NotRunning(_)) => from_state(global, expires_s, name, limits)?.to_text(),
        answered => Zeroizing::new(answered?),
    };
    // What it says itself decides, whoever made it.
    let is_limited = Invite::parse(&ticket, 0).is_ok_and(|invite| invite.delegated.is_some());
    let advice = if is_limited { KEEP_SECRET } else { ADVICE };
    output::note(&advised(advice, args.expires.0));
    if global.json {
        let uses = args.uses.0.map(NonZeroU32::get).filter(|_| is_limited);
        return output::document(&documents::Invite { ticket: &ticket, expires_s, uses, advice });
    }
    Ok(output::data(&ticket)?)
}

fn ask_daemon(
    global: &Global,
    expires_s: u64,
    name: Option<String>,
    limits: InviteLimits,
) -> Result<String, ControlError> {
    let socket = global.socket();
    let not_started = |error: anyhow::Error| ControlError::Silent {
        path: socket.clone(),
        cause: std::io::Error::other(error),
    };
    let runtime = runtime().map_err(not_started)?;
    let response = runtime.block_on(client::call(&socket, &Request::Invite { expires_s, name, limits }))?;
    if let Response::Invite { ticket } = response { Ok(ticket) } else { Err(unexpected(&socket)) }
}

/// Without a daemon the state directory has all that is needed: an admin's is its key.
fn from_state(
    global: &Global,
    expires_s: u64,
    name: Option<String>,
    limits: InviteLimits,
) -> anyhow::Result<Invite> {
    let in_no_network = "this host is in no network: join one with `sudo shadowmesh up smi1...`, or make one with \
                         `sudo shadowmesh up --relay smr1...`";
    let state = StateDir::open_existing(global.state_dir())?.context(in_no_network)?;
    clock::begin(Some(&state));
    let now = unix_now();
    let wanted = Wanted { until: now.saturating_add(expires_s), expires_s, name, limits };
    let network = state.load_network()?.context(in_no_network)?;
    let config = state.load_config()?;
    let Some(root) = network.root else {
        return wanted.open(&network, &config.relays).map_err(anyhow::Error::msg);
    };
    let no_admin =
        "this host is no admin of the network: ask for it where one is, or see `shadowmesh admins --help`";
    // An invite is a word in the record, and the daemon is who writes that.
    let state = StateDir::open(global.state_dir())?;
    let _lock = state.lock()?;
    let node = state.load_or_create_node_key(&mut SystemRng)?.public();
    let mut members = Members::load(&state, root, node)?;
    let authority = members.authority.as_ref().context(no_admin)?;
    let limits = wanted.limits(network.address_space(), config.address).map_err(anyhow::Error::msg)?;
    let delegated = Admin::new(&mut members.trust, authority, now).invite(limits, &mut SystemRng)?;
    state.save_members(&members.stored())?;
    Ok(wanted.ticket(&network, &members.trust, &config.relays, delegated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_mistypes_a_name_is_told_of_the_star() {
        assert_eq!("lab-*".parse::<NamePattern>().map(|name| name.0), Ok("lab-*".to_owned()));
        let refused = "Lab *".parse::<NamePattern>().expect_err("a blank");
        assert!(refused.contains("a-z") && refused.contains("a * in it"), "{refused}");
    }

    #[test]
    fn an_invite_says_when_it_ends() {
        for (seconds, said) in
            [(30, "a minute"), (5_400, "90 minutes"), (86_400, "24 hours"), (7 * 86_400, "7 days")]
        {
            let advice = advised(KEEP_SECRET, Duration::from_secs(seconds));
            assert!(
                advice.starts_with(KEEP_SECRET) && advice.contains(&format!("; it ends in {said} (")),
                "{advice}"
            );
        }
    }
}
