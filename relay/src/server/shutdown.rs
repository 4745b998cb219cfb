//! The end: told to stop, the relay accepts nobody new, tells every client DRAIN, goes on forwarding while they move, and
//! closes what is left.

use crate::server::hub::Hub;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long clients may take to move before they are closed. Clients with a second relay are gone in a fraction of it;
/// those without wait for this one's successor, so it is short.
pub const DRAIN_TIME: Duration = Duration::from_secs(2);
/// For the last words to everybody, after which the process may end: with [`DRAIN_TIME`] well within the 10 s that service
/// managers and people wait.
const CLOSE_TIME: Duration = Duration::from_secs(3);

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Now,
}

/// Asks a server to stop. Clones ask the same server.
#[derive(Debug, Clone)]
pub struct Stop {
    phase: watch::Sender<Phase>,
}

impl Stop {
    /// Nothing asked yet.
    pub fn new() -> Self {
        Self { phase: watch::Sender::new(Phase::Serving) }
    }

    /// Asks to drain and end; asked again, to end at once.
    pub fn ask(&self) {
        self.phase.send_modify(|phase| {
            *phase = match *phase {
                Phase::Serving => Phase::Draining,
                Phase::Draining | Phase::Now => Phase::Now,
            };
        });
    }

    async fn reached(&self, wanted: Phase) {
        // The sender is ours, so the channel cannot close.
        let _ = self.phase.subscribe().wait_for(|phase| *phase >= wanted).await;
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits for `stop`, then ends the listeners in `tasks` and sees the connections out; `gone` closes with the last of them.
pub(super) async fn wait_and_drain(
    stop: Stop,
    hub: Arc<Hub>,
    mut tasks: JoinSet<()>,
    mut gone: mpsc::Receiver<()>,
) {
    stop.reached(Phase::Draining).await;
    tracing::info!("draining: clients are asked to move");
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    hub.drain(DRAIN_TIME);
    tokio::select! {
        _ = gone.recv() => return,
        () = tokio::time::sleep(DRAIN_TIME) => {}
        () = stop.reached(Phase::Now) => {}
    }
    hub.close_all();
    tokio::select! {
        _ = timeout(CLOSE_TIME, gone.recv()) => {}
        () = stop.reached(Phase::Now) => {}
    }
}
