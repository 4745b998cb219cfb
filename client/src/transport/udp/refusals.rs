//! To which addresses segments are not cut, as the kernel said a while ago.
//!
//! Whether they are depends on the route, which changes: after [`AGAIN`] single datagrams to an address they are tried once more. That is a
//! second of full load at most, and each try costs one call in vain.
//!
//! As long as nobody refuses, which is nearly always, a look costs one load, and nothing is locked. Where more addresses refuse than are remembered it is the
//! machine's own interface that does, and all get single datagrams.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many datagrams go one by one before segments are tried again.
const AGAIN: u32 = 20_000;
/// Addresses that are remembered.
const MOST: usize = 64;

/// See the module page.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    is_any: AtomicBool,
    /// Datagrams that are still to go one by one, wherever they go.
    all: AtomicU32,
    those: Mutex<Vec<Refusal>>,
}

#[derive(Debug)]
struct Refusal {
    to: SocketAddr,
    /// Datagrams that are still to go one by one.
    left: u32,
}

impl Refusals {
    /// Whether segments to this address are refused.
    pub(super) fn has(&self, to: SocketAddr) -> bool {
        self.is_any.load(Ordering::Relaxed)
            && (self.all.load(Ordering::Relaxed) > 0 || self.those().iter().any(|refusal| refusal.to == to))
    }

    /// They were.
    pub(super) fn on_refused(&self, to: SocketAddr) {
        let mut those = self.those();
        those.retain(|refusal| refusal.to != to);
        if those.len() < MOST {
            those.push(Refusal { to, left: AGAIN });
        } else {
            those.clear();
            self.all.store(AGAIN, Ordering::Relaxed);
        }
        self.is_any.store(true, Ordering::Relaxed);
    }

    /// A single datagram goes there.
    pub(super) fn on_single(&self, to: SocketAddr) {
        if !self.is_any.load(Ordering::Relaxed) {
            return;
        }
        let one_less = |left: u32| left.checked_sub(1);
        if self.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok_and(|left| left > 1) {
            return;
        }
        let mut those = self.those();
        those.retain_mut(|refusal| {
            if refusal.to == to {
                refusal.left -= 1;
            }
            refusal.left > 0
        });
        // Meanwhile another thread may have found that all do.
        let is_any = !those.is_empty() || self.all.load(Ordering::Relaxed) > 0;
        self.is_any.store(is_any, Ordering::Relaxed);
    }

    fn those(&self) -> MutexGuard<'_, Vec<Refusal>> {
        // A list is whole after any panic elsewhere.
        self.those.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_again_after_a_while_and_others_are_not_concerned() {
        let refusals = Refusals::default();
        let [a, b] = [1, 2].map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
        refusals.on_refused(a);
        for _ in 1..AGAIN {
            refusals.on_single(a);
            refusals.on_single(b);
        }
        assert!(refusals.has(a) && !refusals.has(b));
        refusals.on_single(a);
        assert!(!refusals.has(a) && !refusals.is_any.load(Ordering::Relaxed));
    }

    #[test]
    fn where_more_refuse_than_are_remembered_all_do_for_a_while() {
        let refusals = Refusals::default();
        let to = |port| SocketAddr::from(([192, 0, 2, 1], port));
        (0..64).for_each(|port| refusals.on_refused(to(port)));
        assert!(refusals.has(to(0)) && !refusals.has(to(64)));
        refusals.on_refused(to(64));
        assert!(refusals.has(to(0)) && refusals.has(to(64)) && refusals.has(to(999)));
        assert!(refusals.those().is_empty(), "nothing is locked for them");
        for left in (1..=AGAIN).rev() {
            assert!(refusals.has(to(7)), "{left} left");
            refusals.on_single(to(7));
        }
        assert!(!refusals.has(to(7)) && !refusals.has(to(64)));
    }
}
