//! A share of a queue for each of those who fill it, so that none of them fills it all.
//!
//! What is queued holds a [`Place`] of whoever it came from, and gives it back when it is dropped: there is nothing to count down, and
//! the end that takes out of the queue need not know of shares. Only the end that puts in asks.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Beside those who have something in the queue, so many others are remembered.
const IDLE: usize = 64;

/// One place in a queue.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "is counted, and never looked at")] Arc<()>);

/// Who has how many places.
#[derive(Debug)]
pub(super) struct Shares<K> {
    held: HashMap<K, Arc<()>>,
    tidy_at: usize,
}

impl<K: Eq + Hash> Shares<K> {
    pub(super) fn new() -> Self {
        Self { held: HashMap::new(), tidy_at: IDLE }
    }

    /// A place for `owner`, unless it has `most` already.
    pub(super) fn take(&mut self, owner: K, most: usize) -> Option<Place> {
        if self.held.len() >= self.tidy_at {
            self.held.retain(|_, places| Arc::strong_count(places) > 1);
            // Once for as many as were left, so that it costs each of them little.
            self.tidy_at = 2 * self.held.len() + IDLE;
        }
        let places = self.held.entry(owner).or_default();
        // One is the table's own. The other end only gives back.
        (Arc::strong_count(places) <= most).then(|| Place(Arc::clone(places)))
    }
}

/// The addresses that one host or one customer has are one: of IPv6, a /64.
pub(crate) fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share_and_gets_it_back() {
        let mut shares = Shares::new();
        let mut held: Vec<_> = (0..10).map_while(|_| shares.take(1, 4)).collect();
        assert_eq!(held.len(), 4);
        assert!(shares.take(2, 4).is_some());
        held.pop();
        let again = shares.take(1, 4);
        assert!(again.is_some() && shares.take(1, 4).is_none());
    }

    #[test]
    fn who_has_nothing_there_is_forgotten_and_nobody_else() {
        let mut shares = Shares::new();
        let _held = shares.take(0, 1);
        for owner in 1..100_000 {
            assert!(shares.take(owner, 1).is_some());
            assert!(shares.held.len() <= 2 * IDLE + 2, "{}", shares.held.len());
        }
        assert!(shares.take(0, 1).is_none());
    }

    #[test]
    fn one_customer_is_one_host() {
        let host = |text: &str| host(text.parse().unwrap());
        assert_eq!(host("2001:db8::1"), host("2001:db8::ffff:2"));
        assert_ne!(host("2001:db8::1"), host("2001:db8:0:1::1"));
        assert_eq!(host("::ffff:192.0.2.1"), host("192.0.2.1"));
        assert_ne!(host("192.0.2.2"), host("192.0.2.1"));
    }
}
