//! The file of the matrix (`tests/lab/matrix.tsv`) has every pair of routers, and of each class one cell that is tried often enough to mean
//! something. Whether the cells are as they say is the lab's business (`scripts/lab matrix`).

use std::collections::{BTreeMap, BTreeSet};

const FILE: &str = include_str!("../lab/matrix.tsv");

/// What one host may be behind, whatever the other one is behind.
const ROUTERS: [&str; 11] = [
    "open",
    "firewall",
    "full-cone",
    "address-restricted",
    "port-restricted",
    "port-shifting",
    "symmetric",
    "carrier",
    "udp-blocked",
    "tcp-443",
    "ipv6-only",
];

/// What two hosts have in common, and what that router, or those routers, are of besides. Private addresses are behind a translation.
const TOGETHER: [(&str, &[&str]); 3] =
    [("one-nat", &["hairpin", "no-hairpin"]), ("same-lan", &TRANSLATING), ("overlapping", &TRANSLATING)];

const TRANSLATING: [&str; 7] = [
    "full-cone",
    "address-restricted",
    "port-restricted",
    "port-shifting",
    "symmetric",
    "udp-blocked",
    "tcp-443",
];

/// Tries of one cell of each class, and of the others.
const OFTEN: u32 = 20;
const SOMETIMES: u32 = 3;

#[derive(Debug, Clone, Copy)]
struct Cell {
    pair: (&'static str, &'static str),
    kind: &'static str,
    tries: u32,
    class: &'static str,
}

fn cells() -> Vec<Cell> {
    let lines = FILE.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let cells = lines.map(|line| {
        let fields: Vec<_> = line.split('\t').collect();
        let [a, b, kind, tries, reason] = fields[..] else { panic!("not five columns: {line}") };
        let tries = tries.parse().unwrap_or_else(|error| panic!("{tries}: {error}: {line}"));
        let class = reason.strip_suffix(" (quick)").unwrap_or(reason);
        Cell { pair: (a, b), kind, tries, class }
    });
    cells.collect()
}

#[test]
fn every_pair_is_there_once() {
    let mut seen = BTreeSet::new();
    for Cell { pair: (a, b), .. } in cells() {
        assert!(seen.insert(if a <= b { (a, b) } else { (b, a) }), "{a} and {b} are there twice");
    }
    let is_there = |a: &'static str, b: &'static str| seen.contains(&(a, b)) || seen.contains(&(b, a));
    let routers = ROUTERS.iter().enumerate();
    let pairs = routers.flat_map(|(at, a)| ROUTERS[at..].iter().map(move |b| (*a, *b)));
    let together = TOGETHER.iter().flat_map(|(a, all)| all.iter().map(move |b| (*a, *b)));
    let missing: Vec<_> = pairs.chain(together).filter(|(a, b)| !is_there(a, b)).collect();
    assert!(missing.is_empty(), "no cell of {missing:?}");
}

#[test]
fn every_class_has_one_kind_and_a_cell_that_is_tried_twenty_times() {
    let mut classes: BTreeMap<_, Vec<Cell>> = BTreeMap::new();
    for cell in cells() {
        assert!([OFTEN, SOMETIMES].contains(&cell.tries), "{cell:?}");
        let kinds = ["direct-udp", "direct-tcp", "relay-udp", "relay-ws"];
        assert!(kinds.contains(&cell.kind), "{cell:?}");
        classes.entry(cell.class).or_default().push(cell);
    }
    for (class, cells) in classes {
        let often = cells.iter().filter(|cell| cell.tries == OFTEN).count();
        assert_eq!(often, 1, "«{class}» has {often} cells that are tried {OFTEN} times: {cells:?}");
        let kinds: BTreeSet<_> = cells.iter().map(|cell| cell.kind).collect();
        assert_eq!(kinds.len(), 1, "«{class}» ends on {kinds:?}");
    }
}

/// `scripts/lab usual` tries those alone, and must not miss what a path can be.
#[test]
fn every_kind_of_path_is_tried_on_every_change() {
    let quick = FILE.lines().filter(|line| line.ends_with(" (quick)"));
    let kinds: BTreeSet<_> = quick.filter_map(|line| line.split('\t').nth(2)).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["direct-tcp", "direct-udp", "relay-udp", "relay-ws"]);
}
