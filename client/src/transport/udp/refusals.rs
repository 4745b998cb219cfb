//! To which addresses segments are not cut, as the kernel said a while ago.
//!
//! Whether they are depends on the route, which changes: after [`AGAIN`] single datagrams to an address they are tried once more. That is a
//! second of full load at most, and at each try no more is lost than a call.
//!
//! As long as nobody refuses, which is nearly always, a look costs one load.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many datagrams go one by one before segments are tried again.
const AGAIN: u32 = 20_000;
/// Addresses that are remembered; the one that refused first is forgotten for another, and may refuse again.
const MOST: usize = 64;

/// See the module page.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    is_any: AtomicBool,
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
        self.is_any.load(Ordering::Relaxed) && self.those().iter().any(|refusal| refusal.to == to)
    }

    /// They were.
    pub(super) fn on_refused(&self, to: SocketAddr) {
        let mut those = self.those();
        those.retain(|refusal| refusal.to != to);
        if those.len() >= MOST {
            those.remove(0);
        }
        those.push(Refusal { to, left: AGAIN });
        self.is_any.store(true, Ordering::Relaxed);
    }

    /// A single datagram goes there.
    pub(super) fn on_single(&self, to: SocketAddr) {
        if !self.is_any.load(Ordering::Relaxed) {
            return;
        }
        let mut those = self.those();
        those.retain_mut(|refusal| {
            if refusal.to == to {
                refusal.left -= 1;
            }
            refusal.left > 0
        });
        self.is_any.store(!those.is_empty(), Ordering::Relaxed);
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
    fn no_more_are_remembered_than_fit() {
        let refusals = Refusals::default();
        let to = |port| SocketAddr::from(([192, 0, 2, 1], port));
        (0..1_000).for_each(|port| refusals.on_refused(to(port)));
        assert_eq!(refusals.those().len(), MOST);
        assert!(refusals.has(to(999)) && !refusals.has(to(0)));
    }
}
