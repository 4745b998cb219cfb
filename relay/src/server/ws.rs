//! A relay stream: binary WebSocket messages over any byte stream.
//!
//! The library parses what comes (frames, masks, fragments, pings, the closing handshake); it is given an adapter that reads
//! from the stream and *collects* what it wants to answer. Writing is ours, because a relay's frames are never masked: a
//! message goes out as its header and, untouched, the very bytes that came in from the other client, many frames per
//! `writev`. The library would copy each message into a buffer that stays as large as the largest burst was.
//!
//! Invariants:
//! - A frame once begun is finished before anything else is written.
//! - No more bytes than the line takes in a few milliseconds ([`Pace`]), beyond one message, are staged here, as many are unsent in the
//!   kernel, and little stands in the line ([`Flight`]): the rest waits in the client's queues, where control overtakes data and the oldest
//!   data can still be dropped.

use crate::core::limits::Full;
use crate::server::refusal::retry;
use crate::server::socket::Line;
use bytes::{Buf as _, Bytes};
use shadowmesh_proto::queueing::{Flight, Pace};
use shadowmesh_proto::wire::relay::{HTTP_PATH, MAX_MESSAGE};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::ReadBuf;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::RETRY_AFTER;
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{self, Message};

/// What may wait for a client's line in its queue, where it is known to be slow. A flow that begins puts twice as much into it with each round
/// trip, and is only then told to slow down; with the line's own buffer before it this is a tenth of a second.
const BOUND: Duration = Duration::from_millis(40);
/// Bytes staged for the socket before its backlog is left to the queues, at most.
const MAX_STAGED: usize = 128 * 1024;
/// And messages: each takes memory beside its bytes.
const MAX_STAGED_MESSAGES: usize = 512;
/// Buffers handed to one `writev`. The kernel takes 1,024; more than a few dozen gain nothing.
const MAX_SLICES: usize = 64;
/// What comes over the line for one message before others get their turn, bytes: the longest, its header, and what is read ahead. Frames without content, or records
/// with next to none, would else be read for as long as they come.
const READ_AT_ONCE: usize = 2 * MAX_MESSAGE;
/// Unwritten answers to pings beyond which further ones are not answered, bytes.
const MAX_REPLIES: usize = 1024;
/// Longest frame header of a server: two bytes and an eight-byte length (RFC 6455 §5.2).
const MAX_HEADER: usize = 10;

/// Why a stream is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The other side closed it, properly or not.
    #[error("the client closed the connection")]
    Closed,
    /// No WebSocket, or one used in a way that version 1 of the protocol does not (text, oversized messages).
    #[error("not a WebSocket of this protocol: {0}")]
    Protocol(String),
    /// The network.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<tungstenite::Error> for StreamError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open-ended")]
    fn from(error: tungstenite::Error) -> Self {
        use tungstenite::error::ProtocolError;
        match error {
            tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Protocol(
                ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete,
            ) => Self::Closed,
            tungstenite::Error::Io(error) => Self::Io(error),
            other => Self::Protocol(other.to_string()),
        }
    }
}

/// What is being written: a frame header and its payload, or bytes that are frames already.
#[derive(Debug)]
struct Staged {
    header: [u8; MAX_HEADER],
    header_from: usize,
    header_to: usize,
    payload: Bytes,
}

impl Staged {
    fn message(payload: Bytes) -> Self {
        let header =
            FrameHeader { is_final: true, opcode: OpCode::Data(Data::Binary), ..FrameHeader::default() };
        let mut bytes = [0; MAX_HEADER];
        let mut rest = bytes.as_mut_slice();
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        // Ten bytes hold the longest unmasked header, so this cannot fail.
        let written = header.format(length, &mut rest);
        debug_assert!(written.is_ok(), "an unmasked header has at most ten bytes");
        let header_to = MAX_HEADER - rest.len();
        Self { header: bytes, header_from: 0, header_to, payload }
    }

    const fn frames(bytes: Bytes) -> Self {
        Self { header: [0; MAX_HEADER], header_from: 0, header_to: 0, payload: bytes }
    }

    fn header(&self) -> &[u8] {
        self.header.get(self.header_from..self.header_to).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.header().len() + self.payload.len()
    }

    /// Takes up to `count` bytes off the front; how many are left of `count`.
    fn advance(&mut self, count: usize) -> usize {
        let of_header = count.min(self.header().len());
        self.header_from += of_header;
        let of_payload = (count - of_header).min(self.payload.len());
        self.payload.advance(of_payload);
        count - of_header - of_payload
    }
}

/// One relay stream.
#[derive(Debug)]
pub(super) struct WsStream<S> {
    io: S,
    context: WebSocketContext,
    /// Frames that the library wants to send: answers to pings and to a close.
    replies: Vec<u8>,
    /// Bytes that came over the line and were not asked for ([`Self::take_read`]).
    read: usize,
    staged: VecDeque<Staged>,
    staged_bytes: usize,
    /// Whether what was written may not have left the layer below.
    is_unflushed: bool,
    pace: Pace,
    flight: Flight,
    /// What the socket was last told to hold unsent.
    unsent: usize,
}

impl<S: Line> WsStream<S> {
    /// Answers the upgrade request on `io`, which must be for [`HTTP_PATH`], and whose headers must please `admit`.
    ///
    /// # Errors
    /// [`StreamError`]; a request for anything else was answered with 404, one that was not admitted with why and when to try again.
    pub(super) async fn accept(
        io: S,
        admit: impl FnOnce(&HeaderMap) -> Result<(), Full> + Unpin,
    ) -> Result<Self, StreamError> {
        let config = WebSocketConfig::default()
            .read_buffer_size(S::READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        // The library allocates a read buffer for a stream that we take apart again at once: a small one will do.
        let during_upgrade = config.read_buffer_size(64);
        #[expect(clippy::result_large_err, reason = "the library's signature")]
        let check = |request: &Request, response| {
            let response = check_path(request, response)?;
            admit(request.headers()).map_err(full).map(|()| response)
        };
        let upgraded =
            tokio_tungstenite::accept_hdr_async_with_config(io, check, Some(during_upgrade)).await?;
        Ok(Self {
            io: upgraded.into_inner(),
            context: WebSocketContext::new(Role::Server, Some(config)),
            replies: Vec::new(),
            read: 0,
            staged: VecDeque::new(),
            staged_bytes: 0,
            is_unflushed: false,
            pace: Pace::default(),
            flight: Flight::default(),
            unsent: 0,
        })
    }

    /// How many bytes came over the line since this was last asked, whatever came of them.
    pub(super) const fn take_read(&mut self) -> usize {
        std::mem::replace(&mut self.read, 0)
    }

    /// The next binary message; `None` for a ping, a pong or another sign of life without content.
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        let mut adapter = Adapter { io: &mut self.io, cx, replies: &mut self.replies, read: 0 };
        let result = self.context.read(&mut adapter);
        self.read += adapter.read;
        match result {
            Ok(Message::Binary(message)) => Poll::Ready(Ok(Some(message))),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Poll::Ready(Ok(None)),
            Ok(Message::Text(_)) => Poll::Ready(Err(StreamError::Protocol("a text message".to_owned()))),
            Ok(Message::Close(_)) => Poll::Ready(Err(StreamError::Closed)),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Whether another message may be staged now.
    pub(super) fn has_room(&self) -> bool {
        self.staged_bytes < self.pace.ahead().min(MAX_STAGED) && self.staged.len() < MAX_STAGED_MESSAGES
    }

    /// Whether data may be staged without a look at what is under way.
    pub(super) const fn may_go_on(&self) -> bool {
        self.flight.has_room()
    }

    /// Until when no data is to be staged, because enough is under way; then this is asked again.
    pub(super) fn look(&mut self, now: Instant) -> Option<Instant> {
        self.flight.look(now, self.io.info(), self.pace.ahead())
    }

    /// The socket took so many bytes by `now`, for which it had to be waited so long: that is how fast the line is. How many
    /// bytes may wait for it before it, if that is known.
    pub(super) fn on_written(&mut self, now: Instant, bytes: usize, waited: Duration) -> Option<usize> {
        self.pace.on_written(now, bytes, waited);
        let ahead = self.pace.ahead().min(MAX_STAGED);
        if ahead.abs_diff(self.unsent) > self.unsent / 4 {
            self.unsent = ahead;
            self.io.hold_unsent(ahead);
        }
        self.pace.worth(BOUND)
    }

    /// Whether nothing is left to write.
    pub(super) const fn is_idle(&self) -> bool {
        self.staged_bytes == 0 && self.replies.is_empty() && !self.is_unflushed
    }

    /// Gives memory back: nothing has come for a while.
    pub(super) fn shrink(&mut self) {
        if self.staged.is_empty() {
            self.staged = VecDeque::new();
        }
    }

    /// Stages a message behind what is staged.
    pub(super) fn stage(&mut self, message: Bytes) {
        self.flight.on_given(message.len());
        self.push(Staged::message(message));
    }

    /// Stages a close frame with `code` (RFC 6455 §7.4.1).
    pub(super) fn stage_close(&mut self, code: u16) {
        let [high, low] = code.to_be_bytes();
        self.push(Staged::frames(Bytes::copy_from_slice(&[0x88, 2, high, low])));
    }

    /// Writes what is staged, and the library's answers; ready when nothing is left. `written` grows by the bytes that the
    /// socket took, also when it ends pending.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, written: &mut usize) -> Poll<io::Result<()>> {
        // A client that pings and does not read has these wait, and no more of them.
        if !self.replies.is_empty() && self.staged_bytes < MAX_STAGED {
            let replies = Bytes::from(std::mem::take(&mut self.replies));
            self.push(Staged::frames(replies));
        }
        while self.staged_bytes > 0 {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let parts = self
                .staged
                .iter()
                .flat_map(|staged| [staged.header(), &staged.payload])
                .filter(|part| !part.is_empty());
            let mut count = 0;
            for (slice, part) in slices.iter_mut().zip(parts) {
                *slice = IoSlice::new(part);
                count += 1;
            }
            let slices = slices.get(..count).unwrap_or_default();
            let sent = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *written += sent;
            self.is_unflushed = true;
            self.advance(sent);
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.is_unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Writes what is staged.
    ///
    /// # Errors
    /// Whatever the system says.
    pub(super) async fn write_all(&mut self) -> io::Result<()> {
        let mut written = 0;
        std::future::poll_fn(|cx| self.poll_write(cx, &mut written)).await
    }

    /// The next binary message.
    ///
    /// # Errors
    /// [`StreamError`].
    pub(super) async fn next_message(&mut self) -> Result<Bytes, StreamError> {
        loop {
            if let Some(message) = std::future::poll_fn(|cx| self.poll_message(cx)).await? {
                return Ok(message);
            }
            self.write_all().await?;
        }
    }

    /// Writes what is staged, ends our half and reads until the other side ends its half: closing earlier would answer what
    /// it is still sending with a reset, which can overtake our last words. The caller bounds the time.
    pub(super) async fn finish(mut self) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        if self.write_all().await.is_err() || self.io.shutdown().await.is_err() {
            return;
        }
        let mut sink = [0; 512];
        while matches!(self.io.read(&mut sink).await, Ok(1..)) {}
    }

    fn push(&mut self, staged: Staged) {
        self.staged_bytes += staged.len();
        self.staged.push_back(staged);
    }

    fn advance(&mut self, mut sent: usize) {
        self.staged_bytes -= sent;
        while let Some(first) = self.staged.front_mut() {
            sent = first.advance(sent);
            if first.len() > 0 {
                break;
            }
            self.staged.pop_front();
        }
    }
}

fn full(full: Full) -> ErrorResponse {
    let (status, wait) = retry(full);
    let mut refused = ErrorResponse::new(None);
    *refused.status_mut() = status;
    refused.headers_mut().insert(RETRY_AFTER, wait.into());
    refused
}

#[expect(clippy::result_large_err, reason = "the library's signature")]
fn check_path(request: &Request, response: Response) -> Result<Response, ErrorResponse> {
    if request.uri().path() == HTTP_PATH {
        return Ok(response);
    }
    let mut refused = ErrorResponse::new(Some("not found\n".to_owned()));
    *refused.status_mut() = StatusCode::NOT_FOUND;
    Err(refused)
}

/// Lends the stream to the library for one call.
struct Adapter<'a, 'c, S> {
    io: &'a mut S,
    cx: &'a mut Context<'c>,
    replies: &'a mut Vec<u8>,
    /// Bytes that came over the line: [`READ_AT_ONCE`] or a little more.
    read: usize,
}

impl<S: Line> Read for Adapter<'_, '_, S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = READ_AT_ONCE.saturating_sub(self.read);
        if left == 0 {
            // More may be there: come back after the others.
            self.cx.waker().wake_by_ref();
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = out.len().min(left);
        let mut buffer = ReadBuf::new(out.get_mut(..most).unwrap_or_default());
        let result = Pin::new(&mut *self.io).poll_read(self.cx, &mut buffer);
        let count = buffer.filled().len();
        self.read += count + self.io.take_beside();
        match result {
            Poll::Ready(result) => result.map(|()| count),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S> Write for Adapter<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The library writes whole frames at once. A client that pings faster than it reads gets no more answers.
        if self.replies.len() < MAX_REPLIES {
            self.replies.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shadowmesh_proto::queueing::TcpInfo;
    use tokio::io::{AsyncWriteExt as _, DuplexStream};

    impl Line for DuplexStream {
        const READ_BUFFER: usize = 16 * 1024;

        fn hold_unsent(&mut self, _bytes: usize) {}

        fn info(&self) -> Option<TcpInfo> {
            None
        }
    }

    /// A client's end, of which each direction holds so many bytes, and the relay's.
    async fn streams(bytes: usize) -> (DuplexStream, WsStream<DuplexStream>) {
        let (far, near) = tokio::io::duplex(bytes);
        let client = tokio_tungstenite::client_async(format!("ws://relay{HTTP_PATH}"), far);
        let (client, ws) = tokio::join!(client, WsStream::accept(near, |_| Ok(())));
        (client.unwrap().0.into_inner(), ws.unwrap())
    }

    /// Takes what there is to read, and writes what may be written; how many messages came, and signs of life.
    async fn turn(ws: &mut WsStream<DuplexStream>) -> (usize, usize) {
        std::future::poll_fn(|cx| {
            let (mut messages, mut signs) = (0, 0);
            while let Poll::Ready(message) = ws.poll_message(cx).map(Result::unwrap) {
                if message.is_some() {
                    messages += 1
                } else {
                    signs += 1
                }
                assert!(ws.poll_write(cx, &mut 0).is_pending() || ws.is_idle());
            }
            Poll::Ready((messages, signs))
        })
        .await
    }

    #[tokio::test]
    async fn answers_that_nobody_reads_take_no_more_memory_than_what_is_staged() {
        let (mut far, mut ws) = streams(64 << 10).await;
        // Masked, with a mask of nothing (RFC 6455 §5.2).
        let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[7; 125]].concat();
        let mut came = 0;
        for _ in 0..4_000 {
            far.write_all(&ping).await.unwrap();
            came += turn(&mut ws).await.1;
        }
        assert_eq!(came, 4_000);
        assert!(ws.staged_bytes + ws.replies.len() <= MAX_STAGED + 2 * MAX_REPLIES, "{}", ws.staged_bytes);
        assert_eq!(ws.take_read(), 4_000 * ping.len(), "all of it is charged");
    }

    #[tokio::test]
    async fn frames_without_content_are_read_no_longer_than_a_message() {
        let (mut far, mut ws) = streams(4 << 20).await;
        let begun = [&[0x02, 0x80, 0, 0, 0, 0][..], &[0x00, 0x80, 0, 0, 0, 0].repeat(100_000)].concat();
        far.write_all(&begun).await.unwrap();
        assert_eq!(turn(&mut ws).await, (0, 0));
        let read = ws.take_read();
        assert!(read <= READ_AT_ONCE, "{read}");
        let mut all = read;
        while all < begun.len() {
            assert_eq!(turn(&mut ws).await, (0, 0));
            all += ws.take_read();
        }
        assert_eq!(all, begun.len());
    }
}
