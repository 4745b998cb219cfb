//! The file of settings that people keep, where there is one: what the daemon was told to read, else what the service would.

use super::super::facts::{Daemon, SettingsFault, SettingsFile};
use crate::config::Config;
use crate::daemon::config_file::{ConfigFile, ConfigFileError};
use crate::service::Machine;
use rustix::process::geteuid;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Which file that is. `machine` has the service, where the daemon that is meant is one.
pub(super) fn of(daemon: &Daemon, machine: Option<&Machine>) -> Option<PathBuf> {
    match daemon {
        Daemon::None | Daemon::KeptOut => machine?.service_config(),
        Daemon::Silent { .. } | Daemon::NotUnderstood { .. } | Daemon::Runs(_) => {
            daemon.process()?.config.clone()
        }
    }
}

/// Whether who reads it is the service, with a user of its own.
pub(super) fn is_for_service(daemon: &Daemon, has_service: bool) -> bool {
    match daemon.process() {
        Some(process) => process.unit.is_some() && process.is_root == Some(false),
        None => has_service,
    }
}

/// What is in it, and what it chooses.
pub(super) fn look(path: &Path, is_for_service: bool) -> (Option<SettingsFile>, Config) {
    let mut file = SettingsFile { path: path.to_owned(), ..SettingsFile::default() };
    let mut config = Config::default();
    match ConfigFile::new(path).read() {
        Ok(read) => {
            file.sets = read.chosen();
            config = read;
        }
        Err(ConfigFileError::NotReadable { cause, .. }) => {
            let is_denied = cause.kind() == ErrorKind::PermissionDenied && !geteuid().is_root();
            file.fault = Some(if cause.kind() == ErrorKind::NotFound {
                SettingsFault::Missing
            } else if is_denied {
                SettingsFault::Denied
            } else {
                SettingsFault::NotReadable(cause.to_string())
            });
        }
        Err(ConfigFileError::Faulty { cause, .. }) => file.fault = Some(SettingsFault::Faulty(cause)),
    }
    if file.fault.is_none() && is_for_service {
        let alone: Vec<PathBuf> = roots_alone(path);
        file.fault = (!alone.is_empty()).then_some(SettingsFault::RootsAlone(alone));
    }
    (Some(file), config)
}

/// The file and the directory that it is in, as far as they belong to root and are for nobody else.
fn roots_alone(path: &Path) -> Vec<PathBuf> {
    let is_alone = |(path, needed): &(&Path, u32)| {
        fs::metadata(path).is_ok_and(|found| {
            // Of another group, that may be the service's.
            found.mode() & needed == 0
                && found.uid() == 0
                && (found.gid() == 0 || found.mode() & (needed << 3) == 0)
        })
    };
    let both = path.parent().map(|dir| (dir, 0o001)).into_iter().chain([(path, 0o004)]);
    both.filter(is_alone).map(|(path, _)| path.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Process, Running};
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_is_the_running_daemons_and_else_the_services() {
        let home = tempfile::tempdir().expect("a directory");
        let machine = Machine { is_live: true, ..Machine::new(Some(home.path().to_owned())) };
        let unit = machine.at("/etc/systemd/system/shadowmesh.service");
        fs::create_dir_all(unit.parent().expect("below")).expect("made");
        fs::write(&unit, "[Service]\nExecStart=/usr/bin/shadowmesh up --config /etc/a.toml\n")
            .expect("written");
        let with = |config: Option<&str>| {
            let process = Process { config: config.map(PathBuf::from), ..Process::default() };
            Daemon::Runs(Box::new(Running { process: Some(process), ..Running::default() }))
        };
        for (daemon, has_service, expected) in [
            (Daemon::None, true, Some("/etc/a.toml")),
            (Daemon::KeptOut, true, Some("/etc/a.toml")),
            (Daemon::None, false, None),
            (with(Some("/etc/b.toml")), true, Some("/etc/b.toml")),
            (with(Some("/etc/b.toml")), false, Some("/etc/b.toml")),
            (with(None), true, None),
            (Daemon::Silent { process: None }, true, None),
        ] {
            let found = of(&daemon, has_service.then_some(&machine));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{daemon:?} {has_service}");
        }
        // A drop-in changes that.
        let drop_ins = machine.at("/etc/systemd/system/shadowmesh.service.d");
        fs::create_dir_all(&drop_ins).expect("made");
        fs::write(drop_ins.join("x.conf"), "[Service]\nExecStart=\nExecStart=/usr/bin/shadowmesh up\n")
            .expect("written");
        assert_eq!(of(&Daemon::None, Some(&machine)), None);
    }

    #[test]
    fn what_is_in_it_and_what_is_wrong_with_it() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("mesh.toml");
        let fault = |is_for_service| look(&file, is_for_service).0.expect("a file").fault;
        assert_eq!(fault(false), Some(SettingsFault::Missing));
        fs::write(&file, "mtu = 1300\nport_mapping = false\n").expect("written");
        let (found, config) = look(&file, false);
        let found = found.expect("a file");
        assert_eq!(
            (found.sets, found.fault, config.port_mapping),
            (vec!["mtu", "port_mapping"], None, Some(false))
        );
        fs::write(&file, "mtuu = 1300\n").expect("written");
        assert!(matches!(fault(true), Some(SettingsFault::Faulty(_))));
        fs::write(&file, [0xff]).expect("written");
        assert!(matches!(fault(true), Some(SettingsFault::NotReadable(_))));
        fs::write(&file, "").expect("written");
        // A directory of a test is for its owner alone.
        let mode =
            |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        for (dir, mode_of_file, expected) in [
            (0o755, 0o644, vec![]),
            (0o755, 0o600, vec![&*file]),
            (0o700, 0o644, vec![home.path()]),
            (0o700, 0o600, vec![home.path(), &*file]),
        ] {
            mode(home.path(), dir);
            mode(&file, mode_of_file);
            assert_eq!(fault(false), None);
            // They are root's where root runs this.
            let expected: Vec<&Path> = if geteuid().is_root() { expected } else { vec![] };
            let alone = (!expected.is_empty())
                .then(|| SettingsFault::RootsAlone(expected.iter().map(|path| path.to_path_buf()).collect()));
            assert_eq!(fault(true), alone, "{dir:o} {mode_of_file:o}");
        }
    }
}
