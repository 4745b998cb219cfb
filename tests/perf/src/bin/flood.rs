//! The highest rate at which datagrams arrive between two network namespaces (`shadowmesh_perf::flood`), as JSON.

use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use serde_json::json;
use shadowmesh_perf::flood::{Plan, run};

/// Floods an address with datagrams and says how many a second arrive at best.
#[derive(Debug, Parser)]
struct Arguments {
    /// Namespace of the sender, as `ip netns` knows it.
    #[arg(long)]
    from: String,
    /// Namespace of the receiver.
    #[arg(long)]
    to: String,
    /// Where the receiver is to listen, an address of its namespace.
    #[arg(long)]
    address: SocketAddrV4,
    /// Bytes of UDP payload.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(4..=65_507))]
    size: u16,
    /// Milliseconds of each step.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(20..=60_000))]
    step_ms: u64,
    /// How many steps.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=100))]
    steps: u16,
    /// Many datagrams go to the kernel as one (`UDP_SEGMENT`).
    #[arg(long)]
    segmented: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let namespace = |name: &str| PathBuf::from("/run/netns").join(name);
    let steps = run(&Plan {
        from: namespace(&arguments.from),
        to: namespace(&arguments.to),
        address: arguments.address,
        size: usize::from(arguments.size),
        step: Duration::from_millis(arguments.step_ms),
        steps: usize::from(arguments.steps),
        segmented: arguments.segmented,
    })?;
    let best = steps.iter().map(|step| step.arrived).fold(0.0, f64::max);
    let document = json!({
        "size": arguments.size,
        "arrived_per_s": best.round(),
        "steps": steps.iter().map(|step| json!({"sent_per_s": step.sent.round(), "arrived_per_s": step.arrived.round()})).collect::<Vec<_>>(),
    });
    writeln!(io::stdout().lock(), "{document}").context("stdout")
}
