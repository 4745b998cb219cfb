//! One TCP connection that carries bytes at an even rate for a given time, hashed at both ends (SHA-256): what the oracle proves of
//! frames is seen by TCP at the same time.
//!
//! The life of a stream: the receiving end listens → the sending end connects, as often as it is refused → `connected` → the bytes leave on an
//! absolute schedule, so that what an outage held up is made good → the sending end closes → the receiving end has read all.
//!
//! A silence longer than the patience at either end is an error: a connection that hangs is none.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use serde::Serialize;

use crate::netns::End;
use crate::oracle::frame::scramble;

/// How often bytes leave: fine enough to be even, coarse enough to cost nothing.
const TICK: Duration = Duration::from_millis(20);

/// What to carry.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Bytes a second.
    pub rate: u64,
    /// For so long.
    pub duration: Duration,
    /// The longest that either end waits: for the connection, for room to write, for something to read.
    pub patience: Duration,
}

/// What was carried.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Bytes that the one end wrote.
    pub sent: u64,
    /// Bytes that the other end read.
    pub received: u64,
    /// Of what was written, in hexadecimal digits.
    pub sha256_sent: String,
    /// Of what was read.
    pub sha256_received: String,
    /// The longest time in which nothing was read.
    pub longest_silence_ms: u64,
    /// From the connection to the last byte.
    pub took_ms: u64,
}

impl Report {
    /// Whether all came, and came as it was.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.sent > 0 && self.sent == self.received && self.sha256_sent == self.sha256_received
    }
}

/// Carries bytes from a socket in one namespace to `address`, which is one of the other. `connected` is called once they begin.
pub fn run(
    from: &End,
    to: &End,
    address: IpAddr,
    plan: Plan,
    connected: impl FnOnce(),
) -> io::Result<Report> {
    let listener = to.within(|_| TcpListener::bind(SocketAddr::new(address, 0)))?;
    let target = listener.local_addr()?;
    thread::scope(|scope| {
        let accepted = scope.spawn(move || accept(&listener, plan.patience));
        let writing = from.within(|_| connect(target, plan.patience))?;
        let reading = join(accepted.join())?;
        for socket in [&writing, &reading] {
            socket.set_read_timeout(Some(plan.patience))?;
            socket.set_write_timeout(Some(plan.patience))?;
        }
        let start = Instant::now();
        connected();
        let received = scope.spawn(move || receive(reading));
        let sent = send(writing, plan, start)?;
        let received = join(received.join())?;
        Ok(Report {
            sent: sent.bytes,
            received: received.bytes,
            sha256_sent: sent.sha256,
            sha256_received: received.sha256,
            longest_silence_ms: milliseconds(received.longest_silence),
            took_ms: milliseconds(start.elapsed()),
        })
    })
}

fn join<T>(joined: thread::Result<io::Result<T>>) -> io::Result<T> {
    joined.unwrap_or_else(|_| Err(io::Error::other("a thread of the stream panicked")))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn accept(listener: &TcpListener, patience: Duration) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(false)?;
                return Ok(socket);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && start.elapsed() < patience => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error),
        }
    }
}

/// A peer whose MAC is not known yet is unreachable for a while.
fn connect(target: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let start = Instant::now();
    loop {
        let left = patience.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&target, left) {
            Ok(socket) => return Ok(socket),
            Err(error) if start.elapsed() >= patience => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// What one end counted.
struct Count {
    bytes: u64,
    sha256: String,
    longest_silence: Duration,
}

fn send(mut socket: TcpStream, plan: Plan, start: Instant) -> io::Result<Count> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let (mut bytes, mut chance) = (0_u64, scramble(plan.rate));
    let mut buffer = Vec::new();
    for tick in 1_u32.. {
        let until = (TICK * tick).min(plan.duration);
        if let Some(wait) = until.checked_sub(start.elapsed()) {
            thread::sleep(wait);
        }
        let due = (until.as_secs_f64() * plan.rate as f64) as u64;
        buffer.clear();
        while (buffer.len() as u64) < due - bytes {
            chance = scramble(chance);
            buffer.extend_from_slice(&chance.to_be_bytes());
        }
        buffer.truncate(usize::try_from(due - bytes).unwrap_or(usize::MAX));
        socket.write_all(&buffer)?;
        hash.update(&buffer);
        bytes = due;
        if until >= plan.duration {
            break;
        }
    }
    socket.shutdown(std::net::Shutdown::Write)?;
    Ok(Count { bytes, sha256: hexadecimal(hash), longest_silence: Duration::ZERO })
}

fn receive(mut socket: TcpStream) -> io::Result<Count> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 << 10];
    let (mut bytes, mut last, mut longest_silence) = (0, Instant::now(), Duration::ZERO);
    loop {
        let length = socket.read(&mut buffer)?;
        longest_silence = longest_silence.max(last.elapsed());
        if length == 0 {
            return Ok(Count { bytes, sha256: hexadecimal(hash), longest_silence });
        }
        last = Instant::now();
        hash.update(&buffer[..length]);
        bytes += length as u64;
    }
}

fn hexadecimal(hash: digest::Context) -> String {
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_over_one_machine_comes_whole_and_evenly() {
        let here: End = ":lo".parse().unwrap();
        let plan =
            Plan { rate: 1_000_001, duration: Duration::from_millis(300), patience: Duration::from_secs(20) };
        let mut begun = false;
        let report = run(&here, &here, "127.0.0.1".parse().unwrap(), plan, || begun = true).unwrap();
        assert!(begun && report.is_whole(), "{report:?}");
        assert_eq!(report.sent, 300_000);
        assert!(report.took_ms >= 300, "it was not paced: {report:?}");
    }

    #[test]
    fn less_or_other_bytes_are_not_whole() {
        let hash = |of: &[u8]| {
            let mut hash = digest::Context::new(&digest::SHA256);
            hash.update(of);
            hexadecimal(hash)
        };
        assert_eq!(hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let report = |received, of| Report {
            sent: 3,
            received,
            sha256_sent: hash(b"abc"),
            sha256_received: hash(of),
            longest_silence_ms: 0,
            took_ms: 0,
        };
        assert!(report(3, b"abc").is_whole());
        assert!(!report(2, b"ab").is_whole());
        assert!(!report(3, b"abd").is_whole());
        assert!(!Report { sent: 0, received: 0, ..report(3, b"abc") }.is_whole());
    }
}
