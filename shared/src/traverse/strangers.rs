//! Hosts where nobody answered yet: how much this node sends there, over all its peers (protocol §7.5).
//!
//! Every address that is checked was named by somebody: a peer, or a relay. Each of them is held to little by the peer's own round;
//! but a relay that names one victim to all clients, or a member with many keys, is as many namers as it likes. So what goes to a
//! host of which no check was answered is bounded for the whole node. A host that answered one is no stranger: there is somebody who
//! has a session with this node, and behind one NAT there may be many.
//!
//! # Invariants
//!
//! - At most [`HOSTS`] of either kind are remembered. Of strangers the one asked longest ago makes room: whoever goes through so many
//!   addresses is held by the bounds of his round.
//! - Only the answer to a check, which carries what was sent there, makes a host known: an address on a packet proves nothing.

use crate::bucket::Bucket;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Hosts remembered.
const HOSTS: usize = 2_048;
/// Checks of one: all of a round's of the addresses that one peer may have there, and a few more; then one each two seconds.
const CHECKS: Bucket = Bucket::new(20, Duration::from_secs(2));
/// Tries by TCP, each of up to seven SYNs.
const TRIES: Bucket = Bucket::new(12, Duration::from_secs(10));
/// A host that answered is known for so long.
const KNOWN_FOR: Duration = Duration::from_secs(3600);

/// What was sent to hosts where nobody answered.
#[derive(Debug, Default)]
pub struct Strangers {
    asked: BTreeMap<u64, Asked>,
    known: BTreeMap<u64, Instant>,
}

#[derive(Debug)]
struct Asked {
    checks: Bucket,
    tries: Bucket,
    last: Instant,
}

impl Strangers {
    /// Whether a check may leave for `ip` now; it is counted.
    pub fn may_check(&mut self, now: Instant, ip: IpAddr) -> bool {
        self.is_known(now, ip) || self.asked(now, ip).checks.take(now)
    }

    /// Whether connections to `ip` may be tried now; it is counted.
    pub fn may_try(&mut self, now: Instant, ip: IpAddr) -> bool {
        self.is_known(now, ip) || self.asked(now, ip).tries.take(now)
    }

    /// A check was answered from there.
    pub fn on_answer(&mut self, now: Instant, ip: IpAddr) {
        let host = host(ip);
        self.asked.remove(&host);
        if self.known.len() >= HOSTS && !self.known.contains_key(&host) {
            remove_oldest(&mut self.known, |at| *at);
        }
        self.known.insert(host, now);
    }

    fn is_known(&self, now: Instant, ip: IpAddr) -> bool {
        self.known.get(&host(ip)).is_some_and(|at| now.saturating_duration_since(*at) < KNOWN_FOR)
    }

    fn asked(&mut self, now: Instant, ip: IpAddr) -> &mut Asked {
        let host = host(ip);
        if self.asked.len() >= HOSTS && !self.asked.contains_key(&host) {
            self.asked.retain(|_, asked| !(asked.checks.is_full(now) && asked.tries.is_full(now)));
            if self.asked.len() >= HOSTS {
                remove_oldest(&mut self.asked, |asked| asked.last);
            }
        }
        let asked = self.asked.entry(host).or_insert(Asked { checks: CHECKS, tries: TRIES, last: now });
        asked.last = now;
        asked
    }
}

/// What counts as one host: an IPv4 address, or a /64, in which one machine has as many addresses as it likes. The two families do
/// not meet: no global IPv6 address begins with 32 zero bits.
fn host(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => u64::try_from(ip.to_bits() >> 64).unwrap_or(u64::MAX),
    }
}

fn remove_oldest<T>(of: &mut BTreeMap<u64, T>, at: impl Fn(&T) -> Instant) {
    let oldest = of.iter().min_by_key(|(_, value)| at(value)).map(|(host, _)| *host);
    oldest.and_then(|host| of.remove(&host));
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an arbitrary base for virtual time")]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const VICTIM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn whoever_names_a_host_and_however_often_it_is_sent_little() {
        let (now, mut strangers) = (Instant::now(), Strangers::default());
        let checks =
            (0..100_000u64).filter(|ms| strangers.may_check(now + Duration::from_millis(*ms), VICTIM));
        assert_eq!(checks.count(), 20 + 49);
        let mut strangers = Strangers::default();
        let tries = (0..100_000u64).filter(|ms| strangers.may_try(now + Duration::from_millis(*ms), VICTIM));
        assert_eq!(tries.count(), 12 + 9);
    }

    #[test]
    fn a_host_that_answered_is_no_stranger_for_an_hour() {
        let (now, mut strangers) = (Instant::now(), Strangers::default());
        while strangers.may_check(now, VICTIM) {}
        strangers.on_answer(now, VICTIM);
        let later = now + KNOWN_FOR - Duration::from_secs(1);
        assert!((0..1000).all(|_| strangers.may_check(later, VICTIM)));
        assert!(!(0..1000).all(|_| strangers.may_check(later + Duration::from_secs(1), VICTIM)));
    }

    #[test]
    fn one_machine_with_many_ipv6_addresses_is_one_host() {
        let (now, mut strangers) = (Instant::now(), Strangers::default());
        let address = |n: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n));
        assert_eq!((0..1000).filter(|n| strangers.may_check(now, address(*n))).count(), 20);
        let other = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1));
        assert!(strangers.may_check(now, other));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_stays() {
        let (now, mut strangers) = (Instant::now(), Strangers::default());
        while strangers.may_check(now, VICTIM) {}
        for n in 0..10_000u32 {
            let ip = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
            let at = now + Duration::from_millis(u64::from(n) / 10);
            strangers.may_check(at, ip);
            strangers.on_answer(at, IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + n)));
            assert!(strangers.asked.len() <= HOSTS && strangers.known.len() <= HOSTS);
            assert!(!strangers.may_check(at, VICTIM), "it is asked about all the time");
        }
        let last = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + 9_999));
        assert!(strangers.is_known(now + Duration::from_secs(1), last));
    }
}
