//! Directories as programs of each layout left them (`fixtures/`), opened by this one.
//!
//! `1-first` is what the first program wrote that had a state directory, `1` what the last one of that layout did on an admin's host that was
//! given an address and whose network is between two secrets. Beside each is what it has to become. The keys are nobody's.

use super::super::atomic::Dir;
use super::*;
use crate::daemon::state_dir::{StateDir, StateError};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/daemon/state_dir/layout/fixtures");
/// Each with what it becomes.
const EACH: [(&str, &str); 2] = [("1-first", "2-first"), ("1", "2")];

/// A copy of a fixture, with the modes of a state directory.
fn copy_of(name: &str) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("state");
    fs::create_dir(&path).expect("made");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("set");
    for (name, text) in texts(&Path::new(FIXTURES).join(name)) {
        fs::write(path.join(&name), text).expect("written");
        fs::set_permissions(path.join(&name), fs::Permissions::from_mode(0o600)).expect("set");
    }
    (home, path)
}

/// Every file but the lock.
fn texts(path: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(path).expect("listed").map(|entry| entry.expect("an entry"));
    let named = files.map(|file| (file.file_name().into_string().expect("a name"), file.path()));
    named
        .filter(|(name, _)| name != ".lock")
        .map(|(name, file)| (name, fs::read_to_string(file).expect("read")))
        .collect()
}

/// Everything that a program would load, as one text.
fn loaded(dir: &StateDir) -> String {
    let network = dir.load_network().expect("read").expect("a network");
    let key = dir.load_node_key().expect("read").expect("a key");
    let authority = dir.load_authority().expect("read").map(|authority| *authority.seed());
    format!(
        "{}\n{}\n{:?}\n{:?}\n{:?}\n{:?}",
        *network.to_toml(),
        *network.address_to_toml(),
        *key.to_bytes(),
        dir.load_members().expect("read"),
        authority,
        dir.load_config().expect("read"),
    )
}

fn assert_is_whole(path: &Path, becomes: &str) {
    assert_eq!(texts(path), texts(&Path::new(FIXTURES).join(becomes)));
    for entry in fs::read_dir(path).expect("listed") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("its mode").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
    }
    assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o700);
}

#[test]
fn each_older_layout_becomes_this_one_and_nothing_is_lost() {
    for (name, becomes) in EACH {
        let (_home, path) = copy_of(name);
        let dir = StateDir::open(&path).expect("opened");
        assert_is_whole(&path, becomes);
        let (_home, as_it_should_be) = copy_of(becomes);
        assert_eq!(loaded(&dir), loaded(&StateDir::open(as_it_should_be).expect("opened")));
    }
    let (_home, path) = copy_of("1");
    let network = StateDir::open(path).expect("opened").load_network().expect("read").expect("a network");
    assert_eq!((network.claim.attempt, network.claim.settled), (3, true));
    assert_eq!(network.given.map(|given| given.to_string()).as_deref(), Some("10.44.0.7/24"));
    assert_eq!(network.secrets().ids().count(), 2);
}

#[test]
fn who_only_looks_sees_this_layout_and_writes_nothing() {
    for (name, becomes) in EACH {
        let (_home, path) = copy_of(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).expect("set");
        let before = texts(&path);
        let dir = StateDir::open_existing(&path).expect("looked").expect("there");
        let (_home, as_it_should_be) = copy_of(becomes);
        let seen = loaded(&dir);
        assert!(!format!("{dir:?}").contains("secret"), "{dir:?}");
        assert_eq!(seen, loaded(&StateDir::open(as_it_should_be).expect("opened")));
        let config = dir.load_config().expect("read");
        assert!(matches!(dir.save_config(&config), Err(StateError::NotWritable { .. })), "nobody locked it");
        assert_eq!(texts(&path), before);
        assert!(!path.join(".lock").exists());
        // Who goes on to write locks it, and that does the rest.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("set");
        let _lock = dir.lock().expect("free");
        assert_is_whole(&path, becomes);
        assert_eq!(loaded(&dir), seen);
        dir.save_config(&config).expect("saved");
    }
}

#[test]
fn what_another_process_writes_in_is_left_alone() {
    let (_home, path) = copy_of("1");
    let daemon = fs::File::create(path.join(".lock")).expect("made");
    rustix::fs::flock(&daemon, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("free");
    let before = texts(&path);
    assert!(matches!(StateDir::open(&path), Err(StateError::Locked { .. })));
    assert!(StateDir::open_existing(&path).expect("looked").is_some());
    assert_eq!(texts(&path), before);
}

/// A disk that takes so many more files.
struct Full {
    path: PathBuf,
    takes: usize,
    /// What is half written when it takes none.
    leaves: Option<&'static str>,
}

impl Files for Full {
    fn read(&self, name: &str) -> io::Result<Option<Zeroizing<String>>> {
        Ok(Dir::open(&self.path)?.read(name)?.map(Zeroizing::new))
    }

    fn replace(&mut self, name: &str, text: &str) -> io::Result<()> {
        let Some(left) = self.takes.checked_sub(1) else {
            if let Some(half) = self.leaves {
                fs::write(self.path.join(format!(".{name}.tmp")), half)?;
            }
            return Err(io::ErrorKind::StorageFull.into());
        };
        self.takes = left;
        Dir::open(&self.path)?.replace(name, text.as_bytes())
    }
}

#[test]
fn whenever_it_is_ended_it_is_seen_whole_and_done_the_next_time() {
    for (name, becomes) in EACH {
        let (_home, as_it_should_be) = copy_of(becomes);
        let expected = loaded(&StateDir::open(as_it_should_be).expect("opened"));
        let mut ended = 0;
        for takes in 0.. {
            let (_home, path) = copy_of(name);
            let mut full = Full { path: path.clone(), takes, leaves: Some("attempt = ") };
            let is_done = migrate(&mut full, OLDEST).is_ok();
            // Twice in one place, and then by the program.
            let mut full = Full { path: path.clone(), takes: 0, leaves: None };
            assert_eq!(migrate(&mut full, number(&path)).is_ok(), is_done);
            let looked = StateDir::open_existing(&path).expect("looked").expect("there");
            assert_eq!(loaded(&looked), expected, "{name} after {takes} files");
            StateDir::open(&path).expect("opened");
            for left in [".address.toml.tmp", ".network.toml.tmp", ".state.toml.tmp"] {
                let _ = fs::remove_file(path.join(left));
            }
            assert_is_whole(&path, becomes);
            ended = takes;
            if is_done {
                break;
            }
        }
        assert_eq!(ended, 3, "each file of the step, and the number");
    }
}

fn number(path: &Path) -> u32 {
    number_in(&fs::read_to_string(path.join(STATE)).expect("read")).expect("a number")
}

#[test]
fn a_directory_that_lost_its_number_is_taken_for_the_oldest() {
    for (name, becomes) in EACH.into_iter().chain([("2", "2")]) {
        let (_home, path) = copy_of(name);
        fs::remove_file(path.join(STATE)).expect("removed");
        assert!(StateDir::open_existing(&path).expect("looked").is_some());
        StateDir::open(&path).expect("opened");
        assert_is_whole(&path, becomes);
    }
}

#[test]
fn a_file_that_is_damaged_already_is_left_to_who_needs_it() {
    let (_home, path) = copy_of("1");
    fs::write(path.join("network.toml"), "secret = 5").expect("written");
    let dir = StateDir::open(&path).expect("opened");
    assert!(matches!(dir.load_network(), Err(StateError::Damaged { .. })));
    assert_eq!((number(&path), path.join("address.toml").exists()), (NEWEST, false));
    assert!(dir.forget_network().expect("left"), "leaving works as ever");

    let (_home, path) = copy_of("2");
    fs::write(path.join("address.toml"), "attempt = 300").expect("written");
    let error = StateDir::open(&path).expect("opened").load_network().expect_err("refused").to_string();
    assert!(error.contains("address.toml is damaged") && error.contains("delete it"), "{error}");
}

#[test]
fn only_what_names_the_address_leaves_the_text() {
    let text = "# x\nname = \"given = [claim]\"\ngiven = \"10.0.0.1/8\"\nrelays = [\n    \"r\",\n]\n\n[claim]\nattempt = 1\n\n[next]\ngiven = 1\n";
    assert_eq!(
        *without_address(text),
        "# x\nname = \"given = [claim]\"\nrelays = [\n    \"r\",\n]\n\n[next]\ngiven = 1\n"
    );
}

#[test]
fn a_number_is_a_layout_or_none() {
    for (text, number) in [
        ("version = 1\n", Some(1)),
        ("version = 7\nnew = true\n", Some(7)),
        ("version = 0\n", None),
        ("version = -1\n", None),
        ("version = \"1\"\n", None),
        ("", None),
    ] {
        assert_eq!(number_in(text), number, "{text}");
    }
    assert_eq!(number_in(&text_of(NEWEST)), Some(NEWEST));
}
