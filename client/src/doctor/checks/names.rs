//! Members' names for other programs of this machine: in the hosts file, since what systemd-resolved was told goes with the device.

use super::super::facts::{Access, Block, Daemon, Facts};
use super::super::finding::{Outcome, Trouble};
use super::super::line::{path, quoted};
use super::NO_DAEMON;
use crate::service::unit;

pub(super) fn served(facts: &Facts) -> Outcome {
    let Some(running) = facts.daemon.running() else { return Outcome::Unknown(NO_DAEMON) };
    let error = running.status.names.as_ref().and_then(|names| names.error.as_ref());
    // Of a block that is not whole the other check speaks.
    let Some(error) = error.filter(|_| !matches!(facts.hosts.block, Block::Part { .. })) else {
        return Outcome::Clean;
    };
    let reload = facts.shadowmesh("reload");
    let own_user = running.process.as_ref().filter(|process| process.is_root == Some(false));
    let line = match facts.hosts.block {
        // Whatever is in the way, without root's files there are no names.
        Block::None | Block::Whole | Block::Unknown
            if own_user.is_some_and(|process| process.unit.is_some()) =>
        {
            let unit = own_user.and_then(|process| process.unit.as_deref()).unwrap_or(unit::NAME);
            let sentence =
                format!("members are not found by name here, for which the service needs a drop-in: {error}");
            return Trouble::warning(sentence).line(drop_in(facts, unit)).into();
        }
        Block::NoFile => format!("{} && {reload}", facts.root(&format!("touch {}", path(&facts.hosts.path)))),
        Block::Unknown | Block::None | Block::Whole | Block::Part { .. } => reload,
    };
    Trouble::warning(format!("members are not found by name here: {error}")).line(line).into()
}

/// Gives the service root's files, which names are in, as `deploy/systemd/shadowmesh.service.d/names.conf` does.
fn drop_in(facts: &Facts, unit: &str) -> String {
    let lines: Vec<String> = unit::NAMES_DROP_IN
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(quoted)
        .collect();
    let (dir, unit) = (quoted(&format!("/etc/systemd/system/{unit}.d")), quoted(unit));
    let write = format!("mkdir -p {dir} && printf '%s\\n' {} >{dir}/names.conf", lines.join(" "));
    let all = format!("{write} && systemctl daemon-reload && systemctl restart {unit}");
    facts.root(&format!("sh -c {}", quoted(&all)))
}

pub(super) fn left(facts: &Facts) -> Outcome {
    let hosts = facts.hosts.path.display();
    match (facts.hosts.block, &facts.daemon) {
        (Block::Part { line }, daemon) => {
            let edit = facts.root(&format!("\"${{EDITOR:-vi}}\" {}", path(&facts.hosts.path)));
            let sentence = format!(
                "line {line} of {hosts} is of a block of members' names that is not whole, and is left as it is: take out \
                 what belongs to it, from its begin to its end"
            );
            Trouble::warning(sentence)
                .line(match daemon.running() {
                    Some(_) => format!("{edit} && {}", facts.shadowmesh("reload")),
                    None => edit,
                })
                .into()
        }
        (Block::Whole, Daemon::None) if facts.state.locked_by.is_none() => {
            let sentence = format!(
                "{hosts} still has the names of members that a daemon put there, which was killed: they lead nowhere"
            );
            Trouble::warning(sentence).line(facts.shadowmesh("down")).into()
        }
        (Block::Unknown, _) if facts.state.access == Access::Denied => {
            Outcome::Unknown("it takes root to know which names would be this node's")
        }
        (Block::Unknown | Block::NoFile | Block::None | Block::Whole, _) => Outcome::Clean,
    }
}
