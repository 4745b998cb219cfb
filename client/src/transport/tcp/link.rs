//! A connection, from its first message to its last. A message is its length (u32) and a FORWARD message of the relay protocol, whose
//! channel means nothing here.
//!
//! Until it is kept, messages go to the event loop: few, small, and for [`KEPT_WITHIN`]. From then on they go to the data plane.

use super::accept::{Place, reset};
use super::congestion::Usual;
use super::{Opened, Shared, TcpEvent};
use crate::plane::{InboundMessage, StreamQueue, stream_queue};
use crate::transport::outside;
use bytes::{Buf, Bytes, BytesMut};
use shadowmesh_proto::endpoint::event::Via;
use shadowmesh_proto::ids::PeerSlot;
use shadowmesh_proto::transmit::TcpLink;
use shadowmesh_proto::wire::relay::{MAX_MESSAGE, StreamMessage};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Somebody who is not known by then is sent away.
pub(super) const KEPT_WITHIN: Duration = Duration::from_secs(3);
/// Bytes of a message of somebody who is not known: a PING of full size and what is around it.
const UNKNOWN_MESSAGE: usize = 2048;
/// Messages of somebody who is not known: PINGs, repeated each half second.
const UNKNOWN_MESSAGES: u32 = 16;
/// Control messages that wait: one end that asks and does not read must not fill this node's memory.
const CONTROL_QUEUE: usize = 1024;
/// What was said before a clean end leaves within this, or is given up: the other end may have stopped reading, and would hold on to
/// this end's descriptor and task for as long as it likes.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// Small reads are gathered.
const READ_BUFFER: usize = 16 * 1024;

/// Speaks to a connection. Dropping it ends it well: what was said before is still sent, as far as the other end takes it in time.
#[derive(Debug)]
pub(super) struct LinkHandle {
    control: mpsc::Sender<Bytes>,
    wish: watch::Sender<Wish>,
    /// Bytes that came since it was kept.
    received: Arc<AtomicU64>,
}

/// How a connection came to be.
#[derive(Debug)]
pub(super) enum Origin {
    /// By a try of ours.
    Tried {
        /// Whom it was for.
        peer: PeerSlot,
        /// What it will send by when it is no longer new.
        usual: Option<Usual>,
    },
    /// Somebody came, and has a place among the strangers until it is kept.
    Came(Place),
}

/// What is wanted of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Nobody knows yet whose it is.
    Unknown,
    /// It is a peer's.
    Kept,
    /// It is to end at once.
    Aborted,
}

impl LinkHandle {
    pub(super) fn send(&self, message: Vec<u8>) {
        // Full, or ended: it is lost like a packet, and its sender says it again.
        let _ = self.control.try_send(Bytes::from(message));
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn keep(&self) {
        self.wish.send_replace(Wish::Kept);
    }

    pub(super) fn abort(self) {
        self.wish.send_replace(Wish::Aborted);
    }

    /// Of no connection, and whether it is to end: said by the returned closure.
    #[cfg(test)]
    pub(super) fn of_none() -> (Self, impl Fn() -> bool) {
        let (wish, wishes) = watch::channel(Wish::Unknown);
        let handle = Self { control: mpsc::channel(1).0, wish, received: Arc::default() };
        (handle, move || *wishes.borrow() == Wish::Aborted)
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("it broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the other end breaks the protocol")]
    Protocol,
    #[error("nobody knows who it is")]
    Unknown,
    #[error("it is not needed any more")]
    NotNeeded,
    #[error("the data plane has ended")]
    Ended,
}

/// Runs a connection to its end.
///
/// One that does not end well is reset: a socket that waits for the other end to hear of a close would hold on to its pair of ports,
/// and no other connection could be opened between them for minutes (RFC 9293 §3.6).
pub(super) async fn run(mut stream: TcpStream, remote: SocketAddr, origin: Origin, shared: Arc<Shared>) {
    let (peer, usual, place) = match origin {
        Origin::Tried { peer, usual } => (Some(peer), usual, None),
        Origin::Came(place) => (None, None, Some(place)),
    };
    let Ok(local) = stream.local_addr() else { return };
    let link = shared.name(SocketAddr::new(remote.ip().to_canonical(), remote.port()));
    let (data, queue) = stream_queue(shared.producer.clone());
    let (control, control_queue) = mpsc::channel(CONTROL_QUEUE);
    let (wish, wishes) = watch::channel(Wish::Unknown);
    let received = Arc::default();
    let handle = LinkHandle { control, wish, received: Arc::clone(&received) };
    let opened = Opened { link, peer, local: local.ip().to_canonical(), data, handle };
    if shared.events.send(TcpEvent::Opened(opened)).await.is_err() {
        return;
    }
    let (reader, writer) = stream.split();
    let ended = tokio::select! {
        ended = read(reader, link, &shared, &received, wishes.clone()) => ended,
        ended = write(writer, control_queue, queue, usual) => ended,
        ended = watched(wishes, place) => ended,
    };
    if let Err(why) = ended {
        tracing::debug!(%remote, %why, "a direct connection ended");
        reset(stream);
    }
    let _ = shared.events.send(TcpEvent::Closed { link }).await;
}

/// Ends when nobody keeps it in time, or when it is to end; when its handle is gone, only once the writer had its time.
async fn watched(mut wishes: watch::Receiver<Wish>, place: Option<Place>) -> Result<(), LinkError> {
    let known = async { wishes.wait_for(|wish| *wish != Wish::Unknown).await.is_ok() };
    match tokio::time::timeout(KEPT_WITHIN, known).await {
        Err(_) => return Err(LinkError::Unknown),
        Ok(false) => return lingered().await,
        Ok(true) => {}
    }
    drop(place);
    if wishes.wait_for(|wish| *wish == Wish::Aborted).await.is_err() {
        return lingered().await;
    }
    Err(LinkError::NotNeeded)
}

/// The writer, which sees that the handle is gone once it has nothing more to write, did not end in time.
async fn lingered() -> Result<(), LinkError> {
    tokio::time::sleep(LINGER).await;
    Err(LinkError::NotNeeded)
}

async fn read(
    reader: ReadHalf<'_>,
    link: TcpLink,
    shared: &Shared,
    received: &AtomicU64,
    wishes: watch::Receiver<Wish>,
) -> Result<(), LinkError> {
    let mut reader = BufReader::with_capacity(READ_BUFFER, reader);
    let mut unknown = 0;
    loop {
        let len = usize::try_from(reader.read_u32().await?).unwrap_or(usize::MAX);
        let is_known = *wishes.borrow() == Wish::Kept;
        if len > if is_known { MAX_MESSAGE } else { UNKNOWN_MESSAGE } {
            return Err(LinkError::Protocol);
        }
        let mut message = BytesMut::zeroed(len);
        reader.read_exact(&mut message).await?;
        if !matches!(StreamMessage::parse(&message), Ok(StreamMessage::Forward(_))) {
            return Err(LinkError::Protocol);
        }
        if is_known {
            received.fetch_add(u64::try_from(len).unwrap_or_default(), Ordering::Relaxed);
            if !shared.inbound.send(InboundMessage { via: Via::Tcp(link), message }).await {
                return Err(LinkError::Ended);
            }
            continue;
        }
        unknown += 1;
        let event = TcpEvent::Message { link, message: message.freeze() };
        if unknown > UNKNOWN_MESSAGES || shared.events.send(event).await.is_err() {
            return Err(LinkError::Unknown);
        }
    }
}

/// Control before data. Ends well when it is not needed any more, once what was said before is on its way.
async fn write(
    mut writer: WriteHalf<'_>,
    mut control: mpsc::Receiver<Bytes>,
    mut data: StreamQueue,
    mut usual: Option<Usual>,
) -> Result<(), LinkError> {
    let due = usual.as_ref().map_or_else(Instant::now, |usual| usual.due);
    let mut remembered = std::pin::pin!(sleep_until(due));
    loop {
        // How much is under way is left to the kernel (`StreamQueue::held` is not asked): of two SYNs that cross it takes a round trip of nothing for
        // the shortest for minutes, beside which any other would look like a queue.
        let (message, sent) = tokio::select! {
            biased;
            () = &mut remembered, if usual.is_some() => {
                if let Some(usual) = usual.take() {
                    usual.take_up(writer.as_ref());
                }
                continue;
            }
            message = control.recv() => {
                let Some(message) = message else { return Ok(writer.shutdown().await?) };
                (message, 0)
            }
            Some(message) = data.next() => {
                let len = message.len();
                (message, len)
            }
        };
        let len = u32::try_from(message.len()).map_err(|_| LinkError::Protocol)?;
        let began = Instant::now();
        writer.write_all_buf(&mut Buf::chain(&len.to_be_bytes()[..], message)).await?;
        if sent > 0
            && let Some(unsent) = data.on_written(Instant::now().into_std(), sent, began.elapsed())
        {
            outside::hold_unsent(writer.as_ref(), unsent);
        }
        // One task must not keep the others of this thread from running, however much there is to write.
        tokio::task::consume_budget().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::Waker;
    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    #[tokio::test]
    async fn it_sends_as_the_machine_does_once_its_first_round_trip_is_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        let before = SockRef::from(&socket).tcp_congestion().unwrap();
        let usual = Usual::put_off(&socket, Duration::from_millis(50)).unwrap();
        let mut stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (reader, writer) = stream.split();
        let in_use = || SockRef::from(reader.as_ref()).tcp_congestion().unwrap();
        let (_control, control) = mpsc::channel(1);
        let (_data, queue) = stream_queue(Waker::new().unwrap());

        let due = usual.due;
        let mut writing = std::pin::pin!(write(writer, control, queue, Some(usual)));
        while in_use() != before {
            assert!(timeout(Duration::from_millis(1), &mut writing).await.is_err());
            assert!(Instant::now() < due + Duration::from_secs(10), "it keeps what it began with");
        }
        assert!(Instant::now() >= due);
    }
}
