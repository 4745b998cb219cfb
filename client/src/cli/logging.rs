//! Where the log goes and how much of it there is.

use super::output;
use anyhow::Context as _;
use std::io;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The variables that set the filter, the first that is set wins.
const VARIABLES: [&str; 2] = ["SHADOWMESH_LOG", "RUST_LOG"];

/// Starts logging to stderr.
///
/// On a terminal the progress lines speak and the log only warns; a service logs what happened (`info`), without time and
/// colour where the journal adds its own.
pub(super) fn start() -> anyhow::Result<()> {
    let journal = output::is_journal();
    let chosen = VARIABLES
        .into_iter()
        .find_map(|name| Some((name, std::env::var(name).ok().filter(|v| !v.is_empty())?)));
    let filter = match chosen {
        Some((name, text)) => {
            EnvFilter::try_new(&text).with_context(|| format!("{name}={text} is not a log filter"))?
        }
        None => EnvFilter::new(if journal { "info" } else { "warn" }),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(output::stderr_is_terminal())
        .with_writer(Stderr);
    let started = if journal { log.without_time().try_init() } else { log.try_init() };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// stderr as [`output`] shares it with the spinner.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = io::StderrLock<'static>;

    fn make_writer(&'a self) -> Self::Writer {
        output::stderr()
    }
}
