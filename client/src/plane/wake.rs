//! An eventfd that wakes a thread, at most once per sleep.
//!
//! # How no wake-up is lost
//!
//! The thread says [`Waker::about_to_sleep`], looks at its queues once more, and calls [`wait`]. Whoever queues
//! something does so *before* [`Waker::wake_sleeper`]. Between "I sleep" and the look, and between the queueing and the
//! question whether the thread sleeps, stands a full fence on each side: of the two, at least one sees what the other did
//! (the store-buffer pattern; without the fences ARM may let both miss). Things that are rare are announced with
//! [`Waker::wake`], which writes always and needs none of this.

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

/// Wakes the thread that polls its descriptor. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fd: OwnedFd,
    /// Set by the thread before it looks a last time and sleeps; whoever takes it owes the write.
    sleeping: AtomicBool,
}

impl Waker {
    /// A new eventfd.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { shared: Arc::new(Shared { fd, sleeping: AtomicBool::new(false) }) })
    }

    /// Wakes the thread whether it sleeps or not: for rare things that it must not miss.
    pub fn wake(&self) {
        self.shared.sleeping.store(false, Ordering::Relaxed);
        self.write();
    }

    /// Wakes the thread only if it sleeps: one system call per sleep, however much is queued meanwhile.
    pub fn wake_sleeper(&self) {
        // What the caller queued is visible before the question is asked.
        fence(Ordering::SeqCst);
        if self.shared.sleeping.swap(false, Ordering::Relaxed) {
            self.write();
        }
    }

    /// Says that the thread is about to sleep. It must look at its queues once more after this: what was queued before
    /// may have seen it awake.
    pub(super) fn about_to_sleep(&self) {
        self.shared.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that the thread does not sleep after all.
    pub(super) fn stay_awake(&self) {
        self.shared.sleeping.store(false, Ordering::Relaxed);
    }

    /// Takes what was written.
    fn clear(&self) {
        let mut count = [0; 8];
        // Somebody may have taken it: nothing to take is no failure.
        let _ = rustix::io::read(&self.shared.fd, &mut count);
    }

    fn write(&self) {
        // Fails only when the count is at its maximum, and then the thread is as awake as can be.
        let _ = rustix::io::write(&self.shared.fd, &1u64.to_ne_bytes());
    }
}

/// What ended a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended<const N: usize> {
    /// Somebody woke it, or it is time.
    pub(super) is_woken: bool,
    /// Which of the others were ready.
    pub(super) ready: [bool; N],
}

/// Descriptors that are waited for at most.
const WATCHED: usize = 8;

/// Sleeps until one of `wakers` is woken, until one of `also` is ready for what is asked of it, or until `alarm`. It may return early: the caller
/// looks at everything again anyway. Where nobody woke it, nobody has queued anything with [`Waker::wake`], nor is anything due.
pub(super) fn wait<const W: usize, const N: usize>(
    wakers: [&Waker; W],
    alarm: &Alarm,
    also: [Option<PollFd<'_>>; N],
) -> Ended<N> {
    const { assert!(1 + W + N <= WATCHED) };
    let own = PollFd::new(&alarm.fd, PollFlags::IN);
    let is_asked = also.each_ref().map(Option::is_some);
    let woken = wakers.iter().map(|waker| PollFd::new(&waker.shared.fd, PollFlags::IN));
    let asked = std::iter::once(own.clone()).chain(woken).chain(also.into_iter().flatten());
    let mut fds: [PollFd<'_>; WATCHED] = std::array::from_fn(|_| own.clone());
    let mut count = 0;
    for (place, fd) in fds.iter_mut().zip(asked) {
        *place = fd;
        count += 1;
    }
    let fds = fds.get_mut(..count).unwrap_or_default();
    // Interrupted or not, the caller looks at everything again.
    let _ = poll(fds, None);
    let mut is_ready = fds.iter().map(|fd| !fd.revents().is_empty());
    let mut is_woken = is_ready.next().unwrap_or(true);
    for (waker, is_ready) in wakers.iter().zip(&mut is_ready) {
        waker.stay_awake();
        if is_ready {
            waker.clear();
            is_woken = true;
        }
    }
    let ready = is_asked.map(|is_asked| is_asked && is_ready.next().unwrap_or(false));
    Ended { is_woken, ready }
}

/// When a thread that sleeps looks by itself.
///
/// A time that is put off with each packet, as all of the data plane's are, is not set anew for that: it goes off when it was first to, once, and is set
/// again then. A limit of `poll` would be set and taken back for each packet, which on a virtual machine is the dearest part of a sleep.
#[derive(Debug)]
pub(super) struct Alarm {
    fd: OwnedFd,
    at: Option<Instant>,
}

impl Alarm {
    /// One that is not set.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub(super) fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { fd, at: None })
    }

    /// Goes off at `due` or before.
    pub(super) fn set(&mut self, now: Instant, due: Option<Instant>) {
        let is_past = |at: &mut Instant| *at <= now;
        // Setting it again takes back that it went off.
        let has_gone_off = self.at.take_if(is_past).is_some();
        if self.at.is_some_and(|at| due.is_none_or(|due| at <= due))
            || (self.at.is_none() && due.is_none() && !has_gone_off)
        {
            return;
        }
        self.at = due;
        // Zero would stop it: what is due goes off after a nanosecond.
        let value =
            due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now).max(Duration::from_nanos(1)));
        let value = Timespec { tv_sec: value.as_secs().cast_signed(), tv_nsec: value.subsec_nanos().into() };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        // It refuses no time.
        let _ = timerfd_settime(
            &self.fd,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: never, it_value: value },
        );
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn is_readable(waker: &Waker) -> bool {
        let mut count = [0; 8];
        rustix::io::read(&waker.shared.fd, &mut count).is_ok()
    }

    fn alarm(seconds: u64) -> Alarm {
        let (mut alarm, now) = (Alarm::new().unwrap(), Instant::now());
        alarm.set(now, Some(now + Duration::from_secs(seconds)));
        alarm
    }

    /// How long a sleep lasts.
    fn slept(waker: &Waker, alarm: &Alarm) -> Duration {
        let began = Instant::now();
        wait([waker], alarm, []);
        began.elapsed()
    }

    #[test]
    fn an_alarm_goes_off_in_time_once_and_each_time_that_it_is_set() {
        let (waker, mut alarm) = (Waker::new().unwrap(), Alarm::new().unwrap());
        let ms = Duration::from_millis;
        for round in 0..3 {
            let now = Instant::now();
            alarm.set(now, Some(now + ms(30)));
            // Put off: it goes off as it was, for who looks then sets it again.
            alarm.set(now + ms(1), Some(now + ms(60)));
            assert!(slept(&waker, &alarm) >= ms(25), "{round}");
            alarm.set(Instant::now(), Some(now + ms(60)));
            slept(&waker, &alarm);
            assert!(now.elapsed() >= ms(60), "{round}");
        }
        // Brought forward, and in the past.
        let now = Instant::now();
        alarm.set(now, Some(now + Duration::from_secs(60)));
        alarm.set(now, Some(now));
        assert!(slept(&waker, &alarm) < Duration::from_secs(30));
        // Nothing is due: it does not go off again.
        alarm.set(Instant::now(), None);
        let mut fds = [PollFd::new(&alarm.fd, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0));
    }

    #[test]
    fn only_a_sleeper_costs_a_system_call() {
        let waker = Waker::new().unwrap();
        waker.wake_sleeper();
        assert!(!is_readable(&waker), "nobody sleeps");
        waker.about_to_sleep();
        waker.wake_sleeper();
        waker.wake_sleeper();
        assert!(is_readable(&waker));
        waker.stay_awake();
        waker.wake();
        assert!(is_readable(&waker), "an unconditional wake always writes");
    }

    #[test]
    fn a_wake_before_the_sleep_ends_it_and_is_used_up() {
        let waker = Waker::new().unwrap();
        waker.wake();
        waker.about_to_sleep();
        let began = Instant::now();
        assert_eq!(wait([&waker], &alarm(60), []), Ended { is_woken: true, ready: [] });
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(!is_readable(&waker));
    }

    #[test]
    fn it_is_known_what_ended_a_sleep() {
        let wakers = [(); 3].map(|()| Waker::new().unwrap());
        let [one, two, other] = &wakers;
        let wait_for = |alarm: &Alarm| {
            let other = PollFd::new(other, PollFlags::IN);
            wait([one, two], alarm, [None, Some(other), None])
        };
        other.wake();
        assert_eq!(wait_for(&alarm(60)), Ended { is_woken: false, ready: [false, true, false] });
        two.wake();
        assert_eq!(wait_for(&alarm(60)), Ended { is_woken: true, ready: [false, true, false] });
        assert_eq!(
            wait_for(&alarm(60)),
            Ended { is_woken: false, ready: [false, true, false] },
            "it is used up"
        );
        let (mut alarm, now) = (Alarm::new().unwrap(), Instant::now());
        alarm.set(now, Some(now));
        until_readable(&alarm);
        assert!(wait_for(&alarm).is_woken);
    }

    fn until_readable(alarm: &Alarm) {
        let mut fds = [PollFd::new(&alarm.fd, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })), Ok(1));
    }

    #[test]
    fn a_hundred_thousand_items_and_not_one_is_slept_over() {
        const ITEMS: u32 = 100_000;
        let waker = Waker::new().unwrap();
        let (sender, receiver) = mpsc::channel();
        let producer = {
            let waker = waker.clone();
            std::thread::spawn(move || {
                for n in 0..ITEMS {
                    sender.send(n).unwrap();
                    waker.wake_sleeper();
                    if n % 7 == 0 {
                        // Lets the consumer run dry, so that it goes to sleep thousands of times.
                        std::thread::yield_now();
                    }
                }
            })
        };
        let mut next = 0;
        while next < ITEMS {
            let Ok(n) = receiver.try_recv() else {
                waker.about_to_sleep();
                if let Ok(n) = receiver.try_recv() {
                    waker.stay_awake();
                    assert_eq!(n, next);
                    next += 1;
                    continue;
                }
                let began = Instant::now();
                wait([&waker], &alarm(20), []);
                assert!(began.elapsed() < Duration::from_secs(15), "slept over item {next}");
                continue;
            };
            assert_eq!(n, next);
            next += 1;
        }
        producer.join().unwrap();
    }
}
