//! `status --watch`: looks each second, and shows it as what stdout is takes it.

use super::history::History;
use super::paint::Paint;
use super::screen::Scene;
use super::terminal::{Key, Terminal};
use super::{ask, table};
use crate::cli::output;
use crate::control::status::Status;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Watches until told to stop.
pub(super) async fn run(socket: &Path, json: bool) -> anyhow::Result<()> {
    if !json && output::stdout_is_terminal() {
        return view(socket).await;
    }
    let mut tick = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        let status = ask(socket).await?;
        // One document a line, for a program that reads a stream of them.
        let text =
            if json { serde_json::to_string(&status)? } else { table::table(&status, Paint::for_stdout()) };
        output::data(&text)?;
    }
}

/// What is on the screen.
#[derive(Debug)]
struct View {
    began: Instant,
    status: Status,
    history: History,
    trouble: Option<String>,
    first: usize,
    paint: Paint,
}

impl View {
    fn look(&mut self, status: Status) {
        self.history.look(self.began.elapsed(), &status);
        (self.status, self.trouble) = (status, None);
    }

    fn scene(&self) -> Scene<'_> {
        Scene {
            status: &self.status,
            history: &self.history,
            now: self.began.elapsed(),
            trouble: self.trouble.as_deref(),
            size: Terminal::size(),
            first: self.first,
            paint: self.paint,
        }
    }

    fn go(&mut self, lines: isize) {
        self.first = self.first.saturating_add_signed(lines).min(self.scene().most_passed());
    }
}

async fn view(socket: &Path) -> anyhow::Result<()> {
    // Without a daemon there is nothing to watch; one that is restarted meanwhile is waited for.
    let status = ask(socket).await?;
    let (mut resized, mut stopped) = (signal(SignalKind::window_change())?, signal(SignalKind::terminate())?);
    let mut view = View {
        began: Instant::now(),
        status: Status::default(),
        history: History::default(),
        trouble: None,
        first: 0,
        paint: Paint::for_stdout(),
    };
    view.look(status);
    let mut terminal = Terminal::enter()?;
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();
    let mut answer = Box::pin(ask(socket));
    let mut is_asking = false;
    loop {
        Terminal::show(&view.scene().lines())?;
        tokio::select! {
            _ = tick.tick(), if !is_asking => {
                answer.set(ask(socket));
                is_asking = true;
            }
            status = &mut answer, if is_asking => {
                is_asking = false;
                match status {
                    Ok(status) => view.look(status),
                    Err(error) => view.trouble = Some(error.to_string()),
                }
            }
            key = terminal.key() => match key {
                Key::Quit => return Ok(()),
                Key::Go(lines) => view.go(lines),
            },
            _ = resized.recv() => {}
            _ = stopped.recv() => return Ok(()),
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}
