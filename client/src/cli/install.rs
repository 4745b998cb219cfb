//! `shadowmesh install`: makes the daemon a service of this machine.

use super::documents::Install;
use super::global::Global;
use super::{down, output, runtime};
use crate::control::client::Connection;
use crate::daemon::state_dir;
use crate::doctor;
use crate::service::install::{Wish, install};
use crate::service::{Installed, Machine, ServiceError, Start, unit};
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// Make the daemon a service of this machine, that starts with it
///
/// Writes a systemd unit, enables it, and starts it where this host is in a network; else it starts at the next start of the machine, or by
/// `systemctl start shadowmesh`, once it is. The service runs as the user shadowmesh with the right to set up network devices and no other. A daemon that
/// runs by hand makes way for it. Files that a person changed are shown and left as they are, without --force. Where a package brought the unit it is
/// enabled and started as it is.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sudo shadowmesh up smi1... --detach && sudo shadowmesh install    join, then stay\n  \
                        sudo shadowmesh install --config /etc/mesh.toml\n  \
                        sudo shadowmesh install --root /mnt --program /usr/bin/shadowmesh      into an image"
)]
pub(super) struct Args {
    /// Start it now, and fail where this host is in no network
    #[arg(long)]
    now: bool,

    /// Start it with the machine and not now
    #[arg(long, conflicts_with = "now")]
    no_start: bool,

    /// Settings that the service reads, in the form of config.toml [default: /etc/shadowmesh/config.toml, an example at first]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Replace files that were changed by hand
    #[arg(long)]
    force: bool,

    /// The program that the service runs [default: this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,

    /// Another machine's root directory, such as that of an image; nothing is started
    #[arg(long, value_name = "DIR", conflicts_with = "now")]
    root: Option<PathBuf>,
}

/// What `machine` stands for, if this user may change it and nothing names another daemon than the service's.
pub(super) fn machine(global: &Global, root: Option<PathBuf>) -> anyhow::Result<Machine> {
    let is_usual = global.socket.is_none() && global.state == Path::new(state_dir::DEFAULT);
    if !is_usual || global.network.is_some() {
        return Err(ServiceError::Elsewhere.into());
    }
    let root = root.map(std::path::absolute).transpose().context("the working directory is gone")?;
    let machine = Machine::new(root);
    if machine.is_this() && !rustix::process::geteuid().is_root() {
        return Err(ServiceError::NotRoot.into());
    }
    Ok(machine)
}

pub(super) fn run(global: &Global, args: Args) -> anyhow::Result<()> {
    let machine = machine(global, args.root)?;
    let start = match (args.now, args.no_start) {
        (true, _) => Start::Now,
        (false, false) => Start::WhenJoined,
        (false, true) => Start::No,
    };
    let program = match args.program {
        Some(program) => program,
        None => std::env::current_exe().context("cannot find this program")?,
    };
    // One of another root is named as that machine sees it.
    let absolute = |path: PathBuf| if machine.is_this() { std::path::absolute(path) } else { Ok(path) };
    let config = args.config.map(absolute).transpose().context("the working directory is gone")?;
    let program = absolute(program).context("the working directory is gone")?;
    let wish = Wish { program, config, start, force: args.force };
    let mut stopped_other = false;
    let make_way = || {
        stopped_other = is_by_hand(&global.socket())? && down::stop(&global.socket())?;
        Ok(())
    };
    let done = install(&machine, &wish, make_way).inspect_err(show_differences)?;
    if global.json {
        return output::document(&Install {
            unit: done.unit,
            packaged: done.is_packaged,
            written: done.written,
            removed: done.removed,
            started: done.is_started,
            waits_for_network: done.waits_for_network,
            stopped_other,
        });
    }
    say(&machine, &done, start, stopped_other);
    Ok(())
}

/// Whether a daemon answers that is not the service.
fn is_by_hand(socket: &Path) -> anyhow::Result<bool> {
    // Whatever else is wrong with it, systemd says when it starts the service.
    let Ok(connection) = runtime()?.block_on(Connection::open(socket)) else { return Ok(false) };
    Ok(connection.daemon_pid().and_then(doctor::unit_of).is_none_or(|unit| unit != unit::NAME))
}

/// Where a person changed a file of ours, in which lines.
pub(super) fn show_differences(error: &anyhow::Error) {
    if let Some(ServiceError::Changed { differences, .. }) = error.downcast_ref() {
        lines(differences);
    }
}

/// Lines that went and came.
pub(super) fn lines(differences: &[String]) {
    differences.iter().for_each(|line| output::note(&format!("  {}", output::clean(line, 300))));
}

fn say(machine: &Machine, done: &Installed, start: Start, stopped_other: bool) {
    if !done.overwritten.is_empty() {
        output::note("replaced what was changed by hand:");
        lines(&done.overwritten);
    }
    done.written.iter().for_each(|path| output::note(&format!("wrote {}", path.display())));
    done.removed
        .iter()
        .for_each(|path| output::note(&format!("removed {}: the package's counts", path.display())));
    if stopped_other {
        output::note("the daemon that ran by hand made way");
    }
    let unit = done.unit.display();
    output::note(&match (done.is_started, done.waits_for_network) {
        (true, _) => format!("the service runs, and starts with the machine ({unit})"),
        (false, true) if machine.is_live && start != Start::No => format!(
            "the service is enabled ({unit}): join with `sudo shadowmesh up --detach smi1...`, then type `sudo shadowmesh install` again"
        ),
        (false, _) => format!("the service is enabled and starts with the machine ({unit})"),
    });
}
