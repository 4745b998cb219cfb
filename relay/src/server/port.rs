//! Where messages for one connection are left, and where its own go.
//!
//! Back-pressure: when the queue of the other end is crowded, the sender is not read for a moment
//! ([`Limits::back_pressure`]) rather than its data dropped. An end that does not catch up in that time is slow until it has,
//! or for [`SLOW_FOR`]: its senders no longer wait for it, so that one reader who stands still costs its senders' other
//! peers one short pause every two seconds.
//!
//! Locks: nothing takes one while it holds another.

use crate::core::forward::{Item, PairMeter, Queues};
use crate::core::limits::{Bucket, Limits};
use crate::metrics::Metrics;
use crate::server::relayed::{Binding, Entrance};
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use shadowmesh_proto::ids::ChannelId;
use shadowmesh_proto::wire::relay::Control;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

/// A mutex whose holder cannot panic half-way: what it guards stays usable even if somebody did.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long senders do not wait for a client that did not catch up: with pauses of 10 ms that is half a percent of the time.
const SLOW_FOR: Duration = Duration::from_secs(2);

/// Where messages for one connection are left, and where its own go.
#[derive(Debug)]
pub(super) struct Port {
    inbox: Mutex<Inbox>,
    routes: Mutex<HashMap<ChannelId, Route>>,
    waker: AtomicWaker,
    /// How many bytes may wait for the client, by what its line takes; `usize::MAX` where that is not known.
    bound: AtomicUsize,
    /// How many may wait for any.
    most: usize,
    /// Set once: write what is queued, then close.
    closing: AtomicBool,
    /// Set once: the client does not read even its control messages.
    stuck: AtomicBool,
    /// Where its stream came to.
    entrance: Entrance,
    /// Meters what it sends, on the stream and by datagram, where the operator set a rate.
    allowance: Mutex<Option<Bucket>>,
    /// Where its datagrams are forwarded from and to.
    binding: Mutex<Option<Arc<Binding>>>,
}

#[derive(Debug)]
struct Inbox {
    queues: Queues,
    /// Senders that are not read until there is room here.
    paused: Vec<Waker>,
    /// Until then nobody waits for this client.
    slow_until: Option<Instant>,
}

impl Inbox {
    fn is_slow(&self, now: Instant) -> bool {
        self.slow_until.is_some_and(|until| until > now)
    }
}

#[derive(Debug)]
struct Route {
    to: Arc<Port>,
    meter: Arc<PairMeter>,
}

impl Port {
    pub(super) fn new(now: Instant, limits: &Limits, entrance: Entrance) -> Self {
        Self {
            inbox: Mutex::new(Inbox {
                queues: Queues::new(limits.queue_control, limits.queue_bytes),
                paused: Vec::new(),
                slow_until: None,
            }),
            routes: Mutex::new(HashMap::new()),
            waker: AtomicWaker::new(),
            bound: AtomicUsize::new(usize::MAX),
            most: limits.queue_bytes,
            closing: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            entrance,
            allowance: Mutex::new(limits.bytes_per_second.map(|rate| Bucket::full(now, rate, rate))),
            binding: Mutex::new(None),
        }
    }

    /// The client sent `bytes` over its stream: how long it is not to be read, to keep to its rate.
    pub(super) fn spend(&self, now: Instant, bytes: usize) -> Duration {
        let amount = u32::try_from(bytes).map_or(f64::MAX, f64::from);
        lock(&self.allowance).as_mut().map_or(Duration::ZERO, |bucket| bucket.spend(now, amount))
    }

    /// The client sent `bytes` by datagram: whether its rate allows that.
    pub(super) fn may_send(&self, now: Instant, bytes: usize) -> bool {
        let amount = u32::try_from(bytes).map_or(f64::MAX, f64::from);
        lock(&self.allowance).as_mut().is_none_or(|bucket| bucket.take(now, amount))
    }

    /// A STUN request of the client came from `udp`, as it seems.
    pub(super) fn on_stun(&self, now: Instant, udp: SocketAddr) {
        if let Some(binding) = self.binding().filter(|binding| binding.udp == udp) {
            binding.on_heard(now);
        }
    }

    /// Datagrams of the client are forwarded so from now on; how they were before.
    pub(super) fn set_binding(&self, binding: Option<Arc<Binding>>) -> Option<Arc<Binding>> {
        std::mem::replace(&mut *lock(&self.binding), binding)
    }

    /// Where datagrams for the client go.
    pub(super) fn binding(&self) -> Option<Arc<Binding>> {
        lock(&self.binding).clone()
    }

    /// So many bytes may wait for the client; `None` where nothing is known of its line.
    pub(super) fn set_bound(&self, bytes: Option<usize>) {
        self.bound.store(bytes.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// How many bytes may wait for the client where its line is slow: less than may in any case.
    fn known_bound(&self) -> Option<usize> {
        Some(self.bound.load(Ordering::Relaxed)).filter(|bound| *bound < self.most)
    }

    /// Whom to wake when something is left here.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// The next thing to write: control, or where that `takes_data`, data.
    pub(super) fn pop(&self, now: Instant, takes_data: bool, metrics: &Metrics) -> Option<Item> {
        let mut inbox = lock(&self.inbox);
        let (item, displaced) = inbox.queues.pop(now, self.known_bound().is_some(), takes_data);
        if displaced.packets > 0 {
            metrics.dropped.queue_full.add(displaced.packets);
        }
        if inbox.queues.has_room() {
            // It has caught up.
            inbox.slow_until = None;
            let paused = std::mem::take(&mut inbox.paused);
            drop(inbox);
            paused.into_iter().for_each(Waker::wake);
        }
        item
    }

    /// Gives memory back: nothing has come for a while.
    pub(super) fn shrink(&self) {
        lock(&self.inbox).queues.shrink();
    }

    /// Whether data waits.
    pub(super) fn has_data(&self) -> bool {
        lock(&self.inbox).queues.has_data()
    }

    /// Whether a sender need not wait for this client any more; else it is woken when that may have changed.
    pub(super) fn is_ready(&self, waker: &Waker, now: Instant) -> bool {
        let mut inbox = lock(&self.inbox);
        if inbox.queues.has_room() || inbox.is_slow(now) || self.is_closing() {
            return true;
        }
        if !inbox.paused.iter().any(|paused| paused.will_wake(waker)) {
            inbox.paused.push(waker.clone());
        }
        false
    }

    /// A sender has waited long enough.
    pub(super) fn give_up_waiting(&self, now: Instant) {
        let mut inbox = lock(&self.inbox);
        inbox.slow_until = Some(now + SLOW_FOR);
        let paused = std::mem::take(&mut inbox.paused);
        drop(inbox);
        paused.into_iter().for_each(Waker::wake);
    }

    /// Whether the connection is to close once its queue is written.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Whether the client let its control messages pile up.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire)
    }

    /// Passes `message`, a checked FORWARD for `channel`, on to the other end; gives that end when it is so crowded that this
    /// one should pause.
    pub(super) fn forward(
        &self,
        channel: ChannelId,
        message: Bytes,
        now: Instant,
        metrics: &Metrics,
    ) -> Option<Arc<Self>> {
        let bytes = u64::try_from(message.len()).unwrap_or(u64::MAX);
        let to = self.way(channel, bytes);
        let Some(to) = to else {
            metrics.dropped.unknown_channel.add_one();
            return None;
        };
        metrics.forwarded.messages.add_one();
        metrics.forwarded.bytes.add(bytes);
        let bound = to.known_bound();
        let mut inbox = lock(&to.inbox);
        let displaced = inbox.queues.push_data(now, channel, message, bound);
        let pause = !inbox.is_slow(now) && inbox.queues.is_crowded_by(channel);
        drop(inbox);
        if displaced.packets > 0 {
            metrics.dropped.queue_full.add(displaced.packets);
        }
        to.waker.wake();
        pause.then_some(to)
    }

    /// The other end of `channel`, over which `bytes` pass.
    pub(super) fn way(&self, channel: ChannelId, bytes: u64) -> Option<Arc<Self>> {
        let routes = lock(&self.routes);
        let Route { to, meter } = routes.get(&channel)?;
        meter.count(bytes);
        Some(Arc::clone(to))
    }

    /// Leaves a body.
    pub(super) fn send(&self, body: Control) {
        if lock(&self.inbox).queues.push_control(body).is_err() {
            self.stuck.store(true, Ordering::Release);
        }
        self.waker.wake();
    }

    /// Asks the connection to close once its queue is written.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// From now on `channel` leads to `to`.
    pub(super) fn add_route(&self, channel: ChannelId, to: Arc<Self>, meter: Arc<PairMeter>) {
        lock(&self.routes).insert(channel, Route { to, meter });
    }

    /// `channel` leads nowhere any more.
    pub(super) fn remove_route(&self, channel: ChannelId) {
        lock(&self.routes).remove(&channel);
    }

    /// Nothing leads anywhere any more. Routes hold the ports they lead to: a cycle until here.
    pub(super) fn clear_routes(&self) {
        lock(&self.routes).clear();
    }

    /// Where its stream came to.
    pub(super) const fn entrance(&self) -> &Entrance {
        &self.entrance
    }
}
