//! What the daemon says of itself.

use super::super::facts::{Daemon, Running};
use super::process;
use crate::access::AccessDrop;
use crate::control::client::{Connection, ControlError};
use crate::control::message::{Request, Response};
use crate::control::status::{Relay, RelayState, Status};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How long it may take to answer: it does at once, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a relay that takes connections may take to let the daemon register, from when a daemon that was just started has it to try.
const RELAY_PATIENCE: Duration = Duration::from_secs(4);
/// So long it is watched whether access rules drop something now: who tries `ping`, which asks each second, is seen.
pub(crate) const WATCHED: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Asks all that there is to know.
pub(super) async fn ask(socket: &Path) -> Daemon {
    let began = Instant::now();
    let (status, pid) = match one(socket, &Request::Status).await {
        Ok((Response::Status(status), pid)) => (status, pid),
        Ok((_, pid)) => return Daemon::NotUnderstood { process: pid.map(process::of) },
        Err((ControlError::NotRunning(_), _)) => return Daemon::None,
        Err((ControlError::KeptOut(_), _)) => return Daemon::KeptOut,
        Err((ControlError::Refused { .. } | ControlError::NotUnderstood { .. }, pid)) => {
            return Daemon::NotUnderstood { process: pid.map(process::of) };
        }
        Err((ControlError::Silent { .. }, pid)) => return Daemon::Silent { process: pid.map(process::of) },
    };
    let netcheck = match one(socket, &Request::Netcheck).await {
        Ok((Response::Netcheck(found), _)) => Some(*found),
        Ok(_) | Err(_) => None,
    };
    let members = match one(socket, &Request::Members).await {
        Ok((Response::Members(found), _)) => Some(*found),
        // A network without certificates has none.
        Ok(_) | Err(_) => None,
    };
    let process = pid.map(process::of);
    let denied = denied_since(socket, &status, began).await;
    Daemon::Runs(Box::new(Running { status: *status, netcheck, members, process, denied }))
}

/// How many frames the access rules dropped since `before` was said at `began`. Who has no rules, or ones that never dropped any, waits for
/// nothing.
async fn denied_since(socket: &Path, before: &Status, began: Instant) -> u64 {
    let count = |status: &Status| status.dropped.get(AccessDrop::NotAllowed.as_str()).copied().unwrap_or(0);
    if before.rules.is_none() || count(before) == 0 {
        return 0;
    }
    sleep_until(began + WATCHED).await;
    match one(socket, &Request::Status).await {
        Ok((Response::Status(after), _)) => count(&after).saturating_sub(count(before)),
        Ok(_) | Err(_) => 0,
    }
}

/// Asks again until each relay is connected, or had time to be.
pub(super) async fn wait_for_relays(socket: &Path, daemon: &mut Daemon) {
    let began = Instant::now();
    while let Daemon::Runs(running) = daemon {
        let relays = &running.status.relays;
        let is_up = |relay: &Relay| relay.state == RelayState::Connected;
        // One at the same address stands for an older ticket of it.
        let is_there = |relay: &Relay| relays.iter().any(|other| other.url == relay.url && is_up(other));
        if relays.iter().all(is_there) || began.elapsed() > RELAY_PATIENCE {
            return;
        }
        sleep(LOOK_AGAIN).await;
        if let Ok((Response::Status(status), _)) = one(socket, &Request::Status).await {
            running.status = *status;
        }
    }
}

/// One answer, and whose it is.
async fn one(
    socket: &Path,
    request: &Request,
) -> Result<(Response, Option<i32>), (ControlError, Option<i32>)> {
    let silent =
        || ControlError::Silent { path: socket.to_owned(), cause: std::io::ErrorKind::TimedOut.into() };
    let opened = timeout(PATIENCE, Connection::open(socket)).await;
    let connection = opened.unwrap_or_else(|_| Err(silent())).map_err(|error| (error, None))?;
    let pid = connection.daemon_pid();
    let answered = timeout(PATIENCE, connection.ask(request)).await.unwrap_or_else(|_| Err(silent()));
    answered.map(|response| (response, pid)).map_err(|error| (error, pid))
}
