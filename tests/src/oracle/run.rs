//! Threads and sockets around the ledgers: one sender and one receiver at each end, four threads in two namespaces.
//!
//! The life of a run: open both ends' sockets → the senders keep an absolute schedule (frame n leaves at n / rate, so that
//! a late wake-up is made good and the rate holds) → they stop → the receivers go on until everything has arrived or the
//! settle time is over → the ledgers are closed. A run may begin before there is anybody to take its frames: then the devices are waited for,
//! what counts begins with the first frame that is sent after one had come in each direction, and so does the time to send.
//!
//! A device that goes away and comes back under its name (a daemon that is killed and starts again) is opened anew, with whatever
//! MAC it has then; what was sent meanwhile was refused, and is lost.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::frame::{self, MIN_LENGTH, Template};
use super::ledger::{Ledger, Since, Tally};
use super::report::{Direction, Limits, Report, beyond};
use crate::netns::End;
use crate::packet_socket::{ALL_ETHERTYPES, Format, MAX_FRAME, PacketSocket};

/// Sixteen seconds of 1000 large frames a second: no scheduling hiccup loses a frame in here.
const RECEIVE_BUFFER: usize = 32 << 20;

/// How often a device that is not there is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Whom the frames are addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Addressed {
    /// The other end's own MAC.
    Peer,
    /// ff:ff:ff:ff:ff:ff
    Broadcast,
    /// 01:00:5e:00:00:fb, the group of mDNS.
    Multicast,
}

/// What to send.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Traffic {
    /// Frames a second, each way.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Decides the sizes of the frames and tells this run from others.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Bytes of the smallest frame, its Ethernet header included.
    #[arg(long, default_value_t = MIN_LENGTH)]
    pub min_frame: usize,
    /// Bytes of the largest frame; by default what the smaller MTU of the two devices takes.
    #[arg(long)]
    pub max_frame: Option<usize>,
    /// Sends 802.1Q-tagged frames with this tag (priority and VLAN id).
    #[arg(long, value_parser = number)]
    pub vlan: Option<u16>,
    /// What the frames claim to be.
    #[arg(long, default_value = "0x88b5", value_parser = number)]
    pub ethertype: u16,
    /// Whom they are addressed to.
    #[arg(long, value_enum, default_value = "peer")]
    pub to: Addressed,
}

fn number(text: &str) -> Result<u16, String> {
    text.strip_prefix("0x")
        .map_or_else(|| text.parse(), |hex| u16::from_str_radix(hex, 16))
        .map_err(|_| format!("{text:?} is no 16-bit number; write it like 0x88b5 or 34997"))
}

/// When the senders stop.
#[derive(Clone, Copy, Debug)]
enum Until {
    Elapsed(Duration),
    /// So long after both directions have delivered a frame; or the time for that is over.
    AfterBothDelivered {
        patience: Duration,
        duration: Duration,
    },
    /// Both directions have delivered a frame, or the time is over.
    BothDelivered(Duration),
}

/// What both senders and receivers look at.
#[derive(Debug, Default)]
struct Progress {
    /// Both senders are done.
    over: AtomicBool,
    sent: [AtomicU64; 2],
    /// Nanoseconds since the start at which the last frame of a direction was sent.
    last_sent: [AtomicU64; 2],
    /// Nanoseconds since the start at which the first frame of a direction arrived; 0 while none did.
    first: [AtomicU64; 2],
    /// The number of the first frame of a direction that counts.
    from: [AtomicU64; 2],
}

impl Progress {
    /// When each direction had delivered a frame, if they have.
    fn both_delivered(&self) -> Option<Duration> {
        let [a, b] = self.first.each_ref().map(|first| first.load(Ordering::Acquire));
        (a.min(b) > 0).then(|| Duration::from_nanos(a.max(b)))
    }
}

impl Until {
    const fn counts(self) -> Since {
        match self {
            Self::Elapsed(_) | Self::BothDelivered(_) => Since::FirstSent,
            Self::AfterBothDelivered { .. } => Since::FirstArrival,
        }
    }

    fn is_over(self, due: Duration, progress: &Progress) -> bool {
        let delivered = progress.both_delivered();
        match self {
            Self::Elapsed(duration) => due >= duration,
            Self::AfterBothDelivered { patience, duration } => {
                due >= delivered.map_or(patience, |at| at + duration)
            }
            Self::BothDelivered(deadline) => delivered.is_some() || due >= deadline,
        }
    }
}

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// How long devices and the first frame each way are waited for; without it all must be there, and every frame counts.
    pub patience: Option<Duration>,
    /// How long frames are sent.
    pub duration: Duration,
    /// How long late ones are waited for.
    pub settle: Duration,
}

/// Sends for a while, gives the receivers some more, and judges by `limits`.
pub fn run(
    ends: [&End; 2],
    traffic: &Traffic,
    span: Span,
    noted_gap: Duration,
    limits: &Limits,
) -> io::Result<Report> {
    let (stations, until) = match span.patience {
        None => (both(ends, traffic)?, Until::Elapsed(span.duration)),
        Some(patience) => {
            let start = Instant::now();
            let stations = wait_for_both(ends, traffic, patience)?.ok_or(io::ErrorKind::TimedOut)?;
            let patience = patience.saturating_sub(start.elapsed());
            (stations, Until::AfterBothDelivered { patience, duration: span.duration })
        }
    };
    let started_unix_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(0));
    let outcome = exchange(&stations, traffic, until, span.settle, noted_gap)?;
    let mut broken = Vec::new();
    if outcome.dropped > 0 {
        broken.push(format!("no verdict: the oracle itself was too slow for {} frames", outcome.dropped));
    }
    for (name, tally) in ["a to b", "b to a"].into_iter().zip(&outcome.tallies) {
        broken.extend(beyond(limits, name, tally));
    }
    let [a_to_b, b_to_a] = &outcome.tallies;
    Ok(Report {
        seed: traffic.seed,
        rate: traffic.rate,
        started_unix_ms,
        a_to_b: Direction::new(a_to_b, outcome.refused[0]),
        b_to_a: Direction::new(b_to_a, outcome.refused[1]),
        oracle_dropped: outcome.dropped,
        broken,
    })
}

/// Sends until a frame has passed in each direction and gives the time each took, `None` for what did not within
/// `deadline`. Devices that do not exist yet are waited for.
pub fn recover(ends: [&End; 2], traffic: &Traffic, deadline: Duration) -> io::Result<[Option<Duration>; 2]> {
    let start = Instant::now();
    let Some(stations) = wait_for_both(ends, traffic, deadline)? else {
        return Ok([None; 2]);
    };
    let waited = start.elapsed();
    let left = deadline.saturating_sub(waited);
    let outcome = exchange(&stations, traffic, Until::BothDelivered(left), Duration::ZERO, Duration::MAX)?;
    Ok(outcome.tallies.map(|tally| tally.first.map(|first| waited + first)))
}

fn both<'a>(ends: [&'a End; 2], traffic: &Traffic) -> io::Result<[Station<'a>; 2]> {
    Ok([Station::new(ends[0], traffic)?, Station::new(ends[1], traffic)?])
}

/// `None` when one of the devices is not there within `patience`.
fn wait_for_both<'a>(
    ends: [&'a End; 2],
    traffic: &Traffic,
    patience: Duration,
) -> io::Result<Option<[Station<'a>; 2]>> {
    let start = Instant::now();
    loop {
        match both(ends, traffic) {
            Ok(stations) => return Ok(Some(stations)),
            Err(error) if !is_away(&error) => return Err(error),
            Err(_) if start.elapsed() >= patience => return Ok(None),
            Err(_) => thread::sleep(LOOK_AGAIN),
        }
    }
}

struct Outcome {
    tallies: [Tally; 2],
    refused: [u64; 2],
    dropped: u64,
}

/// One end: the socket on the device that has its name now.
struct Station<'a> {
    end: &'a End,
    ethertype: u16,
    socket: RwLock<Arc<PacketSocket>>,
    /// Frames that sockets which are closed by now did not read in time.
    dropped_before: AtomicU64,
}

impl<'a> Station<'a> {
    fn new(end: &'a End, traffic: &Traffic) -> io::Result<Self> {
        // The kernel takes the tag off before a socket of one ethertype sees the frame; a socket of all is told of it.
        let ethertype = if traffic.vlan.is_some() { ALL_ETHERTYPES } else { traffic.ethertype };
        let socket = RwLock::new(Arc::new(Self::open(end, ethertype)?));
        Ok(Self { end, ethertype, socket, dropped_before: AtomicU64::new(0) })
    }

    /// A device that is not up yet has neither its MAC nor its MTU yet, and counts as one that is not there.
    fn open(end: &End, ethertype: u16) -> io::Result<PacketSocket> {
        let socket =
            end.within(|device| PacketSocket::open(device, ethertype, Format::Plain, RECEIVE_BUFFER))?;
        if socket.device().is_up { Ok(socket) } else { Err(io::Error::from_raw_os_error(libc::ENETDOWN)) }
    }

    fn socket(&self) -> Arc<PacketSocket> {
        Arc::clone(&self.socket.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the device that has the name now, if it is another than before. Whether there is one.
    fn look_again(&self) -> io::Result<bool> {
        let found = match Self::open(self.end, self.ethertype) {
            Ok(found) => found,
            Err(error) if is_away(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut socket = self.socket.write().unwrap_or_else(PoisonError::into_inner);
        if socket.device().index != found.device().index {
            self.dropped_before.fetch_add(socket.dropped()?, Ordering::Relaxed);
            *socket = Arc::new(found);
        }
        Ok(true)
    }

    fn dropped(&self) -> io::Result<u64> {
        Ok(self.dropped_before.load(Ordering::Relaxed) + self.socket().dropped()?)
    }
}

/// A device that is not there, not up, or went away between two calls.
fn is_away(error: &io::Error) -> bool {
    [libc::ENODEV, libc::ENXIO, libc::ENETDOWN].map(Some).contains(&error.raw_os_error())
}

fn exchange(
    stations: &[Station<'_>; 2],
    traffic: &Traffic,
    until: Until,
    settle: Duration,
    noted_gap: Duration,
) -> io::Result<Outcome> {
    let progress = Progress::default();
    let start = Instant::now();
    // The clock and the process number keep two runs apart that overlap on one segment.
    let run = frame::scramble(traffic.seed ^ (u64::from(std::process::id()) << 32));
    let (refused, tallies) = thread::scope(|scope| {
        let receivers = [0_u8, 1].map(|direction| {
            let (progress, station) = (&progress, &stations[1 - usize::from(direction)]);
            let ledger = Ledger::new(run, direction, traffic.vlan, noted_gap, until.counts());
            scope.spawn(move || {
                receive(station, ledger, traffic.ethertype, usize::from(direction), progress, start, settle)
            })
        });
        let senders = [0_u8, 1].map(|direction| {
            let (progress, identity) = (&progress, Identity { run, direction });
            scope.spawn(move || send(stations, identity, traffic, until, progress, start))
        });
        let refused = senders.map(|thread| join(thread.join()));
        progress.over.store(true, Ordering::Release);
        (refused, receivers.map(|thread| join(thread.join())))
    });
    let [a_to_b, b_to_a] = tallies;
    let [from_a, from_b] = refused;
    let mut dropped = 0;
    for station in stations {
        dropped += station.dropped()?;
    }
    Ok(Outcome { tallies: [a_to_b?, b_to_a?], refused: [from_a?, from_b?], dropped })
}

fn join<T>(joined: thread::Result<io::Result<T>>) -> io::Result<T> {
    joined.unwrap_or_else(|_| Err(io::Error::other("a thread of the oracle panicked")))
}

/// Which frames are ours.
#[derive(Clone, Copy)]
struct Identity {
    run: u64,
    direction: u8,
}

fn template(
    sockets: &[Arc<PacketSocket>; 2],
    traffic: &Traffic,
    Identity { run, direction }: Identity,
) -> Template {
    let from = usize::from(direction);
    let to = match traffic.to {
        Addressed::Peer => sockets[1 - from].device().mac,
        Addressed::Broadcast => [0xff; 6],
        Addressed::Multicast => [0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb],
    };
    let from = sockets[from].device().mac;
    Template { to, from, tag: traffic.vlan, ethertype: traffic.ethertype, run, direction }
}

fn longest(sockets: &[Arc<PacketSocket>; 2], traffic: &Traffic) -> usize {
    let mtu = sockets[0].device().mtu.min(sockets[1].device().mtu);
    let tag = if traffic.vlan.is_some() { 4 } else { 0 };
    traffic.max_frame.unwrap_or(mtu + 14 + tag).max(traffic.min_frame)
}

/// Sends on schedule and gives how many frames the device refused.
fn send(
    stations: &[Station<'_>; 2],
    identity: Identity,
    traffic: &Traffic,
    until: Until,
    progress: &Progress,
    start: Instant,
) -> io::Result<u64> {
    let direction = usize::from(identity.direction);
    let mut sockets = stations.each_ref().map(Station::socket);
    let mut template = template(&sockets, traffic, identity);
    // What the devices take at first is what a run is about.
    let longest = longest(&sockets, traffic);
    let mut frame = Vec::with_capacity(longest);
    let mut refused = 0;
    let mut counts = until.counts() == Since::FirstSent;
    for sequence in 0_u64.. {
        let due = Duration::from_secs(1).mul_f64(sequence as f64 / f64::from(traffic.rate));
        if until.is_over(due, progress) {
            break;
        }
        if let Some(wait) = due.checked_sub(start.elapsed()) {
            thread::sleep(wait);
        }
        let stamp = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let length = frame::length(traffic.seed, sequence, traffic.min_frame, longest);
        let now = stations.each_ref().map(Station::socket);
        if !now.iter().zip(&sockets).all(|(now, before)| Arc::ptr_eq(now, before)) {
            sockets = now;
            template = self::template(&sockets, traffic, identity);
        }
        if !counts && progress.both_delivered().is_some() {
            counts = true;
            progress.from[direction].store(sequence, Ordering::Release);
        }
        template.write(sequence, stamp, length, &mut frame);
        match sockets[direction].send(&frame) {
            Ok(()) => {}
            // A full queue, or a device that went away: the frame was offered and is lost.
            Err(error) if lost_in_device(&error) => refused += 1,
            Err(error) => return Err(error),
        }
        progress.last_sent[direction].store(stamp, Ordering::Release);
        progress.sent[direction].fetch_add(1, Ordering::Release);
    }
    Ok(refused)
}

fn lost_in_device(error: &io::Error) -> bool {
    is_away(error) || [libc::ENOBUFS, libc::EAGAIN].map(Some).contains(&error.raw_os_error())
}

fn receive(
    station: &Station<'_>,
    mut ledger: Ledger,
    ethertype: u16,
    direction: usize,
    progress: &Progress,
    start: Instant,
    settle: Duration,
) -> io::Result<Tally> {
    let mut buffer = vec![0; MAX_FRAME];
    let mut end = None;
    let mut away = false;
    loop {
        match station.socket().receive(&mut buffer) {
            Ok(Some(length)) => {
                away = false;
                if frame::claims(&buffer[..length], ethertype) {
                    ledger.on_frame(start.elapsed(), &buffer[..length]);
                }
            }
            // The kernel tells only once, and before the device is really gone; what had come before was read first.
            Ok(None) if away => {
                while !station.look_again()? && !progress.over.load(Ordering::Acquire) {
                    thread::sleep(LOOK_AGAIN);
                }
            }
            Ok(None) => {}
            Err(error) if lost_in_device(&error) => away |= is_away(&error),
            Err(error) => return Err(error),
        }
        if let Some(first) = ledger.first() {
            let first = u64::try_from(first.as_nanos()).unwrap_or(u64::MAX);
            progress.first[direction].store(first.max(1), Ordering::Release);
        }
        if progress.over.load(Ordering::Acquire) {
            let end = *end.get_or_insert_with(|| start.elapsed());
            let sent = progress.sent[direction].load(Ordering::Acquire);
            let from = progress.from[direction].load(Ordering::Acquire);
            let is_settled = settled(start, end, Duration::from_millis(100));
            if is_settled && ledger.is_complete(from, sent) || settled(start, end, settle) {
                let last_sent = Duration::from_nanos(progress.last_sent[direction].load(Ordering::Acquire));
                return Ok(ledger.finish(from, sent, last_sent));
            }
        }
    }
}

/// A duplicate of the last frames may still be on its way when everything has arrived: a little longer for those.
fn settled(start: Instant, end: Duration, settle: Duration) -> bool {
    start.elapsed() >= end + settle
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const INSIDE: &str = "SHADOWMESH_TEST_LO_IS_DOWN";

    /// The loopback of a new namespace is down. The test runs itself there.
    #[test]
    fn a_device_that_is_not_up_yet_is_waited_for() {
        let lo = End { namespace: None, device: "lo".to_owned() };
        if std::env::var_os(INSIDE).is_some() {
            let error = Station::open(&lo, ALL_ETHERTYPES).unwrap_err();
            assert!(is_away(&error), "{error}");
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            assert!(Station::open(&lo, ALL_ETHERTYPES).unwrap().device().is_up);
            return;
        }
        let inside = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["oracle::run::tests::a_device_that_is_not_up_yet_is_waited_for", "--exact", "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&inside.stdout);
        assert!(
            inside.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&inside.stderr)
        );
    }
}
