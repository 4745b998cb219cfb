//! The service is written, enabled and started.

use super::machine::{Machine, ServiceError};
use super::settings;
use super::stamp::{Standing, differences, is_ours, stamped, standing};
use super::unit;
use crate::daemon::config_file::{self, ConfigFile};
use crate::daemon::state_dir;
use std::path::{Path, PathBuf};

/// Where the unit goes: before those of packages (systemd.unit(5)).
pub const UNIT: &str = "/etc/systemd/system/shadowmesh.service";
/// Where what makes the user goes.
pub const SYSUSERS: &str = "/etc/sysusers.d/shadowmesh.conf";
/// Where a package has its unit.
pub(super) const PACKAGED: [&str; 2] =
    ["/usr/lib/systemd/system/shadowmesh.service", "/lib/systemd/system/shadowmesh.service"];

/// When it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Now, and it is a failure where that cannot be.
    Now,
    /// Now where this host is in a network, else as soon as it is.
    WhenJoined,
    /// At the next start of the machine.
    No,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The program that the service runs.
    pub program: PathBuf,
    /// Its settings; without those that a unit of ours names already, else [`config_file::DEFAULT`].
    pub config: Option<PathBuf>,
    /// When it is started.
    pub start: Start,
    /// Whether files that a person changed are replaced.
    pub force: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// The unit that is enabled.
    pub unit: PathBuf,
    /// It is a package's.
    pub is_packaged: bool,
    /// Files that were written or replaced.
    pub written: Vec<PathBuf>,
    /// Files that were removed, because a package's unit takes their place.
    pub removed: Vec<PathBuf>,
    /// What was given up with `--force`, lines that went and came.
    pub overwritten: Vec<String>,
    /// Whether the daemon runs as a service now.
    pub is_started: bool,
    /// Nothing was started because this host is in no network yet.
    pub waits_for_network: bool,
}

/// Does it. `make_way` is called before the service is started: a daemon that runs by hand has the state directory.
///
/// # Errors
/// See [`ServiceError`]; nothing is changed where something is refused.
pub fn install(
    machine: &Machine,
    wish: &Wish,
    make_way: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Installed> {
    let has_network = machine.at(state_dir::DEFAULT).join(state_dir::NETWORK).exists();
    if machine.is_this() && !machine.is_live && wish.start != Start::No {
        return Err(ServiceError::NoSystemd.into());
    }
    if wish.start == Start::Now && !has_network {
        return Err(ServiceError::NoNetwork.into());
    }
    let default = Path::new(config_file::DEFAULT);
    let config = match &wish.config {
        Some(config) => config.clone(),
        None => config_before(machine)?.unwrap_or_else(|| default.into()),
    };
    let ways = [UNIT, SYSUSERS, state_dir::DEFAULT, PACKAGED[0], PACKAGED[1], "/etc/passwd"].map(Path::new);
    machine.check_inside(&[&ways[..], &[default, config.as_path(), wish.program.as_path()][..]].concat())?;
    let program = machine.check_program(&wish.program)?;
    // The default one is made where it is not there.
    if config != default || machine.at(default).exists() {
        ConfigFile::new(machine.at(&config)).read().map_err(ServiceError::from)?;
    }
    let text = unit::text(&program, &config)
        .map_err(|fault| ServiceError::Settings { path: config.clone(), fault })?;

    let packaged = packaged(machine, &text)?;
    let mut done = Installed { unit: packaged.unwrap_or(UNIT).into(), ..Installed::default() };
    done.is_packaged = packaged.is_some();
    let plan = plan(machine, wish, &text, packaged.is_some(), config == default, &mut done)?;
    for (path, text) in &plan.write {
        machine.write(path, text)?;
        done.written.push(path.into());
    }
    for path in plan.remove {
        machine.remove(path)?;
        done.removed.push(path.into());
    }
    if !machine.has_user()? {
        machine.make_user(SYSUSERS)?;
    }
    if machine.is_live {
        machine.systemctl(&["daemon-reload"])?;
    }
    machine.systemctl(&["enable", unit::NAME])?;
    done.waits_for_network = !has_network;
    if machine.is_live && wish.start != Start::No && has_network {
        make_way()?;
        // Nothing is interrupted where nothing changed.
        let is_new = done.written.iter().chain(&done.removed).any(|path| path == Path::new(UNIT));
        let verb = if is_new { "restart" } else { "start" };
        if let Err(error) = machine.systemctl(&[verb, unit::NAME]) {
            return Err(machine.last_failure().map_or(error, ServiceError::DoesNotStart).into());
        }
        done.is_started = true;
    }
    Ok(done)
}

/// The settings that a unit of ours names: who installs again, in another version or once this host has joined, need not say them again.
fn config_before(machine: &Machine) -> Result<Option<PathBuf>, ServiceError> {
    Ok(machine.read(UNIT)?.filter(|found| is_ours(found)).and_then(|found| unit::config_in([&*found])))
}

/// Whether a package has a unit of this name here, whatever it says.
pub(super) fn has_package(machine: &Machine) -> Result<bool, ServiceError> {
    for path in PACKAGED {
        if machine.read(path)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The unit of a package, where it is just the one that is wanted.
fn packaged(machine: &Machine, wanted: &str) -> Result<Option<&'static str>, ServiceError> {
    for path in PACKAGED {
        if machine.read(path)?.is_some_and(|found| found == wanted) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// What is written and removed.
struct Plan {
    write: Vec<(&'static str, String)>,
    remove: Vec<&'static str>,
}

fn plan(
    machine: &Machine,
    wish: &Wish,
    unit_text: &str,
    is_packaged: bool,
    has_default_config: bool,
    done: &mut Installed,
) -> Result<Plan, ServiceError> {
    let mut plan = Plan { write: Vec::new(), remove: Vec::new() };
    let found = machine.read(UNIT)?;
    let wanted = stamped(unit_text);
    let is = standing(found.as_deref(), &wanted);
    if is == Standing::Changed {
        let differences = differences(found.as_deref().unwrap_or_default(), unit_text);
        if !wish.force {
            return Err(ServiceError::Changed { path: UNIT.into(), differences });
        }
        done.overwritten = differences;
    }
    if is_packaged {
        // It would hide the package's, now and after each upgrade.
        if is != Standing::Absent {
            plan.remove.push(UNIT);
        }
    } else if is != Standing::Same {
        plan.write.push((UNIT, wanted));
    }
    // A user that is there already is another's to remove.
    let wanted = stamped(unit::SYSUSERS);
    match standing(machine.read(SYSUSERS)?.as_deref(), &wanted) {
        Standing::Absent if !machine.has_user()? => plan.write.push((SYSUSERS, wanted)),
        Standing::Ours => plan.write.push((SYSUSERS, wanted)),
        Standing::Absent | Standing::Same | Standing::Changed => {}
    }
    if has_default_config && machine.read(config_file::DEFAULT)?.is_none() {
        plan.write.push((config_file::DEFAULT, settings::laid_out()));
    }
    Ok(plan)
}
