//! Members' names for other programs of this machine: in the hosts file, since what systemd-resolved was told goes with the device.

use super::super::facts::{Access, Block, Daemon, Facts};
use super::super::finding::{Outcome, Trouble};
use super::super::line::path;
use super::NO_DAEMON;

pub(super) fn served(facts: &Facts) -> Outcome {
    let Some(running) = facts.daemon.running() else { return Outcome::Unknown(NO_DAEMON) };
    let error = running.status.names.as_ref().and_then(|names| names.error.as_ref());
    // Of a block that is not whole the other check speaks.
    let Some(error) = error.filter(|_| !matches!(facts.hosts.block, Block::Part { .. })) else {
        return Outcome::Clean;
    };
    let reload = facts.shadowmesh("reload");
    let line = match facts.hosts.block {
        Block::NoFile => format!("{} && {reload}", facts.root(&format!("touch {}", path(&facts.hosts.path)))),
        Block::Unknown | Block::None | Block::Whole | Block::Part { .. } => reload,
    };
    Trouble::warning(format!("members are not found by name here: {error}")).line(line).into()
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
