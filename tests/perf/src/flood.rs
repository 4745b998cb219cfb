//! Finds the highest rate at which datagrams of one size arrive.
//!
//! A sender that is not held back takes a core for packets that the tunnel then drops, which on a machine with two cores is half of what the tunnel
//! could have used. So the rate is looked for: one step as fast as the sender can, then steps near to the best arrival so far, a little above it each
//! time ([`Search`]). What counts is what arrives, by the receiver's clock from the first to the last datagram of a step: a queue that is emptied
//! after the sender has stopped adds no rate.
//!
//! Both ends are threads of one process, each in a network namespace of its own, so that the search sees both.

use std::io;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use shadowmesh_tests::netns;

use crate::datagrams::{BATCH, Batch, Datagrams, MAX_SEGMENTS, MAX_SEND};

/// Silence after which a step is over: longer than any queue between the ends.
const SILENCE: Duration = Duration::from_millis(120);
/// A paced sender wakes this often; at low rates less often, a datagram at a time.
const WAKE: Duration = Duration::from_micros(250);
/// Arrivals of another step than the one that is counted are late and nobody's.
const STEP: std::ops::Range<usize> = 0..4;

/// What is to be flooded.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Namespace of the sender.
    pub from: PathBuf,
    /// Namespace of the receiver.
    pub to: PathBuf,
    /// Where the receiver is, as the sender sees it.
    pub address: SocketAddrV4,
    /// Bytes of UDP payload, at least 4.
    pub size: usize,
    /// How long each step sends.
    pub step: Duration,
    /// How many steps.
    pub steps: usize,
    /// Whether many go to the kernel as one (`UDP_SEGMENT`), as QUIC servers send, instead of each alone.
    pub segmented: bool,
}

/// One step: datagrams a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// What the sender got rid of.
    pub sent: f64,
    /// What came.
    pub arrived: f64,
}

/// Which rate to offer next.
#[derive(Debug)]
pub struct Search {
    best: f64,
    /// How far above the best arrival the next offer is, as a factor.
    above: f64,
}

impl Search {
    /// Before the first step.
    #[must_use]
    pub const fn new() -> Self {
        Self { best: 0.0, above: 1.0 }
    }

    /// Datagrams a second to offer, or as many as possible.
    #[must_use]
    pub fn offer(&self) -> Option<f64> {
        (self.best > 0.0).then_some(self.best * self.above)
    }

    /// What came of it. As long as arrivals grow the next offer is twice the best; else nearer to it.
    pub fn learn(&mut self, arrived: f64) {
        let grew = arrived > self.best * 1.02;
        self.best = self.best.max(arrived);
        self.above = match (grew, self.above) {
            (true, _) => 2.0,
            (false, above) => 1.0 + (above - 1.0) / 2.0,
        };
    }
}

impl Default for Search {
    fn default() -> Self {
        Self::new()
    }
}

/// Floods by `plan`; each step, in order.
///
/// # Errors
/// A namespace, address or socket that cannot be had, and a receiver to which nothing ever came.
pub fn run(plan: &Plan) -> anyhow::Result<Vec<Step>> {
    let (offers, offered) = channel();
    let (counts, counted) = channel();
    let (ready, is_ready) = channel();
    thread::scope(|scope| {
        let receiver = scope.spawn(move || receive(plan, &ready, &offered, &counts));
        // It hangs up instead where it could not begin; why, says the join.
        if is_ready.recv().is_err() {
            return receiver
                .join()
                .map_or_else(|_| anyhow::bail!("the receiver panicked"), |end| end.map(|()| Vec::new()));
        }
        let steps = scope.spawn(move || send(plan, offers, &counted)).join();
        let receiver = receiver.join();
        let steps = steps.map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        receiver.map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        anyhow::ensure!(steps.iter().any(|step| step.arrived > 0.0), "nothing arrived at {}", plan.address);
        Ok(steps)
    })
}

/// Runs the steps; hanging up `offers` ends the receiver.
fn send(plan: &Plan, offers: Sender<u32>, counted: &Receiver<f64>) -> anyhow::Result<Vec<Step>> {
    netns::enter(&plan.from).context("the sender's namespace")?;
    let local = SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0);
    let socket = Datagrams::bind(local).context("the sender's socket")?;
    socket.connect(plan.address).context("the way to the receiver")?;
    sleep_exactly();
    let mut search = Search::new();
    let mut steps = Vec::new();
    for number in 0..plan.steps as u32 {
        let mut burst = vec![0; plan.size * per_call(plan)];
        for datagram in burst.chunks_mut(plan.size) {
            datagram[STEP].copy_from_slice(&number.to_be_bytes());
        }
        offers.send(number).context("the receiver is gone")?;
        let sent = push(&socket, plan, &burst, search.offer()).context("sending")?;
        let arrived = counted.recv().context("the receiver is gone")?;
        search.learn(arrived);
        steps.push(Step { sent, arrived });
    }
    Ok(steps)
}

/// Datagrams that one call sends.
fn per_call(plan: &Plan) -> usize {
    if plan.segmented { (MAX_SEND / plan.size).clamp(1, MAX_SEGMENTS) } else { BATCH }
}

/// Sends datagrams of `burst` for the time of a step, `rate` of them a second; how many a second it were.
fn push(socket: &Datagrams, plan: &Plan, burst: &[u8], rate: Option<f64>) -> io::Result<f64> {
    let began = Instant::now();
    let mut sent = 0_usize;
    loop {
        let elapsed = began.elapsed();
        if elapsed >= plan.step {
            return Ok(sent as f64 / elapsed.as_secs_f64());
        }
        let due = rate.map_or(usize::MAX, |rate| (elapsed.as_secs_f64() * rate) as usize + 1);
        if due <= sent {
            let one = rate.map_or(WAKE, |rate| Duration::from_secs_f64(1.0 / rate));
            thread::sleep(one.max(WAKE));
            continue;
        }
        let count = (due - sent).min(per_call(plan));
        let took = if plan.segmented {
            socket.send_segments(&burst[..count * plan.size], plan.size as u16).map(|()| count)
        } else {
            socket.send_many(&burst[..plan.size], count)
        };
        match took {
            Ok(count) => sent += count,
            // A full queue of the device is what a flood is for.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => sent += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Counts one step after another, until there are no more.
fn receive(
    plan: &Plan,
    ready: &Sender<()>,
    offered: &Receiver<u32>,
    counts: &Sender<f64>,
) -> anyhow::Result<()> {
    netns::enter(&plan.to).context("the receiver's namespace")?;
    let socket = Datagrams::bind(plan.address).context("the receiver's socket")?;
    socket.wait_at_most(SILENCE)?;
    let mut batch = Batch::new();
    ready.send(())?;
    while let Ok(number) = offered.recv() {
        let number = number.to_be_bytes();
        let offered_at = Instant::now();
        let (mut count, mut first, mut last) = (0_u64, None, offered_at);
        loop {
            match socket.receive_many(&mut batch) {
                Ok(()) => {
                    let mine = batch.iter().filter(|start| start.get(STEP) == Some(&number)).count() as u64;
                    if mine > 0 {
                        last = Instant::now();
                        // What the first call brings is when counting begins, not what is counted.
                        if first.replace(first.unwrap_or(last)).is_some() {
                            count += mine;
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if offered_at.elapsed() > plan.step {
                        break;
                    }
                }
                Err(error) => return Err(error).context("receiving"),
            }
        }
        let span = first.map_or(Duration::ZERO, |first| last.duration_since(first));
        // A few at the beginning of a step that then stalled are no rate.
        let span = span.max(plan.step / 2);
        counts.send(count as f64 / span.as_secs_f64())?;
    }
    Ok(())
}

/// From now on this thread's sleeps are as long as asked and no longer (`prctl(2)`, `PR_SET_TIMERSLACK`): 50 µs more are the usual.
fn sleep_exactly() {
    // SAFETY: this prctl takes one integer and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search against a tunnel that passes at most `most` a second, less by `collapse` for each offered above it; the best arrival.
    fn found(most: f64, collapse: f64, steps: usize) -> f64 {
        let mut search = Search::new();
        let mut best = 0.0_f64;
        for _ in 0..steps {
            let offer = search.offer().unwrap_or(1e6);
            let arrived = offer.min((most - (offer - most).max(0.0) * collapse).max(1_000.0));
            search.learn(arrived);
            best = best.max(arrived);
        }
        best
    }

    #[test]
    fn a_tunnel_that_only_drops_is_found_at_once() {
        assert!(found(200e3, 0.0, 1) >= 199e3);
    }

    #[test]
    fn one_that_collapses_under_a_flood_is_found_by_approach() {
        for most in [100e3, 220e3, 470e3] {
            let best = found(most, 0.1, 8);
            assert!(best > 0.9 * most, "{best} of {most}");
        }
    }

    #[test]
    fn an_offer_never_falls_below_the_best() {
        let mut search = Search::new();
        for arrived in [50e3, 60e3, 20e3, 10e3, 61e3] {
            search.learn(arrived);
            assert!(search.offer().is_some_and(|offer| offer >= 60e3 || search.best < 60e3));
        }
    }
}
