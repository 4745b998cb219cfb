//! `wire` joins two devices through a bad line (see `shadowmesh_tests::wire`).
//!
//! Says `ready` when frames pass. Reads commands from standard input, one a line: `both FAULTS`, `a-to-b FAULTS`,
//! `b-to-a FAULTS` replace what is wrong (nothing after the word: a perfect line), `report` prints a line of JSON. Runs until killed.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use clap::Parser;
use shadowmesh_tests::netns::End;
use shadowmesh_tests::wire::join::{Direction, join};
use shadowmesh_tests::wire::settings::Settings;

/// Joins two devices through a line with delay, loss, reordering and other faults.
///
/// Faults are written delay=20ms,jitter=5ms,loss=1%,burst=0.1%x8,duplicate=1%,reorder=1%,rate=50mbit,queue=100ms,mtu=1280,nth=udp:50,only=udp,block
#[derive(Debug, Parser)]
struct Arguments {
    /// One end, NAMESPACE:DEVICE.
    #[arg(long)]
    a: End,
    /// The other end.
    #[arg(long)]
    b: End,
    /// Faults of both directions.
    #[arg(long, default_value = "")]
    both: Settings,
    /// Faults from a to b, instead of those of both.
    #[arg(long)]
    a_to_b: Option<Settings>,
    /// Faults from b to a, instead of those of both.
    #[arg(long)]
    b_to_a: Option<Settings>,
    /// Decides every chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let Arguments { a, b, both, a_to_b, b_to_a, seed } = Arguments::parse();
    let forth = Direction::new(a_to_b.unwrap_or_else(|| both.clone()), seed);
    let back = Direction::new(b_to_a.unwrap_or(both), !seed);
    let directions = Arc::new([forth, back]);
    // Not waited for: it may stand in a read for ever, and the end of the line is the end of the program.
    let listening = Arc::clone(&directions);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if let Err(error) = obey(&line, &listening) {
                drop(writeln!(io::stderr(), "wire: {line:?}: {error:#}"));
            }
        }
    });
    join([&a, &b], &directions, || drop(writeln!(io::stdout(), "ready")))
        .with_context(|| format!("joining {a:?} and {b:?}"))
}

fn obey(line: &str, directions: &[Direction; 2]) -> anyhow::Result<()> {
    let (word, faults) = line.trim().split_once(' ').unwrap_or_else(|| (line.trim(), ""));
    let chosen = match word {
        "both" => &directions[..],
        "a-to-b" => &directions[..1],
        "b-to-a" => &directions[1..],
        "report" => {
            let [a_to_b, b_to_a] = directions.each_ref().map(Direction::report);
            writeln!(io::stdout(), "{}", serde_json::json!({"a_to_b": a_to_b, "b_to_a": b_to_a}))?;
            return Ok(());
        }
        _ => anyhow::bail!("say both, a-to-b, b-to-a or report"),
    };
    let settings: Settings = faults.parse()?;
    for direction in chosen {
        direction.change(settings.clone());
    }
    Ok(())
}
