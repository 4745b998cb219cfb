//! How much of everything a client, an address or the whole relay may have, and the token bucket that meters it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Bounds of the relay. Each names the failure it avoids.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Connections in all; the server lowers it to what its descriptors allow.
    pub connections: usize,
    /// Connections from one IPv4 address or one IPv6 /64, and four times as many from one IPv6 /48: one host or customer cannot take
    /// all. Many clients may sit behind one carrier NAT, hence far above what one site needs. Once three quarters of
    /// [`Self::connections`] are taken, an eighth of it is all that a site gets anew, so that the rest is for everybody else.
    pub connections_per_address: usize,
    /// New connections per second from one address or one IPv6 /64, four times as many from one /48, and [`Self::connects_burst`] at once: handshakes cost CPU.
    pub connects_per_second: f64,
    /// See [`Self::connects_per_second`].
    pub connects_burst: f64,
    /// Members of one network that can be here at once. Everybody may be introduced to everybody, so pairs and the bodies
    /// that a join causes grow with it.
    pub members_per_network: usize,
    /// Introductions per second in one network, and [`Self::introductions_burst`] at once. A join costs one with each member who is
    /// here: the burst is twice what a full network needs after a restart of the relay, the rate ten joins a second of one.
    pub introductions_per_second: f64,
    /// See [`Self::introductions_per_second`].
    pub introductions_burst: f64,
    /// Peers a client may name by CONNECT beside "everybody".
    pub wishes_per_client: usize,
    /// Control bodies per second of one client, and [`Self::control_burst`] at once. A client that meets
    /// [`Self::members_per_network`] peers says CONFIRMED and RELEASE for each.
    pub control_per_second: f64,
    /// See [`Self::control_per_second`].
    pub control_burst: f64,
    /// Bytes per second that one client may send; `None`: as much as the line gives. Kept by not reading, never by dropping.
    pub bytes_per_second: Option<f64>,
    /// Data that waits for one client, bytes. 512 KiB are 10 ms at 400 Mbit/s: long enough for a scheduling gap of the reader,
    /// short enough not to be felt.
    pub queue_bytes: usize,
    /// How long a client is not read while another, for which it sends, has a crowded queue; zero: never. Long enough for a
    /// reader that was not scheduled for a moment, so that nothing is lost to that; too short to be felt by the sender's
    /// other peers. Whoever does not catch up in this time is slow and loses its oldest data instead.
    pub back_pressure: Duration,
    /// Control bodies that wait for one client. One that lets them pile up this far does not read: it is closed.
    pub queue_control: usize,
    /// How often a key may be registered anew while its old connection lives before the newcomer is asked to wait: two
    /// machines with one key would otherwise throw each other out as fast as they can connect.
    pub replacements_burst: f64,
    /// Changes of a client's observed UDP address: an honest one moves when its NAT or its uplink does.
    pub moves_burst: f64,
    /// See [`Self::moves_burst`].
    pub moves_per_second: f64,
    /// See [`Self::replacements_burst`].
    pub replacements_per_second: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_address: 1_024,
            connects_per_second: 50.0,
            connects_burst: 512.0,
            members_per_network: 512,
            introductions_per_second: 5_000.0,
            introductions_burst: 262_144.0,
            wishes_per_client: 512,
            control_per_second: 100.0,
            control_burst: 2_048.0,
            bytes_per_second: None,
            queue_bytes: 512 * 1024,
            back_pressure: Duration::from_millis(10),
            queue_control: 4_096,
            replacements_burst: 10.0,
            moves_burst: 8.0,
            moves_per_second: 0.5,
            replacements_per_second: 0.25,
        }
    }
}

/// A token bucket: `rate` tokens per second up to `burst`.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f64,
    filled: Instant,
    rate: f64,
    burst: f64,
}

impl Bucket {
    /// A full bucket.
    pub const fn full(now: Instant, rate: f64, burst: f64) -> Self {
        Self { tokens: burst, filled: now, rate, burst }
    }

    /// Takes `amount` tokens if they are there.
    pub fn take(&mut self, now: Instant, amount: f64) -> bool {
        self.fill(now);
        if self.tokens < amount {
            return false;
        }
        self.tokens -= amount;
        true
    }

    /// Whether `amount` tokens are there.
    pub fn has(&mut self, now: Instant, amount: f64) -> bool {
        self.fill(now);
        self.tokens >= amount
    }

    /// Takes `amount` tokens on credit and says how long to wait until the debt is paid.
    pub fn spend(&mut self, now: Instant, amount: f64) -> Duration {
        self.fill(now);
        self.tokens -= amount;
        self.until(0.0)
    }

    /// How long until one token is there.
    pub fn next_in(&self) -> Duration {
        self.until(1.0)
    }

    /// Whether it is full again, so that forgetting it changes nothing.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= self.burst
    }

    fn until(&self, level: f64) -> Duration {
        // A rate of zero never fills: an hour stands for "not soon" and keeps the arithmetic finite.
        Duration::try_from_secs_f64((level - self.tokens).max(0.0) / self.rate)
            .unwrap_or(Duration::from_secs(3_600))
    }

    fn fill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.filled = self.filled.max(now);
    }
}

/// Whose connections are counted together: an IPv4 address, the /64 that one IPv6 link has, or the /48 that one customer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Site {
    prefix: IpAddr,
    bits: u8,
}

impl Site {
    /// The site of `address`.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self { prefix: v4.into(), bits: 32 },
            IpAddr::V6(v6) => Self { prefix: high_bits(v6, 64), bits: 64 },
        }
    }

    /// Where its connections are counted: with its customer's, and here.
    fn counted_in(self) -> impl Iterator<Item = Self> {
        [self.customer(), Some(self)].into_iter().flatten()
    }

    /// Of how many sites it may have what one may.
    const fn sites(self) -> usize {
        if self.bits == 48 { CUSTOMER_SITES } else { 1 }
    }

    /// The customer that it may be one of many of.
    fn customer(self) -> Option<Self> {
        let IpAddr::V6(v6) = self.prefix else { return None };
        (self.bits == 64).then(|| Self { prefix: high_bits(v6, 48), bits: 48 })
    }
}

fn high_bits(address: Ipv6Addr, bits: u32) -> IpAddr {
    let low = 128 - bits;
    Ipv6Addr::from_bits(address.to_bits() >> low << low).into()
}

/// Why a connection was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The relay has as many connections as it can hold.
    Relay,
    /// The site has as many connections as one may have.
    Site,
    /// The site connects too often; try again after this time.
    Rate(Duration),
}

/// Of how many full sites one customer may have the connections, and with how many he may connect as often as each of them may.
const CUSTOMER_SITES: usize = 4;
const CUSTOMER_CONNECTS: f64 = 4.0;

/// Counts connections, in all and per site.
///
/// Bounded: a site is remembered while it has a connection or its bucket is not full. When [`Self::MAX_IDLE_SITES`] sites
/// without a connection are remembered, the ones whose buckets are full are forgotten; if none is, all idle ones are, which
/// forgives them a little rather than growing.
#[derive(Debug)]
pub struct Sites {
    open: usize,
    sites: HashMap<Site, SiteUse>,
}

#[derive(Debug)]
struct SiteUse {
    open: usize,
    connects: Bucket,
}

impl Sites {
    /// Sites remembered beyond those that have a connection, about 5 MB.
    pub const MAX_IDLE_SITES: usize = 50_000;

    /// Nobody here.
    pub fn new() -> Self {
        Self { open: 0, sites: HashMap::new() }
    }

    /// Connections open now.
    pub const fn open(&self) -> usize {
        self.open
    }

    /// Counts a new connection from `site`, or says why not.
    ///
    /// # Errors
    /// [`Full`].
    pub fn enter(&mut self, now: Instant, site: Site, limits: &Limits) -> Result<(), Full> {
        self.enter_unnamed(limits)?;
        self.name(now, site, limits).inspect_err(|_| self.leave_unnamed())
    }

    /// Counts a new connection of which it is not known yet whose it is: [`Self::name`] follows, or [`Self::leave_unnamed`].
    ///
    /// # Errors
    /// [`Full::Relay`].
    pub const fn enter_unnamed(&mut self, limits: &Limits) -> Result<(), Full> {
        if self.open >= limits.connections {
            return Err(Full::Relay);
        }
        self.open += 1;
        Ok(())
    }

    /// A connection that was not named is closed.
    pub const fn leave_unnamed(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// A connection that is counted already turns out to be from `site`. When it may not be, it stays unnamed.
    ///
    /// # Errors
    /// [`Full`].
    pub fn name(&mut self, now: Instant, site: Site, limits: &Limits) -> Result<(), Full> {
        self.forget_idle(now);
        let others = self.open.saturating_sub(1);
        let is_scarce = others >= limits.connections / 4 * 3;
        let allowed = (limits.connections_per_address / if is_scarce { 8 } else { 1 }).max(1);
        // All of them before any is charged.
        for site in site.counted_in() {
            let sites = site.sites();
            let known = self.site(now, site, limits);
            if known.open >= sites * allowed {
                return Err(Full::Site);
            }
            if !known.connects.has(now, 1.0) {
                return Err(Full::Rate(known.connects.next_in()));
            }
        }
        for site in site.counted_in() {
            let known = self.site(now, site, limits);
            known.connects.take(now, 1.0);
            known.open += 1;
        }
        Ok(())
    }

    fn site(&mut self, now: Instant, site: Site, limits: &Limits) -> &mut SiteUse {
        let sites = if site.sites() == 1 { 1.0 } else { CUSTOMER_CONNECTS };
        let (rate, burst) = (sites * limits.connects_per_second, sites * limits.connects_burst);
        self.sites
            .entry(site)
            .or_insert_with(|| SiteUse { open: 0, connects: Bucket::full(now, rate, burst) })
    }

    /// A connection from `site` is closed.
    pub fn leave(&mut self, site: Site) {
        if self.sites.get(&site).is_none_or(|site| site.open == 0) {
            return;
        }
        for site in site.counted_in() {
            if let Some(site) = self.sites.get_mut(&site) {
                site.open = site.open.saturating_sub(1);
            }
        }
        self.open -= 1;
    }

    fn forget_idle(&mut self, now: Instant) {
        if self.sites.len() < 2 * self.open + Self::MAX_IDLE_SITES {
            return;
        }
        self.sites.retain(|_, site| site.open > 0 || !site.connects.is_full(now));
        if self.sites.len() >= 2 * self.open + Self::MAX_IDLE_SITES {
            self.sites.retain(|_, site| site.open > 0);
        }
    }
}

impl Default for Sites {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> Limits {
        Limits {
            connections: 8,
            connections_per_address: 2,
            connects_per_second: 1.0,
            connects_burst: 3.0,
            ..Limits::default()
        }
    }

    fn site(text: &str) -> Site {
        Site::of(text.parse().unwrap())
    }

    #[test]
    fn one_site_cannot_take_all_and_a_departure_makes_room() {
        let (now, limits, mut sites) = (Instant::now(), limits(), Sites::new());
        let a = site("192.0.2.1");
        assert_eq!(sites.enter(now, a, &limits), Ok(()));
        assert_eq!(sites.enter(now, a, &limits), Ok(()));
        assert_eq!(sites.enter(now, a, &limits), Err(Full::Site));
        assert_eq!(sites.enter(now, site("192.0.2.2"), &limits), Ok(()));
        sites.leave(a);
        assert_eq!(sites.enter(now, a, &limits), Ok(()));
        assert_eq!(sites.open(), 3);
    }

    #[test]
    fn a_customer_with_65536_networks_has_four_sites_worth() {
        let (now, mut sites) = (Instant::now(), Sites::new());
        let limits = Limits { connections: 1_000, connections_per_address: 10, ..Limits::default() };
        let network = |n: u16| Site::of(Ipv6Addr::new(0x2001, 0xdb8, 1, n, 0, 0, 0, 1).into());
        let taken = (0..1000).filter(|n| sites.enter(now, network(*n), &limits).is_ok()).count();
        assert_eq!((taken, sites.open()), (40, 40));
        assert_eq!(sites.enter(now, site("2001:db8:2::1"), &limits), Ok(()), "the neighbour is not refused");
        sites.leave(network(0));
        assert_eq!(sites.enter(now, network(999), &limits), Ok(()));
    }

    #[test]
    fn when_places_are_scarce_who_has_many_gets_no_more() {
        let (now, mut sites) = (Instant::now(), Sites::new());
        let limits = Limits { connections: 100, connections_per_address: 80, ..Limits::default() };
        let greedy = site("192.0.2.1");
        let taken = (0..200).filter(|_| sites.enter(now, greedy, &limits).is_ok()).count();
        assert_eq!(taken, 75);
        for n in 0..25 {
            assert_eq!(sites.enter(now, site(&format!("198.51.100.{n}")), &limits), Ok(()));
        }
        assert_eq!(sites.enter(now, greedy, &limits), Err(Full::Relay));
    }

    #[test]
    fn connecting_too_often_is_told_when_to_retry() {
        let (mut now, limits, mut sites) = (Instant::now(), limits(), Sites::new());
        let a = site("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(sites.enter(now, a, &limits), Ok(()));
            sites.leave(a);
        }
        assert_eq!(sites.enter(now, a, &limits), Err(Full::Rate(Duration::from_secs(1))));
        now += Duration::from_secs(1);
        assert_eq!(sites.enter(now, a, &limits), Ok(()));
    }

    #[test]
    fn a_customer_with_many_networks_connects_no_more_often_than_four_sites() {
        let (mut now, mut sites) = (Instant::now(), Sites::new());
        let limits = Limits { connections: 1_000, connections_per_address: 100, ..limits() };
        let mut connects = |now| {
            let of = |n: u32| site(&format!("2001:db8:0:{n:x}::1"));
            let entered = (0..1_000).map(of).filter(|site| sites.enter(now, *site, &limits).is_ok());
            let entered: Vec<Site> = entered.collect();
            let refused = sites.enter(now, of(2_000), &limits);
            entered.iter().for_each(|site| sites.leave(*site));
            (entered.len(), refused)
        };
        let (count, refused) = connects(now);
        assert_eq!(count, 12, "four times the burst of three");
        assert!(matches!(refused, Err(Full::Rate(_))), "{refused:?}");
        now += Duration::from_secs(1);
        assert_eq!(connects(now).0, 4);
        // Another customer is not held up by it, nor is a refusal charged to the site.
        assert_eq!(sites.enter(now, site("2001:db8:1::1"), &limits), Ok(()));
    }

    #[test]
    fn who_is_named_later_counts_from_the_start_and_for_his_own_site() {
        let (now, limits, mut sites) = (Instant::now(), limits(), Sites::new());
        let a = site("192.0.2.1");
        for _ in 0..limits.connections {
            assert_eq!(sites.enter_unnamed(&limits), Ok(()));
        }
        assert_eq!(sites.enter_unnamed(&limits), Err(Full::Relay));
        assert_eq!(sites.enter(now, a, &limits), Err(Full::Relay));
        assert_eq!(sites.name(now, a, &limits), Ok(()));
        assert_eq!(sites.name(now, a, &limits), Err(Full::Site), "when places are scarce a site has one");
        sites.leave_unnamed();
        sites.leave(a);
        assert_eq!(sites.open(), limits.connections - 2);
    }

    #[test]
    fn the_relay_is_full_for_everybody() {
        let (now, limits, mut sites) = (Instant::now(), limits(), Sites::new());
        let limits = Limits { connections_per_address: 8, ..limits };
        for host in 0..8 {
            assert_eq!(sites.enter(now, site(&format!("10.0.0.{host}")), &limits), Ok(()));
        }
        assert_eq!(sites.enter(now, site("10.0.0.9"), &limits), Err(Full::Relay));
    }

    #[test]
    fn an_ipv6_site_is_its_slash_64_and_a_mapped_address_is_ipv4() {
        assert_eq!(site("2001:db8::1"), site("2001:db8::ffff:1"));
        assert_ne!(site("2001:db8::1"), site("2001:db8:0:1::1"));
        assert_eq!(site("::ffff:192.0.2.1"), site("192.0.2.1"));
        assert_ne!(site("::ffff:192.0.2.1"), site("::ffff:192.0.2.2"));
    }

    #[test]
    fn idle_sites_are_forgotten_at_the_bound() {
        let (now, mut sites) = (Instant::now(), Sites::new());
        let limits = Limits::default();
        for host in 0..u32::try_from(Sites::MAX_IDLE_SITES + 100).unwrap() {
            let site = Site::of(IpAddr::from(host.to_be_bytes()));
            assert_eq!(sites.enter(now, site, &limits), Ok(()));
            sites.leave(site);
        }
        assert!(sites.sites.len() <= Sites::MAX_IDLE_SITES);
    }

    #[test]
    fn debt_is_paid_by_waiting() {
        let now = Instant::now();
        let mut bucket = Bucket::full(now, 1_000.0, 500.0);
        assert_eq!(bucket.spend(now, 400.0), Duration::ZERO);
        assert_eq!(bucket.spend(now, 600.0), Duration::from_millis(500));
        assert_eq!(bucket.spend(now + Duration::from_secs(2), 0.0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn a_bucket_never_gives_more_than_burst_and_rate(steps in prop::collection::vec((0u64..200, 1u32..20), 1..200)) {
            let start = Instant::now();
            let (mut now, mut taken) = (start, 0.0);
            let mut bucket = Bucket::full(start, 10.0, 50.0);
            for (ms, amount) in steps {
                now += Duration::from_millis(ms);
                if bucket.take(now, f64::from(amount)) {
                    taken += f64::from(amount);
                }
            }
            prop_assert!(taken <= 50.0 + 10.0 * (now - start).as_secs_f64() + 1e-6);
        }
    }
}
