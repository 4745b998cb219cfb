//! SIGHUP: somebody asks for a reload, as of any daemon; or the terminal that a foreground daemon was started in is gone, as for any command.
//!
//! Both send the same signal. They are told apart by the terminal itself: one that was there at the start and is not any more was hung up. Who
//! started the daemon such that it outlives that (`nohup`) gets a reload then, which changes nothing.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The terminal of whatever process opens this (tty(4)).
const TERMINAL: &str = "/dev/tty";

/// The signal, and what it may mean.
#[derive(Debug)]
pub(super) struct Hangup {
    signal: Signal,
    /// Whether it may be the terminal's.
    has_terminal: bool,
}

impl Hangup {
    /// From here on the signal is ours.
    pub(super) fn watch() -> io::Result<Self> {
        let has_terminal = !is_ignored() && is_there(Path::new(TERMINAL));
        Ok(Self { signal: signal(SignalKind::hangup())?, has_terminal })
    }

    /// The next one. However many came meanwhile are one. Cancel-safe.
    pub(super) async fn next(&mut self) {
        if self.signal.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the terminal is gone.
    pub(super) fn is_of_terminal(&self) -> bool {
        self.has_terminal && !is_there(Path::new(TERMINAL))
    }
}

/// Whether a process has a terminal. One that was hung up cannot be opened.
fn is_there(terminal: &Path) -> bool {
    OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open(terminal).is_ok()
}

/// Whether whoever started this process had it ignore the signal.
fn is_ignored() -> bool {
    // SAFETY: all zeroes is a valid `sigaction`, and with no new action the call only writes the old one there.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGHUP, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}
