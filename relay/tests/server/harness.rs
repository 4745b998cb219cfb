//! A relay on loopback and clients made of the protocol crate and a WebSocket library.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use shadowmesh_proto::crypto::keys::{NetworkKeys, NetworkSecret, NodeSecret};
use shadowmesh_proto::ids::{ChannelId, NodeId, RelayId};
use shadowmesh_proto::link::{ClientInput, ClientLink, Registration};
use shadowmesh_proto::rng::{Rng, SeededRng};
use shadowmesh_proto::version::{SPOKEN, Versions};
use shadowmesh_proto::wire::relay::{Control, ForwardBuilder};
use shadowmesh_relay::admin::Status;
use shadowmesh_relay::config::Settings;
use shadowmesh_relay::server::tls::Front;
use shadowmesh_relay::server::{Handle, Server, Sockets, Stop, StunAlt};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// A relay serving on a loopback port of its own.
pub(crate) struct TestRelay {
    pub(crate) key: RelayId,
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    pub(crate) stop: Stop,
    pub(crate) served: tokio::task::JoinHandle<()>,
}

impl TestRelay {
    pub(crate) fn start(settings: &Settings) -> Self {
        Self::start_on("127.0.0.1:0", settings)
    }

    pub(crate) fn start_on(listen: &str, settings: &Settings) -> Self {
        Self::start_speaking(listen, settings, SPOKEN)
    }

    /// A relay that speaks these versions of the protocol.
    pub(crate) fn start_speaking(listen: &str, settings: &Settings, versions: Versions) -> Self {
        Self::start_with(listen, settings, versions, |server| server)
    }

    /// A relay that answers TLS as well.
    pub(crate) fn start_with_tls(settings: &Settings, front: Front) -> Self {
        Self::start_with("127.0.0.1:0", settings, SPOKEN, |server| server.with_tls(front))
    }

    fn start_with(
        listen: &str,
        settings: &Settings,
        versions: Versions,
        with: impl FnOnce(Server) -> Server,
    ) -> Self {
        let secret = NodeSecret::generate(&mut SeededRng::new(99));
        let sockets = Sockets { listen: vec![listen.parse().unwrap()], stun_alt: StunAlt::Next };
        let server = with(Server::bind(&sockets, settings, secret.clone(), versions).unwrap());
        let address = SocketAddr::from(([127, 0, 0, 1], server.ports()[0]));
        let (handle, stop) = (server.handle(), Stop::new());
        let stopping = stop.clone();
        let served = tokio::spawn(async move { server.run(stopping).await.unwrap() });
        Self { key: RelayId(secret.public().0), address, handle, stop, served }
    }
}

impl TestRelay {
    /// Waits until the relay's own account satisfies `holds`.
    pub(crate) async fn until(&self, holds: impl Fn(&Status) -> bool) -> Status {
        loop {
            let status = Status::of(&self.handle);
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// How often `cause` dropped something so far.
    pub(crate) fn drops(&self, cause: &str) -> u64 {
        dropped(&Status::of(&self.handle), cause)
    }
}

pub(crate) fn dropped(status: &Status, cause: &str) -> u64 {
    status.drops.get(cause).and_then(serde_json::Value::as_u64).unwrap()
}

/// What a client received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Control(Control),
    Forward(Bytes),
    Closed,
}

/// A registered client.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) ws: WebSocketStream<S>,
    pub(crate) link: ClientLink,
    pub(crate) node: NodeId,
    pub(crate) network: NetworkKeys,
    pub(crate) registered: Control,
}

pub(crate) fn network(seed: u64) -> NetworkSecret {
    NetworkSecret::generate(&mut SeededRng::new(seed))
}

pub(crate) async fn open(relay: &TestRelay) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(relay.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    upgrade(stream).await
}

pub(crate) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    tokio_tungstenite::client_async("ws://relay/v1", stream).await.unwrap().0
}

impl Client {
    pub(crate) async fn join(relay: &TestRelay, secret: &NetworkSecret, seed: u64) -> Self {
        Self::try_join(relay, open(relay).await, secret, seed).await.unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.ws.get_ref().local_addr().unwrap()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Registers over `ws`; the ERROR body when the relay refuses.
    pub(crate) async fn try_join(
        relay: &TestRelay,
        ws: WebSocketStream<S>,
        secret: &NetworkSecret,
        seed: u64,
    ) -> Result<Self, Control> {
        Self::try_speaking(relay, ws, secret, seed, SPOKEN).await
    }

    /// As [`Self::try_join`], by a program that speaks these versions of the protocol.
    pub(crate) async fn try_speaking(
        relay: &TestRelay,
        mut ws: WebSocketStream<S>,
        secret: &NetworkSecret,
        seed: u64,
        versions: Versions,
    ) -> Result<Self, Control> {
        let mut rng = SeededRng::new(seed);
        let node = NodeSecret::generate(&mut rng);
        let (mut link, init) = ClientLink::begin(&node, relay.key, &mut rng).unwrap();
        let network = secret.derive();
        let registration =
            Registration { node: node.public(), network: &network, instance: rng.next_u64(), versions };
        ws.send(Message::binary(init)).await.unwrap();
        loop {
            let message = ws.next().await.unwrap().unwrap();
            match link.handle(registration, &message.into_data()).unwrap() {
                ClientInput::Send(register) => ws.send(Message::binary(register)).await.unwrap(),
                ClientInput::Control(registered @ Control::Registered { .. }) => {
                    return Ok(Self { ws, link, node: node.public(), network, registered });
                }
                ClientInput::Control(body) => return Err(body),
                ClientInput::Forward | ClientInput::Ignored => panic!("not before REGISTERED"),
            }
        }
    }

    pub(crate) async fn send(&mut self, body: Control) {
        let message = self.link.seal(&body).unwrap();
        self.ws.send(Message::binary(message)).await.unwrap();
    }

    pub(crate) async fn forward(&mut self, channel: ChannelId, packets: &[&[u8]]) {
        self.ws.send(Message::binary(forward(channel, packets))).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Received {
        let registration =
            Registration { node: self.node, network: &self.network, instance: 0, versions: SPOKEN };
        loop {
            let Some(Ok(message)) = self.ws.next().await else {
                return Received::Closed;
            };
            match message {
                Message::Binary(bytes) => match self.link.handle(registration, &bytes).unwrap() {
                    ClientInput::Control(body) => return Received::Control(body),
                    ClientInput::Forward => return Received::Forward(bytes),
                    ClientInput::Ignored => {}
                    ClientInput::Send(_) => panic!("a handshake on an open link"),
                },
                Message::Close(_) => return Received::Closed,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    pub(crate) async fn control(&mut self) -> Control {
        let received = self.next().await;
        let Received::Control(body) = received else {
            panic!("expected a control body, got {received:?}");
        };
        body
    }

    /// The channel of the PEER that comes next.
    pub(crate) async fn met(&mut self, node: NodeId) -> ChannelId {
        let body = self.control().await;
        let Control::Peer { peer, channel, .. } = body else {
            panic!("expected PEER, got {body:?}");
        };
        assert_eq!(peer, node);
        channel
    }

    /// Sends bytes as one binary message, whatever they are.
    pub(crate) async fn raw(&mut self, bytes: Vec<u8>) {
        self.ws.send(Message::binary(bytes)).await.unwrap();
    }

    /// Asserts that the relay closes the connection, whatever else comes first.
    pub(crate) async fn closed(mut self) {
        while self.next().await != Received::Closed {}
    }

    /// Waits until the relay has read everything sent before.
    pub(crate) async fn sync(&mut self) {
        self.send(Control::Ping { id: 77 }).await;
        assert_eq!(self.next().await, Received::Control(Control::Pong { id: 77 }));
    }
}

pub(crate) fn forward(channel: ChannelId, packets: &[&[u8]]) -> Vec<u8> {
    let mut builder = ForwardBuilder::new(channel, Vec::new());
    for packet in packets {
        assert!(builder.push(packet));
    }
    builder.finish()
}

/// Two clients of one network that have met.
pub(crate) async fn pair(relay: &TestRelay) -> (Client, Client, ChannelId) {
    pair_of(relay, 1).await
}

/// Two members of another network for each number.
pub(crate) async fn pair_of(relay: &TestRelay, number: u64) -> (Client, Client, ChannelId) {
    let secret = network(number);
    let mut a = Client::join(relay, &secret, 10 * number).await;
    let mut b = Client::join(relay, &secret, 10 * number + 1).await;
    a.send(Control::Connect { peer: None }).await;
    let channel = a.met(b.node).await;
    assert_eq!(b.met(a.node).await, channel);
    (a, b, channel)
}
