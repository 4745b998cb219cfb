//! `shadowmesh config`: the settings that there are.

use super::output;
use crate::config::Config;

/// Print a file of settings that explains each key, with its unit, its range and its default
///
/// Everything in it is commented out. `up --config FILE` takes such a file, as the service does with /etc/shadowmesh/config.toml; `up` remembers what it
/// is given in a file of the same form. `reload` reads both again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  shadowmesh config | grep -A 4 idle\n  shadowmesh config > shadowmesh.toml && sudo shadowmesh up --config shadowmesh.toml"
)]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> anyhow::Result<()> {
    Ok(output::data(Config::example().trim_end())?)
}
