//! Many peers that are introduced at once: they are met a few at a time.

use super::*;
use crate::peer::AT_ONCE;
use crate::wire::relay::{Forward, StreamMessage};
use std::collections::BTreeSet;

/// First channel of those that nobody is behind.
const FIRST: u32 = 1000;
const MANY: u32 = 40;

/// Lets time pass at node 0 alone; the channels on which it begins a handshake.
fn begun(world: &mut World, span: Duration) -> BTreeSet<u32> {
    let (mut begun, end) = (BTreeSet::new(), world.now + span);
    while world.now < end {
        world.now += Duration::from_millis(5);
        let endpoint = &mut world.nodes[0].endpoint;
        endpoint.handle_timeout(world.now);
        while let Some(transmit) = endpoint.poll_transmit() {
            let Transmit::Stream { message, .. } = transmit else { continue };
            let Ok(StreamMessage::Forward(Forward { channel, .. })) = StreamMessage::parse(&message) else {
                continue;
            };
            let forward = Forward::parse(&message).unwrap();
            let begins = |packet: &[u8]| matches!(PacketKind::of(packet), Some(PacketKind::Init));
            if channel.0 >= FIRST && forward.packets().any(begins) {
                begun.insert(channel.0);
            }
        }
    }
    begun
}

fn key(n: u32) -> NodeId {
    let mut key = [0xff; 32];
    key[16] = u8::try_from(n).unwrap();
    NodeId(key)
}

/// Node 0 hears of [`MANY`] that do not answer. Their keys are high: it is its turn to begin.
fn introduced(seed: u64) -> World {
    let mut world = World::new(seed);
    world.run(Duration::from_secs(5));
    assert!(world.is_connected());
    for n in 0..MANY {
        let key = key(n);
        let now = world.now;
        world.nodes[0].endpoint.introduced_for_test(now, key, ChannelId(FIRST + n));
    }
    world
}

#[test]
fn many_that_are_introduced_are_met_a_few_at_a_time() {
    let mut world = introduced(1700);
    let at_once = begun(&mut world, Duration::from_millis(450));
    assert_eq!(at_once.len(), AT_ONCE, "{at_once:?}");
    // Those that do not answer hold up the others by half a second for each eight.
    let all = begun(&mut world, Duration::from_secs(3)).union(&at_once).count();
    assert_eq!(all, usize::try_from(MANY).unwrap());
}

#[test]
fn whom_a_frame_is_for_waits_for_nobody() {
    let mut world = introduced(1701);
    let at_once = begun(&mut world, Duration::from_millis(200));
    let last = FIRST + MANY - 1;
    assert!(!at_once.contains(&last));
    let status = world.nodes[0].endpoint.peer_status(world.now);
    let slot = status.iter().find(|peer| peer.id == key(MANY - 1)).unwrap().slot;
    let now = world.now;
    world.nodes[0].endpoint.handle_wanted(now, slot);
    assert!(begun(&mut world, Duration::from_millis(10)).contains(&last));
}
