//! An eventfd that wakes a thread, at most once per sleep.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
        self.shared.sleeping.store(false, Ordering::SeqCst);
        self.write();
    }

    /// Wakes the thread only if it sleeps: one system call per sleep, however much is queued meanwhile.
    pub fn wake_sleeper(&self) {
        if self.shared.sleeping.swap(false, Ordering::SeqCst) {
            self.write();
        }
    }

    /// Says that the thread is about to sleep. It must look at its queues once more after this: what was queued before
    /// may have seen it awake.
    pub(super) fn about_to_sleep(&self) {
        self.shared.sleeping.store(true, Ordering::SeqCst);
    }

    /// Says that the thread is awake, and takes what woke it.
    pub(super) fn awake(&self) {
        self.shared.sleeping.store(false, Ordering::SeqCst);
        let mut count = [0; 8];
        // Nothing to take is the usual case.
        let _ = rustix::io::read(&self.shared.fd, &mut count);
    }

    fn write(&self) {
        // Fails only when the count is at its maximum, and then the thread is as awake as can be.
        let _ = rustix::io::write(&self.shared.fd, &1u64.to_ne_bytes());
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

    fn is_readable(waker: &Waker) -> bool {
        let mut count = [0; 8];
        rustix::io::read(&waker.shared.fd, &mut count).is_ok()
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
        waker.awake();
        waker.wake();
        assert!(is_readable(&waker), "an unconditional wake always writes");
    }
}
