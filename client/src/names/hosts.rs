//! The hosts file of this machine: read, edited and replaced, whoever else does the same.
//!
//! # How
//!
//! Daemons of one machine take turns by a lock file beside it, for root alone: a lock on the hosts file itself could be held by
//! whoever may read it, and would be one on a file that the next writer has replaced. Then the new text goes into a file
//! beside it with the same owner, mode and label, and that takes its place: a reader, or a machine that loses power, sees the old
//! or the new one whole. A link is followed to what it leads to.
//!
//! Where that cannot be (it is mounted by itself, as in containers; the directory is read-only, as for a service that is shut
//! in; it has a second name) the text is written into the file that is there, from the first byte that differs on. Whoever reads in that moment may
//! read half of it; what is before our block stays as it was even then. Where that fails half-way (a full disk) what was there is written back, for
//! which there is room: nobody could take half a block out again.
//!
//! # Invariants
//!
//! - One edit is one look and one write under the lock. A program that does not know the lock may write between them: whether the
//!   file is still the one that was read is asked right before, and if not, all is done again.
//! - What a daemon that was killed left beside it (the lock's file, the text that never took its place) is removed by the
//!   next edit.

use super::block::{self, Damaged};
use rustix::fs::{FlockOperation, Mode, OFlags, XattrFlags, fgetxattr, flock, fsetxattr};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Largest hosts file that is edited, bytes: lists against advertisements have up to 5 MB.
const MAX_FILE: u64 = 16 << 20;
/// How long another daemon may take for its edit; one takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries of the lock, which cannot be waited for with an end.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// How often an edit is begun again because somebody else wrote meanwhile.
const MAX_TRIES: u32 = 5;
/// What else a file has that makes it what it is: without its label SELinux keeps programs from reading it.
const ATTRIBUTES: [&str; 2] = ["security.selinux", "system.posix_acl_access"];
/// Longest of these, bytes.
const MAX_ATTRIBUTE: usize = 4096;

/// Why a hosts file was not edited. Each text is one sentence after its path.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// It is not there.
    #[error("{0} is not there: make it, an empty one will do")]
    Missing(PathBuf),
    /// A directory or the like.
    #[error("{0} is no ordinary file")]
    NotAFile(PathBuf),
    /// Beyond [`MAX_FILE`].
    #[error("{0} is larger than 16 MiB, which is no use as a hosts file")]
    TooLarge(PathBuf),
    /// What this node left in it is not whole.
    #[error("{path}: {damaged}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        damaged: Damaged,
    },
    /// Somebody else edits it, and does not stop.
    #[error("{0} is being edited by somebody else all the time")]
    Busy(PathBuf),
    /// The machine refuses.
    #[error("{path} cannot be {what}: {cause}")]
    System {
        /// The file.
        path: PathBuf,
        /// Read or written.
        what: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
}

/// A hosts file.
#[derive(Debug, Clone)]
pub struct HostsFile {
    path: PathBuf,
}

/// The lock, until it is dropped.
#[derive(Debug)]
struct Lock {
    _file: File,
    /// Removed while it is held, so that nothing is left and nobody else's is removed.
    path: Option<PathBuf>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What cannot be removed is empty, and taken by the next.
            let _ = fs::remove_file(path);
        }
    }
}

impl HostsFile {
    /// The one at `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Puts the block of `node` into it, or another in its place. `render` makes it, given the names that the file has beside it.
    ///
    /// # Errors
    /// See [`HostsError`].
    pub fn put(
        &self,
        node: &str,
        mut render: impl FnMut(&HashSet<String>) -> String,
    ) -> Result<(), HostsError> {
        self.edit(|file| {
            let block = render(&block::names_beside(file, node)?);
            block::edit(file, node, Some(&block))
        })
        .map(|_| ())
    }

    /// Takes the block of `node` out; `false` where there is none. Touches nothing then.
    ///
    /// # Errors
    /// See [`HostsError`].
    pub fn remove(&self, node: &str) -> Result<bool, HostsError> {
        match self.has(node) {
            Ok(true) => self.edit(|file| block::edit(file, node, None)),
            // In what is no file, or none that this program writes, is no block.
            Ok(false) | Err(HostsError::Missing(_) | HostsError::NotAFile(_) | HostsError::TooLarge(_)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether there is a block of `node` in it.
    ///
    /// # Errors
    /// See [`HostsError`].
    pub fn has(&self, node: &str) -> Result<bool, HostsError> {
        let (_, _, bytes) = self.look()?;
        Ok(block::edit(&bytes, node, None).map_err(|damaged| self.damaged(damaged))? != bytes)
    }

    /// Edits it by a function of its bytes; whether that changed anything.
    fn edit(&self, mut change: impl FnMut(&[u8]) -> Result<Vec<u8>, Damaged>) -> Result<bool, HostsError> {
        let (target, _, _) = self.look()?;
        let _lock = self.lock(&target)?;
        for _ in 0..MAX_TRIES {
            let (target, seen, bytes) = self.look()?;
            let edited = change(&bytes).map_err(|damaged| self.damaged(damaged))?;
            if edited == bytes {
                return Ok(false);
            }
            if self.replace(&target, &seen, &bytes, &edited).map_err(|cause| self.system("written", cause))? {
                return Ok(true);
            }
        }
        Err(HostsError::Busy(self.path.clone()))
    }

    /// The file behind all links, what it was when it was read, and what it says.
    fn look(&self) -> Result<(PathBuf, Metadata, Vec<u8>), HostsError> {
        let unreadable = |cause: io::Error| {
            if cause.kind() == io::ErrorKind::NotFound {
                HostsError::Missing(self.path.clone())
            } else {
                self.system("read", cause)
            }
        };
        let target = fs::canonicalize(&self.path).map_err(unreadable)?;
        // Whoever waits at the other end of what is no ordinary file is not waited for.
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&target);
        let file = opened.map_err(unreadable)?;
        let seen = file.metadata().map_err(unreadable)?;
        if !seen.is_file() {
            return Err(HostsError::NotAFile(self.path.clone()));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(HostsError::TooLarge(self.path.clone()));
        }
        Ok((target, seen, bytes))
    }

    /// Takes the turn.
    fn lock(&self, target: &Path) -> Result<Lock, HostsError> {
        let path = beside(target, "lock");
        let began = Instant::now();
        loop {
            let opened = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path);
            let (file, path) = match opened {
                Ok(file) => (file, Some(path.as_path())),
                // No file can be made beside it. Then it is written into itself, and the lock is on it as well.
                Err(cause) if is_refusal(&cause) => {
                    let opened = OpenOptions::new().write(true).open(target);
                    (opened.map_err(|cause| self.system("written", cause))?, None)
                }
                Err(cause) => return Err(self.system("written", cause)),
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // The one before may have removed it after this one was opened: then another has the next.
                Ok(()) if path.is_none_or(|path| is_same(&file, path)) => {
                    return Ok(Lock { _file: file, path: path.map(Path::to_owned) });
                }
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                Err(cause) => return Err(self.system("locked", cause.into())),
            }
            if began.elapsed() > PATIENCE {
                return Err(HostsError::Busy(self.path.clone()));
            }
            std::thread::sleep(TRY_AGAIN);
        }
    }

    /// Puts `edited` in its place; `false` where it is not what was `seen` any more.
    fn replace(&self, target: &Path, seen: &Metadata, bytes: &[u8], edited: &[u8]) -> io::Result<bool> {
        let temporary = beside(target, "new");
        let _ = fs::remove_file(&temporary);
        // Whoever gave it a second name wants both to stay one file.
        if seen.nlink() == 1 {
            match prepare(&temporary, target, seen, edited) {
                Ok(()) => {
                    if !is_as_seen(target, seen)? {
                        fs::remove_file(&temporary)?;
                        return Ok(false);
                    }
                    match fs::rename(&temporary, target) {
                        Ok(()) => {
                            return File::open(target.parent().unwrap_or(target))?.sync_all().map(|()| true);
                        }
                        // Where something is mounted nothing else can take its place.
                        Err(cause) if is_refusal(&cause) => fs::remove_file(&temporary)?,
                        Err(cause) => {
                            let _ = fs::remove_file(&temporary);
                            return Err(cause);
                        }
                    }
                }
                Err(cause) => {
                    let _ = fs::remove_file(&temporary);
                    if !is_refusal(&cause) {
                        return Err(cause);
                    }
                }
            }
        }
        if !is_as_seen(target, seen)? {
            return Ok(false);
        }
        write_into(target, bytes, edited).map(|()| true)
    }

    fn damaged(&self, damaged: Damaged) -> HostsError {
        HostsError::Damaged { path: self.path.clone(), damaged }
    }

    fn system(&self, what: &'static str, cause: io::Error) -> HostsError {
        HostsError::System { path: self.path.clone(), what, cause }
    }
}

/// A file of ours beside `target`, hidden.
fn beside(target: &Path, what: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".shadowmesh-");
    name.push(what);
    target.with_file_name(name)
}

/// Whether the way by another file is closed, where that by the file itself may be open.
fn is_refusal(cause: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(cause.kind(), CrossesDevices | PermissionDenied | ReadOnlyFilesystem | ResourceBusy)
}

fn is_same(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

fn is_as_seen(target: &Path, seen: &Metadata) -> io::Result<bool> {
    let now = fs::symlink_metadata(target)?;
    let key = |of: &Metadata| (of.dev(), of.ino(), of.len(), of.mtime(), of.mtime_nsec());
    Ok(key(&now) == key(seen))
}

/// Writes a file that can take the place of `target`.
fn prepare(temporary: &Path, target: &Path, seen: &Metadata, edited: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    let made = file.metadata()?;
    if (made.uid(), made.gid()) != (seen.uid(), seen.gid()) {
        std::os::unix::fs::fchown(&file, Some(seen.uid()), Some(seen.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(seen.mode() & 0o7777))?;
    let original = rustix::fs::open(target, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    for name in ATTRIBUTES {
        let mut value = vec![0; MAX_ATTRIBUTE];
        // Most file systems have none, and who may not set one has what the directory gives.
        if let Ok(length) = fgetxattr(&original, name, value.as_mut_slice()) {
            let _ = fsetxattr(&file, name, value.get(..length).unwrap_or_default(), XattrFlags::empty());
        }
    }
    file.write_all(edited)?;
    file.sync_all()
}

/// Writes into the file what differs. Where it gets shorter, lines without a letter take the place of what is to go before it is cut off.
fn write_into(target: &Path, bytes: &[u8], edited: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(target)?;
    overwrite(&file, bytes, edited, |rest, at| file.write_all_at(rest, at))
}

/// The same with a file that is open, to which `write` writes what differs.
fn overwrite(
    file: &File,
    bytes: &[u8],
    edited: &[u8],
    write: impl FnOnce(&[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let same = bytes.iter().zip(edited).take_while(|(old, new)| old == new).count();
    let mut rest = edited.get(same..).unwrap_or_default().to_vec();
    rest.resize(rest.len().max(bytes.len() - same), b'\n');
    let end = |text: &[u8]| file.set_len(text.len() as u64).and_then(|()| file.sync_all());
    write(&rest, same as u64).and_then(|()| end(edited)).inspect_err(|_| {
        // The first failure is the one to tell of.
        let _ =
            file.write_all_at(bytes.get(same..).unwrap_or_default(), same as u64).and_then(|()| end(bytes));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[u8] = b"127.0.0.1 localhost\n";

    fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf, HostsFile) {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("hosts");
        fs::write(&path, content).expect("written");
        let hosts = HostsFile::new(&path);
        (home, path, hosts)
    }

    fn block(node: &str, n: u32) -> String {
        format!("# shadowmesh begin {node} x\n10.7.0.{n}\tb{n}\n# shadowmesh end {node}\n")
    }

    fn put(hosts: &HostsFile, node: &str, n: u32) -> Result<(), HostsError> {
        hosts.put(node, |_| block(node, n))
    }

    fn others(home: &tempfile::TempDir) -> Vec<OsString> {
        let entries = fs::read_dir(home.path()).expect("listed");
        entries.map(|entry| entry.expect("one").file_name()).filter(|name| name != "hosts").collect()
    }

    #[test]
    fn what_was_there_is_written_back_where_writing_into_the_file_fails_half_way() {
        let own = [OWN, block("a", 7).as_bytes(), b"192.0.2.1 later\n"].concat();
        let longer = [OWN, block("a", 7).repeat(9).as_bytes(), b"192.0.2.1 later\n"].concat();
        for (edited, fits) in [(longer.as_slice(), 0), (&longer, 5), (&longer, 120), (OWN, 3)] {
            let (_home, path, _) = file(&own);
            let open = OpenOptions::new().write(true).open(&path).expect("opened");
            let error = overwrite(&open, &own, edited, |rest, at| {
                open.write_all_at(rest.get(..fits).expect("more than that"), at)?;
                Err(io::ErrorKind::StorageFull.into())
            });
            assert_eq!(error.expect_err("it fails").kind(), io::ErrorKind::StorageFull);
            let left = fs::read(&path).expect("read");
            assert_eq!(String::from_utf8_lossy(&left), String::from_utf8_lossy(&own), "{fits}");
            overwrite(&open, &own, edited, |rest, at| open.write_all_at(rest, at)).expect("written");
            assert_eq!(fs::read(&path).expect("read"), edited);
        }
    }

    #[test]
    fn a_block_comes_and_goes_and_the_file_keeps_its_mode() {
        for content in [OWN, b"", b"127.0.0.1 localhost", b"a\r\nb\r\n", b"\xff\n\0"] {
            let (home, path, hosts) = file(content);
            fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("set");
            let inode = fs::metadata(&path).expect("there").ino();
            put(&hosts, "me", 1).expect("put");
            let replaced = fs::metadata(&path).expect("there").ino();
            assert_ne!(replaced, inode, "another file took its place");
            put(&hosts, "me", 2).expect("put");
            let text = fs::read(&path).expect("read");
            assert!(text.windows(2).any(|pair| pair == b"b2") && !text.windows(2).any(|pair| pair == b"b1"));
            let known = fs::metadata(&path).expect("there");
            assert_eq!(known.mode() & 0o7777, 0o640);
            assert!(hosts.remove("me").expect("taken out"));
            assert_eq!(fs::read(&path).expect("read"), content);
            assert!(!hosts.remove("me").expect("nothing"));
            assert!(others(&home).is_empty());
        }
    }

    #[test]
    fn a_link_stays_one_and_a_file_with_two_names_too() {
        let (home, path, _) = file(OWN);
        let link = home.path().join("link");
        std::os::unix::fs::symlink("hosts", &link).expect("linked");
        let hosts = HostsFile::new(&link);
        put(&hosts, "me", 1).expect("put");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert!(fs::read_to_string(&path).expect("read").contains("b1"));
        assert!(hosts.remove("me").expect("taken out"));

        let second = home.path().join("second");
        fs::hard_link(&path, &second).expect("linked");
        put(&hosts, "me", 100).expect("put");
        assert!(fs::read_to_string(&second).expect("read").contains("b100"));
        put(&hosts, "me", 2).expect("put");
        assert!(fs::read_to_string(&second).expect("read").ends_with(&block("me", 2)), "it is shorter");
        assert!(hosts.remove("me").expect("taken out"));
        assert_eq!(fs::read(&second).expect("read"), OWN);
    }

    #[test]
    fn what_a_killed_daemon_left_is_in_nobodys_way() {
        let (home, path, hosts) = file(OWN);
        // Killed after it had the lock, and half through with its text.
        fs::write(home.path().join(".hosts.shadowmesh-lock"), "").expect("written");
        fs::write(home.path().join(".hosts.shadowmesh-new"), "# shadowmesh be").expect("written");
        put(&hosts, "me", 1).expect("put");
        assert!(others(&home).is_empty());
        // And one that had its block in.
        put(&hosts, "dead", 2).expect("put");
        assert!(hosts.remove("dead").expect("taken out"));
        assert_eq!(
            fs::read_to_string(&path).expect("read"),
            format!("127.0.0.1 localhost\n{}", block("me", 1))
        );
    }

    #[test]
    fn what_cannot_be_is_a_sentence_and_changes_nothing() {
        let (home, path, hosts) = file(b"x\n# shadowmesh begin me office.internal\ny\n");
        let before = fs::read(&path).expect("read");
        let error = put(&hosts, "me", 1).expect_err("refused").to_string();
        assert!(error.contains("hosts: line 2 is of a block that is not whole"), "{error}");
        assert!(matches!(hosts.remove("me"), Err(HostsError::Damaged { .. })));
        assert_eq!(fs::read(&path).expect("read"), before);
        assert!(others(&home).is_empty());

        fs::remove_file(&path).expect("removed");
        assert!(matches!(put(&hosts, "me", 1), Err(HostsError::Missing(_))));
        assert!(!hosts.remove("me").expect("none"));
        assert!(matches!(put(&HostsFile::new(home.path()), "me", 1), Err(HostsError::NotAFile(_))));
        File::create(&path).and_then(|file| file.set_len(MAX_FILE + 1)).expect("made");
        assert!(matches!(put(&hosts, "me", 1), Err(HostsError::TooLarge(_))));
    }

    #[test]
    fn a_lock_that_is_not_given_up_is_not_waited_for_without_end() {
        let (home, path, hosts) = file(OWN);
        let held = File::create(home.path().join(".hosts.shadowmesh-lock")).expect("made");
        flock(&held, FlockOperation::NonBlockingLockExclusive).expect("free");
        assert!(matches!(put(&hosts, "me", 1), Err(HostsError::Busy(_))));
        assert_eq!(fs::read(&path).expect("read"), OWN);
        drop(held);
        put(&hosts, "me", 1).expect("put");
    }

    #[test]
    fn writers_at_once_lose_nobodys_block() {
        let (home, path, hosts) = file(OWN);
        std::thread::scope(|scope| {
            for node in ["n0", "n1", "n2", "n3"] {
                let hosts = hosts.clone();
                scope.spawn(move || {
                    for n in 0..8 {
                        put(&hosts, node, n).expect("put");
                        if n == 3 {
                            assert!(hosts.remove(node).expect("taken out"), "{node} lost its block");
                        }
                    }
                });
            }
        });
        let text = fs::read_to_string(&path).expect("read");
        for node in ["n0", "n1", "n2", "n3"] {
            assert!(text.contains(&block(node, 7)), "{text}");
            assert!(hosts.remove(node).expect("taken out"));
        }
        assert_eq!(fs::read(&path).expect("read"), OWN);
        assert!(others(&home).is_empty());
    }

    #[test]
    fn who_does_not_know_the_lock_loses_nothing() {
        let (_home, path, hosts) = file(OWN);
        let mut times = 0;
        hosts
            .put("me", |_| {
                // An editor saves while the block is made.
                if times < 2 {
                    times += 1;
                    let mut text = fs::read(&path).expect("read");
                    text.extend_from_slice(format!("10.0.0.{times} x\n").as_bytes());
                    fs::write(&path, text).expect("written");
                }
                block("me", 1)
            })
            .expect("put");
        let expected = format!("127.0.0.1 localhost\n10.0.0.1 x\n10.0.0.2 x\n{}", block("me", 1));
        assert_eq!(fs::read_to_string(&path).expect("read"), expected);
    }
}
