//! Datagrams between clients on real sockets (protocol §3.9): forwarded between bound addresses, in silence otherwise.

use crate::harness::{Client, TestRelay, dropped, pair};
use crate::stun::{answer, request, socket, token};
use shadowmesh_proto::ids::ChannelId;
use shadowmesh_proto::wire::relay::Control;
use shadowmesh_proto::wire::relayed::{BindingTag, Nonce, RELAYED_HEADER_LEN, RelayedHeader};
use shadowmesh_relay::config::Settings;
use std::net::SocketAddr;
use tokio::net::UdpSocket;

/// A client's socket, and what the relay bound for it.
struct Bound {
    socket: UdpSocket,
    relay: SocketAddr,
    tag: BindingTag,
}

impl Bound {
    async fn new(client: &mut Client) -> Self {
        Self::at(client, socket().await).await
    }

    async fn at(client: &mut Client, socket: UdpSocket) -> Self {
        let (nonce, udp) = Self::asked(client, &socket).await;
        Self::said(client, socket, nonce, udp).await
    }

    /// What it is sent where it asks.
    async fn asked(client: &Client, socket: &UdpSocket) -> (Nonce, SocketAddr) {
        let (token, ports) = token(client);
        socket.send_to(&request(1, token).1, ports[0]).await.unwrap();
        let answer = answer(socket).await.0;
        (answer.nonce.expect("a nonce from the first port"), answer.mapped)
    }

    /// It says what it was sent.
    async fn said(client: &mut Client, socket: UdpSocket, nonce: Nonce, udp: SocketAddr) -> Self {
        let (_, ports) = token(client);
        client.send(Control::Bind { nonce, udp }).await;
        let tag = loop {
            let control = client.control().await;
            if let Control::Bound { tag } = control {
                break BindingTag::new(tag);
            }
            assert!(matches!(control, Control::Observed { .. } | Control::Established { .. }), "{control:?}");
        };
        Self { socket, relay: ports[0], tag }
    }

    async fn send(&self, channel: ChannelId, packet: &[u8]) {
        self.send_as(self.tag, channel, packet).await;
    }

    async fn send_as(&self, tag: BindingTag, channel: ChannelId, packet: &[u8]) {
        let datagram = [&RelayedHeader { tag, channel }.to_bytes()[..], packet].concat();
        self.socket.send_to(&datagram, self.relay).await.unwrap();
    }

    async fn receive(&self) -> (ChannelId, Vec<u8>) {
        let mut buffer = [0; 2000];
        let (count, from) = self.socket.recv_from(&mut buffer).await.unwrap();
        assert_eq!(from, self.relay, "from the address that was asked");
        let header = RelayedHeader::parse(&buffer[..count]).unwrap();
        assert_eq!(header.tag, self.tag, "under the receiver's own tag");
        (header.channel, buffer[RELAYED_HEADER_LEN..count].to_vec())
    }
}

#[tokio::test]
async fn datagrams_pass_both_ways_in_order_and_whole() {
    let relay = TestRelay::start(&Settings::default());
    let (mut a, mut b, channel) = pair(&relay).await;
    let (a_udp, b_udp) = (Bound::new(&mut a).await, Bound::new(&mut b).await);
    for n in 0..200_u32 {
        // Of varying length, so that runs that the kernel put together are cut where they must be.
        let packet = n.to_be_bytes().repeat(1 + usize::try_from(n / 7 % 3).unwrap() * 100);
        a_udp.send(channel, &packet).await;
        assert_eq!(b_udp.receive().await, (channel, packet.clone()));
        b_udp.send(channel, &packet).await;
        assert_eq!(a_udp.receive().await, (channel, packet));
    }
    // In one burst: as many as fit the receiver's buffer.
    for n in 0..64_u8 {
        a_udp.send(channel, &[n; 1400]).await;
    }
    for n in 0..64_u8 {
        assert_eq!(b_udp.receive().await, (channel, vec![n; 1400]));
    }
    let status = relay.until(|status| status.forwarded_datagrams == 464).await;
    assert_eq!(status.forwarded_messages, 0);
    assert!(status.forwarded_bytes > 64 * 1408);
}

#[tokio::test]
async fn what_is_not_bound_is_dropped_in_silence_and_counted() {
    let relay = TestRelay::start(&Settings::default());
    let (mut a, mut b, channel) = pair(&relay).await;
    let a_udp = Bound::new(&mut a).await;
    // b bound nothing.
    a_udp.send(channel, b"nobody there").await;
    relay.until(|status| dropped(status, "datagrams_no_receiver") == 1).await;
    let b_udp = Bound::new(&mut b).await;
    // Another tag, another address, a channel that is none of a's.
    a_udp.send_as(BindingTag::new(a_udp.tag.number() ^ 1), channel, b"guessed").await;
    let stranger = Bound { socket: socket().await, relay: a_udp.relay, tag: a_udp.tag };
    stranger.send(channel, b"stolen").await;
    relay.until(|status| dropped(status, "datagrams_unbound") == 2).await;
    a_udp.send(ChannelId(channel.0 + 1), b"elsewhere").await;
    relay.until(|status| dropped(status, "unknown_channel") == 1).await;
    // A header alone is nothing.
    a_udp.send(channel, b"").await;
    relay.until(|status| dropped(status, "stun_silent") == 1).await;
    a_udp.send(channel, b"the real one").await;
    assert_eq!(b_udp.receive().await, (channel, b"the real one".to_vec()));
    assert_eq!(relay.until(|_| true).await.forwarded_datagrams, 1);
}

#[tokio::test]
async fn a_binding_ends_with_its_client_and_moves_with_it() {
    let relay = TestRelay::start(&Settings::default());
    let (mut a, mut b, channel) = pair(&relay).await;
    let (a_udp, b_udp) = (Bound::new(&mut a).await, Bound::new(&mut b).await);
    let moved = Bound::new(&mut b).await;
    a_udp.send(channel, b"there").await;
    assert_eq!(moved.receive().await, (channel, b"there".to_vec()));
    b_udp.send(channel, b"from where it was").await;
    relay.until(|status| dropped(status, "datagrams_unbound") == 1).await;
    drop(b);
    relay.until(|status| status.clients == 1).await;
    a_udp.send(channel, b"nobody").await;
    relay.until(|status| dropped(status, "unknown_channel") == 1).await;
    moved.send(channel, b"a ghost").await;
    relay.until(|status| dropped(status, "datagrams_unbound") == 2).await;
}

#[tokio::test]
async fn clients_of_one_address_are_told_apart_by_their_tags() {
    let relay = TestRelay::start(&Settings::default());
    let (mut a, mut b, channel) = pair(&relay).await;
    let (a_udp, b_udp) = (Bound::new(&mut a).await, Bound::new(&mut b).await);
    // Somebody else at the same address takes nothing from who is there, and may use it too: a host can be in two networks.
    let (mut c, mut d, other) = crate::harness::pair_of(&relay, 2).await;
    let Bound { socket, relay: asked, tag } = a_udp;
    let c_udp = Bound::at(&mut c, socket).await;
    let d_udp = Bound::new(&mut d).await;
    assert_ne!(c_udp.tag, tag);
    c_udp.send(other, b"of c").await;
    assert_eq!(d_udp.receive().await, (other, b"of c".to_vec()));
    d_udp.send(other, b"to c").await;
    assert_eq!(c_udp.receive().await, (other, b"to c".to_vec()));
    let a_udp = Bound { socket: c_udp.socket, relay: asked, tag };
    a_udp.send(channel, b"of a").await;
    assert_eq!(b_udp.receive().await, (channel, b"of a".to_vec()));
    b_udp.send(channel, b"to a").await;
    assert_eq!(a_udp.receive().await, (channel, b"to a".to_vec()));
    drop(c);
    relay.until(|status| status.clients == 3).await;
    b_udp.send(channel, b"still").await;
    assert_eq!(a_udp.receive().await, (channel, b"still".to_vec()));
}

#[tokio::test]
async fn whoever_saw_the_token_cannot_come_between_an_answer_and_what_is_said_to_it() {
    let relay = TestRelay::start(&Settings::default());
    let (mut a, mut b, channel) = pair(&relay).await;
    let b_udp = Bound::new(&mut b).await;
    let a_socket = socket().await;
    let (nonce, udp) = Bound::asked(&a, &a_socket).await;
    for _ in 0..20 {
        let stranger = socket().await;
        let (of_stranger, seen) = Bound::asked(&a, &stranger).await;
        assert_eq!(seen, stranger.local_addr().unwrap());
        assert_ne!(of_stranger, nonce);
    }
    let a_udp = Bound::said(&mut a, a_socket, nonce, udp).await;
    a_udp.send(channel, b"there").await;
    assert_eq!(b_udp.receive().await, (channel, b"there".to_vec()));
    b_udp.send(channel, b"and back").await;
    assert_eq!(a_udp.receive().await, (channel, b"and back".to_vec()));
    // The same again is no other binding.
    let again = Bound::said(&mut a, a_udp.socket, nonce, udp).await;
    assert_eq!(again.tag, a_udp.tag);
}

#[tokio::test]
async fn the_rate_of_a_client_holds_for_both_ways_of_sending() {
    let mut settings = Settings::default();
    settings.limits.bytes_per_second = Some(10_000.0);
    let relay = TestRelay::start(&settings);
    let (mut a, mut b, channel) = pair(&relay).await;
    let (a_udp, _b_udp) = (Bound::new(&mut a).await, Bound::new(&mut b).await);
    for _ in 0..50 {
        a_udp.send(channel, &[7; 1000]).await;
    }
    let total = |status: &shadowmesh_relay::admin::Status| {
        status.forwarded_datagrams + dropped(status, "datagrams_rate")
    };
    let status = relay.until(|status| total(status) == 50).await;
    assert!((9..=20).contains(&status.forwarded_datagrams), "{} passed", status.forwarded_datagrams);
}
