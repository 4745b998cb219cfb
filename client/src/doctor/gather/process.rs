//! Processes of this machine, as proc(5) shows them.

use super::super::facts::{OtherDaemon, Process};
use super::output_of;
use super::state::network_at;
use crate::daemon::state_dir::{self, NetworkState};
use crate::service::unit;
use std::fs;
use std::path::{Path, PathBuf};

/// What the kernel says of a process, as far as this user may see it.
pub(super) fn of(pid: i32) -> Process {
    let at = PathBuf::from(format!("/proc/{pid}"));
    let exe = fs::read_link(at.join("exe")).ok();
    let limits = fs::read_to_string(at.join("limits")).unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let limit = |at| files.and_then(|rest| rest.split_whitespace().nth(at)?.parse().ok());
    let status = fs::read_to_string(at.join("status")).unwrap_or_default();
    Process {
        pid,
        unit: unit_of(pid),
        is_root: effective_user(&status).map(|user| user == 0),
        config: zero_separated(&at.join("cmdline")).and_then(|words| {
            let config = option(&words, "--config")?;
            // It may have been said from where it was started.
            Some(
                fs::read_link(at.join("cwd"))
                    .map_or_else(|_| PathBuf::from(&config), |cwd| cwd.join(&config)),
            )
        }),
        is_replaced: exe.map(|exe| exe.to_string_lossy().ends_with(" (deleted)")),
        max_files: limit(0),
        hard_max_files: limit(1),
        open_files: fs::read_dir(at.join("fd")).ok().map(|open| open.count() as u64),
    }
}

/// What it was started with, as `NAME=value`; `None` where this user may not see that.
pub(super) fn environment(pid: i32) -> Option<Vec<String>> {
    zero_separated(&PathBuf::from(format!("/proc/{pid}/environ")))
}

/// The service of ours that a process of this machine is in, if it is in one.
pub(crate) fn unit_of(pid: i32) -> Option<String> {
    unit_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// The service of ours that the process is in, from its control groups.
fn unit_in(cgroups: &str) -> Option<String> {
    let paths = cgroups.lines().filter_map(|line| line.rsplit(':').next());
    let mut units = paths.filter_map(|path| path.rsplit('/').next());
    units.find(|unit| unit.starts_with("shadowmesh") && unit.ends_with(".service")).map(ToOwned::to_owned)
}

/// Who it acts as, of its `status` (proc(5): real, effective, saved, of files).
fn effective_user(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()
}

/// The sentence with which the service failed, where nothing was started since.
pub(super) async fn last_words_of_service() -> Option<String> {
    let words = ["--unit", unit::NAME, "--output", "cat", "--lines", "50", "--no-pager"];
    last_words_in(&String::from_utf8_lossy(&output_of("journalctl", &words).await?))
}

fn last_words_in(journal: &str) -> Option<String> {
    // What systemd says of the end comes behind.
    let of_systemd = [unit::NAME, "Failed to start", "Starting", "Stopped", "Stopping", "Scheduled restart"];
    let is_said =
        |line: &&str| !line.trim().is_empty() && !of_systemd.iter().any(|start| line.starts_with(start));
    let said = journal.lines().rev().find(is_said)?.strip_prefix("shadowmesh: ")?;
    Some(said.chars().filter(|c| !c.is_control()).collect())
}

/// The process that holds the lock on a file with this inode, from the kernel's table.
pub(super) fn lock_holder(inode: u64) -> Option<i32> {
    holder_in(&fs::read_to_string("/proc/locks").ok()?, inode)
}

fn holder_in(locks: &str, inode: u64) -> Option<i32> {
    locks.lines().find_map(|line| {
        // `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`; who waits has an arrow behind the number.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = fields.as_slice() else { return None };
        let is_it = file.rsplit(':').next()?.parse() == Ok(inode);
        pid.parse().ok().filter(|_| is_it)
    })
}

/// Daemons in this network namespace beside `answering`.
pub(super) fn other_daemons(answering: Option<i32>, network: Option<&NetworkState>) -> Vec<OtherDaemon> {
    let here = fs::read_link("/proc/self/ns/net").ok();
    let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = listed.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let others = pids.filter(|pid| Some(*pid) != answering && here.is_some()).filter_map(|pid| {
        let at = PathBuf::from(format!("/proc/{pid}"));
        if fs::read_to_string(at.join("comm")).ok()?.trim() != "shadowmesh"
            || fs::read_link(at.join("ns/net")).ok() != here
        {
            return None;
        }
        let state = state_of(&zero_separated(&at.join("cmdline"))?, &zero_separated(&at.join("environ"))?)?;
        // It may have been said from where that one was started.
        let state = fs::read_link(at.join("cwd")).map_or_else(|_| state.clone(), |cwd| cwd.join(&state));
        let theirs = network_at(&state);
        let same_network =
            theirs.zip(network).is_some_and(|(theirs, ours)| theirs.address_space() == ours.address_space());
        Some(OtherDaemon { pid, state, same_network })
    });
    others.collect()
}

fn zero_separated(file: &Path) -> Option<Vec<String>> {
    let bytes = fs::read(file).ok()?;
    Some(bytes.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect())
}

/// The state directory of a process, if it is a daemon: as the command line reads its own ([`crate::cli`]).
fn state_of(words: &[String], environment: &[String]) -> Option<PathBuf> {
    if !words.iter().any(|word| word == "up") {
        return None;
    }
    let option = |name| option(words, name);
    let from_environment =
        || environment.iter().find_map(|set| set.strip_prefix("SHADOWMESH_STATE=").map(ToOwned::to_owned));
    let base = option("--state").or_else(from_environment).unwrap_or_else(|| state_dir::DEFAULT.to_owned());
    let base = PathBuf::from(base);
    Some(option("--network").map_or_else(|| base.clone(), |network| base.join(network)))
}

/// What an option of a command line says.
fn option(words: &[String], name: &str) -> Option<String> {
    let joined = format!("{name}=");
    let own = words.iter().find_map(|word| word.strip_prefix(&joined).map(ToOwned::to_owned));
    own.or_else(|| words.iter().skip_while(|word| *word != name).nth(1).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(ToOwned::to_owned).collect()
    }

    #[test]
    fn a_daemons_state_is_where_its_command_line_says() {
        let state = |line: &str, environment: &str| state_of(&words(line), &words(environment));
        assert_eq!(state("shadowmesh up", ""), Some("/var/lib/shadowmesh".into()));
        assert_eq!(state("shadowmesh up --state /s --network home", ""), Some("/s/home".into()));
        assert_eq!(state("shadowmesh --network=home up", "SHADOWMESH_STATE=/e"), Some("/e/home".into()));
        assert_eq!(state("shadowmesh status", ""), None);
    }

    #[test]
    fn a_process_is_told_who_it_acts_as_and_which_settings_it_reads() {
        assert_eq!(effective_user("Name:\tx\nUid:\t0\t990\t990\t990\n"), Some(990));
        assert_eq!(effective_user(""), None);
        let config = |line: &str| option(&words(line), "--config");
        assert_eq!(config("shadowmesh up --config /etc/a --detach").as_deref(), Some("/etc/a"));
        assert_eq!(config("shadowmesh up --config=/etc/a").as_deref(), Some("/etc/a"));
        assert_eq!((config("shadowmesh up"), config("shadowmesh up --config")), (None, None));
        // This process, which was told nothing of the kind.
        let own = of(i32::try_from(std::process::id()).expect("a number"));
        assert_eq!((own.is_root, own.config), (Some(rustix::process::geteuid().is_root()), None));
    }

    #[test]
    fn the_last_words_of_a_service_are_those_before_what_systemd_says() {
        let end = "shadowmesh.service: Main process exited, code=exited\nshadowmesh.service: Scheduled restart job\n";
        let last = |said: &str| last_words_in(&format!("{said}{end}Stopped ShadowMesh.\n\n"));
        assert_eq!(last("connected\nshadowmesh: the\x07 MTU is odd\n").as_deref(), Some("the MTU is odd"));
        assert_eq!(last("shadowmesh: old\nconnected to a\n"), None);
        assert_eq!((last(""), last_words_in("-- No entries --\n")), (None, None));
    }

    #[test]
    fn a_lock_is_held_by_who_has_it_and_not_by_who_waits() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 08:01:55 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 08:01:55 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 08:01:55 0 EOF\n3: FLOCK  ADVISORY  READ  14 08:01:56 0 EOF\n";
        assert_eq!(
            (holder_in(locks, 55), holder_in(locks, 56), holder_in(locks, 57)),
            (Some(12), Some(14), None)
        );
    }

    #[test]
    fn a_unit_is_one_of_ours() {
        assert_eq!(unit_in("0::/system.slice/shadowmesh.service\n").as_deref(), Some("shadowmesh.service"));
        assert_eq!(unit_in("0::/user.slice/user-0.slice/session-1.scope\n"), None);
        assert_eq!(unit_in("1:cpu:/system.slice/ssh.service\n0::/\n"), None);
    }
}
