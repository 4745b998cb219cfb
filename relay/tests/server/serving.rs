//! The straight line on real sockets: register, meet, forward, be told.

use crate::harness::{Client, Received, TestRelay, forward, network, open, pair};
use shadowmesh_proto::version::Versions;
use shadowmesh_proto::wire::relay::{Control, GoneReason};
use shadowmesh_relay::config::Settings;

#[tokio::test]
async fn two_clients_meet_and_their_packets_pass_unchanged() {
    let relay = TestRelay::start(&Settings::default());
    let (mut a, mut b, channel) = pair(&relay).await;
    let Control::Registered { observed_tcp, stun_ports, heartbeat_ms, .. } = &a.registered else {
        panic!("not registered")
    };
    assert_eq!(*observed_tcp, a.ws.get_ref().local_addr().unwrap());
    assert_eq!(stun_ports.len(), 2);
    assert_eq!(*heartbeat_ms, 15_000);
    let small = forward(channel, &[b"one", b"two"]);
    let large = forward(channel, &[&[7; 65_000]]);
    a.forward(channel, &[b"one", b"two"]).await;
    a.forward(channel, &[&[7; 65_000]]).await;
    assert_eq!(b.next().await, Received::Forward(small.clone().into()));
    assert_eq!(b.next().await, Received::Forward(large.into()));
    b.forward(channel, &[b"one", b"two"]).await;
    assert_eq!(a.next().await, Received::Forward(small.into()));
}

#[tokio::test]
async fn a_newer_client_is_served_as_long_as_it_speaks_this_version_too() {
    let relay = TestRelay::start(&Settings::default());
    let join = async |seed, oldest, newest| {
        let versions = Versions::new(oldest, newest).unwrap();
        Client::try_speaking(&relay, open(&relay).await, &network(1), seed, versions).await
    };
    let newer = join(1, 1, 3).await.unwrap();
    assert_eq!(newer.link.version(), Some(1));
    let Err(Control::Error { code, sentence, retry_ms }) = join(2, 2, 3).await else {
        panic!("it was taken in")
    };
    assert_eq!((code, retry_ms), (6, Some(60_000)));
    assert_eq!(
        sentence,
        "this relay speaks version 1 of the protocol, the client versions 2 to 3: upgrade the relay"
    );
}

#[tokio::test]
async fn a_relay_of_other_versions_is_of_them_whatever_its_settings_become() {
    let settings = Settings::default();
    let relay = TestRelay::start_speaking("127.0.0.1:0", &settings, Versions::new(2, 3).unwrap());
    let join = async |oldest, newest| {
        let versions = Versions::new(oldest, newest).unwrap();
        Client::try_speaking(&relay, open(&relay).await, &network(1), 1, versions).await
    };
    for _ in 0..2 {
        let Err(Control::Error { sentence, .. }) = join(1, 1).await else { panic!("it was taken in") };
        assert_eq!(
            sentence,
            "this relay speaks versions 2 to 3 of the protocol, the client version 1: upgrade the client"
        );
        let Control::Registered { versions, version, .. } = join(1, 2).await.unwrap().registered else {
            panic!("it was not registered")
        };
        assert_eq!((versions, version), (Versions::new(2, 3), Some(2)));
        relay.handle.reconfigure(&settings);
    }
}

#[tokio::test]
async fn both_confirmed_get_addresses_and_a_departure_is_told() {
    let relay = TestRelay::start(&Settings::default());
    let (mut a, mut b, channel) = pair(&relay).await;
    a.send(Control::Confirmed { channel }).await;
    a.sync().await;
    b.send(Control::Confirmed { channel }).await;
    let addresses = (a.address(), b.address());
    for (own, peer) in [(&mut a, addresses.1), (&mut b, addresses.0)] {
        let body = own.control().await;
        let Control::Established { peer_tcp, direct, .. } = body else {
            panic!("expected ESTABLISHED, got {body:?}");
        };
        assert_eq!(peer_tcp, Some(peer));
        assert!(direct);
    }
    let gone = a.node;
    a.send(Control::Leave).await;
    assert_eq!(a.next().await, Received::Closed);
    assert_eq!(b.control().await, Control::PeerGone { peer: gone, channel, reason: GoneReason::Left });
}
