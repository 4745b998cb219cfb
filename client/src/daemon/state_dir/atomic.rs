//! Replacing a file so that a reader, or a machine that loses power, sees the old one or the new one whole.
//!
//! The directory may be that of a service's user, and the writer root (`sudo shadowmesh up smi1…` before the service starts). What root writes belongs to
//! whose the directory is, or the service could not read it; and root follows no link there, which that user could have laid.

use rustix::process::geteuid;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

/// Largest state file that is read, bytes: far above what this program writes, far below what would hurt.
pub(super) const MAX_FILE: u64 = 256 * 1024;

/// Writes `bytes` to a neighbour of `dir/name`, mode 0600, and renames it into place; file and directory are synced.
///
/// The neighbour has a fixed name: the caller holds the directory's lock, and what a crash leaves behind is removed.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.tmp"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // As a new file: neither what was there nor where a link leads.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    belong_to_owner_of(dir, &file)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, dir.join(name))?;
    sync_dir(dir)
}

/// Opens `dir/name` to read and write, or makes it, mode 0600.
///
/// Root opens nothing of its own in a directory of another user: where the kernel lets everybody give files more names (`fs.protected_hardlinks=0`), that
/// user could have given this one to a file of root's. How many names it has does not tell: the user may have taken one away meanwhile.
pub(super) fn open_or_make(dir: &Path, name: &str) -> io::Result<File> {
    let path = dir.join(name);
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    match options.clone().create_new(true).open(&path) {
        Ok(file) => return belong_to_owner_of(dir, &file).map(|()| file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let file = options.open(&path)?;
    let (owner, found) = (fs::metadata(dir)?.uid(), file.metadata()?);
    let is_safe = !geteuid().is_root() || owner == 0 || found.uid() == owner;
    if found.is_file() && is_safe {
        return Ok(file);
    }
    let why = format!("{name} is not an ordinary file of whose the directory is: delete it");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Gives a file that root made in a directory of another user to that user. Nothing where somebody else made it, or root may not (a container
/// without CAP_CHOWN).
pub(super) fn belong_to_owner_of(dir: &Path, file: &File) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let (owner, made) = (fs::metadata(dir)?, file.metadata()?);
    if owner.uid() == made.uid() {
        return Ok(());
    }
    match fchown(file, Some(owner.uid()), Some(owner.gid())) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes `dir/name`; `false` when it was not there.
pub(super) fn remove(dir: &Path, name: &str) -> io::Result<bool> {
    match fs::remove_file(dir.join(name)) {
        Ok(()) => sync_dir(dir).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The text of `dir/name`; `None` when it is not there, `InvalidData` when it is no ordinary file, not text, or too large to be ours.
pub(super) fn read(dir: &Path, name: &str) -> io::Result<Option<String>> {
    read_up_to(dir, name, MAX_FILE)
}

/// The same of a file of at most `max` bytes.
pub(super) fn read_up_to(dir: &Path, name: &str, max: u64) -> io::Result<Option<String>> {
    // Nobody waits for who may write into what is no ordinary file.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(dir.join(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no ordinary file"));
    }
    let mut text = String::new();
    file.take(max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    Ok(Some(text))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    #[test]
    fn what_root_writes_belongs_to_whose_the_directory_is_and_no_link_is_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let victim = tempfile::NamedTempFile::new().expect("a file");
        fs::write(victim.path(), "precious").expect("written");
        let inside = dir.path().join("state");
        fs::create_dir(&inside).expect("made");
        // Whoever runs this test, the link is not followed; only root can make others owners.
        let owner = if geteuid().is_root() {
            chown(&inside, Some(4_242), Some(4_243)).expect("given away");
            (4_242, 4_243)
        } else {
            let own = fs::metadata(&inside).expect("there");
            (own.uid(), own.gid())
        };
        symlink(victim.path(), inside.join(".x.tmp")).expect("laid");
        replace(&inside, "x", b"new").expect("replaced");
        assert_eq!(fs::read_to_string(victim.path()).expect("read"), "precious");
        let made = fs::symlink_metadata(inside.join("x")).expect("there");
        assert!(made.is_file());
        assert_eq!((made.uid(), made.gid(), made.permissions().mode() & 0o777), (owner.0, owner.1, 0o600));
    }

    #[test]
    fn root_opens_no_file_of_its_own_in_a_directory_of_another_user() {
        let dir = tempfile::tempdir().expect("a directory");
        let inside = dir.path().join("state");
        fs::create_dir(&inside).expect("made");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, inside.join("pipe"), rustix::fs::FileType::Fifo, mode, 0)
            .expect("made");
        open_or_make(&inside, "pipe").expect_err("nobody is waited for");
        open_or_make(&inside, "own").expect("made");
        open_or_make(&inside, "own").expect("opened");
        assert_eq!(fs::metadata(inside.join("own")).expect("there").permissions().mode() & 0o777, 0o600);
        // Only root can give a directory away.
        if geteuid().is_root() {
            let victim = dir.path().join("victim");
            fs::write(&victim, "precious").expect("written");
            chown(&inside, Some(4_242), Some(4_243)).expect("given away");
            for name in [".lock", "other"] {
                fs::hard_link(&victim, inside.join(name)).expect("laid");
            }
            for name in [".lock", "other"] {
                let error = open_or_make(&inside, name).expect_err("refused");
                assert!(
                    error.to_string().contains("not an ordinary file of whose the directory is"),
                    "{error}"
                );
                // The last name but one goes: now it looks like one of ours.
                fs::remove_file(&victim).ok();
            }
            fs::remove_file(inside.join("other")).expect("removed");
            open_or_make(&inside, ".lock").expect_err("refused");
            let known = fs::metadata(inside.join(".lock")).expect("there");
            assert_eq!((known.uid(), known.nlink(), known.len()), (0, 1, 8));
            open_or_make(&inside, "new").expect("made");
            assert_eq!(fs::metadata(inside.join("new")).expect("there").uid(), 4_242);
            open_or_make(&inside, "new").expect("opened");
        }
    }

    #[test]
    fn a_replaced_file_is_private_whatever_was_there() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["x", ".x.tmp"] {
            fs::write(dir.path().join(name), "old").expect("written");
            fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o644)).expect("set");
        }
        replace(dir.path(), "x", b"new").expect("replaced");
        assert_eq!(read(dir.path(), "x").expect("read").as_deref(), Some("new"));
        let mode = fs::metadata(dir.path().join("x")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!dir.path().join(".x.tmp").exists());
        assert!(remove(dir.path(), "x").expect("removed"));
        assert!(!remove(dir.path(), "x").expect("nothing to remove"));
        assert_eq!(read(dir.path(), "x").expect("read"), None);
    }

    #[test]
    fn what_is_no_ordinary_file_is_invalid_and_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("made");
        fs::create_dir(dir.path().join("dir")).expect("made");
        for name in ["pipe", "dir"] {
            assert_eq!(read(dir.path(), name).expect_err(name).kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_huge_or_binary_file_is_invalid() {
        let dir = tempfile::tempdir().expect("a directory");
        for bytes in [vec![b'a'; 300 * 1024], vec![0xff; 10]] {
            fs::write(dir.path().join("x"), bytes).expect("written");
            assert_eq!(read(dir.path(), "x").expect_err("refused").kind(), io::ErrorKind::InvalidData);
        }
    }
}
