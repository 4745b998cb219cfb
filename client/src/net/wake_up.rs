//! Whether the machine, or this process, stood still: whatever was known of the network may be an hour old then.
//!
//! Two signs, because neither sees everything:
//!
//! - *The wall clock jumped* against the monotonic one: the machine was suspended (the monotonic clock stands still meanwhile, so no
//!   timer is late), or somebody set the clock. The kernel says it by cancelling a timer that is armed for that
//!   (`TFD_TIMER_CANCEL_ON_SET`, timerfd_create(2)): nothing wakes up to look.
//! - *A timer fired much too late*: the process was stopped, or its hypervisor had no time for it ([`has_slept`]).
//!
//! Either is a reason to look around once too often; the round that follows is bounded (protocol §7.5).

use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

/// A timer that fires later than this was not late for want of a processor.
const LATE: Duration = Duration::from_secs(2);
/// When the timer would fire by itself, seconds since 1970: in the year 2500.
const NEVER: i64 = 16_725_225_600;

/// Jumps of the wall clock.
#[derive(Debug)]
pub struct ClockJumps {
    timer: AsyncFd<OwnedFd>,
}

/// What reading the timer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Jump,
    Nothing,
    AskAgain,
    NoMore(Errno),
}

impl Said {
    const fn by(read: Result<usize, Errno>) -> Self {
        match read {
            // The year 2500 has come, which is a jump as well.
            Err(Errno::CANCELED) | Ok(_) => Self::Jump,
            Err(Errno::AGAIN) => Self::Nothing,
            Err(Errno::INTR) => Self::AskAgain,
            Err(errno) => Self::NoMore(errno),
        }
    }
}

impl ClockJumps {
    /// Begins to watch. Must be called inside a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn watch() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let never = Itimerspec { it_interval: zero, it_value: Timespec { tv_sec: NEVER, ..zero } };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &never)?;
        // SAFETY: an OwnedFd names one open descriptor as long as it lives.
        let timer = unsafe { AsyncFd::register(timer) }.map_err(io::Error::from)?;
        Ok(Self { timer })
    }

    /// The year 2500 comes after `span`: only whoever may set the clock of the machine makes it jump.
    #[cfg(test)]
    pub(crate) fn jump_in(&self, span: Duration) {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let soon =
            Timespec { tv_sec: span.as_secs().try_into().unwrap(), tv_nsec: span.subsec_nanos().into() };
        let once = Itimerspec { it_interval: zero, it_value: soon };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).unwrap();
    }

    /// Waits for the next. Cancel-safe.
    ///
    /// # Errors
    /// What the kernel said: it will say no more.
    pub async fn next(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            match Said::by(rustix::io::read(ready.get_inner(), &mut [0; 8])) {
                Said::Jump => return Ok(()),
                Said::Nothing => ready.clear_ready(),
                Said::AskAgain => {}
                Said::NoMore(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Whether a process that waited from `began` to `now`, and had something to do at `due`, stood still meanwhile.
pub fn has_slept(began: Instant, due: Option<Instant>, now: Instant) -> bool {
    due.is_some_and(|due| now.saturating_duration_since(due.max(began)) > LATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_late_by_seconds_says_that_the_process_stood_still() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        for (due, now, slept) in [
            (None, at(3_600_000), false),
            (Some(at(15_000)), at(15_000), false),
            (Some(at(15_000)), at(17_000), false),
            (Some(at(15_000)), at(17_001), true),
            // It was due before the wait began: a busy loop, not a sleep.
            (Some(at(0)), at(1_500), false),
            (began.checked_sub(Duration::from_secs(10)), at(1_500), false),
        ] {
            assert_eq!(has_slept(began, due, now), slept, "{due:?} {now:?}");
        }
    }

    #[tokio::test]
    async fn a_clock_that_nobody_sets_says_nothing_and_the_timer_is_armed() {
        let mut jumps = ClockJumps::watch().unwrap();
        let armed = rustix::time::timerfd_gettime(jumps.timer.get_ref()).unwrap();
        assert!(armed.it_value.tv_sec > 100 * 365 * 86_400, "{armed:?}");
        let quiet = tokio::time::timeout(Duration::from_millis(50), jumps.next());
        assert!(quiet.await.is_err());
    }

    #[tokio::test]
    async fn a_jump_is_said_once_and_the_next_one_again() {
        let mut jumps = ClockJumps::watch().unwrap();
        for _ in 0..3 {
            jumps.jump_in(Duration::from_millis(1));
            tokio::time::timeout(Duration::from_secs(10), jumps.next()).await.expect("a jump").unwrap();
            let quiet = tokio::time::timeout(Duration::from_millis(50), jumps.next());
            assert!(quiet.await.is_err(), "once");
        }
        // One that nobody waited for yet is not lost.
        jumps.jump_in(Duration::from_millis(1));
        drop(tokio::time::timeout(Duration::ZERO, jumps.next()).await);
        jumps.jump_in(Duration::from_millis(1));
        tokio::time::timeout(Duration::from_secs(10), jumps.next()).await.expect("a jump").unwrap();
    }

    #[test]
    fn a_clock_that_was_set_is_a_jump_and_what_fails_is_not() {
        assert_eq!(Said::by(Err(Errno::CANCELED)), Said::Jump, "timerfd_create(2): TFD_TIMER_CANCEL_ON_SET");
        assert_eq!(Said::by(Ok(8)), Said::Jump);
        assert_eq!(Said::by(Err(Errno::AGAIN)), Said::Nothing);
        assert_eq!(Said::by(Err(Errno::INTR)), Said::AskAgain);
        assert_eq!(Said::by(Err(Errno::BADF)), Said::NoMore(Errno::BADF));
    }
}
