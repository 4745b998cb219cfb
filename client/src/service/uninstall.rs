//! The service is stopped and removed; with its state where that is wanted.

use super::install::{SYSUSERS, UNIT};
use super::machine::{Machine, ServiceError};
use super::settings::is_untouched;
use super::stamp::{differences, is_ours};
use super::unit;
use crate::daemon::config_file;
use crate::daemon::state_dir::{self, StateDir, StateLock};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the service has its socket. Other networks' are there too, which is why it stays when the service ends.
const RUNTIME: &str = "/run/shadowmesh";

/// What is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// Whether the state goes too.
    pub purge: bool,
    /// Even the key of an admin.
    pub discard_admin_key: bool,
    /// Whether files that a person changed are removed.
    pub force: bool,
}

/// What is lost with the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    /// The directory of the state, where there is one.
    pub state: Option<PathBuf>,
    /// The file of settings, where somebody wrote into it.
    pub settings: Option<PathBuf>,
    /// The networks this host is in, by what people call them.
    pub networks: Vec<String>,
    /// Whether the key is there that makes this host who it is.
    pub has_node_key: bool,
    /// Whether the key of an admin is.
    pub has_admin_key: bool,
    /// Copies of networks that were left, with such a key in them.
    pub copies: Vec<PathBuf>,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uninstalled {
    /// Files and directories that were removed.
    pub removed: Vec<PathBuf>,
    /// Those that are left, because people made or changed them, or hold the state.
    pub left: Vec<PathBuf>,
    /// What was given up with `--force`, lines that went.
    pub overwritten: Vec<String>,
    /// Whether the service's user was removed.
    pub removed_user: bool,
}

/// What a purge would delete; `None` where there is nothing.
///
/// # Errors
/// `NotState` for a directory of something else, `AdminKey` and `AdminCopies` unless that is to be given up.
pub fn loss(machine: &Machine, wish: Wish) -> Result<Option<Loss>, ServiceError> {
    let (all, settings) = (states(machine)?, written_settings(machine)?);
    if all.is_none() && settings.is_none() {
        return Ok(None);
    }
    let state = all.is_some().then(|| state_dir::DEFAULT.into());
    let states = all.unwrap_or_default();
    let name = |state: &StateDir| match state.load_network() {
        Ok(network) => network.map(|network| network.name),
        Err(_) => Some("one that cannot be read".to_owned()),
    };
    let loss = Loss {
        state,
        settings: settings.map(|_| config_file::DEFAULT.into()),
        networks: states.iter().filter_map(name).collect(),
        has_node_key: states.iter().any(|state| state.load_node_key().ok().is_none_or(|key| key.is_some())),
        has_admin_key: states.iter().any(StateDir::has_authority),
        copies: states.iter().flat_map(StateDir::copies_with_authority).collect(),
    };
    if loss.has_admin_key && !wish.discard_admin_key {
        return Err(ServiceError::AdminKey);
    }
    if !loss.copies.is_empty() && !wish.discard_admin_key {
        return Err(ServiceError::AdminCopies(loss.copies));
    }
    Ok(Some(loss))
}

/// The state directories that a purge would delete; `None` where there is nothing.
fn states(machine: &Machine) -> Result<Option<Vec<StateDir>>, ServiceError> {
    machine.check_inside(
        &[UNIT, SYSUSERS, state_dir::DEFAULT, config_file::DEFAULT, "/etc/passwd"].map(Path::new),
    )?;
    let path = machine.at(state_dir::DEFAULT);
    if fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
        return Err(ServiceError::StateLink(state_dir::DEFAULT.into()));
    }
    let below = match fs::read_dir(&path) {
        Ok(below) => below,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(ServiceError::File { what: "read", path: state_dir::DEFAULT.into(), cause });
        }
    };
    let entries: Vec<fs::DirEntry> = below.flatten().collect();
    // Networks beside the first have theirs in directories of their own (`--network`). A link is none: the service's user could lead root anywhere.
    let is_dir = |entry: &&fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let beside = entries.iter().filter(is_dir).map(fs::DirEntry::path);
    let all = std::iter::once(path).chain(beside);
    let states: Vec<StateDir> =
        all.filter_map(|path| StateDir::open_existing(path).transpose()).collect::<Result<_, _>>()?;
    if states.is_empty() && !entries.is_empty() {
        return Err(ServiceError::NotState(state_dir::DEFAULT.into()));
    }
    Ok(Some(states))
}

/// Makes sure that nobody has one of them, for as long as the locks are kept.
fn locked<'s>(states: impl Iterator<Item = &'s StateDir>) -> Result<Vec<StateLock>, ServiceError> {
    Ok(states.map(StateDir::lock).collect::<Result<_, _>>()?)
}

/// The settings that somebody wrote, unless they are a package's to remove.
fn written_settings(machine: &Machine) -> Result<Option<String>, ServiceError> {
    let is_packaged = super::install::has_package(machine)?;
    let found = machine.read(config_file::DEFAULT)?;
    Ok(found.filter(|found| !is_packaged && !is_untouched(found)))
}

/// Does it. With a purge the caller has shown the [`Loss`]; `make_way` is called in any case when the service was stopped, and before the state is
/// deleted: one that was killed left names in the hosts file, which are known by the state, and a daemon that runs by hand has that.
///
/// # Errors
/// See [`ServiceError`]; nothing is changed where something is refused.
pub fn uninstall(
    machine: &Machine,
    wish: Wish,
    make_way: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Uninstalled> {
    machine.check_inside(&[UNIT, config_file::DEFAULT, RUNTIME].map(Path::new))?;
    let mut done = Uninstalled::default();
    let found = machine.read(UNIT)?;
    let is_packaged = super::install::has_package(machine)?;
    match &found {
        None if is_packaged => return Err(ServiceError::Packaged.into()),
        Some(found) if !is_ours(found) => {
            let differences = differences(found, unit::TEXT);
            if !wish.force {
                return Err(ServiceError::Changed { path: UNIT.into(), differences }.into());
            }
            done.overwritten = differences;
        }
        Some(_) | None => {}
    }
    let doomed = if wish.purge && loss(machine, wish)?.is_some() { states(machine)? } else { None };
    // The first is the service's own, which has it until it is stopped.
    let own = machine.at(state_dir::DEFAULT);
    drop(locked(doomed.iter().flatten().filter(|state| state.path() != own))?);

    if found.is_some() {
        if machine.is_live {
            machine.systemctl(&["disable", "--now", unit::NAME])?;
        } else {
            machine.systemctl(&["disable", unit::NAME])?;
        }
        machine.remove(UNIT)?;
        done.removed.push(UNIT.into());
        if machine.is_live {
            machine.systemctl(&["daemon-reload"])?;
            // It fails where there is nothing to forget.
            let _ = machine.systemctl(&["reset-failed", unit::NAME]);
        }
    }
    if machine.at(unit::DROP_INS).exists() {
        done.left.push(unit::DROP_INS.into());
    }
    // A package's settings are the package's.
    if !is_packaged {
        remove_config(machine, wish.purge, &mut done)?;
    }
    make_way()?;
    if !wish.purge {
        let kept = [state_dir::DEFAULT, SYSUSERS].into_iter().filter(|path| machine.at(path).exists());
        done.left.extend(kept.map(PathBuf::from));
        return Ok(done);
    }
    if let Some(states) = doomed {
        // Whoever has it now is not the service.
        let _locks = locked(states.iter())?;
        let path = PathBuf::from(state_dir::DEFAULT);
        fs::remove_dir_all(&own).map_err(|cause| ServiceError::File {
            what: "remove",
            path: path.clone(),
            cause,
        })?;
        done.removed.push(path);
    }
    // It is the user's, whose number is free again in a moment, and another's soon.
    match fs::remove_dir(machine.at(RUNTIME)) {
        Ok(()) => done.removed.push(RUNTIME.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Another daemon's socket is in it.
        Err(_) => done.left.push(RUNTIME.into()),
    }
    // The user is ours where the file that made it is.
    if machine.read(SYSUSERS)?.is_some_and(|found| is_ours(&found)) {
        if machine.has_user()? && !is_packaged {
            machine.remove_user()?;
            done.removed_user = true;
        }
        machine.remove(SYSUSERS)?;
        done.removed.push(SYSUSERS.into());
    }
    Ok(done)
}

/// The example goes where nobody wrote into it, and with a purge in any case.
fn remove_config(machine: &Machine, purge: bool, done: &mut Uninstalled) -> Result<(), ServiceError> {
    match machine.read(config_file::DEFAULT)? {
        Some(found) if purge || is_untouched(&found) => {
            machine.remove(config_file::DEFAULT)?;
            done.removed.push(config_file::DEFAULT.into());
            if let Some(dir) = Path::new(config_file::DEFAULT).parent() {
                // Other files of people may be in it: then it stays, and this fails.
                let _ = fs::remove_dir(machine.at(dir));
            }
        }
        Some(_) => done.left.push(config_file::DEFAULT.into()),
        None => {}
    }
    Ok(())
}
