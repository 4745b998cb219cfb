//! The sockets and threads around two [`Line`]s: for each direction a reader that decides the fate of what comes in, and a
//! writer that sleeps until the next frame is due.
//!
//! Between them stands one queue, ordered by due time and, for equal times, by arrival, so that chance alone reorders.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::line::{Class, Done, Line};
use super::settings::Settings;
use crate::netns::End;
use crate::packet_socket::{ALL_ETHERTYPES, Format, MAX_FRAME, PacketSocket, VIRTIO_HEADER};

const RECEIVE_BUFFER: usize = 32 << 20;

/// One direction while it runs.
#[derive(Debug)]
pub struct Direction {
    state: Mutex<State>,
    due: Condvar,
}

#[derive(Debug)]
struct State {
    line: Line,
    under_way: BinaryHeap<Reverse<Waiting>>,
    arrivals: u64,
    superframes: u64,
    refused: u64,
}

/// Ordered by due time, then arrival; the bytes do not take part.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Duration,
    arrival: u64,
    frame: Vec<u8>,
}

/// What a direction did so far.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Report {
    /// The line's own account.
    #[serde(flatten)]
    pub line: Done,
    /// Frames that carried several segments, on which a single loss weighs more.
    pub superframes: u64,
    /// Frames that the other device would not take.
    pub refused: u64,
    /// Frames under way.
    pub under_way: usize,
}

impl Direction {
    /// A direction with these faults.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        let line = Line::new(settings, seed);
        let state = State { line, under_way: BinaryHeap::new(), arrivals: 0, superframes: 0, refused: 0 };
        Self { state: Mutex::new(state), due: Condvar::new() }
    }

    /// Changes what is wrong with it.
    pub fn change(&self, settings: Settings) {
        self.lock().line.change(settings);
    }

    /// What it did so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let state = self.lock();
        Report {
            line: state.line.done(),
            superframes: state.superframes,
            refused: state.refused,
            under_way: state.under_way.len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, from: &PacketSocket, start: Instant) -> io::Result<()> {
        let mut buffer = vec![0; MAX_FRAME];
        loop {
            let Some(length) = from.receive(&mut buffer)? else { continue };
            let Some((header, frame)) = buffer[..length].split_at_checked(VIRTIO_HEADER) else { continue };
            let mut state = self.lock();
            // virtio_net_hdr: flags, gso_type, hdr_len u16, gso_size u16 …: a superframe counts with the size of its largest part.
            let is_super = header[1] != 0;
            state.superframes += u64::from(is_super);
            let segment = usize::from(u16::from_ne_bytes([header[4], header[5]]));
            let headers = usize::from(u16::from_ne_bytes([header[2], header[3]]));
            let largest = if is_super { headers + segment } else { frame.len() };
            let fate = state.line.offer(start.elapsed(), largest, Class::of(frame));
            for due in fate.into_iter().flatten() {
                let arrival = state.arrivals;
                state.arrivals += 1;
                state.under_way.push(Reverse(Waiting { due, arrival, frame: buffer[..length].to_vec() }));
            }
            drop(state);
            self.due.notify_one();
        }
    }

    fn write(&self, to: &PacketSocket, start: Instant) -> io::Result<()> {
        let mut state = self.lock();
        loop {
            let now = start.elapsed();
            let Some(Reverse(next)) = state.under_way.peek() else {
                state = self.due.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if next.due > now {
                let wait = next.due - now;
                state = self.due.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let Some(Reverse(frame)) = state.under_way.pop() else { continue };
            drop(state);
            let sent = to.send(&frame.frame);
            state = self.lock();
            match sent {
                Ok(()) => {}
                Err(error)
                    if [libc::ENOBUFS, libc::EMSGSIZE, libc::ENETDOWN]
                        .map(Some)
                        .contains(&error.raw_os_error()) =>
                {
                    state.refused += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Joins the two ends until a device fails or the process ends; `ready` is called once frames pass.
pub fn join(ends: [&End; 2], directions: &[Direction; 2], ready: impl FnOnce()) -> io::Result<()> {
    let open = |end: &End| {
        end.within(|device| PacketSocket::open(device, ALL_ETHERTYPES, Format::Virtio, RECEIVE_BUFFER))
    };
    let [a, b] = [open(ends[0])?, open(ends[1])?];
    let start = Instant::now();
    ready();
    let (failed, failure) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        for (direction, from, to) in [(&directions[0], &a, &b), (&directions[1], &b, &a)] {
            let (reading, writing) = (failed.clone(), failed.clone());
            scope.spawn(move || reading.send(direction.read(from, start)));
            scope.spawn(move || writing.send(direction.write(to, start)));
        }
        // The other threads never end by themselves, and a line with one device is none.
        if let Ok(Err(error)) = failure.recv() {
            fatal(&error);
        }
    });
    Ok(())
}

fn fatal(error: &io::Error) -> ! {
    use std::io::Write as _;
    // Nobody is left to tell if standard error is gone as well.
    drop(writeln!(io::stderr(), "wire: a device failed: {error}"));
    std::process::exit(1)
}
