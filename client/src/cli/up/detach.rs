//! `up --detach`: starts the daemon as a process of its own and waits until it is up.
//!
//! Everything was remembered by then, so the child is a plain `shadowmesh up` that finds it in the state directory; no secret
//! is on its command line. Its stdin and stdout are nothing, its stderr is `daemon.log` in the state directory, begun anew each
//! time. *Up* means that it answers on the control socket; when it ends before that, its own sentence is ours.

use super::{Announcement, Prepared};
use crate::cli::documents::Up;
use crate::cli::global::Global;
use crate::cli::{output, runtime, status};
use crate::control::client::ControlError;
use crate::control::status::{RelayState, Status};
use crate::daemon::config_file::ConfigFile;
use crate::daemon::log_file;
use anyhow::{Context as _, bail};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a relay that answers at all takes to be connected to; afterwards the daemon goes on trying alone.
const RELAY_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(super) fn start(
    global: &Global,
    mut prepared: Prepared,
    announcement: Option<Announcement>,
) -> anyhow::Result<()> {
    let undo = prepared.undo.take();
    let log = prepared.state.path().join(log_file::NAME);
    let stderr = log_file::begin(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let config_file = prepared.config_file.take();
    // Gives up the lock: the child takes it.
    drop(prepared);
    let mut child = spawn(global, config_file.as_ref().map(ConfigFile::path), stderr)?;
    let status = match runtime()?.block_on(wait_until_up(&global.socket(), &mut child, &log)) {
        Ok(status) => status,
        Err(error) => {
            // Half a daemon is worse than none. It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
            undo.run()?;
            return Err(error);
        }
    };
    let relay = status.relays.iter().find(|relay| relay.state == RelayState::Connected);
    if global.json {
        // As for people: who cannot be reached yet invites nobody.
        let announced = announcement.as_ref().filter(|_| relay.is_some());
        return output::document(&Up {
            device: &status.node.device,
            addresses: &status.node.addresses,
            mtu: status.node.mtu,
            relay: relay.map(|relay| relay.url.as_str()),
            invite: announced.and_then(|announced| announced.ticket.as_ref()).map(|ticket| ticket.as_str()),
            log: Some(&log),
        });
    }
    let addresses = status.node.addresses.join(", ");
    output::data(&format!("this node: {addresses} on {} (mtu {})", status.node.device, status.node.mtu))?;
    match relay {
        Some(relay) => {
            output::note(&format!("connected to relay {}", output::clean(&relay.url, 300)));
            if let Some(announcement) = announcement {
                announcement.say()?;
            }
        }
        None => {
            output::note("no relay is connected yet; the daemon goes on trying, see `shadowmesh status`");
            if announcement.is_some() {
                // Who cannot be reached yet invites nobody.
                output::note(&format!(
                    "made a network; once a relay is connected `{}` prints what another host joins with",
                    global.typed("invite")
                ));
            }
        }
    }
    output::note(&format!("the daemon runs in the background; its log is {}", log.display()));
    Ok(())
}

fn spawn(global: &Global, config_file: Option<&Path>, stderr: File) -> anyhow::Result<Child> {
    let program =
        std::env::current_exe().context("cannot find this program to start it in the background")?;
    let absolute = |path: &Path| std::path::absolute(path).context("the working directory is gone");
    let mut command = Command::new(program);
    command.arg("up").arg("--detached").arg("--state").arg(absolute(&global.state)?);
    if let Some(network) = &global.network {
        command.arg("--network").arg(network.as_str());
    }
    if let Some(socket) = &global.socket {
        command.arg("--socket").arg(absolute(socket)?);
    }
    if let Some(file) = config_file {
        command.arg("--config").arg(file);
    }
    // Whatever else was open here, and may be a pipe that somebody waits at the end of, is not the daemon's.
    close_others_on_exec()?;
    // The root, so that no file system is kept busy; not the journal's, whatever ours is.
    command
        .current_dir("/")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    command.spawn().context("cannot start the daemon")
}

/// Marks every descriptor beyond the standard three, so that a program that is started does not get it.
fn close_others_on_exec() -> anyhow::Result<()> {
    let open = std::fs::read_dir("/proc/self/fd").context("cannot list this program's open files")?;
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > 2).collect::<Vec<_>>() {
        // SAFETY: the flag changes nothing for this process; a number that was closed meanwhile (the listing's own) is refused.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Waits until the daemon answers, and a little longer for its first relay.
async fn wait_until_up(socket: &Path, child: &mut Child, log: &Path) -> anyhow::Result<Status> {
    let began = Instant::now();
    loop {
        match status::ask(socket).await {
            Ok(status) => {
                let connected = status.relays.iter().any(|relay| relay.state == RelayState::Connected);
                if connected || began.elapsed() > RELAY_PATIENCE {
                    return Ok(status);
                }
            }
            Err(ControlError::NotRunning(_)) => {}
            // The socket is there and the daemon not ready to answer.
            Err(ControlError::Silent { .. } | ControlError::Refused { .. }) => {}
            Err(error @ (ControlError::KeptOut(_) | ControlError::NotUnderstood { .. })) => {
                return Err(error.into());
            }
        }
        if let Some(ended) = child.try_wait().context("cannot watch the daemon")? {
            match log_file::last_failure(log) {
                Some(sentence) => bail!(output::one_line(&sentence)),
                None => bail!("the daemon ended at once ({ended}): see {}", log.display()),
            }
        }
        if began.elapsed() > PATIENCE {
            bail!("the daemon did not come up within {} s: see {}", PATIENCE.as_secs(), log.display());
        }
        sleep(LOOK_AGAIN).await;
    }
}
