//! `shadowmesh down`: asks the daemon to leave, and waits until it is gone.

use super::documents::Down;
use super::global::Global;
use super::{output, runtime};
use crate::control::client::{Connection, ControlError, unexpected};
use crate::control::message::{Request, Response};
use crate::daemon::state_dir::StateDir;
use crate::names::{self, Places};
use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Ask the daemon to leave cleanly
///
/// Waits until it is gone and its device with it. When no daemon runs there is nothing to do, but for names that a killed one left in
/// /etc/hosts (`up --names`): those are taken out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo shadowmesh down")]
pub(super) struct Args {}

/// How long a daemon may take to say goodbye to its peers and to remove its device.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at a daemon that has no process id here (it is in another namespace).
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(super) fn run(global: &Global, _: &Args) -> anyhow::Result<()> {
    let was_running = stop(&global.socket())?;
    // One that leaves takes its own out.
    let swept = if was_running { None } else { sweep(global)? };
    if global.json {
        return output::document(&Down { was_running, took_names_out: swept.is_some() });
    }
    output::note(if was_running { "the daemon has left" } else { "no daemon is running" });
    note_swept(swept.as_deref());
    Ok(())
}

/// Takes out of the hosts file what a daemon of this state directory left there when it was killed; which file that was, if there was
/// something.
///
/// Who may not see which node that is has nothing to take out.
pub(super) fn sweep(global: &Global) -> anyhow::Result<Option<PathBuf>> {
    let Ok(Some(state)) = StateDir::open_existing(global.state_dir()) else { return Ok(None) };
    let Ok(Some(key)) = state.load_node_key() else { return Ok(None) };
    // One that is starting has the lock, and takes it out itself.
    let Ok(_lock) = state.lock() else { return Ok(None) };
    let places = Places::system();
    let is_out =
        names::sweep(&places, key.public()).context("names that a daemon left cannot be taken out")?;
    Ok(is_out.then_some(places.hosts))
}

/// Says so to a person.
pub(super) fn note_swept(hosts: Option<&Path>) {
    if let Some(hosts) = hosts {
        output::note(&format!("took names out of {} that a daemon had left there", hosts.display()));
    }
}

/// Stops the daemon on `socket` and waits until it is gone; `false` when there was none.
pub(super) fn stop(socket: &Path) -> anyhow::Result<bool> {
    let runtime = runtime()?;
    let connection = match runtime.block_on(Connection::open(socket)) {
        Ok(connection) => connection,
        Err(ControlError::NotRunning(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    // Taken before the daemon is asked: a process id that is free again could be another's.
    let process = connection.daemon_pid().and_then(open_process);
    match runtime.block_on(async { timeout(PATIENCE, connection.ask(&Request::Down)).await }) {
        Ok(Ok(Response::Leaving)) => {}
        Ok(Ok(_)) => return Err(unexpected(socket).into()),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => bail!("the daemon did not answer within {} s: see its log", PATIENCE.as_secs()),
    }
    let left = match process {
        Some(process) => wait_for_end(&process)?,
        None => runtime.block_on(async { timeout(PATIENCE, wait_for_silence(socket)).await.is_ok() }),
    };
    if !left {
        bail!("the daemon did not leave within {} s: see its log", PATIENCE.as_secs());
    }
    Ok(true)
}

fn open_process(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// A process's descriptor becomes readable when it ends (pidfd_open(2)); its TAP device is gone by then.
fn wait_for_end(process: &OwnedFd) -> anyhow::Result<bool> {
    let patience = PATIENCE.try_into().context("the patience fits a timespec")?;
    let mut watched = [PollFd::new(process, PollFlags::IN)];
    Ok(poll(&mut watched, Some(&patience)).context("cannot watch the daemon")? > 0)
}

async fn wait_for_silence(socket: &Path) {
    while Connection::open(socket).await.is_ok() {
        sleep(LOOK_AGAIN).await;
    }
}
