//! How the relay ends: it tells everybody, goes on forwarding for a while, and is gone.

use crate::harness::{Received, TestRelay, forward, pair};
use shadowmesh_proto::wire::relay::Control;
use shadowmesh_relay::config::Settings;
use tokio::net::TcpStream;

#[tokio::test]
async fn a_drain_is_told_forwards_on_and_ends_when_all_have_left() {
    let relay = TestRelay::start(&Settings::default());
    let (mut a, mut b, channel) = pair(&relay).await;
    relay.stop.ask();
    for client in [&mut a, &mut b] {
        let body = client.control().await;
        assert!(matches!(body, Control::Drain { within_ms: 1.. }), "{body:?}");
    }
    a.forward(channel, &[b"still"]).await;
    assert_eq!(b.next().await, Received::Forward(forward(channel, &[b"still"]).into()));
    assert!(TcpStream::connect(relay.address).await.is_err(), "nobody new is let in");
    a.send(Control::Leave).await;
    a.closed().await;
    b.send(Control::Leave).await;
    b.closed().await;
    relay.served.await.unwrap();
}

#[tokio::test]
async fn asked_twice_it_ends_with_clients_still_there() {
    let relay = TestRelay::start(&Settings::default());
    let (a, _b, _) = pair(&relay).await;
    relay.stop.ask();
    relay.stop.ask();
    relay.served.await.unwrap();
    drop(a);
}

#[tokio::test]
async fn clients_that_stay_are_closed() {
    let relay = TestRelay::start(&Settings::default());
    let (a, b, _) = pair(&relay).await;
    relay.stop.ask();
    a.closed().await;
    b.closed().await;
    relay.served.await.unwrap();
}
