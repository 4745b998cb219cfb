//! An open stream, from its first message to its last.
//!
//! # Writing
//!
//! Control before data. Whatever waits is written and flushed in one go, so batches grow with the load and no timer delays
//! a lone packet. Data waits while enough of it is under way ([`StreamQueue::held`]).
//!
//! # Ending
//!
//! A clean end says everything that was sent before it, then closes, and goes on reading until the relay has closed as well
//! (or [`LINGER`] is over): a socket that is closed with unread bytes resets the connection, and the reset overtakes what was
//! said last.

use super::connect::{Connected, Ws};
use super::{Relay, RelayEvent, RelayStream, StreamError};
use crate::plane::{InboundMessage, StreamQueue, stream_queue};
use crate::transport::outside;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use shadowmesh_proto::endpoint::event::{Contact, Via};
use shadowmesh_proto::wire::relay::StreamMessage;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

/// Bytes handed to the library before a flush, so that the queue's count stays honest.
const WRITE_ROUND: usize = 128 * 1024;
/// Control messages that wait for a relay that reads slowly. Each is an answer to something or part of a handshake, so with an honest
/// relay no more come together than one turn of the loop says to all of its 512 peers, which may be a certificate in parts to each; one
/// that asks without reading must not fill this node's memory, and gets 10 MB of it.
const CONTROL_QUEUE: usize = 8192;
/// How long a clean end waits for the relay to close.
const LINGER: Duration = Duration::from_millis(400);
/// REGISTERED and the first FORWARD may come in one piece, and only the endpoint can read REGISTERED: the FORWARD waits
/// this long for its word. Longer, and the relay broke the protocol.
const REGISTERED_WITHIN: Duration = Duration::from_secs(1);

/// What a stream is told.
#[derive(Debug)]
pub(super) enum StreamCommand {
    Send(Vec<u8>),
    Registered,
    GiveUp,
    Finish,
}

/// Runs an open stream to its end.
pub(super) async fn converse(connected: Connected, relay: &Relay) -> StreamError {
    let Connected { ws, remote, other_family, is_proxied, .. } = connected;
    let (data, queue) = stream_queue(relay.producer.clone());
    let (control, control_queue) = mpsc::channel(CONTROL_QUEUE);
    let (commands, mut told) = mpsc::unbounded_channel();
    let local = ws.get_ref().tcp().local_addr().ok();
    let stream = RelayStream { commands };
    let opened = RelayEvent::Opened { remote, other_family, local, is_proxied, data, stream };
    if relay.events.send((relay.no, opened)).await.is_err() {
        return StreamError::Ended;
    }
    // The socket is the writer's from here on, and how much it holds unsent follows its pace.
    let socket = ws.get_ref().as_fd().try_clone_to_owned().ok();
    let (sink, stream) = ws.split();
    let (registered, is_registered) = watch::channel(false);
    let reading = read(stream, relay, is_registered);
    let writing = write(sink, socket, control_queue, queue);
    tokio::pin!(reading, writing);
    loop {
        tokio::select! {
            // First, so that what is to go before data is with the writer before the writer looks.
            biased;
            command = told.recv() => match command {
                Some(StreamCommand::Send(message)) => {
                    // The writer lives as long as this loop, so full is the only reason to refuse.
                    if control.try_send(Bytes::from(message)).is_err() {
                        return StreamError::Stuck;
                    }
                }
                Some(StreamCommand::Registered) => {
                    registered.send_replace(true);
                }
                Some(StreamCommand::GiveUp) | None => return StreamError::GivenUp,
                Some(StreamCommand::Finish) => {
                    // The writer closes once it has said what was queued before this.
                    drop(control);
                    let _ = timeout(LINGER, async { tokio::join!(&mut writing, &mut reading) }).await;
                    return StreamError::Ended;
                }
            },
            why = &mut reading => return why,
            why = &mut writing => return why,
        }
    }
}

async fn read(
    mut stream: SplitStream<Ws>,
    relay: &Relay,
    mut is_registered: watch::Receiver<bool>,
) -> StreamError {
    loop {
        let message = match stream.next().await {
            Some(Ok(Message::Binary(message))) => message,
            // The library answers a Ping with the next thing it writes or reads.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Text(_) | Message::Frame(_))) => return StreamError::Protocol,
            Some(Ok(Message::Close(_))) | None => return StreamError::Closed,
            Some(Err(error)) => return StreamError::Broken(error),
        };
        match StreamMessage::parse(&message) {
            Ok(StreamMessage::Forward(forward)) => {
                if !*is_registered.borrow() {
                    let waited = timeout(REGISTERED_WITHIN, is_registered.wait_for(|is_it| *is_it)).await;
                    if !matches!(waited, Ok(Ok(_))) {
                        return StreamError::Protocol;
                    }
                }
                let via = Via::Channel(Contact { relay: relay.no, channel: forward.channel });
                let message = message.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                if !relay.inbound.send(InboundMessage { via, message }).await {
                    return StreamError::Ended;
                }
            }
            Ok(StreamMessage::LinkInit(_) | StreamMessage::LinkResponse(_) | StreamMessage::Control(_)) => {
                if relay.events.send((relay.no, RelayEvent::Message(message))).await.is_err() {
                    return StreamError::Ended;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a message of the relay does not parse");
                return StreamError::Protocol;
            }
        }
    }
}

async fn write(
    mut sink: SplitSink<Ws, Message>,
    socket: Option<OwnedFd>,
    mut control: mpsc::Receiver<Bytes>,
    mut data: StreamQueue,
) -> StreamError {
    loop {
        let held = data.held(Instant::now().into_std(), || outside::info(socket.as_ref()?));
        let (first, mut sent) = tokio::select! {
            biased;
            message = control.recv() => match message {
                Some(message) => (message, 0),
                None => {
                    let closed = sink.close().await;
                    return closed.map_or_else(StreamError::Broken, |()| StreamError::Ended);
                }
            },
            () = outside::look_again(held), if held.is_some() => continue,
            Some(message) = data.next(), if held.is_none() => {
                let len = message.len();
                (message, len)
            }
        };
        let began = Instant::now();
        let mut result = sink.feed(Message::Binary(first)).await;
        while result.is_ok() && sent < WRITE_ROUND {
            if let Ok(message) = control.try_recv() {
                result = sink.feed(Message::Binary(message)).await;
            } else if data.may_go_on()
                && let Some(message) = data.try_next()
            {
                sent += message.len();
                result = sink.feed(Message::Binary(message)).await;
            } else {
                break;
            }
        }
        if result.is_ok() {
            result = sink.flush().await;
        }
        if sent > 0
            && let Some(unsent) = data.on_written(Instant::now().into_std(), sent, began.elapsed())
            && let Some(socket) = &socket
        {
            outside::hold_unsent(socket, unsent);
        }
        if let Err(error) = result {
            return StreamError::Broken(error);
        }
        // One task must not keep the others of this thread from running, however much there is to write.
        tokio::task::consume_budget().await;
    }
}
