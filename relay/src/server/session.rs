//! A registered connection: one task that reads, writes and watches the time.
//!
//! It never waits for another connection, and reading goes on while writing is blocked, so a client that does not read still
//! gets its own data out. Reading pauses for two reasons only, both bounded in time: the rate that the operator set, and the
//! crowded queue of a receiver (see [`port`](super::port)).

use crate::core::ConnId;
use crate::core::forward::Item;
use crate::core::limits::Bucket;
use crate::random::SystemRng;
use crate::server::conn::{Ending, close, refuse};
use crate::server::hub::{Hub, Patience, Rules};
use crate::server::port::Port;
use crate::server::socket::Line;
use crate::server::ws::WsStream;
use bytes::Bytes;
use shadowmesh_proto::link::{LinkError, ServerInput, ServerLink};
use shadowmesh_proto::wire::codec::WireError;
use shadowmesh_proto::wire::relay::{Control, Forward};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::{Sleep, sleep};

/// Bytes read in one go before other connections get their turn: well under a queue, so that a burst of one client is
/// written on before it can overflow the queue of the other.
const READ_BUDGET: usize = 256 * 1024;
/// Messages read in one go, for the same reason.
const READ_MESSAGES: usize = 64;

/// Why and until when a client is not read.
#[derive(Debug)]
enum Pause {
    /// It sent as much as its rate allows.
    Rate { until: Instant },
    /// It sends to a client whose queue is crowded.
    Crowd { to: Arc<Port>, until: Instant },
}

impl Pause {
    const fn until(&self) -> Instant {
        match self {
            Self::Rate { until } | Self::Crowd { until, .. } => *until,
        }
    }
}

/// How often a client may wait for others in vain, at once and per second: one that sends to many slow readers would otherwise be
/// read by none of the time that is left, to the harm of its other peers.
const VAIN_BURST: f64 = 5.0;
const VAIN_PER_SECOND: f64 = 5.0;

/// Whether a client still waits for crowded receivers.
#[derive(Debug)]
struct Waiting {
    vain: Bucket,
    not_before: Instant,
}

impl Waiting {
    const fn new(now: Instant) -> Self {
        Self { vain: Bucket::full(now, VAIN_PER_SECOND, VAIN_BURST), not_before: now }
    }

    fn is_allowed(&self, now: Instant) -> bool {
        now >= self.not_before
    }

    /// It waited, and there was no room in the end.
    fn on_vain(&mut self, now: Instant) {
        self.not_before = now + self.vain.spend(now, 1.0);
    }
}

/// A registered connection.
#[derive(Debug)]
pub(super) struct Session<S> {
    ws: WsStream<S>,
    link: ServerLink,
    hub: Arc<Hub>,
    port: Arc<Port>,
    conn: ConnId,
    patience: Patience,
    /// Not read for now.
    pause: Option<Pause>,
    back_pressure: Duration,
    waiting: Waiting,
    /// When something last came.
    heard: Instant,
    /// Whether it was pinged since.
    pinged: bool,
    /// When something was last written, or there was nothing to write.
    progress: Instant,
    /// Whether the socket takes no more for now.
    blocked: bool,
    /// Data waits, and the socket is given none of it until then.
    held: Option<Instant>,
    /// Since when something waits for the line, in front of the socket or of that.
    waits_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S: Line> Session<S> {
    /// A session that has just been registered.
    pub(super) fn new(
        mut ws: WsStream<S>,
        link: ServerLink,
        hub: Arc<Hub>,
        port: Arc<Port>,
        conn: ConnId,
        rules: &Rules,
    ) -> Self {
        let now = Instant::now();
        // What its handshake took is not what its rate is for.
        ws.take_read();
        Self {
            ws,
            link,
            hub,
            port,
            conn,
            patience: rules.patience,
            pause: None,
            back_pressure: rules.limits.back_pressure,
            waiting: Waiting::new(now),
            heard: now,
            pinged: false,
            progress: now,
            blocked: false,
            held: None,
            waits_since: None,
            timer: Box::pin(sleep(rules.patience.ping)),
        }
    }

    /// Serves until the connection is over, tells the others, and says goodbye.
    pub(super) fn run(self) -> impl Future<Output = Ending> {
        // Captured, and no argument of the future: those have room in it twice.
        let mut session = self;
        async move {
            let ending = poll_fn(|cx| session.poll(cx)).await;
            // First the others: they are told PEER_GONE while this one gets its last words.
            session.hub.closed(session.conn);
            // In a box: no session keeps room for its end while it lives.
            Box::pin(session.bid_farewell(&ending)).await;
            ending
        }
    }

    async fn bid_farewell(self, ending: &Ending) {
        let Self { mut ws, mut link, port, hub, .. } = self;
        match ending {
            Ending::Refused(refusal) => refuse(ws, link, *refusal).await,
            Ending::Asked => {
                while let Some(item) = port.pop(Instant::now(), true, hub.metrics()) {
                    if let Item::Control(body) = item
                        && let Ok(message) = link.seal(&body)
                    {
                        ws.stage(message.into());
                    }
                }
                close(ws).await;
            }
            Ending::Full
            | Ending::Proxy(_)
            | Ending::Tls(_)
            | Ending::Stream(_)
            | Ending::Link(_)
            | Ending::Forward(_)
            | Ending::Stopping
            | Ending::Late
            | Ending::Stuck
            | Ending::Silent => {}
        }
    }

    /// Reads and writes until nothing moves; ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        self.port.register(cx.waker());
        let now = Instant::now();
        let result = self
            .poll_read(cx, now)
            .and_then(|()| self.poll_write(cx, now))
            .and_then(|()| self.poll_time(cx, now));
        match result {
            Ok(()) if self.port.is_stuck() => Poll::Ready(Ending::Stuck),
            Ok(()) if self.port.is_closing() => Poll::Ready(Ending::Asked),
            Ok(()) => Poll::Pending,
            Err(ending) => Poll::Ready(ending),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ending> {
        if self.is_paused(cx, now) {
            return Ok(());
        }
        let mut budget = READ_BUDGET;
        for _ in 0..READ_MESSAGES {
            let message = self.ws.poll_message(cx)?;
            let read = self.ws.take_read();
            self.keep_to_rate(now, read);
            let Poll::Ready(message) = message else {
                return Ok(());
            };
            self.heard = now;
            self.pinged = false;
            if let Some(message) = message {
                self.on_message(message, now)?;
            }
            if self.is_paused(cx, now) {
                return Ok(());
            }
            let Some(left) = budget.checked_sub(read) else {
                break;
            };
            budget = left;
        }
        // More may be there: come back after the others.
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn on_message(&mut self, message: Bytes, now: Instant) -> Result<(), Ending> {
        // The data path first. Only registered links come here, so FORWARD is in place.
        match Forward::parse(&message) {
            Ok(forward) => {
                let channel = forward.channel;
                let crowded = self.port.forward(channel, message, now, self.hub.metrics());
                if let Some(to) = crowded
                    && !self.back_pressure.is_zero()
                    && self.waiting.is_allowed(now)
                {
                    self.pause = Some(Pause::Crowd { to, until: now + self.back_pressure });
                }
                return Ok(());
            }
            Err(WireError::Kind(_)) => {}
            Err(error) => return Err(error.into()),
        }
        match self.link.handle(self.hub.secret(), &message, &mut SystemRng)? {
            ServerInput::Control(body) => Ok(self.hub.control(now, self.conn, body)?),
            ServerInput::Ignored => Ok(()),
            ServerInput::Send(_) | ServerInput::Register { .. } | ServerInput::Forward => {
                Err(LinkError::OutOfPlace("a handshake on an open link").into())
            }
        }
    }

    /// Takes what was read from the allowance, whatever it was, and stops reading when that is used up.
    fn keep_to_rate(&mut self, now: Instant, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let wait = self.port.spend(now, bytes);
        if !wait.is_zero() {
            self.pause = Some(Pause::Rate { until: now + wait });
        }
    }

    /// Whether reading waits for something; if so, the task is woken when it need not any more.
    fn is_paused(&mut self, cx: &Context<'_>, now: Instant) -> bool {
        let until = match &self.pause {
            None => return false,
            Some(Pause::Rate { until }) if *until > now => *until,
            Some(Pause::Crowd { to, until }) if !to.is_ready(cx.waker(), now) => {
                if *until <= now {
                    to.give_up_waiting(now);
                    self.waiting.on_vain(now);
                    self.pause = None;
                    return false;
                }
                *until
            }
            Some(Pause::Rate { .. } | Pause::Crowd { .. }) => {
                self.pause = None;
                return false;
            }
        };
        self.wake_at(until);
        true
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ending> {
        let mut written = 0;
        self.held = self.held.filter(|until| *until > now);
        let idle = loop {
            while self.ws.has_room() {
                let takes_data = self.held.is_none() && self.ws.may_go_on();
                let Some(item) = self.port.pop(now, takes_data, self.hub.metrics()) else {
                    if takes_data || !self.may_take(now) { break } else { continue }
                };
                let message = match item {
                    Item::Control(body) => self.link.seal(&body)?.into(),
                    Item::Data(message) => message,
                };
                self.ws.stage(message);
            }
            // Only when staging left nothing behind: what found no room above waits for the next round of this loop.
            if self.ws.is_idle() {
                break true;
            }
            if self.ws.poll_write(cx, &mut written)?.is_pending() {
                break false;
            }
        };
        if written > 0 {
            let waited = self.waits_since.take().map_or(Duration::ZERO, |since| now.duration_since(since));
            self.port.set_bound(self.ws.on_written(now, written, waited));
        }
        // To be held back is to wait for the line.
        if idle && self.held.is_none() {
            self.waits_since = None;
        } else {
            self.waits_since.get_or_insert(now);
        }
        if idle || written > 0 {
            self.progress = now;
        }
        if !idle && !self.blocked {
            self.wake_at(now + self.patience.write);
        }
        self.blocked = !idle;
        if let Some(until) = self.held {
            self.wake_at(until);
        }
        Ok(())
    }

    /// Whether data waits, and may be taken now: it was left because enough is under way. For how long that may last, the kernel knows, which has
    /// what is under way.
    fn may_take(&mut self, now: Instant) -> bool {
        if !self.port.has_data() {
            self.held = None;
            return false;
        }
        self.held = self.held.or_else(|| self.ws.look(now));
        self.held.is_none()
    }

    /// Looks at the clock when the timer fires, and sets it for what is next.
    fn poll_time(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ending> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.blocked && now.duration_since(self.progress) >= self.patience.write {
                return Err(Ending::Stuck);
            }
            if self.pause.is_some() {
                // It is us who do not listen.
                self.heard = now;
            }
            let quiet = now.duration_since(self.heard);
            if quiet >= self.patience.silence {
                return Err(Ending::Silent);
            }
            if quiet >= self.patience.ping / 2 {
                self.port.shrink();
                self.ws.shrink();
            }
            if quiet >= self.patience.ping && !self.pinged {
                self.pinged = true;
                self.port.send(Control::Ping { id: 0 });
            }
            let mut next = self.heard + if self.pinged { self.patience.silence } else { self.patience.ping };
            if self.blocked {
                next = next.min(self.progress + self.patience.write);
            }
            if let Some(pause) = &self.pause {
                next = next.min(pause.until());
            }
            if let Some(until) = self.held {
                next = next.min(until);
            }
            self.timer.as_mut().reset(next.max(now + Duration::from_millis(1)).into());
        }
        Ok(())
    }

    /// Makes sure that the timer fires at `at` or before.
    fn wake_at(&mut self, at: Instant) {
        if self.timer.deadline().into_std() > at {
            self.timer.as_mut().reset(at.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_slow_readers_cost_a_sender_no_more_than_a_few() {
        let (start, wait) = (Instant::now(), Duration::from_millis(10));
        let (mut now, mut waiting, mut vain) = (start, Waiting::new(start), 0);
        // Each of them is waited for when it is next sent to, unless waiting is over.
        for _ in 0..200 * 10 {
            if waiting.is_allowed(now) {
                now += wait;
                waiting.on_vain(now);
                vain += 1;
            }
            now += Duration::from_micros(100);
        }
        let seconds = (now - start).as_secs_f64();
        assert!(f64::from(vain) <= VAIN_BURST + 1.0 + VAIN_PER_SECOND * seconds, "{vain} in {seconds} s");
        assert!(waiting.is_allowed(now + Duration::from_secs(1)));
    }
}
