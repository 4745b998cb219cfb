//! What the service manager that started this relay hears of it (sd_notify(3)); nothing where none did.
//!
//! The watchdog is fed by a task of the runtime that serves everything, which has one thread: when that hangs in whatever task it is in, nobody feeds it,
//! and the manager ends and restarts the relay.

use sd_notify::NotifyState;
use std::time::Duration;

/// The relay serves.
pub(super) fn ready() {
    say(&[NotifyState::Ready]);
}

/// It is on its way out.
pub(super) fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// Settings are read again by `reload`.
pub(super) fn reloading(reload: impl FnOnce()) {
    match NotifyState::monotonic_usec_now() {
        Ok(since) => say(&[NotifyState::Reloading, since]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of a reload"),
    }
    reload();
    ready();
}

/// Feeds the manager's watchdog for ever; ends at once where there is none.
pub(super) async fn feed_watchdog() {
    if let Some(watchdog) = sd_notify::watchdog_enabled() {
        feed(watchdog, || say(&[NotifyState::Watchdog])).await;
    }
}

/// Twice in its time (sd_watchdog_enabled(3)).
async fn feed(watchdog: Duration, say: impl Fn()) {
    let every = watchdog / 2;
    // One of no time would have us do nothing else.
    if every.is_zero() {
        return;
    }
    let mut timer = tokio::time::interval(every);
    // Once is enough, however many were missed.
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        say();
    }
}

/// Nothing reads it outside of systemd, and a service manager that does not hear it says so itself.
fn say(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Instant;

    #[tokio::test]
    async fn a_thread_that_hangs_feeds_nothing() {
        const WATCHDOG: Duration = Duration::from_millis(400);
        let (say, said) = mpsc::channel();
        let feeding = tokio::spawn(feed(WATCHDOG, move || {
            let _ = say.send(());
        }));
        let began = Instant::now();
        for _ in 0..3 {
            while said.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        }
        assert!(began.elapsed() >= WATCHDOG / 2 * 2 - Duration::from_millis(20), "{:?}", began.elapsed());
        // This is the only thread, and waits here for longer than a manager would.
        while said.try_recv().is_ok() {}
        assert!(said.recv_timeout(WATCHDOG * 2).is_err(), "nobody feeds it");
        while said.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        feeding.abort();
    }

    #[tokio::test]
    async fn a_watchdog_without_time_is_none() {
        feed(Duration::from_nanos(1), || panic!("fed")).await;
    }
}
