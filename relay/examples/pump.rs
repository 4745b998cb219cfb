//! Measures what a relay on this machine forwards: two clients, one pumps FORWARD messages, the other counts.
//!
//! `cargo run --release --example pump -- RELAY-TICKET [PACKETS-PER-MESSAGE] [SECONDS]`, beside a running relay. Frames are
//! written with prepared masks by this program itself, so that the client costs as little as it can.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use futures_util::{SinkExt as _, StreamExt as _};
use shadowmesh_proto::crypto::keys::{NetworkSecret, NodeSecret};
use shadowmesh_proto::ids::ChannelId;
use shadowmesh_proto::link::{ClientInput, ClientLink, Registration};
use shadowmesh_proto::rng::Rng as _;
use shadowmesh_proto::ticket::RelayTicket;
use shadowmesh_proto::wire::relay::{Control, ForwardBuilder};
use shadowmesh_relay::random::SystemRng;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const PACKET: usize = 1200;

struct Client {
    ws: WebSocketStream<TcpStream>,
    link: ClientLink,
    node: NodeSecret,
}

async fn join(ticket: &RelayTicket, network: &NetworkSecret) -> anyhow::Result<Client> {
    let address = ticket.addresses.first().map(String::as_str).unwrap_or_default();
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut ws, _) = tokio_tungstenite::client_async("ws://relay/v1", stream).await?;
    let node = NodeSecret::generate(&mut SystemRng);
    let (mut link, init) = ClientLink::begin(&node, ticket.key, &mut SystemRng)?;
    let keys = network.derive();
    ws.send(Message::binary(init)).await?;
    while let Some(message) = ws.next().await {
        let registration =
            Registration { node: node.public(), network: &keys, instance: SystemRng.next_u64() };
        match link.handle(registration, &message?.into_data())? {
            ClientInput::Send(register) => ws.send(Message::binary(register)).await?,
            ClientInput::Control(Control::Registered { .. }) => return Ok(Client { ws, link, node }),
            other @ (ClientInput::Control(_) | ClientInput::Forward | ClientInput::Ignored) => {
                anyhow::bail!("the relay refused: {other:?}")
            }
        }
    }
    anyhow::bail!("the relay closed the connection")
}

async fn channel(client: &mut Client, network: &NetworkSecret) -> anyhow::Result<ChannelId> {
    let keys = network.derive();
    while let Some(message) = client.ws.next().await {
        let registration = Registration { node: client.node.public(), network: &keys, instance: 0 };
        if let ClientInput::Control(Control::Peer { channel, .. }) =
            client.link.handle(registration, &message?.into_data())?
        {
            return Ok(channel);
        }
    }
    anyhow::bail!("the relay closed the connection")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let ticket = RelayTicket::parse(&args.next().unwrap_or_default(), 0)?;
    let packets: usize = args.next().map_or(Ok(40), |text| text.parse())?;
    let seconds: u64 = args.next().map_or(Ok(5), |text| text.parse())?;
    let network = NetworkSecret::generate(&mut SystemRng);
    let mut sender = join(&ticket, &network).await?;
    let mut receiver = join(&ticket, &network).await?;
    let connect = sender.link.seal(&Control::Connect { peer: None })?;
    sender.ws.send(Message::binary(connect)).await?;
    let channel = channel(&mut sender, &network).await?;

    let mut builder = ForwardBuilder::new(channel, Vec::new());
    let full = (0..packets).all(|_| builder.push(&[7; PACKET]));
    anyhow::ensure!(full, "so many packets do not fit a message");
    let message = builder.finish();
    // A frame with an all-zero mask: the same bytes each time, at no cost for this side (RFC 6455 §5.3).
    let mut frame = vec![0x82];
    match u16::try_from(message.len()) {
        Ok(short) if short > 125 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&short.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&u64::try_from(message.len())?.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&message);
    let batch = frame.repeat((128 * 1024 / frame.len()).max(1));

    let mut out = sender.ws.into_inner();
    let pump = tokio::spawn(async move { while out.write_all(&batch).await.is_ok() {} });
    let input = receiver.ws.get_mut();
    let mut buffer = vec![0; 256 * 1024];
    let (mut bytes, began) = (0u64, Instant::now());
    while began.elapsed() < Duration::from_secs(seconds) {
        bytes += u64::try_from(input.read(&mut buffer).await?)?;
    }
    let elapsed = began.elapsed();
    pump.abort();
    let mbit = u128::from(bytes) * 8 / elapsed.as_micros();
    println!("{{\"packets_per_message\": {packets}, \"packet_bytes\": {PACKET}, \"mbit_s\": {mbit}}}");
    Ok(())
}
