//! The properties without a fuzzer: with every input that is committed, and with some that are near to one.
//!
//! Always the same ones, so that a change that breaks a property fails here at once. New ones are found by `scripts/fuzz`.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use shadowmesh_properties::script::Script;
use shadowmesh_properties::{TARGETS, Target};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The inputs of a target that are committed: those that it makes itself, and those that were found.
fn committed(target: &Target) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = fs::read_dir(fuzz().join("seeds").join(target.name))
        .expect("the directory of the target")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files.iter().map(|file| fs::read(file).expect("a readable one")).collect()
}

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).expect("a target")
}

/// Every committed input, then `cases` that are near to some.
fn holds(name: &str, cases: u32) {
    let target = target(name);
    let inputs = committed(&target);
    for input in &inputs {
        (target.check)(input);
    }
    let all: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(23),
        ..ProptestConfig::default()
    };
    let near =
        (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, script)| {
            let mut input = at.get(&inputs).clone();
            Script::new(&script).damage(&mut input, &all);
            input
        });
    let tried = Cell::new(0);
    proptest!(config, |(input in near)| {
        (target.check)(&input);
        tried.set(tried.get() + 1);
    });
    assert_eq!(tried.get(), cases);
}

macro_rules! targets {
    ($($name:ident $cases:literal)*) => {
        $(
            #[test]
            fn $name() {
                holds(stringify!($name), $cases);
            }
        )*

        #[test]
        fn every_target_has_its_program_its_seeds_and_its_test() {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            let listed = |directory: &str| -> BTreeSet<String> {
                let entries = fs::read_dir(fuzz().join(directory)).unwrap();
                entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
            };
            let expected: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!(listed("fuzz_targets"), expected);
            assert_eq!(listed("seeds"), expected);
            let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
            for name in names {
                let program = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
                assert!(program.contains(&format!("shadowmesh_properties::{name}::check(bytes)")), "{program}");
                assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")));
            }
        }
    };
}

targets! {
    chain 1000
    exchange 800
    judge 500
    packet 5000
    payload 5000
    peer 5000
    record 400
    relay 5000
    rules 3000
    statement 1500
    stun 5000
    ticket 3000
}

#[test]
fn the_committed_seeds_are_those_that_the_targets_make() {
    for target in TARGETS {
        let committed = committed(&target);
        for seed in (target.seeds)() {
            assert!(
                committed.contains(&seed),
                "run `cargo run -p shadowmesh-properties --example seeds fuzz/seeds`: {}",
                target.name
            );
        }
    }
}
