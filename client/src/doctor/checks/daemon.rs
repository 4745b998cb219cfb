//! Whether the daemon is there, is one, and answers.

use super::super::facts::{Access, Daemon, Facts, Process, Running};
use super::super::finding::{Outcome, Trouble};
use super::super::gather::WATCHED;
use super::super::line::quoted;
use super::NO_DAEMON;
use super::state::DENIED;
use crate::daemon::RULES_OF_RECORD;

/// Files that a daemon may need with a few dozen peers: streams, sockets, control connections, twice over.
const FEW_FILES: u64 = 256;
/// What the line sets, as the service does.
const MANY_FILES: u64 = 65_536;

pub(super) fn network(facts: &Facts) -> Outcome {
    match (&facts.daemon, facts.state.access, facts.state.has_network) {
        (Daemon::Runs(_), ..) | (_, Access::Read, true) => Outcome::Clean,
        (_, Access::Denied, _) => Outcome::Unknown(DENIED),
        // It says so itself.
        _ if facts.state.is_newer || facts.state.damage.is_some() => Outcome::Clean,
        _ => {
            let sentence =
                "this host is in no network: ask for an invite (`shadowmesh invite` on a host that is in it)";
            Trouble::fault(sentence).line(facts.start(" smi1...")).into()
        }
    }
}

pub(super) fn runs(facts: &Facts) -> Outcome {
    let state = &facts.state;
    match facts.daemon {
        Daemon::None if state.access == Access::Denied => Outcome::Unknown(
            "nobody listens on the control socket, and the state directory is for root to read",
        ),
        Daemon::None if state.has_network && state.locked_by.is_none() => {
            let last = state.last_words.as_ref().map(|words| format!("; the last one ended with: {words}"));
            let sentence = format!("no daemon is running{}", last.unwrap_or_default());
            Trouble::fault(sentence).line(facts.start("")).into()
        }
        Daemon::None
        | Daemon::KeptOut
        | Daemon::Silent { .. }
        | Daemon::NotUnderstood { .. }
        | Daemon::Runs(_) => Outcome::Clean,
    }
}

/// Ends a process, waits until it is gone, and starts a daemon: as the service, where it is one, which would be there again before.
fn replaced(facts: &Facts, process: &Process, signal: &str) -> String {
    let Process { pid, unit, .. } = process;
    if let Some(unit) = unit {
        return facts.root(&format!("systemctl restart {}", quoted(unit)));
    }
    let gone = facts.root(&format!("kill -0 {pid}"));
    let kill = facts.root(&format!("kill -{signal} {pid}"));
    format!("{kill}; while {gone} 2>/dev/null; do sleep 0.1; done; {}", facts.start(""))
}

pub(super) fn lock(facts: &Facts) -> Outcome {
    let lost =
        facts.state.locked_by.as_ref().filter(|_| matches!(facts.daemon, Daemon::None)).map(|process| {
            let sentence = format!(
                "a daemon (process {}) runs with the state directory {}, and does not answer on {}",
                process.pid,
                facts.call.state.display(),
                facts.call.socket.display()
            );
            Trouble::fault(sentence).line(replaced(facts, process, "TERM"))
        });
    lost.into()
}

pub(super) fn socket(facts: &Facts) -> Outcome {
    let kept_out = matches!(facts.daemon, Daemon::KeptOut).then(|| {
        let sentence = format!(
            "this user may not ask the daemon on {}: root may, and who is in the group shadowmesh",
            facts.call.socket.display()
        );
        Trouble::fault(sentence).line(facts.shadowmesh("doctor"))
    });
    kept_out.into()
}

pub(super) fn silent(facts: &Facts) -> Outcome {
    let Daemon::Silent { process } = &facts.daemon else { return Outcome::Clean };
    let silent = Trouble::fault(format!("the daemon on {} does not answer", facts.call.socket.display()));
    match process {
        Some(process) => silent.line(replaced(facts, process, "KILL")),
        None => silent.line(facts.root("systemctl restart shadowmesh")),
    }
    .into()
}

pub(super) fn version(facts: &Facts) -> Outcome {
    let version = facts.version;
    match &facts.daemon {
        Daemon::NotUnderstood { process } => {
            let sentence =
                format!("the daemon answers in a way that this program, {version}, does not understand");
            let found = Trouble::warning(sentence);
            match process {
                Some(process) => found.line(replaced(facts, process, "TERM")),
                None => found.line(facts.restart("")),
            }
            .into()
        }
        Daemon::Runs(running) => {
            let is_replaced = running.process.as_ref().and_then(|process| process.is_replaced);
            let sentence = match (&running.status.version, is_replaced) {
                (daemon, _) if daemon != version => {
                    format!("the daemon is of version {daemon} and this program of {version}")
                }
                (_, Some(true)) => "the daemon's program was replaced since it was started".to_owned(),
                _ => return Outcome::Clean,
            };
            Trouble::warning(sentence).line(facts.restart("")).into()
        }
        Daemon::None | Daemon::KeptOut | Daemon::Silent { .. } => Outcome::Unknown(NO_DAEMON),
    }
}

pub(super) fn others(facts: &Facts) -> Outcome {
    // One that has our state and answers elsewhere is no second one.
    let is_ours = |pid| facts.state.locked_by.as_ref().is_some_and(|process| process.pid == pid);
    let same = facts.others.iter().filter(|other| other.same_network && !is_ours(other.pid));
    same.map(|other| {
        let sentence = format!(
            "a second daemon of this network runs here (process {}, state directory {}): one host, one daemon",
            other.pid,
            other.state.display()
        );
        Trouble::fault(sentence).line(facts.root(&format!("kill {}", other.pid)))
    })
    .collect()
}

pub(super) fn open_files(facts: &Facts) -> Outcome {
    let Some(process) = facts.daemon.running().and_then(|running| running.process.as_ref()) else {
        return Outcome::Unknown(NO_DAEMON);
    };
    let Process { pid, max_files: Some(max), hard_max_files, open_files, .. } = process else {
        return Outcome::Unknown("root may see the daemon's limits");
    };
    let is_short = open_files.is_some_and(|open| open.saturating_mul(5) >= max.saturating_mul(4));
    let few = (*max < FEW_FILES || is_short).then(|| {
        let open = open_files.map(|open| format!(" and has {open} open")).unwrap_or_default();
        let sentence = format!("the daemon may open {max} files{open}: peers and callers beyond are refused");
        // Beyond the hard limit it takes a right that root has not got everywhere.
        let limits = match hard_max_files.map(|hard| hard.min(MANY_FILES)) {
            Some(soft) if soft >= max.saturating_mul(4) => format!("{soft}:"),
            _ => format!("{MANY_FILES}:{MANY_FILES}"),
        };
        Trouble::warning(sentence).line(facts.root(&format!("prlimit --pid {pid} --nofile={limits}")))
    });
    few.into()
}

pub(super) fn rules(facts: &Facts) -> Outcome {
    let Some(Running { status, .. }) = facts.daemon.running() else { return Outcome::Unknown(NO_DAEMON) };
    let refused = status.rules.as_ref().and_then(|rules| Some((rules, rules.error.as_ref()?)));
    let stale = refused.map(|(rules, error)| {
        let sentence =
            format!("the access rules in force are older than their file, which has a fault: {error}");
        let edit = facts.root(&format!("\"${{EDITOR:-vi}}\" {}", quoted(&rules.file)));
        Trouble::warning(sentence).line(format!("{edit} && {}", facts.shadowmesh("reload")))
    });
    stale.into()
}

pub(super) fn rules_drop(facts: &Facts) -> Outcome {
    let Some(Running { status, denied, .. }) = facts.daemon.running() else {
        return Outcome::Unknown(NO_DAEMON);
    };
    let Some(rules) = status.rules.as_ref().filter(|_| *denied > 0) else { return Outcome::Clean };
    let sentence = format!(
        "the access rules here dropped {} for this host within {} s, by {} from {}: is that what they are for?",
        counted(*denied, "frame"),
        WATCHED.as_secs(),
        counted(u64::try_from(rules.count).unwrap_or(u64::MAX), "rule"),
        rules.file
    );
    let show = match rules.file.as_str() {
        RULES_OF_RECORD => facts.shadowmesh("rules show"),
        file => facts.root(&format!("cat {}", quoted(file))),
    };
    Trouble::hint(sentence).line(show).into()
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
