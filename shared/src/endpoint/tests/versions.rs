//! Programs of different versions of the protocol meet (protocol §1.7): in both orders, with data, over rekeys and a relay's restart.

use super::*;
use crate::session::limits::POOL_BYTES;
use crate::session::{AckMarks, ChunkPool, OpenHalf, PathSlot, RingLimits, SealHalf};
use crate::version::Versions;
use std::sync::Arc;

type Span = (u8, u8);

fn versions(span: Span) -> Versions {
    Versions::new(span.0, span.1).unwrap()
}

/// Two programs that speak these, of which the first has the lower key, so that it begins.
fn meeting(first: Span, second: Span) -> World {
    for seed in 500.. {
        let world = World::with(seed, |name, config| {
            config.versions = versions(if name == "a" { first } else { second });
            config.rekey_interval = Duration::from_secs(2);
        });
        if world.lower() == 0 {
            return world;
        }
    }
    unreachable!("every other seed does")
}

/// The data planes: keys as the endpoints hand them out.
struct Data {
    seal: [SealHalf; 2],
    open: [OpenHalf; 2],
    frames: u64,
}

impl Data {
    fn new() -> Self {
        Self { seal: [0, 1].map(|_| seal_half()), open: [OpenHalf::new(), OpenHalf::new()], frames: 0 }
    }

    /// Installs what there is, and passes a frame each way.
    fn pass(&mut self, world: &mut World) {
        for at in 0..2 {
            for event in world.nodes[at].events.drain(..) {
                if let Event::StartAssociation { key, .. } = event {
                    self.seal[at] = seal_half();
                    self.seal[at].install(world.now, key);
                } else if let Event::AddSealKey { key, .. } = event {
                    self.seal[at].install(world.now, key);
                } else if let Event::OpenAssociation { key, .. } = event {
                    self.open[at] = OpenHalf::new();
                    self.open[at].install(key);
                } else if let Event::AddOpenKey { key, .. } = event {
                    self.open[at].install(key);
                }
            }
        }
        for at in 0..2 {
            self.frames += 1;
            let (path, frame) = (PathSlot::new(0).unwrap(), self.frames.to_be_bytes());
            let packet = self.seal[at].seal(world.now, path, 0, &frame).unwrap().packet.to_vec();
            let mut out = vec![0; OpenHalf::plaintext_len(&packet)];
            let opened = self.open[1 - at].open(world.now, path, &packet, &mut out).unwrap();
            assert_eq!(opened.frame, frame);
        }
    }
}

fn seal_half() -> SealHalf {
    SealHalf::new(RingLimits::default(), ChunkPool::new(POOL_BYTES), Arc::new(AckMarks::new()))
}

/// The version of both sessions, which have to agree, and the fewest rekeys.
fn session(world: &World) -> (u8, u64) {
    let [a, b] = [0, 1].map(|at| world.status(at).session.expect("a session"));
    assert_eq!(a.version, b.version);
    (a.version, a.rekeys.min(b.rekeys))
}

#[test]
fn the_highest_version_that_both_speak_carries_data_over_rekeys_and_a_relays_restart() {
    for (first, second, expected) in [
        ((1, 1), (1, 1), 1),
        ((1, 1), (1, 2), 1),
        ((1, 2), (1, 1), 1),
        ((1, 2), (1, 2), 2),
        ((1, 2), (2, 3), 2),
        ((2, 3), (1, 2), 2),
        ((2, 2), (2, 2), 2),
    ] {
        let (mut world, mut data) = (meeting(first, second), Data::new());
        world.run(Duration::from_millis(900));
        assert!(world.is_connected(), "{first:?} {second:?}");
        data.pass(&mut world);
        assert_eq!(session(&world), (expected, 0), "{first:?} {second:?}");
        for _ in 0..10 {
            world.run(Duration::from_secs(1));
            data.pass(&mut world);
        }
        world.lose_relay();
        world.run(Duration::from_secs(1));
        world.connected = [false; 2];
        for at in 0..2 {
            let now = world.now;
            world.nodes[at].endpoint.handle_stream_opened(now, RELAY, relay_address());
        }
        world.run(Duration::from_secs(3));
        assert!(world.is_connected());
        data.pass(&mut world);
        let (version, rekeys) = session(&world);
        assert!(version == expected && rekeys >= 4, "version {version}, {rekeys} rekeys");
        for node in &world.nodes {
            assert!(node.endpoint.indices_in_use() <= 9, "{}", node.endpoint.indices_in_use());
        }
    }
}

#[test]
fn two_without_a_common_version_say_who_is_to_be_upgraded_and_ask_once_a_minute() {
    for (first, second) in [((2, 2), (1, 1)), ((1, 1), (2, 2)), ((3, 4), (1, 2)), ((1, 2), (3, 4))] {
        let mut world = meeting(first, second);
        world.run(Duration::from_secs(2));
        let minutes = 10;
        for _ in 0..minutes {
            for (at, (ours, theirs)) in [(first, second), (second, first)].into_iter().enumerate() {
                let status = world.status(at);
                assert!(status.session.is_none() && status.state != PeerState::Connected);
                let mismatch = status.incompatible.expect("it is known why");
                assert_eq!((mismatch.ours, mismatch.theirs), (versions(ours), versions(theirs)));
                let is_behind = mismatch.sentence("x").ends_with("upgrade this one");
                assert_eq!(is_behind, ours.1 < theirs.0);
            }
            world.run(Duration::from_secs(60));
        }
        for at in 0..2 {
            let opened = world.count(at, |event| {
                matches!(event, Event::OpenAssociation { .. } | Event::StartAssociation { .. })
            });
            let endpoint = &world.nodes[at].endpoint;
            assert_eq!((opened, endpoint.indices_in_use()), (0, 0));
            let tried = endpoint.drops().handshake;
            assert!((minutes..=minutes + 3).contains(&tried), "{tried} handshakes in {minutes} minutes");
        }
    }
}

#[test]
fn whoever_is_upgraded_is_met_at_once() {
    for (at, upgraded) in [(0, (1, 2)), (1, (2, 3))] {
        let mut world = meeting((1, 1), (2, 2));
        world.run(Duration::from_secs(30));
        assert!(world.status(0).incompatible.is_some() && world.status(1).incompatible.is_some());
        let other = if at == 0 { upgraded } else { (1, 2) };
        if at == 1 {
            world.restart_with(0, |config| config.versions = versions(other));
            world.run(Duration::from_secs(1));
        }
        world.restart_with(at, |config| config.versions = versions(upgraded));
        world.run(Duration::from_secs(3));
        assert!(world.is_connected());
        assert_eq!(session(&world).0, 2);
        assert!(world.status(0).incompatible.is_none() && world.status(1).incompatible.is_none());
    }
}

#[test]
fn a_live_session_is_not_lost_to_a_peer_that_comes_back_with_another_version_and_leaves_again() {
    let mut world = meeting((1, 2), (1, 2));
    world.run(Duration::from_secs(2));
    assert_eq!(session(&world).0, 2);
    // Downgraded to one that speaks the first alone: what both speak now counts.
    world.restart_with(1, |config| config.versions = Versions::FIRST);
    world.run(Duration::from_secs(5));
    assert!(world.is_connected());
    assert_eq!(session(&world).0, 1);
}

#[test]
fn a_relay_without_a_common_version_is_refused_with_a_sentence() {
    for (said, expected) in [
        // A relay that knows of no version but the first says nothing.
        ((None, None), "the relay speaks version 1 of the protocol, this program 2: upgrade the relay"),
        (
            (Versions::new(3, 4), Some(crate::version::NONE)),
            "the relay speaks versions 3 to 4 of the protocol, this program 2: upgrade this one",
        ),
    ] {
        let mut world = meeting((2, 2), (2, 2));
        world.relay_says = Some(said);
        world.run(Duration::from_secs(1));
        for node in &world.nodes {
            let refused = node.events.iter().find_map(|event| {
                let Event::RelayRefused { sentence, retry, .. } = event else { return None };
                Some((sentence.as_str(), *retry))
            });
            assert_eq!(refused, Some((expected, Some(Duration::from_secs(60)))));
            assert!(!node.endpoint.is_registered(RELAY));
        }
    }
}

#[test]
fn the_version_of_a_relays_link_is_known() {
    let mut world = meeting((1, 2), (2, 2));
    world.relay_says = Some((Versions::new(1, 3), Some(2)));
    world.run(Duration::from_secs(1));
    for node in &world.nodes {
        assert_eq!(node.endpoint.relay_status()[0].version, Some(2));
    }
}
