//! `shadowmesh status`: who is there, over which path, how well.
//!
//! `table` says it once, `watch` again and again: on a terminal as a view (`screen`) of what `history` remembers, elsewhere as the
//! table each second, and with `--json` as one document a line, for a program that reads a stream of them.

mod history;
mod paint;
mod screen;
mod table;
mod terminal;
mod watch;

use super::global::Global;
use super::{output, runtime};
use crate::control::client::{self, ControlError, unexpected};
use crate::control::message::{Request, Response};
use crate::control::status::Status;
use paint::Paint;
use std::path::Path;

/// Show who is there, over which path, how well
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sudo shadowmesh status\n  sudo shadowmesh status --watch\n  sudo shadowmesh status --json | jq '.peers[] | {name, state}'"
)]
pub(super) struct Args {
    /// Show it again every second, until q or Ctrl-C: round trips and throughput as they were, and each change of path
    #[arg(long)]
    watch: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let socket = global.socket();
    runtime()?.block_on(async {
        if args.watch {
            return watch::run(&socket, global.json).await;
        }
        let status = ask(&socket).await?;
        if global.json {
            return output::document(&status);
        }
        Ok(output::data(&table::table(&status, Paint::for_stdout()))?)
    })
}

/// Asks the daemon on `socket` for its status.
pub(super) async fn ask(socket: &Path) -> Result<Status, ControlError> {
    let response = client::call(socket, &Request::Status).await?;
    if let Response::Status(status) = response { Ok(*status) } else { Err(unexpected(socket)) }
}
