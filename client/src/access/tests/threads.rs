//! Both threads at once, on a table that is far too small for what passes through it.

use super::super::table::{State, Table};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Spread as fingerprints are.
fn fingerprint(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Of each flow the state that it was inserted with is all that anybody ever gives it; so whoever finds it in another has found
/// another flow.
fn state(n: u64) -> State {
    if n.is_multiple_of(2) { State::TcpOpen } else { State::UdpAnswered }
}

#[test]
fn nobody_finds_or_changes_the_flow_of_another() {
    const FLOWS: u64 = 200_000;
    let table = Table::new(64);
    let inserted = AtomicU64::new(0);
    let found = std::thread::scope(|scope| {
        let inbound = scope.spawn(|| {
            let (mut found, mut asked) = (0u64, 0u64);
            loop {
                let newest = inserted.load(SeqCst);
                // Around the newest, where places change hands, and beyond, where nothing is.
                for n in newest.saturating_sub(40)..newest + 2 {
                    if let Some(flow) = table.find(fingerprint(n), 1) {
                        assert_eq!(flow.state, state(n), "flow {n}");
                        flow.see(1 + u32::try_from(asked % 3).unwrap(), flow.state);
                        found += 1;
                    }
                    asked += 1;
                }
                // Nothing beyond what was inserted by now is ever found.
                let newest = inserted.load(SeqCst);
                assert!(table.find(fingerprint(newest + FLOWS), 1).is_none());
                if newest == FLOWS {
                    return found;
                }
            }
        });
        for n in 0..FLOWS {
            assert!(table.insert(fingerprint(n), 1, state(n)));
            let flow = table.find(fingerprint(n), 1);
            assert_eq!(flow.map(|flow| flow.state), Some(state(n)), "flow {n} after it was inserted");
            inserted.store(n + 1, SeqCst);
        }
        inbound.join().expect("no assertion failed")
    });
    assert!(found > 0, "both ran at once, or the last forty were found at the end");
    let held = (0..FLOWS).filter(|n| table.find(fingerprint(*n), 1).is_some()).count();
    assert!((1..=64).contains(&held), "{held}");
}
