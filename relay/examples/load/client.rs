//! A registered client.

use crate::tls;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use shadowmesh_proto::crypto::keys::{NetworkSecret, NodeSecret};
use shadowmesh_proto::ids::ChannelId;
use shadowmesh_proto::link::{ClientInput, ClientLink, Registration};
use shadowmesh_proto::ticket::{Address, RelayTicket};
use shadowmesh_proto::version::SPOKEN;
use shadowmesh_proto::wire::relay::Control;
use shadowmesh_relay::random::SystemRng;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// That come at once; more would only wait for each other on the relay's one thread.
const TOGETHER: usize = 32;

/// What a stream goes by: TCP, or TLS.
pub(crate) trait Line: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Line for S {}

pub(crate) struct Client {
    ws: WebSocketStream<Box<dyn Line>>,
    link: ClientLink,
    node: NodeSecret,
    network: NetworkSecret,
    /// What its requests of STUN carry, and where they go first (protocol §3.8).
    pub(crate) stun: ([u8; 16], u16),
}

impl Client {
    pub(crate) async fn join(ticket: &RelayTicket, network: &NetworkSecret) -> anyhow::Result<Self> {
        let address = ticket.addresses.first().map(String::as_str).unwrap_or_default();
        let Address { is_tls, host_port } = Address::of(address);
        let stream = TcpStream::connect(host_port).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Line> =
            if is_tls { Box::new(tls::connect(stream).await?) } else { Box::new(stream) };
        let config = WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0);
        let (mut ws, _) =
            tokio_tungstenite::client_async_with_config("ws://relay/v1", stream, Some(config)).await?;
        let node = NodeSecret::generate(&mut SystemRng);
        let (link, init) = ClientLink::begin(&node, ticket.key, &mut SystemRng)?;
        ws.send(Message::binary(init)).await?;
        let mut client = Self { ws, link, node, network: network.clone(), stun: ([0; 16], 0) };
        let body = client.control().await?;
        let Control::Registered { stun_token, stun_ports, .. } = body else {
            anyhow::bail!("the relay refused: {body:?}");
        };
        client.stun = (stun_token, stun_ports.first().copied().unwrap_or_default());
        Ok(client)
    }

    pub(crate) async fn send(&mut self, body: &Control) -> anyhow::Result<()> {
        let message = self.link.seal(body)?;
        Ok(self.ws.send(Message::binary(message)).await?)
    }

    /// The channel to whoever it is introduced to next.
    pub(crate) async fn meet(&mut self) -> anyhow::Result<ChannelId> {
        loop {
            if let Control::Peer { channel, .. } = self.control().await? {
                return Ok(channel);
            }
        }
    }

    /// Answers the relay for ever.
    pub(crate) async fn idle(mut self) -> anyhow::Result<()> {
        loop {
            if let Control::Ping { id } = self.control().await? {
                self.send(&Control::Pong { id }).await?;
            }
        }
    }

    /// The next FORWARD message.
    pub(crate) async fn forwarded(&mut self) -> anyhow::Result<Bytes> {
        loop {
            if let Input::Forward(message) = self.next().await? {
                return Ok(message);
            }
        }
    }

    pub(crate) async fn forward(&mut self, message: Bytes) -> anyhow::Result<()> {
        Ok(self.ws.send(Message::binary(message)).await?)
    }

    pub(crate) fn into_stream(self) -> Box<dyn Line> {
        self.ws.into_inner()
    }

    pub(crate) async fn control(&mut self) -> anyhow::Result<Control> {
        loop {
            if let Input::Control(body) = self.next().await? {
                return Ok(body);
            }
        }
    }

    async fn next(&mut self) -> anyhow::Result<Input> {
        let network = self.network.derive();
        let registration =
            Registration { node: self.node.public(), network: &network, instance: 1, versions: SPOKEN };
        while let Some(message) = self.ws.next().await {
            let message = message?.into_data();
            match self.link.handle(registration, &message)? {
                ClientInput::Send(message) => self.ws.send(Message::binary(message)).await?,
                ClientInput::Control(body) => return Ok(Input::Control(body)),
                ClientInput::Forward => return Ok(Input::Forward(message)),
                ClientInput::Ignored => {}
            }
        }
        anyhow::bail!("the relay closed the connection")
    }
}

/// `count` of what `come` makes, [`TOGETHER`] at once; `here` takes them as they are there.
pub(crate) async fn all_come<T, C>(
    count: usize,
    come: impl Fn() -> C,
    mut here: impl FnMut(T),
) -> anyhow::Result<()>
where
    T: Send + 'static,
    C: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let mut coming = JoinSet::new();
    for number in 0..count {
        coming.spawn(come());
        if number >= TOGETHER
            && let Some(come) = coming.join_next().await
        {
            here(come??);
        }
    }
    while let Some(come) = coming.join_next().await {
        here(come??);
    }
    Ok(())
}

enum Input {
    Control(Control),
    Forward(Bytes),
}

/// Two clients of one network, and their channel.
pub(crate) async fn pair(ticket: &RelayTicket) -> anyhow::Result<(Client, Client, ChannelId)> {
    let network = NetworkSecret::generate(&mut SystemRng);
    let mut one = Client::join(ticket, &network).await?;
    let mut other = Client::join(ticket, &network).await?;
    one.send(&Control::Connect { peer: None }).await?;
    let channel = one.meet().await?;
    anyhow::ensure!(other.meet().await? == channel, "a pair has one channel");
    Ok((one, other, channel))
}
