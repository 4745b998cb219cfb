//! What a run says at its end: JSON for scripts, and sentences for what was beyond the limits.

use serde::Serialize;

use super::ledger::Tally;

/// How much of each fault is allowed, per direction.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Limits {
    /// Frames that may be lost in each direction.
    #[arg(long, default_value_t = 0)]
    pub max_lost: u64,
    /// Frames that may arrive twice in each direction.
    #[arg(long, default_value_t = 0)]
    pub max_duplicated: u64,
    /// Frames that may arrive late in each direction.
    #[arg(long, default_value_t = 0)]
    pub max_reordered: u64,
    /// Frames that may arrive damaged in each direction.
    #[arg(long, default_value_t = 0)]
    pub max_corrupted: u64,
    /// The longest silence allowed, in milliseconds; not judged unless given.
    #[arg(long)]
    pub max_gap_ms: Option<u64>,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Reproduces the sizes of the frames.
    pub seed: u64,
    /// Frames a second, each way.
    pub rate: u32,
    /// Wall clock at the start, milliseconds since 1970, to lay logs beside the gaps.
    pub started_unix_ms: u64,
    /// From the first end to the second.
    pub a_to_b: Direction,
    /// From the second end to the first.
    pub b_to_a: Direction,
    /// Frames lost by the oracle itself: its sockets were read too slowly. The run is no verdict unless this is 0.
    pub oracle_dropped: u64,
    /// What was beyond the limits, a sentence each.
    pub broken: Vec<String>,
}

/// One direction of a run.
#[derive(Debug, Serialize)]
pub struct Direction {
    sent: u64,
    received: u64,
    lost: u64,
    /// Which: numbers and how many from there on; number n was sent n / rate seconds after the start.
    missing: Vec<[u64; 2]>,
    duplicated: u64,
    reordered: u64,
    corrupted: u64,
    reflected: u64,
    /// Of `lost`: frames that the device's full queue refused at once.
    refused: u64,
    /// When the first frame arrived, since the start; `null` when none did.
    first_ms: Option<f64>,
    longest_gap_ms: f64,
    gaps: Vec<Silence>,
    delay_ms: Delay,
}

#[derive(Debug, Serialize)]
struct Silence {
    at_ms: f64,
    ms: f64,
}

#[derive(Debug, Serialize)]
struct Delay {
    p50: f64,
    p99: f64,
    max: f64,
}

fn milliseconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

impl Direction {
    /// The printed form of a tally.
    #[must_use]
    pub fn new(tally: &Tally, refused: u64) -> Self {
        let [p50, p99, max] = tally.delay.map(milliseconds);
        Self {
            sent: tally.sent,
            received: tally.received,
            lost: tally.lost,
            missing: tally.missing.iter().map(|run| [run.first, run.count]).collect(),
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            corrupted: tally.corrupted,
            reflected: tally.reflected,
            refused,
            first_ms: tally.first.map(milliseconds),
            longest_gap_ms: milliseconds(tally.longest_gap),
            gaps: tally
                .gaps
                .iter()
                .map(|gap| Silence { at_ms: milliseconds(gap.at), ms: milliseconds(gap.length) })
                .collect(),
            delay_ms: Delay { p50, p99, max },
        }
    }
}

/// What in this direction is beyond the limits. A reflection always is.
#[must_use]
pub fn beyond(limits: &Limits, name: &str, tally: &Tally) -> Vec<String> {
    let counts = [
        ("lost", tally.lost, limits.max_lost),
        ("duplicated", tally.duplicated, limits.max_duplicated),
        ("reordered", tally.reordered, limits.max_reordered),
        ("corrupted", tally.corrupted, limits.max_corrupted),
        ("reflected", tally.reflected, 0),
    ];
    let mut broken: Vec<_> = counts
        .into_iter()
        .filter(|(_, count, limit)| count > limit)
        .map(|(word, count, limit)| {
            format!("{name}: {count} of {} frames {word}, {limit} allowed", tally.sent)
        })
        .collect();
    if let Some(limit) = limits.max_gap_ms
        && tally.longest_gap.as_millis() > u128::from(limit)
    {
        broken.push(format!("{name}: silent for {} ms, {limit} allowed", tally.longest_gap.as_millis()));
    }
    if tally.sent == 0 {
        broken.push(format!("{name}: nothing was sent"));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_fault_breaks_its_own_limit_and_no_other() {
        let clean = Tally { sent: 10, received: 10, ..Tally::default() };
        assert_eq!(beyond(&Limits::default(), "x", &clean), Vec::<String>::new());
        let cases = [
            (Tally { lost: 1, ..clean.clone() }, "lost"),
            (Tally { duplicated: 1, ..clean.clone() }, "duplicated"),
            (Tally { reordered: 1, ..clean.clone() }, "reordered"),
            (Tally { corrupted: 1, ..clean.clone() }, "corrupted"),
            (Tally { reflected: 1, ..clean.clone() }, "reflected"),
            (Tally { sent: 0, ..clean.clone() }, "nothing"),
        ];
        for (tally, word) in cases {
            let broken = beyond(&Limits::default(), "x", &tally);
            assert_eq!(broken.len(), 1, "{broken:?}");
            assert!(broken[0].contains(word));
        }
    }

    #[test]
    fn a_limit_allows_what_it_says() {
        let tally = Tally { sent: 10, lost: 2, longest_gap: Duration::from_millis(80), ..Tally::default() };
        let limits = Limits { max_lost: 2, max_gap_ms: Some(80), ..Limits::default() };
        assert_eq!(beyond(&limits, "x", &tally), Vec::<String>::new());
        assert_eq!(beyond(&Limits { max_gap_ms: Some(79), ..limits }, "x", &tally).len(), 1);
        assert_eq!(beyond(&Limits { max_lost: 1, ..limits }, "x", &tally).len(), 1);
    }
}
