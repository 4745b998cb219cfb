//! `shadowmesh rotate-secret`: another secret for the network.

use super::documents::Rotated;
use super::global::Global;
use super::members::{ask, call, left};
use super::output::{self, clean};
use super::runtime;
use crate::control::client::unexpected;
use crate::control::message::{Change, Member, Members, Request, Response};
use std::time::{Duration, Instant};

/// Replace the secret of the network
///
/// A host that was revoked still knows the secret, by which it can register at the relay and begin handshakes: with another it cannot. Members that
/// are connected get the new one at once, others when they come back; for a week both are good, so that nobody is lost and no frame is.
/// Only on an admin's host.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh revoke laptop && sudo shadowmesh rotate-secret --now")]
pub(super) struct Args {
    /// The one before is good for a minute and no longer: for a host that was stolen; members that are not connected now need another invite
    #[arg(long)]
    now: bool,
}

/// So long the command waits for members that are connected to say that they have it; a few round trips.
const WAIT: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let change = Request::Change(Change::RotateSecret { now: args.now });
    let Response::Changed { sentence } = call(global, &change)? else {
        return Err(unexpected(&global.socket()).into());
    };
    let members = settled(global)?;
    let missing: Vec<&str> = without(&members).map(|member| member.name.as_str()).collect();
    if global.json {
        let without = missing.iter().map(ToString::to_string).collect();
        let generation = members.secret.generation;
        return output::document(&Rotated { done: sentence, generation, without });
    }
    output::note(&clean(&sentence, 500));
    let others = others(&members).count();
    if missing.is_empty() {
        output::note(&format!("all {others} other members have it"));
        return Ok(());
    }
    let names = clean(&missing.join(", "), 400);
    let next = if args.now {
        "each needs another invite, with which `sudo shadowmesh up smi1...` takes the new secret"
    } else {
        "they get it when they are connected"
    };
    output::note(&format!(
        "{} of {others} other members have not got it yet: {names}; {next}",
        missing.len()
    ));
    Ok(())
}

/// What is known once everybody who is connected has it, or had time to.
fn settled(global: &Global) -> anyhow::Result<Members> {
    let began = Instant::now();
    loop {
        let members = ask(global)?;
        let is_settled = !without(&members).any(|member| member.is_connected);
        if is_settled || began.elapsed() >= WAIT {
            return Ok(members);
        }
        runtime()?.block_on(async { tokio::time::sleep(LOOK).await });
    }
}

/// Those who are members and were not shut out.
fn others(members: &Members) -> impl Iterator<Item = &Member> {
    let is_other =
        |member: &&Member| !member.is_here && matches!(member.standing.as_str(), "member" | "unseen");
    members.members.iter().filter(is_other)
}

/// Those of them that have not shown that they have the secret.
fn without(members: &Members) -> impl Iterator<Item = &Member> {
    others(members).filter(|member| member.has_new_secret != Some(true))
}

/// That the secret is being replaced, in less than 80 columns.
pub(super) fn line(members: &Members, now: u64) -> Option<String> {
    let secret = &members.secret;
    let generation = secret.generation;
    match (secret.state.as_str(), secret.until) {
        ("rotating", Some(until)) => {
            let names: Vec<&str> = without(members).map(|member| member.name.as_str()).collect();
            let more = format!("generation {generation}, {}", before(until, now));
            Some(match names.as_slice() {
                [] => more,
                names => format!("{more}\nwithout it: {}", clean(&names.join(", "), 66)),
            })
        }
        ("missing" | "late", _) => Some(format!("generation {generation}; a newer one is not here yet")),
        _ => None,
    }
}

/// How long the secret before is good.
pub(super) fn before(until: u64, now: u64) -> String {
    match until <= now {
        true => "the old one is being given up".to_owned(),
        false => format!("the old one is good for {} more", left(until, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::Secret;

    #[test]
    fn who_is_without_it_is_named_and_who_was_shut_out_is_not() {
        let member = |name: &str, standing: &str, has_new_secret| Member {
            name: name.into(),
            standing: standing.into(),
            has_new_secret,
            ..Member::default()
        };
        let here = Member { is_here: true, ..member("here", "member", Some(true)) };
        let members = Members {
            members: vec![
                here,
                member("b", "member", Some(true)),
                member("c", "member", Some(false)),
                member("d", "unseen", None),
                member("e", "revoked", None),
                member("f", "pending", None),
            ],
            secret: Secret { generation: 2, state: "rotating".into(), until: Some(7_300) },
            ..Members::default()
        };
        assert_eq!(
            line(&members, 100).as_deref(),
            Some("generation 2, the old one is good for 2 hours more\nwithout it: c, d")
        );
        assert_eq!(others(&members).count(), 3);
        let settled = Secret { state: "settled".into(), ..Secret::default() };
        assert_eq!(line(&Members { secret: settled, ..members }, 100), None);
        assert_eq!(before(5, 5), "the old one is being given up");
    }
}
