//! Directories as relays of each layout left them (`fixtures/`), opened by this one. The keys are nobody's.

use super::super::{RunLock, StateDir, StoreError, atomic};
use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/layout/fixtures");
/// Each with what it becomes.
const EACH: [(&str, &str); 2] = [("1", "2"), ("1-public", "2-public")];

fn copy_of(name: &str) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    for (name, text) in texts(&Path::new(FIXTURES).join(name)) {
        fs::write(path.join(&name), text).unwrap();
        fs::set_permissions(path.join(&name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    (home, path)
}

/// Every file but the lock.
fn texts(path: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(path).unwrap().map(Result::unwrap);
    let named = files.map(|file| (file.file_name().into_string().unwrap(), file.path()));
    named
        .filter(|(name, _)| name != "lock")
        .map(|(name, file)| (name, fs::read_to_string(file).unwrap()))
        .collect()
}

/// As a relay starts.
fn started(path: &Path) -> (StateDir, RunLock) {
    let dir = StateDir::create(path).unwrap();
    let lock = dir.lock().unwrap();
    (dir, lock)
}

fn assert_is_whole(path: &Path, becomes: &str) {
    assert_eq!(texts(path), texts(&Path::new(FIXTURES).join(becomes)));
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn each_older_layout_becomes_this_one_and_nothing_is_lost() {
    for (name, becomes) in EACH {
        let (_home, path) = copy_of(name);
        let (dir, _lock) = started(&path);
        assert_is_whole(&path, becomes);
        let remembered = dir.read_state().unwrap();
        assert_eq!(remembered.public.is_some(), name == "1-public");
        assert_eq!(remembered.addresses.len(), 2);
        dir.key().unwrap();
    }
}

#[test]
fn who_only_looks_sees_this_layout_and_writes_nothing() {
    for (name, becomes) in EACH {
        let (_home, path) = copy_of(name);
        let before = texts(&path);
        let seen = StateDir::open(&path).read_state().unwrap();
        assert_eq!(texts(&path), before);
        let (_home, as_it_should_be) = copy_of(becomes);
        assert_eq!(seen, StateDir::open(&as_it_should_be).read_state().unwrap());
    }
}

#[test]
fn what_another_relay_runs_on_is_left_alone() {
    let (_home, path) = copy_of("1");
    let other = fs::File::create(path.join("lock")).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let before = texts(&path);
    assert!(matches!(StateDir::create(&path).unwrap().lock(), Err(StoreError::InUse(_))));
    assert_eq!(texts(&path), before);
}

/// A disk that takes so many more files.
struct Full<'a>(&'a Path, usize);

impl Files for Full<'_> {
    fn read(&self, name: &str) -> io::Result<Option<String>> {
        Ok(fs::read_to_string(self.0.join(name)).ok())
    }

    fn replace(&mut self, name: &str, text: &str) -> io::Result<()> {
        let Some(left) = self.1.checked_sub(1) else {
            fs::write(self.0.join(format!(".{name}.new")), "addr")?;
            return Err(io::ErrorKind::StorageFull.into());
        };
        self.1 = left;
        atomic::replace(self.0, name, text.as_bytes())
    }
}

#[test]
fn whenever_it_is_ended_it_is_seen_whole_and_done_the_next_time() {
    for (name, becomes) in EACH {
        for takes in 0..3 {
            let (_home, path) = copy_of(name);
            assert_eq!(migrate(&mut Full(&path, takes), OLDEST).is_ok(), takes == 2);
            let (_home, as_it_should_be) = copy_of(becomes);
            let expected = StateDir::open(&as_it_should_be).read_state().unwrap();
            assert_eq!(StateDir::open(&path).read_state().unwrap(), expected);
            let (dir, _lock) = started(&path);
            assert_eq!(dir.read_state().unwrap(), expected);
            for left in [".ticket.toml.new", ".state.toml.new"] {
                let _ = fs::remove_file(path.join(left));
            }
            assert_is_whole(&path, becomes);
        }
    }
}

#[test]
fn a_directory_that_lost_its_number_keeps_its_key_and_what_it_remembers() {
    let (_home, path) = copy_of("2-public");
    fs::remove_file(path.join(STATE_FILE)).unwrap();
    let (_dir, _lock) = started(&path);
    assert_is_whole(&path, "2-public");
    // Ended after the key was drawn, before anything else was written.
    let (_home, path) = copy_of("1");
    fs::remove_file(path.join(STATE_FILE)).unwrap();
    let key = StateDir::open(&path).key().unwrap().public();
    let (dir, _lock) = started(&path);
    assert_eq!((dir.key().unwrap().public(), dir.read_state().unwrap().addresses.len()), (key, 0));
}
