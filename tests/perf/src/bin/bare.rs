//! One end of the bare tunnel (`shadowmesh_perf::bare`): a thread from the TAP device to the network, another back.
//!
//! Ends when it is killed, or when the device is taken away.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use anyhow::Context;
use clap::Parser;
use shadowmesh_perf::bare::{Cipher, LENGTH, MAX_SEALED, Opener, PER_CALL, SEGMENT, Sealer};
use shadowmesh_perf::datagrams::Datagrams;
use shadowmesh_perf::tap::{MAX_READ, Tap};

/// One end of a tunnel without a protocol.
#[derive(Debug, Parser)]
struct Arguments {
    /// The TAP device to make.
    device: String,
    /// Where the other end is.
    peer: Ipv4Addr,
    /// How packets are sealed.
    cipher: Cipher,
    /// The UDP port, here and there.
    #[arg(long, default_value_t = 5555)]
    port: u16,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let tap = Tap::open(&arguments.device).with_context(|| format!("the device {}", arguments.device))?;
    let socket =
        Datagrams::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, arguments.port)).context("the socket")?;
    socket.connect(SocketAddrV4::new(arguments.peer, arguments.port)).context("the way to the other end")?;
    socket.aggregate().context("UDP_GRO")?;
    let (tap, socket, cipher) = (Arc::new(tap), Arc::new(socket), arguments.cipher);
    // Whichever ends first ends both.
    let (ended, end) = channel();
    thread::spawn({
        let (tap, socket, ended) = (tap.clone(), socket.clone(), ended.clone());
        move || ended.send(send(&tap, &socket, Sealer::new(cipher)))
    });
    thread::spawn(move || ended.send(receive(&tap, &socket, Opener::new(cipher))));
    end.recv()?
}

fn send(tap: &Tap, socket: &Datagrams, mut sealer: Sealer) -> anyhow::Result<()> {
    let (mut buffer, mut out) = (vec![0; LENGTH + MAX_READ], vec![0; MAX_SEALED]);
    loop {
        let length = tap.read(&mut buffer[LENGTH..]).context("reading the device")?;
        let sealed = sealer.seal(&mut buffer[..LENGTH + length], &mut out);
        for part in sealed.chunks(PER_CALL * SEGMENT) {
            match socket.send_segments(part, SEGMENT as u16) {
                // The other end is not there yet.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                sent => sent.context("sending")?,
            }
        }
    }
}

fn receive(tap: &Tap, socket: &Datagrams, mut opener: Opener) -> anyhow::Result<()> {
    let mut buffer = vec![0; 65_535];
    loop {
        let (length, segment) = match socket.receive_segments(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            received => received.context("receiving")?,
        };
        for packet in buffer[..length].chunks(segment) {
            if let Some(superframe) = opener.open(packet) {
                // One that the kernel refuses is lost, as on a wire: it says so while the device is down.
                drop(tap.write(superframe));
            }
        }
    }
}
