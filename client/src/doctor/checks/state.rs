//! The state directory and the clock.

use super::super::facts::{Access, Facts, SettingsFault, SettingsFile};
use super::super::finding::{Outcome, Trouble};
use super::super::line::{path, quoted};
use crate::config::ConfigError;
use crate::daemon::clock::Behind;
use crate::daemon::{log_file, state_dir};
use std::path::Path;

/// Less than this and the next file may not fit: the members of a large network take some of it.
const LEAST_BYTES: u64 = 4 << 20;
/// A log larger than this is worth emptying, bytes.
const LARGE_LOG: u64 = 1 << 20;
/// A file may be younger than the clock by this much, seconds: clocks are set.
const CLOCK_SLACK: u64 = 60;
pub(super) const DENIED: &str = "the state directory is for root to read";

/// `None` where there is something to look at.
fn closed(facts: &Facts) -> Option<Outcome> {
    match facts.state.access {
        Access::Denied => Some(Outcome::Unknown(DENIED)),
        Access::Missing => Some(Outcome::Clean),
        Access::Read => None,
    }
}

pub(super) fn layout(facts: &Facts) -> Outcome {
    let newer = facts.state.is_newer.then(|| {
        Trouble::fault(format!(
            "the state directory {} was written by a newer shadowmesh than this one, {}: install one as new as that",
            facts.call.state.display(),
            facts.version
        ))
    });
    closed(facts).unwrap_or_else(|| newer.into())
}

pub(super) fn damage(facts: &Facts) -> Outcome {
    if let Some(closed) = closed(facts) {
        return closed;
    }
    let damaged = facts.state.damage.as_ref().map(|damage| {
        let trouble = Trouble::fault(damage.sentence.clone());
        let leave = || facts.shadowmesh("leave");
        match damage.file.as_deref() {
            // It is found anew.
            Some(name @ "address.toml") => {
                let address = path(&facts.call.state.join(name));
                trouble.line(facts.start_after(vec![facts.root(&format!("rm {address}"))], ""))
            }
            // Leaving would take the key of an admin with it, which may be the only one.
            _ if facts.state.has_admin_key => trouble,
            Some("network.toml" | "members") => trouble.line(facts.start_after(vec![leave()], " smi1...")),
            // Its own key is what a node keeps when it leaves.
            Some(name @ "node.key") => {
                let key = path(&facts.call.state.join(name));
                let first = vec![facts.root(&format!("rm {key}")), leave()];
                trouble.line(facts.start_after(first, " smi1..."))
            }
            Some(_) | None => trouble,
        }
    });
    damaged.into()
}

pub(super) fn config(facts: &Facts) -> Outcome {
    if let Some(closed) = closed(facts) {
        return closed;
    }
    let Some(error) = &facts.state.config else { return Outcome::Clean };
    let file = facts.call.state.join("config.toml");
    Trouble::fault(format!("{} {error}", file.display())).line(corrected(facts, &file, error)).into()
}

/// What people keep in a file of their own. A daemon that runs read it when it was better, and does not start with it again.
pub(super) fn settings(facts: &Facts) -> Outcome {
    let Some(SettingsFile { path: file, fault: Some(fault), .. }) = &facts.settings else {
        return Outcome::Clean;
    };
    let shown = file.display();
    let (sentence, line) = match fault {
        SettingsFault::Denied => return Outcome::Unknown("the file of settings is for root to read"),
        SettingsFault::Missing => {
            let line = facts.root(&format!("install -D -m 0644 /dev/null {}", path(file)));
            (format!("the file of settings {shown} is not there: an empty one will do"), Some(line))
        }
        SettingsFault::RootsAlone(alone) => {
            let alone: Vec<String> = alone.iter().map(|alone| path(alone)).collect();
            let sentence =
                format!("{} is for root alone, and the service is the user shadowmesh", alone.join(" and "));
            (sentence, Some(facts.root(&format!("chmod a+rX {}", alone.join(" ")))))
        }
        SettingsFault::NotReadable(said) => {
            (format!("the file of settings {shown} cannot be read: {said}"), None)
        }
        SettingsFault::Faulty(error) => (format!("{shown} {error}"), Some(corrected(facts, file, error))),
    };
    let is_running = facts.daemon.running().is_some();
    let trouble = if is_running { Trouble::warning(sentence) } else { Trouble::fault(sentence) };
    // Where none runs, that is found as well, with the line that starts one.
    match line {
        Some(line) if is_running => trouble.line(format!("{line} && {}", facts.restart(""))),
        Some(line) => trouble.line(line),
        None => trouble,
    }
    .into()
}

/// Takes a mistake out of a file of settings.
fn corrected(facts: &Facts, file: &Path, error: &ConfigError) -> String {
    let is_word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let edit = match error {
        ConfigError::UnknownField { line, field, suggestion: Some(meant) } if is_word(field) => {
            format!("{line}s/{field}/{meant}/")
        }
        // What is commented out has its default.
        ConfigError::UnknownField { line, .. } | ConfigError::Value { line, .. } => format!("{line}s/^/# /"),
    };
    facts.root(&format!("sed -i {} {}", quoted(&edit), path(file)))
}

pub(super) fn secrets(facts: &Facts) -> Outcome {
    if let Some(closed) = closed(facts) {
        return closed;
    }
    let exposed = &facts.state.exposed;
    if exposed.is_empty() {
        return Outcome::Clean;
    }
    let files: Vec<String> = exposed.iter().map(|file| path(file)).collect();
    let names: Vec<String> =
        exposed.iter().filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned())).collect();
    let sentence =
        format!("others than root may read or change {}: whoever can be this node", names.join(", "));
    Trouble::fault(sentence).line(facts.root(&format!("chmod go= {}", files.join(" ")))).into()
}

pub(super) fn writable(facts: &Facts) -> Outcome {
    if let Some(closed) = closed(facts) {
        return closed;
    }
    if !facts.state.is_read_only {
        return Outcome::Clean;
    }
    let state = facts.call.state.display();
    let read_only =
        Trouble::fault(format!("the file system of the state directory {state} is mounted read-only"));
    match &facts.state.mount {
        Some(mount) => read_only.line(facts.root(&format!("mount -o remount,rw {}", path(mount)))),
        None => read_only,
    }
    .into()
}

pub(super) fn disk(facts: &Facts) -> Outcome {
    if let Some(closed) = closed(facts) {
        return closed;
    }
    let state = &facts.state;
    let is_full = state.free_bytes.is_some_and(|free| free < LEAST_BYTES) || state.free_files == Some(0);
    if !is_full {
        return Outcome::Clean;
    }
    let line = if state.log_bytes >= LARGE_LOG {
        Some(format!("truncate --size 0 {}", path(&facts.call.state.join(log_file::NAME))))
    } else {
        state.has_journal.then(|| "journalctl --vacuum-size=100M".to_owned())
    };
    let mount = state.mount.as_ref().map_or_else(|| facts.call.state.display(), |mount| mount.display());
    let full = Trouble::fault(format!("{mount} is full: what the daemon learns cannot be saved"));
    match line {
        Some(line) => full.line(facts.root(&line)),
        None => full,
    }
    .into()
}

/// A clock that is behind makes certificates look as if they were not good yet, and others that ended as if they were.
pub(super) fn clock(facts: &Facts) -> Outcome {
    let line = || facts.root("timedatectl set-ntp true");
    if let Some(reckoned) =
        facts.state.clock_seen.filter(|seen| facts.now.saturating_add(CLOCK_SLACK) < *seen)
    {
        let behind = Behind { says: facts.now, reckoned };
        let kept = facts.call.state.join(state_dir::CLOCK);
        let sentence = format!("{} (should the clock be right, remove {})", behind.sentence(), path(&kept));
        return Trouble::fault(sentence).line(line()).into();
    }
    if let Some(behind) =
        facts.state.newest.map(|newest| newest.saturating_sub(facts.now)).filter(|s| *s > CLOCK_SLACK)
    {
        let sentence = format!(
            "the clock is at least {} behind: a file of the state directory was written later than it says it is now",
            span(behind)
        );
        return Trouble::fault(sentence).line(line()).into();
    }
    let Some(running) = facts.daemon.running() else {
        return closed(facts).unwrap_or(Outcome::Clean);
    };
    let refused = running.status.peers.iter().filter(|peer| {
        let why = peer.member.as_ref().and_then(|member| member.refuses_us.as_deref());
        why.is_some_and(|why| why.contains("not good yet by its clock"))
    });
    let names: Vec<&str> = refused.map(|peer| peer.name.as_str()).collect();
    let differs = (!names.is_empty()).then(|| {
        let sentence = format!(
            "the clock is ahead, or that of {} is behind: this host's certificate is not good yet there",
            names.join(", ")
        );
        Trouble::fault(sentence).line(line())
    });
    differs.into()
}

/// A time span for people.
fn span(seconds: u64) -> String {
    match seconds {
        s if s < 2 * 3_600 => format!("{} minutes", s / 60),
        s if s < 2 * 86_400 => format!("{} hours", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}
