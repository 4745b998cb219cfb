//! `shadowmesh completions`: what a shell needs to complete our command line.

use super::output;
use clap_complete::Shell;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  shadowmesh completions bash > /etc/bash_completion.d/shadowmesh")]
pub(super) struct Args {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(args: &Args, mut command: clap::Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "shadowmesh", &mut script);
    Ok(output::data(&String::from_utf8(script)?)?)
}
