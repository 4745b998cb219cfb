//! Where a relay keeps its key when nobody says: the directory of the machine, or of a person who runs one without root.
//!
//! A relay needs no right of root but that directory. So who types `shadowmesh-relay` as it stands in the README has one of their own, unless
//! the machine has a relay already: its commands (`ticket`, `status`) are meant then, and refused with a sentence to who may not ask.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directory of the machine.
pub(super) const SYSTEM: &str = "/var/lib/shadowmesh-relay";
/// In a home directory, where `XDG_STATE_HOME` is not set (XDG Base Directory Specification 0.8).
const STATE_HOME: &str = ".local/state";
const NAME: &str = "shadowmesh-relay";

/// The directory of this process.
pub(super) fn default_state() -> PathBuf {
    // What cannot be looked at is there.
    let is_machines = Path::new(SYSTEM).symlink_metadata().is_ok();
    chosen(rustix::process::geteuid().is_root() || is_machines, |name| std::env::var_os(name))
}

fn chosen(is_machines: bool, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let whole = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || Some(whole("HOME")?.join(STATE_HOME));
    match whole("XDG_STATE_HOME").or_else(home) {
        Some(of_user) if !is_machines => of_user.join(NAME),
        Some(_) | None => SYSTEM.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen_with(is_machines: bool, variables: &[(&str, &str)]) -> String {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        chosen(is_machines, variable).display().to_string()
    }

    #[test]
    fn who_is_not_root_has_a_directory_unless_the_machine_has_a_relay() {
        let both = [("HOME", "/home/me"), ("XDG_STATE_HOME", "/home/me/state")];
        assert_eq!(chosen_with(false, &both[..1]), "/home/me/.local/state/shadowmesh-relay");
        assert_eq!(chosen_with(false, &both), "/home/me/state/shadowmesh-relay");
        assert_eq!(chosen_with(true, &both), SYSTEM);
        assert_eq!(chosen_with(false, &[]), SYSTEM);
        // What is not a whole path would be another directory wherever it is typed.
        assert_eq!(chosen_with(false, &[("HOME", "me"), ("XDG_STATE_HOME", "state")]), SYSTEM);
        assert_eq!(chosen_with(false, &[("HOME", ""), ("XDG_STATE_HOME", "")]), SYSTEM);
    }
}
