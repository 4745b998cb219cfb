//! Whose a state directory may be.
//!
//! What root writes into the directory of another user is given to that user ([`super::atomic`]), because the service could not read it
//! otherwise. So that user must be the service's: somebody else who made a directory beforehand would be given the keys. And nobody but its owner may
//! write in it, whoever runs this: who may could put other keys in their place.

use super::StateError;
use super::atomic::Dir;
use crate::service::unit;
use rustix::process::geteuid;
use std::fs;
use std::io;
use std::path::Path;

/// What is looked at of a directory, and who looks.
#[derive(Debug, Clone, Copy)]
struct Scene {
    mode: u32,
    owner: u32,
    caller: u32,
    /// The user that the service runs as, where this machine has one.
    service: Option<u32>,
}

/// Makes sure that secrets in the directory, which is at `path`, are its owner's alone, and its owner one of ours.
///
/// # Errors
/// `Exposed`, and `NotWritable` when it cannot be looked at.
pub(super) fn check(dir: &Dir, path: &Path) -> Result<(), StateError> {
    let not_writable = |cause: io::Error| StateError::NotWritable { path: path.to_owned(), cause };
    let found = dir.stat().map_err(not_writable)?;
    let (owner, caller) = (found.st_uid, geteuid().as_raw());
    let service = if caller == 0 && owner != 0 { service_user() } else { None };
    match fault(Scene { mode: found.st_mode, owner, caller, service }) {
        None => Ok(()),
        Some((why, command)) => Err(StateError::Exposed {
            path: path.to_owned(),
            why,
            remedy: format!("`{command} {}`", path.display()),
        }),
    }
}

/// What is wrong with it, and the begin of a command that mends it.
fn fault(scene: Scene) -> Option<(String, &'static str)> {
    let Scene { mode, owner, caller, service } = scene;
    if mode & 0o022 != 0 {
        return Some(("others than its owner may write in it".to_owned(), "chmod 0700"));
    }
    // Who is not root gives nothing away.
    let is_ours = caller != 0 || owner == 0 || Some(owner) == service;
    (!is_ours).then(|| {
        (format!("it belongs to user {owner}, and root would give that user the keys"), "sudo chown root:")
    })
}

/// The user that the service runs as. From `/etc/passwd` alone: one that only a directory server knows is not one that was made for us.
fn service_user() -> Option<u32> {
    parse_user(&fs::read_to_string("/etc/passwd").ok()?, unit::USER)
}

fn parse_user(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::super::StateDir;
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    #[test]
    fn root_keeps_keys_in_its_own_directories_and_the_services_alone() {
        let scene = Scene { mode: 0o40700, owner: 990, caller: 0, service: Some(990) };
        assert_eq!(fault(scene), None);
        assert_eq!(fault(Scene { owner: 0, ..scene }), None);
        for service in [None, Some(991)] {
            let (why, _) = fault(Scene { service, ..scene }).expect("refused");
            assert!(why.contains("user 990"), "{why}");
        }
        assert_eq!(fault(Scene { caller: 1_000, owner: 1_000, service: None, ..scene }), None);
        assert_eq!(fault(Scene { mode: 0o40755, ..scene }), None, "its files are 0600");
        for mode in [0o40720, 0o40702, 0o41777, 0o40775] {
            for caller in [0, 990] {
                assert!(fault(Scene { mode, caller, ..scene }).is_some(), "{mode:o} {caller}");
            }
        }
    }

    #[test]
    fn the_user_is_found_by_its_whole_name() {
        let text = "root:x:0:0:::\nshadowmesh2:x:5:5:::\nshadowmesh:x:977:978:::\nbroken\n";
        assert_eq!(parse_user(text, "shadowmesh"), Some(977));
        assert_eq!((parse_user(text, "broken"), parse_user(text, "none")), (None, None));
    }

    #[test]
    fn nothing_is_written_into_a_directory_that_somebody_else_has_or_may_write() {
        let root = tempfile::tempdir().expect("a directory");
        let refused = |path: &Path| {
            let before = fs::read_dir(path).expect("listed").count();
            let error = StateDir::open(path).expect_err("refused");
            assert!(matches!(error, StateError::Exposed { .. }), "{error}");
            assert_eq!(fs::read_dir(path).expect("listed").count(), before);
            error.to_string()
        };
        let open = root.path().join("open");
        fs::create_dir(&open).expect("made");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("set");
        let said = refused(&open);
        assert!(said.contains(&format!("`chmod 0700 {}`", open.display())), "{said}");
        // Only root can give one away, and only for root it would be a trap.
        if geteuid().is_root() {
            let foreign = root.path().join("foreign");
            fs::create_dir(&foreign).expect("made");
            chown(&foreign, Some(4_242), None).expect("given away");
            let said = refused(&foreign);
            assert!(said.contains("it belongs to user 4242"), "{said}");
            // Nor is anything written where it was given away later.
            let later = StateDir::open(root.path().join("later")).expect("opened");
            chown(later.path(), Some(4_242), None).expect("given away");
            let error =
                later.load_or_create_node_key(&mut crate::system_rng::SystemRng).expect_err("refused");
            assert!(matches!(error, StateError::Exposed { .. }), "{error}");
            assert!(!later.path().join("node.key").exists());
        }
    }
}
