//! The log of a daemon in the background: `daemon.log` in its state directory.
//!
//! It is read for its end only, however large it has become, and only where it is an ordinary file: a state directory may be another
//! user's, who could put a pipe there, which nobody would write to, or a link to what that user may not read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Its name in the state directory.
pub const NAME: &str = "daemon.log";
/// What begins the sentence with which a program of ours fails.
const FAILURE: &str = "shadowmesh: ";
/// What is read to find such a sentence, bytes.
const TAIL: u64 = 8 * 1024;

/// Begins the log anew, as a file that nobody had before (mode 0600): what has its name, and may be a link or a second name of a file of root's, is
/// left alone but for that name.
///
/// # Errors
/// What the system said.
pub fn begin(log: &Path) -> io::Result<File> {
    match fs::remove_file(log) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(log)
}

/// The end of the log, at most `most` bytes.
///
/// # Errors
/// What the system said; `InvalidInput` for what is no ordinary file.
pub fn tail(log: &Path, most: u64) -> io::Result<String> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(log)?;
    let known = file.metadata()?;
    if !known.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.seek(SeekFrom::Start(known.len().saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last sentence with which a daemon failed, as far as it is in the end of the log.
pub fn last_failure(log: &Path) -> Option<String> {
    let tail = tail(log, TAIL).ok()?;
    tail.lines().rev().find_map(|line| line.strip_prefix(FAILURE)).map(ToOwned::to_owned)
}

/// The same where it is the last thing in the log: nothing was started since.
pub fn last_words(log: &Path) -> Option<String> {
    let tail = tail(log, TAIL).ok()?;
    let last = tail.lines().rev().find(|line| !line.trim().is_empty())?;
    last.strip_prefix(FAILURE).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_log_that_begins_is_a_file_of_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let (log, victim) = (dir.path().join(NAME), dir.path().join("victim"));
        fs::write(&victim, "precious").expect("written");
        begin(&log).expect("made");
        for lay in [
            &|| fs::hard_link(&victim, &log) as io::Result<()>,
            &|| std::os::unix::fs::symlink(&victim, &log),
            &|| mknodat(CWD, &log, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).map_err(Into::into),
            &|| fs::write(&log, "before"),
        ] as [&dyn Fn() -> io::Result<()>; 4]
        {
            fs::remove_file(&log).expect("removed");
            lay().expect("laid");
            io::Write::write_all(&mut begin(&log).expect("begun"), b"new").expect("written");
            let found = fs::symlink_metadata(&log).expect("there");
            assert_eq!((found.is_file(), found.nlink(), found.mode() & 0o777), (true, 1, 0o600));
            assert_eq!(fs::read_to_string(&log).expect("read"), "new");
            assert_eq!(fs::read_to_string(&victim).expect("read"), "precious");
        }
        // A directory is nobody's log.
        fs::remove_file(&log).expect("removed");
        fs::create_dir(&log).expect("made");
        assert!(begin(&log).is_err() && log.is_dir());
    }

    #[test]
    fn the_last_sentence_of_a_log_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join(NAME);
        assert_eq!(last_failure(&log), None);
        let noise = "a line of a log\n".repeat(2_000);
        fs::write(&log, format!("shadowmesh: old\n{noise}shadowmesh: the reason\n\n")).expect("written");
        assert_eq!(last_failure(&log).as_deref(), Some("the reason"));
        assert_eq!(last_words(&log).as_deref(), Some("the reason"));
        fs::write(&log, "shadowmesh: old\nsince then\n").expect("written");
        assert_eq!((last_failure(&log).as_deref(), last_words(&log)), (Some("old"), None));
        fs::write(&log, noise).expect("written");
        assert_eq!((last_failure(&log), last_words(&log)), (None, None));
    }

    #[test]
    fn no_more_than_the_end_is_read_and_nothing_that_is_no_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("log"), "0123456789").expect("written");
        assert_eq!(
            (tail(&at("log"), 3).expect("read"), tail(&at("log"), 30).expect("read").len()),
            ("789".into(), 10)
        );
        std::os::unix::fs::symlink(at("log"), at("link")).expect("linked");
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("made");
        for what in ["link", "pipe", ""] {
            assert!(tail(&at(what), 3).is_err(), "{what}");
        }
    }
}
