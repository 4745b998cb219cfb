//! A path in virtual time, against a peer that answers or does not.

use super::*;
use crate::rng::{Rng as _, SeededRng};
use std::collections::VecDeque;

const RTT: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_millis(10);

/// Runs a path in virtual time against a peer that answers each PING after `rtt` while `answers` is true.
struct Run {
    now: Instant,
    start: Instant,
    path: Path,
    next_id: u64,
    rtt: Duration,
    in_flight: VecDeque<(Instant, u64)>,
    answers: bool,
    pings: usize,
}

impl Run {
    fn new() -> Self {
        let now = Instant::now();
        let path = Path::new(now, PathKind::RelayWs);
        let in_flight = VecDeque::new();
        Self { now, start: now, path, next_id: 0, rtt: RTT, in_flight, answers: true, pings: 0 }
    }

    /// A proven path that nothing better is known of than of one that loses much.
    fn shunned() -> Self {
        let mut run = Self::new();
        run.for_secs(1, |_, _| ());
        run.path.loss.shun(run.now);
        run
    }

    fn for_secs(&mut self, secs: u64, each_10ms: impl FnMut(&mut Path, Instant)) {
        self.for_ticks(secs * 100, each_10ms);
    }

    fn for_ticks(&mut self, ticks: u64, mut each_10ms: impl FnMut(&mut Path, Instant)) {
        for _ in 0..ticks {
            self.now += TICK;
            while let Some((_, id)) = self.in_flight.pop_front_if(|(at, _)| *at <= self.now) {
                self.path.on_pong(self.now, id);
            }
            each_10ms(&mut self.path, self.now);
            self.path.handle_timeout(self.now);
            if self.path.poll_ping(self.now).is_some() {
                self.pings += 1;
                self.next_id += 1;
                self.path.on_ping_sent(self.now, self.next_id);
                if self.answers {
                    self.in_flight.push_back((self.now + self.rtt, self.next_id));
                }
            }
        }
    }
}

#[test]
fn a_path_that_answers_is_proven_and_an_idle_one_costs_one_ping_a_heartbeat() {
    let mut run = Run::new();
    assert!(!run.path.is_usable());
    run.for_secs(1, |_, _| ());
    assert!(run.path.is_usable());
    assert_eq!(run.path.rtt(), Some(RTT));
    run.pings = 0;
    run.for_secs(60, |_, _| ());
    assert_eq!(run.pings, 4, "60 s at {HEARTBEAT:?}");
    assert!(run.path.is_usable());
}

#[test]
fn a_path_rests_when_its_data_is_confirmed_and_not_before() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.path.on_data_sent(run.now);
    run.path.rest();
    assert!(run.path.is_proven());
    run.for_secs(1, |path, _| path.rest());
    assert!(run.path.is_resting(), "a PING has asked");
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.path.on_data_sent(run.now);
    run.answers = false;
    run.for_secs(1, |path, _| path.rest());
    assert!(run.path.is_suspect(), "it swallowed that");
    // What is small is acknowledged, what is large is not answered.
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.answers = false;
    run.for_ticks(10, |path, now| path.on_data_sent(now));
    run.for_ticks(95, |path, now| {
        path.on_ack(now);
        path.rest();
    });
    assert!(run.path.is_suspect(), "it swallowed what is large");
}

#[test]
fn a_doubt_that_the_first_ping_ends_swallowed_nothing_and_one_that_a_later_question_ends_did() {
    for (is_checked, was_lost) in [(false, false), (false, true), (true, true)] {
        let mut run = Run::new();
        run.for_secs(1, |_, _| ());
        run.answers = !was_lost;
        run.path.question(run.now);
        let asked = run.now;
        let mut was_suspect = false;
        for _ in 0..100 {
            run.for_ticks(1, |_, _| ());
            was_suspect |= run.path.is_suspect();
            run.answers |= run.now >= asked + Duration::from_millis(250);
            if is_checked && run.now == asked + Duration::from_millis(260) {
                run.path.on_checked(run.now, RTT, 1400);
            }
        }
        assert!(run.path.is_proven());
        assert_eq!(was_suspect, was_lost, "checked: {is_checked}");
        assert_eq!(run.path.take_swallowed(), was_lost, "checked: {is_checked}");
        assert!(!run.path.take_swallowed(), "it is said once");
    }
}

#[test]
fn a_path_that_never_answers_dies_in_three_seconds() {
    let mut run = Run::new();
    run.answers = false;
    run.for_secs(2, |_, _| ());
    assert!(!run.path.is_dead());
    run.for_secs(1, |_, _| ());
    assert!(run.path.is_dead());
    assert!(!run.path.is_usable());
    assert!(run.pings >= 4, "several tries: {}", run.pings);
    assert_eq!(run.path.poll_timeout(), None);
}

#[test]
fn unconfirmed_data_kills_a_silent_path_within_the_bound_even_while_it_receives() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.answers = false;
    let blocked = run.now;
    let mut died = None;
    run.for_secs(5, |path, now| {
        path.on_data_sent(now);
        if path.is_dead() && died.is_none() {
            died = Some(now);
        }
    });
    let took = died.expect("dead") - blocked;
    // Each of the two steps is taken at the next of the run's ticks, and the first data leaves a tick after the block.
    let ticks = Duration::from_millis(30);
    assert!(took <= DEAD_AFTER + suspicion_after(Some(RTT)) + ticks, "{took:?}");
}

#[test]
fn whoever_changes_networks_while_a_path_swallows_what_is_large_learns_of_it_no_later() {
    for (is_shaken, after_ms) in [(false, 200), (false, 400), (false, 900), (true, 600), (true, 900)] {
        let mut run = Run::new();
        let small = |path: &mut Path, now: Instant| {
            path.on_data_sent(now);
            path.on_ack(now);
        };
        run.for_secs(2, small);
        // What is small is acknowledged on, a PING is not.
        run.answers = false;
        run.for_ticks(after_ms / 10, small);
        if is_shaken {
            run.path.shake(run.now)
        } else {
            run.path.question(run.now)
        }
        let known = run.path.known_at().unwrap();
        let mut died = None;
        run.for_secs(4, |path, now| {
            small(path, now);
            if path.is_dead() {
                died.get_or_insert(now);
            }
        });
        let took = died.expect("dead") - known;
        assert!(took <= DEAD_AFTER + 3 * TICK, "shaken: {is_shaken}, after {after_ms} ms: {took:?}");
    }
}

#[test]
fn a_path_that_carries_pings_and_swallows_data_is_dead_within_the_bound() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    let began = run.now;
    let mut died = None;
    run.for_secs(5, |path, now| {
        path.on_data_sent(now);
        if path.is_dead() {
            died.get_or_insert(now);
        }
    });
    let after = died.expect("dead") - began;
    assert!(after >= Duration::from_secs(2) && after <= Duration::from_secs(3), "{after:?}");
}

#[test]
fn on_a_path_of_up_to_400_ms_it_is_dead_3_s_after_the_last_data_that_passed() {
    // At whatever moment of the PINGs it begins.
    for (rtt, phase) in (20..=400).step_by(20).flat_map(|rtt| (0..10).map(move |phase| (rtt, phase))) {
        let mut run = Run::new();
        run.rtt = Duration::from_millis(rtt);
        run.for_secs(2, |_, _| ());
        let began = run.now + Duration::from_millis(1000 + 90 * phase);
        let mut died = None;
        let (mut acked, round) = (run.now, run.rtt);
        run.for_secs(6, |path, now| {
            path.on_data_sent(now);
            // Each 20 ms the peer says what it has, for as long as what passed and that take.
            if now - acked >= 2 * TICK && now <= began + round + 2 * TICK {
                acked = now;
                path.on_ack(now);
            }
            if path.is_dead() {
                died.get_or_insert(now);
            }
        });
        let took = died.expect("dead") - began;
        assert!(took <= Duration::from_secs(3), "{took:?} at {rtt} ms, phase {phase}");
        assert!(took >= UNACKNOWLEDGED_DEAD, "{took:?} at {rtt} ms, phase {phase}");
    }
}

#[test]
fn a_peer_that_stands_still_is_silent_and_swallows_nothing() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.for_secs(1, |path, now| {
        path.on_data_sent(now);
        path.on_ack(now);
    });
    // It answers once and stops: for as long as a path may be silent this one is.
    let mut is_first = true;
    run.path.on_data_sent(run.now);
    run.path.want_ping(run.now);
    run.for_ticks(3, |_, _| ());
    run.answers = false;
    let stopped = run.now;
    run.for_secs(5, |path, now| {
        path.on_data_sent(now);
        if path.is_dead() && std::mem::take(&mut is_first) {
            assert!(now - stopped > Duration::from_millis(2300), "{:?}", now - stopped);
        }
    });
    assert!(!is_first);
}

#[test]
fn acknowledgements_that_are_rare_or_late_are_no_swallowing() {
    // One each second.
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    let mut tick = 0;
    run.for_secs(60, |path, now| {
        tick += 1;
        path.on_data_sent(now);
        if tick % 100 == 0 {
            path.on_ack(now);
        }
    });
    assert!(run.path.is_usable());
    // A few packets, the last acknowledgement of which is lost: not for a moment is there a doubt.
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    (0..5).for_each(|_| run.path.on_data_sent(run.now));
    run.for_secs(60, |path, _| assert!(path.is_proven()));
    // Nor when the first PING that asks about it is lost as well.
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.path.on_data_sent(run.now);
    run.pings = 0;
    run.answers = false;
    while run.pings == 0 {
        run.for_ticks(1, |_, _| ());
    }
    run.answers = true;
    run.for_secs(60, |path, _| assert!(path.is_proven()));
    // A peer that is frozen for a while answers before it acknowledges.
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.answers = false;
    run.for_secs(2, |path, now| path.on_data_sent(now));
    run.answers = true;
    run.for_secs(1, |path, now| path.on_data_sent(now));
    run.path.on_ack(run.now);
    assert!(run.path.is_proven());
}

#[test]
fn a_busy_path_is_asked_for_what_is_largest_however_well_acks_come() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.pings = 0;
    let busy = |path: &mut Path, now| {
        path.on_data_sent(now);
        path.on_ack(now);
    };
    run.for_secs(60, busy);
    assert!((100..=120).contains(&run.pings), "{} in a minute", run.pings);
    assert!(run.path.is_proven());
    // Small packets pass and are acknowledged; the large ones do not.
    run.answers = false;
    let blocked = run.now;
    let mut left = None;
    run.for_secs(5, |path, now| {
        busy(path, now);
        if !path.is_usable() && left.is_none() {
            left = Some(now);
        }
    });
    let took = left.expect("not called connected any more") - blocked;
    assert!(took <= Duration::from_secs(3) + Duration::from_millis(30), "{took:?}");
}

#[test]
fn a_busy_path_whose_round_trip_grows_to_three_seconds_stays_alive() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    let busy = |path: &mut Path, now| {
        path.on_data_sent(now);
        path.on_ack(now);
        assert!(path.is_usable(), "rtt {:?}", path.rtt());
    };
    while run.rtt < Duration::from_secs(3) {
        run.rtt += Duration::from_millis(20);
        run.for_secs(10, busy);
    }
    assert!(run.path.rtt() > Some(Duration::from_millis(2800)));
    run.pings = 0;
    run.for_secs(120, |path, now| {
        busy(path, now);
        assert!(path.is_proven());
    });
    assert!((60..=240).contains(&run.pings), "{} in two minutes", run.pings);
    // And is dead when it falls silent.
    run.answers = false;
    run.for_secs(20, |path, now| path.on_data_sent(now));
    assert!(run.path.is_dead());
}

#[test]
fn a_few_lost_pings_are_no_suspicion() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    for _ in 0..100 {
        // As long as two of three in a row are lost.
        run.answers = false;
        run.for_secs(15, |path, now| {
            assert!(path.is_proven());
            if !path.challenges.is_empty() && path.asked.is_some_and(|asked| now >= asked + PROBE_INTERVAL) {
                let id = path.challenges.newest_for_test();
                path.on_pong(now, id);
            }
        });
    }
}

#[test]
fn a_path_that_loses_a_fifth_each_way_is_no_silent_one() {
    let mut rng = SeededRng::new(3);
    let mut loses = move || rng.next_u32().is_multiple_of(5);
    let (mut run, mut came, mut highest) = (Run::new(), VecDeque::new(), 0);
    run.for_secs(1, |_, _| ());
    for _ in 0..600 * 100 {
        run.answers = !(loses() || loses());
        run.for_ticks(1, |path, now| {
            path.on_data_sent(now);
            for _ in 0..10 {
                came.push_front(!loses());
            }
            came.truncate(256);
            highest += 10;
            if came.front() == Some(&true) && !loses() {
                let mut bitmap = [0_u64; 4];
                for below in (0..255).filter(|below| came.get(below + 1) == Some(&true)) {
                    bitmap[below / 64] |= 1 << (below % 64);
                }
                path.on_ack(now);
                path.on_arrivals(now, highest, &bitmap);
            }
        });
        let since = run.now.duration_since(run.start);
        assert!(run.path.is_proven(), "after {since:?}");
        // Nor is it taken for a clean one, however soon the next PING is answered.
        assert!(run.path.is_lossy() || since < Duration::from_secs(5), "after {since:?}");
    }
}

#[test]
fn flows_that_end_on_a_path_that_loses_a_fifth_each_way_raise_few_doubts() {
    let mut rng = SeededRng::new(3);
    let mut loses = move || rng.next_u32().is_multiple_of(5);
    let (mut run, mut highest, mut doubts) = (Run::new(), 0, 0);
    run.for_secs(1, |_, _| ());
    for flow in 0..600 {
        // A second of data and one of none.
        for tick in 0..200 {
            run.answers = !(loses() || loses());
            let was_suspect = run.path.is_suspect();
            run.for_ticks(1, |path, now| {
                if tick >= 100 {
                    return;
                }
                path.on_data_sent(now);
                highest += 10;
                if !loses() {
                    // One in five of those that it tells of.
                    path.on_ack(now);
                    path.on_arrivals(now, highest, &[0x7bde_f7bd_ef7b_def7; 4]);
                }
            });
            doubts += u32::from(flow > 3 && run.path.is_suspect() && !was_suspect);
        }
    }
    assert!(run.path.is_losing());
    assert!(doubts <= 6, "{doubts} after 600 flows");
}

#[test]
fn what_a_path_loses_is_counted_however_long_its_answers_take() {
    for (rtt, most_fit) in [(40, 2), (130, 2), (150, 2), (300, 3), (600, 8)] {
        let rtt = Duration::from_millis(rtt);
        let mut rng = SeededRng::new(7);
        let mut loses = move |per_cent| (0..2).any(|_| rng.next_u32() % 100 < per_cent);
        let mut tried = |per_cent| {
            let mut run = Run { rtt, ..Run::new() };
            run.for_secs(2, |_, _| ());
            run.path.try_out(run.now);
            while run.path.is_on_trial() {
                run.answers = !loses(per_cent);
                run.for_ticks(1, |_, _| ());
                assert!(run.now < run.start + Duration::from_secs(15), "{rtt:?}: no verdict");
            }
            run.path.is_fit(run.now)
        };
        let fit = (0..100).filter(|_| tried(20)).count();
        assert!(fit <= most_fit, "{rtt:?}: {fit} of 100");
        assert!((0..10).all(|_| tried(0)), "{rtt:?}");
        // Nor does one that loses 15 % each way pass for clean.
        let mut run = Run { rtt, ..Run::new() };
        run.for_secs(2, |_, _| ());
        run.path.loss.shun(run.now);
        run.path.want_ping(run.now);
        for _ in 0..100 * 60 {
            run.answers = !loses(15);
            run.for_ticks(1, |_, _| ());
            assert!(run.path.is_lossy(), "{rtt:?}");
        }
    }
}

#[test]
fn a_moment_of_silence_ends_no_try_of_a_path_that_was_lossy() {
    let mut run = Run::shunned();
    run.path.want_ping(run.now);
    run.for_secs(10, |_, _| ());
    run.answers = false;
    run.for_ticks(30, |_, _| ());
    run.answers = true;
    run.for_secs(19, |_, _| ());
    assert!(run.path.is_lossy());
    run.for_secs(2, |_, _| ());
    assert!(!run.path.is_lossy());
}

#[test]
fn a_lossy_path_that_rested_is_tried_for_as_long_as_any() {
    let mut run = Run::shunned();
    run.path.rest();
    assert!(run.path.is_resting());
    run.for_secs(100, |_, _| ());
    run.path.wake(run.now);
    run.for_secs(29, |_, _| ());
    assert!(run.path.is_lossy());
    run.for_secs(2, |_, _| ());
    assert!(!run.path.is_lossy());
}

#[test]
fn a_path_that_breaks_behind_the_last_answer_is_noticed_without_further_data() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.answers = false;
    // The acknowledgement of the first frame comes when the second, which is lost, has just left.
    run.path.on_data_sent(run.now);
    run.path.on_data_sent(run.now + RTT);
    run.path.on_ack(run.now + RTT + Duration::from_millis(1));
    run.for_secs(4, |_, _| ());
    assert!(run.path.is_dead());
}

#[test]
fn an_ack_does_not_prove_what_a_pong_has_not() {
    let mut run = Run::new();
    run.path.on_ack(run.now);
    run.path.on_data_sent(run.now);
    assert!(!run.path.is_usable());
    assert!(!run.path.on_pong(run.now, 77), "a PONG nobody asked for");
    assert!(!run.path.is_usable());
    assert!(run.start <= run.now);
}

#[test]
fn one_lost_heartbeat_is_repeated_and_forgiven() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.answers = false;
    run.for_secs(15, |_, _| ());
    assert!(run.path.is_usable());
    run.answers = true;
    run.for_secs(2, |_, _| ());
    assert!(run.path.is_usable());
    run.for_secs(20, |_, _| ());
    assert!(run.path.is_usable());
}

#[test]
fn a_ping_asked_for_before_the_timer_still_brings_the_doubt() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.path.on_data_sent(run.now);
    let due = run.now + suspicion_after(run.path.rtt());
    assert!(run.path.poll_ping(due).is_some());
    assert!(run.path.is_suspect());
}

#[test]
fn a_path_at_rest_costs_nothing_and_is_not_believed_until_it_answers() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.path.rest();
    (run.pings, run.answers) = (0, false);
    run.for_secs(600, |path, now| path.on_data_sent(now));
    assert_eq!((run.pings, run.path.poll_timeout()), (0, None));
    assert!(run.path.is_resting() && !run.path.is_usable() && !run.path.is_dead());
    run.path.want_ping(run.now);
    assert_eq!(run.path.poll_ping(run.now), None, "it rests");
    run.path.wake(run.now);
    run.for_secs(1, |_, _| ());
    assert!(run.pings > 0 && !run.path.is_usable(), "asked, and not answered yet");
    run.answers = true;
    run.for_secs(1, |_, _| ());
    assert!(run.path.is_proven());
}

#[test]
fn a_path_that_wakes_to_silence_dies_like_a_new_one() {
    let mut run = Run::new();
    run.path.rest();
    assert!(!run.path.is_resting(), "what is not proven has to be proven first");
    run.for_secs(1, |_, _| ());
    run.path.rest();
    run.answers = false;
    run.path.wake(run.now);
    run.for_secs(3, |_, _| ());
    assert!(run.path.is_dead());
    run.path.wake(run.now);
    assert!(run.path.is_dead(), "the dead do not wake");
}

#[test]
fn a_shaken_path_is_in_doubt_until_it_answers_what_was_asked_since() {
    let mut run = Run::new();
    run.path.shake(run.now);
    assert!(!run.path.is_suspect(), "nothing was proven");
    run.for_secs(1, |_, _| ());
    run.path.want_ping(run.now);
    assert!(run.path.poll_ping(run.now).is_some());
    run.path.on_ping_sent(run.now, 77);
    run.path.shake(run.now);
    assert!(run.path.is_suspect());
    assert!(!run.path.on_pong(run.now, 77), "asked before");
    run.for_secs(1, |_, _| ());
    assert!(run.path.is_proven());
    run.answers = false;
    run.path.shake(run.now);
    run.for_secs(4, |_, _| ());
    assert!(run.path.is_dead());
}

#[test]
fn a_questioned_path_stays_what_it_is_for_as_long_as_an_answer_takes() {
    let mut run = Run::new();
    run.path.question(run.now);
    assert!(!run.path.is_questioned(), "nothing was proven");
    run.for_secs(1, |_, _| ());
    run.path.question(run.now);
    run.for_secs(1, |path, _| assert!(path.is_proven()));
    assert!(!run.path.is_questioned());
    // What was asked before answers nothing, and to be questioned again and again puts nothing off.
    run.path.want_ping(run.now);
    assert!(run.path.poll_ping(run.now).is_some());
    run.path.on_ping_sent(run.now, 77);
    run.answers = false;
    let since = run.now;
    run.path.question(since);
    assert!(!run.path.on_pong(since, 77));
    let mut doubted = None;
    run.for_secs(1, |path, now| {
        path.question(now);
        path.on_ack(now);
        if path.is_suspect() {
            doubted.get_or_insert(now - since);
        }
    });
    let due = questioned_after(Some(RTT));
    assert!(doubted.is_some_and(|span| span > due && span <= due + 2 * TICK), "{doubted:?}");
    // One at rest is asked nothing, and proven anew when it wakes.
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.path.question(run.now);
    run.path.rest();
    assert!(!run.path.is_questioned());
}

#[test]
fn another_heartbeat_does_not_put_off_a_ping_that_is_wanted() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    // It was answered just now, so that the next question waits a moment, and meanwhile a relay has another hint.
    run.path.want_ping(run.now);
    run.for_ticks(3, |_, _| ());
    let (asked, heartbeat) = (run.pings, Duration::from_secs(20));
    run.path.question(run.now);
    run.path.set_heartbeat(heartbeat);
    run.for_ticks(30, |path, _| assert!(path.is_proven()));
    assert!(run.pings > asked && !run.path.is_questioned());
    run.pings = 0;
    run.for_secs(60, |_, _| ());
    assert_eq!(run.pings, 3, "60 s at {heartbeat:?}");
}

#[test]
fn no_hint_makes_an_idle_path_outlast_its_mapping() {
    let mut run = Run::new();
    run.path.set_heartbeat(Duration::MAX);
    run.for_secs(1, |_, _| ());
    run.pings = 0;
    run.for_secs(60, |_, _| ());
    assert_eq!(run.pings, 2, "each 25 s, before a router forgets after 30 s");
}

#[test]
fn a_closed_path_stays_dead() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    run.path.on_closed("the relay connection is lost");
    assert!(run.path.is_dead());
    run.path.on_data_sent(run.now);
    run.for_secs(5, |_, _| ());
    assert!(run.path.is_dead());
}

#[test]
fn who_holds_up_answers_longer_and_longer_does_not_put_off_the_doubt_as_long_as_he_likes() {
    let mut run = Run::new();
    run.for_secs(1, |_, _| ());
    // Each answer comes later than the one before, as late as the path bears; what is acknowledged is not held up.
    for _ in 0..1_000 {
        run.rtt = (run.path.rtt().unwrap_or_default() * 3 / 2).min(Duration::from_millis(3_500));
        run.for_secs(1, |path, now| {
            path.on_data_sent(now);
            path.on_ack(now);
        });
    }
    assert!(run.path.is_usable() && run.path.rtt() > Some(Duration::from_secs(3)));
    run.answers = false;
    run.in_flight.clear();
    let began = run.now;
    while !run.path.is_dead() {
        run.for_ticks(1, |path, now| path.on_data_sent(now));
        assert!(run.now < began + Duration::from_secs(10), "it is called proven after {:?}", run.now - began);
    }
}
