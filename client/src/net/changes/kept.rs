//! A subscription that is made anew when the kernel ends it.
//!
//! Without one the daemon would learn of a network that changed by what no longer works, for as long as it lives.

use super::{Change, Changes};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

/// The pause before a subscription that ended is made anew; twice as long each time that this fails, or ends before [`HELD`].
const PAUSE: Duration = Duration::from_millis(500);
/// ... up to this: what keeps it from being made (descriptors, memory) may last.
const PAUSE_MOST: Duration = Duration::from_secs(60);
/// One that lasted for this long did not end for what ended the one before.
const HELD: Duration = Duration::from_secs(60);

type Opening = Pin<Box<dyn Future<Output = io::Result<Changes>> + Send>>;

/// Changes around us, for good.
pub struct KeptChanges {
    ours: Option<u32>,
    state: State,
    /// The pause before the next one.
    pause: Duration,
    /// Subscriptions that ended.
    ended: u64,
}

enum State {
    Open {
        changes: Changes,
        since: tokio::time::Instant,
    },
    /// It is kept while nobody waits, or one who waits for a moment only would begin anew each time.
    Opening(Opening),
}

impl KeptChanges {
    /// As [`Changes::watch`].
    ///
    /// # Errors
    /// What the kernel said to the first one.
    pub async fn watch(ours: Option<u32>) -> io::Result<Self> {
        let state = State::open(Changes::watch(ours).await?);
        Ok(Self { ours, state, pause: PAUSE, ended: 0 })
    }

    /// Waits for the next change. Loses nothing when dropped while waiting; after a time without subscription everything is taken to have
    /// changed.
    pub async fn next(&mut self) -> Change {
        loop {
            match &mut self.state {
                State::Open { changes, since } => {
                    if let Some(change) = changes.next().await {
                        return change;
                    }
                    self.ended += 1;
                    if since.elapsed() >= HELD {
                        self.pause = PAUSE;
                    }
                    let times = self.ended;
                    tracing::warn!(times, pause = ?self.pause, "the kernel no longer reports changes of the network; it is asked again");
                    self.reopen();
                }
                State::Opening(opening) => match opening.await {
                    Ok(changes) => {
                        tracing::info!("changes of the network are reported again");
                        self.state = State::open(changes);
                        return Change::ALL;
                    }
                    Err(error) => {
                        tracing::debug!(%error, pause = ?self.pause, "changes of the network cannot be watched");
                        self.reopen();
                    }
                },
            }
        }
    }

    fn reopen(&mut self) {
        let (ours, pause) = (self.ours, self.pause);
        self.pause = (2 * pause).min(PAUSE_MOST);
        self.state = State::Opening(Box::pin(async move {
            tokio::time::sleep(pause).await;
            Changes::watch(ours).await
        }));
    }
}

impl State {
    fn open(changes: Changes) -> Self {
        Self::Open { changes, since: tokio::time::Instant::now() }
    }
}

impl std::fmt::Debug for KeptChanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptChanges")
            .field("is_open", &matches!(self.state, State::Open { .. }))
            .field("pause", &self.pause)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MACHINE, within};
    use super::*;
    use crate::net::namespace::{block_on, isolated, sh};

    /// Ends the subscription as the kernel would.
    fn end(kept: &KeptChanges) {
        let State::Open { changes, .. } = &kept.state else { panic!("{kept:?}") };
        changes.task.abort();
    }

    #[test]
    fn a_subscription_that_ends_is_made_anew_and_everything_is_looked_at() {
        isolated(|| {
            sh(MACHINE);
            block_on(async {
                let mut kept = KeptChanges::watch(None).await.unwrap();
                for times in 1..=2 {
                    end(&kept);
                    let told = within(async {
                        loop {
                            // Given up again and again, as the daemon does when something else comes.
                            if let Ok(told) = tokio::time::timeout(PAUSE / 10, kept.next()).await
                                && kept.ended == times
                            {
                                break told;
                            }
                        }
                    });
                    assert_eq!(told.await, Change::ALL);
                    sh(&format!("ip addr add 127.7.7.{times}/32 dev lo"));
                    while !within(kept.next()).await.addresses {}
                }
                assert_eq!(kept.pause, 4 * PAUSE, "each that did not last made it longer");
            });
        });
    }
}
