//! `oracle run` counts what a tunnel does to numbered frames; `oracle recover` measures until frames pass both ways.
//!
//! Prints JSON on stdout. Exit 0: within the limits; 1: beyond them (or it could not run); 2: usage.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use shadowmesh_tests::netns::End;
use shadowmesh_tests::oracle::report::Limits;
use shadowmesh_tests::oracle::run::{self, Span, Traffic};

/// Counts lost, duplicated, reordered and corrupted frames between two devices in two network namespaces.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Sends for a while in both directions and judges what arrived.
    Run {
        #[command(flatten)]
        ends: Ends,
        #[command(flatten)]
        traffic: Traffic,
        /// How long to send.
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        /// Waits so many seconds for devices that are not there yet and for the first frame each way. What was sent before that does not count, and
        /// the time to send begins with it.
        #[arg(long)]
        from_first: Option<f64>,
        /// How long to wait for late frames.
        #[arg(long, default_value_t = 2000)]
        settle_ms: u64,
        /// Lists silences of at least this length.
        #[arg(long, default_value_t = 100)]
        note_gap_ms: u64,
        #[command(flatten)]
        limits: Limits,
    },
    /// Sends until a frame has passed in each direction and prints how long that took.
    Recover {
        #[command(flatten)]
        ends: Ends,
        #[command(flatten)]
        traffic: Traffic,
        /// Gives up after this long.
        #[arg(long, default_value_t = 30.0)]
        deadline: f64,
    },
}

#[derive(Debug, clap::Args)]
struct Ends {
    /// One end, NAMESPACE:DEVICE.
    #[arg(long)]
    a: End,
    /// The other end.
    #[arg(long)]
    b: End,
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().action {
        Action::Run { ends, traffic, seconds, from_first, settle_ms, note_gap_ms, limits } => {
            let duration = Duration::try_from_secs_f64(seconds).context("--seconds")?;
            let patience = from_first.map(Duration::try_from_secs_f64).transpose().context("--from-first")?;
            let [settle, noted] = [settle_ms, note_gap_ms].map(Duration::from_millis);
            let report =
                run::run([&ends.a, &ends.b], &traffic, Span { patience, duration, settle }, noted, &limits)
                    .with_context(|| format!("between {ends:?}"))?;
            writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
            for sentence in &report.broken {
                writeln!(io::stderr(), "oracle: {sentence}")?;
            }
            Ok(if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Action::Recover { ends, traffic, deadline } => {
            let deadline = Duration::try_from_secs_f64(deadline).context("--deadline")?;
            let took = run::recover([&ends.a, &ends.b], &traffic, deadline)
                .with_context(|| format!("between {ends:?}"))?
                .map(|took| took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
            let [a_to_b, b_to_a] = took;
            let both = a_to_b.zip(b_to_a).map(|(a, b)| a.max(b));
            let report = serde_json::json!({"a_to_b_ms": a_to_b, "b_to_a_ms": b_to_a, "both_ms": both});
            writeln!(io::stdout(), "{report}")?;
            Ok(if both.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}
