//! The unit and the service's user, as texts.

use std::path::{Path, PathBuf};

/// What it is called.
pub const NAME: &str = "shadowmesh.service";
/// The service's user and its group.
pub const USER: &str = "shadowmesh";
/// What a package installs.
pub const TEXT: &str = include_str!("../../../deploy/systemd/shadowmesh.service");
/// What it takes for names besides, as a drop-in.
pub const NAMES_DROP_IN: &str = include_str!("../../../deploy/systemd/shadowmesh.service.d/names.conf");
/// People's own changes of it, and that.
pub const DROP_INS: &str = "/etc/systemd/system/shadowmesh.service.d";
/// How the user is made (sysusers.d(5)).
pub const SYSUSERS: &str = include_str!("../../../deploy/sysusers.d/shadowmesh.conf");

/// The program that [`TEXT`] runs, and its settings.
const PACKAGED: [&str; 2] = ["/usr/bin/shadowmesh", crate::daemon::config_file::DEFAULT];

/// Why a path cannot stand in a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// systemd splits words and expands some characters; a path without them needs no quotes.
    #[error("a unit names files by a whole path of letters, digits and / . _ + - @ alone")]
    Characters,
    /// The unit has `ProtectHome=` and `PrivateTmp=`.
    #[error("the service sees neither home directories nor /tmp")]
    Hidden,
}

/// Whether a unit can name `path` as it is, and the service sees it.
///
/// # Errors
/// See [`PathFault`].
pub fn check_path(path: &Path) -> Result<&str, PathFault> {
    let text = path.to_str().filter(|text| {
        text.starts_with('/') && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._+-@".contains(c))
    });
    let text = text.ok_or(PathFault::Characters)?;
    if is_hidden(path) { Err(PathFault::Hidden) } else { Ok(text) }
}

/// Whether it is where the service does not look.
pub fn is_hidden(path: &Path) -> bool {
    ["/home", "/root", "/run/user", "/tmp", "/var/tmp"].iter().any(|dir| path.starts_with(dir))
}

/// The unit that runs `program` with the settings in `config`.
///
/// # Errors
/// See [`PathFault`].
pub fn text(program: &Path, config: &Path) -> Result<String, PathFault> {
    let [program, config] = [check_path(program)?, check_path(config)?];
    let lines = TEXT.lines().map(|line| {
        if line.starts_with("Exec") {
            let words = line.split(' ').map(|word| match word.split_once('=') {
                Some((key, word)) => format!("{key}={}", replaced(word, program, config)),
                None => replaced(word, program, config).to_owned(),
            });
            words.collect::<Vec<_>>().join(" ")
        } else {
            line.to_owned()
        }
    });
    Ok(lines.map(|line| line + "\n").collect())
}

/// The file of settings that a unit and its drop-ins, in their order, have the service read; `None` where they name none.
pub fn config_in<'t>(texts: impl IntoIterator<Item = &'t str>) -> Option<PathBuf> {
    // The last that is not empty counts: an empty one takes back what was before it.
    let lines =
        texts.into_iter().flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("ExecStart="));
    let mut words = lines.filter(|line| !line.trim().is_empty()).last()?.split_whitespace();
    words
        .find_map(|word| match word.strip_prefix("--config") {
            Some("") => Some(None),
            Some(joined) => joined.strip_prefix('=').map(Some),
            None => None,
        })?
        .map_or_else(|| words.next(), Some)
        .map(PathBuf::from)
}

fn replaced<'t>(word: &'t str, program: &'t str, config: &'t str) -> &'t str {
    let [packaged_program, packaged_config] = PACKAGED;
    match word {
        _ if word == packaged_program => program,
        _ if word == packaged_config => config,
        word => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
        text.lines().filter_map(|line| line.strip_prefix(key)).collect()
    }

    #[test]
    fn only_the_paths_differ_from_the_packages_unit() {
        let [program, config] = PACKAGED.map(Path::new);
        assert_eq!(text(program, config).expect("a unit"), TEXT);
        let ours = text(Path::new("/usr/local/bin/sm"), Path::new("/etc/mesh.toml")).expect("a unit");
        assert_eq!(lines(&ours, "ExecStart="), ["/usr/local/bin/sm up --config /etc/mesh.toml"]);
        assert_eq!(lines(&ours, "ExecReload="), ["/usr/local/bin/sm reload"]);
        let differ = ours.lines().zip(TEXT.lines()).filter(|(ours, packaged)| ours != packaged).count();
        assert_eq!((differ, ours.lines().count()), (2, TEXT.lines().count()));
    }

    #[test]
    fn the_settings_that_it_reads_are_found_in_its_text() {
        assert_eq!(config_in([TEXT]), Some(PACKAGED[1].into()));
        let other = text(Path::new("/opt/sm"), Path::new("/etc/mesh.toml")).expect("a unit");
        assert_eq!(config_in([&*other]), Some("/etc/mesh.toml".into()));
        assert_eq!(
            config_in([TEXT, "[Service]\nExecStart=\nExecStart=/x up --config=/etc/b\n"]),
            Some("/etc/b".into())
        );
        assert_eq!(config_in([TEXT, NAMES_DROP_IN]), Some(PACKAGED[1].into()));
        for none in ["", "ExecStart=/x up", "ExecStart=/x up --config", "ExecStart=/x up --configure y"] {
            assert_eq!(config_in([none]), None, "{none}");
        }
    }

    #[test]
    fn the_service_has_one_right_of_root_and_no_other() {
        for key in ["CapabilityBoundingSet=", "AmbientCapabilities="] {
            assert_eq!(lines(TEXT, key), ["CAP_NET_ADMIN"]);
        }
        assert_eq!(lines(TEXT, "User="), [USER]);
        assert_eq!(lines(SYSUSERS, "u "), [format!("{USER} - \"ShadowMesh\" /var/lib/shadowmesh")]);
        assert_eq!(lines(TEXT, "Type="), ["notify"]);
        assert!(lines(TEXT, "WatchdogSec=").len() == 1);
    }

    #[test]
    fn paths_that_systemd_would_read_otherwise_or_that_the_service_does_not_see_are_refused() {
        for path in ["bin/x", "/opt/a b", "/opt/%h", "/opt/$x", "/opt/\"x", "/opt/é", "", "/a\nUser=root"] {
            assert_eq!(check_path(Path::new(path)), Err(PathFault::Characters), "{path}");
        }
        for path in ["/home/a/shadowmesh", "/root/x", "/tmp/x", "/var/tmp/x", "/run/user/0/x"] {
            assert_eq!(check_path(Path::new(path)), Err(PathFault::Hidden), "{path}");
        }
        for path in ["/opt/a@b/x-1.0+2_3", "/homes/x"] {
            assert_eq!(check_path(Path::new(path)), Ok(path));
        }
    }
}
