//! The pump by datagram: on two threads, with GSO and GRO, and so much under way as a flow that is acknowledged would have.

use crate::bound::Bound;
use crate::client::pair;
use crate::pump::PACKET;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use shadowmesh_proto::ticket::RelayTicket;
use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes under way at most: fewer than any of the buffers on the way has.
const WINDOW: u64 = 128 * 1024;
/// After so long without an arrival what is under way is lost.
const LOST_AFTER: Duration = Duration::from_millis(20);
/// Of one read.
const READ: usize = 64 * 1024;

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    is_over: AtomicBool,
}

pub(crate) async fn pump(
    ticket: &RelayTicket,
    packets: usize,
    long: Duration,
    rate: Option<u64>,
) -> anyhow::Result<String> {
    let (mut one, mut other, channel) = pair(ticket).await?;
    let (from, to) = (Bound::new(ticket, &mut one).await?, Bound::new(ticket, &mut other).await?);
    let datagram = from.datagram(channel, &[7; PACKET]);
    let run = datagram.repeat(packets);
    let counts = Arc::new(Counts::default());
    let peer = from.socket.peer_addr()?;
    let (from, to) = (from.socket.into_std()?, to.socket.into_std()?);
    for socket in [&from, &to] {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    }
    // Their streams stay open meanwhile: bindings live no longer.
    let streams = [tokio::spawn(one.idle()), tokio::spawn(other.idle())];
    let (sending, receiving) = (Arc::clone(&counts), Arc::clone(&counts));
    let stride = datagram.len();
    let receiver = std::thread::spawn(move || receive(&to, &receiving));
    let sender = std::thread::spawn(move || send(&from, peer, &run, stride, rate, &sending));
    let began = Instant::now();
    tokio::time::sleep(long).await;
    let bytes = counts.received.load(Ordering::Relaxed);
    let elapsed = began.elapsed();
    let sent = counts.sent.load(Ordering::Relaxed);
    counts.is_over.store(true, Ordering::Relaxed);
    for thread in [receiver, sender] {
        thread.join().map_err(|_| anyhow::anyhow!("a thread ended"))??;
    }
    streams.iter().for_each(tokio::task::JoinHandle::abort);
    let mbit = u128::from(bytes) * 8 / elapsed.as_micros();
    let lost = 100.0 * sent.saturating_sub(bytes + WINDOW) as f64 / sent.max(1) as f64;
    Ok(format!(
        "{{\"packets_per_message\": {packets}, \"packet_bytes\": {PACKET}, \"mbit_s\": {mbit}, \"lost_pct\": {lost:.3}}}"
    ))
}

fn send(
    socket: &UdpSocket,
    destination: std::net::SocketAddr,
    run: &[u8],
    stride: usize,
    rate: Option<u64>,
    counts: &Counts,
) -> io::Result<()> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    let most = state.max_gso_segments().max(1) * stride;
    let (began, mut heard) = (Instant::now(), Instant::now());
    // What was given up as lost.
    let (mut forgotten, mut seen) = (0, 0);
    while !counts.is_over.load(Ordering::Relaxed) {
        let (sent, received) = (counts.sent.load(Ordering::Relaxed), counts.received.load(Ordering::Relaxed));
        if received != seen {
            (seen, heard) = (received, Instant::now());
        }
        if sent.saturating_sub(received + forgotten) + run.len() as u64 > WINDOW.max(run.len() as u64) {
            if heard.elapsed() > LOST_AFTER {
                forgotten = sent.saturating_sub(received);
            }
            std::thread::park_timeout(Duration::from_micros(20));
            continue;
        }
        if let Some(rate) = rate {
            let due = Duration::from_nanos(sent * 8_000 / rate.max(1));
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        for contents in run.chunks(most) {
            let segment_size = (contents.len() > stride).then_some(stride);
            state.try_send(
                UdpSockRef::from(socket),
                &Transmit { destination, ecn: None, contents, segment_size, src_ip: None },
            )?;
        }
        counts.sent.fetch_add(run.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn receive(socket: &UdpSocket, counts: &Counts) -> io::Result<()> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    let mut memory = vec![0; READ * BATCH_SIZE];
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    while !counts.is_over.load(Ordering::Relaxed) {
        let mut chunks = memory.chunks_mut(READ);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        match state.recv(UdpSockRef::from(socket), &mut slices, &mut metas) {
            Ok(count) => {
                let bytes: usize = metas.iter().take(count).map(|meta| meta.len).sum();
                counts.received.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
