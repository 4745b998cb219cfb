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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, Signal as Kill, kill_process};
    use std::fs::File;
    use std::io::{BufRead as _, BufReader, Lines, Write as _};
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, ChildStdout, Command, Stdio};

    /// Before each word of the process below.
    const SAYS: &str = "hangup says ";

    /// What runs in a terminal of its own: says what each signal is taken for.
    #[test]
    #[ignore = "it is the process that the other tests start"]
    fn in_a_terminal() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let say = |word: &str| writeln!(io::stdout(), "\n{SAYS}{word}").expect("heard");
        runtime.block_on(async {
            let mut hangup = Hangup::watch().expect("watched");
            say("ready");
            loop {
                hangup.next().await;
                let is_gone = hangup.is_of_terminal();
                say(if is_gone { "the terminal is gone" } else { "reload" });
                if is_gone {
                    return;
                }
            }
        });
    }

    /// Both ends of a new terminal: that of who shows it, and that of programs.
    fn terminal() -> (OwnedFd, OwnedFd) {
        let (mut outer, mut inner) = (-1, -1);
        let none = std::ptr::null_mut();
        // SAFETY: two places to write to, and no name, settings or size.
        assert_eq!(unsafe { libc::openpty(&mut outer, &mut inner, none, none.cast(), none.cast()) }, 0);
        // SAFETY: they were made a moment ago and are nobody else's.
        let (outer, inner) = unsafe { (OwnedFd::from_raw_fd(outer), OwnedFd::from_raw_fd(inner)) };
        // A program that inherited it would keep the terminal there.
        // SAFETY: a flag of a descriptor that is ours.
        assert_eq!(unsafe { libc::fcntl(outer.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }, 0);
        (outer, inner)
    }

    struct Running {
        child: Child,
        said: Lines<BufReader<ChildStdout>>,
        /// Dropping it is closing the window.
        terminal: Option<OwnedFd>,
    }

    impl Running {
        /// In a terminal; `is_nohup`: with the signal ignored, as nohup(1) starts it.
        fn start(is_nohup: bool) -> Self {
            let (outer, inner) = terminal();
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.args(["--ignored", "--exact", "--nocapture", "daemon::hangup::tests::in_a_terminal"]);
            command.stdin(Stdio::from(File::from(inner))).stdout(Stdio::piped()).stderr(Stdio::null());
            let prepare = move || {
                // SAFETY: calls that may stand between fork and exec (signal-safety(7)); descriptor 0 is the terminal.
                let is_done = unsafe {
                    (!is_nohup || libc::signal(libc::SIGHUP, libc::SIG_IGN) != libc::SIG_ERR)
                        && libc::setsid() >= 0
                        && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0
                };
                if is_done { Ok(()) } else { Err(io::Error::last_os_error()) }
            };
            // SAFETY: it allocates nothing and takes no lock.
            unsafe { command.pre_exec(prepare) };
            let mut child = command.spawn().expect("started");
            let said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
            let mut running = Self { child, said, terminal: Some(outer) };
            assert_eq!(running.says().as_deref(), Some("ready"));
            running
        }

        /// Its next word; nothing when it ended.
        fn says(&mut self) -> Option<String> {
            let mut lines = self.said.by_ref().map(|line| line.expect("a line"));
            lines.find_map(|line| line.strip_prefix(SAYS).map(ToOwned::to_owned))
        }

        fn hang_up(&self) {
            kill_process(Pid::from_child(&self.child), Kill::HUP).expect("told");
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            // Most have ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn a_terminal_that_goes_away_is_told_from_who_asks_for_a_reload() {
        let mut running = Running::start(false);
        running.hang_up();
        assert_eq!(running.says().as_deref(), Some("reload"), "the terminal is there");
        drop(running.terminal.take());
        assert_eq!(running.says().as_deref(), Some("the terminal is gone"));
        assert_eq!(running.says(), None);
        assert!(running.child.wait().expect("ended").success());
    }

    #[test]
    fn who_was_started_to_outlive_its_terminal_does() {
        let mut running = Running::start(true);
        drop(running.terminal.take());
        running.hang_up();
        assert_eq!(running.says().as_deref(), Some("reload"));
        assert!(running.child.try_wait().expect("looked").is_none(), "it runs");
    }
}
