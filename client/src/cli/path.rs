//! `shadowmesh path`: by which paths the data of a peer goes.

use super::global::Global;
use super::{output, runtime};
use crate::control::client::{Connection, ControlError, unexpected};
use crate::control::message::{PathMoved, Request, Response, Wanted};
use anyhow::bail;
use std::time::Duration;
use tokio::time::timeout;

/// Ask that data to and from a peer takes certain paths, and wait until it does
///
/// Both ends follow, and nothing is lost on the way. It lasts until `--use auto`, or until a daemon restarts. A path that was
/// asked for and fails is left all the same, and `status` says so.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh path b --use relay\n  sudo shadowmesh path b --use auto")]
pub(super) struct Args {
    /// A name, an address, or the start of an id
    peer: String,

    /// By which paths
    #[arg(long = "use", value_name = "PATHS")]
    wanted: Wanted,

    /// Seconds to wait until both ends do; with `auto`, until no better path is being looked for
    #[arg(long, value_name = "S", default_value = "10", value_parser = super::ping::seconds)]
    timeout: Duration,
}

/// What a daemon may take longer than it was told to.
const GRACE: Duration = Duration::from_secs(3);

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let timeout_ms = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX);
    let request = Request::Path { peer: args.peer.clone(), wanted: args.wanted, timeout_ms };
    let moved = runtime()?.block_on(ask(global, args.timeout + GRACE, &request))?;
    if global.json {
        return output::document(&moved);
    }
    Ok(output::data(&words(&moved))?)
}

async fn ask(global: &Global, patience: Duration, request: &Request) -> anyhow::Result<PathMoved> {
    let socket = global.socket();
    let asking = async { Connection::open(&socket).await?.ask(request).await };
    match timeout(patience, asking).await {
        Ok(Ok(Response::Path(moved))) => Ok(moved),
        Ok(Ok(_)) => Err(unexpected(&socket).into()),
        Ok(Err(ControlError::Refused { sentence, .. })) => bail!(sentence),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => bail!("the daemon did not answer within {} s", patience.as_secs()),
    }
}

fn words(moved: &PathMoved) -> String {
    let name = output::clean(&moved.name, 63);
    let kind = moved.kind.map_or_else(|| "no path".to_owned(), |kind| kind.to_string());
    let remote =
        moved.remote.as_ref().map(|remote| format!(" {}", output::clean(remote, 63))).unwrap_or_default();
    let again = if moved.wanted == Wanted::Auto { "the best path is taken again: " } else { "" };
    let ends = match moved.peer_path {
        Some(theirs) if moved.kind != Some(theirs) => {
            format!("this end sends by {kind}{remote} and the other by {theirs}")
        }
        None if moved.kind.is_some() => format!("this end sends by {kind}{remote}"),
        _ => format!("both ends send by {kind}{remote}"),
    };
    format!("{name}: {again}{ends}, after {}", output::ms(moved.took_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::PathKind;

    #[test]
    fn what_came_of_it_is_one_line() {
        let mut moved = PathMoved {
            name: "b\x1b[2J".into(),
            id: "x".into(),
            wanted: Wanted::Direct,
            kind: Some(PathKind::DirectUdp),
            remote: Some("203.0.113.7:41641".into()),
            peer_path: Some(PathKind::DirectUdp),
            took_ms: 12.5,
        };
        assert_eq!(words(&moved), "b[2J: both ends send by direct-udp 203.0.113.7:41641, after 12 ms");
        moved.wanted = Wanted::Auto;
        let both =
            "b[2J: the best path is taken again: both ends send by direct-udp 203.0.113.7:41641, after 12 ms";
        assert_eq!(words(&moved), both);
        // The wait ended before the two agreed.
        moved.peer_path = Some(PathKind::RelayWs);
        let apart = "this end sends by direct-udp 203.0.113.7:41641 and the other by relay-ws, after 12 ms";
        assert!(words(&moved).ends_with(apart), "{}", words(&moved));
        (moved.kind, moved.remote, moved.peer_path) = (None, None, None);
        assert_eq!(
            words(&moved),
            "b[2J: the best path is taken again: both ends send by no path, after 12 ms"
        );
    }
}
