//! The state directory. Its secrets are read where the daemon would read them, to know whether it could, and are dropped at once.

use super::super::facts::{Access, Damage, State};
use super::process;
use crate::config::{Config, ProxyChoice, Settings, union_of_relays};
use crate::daemon::state_dir::{self, NetworkState, StateDir, StateError};
use crate::daemon::{address, log_file};
use rustix::fs::StatVfsMountFlags;
use shadowmesh_proto::ids::NodeId;
use shadowmesh_proto::ticket::RelayTicket;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Where the journal is kept (journald.conf(5), `Storage`).
const JOURNAL: &str = "/var/log/journal";

/// The state as facts, and what else is made of it.
pub(super) struct Stored {
    pub(super) state: State,
    pub(super) relays: Vec<RelayTicket>,
    /// May have a password.
    pub(super) proxy: Option<ProxyChoice>,
    pub(super) network: Option<NetworkState>,
    /// Which node this is.
    pub(super) node: Option<NodeId>,
}

/// The network of another state directory, if it can be read.
pub(super) fn network_at(path: &Path) -> Option<NetworkState> {
    StateDir::open_existing(path).ok()??.load_network().ok()?
}

/// `answering` is the process on the control socket, whether it answers or not; `chosen` what people's file of settings says, which wins.
pub(super) fn look(path: &Path, is_root: bool, answering: Option<i32>, chosen: Config) -> Stored {
    let mut found =
        Stored { state: State::default(), relays: Vec::new(), proxy: None, network: None, node: None };
    let state = &mut found.state;
    match fs::read_dir(path) {
        Ok(entries) => {
            state.access = Access::Read;
            read_files(entries.flatten().map(|entry| entry.path()), state);
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            state.access = Access::Denied;
            return found;
        }
        Err(_) => return found,
    }
    file_system(path, is_root, state);
    let inode = fs::metadata(path.join(state_dir::LOCK)).ok().map(|lock| lock.ino());
    state.locked_by =
        inode.and_then(process::lock_holder).filter(|pid| Some(*pid) != answering).map(process::of);
    let last_words = log_file::last_words(&path.join(log_file::NAME));
    state.last_words = last_words.map(|words| words.chars().filter(|c| !c.is_control()).collect());
    match StateDir::open_existing(path) {
        Ok(Some(dir)) => contents(&dir, chosen, &mut found),
        Ok(None) => {}
        Err(error) => trouble(error, state),
    }
    found
}

fn read_files(files: impl Iterator<Item = PathBuf>, state: &mut State) {
    for file in files {
        let Ok(metadata) = fs::symlink_metadata(&file) else { continue };
        if !metadata.is_file() {
            continue;
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if state_dir::is_secret(&name) && metadata.permissions().mode() & 0o077 != 0 {
            state.exposed.push(file.clone());
        }
        if name == log_file::NAME {
            state.log_bytes = metadata.len();
        }
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        state.newest = state.newest.max(modified.map(|since| since.as_secs()));
    }
    state.exposed.sort();
}

fn file_system(path: &Path, is_root: bool, state: &mut State) {
    if let Ok(vfs) = rustix::fs::statvfs(path) {
        // Root may use what is reserved.
        let free = if is_root { vfs.f_bfree } else { vfs.f_bavail };
        state.free_bytes = Some(free.saturating_mul(vfs.f_frsize));
        // A file system that does not count files says 0 of 0.
        state.free_files = (vfs.f_files > 0).then_some(vfs.f_ffree);
        state.is_read_only = vfs.f_flag.contains(StatVfsMountFlags::RDONLY);
    }
    let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    state.mount = mount_of(&mounts, &whole);
    let journal = fs::canonicalize(JOURNAL).ok();
    state.has_journal = journal.is_some_and(|journal| mount_of(&mounts, &journal) == state.mount);
}

/// The mount point that a path is below: the longest.
fn mount_of(mounts: &str, path: &Path) -> Option<PathBuf> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| path.starts_with(point)).max_by_key(|point| point.as_os_str().len())
}

fn contents(dir: &StateDir, chosen: Config, found: &mut Stored) {
    let config = match dir.load_config() {
        Ok(config) => config,
        Err(error) => {
            trouble(error, &mut found.state);
            Config::default()
        }
    };
    let config = config.overlaid_with(chosen);
    found.state.has_admin_key = dir.has_authority();
    found.state.clock_seen = dir.load_clock();
    found.state.no_port_mapping = config.port_mapping == Some(false);
    found.relays.clone_from(&config.relays);
    found.proxy.clone_from(&config.proxy);
    found.node = match dir.load_node_key() {
        Ok(node) => node.map(|secret| secret.public()),
        Err(error) => {
            trouble(error, &mut found.state);
            None
        }
    };
    for error in [dir.load_members().err(), dir.load_authority().err()].into_iter().flatten() {
        trouble(error, &mut found.state);
    }
    match dir.load_network() {
        Ok(Some(network)) => {
            found.state.has_network = true;
            found.relays = union_of_relays(&network.relays, &config.relays);
            if let Some(node) = found.node {
                let settings = Settings::new(&config, "");
                found.state.own = address::own(&settings, &network, node);
            }
            found.network = Some(network);
        }
        Ok(None) => {}
        Err(error) => trouble(error, &mut found.state),
    }
}

/// The first of its kind is told.
fn trouble(error: StateError, state: &mut State) {
    match error {
        StateError::Newer { .. } => state.is_newer = true,
        StateError::Config { cause, .. } => {
            state.config.get_or_insert(cause);
        }
        StateError::NotReadable { cause, .. } if cause.kind() == ErrorKind::PermissionDenied => {
            state.access = Access::Denied;
        }
        StateError::Damaged { ref path, .. } | StateError::NotReadable { ref path, .. } => {
            let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
            state.damage.get_or_insert_with(|| Damage { file, sentence: error.to_string() });
        }
        StateError::NotWritable { .. } | StateError::Exposed { .. } | StateError::Locked { .. } => {
            state.damage.get_or_insert_with(|| Damage { file: None, sentence: error.to_string() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_on_the_innermost_mount() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/a rw\n23 22 0:5 / /var/lib rw - tmpfs t rw\n24 22 0:6 / /var/library rw - tmpfs t rw\n";
        assert_eq!(mount_of(mounts, Path::new("/var/lib/x")), Some("/var/lib".into()));
        assert_eq!(mount_of(mounts, Path::new("/etc")), Some("/".into()));
    }

    #[test]
    fn what_a_directory_tells_of_its_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state");
        assert_eq!(look(&path, true, None, Config::default()).state.access, Access::Missing);
        StateDir::open(&path).expect("made");
        fs::write(path.join("node.key"), "AAAA").expect("written");
        fs::set_permissions(path.join("node.key"), fs::Permissions::from_mode(0o640)).expect("set");
        fs::write(path.join("config.toml"), "\nmtuu = 1\n").expect("written");
        fs::set_permissions(path.join("config.toml"), fs::Permissions::from_mode(0o600)).expect("set");
        fs::write(path.join("daemon.log"), "a\nshadowmesh: why\n").expect("written");
        let state = look(&path, true, None, Config::default()).state;
        assert_eq!((state.access, state.exposed), (Access::Read, vec![path.join("node.key")]));
        assert!(state.config.expect("a fault").to_string().contains("`mtuu`"));
        let damage = state.damage.expect("a fault");
        assert_eq!(damage.file.as_deref(), Some("node.key"));
        assert!(damage.sentence.contains("node.key is damaged"));
        assert_eq!(
            (state.has_network, state.last_words.as_deref(), state.log_bytes),
            (false, Some("why"), 18)
        );
        let lock = StateDir::open_existing(&path).expect("opened").expect("there").lock().expect("free");
        let own = i32::try_from(std::process::id()).expect("a number");
        let holder = |answering| {
            look(&path, true, answering, Config::default()).state.locked_by.map(|process| process.pid)
        };
        assert_eq!((holder(None), holder(Some(own))), (Some(own), None));
        drop(lock);
        // What people's file says wins.
        fs::write(path.join("config.toml"), "port_mapping = true\n").expect("written");
        let asks_not =
            |text: &str| look(&path, true, None, Config::parse(text).expect("good")).state.no_port_mapping;
        assert_eq!((asks_not(""), asks_not("port_mapping = false")), (false, true));
        fs::write(path.join("state.toml"), "version = 99\n").expect("written");
        assert!(look(&path, true, None, Config::default()).state.is_newer);
    }
}
