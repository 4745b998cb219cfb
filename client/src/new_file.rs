//! A file that was not there before, for its owner alone: whole, or not there.

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use std::fs::File;
use std::io;
use std::path::Path;

/// Makes `path` (mode 0600) and lets `fill` write into it, then syncs it. What is there already is left as it is; what could not be written to its end is
/// removed, or it would be in the way of the next try.
///
/// The directory is opened once and may be anybody's: who puts another in its place meanwhile has no file of that one removed.
///
/// # Errors
/// `AlreadyExists`, and what the system or `fill` says.
pub(crate) fn write(path: &Path, fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let directory = File::open(parent)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(&directory, name, flags, Mode::RUSR | Mode::WUSR)?);
    let written = fill(&file).and_then(|()| file.sync_all());
    if written.is_err() {
        // It was made a moment ago. The failure before is the one to tell of.
        let _ = unlinkat(&directory, name, AtFlags::empty());
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_whole_or_not_there_and_none_that_is_there_is_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("copy");
        let full = write(&path, |mut file| {
            file.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(full.expect_err("it fails").kind(), io::ErrorKind::StorageFull);
        assert!(!path.exists(), "it is in the way of the next try");
        write(&path, |mut file| file.write_all(b"whole")).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let again = write(&path, |mut file| file.write_all(b"other"));
        assert_eq!(again.expect_err("refused").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).expect("kept"), "whole");
        assert!(write(&dir.path().join("none/copy"), |_| Ok(())).is_err());
    }
}
