//! The directory, open: files in it are read, and replaced so that a reader, or a machine that loses power, sees the old one or the new one whole.
//!
//! The directory may be that of a service's user, and who works in it root (`sudo shadowmesh up smi1…` before the service starts). What root writes belongs
//! to whose the directory is, or the service could not read it; and root follows no link there, which that user could have laid, and takes nothing for
//! ours that is not that user's: it would be given away with the next copy. All goes by one descriptor ([`Dir`]): whatever takes the place of the
//! directory, or of a link that led to it, while a daemon runs is none of its.

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

/// Largest state file that is read, bytes: far above what this program writes, far below what would hurt.
pub(super) const MAX_FILE: u64 = 256 * 1024;
/// Links that lead from one to the next before a directory is reached.
const MAX_LINKS: usize = 8;
/// Of a file that is made.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A directory that stays the one that was opened, whatever its name leads to later.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    #[cfg(test)]
    ends: std::sync::Mutex<ends::Ends>,
}

/// Why root reads or opens nothing of that name in another user's directory.
#[derive(Debug)]
pub(super) struct Foreign;

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is a link, or not an ordinary file of whose the directory is")
    }
}

impl std::error::Error for Foreign {}

impl Foreign {
    fn error() -> io::Error {
        io::Error::new(io::ErrorKind::PermissionDenied, Self)
    }

    /// Whether this is the cause.
    pub(super) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl Dir {
    /// Opens the directory that `path` names, or that a link of that name leads to.
    ///
    /// # Errors
    /// What the system said. Root goes by no link of somebody else's (an error of no number): the service's user could have laid it in place of the
    /// directory of a network beside the first (`--network`). Root's own links are its affair.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Without the slash or dot at the end, which would follow the link.
        let mut path: PathBuf = path.components().collect();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..MAX_LINKS {
            match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
                Ok(fd) => return Ok(Self::from(fd)),
                Err(Errno::NOTDIR | Errno::LOOP) => path = target_of_link(&path)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::LOOP.into())
    }

    /// What is known of the directory itself.
    pub(super) fn stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.fd)?)
    }

    /// What is known of `name` in it, be it a link; `None` when it is not there.
    pub(super) fn stat_of(&self, name: &str) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The names of what is in it, those that are text.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let entries = rustix::fs::Dir::read_from(&self.fd)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_str().ok().map(ToOwned::to_owned)));
        names.filter_map(Result::transpose).collect()
    }

    /// Writes `bytes` to a neighbour of `name`, mode 0600, and renames it into place; file and directory are synced.
    ///
    /// The neighbour has a fixed name: the caller holds the directory's lock, and what a crash leaves behind is removed.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        self.end_here()?;
        let temporary = format!(".{name}.tmp");
        self.unlink(&temporary)?;
        // As a new file: neither what was there nor where a link leads.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.fd, &temporary, flags, PRIVATE)?);
        self.give(&file)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        rustix::fs::renameat(&self.fd, &temporary, &self.fd, name)?;
        self.sync()
    }

    /// Opens `name` to read and write, or makes it, mode 0600.
    ///
    /// Root opens nothing of its own in a directory of another user: where the kernel lets everybody give files more names (`fs.protected_hardlinks=0`),
    /// that user could have given this one to a file of root's. How many names it has does not tell: the user may have taken one away meanwhile.
    pub(super) fn open_or_make(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags | OFlags::CREATE | OFlags::EXCL, PRIVATE) {
            Ok(file) => {
                let file = File::from(file);
                return self.give(&file).map(|()| file);
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let file = File::from(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?);
        if file.metadata()?.is_file() && self.is_safe(&file)? {
            return Ok(file);
        }
        let why = format!("{name} is not an ordinary file of whose the directory is: delete it");
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    }

    /// Removes `name`; `false` when it was not there.
    pub(super) fn remove(&self, name: &str) -> io::Result<bool> {
        #[cfg(test)]
        self.end_here()?;
        if !self.unlink(name)? {
            return Ok(false);
        }
        self.sync().map(|()| true)
    }

    /// Gives `from` the name `to`, whose file it replaces; `false` when it was not there.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<bool> {
        #[cfg(test)]
        self.end_here()?;
        match rustix::fs::renameat(&self.fd, from, &self.fd, to) {
            Ok(()) => self.sync().map(|()| true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The text of `name`; `None` when it is not there, `InvalidData` when it is no ordinary file, not text, or too large to be ours, [`Foreign`] when it
    /// is a link or, for root in another user's directory, not that user's.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<String>> {
        self.read_up_to(name, MAX_FILE)
    }

    /// The same of a file of at most `max` bytes.
    pub(super) fn read_up_to(&self, name: &str, max: u64) -> io::Result<Option<String>> {
        // Nobody waits for who may write into what is no ordinary file.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(Foreign::error()),
            Err(error) => return Err(error.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no ordinary file"));
        }
        if !self.is_safe(&file)? {
            return Err(Foreign::error());
        }
        let mut text = String::new();
        file.take(max + 1).read_to_string(&mut text)?;
        if text.len() as u64 > max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
        }
        Ok(Some(text))
    }

    /// Whether root may take that file for the directory's: not one of its own that was given a name here.
    fn is_safe(&self, file: &File) -> io::Result<bool> {
        let owner = self.stat()?.st_uid;
        Ok(!geteuid().is_root() || owner == 0 || file.metadata()?.uid() == owner)
    }

    /// Gives a file that root made in a directory of another user to that user. Nothing where somebody else made it, or root may not (a container
    /// without CAP_CHOWN).
    fn give(&self, file: &File) -> io::Result<()> {
        if !geteuid().is_root() {
            return Ok(());
        }
        let (owner, made) = (self.stat()?, file.metadata()?);
        if owner.st_uid == made.uid() {
            return Ok(());
        }
        match fchown(file, Some(owner.st_uid), Some(owner.st_gid)) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn unlink(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Self {
        Self {
            fd,
            #[cfg(test)]
            ends: std::sync::Mutex::default(),
        }
    }
}

/// Where a link that may be followed leads: read from the very link whose owner was looked at. `NotADirectory` for what is none.
fn target_of_link(path: &Path) -> io::Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    let found = rustix::fs::fstat(&link)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
        return Err(Errno::NOTDIR.into());
    }
    if found.st_uid != 0 && geteuid().is_root() {
        let why = "it is a link that another user than root laid";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
    let target = PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes()));
    Ok(path.parent().map_or_else(|| target.clone(), |parent| parent.join(&target)))
}

/// How tests end a program between two of its changes.
#[cfg(test)]
pub(super) mod ends {
    use std::io;
    use std::ops::Range;
    use std::sync::PoisonError;

    #[derive(Debug, Default)]
    pub(in super::super) struct Ends {
        done: u32,
        fail: Range<u32>,
    }

    impl Ends {
        /// Of the changes from now on, those with these numbers fail.
        pub(in super::super) fn at(fail: Range<u32>) -> Self {
            Self { done: 0, fail }
        }

        pub(super) fn next(&mut self) -> io::Result<()> {
            let is_failing = self.fail.contains(&self.done);
            self.done += 1;
            if is_failing { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl super::Dir {
        pub(in super::super) fn end(&self, ends: Ends) {
            *self.ends.lock().unwrap() = ends;
        }

        pub(super) fn end_here(&self) -> io::Result<()> {
            self.ends.lock().unwrap_or_else(PoisonError::into_inner).next()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    fn opened(path: &Path) -> Dir {
        Dir::open(path).expect("opened")
    }

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
        opened(&inside).replace("x", b"new").expect("replaced");
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
        opened(&inside).open_or_make("pipe").expect_err("nobody is waited for");
        opened(&inside).open_or_make("own").expect("made");
        opened(&inside).open_or_make("own").expect("opened");
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
                let error = opened(&inside).open_or_make(name).expect_err("refused");
                assert!(
                    error.to_string().contains("not an ordinary file of whose the directory is"),
                    "{error}"
                );
                // The last name but one goes: now it looks like one of ours.
                fs::remove_file(&victim).ok();
            }
            fs::remove_file(inside.join("other")).expect("removed");
            opened(&inside).open_or_make(".lock").expect_err("refused");
            let known = fs::metadata(inside.join(".lock")).expect("there");
            assert_eq!((known.uid(), known.nlink(), known.len()), (0, 1, 8));
            opened(&inside).open_or_make("new").expect("made");
            assert_eq!(fs::metadata(inside.join("new")).expect("there").uid(), 4_242);
            opened(&inside).open_or_make("new").expect("opened");
        }
    }

    #[test]
    fn nothing_is_read_through_a_link_nor_by_root_what_is_not_of_whose_the_directory_is() {
        let home = tempfile::tempdir().expect("a directory");
        let (inside, secret) = (home.path().join("state"), home.path().join("admin.key"));
        fs::create_dir(&inside).expect("made");
        fs::write(&secret, "precious").expect("written");
        let dir = opened(&inside);
        let refused = |name: &str| {
            let error = dir.read(name).expect_err("refused");
            assert!(Foreign::is(&error), "{error}");
        };
        symlink(&secret, inside.join("link")).expect("laid");
        symlink("nowhere", inside.join("dangling")).expect("laid");
        refused("link");
        refused("dangling");
        fs::hard_link(&secret, inside.join("hard")).expect("laid");
        assert_eq!(dir.read("hard").expect("its own").as_deref(), Some("precious"));
        // Only root can give a directory away.
        if geteuid().is_root() {
            chown(&inside, Some(4_242), Some(4_243)).expect("given away");
            refused("hard");
            dir.replace("own", b"text").expect("replaced");
            assert_eq!(dir.read("own").expect("read").as_deref(), Some("text"));
            lchown(inside.join("link"), Some(4_242), None).expect("given away");
            refused("link");
        }
    }

    #[test]
    fn a_directory_stays_the_one_that_was_opened() {
        let home = tempfile::tempdir().expect("a directory");
        let [first, moved, other] = ["first", "moved", "other"].map(|name| home.path().join(name));
        for dir in [&first, &other] {
            fs::create_dir(dir).expect("made");
        }
        fs::write(other.join("x"), "another's").expect("written");
        let dir = opened(&first);
        fs::rename(&first, &moved).expect("moved");
        symlink(&other, &first).expect("laid");
        assert_eq!(dir.read("x").expect("read"), None);
        dir.replace("x", b"ours").expect("replaced");
        dir.open_or_make("lock").expect("made");
        assert!(dir.stat_of("x").expect("there").is_some());
        assert!(!dir.remove("y").expect("nothing to remove"));
        let mut names = dir.names().expect("listed");
        names.sort();
        assert_eq!(names, [".", "..", "lock", "x"]);
        assert_eq!(fs::read_to_string(other.join("x")).expect("read"), "another's");
        assert_eq!(fs::read_to_string(moved.join("x")).expect("read"), "ours");
        assert!(
            dir.remove("x").expect("removed") && other.join("x").exists() && !other.join("lock").exists()
        );
    }

    #[test]
    fn root_opens_a_directory_behind_no_link_of_somebody_else_however_it_is_written() {
        let home = tempfile::tempdir().expect("a directory");
        let real = home.path().join("real");
        fs::create_dir(&real).expect("made");
        let [link, far, round] = ["link", "far", "round"].map(|name| home.path().join(name));
        symlink("real", &link).expect("laid");
        symlink(&link, &far).expect("laid");
        symlink("round", &round).expect("laid");
        for path in [&link, &far, &link.join(""), &far.join(".")] {
            let found = opened(path).stat().expect("known");
            assert_eq!(found.st_ino, fs::metadata(&real).expect("there").ino(), "{}", path.display());
        }
        Dir::open(&round).expect_err("it leads nowhere");
        // Only root can give it away, and only for root it would be a trap.
        if geteuid().is_root() {
            lchown(&link, Some(4_242), None).expect("given away");
            for path in [&link, &far, &link.join(""), &far.join(".")] {
                let error = Dir::open(path).expect_err("refused").to_string();
                assert!(error.contains("another user than root"), "{}: {error}", path.display());
            }
        }
    }

    #[test]
    fn a_replaced_file_is_private_whatever_was_there() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["x", ".x.tmp"] {
            fs::write(dir.path().join(name), "old").expect("written");
            fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o644)).expect("set");
        }
        opened(dir.path()).replace("x", b"new").expect("replaced");
        assert_eq!(opened(dir.path()).read("x").expect("read").as_deref(), Some("new"));
        let mode = fs::metadata(dir.path().join("x")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!dir.path().join(".x.tmp").exists());
        assert!(opened(dir.path()).remove("x").expect("removed"));
        assert!(!opened(dir.path()).remove("x").expect("nothing to remove"));
        assert_eq!(opened(dir.path()).read("x").expect("read"), None);
    }

    #[test]
    fn what_is_no_ordinary_file_is_invalid_and_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("made");
        fs::create_dir(dir.path().join("dir")).expect("made");
        for name in ["pipe", "dir"] {
            assert_eq!(opened(dir.path()).read(name).expect_err(name).kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_huge_or_binary_file_is_invalid() {
        let dir = tempfile::tempdir().expect("a directory");
        for bytes in [vec![b'a'; 300 * 1024], vec![0xff; 10]] {
            fs::write(dir.path().join("x"), bytes).expect("written");
            assert_eq!(opened(dir.path()).read("x").expect_err("refused").kind(), io::ErrorKind::InvalidData);
        }
    }
}
