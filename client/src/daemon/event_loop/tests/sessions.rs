//! Sessions that end when nobody uses them (protocol §4.10), between two daemons and their data planes.

use super::*;
use crate::config::{IdleAfter, SessionsChoice};
use crate::control::status::{Peer, PeerState};

impl Daemon {
    /// Reads again that this becomes of sessions which nobody uses.
    async fn keeps(&self, sessions: SessionsChoice, idle_after: &str) {
        let state = StateDir::open(self.home.path().join("state")).unwrap();
        let idle_after: IdleAfter = idle_after.parse().unwrap();
        let config = FileConfig {
            sessions: Some(sessions),
            idle_after: Some(idle_after),
            ..state.load_config().unwrap()
        };
        state.save_config(&config).unwrap();
        let reloaded = within("an answer", call(&self.socket, &Request::Reload)).await.unwrap();
        let Response::Reloaded { sessions: Some(in_force), idle_after: Some(after), .. } = reloaded else {
            panic!("{reloaded:?}")
        };
        assert_eq!((in_force, after), (sessions, idle_after.to_string()));
    }

    async fn peer(&self) -> Peer {
        self.status().await.peers.swap_remove(0)
    }

    async fn becomes(&self, state: PeerState) {
        let waiting = async {
            while self.peer().await.state != state {
                sleep(Duration::from_millis(5)).await;
            }
        };
        within(&format!("{state}"), waiting).await;
    }

    async fn ping(&self, peer: &str) -> crate::control::message::Echo {
        let request = Request::Ping { peer: peer.to_owned() };
        let answer = within("an echo", call(&self.socket, &request)).await.unwrap();
        let Response::Echo(echo) = answer else { panic!("{answer:?}") };
        echo
    }
}

#[test]
fn a_session_that_nobody_uses_rests_and_loses_no_frame_when_it_is_woken() {
    crate::net::namespace::isolated(|| in_network("", resting()));
}

async fn resting() {
    let scene = Scene::new().await;
    let (a, b) = (&scene.a, &scene.b);
    for node in [a, b] {
        let peer = node.peer().await;
        assert_eq!((peer.state, peer.asleep), (PeerState::Connected, None));
        node.keeps(SessionsChoice::OnDemand, "2s").await;
    }
    let rest = || async {
        for node in [a, b] {
            node.becomes(PeerState::Idle).await;
            let peer = node.peer().await;
            assert_eq!(peer.asleep.unwrap().last_path, PathKind::RelayWs);
            assert!(peer.path.is_none() && peer.handshake.is_none());
        }
    };
    rest().await;
    // Both at once: nothing is lost, nothing comes twice, and it is in order.
    for n in 0..100 {
        a.send(b, n);
        b.send(a, 1000 + n);
    }
    assert_eq!(b.numbers(100).await, (0..100).collect::<Vec<_>>());
    assert_eq!(a.numbers(100).await, (1000..1100).collect::<Vec<_>>());
    for node in [a, b] {
        let peer = node.peer().await;
        assert_eq!((peer.state, peer.asleep, peer.tx_dropped, peer.lost), (PeerState::Connected, None, 0, 0));
    }
    rest().await;
    let woken = a.ping("b").await;
    assert!(woken.woken_ms.is_some_and(|ms| ms < 1000.0), "{woken:?}");
    assert_eq!(a.ping("b").await.woken_ms, None, "it is awake");
    rest().await;
    // Whoever keeps sessions from now on makes those that it has not got.
    a.keeps(SessionsChoice::All, "5m").await;
    b.becomes(PeerState::Connected).await;
    scene.serving.abort();
}
