use super::*;
use shadowmesh_proto::rng::SeededRng;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

fn dir() -> (tempfile::TempDir, StateDir) {
    let root = tempfile::tempdir().unwrap();
    let dir = StateDir::create(&root.path().join("state")).unwrap();
    (root, dir)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_key_is_made_once_and_only_its_owner_reads_it() {
    let (_root, dir) = dir();
    let first = dir.key_or_new(&mut SeededRng::new(1)).unwrap();
    let again = dir.key_or_new(&mut SeededRng::new(2)).unwrap();
    assert_eq!(first.public(), again.public());
    assert_eq!(mode(&dir.path.join(KEY_FILE)), 0o600);
    assert_eq!(mode(&dir.path), 0o700);
}

#[test]
fn every_changed_character_of_a_key_is_noticed() {
    let (_root, dir) = dir();
    let key = dir.key_or_new(&mut SeededRng::new(1)).unwrap();
    let path = dir.path.join(KEY_FILE);
    let text = fs::read_to_string(&path).unwrap();
    for at in 0..text.len() - 1 {
        for other in ['a', 'B', '7', ' '] {
            let mut changed = text.clone();
            changed.replace_range(at..=at, &other.to_string());
            fs::write(&path, &changed).unwrap();
            // Bits beyond the 32 bytes and letter case of the public key carry nothing; whatever reads must be the same key.
            match dir.key() {
                Ok(read) => assert_eq!(read.public(), key.public(), "at {at}"),
                Err(StoreError::Key { .. }) => {}
                Err(StoreError::Newer { found, .. }) => assert_eq!(found, 7),
                Err(other) => panic!("{other}"),
            }
        }
    }
    for end in 0..text.len() - 1 {
        fs::write(&path, &text[..end]).unwrap();
        assert!(matches!(dir.key(), Err(StoreError::Key { .. })), "cut at {end}");
    }
}

#[test]
fn a_damaged_key_is_not_replaced() {
    let (_root, dir) = dir();
    let path = dir.path.join(KEY_FILE);
    fs::write(&path, "junk").unwrap();
    let error = dir.key_or_new(&mut SeededRng::new(1)).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "junk");
}

#[test]
fn state_comes_back() {
    let (_root, dir) = dir();
    assert_eq!(dir.read_state().unwrap(), Remembered::default());
    let remembered = Remembered { addresses: vec!["192.0.2.1:8443".into()], public: None };
    dir.write_state(&remembered).unwrap();
    assert_eq!(dir.read_state().unwrap(), remembered);
    for file in [STATE_FILE, TICKET_FILE] {
        assert_eq!(mode(&dir.path.join(file)), 0o600);
    }
}

#[test]
fn a_newer_directory_is_refused_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let newer = NEWEST + 1;
    fs::write(root.path().join(STATE_FILE), format!("version = {newer}\nwhatever = true\n")).unwrap();
    let error = StateDir::create(root.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found, .. } if found == newer), "{error}");
    let both = format!("(format {newer}, this program knows {NEWEST})");
    assert!(error.to_string().contains(&both), "{error}");
    assert!(matches!(StateDir::open(root.path()).read_state(), Err(StoreError::Newer { .. })));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_does_not_parse_says_so() {
    let (_root, dir) = dir();
    for bad in ["addresses = ", "unknown = 1\n", "addresses = 7\n"] {
        fs::write(dir.path.join(TICKET_FILE), bad).unwrap();
        assert!(matches!(dir.read_state(), Err(StoreError::State { .. })), "{bad:?}");
    }
    for bad in ["", "version = ", "version = 0\n"] {
        fs::write(dir.path.join(STATE_FILE), bad).unwrap();
        assert!(matches!(dir.read_state(), Err(StoreError::Layout { .. })), "{bad:?}");
        let error = StateDir::create(&dir.path).unwrap_err().to_string();
        assert!(error.contains(&format!("let it say `version = {NEWEST}`")), "{error}");
    }
}

#[test]
fn one_relay_per_directory() {
    let (_root, dir) = dir();
    let lock = dir.lock().unwrap();
    assert!(matches!(dir.lock(), Err(StoreError::InUse(_))));
    drop(lock);
    assert!(dir.lock().is_ok());
}

#[test]
fn a_directory_that_cannot_be_made_is_named_with_advice() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), "").unwrap();
    let error = StateDir::create(&root.path().join("file/state")).unwrap_err();
    assert!(error.to_string().contains("--state"), "{error}");
}

#[test]
fn a_left_over_or_planted_staging_file_is_not_written_through() {
    let (root, dir) = dir();
    let elsewhere = root.path().join("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();
    symlink(&elsewhere, dir.path.join(format!(".{KEY_FILE}.new"))).unwrap();
    dir.key_or_new(&mut SeededRng::new(1)).unwrap();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
}
