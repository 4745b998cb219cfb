//! The simulated internet, a thousand seeds of it.

#![expect(clippy::print_stderr, reason = "sums and traces are for whoever runs it with --no-capture")]

use shadowmesh_tests::sim;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn a_thousand_seeds() {
    let count = number("SIM_CASES").unwrap_or(1000);
    let sum =
        sim::run_many(number("SIM_FIRST").unwrap_or(0), count).unwrap_or_else(|failed| panic!("{failed}"));
    eprintln!("{count} cases: {sum:#?}");
    assert!(sum.delivered > 100 * count, "the worlds carried data: {sum:?}");
    assert!(sum.resent > 0 && sum.rekeys > count, "and had occasion to lose some: {sum:?}");
    // A handful of cases says nothing of how often things happen.
    for (kind, floor) in FLOORS.into_iter().filter(|_| count >= 500) {
        let happened = sum.happened.get(kind).copied().unwrap_or_default();
        assert!(happened * 1000 >= floor * count, "{kind}: {happened} in {count} cases: {:?}", sum.happened);
    }
}

/// How often in a thousand cases each kind of thing happens at least, so that the thousand prove something of it: some two thirds of what chance brings.
/// Rekeys are counted apart.
const FLOORS: [(&str, u64); 13] = [
    ("roam", 80),
    ("rebind", 170),
    ("relay restart", 100),
    ("partition", 100),
    ("idle", 80),
    ("rest", 500),
    ("clock jump", 25),
    ("sleep", 25),
    ("one way blocked", 80),
    ("black hole", 80),
    ("link down", 25),
    ("freeze", 100),
    ("kill", 200),
];

#[test]
fn one_seed() {
    let seed = number("SIM_SEED").unwrap_or(0);
    let verdict = sim::run(seed, true);
    for line in &verdict.trace {
        eprintln!("{line}");
    }
    match verdict.result {
        Ok(report) => eprintln!("{:?} {report:#?}", verdict.weather),
        Err(breach) => panic!("SIM_SEED={seed} ({:?}): {breach}", verdict.weather),
    }
}

/// Writes the trace of a seed that failed into the directory that `SIM_TRACES` names.
fn keep_trace(row: &sim::Row, seed: u64) {
    if let Ok(directory) = std::env::var("SIM_TRACES") {
        let path = format!("{directory}/{}-{seed}.txt", row.name.replace(' ', "-"));
        let (_, trace) = sim::run_row(row, seed, true);
        std::fs::write(&path, trace.join("\n")).expect("a directory for traces");
    }
}

/// Each row with its seeds; `SIM_ROW=text` runs those whose name has that text, `SIM_SEED=n` one seed, with its trace, `SIM_SEEDS=n` so many.
#[test]
fn the_rows_of_the_scenario_table() {
    let wanted = std::env::var("SIM_ROW").unwrap_or_default();
    let (seed, count) = (number("SIM_SEED"), number("SIM_SEEDS"));
    let seeds = |row: &sim::Row| seed.map_or_else(|| 0..count.unwrap_or(row.seeds), |seed| seed..seed + 1);
    let rows = sim::ROWS.iter().filter(|row| row.name.contains(&wanted));
    let todo: Vec<_> = rows.flat_map(|row| seeds(row).map(move |seed| (row, seed))).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let worker = || {
        let mut failed = vec![];
        while let Some((row, at)) = todo.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let (result, trace) = sim::run_row(row, *at, seed.is_some());
            trace.iter().for_each(|line| eprintln!("{line}"));
            if let Err(breach) = result {
                keep_trace(row, *at);
                failed.push(format!("SIM_ROW='{}' SIM_SEED={at}: {breach}", row.name));
            }
        }
        failed
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
