//! Who runs the two halves of the data plane: one thread while there is little to do, two under load.
//!
//! # Why
//!
//! What one packet takes, when nothing else is to be done, is mostly threads that are woken: each on a processor that slept. A ping and its answer
//! pass both halves of both ends. Where one thread runs both, the answer of a host's own kernel is read by the thread that wrote the question, awake as it
//! is, and two of five wake-ups are spared. Under load each half has a thread and a processor, and none waits for the other's turn.
//!
//! # Life
//!
//! The thread `inbound` has both halves at first. After [`BUSY`] turns in a row in which either found more than a turn's work it gives the outbound half to
//! the thread `outbound`, which gives it back when it found no such turn for [`CALM`]. A half is in one thread at a time: it is moved, not shared.
//!
//! Where the outbound half has several queues ([`Reading`]) it is the first of them that moves so; each of the others has the thread
//! `outbound-N` from the start to the end.
//!
//! # Invariants
//!
//! - Whoever has a half waits for whatever may wake it.
//! - A half that was told to stop, or whose device is gone, is dropped where it is; both threads end when nothing is left to run.

use super::inbound::{self, InboundThread};
use super::outbound::{self, BUFFER, Reading};
use super::wake::{Alarm, wait};
use crate::device::DeviceFault;
use std::io;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// So many turns with more than a turn's work are load.
const BUSY: u32 = 2;
/// Load is over after this: long beside the pauses of a transfer, short beside those of people.
const CALM: Duration = Duration::from_millis(200);

/// A call so long after the turn before it is answered, and that is all of its turn: what else there may be wakes the thread again. One that comes
/// sooner is perhaps of many.
const BRIEF: Duration = Duration::from_micros(200);

/// Starts both threads, and one for each of the `others`, the queues of the outbound half beside its first.
///
/// # Errors
/// When the process may have no more descriptors or threads. Those that were started end when their halves are told to stop, or at once.
pub(super) fn start(
    inbound: InboundThread,
    outbound: Reading,
    others: Vec<Reading>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let (give, taken) = mpsc::channel();
    let (give_back, given_back) = mpsc::channel();
    let (alarm, helpers_alarm) = (Alarm::new()?, Alarm::new()?);
    let waker = inbound.waker().clone();
    let helper = Builder::new().name("outbound".into()).spawn(move || {
        help(&taken, helpers_alarm, |outbound| {
            // Nobody is there to take it back: its time is over.
            let _ = give_back.send(outbound);
            waker.wake();
        });
    })?;
    let mut threads = vec![helper];
    for (number, queue) in (1..).zip(others) {
        let alarm = Alarm::new()?;
        let name = format!("outbound-{number}");
        threads.push(Builder::new().name(name).spawn(move || read_beside(queue, alarm))?);
    }
    let both = Both {
        inbound,
        outbound: Some(outbound),
        give,
        given_back,
        alarm,
        busy: 0,
        turned: Instant::now(),
        rested: None,
    };
    threads.push(Builder::new().name("inbound".into()).spawn(move || both.run())?);
    Ok(threads)
}

/// The thread that has the inbound half, and the other one while there is little to do.
struct Both {
    inbound: InboundThread,
    outbound: Option<Reading>,
    give: Sender<Reading>,
    given_back: Receiver<Reading>,
    alarm: Alarm,
    /// Turns in a row that were load.
    busy: u32,
    /// When the last turn began.
    turned: Instant,
    /// What the inbound half knew when it slept last.
    rested: Option<inbound::Rest>,
}

/// What a turn of a half came to.
enum Stepped<R> {
    /// There is more to do.
    Busy,
    /// There is not.
    Rests(R),
    /// It is over.
    Ended,
}

impl Both {
    fn run(mut self) {
        let mut buffer = vec![0; BUFFER].into_boxed_slice();
        loop {
            let now = Instant::now();
            let is_brief = now.saturating_duration_since(std::mem::replace(&mut self.turned, now)) >= BRIEF;
            self.outbound = self.outbound.take().or_else(|| self.given_back.try_recv().ok());
            let answered = self.answer(now, &mut buffer);
            if let Ok(Some((inn, out))) = answered
                && is_brief
            {
                self.sleep(now, inn, out);
                continue;
            }
            let inn = match answered.and_then(|_| self.inbound.step(now)) {
                Ok(ControlFlow::Continue(None)) => Stepped::Busy,
                Ok(ControlFlow::Continue(Some(rest))) => Stepped::Rests(rest),
                Ok(ControlFlow::Break(())) => Stepped::Ended,
                Err(fault) => {
                    self.inbound.fail(fault);
                    Stepped::Ended
                }
            };
            let out = self.step_outbound(now, &mut buffer);
            let is_inbound_over = matches!(inn, Stepped::Ended);
            if is_inbound_over {
                return self.leave(&mut buffer);
            }
            let is_busy = matches!(inn, Stepped::Busy) || matches!(out, Some(Stepped::Busy));
            self.busy = if is_busy { self.busy + 1 } else { 0 };
            if self.busy >= BUSY
                && let Some(outbound) = self.outbound.take()
            {
                // The other thread lives as long as this one.
                let _ = self.give.send(outbound);
                continue;
            }
            match (inn, out) {
                (Stepped::Rests(inn), Some(Stepped::Rests(out))) => self.sleep(now, inn, out),
                (Stepped::Rests(inn), None | Some(Stepped::Ended)) => {
                    self.alarm.set(now, inn.due);
                    if let Some(waits) = self.inbound.waits_for() {
                        let ended = wait([self.inbound.waker()], &self.alarm, [Some(waits)]);
                        self.inbound.call(!ended.is_woken);
                    }
                }
                _ => {}
            }
        }
    }

    /// Answers whatever ended the sleep, before anything else is looked at: somebody may wait for it. What is written to the device may be answered
    /// there and then. How long to rest after that, if either half was called and nothing is known that it left.
    ///
    /// # Errors
    /// The inbound half's device is gone.
    fn answer(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
    ) -> Result<Option<(inbound::Rest, outbound::Rest)>, DeviceFault> {
        let received = self.inbound.answer_call(now)?;
        let Some(outbound) = &mut self.outbound else { return Ok(None) };
        if received.is_some() {
            outbound.call(true);
        }
        let sent = match outbound.answer_call(now, buffer) {
            Ok(sent) => sent,
            Err(fault) => {
                outbound.fail(fault);
                self.outbound = None;
                None
            }
        };
        Ok(received.or(self.rested).zip(sent))
    }

    /// `None` where the other thread has it.
    fn step_outbound(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Stepped<outbound::Rest>> {
        let stepped = step(self.outbound.as_mut()?, now, buffer);
        if matches!(stepped, Stepped::Ended) {
            self.outbound = None;
        }
        Some(stepped)
    }

    /// Until either half has something: each is told if it was called for that alone.
    fn sleep(&mut self, now: Instant, inn: inbound::Rest, out: outbound::Rest) {
        let Some(outbound) = &mut self.outbound else { return };
        self.rested = Some(inn);
        outbound.begin_rest(out);
        self.alarm.set(now, inn.due.into_iter().chain(out.due).min());
        let Some(received) = self.inbound.waits_for() else { return };
        let [read, written] = outbound.waits_for(out);
        let wakers = [self.inbound.waker(), outbound.waker()];
        let ended = wait(wakers, &self.alarm, [read, Some(received), written]);
        let [is_read, is_received, _] = ended.ready;
        outbound.call(is_read && !ended.is_woken);
        self.inbound.call(is_received && !ended.is_woken);
    }

    /// The inbound half is over. The other one may be here still: it goes on until it is told as well.
    fn leave(mut self, buffer: &mut [u8]) {
        drop(self.inbound);
        while let Some(outbound) = &mut self.outbound {
            let now = Instant::now();
            match step(outbound, now, buffer) {
                Stepped::Busy => {}
                Stepped::Rests(rest) => rest_alone(outbound, &mut self.alarm, now, rest, None),
                Stepped::Ended => return,
            }
        }
    }
}

/// The thread that has the outbound half under load. `give_back` takes it when that is over.
fn help(taken: &Receiver<Reading>, mut alarm: Alarm, give_back: impl Fn(Reading)) {
    let mut buffer = vec![0; BUFFER].into_boxed_slice();
    while let Ok(mut outbound) = taken.recv() {
        let mut calm_at = Instant::now() + CALM;
        loop {
            let now = Instant::now();
            match step(&mut outbound, now, &mut buffer) {
                Stepped::Busy => calm_at = now + CALM,
                Stepped::Rests(_) if now >= calm_at => {
                    give_back(outbound);
                    break;
                }
                Stepped::Rests(rest) => rest_alone(&mut outbound, &mut alarm, now, rest, Some(calm_at)),
                Stepped::Ended => return,
            }
        }
    }
}

/// The thread of another queue of the outbound half, which sleeps while nothing comes by that: the first keeps time.
fn read_beside(mut queue: Reading, mut alarm: Alarm) {
    loop {
        let now = Instant::now();
        match step(&mut queue, now, &mut []) {
            Stepped::Busy => {}
            Stepped::Rests(rest) => rest_alone(&mut queue, &mut alarm, now, rest, None),
            Stepped::Ended => return,
        }
    }
}

/// One turn.
fn step(outbound: &mut Reading, now: Instant, buffer: &mut [u8]) -> Stepped<outbound::Rest> {
    match outbound.step(now, buffer) {
        Ok(ControlFlow::Continue(None)) => Stepped::Busy,
        Ok(ControlFlow::Continue(Some(rest))) => Stepped::Rests(rest),
        Ok(ControlFlow::Break(())) => Stepped::Ended,
        Err(fault) => {
            outbound.fail(fault);
            Stepped::Ended
        }
    }
}

/// Sleeps with the outbound half alone, until `limit` at most.
fn rest_alone(
    outbound: &mut Reading,
    alarm: &mut Alarm,
    now: Instant,
    rest: outbound::Rest,
    limit: Option<Instant>,
) {
    outbound.begin_rest(rest);
    alarm.set(now, rest.due.into_iter().chain(limit).min());
    let ended = wait([outbound.waker()], alarm, outbound.waits_for(rest));
    let [is_read, ..] = ended.ready;
    outbound.call(is_read && !ended.is_woken);
}
