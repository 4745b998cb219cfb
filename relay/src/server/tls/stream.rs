//! One TLS stream over TCP, after its handshake.
//!
//! The library keeps the records; reading and writing the socket is done here, for two reasons. It reads 4 KiB at a time, which for a stream at
//! full speed is four system calls for each record: here [`SCRATCH`] bytes are read at once into memory that all connections of the thread share, so
//! that an idle one holds none of it. And its handshake is computed on another thread (see [`handshake`](super::handshake)).
//!
//! Invariants:
//! - Ciphertext is handed over only while no plaintext waits to be taken, so what the library holds is bounded by one record and one read.
//! - What it holds unsent is bounded as what the kernel does ([`Line::hold_unsent`]): control could overtake neither.
//! - Records without content, which nobody needs to send, are read for [`MAX_EMPTY`] bytes at most before the stream ends, and what records take beside their content is
//!   told upwards ([`Line::take_beside`]): both would else be work that no limit counts.
//! - A stream that ends without a close_notify ends with an error: somebody cut it (RFC 8446 §6.1).

use crate::server::socket::Line;
use rustls::ServerConnection;
use shadowmesh_proto::queueing::TcpInfo;
use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes read from a socket at once: four full records.
const SCRATCH: usize = 64 * 1024;
/// What the library may hold unsent: at least one record, and four at most.
const UNSENT_MIN: usize = 16 * 1024;
const UNSENT_MAX: usize = 64 * 1024;
/// Bytes of a client that bring nothing: padding, records with nothing in them, messages of the handshake that come after it, the begin of a record. Two of the longest records.
const MAX_EMPTY: usize = 32 * 1024;
/// The same while the handshake is not over, bytes: the library would keep 64 KiB of a message that does not end. An honest client says a hundred.
pub(super) const MAX_HANDSHAKE: usize = 12 * 1024;
/// So many bytes that bring nothing are forgotten for each that brings something: a record has 22 beside its content, a frame of WebSocket 6 at least.
const FORGIVEN: usize = 4;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// The socket, as the library reads and writes it: now or not at all.
pub(super) struct Now<'a>(pub(super) &'a TcpStream);

impl Read for Now<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// See the module page.
#[derive(Debug)]
pub(in crate::server) struct TlsStream {
    tcp: TcpStream,
    tls: Box<ServerConnection>,
    /// Ciphertext that was read and is not yet looked at.
    ahead: Vec<u8>,
    /// So much of it is done with.
    taken: usize,
    /// Bytes that brought nothing, by [`MAX_EMPTY`].
    empty: usize,
    /// Bytes that were taken beside content and are not told of; less than nothing when the content of what was told of came later.
    beside: isize,
    is_closing: bool,
}

impl TlsStream {
    /// A stream whose handshake may not be complete: reading and writing complete it.
    pub(super) fn new(tcp: TcpStream, tls: ServerConnection) -> Self {
        let tls = Box::new(tls);
        Self { tcp, tls, ahead: Vec::new(), taken: 0, empty: 0, beside: 0, is_closing: false }
    }

    /// Whether its keys outlive a computer that breaks elliptic curves.
    pub(in crate::server) fn is_post_quantum(&self) -> bool {
        let group = self.tls.negotiated_key_exchange_group();
        group.is_some_and(|group| group.name() == rustls::NamedGroup::X25519MLKEM768)
    }

    /// Ends the handshake, or waits for more of it.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.is_handshaking() {
            ready!(self.poll_send(cx))?;
            if self.tls.is_handshaking() && ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes more ciphertext, from where there is some; how much, zero at the end of the stream.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.taken < self.ahead.len() {
            let ahead = std::mem::take(&mut self.ahead);
            let bytes = ahead.get(self.taken..).unwrap_or_default();
            let took = self.take(bytes);
            self.taken += took.as_ref().map_or(0, |took| *took);
            if self.taken < ahead.len() {
                self.ahead = ahead;
            } else {
                // Memory of a burst, given back with it.
                self.taken = 0;
            }
            return Poll::Ready(self.answer(took));
        }
        BUFFER.with_borrow_mut(|buffer| {
            loop {
                ready!(self.tcp.poll_read_ready(cx))?;
                let count = match self.tcp.try_read(buffer) {
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                let bytes = buffer.get(..count).unwrap_or_default();
                let took = self.take(bytes);
                if let Ok(took) = took
                    && took < count
                {
                    self.ahead = bytes.get(took..).unwrap_or_default().to_vec();
                }
                return Poll::Ready(self.answer(took));
            }
        })
    }

    /// Hands `bytes` to the library until there is plaintext to be taken, of which there was none; how many it took. No bytes are the end of the stream.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        loop {
            let before = rest.len();
            self.tls.read_tls(&mut rest)?;
            let state = self.tls.process_new_packets();
            let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.count(before - rest.len(), state.plaintext_bytes_to_read())?;
            if rest.is_empty() || state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
                return Ok(bytes.len() - rest.len());
            }
        }
    }

    /// So many bytes were taken, and so many came of them.
    fn count(&mut self, took: usize, content: usize) -> io::Result<()> {
        let signed = |count: usize| isize::try_from(count).unwrap_or(isize::MAX);
        self.beside = self.beside.saturating_add(signed(took)).saturating_sub(signed(content));
        self.empty = (self.empty + took).saturating_sub(content.saturating_mul(1 + FORGIVEN));
        let most = if self.tls.is_handshaking() { MAX_HANDSHAKE } else { MAX_EMPTY };
        if self.empty > most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "TLS records without content"));
        }
        Ok(())
    }

    /// After something was received: what the library wants to say to it (an alert, a key update) is sent if it can be at once, and else with
    /// what is written next.
    fn answer(&mut self, took: io::Result<usize>) -> io::Result<usize> {
        if self.tls.wants_write() {
            match self.tls.write_tls(&mut Now(&self.tcp)) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return took.and(Err(error)),
                Ok(_) | Err(_) => {}
            }
        }
        took
    }

    /// Sends what the library holds.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Now(&self.tcp)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.tcp.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.tls.reader().read(out.initialize_unfilled()) {
                Ok(count) => {
                    out.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            // The end is told to the library as well, which says then whether it was announced.
            ready!(self.poll_receive(cx))?;
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        loop {
            let count = self.tls.writer().write_vectored(slices)?;
            let sent = self.poll_send(cx)?;
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            // It holds as much as it may.
            ready!(sent);
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_closing {
            self.is_closing = true;
            self.tls.send_close_notify();
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl Line for TlsStream {
    /// The socket is read into shared memory already: what this saves is a copy.
    const READ_BUFFER: usize = 2 * 1024;

    fn hold_unsent(&mut self, bytes: usize) {
        self.tls.set_buffer_limit(Some(bytes.clamp(UNSENT_MIN, UNSENT_MAX)));
        self.tcp.hold_unsent(bytes);
    }

    fn take_beside(&mut self) -> usize {
        let beside = self.beside.max(0);
        self.beside -= beside;
        beside.unsigned_abs()
    }

    /// Of what the library holds it knows nothing: that is bounded by itself.
    fn info(&self) -> Option<TcpInfo> {
        self.tcp.info()
    }
}
