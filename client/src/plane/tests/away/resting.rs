//! A peer whose session ends because nobody uses it: nothing is sealed from when that is asked about, and what is read meanwhile goes by
//! the next session (protocol §4.10).

use super::*;
use crate::plane::outbound::{RESTING_FRAMES, WAITING_BYTES};

/// What a fact says to that question, if it is an answer to it.
fn answer_to(number: u64, fact: &Fact) -> Option<bool> {
    if let Fact::Stopped(PEER, asked, is_empty) = *fact {
        (asked == number).then_some(is_empty)
    } else {
        None
    }
}

impl Sender {
    fn facts(&mut self) -> Vec<Fact> {
        std::iter::from_fn(|| self.output.facts.try_recv().ok()).collect()
    }

    /// Asks it to stop; whether it did.
    fn stop_sealing(&mut self, number: u64) -> bool {
        self.facts();
        self.command(OutboundCommand::StopSealing { slot: PEER, number });
        let answers = self.facts().into_iter().filter_map(|fact| answer_to(number, &fact));
        let answers: Vec<_> = answers.collect();
        assert_eq!(answers.len(), 1);
        answers[0]
    }

    fn command(&mut self, command: OutboundCommand) {
        self.lockstep.plane().outbound(command);
        self.run();
    }

    /// How often it said that frames wait, since facts were looked at last.
    fn wanted(&mut self) -> usize {
        self.facts().iter().filter(|fact| matches!(fact, Fact::Wanted(PEER))).count()
    }

    /// Another association begins, by the same way.
    fn start(&mut self, generation: u8) {
        let marks = Arc::default();
        self.marks[0] = Arc::clone(&marks);
        let (key, _) = keys(generation);
        self.command(OutboundCommand::Start { slot: PEER, key, marks });
        self.snapshot.peers[0].given_up[usize::from(DIRECT.number())] += 1;
        self.route(PEER, true, false);
    }

    fn acknowledge_all(&self, up_to: u64) {
        self.marks[0].record(&[], up_to);
    }
}

fn talking() -> Sender {
    let mut a = Sender::new(RingLimits::default());
    a.route(PEER, true, false);
    a.send(2, 10, 200);
    assert_eq!(a.left(), (0..10).collect::<Vec<_>>());
    a
}

#[test]
fn what_is_not_acknowledged_yet_is_waited_for() {
    let mut a = talking();
    assert!(!a.stop_sealing(1));
    a.send(2, 1, 200);
    assert_eq!(a.left(), [10], "and frames go as before");
    a.acknowledge_all(11);
    assert!(a.stop_sealing(2));
    a.command(OutboundCommand::ResumeSealing(PEER));
    // What a wire lost is waited for until it would not go again.
    a.send(2, 1, 200);
    assert!(!a.stop_sealing(3));
    a.until_secs(59);
    assert!(!a.stop_sealing(4));
    a.until_secs(61);
    assert!(a.stop_sealing(5));
}

#[test]
fn what_has_no_way_yet_is_waited_for_however_long() {
    let mut a = talking();
    a.acknowledge_all(10);
    a.route(PEER, false, false);
    a.send(2, 1, 200);
    a.until_secs(4);
    assert!(!a.stop_sealing(1));
    a.route(PEER, true, false);
    assert_eq!(a.left(), [10]);
}

#[test]
fn frames_that_are_read_after_it_stopped_wait_and_go_on_in_the_session_that_stays() {
    let mut a = talking();
    a.acknowledge_all(10);
    assert!(a.stop_sealing(1));
    a.send(2, 5, 200);
    assert_eq!((a.left(), a.wanted()), (vec![], 1), "that they wait is said once");
    // Another picture, or another path, seals nothing either.
    a.route(PEER, false, false);
    a.route(PEER, true, false);
    assert!(a.left().is_empty());
    a.command(OutboundCommand::ResumeSealing(PEER));
    a.send(2, 1, 200);
    assert_eq!(a.left(), (10..16).collect::<Vec<_>>());
    assert_eq!(a.snapshot.peers[0].counters.tx_dropped.load(Relaxed), 0);
}

#[test]
fn frames_that_are_read_after_it_ended_go_by_the_next_session_in_order() {
    let mut a = talking();
    a.acknowledge_all(10);
    assert!(a.stop_sealing(1));
    a.send(2, 2, 200);
    a.command(OutboundCommand::End(PEER));
    a.route(PEER, false, false);
    a.send(2, 3, 200);
    assert!(a.wanted() >= 1);
    a.start(7);
    a.send(2, 1, 200);
    assert_eq!(a.left(), (0..6).collect::<Vec<_>>(), "counted anew, the oldest first");
    let counters = &a.snapshot.peers[0].counters;
    assert_eq!([&counters.tx_dropped, &counters.lost].map(|count| count.load(Relaxed)), [0, 0]);
    assert_eq!(counters.tx_frames.load(Relaxed), 16);
}

#[test]
fn as_many_frames_wait_as_a_handshake_that_takes_its_time_may_need() {
    let mut a = talking();
    a.acknowledge_all(10);
    assert!(a.stop_sealing(1));
    let most = u32::try_from(RESTING_FRAMES).unwrap();
    a.send(2, most / 2, 100);
    a.command(OutboundCommand::End(PEER));
    a.route(PEER, false, false);
    a.send(2, most / 2, 100);
    let dropped = |a: &Sender| a.snapshot.peers[0].counters.tx_dropped.load(Relaxed);
    assert_eq!(dropped(&a), 0);
    // Beyond that the oldest are dropped, and counted.
    a.send(2, 5, 100);
    assert_eq!(dropped(&a), 5);
    a.start(7);
    assert_eq!(a.snapshot.peers[0].counters.tx_frames.load(Relaxed), 10 + u64::from(most));
    assert_eq!(dropped(&a), 5);
}

#[test]
fn what_waits_for_one_leaves_room_for_others() {
    let mut a = talking();
    a.acknowledge_all(10);
    assert!(a.stop_sealing(1));
    a.command(OutboundCommand::End(PEER));
    a.route(PEER, false, false);
    let (frames, len) = (u32::try_from(RESTING_FRAMES).unwrap(), 1_400);
    a.send(2, frames, len);
    let dropped = |a: &Sender, peer: usize| a.snapshot.peers[peer].counters.tx_dropped.load(Relaxed);
    // A quarter of all is kept, of what came last.
    let kept = frames - u32::try_from(dropped(&a, 0)).unwrap();
    let most = u32::try_from(WAITING_BYTES / 4 / len).unwrap();
    assert!((most - 2..=most).contains(&kept), "{kept} of {most}");
    a.start(7);
    assert_eq!(a.snapshot.peers[0].counters.tx_frames.load(Relaxed), 10 + u64::from(kept));
}

#[test]
fn who_sleeps_is_remembered_as_a_place_and_wanted_until_it_wakes() {
    let mut a = talking();
    a.acknowledge_all(10);
    assert!(a.stop_sealing(1));
    a.command(OutboundCommand::End(PEER));
    a.route(PEER, false, false);
    a.until_secs(30);
    assert!(!a.facts().iter().any(|fact| matches!(fact, Fact::Forgotten(PEER) | Fact::Wanted(PEER))));
    // Said again each second, while a frame waits: the one that said it first may have been lost.
    a.send(2, 1, 200);
    a.until_secs(33);
    assert!((3..=4).contains(&a.wanted()));
    // After five seconds it is too old, and dropped.
    a.until_secs(40);
    assert_eq!(a.snapshot.peers[0].counters.tx_dropped.load(Relaxed), 1);
    assert!(a.wanted() <= 3);
    a.until_secs(50);
    assert_eq!(a.wanted(), 0);
    // One that is known to be gone gets nothing kept.
    a.snapshot.peers[0].is_expected = false;
    a.route(PEER, false, false);
    a.send(2, 1, 200);
    assert_eq!((a.wanted(), a.snapshot.peers[0].counters.tx_dropped.load(Relaxed)), (0, 2));
}

#[test]
fn nobody_says_that_it_stopped_before_there_was_a_session() {
    let mut a = talking();
    a.command(OutboundCommand::Remove(PEER));
    assert!(!a.stop_sealing(1));
}

/// With threads: whatever is read while the question is on its way is sealed before the answer, or not before there is a session.
#[test]
fn nothing_is_sealed_behind_the_answer_that_it_stopped() {
    const ROUNDS: u8 = 24;
    let (mut a, b, mut marks) = two();
    let sealed = |a: &Node| a.counters(PEER).tx_frames.load(Relaxed);
    let (mut sent, mut received, mut before, mut number) = (0, Vec::new(), 0, 0);
    for round in 0..ROUNDS {
        for _ in 0..20 {
            a.send(2, sent, 100);
            sent += 1;
        }
        let (mut is_stopped, asked) = (false, Instant::now());
        while !is_stopped {
            assert!(asked.elapsed() < PATIENCE, "it never stops: round {round}");
            number += 1;
            // What it has sealed by now is acknowledged.
            let floor = sealed(&a) - before;
            let heard = floor.checked_sub(1).map(|highest| PathAck {
                path: RELAYED.number(),
                highest,
                bitmap: [u64::MAX; 4],
            });
            marks.record(heard.as_slice(), floor);
            a.plane.outbound(OutboundCommand::StopSealing { slot: PEER, number });
            let mut answer = None;
            until("the answer", || {
                while let Ok(fact) = a.output.facts.try_recv() {
                    answer = answer_to(number, &fact).or(answer);
                }
                answer.is_some()
            });
            is_stopped = answer == Some(true);
        }
        let at_answer = sealed(&a);
        a.send(2, sent, 100);
        sent += 1;
        let mut is_wanted = false;
        until("it to say that the frame waits", || {
            while let Ok(fact) = a.output.facts.try_recv() {
                is_wanted |= matches!(fact, Fact::Wanted(PEER));
            }
            is_wanted
        });
        assert_eq!(sealed(&a), at_answer);
        if round % 2 == 0 {
            a.plane.outbound(OutboundCommand::ResumeSealing(PEER));
        } else {
            // All that was sealed has arrived, as the answer says.
            let has_come = usize::try_from(at_answer).unwrap() - received.len();
            received.extend(carry(&mut a, &b, has_come));
            a.plane.outbound(OutboundCommand::End(PEER));
            before = at_answer;
            marks = join(&a, PEER, &b, PEER, round + 2);
        }
        let missing = sent as usize - received.len();
        received.extend(carry(&mut a, &b, missing));
    }
    assert_eq!(numbers(&received), (0..sent).collect::<Vec<_>>());
    assert_eq!(a.counters(PEER).tx_dropped.load(Relaxed), 0);
}
