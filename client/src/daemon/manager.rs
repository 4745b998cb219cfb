//! What the service manager that started this daemon hears of it (sd_notify(3)); nothing where none did.
//!
//! Life: `READY=1` when frames can flow and the control socket is served; `RELOADING=1` and again `READY=1` around a `reload`;
//! `STOPPING=1` when the daemon begins to leave; and in between `WATCHDOG=1`, where the unit has `WatchdogSec=`.
//!
//! Invariant: the watchdog is fed by the event loop at the beginning of a turn and by nothing else, no thread and no other task. A loop that hangs
//! feeds nothing, whatever else of the process goes on, and the manager ends and restarts it.

use sd_notify::NotifyState;
use shadowmesh_proto::time::Deadline;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// How words get to the manager.
type Tell = Box<dyn Fn(&[NotifyState<'_>]) -> io::Result<()> + Send>;

/// The service manager, if there is one.
pub struct Manager {
    tell: Tell,
    /// How often it is fed; `None` without a watchdog.
    every: Option<Duration>,
    /// When it is fed next; `None` before the daemon is ready.
    due: Option<Instant>,
}

impl Manager {
    /// The one that the environment names: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` where it is meant for this process (`WATCHDOG_PID`).
    pub fn from_environment() -> Self {
        Self::new(Box::new(sd_notify::notify), sd_notify::watchdog_enabled())
    }

    /// One that hears words by `tell`, and takes the daemon for hung when it is not fed for `watchdog`.
    fn new(tell: Tell, watchdog: Option<Duration>) -> Self {
        // Twice in its time (sd_watchdog_enabled(3)). One of no time would have us do nothing else.
        let every = watchdog.map(|watchdog| watchdog / 2).filter(|every| !every.is_zero());
        Self { tell, every, due: None }
    }

    /// The daemon works; the watchdog is fed from now on.
    pub fn ready(&mut self, now: Instant) {
        self.say(&[NotifyState::Ready]);
        self.due = self.every.map(|_| now);
    }

    /// Settings are read again; [`Self::reloaded`] ends that.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(since) => self.say(&[NotifyState::Reloading, since]),
            Err(error) => tracing::debug!(%error, "the service manager is not told of a reload"),
        }
    }

    /// They were.
    pub fn reloaded(&self) {
        self.say(&[NotifyState::Ready]);
    }

    /// The daemon is on its way out.
    pub fn stopping(&self) {
        self.say(&[NotifyState::Stopping]);
    }

    /// When [`Self::feed`] is to be called again.
    pub fn deadline(&self) -> Option<Deadline> {
        self.due.map(|at| Deadline::new(at, "the service manager wants a sign of life"))
    }

    /// Feeds the watchdog, if it is time.
    pub fn feed(&mut self, now: Instant) {
        let (Some(every), Some(due)) = (self.every, self.due) else { return };
        if now >= due {
            self.say(&[NotifyState::Watchdog]);
            self.due = Some(now + every);
        }
    }

    /// A manager that does not hear what it asked for says so itself.
    fn say(&self, words: &[NotifyState<'_>]) {
        if let Err(error) = (self.tell)(words) {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("every", &self.every).field("due", &self.due).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;

    impl Manager {
        /// One whose socket is `path`.
        pub(crate) fn at(path: &Path, watchdog: Option<Duration>) -> Self {
            let socket = UnixDatagram::unbound().expect("a socket");
            socket.connect(path).expect("it listens");
            let tell = move |words: &[NotifyState<'_>]| {
                let mut text = String::new();
                words.iter().for_each(|word| writeln!(text, "{word}").expect("text"));
                socket.send(text.as_bytes()).map(drop)
            };
            Self::new(Box::new(tell), watchdog)
        }

        /// None at all.
        pub(crate) fn none() -> Self {
            Self::new(Box::new(|_| Ok(())), None)
        }
    }

    /// What is said on `socket` next.
    pub(crate) fn heard(socket: &UnixDatagram) -> io::Result<String> {
        let mut words = [0; 4096];
        let length = socket.recv(&mut words)?;
        Ok(String::from_utf8_lossy(&words[..length]).into_owned())
    }

    #[test]
    fn it_is_fed_twice_in_its_time_and_not_before_the_daemon_is_ready() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_nonblocking(true).expect("set");
        let mut manager = Manager::at(&path, Some(Duration::from_secs(30)));
        let began = Instant::now();
        let at = |s| began + Duration::from_secs(s);
        manager.feed(at(0));
        assert!(manager.deadline().is_none() && heard(&socket).is_err());
        manager.ready(at(1));
        assert_eq!(heard(&socket).expect("said"), "READY=1\n");
        assert_eq!(manager.deadline().map(|deadline| deadline.at), Some(at(1)));
        manager.feed(at(1));
        assert_eq!(heard(&socket).expect("said"), "WATCHDOG=1\n");
        assert_eq!(manager.deadline().map(|deadline| deadline.at), Some(at(16)));
        manager.feed(at(15));
        assert!(heard(&socket).is_err(), "not yet");
        manager.feed(at(40));
        assert_eq!(heard(&socket).expect("said"), "WATCHDOG=1\n");
        assert_eq!(manager.deadline().map(|deadline| deadline.at), Some(at(55)));
        manager.reloading();
        let words = heard(&socket).expect("said");
        assert!(words.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{words}");
        manager.reloaded();
        manager.stopping();
        assert_eq!(heard(&socket).expect("said"), "READY=1\n");
        assert_eq!(heard(&socket).expect("said"), "STOPPING=1\n");
        // Nobody listens any more: nothing fails.
        drop(socket);
        manager.feed(at(100));
    }

    #[test]
    fn without_a_watchdog_nothing_is_due() {
        for watchdog in [None, Some(Duration::ZERO), Some(Duration::from_nanos(1))] {
            let mut manager = Manager::new(Box::new(|_| Err(io::ErrorKind::NotConnected.into())), watchdog);
            manager.ready(Instant::now());
            assert!(manager.deadline().is_none(), "{watchdog:?}");
        }
    }
}
