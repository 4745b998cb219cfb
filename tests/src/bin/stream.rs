//! `stream` carries bytes by one TCP connection from one network namespace to another (see `shadowmesh_tests::stream`).
//!
//! Says `connected` when they begin, and prints JSON at the end. Exit 0: all came as it was sent; 1: not so (or it could not run); 2: usage.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use shadowmesh_tests::netns::End;
use shadowmesh_tests::stream::{self, Plan};

/// Carries bytes by one TCP connection at an even rate, and compares their SHA-256 at both ends.
#[derive(Debug, Parser)]
struct Arguments {
    /// Namespace of the end that connects and sends.
    #[arg(long)]
    from: String,
    /// Namespace of the end that listens.
    #[arg(long)]
    to: String,
    /// The address that it listens at.
    #[arg(long)]
    address: IpAddr,
    /// Bytes a second.
    #[arg(long, default_value_t = 250_000)]
    rate: u64,
    /// How long to send.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long either end waits for the other.
    #[arg(long, default_value_t = 90.0)]
    patience: f64,
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { from, to, address, rate, seconds, patience } = Arguments::parse();
    let [from, to] = [from, to]
        .map(|name| End { namespace: Some(PathBuf::from("/run/netns").join(name)), device: String::new() });
    let plan = Plan {
        rate,
        duration: Duration::try_from_secs_f64(seconds).context("--seconds")?,
        patience: Duration::try_from_secs_f64(patience).context("--patience")?,
    };
    let report = stream::run(&from, &to, address, plan, || drop(writeln!(io::stdout(), "connected")))
        .with_context(|| format!("to {address}"))?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
