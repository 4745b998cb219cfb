//! `shadowmesh-relay`: see the library.

use clap::Parser as _;
use shadowmesh_relay::cli::Cli;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Standard error, so that the ticket is alone on standard output; journald adds the time itself.
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_env_filter(
            EnvFilter::builder()
                .with_default_directive(tracing::Level::INFO.into())
                .with_env_var("SHADOWMESH_LOG")
                .from_env_lossy(),
        );
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.init();
    }
    match cli.execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "an error of the command line goes to its user as one plain sentence"
)]
fn report(error: &anyhow::Error) {
    eprintln!("shadowmesh-relay: {error:#}");
}
