//! STUN on real sockets: clients learn their address, their peers too, strangers learn nothing.

use crate::harness::{Client, Received, TestRelay, dropped, pair};
use shadowmesh_proto::wire::relay::Control;
use shadowmesh_proto::wire::stun::{BindingRequest, BindingResponse, TransactionId};
use shadowmesh_relay::config::Settings;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::UdpSocket;

pub(crate) fn token(client: &Client) -> ([u8; 16], Vec<SocketAddr>) {
    let Control::Registered { stun_token, stun_ports, .. } = &client.registered else {
        panic!("not registered")
    };
    let address = |port: &u16| SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
    (*stun_token, stun_ports.iter().map(address).collect())
}

pub(crate) async fn socket() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

pub(crate) async fn answer(socket: &UdpSocket) -> (BindingResponse, SocketAddr) {
    let mut buffer = [0; 1500];
    let (count, from) = socket.recv_from(&mut buffer).await.unwrap();
    (BindingResponse::parse(&buffer[..count]).unwrap(), from)
}

pub(crate) fn request(mark: u8, token: [u8; 16]) -> (TransactionId, Vec<u8>) {
    let transaction = [mark; 12];
    (transaction, BindingRequest { transaction, token }.encode())
}

#[tokio::test]
async fn a_client_learns_its_address_on_both_ports_and_its_peer_is_told_of_the_first() {
    let relay = TestRelay::start(&Settings::default());
    let (mut a, mut b, channel) = pair(&relay).await;
    a.send(Control::Confirmed { channel }).await;
    b.send(Control::Confirmed { channel }).await;
    assert!(matches!(a.control().await, Control::Established { peer_udp: None, .. }));
    assert!(matches!(b.control().await, Control::Established { peer_udp: None, .. }));

    let (token, ports) = token(&a);
    let socket = socket().await;
    let own = socket.local_addr().unwrap();
    for (mark, port) in (1u8..).zip(&ports) {
        let (transaction, datagram) = request(mark, token);
        socket.send_to(&datagram, port).await.unwrap();
        let (response, from) = answer(&socket).await;
        assert_eq!((response.transaction, response.mapped), (transaction, own));
        assert_eq!(response.nonce.is_some(), *port == ports[0], "from the port that decides");
        assert_eq!(from, *port, "from the address that was asked");
    }
    assert_eq!(a.control().await, Control::Observed { udp: own });
    let body = b.control().await;
    assert!(matches!(body, Control::Established { peer_udp: Some(udp), .. } if udp == own), "{body:?}");
    a.sync().await;
    b.sync().await;
}

#[tokio::test]
async fn the_answer_comes_from_the_address_that_was_asked() {
    // Both families, or IPv4 alone where the machine has no IPv6.
    let relay = TestRelay::start_on("[::]:0", &Settings::default());
    let (a, _b, _) = pair(&relay).await;
    let Control::Registered { observed_tcp, .. } = &a.registered else { panic!("not registered") };
    assert_eq!(*observed_tcp, a.address(), "an IPv4 client is shown as one");
    let (token, _) = token(&a);
    for (mark, host) in [(1, [127, 0, 0, 1]), (2, [127, 0, 0, 2])] {
        let socket = socket().await;
        let asked = SocketAddr::from((host, relay.address.port()));
        socket.send_to(&request(mark, token).1, asked).await.unwrap();
        let (response, from) = answer(&socket).await;
        assert_eq!(from, asked);
        assert_eq!(response.mapped, socket.local_addr().unwrap());
    }
}

#[tokio::test]
async fn strangers_are_met_with_silence() {
    let relay = TestRelay::start(&Settings::default());
    let (a, _b, _) = pair(&relay).await;
    let (token, ports) = token(&a);
    let port = ports[0];
    let stranger = socket().await;
    let (_, unknown) = request(1, [0; 16]);
    let (_, good) = request(2, token);
    let mut short = good.clone();
    short.truncate(40);
    let silent: [&[u8]; 5] = [&unknown, &short, &[], &[0xc0; 200], &[0; 1400]];
    for datagram in silent {
        stranger.send_to(datagram, port).await.unwrap();
    }
    // One socket is served in order: when the good one is answered, the others were not.
    let (transaction, datagram) = request(3, token);
    stranger.send_to(&datagram, port).await.unwrap();
    assert_eq!(answer(&stranger).await.0.transaction, transaction);
    relay.until(|status| dropped(status, "stun_silent") == 5 && status.stun_answered == 1).await;
}

#[tokio::test]
async fn a_token_is_of_no_use_after_its_client_left() {
    let relay = TestRelay::start(&Settings::default());
    let (a, mut b, _) = pair(&relay).await;
    let (old, ports) = token(&a);
    drop(a);
    assert!(matches!(b.next().await, Received::Control(Control::PeerGone { .. })));
    let socket = socket().await;
    socket.send_to(&request(1, old).1, ports[0]).await.unwrap();
    relay.until(|status| dropped(status, "stun_silent") == 1).await;
}
