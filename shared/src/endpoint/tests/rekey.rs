//! Rekeys that collide or lose their messages.

use super::*;

fn rekey_now(world: &mut World, at: usize) {
    let (now, slot) = (world.now, world.status(at).slot);
    world.nodes[at].endpoint.handle_key_used_up(now, slot);
}

fn rekeys(world: &World) -> [u64; 2] {
    [0, 1].map(|at| world.status(at).session.unwrap().rekeys)
}

#[test]
fn both_begin_and_one_rekey_comes_of_it() {
    let mut world = World::new(40);
    world.run(Duration::from_secs(2));
    rekey_now(&mut world, 0);
    rekey_now(&mut world, 1);
    world.run(Duration::from_secs(3));
    assert_eq!(rekeys(&world), [1, 1]);
    assert!(world.is_connected());
    assert!(
        world.nodes.iter().all(|node| node.endpoint.indices.len() <= 2),
        "the loser's index is given back"
    );
}

#[test]
fn a_rekey_whose_messages_are_lost_is_repeated_and_the_session_goes_on() {
    for at in 0..2 {
        let mut world = World::new(41);
        world.run(Duration::from_secs(2));
        rekey_now(&mut world, at);
        // Its first message is lost, then everything the other side says.
        world.drain();
        world.to_relay.clear();
        world.drop = if at == 0 { |from, _| from == 1 } else { |from, _| from == 0 };
        world.run(Duration::from_millis(2500));
        world.drop = |_, _| false;
        world.run(Duration::from_secs(4));
        assert_eq!(rekeys(&world), [1, 1]);
        assert_eq!([world.started(0), world.started(1)], [1, 1]);
        assert!(world.is_connected());
    }
}

#[test]
fn an_answer_that_was_not_used_for_long_does_not_part_the_two_sides() {
    let mut world = World::new(42);
    world.run(Duration::from_secs(2));
    rekey_now(&mut world, 0);
    // The answer arrives, and for 20 s nothing that the one who asked sends under the new keys.
    world.run(Duration::from_millis(25));
    world.drop = |from, _| from == 0;
    world.run(Duration::from_secs(20));
    world.drop = |_, _| false;
    // As long as the longest pause between two tries.
    world.run(Duration::from_secs(20));
    assert!(world.is_connected());
    let [a, b] = rekeys(&world);
    assert!(a >= 1 && b >= 1, "{a} {b}");
    assert_eq!([world.started(0), world.started(1)], [1, 1], "the first session lives");
}

#[test]
fn rekeys_every_two_seconds_leave_no_index_behind() {
    let mut world = World::with(43, |_, config| config.rekey_interval = Duration::from_secs(2));
    world.run(Duration::from_secs(120));
    let [a, b] = rekeys(&world);
    assert!(a >= 55 && a.abs_diff(b) <= 1, "{a} {b}");
    assert!(world.nodes.iter().all(|node| node.endpoint.indices.len() <= 9));
}
