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
}

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
